//! Choosing modulus, scale and noise bound of a sum, so that it opens exactly.
//!
//! Contributor i sends `c_i = a s_i + e_i + delta m_i` modulo Q. Subtracting `a` times the sum of the keys leaves
//! `E + delta M` with `E` the sum of the `e_i` and `M` the sum of the values, whatever the number of pieces. It opens
//! exactly when `|E| <= B < delta / 2` and nothing wraps around Q:
//!
//! * B: a discrete Gaussian over the integers is sub-Gaussian with its own parameter sigma (Micciancio, Peikert,
//!   "Trapdoors for Lattices", Eurocrypt 2012, lemma 2.8), and cutting a symmetric variable to an interval around zero
//!   keeps that, since the moment generating function is an average of `cosh(t x)`, which rises with `|x|`. So the
//!   sum over C contributors has `P(|E| > B) <= 2 exp(-B^2 / (2 C sigma^2))`, and over all M coefficients that the
//!   study opens, the failure is below `2^-40` for `B^2 >= 2 C sigma^2 ln 2 (41 + log2 M)`. B is never above
//!   `C * floor(6 sigma)`, which no sum exceeds.
//! * delta: the smallest power of two with `delta >= 4 (2B + 1)`. A residue that has nothing to do with the key is
//!   spread evenly over the remainders modulo delta, of which `2B + 1` are accepted: at most one in four, per coefficient.
//! * Q: `Q > 2 delta (C max + 1)`: the largest sum with its noise stays below Q/2, with more than `delta / 2` to
//!   spare.
//!
//! All of this is integer arithmetic: every party derives the same plan from the study, and [`SumPlan::check`] accepts no other.

use crate::error::PlanError;
use crate::pieces::PieceTable;
use crate::roster::Roster;
use galen_rns::primes::ntt_primes;
use galen_rns::sampling::Gaussian;
use serde::{Deserialize, Serialize};

/// Ring degree of every plan.
pub const DEGREE: u32 = 4096;
/// Largest log2 of the modulus for 128-bit security at degree 4096: "Security Guidelines for Implementing Homomorphic Encryption"
/// (Bossuat et al., ePrint 2024/463), table 5.2, row of ternary secrets and errors of sigma 3.19. The keys here are
/// Gaussian with sigma 4.6 per piece, for which larger moduli are allowed; the ternary row is the stricter one and is used.
pub const SECURITY_LOG2_Q: u32 = 106;
/// The failure probability of a whole study is below 2 to the minus this.
pub const FAILURE_BITS: u32 = 40;
/// The distribution of keys and noise: sigma is sqrt(2) times 3.19, because the sum of the keys and of the noise
/// becomes known to the receivers; given that sum, what two honest contributors hide is a Gaussian of sigma
/// 4.6 / sqrt(2) > 3.19 (Hint-RLWE; see docs/sums-proof.md).
pub const KEY_AND_NOISE: Gaussian = Gaussian::SIGMA_4_6;
/// Most contributors of a sum.
pub const MAX_CONTRIBUTORS: u32 = 1 << 20;
/// Most values of one contribution.
pub const MAX_VALUES: u64 = 1 << 28;
/// Most fractional bits of a range.
pub const MAX_FRACTION_BITS: u32 = 52;

const MAX_PRIME_BITS: u32 = 50;
/// Below this, primes that are 1 modulo 8192 are scarce, and nothing is gained.
const MIN_PRIME_BITS: u32 = 20;
/// An upper bound of ln 2, in millionths.
const LN_2_MILLIONTHS: u128 = 693_148;

/// A run of values of one kind within a contribution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueRange {
    /// How many values.
    pub count: u32,
    /// Largest absolute fixed-point value of one contributor.
    pub max_abs: u64,
    /// Fractional bits of the fixed-point encoding; carried for the reader of the sum.
    pub fraction_bits: u32,
}

/// What a plan follows from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanInputs {
    /// Most contributors of one sum.
    pub contributors: u32,
    /// The values of one contribution, in order.
    pub ranges: Vec<ValueRange>,
    /// Coefficients that the whole study may open, over all rounds and attempts: the union bound is over them.
    /// [`padded`] gives the number for one sum.
    pub study_coefficients: u64,
    /// n.
    pub custodians: u32,
    /// t.
    pub threshold: u32,
}

