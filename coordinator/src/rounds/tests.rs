//! The state machines, without store or network.

use super::state::{Attempt, Contribution, Proposal, Rules, StudyState};
use super::steps::{Frame, Now, Step};
use super::transition::{Decision, Event};
use galen_core::study::Release;
use galen_core::{Code, Digest, PartyId, SigningKey};
use galen_sums::{Roster, RosterMember, RosterParts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PATIENCE: u64 = 1000;
const NOW: Now = Now {
    wall_ms: 7,
    steady_ms: 0,
};

fn id(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

fn digest(text: &str) -> Digest {
    Digest::of(text.as_bytes())
}

/// Four parties that contribute and keep pieces; t = 3, g = 3, at least 3 contributors.
fn rules() -> Rules {
    let member = |name: &&str| RosterMember {
        name: id(name),
        signing: SigningKey::generate().unwrap().public(),
        sealing: digest(name).0,
        contributor: true,
        custodian: true,
    };
    let roster = Roster::new(RosterParts {
        study: digest("study"),
        coordinator: SigningKey::generate().unwrap().public(),
        members: NAMES.iter().map(member).collect(),
        threshold: 3,
        agreement: 3,
        min_contributors: 3,
    });
    Rules {
        roster: Arc::new(roster.unwrap()),
        contributors: NAMES.iter().map(|name| id(name)).collect(),
        agreement: 3,
        min_contributors: 3,
        quorum: 3,
        patience_ms: PATIENCE,
        max_attempts: 3,
    }
}

fn none() -> BTreeSet<PartyId> {
    BTreeSet::new()
}

fn announced() -> Attempt {
    Attempt::announce(0, 0, digest("base"), 0, 0)
}

fn key(attempt: &mut Attempt, name: &str) {
    attempt
        .apply(
            Event::RoundKey {
                custodian: id(name),
                statement: digest(name),
            },
            0,
        )
        .unwrap();
}

fn contribute(name: &str) -> Event {
    let contribution = Contribution {
        header: digest(name),
        blob: digest(&format!("blob {name}")),
    };
    Event::Contribution {
        contributor: id(name),
        contribution,
    }
}

fn endorse(name: &str) -> Event {
    Event::Endorsement {
        custodian: id(name),
        statement: digest(name),
    }
}

fn collecting(rules: &Rules) -> Attempt {
    let mut attempt = announced();
    NAMES.iter().for_each(|name| key(&mut attempt, name));
    assert_eq!(attempt.decide(rules, &none(), 0), Decision::FixRecord);
    attempt
        .apply(
            Event::RecordFixed {
                record: digest("record"),
                custodians: NAMES.iter().map(|name| id(name)).collect(),
            },
            0,
        )
        .unwrap();
    attempt
}

fn proposed(rules: &Rules) -> Attempt {
    let mut attempt = collecting(rules);
    NAMES
        .iter()
        .for_each(|name| attempt.apply(contribute(name), 0).unwrap());
    let Decision::Sum(members) = attempt.decide(rules, &none(), 0) else {
        panic!()
    };
    let set = members.into_iter().collect();
    attempt
        .apply(
            Event::SetFixed(Proposal {
                set,
                set_digest: digest("set"),
                sum: digest("sum"),
            }),
            0,
        )
        .unwrap();
    attempt
}

fn certified(rules: &Rules) -> Attempt {
    let mut attempt = proposed(rules);
    for name in NAMES {
        attempt.apply(endorse(name), 0).unwrap();
    }
    let decision = attempt.decide(rules, &none(), 0);
    assert!(matches!(decision, Decision::Certify(_)));
    attempt.carry_out(&decision, 0);
    attempt
}

fn answer_of(attempt: &Attempt, name: &str) -> Event {
    let asked = attempt
        .assignments
        .iter()
        .find(|a| a.custodian == id(name) && a.answer.is_none())
        .unwrap();
    Event::Answer {
        custodian: id(name),
        pieces: asked.pieces.clone(),
        statement: digest(&format!("{name} {:?}", asked.pieces)),
    }
}

fn opening(rules: &Rules) -> Attempt {
    let mut attempt = certified(rules);
    while let Some(silent) = attempt.assignments.iter().find(|a| a.answer.is_none()) {
        let name = silent.custodian.to_string();
        let event = answer_of(&attempt, &name);
        attempt.apply(event, 0).unwrap();
    }
    let decision = attempt.decide(rules, &none(), 0);
    assert_eq!(decision, Decision::Open);
    attempt.carry_out(&decision, 0);
    attempt
}

/// Every piece is asked of exactly one custodian that holds it.
fn assert_partition(rules: &Rules, attempt: &Attempt) {
    let mut count: BTreeMap<u32, usize> = BTreeMap::new();
    for assignment in &attempt.assignments {
        let index = rules.roster.custodian_index(&assignment.custodian).unwrap();
        for piece in &assignment.pieces {
            assert!(rules.roster.pieces().held_by(index).contains(piece));
            *count.entry(*piece).or_default() += 1;
        }
    }
    assert_eq!(count.len(), rules.roster.pieces().len());
    assert!(count.values().all(|n| *n == 1));
}

#[test]
fn a_round_goes_through_its_phases() {
    let rules = rules();
    let mut attempt = opening(&rules);
    assert_partition(&rules, &attempt);
    for name in ["a", "b"] {
        attempt
            .apply(
                Event::Opened {
                    receiver: id(name),
                    result: digest("result"),
                },
                0,
            )
            .unwrap();
        assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Wait);
    }
    attempt
        .apply(
            Event::Opened {
                receiver: id("d"),
                result: digest("result"),
            },
            0,
        )
        .unwrap();
    assert_eq!(
        attempt.decide(&rules, &none(), 0),
        Decision::Publish(digest("result"))
    );
}

#[test]
fn a_record_needs_enough_keys_and_patience_for_the_rest() {
    let rules = rules();
    let mut attempt = announced();
    key(&mut attempt, "a");
    key(&mut attempt, "b");
    assert_eq!(
        attempt.decide(&rules, &none(), 100 * PATIENCE),
        Decision::Wait,
        "two of four can never endorse"
    );
    key(&mut attempt, "d");
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE - 1), Decision::Wait);
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE), Decision::FixRecord);
}

