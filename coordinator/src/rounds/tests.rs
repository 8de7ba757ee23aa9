//! The state machines, without store or network.

use super::state::{
    Attempt, Contribution, EarlierAttempt, Failure, IncarnationState, Named, Proposal, RoundKey, Rules,
    Standing, StudyState,
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
        statement: digest("x"),
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

#[test]
fn an_attempt_is_given_up_by_certificate_only() {
    let rules = rules();
    // Too few custodians checked the set.
    let mut attempt = proposed(&rules);
    attempt.apply(check("a"), 0).unwrap();
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE - 1), Decision::Wait);
    assert_eq!(attempt.apply(abandon("a"), 0).unwrap_err().code, Code::WrongPhase);
    assert!(matches!(
        go_on(&mut attempt, &rules, PATIENCE),
        Decision::GiveUp(_)
    ));
    for name in ["a", "b", "d"] {
        assert_eq!(attempt.decide(&rules, &none(), PATIENCE), Decision::Wait);
        attempt.apply(abandon(name), PATIENCE).unwrap();
    }
    let decision = go_on(&mut attempt, &rules, PATIENCE);
    assert!(matches!(decision, Decision::Abandon(reason) if reason.contains("checked the set")));
}

#[test]
fn whoever_endorsed_is_waited_for_unless_enough_others_can_give_up() {
    let rules = rules();
    let mut attempt = endorsing(&rules);
    attempt.apply(endorse("a"), 0).unwrap();
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE - 1), Decision::Wait);
    let mut two = attempt.clone();
    two.apply(endorse("b"), 0).unwrap();
    assert!(
        matches!(two.decide(&rules, &none(), PATIENCE), Decision::Repeat(_)),
        "two others are no certificate, so the same contributors are asked again"
    );
    assert!(matches!(
        go_on(&mut attempt, &rules, PATIENCE),
        Decision::GiveUp(_)
    ));
    // An endorsement that was on its way still counts: then the set is certified after all.
    attempt.apply(endorse("b"), PATIENCE).unwrap();
    attempt.apply(endorse("c"), PATIENCE).unwrap();
    assert!(matches!(
        go_on(&mut attempt, &rules, PATIENCE),
        Decision::Certify(_)
    ));
    assert_partition(&rules, &attempt);
}

#[test]
fn a_study_that_stands_still_for_long_ends_and_says_for_whom_it_waited() {
    let rules = rules();
    let mut attempt = announced();
    key(&mut attempt, "a");
    key(&mut attempt, "b");
    assert_eq!(attempt.decide(&rules, &none(), GIVE_UP - 1), Decision::Wait);
    let decision = attempt.decide(&rules, &none(), GIVE_UP);
    assert!(
        matches!(&decision, Decision::Fail(reason) if reason.contains("waited for: c, d")),
        "{decision:?}"
    );
}

#[test]
fn seeds_that_do_not_fit_end_the_attempt_and_exclude_the_contributor() {
    let rules = rules();
    let mut attempt = proposed(&rules);
    let refuse = |contributor: &str| Event::SeedsRefused {
        custodian: id("a"),
        contributor: id(contributor),
    };
    assert_eq!(
        attempt.apply(refuse("stranger"), 0).unwrap_err().code,
        Code::WrongRound
    );
    attempt.apply(refuse("b"), 0).unwrap();
    let second = Event::SeedsRefused {
        custodian: id("c"),
        contributor: id("b"),
    };
    attempt.apply(second, 0).unwrap();
    let decision = go_on(&mut attempt, &rules, 0);
    assert!(matches!(&decision, Decision::GiveUp(reason) if reason.contains("seeds of b")));
    for name in ["a", "c", "d"] {
        attempt.apply(abandon(name), 0).unwrap();
    }
    assert!(matches!(go_on(&mut attempt, &rules, 0), Decision::Abandon(_)));
    let mut state = StudyState {
        attempt: Some(attempt),
        ..StudyState::default()
    };
    state.note_abandoned(&rules);
    assert_eq!(state.excluded, BTreeSet::from([id("b")]));
    assert_eq!(state.earlier, [EarlierAttempt::Abandoned]);
    assert!(state.closed.is_none());
}

