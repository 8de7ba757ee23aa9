//! Integer-only samplers: uniform residues, uniform ternary, discrete Gaussian.
//!
//! What a sampler returns, and how much of the stream it consumes, is a function of the stream alone, so that
//! the same seed gives the same polynomial on every platform.

use crate::error::RnsError;
use crate::modulus::Modulus;
use crate::vectorise::{Loop, vectorised};
use crate::xof::Xof;
use zeroize::Zeroizing;

/// Words drawn at a time where what becomes of them needs no place of its own.
const BATCH: usize = 512;

/// Fills `out` with uniform residues: 64-bit words masked to the bits of the modulus, those not below it
/// rejected.
pub fn uniform(modulus: &Modulus, xof: &mut Xof, out: &mut [u64]) {
    let q = modulus.value();
    let mask = (1u64 << modulus.bits()) - 1;
    let mut filled = 0;
    while filled < out.len() {
        // As many words as residues are missing are needed in any case.
        let start = filled;
        xof.fill_words(&mut out[start..]);
        for at in (start..out.len()).step_by(BATCH) {
            let count = BATCH.min(out.len() - at);
            let largest = vectorised(Mask(mask, &mut out[at..at + count]));
            if largest < q && filled == at {
                filled += count;
                continue;
            }
            // Close the gaps. The place to write depends on nothing but which words are rejected.
            for i in at..at + count {
                let candidate = out[i];
                out[filled] = candidate;
                filled += usize::from(candidate < q);
            }
        }
    }
}

/// Masks words and returns the largest result.
struct Mask<'a>(u64, &'a mut [u64]);

impl Loop for Mask<'_> {
    type Output = u64;

    #[inline(always)]
    fn call(self) -> u64 {
        let Self(mask, words) = self;
        words.iter_mut().fold(0, |largest, word| {
            *word &= mask;
            largest.max(*word)
        })
    }
}

/// Pairs of bits in a word.
const PAIRS: usize = 32;

/// Fills `out` with independent uniform values in {-1, 0, 1}: pairs of bits from 64-bit words, lowest first, the
/// pair 3 rejected. What remains of the last word is discarded. Rejections depend only on rejected pairs.
pub fn ternary(xof: &mut Xof, out: &mut [i8]) {
    let mut words = Zeroizing::new([0u64; BATCH]);
    let mut last = Zeroizing::new([0i8; PAIRS]);
    let mut filled = 0;
    while filled < out.len() {
        // Full words give at most this many values, so all but the last of these words are used up, and the last is begun.
        let count = (out.len() - filled).div_ceil(PAIRS).min(BATCH);
        xof.fill_words(&mut words[..count]);
        for &word in &words[..count] {
            if let Some(window) = out[filled..].first_chunk_mut() {
                filled += accepted(word, window);
            } else {
                let count = accepted(word, &mut last).min(out.len() - filled);
                out[filled..filled + count].copy_from_slice(&last[..count]);
                filled += count;
            }
        }
    }
}

/// Writes the accepted values of one word to the beginning of `out`, and says how many there are.
#[inline]
fn accepted(word: u64, out: &mut [i8; PAIRS]) -> usize {
    let mut count = 0;
    for shift in (0..64).step_by(2) {
        let pair = (word >> shift) & 3;
        // Overwritten by the next one if it is rejected. The count is below 32 here, as the shift says.
        out[count % PAIRS] = pair as i8 - 1;
        // 1 but for pair 3.
        count += 1 - ((pair & (pair >> 1)) as usize);
    }
    count
}

/// [`ternary`] values as residues modulo every prime: `out` has as many for each of `moduli`.
///
/// # Errors
/// [`RnsError::Length`] if it has not, or no prime is given.
pub fn ternary_residues(xof: &mut Xof, moduli: &[Modulus], out: &mut [u64]) -> Result<(), RnsError> {
    let count = values_per_prime(moduli, out)?;
    let mut signs = Zeroizing::new(vec![0i8; count]);
    ternary(xof, &mut signs);
    for (row, m) in out.chunks_exact_mut(count).zip(moduli) {
        vectorised(Residues(m.value(), &signs, row));
    }
    Ok(())
}