#[test]
fn collection_closes_when_all_are_in_or_a_quorum_stands_still() {
    let rules = rules();
    let mut attempt = collecting(&rules);
    for name in ["a", "b"] {
        attempt.apply(contribute(name), 10).unwrap();
    }
    assert_eq!(
        attempt.decide(&rules, &none(), 100 * PATIENCE),
        Decision::Wait,
        "below the quorum"
    );
    attempt.apply(contribute("d"), 500).unwrap();
    assert_eq!(
        attempt.decide(&rules, &none(), 500 + PATIENCE - 1),
        Decision::Wait,
        "progress restarts patience"
    );
    let three: BTreeSet<_> = ["a", "b", "d"].iter().map(|n| id(n)).collect();
    assert_eq!(
        attempt.decide(&rules, &none(), 500 + PATIENCE),
        Decision::Sum(three.clone())
    );
    assert_eq!(
        attempt.decide(&rules, &BTreeSet::from([id("c")]), 500),
        Decision::Sum(three),
        "the excluded are not waited for"
    );
    let two: BTreeSet<_> = ["c", "d"].iter().map(|n| id(n)).collect();
    assert!(matches!(attempt.decide(&rules, &two, 500), Decision::Fail(_)));
}

#[test]
fn statements_are_accepted_once_and_only_in_their_phase() {
    let rules = rules();
    let mut attempt = collecting(&rules);
    attempt.apply(contribute("a"), 1).unwrap();
    let before = attempt.clone();
    attempt.apply(contribute("a"), 1).unwrap();
    assert_eq!(attempt, before, "a repeat changes nothing");
    let other = Contribution {
        header: digest("other"),
        blob: digest("other"),
    };
    let refused = attempt
        .apply(
            Event::Contribution {
                contributor: id("a"),
                contribution: other,
            },
            1,
        )
        .unwrap_err();
    assert_eq!(refused.code, Code::Conflict);
    assert_eq!(attempt.apply(endorse("a"), 1).unwrap_err().code, Code::WrongPhase);
    let late = Event::RoundKey {
        custodian: id("a"),
        statement: digest("another key"),
    };
    assert_eq!(attempt.apply(late, 1).unwrap_err().code, Code::Conflict);
    let mut attempt = proposed(&rules);
    attempt.contributions.remove(&id("d"));
    assert_eq!(
        attempt.apply(contribute("d"), 1).unwrap_err().code,
        Code::WrongPhase
    );
    let mut certified = certified(&rules);
    let pieces = vec![0, 1, 2, 3, 4, 5];
    let unasked = Event::Answer {
        custodian: id("a"),
        pieces,
        statement: digest("x"),
    };
    assert_eq!(certified.apply(unasked, 1).unwrap_err().code, Code::WrongPhase);
}

#[test]
fn too_few_endorsements_abandon_the_attempt_after_patience() {
    let rules = rules();
    let mut attempt = proposed(&rules);
    attempt.apply(endorse("a"), 0).unwrap();
    attempt.apply(endorse("b"), 0).unwrap();
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE - 1), Decision::Wait);
    assert!(matches!(
        attempt.decide(&rules, &none(), PATIENCE),
        Decision::Abandon(_)
    ));
}

