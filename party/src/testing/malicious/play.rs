//! The real coordinator's engine with real parties, one of which may cheat.

use super::super::federation::{Federation, Member};
use crate::authentic::{self, Fetched};
use crate::contribute::Parcel;
use crate::contribute::values::{Sources, values};
use crate::custody::Verdict;
use crate::data::Patients;
use crate::derive::Derived;
use crate::opening::{Evidence, NotOpened, Opening, Verified};
use galen_coordinator::rounds::engine::Engine;
use galen_core::study::STUDY_SIGNATURE;
use galen_core::{Clock, Digest, ManualClock, PartyId, SigningKey};
use galen_net::protocol::{AttemptPhase, AttemptView, BlobKind, Item, Statement};
use galen_store::Store;
use galen_sums::audit::{AuditEvent, Chain, Checker};
use galen_sums::authored::INCARNATION;
use galen_sums::statement::{
    FINGERPRINT_REFUSED, FingerprintRefused, JUDGED, OPENED, OPENING_FAILED, Opened, OpeningFailed,
};
use galen_sums::{
    Authored, Challenge, ContributionHeader, Endorsement, Fingerprint, FingerprintStatement, Round, RoundId,
    SealedStatement,
};
use galen_training::Device;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// What a contributor sends in the place of what it should.
pub(super) type Spoil<'a> = &'a dyn Fn(&Federation, &Round, usize, Parcel) -> Parcel;

/// What a custodian answers in the place of what it should.
pub(super) type Lie = Box<dyn Fn(&Federation, &Round, usize, SealedStatement) -> SealedStatement>;

/// The values that contributors encrypted, by round and index.
pub(super) type Plain = Rc<RefCell<BTreeMap<(u32, usize), Vec<i64>>>>;

/// Sends what it should.
pub(super) fn honest(_: &Federation, _: &Round, _: usize, parcel: Parcel) -> Parcel {
    parcel
}

/// A study that is carried out.
pub(super) struct Play {
    pub(super) federation: Federation,
    pub(super) engine: Engine,
    pub(super) clock: Arc<ManualClock>,
    patients: Vec<Patients>,
    derived: Derived,
    /// What custodians do to their answers; nothing if all are honest.
    pub(super) lie: Option<Lie>,
    /// Who signs the fingerprint of nothing.
    pub(super) false_fingerprint: Option<usize>,
    /// The values that contributors encrypted, by round and index.
    pub(super) plain: Plain,
    /// The sums that were opened in published rounds.
    pub(super) sums: Vec<Vec<i64>>,
    /// What receivers made of the sum under way.
    opened: Option<Opening>,
    _temp: tempfile::TempDir,
}

