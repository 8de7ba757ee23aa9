//! Sums of rotations before the division of key switching (double hoisting: Bossuat, Mouchet, Troncoso-Pastoriza and
//! Hubaux, ePrint 2020/1203, section 4).
//!
//! The sum of a rotation's digits with its key is over QP, and P times what it stands for. Products with plaintexts that
//! are over QP too, and sums, can be taken there, and divided by P once for all of them.

use crate::ciphertext::Ciphertext;
use crate::context::{Context, check_scale};
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_levels, check_linear, check_scales, header};
use crate::galois::GaloisKeys;
use crate::key_switch::Digits;
use crate::noise::Budget;
use crate::preset::PresetDigest;
use crate::rotate::Hoisted;
use galen_rns::basis::ModDown;
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;
use zeroize::Zeroize;

/// P times a ciphertext of degree 1, over QP. Its scale and bounds are those after the division by P, without the
/// rounding of that.
#[derive(Clone)]
pub struct Extended {
    /// Everything but polynomials.
    pub(crate) header: Ciphertext,
    pub(crate) parts: [Poly<Eval>; 2],
}

impl core::fmt::Debug for Extended {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Extended")
            .field("level", &self.level())
            .field("budget", self.budget())
            .finish_non_exhaustive()
    }
}

impl Extended {
    /// Its level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.header.level
    }

    /// Its scale, once divided by P.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.header.budget.scale
    }

    /// Scale, and bounds on message and noise, once divided by P.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.header.budget
    }

    /// Takes everything but polynomials from `header`, and is over `ring` then, in the memory that is there. The caller
    /// overwrites the parts.
    fn reuse(&mut self, header: Ciphertext, ring: &Arc<Ring>) {
        self.header = header;
        self.parts.iter_mut().for_each(|part| part.reshape(ring));
    }
}

/// A plaintext over QP. Wiped on drop; `Debug` prints no values.
#[derive(Clone)]
pub struct ExtendedPlaintext {
    pub(crate) preset: PresetDigest,
    level: usize,
    budget: Budget,
    pub(crate) poly: Poly<Eval>,
}

impl Drop for ExtendedPlaintext {
    fn drop(&mut self) {
        self.poly.zeroize();
    }
}

impl core::fmt::Debug for ExtendedPlaintext {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("ExtendedPlaintext")
            .field("level", &self.level)
            .field("budget", &self.budget)
            .finish_non_exhaustive()
    }
}

impl ExtendedPlaintext {
    /// Its level.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level
    }

    /// Scale, and bounds on message and noise.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        &self.budget
    }
}

impl Context {
    /// [`Self::encode_at`] over QP, for products with [`Extended`] ciphertexts.
    ///
    /// # Errors
    /// Those of [`Self::encode_at`].
    pub fn encode_extended(
        &self,
        values: &[f64],
        magnitude: f64,
        level: usize,
        scale: f64,
    ) -> Result<ExtendedPlaintext, CkksError> {
        let ring = &self.at(level)?.switching.ring;
        let (budget, poly) = self.encode_over(ring, values, magnitude, level, scale)?;
        Ok(ExtendedPlaintext {
            preset: *self.digest(),
            level,
            budget,
            poly,
        })
    }
}

impl Evaluator {
    /// Memory for results over QP, with nothing in it; see [`Self::empty`].
    #[must_use]
    pub fn empty_extended(&self) -> Extended {
        let ring = &self.context().bottom().switching.ring;
        Extended {
            header: header(&self.empty()),
            parts: [Poly::zero(ring), Poly::zero(ring)],
        }
    }

    /// P times a ciphertext of degree 1, over QP. Adds no noise.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::CiphertextDegree`].
    pub fn extend(&self, a: &Ciphertext) -> Result<Extended, CkksError> {
        let mut out = self.empty_extended();
        self.extend_into(a, &mut out)?;
        Ok(out)
    }

