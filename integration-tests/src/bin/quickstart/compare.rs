//! Results against what plain data give: the report.

use crate::baselines::Baselines;
use crate::report::{
    Auc, ExactDecision, Inference, InferenceSecurity, Patients, PeakRss, Phase, Report, Security, Share,
    StudyReport, Sums, mean,
};
use anyhow::{Context, bail, ensure};
use galen_core::study::{Release, Study};
use galen_core::{PartyId, StudyDigest};
use galen_integration_tests::Snapshot;
use galen_integration_tests::oracle::{self, Recomputed};
use galen_models::{Course, Histograms, Model, Statistics, agenda};
use galen_party::sealed::{OpenedSum, SumSecurity};
use galen_training::Preprocessor;
use galen_training::baseline::{Hospital, Trained};
use std::collections::BTreeMap;

/// What the parties have to show at the end.
pub(crate) struct Results {
    /// Every party's opened sums.
    pub(crate) opened: BTreeMap<PartyId, Vec<OpenedSum>>,
    pub(crate) security: SumSecurity,
    /// The party that exported its model.
    pub(crate) exported_by: PartyId,
    /// The model that it exported.
    pub(crate) model: Model,
    /// Every querier's answers, in the order of its held-out patients.
    pub(crate) answers: BTreeMap<PartyId, Vec<f64>>,
    pub(crate) inference: Option<InferenceSecurity>,
    /// The exact decision.
    pub(crate) exact: Option<ExactDecision>,
    /// Every party's shares by purpose.
    pub(crate) traffic: BTreeMap<PartyId, BTreeMap<String, Share>>,
    /// What the daemons said last.
    pub(crate) last: Snapshot,
}

/// How long things took, in seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Durations {
    pub(crate) setup: f64,
    pub(crate) release: f64,
    pub(crate) query: f64,
    pub(crate) all: f64,
}

/// Everything that a report is made of.
pub(crate) struct Comparison<'a> {
    pub(crate) study: &'a Study,
    pub(crate) digest: StudyDigest,
    pub(crate) hospitals: &'a [Hospital],
    pub(crate) results: &'a Results,
    pub(crate) durations: Durations,
    pub(crate) peak: PeakRss,
}

