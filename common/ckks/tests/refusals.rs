//! What must be an error before it runs.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::codec::CiphertextSet;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use std::sync::Arc;

fn setup() -> (Arc<Context>, Evaluator, SecretKey) {
    let context = tiny(3, 2);
    let evaluator = Evaluator::new(&context).with_min_precision(-1000.0);
    let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
    (context, evaluator, key)
}

fn fresh(context: &Context, key: &SecretKey, magnitude: f64) -> Ciphertext {
    key.encrypt(&context.encode(&values(32, 1), magnitude).unwrap())
        .unwrap()
}

#[test]
fn overflow() {
    let (context, ev, key) = setup();
    // Level 0 has 50 bits and scale 2^40: 2^9 with its sign just does not fit, half of it does.
    let scale = context.scale(0).unwrap();
    let err = context.encode_at(&[1.0], 512.0, 0, scale).unwrap_err();
    let CkksError::Overflow {
        needed_bits,
        available_bits,
    } = err
    else {
        panic!("{err}")
    };
    assert!(
        (needed_bits - 50.0).abs() < 1e-3 && (available_bits - 50.0).abs() < 1e-3,
        "{err}"
    );
    let plain = context.encode_at(&[1.0], 256.0, 0, scale).unwrap();
    let ct = key.encrypt(&plain).unwrap();
    assert!(matches!(ev.add(&ct, &ct), Err(CkksError::Overflow { .. })));
    assert!(matches!(ev.sub(&ct, &ct), Err(CkksError::Overflow { .. })));
    assert!(matches!(
        ev.add_plain(&ct, &plain),
        Err(CkksError::Overflow { .. })
    ));
    assert!(matches!(
        ev.add_scalar(&ct, 300.0),
        Err(CkksError::Overflow { .. })
    ));
    assert!(matches!(ev.square(&ct), Err(CkksError::Overflow { .. })));
    assert!(matches!(ev.multiply(&ct, &ct), Err(CkksError::Overflow { .. })));
    assert!(matches!(
        ev.mul_plain(&ct, &plain),
        Err(CkksError::Overflow { .. })
    ));
    let target = Target { level: 0, scale };
    assert!(ev.mac_scalars(&[&ct, &ct], &[1.0, 0.0], target).is_ok());
    assert!(matches!(
        ev.mac_scalars(&[&ct, &ct], &[1.0, 1.0], target),
        Err(CkksError::Overflow { .. })
    ));
    let high = fresh(&context, &key, 1e4);
    assert!(matches!(ev.drop_level(&high, 0), Err(CkksError::Overflow { .. })));
    assert!(ev.drop_level(&high, 1).is_ok());
    assert!(matches!(
        high.clone().with_magnitude_bound(&context, 1e40),
        Err(CkksError::Overflow { .. })
    ));
    // A better bound opens the way that the derived one closed.
    assert!(
        ev.drop_level(&high.with_magnitude_bound(&context, 2.0).unwrap(), 0)
            .is_ok()
    );
    // Bounds that ran to infinity are refused, not taken for small.
    let mut wide = fresh(&context, &key, 1.0);
    let refused = (0..20).find_map(|_| {
        match ev.mac_scalars(
            &[&wide],
            &[1e20],
            Target {
                level: 3,
                scale: wide.scale(),
            },
        ) {
            Ok(next) => {
                wide = next;
                None
            }
            Err(error) => Some(error),
        }
    });
    assert!(matches!(refused, Some(CkksError::Overflow { .. })), "{refused:?}");
}

#[test]
fn precision() {
    let (context, _, key) = setup();
    let relin = key.relin_key().unwrap();
    let ct = fresh(&context, &key, 1.0);
    let strict = Evaluator::new(&context).with_min_precision(ct.precision_bits());
    let less = Evaluator::new(&context).with_min_precision(ct.precision_bits() - 3.0);
    let err = strict.add(&ct, &ct).unwrap_err();
    let CkksError::Precision {
        planned_bits,
        requested_bits,
    } = err
    else {
        panic!("{err}")
    };
    assert!((planned_bits - (ct.precision_bits() - 1.0)).abs() < 1e-6);
    assert_eq!(requested_bits, ct.precision_bits());
    assert!(less.add(&ct, &ct).is_ok());
    assert!(matches!(strict.square(&ct), Err(CkksError::Precision { .. })));
    let square = less.square(&ct).unwrap();
    assert!(matches!(
        strict.relinearise(&square, &relin),
        Err(CkksError::Precision { .. })
    ));
    assert!(matches!(
        strict.rescale(&square),
        Err(CkksError::Precision { .. })
    ));
    let target = context.product_target(3).unwrap();
    assert!(matches!(
        strict.mac_scalars(&[&ct], &[2.0], target),
        Err(CkksError::Precision { .. })
    ));
    assert!(matches!(
        strict.add_scalar(&ct, 0.1),
        Err(CkksError::Precision { .. })
    ));

    let plain = key.decrypt(&ct).unwrap();
    let bits = ct.precision_bits().floor() as u32;
    assert!(matches!(
        context.decode_rounded(&plain, bits + 1),
        Err(CkksError::Precision { .. })
    ));
    let rounded = context.decode_rounded(&plain, bits).unwrap();
    for (got, want) in rounded.iter().zip(values(32, 1)) {
        assert!((got - want).abs() <= f64::from(bits).exp2().recip() * 1.5);
    }
}

