//! The positions of a product, tile by tile, and where the inner loop finds the inputs of a tile.

use super::WeightMatrix;
use super::panels::{Source, Target, blocks};
use crate::kernel::lanes::{Lanes, Loop, partial};

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
pub(super) struct Direct<'a, 'b> {
    pub(super) matrix: &'a WeightMatrix,
    pub(super) inputs: &'a [&'a [u64]],
    pub(super) outputs: &'a mut [&'b mut [u64]],
    pub(super) add: bool,
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
pub(super) struct Tiled<'a, 'b> {
    pub(super) matrix: &'a WeightMatrix,
    pub(super) inputs: &'a [&'a [u64]],
    pub(super) outputs: &'a mut [&'b mut [u64]],
    pub(super) start: usize,
    pub(super) add: bool,
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
