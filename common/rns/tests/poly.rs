//! Ring elements against big integers, coefficient by coefficient.

#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_rns::RnsError;
use galen_rns::poly::{Coeff, Eval, Poly};
use galen_rns::primes::ntt_primes;
use galen_rns::ring::Ring;
use galen_rns::xof::Xof;
use proptest::prelude::*;
use std::sync::Arc;
use zeroize::Zeroize;

const N: usize = 16;

fn ring(count: usize) -> Arc<Ring> {
    Ring::new(N, &ntt_primes(N, 40, count, &[]).unwrap()).unwrap()
}

/// Coefficients small enough that i128 never wraps and the ring never does.
fn small() -> impl Strategy<Value = Vec<i64>> {
    proptest::collection::vec(-(1i64 << 25)..(1 << 25), N)
}

fn multiply(a: &[i64], b: &[i64]) -> Vec<i64> {
    let mut out = vec![0i64; N];
    for i in 0..N {
        for j in 0..N {
            out[(i + j) % N] += a[i] * b[j] * if i + j < N { 1 } else { -1 };
        }
    }
    out
}

fn eval(ring: &Arc<Ring>, x: &[i64]) -> Poly<Eval> {
    Poly::from_i64(ring, x).unwrap().into_eval()
}

proptest! {
    #[test]
    fn arithmetic(a in small(), b in small(), c in small(), w: i64, count in 1usize..4) {
        let r = ring(count);
        let of = |x: Vec<i64>| Poly::<Coeff>::from_i64(&r, &x).unwrap();
        let zip = |f: fn(i64, i64) -> i64| of(a.iter().zip(&b).map(|(&x, &y)| f(x, y)).collect());
        let scalars: Vec<u64> = r.moduli().iter().map(|m| m.reduce_i64(w)).collect();

        let mut x = eval(&r, &a);
        x.add_assign(&eval(&r, &b)).unwrap();
        prop_assert_eq!(x.into_coeff(), zip(|x, y| x + y));
        let mut x = of(a.clone());
        x.sub_assign(&of(b.clone())).unwrap();
        prop_assert_eq!(x, zip(|x, y| x - y));
        let mut x = of(a.clone());
        x.neg_assign();
        prop_assert_eq!(x, of(a.iter().map(|x| -x).collect()));

        let mut x = eval(&r, &a);
        x.mul_assign(&eval(&r, &b)).unwrap();
        prop_assert_eq!(x.clone().into_coeff(), of(multiply(&a, &b)));
        let mut y = eval(&r, &c);
        y.mul_add_assign(&eval(&r, &a), &eval(&r, &b)).unwrap();
        x.add_assign(&eval(&r, &c)).unwrap();
        prop_assert_eq!(&y, &x);

        let mut x = of(a.clone());
        x.mul_scalar_assign(&scalars).unwrap();
        for (i, m) in r.moduli().iter().enumerate() {
            for (j, &value) in a.iter().enumerate() {
                prop_assert_eq!(x.residues(i)[j], m.reduce_i128(i128::from(value) * i128::from(w)));
            }
        }
        let mut x = eval(&r, &a);
        x.add_scalar_assign(&scalars).unwrap();
        let mut y = of(a.clone());
        y.add_scalar_assign(&scalars).unwrap();
        let mut expected = a.iter().map(|&x| i128::from(x)).collect::<Vec<_>>();
        expected[0] += i128::from(w);
        for (i, m) in r.moduli().iter().enumerate() {
            for (j, &value) in expected.iter().enumerate() {
                prop_assert_eq!(y.residues(i)[j], m.reduce_i128(value));
            }
        }
        prop_assert_eq!(x.into_coeff(), y);
    }
}

#[test]
fn signed_bytes_and_words_agree() {
    let r = ring(2);
    let bytes: Vec<i8> = (0..N as i8).map(|i| i - 8).collect();
    let words: Vec<i64> = bytes.iter().map(|&x| i64::from(x)).collect();
    assert_eq!(
        Poly::from_i8(&r, &bytes).unwrap(),
        Poly::from_i64(&r, &words).unwrap()
    );
}

