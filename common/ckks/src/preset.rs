//! Parameter sets whose name is the parameters.

use crate::error::CkksError;
use crate::security;
use galen_rns::basis::MAX_CONVERTED;
use galen_rns::modulus::{MAX_BITS, Modulus};
use galen_rns::primes::ntt_primes;
use galen_rns::ring::{RingKind, product_bits};
use ring::digest::{Context as Sha256, SHA256};

/// Prefix of presets that are for unit tests only.
pub const INSECURE_PREFIX: &str = "insecure_";

/// Identifies a preset in bytes: SHA-256 of its name and primes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PresetDigest(pub [u8; 32]);

/// What a preset is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PresetSpec {
    /// Which ring: N/2 complex slots, or N real ones.
    pub ring: RingKind,
    /// Ring degree N.
    pub degree: usize,
    /// Bits of the prime that is left at level 0. The excess over `scale_bits` holds the integer part of results.
    pub base_bits: u32,
    /// Number of rescalings, each by a prime of `scale_bits`.
    pub levels: usize,
    /// Bits of the rescaling primes; the top level has nominal scale `2^scale_bits`.
    pub scale_bits: u32,
    /// Number of special primes.
    pub special: usize,
    /// Bits of the special primes.
    pub special_bits: u32,
    /// Primes in one digit of key switching. Fewer digits make switching faster and keys smaller; the special primes
    /// together should have as many bits as the largest digit, or switching adds that many bits of noise.
    pub digit: usize,
}

/// A checked parameter set. Its name says the parameters: `n16384_q50_6x45_p2x50` has N = 16384, a base prime of
/// 50 bits, six rescaling primes of 45 and two special primes of 50; `_d3` at the end says that a digit of key switching
/// has three primes where it has not as many as there are special primes, and `real_` in front that the ring is the
/// conjugate-invariant one. The primes are the largest of their size, but the rescaling primes of presets with more than 16
/// levels: the deviation of the nominal scale from its power of two doubles at every level, so that there each prime is,
/// from the top down, the one that leaves the least.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    name: String,
    spec: PresetSpec,
    primes: Vec<u64>,
    special_primes: Vec<u64>,
    log2_qp: u32,
    security_bound: Option<u32>,
}

const fn spec(degree: usize, base_bits: u32, rescaling: (usize, u32), special: (usize, u32)) -> PresetSpec {
    PresetSpec {
        ring: RingKind::Cyclotomic,
        degree,
        base_bits,
        levels: rescaling.0,
        scale_bits: rescaling.1,
        special: special.0,
        special_bits: special.1,
        digit: special.0,
    }
}

const fn real(spec: PresetSpec) -> PresetSpec {
    PresetSpec {
        ring: RingKind::ConjugateInvariant,
        ..spec
    }
}

/// The standard presets, smallest first. In each the special primes together have as many bits as the largest digit.
const STANDARD: [PresetSpec; 15] = [
    spec(4096, 38, (1, 30), (1, 38)),
    real(spec(4096, 38, (1, 30), (1, 38))),
    spec(8192, 50, (2, 40), (1, 50)),
    spec(8192, 50, (3, 38), (1, 50)),
    spec(8192, 34, (5, 29), (1, 35)),
    real(spec(8192, 50, (2, 40), (1, 50))),
    real(spec(8192, 50, (3, 38), (1, 50))),
    spec(16384, 50, (5, 40), (3, 44)),
    spec(16384, 50, (5, 45), (3, 50)),
    spec(16384, 50, (6, 45), (2, 50)),
    real(spec(16384, 50, (5, 40), (3, 44))),
    spec(32768, 50, (12, 40), (7, 44)),
    spec(32768, 50, (12, 45), (4, 50)),
    real(spec(32768, 50, (12, 40), (7, 44))),
    spec(65536, 50, (28, 45), (8, 50)),
];

/// Above this number of levels the rescaling primes lie on both sides of their power of two.
const ONE_SIDED_LEVELS: usize = 16;

