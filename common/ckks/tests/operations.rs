//! Every operation against big integers modulo `X^N + 1`, exactly, and against plain arithmetic in the slots.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{add, centre, integers, multiply, phase, product_of, reduce, secret, tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use num_bigint::BigInt;
use proptest::prelude::*;
use std::sync::Arc;

struct World {
    context: Arc<Context>,
    evaluator: Evaluator,
    key: SecretKey,
    secret: Vec<BigInt>,
}

fn world(levels: usize, special: usize, seed: [u8; 32]) -> World {
    let context = tiny(levels, special);
    let evaluator = Evaluator::new(&context).with_min_precision(-1000.0);
    let key = SecretKey::from_seed(&context, &seed).unwrap();
    let secret = secret(&context, &seed);
    World {
        context,
        evaluator,
        key,
        secret,
    }
}

impl World {
    fn encrypt(&self, values: &[f64], level: usize, public: bool, salt: u8) -> Ciphertext {
        let scale = self.context.scale(level).unwrap();
        let plain = self.context.encode_at(values, 1.0, level, scale).unwrap();
        if public {
            self.key
                .public_key()
                .unwrap()
                .encrypt_with_seed(&plain, &[salt; 32])
                .unwrap()
        } else {
            self.key.encrypt_with_seed(&plain, &[salt; 32]).unwrap()
        }
    }

    fn modulus(&self, level: usize) -> BigInt {
        product_of(self.context.ring(level).unwrap().moduli())
    }

    /// Decrypted both ways, equal; then the slots against the expected values within the ciphertext's own bound.
    fn check(&self, ct: &Ciphertext, expected: &[f64]) -> Result<(), TestCaseError> {
        let plain = self.key.decrypt(ct).unwrap();
        let reference = phase(&self.context, ct, &self.secret);
        prop_assert_eq!(&integers(plain.poly()), &reference);
        let coefficients: Vec<f64> = reference.iter().map(common::float).collect();
        let bound = ct.noise_bound() / ct.scale();
        let decoded = self.context.decode(&plain).unwrap();
        let slots = common::slots(&coefficients);
        for (k, &want) in expected.iter().enumerate() {
            let got = slots[k].0 / ct.scale();
            prop_assert!(
                (got - want).abs() <= bound + 1e-12,
                "slot {}: {} {} {}",
                k,
                got,
                want,
                bound
            );
            prop_assert!((decoded[k] - got).abs() <= 1e-12 * (1.0 + got.abs()));
            prop_assert!(want.abs() <= ct.magnitude_bound());
        }
        Ok(())
    }
}

fn parts(ct: &Ciphertext) -> Vec<Vec<BigInt>> {
    ct.parts().iter().map(integers).collect()
}

