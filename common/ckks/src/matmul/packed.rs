//! Products of packed matrices.
//!
//! The method is that of Jiang, Kim, Lauter and Song (ePrint 2018/1041, section 3): with `A'(i, j) = A(i, i + j)` and
//! `B'(i, j) = B(i + j, j)`, indices modulo d, `C(i, j) = sum over k of A'(i, j + k) B'(i + k, j)`. There a permutation
//! makes A' and B' (one level), masks the shifted columns of A' (another), and products take the third. Here it takes two levels.
//! A shift by k of the columns of A' is its rotation by k in the first d - k columns and that by k - d in the others, and instead of the rotations
//! the factor from B is masked: it is a sum of columns of rotations of B itself,
//! `B'(i + k, j) = B(i + (j + k), j)`, column j of the rotation by `j + k mod d` rows, and masks of single columns select them and
//! those shifted columns at the same time. So d masks of columns, `d^2` products with them, `2 d - 1` products of ciphertexts that are
//! relinearised once, and `3 (d - 1)` rotations, all of which share the digits of A' or B, besides those of the permutation.

use super::BlockMatrix;
use crate::ciphertext::{Ciphertext, Plaintext};
use crate::context::Context;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::galois::GaloisKeys;
use crate::keys::RelinKey;
use crate::transform::{EncodedTransform, LinearTransform, check_count, check_power_of_two};
use rayon::prelude::*;
use std::collections::BTreeSet;

/// What products of blocks of one size at one level need.
#[derive(Debug, Clone)]
pub struct PackedProduct {
    pub(super) dimension: usize,
    pub(super) lanes: usize,
    pub(super) level: usize,
    permutation: LinearTransform,
    encoded: EncodedTransform,
    /// One in the column, zero elsewhere.
    columns: Vec<Plaintext>,
}

/// The left block: A' rotated by `-(d - 1)..=d - 1` columns.
struct Left(Vec<Ciphertext>);

/// The right block: for each k the columns below d - k of B' shifted by k rows, and for k from 1 the others.
struct Right {
    first: Vec<Ciphertext>,
    second: Vec<Ciphertext>,
}

impl PackedProduct {
    /// For blocks of `dimension x dimension` elements, of ciphertexts at a level. Dimensions up to about 64 are practical; larger matrices
    /// are products of blocks.
    ///
    /// # Errors
    /// [`CkksError::NotPowerOfTwo`], [`CkksError::Count`] if a block has more elements than there are slots,
    /// [`CkksError::Levels`] below level 2, [`CkksError::LevelRange`].
    pub fn new(context: &Context, dimension: usize, level: usize) -> Result<Self, CkksError> {
        let d = dimension;
        check_power_of_two(d, context.slots())?;
        check_count(d.saturating_mul(d), 1, context.slots())?;
        if level < LEVELS {
            return Err(CkksError::Levels {
                needed: LEVELS,
                available: level,
            });
        }
        let lanes = context.slots() / (d * d);
        // A'(i, j) = A(i, i + j): i columns on, or i - d where that is beyond the row.
        let diagonals: Vec<(i64, Vec<f64>)> = (1 - d as i64..d as i64)
            .map(|steps| {
                let moved = |element: usize| {
                    let (i, j) = (element / d, element % d);
                    let on = if i + j < d { i as i64 } else { i as i64 - d as i64 };
                    f64::from(u8::from(on == steps))
                };
                (steps, (0..d * d).map(moved).collect())
            })
            .collect();
        let permutation = LinearTransform::diagonals(context, &diagonals, lanes)?;
        let scale = context.scale(level)?;
        let columns = (0..d)
            .map(|column| {
                let selected = |slot: usize| f64::from(u8::from(slot / lanes % d == column));
                let mask: Vec<f64> = (0..context.slots()).map(selected).collect();
                context.encode_at(&mask, 1.0, level, scale)
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            dimension,
            lanes,
            level,
            encoded: permutation.encode(context, level)?,
            permutation,
            columns,
        })
    }

    /// Rows and columns of a block.
    #[must_use]
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Products of matrices that are computed side by side.
    #[must_use]
    pub fn lanes(&self) -> usize {
        self.lanes
    }

    /// The level of the operands; higher ones are brought down to it. The result is two below.
    #[must_use]
    pub fn level(&self) -> usize {
        self.level
    }

    /// The rotations, in slots to the left, that keys are needed for.
    #[must_use]
    pub fn rotations(&self) -> Vec<i64> {
        let d = self.dimension as i64;
        let steps = |element: i64| element * self.lanes as i64;
        let slots = d * d * self.lanes as i64;
        let mut rotations: BTreeSet<i64> = self.permutation.rotations().into_iter().collect();
        for k in 1..d {
            rotations.extend([steps(k), slots - steps(k), steps(d * k)]);
        }
        rotations.into_iter().collect()
    }

