//! Contributions that were checked while they arrived, so that they need not be read again.

use super::Engine;
use crate::rounds::state::StudyState;
use galen_core::{Digest, PartyId};
use galen_net::protocol::AttemptPhase;
use galen_sums::blob::{ArrivingBlob, Subject};
use galen_sums::round::Round;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// For each contributor the last blob that was found to conform while it arrived, and the record that it was checked against. It is lost
/// with the process; then a blob is read again.
#[derive(Default)]
pub(super) struct Arrived(Mutex<BTreeMap<PartyId, (Digest, Digest)>>);

impl Arrived {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<PartyId, (Digest, Digest)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When bytes of each contributor's upload last came in, on the steady clock. It stands apart from the state, which is locked while the disk is
/// written: uploads do not wait for each other's records.
#[derive(Default)]
pub(super) struct Arrivals(Mutex<BTreeMap<PartyId, u64>>);

impl Arrivals {
    fn touch(&self, party: &PartyId, now_ms: u64) {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match last.get_mut(party) {
            Some(at) => *at = now_ms,
            None => {
                last.insert(party.clone(), now_ms);
            }
        }
    }

    /// Counts what came in as progress of the attempt, if its contributions are collected and the sender's is missing. What a party sends besides
    /// keeps nothing waiting.
    pub(super) fn note(&self, state: &mut StudyState) {
        let arrived = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(attempt) = &mut state.attempt else { return };
        if attempt.phase != AttemptPhase::Collecting {
            return;
        }
        let missing = arrived.iter().filter(|(party, _)| !attempt.contributions.contains_key(*party));
        if let Some(newest) = missing.map(|(_, at)| *at).max() {
            attempt.progress_ms = attempt.progress_ms.max(newest);
        }
    }
}

/// Checks a contribution while it arrives.
pub struct ArrivalCheck {
    record: Digest,
    blob: ArrivingBlob,
}

impl ArrivalCheck {
    /// Takes the next bytes; false once they do not conform.
    pub fn take(&mut self, bytes: &[u8]) -> bool {
        self.blob.take(bytes).is_ok()
    }
}

impl Engine {
    /// Takes note that bytes of a party's contribution arrived.
    pub fn touch(&self, party: &PartyId) {
        self.arrivals.touch(party, self.clock.steady_ms());
    }

    /// The check of a contribution that begins to arrive; `None` while none is collected.
    pub fn arriving(&self, contributor: &PartyId) -> Option<ArrivalCheck> {
        let inner = self.lock();
        let attempt = inner.state.attempt.as_ref();
        let collecting = attempt.is_some_and(|a| a.phase == AttemptPhase::Collecting);
        let round = inner.round.as_ref().filter(|_| collecting)?;
        Some(ArrivalCheck {
            record: *round.digest(),
            blob: ArrivingBlob::new(round, &Subject::Contribution(contributor.clone())),
        })
    }

    /// Takes note that a blob arrived, whose digest the store has verified, and that it passed the check.
    pub fn arrived(&self, contributor: &PartyId, blob: Digest, check: &ArrivalCheck) {
        if check.blob.is_complete() {
            self.arrived
                .lock()
                .insert(contributor.clone(), (check.record, blob));
        }
    }

    /// Whether a stored blob is known to conform to the round.
    pub(super) fn is_checked(&self, round: &Round, contributor: &PartyId, blob: &Digest) -> bool {
        self.arrived.lock().get(contributor) == Some(&(*round.digest(), *blob))
    }
}
