//! A model on integers: what is evaluated in plain and encrypted alike.

use crate::circuit::{Circuit, CircuitError, Sum};
use crate::compile::CompileError;
use crate::features::{Encoder, FeatureError};
use crate::program::Program;
use crate::reveal::{self, Reveal, RevealError};

/// A quantised model: features become integers, a circuit computes integer scores.
///
/// It is a model of its own. What it was made from (a network, trees) decides how accurate it is; what it gives is exact: its encrypted
/// and its plain evaluation are equal.
#[derive(Clone, Debug, PartialEq)]
pub struct Quantised {
    encoder: Encoder,
    /// Without outputs.
    circuit: Circuit,
    scores: Vec<Sum>,
    scale: f64,
}

/// A quantised model that cannot be made into a program, or a row that it does not take.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantisedError {
    /// The row.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// One of several rows.
    #[error("patient {patient}: {error}")]
    Patient {
        /// Index of the patient.
        patient: usize,
        /// What is wrong with the row.
        error: FeatureError,
    },
    /// What is to be revealed.
    #[error(transparent)]
    Reveal(#[from] RevealError),
    /// The parameters.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// The circuit.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
}

/// What a querier learns about one patient.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The model's scores, in its own units.
    Scores(Vec<f64>),
    /// The most likely class.
    Label(usize),
    /// Whether the threshold is reached.
    Decision(bool),
}

impl Quantised {
    pub(crate) fn new(encoder: Encoder, circuit: Circuit, scores: Vec<Sum>, scale: f64) -> Self {
        Self {
            encoder,
            circuit,
            scores,
            scale,
        }
    }

    /// How features become integers.
    pub fn encoder(&self) -> &Encoder {
        &self.encoder
    }

    /// The circuit without outputs.
    pub(crate) fn inner(&self) -> &Circuit {
        &self.circuit
    }

    /// The scores, as sums of the circuit's wires.
    pub(crate) fn sums(&self) -> &[Sum] {
        &self.scores
    }

    /// Number of scores.
    pub fn scores(&self) -> usize {
        self.scores.len()
    }

    /// What one unit of an integer score is worth in the model's own units.
    pub fn scale(&self) -> f64 {
        self.scale
    }

    /// The smallest integer score that is at least `score` in the model's own units: the threshold of a [`Reveal::Decision`].
    pub fn units(&self, score: f64) -> i64 {
        (score / self.scale).ceil() as i64
    }

    /// The circuit that computes what is to be revealed.
    pub fn circuit(&self, reveal: Reveal) -> Result<Circuit, RevealError> {
        let mut circuit = self.circuit.clone();
        reveal::finish(&mut circuit, self.scores.clone(), reveal)?;
        Ok(circuit)
    }

    /// The program that computes it, under the cheapest parameters.
    pub fn program(&self, reveal: Reveal) -> Result<Program, QuantisedError> {
        Ok(Program::compile(self.circuit(reveal)?)?)
    }

    /// The circuit's inputs for several patients, to be encrypted by a [`Querier`](crate::Querier). `rows` are features as the model takes them.
    pub fn encode<R: AsRef<[f64]>>(&self, rows: &[R]) -> Result<Vec<Vec<i64>>, QuantisedError> {
        let encode = |(patient, row): (usize, &R)| {
            let encoded = self.encoder.encode(row.as_ref());
            encoded.map_err(|error| QuantisedError::Patient { patient, error })
        };
        rows.iter().enumerate().map(encode).collect()
    }

    /// What the decrypted integers of several patients mean.
    pub fn outcomes<O: AsRef<[i64]>>(&self, reveal: Reveal, outputs: &[O]) -> Vec<Outcome> {
        outputs
            .iter()
            .map(|row| self.outcome(reveal, row.as_ref()))
            .collect()
    }

    /// What the integers of an answer mean.
    pub fn outcome(&self, reveal: Reveal, outputs: &[i64]) -> Outcome {
        let first = outputs.first().copied().unwrap_or(0);
        match reveal {
            Reveal::Scores => {
                Outcome::Scores(outputs.iter().map(|&score| score as f64 * self.scale).collect())
            }
            Reveal::Label => Outcome::Label(usize::try_from(first).unwrap_or(0)),
            Reveal::Decision { .. } => Outcome::Decision(first == 1),
        }
    }

    /// The plain evaluation: the oracle of the encrypted one.
    pub fn evaluate(&self, reveal: Reveal, row: &[f64]) -> Result<Outcome, QuantisedError> {
        let outputs = self.circuit(reveal)?.evaluate(&self.encoder.encode(row)?)?;
        Ok(self.outcome(reveal, &outputs))
    }
}
