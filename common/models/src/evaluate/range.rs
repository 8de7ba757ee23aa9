//! Intervals, and what entered the activations of a network.

use serde::{Deserialize, Serialize};

/// A closed interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Range {
    /// Smallest value.
    pub min: f64,
    /// Largest value.
    pub max: f64,
}

impl Range {
    /// An interval that contains nothing yet.
    pub const EMPTY: Self = Self {
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
    };

    /// The interval from `min` to `max`.
    pub fn new(min: f64, max: f64) -> Self {
        Self { min, max }
    }

    /// Widens the interval to contain `value`; NaN changes nothing.
    pub fn include(&mut self, value: f64) {
        self.min = self.min.min(value);
        self.max = self.max.max(value);
    }

    /// The smallest interval that contains both.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self {
            min: self.min.min(other.min),
            max: self.max.max(other.max),
        }
    }

    /// Whether `value` lies in the interval; NaN does not.
    pub fn contains(&self, value: f64) -> bool {
        self.min <= value && value <= self.max
    }

    /// The largest absolute value in the interval.
    pub fn magnitude(&self) -> f64 {
        self.min.abs().max(self.max.abs())
    }
}

/// What entered one activation: the power of a residual block, and every layer that acts on values alone and not linearly.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActivationRange {
    /// The layer's place, such as `layer3.body0`.
    pub path: String,
    /// One interval per channel of an image, per value of a vector; per output of a residual block.
    pub channels: Vec<Range>,
}

impl ActivationRange {
    /// The interval of all channels together.
    pub fn overall(&self) -> Range {
        self.channels.iter().copied().fold(Range::EMPTY, Range::union)
    }

    /// Widens every channel's interval by another recording of the same layer.
    pub(crate) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.channels.iter_mut().zip(&other.channels) {
            *mine = mine.union(*theirs);
        }
    }
}