fn values_per_prime(moduli: &[Modulus], out: &[u64]) -> Result<usize, RnsError> {
    match out.len().checked_div(moduli.len()) {
        Some(count) if count > 0 && count * moduli.len() == out.len() => Ok(count),
        count => Err(RnsError::Length {
            expected: count.unwrap_or_default() * moduli.len(),
            actual: out.len(),
        }),
    }
}

/// Integers between -q and q to residues.
struct Residues<'a, T>(u64, &'a [T], &'a mut [u64]);

impl<T: Copy + Into<i64>> Loop for Residues<'_, T> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(q, values, out) = self;
        for (x, &value) in out.iter_mut().zip(values) {
            let value: i64 = value.into();
            *x = (value as u64).wrapping_add(q & (value >> 63) as u64);
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
    for chunk in out.chunks_mut(BATCH) {
        let words = &mut words[..chunk.len()];
        xof.fill_words(words);
        vectorised(Invert(distribution.cumulative, words, chunk));
    }
}

/// [`gaussian`] values as residues modulo every prime: `out` has as many for each of `moduli`.
///
/// # Errors
/// [`RnsError::Length`] if it has not, or no prime is given.
pub fn gaussian_residues(
    distribution: &Gaussian,
    xof: &mut Xof,
    moduli: &[Modulus],
    out: &mut [u64],
) -> Result<(), RnsError> {
    let count = values_per_prime(moduli, out)?;
    let mut values = Zeroizing::new([0i64; BATCH]);
    for start in (0..count).step_by(BATCH) {
        let values = &mut values[..BATCH.min(count - start)];
        gaussian(distribution, xof, values);
        for (row, m) in out.chunks_exact_mut(count).zip(moduli) {
            let row = &mut row[start..start + values.len()];
            if (distribution.bound() as u64) < m.value() {
                vectorised(Residues(m.value(), values, row));
            } else {
                row.iter_mut()
                    .zip(&*values)
                    .for_each(|(x, &e)| *x = m.reduce_i64(e));
            }
        }
    }
    Ok(())
}

/// Words to samples, by comparison with every entry of the table.
struct Invert<'a>(&'a [u64], &'a [u64], &'a mut [i64]);

/// Samples that are compared with an entry together: a few registers of any kind.
const SIDE_BY_SIDE: usize = 32;

impl Loop for Invert<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(thresholds, words, out) = self;
        let (groups, rest) = words.as_chunks::<SIDE_BY_SIDE>();
        let (group_samples, rest_samples) = out.as_chunks_mut::<SIDE_BY_SIDE>();
        for (group, samples) in group_samples.iter_mut().zip(groups).map(|(s, g)| (g, s)) {
            *samples = invert(thresholds, group);
        }
        let mut group = Zeroizing::new([0; SIDE_BY_SIDE]);
        group[..rest.len()].copy_from_slice(rest);
        rest_samples.copy_from_slice(&invert(thresholds, &group)[..rest.len()]);
    }
}

#[inline(always)]
fn invert(thresholds: &[u64], words: &[u64; SIDE_BY_SIDE]) -> [i64; SIDE_BY_SIDE] {
    let mut below = [0u64; SIDE_BY_SIDE];
    for &threshold in thresholds {
        for (below, word) in below.iter_mut().zip(words) {
            let uniform = word & (u64::MAX >> 1);
            // Both are at most 2^63, so the top bit of the difference says whether uniform < threshold.
            *below += uniform.wrapping_sub(threshold) >> 63;
        }
    }
    let mut samples = [0; SIDE_BY_SIDE];
    for ((sample, below), word) in samples.iter_mut().zip(&below).zip(words) {
        let magnitude = (thresholds.len() as u64 - below) as i64;
        let sign = -((word >> 63) as i64);
        *sample = (magnitude ^ sign) - sign;
    }
    samples
}

/// Uniforms in one value of [`flooding`].
const TERMS: usize = 12;

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
    let mut words = Zeroizing::new([[0u64; TERMS]; BATCH / TERMS]);
    for chunk in out.chunks_mut(words.len()) {
        let words = &mut words[..chunk.len()];
        xof.fill_words(words.as_flattened_mut());
        for (value, terms) in chunk.iter_mut().zip(words) {
            let sum: u64 = terms.iter().map(|x| x & mask).sum();
            *value = sum as i64 - 6 * mask as i64;
        }
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
