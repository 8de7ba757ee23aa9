//! Eight lanes of 52-bit multiply-add. A sum is kept as `low + high * 2^52`.

use super::lanes::{Constant, FRACTION, Lanes, Loop, Reciprocal};
use super::stream;
use crate::modulus::Modulus;
use core::arch::x86_64::__m512i;
use pulp::{NullaryFnOnce, cast};

pulp::simd_type! {
    /// Proof that the CPU has what the loops below use.
    pub(super) struct Ifma {
        pub sse: "sse",
        pub sse2: "sse2",
        pub fxsr: "fxsr",
        pub sse3: "sse3",
        pub ssse3: "ssse3",
        pub sse4_1: "sse4.1",
        pub sse4_2: "sse4.2",
        pub popcnt: "popcnt",
        pub avx: "avx",
        pub avx2: "avx2",
        pub bmi1: "bmi1",
        pub bmi2: "bmi2",
        pub fma: "fma",
        pub lzcnt: "lzcnt",
        pub avx512f: "avx512f",
        pub avx512bw: "avx512bw",
        pub avx512cd: "avx512cd",
        pub avx512dq: "avx512dq",
        pub avx512vl: "avx512vl",
        pub avx512ifma: "avx512ifma",
    }
}

const MASK_52: u64 = (1 << 52) - 1;

/// Terms, each below `2^48` in its high part, that stay in the range of [`IfmaLanes::reduce_words`].
const SHORT_SUM: usize = 15;

/// What the two multiply-adds do, from bit `shift` of the products on (Intel 64 and IA-32 Architectures Software Developer's Manual,
/// volume 2, VPMADD52LUQ and VPMADD52HUQ). For Miri, which interprets all the other instructions here.
#[inline(always)]
fn multiply_add(acc: __m512i, a: __m512i, b: __m512i, shift: u32) -> __m512i {
    let [acc, a, b]: [[u64; 8]; 3] = [cast(acc), cast(a), cast(b)];
    let lanes: [u64; 8] = core::array::from_fn(|lane| {
        let product = u128::from(a[lane] & MASK_52) * u128::from(b[lane] & MASK_52);
        acc[lane].wrapping_add((product >> shift) as u64 & MASK_52)
    });
    cast(lanes)
}

/// Runs a loop where the CPU features are enabled.
pub(super) struct Job<'a, P> {
    pub(super) simd: Ifma,
    pub(super) modulus: &'a Modulus,
    pub(super) inner: P,
}

impl<P: Loop> NullaryFnOnce for Job<'_, P> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.inner.run(IfmaLanes::new(self.simd, self.modulus));
    }
}

/// The constants of one modulus, in all lanes.
///
/// Values stay `__m512i` throughout: an array of integers that is carried round a loop would be taken apart into eight
/// scalars.
#[derive(Clone, Copy)]
pub(super) struct IfmaLanes {
    simd: Ifma,
    q: __m512i,
    two_q: __m512i,
    /// `2^52 - q`: adding its product subtracts that of q, modulo `2^52`.
    minus_q: __m512i,
    mask: __m512i,
    /// `52 - bits`.
    shift: __m512i,
    /// `floor(2^(51 + bits) / q)`, below `2^52`.
    barrett: __m512i,
    /// `floor(2^52 / q)`.
    one_shoup: __m512i,
    /// `2^52 mod q` and its 52-bit Shoup companion.
    two_52: __m512i,
    two_52_shoup: __m512i,
    /// `floor(2^60 / q)`, below `2^52` unless q is tiny.
    reciprocal_60: __m512i,
    /// Whether q is below `2^8`.
    tiny: bool,
}

impl IfmaLanes {
    #[inline(always)]
    fn new(simd: Ifma, modulus: &Modulus) -> Self {
        let q = modulus.value();
        let (two_52, two_52_shoup) = modulus.two_52();
        let splat = |x: u64| simd.avx512f._mm512_set1_epi64(x as i64);
        Self {
            simd,
            q: splat(q),
            two_q: splat(2 * q),
            minus_q: splat((1 << 52) - q),
            mask: splat(MASK_52),
            shift: splat(u64::from(52 - modulus.bits())),
            barrett: splat(modulus.barrett_52()),
            one_shoup: splat(modulus.reciprocal_52()),
            two_52: splat(two_52),
            two_52_shoup: splat(two_52_shoup),
            reciprocal_60: splat(modulus.reciprocal_60()),
            tiny: modulus.bits() <= 8,
        }
    }

    /// `acc + (low 52 bits of a * b)`.
    #[inline(always)]
    fn add_low(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        if cfg!(miri) {
            return multiply_add(acc, a, b, 0);
        }
        self.simd.avx512ifma._mm512_madd52lo_epu64(acc, a, b)
    }

    /// `acc + (high 52 bits of a * b)`.
    #[inline(always)]
    fn add_high(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        if cfg!(miri) {
            return multiply_add(acc, a, b, 52);
        }
        self.simd.avx512ifma._mm512_madd52hi_epu64(acc, a, b)
    }