#[test]
fn operands_that_do_not_go_together() {
    let (context, ev, key) = setup();
    let ct = fresh(&context, &key, 1.0);
    let low = ev.drop_level(&ct, 2).unwrap();
    assert_eq!(
        ev.add(&ct, &low),
        Err(CkksError::LevelMismatch { left: 3, right: 2 })
    );
    assert!(matches!(
        ev.multiply(&ct, &low),
        Err(CkksError::LevelMismatch { .. })
    ));
    assert_eq!(
        ev.drop_level(&low, 3),
        Err(CkksError::LevelRange { level: 3, max: 2 })
    );
    assert!(matches!(
        ev.mac_scalars(&[&ct, &low], &[1.0; 2], context.product_target(3).unwrap()),
        Err(CkksError::LevelRange { level: 3, max: 2 })
    ));
    // One unit in the last place is another scale.
    let near = f64::from_bits(ct.scale().to_bits() + 1);
    let other = key
        .encrypt(&context.encode_at(&[0.5], 1.0, 3, near).unwrap())
        .unwrap();
    assert!(matches!(
        ev.add(&ct, &other),
        Err(CkksError::ScaleMismatch { .. })
    ));
    assert!(matches!(
        ev.sub(&ct, &other),
        Err(CkksError::ScaleMismatch { .. })
    ));

    let stranger = SecretKey::from_seed(&context, &[2; 32]).unwrap();
    let theirs = fresh(&context, &stranger, 1.0);
    assert_eq!(ev.add(&ct, &theirs), Err(CkksError::KeyMismatch));
    assert_eq!(ev.multiply(&ct, &theirs), Err(CkksError::KeyMismatch));
    assert_eq!(
        ev.mac_scalars(&[&ct, &theirs], &[1.0; 2], context.product_target(3).unwrap()),
        Err(CkksError::KeyMismatch)
    );
    assert!(matches!(key.decrypt(&theirs), Err(CkksError::KeyMismatch)));
    assert_eq!(
        CiphertextSet::new(vec![ct.clone(), theirs.clone()]),
        Err(CkksError::KeyMismatch)
    );
    let square = ev.square(&ct).unwrap();
    assert!(matches!(
        ev.relinearise(&square, &stranger.relin_key().unwrap()),
        Err(CkksError::KeyMismatch)
    ));
    assert_eq!(
        ev.square(&square),
        Err(CkksError::CiphertextDegree { degree: 2, needed: 1 })
    );
    assert_eq!(
        ev.multiply(&ct, &square),
        Err(CkksError::CiphertextDegree { degree: 2, needed: 1 })
    );

    let elsewhere = tiny(3, 1);
    let foreign_key = SecretKey::from_seed(&elsewhere, &[1; 32]).unwrap();
    let foreign = fresh(&elsewhere, &foreign_key, 1.0);
    let plain = elsewhere.encode(&[0.5], 1.0).unwrap();
    assert_eq!(ev.add(&ct, &foreign), Err(CkksError::PresetMismatch));
    assert_eq!(ev.square(&foreign), Err(CkksError::PresetMismatch));
    assert_eq!(ev.rescale(&foreign), Err(CkksError::PresetMismatch));
    assert_eq!(ev.add_plain(&ct, &plain), Err(CkksError::PresetMismatch));
    assert!(matches!(key.encrypt(&plain), Err(CkksError::PresetMismatch)));
    assert!(matches!(
        key.public_key().unwrap().encrypt(&plain),
        Err(CkksError::PresetMismatch)
    ));
    assert!(matches!(key.decrypt(&foreign), Err(CkksError::PresetMismatch)));
    assert!(matches!(context.decode(&plain), Err(CkksError::PresetMismatch)));
    assert!(matches!(
        ev.relinearise(&square, &foreign_key.relin_key().unwrap()),
        Err(CkksError::PresetMismatch)
    ));
    assert_eq!(
        CiphertextSet::new(vec![ct, foreign]),
        Err(CkksError::PresetMismatch)
    );
    assert!(matches!(
        CiphertextSet::new(Vec::new()),
        Err(CkksError::Count { count: 0, .. })
    ));
}

