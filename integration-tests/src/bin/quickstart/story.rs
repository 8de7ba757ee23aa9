//! The run itself: from an empty folder to encrypted predictions, and then the comparison.

use crate::baselines;
use crate::compare::{Comparison, Durations, Results};
use crate::exact;
use crate::options::Options;
use crate::progress::Progress;
use crate::report::{ExactDecision, InferenceSecurity, PeakRss, Report, Share};
use anyhow::{Context, ensure};
use galen_core::PartyId;
use galen_core::study::{Release, Role, Study};
use galen_integration_tests::federation::COORDINATOR;
use galen_integration_tests::{Federation, Program, Snapshot, StudyFolder, answers, oracle};
use galen_models::{ModelFile, agenda};
use galen_party::traffic::Entry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

/// Set by Ctrl-C.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

fn check_interrupted() -> anyhow::Result<()> {
    ensure!(
        !INTERRUPTED.load(Ordering::Relaxed),
        "interrupted; every process was ended"
    );
    Ok(())
}

/// Makes Ctrl-C and SIGTERM end the run in order: whatever waits fails, and dropping the federation ends its processes.
fn heed_signals() -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    std::thread::spawn(move || {
        runtime.block_on(async {
            let interrupt = tokio::signal::ctrl_c();
            #[cfg(unix)]
            {
                let Ok(mut terminate) =
                    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
                else {
                    return drop(interrupt.await);
                };
                tokio::select! {
                    _ = interrupt => {}
                    _ = terminate.recv() => {}
                }
            }
            #[cfg(not(unix))]
            drop(interrupt.await);
        });
        INTERRUPTED.store(true, Ordering::Relaxed);
    });
    Ok(())
}

/// Runs a study and compares its results.
pub(crate) fn run(options: &Options) -> anyhow::Result<Report> {
    heed_signals()?;
    let folder = match &options.study {
        Some(dir) => StudyFolder::load(dir)?,
        None => StudyFolder::heart()?,
    };
    let temporary;
    let root: &Path = match &options.keep {
        Some(dir) => {
            let mut entries = std::fs::read_dir(dir).into_iter().flatten();
            ensure!(entries.next().is_none(), "{} is not empty", dir.display());
            std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
            &std::path::absolute(dir)?
        }
        None => {
            temporary = tempfile::Builder::new().prefix("galen-quickstart-").tempdir()?;
            temporary.path()
        }
    };
    let names: Vec<_> = folder
        .study()
        .party
        .iter()
        .map(|member| member.name.clone())
        .collect();
    let mut progress = Progress::new(&names);
    let report = Story::tell(&folder, root, &mut progress);
    progress.finish();
    report
}

/// When each phase was over.
struct Times {
    began: Instant,
    active: Option<Instant>,
    published: Option<Instant>,
    served: Option<Instant>,
    asked: Option<Instant>,
}

impl Times {
    fn note(&mut self, snapshot: &Snapshot) {
        let Some(status) = &snapshot.coordinator else {
            return;
        };
        if status.attempt.is_some() || !status.published.is_empty() {
            self.active.get_or_insert_with(Instant::now);
        }
        if status.published.len() as u32 == status.rounds_total {
            self.published.get_or_insert_with(Instant::now);
        }
        if snapshot.serves() {
            self.served.get_or_insert_with(Instant::now);
        }
    }

    fn durations(&self) -> Durations {
        let between = |from: Option<Instant>, to: Option<Instant>| {
            from.zip(to)
                .map_or(0.0, |(from, to)| to.saturating_duration_since(from).as_secs_f64())
        };
        Durations {
            setup: between(Some(self.began), self.active),
            release: between(self.published, self.served),
            query: between(self.served, self.asked),
            all: self.began.elapsed().as_secs_f64(),
        }
    }
}

/// Every querier's answers, the parameters that the queries said they used, and one exact decision.
#[derive(Default)]
struct Asked {
    answers: BTreeMap<PartyId, Vec<f64>>,
    inference: Option<InferenceSecurity>,
    exact: Option<ExactDecision>,
}

struct Story<'a> {
    study: &'a Study,
    federation: Federation,
    progress: &'a mut Progress,
    times: Times,
}

impl<'a> Story<'a> {
    fn tell(folder: &'a StudyFolder, root: &Path, progress: &'a mut Progress) -> anyhow::Result<Report> {
        let began = Instant::now();
        progress.say("setup: keys, cards, the frozen study and every hospital's signature");
        let executable = std::env::current_exe().context("the path of this executable")?;
        let federation = Federation::create(Program::new(executable), folder, root)?;
        let times = Times {
            began,
            active: None,
            published: None,
            served: None,
            asked: None,
        };
        let mut story = Story {
            study: folder.study(),
            federation,
            progress,
            times,
        };
        let hospitals = oracle::hospitals(story.study, root)?;
        story.federation.start_all()?;
        let baselines = baselines::start(story.study.clone(), hospitals.clone());
        story.watch_rounds()?;
        let asked = story.query()?;
        story.progress.say("stopping the daemons");
        let failures = story.federation.stop_all()?;
        story.progress.say("comparing with what plain data give");
        let results = story.collect(asked)?;
        let peak = story.peak_rss();
        let baselines = baselines::join(baselines)?;
        check_interrupted()?;
        let comparison = Comparison {
            study: story.study,
            digest: story.federation.frozen().digest(),
            hospitals: &hospitals,
            results: &results,
            durations: story.times.durations(),
            peak,
        };
        comparison.report(baselines, failures)
    }

