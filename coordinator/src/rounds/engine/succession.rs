//! From a study to its successor, in the same store.
//!
//! Rounds are counted through, so the published rounds stay where they are and the successor goes on after them. Everything else of the
//! old study ends: its consents, the attempt under way with what was stated in it, its releases. Who is suspected of spoiling sums stays
//! suspected. The store remembers which study it belongs to and which ones came before.

use super::{PUBLISHED, STATE_KEY, STATEMENTS, STATES};
use crate::rounds::audit::{self, AuditLogError};
use crate::rounds::state::{Attempt, EarlierAttempt, Published};
use galen_core::study::FrozenStudy;
use galen_core::{Digest, SigningKey, StudyDigest};
use galen_models::agenda;
use galen_net::protocol::AttemptPhase;
use galen_store::{Store, StoreError, Table};
use serde::{Deserialize, Serialize};

const LINEAGE: Table<Lineage> = Table::new("lineage", *b"LINE", 1);
const LINEAGE_KEY: &str = "lineage";

/// Why a study cannot be succeeded, or a store not be served.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SuccessionError {
    /// The store belongs to another study.
    #[error("the store belongs to study {}, the study file is {}", store.short(), file.short())]
    OtherStudy {
        /// The study of the store.
        store: StudyDigest,
        /// The study of the file.
        file: StudyDigest,
    },
    /// A successor in a store that knows nothing of its predecessor.
    #[error("study {} goes on from {}, of which this folder knows nothing: serve it in the folder of its predecessor", file.short(), before.short())]
    NoPast {
        /// The study of the file.
        file: StudyDigest,
        /// Its predecessor.
        before: StudyDigest,
    },
    /// A round is at a point at which custodians may already have given out what opens it.
    #[error(
        "round {round} is being opened ({phase}): serve the study as it is until the round is published or given up"
    )]
    Opening {
        /// The round.
        round: u32,
        /// Where its attempt stands.
        phase: String,
    },
    /// The study went on, or back, since the successor was drafted.
    #[error("the successor goes on after {drafted} rounds from state {}, the study stands at {rounds} rounds and {}: draft it again", drafted_state.short(), state.short())]
    Moved {
        /// Rounds in the successor.
        drafted: u32,
        /// State in the successor.
        drafted_state: Digest,
        /// Rounds published here.
        rounds: u32,
        /// State after them.
        state: Digest,
    },
    /// The audit log cannot be read or written.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Which study a store belongs to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lineage {
    /// The study that is served.
    pub current: StudyDigest,
    /// The studies before it, oldest first.
    pub former: Vec<Former>,
}

/// A study that was succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// The study.
    pub study: StudyDigest,
    /// Its version.
    pub version: u32,
    /// Rounds that were published when it ended.
    pub rounds: u32,
    /// Certificates of its members: those who left are told, and not taken for strangers.
    pub certificates: Vec<Digest>,
    /// How it ended, in words.
    pub reason: String,
}

/// How far the study in a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Published rounds.
    pub rounds: u32,
    /// Digest of the state after them.
    pub state: Digest,
}

/// Tells how far a study is, if it can be succeeded there.
///
/// # Errors
/// [`SuccessionError::Opening`] if custodians may be about to answer for a round: it has to end under the study as it is.
pub fn standing(store: &Store, study: &FrozenStudy) -> Result<Standing, SuccessionError> {
    lineage(store, study)?;
    let stored = store.database().repository(&STATES)?.get(STATE_KEY)?;
    let state = stored.unwrap_or_default();
    let published = published(store)?;
    // A custodian that answered for an earlier attempt of the round would not sign the successor.
    if state
        .earlier
        .iter()
        .any(|earlier| matches!(earlier, EarlierAttempt::Standing(_)))
    {
        return Err(SuccessionError::Opening {
            round: published.len() as u32,
            phase: "an earlier attempt of it may be open".into(),
        });
    }
    let harmless = [
        AttemptPhase::Announced,
        AttemptPhase::Collecting,
        AttemptPhase::Proposed,
        AttemptPhase::Endorsing,
        AttemptPhase::Abandoning,
        AttemptPhase::Abandoned,
    ];
    let asked = |attempt: &Attempt| !attempt.assignments.is_empty() || !harmless.contains(&attempt.phase);
    if let Some(attempt) = state.attempt.filter(asked) {
        return Err(SuccessionError::Opening {
            round: attempt.round,
            phase: format!("{:?}", attempt.phase).to_lowercase(),
        });
    }
    Ok(Standing {
        rounds: published.len() as u32,
        state: published
            .last()
            .map_or_else(|| agenda::first_state(study), |round| round.result),
    })
}

