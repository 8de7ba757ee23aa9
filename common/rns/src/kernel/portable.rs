//! One lane of plain integer code.

use super::lanes::{Constant, FRACTION, Lanes, Reciprocal};
use super::pieces::{Cut, GROUP, Join, PieceLanes, Stored};
use crate::modulus::Modulus;

/// The modulus and nothing else.
#[derive(Clone, Copy)]
pub(super) struct Portable<'a>(pub(super) &'a Modulus);

impl Lanes for Portable<'_> {
    type Chunk = [u64; 1];
    type Word = u64;
    type Factor = u64;
    type Sum = u128;

    const WIDTH: usize = 1;
    const MANY_REGISTERS: bool = false;
    const PACKED: usize = 1;

    #[inline(always)]
    fn chunks(values: &[u64]) -> &[[u64; 1]] {
        values.as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(values: &mut [u64]) -> &mut [[u64; 1]] {
        values.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, chunk: &[u64; 1]) -> u64 {
        chunk[0]
    }

    #[inline(always)]
    fn store(self, word: u64) -> [u64; 1] {
        [word]
    }

    #[inline(always)]
    fn splat(self, value: u64) -> u64 {
        value
    }

    #[inline(always)]
    fn add(self, a: u64, b: u64) -> u64 {
        self.0.add(a, b)
    }

    #[inline(always)]
    fn sub(self, a: u64, b: u64) -> u64 {
        self.0.sub(a, b)
    }

    #[inline(always)]
    fn neg(self, a: u64) -> u64 {
        self.0.neg(a)
    }

    #[inline(always)]
    fn mul(self, a: u64, b: u64) -> u64 {
        self.0.mul(a, b)
    }

    #[inline(always)]
    fn mul_add(self, a: u64, b: u64, c: u64) -> u64 {
        self.0.mul_add(a, b, c)
    }

    #[inline(always)]
    fn mul_sum(self, a: u64, b: u64, c: u64, d: u64) -> u64 {
        self.0.mul_add(a, b, self.0.mul(c, d))
    }

    #[inline(always)]
    fn mul_constant(self, x: u64, w: &Constant) -> u64 {
        self.0.mul_shoup(x, w.value, w.shoup)
    }

    #[inline(always)]
    fn sub_mul_constant(self, x: u64, t: u64, w: &Constant) -> u64 {
        // The difference is below 2q, which a Shoup product takes as it is.
        self.0.mul_shoup(x + self.0.value() - t, w.value, w.shoup)
    }

    #[inline(always)]
    fn sum(self, x: u64) -> u128 {
        u128::from(x)
    }

    #[inline(always)]
    fn factor(self, x: u64) -> u64 {
        x
    }

    #[inline(always)]
    fn pack(weight: u64, packed: &mut [u64]) {
        packed[0] = weight;
    }

    #[inline(always)]
    fn unpack(self, packed: &[u64]) -> u64 {
        packed[0]
    }

    #[inline(always)]
    fn accumulate(self, sum: u128, x: u64, w: u64) -> u128 {
        // Each term takes 2^100 of 2^128.
        sum + u128::from(x) * u128::from(w)
    }

    #[inline(always)]
    fn reduce(self, sum: u128, _terms: usize) -> u64 {
        self.0.reduce_u128(sum)
    }

    #[inline(always)]
    fn add_fraction(self, u: u64, y: u64, r: &Reciprocal) -> u64 {
        u + ((u128::from(y) * u128::from(r.value)) >> r.bits) as u64
    }

    #[inline(always)]
    fn whole(self, u: u64) -> u64 {
        u >> FRACTION
    }
}

/// Loops over arrays, which compilers make vector instructions of.
impl PieceLanes for Portable<'_> {
    type Pieces = [i16; 2 * GROUP];
    type Narrow = [i32; GROUP];
    type Wide = [i64; GROUP];

    #[inline(always)]
    fn cut<const P: usize>(self, a: &[u64; GROUP], b: &[u64; GROUP], out: &mut [Stored; P]) {
        let cut = Cut::into(P);
        let (bits, offset) = (cut.bits(), cut.offset());
        let half = 1i32 << (bits - 1);
        for (piece, Stored(stored)) in (0..P as u32).zip(out) {
            let digit = |x: u64| (((x + offset) >> (bits * piece)) as i32 & (2 * half - 1)) - half;
            for (pair, (&a, &b)) in stored.as_chunks_mut().0.iter_mut().zip(a.iter().zip(b)) {
                *pair = [digit(a) as i16, digit(b) as i16];
            }
        }
    }

    #[inline(always)]
    fn pieces(self, stored: &Stored) -> [i16; 2 * GROUP] {
        stored.0
    }

    #[inline(always)]
    fn weights(self, [first, second]: [i16; 2]) -> [i16; 2 * GROUP] {
        core::array::from_fn(|i| if i % 2 == 0 { first } else { second })
    }

    #[inline(always)]
    fn narrow(self) -> [i32; GROUP] {
        [0; GROUP]
    }

    #[inline(always)]
    fn wide(self) -> [i64; GROUP] {
        [0; GROUP]
    }

    #[inline(always)]
    fn multiply_add(self, sum: [i32; GROUP], x: [i16; 2 * GROUP], w: [i16; 2 * GROUP]) -> [i32; GROUP] {
        let product = |i: usize| i32::from(x[i]) * i32::from(w[i]);
        core::array::from_fn(|i| sum[i] + (product(2 * i) + product(2 * i + 1)))
    }

    #[inline(always)]
    fn widen(self, wide: [i64; GROUP], sum: [i32; GROUP], bits: u32) -> [i64; GROUP] {
        core::array::from_fn(|i| wide[i] + (i64::from(sum[i]) << bits))
    }

    #[inline(always)]
    fn join(self, low: [i64; GROUP], _join: &Join) -> [u64; GROUP] {
        low.map(|x| self.0.reduce_i64(x))
    }

    #[inline(always)]
    fn join_two(self, low: [i64; GROUP], high: [i64; GROUP], join: &Join) -> [u64; GROUP] {
        let sum = |i: usize| i128::from(low[i]) + (i128::from(high[i]) << join.shift);
        core::array::from_fn(|i| self.0.reduce_i128(sum(i)))
    }
}
