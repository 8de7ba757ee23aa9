//! Integer-only samplers: uniform residues, uniform ternary, discrete Gaussian.
//!
//! What a sampler returns, and how much of the stream it consumes, is a function of the stream alone, so that
//! the same seed gives the same polynomial on every platform.

use crate::error::RnsError;
use crate::modulus::Modulus;
use crate::xof::Xof;
use zeroize::Zeroizing;

/// Words drawn at a time where each gives one sample.
const BATCH: usize = 64;

/// Fills `out` with uniform residues: 64-bit words masked to the bits of the modulus, those not below it
/// rejected.
pub fn uniform(modulus: &Modulus, xof: &mut Xof, out: &mut [u64]) {
    let mask = (1u64 << modulus.bits()) - 1;
    for value in out {
        *value = loop {
            let candidate = xof.next_u64() & mask;
            if candidate < modulus.value() {
                break candidate;
            }
        };
    }
}

/// Fills `out` with independent uniform values in {-1, 0, 1}: pairs of bits from 64-bit words, lowest first, the
/// pair 3 rejected. What remains of the last word is discarded. Rejections depend only on rejected pairs.
pub fn ternary(xof: &mut Xof, out: &mut [i8]) {
    let mut filled = 0;
    while filled < out.len() {
        let word = xof.next_u64();
        for shift in (0..64).step_by(2) {
            let pair = ((word >> shift) & 3) as i8;
            if pair != 3 {
                out[filled] = pair - 1;
                filled += 1;
                if filled == out.len() {
                    return;
                }
            }
        }
    }
}

/// A discrete Gaussian on the integers, cut at six standard deviations, as a table of cumulative probabilities.
///
/// With `rho(x) = exp(-x^2 / (2 sigma^2))` and `S` its sum over `-bound..=bound`, entry `k` is
/// `2^63 * Pr[|X| <= k]` rounded to the nearest integer, for `k < bound`. The tables were computed with 300-bit
/// arithmetic; a test recomputes every entry from the exponential series over rationals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gaussian {
    sigma_hundredths: u64,
    cumulative: &'static [u64],
}

impl Gaussian {
    /// Standard deviation 3.19, cut at 19: the error distribution for which the security gate holds (Security
    /// Guidelines for Implementing Homomorphic Encryption, ePrint 2024/463, table 5.2).
    pub const SIGMA_3_19: Self = Self {
        sigma_hundredths: 319,
        cumulative: &CUMULATIVE_3_19,
    };

    /// Standard deviation 4.6, cut at 27: `sqrt(2) * 3.19 = 4.512`, rounded up. For secrets and errors of which a
    /// sum becomes known (Hint-RLWE).
    pub const SIGMA_4_6: Self = Self {
        sigma_hundredths: 460,
        cumulative: &CUMULATIVE_4_6,
    };

    /// A hundred times the standard deviation.
    #[must_use]
    pub fn sigma_hundredths(&self) -> u64 {
        self.sigma_hundredths
    }

    /// `2^63 * Pr[|X| <= k]` for each `k` below the bound.
    #[must_use]
    pub fn cumulative(&self) -> &'static [u64] {
        self.cumulative
    }

    /// The largest absolute value that is ever returned: `floor(6 sigma)`.
    #[must_use]
    pub fn bound(&self) -> i64 {
        self.cumulative.len() as i64
    }
}

/// Fills `out` with independent samples of `distribution`.
///
/// Each takes one 64-bit word: the top bit is the sign, the others are compared with every entry of the table, so
/// that time and memory access do not depend on the sample.
pub fn gaussian(distribution: &Gaussian, xof: &mut Xof, out: &mut [i64]) {
    let mut words = Zeroizing::new([0u64; BATCH]);
    let mut magnitudes = Zeroizing::new([0u64; BATCH]);
    for chunk in out.chunks_mut(BATCH) {
        let count = chunk.len();
        xof.fill_words(&mut words[..count]);
        magnitudes.fill(0);
        for &threshold in distribution.cumulative {
            for (magnitude, word) in magnitudes.iter_mut().zip(words.iter()) {
                let uniform = word & (u64::MAX >> 1);
                // Both are at most 2^63, so the top bit of the difference says whether uniform >= threshold.
                *magnitude += 1 - (uniform.wrapping_sub(threshold) >> 63);
            }
        }
        for ((sample, &magnitude), &word) in chunk.iter_mut().zip(magnitudes.iter()).zip(words.iter()) {
            let sign = -((word >> 63) as i64);
            *sample = (magnitude as i64 ^ sign) - sign;
        }
    }
}

/// Widest uniform in [`flooding`]: twelve of them stay far below `2^63`.
pub const MAX_FLOODING_BITS: u32 = 58;

/// Fills `out` with independent values of standard deviation `sqrt(4^bits - 1)`, just below `2^bits`: sums of twelve
/// uniform `bits`-bit integers less their mean, within `6 * 2^bits` of zero. For noise that hides other noise.
///
/// # Errors
/// [`RnsError::InvalidWidth`] for `bits` outside of 1..=58.
pub fn flooding(bits: u32, xof: &mut Xof, out: &mut [i64]) -> Result<(), RnsError> {
    if !(1..=MAX_FLOODING_BITS).contains(&bits) {
        return Err(RnsError::InvalidWidth {
            bits,
            min: 1,
            max: MAX_FLOODING_BITS,
        });
    }
    let mask = (1u64 << bits) - 1;
    for value in out {
        let sum: u64 = (0..12).map(|_| xof.next_u64() & mask).sum();
        *value = sum as i64 - 6 * mask as i64;
    }
    Ok(())
}

#[rustfmt::skip]
const CUMULATIVE_3_19: [u64; 19] = [
    0x1001f9a1ec7ba510, 0x2e7cf3efaf0e59ba, 0x48ca7e86de8b31ad, 0x5d5d5178dff22aaa,
    0x6bf35599da11a00c, 0x7552dc9227511d03, 0x7ac882071c274269, 0x7daa659817315142,
    0x7f0b811685835688, 0x7fa4a9fe2aabdb41, 0x7fe0e10947cea31f, 0x7ff656414e3bd558,
    0x7ffd449266e17fbc, 0x7fff4c09d21a42bc, 0x7fffd5e35bced535, 0x7ffff70b93c9358b,
    0x7ffffe4629c89c16, 0x7fffffb3dcca371b, 0x7ffffff55d8cb619,
];

#[rustfmt::skip]
const CUMULATIVE_4_6: [u64; 27] = [
    0x0b19db4e93d82b9d, 0x20c8d751cea27dcf, 0x34fbf2c0d08f7013, 0x46eed02f7287e25a,
    0x56252fec6de1a5a5, 0x627180ae703c3d34, 0x6bed33297e0e291a, 0x72e6cf2e53588358,
    0x77cb87950f4e59de, 0x7b11d36336369609, 0x7d28e728a47eb76d, 0x7e6eac4baa181cfa,
    0x7f2bdb1544301a8e, 0x7f94a5ce1345a9fc, 0x7fcc03b48541d486, 0x7fe7eace7e10dfe9,
    0x7ff5547cd81c7374, 0x7ffb7add641170b4, 0x7ffe2b694c1949bc, 0x7fff4aa4ccb290bd,
    0x7fffbcef1d75bd9b, 0x7fffe84fa9bc06d1, 0x7ffff803aeaafd5e, 0x7ffffd6fd0b5f5c8,
    0x7fffff3904d8ddfe, 0x7fffffc8a7b902eb, 0x7ffffff3b283a556,
];
