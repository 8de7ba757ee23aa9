//! Products of a matrix of integer weights of a few bits with vectors of residues.
//!
//! What [`WeightMatrix`](super::WeightMatrix) computes, for weights that are the same small integers modulo all primes:
//! those of a layer whose scales leave them 10 to 18 bits. Residues are cut into pieces of 13 or 14 bits (see
//! `super::pieces`), of which one instruction multiplies and adds 16 by weights of 16 bits; a weight that is larger has two
//! rows, of its lower and its upper bits. Sums are exact integers, and reduced once.
//!
//! All primes and parts of a layer are one call, so that threads meet once. A task is a range of positions for one of
//! them. Within it the inputs are cut tile by tile, and all rows pass over the pieces, which stay in the second-level cache.
//!
//! Weights are packed in `weights`, tiles and inner loops stand in `tiles`.

mod tiles;
mod weights;

use super::Kernels;
use super::pieces::{Cut, GROUP, Join};
use crate::error::{RnsError, check_length};
use crate::modulus::Modulus;
use rayon::prelude::*;
use tiles::Tiled;
use weights::Group;

/// Positions of a task.
const TASK: usize = 1024;

/// Bytes of the pieces of a tile: half a common second-level cache.
const TILE_BYTES: usize = 1 << 18;

/// Positions in a tile: at least some lines of an input, since the beginning of each run costs.
const TILE_POSITIONS: core::ops::RangeInclusive<usize> = 32..=256;

/// Integer weights, prepared for products on one backend.
#[derive(Debug)]
pub struct IntegerMatrix {
    kernels: Kernels,
    rows: usize,
    cols: usize,
    groups: Vec<Group>,
}

/// A product modulo one prime.
#[derive(Debug)]
pub struct Product<'a> {
    /// The prime.
    pub modulus: &'a Modulus,
    /// Residues below the prime, one vector per column of the matrix; nothing for zeros.
    pub inputs: Vec<Option<&'a [u64]>>,
    /// One vector per row.
    pub outputs: Vec<&'a mut [u64]>,
}

/// Some positions of a product.
struct Task<'p, 'a> {
    modulus: &'a Modulus,
    inputs: &'p [Option<&'a [u64]>],
    /// The first of the positions.
    start: usize,
    outputs: Vec<&'p mut [u64]>,
}

impl IntegerMatrix {
    /// Weights are of at most this absolute value.
    pub const MAX_WEIGHT: u32 = 1 << 27;

    /// Columns, and weights of a row, are at most this many.
    pub const MAX_COLS: usize = 1 << 17;

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

    /// `outputs[r][j] = sum over c of weights[r][c] * inputs[c][j] mod q`, for each of the products.
    ///
    /// Runs in the current rayon pool; the result does not depend on it.
    ///
    /// # Errors
    /// [`RnsError::Length`] where the number or lengths of inputs or outputs do not fit.
    pub fn apply(&self, products: &mut [Product<'_>]) -> Result<(), RnsError> {
        let mut tasks = Vec::new();
        for Product {
            modulus,
            inputs,
            outputs,
        } in products
        {
            check_length(self.cols, inputs.len())?;
            check_length(self.rows, outputs.len())?;
            let length = outputs.first().map_or(0, |output| output.len());
            for output in outputs.iter() {
                check_length(length, output.len())?;
            }
            if !outputs.is_empty() {
                for input in inputs.iter().flatten() {
                    check_length(length, input.len())?;
                }
            }
            let first = tasks.len();
            tasks.extend((0..length).step_by(TASK).map(|start| Task {
                modulus,
                inputs,
                start,
                outputs: Vec::with_capacity(self.rows),
            }));
            for output in outputs {
                for (part, task) in output.chunks_mut(TASK).zip(&mut tasks[first..]) {
                    task.outputs.push(part);
                }
            }
        }
        tasks
            .into_par_iter()
            .for_each_init(Vec::new, |tile, task| self.run(task, tile));
        Ok(())
    }

    fn run(&self, task: Task<'_, '_>, tile: &mut Vec<super::pieces::Stored>) {
        let Task {
            modulus,
            inputs,
            start,
            mut outputs,
        } = task;
        let cut = Cut::of(modulus);
        let tiled = Tiled {
            matrix: self,
            inputs,
            start,
            outputs: &mut outputs,
            cut,
            join: Join::new(modulus, cut),
            modulus,
            tile,
        };
        self.kernels.run_pieces(modulus, tiled);
    }

    /// Positions of a tile for so many pairs of inputs, each in so many pieces.
    fn tile_positions(pairs: usize, pieces: usize) -> usize {
        let group = pairs * pieces * size_of::<super::pieces::Stored>();
        let fitting = TILE_BYTES / group.max(1) * GROUP;
        fitting.clamp(*TILE_POSITIONS.start(), *TILE_POSITIONS.end())
    }
}
