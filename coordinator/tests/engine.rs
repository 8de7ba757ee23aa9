//! The engine on a real store: what is accepted is there after a restart, and what is refused changes nothing.

#![allow(clippy::unwrap_used)] // A test that cannot set itself up has failed.

use galen_coordinator::rounds::engine::Engine;
use galen_core::study::{Card, FrozenStudy, STUDY_SIGNATURE, Study};
use galen_core::{Clock, Code, Digest, ManualClock, PartyId, SigningKey};
use galen_net::Encoded;
use galen_net::protocol::{AttemptPhase, BlobKind, Item, Response, Statement, StudyPhase};
use galen_store::Store;
use galen_sums::audit::{AuditEvent, AuditLine, Chain, Checker};
use galen_sums::authored::{CONFIRMATION, INCARNATION, ROUND_RECORD};
use galen_sums::incarnation::MAX_INCARNATIONS;
use galen_sums::record::{OneRoundKey, RoundId, RoundRecord};
use galen_sums::roster::Roster;
use galen_sums::statement::{RELEASE, Release};
use galen_sums::{Confirmation, Incarnation};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const ID: RoundId = RoundId { round: 0, attempt: 0 };

struct Member {
    name: PartyId,
    signing: SigningKey,
}

struct Scene {
    dir: tempfile::TempDir,
    study: FrozenStudy,
    coordinator: Vec<u8>,
    members: Vec<Member>,
    clock: Arc<ManualClock>,
}

fn nonce(name: &PartyId) -> Digest {
    Digest::of(format!("incarnation of {name}").as_bytes())
}

fn card(name: &PartyId, signing: &SigningKey) -> Card {
    let of = |what: &str| Digest::of(format!("{what} of {name}").as_bytes());
    Card {
        name: name.clone(),
        certificate: of("certificate"),
        signing: signing.public(),
        sealing: of("sealing"),
    }
}

impl Scene {
    fn new() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/studies/heart/study.toml");
        let study: Study = galen_core::config::load(&path).unwrap();
        let coordinator = SigningKey::generate().unwrap();
        let member = |name: &PartyId| Member {
            name: name.clone(),
            signing: SigningKey::generate().unwrap(),
        };
        let members: Vec<_> = study.party.iter().map(|m| member(&m.name)).collect();
        let cards = members.iter().map(|m| card(&m.name, &m.signing)).collect();
        let own = card(&PartyId::new("coordinator").unwrap(), &coordinator);
        Self {
            dir: tempfile::tempdir().unwrap(),
            study: FrozenStudy::freeze(study, own, cards).unwrap(),
            coordinator: coordinator.to_pkcs8().to_vec(),
            members,
            clock: Arc::new(ManualClock::at(1_000_000)),
        }
    }

    /// A fresh engine on the same folder, as after a restart.
    fn engine(&self) -> Engine {
        let store = Store::open(self.dir.path()).unwrap();
        let signing = SigningKey::from_pkcs8(&self.coordinator).unwrap();
        Engine::open(
            self.study.clone(),
            signing,
            store,
            Arc::<ManualClock>::clone(&self.clock),
        )
        .unwrap()
    }

    fn consent(&self, engine: &Engine, member: &Member) {
        let digest = self.study.digest();
        let consent = member.signing.sign(STUDY_SIGNATURE, &digest, &digest).unwrap();
        engine.consent(&member.name, &consent).unwrap();
    }

    /// Every custodian says its incarnation, and the others confirm it.
    fn introduce(&self, engine: &Engine) {
        let study = self.study.digest();
        for member in &self.members {
            let said = Incarnation {
                custodian: member.name.clone(),
                nonce: nonce(&member.name),
                seq: 1,
            };
            let signed = member.signing.sign(INCARNATION, &study, &said).unwrap();
            engine.post(&member.name, Statement::Incarnation(signed)).unwrap();
        }
        for member in &self.members {
            for other in self.members.iter().filter(|other| other.name != member.name) {
                let word = Confirmation {
                    custodian: other.name.clone(),
                    nonce: nonce(&other.name),
                    newest: None,
                };
                let signed = member.signing.sign(CONFIRMATION, &study, &word).unwrap();
                engine
                    .post(&member.name, Statement::Confirmation(signed))
                    .unwrap();
            }
        }
    }

    fn incarnation(&self, member: &Member, number: usize) -> Statement {
        let said = Incarnation {
            custodian: member.name.clone(),
            nonce: Digest::of(format!("start {number}").as_bytes()),
            seq: number as u64,
        };
        let study = self.study.digest();
        Statement::Incarnation(member.signing.sign(INCARNATION, &study, &said).unwrap())
    }

    fn key(&self, member: &Member, attempt: u32) -> Statement {
        let statement = OneRoundKey {
            round: RoundId { round: 0, attempt },
            custodian: member.name.clone(),
            key: Digest::of(member.name.as_str().as_bytes()).0,
            incarnation: nonce(&member.name),
            seq: 2,
        };
        Statement::RoundKey(
            statement
                .sign(&member.signing, &self.study.digest())
                .unwrap()
                .statement,
        )
    }
}