fn remainder(attempt: &mut Attempt, name: &str) {
    fails(attempt, name, OpeningFault::Remainder);
}

fn fails(attempt: &mut Attempt, name: &str, fault: OpeningFault) {
    let failure = Failure {
        fault,
        detail: format!("{fault:?}"),
    };
    let receiver = id(name);
    attempt
        .apply(Event::OpeningFailed { receiver, failure }, 0)
        .unwrap();
}

/// No custodian is at fault, and nobody is asked for key checks.
#[test]
fn a_sum_that_means_nothing_is_collected_again() {
    let rules = rules();
    let mut attempt = opening(&rules);
    let [last, others @ ..] = &NAMES;
    for name in others {
        fails(&mut attempt, name, OpeningFault::Meaning);
    }
    let collected = |decision: Decision| matches!(decision, Decision::Recollect(_));
    assert!(collected(attempt.decide(&rules, &none(), 0)));
    // Another reason given by one receiver does not pass for this one.
    fails(&mut attempt, last, OpeningFault::Other);
    assert!(matches!(attempt.decide(&rules, &none(), 0), Decision::Fail(_)));
    // Who is away might still open it, and is waited for, but not for ever.
    let (mut attempt, mut rules) = (opening(&rules), rules);
    rules.contributors.extend(["e", "f", "g"].map(id));
    for (name, until) in others.iter().zip([2, 1, 0]) {
        fails(&mut attempt, name, OpeningFault::Meaning);
        assert_eq!(attempt.decide(&rules, &none(), PATIENCE - 1), Decision::Wait);
        assert_eq!(collected(attempt.decide(&rules, &none(), PATIENCE)), until == 0);
    }
}

/// The sum did not open for anybody; every custodian sent its key check.
fn judging(rules: &Rules) -> Attempt {
    let mut attempt = opening(rules);
    for name in NAMES {
        remainder(&mut attempt, name);
    }
    assert_eq!(go_on(&mut attempt, rules, 0), Decision::Dispute);
    for name in NAMES {
        let event = Event::KeyCheck {
            custodian: id(name),
            statement: digest(name),
        };
        attempt.apply(event, 0).unwrap();
    }
    assert_eq!(go_on(&mut attempt, rules, 0), Decision::Judge);
    attempt
}

fn judge(attempt: &mut Attempt, receiver: &str, liars: &[&str]) {
    let event = Event::Judged {
        receiver: id(receiver),
        named: Named {
            liars: liars.iter().map(|name| id(name)).collect(),
            doubted: Vec::new(),
        },
    };
    attempt.apply(event, 0).unwrap();
}

#[test]
fn an_attempt_that_can_be_decided_neither_way_is_repeated_with_the_same_contributors() {
    let rules = rules();
    let mut attempt = endorsing(&rules);
    attempt.apply(endorse("a"), 0).unwrap();
    assert!(matches!(
        go_on(&mut attempt, &rules, PATIENCE),
        Decision::GiveUp(_)
    ));
    attempt.apply(endorse("b"), PATIENCE).unwrap();
    for name in ["c", "d"] {
        attempt.apply(abandon(name), PATIENCE).unwrap();
    }
    assert_eq!(attempt.decide(&rules, &none(), PATIENCE), Decision::Wait);
    assert!(matches!(
        go_on(&mut attempt, &rules, 2 * PATIENCE),
        Decision::Repeat(_)
    ));
    let set: BTreeSet<PartyId> = attempt.proposal.as_ref().unwrap().set.iter().cloned().collect();
    let mut state = StudyState {
        attempt: Some(attempt),
        ..StudyState::default()
    };
    state.note_repeat(&rules);
    assert_eq!(state.earlier, [EarlierAttempt::Standing(set.clone())]);
    state.announce(0, 1, digest("base"), NOW);
    let standing = state.standing(&rules);
    let next = state.attempt.as_mut().unwrap();
    assert_eq!(next.expected(&rules, &standing), set);
    // Three of the four would be too close to the four.
    next.phase = galen_net::protocol::AttemptPhase::Collecting;
    for name in ["a", "b", "c"] {
        next.apply(contribute(name), 0).unwrap();
    }
    assert_eq!(next.decide(&rules, &standing, 100 * PATIENCE), Decision::Wait);
    next.apply(contribute("d"), 0).unwrap();
    assert!(matches!(next.decide(&rules, &standing, 0), Decision::Sum(_)));
    // The group is asked again if this attempt is given up.
    state.note_abandoned(&rules);
    state.announce(0, 2, digest("base"), NOW);
    assert_eq!(state.attempt.unwrap().asked, Some(set));
}

