//! Joins the pure state machines with the store: verifies, applies, persists, and only then acknowledges.

use super::adding::{self, AddingError};
use super::state::{Attempt, Contribution, Proposal, Rules, StudyState};
use super::steps::{Frame, Step};
use super::transition::{Decision, Event};
use super::{verify, view};
use galen_core::study::{FrozenStudy, STUDY_SIGNATURE};
use galen_core::{Clock, Code, Digest, PartyId, Refusal, Signed, SigningKey, StudyDigest, faults};
use galen_models::{SpecError, agenda};
use galen_net::protocol::{AttemptPhase, BlobKind, Item, Statement, View};
use galen_store::{Repository, Store, StoreError, Table};
use galen_sums::authored::Authored;
use galen_sums::contribution::check_blob;
use galen_sums::record::{RoundId, RoundRecord};
use galen_sums::roster::Roster;
use galen_sums::round::Round;
use galen_sums::schedule::Schedule;
use galen_sums::set::{Certificate, ContributionSet, check_certificate};
use galen_sums::{PlanError, SumPlan, SumsError};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::sync::{Notify, watch};

const STATES: Table<StudyState> = Table::new("study", *b"STUD", 1);
const STATEMENTS: Table<Authored> = Table::new("statements", *b"STMT", 1);
const STATE_KEY: &str = "state";

/// A fault of the coordinator itself, for the operator; parties are told [`Code::Internal`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The study's model cannot be built.
    #[error(transparent)]
    Spec(#[from] SpecError),
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
    statements: Repository<Authored>,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    version: watch::Sender<u64>,
    wake: Notify,
}

