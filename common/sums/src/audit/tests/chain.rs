//! Lines that are changed, missing, exchanged or another's.

use super::*;
use crate::audit::chain::{AuditError, head_extends};
use crate::audit::json_lines;
use proptest::prelude::*;

fn tampered(signed: &Signed, index: usize, bit: u8) -> Signed {
    let bytes = postcard::to_stdvec(signed).unwrap();
    let (mut payload, mut signature): (Vec<u8>, Vec<u8>) = postcard::from_bytes(&bytes).unwrap();
    let at = index % (payload.len() + signature.len());
    match payload.get_mut(at) {
        Some(byte) => *byte ^= 1 << bit,
        None => signature[at - payload.len()] ^= 1 << bit,
    }
    postcard::from_bytes(&postcard::to_stdvec(&(payload, signature)).unwrap()).unwrap()
}

fn fault(lines: &[Signed], head: &AuditHead) -> AuditError {
    let (key, study) = (WORLD.coordinator.public(), WORLD.roster.study());
    head_extends(&key, study, &AuditHead::default(), head, lines).unwrap_err()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A changed bit of the signed bytes, a dropped, repeated or exchanged line, a cut end: found, and the line named.
    #[test]
    fn whatever_is_done_to_a_log_is_found(at in any::<prop::sample::Index>(), other in any::<prop::sample::Index>(), byte in 0usize..10_000, bit in 0u8..8) {
        let (lines, head) = WORLD.lines(&honest());
        let count = lines.len();
        let (at, other) = (at.index(count), other.index(count));
        let number = at as u64 + 1;

        let mut changed = lines.clone();
        changed[at] = tampered(&lines[at], byte, bit);
        let found = fault(&changed, &head);
        prop_assert!(matches!(found, AuditError::Signature { .. }) && found.line() == number, "{found}");

        let mut dropped = lines.clone();
        dropped.remove(at);
        prop_assert_eq!(fault(&dropped, &head).line(), number);

        let mut repeated = lines.clone();
        repeated.insert(other, lines[at].clone());
        // A line before its own place stands in the place of another; one at or after it comes a second time.
        let expected = if other == at { other + 1 } else { other };
        prop_assert_eq!(fault(&repeated, &head).line(), expected as u64 + 1);

        if at != other {
            let mut swapped = lines.clone();
            swapped.swap(at, other);
            prop_assert_eq!(fault(&swapped, &head).line(), at.min(other) as u64 + 1);
        }

        let found = fault(&lines[..at], &head);
        prop_assert!(matches!(found, AuditError::Short { .. }) && found.line() == number, "{found}");
    }

    /// The same for a file: every byte of a line counts, also of its words.
    #[test]
    fn whatever_is_done_to_a_file_is_found(at in any::<prop::sample::Index>(), byte in any::<prop::sample::Index>(), by in 1u8..=255) {
        let (lines, _) = WORLD.lines(&honest());
        let mut chain = WORLD.chain();
        let read = chain.extend(&lines).unwrap();
        let written: Vec<String> = read.iter().zip(&lines).map(|(line, signed)| json_lines::write(line, signed).unwrap()).collect();
        let at = at.index(written.len());
        let mut chain = WORLD.chain();
        for (text, (line, signed)) in written.iter().zip(read.iter().zip(&lines)).take(at) {
            let (same, bytes) = json_lines::verify(&mut chain, text).unwrap();
            prop_assert!(same == *line && bytes == *signed);
        }
        let mut bytes = written[at].clone().into_bytes();
        let place = byte.index(bytes.len());
        bytes[place] ^= by;
        let before = chain.clone();
        if let Ok(text) = String::from_utf8(bytes) {
            let error = json_lines::verify(&mut chain, &text).unwrap_err();
            prop_assert_eq!(error.line(), at as u64 + 1);
            prop_assert_eq!(&chain, &before);
        }
        json_lines::verify(&mut chain, &written[at]).unwrap();
    }
}

