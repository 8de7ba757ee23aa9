//! Sums that do not open: whose answers are replaced, and when a contributor is to blame.

use super::*;

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
