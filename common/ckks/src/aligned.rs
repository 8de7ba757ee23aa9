//! Operations that take care of levels and scales.
//!
//! The methods of [`Evaluator`] refuse operands whose levels or scales differ, and leave it to the caller to relinearise
//! and to rescale. Those of [`Aligned`] take any operands: a ciphertext of a higher level is brought down, one whose scale
//! is not nominal is multiplied by an exact integer that lands there, and every result is of degree 1 at exactly the
//! nominal scale of its level. So scales never drift, whatever path led to an operand, and what an integer factor is off
//! from the exact ratio (some `2^-40` relatively) is part of the noise bound.
//!
//! Bringing a ciphertext down by any number of levels costs one product with an integer and one rescaling. It takes a
//! level that the ciphertext has to spare: one that is at the lower level already, but at another scale, goes one further
//! down, and so does the result.
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, keys::SecretKey, preset::Preset};
//!
//! let ctx = Context::new(&Preset::by_name("n8192_q50_3x38_p1x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//! let relin = key.relin_key()?;
//! let ev = Evaluator::new(&ctx).with_min_precision(10.0);
//! let op = ev.aligned(&relin);
//!
//! // x^3 - 0.5 x + 0.25, with terms that are at levels 1, 2 and 3.
//! let x = key.encrypt(&ctx.encode(&[0.5, -1.0, 0.75], 1.0)?)?;
//! let cube = op.mul(&op.square(&x)?, &x)?;
//! let y = op.add_const(&op.sub(&cube, &op.mul_const(&x, 0.5)?)?, 0.25)?;
//!
//! assert_eq!(y.scale(), ctx.scale(y.level())?);
//! let decoded = ctx.decode_rounded(&key.decrypt(&y)?, 10)?;
//! for (got, x) in decoded.iter().zip([0.5f64, -1.0, 0.75]) {
//!     assert!((got - (x.powi(3) - 0.5 * x + 0.25)).abs() < 2e-3);
//! }
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

use crate::ciphertext::Ciphertext;
use crate::error::CkksError;
use crate::evaluate::{Evaluator, check_drop};
use crate::keys::RelinKey;
use std::borrow::Cow;

/// Factors have at least this many bits: what they are off from the exact ratio is then `2^-21` of the message at most,
/// and mostly far less.
const MIN_FACTOR: f64 = (1u64 << 20) as f64;

/// An evaluator with its relinearisation key; see the module documentation.
#[derive(Debug, Clone, Copy)]
pub struct Aligned<'a> {
    evaluator: &'a Evaluator,
    relin: &'a RelinKey,
}

impl Evaluator {
    /// Operations that take care of levels and scales by themselves.
    #[must_use]
    pub fn aligned<'a>(&'a self, relin: &'a RelinKey) -> Aligned<'a> {
        Aligned {
            evaluator: self,
            relin,
        }
    }
}

