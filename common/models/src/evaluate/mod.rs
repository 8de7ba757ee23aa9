//! The plaintext evaluator in `f64`: the reference for the trainer and for encrypted evaluation.
//!
//! Sums are taken in the order of the inputs and never fused with products, so that the same rows give the same bits whatever the
//! number of threads, the rows beside them or the vector instructions of the processor. (Only [`Layer::Sigmoid`](crate::Layer) and
//! [`Layer::Tanh`](crate::Layer) depend on the platform's mathematical library.)

mod activation;
mod lanes;
mod range;
mod run;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use activation::HERMITE;
pub(crate) use lanes::Window;
pub use range::{ActivationRange, Moments, Range};

use crate::metrics::sigmoid;
use crate::model::{Model, ModelError};

/// Logits together with what was seen on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    /// One logit of class 1 per row.
    pub logits: Vec<f64>,
    /// Per activation, the range of everything that entered it, over all rows and units: [`Forward::activations`] without channels.
    pub activation_ranges: Vec<Range>,
}

/// The outputs of a network for a batch, together with what was seen on the way.
#[derive(Clone, Debug, PartialEq)]
pub struct Forward {
    width: usize,
    values: Vec<f64>,
    activations: Vec<ActivationRange>,
}

impl Forward {
    /// Outputs per row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.width.max(1)
    }

    /// Whether there were no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// The outputs of each row, in order: logits, one per class. They are infinite or NaN only where the network overflows.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// All outputs, row by row.
    pub fn into_values(self) -> Vec<f64> {
        self.values
    }

    /// What entered the activations, in the order of the layers; nested ones stand where their addition stands, body first. Of a
    /// residual block it is what entered the power. Empty intervals if there were no rows.
    pub fn activations(&self) -> &[ActivationRange] {
        &self.activations
    }

    /// The index of the largest output of each row, the first one where several are equal: the predicted class.
    pub fn classes(&self) -> Vec<usize> {
        let largest = |row: &[f64]| {
            let better = |best: usize, i: usize| if row[i] > row[best] { i } else { best };
            (0..row.len()).fold(0, better)
        };
        self.rows().map(largest).collect()
    }
}

impl Model {
    /// Evaluates rows of inputs (an image: channels, then rows of pixels) on all threads of the global pool.
    ///
    /// Errors if a row has the wrong width.
    pub fn forward<R: AsRef<[f64]> + Sync>(&self, rows: &[R]) -> Result<Forward, ModelError> {
        run::forward(self, rows)
    }

    /// Evaluates rows of standardised features and records the range of each activation's input.
    ///
    /// Errors if a row has the wrong width or the network has not exactly one output.
    pub fn evaluate<R: AsRef<[f64]> + Sync>(&self, rows: &[R]) -> Result<Evaluation, ModelError> {
        let outputs = self.spec().outputs();
        if outputs != 1 {
            return Err(ModelError::Outputs { outputs });
        }
        let result = self.forward(rows)?;
        let activation_ranges = result.activations.iter().map(ActivationRange::overall).collect();
        Ok(Evaluation {
            logits: result.values,
            activation_ranges,
        })
    }

    /// One logit of class 1 per row; errors as [`Model::evaluate`].
    pub fn logits<R: AsRef<[f64]> + Sync>(&self, rows: &[R]) -> Result<Vec<f64>, ModelError> {
        Ok(self.evaluate(rows)?.logits)
    }

    /// The predicted probability of class 1 per row; errors as [`Model::evaluate`].
    pub fn probabilities<R: AsRef<[f64]> + Sync>(&self, rows: &[R]) -> Result<Vec<f64>, ModelError> {
        Ok(self.logits(rows)?.into_iter().map(sigmoid).collect())
    }
}
