use super::*;
use crate::derive::Derived;
use crate::handover;
use crate::sealed::OpenedSum;
use crate::testing;
use crate::vault::Item;
use galen_core::study::{Card, Draft, Purpose};
use galen_core::{Digest, PublicKey};

struct Case {
    temp: tempfile::TempDir,
    home: Home,
    config: Config,
    identity: Arc<Identity>,
    study: FrozenStudy,
    derived: Derived,
}

const SECRET: &[u8] = b"a one-round secret";

fn id(round: u32, attempt: u32) -> RoundId {
    RoundId { round, attempt }
}

fn card(name: &str) -> Card {
    let digest = |what: &str| Digest::of(format!("{what} of the new {name}").as_bytes());
    Card {
        name: testing::name(name),
        certificate: digest("certificate"),
        signing: PublicKey(digest("signing")),
        sealing: digest("sealing"),
    }
}

impl Case {
    /// A party that has opened the statistics, and has begun the next round.
    fn new() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(&temp.path().join("a")).unwrap();
        std::fs::write(home.config(), crate::config::SAMPLE).unwrap();
        let identity = Arc::new(Identity::create(&home, testing::name("a")).unwrap());
        let config = Config::load(&home).unwrap();
        let study = testing::frozen(&[identity.card()]);
        consent::sign(
            &home,
            &config,
            &identity,
            &study,
            study.to_toml().unwrap().as_bytes(),
        )
        .unwrap();
        let sums = vec![30, 12, 30, 5 << 20, 9 << 20];
        let derived = Derived::initial(&study)
            .apply(study.study(), &sums, &Digest::of(b"opening secret"))
            .unwrap();
        {
            let store = Store::open(&home.store()).unwrap();
            let sealed = Sealed::open(&home).unwrap();
            let state = State {
                study: study.digest(),
                derived: derived.clone(),
                security: None,
                personal: None,
            };
            sealed.put_state(&state).unwrap();
            sealed.put_sum(&sum(&derived, sums)).unwrap();
            let vault = Vault::open(&store).unwrap();
            let mut batch = store.database().batch();
            for item in [Item::OneRoundSecret, Item::KeyStatement, Item::Ciphertext] {
                vault.put(&mut batch, id(1, 2), &item, SECRET).unwrap();
            }
            batch.commit().unwrap();
            vault.keep_values(1, &[1, 2, 3]).unwrap();
        }
        Self {
            temp,
            home,
            config,
            identity,
            study,
            derived,
        }
    }

    /// The successor under which "d" joins.
    fn successor(&self) -> FrozenStudy {
        self.successor_after(1, self.derived.digest())
    }

    fn successor_after(&self, rounds: u32, state: Digest) -> FrozenStudy {
        let mut draft = Draft::of(&self.study, rounds, state);
        draft.add(card("d"), String::new(), vec![Role::Contributor, Role::Custodian]);
        draft.freeze(&self.study).unwrap()
    }

    fn sign(&self, new: &FrozenStudy) -> Result<(), PartyError> {
        sign(
            &self.home,
            &self.config,
            &self.identity,
            new,
            &new.to_toml().unwrap(),
        )
    }

    fn journal(&self, new: &FrozenStudy) -> Journal {
        let consent = self
            .identity
            .signing
            .sign(STUDY_SIGNATURE, &new.digest(), &new.digest())
            .unwrap();
        Journal {
            format: FORMAT,
            from: self.study.digest(),
            text: new.to_toml().unwrap(),
            consent: postcard::to_stdvec(&consent).unwrap(),
        }
    }

    fn write(&self, journal: &Journal) {
        std::fs::write(self.home.succession(), postcard::to_stdvec(journal).unwrap()).unwrap();
    }

    /// Everything that a party of the old study has, and nothing of the new one.
    fn assert_old(&self) {
        assert!(!self.home.succession().exists());
        assert_eq!(consent::signed_study(&self.config).unwrap(), self.study);
        consent::load(&self.home, &self.study, &self.identity).unwrap();
        let store = Store::open(&self.home.store()).unwrap();
        let vault = Vault::open(&store).unwrap();
        let read = vault.get(id(1, 2), &Item::Ciphertext).unwrap().unwrap();
        assert_eq!(read.as_slice(), SECRET);
        assert!(
            Sealed::open(&self.home)
                .unwrap()
                .state(&self.study.digest())
                .unwrap()
                .is_some()
        );
    }

    /// Everything that a party of the new study has, and nothing that must not outlive the old one.
    fn assert_new(&self, new: &FrozenStudy) {
        assert!(!self.home.succession().exists());
        assert_eq!(consent::signed_study(&self.config).unwrap(), *new);
        consent::load(&self.home, new, &self.identity).unwrap();
        let former = FrozenStudy::load(&self.home.former().join("v1.toml")).unwrap();
        assert_eq!(former, self.study);
        let store = Store::open(&self.home.store()).unwrap();
        let vault = Vault::open(&store).unwrap();
        assert_eq!(vault.oldest().unwrap(), (None, None));
        for item in [Item::OneRoundSecret, Item::KeyStatement, Item::Ciphertext] {
            assert!(vault.get(id(1, 2), &item).unwrap().is_none());
        }
        let sealed = Sealed::open(&self.home).unwrap();
        let state = sealed.state(&new.digest()).unwrap().unwrap();
        assert_eq!(state.derived, self.derived);
        assert_eq!(sealed.sums(0, 1).unwrap().len(), 1);
        // Attempts are counted anew.
        assert_eq!(custody::peek(&store).newest(), None);
    }
}