#[test]
fn consents_and_keys_survive_restarts_and_the_record_is_the_same_after() {
    let scene = Scene::new();
    for member in &scene.members {
        // A restart between any two.
        let engine = scene.engine();
        engine.drive().unwrap();
        assert!(
            matches!(engine.view(0).study, StudyPhase::Frozen { ref missing } if missing.contains(&member.name))
        );
        let early = engine.post(&member.name, scene.key(member, 0)).unwrap_err();
        assert_eq!(early.code, Code::StudyInactive);
        scene.consent(&engine, member);
    }
    {
        let engine = scene.engine();
        engine.drive().unwrap();
        assert!(
            engine.view(0).attempt.is_none(),
            "custodians introduce themselves first"
        );
        scene.introduce(&engine);
    }
    for member in &scene.members {
        let engine = scene.engine();
        engine.drive().unwrap();
        let attempt = engine.view(0).attempt.unwrap();
        assert_eq!(
            (attempt.phase, attempt.round, attempt.attempt),
            (AttemptPhase::Announced, 0, 0)
        );
        assert!(attempt.awaiting.contains(&member.name));
        engine.post(&member.name, scene.key(member, 0)).unwrap();
        engine.post(&member.name, scene.key(member, 0)).unwrap();
    }
    let record = {
        let engine = scene.engine();
        engine.drive().unwrap();
        assert_eq!(engine.view(0).attempt.unwrap().phase, AttemptPhase::Collecting);
        engine
            .fetch(&scene.members[0].name, ID, Item::Record, None)
            .unwrap()
            .found
    };
    let engine = scene.engine();
    assert_eq!(
        engine
            .fetch(&scene.members[0].name, ID, Item::Record, None)
            .unwrap()
            .found,
        record
    );
    assert!(engine.contribution_len().is_some());
}

#[test]
fn what_does_not_fit_is_refused_with_its_code_and_changes_nothing() {
    let scene = Scene::new();
    let engine = scene.engine();
    let [first, second, ..] = scene.members.as_slice() else {
        panic!("the study has four parties")
    };
    let digest = scene.study.digest();
    let other = Digest::of(b"another study");
    for consent in [
        first.signing.sign(STUDY_SIGNATURE, &other, &digest).unwrap(),
        second.signing.sign(STUDY_SIGNATURE, &digest, &digest).unwrap(),
        first.signing.sign("another statement", &digest, &digest).unwrap(),
    ] {
        assert_eq!(
            engine.consent(&first.name, &consent).unwrap_err().code,
            Code::BadSignature
        );
    }
    let consent = first.signing.sign(STUDY_SIGNATURE, &digest, &other).unwrap();
    assert_eq!(
        engine.consent(&first.name, &consent).unwrap_err().code,
        Code::WrongStudy
    );
    scene
        .members
        .iter()
        .for_each(|member| scene.consent(&engine, member));
    scene.introduce(&engine);
    engine.drive().unwrap();
    let before = engine.state();
    let refused = |statement: Statement| engine.post(&first.name, statement).unwrap_err().code;
    assert_eq!(refused(scene.key(second, 0)), Code::BadSignature);
    assert_eq!(refused(scene.key(first, 1)), Code::WrongRound);
    let release = Release { model: other };
    let release = first.signing.sign(RELEASE, &digest, &release).unwrap();
    assert_eq!(refused(Statement::Release(release)), Code::WrongPhase);
    assert_eq!(engine.state(), before);
    assert!(engine.fetch(&first.name, ID, Item::Answers, None).is_err());
    assert_eq!(
        engine.may_read(&first.name, &other).unwrap_err().code,
        Code::BlobUnknown
    );
}

