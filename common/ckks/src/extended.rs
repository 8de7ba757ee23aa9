//! Sums of rotations before the division of key switching (double hoisting: Bossuat, Mouchet, Troncoso-Pastoriza and
//! Hubaux, ePrint 2020/1203, section 4).
//!
//! The sum of a rotation's digits with its key is over QP, and P times what it stands for. Products with plaintexts that
//! are over QP too, and sums, can be taken there, and divided by P once for all of them.

use crate::ciphertext::Ciphertext;
use crate::context::{Context, check_scale};
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_levels, check_scales, header};
use crate::galois::GaloisKeys;
use crate::key_switch::Digits;
use crate::noise::Budget;
use crate::preset::PresetDigest;
use crate::rotate::{Hoisted, check_linear};
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
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
    /// P times a ciphertext of degree 1, over QP. Adds no noise.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::CiphertextDegree`].
    pub fn extend(&self, a: &Ciphertext) -> Result<Extended, CkksError> {
        self.check_preset(a)?;
        check_linear(a)?;
        let switching = &self.context().at(a.level)?.switching;
        let kernels = Kernels::active();
        let parts = [0, 1].map(|index| {
            let mut part = Poly::zero(&switching.ring);
            let factors = switching.ring.moduli().iter().zip(&switching.special_residues);
            for (prime, (m, &p)) in factors.enumerate() {
                let row = a.parts[index].residues(prime);
                kernels.mul_scalar_into(m, row, p, part.residues_mut(prime));
            }
            part
        });
        Ok(Extended {
            header: header(a),
            parts,
        })
    }

    /// A rotation without its division by P; see [`Evaluator::rotate`]. Zero steps take no key.
    ///
    /// # Errors
    /// Those of [`Evaluator::rotate`].
    pub fn rotate_extended(&self, a: &Hoisted, steps: i64, keys: &GaloisKeys) -> Result<Extended, CkksError> {
        let ct = &a.ciphertext;
        self.check_galois_keys(ct, keys)?;
        let Some(key) = keys.rotation(steps)? else {
            return self.extend(ct);
        };
        let switching = &self.context().at(ct.level)?.switching;
        let budget = ct.budget.plus_noise(switching.digits_noise);
        self.check_budget(ct.level, &budget)?;
        let kernels = Kernels::active();
        let n = switching.ring.degree();
        let mut digits = Digits::extended(ct.parts[1].data(), &a.digits);
        let mut sums = self.context().pool.take(2 * n);
        let (sum0, sum1) = sums.split_at_mut(n);
        let mut parts = [Poly::zero(&switching.ring), Poly::zero(&switching.ring)];
        for (prime, m) in switching.ring.moduli().iter().enumerate() {
            switching.sums(&key.key, &mut digits, prime, [&mut *sum0, &mut *sum1], false)?;
            if let Some(&p) = switching.special_residues.get(prime) {
                kernels.mul_scalar_add_assign(m, sum0, ct.parts[0].residues(prime), p);
            }
            for (part, sum) in parts.iter_mut().zip([&*sum0, &*sum1]) {
                key.automorphism.apply_eval(sum, part.residues_mut(prime))?;
            }
        }
        Ok(Extended {
            header: Ciphertext {
                budget,
                slots: self.context().slots(),
                ..header(ct)
            },
            parts,
        })
    }

    /// `a * plaintext`, slot by slot; the scale is the product of scales.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::LevelMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mul_extended(&self, a: &Extended, plaintext: &ExtendedPlaintext) -> Result<Extended, CkksError> {
        let budget = self.extended_product(a, plaintext)?;
        let [mut first, mut second] = [
            Poly::zero(plaintext.poly.ring()),
            Poly::zero(plaintext.poly.ring()),
        ];
        a.parts[0].mul_into(&plaintext.poly, &mut first)?;
        a.parts[1].mul_into(&plaintext.poly, &mut second)?;
        Ok(Extended {
            header: Ciphertext {
                budget,
                ..header(&a.header)
            },
            parts: [first, second],
        })
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
        self.check_preset(&inner.header)?;
        if keys.context.digest() != self.context().digest() {
            return Err(CkksError::PresetMismatch);
        }
        if keys.digest() != inner.header.key {
            return Err(CkksError::KeyMismatch);
        }
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
        self.check_preset(&a.header)?;
        let level = self.context().at(a.level())?;
        let budget = a.header.budget.plus_noise(self.context().noise.rounding(1));
        self.check_budget(a.level(), &budget)?;
        let mut out = self.empty();
        out.reuse(
            Ciphertext {
                budget,
                ..header(&a.header)
            },
            &level.ring,
            2,
        );
        let mut words = self.context().pool.take(0);
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            let down = &level.switching.down.whole;
            down.apply_eval_into(x.data(), part.data_mut(), words.as_vec())?;
        }
        Ok(out)
    }

    /// Divides by P and by the prime of the level at once: a rescaled ciphertext.
    ///
    /// # Errors
    /// Those of [`Self::reduce`] and [`Evaluator::rescale`].
    pub fn reduce_rescale(&self, a: &Extended) -> Result<Ciphertext, CkksError> {
        let prime = self.level_prime(&a.header)?;
        let scale = a.scale() / prime;
        check_scale(scale)?;
        let budget = a
            .header
            .budget
            .divided(prime, self.context().noise.rounding(1), scale);
        self.check_budget(a.level() - 1, &budget)?;
        let switching = &self.context().at(a.level())?.switching;
        let down = &switching
            .down_rescale
            .as_ref()
            .ok_or(CkksError::NoLevelLeft)?
            .whole;
        let mut out = self.empty();
        let divided = Ciphertext {
            budget,
            level: a.level() - 1,
            ..header(&a.header)
        };
        out.reuse(divided, down.keep(), 2);
        let mut words = self.context().pool.take(0);
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            down.apply_eval_into(x.data(), part.data_mut(), words.as_vec())?;
        }
        Ok(out)
    }
}
