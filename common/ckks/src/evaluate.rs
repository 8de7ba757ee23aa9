//! Operations on ciphertexts.
//!
//! Each first derives level, scale and bounds of its result, refuses what would overflow the modulus or fall below
//! the precision asked for, and only then computes. Here are sums, and products with what is in clear; the methods of
//! [`Evaluator`] go on in `multiply` (products and relinearisation), `level` (rescaling and dropping levels), `rotate`,
//! `extended` (sums before the division of key switching), `aligned` (levels and scales that take care of themselves) and
//! `linear` (weighted sums).
//!
//! Forms that end in `_into` overwrite a ciphertext of the caller's (or a hoisted one, or one over QP) and reuse its memory, those that end in `_assign`
//! change their operand. Neither allocates once the memory has been there; scratch is pooled in the context.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::{Context, Target, check_scale};
use crate::encoding::{residue_of_whole, scaled_integer};
use crate::error::CkksError;
use crate::keys::KeyDigest;
use crate::noise::Budget;
use galen_rns::RnsError;
use galen_rns::kernel::Kernels;
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::Ring;
use std::sync::Arc;

/// Computes on ciphertexts of one preset. Needs no keys but those for relinearisation and rotations, and can be shared
/// by threads.
#[derive(Debug, Clone)]
pub struct Evaluator {
    context: Arc<Context>,
    min_precision: f64,
}

impl Evaluator {
    /// For the ciphertexts of a preset, asking for no precision beyond that of integers.
    #[must_use]
    pub fn new(context: &Arc<Context>) -> Self {
        Self {
            context: Arc::clone(context),
            min_precision: 0.0,
        }
    }

    /// The same, refusing results that are planned to have fewer than `bits` bits after the binary point.
    #[must_use]
    pub fn with_min_precision(mut self, bits: f64) -> Self {
        self.min_precision = bits;
        self
    }

    /// The context.
    #[must_use]
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    pub(crate) fn check_preset(&self, a: &Ciphertext) -> Result<(), CkksError> {
        if a.preset == *self.context.digest() {
            Ok(())
        } else {
            Err(CkksError::PresetMismatch)
        }
    }

    /// Refuses a key of another preset, or one under which the ciphertext is not encrypted.
    pub(crate) fn check_key(
        &self,
        a: &Ciphertext,
        context: &Context,
        key: KeyDigest,
    ) -> Result<(), CkksError> {
        self.check_preset(a)?;
        if context.digest() != self.context.digest() {
            return Err(CkksError::PresetMismatch);
        }
        if key != a.key {
            return Err(CkksError::KeyMismatch);
        }
        Ok(())
    }

    pub(crate) fn check_budget(&self, level: usize, budget: &Budget) -> Result<(), CkksError> {
        budget.check_fits(self.context.log2_q(level)?)?;
        budget.check_precision(self.min_precision)
    }

    pub(crate) fn check_pair(&self, a: &Ciphertext, b: &Ciphertext) -> Result<(), CkksError> {
        self.check_preset(a)?;
        self.check_preset(b)?;
        if a.key != b.key {
            return Err(CkksError::KeyMismatch);
        }
        check_levels(a.level, b.level)
    }

    fn check_summands(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Budget, CkksError> {
        self.check_pair(a, b)?;
        check_scales(a.scale(), b.scale())?;
        let budget = a.budget.sum(&b.budget);
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }

    /// A ciphertext to write results to: an encryption of nothing, under no key. The `_into` forms overwrite all of it,
    /// and reuse its memory from then on.
    #[must_use]
    pub fn empty(&self) -> Ciphertext {
        self.context.empty_ciphertext()
    }

    /// What `write` overwrites a ciphertext with, in memory of its own.
    pub(crate) fn written(
        &self,
        write: impl FnOnce(&mut Ciphertext) -> Result<(), CkksError>,
    ) -> Result<Ciphertext, CkksError> {
        let mut out = self.empty();
        write(&mut out)?;
        Ok(out)
    }

    /// `a + b`. Both have one level, key and scale, the scale bit for bit; degrees may differ.
    ///
    /// # Errors
    /// Where one of these differs, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.add_into(a, b, out))
    }

