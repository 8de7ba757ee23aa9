//! What the daemon says of itself: `status.json` in its folder, written whole whenever something changes.
//!
//! `party status` reads this file, also while the daemon runs. It holds no secret and no value of a patient.

use crate::error::PartyError;
use crate::home::{self, Home};
use crate::traffic::Books;
use galen_core::envelope::Trouble;
use galen_core::study::{FrozenStudy, Role};
use galen_core::{Clock, Digest, telemetry};
use galen_sums::RoundId;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The state of a party's daemon.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The party.
    pub name: String,
    /// Its roles.
    pub role: Vec<Role>,
    /// Name of the study.
    pub study: String,
    /// Its digest.
    pub digest: Digest,
    /// Whether the coordinator is connected.
    pub connected: bool,
    /// What goes on, in words.
    pub phase: String,
    /// The round under way.
    pub round: Option<u32>,
    /// Its attempt.
    pub attempt: Option<u32>,
    /// What it is for.
    pub purpose: Option<String>,
    /// Rounds of the study.
    pub rounds_total: u32,
    /// Rounds whose sums this party has opened.
    pub applied: u32,
    /// The trained model, once there is one.
    pub model: Option<Digest>,
    /// The model that the coordinator serves: digest of the released blob.
    pub serving: Option<Digest>,
    /// Training under way.
    pub training: Option<Training>,
    /// Largest memory of the daemon so far.
    pub peak_rss_bytes: Option<u64>,
    /// The daemon's process.
    pub pid: u32,
    /// When this was written, in milliseconds since the epoch.
    pub updated_ms: u64,
    /// Bytes and seconds by purpose.
    pub traffic: Books,
    /// What went wrong, if the daemon stopped or waits because of it.
    pub error: Option<Trouble>,
    /// Whether nothing is left to do for the rounds: all are opened, and the model is served if the study says so.
    pub finished: bool,
}

/// How far local training is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Passes done.
    pub epoch: u32,
    /// Passes in all.
    pub epochs: u32,
    /// Mean loss of the last pass.
    pub loss: f64,
}

impl From<&PartyError> for Trouble {
    fn from(error: &PartyError) -> Self {
        Self {
            code: error.code(),
            message: error.to_string(),
            hint: error.hint().to_owned(),
        }
    }
}

/// The status while the daemon runs. Clones share it.
#[derive(Clone)]
pub struct Board {
    status: Arc<Mutex<Status>>,
    /// Held while the file is written, so that an older text never replaces a newer one.
    writing: Arc<Mutex<()>>,
    path: PathBuf,
    clock: Arc<dyn Clock>,
}

impl Board {
    /// A board for a party of a study, to be written to a file.
    pub fn new(
        path: PathBuf,
        study: &FrozenStudy,
        name: &galen_core::PartyId,
        rounds: u32,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let plan = study.study();
        let member = plan.party.iter().find(|member| &member.name == name);
        let status = Status {
            name: name.to_string(),
            role: member.map(|member| member.roles.clone()).unwrap_or_default(),
            study: plan.name.to_string(),
            digest: study.digest(),
            connected: false,
            phase: "starting".into(),
            round: None,
            attempt: None,
            purpose: None,
            rounds_total: rounds,
            applied: 0,
            model: None,
            serving: None,
            training: None,
            peak_rss_bytes: None,
            pid: std::process::id(),
            updated_ms: 0,
            traffic: Books::default(),
            error: None,
            finished: false,
        };
        Self {
            status: Arc::new(Mutex::new(status)),
            writing: Arc::default(),
            path,
            clock,
        }
    }

    /// Changes the status; the file follows within moments.
    pub fn update(&self, change: impl FnOnce(&mut Status)) {
        change(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Says what goes on.
    pub fn phase(&self, phase: impl Into<String>) {
        let phase = phase.into();
        self.update(|status| status.phase = phase);
    }

    /// Says which attempt is under way.
    pub fn attempt(&self, id: Option<RoundId>, purpose: Option<&str>) {
        self.update(|status| {
            let now = (id.map(|id| id.round), id.map(|id| id.attempt));
            if (status.round, status.attempt) != now {
                // What was wrong with the last attempt is over with it.
                status.error = None;
            }
            status.round = id.map(|id| id.round);
            status.attempt = id.map(|id| id.attempt);
            status.purpose = purpose.map(str::to_owned);
        });
    }

    /// Writes the file.
    pub fn write(&self) -> Result<(), PartyError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut status = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
        status.peak_rss_bytes = telemetry::peak_rss_bytes();
        status.updated_ms = self.clock.now_ms();
        let text = serde_json::to_vec_pretty(&status).map_err(PartyError::internal)?;
        home::write_whole(&self.path, &text)
    }

    /// Writes the file whenever something changed, and at least every two seconds.
    pub async fn keep_writing(self) {
        const LOOK: Duration = Duration::from_millis(200);
        const AT_LEAST: u32 = 10;
        let (mut written, mut looks) = (None, 0);
        loop {
            let now = self.status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if written.as_ref() != Some(&now) || looks >= AT_LEAST {
                let board = self.clone();
                match tokio::task::spawn_blocking(move || board.write()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "status file"),
                    Err(error) => tracing::warn!(%error, "status file"),
                }
                (written, looks) = (Some(now), 0);
            }
            looks += 1;
            tokio::time::sleep(LOOK).await;
        }
    }
}

/// Reads the status file of a party.
pub fn read(home: &Home) -> Result<Status, PartyError> {
    let path = home.status();
    if !path.exists() {
        return Err(PartyError::NotYet(
            "there is no status yet: `party serve` has not run on this folder".into(),
        ));
    }
    serde_json::from_slice(&home::read(&path)?)
        .map_err(|error| PartyError::home(path, format!("is not a status of this version: {error}")))
}
