//! A simulated disk behaves as a folder does, and its power fails exactly where a test says.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use galen_core::{Digest, PartyId};
use galen_store::{Cut, MemoryDisk, SEGMENT_BYTES, Store, StoreError, Table};
use std::collections::BTreeSet;

const LEFT: Table<u64> = Table::new("left", *b"LEFT", 1);
const RIGHT: Table<u64> = Table::new("right", *b"RIGH", 1);
const SECRETS: Table<Vec<u8>> = Table::new("secrets", *b"SECR", 1);

fn owner() -> PartyId {
    PartyId::new("owner").unwrap()
}

/// What the store holds, as far as the steps below change it.
#[derive(Debug, PartialEq)]
struct Seen {
    left: Option<u64>,
    right: Option<u64>,
    blobs: BTreeSet<Digest>,
    secret: Option<Vec<u8>>,
}

fn look(store: &Store) -> Seen {
    let left = store.database().repository(&LEFT).unwrap();
    let right = store.database().repository(&RIGHT).unwrap();
    let secrets = store.database().repository(&SECRETS).unwrap();
    let secret = match secrets.get_erasable(store.erasable(), "secret") {
        Ok(secret) => secret,
        Err(StoreError::Erased { .. }) => None,
        Err(error) => panic!("{error}"),
    };
    for (digest, info) in store.blobs().list().unwrap() {
        let bytes = store.blobs().read(&digest).unwrap();
        assert_eq!((Digest::of(&bytes), bytes.len() as u64), (digest, info.len));
    }
    Seen {
        left: left.get("n").unwrap(),
        right: right.get("n").unwrap(),
        blobs: store
            .blobs()
            .list()
            .unwrap()
            .into_iter()
            .map(|(d, _)| d)
            .collect(),
        secret,
    }
}

fn bytes(n: u8) -> Vec<u8> {
    vec![n; SEGMENT_BYTES + 100]
}

type Step = fn(&Store) -> Result<(), StoreError>;

/// Everything that daemons do with a store.
const STEPS: [Step; 6] = [
    |store| {
        let mut batch = store.database().batch();
        batch.put(&store.database().repository(&LEFT)?, "n", &1)?;
        batch.put(&store.database().repository(&RIGHT)?, "n", &1)?;
        batch.commit()
    },
    |store| store.blobs().put_bytes(&bytes(1), 1, &owner()).map(drop),
    |store| {
        store.erasable().create("key")?;
        let secrets = store.database().repository(&SECRETS)?;
        secrets.put_erasable(store.erasable(), "key", "secret", &b"secret".to_vec())
    },
    |store| store.blobs().import(bytes(2).as_slice(), 1, &owner()).map(drop),
    |store| store.erasable().erase("key"),
    |store| store.blobs().delete(&Digest::of(&bytes(1))),
];

/// What is seen after each number of steps, on a folder.
fn on_a_folder() -> Vec<Seen> {
    let temp = tempfile::tempdir().unwrap();
    let mut seen = Vec::new();
    for done in 0..=STEPS.len() {
        let store = Store::open(temp.path()).unwrap();
        seen.push(look(&store));
        if let Some(step) = STEPS.get(done) {
            step(&store).unwrap();
        }
    }
    seen
}

#[test]
fn a_memory_disk_holds_what_a_folder_holds() {
    let disk = MemoryDisk::new();
    for (done, seen) in on_a_folder().iter().enumerate() {
        let store = Store::in_memory(&disk).unwrap();
        assert_eq!(look(&store), *seen, "after {done} steps");
        if let Some(step) = STEPS.get(done) {
            step(&store).unwrap();
        }
    }
}

/// Cuts the power before and after every single write. What was acknowledged is there; what was being written is there or not; the two
/// records of one batch are there together; and the store goes on from what it finds.
#[test]
fn the_power_fails_at_every_write() {
    let stages = on_a_folder();
    let whole = MemoryDisk::new();
    let store = Store::in_memory(&whole).unwrap();
    let before = whole.writes();
    for step in STEPS {
        step(&store).unwrap();
    }
    let writes = whole.writes() - before;
    assert!(writes > STEPS.len() as u64, "{writes}");
    for nth in 1..=writes {
        for cut in [Cut::Before, Cut::After] {
            let disk = MemoryDisk::new();
            let store = Store::in_memory(&disk).unwrap();
            disk.cut_at(nth, cut);
            let done = STEPS.iter().take_while(|step| step(&store).is_ok()).count();
            assert!(disk.is_off() && done < STEPS.len(), "{nth} {cut:?}");
            assert!(store.database().repository(&LEFT).is_err());
            assert!(matches!(Store::in_memory(&disk), Err(StoreError::Io { .. })));
            disk.start();
            assert!(
                store.database().repository(&LEFT).is_err(),
                "a dead store came to life"
            );
            let store = Store::in_memory(&disk).unwrap();
            let seen = look(&store);
            assert_eq!(seen.left, seen.right, "{nth} {cut:?}: half a batch");
            let next = done + 1;
            assert!(
                seen == stages[done] || seen == stages[next],
                "{nth} {cut:?}: {seen:?} is neither {done} nor {next} steps"
            );
            for step in &STEPS[done..] {
                step(&store).unwrap();
            }
            assert_eq!(look(&store), stages[STEPS.len()], "{nth} {cut:?}");
        }
    }
}

#[test]
fn an_image_put_back_is_the_earlier_state() {
    let disk = MemoryDisk::new();
    let store = Store::in_memory(&disk).unwrap();
    STEPS[0](&store).unwrap();
    STEPS[2](&store).unwrap();
    let image = disk.image();
    STEPS[4](&store).unwrap();
    store.database().repository(&LEFT).unwrap().put("n", &2).unwrap();
    disk.put_back(&image);
    assert!(
        store.database().repository(&LEFT).is_err(),
        "a store outlived its disk"
    );
    let seen = look(&Store::in_memory(&disk).unwrap());
    assert_eq!((seen.left, seen.secret), (Some(1), Some(b"secret".to_vec())));
}

/// What a process wrote and did not sync is gone with the power, and there while the machine runs.
#[test]
fn an_upload_under_way_is_resumed_after_a_restart_and_begun_anew_after_a_power_cut() {
    let disk = MemoryDisk::new();
    let digest = Digest::of(&bytes(3));
    let begin = |store: &Store| store.blobs().begin(&digest, 1, &owner()).unwrap();
    let store = Store::in_memory(&disk).unwrap();
    let mut writer = begin(&store);
    writer.append(&bytes(3)).unwrap();
    drop(writer);
    let store = Store::in_memory(&disk).unwrap();
    assert_eq!(begin(&store).offset(), SEGMENT_BYTES as u64);
    disk.cut_now();
    disk.start();
    let store = Store::in_memory(&disk).unwrap();
    assert_eq!(begin(&store).offset(), 0);
}
