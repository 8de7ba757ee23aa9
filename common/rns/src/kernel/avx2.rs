//! Four lanes of AVX2, which has neither a 64-bit product nor a high half of one.
//!
//! Single products are taken in doubles: the rounded product and, by a fused multiply-add, its rounding error, both
//! exact integers (van der Hoeven, Lecerf, Quintin, "Modular SIMD arithmetic in Mathemagix", ACM TOMS 43, 2016,
//! section 3). Sums of products are taken in integers, by Karatsuba on halves of 25 bits.

pub(super) mod pieces;

use super::lanes::{Constant, FRACTION, Lanes, Loop, Reciprocal};
use crate::modulus::Modulus;
use core::arch::x86_64::{__m256d, __m256i, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT};
use pulp::x86::V3;
use pulp::{NullaryFnOnce, cast};

/// Bits of the lower half of a factor.
const HALF: i32 = 25;
/// The bits of the double `2^52`; or-ed with an integer below that, they give the double `2^52` plus it.
const DOUBLE_2_52: u64 = 0x4330_0000_0000_0000;
const NEAREST: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;

/// Runs a loop where the CPU features are enabled.
pub(super) struct Job<'a, P> {
    pub(super) simd: V3,
    pub(super) modulus: &'a Modulus,
    pub(super) inner: P,
}

impl<P: Loop> NullaryFnOnce for Job<'_, P> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.inner.run(Avx2Lanes::new(self.simd, self.modulus));
    }
}

/// The constants of one modulus.
#[derive(Clone, Copy)]
pub(super) struct Avx2Lanes {
    simd: V3,
    q: __m256i,
    q_double: __m256d,
    /// `1 / q`, rounded.
    inverse: __m256d,
    /// `2^50` and `2^100` modulo q.
    two_50: Constant,
    two_100: Constant,
}

impl Avx2Lanes {
    #[inline(always)]
    fn new(simd: V3, modulus: &Modulus) -> Self {
        let q = modulus.value();
        let two_50 = modulus.reduce_u64(1 << 50);
        Self {
            simd,
            q: simd.avx._mm256_set1_epi64x(q as i64),
            q_double: simd.avx._mm256_set1_pd(q as f64),
            inverse: simd.avx._mm256_set1_pd(1.0 / q as f64),
            two_50: Constant::new(modulus, two_50),
            two_100: Constant::new(modulus, modulus.mul(two_50, two_50)),
        }
    }

    /// Integers below `2^52` as doubles.
    #[inline(always)]
    fn double(self, x: __m256i) -> __m256d {
        let two_52 = self.splat(DOUBLE_2_52);
        self.simd
            .avx
            ._mm256_sub_pd(cast(self.simd.avx2._mm256_or_si256(x, two_52)), cast(two_52))
    }

    /// `x mod q` as integers, for integers x with `-q <= x < q`.
    #[inline(always)]
    fn residue(self, x: __m256d) -> __m256i {
        let avx = self.simd.avx;
        let negative = avx._mm256_cmp_pd::<_CMP_LT_OQ>(x, avx._mm256_setzero_pd());
        let x = avx._mm256_add_pd(x, avx._mm256_and_pd(negative, self.q_double));
        let two_52 = self.splat(DOUBLE_2_52);
        let bits: __m256i = cast(avx._mm256_add_pd(x, cast(two_52)));
        self.simd.avx2._mm256_xor_si256(bits, two_52)
    }

    /// `product - round(quotient) * q`, where `product` is exact as the sum of its two parts.
    ///
    /// With an estimate within 3/8 of the quotient the result is at most `7/8 q`. The first part of the product is an
    /// integer, so what is left of it is one below `2^51`, and every step is exact.
    #[inline(always)]
    fn remainder(self, (high, low): (__m256d, __m256d), quotient: __m256d) -> __m256d {
        let avx = self.simd.avx;
        let quotient = avx._mm256_round_pd::<NEAREST>(quotient);
        avx._mm256_add_pd(self.simd.fma._mm256_fnmadd_pd(quotient, self.q_double, high), low)
    }

    /// The product of two doubles and its rounding error.
    #[inline(always)]
    fn exact_product(self, a: __m256d, b: __m256d) -> (__m256d, __m256d) {
        let high = self.simd.avx._mm256_mul_pd(a, b);
        (high, self.simd.fma._mm256_fmsub_pd(a, b, high))
    }

