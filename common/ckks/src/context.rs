//! Everything that is computed once for a preset.

use crate::embedding::Embedding;
use crate::error::CkksError;
use crate::noise::{MAX_LOG2_SCALE, NoiseModel};
use crate::pool::Pool;
use crate::preset::{Preset, PresetDigest};
use galen_rns::RnsError;
use galen_rns::basis::{BasisConverter, ModDown};
use galen_rns::ring::{Ring, RingKind};
use std::sync::Arc;

/// Where the result of a linear operation shall land.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Level of the result.
    pub level: usize,
    /// Its scale, exactly.
    pub scale: f64,
}

/// The rings, scales and tables of one preset. Cheap to share, and safe to use from many threads.
#[derive(Debug)]
pub struct Context {
    preset: Preset,
    digest: PresetDigest,
    /// All primes of Q, then the special ones.
    key_ring: Arc<Ring>,
    levels: Vec<Level>,
    pub(crate) embedding: Embedding,
    pub(crate) noise: NoiseModel,
    /// Scratch of encryption, decryption and evaluation.
    pub(crate) pool: Pool,
}

/// What belongs to one level.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) ring: Arc<Ring>,
    log2_q: f64,
    scale: f64,
    /// Division by this level's prime; nothing at level 0.
    pub(crate) rescale: Option<ModDown>,
    pub(crate) switching: Switching,
}

/// Key switching at one level.
#[derive(Debug)]
pub(crate) struct Switching {
    /// This level's primes, then the special ones.
    pub(crate) ring: Arc<Ring>,
    pub(crate) digits: Vec<Digit>,
    /// Division by the special primes.
    pub(crate) down: Division,
    /// Division by the special primes and this level's; nothing at level 0.
    pub(crate) down_rescale: Option<Division>,
    /// The product P of the special primes modulo each of this level's.
    pub(crate) special_residues: Vec<u64>,
    /// Bound on the noise that switching adds before its rounding, in units after division by P.
    pub(crate) digits_noise: f64,
    /// The same with the rounding.
    pub(crate) noise: f64,
}

/// Division by the last primes of [`Switching::ring`], as a whole and prime by prime.
#[derive(Debug)]
pub(crate) struct Division {
    pub(crate) whole: ModDown,
    /// From the primes divided by to those that are kept.
    pub(crate) converter: BasisConverter,
    /// What is divided by, inverted modulo each kept prime.
    pub(crate) inverses: Vec<u64>,
}

/// The primes `start..end` as one digit, and the way from them to all others of [`Switching::ring`].
#[derive(Debug)]
pub(crate) struct Digit {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) converter: BasisConverter,
}

impl Context {
    /// Computes the tables of a preset.
    ///
    /// # Errors
    /// None for a preset that constructed, save those of ring arithmetic.
    pub fn new(preset: &Preset) -> Result<Arc<Self>, CkksError> {
        let (kind, degree) = (preset.spec().ring, preset.degree());
        let all: Vec<u64> = [preset.primes(), preset.special_primes()].concat();
        let key_ring = Ring::of_kind(kind, degree, &all)?;
        let special = key_ring.slice(preset.primes().len()..all.len())?;
        let noise = NoiseModel::of_kind(kind, degree);
        let scales = nominal_scales(preset);
        let mut levels: Vec<Level> = Vec::with_capacity(scales.len());
        for (level, scale) in scales.into_iter().enumerate() {
            let ring = key_ring.prefix(level + 1)?;
            let rescale = match levels.last() {
                Some(below) => Some(ModDown::new(&below.ring, &key_ring.slice(level..level + 1)?)?),
                None => None,
            };
            let below = levels.last().map(|level| &level.ring);
            let switching = Switching::new(&ring, below, &special, preset.spec().digit, &noise)?;
            levels.push(Level {
                log2_q: ring.log2_q(),
                ring,
                scale,
                rescale,
                switching,
            });
        }
        Ok(Arc::new(Self {
            preset: preset.clone(),
            digest: preset.digest(),
            key_ring,
            levels,
            embedding: Embedding::new(kind, degree),
            noise,
            pool: Pool::default(),
        }))
    }