    /// [`Self::add`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::add`]; then `out` is unchanged.
    pub fn add_into(&self, a: &Ciphertext, b: &Ciphertext, out: &mut Ciphertext) -> Result<(), CkksError> {
        self.combine(a, b, out, Poly::add_into, |_| ())
    }

    /// `a += b`; see [`Self::add`].
    ///
    /// # Errors
    /// Those of [`Self::add`]; then `a` is unchanged.
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<(), CkksError> {
        self.combine_assign(a, b, Poly::add_assign, |_| ())
    }

    /// `a - b`; see [`Self::add`].
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.sub_into(a, b, out))
    }

    /// [`Self::sub`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::add`]; then `out` is unchanged.
    pub fn sub_into(&self, a: &Ciphertext, b: &Ciphertext, out: &mut Ciphertext) -> Result<(), CkksError> {
        self.combine(a, b, out, Poly::sub_into, Poly::neg_assign)
    }

    /// `a -= b`; see [`Self::add`].
    ///
    /// # Errors
    /// Those of [`Self::add`]; then `a` is unchanged.
    pub fn sub_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<(), CkksError> {
        self.combine_assign(a, b, Poly::sub_assign, Poly::neg_assign)
    }

    /// Both parts where both have one; that of `b` alone goes through `alone`.
    fn combine(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        out: &mut Ciphertext,
        both: impl Fn(&Poly<Eval>, &Poly<Eval>, &mut Poly<Eval>) -> Result<(), RnsError>,
        alone: impl Fn(&mut Poly<Eval>),
    ) -> Result<(), CkksError> {
        let budget = self.check_summands(a, b)?;
        let count = a.parts.len().max(b.parts.len());
        let slots = a.slots.max(b.slots);
        let combined = Ciphertext {
            budget,
            slots,
            ..header(a)
        };
        out.reuse(combined, self.context.ring(a.level)?, count);
        for (index, part) in out.parts.iter_mut().enumerate() {
            match (a.parts.get(index), b.parts.get(index)) {
                (Some(x), Some(y)) => both(x, y, part)?,
                (Some(x), None) => part.copy_from(x)?,
                (None, Some(y)) => {
                    part.copy_from(y)?;
                    alone(part);
                }
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn combine_assign(
        &self,
        a: &mut Ciphertext,
        b: &Ciphertext,
        both: impl Fn(&mut Poly<Eval>, &Poly<Eval>) -> Result<(), RnsError>,
        alone: impl Fn(&mut Poly<Eval>),
    ) -> Result<(), CkksError> {
        a.budget = self.check_summands(a, b)?;
        a.slots = a.slots.max(b.slots);
        a.seed = None;
        for (index, part) in b.parts.iter().enumerate() {
            match a.parts.get_mut(index) {
                Some(left) => both(left, part)?,
                None => {
                    let mut part = part.clone();
                    alone(&mut part);
                    a.parts.push(part);
                }
            }
        }
        Ok(())
    }

    /// `-a`.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`].
    pub fn neg(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let mut negated = a.clone();
        self.neg_assign(&mut negated)?;
        Ok(negated)
    }

    /// `a = -a`.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`].
    pub fn neg_assign(&self, a: &mut Ciphertext) -> Result<(), CkksError> {
        self.check_preset(a)?;
        a.seed = None;
        a.parts.iter_mut().for_each(Poly::neg_assign);
        Ok(())
    }

    /// `a + plaintext`, of one level and scale.
    ///
    /// # Errors
    /// Where these differ, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn add_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        let mut sum = a.clone();
        self.add_plain_assign(&mut sum, plaintext)?;
        Ok(sum)
    }

    /// `a += plaintext`; see [`Self::add_plain`].
    ///
    /// # Errors
    /// Those of [`Self::add_plain`]; then `a` is unchanged.
    pub fn add_plain_assign(&self, a: &mut Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        self.set_plain_sum(a, plaintext)?;
        // c1 is untouched, so a seeded ciphertext stays one.
        Ok(a.parts[0].add_assign(&plaintext.poly)?)
    }

    /// `a -= plaintext`, of one level and scale.
    ///
    /// # Errors
    /// Those of [`Self::add_plain`]; then `a` is unchanged.
    pub fn sub_plain_assign(&self, a: &mut Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        self.set_plain_sum(a, plaintext)?;
        Ok(a.parts[0].sub_assign(&plaintext.poly)?)
    }

    fn set_plain_sum(&self, a: &mut Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        self.check_plain(a, plaintext)?;
        check_scales(a.scale(), plaintext.budget.scale)?;
        let budget = a.budget.sum(&plaintext.budget);
        self.check_budget(a.level, &budget)?;
        a.budget = budget;
        a.slots = a.slots.max(plaintext.slots);
        Ok(())
    }

    /// `a * plaintext`, slot by slot; the scale is the product of scales.
    ///
    /// # Errors
    /// Where levels differ, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mul_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.mul_plain_into(a, plaintext, out))
    }

    /// [`Self::mul_plain`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::mul_plain`]; then `out` is unchanged.
    pub fn mul_plain_into(
        &self,
        a: &Ciphertext,
        plaintext: &Plaintext,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        let budget = self.plain_product(a, plaintext)?;
        let product = Ciphertext { budget, ..header(a) };
        out.reuse(product, self.context.ring(a.level)?, a.parts.len());
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            x.mul_into(&plaintext.poly, part)?;
        }
        Ok(())
    }

    /// `a *= plaintext`; see [`Self::mul_plain`].
    ///
    /// # Errors
    /// Those of [`Self::mul_plain`]; then `a` is unchanged.
    pub fn mul_plain_assign(&self, a: &mut Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        a.budget = self.plain_product(a, plaintext)?;
        a.seed = None;
        for part in &mut a.parts {
            part.mul_assign(&plaintext.poly)?;
        }
        Ok(())
    }

    pub(crate) fn plain_product(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Budget, CkksError> {
        self.check_plain(a, plaintext)?;
        let budget = a.budget.product(&plaintext.budget);
        check_scale(budget.scale)?;
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }

    fn check_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        self.check_preset(a)?;
        if plaintext.preset != a.preset {
            return Err(CkksError::PresetMismatch);
        }
        check_levels(a.level, plaintext.level)
    }

    /// `a + value` in every slot, whatever the scale.
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn add_scalar(&self, a: &Ciphertext, value: f64) -> Result<Ciphertext, CkksError> {
        let mut sum = a.clone();
        self.add_scalar_assign(&mut sum, value)?;
        Ok(sum)
    }

    /// `a += value` in every slot. After an error `a` is unchanged.
    ///
    /// # Errors
    /// Those of [`Self::add_scalar`].
    pub fn add_scalar_assign(&self, a: &mut Ciphertext, value: f64) -> Result<(), CkksError> {
        self.check_preset(a)?;
        let whole = (value * a.scale()).round();
        if !whole.is_finite() {
            return Err(CkksError::InvalidNumber { index: 0, value });
        }
        let budget = a.budget.plus_constant(value);
        self.check_budget(a.level, &budget)?;
        let moduli = self.context.ring(a.level)?.moduli();
        let mut residues = self.context.pool.take(moduli.len());
        for (residue, m) in residues.iter_mut().zip(moduli) {
            *residue = residue_of_whole(m, whole);
        }
        a.parts[0].add_scalar_assign(&residues)?;
        a.budget = budget;
        Ok(())
    }

    /// `value * a`, landing on exactly the level and scale of `target`: the level of the ciphertext or below, and a scale
    /// from which a rescaling leads where the caller wants to be ([`Context::product_target`]). The factor is the integer
    /// nearest to `value * target.scale / a.scale()`, and what it is off counts as noise.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`], [`CkksError::InvalidNumber`], [`CkksError::InvalidScale`], [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn mul_scalar(&self, a: &Ciphertext, value: f64, target: Target) -> Result<Ciphertext, CkksError> {
        self.written(|out| self.mul_scalar_into(a, value, target, out))
    }

    /// [`Self::mul_scalar`], overwriting `out`.
    ///
    /// # Errors
    /// Those of [`Self::mul_scalar`]; then `out` is unchanged.
    pub fn mul_scalar_into(
        &self,
        a: &Ciphertext,
        value: f64,
        target: Target,
        out: &mut Ciphertext,
    ) -> Result<(), CkksError> {
        self.check_preset(a)?;
        check_scale(target.scale)?;
        check_drop(a, target.level)?;
        let (integer, exact) = scaled_integer(0, value, target.scale / a.scale())?;
        let budget = a.budget.weighted(value, integer as f64, exact, target.scale);
        // A product with zero is an exact zero; one unit keeps its precision a number.
        let budget = budget.plus_noise(if integer == 0 { 1.0 } else { 0.0 });
        self.check_budget(target.level, &budget)?;
        let ring = self.context.ring(target.level)?;
        let product = Ciphertext {
            budget,
            level: target.level,
            ..header(a)
        };
        out.reuse(product, ring, a.parts.len());
        scale_parts(ring, a, integer, out);
        Ok(())
    }

    /// `value * a` for an integer, exactly; the scale stays.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mul_integer(&self, a: &Ciphertext, value: i64) -> Result<Ciphertext, CkksError> {
        let budget = self.integer_product(a, value)?;
        let ring = self.context.ring(a.level)?;
        let mut out = self.empty();
        out.reuse(Ciphertext { budget, ..header(a) }, ring, a.parts.len());
        scale_parts(ring, a, i128::from(value), &mut out);
        Ok(out)
    }

    /// `a *= value`; see [`Self::mul_integer`].
    ///
    /// # Errors
    /// Those of [`Self::mul_integer`]; then `a` is unchanged.
    pub fn mul_integer_assign(&self, a: &mut Ciphertext, value: i64) -> Result<(), CkksError> {
        a.budget = self.integer_product(a, value)?;
        a.seed = None;
        let kernels = Kernels::active();
        for (prime, m) in self.context.ring(a.level)?.moduli().iter().enumerate() {
            for part in &mut a.parts {
                kernels.mul_scalar_assign(m, part.residues_mut(prime), m.reduce_i64(value));
            }
        }
        Ok(())
    }

    fn integer_product(&self, a: &Ciphertext, value: i64) -> Result<Budget, CkksError> {
        self.check_preset(a)?;
        let factor = value.unsigned_abs() as f64;
        let budget = Budget {
            magnitude: a.budget.magnitude * factor,
            // A product with zero is an exact zero; one unit keeps its precision a number.
            noise: (a.budget.noise * factor).max(1.0),
            ..a.budget
        };
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }
}