    /// The steps of a rotation by this many elements.
    fn steps(&self, elements: i64) -> i64 {
        elements * self.lanes as i64
    }
}

/// Levels that a product takes.
const LEVELS: usize = 2;

impl Evaluator {
    /// The product of two matrices in every lane, at the nominal scale of the second level below that of the product.
    ///
    /// For matrices of several blocks products are added before they are relinearised, once for each block of the result. Everything is
    /// computed in the current rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless `a` has as many columns as `b` has rows, [`CkksError::MissingRotation`] (see
    /// [`PackedProduct::rotations`]), [`CkksError::LevelRange`] and [`CkksError::ScaleMismatch`] as for
    /// [`Self::transform`], [`CkksError::KeyMismatch`], [`CkksError::PresetMismatch`], [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn packed_product(
        &self,
        product: &PackedProduct,
        a: &BlockMatrix,
        b: &BlockMatrix,
        relin: &RelinKey,
        keys: &GaloisKeys,
    ) -> Result<BlockMatrix, CkksError> {
        check_count(b.rows, a.columns, a.columns)?;
        check_count(b.shape.0, a.shape.1, a.shape.1)?;
        for ct in a.blocks.iter().chain(&b.blocks) {
            self.check_galois_keys(ct, keys)?;
        }
        for steps in product.rotations() {
            keys.rotation(steps)?;
        }
        let left = a.blocks.par_iter().map(|ct| self.left(product, ct, keys));
        let left = left.collect::<Result<Vec<_>, _>>()?;
        let right = b.blocks.par_iter().map(|ct| self.right(product, ct, keys));
        let right = right.collect::<Result<Vec<_>, _>>()?;
        let shape = (a.shape.0, b.shape.1);
        let blocks = (0..shape.0 * shape.1)
            .into_par_iter()
            .map(|block| {
                let (row, column) = (block / shape.1, block % shape.1);
                let mut pairs = Vec::new();
                for middle in 0..a.shape.1 {
                    let (left, right) = (&left[row * a.shape.1 + middle], &right[middle * shape.1 + column]);
                    // Rotation 0 is at d - 1; the second factors begin with k = 1, whose rotation is 1 - d.
                    pairs.extend(left.0[product.dimension - 1..].iter().zip(&right.first));
                    pairs.extend(left.0.iter().zip(&right.second));
                }
                let sum = self.sum_of_products(&pairs)?;
                // Every element is a sum of as many products as a has columns; the masks let no more through.
                let bound = a.columns as f64 * largest(&a.blocks) * largest(&b.blocks);
                let mut result = self.relin_rescale(&sum, relin)?;
                result.budget.magnitude = result.budget.magnitude.min(bound);
                Ok(result)
            })
            .collect::<Result<Vec<_>, CkksError>>()?;
        Ok(BlockMatrix {
            rows: a.rows,
            columns: b.columns,
            shape,
            blocks,
        })
    }

    fn left(&self, product: &PackedProduct, a: &Ciphertext, keys: &GaloisKeys) -> Result<Left, CkksError> {
        let d = product.dimension as i64;
        let permuted = self.hoist(&self.transform(a, &product.encoded, keys)?)?;
        let rotations = (1 - d..d).into_par_iter();
        let rotations = rotations.map(|k| self.rotate_from(&permuted, product.steps(k), keys));
        rotations.collect::<Result<_, _>>().map(Left)
    }

    fn right(&self, product: &PackedProduct, b: &Ciphertext, keys: &GaloisKeys) -> Result<Right, CkksError> {
        let d = product.dimension;
        let b = self.hoist(&*self.nominal_at(b, product.level)?)?;
        let rows = (0..d as i64).into_par_iter();
        let rows = rows.map(|k| self.rotate_from(&b, product.steps(k * d as i64), keys));
        let rows = rows.collect::<Result<Vec<_>, _>>()?;
        // The sum of columns j, each of the rotation by j + k rows.
        let selected = |k: usize, columns: core::ops::Range<usize>| {
            let pairs: Vec<_> = columns
                .map(|j| (&rows[(j + k) % d], &product.columns[j]))
                .collect();
            let mut sum = self.sum_of_plain_products(&pairs)?;
            // Masks do not overlap.
            sum.budget.magnitude = b.ciphertext().magnitude_bound();
            self.rescale(&sum)
        };
        let first = (0..d).into_par_iter().map(|k| selected(k, 0..d - k));
        let second = (1..d).into_par_iter().map(|k| selected(k, d - k..d));
        Ok(Right {
            first: first.collect::<Result<_, _>>()?,
            second: second.collect::<Result<_, _>>()?,
        })
    }
}

/// The largest magnitude bound.
fn largest(blocks: &[Ciphertext]) -> f64 {
    blocks.iter().map(Ciphertext::magnitude_bound).fold(0.0, f64::max)
}
