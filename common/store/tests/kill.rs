//! A process that is killed at any moment loses nothing that it had acknowledged.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use galen_core::{Digest, PartyId};
use galen_store::{SEGMENT_BYTES, Store, Table};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};

const CHILD_DIR: &str = "GALEN_STORE_TEST_CHILD_DIR";
const CHILD_START: &str = "GALEN_STORE_TEST_CHILD_START";

const RECORDS: Table<(u64, Vec<u8>)> = Table::new("records", *b"RECO", 1);
const LEFT: Table<u64> = Table::new("left", *b"LEFT", 1);
const RIGHT: Table<u64> = Table::new("right", *b"RIGH", 1);
const SECRETS: Table<u64> = Table::new("secrets", *b"SECR", 1);

fn payload(i: u64) -> Vec<u8> {
    vec![i as u8; (i as usize * 977) % 20_000]
}

fn blob(i: u64) -> Vec<u8> {
    (0..SEGMENT_BYTES + (i as usize * 7919) % 100_000)
        .map(|j| (j as u64 ^ i) as u8)
        .collect()
}

/// Not a test of its own: the process that [`every_acknowledged_write_survives_sigkill`] kills.
#[test]
fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let start: u64 = std::env::var(CHILD_START).unwrap().parse().unwrap();
    let store = Store::open(Path::new(&dir)).unwrap();
    let records = store.database().repository(&RECORDS).unwrap();
    let left = store.database().repository(&LEFT).unwrap();
    let right = store.database().repository(&RIGHT).unwrap();
    let secrets = store.database().repository(&SECRETS).unwrap();
    let owner = PartyId::new("owner").unwrap();
    let mut out = std::io::stdout();
    for i in start.. {
        records.put(i.to_be_bytes(), &(i, payload(i))).unwrap();
        let mut batch = store.database().batch();
        batch.put(&left, "n", &i).unwrap();
        batch.put(&right, "n", &i).unwrap();
        batch.commit().unwrap();
        let digest = store.blobs().put_bytes(&blob(i), 1, &owner).unwrap();
        store.erasable().create(&format!("key-{i}")).unwrap();
        secrets
            .put_erasable(store.erasable(), &format!("key-{i}"), i.to_be_bytes(), &i)
            .unwrap();
        if i % 2 == 0 {
            store.erasable().erase(&format!("key-{i}")).unwrap();
        }
        writeln!(out, "ack {i} {digest}").unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn every_acknowledged_write_survives_sigkill() {
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged: Vec<(u64, Digest)> = Vec::new();
    for (run, acks_before_kill) in [5, 1, 9, 3].into_iter().enumerate() {
        let start = acknowledged.last().map_or(0, |(i, _)| i + 1);
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--nocapture", "--test-threads=1"])
            .env(CHILD_DIR, dir.path())
            .env(CHILD_START, start.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut take = |acknowledged: &mut Vec<(u64, Digest)>| -> bool {
            let Some(Ok(line)) = lines.next() else {
                return false;
            };
            // The test harness writes the test's name in front of the first line.
            if let Some((_, ack)) = line.split_once("ack ") {
                let (i, digest) = ack.split_once(' ').unwrap();
                acknowledged.push((i.parse().unwrap(), digest.parse().unwrap()));
            }
            true
        };
        let before = acknowledged.len();
        while acknowledged.len() < before + acks_before_kill {
            assert!(take(&mut acknowledged), "the child ended by itself");
        }
        // Fall into the middle of whatever it does: the work of a round is long compared with these steps.
        std::thread::sleep(std::time::Duration::from_millis(run as u64));
        child.kill().unwrap();
        child.wait().unwrap();
        while take(&mut acknowledged) {}

        let store = Store::open(dir.path()).unwrap();
        let records = store.database().repository(&RECORDS).unwrap();
        let secrets = store.database().repository(&SECRETS).unwrap();
        for (i, digest) in &acknowledged {
            assert_eq!(records.get(i.to_be_bytes()).unwrap(), Some((*i, payload(*i))));
            assert_eq!(store.blobs().read(digest).unwrap(), blob(*i));
            let secret = secrets.get_erasable(store.erasable(), i.to_be_bytes());
            assert_eq!(
                secret.is_err(),
                i % 2 == 0,
                "erased keys stay erased, others stay"
            );
        }
        let newest = acknowledged.last().unwrap().0;
        let left = store.database().repository(&LEFT).unwrap().get("n").unwrap();
        let right = store.database().repository(&RIGHT).unwrap().get("n").unwrap();
        assert_eq!(left, right, "a batch is there entirely or not at all");
        assert!(left >= Some(newest));
        for record in records.iter() {
            record.unwrap();
        }
    }
}
