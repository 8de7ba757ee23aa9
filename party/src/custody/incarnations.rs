//! The custodian's incarnation, and its word for the others'.

#[cfg(test)]
use super::LEDGER_KEY;
use super::anchor::Anchored;
use super::{Custodian, refused};
use crate::error::PartyError;
use galen_core::{Digest, PartyId, random};
use galen_custody::custodian;
use galen_custody::ledger::{LedgerState, Vouch};
use galen_sums::incarnation::{
    self, check_confirmation, check_incarnation, check_stale, confirmations_needed,
};
use galen_sums::{Authored, Confirmation, Incarnation, Roster, RoundId};
use std::collections::BTreeMap;

/// Where a custodian's incarnation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its nonce.
    pub nonce: Digest,
    /// Whether enough others confirmed it.
    pub confirmed: bool,
}

fn nonce() -> Result<Digest, PartyError> {
    Ok(Digest(random::bytes::<32>().map_err(PartyError::internal)?))
}

impl Custodian {
    /// Goes on with the incarnation on disk if memory outside of the disk agrees with it, or begins a new one.
    pub(super) fn wake(&self) -> Result<(), PartyError> {
        let before = self.ledger()?;
        let kept = self.anchor.read();
        let goes_on =
            |known: &Anchored| before.incarnation() == Some(&known.nonce) && before.seq() >= known.seq;
        if kept.as_ref().is_some_and(goes_on) {
            // A crash may have come between the ledger and its anchor.
            return self.drop_anchor(&before);
        }
        if before != LedgerState::default() {
            tracing::warn!(
                "this custodian cannot rule out that its disk is older than what it signed: it sits out the round under way"
            );
        }
        self.change(&before, &before.begin(nonce()?))
    }

    /// Where the own incarnation stands; `None` before the first.
    pub fn standing(&self) -> Result<Option<Standing>, PartyError> {
        let ledger = self.ledger()?;
        Ok(ledger.incarnation().map(|nonce| Standing {
            nonce: *nonce,
            confirmed: ledger.is_confirmed(),
        }))
    }

    /// The incarnation of each other custodian that the own ledger takes for the current one.
    pub fn peers(&self) -> Result<BTreeMap<PartyId, Digest>, PartyError> {
        Ok(self.ledger()?.peers())
    }

    /// The own incarnation, signed.
    pub fn incarnation(&self) -> Result<Authored, PartyError> {
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        custodian::incarnation(name, signing, &self.ledger()?, &self.study).map_err(PartyError::internal)
    }

    /// The word for another custodian's incarnation, among these; `None` if it is not there or was replaced before.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] for one that its custodian did not sign.
    pub fn vouch(
        &self,
        roster: &Roster,
        incarnations: &[Authored],
        of: &PartyId,
        nonce: &Digest,
    ) -> Result<Option<(Authored, bool)>, PartyError> {
        let Some(authored) = incarnations.iter().find(|said| said.author == *of) else {
            return Ok(None);
        };
        let said: Incarnation = check_incarnation(roster, authored).map_err(untrue)?;
        if said.nonce != *nonce {
            return Ok(None);
        }
        let before = self.ledger()?;
        let (ledger, vouch) = before.vouch(&said);
        let stale = matches!(vouch, Vouch::Stale(_));
        if stale {
            tracing::warn!(custodian = %of, "another custodian came back from an old disk");
        }
        let (name, signing) = (&self.identity.name, &self.identity.signing);
        let word =
            custodian::vouch(&said, &vouch, name, signing, &self.study).map_err(PartyError::internal)?;
        self.change(&before, &ledger)?;
        Ok(word.map(|word| (word, stale)))
    }

    /// Takes in the others' confirmations of the own incarnation.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] if one is not signed as it says, or they are too few.
    pub fn take_confirmations(&self, roster: &Roster, confirmations: &[Authored]) -> Result<(), PartyError> {
        let mut by: BTreeMap<PartyId, Confirmation> = BTreeMap::new();
        for authored in confirmations {
            let said = check_confirmation(roster, authored).map_err(untrue)?;
            if said.custodian == self.identity.name {
                by.insert(authored.author.clone(), said);
            }
        }
        let before = self.ledger()?;
        let ledger = before
            .confirmed(&by, confirmations_needed(roster))
            .map_err(|error| refused(RoundId { round: 0, attempt: 0 }, error))?;
        self.change(&before, &ledger)
    }

    /// Takes in the proof that the own ledger is older than what it once signed: begins a new incarnation that takes part in
    /// nothing up to there.
    ///
    /// # Errors
    /// [`PartyError::Untrue`] if it proves nothing.
    pub fn forget(
        &self,
        roster: &Roster,
        incarnations: &[Authored],
        proofs: &[Authored],
    ) -> Result<(), PartyError> {
        let before = self.ledger()?;
        // As it was signed: the ledger may have moved since.
        let Some(own) = incarnations.iter().find(|said| said.author == self.identity.name) else {
            return Ok(());
        };
        let own: Incarnation = check_incarnation(roster, own).map_err(untrue)?;
        if before.incarnation() != Some(&own.nonce) {
            return Ok(());
        }
        for proof in proofs {
            let said: incarnation::Stale = proof
                .statement
                .read_unverified()
                .map_err(|error| PartyError::Untrue(format!("a proof cannot be read: {error}")))?;
            if said.nonce != own.nonce {
                continue;
            }
            let known = check_stale(roster, &own, proof).map_err(untrue)?;
            tracing::warn!(
                until = %known.round,
                "this custodian came back from an old disk; it takes part again after what it may have forgotten"
            );
            return self.change(&before, &before.forget_until(&known, nonce()?));
        }
        Ok(())
    }

    /// The stored ledger's key, for tests that put a ledger back.
    #[cfg(test)]
    pub(crate) fn put_back(&self, ledger: &LedgerState) {
        self.ledger.put(LEDGER_KEY, ledger).unwrap();
    }

    /// The ledger, for tests.
    #[cfg(test)]
    pub(crate) fn peek(&self) -> LedgerState {
        self.ledger().unwrap()
    }
}

fn untrue(error: galen_sums::SumsError) -> PartyError {
    PartyError::Untrue(error.to_string())
}
