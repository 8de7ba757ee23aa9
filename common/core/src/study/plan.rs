//! The parts of a study: members, sums, model, training, evaluation and serving.

use super::data::DataSchema;
use super::training::{ModelPlan, TrainingPlan};
use crate::id::PartyId;
use serde::{Deserialize, Serialize};

/// A study as its author writes it. Every field is explained in `configs/studies/heart/study.toml`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// Version of this file format: 1.
    pub format: u32,
    /// Short name: the characters of a party name.
    pub name: PartyId,
    /// One line for people.
    pub title: String,
    /// Public seed of everything that must be the same everywhere: initial model, splits, order of batches.
    pub seed: u64,
    /// Who takes part.
    pub party: Vec<Member>,
    /// How sums are encrypted and opened.
    pub sums: SumsPolicy,
    /// What the data look like.
    pub data: DataSchema,
    /// The network.
    pub model: ModelPlan,
    /// How it is trained.
    pub training: TrainingPlan,
    /// How it is evaluated.
    pub evaluation: EvaluationPlan,
    /// How it is served.
    pub serving: ServingPlan,
}

/// A hospital that takes part.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Its name.
    pub name: PartyId,
    /// Its full name, for people.
    #[serde(default)]
    pub title: String,
    /// What it does.
    pub roles: Vec<Role>,
}

/// What a party does in a study.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Sends encrypted updates and statistics.
    Contributor,
    /// Keeps pieces of the contributors' one-round keys until a round is opened.
    Custodian,
    /// Sends encrypted patients to the served model.
    Querier,
}

/// How sums are encrypted and opened.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SumsPolicy {
    /// t: any t custodians can open a sum, any t-1 learn nothing. At least 2.
    pub threshold: u32,
    /// g: custodians that must endorse a set of contributions before anything opens; between t and the number of custodians.
    pub agreement: u32,
    /// No sum over fewer contributions is ever opened. At least 3.
    pub min_contributors: u32,
    /// Contributions with which a round may close when the others make no progress; at least `min_contributors`.
    pub quorum: u32,
    /// How long a step may stand still, in seconds, before the round goes on without the missing party.
    pub patience_s: u32,
    /// How long a step may stand still, in seconds, before the study is closed as failed because nothing else can be done.
    #[serde(default = "a_day")]
    pub give_up_s: u32,
    /// Attempts per round before the study is closed as failed.
    pub max_attempts: u32,
    /// Who may read the opened sums.
    pub receivers: Receivers,
}

fn a_day() -> u32 {
    86_400
}

/// Who may read the opened sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Receivers {
    /// Every contributor of the study.
    Contributors,
}

/// Federated evaluation by histograms of scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluationPlan {
    /// Equal bins of predicted probability.
    pub bins: u32,
}

/// What happens to the trained model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServingPlan {
    /// Who gets the model.
    pub release: Release,
    /// Bits of precision that an answer must have after the binary point of the score.
    pub precision_bits: u32,
}

/// Who gets the trained model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Release {
    /// The contributors keep it; the coordinator serves nothing.
    Contributors,
    /// The coordinator gets it in clear and evaluates encrypted queries with it.
    Coordinator,
}

/// What a round is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Purpose {
    /// Counts, sums and sums of squares per column.
    Statistics,
    /// One step of federated averaging.
    Training,
    /// Histograms of scores.
    Evaluation,
}

impl Purpose {
    /// The name in status files and logs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Statistics => "statistics",
            Self::Training => "training",
            Self::Evaluation => "evaluation",
        }
    }
}

impl Study {
    /// The parties that hold a role, in the order of the study.
    pub fn with_role(&self, role: Role) -> Vec<&PartyId> {
        self.party
            .iter()
            .filter(|m| m.roles.contains(&role))
            .map(|m| &m.name)
            .collect()
    }

    /// Number of training rounds: those of the simple plan, or of all stages of the recipe.
    pub fn training_rounds(&self) -> u32 {
        match &self.training.recipe {
            None => self.training.rounds,
            Some(recipe) => recipe
                .stages
                .iter()
                .fold(0, |all, stage| all.saturating_add(stage.epochs)),
        }
    }

    /// Whether the study is one that the first version of the file format could say.
    pub(super) fn is_simple(&self) -> bool {
        self.data.samples.is_none() && self.model.layers.is_empty() && self.training.is_simple()
    }

    /// Whether a party holds a role.
    pub fn has_role(&self, party: &PartyId, role: Role) -> bool {
        self.party
            .iter()
            .any(|m| &m.name == party && m.roles.contains(&role))
    }
}
