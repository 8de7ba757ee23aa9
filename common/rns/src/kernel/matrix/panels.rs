//! The inner loops of a product: a few rows times a few registers of positions.

use super::WeightMatrix;
use super::weights::{Block, MANY_ROWS};
use crate::kernel::lanes::{LAZY_TERMS, Lanes, partial};

/// Where the inner loop reads its inputs.
pub(super) trait Source<L: Lanes>: Copy {
    /// `V` registers of an input, from the `at`-th on.
    fn read<const V: usize>(self, lanes: L, input: usize, at: usize) -> [L::Word; V];
}

/// Positions of the outputs, and whether they are added to.
#[derive(Clone, Copy)]
pub(super) struct Target {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) add: bool,
}

/// All rows for the positions of a tile.
#[inline(always)]
pub(super) fn blocks<L: Lanes, S: Source<L>>(
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
