//! Asking the model: patients in, probabilities out, and the coordinator sees neither.
//!
//! [`patients`] reads them, [`keys`] keeps the hospital's own key, `submit` exchanges blobs with the coordinator, and [`report`]
//! rounds what comes back; encrypting and decrypting are `galen_inference`'s. [`run`] joins them. Rules (design, 3.4): probabilities are
//! rounded to the planned precision before anybody sees them, an answer that is not usable is one uniform error whatever
//! went wrong, and the key under which it came is used no more.
//!
//! The study's own model is one that a contributor derives itself, and [`run`] asks. Of any other model the party knows what its interface
//! says: `ask` fetches that, `engine` checks it and knows both ways of evaluation, `ways` takes the faster of two packings, `cohort` reads samples of any kind, `journal` remembers what was sent and answered, so that a query
//! goes on after an interruption, and `results` writes the table.

mod ask;
pub(crate) mod cohort;
mod engine;
mod journal;
pub mod keys;
pub mod patients;
pub mod report;
mod results;
mod submit;
mod ways;

pub use ask::{Asked, KeyStatus, ModelQuestion, cancel, list};
pub use cohort::Samples;
pub use engine::{Means, Revealed};
pub use results::Table;
pub use ways::{Packing, Way};

use crate::config::Config;
use crate::consent;
use crate::derive::Derived;
use crate::error::PartyError;
use crate::home::{self, Home};
use crate::identity::Identity;
use crate::perform::blocking;
use crate::sealed::Sealed;
use crate::traffic::Entry;
use galen_core::study::{FrozenStudy, Role};
use galen_core::{Clock, Digest};
use galen_data::Format;
use galen_inference::{Program, Querier, QueryError};
use galen_net::{Client, Tuning};
use galen_store::Store;
use keys::Keys;
use patients::{Cohort, Source};
use report::{Answer, Report};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use submit::Connection;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// Whom it is about.
    pub about: About,
    /// Send nothing.
    pub dry_run: bool,
    /// Make a new key first.
    pub new_key: bool,
}

/// Whom the study's own model is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum About {
    /// This hospital's held-out patients.
    HeldOut,
    /// Patients in a CSV file with the study's columns.
    Csv(PathBuf),
    /// Images as the study describes them.
    Images {
        /// A file, or a folder.
        data: PathBuf,
        /// How they are stored, if the name does not tell.
        stored_as: Option<Format>,
    },
}

/// What a query is doing, for a progress display.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Reading patients and model.
    Preparing,
    /// Compiling the model and making or reading the key.
    Key,
    /// Encrypting.
    Encrypting,
    /// Connecting.
    Connecting,
    /// Sending the evaluation key or a batch: bytes done, bytes in all.
    Sending(u64, u64),
    /// The coordinator has too much to do, and takes the key or the batch later: what it says of that, unchecked.
    Busy(String),
    /// Waiting behind this many other queries.
    Waiting(u32),
    /// The coordinator evaluates: steps done, steps in all.
    Evaluating(u32, u32),
    /// Fetching an answer: bytes done, bytes in all.
    Fetching(u64, u64),
    /// Another batch is answered: batches answered, batches in all.
    Answered(usize, usize),
    /// Decrypting.
    Decrypting,
}