    /// The preset.
    #[must_use]
    pub fn preset(&self) -> &Preset {
        &self.preset
    }

    /// What stands for the preset in bytes.
    #[must_use]
    pub fn digest(&self) -> &PresetDigest {
        &self.digest
    }

    /// Ring degree N.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.preset.degree()
    }

    /// Number of slots: N/2, and N in the conjugate-invariant ring.
    #[must_use]
    pub fn slots(&self) -> usize {
        match self.preset.spec().ring {
            RingKind::Cyclotomic => self.degree() / 2,
            RingKind::ConjugateInvariant => self.degree(),
        }
    }

    /// The highest level.
    #[must_use]
    pub fn max_level(&self) -> usize {
        self.levels.len() - 1
    }

    /// The nominal scale of a level: `2^scale_bits` at the top, and `scale(l - 1) = product_scale(l) / q_l` below, so
    /// that a product of two nominal ciphertexts rescales to exactly the nominal scale.
    ///
    /// Scales are doubles. They do not drift: the scale of a level is this number by definition, never the outcome of
    /// the path that led there, and every encoding or weight is computed for the stated scales. What a stated scale
    /// is off from the true one, a few units of 2^-53 relatively, is part of the noise bound.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`].
    pub fn scale(&self, level: usize) -> Result<f64, CkksError> {
        Ok(self.at(level)?.scale)
    }

    /// The scale of a product of two nominal ciphertexts of this level.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`].
    pub fn product_scale(&self, level: usize) -> Result<f64, CkksError> {
        let scale = self.scale(level)?;
        Ok(scale * scale)
    }

    /// Level and scale of a product of two nominal ciphertexts of this level. A weighted sum with this target can be
    /// added to such a product, and rescales to the nominal scale of the level below.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`].
    pub fn product_target(&self, level: usize) -> Result<Target, CkksError> {
        Ok(Target {
            level,
            scale: self.product_scale(level)?,
        })
    }

    /// `log2` of the modulus of a level: the room for message, noise and sign.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`].
    pub fn log2_q(&self, level: usize) -> Result<f64, CkksError> {
        Ok(self.at(level)?.log2_q)
    }

    /// The ring of a level's ciphertexts.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`].
    pub fn ring(&self, level: usize) -> Result<&Arc<Ring>, CkksError> {
        Ok(&self.at(level)?.ring)
    }

    pub(crate) fn key_ring(&self) -> &Arc<Ring> {
        &self.key_ring
    }

    pub(crate) fn at(&self, level: usize) -> Result<&Level, CkksError> {
        self.levels.get(level).ok_or(CkksError::LevelRange {
            level,
            max: self.max_level(),
        })
    }

    /// Level 0; there always is one.
    pub(crate) fn bottom(&self) -> &Level {
        &self.levels[0]
    }

    /// The top level; there always is one.
    pub(crate) fn top(&self) -> &Level {
        &self.levels[self.levels.len() - 1]
    }
}

/// Refuses a scale that is not finite, below 1 or absurdly large.
pub(crate) fn check_scale(scale: f64) -> Result<(), CkksError> {
    if scale.is_finite() && scale >= 1.0 && scale.log2() <= MAX_LOG2_SCALE {
        return Ok(());
    }
    Err(CkksError::InvalidScale { scale })
}

/// The nominal scale of each level, that of level 0 first.
fn nominal_scales(preset: &Preset) -> Vec<f64> {
    let mut scale = (1u64 << preset.scale_bits()) as f64;
    let mut scales = vec![scale];
    for &prime in preset.primes().iter().skip(1).rev() {
        scale = scale * scale / prime as f64;
        scales.push(scale);
    }
    scales.reverse();
    scales
}

