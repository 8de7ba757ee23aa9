//! What every party may see of the state.

use super::state::{Attempt, Rules, StudyState};
use super::steps::Frame;
use galen_net::protocol::{AttemptView, IncarnationView, PublishedRound, StudyPhase, View};

/// The view of a state. It names parties, phases and digests; no contribution, seed or key.
pub fn view(version: u64, state: &StudyState, frame: &Frame, rules: &Rules) -> View {
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
    let published = state
        .published
        .iter()
        .map(|round| PublishedRound {
            attempt: round.attempt,
            sum: round.sum,
            result: round.result,
        })
        .collect();
    let attempt = state
        .attempt
        .as_ref()
        .map(|attempt| attempt_view(attempt, state, rules));
    View {
        version,
        study,
        published,
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