    /// [`Self::extend`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::extend`]; then `out` is unchanged.
    pub fn extend_into(&self, a: &Ciphertext, out: &mut Extended) -> Result<(), CkksError> {
        self.check_preset(a)?;
        check_linear(a)?;
        let switching = &self.context().at(a.level)?.switching;
        out.reuse(header(a), &switching.ring);
        let kernels = Kernels::active();
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            for (prime, m) in switching.ring.moduli().iter().enumerate() {
                let row = part.residues_mut(prime);
                match switching.special_residues.get(prime) {
                    Some(&p) => kernels.mul_scalar_into(m, x.residues(prime), p, row),
                    // P is zero modulo the special primes.
                    None => row.fill(0),
                }
            }
        }
        Ok(())
    }

    /// A rotation without its division by P; see [`Evaluator::rotate`]. Zero steps take no key.
    ///
    /// # Errors
    /// Those of [`Evaluator::rotate`].
    pub fn rotate_extended(&self, a: &Hoisted, steps: i64, keys: &GaloisKeys) -> Result<Extended, CkksError> {
        let mut out = self.empty_extended();
        self.rotate_extended_into(a, steps, keys, &mut out)?;
        Ok(out)
    }

    /// [`Self::rotate_extended`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Evaluator::rotate`]; then `out` is unchanged.
    pub fn rotate_extended_into(
        &self,
        a: &Hoisted,
        steps: i64,
        keys: &GaloisKeys,
        out: &mut Extended,
    ) -> Result<(), CkksError> {
        let ct = &a.ciphertext;
        self.check_galois_keys(ct, keys)?;
        let Some(key) = keys.rotation(steps)? else {
            return self.extend_into(ct, out);
        };
        let switching = &self.context().at(ct.level)?.switching;
        let budget = ct.budget.plus_noise(switching.digits_noise);
        self.check_budget(ct.level, &budget)?;
        let kernels = Kernels::active();
        let n = switching.ring.degree();
        let mut digits = Digits::extended(ct.parts[1].data(), &a.digits);
        let mut sums = self.context().pool.take(2 * n);
        let (sum0, sum1) = sums.split_at_mut(n);
        let rotated = Ciphertext {
            budget,
            slots: self.context().slots(),
            ..header(ct)
        };
        out.reuse(rotated, &switching.ring);
        for (prime, m) in switching.ring.moduli().iter().enumerate() {
            switching.sums(&key.key, &mut digits, prime, [&mut *sum0, &mut *sum1], false)?;
            if let Some(&p) = switching.special_residues.get(prime) {
                kernels.mul_scalar_add_assign(m, sum0, ct.parts[0].residues(prime), p);
            }
            for (part, sum) in out.parts.iter_mut().zip([&*sum0, &*sum1]) {
                key.automorphism.apply_eval(sum, part.residues_mut(prime))?;
            }
        }
        Ok(())
    }

    /// `a * plaintext`, slot by slot; the scale is the product of scales.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::LevelMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mul_extended(&self, a: &Extended, plaintext: &ExtendedPlaintext) -> Result<Extended, CkksError> {
        let mut out = self.empty_extended();
        self.mul_extended_into(a, plaintext, &mut out)?;
        Ok(out)
    }

    /// [`Self::mul_extended`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::mul_extended`]; then `out` is unchanged.
    pub fn mul_extended_into(
        &self,
        a: &Extended,
        plaintext: &ExtendedPlaintext,
        out: &mut Extended,
    ) -> Result<(), CkksError> {
        let budget = self.extended_product(a, plaintext)?;
        let product = Ciphertext {
            budget,
            ..header(&a.header)
        };
        out.reuse(product, plaintext.poly.ring());
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            x.mul_into(&plaintext.poly, part)?;
        }
        Ok(())
    }

    /// `acc += a * plaintext`, which has the level, key and scale of `acc`.
    ///
    /// # Errors
    /// Those of [`Self::mul_extended`], [`CkksError::KeyMismatch`], [`CkksError::ScaleMismatch`]; then `acc` is unchanged.
    pub fn mul_add_extended(
        &self,
        acc: &mut Extended,
        a: &Extended,
        plaintext: &ExtendedPlaintext,
    ) -> Result<(), CkksError> {
        let product = self.extended_product(a, plaintext)?;
        self.add_header(acc, a, product)?;
        for (sum, part) in acc.parts.iter_mut().zip(&a.parts) {
            sum.mul_add_assign(part, &plaintext.poly)?;
        }
        Ok(())
    }

    /// `acc += a`; both have one level, key and scale.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::KeyMismatch`], [`CkksError::LevelMismatch`],
    /// [`CkksError::ScaleMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`]; then `acc` is unchanged.
    pub fn add_extended(&self, acc: &mut Extended, a: &Extended) -> Result<(), CkksError> {
        self.add_header(acc, a, a.header.budget)?;
        for (sum, part) in acc.parts.iter_mut().zip(&a.parts) {
            sum.add_assign(part)?;
        }
        Ok(())
    }

    fn extended_product(&self, a: &Extended, plaintext: &ExtendedPlaintext) -> Result<Budget, CkksError> {
        self.check_preset(&a.header)?;
        if plaintext.preset != *self.context().digest() {
            return Err(CkksError::PresetMismatch);
        }
        check_levels(a.level(), plaintext.level)?;
        let budget = a.header.budget.product(&plaintext.budget);
        check_scale(budget.scale)?;
        self.check_budget(a.level(), &budget)?;
        Ok(budget)
    }

    /// Adds a budget, and the slots of `a`, to what is known of `acc`.
    fn add_header(&self, acc: &mut Extended, a: &Extended, budget: Budget) -> Result<(), CkksError> {
        self.check_pair(&acc.header, &a.header)?;
        check_scales(acc.scale(), budget.scale)?;
        let sum = acc.header.budget.sum(&budget);
        self.check_budget(acc.level(), &sum)?;
        acc.header.budget = sum;
        acc.header.slots = acc.header.slots.max(a.header.slots);
        Ok(())
    }

    /// `outer += inner` rotated by `steps`: the giant step of a linear transform. Of `inner` only the second part is
    /// divided by P, to take its digits; the rest stays over QP.
    ///
    /// # Errors
    /// Those of [`Self::add_extended`], [`CkksError::MissingRotation`]; then `outer` is unchanged.
    pub fn rotate_add_extended(
        &self,
        outer: &mut Extended,
        inner: &Extended,
        steps: i64,
        keys: &GaloisKeys,
    ) -> Result<(), CkksError> {
        self.check_key(&inner.header, &keys.context, keys.digest())?;
        let Some(key) = keys.rotation(steps)? else {
            return self.add_extended(outer, inner);
        };
        let context = self.context();
        let switching = &context.at(inner.level())?.switching;
        let budget = inner.header.budget.plus_noise(switching.noise);
        self.add_header(outer, inner, budget)?;
        outer.header.slots = context.slots();
        let n = switching.ring.degree();
        let mut second = context.pool.take(switching.own() * n);
        let mut words = context.pool.take(0);
        let down = &switching.down.whole;
        down.apply_eval_into(inner.parts[1].data(), &mut second, words.as_vec())?;
        let mut digits = switching.prepare(&second, &context.pool)?;
        let mut rows = context.pool.take(3 * n);
        let (sum0, rest) = rows.split_at_mut(n);
        let (sum1, rotated) = rest.split_at_mut(n);
        let kernels = Kernels::active();
        for (prime, m) in switching.ring.moduli().iter().enumerate() {
            switching.sums(&key.key, &mut digits, prime, [&mut *sum0, &mut *sum1], false)?;
            kernels.add_assign(m, sum0, inner.parts[0].residues(prime));
            for (part, sum) in outer.parts.iter_mut().zip([&*sum0, &*sum1]) {
                key.automorphism.apply_eval(sum, rotated)?;
                kernels.add_assign(m, part.residues_mut(prime), rotated);
            }
        }
        Ok(())
    }

    /// Divides by P: a ciphertext again.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn reduce(&self, a: &Extended) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.reduce_into(a, out))
    }

    /// [`Self::reduce`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::reduce`]; then `out` is unchanged.
    pub fn reduce_into(&self, a: &Extended, out: &mut Ciphertext) -> Result<(), CkksError> {
        self.check_preset(&a.header)?;
        let switching = &self.context().at(a.level())?.switching;
        let budget = a.header.budget.plus_noise(self.context().noise.rounding(1));
        self.check_budget(a.level(), &budget)?;
        let reduced = Ciphertext {
            budget,
            ..header(&a.header)
        };
        self.divide_extended(a, reduced, &switching.down.whole, out)
    }

    /// Divides by P and by the prime of the level at once: a rescaled ciphertext.
    ///
    /// # Errors
    /// Those of [`Self::reduce`] and [`Evaluator::rescale`].
    pub fn reduce_rescale(&self, a: &Extended) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.reduce_rescale_into(a, out))
    }

    /// [`Self::reduce_rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::reduce_rescale`]; then `out` is unchanged.
    pub fn reduce_rescale_into(&self, a: &Extended, out: &mut Ciphertext) -> Result<(), CkksError> {
        let prime = self.level_prime(&a.header)?;
        let scale = a.scale() / prime;
        check_scale(scale)?;
        let rounding = self.context().noise.rounding(1);
        let budget = a.header.budget.divided(prime, rounding, scale);
        self.check_budget(a.level() - 1, &budget)?;
        let switching = &self.context().at(a.level())?.switching;
        let division = switching.down_rescale.as_ref().ok_or(CkksError::NoLevelLeft)?;
        let divided = Ciphertext {
            budget,
            level: a.level() - 1,
            ..header(&a.header)
        };
        self.divide_extended(a, divided, &division.whole, out)
    }

    fn divide_extended(
        &self,
        a: &Extended,
        divided: Ciphertext,
        down: &ModDown,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        out.reuse(divided, down.keep(), 2);
        let mut words = self.context().pool.take(0);
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            down.apply_eval_into(x.data(), part.data_mut(), words.as_vec())?;
        }
        Ok(())
    }
}
