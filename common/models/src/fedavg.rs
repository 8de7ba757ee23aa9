//! Federated averaging (McMahan et al. 2017, arXiv 1602.05629) over integers that can be added under encryption.
//!
//! A hospital with n training patients contributes `n / max_rows * clip(local - base)` in fixed point, followed by n itself. Of
//! the sum everyone learns the average step, weighted by patients, and the number of patients of all hospitals together. What is done
//! with the average is the server strategy's business ([`crate::course`]).

use crate::course::Sharing;
use crate::fixed::{CodecError, FixedPoint, check_length, check_rows};
use crate::model::Model;
use galen_core::study::{DataSchema, TrainingPlan};

/// The codec of training rounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FedAvg {
    /// Largest number of rows of one hospital: weights are relative to it.
    pub max_rows: u32,
    /// Largest Euclidean norm of a step.
    pub clip: f64,
    /// The encoding of weighted steps.
    pub codec: FixedPoint,
}

impl FedAvg {
    /// The codec that a study fixes.
    pub fn new(training: &TrainingPlan, data: &DataSchema) -> Self {
        Self {
            max_rows: data.max_rows,
            clip: training.clip,
            codec: FixedPoint {
                fraction_bits: training.fraction_bits,
            },
        }
    }

    /// Number of values of a contribution: the step of every shared parameter, then the number of patients.
    pub fn values(&self, sharing: &Sharing) -> usize {
        sharing.count() + 1
    }

    /// No value of one contribution has a larger magnitude.
    pub fn max_abs(&self) -> u64 {
        // A coordinate of a step is at most its norm; one more for rounding, here and in the norm.
        let step = (self.clip * self.codec.unit()).ceil() as u64 + 1;
        step.max(u64::from(self.max_rows))
    }

    /// One hospital's values, for a local model that was trained from `base` on `rows` patients: steps of the shared parameters only.
    pub fn contribution(
        &self,
        sharing: &Sharing,
        base: &Model,
        local: &Model,
        rows: usize,
    ) -> Result<Vec<i64>, CodecError> {
        check_rows(rows, self.max_rows)?;
        if base.spec() != local.spec() || base.params().len() != sharing.parameters() {
            return Err(CodecError::OtherNetwork);
        }
        let pairs = local.params().iter().zip(base.params());
        let step: Vec<f64> = pairs.map(|(local, base)| local - base).collect();
        let mut step = sharing.shared_of(&step);
        sharing.clip(&mut step, self.clip);
        let weight = rows as f64 / f64::from(self.max_rows);
        let mut values = Vec::with_capacity(step.len() + 1);
        for (index, step) in step.iter().enumerate() {
            values.push(self.codec.encode(index, weight * step)?);
        }
        values.push(rows as i64);
        Ok(values)
    }

