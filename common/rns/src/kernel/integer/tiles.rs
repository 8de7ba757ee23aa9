//! Inputs cut into pieces, tile by tile, and the inner loops: a few rows times a register of positions.

use super::weights::{Block, LOW_BITS};
use super::{IntegerMatrix, TILE_POSITIONS};
use crate::kernel::lanes::Constant;
use crate::kernel::pieces::{Cut, GROUP, Join, PieceLanes, PieceLoop, Stored};
use crate::kernel::prefetch::prefetch;
use crate::modulus::Modulus;

/// Pairs of inputs between what is cut and what is asked for.
const AHEAD: usize = 4;

/// The product for a range of positions, tile by tile.
pub(super) struct Tiled<'a, 'b> {
    pub(super) matrix: &'a IntegerMatrix,
    pub(super) inputs: &'a [Option<&'a [u64]>],
    /// The first of the positions.
    pub(super) start: usize,
    /// Of as many positions as there are.
    pub(super) outputs: &'a mut [&'b mut [u64]],
    pub(super) cut: Cut,
    pub(super) join: Join,
    pub(super) modulus: &'a Modulus,
    /// Memory for pieces.
    pub(super) tile: &'a mut Vec<Stored>,
}

impl PieceLoop for Tiled<'_, '_> {
    #[inline(always)]
    fn run<L: PieceLanes>(self, lanes: L) {
        match self.cut {
            Cut::Three => self.tiles::<L, 3>(lanes),
            Cut::Four => self.tiles::<L, 4>(lanes),
        }
    }
}

impl Tiled<'_, '_> {
    /// For `P` pieces.
    #[inline(always)]
    fn tiles<L: PieceLanes, const P: usize>(self, lanes: L) {
        let length = self.outputs.first().map_or(0, |output| output.len());
        let upper = Constant::new(self.modulus, self.modulus.reduce_u64(1 << LOW_BITS));
        for group in &self.matrix.groups {
            let positions = IntegerMatrix::tile_positions(group.pairs.len(), P);
            let mut from = 0;
            while from < length {
                let to = length.min(from + positions);
                let range = Range {
                    inputs: self.inputs,
                    from: self.start + from,
                    to: self.start + to,
                };
                fill::<L, P>(lanes, &range, &group.pairs, self.tile);
                for block in &group.blocks {
                    let panels = Panels {
                        block,
                        join: &self.join,
                        upper: &upper,
                        tile: self.tile,
                        pairs: group.pairs.len(),
                        from,
                        to,
                    };
                    panels.rows::<L, P>(lanes, self.outputs);
                }
                from = to;
            }
        }
    }
}

/// Positions of the inputs.
struct Range<'a> {
    inputs: &'a [Option<&'a [u64]>],
    from: usize,
    to: usize,
}

impl Range<'_> {
    /// These positions of an input.
    fn of(&self, input: usize) -> &[u64] {
        const ZEROS: [u64; *TILE_POSITIONS.end()] = [0; *TILE_POSITIONS.end()];
        match self.inputs[input] {
            Some(values) => &values[self.from..self.to],
            None => &ZEROS[..self.to - self.from],
        }
    }
}

/// Pieces of all pairs of inputs: for every eight positions, for every pair, one register for each of `P` pieces.
#[inline(always)]
fn fill<L: PieceLanes, const P: usize>(
    lanes: L,
    range: &Range<'_>,
    pairs: &[[usize; 2]],
    tile: &mut Vec<Stored>,
) {
    let groups = (range.to - range.from).div_ceil(GROUP);
    let stride = pairs.len() * P;
    if tile.len() < groups * stride {
        tile.resize(groups * stride, Stored::default());
    }
    for (index, &[first, second]) in pairs.iter().enumerate() {
        let (a, a_rest) = range.of(first).as_chunks::<GROUP>();
        let (b, b_rest) = range.of(second).as_chunks::<GROUP>();
        let ahead = match pairs.get(index + AHEAD) {
            Some(&[first, second]) => [range.of(first), range.of(second)],
            None => [&[] as &[u64]; 2],
        };
        // Where the pieces of this pair lie among those of a group.
        let own = index * P..(index + 1) * P;
        let mut outputs = tile.chunks_exact_mut(stride);
        for (group, ((a, b), out)) in a.iter().zip(b).zip(&mut outputs).enumerate() {
            // Inputs that come soon: runs are too short for the prefetchers of the hardware.
            prefetch(ahead[0], group * GROUP);
            prefetch(ahead[1], group * GROUP);
            if let Some(out) = out[own.clone()].first_chunk_mut() {
                lanes.cut::<P>(a, b, out);
            }
        }
        if !a_rest.is_empty()
            && let Some(out) = outputs.next()
            && let Some(out) = out[own].first_chunk_mut()
        {
            let (mut a, mut b) = ([0; GROUP], [0; GROUP]);
            a[..a_rest.len()].copy_from_slice(a_rest);
            b[..b_rest.len()].copy_from_slice(b_rest);
            lanes.cut::<P>(&a, &b, out);
        }
    }
}

