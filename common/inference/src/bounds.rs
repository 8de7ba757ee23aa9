//! A circuit's noise before it runs: the same operations on bounds alone.
//!
//! Mirrors what [`galen_ckks::evaluate::Evaluator`] does to the budgets of ciphertexts, without ciphertexts. A test holds the two
//! together: the bounds planned here are those that a real answer carries.

use crate::circuit::Arithmetic;
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use galen_ckks::noise::{Budget, NoiseModel};
use std::sync::Arc;

/// The sampler's limit; more does not fit a modulus of one prime either.
const MAX_FLOODING_BITS: f64 = 58.0;

/// What is known of a ciphertext that does not exist yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Bound {
    pub(crate) level: usize,
    pub(crate) degree: usize,
    pub(crate) budget: Budget,
}

/// Computes with bounds under one preset.
pub(crate) struct Bounds {
    context: Arc<Context>,
    noise: NoiseModel,
}

impl Bounds {
    pub(crate) fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            noise: NoiseModel::of_kind(context.preset().spec().ring, context.degree()),
        }
    }

    fn checked(&self, level: usize, degree: usize, budget: Budget) -> Result<Bound, CkksError> {
        budget.check_fits(self.context.log2_q(level)?)?;
        budget.check_precision(0.0)?;
        Ok(Bound {
            level,
            degree,
            budget,
        })
    }

    /// A fresh encryption under the secret key, at the nominal scale of `level`, of values up to `magnitude`.
    pub(crate) fn fresh(&self, level: usize, magnitude: f64) -> Result<Bound, CkksError> {
        let scale = self.context.scale(level)?;
        let noise = self.noise.encoding(scale * magnitude) + self.noise.fresh_secret();
        let budget = Budget {
            scale,
            magnitude,
            noise,
        };
        self.checked(level, 1, budget)
    }

    /// Re-randomised under the public key, by a fresh zero and flooding of this many bits if any.
    pub(crate) fn rerandomised(&self, a: &Bound, flooding_bits: Option<u32>) -> Result<Bound, CkksError> {
        let zero = self.noise.fresh_public();
        let Some(flooding_bits) = flooding_bits else {
            return self.checked(a.level, 1, a.budget.plus_noise(zero));
        };
        let bits = (a.budget.noise.log2().ceil() + f64::from(flooding_bits)).max(1.0);
        if bits > MAX_FLOODING_BITS {
            return Err(CkksError::Overflow {
                needed_bits: bits,
                available_bits: self.context.log2_q(a.level)?,
            });
        }
        let flooding = self.noise.flooding(bits as u32);
        self.checked(a.level, 1, a.budget.plus_noise(zero + flooding))
    }

    /// Noise of key switching at a level, whose digits are of as many primes as the preset says.
    fn switching(&self, level: usize) -> f64 {
        let preset = self.context.preset();
        let product = |primes: &[u64]| -> f64 { primes.iter().map(|&p| p as f64).product() };
        let own = preset.primes().get(..=level).unwrap_or(preset.primes());
        let digits: Vec<f64> = own.chunks(preset.spec().digit).map(product).collect();
        self.noise.key_switch(&digits, product(preset.special_primes()))
    }
}

impl Arithmetic for Bounds {
    type Value = Bound;

    fn linear(&self, inputs: &[&Bound], rows: &[&[f64]], target: Target) -> Result<Vec<Bound>, CkksError> {
        let degree = inputs.iter().map(|x| x.degree).max().unwrap_or(1);
        let sum = |row: &&[f64]| {
            let start = Budget {
                scale: target.scale,
                magnitude: 0.0,
                noise: 1.0,
            };
            let add = |sum: Budget, (x, &weight): (&&Bound, &f64)| {
                let exact = weight * (target.scale / x.budget.scale);
                sum.sum(&x.budget.weighted(weight, exact.round(), exact, target.scale))
            };
            let budget = inputs.iter().zip(row.iter()).fold(start, add);
            self.checked(target.level, degree, budget)
        };
        rows.iter().map(sum).collect()
    }

    fn add(&self, a: &Bound, b: &Bound) -> Result<Bound, CkksError> {
        self.checked(a.level, a.degree.max(b.degree), a.budget.sum(&b.budget))
    }

    fn sub(&self, a: &Bound, b: &Bound) -> Result<Bound, CkksError> {
        self.add(a, b)
    }

    fn add_scalar(&self, a: &Bound, constant: f64) -> Result<Bound, CkksError> {
        self.checked(a.level, a.degree, a.budget.plus_constant(constant))
    }

    fn square(&self, a: &Bound) -> Result<Bound, CkksError> {
        self.checked(a.level, 2, a.budget.product(&a.budget))
    }

    fn relinearise(&self, a: &Bound) -> Result<Bound, CkksError> {
        if a.degree < 2 {
            return Ok(*a);
        }
        self.checked(a.level, 1, a.budget.plus_noise(self.switching(a.level)))
    }

    fn rescale(&self, a: &Bound) -> Result<Bound, CkksError> {
        let prime = match (a.level, self.context.preset().primes().get(a.level)) {
            (1.., Some(&prime)) => prime as f64,
            _ => return Err(CkksError::NoLevelLeft),
        };
        let rounding = self.noise.rounding(a.degree);
        let budget = a.budget.divided(prime, rounding, a.budget.scale / prime);
        self.checked(a.level - 1, a.degree, budget)
    }
}