    /// The average step of the shared parameters, from the sum of contributions.
    ///
    /// The average of clipped steps is no longer than `clip`; a longer one means that somebody did not clip, and is
    /// shortened, so that no single round can throw the model far. Errors if the sum has another length than the network
    /// asks for, or counts no patients.
    pub fn average(&self, sharing: &Sharing, sums: &[i64]) -> Result<Vec<f64>, CodecError> {
        check_length(self.values(sharing), sums.len())?;
        let (&rows, steps) = sums.split_last().ok_or(CodecError::Length {
            expected: 1,
            found: 0,
        })?;
        if rows <= 0 {
            return Err(CodecError::ImpossibleSum {
                detail: format!("{rows} patients in all"),
            });
        }
        let weight = rows as f64 / f64::from(self.max_rows);
        let mut step: Vec<f64> = steps.iter().map(|&s| self.codec.decode(s) / weight).collect();
        sharing.clip(&mut step, self.clip);
        Ok(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Layer, ModelSpec};
    use proptest::prelude::*;

    const SCHEME: FedAvg = FedAvg {
        max_rows: 500,
        clip: 2.0,
        codec: FixedPoint { fraction_bits: 24 },
    };

    fn model(params: &[f64]) -> Model {
        let spec = ModelSpec {
            input: crate::Shape::Features(params.len() - 1),
            layers: vec![Layer::Dense { outputs: 1 }],
        };
        Model::new(spec, params.to_vec()).unwrap()
    }

    impl FedAvg {
        fn whole(&self, base: &Model, local: &Model, rows: usize) -> Result<Vec<i64>, CodecError> {
            self.contribution(&Sharing::all(base.spec()), base, local, rows)
        }

        fn next(&self, base: &Model, sums: &[i64]) -> Result<Model, CodecError> {
            let step = self.average(&Sharing::all(base.spec()), sums)?;
            let params = base.params().iter().zip(step).map(|(base, step)| base + step);
            Ok(Model::new(base.spec().clone(), params.collect()).unwrap())
        }
    }

    fn add(all: &[Vec<i64>]) -> Vec<i64> {
        (0..all[0].len())
            .map(|i| all.iter().map(|values| values[i]).sum())
            .collect()
    }

    #[test]
    fn hospitals_weigh_by_their_patients() {
        let base = model(&[1.0, 1.0]);
        let a = SCHEME.whole(&base, &model(&[2.0, 1.0]), 100).unwrap();
        let b = SCHEME.whole(&base, &model(&[1.0, 0.0]), 300).unwrap();
        assert_eq!(a, [(0.2 * SCHEME.codec.unit()).round() as i64, 0, 100]);
        let next = SCHEME.next(&base, &add(&[a, b])).unwrap();
        assert!((next.params()[0] - 1.25).abs() < 1e-6 && (next.params()[1] - 0.25).abs() < 1e-6);
    }

    #[test]
    fn long_steps_are_shortened_on_both_sides() {
        let base = model(&[0.0, 0.0]);
        let values = SCHEME.whole(&base, &model(&[30.0, 40.0]), 500).unwrap();
        let next = SCHEME.next(&base, &values).unwrap();
        assert!((next.params()[0] - 1.2).abs() < 1e-6 && (next.params()[1] - 1.6).abs() < 1e-6);
        let unit = SCHEME.codec.unit() as i64;
        let thrown = SCHEME.next(&base, &[300 * unit, 400 * unit, 500]).unwrap();
        assert!((thrown.params()[0] - 1.2).abs() < 1e-6);
    }

    #[test]
    fn impossible_input_is_refused() {
        let base = model(&[0.0, 0.0]);
        assert!(matches!(
            SCHEME.whole(&base, &base, 0),
            Err(CodecError::Rows { rows: 0, .. })
        ));
        assert!(matches!(
            SCHEME.whole(&base, &base, 501),
            Err(CodecError::Rows { .. })
        ));
        assert_eq!(
            SCHEME.whole(&base, &model(&[0.0; 3]), 5),
            Err(CodecError::OtherNetwork)
        );
        assert!(matches!(
            SCHEME.whole(&base, &model(&[1e300, 0.0]), 5),
            Err(CodecError::Range { index: 0, .. })
        ));
        assert!(matches!(
            SCHEME.next(&base, &[1, 2]),
            Err(CodecError::Length {
                expected: 3,
                found: 2
            })
        ));
        for rows in [0, -1] {
            assert!(matches!(
                SCHEME.next(&base, &[1, 2, rows]),
                Err(CodecError::ImpossibleSum { .. })
            ));
        }
    }

    proptest! {
        #[test]
        fn no_value_exceeds_the_planned_bound(
            step in proptest::collection::vec(-100.0f64..100.0, 2..20),
            rows in 1usize..=500,
            clip in 0.001f64..1000.0,
            fraction_bits in 8u32..30,
        ) {
            let scheme = FedAvg { clip, codec: FixedPoint { fraction_bits }, ..SCHEME };
            let base = model(&vec![0.0; step.len()]);
            let values = scheme.whole(&base, &model(&step), rows).unwrap();
            prop_assert!(values.iter().all(|v| v.unsigned_abs() <= scheme.max_abs()));
        }

        #[test]
        fn the_average_is_that_of_the_steps(
            steps in proptest::collection::vec((proptest::collection::vec(-0.5f64..0.5, 4), 1usize..=500), 1..8),
        ) {
            let base = model(&[0.1, -0.2, 0.3, 0.0]);
            let total: usize = steps.iter().map(|s| s.1).sum();
            let mut all = Vec::new();
            let mut expected = base.params().to_vec();
            for (step, rows) in &steps {
                let params: Vec<f64> = base.params().iter().zip(step).map(|(b, s)| b + s).collect();
                all.push(SCHEME.whole(&base, &model(&params), *rows).unwrap());
                expected.iter_mut().zip(step).for_each(|(e, s)| *e += s * *rows as f64 / total as f64);
            }
            let next = SCHEME.next(&base, &add(&all)).unwrap();
            // Every hospital rounds by half a unit of weight n / max_rows.
            let tolerance = 500.0 * steps.len() as f64 / total as f64 / SCHEME.codec.unit() + 1e-12;
            for (e, n) in expected.iter().zip(next.params()) {
                prop_assert!((e - n).abs() <= tolerance, "{} {}", e, n);
            }
        }
    }
}
