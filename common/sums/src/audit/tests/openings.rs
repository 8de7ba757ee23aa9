//! Openings, the end of a study, and accusations that break a rule.

use super::rules::{Case, found};
use super::*;
use crate::audit::check::Inconsistency;

#[test]
fn what_the_rules_forbid_of_openings_is_found_one_by_one() {
    use Inconsistency as I;
    let cases: &[Case] = &[
        // Openings.
        (
            |e| before(e, &opened(id(0, 1), 3), answered(id(0, 1), "d")),
            |i| {
                *i == I::AnsweredUnsigned {
                    id: id(0, 1),
                    custodian: name("d"),
                }
            },
        ),
        (
            |e| remove(e, &certified(id(0, 1), &ABC, &ABC)),
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
        (
            |e| swap(e, &opened(id(0, 1), 3), opened(id(0, 1), 4)),
            |i| {
                *i == I::Count {
                    id: id(0, 1),
                    said: 4,
                    members: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &opened(id(0, 1), 3),
                    AuditEvent::Opened {
                        id: id(0, 1),
                        receivers: vec![name("x")],
                        contributors: 3,
                    },
                )
            },
            |i| matches!(i, I::Stranger { role: "receiver", .. }),
        ),
        (
            |e| before(e, &opened(id(0, 1), 3), opened(id(0, 1), 3)),
            |i| matches!(i, I::Twice { what: "opening", .. }),
        ),
        (
            |e| remove(e, &opened(id(0, 1), 3)),
            |i| {
                matches!(
                    i,
                    I::Missing {
                        missing: "opening",
                        ..
                    }
                )
            },
        ),
        (
            // The statistics once more, where training is due.
            |e| {
                let again = announced(id(1, 0), Purpose::Statistics, digest("initial"));
                swap(e, &announced(id(1, 0), Purpose::Training, result(0)), again);
            },
            |i| matches!(i, I::OpenedBefore { earlier, .. } if *earlier == id(0, 1)),
        ),
        (
            |e| {
                before(
                    e,
                    &announced(id(1, 0), Purpose::Training, result(0)),
                    published(id(0, 1)),
                )
            },
            |i| matches!(i, I::Order { published: 1, .. }),
        ),
        (
            |e| remove(e, &read(id(0, 1), "b")),
            |i| {
                *i == I::Unread {
                    id: id(0, 1),
                    readers: 2,
                    min: 3,
                }
            },
        ),
        (
            |e| {
                swap(
                    e,
                    &published(id(0, 1)),
                    AuditEvent::Published {
                        id: id(0, 1),
                        sum: digest("shifted"),
                        result: result(0),
                    },
                )
            },
            |i| *i == I::OtherSet { id: id(0, 1) },
        ),
        // The end.
        (
            |e| drop(e.remove(place(e, |event| matches!(event, AuditEvent::Released { .. })))),
            |i| {
                matches!(
                    i,
                    I::Unreleased {
                        released: 2,
                        min: 3,
                        ..
                    }
                )
            },
        ),
        (
            |e| e.push(announced(id(2, 0), Purpose::Evaluation, result(1))),
            |i| *i == I::AfterTheEnd,
        ),
        // Accusations.
        (
            |e| {
                before(
                    e,
                    &abandoned(id(0, 0), &ABC),
                    AuditEvent::Named {
                        id: id(0, 0),
                        party: name("b"),
                        culprit: Culprit::TwoSignatures,
                        text: "twice".into(),
                        evidence: vec![
                            endorsement(id(0, 0), &NAMES, "b"),
                            endorsement(id(0, 0), &NAMES, "b"),
                        ],
                    },
                )
            },
            |i| {
                *i == I::Unproven {
                    id: id(0, 0),
                    party: name("b"),
                    culprit: Culprit::TwoSignatures,
                }
            },
        ),
    ];
    found(cases);
}
