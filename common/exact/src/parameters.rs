//! Parameter sets: lattices, decompositions, and the noise that they make.

use galen_core::{Digest, Transcript};
use tfhe::core_crypto::commons::noise_formulas::centered_mean_shifted_modulus_switch::centered_binary_shifted_modulus_switch_additive_variance;
use tfhe::core_crypto::commons::noise_formulas::lwe_keyswitch::keyswitch_additive_variance_132_bits_security_gaussian;
use tfhe::core_crypto::commons::noise_formulas::lwe_programmable_bootstrap::pbs_variance_132_bits_security_gaussian_fft_mul;
use tfhe::core_crypto::commons::noise_formulas::secure_noise::minimal_lwe_variance_for_132_bits_security_gaussian;
use tfhe::core_crypto::prelude::{
    DecompositionBaseLog, DecompositionLevelCount, DynamicDistribution, GlweDimension, LweDimension,
    PolynomialSize,
};
use tfhe::shortint::parameters::ClassicPBSParameters;
use tfhe::shortint::parameters::v1_1::V1_1_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M40;
use tfhe::shortint::parameters::v1_4::{
    V1_4_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128, V1_4_PARAM_MESSAGE_2_CARRY_3_KS_PBS_GAUSSIAN_2M128,
    V1_4_PARAM_MESSAGE_2_CARRY_4_KS_PBS_GAUSSIAN_2M128,
};

/// 2^64 as the formulas take it.
const MODULUS: f64 = 18_446_744_073_709_551_616.0;
/// Bits of the mantissa of the floating-point Fourier transform.
const MANTISSA: f64 = 53.0;
/// Upper bits of the bootstrapping key's bodies that are kept: its noise hides the rest.
pub(crate) const KEY_BITS: u32 = 48;
/// Parameters are printed with about ten digits; what they miss of the bound by rounding is no loss of security.
const ROUNDING: f64 = 1.0 - 1e-3;

/// Lattice and decomposition of a bootstrap, all moduli 2^64 and all keys binary.
///
/// Dimensions and noise are those of a published parameter set of TFHE-rs, which security depends on; where the decomposition of a
/// set differs from the published one, its name says so: it changes noise and speed only.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ParameterSet {
    name: &'static str,
    source: &'static str,
    lwe_dimension: usize,
    polynomial_size: usize,
    lwe_deviation: f64,
    glwe_deviation: f64,
    pbs_base_log: usize,
    pbs_level: usize,
    ks_base_log: usize,
    ks_level: usize,
}

impl ParameterSet {
    /// All sets, from the cheapest bootstrap to the dearest.
    pub fn all() -> Vec<Self> {
        let published = [
            (
                "n796_N2048_l1",
                "V1_1_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M40",
                V1_1_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M40,
            ),
            (
                "n866_N2048_l1",
                "V1_4_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128",
                V1_4_PARAM_MESSAGE_2_CARRY_2_KS_PBS_GAUSSIAN_2M128,
            ),
            (
                "n930_N4096_l2",
                "V1_4_PARAM_MESSAGE_2_CARRY_3_KS_PBS_GAUSSIAN_2M128",
                V1_4_PARAM_MESSAGE_2_CARRY_3_KS_PBS_GAUSSIAN_2M128,
            ),
            (
                "n1007_N8192_l2",
                "V1_4_PARAM_MESSAGE_2_CARRY_4_KS_PBS_GAUSSIAN_2M128",
                V1_4_PARAM_MESSAGE_2_CARRY_4_KS_PBS_GAUSSIAN_2M128,
            ),
        ];
        let mut sets: Vec<Self> = published
            .iter()
            .filter_map(|(name, source, set)| Self::published(name, source, set))
            .collect();
        let finer = [
            ("n796_N2048_l2", "n796_N2048_l1", 15, 2),
            ("n866_N2048_l2", "n866_N2048_l1", 15, 2),
            ("n930_N4096_l3", "n930_N4096_l2", 12, 3),
            ("n1007_N8192_l3", "n1007_N8192_l2", 12, 3),
        ];
        for (name, of, pbs_base_log, pbs_level) in finer {
            if let Some(&set) = sets.iter().find(|set| set.name == of) {
                sets.push(Self {
                    name,
                    pbs_base_log,
                    pbs_level,
                    ..set
                });
            }
        }
        sets.sort_by(|a, b| a.cost().total_cmp(&b.cost()));
        sets
    }

    /// The set that keys, queries and answers name by this digest.
    pub fn of_digest(digest: &Digest) -> Option<Self> {
        Self::all().into_iter().find(|set| set.digest() == *digest)
    }

