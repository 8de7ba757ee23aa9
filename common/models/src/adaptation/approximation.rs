//! Polynomials that stand for ReLU, sigmoid and the hyperbolic tangent, by least squares.

use crate::MAX_DEGREE;
use galen_core::recipe::Fit;
use serde::{Deserialize, Serialize};

/// The function that a polynomial stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Original {
    /// max(x, 0).
    Relu,
    /// 1 / (1 + exp(-x)).
    Sigmoid,
    /// The hyperbolic tangent.
    Tanh,
}

impl Original {
    fn value(self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            Self::Tanh => x.tanh(),
        }
    }

    fn derivative(self, x: f64) -> f64 {
        match self {
            Self::Relu if x > 0.0 => 1.0,
            Self::Relu => 0.0,
            Self::Sigmoid => self.value(x) * self.value(-x),
            Self::Tanh => 1.0 - x.tanh() * x.tanh(),
        }
    }
}

/// A fit that is not possible.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error(
    "no fit of degree {degree} on [-{radius}, {radius}]: the degree must be 1 to 32, the radius positive and finite"
)]
pub struct ApproximationError {
    /// The degree.
    pub degree: usize,
    /// Half the interval.
    pub radius: f64,
}

/// Coefficients, from the constant up, of the polynomial of a degree that stands for `original` on [-radius, radius].
///
/// High degrees cancel: their powers of x have coefficients of both signs that are far larger than the sum.
pub fn approximate(
    original: Original,
    fit: Fit,
    degree: usize,
    radius: f64,
) -> Result<Vec<f64>, ApproximationError> {
    let possible = (1..=MAX_DEGREE).contains(&degree) && radius.is_finite() && radius > 0.0;
    if !possible {
        return Err(ApproximationError { degree, radius });
    }
    Ok(match fit {
        Fit::Direct => {
            let scaled = least_squares(degree, |_| 1.0, |t| original.value(radius * t));
            let coefficients = scaled.iter().enumerate();
            coefficients.map(|(k, c)| c / radius.powi(k as i32)).collect()
        }
        Fit::Derivative => {
            let weight = |t: f64| (-1.0 / (1e-5 + t * t)).exp();
            let slope = |t: f64| original.derivative(radius * t);
            let scaled = least_squares(degree - 1, weight, slope);
            let integral = scaled.iter().enumerate();
            let integral = integral.map(|(k, c)| c / ((k + 1) as f64 * radius.powi(k as i32)));
            std::iter::once(original.value(0.0)).chain(integral).collect()
        }
    })
}

/// Panels on each side of 0.
const PANELS: usize = 256;

