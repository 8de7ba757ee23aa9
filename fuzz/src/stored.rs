//! What a daemon reads back from its own disk, which a backup, a disk fault or an intruder without the key may have changed.

use crate::core::{frozen_heart, signing_key, toml_again};
use crate::memory::bounded;
use crate::sums::custody_keys;
use crate::{HINTED, choose, heart, postcard_again, scratch_dir, scratch_file};
use galen_core::{Digest, PartyId};
use galen_party::query::patients::{self, Source};
use galen_store::{BlobInfo, Crypter, Repository, Store, Table};
use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

/// A store with one record and one blob.
struct Disk {
    store: Store,
    records: Repository<(u32, String)>,
    blob: Digest,
    file: PathBuf,
    crypter: Crypter,
}

const RECORDS: Table<(u32, String)> = Table::new("records", *b"RECO", 3);

static DISK: LazyLock<Disk> = LazyLock::new(|| {
    let dir = scratch_dir().join("store");
    // A key that never changes, so that a corpus of sealed bytes stays valid.
    fs::create_dir_all(&dir).unwrap();
    fs::write(
        dir.join("storage.key"),
        [b"GALENKY1".as_slice(), &[6; 32]].concat(),
    )
    .unwrap();
    let store = Store::open(&dir).unwrap();
    let owner = PartyId::new("h0").unwrap();
    let blob = store.blobs().put_bytes(&[9; 1000], 1, &owner).unwrap();
    let hex = blob.to_hex();
    Disk {
        records: store.database().repository(&RECORDS).unwrap(),
        file: dir.join("blobs").join(&hex[..1]).join(&hex),
        crypter: Crypter::load(&dir.join("storage.key")).unwrap(),
        blob,
        store,
    }
});

/// The key file: [`Crypter::load`].
fn key_file(data: &[u8]) {
    let path = scratch_file(data);
    if Crypter::load(&path).is_ok() {
        assert!(data.len() == 40 && data.starts_with(b"GALENKY1"));
    }
}

/// Sealed files, records and blob files in their stored form.
fn sealed(data: &[u8]) {
    let Some((&which, bytes)) = data.split_first() else {
        return;
    };
    // Opened before anything is counted.
    LazyLock::force(&DISK);
    match which % 3 {
        0 => {
            let opened = bounded(bytes, 1 << 12, 4, || DISK.crypter.open_file("state", bytes)).unwrap();
            assert!(opened.is_none_or(|content| content.len() + 28 == bytes.len()));
        }
        1 => {
            let read = bounded(bytes, HINTED, 8, || DISK.records.from_stored(b"key", bytes));
            assert!(read.is_ok() || !read.unwrap_err().to_string().is_empty());
        }
        _ => {
            fs::write(&DISK.file, bytes).unwrap();
            let read = DISK.store.blobs().read(&DISK.blob);
            assert!(read.is_err() || read.unwrap() == [9; 1000]);
        }
    }
}

/// The content of records and sealed files, as postcard, and of status files, as JSON: the first byte selects the type.
fn records(data: &[u8]) {
    let Some((&which, payload)) = data.split_first() else {
        return;
    };
    match which % 15 {
        0 => drop(postcard_again::<galen_coordinator::rounds::state::StudyState>(
            payload,
        )),
        1 => drop(postcard_again::<galen_coordinator::rounds::state::Published>(
            payload,
        )),
        2 => drop(postcard_again::<galen_party::sealed::OpenedSum>(payload)),
        3 => {
            if let Some(state) = postcard_again::<galen_party::sealed::State>(payload) {
                derived(&state.derived);
            }
        }
        4 => drop(postcard_again::<galen_party::traffic::Books>(payload)),
        5 => drop(postcard_again::<BlobInfo>(payload)),
        6 => drop(postcard_again::<galen_custody::LedgerState>(payload)),
        7 => json_again::<galen_party::status::Status>(payload),
        8 => json_again::<galen_coordinator::status::Status>(payload),
        9 => drop(postcard_again::<
            galen_coordinator::rounds::engine::succession::Lineage,
        >(payload)),
        10 => drop(postcard_again::<galen_coordinator::serving::QueryRecord>(payload)),
        11 => drop(postcard_again::<galen_party::contribute::Contribution>(payload)),
        12 => drop(postcard_again::<galen_party::custody::Verdict>(payload)),
        13 => backup(payload),
        _ => {
            if let Ok(text) = std::str::from_utf8(payload) {
                toml_again::<galen_party::restored::Restored>(text);
            }
        }
    }
}