impl PlanInputs {
    /// Inputs for a study's members.
    pub fn for_roster(roster: &Roster, ranges: Vec<ValueRange>, study_coefficients: u64) -> Self {
        Self {
            contributors: roster.contributors().len() as u32,
            ranges,
            study_coefficients,
            custodians: roster.custodians().len() as u32,
            threshold: roster.threshold() as u32,
        }
    }

    fn values(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| u64::from(range.count))
            .fold(0, u64::saturating_add)
    }

    /// Largest absolute value of any sum, or why there is none.
    fn largest_sum(&self) -> Result<u64, PlanError> {
        let max_abs = self.ranges.iter().map(|range| range.max_abs).max().unwrap_or(0);
        let sum = u64::from(self.contributors).checked_mul(max_abs);
        sum.filter(|sum| *sum < 1 << 62).ok_or(PlanError::SumTooLarge {
            contributors: self.contributors,
            max_abs,
        })
    }

    fn validate(&self) -> Result<(), PlanError> {
        if self.contributors == 0 || self.contributors > MAX_CONTRIBUTORS {
            return Err(PlanError::Contributors {
                contributors: self.contributors,
                max: MAX_CONTRIBUTORS,
            });
        }
        for (index, range) in self.ranges.iter().enumerate() {
            if range.count == 0 || range.max_abs == 0 || range.fraction_bits > MAX_FRACTION_BITS {
                return Err(PlanError::Range {
                    index,
                    max_fraction: MAX_FRACTION_BITS,
                });
            }
        }
        let values = self.values();
        if values == 0 || values > MAX_VALUES {
            return Err(PlanError::Values {
                values,
                max: MAX_VALUES,
            });
        }
        if self.study_coefficients < padded(values) {
            return Err(PlanError::StudyCoefficients {
                said: self.study_coefficients,
                needed: padded(values),
            });
        }
        PieceTable::new(self.custodians as usize, self.threshold as usize).map(|_| ())
    }
}

/// Coefficients of a sum of this many values: whole blocks.
pub fn padded(values: u64) -> u64 {
    values
        .div_ceil(u64::from(DEGREE))
        .saturating_mul(u64::from(DEGREE))
}

/// The parameters of one sum.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SumPlan {
    /// What the plan follows from.
    pub inputs: PlanInputs,
    /// Ring degree.
    pub degree: u32,
    /// One or two primes below `2^50`, equal to 1 modulo `2 * degree`.
    pub primes: Vec<u64>,
    /// The power of two that the values are multiplied by.
    pub delta: u64,
    /// B: the largest remainder that is accepted.
    pub noise_bound: u64,
}

impl SumPlan {
    /// The plan that follows from the inputs.
    ///
    /// # Errors
    /// Which input contradicts another, or [`PlanError::Overflow`] if no allowed modulus holds the largest sum.
    pub fn new(inputs: &PlanInputs) -> Result<Self, PlanError> {
        inputs.validate()?;
        let noise_bound = noise_bound(inputs.contributors, inputs.study_coefficients);
        let delta = delta_for(noise_bound);
        let capacity = capacity(delta, inputs.largest_sum()?);
        let primes = primes_above(capacity)?;
        Ok(Self {
            inputs: inputs.clone(),
            degree: DEGREE,
            primes,
            delta,
            noise_bound,
        })
    }

    /// Checks a plan that came from elsewhere against inputs that were derived here.
    ///
    /// # Errors
    /// The first property that does not hold; [`PlanError::NotDerived`] for a plan that is safe but is not the derived one.
    pub fn check(&self, inputs: &PlanInputs) -> Result<(), PlanError> {
        inputs.validate()?;
        if &self.inputs != inputs {
            return Err(PlanError::Inputs);
        }
        let below = |prime: &u64| *prime > 1 && *prime >> MAX_PRIME_BITS == 0;
        if self.degree != DEGREE || !(1..=2).contains(&self.primes.len()) || !self.primes.iter().all(below) {
            return Err(PlanError::Ring { degree: DEGREE });
        }
        let modulus: u128 = self.primes.iter().map(|&prime| u128::from(prime)).product();
        let bits = 128 - modulus.leading_zeros();
        if bits > SECURITY_LOG2_Q {
            return Err(PlanError::Security {
                bits,
                bound: SECURITY_LOG2_Q,
            });
        }
        let needed = noise_bound(inputs.contributors, inputs.study_coefficients);
        if self.noise_bound != needed {
            return Err(PlanError::NoiseBound {
                said: self.noise_bound,
                needed,
            });
        }
        let needed = delta_for(needed);
        if self.delta != needed {
            return Err(PlanError::Delta {
                said: self.delta,
                needed,
            });
        }
        if modulus <= capacity(needed, inputs.largest_sum()?) {
            return Err(PlanError::Capacity { bits });
        }
        if *self != Self::new(inputs)? {
            return Err(PlanError::NotDerived);
        }
        Ok(())
    }

