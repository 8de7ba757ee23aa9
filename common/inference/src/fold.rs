//! From a model to the fewest operations that compute its logit.
//!
//! Everything linear is folded, exactly in real arithmetic:
//! - the scale s of an activation goes into the weights before it, `s (B x + b)^2 = (sqrt(s) B x + sqrt(s) b)^2`, so that a bare square
//!   is left (one instance of completing the square);
//! - a block's linear bias goes through the next layer into that one's biases;
//! - consecutive dense layers become one;
//! - the dense layer after the last block goes into that block: with output weights w,
//!   `w (A x + s u^2) = (w A) x + sum of sign(w_i) (sqrt(s |w_i|) u_i)^2`. It costs no level, and all squares of the last block
//!   are added up before anything is relinearised.

use galen_models::{Layer, Model};

/// A matrix with a constant per row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Affine {
    /// One row of weights per output.
    pub(crate) rows: Vec<Vec<f64>>,
    /// One constant per output.
    pub(crate) constants: Vec<f64>,
}

/// `y_i = linear_i x + (inner_i)^2`, element-wise; constants of `linear` were moved on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Block {
    /// What is squared.
    pub(crate) inner: Affine,
    /// What is added to the squares.
    pub(crate) linear: Vec<Vec<f64>>,
}

/// The last stage: `constant + linear x + sum of sign_i (inner_i)^2`, one number.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Output {
    /// What is squared; may be empty.
    pub(crate) inner: Affine,
    /// Whether each square is subtracted.
    pub(crate) negative: Vec<bool>,
    /// Weights of the linear part.
    pub(crate) linear: Vec<f64>,
    /// The constant.
    pub(crate) constant: f64,
}

/// A folded model with one output.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Folded {
    /// Number of inputs.
    pub(crate) inputs: usize,
    /// All residual blocks but the last.
    pub(crate) blocks: Vec<Block>,
    /// The last block and what follows it.
    pub(crate) output: Output,
}

impl Affine {
    fn identity(size: usize) -> Self {
        let row = |i| (0..size).map(|j| f64::from(u8::from(i == j))).collect();
        Self {
            rows: (0..size).map(row).collect(),
            constants: vec![0.0; size],
        }
    }

    /// This map after `before`.
    fn after(&self, before: &Self) -> Self {
        let row = |weights: &Vec<f64>| combine(weights, &before.rows);
        let constant = |(weights, constant): (&Vec<f64>, &f64)| constant + dot(weights, &before.constants);
        Self {
            rows: self.rows.iter().map(row).collect(),
            constants: self.rows.iter().zip(&self.constants).map(constant).collect(),
        }
    }