/// A state that another member may have handed over: everything that is made from one.
fn derived(state: &galen_party::derive::Derived) {
    static STUDY: LazyLock<galen_core::study::Study> = LazyLock::new(heart);
    let (rounds, digest) = (state.applied(), state.digest());
    if state.verify(&STUDY, rounds, &digest).is_ok() {
        assert!(state.verify(&STUDY, rounds, &Digest::of(b"another")).is_err());
    }
    let _ = state.next_purpose(&STUDY);
    let _ = state.trained(&STUDY, None);
    let _ = state.preprocessor(&STUDY);
    let _ = state.histograms(&STUDY);
    let _ = state.released(&STUDY);
}

/// A backup: the file, and what is in it once its passphrase opened it.
fn backup(data: &[u8]) {
    use galen_party::backup::{Backup, envelope};
    // No input of the fuzzer has a checksum that fits, so the slow derivation of a key is never reached.
    let opened = bounded(data, 1 << 12, 2, || {
        envelope::open(b"correct horse battery", data)
    });
    assert!(opened.is_err());
    if let Some(backup) = postcard_again::<Backup>(data)
        && let Ok(contents) = backup.contents()
    {
        assert_eq!(contents.party, backup.card.name);
    }
}

fn json_again<T: serde::Serialize + serde::de::DeserializeOwned>(data: &[u8]) {
    let parsed: Result<T, _> = bounded(data, HINTED, 256, || serde_json::from_slice(data));
    let Ok(value) = parsed else { return };
    let written = serde_json::to_vec(&value).unwrap();
    let again: T = serde_json::from_slice(&written).unwrap();
    assert_eq!(serde_json::to_vec(&again).unwrap(), written);
}

