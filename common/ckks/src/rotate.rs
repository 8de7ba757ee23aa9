//! Rotating the slots of a ciphertext, and conjugating them.
//!
//! Slot k of a rotation by r is slot k + r of the operand, counted modulo the number of slots: N/2, or N in the
//! conjugate-invariant ring. Many rotations of one ciphertext share the digits of its second half (hoisting: Halevi and
//! Shoup, ePrint 2018/244), which is most of the work of a single one.

use crate::ciphertext::Ciphertext;
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_linear, header};
use crate::galois::{GaloisKey, GaloisKeys};
use crate::key_switch::Digits;
use crate::noise::Budget;
use galen_rns::kernel::Kernels;

/// A ciphertext with the digits of its second half, ready to be rotated by any number of slots.
#[derive(Clone)]
pub struct Hoisted {
    pub(crate) ciphertext: Ciphertext,
    /// As the decomposition of key switching gives them.
    pub(crate) digits: Vec<u64>,
}

impl core::fmt::Debug for Hoisted {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Hoisted")
            .field("ciphertext", &self.ciphertext)
            .finish_non_exhaustive()
    }
}

impl Hoisted {
    /// The ciphertext.
    #[must_use]
    pub fn ciphertext(&self) -> &Ciphertext {
        &self.ciphertext
    }
}

