//! Which parameters hospitals share, and which stay with each of them.

use super::build::CourseError;
use crate::model::ModelError;
use crate::spec::{ModelSpec, Parameter, ParameterKind};
use galen_core::study::Problem;

/// The parameter blocks of a network, each shared or private. Vectors of shared values hold the shared blocks in flat order.
#[derive(Clone, Debug, PartialEq)]
pub struct Sharing {
    blocks: Vec<Parameter>,
    shared: Vec<bool>,
}

fn is_statistic(kind: ParameterKind) -> bool {
    !kind.is_trained()
}

fn is_normalisation(kind: ParameterKind) -> bool {
    use ParameterKind::{Mean, Scale, Shift, Variance};
    matches!(kind, Scale | Shift | Mean | Variance)
}

impl Sharing {
    /// Everything is shared.
    pub fn all(spec: &ModelSpec) -> Self {
        let blocks = spec.parameters();
        Self {
            shared: vec![true; blocks.len()],
            blocks,
        }
    }

    /// All but what the entries of [`TrainingPlan::private`](galen_core::study::TrainingPlan::private) name.
    ///
    /// # Errors
    /// Entries that name nothing, and if nothing would be shared.
    pub fn new(spec: &ModelSpec, private: &[String]) -> Result<Self, CourseError> {
        let mut sharing = Self::all(spec);
        let mut problems = Vec::new();
        for (i, name) in private.iter().enumerate() {
            let path = format!("{name}.");
            let mut found = false;
            for (block, shared) in sharing.blocks.iter().zip(&mut sharing.shared) {
                let named = match name.as_str() {
                    "normalisations" => is_normalisation(block.kind),
                    "statistics" => is_statistic(block.kind),
                    _ => block.name.starts_with(&path),
                };
                if named {
                    *shared = false;
                    found = true;
                }
            }
            if !found {
                problems.push(Problem {
                    field: format!("training.private[{i}]"),
                    message: format!(
                        "\"{name}\" names no parameters: possible are \"normalisations\" and \"statistics\" where the network has them, and {}",
                        sharing.layers().join(", ")
                    ),
                });
            }
        }
        if problems.is_empty() && sharing.count() == 0 {
            problems.push(Problem {
                field: "training.private".into(),
                message: "leaves nothing to share: every hospital would train by itself".into(),
            });
        }
        if problems.is_empty() {
            Ok(sharing)
        } else {
            Err(CourseError { problems })
        }
    }

    /// The layers that have parameters.
    fn layers(&self) -> Vec<String> {
        let mut layers: Vec<String> = Vec::new();
        for block in &self.blocks {
            let layer = block.name.split('.').next().unwrap_or_default().to_owned();
            if layers.last() != Some(&layer) {
                layers.push(layer);
            }
        }
        layers
    }

    /// Whether every parameter is shared.
    pub fn is_whole(&self) -> bool {
        self.shared.iter().all(|&shared| shared)
    }

    /// Whether each block is shared, in the order of [`ModelSpec::parameters`].
    pub fn shared(&self) -> &[bool] {
        &self.shared
    }

    /// Names of the private blocks.
    pub fn private_names(&self) -> Vec<&str> {
        let private = self
            .blocks
            .iter()
            .zip(&self.shared)
            .filter(|(_, shared)| !**shared);
        private.map(|(block, _)| block.name.as_str()).collect()
    }

    /// Number of shared values.
    pub fn count(&self) -> usize {
        self.of_kind(true).map(Parameter::len).sum()
    }

    fn of_kind(&self, shared: bool) -> impl Iterator<Item = &Parameter> {
        let blocks = self.blocks.iter().zip(&self.shared);
        blocks
            .filter(move |(_, is)| **is == shared)
            .map(|(block, _)| block)
    }

    /// Number of all values of the network.
    pub(crate) fn parameters(&self) -> usize {
        self.blocks.iter().map(Parameter::len).sum()
    }

    /// The shared values among all parameters.
    pub(crate) fn shared_of(&self, params: &[f64]) -> Vec<f64> {
        self.of_kind(true)
            .flat_map(|block| block.of(params))
            .copied()
            .collect()
    }

    /// The private values among all parameters of the network.
    pub fn private_of(&self, params: &[f64]) -> Vec<f64> {
        self.of_kind(false)
            .flat_map(|block| block.of(params))
            .copied()
            .collect()
    }

    /// Adds a vector of shared values to all parameters.
    pub(super) fn add(&self, params: &mut [f64], step: &[f64]) {
        let mut step = step.iter();
        for block in self.of_kind(true) {
            let values = &mut params[block.offset..block.offset + block.len()];
            values
                .iter_mut()
                .zip(&mut step)
                .for_each(|(value, step)| *value += step);
        }
    }

    /// Puts private values in their places.
    ///
    /// # Errors
    /// If there are more or fewer than the network has.
    pub(super) fn put_private(&self, params: &mut [f64], private: &[f64]) -> Result<(), ModelError> {
        let expected = self.parameters() - self.count();
        if private.len() != expected {
            return Err(ModelError::PrivateCount {
                expected,
                found: private.len(),
            });
        }
        let mut private = private.iter();
        for block in self.of_kind(false) {
            let values = &mut params[block.offset..block.offset + block.len()];
            values
                .iter_mut()
                .zip(&mut private)
                .for_each(|(value, own)| *value = *own);
        }
        Ok(())
    }

    /// For each shared value, whether it is a statistic of a normalisation: it has no gradient.
    pub(super) fn statistics(&self) -> impl Iterator<Item = bool> {
        self.of_kind(true)
            .flat_map(|block| std::iter::repeat_n(is_statistic(block.kind), block.len()))
    }

    /// Shortens a vector of shared values: those with gradients to the Euclidean norm `limit`, and so the statistics by themselves.
    pub(crate) fn clip(&self, step: &mut [f64], limit: f64) {
        for statistics in [false, true] {
            let squares = step
                .iter()
                .zip(self.statistics())
                .filter(|(_, is)| *is == statistics);
            let norm = squares.map(|(s, _)| s * s).sum::<f64>().sqrt();
            // An infinite or undefined norm is left as it is: encoding refuses it, scaling would hide it.
            if norm > limit && norm.is_finite() {
                let factor = limit / norm;
                let values = step
                    .iter_mut()
                    .zip(self.statistics())
                    .filter(|(_, is)| *is == statistics);
                values.for_each(|(s, _)| *s *= factor);
            }
        }
    }
}
