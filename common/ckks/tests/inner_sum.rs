//! Sums over slots and copies into slots against their definition.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::values;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::inner_sum::rotations;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::ring::RingKind;
use std::sync::Arc;

struct World {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
}

fn world(ring: RingKind) -> World {
    let spec = PresetSpec {
        ring,
        degree: 64,
        base_bits: 50,
        levels: 2,
        scale_bits: 40,
        special: 2,
        special_bits: 50,
        digit: 2,
    };
    let context = Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap();
    World {
        ev: Evaluator::new(&context),
        key: SecretKey::from_seed(&context, &[8; 32]).unwrap(),
        context,
    }
}

impl World {
    fn encrypt(&self, x: &[f64]) -> Ciphertext {
        self.key.encrypt(&self.context.encode(x, 1.0).unwrap()).unwrap()
    }

    /// Keys for a sum, and one more so that there always is one.
    fn keys(&self, count: usize, stride: i64) -> GaloisKeys {
        let mut steps = rotations(&self.context, count, stride).unwrap();
        steps.push(17);
        self.key.galois_keys(&steps).unwrap()
    }

    fn check(&self, ct: &Ciphertext, expected: &[f64]) {
        let got = self.context.decode(&self.key.decrypt(ct).unwrap()).unwrap();
        assert_eq!(got.len(), expected.len());
        let bound = ct.noise_bound() / ct.scale();
        assert!(bound < 1e-6);
        for (got, expected) in got.iter().zip(expected) {
            assert!((got - expected).abs() <= bound, "{got} {expected}");
            assert!(expected.abs() <= ct.magnitude_bound() * (1.0 + 1e-12));
        }
    }
}

/// `sum of x[k + i stride]` by definition.
fn sums(x: &[f64], count: usize, stride: i64) -> Vec<f64> {
    let n = x.len() as i64;
    (0..n)
        .map(|k| {
            (0..count as i64)
                .map(|i| x[(k + i * stride).rem_euclid(n) as usize])
                .sum()
        })
        .collect()
}

#[test]
fn any_count_and_stride() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = world(kind);
        let n = w.context.slots();
        let x = values(n, 1);
        let ct = w.encrypt(&x);
        for stride in [1i64, -1, 3, -4] {
            for count in 1..=n / stride.unsigned_abs() as usize {
                let keys = w.keys(count, stride);
                let needed = rotations(&w.context, count, stride).unwrap();
                assert!(needed.len() <= count.next_power_of_two().trailing_zeros() as usize);
                let y = w.ev.inner_sum(&ct, count, stride, &keys).unwrap();
                assert_eq!((y.level(), y.scale()), (ct.level(), ct.scale()));
                w.check(&y, &sums(&x, count, stride));
                let copies = w.ev.replicate(&ct, count, -stride, &keys).unwrap();
                w.check(&copies, &sums(&x, count, stride));
            }
        }
    }
}

#[test]
fn copies_averages_and_dot_products() {
    let w = world(RingKind::Cyclotomic);
    let n = w.context.slots();
    let relin = w.key.relin_key().unwrap();
    let first = w.encrypt(&[0.25]);
    let copies = w.ev.replicate(&first, 5, 2, &w.keys(5, -2)).unwrap();
    let mut expected = vec![0.0; n];
    (0..5).for_each(|i| expected[2 * i] = 0.25);
    w.check(&copies, &expected);

    let (x, y) = (values(n, 1), values(n, 2));
    let (a, b) = (w.encrypt(&x), w.encrypt(&y));
    let keys = w.keys(7, 1);
    let average = w.ev.average(&a, 7, 1, &keys).unwrap();
    assert_eq!(
        (average.level(), average.scale()),
        (1, w.context.scale(1).unwrap())
    );
    assert!(average.magnitude_bound() <= 1.0);
    w.check(
        &average,
        &sums(&x, 7, 1).iter().map(|x| x / 7.0).collect::<Vec<_>>(),
    );

    let products: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    let dot = w.ev.dot(&a, &b, 7, 1, &relin, &keys).unwrap();
    assert_eq!((dot.level(), dot.scale()), (1, w.context.scale(1).unwrap()));
    w.check(&dot, &sums(&products, 7, 1));
    // Operands of different levels.
    let lower = w.ev.average(&b, 1, 1, &keys).unwrap();
    let dot = w.ev.dot(&a, &lower, 7, 1, &relin, &keys).unwrap();
    assert_eq!((dot.level(), dot.scale()), (0, w.context.scale(0).unwrap()));
    w.check(&dot, &sums(&products, 7, 1));

    let dot = w.ev.dot_plain(&a, &y, 7, 1, &keys).unwrap();
    assert_eq!((dot.level(), dot.scale()), (1, w.context.scale(1).unwrap()));
    w.check(&dot, &sums(&products, 7, 1));
    // An unrescaled product is rescaled first, and takes both levels.
    let square = w.ev.relinearise(&w.ev.square(&a).unwrap(), &relin).unwrap();
    let cubes: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * x * y).collect();
    let dot = w.ev.dot_plain(&square, &y, 7, 1, &keys).unwrap();
    assert_eq!((dot.level(), dot.scale()), (0, w.context.scale(0).unwrap()));
    w.check(&dot, &sums(&cubes, 7, 1));
}

#[test]
fn refusals() {
    let w = world(RingKind::Cyclotomic);
    let n = w.context.slots();
    let ct = w.encrypt(&[1.0]);
    let keys = w.keys(4, 1);
    for (count, stride) in [(0, 1), (n + 1, 1), (n, 2), (n / 2 + 1, -2), (2, 0), (2, i64::MIN)] {
        assert!(matches!(
            w.ev.inner_sum(&ct, count, stride, &keys),
            Err(CkksError::Count { .. })
        ));
        assert!(rotations(&w.context, count, stride).is_err());
    }
    assert!(matches!(
        w.ev.replicate(&ct, 2, i64::MIN, &keys),
        Err(CkksError::Count { .. })
    ));
    assert!(matches!(
        w.ev.inner_sum(&ct, 5, 1, &keys),
        Err(CkksError::MissingRotation { steps: 4, .. })
    ));
    let square = w.ev.square(&ct).unwrap();
    assert!(matches!(
        w.ev.inner_sum(&square, 4, 1, &keys),
        Err(CkksError::CiphertextDegree { .. })
    ));
    let last = w.ev.drop_level(&ct, 0).unwrap();
    assert_eq!(
        w.ev.average(&last, 4, 1, &keys).unwrap_err(),
        CkksError::NoLevelLeft
    );
    assert_eq!(
        w.ev.dot_plain(&last, &[1.0], 4, 1, &keys).unwrap_err(),
        CkksError::NoLevelLeft
    );
    assert!(w.ev.dot_plain(&ct, &[f64::NAN], 4, 1, &keys).is_err());
}