    #[inline(always)]
    fn and_mask(self, x: __m512i) -> __m512i {
        self.simd.avx512f._mm512_and_si512(x, self.mask)
    }

    #[inline(always)]
    fn plus(self, a: __m512i, b: __m512i) -> __m512i {
        self.simd.avx512f._mm512_add_epi64(a, b)
    }

    /// `x` or `x - by`, whichever is not negative, for `x < 2^63`.
    #[inline(always)]
    fn reduce_once(self, x: __m512i, by: __m512i) -> __m512i {
        let f = self.simd.avx512f;
        f._mm512_min_epu64(x, f._mm512_sub_epi64(x, by))
    }

    /// From `0..4q` to `0..q`.
    #[inline(always)]
    fn reduce_twice(self, x: __m512i) -> __m512i {
        self.reduce_once(self.reduce_once(x, self.two_q), self.q)
    }

    /// Factors whose product is the product of `a` and `b` times `2^(53 - bits)`.
    #[inline(always)]
    fn shifted(self, a: __m512i, b: __m512i) -> (__m512i, __m512i) {
        (
            self.simd.avx512f._mm512_sllv_epi64(a, self.shift),
            self.plus(b, b),
        )
    }

    /// The sum whose low 52 bits are those of `low`, less a multiple of q, given `top = floor(sum / 2^(bits - 1))` up
    /// to 2 less than that.
    ///
    /// The quotient `floor(top * barrett / 2^52)` is short of `sum / q` by less than 1 for each part of `top` that was
    /// rounded down, `top / 2^52` for the rounding of `barrett`, and 1 for its own: less than 2.5 for one product of
    /// residues, 3.5 with a residue added, 4 for two products (where `top < 2^(bits + 2) <= 2^52`). So the remainder is
    /// below `4q < 2^52`, and its low 52 bits are all of it (Barrett; Menezes et al., Handbook of Applied Cryptography,
    /// algorithm 14.42).
    #[inline(always)]
    fn barrett(self, low: __m512i, top: __m512i) -> __m512i {
        let quotient = self.add_high(self.splat(0), top, self.barrett);
        self.reduce_twice(self.and_mask(self.add_low(low, quotient, self.minus_q)))
    }

    /// `low + high * 2^52 mod q`, for `high < 2^52 - 2^12`.
    ///
    /// Two Shoup products share one subtraction; each is below 2q before it is reduced.
    #[inline(always)]
    fn reduce_words(self, low: __m512i, high: __m512i) -> __m512i {
        let high = self.plus(high, self.simd.avx512f._mm512_srli_epi64::<52>(low));
        let low = self.and_mask(low);
        let quotient = self.add_high(self.splat(0), low, self.one_shoup);
        let rest = self.add_low(low, high, self.two_52);
        let quotient = self.add_high(quotient, high, self.two_52_shoup);
        self.reduce_twice(self.and_mask(self.add_low(rest, quotient, self.minus_q)))
    }
}

impl Lanes for IfmaLanes {
    type Chunk = [u64; 8];
    type Word = __m512i;
    type Factor = __m512i;
    type Sum = (__m512i, __m512i);

    const WIDTH: usize = 8;
    const MANY_REGISTERS: bool = true;
    const PACKED: usize = 1;

    #[inline(always)]
    fn chunks(values: &[u64]) -> &[[u64; 8]] {
        values.as_chunks().0
    }

    #[inline(always)]
    fn chunks_mut(values: &mut [u64]) -> &mut [[u64; 8]] {
        values.as_chunks_mut().0
    }

    #[inline(always)]
    fn load(self, chunk: &[u64; 8]) -> __m512i {
        cast(*chunk)
    }

    #[inline(always)]
    fn store(self, word: __m512i) -> [u64; 8] {
        cast(word)
    }

    #[inline(always)]
    fn stream(self, word: __m512i, chunk: &mut [u64; 8]) {
        stream::store(self.simd, chunk, word);
    }

    #[inline(always)]
    fn splat(self, value: u64) -> __m512i {
        self.simd.avx512f._mm512_set1_epi64(value as i64)
    }

    #[inline(always)]
    fn add(self, a: __m512i, b: __m512i) -> __m512i {
        self.reduce_once(self.plus(a, b), self.q)
    }

    #[inline(always)]
    fn sub(self, a: __m512i, b: __m512i) -> __m512i {
        // a - b wraps to a huge value exactly when it has to be corrected.
        let f = self.simd.avx512f;
        let difference = f._mm512_sub_epi64(a, b);
        f._mm512_min_epu64(difference, f._mm512_add_epi64(difference, self.q))
    }

    #[inline(always)]
    fn neg(self, a: __m512i) -> __m512i {
        self.reduce_once(self.simd.avx512f._mm512_sub_epi64(self.q, a), self.q)
    }

