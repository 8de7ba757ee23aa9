//! The layers that a network can be made of.

use super::shape::Extent;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What a set of activation coefficients is shared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Granularity {
    /// All values of the layer have the same coefficients.
    Layer,
    /// Each channel has its own (each feature of a vector).
    Channel,
    /// Each value has its own: the element-wise activation of BEAA (Zhang et al., arXiv 2403.10920).
    Element,
}

/// One layer; `x` is what enters it.
///
/// Files name a layer by its key, `{ dense = { outputs = 10 } }`, or by a plain word where it has no settings, `"square"`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Layer {
    /// `W x + w` on a vector.
    Dense {
        /// Number of outputs.
        outputs: usize,
    },
    /// Residue activation with a scaled power: `A x + a + scale * (B x + b)^power`, element-wise power, on a vector.
    ///
    /// The family that the abstract of ReActHE (Song and Shi, Smart Health 2024, DOI 10.1016/j.smhl.2024.100469) describes; the
    /// paper's own formula was not available, so this parametrisation is this project's. On images the same block is an
    /// [`Layer::Add`] of two convolutions, one of them followed by a [`Layer::Power`].
    Residual {
        /// Number of outputs.
        outputs: usize,
        /// Factor on the power; positive.
        scale: f64,
        /// Exponent; at least 2.
        power: u32,
    },
    /// Cross-correlation of an image with a bank of filters, plus a bias per output channel. Zeros surround the image.
    Conv2d {
        /// Output channels.
        channels: usize,
        /// Height and width of the filters.
        kernel: Extent,
        /// Step between neighbouring outputs.
        #[serde(default = "one")]
        stride: Extent,
        /// Zeros added on each side.
        #[serde(default = "zero")]
        padding: Extent,
        /// Input and output channels are split into this many groups that do not see each other.
        #[serde(default = "one_group")]
        groups: usize,
    },
    /// The mean of each window of an image; zeros of the margin count as values.
    AveragePool {
        /// Height and width of the window.
        kernel: Extent,
        /// Step between windows; the window's size if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Extent>,
        /// Zeros added on each side.
        #[serde(default = "zero")]
        padding: Extent,
    },
    /// The sum of each window of an image: the scaled mean of CryptoDL, without a division.
    SumPool {
        /// Height and width of the window.
        kernel: Extent,
        /// Step between windows; the window's size if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Extent>,
        /// Zeros added on each side.
        #[serde(default = "zero")]
        padding: Extent,
    },
    /// The maximum of each window of an image. For teachers: no polynomial computes it.
    MaxPool {
        /// Height and width of the window.
        kernel: Extent,
        /// Step between windows; the window's size if not given.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        stride: Option<Extent>,
    },
    /// Batch normalisation with the statistics of training: `scale * (x - mean) / sqrt(variance + epsilon) + shift`, per channel.
    BatchNorm {
        /// Added to the variance; positive.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
    /// The image as a vector: channels, then rows.
    Flatten,
    /// `body(x) + shortcut(x)`: a residual connection. An empty shortcut is the identity.
    Add {
        /// The layers of the long way.
        body: Vec<Layer>,
        /// The layers of the short way; must end in the same shape.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        shortcut: Vec<Layer>,
    },
    /// Zeroes a share of the values while training, and scales the others up to keep the mean; nothing otherwise.
    Dropout {
        /// The share, in [0, 1).
        rate: f64,
    },
    /// `x^2`.
    Square,
    /// `scale * x^power`.
    Power {
        /// Factor on the power; positive.
        scale: f64,
        /// Exponent; at least 2.
        power: u32,
    },
    /// `c_0 + c_1 x + ... + c_d x^d` with trained coefficients.
    Polynomial {
        /// d, from 1 to 32.
        degree: usize,
        /// What shares a set of coefficients.
        per: Granularity,
    },
    /// The same with coefficients that are given and are not trained, from the constant up; the same for all values.
    FixedPolynomial {
        /// `c_0` to `c_d`.
        coefficients: Vec<f64>,
    },
    /// Normalised Hermite terms per channel (AESPA, arXiv 2201.06699): `scale * (f0 + f1 n1(x) + f2 n2((x^2 - 1) / sqrt 2)) + shift`, where
    /// n1 and n2 are batch normalisations without scale and shift of their own, f0 = 1/sqrt(2 pi), f1 = 1/2 and f2 = 1/sqrt(4 pi), the first
    /// Hermite coefficients of ReLU. With the statistics of training it is a quadratic per channel.
    Hermite {
        /// Added to the variances; positive.
        #[serde(default = "default_epsilon")]
        epsilon: f64,
    },
    /// `max(x, 0)`. For teachers and the exact engine.
    Relu,
    /// `1 / (1 + exp(-x))`. For teachers and the exact engine.
    Sigmoid,
    /// The hyperbolic tangent. For teachers and the exact engine.
    Tanh,
    /// 1 for `x >= 0`, otherwise -1. For the exact engine.
    Sign,
}

impl Layer {
    /// The word that names it in files and pictures.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dense { .. } => "dense",
            Self::Residual { .. } => "residual",
            Self::Conv2d { .. } => "conv2d",
            Self::AveragePool { .. } => "average_pool",
            Self::SumPool { .. } => "sum_pool",
            Self::MaxPool { .. } => "max_pool",
            Self::BatchNorm { .. } => "batch_norm",
            Self::Flatten => "flatten",
            Self::Add { .. } => "add",
            Self::Dropout { .. } => "dropout",
            Self::Square => "square",
            Self::Power { .. } => "power",
            Self::Polynomial { .. } => "polynomial",
            Self::FixedPolynomial { .. } => "fixed_polynomial",
            Self::Hermite { .. } => "hermite",
            Self::Relu => "relu",
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Sign => "sign",
        }
    }

    /// Whether it is an activation: it acts on each value alone and not linearly.
    pub fn is_activation(&self) -> bool {
        matches!(
            self,
            Self::Square
                | Self::Power { .. }
                | Self::Polynomial { .. }
                | Self::FixedPolynomial { .. }
                | Self::Hermite { .. }
                | Self::Relu
                | Self::Sigmoid
                | Self::Tanh
                | Self::Sign
        )
    }

    /// Whether additions and multiplications compute it, so that CKKS evaluates it as it was trained.
    pub fn is_polynomial(&self) -> bool {
        match self {
            Self::MaxPool { .. } | Self::Relu | Self::Sigmoid | Self::Tanh | Self::Sign => false,
            Self::Add { body, shortcut } => body.iter().chain(shortcut).all(Self::is_polynomial),
            _ => true,
        }
    }
}

fn one() -> Extent {
    Extent::ONE
}

fn zero() -> Extent {
    Extent::ZERO
}

fn one_group() -> usize {
    1
}

fn default_epsilon() -> f64 {
    1e-5
}
