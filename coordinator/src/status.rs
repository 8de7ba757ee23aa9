//! What the operator can see: `status.json`, rewritten as things move. It holds no value of any party.

use crate::home::{self, HomeError};
use crate::rounds::engine::Engine;
use crate::rounds::steps::Step;
use crate::serving::{ModelStatus, QueryCounts, Service};
use crate::traffic::{Bytes, Ledger};
use galen_core::study::Purpose;
use galen_core::{Clock, Digest, PartyId, telemetry};
use galen_models::agenda;
use galen_net::Counts;
use galen_net::protocol::AttemptPhase;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::Path;

/// The contents of `status.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the study.
    pub study: String,
    /// Its digest.
    pub digest: Digest,
    /// Its version: 1, and one more for each successor.
    pub version: u32,
    /// How earlier versions ended, in words.
    pub former: Vec<String>,
    /// Address that the daemon listens on.
    pub listen: String,
    /// Connections of parties.
    pub connections: ConnectionStatus,
    /// In words: what the study is doing.
    pub phase: String,
    /// Parties that have not signed.
    pub missing: Vec<PartyId>,
    /// The attempt under way.
    pub attempt: Option<AttemptStatus>,
    /// Rounds of the study.
    pub rounds_total: u32,
    /// Published rounds.
    pub published: Vec<PublishedStatus>,
    /// Model that is served.
    pub serving: Option<Digest>,
    /// Models that are answered.
    pub models: Vec<ModelStatus>,
    /// Queries by state.
    pub queries: QueryCounts,
    /// The same for every party that has asked.
    pub queries_by_party: BTreeMap<PartyId, QueryCounts>,
    /// Bytes by purpose since the daemon started.
    pub traffic: BTreeMap<String, Bytes>,
    /// Largest memory so far.
    pub peak_rss_bytes: Option<u64>,
    /// Process id of the daemon.
    pub pid: u32,
    /// When this was written, in milliseconds since the epoch.
    pub updated_ms: u64,
    /// Why the study is over.
    pub closed: Option<ClosedStatus>,
}

/// Connections of parties.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectionStatus {
    /// Connections now.
    pub open: usize,
    /// Most that are taken at a time.
    pub most: usize,
    /// How often a party had to wait for one since the daemon started.
    pub waited: u64,
}

/// The attempt under way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AttemptStatus {
    /// The round.
    pub round: u32,
    /// The attempt.
    pub attempt: u32,
    /// What the round is for.
    pub purpose: Option<Purpose>,
    /// Where it stands.
    pub phase: AttemptPhase,
    /// Who is waited for.
    pub awaiting: Vec<PartyId>,
}

/// A published round.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PublishedStatus {
    /// The round.
    pub round: u32,
    /// What it was for.
    pub purpose: Option<Purpose>,
    /// The attempt that was opened.
    pub attempt: u32,
    /// Contributions in the sum.
    pub contributors: usize,
    /// From its announcement to its publication.
    pub seconds: f64,
}

/// Why the study is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosedStatus {
    /// Whether all steps were done.
    pub completed: bool,
    /// In words.
    pub reason: String,
}

