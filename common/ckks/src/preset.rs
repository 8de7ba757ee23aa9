//! Parameter sets whose name is the parameters.

use crate::error::CkksError;
use crate::security;
use galen_rns::basis::MAX_CONVERTED;
use galen_rns::modulus::MAX_BITS;
use galen_rns::primes::ntt_primes;
use galen_rns::ring::{Ring, RingKind};
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
/// conjugate-invariant one. The primes are the largest of their size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preset {
    name: String,
    spec: PresetSpec,
    primes: Vec<u64>,
    special_primes: Vec<u64>,
    log2_qp: u32,
    security_bound: Option<u32>,
}

/// The standard presets, smallest first.
const STANDARD: [PresetSpec; 4] = [
    PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 8192,
        base_bits: 50,
        levels: 3,
        scale_bits: 38,
        special: 1,
        special_bits: 50,
        digit: 1,
    },
    PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 16384,
        base_bits: 50,
        levels: 5,
        scale_bits: 45,
        special: 3,
        special_bits: 50,
        digit: 3,
    },
    PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 16384,
        base_bits: 50,
        levels: 6,
        scale_bits: 45,
        special: 2,
        special_bits: 50,
        digit: 2,
    },
    PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 32768,
        base_bits: 50,
        levels: 12,
        scale_bits: 45,
        special: 4,
        special_bits: 50,
        digit: 4,
    },
];

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
        Self::all()
            .into_iter()
            .find(|preset| preset.name == name)
            .ok_or_else(|| CkksError::UnknownPreset {
                name: name.to_owned(),
            })
    }

    fn build(spec: PresetSpec, mut name: String) -> Result<Self, CkksError> {
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
        let mut rescaling = ntt_primes(transformed, spec.scale_bits, spec.levels, &base)?;
        // The nominal scale deviates from a power of two by as much as the primes do, doubled at every level. So
        // the first to be divided by, at the top, is the one nearest to the power of two.
        rescaling.reverse();
        let primes = [base, rescaling].concat();
        let special_primes = ntt_primes(transformed, spec.special_bits, spec.special, &primes)?;
        let all = Ring::of_kind(
            spec.ring,
            spec.degree,
            &[primes.as_slice(), &special_primes].concat(),
        )?;
        if spec.ring == RingKind::ConjugateInvariant {
            name += "real_";
        }
        name += &format!(
            "n{}_q{}_{}x{}_p{}x{}",
            spec.degree, spec.base_bits, spec.levels, spec.scale_bits, spec.special, spec.special_bits
        );
        if spec.digit != spec.special {
            name += &format!("_d{}", spec.digit);
        }
        Ok(Self {
            name,
            spec,
            primes,
            special_primes,
            log2_qp: all.modulus_bits(),
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
                "n8192_q50_3x38_p1x50",
                "n16384_q50_5x45_p3x50",
                "n16384_q50_6x45_p2x50",
                "n32768_q50_12x45_p4x50"
            ]
        );
        for preset in &all {
            assert_eq!(preset.security_bound(), security::bound(preset.degree()).ok());
            assert!(preset.log2_qp() <= preset.security_bound().unwrap());
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
            ..STANDARD[0]
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
                ..STANDARD[1]
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
                ..STANDARD[1]
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
        let good = STANDARD[0];
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
        digests.push(Preset::insecure_for_tests(STANDARD[0]).unwrap().digest());
        for i in 0..digests.len() {
            assert!(!digests[..i].contains(&digests[i]));
        }
    }
}