fn in_range(parameter: &'static str, value: u64, min: u64, max: u64) -> Result<(), CkksError> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(CkksError::PresetParameter {
        parameter,
        value,
        min,
        max,
    })
}

/// The name of a preset without prefix for tests.
fn name_of(spec: &PresetSpec) -> String {
    let real = match spec.ring {
        RingKind::Cyclotomic => "",
        RingKind::ConjugateInvariant => "real_",
    };
    let digit = if spec.digit == spec.special {
        String::new()
    } else {
        format!("_d{}", spec.digit)
    };
    format!(
        "{real}n{}_q{}_{}x{}_p{}x{}{digit}",
        spec.degree, spec.base_bits, spec.levels, spec.scale_bits, spec.special, spec.special_bits
    )
}

/// `count` primes near `2^bits` that are 1 modulo twice the degree, in the order of the levels, such that the nominal
/// scales stay as near to `2^bits` as primes allow: each is, from the top down, the one nearest to `scale^2 / 2^bits`.
fn balanced_primes(degree: usize, bits: u32, count: usize, excluded: &[u64]) -> Result<Vec<u64>, CkksError> {
    let (power, step) = (f64::from(bits).exp2(), 2 * degree as u64);
    let mut scale = power;
    let mut primes: Vec<u64> = Vec::with_capacity(count);
    for _ in 0..count {
        let wanted = scale * scale / power;
        let first = (wanted / step as f64).round() as u64 * step + 1;
        let candidates = (0..first / step).flat_map(|k| [first + k * step, first - k * step]);
        let prime = candidates
            .filter(|x| !excluded.contains(x) && !primes.contains(x))
            .find(|&x| Modulus::new(x).is_ok())
            .ok_or(CkksError::PresetParameter {
                parameter: "scale_bits",
                value: bits.into(),
                min: 20,
                max: u64::from(MAX_BITS) - 1,
            })?;
        scale = scale * scale / prime as f64;
        primes.push(prime);
    }
    primes.reverse();
    Ok(primes)
}

impl Preset {
    /// A parameter set with 128-bit security.
    ///
    /// # Errors
    /// [`CkksError::Insecure`] above the bound for its degree, [`CkksError::DegreeNotInTable`], or whatever else
    /// is wrong with the parameters.
    pub fn new(spec: PresetSpec) -> Result<Self, CkksError> {
        let bound = security::bound(spec.degree)?;
        let mut preset = Self::build(spec, String::new())?;
        security::check(spec.degree, preset.log2_qp)?;
        preset.security_bound = Some(bound);
        Ok(preset)
    }

    /// A parameter set WITHOUT any security, for unit tests; its name begins with `insecure_` and
    /// [`Self::by_name`] never returns it.
    ///
    /// # Errors
    /// Whatever is wrong with the parameters, except their security.
    pub fn insecure_for_tests(spec: PresetSpec) -> Result<Self, CkksError> {
        Self::build(spec, INSECURE_PREFIX.to_owned())
    }

    /// The standard presets, smallest first.
    #[must_use]
    pub fn all() -> Vec<Self> {
        // Each of them constructs; a test counts them.
        STANDARD.iter().filter_map(|&spec| Self::new(spec).ok()).collect()
    }

    /// The standard preset of this name.
    ///
    /// # Errors
    /// [`CkksError::UnknownPreset`].
    pub fn by_name(name: &str) -> Result<Self, CkksError> {
        let spec = STANDARD.iter().find(|spec| name_of(spec) == name);
        Self::new(*spec.ok_or_else(|| CkksError::UnknownPreset {
            name: name.to_owned(),
        })?)
    }

