//! Giving an attempt up: a custodian's word that it never endorses a set of the attempt, and the certificate of g such words.
//!
//! Per attempt a custodian signs either this or one endorsement, never both ([`crate::set`]). So g signatures here and g
//! endorsements there share at least 2g - n signers: an attempt with a certificate of abandonment is never opened unless that many
//! custodians cheat. The record of the next attempt carries it, and nobody takes part in an attempt whose record lacks it.

use crate::authored::{ABANDONED, Authored};
use crate::error::SumsError;
use crate::record::RoundId;
use crate::roster::Roster;
use galen_core::{PartyId, SigningKey, StudyDigest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// A custodian endorses no set of this attempt, whatever its record, and has not done so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// Which attempt.
    pub round: RoundId,
}

impl Abandoned {
    /// Signs the statement. The custodian's ledger must stand at abandoned.
    ///
    /// # Errors
    /// [`SumsError::Signature`] if it cannot be encoded.
    pub fn sign(
        &self,
        key: &SigningKey,
        custodian: &PartyId,
        study: &StudyDigest,
    ) -> Result<Authored, SumsError> {
        Authored::sign(key, custodian, ABANDONED, study, self)
    }
}

/// The certificate that an attempt is never opened: g custodians gave it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Abandonment {
    round: RoundId,
    signers: BTreeSet<PartyId>,
}

impl Abandonment {
    /// Which attempt was given up.
    pub fn round(&self) -> RoundId {
        self.round
    }

    /// Who signed.
    pub fn signers(&self) -> &BTreeSet<PartyId> {
        &self.signers
    }
}

/// Verifies that at least g distinct custodians gave this attempt up.
///
/// # Errors
/// [`SumsError::Abandonment`] for too few; any statement that is invalid, repeated or about another attempt is an error too.
pub fn check_abandonment(
    roster: &Roster,
    round: RoundId,
    statements: &[Authored],
) -> Result<Abandonment, SumsError> {
    let mut signers = BTreeSet::new();
    for authored in statements {
        check_abandoned(roster, round, authored)?;
        if !signers.insert(authored.author.clone()) {
            return Err(SumsError::Endorsement(authored.author.clone()));
        }
    }
    let (found, needed) = (signers.len(), roster.agreement());
    if found < needed {
        return Err(SumsError::Abandonment { round, found, needed });
    }
    Ok(Abandonment { round, signers })
}

/// Verifies one custodian's word.
///
/// # Errors
/// [`SumsError::Role`], [`SumsError::Signature`], or [`SumsError::Record`] for another attempt.
pub fn check_abandoned(roster: &Roster, round: RoundId, authored: &Authored) -> Result<(), SumsError> {
    let author = &authored.author;
    if roster.custodian_index(author).is_none() {
        return Err(SumsError::Role {
            party: author.clone(),
            role: "custodian",
        });
    }
    let said: Abandoned = authored.open(roster, ABANDONED)?;
    if said.round != round {
        return Err(SumsError::Record {
            author: author.clone(),
        });
    }
    Ok(())
}
