//! Asking a model of which the party knows nothing but its interface.

use super::cohort::{Cohort, Samples};
use super::engine::{Cipher, Known, MAX_INTERFACE_BYTES, Means, Revealed};
use super::journal::{Journal, Sent, Unfinished};
use super::keys::Keys;
use super::results::Table;
use super::submit::{Connection, Watch};
use super::ways::{Circumstances, Decision, Packing, Way};
use super::{Stage, add_to_totals, seconds};
use crate::config::Config;
use crate::consent;
use crate::error::PartyError;
use crate::home::Home;
use crate::identity::Identity;
use crate::perform::blocking;
use galen_core::study::Role;
use galen_core::{Clock, Digest, faults};
use galen_exact::Outcome;
use galen_net::protocol::{Engine, KeyState, Offer, QueryState, STUDY_MODEL};
use galen_net::{Client, Tuning};
use galen_store::Store;
use serde::Serialize;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;

/// Batches that are submitted before the first of them is answered: while one is evaluated, the next one is encrypted and sent.
const AHEAD: usize = 2;
/// Fewest hexadecimal digits that name a version.
const MIN_DIGITS: usize = 8;

/// What is asked of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelQuestion {
    /// Name of the model, or the digest of a version, or its first digits.
    pub model: String,
    /// How it is to be evaluated, if it can be evaluated in both ways.
    pub engine: Option<Engine>,
    /// How batches under CKKS are to be packed.
    pub packing: Packing,
    /// What answers are to reveal.
    pub reveal: Option<Revealed>,
    /// About whom.
    pub samples: Samples,
    /// Values outside the ranges that the model takes become the nearest that it does.
    pub clip: bool,
    /// Send nothing of the patients.
    pub dry_run: bool,
    /// Make a new key first.
    pub new_key: bool,
}

/// What is known of the evaluation key at the coordinator.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KeyStatus {
    /// It was never sent.
    Missing,
    /// It is registered.
    Present,
    /// Another one took its place, or it is suspect here.
    Stale,
}

impl From<KeyState> for KeyStatus {
    fn from(state: KeyState) -> Self {
        match state {
            KeyState::Missing => Self::Missing,
            KeyState::Present => Self::Present,
            KeyState::Stale => Self::Stale,
        }
    }
}

/// A finished query, or the plan of one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Asked {
    /// Name of the model.
    pub name: String,
    /// The version: digest of its interface, or of the study's released model.
    pub version: Digest,
    /// What it predicts.
    pub title: String,
    /// How it is evaluated.
    #[serde(flatten)]
    pub means: Means,
    /// The ways that it could be asked in, with what each takes.
    pub ways: Vec<Way>,
    /// Which one is taken, and why.
    pub why: String,
    /// Number of patients.
    pub patients: usize,
    /// Patients of a batch, at most.
    pub max_patients: usize,
    /// Encrypted batches.
    pub batches: usize,
    /// Those that were answered before this run.
    pub answered_before: usize,
    /// Values outside the ranges, which were clipped.
    pub clipped_values: usize,
    /// How the key was found.
    pub key: KeyStatus,
    /// Bytes of the key, sent once.
    pub key_bytes: u64,
    /// Bytes to be sent: all batches, and the key if it is not registered.
    pub upload_bytes: u64,
    /// Bytes to be received.
    pub download_bytes: u64,
    /// Seconds that the evaluation of all batches is said to take at the coordinator.
    pub evaluation_seconds: f64,
    /// Seconds that encryption takes here, by a calibration; only of a dry run.
    pub encryption_seconds: Option<f64>,
    /// Memory for a batch here, about, in bytes.
    pub memory_bytes: u64,
    /// Bytes sent in this run.
    pub bytes_sent: u64,
    /// Bytes received in this run.
    pub bytes_received: u64,
    /// Seconds of this run.
    pub seconds: f64,
    /// Whether nothing was sent.
    pub dry_run: bool,
    /// Where the table was written; without it, it is in `table`.
    pub out: Option<PathBuf>,
    /// The results, unless they were written to a file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
}

/// A member that asks, connected.
struct Asker {
    connection: Connection,
    identity: Identity,
    folder: PathBuf,
}

