//! Encryption and decryption.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::{Context, check_scale};
use crate::error::CkksError;
use crate::keys::{PublicKey, SecretKey, error_into, small_into, stream};
use crate::noise::Budget;
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use galen_rns::xof::random_seed;
use zeroize::Zeroizing;

/// Residues that one pass over several polynomials takes at a time: those of four of them fit in the first-level cache.
const BLOCK: usize = 1024;

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

    /// [`Self::encrypt`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::encrypt`]; then `out` is unchanged.
    pub fn encrypt_into(&self, plaintext: &Plaintext, out: &mut Ciphertext) -> Result<(), CkksError> {
        self.encrypt_to(plaintext, &Zeroizing::new(random_seed()?), out)
    }

    /// Encrypts with the randomness of a secret seed, for tests and known answers. Two plaintexts under one seed
    /// give their difference away; use [`Self::encrypt`].
    ///
    /// # Errors
    /// Those of [`Self::encrypt`].
    pub fn encrypt_with_seed(&self, plaintext: &Plaintext, seed: &[u8; 32]) -> Result<Ciphertext, CkksError> {
        let mut out = self.context.empty_ciphertext();
        self.encrypt_to(plaintext, seed, &mut out)?;
        Ok(out)
    }

    fn encrypt_to(
        &self,
        plaintext: &Plaintext,
        seed: &[u8; 32],
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let context = &self.context;
        check_plaintext(context, plaintext)?;
        let level = plaintext.level;
        let ring = context.ring(level)?;
        let budget = plaintext.budget.plus_noise(context.noise.fresh_secret());
        budget.check_fits(context.log2_q(level)?)?;
        let mut uniform_seed = [0; 32];
        stream(context, seed, "ciphertext seed", 0).fill(&mut uniform_seed);
        let header = Ciphertext {
            preset: *context.digest(),
            key: self.digest(),
            level,
            slots: plaintext.slots,
            budget,
            parts: Vec::new(),
            seed: Some(uniform_seed),
        };
        out.reuse(header, ring, 1);
        let mut errors = stream(context, seed, "ciphertext error", 0);
        error_into(ring, &mut errors, out.parts[0].data_mut())?;
        let c1 = expand_uniform(context, &uniform_seed, level)?;
        // c0 = e - c1 s + m
        let kernels = Kernels::active();
        let mut product = context.pool.take_secret(ring.degree());
        for (prime, m) in ring.moduli().iter().enumerate() {
            let c0 = out.parts[0].residues_mut(prime);
            kernels.mul_into(m, c1.residues(prime), self.secret.residues(prime), &mut product);
            kernels.sub_assign(m, c0, &product);
            kernels.add_assign(m, c0, plaintext.poly.residues(prime));
        }
        out.parts.push(c1);
        Ok(())
    }

    /// Decrypts a ciphertext of degree 1 or 2. Its bounds say that it fits in the modulus, or it would not exist.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`].
    pub fn decrypt(&self, ciphertext: &Ciphertext) -> Result<Plaintext, CkksError> {
        let ring = self.context.ring(ciphertext.level)?;
        let mut out = Plaintext {
            preset: ciphertext.preset,
            level: ciphertext.level,
            slots: ciphertext.slots,
            budget: ciphertext.budget,
            poly: Poly::zero(ring),
        };
        self.decrypt_into(ciphertext, &mut out)?;
        Ok(out)
    }

    /// [`Self::decrypt`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::decrypt`]; then `out` is unchanged.
    pub fn decrypt_into(&self, ciphertext: &Ciphertext, out: &mut Plaintext) -> Result<(), CkksError> {
        if ciphertext.preset != *self.context.digest() {
            return Err(CkksError::PresetMismatch);
        }
        if ciphertext.key != self.digest() {
            return Err(CkksError::KeyMismatch);
        }
        let ring = self.context.ring(ciphertext.level)?;
        out.reuse(ciphertext, ring);
        let kernels = Kernels::active();
        for (prime, m) in ring.moduli().iter().enumerate() {
            let secret = self.secret.residues(prime).chunks(BLOCK);
            let message = out.poly.residues_mut(prime).chunks_mut(BLOCK);
            for (index, (message, s)) in message.zip(secret).enumerate() {
                let at = index * BLOCK..index * BLOCK + s.len();
                match ciphertext.parts.as_slice() {
                    [c0, c1] => {
                        message.copy_from_slice(&c0.residues(prime)[at.clone()]);
                        kernels.mul_add_assign(m, message, &c1.residues(prime)[at], s);
                    }
                    // Horner in s, from the highest part down.
                    parts => {
                        message.fill(0);
                        for part in parts.iter().rev() {
                            kernels.mul_assign(m, message, s);
                            kernels.add_assign(m, message, &part.residues(prime)[at.clone()]);
                        }
                    }
                }
            }
        }
        Ok(())
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

    /// [`Self::encrypt`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::encrypt`]; then `out` is unchanged.
    pub fn encrypt_into(&self, plaintext: &Plaintext, out: &mut Ciphertext) -> Result<(), CkksError> {
        self.encrypt_to(plaintext, &Zeroizing::new(random_seed()?), out)
    }

    /// Encrypts with the randomness of a secret seed, for tests and known answers; whoever knows the seed can
    /// decrypt. Use [`Self::encrypt`].
    ///
    /// # Errors
    /// Those of [`Self::encrypt`].
    pub fn encrypt_with_seed(&self, plaintext: &Plaintext, seed: &[u8; 32]) -> Result<Ciphertext, CkksError> {
        let mut out = self.context.empty_ciphertext();
        self.encrypt_to(plaintext, seed, &mut out)?;
        Ok(out)
    }

    fn encrypt_to(
        &self,
        plaintext: &Plaintext,
        seed: &[u8; 32],
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        check_plaintext(&self.context, plaintext)?;
        self.zero(plaintext.level, plaintext.slots, plaintext.budget, seed, out)?;
        Ok(out.parts[0].add_assign(&plaintext.poly)?)
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
        let mut out = self.context.empty_ciphertext();
        let seed = Zeroizing::new(random_seed()?);
        self.zero(level, self.context.slots(), budget, &seed, &mut out)?;
        Ok(out)
    }

    /// `(b u + e0, a u + e1)`, with the noise of that added to `budget`.
    fn zero(
        &self,
        level: usize,
        slots: usize,
        budget: Budget,
        seed: &[u8; 32],
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let context = &self.context;
        let ring = context.ring(level)?;
        let budget = budget.plus_noise(context.noise.fresh_public());
        budget.check_fits(context.log2_q(level)?)?;
        let header = Ciphertext {
            preset: *context.digest(),
            key: self.digest(),
            level,
            slots,
            budget,
            parts: Vec::new(),
            seed: None,
        };
        out.reuse(header, ring, 2);
        let kernels = Kernels::active();
        let mut u = context.pool.take_secret(out.parts[0].data().len());
        small_into(ring, &mut stream(context, seed, "encryption mask", 0), &mut u)?;
        for (index, (part, half)) in out.parts.iter_mut().zip([&self.b, &self.a]).enumerate() {
            let mut errors = stream(context, seed, "encryption error", index as u64);
            error_into(ring, &mut errors, part.data_mut())?;
            let rows = part.data_mut().chunks_exact_mut(ring.degree());
            let masks = u.chunks_exact(ring.degree());
            for (prime, ((row, u), m)) in rows.zip(masks).zip(ring.moduli()).enumerate() {
                kernels.mul_add_assign(m, row, half.residues(prime), u);
            }
        }
        Ok(())
    }
}
