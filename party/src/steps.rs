//! What is due: a pure function of the party's own state and the coordinator's view.
//!
//! The daemon is level-triggered. It never reacts to an event; it looks at what is and does what is due, first things
//! first. So it does not matter which views it missed or how often it was killed: the same state and view give the same
//! steps, and a step that was done before the crash is done again with the same stored bytes.

use crate::custody::Standing;
use galen_core::study::{FrozenStudy, Release, Role};
use galen_core::{Digest, PartyId};
use galen_models::agenda;
use galen_net::protocol::{AttemptPhase as Phase, AttemptView, StudyPhase, View};
use galen_sums::RoundId;
use std::collections::BTreeMap;

/// What a party is in a study; it does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: PartyId,
    /// Sends contributions and reads opened sums.
    pub contributor: bool,
    /// Keeps key pieces.
    pub custodian: bool,
    /// How many others must confirm a custodian's incarnation.
    pub confirmations: usize,
    /// Number of rounds of the study.
    pub rounds: u32,
    /// Whether the model goes to the coordinator.
    pub releases: bool,
}

impl Part {
    /// The part of `name` in a study.
    pub fn of(study: &FrozenStudy, name: &PartyId) -> Self {
        let plan = study.study();
        Self {
            name: name.clone(),
            contributor: plan.has_role(name, Role::Contributor),
            custodian: plan.has_role(name, Role::Custodian),
            confirmations: (plan.sums.agreement as usize).saturating_sub(1),
            rounds: agenda::rounds(plan),
            releases: plan.serving.release == Release::Coordinator,
        }
    }
}

/// What decides, beside the view, what is due.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Own {
    /// Rounds whose opened sums are part of the derived state.
    pub applied: u32,
    /// The oldest round attempt of which a one-round key or contribution bytes are still readable here.
    pub oldest_secret: Option<RoundId>,
    /// The oldest round of which the own values are still readable here.
    pub oldest_values: Option<u32>,
    /// As a custodian: where the own incarnation stands.
    pub incarnation: Option<Standing>,
    /// As a custodian: the incarnations of the others that it takes for current.
    pub peers: BTreeMap<PartyId, Digest>,
    /// Steps that were done, or refused for good, on this connection.
    pub done: Vec<Step>,
}

/// Something that the party does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The study is over; nothing else will come.
    Close {
        /// Whether all its rounds were done.
        completed: bool,
        /// Why.
        reason: String,
    },
    /// Verify and open a published round, and take its sum into the derived state.
    Apply {
        /// The published attempt.
        id: RoundId,
        /// Digest of the sum blob.
        sum: Digest,
        /// Digest of the state that was published.
        result: Digest,
    },
    /// Make unreadable what belongs to attempts before this one; own values only of rounds before its round.
    Erase {
        /// The first attempt whose secrets may still be needed.
        before: RoundId,
    },
    /// Custodian: tell the others the own incarnation.
    Introduce(Digest),
    /// Custodian: say whether another one's incarnation is older than what is known of it.
    Vouch {
        /// Whose.
        custodian: PartyId,
        /// Its nonce.
        nonce: Digest,
    },
    /// Custodian: take in that enough others confirmed the own incarnation.
    TakeConfirmations(Digest),
    /// Custodian: take in the proof that the own disk is old.
    Forget(Digest),
    /// Custodian: make a one-round key and announce it.
    Announce(RoundId),
    /// Contributor: compute, encrypt, send.
    Contribute(RoundId),
    /// Custodian: check the seeds of the proposed set.
    Check {
        /// The attempt.
        id: RoundId,
        /// Digest of the proposed sum.
        sum: Digest,
    },
    /// Custodian: give the attempt up.
    Abandon(RoundId),
    /// Contributor: sign the fingerprint of what it sent.
    Fingerprint {
        /// The attempt.
        id: RoundId,
        /// Digest of the set.
        set: Digest,
        /// Digest of the sum.
        sum: Digest,
    },
    /// Custodian: send the word on every piece.
    CheckKeys {
        /// The attempt.
        id: RoundId,
        /// After so many custodians' answers were replaced.
        replaced: u32,
    },
    /// Receiver: say whose answers were wrong.
    Judge {
        /// The attempt.
        id: RoundId,
        /// Digest of the sum.
        sum: Digest,
        /// After so many custodians' answers were replaced.
        replaced: u32,
    },
    /// Custodian: endorse the proposed set.
    Endorse {
        /// The attempt.
        id: RoundId,
        /// Digest of the proposed sum.
        sum: Digest,
    },
    /// Custodian: send the key sum of these pieces.
    Answer {
        /// The attempt.
        id: RoundId,
        /// Ascending piece numbers.
        pieces: Vec<u32>,
    },
    /// Receiver: open the sum and say which state follows from it.
    Open {
        /// The attempt.
        id: RoundId,
        /// Digest of the sum.
        sum: Digest,
        /// After so many custodians' answers were replaced.
        replaced: u32,
    },
    /// Contributor: release the trained model to the coordinator.
    Release,
}