#[test]
fn restriction_keeps_the_first_primes() {
    let (r, x) = (
        ring(3),
        Poly::<Eval>::uniform(&ring(3), &mut Xof::new(&[0; 32], &[])),
    );
    let head = r.prefix(2).unwrap();
    let y = x.restrict(&head).unwrap();
    assert_eq!(y.data(), &x.data()[..2 * N]);
    assert_eq!(*y.ring(), head);
    let tail = Ring::new(N, &[r.moduli()[2].value()]).unwrap();
    assert_eq!(x.restrict(&tail), Err(RnsError::RingMismatch));
    assert_eq!(y.restrict(&r), Err(RnsError::RingMismatch));
}

#[test]
fn refuses_what_does_not_fit() {
    let (r, other) = (ring(2), ring(1));
    let mut x = Poly::<Eval>::zero(&r);
    let y = Poly::<Eval>::zero(&other);
    assert_eq!(x.add_assign(&y), Err(RnsError::RingMismatch));
    assert_eq!(x.sub_assign(&y), Err(RnsError::RingMismatch));
    assert_eq!(x.mul_assign(&y), Err(RnsError::RingMismatch));
    assert_eq!(x.mul_add_assign(&x.clone(), &y), Err(RnsError::RingMismatch));
    assert_eq!(x.mul_add_assign(&y, &x.clone()), Err(RnsError::RingMismatch));
    assert_eq!(
        x.mul_scalar_assign(&[1]),
        Err(RnsError::Length {
            expected: 2,
            actual: 1
        })
    );
    let q = r.moduli()[1].value();
    assert_eq!(
        x.add_scalar_assign(&[0, q]),
        Err(RnsError::ResidueRange { index: 1, modulus: q })
    );
    assert!(matches!(
        Poly::<Coeff>::from_data(&r, vec![0; 31]),
        Err(RnsError::Length { .. })
    ));
    let mut data = vec![0; 32];
    data[20] = q;
    assert_eq!(
        Poly::<Coeff>::from_data(&r, data),
        Err(RnsError::ResidueRange { index: 4, modulus: q })
    );
    assert!(matches!(
        Poly::from_i8(&r, &[0; 15]),
        Err(RnsError::Length {
            expected: 16,
            actual: 15
        })
    ));
}

#[test]
fn wiping_and_printing() {
    let r = ring(1);
    let mut x = Poly::<Eval>::uniform(&r, &mut Xof::new(&[0; 32], &[]));
    let shown = format!("{x:?}");
    assert!(!shown.contains(&x.data()[0].to_string()), "{shown}");
    x.zeroize();
    assert_eq!(x, Poly::zero(&r));
}

/// Results of megabytes are written in another way than those that fit in the caches.
#[test]
fn large_results_are_those_of_operations_in_place() {
    let degree = 1 << 15;
    let ring = Ring::new(degree, &ntt_primes(degree, 50, 9, &[]).unwrap()).unwrap();
    let mut xof = Xof::new(&[5; 32], &[b"large"]);
    let (a, b) = (Poly::uniform(&ring, &mut xof), Poly::uniform(&ring, &mut xof));
    let mut out = Poly::uniform(&ring, &mut xof);
    a.add_into(&b, &mut out).unwrap();
    let mut expected = a.clone();
    expected.add_assign(&b).unwrap();
    assert_eq!(out, expected);
    a.sub_into(&b, &mut out).unwrap();
    expected.clone_from(&a);
    expected.sub_assign(&b).unwrap();
    assert_eq!(out, expected);
    a.mul_into(&b, &mut out).unwrap();
    expected.clone_from(&a);
    expected.mul_assign(&b).unwrap();
    assert_eq!(out, expected);
}