#[test]
fn blobs_are_for_those_they_concern_and_go_when_the_study_ends() {
    let scene = Scene::new();
    let engine = scene.engine();
    let (asker, other) = (&scene.members[0].name, &scene.members[1].name);
    let blobs = engine.store().blobs();
    let put = |bytes: &[u8], kind: BlobKind| blobs.put_bytes(bytes, kind as u16, asker).unwrap();
    let answer = put(b"answer", BlobKind::Answer);
    assert!(engine.may_read(asker, &answer).is_ok());
    assert_eq!(
        engine.may_read(other, &answer).unwrap_err().code,
        Code::BlobForbidden
    );
    let ciphertexts = put(b"ciphertexts", BlobKind::Contribution);
    let sum = put(b"a sum that is not published", BlobKind::Sum);
    for secret in [
        ciphertexts,
        sum,
        put(b"model", BlobKind::Model),
        put(b"batch", BlobKind::Batch),
    ] {
        assert_eq!(
            engine.may_read(asker, &secret).unwrap_err().code,
            Code::BlobForbidden
        );
    }
    let begun = Digest::of(b"an upload that does not end");
    drop(blobs.begin(&begun, BlobKind::Contribution as u16, asker).unwrap());
    let query = Digest::of(b"a batch that goes on");
    let mut upload = blobs.begin(&query, BlobKind::Batch as u16, asker).unwrap();
    assert_eq!(blobs.partials().unwrap().len(), 2);
    engine.fail("a test ends it").unwrap();
    let left = blobs.partials().unwrap();
    assert_eq!(left.len(), 1);
    assert_eq!((left[0].digest, left[0].kind), (query, BlobKind::Batch as u16));
    upload.append(b"a batch that goes on").unwrap();
    upload.finish().unwrap();
    assert!(blobs.info(&query).unwrap().is_some());
    assert!(blobs.info(&ciphertexts).unwrap().is_none() && blobs.info(&sum).unwrap().is_none());
    assert!(blobs.info(&answer).unwrap().is_some());
    assert!(matches!(
        engine.view(0).study,
        StudyPhase::Closed { completed: false, .. }
    ));
}

#[test]
fn a_round_goes_on_with_three_of_four_keys_when_the_fourth_stands_still() {
    let scene = Scene::new();
    let engine = scene.engine();
    scene
        .members
        .iter()
        .for_each(|member| scene.consent(&engine, member));
    scene.introduce(&engine);
    engine.drive().unwrap();
    for member in &scene.members[..3] {
        engine.post(&member.name, scene.key(member, 0)).unwrap();
    }
    let patience = Duration::from_secs(scene.study.study().sums.patience_s.into());
    scene.clock.advance(patience - Duration::from_millis(1));
    engine.drive().unwrap();
    let encoded = |from| Encoded::new(&Response::View(engine.view(from))).unwrap();
    assert_eq!(engine.view(0).attempt.unwrap().phase, AttemptPhase::Announced);
    // What is kept for all that ask is of this state and of the round asked for, also the second time.
    for from in [0, 1, 0, 7, 1] {
        assert_eq!(engine.encoded_view(from).unwrap(), encoded(from));
    }
    scene.clock.advance(Duration::from_millis(1));
    engine.drive().unwrap();
    assert_eq!(engine.view(0).attempt.unwrap().phase, AttemptPhase::Collecting);
    assert_eq!(engine.encoded_view(0).unwrap(), encoded(0));
    let late = engine
        .post(&scene.members[3].name, scene.key(&scene.members[3], 0))
        .unwrap_err();
    assert_eq!(late.code, Code::WrongPhase);
}

/// The log of an engine, verified; what it tells keeps the rules of the study.
fn log(scene: &Scene, engine: &Engine) -> (Chain, Vec<AuditLine>) {
    let coordinator = &scene.study.coordinator().signing;
    let mut chain = Chain::new(scene.study.digest(), *coordinator);
    let lines = chain.extend(&engine.audit(0).unwrap()).unwrap();
    let mut checker = Checker::new(Arc::new(Roster::from_study(&scene.study).unwrap()));
    lines.iter().for_each(|line| checker.read(line));
    let report = checker.finish(*chain.head());
    assert!(report.is_consistent(), "{}", report.text());
    (chain, lines)
}