impl Asker {
    fn connect(home: &Home, stage: Watch) -> Result<Self, PartyError> {
        let config = Config::load(home)?;
        let identity = Identity::load(home)?;
        let study = consent::signed_study(&config)?;
        let consent = consent::load(home, &study, &identity)?;
        if !study.study().has_role(&identity.name, Role::Querier) {
            return Err(PartyError::Role {
                party: identity.name.clone(),
                role: "querier",
            });
        }
        let pin = study.coordinator().certificate;
        let client = Client::new(
            &config.coordinator,
            &identity.tls,
            pin,
            study.digest(),
            Tuning::default(),
        )?;
        Ok(Self {
            connection: Connection::new(client, consent, stage),
            identity,
            folder: home.query(),
        })
    }

    async fn interface(&mut self, offer: &Offer, wanted: Option<Revealed>) -> Result<Known, PartyError> {
        let bytes = self
            .connection
            .fetch(offer.interface, MAX_INTERFACE_BYTES as u64)
            .await?;
        // What was fetched has the digest that it was asked by, so a version that is named by it is the one that was asked for.
        if offer.name != STUDY_MODEL && offer.interface != offer.version {
            return Err(PartyError::Untrue(format!(
                "the coordinator's interface of {} is not that of version {}",
                offer.name, offer.version
            )));
        }
        let engine = offer.engine;
        blocking(move || Known::read(engine, &bytes, wanted)).await
    }
}

/// The models that can be asked.
pub async fn list(home: &Home) -> Result<Vec<Offer>, PartyError> {
    let mut asker = Asker::connect(home, Arc::new(|_| {}))?;
    let models = asker.connection.models().await;
    asker.connection.close().await;
    models
}

/// Takes back what is not finished: at the coordinator, and here. Returns the number of queries.
pub async fn cancel(home: &Home) -> Result<usize, PartyError> {
    let mut asker = Asker::connect(home, Arc::new(|_| {}))?;
    let (folder, own) = (asker.folder.clone(), asker.identity.name.clone());
    let (journal, unfinished) = blocking(move || {
        let journal = Journal::open(&Store::open(&folder)?, &own)?;
        let all = journal.all()?;
        Ok((journal, all))
    })
    .await?;
    for (_, query) in &unfinished {
        for sent in query.batches.iter().filter(|sent| sent.answer.is_none()) {
            asker.connection.cancel(sent.batch).await?;
        }
    }
    asker.connection.close().await;
    blocking(move || {
        unfinished.iter().try_for_each(|(name, _)| journal.end(name))?;
        Ok(unfinished.len())
    })
    .await
}

/// Finds what is asked for among what is offered: by name the latest version, by digits of a digest any. If both engines evaluate the name,
/// CKKS does, unless less than the scores is to be revealed. Under CKKS there may be two, of which one is for few patients.
fn choose<'a>(offers: &'a [Offer], question: &ModelQuestion) -> Result<Vec<&'a Offer>, PartyError> {
    let model = question.model.as_str();
    let named: Vec<&Offer> = offers
        .iter()
        .filter(|offer| offer.current && offer.name == model)
        .collect();
    let is_version = model.len() >= MIN_DIGITS && model.bytes().all(|b| b.is_ascii_hexdigit());
    let prefix = model.to_ascii_lowercase();
    let versions = offers
        .iter()
        .filter(|offer| is_version && offer.version.to_hex().starts_with(&prefix));
    let found = if named.is_empty() {
        versions.collect()
    } else {
        named
    };
    if found.is_empty() {
        let mut names: Vec<&str> = offers.iter().map(|offer| offer.name.as_str()).collect();
        names.dedup();
        return Err(PartyError::NotYet(match names.as_slice() {
            [] => "the coordinator serves no model yet".into(),
            names => format!("there is no model \"{model}\"; there are {}", names.join(", ")),
        }));
    }
    if found.iter().any(|offer| offer.name != model) && found.len() > 1 {
        return Err(PartyError::NotYet(format!(
            "several versions begin with {model}: give more digits"
        )));
    }
    let exact = question.reveal.is_some_and(|reveal| reveal != Revealed::Scores);
    let usual = if exact { Engine::Tfhe } else { Engine::Ckks };
    let of = |engine: Engine| -> Vec<&Offer> {
        let offered = found.iter().copied();
        offered.filter(|offer| offer.engine == engine).collect()
    };
    let mut chosen = match question.engine {
        Some(engine) => of(engine),
        None => [usual, Engine::Ckks, Engine::Tfhe]
            .into_iter()
            .map(of)
            .find(|offers| !offers.is_empty())
            .unwrap_or_default(),
    };
    if chosen.is_empty() {
        let engines: Vec<String> = found.iter().map(|offer| offer.engine.to_string()).collect();
        return Err(PartyError::NotYet(format!(
            "the model \"{model}\" is not evaluated in this way, but by {}",
            engines.join(" and ")
        )));
    }
    chosen.retain(|offer| question.packing.allows(offer));
    if chosen.is_empty() {
        return Err(PartyError::NotYet(format!(
            "the model \"{model}\" is not offered with this packing: leave out --packing"
        )));
    }
    chosen.sort_by_key(|offer| offer.packed);
    Ok(chosen)
}

