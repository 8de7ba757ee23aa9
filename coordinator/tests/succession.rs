//! The coordinator goes over to a successor study: in one step, between rounds, and never half.

#![allow(clippy::unwrap_used, clippy::panic)] // A test that cannot set itself up has failed.

use galen_coordinator::config::Config;
use galen_coordinator::home::Home;
use galen_coordinator::rounds::engine::succession::{self as store, SuccessionError};
use galen_coordinator::rounds::engine::{Engine, EngineError};
use galen_coordinator::succession::{self, Error};
use galen_core::study::{Card, Draft, FrozenStudy, Role, STUDY_SIGNATURE, Study};
use galen_core::{Digest, ManualClock, PartyId, SigningKey};
use galen_models::agenda;
use galen_net::protocol::{AttemptPhase, Item, Statement, StudyPhase};
use galen_store::Store;
use galen_sums::authored::{CONFIRMATION, INCARNATION};
use galen_sums::record::{OneRoundKey, RoundId};
use galen_sums::{Confirmation, Incarnation};
use std::path::Path;
use std::sync::Arc;

struct Member {
    card: Card,
    signing: SigningKey,
}

impl Member {
    fn new(name: &str) -> Self {
        let signing = SigningKey::generate().unwrap();
        let of = |what: &str| Digest::of(format!("{what} of {name}").as_bytes());
        let card = Card {
            name: PartyId::new(name).unwrap(),
            certificate: of("certificate"),
            signing: signing.public(),
            sealing: of("sealing"),
        };
        Self { card, signing }
    }
}

fn nonce(member: &Member) -> Digest {
    Digest::of(format!("incarnation of {}", member.card.name).as_bytes())
}

/// Every custodian says its incarnation, and the others confirm it.
fn introduce(engine: &Engine, study: &FrozenStudy, members: &[&Member]) {
    let study = study.digest();
    for member in members {
        let said = Incarnation {
            custodian: member.card.name.clone(),
            nonce: nonce(member),
            seq: 1,
        };
        let signed = member.signing.sign(INCARNATION, &study, &said).unwrap();
        engine
            .post(&member.card.name, Statement::Incarnation(signed))
            .unwrap();
    }
    for member in members {
        for other in members.iter().filter(|other| other.card.name != member.card.name) {
            let word = Confirmation {
                custodian: other.card.name.clone(),
                nonce: nonce(other),
                newest: None,
            };
            let signed = member.signing.sign(CONFIRMATION, &study, &word).unwrap();
            engine
                .post(&member.card.name, Statement::Confirmation(signed))
                .unwrap();
        }
    }
}

