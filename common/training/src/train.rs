//! Local training with burn: stochastic gradient descent with momentum on one hospital's rows.

use crate::device::Device;
use burn::tensor::activation::{log_sigmoid, relu};
use burn::tensor::{Tensor, TensorData};
use galen_core::study::TrainingPlan;
use galen_models::course::Sharing;
use galen_models::random::Stream;
use galen_models::{CourseError, Layer, Model, ModelError, ModelSpec, Parameter, ParameterKind};

/// What fixes the order in which patients are seen, beside the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order<'a> {
    /// The study's public seed.
    pub seed: u64,
    /// Whose rows they are.
    pub party: &'a str,
    /// Round, from 0; it also decides the step size.
    pub round: u32,
}

/// How far a training run is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Passes over the rows that are done.
    pub epoch: u32,
    /// Passes in all.
    pub epochs: u32,
    /// Mean loss over the last pass: cross-entropy in nats plus penalty.
    pub loss: f64,
}

/// A training run that cannot start or did not succeed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// No rows, or another number of labels.
    #[error("{rows} rows and {labels} labels: as many of both are needed, and at least one")]
    Rows {
        /// Rows given.
        rows: usize,
        /// Labels given.
        labels: usize,
    },
    /// A row that the network cannot take.
    #[error("row {row} has {found} values, the network takes {expected}")]
    RowWidth {
        /// Index of the row.
        row: usize,
        /// The network's inputs.
        expected: usize,
        /// The row's values.
        found: usize,
    },
    /// The trainer does not know this network.
    #[error("the trainer cannot train a network with {what}")]
    Unsupported {
        /// What is not supported.
        what: &'static str,
    },
    /// What the plan keeps private names no parameters of the network.
    #[error(transparent)]
    Private(#[from] CourseError),
    /// Parameters became infinite: the step size is too large for these data.
    #[error("training diverged: {0}; lower training.learning_rate or raise training.latent_penalty")]
    Diverged(#[source] ModelError),
    /// The device gave no result.
    #[error("the device failed: {detail}")]
    Device {
        /// What it said.
        detail: String,
    },
}

/// Trains `base` for one round on a hospital's rows of model inputs and their labels.
///
/// Minimises the cross-entropy of the logit, plus `latent_penalty` times the mean overshoot max(0, |u| - `latent_bound`) of what
/// enters each power (after the range-aware loss of Baruch et al., arXiv 2304.14836), by gradient descent with momentum
/// in batches of nearly equal size; weights, not biases, decay. With `plan.proximal` the shared parameters are held to those of `base`
/// (FedProx, Li et al., arXiv 1812.06127). Computes in `f32`.
///
/// On the CPU the result depends on nothing but the arguments, to the bit.
pub fn train<R: AsRef<[f64]>>(
    device: &Device,
    base: &Model,
    rows: &[R],
    labels: &[bool],
    plan: &TrainingPlan,
    order: Order<'_>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Model, TrainError> {
    check(base.spec(), rows, labels)?;
    let blocks = base.spec().parameters();
    let sharing = Sharing::new(base.spec(), &plan.private)?;
    let mut descent = Descent::new(device, base, &blocks, plan, order.round);
    descent.hold(sharing.shared());
    let batch_size = (plan.batch_size.max(1) as usize).min(rows.len());
    let batches = rows.len().div_ceil(batch_size);
    let mut patients: Vec<usize> = (0..rows.len()).collect();
    let round = order.round.to_le_bytes();
    let mut stream = Stream::new("galen batches v1", order.seed, &[order.party.as_bytes(), &round]);
    for epoch in 1..=plan.local_epochs {
        stream.shuffle(&mut patients);
        let mut loss = 0.0;
        for batch in 0..batches {
            // Nearly equal parts, so that no batch is left with a patient or two and a wild gradient.
            let part = batch * rows.len() / batches..(batch + 1) * rows.len() / batches;
            let part = &patients[part];
            loss += descent.step(base.spec(), rows, labels, part)? * part.len() as f64;
        }
        progress(Progress {
            epoch,
            epochs: plan.local_epochs,
            loss: loss / rows.len() as f64,
        });
    }
    let params = descent.into_params()?;
    Model::new(base.spec().clone(), params).map_err(TrainError::Diverged)
}

fn check<R: AsRef<[f64]>>(spec: &ModelSpec, rows: &[R], labels: &[bool]) -> Result<(), TrainError> {
    if rows.is_empty() || rows.len() != labels.len() {
        return Err(TrainError::Rows {
            rows: rows.len(),
            labels: labels.len(),
        });
    }
    let wrong = rows.iter().position(|r| r.as_ref().len() != spec.inputs());
    if let Some(row) = wrong {
        return Err(TrainError::RowWidth {
            row,
            expected: spec.inputs(),
            found: rows[row].as_ref().len(),
        });
    }
    if spec.outputs() != 1 {
        return Err(TrainError::Unsupported {
            what: "more than one output",
        });
    }
    let known = |layer: &Layer| matches!(layer, Layer::Dense { .. } | Layer::Residual { power: 2, .. });
    if spec.layers.iter().all(known) {
        Ok(())
    } else {
        Err(TrainError::Unsupported {
            what: "a layer other than dense and residual of power 2",
        })
    }
}

/// Gradient descent under way: parameters and their velocities on the device.
struct Descent<'a> {
    plan: &'a TrainingPlan,
    rate: f64,
    /// With automatic differentiation.
    device: burn::tensor::Device,
    params: Vec<Tensor<2>>,
    velocities: Vec<Tensor<2>>,
    decays: Vec<f64>,
    /// Per parameter block, where it is held; nothing for those that are free.
    anchors: Vec<Option<Tensor<2>>>,
}

