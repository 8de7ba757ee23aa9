//! Layers that act on each value, or each channel, alone.

use super::lanes::Lanes;
use crate::spec::{Granularity, Shape};

/// The first Hermite coefficients of ReLU: 1/sqrt(2 pi), 1/2, 1/sqrt(4 pi) (AESPA, arXiv 2201.06699).
pub(crate) const HERMITE: [f64; 3] = [0.398_942_280_401_432_7, 0.5, 0.282_094_791_773_878_14];

/// Replaces each value by its image.
pub(super) fn each(values: &mut [Lanes], f: impl Fn(f64) -> f64) {
    for v in values.iter_mut().flatten() {
        *v = f(*v);
    }
}

/// Replaces each value by its image under its channel's function, given by the channel's index.
pub(super) fn each_channel<F: Fn(f64) -> f64>(values: &mut [Lanes], area: usize, of: impl Fn(usize) -> F) {
    for (channel, plane) in values.chunks_mut(area.max(1)).enumerate() {
        each(plane, of(channel));
    }
}

/// `x^power` by repeated products: `powi` may differ in the last bit between platforms.
pub(super) fn power(x: f64, power: u32) -> f64 {
    (0..power).fold(1.0, |product, _| product * x)
}

/// `c_0 + c_1 x + ...` by Horner's rule.
pub(super) fn horner(coefficients: &[f64], x: f64) -> f64 {
    coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c)
}

/// Trained polynomials: coefficient k of set i at `coefficients[k * sets + i]`.
pub(super) fn polynomial(values: &mut [Lanes], shape: Shape, coefficients: &[f64], per: Granularity) {
    let (sets, run) = match per {
        Granularity::Layer => (1, shape.len()),
        Granularity::Channel => (shape.channels(), shape.area()),
        Granularity::Element => (shape.len(), 1),
    };
    each_channel(values, run, |set| {
        let own: Vec<f64> = coefficients.iter().skip(set).step_by(sets).copied().collect();
        move |x| horner(&own, x)
    });
}

/// A normalisation with the statistics of training.
#[derive(Clone, Copy, Debug)]
pub(super) struct Normalisation<'a> {
    pub(super) mean: &'a [f64],
    pub(super) variance: &'a [f64],
    pub(super) epsilon: f64,
}

impl Normalisation<'_> {
    /// Mean of a channel and the factor on what is left.
    fn of(&self, channel: usize) -> (f64, f64) {
        let deviation = (self.variance[channel] + self.epsilon).sqrt();
        (self.mean[channel], 1.0 / deviation)
    }
}

/// `scale * normalised x + shift` per channel.
pub(super) fn batch_norm(
    values: &mut [Lanes],
    area: usize,
    [scale, shift]: [&[f64]; 2],
    norm: Normalisation<'_>,
) {
    each_channel(values, area, |channel| {
        let (mean, inverse) = norm.of(channel);
        let (factor, shift) = (scale[channel] * inverse, shift[channel]);
        move |x| (x - mean) * factor + shift
    });
}

/// `scale * (f0 + f1 n1(x) + f2 n2((x^2 - 1) / sqrt 2)) + shift` per channel.
pub(super) fn hermite(
    values: &mut [Lanes],
    area: usize,
    [scale, shift]: [&[f64]; 2],
    [first, second]: [Normalisation<'_>; 2],
) {
    each_channel(values, area, |channel| {
        let (mean_1, inverse_1) = first.of(channel);
        let (mean_2, inverse_2) = second.of(channel);
        let (scale, shift) = (scale[channel], shift[channel]);
        move |x| {
            let linear = (x - mean_1) * inverse_1;
            let square = ((x * x - 1.0) * std::f64::consts::FRAC_1_SQRT_2 - mean_2) * inverse_2;
            scale * (HERMITE[0] + HERMITE[1] * linear + HERMITE[2] * square) + shift
        }
    });
}
