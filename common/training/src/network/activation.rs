//! Activations as tensor functions.

use burn::tensor::Tensor;
use burn::tensor::module::batch_norm_train;
use galen_models::Layer;

/// An activation of its own, outside a residual block.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Activation {
    Power { scale: f64, power: u32 },
    Polynomial,
    Fixed { coefficients: Vec<f64> },
    Hermite { epsilon: f64 },
    Relu,
    Sigmoid,
    Tanh,
}

/// The first three coefficients of ReLU in normalised Hermite polynomials: 1/sqrt(2 pi), 1/2, 1/sqrt(4 pi) (AESPA, arXiv 2201.06699).
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
            Layer::Polynomial { .. } => Self::Polynomial,
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
}

/// A polynomial whose coefficients are the rows of `coefficients`, from the constant up, with one column per set of them. The rows of
/// `x` that share a set follow each other.
pub(super) fn polynomial(x: Tensor<2>, coefficients: &Tensor<2>) -> Tensor<2> {
    let [terms, sets] = coefficients.dims();
    let coefficient = |k: usize| -> Tensor<2> { coefficients.clone().narrow(0, k, 1).reshape([sets, 1]) };
    let [values, patients] = x.dims();
    let x: Tensor<2> = x.reshape([sets, values * patients / sets]);
    let top = x.clone() * coefficient(terms - 1);
    let y = (1..terms - 1)
        .rev()
        .fold(top, |sum, k| (sum + coefficient(k)) * x.clone());
    (y + coefficient(0)).reshape([values, patients])
}

/// The polynomial with the given coefficients, from the constant up; at least two.
pub(super) fn fixed(x: Tensor<2>, coefficients: &[f64]) -> Tensor<2> {
    let [constant, between @ .., top] = coefficients else {
        return x;
    };
    let y = between
        .iter()
        .rev()
        .fold(x.clone() * *top, |sum, &c| (sum + c) * x.clone());
    y + *constant
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

/// `x` normalised by the mean and the variance of each channel over the batch, which come with it.
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
