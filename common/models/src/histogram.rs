//! The evaluation round: histograms of predicted probabilities by class, from which the pooled ROC curve follows without
//! anybody showing a score.

use crate::fixed::{CodecError, check_length, check_rows};
use crate::metrics::{Roc, roc_from_histograms};
use galen_core::study::{DataSchema, EvaluationPlan};

/// Patients per bin of predicted probability, of all hospitals together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histograms {
    /// Patients of class 0, bins in rising order.
    pub negative: Vec<u64>,
    /// Patients of class 1, bins in rising order.
    pub positive: Vec<u64>,
}

/// The bin of a probability among `bins` equal bins of [0, 1].
fn bin(probability: f64, bins: usize) -> usize {
    ((probability * bins as f64) as usize).min(bins.saturating_sub(1))
}

/// One hospital's values: the bins of class 0, then those of class 1.
///
/// Errors on a probability outside [0, 1], on more rows than the study allows and on none.
pub fn contribution(
    probabilities: &[f64],
    labels: &[bool],
    plan: &EvaluationPlan,
    schema: &DataSchema,
) -> Result<Vec<i64>, CodecError> {
    check_rows(probabilities.len(), schema.max_rows)?;
    check_length(probabilities.len(), labels.len())?;
    let bins = plan.bins as usize;
    let mut values = vec![0i64; Histograms::values(plan)];
    for (index, (&value, &label)) in probabilities.iter().zip(labels).enumerate() {
        if !(0.0..=1.0).contains(&value) {
            return Err(CodecError::Range {
                index,
                value,
                limit: 1.0,
            });
        }
        values[bin(value, bins) + if label { bins } else { 0 }] += 1;
    }
    Ok(values)
}

impl Histograms {
    /// Number of values of a contribution.
    pub fn values(plan: &EvaluationPlan) -> usize {
        2 * plan.bins as usize
    }

    /// No value of one contribution has a larger magnitude.
    pub fn max_abs(schema: &DataSchema) -> u64 {
        u64::from(schema.max_rows)
    }

    /// What the sum of all contributions says. Errors if it has the wrong length or a negative count.
    pub fn from_sums(sums: &[i64], plan: &EvaluationPlan) -> Result<Self, CodecError> {
        check_length(Self::values(plan), sums.len())?;
        let counts = |values: &[i64]| -> Result<Vec<u64>, CodecError> {
            let count = |&value: &i64| {
                u64::try_from(value).map_err(|_| CodecError::ImpossibleSum {
                    detail: format!("{value} patients in a bin"),
                })
            };
            values.iter().map(count).collect()
        };
        let (negative, positive) = sums.split_at(plan.bins as usize);
        Ok(Self {
            negative: counts(negative)?,
            positive: counts(positive)?,
        })
    }

    /// The pooled ROC curve; `None` if a class is absent.
    pub fn roc(&self) -> Option<Roc> {
        roc_from_histograms(&self.negative, &self.positive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_core::study::Target;

    const PLAN: EvaluationPlan = EvaluationPlan { bins: 4 };

    fn schema() -> DataSchema {
        DataSchema {
            header: false,
            missing: vec![],
            max_rows: 10,
            held_out: 0.3,
            column: vec![],
            target: Target {
                negative: vec![0.0],
                positive: vec![1.0],
            },
            samples: None,
            range: None,
        }
    }

    #[test]
    fn by_hand() {
        let p = [0.0, 0.2499, 0.25, 1.0, 0.9];
        let labels = [false, true, false, true, true];
        let values = contribution(&p, &labels, &PLAN, &schema()).unwrap();
        assert_eq!(values, [1, 1, 0, 0, 1, 0, 0, 2]);
        let doubled: Vec<i64> = values.iter().map(|v| 2 * v).collect();
        let histograms = Histograms::from_sums(&doubled, &PLAN).unwrap();
        assert_eq!(histograms.negative, [2, 2, 0, 0]);
        assert_eq!(histograms.positive, [2, 0, 0, 4]);
        assert_eq!(
            histograms.roc().unwrap().auc,
            (2.0 * 2.0 / 2.0 + 4.0 * 4.0) / 24.0
        );
    }

    #[test]
    fn impossible_input_is_refused() {
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(
                matches!(
                    contribution(&[p], &[true], &PLAN, &schema()),
                    Err(CodecError::Range { index: 0, .. })
                ),
                "{p}"
            );
        }
        assert!(contribution(&[0.5; 11], &[true; 11], &PLAN, &schema()).is_err());
        assert!(contribution(&[0.5; 2], &[true], &PLAN, &schema()).is_err());
        assert!(Histograms::from_sums(&[0; 7], &PLAN).is_err());
        assert!(Histograms::from_sums(&[0, 0, -1, 0, 0, 0, 0, 0], &PLAN).is_err());
    }
}
