//! A circuit's noise before it runs: the same operations on bounds alone.
//!
//! Mirrors what [`galen_ckks::evaluate::Evaluator`] does to the budgets of ciphertexts, without ciphertexts. A test holds the two
//! together: the bounds planned here are those that a real answer carries.

use crate::circuit::{Arithmetic, Size};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use galen_ckks::linear::LinearMap;
use galen_ckks::noise::{Budget, NoiseModel};
use std::sync::Arc;

/// The sampler's limit; more does not fit a modulus of one prime either.
const MAX_FLOODING_BITS: f64 = 58.0;

/// Coefficients of an encoding have fewer bits.
const MAX_PLAIN_BITS: f64 = 120.0;

/// What is known of a ciphertext that does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) level: usize,
    pub(crate) degree: usize,
    pub(crate) budget: Budget,
    /// How large entries are for most patients, where the budget's magnitude bounds them for all.
    pub(crate) typical: f64,
    /// The noise in the entry of a typical patient if that of different ciphertexts and operations were independent, at the same number of
    /// deviations as the bound: squares add up where the bound adds up sizes. An estimate, not a bound: features that share an input share
    /// its noise, and products with large entries have more.
    pub(crate) expected: f64,
}

impl Bound {
    /// Bits after the binary point that are right if noises are independent.
    pub(crate) fn expected_bits(&self) -> f64 {
        (self.budget.scale / self.expected).log2()
    }
}

/// Computes with bounds under one preset.
pub(crate) struct Bounds {
    context: Arc<Context>,
    noise: NoiseModel,
    /// Whether noise bounds must stay below the scale.
    guaranteed: bool,
}

impl Bounds {
    pub(crate) fn new(context: &Arc<Context>, guaranteed: bool) -> Self {
        Self {
            context: Arc::clone(context),
            noise: NoiseModel::of_kind(context.preset().spec().ring, context.degree()),
            guaranteed,
        }
    }

    pub(crate) fn checked(&self, bound: Bound) -> Result<Bound, CkksError> {
        bound.budget.check_fits(self.context.log2_q(bound.level)?)?;
        if self.guaranteed {
            bound.budget.check_precision(0.0)?;
        }
        Ok(bound)
    }

    /// A fresh encryption under the secret key of values up to `magnitude`.
    pub(crate) fn fresh(&self, level: usize, scale: f64, magnitude: f64) -> Result<Bound, CkksError> {
        let noise = self.noise.encoding(scale * magnitude) + self.noise.fresh_secret();
        self.checked(Bound {
            level,
            degree: 1,
            budget: Budget {
                scale,
                magnitude,
                noise,
            },
            typical: magnitude,
            expected: noise,
        })
    }

    /// Re-randomised under the public key, by a fresh zero and flooding of this many bits if any.
    pub(crate) fn rerandomised(&self, a: &Bound, flooding_bits: Option<u32>) -> Result<Bound, CkksError> {
        let zero = self.noise.fresh_public();
        let Some(flooding_bits) = flooding_bits else {
            return self.noisier(a, 1, zero);
        };
        let bits = (a.budget.noise.log2().ceil() + f64::from(flooding_bits)).max(1.0);
        if bits > MAX_FLOODING_BITS {
            return Err(CkksError::Overflow {
                needed_bits: bits,
                available_bits: self.context.log2_q(a.level)?,
            });
        }
        let flooding = self.noise.flooding(bits as u32);
        self.noisier(a, 1, zero + flooding)
    }

    pub(crate) fn noisier(&self, a: &Bound, degree: usize, noise: f64) -> Result<Bound, CkksError> {
        self.checked(Bound {
            degree,
            budget: a.budget.plus_noise(noise),
            expected: a.expected.hypot(noise),
            ..*a
        })
    }

    /// Moduli of the digits of key switching at a level, which have as many primes as the preset says, and the special modulus.
    fn digits(&self, level: usize) -> (Vec<f64>, f64) {
        let preset = self.context.preset();
        let product = |primes: &[u64]| -> f64 { primes.iter().map(|&p| p as f64).product() };
        let own = preset.primes().get(..=level).unwrap_or(preset.primes());
        let digits = own.chunks(preset.spec().digit).map(product).collect();
        (digits, product(preset.special_primes()))
    }

    /// What switching keys at a level adds before its division by the special primes, in units after it, and with the rounding of that.
    pub(crate) fn switching(&self, level: usize) -> (f64, f64) {
        let (digits, special) = self.digits(level);
        (
            self.noise.digits(&digits, special),
            self.noise.key_switch(&digits, special),
        )
    }

