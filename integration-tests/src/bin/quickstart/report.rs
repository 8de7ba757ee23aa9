//! What comes out of a run, and whether it held. This is the JSON object.

use galen_core::study::Study;
use galen_core::{PartyId, StudyDigest};
use galen_party::sealed::SumSecurity;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The pooled model may be this much better than the federated one.
const AUC_SLACK: f64 = 0.01;
/// Largest difference between encrypted and plain inference, in probability.
const INFERENCE_ERROR: f64 = 1e-3;

/// A whole run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Report {
    /// Whether everything held.
    pub(crate) ok: bool,
    /// What did not hold.
    pub(crate) failures: Vec<String>,
    /// What was run.
    pub(crate) study: StudyReport,
    /// Areas under the ROC curve, on the held-out patients of all hospitals together.
    pub(crate) auc: Auc,
    /// Whether every sum that any party opened was the plain fixed-point sum, bit for bit.
    pub(crate) sum_exact: bool,
    /// How many sums that was.
    pub(crate) sums: Sums,
    /// Encrypted queries; `None` if the study serves no model.
    pub(crate) inference: Option<Inference>,
    /// An exact decision; `None` if the study serves no model.
    pub(crate) exact: Option<ExactDecision>,
    /// Seconds and bytes by phase.
    pub(crate) phases: Vec<Phase>,
    /// Largest memory of a process, in bytes.
    pub(crate) peak_rss_bytes: PeakRss,
    /// Encryption parameters.
    pub(crate) security: Security,
    /// From start to end.
    pub(crate) seconds: f64,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct StudyReport {
    pub(crate) name: PartyId,
    pub(crate) title: String,
    pub(crate) digest: StudyDigest,
    pub(crate) rounds: u32,
    pub(crate) parameters: usize,
    pub(crate) hospitals: BTreeMap<PartyId, Patients>,
}

/// A hospital's patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Patients {
    pub(crate) train: usize,
    pub(crate) held_out: usize,
}

/// Areas under the ROC curve; `None` where the patients are all of one class.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Auc {
    /// Each hospital's own model.
    pub(crate) alone: BTreeMap<PartyId, Option<f64>>,
    pub(crate) alone_mean: Option<f64>,
    /// From the histograms that were added encrypted.
    pub(crate) federated: Option<f64>,
    /// The same model, with scores compared exactly.
    pub(crate) federated_exact: Option<f64>,
    /// All patients in one place, without encryption.
    pub(crate) pooled: Option<f64>,
}

/// How many sums were compared.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Sums {
    pub(crate) opened: usize,
    pub(crate) values: usize,
    /// How often a round was published without one of the hospitals, counted for each of them.
    pub(crate) absences: usize,
}

/// Encrypted queries.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Inference {
    /// Largest difference to the plain model's probability.
    pub(crate) max_abs_error: f64,
    /// Patients over all queries.
    pub(crate) patients: usize,
    /// Queries.
    pub(crate) queries: usize,
}

/// One exact decision about one patient, of a network that is shipped.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ExactDecision {
    /// What was decrypted.
    pub(crate) decision: bool,
    /// What the plain integers give.
    pub(crate) expected: bool,
    pub(crate) bootstraps: u64,
    /// log2 of the probability that it is wrong, at most.
    pub(crate) log2_failure: f64,
    pub(crate) security_bits: u64,
    /// Name of the parameter set.
    pub(crate) parameters: String,
    /// Bytes of the evaluation key, sent once.
    pub(crate) key_bytes: u64,
    /// Seconds of the command that also made and sent the key.
    pub(crate) first_seconds: f64,
    /// Seconds of the command, from the table to the decision, once the key is there.
    pub(crate) seconds: f64,
}

/// A phase of the study. Bytes are those of the hospitals together: what they sent and received.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Phase {
    pub(crate) name: &'static str,
    pub(crate) seconds: f64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
    /// By hospital.
    pub(crate) parties: BTreeMap<PartyId, Share>,
}

/// A hospital's share of a phase: how long it was at it, and its bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub(crate) struct Share {
    pub(crate) seconds: f64,
    pub(crate) bytes_sent: u64,
    pub(crate) bytes_received: u64,
}

/// Largest memory of a process, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct PeakRss {
    pub(crate) coordinator: u64,
    /// The largest of all the parties' processes.
    pub(crate) party: u64,
}

/// Encryption parameters, as the parties found them in the round records and the program.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Security {
    pub(crate) sums: SumSecurity,
    pub(crate) inference: Option<InferenceSecurity>,
}

/// Parameters of encrypted queries.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct InferenceSecurity {
    pub(crate) preset: String,
    pub(crate) n: usize,
    pub(crate) log2_qp: u32,
    pub(crate) bound: u32,
}

