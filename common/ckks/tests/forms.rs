//! Forms that reuse memory, fused steps, and operations that align levels and scales, against the plain ones.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{tiny_of, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::extended::Extended;
use galen_ckks::keys::{RelinKey, SecretKey};
use galen_rns::ring::RingKind;
use galen_rns::xof::Xof;
use std::sync::Arc;

struct World {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
    relin: RelinKey,
}

fn world(kind: RingKind) -> World {
    let context = tiny_of(kind, 5, 2, 2);
    let key = SecretKey::from_seed(&context, &[5; 32]).unwrap();
    World {
        ev: Evaluator::new(&context).with_min_precision(-1000.0),
        relin: key.relin_key().unwrap(),
        key,
        context,
    }
}

impl World {
    fn encrypt(&self, values: &[f64], level: usize) -> Ciphertext {
        let scale = self.context.scale(level).unwrap();
        let plain = self.context.encode_at(values, 1.0, level, scale).unwrap();
        self.key.encrypt_with_seed(&plain, &[level as u8; 32]).unwrap()
    }

    fn decode(&self, ct: &Ciphertext) -> Vec<f64> {
        self.context.decode(&self.key.decrypt(ct).unwrap()).unwrap()
    }

    fn check(&self, ct: &Ciphertext, expected: impl Fn(usize) -> f64) {
        let bound = ct.noise_bound() / ct.scale() + 1e-12;
        for (k, got) in self.decode(ct).iter().enumerate() {
            let want = expected(k);
            assert!((got - want).abs() <= bound, "slot {k}: {got} {want} {bound}");
            assert!(want.abs() <= ct.magnitude_bound() + 1e-12);
        }
    }
}

/// A result that was used for something else before, at a higher and at a lower level.
fn used(w: &World) -> [Ciphertext; 3] {
    let high = w.ev.square(&w.encrypt(&[0.5], 5)).unwrap();
    [w.ev.empty(), high, w.encrypt(&[0.1], 0)]
}

#[test]
fn results_do_not_depend_on_what_was_there() {
    let w = world(RingKind::Cyclotomic);
    let n = w.context.slots();
    let keys = w.key.galois_keys_and_conjugation(&[3]).unwrap();
    let (a, b) = (w.encrypt(&values(n, 1), 3), w.encrypt(&values(n, 2), 3));
    let square = w.ev.square(&a).unwrap();
    let plain = w.context.encode_at(&values(n, 3), 1.0, 3, a.scale()).unwrap();
    let product = w.context.product_target(2).unwrap();
    for out in used(&w) {
        let same = |f: &dyn Fn(&mut Ciphertext) -> Result<(), CkksError>,
                    expected: Result<Ciphertext, CkksError>| {
            let mut out = out.clone();
            f(&mut out).unwrap();
            assert_eq!(out, expected.unwrap());
        };
        same(&|o| w.ev.add_into(&a, &b, o), w.ev.add(&a, &b));
        same(&|o| w.ev.sub_into(&a, &b, o), w.ev.sub(&a, &b));
        same(
            &|o| w.ev.mul_plain_into(&a, &plain, o),
            w.ev.mul_plain(&a, &plain),
        );
        // In one step it is bit for bit what it is in two.
        same(
            &|o| w.ev.mul_plain_rescale_into(&a, &plain, o),
            w.ev.rescale(&w.ev.mul_plain(&a, &plain).unwrap()),
        );
        same(
            &|o| w.ev.mul_scalar_into(&a, 0.3, product, o),
            w.ev.mul_scalar(&a, 0.3, product),
        );
        same(&|o| w.ev.multiply_into(&a, &b, o), w.ev.multiply(&a, &b));
        same(&|o| w.ev.square_into(&a, o), w.ev.square(&a));
        same(&|o| w.ev.rescale_into(&square, o), w.ev.rescale(&square));
        same(
            &|o| w.ev.drop_level_into(&square, 1, o),
            w.ev.drop_level(&square, 1),
        );
        same(
            &|o| w.ev.relinearise_into(&square, &w.relin, o),
            w.ev.relinearise(&square, &w.relin),
        );
        same(
            &|o| w.ev.relinearise_into(&a, &w.relin, o),
            w.ev.relinearise(&a, &w.relin),
        );
        same(
            &|o| w.ev.relin_rescale_into(&square, &w.relin, o),
            w.ev.square_relin_rescale(&a, &w.relin),
        );
        same(
            &|o| w.ev.multiply_relin_rescale_into(&a, &b, &w.relin, o),
            w.ev.relin_rescale(&w.ev.multiply(&a, &b).unwrap(), &w.relin),
        );
        same(&|o| w.ev.rotate_into(&a, 3, &keys, o), w.ev.rotate(&a, 3, &keys));
        same(&|o| w.ev.rotate_into(&a, 0, &keys, o), Ok(a.clone()));
        same(&|o| w.ev.conjugate_into(&a, &keys, o), w.ev.conjugate(&a, &keys));
        // Fresh randomness each time, so only the values can be compared.
        let mut fresh = out.clone();
        w.key.encrypt_into(&plain, &mut fresh).unwrap();
        w.check(&fresh, |k| values(n, 3)[k]);
        assert_eq!(
            Ciphertext::from_bytes(&w.context, &fresh.to_bytes().unwrap()),
            Ok(fresh)
        );
        let mut fresh = out.clone();
        w.key
            .public_key()
            .unwrap()
            .encrypt_into(&plain, &mut fresh)
            .unwrap();
        w.check(&fresh, |k| values(n, 3)[k]);
        for ct in [&a, &square] {
            let mut message = w.key.decrypt(&out.clone()).unwrap_or_else(|_| plain.clone());
            w.key.decrypt_into(ct, &mut message).unwrap();
            assert_eq!(message.poly(), w.key.decrypt(ct).unwrap().poly());
            assert_eq!((message.level(), message.slots()), (ct.level(), ct.slots()));
        }
    }
}