/// Every part times an integer, in the primes of `ring`, a prefix of those of `a`.
fn scale_parts(ring: &Ring, a: &Ciphertext, integer: i128, out: &mut Ciphertext) {
    let kernels = Kernels::active();
    for (prime, m) in ring.moduli().iter().enumerate() {
        let residue = m.reduce_i128(integer);
        for (part, x) in out.parts.iter_mut().zip(&a.parts) {
            kernels.mul_scalar_into(m, x.residues(prime), residue, part.residues_mut(prime));
        }
    }
}

/// What is known of a ciphertext, without its polynomials.
pub(crate) fn header(a: &Ciphertext) -> Ciphertext {
    let (preset, key, level, slots, budget) = (a.preset, a.key, a.level, a.slots, a.budget);
    Ciphertext {
        preset,
        key,
        level,
        slots,
        budget,
        parts: Vec::new(),
        seed: None,
    }
}

/// Refuses a level above that of the ciphertext.
pub(crate) fn check_drop(a: &Ciphertext, level: usize) -> Result<(), CkksError> {
    if level <= a.level {
        return Ok(());
    }
    Err(CkksError::LevelRange { level, max: a.level })
}

/// Refuses a ciphertext that has to be relinearised first.
pub(crate) fn check_linear(a: &Ciphertext) -> Result<(), CkksError> {
    match a.degree() {
        1 => Ok(()),
        degree => Err(CkksError::CiphertextDegree { degree, needed: 1 }),
    }
}

pub(crate) fn check_levels(left: usize, right: usize) -> Result<(), CkksError> {
    if left == right {
        Ok(())
    } else {
        Err(CkksError::LevelMismatch { left, right })
    }
}

pub(crate) fn check_scales(left: f64, right: f64) -> Result<(), CkksError> {
    if left == right {
        return Ok(());
    }
    Err(CkksError::ScaleMismatch {
        left: left.log2(),
        right: right.log2(),
    })
}
