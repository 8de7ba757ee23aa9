use super::*;
use crate::testing;
use crate::vault::{Item, Vault};
use galen_core::study::FrozenStudy;
use galen_store::Store;
use galen_sums::RoundId;

const PASSPHRASE: &[u8] = b"a passphrase for tests";

struct Case {
    temp: tempfile::TempDir,
    home: Home,
    identity: Identity,
}

impl Case {
    /// A party that has signed the small study.
    fn signed() -> Self {
        let case = Self::fresh();
        let study = testing::frozen(&[case.identity.card()]);
        let config = Config::load(&case.home).unwrap();
        let text = study.to_toml().unwrap();
        consent::sign(&case.home, &config, &case.identity, &study, text.as_bytes()).unwrap();
        case
    }

    fn fresh() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("a")).unwrap();
        std::fs::write(home.config(), crate::config::SAMPLE).unwrap();
        let identity = Identity::create(&home, testing::name("a")).unwrap();
        Self { temp, home, identity }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    fn write(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        let backup = Backup::collect(&self.home, 5).unwrap();
        std::fs::write(&path, backup.seal(PASSPHRASE).unwrap()).unwrap();
        path
    }
}

#[test]
fn a_party_comes_back_with_its_keys_and_its_signed_study() {
    let case = Case::signed();
    let file = case.write("backup");
    let backup = Backup::open(&file, PASSPHRASE).unwrap();
    let contents = backup.contents().unwrap();
    let study = testing::frozen(&[case.identity.card()]);
    assert_eq!(contents.party, testing::name("a"));
    assert_eq!(contents.study.unwrap().digest, study.digest());
    assert_eq!((contents.applied, contents.made_ms), (None, 5));
    assert_eq!(contents.keys, identity::FILES);
    let home = backup.restore(&case.path("new"), 9).unwrap();
    let restored = Identity::load(&Home::open(&case.path("new")).unwrap()).unwrap();
    assert_eq!(restored.card(), case.identity.card());
    let config = Config::load(&home).unwrap();
    let signed = consent::signed_study(&config).unwrap();
    consent::load(&home, &signed, &restored).unwrap();
    let mark = Restored::read(&home).unwrap().unwrap();
    assert_eq!((mark.backup_ms, mark.restored_ms), (5, 9));
    assert_eq!(Restored::read(&case.home).unwrap(), None);
    #[cfg(unix)]
    for entry in std::fs::read_dir(home.keys()).unwrap() {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o077, 0);
    }
    // A party that has signed nothing has keys to lose, too.
    let fresh = Case::fresh();
    let backup = Backup::open(&fresh.write("backup"), PASSPHRASE).unwrap();
    let home = backup.restore(&fresh.path("new"), 9).unwrap();
    assert!(!home.consent().exists() && Restored::read(&home).unwrap().is_some());
}

#[test]
fn nothing_is_overwritten() {
    let case = Case::signed();
    let backup = Backup::open(&case.write("backup"), PASSPHRASE).unwrap();
    let refused = |path: &Path| {
        let error = backup.restore(path, 9).unwrap_err();
        assert!(
            matches!(error, PartyError::Backup(BackupError::Occupied { .. })),
            "{error}"
        );
    };
    let before = std::fs::read(case.home.card()).unwrap();
    refused(&case.path("a"));
    assert_eq!(std::fs::read(case.home.card()).unwrap(), before);
    std::fs::create_dir(case.path("other")).unwrap();
    std::fs::write(case.path("other/notes.txt"), "mine").unwrap();
    refused(&case.path("other"));
    assert_eq!(std::fs::read_dir(case.path("other")).unwrap().count(), 1);
    refused(&case.path("backup"));
    std::fs::create_dir(case.path("empty")).unwrap();
    backup.restore(&case.path("empty"), 9).unwrap();
}

/// A configuration may put the study outside of the folder, where another one may lie.
#[test]
fn a_study_elsewhere_is_not_overwritten_either() {
    let case = Case::signed();
    let elsewhere = case.path("shared-study.toml");
    std::fs::copy(case.path("a/study.toml"), &elsewhere).unwrap();
    let text = std::fs::read_to_string(case.home.config()).unwrap();
    let line = format!("study = {}", toml::Value::from(elsewhere.display().to_string()));
    std::fs::write(case.home.config(), text.replace("study = \"study.toml\"", &line)).unwrap();
    let backup = Backup::open(&case.write("backup"), PASSPHRASE).unwrap();
    backup.restore(&case.path("same"), 9).unwrap();
    std::fs::write(&elsewhere, "another").unwrap();
    let error = backup.restore(&case.path("new"), 9).unwrap_err();
    assert!(error.to_string().contains("another study"), "{error}");
    assert_eq!(std::fs::read(&elsewhere).unwrap(), b"another");
    assert!(Home::open(&case.path("new")).is_err(), "half a party is none");
}

