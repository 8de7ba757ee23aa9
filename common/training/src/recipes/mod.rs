//! Recipes: training programs made of stages, as files that people can write.

mod adaptation;
mod approximation;
mod check;
mod transition;

pub use adaptation::{Adaptation, AdaptationError, PoolingChoice, Replacement};
pub use approximation::{ApproximationError, Fit, Original, approximate};
pub use check::RecipeError;
pub use transition::{Order, Transition};

use crate::loss::{Distillation, Objective};
use crate::network::Penalty;
use crate::optimise::{Group, Schedule};
use galen_data::augment::Augmentation;
use galen_models::{Model, ModelSpec};
use serde::{Deserialize, Serialize};

/// A training program for one network.
///
/// ```
/// let recipe: galen_training::recipes::Recipe = toml::from_str(r#"
///     seed = 1
///     batch_size = 32
///     [[stages]]
///     name = "teacher"
///     epochs = 20
///     activations = "relu"
///     becomes_teacher = true
///     weights = { learning_rate = 1e-3 }
///     [[stages]]
///     name = "transition"
///     epochs = 20
///     activations = { transition = { order = "layer_by_layer", epochs_per_change = 5 } }
///     weights = { learning_rate = 1e-3 }
///     distillation = {}
/// "#)?;
/// recipe.check()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Fixes initial weights, the order of patients, augmentation and dropout.
    pub seed: u64,
    /// Patients per step.
    pub batch_size: usize,
    /// Classes or numbers.
    #[serde(default)]
    pub objective: Objective,
    /// How training images are varied, anew each time that one is seen.
    #[serde(default)]
    pub augmentation: Option<Augmentation>,
    /// How the network is changed before it is trained.
    #[serde(default)]
    pub adaptation: Option<Adaptation>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
}

impl Recipe {
    /// The network that this recipe makes of `spec`, with initial parameters.
    pub fn model(&self, spec: &ModelSpec) -> Result<Model, AdaptationError> {
        match &self.adaptation {
            Some(adaptation) => adaptation.model(spec, self.seed),
            None => Ok(Model::initial(spec.clone(), self.seed)?),
        }
    }
}

/// What stands where the network has polynomial activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activations {
    /// The network's own activations.
    #[default]
    Own,
    /// ReLU, as in a teacher.
    Relu,
    /// From ReLU to the network's own activations, step by step.
    Transition(Transition),
}

/// One stage of a recipe. Optimiser and schedule start anew with each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stage {
    /// For progress and reports.
    pub name: String,
    /// Passes over the training data.
    pub epochs: u32,
    /// What stands where the network has polynomial activations.
    #[serde(default)]
    pub activations: Activations,
    /// Whether mean pooling takes the maximum instead.
    #[serde(default)]
    pub max_pooling: bool,
    /// Whether the network at the end of this stage is the teacher of later stages.
    #[serde(default)]
    pub becomes_teacher: bool,
    /// Whether the stage starts from other random weights, and from the coefficients of activations that the recipe started from,
    /// instead of where the stage before ended. The first stage starts where the network is.
    #[serde(default)]
    pub from_scratch: bool,
    /// How all parameters but coefficients of activations are optimised.
    pub weights: Group,
    /// How coefficients of activations are optimised.
    #[serde(default = "default_coefficients")]
    pub coefficients: Group,
    /// How step sizes change.
    #[serde(default)]
    pub schedule: Schedule,
    /// Epochs in which step sizes climb from 0.
    #[serde(default)]
    pub warm_up: f64,
    /// Largest norm of the gradient of all parameters together; larger ones are scaled down.
    #[serde(default)]
    pub clip: Option<f64>,
    /// The penalty on what enters the activations.
    #[serde(default)]
    pub penalty: Option<Penalty>,
    /// Learning from the teacher.
    #[serde(default)]
    pub distillation: Option<Distillation>,
    /// The smallest magnitude of a trained activation's highest coefficient: after each step, smaller ones are set to it with
    /// their sign. Keeps the completed square of a quadratic well conditioned. The average of `averaging` is kept from 0 likewise.
    #[serde(default)]
    pub least_leading: Option<f64>,
    /// Decay per step of an exponential average of all parameters, which replaces them at the end of the stage; in (0, 1).
    #[serde(default)]
    pub averaging: Option<f64>,
    /// The end of the stage before its last epoch.
    #[serde(default)]
    pub early_stopping: Option<EarlyStopping>,
    /// Whether the statistics of normalisations are computed anew at the end of the stage, over the training data without augmentation.
    #[serde(default)]
    pub recalibrate: bool,
}

/// Stop when the validation loss does not fall any more, and take the parameters at which it was lowest. Epochs in which a transition is
/// under way are not judged: their networks are others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlyStopping {
    /// Epochs without improvement that are put up with.
    pub patience: u32,
}

fn default_coefficients() -> Group {
    Group::COEFFICIENTS
}
