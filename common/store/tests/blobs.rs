//! Blobs: round trips of every length, resuming, and everything that must be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use galen_core::{Digest, PartyId};
use galen_store::{SEGMENT_BYTES, Store, StoreError};
use std::io::Read;

fn party(name: &str) -> PartyId {
    PartyId::new(name).unwrap()
}

/// Bytes without a pattern of the segment size's period.
fn sample(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * i / 7 + i / 251) as u8).collect()
}

#[test]
fn every_length_around_a_segment_comes_back_from_every_offset() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let blobs = store.blobs();
    let s = SEGMENT_BYTES;
    for len in [0, 1, s - 1, s, s + 1, 2 * s, 3 * s + 17] {
        let bytes = sample(len);
        let digest = blobs.put_bytes(&bytes, 3, &party("zurich")).unwrap();
        assert_eq!(digest, Digest::of(&bytes));
        assert_eq!(blobs.read(&digest).unwrap(), bytes);
        for offset in [0, 1, s - 1, s, s + 1, len.saturating_sub(1), len, len + 5] {
            let mut reader = blobs.open_read_at(&digest, offset as u64).unwrap();
            assert_eq!(reader.len(), len as u64);
            let mut rest = Vec::new();
            reader.read_to_end(&mut rest).unwrap();
            assert_eq!(
                rest,
                bytes.get(offset..).unwrap_or_default(),
                "{len} from {offset}"
            );
        }
        let info = blobs.info(&digest).unwrap().unwrap();
        assert_eq!((info.len, info.kind), (len as u64, 3));
        assert!(info.has_owner(&party("zurich")) && !info.has_owner(&party("budapest")));
    }
    assert_eq!(blobs.list().unwrap().len(), 7);
}

#[test]
fn import_finds_the_digest() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = sample(200_000);
    let (digest, len) = store.blobs().import(bytes.as_slice(), 1, &party("a")).unwrap();
    assert_eq!((digest, len), (Digest::of(&bytes), 200_000));
    assert_eq!(store.blobs().read(&digest).unwrap(), bytes);
    let again = store.blobs().import(bytes.as_slice(), 1, &party("b")).unwrap();
    assert_eq!(again.0, digest);
    assert_eq!(store.blobs().info(&digest).unwrap().unwrap().owners.len(), 2);
    assert_eq!(std::fs::read_dir(dir.path().join("partial")).unwrap().count(), 0);
}

#[test]
fn an_interrupted_upload_continues_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = sample(5 * SEGMENT_BYTES / 2);
    let digest = Digest::of(&bytes);
    {
        let store = Store::open(dir.path()).unwrap();
        let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
        writer.append(&bytes[..2 * SEGMENT_BYTES + 100]).unwrap();
        let error = {
            writer.expect_len(bytes.len() as u64).unwrap();
            writer.finish().unwrap_err()
        };
        assert!(matches!(error, StoreError::BlobTruncated { .. }));
        assert_eq!(error.refusal().code, galen_core::Code::BlobTruncated);
        assert!(store.blobs().info(&digest).unwrap().is_none());
        assert!(matches!(
            store.blobs().open_read(&digest),
            Err(StoreError::BlobUnknown { .. })
        ));
    }
    let store = Store::open(dir.path()).unwrap();
    let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    let offset = writer.offset() as usize;
    assert_eq!(offset, 2 * SEGMENT_BYTES);
    writer.append(&bytes[offset..]).unwrap();
    writer.finish().unwrap();
    assert_eq!(store.blobs().read(&digest).unwrap(), bytes);
}

#[test]
fn a_torn_partial_file_loses_only_what_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = sample(4 * SEGMENT_BYTES);
    let digest = Digest::of(&bytes);
    let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    writer.append(&bytes).unwrap();
    drop(writer);
    let path = dir.path().join("partial").join(format!("{digest}.1.a"));
    let stored = std::fs::read(&path).unwrap();
    // A byte changed in the second segment: the first one stays.
    let mut torn = stored.clone();
    torn[40 + SEGMENT_BYTES + 28 + 1000] ^= 1;
    for (torn, left) in [
        (torn, 1),
        (stored[..stored.len() - 1].to_vec(), 2),
        (stored[..20].to_vec(), 0),
        (Vec::new(), 0),
    ] {
        std::fs::write(&path, torn).unwrap();
        let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
        assert_eq!(writer.offset(), left * SEGMENT_BYTES as u64);
        writer.append(&bytes[writer.offset() as usize..]).unwrap();
        writer.finish().unwrap();
        assert_eq!(store.blobs().read(&digest).unwrap(), bytes);
        store.blobs().delete(&digest).unwrap();
    }
}

#[test]
fn wrong_content_is_refused_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = sample(100_000);
    let digest = Digest::of(&bytes);
    let mut wrong = bytes.clone();
    wrong[99_999] ^= 1;
    let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    writer.append(&wrong).unwrap();
    let error = writer.finish().unwrap_err();
    assert!(matches!(error, StoreError::BlobMismatch { found, .. } if found == Digest::of(&wrong)));
    assert_eq!(store.blobs().begin(&digest, 1, &party("a")).unwrap().offset(), 0);

    let mut writer = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    writer.expect_len(10).unwrap();
    assert!(matches!(
        writer.append(&bytes),
        Err(StoreError::BlobTooLong { expected: 10, .. })
    ));
}

