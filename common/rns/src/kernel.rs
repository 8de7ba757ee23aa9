//! The inner loops: weighted sums of residue vectors, and products of two of them.
//!
//! On a CPU with AVX-512 IFMA (52-bit multiply-add, eight lanes) both run there, elsewhere in portable
//! integer code; the choice is made at run time and results are the same residues bit for bit. Products are
//! summed without reduction and reduced once at the end.

use crate::modulus::Modulus;

/// Terms that are summed between two reductions. The low accumulator takes `2^52` per term, so `2^10`
/// terms leave room in 64 bits, and the high one `2^48`; the portable accumulator takes `2^100` of `2^128`.
const LAZY_TERMS: usize = 1 << 10;

/// Coefficients per tile: a few tiles fit in the first-level cache beside their inputs.
const TILE: usize = 256;

/// `out[j] = sum over k of weights[k] * inputs[k][j] mod q`.
///
/// `inputs[k]` has the length of `out` and values below `2^50` (they may be residues of another modulus);
/// `weights` are residues of `modulus`. Missing inputs or weights (the shorter of the two) count as absent; an
/// empty sum is zero.
///
/// # Panics
/// If an input is shorter than `out`.
pub fn linear_combination(modulus: &Modulus, inputs: &[&[u64]], weights: &[u64], out: &mut [u64]) {
    let terms = inputs.len().min(weights.len());
    if terms == 0 {
        out.fill(0);
        return;
    }
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = ifma::Ifma::try_new() {
        simd.linear_combination(modulus, &inputs[..terms], &weights[..terms], out);
        return;
    }
    portable_linear_combination(modulus, &inputs[..terms], &weights[..terms], out, 0);
}

/// `lhs[j] = lhs[j] * rhs[j] mod q`, over the shorter of the two.
pub fn mul_assign(modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = ifma::Ifma::try_new() {
        simd.mul_assign(modulus, lhs, rhs);
        return;
    }
    for (a, b) in lhs.iter_mut().zip(rhs) {
        *a = modulus.mul(*a, *b);
    }
}

/// `acc[j] = acc[j] + lhs[j] * rhs[j] mod q`, over the shortest of the three.
pub fn mul_add_assign(modulus: &Modulus, acc: &mut [u64], lhs: &[u64], rhs: &[u64]) {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = ifma::Ifma::try_new() {
        simd.mul_add_assign(modulus, acc, lhs, rhs);
        return;
    }
    for ((c, a), b) in acc.iter_mut().zip(lhs).zip(rhs) {
        *c = modulus.mul_add(*a, *b, *c);
    }
}

/// The portable path for coefficients `from..`; also the tail of the vector path.
fn portable_linear_combination(
    modulus: &Modulus,
    inputs: &[&[u64]],
    weights: &[u64],
    out: &mut [u64],
    from: usize,
) {
    let length = out.len();
    let mut start = from;
    while start < length {
        let end = (start + TILE).min(length);
        let mut sums = [0u128; TILE];
        for (terms, factors) in inputs.chunks(LAZY_TERMS).zip(weights.chunks(LAZY_TERMS)) {
            for (input, &w) in terms.iter().zip(factors) {
                for (sum, &x) in sums.iter_mut().zip(&input[start..end]) {
                    *sum += u128::from(x) * u128::from(w);
                }
            }
            for sum in &mut sums[..end - start] {
                *sum = u128::from(modulus.reduce_u128(*sum));
            }
        }
        for (o, sum) in out[start..end].iter_mut().zip(&sums) {
            *o = *sum as u64;
        }
        start = end;
    }
}

#[cfg(target_arch = "x86_64")]
mod ifma {
    //! Eight lanes of 52-bit multiply-add. A sum is kept as `low + high * 2^52`.

    use super::{LAZY_TERMS, portable_linear_combination};
    use crate::modulus::Modulus;
    use core::arch::x86_64::__m512i;
    use pulp::{NullaryFnOnce, as_arrays, as_arrays_mut, cast};

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

    /// Registers that a weighted sum works on together, and the coefficients in them.
    const LANES: usize = 4;
    const BLOCK: usize = 8 * LANES;

