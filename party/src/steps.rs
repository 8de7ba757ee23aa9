//! What is due: a pure function of the party's own state and the coordinator's view.
//!
//! The daemon is level-triggered. It never reacts to an event; it looks at what is and does what is due, first things
//! first. So it does not matter which views it missed or how often it was killed: the same state and view give the same
//! steps, and a step that was done before the crash is done again with the same stored bytes.

use galen_core::study::{FrozenStudy, Release, Role};
use galen_core::{Digest, PartyId};
use galen_models::agenda;
use galen_net::protocol::{AttemptPhase as Phase, AttemptView, StudyPhase, View};
use galen_sums::RoundId;

/// What a party is in a study; it does not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name.
    pub name: PartyId,
    /// Sends contributions and reads opened sums.
    pub contributor: bool,
    /// Keeps key pieces.
    pub custodian: bool,
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
    /// Custodian: make a one-round key and announce it.
    Announce(RoundId),
    /// Contributor: compute, encrypt, send.
    Contribute(RoundId),
    /// Custodian: check the proposed set and endorse it.
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
    },
    /// Contributor: release the trained model to the coordinator.
    Release,
}

impl Step {
    /// The attempt that the step belongs to, if it belongs to one.
    fn attempt(&self) -> Option<RoundId> {
        match self {
            Self::Announce(id) | Self::Contribute(id) => Some(*id),
            Self::Endorse { id, .. } | Self::Answer { id, .. } | Self::Open { id, .. } => Some(*id),
            Self::Apply { id, .. } => Some(*id),
            Self::Erase { before } => Some(*before),
            Self::Close { .. } | Self::Release => None,
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
    match view.published.get(last as usize) {
        Some(round) if round.result == derived => History::Same,
        Some(round) => History::Other(round.result),
        None => History::Forgotten,
    }
}

/// The steps that are due, most urgent first.
pub fn due(part: &Part, own: &Own, view: &View) -> Vec<Step> {
    let mut steps = Vec::new();
    let published = u32::try_from(view.published.len()).unwrap_or(u32::MAX);
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
        && let Some(round) = view.published.get(own.applied as usize)
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
            if let Some(attempt) = attempt {
                steps.extend(due_in_attempt(part, caught_up, attempt));
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

fn due_in_attempt(part: &Part, caught_up: bool, view: &AttemptView) -> Vec<Step> {
    let id = RoundId {
        round: view.round,
        attempt: view.attempt,
    };
    let mut steps = Vec::new();
    if part.custodian {
        match (view.phase, view.sum) {
            (Phase::Announced, _) => steps.push(Step::Announce(id)),
            (Phase::Proposed | Phase::Certified, Some(sum)) => steps.push(Step::Endorse { id, sum }),
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
    if part.contributor && caught_up {
        match (view.phase, view.sum) {
            (Phase::Collecting, _) => steps.push(Step::Contribute(id)),
            (Phase::Opening, Some(sum)) => steps.push(Step::Open { id, sum }),
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
mod tests {
    use super::*;
    use galen_net::protocol::PublishedRound;

    const ROUNDS: u32 = 3;

    fn name(text: &str) -> PartyId {
        PartyId::new(text).unwrap()
    }

    fn part(contributor: bool, custodian: bool) -> Part {
        Part {
            name: name("a"),
            contributor,
            custodian,
            rounds: ROUNDS,
            releases: true,
        }
    }

    fn id(round: u32, attempt: u32) -> RoundId {
        RoundId { round, attempt }
    }

    fn published(count: u32) -> Vec<PublishedRound> {
        let digest = |tag: &str, r: u32| Digest::of(format!("{tag}{r}").as_bytes());
        (0..count)
            .map(|r| PublishedRound {
                attempt: r,
                sum: digest("sum", r),
                result: digest("result", r),
            })
            .collect()
    }

    fn view(count: u32, phase: Option<Phase>) -> View {
        let attempt = phase.map(|phase| AttemptView {
            round: count,
            attempt: 1,
            phase,
            awaiting: Vec::new(),
            set: Vec::new(),
            sum: (phase >= Phase::Proposed).then(|| Digest::of(b"sum")),
            assignments: if phase == Phase::Certified {
                vec![
                    (name("b"), vec![0, 3]),
                    (name("a"), vec![1]),
                    (name("a"), vec![2]),
                ]
            } else {
                Vec::new()
            },
        });
        View {
            version: 1,
            study: StudyPhase::Active,
            published: published(count),
            attempt,
            serving: None,
        }
    }

    fn own(applied: u32) -> Own {
        Own {
            applied,
            ..Own::default()
        }
    }

    /// Every role in every phase of an attempt: exactly these steps.
    #[test]
    fn each_role_in_each_phase() {
        use Phase::*;
        let sum = Digest::of(b"sum");
        let at = id(1, 1);
        let endorse = Step::Endorse { id: at, sum };
        let answers = [
            Step::Answer {
                id: at,
                pieces: vec![1],
            },
            Step::Answer {
                id: at,
                pieces: vec![2],
            },
        ];
        let open = Step::Open { id: at, sum };
        let table: [(Phase, Vec<Step>, Vec<Step>); 7] = [
            (Announced, vec![Step::Announce(at)], vec![]),
            (Collecting, vec![], vec![Step::Contribute(at)]),
            (Proposed, vec![endorse.clone()], vec![]),
            (
                Certified,
                vec![endorse.clone(), answers[0].clone(), answers[1].clone()],
                vec![],
            ),
            (Opening, vec![], vec![open]),
            (Published, vec![], vec![]),
            (Abandoned, vec![], vec![]),
        ];
        for (phase, custodian, contributor) in table {
            let view = view(1, Some(phase));
            assert_eq!(due(&part(false, true), &own(0), &view), custodian, "{phase:?}");
            assert_eq!(due(&part(true, false), &own(1), &view), contributor, "{phase:?}");
            let both: Vec<Step> = custodian.iter().chain(&contributor).cloned().collect();
            assert_eq!(due(&part(true, true), &own(1), &view), both, "{phase:?}");
            assert_eq!(due(&part(false, false), &own(0), &view), vec![], "{phase:?}");
            // What was done on this connection is not done again.
            let done = Own {
                applied: 1,
                done: both,
                ..Own::default()
            };
            assert_eq!(due(&part(true, true), &done, &view), vec![], "{phase:?}");
        }
    }

    #[test]
    fn a_contributor_catches_up_before_it_contributes_or_opens() {
        for phase in [Phase::Collecting, Phase::Opening] {
            let steps = due(&part(true, true), &own(0), &view(2, Some(phase)));
            let first = &published(1)[0];
            let apply = Step::Apply {
                id: id(0, 0),
                sum: first.sum,
                result: first.result,
            };
            assert_eq!(steps, [apply], "{phase:?}");
        }
        // Its duties as custodian do not wait for it.
        let steps = due(&part(true, true), &own(0), &view(2, Some(Phase::Announced)));
        assert!(matches!(steps[..], [Step::Apply { .. }, Step::Announce(_)]));
    }

    #[test]
    fn nothing_is_done_for_a_round_that_does_not_follow_the_published_ones() {
        for round in [0, 2] {
            let mut view = view(1, Some(Phase::Collecting));
            if let Some(attempt) = &mut view.attempt {
                attempt.round = round;
            }
            assert_eq!(due(&part(true, true), &own(1), &view), []);
        }
    }

    #[test]
    fn nothing_is_contributed_before_everybody_signed() {
        let mut view = view(0, Some(Phase::Announced));
        view.study = StudyPhase::Frozen {
            missing: vec![name("b")],
        };
        assert_eq!(due(&part(true, true), &own(0), &view), []);
    }

    #[test]
    fn secrets_are_erased_once_a_newer_attempt_or_round_is_seen_and_not_before() {
        let with = |oldest: RoundId, values: Option<u32>| Own {
            applied: 1,
            oldest_secret: Some(oldest),
            oldest_values: values,
            done: Vec::new(),
        };
        let erase = |own: &Own, view: &View| {
            due(&part(true, true), own, view)
                .into_iter()
                .find_map(|step| match step {
                    Step::Erase { before } => Some(before),
                    _ => None,
                })
        };
        for phase in [
            Phase::Announced,
            Phase::Collecting,
            Phase::Proposed,
            Phase::Certified,
            Phase::Opening,
        ] {
            let view = view(1, Some(phase));
            assert_eq!(erase(&with(id(1, 1), Some(1)), &view), None, "{phase:?}");
            assert_eq!(
                erase(&with(id(1, 0), Some(1)), &view),
                Some(id(1, 1)),
                "{phase:?}"
            );
            assert_eq!(erase(&with(id(0, 7), None), &view), Some(id(1, 1)), "{phase:?}");
            assert_eq!(
                erase(&with(id(1, 1), Some(0)), &view),
                Some(id(1, 1)),
                "{phase:?}"
            );
        }
        assert_eq!(
            erase(&with(id(1, 1), None), &view(1, Some(Phase::Abandoned))),
            Some(id(1, 2))
        );
        assert_eq!(erase(&with(id(0, 0), None), &view(1, None)), Some(id(1, 0)));
    }

    #[test]
    fn erasing_comes_first_and_waits_for_nothing() {
        // Away while round 0 was published: if its sum cannot be taken in, the secrets are gone all the same.
        let behind = Own {
            applied: 0,
            oldest_secret: Some(id(0, 0)),
            oldest_values: Some(0),
            done: Vec::new(),
        };
        for part in [part(true, true), part(true, false)] {
            let steps = due(&part, &behind, &view(1, None));
            assert!(
                matches!(steps[..], [Step::Erase { before }, Step::Apply { .. }] if before == id(1, 0)),
                "{steps:?}"
            );
        }
        let given_up = Own {
            done: due(&part(true, true), &Own::default(), &view(1, None)),
            ..behind
        };
        assert_eq!(
            due(&part(true, true), &given_up, &view(1, None)),
            [Step::Erase { before: id(1, 0) }]
        );
    }

    #[test]
    fn a_closed_study_leaves_no_secret_of_its_last_attempt() {
        for completed in [true, false] {
            for phase in [
                None,
                Some(Phase::Announced),
                Some(Phase::Collecting),
                Some(Phase::Certified),
                Some(Phase::Opening),
                Some(Phase::Abandoned),
            ] {
                let mut view = view(1, phase);
                view.study = StudyPhase::Closed {
                    completed,
                    reason: "over".into(),
                };
                for (applied, part) in [
                    (1, part(true, true)),
                    (0, part(true, true)),
                    (0, part(false, true)),
                    (1, part(true, false)),
                ] {
                    let holding = |secret, values| Own {
                        applied,
                        oldest_secret: secret,
                        oldest_values: values,
                        done: Vec::new(),
                    };
                    for own in [holding(Some(id(1, 1)), None), holding(None, Some(1))] {
                        let steps = due(&part, &own, &view);
                        assert_eq!(steps[0], Step::Erase { before: id(2, 0) }, "{phase:?}");
                        let caught_up = !part.contributor || applied == 1;
                        assert_eq!(
                            matches!(steps[1..], [Step::Close { .. }]),
                            caught_up,
                            "{phase:?} {steps:?}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn the_model_is_released_once_at_the_end() {
        let at_end = view(ROUNDS, None);
        assert_eq!(due(&part(true, false), &own(ROUNDS), &at_end), [Step::Release]);
        assert_eq!(due(&part(false, true), &own(0), &at_end), []);
        let kept = Part {
            releases: false,
            ..part(true, false)
        };
        assert_eq!(due(&kept, &own(ROUNDS), &at_end), []);
        let served = View {
            serving: Some(Digest::of(b"model")),
            ..at_end
        };
        // Every contributor says so, also one that comes after enough have.
        assert_eq!(due(&part(true, false), &own(ROUNDS), &served), [Step::Release]);
        assert_eq!(
            due(&part(true, false), &own(ROUNDS - 1), &view(ROUNDS - 1, None)),
            []
        );
    }

    #[test]
    fn a_closed_study_ends_after_catching_up() {
        let mut view = view(1, None);
        view.study = StudyPhase::Closed {
            completed: true,
            reason: "done".into(),
        };
        let close = Step::Close {
            completed: true,
            reason: "done".into(),
        };
        assert!(matches!(
            due(&part(true, false), &own(0), &view)[..],
            [Step::Apply { .. }]
        ));
        assert_eq!(
            due(&part(true, false), &own(1), &view),
            std::slice::from_ref(&close)
        );
        assert_eq!(due(&part(false, true), &own(0), &view), [close]);
    }

    #[test]
    fn the_published_past_must_be_the_own_one() {
        let view = view(2, None);
        let (first, second) = (view.published[0].result, view.published[1].result);
        assert_eq!(history(0, Digest::of(b"initial"), &view), History::Same);
        assert_eq!(history(1, first, &view), History::Same);
        assert_eq!(history(2, second, &view), History::Same);
        assert_eq!(history(2, first, &view), History::Other(second));
        assert_eq!(history(3, second, &view), History::Forgotten);
    }

    #[test]
    fn steps_of_earlier_attempts_are_forgotten() {
        let mut own = own(1);
        own.note(Step::Announce(id(1, 0)));
        own.note(Step::Release);
        own.note(Step::Announce(id(1, 1)));
        own.note(Step::Contribute(id(1, 1)));
        assert_eq!(
            own.done,
            [
                Step::Release,
                Step::Announce(id(1, 1)),
                Step::Contribute(id(1, 1))
            ]
        );
    }

    #[test]
    fn what_is_remembered_does_not_grow_with_the_rounds() {
        let mut own = own(0);
        for round in 0..100 {
            for attempt in 0..3 {
                let (at, sum) = (id(round, attempt), Digest::of(b"sum"));
                own.note(Step::Erase { before: at });
                own.note(Step::Announce(at));
                own.note(Step::Contribute(at));
                own.note(Step::Endorse { id: at, sum });
                own.note(Step::Answer {
                    id: at,
                    pieces: vec![1],
                });
                own.note(Step::Open { id: at, sum });
                own.note(Step::Apply {
                    id: at,
                    sum,
                    result: sum,
                });
                assert!(own.done.len() <= 7, "{}", own.done.len());
            }
        }
        // Nor with the rounds that are caught up with.
        let mut own = Own::default();
        for round in 0..100 {
            let sum = Digest::of(b"sum");
            own.note(Step::Apply {
                id: id(round, 0),
                sum,
                result: sum,
            });
        }
        assert_eq!(own.done.len(), 1);
    }
}
