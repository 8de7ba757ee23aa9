//! Linear maps of slots: a matrix times the vector in one ciphertext.
//!
//! A matrix is a sum of its diagonals, each multiplied by a rotation of the vector (Halevi and Shoup, CRYPTO 2014, section 4.3),
//! and n diagonals take about `2 sqrt(n)` rotations: those by less than a giant step of the vector, which share their digits, and
//! those by giant steps of sums of products (baby-step giant-step, and double hoisting: Bossuat, Mouchet, Troncoso-Pastoriza and
//! Hubaux, ePrint 2020/1203, section 4). Diagonals of nothing but zeros cost nothing.
//!
//! Element e of a vector of n is in the slots `e * stride + lane` for each lane below the stride, and the vector
//! repeats through all slots: with as many slots as there are in n vectors of the stride's length, it is there once, and each lane is
//! a vector of its own. n is a power of two; [`LinearTransform::pack`] adds zeros and repeats.
//!
//! ```
//! use galen_ckks::{context::Context, evaluate::Evaluator, keys::SecretKey, preset::Preset, transform::LinearTransform};
//!
//! let ctx = Context::new(&Preset::by_name("n8192_q50_3x38_p1x50")?)?;
//! let key = SecretKey::generate(&ctx)?;
//!
//! let rows = vec![vec![0.5, -1.0, 0.25], vec![0.0, 0.125, 1.0]];
//! let layer = LinearTransform::matrix(&ctx, &rows)?;
//! // These keys and no others are needed.
//! let keys = key.galois_keys(&layer.rotations())?;
//! // Once for many ciphertexts of this level.
//! let encoded = layer.encode(&ctx, ctx.max_level())?;
//!
//! let x = [0.3, -0.7, 0.9];
//! let ct = key.encrypt(&ctx.encode(&layer.pack(&x)?, 1.0)?)?;
//! let y = Evaluator::new(&ctx).transform(&ct, &encoded, &keys)?;
//! assert_eq!((y.level(), y.scale()), (2, ctx.scale(2)?));
//!
//! let slots = ctx.decode_rounded(&key.decrypt(&y)?, 10)?;
//! for (row, got) in rows.iter().zip(layer.unpack(&slots, 0)?) {
//!     let exact: f64 = row.iter().zip(&x).map(|(w, x)| w * x).sum();
//!     assert!((got - exact).abs() < 1e-3);
//! }
//! # Ok::<(), galen_ckks::error::CkksError>(())
//! ```

mod encode;
mod evaluate;

pub use encode::EncodedTransform;

use crate::context::Context;
use crate::error::CkksError;
use std::collections::{BTreeMap, BTreeSet};

/// A giant step costs about as much as this many baby steps: the division and the digits of its own.
const GIANT_COST: usize = 4;

/// A matrix as its diagonals. Steps are in elements: one is `stride` slots.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearTransform {
    slots: usize,
    stride: usize,
    /// Elements of the input and of the output, and the powers of two that they repeat with.
    columns: usize,
    rows: usize,
    input_period: usize,
    output_period: usize,
    /// By rotation: what each element of the rotated vector is multiplied by, repeating with its length. None is all zero.
    diagonals: BTreeMap<usize, Vec<f64>>,
    /// The largest sum of absolute weights of a row.
    norm: f64,
    baby_steps: usize,
}

impl LinearTransform {
    /// A matrix by its rows, for vectors of stride 1.
    ///
    /// # Errors
    /// Those of [`Self::matrix_with_stride`].
    pub fn matrix(context: &Context, rows: &[Vec<f64>]) -> Result<Self, CkksError> {
        Self::matrix_with_stride(context, rows, 1)
    }

