//! The rounds of a study, in order: statistics, training, evaluation.
//!
//! Coordinator and parties derive the same agenda from the frozen study, so that a round record that asks for anything
//! else is refused.

use crate::fedavg::FedAvg;
use crate::histogram::Histograms;
use crate::statistics::Statistics;
use crate::{ModelSpec, Range, SpecError};
use galen_core::study::{FrozenStudy, Purpose, Study};
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

/// Purpose, values per contribution and largest absolute value of every round, in order: what coordinator and parties alike build the
/// schedule of the study's sums from.
///
/// # Errors
/// If the study's model cannot be built.
pub fn schedule_shapes(study: &Study) -> Result<Vec<(Purpose, u32, u64)>, SpecError> {
    let mut shapes = Vec::new();
    for round in 0..rounds(study) {
        if let Some(shape) = shape(study, round)? {
            // What does not fit is far above what any plan takes, and the planner says so.
            let values = u32::try_from(shape.values).unwrap_or(u32::MAX);
            shapes.push((shape.purpose, values, shape.max_abs));
        }
    }
    Ok(shapes)
}

/// Digest of the state before the first round.
pub fn initial_state(study: &StudyDigest) -> Digest {
    Transcript::new("galen initial state v1").field(&study.0).digest()
}

/// Digest of the state that the first round under a study starts from: that of its predecessor, if it has one.
pub fn first_state(study: &FrozenStudy) -> Digest {
    study
        .predecessor()
        .map_or_else(|| initial_state(&study.digest()), |before| before.state)
}

/// Digest of the state after a round: the state before it, what was derived from the opened sum (the model after
/// training, the sums themselves after statistics and evaluation), and what only those who opened it have.
///
/// The digest is published, and sums of counts have little entropy: were it computed from them alone, whoever sees it could try
/// all plausible sums until one fits. `opening_secret` follows from the summed one-round keys (`galen_custody::Opened`): every
/// receiver has the same, whenever it opens the round, and nobody else can tell it from random.
pub fn next_state(base: &Digest, derived: &Digest, opening_secret: &Digest) -> Digest {
    Transcript::new("galen derived state v1")
        .field(&base.0)
        .field(&derived.0)
        .field(&opening_secret.0)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_binds_its_past_its_content_and_what_only_receivers_have() {
        let [a, b] = [b"a", b"b"].map(|tag| Digest::of(tag));
        let state = next_state(&a, &a, &a);
        for other in [
            next_state(&b, &a, &a),
            next_state(&a, &b, &a),
            next_state(&a, &a, &b),
        ] {
            assert_ne!(other, state);
        }
        assert_eq!(next_state(&a, &a, &a), state);
    }
}