/// Everything that a query holds while it goes on.
struct Query {
    known: Known,
    cohort: Arc<Cohort>,
    cipher: Arc<Cipher>,
    journal: Arc<Journal>,
    keys: Arc<Keys>,
    /// Its name in the journal; a dry run has none.
    name: String,
    state: Unfinished,
    /// Whether the coordinator takes no more batches under the key. Those that it took already are still evaluated.
    stale: bool,
    stage: Watch,
}

/// Asks a model, and returns the table of results with its figures.
pub(super) async fn ask(
    home: &Home,
    question: ModelQuestion,
    clock: Arc<dyn Clock>,
    stage: Watch,
) -> Result<Asked, PartyError> {
    let started_ms = clock.now_ms();
    stage(Stage::Connecting);
    let mut asker = Asker::connect(home, Arc::clone(&stage))?;
    let offers = asker.connection.models().await?;
    let chosen: Vec<Offer> = choose(&offers, &question)?.into_iter().cloned().collect();
    stage(Stage::Preparing);
    let mut offered: Vec<(Offer, Known)> = Vec::with_capacity(chosen.len());
    for offer in chosen {
        let known = asker.interface(&offer, question.reveal).await?;
        // Ways of one model take the same inputs and give the same outputs; another model is not another way.
        let alike = |(_, first): &(Offer, Known)| {
            first.subject() == known.subject() && first.ranges() == known.ranges()
        };
        if offered.first().is_none_or(alike) {
            offered.push((offer, known));
        }
    }
    let Some((_, known)) = offered.first() else {
        return Err(PartyError::Internal("no model was chosen".into()));
    };
    let (samples, clip) = (question.samples.clone(), question.clip);
    let cohort = blocking({
        let known = known.clone();
        move || Cohort::load(&samples, known.subject(), known.ranges(), clip).map(Arc::new)
    });
    let cohort = cohort.await?;
    let patients = (cohort.digest(), cohort.len());
    let (folder, own) = (asker.folder.clone(), asker.identity.name.clone());
    let circumstances = Circumstances::new(&question, folder, own, patients);
    let (mut offered, decision) = blocking(move || {
        let decision = circumstances.decide(&offered)?;
        Ok((offered, decision))
    })
    .await?;
    let (offer, known) = offered.swap_remove(decision.taken.min(offered.len().saturating_sub(1)));
    let mut asked = plan(&offer, &known, &cohort, decision);
    if question.dry_run {
        return dry_run(asker, asked, known, clock, started_ms).await;
    }
    stage(Stage::Key);
    let (folder, own, version) = (asker.folder.clone(), asker.identity.name.clone(), offer.version);
    let (new_key, now_ms) = (question.new_key, clock.now_ms());
    let mut query = blocking({
        let (cohort, stage) = (Arc::clone(&cohort), Arc::clone(&stage));
        move || {
            let store = Store::open(&folder)?;
            let keys = Keys::open(&store)?;
            let cipher = Cipher::open(&keys, &known, new_key)?;
            let key = keys.public_digest(&known.key_set(), || cipher.serving_key())?;
            let journal = Journal::open(&store, &own)?;
            let (name, state) = journal.begin(version, key, known.question(cohort.digest()), now_ms)?;
            Ok(Query {
                known,
                cohort,
                cipher: Arc::new(cipher),
                journal: Arc::new(journal),
                keys: Arc::new(keys),
                name,
                state,
                stale: false,
                stage,
            })
        }
    })
    .await?;
    let answered = query.state.batches.iter().filter(|sent| sent.answer.is_some());
    asked.answered_before = answered.count();
    asked.key = asker.connection.key_state(query.state.key).await?.into();
    match asked.key {
        KeyStatus::Present => {}
        KeyStatus::Missing => {
            asked.upload_bytes += asked.key_bytes;
            let cipher = Arc::clone(&query.cipher);
            let key: Arc<[u8]> = blocking(move || Ok(cipher.serving_key()?.into())).await?;
            asker.connection.register(&key).await?;
        }
        KeyStatus::Stale => query.stale = true,
    }
    query.exchange(&mut asker.connection).await?;
    (asked.bytes_sent, asked.bytes_received) = asker.connection.close().await;
    stage(Stage::Decrypting);
    let folder = home.clone();
    blocking(move || {
        let outcomes = query.decrypt()?;
        let (subject, bits) = (query.known.subject(), query.known.score_bits());
        asked.table = Some(Table::new(subject, cohort.names(), &outcomes, bits));
        asked.seconds = seconds(clock.as_ref(), started_ms);
        add_to_totals(&folder, (asked.bytes_sent, asked.bytes_received), asked.seconds)?;
        // Whoever asks the same again asks anew.
        query.journal.end(&query.name)?;
        Ok(asked)
    })
    .await
}