    /// `x w mod q` between `-3/4 q` and `3/4 q`, for integers x with `|x| <= 2^50`.
    #[inline(always)]
    fn signed_mul_constant(self, x: __m256d, w: &Constant) -> __m256d {
        let avx = self.simd.avx;
        let product = self.exact_product(x, avx._mm256_set1_pd(w.value as f64));
        // Two roundings of a quotient below 2^50: off by at most 1/4.
        self.remainder(product, avx._mm256_mul_pd(x, avx._mm256_set1_pd(w.ratio)))
    }

    /// `x mod q` between `-0.6 q` and `0.6 q`, for integers x with `|x| < 2^52`.
    #[inline(always)]
    fn signed_reduce(self, x: __m256d) -> __m256d {
        let avx = self.simd.avx;
        let quotient = avx._mm256_mul_pd(x, self.inverse);
        self.remainder((x, avx._mm256_setzero_pd()), quotient)
    }

    /// `t`, or `t + q` where it is negative.
    #[inline(always)]
    fn correct(self, t: __m256i) -> __m256i {
        let corrected = self.simd.avx2._mm256_add_epi64(t, self.q);
        cast(self.simd.avx._mm256_blendv_pd(cast(t), cast(corrected), cast(t)))
    }
}

impl Lanes for Avx2Lanes {
    type Chunk = [u64; 4];
    type Word = __m256i;
    /// Low half, high half, and their sum.
    type Factor = [__m256i; 3];
    /// Sums of the products of each of these.
    type Sum = [__m256i; 3];

    const WIDTH: usize = 4;
    const MANY_REGISTERS: bool = false;
    const PACKED: usize = 3;

