//! A simulated hospital: contributor, receiver and, if the study says so, custodian. It speaks the protocol as a real one does, comes back
//! when its connection is lost, and goes on where it stopped.

use crate::custody::Custody;
use crate::shared::{Mark, Shared};
use crate::study::Keys;
use anyhow::{Context, bail};
use galen_core::study::STUDY_SIGNATURE;
use galen_core::{Code, Digest, Refusal, Signed};
use galen_custody::{LedgerState, encrypt};
use galen_net::protocol::{
    AttemptPhase, AttemptView, BlobKind, Item, Request, Response, Statement, StudyPhase, View,
};
use galen_net::{Client, NetError, Peer, Tuning};
use galen_sums::{Authored, ContributionHeader, Round, RoundId, SealedStatement};
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

/// One hospital.
pub(crate) struct Hospital {
    pub(crate) shared: Arc<Shared>,
    pub(crate) index: usize,
    pub(crate) peer: Peer,
    round: Option<Arc<Round>>,
    contributed: Option<RoundId>,
    pub(crate) reported: Option<RoundId>,
    pub(crate) custody: Option<Custody>,
    pub(crate) ledger: LedgerState,
    /// Incarnations of others that this custodian has confirmed.
    pub(crate) vouched: BTreeSet<Digest>,
    pub(crate) introduced: bool,
    drawn: Option<(RoundId, Authored)>,
    pub(crate) fingerprinted: Option<RoundId>,
    /// Statements, with the blobs that go before them, of which it is not known whether the coordinator has them.
    unsent: Vec<(Option<Arc<[u8]>>, Statement)>,
    /// How often the connection was lost.
    lost: u32,
}

