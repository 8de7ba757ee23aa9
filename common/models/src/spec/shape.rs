//! Shapes of what flows between layers.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The shape of one patient's values between two layers. In files: a number, or `[channels, height, width]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Shape {
    /// A vector of features.
    Features(usize),
    /// Channels, height and width, stored in this order, row by row. A signal in time has height 1.
    Image([usize; 3]),
}

impl Shape {
    /// Number of values; saturates, so that an impossible shape is refused and does not wrap around.
    pub fn len(&self) -> usize {
        match *self {
            Self::Features(n) => n,
            Self::Image([c, h, w]) => c.saturating_mul(h).saturating_mul(w),
        }
    }

    /// Whether there is no value in it; never so in a checked network.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Channels of an image, or features of a vector: what "per channel" counts.
    pub fn channels(&self) -> usize {
        match *self {
            Self::Features(n) => n,
            Self::Image([c, _, _]) => c,
        }
    }

    /// Values per channel: height times width, or 1 for a vector.
    pub fn area(&self) -> usize {
        match *self {
            Self::Features(_) => 1,
            Self::Image([_, h, w]) => h.saturating_mul(w),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Features(n) => write!(f, "{n}"),
            Self::Image([c, h, w]) => write!(f, "{c}x{h}x{w}"),
        }
    }
}

/// Vertical and horizontal extent of a window, a step or a margin. In files: one number for both, or `[vertical, horizontal]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Extent {
    /// The same in both directions.
    Square(usize),
    /// Vertical, then horizontal.
    Pair([usize; 2]),
}

impl Extent {
    /// One in both directions.
    pub const ONE: Self = Self::Square(1);
    /// Zero in both directions.
    pub const ZERO: Self = Self::Square(0);

    /// Vertical, then horizontal.
    pub fn pair(&self) -> [usize; 2] {
        match *self {
            Self::Square(n) => [n, n],
            Self::Pair(pair) => pair,
        }
    }
}
