//! Products of ciphertexts, and relinearisation: from degree 2 back to degree 1.

use crate::ciphertext::Ciphertext;
use crate::context::{Division, check_scale};
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_linear, check_scales, header};
use crate::key_switch::Digits;
use crate::keys::RelinKey;
use crate::noise::Budget;
use galen_rns::kernel::Kernels;
use galen_rns::poly::Poly;

impl Evaluator {
    /// `a^2`, of degree 2; the scale is squared.
    ///
    /// # Errors
    /// [`CkksError::CiphertextDegree`] if a has degree 2 already, [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.square_into(a, out))
    }

    /// [`Self::square`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::square`]; then `out` is unchanged.
    pub fn square_into(&self, a: &Ciphertext, out: &mut Ciphertext) -> Result<(), CkksError> {
        let budget = self.check_factors(a, a)?;
        self.tensor(a, None, budget, out)
    }

    /// `a * b`, of degree 2; the scale is the product of scales.
    ///
    /// # Errors
    /// [`CkksError::CiphertextDegree`] if one has degree 2 already, [`CkksError::LevelMismatch`],
    /// [`CkksError::KeyMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn multiply(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.multiply_into(a, b, out))
    }

    /// [`Self::multiply`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::multiply`]; then `out` is unchanged.
    pub fn multiply_into(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let budget = self.check_factors(a, b)?;
        self.tensor(a, Some(b), budget, out)
    }

    fn tensor(
        &self,
        a: &Ciphertext,
        b: Option<&Ciphertext>,
        budget: Budget,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let ring = self.context().ring(a.level)?;
        let slots = a.slots.max(b.map_or(0, |b| b.slots));
        let product = Ciphertext {
            budget,
            slots,
            ..header(a)
        };
        out.reuse(product, ring, 3);
        let [d0, d1, d2] = out.parts.as_mut_slice() else {
            return Err(degree_2());
        };
        let n = ring.degree();
        let rows = d0
            .data_mut()
            .chunks_exact_mut(n)
            .zip(d1.data_mut().chunks_exact_mut(n))
            .zip(d2.data_mut().chunks_exact_mut(n));
        for (prime, ((d0, d1), d2)) in rows.enumerate() {
            tensor_row(a, b, prime, [d0, d1, d2]);
        }
        Ok(())
    }

    /// `acc += a * b`, of degree 2: a sum of products that is relinearised once. `acc` has the level of a and b, and the
    /// scale of their product.
    ///
    /// # Errors
    /// Those of [`Self::multiply`], and [`CkksError::ScaleMismatch`]; then `acc` is unchanged.
    pub fn multiply_add_assign(
        &self,
        acc: &mut Ciphertext,
        a: &Ciphertext,
        b: &Ciphertext,
    ) -> Result<(), CkksError> {
        let product = self.check_factors(a, b)?;
        self.check_pair(acc, a)?;
        check_scales(acc.scale(), product.scale)?;
        let budget = acc.budget.sum(&product);
        self.check_budget(a.level, &budget)?;
        if acc.parts.len() < 3 {
            acc.parts.push(Poly::zero(self.context().ring(a.level)?));
        }
        let [d0, d1, d2] = acc.parts.as_mut_slice() else {
            return Err(degree_2());
        };
        let ([a0, a1], [b0, b1]) = (a.parts.as_slice(), b.parts.as_slice()) else {
            return Err(degree_2());
        };
        d0.mul_add_assign(a0, b0)?;
        d1.mul_add_assign(a0, b1)?;
        d1.mul_add_assign(a1, b0)?;
        d2.mul_add_assign(a1, b1)?;
        acc.budget = budget;
        acc.slots = acc.slots.max(a.slots).max(b.slots);
        acc.seed = None;
        Ok(())
    }

    fn check_factors(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Budget, CkksError> {
        self.check_pair(a, b)?;
        check_linear(a)?;
        check_linear(b)?;
        let budget = a.budget.product(&b.budget);
        check_scale(budget.scale)?;
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }

    /// Brings a ciphertext of degree 2 to degree 1; one of degree 1 comes back as it is.
    ///
    /// # Errors
    /// [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`], [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn relinearise(&self, a: &Ciphertext, key: &RelinKey) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.relinearise_into(a, key, out))
    }

    /// [`Self::relinearise`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::relinearise`]; then `out` is unchanged.
    pub fn relinearise_into(
        &self,
        a: &Ciphertext,
        key: &RelinKey,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_key(a, &key.context, key.digest())?;
        let [c0, c1, c2] = a.parts.as_slice() else {
            return self.drop_level_into(a, a.level, out);
        };
        let level = self.context().at(a.level)?;
        let switching = &level.switching;
        let budget = a.budget.plus_noise(switching.noise);
        self.check_budget(a.level, &budget)?;
        out.reuse(Ciphertext { budget, ..header(a) }, &level.ring, 2);
        let pool = &self.context().pool;
        let mut digits = switching.prepare(c2.data(), pool)?;
        let kernels = Kernels::active();
        let sums = |prime: usize, [q0, q1]: [&[u64]; 2]| {
            for (part, (c, q)) in out.parts.iter_mut().zip([(c0, q0), (c1, q1)]) {
                let m = &level.ring.moduli()[prime];
                kernels.add_into(m, c.residues(prime), q, part.residues_mut(prime));
            }
            Ok(())
        };
        switching.switch(&key.key, &mut digits, &switching.down, pool, |_, _| false, sums)
    }

    /// Relinearises and rescales a ciphertext of degree 2 with one division, by the special primes and that of the level
    /// together: faster than one after the other, and with one rounding less.
    ///
    /// # Errors
    /// Those of [`Self::relinearise`] and [`Self::rescale`].
    pub fn relin_rescale(&self, a: &Ciphertext, key: &RelinKey) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.relin_rescale_into(a, key, out))
    }

    /// [`Self::relin_rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::relin_rescale`]; then `out` is unchanged.
    pub fn relin_rescale_into(
        &self,
        a: &Ciphertext,
        key: &RelinKey,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_key(a, &key.context, key.digest())?;
        let [c0, c1, c2] = a.parts.as_slice() else {
            return self.rescale_into(a, out);
        };
        let (budget, division) = self.check_fused(a, &a.budget)?;
        let switching = &self.context().at(a.level)?.switching;
        let mut digits = switching.prepare(c2.data(), &self.context().pool)?;
        let kernels = Kernels::active();
        let first = |prime: usize, [sum0, sum1]: [&mut [u64]; 2]| {
            let Some(&p) = switching.special_residues.get(prime) else {
                return false;
            };
            let m = &switching.ring.moduli()[prime];
            kernels.mul_scalar_into(m, c0.residues(prime), p, sum0);
            kernels.mul_scalar_into(m, c1.residues(prime), p, sum1);
            true
        };
        self.finish_fused(a, a.slots, budget, division, key, &mut digits, first, out)
    }

    /// `a * b`, relinearised and rescaled; see [`Self::relin_rescale`].
    ///
    /// # Errors
    /// Those of [`Self::multiply`] and [`Self::relin_rescale`].
    pub fn multiply_relin_rescale(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        key: &RelinKey,
    ) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.multiply_relin_rescale_into(a, b, key, out))
    }

    /// [`Self::multiply_relin_rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::multiply_relin_rescale`]; then `out` is unchanged.
    pub fn multiply_relin_rescale_into(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        key: &RelinKey,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.product(a, Some(b), key, out)
    }

    /// `a^2`, relinearised and rescaled; see [`Self::relin_rescale`].
    ///
    /// # Errors
    /// Those of [`Self::square`] and [`Self::relin_rescale`].
    pub fn square_relin_rescale(&self, a: &Ciphertext, key: &RelinKey) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.square_relin_rescale_into(a, key, out))
    }

    /// [`Self::square_relin_rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::square_relin_rescale`]; then `out` is unchanged.
    pub fn square_relin_rescale_into(
        &self,
        a: &Ciphertext,
        key: &RelinKey,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.product(a, None, key, out)
    }

    /// The product with `b`, or the square, relinearised and rescaled.
    fn product(
        &self,
        a: &Ciphertext,
        b: Option<&Ciphertext>,
        key: &RelinKey,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_key(a, &key.context, key.digest())?;
        let budget = self.check_factors(a, b.unwrap_or(a))?;
        let (budget, division) = self.check_fused(a, &budget)?;
        let slots = a.slots.max(b.map_or(0, |b| b.slots));
        let context = self.context();
        let switching = &context.at(a.level)?.switching;
        let kernels = Kernels::active();
        let n = switching.ring.degree();
        let mut d2 = context.pool.take(switching.own() * n);
        for (prime, d2) in d2.chunks_exact_mut(n).enumerate() {
            let m = &switching.ring.moduli()[prime];
            kernels.mul_into(m, row(a, 1, prime), row(b.unwrap_or(a), 1, prime), d2);
        }
        let mut digits = switching.prepare(&d2, &context.pool)?;
        // The other parts of the product, times P, are what the sums begin with.
        let first = |prime: usize, [sum0, sum1]: [&mut [u64]; 2]| {
            let Some(&p) = switching.special_residues.get(prime) else {
                return false;
            };
            let m = &switching.ring.moduli()[prime];
            let (a0, a1) = (row(a, 0, prime), row(a, 1, prime));
            match b {
                Some(b) => {
                    let (b0, b1) = (row(b, 0, prime), row(b, 1, prime));
                    kernels.mul_into(m, a0, b0, sum0);
                    kernels.mul_into(m, a0, b1, sum1);
                    kernels.mul_add_assign(m, sum1, a1, b0);
                    kernels.mul_scalar_assign(m, sum1, p);
                }
                None => {
                    kernels.mul_into(m, a0, a0, sum0);
                    kernels.mul_into(m, a0, a1, sum1);
                    kernels.mul_scalar_assign(m, sum1, m.add(p, p));
                }
            }
            kernels.mul_scalar_assign(m, sum0, p);
            true
        };
        self.finish_fused(a, slots, budget, division, key, &mut digits, first, out)
    }

    /// Switches and divides into the parts of `out`.
    #[allow(clippy::too_many_arguments, reason = "what a fused step is made of")]
    fn finish_fused(
        &self,
        a: &Ciphertext,
        slots: usize,
        budget: Budget,
        division: &Division,
        key: &RelinKey,
        digits: &mut Digits<'_>,
        first: impl FnMut(usize, [&mut [u64]; 2]) -> bool,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let divided = Ciphertext {
            budget,
            slots,
            level: a.level - 1,
            ..header(a)
        };
        out.reuse(divided, division.whole.keep(), 2);
        let context = self.context();
        let switching = &context.at(a.level)?.switching;
        let last = |prime: usize, quotients: [&[u64]; 2]| {
            for (part, quotient) in out.parts.iter_mut().zip(quotients) {
                part.residues_mut(prime).copy_from_slice(quotient);
            }
            Ok(())
        };
        switching.switch(&key.key, digits, division, &context.pool, first, last)
    }

    /// The budget after relinearising and rescaling a ciphertext of degree 2 with this one, and the division that does it.
    fn check_fused(&self, a: &Ciphertext, budget: &Budget) -> Result<(Budget, &Division), CkksError> {
        let prime = self.level_prime(a)?;
        let switching = &self.context().at(a.level)?.switching;
        let switched = budget.plus_noise(switching.digits_noise);
        self.check_budget(a.level, &switched)?;
        let scale = budget.scale / prime;
        check_scale(scale)?;
        let divided = switched.divided(prime, self.context().noise.rounding(1), scale);
        self.check_budget(a.level - 1, &divided)?;
        Ok((
            divided,
            switching.down_rescale.as_ref().ok_or(CkksError::NoLevelLeft)?,
        ))
    }
}

/// The products of the parts of `a` and `b` (or of `a` with itself) modulo one prime.
fn tensor_row(a: &Ciphertext, b: Option<&Ciphertext>, prime: usize, out: [&mut [u64]; 3]) {
    let kernels = Kernels::active();
    let m = &a.parts[0].ring().moduli()[prime];
    let x = [a.parts[0].residues(prime), a.parts[1].residues(prime)];
    match b {
        Some(b) => {
            let y = [b.parts[0].residues(prime), b.parts[1].residues(prime)];
            kernels.tensor(m, x, y, out);
        }
        None => kernels.square_tensor(m, x, out),
    }
}

/// The residues of one part modulo one prime.
fn row(ct: &Ciphertext, part: usize, prime: usize) -> &[u64] {
    ct.parts[part].residues(prime)
}

fn degree_2() -> CkksError {
    CkksError::CiphertextDegree { degree: 2, needed: 1 }
}
