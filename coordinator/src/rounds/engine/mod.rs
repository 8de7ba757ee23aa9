//! Joins the pure state machines with the store: verifies, applies, persists, and only then acknowledges.
//!
//! `intake` takes in statements, `drive` does what is due, `reading` answers; here is the state that they share.

mod arriving;
mod complaints;
mod drive;
mod incarnations;
mod intake;
mod reading;
pub mod succession;
mod twice;

pub use self::arriving::ArrivalCheck;
use self::arriving::{Arrivals, Arrived};
use super::adding::AddingError;
use super::audit::{self, AuditLog, AuditLogError};
use super::state::{Attempt, Proposal, Published, Rules, StudyState};
use super::steps::{Frame, Now, Step};
use super::transition::Decision;
use super::view::Shown;
use galen_core::study::FrozenStudy;
use galen_core::{Clock, Code, PartyId, Refusal, Signed, SigningKey};
use galen_models::{CourseError, agenda};
use galen_net::protocol::{AttemptPhase, View};
use galen_net::{Encoded, FrameError};
use galen_store::{Repository, Store, StoreError, Table};
use galen_sums::audit::{AuditEvent, AuditHead};
use galen_sums::authored::Authored;
use galen_sums::record::RoundId;
use galen_sums::roster::Roster;
use galen_sums::round::Round;
use galen_sums::schedule::Schedule;
use galen_sums::set::{Certificate, check_certificate};
use galen_sums::{PlanError, SumsError};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use succession::{Former, Lineage, SuccessionError};
use tokio::sync::{Notify, watch};

const STATES: Table<StudyState> = Table::new("study", *b"STUD", 2);
const PUBLISHED: Table<Published> = Table::new("published", *b"PUBL", 2);
const STATEMENTS: Table<Authored> = Table::new("statements", *b"STMT", 1);
const STATE_KEY: &str = "state";

