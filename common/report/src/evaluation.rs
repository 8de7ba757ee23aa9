//! How good a model is on some samples.

use galen_models::metrics::{self, Calibration, ClassScores, Confusion, Regression, Roc};
use serde::{Deserialize, Serialize};

/// Bins of reliability diagrams.
const BINS: usize = 15;
/// Most points of a curve that is kept.
const POINTS: usize = 400;
/// Most pairs of true and predicted numbers that are kept.
const PAIRS: usize = 2000;

/// A line of a diagram.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// What it shows.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<[f64; 2]>,
}

/// How good a model is on some samples.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evaluation {
    /// The samples: `test`, say.
    pub part: String,
    /// How many.
    pub samples: u64,
    /// The judgement.
    pub judgement: Judgement,
}

/// A judgement by the kind of target.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "kind")]
pub enum Judgement {
    /// Two or more classes.
    Classes {
        /// Names of the classes.
        names: Vec<String>,
        /// Share of samples whose class is predicted.
        accuracy: f64,
        /// Mean recall of the classes.
        balanced_accuracy: f64,
        /// Mean F1 of the classes.
        macro_f1: f64,
        /// Brier score; for two classes the mean squared error of the probability of class 1, otherwise summed over classes.
        brier: f64,
        /// True classes in rows, predicted ones in columns.
        confusion: Confusion,
        /// Scores per class.
        classes: Vec<ClassScores>,
        /// ROC curves: of class 1 for two classes, otherwise of each class against the rest. Classes without samples are left out.
        roc: Vec<OneVersusRest>,
        /// Reliability of the probabilities.
        calibration: Calibration,
    },
    /// A number.
    Regression {
        /// What is predicted.
        name: String,
        /// Its unit.
        unit: String,
        /// The errors.
        errors: Regression,
        /// True and predicted numbers; at most 2000 samples, evenly chosen.
        pairs: Vec<[f64; 2]>,
    },
}

/// A ROC curve of one class.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OneVersusRest {
    /// The class.
    pub class: String,
    /// Area below the curve, exact.
    pub auc: f64,
    /// False positive rate and true positive rate; at most 400 points of the curve, with both ends.
    pub points: Vec<[f64; 2]>,
}

impl Evaluation {
    /// Two classes, from probabilities of class 1. `None` without samples, if the lengths differ, or if something is no probability.
    pub fn binary(part: &str, names: [&str; 2], probabilities: &[f64], truth: &[u32]) -> Option<Self> {
        if truth.iter().any(|&t| t > 1) {
            return None;
        }
        let labels: Vec<bool> = truth.iter().map(|&t| t == 1).collect();
        let predicted: Vec<u32> = probabilities.iter().map(|&p| u32::from(p >= 0.5)).collect();
        let roc = metrics::roc(probabilities, &labels);
        Self::of_classes(
            part,
            names.map(str::to_owned).to_vec(),
            Confusion::new(2, truth, &predicted)?,
            metrics::brier(probabilities, &labels)?,
            roc.iter().map(|curve| one_versus_rest(names[1], curve)).collect(),
            Calibration::new(probabilities, &labels, BINS)?,
        )
    }

    /// Several classes, from one row of probabilities per sample. `None` as for two classes.
    pub fn classes(part: &str, names: &[String], probabilities: &[f64], truth: &[u32]) -> Option<Self> {
        let count = names.len();
        let calibration = Calibration::of_classes(probabilities, count, truth, BINS)?;
        let predicted = metrics::largest(probabilities, count);
        let curves = metrics::roc_one_versus_rest(probabilities, count, truth);
        let known = names
            .iter()
            .zip(&curves)
            .filter_map(|(n, c)| Some(one_versus_rest(n, c.as_ref()?)));
        Self::of_classes(
            part,
            names.to_vec(),
            Confusion::new(count, truth, &predicted)?,
            metrics::brier_of_classes(probabilities, count, truth)?,
            known.collect(),
            calibration,
        )
    }

    /// Numbers. `None` without samples, if the lengths differ, or if something is not finite.
    pub fn regression(part: &str, name: &str, unit: &str, predicted: &[f64], truth: &[f64]) -> Option<Self> {
        let errors = Regression::new(predicted, truth)?;
        let pairs: Vec<[f64; 2]> = truth.iter().zip(predicted).map(|(&t, &p)| [t, p]).collect();
        Some(Self {
            part: part.to_owned(),
            samples: truth.len() as u64,
            judgement: Judgement::Regression {
                name: name.to_owned(),
                unit: unit.to_owned(),
                errors,
                pairs: thin(&pairs, PAIRS),
            },
        })
    }

    fn of_classes(
        part: &str,
        names: Vec<String>,
        confusion: Confusion,
        brier: f64,
        roc: Vec<OneVersusRest>,
        calibration: Calibration,
    ) -> Option<Self> {
        Some(Self {
            part: part.to_owned(),
            samples: confusion.total(),
            judgement: Judgement::Classes {
                names,
                accuracy: confusion.accuracy(),
                balanced_accuracy: confusion.balanced_accuracy(),
                macro_f1: confusion.macro_f1(),
                brier,
                classes: confusion.classes(),
                confusion,
                roc,
                calibration,
            },
        })
    }
}

fn one_versus_rest(class: &str, curve: &Roc) -> OneVersusRest {
    let points: Vec<[f64; 2]> = curve.points.iter().map(|&(x, y)| [x, y]).collect();
    OneVersusRest {
        class: class.to_owned(),
        auc: curve.auc,
        points: thin(&points, POINTS),
    }
}

/// At most `most` of the items, evenly chosen, with the first and the last.
fn thin<T: Copy>(items: &[T], most: usize) -> Vec<T> {
    if items.len() <= most {
        return items.to_vec();
    }
    let last = items.len() - 1;
    (0..most)
        .map(|i| items[(i * last + (most - 1) / 2) / (most - 1)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinned_curves_keep_their_ends() {
        let all: Vec<usize> = (0..1001).collect();
        let some = thin(&all, 11);
        assert_eq!(some, (0..11).map(|i| i * 100).collect::<Vec<_>>());
        assert_eq!(thin(&all[..3], 11), [0, 1, 2]);
        assert_eq!(thin(&all, 400).last(), Some(&1000));
    }

    #[test]
    fn what_cannot_be_judged_is_not() {
        assert!(Evaluation::binary("test", ["a", "b"], &[0.5], &[2]).is_none());
        assert!(Evaluation::binary("test", ["a", "b"], &[1.5], &[1]).is_none());
        assert!(Evaluation::binary("test", ["a", "b"], &[], &[]).is_none());
        let one_class = Evaluation::binary("test", ["a", "b"], &[0.5, 0.7], &[1, 1]).unwrap();
        assert!(matches!(one_class.judgement, Judgement::Classes { roc, .. } if roc.is_empty()));
        assert!(Evaluation::regression("test", "y", "", &[f64::NAN], &[1.0]).is_none());
    }
}
