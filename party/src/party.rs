//! A party: what it has, and what it does about each of the coordinator's views. How it is connected is not its business.

use crate::audit::AuditCopy;
use crate::carrier::Carrier;
use crate::consequence::{Failing, concerns_only, is_of_the_moment, is_of_this_side};
use crate::contribute::Contributor;
use crate::custody::Custodian;
use crate::custody::anchor::Anchor;
use crate::data::Patients;
use crate::derive::Derived;
use crate::error::PartyError;
use crate::handover;
use crate::identity::Identity;
use crate::link::Link;
use crate::opening::Opening;
use crate::rounds::Rounds;
use crate::sealed::{Sealed, State};
use crate::status::Board;
use crate::steps::{self, History, Own, Part, Step};
use crate::traffic::{Books, Meter};
use crate::vault::Vault;
use galen_core::envelope::Trouble;
use galen_core::study::FrozenStudy;
use galen_core::{Clock, Digest, Signed};
use galen_net::protocol::{StudyPhase, View};
use galen_store::{Repository, Store, Table};
use galen_sums::{Round, RoundId};
use galen_training::Device;
use std::sync::Arc;

const TRAFFIC: Table<Books> = Table::new("traffic", *b"TRAF", 1);
const TRAFFIC_KEY: &str = "traffic";

/// How a party's work ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Stopped,
    /// The study is over and was completed.
    Completed(String),
}

/// What a party is made of.
pub struct Parts {
    /// Its keys.
    pub identity: Arc<Identity>,
    /// The study.
    pub study: FrozenStudy,
    /// Its signature of the study.
    pub consent: Signed,
    /// Its records and keys.
    pub store: Store,
    /// Its derived state and opened sums.
    pub sealed: Sealed,
    /// Its copy of the audit log.
    pub audit: AuditCopy,
    /// What it remembers of its custodian's ledger outside of its disk.
    pub anchor: Box<dyn Anchor>,
    /// Its table; only contributors need one.
    pub patients: Option<Patients>,
    /// What it trains on.
    pub device: Device,
    /// Where it says how it is doing.
    pub board: Board,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

/// What the parts of a running party share.
pub(crate) struct Shared {
    pub(crate) identity: Arc<Identity>,
    pub(crate) study: FrozenStudy,
    pub(crate) consent: Signed,
    pub(crate) rounds: Rounds,
    pub(crate) part: Part,
    pub(crate) store: Store,
    pub(crate) vault: Vault,
    pub(crate) custodian: Custodian,
    pub(crate) contributor: Contributor,
    pub(crate) sealed: Sealed,
    pub(crate) audit: AuditCopy,
    pub(crate) patients: Option<Patients>,
    pub(crate) device: Device,
    pub(crate) board: Board,
    traffic: Repository<Books>,
}

/// A party that is ready to take part.
pub struct Party {
    pub(crate) shared: Arc<Shared>,
    pub(crate) state: Arc<State>,
    /// The round under way, verified.
    pub(crate) round: Option<Arc<Round>>,
    /// An opened sum whose publication is not seen yet.
    pub(crate) pending: Option<(RoundId, Opening)>,
    own: Own,
    failing: Failing,
    /// Digest of the trained model, and after how many rounds it was looked at: hashing a large model takes a while.
    model: (Option<u32>, Option<Digest>),
    /// What the connection is used for at the moment.
    purpose: Option<&'static str>,
    meter: Meter,
    clock: Arc<dyn Clock>,
}

/// The last view that a party looked at on a connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    version: u64,
    /// The first published round that it was asked to show.
    from: u32,
    /// Whether it showed not all rounds that are published after that one.
    is_cut: bool,
}

