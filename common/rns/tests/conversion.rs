//! Basis conversion on every backend that this CPU runs, on the same inputs, against big integers.
//!
//! Integers are drawn first and their residues taken, so that what is expected follows from a division and from no algorithm for
//! residues.

#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_rns::basis::{BasisConverter, MAX_CONVERTED};
use galen_rns::kernel::{Backend, Kernels};
use galen_rns::modulus::Modulus;
use galen_rns::primes::ntt_primes;
use num_bigint::BigInt;
use proptest::prelude::*;

fn all() -> Vec<Kernels> {
    Backend::ALL
        .into_iter()
        .filter_map(|b| Kernels::on(b).ok())
        .collect()
}

/// So many primes, of widths that go up and down from `bits`, none of those in `taken`.
fn moduli(count: usize, bits: u32, taken: &[Modulus]) -> Vec<Modulus> {
    let mut skip: Vec<u64> = taken.iter().map(Modulus::value).collect();
    (0..count)
        .map(|i| {
            let width = 20 + (bits + 7 * i as u32) % 31;
            let prime = ntt_primes(16, width, 1, &skip).unwrap()[0];
            skip.push(prime);
            Modulus::new(prime).unwrap()
        })
        .collect()
}

fn product(moduli: &[Modulus]) -> BigInt {
    moduli.iter().map(|m| BigInt::from(m.value())).product()
}

fn residue(x: &BigInt, m: &Modulus) -> u64 {
    let q = BigInt::from(m.value());
    u64::try_from(((x % &q) + &q) % &q).unwrap()
}

/// Row after row, the residues of all integers modulo one prime.
fn residues(x: &[BigInt], moduli: &[Modulus]) -> Vec<u64> {
    moduli
        .iter()
        .flat_map(|m| x.iter().map(|x| residue(x, m)))
        .collect()
}

/// Integers in `(-Q/2, Q/2)`: random ones, small ones, and those at some distance from the ends and from zero. `2^-40 Q` is far more
/// than the width around the ends in which either representative may come out.
fn centred(q: &BigInt, count: usize, seed: u64) -> Vec<BigInt> {
    let mut state = seed;
    let mut word = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        state >> 11
    };
    let half: BigInt = q / 2;
    let margin = (q >> 40u32) + 1;
    let words = q.bits() / 50 + 2;
    (0..count)
        .map(|_| {
            let kind = word() % 8;
            let drawn = (0..words).fold(BigInt::ZERO, |x, _| (x << 50u32) + (word() & ((1 << 50) - 1)));
            let inner = drawn % (q - &margin * 2) - (&half - &margin);
            match kind {
                0 => &half - &margin - word() % 3,
                1 => &margin - &half + word() % 3,
                2 => BigInt::from(word() % 5) - 2,
                _ => inner,
            }
        })
        .filter(|x| x * 2 < *q && x * -2 < *q)
        .collect()
}

/// The same conversion whole, with used memory, and row by row.
fn convert(converter: &BasisConverter, input: &[u64], length: usize) -> [Vec<u64>; 3] {
    let targets = converter.targets();
    let mut whole = vec![7; length * targets];
    converter.convert(input, &mut whole).unwrap();
    let mut used = vec![7; length * targets];
    let mut scratch = vec![u64::MAX; 17];
    converter.convert_with(input, &mut used, &mut scratch).unwrap();
    let mut scaled = vec![7; length * (converter.sources() + 1)];
    converter.prepare(input, &mut scaled).unwrap();
    let mut rows = vec![7; length * targets];
    for index in 0..targets {
        let row = &mut rows[index * length..(index + 1) * length];
        converter.convert_row(index, &scaled, row).unwrap();
    }
    [whole, used, rows]
}

proptest! {
    #[test]
    fn is_exact_on_every_backend(
        from in 1usize..=MAX_CONVERTED, to in 1usize..=4, bits in 0u32..31, count in 0usize..70, seed: u64,
    ) {
        let q = moduli(from, bits, &[]);
        let p = moduli(to, bits + 13, &q);
        let x = centred(&product(&q), count, seed);
        let (input, expected) = (residues(&x, &q), residues(&x, &p));
        for k in all() {
            let converter = BasisConverter::on(k, &q, &p).unwrap();
            for converted in convert(&converter, &input, x.len()) {
                prop_assert_eq!(&converted, &expected, "{}", k.backend());
            }
        }
    }

    /// Around `Q/2` either representative may come out, but the same on every backend, congruent and hardly larger.
    #[test]
    fn agrees_at_the_ends(from in 1usize..=MAX_CONVERTED, bits in 0u32..31, steps in proptest::collection::vec(-9i64..10, 1..40)) {
        let q = moduli(from, bits, &[]);
        let p = moduli(MAX_CONVERTED + 1, 50, &q);
        let whole = product(&q);
        let half: BigInt = &whole / 2;
        let x: Vec<BigInt> = steps.iter().map(|step| &half + step).collect();
        let input = residues(&x, &q);
        let mut first: Option<Vec<u64>> = None;
        for k in all() {
            let converter = BasisConverter::on(k, &q, &p).unwrap();
            for converted in convert(&converter, &input, x.len()) {
                let known = first.get_or_insert_with(|| converted.clone());
                prop_assert_eq!(&*known, &converted, "{}", k.backend());
            }
        }
        for (j, x) in x.iter().enumerate() {
            // Below the upper end or, one period lower, above the lower one.
            let fits = [x.clone(), x - &whole].iter().any(|one| {
                p.iter().enumerate().all(|(i, m)| {
                    first.as_ref().unwrap()[i * steps.len() + j] == residue(one, m)
                })
            });
            prop_assert!(fits, "{x}");
        }
    }
}

/// Coefficients are converted in tiles: lengths around one and two of them.
#[test]
#[cfg_attr(miri, ignore = "real lengths are out of Miri's reach")]
fn tiles_are_seamless() {
    let q = moduli(3, 29, &[]);
    let p = moduli(2, 30, &q);
    for length in [511, 512, 513, 1024, 1031] {
        let x = centred(&product(&q), length, length as u64);
        let (input, expected) = (residues(&x, &q), residues(&x, &p));
        for k in all() {
            let converter = BasisConverter::on(k, &q, &p).unwrap();
            for converted in convert(&converter, &input, x.len()) {
                assert!(converted == expected, "{} at {length}", k.backend());
            }
        }
    }
}
