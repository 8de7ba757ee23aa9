//! Polynomials to evaluate on ciphertexts, in the power basis or in the Chebyshev basis of an interval.
//!
//! [`Evaluator::polynomial`](crate::evaluate::Evaluator::polynomial) evaluates one of degree d in `ceil(log2(d + 1))` levels, the least there is,
//! with about `2 sqrt(d)` products of ciphertexts. Any function of one variable becomes one by [`Polynomial::interpolate`]:
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, keys::SecretKey, preset::Preset, polynomial::Polynomial};
//!
//! let ctx = Context::new(&Preset::by_name("n16384_q50_6x45_p2x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//! let relin = key.relin_key()?;
//!
//! let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
//! let p = Polynomial::interpolate(sigmoid, -8.0, 8.0, 15)?;
//! assert!(p.max_error(sigmoid) < 4e-3);
//! // Four levels for degree 15, and one for the change from -8..8 to -1..1.
//! assert_eq!(p.levels_needed(), 5);
//!
//! let xs = [-8.0, -1.0, 0.0, 2.5];
//! let ct = key.encrypt(&ctx.encode(&xs, 8.0)?)?;
//! let y = Evaluator::new(&ctx).polynomial(&ct, &p, &relin)?;
//! assert_eq!((y.level(), y.scale()), (1, ctx.scale(1)?));
//! for (x, got) in xs.iter().zip(ctx.decode_rounded(&key.decrypt(&y)?, 10)?) {
//!     assert!((got - p.evaluate(*x)).abs() < 1e-3);
//! }
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

mod evaluate;
mod plan;

use crate::chebyshev;
use crate::error::CkksError;
use plan::Plan;

/// Largest degree: 32 levels is the deepest a preset can be, and products there are out of reach long before.
const MAX_DEGREE: usize = 1 << 16;

/// What the coefficients multiply.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Basis {
    /// `1, x, x^2, ...`
    Power,
    /// `T_0(t), T_1(t), T_2(t), ...` with `t = (2 x - low - high) / (high - low)`.
    Chebyshev {
        /// Lower end of the interval.
        low: f64,
        /// Upper end of the interval.
        high: f64,
    },
}

impl Basis {
    /// Middle and half-width: `t = (x - middle) / radius`; 0 and 1 for the power basis.
    fn variable(self) -> (f64, f64) {
        match self {
            Self::Power => (0.0, 1.0),
            Self::Chebyshev { low, high } => (low / 2.0 + high / 2.0, high / 2.0 - low / 2.0),
        }
    }
}

/// A polynomial and the way in which it is evaluated.
#[derive(Debug, Clone)]
pub struct Polynomial {
    basis: Basis,
    /// Without zeros at the end; one at least.
    coefficients: Vec<f64>,
    plan: Plan,
}

impl Polynomial {
    /// `sum of coefficients[k] x^k`.
    ///
    /// Powers of values above 1 grow, and room in the modulus has to hold them; on an interval that is wider, or for
    /// degrees above ten or so, [`Self::to_chebyshev`] is the better form.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none or more than 65537, [`CkksError::InvalidNumber`].
    pub fn power(coefficients: &[f64]) -> Result<Self, CkksError> {
        Self::new(Basis::Power, coefficients)
    }

    /// `sum of coefficients[k] T_k((2 x - low - high) / (high - low))` for x in `low..=high`.
    ///
    /// # Errors
    /// [`CkksError::Interval`] unless low is below high and both are finite, and those of [`Self::power`].
    pub fn chebyshev(coefficients: &[f64], low: f64, high: f64) -> Result<Self, CkksError> {
        check_interval(low, high)?;
        Self::new(Basis::Chebyshev { low, high }, coefficients)
    }

