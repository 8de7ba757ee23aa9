//! Attempts that are given up, repeated, or waited for, and contributors that are left out.

use super::*;

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