#[test]
fn the_audit_log_tells_what_happened_and_its_head_stands_in_the_record() {
    let scene = Scene::new();
    for member in &scene.members {
        scene.consent(&scene.engine(), member);
        // Once is enough.
        scene.consent(&scene.engine(), member);
    }
    let engine = scene.engine();
    let (_, lines) = log(&scene, &engine);
    assert_eq!(lines.len(), scene.members.len() + 1);
    assert_eq!(lines.last().unwrap().event, AuditEvent::Activated);
    assert!(lines.iter().all(|line| line.time_ms == scene.clock.now_ms()));
    scene.introduce(&engine);
    let (before, _) = log(&scene, &engine);
    engine.drive().unwrap();
    scene.clock.advance(Duration::from_secs(1));
    for member in &scene.members {
        engine.post(&member.name, scene.key(member, 0)).unwrap();
    }
    engine.drive().unwrap();
    let record = engine
        .fetch(&scene.members[0].name, ID, Item::Record, None)
        .unwrap()
        .found
        .remove(0)
        .1;
    let coordinator = &scene.study.coordinator().signing;
    let record: RoundRecord = record
        .open(ROUND_RECORD, &scene.study.digest(), coordinator)
        .unwrap();
    assert_eq!(record.audit, *before.head(), "the head when the record was fixed");
    let (_, lines) = log(&scene, &engine);
    let told = AuditEvent::Record {
        id: RoundId { round: 0, attempt: 0 },
        purpose: record.purpose,
        record: record.digest().unwrap(),
        base: record.base,
        standing: BTreeMap::new(),
    };
    assert_eq!(
        lines.last().map(|line| (&line.event, line.time_ms)),
        Some((&told, 1_001_000))
    );

    // A second, different key is refused and told once, however often it is sent; what only came late is not told.
    let member = &scene.members[0];
    let forged = scene.key(&scene.members[1], 0);
    for _ in 0..3 {
        assert_eq!(
            engine.post(&member.name, forged.clone()).unwrap_err().code,
            Code::BadSignature
        );
        assert_eq!(
            engine.post(&member.name, scene.key(member, 1)).unwrap_err().code,
            Code::WrongRound
        );
    }
    let (_, lines) = log(&scene, &engine);
    let refused = lines.iter().filter(
        |line| matches!(&line.event, AuditEvent::Refused { party, code: 1301, .. } if *party == member.name),
    );
    let introduced = scene.members.len() * scene.members.len();
    assert_eq!(
        (refused.count(), lines.len()),
        (1, scene.members.len() + introduced + 3)
    );

    engine.fail("the operator ended it").unwrap();
    drop(engine);
    let engine = scene.engine();
    let (_, lines) = log(&scene, &engine);
    assert!(
        matches!(&lines.last().unwrap().event, AuditEvent::Closed { completed: false, reason } if reason == "the operator ended it")
    );
    assert_eq!(engine.audit(lines.len() as u64 - 1).unwrap().len(), 1);
    assert_eq!(engine.audit(lines.len() as u64).unwrap(), []);
}

/// A custodian that begins one incarnation after the other fills nobody's disk, and is told what to do.
#[test]
fn incarnations_are_bounded_for_each_custodian_and_over_restarts() {
    let scene = Scene::new();
    let (member, other) = (&scene.members[0], &scene.members[1]);
    let mut engine = scene.engine();
    for number in 0..MAX_INCARNATIONS {
        engine
            .post(&member.name, scene.incarnation(member, number))
            .unwrap();
        if number == MAX_INCARNATIONS / 2 {
            drop(engine);
            engine = scene.engine();
        }
    }
    let lines = engine.state().incarnations[&member.name].clone();
    let refusal = engine
        .post(&member.name, scene.incarnation(member, MAX_INCARNATIONS))
        .unwrap_err();
    assert_eq!(refusal.code, Code::TooManyIncarnations);
    assert!(refusal.to_string().contains("successor study"), "{refusal}");
    // The last one stands, may be said again, and is no other custodian's matter.
    assert_eq!(engine.state().incarnations[&member.name], lines);
    engine
        .post(&member.name, scene.incarnation(member, MAX_INCARNATIONS - 1))
        .unwrap();
    engine.post(&other.name, scene.incarnation(other, 0)).unwrap();
}