fn plan(offer: &Offer, known: &Known, cohort: &Cohort, decision: Decision) -> Asked {
    let (patients, most) = (cohort.len(), known.max_patients());
    let sizes = (0..patients)
        .step_by(most)
        .map(|first| (patients - first).min(most));
    Asked {
        name: offer.name.clone(),
        version: offer.version,
        title: known.subject().title.clone(),
        means: known.means(),
        ways: decision.ways,
        why: decision.why,
        patients,
        max_patients: most,
        batches: patients.div_ceil(most),
        answered_before: 0,
        clipped_values: cohort.outside().values,
        key: KeyStatus::Missing,
        key_bytes: known.key_bytes(),
        upload_bytes: sizes.clone().map(|size| known.batch_bytes(size)).sum(),
        download_bytes: sizes.map(|size| known.answer_bytes(size)).sum(),
        evaluation_seconds: known.evaluation_seconds(offer.batch_ms, patients),
        encryption_seconds: None,
        memory_bytes: known.memory_bytes(),
        bytes_sent: 0,
        bytes_received: 0,
        seconds: 0.0,
        dry_run: false,
        out: None,
        table: None,
    }
}

/// Says what would be; the key is looked at, not made.
async fn dry_run(
    mut asker: Asker,
    mut asked: Asked,
    known: Known,
    clock: Arc<dyn Clock>,
    started_ms: u64,
) -> Result<Asked, PartyError> {
    let folder = asker.folder.clone();
    let (key, encryption) = blocking(move || {
        let keys = Keys::open(&Store::open(&folder)?)?;
        let usable = keys.is_usable(&known.key_set())?;
        let made = keys.is_known(&known.key_set())?;
        let cipher = usable.then(|| Cipher::open(&keys, &known, false)).transpose()?;
        let key = match cipher {
            Some(cipher) => Ok(keys.public_digest(&known.key_set(), || cipher.serving_key())?),
            None if made => Err(KeyStatus::Stale),
            None => Err(KeyStatus::Missing),
        };
        Ok((key, known.encryption_seconds()?))
    })
    .await?;
    asked.key = match key {
        Ok(digest) => asker.connection.key_state(digest).await?.into(),
        Err(status) => status,
    };
    if asked.key != KeyStatus::Present {
        asked.upload_bytes += asked.key_bytes;
    }
    asked.encryption_seconds = Some(encryption * asked.batches as f64);
    asked.dry_run = true;
    (asked.bytes_sent, asked.bytes_received) = asker.connection.close().await;
    asked.seconds = seconds(clock.as_ref(), started_ms);
    Ok(asked)
}

impl Query {
    fn batches(&self) -> usize {
        self.cohort.len().div_ceil(self.batch_size())
    }

    fn batch_size(&self) -> usize {
        self.known.max_patients()
    }

    /// Patients of a batch.
    fn patients(&self, index: usize) -> usize {
        let before = index * self.batch_size();
        self.cohort.len().saturating_sub(before).min(self.batch_size())
    }

    /// Sends what was not sent, and fetches what is not here, until all answers are here.
    async fn exchange(&mut self, connection: &mut Connection) -> Result<(), PartyError> {
        let mut underway = VecDeque::new();
        for index in 0..self.batches() {
            if self
                .state
                .batches
                .get(index)
                .is_some_and(|sent| sent.answer.is_some())
            {
                continue;
            }
            self.submit(connection, index).await?;
            underway.push_back(index);
            while underway.len() >= AHEAD
                && let Some(first) = underway.pop_front()
            {
                self.collect(connection, first).await?;
            }
        }
        while let Some(first) = underway.pop_front() {
            self.collect(connection, first).await?;
        }
        Ok(())
    }