#[test]
fn hoisted_results_do_not_depend_on_what_was_there() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = world(kind);
        let n = w.context.slots();
        let steps = [3i64, 0, -1, n as i64];
        let keys = w.key.galois_keys(&steps).unwrap();
        let (a, high, low) = (
            w.encrypt(&values(n, 1), 3),
            w.encrypt(&values(n, 2), 5),
            w.encrypt(&[0.1], 0),
        );
        let expected = w.ev.rotate_hoisted(&a, &steps, &keys).unwrap();
        let hoisted = w.ev.hoist(&a).unwrap();
        let scale = w.context.scale(3).unwrap();
        let plain = w.context.encode_extended(&values(n, 3), 1.0, 3, scale).unwrap();
        let rotated = w.ev.rotate_extended(&hoisted, 3, &keys).unwrap();
        let product = w.ev.mul_extended(&rotated, &plain).unwrap();
        let reduce = |sum: &Extended| w.ev.reduce(sum).unwrap();

        // Too many, too few and none, of other levels and degrees.
        for mut outputs in [[used(&w), used(&w)].concat(), vec![high.clone()], Vec::new()] {
            w.ev.rotate_hoisted_into(&a, &steps, &keys, &mut outputs).unwrap();
            assert_eq!(outputs, expected);
            // Once it is there, memory stays where it is.
            let places = |outputs: &[Ciphertext]| -> Vec<_> {
                let parts = outputs.iter().flat_map(Ciphertext::parts);
                parts.map(|part| part.data().as_ptr()).collect()
            };
            let before = places(&outputs);
            w.ev.rotate_hoisted_into(&a, &steps, &keys, &mut outputs).unwrap();
            assert_eq!(places(&outputs), before);
        }
        let used_hoisted = [
            w.ev.empty_hoisted(),
            w.ev.hoist(&high).unwrap(),
            w.ev.hoist(&low).unwrap(),
        ];
        for mut again in used_hoisted {
            w.ev.hoist_into(&a, &mut again).unwrap();
            assert_eq!(again.ciphertext(), &a);
            for out in used(&w) {
                for (&steps, expected) in steps.iter().zip(&expected) {
                    let mut out = out.clone();
                    w.ev.rotate_from_into(&again, steps, &keys, &mut out).unwrap();
                    assert_eq!(&out, expected);
                }
            }
        }
        let used_extended = [
            w.ev.empty_extended(),
            w.ev.extend(&high).unwrap(),
            w.ev.extend(&low).unwrap(),
        ];
        for out in used_extended {
            let mut sum = out.clone();
            w.ev.extend_into(&a, &mut sum).unwrap();
            assert_eq!(reduce(&sum), reduce(&w.ev.extend(&a).unwrap()));
            for steps in [3, 0] {
                w.ev.rotate_extended_into(&hoisted, steps, &keys, &mut sum)
                    .unwrap();
                let expected = w.ev.rotate_extended(&hoisted, steps, &keys).unwrap();
                assert_eq!(reduce(&sum), reduce(&expected));
            }
            let mut sum = out;
            w.ev.mul_extended_into(&rotated, &plain, &mut sum).unwrap();
            assert_eq!(reduce(&sum), reduce(&product));
            for out in used(&w) {
                let mut reduced = out.clone();
                w.ev.reduce_into(&sum, &mut reduced).unwrap();
                assert_eq!(reduced, reduce(&product));
                let mut rescaled = out;
                w.ev.reduce_rescale_into(&sum, &mut rescaled).unwrap();
                assert_eq!(rescaled, w.ev.reduce_rescale(&product).unwrap());
            }
        }
    }
}