    #[inline(always)]
    fn chunks(values: &[u64]) -> &[[u64; 4]] {
        values.as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(values: &mut [u64]) -> &mut [[u64; 4]] {
        values.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, chunk: &[u64; 4]) -> __m256i {
        cast(*chunk)
    }

    #[inline(always)]
    fn store(self, word: __m256i) -> [u64; 4] {
        cast(word)
    }

    #[inline(always)]
    fn splat(self, value: u64) -> __m256i {
        self.simd.avx._mm256_set1_epi64x(value as i64)
    }

    #[inline(always)]
    fn add(self, a: __m256i, b: __m256i) -> __m256i {
        let i = self.simd.avx2;
        self.correct(i._mm256_sub_epi64(i._mm256_add_epi64(a, b), self.q))
    }

    #[inline(always)]
    fn sub(self, a: __m256i, b: __m256i) -> __m256i {
        self.correct(self.simd.avx2._mm256_sub_epi64(a, b))
    }

    #[inline(always)]
    fn neg(self, a: __m256i) -> __m256i {
        self.sub(self.splat(0), a)
    }

    #[inline(always)]
    fn mul(self, a: __m256i, b: __m256i) -> __m256i {
        let product = self.exact_product(self.double(a), self.double(b));
        // Three roundings of a quotient below 2^50: off by at most 3/8.
        let quotient = self.simd.avx._mm256_mul_pd(product.0, self.inverse);
        self.residue(self.remainder(product, quotient))
    }

    #[inline(always)]
    fn mul_add(self, a: __m256i, b: __m256i, c: __m256i) -> __m256i {
        self.add(self.mul(a, b), c)
    }

    #[inline(always)]
    fn mul_sum(self, a: __m256i, b: __m256i, c: __m256i, d: __m256i) -> __m256i {
        self.add(self.mul(a, b), self.mul(c, d))
    }

    #[inline(always)]
    fn mul_constant(self, x: __m256i, w: &Constant) -> __m256i {
        self.residue(self.signed_mul_constant(self.double(x), w))
    }

    #[inline(always)]
    fn sub_mul_constant(self, x: __m256i, t: __m256i, w: &Constant) -> __m256i {
        let difference = self.simd.avx._mm256_sub_pd(self.double(x), self.double(t));
        self.residue(self.signed_mul_constant(difference, w))
    }

    #[inline(always)]
    fn sum(self, x: __m256i) -> [__m256i; 3] {
        // As a product with 1: low times low, and the product of the sums of halves where nothing else is.
        let i = self.simd.avx2;
        let high = i._mm256_srli_epi64::<HALF>(x);
        let low = i._mm256_sub_epi64(x, i._mm256_slli_epi64::<HALF>(high));
        [low, self.splat(0), i._mm256_add_epi64(low, high)]
    }

    #[inline(always)]
    fn factor(self, x: __m256i) -> [__m256i; 3] {
        let i = self.simd.avx2;
        let high = i._mm256_srli_epi64::<HALF>(x);
        let low = i._mm256_and_si256(x, self.splat((1 << HALF) - 1));
        [low, high, i._mm256_add_epi64(low, high)]
    }

    #[inline(always)]
    fn pack(weight: u64, packed: &mut [u64]) {
        let (low, high) = (weight & ((1 << HALF) - 1), weight >> HALF);
        packed.copy_from_slice(&[low, high, low + high]);
    }

    #[inline(always)]
    fn unpack(self, packed: &[u64]) -> [__m256i; 3] {
        [
            self.splat(packed[0]),
            self.splat(packed[1]),
            self.splat(packed[2]),
        ]
    }

    #[inline(always)]
    fn accumulate(self, sum: [__m256i; 3], x: [__m256i; 3], w: [__m256i; 3]) -> [__m256i; 3] {
        // A term takes 2^50 of the first two and 2^52 of the third.
        let i = self.simd.avx2;
        [
            i._mm256_add_epi64(sum[0], i._mm256_mul_epu32(x[0], w[0])),
            i._mm256_add_epi64(sum[1], i._mm256_mul_epu32(x[1], w[1])),
            i._mm256_add_epi64(sum[2], i._mm256_mul_epu32(x[2], w[2])),
        ]
    }

    #[inline(always)]
    fn reduce(self, [low, high, both]: [__m256i; 3], _terms: usize) -> __m256i {
        let (i, avx) = (self.simd.avx2, self.simd.avx);
        let half = self.splat((1 << HALF) - 1);
        let mask_50 = self.splat((1 << 50) - 1);
        // low + middle 2^25 + high 2^50, with carries, then as three numbers of 50, 50 and 14 bits.
        let middle = i._mm256_sub_epi64(i._mm256_sub_epi64(both, low), high);
        let middle = i._mm256_add_epi64(middle, i._mm256_srli_epi64::<HALF>(low));
        let high = i._mm256_add_epi64(high, i._mm256_srli_epi64::<HALF>(middle));
        let low = i._mm256_and_si256(low, half);
        let low = i._mm256_or_si256(low, i._mm256_slli_epi64::<HALF>(i._mm256_and_si256(middle, half)));
        let top = self.double(i._mm256_srli_epi64::<50>(high));
        let high = self.double(i._mm256_and_si256(high, mask_50));
        let sum = avx._mm256_add_pd(
            self.signed_mul_constant(high, &self.two_50),
            self.signed_mul_constant(top, &self.two_100),
        );
        let sum = avx._mm256_add_pd(sum, self.signed_reduce(self.double(low)));
        self.residue(self.signed_reduce(sum))
    }

    #[inline(always)]
    fn add_fraction(self, u: __m256i, y: __m256i, r: &Reciprocal) -> __m256i {
        // The 128-bit product from halves of 32 bits (those of y and r have at most 18 and 29 in their upper halves),
        // shifted right by `bits`.
        let i = self.simd.avx2;
        let (r_low, r_high) = (self.splat(r.value & 0xffff_ffff), self.splat(r.value >> 32));
        let y_high = i._mm256_srli_epi64::<32>(y);
        let low = i._mm256_mul_epu32(y, r_low);
        let middle = i._mm256_add_epi64(
            i._mm256_add_epi64(i._mm256_mul_epu32(y, r_high), i._mm256_mul_epu32(y_high, r_low)),
            i._mm256_srli_epi64::<32>(low),
        );
        let high = i._mm256_add_epi64(
            i._mm256_mul_epu32(y_high, r_high),
            i._mm256_srli_epi64::<32>(middle),
        );
        let low = i._mm256_blend_epi32::<0b1010_1010>(low, i._mm256_slli_epi64::<32>(middle));
        let fraction = i._mm256_or_si256(
            i._mm256_srlv_epi64(low, self.splat(u64::from(r.bits))),
            i._mm256_sllv_epi64(high, self.splat(u64::from(64 - r.bits))),
        );
        i._mm256_add_epi64(u, fraction)
    }

    #[inline(always)]
    fn whole(self, u: __m256i) -> __m256i {
        self.simd.avx2._mm256_srli_epi64::<{ FRACTION as i32 }>(u)
    }
}