fn published(store: &Store) -> Result<Vec<Published>, StoreError> {
    let rounds = store.database().repository(&PUBLISHED)?;
    rounds.iter().map(|entry| entry.map(|(_, round)| round)).collect()
}

/// Puts a successor in the place of the study. In one step, durable when this returns.
///
/// # Errors
/// Those of [`standing`], and [`SuccessionError::Moved`].
pub fn adopt(
    store: &Store,
    old: &FrozenStudy,
    new: &FrozenStudy,
    signing: &SigningKey,
    now_ms: u64,
) -> Result<(), SuccessionError> {
    let standing = standing(store, old)?;
    let before = new.predecessor().filter(|before| before.study == old.digest());
    let Some(before) = before else {
        return Err(SuccessionError::OtherStudy {
            store: old.digest(),
            file: new.digest(),
        });
    };
    if (before.rounds, before.state) != (standing.rounds, standing.state) {
        return Err(SuccessionError::Moved {
            drafted: before.rounds,
            drafted_state: before.state,
            rounds: standing.rounds,
            state: standing.state,
        });
    }
    let mut lineage = lineage(store, old)?;
    let reason = format!(
        "succeeded by version {} ({}) after {} rounds",
        new.version(),
        new.digest().short(),
        standing.rounds
    );
    lineage.former.push(Former {
        study: old.digest(),
        version: old.version(),
        rounds: standing.rounds,
        certificates: old.cards().iter().map(|card| card.certificate).collect(),
        reason: reason.clone(),
    });
    lineage.current = new.digest();
    let states = store.database().repository(&STATES)?;
    let statements = store.database().repository(&STATEMENTS)?;
    let before = states.get(STATE_KEY)?.unwrap_or_default();
    let over = before.closed.is_some();
    let mut batch = store.database().batch();
    let last = Some(reason.as_str()).filter(|_| !over);
    audit::retire(store.database(), &mut batch, old, signing, now_ms, last)?;
    batch.put(&states, STATE_KEY, &before.succeed(new.study()))?;
    batch.put(&store.database().repository(&LINEAGE)?, LINEAGE_KEY, &lineage)?;
    // Statements of rounds that are begun again would be taken for the successor's. Those of published rounds stay.
    let first = format!("{:08}/", standing.rounds);
    for key in statements.keys(&[]) {
        let key = key?;
        let published = key.first().is_some_and(u8::is_ascii_digit) && key.as_slice() < first.as_bytes();
        if !published {
            batch.delete(&statements, key);
        }
    }
    Ok(batch.commit()?)
}

/// The lineage of a store, which must end in this study; a new store begins one.
///
/// # Errors
/// [`SuccessionError::OtherStudy`], [`SuccessionError::NoPast`].
pub fn lineage(store: &Store, study: &FrozenStudy) -> Result<Lineage, SuccessionError> {
    let stored = store.database().repository(&LINEAGE)?;
    match stored.get(LINEAGE_KEY)? {
        Some(lineage) if lineage.current == study.digest() => Ok(lineage),
        Some(lineage) => Err(SuccessionError::OtherStudy {
            store: lineage.current,
            file: study.digest(),
        }),
        None => match study.predecessor() {
            Some(before) => Err(SuccessionError::NoPast {
                file: study.digest(),
                before: before.study,
            }),
            None => {
                let lineage = Lineage {
                    current: study.digest(),
                    former: Vec::new(),
                };
                stored.put(LINEAGE_KEY, &lineage)?;
                Ok(lineage)
            }
        },
    }
}
