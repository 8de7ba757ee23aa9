//! Scores on validation data, and when a stage stops.

use super::{FitError, Run, State};
use crate::examples::Examples;
use crate::loss::{loss, scalar};
use crate::network::{Network, NetworkError, Pass, read};
use crate::recipes::Stage;
use serde::{Deserialize, Serialize};

/// Patients that are evaluated together.
const CHUNK: usize = 512;

/// How good a network is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss without penalties and distillation; by the recipe's class weights, if it has any.
    pub loss: f64,
    /// See [`Targets::accuracy`](crate::Targets::accuracy).
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
        let network = state.settled(stage);
        let score = match self.validation {
            Some((examples, patients)) => {
                let pass = || Pass {
                    blend: shares,
                    maximum: stage.max_pooling,
                    ..Pass::evaluation()
                };
                Some(self.score(&network, examples, patients, pass)?)
            }
            None => None,
        };
        // Early networks can overflow on patients that they were not trained on; they are the worst, not the end.
        let finite = |loss: f64| if loss.is_finite() { loss } else { f64::INFINITY };
        let judged = finite(score.map_or(training_loss, |s| s.loss));
        stage.schedule.judge(&mut state.plateau, judged);
        let (Some(stopping), Some(score)) = (stage.early_stopping, score) else {
            return Ok((score, false));
        };
        let last = stage.shares(stage.epochs, shares.len());
        if shares != last {
            return Ok((Some(score), false));
        }
        if state.best.as_ref().is_none_or(|(best, _)| judged < *best) {
            state.best = Some((judged, network.params().to_vec()));
            state.waited = 0;
        } else {
            state.waited += 1;
        }
        Ok((Some(score), state.waited > stopping.patience))
    }

    /// The score of a network on examples that fit it.
    fn score<'p>(
        &self,
        network: &Network,
        examples: &Examples,
        patients: usize,
        pass: impl Fn() -> Pass<'p>,
    ) -> Result<Score, NetworkError> {
        let (inputs, width) = (network.spec().inputs(), network.spec().outputs());
        let leaves = network.constants();
        let all: Vec<usize> = (0..patients).collect();
        let mut outputs = Vec::with_capacity(patients * width);
        let mut sum = 0.0;
        for part in all.chunks(CHUNK) {
            let rows = &examples.inputs[part[0] * inputs..(part[0] + part.len()) * inputs];
            let outcome = network.forward(network.batch(rows, inputs), &leaves, pass())?;
            let targets = examples.target_columns(part, width);
            let targets = network.matrix(targets, [width, part.len()]);
            let weights = self
                .class_weights
                .as_ref()
                .map(|factors| network.matrix(examples.weights_of(part, factors), [1, part.len()]));
            let objective = self.recipe.objective;
            let value = scalar(loss(objective, outcome.outputs.clone(), targets, weights))?;
            sum += value * part.len() as f64;
            outputs.extend(read(outcome.outputs.transpose())?.into_iter().map(f64::from));
        }
        Ok(Score {
            loss: sum / patients as f64,
            accuracy: examples.targets.accuracy(&outputs, width),
        })
    }
}