    const MASK_52: u64 = (1 << 52) - 1;

    /// The constants of one modulus, in all lanes.
    ///
    /// Values stay `__m512i` throughout: an array of integers that is carried round a loop would be taken apart
    /// into eight scalars.
    #[derive(Clone, Copy)]
    struct Reducer {
        simd: Ifma,
        q: __m512i,
        two_q: __m512i,
        mask: __m512i,
        one: __m512i,
        /// `floor(2^52 / q)`.
        one_shoup: __m512i,
        /// `2^52 mod q` and its 52-bit Shoup companion.
        two_52: __m512i,
        two_52_shoup: __m512i,
    }

    impl Reducer {
        #[inline(always)]
        fn new(simd: Ifma, modulus: &Modulus) -> Self {
            let q = modulus.value();
            let shoup = |w: u64| ((u128::from(w) << 52) / u128::from(q)) as u64;
            let two_52 = modulus.reduce_u64(1 << 52);
            Self {
                simd,
                q: simd.splat(q),
                two_q: simd.splat(2 * q),
                mask: simd.splat(MASK_52),
                one: simd.splat(1),
                one_shoup: simd.splat(shoup(1)),
                two_52: simd.splat(two_52),
                two_52_shoup: simd.splat(shoup(two_52)),
            }
        }

        /// `acc + (low 52 bits of a * b)`.
        #[inline(always)]
        fn add_low(&self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            self.simd.avx512ifma._mm512_madd52lo_epu64(acc, a, b)
        }

        /// `acc + (high 52 bits of a * b)`.
        #[inline(always)]
        fn add_high(&self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
            self.simd.avx512ifma._mm512_madd52hi_epu64(acc, a, b)
        }

        /// `x * w mod q` in `0..2q`, for `x < 2^52`.
        #[inline(always)]
        fn mul_shoup(&self, x: __m512i, w: __m512i, w_shoup: __m512i) -> __m512i {
            let zero = self.simd.splat(0);
            let quotient = self.add_high(zero, x, w_shoup);
            let product = self.add_low(zero, x, w);
            let multiple = self.add_low(zero, quotient, self.q);
            let f = self.simd.avx512f;
            // The remainder is below 2q < 2^51, so its low 52 bits are all of it.
            f._mm512_and_si512(f._mm512_sub_epi64(product, multiple), self.mask)
        }

        /// `x` or `x - by`, whichever is not negative, for `x < 2^63`.
        #[inline(always)]
        fn reduce_once(&self, x: __m512i, by: __m512i) -> __m512i {
            let f = self.simd.avx512f;
            f._mm512_min_epu64(x, f._mm512_sub_epi64(x, by))
        }

        /// `low + high * 2^52 mod q` in `0..q`, for `high < 2^52 - 2^12`.
        #[inline(always)]
        fn reduce(&self, low: __m512i, high: __m512i) -> __m512i {
            let f = self.simd.avx512f;
            let high = f._mm512_add_epi64(high, f._mm512_srli_epi64::<52>(low));
            let low = f._mm512_and_si512(low, self.mask);
            let a = self.mul_shoup(low, self.one, self.one_shoup);
            let b = self.mul_shoup(high, self.two_52, self.two_52_shoup);
            let sum = self.reduce_once(f._mm512_add_epi64(a, b), self.two_q);
            self.reduce_once(sum, self.q)
        }
    }

    impl Ifma {
        #[inline(always)]
        fn splat(self, x: u64) -> __m512i {
            self.avx512f._mm512_set1_epi64(x as i64)
        }

        pub(super) fn linear_combination(
            self,
            modulus: &Modulus,
            inputs: &[&[u64]],
            weights: &[u64],
            out: &mut [u64],
        ) {
            let body = out.len() - out.len() % BLOCK;
            let (head, _) = out.split_at_mut(body);
            self.vectorize(WeightedSum {
                simd: self,
                modulus,
                inputs,
                weights,
                out: head,
            });
            if body < out.len() {
                portable_linear_combination(modulus, inputs, weights, out, body);
            }
        }