    fn scaled(mut self, factor: f64) -> Self {
        self.rows.iter_mut().flatten().for_each(|w| *w *= factor);
        self.constants.iter_mut().for_each(|c| *c *= factor);
        self
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The sum of rows with weights.
fn combine(weights: &[f64], rows: &[Vec<f64>]) -> Vec<f64> {
    let width = rows.first().map_or(0, Vec::len);
    let mut sum = vec![0.0; width];
    for (weight, row) in weights.iter().zip(rows) {
        sum.iter_mut().zip(row).for_each(|(s, r)| *s += weight * r);
    }
    sum
}

/// Folds a model. `None` if it has another number of outputs than one, or a layer that this compiler does not know.
pub(crate) fn fold(model: &Model) -> Option<Folded> {
    let spec = model.spec();
    if spec.outputs() != 1 {
        return None;
    }
    let parameters = spec.parameters();
    let mut parameters = parameters.iter();
    let mut affine = |inputs: usize| -> Option<Affine> {
        let weight = parameters.next()?.of(model.params());
        let bias = parameters.next()?.of(model.params());
        Some(Affine {
            rows: weight.chunks_exact(inputs).map(<[f64]>::to_vec).collect(),
            constants: bias.to_vec(),
        })
    };
    let mut blocks: Vec<Block> = Vec::new();
    // The affine map between the last block's `linear x + inner^2` and what enters the next layer.
    let mut pending = Affine::identity(spec.inputs());
    let mut inputs = spec.inputs();
    for site in spec.resolve().ok()? {
        match site.layer {
            Layer::Dense { .. } => pending = affine(inputs)?.after(&pending),
            Layer::Residual { scale, power: 2, .. } => {
                let linear = affine(inputs)?.after(&pending);
                let inner = affine(inputs)?.after(&pending).scaled(scale.sqrt());
                pending = Affine::identity(site.output.len());
                pending.constants = linear.constants;
                blocks.push(Block {
                    inner,
                    linear: linear.rows,
                });
            }
            _ => return None,
        }
        inputs = site.output.len();
    }
    let weights = pending.rows.first()?;
    let constant = *pending.constants.first()?;
    let output = match blocks.pop() {
        Some(last) => last_stage(&last, weights, constant),
        None => Output {
            inner: Affine {
                rows: vec![],
                constants: vec![],
            },
            negative: vec![],
            linear: weights.clone(),
            constant,
        },
    };
    Some(Folded {
        inputs: spec.inputs(),
        blocks,
        output,
    })
}

/// The last block with the dense layer that follows it.
fn last_stage(block: &Block, weights: &[f64], constant: f64) -> Output {
    let mut output = Output {
        inner: Affine {
            rows: vec![],
            constants: vec![],
        },
        negative: vec![],
        linear: combine(weights, &block.linear),
        constant,
    };
    let units = block.inner.rows.iter().zip(&block.inner.constants);
    for (&weight, (row, inner_constant)) in weights.iter().zip(units) {
        // A unit that the output does not read is not computed.
        if weight != 0.0 {
            let factor = weight.abs().sqrt();
            output.inner.rows.push(row.iter().map(|w| w * factor).collect());
            output.inner.constants.push(inner_constant * factor);
            output.negative.push(weight < 0.0);
        }
    }
    output
}

impl Output {
    /// The stage whose result is smaller by 2^shift.
    pub(crate) fn shifted(&self, shift: u32) -> Self {
        let factor = (-f64::from(shift)).exp2();
        Self {
            inner: self.inner.clone().scaled(factor.sqrt()),
            negative: self.negative.clone(),
            linear: self.linear.iter().map(|w| w * factor).collect(),
            constant: self.constant * factor,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::random::Stream;
    use galen_models::{ModelSpec, Shape};

    /// The folded model in plain numbers.
    fn evaluate(folded: &Folded, row: &[f64]) -> f64 {
        let inner = |affine: &Affine, x: &[f64]| -> Vec<f64> {
            let rows = affine.rows.iter().zip(&affine.constants);
            rows.map(|(row, c)| dot(row, x) + c).collect()
        };
        let mut x = row.to_vec();
        for block in &folded.blocks {
            let u = inner(&block.inner, &x);
            let y = block.linear.iter().zip(u).map(|(row, u)| dot(row, &x) + u * u);
            x = y.collect();
        }
        let output = &folded.output;
        let squares = inner(&output.inner, &x).into_iter().zip(&output.negative);
        let squares: f64 = squares
            .map(|(u, &negative)| if negative { -u * u } else { u * u })
            .sum();
        output.constant + dot(&output.linear, &x) + squares
    }

    fn random(spec: ModelSpec, seed: u64) -> Model {
        let mut stream = Stream::new("fold test", seed, &[]);
        let params = (0..spec.parameter_count()).map(|_| stream.symmetric()).collect();
        Model::new(spec, params).unwrap()
    }

    #[test]
    fn folding_changes_nothing() {
        let residual = |outputs, scale| Layer::Residual {
            outputs,
            scale,
            power: 2,
        };
        let dense = |outputs| Layer::Dense { outputs };
        let networks = [
            vec![residual(4, 0.1), dense(1)],
            vec![residual(4, 0.3), residual(3, 0.7), dense(1)],
            vec![
                dense(5),
                dense(4),
                residual(4, 0.3),
                dense(3),
                residual(3, 0.7),
                dense(2),
                dense(1),
            ],
            vec![residual(1, 0.3)],
            vec![residual(3, 0.3), residual(1, 2.0)],
            vec![dense(3), dense(1)],
            vec![dense(1)],
        ];
        for (i, layers) in networks.into_iter().enumerate() {
            let model = random(
                ModelSpec {
                    input: Shape::Features(3),
                    layers,
                },
                i as u64,
            );
            let folded = fold(&model).unwrap();
            let row = [0.3, -1.2, 0.7];
            let expected = model.logits(&[row]).unwrap()[0];
            assert!((evaluate(&folded, &row) - expected).abs() < 1e-12, "network {i}");
            let shifted = Folded {
                output: folded.output.shifted(3),
                ..folded
            };
            assert!(
                (evaluate(&shifted, &row) * 8.0 - expected).abs() < 1e-12,
                "network {i}"
            );
        }
    }

    #[test]
    fn units_that_nothing_reads_are_left_out() {
        let spec = ModelSpec::residual_mlp(1, &[2], 1.0, 2).unwrap();
        // A, a, B, b of two units, then output weights 0 and -4.
        let params = vec![1.0, 1.0, 0.0, 0.0, 3.0, 3.0, 0.5, 0.5, 0.0, -4.0, 0.25];
        let folded = fold(&Model::new(spec, params).unwrap()).unwrap();
        assert_eq!(folded.output.inner.rows, [[6.0]]);
        assert_eq!(folded.output.inner.constants, [1.0]);
        assert_eq!(folded.output.negative, [true]);
        assert_eq!(folded.output.linear, [-4.0]);
    }

    #[test]
    fn several_outputs_are_not_folded() {
        let spec = ModelSpec {
            input: Shape::Features(2),
            layers: vec![Layer::Dense { outputs: 2 }],
        };
        assert_eq!(fold(&random(spec, 0)), None);
    }
}