#[test]
fn in_place_is_the_same() {
    let w = world(RingKind::ConjugateInvariant);
    let n = w.context.slots();
    let (a, b) = (w.encrypt(&values(n, 1), 3), w.encrypt(&values(n, 2), 3));
    let square = w.ev.square(&b).unwrap();
    let plain = w.context.encode_at(&values(n, 3), 1.0, 3, a.scale()).unwrap();
    let same = |start: &Ciphertext,
                f: &dyn Fn(&mut Ciphertext) -> Result<(), CkksError>,
                expected: Result<Ciphertext, CkksError>| {
        let mut x = start.clone();
        f(&mut x).unwrap();
        assert_eq!(x, expected.unwrap());
    };
    same(&a, &|x| w.ev.add_assign(x, &b), w.ev.add(&a, &b));
    same(&a, &|x| w.ev.sub_assign(x, &b), w.ev.sub(&a, &b));
    same(&a, &|x| w.ev.neg_assign(x), w.ev.neg(&a));
    same(
        &a,
        &|x| w.ev.add_plain_assign(x, &plain),
        w.ev.add_plain(&a, &plain),
    );
    same(
        &a,
        &|x| w.ev.mul_plain_assign(x, &plain),
        w.ev.mul_plain(&a, &plain),
    );
    same(&a, &|x| w.ev.mul_integer_assign(x, -3), w.ev.mul_integer(&a, -3));
    same(&square, &|x| w.ev.rescale_assign(x), w.ev.rescale(&square));
    same(
        &square,
        &|x| w.ev.drop_level_assign(x, 1),
        w.ev.drop_level(&square, 1),
    );
    let mut difference = w.ev.add_plain(&a, &plain).unwrap();
    w.ev.sub_plain_assign(&mut difference, &plain).unwrap();
    assert_eq!(difference.parts(), a.parts());
    let mut sum = square.clone();
    w.ev.multiply_add_assign(&mut sum, &a, &b).unwrap();
    let expected = w.ev.add(&square, &w.ev.multiply(&a, &b).unwrap()).unwrap();
    assert_eq!((sum.parts(), sum.budget()), (expected.parts(), expected.budget()));
    w.check(&w.ev.mul_integer(&a, -3).unwrap(), |k| -3.0 * values(n, 1)[k]);
    w.check(&w.ev.mul_integer(&a, 0).unwrap(), |_| 0.0);
}

#[test]
fn fused_steps_keep_their_bounds_at_every_level() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = world(kind);
        let n = w.context.slots();
        let (x, y) = (values(n, 1), values(n, 2));
        for level in 1..=5 {
            let (a, b) = (w.encrypt(&x, level), w.encrypt(&y, level));
            let product = w.ev.multiply_relin_rescale(&a, &b, &w.relin).unwrap();
            assert_eq!((product.level(), product.degree()), (level - 1, 1));
            assert_eq!(product.scale(), w.context.scale(level - 1).unwrap());
            w.check(&product, |k| x[k] * y[k]);
            let square = w.ev.square_relin_rescale(&a, &w.relin).unwrap();
            w.check(&square, |k| x[k] * x[k]);
        }
        let bottom = w.encrypt(&[1e-6], 0);
        assert!(w.ev.square_relin_rescale(&bottom, &w.relin).is_err());
    }
}