#[test]
fn a_newer_writer_takes_over_and_owners_do_not_meet() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let bytes = sample(3 * SEGMENT_BYTES);
    let digest = Digest::of(&bytes);
    let mut old = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    old.append(&bytes[..2 * SEGMENT_BYTES]).unwrap();
    let mut spoiler = store.blobs().begin(&digest, 1, &party("b")).unwrap();
    spoiler.append(&sample(100_000)[1..]).unwrap();
    let mut new = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    assert!(matches!(
        old.append(&bytes[2 * SEGMENT_BYTES..]),
        Err(StoreError::BlobSuperseded { .. })
    ));
    assert!(matches!(old.finish(), Err(StoreError::BlobSuperseded { .. })));
    assert_eq!(new.offset(), SEGMENT_BYTES as u64);
    new.append(&bytes[SEGMENT_BYTES..]).unwrap();
    new.finish().unwrap();

    // Party b does not become an owner by naming the digest.
    assert!(spoiler.finish().is_err());
    let second = store.blobs().begin(&digest, 1, &party("b")).unwrap();
    assert_eq!(second.offset(), 0);
    drop(second);
    assert!(
        !store
            .blobs()
            .info(&digest)
            .unwrap()
            .unwrap()
            .has_owner(&party("b"))
    );
    store.blobs().put_bytes(&bytes, 1, &party("b")).unwrap();
    assert!(
        store
            .blobs()
            .info(&digest)
            .unwrap()
            .unwrap()
            .has_owner(&party("b"))
    );
    assert_eq!(store.blobs().read(&digest).unwrap(), bytes);

    // The owner's next upload is complete at once.
    let mut done = store.blobs().begin(&digest, 1, &party("a")).unwrap();
    assert_eq!(done.offset(), bytes.len() as u64);
    assert!(done.append(b"more").is_err());
    done.finish().unwrap();
}

#[test]
fn damaged_and_exchanged_files_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let path = |digest: &Digest| {
        let hex = digest.to_hex();
        dir.path().join("blobs").join(&hex[..1]).join(&hex)
    };
    let a = store
        .blobs()
        .put_bytes(&sample(3 * SEGMENT_BYTES), 1, &party("a"))
        .unwrap();
    let b = store
        .blobs()
        .put_bytes(&vec![1; 3 * SEGMENT_BYTES], 1, &party("a"))
        .unwrap();
    let good = std::fs::read(path(&a)).unwrap();
    let segment = SEGMENT_BYTES + 28;
    let mut flipped = good.clone();
    flipped[40 + segment + 5] ^= 1;
    let mut swapped = good.clone();
    swapped[40..40 + 2 * segment].rotate_left(segment);
    let shorter = good[..40 + 2 * segment].to_vec();
    let other = std::fs::read(path(&b)).unwrap();
    for bad in [flipped, swapped, shorter, other, Vec::new()] {
        std::fs::write(path(&a), bad).unwrap();
        let error = store.blobs().read(&a).unwrap_err();
        assert!(matches!(error, StoreError::BlobDamaged { .. }), "{error}");
    }
    std::fs::write(path(&a), good).unwrap();
    store.blobs().read(&a).unwrap();
}

#[test]
fn files_are_encrypted_and_orphans_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let text = b"patient 17, chest pain".repeat(10_000);
    let kept = store.blobs().put_bytes(&text, 1, &party("a")).unwrap();
    let gone = store.blobs().put_bytes(b"deleted", 1, &party("a")).unwrap();
    let lost = store.blobs().put_bytes(b"lost", 1, &party("a")).unwrap();
    store.blobs().delete(&gone).unwrap();
    store.blobs().delete(&gone).unwrap();
    assert!(store.blobs().read(&gone).is_err());
    drop(store);

    let hex = kept.to_hex();
    let path = dir.path().join("blobs").join(&hex[..1]).join(&hex);
    let stored = std::fs::read(&path).unwrap();
    assert!(!stored.windows(10).any(|w| w == b"chest pain"));

    // As a crash between rename and record leaves it, and as a lost file looks.
    let orphan = dir
        .path()
        .join("blobs")
        .join(&hex[..1])
        .join(Digest::of(b"orphan").to_hex());
    std::fs::copy(&path, &orphan).unwrap();
    let partial = |name: &str| dir.path().join("partial").join(name);
    std::fs::write(partial("ab.IMPORT"), b"x").unwrap();
    std::fs::write(partial(&format!("{kept}.1.a")), b"x").unwrap();
    std::fs::write(partial(&format!("{kept}.1.b")), b"x").unwrap();
    let hex = lost.to_hex();
    std::fs::remove_file(dir.path().join("blobs").join(&hex[..1]).join(&hex)).unwrap();
    let store = Store::open(dir.path()).unwrap();
    assert!(!orphan.exists() && path.exists());
    assert!(!partial("ab.IMPORT").exists() && !partial(&format!("{kept}.1.a")).exists());
    assert!(
        partial(&format!("{kept}.1.b")).exists(),
        "party b is still sending"
    );
    assert_eq!(store.blobs().read(&kept).unwrap(), text);
    assert!(
        store.blobs().info(&lost).unwrap().is_none(),
        "it can be sent again"
    );
}
