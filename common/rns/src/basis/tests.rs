use super::{BasisConverter, Composer, ModDown, compose_centered};
use crate::error::RnsError;
use crate::modulus::Modulus;
use crate::poly::{Eval, Poly};
use crate::primes::ntt_primes;
use crate::ring::Ring;
use crate::xof::Xof;
use num_bigint::BigInt;
use proptest::prelude::*;

fn product(moduli: &[Modulus]) -> BigInt {
    moduli.iter().map(|m| BigInt::from(m.value())).product()
}

/// The centred integer with the residues at position `j` of flat coefficient data.
fn compose(moduli: &[Modulus], data: &[u64], j: usize) -> BigInt {
    let n = data.len() / moduli.len();
    let q = product(moduli);
    let mut x = BigInt::ZERO;
    for (i, m) in moduli.iter().enumerate() {
        let cofactor = &q / m.value();
        let inverse = m.inv(residue(&cofactor, m)).unwrap();
        x += &cofactor * m.mul(data[i * n + j], inverse);
    }
    x %= &q;
    if &x * 2 > q { x - q } else { x }
}

fn residue(x: &BigInt, m: &Modulus) -> u64 {
    let q = BigInt::from(m.value());
    u64::try_from(((x % &q) + &q) % &q).unwrap()
}

fn primes(bits: u32, count: usize, skip: &[u64]) -> Vec<u64> {
    ntt_primes(16, bits, count, skip).unwrap()
}

proptest! {
    #[test]
    fn composition_of_two(bits in 10u32..=50, x: i128, count in 1usize..=2) {
        let ring = Ring::new(16, &primes(bits, count, &[])).unwrap();
        let q = i128::try_from(product(ring.moduli())).unwrap();
        let half = (q - 1) / 2;
        let x = x.rem_euclid(q) - half;
        let residues: Vec<u64> = ring.moduli().iter().map(|m| m.reduce_i128(x)).collect();
        prop_assert_eq!(compose_centered(ring.moduli(), &residues), Ok(x));
        for edge in [half, -half, 0, 1, -1] {
            let residues: Vec<u64> = ring.moduli().iter().map(|m| m.reduce_i128(edge)).collect();
            prop_assert_eq!(compose_centered(ring.moduli(), &residues), Ok(edge));
        }
    }

    #[test]
    fn conversion_is_exact(from in 1usize..=6, to in 1usize..=5, bits in 20u32..=50, seed: [u8; 32]) {
        let q = Ring::new(16, &primes(bits, from, &[])).unwrap();
        let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
        let p = Ring::new(16, &primes(45, to, &skip)).unwrap();
        let x = Poly::<Eval>::uniform(&q, &mut Xof::new(&seed, &[b"conversion"])).into_coeff();
        let mut out = vec![0; 16 * to];
        BasisConverter::new(q.moduli(), p.moduli()).unwrap().convert(x.data(), &mut out).unwrap();
        for j in 0..16 {
            let value = compose(q.moduli(), x.data(), j);
            for (i, m) in p.moduli().iter().enumerate() {
                prop_assert_eq!(out[16 * i + j], residue(&value, m));
            }
        }
    }

    #[test]
    fn division_rounds(keep in 1usize..=5, drop in 1usize..=4, bits in 20u32..=50, seed: [u8; 32]) {
        let q = Ring::new(16, &primes(bits, keep, &[])).unwrap();
        let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
        let p = Ring::new(16, &primes(44, drop, &skip)).unwrap();
        let down = ModDown::new(&q, &p).unwrap();
        let x = Poly::<Eval>::uniform(down.full(), &mut Xof::new(&seed, &[b"division"]));
        let y = down.apply_eval(&x).unwrap().into_coeff();
        // A product is divided as it would be apart.
        let factor = Poly::<Eval>::uniform(down.full(), &mut Xof::new(&seed, &[b"factor"]));
        let mut whole = x.clone();
        whole.mul_assign(&factor).unwrap();
        let mut fused = Poly::<Eval>::zero(&q);
        down.apply_eval_product_batch(&[x.data()], factor.data(), &mut [fused.data_mut()], &mut Vec::new()).unwrap();
        prop_assert_eq!(&fused, &down.apply_eval(&whole).unwrap());
        let (x, divisor) = (x.into_coeff(), product(p.moduli()));
        for j in 0..16 {
            let value = compose(down.full().moduli(), x.data(), j);
            // round(value / divisor): floor of (2 value + divisor) / (2 divisor).
            let (numerator, denominator) = (&value * 2 + &divisor, &divisor * 2);
            let remainder = ((&numerator % &denominator) + &denominator) % &denominator;
            let rounded = (numerator - remainder) / denominator;
            for (i, m) in q.moduli().iter().enumerate() {
                prop_assert_eq!(y.residues(i)[j], residue(&rounded, m));
            }
        }
    }
}

