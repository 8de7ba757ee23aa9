//! All custodians in one process: what benchmarks and tests that play every part need to make a record that holds.

use crate::error::CustodyError;
use crate::ledger::LedgerState;
use galen_core::{Digest, PartyId, SigningKey, StudyDigest};
use galen_sums::authored::CONFIRMATION;
use galen_sums::{Authored, Confirmation, OneRoundKey, SumsError};
use std::collections::BTreeMap;

/// An empty ledger in an incarnation that all others confirmed.
pub fn fresh_ledger(incarnation: Digest) -> LedgerState {
    let ledger = LedgerState::default().begin(incarnation);
    // Nobody else is there to ask.
    ledger.confirmed(&BTreeMap::new(), 0).unwrap_or(ledger)
}

/// The word of every custodian for the incarnation in every other one's key.
///
/// # Errors
/// [`CustodyError::Sums`] for keys that are none.
pub fn confirmations<'a>(
    custodians: impl Iterator<Item = (&'a PartyId, &'a SigningKey)> + Clone,
    keys: &[Authored],
    study: &StudyDigest,
) -> Result<Vec<Authored>, CustodyError> {
    let mut words = Vec::new();
    for key in keys {
        let said: OneRoundKey = key
            .statement
            .read_unverified()
            .map_err(|source| SumsError::Signature {
                author: key.author.to_string(),
                source,
            })?;
        let word = Confirmation {
            custodian: key.author.clone(),
            nonce: said.incarnation,
            newest: None,
        };
        for (name, signing) in custodians.clone().filter(|(name, _)| **name != key.author) {
            words.push(Authored::sign(signing, name, CONFIRMATION, study, &word)?);
        }
    }
    Ok(words)
}
