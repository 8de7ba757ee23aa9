//! A simulated hospital: contributor, receiver and, if the study says so, custodian.

use crate::study::{Keys, Scene};
use anyhow::{Context, bail, ensure};
use galen_core::study::STUDY_SIGNATURE;
use galen_core::{Code, Digest, PartyId, Refusal, Signed};
use galen_custody::ledger::Vote;
use galen_custody::{
    LedgerState, OneRoundSecret, OpenedSeeds, answer, check_contribution, custodian, encrypt, endorse,
    open_answers, open_sum,
};
use galen_net::protocol::{
    AttemptPhase, AttemptView, BlobKind, Item, PublishedRound, Request, Response, Statement, StudyPhase, View,
};
use galen_net::{BlobSink, Client, NetError, Peer, Tuning};
use galen_sums::fingerprint::{of_contribution, of_sum};
use galen_sums::incarnation::{check_confirmation, check_incarnation, confirmations_needed};
use galen_sums::statement::{OPENED, Opened};
use galen_sums::{
    Authored, Challenge, ContributionHeader, ContributionSet, Endorsement, FingerprintStatement, Round,
    RoundId, check_certificate, check_header, check_sum,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, BufWriter, Seek, SeekFrom};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{Barrier, Semaphore, watch};

/// What all hospitals of a measurement share.
pub(crate) struct Shared {
    pub(crate) scene: Scene,
    /// Everybody waits here with an encrypted contribution, if uploads are to be measured by themselves.
    pub(crate) together: Option<Barrier>,
    /// Encrypting takes a core; as many at a time as there are.
    cores: Semaphore,
    /// The state that followed from each round: from the one hospital that opens, for the others to report.
    results: watch::Sender<BTreeMap<u32, Digest>>,
    marks: Mutex<BTreeMap<(u32, Mark), Instant>>,
    /// The custodian that dies once a certificate of this round is there.
    pub(crate) doomed: Option<(PartyId, u32)>,
}

/// Moments of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Mark {
    Announced,
    Collecting,
    /// The first upload began.
    Uploading,
    /// The last contribution was acknowledged; marked again with each.
    Contributed,
    Proposed,
    Endorsing,
    Certified,
    Opening,
    Published,
}

impl Shared {
    pub(crate) fn new(scene: Scene, together: bool, doomed: Option<(PartyId, u32)>) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            together: together.then(|| Barrier::new(scene.keys.len())),
            cores: Semaphore::new(cores),
            results: watch::Sender::new(BTreeMap::new()),
            marks: Mutex::default(),
            doomed,
            scene,
        }
    }

    fn mark(&self, round: u32, mark: Mark) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        match mark {
            Mark::Contributed => *marks.entry((round, mark)).or_insert(now) = now,
            _ => {
                marks.entry((round, mark)).or_insert(now);
            }
        }
    }

    /// Time between two moments of a round.
    pub(crate) fn between(&self, round: u32, from: Mark, to: Mark) -> anyhow::Result<Duration> {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let at = |mark| {
            marks
                .get(&(round, mark))
                .with_context(|| format!("round {round} was not {mark:?}"))
        };
        Ok(at(to)?.saturating_duration_since(*at(from)?))
    }

    /// Where a hospital keeps the ciphertexts of a round.
    pub(crate) fn blob_path(&self, name: &PartyId, round: u32) -> PathBuf {
        self.scene.dir.join(format!("{name}.{round}.blob"))
    }
}

/// One hospital.
pub(crate) struct Hospital {
    shared: Arc<Shared>,
    index: usize,
    peer: Peer,
    round: Option<Arc<Round>>,
    contributed: Option<RoundId>,
    reported: Option<RoundId>,
    custody: Option<Custody>,
    ledger: LedgerState,
    /// Incarnations of others that this custodian has confirmed.
    vouched: BTreeSet<Digest>,
    introduced: bool,
    header: Option<ContributionHeader>,
    fingerprinted: Option<RoundId>,
}

