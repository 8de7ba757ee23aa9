//! Whether probabilities mean what they say.

use serde::{Deserialize, Serialize};

/// Predictions by confidence. For two classes the confidence is the probability of class 1 and the outcome whether it is; for several
/// classes it is the largest probability, and the outcome whether that class is right (Guo et al., "On calibration of modern neural
/// networks", ICML 2017, section 2).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Bins of equal width that cover 0 to 1; bin `i` of `n` has confidences in `[i/n, (i+1)/n)`, the last one includes 1.
    pub bins: Vec<ReliabilityBin>,
    /// Expected calibration error: mean distance of confidence and frequency over the bins, weighted by their patients (equation 3 there).
    pub expected_error: f64,
    /// Largest distance of confidence and frequency among bins with patients (equation 5 there).
    pub largest_error: f64,
}

/// The predictions of one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ReliabilityBin {
    /// Patients.
    pub count: u64,
    /// Mean confidence; 0 without patients.
    pub confidence: f64,
    /// Share of patients with the outcome; 0 without patients.
    pub frequency: f64,
}

impl Calibration {
    /// Of confidences and outcomes. `None` without patients or bins, if the lengths differ, or if a confidence is not in 0..=1.
    pub fn new(confidences: &[f64], outcomes: &[bool], bins: usize) -> Option<Self> {
        let valid = confidences.iter().all(|c| (0.0..=1.0).contains(c));
        if confidences.is_empty() || confidences.len() != outcomes.len() || bins == 0 || !valid {
            return None;
        }
        let mut sums = vec![ReliabilityBin::default(); bins];
        for (&confidence, &outcome) in confidences.iter().zip(outcomes) {
            let bin = &mut sums[((confidence * bins as f64) as usize).min(bins - 1)];
            bin.count += 1;
            bin.confidence += confidence;
            bin.frequency += f64::from(u8::from(outcome));
        }
        let (mut expected_error, mut largest_error) = (0.0, 0.0f64);
        for bin in sums.iter_mut().filter(|bin| bin.count > 0) {
            bin.confidence /= bin.count as f64;
            bin.frequency /= bin.count as f64;
            let distance = (bin.confidence - bin.frequency).abs();
            expected_error += distance * bin.count as f64 / confidences.len() as f64;
            largest_error = largest_error.max(distance);
        }
        Some(Self {
            bins: sums,
            expected_error,
            largest_error,
        })
    }

    /// Of several classes: rows of `classes` probabilities, and the true classes.
    pub fn of_classes(probabilities: &[f64], classes: usize, truth: &[u32], bins: usize) -> Option<Self> {
        if Some(probabilities.len()) != truth.len().checked_mul(classes) {
            return None;
        }
        let predicted = super::largest(probabilities, classes);
        let rows = probabilities.chunks_exact(classes.max(1));
        let confidences: Vec<f64> = rows
            .zip(&predicted)
            .map(|(row, &class)| row[class as usize])
            .collect();
        let right: Vec<bool> = predicted.iter().zip(truth).map(|(p, t)| p == t).collect();
        Self::new(&confidences, &right, bins)
    }
}

/// The Brier score of several classes: mean over patients of the sum over classes of the squared difference between probability and
/// outcome (Brier 1950, in its original form, which for two classes is twice that of [`super::brier`]). `None` without patients or if
/// lengths do not fit.
pub fn brier_of_classes(probabilities: &[f64], classes: usize, truth: &[u32]) -> Option<f64> {
    if truth.is_empty() || Some(probabilities.len()) != truth.len().checked_mul(classes) {
        return None;
    }
    let of_row = |(row, &class): (&[f64], &u32)| -> f64 {
        let outcome = |c: usize| f64::from(u8::from(c == class as usize));
        row.iter()
            .enumerate()
            .map(|(c, p)| (p - outcome(c)).powi(2))
            .sum()
    };
    let sum: f64 = probabilities
        .chunks_exact(classes.max(1))
        .zip(truth)
        .map(of_row)
        .sum();
    Some(sum / truth.len() as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_by_hand() {
        let found = Calibration::new(&[0.1, 0.3, 0.5, 1.0], &[false, true, true, true], 2).unwrap();
        assert_eq!((found.bins[0].count, found.bins[1].count), (2, 2));
        assert!((found.bins[0].confidence - 0.2).abs() < 1e-15 && found.bins[0].frequency == 0.5);
        assert!((found.bins[1].confidence - 0.75).abs() < 1e-15 && found.bins[1].frequency == 1.0);
        assert!((found.expected_error - 0.275).abs() < 1e-15);
        assert!((found.largest_error - 0.3).abs() < 1e-15);
    }

    #[test]
    fn several_classes_are_judged_by_the_largest_probability() {
        let probabilities = [0.6, 0.3, 0.1, 0.2, 0.2, 0.6];
        let found = Calibration::of_classes(&probabilities, 3, &[0, 1], 1).unwrap();
        assert!((found.expected_error - 0.1).abs() < 1e-15);
        let brier = brier_of_classes(&probabilities, 3, &[0, 1]).unwrap();
        assert!((brier - (0.16 + 0.09 + 0.01 + 0.04 + 0.64 + 0.36) / 2.0).abs() < 1e-15);
        let two = brier_of_classes(&[0.8, 0.2], 2, &[1]).unwrap();
        assert!((two - 2.0 * super::super::brier(&[0.2], &[true]).unwrap()).abs() < 1e-15);
    }

    #[test]
    fn what_is_no_probability_is_refused() {
        assert_eq!(Calibration::new(&[1.1], &[true], 10), None);
        assert_eq!(Calibration::new(&[f64::NAN], &[true], 10), None);
        assert_eq!(Calibration::new(&[0.5], &[true], 0), None);
        assert_eq!(Calibration::of_classes(&[0.5], 2, &[0], 10), None);
        assert_eq!(brier_of_classes(&[], 2, &[]), None);
    }
}
