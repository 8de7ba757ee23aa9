//! Records: round trips, order, batches, and everything that must be refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use galen_store::{MAX_RECORD_BYTES, Store, StoreError, Table};

const NOTES: Table<String> = Table::new("notes", *b"NOTE", 1);
const COUNTS: Table<u64> = Table::new("counts", *b"COUN", 1);

#[test]
fn records_survive_reopening_in_order() {
    let dir = tempfile::tempdir().unwrap();
    {
        let store = Store::open(dir.path()).unwrap();
        let notes = store.database().repository(&NOTES).unwrap();
        notes.put("b", &"second".into()).unwrap();
        notes.put("a", &"first".into()).unwrap();
        notes.put("c/1", &"third".into()).unwrap();
        notes.put("c/2", &"gone".into()).unwrap();
        notes.delete("c/2").unwrap();
        notes.delete("never there").unwrap();
    }
    let store = Store::open(dir.path()).unwrap();
    let notes = store.database().repository(&NOTES).unwrap();
    let all: Vec<_> = notes.iter().map(Result::unwrap).collect();
    let expected = [("a", "first"), ("b", "second"), ("c/1", "third")];
    assert_eq!(all, expected.map(|(k, v)| (k.as_bytes().to_vec(), v.to_owned())));
    assert_eq!(notes.prefix(b"c/").count(), 1);
    assert_eq!(notes.last().unwrap(), Some((b"c/1".to_vec(), "third".to_owned())));
    assert_eq!(notes.get("c/2").unwrap(), None);
    assert!(notes.contains("a").unwrap() && !notes.contains("c/2").unwrap());
}

#[test]
fn a_batch_spans_tables_and_its_last_write_counts() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let notes = store.database().repository(&NOTES).unwrap();
    let counts = store.database().repository(&COUNTS).unwrap();
    notes.put("old", &"x".into()).unwrap();
    let mut batch = store.database().batch();
    batch.put(&notes, "n", &"1".into()).unwrap();
    batch.put(&notes, "n", &"2".into()).unwrap();
    batch.put(&counts, "n", &7).unwrap();
    batch.delete(&notes, "old");
    assert_eq!(notes.get("n").unwrap(), None, "nothing happens before commit");
    batch.commit().unwrap();
    assert_eq!(notes.get("n").unwrap().as_deref(), Some("2"));
    assert_eq!(counts.get("n").unwrap(), Some(7));
    assert_eq!(notes.get("old").unwrap(), None);
    store.database().batch().commit().unwrap();
    counts.put_all([("x", &1), ("y", &2)]).unwrap();
    assert_eq!(counts.iter().count(), 3);
}

#[test]
fn another_type_or_version_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let database = store.database();
    database
        .repository(&NOTES)
        .unwrap()
        .put("k", &"text".into())
        .unwrap();

    const OTHER_TYPE: Table<String> = Table::new("notes", *b"MEMO", 1);
    let error = database.repository(&OTHER_TYPE).unwrap().get("k").unwrap_err();
    assert!(
        matches!(&error, StoreError::WrongType { found, expected, .. } if found == "NOTE" && expected == "MEMO")
    );
    assert!(error.to_string().contains("notes") && error.to_string().contains("\"k\""));

    const NEWER: Table<String> = Table::new("notes", *b"NOTE", 2);
    let error = database.repository(&NEWER).unwrap().get("k").unwrap_err();
    assert!(matches!(
        error,
        StoreError::WrongVersion {
            found: 1,
            expected: 2,
            ..
        }
    ));

    const OTHER_SHAPE: Table<(u8, u64)> = Table::new("notes", *b"NOTE", 1);
    let error = database.repository(&OTHER_SHAPE).unwrap().get("k").unwrap_err();
    assert!(matches!(error, StoreError::Decode { .. }), "{error}");
}

