//! The network of a study and how it is trained.

use crate::network::Layer;
use crate::recipe::Recipe;
use serde::{Deserialize, Serialize, Serializer};

/// The network: residual blocks `y = A x + scale * (B x + c)^power` with a dense output layer, or any layers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelPlan {
    /// Width of each block; one to four blocks. Empty beside `layers`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hidden: Vec<u32>,
    /// Exponent of the blocks' activation: 2. 0, which is not given, beside `layers`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub power: u32,
    /// Scale of the blocks' activation. 0, which is not given, beside `layers`.
    #[serde(default, skip_serializing_if = "is_default")]
    pub scale: f64,
    /// The layers, from the model inputs that the data schema gives to one logit; a recipe may adapt them. Empty beside `hidden`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<Layer>,
}

/// Federated averaging: how hospitals train between two averages, and what is done with the average.
///
/// A hospital trains by gradient descent of one step size (`rounds` to `latent_bound`), or by a recipe, which then takes the place of
/// all these but `local_epochs`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainingPlan {
    /// Number of rounds; with a recipe its stages tell.
    #[serde(default)]
    pub rounds: u32,
    /// Passes over the local data per round.
    pub local_epochs: u32,
    /// Patients per step.
    #[serde(default)]
    pub batch_size: u32,
    /// Step size of the first round.
    #[serde(default)]
    pub learning_rate: f64,
    /// Factor on the step size from each round to the next; in (0, 1].
    #[serde(default)]
    pub learning_rate_decay: f64,
    /// Momentum, in [0, 1).
    #[serde(default)]
    pub momentum: f64,
    /// Weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// Penalty on the size of what enters an activation, beyond `latent_bound`; keeps the encrypted evaluation in range.
    #[serde(default)]
    pub latent_penalty: f64,
    /// Size up to which an activation's input is not penalised.
    #[serde(default)]
    pub latent_bound: f64,
    /// Largest Euclidean norm of a local update, and of the step that the model makes in a round; longer ones are shortened. It also bounds
    /// every coordinate. Statistics of normalisations are held to the same norm by themselves.
    pub clip: f64,
    /// Fractional bits of the fixed-point encoding of updates.
    pub fraction_bits: u32,
    /// mu of FedProx (Li et al., arXiv 1812.06127): `mu / 2 * ||w - w_global||^2` is added to what a hospital minimises. 0: nothing.
    #[serde(default)]
    pub proximal: f64,
    /// What the parties do with the opened average.
    #[serde(default)]
    pub server: Server,
    /// What is not shared: parameters that stay at each hospital. Names of layers such as `"layer3"`, `"normalisations"` for all batch
    /// normalisations and Hermite activations (FedBN, Li et al., arXiv 2102.07623), `"statistics"` for their running statistics alone.
    #[serde(default)]
    pub private: Vec<String>,
    /// The recipe: how each hospital trains, in stages whose epochs count rounds.
    #[serde(default)]
    pub recipe: Option<Recipe>,
}

/// What every party does with the average of the hospitals' steps to get from one model to the next, in `f64` and with the same bits.
///
/// `step` is the average of the shortened steps of the hospitals in the round's set, weighted by their patients. The result is shortened to
/// [`TrainingPlan::clip`] once more, so that no strategy moves the model further in a round than a plain average may. Statistics
/// of normalisations have no gradient: they move by their average whatever the strategy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Server {
    /// FedAvg: the model moves by the step.
    #[default]
    Average,
    /// FedAvgM (Hsu et al., arXiv 1909.06335): `v = momentum * v + step`, and the model moves by `learning_rate * v`.
    Momentum {
        /// Factor on the velocity; 0.0001 to 10.
        #[serde(default = "one")]
        learning_rate: f64,
        /// What is kept of the velocity from one round to the next; 0 to 0.99.
        #[serde(default = "nine_tenths")]
        momentum: f64,
    },
    /// FedAdam (Reddi et al., arXiv 2003.00295, algorithm 2): `m = beta1 * m + (1 - beta1) * step`, `v = beta2 * v + (1 - beta2) * step^2` from
    /// v = tau^2 on, and the model moves by `learning_rate * m / (sqrt(v) + tau)`, each coordinate by itself.
    Adam {
        /// eta; 0.0001 to 10.
        #[serde(default = "adam_rate")]
        learning_rate: f64,
        /// 0 to 0.999.
        #[serde(default = "nine_tenths")]
        beta1: f64,
        /// 0 to 0.9999.
        #[serde(default = "adam_beta2")]
        beta2: f64,
        /// How far the method adapts: coordinates whose steps are below it are not magnified to the learning rate; 1e-6 to 1.
        #[serde(default = "adam_tau")]
        tau: f64,
    },
}

fn one() -> f64 {
    1.0
}

fn nine_tenths() -> f64 {
    0.9
}

fn adam_rate() -> f64 {
    0.03
}

fn adam_beta2() -> f64 {
    0.99
}

fn adam_tau() -> f64 {
    1e-3
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl TrainingPlan {
    /// Whether the plan is one that the first version of the file format could say.
    pub(super) fn is_simple(&self) -> bool {
        self.recipe.is_none()
            && self.proximal == 0.0
            && self.server == Server::Average
            && self.private.is_empty()
    }
}

/// A plan is written as its author wrote it: without what a recipe takes the place of, and without what is not used. What the
/// first version of the format has keeps its order, which the digests of studies depend on.
impl Serialize for TrainingPlan {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Simple {
            rounds: u32,
            local_epochs: u32,
            batch_size: u32,
            learning_rate: f64,
            learning_rate_decay: f64,
            momentum: f64,
            weight_decay: f64,
            latent_penalty: f64,
            latent_bound: f64,
            clip: f64,
            fraction_bits: u32,
            #[serde(skip_serializing_if = "is_default")]
            proximal: f64,
            #[serde(skip_serializing_if = "is_default")]
            server: Server,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            private: Vec<String>,
        }
        #[derive(Serialize)]
        struct Followed<'a> {
            local_epochs: u32,
            clip: f64,
            fraction_bits: u32,
            #[serde(skip_serializing_if = "is_default")]
            proximal: f64,
            #[serde(skip_serializing_if = "is_default")]
            server: Server,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            private: &'a [String],
            recipe: &'a Recipe,
        }
        match &self.recipe {
            None => Simple {
                rounds: self.rounds,
                local_epochs: self.local_epochs,
                batch_size: self.batch_size,
                learning_rate: self.learning_rate,
                learning_rate_decay: self.learning_rate_decay,
                momentum: self.momentum,
                weight_decay: self.weight_decay,
                latent_penalty: self.latent_penalty,
                latent_bound: self.latent_bound,
                clip: self.clip,
                fraction_bits: self.fraction_bits,
                proximal: self.proximal,
                server: self.server,
                private: self.private.clone(),
            }
            .serialize(serializer),
            Some(recipe) => Followed {
                local_epochs: self.local_epochs,
                clip: self.clip,
                fraction_bits: self.fraction_bits,
                proximal: self.proximal,
                server: self.server,
                private: &self.private,
                recipe,
            }
            .serialize(serializer),
        }
    }
}
