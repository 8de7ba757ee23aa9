//! Scores on validation data, and when a stage stops.

use super::{FitError, Run, State, set};
use crate::examples::{Examples, Targets};
use crate::loss::{Objective, loss, scalar};
use crate::network::{Network, NetworkError, Pass, read};
use crate::recipes::Stage;
use serde::{Deserialize, Serialize};

/// Patients that are evaluated together.
const CHUNK: usize = 512;

/// How good a network is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss without penalties and distillation.
    pub loss: f64,
    /// Share of patients whose class is found; for regression 1 minus the mean squared error over the variance of the targets.
    pub accuracy: f64,
}

impl Run<'_> {
    /// The score after an epoch, and whether the stage should stop.
    pub(super) fn judge(
        &self,
        stage: &Stage,
        state: &mut State,
        shares: &[f64],
        training_loss: f64,
    ) -> Result<(Option<Score>, bool), FitError> {
        // The network that would be the result if the stage ended here.
        let mut network = state.network.clone();
        if let Some(average) = &state.average {
            set(&mut network, average);
        }
        let score = match self.validation {
            Some((examples, patients)) => {
                let pass = || Pass {
                    blend: shares,
                    maximum: stage.max_pooling,
                    ..Pass::evaluation()
                };
                Some(score(&network, self.recipe.objective, examples, patients, pass)?)
            }
            None => None,
        };
        let judged = score.map_or(training_loss, |s| s.loss);
        stage.schedule.judge(&mut state.plateau, judged);
        let (Some(stopping), Some(score)) = (stage.early_stopping, score) else {
            return Ok((score, false));
        };
        let last = stage.shares(stage.epochs, shares.len());
        if shares != last {
            return Ok((Some(score), false));
        }
        if state.best.as_ref().is_none_or(|(best, _)| score.loss < *best) {
            state.best = Some((score.loss, network.params().to_vec()));
            state.waited = 0;
        } else {
            state.waited += 1;
        }
        Ok((Some(score), state.waited > stopping.patience))
    }
}

/// The score of a network on examples that fit it.
pub(crate) fn score<'p>(
    network: &Network,
    objective: Objective,
    examples: &Examples,
    patients: usize,
    pass: impl Fn() -> Pass<'p>,
) -> Result<Score, NetworkError> {
    let (inputs, outputs) = (network.spec().inputs(), network.spec().outputs());
    let leaves = network.constants();
    let all: Vec<usize> = (0..patients).collect();
    let (mut sum, mut hits) = (0.0, 0usize);
    for part in all.chunks(CHUNK) {
        let rows = &examples.inputs[part[0] * inputs..(part[0] + part.len()) * inputs];
        let outcome = network.forward(network.batch(rows, inputs), &leaves, pass())?;
        let targets = examples.target_columns(part, outputs);
        let targets = network.matrix(targets, [outputs, part.len()]);
        let value = scalar(loss(objective, outcome.outputs.clone(), targets))?;
        sum += value * part.len() as f64;
        if let Targets::Classes(classes) = &examples.targets {
            let logits = read(outcome.outputs.transpose())?;
            let rows = logits.chunks_exact(outputs.max(1));
            hits += rows
                .zip(part)
                .filter(|(row, patient)| class(row) == classes[**patient])
                .count();
        }
    }
    let loss = sum / patients.max(1) as f64;
    let accuracy = match &examples.targets {
        Targets::Classes(_) => hits as f64 / patients.max(1) as f64,
        Targets::Values(values) => 1.0 - loss / variance(values, outputs),
    };
    Ok(Score { loss, accuracy })
}

/// The class that logits stand for: that of the largest, or 1 for a single positive one.
pub(crate) fn class(logits: &[f32]) -> u32 {
    if let [one] = logits {
        return u32::from(*one >= 0.0);
    }
    let largest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    largest.map_or(0, |(class, _)| class as u32)
}

/// Mean over outputs of the variance of the targets.
fn variance(values: &[f32], outputs: usize) -> f64 {
    let outputs = outputs.max(1);
    let patients = (values.len() / outputs).max(1) as f64;
    let of = |output: usize| {
        let column = || values.iter().skip(output).step_by(outputs).map(|&v| f64::from(v));
        let mean = column().sum::<f64>() / patients;
        column().map(|v| (v - mean) * (v - mean)).sum::<f64>() / patients
    };
    (0..outputs).map(of).sum::<f64>() / outputs as f64
}
