use super::*;
use galen_net::protocol::{IncarnationView, PublishedRound};

const ROUNDS: u32 = 3;

fn name(text: &str) -> PartyId {
    PartyId::new(text).unwrap()
}

fn part(contributor: bool, custodian: bool) -> Part {
    Part {
        name: name("a"),
        contributor,
        custodian,
        confirmations: 1,
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
        replaced: 0,
        contributors: vec![name("a"), name("b")],
        set: Vec::new(),
        set_digest: (phase >= Phase::Proposed).then(|| Digest::of(b"set")),
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
        rounds: count,
        first: 0,
        published: published(count),
        attempt,
        serving: None,
        incarnations: vec![shown("a", true), shown("b", true)],
    }
}

/// A custodian's incarnation, confirmed by the other one or by nobody.
fn shown(custodian: &str, confirmed: bool) -> IncarnationView {
    let other = if custodian == "a" { "b" } else { "a" };
    IncarnationView {
        custodian: name(custodian),
        nonce: Digest::of(custodian.as_bytes()),
        confirmed: if confirmed { vec![name(other)] } else { Vec::new() },
        stale: false,
    }
}

fn standing(confirmed: bool) -> Option<Standing> {
    Some(Standing {
        nonce: Digest::of(b"a"),
        confirmed,
    })
}

/// The others' incarnations as `a` knows them.
fn known() -> BTreeMap<PartyId, Digest> {
    [(name("b"), Digest::of(b"b"))].into()
}

fn own(applied: u32) -> Own {
    Own {
        applied,
        incarnation: standing(true),
        peers: known(),
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
    let open = Step::Open {
        id: at,
        sum,
        replaced: 0,
    };
    let table: [(Phase, Vec<Step>, Vec<Step>); 11] = [
        (Announced, vec![Step::Announce(at)], vec![]),
        (Collecting, vec![], vec![Step::Contribute(at)]),
        (Proposed, vec![Step::Check { id: at, sum }], vec![]),
        (Endorsing, vec![endorse.clone()], vec![]),
        (Disputed, vec![Step::CheckKeys { id: at, replaced: 0 }], vec![]),
        (
            Judging,
            vec![],
            vec![Step::Judge {
                id: at,
                sum,
                replaced: 0,
            }],
        ),
        (Abandoning, vec![Step::Abandon(at)], vec![]),
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
            incarnation: standing(true),
            peers: known(),
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
        incarnation: standing(true),
        peers: known(),
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
        incarnation: standing(true),
        peers: known(),
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
                    incarnation: standing(true),
                    peers: known(),
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
            own.note(Step::Open {
                id: at,
                sum,
                replaced: 0,
            });
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

#[test]
fn custodians_introduce_themselves_vouch_and_learn() {
    let custodian = part(false, true);
    let with_peers = |incarnation, peers, incarnations: Vec<IncarnationView>| {
        let own = Own {
            incarnation,
            peers,
            ..Own::default()
        };
        let view = View {
            incarnations,
            ..view(0, Some(Phase::Announced))
        };
        due(&custodian, &own, &view)
    };
    let with = |incarnation, incarnations| with_peers(incarnation, known(), incarnations);
    let nonce = Digest::of(b"a");
    let announce = Step::Announce(id(0, 1));
    let vouch = Step::Vouch {
        custodian: name("b"),
        nonce: Digest::of(b"b"),
    };
    // Nothing is known of anybody; another incarnation of this party is known.
    assert_eq!(with(standing(false), vec![]), [Step::Introduce(nonce)]);
    let before = IncarnationView {
        nonce: Digest::of(b"before"),
        ..shown("a", true)
    };
    assert_eq!(with(standing(false), vec![before]), [Step::Introduce(nonce)]);
    // No key is given out before enough others have confirmed.
    assert_eq!(with(standing(false), vec![shown("a", false)]), []);
    assert_eq!(
        with(standing(false), vec![shown("a", true), shown("b", false)]),
        [Step::TakeConfirmations(nonce), vouch.clone()]
    );
    assert_eq!(
        with(standing(true), vec![shown("a", true), shown("b", false)]),
        [vouch.clone(), announce.clone()]
    );
    assert_eq!(
        with(standing(true), vec![shown("a", true), shown("b", true)]),
        std::slice::from_ref(&announce)
    );
    // Its disk was put back to before the other one's current incarnation, which it had confirmed.
    let former = [(name("b"), Digest::of(b"b's former one"))].into();
    assert_eq!(
        with_peers(standing(true), former, vec![shown("a", true), shown("b", true)]),
        [vouch, announce.clone()]
    );
    // Shown to be old; and another one that is, which nobody needs to judge again.
    let stale = |custodian| IncarnationView {
        stale: true,
        ..shown(custodian, false)
    };
    assert_eq!(
        with(standing(false), vec![stale("a"), stale("b")]),
        [Step::Forget(nonce)]
    );
    // Others have no part in this.
    assert_eq!(
        due(
            &part(true, false),
            &Own::default(),
            &view(0, Some(Phase::Announced))
        ),
        []
    );
}

#[test]
fn members_of_the_set_sign_fingerprints_and_who_is_left_out_sends_nothing() {
    let (at, sum) = (id(1, 1), Digest::of(b"sum"));
    let sign = Step::Fingerprint {
        id: at,
        set: Digest::of(b"set"),
        sum,
    };
    for phase in [Phase::Certified, Phase::Opening] {
        let mut view = view(1, Some(phase));
        view.attempt.as_mut().unwrap().set = vec![name("a"), name("b")];
        assert!(
            due(&part(true, false), &own(1), &view).contains(&sign),
            "{phase:?}"
        );
        // Whether or not it has taken in all sums.
        assert!(
            due(&part(true, false), &own(0), &view).contains(&sign),
            "{phase:?}"
        );
        view.attempt.as_mut().unwrap().set = vec![name("b")];
        assert!(
            !due(&part(true, false), &own(1), &view).contains(&sign),
            "{phase:?}"
        );
    }
    let mut view = view(1, Some(Phase::Collecting));
    view.attempt.as_mut().unwrap().contributors = vec![name("b")];
    assert_eq!(due(&part(true, false), &own(1), &view), []);
}

#[test]
fn after_an_answer_was_replaced_everything_about_the_opening_is_done_again() {
    for phase in [Phase::Opening, Phase::Disputed, Phase::Judging] {
        let mut view = view(1, Some(phase));
        let first = due(&part(true, true), &own(1), &view);
        let done = Own {
            done: first.clone(),
            ..own(1)
        };
        assert_eq!(due(&part(true, true), &done, &view), [], "{phase:?}");
        view.attempt.as_mut().unwrap().replaced = 1;
        let again = due(&part(true, true), &done, &view);
        assert_eq!(again.len(), 1, "{phase:?} {again:?}");
        assert_ne!(again, first);
    }
}