    fn build(spec: PresetSpec, prefix: String) -> Result<Self, CkksError> {
        let max_bits = u64::from(MAX_BITS);
        in_range("degree", spec.degree as u64, 16, 1 << 16)?;
        in_range("levels", spec.levels as u64, 1, 32)?;
        in_range("special", spec.special as u64, 1, 8)?;
        in_range("digit", spec.digit as u64, 1, MAX_CONVERTED as u64)?;
        in_range("scale_bits", spec.scale_bits.into(), 20, max_bits)?;
        in_range(
            "base_bits",
            spec.base_bits.into(),
            spec.scale_bits.into(),
            max_bits,
        )?;
        in_range(
            "special_bits",
            spec.special_bits.into(),
            spec.scale_bits.into(),
            max_bits,
        )?;
        // Primes that are 1 modulo twice this degree.
        let transformed = spec.ring.order_factor() / 2 * spec.degree;
        let base = ntt_primes(transformed, spec.base_bits, 1, &[])?;
        let rescaling = if spec.levels > ONE_SIDED_LEVELS {
            balanced_primes(transformed, spec.scale_bits, spec.levels, &base)?
        } else {
            let mut primes = ntt_primes(transformed, spec.scale_bits, spec.levels, &base)?;
            // The nominal scale deviates from a power of two by as much as the primes do, doubled at every level. So
            // the first to be divided by, at the top, is the one nearest to the power of two.
            primes.reverse();
            primes
        };
        let primes = [base, rescaling].concat();
        let special_primes = ntt_primes(transformed, spec.special_bits, spec.special, &primes)?;
        let log2_qp = product_bits(&[primes.as_slice(), &special_primes].concat());
        let name = prefix + &name_of(&spec);
        Ok(Self {
            name,
            spec,
            primes,
            special_primes,
            log2_qp,
            security_bound: None,
        })
    }

    /// The name, which says the parameters.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The parameters.
    #[must_use]
    pub fn spec(&self) -> &PresetSpec {
        &self.spec
    }

