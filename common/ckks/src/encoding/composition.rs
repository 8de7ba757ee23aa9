//! Residues to the centred integers that they stand for, as doubles.

use super::rounding::residues;
use crate::error::CkksError;
use galen_rns::RnsError;
use galen_rns::kernel::Kernels;
use galen_rns::modulus::Modulus;
use galen_rns::poly::{Eval, Poly};
use galen_rns::vectorise::{Loop, vectorised};
use zeroize::Zeroizing;

/// How many of the primes hold every integer of at most `bits` bits with its sign: usually one or two.
fn primes_for(moduli: &[Modulus], bits: f64) -> usize {
    let mut room = 0.0;
    moduli
        .iter()
        .position(|m| {
            room += (m.value() as f64).log2();
            room > bits + 1.0
        })
        .map_or(moduli.len(), |last| last + 1)
}

/// The centred coefficients of a polynomial, given that they have at most `bits` bits with their sign. They are right but
/// for a few units of `2^-53` of each.
///
/// By Garner's algorithm in a balanced mixed radix: `x = d_0 + q_0 (d_1 + q_1 (d_2 + ...))` with every digit between
/// `-q_i / 2` and `q_i / 2`. What is below a digit is at most half its unit, so no sum cancels.
pub(super) fn coefficients(poly: &Poly<Eval>, bits: f64, out: &mut [f64]) -> Result<(), CkksError> {
    let ring = poly.ring();
    let (kernels, n) = (Kernels::active(), ring.degree());
    let moduli = &ring.moduli()[..primes_for(ring.moduli(), bits)];
    let mut row = Zeroizing::new(vec![0; n]);
    let mut below = Zeroizing::new(vec![0; if moduli.len() > 1 { n } else { 0 }]);
    let mut digits = Zeroizing::new(vec![0; moduli.len() * n]);
    for (i, m) in moduli.iter().enumerate() {
        row.copy_from_slice(poly.residues(i));
        ring.ntt(i).inverse(&mut row);
        for (digit, lower) in digits.chunks_exact(n).zip(&moduli[..i]) {
            let inverse = m
                .inv(m.reduce_u64(lower.value()))
                .ok_or(RnsError::RepeatedModulus {
                    modulus: lower.value(),
                })?;
            residues(m, digit, (lower.value() / 2) as f64, &mut below);
            // (row - below) / q_k.
            kernels.sub_mul_scalar_assign(m, &mut row, &below, m.neg(inverse));
        }
        vectorised(Centre(m.value(), &row, &mut digits[i * n..][..n]));
    }
    out.fill(0.0);
    for (digit, m) in digits.chunks_exact(n).zip(moduli).rev() {
        vectorised(Horner(m.value() as f64, digit, out));
    }
    Ok(())
}

/// Residues to the integers nearest to zero.
struct Centre<'a>(u64, &'a [u64], &'a mut [i64]);

impl Loop for Centre<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(q, residues, out) = self;
        let half = q / 2;
        for (x, &residue) in out.iter_mut().zip(residues) {
            let above = (half.wrapping_sub(residue) as i64 >> 63) as u64;
            *x = residue.wrapping_sub(q & above) as i64;
        }
    }
}

/// `out = out * q + digit`.
struct Horner<'a>(f64, &'a [i64], &'a mut [f64]);

impl Loop for Horner<'_> {
    type Output = ();

    #[inline(always)]
    fn call(self) {
        let Self(q, digits, out) = self;
        out.iter_mut()
            .zip(digits)
            .for_each(|(x, &digit)| *x = *x * q + digit as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_rns::poly::Coeff;
    use galen_rns::primes::ntt_primes;
    use galen_rns::ring::Ring;
    use num_bigint::BigInt;

    /// Values of all sizes, in as many primes as they need, against big integers.
    #[test]
    fn composition_is_right_to_a_few_units() {
        let n = 16;
        let mut primes = ntt_primes(n, 50, 2, &[]).unwrap();
        primes.extend(ntt_primes(n, 30, 2, &[]).unwrap());
        primes.extend(ntt_primes(n, 45, 2, &primes).unwrap());
        let ring = Ring::new(n, &primes).unwrap();
        for bits in [
            1u64, 5, 40, 48, 49, 60, 97, 98, 120, 126, 127, 150, 157, 158, 200, 240, 247,
        ] {
            let values: Vec<BigInt> = (0..n as u64)
                .map(|i| {
                    let size = if i < 8 { bits } else { bits.min(4 * i) };
                    let magnitude: BigInt = (BigInt::from(1) << (size - 1)) - 1 - i % size;
                    if i % 2 == 0 { magnitude } else { -magnitude }
                })
                .collect();
            let residues = ring.moduli().iter().flat_map(|m| {
                let q = BigInt::from(m.value());
                values
                    .iter()
                    .map(move |x| u64::try_from(((x % &q) + &q) % &q).unwrap())
            });
            let poly = Poly::<Coeff>::from_data(&ring, residues.collect())
                .unwrap()
                .into_eval();
            let mut out = vec![0.0; n];
            coefficients(&poly, bits as f64, &mut out).unwrap();
            for (got, value) in out.iter().zip(&values) {
                let exact: f64 = value.to_string().parse().unwrap();
                assert!(
                    (got - exact).abs() <= exact.abs() * 1e-15,
                    "{got} {exact} of {bits} bits"
                );
            }
        }
    }
}