#[test]
fn a_refused_operation_leaves_its_destination() {
    let w = world(RingKind::Cyclotomic);
    let (a, b) = (w.encrypt(&[0.5], 3), w.encrypt(&[0.5], 2));
    let mut out = w.encrypt(&[0.25], 1);
    let before = out.clone();
    let nothing = Target {
        level: 4,
        scale: 1e12,
    };
    assert!(w.ev.add_into(&a, &b, &mut out).is_err());
    assert!(w.ev.multiply_into(&a, &b, &mut out).is_err());
    assert!(
        w.ev.multiply_relin_rescale_into(&a, &b, &w.relin, &mut out)
            .is_err()
    );
    assert!(w.ev.mul_scalar_into(&a, 1.0, nothing, &mut out).is_err());
    assert!(
        w.ev.mul_scalar_into(&a, f64::NAN, Target { level: 1, ..nothing }, &mut out)
            .is_err()
    );
    assert!(w.ev.drop_level_into(&a, 4, &mut out).is_err());
    assert!(w.ev.rescale_into(&w.encrypt(&[0.1], 0), &mut out).is_err());
    let keys = w.key.galois_keys(&[1]).unwrap();
    assert!(w.ev.rotate_into(&a, 2, &keys, &mut out).is_err());
    assert_eq!(out, before);
    let mut outputs = vec![out];
    assert!(
        w.ev.rotate_hoisted_into(&a, &[1, 2], &keys, &mut outputs)
            .is_err()
    );
    assert_eq!(outputs, [before]);
    let strict = w.ev.clone().with_min_precision(1000.0);
    assert!(
        strict
            .rotate_hoisted_into(&a, &[0, 1], &keys, &mut outputs)
            .is_err()
    );
    assert_eq!(outputs.len(), 1);
    let mut hoisted = w.ev.hoist(&b).unwrap();
    assert!(w.ev.hoist_into(&w.ev.square(&a).unwrap(), &mut hoisted).is_err());
    assert_eq!(hoisted.ciphertext(), &b);
}

#[test]
fn aligned_operations_land_on_nominal_scales() {
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let w = world(kind);
        let op = w.ev.aligned(&w.relin);
        let n = w.context.slots();
        for seed in 0..12u8 {
            let mut xof = Xof::new(&[seed; 32], &[b"aligned"]);
            let mut pool: Vec<(Ciphertext, Vec<f64>)> = (0..3)
                .map(|i| {
                    let x = values(n, u64::from(seed) * 8 + i);
                    (w.encrypt(&x, 3 + i as usize % 3), x)
                })
                .collect();
            // One that is not nominal: an unrescaled product of degree 2.
            let (ct, x) = &pool[0];
            pool.push((w.ev.square(ct).unwrap(), x.iter().map(|x| x * x).collect()));
            for _ in 0..14 {
                let (i, j) = (
                    xof.next_u64() as usize % pool.len(),
                    xof.next_u64() as usize % pool.len(),
                );
                let ((a, x), (b, y)) = (&pool[i], &pool[j]);
                let both =
                    |f: fn(f64, f64) -> f64| x.iter().zip(y).map(|(&x, &y)| f(x, y)).collect::<Vec<_>>();
                let (result, expected) = match xof.next_u64() % 7 {
                    0 => (op.add(a, b), both(|x, y| x + y)),
                    1 => (op.sub(a, b), both(|x, y| x - y)),
                    2 => (op.mul(a, b), both(|x, y| x * y)),
                    3 => (op.square(a), both(|x, _| x * x)),
                    4 => (op.mul_const(a, -0.7), both(|x, _| -0.7 * x)),
                    5 => (op.add_const(a, 0.4), both(|x, _| x + 0.4)),
                    _ => (op.mul_values(a, y, 64.0), both(|x, y| x * y)),
                };
                let Ok(ct) = result else {
                    continue;
                };
                assert_eq!(ct.degree(), 1);
                assert_eq!(ct.scale(), w.context.scale(ct.level()).unwrap());
                w.check(&ct, |k| expected[k]);
                // Far more than the bits of a constant: no drift, at any depth.
                assert!(ct.precision_bits() > 12.0, "{}", ct.precision_bits());
                pool.push((ct, expected));
            }
            assert!(pool.len() > 7);
        }
        let ct = w.encrypt(&[0.5], 5);
        for level in 0..=5 {
            let low = op.at_level(&ct, level).unwrap();
            assert_eq!(
                (low.level(), low.scale()),
                (level, w.context.scale(level).unwrap())
            );
            w.check(&low, |_| 0.5);
        }
        let low = w.encrypt(&[0.5], 0);
        assert_eq!(op.mul(&ct, &low).unwrap_err(), CkksError::NoLevelLeft);
        assert_eq!(op.mul_const(&low, 2.0), Err(CkksError::NoLevelLeft));
        assert!(matches!(op.at_level(&low, 1), Err(CkksError::LevelRange { .. })));
    }
}
