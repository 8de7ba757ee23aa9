//! One pass over the training data.

use super::{Epoch, FitError, Run, State, Teacher};
use crate::loss::{distillation, loss, scalar};
use crate::network::{Network, NetworkError, Pass};
use crate::optimise::clip;
use crate::recipes::Stage;
use burn::tensor::Tensor;
use galen_data::augment::Vary;
use galen_models::random::Stream;
use galen_models::{ParameterKind, Shape};

/// Weight of a batch's statistics in the running ones.
const STATISTICS_MOMENTUM: f64 = 0.1;

/// Called with the state, the patients that are done, and the epoch's results with the last step.
type Observer<'a> = &'a mut dyn FnMut(&State, usize, Option<Epoch>);

/// What part of a stage a pass is, in epochs of the stage: inside a study in rounds, each of which may have several passes.
#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) begin: f64,
    pub(super) length: f64,
}

impl Run<'_> {
    /// Runs an epoch and judges it; whether the stage should stop.
    pub(super) fn epoch(
        &self,
        stage: &Stage,
        state: &mut State,
        observer: Observer<'_>,
    ) -> Result<bool, FitError> {
        let place = [state.stage.to_string(), state.epoch.to_string()];
        let place = place.each_ref().map(|s| s.as_bytes());
        let mut stream = Stream::new("galen fit v1", self.recipe.seed, &place);
        let whole = Span {
            begin: f64::from(state.epoch),
            length: 1.0,
        };
        let (loss, factor) = self.pass(stage, state, whole, &mut stream, &mut |state, done| {
            observer(state, done, None);
        })?;
        let shares = stage.shares(state.epoch, state.network.activations().len());
        let (validation, finished) = self.judge(stage, state, &shares, loss)?;
        let epoch = Epoch {
            stage: state.stage,
            epoch: state.epoch,
            loss,
            factor,
            shares,
            validation,
        };
        state.history.push(epoch.clone());
        observer(state, self.patients, Some(epoch));
        Ok(finished)
    }

    /// One pass over the training data, for a span of the stage; the mean loss, and the last factor on the step sizes. `observer` is
    /// called after each step but the last, with the patients that are done.
    pub(super) fn pass(
        &self,
        stage: &Stage,
        state: &mut State,
        span: Span,
        stream: &mut Stream,
        observer: &mut dyn FnMut(&State, usize),
    ) -> Result<(f64, f64), FitError> {
        let batch_size = self.recipe.batch_size.min(self.patients);
        let batches = self.patients.div_ceil(batch_size);
        let shares = stage.shares(state.epoch, state.network.activations().len());
        let mut order: Vec<usize> = (0..self.patients).collect();
        stream.shuffle(&mut order);
        let (mut sum, mut factor) = (0.0, 1.0);
        for batch in 0..batches {
            // Nearly equal parts, so that no batch is left with a patient or two and wild statistics.
            let part = batch * self.patients / batches..(batch + 1) * self.patients / batches;
            let done = span.begin + span.length * (batch as f64 + 0.5) / batches as f64;
            factor = stage
                .schedule
                .factor(done, f64::from(stage.epochs), stage.warm_up, &state.plateau);
            let end = part.end;
            let part = &order[part];
            let value = self.step(stage, state, part, &shares, factor, stream)?;
            if !value.is_finite() {
                return Err(FitError::Diverged {
                    stage: stage.name.clone(),
                    epoch: state.epoch,
                });
            }
            sum += value * part.len() as f64;
            if batch + 1 < batches {
                observer(state, end);
            }
        }
        Ok((sum / self.patients as f64, factor))
    }

    /// One step on the given patients; returns the loss.
    fn step(
        &self,
        stage: &Stage,
        state: &mut State,
        part: &[usize],
        shares: &[f64],
        factor: f64,
        stream: &mut Stream,
    ) -> Result<f64, FitError> {
        let network = &state.network;
        let (inputs, outputs) = (network.spec().inputs(), network.spec().outputs());
        let mut rows = Vec::with_capacity(part.len() * inputs);
        for &patient in part {
            let original = &self.training.inputs[patient * inputs..(patient + 1) * inputs];
            let begin = rows.len();
            rows.extend_from_slice(original);
            if let (Some(augmentation), Shape::Image(shape)) =
                (&self.recipe.augmentation, network.spec().input)
            {
                augmentation.vary(shape, original, &mut rows[begin..], stream);
            }
        }
        let batch = network.batch(&rows, inputs);
        let targets = self.training.target_columns(part, outputs);
        let targets = network.matrix(targets, [outputs, part.len()]);
        let leaves: Vec<Tensor<2>> = network
            .params()
            .iter()
            .zip(network.blocks())
            .map(|(param, block)| {
                let leaf = param.clone().autodiff();
                if block.kind.is_trained() {
                    leaf.require_grad()
                } else {
                    leaf
                }
            })
            .collect();
        let pass = Pass {
            training: true,
            blend: shares,
            maximum: stage.max_pooling,
            penalty: stage.penalty,
            ranges: false,
            stream: Some(stream),
        };
        let outcome = network.forward(batch.clone(), &leaves, pass)?;
        let weights = self
            .class_weights
            .as_ref()
            .map(|factors| network.matrix(self.training.weights_of(part, factors), [1, part.len()]));
        let mut total = loss(self.recipe.objective, outcome.outputs.clone(), targets, weights);
        if let Some(anchor) = &self.anchor {
            total = anchor.pull(total, &leaves);
        }
        if let Some(penalty) = outcome.penalty {
            total = total + penalty;
        }
        if let (Some(settings), Some(teacher)) = (stage.distillation, &state.teacher) {
            let taught = teacher.outputs(network, batch)?;
            total = total + distillation(self.recipe.objective, settings, outcome.outputs, taught);
        }
        let mut gradients = total.backward();
        let mut gradients: Vec<Option<Tensor<2>>> = leaves
            .iter()
            .map(|leaf| leaf.grad_remove(&mut gradients))
            .collect();
        let value = scalar(total.inner())?;
        if let Some(limit) = stage.clip {
            clip(&mut gradients, limit)?;
        }
        state.optimiser.step(&mut state.network, gradients, factor);
        for (block, batch) in outcome.statistics {
            let running = state.network.params()[block].clone();
            let running = running * (1.0 - STATISTICS_MOMENTUM) + batch * STATISTICS_MOMENTUM;
            state.network.set_param(block, running);
        }
        if let Some(least) = stage.least_leading {
            guard(&mut state.network, least);
        }
        state.steps += 1;
        if let Some(decay) = stage.averaging {
            state.average(decay);
        }
        Ok(value)
    }

    /// Replaces the running statistics by their mean over the training data.
    pub(super) fn recalibrate(
        &self,
        network: &mut Network,
        shares: &[f64],
        maximum: bool,
    ) -> Result<(), FitError> {
        let inputs = network.spec().inputs();
        let batch_size = self.recipe.batch_size.max(256).min(self.patients);
        let batches = self.patients.div_ceil(batch_size);
        for batch in 0..batches {
            let part = batch * self.patients / batches..(batch + 1) * self.patients / batches;
            let rows = &self.training.inputs[part.start * inputs..part.end * inputs];
            let pass = Pass {
                training: true,
                blend: shares,
                maximum,
                ..Pass::evaluation()
            };
            let outcome = network.forward(network.batch(rows, inputs), &network.constants(), pass)?;
            let weight = 1.0 / (batch + 1) as f64;
            for (block, statistics) in outcome.statistics {
                let running = network.params()[block].clone();
                network.set_param(block, running * (1.0 - weight) + statistics * weight);
            }
        }
        Ok(())
    }
}

