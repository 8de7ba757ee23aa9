//! Making an answer tell nothing but its values: a fresh encryption of zero, and flooding.

use crate::ciphertext::Ciphertext;
use crate::error::CkksError;
use crate::keys::{PublicKey, stream};
use galen_rns::poly::{Coeff, Poly};
use galen_rns::sampling::{MAX_FLOODING_BITS, flooding};
use galen_rns::xof::random_seed;
use zeroize::Zeroizing;

impl PublicKey {
    /// Hides how a ciphertext was computed from the holder of its key. Without this, `c1` of a linear layer's answer
    /// is the weighted sum of known polynomials, and gives every weight away; and noise depends on weights too.
    ///
    /// Adds a fresh encryption of zero, and to every coefficient noise whose standard deviation is at least
    /// `2^flooding_bits` times the Euclidean norm that the present noise may have (which its bound in slots bounds as
    /// well: the norm of N coefficients is the quadratic mean of N embeddings). By the rule of Li, Micciancio, Schultz
    /// and Sorrell (ePrint 2022/816), `sqrt(12 tau) 2^(s/2)` for tau answers and statistical security s, the bits are
    /// `s/2 + log2(12 tau)/2`, rounded up. They cost as many bits of precision and `log2(sqrt(N))` more; the bound of the
    /// result says what is left.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`], [`CkksError::CiphertextDegree`] (relinearise first),
    /// [`CkksError::Overflow`] where the modulus has no room for the noise.
    pub fn rerandomise(&self, ct: &Ciphertext, flooding_bits: u32) -> Result<Ciphertext, CkksError> {
        let context = &self.context;
        if ct.preset != *context.digest() {
            return Err(CkksError::PresetMismatch);
        }
        if ct.key != self.digest() {
            return Err(CkksError::KeyMismatch);
        }
        if ct.degree() != 1 {
            return Err(CkksError::CiphertextDegree {
                degree: ct.degree(),
                needed: 1,
            });
        }
        let available_bits = context.log2_q(ct.level)?;
        let needed_bits = ct.noise_bound().log2().ceil() + f64::from(flooding_bits);
        if needed_bits > f64::from(MAX_FLOODING_BITS) {
            return Err(CkksError::Overflow {
                needed_bits,
                available_bits,
            });
        }
        // At least one bit, where the noise bound is that of an exact zero.
        let bits = needed_bits.max(1.0) as u32;
        let zero = self.encrypt_zero(ct.level, ct.scale())?;
        let noise = zero.noise_bound() + context.noise.flooding(bits);
        let budget = ct.budget.plus_noise(noise);
        budget.check_fits(available_bits)?;

        let ring = context.ring(ct.level)?;
        let seed = Zeroizing::new(random_seed()?);
        let mut words = Zeroizing::new(vec![0i64; ring.degree()]);
        flooding(bits, &mut stream(context, &seed, "flooding", 0), &mut words)?;
        let flood = Zeroizing::new(Poly::<Coeff>::from_i64(ring, &words)?.into_eval());
        let mut masked = Ciphertext {
            budget,
            seed: None,
            ..ct.clone()
        };
        for (part, fresh) in masked.parts.iter_mut().zip(&zero.parts) {
            part.add_assign(fresh)?;
        }
        masked.parts[0].add_assign(&flood)?;
        Ok(masked)
    }
}