fn sum(derived: &Derived, values: Vec<i64>) -> OpenedSum {
    OpenedSum {
        round: 0,
        attempt: 0,
        purpose: Purpose::Statistics,
        contributors: vec![testing::name("a"), testing::name("b"), testing::name("c")],
        sum: Digest::of(b"sum"),
        result: derived.digest(),
        max_noise: 1,
        noise_bound: 9,
        unchecked: Default::default(),
        values,
    }
}

#[test]
fn a_successor_takes_the_place_of_the_study() {
    let case = Case::new();
    case.assert_old();
    let new = case.successor();
    case.sign(&new).unwrap();
    case.assert_new(&new);
    // There is no way back, and no other way.
    let text = case.study.to_toml().unwrap();
    let error = consent::sign(
        &case.home,
        &case.config,
        &case.identity,
        &case.study,
        text.as_bytes(),
    );
    assert!(matches!(error, Err(PartyError::Consent(_))));
    assert!(case.sign(&new).is_err());
    finish(&case.home).unwrap();
    assert_eq!(consent::signed_study(&case.config).unwrap(), new);
}

/// The power goes after any step: before the journal everything is old, after it everything becomes new.
#[test]
fn after_a_crash_it_is_one_or_the_other() {
    let before = Case::new();
    before.write(&before.journal(&before.successor()));
    std::fs::rename(
        before.home.succession(),
        before.home.succession().with_extension("tmp"),
    )
    .unwrap();
    finish(&before.home).unwrap();
    before.assert_old();
    for done in 0..5 {
        let case = Case::new();
        let new = case.successor();
        let journal = case.journal(&new);
        case.write(&journal);
        {
            let store = Store::open(&case.home.store()).unwrap();
            let predecessor = new.predecessor().unwrap();
            let steps: [&dyn Fn() -> Result<(), PartyError>; 4] = [
                &|| erase(&store, &case.identity, predecessor.rounds),
                &|| carry_over(&case.home, &journal.from, &new, predecessor),
                &|| keep_former(&case.home, &case.config, &journal.from),
                &|| {
                    consent::write(
                        &case.home,
                        &case.config,
                        journal.text.as_bytes(),
                        &journal.consent,
                    )
                },
            ];
            for step in &steps[..done] {
                step().unwrap();
            }
        }
        finish(&case.home).unwrap();
        case.assert_new(&new);
    }
}

#[test]
fn a_spoilt_journal_is_told_and_changes_nothing() {
    let case = Case::new();
    let new = case.successor();
    let spoilt: [fn(&mut Journal); 3] = [
        |journal| journal.consent.clear(),
        |journal| journal.format += 1,
        |journal| journal.text = journal.text.replacen("rounds = 1\n", "rounds = 0\n", 1),
    ];
    for spoil in spoilt {
        let mut journal = case.journal(&new);
        spoil(&mut journal);
        case.write(&journal);
        assert!(finish(&case.home).is_err());
        std::fs::remove_file(case.home.succession()).unwrap();
        case.assert_old();
    }
}

#[test]
fn what_was_opened_here_decides_what_is_signed() {
    let case = Case::new();
    let refused = |new: &FrozenStudy, part: &str| {
        let error = case.sign(new).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
        case.assert_old();
    };
    refused(&case.successor_after(0, Digest::of(b"state")), "a second time");
    refused(
        &case.successor_after(1, Digest::of(b"other")),
        "is not the one derived here",
    );
    let mut elsewhere = Draft::of(&case.successor(), 1, case.derived.digest());
    elsewhere.study.title.push('!');
    let elsewhere = elsewhere.freeze(&case.successor()).unwrap();
    refused(&elsewhere, "predecessor.study");
    // While a daemon serves the folder, nothing is signed.
    let store = Store::open(&case.home.store()).unwrap();
    assert!(matches!(case.sign(&case.successor()), Err(PartyError::Store(_))));
    drop(store);
    case.assert_old();
}

/// A contributor that is behind cannot catch up under the old study any more: it needs the state of another.
#[test]
fn who_is_behind_needs_the_state_of_another() {
    let case = Case::new();
    let new = case.successor_after(2, Digest::of(b"a state after two rounds"));
    case.sign(&new).unwrap();
    let sealed = Sealed::open(&case.home).unwrap();
    assert_eq!(sealed.any_state().unwrap(), None);
    assert_eq!(sealed.sums(0, 1).unwrap().len(), 1, "what was opened stays");
    assert!(handover::is_needed(&new, true, None));
    assert!(!handover::is_needed(&new, false, None) && !handover::is_needed(&case.study, true, None));
}

#[test]
fn what_a_custodian_may_have_opened_is_not_opened_again() {
    let case = Case::new();
    {
        let store = Store::open(&case.home.store()).unwrap();
        custody::answered_for_tests(&store, id(1, 2));
    }
    let error = case.sign(&case.successor()).unwrap_err();
    assert!(error.to_string().contains("may have opened round 1"), "{error}");
    case.assert_old();
}

#[test]
fn closing_erases_and_keeps_what_was_opened() {
    let case = Case::new();
    {
        let store = Store::open(&case.home.store()).unwrap();
        close(&store, &case.identity).unwrap();
        close(&store, &case.identity).unwrap();
        let vault = Vault::open(&store).unwrap();
        assert_eq!(vault.oldest().unwrap(), (None, None));
    }
    let sealed = Sealed::open(&case.home).unwrap();
    assert!(sealed.state(&case.study.digest()).unwrap().is_some());
    assert_eq!(sealed.sums(0, 1).unwrap().len(), 1);
    assert!(case.temp.path().exists());
}
