//! Products of a matrix of weights with vectors of residues: a linear layer over a batch.
//!
//! `outputs[r][j] = sum over c of weights[r][c] * inputs[c][j] mod q`. The positions `j` are cut into tiles. A tile of
//! all inputs is copied together, so that the inner loop reads memory in order instead of jumping between hundreds of
//! vectors, and stays in the second-level cache while all rows pass over it. The inner loop keeps the sums of a few
//! rows times a few registers of positions, so that each input read serves several rows and each weight several
//! registers; they are reduced once at the end (every `LAZY_TERMS` terms, if there are more).

use super::Kernels;
use super::backend::Backend;
use super::lanes::{LAZY_TERMS, Lanes, Loop, partial};
use crate::error::RnsError;
use crate::modulus::Modulus;
use rayon::prelude::*;
use std::collections::BTreeMap;

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

/// Most rows that the inner loop takes together, for 32 and 16 registers.
const MANY_ROWS: usize = 6;
const FEW_ROWS: usize = 4;

/// Rows that weigh the same inputs, and their weights: for each input in turn one per row.
#[derive(Debug)]
struct Block {
    rows: Vec<usize>,
    /// Positions of the inputs in `columns` of the matrix.
    columns: core::ops::Range<usize>,
    /// Packed as the backend reads them.
    weights: Vec<u64>,
}

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
            Backend::Ifma => Self::new::<super::ifma::IfmaLanes>(),
            #[cfg(target_arch = "x86_64")]
            Backend::Avx2 => Self::new::<super::avx2::Avx2Lanes>(),
            _ => Self::new::<super::portable::Portable<'_>>(),
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

fn check_length(expected: usize, actual: usize) -> Result<(), RnsError> {
    if expected == actual {
        Ok(())
    } else {
        Err(RnsError::Length { expected, actual })
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

/// Where the inner loop reads its inputs.
trait Source<L: Lanes>: Copy {
    /// `V` registers of an input, from the `at`-th on.
    fn read<const V: usize>(self, lanes: L, input: usize, at: usize) -> [L::Word; V];
}

/// Inputs as they are.
#[derive(Clone, Copy)]
struct Slices<'a>(&'a [&'a [u64]]);

impl<L: Lanes> Source<L> for Slices<'_> {
    #[inline(always)]
    fn read<const V: usize>(self, lanes: L, input: usize, at: usize) -> [L::Word; V] {
        let mut words = [lanes.splat(0); V];
        let (input, start) = (self.0[input], at * L::WIDTH);
        if start + V * L::WIDTH <= input.len() {
            let chunks = L::chunks(&input[start..start + V * L::WIDTH]);
            for v in 0..V {
                words[v] = lanes.load(&chunks[v]);
            }
        } else {
            // Only the last register can be an incomplete one, and that is taken alone.
            words[0] = lanes.load(&partial::<L>(&input[start..]));
        }
        words
    }
}

/// Inputs copied together.
#[derive(Clone, Copy)]
struct Tile<'a, C> {
    chunks: &'a [C],
    /// Chunks from one input to the next.
    stride: usize,
}

impl<L: Lanes> Source<L> for Tile<'_, L::Chunk> {
    #[inline(always)]
    fn read<const V: usize>(self, lanes: L, input: usize, at: usize) -> [L::Word; V] {
        let mut words = [lanes.splat(0); V];
        let start = input * self.stride + at;
        let chunks = &self.chunks[start..start + V];
        for v in 0..V {
            words[v] = lanes.load(&chunks[v]);
        }
        words
    }
}

/// The product for one tile that needs no copy.
struct Direct<'a, 'b> {
    matrix: &'a WeightMatrix,
    inputs: &'a [&'a [u64]],
    outputs: &'a mut [&'b mut [u64]],
    add: bool,
}

impl Loop for Direct<'_, '_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let to = self.outputs.first().map_or(0, |output| output.len());
        let target = Target {
            from: 0,
            to,
            add: self.add,
        };
        blocks(lanes, self.matrix, Slices(self.inputs), target, self.outputs);
    }
}

/// The product for a range of positions, tile by tile.
struct Tiled<'a, 'b> {
    matrix: &'a WeightMatrix,
    inputs: &'a [&'a [u64]],
    outputs: &'a mut [&'b mut [u64]],
    start: usize,
    add: bool,
}

impl Loop for Tiled<'_, '_> {
    #[inline(always)]
    fn run<L: Lanes>(self, lanes: L) {
        let length = self.outputs.first().map_or(0, |output| output.len());
        let positions = self.matrix.tile_positions();
        // One line more than the tile is wide, so that the inputs do not fall into the same few cache sets.
        let stride = positions.div_ceil(L::WIDTH) + 8 / L::WIDTH;
        let mut words = vec![0u64; (stride * self.inputs.len() + 1) * L::WIDTH];
        let aligned = match words.as_ptr().align_offset(8 * L::WIDTH) {
            offset if offset < L::WIDTH => offset,
            _ => 0,
        };
        let tile = &mut words[aligned..];
        let mut from = 0;
        while from < length {
            let to = length.min(from + positions);
            for (input, packed) in self.inputs.iter().zip(tile.chunks_exact_mut(stride * L::WIDTH)) {
                packed[..to - from].copy_from_slice(&input[self.start + from..self.start + to]);
                // The lanes beyond the end of the last tile hold older values, whose sums are not stored.
            }
            let source = Tile {
                chunks: L::chunks(tile),
                stride,
            };
            let add = self.add;
            blocks(lanes, self.matrix, source, Target { from, to, add }, self.outputs);
            from = to;
        }
    }
}

