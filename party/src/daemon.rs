//! `party serve`: connects, looks at the coordinator's view, and does what is due until the study is over.

use crate::audit::AuditCopy;
use crate::config::Config;
use crate::consent;
use crate::contribute::Contributor;
use crate::custody::Custodian;
use crate::data::Patients;
use crate::derive::Derived;
use crate::error::PartyError;
use crate::home::Home;
use crate::identity::Identity;
use crate::link::Link;
use crate::opening::Opening;
use crate::perform::blocking;
use crate::rounds::Rounds;
use crate::sealed::{Sealed, State};
use crate::status::Board;
use crate::steps::{self, History, Own, Part, Step};
use crate::traffic::{Books, Meter};
use crate::vault::Vault;
use galen_core::envelope::Trouble;
use galen_core::study::FrozenStudy;
use galen_core::{Clock, Code, Digest, Signed};
use galen_net::protocol::{StudyPhase, View};
use galen_net::{Client, NetError, Peer, Tuning};
use galen_store::{Repository, Store, Table};
use galen_sums::{Round, RoundId};
use galen_training::Device;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

const TRAFFIC: Table<Books> = Table::new("traffic", *b"TRAF", 1);
const TRAFFIC_KEY: &str = "traffic";

/// How often a step that fails on this party's side is tried before it is given up.
const TRIES: u32 = 5;

/// How a daemon ended without an error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to stop.
    Stopped,
    /// The study is over and was completed.
    Completed(String),
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

/// The step that failed last on this party's side, and how often in a row.
#[derive(Debug, Default)]
struct Failing(Option<(Step, u32)>);

impl Failing {
    /// Counts a failure; tells whether the step is tried again.
    fn again(&mut self, step: &Step) -> bool {
        let before = self.0.take().filter(|(failing, _)| failing == step);
        let times = before.map_or(0, |(_, times)| times).saturating_add(1);
        self.0 = Some((step.clone(), times));
        times < TRIES
    }

    fn succeeded(&mut self, step: &Step) {
        self.0 = self.0.take().filter(|(failing, _)| failing != step);
    }
}

/// A party that is ready to serve.
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
    address: String,
    clock: Arc<dyn Clock>,
}