    /// A matrix by its rows. A wide one of m x n takes as many diagonals as m has, and `log2(n / m)` rotations more, a tall
    /// one as many as n has, both after rounding up to powers of two.
    ///
    /// # Errors
    /// [`CkksError::NotPowerOfTwo`] for the stride, [`CkksError::Count`] for no rows or columns, more of them than elements, or rows
    /// of different lengths; [`CkksError::InvalidNumber`].
    pub fn matrix_with_stride(
        context: &Context,
        rows: &[Vec<f64>],
        stride: usize,
    ) -> Result<Self, CkksError> {
        let elements = check_stride(context, stride)?;
        let columns = rows.first().map_or(0, Vec::len);
        for row in rows {
            check_count(row.len(), columns, columns)?;
            check_numbers(row)?;
        }
        check_count(rows.len(), 1, elements)?;
        check_count(columns, 1, elements)?;
        let (input, output) = (columns.next_power_of_two(), rows.len().next_power_of_two());
        let period = input.max(output);
        let diagonals = (0..input.min(output)).map(|i| {
            let diagonal = (0..period).map(|j| {
                let row = rows.get(j % output);
                row.and_then(|row| row.get((i + j) % input))
                    .copied()
                    .unwrap_or(0.0)
            });
            (i, diagonal.collect())
        });
        let diagonals = without_zeros(diagonals);
        let sum = |row: &Vec<f64>| row.iter().map(|w| w.abs()).sum::<f64>();
        Ok(Self {
            slots: context.slots(),
            stride,
            columns,
            rows: rows.len(),
            input_period: input,
            output_period: output,
            baby_steps: baby_steps(&diagonals, elements),
            diagonals,
            norm: rows.iter().map(sum).fold(0.0, f64::max),
        })
    }

    /// A square matrix by diagonals: element e of the result is the sum of `diagonal[e] * x[e + steps]` over all
    /// `(steps, diagonal)`, indices counting modulo the length of the diagonals.
    ///
    /// # Errors
    /// [`CkksError::NotPowerOfTwo`] for the length of the diagonals or the stride, [`CkksError::Count`] for more elements than the
    /// slots hold or different lengths; [`CkksError::InvalidNumber`].
    pub fn diagonals(
        context: &Context,
        diagonals: &[(i64, Vec<f64>)],
        stride: usize,
    ) -> Result<Self, CkksError> {
        let elements = check_stride(context, stride)?;
        let period = diagonals.first().map_or(1, |(_, diagonal)| diagonal.len());
        check_count(period, 1, elements)?;
        check_power_of_two(period, elements)?;
        let mut norms = vec![0.0; period];
        let mut by_steps = BTreeMap::new();
        for (steps, diagonal) in diagonals {
            check_count(diagonal.len(), period, period)?;
            check_numbers(diagonal)?;
            for (norm, weight) in norms.iter_mut().zip(diagonal) {
                *norm += weight.abs();
            }
            // Below the period: fewer different rotations, and the same on a vector that repeats.
            let steps = steps.rem_euclid(period as i64) as usize;
            let sum = by_steps.entry(steps).or_insert_with(|| vec![0.0; period]);
            sum.iter_mut()
                .zip(diagonal)
                .for_each(|(sum, weight)| *sum += weight);
        }
        let diagonals = without_zeros(by_steps);
        Ok(Self {
            slots: context.slots(),
            stride,
            columns: period,
            rows: period,
            input_period: period,
            output_period: period,
            baby_steps: baby_steps(&diagonals, elements),
            diagonals,
            norm: norms.into_iter().fold(0.0, f64::max),
        })
    }

    /// Elements of the input.
    #[must_use]
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Elements of the result.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The number of elements after which the input has to repeat, and the one after which the result does.
    #[must_use]
    pub fn periods(&self) -> (usize, usize) {
        (self.input_period, self.output_period)
    }

    /// Diagonals that are not all zero.
    #[must_use]
    pub fn diagonal_count(&self) -> usize {
        self.diagonals.len()
    }

    /// The rotations, in slots to the left, that [`Evaluator::transform`](crate::evaluate::Evaluator::transform) needs keys for.
    #[must_use]
    pub fn rotations(&self) -> Vec<i64> {
        let mut steps = BTreeSet::new();
        for &i in self.diagonals.keys() {
            steps.extend([i % self.baby_steps, i - i % self.baby_steps]);
        }
        steps.extend(self.folds());
        steps.remove(&0);
        steps
            .into_iter()
            .map(|step| (step * self.stride) as i64)
            .collect()
    }

    /// Steps of the rotations that add up the parts of a wide matrix.
    fn folds(&self) -> Vec<usize> {
        let doubled = core::iter::successors(Some(self.output_period), |step| Some(2 * step));
        doubled.take_while(|&step| step < self.input_period).collect()
    }

