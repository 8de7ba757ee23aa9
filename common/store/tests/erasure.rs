//! Erasing a key makes its records unreadable, for us and for someone who has every file and the master key.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use galen_store::{Store, StoreError, Table};
use std::path::{Path, PathBuf};

const SEEDS: Table<[u8; 32]> = Table::new("seeds", *b"SEED", 1);
const SECRET: [u8; 32] = *b"thirty-two bytes of a round seed";

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found
}

fn contains(dir: &Path, needle: &[u8]) -> bool {
    files(dir).iter().any(|path| {
        std::fs::read(path)
            .unwrap()
            .windows(needle.len())
            .any(|w| w == needle)
    })
}

/// Someone who has the directory: tries the bytes of every file, 60 at a time, as the key file, and reads with it if it opens.
fn attacker_reads(dir: &Path, name: &str, key: &str) -> bool {
    let copy = tempfile::tempdir().unwrap();
    for path in files(dir) {
        let to = copy.path().join(path.strip_prefix(dir).unwrap());
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(path, to).unwrap();
    }
    let store = Store::open(copy.path()).unwrap();
    let seeds = store.database().repository(&SEEDS).unwrap();
    let key_file = copy.path().join("erasable").join(format!("{name}.key"));
    files(dir).iter().any(|path| {
        let bytes = std::fs::read(path).unwrap();
        // Zeros open nothing, and sled's files are mostly zeros. The limit keeps the search short; key files are far below it.
        bytes
            .windows(60)
            .filter(|w| w[..12].iter().any(|b| *b != 0))
            .take(20_000)
            .any(|window| {
                std::fs::write(&key_file, window).unwrap();
                matches!(seeds.get_erasable(store.erasable(), key), Ok(Some(found)) if found == SECRET)
            })
    })
}

#[test]
fn after_erasure_nothing_that_is_left_opens_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let seeds = store.database().repository(&SEEDS).unwrap();
    store.erasable().create("round-1").unwrap();
    store.erasable().create("round-2").unwrap();
    for name in ["round-1", "round-2"] {
        seeds.put_erasable(store.erasable(), name, name, &SECRET).unwrap();
    }
    let key_bytes = std::fs::read(dir.path().join("erasable/round-1.key")).unwrap();
    assert_eq!(
        seeds.get_erasable(store.erasable(), "round-1").unwrap(),
        Some(SECRET)
    );
    assert!(!contains(dir.path(), &SECRET));
    assert!(contains(dir.path(), &key_bytes));
    assert!(
        attacker_reads(dir.path(), "round-1", "round-1"),
        "the search must find the key while it is there"
    );

    store.erasable().erase("round-1").unwrap();
    let error = seeds.get_erasable(store.erasable(), "round-1").unwrap_err();
    assert!(matches!(&error, StoreError::Erased { name, .. } if name == "round-1"));
    assert!(!contains(dir.path(), &key_bytes));
    assert!(!contains(dir.path(), &SECRET));
    assert!(!attacker_reads(dir.path(), "round-1", "round-1"));
    assert_eq!(
        seeds.get_erasable(store.erasable(), "round-2").unwrap(),
        Some(SECRET)
    );
    assert_eq!(store.erasable().names().unwrap(), ["round-2"]);
    store.erasable().erase("round-1").unwrap();
}

#[test]
fn a_name_created_again_stands_for_another_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let seeds = store.database().repository(&SEEDS).unwrap();
    store.erasable().create("r").unwrap();
    seeds.put_erasable(store.erasable(), "r", "old", &SECRET).unwrap();
    store.erasable().create("r").unwrap();
    assert_eq!(
        seeds.get_erasable(store.erasable(), "old").unwrap(),
        Some(SECRET),
        "create keeps a key"
    );
    store.erasable().erase("r").unwrap();
    store.erasable().create("r").unwrap();
    assert!(matches!(
        seeds.get_erasable(store.erasable(), "old"),
        Err(StoreError::Undecryptable { .. })
    ));
}

#[test]
fn a_crash_between_overwriting_and_unlinking_counts_as_erased() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let seeds = store.database().repository(&SEEDS).unwrap();
    store.erasable().create("r").unwrap();
    seeds.put_erasable(store.erasable(), "r", "k", &SECRET).unwrap();
    std::fs::write(dir.path().join("erasable/r.key"), [0; 60]).unwrap();
    assert!(matches!(
        seeds.get_erasable(store.erasable(), "k"),
        Err(StoreError::Erased { .. })
    ));
}

#[test]
fn forms_and_names_are_checked() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let seeds = store.database().repository(&SEEDS).unwrap();
    store.erasable().create("r").unwrap();
    seeds
        .put_erasable(store.erasable(), "r", "erasable", &SECRET)
        .unwrap();
    seeds.put("plain", &SECRET).unwrap();
    assert!(matches!(
        seeds.get("erasable"),
        Err(StoreError::WrongForm { erasable: true, .. })
    ));
    assert!(matches!(
        seeds.get_erasable(store.erasable(), "plain"),
        Err(StoreError::WrongForm { erasable: false, .. })
    ));
    assert_eq!(seeds.get_erasable(store.erasable(), "none").unwrap(), None);
    let error = seeds
        .put_erasable(store.erasable(), "nobody", "k", &SECRET)
        .unwrap_err();
    assert!(matches!(error, StoreError::NoErasableKey { .. }));
    for name in ["", "../x", "a/b", "A", "a.b", "é", &"x".repeat(101)] {
        assert!(matches!(
            store.erasable().create(name),
            Err(StoreError::InvalidName { .. })
        ));
    }

    let mut batch = store.database().batch();
    batch
        .put_erasable(&seeds, store.erasable(), "r", "in a batch", &SECRET)
        .unwrap();
    batch.commit().unwrap();
    assert_eq!(
        seeds.get_erasable(store.erasable(), "in a batch").unwrap(),
        Some(SECRET)
    );
}
