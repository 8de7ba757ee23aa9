//! Sums over slots, and copies into slots.
//!
//! `count` summands take about `log2(count)` rotations for any count, by doubling and adding: a sum of `2^k` neighbours and
//! itself rotated by `2^k` is one of `2^(k + 1)`, and the binary digits of the count say which of them make up the whole. One key for
//! each power of two serves both.
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, inner_sum, keys::SecretKey, preset::Preset};
//!
//! let ctx = Context::new(&Preset::by_name("n8192_q50_3x38_p1x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//! let relin = key.relin_key()?;
//! let ev = Evaluator::new(&ctx);
//!
//! let keys = key.galois_keys(&inner_sum::rotations(&ctx, 5, 1)?)?;
//! let x = key.encrypt(&ctx.encode(&[1.0, -0.5, 0.25, 0.5, 0.75], 1.0)?)?;
//! let decode = |ct| ctx.decode_rounded(&key.decrypt(&ct)?, 10);
//! assert!((decode(ev.inner_sum(&x, 5, 1, &keys)?)?[0] - 2.0).abs() < 1e-2);
//! assert!((decode(ev.average(&x, 5, 1, &keys)?)?[0] - 0.4).abs() < 1e-2);
//! assert!((decode(ev.dot(&x, &x, 5, 1, &relin, &keys)?)?[0] - 2.125).abs() < 1e-2);
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

use crate::ciphertext::Ciphertext;
use crate::context::Context;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::galois::GaloisKeys;
use crate::keys::RelinKey;
use crate::transform::{check_count, check_numbers};

/// The rotations that sums of `count` slots, `stride` apart, need keys for. Those of [`Evaluator::replicate`] are the same with the
/// stride negated.
///
/// # Errors
/// [`CkksError::Count`] if there are not so many slots, or for a stride of zero with more than one of them.
pub fn rotations(context: &Context, count: usize, stride: i64) -> Result<Vec<i64>, CkksError> {
    check_window(context, count, stride)?;
    let powers = (0..usize::BITS).map(|k| 1usize << k);
    // Doubling up to the highest digit, and past it where a lower part is to be moved behind the highest power.
    Ok(powers
        .take_while(|power| 2 * power <= count || (*power < count && !count.is_power_of_two()))
        .map(|power| power as i64 * stride)
        .collect())
}

/// Refuses what would count a slot twice.
fn check_window(context: &Context, count: usize, stride: i64) -> Result<(), CkksError> {
    let step = usize::try_from(stride.unsigned_abs()).unwrap_or(usize::MAX);
    let max = context.slots().checked_div(step).unwrap_or(1);
    check_count(count, 1, max.max(1))
}

impl Evaluator {
    /// In every slot the sum of `count` slots from it on, `stride` apart: `sum of x[k + i * stride] for i < count`, slots counting
    /// modulo their number. A negative stride looks back. Level and scale stay.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are not so many slots, [`CkksError::MissingRotation`] (see [`rotations`]),
    /// [`CkksError::CiphertextDegree`] (relinearise first), [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`],
    /// [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn inner_sum(
        &self,
        a: &Ciphertext,
        count: usize,
        stride: i64,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        self.check_galois_keys(a, keys)?;
        for steps in rotations(self.context(), count, stride)? {
            keys.rotation(steps)?;
        }
        // `doubled` sums `length` slots; `sum` sums those that the lower digits of the count stand for.
        let mut doubled = a.clone();
        let mut sum: Option<Ciphertext> = None;
        let mut length = 1usize;
        let mut digits = count;
        let mut rotated = self.empty();
        loop {
            let steps = length as i64 * stride;
            if digits & 1 == 1 {
                sum = Some(match sum {
                    Some(lower) => {
                        self.rotate_into(&lower, steps, keys, &mut rotated)?;
                        self.add(&doubled, &rotated)?
                    }
                    None => doubled.clone(),
                });
            }
            digits >>= 1;
            if digits == 0 {
                return Ok(sum.unwrap_or(doubled));
            }
            self.rotate_into(&doubled, steps, keys, &mut rotated)?;
            self.add_assign(&mut doubled, &rotated)?;
            length *= 2;
        }
    }

    /// Copies: slot k of the result is the sum of `count` slots up to it, `stride` apart, so that a value with zeros in the
    /// `count - 1` places after it is copied into them. Level and scale stay. It needs the keys of
    /// `rotations(context, count, -stride)`.
    ///
    /// # Errors
    /// Those of [`Self::inner_sum`].
    pub fn replicate(
        &self,
        a: &Ciphertext,
        count: usize,
        stride: i64,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        let copies = self.inner_sum(a, count, stride.checked_neg().unwrap_or(i64::MAX), keys)?;
        Ok(Ciphertext {
            slots: self.context().slots(),
            ..copies
        })
    }

    /// [`Self::inner_sum`] divided by the count, at the nominal scale of the level below.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`], and those of [`Self::inner_sum`].
    pub fn average(
        &self,
        a: &Ciphertext,
        count: usize,
        stride: i64,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        check_window(self.context(), count, stride)?;
        let a = self.with_room(a)?;
        let target = self.context().product_target(a.level())?;
        let mut share = self.rescale(&self.mac_scalars(&[&*a], &[1.0 / count as f64], target)?)?;
        // The rounding of 1 / count must not make the bound of the average larger than that of the values.
        let magnitude = a.magnitude_bound();
        share = self.inner_sum(&share, count, stride, keys)?;
        share.budget.magnitude = share.budget.magnitude.min(magnitude);
        Ok(share)
    }

    /// Dot products of `count` slots, `stride` apart: [`Self::inner_sum`] of `a * b`, which may be of any levels and scales.
    ///
    /// # Errors
    /// Those of [`Aligned::mul`](crate::aligned::Aligned::mul) and [`Self::inner_sum`].
    pub fn dot(
        &self,
        a: &Ciphertext,
        b: &Ciphertext,
        count: usize,
        stride: i64,
        relin: &RelinKey,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        check_window(self.context(), count, stride)?;
        let product = self.aligned(relin).mul(a, b)?;
        self.inner_sum(&product, count, stride, keys)
    }

    /// Dot products with weights in the clear: [`Self::inner_sum`] of `weights[k] * a[k]`, weights that are not given being zero, at
    /// the nominal scale of the level below. Every window of slots meets the weights of its own places.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`], [`CkksError::Count`], [`CkksError::InvalidNumber`], and those of [`Self::inner_sum`].
    pub fn dot_plain(
        &self,
        a: &Ciphertext,
        weights: &[f64],
        count: usize,
        stride: i64,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        self.check_galois_keys(a, keys)?;
        check_window(self.context(), count, stride)?;
        check_numbers(weights)?;
        let a = self.with_room(a)?;
        let largest = weights.iter().map(|w| w.abs()).fold(0.0, f64::max);
        let scale = self.context().product_scale(a.level())? / a.scale();
        let plain = self.context().encode_at(weights, largest, a.level(), scale)?;
        let below = self.context().scale(a.level() - 1)?;
        let product = self.rescale_to(&self.mul_plain(&a, &plain)?, below)?;
        self.inner_sum(&product, count, stride, keys)
    }
}
