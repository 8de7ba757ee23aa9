//! Members that are named as at fault: with what shows it, and without.

use super::*;
use crate::audit::check::Inconsistency;
use crate::authored::{CONTRIBUTION, FINGERPRINT};
use crate::contribution::ContributionHeader;
use crate::fingerprint::{Fingerprint, FingerprintStatement};
use crate::statement::{FINGERPRINT_REFUSED, FingerprintRefused, JUDGED, Judged};

/// What the log is told of a member that is named in the attempt that opens, before the line of the opening.
fn accused(party: &str, culprit: Culprit, evidence: Vec<Authored>) -> Vec<Inconsistency> {
    let mut events = honest();
    let named = AuditEvent::Named {
        id: id(0, 1),
        party: name(party),
        culprit,
        text: "as somebody says".into(),
        evidence,
    };
    // The contribution that its header really has.
    swap(
        &mut events,
        &contribution(id(0, 1), "b"),
        AuditEvent::Contribution {
            id: id(0, 1),
            contributor: name("b"),
            header: signed_header().digest(),
            blob: digest("ciphertexts"),
        },
    );
    before(&mut events, &opened(id(0, 1), 3), named);
    let findings = WORLD
        .report(&events)
        .findings
        .into_iter()
        .map(|finding| finding.what);
    findings
        .filter(|what| matches!(what, Inconsistency::Unproven { .. }))
        .collect()
}

fn signed_header() -> Authored {
    let header = ContributionHeader {
        record: record(id(0, 1)),
        contributor: name("b"),
        base: digest("initial"),
        ciphertext: digest("ciphertexts"),
        ciphertext_len: 1,
        seed_hashes: Vec::new(),
        sealed: BTreeMap::new(),
    };
    WORLD.sign("b", CONTRIBUTION, &header)
}

fn fingerprint_of(sum: Digest, signer: &str) -> Authored {
    let none: Fingerprint = postcard::from_bytes(&[0]).unwrap();
    let said = FingerprintStatement {
        record: record(id(0, 1)),
        set: set(id(0, 1), &ABC),
        sum,
        contributor: name("b"),
        values: none,
    };
    WORLD.sign(signer, FINGERPRINT, &said)
}

fn complaint(record: Digest, contributor: &str) -> Authored {
    let contributor = name(contributor);
    WORLD.sign(
        "a",
        FINGERPRINT_REFUSED,
        &FingerprintRefused { record, contributor },
    )
}

fn judged(record: Digest, liar: &str) -> Authored {
    let said = Judged {
        record,
        liars: vec![name(liar)],
        doubted: Vec::new(),
        detail: String::new(),
    };
    WORLD.sign("d", JUDGED, &said)
}

/// Nobody is accused without the signed statements that show it, of this attempt and about this member.
#[test]
fn accusations_need_what_shows_them() {
    let here = record(id(0, 1));
    let sum = sum(id(0, 1));
    let elsewhere = digest("another record");
    let of_another = Authored {
        author: name("b"),
        statement: fingerprint_of(sum, "c").statement,
    };
    let cases: [(Culprit, Vec<Authored>, bool); 15] = [
        (Culprit::BadSeeds, vec![seeds_refused(id(0, 1), "a", "b")], true),
        (Culprit::BadSeeds, vec![], false),
        (Culprit::BadSeeds, vec![seeds_refused(id(0, 1), "a", "c")], false),
        (Culprit::BadSeeds, vec![seeds_refused(id(0, 0), "a", "b")], false),
        (Culprit::WrongKeySum, vec![judged(here, "b")], true),
        (Culprit::WrongKeySum, vec![judged(here, "c")], false),
        (Culprit::WrongKeySum, vec![judged(elsewhere, "b")], false),
        (
            Culprit::BadFingerprint,
            vec![signed_header(), fingerprint_of(sum, "b"), complaint(here, "b")],
            true,
        ),
        (
            Culprit::BadFingerprint,
            vec![signed_header(), fingerprint_of(sum, "b")],
            false,
        ),
        (
            Culprit::BadFingerprint,
            vec![fingerprint_of(sum, "b"), complaint(here, "b")],
            false,
        ),
        (
            Culprit::BadFingerprint,
            vec![signed_header(), complaint(here, "b")],
            false,
        ),
        (
            Culprit::BadFingerprint,
            vec![signed_header(), fingerprint_of(sum, "b"), complaint(here, "c")],
            false,
        ),
        (
            Culprit::BadFingerprint,
            vec![
                signed_header(),
                fingerprint_of(elsewhere, "b"),
                complaint(here, "b"),
            ],
            false,
        ),
        (
            Culprit::BadFingerprint,
            vec![signed_header(), of_another, complaint(here, "b")],
            false,
        ),
        (Culprit::RefusedAnswer, vec![], true),
    ];
    for (index, (culprit, evidence, proven)) in cases.into_iter().enumerate() {
        let found = accused("b", culprit, evidence);
        assert_eq!(found.is_empty(), proven, "case {index}: {found:?}");
    }
    // The fourth has endorsed nothing in this attempt, so that no answer is missing.
    assert_eq!(accused("d", Culprit::RefusedAnswer, vec![]).len(), 1);
    let said = accused("b", Culprit::WrongKeySum, vec![]).remove(0).to_string();
    assert_eq!(
        said,
        "b is accused in round 0 attempt 1 (its key sum is wrong), but the signed statements that show it are not there"
    );
}

#[test]
fn an_accusation_of_two_signatures_holds_with_both_of_them() {
    let mut events = honest();
    let proven = AuditEvent::Named {
        id: id(0, 0),
        party: name("b"),
        culprit: Culprit::TwoSignatures,
        text: "an endorsement and its word that the attempt was given up".into(),
        evidence: vec![endorsement(id(0, 0), &NAMES, "b"), abandonment(id(0, 0), "b")],
    };
    before(&mut events, &abandoned(id(0, 0), &ABC), proven);
    let report = WORLD.report(&events);
    assert_eq!(report.findings, []);
    assert_eq!(report.accusations.len(), 2);
}