    /// Until every hospital has opened every sum and, if the study says so, the model is served.
    fn watch_rounds(&mut self) -> anyhow::Result<()> {
        let Self {
            study,
            federation,
            progress,
            times,
        } = self;
        let serves = study.serving.release == Release::Coordinator;
        let contributors = study.with_role(Role::Contributor).len();
        federation.wait_for("the study is done", |_, snapshot| {
            check_interrupted()?;
            times.note(snapshot);
            progress.show(snapshot);
            let rounds = agenda::rounds(study);
            let opened = snapshot
                .parties
                .values()
                .filter(|status| status.applied == rounds)
                .count();
            Ok(opened >= contributors && (snapshot.serves() || !serves))
        })
    }

    /// What the parties opened, derived and booked; the daemons need not run any more.
    fn collect(&mut self, asked: Asked) -> anyhow::Result<Results> {
        let mut opened = BTreeMap::new();
        let mut security = None;
        let mut traffic = BTreeMap::new();
        let contributors: Vec<_> = self
            .study
            .with_role(Role::Contributor)
            .into_iter()
            .cloned()
            .collect();
        for party in &contributors {
            check_interrupted()?;
            let found = oracle::opened(&mut self.federation, party)?;
            opened.insert(party.clone(), found.sums);
            security = Some(found.security);
            let books = self.federation.party_status(party)?.traffic;
            let share = |entry: Entry| Share {
                seconds: entry.seconds,
                bytes_sent: entry.bytes_sent,
                bytes_received: entry.bytes_received,
            };
            let shares = books.into_iter().map(|(purpose, entry)| (purpose, share(entry)));
            traffic.insert(party.clone(), shares.collect());
        }
        let first = contributors.first().context("no contributors")?;
        let file = self.federation.root().join("answers").join("model.safetensors");
        let out = file.to_string_lossy();
        self.federation
            .run(first.as_str(), &["model", "export", "--out", &out])?;
        let model = ModelFile::from_safetensors(&std::fs::read(&file)?)?.model;
        let security = security.context("no contributors")?;
        Ok(Results {
            opened,
            security,
            exported_by: first.clone(),
            model,
            answers: asked.answers,
            inference: asked.inference,
            exact: asked.exact,
            traffic,
            last: self.federation.snapshot(),
        })
    }

    /// Encrypted queries of every querier, if the study serves a model.
    fn query(&mut self) -> anyhow::Result<Asked> {
        if self.study.serving.release != Release::Coordinator {
            return Ok(Asked::default());
        }
        let queriers: Vec<_> = self.study.with_role(Role::Querier).into_iter().cloned().collect();
        self.progress
            .say("query: every hospital has its held-out patients evaluated, encrypted under its own key");
        let mut jobs = Vec::new();
        for party in &queriers {
            let out = self.answer_file(party);
            let args = [
                "query".into(),
                "--held-out".into(),
                "--out".into(),
                out.into_os_string(),
            ];
            jobs.push(self.federation.command(party.as_str(), args)?);
        }
        let Self {
            federation, progress, ..
        } = self;
        federation.wait_for("every query is answered", |_, snapshot| {
            check_interrupted()?;
            let mut done = 0;
            for job in &mut jobs {
                done += usize::from(job.is_done()?);
            }
            progress.show_queries(snapshot, done, jobs.len());
            Ok(done == jobs.len())
        })?;
        let (mut answers, mut inference) = (BTreeMap::new(), None);
        for (party, job) in queriers.iter().zip(jobs) {
            inference = Some(serde_json::from_value(job.result()?)?);
            answers.insert(
                party.clone(),
                answers::read(&self.answer_file(party))?.into_values().collect(),
            );
        }
        self.times.asked = Some(Instant::now());
        self.progress
            .say("query: a shipped network decides about one patient exactly, under TFHE");
        let querier = queriers.first().context("no queriers")?;
        let exact = Some(exact::decide(&mut self.federation, querier)?);
        Ok(Asked {
            answers,
            inference,
            exact,
        })
    }

    fn answer_file(&self, party: &PartyId) -> PathBuf {
        self.federation
            .root()
            .join("answers")
            .join(format!("{party}.csv"))
    }

    /// Largest memory of the processes, which each leaves behind when it ends.
    fn peak_rss(&self) -> PeakRss {
        let mut peak = PeakRss::default();
        for (name, bytes) in self.federation.logs().peaks() {
            let side = if name.starts_with(COORDINATOR) {
                &mut peak.coordinator
            } else {
                &mut peak.party
            };
            *side = bytes.max(*side);
        }
        peak
    }
}