    /// Number of values of one contribution.
    pub fn values(&self) -> u64 {
        self.inputs.values()
    }

    /// Number of blocks of `degree` values; the last one is filled up with zeros.
    pub fn blocks(&self) -> u32 {
        self.values().div_ceil(u64::from(DEGREE)) as u32
    }

    /// The largest absolute value of each position, in order.
    pub fn bounds(&self) -> impl Iterator<Item = u64> + '_ {
        let runs = self.inputs.ranges.iter();
        runs.flat_map(|range| std::iter::repeat_n(range.max_abs, range.count as usize))
    }

    /// log2 of the modulus.
    pub fn log2_q(&self) -> f64 {
        self.primes.iter().map(|&prime| (prime as f64).log2()).sum()
    }

    /// The largest [`Self::log2_q`] that 128-bit security allows at this degree.
    pub fn security_bound(&self) -> u32 {
        SECURITY_LOG2_Q
    }

    /// The study fails with probability below 2 to the minus this.
    pub fn failure_bits(&self) -> u32 {
        FAILURE_BITS
    }

    /// Bits of one value's residues as they are written.
    pub fn bits_per_value(&self) -> u32 {
        self.primes
            .iter()
            .map(|prime| u64::BITS - prime.leading_zeros())
            .sum()
    }

    /// Bytes that a value costs in a full block.
    pub fn bytes_per_value(&self) -> f64 {
        f64::from(self.bits_per_value()) / 8.0
    }

    /// Exact length of a ciphertext or sum blob.
    pub fn blob_len(&self) -> u64 {
        let block = u64::from(DEGREE) / 8 * u64::from(self.bits_per_value());
        crate::blob::HEADER_LEN as u64 + u64::from(self.blocks()) * block
    }
}

/// The smallest integer bound that the absolute value of a sum of `terms` independent samples of [`KEY_AND_NOISE`] exceeds
/// with probability at most `2^-exponent`: `sigma sqrt(2 terms ln 2 (exponent + 1))`, see the module's documentation; never
/// above the sum of their largest values.
pub fn tail_bound(terms: u64, exponent: u32) -> u64 {
    let sigma = u128::from(KEY_AND_NOISE.sigma_hundredths());
    let terms = u128::from(terms);
    // At most 2 * 2^64 * 460^2 * 693148 * 2^24 < 2^127, in units of 10^-10.
    let square = 2 * terms * sigma * sigma * LN_2_MILLIONTHS * (u128::from(exponent.min(u32::MAX >> 8)) + 1);
    let square = square.div_ceil(10_000_000_000);
    let root = square.isqrt();
    let tail = if root * root < square { root + 1 } else { root };
    let hard = terms * u128::from(KEY_AND_NOISE.bound().unsigned_abs());
    u64::try_from(tail.min(hard)).unwrap_or(u64::MAX)
}

/// B, as the module's documentation derives it.
fn noise_bound(contributors: u32, coefficients: u64) -> u64 {
    // log2 of the number of coefficients, rounded up.
    let log2 = u64::BITS - coefficients.saturating_sub(1).leading_zeros();
    tail_bound(contributors.into(), FAILURE_BITS + log2)
}

fn delta_for(noise_bound: u64) -> u64 {
    (4 * (2 * noise_bound + 1)).next_power_of_two()
}

/// What Q must exceed.
fn capacity(delta: u64, largest_sum: u64) -> u128 {
    2 * u128::from(delta) * (u128::from(largest_sum) + 1)
}

