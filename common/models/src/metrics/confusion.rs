//! Which classes were taken for which.

use serde::{Deserialize, Serialize};

/// Numbers of patients by true class (rows) and predicted class (columns).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Confusion {
    counts: Vec<Vec<u64>>,
}

/// How well one class is found. A ratio of nothing is `None`: the precision of a class that was never predicted, say.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClassScores {
    /// Patients of this class.
    pub support: u64,
    /// Share of those predicted to be of this class that are.
    pub precision: Option<f64>,
    /// Share of those of this class that are predicted so (sensitivity).
    pub recall: Option<f64>,
    /// Harmonic mean of precision and recall, `2 TP / (2 TP + FP + FN)`.
    pub f1: Option<f64>,
}

impl Confusion {
    /// Counts predictions. `None` without patients, if the lengths differ, or if a number is not below `classes`.
    pub fn new(classes: usize, truth: &[u32], predicted: &[u32]) -> Option<Self> {
        if truth.is_empty() || truth.len() != predicted.len() {
            return None;
        }
        let mut counts = vec![vec![0; classes]; classes];
        for (&t, &p) in truth.iter().zip(predicted) {
            *counts.get_mut(t as usize)?.get_mut(p as usize)? += 1;
        }
        Some(Self { counts })
    }

    /// The counts: a row per true class, a column per predicted class.
    pub fn counts(&self) -> &[Vec<u64>] {
        &self.counts
    }

    /// All patients.
    pub fn total(&self) -> u64 {
        self.counts.iter().flatten().sum()
    }

    /// Share of patients whose class is predicted.
    pub fn accuracy(&self) -> f64 {
        let right: u64 = (0..self.counts.len()).map(|c| self.counts[c][c]).sum();
        right as f64 / self.total() as f64
    }

    /// Mean recall of the classes that have patients: accuracy as if all were equally frequent.
    pub fn balanced_accuracy(&self) -> f64 {
        mean(self.classes().iter().filter_map(|c| c.recall))
    }

    /// Mean F1 of the classes that have patients or were predicted.
    pub fn macro_f1(&self) -> f64 {
        mean(self.classes().iter().filter_map(|c| c.f1))
    }

    /// The scores of every class.
    pub fn classes(&self) -> Vec<ClassScores> {
        let of_class = |class: usize| {
            let hit = self.counts[class][class];
            let support: u64 = self.counts[class].iter().sum();
            let predicted: u64 = self.counts.iter().map(|row| row[class]).sum();
            let ratio = |a: u64, b: u64| (b > 0).then(|| a as f64 / b as f64);
            ClassScores {
                support,
                precision: ratio(hit, predicted),
                recall: ratio(hit, support),
                f1: ratio(2 * hit, support + predicted),
            }
        };
        (0..self.counts.len()).map(of_class).collect()
    }
}

/// Of at least one value, since a confusion has at least one patient.
fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_classes_by_hand() {
        let confusion = Confusion::new(4, &[0, 0, 0, 1, 1, 2], &[0, 0, 1, 1, 0, 1]).unwrap();
        assert_eq!(confusion.counts()[0], [2, 1, 0, 0]);
        assert_eq!(confusion.accuracy(), 0.5);
        let classes = confusion.classes();
        let expected = ClassScores {
            support: 2,
            precision: Some(1.0 / 3.0),
            recall: Some(0.5),
            f1: Some(0.4),
        };
        assert_eq!(classes[1], expected);
        assert_eq!(
            (classes[2].precision, classes[2].recall, classes[2].f1),
            (None, Some(0.0), Some(0.0))
        );
        assert_eq!((classes[3].support, classes[3].f1), (0, None));
        assert!((confusion.balanced_accuracy() - (2.0 / 3.0 + 0.5) / 3.0).abs() < 1e-15);
        assert!((confusion.macro_f1() - (2.0 / 3.0 + 0.4) / 3.0).abs() < 1e-15);
    }

    #[test]
    fn what_does_not_fit_counts_for_nothing() {
        assert_eq!(Confusion::new(2, &[0], &[2]), None);
        assert_eq!(Confusion::new(2, &[0], &[]), None);
        assert_eq!(Confusion::new(2, &[], &[]), None);
    }
}