impl Aligned<'_> {
    fn is_nominal(&self, a: &Ciphertext) -> Result<bool, CkksError> {
        Ok(a.degree() == 1 && a.scale() == self.evaluator.context().scale(a.level())?)
    }

    /// The same values at the nominal scale of a level, and of degree 1: the ciphertext itself if it is that, else one at
    /// the level below (or lower, where the scale is above that of a product).
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`], [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`], [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn at_nominal(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.nominal(a).map(Cow::into_owned)
    }

    fn nominal<'c>(&self, a: &'c Ciphertext) -> Result<Cow<'c, Ciphertext>, CkksError> {
        self.evaluator.check_preset(a)?;
        if self.is_nominal(a)? {
            return Ok(Cow::Borrowed(a));
        }
        let product = self.evaluator.context().product_scale(a.level())?;
        if a.scale() == product {
            return self.evaluator.relin_rescale(a, self.relin).map(Cow::Owned);
        }
        let mut linear = self.evaluator.relinearise(a, self.relin)?;
        while linear.scale() * MIN_FACTOR > self.evaluator.context().product_scale(linear.level())? {
            self.evaluator.rescale_assign(&mut linear)?;
        }
        if self.is_nominal(&linear)? {
            return Ok(Cow::Owned(linear));
        }
        check_spare(&linear)?;
        let level = linear.level() - 1;
        self.bring_down(&linear, level).map(Cow::Owned)
    }

    /// The same values at this level and its nominal scale.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`] for a level above what the ciphertext can be brought to, and those of
    /// [`Self::at_nominal`].
    pub fn at_level(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.aligned(a, level).map(Cow::into_owned)
    }

    fn aligned<'c>(&self, a: &'c Ciphertext, level: usize) -> Result<Cow<'c, Ciphertext>, CkksError> {
        let nominal = self.nominal(a)?;
        check_drop(&nominal, level)?;
        if nominal.level() == level {
            return Ok(nominal);
        }
        self.bring_down(&nominal, level).map(Cow::Owned)
    }

    /// To a level below: times the integer that makes the scale that of a product, one above, and divided there.
    fn bring_down(&self, a: &Ciphertext, level: usize) -> Result<Ciphertext, CkksError> {
        self.times(a, 1.0, level + 1)
    }

    /// `value * a` at the scale of a product of this level, then rescaled.
    fn times(&self, a: &Ciphertext, value: f64, level: usize) -> Result<Ciphertext, CkksError> {
        let target = self.evaluator.context().product_target(level)?;
        let mut product = self.evaluator.mul_scalar(a, value, target)?;
        self.evaluator.rescale_assign(&mut product)?;
        Ok(product)
    }

    /// Both at the highest level that both can be brought to.
    fn pair<'c>(
        &self,
        a: &'c Ciphertext,
        b: &'c Ciphertext,
    ) -> Result<(Cow<'c, Ciphertext>, Cow<'c, Ciphertext>), CkksError> {
        let (a, b) = (self.nominal(a)?, self.nominal(b)?);
        let level = a.level().min(b.level());
        let align = |ct: Cow<'c, Ciphertext>| {
            if ct.level() == level {
                Ok(ct)
            } else {
                self.bring_down(&ct, level).map(Cow::Owned)
            }
        };
        Ok((align(a)?, align(b)?))
    }

    /// `a + b`, at the lower of their levels.
    ///
    /// # Errors
    /// Those of [`Self::at_nominal`].
    pub fn add(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let (a, b) = self.pair(a, b)?;
        self.evaluator.add(&a, &b)
    }

    /// `a - b`, at the lower of their levels.
    ///
    /// # Errors
    /// Those of [`Self::at_nominal`].
    pub fn sub(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let (a, b) = self.pair(a, b)?;
        self.evaluator.sub(&a, &b)
    }

    /// `-a`.
    ///
    /// # Errors
    /// Those of [`Self::at_nominal`].
    pub fn neg(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        self.evaluator.neg(&*self.nominal(a)?)
    }

    /// `a * b`, one level below the lower of theirs.
    ///
    /// # Errors
    /// Those of [`Self::at_nominal`].
    pub fn mul(&self, a: &Ciphertext, b: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let (a, b) = self.pair(a, b)?;
        check_spare(&a)?;
        self.evaluator.multiply_relin_rescale(&a, &b, self.relin)
    }

    /// `a^2`, one level below.
    ///
    /// # Errors
    /// Those of [`Self::at_nominal`].
    pub fn square(&self, a: &Ciphertext) -> Result<Ciphertext, CkksError> {
        let a = self.nominal(a)?;
        check_spare(&a)?;
        self.evaluator.square_relin_rescale(&a, self.relin)
    }

    /// `value * a`, one level below. An integer value takes no level with [`Evaluator::mul_integer`].
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`], and those of [`Self::at_nominal`].
    pub fn mul_const(&self, a: &Ciphertext, value: f64) -> Result<Ciphertext, CkksError> {
        let a = self.nominal(a)?;
        check_spare(&a)?;
        self.times(&a, value, a.level())
    }

    /// `a + value` in every slot, at the level of `a`.
    ///
    /// # Errors
    /// [`CkksError::InvalidNumber`], and those of [`Self::at_nominal`].
    pub fn add_const(&self, a: &Ciphertext, value: f64) -> Result<Ciphertext, CkksError> {
        let mut sum = self.at_nominal(a)?;
        self.evaluator.add_scalar_assign(&mut sum, value)?;
        Ok(sum)
    }

    /// `a * values`, slot by slot, one level below. Slots without a value become zero; `magnitude` bounds the values.
    ///
    /// # Errors
    /// Those of [`Context::encode_at`](crate::context::Context::encode_at) and [`Self::at_nominal`].
    pub fn mul_values(
        &self,
        a: &Ciphertext,
        values: &[f64],
        magnitude: f64,
    ) -> Result<Ciphertext, CkksError> {
        let context = self.evaluator.context();
        let a = self.nominal(a)?;
        check_spare(&a)?;
        let plain = context.encode_at(values, magnitude, a.level(), a.scale())?;
        self.evaluator.mul_plain_rescale(&a, &plain)
    }

    /// `a + values`, slot by slot, at the level of `a`; `magnitude` bounds the values.
    ///
    /// # Errors
    /// Those of [`Context::encode_at`](crate::context::Context::encode_at) and [`Self::at_nominal`].
    pub fn add_values(
        &self,
        a: &Ciphertext,
        values: &[f64],
        magnitude: f64,
    ) -> Result<Ciphertext, CkksError> {
        let context = self.evaluator.context();
        let mut a = self.at_nominal(a)?;
        let plain = context.encode_at(values, magnitude, a.level(), a.scale())?;
        self.evaluator.add_plain_assign(&mut a, &plain)?;
        Ok(a)
    }
}

/// Refuses a ciphertext that cannot be rescaled.
fn check_spare(a: &Ciphertext) -> Result<(), CkksError> {
    if a.level() > 0 {
        return Ok(());
    }
    Err(CkksError::NoLevelLeft)
}
