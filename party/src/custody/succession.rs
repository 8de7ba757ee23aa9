//! What becomes of a custodian's ledger when a successor takes the place of the study. Works on the stored ledger, whatever its incarnation.

use super::{LEDGER, LEDGER_KEY};
use crate::error::PartyError;
use galen_custody::ledger::LedgerState;
use galen_store::Store;
use galen_sums::RoundId;

fn ledger(store: &Store) -> Result<LedgerState, PartyError> {
    let stored = store.database().repository(&LEDGER)?.get(LEDGER_KEY)?;
    Ok(stored.unwrap_or_default())
}

fn put(store: &Store, ledger: &LedgerState) -> Result<(), PartyError> {
    Ok(store.database().repository(&LEDGER)?.put(LEDGER_KEY, ledger)?)
}

/// The newest round that may have been opened with what this custodian answered.
pub(crate) fn may_have_opened(store: &Store) -> Result<Option<u32>, PartyError> {
    Ok(ledger(store)?.answered().map(|id| id.round))
}

/// Notes that the vault erased these attempts, for good.
pub(crate) fn close(store: &Store, erased: &[RoundId]) -> Result<(), PartyError> {
    let mut ledger = ledger(store)?;
    for id in erased {
        // Attempts that a newer one ended are erased in the ledger already, or were never in it.
        if let Ok(next) = ledger.erase(*id) {
            ledger = next;
        }
    }
    put(store, &ledger)
}

/// Leaves of the ledger what binds under the successor too.
pub(crate) fn succeed(store: &Store) -> Result<(), PartyError> {
    put(store, &ledger(store)?.succeed())
}

/// Stores the ledger of a custodian that answered in an attempt.
#[cfg(test)]
pub(crate) fn answered_for_tests(store: &Store, id: RoundId) {
    use galen_core::Digest;
    use galen_custody::ledger::Vote;
    use galen_sums::Endorsement;
    let endorsement = Endorsement {
        record: Digest::of(b"record"),
        set: Digest::of(b"set"),
        sum: Digest::of(b"sum"),
    };
    let vote = Vote {
        endorsement: endorsement.clone(),
        members: ["a", "b", "c"].map(crate::testing::name).into(),
        quantity: Digest::of(b"quantity"),
        earlier: Vec::new(),
        min_contributors: 3,
    };
    let ledger = LedgerState::default()
        .begin(Digest::of(b"nonce"))
        .confirmed(&Default::default(), 0)
        .and_then(|ledger| ledger.announce(id, &[1; 32]))
        .and_then(|ledger| ledger.sign(id, &vote))
        .and_then(|ledger| ledger.answer(id, &endorsement))
        .unwrap();
    put(store, &ledger).unwrap();
}

/// The stored ledger.
#[cfg(test)]
pub(crate) fn peek(store: &Store) -> LedgerState {
    ledger(store).unwrap()
}
