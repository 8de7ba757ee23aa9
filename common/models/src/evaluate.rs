//! The plaintext evaluator: the reference for the trainer and for encrypted evaluation.

use crate::metrics::sigmoid;
use crate::model::{Model, ModelError};
use crate::spec::{Layer, Parameter};
use serde::{Deserialize, Serialize};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Range {
    /// An interval that contains nothing yet.
    pub const EMPTY: Self = Self {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    /// The interval from `min` to `max`.
    pub fn new(min: f64, max: f64) -> Self {
        Self { min, max }
    }

    /// Widens the interval to contain `value`.
    pub fn include(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// Whether `value` lies in the interval; NaN does not.
    pub fn contains(&self, value: f64) -> bool {
        self.min <= value && value <= self.max
    }

    /// The largest absolute value in the interval.
    pub fn magnitude(&self) -> f64 {
        self.min.abs().max(self.max.abs())
    }
}

/// Logits together with what was seen on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One logit of class 1 per row.
    pub logits: Vec<f64>,
    /// Per residual block, the range of everything that entered its power, over all rows and units.
    pub activation_ranges: Vec<Range>,
}

impl Model {
    /// Evaluates rows of standardised features and records the range of each activation's input.
    ///
    /// Errors if a row has the wrong width or the network has not exactly one output.
    pub fn evaluate<R: AsRef<[f64]>>(&self, rows: &[R]) -> Result<Evaluation, ModelError> {
        let spec = self.spec();
        if spec.outputs() != 1 {
            return Err(ModelError::Outputs {
                outputs: spec.outputs(),
            });
        }
        let blocks = spec.parameters();
        let powers = spec
            .layers
            .iter()
            .filter(|layer| matches!(layer, Layer::Residual { .. }))
            .count();
        let mut activation_ranges = vec![Range::EMPTY; powers];
        let mut logits = Vec::with_capacity(rows.len());
        for (row, values) in rows.iter().enumerate() {
            let values = values.as_ref();
            if values.len() != spec.inputs() {
                return Err(ModelError::RowWidth {
                    row,
                    expected: spec.inputs(),
                    found: values.len(),
                });
            }
            let output = self.forward(values, &blocks, &mut activation_ranges)?;
            logits.extend(output);
        }
        Ok(Evaluation {
            logits,
            activation_ranges,
        })
    }

    /// One logit of class 1 per row; errors as [`Model::evaluate`].
    pub fn logits<R: AsRef<[f64]>>(&self, rows: &[R]) -> Result<Vec<f64>, ModelError> {
        Ok(self.evaluate(rows)?.logits)
    }

    /// The predicted probability of class 1 per row; errors as [`Model::evaluate`].
    pub fn probabilities<R: AsRef<[f64]>>(&self, rows: &[R]) -> Result<Vec<f64>, ModelError> {
        Ok(self.logits(rows)?.into_iter().map(sigmoid).collect())
    }

    fn forward(
        &self,
        row: &[f64],
        blocks: &[Parameter],
        ranges: &mut [Range],
    ) -> Result<Vec<f64>, ModelError> {
        let mut x = row.to_vec();
        let mut blocks = blocks.iter();
        let mut ranges = ranges.iter_mut();
        for layer in &self.spec().layers {
            let mut affine = || {
                let weight = blocks.next().map_or(&[][..], |b| b.of(self.params()));
                let bias = blocks.next().map_or(&[][..], |b| b.of(self.params()));
                let products = weight
                    .chunks_exact(x.len())
                    .map(|w| w.iter().zip(&x).map(|(w, x)| w * x).sum::<f64>());
                products.zip(bias).map(|(sum, b)| sum + b).collect::<Vec<f64>>()
            };
            x = match layer {
                Layer::Dense { .. } => affine(),
                Layer::Residual { scale, power, .. } => {
                    let mut y = affine();
                    let u = affine();
                    if let Some(range) = ranges.next() {
                        u.iter().for_each(|&value| range.include(value));
                    }
                    for (y, u) in y.iter_mut().zip(u) {
                        // Repeated products: `powi` may differ in the last bit between platforms.
                        *y += scale * (0..*power).fold(1.0, |product, _| product * u);
                    }
                    y
                }
                other => return Err(ModelError::Unsupported { kind: other.name() }),
            };
        }
        Ok(x)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::ModelSpec;

    /// By hand: A = [[1, 2]], a = 0.5, B = [[-1, 1]], b = 0.25, scale 0.1, output 3 y - 1.
    #[test]
    fn a_block_computed_by_hand() {
        let spec = ModelSpec::residual_mlp(2, &[1], 0.1, 2).unwrap();
        let model = Model::new(spec, vec![1.0, 2.0, 0.5, -1.0, 1.0, 0.25, 3.0, -1.0]).unwrap();
        let result = model.evaluate(&[[2.0, 1.0], [0.0, 0.0]]).unwrap();
        let first = 3.0 * (4.5 + 0.1 * 0.75 * 0.75) - 1.0;
        let second = 3.0 * (0.5 + 0.1 * 0.0625) - 1.0;
        assert!((result.logits[0] - first).abs() < 1e-12);
        assert!((result.logits[1] - second).abs() < 1e-12);
        assert_eq!(result.activation_ranges, [Range::new(-0.75, 0.25)]);
        let p = model.probabilities(&[[2.0, 1.0]]).unwrap()[0];
        assert!((p - 1.0 / (1.0 + (-first).exp())).abs() < 1e-15);
    }

    #[test]
    fn rows_of_another_width_are_refused() {
        let spec = ModelSpec::residual_mlp(2, &[1], 0.1, 2).unwrap();
        let model = Model::initial(spec, 0).unwrap();
        let error = model.logits(&[vec![0.0, 0.0], vec![0.0]]).unwrap_err();
        assert!(matches!(
            error,
            ModelError::RowWidth {
                row: 1,
                expected: 2,
                found: 1
            }
        ));
    }

    #[test]
    fn logits_need_one_output() {
        let spec = ModelSpec {
            input: crate::Shape::Features(1),
            layers: vec![Layer::Dense { outputs: 2 }],
        };
        let model = Model::new(spec, vec![0.0; 4]).unwrap();
        assert!(matches!(
            model.logits(&[[1.0]]),
            Err(ModelError::Outputs { outputs: 2 })
        ));
    }
}