    #[inline(always)]
    fn mul(self, a: __m512i, b: __m512i) -> __m512i {
        let zero = self.splat(0);
        let (x, y) = self.shifted(a, b);
        self.barrett(self.add_low(zero, a, b), self.add_high(zero, x, y))
    }

    #[inline(always)]
    fn mul_add(self, a: __m512i, b: __m512i, c: __m512i) -> __m512i {
        let (x, y) = self.shifted(a, b);
        self.barrett(self.add_low(c, a, b), self.add_high(self.splat(0), x, y))
    }

    #[inline(always)]
    fn mul_sum(self, a: __m512i, b: __m512i, c: __m512i, d: __m512i) -> __m512i {
        let zero = self.splat(0);
        let (x, y) = self.shifted(a, b);
        let (z, w) = self.shifted(c, d);
        let low = self.add_low(self.add_low(zero, a, b), c, d);
        self.barrett(low, self.add_high(self.add_high(zero, x, y), z, w))
    }

    #[inline(always)]
    fn mul_constant(self, x: __m512i, w: &Constant) -> __m512i {
        // Shoup's product takes any x below 2^52 and is below 2q before the last step.
        let zero = self.splat(0);
        let quotient = self.add_high(zero, x, self.splat(w.shoup_52));
        let low = self.add_low(zero, x, self.splat(w.value));
        self.reduce_once(self.and_mask(self.add_low(low, quotient, self.minus_q)), self.q)
    }

    #[inline(always)]
    fn sub_mul_constant(self, x: __m512i, t: __m512i, w: &Constant) -> __m512i {
        let f = self.simd.avx512f;
        self.mul_constant(f._mm512_sub_epi64(f._mm512_add_epi64(x, self.q), t), w)
    }

    #[inline(always)]
    fn sum(self, x: __m512i) -> (__m512i, __m512i) {
        (x, self.splat(0))
    }

    #[inline(always)]
    fn factor(self, x: __m512i) -> __m512i {
        x
    }

    #[inline(always)]
    fn pack(weight: u64, packed: &mut [u64]) {
        packed[0] = weight;
    }

    #[inline(always)]
    fn unpack(self, packed: &[u64]) -> __m512i {
        self.splat(packed[0])
    }

    #[inline(always)]
    fn accumulate(self, (low, high): (__m512i, __m512i), x: __m512i, w: __m512i) -> (__m512i, __m512i) {
        // A term takes 2^52 of the 2^64 of `low`, and 2^48 of `high`.
        (self.add_low(low, x, w), self.add_high(high, x, w))
    }

    #[inline(always)]
    fn reduce(self, (low, high): (__m512i, __m512i), terms: usize) -> __m512i {
        if terms <= SHORT_SUM {
            return self.reduce_words(low, high);
        }
        let f = self.simd.avx512f;
        let high = self.plus(high, f._mm512_srli_epi64::<52>(low));
        let high = if self.tiny {
            self.reduce_words(high, self.splat(0))
        } else {
            // Of the at most 2^58 + 2^12 in `high`, `floor(high / 2^8) floor(2^60 / q) / 2^52` multiples of q go: short of
            // all by less than 2.5 (1 for the first rounding, as q > 2^8, 1/2 for the second, 1 for the last).
            let top = f._mm512_srli_epi64::<8>(high);
            let quotient = self.add_high(self.splat(0), top, self.reciprocal_60);
            self.and_mask(self.add_low(high, quotient, self.minus_q))
        };
        self.reduce_words(self.and_mask(low), high)
    }

    #[inline(always)]
    fn add_fraction(self, u: __m512i, y: __m512i, r: &Reciprocal) -> __m512i {
        // With x = y 2^(52 - bits) and r = a 2^20 + b, the fraction is floor((x a 2^20 + x b) / 2^52). Of the high and
        // low halves of x a and x b, the first two are shifted left by 20 and right by 32.
        let f = self.simd.avx512f;
        let zero = self.splat(0);
        let x = f._mm512_sllv_epi64(y, self.shift);
        let (a, b) = (self.splat(r.value >> 20), self.splat(r.value & ((1 << 20) - 1)));
        let (a_high, a_low) = (self.add_high(zero, x, a), self.add_low(zero, x, a));
        let b_low = self.add_low(zero, x, b);
        let whole = self.add_high(f._mm512_slli_epi64::<20>(a_high), x, b);
        let whole = self.plus(whole, f._mm512_srli_epi64::<32>(a_low));
        let low = self.and_mask(f._mm512_slli_epi64::<20>(a_low));
        let carry = f._mm512_srli_epi64::<52>(self.plus(low, b_low));
        self.plus(self.plus(u, whole), carry)
    }

    #[inline(always)]
    fn whole(self, u: __m512i) -> __m512i {
        self.simd.avx512f._mm512_srli_epi64::<FRACTION>(u)
    }
}