#[test]
fn one_custodian_s_complaint_keeps_no_contributor_out() {
    let rules = rules();
    let mut attempt = proposed(&rules);
    let refuse = |custodian: &str| Event::SeedsRefused {
        custodian: id(custodian),
        contributor: id("b"),
    };
    attempt.apply(refuse("a"), 0).unwrap();
    assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Wait);
    for name in ["b", "c", "d"] {
        attempt.apply(check(name), 0).unwrap();
    }
    assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Bind);
}

#[test]
fn a_custodian_that_says_nothing_about_its_answer_is_replaced() {
    let rules = rules();
    let mut attempt = opening(&rules);
    let silent = attempt.assignments[0].custodian.clone();
    for name in NAMES {
        remainder(&mut attempt, name);
    }
    assert_eq!(go_on(&mut attempt, &rules, 0), Decision::Dispute);
    for name in NAMES.iter().filter(|name| id(name) != silent) {
        let event = Event::KeyCheck {
            custodian: id(name),
            statement: digest(name),
        };
        attempt.apply(event, 0).unwrap();
    }
    assert_eq!(go_on(&mut attempt, &rules, PATIENCE), Decision::Judge);
    NAMES
        .iter()
        .for_each(|receiver| judge(&mut attempt, receiver, &[]));
    let decision = attempt.decide(&rules, &none(), PATIENCE);
    assert!(
        matches!(&decision, Decision::Replace(replaced, _) if *replaced == BTreeSet::from([silent])),
        "{decision:?}"
    );
}

#[test]
fn one_receiver_s_word_holds_up_what_opens_for_enough_others_once() {
    let rules = rules();
    let mut attempt = opening(&rules);
    remainder(&mut attempt, "a");
    ["b", "c", "d"]
        .iter()
        .for_each(|name| opened(&mut attempt, name, "x"));
    assert_eq!(go_on(&mut attempt, &rules, 0), Decision::Dispute);
    for name in NAMES {
        let event = Event::KeyCheck {
            custodian: id(name),
            statement: digest(name),
        };
        attempt.apply(event, 0).unwrap();
    }
    assert_eq!(go_on(&mut attempt, &rules, 0), Decision::Judge);
    let mut alone = attempt.clone();
    // It names everybody: nobody is left to answer, and the sum is open anyway.
    judge(&mut alone, "a", &NAMES);
    ["b", "c", "d"]
        .iter()
        .for_each(|receiver| judge(&mut alone, receiver, &[]));
    assert_eq!(alone.decide(&rules, &none(), 0), Decision::Publish(digest("x")));
    NAMES
        .iter()
        .for_each(|receiver| judge(&mut attempt, receiver, &[]));
    assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Publish(digest("x")));
}

