//! From a batch to logits.

use super::activation::{Activation, HERMITE, fixed, normalise, polynomial, raised, times};
use super::{Gather, Network, NetworkError, Op, Pooling, Step, images, read};
use crate::loss::scalar;
use crate::recipes::{Penalty, Reach};
use burn::tensor::Tensor;
use burn::tensor::activation::{relu, sigmoid, tanh};
use galen_models::random::Stream;
use galen_models::{ModelError, Range};

/// How a batch goes through a network.
pub(crate) struct Pass<'a> {
    /// Whether normalisations use the statistics of the batch and dropout acts.
    pub training: bool,
    /// Per activation, the share of the polynomial; the rest is ReLU. What is missing counts as 1. Activations that are not
    /// polynomials, and residual blocks, do not change.
    pub blend: &'a [f64],
    /// Whether mean pooling takes the maximum, as in the teacher of a network for encryption.
    pub maximum: bool,
    /// Whether to measure inputs of activations for a penalty.
    pub penalty: Option<Penalty>,
    /// Whether to record the ranges of the activations' inputs.
    pub ranges: bool,
    /// What dropout draws from.
    pub stream: Option<&'a mut Stream>,
}

impl Pass<'_> {
    /// The network as it is used after training.
    pub(crate) fn evaluation() -> Self {
        Self {
            training: false,
            blend: &[],
            maximum: false,
            penalty: None,
            ranges: false,
            stream: None,
        }
    }

    fn share(&self, index: usize) -> f64 {
        self.blend.get(index).copied().unwrap_or(1.0)
    }
}

/// What a pass gives.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// One row per output, one column per patient.
    pub outputs: Tensor<2>,
    /// The weighted penalty, if it was asked for and the network has activations.
    pub penalty: Option<Tensor<1>>,
    /// Means and variances of the batch, with the index of the parameter block that each belongs to.
    pub statistics: Vec<(usize, Tensor<2>)>,
    /// Per activation, the range of its inputs, if that was asked for.
    pub ranges: Vec<Range>,
}

impl Network {
    /// Sends a batch through the network. `leaves` are the parameter blocks on the device with automatic differentiation.
    pub(crate) fn forward(
        &self,
        batch: Tensor<2>,
        leaves: &[Tensor<2>],
        pass: Pass<'_>,
    ) -> Result<Outcome, NetworkError> {
        let mut run = Run {
            network: self,
            leaves,
            pass,
            penalty: None,
            statistics: Vec::new(),
            ranges: Vec::new(),
        };
        let outputs = run.sequence(&self.steps, batch);
        let range = |[least, largest]: [Tensor<1>; 2]| -> Result<Range, NetworkError> {
            Ok(Range::new(scalar(least)?, scalar(largest)?))
        };
        Ok(Outcome {
            outputs,
            penalty: run.penalty,
            statistics: run.statistics,
            ranges: run.ranges.into_iter().map(range).collect::<Result<_, _>>()?,
        })
    }

    /// The parameter blocks as leaves of a computation without gradients.
    pub(crate) fn constants(&self) -> Vec<Tensor<2>> {
        self.params.iter().map(|p| p.clone().autodiff()).collect()
    }

    /// Outputs for patients whose inputs follow each other in `rows`; and the ranges of the activations' inputs, in the order of
    /// [`Network::activations`].
    pub fn evaluate(&self, rows: &[f32]) -> Result<(Vec<f32>, Vec<Range>), NetworkError> {
        let inputs = self.spec.inputs();
        let rest = rows.len() % inputs.max(1);
        if rest != 0 {
            return Err(NetworkError::Model(ModelError::RowWidth {
                row: rows.len() / inputs,
                expected: inputs,
                found: rest,
            }));
        }
        if rows.is_empty() {
            return Ok((Vec::new(), vec![Range::EMPTY; self.activations.len()]));
        }
        let pass = Pass {
            ranges: true,
            ..Pass::evaluation()
        };
        let batch = self.batch(rows, inputs);
        let outcome = self.forward(batch, &self.constants(), pass)?;
        Ok((read(outcome.outputs.transpose())?, outcome.ranges))
    }
}