/// Asks, and returns the answers with their figures.
pub async fn run(
    home: &Home,
    question: Question,
    clock: Arc<dyn Clock>,
    stage: impl Fn(Stage) + Send + Sync + 'static,
) -> Result<Report, PartyError> {
    let started_ms = clock.now_ms();
    let stage: submit::Watch = Arc::new(stage);
    stage(Stage::Preparing);
    let config = Config::load(home)?;
    let identity = Identity::load(home)?;
    let study = Arc::new(consent::signed_study(&config)?);
    let consent = consent::load(home, &study, &identity)?;
    let plan = study.study();
    for (role, name) in [(Role::Querier, "querier"), (Role::Contributor, "contributor")] {
        if !plan.has_role(&identity.name, role) {
            // The preprocessing follows from the statistics, which only contributors read.
            return Err(PartyError::Role {
                party: identity.name.clone(),
                role: name,
            });
        }
    }
    let state = Sealed::open(home)?.state(&study.digest())?;
    let derived = state
        .map(|state| state.derived)
        .filter(|derived| derived.is_trained(plan));
    let derived = derived.ok_or_else(|| PartyError::NotYet("the model is not trained yet".into()))?;
    let source = match question.about {
        About::Csv(csv) => Source::Csv(csv),
        About::Images { data, stored_as } => Source::Images { data, stored_as },
        About::HeldOut => Source::HeldOut {
            data: config.data.clone(),
        },
    };
    let cohort = patients::load(&source, plan, &identity.name)?;
    if cohort.records.is_empty() {
        return Err(PartyError::NotYet("there are no patients to evaluate".into()));
    }
    stage(Stage::Key);
    let (folder, new_key) = (home.query(), question.new_key);
    let prepared = blocking({
        let study = Arc::clone(&study);
        move || Prepared::new(&study, &derived, cohort, &folder, new_key)
    })
    .await?;
    if question.dry_run {
        let (prepared, batches) = encrypted(prepared, &stage).await?;
        let mut report = prepared.report(&batches, true);
        report.seconds = seconds(clock.as_ref(), started_ms);
        return Ok(report);
    }
    stage(Stage::Connecting);
    let pin = study.coordinator().certificate;
    let client = Client::new(
        &config.coordinator,
        &identity.tls,
        pin,
        study.digest(),
        Tuning::default(),
    )?;
    let mut connection = Connection::new(client, consent, Arc::clone(&stage));
    let serving = connection.serving().await?;
    let planned = prepared.querier.interface();
    if (serving.model, serving.preset.as_str()) != (prepared.model, planned.preset()) {
        return Err(PartyError::Untrue(format!(
            "the coordinator serves model {} under {}, this party derived {} for {}",
            serving.model,
            serving.preset,
            prepared.model,
            planned.preset()
        )));
    }
    // First, so that nothing is encrypted under a key that the coordinator does not take.
    connection.register(&prepared.serving_key).await?;
    let (prepared, batches) = encrypted(prepared, &stage).await?;
    let mut report = prepared.report(&batches, false);
    let max_reply = prepared.querier.interface().sizes().answer as u64;
    let mut replies = Vec::with_capacity(batches.len());
    for batch in &batches {
        let reply = connection.evaluate(prepared.model, &prepared.serving_key, batch, max_reply);
        replies.push(reply.await?);
    }
    (report.bytes_sent, report.bytes_received) = connection.close().await;
    stage(Stage::Decrypting);
    let folder = home.clone();
    blocking(move || {
        let (probabilities, difference) = prepared.decrypt(&replies)?;
        report.largest_difference = Some(difference);
        let decimals = report.decimals;
        let names = prepared.names.as_ref();
        let answer = |(place, (&patient, p)): (usize, (&usize, f64))| Answer {
            patient,
            name: names.and_then(|names| names.get(place).cloned()),
            probability: report::rounded(p, decimals),
        };
        let answers = prepared.numbers.iter().zip(probabilities).enumerate();
        report.answers = answers.map(answer).collect();
        report.seconds = seconds(clock.as_ref(), started_ms);
        add_to_totals(
            &folder,
            (report.bytes_sent, report.bytes_received),
            report.seconds,
        )?;
        Ok(report)
    })
    .await
}

/// Asks a model of the coordinator's, and returns the table of results with its figures. If the same was asked before and not finished, it
/// goes on where it stopped.
pub async fn ask_model(
    home: &Home,
    question: ModelQuestion,
    clock: Arc<dyn Clock>,
    stage: impl Fn(Stage) + Send + Sync + 'static,
) -> Result<Asked, PartyError> {
    ask::ask(home, question, clock, Arc::new(stage)).await
}

/// All patients, encrypted in batches.
async fn encrypted(
    prepared: Prepared,
    stage: &submit::Watch,
) -> Result<(Prepared, Vec<Arc<[u8]>>), PartyError> {
    stage(Stage::Encrypting);
    blocking(move || {
        let batches = prepared.encrypt()?;
        Ok((prepared, batches))
    })
    .await
}

fn seconds(clock: &dyn Clock, started_ms: u64) -> f64 {
    clock.now_ms().saturating_sub(started_ms) as f64 / 1000.0
}

/// Everything that a query needs before it connects.
struct Prepared {
    model: Digest,
    rows: Vec<Vec<f64>>,
    /// What the model gives in the clear: this party has it.
    expected: Vec<f64>,
    numbers: Vec<usize>,
    names: Option<Vec<String>>,
    keys: Keys,
    querier: Querier,
    serving_key: Arc<[u8]>,
}

impl Prepared {
    fn new(
        study: &FrozenStudy,
        derived: &Derived,
        cohort: Cohort,
        folder: &Path,
        new_key: bool,
    ) -> Result<Self, PartyError> {
        let plan = study.study();
        let model = derived.trained(plan, None).map_err(PartyError::internal)?;
        let preprocessor = derived.preprocessor(plan).map_err(PartyError::internal)?;
        let rows = preprocessor.rows(&cohort.records).map_err(PartyError::internal)?;
        let expected = model.probabilities(&rows).map_err(PartyError::internal)?;
        let released = derived.released(plan).map_err(PartyError::internal)?;
        let program = Program::compile(&model, &preprocessor.input_ranges(), plan.serving.precision_bits);
        let program = program.map_err(PartyError::internal)?;
        let keys = Keys::open(&Store::open(folder)?)?;
        let querier = keys.querier(program.interface(), new_key)?;
        let serving_key = querier
            .serving_key()
            .and_then(|key| key.to_bytes())
            .map_err(PartyError::internal)?;
        Ok(Self {
            model: Digest::of(&released),
            rows,
            expected,
            numbers: cohort.numbers,
            names: cohort.names,
            keys,
            querier,
            serving_key: serving_key.into(),
        })
    }

