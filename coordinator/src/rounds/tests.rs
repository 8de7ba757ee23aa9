//! The state machines, without store or network.

mod disputes;
mod giving_up;
mod opening;
mod silence;
mod study;

use super::state::{
    Answered, Attempt, Contribution, EarlierAttempt, Failure, IncarnationState, Named, Proposal, RoundKey,
    Rules, Standing, StudyState,
};
use super::steps::{Frame, Now, Step};
use super::transition::{Decision, Event};
use galen_core::study::Release;
use galen_core::{Code, Digest, PartyId, SigningKey};
use galen_sums::statement::OpeningFault;
use galen_sums::{Roster, RosterMember, RosterParts};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const PATIENCE: u64 = 1000;
const GIVE_UP: u64 = 1000 * PATIENCE;
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
        give_up_ms: GIVE_UP,
        max_attempts: 3,
        confirmations: 3,
    }
}

/// Everybody's incarnation is confirmed, and nobody is left out.
fn none() -> Standing {
    Standing {
        open: Vec::new(),
        excluded: BTreeSet::new(),
        confirmed: NAMES
            .iter()
            .map(|name| (id(name), digest("incarnation")))
            .collect(),
    }
}

fn without(names: &[&str]) -> Standing {
    Standing {
        excluded: names.iter().map(|name| id(name)).collect(),
        ..none()
    }
}

fn round_key(text: &str) -> RoundKey {
    RoundKey {
        statement: digest(text),
        incarnation: digest("incarnation"),
    }
}

fn announced() -> Attempt {
    Attempt::announce(0, 0, digest("base"), 0, 0)
}

fn key(attempt: &mut Attempt, name: &str) {
    attempt
        .apply(
            Event::RoundKey {
                custodian: id(name),
                key: round_key(name),
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

fn check(name: &str) -> Event {
    Event::Checked {
        custodian: id(name),
        statement: digest(name),
    }
}

fn abandon(name: &str) -> Event {
    Event::Abandoned {
        custodian: id(name),
        statement: digest(name),
    }
}

/// Carries out what is decided.
fn go_on(attempt: &mut Attempt, rules: &Rules, now: u64) -> Decision {
    let decision = attempt.decide(rules, &none(), now);
    attempt.carry_out(&decision, now);
    decision
}

fn endorsing(rules: &Rules) -> Attempt {
    let mut attempt = proposed(rules);
    for name in NAMES {
        assert_eq!(attempt.decide(rules, &none(), 0), Decision::Wait);
        attempt.apply(check(name), 0).unwrap();
    }
    assert_eq!(go_on(&mut attempt, rules, 0), Decision::Bind);
    attempt
}

fn certified(rules: &Rules) -> Attempt {
    let mut attempt = endorsing(rules);
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
        answered: Answered {
            statement: digest(&format!("{name} {:?}", asked.pieces)),
            sealed: digest("sealed"),
        },
    }
}

fn opening(rules: &Rules) -> Attempt {
    let mut attempt = certified(rules);
    while let Some(silent) = attempt.assignments.iter().find(|a| a.answer.is_none()) {
        let name = silent.custodian.to_string();
        let event = answer_of(&attempt, &name);
        attempt.apply(event, 0).unwrap();
    }
    for name in NAMES {
        assert_eq!(
            attempt.decide(rules, &none(), 0),
            Decision::Wait,
            "for fingerprints"
        );
        let event = Event::Fingerprint {
            contributor: id(name),
            statement: digest(name),
        };
        attempt.apply(event, 0).unwrap();
    }
    assert_eq!(go_on(&mut attempt, rules, 0), Decision::Open);
    attempt
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
        attempt.decide(&rules, &without(&["c"]), 500),
        Decision::Sum(three),
        "the excluded are not waited for"
    );
    assert!(matches!(
        attempt.decide(&rules, &without(&["c", "d"]), 500),
        Decision::Fail(_)
    ));
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
        key: round_key("another key"),
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
        answered: Answered {
            statement: digest("x"),
            sealed: digest("sealed"),
        },
    };
    assert_eq!(certified.apply(unasked, 1).unwrap_err().code, Code::WrongPhase);
}

#[test]
fn a_key_counts_once_its_incarnation_is_confirmed() {
    let rules = rules();
    let mut attempt = announced();
    NAMES.iter().for_each(|name| key(&mut attempt, name));
    let mut standing = none();
    standing.confirmed.insert(id("c"), digest("another incarnation"));
    assert_eq!(attempt.awaiting(&rules, &standing), [id("c")]);
    assert_eq!(attempt.decide(&rules, &standing, PATIENCE - 1), Decision::Wait);
    assert_eq!(attempt.decide(&rules, &standing, PATIENCE), Decision::FixRecord);
    standing.confirmed.remove(&id("d"));
    assert_eq!(attempt.decide(&rules, &standing, PATIENCE), Decision::Wait);
}
