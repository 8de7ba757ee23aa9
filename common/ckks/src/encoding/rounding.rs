//! Coefficients as doubles to residues of the nearest integers.

use galen_rns::kernel::Kernels;
use galen_rns::modulus::Modulus;
use galen_rns::vectorise::{Loop, vectorised};
use zeroize::Zeroizing;

/// Integers below this in absolute value are taken in one word.
const WORD: f64 = (1u64 << 62) as f64;

/// The nearest integers to coefficients below `2^120`, halves away from zero, as `low + high * 2^62`.
pub(super) struct Integers {
    low: Zeroizing<Vec<i64>>,
    /// Empty where all is below `2^62`.
    high: Zeroizing<Vec<i64>>,
    /// Bounds the absolute values of `low` and `high`.
    largest: f64,
}

impl Integers {
    pub(super) fn nearest(coefficients: &[f64]) -> Self {
        let largest = vectorised(Largest(coefficients));
        let mut low = Zeroizing::new(vec![0; coefficients.len()]);
        let mut high = Zeroizing::new(Vec::new());
        if largest < WORD {
            vectorised(Round(coefficients, &mut low));
        } else {
            high.resize(coefficients.len(), 0);
            for ((&c, low), high) in coefficients.iter().zip(low.iter_mut()).zip(high.iter_mut()) {
                // Exact: a power of two, and two parts of the bits of c, which is an integer if it is that large.
                let upper = (c / WORD).trunc();
                *high = upper as i64;
                *low = (c - upper * WORD).round() as i64;
            }
        }
        Self {
            low,
            high,
            largest: largest.round().min(WORD),
        }
    }

    /// Writes the residues modulo one prime.
    pub(super) fn residues(&self, modulus: &Modulus, out: &mut [u64]) {
        residues(modulus, &self.low, self.largest, out);
        if !self.high.is_empty() {
            let mut high = Zeroizing::new(vec![0; out.len()]);
            residues(modulus, &self.high, self.largest, &mut high);
            Kernels::active().mul_scalar_add_assign(modulus, out, &high, modulus.reduce_u64(1 << 62));
        }
    }
}

struct Largest<'a>(&'a [f64]);

impl Loop for Largest<'_> {
    type Output = f64;

    #[inline(always)]
    fn call(self) -> f64 {
        // Not negative, so the order of doubles is that of their bits, and integers have no rules about NaN.
        let bits = self.0.iter().map(|c| c.abs().to_bits()).fold(0, u64::max);
        f64::from_bits(bits)
    }
}

struct Round<'a>(&'a [f64], &'a mut [i64]);

impl Loop for Round<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        self.1
            .iter_mut()
            .zip(self.0)
            .for_each(|(x, c)| *x = c.round() as i64);
    }
}

/// Residues of integers that are at most `largest`, itself at most `2^62`, in absolute value.
pub(super) fn residues(modulus: &Modulus, integers: &[i64], largest: f64, out: &mut [u64]) {
    let q = modulus.value();
    if largest < q as f64 {
        vectorised(AddIfNegative { q, integers, out });
    } else if largest < q as f64 * MAX_QUOTIENT {
        vectorised(Reduce { q, integers, out });
    } else {
        out.iter_mut()
            .zip(integers)
            .for_each(|(x, &c)| *x = modulus.reduce_i64(c));
    }
}

/// For integers below q in absolute value.
struct AddIfNegative<'a> {
    q: u64,
    integers: &'a [i64],
    out: &'a mut [u64],
}

impl Loop for AddIfNegative<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let q = self.q;
        self.out
            .iter_mut()
            .zip(self.integers)
            .for_each(|(x, &c)| *x = (c as u64).wrapping_add(q & (c >> 63) as u64));
    }
}

/// Quotients below this come out right to a tenth from three roundings of doubles, `3 * 2^-53 * 2^48`.
const MAX_QUOTIENT: f64 = (1u64 << 48) as f64;

/// For integers below `q MAX_QUOTIENT` in absolute value.
struct Reduce<'a> {
    q: u64,
    integers: &'a [i64],
    out: &'a mut [u64],
}

impl Loop for Reduce<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        /// Added to a number below `2^51`, it leaves the nearest integer in the low bits.
        const SHIFT: f64 = (3u64 << 51) as f64;
        let q = self.q;
        let inverse = 1.0 / q as f64;
        for (x, &c) in self.out.iter_mut().zip(self.integers) {
            let quotient = (c as f64 * inverse + SHIFT)
                .to_bits()
                .wrapping_sub(SHIFT.to_bits());
            // In -0.6 q..0.6 q, whichever way the quotient was rounded.
            let remainder = (c as u64).wrapping_sub(quotient.wrapping_mul(q));
            *x = remainder.wrapping_add(q & (remainder as i64 >> 63) as u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_rns::primes::ntt_primes;

    #[test]
    fn residues_at_the_edges_of_every_path() {
        for bits in [8, 21, 36, 45, 50] {
            let modulus = Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap();
            let q = modulus.value() as i64;
            for largest in [q - 1, q, 2 * q, 1 << 51, 1 << 54, 1 << 61, 1 << 62] {
                let mut integers = vec![0, 1, -1, largest, -largest];
                for multiple in [1i64, 2, 3, 1000, largest / q, largest / q / 2] {
                    for offset in [-1, 0, 1, q / 2, q / 2 + 1] {
                        let x = multiple.saturating_mul(q).saturating_add(offset);
                        integers.extend([x, -x].into_iter().filter(|x| x.abs() <= largest));
                    }
                }
                let mut out = vec![0; integers.len()];
                residues(&modulus, &integers, largest as f64, &mut out);
                for (&c, &x) in integers.iter().zip(&out) {
                    assert_eq!(x, modulus.reduce_i64(c), "{c} modulo {q}");
                }
            }
        }
    }

    #[test]
    fn rounding_is_to_the_nearest_integer() {
        let modulus = Modulus::new(ntt_primes(16, 50, 1, &[]).unwrap()[0]).unwrap();
        let small = [
            0.0,
            0.5,
            -0.5,
            1.5,
            -2.5,
            0.499_999_999_999_999_94,
            4_503_599_627_370_495.5,
            -1e18,
        ];
        let large = [
            1e30,
            -1e30,
            1.3e36,
            -1.3e36,
            4.7e18,
            -4.7e18,
            0.5,
            -7.5,
            9_007_199_254_740_993.0,
        ];
        for coefficients in [&small[..], &large[..]] {
            let mut out = vec![0; coefficients.len()];
            Integers::nearest(coefficients).residues(&modulus, &mut out);
            for (c, &x) in coefficients.iter().zip(&out) {
                assert_eq!(x, modulus.reduce_i128(c.round() as i128), "{c}");
            }
        }
    }
}
