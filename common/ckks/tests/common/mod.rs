//! An independent reference: polynomials with big integer coefficients modulo `X^N + 1`, and decryption by it.
#![allow(dead_code, reason = "every test binary uses a part")]
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::modulus::Modulus;
use galen_rns::poly::{Eval, Poly};
use galen_rns::ring::RingKind;
use galen_rns::sampling::ternary;
use galen_rns::xof::Xof;
use num_bigint::BigInt;
use std::sync::Arc;

/// A ring small enough for schoolbook products.
pub(crate) fn tiny(levels: usize, special: usize) -> Arc<Context> {
    tiny_of(RingKind::Cyclotomic, levels, special, special)
}

/// The same in either ring, with digits of any size.
pub(crate) fn tiny_of(ring: RingKind, levels: usize, special: usize, digit: usize) -> Arc<Context> {
    let spec = PresetSpec {
        ring,
        degree: 64,
        base_bits: 50,
        levels,
        scale_bits: 40,
        special,
        special_bits: 50,
        digit,
    };
    Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap()
}

pub(crate) fn preset(name: &str) -> Arc<Context> {
    Context::new(&Preset::by_name(name).unwrap()).unwrap()
}

/// Repeatable values in -1..1.
pub(crate) fn values(count: usize, salt: u64) -> Vec<f64> {
    let mut xof = Xof::new(&[9; 32], &[b"values", &salt.to_le_bytes()]);
    (0..count)
        .map(|_| (xof.next_u64() >> 11) as f64 / (1u64 << 52) as f64 - 1.0)
        .collect()
}

pub(crate) fn product_of(moduli: &[Modulus]) -> BigInt {
    moduli.iter().map(|m| BigInt::from(m.value())).product()
}

/// The representative of `x` modulo `q` that is nearest to zero.
pub(crate) fn centre(x: &BigInt, q: &BigInt) -> BigInt {
    let x = ((x % q) + q) % q;
    if &x * 2 > *q { x - q } else { x }
}

/// The centred coefficients of a transformed polynomial.
pub(crate) fn integers(poly: &Poly<Eval>) -> Vec<BigInt> {
    let poly = poly.clone().into_coeff();
    let moduli = poly.ring().moduli();
    let q = product_of(moduli);
    let basis: Vec<BigInt> = moduli
        .iter()
        .map(|m| {
            let cofactor = &q / m.value();
            let residue = u64::try_from(&cofactor % m.value()).unwrap();
            cofactor * m.inv(residue).unwrap()
        })
        .collect();
    (0..poly.ring().degree())
        .map(|j| {
            let sum: BigInt = basis
                .iter()
                .enumerate()
                .map(|(i, b)| b * poly.residues(i)[j])
                .sum();
            centre(&sum, &q)
        })
        .collect()
}

/// A product modulo `X^N + 1`.
pub(crate) fn multiply(a: &[BigInt], b: &[BigInt]) -> Vec<BigInt> {
    let n = a.len();
    let mut out = vec![BigInt::ZERO; n];
    for (i, x) in a.iter().enumerate() {
        for (j, y) in b.iter().enumerate() {
            if i + j < n {
                out[i + j] += x * y;
            } else {
                out[i + j - n] -= x * y;
            }
        }
    }
    out
}

pub(crate) fn reduce(a: &[BigInt], q: &BigInt) -> Vec<BigInt> {
    a.iter().map(|x| centre(x, q)).collect()
}

pub(crate) fn add(a: &[BigInt], b: &[BigInt]) -> Vec<BigInt> {
    a.iter().zip(b).map(|(x, y)| x + y).collect()
}

/// The secret polynomial of a seed, expanded here as it is documented.
pub(crate) fn secret(context: &Context, seed: &[u8; 32]) -> Vec<BigInt> {
    let domain: [&[u8]; 4] = [
        b"galen-ckks-1",
        &context.digest().0,
        b"secret",
        &0u64.to_le_bytes(),
    ];
    let mut signs = vec![0i8; context.degree()];
    ternary(&mut Xof::new(seed, &domain), &mut signs);
    signs.into_iter().map(BigInt::from).collect()
}

/// `c0 + c1 s + c2 s^2`, centred.
pub(crate) fn phase(context: &Context, ct: &Ciphertext, secret: &[BigInt]) -> Vec<BigInt> {
    let q = product_of(context.ring(ct.level()).unwrap().moduli());
    let mut sum = vec![BigInt::ZERO; context.degree()];
    for part in ct.parts().iter().rev() {
        sum = reduce(&add(&multiply(&sum, secret), &integers(part)), &q);
    }
    sum
}

pub(crate) fn float(x: &BigInt) -> f64 {
    x.to_string().parse().unwrap()
}

/// Evaluation at the slots by definition: at `zeta^(5^k)`. Real and imaginary parts.
pub(crate) fn slots(coefficients: &[f64]) -> Vec<(f64, f64)> {
    let n = coefficients.len();
    let mut exponent = 1usize;
    (0..n / 2)
        .map(|_| {
            let slot = coefficients
                .iter()
                .enumerate()
                .fold((0.0, 0.0), |(re, im), (i, c)| {
                    let angle = core::f64::consts::PI * ((i * exponent) % (2 * n)) as f64 / n as f64;
                    (re + c * angle.cos(), im + c * angle.sin())
                });
            exponent = exponent * 5 % (2 * n);
            slot
        })
        .collect()
}
