//! Integer weights cut into blocks of rows.

use super::IntegerMatrix;
use crate::error::RnsError;
use crate::kernel::Kernels;
use crate::kernel::pieces::{NARROW_WEIGHTS, ONE_WIDE_WEIGHTS, TWO_WIDE_WEIGHTS};
use core::ops::Range;
use std::collections::BTreeMap;

/// Most rows of weights that the inner loop takes together: with three pieces each, all of its operands are in registers.
const ROWS: usize = 3;

/// Bits of the lower part of a weight in two parts.
pub(super) const LOW_BITS: u32 = 14;

/// Rows that weigh the same inputs.
#[derive(Debug)]
pub(super) struct Group {
    /// The inputs in pairs; the last one may be one input twice.
    pub(super) pairs: Vec<[usize; 2]>,
    pub(super) blocks: Vec<Block>,
}

/// A few rows.
#[derive(Debug)]
pub(super) struct Block {
    /// Outputs.
    pub(super) rows: Vec<usize>,
    /// Whether every output has two rows of weights, of the lower and of the upper bits.
    pub(super) split: bool,
    /// Whether all pieces of a sum together fit in 64 bits.
    pub(super) one_wide: bool,
    /// Pairs between whose ranges sums are widened.
    pub(super) windows: Vec<Range<usize>>,
    /// For each pair in turn one pair of weights for each row of weights.
    pub(super) weights: Vec<[i16; 2]>,
}

impl IntegerMatrix {
    /// A matrix of `cols` columns, its weights row after row.
    ///
    /// # Errors
    /// [`RnsError::Length`] if they are no whole number of rows or there are more columns than [`Self::MAX_COLS`],
    /// [`RnsError::Weight`].
    pub fn dense(cols: usize, weights: &[i32]) -> Result<Self, RnsError> {
        Self::dense_on(Kernels::active(), cols, weights)
    }

    /// [`Self::dense`] for a stated backend.
    ///
    /// # Errors
    /// Those of [`Self::dense`].
    pub fn dense_on(kernels: Kernels, cols: usize, weights: &[i32]) -> Result<Self, RnsError> {
        let rows = weights.len().checked_div(cols).unwrap_or(0);
        check_count(rows * cols, weights.len())?;
        check_weights(cols, weights.iter().copied())?;
        let members: Vec<usize> = (0..rows).collect();
        let weight = |row: usize, k: usize| weights[row * cols + k];
        Ok(Self {
            kernels,
            rows,
            cols,
            groups: vec![Group::new((0..cols).collect(), &members, weight)],
        })
    }

    /// A matrix of `cols` columns that is mostly zero: each row lists its inputs and their weights.
    ///
    /// Rows with the same list of inputs are computed together. An input that is listed twice counts with both weights; a
    /// row without inputs gives zeros.
    ///
    /// # Errors
    /// [`RnsError::Length`] for an input beyond the columns or more inputs in a row than [`Self::MAX_COLS`],
    /// [`RnsError::Weight`].
    pub fn sparse(cols: usize, rows: &[Vec<(usize, i32)>]) -> Result<Self, RnsError> {
        Self::sparse_on(Kernels::active(), cols, rows)
    }

    /// [`Self::sparse`] for a stated backend.
    ///
    /// # Errors
    /// Those of [`Self::sparse`].
    pub fn sparse_on(kernels: Kernels, cols: usize, rows: &[Vec<(usize, i32)>]) -> Result<Self, RnsError> {
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            check_weights(row.len(), row.iter().map(|&(_, w)| w))?;
            if let Some(&(column, _)) = row.iter().find(|&&(column, _)| column >= cols) {
                check_count(cols, column + 1)?;
            }
            let columns = row.iter().map(|&(column, _)| column).collect();
            groups.entry(columns).or_default().push(index);
        }
        let group = |(columns, members): (Vec<usize>, Vec<usize>)| {
            Group::new(columns, &members, |row, k| rows[row][k].1)
        };
        Ok(Self {
            kernels,
            rows: rows.len(),
            cols,
            groups: groups.into_iter().map(group).collect(),
        })
    }
}

