//! Contributions that were checked while they arrived, so that they need not be read again.

use super::Engine;
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
