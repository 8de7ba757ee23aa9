//! The rounds of a study, in order: statistics, training, evaluation.
//!
//! Coordinator and parties derive the same agenda from the frozen study, so that a round record that asks for anything
//! else is refused.

use crate::fedavg::FedAvg;
use crate::histogram::Histograms;
use crate::statistics::Statistics;
use crate::{ModelSpec, Range, SpecError};
use galen_core::study::{Purpose, Study};
use galen_core::{Digest, StudyDigest, Transcript};
use serde::{Deserialize, Serialize};

/// What one round adds up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoundShape {
    /// What the round is for.
    pub purpose: Purpose,
    /// Values per contribution.
    pub values: usize,
    /// Largest absolute value that one contribution may hold at any position.
    pub max_abs: u64,
}

/// Number of rounds: one of statistics, the training rounds, one of evaluation.
pub fn rounds(study: &Study) -> u32 {
    study.training.rounds.saturating_add(2)
}

/// The shape of a round; `None` past the last.
///
/// # Errors
/// If the study's model cannot be built.
pub fn shape(study: &Study, round: u32) -> Result<Option<RoundShape>, SpecError> {
    let shape = if round == 0 {
        let (values, max_abs) = (Statistics::values(&study.data), Statistics::max_abs(&study.data));
        RoundShape {
            purpose: Purpose::Statistics,
            values,
            max_abs,
        }
    } else if round <= study.training.rounds {
        let fedavg = FedAvg::new(&study.training, &study.data);
        let spec = ModelSpec::from_plan(&study.data, &study.model)?;
        RoundShape {
            purpose: Purpose::Training,
            values: fedavg.values(&spec),
            max_abs: fedavg.max_abs(),
        }
    } else if round == study.training.rounds + 1 {
        let (values, max_abs) = (
            Histograms::values(&study.evaluation),
            Histograms::max_abs(&study.data),
        );
        RoundShape {
            purpose: Purpose::Evaluation,
            values,
            max_abs,
        }
    } else {
        return Ok(None);
    };
    Ok(Some(shape))
}

/// Digest of the state before the first round.
pub fn initial_state(study: &StudyDigest) -> Digest {
    Transcript::new("galen initial state v1").field(&study.0).digest()
}

/// Digest of the state after a round: the state before it and what was derived from the opened sum (the model after
/// training, the sums themselves after statistics and evaluation).
pub fn next_state(base: &Digest, derived: &Digest) -> Digest {
    Transcript::new("galen derived state v1")
        .field(&base.0)
        .field(&derived.0)
        .digest()
}

/// Digest of opened sums.
pub fn sums_digest(sums: &[i64]) -> Digest {
    let bytes: Vec<u8> = sums.iter().flat_map(|value| value.to_le_bytes()).collect();
    Transcript::new("galen opened sums v1").field(&bytes).digest()
}

/// What contributors release for serving: the model and the public ranges of its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ReleasedModel {
    /// The model, as safetensors bytes.
    pub safetensors: Vec<u8>,
    /// The public range of each input.
    pub input_ranges: Vec<Range>,
}
