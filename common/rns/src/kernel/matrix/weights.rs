//! Weights cut into blocks of rows and packed as a backend reads them.

use super::WeightMatrix;
use crate::error::RnsError;
use crate::kernel::Kernels;
use crate::kernel::backend::Backend;
use crate::kernel::lanes::Lanes;
use crate::kernel::portable::Portable;
#[cfg(target_arch = "x86_64")]
use crate::kernel::{avx2::Avx2Lanes, ifma::IfmaLanes};
use crate::modulus::Modulus;
use std::collections::BTreeMap;

/// Most rows that the inner loop takes together, for 32 and 16 registers.
pub(super) const MANY_ROWS: usize = 6;
const FEW_ROWS: usize = 4;

/// Rows that weigh the same inputs, and their weights: for each input in turn one per row.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) rows: Vec<usize>,
    /// Positions of the inputs in `columns` of the matrix.
    pub(super) columns: core::ops::Range<usize>,
    /// Packed as the backend reads them.
    pub(super) weights: Vec<u64>,
}

impl WeightMatrix {
    /// A matrix of `cols` columns, its residues row after row.
    ///
    /// # Errors
    /// [`RnsError::Length`] if they are no whole number of rows, [`RnsError::ResidueRange`].
    pub fn dense(modulus: &Modulus, cols: usize, weights: &[u64]) -> Result<Self, RnsError> {
        Self::dense_on(Kernels::active(), modulus, cols, weights)
    }

    /// [`Self::dense`] for a stated backend.
    ///
    /// # Errors
    /// Those of [`Self::dense`].
    pub fn dense_on(
        kernels: Kernels,
        modulus: &Modulus,
        cols: usize,
        weights: &[u64],
    ) -> Result<Self, RnsError> {
        let rows = weights.len().checked_div(cols).unwrap_or(0);
        if rows * cols != weights.len() {
            return Err(RnsError::Length {
                expected: rows * cols,
                actual: weights.len(),
            });
        }
        check_residues(modulus, weights.iter().copied())?;
        let mut matrix = Self::empty(kernels, modulus, rows, cols);
        matrix.columns = (0..cols).collect();
        matrix.push_group(0..cols, &(0..rows).collect::<Vec<_>>(), |row, k| {
            weights[row * cols + k]
        });
        Ok(matrix)
    }

    /// A matrix of `cols` columns that is mostly zero: each row lists its inputs and their weights.
    ///
    /// Rows with the same list of inputs (the maps of a convolution at one place) are computed together. An input that
    /// is listed twice counts with both weights; a row without inputs gives zeros.
    ///
    /// # Errors
    /// [`RnsError::Length`] for an input beyond the columns, [`RnsError::ResidueRange`].
    pub fn sparse(modulus: &Modulus, cols: usize, rows: &[Vec<(usize, u64)>]) -> Result<Self, RnsError> {
        Self::sparse_on(Kernels::active(), modulus, cols, rows)
    }

    /// [`Self::sparse`] for a stated backend.
    ///
    /// # Errors
    /// Those of [`Self::sparse`].
    pub fn sparse_on(
        kernels: Kernels,
        modulus: &Modulus,
        cols: usize,
        rows: &[Vec<(usize, u64)>],
    ) -> Result<Self, RnsError> {
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        for (index, row) in rows.iter().enumerate() {
            check_residues(modulus, row.iter().map(|&(_, w)| w))?;
            if let Some(&(column, _)) = row.iter().find(|&&(column, _)| column >= cols) {
                return Err(RnsError::Length {
                    expected: cols,
                    actual: column + 1,
                });
            }
            let columns = row.iter().map(|&(column, _)| column).collect();
            groups.entry(columns).or_default().push(index);
        }
        let mut matrix = Self::empty(kernels, modulus, rows.len(), cols);
        for (columns, members) in groups {
            let start = matrix.columns.len();
            matrix.columns.extend(columns);
            let range = start..matrix.columns.len();
            matrix.push_group(range, &members, |row, k| rows[row][k].1);
        }
        Ok(matrix)
    }

    fn empty(kernels: Kernels, modulus: &Modulus, rows: usize, cols: usize) -> Self {
        Self {
            kernels,
            modulus: *modulus,
            rows,
            cols,
            blocks: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Cuts rows with the same inputs into blocks of about equal height.
    fn push_group(
        &mut self,
        columns: core::ops::Range<usize>,
        rows: &[usize],
        weight: impl Fn(usize, usize) -> u64,
    ) {
        if rows.is_empty() {
            return;
        }
        let Layout {
            rows: most,
            packed,
            pack,
        } = Layout::of(self.kernels.backend());
        let blocks = rows.len().div_ceil(most);
        let mut rest = rows;
        for index in 0..blocks {
            let (members, after) = rest.split_at(rest.len().div_ceil(blocks - index));
            rest = after;
            let mut weights = vec![0; columns.len() * members.len() * packed];
            let mut slots = weights.chunks_exact_mut(packed);
            for k in 0..columns.len() {
                for (&row, slot) in members.iter().zip(&mut slots) {
                    pack(weight(row, k), slot);
                }
            }
            self.blocks.push(Block {
                rows: members.to_vec(),
                columns: columns.clone(),
                weights,
            });
        }
    }
}

/// How a backend takes blocks of rows.
struct Layout {
    /// Most rows of a block.
    rows: usize,
    /// Words of a packed weight.
    packed: usize,
    pack: fn(u64, &mut [u64]),
}

impl Layout {
    fn of(backend: Backend) -> Self {
        match backend {
            #[cfg(target_arch = "x86_64")]
            Backend::Ifma => Self::new::<IfmaLanes>(),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => Self::new::<Avx2Lanes>(),
            _ => Self::new::<Portable<'_>>(),
        }
    }

    fn new<L: Lanes>() -> Self {
        Self {
            rows: if L::MANY_REGISTERS { MANY_ROWS } else { FEW_ROWS },
            packed: L::PACKED,
            pack: L::pack,
        }
    }
}

fn check_residues(modulus: &Modulus, weights: impl Iterator<Item = u64>) -> Result<(), RnsError> {
    for (index, w) in weights.enumerate() {
        if w >= modulus.value() {
            return Err(RnsError::ResidueRange {
                index,
                modulus: modulus.value(),
            });
        }
    }
    Ok(())
}