    /// The Chebyshev series of `f` on an interval, cut after `degree`; [`Self::max_error`] tells how good it is.
    ///
    /// Its coefficients come from at least four times as many nodes as there are coefficients, so that the cut is
    /// near the best approximation of its degree. An odd or even function (about the middle) gives an odd or even polynomial,
    /// which costs fewer products.
    ///
    /// # Errors
    /// [`CkksError::Interval`], [`CkksError::Count`] for a degree above 65536, [`CkksError::InvalidNumber`] where f is not finite.
    pub fn interpolate(
        f: impl Fn(f64) -> f64,
        low: f64,
        high: f64,
        degree: usize,
    ) -> Result<Self, CkksError> {
        check_interval(low, high)?;
        check_degree(degree)?;
        let basis = Basis::Chebyshev { low, high };
        let (middle, radius) = basis.variable();
        let count = (4 * (degree + 1)).next_power_of_two().max(64);
        let series = chebyshev::coefficients(|t| f(middle + radius * t), degree, count);
        Self::new(basis, &series)
    }

    fn new(basis: Basis, coefficients: &[f64]) -> Result<Self, CkksError> {
        let Some(degree) = coefficients.len().checked_sub(1) else {
            return Err(CkksError::Count {
                count: 0,
                min: 1,
                max: MAX_DEGREE + 1,
            });
        };
        check_degree(degree)?;
        if let Some(index) = coefficients.iter().position(|c| !c.is_finite()) {
            return Err(CkksError::InvalidNumber {
                index,
                value: coefficients[index],
            });
        }
        let mut coefficients = coefficients.to_vec();
        while coefficients.len() > 1 && coefficients.last() == Some(&0.0) {
            coefficients.pop();
        }
        let plan = Plan::new(matches!(basis, Basis::Chebyshev { .. }), &coefficients);
        Ok(Self {
            basis,
            coefficients,
            plan,
        })
    }

    /// The same polynomial in the Chebyshev basis of an interval.
    ///
    /// # Errors
    /// [`CkksError::Interval`], [`CkksError::InvalidNumber`] if values on it are not finite.
    pub fn to_chebyshev(&self, low: f64, high: f64) -> Result<Self, CkksError> {
        Self::interpolate(|x| self.evaluate(x), low, high, self.degree())
    }

    /// The basis.
    #[must_use]
    pub fn basis(&self) -> Basis {
        self.basis
    }

    /// The coefficients, without zeros at the end.
    #[must_use]
    pub fn coefficients(&self) -> &[f64] {
        &self.coefficients
    }

    /// The degree; 0 for a constant, the zero polynomial included.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.coefficients.len() - 1
    }

    /// The value at x, in the clear.
    #[must_use]
    pub fn evaluate(&self, x: f64) -> f64 {
        match self.basis {
            Basis::Power => self.coefficients.iter().rev().fold(0.0, |y, c| y * x + c),
            Basis::Chebyshev { .. } => {
                let (middle, radius) = self.basis.variable();
                chebyshev::clenshaw(&self.coefficients, (x - middle) / radius)
            }
        }
    }

    /// The largest error against `f` on the interval (`-1..=1` for the power basis), measured, not proven: at both ends and
    /// at the zeros of a Chebyshev polynomial of 64 times the degree or more.
    #[must_use]
    pub fn max_error(&self, f: impl Fn(f64) -> f64) -> f64 {
        let (middle, radius) = self.basis.variable();
        let count = (64 * (self.degree() + 1)).next_power_of_two().max(1024);
        let mut points = chebyshev::nodes(count);
        points.extend([-1.0, 1.0]);
        points
            .into_iter()
            .map(|t| middle + radius * t)
            .map(|x| (self.evaluate(x) - f(x)).abs())
            .fold(0.0, f64::max)
    }

    /// Levels that the evaluation takes: `ceil(log2(d + 1))`, and one for the change of variable where the half-width of a
    /// Chebyshev interval is not 1 or very near, and the degree above 1 (below, coefficients take it in).
    ///
    /// That is for a ciphertext of nominal scale. One level less is needed if the layer before lands on the nominal scale divided by
    /// the half-width: [`Evaluator::polynomial_levels`](crate::evaluate::Evaluator::polynomial_levels) says what a given ciphertext takes.
    #[must_use]
    pub fn levels_needed(&self) -> usize {
        let (_, radius) = self.basis.variable();
        self.plan.depth + usize::from(!self.plan.absorbs(radius))
    }

    /// Products of two ciphertexts in the evaluation: at most the least of `2^b + 2^(D-b) + D - 4` over b for
    /// `D = ceil(log2(d + 1))` from 2 (Paterson and Stockmeyer's count, plus what minimal depth costs).
    #[must_use]
    pub fn multiplications(&self) -> usize {
        self.plan.multiplications()
    }

    /// Relinearisations in the evaluation, each followed by one rescaling. There are fewer than products, because products
    /// of one sum are relinearised together.
    #[must_use]
    pub fn relinearisations(&self) -> usize {
        self.plan.relinearisations()
    }
}