#[test]
fn a_large_record_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let notes = store.database().repository(&NOTES).unwrap();
    let error = notes.put("k", &"x".repeat(MAX_RECORD_BYTES)).unwrap_err();
    assert!(matches!(error, StoreError::RecordTooLarge { .. }));
    // Close to the limit sled uses side files; such records must come back too.
    let large = "x".repeat(MAX_RECORD_BYTES - 8);
    notes.put("k", &large).unwrap();
    notes.put("l", &large).unwrap();
    drop((notes, store));
    let store = Store::open(dir.path()).unwrap();
    let notes = store.database().repository(&NOTES).unwrap();
    assert_eq!(notes.get("k").unwrap().unwrap(), large);
    assert_eq!(notes.get("l").unwrap().unwrap(), large);
}

#[test]
fn damaged_moved_and_foreign_records_name_table_and_key() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    store
        .database()
        .repository(&COUNTS)
        .unwrap()
        .put("k", &5)
        .unwrap();
    drop(store);

    // Behind the store's back: move the record to another key, flip its bits, cut it.
    // Sled's own threads may hold the file a moment longer than the store.
    let raw = std::iter::repeat_with(|| sled::open(dir.path().join("db")))
        .take(500)
        .find_map(|opened| {
            std::thread::sleep(std::time::Duration::from_millis(10));
            opened.ok()
        })
        .unwrap();
    let tree = raw.open_tree("counts").unwrap();
    let stored = tree.get("k").unwrap().unwrap();
    tree.insert("moved", stored.clone()).unwrap();
    let bits = stored.len();
    for i in 0..bits {
        let mut bad = stored.to_vec();
        bad[i] ^= 1;
        tree.insert(format!("bit{i}"), bad).unwrap();
        tree.insert(format!("cut{i}"), &stored[..i]).unwrap();
    }
    raw.flush().unwrap();
    drop((tree, raw));

    let store = Store::open(dir.path()).unwrap();
    let counts = store.database().repository(&COUNTS).unwrap();
    assert_eq!(counts.get("k").unwrap(), Some(5));
    let error = counts.get("moved").unwrap_err();
    assert!(
        matches!(&error, StoreError::Undecryptable { table, key } if table == "counts" && key == "moved"),
        "{error}"
    );
    for i in 0..bits {
        assert!(counts.get(format!("bit{i}")).is_err());
        assert!(counts.get(format!("cut{i}")).is_err());
    }
    drop((counts, store));

    // Under another master key.
    std::fs::remove_file(dir.path().join("storage.key")).unwrap();
    assert!(matches!(
        Store::open(dir.path()),
        Err(StoreError::KeyMissing { .. })
    ));
    galen_store::Crypter::create(&dir.path().join("storage.key")).unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = store
        .database()
        .repository(&COUNTS)
        .unwrap()
        .get("k")
        .unwrap_err();
    assert!(matches!(error, StoreError::Undecryptable { .. }), "{error}");
}

#[test]
fn a_second_opening_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let error = Store::open(dir.path()).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }));
    assert!(error.to_string().contains("stop the daemon"));
    let crypter = galen_store::Crypter::load(&dir.path().join("storage.key")).unwrap();
    let error = galen_store::Database::open(&dir.path().join("db"), crypter).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(store);
    Store::open(dir.path()).unwrap();
}

#[test]
fn values_are_not_stored_in_clear() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).unwrap();
    let notes = store.database().repository(&NOTES).unwrap();
    notes
        .put("visible key", &"a confidential diagnosis".into())
        .unwrap();
    drop((notes, store));
    let (mut key_seen, mut value_seen) = (false, false);
    for file in std::fs::read_dir(dir.path().join("db")).unwrap() {
        let path = file.unwrap().path();
        if path.is_file() {
            let bytes = std::fs::read(path).unwrap();
            let find = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w == needle);
            key_seen |= find(b"visible key");
            value_seen |= find(b"confidential");
        }
    }
    assert!(key_seen, "the search must be able to find what is there");
    assert!(!value_seen);
}