#[test]
fn a_custodian_that_most_receivers_name_is_replaced() {
    let rules = rules();
    let mut attempt = judging(&rules);
    let liar = attempt.assignments[0].custodian.to_string();
    let framed = NAMES.iter().find(|name| **name != liar).unwrap();
    for (receiver, named) in NAMES
        .iter()
        .zip([vec![&*liar], vec![&*liar], vec![&*liar, framed], vec![]])
    {
        assert_eq!(attempt.decide(&rules, &none(), 0), Decision::Wait);
        judge(&mut attempt, receiver, &named);
    }
    let decision = go_on(&mut attempt, &rules, 0);
    assert!(
        matches!(&decision, Decision::Replace(liars, _) if *liars == BTreeSet::from([id(&liar)])),
        "{decision:?}"
    );
    assert_partition(&rules, &attempt);
    assert!(attempt.assignments.iter().all(|a| a.custodian != id(&liar)));
    assert!(attempt.failures.is_empty() && attempt.judged.is_empty());
    // What it is silent about afterwards is not asked of it again.
    let decision = attempt.decide(&rules, &none(), PATIENCE);
    assert!(matches!(decision, Decision::Wait), "{decision:?}");
}

#[test]
fn where_no_custodian_lied_a_contributor_did_and_four_are_too_few_to_tell_which() {
    let rules = rules();
    let mut attempt = judging(&rules);
    NAMES
        .iter()
        .for_each(|receiver| judge(&mut attempt, receiver, &[]));
    assert!(matches!(go_on(&mut attempt, &rules, 0), Decision::Recollect(_)));
    let mut state = StudyState {
        attempt: Some(attempt),
        ..StudyState::default()
    };
    state.note_unopened(&rules);
    let closed = state.closed.unwrap();
    assert!(
        closed.reason.contains("one of a, b, c, d spoiled"),
        "{}",
        closed.reason
    );
}

