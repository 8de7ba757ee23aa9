//! How far predicted numbers are from the true ones.

use serde::{Deserialize, Serialize};

/// Errors of a regression.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Regression {
    /// Root of the mean squared error, in the target's unit.
    pub rmse: f64,
    /// Mean absolute error, in the target's unit.
    pub mae: f64,
    /// Coefficient of determination: 1 minus the squared errors over the squared deviations of the truth from its mean. `None` if the truth
    /// is constant.
    pub r2: Option<f64>,
}

impl Regression {
    /// Compares predictions with the truth. `None` without patients, if the lengths differ, or if a number is not finite.
    pub fn new(predicted: &[f64], truth: &[f64]) -> Option<Self> {
        let finite = predicted.iter().chain(truth).all(|v| v.is_finite());
        if truth.is_empty() || predicted.len() != truth.len() || !finite {
            return None;
        }
        let count = truth.len() as f64;
        let mean = truth.iter().sum::<f64>() / count;
        let errors = || predicted.iter().zip(truth).map(|(p, t)| p - t);
        let squared: f64 = errors().map(|e| e * e).sum();
        let deviations: f64 = truth.iter().map(|t| (t - mean).powi(2)).sum();
        Some(Self {
            rmse: (squared / count).sqrt(),
            mae: errors().map(f64::abs).sum::<f64>() / count,
            r2: (deviations > 0.0).then(|| 1.0 - squared / deviations),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_scikit_learn() {
        let found = Regression::new(&[2.5, 0.0, 2.0, 8.0], &[3.0, -0.5, 2.0, 7.0]).unwrap();
        assert_eq!((found.mae, found.rmse), (0.5, 0.375f64.sqrt()));
        assert!((found.r2.unwrap() - 0.948_608_137_044_967_9).abs() < 1e-12);
    }

    #[test]
    fn a_constant_truth_explains_nothing() {
        assert_eq!(Regression::new(&[1.0, 3.0], &[2.0, 2.0]).unwrap().r2, None);
        assert_eq!(Regression::new(&[f64::NAN], &[2.0]), None);
        assert_eq!(Regression::new(&[], &[]), None);
    }
}