impl Teacher {
    /// The teacher's outputs for a batch, as constants. It has the student's network.
    fn outputs(&self, network: &Network, batch: Tensor<2>) -> Result<Tensor<2>, NetworkError> {
        let leaves: Vec<Tensor<2>> = self.params.iter().map(|p| p.clone().autodiff()).collect();
        let pass = Pass {
            blend: &self.shares,
            maximum: self.maximum,
            ..Pass::evaluation()
        };
        Ok(network.forward(batch, &leaves, pass)?.outputs)
    }
}

impl State {
    /// Moves the average towards the present parameters. At first it follows them closely, so that it forgets where they began.
    fn average(&mut self, decay: f64) {
        let steps = self.steps as f64;
        let decay = decay.min((1.0 + steps) / (10.0 + steps));
        let params = self.network.params();
        self.average = Some(match self.average.take() {
            None => params.to_vec(),
            Some(average) => average
                .into_iter()
                .zip(params)
                .map(|(a, p)| a * decay + p.clone() * (1.0 - decay))
                .collect(),
        });
    }
}

/// Keeps the highest coefficient of every trained activation away from 0.
pub(super) fn guard(network: &mut Network, least: f64) {
    for block in 0..network.blocks().len() {
        if network.blocks()[block].kind != ParameterKind::Coefficient {
            continue;
        }
        let all = network.params()[block].clone();
        let [rows, sets] = all.dims();
        let top = all.clone().narrow(0, rows - 1, 1);
        let negative = top.clone().lower_scalar(0.0);
        let magnitude = top.abs().clamp_min(least);
        let top = magnitude.clone().mask_where(negative, magnitude.neg());
        network.set_param(block, all.slice_assign([rows - 1..rows, 0..sets], top));
    }
}