impl Division {
    fn new(keep: &Arc<Ring>, drop: &Arc<Ring>) -> Result<Self, CkksError> {
        let inverses = keep.moduli().iter().map(|m| {
            let factors = drop.moduli().iter().map(|p| m.reduce_u64(p.value()));
            let product = factors.fold(1, |product, p| m.mul(product, p));
            m.inv(product)
                .ok_or(RnsError::RepeatedModulus { modulus: m.value() })
        });
        Ok(Self {
            inverses: inverses.collect::<Result<_, _>>()?,
            converter: BasisConverter::new(drop.moduli(), keep.moduli())?,
            whole: ModDown::new(keep, drop)?,
        })
    }
}

impl Switching {
    fn new(
        ring: &Arc<Ring>,
        below: Option<&Arc<Ring>>,
        special: &Arc<Ring>,
        digit_size: usize,
        noise: &NoiseModel,
    ) -> Result<Self, CkksError> {
        let extended = Ring::join(ring, special)?;
        let moduli = extended.moduli();
        let product = |moduli: &[galen_rns::modulus::Modulus]| -> f64 {
            moduli.iter().map(|m| m.value() as f64).product()
        };
        let (mut digits, mut sizes) = (Vec::new(), Vec::new());
        let count = ring.moduli().len();
        for start in (0..count).step_by(digit_size) {
            let end = (start + digit_size).min(count);
            let others = [&moduli[..start], &moduli[end..]].concat();
            digits.push(Digit {
                start,
                end,
                converter: BasisConverter::new(&moduli[start..end], &others)?,
            });
            sizes.push(product(&moduli[start..end]));
        }
        let down_rescale = match below {
            Some(below) => Some(Division::new(below, &extended.slice(count - 1..moduli.len())?)?),
            None => None,
        };
        let special_product = product(special.moduli());
        Ok(Self {
            digits,
            down: Division::new(ring, special)?,
            down_rescale,
            special_residues: ring
                .moduli()
                .iter()
                .map(|m| {
                    let factors = special.moduli().iter().map(|p| m.reduce_u64(p.value()));
                    factors.fold(1, |product, p| m.mul(product, p))
                })
                .collect(),
            digits_noise: noise.digits(&sizes, special_product),
            noise: noise.key_switch(&sizes, special_product),
            ring: extended,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigUint;

    /// Against exact rationals: the nominal scale is `s^2 / q` of the level above to the last place.
    #[test]
    fn nominal_scales_follow_their_rule_and_stay_near_the_power_of_two() {
        for preset in Preset::all() {
            let context = Context::new(&preset).unwrap();
            assert_eq!(
                context.scale(preset.max_level()),
                Ok((preset.scale_bits() as f64).exp2())
            );
            for level in 1..=preset.max_level() {
                let (above, below) = (context.scale(level).unwrap(), context.scale(level - 1).unwrap());
                assert_eq!(
                    context.product_scale(level).unwrap() / preset.primes()[level] as f64,
                    below
                );
                // Scales as exact integers with 40 fraction bits, where a double above 2^20 has its last at 2^-32.
                let exact = |x: f64| BigUint::from((x * (1u64 << 40) as f64) as u128);
                let (a, b) = (exact(above), exact(below));
                let product = (&b * preset.primes()[level]) << 40u32;
                let square = &a * &a;
                let difference = if square > product {
                    &square - &product
                } else {
                    &product - &square
                };
                assert!(difference << 51u32 < square, "level {level}");
                let deviation = (below.log2() - f64::from(preset.scale_bits())).abs();
                // Long chains, and small primes, which lie further apart in relation to their size, deviate most.
                assert!(
                    deviation < 0.05,
                    "level {level} of {}: {deviation}",
                    preset.name()
                );
            }
            assert!(context.scale(preset.max_level() + 1).is_err());
        }
    }

    #[test]
    fn scales_out_of_range() {
        for scale in [f64::NAN, f64::INFINITY, 0.0, -1.0, 0.5, 1e200] {
            assert!(matches!(check_scale(scale), Err(CkksError::InvalidScale { .. })));
        }
        assert_eq!(check_scale(1.0), Ok(()));
    }
}