/// A custodian's part in an attempt.
struct Custody {
    id: RoundId,
    secret: OneRoundSecret,
    agreed: Option<Agreed>,
    answered: Vec<Vec<u32>>,
}

struct Agreed {
    set: ContributionSet,
    opened: Vec<OpenedSeeds>,
    endorsed: bool,
}

impl Hospital {
    /// Connects and says hello.
    pub(crate) async fn connect(shared: Arc<Shared>, index: usize) -> anyhow::Result<Self> {
        let study = &shared.scene.study;
        let keys = &shared.scene.keys[index];
        let client = Client::new(
            shared.scene.address.to_string(),
            &keys.tls,
            study.coordinator().certificate,
            study.digest(),
            Tuning::default(),
        )?;
        let peer = client.connect_patiently(|_, _| {}).await?;
        let consent = keys
            .signing
            .sign(STUDY_SIGNATURE, &study.digest(), &study.digest())?;
        match peer.call(&Request::Hello { consent }).await? {
            Response::Ok => {}
            other => bail!("hello was answered by {other:?}"),
        }
        Ok(Self {
            shared,
            index,
            peer,
            round: None,
            contributed: None,
            reported: None,
            custody: None,
            ledger: LedgerState::default().begin(Digest(galen_core::random::bytes()?)),
            vouched: BTreeSet::new(),
            introduced: false,
            header: None,
            fingerprinted: None,
        })
    }

    /// Takes part until this many rounds are published, or until it dies.
    pub(crate) async fn serve(mut self, rounds: usize) -> anyhow::Result<()> {
        let mut seen = 0;
        loop {
            let view = match self.peer.call(&Request::Poll { seen }).await? {
                Response::View(view) => view,
                other => bail!("a poll was answered by {other:?}"),
            };
            seen = view.version;
            self.note(&view);
            if view.published.len() >= rounds {
                return Ok(());
            }
            if let StudyPhase::Closed { reason, .. } = &view.study {
                bail!("the study is closed: {reason}");
            }
            if self.is_custodian() {
                self.meet(&view).await.context("incarnations")?;
            }
            if let Some(attempt) = &view.attempt {
                if self.dies(attempt) {
                    self.peer.close();
                    return Ok(());
                }
                match self.act(attempt).await {
                    // The round went on meanwhile; the next view says where it is.
                    Err(error) if is_late(&error) => {}
                    acted => {
                        acted.with_context(|| format!("{} in round {}", self.keys().name, attempt.round))?
                    }
                }
            }
        }
    }

    fn keys(&self) -> &Keys {
        &self.shared.scene.keys[self.index]
    }

    fn note(&self, view: &View) {
        let published: &[PublishedRound] = &view.published;
        if let Some(last) = published.len().checked_sub(1) {
            self.shared.mark(last as u32, Mark::Published);
        }
        let Some(attempt) = &view.attempt else { return };
        let mark = match attempt.phase {
            AttemptPhase::Announced => Mark::Announced,
            AttemptPhase::Collecting => Mark::Collecting,
            AttemptPhase::Proposed => Mark::Proposed,
            AttemptPhase::Endorsing => Mark::Endorsing,
            AttemptPhase::Certified => Mark::Certified,
            AttemptPhase::Opening => Mark::Opening,
            _ => return,
        };
        self.shared.mark(attempt.round, mark);
    }

    fn dies(&self, attempt: &AttemptView) -> bool {
        let doomed = self.shared.doomed.as_ref();
        attempt.phase == AttemptPhase::Certified
            && doomed.is_some_and(|(name, round)| *name == self.keys().name && *round == attempt.round)
    }

    fn is_custodian(&self) -> bool {
        self.shared
            .scene
            .roster
            .custodian_index(&self.keys().name)
            .is_some()
    }

