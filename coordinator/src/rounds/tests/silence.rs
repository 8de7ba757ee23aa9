//! Custodians that endorsed and do not answer.

use super::*;

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