impl Evaluator {
    /// Rotates slots by `steps` to the left, or to the right if negative.
    ///
    /// # Errors
    /// [`CkksError::MissingRotation`], [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`],
    /// [`CkksError::CiphertextDegree`] (relinearise first), [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn rotate(&self, a: &Ciphertext, steps: i64, keys: &GaloisKeys) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.rotate_into(a, steps, keys, out))
    }

    /// [`Self::rotate`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::rotate`]; then `out` is unchanged.
    pub fn rotate_into(
        &self,
        a: &Ciphertext,
        steps: i64,
        keys: &GaloisKeys,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_galois_keys(a, keys)?;
        match keys.rotation(steps)? {
            None => self.drop_level_into(a, a.level, out),
            Some(key) => self.permute(a, key, self.context().slots(), out),
        }
    }

    /// Conjugates the slots. Of an encryption of real values this changes nothing but the noise.
    ///
    /// # Errors
    /// [`CkksError::MissingConjugation`], [`CkksError::NoConjugation`], and those of [`Self::rotate`].
    pub fn conjugate(&self, a: &Ciphertext, keys: &GaloisKeys) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.conjugate_into(a, keys, out))
    }

    /// [`Self::conjugate`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::conjugate`]; then `out` is unchanged.
    pub fn conjugate_into(
        &self,
        a: &Ciphertext,
        keys: &GaloisKeys,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_galois_keys(a, keys)?;
        self.permute(a, keys.conjugation()?, a.slots, out)
    }

    fn permute(
        &self,
        a: &Ciphertext,
        key: &GaloisKey,
        slots: usize,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let budget = self.rotated_budget(a)?;
        let switching = &self.context().at(a.level)?.switching;
        let mut digits = switching.prepare(a.parts[1].data(), &self.context().pool)?;
        self.finish_rotation(a, budget, key, slots, &mut digits, out)
    }

    /// [`Self::rotate`] by each of many numbers of slots.
    ///
    /// # Errors
    /// Those of [`Self::rotate`].
    pub fn rotate_hoisted(
        &self,
        a: &Ciphertext,
        steps: &[i64],
        keys: &GaloisKeys,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let mut outputs = Vec::new();
        self.rotate_hoisted_into(a, steps, keys, &mut outputs)?;
        Ok(outputs)
    }

    /// [`Self::rotate_hoisted`] into ciphertexts that are there already, whatever they are: their memory is used again,
    /// their number made to fit.
    ///
    /// # Errors
    /// Those of [`Self::rotate`]; then `outputs` are unchanged.
    pub fn rotate_hoisted_into(
        &self,
        a: &Ciphertext,
        steps: &[i64],
        keys: &GaloisKeys,
        outputs: &mut Vec<Ciphertext>,
    ) -> Result<(), CkksError> {
        self.check_galois_keys(a, keys)?;
        for &steps in steps {
            if keys.rotation(steps)?.is_some() {
                self.rotated_budget(a)?;
            }
        }
        let switching = &self.context().at(a.level)?.switching;
        let mut digits = self.context().pool.take(switching.digits_len());
        switching.decompose(a.parts[1].data(), &mut digits, &self.context().pool)?;
        outputs.resize_with(steps.len(), || self.empty());
        for (&steps, out) in steps.iter().zip(outputs) {
            self.rotate_digits(a, &digits, steps, keys, out)?;
        }
        Ok(())
    }

    /// Takes the digits of a ciphertext once, for many rotations of it.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::CiphertextDegree`].
    pub fn hoist(&self, a: &Ciphertext) -> Result<Hoisted, CkksError> {
        let mut hoisted = self.empty_hoisted();
        self.hoist_into(a, &mut hoisted)?;
        Ok(hoisted)
    }

    /// Memory for [`Self::hoist_into`], with the digits of nothing; see [`Self::empty`].
    #[must_use]
    pub fn empty_hoisted(&self) -> Hoisted {
        let ciphertext = self.empty();
        // The digits of zero are zeros.
        let count = self.context().bottom().switching.digits_len();
        Hoisted {
            ciphertext,
            digits: vec![0; count],
        }
    }

    /// [`Self::hoist`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::hoist`]; then `out` is unchanged.
    pub fn hoist_into(&self, a: &Ciphertext, out: &mut Hoisted) -> Result<(), CkksError> {
        self.check_preset(a)?;
        check_linear(a)?;
        let switching = &self.context().at(a.level)?.switching;
        out.digits.resize(switching.digits_len(), 0);
        switching.decompose(a.parts[1].data(), &mut out.digits, &self.context().pool)?;
        self.drop_level_into(a, a.level, &mut out.ciphertext)
    }

    /// [`Self::rotate`] of a hoisted ciphertext.
    ///
    /// # Errors
    /// Those of [`Self::rotate`].
    pub fn rotate_from(&self, a: &Hoisted, steps: i64, keys: &GaloisKeys) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.rotate_from_into(a, steps, keys, out))
    }

    /// [`Self::rotate_from`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::rotate`]; then `out` is unchanged.
    pub fn rotate_from_into(
        &self,
        a: &Hoisted,
        steps: i64,
        keys: &GaloisKeys,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_galois_keys(&a.ciphertext, keys)?;
        self.rotate_digits(&a.ciphertext, &a.digits, steps, keys, out)
    }

    /// A rotation with the digits of the second part.
    fn rotate_digits(
        &self,
        a: &Ciphertext,
        digits: &[u64],
        steps: i64,
        keys: &GaloisKeys,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let Some(key) = keys.rotation(steps)? else {
            return self.drop_level_into(a, a.level, out);
        };
        let budget = self.rotated_budget(a)?;
        let mut digits = Digits::extended(a.parts[1].data(), digits);
        self.finish_rotation(a, budget, key, self.context().slots(), &mut digits, out)
    }

    /// Switches the second part, adds the first one of `a`, and permutes.
    fn finish_rotation(
        &self,
        a: &Ciphertext,
        budget: Budget,
        key: &GaloisKey,
        slots: usize,
        digits: &mut Digits<'_>,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let context = self.context();
        let level = context.at(a.level)?;
        let switching = &level.switching;
        let rotated = Ciphertext {
            budget,
            slots,
            ..header(a)
        };
        out.reuse(rotated, &level.ring, 2);
        let mut sum = context.pool.take(context.degree());
        let kernels = Kernels::active();
        let last = |prime: usize, [q0, q1]: [&[u64]; 2]| {
            let m = &level.ring.moduli()[prime];
            kernels.add_into(m, a.parts[0].residues(prime), q0, &mut sum);
            key.automorphism
                .apply_eval(&sum, out.parts[0].residues_mut(prime))?;
            Ok(key
                .automorphism
                .apply_eval(q1, out.parts[1].residues_mut(prime))?)
        };
        switching.switch(
            &key.key,
            digits,
            &switching.down,
            &context.pool,
            |_, _| false,
            last,
        )
    }

    fn rotated_budget(&self, a: &Ciphertext) -> Result<Budget, CkksError> {
        let budget = a.budget.plus_noise(self.context().at(a.level)?.switching.noise);
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }

    pub(crate) fn check_galois_keys(&self, a: &Ciphertext, keys: &GaloisKeys) -> Result<(), CkksError> {
        self.check_key(a, &keys.context, keys.digest())?;
        check_linear(a)
    }
}
