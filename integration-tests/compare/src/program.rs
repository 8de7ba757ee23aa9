//! Programs on encrypted vectors: the same list of steps is run by every library and in the clear.

use anyhow::{Context as _, Result};
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::RelinKey;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// One step: an operation on named vectors and the name of its result, which may be one of them.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Step {
    to: String,
    #[serde(flatten)]
    action: Action,
}

/// Every product is relinearised and rescaled.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Action {
    Add { a: String, b: String },
    Sub { a: String, b: String },
    Negate { a: String },
    AddScalar { a: String, value: f64 },
    Mul { a: String, b: String },
    Square { a: String },
    MulPlain { a: String, values: Vec<f64> },
    MulScalar { a: String, value: f64 },
    WeightedSum { of: Vec<String>, weights: Vec<f64> },
    Rotate { a: String, steps: i64 },
}

/// The rotations that a program needs keys for.
pub(crate) fn rotations(program: &[Step]) -> Vec<i64> {
    let steps = program.iter().filter_map(|step| match step.action {
        Action::Rotate { steps, .. } => Some(steps),
        _ => None,
    });
    steps.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Named ciphertexts.
pub(crate) struct Machine<'a> {
    pub context: &'a Arc<Context>,
    pub relin: &'a RelinKey,
    /// Those of the program's [`rotations`].
    pub galois: Option<&'a GaloisKeys>,
    pub vectors: BTreeMap<String, Ciphertext>,
}

impl Machine<'_> {
    pub(crate) fn get(&self, name: &str) -> Result<&Ciphertext> {
        self.vectors
            .get(name)
            .with_context(|| format!("no vector {name}"))
    }

    /// Runs a program; its results are in [`Self::vectors`].
    pub(crate) fn run(&mut self, program: &[Step]) -> Result<()> {
        for (index, step) in program.iter().enumerate() {
            let result = self
                .apply(&step.action)
                .with_context(|| format!("step {index}"))?;
            self.vectors.insert(step.to.clone(), result);
        }
        Ok(())
    }

    fn apply(&self, action: &Action) -> Result<Ciphertext> {
        let evaluator = Evaluator::new(self.context);
        let aligned = evaluator.aligned(self.relin);
        Ok(match action {
            Action::Add { a, b } => aligned.add(self.get(a)?, self.get(b)?)?,
            Action::Sub { a, b } => aligned.sub(self.get(a)?, self.get(b)?)?,
            Action::Negate { a } => evaluator.neg(self.get(a)?)?,
            Action::AddScalar { a, value } => evaluator.add_scalar(self.get(a)?, *value)?,
            Action::Mul { a, b } => aligned.mul(self.get(a)?, self.get(b)?)?,
            Action::Square { a } => aligned.square(self.get(a)?)?,
            Action::MulPlain { a, values } => {
                let magnitude = values.iter().fold(0.0, |most: f64, x| most.max(x.abs()));
                aligned.mul_values(self.get(a)?, values, magnitude)?
            }
            Action::MulScalar { a, value } => aligned.mul_const(self.get(a)?, *value)?,
            Action::WeightedSum { of, weights } => {
                let vectors = of.iter().map(|name| self.get(name)).collect::<Result<Vec<_>>>()?;
                let level = vectors
                    .iter()
                    .map(|ct| ct.level())
                    .min()
                    .context("a sum of nothing")?;
                let target = self.context.product_target(level)?;
                evaluator.rescale(&evaluator.mac_scalars(&vectors, weights, target)?)?
            }
            Action::Rotate { a, steps } => {
                let keys = self.galois.context("no rotation keys")?;
                evaluator.rotate(self.get(a)?, *steps, keys)?
            }
        })
    }
}
