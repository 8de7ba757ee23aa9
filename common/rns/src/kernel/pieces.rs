//! What a backend provides for products with integer weights: sums of products of 16-bit numbers.
//!
//! A residue x is cut into pieces of `b` bits, `x = sum over i of d_i 2^(b i)` with `-2^(b - 1) <= d_i < 2^(b - 1)`. A
//! register holds, for eight positions, one piece of each of two inputs. Its product with two weights of 16 bits is eight
//! sums of two products in 32 bits each, for which CPUs have one instruction (`vpmaddwd`).

use super::lanes::{Constant, Lanes};
use crate::modulus::Modulus;

/// Positions that a register of pieces holds.
pub(super) const GROUP: usize = 8;

/// Largest absolute value of an unreduced sum of 64 bits.
const WIDE_BITS: u32 = 62;

/// A register of pieces in memory: for each position that of the first input, and that of the second, in the order of the
/// backend.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(32))]
pub(super) struct Stored(pub(super) [i16; 2 * GROUP]);

/// How residues are cut into pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// Residues below `2^40` in three pieces of 14 bits.
    Three,
    /// Residues below `2^50` in four pieces of 13 bits.
    Four,
}

impl Cut {
    /// For the residues of a modulus.
    pub(super) fn of(modulus: &Modulus) -> Self {
        // With the offset, numbers stay below 2^42, and below 2^52.
        if modulus.bits() <= 40 {
            Self::Three
        } else {
            Self::Four
        }
    }

    /// Into so many pieces, three or four.
    pub(super) const fn into(pieces: usize) -> Self {
        if pieces == 3 { Self::Three } else { Self::Four }
    }

    /// Pieces.
    const fn pieces(self) -> usize {
        match self {
            Self::Three => 3,
            Self::Four => 4,
        }
    }

    /// Bits of a piece.
    pub(super) const fn bits(self) -> u32 {
        match self {
            Self::Three => 14,
            Self::Four => 13,
        }
    }

    /// What is added to a residue so that its bits, cut, are the pieces plus half the range of a piece.
    pub(super) const fn offset(self) -> u64 {
        let (mut offset, mut piece) = (0, 0);
        while piece < self.pieces() as u32 {
            offset |= 1 << (self.bits() * (piece + 1) - 1);
            piece += 1;
        }
        offset
    }
}

/// Terms of a row may have weights whose absolute values add up to this between two calls of [`PieceLanes::widen`]: with
/// pieces of up to `2^13` their sums stay below `2^31`.
pub(super) const NARROW_WEIGHTS: u64 = (1 << 18) - 1;

/// The same for all terms of a row whose pieces are summed up in one number of 64 bits: pieces `d_i 2^(14 i)` are
/// below `2^41.01` together.
pub(super) const ONE_WIDE_WEIGHTS: u64 = 1 << (WIDE_BITS - 42);

/// The same where the first two pieces and the others have a number each: `d_0 + d_1 2^14` is below `2^27.01`.
pub(super) const TWO_WIDE_WEIGHTS: u64 = 1 << (WIDE_BITS - 28);

/// The constants that make residues of sums.
#[derive(Clone, Copy)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(super) struct Join {
    /// Bits by which the second sum is shifted.
    pub(super) shift: u32,
    /// `2^50`, `2^shift` and `2^(shift + 50)`.
    pub(super) powers: [Constant; 3],
    /// `-2^62`, and `-2^62 - 2^(62 + shift)`: what makes the sums positive, taken back.
    pub(super) back: [u64; 2],
}

impl Join {
    pub(super) fn new(modulus: &Modulus, cut: Cut) -> Self {
        let shift = 2 * cut.bits();
        let [two_50, two_shift, two_62] = [50, shift, WIDE_BITS].map(|bits| modulus.reduce_u64(1 << bits));
        let high = modulus.mul(two_62, two_shift);
        Self {
            shift,
            powers: [two_50, two_shift, modulus.mul(two_50, two_shift)].map(|w| Constant::new(modulus, w)),
            back: [modulus.neg(two_62), modulus.neg(modulus.add(two_62, high))],
        }
    }
}

/// Arithmetic on registers of pieces.
pub(super) trait PieceLanes: Lanes {
    /// Pieces or weights, 16 numbers of 16 bits.
    type Pieces: Copy;
    /// Eight sums of 32 bits.
    type Narrow: Copy;
    /// Eight sums of 64 bits.
    type Wide: Copy;

    /// The pieces of two inputs at eight positions, from low to high, of a cut into `P` pieces.
    fn cut<const P: usize>(self, a: &[u64; GROUP], b: &[u64; GROUP], out: &mut [Stored; P]);
    /// From memory.
    fn pieces(self, stored: &Stored) -> Self::Pieces;
    /// The weights of two inputs at all positions.
    fn weights(self, pair: [i16; 2]) -> Self::Pieces;
    /// Zeros.
    fn narrow(self) -> Self::Narrow;
    /// Zeros.
    fn wide(self) -> Self::Wide;
    /// `sum + x_0 w_0 + x_1 w_1`, for the two inputs.
    fn multiply_add(self, sum: Self::Narrow, x: Self::Pieces, w: Self::Pieces) -> Self::Narrow;
    /// `wide + sum 2^bits`, for up to 28 bits.
    fn widen(self, wide: Self::Wide, sum: Self::Narrow, bits: u32) -> Self::Wide;
    /// The residues of sums of absolute values up to `2^62`.
    fn join(self, low: Self::Wide, join: &Join) -> [u64; GROUP];
    /// The residues of `low + high 2^shift`, of absolute values up to `2^62` each.
    fn join_two(self, low: Self::Wide, high: Self::Wide, join: &Join) -> [u64; GROUP];
}

/// A loop over registers of pieces, written once for all backends; see [`Loop`](super::lanes::Loop).
pub(super) trait PieceLoop {
    /// Runs it. Implementations are `inline(always)`.
    fn run<L: PieceLanes>(self, lanes: L);
}