    /// Numbers up to `magnitude` as a plaintext.
    pub(crate) fn plain(&self, magnitude: f64, level: usize, scale: f64) -> Result<Budget, CkksError> {
        let budget = Budget {
            scale,
            magnitude,
            noise: self.noise.encoding(scale * magnitude),
        };
        budget.check_fits(self.context.log2_q(level)?.min(MAX_PLAIN_BITS))?;
        Ok(budget)
    }

    /// Of degree 1, and divided by the prime of its level this many times.
    fn relinearised(&self, mut sum: Bound, divisions: usize) -> Result<Bound, CkksError> {
        let mut left = divisions;
        if sum.degree == 2 {
            let (digits, special) = self.digits(sum.level);
            sum = match divisions {
                0 => self.noisier(&sum, 1, self.noise.key_switch(&digits, special))?,
                // One division by the special primes and that of the level together.
                _ => {
                    left -= 1;
                    let switched = self.noisier(&sum, 1, self.noise.digits(&digits, special))?;
                    self.rescaled(&switched)?
                }
            };
        }
        for _ in 0..left {
            sum = self.rescaled(&sum)?;
        }
        Ok(sum)
    }

    /// Divided by the prime of its level.
    pub(crate) fn rescaled(&self, a: &Bound) -> Result<Bound, CkksError> {
        let prime = match (a.level, self.context.preset().primes().get(a.level)) {
            (1.., Some(&prime)) => prime as f64,
            _ => return Err(CkksError::NoLevelLeft),
        };
        let rounding = self.noise.rounding(a.degree);
        self.checked(Bound {
            level: a.level - 1,
            budget: a.budget.divided(prime, rounding, a.budget.scale / prime),
            expected: (a.expected / prime).hypot(rounding),
            ..*a
        })
    }
}

impl Arithmetic for Bounds {
    type Value = Bound;

    fn apply(&self, map: &LinearMap, inputs: &[&Bound], target: Target) -> Result<Vec<Bound>, CkksError> {
        let degree = inputs.iter().map(|x| x.degree).max().unwrap_or(1);
        let sum = |output: usize| {
            let start = Budget {
                scale: target.scale,
                magnitude: 0.0,
                noise: 1.0,
            };
            let (mut budget, mut squares, mut typical) = (start, 1.0, 0.0);
            for (input, weight) in map.row(output) {
                let x = inputs[input];
                let exact = weight * (target.scale / x.budget.scale);
                let term = x.budget.weighted(weight, exact.round(), exact, target.scale);
                budget = budget.sum(&term);
                let own = exact.round() * x.expected;
                // The rounding of a weight counts by what it is multiplied with.
                let part = match x.budget.magnitude {
                    0.0 => 0.0,
                    magnitude => x.typical / magnitude,
                };
                let rounding = (term.noise - (exact.round() * x.budget.noise).abs()) * part;
                squares += own * own + rounding * rounding;
                typical += weight.abs() * x.typical;
            }
            self.checked(Bound {
                level: target.level,
                degree,
                budget,
                typical,
                expected: squares.sqrt(),
            })
        };
        (0..map.outputs()).map(sum).collect()
    }

    fn square(&self, a: &Bound) -> Result<Bound, CkksError> {
        let message = 2.0 * a.budget.scale * a.typical;
        self.checked(Bound {
            degree: 2,
            budget: a.budget.product(&a.budget),
            typical: a.typical * a.typical,
            expected: (message + a.expected) * a.expected,
            ..*a
        })
    }

    fn square_divided(&self, a: &Bound, divisions: usize) -> Result<Bound, CkksError> {
        self.relinearised(self.square(a)?, divisions)
    }

    fn finish(&self, a: Bound, constant: f64, divisions: usize) -> Result<Bound, CkksError> {
        let sum = self.checked(Bound {
            budget: a.budget.plus_constant(constant),
            typical: a.typical + constant.abs(),
            ..a
        })?;
        self.relinearised(sum, divisions)
    }

    fn at_level(&self, a: Bound, level: usize) -> Result<Bound, CkksError> {
        if level == a.level {
            return Ok(a);
        }
        self.checked(Bound { level, ..a })
    }

    fn within(&self, a: Bound, size: Size) -> Result<Bound, CkksError> {
        let magnitude = size.largest.min(a.budget.magnitude);
        let budget = Budget {
            magnitude,
            ..a.budget
        };
        budget.check_fits(self.context.log2_q(a.level)?)?;
        Ok(Bound {
            budget,
            typical: size.typical.min(a.typical),
            ..a
        })
    }
}