/// All positions of a tile for a block of rows.
struct Panels<'a> {
    block: &'a Block,
    join: &'a Join,
    /// What sums of upper weights are multiplied by.
    upper: &'a Constant,
    tile: &'a [Stored],
    /// Pairs of inputs.
    pairs: usize,
    /// The first position of the tile among those of the outputs, and the one behind its last.
    from: usize,
    to: usize,
}

impl Panels<'_> {
    /// For `P` pieces.
    #[inline(always)]
    fn rows<L: PieceLanes, const P: usize>(&self, lanes: L, outputs: &mut [&mut [u64]]) {
        match (self.block.split, self.block.rows.len()) {
            (false, 1) => self.panels::<L, P, 1>(lanes, outputs),
            (false, 2) | (true, 1) => self.panels::<L, P, 2>(lanes, outputs),
            _ => self.panels::<L, P, 3>(lanes, outputs),
        }
    }

    /// For `R` rows of weights.
    #[inline(always)]
    fn panels<L: PieceLanes, const P: usize, const R: usize>(&self, lanes: L, outputs: &mut [&mut [u64]]) {
        let stride = self.pairs * P;
        for (group, at) in (self.from..self.to).step_by(GROUP).enumerate() {
            let pieces = &self.tile[group * stride..(group + 1) * stride];
            let mut residues = self.sums::<L, P, R>(lanes, pieces);
            let count = GROUP.min(self.to - at);
            for (index, &row) in self.block.rows.iter().enumerate() {
                let out = &mut outputs[row][at..at + count];
                if self.block.split && R == 2 {
                    residues[0] = self.combined(lanes, &residues[0], &residues[R - 1]);
                }
                match out.first_chunk_mut() {
                    Some(chunk) => *chunk = residues[index],
                    None => out.copy_from_slice(&residues[index][..count]),
                }
            }
        }
    }

    /// `low + high 2^14` modulo the prime.
    #[inline(always)]
    fn combined<L: PieceLanes>(&self, lanes: L, low: &[u64; GROUP], high: &[u64; GROUP]) -> [u64; GROUP] {
        let mut out = [0; GROUP];
        for ((out, low), high) in L::chunks_mut(&mut out)
            .iter_mut()
            .zip(L::chunks(low))
            .zip(L::chunks(high))
        {
            let high = lanes.mul_constant(lanes.load(high), self.upper);
            *out = lanes.store(lanes.add(lanes.load(low), high));
        }
        out
    }

    /// The residues of `R` sums at eight positions.
    #[inline(always)]
    fn sums<L: PieceLanes, const P: usize, const R: usize>(
        &self,
        lanes: L,
        pieces: &[Stored],
    ) -> [[u64; GROUP]; R] {
        let mut wide = [[lanes.wide(); 2]; R];
        let bits = const { Cut::into(P).bits() };
        for window in &self.block.windows {
            let pieces = &pieces[window.start * P..window.end * P];
            let weights = &self.block.weights[window.start * R..window.end * R];
            if P == 3 {
                // All three pieces at once, with nine sums at most.
                let sums = window_sums::<L, P, R, 0, 3>(lanes, pieces, weights);
                for r in 0..R {
                    let [low, high] = wide[r];
                    let low = lanes.widen(low, sums[r][0], 0);
                    let low = lanes.widen(low, sums[r][1], bits);
                    wide[r] = if self.block.one_wide {
                        [lanes.widen(low, sums[r][2], 2 * bits), high]
                    } else {
                        [low, lanes.widen(high, sums[r][2], 0)]
                    };
                }
            } else {
                let sums = window_sums::<L, P, R, 0, 2>(lanes, pieces, weights);
                for r in 0..R {
                    let low = lanes.widen(wide[r][0], sums[r][0], 0);
                    wide[r][0] = lanes.widen(low, sums[r][1], bits);
                }
                let sums = window_sums::<L, P, R, 2, 2>(lanes, pieces, weights);
                for r in 0..R {
                    let high = lanes.widen(wide[r][1], sums[r][0], 0);
                    wide[r][1] = lanes.widen(high, sums[r][1], bits);
                }
            }
        }
        let mut out = [[0; GROUP]; R];
        for r in 0..R {
            let [low, high] = wide[r];
            let one = P == 3 && self.block.one_wide;
            out[r] = if one {
                lanes.join(low, self.join)
            } else {
                lanes.join_two(low, high, self.join)
            };
        }
        out
    }
}

/// `R` sums of the pieces from number `FROM` on, `N` of the `P` that inputs are cut into.
#[inline(always)]
fn window_sums<L: PieceLanes, const P: usize, const R: usize, const FROM: usize, const N: usize>(
    lanes: L,
    pieces: &[Stored],
    weights: &[[i16; 2]],
) -> [[L::Narrow; N]; R] {
    let mut sums = [[lanes.narrow(); N]; R];
    let (pieces, weights) = (pieces.as_chunks::<P>().0, weights.as_chunks::<R>().0);
    for (stored, weights) in pieces.iter().zip(weights) {
        for r in 0..R {
            let w = lanes.weights(weights[r]);
            for n in 0..N {
                let x = lanes.pieces(&stored[FROM + n]);
                sums[r][n] = lanes.multiply_add(sums[r][n], x, w);
            }
        }
    }
    sums
}
