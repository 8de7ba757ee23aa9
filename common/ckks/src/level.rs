//! Going down in levels: rescaling, and dropping primes.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::check_scale;
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_drop, header};
use crate::noise::Budget;
use galen_rns::basis::ModDown;
use galen_rns::poly::Poly;

/// The residues of all parts, of which there are two or three; the rest is empty. An array, for a list would be allocated.
fn parts(a: &Ciphertext) -> [&[u64]; 3] {
    [0, 1, 2].map(|index| a.parts.get(index).map_or(&[][..], Poly::data))
}

/// [`parts`] to write to.
fn parts_mut(a: &mut Ciphertext) -> [&mut [u64]; 3] {
    let mut parts = a.parts.iter_mut().map(Poly::data_mut);
    [(); 3].map(|()| parts.next().unwrap_or_default())
}

impl Evaluator {
    /// Divides by the prime of the level, which goes with it: level and scale go down. From
    /// [`Context::product_scale`](crate::context::Context::product_scale) this lands on exactly the nominal scale of the
    /// level below.
    ///
    /// A ciphertext of degree 2 may be rescaled too, but its rounding costs some nine bits more: relinearise before
    /// where precision matters.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`], [`CkksError::InvalidScale`] (a scale below the prime), [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.rescale_into(a, out))
    }

    /// [`Self::rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::rescale`]; then `out` is unchanged.
    pub fn rescale_into(&self, a: &Ciphertext, out: &mut Ciphertext) -> Result<(), CkksError> {
        let prime = self.level_prime(a)?;
        self.divide(a, a.scale() / prime, out)
    }

    /// [`Self::rescale`] with the scale of the result stated. What it is off from the true one counts as noise, so it
    /// should be within rounding of `a.scale() / prime`.
    ///
    /// # Errors
    /// Those of [`Self::rescale`].
    pub fn rescale_to(&self, a: &Ciphertext, scale: f64) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.divide(a, scale, out))
    }

    /// [`Self::rescale`] in place.
    ///
    /// # Errors
    /// Those of [`Self::rescale`]; then `a` is unchanged.
    pub fn rescale_assign(&self, a: &mut Ciphertext) -> Result<(), CkksError> {
        let prime = self.level_prime(a)?;
        let (budget, down) = self.check_division(a, a.scale() / prime)?;
        let words = down.keep().moduli().len() * down.keep().degree();
        let (mut quotient, mut scratch) = (self.context().pool.take(words), self.context().pool.take(0));
        for part in &mut a.parts {
            down.apply_eval_into(part.data(), &mut quotient, scratch.as_vec())?;
            part.reshape(down.keep());
            part.data_mut().copy_from_slice(&quotient);
        }
        a.budget = budget;
        a.level -= 1;
        a.seed = None;
        Ok(())
    }

    fn divide(&self, a: &Ciphertext, scale: f64, out: &mut Ciphertext) -> Result<(), CkksError> {
        let (budget, down) = self.check_division(a, scale)?;
        let divided = Ciphertext {
            budget,
            level: a.level - 1,
            ..header(a)
        };
        out.reuse(divided, down.keep(), a.parts.len());
        let mut scratch = self.context().pool.take(0);
        // All parts together, so that the tables of each prime's transform are read once.
        let (count, x, mut y) = (a.parts.len(), parts(a), parts_mut(out));
        down.apply_eval_batch(&x[..count], &mut y[..count], scratch.as_vec())?;
        Ok(())
    }

    /// [`mul_plain`](Self::mul_plain) and [`rescale`](Self::rescale) in one: the product is made prime by prime where it
    /// is divided, which saves writing and reading all of it.
    ///
    /// # Errors
    /// Those of the two.
    pub fn mul_plain_rescale(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.mul_plain_rescale_into(a, plaintext, out))
    }

    /// [`Self::mul_plain_rescale`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::mul_plain_rescale`]; then `out` is unchanged.
    pub fn mul_plain_rescale_into(
        &self,
        a: &Ciphertext,
        plaintext: &Plaintext,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let budget = self.plain_product(a, plaintext)?;
        let product = Ciphertext { budget, ..header(a) };
        let scale = product.scale() / self.level_prime(a)?;
        let (budget, down) = self.check_division_of(&product, a.degree(), scale)?;
        let divided = Ciphertext {
            budget,
            level: a.level - 1,
            ..product
        };
        out.reuse(divided, down.keep(), a.parts.len());
        let mut scratch = self.context().pool.take(0);
        let (count, x, mut y) = (a.parts.len(), parts(a), parts_mut(out));
        let plaintext = plaintext.poly.data();
        down.apply_eval_product_batch(&x[..count], plaintext, &mut y[..count], scratch.as_vec())?;
        Ok(())
    }

    fn check_division(&self, a: &Ciphertext, scale: f64) -> Result<(Budget, &ModDown), CkksError> {
        self.check_division_of(a, a.degree(), scale)
    }

    /// Of what has this header, and parts for this degree.
    fn check_division_of(
        &self,
        a: &Ciphertext,
        degree: usize,
        scale: f64,
    ) -> Result<(Budget, &ModDown), CkksError> {
        let prime = self.level_prime(a)?;
        check_scale(scale)?;
        let rounding = self.context().noise.rounding(degree);
        let budget = a.budget.divided(prime, rounding, scale);
        self.check_budget(a.level - 1, &budget)?;
        let down = self.context().at(a.level)?.rescale.as_ref();
        Ok((budget, down.ok_or(CkksError::NoLevelLeft)?))
    }

    /// The prime that a rescaling divides by.
    pub(crate) fn level_prime(&self, a: &Ciphertext) -> Result<f64, CkksError> {
        self.check_preset(a)?;
        if a.level == 0 {
            return Err(CkksError::NoLevelLeft);
        }
        Ok(self.context().preset().primes()[a.level] as f64)
    }

    /// The same values at a lower level, without division: the scale stays.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`] for a level above that of the ciphertext, [`CkksError::Overflow`].
    pub fn drop_level(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.drop_level_into(a, level, out))
    }

    /// [`Self::drop_level`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::drop_level`]; then `out` is unchanged.
    pub fn drop_level_into(
        &self,
        a: &Ciphertext,
        level: usize,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_dropped(a, level)?;
        let ring = self.context().ring(level)?;
        // The uniform half of another level is expanded from another stream, so the seed goes there.
        let dropped = Ciphertext {
            level,
            seed: a.seed.filter(|_| level == a.level),
            ..header(a)
        };
        out.reuse(dropped, ring, a.parts.len());
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            let kept = part.data().len();
            part.data_mut().copy_from_slice(&x.data()[..kept]);
        }
        Ok(())
    }

    /// [`Self::drop_level`] in place.
    ///
    /// # Errors
    /// Those of [`Self::drop_level`]; then `a` is unchanged.
    pub fn drop_level_assign(&self, a: &mut Ciphertext, level: usize) -> Result<(), CkksError> {
        self.check_dropped(a, level)?;
        if level == a.level {
            return Ok(());
        }
        let ring = self.context().ring(level)?;
        a.parts.iter_mut().for_each(|part| part.reshape(ring));
        a.level = level;
        a.seed = None;
        Ok(())
    }

    fn check_dropped(&self, a: &Ciphertext, level: usize) -> Result<(), CkksError> {
        self.check_preset(a)?;
        check_drop(a, level)?;
        if level == a.level {
            return Ok(());
        }
        self.check_budget(level, &a.budget)
    }
}
