//! Sums of products of 16-bit numbers, eight positions a register.

use super::{Avx2Lanes, Job};
use crate::kernel::lanes::Lanes;
use crate::kernel::pieces::{Cut, GROUP, Join, PieceLanes, PieceLoop, Stored};
use core::arch::x86_64::{__m256d, __m256i};
use pulp::{NullaryFnOnce, cast};

/// A [`Job`] with a loop over pieces.
pub(in crate::kernel) struct PieceJob<'a, P>(pub(in crate::kernel) Job<'a, P>);

impl<P: PieceLoop> NullaryFnOnce for PieceJob<'_, P> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.0.inner.run(Avx2Lanes::new(self.0.simd, self.0.modulus));
    }
}

// Loops and methods, no closures: what a closure calls is not inlined where the CPU features are enabled.
impl Avx2Lanes {
    /// Integers between `-2^62` and `2^62`, plus `2^62`, as numbers of 50 and at most 13 bits.
    #[inline(always)]
    fn halves(self, x: __m256i) -> (__m256d, __m256d) {
        let i = self.simd.avx2;
        let positive = i._mm256_add_epi64(x, self.splat(1 << 62));
        let low = i._mm256_and_si256(positive, self.splat((1 << 50) - 1));
        (self.double(low), self.double(i._mm256_srli_epi64::<50>(positive)))
    }

    /// The residues of four sums.
    #[inline(always)]
    fn joined(self, low: __m256i, join: &Join) -> __m256i {
        let avx = self.simd.avx;
        let (x0, x1) = self.halves(low);
        let sum = avx._mm256_add_pd(
            self.signed_reduce(x0),
            self.signed_mul_constant(x1, &join.powers[0]),
        );
        let sum = avx._mm256_add_pd(sum, avx._mm256_set1_pd(join.back[0] as f64));
        self.residue(self.signed_reduce(sum))
    }

    /// The residues of four sums of two parts.
    #[inline(always)]
    fn joined_two(self, low: __m256i, high: __m256i, join: &Join) -> __m256i {
        let avx = self.simd.avx;
        let [two_50, two_shift, two_both] = &join.powers;
        let ((x0, x1), (y0, y1)) = (self.halves(low), self.halves(high));
        let low = avx._mm256_add_pd(self.signed_reduce(x0), self.signed_mul_constant(x1, two_50));
        let high = avx._mm256_add_pd(
            self.signed_mul_constant(y0, two_shift),
            self.signed_mul_constant(y1, two_both),
        );
        // Five numbers below q at most.
        let sum = avx._mm256_add_pd(low, high);
        let sum = avx._mm256_add_pd(sum, avx._mm256_set1_pd(join.back[1] as f64));
        self.residue(self.signed_reduce(sum))
    }

    /// The `piece`-th digits of four residues, in the lowest bits.
    #[inline(always)]
    fn digits(self, cut: Cut, piece: u32, x: __m256i) -> __m256i {
        let i = self.simd.avx2;
        let count = self.splat(u64::from(cut.bits() * piece));
        i._mm256_and_si256(i._mm256_srlv_epi64(x, count), self.splat((1 << cut.bits()) - 1))
    }
}

impl PieceLanes for Avx2Lanes {
    /// In the order of positions 0, 4, 1, 5, 2, 6, 3, 7.
    type Pieces = __m256i;
    /// In the same order.
    type Narrow = __m256i;
    /// The first four positions, and the others.
    type Wide = [__m256i; 2];

    #[inline(always)]
    fn cut<const P: usize>(self, a: &[u64; GROUP], b: &[u64; GROUP], out: &mut [Stored; P]) {
        let cut = const { Cut::into(P) };
        let i = self.simd.avx2;
        let offset = self.splat(cut.offset());
        let half = self.simd.avx._mm256_set1_epi16(1 << (cut.bits() - 1));
        // Two inputs at positions 0 to 3, and at positions 4 to 7.
        let ([a0, a1], [b0, b1]): ([[u64; 4]; 2], [[u64; 4]; 2]) = (cast(*a), cast(*b));
        let a0 = i._mm256_add_epi64(cast(a0), offset);
        let a1 = i._mm256_add_epi64(cast(a1), offset);
        let b0 = i._mm256_add_epi64(cast(b0), offset);
        let b1 = i._mm256_add_epi64(cast(b1), offset);
        for (stored, at) in out.iter_mut().zip(0..) {
            let b0 = i._mm256_slli_epi64::<16>(self.digits(cut, at, b0));
            let b1 = i._mm256_slli_epi64::<16>(self.digits(cut, at, b1));
            let first = i._mm256_or_si256(self.digits(cut, at, a0), b0);
            let second = i._mm256_or_si256(self.digits(cut, at, a1), b1);
            let pieces = i._mm256_or_si256(first, i._mm256_slli_epi64::<32>(second));
            stored.0 = cast(i._mm256_sub_epi16(pieces, half));
        }
    }

    #[inline(always)]
    fn pieces(self, stored: &Stored) -> __m256i {
        cast(stored.0)
    }

    #[inline(always)]
    fn weights(self, pair: [i16; 2]) -> __m256i {
        self.simd.avx._mm256_set1_epi32(cast(pair))
    }

    #[inline(always)]
    fn narrow(self) -> __m256i {
        self.splat(0)
    }

    #[inline(always)]
    fn wide(self) -> [__m256i; 2] {
        [self.splat(0); 2]
    }

    #[inline(always)]
    fn multiply_add(self, sum: __m256i, x: __m256i, w: __m256i) -> __m256i {
        let i = self.simd.avx2;
        i._mm256_add_epi32(sum, i._mm256_madd_epi16(x, w))
    }

    #[inline(always)]
    fn widen(self, [first, second]: [__m256i; 2], sum: __m256i, bits: u32) -> [__m256i; 2] {
        // A signed product of the lower halves of lanes extends and shifts at once.
        let (i, factor) = (self.simd.avx2, self.splat(1 << bits));
        [
            i._mm256_add_epi64(first, i._mm256_mul_epi32(sum, factor)),
            i._mm256_add_epi64(second, i._mm256_mul_epi32(i._mm256_srli_epi64::<32>(sum), factor)),
        ]
    }

    #[inline(always)]
    fn join(self, low: [__m256i; 2], join: &Join) -> [u64; GROUP] {
        cast([self.joined(low[0], join), self.joined(low[1], join)])
    }

    #[inline(always)]
    fn join_two(self, low: [__m256i; 2], high: [__m256i; 2], join: &Join) -> [u64; GROUP] {
        cast([
            self.joined_two(low[0], high[0], join),
            self.joined_two(low[1], high[1], join),
        ])
    }
}
