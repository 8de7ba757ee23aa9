//! Linear maps of ciphertexts.

use super::encode::{Diagonals, EncodedTransform, Group};
use crate::ciphertext::Ciphertext;
use crate::context::Target;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::extended::Extended;
use crate::galois::GaloisKeys;
use rayon::prelude::*;
use std::borrow::Cow;

impl Evaluator {
    /// A linear map of the slots, at the nominal scale of the level below that of the transform.
    ///
    /// The ciphertext may be of a higher level and of any scale there (an unrescaled product of the level above, say); at the level of
    /// the transform it must have the nominal scale. Its degree is 1, or 2 where the transform
    /// [takes that](EncodedTransform::takes_degree_2): a rotation needs degree 1, because the keys for rotating a square of the
    /// secret would be as many again. So relinearise before a transform with rotations, and after layers of weighted sums.
    ///
    /// Baby steps run in the current rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// [`CkksError::MissingRotation`], [`CkksError::LevelRange`] for a ciphertext below the level, [`CkksError::ScaleMismatch`],
    /// [`CkksError::CiphertextDegree`], [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`], [`CkksError::Overflow`],
    /// [`CkksError::Precision`].
    pub fn transform(
        &self,
        a: &Ciphertext,
        transform: &EncodedTransform,
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        if !transform.takes_degree_2() {
            self.check_galois_keys(a, keys)?;
            for steps in transform.rotations() {
                keys.rotation(steps)?;
            }
        }
        let a = self.nominal_at(a, transform.level)?;
        let bound = transform.norm * a.magnitude_bound();
        let mut sum = match &transform.diagonals {
            Diagonals::Zero => {
                let target = self.context().product_target(transform.level)?;
                self.rescale(&self.mac_scalars(&[&*a], &[0.0], target)?)?
            }
            Diagonals::Main(diagonal) => self.rescale(&self.mul_plain(&a, diagonal)?)?,
            Diagonals::Many { babies, groups } => self.baby_giant(&a, babies, groups, keys)?,
        };
        // What a row of weights can make of values within their bound; sums over diagonals allow for more.
        sum.budget.magnitude = sum.budget.magnitude.min(bound);
        let mut rotated = self.empty();
        for &steps in &transform.folds {
            self.rotate_into(&sum, steps, keys, &mut rotated)?;
            self.add_assign(&mut sum, &rotated)?;
            sum.budget.magnitude = sum.budget.magnitude.min(bound);
        }
        Ok(sum)
    }

    fn baby_giant(
        &self,
        a: &Ciphertext,
        babies: &[i64],
        groups: &[Group],
        keys: &GaloisKeys,
    ) -> Result<Ciphertext, CkksError> {
        let hoisted = self.hoist(a)?;
        let babies = babies
            .par_iter()
            .map(|&steps| self.rotate_extended(&hoisted, steps, keys))
            .collect::<Result<Vec<Extended>, _>>()?;
        let mut outer: Option<Extended> = None;
        for Group { giant, products } in groups {
            let pairs: Vec<_> = products
                .iter()
                .map(|(baby, diagonal)| (&babies[*baby], diagonal))
                .collect();
            let inner = self.sum_of_extended_products(&pairs)?;
            match &mut outer {
                Some(outer) => self.rotate_add_extended(outer, &inner, *giant, keys)?,
                None if *giant == 0 => outer = Some(inner),
                None => {
                    let target = Target {
                        level: inner.level(),
                        scale: inner.scale(),
                    };
                    let zero = self.extend(&self.mac_scalars(&[a], &[0.0], target)?)?;
                    self.rotate_add_extended(outer.insert(zero), &inner, *giant, keys)?;
                }
            }
        }
        let outer = outer.ok_or(CkksError::Count {
            count: 0,
            min: 1,
            max: usize::MAX,
        })?;
        self.reduce_rescale(&outer)
    }

    /// The same values at this level and its nominal scale. From a higher level any scale is brought there, by rescaling if that
    /// lands on it, else by an exact integer for the ratio and then rescaling.
    ///
    /// # Errors
    /// [`CkksError::LevelRange`] for a ciphertext below the level, [`CkksError::ScaleMismatch`] for one that is at the level with
    /// another scale, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub(crate) fn nominal_at<'a>(
        &self,
        a: &'a Ciphertext,
        level: usize,
    ) -> Result<Cow<'a, Ciphertext>, CkksError> {
        self.check_preset(a)?;
        let scale = self.context().scale(level)?;
        if a.level() < level {
            return Err(CkksError::LevelRange {
                level,
                max: a.level(),
            });
        }
        if a.level() == level {
            if a.scale() == scale {
                return Ok(Cow::Borrowed(a));
            }
            return Err(CkksError::ScaleMismatch {
                left: a.scale().log2(),
                right: scale.log2(),
            });
        }
        let target = self.context().product_target(level + 1)?;
        if a.level() == target.level && a.scale() == target.scale {
            return self.rescale(a).map(Cow::Owned);
        }
        let mut lowered = Cow::Borrowed(a);
        while lowered.level() > target.level && lowered.scale() * MIN_FACTOR > target.scale {
            lowered = Cow::Owned(self.rescale(&lowered)?);
        }
        let product = self.mac_scalars(&[&*lowered], &[1.0], target)?;
        self.rescale_to(&product, scale).map(Cow::Owned)
    }

    /// The same values at a scale that leaves room for a weight below the scale of a product: an unrescaled product is rescaled.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`] if that would take one level more than there are, [`CkksError::Overflow`], [`CkksError::Precision`].
    pub(crate) fn with_room<'a>(&self, a: &'a Ciphertext) -> Result<Cow<'a, Ciphertext>, CkksError> {
        self.check_preset(a)?;
        let mut room = Cow::Borrowed(a);
        while room.scale() * MIN_FACTOR > self.context().product_scale(room.level())? {
            room = Cow::Owned(self.rescale(&room)?);
        }
        if room.level() == 0 {
            return Err(CkksError::NoLevelLeft);
        }
        Ok(room)
    }
}

/// Integers that stand for a ratio of scales have at least this many units, where there are levels for it.
const MIN_FACTOR: f64 = (1u64 << 20) as f64;
