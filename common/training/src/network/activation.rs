//! Activations as tensor functions.

use super::Step;
use burn::tensor::activation::{relu, sigmoid};
use burn::tensor::module::batch_norm_train;
use burn::tensor::{Tensor, activation};
use galen_models::Layer;

/// An activation of its own, outside a residual block.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Activation {
    Power { scale: f64, power: u32 },
    Polynomial { degree: usize },
    Fixed { coefficients: Vec<f64> },
    Hermite { epsilon: f64 },
    Relu,
    Sigmoid,
    Tanh,
}

/// The first three Hermite coefficients of ReLU: 1/sqrt(2 pi), 1/2, 1/sqrt(4 pi).
pub(super) const HERMITE: [f64; 3] = [0.398_942_280_401_432_7, 0.5, 0.282_094_791_773_878_14];

impl Activation {
    /// `None` for layers that are no activation, and for the sign, which has no gradient.
    pub(super) fn of(layer: &Layer) -> Option<Self> {
        Some(match layer {
            Layer::Square => Self::Power { scale: 1.0, power: 2 },
            Layer::Power { scale, power } => Self::Power {
                scale: *scale,
                power: *power,
            },
            Layer::Polynomial { degree, .. } => Self::Polynomial { degree: *degree },
            Layer::FixedPolynomial { coefficients } => Self::Fixed {
                coefficients: coefficients.clone(),
            },
            Layer::Hermite { epsilon } => Self::Hermite { epsilon: *epsilon },
            Layer::Relu => Self::Relu,
            Layer::Sigmoid => Self::Sigmoid,
            Layer::Tanh => Self::Tanh,
            _ => return None,
        })
    }

    /// Whether a teacher has a ReLU in its place.
    pub(super) fn is_polynomial(&self) -> bool {
        !matches!(self, Self::Relu | Self::Sigmoid | Self::Tanh)
    }

    /// The activation of `x`; `leaves` are the parameters of the network. [`Activation::Hermite`] is not among these: it needs
    /// statistics.
    pub(super) fn apply(&self, x: Tensor<2>, step: &Step, leaves: &[Tensor<2>]) -> Tensor<2> {
        match self {
            Self::Power { scale, power } => times(raised(x, *power), *scale),
            Self::Polynomial { degree } => {
                let all = &leaves[step.first];
                let sets = all.dims()[1];
                let column = |k: usize| -> Tensor<2> { all.clone().narrow(0, k, 1).reshape([sets, 1]) };
                let [values, patients] = x.dims();
                // Rows that share coefficients lie side by side.
                let x: Tensor<2> = x.reshape([sets, values * patients / sets]);
                let top = x.clone() * column(*degree);
                let y = (0..*degree).rev().fold(top, |sum, k| match k {
                    0 => sum + column(0),
                    _ => (sum + column(k)) * x.clone(),
                });
                y.reshape([values, patients])
            }
            Self::Fixed { coefficients } => {
                let (top, lower) = coefficients.split_last().unwrap_or((&0.0, &[][..]));
                lower
                    .iter()
                    .enumerate()
                    .rev()
                    .fold(x.clone() * *top, |sum, (k, &c)| match k {
                        0 => sum + c,
                        _ => (sum + c) * x.clone(),
                    })
            }
            Self::Relu | Self::Hermite { .. } => relu(x),
            Self::Sigmoid => sigmoid(x),
            Self::Tanh => activation::tanh(x),
        }
    }
}

/// `x^power` for a power of at least 1, by products: the derivative of `powf` at negative values would be NaN.
pub(super) fn raised(x: Tensor<2>, power: u32) -> Tensor<2> {
    match power {
        0 | 1 => x,
        even if even % 2 == 0 => raised(x.square(), even / 2),
        odd => x.clone() * raised(x, odd - 1),
    }
}

/// `factor * x`, without a pass over the values where the factor is 1.
pub(super) fn times(x: Tensor<2>, factor: f64) -> Tensor<2> {
    if factor == 1.0 { x } else { x * factor }
}

/// `x` normalised by the statistics of the batch, with a mean and a variance per channel.
pub(super) fn normalise(
    x: Tensor<2>,
    channels: usize,
    scale: Tensor<2>,
    shift: Tensor<2>,
    epsilon: f64,
) -> (Tensor<2>, Tensor<2>, Tensor<2>) {
    let [values, patients] = x.dims();
    let x: Tensor<3> = x.reshape([1, channels, values * patients / channels]);
    let result = batch_norm_train(x, scale.reshape([channels]), shift.reshape([channels]), epsilon);
    (
        result.output.reshape([values, patients]),
        result.mean.reshape([channels, 1]),
        result.variance.reshape([channels, 1]),
    )
}
