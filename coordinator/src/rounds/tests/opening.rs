//! What receivers report.

use super::*;

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