impl Party {
    /// Goes on from what is stored.
    ///
    /// # Errors
    /// If the study does not know this party under its keys, or what is stored cannot be read.
    pub fn new(parts: Parts) -> Result<Self, PartyError> {
        let Parts {
            identity,
            study,
            consent,
            store,
            sealed,
            audit,
            anchor,
            patients,
            device,
            board,
            clock,
        } = parts;
        identity.check_member(&study)?;
        let part = Part::of(&study, &identity.name);
        let rounds = Rounds::of(&study)?;
        // Sums that were being opened when the process died are fetched again.
        for (digest, _) in store.blobs().list()? {
            store.blobs().delete(&digest)?;
        }
        let state = sealed.state(&study.digest())?;
        if handover::is_needed(&study, part.contributor, state.as_ref()) {
            return Err(handover::needed(&study));
        }
        let state = state.unwrap_or_else(|| State {
            study: study.digest(),
            derived: Derived::initial(&study),
            security: None,
            personal: None,
        });
        let traffic = store.database().repository(&TRAFFIC)?;
        let books = traffic.get(TRAFFIC_KEY)?.unwrap_or_default();
        let shared = Shared {
            custodian: Custodian::open(&store, study.digest(), Arc::clone(&identity), anchor)?,
            contributor: Contributor::open(&store, Arc::clone(&identity))?,
            vault: Vault::open(&store)?,
            board,
            identity,
            study,
            consent,
            rounds,
            part,
            store,
            sealed,
            audit,
            patients,
            device,
            traffic,
        };
        let mut party = Self {
            shared: Arc::new(shared),
            state: Arc::new(state),
            round: None,
            pending: None,
            own: Own::default(),
            failing: Failing::default(),
            model: (None, None),
            purpose: None,
            meter: Meter::new(books, clock.now_ms()),
            clock,
        };
        party.look_within()?;
        party.tidy()?;
        Ok(party)
    }

    /// Brings the notes on contributions up to what was erased, should the process have died between the two.
    fn tidy(&self) -> Result<(), PartyError> {
        let gone = RoundId {
            round: self.own.applied,
            attempt: 0,
        };
        let gone = self.own.oldest_secret.map_or(gone, |oldest| oldest.min(gone));
        self.shared.contributor.erased_before(gone)
    }

    /// Says hello on a fresh connection. What was done on the last one is looked at again.
    pub async fn hello(&mut self, carrier: Arc<dyn Carrier>) -> Result<Link, PartyError> {
        self.meter.connected(self.clock.now_ms());
        self.own.done.clear();
        self.round = None;
        let link = Link::hello(carrier, &self.shared.consent).await?;
        self.shared.board.update(|status| status.connected = true);
        Ok(link)
    }

    /// Waits for the next view: another one than the last, or the one that shows the rounds after those that this party has taken in
    /// since.
    pub async fn next_view(&self, link: &Link, last: &mut Seen) -> Result<View, PartyError> {
        // The last round taken in is looked at too: the coordinator must not have forgotten it.
        let from = self.state.derived.applied().saturating_sub(1);
        let behind = last.is_cut && from != last.from;
        let view = link.poll(if behind { 0 } else { last.version }, from).await?;
        *last = Seen {
            version: view.version,
            from,
            is_cut: view.is_cut(),
        };
        Ok(view)
    }

    /// Does what a view asks for, one step after the other until nothing is due; tells if the party's work has ended.
    ///
    /// # Errors
    /// What ends the connection, such as a lost one, or the party's work, such as published rounds that are not those derived here.
    pub async fn turn(&mut self, link: &Link, view: &View) -> Result<Option<End>, PartyError> {
        self.book(link.traffic());
        self.compare(view)?;
        self.show(view);
        // What was refused is tried again when the view has changed.
        let mut declined = Vec::new();
        while let Some(step) = self.next(view, &declined) {
            tracing::debug!(?step, "due");
            match self.perform(link, &step).await {
                Ok(Some(end)) => return Ok(Some(end)),
                Ok(None) => {
                    self.book(link.traffic());
                    if matches!(step, Step::Apply { .. } | Step::Release) {
                        self.keep_books()?;
                    }
                    self.failing.succeeded(&step);
                    self.own.note(step);
                }
                Err(error) if is_of_the_moment(&error) => {
                    tracing::info!(%error, "the coordinator has moved on");
                    declined.push(step);
                }
                Err(error) if is_of_this_side(&step, &error) && self.failing.again(&step) => {
                    tracing::warn!(%error, code = error.code(), ?step, "step failed here, tried again with the next view");
                    self.trouble(&error);
                    declined.push(step);
                }
                Err(error) if concerns_only(&step, &error) => {
                    // This party takes no part in what does not verify or is refused; the others may go on without it.
                    tracing::error!(%error, code = error.code(), ?step, "step given up");
                    self.trouble(&error);
                    self.own.note(step);
                }
                Err(error) => return Err(error),
            }
            self.look_within()?;
            self.show(view);
        }
        Ok(None)
    }

    /// Closes the books of a connection that has ended. `counted` are the bytes sent and received on it.
    pub fn disconnected(&mut self, counted: (u64, u64)) -> Result<(), PartyError> {
        self.shared.board.update(|status| status.connected = false);
        self.book(counted);
        self.keep_books()
    }

