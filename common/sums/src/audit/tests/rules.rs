//! Every rule is broken once, by lines that are genuine.

use super::*;
use crate::audit::check::Inconsistency;

/// What is changed, and what must be found.
pub(super) type Case = (fn(&mut Vec<AuditEvent>), fn(&Inconsistency) -> bool);

/// Each case breaks the rule that is found.
pub(super) fn found(cases: &[Case]) {
    for (index, (change, wanted)) in cases.iter().enumerate() {
        let mut events = honest();
        change(&mut events);
        let report = WORLD.report(&events);
        assert!(
            report.findings.iter().any(|finding| wanted(&finding.what)),
            "case {index}: {:#?}",
            report.findings
        );
        assert!(!report.is_consistent() && report.text().contains("AGAINST THE RULES"));
        for finding in &report.findings {
            assert!(finding.line >= 1 && finding.line <= events.len() as u64);
        }
    }
}

/// Has the statistics certified once more, in a third attempt beside sets that may be open.
fn third_attempt(events: &mut Vec<AuditEvent>, beside: &[(u32, &[&str])], of: &[&str]) {
    let again = id(0, 2);
    let mut more = vec![announced_beside(
        again,
        Purpose::Statistics,
        digest("initial"),
        beside,
    )];
    more.extend(of.iter().map(|who| contribution(again, who)));
    more.extend([proposed(again, of), certified(again, of, &ABC)]);
    // The round is not published yet.
    let at = place(events, |event| *event == published(id(0, 1)));
    events.splice(at..at, more);
}

/// An attempt that ended without a certificate either way may be followed by one that tells nothing more.
#[test]
fn a_further_attempt_is_judged_together_with_what_may_be_open() {
    let mut events = honest();
    third_attempt(&mut events, &[(1, &ABC)], &ABC);
    let report = WORLD.report(&events);
    assert_eq!(report.findings, [], "{}", report.text());
    let said = "attempt 1 was not given up: its sum over a, b and c may be open.";
    assert!(events.iter().map(words::event).any(|text| text.contains(said)));
}

/// A custodian that endorsed after the certificate may be asked for pieces and answer.
#[test]
fn who_endorses_later_may_answer() {
    let at = id(0, 1);
    let endorsement = endorsement(at, &ABC, "d");
    let mut events = honest();
    before(&mut events, &opened(at, 3), answered(at, "d"));
    let findings = WORLD.report(&events).findings;
    assert!(
        matches!(&findings[..], [finding] if matches!(finding.what, Inconsistency::AnsweredUnsigned { .. }))
    );
    before(
        &mut events,
        &answered(at, "a"),
        AuditEvent::Endorsed { id: at, endorsement },
    );
    assert_eq!(WORLD.report(&events).findings, []);
}

/// A sum that did not open is told, with whom the round is collected from next, to whoever verifies.
#[test]
fn an_attempt_that_ends_without_a_result_is_told() {
    let mut events = honest();
    third_attempt(&mut events, &[(1, &ABC)], &ABC);
    let announced = announced_beside(id(0, 2), Purpose::Statistics, digest("initial"), &[(1, &ABC)]);
    before(&mut events, &announced, repeated(id(0, 1), &ABC, &ABC));
    // It is the second attempt that is published in this log, which then had ended.
    let published = place(&events, |event| *event == published(id(0, 1)));
    events.truncate(published);
    let report = WORLD.report(&events);
    assert_eq!(report.findings, [], "{}", report.text());
    assert_eq!(report.repeats.len(), 1);
    let said = "Ended without a result:\n  line 30: round 0 attempt 1, because nobody could open it; its sum over a, b and c may be open; \
                the round is collected again from a, b and c";
    assert!(report.text().contains(said), "{}", report.text());
}

