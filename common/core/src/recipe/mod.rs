//! Recipes: training programs made of stages, as files that people can write.
//!
//! A recipe is followed by `galen_training`, on one's own data or inside a study, whose file may hold one
//! ([`TrainingPlan`](crate::study::TrainingPlan)). What an [`Adaptation`] makes of a network is told by `galen_models`.

mod adaptation;
mod augmentation;
mod check;
mod objective;
mod optimiser;
mod transition;

pub use adaptation::{Adaptation, Fit, PoolingChoice, Replacement};
pub use augmentation::{AugmentError, Augmentation};
pub use check::RecipeError;
pub use objective::{ClassWeights, Distillation, Objective, Penalty, Reach};
pub use optimiser::{Group, Method, Plateau, Schedule};
pub use transition::{Order, Transition};

use serde::{Deserialize, Serialize};

/// A training program for one network.
///
/// ```
/// let recipe: galen_core::recipe::Recipe = toml::from_str(r#"
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
    /// Fixes initial weights, the order of patients, augmentation and dropout. Inside a study the study's seed does, and this one is left
    /// out.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub seed: u64,
    /// Patients per step.
    pub batch_size: usize,
    /// Classes or numbers.
    #[serde(default)]
    pub objective: Objective,
    /// How much a patient of each class counts; all alike if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class_weights: Option<ClassWeights>,
    /// How training images are varied, anew each time that one is seen.
    #[serde(default)]
    pub augmentation: Option<Augmentation>,
    /// How the network is changed before it is trained.
    #[serde(default)]
    pub adaptation: Option<Adaptation>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
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
    /// Passes over the training data. Inside a study rounds, in each of which every hospital makes
    /// [`TrainingPlan::local_epochs`](crate::study::TrainingPlan::local_epochs) passes over its own.
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

impl Stage {
    /// Per activation, the share of the polynomial in an epoch of this stage, from 0.
    pub fn shares(&self, epoch: u32, activations: usize) -> Vec<f64> {
        match self.activations {
            Activations::Own => vec![1.0; activations],
            Activations::Relu => vec![0.0; activations],
            Activations::Transition(transition) => transition.shares(epoch, activations),
        }
    }
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

fn is_zero(seed: &u64) -> bool {
    *seed == 0
}
