//! From a network with ReLU to one that can be evaluated encrypted.

use crate::network::Granularity;
use serde::{Deserialize, Serialize};

/// How a network is changed before it is trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adaptation {
    /// What takes the place of ReLU, sigmoid and the hyperbolic tangent.
    pub activation: Replacement,
    /// Whether a batch normalisation is put before each replaced activation that has none (CryptoDL; not before
    /// [`Replacement::Hermite`], which normalises by itself).
    #[serde(default)]
    pub normalise: bool,
    /// What takes the place of poolings.
    #[serde(default)]
    pub pooling: PoolingChoice,
}

/// What takes the place of an activation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Replacement {
    /// `x^2`, as in CryptoNets.
    Square,
    /// A polynomial fitted to the activation; its coefficients are not trained.
    Fixed {
        /// Its degree.
        degree: usize,
        /// It is fitted on [-radius, radius].
        radius: f64,
        /// How it is fitted.
        #[serde(default)]
        fit: Fit,
    },
    /// A polynomial whose coefficients start from the fit and are trained.
    Trained {
        /// Its degree.
        degree: usize,
        /// It is fitted on [-radius, radius].
        radius: f64,
        /// How it is fitted.
        #[serde(default)]
        fit: Fit,
        /// What shares a set of coefficients.
        per: Granularity,
    },
    /// Normalised Hermite terms (AESPA, arXiv 2201.06699).
    Hermite,
    /// The activation and the linear layer before it become a residue block with a scaled power, the family of ReActHE: a
    /// dense layer a [`Layer::Residual`](crate::network::Layer::Residual), a convolution the sum of two convolutions of which one is followed by the power.
    Residue {
        /// Factor on the power.
        scale: f64,
        /// Exponent.
        power: u32,
    },
}

/// What takes the place of poolings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolingChoice {
    /// The mean for the maximum (Baruch et al., arXiv 2111.03362).
    #[default]
    Mean,
    /// The sum for maximum and mean: the scaled mean of CryptoDL.
    Sum,
}

/// How a polynomial is fitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fit {
    /// The method of CryptoDL (Hesamifard et al., arXiv 1711.05189): the derivative is fitted in the mean square with the measure
    /// exp(-1 / (1e-5 + t^2)) dt on [-1, 1], scaled to the interval, and the fit is integrated from the function's value at 0. The
    /// measure has next to no weight around 0, where the derivative of ReLU jumps.
    #[default]
    Derivative,
    /// The function itself is fitted in the mean square, with equal weight on the interval.
    Direct,
}