struct Scene {
    _dir: tempfile::TempDir,
    home: Home,
    config: Config,
    study: FrozenStudy,
    members: Vec<Member>,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (home, own) = Home::init(&dir.path().join("coordinator")).unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart/study.toml");
        let study: Study = galen_core::config::load(&path).unwrap();
        let members: Vec<_> = study.party.iter().map(|m| Member::new(m.name.as_str())).collect();
        let cards = members.iter().map(|member| member.card.clone()).collect();
        let study = FrozenStudy::freeze(study, own, cards).unwrap();
        let config = home.config().unwrap();
        std::fs::write(home.study_path(&config), study.to_toml().unwrap()).unwrap();
        Self {
            _dir: dir,
            home,
            config,
            study,
            members,
        }
    }

    fn store(&self) -> Store {
        Store::open(&self.home.store_path()).unwrap()
    }

    fn open(&self, study: &FrozenStudy) -> Result<Engine, EngineError> {
        let clock = Arc::new(ManualClock::at(1_000_000));
        Engine::open(study.clone(), self.home.signing().unwrap(), self.store(), clock)
    }

    fn consent(engine: &Engine, study: &FrozenStudy, member: &Member) {
        let digest = study.digest();
        let consent = member.signing.sign(STUDY_SIGNATURE, &digest, &digest).unwrap();
        engine.consent(&member.card.name, &consent).unwrap();
    }

    /// The round is collecting under the old study.
    fn collecting(&self) {
        let engine = self.open(&self.study).unwrap();
        for member in &self.members {
            Self::consent(&engine, &self.study, member);
        }
        let members: Vec<&Member> = self.members.iter().collect();
        introduce(&engine, &self.study, &members);
        engine.drive().unwrap();
        for member in &self.members {
            let key = OneRoundKey {
                round: RoundId { round: 0, attempt: 0 },
                custodian: member.card.name.clone(),
                key: member.card.sealing.0,
                incarnation: nonce(member),
                seq: 2,
            };
            let signed = key.sign(&member.signing, &self.study.digest()).unwrap().statement;
            engine
                .post(&member.card.name, Statement::RoundKey(signed))
                .unwrap();
        }
        engine.drive().unwrap();
        let attempt = engine.view(0).attempt.unwrap();
        assert_eq!(attempt.phase, AttemptPhase::Collecting);
    }

    /// Zurich leaves, Basel joins.
    fn draft(&self, basel: &Member) -> Draft {
        let mut draft = Draft::of(&self.study, 0, agenda::first_state(&self.study));
        assert!(draft.remove(&PartyId::new("zurich").unwrap()));
        draft.add(
            basel.card.clone(),
            String::new(),
            vec![Role::Contributor, Role::Custodian],
        );
        draft
    }

    fn file(&self) -> FrozenStudy {
        self.home.study(&self.config).unwrap()
    }
}

#[test]
fn the_successor_begins_with_the_round_that_the_old_study_did_not_finish() {
    let scene = Scene::new();
    scene.collecting();
    let basel = Member::new("basel");
    let new = scene.draft(&basel).freeze(&scene.study).unwrap();
    succession::adopt(&scene.home, &scene.config, &new).unwrap();
    assert_eq!(scene.file(), new);
    assert_eq!(
        FrozenStudy::load(&scene.home.former_path(1)).unwrap(),
        scene.study
    );
    let engine = scene.open(&new).unwrap();
    let [former] = engine.former() else { panic!() };
    assert_eq!(
        (former.study, former.version, former.rounds),
        (scene.study.digest(), 1, 0)
    );
    assert!(
        former.reason.starts_with("succeeded by version 2"),
        "{}",
        former.reason
    );
    let view = engine.view(0);
    assert!(view.attempt.is_none());
    assert!(matches!(view.study, StudyPhase::Frozen { missing } if missing.len() == 4));
    // Nothing that was stated in the unfinished attempt is taken for the successor's.
    let first = &scene.members[0].card.name;
    assert!(
        engine
            .fetch(first, RoundId { round: 0, attempt: 0 }, Item::Record, None)
            .is_err()
    );
    let stay = scene.members.iter().filter(|m| m.card.name.as_str() != "zurich");
    let members: Vec<&Member> = stay.chain([&basel]).collect();
    for member in &members {
        assert!(engine.view(0).attempt.is_none());
        Scene::consent(&engine, &new, member);
        engine.drive().unwrap();
    }
    // The custodians begin anew with the study.
    assert!(engine.view(0).attempt.is_none() && engine.state().incarnations.is_empty());
    introduce(&engine, &new, &members);
    engine.drive().unwrap();
    let attempt = engine.state().attempt.unwrap();
    assert_eq!(
        (attempt.round, attempt.attempt, attempt.phase),
        (0, 0, AttemptPhase::Announced)
    );
    assert_eq!(attempt.base, new.predecessor().unwrap().state);
    assert!(attempt.keys.is_empty());
    drop(engine);
    // And from there to the next one.
    let (study, standing) = succession::standing(&scene.home, &scene.config).unwrap();
    assert_eq!((&study, standing.rounds, standing.state), (&new, 0, attempt.base));
}