struct Run<'a, 'b> {
    network: &'a Network,
    leaves: &'a [Tensor<2>],
    pass: Pass<'b>,
    penalty: Option<Tensor<1>>,
    statistics: Vec<(usize, Tensor<2>)>,
    /// The least and the largest value that entered each activation.
    ranges: Vec<[Tensor<1>; 2]>,
}

impl Run<'_, '_> {
    fn sequence(&mut self, steps: &[Step], x: Tensor<2>) -> Tensor<2> {
        steps.iter().fold(x, |x, step| self.step(step, x))
    }

    fn step(&mut self, step: &Step, x: Tensor<2>) -> Tensor<2> {
        let leaf = |i: usize| self.leaves[step.first + i].clone();
        match &step.op {
            Op::Dense => leaf(0).matmul(x) + leaf(1),
            Op::Residual { scale, power } => {
                let linear = leaf(0).matmul(x.clone()) + leaf(1);
                let u = leaf(2).matmul(x) + leaf(3);
                self.observe(&u);
                linear + times(raised(u, *power), *scale)
            }
            Op::Convolution {
                gather,
                outputs,
                groups,
            } => self.convolution(step, gather, *outputs, *groups, x),
            Op::Pool { gather, kind } => self.pool(step, gather, *kind, x),
            Op::BatchNorm { epsilon } => {
                if self.pass.training {
                    self.normalise(step, x, [0, 1, 2, 3], *epsilon)
                } else {
                    let scale = leaf(0) / (leaf(3) + *epsilon).sqrt();
                    let shift = leaf(1) - scale.clone() * leaf(2);
                    per_channel(x, step.channels, |x| x * scale + shift)
                }
            }
            Op::Flatten => x,
            Op::Add { body, shortcut } => {
                let long = self.sequence(body, x.clone());
                long + self.sequence(shortcut, x)
            }
            Op::Dropout { rate } => self.dropout(*rate, x),
            Op::Activation { kind, index } => self.activation(step, kind, *index, x),
        }
    }

    fn convolution(
        &self,
        step: &Step,
        gather: &Gather,
        outputs: usize,
        groups: usize,
        x: Tensor<2>,
    ) -> Tensor<2> {
        let weight = self.leaves[step.first].clone();
        let bias = self.leaves[step.first + 1].clone();
        if self.network.device.by_images {
            return images::convolution(&gather.window, groups, x, weight, bias);
        }
        let patients = x.dims()[1];
        let depth = step.channels / groups * gather.size;
        let columns = gather.places * patients;
        let windows = self.windows(gather, x);
        let sums: Tensor<2> = if groups == 1 {
            weight.matmul(windows.reshape([depth, columns]))
        } else {
            let weight: Tensor<3> = weight.reshape([groups, outputs / groups, depth]);
            let windows: Tensor<3> = windows.reshape([groups, depth, columns]);
            weight.matmul(windows).reshape([outputs, columns])
        };
        (sums + bias).reshape([outputs * gather.places, patients])
    }

    fn pool(&self, step: &Step, gather: &Gather, kind: Pooling, x: Tensor<2>) -> Tensor<2> {
        let maximum = kind == Pooling::Maximum || (self.pass.maximum && kind == Pooling::Mean);
        // Where a maximum sees the margin, the margin counts as 0; images have nothing there.
        if self.network.device.by_images && !(maximum && gather.margin) {
            let kind = if maximum { Pooling::Maximum } else { kind };
            return images::pool(&gather.window, kind, x);
        }
        let patients = x.dims()[1];
        let windows: Tensor<3> =
            self.windows(gather, x)
                .reshape([step.channels, gather.size, gather.places * patients]);
        let pooled = if maximum {
            windows.max_dim(1)
        } else {
            windows.sum_dim(1)
        };
        let pooled: Tensor<2> = pooled.reshape([step.channels * gather.places, patients]);
        match kind {
            Pooling::Mean if !maximum => pooled / gather.size as f64,
            _ => pooled,
        }
    }

    /// The rows of all windows.
    fn windows(&self, gather: &Gather, x: Tensor<2>) -> Tensor<2> {
        let x = if gather.margin {
            let patients = x.dims()[1];
            let zeros = self.network.matrix(vec![0.0; patients], [1, patients]);
            Tensor::cat(vec![x, zeros], 0)
        } else {
            x
        };
        x.select(0, gather.rows.clone())
    }