/// Every rule is broken once, by lines that are genuine.
#[test]
fn what_the_rules_forbid_is_found_one_by_one() {
    use Inconsistency as I;
    let cases: &[Case] = &[
        // Who takes part.
        (
            |e| {
                before(
                    e,
                    &AuditEvent::Activated,
                    AuditEvent::Admitted {
                        party: name("x"),
                        consent: digest("x"),
                    },
                )
            },
            |i| matches!(i, I::Stranger { role: "member", .. }),
        ),
        (
            |e| {
                before(
                    e,
                    &AuditEvent::Activated,
                    AuditEvent::Admitted {
                        party: name("a"),
                        consent: digest("y"),
                    },
                )
            },
            |i| matches!(i, I::JoinedTwice(who) if *who == name("a")),
        ),
        (
            |e| drop(e.remove(3)),
            |i| matches!(i, I::ActiveWithout(who) if *who == name("d")),
        ),
        (|e| remove(e, &AuditEvent::Activated), |i| *i == I::NotActive),
        (
            |e| {
                let at = place(e, |event| matches!(event, AuditEvent::Confirmed { .. }));
                e[at] = AuditEvent::Confirmed {
                    custodian: name("a"),
                    nonce: digest("nonce"),
                    by: name("a"),
                };
            },
            |i| matches!(i, I::Incarnation { .. }),
        ),
        (
            |e| drop(e.remove(place(e, |event| matches!(event, AuditEvent::Incarnation { .. })))),
            |i| matches!(i, I::Incarnation { .. }),
        ),
        // How attempts end that are not given up by certificate.
        (
            |e| {
                before(
                    e,
                    &announced(id(1, 0), Purpose::Training, result(0)),
                    repeated(id(0, 1), &ABC, &[]),
                )
            },
            |i| matches!(i, I::Twice { what: "end", .. }),
        ),
        (
            |e| before(e, &published(id(0, 1)), repeated(id(0, 1), &["a", "b"], &["a"])),
            |i| *i == I::OtherSet { id: id(0, 1) },
        ),
        (
            |e| before(e, &published(id(0, 1)), repeated(id(0, 1), &ABC, &["x"])),
            |i| {
                matches!(
                    i,
                    I::Stranger {
                        role: "contributor",
                        ..
                    }
                )
            },
        ),
        (
            |e| {
                before(
                    e,
                    &announced(id(0, 0), Purpose::Statistics, digest("initial")),
                    repeated(id(0, 0), &[], &[]),
                )
            },
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "record",
                        ..
                    }
                )
            },
        ),
        // Who endorses later.
        (
            |e| {
                let endorsement = endorsement(id(0, 1), &NAMES, "d");
                before(
                    e,
                    &answered(id(0, 1), "a"),
                    AuditEvent::Endorsed {
                        id: id(0, 1),
                        endorsement,
                    },
                );
            },
            |i| matches!(i, I::BadSignature { .. }),
        ),
        (
            |e| {
                let endorsement = endorsement(id(0, 1), &ABC, "d");
                before(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    AuditEvent::Endorsed {
                        id: id(0, 1),
                        endorsement,
                    },
                );
            },
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "certificate",
                        ..
                    }
                )
            },
        ),
        // Which rounds there are.
        (
            |e| remove(e, &announced(id(0, 1), Purpose::Statistics, digest("initial"))),
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "record",
                        ..
                    }
                )
            },
        ),
        (
            |e| {
                before(
                    e,
                    &contribution(id(0, 1), "a"),
                    announced(id(0, 1), Purpose::Statistics, digest("initial")),
                )
            },
            |i| matches!(i, I::Twice { what: "record", .. }),
        ),
        (
            |e| {
                before(
                    e,
                    &contribution(id(0, 0), "a"),
                    announced(id(1, 0), Purpose::Training, digest("initial")),
                )
            },
            |i| matches!(i, I::Order { published: 0, .. }),
        ),
        (
            |e| remove(e, &abandoned(id(0, 0), &ABC)),
            |i| *i == I::NotAbandoned { id: id(0, 1) },
        ),
        (
            |e| swap(e, &abandoned(id(0, 0), &ABC), abandoned(id(0, 0), &["a", "b"])),
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 0),
                    valid: 2,
                    needed: 3,
                }
            },
        ),
        (
            |e| swap(e, &abandoned(id(0, 0), &ABC), abandoned(id(0, 0), &["a", "b"])),
            |i| *i == I::NotAbandoned { id: id(0, 1) },
        ),
        (
            |e| {
                // Signatures for another attempt.
                let old = abandoned(id(0, 0), &ABC);
                let AuditEvent::Abandoned {
                    signatures, reason, ..
                } = abandoned(id(0, 1), &ABC)
                else {
                    panic!()
                };
                swap(
                    e,
                    &old,
                    AuditEvent::Abandoned {
                        id: id(0, 0),
                        signatures,
                        reason,
                    },
                );
            },
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 0),
                    valid: 0,
                    needed: 3,
                }
            },
        ),
        (
            |e| {
                before(
                    e,
                    &announced(id(0, 1), Purpose::Statistics, digest("initial")),
                    certified(id(0, 0), &NAMES, &ABC),
                )
            },
            |i| *i == I::BothCertificates { id: id(0, 0) },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), abandoned(id(0, 1), &ABC)),
            |i| *i == I::BothCertificates { id: id(0, 1) },
        ),
        (
            |e| {
                swap(
                    e,
                    &announced(id(1, 0), Purpose::Training, result(0)),
                    announced(id(1, 0), Purpose::Training, digest("second")),
                )
            },
            |i| matches!(i, I::Base { expected, .. } if *expected == result(0)),
        ),
        (
            |e| {
                swap(
                    e,
                    &announced(id(0, 1), Purpose::Statistics, digest("initial")),
                    announced(id(0, 1), Purpose::Statistics, digest("second")),
                )
            },
            |i| matches!(i, I::Base { expected, .. } if *expected == digest("initial")),
        ),
        (
            // The attempt in between is given up, the first one was agreed upon.
            |e| {
                let at = place(e, |event| {
                    *event == announced(id(1, 0), Purpose::Training, result(0))
                });
                let again = announced(id(0, 3), Purpose::Statistics, digest("initial"));
                e.splice(at..at, [abandoned(id(0, 2), &ABC), again]);
            },
            |i| *i == I::NotAbandoned { id: id(0, 3) },
        ),
        (
            |e| {
                let at = place(e, |event| {
                    *event == announced(id(1, 0), Purpose::Training, result(0))
                });
                e.splice(
                    at..at,
                    whole(id(0, 2), Purpose::Statistics, digest("initial"), &ABC),
                );
            },
            |i| *i == I::NotAbandoned { id: id(0, 2) },
        ),
        (
            // The attempt before is named, but with another set than was proposed.
            |e| third_attempt(e, &[(1, &["a", "b", "d"])], &ABC),
            |i| *i == I::NotAbandoned { id: id(0, 2) },
        ),
        (
            // Named rightly; but one hospital more is one hospital's value.
            |e| third_attempt(e, &[(1, &ABC)], &NAMES),
            |i| {
                *i == I::Subtractable {
                    id: id(0, 2),
                    smallest: 1,
                    min: 3,
                }
            },
        ),
        // Contributions and sets.
        (
            |e| {
                before(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Contribution {
                        id: id(0, 1),
                        contributor: name("a"),
                        header: digest("other"),
                        blob: digest("other blob"),
                    },
                )
            },
            |i| {
                *i == I::SecondContribution {
                    id: id(0, 1),
                    contributor: name("a"),
                }
            },
        ),
        (
            |e| remove(e, &contribution(id(0, 1), "b")),
            |i| {
                *i == I::NotReceived {
                    id: id(0, 1),
                    contributor: name("b"),
                }
            },
        ),
        (
            // A contribution of the attempt before.
            |e| {
                let mut of = members(id(0, 1), &ABC);
                of.insert(name("b"), header(id(0, 0), "b"));
                let set = ContributionSet {
                    record: record(id(0, 1)),
                    members: of.clone(),
                }
                .digest();
                swap(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Proposed {
                        id: id(0, 1),
                        members: of,
                        set,
                        sum: sum(id(0, 1)),
                    },
                );
            },
            |i| {
                *i == I::NotReceived {
                    id: id(0, 1),
                    contributor: name("b"),
                }
            },
        ),
        (
            |e| swap(e, &proposed(id(0, 1), &ABC), proposed(id(0, 1), &["a", "b"])),
            |i| {
                *i == I::TooFew {
                    id: id(0, 1),
                    members: 2,
                    min: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &proposed(id(0, 1), &ABC),
                    AuditEvent::Proposed {
                        id: id(0, 1),
                        members: members(id(0, 1), &ABC),
                        set: digest("set"),
                        sum: sum(id(0, 1)),
                    },
                )
            },
            |i| *i == I::SetDigest { id: id(0, 1) },
        ),
        (
            |e| before(e, &certified(id(0, 1), &ABC, &ABC), proposed(id(0, 1), &ABC)),
            |i| matches!(i, I::Twice { what: "proposal", .. }),
        ),
        (
            |e| {
                // d sends what c sent, in its own name.
                let at = place(e, |event| *event == contribution(id(1, 0), "d"));
                e[at] = AuditEvent::Contribution {
                    id: id(1, 0),
                    contributor: name("d"),
                    header: header(id(1, 0), "d"),
                    blob: digest(&format!("blob c {}", id(1, 0))),
                };
            },
            |i| matches!(i, I::CopiedContribution { .. }),
        ),
        // Certificates.
        (
            |e| {
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    certified(id(0, 1), &ABC, &["a", "b"]),
                )
            },
            |i| {
                *i == I::TooFewSigners {
                    id: id(0, 1),
                    valid: 2,
                    needed: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    certified(id(0, 1), &ABC, &["a", "b", "b"]),
                )
            },
            |i| {
                *i == I::BadSignature {
                    id: id(0, 1),
                    signer: name("b"),
                }
            },
        ),
        (
            |e| {
                // The signature of d under the name of c.
                let mut endorsements: Vec<_> = ["a", "b", "d"]
                    .iter()
                    .map(|s| endorsement(id(0, 1), &ABC, s))
                    .collect();
                endorsements[2].author = name("c");
                swap(
                    e,
                    &certified(id(0, 1), &ABC, &ABC),
                    AuditEvent::Certified {
                        id: id(0, 1),
                        set: set(id(0, 1), &ABC),
                        sum: sum(id(0, 1)),
                        endorsements,
                    },
                );
            },
            |i| {
                *i == I::BadSignature {
                    id: id(0, 1),
                    signer: name("c"),
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &certified(id(1, 0), &NAMES, &ABC),
                    certified(id(1, 0), &ABC, &ABC),
                )
            },
            |i| *i == I::OtherSet { id: id(1, 0) },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), certified(id(0, 1), &ABC, &ABC)),
            |i| {
                matches!(
                    i,
                    I::Twice {
                        what: "certificate",
                        ..
                    }
                )
            },
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), certified(id(0, 1), &ABC, &ABC)),
            |i| matches!(i, I::CertifiedTwice { .. }),
        ),
    ];
    found(cases);
}