        pub(super) fn mul_assign(self, modulus: &Modulus, lhs: &mut [u64], rhs: &[u64]) {
            let length = lhs.len().min(rhs.len());
            let (lhs, rhs) = (&mut lhs[..length], &rhs[..length]);
            self.vectorize(Product {
                simd: self,
                modulus,
                lhs,
                rhs,
            });
            let tail = length - length % 8;
            for (a, b) in lhs[tail..].iter_mut().zip(&rhs[tail..]) {
                *a = modulus.mul(*a, *b);
            }
        }

        pub(super) fn mul_add_assign(self, modulus: &Modulus, acc: &mut [u64], lhs: &[u64], rhs: &[u64]) {
            let length = acc.len().min(lhs.len()).min(rhs.len());
            let (acc, lhs, rhs) = (&mut acc[..length], &lhs[..length], &rhs[..length]);
            self.vectorize(SumOfProduct {
                simd: self,
                modulus,
                acc,
                lhs,
                rhs,
            });
            let tail = length - length % 8;
            for ((c, a), b) in acc[tail..].iter_mut().zip(&lhs[tail..]).zip(&rhs[tail..]) {
                *c = modulus.mul_add(*a, *b, *c);
            }
        }
    }

    // The loops are methods rather than closures: `inline(always)` on a closure does not reach the shim through
    // which it is called once, and a loop that is not inlined where the CPU features are enabled calls a function for
    // every instruction.