/// The shortest modulus above `capacity`: one prime where it is below `2^50`, else two of even length.
fn primes_above(capacity: u128) -> Result<Vec<u64>, PlanError> {
    for bits in MIN_PRIME_BITS..=2 * MAX_PRIME_BITS {
        if capacity >> bits != 0 {
            continue;
        }
        let degree = DEGREE as usize;
        let (high, low) = (bits.div_ceil(2), bits / 2);
        let primes = if bits <= MAX_PRIME_BITS {
            ntt_primes(degree, bits, 1, &[])?
        } else if high == low {
            ntt_primes(degree, high, 2, &[])?
        } else {
            [
                ntt_primes(degree, high, 1, &[])?,
                ntt_primes(degree, low, 1, &[])?,
            ]
            .concat()
        };
        if primes.iter().map(|&prime| u128::from(prime)).product::<u128>() > capacity {
            return Ok(primes);
        }
    }
    Err(PlanError::Overflow {
        needed: 128 - capacity.leading_zeros(),
        max: 2 * MAX_PRIME_BITS,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn inputs(contributors: u32, max_abs: u64) -> PlanInputs {
        PlanInputs {
            contributors,
            ranges: vec![ValueRange {
                count: 5000,
                max_abs,
                fraction_bits: 24,
            }],
            study_coefficients: 1 << 30,
            custodians: 5,
            threshold: 3,
        }
    }

    #[test]
    fn the_figures_of_the_large_example() {
        // 1,000 contributors, 24 fractional bits, weights up to 2^14: the noise bound follows the formula.
        let plan = SumPlan::new(&inputs(1000, 1 << 38)).unwrap();
        let formula = 4.6 * (2.0 * 1000.0 * 2f64.ln() * (41.0 + 30.0)).sqrt();
        assert_eq!(plan.noise_bound, formula.ceil() as u64);
        assert_eq!(plan.delta, 1 << 14);
        assert_eq!(plan.primes.len(), 2);
        assert!(plan.log2_q() <= f64::from(SECURITY_LOG2_Q));
        assert!(plan.bytes_per_value() <= 8.0, "{}", plan.bytes_per_value());
    }

    #[test]
    fn one_prime_where_the_bits_allow() {
        let plan = SumPlan::new(&inputs(4, 1 << 26)).unwrap();
        assert_eq!(plan.primes.len(), 1);
        let modulus = u128::from(plan.primes[0]);
        assert!(modulus > capacity(plan.delta, 4 << 26));
        // No shorter prime would do.
        assert!(modulus / 2 < capacity(plan.delta, 4 << 26));
    }

    #[test]
    fn few_contributors_never_exceed_the_hard_bound() {
        assert_eq!(noise_bound(1, 1 << 40), 27);
        assert_eq!(noise_bound(2, 1 << 40), 54);
        assert!(noise_bound(1000, 1 << 40) < 27_000);
    }

    #[test]
    fn what_could_overflow_is_refused() {
        assert!(matches!(
            SumPlan::new(&inputs(1 << 20, u64::MAX)),
            Err(PlanError::SumTooLarge { .. })
        ));
        assert!(matches!(
            SumPlan::new(&inputs(4, 1 << 60)),
            Err(PlanError::SumTooLarge { .. })
        ));
        assert!(SumPlan::new(&inputs(4, (1 << 60) - 1)).is_ok());
        assert!(matches!(
            SumPlan::new(&inputs(0, 1)),
            Err(PlanError::Contributors { .. })
        ));
        assert!(matches!(
            SumPlan::new(&inputs(2 << 20, 1)),
            Err(PlanError::Contributors { .. })
        ));
        assert!(matches!(
            SumPlan::new(&inputs(4, 0)),
            Err(PlanError::Range { index: 0, .. })
        ));
        let short = PlanInputs {
            study_coefficients: 8191,
            ..inputs(4, 1)
        };
        assert!(matches!(
            SumPlan::new(&short),
            Err(PlanError::StudyCoefficients { needed: 8192, .. })
        ));
        let empty = PlanInputs {
            ranges: Vec::new(),
            ..inputs(4, 1)
        };
        assert!(matches!(
            SumPlan::new(&empty),
            Err(PlanError::Values { values: 0, .. })
        ));
        let many = ValueRange {
            count: u32::MAX,
            max_abs: 1,
            fraction_bits: 0,
        };
        let many = PlanInputs {
            ranges: vec![many; 3],
            study_coefficients: u64::MAX,
            ..inputs(4, 1)
        };
        assert!(matches!(SumPlan::new(&many), Err(PlanError::Values { .. })));
        assert!(matches!(
            primes_above(1 << 101),
            Err(PlanError::Overflow {
                needed: 102,
                max: 100
            })
        ));
    }

    #[test]
    fn a_plan_that_lies_by_a_bit_is_refused() {
        for (contributors, max_abs) in [(4, 1 << 26), (1000, 1 << 38)] {
            let inputs = inputs(contributors, max_abs);
            let plan = SumPlan::new(&inputs).unwrap();
            plan.check(&inputs).unwrap();
            let bits = plan.bits_per_value() - 1;
            let shorter = if plan.primes.len() == 1 {
                ntt_primes(4096, bits, 1, &[]).unwrap()
            } else {
                let high = ntt_primes(4096, bits.div_ceil(2), 1, &[]).unwrap();
                [high.clone(), ntt_primes(4096, bits / 2, 1, &high).unwrap()].concat()
            };
            let lie = SumPlan {
                primes: shorter,
                ..plan.clone()
            };
            assert!(matches!(lie.check(&inputs), Err(PlanError::Capacity { .. })));
            for delta in [plan.delta / 2, plan.delta * 2] {
                let lie = SumPlan {
                    delta,
                    ..plan.clone()
                };
                assert!(matches!(lie.check(&inputs), Err(PlanError::Delta { .. })));
            }
            for noise_bound in [plan.noise_bound - 1, plan.noise_bound + 1, plan.noise_bound * 2] {
                let lie = SumPlan {
                    noise_bound,
                    ..plan.clone()
                };
                assert!(matches!(lie.check(&inputs), Err(PlanError::NoiseBound { .. })));
            }
            let mut lie = plan.clone();
            lie.inputs.ranges[0].max_abs *= 2;
            assert_eq!(lie.check(&inputs), Err(PlanError::Inputs));
            let lie = SumPlan {
                degree: 2048,
                ..plan.clone()
            };
            assert!(matches!(lie.check(&inputs), Err(PlanError::Ring { .. })));
            let lie = SumPlan {
                primes: vec![u64::MAX, u64::MAX],
                ..plan.clone()
            };
            assert!(matches!(lie.check(&inputs), Err(PlanError::Ring { .. })));
            let large = ntt_primes(4096, 50, 2, &[]).unwrap();
            assert_eq!(
                SumPlan {
                    primes: large,
                    ..plan.clone()
                }
                .check(&inputs),
                Err(PlanError::NotDerived)
            );
        }
    }

    #[test]
    fn every_plan_is_below_the_security_bound() {
        let largest = SumPlan::new(&PlanInputs {
            study_coefficients: u64::MAX,
            ..inputs(MAX_CONTRIBUTORS, (1 << 42) - 1)
        });
        let largest = largest.unwrap();
        assert!(largest.log2_q() < f64::from(SECURITY_LOG2_Q));
    }

    proptest! {
        #[test]
        fn every_plan_holds_its_largest_sum(contributors in 1u32..100_000, max_bits in 0u32..44, study in 14u32..63) {
            let inputs = PlanInputs { study_coefficients: 1 << study, ..inputs(contributors, 1 << max_bits) };
            let plan = SumPlan::new(&inputs).unwrap();
            plan.check(&inputs).unwrap();
            let modulus: u128 = plan.primes.iter().map(|&p| u128::from(p)).product();
            let largest = u128::from(contributors) << max_bits;
            prop_assert!(u128::from(plan.delta) * largest + u128::from(plan.noise_bound) <= (modulus - 1) / 2);
            prop_assert!(4 * (2 * plan.noise_bound + 1) <= plan.delta);
            prop_assert!(f64::from(plan.bits_per_value()) >= plan.log2_q());
            let sigma = 4.6 * f64::from(contributors).sqrt();
            let tail = sigma * (2.0 * 2f64.ln() * f64::from(41 + study)).sqrt();
            prop_assert!(plan.noise_bound as f64 >= tail.min(27.0 * f64::from(contributors)) - 1e-6);
        }
    }
}
