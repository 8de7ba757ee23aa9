//! Contributions that were checked while they arrived, so that they need not be read again.

use super::Engine;
use crate::rounds::state::{Attempt, StudyState};
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_net::protocol::AttemptPhase;
use galen_sums::blob::{ArrivingBlob, Subject};
use galen_sums::contribution::SEAL_OVERHEAD;
use galen_sums::round::Round;
use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// More bytes than the encoding of a key sum has: 4096 coefficients, of which none needs 32 bits.
const MAX_POLYNOMIAL: u64 = 4096 * 4;

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

    /// Counts what came in as progress of the attempt, as far as it is from somebody who is waited for. What a party sends besides keeps nothing
    /// waiting.
    pub(super) fn note(&self, state: &mut StudyState) {
        let arrived = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(attempt) = &mut state.attempt else { return };
        let awaited = arrived.iter().filter(|(party, _)| owes_a_blob(attempt, party));
        if let Some(newest) = awaited.map(|(_, at)| *at).max() {
            attempt.progress_ms = attempt.progress_ms.max(newest);
        }
    }
}

/// Whether a party has yet to send a contribution, an answer or a key check.
fn owes_a_blob(attempt: &Attempt, party: &PartyId) -> bool {
    match attempt.phase {
        AttemptPhase::Collecting => !attempt.contributions.contains_key(party),
        AttemptPhase::Certified => {
            let mut asked = attempt.assignments.iter();
            asked.any(|asked| asked.custodian == *party && asked.answer.is_none())
        }
        AttemptPhase::Disputed => !attempt.key_checks.contains_key(party),
        _ => false,
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
    /// Most bytes that a custodian may send to the receivers, sealed: one polynomial for each piece that it holds and each of them.
    ///
    /// # Errors
    /// While no answers and key checks are asked for.
    pub fn sealed_limit(&self, custodian: &PartyId) -> Result<u64, Refusal> {
        let inner = self.lock();
        let attempt = inner.state.attempt.as_ref();
        let asked = attempt
            .is_some_and(|attempt| matches!(attempt.phase, AttemptPhase::Certified | AttemptPhase::Disputed));
        let round = inner.round.as_ref().filter(|_| asked);
        let round = round.ok_or_else(|| Refusal::new(Code::WrongPhase, "no key sums are asked for"))?;
        let receivers = round.roster().receivers().len() as u64;
        Ok(receivers * (round.held_by(custodian).len() as u64 * MAX_POLYNOMIAL + SEAL_OVERHEAD as u64))
    }

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