    async fn act(&mut self, attempt: &AttemptView) -> anyhow::Result<()> {
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        match attempt.phase {
            AttemptPhase::Announced if self.is_custodian() && self.ledger.is_confirmed() => {
                self.announce(id).await
            }
            AttemptPhase::Collecting if self.contributed != Some(id) => self.contribute(id).await,
            AttemptPhase::Proposed if self.is_custodian() => {
                self.check(id, attempt.sum.context("a proposal without a sum")?)
                    .await
            }
            AttemptPhase::Endorsing if self.is_custodian() => {
                self.endorse(id, attempt.sum.context("a proposal without a sum")?)
                    .await
            }
            AttemptPhase::Certified => {
                let sum = attempt.sum.context("a proposal without a sum")?;
                self.fingerprint(id, attempt.set_digest, sum).await?;
                if !self.is_custodian() {
                    return Ok(());
                }
                self.endorse(id, sum).await?;
                let name = self.keys().name.clone();
                let mine = attempt
                    .assignments
                    .iter()
                    .filter(|(custodian, _)| *custodian == name);
                for (_, pieces) in mine {
                    self.answer(id, pieces).await?;
                }
                Ok(())
            }
            AttemptPhase::Opening if self.reported != Some(id) => {
                let sum = attempt.sum.context("an opening without a sum")?;
                self.fingerprint(id, attempt.set_digest, sum).await?;
                self.open(id, sum).await
            }
            _ => Ok(()),
        }
    }

    async fn post(&self, statement: Statement) -> anyhow::Result<()> {
        match self.peer.call(&Request::Post(statement)).await? {
            Response::Ok => Ok(()),
            other => bail!("a statement was answered by {other:?}"),
        }
    }

    async fn fetch(&self, id: RoundId, item: Item) -> anyhow::Result<Vec<Authored>> {
        let request = Request::Fetch {
            round: id.round,
            attempt: id.attempt,
            item,
        };
        match self.peer.call(&request).await? {
            Response::Statements(found) => Ok(found
                .into_iter()
                .map(|(author, statement)| Authored { author, statement })
                .collect()),
            other => bail!("{item:?} was answered by {other:?}"),
        }
    }

    async fn round(&mut self, id: RoundId) -> anyhow::Result<Arc<Round>> {
        if let Some(round) = self.round.as_ref().filter(|round| round.id() == id) {
            return Ok(Arc::clone(round));
        }
        let record: Signed = self
            .fetch(id, Item::Record)
            .await?
            .pop()
            .context("no record")?
            .statement;
        let scene = &self.shared.scene;
        let inputs = scene
            .schedule
            .inputs(&scene.roster, id.round)
            .context("no such round")?;
        let round = Arc::new(Round::open(&scene.roster, &record, &inputs)?);
        self.round = Some(Arc::clone(&round));
        Ok(round)
    }

    async fn announce(&mut self, id: RoundId) -> anyhow::Result<()> {
        if self.custody.as_ref().is_some_and(|custody| custody.id == id) {
            return Ok(());
        }
        let secret = OneRoundSecret::generate(id)?;
        self.ledger = self.ledger.announce(id, secret.public())?;
        let (keys, study) = (self.keys(), self.shared.scene.study.digest());
        let statement = secret.statement(&self.ledger, &keys.name, &keys.signing, &study)?;
        self.custody = Some(Custody {
            id,
            secret,
            agreed: None,
            answered: Vec::new(),
        });
        self.post(Statement::RoundKey(statement.statement)).await
    }