#[test]
fn seeds_that_do_not_fit_abandon_the_attempt_and_exclude_the_contributor() {
    let rules = rules();
    let mut attempt = proposed(&rules);
    let unknown = Event::SeedsRefused {
        custodian: id("a"),
        contributor: id("stranger"),
    };
    assert_eq!(attempt.apply(unknown, 0).unwrap_err().code, Code::WrongRound);
    attempt
        .apply(
            Event::SeedsRefused {
                custodian: id("a"),
                contributor: id("b"),
            },
            0,
        )
        .unwrap();
    let decision = attempt.decide(&rules, &none(), 0);
    assert!(matches!(&decision, Decision::Abandon(reason) if reason.contains("seeds of b")));
    attempt.carry_out(&decision, 0);
    let mut state = StudyState {
        attempt: Some(attempt),
        ..StudyState::default()
    };
    state.note_abandoned(&rules);
    assert_eq!(state.excluded, BTreeSet::from([id("b")]));
    assert!(state.closed.is_none());
}

#[test]
fn the_pieces_of_a_silent_custodian_go_to_others_once() {
    let rules = rules();
    for dead in NAMES {
        let mut attempt = certified(&rules);
        if attempt.assignments.iter().all(|a| a.custodian != id(dead)) {
            continue;
        }
        for name in NAMES.iter().filter(|name| **name != dead) {
            while attempt
                .assignments
                .iter()
                .any(|a| a.custodian == id(name) && a.answer.is_none())
            {
                let event = answer_of(&attempt, name);
                attempt.apply(event, 5).unwrap();
            }
        }
        let late = answer_of(&attempt, dead);
        assert_eq!(attempt.decide(&rules, &none(), 5 + PATIENCE - 1), Decision::Wait);
        let decision = attempt.decide(&rules, &none(), 5 + PATIENCE);
        assert!(matches!(decision, Decision::Reassign(_)));
        attempt.carry_out(&decision, 5 + PATIENCE);
        assert_partition(&rules, &attempt);
        assert!(attempt.assignments.iter().all(|a| a.custodian != id(dead)));
        assert_eq!(
            attempt.apply(late, 6 + PATIENCE).unwrap_err().code,
            Code::WrongPhase,
            "its pieces are others' now"
        );
    }
}

#[test]
fn silent_custodians_without_whom_pieces_are_missing_are_waited_for() {
    let rules = rules();
    let three: BTreeSet<_> = ["a", "b", "c"].iter().map(|n| id(n)).collect();
    let mut attempt = certified(&rules);
    attempt.endorsements.retain(|name, _| three.contains(name));
    attempt.assignments = rules.assign(&three).unwrap();
    assert_eq!(
        attempt.decide(&rules, &none(), 100 * PATIENCE),
        Decision::Wait,
        "an answer may be on its way, and its custodian takes part in no other attempt"
    );
    // The fourth endorses late: now its pieces can be asked of it.
    attempt.apply(endorse("d"), 0).unwrap();
    let answer = answer_of(&attempt, "a");
    attempt.apply(answer, 0).unwrap();
    let answer = answer_of(&attempt, "b");
    attempt.apply(answer, 0).unwrap();
    let decision = attempt.decide(&rules, &none(), PATIENCE);
    assert!(matches!(decision, Decision::Reassign(_)));
    attempt.carry_out(&decision, PATIENCE);
    assert_partition(&rules, &attempt);
}

fn opened(attempt: &mut Attempt, name: &str, result: &str) {
    attempt
        .apply(
            Event::Opened {
                receiver: id(name),
                result: digest(result),
            },
            0,
        )
        .unwrap();
}

fn failed(attempt: &mut Attempt, name: &str) {
    attempt
        .apply(
            Event::OpeningFailed {
                receiver: id(name),
                detail: "remainder".into(),
            },
            0,
        )
        .unwrap();
}

#[test]
fn an_open_attempt_is_never_given_up_for_another() {
    let rules = rules();
    let mut attempt = opening(&rules);
    failed(&mut attempt, "a");
    assert_eq!(
        attempt.decide(&rules, &none(), 100 * PATIENCE),
        Decision::Wait,
        "three may still open"
    );
    failed(&mut attempt, "b");
    let decision = attempt.decide(&rules, &none(), 0);
    assert!(
        matches!(&decision, Decision::Fail(reason) if reason.contains("a: remainder")),
        "{decision:?}"
    );
}

