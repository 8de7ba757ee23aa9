//! Operations on ciphertexts.
//!
//! Each first derives level, scale and bounds of its result, refuses what would overflow the modulus or fall below
//! the precision asked for, and only then computes. Weighted sums are in `linear`, relinearisation is in
//! `relinearise`.

use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::{Context, check_scale};
use crate::encoding::scaled_integer;
use crate::error::CkksError;
use crate::noise::Budget;
use galen_rns::poly::Poly;
use std::sync::Arc;

/// Computes on ciphertexts of one preset. Needs no key but the relinearisation key, and can be shared by threads.
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

    pub(crate) fn check_budget(&self, level: usize, budget: &Budget) -> Result<(), CkksError> {
        budget.check_fits(self.context.log2_q(level)?)?;
        budget.check_precision(self.min_precision)
    }

    fn check_pair(&self, a: &Ciphertext, b: &Ciphertext) -> Result<(), CkksError> {
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

    /// `a + b`. Both have one level, key and scale, the scale bit for bit; degrees may differ.
    ///
    /// # Errors
    /// Where one of these differs, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let mut sum = a.clone();
        self.add_assign(&mut sum, b)?;
        Ok(sum)
    }

    /// `a += b`; see [`Self::add`]. After an error `a` is unchanged.
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn add_assign(&self, a: &mut Ciphertext, b: &Ciphertext) -> Result<(), CkksError> {
        a.budget = self.check_summands(a, b)?;
        a.slots = a.slots.max(b.slots);
        a.seed = None;
        for (index, part) in b.parts.iter().enumerate() {
            match a.parts.get_mut(index) {
                Some(sum) => sum.add_assign(part)?,
                None => a.parts.push(part.clone()),
            }
        }
        Ok(())
    }

    /// `a - b`; see [`Self::add`].
    ///
    /// # Errors
    /// Those of [`Self::add`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let budget = self.check_summands(a, b)?;
        let mut difference = Ciphertext {
            budget,
            slots: a.slots.max(b.slots),
            seed: None,
            ..a.clone()
        };
        for (index, part) in b.parts.iter().enumerate() {
            match difference.parts.get_mut(index) {
                Some(left) => left.sub_assign(part)?,
                None => {
                    let mut negated = part.clone();
                    negated.neg_assign();
                    difference.parts.push(negated);
                }
            }
        }
        Ok(difference)
    }

    /// `-a`.
    ///
    /// # Errors
    /// [`CkksError::PresetMismatch`].
    pub fn neg(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.check_preset(a)?;
        let mut negated = Ciphertext {
            seed: None,
            ..a.clone()
        };
        negated.parts.iter_mut().for_each(Poly::neg_assign);
        Ok(negated)
    }

    /// `a + plaintext`, of one level and scale.
    ///
    /// # Errors
    /// Where these differ, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn add_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.check_plain(a, plaintext)?;
        check_scales(a.scale(), plaintext.budget.scale)?;
        let budget = a.budget.sum(&plaintext.budget);
        self.check_budget(a.level, &budget)?;
        // c1 is untouched, so a seeded ciphertext stays one.
        let mut sum = Ciphertext {
            budget,
            slots: a.slots.max(plaintext.slots),
            ..a.clone()
        };
        sum.parts[0].add_assign(&plaintext.poly)?;
        Ok(sum)
    }

    /// `a * plaintext`, slot by slot; the scale is the product of scales.
    ///
    /// # Errors
    /// Where levels differ, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mul_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<Ciphertext, CkksError> {
        self.check_plain(a, plaintext)?;
        let budget = a.budget.product(&plaintext.budget);
        check_scale(budget.scale)?;
        self.check_budget(a.level, &budget)?;
        let mut product = Ciphertext {
            budget,
            seed: None,
            ..a.clone()
        };
        for part in &mut product.parts {
            part.mul_assign(&plaintext.poly)?;
        }
        Ok(product)
    }

    fn check_plain(&self, a: &Ciphertext, plaintext: &Plaintext) -> Result<(), CkksError> {
        self.check_preset(a)?;
        if plaintext.preset != a.preset {
            return Err(CkksError::PresetMismatch);
        }
        check_levels(a.level, plaintext.level)
    }

    /// `a + value` in every slot.
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
        let (integer, _) = scaled_integer(0, value, a.scale())?;
        let budget = a.budget.plus_constant(value);
        self.check_budget(a.level, &budget)?;
        let residues: Vec<u64> = self
            .context
            .ring(a.level)?
            .moduli()
            .iter()
            .map(|m| m.reduce_i128(integer))
            .collect();
        a.parts[0].add_scalar_assign(&residues)?;
        a.budget = budget;
        Ok(())
    }

    /// `a^2`, of degree 2; the scale is squared.
    ///
    /// # Errors
    /// [`CkksError::CiphertextDegree`] if a has degree 2 already, [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let budget = self.check_factors(a, a)?;
        let [c0, c1] = a.parts.as_slice() else {
            return Err(CkksError::CiphertextDegree {
                degree: a.degree(),
                needed: 1,
            });
        };
        let mut d1 = c0.clone();
        d1.mul_assign(c1)?;
        let twice = d1.clone();
        d1.add_assign(&twice)?;
        let (mut d0, mut d2) = (c0.clone(), c1.clone());
        d0.mul_assign(c0)?;
        d2.mul_assign(c1)?;
        Ok(Ciphertext {
            budget,
            parts: vec![d0, d1, d2],
            seed: None,
            ..header(a)
        })
    }

    /// `a * b`, of degree 2; the scale is the product of scales.
    ///
    /// # Errors
    /// [`CkksError::CiphertextDegree`] if one has degree 2 already, [`CkksError::LevelMismatch`],
    /// [`CkksError::KeyMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn multiply(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let budget = self.check_factors(a, b)?;
        let ([a0, a1], [b0, b1]) = (a.parts.as_slice(), b.parts.as_slice()) else {
            return Err(CkksError::CiphertextDegree { degree: 2, needed: 1 });
        };
        let (mut d0, mut d1, mut d2) = (a0.clone(), a0.clone(), a1.clone());
        d0.mul_assign(b0)?;
        d1.mul_assign(b1)?;
        d1.mul_add_assign(a1, b0)?;
        d2.mul_assign(b1)?;
        let slots = a.slots.max(b.slots);
        Ok(Ciphertext {
            budget,
            slots,
            parts: vec![d0, d1, d2],
            seed: None,
            ..header(a)
        })
    }

    fn check_factors(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Budget, CkksError> {
        self.check_pair(a, b)?;
        for factor in [a, b] {
            if factor.degree() != 1 {
                return Err(CkksError::CiphertextDegree {
                    degree: factor.degree(),
                    needed: 1,
                });
            }
        }
        let budget = a.budget.product(&b.budget);
        check_scale(budget.scale)?;
        self.check_budget(a.level, &budget)?;
        Ok(budget)
    }

    /// Divides by the prime of the level, which goes with it: level and scale go down. From
    /// [`Context::product_scale`] this lands on exactly the nominal scale of the level below.
    ///
    /// A ciphertext of degree 2 may be rescaled too, but its rounding costs some nine bits more: relinearise before
    /// where precision matters.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`], [`CkksError::InvalidScale`] (a scale below the prime), [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn rescale(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let prime = self.level_prime(a)?;
        self.rescale_to(a, a.scale() / prime)
    }

    /// [`Self::rescale`] with the scale of the result stated. What it is off from the true one counts as noise, so it
    /// should be within rounding of `a.scale() / prime`.
    ///
    /// # Errors
    /// Those of [`Self::rescale`].
    pub fn rescale_to(&self, a: &Ciphertext, scale: f64) -> Result<Ciphertext, CkksError> {
        let prime = self.level_prime(a)?;
        check_scale(scale)?;
        let budget = a
            .budget
            .divided(prime, self.context.noise.rounding(a.degree()), scale);
        self.check_budget(a.level - 1, &budget)?;
        let down = self
            .context
            .at(a.level)?
            .rescale
            .as_ref()
            .ok_or(CkksError::NoLevelLeft)?;
        let parts = a
            .parts
            .iter()
            .map(|part| down.apply_eval(part))
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Ciphertext {
            budget,
            level: a.level - 1,
            parts,
            seed: None,
            ..header(a)
        })
    }

    fn level_prime(&self, a: &Ciphertext) -> Result<f64, CkksError> {
        self.check_preset(a)?;
        if a.level == 0 {
            return Err(CkksError::NoLevelLeft);
        }
        Ok(self.context.preset().primes()[a.level] as f64)
    }

    /// The same values at a lower level, without division: the scale stays.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`] for a level above that of the ciphertext, [`CkksError::Overflow`].
    pub fn drop_level(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.check_preset(a)?;
        if level > a.level {
            return Err(CkksError::LevelRange { level, max: a.level });
        }
        if level == a.level {
            return Ok(a.clone());
        }
        self.check_budget(level, &a.budget)?;
        let ring = self.context.ring(level)?;
        let parts = a
            .parts
            .iter()
            .map(|part| part.restrict(ring))
            .collect::<Result<Vec<_>, _>>()?;
        // The uniform half of another level is expanded from another stream, so the seed goes too.
        Ok(Ciphertext {
            level,
            parts,
            seed: None,
            ..header(a)
        })
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

fn check_levels(left: usize, right: usize) -> Result<(), CkksError> {
    if left == right {
        Ok(())
    } else {
        Err(CkksError::LevelMismatch { left, right })
    }
}

fn check_scales(left: f64, right: f64) -> Result<(), CkksError> {
    if left == right {
        return Ok(());
    }
    Err(CkksError::ScaleMismatch {
        left: left.log2(),
        right: right.log2(),
    })
}
