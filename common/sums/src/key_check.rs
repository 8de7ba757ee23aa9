//! A custodian's word on every piece that it holds: what is public of it.

use crate::authored::{Authored, KEY_CHECK};
use crate::error::{SetFault, SumsError};
use crate::round::Round;
use crate::sealed::SealedTexts;
use crate::set::Certificate;
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A custodian's word on every piece that it holds, once an opening has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyCheck {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the set.
    pub set: Digest,
    /// Digest of the sum blob.
    pub sum: Digest,
    /// Who says this.
    pub custodian: PartyId,
    /// For each piece that it holds, in ascending order: digest of the encoding of `K_T`.
    pub digests: Vec<Digest>,
    /// The pieces that it answered for, ascending; there may be none.
    pub answered: Vec<u32>,
    /// The encodings of the answered pieces' `K_T`, one after the other, sealed to each receiver's long-term key; empty if there are none.
    pub sealed: SealedTexts,
}

/// Checks what is public of a check: signature, certificate and form.
///
/// # Errors
/// What does not hold, naming the custodian.
pub fn check_key_check(
    round: &Round,
    certificate: &Certificate,
    authored: &Authored,
) -> Result<KeyCheck, SumsError> {
    let author = &authored.author;
    if !round.custodians().contains_key(author) {
        return Err(SumsError::Role {
            party: author.clone(),
            role: "custodian",
        });
    }
    let check: KeyCheck = authored.open(round.roster(), KEY_CHECK)?;
    let refuse = |what| Err(refused(author, what));
    if check.custodian != *author {
        return refuse("it names another custodian than its signer");
    }
    if check.record != *round.digest() {
        return Err(SumsError::Record {
            author: author.clone(),
        });
    }
    let certified = certificate.endorsement();
    if (check.record, check.set, check.sum) != (certified.record, certified.set, certified.sum) {
        return Err(SetFault::NotCertified.into());
    }
    let held = round.held_by(author);
    if check.digests.len() != held.len() {
        return refuse("it does not have one digest for each piece that the custodian holds");
    }
    check_answered(author, &check.answered, held)?;
    let receivers: BTreeSet<&PartyId> = match check.answered.is_empty() {
        true => BTreeSet::new(),
        false => round.roster().receivers().iter().collect(),
    };
    match check.sealed.check(&receivers) {
        Ok(()) => Ok(check),
        Err(what) => refuse(what),
    }
}

/// Whether a custodian's answered pieces are ones that it holds, in ascending order.
///
/// # Errors
/// [`SumsError::Header`], naming the custodian.
pub fn check_answered(custodian: &PartyId, answered: &[u32], held: &[u32]) -> Result<(), SumsError> {
    let ascending = answered.is_sorted_by(|a, b| a < b);
    if ascending && answered.iter().all(|piece| held.binary_search(piece).is_ok()) {
        return Ok(());
    }
    let what = "its pieces are not held by it, or not in ascending order";
    Err(refused(custodian, what))
}

fn refused(custodian: &PartyId, what: &'static str) -> SumsError {
    SumsError::Header {
        kind: "key check",
        author: custodian.clone(),
        what,
    }
}