/// The mean over the hospitals that have one.
pub(crate) fn mean(values: &BTreeMap<PartyId, Option<f64>>) -> Option<f64> {
    let known: Vec<f64> = values.values().copied().flatten().collect();
    (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
}

impl Report {
    /// Adds what did not hold to the failures found on the way, and sums up.
    pub(crate) fn judged(mut self, study: &Study) -> Self {
        let mut failures = std::mem::take(&mut self.failures);
        let mut require = |holds: bool, what: String| {
            if !holds {
                failures.push(what);
            }
        };
        let shown = |auc: Option<f64>| auc.map_or("none".to_owned(), |auc| format!("{auc:.4}"));
        let auc = &self.auc;
        let above = |a: Option<f64>, b: Option<f64>| a.zip(b).is_some_and(|(a, b)| a > b);
        require(
            above(auc.federated.map(|auc| auc + AUC_SLACK), auc.pooled),
            format!(
                "auc.federated {} is not within {AUC_SLACK} of auc.pooled {}",
                shown(auc.federated),
                shown(auc.pooled)
            ),
        );
        require(
            above(auc.federated, auc.alone_mean),
            format!(
                "auc.federated {} is not above the mean of auc.alone {}",
                shown(auc.federated),
                shown(auc.alone_mean)
            ),
        );
        require(self.sum_exact, "an opened sum is not the plain sum".into());
        let sums = &self.security.sums;
        require(
            sums.log2_q <= f64::from(sums.bound),
            format!(
                "sums: log2 Q {:.1} is above the bound {} of 128-bit security",
                sums.log2_q, sums.bound
            ),
        );
        if study.serving.release == galen_core::study::Release::Coordinator {
            let error = self
                .inference
                .map_or(f64::NAN, |inference| inference.max_abs_error);
            require(
                error < INFERENCE_ERROR,
                format!("encrypted inference is off by {error:e}, at most {INFERENCE_ERROR} is allowed"),
            );
            require(
                self.inference.is_some_and(|i| i.patients > 0),
                "no patient was evaluated encrypted".into(),
            );
            require(
                self.exact.as_ref().is_some_and(|e| e.decision == e.expected),
                "the exact decision is not that of the plain integers".into(),
            );
            let within = |s: &InferenceSecurity| s.log2_qp <= s.bound;
            require(
                self.security.inference.as_ref().is_some_and(within),
                "inference: the preset is not within the bound of 128-bit security".into(),
            );
        }
        self.ok = failures.is_empty();
        self.failures = failures;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_integration_tests::StudyFolder;

    /// A report of the heart study in which everything holds.
    fn sound() -> Report {
        let names = ["cleveland", "budapest", "zurich"].map(|name| PartyId::new(name).unwrap());
        let alone: BTreeMap<_, _> = names.into_iter().zip([Some(0.8), Some(0.7), None]).collect();
        Report {
            ok: false,
            failures: Vec::new(),
            study: StudyReport {
                name: PartyId::new("heart").unwrap(),
                title: "Hearts".into(),
                digest: galen_core::Digest::of(b"study"),
                rounds: 3,
                parameters: 9,
                hospitals: BTreeMap::new(),
            },
            auc: Auc {
                alone_mean: mean(&alone),
                alone,
                federated: Some(0.9),
                federated_exact: Some(0.9),
                pooled: Some(0.905),
            },
            sum_exact: true,
            sums: Sums::default(),
            inference: Some(Inference {
                max_abs_error: 1e-5,
                patients: 7,
                queries: 2,
            }),
            exact: Some(ExactDecision {
                decision: true,
                expected: true,
                bootstraps: 19,
                log2_failure: -41.0,
                security_bits: 128,
                parameters: "p".into(),
                key_bytes: 1 << 20,
                first_seconds: 4.0,
                seconds: 1.0,
            }),
            phases: Vec::new(),
            peak_rss_bytes: PeakRss::default(),
            security: Security {
                sums: SumSecurity {
                    n: 4096,
                    log2_q: 43.0,
                    bound: 106,
                    pieces: 6,
                    custodians: 4,
                    threshold: 3,
                    agreement: 3,
                },
                inference: Some(InferenceSecurity {
                    preset: "p".into(),
                    n: 8192,
                    log2_qp: 214,
                    bound: 214,
                }),
            },
            seconds: 1.0,
        }
    }

    #[test]
    fn each_thing_that_does_not_hold_is_named() {
        let heart = StudyFolder::heart().unwrap();
        let judged = |change: fn(&mut Report)| {
            let mut report = sound();
            change(&mut report);
            report.judged(heart.study())
        };
        assert!((mean(&sound().auc.alone).unwrap() - 0.75).abs() < 1e-12);
        let sound = judged(|_| {});
        assert!(sound.ok && sound.failures.is_empty(), "{:?}", sound.failures);
        type Change = fn(&mut Report);
        let cases: [(Change, &str); 13] = [
            (
                |r| r.failures.push("zurich did not end gracefully".into()),
                "gracefully",
            ),
            (|r| r.auc.pooled = Some(0.911), "auc.pooled"),
            (|r| r.auc.pooled = None, "auc.pooled"),
            (|r| r.auc.alone_mean = Some(0.9), "auc.alone"),
            (|r| r.sum_exact = false, "sum"),
            (|r| r.security.sums.log2_q = 106.1, "sums"),
            (|r| r.inference = None, "inference"),
            (
                |r| r.inference.as_mut().unwrap().max_abs_error = 1e-3,
                "inference",
            ),
            (|r| r.inference.as_mut().unwrap().patients = 0, "no patient"),
            (|r| r.exact = None, "exact decision"),
            (|r| r.exact.as_mut().unwrap().decision = false, "exact decision"),
            (|r| r.security.inference = None, "preset"),
            (|r| r.security.inference.as_mut().unwrap().log2_qp = 215, "preset"),
        ];
        for (change, named) in cases {
            let report = judged(change);
            assert!(!report.ok, "{named}");
            assert!(
                report.failures.iter().any(|failure| failure.contains(named)),
                "{named}: {:?}",
                report.failures
            );
        }
    }
}
