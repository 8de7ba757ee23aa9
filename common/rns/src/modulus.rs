//! Residues modulo one prime below `2^50`.

use crate::error::RnsError;
use crate::primes::is_prime;

/// Moduli are below `2^MAX_BITS`: the bound of the transform's fastest path (52-bit multiply-add).
pub const MAX_BITS: u32 = 50;

/// A prime `q` with `3 <= q < 2^50`, and the constants that reduce modulo it.
///
/// Residues are `u64` in `0..q`; every method that takes residues expects that range and returns it. No
/// method branches on a residue.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Modulus {
    value: u64,
    bits: u32,
    /// `floor(2^64 / q)`.
    reciprocal: u64,
    /// `floor(2^(2 bits) / q)`, below `2^(bits + 1)`.
    barrett: u64,
    /// `2^64 mod q`.
    two_64: u64,
    /// `floor(2^(51 + bits) / q)`, below `2^52`.
    barrett_52: u64,
    /// `2^52 mod q` and `floor(2^52 (2^52 mod q) / q)`.
    two_52: (u64, u64),
}

impl core::fmt::Debug for Modulus {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Modulus({})", self.value)
    }
}

impl Modulus {
    /// Checks that `value` is a prime in `3..2^50`.
    ///
    /// # Errors
    /// [`RnsError::InvalidModulus`] otherwise.
    pub fn new(value: u64) -> Result<Self, RnsError> {
        if value < 3 || value >> MAX_BITS != 0 || !is_prime(value) {
            return Err(RnsError::InvalidModulus { value });
        }
        let bits = 64 - value.leading_zeros();
        let q = u128::from(value);
        let two_52 = (1u128 << 52) % q;
        Ok(Self {
            value,
            bits,
            reciprocal: ((1u128 << 64) / q) as u64,
            barrett: ((1u128 << (2 * bits)) / q) as u64,
            two_64: ((1u128 << 64) % q) as u64,
            barrett_52: ((1u128 << (51 + bits)) / q) as u64,
            two_52: (two_52 as u64, ((two_52 << 52) / q) as u64),
        })
    }