impl Status {
    /// The status of a running daemon.
    pub fn of(
        engine: &Engine,
        service: &Service,
        ledger: &Ledger,
        connections: &Counts,
        clock: &dyn Clock,
        listen: String,
    ) -> Self {
        let state = engine.state();
        let study = engine.study().study();
        let step = engine.step();
        let purpose = |round: u32| agenda::purpose(study, round);
        // Between rounds, what was sent since the last look belongs to the round that was just published.
        let booked_round = state
            .attempt
            .as_ref()
            .map_or((state.published.len() as u32).saturating_sub(1), |attempt| {
                attempt.round
            });
        let attempt = state.attempt.as_ref().map(|attempt| AttemptStatus {
            round: attempt.round,
            attempt: attempt.attempt,
            purpose: purpose(attempt.round),
            phase: attempt.phase,
            awaiting: engine.awaiting(attempt),
        });
        let published = state
            .published
            .iter()
            .zip(0u32..)
            .map(|(published, round)| PublishedStatus {
                round,
                purpose: purpose(round),
                attempt: published.attempt,
                contributors: published.set.len(),
                seconds: published.published_ms.saturating_sub(published.announced_ms) as f64 / 1000.0,
            });
        Self {
            study: study.name.to_string(),
            digest: engine.study().digest(),
            version: engine.study().version(),
            former: engine
                .former()
                .iter()
                .map(|former| {
                    format!(
                        "version {} ({}): {}",
                        former.version,
                        former.study.short(),
                        former.reason
                    )
                })
                .collect(),
            listen,
            connections: ConnectionStatus {
                open: connections.taken(),
                most: connections.seats(),
                waited: connections.waited(),
            },
            phase: if engine.holds() {
                format!(
                    "holding after {} rounds, as --hold-before says",
                    state.published.len()
                )
            } else {
                phase_text(&step, engine.rounds(), attempt.as_ref())
            },
            missing: if let Step::AwaitConsent(missing) = &step {
                missing.clone()
            } else {
                Vec::new()
            },
            traffic: ledger.book(traffic_purpose(&step, purpose(booked_round))),
            attempt,
            rounds_total: engine.rounds(),
            published: published.collect(),
            serving: state.serving,
            models: service.models(),
            queries: service.counts(),
            queries_by_party: service.counts_by_party(),
            peak_rss_bytes: telemetry::peak_rss_bytes(),
            pid: std::process::id(),
            updated_ms: clock.now_ms(),
            closed: state.closed.map(|c| ClosedStatus {
                completed: c.completed,
                reason: c.reason,
            }),
        }
    }

    /// Writes the file so that a reader never sees half of it.
    pub fn write(&self, path: &Path) -> Result<(), HomeError> {
        let text = serde_json::to_string_pretty(self).map_err(|e| HomeError::Io {
            path: path.to_owned(),
            source: std::io::Error::other(e),
        })?;
        home::write(path, text.as_bytes())
    }
}

fn phase_text(step: &Step, rounds: u32, attempt: Option<&AttemptStatus>) -> String {
    match (step, attempt) {
        (Step::AwaitCustodians, _) => "waiting for custodians to introduce themselves".into(),
        (Step::AwaitConsent(missing), _) => {
            let names: Vec<_> = missing.iter().map(PartyId::as_str).collect();
            format!("waiting for the signatures of {}", names.join(", "))
        }
        (Step::Attempt, Some(attempt)) => {
            let purpose = attempt.purpose.map_or("unknown", Purpose::name);
            // People count from 1, as `party status` does; the fields beside count from 0.
            let again = match attempt.attempt {
                0 => String::new(),
                earlier => format!(", attempt {}", earlier + 1),
            };
            let (round, phase) = (attempt.round + 1, format!("{:?}", attempt.phase).to_lowercase());
            format!("round {round} of {rounds} ({purpose}){again}: {phase}")
        }
        (Step::AwaitRelease, _) => "waiting for the contributors to release the model".into(),
        (Step::Serve(_) | Step::Serving, _) => "serving encrypted queries".into(),
        (Step::Closed | Step::Complete, _) => "closed".into(),
        (Step::Announce { .. } | Step::Attempt, _) => "announcing a round".into(),
    }
}

fn traffic_purpose(step: &Step, round: Option<Purpose>) -> &'static str {
    match step {
        Step::AwaitConsent(_) => "consent",
        Step::AwaitCustodians => "custodians",
        Step::AwaitRelease | Step::Serve(_) => "release",
        Step::Serving => "query",
        Step::Announce { .. } | Step::Attempt | Step::Complete | Step::Closed => {
            round.map_or("other", Purpose::name)
        }
    }
}
