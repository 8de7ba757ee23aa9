//! One lane of plain integer code.

use super::lanes::{Constant, FRACTION, Lanes, Reciprocal};
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