#[test]
fn receivers_that_disagree_end_the_study_only_when_no_state_can_win() {
    let rules = rules();
    let mut attempt = opening(&rules);
    opened(&mut attempt, "a", "x");
    opened(&mut attempt, "b", "y");
    opened(&mut attempt, "c", "x");
    assert_eq!(
        attempt.decide(&rules, &none(), 100 * PATIENCE),
        Decision::Wait,
        "d may be the third"
    );
    let mut agreed = attempt.clone();
    opened(&mut agreed, "d", "x");
    assert_eq!(agreed.decide(&rules, &none(), 0), Decision::Publish(digest("x")));
    opened(&mut attempt, "d", "y");
    assert!(matches!(attempt.decide(&rules, &none(), 0), Decision::Fail(_)));
}

#[test]
fn a_receiver_has_one_word_and_may_open_at_a_second_try() {
    let rules = rules();
    let mut attempt = opening(&rules);
    failed(&mut attempt, "a");
    opened(&mut attempt, "a", "x");
    assert!(attempt.failures.is_empty());
    let word = Event::OpeningFailed {
        receiver: id("a"),
        detail: "after all not".into(),
    };
    assert_eq!(attempt.apply(word, 0).unwrap_err().code, Code::Conflict);
    opened(&mut attempt, "b", "x");
    opened(&mut attempt, "c", "x");
    assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Publish(digest("x")));
}

#[test]
fn the_record_says_whose_keys_it_holds() {
    let mut attempt = announced();
    NAMES.iter().for_each(|name| key(&mut attempt, name));
    let three: BTreeSet<_> = ["a", "b", "c"].iter().map(|n| id(n)).collect();
    attempt
        .apply(
            Event::RecordFixed {
                record: digest("record"),
                custodians: three.clone(),
            },
            0,
        )
        .unwrap();
    assert_eq!(
        attempt.custodians, three,
        "a key that came while the record was signed does not count"
    );
}

fn frame(rounds: u32, release: Release) -> Frame {
    Frame {
        parties: NAMES.iter().map(|n| id(n)).collect(),
        rounds,
        initial: digest("initial"),
        release,
    }
}

#[test]
fn the_study_goes_from_consent_over_rounds_to_serving() {
    let rules = rules();
    let frame = frame(2, Release::Coordinator);
    let mut state = StudyState::default();
    let next = |state: &StudyState| state.next(&frame, &rules, |model| *model == digest("model"));
    state.consents.extend(["a", "b", "c"].iter().map(|n| id(n)));
    assert_eq!(next(&state), Step::AwaitConsent(vec![id("d")]));
    state.consents.insert(id("d"));
    assert_eq!(
        next(&state),
        Step::Announce {
            round: 0,
            attempt: 0,
            base: digest("initial")
        }
    );
    for (round, base) in [(0, "initial"), (1, "result 0")] {
        assert_eq!(
            next(&state),
            Step::Announce {
                round,
                attempt: 0,
                base: digest(base)
            }
        );
        state.announce(round, 0, digest(base), NOW);
        assert_eq!(next(&state), Step::Attempt);
        let mut attempt = opening(&rules);
        attempt.round = round;
        state.attempt = Some(attempt);
        state.publish(digest(&format!("result {round}")), NOW);
    }
    assert_eq!(next(&state), Step::AwaitRelease);
    state
        .releases
        .extend(["a", "b"].iter().map(|n| (id(n), digest("model"))));
    state.releases.insert(id("c"), digest("another"));
    assert_eq!(next(&state), Step::AwaitRelease, "two of three needed agree");
    state.releases.insert(id("d"), digest("model"));
    assert_eq!(next(&state), Step::Serve(digest("model")));
    assert_eq!(
        state.next(&frame, &rules, |_| false),
        Step::AwaitRelease,
        "the blob is not stored"
    );
    state.serving = Some(digest("model"));
    assert_eq!(next(&state), Step::Serving);
}

#[test]
fn a_round_that_is_abandoned_too_often_ends_the_study() {
    let rules = rules();
    let frame = frame(1, Release::Contributors);
    let mut state = StudyState::default();
    state.consents.extend(frame.parties.iter().cloned());
    for attempt in 0..3 {
        assert_eq!(
            state.next(&frame, &rules, |_| true),
            Step::Announce {
                round: 0,
                attempt,
                base: digest("initial")
            }
        );
        state.announce(0, attempt, digest("initial"), NOW);
        state
            .attempt
            .as_mut()
            .unwrap()
            .carry_out(&Decision::Abandon("a reason".into()), 0);
        state.note_abandoned(&rules);
    }
    assert_eq!(state.next(&frame, &rules, |_| true), Step::Closed);
    let closed = state.closed.unwrap();
    assert!(!closed.completed && closed.reason.contains("a reason"));
}
