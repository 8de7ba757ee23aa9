//! Rotations, conjugation, hoisting and sums over QP, in both rings and for digits of several sizes.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{tiny_of, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::error::Malformed;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::galois::GaloisKeys;
use galen_ckks::keys::SecretKey;
use galen_rns::ring::RingKind;
use std::sync::Arc;

const KINDS: [RingKind; 2] = [RingKind::Cyclotomic, RingKind::ConjugateInvariant];

struct World {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
}

fn world(kind: RingKind, special: usize, digit: usize) -> World {
    let context = tiny_of(kind, 4, special, digit);
    World {
        ev: Evaluator::new(&context).with_min_precision(-1000.0),
        key: SecretKey::from_seed(&context, &[5; 32]).unwrap(),
        context,
    }
}

impl World {
    fn encrypt(&self, values: &[f64], level: usize) -> Ciphertext {
        let scale = self.context.scale(level).unwrap();
        let plain = self.context.encode_at(values, 1.0, level, scale).unwrap();
        self.key.encrypt_with_seed(&plain, &[level as u8; 32]).unwrap()
    }

    /// Slots within the ciphertext's own bound of what is expected.
    fn check(&self, ct: &Ciphertext, expected: impl Fn(usize) -> f64) {
        let decoded = self.context.decode(&self.key.decrypt(ct).unwrap()).unwrap();
        let bound = ct.noise_bound() / ct.scale() + 1e-12;
        assert_eq!(decoded.len(), ct.slots());
        for (k, got) in decoded.iter().enumerate() {
            let want = expected(k);
            assert!((got - want).abs() <= bound, "slot {k}: {got} {want} {bound}");
        }
    }
}

#[test]
fn slots_move_to_the_left() {
    for kind in KINDS {
        for (special, digit) in [(1, 1), (2, 2), (2, 3), (1, 5), (3, 1)] {
            let w = world(kind, special, digit);
            let n = w.context.slots();
            let steps = [1i64, 2, 7, -1, n as i64 / 2, 3 * n as i64 + 5, 0, n as i64];
            let keys = w.key.galois_keys(&steps).unwrap();
            let x = values(n, 3);
            for level in [0, 1, 4] {
                let ct = w.encrypt(&x, level);
                let hoisted = w.ev.hoist(&ct).unwrap();
                let all = w.ev.rotate_hoisted(&ct, &steps, &keys).unwrap();
                for (&steps, hoisted_ct) in steps.iter().zip(&all) {
                    let rotated = w.ev.rotate(&ct, steps, &keys).unwrap();
                    assert_eq!((rotated.level(), rotated.scale()), (level, ct.scale()));
                    w.check(&rotated, |k| x[(k as i64 + steps).rem_euclid(n as i64) as usize]);
                    assert_eq!(&rotated, hoisted_ct);
                    assert_eq!(rotated, w.ev.rotate_from(&hoisted, steps, &keys).unwrap());
                    let extended = w.ev.rotate_extended(&hoisted, steps, &keys).unwrap();
                    let reduced = w.ev.reduce(&extended).unwrap();
                    w.check(&reduced, |k| x[(k as i64 + steps).rem_euclid(n as i64) as usize]);
                }
            }
        }
    }
}

#[test]
fn a_few_values_move_too() {
    let w = world(RingKind::Cyclotomic, 2, 2);
    let ct = w.encrypt(&[0.25, -0.5], 4);
    assert_eq!(ct.slots(), 2);
    let keys = w.key.galois_keys(&[1]).unwrap();
    let n = w.context.slots();
    let rotated = w.ev.rotate(&ct, 1, &keys).unwrap();
    w.check(&rotated, |k| match k {
        0 => -0.5,
        _ if k == n - 1 => 0.25,
        _ => 0.0,
    });
}

