//! Measured noise against its bound, at real sizes: never above, and not absurdly far below.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test result"
)]

mod common;

use common::{preset, values};
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::ring::RingKind;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The bound may be this many bits above the largest noise seen.
const SLACK_BITS: f64 = 6.0;
const RUNS: u64 = 12;

/// Largest noise in units of its bound, for every operation.
#[derive(Default)]
struct Record(BTreeMap<&'static str, f64>);

impl Record {
    fn add(&mut self, name: &'static str, noise: f64, bound: f64) {
        let share = noise / bound;
        assert!(
            share <= 1.0,
            "{name}: noise 2^{} above its bound 2^{}",
            noise.log2(),
            bound.log2()
        );
        let largest = self.0.entry(name).or_default();
        *largest = largest.max(share);
    }

    fn finish(self) {
        for (name, share) in self.0 {
            println!("{name}: bound is 2^{:.1} of the largest noise", -share.log2());
            assert!(
                share.log2() > -SLACK_BITS,
                "{name}: bound 2^{} above the largest noise",
                -share.log2()
            );
        }
    }
}

struct World {
    context: Arc<Context>,
    key: SecretKey,
    record: Record,
}

impl World {
    fn decode(&self, ct: &Ciphertext) -> Vec<f64> {
        self.context.decode(&self.key.decrypt(ct).unwrap()).unwrap()
    }

    /// The largest difference in slots, in integers, against the bound of the ciphertext.
    fn check(&mut self, name: &'static str, ct: &Ciphertext, expected: &[f64]) {
        let noise = largest(&self.decode(ct), expected) * ct.scale();
        self.record.add(name, noise, ct.noise_bound());
    }

    /// The same for what an operation added to the noise of its operand.
    fn check_added(&mut self, name: &'static str, before: &Ciphertext, after: &Ciphertext) {
        let noise = largest(&self.decode(before), &self.decode(after)) * after.scale();
        let added = after.noise_bound() - before.noise_bound() * after.scale() / before.scale();
        self.record.add(name, noise, added);
    }
}

impl World {
    /// What a rotation added to the noise of its operand.
    fn check_turned(&mut self, name: &'static str, before: &Ciphertext, after: &Ciphertext, steps: usize) {
        let mut turned = self.decode(before);
        turned.rotate_left(steps);
        let noise = largest(&turned, &self.decode(after)) * after.scale();
        self.record
            .add(name, noise, after.noise_bound() - before.noise_bound());
    }
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| (x - y).abs()).fold(0.0, f64::max)
}

fn map(a: &[f64], b: &[f64], f: impl Fn(f64, f64) -> f64) -> Vec<f64> {
    a.iter().zip(b).map(|(&x, &y)| f(x, y)).collect()
}

fn measure(name: &str, runs: u64) {
    measure_context(&preset(name), runs);
}