impl Step {
    /// The attempt that the step belongs to, if it belongs to one.
    fn attempt(&self) -> Option<RoundId> {
        match self {
            Self::Announce(id) | Self::Contribute(id) | Self::Abandon(id) => Some(*id),
            Self::CheckKeys { id, .. } => Some(*id),
            Self::Check { id, .. }
            | Self::Endorse { id, .. }
            | Self::Answer { id, .. }
            | Self::Fingerprint { id, .. }
            | Self::Open { id, .. }
            | Self::Judge { id, .. }
            | Self::Apply { id, .. } => Some(*id),
            Self::Erase { before } => Some(*before),
            Self::Close { .. }
            | Self::Release
            | Self::Introduce(_)
            | Self::Vouch { .. }
            | Self::TakeConfirmations(_)
            | Self::Forget(_) => None,
        }
    }
}

impl Own {
    /// Notes that a step is not to be done again, and forgets those of earlier attempts: what is remembered does not grow with the number
    /// of rounds.
    pub fn note(&mut self, step: Step) {
        if let Some(id) = step.attempt() {
            self.done
                .retain(|done| done.attempt().is_none_or(|other| other >= id));
        }
        self.done.push(step);
    }
}

/// How the published rounds stand to the rounds that this party has taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// They lead to the same state.
    Same,
    /// A round that was taken in here is not published any more.
    Forgotten,
    /// Another state was published.
    Other(Digest),
}

/// Compares the published rounds with the state derived from `applied` rounds. The digest of a state covers all before it, so the last
/// one says everything.
pub fn history(applied: u32, derived: Digest, view: &View) -> History {
    let Some(last) = applied.checked_sub(1) else {
        return History::Same;
    };
    match view.published_round(last) {
        Some(round) if round.result == derived => History::Same,
        Some(round) => History::Other(round.result),
        None => History::Forgotten,
    }
}

/// The steps that are due, most urgent first.
pub fn due(part: &Part, own: &Own, view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    let published = view.rounds;
    let attempt = view.attempt.as_ref().filter(|attempt| attempt.round == published);
    // First of all, whatever else may fail: for no later step needs what is erased, also not if the party was away and has yet to
    // take in published sums.
    let before = erasable_before(&view.study, published, attempt);
    let attempts = own.oldest_secret.is_some_and(|oldest| oldest < before);
    let values = own.oldest_values.is_some_and(|oldest| oldest < before.round);
    if attempts || values {
        steps.push(Step::Erase { before });
    }
    if part.contributor
        && let Some(round) = view.published_round(own.applied)
    {
        let id = RoundId {
            round: own.applied,
            attempt: round.attempt,
        };
        steps.push(Step::Apply {
            id,
            sum: round.sum,
            result: round.result,
        });
    }
    let caught_up = !part.contributor || own.applied == published;
    match &view.study {
        StudyPhase::Frozen { .. } => {}
        StudyPhase::Closed { completed, reason } if caught_up => {
            steps.push(Step::Close {
                completed: *completed,
                reason: reason.clone(),
            });
        }
        StudyPhase::Closed { .. } => {}
        StudyPhase::Active => {
            if part.custodian {
                steps.extend(due_among_custodians(part, own, view));
            }
            if let Some(attempt) = attempt {
                steps.extend(due_in_attempt(part, own, caught_up, attempt));
            }
            let finished = own.applied == part.rounds && published == part.rounds;
            if part.contributor && part.releases && finished {
                steps.push(Step::Release);
            }
        }
    }
    steps.retain(|step| !own.done.contains(step));
    steps
}