#[test]
fn conjugation_leaves_real_values() {
    let w = world(RingKind::Cyclotomic, 2, 2);
    let x = values(w.context.slots(), 3);
    let ct = w.encrypt(&x, 3);
    let keys = w.key.galois_keys_and_conjugation(&[]).unwrap();
    assert!(keys.has_conjugation() && keys.rotations().is_empty());
    let conjugate = w.ev.conjugate(&ct, &keys).unwrap();
    assert_ne!(conjugate.parts(), ct.parts());
    w.check(&conjugate, |k| x[k]);
    let rotations = w.key.galois_keys(&[1]).unwrap();
    assert_eq!(
        w.ev.conjugate(&ct, &rotations),
        Err(CkksError::MissingConjugation)
    );
    let both = rotations.merge(keys).unwrap();
    assert!(both.has_conjugation() && both.has_rotation(1) && !both.has_rotation(2));
    w.check(&w.ev.conjugate(&ct, &both).unwrap(), |k| x[k]);

    let real = world(RingKind::ConjugateInvariant, 2, 2);
    let refused = real.key.galois_keys_and_conjugation(&[]);
    assert!(matches!(refused, Err(CkksError::NoConjugation)));
}

#[test]
fn what_is_missing_is_named() {
    let w = world(RingKind::Cyclotomic, 1, 1);
    let ct = w.encrypt(&[0.5], 4);
    let keys = w.key.galois_keys(&[1, 4]).unwrap();
    assert_eq!(keys.rotations(), [1, 4]);
    let missing = |steps| CkksError::MissingRotation {
        steps,
        slots: 32,
        available: 2,
    };
    assert_eq!(w.ev.rotate(&ct, -3, &keys), Err(missing(29)));
    assert_eq!(w.ev.rotate_hoisted(&ct, &[1, 5], &keys), Err(missing(5)));
    assert!(missing(29).to_string().contains("galois_keys(&[29])"));
    let other = SecretKey::from_seed(&w.context, &[6; 32]).unwrap();
    let foreign = other.galois_keys(&[1]).unwrap();
    assert_eq!(w.ev.rotate(&ct, 1, &foreign), Err(CkksError::KeyMismatch));
    assert!(matches!(keys.clone().merge(foreign), Err(CkksError::KeyMismatch)));
    let square = w.ev.square(&ct).unwrap();
    assert_eq!(
        w.ev.rotate(&square, 1, &keys),
        Err(CkksError::CiphertextDegree { degree: 2, needed: 1 })
    );
    assert!(matches!(
        w.key.galois_keys(&[0]),
        Err(CkksError::Count { count: 0, .. })
    ));
    let elsewhere = world(RingKind::Cyclotomic, 2, 2);
    assert_eq!(
        elsewhere.ev.rotate(&elsewhere.encrypt(&[0.5], 4), 1, &keys),
        Err(CkksError::PresetMismatch)
    );
}

/// A linear transform by baby and giant steps, with one division by P at the end of each.
#[test]
fn sums_over_qp_are_divided_once() {
    for kind in KINDS {
        let w = world(kind, 2, 2);
        let n = w.context.slots();
        let keys = w.key.galois_keys(&[1, 2, 3, 4, 8]).unwrap();
        let x = values(n, 1);
        let level = 3;
        let ct = w.encrypt(&x, level);
        let hoisted = w.ev.hoist(&ct).unwrap();
        let scale = w.context.scale(level).unwrap();
        let diagonals: Vec<Vec<f64>> = (0..12).map(|d| values(n, 10 + d)).collect();
        let at = |k: usize, steps: usize| x[(k + steps) % n];

        let mut outer: Option<galen_ckks::extended::Extended> = None;
        for giant in [0usize, 4, 8] {
            let mut inner: Option<galen_ckks::extended::Extended> = None;
            for baby in 0..4usize {
                let d = &diagonals[giant + baby];
                // Rotated back, as the giant step rotates it again.
                let turned: Vec<f64> = (0..n).map(|k| d[(k + n - giant) % n]).collect();
                let plain = w.context.encode_extended(&turned, 1.0, level, scale).unwrap();
                let rotated = w.ev.rotate_extended(&hoisted, baby as i64, &keys).unwrap();
                match &mut inner {
                    None => inner = Some(w.ev.mul_extended(&rotated, &plain).unwrap()),
                    Some(sum) => w.ev.mul_add_extended(sum, &rotated, &plain).unwrap(),
                }
            }
            let inner = inner.unwrap();
            match &mut outer {
                None => outer = Some(inner),
                Some(sum) => {
                    w.ev.rotate_add_extended(sum, &inner, giant as i64, &keys)
                        .unwrap()
                }
            }
        }
        let outer = outer.unwrap();
        let expected = |k: usize| (0..12).map(|d| diagonals[d][k] * at(k, d)).sum::<f64>();
        let reduced = w.ev.reduce(&outer).unwrap();
        assert_eq!((reduced.level(), reduced.scale()), (level, scale * scale));
        w.check(&reduced, expected);
        let rescaled = w.ev.reduce_rescale(&outer).unwrap();
        assert_eq!(rescaled.level(), level - 1);
        assert_eq!(rescaled.scale(), w.context.scale(level - 1).unwrap());
        w.check(&rescaled, expected);
    }
}