    async fn contribute(&mut self, id: RoundId) -> anyhow::Result<()> {
        let round = self.round(id).await?;
        let path = self.shared.blob_path(&self.keys().name, id.round);
        let header = {
            let _core = self.shared.cores.acquire().await?;
            let (shared, index, path) = (Arc::clone(&self.shared), self.index, path.clone());
            tokio::task::spawn_blocking(move || -> anyhow::Result<Authored> {
                let keys = &shared.scene.keys[index];
                let values = values(&round, index);
                let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
                Ok(encrypt(&round, &keys.name, &keys.signing, &values, out)?)
            })
            .await??
        };
        if let Some(together) = self.shared.together.as_ref().filter(|_| id.round > 0) {
            together.wait().await;
        }
        self.shared.mark(id.round, Mark::Uploading);
        let said: ContributionHeader = header.statement.read_unverified()?;
        self.header = Some(said.clone());
        let open = move |offset| {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(offset))?;
            Ok(file)
        };
        let (digest, len) = (said.ciphertext, said.ciphertext_len);
        self.peer
            .put(digest, len, BlobKind::Contribution, open, |_, _| {})
            .await?;
        self.post(Statement::Contribution(header.statement)).await?;
        self.shared.mark(id.round, Mark::Contributed);
        self.contributed = Some(id);
        Ok(())
    }

    /// Custodians introduce themselves, vouch for each other, and take in what the others say of them.
    async fn meet(&mut self, view: &View) -> anyhow::Result<()> {
        let shared = Arc::clone(&self.shared);
        let (roster, study) = (&shared.scene.roster, shared.scene.study.digest());
        let keys = &shared.scene.keys[self.index];
        if !self.introduced {
            let said = custodian::incarnation(&keys.name, &keys.signing, &self.ledger, &study)?;
            self.introduced = true;
            self.post(Statement::Incarnation(said.statement)).await?;
        }
        let nowhere = RoundId { round: 0, attempt: 0 };
        let others = view
            .incarnations
            .iter()
            .filter(|shown| shown.custodian != keys.name);
        let unmet: Vec<_> = others
            .filter(|shown| !self.vouched.contains(&shown.nonce))
            .collect();
        if !unmet.is_empty() {
            let incarnations = self.fetch(nowhere, Item::Incarnations).await?;
            for shown in unmet {
                let Some(authored) = incarnations.iter().find(|said| said.author == shown.custodian) else {
                    continue;
                };
                let said = check_incarnation(roster, authored)?;
                let (ledger, vouch) = self.ledger.vouch(&said);
                self.ledger = ledger;
                self.vouched.insert(said.nonce);
                if let Some(word) = custodian::vouch(&said, &vouch, &keys.name, &keys.signing, &study)? {
                    self.post(Statement::Confirmation(word.statement)).await?;
                }
            }
        }
        let needed = confirmations_needed(roster);
        let own = view
            .incarnations
            .iter()
            .find(|shown| shown.custodian == keys.name);
        if !self.ledger.is_confirmed() && own.is_some_and(|own| own.confirmed.len() >= needed) {
            let mut by = BTreeMap::new();
            for authored in self.fetch(nowhere, Item::Confirmations).await? {
                let said = check_confirmation(roster, &authored)?;
                if said.custodian == keys.name {
                    by.insert(authored.author, said);
                }
            }
            self.ledger = self.ledger.confirmed(&by, needed)?;
        }
        Ok(())
    }

    /// Opens all seeds and says that they fit.
    async fn check(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        let waiting = |custody: &Custody| custody.id == id && custody.agreed.is_none();
        if !self.custody.as_ref().is_some_and(waiting) {
            return Ok(());
        }
        let round = self.round(id).await?;
        let headers = self.fetch(id, Item::Headers).await?;
        let set = ContributionSet::new(&round, &headers)?;
        let keys = &self.shared.scene.keys[self.index];
        let custody = self.custody.as_mut().context("no one-round key")?;
        let opened = headers
            .iter()
            .map(|header| check_contribution(&round, &keys.name, &custody.secret, header))
            .collect::<Result<Vec<_>, _>>()?;
        let said = custodian::report_checked(&round, &keys.name, &keys.signing, &set, &opened, sum)?;
        custody.agreed = Some(Agreed {
            set,
            opened,
            endorsed: false,
        });
        self.post(Statement::Checked(said.statement)).await
    }

    async fn endorse(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        self.check(id, sum).await?;
        let round = self.round(id).await?;
        let keys = &self.shared.scene.keys[self.index];
        let Some(custody) = self.custody.as_mut().filter(|custody| custody.id == id) else {
            return Ok(());
        };
        let agreed = custody.agreed.as_mut().context("not checked")?;
        if agreed.endorsed {
            return Ok(());
        }
        agreed.endorsed = true;
        self.ledger = self.ledger.observe(&keys.name, &round)?;
        self.ledger = self.ledger.sign(id, &Vote::of(&round, &agreed.set, sum))?;
        let (name, signing) = (&keys.name, &keys.signing);
        let said = endorse(
            &round,
            name,
            signing,
            &self.ledger,
            &agreed.set,
            &agreed.opened,
            sum,
        )?;
        self.post(Statement::Endorsement(said.statement)).await
    }

    /// Signs the fingerprint of what was sent.
    async fn fingerprint(&mut self, id: RoundId, set: Option<Digest>, sum: Digest) -> anyhow::Result<()> {
        if self.fingerprinted == Some(id) {
            return Ok(());
        }
        self.fingerprinted = Some(id);
        let round = self.round(id).await?;
        let header = self.header.clone().context("nothing was contributed")?;
        let fixed = Endorsement {
            record: *round.digest(),
            set: set.context("a certificate without a set")?,
            sum,
        };
        let said = {
            let _core = self.shared.cores.acquire().await?;
            let (shared, index) = (Arc::clone(&self.shared), self.index);
            tokio::task::spawn_blocking(move || -> anyhow::Result<Authored> {
                let keys = &shared.scene.keys[index];
                let challenge = Challenge::new(&fixed);
                let blob = File::open(shared.blob_path(&keys.name, id.round))?;
                let own = of_contribution(
                    &round,
                    &challenge,
                    &header,
                    BufReader::with_capacity(1 << 18, blob),
                )?;
                Ok(FingerprintStatement::sign(
                    &round,
                    &challenge,
                    &keys.name,
                    &keys.signing,
                    &own,
                )?)
            })
            .await??
        };
        self.post(Statement::Fingerprint(said.statement)).await
    }

    async fn answer(&mut self, id: RoundId, pieces: &[u32]) -> anyhow::Result<()> {
        let done = |custody: &Custody| custody.answered.iter().any(|answered| answered == pieces);
        if self.custody.as_ref().is_none_or(done) {
            return Ok(());
        }
        let round = self.round(id).await?;
        let certificate = check_certificate(&round, &self.fetch(id, Item::Endorsements).await?)?;
        self.ledger = self.ledger.answer(id, certificate.endorsement())?;
        let keys = &self.shared.scene.keys[self.index];
        let custody = self.custody.as_mut().context("no one-round key")?;
        custody.answered.push(pieces.to_vec());
        let agreed = custody.agreed.as_ref().context("not endorsed")?;
        let said = answer(
            &round,
            &keys.name,
            &keys.signing,
            &self.ledger,
            &certificate,
            &agreed.set,
            &agreed.opened,
            pieces,
        )?;
        self.post(Statement::Answer(said.statement)).await
    }

    /// All receivers fetch everything. In a round that is timed all of them open; under load one does, for the others as well.
    async fn open(&mut self, id: RoundId, sum: Digest) -> anyhow::Result<()> {
        let round = self.round(id).await?;
        let headers = self.fetch(id, Item::Headers).await?;
        let endorsements = self.fetch(id, Item::Endorsements).await?;
        let answers = self.fetch(id, Item::Answers).await?;
        // Those that are there; a hospital would fetch the missing contributions.
        let fingerprints = self.fetch(id, Item::Fingerprints).await?;
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Sink {
            bytes: Arc::clone(&bytes),
            len: round.plan().blob_len(),
        };
        self.peer.get(sum, sink, |_, _| {}).await?;
        let blob = std::mem::take(&mut *bytes.lock().unwrap_or_else(PoisonError::into_inner));
        let mut results = self.shared.results.subscribe();
        if self.shared.together.is_none() || self.index == 0 {
            let _core = self.shared.cores.acquire().await?;
            let (shared, index, opening) = (Arc::clone(&self.shared), self.index, Arc::clone(&round));
            let result = tokio::task::spawn_blocking(move || -> anyhow::Result<Digest> {
                let keys = &shared.scene.keys[index];
                let set = ContributionSet::new(&opening, &headers)?;
                for header in &headers {
                    check_header(&opening, header)?;
                }
                let certificate = check_certificate(&opening, &endorsements)?;
                let challenge = Challenge::new(certificate.endorsement());
                let sum = of_sum(&opening, &challenge, blob.as_slice())?;
                if fingerprints.len() == set.len() {
                    check_sum(&opening, &set, &challenge, &fingerprints, &BTreeMap::new(), &sum)?;
                }
                let key = open_answers(&opening, &certificate, &set, &keys.name, &keys.receiver, &answers)?;
                let opened = open_sum(&opening, &certificate, &set, &key, blob.as_slice())?;
                let all = shared.scene.keys.len();
                ensure!(set.len() == all, "somebody is not in the sum");
                let expected = (0..all).map(|index| values(&opening, index));
                let mut total = vec![0i64; opened.values.len()];
                for values in expected {
                    total
                        .iter_mut()
                        .zip(values)
                        .for_each(|(sum, value)| *sum += value);
                }
                ensure!(total == opened.values, "the sum is not exact");
                Ok(opened.opening_secret)
            })
            .await??;
            self.shared.results.send_modify(|known| {
                known.insert(id.round, result);
            });
        }
        let result = {
            let known = results.wait_for(|known| known.contains_key(&id.round)).await?;
            *known.get(&id.round).context("no result")?
        };
        let said = Opened {
            record: *round.digest(),
            result,
            max_noise: 0,
        };
        let (keys, study) = (self.keys(), self.shared.scene.study.digest());
        let said = Authored::sign(&keys.signing, &keys.name, OPENED, &study, &said)?;
        self.reported = Some(id);
        self.post(Statement::Opened(said.statement)).await
    }
}