    fn book(&mut self, counted: (u64, u64)) {
        self.meter.book(counted, self.purpose, self.clock.now_ms());
    }

    fn trouble(&self, error: &PartyError) {
        self.shared
            .board
            .update(|status| status.error = Some(Trouble::from(error)));
    }

    fn next(&self, view: &View, declined: &[Step]) -> Option<Step> {
        let due = steps::due(&self.shared.part, &self.own, view);
        due.into_iter().find(|step| !declined.contains(step))
    }

    /// Looks again at the own state that decides what is due.
    fn look_within(&mut self) -> Result<(), PartyError> {
        let (attempt, values) = self.shared.vault.oldest()?;
        self.own.oldest_secret = attempt;
        self.own.oldest_values = values;
        self.own.applied = self.state.derived.applied();
        if self.shared.part.custodian {
            self.own.incarnation = self.shared.custodian.standing()?;
            self.own.peers = self.shared.custodian.peers()?;
        }
        Ok(())
    }

    /// Checks that the coordinator still says what this party derived.
    fn compare(&self, view: &View) -> Result<(), PartyError> {
        let derived = &self.state.derived;
        match steps::history(derived.applied(), derived.digest(), view) {
            History::Same => Ok(()),
            History::Forgotten => Err(PartyError::Untrue(format!(
                "the coordinator has forgotten round {}, whose sum was opened here: it was put back to an earlier state",
                derived.applied().saturating_sub(1)
            ))),
            History::Other(published) => Err(PartyError::Mismatch {
                round: derived.applied().saturating_sub(1),
                published,
                derived: derived.digest(),
            }),
        }
    }

    fn keep_books(&self) -> Result<(), PartyError> {
        Ok(self.shared.traffic.put(TRAFFIC_KEY, self.meter.books())?)
    }

    /// Puts what goes on into the status.
    fn show(&mut self, view: &View) {
        let shared = Arc::clone(&self.shared);
        let part = &shared.part;
        let published = view.rounds;
        let applied = self.state.derived.applied();
        let done = published >= part.rounds && (!part.contributor || applied == part.rounds);
        let attempt = view.attempt.as_ref().filter(|attempt| attempt.round == published);
        let purpose = |round| shared.rounds.purpose(round).map(|purpose| purpose.name());
        let (id, purpose_now, phase) = match (&view.study, attempt) {
            (StudyPhase::Frozen { missing }, _) => (
                None,
                None,
                format!("waiting for the signatures of {}", list(missing)),
            ),
            (StudyPhase::Closed { reason, .. }, _) => (None, None, format!("the study is over: {reason}")),
            (StudyPhase::Active, Some(attempt)) => {
                let id = RoundId {
                    round: attempt.round,
                    attempt: attempt.attempt,
                };
                let name = purpose(attempt.round).unwrap_or("unknown");
                let mut text = format!(
                    "round {} of {} ({name}), attempt {}: {:?}",
                    attempt.round + 1,
                    part.rounds,
                    attempt.attempt + 1,
                    attempt.phase
                );
                if !attempt.awaiting.is_empty() {
                    text.push_str(&format!(", waiting for {}", list(&attempt.awaiting)));
                }
                (Some(id), purpose(attempt.round), text)
            }
            (StudyPhase::Active, None) if !done => {
                (None, purpose(applied.min(published)), "catching up".into())
            }
            (StudyPhase::Active, None) if part.releases && view.serving.is_none() => {
                (None, Some("release"), "releasing the model".into())
            }
            (StudyPhase::Active, None) => (None, None, "all rounds are done".into()),
        };
        self.purpose = purpose_now;
        if self.model.0 != Some(applied) {
            let model = self.state.derived.trained(shared.study.study(), None).ok();
            self.model = (Some(applied), model.map(|model| model.digest()));
        }
        let model = self.model.1;
        shared.board.attempt(id, purpose_now);
        shared.board.update(|status| {
            status.phase = phase;
            status.applied = applied;
            status.model = model;
            status.serving = view.serving;
            status.traffic = self.meter.books().clone();
            status.finished = done && (!part.releases || view.serving.is_some());
        });
    }
}

fn list(names: &[galen_core::PartyId]) -> String {
    names
        .iter()
        .map(|name| name.as_str())
        .collect::<Vec<_>>()
        .join(", ")
}