    /// The slots of one vector in all lanes: zeros after its end, and repeated.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless it has [`Self::columns`] elements.
    pub fn pack(&self, x: &[f64]) -> Result<Vec<f64>, CkksError> {
        check_count(x.len(), self.columns, self.columns)?;
        let element = |slot: usize| x.get(slot / self.stride % self.input_period);
        Ok((0..self.slots)
            .map(|slot| element(slot).copied().unwrap_or(0.0))
            .collect())
    }

    /// The slots of one vector for each lane.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless there are as many as the stride, each of [`Self::columns`] elements.
    pub fn pack_lanes(&self, vectors: &[Vec<f64>]) -> Result<Vec<f64>, CkksError> {
        check_count(vectors.len(), self.stride, self.stride)?;
        for x in vectors {
            check_count(x.len(), self.columns, self.columns)?;
        }
        let element = |slot: usize| vectors[slot % self.stride].get(slot / self.stride % self.input_period);
        Ok((0..self.slots)
            .map(|slot| element(slot).copied().unwrap_or(0.0))
            .collect())
    }

    /// The result in one lane of decoded slots.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are too few slots or no such lane.
    pub fn unpack(&self, slots: &[f64], lane: usize) -> Result<Vec<f64>, CkksError> {
        check_count(lane, 0, self.stride - 1)?;
        check_count(slots.len(), (self.rows - 1) * self.stride + lane + 1, usize::MAX)?;
        let lane = slots.iter().skip(lane).step_by(self.stride);
        Ok(lane.take(self.rows).copied().collect())
    }

    /// What the transform makes of slots, in the clear.
    ///
    /// # Errors
    /// [`CkksError::Count`] unless all slots are given.
    pub fn apply(&self, slots: &[f64]) -> Result<Vec<f64>, CkksError> {
        check_count(slots.len(), self.slots, self.slots)?;
        let rotated =
            |values: &[f64], slot: usize, steps: usize| values[(slot + steps * self.stride) % self.slots];
        let mut sums: Vec<f64> = (0..self.slots)
            .map(|slot| {
                let product = |(&steps, diagonal): (&usize, &Vec<f64>)| {
                    diagonal[slot / self.stride % diagonal.len()] * rotated(slots, slot, steps)
                };
                self.diagonals.iter().map(product).sum()
            })
            .collect();
        for steps in self.folds() {
            sums = (0..self.slots)
                .map(|slot| sums[slot] + rotated(&sums, slot, steps))
                .collect();
        }
        Ok(sums)
    }
}

fn without_zeros(diagonals: impl IntoIterator<Item = (usize, Vec<f64>)>) -> BTreeMap<usize, Vec<f64>> {
    let some = |(_, diagonal): &(usize, Vec<f64>)| diagonal.iter().any(|w| *w != 0.0);
    diagonals.into_iter().filter(some).collect()
}

/// The length of a giant step, a power of two, that makes the transform cheapest.
fn baby_steps(diagonals: &BTreeMap<usize, Vec<f64>>, elements: usize) -> usize {
    let distinct = |f: &dyn Fn(usize) -> usize| {
        let steps: BTreeSet<usize> = diagonals.keys().map(|&i| f(i)).filter(|&s| s != 0).collect();
        steps.len()
    };
    let cost = |length: &usize| distinct(&|i| i % length) + GIANT_COST * distinct(&|i| i / length);
    let lengths = core::iter::successors(Some(1), |length| Some(2 * length));
    lengths
        .take_while(|&length| length <= elements)
        .min_by_key(cost)
        .unwrap_or(1)
}

/// The number of elements of this stride.
pub(crate) fn check_stride(context: &Context, stride: usize) -> Result<usize, CkksError> {
    check_power_of_two(stride, context.slots())?;
    Ok(context.slots() / stride)
}

pub(crate) fn check_power_of_two(count: usize, max: usize) -> Result<(), CkksError> {
    check_count(count, 1, max)?;
    if count.is_power_of_two() {
        return Ok(());
    }
    Err(CkksError::NotPowerOfTwo { count })
}

pub(crate) fn check_count(count: usize, min: usize, max: usize) -> Result<(), CkksError> {
    if (min..=max).contains(&count) {
        return Ok(());
    }
    Err(CkksError::Count { count, min, max })
}

pub(crate) fn check_numbers(values: &[f64]) -> Result<(), CkksError> {
    match values.iter().position(|w| !w.is_finite()) {
        None => Ok(()),
        Some(index) => Err(CkksError::InvalidNumber {
            index,
            value: values[index],
        }),
    }
}