    /// Batch normalisation by the statistics of the batch, which it records; `places` are those of scale, shift, mean and variance
    /// among the step's parameter blocks.
    fn normalise(&mut self, step: &Step, x: Tensor<2>, places: [usize; 4], epsilon: f64) -> Tensor<2> {
        let [scale, shift, mean, variance] = places.map(|place| step.first + place);
        let leaf = |i: usize| self.leaves[i].clone();
        let (y, m, v) = normalise(x, step.channels, leaf(scale), leaf(shift), epsilon);
        self.statistics.push((mean, m.inner()));
        self.statistics.push((variance, v.inner()));
        y
    }

    fn dropout(&mut self, rate: f64, x: Tensor<2>) -> Tensor<2> {
        let Some(stream) = self.pass.stream.as_deref_mut().filter(|_| self.pass.training) else {
            return x;
        };
        let shape = x.dims();
        let kept = (1.0 / (1.0 - rate)) as f32;
        let mask = (0..shape[0] * shape[1]).map(|_| if stream.unit() < rate { 0.0 } else { kept });
        x * self.network.matrix(mask.collect(), shape)
    }

    fn activation(&mut self, step: &Step, kind: &Activation, index: usize, x: Tensor<2>) -> Tensor<2> {
        self.observe(&x);
        let share = self.pass.share(index);
        let y = match kind {
            Activation::Relu => return relu(x),
            Activation::Sigmoid => return sigmoid(x),
            Activation::Tanh => return tanh(x),
            _ if share <= 0.0 => return relu(x),
            Activation::Power { scale, power } => times(raised(x.clone(), *power), *scale),
            Activation::Polynomial => polynomial(x.clone(), &self.leaves[step.first]),
            Activation::Fixed { coefficients } => fixed(x.clone(), coefficients),
            Activation::Hermite { epsilon } => self.hermite(step, x.clone(), *epsilon),
        };
        if share < 1.0 {
            y * share + relu(x) * (1.0 - share)
        } else {
            y
        }
    }

    fn hermite(&mut self, step: &Step, x: Tensor<2>, epsilon: f64) -> Tensor<2> {
        // The normalised Hermite polynomials of degree 1 and 2.
        let first = x.clone();
        let second = (x.square() - 1.0) * std::f64::consts::FRAC_1_SQRT_2;
        let mut normal = |term: Tensor<2>, at: usize| {
            let (mean, variance) = (step.first + at, step.first + at + 1);
            if self.pass.training {
                let ones = self.network.matrix(vec![1.0; step.channels], [step.channels, 1]);
                let zeros = self.network.matrix(vec![0.0; step.channels], [step.channels, 1]);
                let (y, m, v) = normalise(term, step.channels, ones, zeros, epsilon);
                self.statistics.push((mean, m.inner()));
                self.statistics.push((variance, v.inner()));
                y
            } else {
                let mean = self.leaves[mean].clone();
                let deviation = (self.leaves[variance].clone() + epsilon).sqrt();
                per_channel(term, step.channels, |x| (x - mean) / deviation)
            }
        };
        let y = normal(first, 2) * HERMITE[1] + normal(second, 4) * HERMITE[2] + HERMITE[0];
        let (scale, shift) = (
            self.leaves[step.first].clone(),
            self.leaves[step.first + 1].clone(),
        );
        per_channel(y, step.channels, |y| y * scale + shift)
    }

    /// Measures what enters an activation.
    fn observe(&mut self, u: &Tensor<2>) {
        if let Some(penalty) = self.pass.penalty {
            let over = match penalty.reach {
                Reach::Mean => relu(u.clone().abs() - penalty.bound).mean(),
                Reach::Largest => {
                    relu(u.clone().max() - penalty.bound) + relu(u.clone().min().neg() - penalty.bound)
                }
            };
            let over = over * penalty.weight;
            self.penalty = Some(match self.penalty.take() {
                Some(sum) => sum + over,
                None => over,
            });
        }
        if self.pass.ranges {
            self.ranges.push([u.clone().min(), u.clone().max()]);
        }
    }
}

/// `f` of the values with one row per channel, back in their own shape.
fn per_channel(x: Tensor<2>, channels: usize, f: impl FnOnce(Tensor<2>) -> Tensor<2>) -> Tensor<2> {
    let [values, patients] = x.dims();
    f(x.reshape([channels, values * patients / channels])).reshape([values, patients])
}
