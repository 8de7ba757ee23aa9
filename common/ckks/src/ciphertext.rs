//! Plaintexts and ciphertexts, with what is known of them.

use crate::context::Context;
use crate::error::CkksError;
use crate::keys::KeyDigest;
use crate::noise::Budget;
use crate::preset::PresetDigest;
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;
use zeroize::Zeroize;

/// An encoded vector. Wiped on drop; `Debug` prints no values.
#[derive(Clone)]
pub struct Plaintext {
    pub(crate) preset: PresetDigest,
    pub(crate) level: usize,
    pub(crate) slots: usize,
    pub(crate) budget: Budget,
    pub(crate) poly: Poly<Eval>,
}

impl Drop for Plaintext {
    fn drop(&mut self) {
        self.poly.zeroize();
    }
}

impl core::fmt::Debug for Plaintext {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Plaintext")
            .field("level", &self.level)
            .field("slots", &self.slots)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl Plaintext {
    /// Its level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level
    }

    /// Number of slots that hold values; the others hold zero.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Scale, and bounds on message and noise.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// The encoding: `round(scale * z)` as a polynomial, transformed.
    #[must_use]
    pub fn poly(&self) -> &Poly<Eval> {
        &self.poly
    }
}

impl Plaintext {
    /// Takes everything but the polynomial from a ciphertext over `ring`, and a polynomial over that, in the memory that
    /// is there. The caller overwrites it.
    pub(crate) fn reuse(&mut self, ct: &Ciphertext, ring: &Arc<Ring>) {
        if self.poly.ring() != ring {
            // What a shorter polynomial leaves behind must not stay in memory.
            self.poly.zeroize();
            self.poly.reshape(ring);
        }
        self.preset = ct.preset;
        self.level = ct.level;
        self.slots = ct.slots;
        self.budget = ct.budget;
    }
}

/// An encrypted vector: `c0 + c1 s (+ c2 s^2)` is the encoding plus noise.
///
/// Everything but the polynomials is public, and travels in clear: preset, key digest, level, scale, slots, and the
/// stated bounds on message and noise.
#[derive(Clone, PartialEq)]
pub struct Ciphertext {
    pub(crate) preset: PresetDigest,
    pub(crate) key: KeyDigest,
    pub(crate) level: usize,
    pub(crate) slots: usize,
    pub(crate) budget: Budget,
    /// Two or three, over the ring of the level.
    pub(crate) parts: Vec<Poly<Eval>>,
    /// The seed that `c1` was expanded from, as long as it is that.
    pub(crate) seed: Option<[u8; 32]>,
}

impl core::fmt::Debug for Ciphertext {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Ciphertext")
            .field("key", &self.key)
            .field("level", &self.level)
            .field("degree", &self.degree())
            .field("slots", &self.slots)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl Ciphertext {
    /// The preset it conforms to.
    #[must_use]
    pub fn preset_digest(&self) -> &PresetDigest {
        &self.preset
    }

    /// The key it is encrypted under.
    #[must_use]
    pub fn key_digest(&self) -> &KeyDigest {
        &self.key
    }

    /// Its level: the number of rescalings left.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level
    }

    /// Degree in the secret key: 1, or 2 after a product until it is relinearised.
    #[must_use]
    pub fn degree(&self) -> usize {
        self.parts.len() - 1
    }

    /// Number of slots that hold values.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.slots
    }

    /// Its scale.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.budget.scale
    }

    /// Bound on the absolute slot values.
    #[must_use]
    pub fn magnitude_bound(&self) -> f64 {
        self.budget.magnitude
    }

    /// Bound on the noise in every slot, in integers; divided by the scale it bounds the error of a slot value.
    #[must_use]
    pub fn noise_bound(&self) -> f64 {
        self.budget.noise
    }

    /// Scale, and bounds on message and noise.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Planned bits after the binary point of slot values.
    #[must_use]
    pub fn precision_bits(&self) -> f64 {
        self.budget.precision_bits()
    }

    /// The polynomials `c0, c1 (, c2)`, over the ring of the level.
    #[must_use]
    pub fn parts(&self) -> &[Poly<Eval>] {
        &self.parts
    }

    /// The same ciphertext with another bound on its slot values, for a caller who knows a better one than the
    /// operations could derive (the range of a layer measured in training). If slot values are above it, later noise
    /// bounds are too small, and results may be wrong without an error.
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`] if it is not finite or negative, [`CkksError::Overflow`] if a larger one does
    /// not fit in the modulus.
    pub fn with_magnitude_bound(mut self, context: &Context, magnitude: f64) -> Result<Self, CkksError> {
        check_magnitude(magnitude)?;
        let budget = Budget {
            magnitude,
            ..self.budget
        };
        budget.check_fits(context.log2_q(self.level)?)?;
        self.budget = budget;
        Ok(self)
    }

    /// The same ciphertext with another bound on its noise, for a caller who takes noises of different operations as independent, where bounds add
    /// them up. If the noise is above it, later bounds are too small, and results may be wrong without an error.
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`] if it is not finite or negative, [`CkksError::Overflow`] if a larger one does not fit in the modulus.
    pub fn with_noise_bound(mut self, context: &Context, noise: f64) -> Result<Self, CkksError> {
        check_magnitude(noise)?;
        let budget = Budget { noise, ..self.budget };
        budget.check_fits(context.log2_q(self.level)?)?;
        self.budget = budget;
        Ok(self)
    }

    /// The same ciphertext with larger bounds on its slot values and its noise, for a caller who gives it away: exact bounds tell of the
    /// numbers by which it was multiplied. Bounds that are not larger stay as they are.
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`] if the magnitude is not finite or negative, [`CkksError::Overflow`] if the bounds do not fit in the
    /// modulus.
    pub fn with_looser_bounds(
        mut self,
        context: &Context,
        magnitude: f64,
        noise: f64,
    ) -> Result<Self, CkksError> {
        check_magnitude(magnitude)?;
        let budget = Budget {
            magnitude: self.budget.magnitude.max(magnitude),
            noise: self.budget.noise.max(noise),
            ..self.budget
        };
        budget.check_fits(context.log2_q(self.level)?)?;
        self.budget = budget;
        Ok(self)
    }
}

impl Context {
    /// Memory for a ciphertext, under no key.
    pub(crate) fn empty_ciphertext(&self) -> Ciphertext {
        Ciphertext {
            preset: *self.digest(),
            key: KeyDigest([0; 32]),
            level: 0,
            slots: 1,
            budget: Budget {
                scale: 1.0,
                magnitude: 0.0,
                noise: 1.0,
            },
            parts: vec![Poly::zero(&self.bottom().ring); 2],
            seed: None,
        }
    }
}

impl Ciphertext {
    /// Takes everything but polynomials from `header`, and `count` parts over `ring`, in the memory that is there. The
    /// caller overwrites them.
    pub(crate) fn reuse(&mut self, header: Self, ring: &Arc<Ring>, count: usize) {
        let mut parts = core::mem::take(&mut self.parts);
        parts.truncate(count);
        parts.iter_mut().for_each(|part| part.reshape(ring));
        parts.resize_with(count, || Poly::zero(ring));
        *self = Self { parts, ..header };
    }
}

/// Refuses a bound that is not finite or negative.
pub(crate) fn check_magnitude(magnitude: f64) -> Result<(), CkksError> {
    if magnitude.is_finite() && magnitude >= 0.0 {
        return Ok(());
    }
    Err(CkksError::InvalidNumber {
        index: 0,
        value: magnitude,
    })
}