/// Positions of the outputs, and whether they are added to.
#[derive(Clone, Copy)]
struct Target {
    from: usize,
    to: usize,
    add: bool,
}

/// All rows for the positions of a tile.
#[inline(always)]
fn blocks<L: Lanes, S: Source<L>>(
    lanes: L,
    matrix: &WeightMatrix,
    source: S,
    target: Target,
    outputs: &mut [&mut [u64]],
) {
    for block in &matrix.blocks {
        let columns = &matrix.columns[block.columns.clone()];
        match block.rows.len() {
            1 => rows::<L, S, 1>(lanes, block, columns, source, target, outputs),
            2 => rows::<L, S, 2>(lanes, block, columns, source, target, outputs),
            3 => rows::<L, S, 3>(lanes, block, columns, source, target, outputs),
            4 => rows::<L, S, 4>(lanes, block, columns, source, target, outputs),
            5 => rows::<L, S, 5>(lanes, block, columns, source, target, outputs),
            _ => rows::<L, S, MANY_ROWS>(lanes, block, columns, source, target, outputs),
        }
    }
}

/// All positions of a tile for `R` rows.
#[inline(always)]
fn rows<L: Lanes, S: Source<L>, const R: usize>(
    lanes: L,
    block: &Block,
    columns: &[usize],
    source: S,
    target: Target,
    outputs: &mut [&mut [u64]],
) {
    let mut at = 0;
    if L::MANY_REGISTERS {
        // Some twenty sums of two registers each, whatever the number of rows.
        at = match R {
            1 => panels::<L, S, R, 8>(lanes, block, columns, source, target, outputs, at),
            2 | 3 => panels::<L, S, R, 4>(lanes, block, columns, source, target, outputs, at),
            _ => panels::<L, S, R, 2>(lanes, block, columns, source, target, outputs, at),
        };
    }
    panels::<L, S, R, 1>(lanes, block, columns, source, target, outputs, at);
}

/// Positions of a tile, `V` registers at a time, from the `at`-th register on; returns the first that is left.
#[inline(always)]
fn panels<L: Lanes, S: Source<L>, const R: usize, const V: usize>(
    lanes: L,
    block: &Block,
    columns: &[usize],
    source: S,
    target: Target,
    outputs: &mut [&mut [u64]],
    mut at: usize,
) -> usize {
    let length = target.to - target.from;
    // One register may be an incomplete one, at the end.
    let registers = if V == 1 {
        length.div_ceil(L::WIDTH)
    } else {
        length / L::WIDTH
    };
    while at + V <= registers {
        let mut results = panel::<L, S, R, V>(lanes, block, columns, source, at);
        for r in 0..R {
            let output = &mut outputs[block.rows[r]][target.from..target.to];
            let start = at * L::WIDTH;
            if start + V * L::WIDTH <= length {
                let chunks = L::chunks_mut(&mut output[start..start + V * L::WIDTH]);
                for v in 0..V {
                    if target.add {
                        results[r][v] = lanes.add(results[r][v], lanes.load(&chunks[v]));
                    }
                    chunks[v] = lanes.store(results[r][v]);
                }
            } else {
                let rest = &mut output[start..];
                if target.add {
                    results[r][0] = lanes.add(results[r][0], lanes.load(&partial::<L>(rest)));
                }
                rest.copy_from_slice(&lanes.store(results[r][0]).as_ref()[..rest.len()]);
            }
        }
        at += V;
    }
    at
}

/// The sums of `R` rows at `V` registers of positions.
#[inline(always)]
fn panel<L: Lanes, S: Source<L>, const R: usize, const V: usize>(
    lanes: L,
    block: &Block,
    columns: &[usize],
    source: S,
    at: usize,
) -> [[L::Word; V]; R] {
    let zero = lanes.splat(0);
    let mut folded = [[zero; V]; R];
    let weights = block.weights.chunks(LAZY_TERMS * R * L::PACKED);
    for (columns, weights) in columns.chunks(LAZY_TERMS).zip(weights) {
        let mut sums = [[lanes.sum(zero); V]; R];
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = lanes.sum(folded[r][v]);
            }
        }
        for (&column, weights) in columns.iter().zip(weights.chunks_exact(R * L::PACKED)) {
            let words = source.read::<V>(lanes, column, at);
            let mut x = [lanes.factor(zero); V];
            for v in 0..V {
                x[v] = lanes.factor(words[v]);
            }
            for r in 0..R {
                let w = lanes.unpack(&weights[r * L::PACKED..(r + 1) * L::PACKED]);
                for v in 0..V {
                    sums[r][v] = lanes.accumulate(sums[r][v], x[v], w);
                }
            }
        }
        for r in 0..R {
            for v in 0..V {
                folded[r][v] = lanes.reduce(sums[r][v], columns.len());
            }
        }
    }
    folded
}