#[test]
fn conversion_near_the_borders_stays_congruent_and_bounded() {
    let q = Ring::new(16, &primes(50, 15, &[])).unwrap();
    let skip: Vec<u64> = q.moduli().iter().map(Modulus::value).collect();
    let p = Ring::new(16, &primes(50, 16, &skip)).unwrap();
    let half = product(q.moduli()) / 2;
    let values: Vec<BigInt> = (-8i64..8).map(|d| &half + d).collect();
    let mut input = vec![0; 16 * 15];
    for (i, m) in q.moduli().iter().enumerate() {
        for (j, value) in values.iter().enumerate() {
            input[16 * i + j] = residue(value, m);
        }
    }
    let mut out = vec![0; 16 * 16];
    BasisConverter::new(q.moduli(), p.moduli())
        .unwrap()
        .convert(&input, &mut out)
        .unwrap();
    for (j, value) in values.iter().enumerate() {
        let converted = compose(p.moduli(), &out, j);
        assert!(((value - &converted) % product(q.moduli())) == BigInt::ZERO);
        let bound = &half + (&half >> 54);
        assert!(converted <= bound && -converted <= bound);
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let q = Ring::new(16, &primes(40, 3, &[])).unwrap();
    assert!(matches!(
        Composer::new(q.moduli()),
        Err(RnsError::ModulusCount { count: 3, .. })
    ));
    assert!(matches!(
        Composer::new(&[]),
        Err(RnsError::ModulusCount { count: 0, .. })
    ));
    let same = [q.moduli()[0]; 2];
    assert!(matches!(
        Composer::new(&same),
        Err(RnsError::RepeatedModulus { .. })
    ));
    assert!(matches!(
        BasisConverter::new(&same, q.moduli()),
        Err(RnsError::RepeatedModulus { .. })
    ));
    let two = Composer::new(&q.moduli()[..2]).unwrap();
    assert_eq!(
        two.compose_centered(&[1]),
        Err(RnsError::Length {
            expected: 2,
            actual: 1
        })
    );
    let m = q.moduli()[1].value();
    assert_eq!(
        two.compose_centered(&[0, m]),
        Err(RnsError::ResidueRange { index: 1, modulus: m })
    );
    let converter = BasisConverter::new(&q.moduli()[..2], &q.moduli()[2..]).unwrap();
    assert!(matches!(
        converter.convert(&[0; 5], &mut [0; 2]),
        Err(RnsError::Length { .. })
    ));
    assert!(matches!(
        converter.convert(&[0; 4], &mut [0; 3]),
        Err(RnsError::Length { .. })
    ));
    let down = ModDown::new(&q.prefix(2).unwrap(), &Ring::new(16, &[m]).unwrap());
    assert!(matches!(down, Err(RnsError::RepeatedModulus { .. })));
    let ok = ModDown::new(&q.prefix(1).unwrap(), &Ring::new(16, &[m]).unwrap()).unwrap();
    assert_eq!(ok.apply_eval(&Poly::zero(&q)), Err(RnsError::RingMismatch));
}