#[test]
fn numbers_out_of_range() {
    let (context, ev, key) = setup();
    let ct = fresh(&context, &key, 1.0);
    assert!(matches!(
        context.encode(&[], 1.0),
        Err(CkksError::Count {
            count: 0,
            max: 32,
            ..
        })
    ));
    assert!(matches!(
        context.encode(&[0.0; 33], 1.0),
        Err(CkksError::Count { count: 33, .. })
    ));
    assert!(matches!(
        context.encode(&[0.0, f64::NAN], 1.0),
        Err(CkksError::InvalidNumber { index: 1, .. })
    ));
    assert!(matches!(
        context.encode(&[f64::INFINITY], 1.0),
        Err(CkksError::InvalidNumber { index: 0, .. })
    ));
    assert_eq!(
        context.encode(&[0.0, 2.5], 2.0).unwrap_err(),
        CkksError::Magnitude {
            index: 1,
            magnitude: 2.0
        }
    );
    for magnitude in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(matches!(
            context.encode(&[0.0], magnitude),
            Err(CkksError::InvalidNumber { .. })
        ));
        assert!(matches!(
            ct.clone().with_magnitude_bound(&context, magnitude),
            Err(CkksError::InvalidNumber { .. })
        ));
    }
    for scale in [0.0, -4.0, 0.5, f64::NAN, f64::INFINITY, 1e300] {
        assert!(matches!(
            context.encode_at(&[0.0], 1.0, 1, scale),
            Err(CkksError::InvalidScale { .. })
        ));
        let refused = ev.mac_scalars(&[&ct], &[1.0], Target { level: 1, scale });
        assert!(matches!(refused, Err(CkksError::InvalidScale { .. })));
        assert!(matches!(
            ev.rescale_to(&ct, scale),
            Err(CkksError::InvalidScale { .. })
        ));
    }
    assert_eq!(
        context.encode_at(&[0.0], 1.0, 4, 2.0).unwrap_err(),
        CkksError::LevelRange { level: 4, max: 3 }
    );
    let target = context.product_target(3).unwrap();
    assert!(matches!(
        ev.mac_scalars(&[], &[], target),
        Err(CkksError::Count { count: 0, .. })
    ));
    assert!(matches!(
        ev.mac_scalars(&[&ct], &[1.0, 2.0], target),
        Err(CkksError::Count { count: 2, max: 1, .. })
    ));
    for weight in [f64::NAN, f64::INFINITY, 1e60] {
        assert!(matches!(
            ev.mac_scalars(&[&ct], &[weight], target),
            Err(CkksError::InvalidNumber { index: 0, .. })
        ));
        // Any constant has residues, as long as the modulus holds it.
        let refused = ev.add_scalar(&ct, weight);
        match weight.is_finite() {
            true => assert!(matches!(refused, Err(CkksError::Overflow { .. }))),
            false => assert!(matches!(refused, Err(CkksError::InvalidNumber { .. }))),
        }
    }
    let bottom = ev.drop_level(&ct, 0).unwrap();
    assert_eq!(ev.rescale(&bottom), Err(CkksError::NoLevelLeft));
    assert!(matches!(
        context.product_target(4),
        Err(CkksError::LevelRange { .. })
    ));
}

#[test]
fn after_an_error_the_operand_is_unchanged() {
    let (context, ev, key) = setup();
    let mut ct = fresh(&context, &key, 1.0);
    let before = ct.clone();
    let low = ev.drop_level(&ct, 2).unwrap();
    assert!(ev.add_assign(&mut ct, &low).is_err());
    assert!(ev.add_scalar_assign(&mut ct, f64::NAN).is_err());
    assert_eq!(ct, before);
}

#[test]
fn zero_weights_give_an_exact_zero() {
    let (context, ev, key) = setup();
    let ct = fresh(&context, &key, 1.0);
    let zero = ev
        .mac_scalars(&[&ct, &ct], &[0.0, 0.0], context.product_target(3).unwrap())
        .unwrap();
    assert_eq!(context.decode(&key.decrypt(&zero).unwrap()).unwrap(), [0.0; 32]);
    assert!(zero.precision_bits().is_finite());
}