/// Coefficients of the polynomial in t that minimises the integral of weight times squared error on [-1, 1].
///
/// In a basis that is orthogonal for the measure the normal equations are diagonal: each coefficient is an inner product over a
/// norm. The basis is that of the discretised Stieltjes procedure (Gautschi, Orthogonal Polynomials, 2004, section 2.2):
/// P_(k+1) = (t - a_k) P_k - b_k P_(k-1), a_k = (t P_k, P_k) / (P_k, P_k), b_k = (P_k, P_k) / (P_(k-1), P_(k-1)).
fn least_squares(degree: usize, weight: impl Fn(f64) -> f64, function: impl Fn(f64) -> f64) -> Vec<f64> {
    // Gauss-Legendre quadrature with five nodes per panel; a panel begins at 0, where ReLU has its bend.
    let root = (10.0f64 / 7.0).sqrt();
    let (near, far) = ((5.0 - 2.0 * root).sqrt() / 3.0, (5.0 + 2.0 * root).sqrt() / 3.0);
    let (inner, outer) = (
        (322.0 + 13.0 * 70f64.sqrt()) / 900.0,
        (322.0 - 13.0 * 70f64.sqrt()) / 900.0,
    );
    let rule = [
        (-far, outer),
        (-near, inner),
        (0.0, 128.0 / 225.0),
        (near, inner),
        (far, outer),
    ];
    let half = 0.5 / PANELS as f64;
    let panels = (0..2 * PANELS).map(|i| (2 * i + 1) as f64 * half - 1.0);
    let nodes: Vec<(f64, f64)> = panels
        .flat_map(|centre| rule.map(|(x, w)| (centre + half * x, half * w)))
        .map(|(t, w)| (t, w * weight(t)))
        .collect();
    let product = |f: &dyn Fn(usize, f64) -> f64| -> f64 {
        nodes.iter().enumerate().map(|(i, &(t, w))| w * f(i, t)).sum()
    };
    let mut powers = vec![0.0; degree + 1];
    // The last two basis polynomials: at the nodes, and as coefficients of powers of t.
    let (mut before, mut present) = (vec![0.0; nodes.len()], vec![1.0; nodes.len()]);
    let (mut before_powers, mut present_powers) = (vec![0.0; degree + 1], vec![0.0; degree + 1]);
    present_powers[0] = 1.0;
    let mut norm_before = 1.0;
    for k in 0..=degree {
        let norm = product(&|i, _| present[i] * present[i]);
        let coefficient = product(&|i, t| function(t) * present[i]) / norm;
        for (power, basis) in powers.iter_mut().zip(&present_powers) {
            *power += coefficient * basis;
        }
        let a = product(&|i, t| t * present[i] * present[i]) / norm;
        let b = if k == 0 { 0.0 } else { norm / norm_before };
        let next = nodes.iter().zip(present.iter().zip(&before));
        let next = next.map(|((t, _), (p, q))| (t - a) * p - b * q).collect();
        before = std::mem::replace(&mut present, next);
        let shifted = std::iter::once(&0.0).chain(&present_powers);
        let next = shifted.zip(present_powers.iter().zip(&before_powers));
        let next = next.map(|(s, (p, q))| s - a * p - b * q).collect();
        before_powers = std::mem::replace(&mut present_powers, next);
        norm_before = norm;
    }
    powers
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        for (f, e) in found.iter().zip(expected) {
            let unit = if *e == 0.0 { 1.0 } else { e.abs() };
            assert!((f - e).abs() <= tolerance * unit, "{found:?} {expected:?}");
        }
    }

    /// Coefficients on [-1, 1], and those in CryptoDL's published code, which are integrated to five digits.
    #[test]
    fn cryptodl_coefficients() {
        let relu = |degree, radius| approximate(Original::Relu, Fit::Derivative, degree, radius).unwrap();
        let unit: [(usize, &[f64]); 4] = [
            (2, &[0.0, 0.5, 0.2934984]),
            (4, &[0.0, 0.5, 0.4769338, 0.0, -0.1201493]),
            (6, &[0.0, 0.5, 0.6292198, 0.0, -0.3534386, 0.0, 0.1108904]),
            (
                8,
                &[
                    0.0, 0.5, 0.7646639, 0.0, -0.7007239, 0.0, 0.4780481, 0.0, -0.1373661,
                ],
            ),
        ];
        for (degree, expected) in unit {
            close(&relu(degree, 1.0), expected, 5e-7);
        }
        close(&relu(2, 255.0)[2..], &[0.00115097145651616], 1e-5);
        close(&relu(2, 300.0)[2..], &[0.000978325738037739], 1e-5);
        close(&relu(3, 255.0)[2..], &[0.00115097145651616, 0.0], 1e-5);
        close(&relu(4, 250.0)[2..3], &[0.00190772692889526], 1e-5);
        close(&relu(6, 250.0)[2..3], &[0.00251686354209183], 1e-5);
        close(&relu(8, 255.0)[2..3], &[0.0029986590383104], 1e-5);
    }

    /// The least-squares fits with equal weight: 3 l/32 + x/2 + 15 x^2/(32 l), and of degree 4.
    #[test]
    fn direct_fits() {
        let relu = |degree, radius| approximate(Original::Relu, Fit::Direct, degree, radius).unwrap();
        close(&relu(2, 4.0), &[0.375, 0.5, 0.46875 / 4.0], 1e-8);
        close(
            &relu(4, 1.0),
            &[0.05859375, 0.5, 0.8203125, 0.0, -0.41015625],
            1e-8,
        );
    }

    #[test]
    fn smooth_functions_are_followed_more_closely_with_each_degree() {
        for (original, fit) in [
            (Original::Sigmoid, Fit::Derivative),
            (Original::Tanh, Fit::Derivative),
            (Original::Tanh, Fit::Direct),
        ] {
            let error = |degree| {
                let coefficients = approximate(original, fit, degree, 3.0).unwrap();
                let value = |x: f64| coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c);
                (-30..=30)
                    .map(|i| f64::from(i) / 10.0)
                    .map(|x| (value(x) - original.value(x)).abs())
                    .fold(0.0, f64::max)
            };
            let errors = [3, 7, 11, 15].map(error);
            assert!(
                errors.windows(2).all(|e| e[1] < 0.6 * e[0]),
                "{original:?} {errors:?}"
            );
            assert!(errors[3] < 0.06, "{errors:?}");
        }
    }

    #[test]
    fn impossible_fits_are_refused() {
        for (degree, radius) in [(0, 1.0), (33, 1.0), (2, 0.0), (2, f64::NAN), (2, f64::INFINITY)] {
            let error = approximate(Original::Relu, Fit::Derivative, degree, radius).unwrap_err();
            assert!(error.to_string().contains(&degree.to_string()), "{error}");
        }
    }
}