/// Patients to be evaluated, whose class may be missing: [`patients::load`].
pub fn patients(data: &[u8]) {
    static STUDIES: LazyLock<[galen_core::study::Study; 2]> = LazyLock::new(|| {
        let mut other = heart();
        other.data.header = !other.data.header;
        [heart(), other]
    });
    let Some((&first, text)) = data.split_first() else {
        return;
    };
    let study = &STUDIES[usize::from(first & 1)];
    let path = scratch_file(text);
    match patients::load(&Source::Csv(path), study, &study.party[0].name) {
        Ok(cohort) => assert_eq!(cohort.numbers.len(), cohort.records.len()),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// A daemon's certificate and key: [`galen_net::Identity::load`]. A zero byte ends the key's file.
fn identity(data: &[u8]) {
    let (key, certificate) = data.split_at(data.iter().position(|byte| *byte == 0).unwrap_or(data.len()));
    let dir = scratch_dir();
    fs::write(dir.join("tls-key.pem"), key).unwrap();
    fs::write(
        dir.join("tls-certificate.pem"),
        certificate.strip_prefix(&[0]).unwrap_or(certificate),
    )
    .unwrap();
    if let Ok(identity) = galen_net::Identity::load(&dir) {
        assert_eq!(
            galen_net::Identity::load(&dir).unwrap().fingerprint(),
            identity.fingerprint()
        );
    }
}

/// What a daemon reads back.
pub fn stored(data: &[u8]) {
    choose(&[sealed, records], data);
}

/// Keys as they are stored: signing, receiving, one-round, storage and TLS keys.
pub fn keys(data: &[u8]) {
    choose(&[signing_key, custody_keys, key_file, identity], data);
}

/// Valid inputs of [`stored`], with their two selecting bytes.
pub fn examples() -> Vec<(&'static str, [u8; 2], Vec<u8>)> {
    let f = &*crate::federation::FEDERATION;
    let (digest, id) = (Digest::of(b"x"), f.round.id());
    let study = galen_coordinator::rounds::state::StudyState {
        consents: f.names.iter().cloned().collect(),
        attempt: Some(galen_coordinator::rounds::state::Attempt::announce(
            id.round, id.attempt, digest, 5, 6,
        )),
        ..Default::default()
    };
    let published = galen_coordinator::rounds::state::Published {
        attempt: 1,
        set: f.names.clone(),
        sum: digest,
        answers: vec![galen_coordinator::rounds::state::Answered {
            statement: digest,
            sealed: digest,
        }],
        result: digest,
        announced_ms: 1,
        published_ms: 2,
    };
    let sum = galen_party::sealed::OpenedSum {
        round: 1,
        attempt: 0,
        purpose: galen_core::study::Purpose::Training,
        contributors: f.names.clone(),
        sum: digest,
        result: digest,
        max_noise: 3,
        unchecked: Default::default(),
        noise_bound: 9,
        values: vec![-1, 5],
    };
    let state = galen_party::sealed::State {
        study: digest,
        derived: galen_party::derive::Derived::initial(&frozen_heart()),
        personal: None,
        security: None,
    };
    let info = BlobInfo {
        len: 9,
        kind: 1,
        owners: f.names.iter().cloned().collect(),
    };
    let ledger = galen_custody::rehearsal::fresh_ledger(Digest::of(b"incarnation"))
        .announce(id, f.secrets[0].public())
        .unwrap();
    let sums = |count: usize| (0..count as i64).map(|i| i << 20).collect::<Vec<i64>>();
    let statistics = galen_models::Statistics::values(&heart().data);
    let mut counts = sums(statistics);
    counts[..3].copy_from_slice(&[30, 12, 30]);
    let later = galen_party::sealed::State {
        derived: state
            .derived
            .apply(&heart(), &counts, &digest)
            .unwrap_or(state.derived.clone()),
        ..state.clone()
    };
    let former = galen_coordinator::rounds::engine::succession::Former {
        study: digest,
        version: 1,
        rounds: 3,
        certificates: vec![digest],
        reason: "succeeded".into(),
    };
    let lineage = galen_coordinator::rounds::engine::succession::Lineage {
        current: digest,
        former: vec![former],
    };
    let query = galen_coordinator::serving::QueryRecord {
        number: 3,
        party: f.names[0].clone(),
        model: digest,
        key: digest,
        batch: digest,
        starts: 1,
        accepted_ms: 5,
        outcome: Some((
            6,
            galen_coordinator::serving::Outcome::Failed(galen_core::Refusal::new(
                galen_core::Code::Busy,
                "later",
            )),
        )),
    };
    let contribution = galen_party::contribute::Contribution {
        state: galen_party::contribute::state::State::Sent,
        record: digest,
    };
    let verdict = galen_party::custody::Verdict::SeedsRefused {
        contributor: f.names[1].clone(),
        statement: f.signed_by(0, "domain", b"said"),
    };
    let restored = "format = 1\nbackup_ms = 5\nrestored_ms = 6\n";
    let record = DISK.records.to_stored(b"key", &(5, "text".to_owned())).unwrap();
    let file = DISK.crypter.seal_file("state", b"content").unwrap();
    let blob = fs::read(&DISK.file).unwrap();
    fn encoded<T: serde::Serialize>(value: &T) -> Vec<u8> {
        postcard::to_stdvec(value).unwrap()
    }
    vec![
        ("file", [0, 0], file),
        ("record", [0, 1], record),
        ("blob", [0, 2], blob),
        ("study", [1, 0], encoded(&study)),
        ("published", [1, 1], encoded(&published)),
        ("sum", [1, 2], encoded(&sum)),
        ("state", [1, 3], encoded(&state)),
        ("books", [1, 4], encoded(&galen_party::traffic::Books::default())),
        ("info", [1, 5], encoded(&info)),
        ("ledger", [1, 6], encoded(&ledger)),
        ("later", [1, 3], encoded(&later)),
        ("lineage", [1, 9], encoded(&lineage)),
        ("query", [1, 10], encoded(&query)),
        ("contribution", [1, 11], encoded(&contribution)),
        ("verdict", [1, 12], encoded(&verdict)),
        ("restored", [1, 14], restored.into()),
    ]
}