    async fn submit(&mut self, connection: &mut Connection, index: usize) -> Result<(), PartyError> {
        if let Some(sent) = self.state.batches.get(index) {
            match connection.state(sent.batch).await? {
                Some(QueryState::Cancelled) => {}
                Some(_) => return Ok(()),
                // Encrypted anew it is another batch, and what has arrived of this one would count against the party.
                None => connection.cancel(sent.batch).await?,
            }
        }
        if self.stale {
            self.abandon(connection).await?;
            return Err(PartyError::StaleKey);
        }
        (self.stage)(Stage::Encrypting);
        let (cohort, cipher, size) = (
            Arc::clone(&self.cohort),
            Arc::clone(&self.cipher),
            self.batch_size(),
        );
        let bytes: Arc<[u8]> = blocking(move || {
            let rows = cohort.rows(index * size, size);
            Ok(cipher.encrypt(&rows)?.into())
        })
        .await?;
        let sent = Sent {
            batch: Digest::of(&bytes),
            answer: None,
        };
        match self.state.batches.get_mut(index) {
            Some(earlier) => *earlier = sent,
            None => self.state.batches.push(sent),
        }
        // Before it is sent, so that it is asked about whatever happens.
        self.note().await?;
        connection
            .submit(self.state.model, self.state.key, &bytes)
            .await?;
        faults::reach("party.query.submitted");
        Ok(())
    }

    async fn collect(&mut self, connection: &mut Connection, index: usize) -> Result<(), PartyError> {
        let Some(batch) = self.state.batches.get(index).map(|sent| sent.batch) else {
            return Err(PartyError::Internal(
                "a batch that was not sent is waited for".into(),
            ));
        };
        let most = self.known.answer_bytes(self.patients(index));
        let reply = match connection.collect(batch, most).await {
            // It ended without an answer, and will not get one: asking the same again is another query.
            Err(error) if error.refusal().is_some() => {
                self.end().await?;
                return Err(error);
            }
            reply => reply?,
        };
        let journal = Arc::clone(&self.journal);
        let answer = blocking(move || journal.keep(&reply)).await?;
        if let Some(sent) = self.state.batches.get_mut(index) {
            sent.answer = Some(answer);
        }
        self.note().await?;
        faults::reach("party.query.answered");
        connection.acknowledge(batch).await;
        let answered = self.state.batches.iter().filter(|sent| sent.answer.is_some());
        (self.stage)(Stage::Answered(answered.count(), self.batches()));
        Ok(())
    }

    /// Ends a query that cannot be finished: asking the same again is another one, under another key.
    async fn abandon(&self, connection: &mut Connection) -> Result<(), PartyError> {
        for sent in self.state.batches.iter().filter(|sent| sent.answer.is_none()) {
            connection.cancel(sent.batch).await?;
        }
        self.end().await
    }

    async fn end(&self) -> Result<(), PartyError> {
        let (journal, name) = (Arc::clone(&self.journal), self.name.clone());
        blocking(move || journal.end(&name)).await
    }

    async fn note(&self) -> Result<(), PartyError> {
        let (journal, name, state) = (Arc::clone(&self.journal), self.name.clone(), self.state.clone());
        blocking(move || journal.note(&name, &state)).await
    }

    /// What is revealed of every patient.
    ///
    /// # Errors
    /// [`PartyError::Answer`], whatever is wrong with an answer; the key is suspect from then on, and the query is over.
    fn decrypt(&self) -> Result<Vec<Outcome>, PartyError> {
        let mut outcomes = Vec::with_capacity(self.cohort.len());
        for (index, sent) in self.state.batches.iter().enumerate() {
            let answer = sent.answer.as_ref();
            let answer = answer.ok_or_else(|| PartyError::Internal("an answer is missing".into()))?;
            let answer = self.journal.answer(answer)?;
            match self.cipher.read(&answer, self.patients(index)) {
                Some(rows) => outcomes.extend(rows),
                None => {
                    // First, so that nothing is sent under the key again whatever happens.
                    self.keys.suspect(&self.known.key_set())?;
                    self.journal.end(&self.name)?;
                    return Err(PartyError::Answer);
                }
            }
        }
        Ok(outcomes)
    }
}

#[cfg(test)]
mod tests;