    /// The set of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::all().into_iter().find(|set| set.name == name)
    }

    fn published(name: &'static str, source: &'static str, set: &ClassicPBSParameters) -> Option<Self> {
        let deviation = |distribution: DynamicDistribution<u64>| match distribution {
            DynamicDistribution::Gaussian(gaussian) => Some(gaussian.std),
            DynamicDistribution::TUniform(_) => None,
        };
        (set.glwe_dimension.0 == 1).then_some(Self {
            name,
            source,
            lwe_dimension: set.lwe_dimension.0,
            polynomial_size: set.polynomial_size.0,
            lwe_deviation: deviation(set.lwe_noise_distribution)?,
            glwe_deviation: deviation(set.glwe_noise_distribution)?,
            pbs_base_log: set.pbs_base_log.0,
            pbs_level: set.pbs_level.0,
            ks_base_log: set.ks_base_log.0,
            ks_level: set.ks_level.0,
        })
    }

    /// Its name here.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The set of TFHE-rs whose dimensions and noise it has.
    pub fn source(&self) -> &'static str {
        self.source
    }

    /// n: the dimension in which bootstraps read.
    pub fn lwe_dimension(&self) -> usize {
        self.lwe_dimension
    }

    /// What a bootstrap costs, in multiplications of its Fourier transforms up to a constant: n external products of 2 l + 2 transforms.
    pub fn cost(&self) -> f64 {
        let size = self.polynomial_size as f64;
        self.lwe_dimension as f64 * (2 * self.pbs_level + 2) as f64 * size * size.log2()
    }

    /// N: the ring degree of bootstraps, and the dimension in which they write.
    pub fn polynomial_size(&self) -> usize {
        self.polynomial_size
    }

    /// Whether both lattices have at least the noise that TFHE-rs demands for 132-bit security by the lattice estimator
    /// (`minimal_lwe_variance_for_132_bits_security_gaussian`): the gate that every set must pass to be used.
    pub fn is_secure(&self) -> bool {
        let enough = |dimension: usize, deviation: f64| {
            let minimum =
                minimal_lwe_variance_for_132_bits_security_gaussian(LweDimension(dimension), MODULUS).0;
            deviation * deviation >= minimum * ROUNDING
        };
        enough(self.lwe_dimension, self.lwe_deviation) && enough(self.polynomial_size, self.glwe_deviation)
    }

    /// Security in bits of the sets that pass [`ParameterSet::is_secure`], at least.
    pub const SECURITY_BITS: u32 = 128;

    pub(crate) fn lwe_noise(&self) -> DynamicDistribution<u64> {
        use tfhe::core_crypto::prelude::StandardDev;
        DynamicDistribution::new_gaussian_from_std_dev(StandardDev(self.lwe_deviation))
    }

    pub(crate) fn glwe_noise(&self) -> DynamicDistribution<u64> {
        use tfhe::core_crypto::prelude::StandardDev;
        DynamicDistribution::new_gaussian_from_std_dev(StandardDev(self.glwe_deviation))
    }

    pub(crate) fn pbs_decomposition(&self) -> (DecompositionBaseLog, DecompositionLevelCount) {
        (
            DecompositionBaseLog(self.pbs_base_log),
            DecompositionLevelCount(self.pbs_level),
        )
    }

    pub(crate) fn ks_decomposition(&self) -> (DecompositionBaseLog, DecompositionLevelCount) {
        (
            DecompositionBaseLog(self.ks_base_log),
            DecompositionLevelCount(self.ks_level),
        )
    }

    /// Variance of a fresh encryption in dimension n, as a share of the torus, squared.
    pub(crate) fn fresh_variance(&self) -> f64 {
        self.lwe_deviation * self.lwe_deviation
    }

    /// The same in dimension N.
    pub(crate) fn fresh_big_variance(&self) -> f64 {
        self.glwe_deviation * self.glwe_deviation
    }

    /// Variance that the shortened bodies of the bootstrapping key add to a bootstrap's output: what was dropped is uniform over
    /// 2^-[`KEY_BITS`], and meets 2 n l N digits of variance (B^2 + 2) / 12.
    fn shortening_variance(&self) -> f64 {
        let dropped = (-2.0 * f64::from(KEY_BITS)).exp2() / 12.0;
        let digits = (2 * self.lwe_dimension * self.pbs_level * self.polynomial_size) as f64;
        let base = (self.pbs_base_log as f64).exp2();
        digits * (base * base + 2.0) / 12.0 * dropped
    }

    /// Variance of what a bootstrap writes: TFHE-rs, `pbs_variance_132_bits_security_gaussian_fft_mul`, which includes the error of the
    /// floating-point transform.
    pub(crate) fn bootstrap_variance(&self) -> f64 {
        let (base, level) = self.pbs_decomposition();
        pbs_variance_132_bits_security_gaussian_fft_mul(
            LweDimension(self.lwe_dimension),
            GlweDimension(1),
            PolynomialSize(self.polynomial_size),
            base,
            level,
            MANTISSA,
            MODULUS,
        )
        .0 + self.shortening_variance()
    }

    /// Variance that a key switch from dimension N to n adds: TFHE-rs, `keyswitch_additive_variance_132_bits_security_gaussian`.
    pub(crate) fn keyswitch_variance(&self) -> f64 {
        let (base, level) = self.ks_decomposition();
        keyswitch_additive_variance_132_bits_security_gaussian(
            LweDimension(self.polynomial_size),
            LweDimension(self.lwe_dimension),
            base,
            level,
            MODULUS,
            MODULUS,
        )
        .0
    }

    /// Variance that the switch to the modulus 2N adds when its mean over the binary key is taken out first: n / 48 in units of 1/(2N)
    /// squared for the mask (TFHE-rs, `centered_binary_shifted_modulus_switch_additive_variance`), and 1 / 12 for the body, which that
    /// formula leaves out.
    pub(crate) fn rounding_variance(&self) -> f64 {
        let modulus = 2.0 * self.polynomial_size as f64;
        centered_binary_shifted_modulus_switch_additive_variance(
            LweDimension(self.lwe_dimension),
            MODULUS,
            modulus,
        )
        .0 + 1.0 / 12.0 / (modulus * modulus)
    }

    /// What names the set in every file: all of its numbers.
    pub fn digest(&self) -> Digest {
        let numbers = [
            self.lwe_dimension,
            self.polynomial_size,
            self.pbs_base_log,
            self.pbs_level,
            self.ks_base_log,
            self.ks_level,
        ];
        let start = Transcript::new("galen exact parameters v1").field(self.name.as_bytes());
        let start = start
            .number(self.lwe_deviation.to_bits())
            .number(self.glwe_deviation.to_bits());
        numbers.iter().fold(start, |t, &n| t.number(n as u64)).digest()
    }
}