impl Hospital {
    /// Connects and says hello.
    pub(crate) async fn connect(shared: Arc<Shared>, index: usize) -> anyhow::Result<Self> {
        let peer = dial(&shared, index).await?;
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
            drawn: None,
            fingerprinted: None,
            unsent: Vec::new(),
            lost: 0,
        })
    }

    /// Takes part until this many rounds are published, or until it dies; tells how often its connection was lost.
    pub(crate) async fn serve(mut self, rounds: u32) -> anyhow::Result<u32> {
        loop {
            match self.converse(rounds).await {
                Err(error) if made_room(&error) => {
                    client(&self.shared, self.index)?.stay_away().await;
                    self.peer = dial(&self.shared, self.index).await?;
                }
                Err(error) if is_passing(&error) => {
                    self.lost += 1;
                    eprintln!("{}: {error:#}; it connects again", self.keys().name);
                    tokio::time::sleep(AGAIN).await;
                    self.peer = dial(&self.shared, self.index).await?;
                }
                ended => return ended.map(|()| self.lost),
            }
        }
    }

    async fn converse(&mut self, rounds: u32) -> anyhow::Result<()> {
        for (blob, statement) in std::mem::take(&mut self.unsent) {
            match self.send(blob, statement).await {
                Err(error) if is_late(&error) => {}
                sent => sent?,
            }
        }
        let mut seen = 0;
        loop {
            let view = match self.peer.call(&Request::Poll { seen, from: 0 }).await? {
                Response::View(view) => view,
                other => bail!("a poll was answered by {other:?}"),
            };
            seen = view.version;
            self.note(&view);
            if view.rounds >= rounds {
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

    pub(crate) fn keys(&self) -> &Keys {
        &self.shared.scene.keys[self.index]
    }

    fn note(&self, view: &View) {
        if let Some(last) = view.rounds.checked_sub(1) {
            self.shared.mark(last, Mark::Published);
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

    pub(crate) async fn post(&mut self, statement: Statement) -> anyhow::Result<()> {
        self.send(None, statement).await
    }

    /// Uploads what a statement seals, and makes it.
    pub(crate) async fn deliver(
        &mut self,
        sealed: SealedStatement,
        statement: impl FnOnce(Signed) -> Statement,
    ) -> anyhow::Result<()> {
        let blob = Arc::from(sealed.blob());
        self.send(Some(blob), statement(sealed.said.statement)).await
    }

    async fn send(&mut self, blob: Option<Arc<[u8]>>, statement: Statement) -> anyhow::Result<()> {
        self.unsent.push((blob.clone(), statement.clone()));
        let sent = self.send_once(blob, statement).await;
        // What was refused is not sent again.
        if !sent.as_ref().is_err_and(is_passing) {
            self.unsent.pop();
        }
        sent
    }

    async fn send_once(&self, blob: Option<Arc<[u8]>>, statement: Statement) -> anyhow::Result<()> {
        if let Some(blob) = blob {
            let (digest, len) = (Digest::of(&blob), blob.len() as u64);
            let open = move |offset| {
                let mut bytes = std::io::Cursor::new(Arc::clone(&blob));
                bytes.set_position(offset);
                Ok(bytes)
            };
            self.peer
                .put(digest, len, BlobKind::Sealed, open, |_, _| {})
                .await?;
        }
        match self.peer.call(&Request::Post(statement)).await? {
            Response::Ok => Ok(()),
            other => bail!("a statement was answered by {other:?}"),
        }
    }

    pub(crate) async fn fetch(&self, id: RoundId, item: Item) -> anyhow::Result<Vec<Authored>> {
        let mut all = Vec::<Authored>::new();
        loop {
            let request = Request::Fetch {
                round: id.round,
                attempt: id.attempt,
                item,
                after: all.last().map(|said| (said.author.clone(), said.digest())),
            };
            let (found, more) = match self.peer.call(&request).await? {
                Response::Statements { found, more } => (found, more),
                other => bail!("{item:?} was answered by {other:?}"),
            };
            let authored = found
                .into_iter()
                .map(|(author, statement)| Authored { author, statement });
            all.extend(authored);
            if !more {
                return Ok(all);
            }
        }
    }

    /// The answers, with what they seal to this hospital.
    pub(crate) async fn answers(&self, id: RoundId) -> anyhow::Result<Vec<SealedStatement>> {
        let mut all = Vec::new();
        for said in self.fetch(id, Item::Answers).await? {
            let request = Request::FetchSealed {
                round: id.round,
                attempt: id.attempt,
                item: Item::Answers,
                statement: said.digest(),
            };
            let text = match self.peer.call(&request).await? {
                Response::Sealed(text) => text,
                other => bail!("what is sealed was answered by {other:?}"),
            };
            let texts = [(self.keys().name.clone(), text)].into();
            all.push(SealedStatement { said, texts });
        }
        Ok(all)
    }

    pub(crate) async fn round(&mut self, id: RoundId) -> anyhow::Result<Arc<Round>> {
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

    async fn contribute(&mut self, id: RoundId) -> anyhow::Result<()> {
        let round = self.round(id).await?;
        let path = self.shared.blob_path(&self.keys().name, id.round);
        if self.drawn.as_ref().is_none_or(|(drawn, _)| *drawn != id) {
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
            self.drawn = Some((id, header));
            if let Some(together) = self.shared.together.as_ref().filter(|_| id.round > 0) {
                together.wait().await;
            }
            self.shared.mark(id.round, Mark::Uploading);
        }
        let (said, header) = self.contribution(id).context("nothing was drawn")?;
        let open = move |offset| {
            let mut file = File::open(&path)?;
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

    /// What this hospital drew for an attempt: the header, and the same signed.
    pub(crate) fn contribution(&self, id: RoundId) -> Option<(ContributionHeader, Authored)> {
        let (_, header) = self.drawn.as_ref().filter(|(drawn, _)| *drawn == id)?;
        Some((header.statement.read_unverified().ok()?, header.clone()))
    }
}

/// How long a hospital waits before it connects again.
const AGAIN: Duration = Duration::from_millis(500);

fn client(shared: &Shared, index: usize) -> Result<Client, NetError> {
    let study = &shared.scene.study;
    Client::new(
        shared.scene.address.to_string(),
        &shared.scene.keys[index].tls,
        study.coordinator().certificate,
        study.digest(),
        Tuning::default(),
    )
}

/// Connects and says hello.
async fn dial(shared: &Shared, index: usize) -> anyhow::Result<Peer> {
    let study = &shared.scene.study;
    let keys = &shared.scene.keys[index];
    let peer = client(shared, index)?.connect_patiently(|_, _| {}).await?;
    let consent = keys
        .signing
        .sign(STUDY_SIGNATURE, &study.digest(), &study.digest())?;
    match peer.call(&Request::Hello { consent }).await? {
        Response::Ok => Ok(peer),
        other => bail!("hello was answered by {other:?}"),
    }
}

/// Whether the coordinator ended the connection for another hospital's sake.
fn made_room(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref::<NetError>(), Some(NetError::Crowded))
}

/// Whether a connection was lost or a request failed in a way that may not come again.
fn is_passing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<NetError>()
        .is_some_and(NetError::is_transient)
}

/// Whether a request came after the phase that it was for.
fn is_late(error: &anyhow::Error) -> bool {
    let late = |refusal: &Refusal| matches!(refusal.code, Code::WrongRound | Code::WrongPhase);
    let refused = error.downcast_ref::<NetError>();
    matches!(refused, Some(NetError::Refused(refusal)) if late(refusal))
}

/// What a hospital contributes: numbers within the plan's bounds.
pub(crate) fn values(round: &Round, index: usize) -> Vec<i64> {
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

/// Connects all hospitals and lets them take part until this many rounds are published; tells how often a connection was lost.
pub(crate) async fn run(shared: &Arc<Shared>, rounds: u32) -> anyhow::Result<u32> {
    let mut tasks = tokio::task::JoinSet::new();
    for index in 0..shared.scene.keys.len() {
        let shared = Arc::clone(shared);
        tasks.spawn(async move {
            let hospital = Hospital::connect(shared, index).await?;
            hospital.serve(rounds).await
        });
    }
    let mut lost = 0;
    while let Some(ended) = tasks.join_next().await {
        lost += ended.context("a hospital panicked")??;
    }
    Ok(lost)
}
