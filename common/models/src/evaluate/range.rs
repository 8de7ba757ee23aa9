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

/// How large values typically are, where a [`Range`] says how large the largest was: their number, sum and sum of squares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moments {
    /// How many there were.
    pub values: u64,
    /// Their sum.
    pub sum: f64,
    /// The sum of their squares.
    pub squares: f64,
}

impl Moments {
    /// Takes note of a value.
    pub fn include(&mut self, value: f64) {
        self.values = self.values.saturating_add(1);
        self.sum += value;
        self.squares += value * value;
    }

    /// Takes note of the values of another.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.values = self.values.saturating_add(other.values);
        self.sum += other.sum;
        self.squares += other.squares;
    }

    /// The root mean square of `factor * value + shift`; `None` if there were no values.
    pub fn root_mean_square(&self, factor: f64, shift: f64) -> Option<f64> {
        let n = self.values as f64;
        let mean = factor * factor * self.squares / n + 2.0 * factor * shift * self.sum / n + shift * shift;
        (self.values > 0).then(|| mean.max(0.0).sqrt())
    }

    /// Whether these can be the moments of at least one value.
    pub(crate) fn is_possible(&self) -> bool {
        // The mean square is not below the squared mean, but for rounding.
        let (n, all) = (self.values as f64, self.sum * self.sum);
        self.values > 0 && self.squares.is_finite() && self.squares * n >= all * (1.0 - 1e-6)
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
    /// How large the values of each of them typically are; nothing in files that do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub moments: Vec<Moments>,
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
        if self.moments.len() == other.moments.len() {
            for (mine, theirs) in self.moments.iter_mut().zip(&other.moments) {
                mine.merge(theirs);
            }
        } else {
            // Of part of the values they would be wrong.
            self.moments.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_from_their_definition_in_any_parts() {
        let values = [1.0, -2.0, 0.5, 4.0];
        let of = |part: &[f64]| {
            let mut moments = Moments::default();
            part.iter().for_each(|&value| moments.include(value));
            moments
        };
        let mut parts = of(&values[..1]);
        parts.merge(&of(&values[1..]));
        assert_eq!(parts, of(&values));
        let squares = values.map(|v| (3.0 * v - 1.0) * (3.0 * v - 1.0));
        let expected = (squares.iter().sum::<f64>() / 4.0).sqrt();
        let found = parts.root_mean_square(3.0, -1.0).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found} {expected}");
        assert!(parts.is_possible());
        assert_eq!(Moments::default().root_mean_square(1.0, 0.0), None);
        let impossible = Moments {
            squares: 5.0,
            sum: 6.0,
            values: 4,
        };
        assert!(!impossible.is_possible());
    }

    /// Moments of part of the values would be wrong: they are given up, and the range is kept.
    #[test]
    fn a_recording_without_moments_takes_them_away() {
        let seen = |moments: Vec<Moments>, max: f64| ActivationRange {
            path: "layer1".into(),
            channels: vec![Range::new(0.0, max)],
            moments,
        };
        let mut all = seen(vec![Moments::default()], 1.0);
        all.merge(&seen(Vec::new(), 2.0));
        assert_eq!(all, seen(Vec::new(), 2.0));
    }
}