fn map(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn encryption(seed: [u8; 32], level in 0usize..=3, count in 1usize..=32, public: bool, salt: u8) {
        let w = world(3, 2, seed);
        let x = values(count, u64::from(salt));
        let ct = w.encrypt(&x, level, public, salt);
        prop_assert_eq!((ct.level(), ct.degree(), ct.slots()), (level, 1, count));
        prop_assert_eq!(ct.scale(), w.context.scale(level).unwrap());
        prop_assert_eq!(*ct.key_digest(), w.key.digest());
        w.check(&ct, &x)?;
    }

    #[test]
    fn sums(seed: [u8; 32], level in 0usize..=3, salt: u8, c in -3.0f64..3.0) {
        let w = world(3, 2, seed);
        let (x, y) = (values(32, 1), values(32, 2));
        let (a, b) = (w.encrypt(&x, level, true, salt), w.encrypt(&y, level, false, !salt));
        let q = w.modulus(level);
        let sum = w.evaluator.add(&a, &b).unwrap();
        for (i, part) in parts(&sum).iter().enumerate() {
            prop_assert_eq!(part, &reduce(&add(&parts(&a)[i], &parts(&b)[i]), &q));
        }
        w.check(&sum, &map(&x, &y, |x, y| x + y))?;
        let difference = w.evaluator.sub(&a, &b).unwrap();
        w.check(&difference, &map(&x, &y, |x, y| x - y))?;
        let back = w.evaluator.add(&difference, &b).unwrap();
        prop_assert_eq!(back.parts(), a.parts());
        w.check(&w.evaluator.neg(&a).unwrap(), &map(&x, &x, |x, _| -x))?;
        w.check(&w.evaluator.add_scalar(&b, c).unwrap(), &map(&x, &y, |_, y| y + c))?;
        let plain = w.context.encode_at(&x, 1.0, level, b.scale()).unwrap();
        w.check(&w.evaluator.add_plain(&b, &plain).unwrap(), &map(&x, &y, |x, y| x + y))?;
    }

    #[test]
    fn weighted_sums(
        seed: [u8; 32],
        count in 1usize..=6,
        level in 1usize..=3,
        raw in proptest::collection::vec((-2.0f64..2.0, 0usize..=2, any::<bool>()), 6),
        extra in 0u32..=45,
    ) {
        let w = world(3, 2, seed);
        let mut inputs = Vec::new();
        let mut expected = vec![0.0; 32];
        for (k, &(weight, above, square)) in raw.iter().take(count).enumerate() {
            let x = values(32, k as u64);
            let mut ct = w.encrypt(&x, (level + above).min(3), false, k as u8);
            let mut value = x.clone();
            if square && above == 0 {
                ct = w.evaluator.square(&ct).unwrap();
                value = map(&x, &x, |x, _| x * x);
            }
            expected = map(&expected, &value, |sum, v| sum + weight * v);
            inputs.push((ct, weight));
        }
        let cts: Vec<&Ciphertext> = inputs.iter().map(|(ct, _)| ct).collect();
        let weights: Vec<f64> = inputs.iter().map(|&(_, weight)| weight).collect();
        // From the scale of a square up to where the modulus ends.
        let room = (40 * level as u32 + 50 - 6).min(85 + extra) as i32;
        let scale = w.context.product_scale(level).unwrap().max(f64::from(room).exp2());
        let sum = w.evaluator.mac_scalars(&cts, &weights, Target { level, scale }).unwrap();
        prop_assert_eq!((sum.level(), sum.scale()), (level, scale));
        let q = w.modulus(level);
        for (i, part) in parts(&sum).iter().enumerate() {
            let mut exact = vec![BigInt::ZERO; 64];
            for (ct, weight) in &inputs {
                if let Some(input) = ct.parts().get(i) {
                    let integer = BigInt::from((weight * (scale / ct.scale())).round() as i128);
                    exact = add(&exact, &integers(input).iter().map(|x| x * &integer).collect::<Vec<_>>());
                }
            }
            prop_assert_eq!(part, &reduce(&exact, &q));
        }
        w.check(&sum, &expected)?;

        // A layer is its rows.
        let other: Vec<f64> = weights.iter().map(|x| 0.5 - x).collect();
        let layer = w.evaluator.linear(&cts, &[&other, &weights], Target { level, scale }).unwrap();
        prop_assert_eq!(&layer[1], &sum);
        let single = w.evaluator.mac_scalars(&cts, &other, Target { level, scale }).unwrap();
        prop_assert_eq!(&layer[0], &single);
    }

    #[test]
    fn products(seed: [u8; 32], level in 1usize..=3, salt: u8, special in 1usize..=3) {
        let w = world(3, special, seed);
        let relin = w.key.relin_key().unwrap();
        let (x, y) = (values(32, 1), values(32, 2));
        let (a, b) = (w.encrypt(&x, level, true, salt), w.encrypt(&y, level, false, !salt));
        let q = w.modulus(level);
        let (pa, pb) = (parts(&a), parts(&b));

        let square = w.evaluator.square(&a).unwrap();
        prop_assert_eq!(square.scale(), w.context.product_scale(level).unwrap());
        let ps = parts(&square);
        prop_assert_eq!(&ps[0], &reduce(&multiply(&pa[0], &pa[0]), &q));
        let cross = multiply(&pa[0], &pa[1]);
        prop_assert_eq!(&ps[1], &reduce(&add(&cross, &cross), &q));
        prop_assert_eq!(&ps[2], &reduce(&multiply(&pa[1], &pa[1]), &q));
        w.check(&square, &map(&x, &x, |x, _| x * x))?;

        let product = w.evaluator.multiply(&a, &b).unwrap();
        let pp = parts(&product);
        prop_assert_eq!(&pp[1], &reduce(&add(&multiply(&pa[0], &pb[1]), &multiply(&pa[1], &pb[0])), &q));
        w.check(&product, &map(&x, &y, |x, y| x * y))?;

        // Degree 2 through sums and rescaling.
        let mixed = w.evaluator.sub(&w.evaluator.mac_scalars(&[&b], &[0.5], w.context.product_target(level).unwrap()).unwrap(), &square).unwrap();
        prop_assert_eq!(mixed.degree(), 2);
        w.check(&mixed, &map(&x, &y, |x, y| 0.5 * y - x * x))?;
        w.check(&w.evaluator.rescale(&mixed).unwrap(), &map(&x, &y, |x, y| 0.5 * y - x * x))?;

        let linear = w.evaluator.relinearise(&product, &relin).unwrap();
        prop_assert_eq!((linear.degree(), linear.level(), linear.scale()), (1, level, product.scale()));
        w.check(&linear, &map(&x, &y, |x, y| x * y))?;

        let scaled = w.evaluator.rescale(&linear).unwrap();
        prop_assert_eq!((scaled.level(), scaled.scale()), (level - 1, w.context.scale(level - 1).unwrap()));
        let prime = BigInt::from(w.context.preset().primes()[level]);
        let below = w.modulus(level - 1);
        for (part, full) in parts(&scaled).iter().zip(parts(&linear)) {
            for (got, x) in part.iter().zip(full) {
                let exact = (&x - centre(&x, &prime)) / &prime;
                prop_assert_eq!(got, &centre(&exact, &below));
            }
        }
        w.check(&scaled, &map(&x, &y, |x, y| x * y))?;

        let plain = w.context.encode_at(&y, 1.0, level, a.scale()).unwrap();
        w.check(&w.evaluator.mul_plain(&a, &plain).unwrap(), &map(&x, &y, |x, y| x * y))?;

        let dropped = w.evaluator.drop_level(&a, 0).unwrap();
        prop_assert_eq!((dropped.level(), dropped.scale()), (0, a.scale()));
        w.check(&dropped, &x)?;
    }
}