impl Group {
    fn new(columns: Vec<usize>, rows: &[usize], weight: impl Fn(usize, usize) -> i32) -> Self {
        let large = |&&row: &&usize| (0..columns.len()).any(|k| i16::try_from(weight(row, k)).is_err());
        let (split, whole): (Vec<&usize>, Vec<&usize>) = rows.iter().partition(large);
        let pairs = columns
            .chunks(2)
            .map(|pair| [pair[0], pair[pair.len() - 1]])
            .collect();
        let mut blocks = Vec::new();
        for (rows, split) in [(whole, false), (split, true)] {
            let most = if split { ROWS / 2 } else { ROWS };
            let count = rows.len().div_ceil(most);
            let mut rest = rows.as_slice();
            for index in 0..count {
                let (members, after) = rest.split_at(rest.len().div_ceil(count - index));
                rest = after;
                let members = members.iter().copied().copied().collect();
                blocks.push(Block::new(members, split, columns.len(), &weight));
            }
        }
        Self { pairs, blocks }
    }
}

impl Block {
    fn new(rows: Vec<usize>, split: bool, columns: usize, weight: &impl Fn(usize, usize) -> i32) -> Self {
        let mut weights = Vec::with_capacity(columns.div_ceil(2) * rows.len() * (1 + usize::from(split)));
        let mut windows = Vec::new();
        let mut begin = 0;
        // Of each row of weights, in the present window and in all.
        let mut narrow = vec![0; rows.len() * (1 + usize::from(split))];
        let mut wide = narrow.clone();
        let mut pair = Vec::with_capacity(narrow.len());
        for k in (0..columns).step_by(2) {
            pair.clear();
            for &row in &rows {
                let first = weight(row, k);
                let second = if k + 1 < columns { weight(row, k + 1) } else { 0 };
                if split {
                    let ((low_0, high_0), (low_1, high_1)) = (halves(first), halves(second));
                    pair.extend([[low_0, low_1], [high_0, high_1]]);
                } else {
                    pair.push([first as i16, second as i16]);
                }
            }
            let sizes = pair
                .iter()
                .map(|w| u64::from(w[0].unsigned_abs()) + u64::from(w[1].unsigned_abs()));
            let sizes: Vec<u64> = sizes.collect();
            if narrow
                .iter()
                .zip(&sizes)
                .any(|(sum, size)| sum + size > NARROW_WEIGHTS)
            {
                windows.push(begin..k / 2);
                begin = k / 2;
                narrow.fill(0);
            }
            for (sums, size) in narrow.iter_mut().zip(&mut wide).zip(sizes) {
                *sums.0 += size;
                *sums.1 += size;
            }
            weights.extend_from_slice(&pair);
        }
        windows.push(begin..columns.div_ceil(2));
        debug_assert!(wide.iter().all(|&sum| sum <= TWO_WIDE_WEIGHTS));
        Self {
            rows,
            split,
            one_wide: wide.iter().all(|&sum| sum <= ONE_WIDE_WEIGHTS),
            windows,
            weights,
        }
    }
}

/// `w = low + high 2^14`, with low between `-2^13` and `2^13`.
fn halves(w: i32) -> (i16, i16) {
    let high = (w + (1 << (LOW_BITS - 1))) >> LOW_BITS;
    ((w - (high << LOW_BITS)) as i16, high as i16)
}

fn check_count(expected: usize, actual: usize) -> Result<(), RnsError> {
    if expected == actual {
        return Ok(());
    }
    Err(RnsError::Length { expected, actual })
}

fn check_weights(count: usize, weights: impl Iterator<Item = i32>) -> Result<(), RnsError> {
    if count > IntegerMatrix::MAX_COLS {
        check_count(IntegerMatrix::MAX_COLS, count)?;
    }
    for (index, weight) in weights.enumerate() {
        if weight.unsigned_abs() > IntegerMatrix::MAX_WEIGHT {
            return Err(RnsError::Weight { index, weight });
        }
    }
    Ok(())
}