impl Play {
    pub(super) fn new(federation: Federation) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_000_000));
        let signing = SigningKey::from_pkcs8(federation.coordinator.to_pkcs8()).unwrap();
        let store = Store::open(&temp.path().join("store")).unwrap();
        let time = Arc::clone(&clock) as Arc<dyn Clock>;
        let engine = Engine::open(federation.study.clone(), signing, store, time).unwrap();
        let study = federation.study.study();
        let patients = (0..).zip(&federation.members).map(|(seed, member)| {
            let path = temp.path().join("table.csv");
            super::super::write_table(&path, 40, seed);
            Patients::load(&path, study, &member.identity.name).unwrap()
        });
        let patients = patients.collect();
        let play = Self {
            derived: Derived::initial(&federation.study),
            federation,
            engine,
            clock,
            patients,
            lie: None,
            false_fingerprint: None,
            plain: Plain::default(),
            sums: Vec::new(),
            opened: None,
            _temp: temp,
        };
        play.begin();
        play
    }

    /// Everybody consents, and the custodians introduce themselves.
    fn begin(&self) {
        let digest = self.federation.study.digest();
        for member in &self.federation.members {
            let consent = member
                .identity
                .signing
                .sign(STUDY_SIGNATURE, &digest, &digest)
                .unwrap();
            self.engine.consent(&member.identity.name, &consent).unwrap();
        }
        for member in self.federation.custodians() {
            let said = member.custodian.incarnation().unwrap();
            assert!(
                said.open::<galen_sums::Incarnation>(self.federation.rounds.roster(), INCARNATION)
                    .is_ok()
            );
            self.post(member, Statement::Incarnation(said.statement)).unwrap();
        }
        for word in self.federation.introduce() {
            self.engine
                .post(&word.author, Statement::Confirmation(word.statement))
                .unwrap();
        }
    }

    fn post(&self, member: &Member, statement: Statement) -> Result<(), galen_core::Refusal> {
        self.engine.post(&member.identity.name, statement)
    }

    pub(super) fn fetch(&self, id: RoundId, item: Item) -> Vec<Authored> {
        let asker = &self.federation.members[0].identity.name;
        let page = self.engine.fetch(asker, id, item, None).unwrap();
        assert!(!page.more);
        page.found
            .into_iter()
            .map(|(author, statement)| Authored { author, statement })
            .collect()
    }

    pub(super) fn round(&self, id: RoundId) -> Round {
        let record = self.fetch(id, Item::Record).remove(0).statement;
        self.federation.rounds.open(id, &record).unwrap()
    }

    /// The attempt under way, once the engine has done what is due.
    pub(super) fn attempt(&self) -> Option<(RoundId, AttemptView)> {
        self.engine.drive().unwrap();
        let view = self.engine.view(0).attempt?;
        let id = RoundId {
            round: view.round,
            attempt: view.attempt,
        };
        Some((id, view))
    }

    /// Everybody does what the phase asks for; `cheat` changes what contributors send.
    pub(super) fn turn(&mut self, spoil: Spoil<'_>) {
        let Some((id, view)) = self.attempt() else { return };
        match view.phase {
            AttemptPhase::Announced => {
                for member in self.federation.custodians() {
                    let key = member.custodian.announce(id).unwrap();
                    self.post(member, Statement::RoundKey(key.statement)).unwrap();
                }
            }
            AttemptPhase::Collecting => self.contribute(id, &view.contributors, spoil),
            AttemptPhase::Certified => self.answer(id, &view),
            AttemptPhase::Opening => self.open(id, view.sum.unwrap()),
            AttemptPhase::Judging => self.judge(id, view.sum.unwrap()),
            AttemptPhase::Published | AttemptPhase::Abandoned => {}
            _ => self.custodians(id, &view),
        }
        let before = self.engine.view(0).published.len();
        self.engine.drive().unwrap();
        if self.engine.view(0).published.len() > before
            && let Some(opening) = self.opened.take()
        {
            self.derived = opening.derived;
            self.sums.push(opening.sum.values);
        }
    }

    /// Plays until an attempt is in a phase.
    pub(super) fn until_phase(&mut self, phase: AttemptPhase, spoil: Spoil<'_>) -> (RoundId, AttemptView) {
        for _ in 0..20 {
            let (id, view) = self.attempt().unwrap();
            if view.phase == phase {
                return (id, view);
            }
            self.turn(spoil);
        }
        panic!("{phase:?} was not reached");
    }

    /// Plays until the round is published.
    pub(super) fn until_published(&mut self, rounds: usize, spoil: Spoil<'_>) {
        for _ in 0..100 {
            if self.engine.view(0).published.len() >= rounds {
                return;
            }
            self.turn(spoil);
        }
        panic!("round {} is not published: {:?}", rounds - 1, self.engine.view(0));
    }

    /// The sum of what the members of a published round encrypted.
    pub(super) fn plain_sum(&self, round: u32) -> Vec<i64> {
        let set = self.engine.state().published[round as usize].set.clone();
        let plain = self.plain.borrow();
        let members = (0..)
            .zip(&self.federation.members)
            .filter(|(_, member)| set.contains(&member.identity.name));
        let values = members.map(|(index, _)| plain[&(round, index)].clone());
        let add = |sum: Vec<i64>, values: Vec<i64>| sum.iter().zip(values).map(|(s, v)| s + v).collect();
        values.reduce(add).unwrap()
    }

    fn contribute(&self, id: RoundId, asked: &[PartyId], spoil: Spoil<'_>) {
        let round = self.round(id);
        for (index, member) in self.federation.members.iter().enumerate() {
            let name = &member.identity.name;
            if !asked.contains(name) {
                continue;
            }
            let sources = Sources {
                study: self.federation.study.study(),
                party: name,
                patients: &self.patients[index],
                derived: &self.derived,
                personal: None,
                device: &Device::cpu(),
            };
            let compute = || {
                let values = values(sources, &mut |_| {}).unwrap().values;
                self.plain.borrow_mut().insert((id.round, index), values.clone());
                Ok(values)
            };
            let parcel = member.contributor.parcel(&round, compute).unwrap();
            let parcel = spoil(&self.federation, &round, index, parcel);
            let blobs = self.engine.store().blobs();
            blobs
                .put_bytes(&parcel.ciphertext, BlobKind::Contribution as u16, name)
                .unwrap();
            self.post(member, Statement::Contribution(parcel.header.statement))
                .unwrap();
        }
    }

    fn custodians(&self, id: RoundId, view: &AttemptView) {
        let round = self.round(id);
        for member in self.federation.custodians() {
            let custodian = &member.custodian;
            let sum = view.sum.unwrap_or_default();
            let said = match view.phase {
                AttemptPhase::Proposed => {
                    let headers = self.fetch(id, Item::Headers);
                    match custodian.check(&round, &headers, sum).unwrap().unwrap() {
                        Verdict::Checked(said) => Statement::Checked(said.statement),
                        Verdict::SeedsRefused { statement, .. } => {
                            Statement::SeedsRefused(statement.statement)
                        }
                    }
                }
                AttemptPhase::Endorsing => {
                    let headers = self.fetch(id, Item::Headers);
                    let said = custodian.endorse(&round, &headers, sum).unwrap().unwrap();
                    Statement::Endorsement(said.statement)
                }
                AttemptPhase::Disputed => {
                    let [headers, endorsements] =
                        [Item::Headers, Item::Endorsements].map(|item| self.fetch(id, item));
                    if !endorsements
                        .iter()
                        .any(|said| said.author == member.identity.name)
                    {
                        continue;
                    }
                    let answered = custodian.answered(id).unwrap();
                    let said = custodian
                        .check_keys(&round, &headers, &endorsements, &answered)
                        .unwrap();
                    self.upload(member, &said);
                    Statement::KeyCheck(said.said.statement)
                }
                AttemptPhase::Abandoning => match custodian.abandon(&round).unwrap() {
                    Some(said) => Statement::Abandoned(said.statement),
                    None => continue,
                },
                other => panic!("{other:?}"),
            };
            // The phase may be over before all have spoken.
            let _ = self.post(member, said);
            if view.phase == AttemptPhase::Endorsing {
                self.engine.drive().unwrap();
            }
        }
    }

    fn answer(&self, id: RoundId, view: &AttemptView) {
        let round = self.round(id);
        let [headers, endorsements] = [Item::Headers, Item::Endorsements].map(|item| self.fetch(id, item));
        for (name, pieces) in &view.assignments {
            let mut members = (0..).zip(&self.federation.members);
            let (index, member) = members.find(|(_, m)| m.identity.name == *name).unwrap();
            let mut said = member
                .custodian
                .answer(&round, &headers, &endorsements, pieces)
                .unwrap();
            if let Some(lie) = &self.lie {
                said = lie(&self.federation, &round, index, said);
            }
            self.upload(member, &said);
            self.post(member, Statement::Answer(said.said.statement)).unwrap();
        }
        let fixed = Endorsement {
            record: *round.digest(),
            set: view.set_digest.unwrap(),
            sum: view.sum.unwrap(),
        };
        for (index, member) in self.federation.members.iter().enumerate() {
            if !view.set.contains(&member.identity.name) {
                continue;
            }
            // Of what was really sent, which for a cheat is not what it drew.
            let header = headers.iter().find(|h| h.author == member.identity.name).unwrap();
            let header: ContributionHeader = header.statement.read_unverified().unwrap();
            let blob = self.engine.store().blobs().open_read(&header.ciphertext).unwrap();
            let said = match self.false_fingerprint == Some(index) {
                false => authentic::own_fingerprint(&round, &fixed, &member.identity, &header, blob).unwrap(),
                true => {
                    let (challenge, identity) = (Challenge::new(&fixed), &member.identity);
                    let nothing = Fingerprint::zero(&round);
                    FingerprintStatement::sign(
                        &round,
                        &challenge,
                        &identity.name,
                        &identity.signing,
                        &nothing,
                    )
                    .unwrap()
                }
            };
            self.post(member, Statement::Fingerprint(said.statement)).unwrap();
        }
    }

    /// Puts what a statement seals where the coordinator looks for it.
    pub(super) fn upload(&self, member: &Member, sealed: &SealedStatement) {
        if !sealed.texts.is_empty() {
            let blobs = self.engine.store().blobs();
            let (kind, name) = (BlobKind::Sealed as u16, &member.identity.name);
            blobs.put_bytes(&sealed.blob(), kind, name).unwrap();
        }
    }

    /// Statements with what they seal to everybody, as the coordinator gives it out.
    fn fetch_sealed(&self, id: RoundId, item: Item) -> Vec<SealedStatement> {
        let statements = self.fetch(id, item).into_iter().map(|said| {
            let text = |member: &Member| {
                let name = &member.identity.name;
                let text = self.engine.fetch_sealed(name, id, item, &said.digest()).unwrap();
                (!text.is_empty()).then(|| (name.clone(), text))
            };
            let texts = self.federation.members.iter().filter_map(text).collect();
            SealedStatement { said, texts }
        });
        statements.collect()
    }

    fn evidence(&self, id: RoundId) -> Evidence {
        Evidence {
            headers: self.fetch(id, Item::Headers),
            endorsements: self.fetch(id, Item::Endorsements),
            answers: self.fetch_sealed(id, Item::Answers),
            fingerprints: self.fetch(id, Item::Fingerprints),
        }
    }

    pub(super) fn sign<T: serde::Serialize>(
        &self,
        member: &Member,
        domain: &str,
        said: &T,
    ) -> galen_core::Signed {
        member
            .identity
            .signing
            .sign(domain, &self.federation.study.digest(), said)
            .unwrap()
    }

    fn open(&mut self, id: RoundId, sum: Digest) {
        let (round, evidence) = (self.round(id), self.evidence(id));
        let (blobs, record) = (self.engine.store().blobs(), *round.digest());
        let study = self.federation.study.study();
        let mut found = None;
        for member in &self.federation.members {
            let mut liars = BTreeSet::new();
            let mut open = |fetched: &Fetched| -> Result<Opening, NotOpened> {
                let verified = Verified::new(&round, sum, evidence.clone())?;
                let unchecked = authentic::check(&round, &verified, blobs, fetched, &mut liars)?;
                assert!(unchecked.is_empty());
                let blob = blobs.open_read(&sum).unwrap();
                verified.open(&round, &member.identity, study, &self.derived, blob)
            };
            let mut opened = open(&Fetched::default());
            if matches!(&opened, Err(NotOpened::Round(unopened)) if unopened.is_wrong_sum()) {
                let mut all = Fetched::default();
                for header in &evidence.headers {
                    all.add(header.statement.read_unverified().unwrap());
                }
                opened = open(&all);
            }
            for contributor in liars {
                let said = FingerprintRefused { record, contributor };
                let said = Statement::FingerprintRefused(self.sign(member, FINGERPRINT_REFUSED, &said));
                self.post(member, said).unwrap();
            }
            let said = match opened {
                Ok(opening) => {
                    let said = Opened {
                        record,
                        result: opening.sum.result,
                        max_noise: opening.sum.max_noise,
                    };
                    found = Some(opening);
                    Statement::Opened(self.sign(member, OPENED, &said))
                }
                Err(NotOpened::Round(unopened)) => {
                    let said = OpeningFailed {
                        record,
                        detail: unopened.detail(),
                        fault: unopened.fault(),
                    };
                    Statement::OpeningFailed(self.sign(member, OPENING_FAILED, &said))
                }
                Err(other) => panic!("{other:?}"),
            };
            self.post(member, said).unwrap();
        }
        self.opened = found;
    }

    fn judge(&self, id: RoundId, sum: Digest) {
        let (round, evidence) = (self.round(id), self.evidence(id));
        let checks = self.fetch_sealed(id, Item::KeyChecks);
        for member in &self.federation.members {
            let verified = Verified::new(&round, sum, evidence.clone()).unwrap();
            let said = verified.judge(&round, &member.identity, &checks).unwrap();
            self.post(member, Statement::Judged(self.sign(member, JUDGED, &said)))
                .unwrap();
        }
    }

    /// Lets the study's patience pass.
    pub(super) fn wait(&self) {
        let patience = self.federation.study.study().sums.patience_s;
        self.clock.advance(Duration::from_secs(u64::from(patience) + 1));
    }

    /// The audit log's events. The log is consistent: what it says of certificates and culprits is proven by signatures.
    pub(super) fn events(&self) -> Vec<AuditEvent> {
        let study = &self.federation.study;
        let mut chain = Chain::new(study.digest(), study.coordinator().signing);
        let lines = chain.extend(&self.engine.audit(0).unwrap()).unwrap();
        let mut checker = Checker::new(Arc::clone(self.federation.rounds.roster()));
        lines.iter().for_each(|line| checker.read(line));
        let report = checker.finish(*chain.head());
        assert!(report.is_consistent(), "{}", report.text());
        lines.into_iter().map(|line| line.event).collect()
    }
}