    fn encrypt(&self) -> Result<Vec<Arc<[u8]>>, PartyError> {
        let mut batches = Vec::new();
        for rows in self.batches() {
            let batch = self.querier.encrypt_batch(rows).map_err(unencrypted)?;
            batches.push(batch.to_bytes().map_err(PartyError::internal)?.into());
        }
        Ok(batches)
    }

    fn batches(&self) -> std::slice::Chunks<'_, Vec<f64>> {
        self.rows.chunks(self.querier.interface().max_patients().max(1))
    }

    fn report(&self, batches: &[Arc<[u8]>], dry_run: bool) -> Report {
        let interface = self.querier.interface();
        let preset = interface.context().preset();
        Report {
            patients: self.rows.len(),
            model: self.model,
            preset: preset.name().to_owned(),
            n: preset.degree(),
            log2_qp: preset.log2_qp(),
            bound: preset.security_bound().unwrap_or(0),
            key: Digest::of(&self.serving_key),
            batches: batches.len(),
            precision_bits: interface.rounded_bits(),
            decimals: report::decimals(interface.rounded_bits()),
            largest_difference: None,
            key_bytes: self.serving_key.len() as u64,
            batch_bytes: batches.iter().map(|batch| batch.len() as u64).sum(),
            bytes_sent: 0,
            bytes_received: 0,
            seconds: 0.0,
            dry_run,
            out: None,
            answers: Vec::new(),
        }
    }

    /// The probabilities, and how far the farthest is from the plain one.
    ///
    /// # Errors
    /// [`PartyError::Answer`], whatever is wrong with an answer; the key is suspect from then on.
    fn decrypt(&self, replies: &[Vec<u8>]) -> Result<(Vec<f64>, f64), PartyError> {
        let interface = self.querier.interface();
        let usable = || {
            let mut probabilities = Vec::with_capacity(self.rows.len());
            for (reply, rows) in replies.iter().zip(self.batches()) {
                probabilities.extend(self.querier.decrypt_batch(reply, rows.len()).ok()?);
            }
            let difference = largest_difference(&probabilities, &self.expected)?;
            (difference <= tolerance(interface.rounded_bits())).then_some((probabilities, difference))
        };
        match usable() {
            Some(answer) => Ok(answer),
            None => {
                self.keys.suspect(&interface.key_set())?;
                Err(PartyError::Answer)
            }
        }
    }
}

/// A batch that cannot be encrypted, without the value: preprocessing keeps every input in its range, so this is a fault of the program.
fn unencrypted(error: QueryError) -> PartyError {
    match error {
        QueryError::OutOfRange { patient, input, .. } => {
            PartyError::Internal(format!("input {input} of patient {patient} is outside its range"))
        }
        other => PartyError::internal(other),
    }
}

/// Farther than this from the plain probability, an answer is no evaluation of the model. Planned noise and rounding move a score by at
/// most three halves of the planned precision, and the logistic function is at most a quarter as steep.
fn tolerance(bits: u32) -> f64 {
    2.0 * (-f64::from(bits)).exp2()
}

fn largest_difference(found: &[f64], expected: &[f64]) -> Option<f64> {
    if found.len() != expected.len() || !found.iter().all(|p| p.is_finite()) {
        return None;
    }
    Some(
        found
            .iter()
            .zip(expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f64::max),
    )
}

/// What all queries of this party have cost so far; `None` before the first.
pub fn totals(home: &Home) -> Result<Option<Entry>, PartyError> {
    let path = home.query().join("totals.json");
    if !path.exists() {
        return Ok(None);
    }
    let entry = serde_json::from_slice(&home::read(&path)?);
    entry
        .map(Some)
        .map_err(|error| PartyError::home(path, error.to_string()))
}

fn add_to_totals(home: &Home, (sent, received): (u64, u64), seconds: f64) -> Result<(), PartyError> {
    let mut entry = totals(home)?.unwrap_or_default();
    entry.bytes_sent += sent;
    entry.bytes_received += received;
    entry.seconds += seconds;
    let text = serde_json::to_vec(&entry).map_err(PartyError::internal)?;
    home::write_whole(&home.query().join("totals.json"), &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_far_from_the_plain_one_is_not_usable() {
        assert_eq!(largest_difference(&[1.0, 2.5], &[1.0, 2.0]), Some(0.5));
        assert_eq!(largest_difference(&[1.0], &[1.0, 2.0]), None);
        assert_eq!(largest_difference(&[f64::NAN], &[1.0]), None);
        assert_eq!(largest_difference(&[f64::INFINITY], &[1.0]), None);
        assert!(tolerance(16) < 1e-4 && tolerance(16) > 0.375 * 2f64.powi(-16));
    }

    #[test]
    fn totals_add_up() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        assert_eq!(totals(&home).unwrap(), None);
        home::make_private(&home.query()).unwrap();
        add_to_totals(&home, (10, 4), 0.5).unwrap();
        add_to_totals(&home, (10, 4), 0.5).unwrap();
        let total = totals(&home).unwrap().unwrap();
        assert_eq!(
            (total.bytes_sent, total.bytes_received, total.seconds),
            (20, 8, 1.0)
        );
    }
}