/// A fault of the coordinator itself, for the operator; parties are told [`Code::Internal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The study's training is impossible.
    #[error(transparent)]
    Course(#[from] CourseError),
    /// No parameters fit the study's sums.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// A record, set or certificate of ours does not hold.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// Reading or writing failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A sum failed.
    #[error(transparent)]
    Adding(#[from] AddingError),
    /// The audit log cannot be read or written.
    #[error(transparent)]
    Audit(#[from] AuditLogError),
    /// The store belongs to another study.
    #[error(transparent)]
    Succession(#[from] SuccessionError),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] galen_core::SignError),
    /// Something that the state refers to is not stored.
    #[error("{0} is missing from the store")]
    Missing(&'static str),
    /// A transition that the engine itself made was refused.
    #[error("inconsistent state: {0}")]
    Transition(#[from] Refusal),
}

/// The coordinator's side of a study's rounds.
pub struct Engine {
    study: FrozenStudy,
    roster: Arc<Roster>,
    rules: Rules,
    frame: Frame,
    schedule: Schedule,
    signing: SigningKey,
    own: PartyId,
    store: Store,
    states: Repository<StudyState>,
    published: Repository<Published>,
    statements: Repository<Authored>,
    audit: AuditLog,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    /// The view of the last state that was made durable. Whoever asks for it waits for no disk.
    shown: Mutex<Arc<Shown>>,
    wake: Notify,
    arrived: Arrived,
    arrivals: Arrivals,
    lineage: Lineage,
    /// The first round that is not announced.
    hold: AtomicU32,
}

struct Inner {
    state: StudyState,
    round: Option<Arc<Round>>,
    /// Head of the audit log.
    audit: AuditHead,
    /// Refusals that are in the audit log: who keeps sending the same fills nobody's disk.
    refused: BTreeSet<(PartyId, &'static str, Code)>,
    /// Contributors of the attempt under way whose fingerprints were complained of and found to be right.
    fitting: BTreeSet<PartyId>,
}

impl Engine {
    /// Opens the engine on what the store holds, or at the beginning.
    pub fn open(
        study: FrozenStudy,
        signing: SigningKey,
        store: Store,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, EngineError> {
        let roster = Arc::new(Roster::from_study(&study)?);
        let plan = study.study();
        let schedule = Schedule::new(agenda::schedule_shapes(plan)?, plan.sums.max_attempts);
        let frame = Frame {
            parties: plan.party.iter().map(|m| m.name.clone()).collect(),
            rounds: agenda::rounds(plan),
            first: study.first_round(),
            initial: agenda::first_state(&study),
            release: plan.serving.release,
        };
        let lineage = succession::lineage(&store, &study)?;
        let states = store.database().repository(&STATES)?;
        let statements = store.database().repository(&STATEMENTS)?;
        let published = store.database().repository(&PUBLISHED)?;
        let (audit, head) = AuditLog::open(store.database(), study.digest())?;
        let mut state = states.get(STATE_KEY)?.unwrap_or_default();
        state.published = published
            .iter()
            .map(|entry| entry.map(|(_, round)| round))
            .collect::<Result<_, _>>()?;
        state.introduced_ms = clock.steady_ms();
        if let Some(attempt) = &mut state.attempt {
            // The time while this process did not run is nobody's stand-still.
            attempt.progress_ms = clock.steady_ms();
        }
        let rules = Rules::of(plan, Arc::clone(&roster));
        // A restarted coordinator must not repeat a view number: parties would wait for a change that has happened.
        let version = clock.now_ms();
        let engine = Self {
            own: study.coordinator().name.clone(),
            version: watch::Sender::new(version),
            shown: Mutex::new(Arc::new(Shown::of(version, &state, &frame, &rules))),
            rules,
            inner: Mutex::new(Inner {
                state,
                round: None,
                audit: head,
                refused: BTreeSet::new(),
                fitting: BTreeSet::new(),
            }),
            wake: Notify::new(),
            arrived: Arrived::default(),
            arrivals: Arrivals::default(),
            study,
            roster,
            frame,
            schedule,
            signing,
            store,
            states,
            published,
            statements,
            audit,
            clock,
            lineage,
            hold: AtomicU32::new(u32::MAX),
        };
        engine.reload_round()?;
        engine.sweep()?;
        Ok(engine)
    }

    /// The study.
    pub fn study(&self) -> &FrozenStudy {
        &self.study
    }

    /// The coordinator's name in the study.
    pub fn own(&self) -> &PartyId {
        &self.own
    }

    /// Milliseconds since the epoch by this engine's clock.
    pub fn now_ms(&self) -> u64 {
        self.clock.now_ms()
    }

    /// The studies before this one, oldest first.
    pub fn former(&self) -> &[Former] {
        &self.lineage.former
    }

    /// Announces no round from this one on, until the study is opened again: so that it can be succeeded between rounds.
    pub fn hold_before(&self, round: u32) {
        self.hold.store(round, Ordering::Relaxed);
    }

    /// Whether the next round is held back.
    pub fn holds(&self) -> bool {
        matches!(self.step(), Step::Announce { round, .. } if self.is_held(round))
    }

    fn is_held(&self, round: u32) -> bool {
        round >= self.hold.load(Ordering::Relaxed)
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// A copy of the state.
    pub fn state(&self) -> StudyState {
        self.lock().state.clone()
    }

    /// What the study needs next.
    pub fn step(&self) -> Step {
        self.next_step(&self.lock().state)
    }

    /// Number of rounds of the study.
    pub fn rounds(&self) -> u32 {
        self.frame.rounds
    }

    /// The view for parties, with published rounds from this one on.
    pub fn view(&self, from: u32) -> View {
        let shown = Arc::clone(&self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        shown.since(from)
    }

    /// The same as an answer, encoded once for all that ask for it.
    ///
    /// # Errors
    /// If it is longer than a frame may be.
    pub fn encoded_view(&self, from: u32) -> Result<Encoded, FrameError> {
        let shown = Arc::clone(&self.shown.lock().unwrap_or_else(PoisonError::into_inner));
        shown.encoded(from)
    }

    /// Lines of the audit log after the first `from`.
    pub fn audit(&self, from: u64) -> Result<Vec<Signed>, Refusal> {
        self.audit.lines(from, usize::MAX).map_err(store_refusal)
    }

    /// Who is waited for in an attempt.
    pub fn awaiting(&self, attempt: &Attempt) -> Vec<PartyId> {
        attempt.awaiting(&self.rules, &self.lock().state.standing(&self.rules))
    }

    /// Tells when the view changes.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    /// Resolves when there may be something to drive.
    pub async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Length that a contribution's blob has in the attempt under way; `None` while none is collected.
    pub fn contribution_len(&self) -> Option<u64> {
        let inner = self.lock();
        let collecting = inner
            .state
            .attempt
            .as_ref()
            .is_some_and(|a| a.phase == AttemptPhase::Collecting);
        inner
            .round
            .as_ref()
            .filter(|_| collecting)
            .map(|round| round.plan().blob_len())
    }

    fn certificate(&self, round: &Round, attempt: &Attempt) -> Result<Certificate, EngineError> {
        let endorsements = self.collect(round.id(), "endorsement")?;
        let known: Vec<_> = endorsements
            .into_iter()
            .filter(|a| attempt.endorsements.contains_key(&a.author))
            .collect();
        Ok(check_certificate(round, &known)?)
    }

    fn next_step(&self, state: &StudyState) -> Step {
        state.next(&self.frame, &self.rules, self.clock.steady_ms(), |model| {
            matches!(self.store.blobs().info(model), Ok(Some(_)))
        })
    }

    fn collect(&self, id: RoundId, kind: &str) -> Result<Vec<Authored>, EngineError> {
        let prefix = format!("{:08}/{:04}/{kind}", id.round, id.attempt);
        Ok(self
            .statements
            .prefix(prefix.as_bytes())
            .map(|entry| entry.map(|(_, authored)| authored))
            .collect::<Result<_, _>>()?)
    }

    fn now(&self) -> Now {
        Now {
            wall_ms: self.clock.now_ms(),
            steady_ms: self.clock.steady_ms(),
        }
    }

    fn change(&self, change: impl FnOnce(&mut StudyState, Now)) -> Result<(), EngineError> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        change(&mut state, self.now());
        Ok(self.commit(&mut inner, state, None, Vec::new())?)
    }

    /// Puts a refusal into the audit log, once, if it names its receiver as at fault.
    fn note_refusal(&self, party: &PartyId, what: &'static str, refusal: &Refusal) {
        let Some(event) = audit::refused(party, what, refusal) else {
            return;
        };
        let mut inner = self.lock();
        if !inner.refused.insert((party.clone(), what, refusal.code)) {
            return;
        }
        let state = inner.state.clone();
        if let Err(error) = self.commit(&mut inner, state, None, vec![event]) {
            tracing::error!(%error, "a refusal could not be put into the audit log");
        }
    }

    /// Changes the state as a decision says, if the decision still holds: statements may have come in since it was made.
    /// `events` go into the audit log, beside those that the change itself tells; they are told of the attempt as it is when the decision is
    /// carried out.
    fn change_if(
        &self,
        decision: &Decision,
        events: impl FnOnce(&Attempt) -> Result<Vec<AuditEvent>, EngineError>,
        change: impl FnOnce(&mut StudyState, Now),
    ) -> Result<bool, EngineError> {
        let mut inner = self.lock();
        self.arrivals.note(&mut inner.state);
        let mut state = inner.state.clone();
        let now = self.now();
        let Some(attempt) = &state.attempt else {
            return Ok(false);
        };
        if attempt.decide(&self.rules, &state.standing(&self.rules), now.steady_ms) != *decision {
            return Ok(false);
        }
        let events = events(attempt)?;
        change(&mut state, now);
        self.commit(&mut inner, state, None, events)?;
        Ok(true)
    }

    /// Makes a state, a statement with it, and the audit log's lines of both durable in one step; then it is the state.
    fn commit(
        &self,
        inner: &mut Inner,
        state: StudyState,
        statement: Option<(String, Authored)>,
        mut events: Vec<AuditEvent>,
    ) -> Result<(), Refusal> {
        events.extend(audit::told(&inner.state, &state, &self.roster));
        let mut batch = self.store.database().batch();
        let head = self
            .audit
            .append(
                &mut batch,
                &self.signing,
                inner.audit,
                self.clock.now_ms(),
                events,
            )
            .map_err(|error| internal(error.into()))?;
        batch
            .put(&self.states, STATE_KEY, &state)
            .map_err(store_refusal)?;
        for (round, published) in (0u32..).zip(&state.published).skip(inner.state.published.len()) {
            batch
                .put(&self.published, round.to_be_bytes(), published)
                .map_err(store_refusal)?;
        }
        if let Some((key, authored)) = &statement {
            batch
                .put(&self.statements, key, authored)
                .map_err(store_refusal)?;
        }
        batch.commit().map_err(store_refusal)?;
        let current = |state: &StudyState| state.attempt.as_ref().map(|a| (a.round, a.attempt));
        if current(&inner.state) != current(&state) {
            inner.refused.clear();
            inner.fitting.clear();
        }
        inner.audit = head;
        inner.state = state;
        let version = *self.version.borrow() + 1;
        let shown = Arc::new(Shown::of(version, &inner.state, &self.frame, &self.rules));
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        self.version.send_replace(version);
        self.wake.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

fn proposal(attempt: &Attempt) -> Result<&Proposal, Refusal> {
    attempt
        .proposal
        .as_ref()
        .ok_or_else(|| Refusal::new(Code::WrongPhase, "no set is proposed yet"))
}

fn statement_key(id: RoundId, kind: &str, party: &PartyId) -> String {
    format!("{:08}/{:04}/{kind}/{party}", id.round, id.attempt)
}

/// What a party is told when the coordinator itself is at fault; the operator's log has the details.
pub fn internal(error: EngineError) -> Refusal {
    tracing::error!(%error, "request failed");
    Refusal::new(Code::Internal, "the coordinator could not carry this out")
}

fn store_refusal(error: StoreError) -> Refusal {
    tracing::error!(%error, "store failed");
    error.refusal()
}