struct Inner {
    state: StudyState,
    round: Option<Arc<Round>>,
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
        let schedule = schedule(&study)?;
        let frame = Frame {
            parties: plan.party.iter().map(|m| m.name.clone()).collect(),
            rounds: agenda::rounds(plan),
            initial: agenda::initial_state(&study.digest()),
            release: plan.serving.release,
        };
        let states = store.database().repository(&STATES)?;
        let statements = store.database().repository(&STATEMENTS)?;
        let mut state = states.get(STATE_KEY)?.unwrap_or_default();
        let now = clock.now_ms();
        if let Some(attempt) = &mut state.attempt {
            // The time while this process did not run is nobody's stand-still.
            attempt.progress_ms = now;
        }
        let engine = Self {
            rules: Rules::of(plan, Arc::clone(&roster)),
            own: study.coordinator().name.clone(),
            // A restarted coordinator must not repeat a view number: parties would wait for a change that has happened.
            version: watch::Sender::new(now),
            inner: Mutex::new(Inner { state, round: None }),
            wake: Notify::new(),
            study,
            roster,
            frame,
            schedule,
            signing,
            store,
            states,
            statements,
            clock,
        };
        engine.reload_round()?;
        engine.sweep()?;
        Ok(engine)
    }

    /// The study.
    pub fn study(&self) -> &FrozenStudy {
        &self.study
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

    /// The view for parties.
    pub fn view(&self) -> View {
        let inner = self.lock();
        view::view(*self.version.borrow(), &inner.state, &self.frame, &self.rules)
    }

    /// Who is waited for in an attempt.
    pub fn awaiting(&self, attempt: &Attempt) -> Vec<PartyId> {
        attempt.awaiting(&self.rules, &self.lock().state.excluded)
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

    /// Takes note that bytes of a contribution arrived.
    pub fn touch(&self) {
        let now = self.clock.now_ms();
        if let Some(attempt) = &mut self.lock().state.attempt {
            attempt.progress_ms = now;
        }
    }

    /// Stores a party's consent to the study.
    pub fn consent(&self, party: &PartyId, consent: &Signed) -> Result<(), Refusal> {
        let authored = Authored {
            author: party.clone(),
            statement: consent.clone(),
        };
        let digest: StudyDigest = verify::open(&self.roster, STUDY_SIGNATURE, &authored)?;
        if digest != self.study.digest() {
            return Err(Refusal::new(Code::WrongStudy, "the consent is to another study"));
        }
        let mut inner = self.lock();
        if inner.state.consents.contains(party) {
            return Ok(());
        }
        let mut state = inner.state.clone();
        state.consents.insert(party.clone());
        self.commit(&mut inner, state, Some((format!("consent/{party}"), authored)))?;
        // Decided before the driver can go on: afterwards the study might have left this state.
        let active = matches!(self.next_step(&inner.state), Step::Announce { .. });
        drop(inner);
        if active {
            faults::reach("coordinator.study.active");
        }
        Ok(())
    }

    /// Takes in a party's statement: verified, applied, durable when this returns.
    pub fn post(&self, party: &PartyId, statement: Statement) -> Result<(), Refusal> {
        let authored = |signed: Signed| Authored {
            author: party.clone(),
            statement: signed,
        };
        if let Statement::Release(signed) = statement {
            return self.release(party, authored(signed));
        }
        let (round, attempt) = {
            let inner = self.lock();
            let attempt = inner.state.attempt.clone();
            (
                inner.round.clone(),
                attempt.ok_or_else(|| Refusal::new(Code::WrongRound, "no round is under way"))?,
            )
        };
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let recorded = || {
            round
                .as_deref()
                .ok_or_else(|| Refusal::new(Code::WrongPhase, "the round record is not fixed yet"))
        };
        let (kind, authored, event) = match statement {
            Statement::RoundKey(signed) => {
                let authored = authored(signed);
                verify::round_key(&self.roster, id, &authored)?;
                let event = Event::RoundKey {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("key".to_owned(), authored, event)
            }
            Statement::Contribution(signed) => {
                let authored = authored(signed);
                let event = self.contribution(recorded()?, &attempt, &authored)?;
                ("contribution".to_owned(), authored, event)
            }
            Statement::Endorsement(signed) => {
                let authored = authored(signed);
                let proposal = proposal(&attempt)?;
                verify::endorsement(recorded()?, proposal.set_digest, proposal.sum, &authored)?;
                let event = Event::Endorsement {
                    custodian: party.clone(),
                    statement: authored.digest(),
                };
                ("endorsement".to_owned(), authored, event)
            }
            Statement::SeedsRefused(signed) => {
                let authored = authored(signed);
                let contributor = verify::seeds_refused(recorded()?, &authored)?;
                (
                    "refused".to_owned(),
                    authored,
                    Event::SeedsRefused {
                        custodian: party.clone(),
                        contributor,
                    },
                )
            }
            Statement::Answer(signed) => {
                let authored = authored(signed);
                let certificate = self.certificate(recorded()?, &attempt).map_err(internal)?;
                let header = verify::answer(recorded()?, &certificate, &authored)?;
                let statement = authored.digest();
                let event = Event::Answer {
                    custodian: party.clone(),
                    pieces: header.pieces,
                    statement,
                };
                (format!("answer-{}", statement.short()), authored, event)
            }
            Statement::Opened(signed) => {
                let authored = authored(signed);
                let result = verify::opened(recorded()?, &authored)?;
                (
                    "opened".to_owned(),
                    authored,
                    Event::Opened {
                        receiver: party.clone(),
                        result,
                    },
                )
            }
            Statement::OpeningFailed(signed) => {
                let authored = authored(signed);
                let detail = verify::opening_failed(recorded()?, &authored)?;
                (
                    "failed".to_owned(),
                    authored,
                    Event::OpeningFailed {
                        receiver: party.clone(),
                        detail,
                    },
                )
            }
            Statement::Release(_) => return Err(Refusal::new(Code::Internal, "unreachable statement")),
        };
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let current = state
            .attempt
            .as_mut()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let current = current.ok_or_else(|| Refusal::new(Code::WrongRound, "the attempt has ended"))?;
        let before = current.clone();
        current.apply(event, self.clock.now_ms())?;
        if *current
            == (Attempt {
                progress_ms: current.progress_ms,
                ..before
            })
        {
            return Ok(());
        }
        let fault = match kind.as_str() {
            "contribution" => Some("coordinator.contribution.stored"),
            kind if kind.starts_with("answer") => Some("coordinator.answer.stored"),
            _ => None,
        };
        self.commit(
            &mut inner,
            state,
            Some((statement_key(id, &kind, party), authored)),
        )?;
        if let Some(point) = fault {
            faults::reach(point);
        }
        Ok(())
    }

    fn contribution(&self, round: &Round, attempt: &Attempt, authored: &Authored) -> Result<Event, Refusal> {
        let header = verify::contribution(round, authored)?;
        let blobs = self.store.blobs();
        let info = blobs.info(&header.ciphertext).map_err(store_refusal)?;
        if !info.is_some_and(|info| info.owners.contains(&authored.author)) {
            return Err(Refusal::new(
                Code::BlobUnknown,
                "send the ciphertexts before the header",
            ));
        }
        let known = attempt
            .contributions
            .get(&authored.author)
            .is_some_and(|c| c.blob == header.ciphertext);
        if !known {
            let reader = blobs.open_read(&header.ciphertext).map_err(store_refusal)?;
            let digest = check_blob(round, &authored.author, reader).map_err(verify::refusal)?;
            if digest != header.ciphertext {
                return Err(Refusal::new(
                    Code::NotConforming,
                    "the ciphertexts do not have the digest in the header",
                ));
            }
        }
        let contribution = Contribution {
            header: authored.digest(),
            blob: header.ciphertext,
        };
        Ok(Event::Contribution {
            contributor: authored.author.clone(),
            contribution,
        })
    }

    fn release(&self, party: &PartyId, authored: Authored) -> Result<(), Refusal> {
        let model = verify::release(&self.roster, &authored)?;
        let mut inner = self.lock();
        if inner.state.published.len() as u32 != self.frame.rounds {
            return Err(Refusal::new(Code::WrongPhase, "rounds are still under way"));
        }
        match inner.state.releases.get(party) {
            Some(known) if *known == model => return Ok(()),
            Some(_) => return Err(Refusal::new(Code::Conflict, "you released another model before")),
            None => {}
        }
        let mut state = inner.state.clone();
        state.releases.insert(party.clone(), model);
        self.commit(&mut inner, state, Some((format!("release/{party}"), authored)))
    }

    /// Statements of an attempt, for parties that may see them.
    pub fn fetch(
        &self,
        party: &PartyId,
        round: u32,
        attempt: u32,
        item: Item,
    ) -> Result<Vec<(PartyId, Signed)>, Refusal> {
        let id = RoundId { round, attempt };
        if item == Item::Answers && !self.roster.receivers().contains(party) {
            return Err(Refusal::new(Code::RoleMissing, "only receivers fetch answers"));
        }
        let (kind, names) = match item {
            Item::Record => ("record", None),
            Item::Headers => ("contribution", Some(self.set_of(id)?)),
            Item::Endorsements => ("endorsement", None),
            Item::Answers => ("answer", None),
        };
        if item == Item::Answers {
            self.require_open(id)?;
        }
        let found = self.collect(id, kind).map_err(internal)?;
        let found: Vec<_> = match names {
            Some(names) => names
                .iter()
                .filter_map(|name| found.iter().find(|a| &a.author == name).cloned())
                .collect(),
            None => found,
        };
        if found.is_empty() {
            return Err(Refusal::new(
                Code::WrongRound,
                format!("nothing of the kind is stored for round {round} attempt {attempt}"),
            ));
        }
        Ok(found.into_iter().map(|a| (a.author, a.statement)).collect())
    }

    /// Answers of an attempt are given out only when all pieces are answered, so that receivers open once and completely.
    fn require_open(&self, id: RoundId) -> Result<(), Refusal> {
        let inner = self.lock();
        let published = inner
            .state
            .published
            .get(id.round as usize)
            .is_some_and(|p| p.attempt == id.attempt);
        let current = inner.state.attempt.as_ref().is_some_and(|a| {
            (a.round, a.attempt) == (id.round, id.attempt)
                && matches!(a.phase, AttemptPhase::Opening | AttemptPhase::Published)
        });
        if published || current {
            Ok(())
        } else {
            Err(Refusal::new(Code::WrongPhase, "the answers are not complete"))
        }
    }

    fn set_of(&self, id: RoundId) -> Result<Vec<PartyId>, Refusal> {
        let inner = self.lock();
        if let Some(published) = inner.state.published.get(id.round as usize)
            && published.attempt == id.attempt
        {
            return Ok(published.set.clone());
        }
        let current = inner
            .state
            .attempt
            .as_ref()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        let attempt = current.ok_or_else(|| Refusal::new(Code::WrongRound, "no such attempt"))?;
        Ok(proposal(attempt)?.set.clone())
    }

    /// Whether a party may read a blob.
    pub fn may_read(&self, party: &PartyId, digest: &Digest) -> Result<(), Refusal> {
        let info = self.store.blobs().info(digest).map_err(store_refusal)?;
        let info = info.ok_or_else(|| Refusal::new(Code::BlobUnknown, "no such blob"))?;
        let receiver = self.roster.receivers().contains(party);
        let allowed = match info.kind {
            kind if kind == BlobKind::Sum as u16 => receiver && self.sum_is_open(digest),
            kind if kind == BlobKind::Model as u16 => true,
            kind if kind == BlobKind::Answer as u16 => info.owners.contains(party),
            _ => false,
        };
        if allowed {
            Ok(())
        } else {
            Err(Refusal::new(Code::BlobForbidden, "this blob is not for you"))
        }
    }

    fn sum_is_open(&self, digest: &Digest) -> bool {
        let inner = self.lock();
        let current = inner.state.attempt.as_ref().is_some_and(|a| {
            a.phase == AttemptPhase::Opening && a.proposal.as_ref().is_some_and(|p| p.sum == *digest)
        });
        current || inner.state.published.iter().any(|p| p.sum == *digest)
    }

    /// Does everything that is due. Called after events and regularly; blocks while a sum is computed.
    pub fn drive(&self) -> Result<(), EngineError> {
        loop {
            let (state, round) = {
                let inner = self.lock();
                (inner.state.clone(), inner.round.clone())
            };
            match self.next_step(&state) {
                Step::Announce { round, attempt, base } => {
                    tracing::info!(round, attempt, "announcing");
                    self.change(|state, now| state.announce(round, attempt, base, now))?;
                    faults::reach("coordinator.round.announced");
                }
                Step::Attempt => {
                    let Some(attempt) = &state.attempt else {
                        return Ok(());
                    };
                    let decision = attempt.decide(&self.rules, &state.excluded, self.clock.now_ms());
                    if decision == Decision::Wait {
                        return Ok(());
                    }
                    self.act(attempt, round.as_deref(), decision)?;
                }
                Step::Complete => {
                    self.change(|state, _| {
                        state.close(
                            true,
                            "all rounds are published; the model stays with the contributors",
                        )
                    })?;
                }
                Step::AwaitConsent(_)
                | Step::AwaitRelease
                | Step::Serve(_)
                | Step::Serving
                | Step::Closed => return Ok(()),
            }
        }
    }

    fn act(&self, attempt: &Attempt, round: Option<&Round>, decision: Decision) -> Result<(), EngineError> {
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let round = || round.ok_or(EngineError::Missing("the round record"));
        match decision {
            Decision::Wait => {}
            Decision::FixRecord => {
                self.fix_record(attempt, id)?;
                faults::reach("coordinator.round.collecting");
            }
            Decision::Sum(members) => {
                let proposal = self.sum(round()?, attempt, &members)?;
                tracing::info!(round = id.round, contributors = proposal.set.len(), sum = %proposal.sum.short(), "set closed and added");
                self.change_attempt(id, |attempt, now| attempt.apply(Event::SetFixed(proposal), now))?;
                faults::reach("coordinator.round.proposed");
            }
            Decision::Publish(result) => {
                tracing::info!(round = id.round, state = %result.short(), "published");
                self.change(|state, now| state.publish(result, now))?;
                self.reload_round()?;
                faults::reach("coordinator.round.published");
                self.sweep()?;
            }
            Decision::Abandon(ref reason) => {
                tracing::warn!(round = id.round, attempt = id.attempt, %reason, "attempt abandoned");
                self.change(|state, now| {
                    if let Some(attempt) = &mut state.attempt {
                        attempt.carry_out(&decision, now);
                    }
                    state.note_abandoned(&self.rules);
                })?;
                self.reload_round()?;
                faults::reach("coordinator.round.abandoned");
                self.sweep()?;
            }
            Decision::Fail(reason) => {
                tracing::error!(round = id.round, %reason, "the study cannot go on");
                self.change(|state, _| state.close(false, reason))?;
            }
            Decision::Certify(_) | Decision::Reassign(_) | Decision::Open => {
                self.change_attempt(id, |attempt, now| {
                    attempt.carry_out(&decision, now);
                    Ok(())
                })?;
                faults::reach(if decision == Decision::Open {
                    "coordinator.round.opening"
                } else {
                    "coordinator.round.certified"
                });
            }
        }
        Ok(())
    }

    fn fix_record(&self, attempt: &Attempt, id: RoundId) -> Result<(), EngineError> {
        let inputs = self
            .schedule
            .inputs(&self.roster, id.round)
            .ok_or(EngineError::Missing("the round's plan"))?;
        let purpose = self
            .schedule
            .purpose(id.round)
            .ok_or(EngineError::Missing("the round's purpose"))?;
        let keys = self.collect(id, "key")?;
        let record = RoundRecord {
            study: self.study.digest(),
            purpose,
            round: id,
            plan: SumPlan::new(&inputs)?,
            base: attempt.base,
            custodians: keys
                .into_iter()
                .filter(|key| attempt.keys.contains_key(&key.author))
                .collect(),
            audit_head: None,
        };
        let signed = record.sign(&self.signing)?;
        let round = Arc::new(Round::open(&self.roster, &signed, &inputs)?);
        let authored = Authored {
            author: self.own.clone(),
            statement: signed,
        };
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let current = state
            .attempt
            .as_mut()
            .ok_or(EngineError::Missing("the attempt"))?;
        current.apply(
            Event::RecordFixed {
                record: *round.digest(),
            },
            self.clock.now_ms(),
        )?;
        self.commit(
            &mut inner,
            state,
            Some((statement_key(id, "record", &self.own), authored)),
        )?;
        inner.round = Some(round);
        Ok(())
    }

    fn sum(
        &self,
        round: &Round,
        attempt: &Attempt,
        members: &BTreeSet<PartyId>,
    ) -> Result<Proposal, EngineError> {
        let id = round.id();
        let headers: Vec<_> = self
            .collect(id, "contribution")?
            .into_iter()
            .filter(|a| members.contains(&a.author))
            .collect();
        let set = ContributionSet::new(round, &headers)?;
        let blob = |name: &PartyId| attempt.contributions.get(name).map(|c| (name.clone(), c.blob));
        let ciphertexts = members
            .iter()
            .map(|name| blob(name).ok_or(EngineError::Missing("a contribution")));
        let sum = adding::add(
            round,
            &set,
            ciphertexts.collect::<Result<_, _>>()?,
            self.store.blobs(),
            &self.own,
        )?;
        Ok(Proposal {
            set: members.iter().cloned().collect(),
            set_digest: set.digest(),
            sum,
        })
    }

    fn certificate(&self, round: &Round, attempt: &Attempt) -> Result<Certificate, EngineError> {
        let endorsements = self.collect(round.id(), "endorsement")?;
        let known: Vec<_> = endorsements
            .into_iter()
            .filter(|a| attempt.endorsements.contains_key(&a.author))
            .collect();
        Ok(check_certificate(round, &known)?)
    }

    /// Marks the model as served.
    pub fn serve(&self, model: Digest) -> Result<(), EngineError> {
        self.change(|state, _| state.serving = Some(model))?;
        faults::reach("coordinator.model.serving");
        Ok(())
    }

    /// Deletes contributions that no attempt under way refers to. Runs where none can be arriving: when an attempt has ended, and at
    /// start-up unless contributions are being collected.
    fn sweep(&self) -> Result<(), EngineError> {
        let state = self.state();
        let in_use = state
            .attempt
            .as_ref()
            .is_some_and(|a| (AttemptPhase::Collecting..=AttemptPhase::Opening).contains(&a.phase));
        if in_use {
            return Ok(());
        }
        for (digest, info) in self.store.blobs().list()? {
            if info.kind == BlobKind::Contribution as u16 {
                self.store.blobs().delete(&digest)?;
            }
        }
        Ok(())
    }

    fn reload_round(&self) -> Result<(), EngineError> {
        let mut inner = self.lock();
        inner.round = None;
        let Some(attempt) = inner.state.attempt.as_ref().filter(|a| a.record.is_some()) else {
            return Ok(());
        };
        let id = RoundId {
            round: attempt.round,
            attempt: attempt.attempt,
        };
        let record = self
            .statements
            .get(statement_key(id, "record", &self.own))?
            .ok_or(EngineError::Missing("the round record"))?;
        let inputs = self
            .schedule
            .inputs(&self.roster, id.round)
            .ok_or(EngineError::Missing("the round's plan"))?;
        inner.round = Some(Arc::new(Round::open(&self.roster, &record.statement, &inputs)?));
        Ok(())
    }

    fn next_step(&self, state: &StudyState) -> Step {
        state.next(&self.frame, &self.rules, |model| {
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

    fn change(&self, change: impl FnOnce(&mut StudyState, u64)) -> Result<(), EngineError> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        change(&mut state, self.clock.now_ms());
        Ok(self.commit(&mut inner, state, None)?)
    }

    fn change_attempt(
        &self,
        id: RoundId,
        change: impl FnOnce(&mut Attempt, u64) -> Result<(), Refusal>,
    ) -> Result<(), EngineError> {
        let mut inner = self.lock();
        let mut state = inner.state.clone();
        let attempt = state
            .attempt
            .as_mut()
            .filter(|a| (a.round, a.attempt) == (id.round, id.attempt));
        change(
            attempt.ok_or(EngineError::Missing("the attempt"))?,
            self.clock.now_ms(),
        )?;
        Ok(self.commit(&mut inner, state, None)?)
    }

    /// Makes a state, and a statement with it, durable in one step; then it is the state.
    fn commit(
        &self,
        inner: &mut Inner,
        state: StudyState,
        statement: Option<(String, Authored)>,
    ) -> Result<(), Refusal> {
        let mut batch = self.store.database().batch();
        batch
            .put(&self.states, STATE_KEY, &state)
            .map_err(store_refusal)?;
        if let Some((key, authored)) = &statement {
            batch
                .put(&self.statements, key, authored)
                .map_err(store_refusal)?;
        }
        batch.commit().map_err(store_refusal)?;
        inner.state = state;
        self.version.send_modify(|version| *version += 1);
        self.wake.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// The rounds of a study with what each adds up.
pub fn schedule(study: &FrozenStudy) -> Result<Schedule, SpecError> {
    let plan = study.study();
    let mut rounds = Vec::new();
    for round in 0..agenda::rounds(plan) {
        if let Some(shape) = agenda::shape(plan, round)? {
            rounds.push((shape.purpose, shape.values as u32, shape.max_abs));
        }
    }
    Ok(Schedule::new(rounds, plan.sums.max_attempts))
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