impl Party {
    /// Reads folder, study, table and stored state. The first thing wrong with any of them is the error; nothing is half done.
    pub fn open(home: &Home, clock: Arc<dyn Clock>) -> Result<Self, PartyError> {
        let config = Config::load(home)?;
        let identity = Arc::new(Identity::load(home)?);
        let study = consent::signed_study(&config)?;
        identity.check_member(&study)?;
        let consent = consent::load(home, &study, &identity)?;
        let part = Part::of(&study, &identity.name);
        let device =
            Device::by_name(&config.device).map_err(|error| PartyError::Device(error.to_string()))?;
        let patients = if part.contributor {
            Some(Patients::load(&config.data, study.study(), &identity.name)?)
        } else {
            None
        };
        let rounds = Rounds::of(&study)?;
        let store = Store::open(&home.store())?;
        // Sums that were being opened when the process died are fetched again.
        for (digest, _) in store.blobs().list()? {
            store.blobs().delete(&digest)?;
        }
        let sealed = Sealed::open(home)?;
        let state = sealed.state(&study.digest())?.unwrap_or_else(|| State {
            study: study.digest(),
            derived: Derived::initial(&study),
            security: None,
        });
        let traffic = store.database().repository(&TRAFFIC)?;
        let books = traffic.get(TRAFFIC_KEY)?.unwrap_or_default();
        let shared = Shared {
            custodian: Custodian::open(&store, study.digest(), Arc::clone(&identity))?,
            contributor: Contributor::open(&store, Arc::clone(&identity))?,
            vault: Vault::open(&store)?,
            board: Board::new(home, &study, &identity.name, part.rounds, Arc::clone(&clock)),
            audit: AuditCopy::open(home, study.digest(), study.coordinator().signing)?,
            identity,
            study,
            consent,
            rounds,
            part,
            store,
            sealed,
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
            address: config.coordinator,
            clock,
        };
        party.look()?;
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

    /// Serves until the study is over, something is wrong, or `stop` becomes true or loses its sender.
    pub async fn serve(mut self, mut stop: watch::Receiver<bool>) -> Result<End, PartyError> {
        let board = self.shared.board.clone();
        let writer = tokio::spawn(board.clone().keep_writing());
        let end = self.connect_and_serve(&mut stop).await;
        writer.abort();
        board.update(|status| {
            status.connected = false;
            match &end {
                Ok(End::Stopped) => status.phase = "stopped".into(),
                Ok(End::Completed(reason)) => status.phase = format!("the study is over: {reason}"),
                Err(error) => {
                    status.phase = "stopped by an error".into();
                    status.error = Some(Trouble::from(error));
                }
            }
        });
        // The file tells how it ended; whether that can be written does not change how it ended.
        if let Err(error) = blocking(move || board.write()).await {
            tracing::warn!(%error, "status file");
        }
        end
    }

    async fn connect_and_serve(&mut self, stop: &mut watch::Receiver<bool>) -> Result<End, PartyError> {
        let shared = Arc::clone(&self.shared);
        let pin = shared.study.coordinator().certificate;
        let client = Client::new(
            &self.address,
            &shared.identity.tls,
            pin,
            shared.study.digest(),
            Tuning::default(),
        )?;
        loop {
            shared.board.phase("connecting");
            let connecting = client.connect_patiently(|error, wait| {
                tracing::warn!(%error, wait_s = wait.as_secs_f64(), "the coordinator cannot be reached");
            });
            let peer = tokio::select! {
                peer = connecting => peer?,
                _ = stop.wait_for(|stop| *stop) => return Ok(End::Stopped),
            };
            tracing::info!(coordinator = %peer.remote(), "connected");
            self.meter.connected(self.clock.now_ms());
            self.own.done.clear();
            self.round = None;
            // What is being written when the signal comes is finished on its blocking thread; everything else is done again.
            let ended = tokio::select! {
                ended = self.converse(&peer) => ended,
                _ = stop.wait_for(|stop| *stop) => Ok(End::Stopped),
            };
            shared.board.update(|status| status.connected = false);
            self.meter.book(&peer, self.purpose, self.clock.now_ms());
            self.keep_books()?;
            match ended {
                Err(error) if may_pass(&error) => {
                    tracing::warn!(%error, "connection lost");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
                ended => {
                    peer.leave().await;
                    return ended;
                }
            }
        }
    }

    async fn converse(&mut self, peer: &Peer) -> Result<End, PartyError> {
        let link = Link::hello(peer.clone(), &self.shared.consent).await?;
        self.shared.board.update(|status| status.connected = true);
        self.follow(&link).await
    }

    /// Does what each view asks for.
    async fn follow(&mut self, link: &Link) -> Result<End, PartyError> {
        let mut seen = 0;
        loop {
            let view = link.poll(seen).await?;
            seen = view.version;
            self.meter.book(link.peer(), self.purpose, self.clock.now_ms());
            self.compare(&view)?;
            self.show(&view);
            // What was refused is tried again when the view has changed.
            let mut declined = Vec::new();
            while let Some(step) = self.next(&view, &declined) {
                tracing::debug!(?step, "due");
                match self.perform(link, &step).await {
                    Ok(Some(end)) => return Ok(end),
                    Ok(None) => {
                        self.meter.book(link.peer(), self.purpose, self.clock.now_ms());
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
                self.look()?;
                self.show(&view);
            }
        }
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
    fn look(&mut self) -> Result<(), PartyError> {
        let (attempt, values) = self.shared.vault.oldest()?;
        self.own.oldest_secret = attempt;
        self.own.oldest_values = values;
        self.own.applied = self.state.derived.applied();
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
        let published = u32::try_from(view.published.len()).unwrap_or(u32::MAX);
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
            let model = self.state.derived.trained(shared.study.study()).ok();
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

/// Whether connecting again may help.
fn may_pass(error: &PartyError) -> bool {
    let busy = error
        .refusal()
        .is_some_and(|refusal| matches!(refusal.code, Code::Busy | Code::Internal));
    busy || error.is_transient()
}

/// Whether an error ends a step, but not the daemon. What does not verify when a published round is taken in ends the daemon: it could
/// only go on from a state that is not its own.
fn concerns_only(step: &Step, error: &PartyError) -> bool {
    match error {
        PartyError::Untrue(_) | PartyError::Spoilt(_) | PartyError::Forked { .. } => {
            !matches!(step, Step::Apply { .. } | Step::Close { .. })
        }
        PartyError::StandsAside(_) => true,
        PartyError::Net(NetError::Refused(_)) => !may_pass(error),
        _ => false,
    }
}

/// Whether a sum could not be opened for a reason that lies with this party's disk or with the transfer, so that another try may do.
fn is_of_this_side(step: &Step, error: &PartyError) -> bool {
    let opens = matches!(step, Step::Apply { .. } | Step::Open { .. });
    opens && matches!(error, PartyError::Spoilt(_) | PartyError::Store(_))
}

/// Whether a refusal only says that the view is older than the coordinator's state.
fn is_of_the_moment(error: &PartyError) -> bool {
    let PartyError::Net(NetError::Refused(refusal)) = error else {
        return false;
    };
    matches!(
        refusal.code,
        Code::WrongPhase | Code::WrongRound | Code::BlobUnknown | Code::BlobForbidden | Code::StudyInactive
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::Refusal;
    use galen_custody::LedgerError;
    use galen_store::StoreError;

    fn refused(code: Code) -> PartyError {
        NetError::Refused(Refusal::new(code, "")).into()
    }

    /// Every refusal is of exactly one kind: connect again, look again, give the step up.
    #[test]
    fn every_refusal_has_its_consequence() {
        let id = RoundId { round: 0, attempt: 0 };
        let step = Step::Announce(id);
        for &code in Code::ALL {
            let error = refused(code);
            let kinds = [
                may_pass(&error),
                is_of_the_moment(&error),
                concerns_only(&step, &error),
            ];
            let moment = is_of_the_moment(&error);
            assert!(kinds.contains(&true), "{code:?} would end the daemon");
            assert!(!may_pass(&error) || !moment, "{code:?}");
        }
        assert!(may_pass(&refused(Code::Busy)) && is_of_the_moment(&refused(Code::WrongRound)));
        assert!(concerns_only(&step, &refused(Code::Conflict)) && !may_pass(&refused(Code::Conflict)));
    }

    #[test]
    fn a_published_round_that_does_not_verify_ends_the_daemon() {
        let id = RoundId { round: 0, attempt: 0 };
        let sum = Digest::of(b"sum");
        let apply = Step::Apply { id, sum, result: sum };
        let untrue = PartyError::Untrue("x".into());
        assert!(!concerns_only(&apply, &untrue));
        assert!(concerns_only(&Step::Endorse { id, sum }, &untrue));
        let mismatch = PartyError::Mismatch {
            round: 0,
            published: sum,
            derived: Digest::of(b"own"),
        };
        assert!(!concerns_only(&apply, &mismatch) && !may_pass(&mismatch));
    }

    #[test]
    fn what_fails_on_this_side_is_tried_again_and_then_ends_what_cannot_go_on() {
        let id = RoundId { round: 0, attempt: 0 };
        let sum = Digest::of(b"sum");
        let apply = Step::Apply { id, sum, result: sum };
        let open = Step::Open { id, sum };
        let spoilt = PartyError::Spoilt("x".into());
        let disk = PartyError::Store(StoreError::BlobUnknown { digest: sum });
        for step in [&apply, &open] {
            assert!(is_of_this_side(step, &spoilt) && is_of_this_side(step, &disk));
            assert!(!is_of_this_side(step, &PartyError::Untrue("x".into())));
        }
        assert!(!concerns_only(&apply, &spoilt) && concerns_only(&open, &spoilt));
        assert!(!concerns_only(&apply, &disk) && !concerns_only(&open, &disk));
        assert!(!is_of_this_side(&Step::Announce(id), &disk));
    }

    #[test]
    fn a_failing_step_is_tried_some_times_in_a_row() {
        let [first, second] = [0, 1].map(|round| Step::Announce(RoundId { round, attempt: 0 }));
        let mut failing = Failing::default();
        for _ in 0..2 {
            for time in 1..=TRIES + 2 {
                assert_eq!(failing.again(&first), time < TRIES, "{time}");
                failing.succeeded(&second);
            }
            failing.succeeded(&first);
        }
        // Another step has its own tries.
        assert!(!(0..TRIES).all(|_| failing.again(&first)) && failing.again(&second));
    }

    #[test]
    fn a_custodian_that_stands_aside_goes_on_with_everything_else() {
        let id = RoundId { round: 0, attempt: 1 };
        let answered = RoundId { round: 0, attempt: 0 };
        let aside = PartyError::StandsAside(LedgerError::RoundAnswered { asked: id, answered });
        let step = Step::Announce(id);
        assert!(concerns_only(&step, &aside) && !may_pass(&aside) && !is_of_the_moment(&aside));
    }
}