/// Custodians introduce themselves, vouch for each other, and learn what the others know of them.
fn due_among_custodians(part: &Part, own: &Own, view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    let Some(standing) = own.incarnation else {
        return steps;
    };
    let shown = view
        .incarnations
        .iter()
        .find(|shown| shown.custodian == part.name);
    match shown.filter(|shown| shown.nonce == standing.nonce) {
        None => steps.push(Step::Introduce(standing.nonce)),
        Some(shown) if shown.stale => steps.push(Step::Forget(standing.nonce)),
        Some(shown) if !standing.confirmed && shown.confirmed.len() >= part.confirmations => {
            steps.push(Step::TakeConfirmations(standing.nonce));
        }
        Some(_) => {}
    }
    let others = view
        .incarnations
        .iter()
        .filter(|shown| shown.custodian != part.name);
    // Its word for one that it does not know any more was given before its disk was put back: it judges that one again.
    let open = others.filter(|shown| {
        let known = own.peers.get(&shown.custodian) == Some(&shown.nonce);
        !(shown.stale || known && shown.confirmed.contains(&part.name))
    });
    steps.extend(open.map(|shown| Step::Vouch {
        custodian: shown.custodian.clone(),
        nonce: shown.nonce,
    }));
    steps
}

fn due_in_attempt(part: &Part, own: &Own, caught_up: bool, view: &AttemptView) -> Vec<Step> {
    let id = RoundId {
        round: view.round,
        attempt: view.attempt,
    };
    let replaced = view.replaced;
    let mut steps = Vec::new();
    if part.custodian {
        let confirmed = own.incarnation.is_some_and(|standing| standing.confirmed);
        match (view.phase, view.sum) {
            (Phase::Announced, _) if confirmed => steps.push(Step::Announce(id)),
            (Phase::Proposed, Some(sum)) => steps.push(Step::Check { id, sum }),
            (Phase::Endorsing | Phase::Certified, Some(sum)) => steps.push(Step::Endorse { id, sum }),
            (Phase::Disputed, _) => steps.push(Step::CheckKeys { id, replaced }),
            (Phase::Abandoning, _) => steps.push(Step::Abandon(id)),
            _ => {}
        }
        if view.phase == Phase::Certified {
            let mine = view
                .assignments
                .iter()
                .filter(|(custodian, _)| custodian == &part.name);
            steps.extend(mine.map(|(_, pieces)| Step::Answer {
                id,
                pieces: pieces.clone(),
            }));
        }
    }
    if part.contributor {
        if let (Phase::Certified | Phase::Opening, Some(set), Some(sum)) =
            (view.phase, view.set_digest, view.sum)
            && view.set.contains(&part.name)
        {
            steps.push(Step::Fingerprint { id, set, sum });
        }
        match (view.phase, view.sum) {
            (Phase::Collecting, _) if caught_up && view.contributors.contains(&part.name) => {
                steps.push(Step::Contribute(id));
            }
            (Phase::Opening, Some(sum)) if caught_up => steps.push(Step::Open { id, sum, replaced }),
            (Phase::Judging, Some(sum)) if caught_up => steps.push(Step::Judge { id, sum, replaced }),
            _ => {}
        }
    }
    steps
}

/// The first attempt whose secrets may still be needed. What an abandoned attempt drew is never used again, and once the study is over
/// nothing is.
fn erasable_before(study: &StudyPhase, published: u32, attempt: Option<&AttemptView>) -> RoundId {
    if matches!(study, StudyPhase::Closed { .. }) {
        return RoundId {
            round: published.saturating_add(1),
            attempt: 0,
        };
    }
    let number = match attempt {
        Some(view) if view.phase == Phase::Abandoned => view.attempt.saturating_add(1),
        Some(view) => view.attempt,
        None => 0,
    };
    RoundId {
        round: published,
        attempt: number,
    }
}

#[cfg(test)]
mod tests;