fn measure_context(context: &Arc<Context>, runs: u64) {
    let ev = Evaluator::new(context).with_min_precision(-1000.0);
    let slots = context.slots();
    for run in 0..runs {
        let key = SecretKey::from_seed(context, &[run as u8; 32]).unwrap();
        let (public, relin) = (key.public_key().unwrap(), key.relin_key().unwrap());
        let galois = key.galois_keys(&[1, 77]).unwrap();
        let mut w = World {
            context: Arc::clone(context),
            key,
            record: Record::default(),
        };
        let level = context.max_level();
        let (x, y) = (values(slots, 2 * run), values(slots, 2 * run + 1));
        let (px, py) = (context.encode(&x, 1.0).unwrap(), context.encode(&y, 1.0).unwrap());
        let noise = largest(&context.decode(&px).unwrap(), &x) * px.budget().scale;
        w.record.add("encode", noise, px.budget().noise);

        // At a scale beyond the 53 bits of a double, the embedding's own error is what remains.
        let room = context.log2_q(level).unwrap().floor() - 2.0;
        let high = context.encode_at(&x, 1.0, level, room.min(100.0).exp2()).unwrap();
        let noise = largest(&context.decode(&high).unwrap(), &x) * high.budget().scale;
        w.record.add("encode, high scale", noise, high.budget().noise);

        let a = w.key.encrypt(&px).unwrap();
        let b = public.encrypt(&py).unwrap();
        w.check("encrypt, secret key", &a, &x);
        w.check("encrypt, public key", &b, &y);
        w.check("add", &ev.add(&a, &b).unwrap(), &map(&x, &y, |x, y| x + y));
        w.check("sub", &ev.sub(&a, &b).unwrap(), &map(&x, &y, |x, y| x - y));
        w.check("neg", &ev.neg(&b).unwrap(), &map(&x, &y, |_, y| -y));
        w.check(
            "add plain",
            &ev.add_plain(&a, &py).unwrap(),
            &map(&x, &y, |x, y| x + y),
        );
        w.check(
            "add scalar",
            &ev.add_scalar(&a, 0.3).unwrap(),
            &map(&x, &y, |x, _| x + 0.3),
        );
        w.check(
            "multiply by plaintext",
            &ev.mul_plain(&a, &py).unwrap(),
            &map(&x, &y, |x, y| x * y),
        );

        let target = context.product_target(level).unwrap();
        let sum = ev.mac_scalars(&[&a, &b], &[0.7, -0.4], target).unwrap();
        let expected = map(&x, &y, |x, y| 0.7 * x - 0.4 * y);
        w.check("weighted sum", &sum, &expected);
        w.check("weighted sum, rescaled", &ev.rescale(&sum).unwrap(), &expected);
        w.check_added("rescale", &sum, &ev.rescale(&sum).unwrap());

        let square = ev.square(&b).unwrap();
        let expected = map(&y, &y, |y, _| y * y);
        w.check("square", &square, &expected);
        w.check(
            "multiply",
            &ev.multiply(&a, &b).unwrap(),
            &map(&x, &y, |x, y| x * y),
        );
        w.check_added("rescale, degree 2", &square, &ev.rescale(&square).unwrap());
        let linear = ev.relinearise(&square, &relin).unwrap();
        w.check("relinearise after square", &linear, &expected);
        w.check(
            "square, relinearise, rescale",
            &ev.rescale(&linear).unwrap(),
            &expected,
        );

        let fused = ev.multiply_relin_rescale(&a, &b, &relin).unwrap();
        w.check(
            "multiply, relinearise, rescale in one",
            &fused,
            &map(&x, &y, |x, y| x * y),
        );
        let fused = ev.square_relin_rescale(&b, &relin).unwrap();
        w.check("square, relinearise, rescale in one", &fused, &expected);
        let turned: Vec<f64> = (0..slots).map(|k| y[(k + 77) % slots]).collect();
        w.check("rotate", &ev.rotate(&b, 77, &galois).unwrap(), &turned);
        let scalar = ev.mul_scalar(&b, 0.7, target).unwrap();
        w.check("multiply by scalar", &scalar, &map(&y, &y, |y, _| 0.7 * y));

        // A product of zeros at a scale near 1: nothing but the noise of switching is left, at every level.
        for level in [1, level] {
            let zero = context.encode_at(&vec![0.0; slots], 0.0, level, 1.0).unwrap();
            let zero = w.key.encrypt(&zero).unwrap();
            let rotated = ev.rotate(&zero, 77, &galois).unwrap();
            w.check_turned("rotation's switching", &zero, &rotated, 77);
            let extended = ev
                .rotate_extended(&ev.hoist(&zero).unwrap(), 77, &galois)
                .unwrap();
            w.check_turned(
                "rotation's switching over QP",
                &zero,
                &ev.reduce(&extended).unwrap(),
                77,
            );
            let zero = context.encode_at(&vec![0.0; slots], 0.0, level, 1.0).unwrap();
            let square = ev.square(&w.key.encrypt(&zero).unwrap()).unwrap();
            w.check_added("relinearise", &square, &ev.relinearise(&square, &relin).unwrap());
        }
        w.check("drop level", &ev.drop_level(&b, 0).unwrap(), &y);
        w.record.finish();
    }
}

#[test]
fn noise_n8192() {
    measure("n8192_q50_3x38_p1x50", RUNS);
}

#[test]
fn noise_n16384_two_special_primes() {
    measure("n16384_q50_6x45_p2x50", 3);
}

#[test]
fn noise_n16384_three_special_primes() {
    measure("n16384_q50_5x45_p3x50", 3);
}

#[test]
fn noise_n32768() {
    measure("n32768_q50_12x45_p4x50", 1);
}

#[test]
fn noise_of_digits_larger_than_the_special_primes() {
    let spec = PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 8192,
        base_bits: 45,
        levels: 3,
        scale_bits: 40,
        special: 1,
        special_bits: 45,
        digit: 2,
    };
    measure_context(
        &Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap(),
        2,
    );
}

#[test]
fn noise_of_digits_smaller_than_the_special_primes() {
    let spec = PresetSpec {
        ring: RingKind::Cyclotomic,
        degree: 8192,
        base_bits: 45,
        levels: 4,
        scale_bits: 40,
        special: 2,
        special_bits: 45,
        digit: 1,
    };
    measure_context(
        &Context::new(&Preset::insecure_for_tests(spec).unwrap()).unwrap(),
        2,
    );
}

#[test]
fn noise_of_real_slots() {
    measure("real_n8192_q50_3x38_p1x50", 4);
    measure("real_n16384_q50_5x40_p3x44", 1);
}

#[test]
fn noise_of_the_smallest_preset() {
    measure("n4096_q38_1x30_p1x38", 4);
}