#[test]
fn lines_of_others_and_garbage_are_told_apart() {
    let (lines, _) = WORLD.lines(&honest());
    let (study, first) = (WORLD.roster.study(), AuditHead::default());
    let mut chain = WORLD.chain();
    chain.extend(&lines[..2]).unwrap();
    let before = chain.clone();

    let stranger = SigningKey::generate().unwrap();
    let (forged, _) = AuditLine::sign(&stranger, study, chain.head(), 0, AuditEvent::Activated).unwrap();
    assert!(matches!(
        chain.push(&forged),
        Err(AuditError::Signature { line: 3 })
    ));
    let elsewhere = digest("another study");
    let (foreign, _) = AuditLine::sign(
        &WORLD.coordinator,
        &elsewhere,
        chain.head(),
        0,
        AuditEvent::Activated,
    )
    .unwrap();
    assert!(matches!(
        chain.push(&foreign),
        Err(AuditError::Signature { line: 3 })
    ));
    let sign = |bytes: &dyn erased::Bytes| bytes.sign(crate::audit::AUDIT_LINE);
    assert!(matches!(
        chain.push(&sign(&7u8)),
        Err(AuditError::Malformed { line: 3 })
    ));
    let unknown = (3u64, chain.head().digest, 0u64, 200u8);
    let error = chain.push(&sign(&unknown)).unwrap_err();
    assert!(matches!(error, AuditError::UnknownEvent { line: 3 }));
    assert_eq!(error.code(), Code::WrongVersion);
    let longer = (3u64, chain.head().digest, 0u64, 1u8, 9u8);
    assert!(matches!(
        chain.push(&sign(&longer)),
        Err(AuditError::Malformed { line: 3 })
    ));
    assert_eq!(chain, before, "a refused line changes nothing");

    // All or none.
    let mixed = [lines[2].clone(), lines[4].clone()];
    assert_eq!(chain.extend(&mixed).unwrap_err().line(), 4);
    assert_eq!(chain, before);
    assert_eq!(first.after(study, &lines[0]).lines, 1);
}

/// Signs anything as if it were a line.
mod erased {
    use super::{Signed, WORLD};

    pub(super) trait Bytes {
        fn sign(&self, domain: &str) -> Signed;
    }

    impl<T: serde::Serialize> Bytes for T {
        fn sign(&self, domain: &str) -> Signed {
            WORLD
                .coordinator
                .sign(domain, WORLD.roster.study(), self)
                .unwrap()
        }
    }
}

#[test]
fn of_two_continuations_only_the_one_that_was_seen_extends() {
    let events = honest();
    let (common, _) = events.split_at(10);
    let (mut left, mut right) = (common.to_vec(), common.to_vec());
    left.extend([contribution(id(0, 0), "b"), contribution(id(0, 0), "c")]);
    right.extend([contribution(id(0, 0), "c"), contribution(id(0, 0), "b")]);
    let ((seen, seen_head), (shown, shown_head)) = (WORLD.lines(&left), WORLD.lines(&right));
    let (key, study) = (WORLD.coordinator.public(), WORLD.roster.study());
    // Up to the fork nobody can tell.
    let (_, old) = WORLD.lines(common);
    head_extends(&key, study, &old, &seen_head, &seen[10..]).unwrap();
    head_extends(&key, study, &old, &shown_head, &shown[10..]).unwrap();
    // After its first line of one, nothing of the other is taken.
    let (_, one) = WORLD.lines(&left[..11]);
    let error = head_extends(&key, study, &one, &shown_head, &shown[11..]).unwrap_err();
    assert!(matches!(error, AuditError::Link { line: 12, .. }), "{error}");
    assert_eq!(error.code(), Code::AuditForked);
    // A head of the other branch is not reached by lines of this one.
    let error = head_extends(&key, study, &old, &shown_head, &seen[10..]).unwrap_err();
    assert!(matches!(error, AuditError::Head { line: 12, .. }), "{error}");
    // More lines than the head has are not its lines.
    let error = head_extends(&key, study, &old, &one, &seen[10..]).unwrap_err();
    assert!(matches!(error, AuditError::Head { line: 11, .. }), "{error}");
}
