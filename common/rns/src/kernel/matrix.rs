//! Products of a matrix of weights with vectors of residues: a linear layer over a batch.
//!
//! `outputs[r][j] = sum over c of weights[r][c] * inputs[c][j] mod q`. The positions `j` are cut into tiles. A tile of
//! all inputs is copied together, so that the inner loop reads memory in order instead of jumping between hundreds of
//! vectors, and stays in the second-level cache while all rows pass over it. The inner loop keeps the sums of a few
//! rows times a few registers of positions, so that each input read serves several rows and each weight several
//! registers; they are reduced once at the end (every `LAZY_TERMS` terms, if there are more).
//!
//! Weights are packed in `weights`, inputs copied in `tiles`, the inner loops stand in `panels`.

mod panels;
mod tiles;
mod weights;

use super::Kernels;
use crate::error::{RnsError, check_length};
use crate::modulus::Modulus;
use rayon::prelude::*;
use tiles::{Direct, Tiled};
use weights::Block;

/// Words of inputs in a tile: most of a second-level cache of 1 MiB or half a common one, with room for the weights.
const TILE_WORDS: usize = 1 << 16;

/// Positions in a tile: at least a few registers, and at most what a page of output holds.
const TILE_POSITIONS: core::ops::RangeInclusive<usize> = 64..=512;

/// Positions of a tile that a caller on one thread is taken to keep in the cache.
const DIRECT_POSITIONS: usize = 256;

/// Positions are a multiple of this, eight registers of eight lanes.
const POSITION_STEP: usize = 64;

/// Ranges of positions per thread: enough for threads of unequal speed to finish together.
const RANGES_PER_THREAD: usize = 4;

/// Weights modulo one prime, prepared for products on one backend.
#[derive(Debug)]
pub struct WeightMatrix {
    kernels: Kernels,
    modulus: Modulus,
    rows: usize,
    cols: usize,
    blocks: Vec<Block>,
    /// Input indices of the blocks.
    columns: Vec<usize>,
}

impl WeightMatrix {
    /// Rows: outputs of a product.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Columns: inputs of a product.
    #[must_use]
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// `outputs[r][j] = sum over c of weights[r][c] * inputs[c][j] mod q`.
    ///
    /// Inputs are values below `2^50` (they may be residues of another modulus); all slices have one length. Runs in
    /// the current rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// [`RnsError::Length`] where the number or lengths of inputs or outputs do not fit.
    pub fn apply(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]]) -> Result<(), RnsError> {
        self.apply_in_pool(inputs, outputs, false)
    }

    /// `outputs[r][j] += sum over c of weights[r][c] * inputs[c][j] mod q`, for outputs that are residues: a product
    /// whose inputs come a few at a time. See [`Self::apply`].
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn apply_add(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]]) -> Result<(), RnsError> {
        self.apply_in_pool(inputs, outputs, true)
    }

    /// [`Self::apply`] on the calling thread alone. Without copies or allocation where the slices have at most 256
    /// elements: such are taken to be a tile that the caller keeps in the cache, contiguously.
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn apply_serial(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]]) -> Result<(), RnsError> {
        self.apply_here(inputs, outputs, false)
    }

    /// [`Self::apply_add`] on the calling thread alone; see [`Self::apply_serial`].
    ///
    /// # Errors
    /// Those of [`Self::apply`].
    pub fn apply_serial_add(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]]) -> Result<(), RnsError> {
        self.apply_here(inputs, outputs, true)
    }

    /// The number of positions.
    fn check(&self, inputs: &[&[u64]], outputs: &[&mut [u64]]) -> Result<usize, RnsError> {
        check_length(self.cols, inputs.len())?;
        check_length(self.rows, outputs.len())?;
        let length = outputs.first().map_or(0, |output| output.len());
        for output in outputs {
            check_length(length, output.len())?;
        }
        if !outputs.is_empty() {
            for input in inputs {
                check_length(length, input.len())?;
            }
        }
        Ok(length)
    }

    fn apply_here(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]], add: bool) -> Result<(), RnsError> {
        let length = self.check(inputs, outputs)?;
        if length <= DIRECT_POSITIONS {
            self.kernels.run(
                &self.modulus,
                Direct {
                    matrix: self,
                    inputs,
                    outputs,
                    add,
                },
            );
        } else {
            self.apply_range(inputs, outputs, 0, add);
        }
        Ok(())
    }

    fn apply_in_pool(
        &self,
        inputs: &[&[u64]],
        outputs: &mut [&mut [u64]],
        add: bool,
    ) -> Result<(), RnsError> {
        let length = self.check(inputs, outputs)?;
        let positions = self.tile_positions();
        let threads = rayon::current_num_threads();
        if threads == 1 || length <= positions {
            self.apply_range(inputs, outputs, 0, add);
            return Ok(());
        }
        let tiles = length.div_ceil(positions);
        let range = tiles.div_ceil(threads * RANGES_PER_THREAD) * positions;
        let mut ranges: Vec<Vec<&mut [u64]>> = (0..length.div_ceil(range))
            .map(|_| Vec::with_capacity(outputs.len()))
            .collect();
        for output in outputs {
            for (part, range) in output.chunks_mut(range).zip(&mut ranges) {
                range.push(part);
            }
        }
        ranges
            .into_par_iter()
            .enumerate()
            .for_each(|(index, mut parts)| self.apply_range(inputs, &mut parts, index * range, add));
        Ok(())
    }

    fn tile_positions(&self) -> usize {
        let fitting = TILE_WORDS / self.cols.max(1) / POSITION_STEP * POSITION_STEP;
        fitting.clamp(*TILE_POSITIONS.start(), *TILE_POSITIONS.end())
    }

    /// The outputs at positions from `start` on, as many as they hold, tile by tile.
    fn apply_range(&self, inputs: &[&[u64]], outputs: &mut [&mut [u64]], start: usize, add: bool) {
        self.kernels.run(
            &self.modulus,
            Tiled {
                matrix: self,
                inputs,
                outputs,
                start,
                add,
            },
        );
    }
}

/// [`WeightMatrix::dense`], applied once: `weights` are `outputs.len()` rows of `inputs.len()` residues.
///
/// # Errors
/// Those of [`WeightMatrix::dense`] and [`WeightMatrix::apply`].
pub fn matrix_product(
    modulus: &Modulus,
    weights: &[u64],
    inputs: &[&[u64]],
    outputs: &mut [&mut [u64]],
) -> Result<(), RnsError> {
    check_length(inputs.len() * outputs.len(), weights.len())?;
    if inputs.is_empty() {
        outputs.iter_mut().for_each(|output| output.fill(0));
        return Ok(());
    }
    WeightMatrix::dense(modulus, inputs.len(), weights)?.apply(inputs, outputs)
}

/// [`WeightMatrix::sparse`], applied once.
///
/// # Errors
/// Those of [`WeightMatrix::sparse`] and [`WeightMatrix::apply`].
pub fn sparse_matrix_product(
    modulus: &Modulus,
    rows: &[Vec<(usize, u64)>],
    inputs: &[&[u64]],
    outputs: &mut [&mut [u64]],
) -> Result<(), RnsError> {
    WeightMatrix::sparse(modulus, inputs.len(), rows)?.apply(inputs, outputs)
}
