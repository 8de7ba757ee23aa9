//! What every party may see of the state.

use super::state::{Attempt, Rules, StudyState};
use super::steps::Frame;
use galen_net::protocol::{AttemptView, IncarnationView, PublishedRound, Response, StudyPhase, View};
use galen_net::{Encoded, FrameError};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Published rounds in one view. A party that is further behind polls again.
const ROUNDS: usize = 64;

/// Encoded answers that are kept for one state. Each party asks from where it stands; more than a few places are not worth it.
const ANSWERS: usize = 4;

/// The view of a state, from which each party gets the published rounds that it wants. It names parties, phases and digests; no
/// contribution, seed or key.
pub struct Shown {
    /// Without published rounds.
    view: View,
    published: Vec<PublishedRound>,
    /// Answers that were asked for, by the round that they begin with. Nearly all parties ask for the same.
    encoded: Mutex<BTreeMap<u32, Encoded>>,
}

impl Shown {
    /// The view of a state.
    pub fn of(version: u64, state: &StudyState, frame: &Frame, rules: &Rules) -> Self {
        let published = state.published.iter().map(|round| PublishedRound {
            attempt: round.attempt,
            sum: round.sum,
            result: round.result,
        });
        Self {
            view: view(version, state, frame, rules),
            published: published.collect(),
            encoded: Mutex::default(),
        }
    }

    /// The view from a round on as an answer: as many hear of a change at once as there are parties, and share the bytes of one.
    ///
    /// # Errors
    /// If it is longer than a frame may be.
    pub fn encoded(&self, round: u32) -> Result<Encoded, FrameError> {
        let mut known = self.encoded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(encoded) = known.get(&round) {
            return Ok(encoded.clone());
        }
        let encoded = Encoded::new(&Response::View(self.since(round)))?;
        if known.len() < ANSWERS {
            known.insert(round, encoded.clone());
        }
        Ok(encoded)
    }

    /// The view with published rounds from this one on, as many as it holds.
    pub fn since(&self, round: u32) -> View {
        let wanted = self.published.get(round as usize..).unwrap_or_default();
        View {
            first: round,
            published: wanted.get(..ROUNDS).unwrap_or(wanted).to_vec(),
            ..self.view.clone()
        }
    }
}

fn view(version: u64, state: &StudyState, frame: &Frame, rules: &Rules) -> View {
    let missing: Vec<_> = frame
        .parties
        .iter()
        .filter(|p| !state.consents.contains(*p))
        .cloned()
        .collect();
    let study = match &state.closed {
        Some(closed) => StudyPhase::Closed {
            completed: closed.completed,
            reason: closed.reason.clone(),
        },
        None if missing.is_empty() => StudyPhase::Active,
        None => StudyPhase::Frozen { missing },
    };
    let attempt = state
        .attempt
        .as_ref()
        .map(|attempt| attempt_view(attempt, state, rules));
    View {
        version,
        study,
        rounds: u32::try_from(state.published.len()).unwrap_or(u32::MAX),
        first: 0,
        published: Vec::new(),
        attempt,
        serving: state.serving,
        incarnations: state
            .incarnations
            .iter()
            .map(|(custodian, known)| IncarnationView {
                custodian: custodian.clone(),
                nonce: known.nonce,
                confirmed: known.confirmed.iter().cloned().collect(),
                stale: known.stale.is_some(),
            })
            .collect(),
    }
}

fn attempt_view(attempt: &Attempt, state: &StudyState, rules: &Rules) -> AttemptView {
    let standing = state.standing(rules);
    let unanswered = attempt.assignments.iter().filter(|a| a.answer.is_none());
    AttemptView {
        round: attempt.round,
        attempt: attempt.attempt,
        phase: attempt.phase,
        awaiting: attempt.awaiting(rules, &standing),
        contributors: attempt.expected(rules, &standing).into_iter().collect(),
        set: attempt
            .proposal
            .as_ref()
            .map(|p| p.set.clone())
            .unwrap_or_default(),
        set_digest: attempt.proposal.as_ref().map(|p| p.set_digest),
        sum: attempt.proposal.as_ref().map(|p| p.sum),
        replaced: attempt.liars.len() as u32,
        assignments: unanswered
            .map(|a| (a.custodian.clone(), a.pieces.clone()))
            .collect(),
    }
}