    /// Ring degree N.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.spec.degree
    }

    /// The highest level: the number of rescalings that a fresh ciphertext allows.
    #[must_use]
    pub fn max_level(&self) -> usize {
        self.spec.levels
    }

    /// Bits of the nominal scale at the top level.
    #[must_use]
    pub fn scale_bits(&self) -> u32 {
        self.spec.scale_bits
    }

    /// The primes of Q, that of level 0 first.
    #[must_use]
    pub fn primes(&self) -> &[u64] {
        &self.primes
    }

    /// The special primes of key switching.
    #[must_use]
    pub fn special_primes(&self) -> &[u64] {
        &self.special_primes
    }

    /// `ceil(log2(QP))`, from the exact product.
    #[must_use]
    pub fn log2_qp(&self) -> u32 {
        self.log2_qp
    }

    /// The bound on `log2(QP)` that this preset keeps, or nothing for one without security.
    #[must_use]
    pub fn security_bound(&self) -> Option<u32> {
        self.security_bound
    }

    /// What stands for this preset in bytes.
    #[must_use]
    pub fn digest(&self) -> PresetDigest {
        let mut hash = Sha256::new(&SHA256);
        for text in ["galen-ckks-preset-1", &self.name] {
            hash.update(&(text.len() as u64).to_le_bytes());
            hash.update(text.as_bytes());
        }
        for primes in [&self.primes, &self.special_primes] {
            hash.update(&(primes.len() as u64).to_le_bytes());
            primes.iter().for_each(|p| hash.update(&p.to_le_bytes()));
        }
        let mut bytes = [0; 32];
        bytes.copy_from_slice(hash.finish().as_ref());
        PresetDigest(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_presets_keep_their_bound() {
        let all = Preset::all();
        let names: Vec<&str> = all.iter().map(Preset::name).collect();
        assert_eq!(
            names,
            [
                "n4096_q38_1x30_p1x38",
                "real_n4096_q38_1x30_p1x38",
                "n8192_q50_2x40_p1x50",
                "n8192_q50_3x38_p1x50",
                "n8192_q34_5x29_p1x35",
                "real_n8192_q50_2x40_p1x50",
                "real_n8192_q50_3x38_p1x50",
                "n16384_q50_5x40_p3x44",
                "n16384_q50_5x45_p3x50",
                "n16384_q50_6x45_p2x50",
                "real_n16384_q50_5x40_p3x44",
                "n32768_q50_12x40_p7x44",
                "n32768_q50_12x45_p4x50",
                "real_n32768_q50_12x40_p7x44",
                "n65536_q50_28x45_p8x50"
            ]
        );
        for preset in &all {
            assert_eq!(preset.security_bound(), security::bound(preset.degree()).ok());
            assert!(preset.log2_qp() <= preset.security_bound().unwrap());
            let spec = preset.spec();
            let digit: f64 = preset.primes()[..spec.digit.min(spec.levels + 1)]
                .iter()
                .map(|&q| (q as f64).log2())
                .sum();
            let special: f64 = preset.special_primes().iter().map(|&p| (p as f64).log2()).sum();
            assert!(special > digit - 0.1, "{}", preset.name());
            assert_eq!(Preset::by_name(preset.name()).as_ref(), Ok(preset));
        }
    }

    #[test]
    fn above_the_bound_nothing_constructs() {
        for (index, spec) in STANDARD.into_iter().enumerate() {
            let mut levels = spec.levels;
            while Preset::new(PresetSpec { levels, ..spec }).is_ok() {
                levels += 1;
            }
            let refused = Preset::new(PresetSpec { levels, ..spec });
            assert!(matches!(refused, Err(CkksError::Insecure { .. })), "{index}");
            assert!(Preset::insecure_for_tests(PresetSpec { levels, ..spec }).is_ok());
        }
        // 50 + 3 * 38 + 50 = 214 bits just fit; 49 + 3 * 39 + 49 = 215 do not.
        let tight = PresetSpec {
            base_bits: 49,
            scale_bits: 39,
            special_bits: 49,
            ..spec(8192, 50, (3, 38), (1, 50))
        };
        assert!(matches!(
            Preset::new(tight),
            Err(CkksError::Insecure {
                log2_qp: 215,
                bound: 214,
                ..
            })
        ));
    }

    #[test]
    fn insecure_presets_cannot_be_named() {
        for degree in [64, 16384] {
            let preset = Preset::insecure_for_tests(PresetSpec {
                degree,
                ..spec(16384, 50, (5, 45), (3, 50))
            })
            .unwrap();
            assert!(preset.name().starts_with(INSECURE_PREFIX));
            assert_eq!(preset.security_bound(), None);
            let name = preset.name().to_owned();
            assert_eq!(Preset::by_name(&name), Err(CkksError::UnknownPreset { name }));
        }
        assert!(matches!(
            Preset::new(PresetSpec {
                degree: 64,
                ..spec(16384, 50, (5, 45), (3, 50))
            }),
            Err(CkksError::DegreeNotInTable { degree: 64 })
        ));
        assert!(
            Preset::all()
                .iter()
                .all(|preset| !preset.name().starts_with(INSECURE_PREFIX))
        );
    }

    #[test]
    fn parameters_out_of_range() {
        let good = spec(8192, 50, (3, 38), (1, 50));
        for (spec, expected) in [
            (PresetSpec { levels: 0, ..good }, "levels"),
            (PresetSpec { special: 0, ..good }, "special"),
            (
                PresetSpec {
                    scale_bits: 51,
                    ..good
                },
                "scale_bits",
            ),
            (
                PresetSpec {
                    base_bits: 37,
                    ..good
                },
                "base_bits",
            ),
            (
                PresetSpec {
                    special_bits: 51,
                    ..good
                },
                "special_bits",
            ),
        ] {
            let parameter = match Preset::insecure_for_tests(spec) {
                Err(CkksError::PresetParameter { parameter, .. }) => parameter,
                other => panic!("{other:?}"),
            };
            assert_eq!(parameter, expected);
        }
    }

    #[test]
    fn digests_differ() {
        let mut digests: Vec<PresetDigest> = Preset::all().iter().map(Preset::digest).collect();
        digests.push(
            Preset::insecure_for_tests(spec(8192, 50, (3, 38), (1, 50)))
                .unwrap()
                .digest(),
        );
        for i in 0..digests.len() {
            assert!(!digests[..i].contains(&digests[i]));
        }
    }
}
