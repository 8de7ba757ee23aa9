//! What a backend provides: arithmetic modulo one prime on a register of residues.

use crate::modulus::Modulus;
use core::fmt::Debug;

/// Terms of a [`Lanes::Sum`] between two reductions, for every backend.
pub(super) const LAZY_TERMS: usize = 1 << 10;

/// Fraction bits of the quotient estimate in a basis conversion.
pub(crate) const FRACTION: u32 = 60;

/// A constant residue with what each backend multiplies by it faster.
#[derive(Debug, Clone, Copy, PartialEq)]
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
pub(crate) struct Constant {
    pub(super) value: u64,
    /// `floor(w 2^64 / q)`.
    pub(super) shoup: u64,
    /// `floor(w 2^52 / q)`, which is the former without its low bits.
    pub(super) shoup_52: u64,
    /// `w / q`, rounded.
    pub(super) ratio: f64,
}

impl Constant {
    /// For a residue `w` below `q`.
    #[inline]
    pub(crate) fn new(modulus: &Modulus, w: u64) -> Self {
        let shoup = modulus.shoup(w);
        Self {
            value: w,
            shoup,
            shoup_52: shoup >> 12,
            ratio: w as f64 / modulus.value() as f64,
        }
    }
}

/// `floor(2^(60 + bits) / q)`: turns a residue into a fraction of 60 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reciprocal {
    pub(super) value: u64,
    pub(super) bits: u32,
}

impl Reciprocal {
    pub(crate) fn new(modulus: &Modulus) -> Self {
        let bits = modulus.bits();
        Self {
            value: ((1u128 << (FRACTION + bits)) / u128::from(modulus.value())) as u64,
            bits,
        }
    }
}

/// A backend with the constants of one modulus `q` in its registers.
///
/// All methods are lane by lane. Residues are in `0..q` before and after, unless said.
pub(super) trait Lanes: Copy {
    /// As many residues in memory as a register has lanes: an array of [`Self::WIDTH`].
    type Chunk: Copy + Default + AsRef<[u64]> + AsMut<[u64]>;
    /// A register of residues.
    type Word: Copy;
    /// A value below `2^50` as [`Self::accumulate`] takes it.
    type Factor: Copy;
    /// An unreduced sum of products.
    type Sum: Copy;

    /// Lanes.
    const WIDTH: usize;
    /// Whether there are registers for some twenty sums.
    const MANY_REGISTERS: bool;
    /// Words that [`Self::pack`] makes of a weight.
    const PACKED: usize;

    /// A slice as chunks, without what is left over.
    fn chunks(values: &[u64]) -> &[Self::Chunk];
    /// [`Self::chunks`] for writing.
    fn chunks_mut(values: &mut [u64]) -> &mut [Self::Chunk];
    /// From memory.
    fn load(self, chunk: &Self::Chunk) -> Self::Word;
    /// To memory.
    fn store(self, word: Self::Word) -> Self::Chunk;
    /// To memory, past the caches where the backend can.
    #[inline(always)]
    fn stream(self, word: Self::Word, chunk: &mut Self::Chunk) {
        *chunk = self.store(word);
    }
    /// One value in all lanes.
    fn splat(self, value: u64) -> Self::Word;

    /// `a + b`.
    fn add(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `a - b`.
    fn sub(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `-a`.
    fn neg(self, a: Self::Word) -> Self::Word;
    /// `a b`.
    fn mul(self, a: Self::Word, b: Self::Word) -> Self::Word;
    /// `a b + c`.
    fn mul_add(self, a: Self::Word, b: Self::Word, c: Self::Word) -> Self::Word;
    /// `a b + c d`.
    fn mul_sum(self, a: Self::Word, b: Self::Word, c: Self::Word, d: Self::Word) -> Self::Word;
    /// `x w`.
    fn mul_constant(self, x: Self::Word, w: &Constant) -> Self::Word;
    /// `(x - t) w`.
    fn sub_mul_constant(self, x: Self::Word, t: Self::Word, w: &Constant) -> Self::Word;

    /// A sum of one value below `2^50`.
    fn sum(self, x: Self::Word) -> Self::Sum;
    /// A value below `2^50`, ready to be multiplied.
    fn factor(self, x: Self::Word) -> Self::Factor;
    /// A weight below `2^50` in the form that [`Self::unpack`] reads.
    fn pack(weight: u64, packed: &mut [u64]);
    /// A packed weight in all lanes.
    fn unpack(self, packed: &[u64]) -> Self::Factor;
    /// `sum + x w`, at most [`LAZY_TERMS`] times.
    fn accumulate(self, sum: Self::Sum, x: Self::Factor, w: Self::Factor) -> Self::Sum;
    /// The residue of a sum of at most `terms` products and what it started from.
    fn reduce(self, sum: Self::Sum, terms: usize) -> Self::Word;

    /// `u + floor(y r / 2^bits)`, as 64-bit integers: the fraction `y / q` in 60 bits, added to others.
    fn add_fraction(self, u: Self::Word, y: Self::Word, r: &Reciprocal) -> Self::Word;
    /// `floor(u / 2^60)`.
    fn whole(self, u: Self::Word) -> Self::Word;
}

/// A loop over residues, written once for all backends.
///
/// Loops are methods rather than closures: `inline(always)` on a closure does not reach the shim through which it is
/// called once, and a loop that is not inlined where the CPU features are enabled calls a function for every
/// instruction.
pub(super) trait Loop {
    /// Runs it. Implementations are `inline(always)`.
    fn run<L: Lanes>(self, lanes: L);
}

/// At most a chunk of values, and zeros.
#[inline(always)]
pub(super) fn partial<L: Lanes>(values: &[u64]) -> L::Chunk {
    let mut chunk = L::Chunk::default();
    chunk.as_mut()[..values.len()].copy_from_slice(values);
    chunk
}