#[test]
fn a_store_is_served_under_its_own_study_only() {
    let scene = Scene::new();
    scene.collecting();
    let new = scene.draft(&Member::new("basel")).freeze(&scene.study).unwrap();
    let refused = scene.open(&new).map(drop).unwrap_err();
    assert!(
        matches!(
            refused,
            EngineError::Succession(SuccessionError::OtherStudy { .. })
        ),
        "{refused}"
    );
    succession::adopt(&scene.home, &scene.config, &new).unwrap();
    let refused = scene.open(&scene.study).map(drop).unwrap_err();
    assert!(matches!(
        refused,
        EngineError::Succession(SuccessionError::OtherStudy { .. })
    ));
    let elsewhere = Scene::new();
    let refused = elsewhere.open(&new).map(drop).unwrap_err();
    assert!(matches!(
        refused,
        EngineError::Succession(SuccessionError::NoPast { .. })
    ));
}

#[test]
fn a_draft_that_the_study_has_passed_is_refused() {
    let scene = Scene::new();
    scene.collecting();
    let mut draft = scene.draft(&Member::new("basel"));
    draft.predecessor.rounds = 1;
    let ahead = draft.freeze(&scene.study).unwrap();
    let error = succession::adopt(&scene.home, &scene.config, &ahead).unwrap_err();
    assert!(
        matches!(error, Error::Succession(SuccessionError::Moved { .. })),
        "{error}"
    );
    let mut draft = scene.draft(&Member::new("basel"));
    draft.predecessor.state = Digest::of(b"another state");
    let other = draft.freeze(&scene.study).unwrap();
    assert!(succession::adopt(&scene.home, &scene.config, &other).is_err());
    assert_eq!(scene.file(), scene.study);
    // While the daemon runs, nothing is succeeded.
    let engine = scene.open(&scene.study).unwrap();
    let new = scene.draft(&Member::new("basel")).freeze(&scene.study).unwrap();
    let error = succession::adopt(&scene.home, &scene.config, &new).unwrap_err();
    assert!(matches!(error, Error::Store(_)), "{error}");
    assert!(engine.view(0).attempt.is_some());
}

/// The power goes before or after the store has gone over: the study file follows the store.
#[test]
fn after_a_crash_the_study_file_is_that_of_the_store() {
    let scene = Scene::new();
    scene.collecting();
    let new = scene.draft(&Member::new("basel")).freeze(&scene.study).unwrap();
    let successor = scene
        .home
        .study_path(&scene.config)
        .with_file_name("successor.toml");
    std::fs::write(&successor, new.to_toml().unwrap()).unwrap();
    succession::settle(&scene.home, &scene.config).unwrap();
    assert!(!successor.exists());
    assert_eq!(scene.file(), scene.study);
    scene.open(&scene.study).unwrap();
    std::fs::write(&successor, new.to_toml().unwrap()).unwrap();
    std::fs::create_dir_all(scene.home.former_path(1).parent().unwrap()).unwrap();
    std::fs::write(scene.home.former_path(1), scene.study.to_toml().unwrap()).unwrap();
    store::adopt(
        &scene.store(),
        &scene.study,
        &new,
        &scene.home.signing().unwrap(),
        5,
    )
    .unwrap();
    assert_eq!(scene.file(), scene.study);
    for _ in 0..2 {
        succession::settle(&scene.home, &scene.config).unwrap();
        assert!(!successor.exists());
        assert_eq!(scene.file(), new);
    }
    scene.open(&new).unwrap();
}

#[test]
fn a_held_round_is_not_announced() {
    let scene = Scene::new();
    let engine = scene.open(&scene.study).unwrap();
    engine.hold_before(0);
    for member in &scene.members {
        Scene::consent(&engine, &scene.study, member);
        engine.drive().unwrap();
    }
    introduce(&engine, &scene.study, &scene.members.iter().collect::<Vec<_>>());
    engine.drive().unwrap();
    assert!(engine.holds() && engine.view(0).attempt.is_none());
    engine.hold_before(1);
    engine.drive().unwrap();
    assert!(!engine.holds() && engine.view(0).attempt.is_some());
}