#[test]
fn a_larger_set_is_collected_again_in_halves() {
    let mut rules = rules();
    let names: Vec<PartyId> = (0..8).map(|i| id(&format!("h{i}"))).collect();
    rules.contributors = names.iter().cloned().collect();
    let mut attempt = judging(&self::rules());
    attempt.proposal.as_mut().unwrap().set = names.clone();
    attempt.phase = galen_net::protocol::AttemptPhase::Abandoned;
    let mut state = StudyState {
        attempt: Some(attempt),
        ..StudyState::default()
    };
    state.note_unopened(&rules);
    assert!(state.closed.is_none());
    state.announce(0, 1, digest("base"), NOW);
    let attempt = state.attempt.as_mut().unwrap();
    let asked = attempt.expected(&rules, &none());
    assert_eq!(asked.len(), 4);
    assert_eq!(
        state.earlier,
        [EarlierAttempt::Standing(names.into_iter().collect())]
    );
    // Nobody else may contribute.
    let standing = state.standing(&rules);
    let attempt = state.attempt.as_mut().unwrap();
    attempt.phase = galen_net::protocol::AttemptPhase::Collecting;
    let left_out = rules.contributors.difference(&asked).next().unwrap();
    let refused = attempt.apply(contribute(left_out.as_str()), 0).unwrap_err();
    assert_eq!(refused.code, Code::WrongRound);
    let mut asked = asked.into_iter();
    for name in asked.by_ref().take(2) {
        attempt.apply(contribute(name.as_str()), 0).unwrap();
    }
    assert_eq!(attempt.decide(&rules, &standing, 100 * PATIENCE), Decision::Wait);
    // Three of the four are still apart enough from the eight.
    let third = asked.next().unwrap();
    attempt.apply(contribute(third.as_str()), 0).unwrap();
    assert_eq!(attempt.decide(&rules, &standing, PATIENCE - 1), Decision::Wait);
    assert!(matches!(
        attempt.decide(&rules, &standing, PATIENCE),
        Decision::Sum(_)
    ));
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

#[test]
fn custodians_that_are_all_gone_are_not_asked_in_turn_for_ever() {
    let rules = rules();
    let mut attempt = certified(&rules);
    let (mut now, mut asked) = (0, 0);
    loop {
        now += PATIENCE;
        match go_on(&mut attempt, &rules, now) {
            Decision::Reassign(_) => asked += 1,
            Decision::Wait => break,
            other => panic!("{other:?}"),
        }
        assert!(asked <= 2 * NAMES.len());
    }
    let decision = attempt.decide(&rules, &none(), now + GIVE_UP);
    assert!(matches!(decision, Decision::Fail(_)), "{decision:?}");
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
                failure: Failure {
                    fault: OpeningFault::Other,
                    detail: "remainder".into(),
                },
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
        failure: Failure {
            fault: OpeningFault::Other,
            detail: "after all not".into(),
        },
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

/// Every custodian's incarnation is confirmed by the others.
fn introduce(state: &mut StudyState) {
    for name in NAMES {
        let others = NAMES.iter().filter(|other| **other != name);
        let incarnation = IncarnationState {
            nonce: digest("incarnation"),
            seq: 1,
            confirmed: others.map(|other| id(other)).collect(),
            stale: None,
        };
        state.incarnations.insert(id(name), incarnation);
    }
}

fn frame(rounds: u32, release: Release) -> Frame {
    Frame {
        first: 0,
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
    let next = |state: &StudyState| state.next(&frame, &rules, 0, |model| *model == digest("model"));
    state.consents.extend(["a", "b", "c"].iter().map(|n| id(n)));
    assert_eq!(next(&state), Step::AwaitConsent(vec![id("d")]));
    state.consents.insert(id("d"));
    assert_eq!(next(&state), Step::AwaitCustodians);
    let stalled = state.next(&frame, &rules, PATIENCE, |_| false);
    assert!(matches!(stalled, Step::Announce { .. }));
    introduce(&mut state);
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
        state.next(&frame, &rules, 0, |_| false),
        Step::AwaitRelease,
        "the blob is not stored"
    );
    state.serving = Some(digest("model"));
    assert_eq!(next(&state), Step::Serving);
}

/// Announced at once, the next round would be without it.
#[test]
fn a_custodian_that_came_back_during_a_round_is_waited_for_before_the_next() {
    let rules = rules();
    let frame = frame(2, Release::Contributors);
    let mut state = StudyState::default();
    state.consents.extend(frame.parties.iter().cloned());
    introduce(&mut state);
    state.announce(0, 0, digest("initial"), NOW);
    state.attempt = Some(opening(&rules));
    let custodian = state.incarnations.get_mut(&id("a")).unwrap();
    let others = std::mem::take(&mut custodian.confirmed);
    state.introduced_ms = 5;
    assert_eq!(
        state.next(&frame, &rules, 5, |_| false),
        Step::Attempt,
        "the round under way goes on"
    );
    state.publish(digest("result 0"), NOW);
    let next = |state: &StudyState, now_ms| state.next(&frame, &rules, now_ms, |_| false);
    let announced = |step: Step| matches!(step, Step::Announce { round: 1, .. });
    assert_eq!(next(&state, 5 + PATIENCE - 1), Step::AwaitCustodians);
    assert!(announced(next(&state, 5 + PATIENCE)), "not for ever");
    state.incarnations.get_mut(&id("a")).unwrap().confirmed = others;
    assert!(announced(next(&state, 5)));
    // One that has never been there is not waited for again.
    state.incarnations.remove(&id("a"));
    assert!(announced(next(&state, 5)));
}

#[test]
fn a_round_that_is_abandoned_too_often_ends_the_study() {
    let rules = rules();
    let frame = frame(1, Release::Contributors);
    let mut state = StudyState::default();
    state.consents.extend(frame.parties.iter().cloned());
    introduce(&mut state);
    for attempt in 0..3 {
        assert_eq!(
            state.next(&frame, &rules, 0, |_| true),
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
    assert_eq!(state.next(&frame, &rules, 0, |_| true), Step::Closed);
    let closed = state.closed.unwrap();
    assert!(!closed.completed && closed.reason.contains("a reason"));
}