impl<'a> Descent<'a> {
    fn new(device: &Device, base: &Model, blocks: &[Parameter], plan: &'a TrainingPlan, round: u32) -> Self {
        let load = |block: &Parameter| {
            let values: Vec<f32> = block.of(base.params()).iter().map(|&p| p as f32).collect();
            // Biases lie as rows, so that they add to every row of a batch.
            let (inputs, outputs) = block.fans();
            let shape = if is_bias(block) {
                [1, outputs]
            } else {
                [outputs, inputs]
            };
            Tensor::<2>::from_data(TensorData::new(values, shape), &device.inner)
        };
        let params: Vec<Tensor<2>> = blocks.iter().map(load).collect();
        Self {
            plan,
            rate: plan.learning_rate * plan.learning_rate_decay.powi(round as i32),
            device: device.inner.clone().autodiff(),
            velocities: params.iter().map(Tensor::zeros_like).collect(),
            decays: blocks
                .iter()
                .map(|b| if is_bias(b) { 0.0 } else { plan.weight_decay })
                .collect(),
            anchors: vec![None; params.len()],
            params,
        }
    }

    /// Holds shared parameters to where they are.
    fn hold(&mut self, shared: &[bool]) {
        if self.plan.proximal > 0.0 {
            let held = self.params.iter().zip(shared);
            self.anchors = held
                .map(|(param, shared)| shared.then(|| param.clone()))
                .collect();
        }
    }

    /// One step on the patients with the given indices; returns their mean loss.
    fn step<R: AsRef<[f64]>>(
        &mut self,
        spec: &ModelSpec,
        rows: &[R],
        labels: &[bool],
        part: &[usize],
    ) -> Result<f64, TrainError> {
        let inputs: Vec<f32> = part
            .iter()
            .flat_map(|&i| rows[i].as_ref())
            .map(|&x| x as f32)
            .collect();
        let signs: Vec<f32> = part.iter().map(|&i| if labels[i] { 1.0 } else { -1.0 }).collect();
        let x = Tensor::<2>::from_data(TensorData::new(inputs, [part.len(), spec.inputs()]), &self.device);
        let signs = Tensor::<2>::from_data(TensorData::new(signs, [part.len(), 1]), &self.device);
        let leaves: Vec<Tensor<2>> = self
            .params
            .iter()
            .map(|p| p.clone().autodiff().require_grad())
            .collect();
        let (logits, overshoot) = self.forward(spec, x, &leaves);
        // -ln sigmoid(+-z) is the cross-entropy, stable for large logits of either sign.
        let mut loss = log_sigmoid(logits * signs).mean().neg();
        if let Some(overshoot) = overshoot {
            loss = loss + overshoot * self.plan.latent_penalty;
        }
        let mut gradients = loss.backward();
        for (i, leaf) in leaves.iter().enumerate() {
            let missing = || TrainError::Device {
                detail: "no gradient for a parameter".into(),
            };
            let gradient = leaf.grad_remove(&mut gradients).ok_or_else(missing)?;
            let param = self.params[i].clone();
            let mut gradient = gradient + param.clone() * self.decays[i];
            if let Some(anchor) = &self.anchors[i] {
                // The gradient of mu / 2 * ||w - anchor||^2.
                gradient = gradient + (param.clone() - anchor.clone()) * self.plan.proximal;
            }
            let velocity = self.velocities[i].clone() * self.plan.momentum + gradient;
            self.params[i] = param - velocity.clone() * self.rate;
            self.velocities[i] = velocity;
        }
        Ok(read(loss)?.first().copied().map_or(f64::NAN, f64::from))
    }

    /// Logits, and the mean overshoot of the activations' inputs if it is penalised.
    fn forward(
        &self,
        spec: &ModelSpec,
        mut x: Tensor<2>,
        leaves: &[Tensor<2>],
    ) -> (Tensor<2>, Option<Tensor<1>>) {
        let mut leaves = leaves.chunks_exact(2);
        let mut overshoot: Option<Tensor<1>> = None;
        for layer in &spec.layers {
            let mut affine = |x: &Tensor<2>| match leaves.next() {
                Some([weight, bias]) => x.clone().matmul(weight.clone().transpose()) + bias.clone(),
                _ => x.clone(),
            };
            let linear = affine(&x);
            x = match layer {
                Layer::Residual { scale, .. } => {
                    let u = affine(&x);
                    if self.plan.latent_penalty > 0.0 {
                        let over = relu(u.clone().abs() - self.plan.latent_bound).mean();
                        overshoot = Some(match overshoot {
                            Some(sum) => sum + over,
                            None => over,
                        });
                    }
                    linear + u.square() * *scale
                }
                _ => linear,
            };
        }
        (x, overshoot)
    }

    fn into_params(self) -> Result<Vec<f64>, TrainError> {
        let mut all = Vec::new();
        for param in self.params {
            all.extend(read(param)?.into_iter().map(f64::from));
        }
        Ok(all)
    }
}

fn is_bias(block: &Parameter) -> bool {
    block.kind == ParameterKind::Bias
}

/// The values of a tensor, row by row.
fn read<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, TrainError> {
    let failed = |detail: String| TrainError::Device { detail };
    let data = tensor.try_into_data().map_err(|e| failed(format!("{e:?}")))?;
    data.try_to_vec().map_err(|e| failed(format!("{e:?}")))
}