/// An upper bound of log2 of the probability that Gaussian noise of the given variance is larger than `margin`:
/// P(|X| > x sigma) <= sqrt(2 / pi) exp(-x^2 / 2) / x.
pub(crate) fn log2_failure(margin: f64, variance: f64) -> f64 {
    if margin <= 0.0 {
        return 0.0;
    }
    let x = margin / variance.sqrt();
    let natural = -0.5 * x * x + 0.5 * (2.0 / std::f64::consts::PI).ln() - x.ln();
    (natural * std::f64::consts::LOG2_E).min(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_secure_and_has_its_own_digest() {
        let sets = ParameterSet::all();
        assert_eq!(sets.len(), 8);
        for (i, set) in sets.iter().enumerate() {
            assert!(set.is_secure(), "{}", set.name());
            assert!(sets[i + 1..].iter().all(|other| other.digest() != set.digest()));
            assert_eq!(ParameterSet::named(set.name()), Some(*set));
        }
        let weak = ParameterSet {
            lwe_dimension: 700,
            ..sets[0]
        };
        assert!(!weak.is_secure());
        let weak = ParameterSet {
            glwe_deviation: sets[0].glwe_deviation / 2.0,
            ..sets[0]
        };
        assert!(!weak.is_secure());
    }

    /// TFHE-rs says 2^-128.597 for four bits of message and carry, a padding bit, and sums of five bootstraps' outputs (its "2-norm").
    #[test]
    fn the_failure_formula_agrees_with_the_published_one() {
        let set = ParameterSet::named("n866_N2048_l1").unwrap();
        let variance = 25.0 * set.bootstrap_variance() + set.keyswitch_variance() + set.rounding_variance();
        let ours = log2_failure(1.0 / 64.0, variance);
        assert!((ours + 128.6).abs() < 4.0, "{ours}");
    }

    #[test]
    fn the_tail_bound_is_an_upper_bound() {
        // P(|X| > 1) = 0.3173, P(|X| > 3) = 0.0026998, P(|X| > 6) = 1.9732e-9.
        for (x, p) in [(1.0, 0.3173f64), (3.0, 0.0026998), (6.0, 1.9732e-9)] {
            let bound = log2_failure(x, 1.0);
            assert!(bound >= p.log2() && bound < p.log2() + 0.7, "{x}: {bound}");
        }
        assert_eq!(log2_failure(0.0, 1.0), 0.0);
    }
}