/// What must not outlive its round is not in a backup, nor is the key under which it lies on the disk.
#[test]
fn no_secret_of_a_round_is_in_a_backup() {
    let case = Case::signed();
    let secret = [0xA5; 32];
    let storage_key = {
        let store = Store::open(&case.home.store()).unwrap();
        let vault = Vault::open(&store).unwrap();
        let id = RoundId { round: 0, attempt: 0 };
        let mut batch = store.database().batch();
        for item in [Item::OneRoundSecret, Item::Header, Item::Ciphertext] {
            vault.put(&mut batch, id, &item, &secret).unwrap();
        }
        batch.commit().unwrap();
        vault.keep_values(0, &[i64::from_le_bytes([0xA5; 8]); 4]).unwrap();
        assert!(vault.get(id, &Item::OneRoundSecret).unwrap().is_some());
        std::fs::read(case.home.store().join("storage.key")).unwrap()
    };
    let content = postcard::to_stdvec(&Backup::collect(&case.home, 5).unwrap()).unwrap();
    let holds = |part: &[u8]| content.windows(part.len()).any(|window| window == part);
    assert!(
        holds(case.identity.signing.to_pkcs8()),
        "the look itself finds what is there"
    );
    assert!(!holds(&secret[..8]));
    assert!(!holds(&storage_key[storage_key.len() - 32..]));
    for entry in std::fs::read_dir(case.home.store().join("erasable")).unwrap() {
        assert!(!holds(&std::fs::read(entry.unwrap().path()).unwrap()));
    }
    // A restored party has another storage key: old images of the disk stay closed to it.
    let backup = Backup::open(&case.write("backup"), PASSPHRASE).unwrap();
    let home = backup.restore(&case.path("new"), 9).unwrap();
    assert!(!home.store().exists());
    let _store = Store::open(&home.store()).unwrap();
    assert_ne!(
        std::fs::read(home.store().join("storage.key")).unwrap(),
        storage_key
    );
}

#[test]
fn a_backup_of_another_party_or_of_other_keys_is_told() {
    let (case, other) = (Case::signed(), Case::signed());
    let backup = Backup::open(&case.write("backup"), PASSPHRASE).unwrap();
    backup.check_is(&case.identity.card()).unwrap();
    backup
        .check_member(&testing::frozen(&[case.identity.card()]))
        .unwrap();
    let refused = |result: Result<(), PartyError>| {
        let error = result.unwrap_err();
        assert_eq!(error.code(), "P114", "{error}");
    };
    refused(backup.check_is(&other.identity.card()));
    refused(backup.check_member(&testing::frozen(&[])));
}

/// Whoever knows the passphrase may put together what does not belong together.
#[test]
fn a_backup_that_contradicts_itself_is_refused() {
    let (case, other) = (Case::signed(), Case::signed());
    let refused = |change: fn(&mut Backup, &mut Backup), part: &str| {
        let mut backup = Backup::collect(&case.home, 5).unwrap();
        let mut donor = Backup::collect(&other.home, 5).unwrap();
        change(&mut backup, &mut donor);
        let path = case.path("mixed");
        std::fs::write(&path, backup.seal(PASSPHRASE).unwrap()).unwrap();
        let error = Backup::open(&path, PASSPHRASE).map(drop).unwrap_err();
        assert_eq!(error.code(), "P111", "{error}");
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(
        |a, b| std::mem::swap(&mut a.keys, &mut b.keys),
        "not those of its card",
    );
    refused(|a, _| a.keys.truncate(3), "is missing");
    refused(|a, b| std::mem::swap(&mut a.study, &mut b.study), "other keys");
    refused(
        |a, _| {
            if let Some(study) = &mut a.study {
                study.consent.clear();
            }
        },
        "the consent in it",
    );
    let path = case.path("noise");
    std::fs::write(&path, envelope::seal(PASSPHRASE, b"noise").unwrap()).unwrap();
    let error = Backup::open(&path, PASSPHRASE).map(drop).unwrap_err();
    assert!(error.to_string().contains("cannot be decoded"), "{error}");
}

#[test]
fn a_study_that_was_not_signed_by_these_keys_makes_no_backup() {
    let case = Case::signed();
    let study: FrozenStudy = testing::frozen(&[]);
    let config = Config::load(&case.home).unwrap();
    std::fs::write(&config.study, study.to_toml().unwrap()).unwrap();
    let error = Backup::collect(&case.home, 5).map(drop).unwrap_err();
    assert!(matches!(error, PartyError::Consent(_)), "{error}");
}
