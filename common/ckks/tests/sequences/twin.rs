//! What a ciphertext must be, in plain numbers, and what to expect of an operation.

use galen_ckks::ciphertext::Ciphertext;

/// A weight or constant, times its scale, is below 2^120.
pub(crate) const LARGEST_INTEGER: f64 = (1u128 << 120) as f64;

/// What a ciphertext must be.
#[derive(Clone, Debug)]
pub(crate) struct Twin {
    pub(crate) values: Vec<f64>,
    pub(crate) level: usize,
    pub(crate) scale: f64,
    pub(crate) degree: usize,
    /// Bound on the values, derived as the operations' documentation says.
    pub(crate) magnitude: f64,
    pub(crate) slots: usize,
}

#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) ct: Ciphertext,
    pub(crate) twin: Twin,
}

/// What the twin expects of an operation.
pub(crate) struct Expected {
    pub(crate) twin: Twin,
    /// An upper bound on the noise of the result, in integers, from the operands' stated bounds.
    pub(crate) noise: f64,
}

/// Why an operation is impossible, as the twin sees it.
#[derive(Debug, PartialEq)]
pub(crate) enum Obstacle {
    Level,
    Scale,
    Degree,
    NoLevel,
    LevelRange,
    ScaleRange,
    NoKey,
    RealRing,
    Number,
}

pub(crate) type Plan = Result<Expected, Obstacle>;

pub(crate) fn map(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}