    /// The prime itself.
    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.value
    }

    /// `ceil(log2 q)`: the bits that a residue needs.
    #[inline]
    #[must_use]
    pub fn bits(&self) -> u32 {
        self.bits
    }

    /// `floor(2^(51 + bits) / q)`, below `2^52`: the quotient constant of 52-bit multiply-add.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn barrett_52(&self) -> u64 {
        self.barrett_52
    }

    /// `floor(2^52 / q)`.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn reciprocal_52(&self) -> u64 {
        self.reciprocal >> 12
    }

    /// `floor(2^60 / q)`.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn reciprocal_60(&self) -> u64 {
        self.reciprocal >> 4
    }

    /// `2^52 mod q` and its companion for a 52-bit Shoup product.
    #[inline]
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))]
    pub(crate) fn two_52(&self) -> (u64, u64) {
        self.two_52
    }

    /// `x` if it is below `q`, else `x - q`.
    #[inline]
    fn reduce_once(&self, x: u64) -> u64 {
        // x - q wraps to a huge value exactly when x < q.
        x.min(x.wrapping_sub(self.value))
    }

    /// `a + b mod q`.
    #[inline]
    #[must_use]
    pub fn add(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.value && b < self.value);
        self.reduce_once(a + b)
    }

    /// `a - b mod q`.
    #[inline]
    #[must_use]
    pub fn sub(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.value && b < self.value);
        self.reduce_once(a + self.value - b)
    }

    /// `-a mod q`.
    #[inline]
    #[must_use]
    pub fn neg(&self, a: u64) -> u64 {
        debug_assert!(a < self.value);
        self.reduce_once(self.value - a)
    }

    /// `a * b mod q` (Barrett).
    #[inline]
    #[must_use]
    pub fn mul(&self, a: u64, b: u64) -> u64 {
        debug_assert!(a < self.value && b < self.value);
        let x = u128::from(a) * u128::from(b);
        let top = (x >> (self.bits - 1)) as u64;
        let quotient = ((u128::from(top) * u128::from(self.barrett)) >> (self.bits + 1)) as u64;
        // For x < q^2 the two truncated factors and the last shift each lose less than 1, so the estimate is short of
        // the quotient by at most 2 and the remainder below 3q < 2^52 (Barrett; Menezes et al., Handbook of Applied
        // Cryptography, algorithm 14.42).
        let r = (x as u64).wrapping_sub(quotient.wrapping_mul(self.value));
        self.reduce_once(self.reduce_once(r))
    }

    /// `a * b + c mod q`.
    #[inline]
    #[must_use]
    pub fn mul_add(&self, a: u64, b: u64, c: u64) -> u64 {
        self.add(self.mul(a, b), c)
    }

    /// `a^exponent mod q`, with `0^0 = 1`. Its time depends on the exponent.
    #[must_use]
    pub fn pow(&self, a: u64, mut exponent: u64) -> u64 {
        let mut base = a;
        let mut result = 1;
        while exponent > 0 {
            if exponent & 1 == 1 {
                result = self.mul(result, base);
            }
            base = self.mul(base, base);
            exponent >>= 1;
        }
        result
    }

    /// `a^-1 mod q`, or nothing for zero.
    #[must_use]
    pub fn inv(&self, a: u64) -> Option<u64> {
        (a != 0).then(|| self.pow(a, self.value - 2))
    }

    /// The companion `floor(w 2^64 / q)` of a constant `w`, for [`Self::mul_shoup`].
    #[inline]
    #[must_use]
    pub fn shoup(&self, w: u64) -> u64 {
        debug_assert!(w < self.value);
        ((u128::from(w) << 64) / u128::from(self.value)) as u64
    }

    /// `a * w mod q` with `w_shoup = self.shoup(w)`, for any `a < 2^64`; faster than [`Self::mul`].
    #[inline]
    #[must_use]
    pub fn mul_shoup(&self, a: u64, w: u64, w_shoup: u64) -> u64 {
        let quotient = ((u128::from(a) * u128::from(w_shoup)) >> 64) as u64;
        self.reduce_once(a.wrapping_mul(w).wrapping_sub(quotient.wrapping_mul(self.value)))
    }

    /// `x mod q`.
    #[inline]
    #[must_use]
    pub fn reduce_u64(&self, x: u64) -> u64 {
        let quotient = ((u128::from(x) * u128::from(self.reciprocal)) >> 64) as u64;
        self.reduce_once(x.wrapping_sub(quotient.wrapping_mul(self.value)))
    }

    /// `x mod q`.
    #[inline]
    #[must_use]
    pub fn reduce_u128(&self, x: u128) -> u64 {
        let high = self.reduce_u64((x >> 64) as u64);
        self.mul_add(high, self.two_64, self.reduce_u64(x as u64))
    }

    /// `x mod q` in `0..q`.
    #[inline]
    #[must_use]
    pub fn reduce_i64(&self, x: i64) -> u64 {
        let magnitude = self.reduce_u64(x.unsigned_abs());
        self.select_sign(magnitude, x >> 63)
    }

    /// `x mod q` in `0..q`.
    #[inline]
    #[must_use]
    pub fn reduce_i128(&self, x: i128) -> u64 {
        let magnitude = self.reduce_u128(x.unsigned_abs());
        self.select_sign(magnitude, (x >> 127) as i64)
    }

    /// `-magnitude` where `mask` is all ones, else `magnitude`.
    #[inline]
    fn select_sign(&self, magnitude: u64, mask: i64) -> u64 {
        let mask = mask as u64;
        (self.neg(magnitude) & mask) | (magnitude & !mask)
    }

    /// The representative of `a` in `-(q-1)/2..=(q-1)/2`.
    #[inline]
    #[must_use]
    pub fn center(&self, a: u64) -> i64 {
        debug_assert!(a < self.value);
        let above_half = ((self.value >> 1).wrapping_sub(a) as i64) >> 63;
        a as i64 - ((self.value as i64) & above_half)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use num_bigint::BigInt;
    use proptest::prelude::*;

    const PRIMES: [u64; 6] = [
        3,
        17,
        65_537,
        1_099_511_590_913,
        562_949_953_421_231,
        1_125_899_906_842_597,
    ];

    fn reference(q: u64, x: &BigInt) -> u64 {
        let q = BigInt::from(q);
        u64::try_from(((x % &q) + &q) % &q).unwrap()
    }

    #[test]
    fn refuses_what_is_not_a_prime_below_the_bound() {
        for value in [
            0,
            1,
            2,
            4,
            9,
            561,
            (1 << 50) + 55,
            u64::MAX,
            1_125_899_906_842_599,
        ] {
            assert_eq!(Modulus::new(value), Err(RnsError::InvalidModulus { value }));
        }
        for value in PRIMES {
            assert_eq!(Modulus::new(value).unwrap().value(), value);
        }
    }

    proptest! {
        #[test]
        fn agrees_with_big_integers(i in 0..PRIMES.len(), x: u128, y: u128, z: u64, s: i64, t: i128) {
            let q = PRIMES[i];
            let m = Modulus::new(q).unwrap();
            let (a, b, c) = (m.reduce_u128(x), m.reduce_u128(y), m.reduce_u64(z));
            prop_assert_eq!(a, reference(q, &BigInt::from(x)));
            prop_assert_eq!(c, z % q);
            prop_assert_eq!(m.reduce_i64(s), reference(q, &BigInt::from(s)));
            prop_assert_eq!(m.reduce_i128(t), reference(q, &BigInt::from(t)));
            let (ba, bb, bc) = (BigInt::from(a), BigInt::from(b), BigInt::from(c));
            prop_assert_eq!(m.add(a, b), reference(q, &(&ba + &bb)));
            prop_assert_eq!(m.sub(a, b), reference(q, &(&ba - &bb)));
            prop_assert_eq!(m.neg(a), reference(q, &(-&ba)));
            prop_assert_eq!(m.mul(a, b), reference(q, &(&ba * &bb)));
            prop_assert_eq!(m.mul_add(a, b, c), reference(q, &(&ba * &bb + &bc)));
            prop_assert_eq!(m.mul_shoup(z, b, m.shoup(b)), reference(q, &(BigInt::from(z) * &bb)));
            match m.inv(a) {
                Some(inverse) => prop_assert_eq!(m.mul(a, inverse), 1),
                None => prop_assert_eq!(a, 0),
            }
            let centred = m.center(a);
            prop_assert_eq!(m.reduce_i64(centred), a);
            prop_assert!(centred.unsigned_abs() <= q / 2);
        }
    }

    #[test]
    fn extremes() {
        for q in PRIMES {
            let m = Modulus::new(q).unwrap();
            assert_eq!(m.mul(q - 1, q - 1), 1);
            assert_eq!(m.reduce_i64(i64::MIN), reference(q, &BigInt::from(i64::MIN)));
            assert_eq!(m.reduce_i128(i128::MIN), reference(q, &BigInt::from(i128::MIN)));
            assert_eq!(m.reduce_u128(u128::MAX), reference(q, &BigInt::from(u128::MAX)));
            assert_eq!(m.pow(2, 10), reference(q, &BigInt::from(1024)));
            assert_eq!(m.pow(0, 0), 1);
        }
    }
}