fn check_interval(low: f64, high: f64) -> Result<(), CkksError> {
    // The half-width must be a normal number too.
    if low < high && (high / 2.0 - low / 2.0).is_normal() {
        return Ok(());
    }
    Err(CkksError::Interval { low, high })
}

fn check_degree(degree: usize) -> Result<(), CkksError> {
    if degree <= MAX_DEGREE {
        return Ok(());
    }
    Err(CkksError::Count {
        count: degree.saturating_add(1),
        min: 1,
        max: MAX_DEGREE + 1,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clear_values_agree_between_bases() {
        let p = Polynomial::power(&[0.5, -1.0, 0.25, 2.0, 0.0]).unwrap();
        assert_eq!(p.degree(), 3);
        let q = p.to_chebyshev(-2.0, 3.0).unwrap();
        assert_eq!(q.basis(), Basis::Chebyshev { low: -2.0, high: 3.0 });
        for x in [-2.0, -0.3, 0.0, 1.5, 3.0] {
            let exact = 0.5 - x + 0.25 * x * x + 2.0 * x * x * x;
            assert!((p.evaluate(x) - exact).abs() < 1e-12);
            assert!((q.evaluate(x) - exact).abs() < 1e-11);
        }
        assert!(q.max_error(|x| p.evaluate(x)) < 1e-11);
    }

    #[test]
    fn interpolation_converges() {
        let tanh = f64::tanh;
        let mut last = f64::INFINITY;
        for degree in [3, 7, 15, 31] {
            let p = Polynomial::interpolate(tanh, -4.0, 4.0, degree).unwrap();
            let error = p.max_error(tanh);
            assert!(error < last / 3.0, "degree {degree}: {error}");
            assert!(p.coefficients().iter().step_by(2).all(|&c| c == 0.0));
            last = error;
        }
        let inverse = Polynomial::interpolate(|x| 1.0 / x, 1.0, 10.0, 23).unwrap();
        assert!(inverse.max_error(|x| 1.0 / x) < 1e-6);
        let exp = Polynomial::interpolate(f64::exp, -1.0, 1.0, 15).unwrap();
        assert!(exp.max_error(f64::exp) < 1e-13);
    }

    #[test]
    fn refusals() {
        assert_eq!(
            Polynomial::power(&[]).unwrap_err(),
            CkksError::Count {
                count: 0,
                min: 1,
                max: 65537
            }
        );
        assert!(matches!(
            Polynomial::power(&[1.0, f64::NAN]),
            Err(CkksError::InvalidNumber { index: 1, .. })
        ));
        for (low, high) in [
            (1.0, 1.0),
            (2.0, 1.0),
            (f64::NAN, 1.0),
            (f64::NEG_INFINITY, 1.0),
            (0.0, f64::INFINITY),
            (0.0, f64::MIN_POSITIVE / 4.0),
        ] {
            let refused = Polynomial::chebyshev(&[1.0], low, high);
            assert!(matches!(refused, Err(CkksError::Interval { .. })), "{low} {high}");
        }
        assert!(matches!(
            Polynomial::interpolate(|x| 1.0 / (x - x), 0.0, 1.0, 3),
            Err(CkksError::InvalidNumber { .. })
        ));
        assert!(matches!(
            Polynomial::interpolate(f64::exp, 0.0, 1.0, usize::MAX),
            Err(CkksError::Count { .. })
        ));
    }
}