    /// `out` has a whole number of blocks.
    struct WeightedSum<'a> {
        simd: Ifma,
        modulus: &'a Modulus,
        inputs: &'a [&'a [u64]],
        weights: &'a [u64],
        out: &'a mut [u64],
    }

    impl NullaryFnOnce for WeightedSum<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let Self {
                simd,
                modulus,
                inputs,
                weights,
                out,
            } = self;
            let r = Reducer::new(simd, modulus);
            let zero = simd.splat(0);
            let mut start = 0;
            // Several registers at a time: their accumulators hide the multiply-add latency.
            while start < out.len() {
                let mut folded = [zero; LANES];
                for (terms, factors) in inputs.chunks(LAZY_TERMS).zip(weights.chunks(LAZY_TERMS)) {
                    let mut low = folded;
                    let mut high = [zero; LANES];
                    for (input, &w) in terms.iter().zip(factors) {
                        let w = simd.splat(w);
                        let block = as_arrays::<8, _>(&input[start..start + BLOCK]).0;
                        for lane in 0..LANES {
                            let x: __m512i = cast(block[lane]);
                            low[lane] = r.add_low(low[lane], x, w);
                            high[lane] = r.add_high(high[lane], x, w);
                        }
                    }
                    // Each term adds less than 2^48 to `high`: eight of them stay in the range that `reduce` takes,
                    // more have to be brought below q first.
                    let fold = terms.len() > 8;
                    for lane in 0..LANES {
                        if fold {
                            high[lane] = r.reduce(high[lane], zero);
                        }
                        folded[lane] = r.reduce(low[lane], high[lane]);
                    }
                }
                let block = as_arrays_mut::<8, _>(&mut out[start..start + BLOCK]).0;
                for lane in 0..LANES {
                    block[lane] = cast(folded[lane]);
                }
                start += BLOCK;
            }
        }
    }

    struct Product<'a> {
        simd: Ifma,
        modulus: &'a Modulus,
        lhs: &'a mut [u64],
        rhs: &'a [u64],
    }

    impl NullaryFnOnce for Product<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let r = Reducer::new(self.simd, self.modulus);
            let zero = self.simd.splat(0);
            let lhs = as_arrays_mut::<8, _>(self.lhs).0;
            let rhs = as_arrays::<8, _>(self.rhs).0;
            for (a, b) in lhs.iter_mut().zip(rhs) {
                let (x, y): (__m512i, __m512i) = (cast(*a), cast(*b));
                *a = cast(r.reduce(r.add_low(zero, x, y), r.add_high(zero, x, y)));
            }
        }
    }

    struct SumOfProduct<'a> {
        simd: Ifma,
        modulus: &'a Modulus,
        acc: &'a mut [u64],
        lhs: &'a [u64],
        rhs: &'a [u64],
    }

    impl NullaryFnOnce for SumOfProduct<'_> {
        type Output = ();

        #[inline(always)]
        fn call(self) {
            let r = Reducer::new(self.simd, self.modulus);
            let zero = self.simd.splat(0);
            let acc = as_arrays_mut::<8, _>(self.acc).0;
            let lhs = as_arrays::<8, _>(self.lhs).0;
            let rhs = as_arrays::<8, _>(self.rhs).0;
            for (c, (a, b)) in acc.iter_mut().zip(lhs.iter().zip(rhs)) {
                let (x, y, z): (__m512i, __m512i, __m512i) = (cast(*a), cast(*b), cast(*c));
                *c = cast(r.reduce(r.add_low(z, x, y), r.add_high(zero, x, y)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primes::ntt_primes;
    use num_bigint::BigUint;
    use proptest::prelude::*;

    fn naive(q: u64, inputs: &[&[u64]], weights: &[u64], at: usize) -> u64 {
        let sum: BigUint = inputs
            .iter()
            .zip(weights)
            .map(|(x, &w)| BigUint::from(x[at]) * w)
            .sum();
        u64::try_from(sum % q).unwrap()
    }

    proptest! {
        #[test]
        fn weighted_sums(length in 1usize..80, terms in 0usize..9, bits in 10u32..=50, seed: u64) {
            let modulus = Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap();
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state >> 14
            };
            let inputs: Vec<Vec<u64>> = (0..terms).map(|_| (0..length).map(|_| next()).collect()).collect();
            let weights: Vec<u64> = (0..terms).map(|_| modulus.reduce_u64(next())).collect();
            let views: Vec<&[u64]> = inputs.iter().map(Vec::as_slice).collect();
            let mut out = vec![7; length];
            linear_combination(&modulus, &views, &weights, &mut out);
            let mut portable = vec![7; length];
            portable_linear_combination(&modulus, &views, &weights, &mut portable, 0);
            for j in 0..length {
                prop_assert_eq!(out[j], naive(modulus.value(), &views, &weights, j));
                prop_assert_eq!(portable[j], out[j]);
            }
        }

        #[test]
        fn products(length in 1usize..40, bits in 10u32..=50, seed: u64) {
            let modulus = Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap();
            let mut state = seed;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                modulus.reduce_u64(state >> 14)
            };
            let a: Vec<u64> = (0..length).map(|_| next()).collect();
            let b: Vec<u64> = (0..length).map(|_| next()).collect();
            let c: Vec<u64> = (0..length).map(|_| next()).collect();
            let (mut product, mut sum) = (a.clone(), c.clone());
            mul_assign(&modulus, &mut product, &b);
            mul_add_assign(&modulus, &mut sum, &a, &b);
            for j in 0..length {
                prop_assert_eq!(product[j], modulus.mul(a[j], b[j]));
                prop_assert_eq!(sum[j], modulus.mul_add(a[j], b[j], c[j]));
            }
        }
    }

    #[test]
    fn extreme_values_over_many_terms() {
        for bits in [20, 49, 50] {
            let modulus = Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap();
            let q = modulus.value();
            let input = vec![(1u64 << 50) - 1; 24];
            for terms in [1usize, 1023, 1024, 1025, 5000] {
                let views = vec![input.as_slice(); terms];
                let weights = vec![q - 1; terms];
                let mut out = vec![0; 24];
                linear_combination(&modulus, &views, &weights, &mut out);
                let mut portable = vec![0; 24];
                portable_linear_combination(&modulus, &views, &weights, &mut portable, 0);
                assert!(out.iter().all(|&x| x == naive(q, &views, &weights, 0)));
                assert_eq!(out, portable);
            }
        }
    }

    #[test]
    fn an_empty_sum_is_zero() {
        let modulus = Modulus::new(97).unwrap();
        let mut out = [5, 6];
        linear_combination(&modulus, &[], &[], &mut out);
        assert_eq!(out, [0, 0]);
    }
}
