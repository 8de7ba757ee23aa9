//! The rounds of a study, in order: statistics, training, evaluation.
//!
//! Coordinator and parties derive the same agenda from the frozen study, so that a round record that asks for anything
//! else is refused.

use crate::Range;
use crate::course::{Course, CourseError};
use crate::histogram::Histograms;
use crate::statistics::Statistics;
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
    study.training_rounds().saturating_add(2)
}

/// What a round is for; `None` past the last.
pub fn purpose(study: &Study, round: u32) -> Option<Purpose> {
    let training = study.training_rounds();
    if round == 0 {
        Some(Purpose::Statistics)
    } else if round <= training {
        Some(Purpose::Training)
    } else if round == training.saturating_add(1) {
        Some(Purpose::Evaluation)
    } else {
        None
    }
}

/// The shape of a round; `None` past the last.
///
/// # Errors
/// If the study's training is impossible.
pub fn shape(study: &Study, round: u32) -> Result<Option<RoundShape>, CourseError> {
    Ok(shape_in(&Course::of(study)?, study, round))
}

fn shape_in(course: &Course, study: &Study, round: u32) -> Option<RoundShape> {
    let purpose = purpose(study, round)?;
    let (values, max_abs) = match purpose {
        Purpose::Statistics => (Statistics::values(&study.data), Statistics::max_abs(&study.data)),
        Purpose::Training => (course.values(), course.average().max_abs()),
        Purpose::Evaluation => (
            Histograms::values(&study.evaluation),
            Histograms::max_abs(&study.data),
        ),
    };
    Some(RoundShape {
        purpose,
        values,
        max_abs,
    })
}

/// Purpose, values per contribution and largest absolute value of every round, in order: what coordinator and parties alike build the
/// schedule of the study's sums from.
///
/// # Errors
/// If the study's training is impossible.
pub fn schedule_shapes(study: &Study) -> Result<Vec<(Purpose, u32, u64)>, CourseError> {
    let course = Course::of(study)?;
    let shapes = (0..rounds(study)).filter_map(|round| shape_in(&course, study, round));
    // What does not fit is far above what any plan takes, and the planner says so.
    let values = |shape: &RoundShape| u32::try_from(shape.values).unwrap_or(u32::MAX);
    Ok(shapes
        .map(|shape| (shape.purpose, values(&shape), shape.max_abs))
        .collect())
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

/// Digest of the state after a round: the state before it, what was derived from the opened sum (what was learnt after
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