impl Comparison<'_> {
    /// Compares. `failures` are what has gone wrong already.
    pub(crate) fn report(&self, baselines: Baselines, mut failures: Vec<String>) -> anyhow::Result<Report> {
        let (study, results) = (self.study, self.results);
        let recomputed = self.expected(baselines.recomputed)?;
        let opened = results.opened.iter();
        let differences: Vec<_> = opened
            .flat_map(|(party, opened)| recomputed.differences(party, opened))
            .collect();
        let sum_exact = differences.is_empty();
        failures.extend(differences);
        if results.model != *recomputed.model_of(&results.exported_by) {
            failures.push("the trained model is not the one that follows from the plain sums".into());
        }
        let any = results.opened.values().next().context("nobody opened anything")?;
        let (first, last) = (
            any.first().context("no sum was opened")?,
            any.last().context("no sum was opened")?,
        );
        let statistics = Statistics::from_sums(&first.values, &study.data)?;
        let histograms = Histograms::from_sums(&last.values, &study.evaluation)?;
        let preprocessor = Preprocessor::new(&study.data, &statistics)?;
        let trained = Trained {
            preprocessor,
            model: results.model.clone(),
        };
        let sums = results.opened.values().flatten();
        let report = Report {
            ok: false,
            failures,
            study: self.study_report()?,
            auc: Auc {
                alone_mean: mean(&baselines.alone),
                alone: baselines.alone,
                federated: histograms.roc().map(|roc| roc.auc),
                federated_exact: recomputed.federated.auc(self.hospitals)?,
                pooled: baselines.pooled,
            },
            sum_exact,
            sums: Sums {
                opened: sums.clone().count(),
                values: sums.map(|sum| sum.values.len()).sum(),
                absences: recomputed
                    .sets()
                    .iter()
                    .map(|set| self.hospitals.len() - set.len())
                    .sum(),
            },
            inference: self.inference(&trained)?,
            exact: results.exact.clone(),
            phases: self.phases(),
            peak_rss_bytes: self.peak,
            security: Security {
                sums: results.security.clone(),
                inference: results.inference.clone(),
            },
            seconds: self.durations.all,
        };
        Ok(report.judged(study))
    }

    fn study_report(&self) -> anyhow::Result<StudyReport> {
        let study = self.study;
        let patients = |hospital: &Hospital| {
            let (train, held_out) = (hospital.train.len(), hospital.held_out.len());
            (hospital.name.clone(), Patients { train, held_out })
        };
        Ok(StudyReport {
            name: study.name.clone(),
            title: study.title.clone(),
            digest: self.digest,
            rounds: agenda::rounds(study),
            parameters: Course::of(study)?.network().parameter_count(),
            hospitals: self.hospitals.iter().map(patients).collect(),
        })
    }

    /// The plain sums over the hospitals that were in each round's set: normally all, but a round may go on without one that is slow.
    fn expected(&self, of_all: Recomputed) -> anyhow::Result<Recomputed> {
        let sets = oracle::sets(&self.results.opened)?;
        if sets == *of_all.sets() {
            Ok(of_all)
        } else {
            Recomputed::among(self.study, self.hospitals, sets)
        }
    }

    fn phases(&self) -> Vec<Phase> {
        let seconds = &self.durations;
        let published = |purpose: &str| {
            let rounds = self
                .results
                .last
                .coordinator
                .iter()
                .flat_map(|status| &status.published);
            rounds
                .filter(|round| round.purpose.is_some_and(|p| p.name() == purpose))
                .map(|round| round.seconds)
                .sum()
        };
        let mut phases = vec![
            self.setup(),
            self.phase("statistics", published("statistics")),
            self.phase("training", published("training")),
            self.phase("evaluation", published("evaluation")),
        ];
        if self.study.serving.release == Release::Coordinator {
            phases.push(self.phase("release", seconds.release));
            phases.push(self.phase("query", seconds.query));
        }
        phases
    }

    /// Parties book their bytes once rounds are under way. What the coordinator counted beyond that was exchanged before.
    fn setup(&self) -> Phase {
        let phases = self.results.traffic.values().flat_map(BTreeMap::values);
        let (sent, received) = phases.fold((0, 0), |(s, r), b| (s + b.bytes_sent, r + b.bytes_received));
        let counted = self
            .results
            .last
            .coordinator
            .iter()
            .flat_map(|status| status.traffic.values());
        let (to_parties, from_parties) =
            counted.fold((0, 0), |(s, r), b| (s + b.bytes_sent, r + b.bytes_received));
        Phase {
            name: "setup",
            seconds: self.durations.setup,
            bytes_sent: u64::saturating_sub(from_parties, sent),
            bytes_received: u64::saturating_sub(to_parties, received),
            parties: BTreeMap::new(),
        }
    }

    fn phase(&self, name: &'static str, seconds: f64) -> Phase {
        let booked =
            |(party, books): (&PartyId, &BTreeMap<String, Share>)| Some((party.clone(), *books.get(name)?));
        let parties: BTreeMap<_, _> = self.results.traffic.iter().filter_map(booked).collect();
        Phase {
            name,
            seconds,
            bytes_sent: parties.values().map(|bytes| bytes.bytes_sent).sum(),
            bytes_received: parties.values().map(|bytes| bytes.bytes_received).sum(),
            parties,
        }
    }

    /// The largest difference between answers and the plain model's probabilities.
    fn inference(&self, trained: &Trained) -> anyhow::Result<Option<Inference>> {
        let answers = &self.results.answers;
        if answers.is_empty() {
            return Ok(None);
        }
        let mut inference = Inference {
            max_abs_error: 0.0,
            patients: 0,
            queries: answers.len(),
        };
        for (party, answers) in answers {
            let hospital = self.hospitals.iter().find(|hospital| hospital.name == *party);
            let plain = trained.probabilities(
                &hospital
                    .with_context(|| format!("{party} has no table"))?
                    .held_out,
            )?;
            if plain.len() != answers.len() {
                bail!(
                    "{party} asked for {} patients and got {} answers",
                    plain.len(),
                    answers.len()
                );
            }
            inference.patients += answers.len();
            for (answer, plain) in answers.iter().zip(plain) {
                let error = (answer - plain).abs();
                // `max` would hide it.
                ensure!(error.is_finite(), "{party} got {answer} for a patient");
                inference.max_abs_error = inference.max_abs_error.max(error);
            }
        }
        Ok(Some(inference))
    }
}