#[test]
fn keys_survive_the_trip_and_nothing_else_does() {
    let w = world(RingKind::Cyclotomic, 2, 2);
    let keys = w.key.galois_keys_and_conjugation(&[1, 5]).unwrap();
    let bytes = keys.to_bytes().unwrap();
    assert_eq!(bytes.len(), GaloisKeys::bytes_of(&w.context, 3));
    let back = GaloisKeys::from_bytes(&w.context, &bytes).unwrap();
    assert_eq!(back.to_bytes().unwrap(), bytes);
    let x = values(w.context.slots(), 8);
    let ct = w.encrypt(&x, 2);
    assert_eq!(
        w.ev.rotate(&ct, 5, &back).unwrap(),
        w.ev.rotate(&ct, 5, &keys).unwrap()
    );

    let refuse = |at: usize, with: &[u8]| {
        let mut bytes = bytes.clone();
        bytes[at..at + with.len()].copy_from_slice(with);
        match GaloisKeys::from_bytes(&w.context, &bytes) {
            Err(CkksError::Malformed(reason)) => reason,
            other => panic!("{other:?}"),
        }
    };
    // Header 39, digest 32, seed 32; then digits, count and the first element.
    assert_eq!(refuse(6, &[4]), Malformed::Type { tag: 4, expected: 6 });
    assert!(matches!(refuse(103, &[2]), Malformed::Count { count: 2, .. }));
    assert!(matches!(refuse(104, &[0, 0]), Malformed::Count { count: 0, .. }));
    assert!(matches!(refuse(104, &[0, 255]), Malformed::Count { .. }));
    assert!(matches!(refuse(104, &[4, 0]), Malformed::Truncated { .. }));
    assert!(matches!(refuse(104, &[2, 0]), Malformed::Trailing { .. }));
    // Even, one, beyond the order of X, and as large as the next.
    for element in [4u32, 1, 129, 53] {
        let second = refuse(106, &element.to_le_bytes());
        let expected = match element {
            53 => u64::from(u32::from_le_bytes(second_element(&bytes, &w.context))),
            _ => element.into(),
        };
        assert_eq!(second, Malformed::GaloisElement { element: expected });
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(matches!(
        GaloisKeys::from_bytes(&w.context, &long),
        Err(CkksError::Malformed(Malformed::Trailing { count: 1 }))
    ));
    for length in [0, 38, 100, 105, 107, bytes.len() - 1] {
        assert!(matches!(
            GaloisKeys::from_bytes(&w.context, &bytes[..length]),
            Err(CkksError::Malformed(Malformed::Truncated { .. }))
        ));
    }
    let elsewhere = world(RingKind::Cyclotomic, 1, 1);
    assert!(matches!(
        GaloisKeys::from_bytes(&elsewhere.context, &bytes),
        Err(CkksError::Malformed(Malformed::Preset))
    ));
}

/// The element of the second key in the bytes of three.
fn second_element(bytes: &[u8], context: &Context) -> [u8; 4] {
    let key = GaloisKeys::bytes_of(context, 1) - GaloisKeys::bytes_of(context, 0);
    bytes[106 + key..110 + key].try_into().unwrap()
}
