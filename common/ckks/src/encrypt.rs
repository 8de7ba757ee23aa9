//! Encryption and decryption.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::{Context, check_scale};
use crate::error::CkksError;
use crate::keys::{PublicKey, SecretKey, error, small, stream};
use crate::noise::Budget;
use galen_rns::poly::{Eval, Poly};
use galen_rns::xof::random_seed;
use zeroize::Zeroizing;

/// The uniform half of a seeded ciphertext.
pub(crate) fn expand_uniform(
    context: &Context,
    seed: &[u8; 32],
    level: usize,
) -> Result<Poly<Eval>, CkksError> {
    let mut xof = stream(context, seed, "ciphertext uniform", level as u64);
    Ok(Poly::uniform(context.ring(level)?, &mut xof))
}

fn check_plaintext(context: &Context, plaintext: &Plaintext) -> Result<(), CkksError> {
    if plaintext.preset == *context.digest() {
        Ok(())
    } else {
        Err(CkksError::PresetMismatch)
    }
}

impl SecretKey {
    /// Encrypts with fresh randomness. The result stores its uniform half as a seed, which halves its size, and has
    /// less noise than one under the public key.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::Overflow`].
    pub fn encrypt(&self, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.encrypt_with_seed(plaintext, &Zeroizing::new(random_seed()?))
    }

    /// Encrypts with the randomness of a secret seed, for tests and known answers. Two plaintexts under one seed
    /// give their difference away; use [`Self::encrypt`].
    ///
    /// # Errors
    /// Those of [`Self::encrypt`].
    pub fn encrypt_with_seed(&self, plaintext: &Plaintext, seed: &[u8; 32]) -> Result<Ciphertext, CkksError> {
        let context = &self.context;
        check_plaintext(context, plaintext)?;
        let level = plaintext.level;
        let ring = context.ring(level)?;
        let budget = plaintext.budget.plus_noise(context.noise.fresh_secret());
        budget.check_fits(context.log2_q(level)?)?;
        let mut uniform_seed = [0; 32];
        stream(context, seed, "ciphertext seed", 0).fill(&mut uniform_seed);
        let c1 = expand_uniform(context, &uniform_seed, level)?;
        let s = Zeroizing::new(self.secret.restrict(ring)?);
        let mut c0 = c1.clone();
        c0.mul_assign(&s)?;
        c0.neg_assign();
        c0.add_assign(&*Zeroizing::new(error(
            ring,
            &mut stream(context, seed, "ciphertext error", 0),
        )?))?;
        c0.add_assign(&plaintext.poly)?;
        Ok(Ciphertext {
            preset: *context.digest(),
            key: self.digest(),
            level,
            slots: plaintext.slots,
            budget,
            parts: vec![c0, c1],
            seed: Some(uniform_seed),
        })
    }

    /// Decrypts a ciphertext of degree 1 or 2. Its bounds say that it fits in the modulus, or it would not exist.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Plaintext, CkksError> {
        if ciphertext.preset != *self.context.digest() {
            return Err(CkksError::PresetMismatch);
        }
        if ciphertext.key != self.digest() {
            return Err(CkksError::KeyMismatch);
        }
        let ring = self.context.ring(ciphertext.level)?;
        let s = Zeroizing::new(self.secret.restrict(ring)?);
        // Horner in s, from the highest part down.
        let mut poly = Poly::zero(ring);
        for part in ciphertext.parts.iter().rev() {
            poly.mul_assign(&s)?;
            poly.add_assign(part)?;
        }
        Ok(Plaintext {
            preset: ciphertext.preset,
            level: ciphertext.level,
            slots: ciphertext.slots,
            budget: ciphertext.budget,
            poly,
        })
    }
}

impl PublicKey {
    /// Encrypts with fresh randomness.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::Overflow`].
    pub fn encrypt(&self, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.encrypt_with_seed(plaintext, &Zeroizing::new(random_seed()?))
    }

    /// Encrypts with the randomness of a secret seed, for tests and known answers; whoever knows the seed can
    /// decrypt. Use [`Self::encrypt`].
    ///
    /// # Errors
    /// Those of [`Self::encrypt`].
    pub fn encrypt_with_seed(&self, plaintext: &Plaintext, seed: &[u8; 32]) -> Result<Ciphertext, CkksError> {
        check_plaintext(&self.context, plaintext)?;
        let mut zero = self.zero(plaintext.level, plaintext.slots, plaintext.budget, seed)?;
        zero.parts[0].add_assign(&plaintext.poly)?;
        Ok(zero)
    }

    /// A fresh encryption of zero in all slots. Added to a ciphertext of the same level and scale, it makes `c1`
    /// independent of how that was computed; hiding the noise as well takes flooding besides.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`], [`CkksError::InvalidScale`], [`CkksError::Overflow`].
    pub fn encrypt_zero(&self, level: usize, scale: f64) -> Result<Ciphertext, CkksError> {
        check_scale(scale)?;
        let budget = Budget {
            scale,
            magnitude: 0.0,
            noise: 0.0,
        };
        self.zero(
            level,
            self.context.slots(),
            budget,
            &Zeroizing::new(random_seed()?),
        )
    }

    /// `(b u + e0, a u + e1)`, with the noise of that added to `budget`.
    fn zero(
        &self,
        level: usize,
        slots: usize,
        budget: Budget,
        seed: &[u8; 32],
    ) -> Result<Ciphertext, CkksError> {
        let context = &self.context;
        let ring = context.ring(level)?;
        let budget = budget.plus_noise(context.noise.fresh_public());
        budget.check_fits(context.log2_q(level)?)?;
        let u = Zeroizing::new(small(ring, &mut stream(context, seed, "encryption mask", 0))?);
        let mut parts = Vec::with_capacity(2);
        for (index, half) in [&self.b, &self.a].into_iter().enumerate() {
            let mut part = half.restrict(ring)?;
            part.mul_assign(&u)?;
            let mut errors = stream(context, seed, "encryption error", index as u64);
            part.add_assign(&*Zeroizing::new(error(ring, &mut errors)?))?;
            parts.push(part);
        }
        Ok(Ciphertext {
            preset: *context.digest(),
            key: self.digest(),
            level,
            slots,
            budget,
            parts,
            seed: None,
        })
    }
}