/// Whether a request came after the phase that it was for.
fn is_late(error: &anyhow::Error) -> bool {
    let late = |refusal: &Refusal| matches!(refusal.code, Code::WrongRound | Code::WrongPhase);
    let refused = error.downcast_ref::<NetError>();
    matches!(refused, Some(NetError::Refused(refusal)) if late(refusal))
}

/// What a hospital contributes: numbers within the plan's bounds.
fn values(round: &Round, index: usize) -> Vec<i64> {
    let value = |(at, bound): (usize, u64)| {
        let magnitude = (at as u64).wrapping_mul(7919 + index as u64) % (bound + 1);
        if at % 2 == 0 {
            magnitude as i64
        } else {
            -(magnitude as i64)
        }
    };
    round.plan().bounds().enumerate().map(value).collect()
}

/// Into memory.
struct Sink {
    bytes: Arc<Mutex<Vec<u8>>>,
    len: u64,
}

impl BlobSink for Sink {
    fn offset(&self) -> u64 {
        0
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        if len == self.len {
            Ok(())
        } else {
            Err(Refusal::new(Code::NotConforming, "the sum has another length"))
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let mut held = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        held.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// Connects all hospitals and lets them take part until this many rounds are published.
pub(crate) async fn run(shared: &Arc<Shared>, rounds: usize) -> anyhow::Result<()> {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..shared.scene.keys.len() {
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            let hospital = Hospital::connect(shared, index).await?;
            hospital.serve(rounds).await
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.context("a hospital panicked")??;
    }
    Ok(())
}