#[test]
fn a_constant_scale_is_never_lost_in_a_chain() {
    let w = world(3, 2, [3; 32]);
    let x = values(32, 5);
    let mut ct = w.encrypt(&x, 3, false, 1);
    let weights = [0.75];
    let mut expected = x;
    for level in (1..=3).rev() {
        let sum = w
            .evaluator
            .mac_scalars(&[&ct], &weights, w.context.product_target(level).unwrap())
            .unwrap();
        ct = w.evaluator.rescale(&sum).unwrap();
        expected.iter_mut().for_each(|x| *x *= 0.75);
        assert_eq!(ct.scale(), w.context.scale(level - 1).unwrap());
        w.check(&ct, &expected).unwrap();
    }
}

#[test]
fn a_fresh_zero_changes_the_bytes_but_not_the_values() {
    let w = world(2, 1, [4; 32]);
    let x = values(32, 6);
    let ct = w.encrypt(&x, 1, false, 1);
    let zero = w.key.public_key().unwrap().encrypt_zero(1, ct.scale()).unwrap();
    w.check(&zero, &[0.0; 32]).unwrap();
    let masked = w.evaluator.add(&ct, &zero).unwrap();
    assert_ne!(masked.parts()[1], ct.parts()[1]);
    w.check(&masked, &x).unwrap();
}

#[test]
fn flooding_hides_the_noise_within_its_bound() {
    let w = world(2, 1, [6; 32]);
    let public = w.key.public_key().unwrap();
    let x = values(32, 7);
    let ct = w.encrypt(&x, 2, false, 1);
    for bits in [0, 10, 30] {
        let masked = public.rerandomise(&ct, bits).unwrap();
        w.check(&masked, &x).unwrap();
        assert_ne!(masked.parts()[1], ct.parts()[1]);
        // The noise that was added, as integers: of the deviation asked for, and not much more.
        let (before, after) = (
            phase(&w.context, &ct, &w.secret),
            phase(&w.context, &masked, &w.secret),
        );
        let squares = before
            .iter()
            .zip(&after)
            .map(|(a, b)| common::float(&(b - a)).powi(2));
        let deviation = (squares.sum::<f64>() / 64.0).sqrt() / f64::from(bits).exp2();
        // 64 coefficients: their deviation is within half of its value.
        let bound = ct.noise_bound();
        if bits > 0 {
            assert!(
                deviation > 0.5 * bound && deviation < 3.0 * bound,
                "{deviation} {bound}"
            );
        }
        assert!(masked.noise_bound() > bound * f64::from(bits).exp2());
    }
    let low = w.evaluator.drop_level(&ct, 0).unwrap();
    assert!(matches!(
        public.rerandomise(&low, 40),
        Err(CkksError::Overflow { .. })
    ));
    assert!(matches!(
        public.rerandomise(&ct, u32::MAX),
        Err(CkksError::Overflow { .. })
    ));
    let square = w.evaluator.square(&ct).unwrap();
    let refused = public.rerandomise(&square, 1);
    assert_eq!(refused, Err(CkksError::CiphertextDegree { degree: 2, needed: 1 }));
    let stranger = SecretKey::from_seed(&w.context, &[7; 32])
        .unwrap()
        .public_key()
        .unwrap();
    assert_eq!(stranger.rerandomise(&ct, 1), Err(CkksError::KeyMismatch));
}

#[test]
fn fresh_encryptions_differ() {
    let w = world(1, 1, [5; 32]);
    let plain = w.context.encode(&[0.5], 1.0).unwrap();
    let public = w.key.public_key().unwrap();
    assert_ne!(
        w.key.encrypt(&plain).unwrap().parts()[1],
        w.key.encrypt(&plain).unwrap().parts()[1]
    );
    assert_ne!(
        public.encrypt(&plain).unwrap().parts()[1],
        public.encrypt(&plain).unwrap().parts()[1]
    );
    let (one, two) = (
        SecretKey::generate(&w.context).unwrap(),
        SecretKey::generate(&w.context).unwrap(),
    );
    assert_ne!(one.digest(), two.digest());
    for key in [&one, &two] {
        assert_eq!(key.public_key().unwrap().digest(), key.digest());
        assert_eq!(key.relin_key().unwrap().digest(), key.digest());
        let shown = format!("{key:?}");
        assert!(
            shown.contains(&key.digest().to_string()) && shown.len() < 120,
            "{shown}"
        );
    }
}
