//! The conjugate-invariant ring: exact arithmetic against big integers, noise against its bounds and against what the
//! derivation says it is, precision beside that of the cyclotomic ring of the same degree.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test result"
)]

mod common;

use common::{add, float, integers, multiply, product_of, reduce, secret, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;
use galen_ckks::preset::{Preset, PresetSpec};
use galen_rns::ring::RingKind;
use num_bigint::BigInt;
use std::collections::BTreeMap;
use std::sync::Arc;

fn spec(ring: RingKind, degree: usize) -> PresetSpec {
    PresetSpec {
        ring,
        degree,
        base_bits: 50,
        levels: 3,
        scale_bits: 38,
        special: 1,
        special_bits: 50,
        digit: 1,
    }
}

fn tiny() -> Arc<Context> {
    let preset = Preset::insecure_for_tests(spec(RingKind::ConjugateInvariant, 64)).unwrap();
    Context::new(&preset).unwrap()
}

/// A product of elements given by the coefficients of 1 and of `X^i + X^-i`: with all coefficients of the ring modulo
/// `X^2N + 1`, where `X^-i = -X^(2N-i)`.
fn product(a: &[BigInt], b: &[BigInt]) -> Vec<BigInt> {
    let unfold = |a: &[BigInt]| -> Vec<BigInt> {
        let mirrored = a[1..].iter().rev().map(|x| -x);
        a.iter().cloned().chain([BigInt::ZERO]).chain(mirrored).collect()
    };
    let mut full = multiply(&unfold(a), &unfold(b));
    full.truncate(a.len());
    full
}

/// `c0 + c1 s + c2 s^2` modulo the primes of the ciphertext, centred.
fn phase(context: &Context, ct: &Ciphertext, secret: &[BigInt]) -> Vec<BigInt> {
    let q = product_of(context.ring(ct.level()).unwrap().moduli());
    let mut sum = vec![BigInt::ZERO; context.degree()];
    for part in ct.parts().iter().rev() {
        sum = reduce(&add(&product(&sum, secret), &integers(part)), &q);
    }
    sum
}

/// The values in slots by definition: `a_0 + sum of 2 a_i cos(i 5^k pi / (2N))`.
fn slots(a: &[BigInt]) -> Vec<f64> {
    let n = a.len();
    let a: Vec<f64> = a.iter().map(float).collect();
    let mut exponent = 1;
    (0..n)
        .map(|_| {
            let angle = |i: usize| core::f64::consts::PI * ((i * exponent) % (4 * n)) as f64 / (2 * n) as f64;
            let value = (1..n).fold(a[0], |sum, i| sum + 2.0 * a[i] * angle(i).cos());
            exponent = exponent * 5 % (4 * n);
            value
        })
        .collect()
}

fn close(a: &[f64], b: &[f64], tolerance: f64) {
    assert_eq!(a.len(), b.len());
    for (k, (x, y)) in a.iter().zip(b).enumerate() {
        assert!((x - y).abs() <= tolerance, "slot {k}: {x} {y}");
    }
}

#[test]
fn arithmetic_is_that_of_the_ring_by_big_integers() {
    let context = tiny();
    let (seed, ev) = ([5; 32], Evaluator::new(&context).with_min_precision(-1000.0));
    let key = SecretKey::from_seed(&context, &seed).unwrap();
    let s = secret(&context, &seed);
    let n = context.slots();
    assert_eq!(n, 64);
    let (x, y) = (values(n, 1), values(n, 2));
    let (px, py) = (context.encode(&x, 1.0).unwrap(), context.encode(&y, 1.0).unwrap());
    let scale = context.scale(context.max_level()).unwrap();
    let encoded: Vec<f64> = slots(&integers(px.poly())).iter().map(|v| v / scale).collect();
    close(&encoded, &x, px.budget().noise / scale);

    let (a, b) = (
        key.encrypt(&px).unwrap(),
        key.public_key().unwrap().encrypt(&py).unwrap(),
    );
    let q = product_of(context.ring(a.level()).unwrap().moduli());
    for ct in [&a, &b] {
        assert_eq!(integers(key.decrypt(ct).unwrap().poly()), phase(&context, ct, &s));
    }
    // Without noise of its own: the product of what the ciphertexts hold.
    let square = ev.multiply(&a, &b).unwrap();
    let expected = reduce(&product(&phase(&context, &a, &s), &phase(&context, &b, &s)), &q);
    assert_eq!(phase(&context, &square, &s), expected);
    assert_eq!(integers(key.decrypt(&square).unwrap().poly()), expected);

    // Switching and division add what their bounds say, in every slot.
    let linear = ev.relinearise(&square, &key.relin_key().unwrap()).unwrap();
    let lower = ev.rescale(&linear).unwrap();
    let divisor = context.preset().primes()[square.level()] as f64;
    let exact: Vec<f64> = slots(&expected);
    close(
        &slots(&phase(&context, &linear, &s)),
        &exact,
        linear.noise_bound() - square.noise_bound(),
    );
    let divided: Vec<f64> = exact.iter().map(|v| v / divisor).collect();
    close(
        &slots(&phase(&context, &lower, &s)),
        &divided,
        lower.noise_bound() - square.noise_bound() / divisor,
    );
    let product: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
    let decoded = context.decode(&key.decrypt(&lower).unwrap()).unwrap();
    close(&decoded, &product, lower.noise_bound() / lower.scale());
}

#[test]
fn all_slots_rotate_and_none_is_conjugated() {
    let context = tiny();
    let ev = Evaluator::new(&context).with_min_precision(-1000.0);
    let key = SecretKey::from_seed(&context, &[6; 32]).unwrap();
    let n = context.slots();
    let x = values(n, 3);
    let ct = key.encrypt(&context.encode(&x, 1.0).unwrap()).unwrap();
    let steps = [1, -1, 7, 31, 32, 33, -20];
    let keys = key.galois_keys(&steps).unwrap();
    for step in steps {
        let rotated = ev.rotate(&ct, step, &keys).unwrap();
        let expected: Vec<f64> = (0..n as i64)
            .map(|k| x[(k + step).rem_euclid(n as i64) as usize])
            .collect();
        let decoded = context.decode(&key.decrypt(&rotated).unwrap()).unwrap();
        close(&decoded, &expected, rotated.noise_bound() / rotated.scale());
    }
    assert!(matches!(ev.conjugate(&ct, &keys), Err(CkksError::NoConjugation)));
    let level = context.max_level();
    assert!(matches!(
        context.encode_complex_at(&x, &x, 2.0, level, 1e10),
        Err(CkksError::NoConjugation)
    ));
    let plain = context.encode(&x, 1.0).unwrap();
    assert!(matches!(
        context.decode_complex(&plain),
        Err(CkksError::NoConjugation)
    ));
    assert!(matches!(
        context.encode(&vec![0.0; n + 1], 1.0),
        Err(CkksError::Count { max: 64, .. })
    ));
}

/// Largest and mean square error of an operation, in integers, and its bound.
#[derive(Default, Clone, Copy)]
struct Error {
    largest: f64,
    square_sum: f64,
    count: f64,
    bound: f64,
    /// Errors are these integers divided by it.
    scale: f64,
}

type Errors = BTreeMap<&'static str, Error>;

fn record(errors: &mut Errors, name: &'static str, got: &[f64], expected: &[f64], scale: f64, bound: f64) {
    let error = errors.entry(name).or_default();
    for (x, y) in got.iter().zip(expected) {
        let noise = (x - y) * scale;
        error.largest = error.largest.max(noise.abs());
        error.square_sum += noise * noise;
        error.count += 1.0;
    }
    (error.bound, error.scale) = (error.bound.max(bound), scale);
}

fn measure(preset: &Preset, runs: u64) -> Errors {
    let context = Context::new(preset).unwrap();
    let ev = Evaluator::new(&context).with_min_precision(-1000.0);
    let (n, level) = (context.slots(), context.max_level());
    let mut errors = Errors::new();
    for run in 0..runs {
        let key = SecretKey::from_seed(&context, &[run as u8; 32]).unwrap();
        let (public, relin) = (key.public_key().unwrap(), key.relin_key().unwrap());
        let galois = key.galois_keys(&[1]).unwrap();
        let decode = |ct: &Ciphertext| context.decode(&key.decrypt(ct).unwrap()).unwrap();
        let mut check = |name, ct: &Ciphertext, expected: &[f64], before: f64| {
            record(
                &mut errors,
                name,
                &decode(ct),
                expected,
                ct.scale(),
                ct.noise_bound() - before,
            );
        };
        let (x, y) = (values(n, 2 * run), values(n, 2 * run + 1));
        let (px, py) = (context.encode(&x, 1.0).unwrap(), context.encode(&y, 1.0).unwrap());
        // What encryption adds: against the encoding as it is.
        let (ex, ey) = (context.decode(&px).unwrap(), context.decode(&py).unwrap());
        let (a, b) = (key.encrypt(&px).unwrap(), public.encrypt(&py).unwrap());
        check("encrypt, secret key", &a, &ex, px.budget().noise);
        check("encrypt, public key", &b, &ey, py.budget().noise);
        // At a scale of 1 nothing is left but the noise of what was done.
        let zero = context.encode_at(&vec![0.0; n], 0.0, level, 1.0).unwrap();
        let zero = ev.square(&key.encrypt(&zero).unwrap()).unwrap();
        let linear = ev.relinearise(&zero, &relin).unwrap();
        check("relinearise", &linear, &decode(&zero), zero.noise_bound());
        let plain = context.encode_at(&vec![0.0; n], 0.0, level, 1.0).unwrap();
        let fresh = key.encrypt(&plain).unwrap();
        let rotated: Vec<f64> = {
            let mut slots = decode(&fresh);
            slots.rotate_left(1);
            slots
        };
        check(
            "rotate",
            &ev.rotate(&fresh, 1, &galois).unwrap(),
            &rotated,
            fresh.noise_bound(),
        );

        let product = ev.multiply(&a, &b).unwrap();
        let expected: Vec<f64> = x.iter().zip(&y).map(|(x, y)| x * y).collect();
        check("multiply", &product, &expected, 0.0);
        let linear = ev.relinearise(&product, &relin).unwrap();
        let lower = ev.rescale(&linear).unwrap();
        let divisor = preset.primes()[level] as f64;
        check(
            "rescale",
            &lower,
            &decode(&linear),
            linear.noise_bound() / divisor,
        );
        check("multiply, relinearise, rescale", &lower, &expected, 0.0);
    }
    errors
}

#[test]
fn noise_is_as_derived_and_within_its_bounds() {
    let n = 8192usize;
    let [complex, real] = [RingKind::Cyclotomic, RingKind::ConjugateInvariant]
        .map(|kind| measure(&Preset::new(spec(kind, n)).unwrap(), 6));
    let bits = |error: &Error| (error.scale / error.largest).log2();
    println!("precision in bits, N = {n}: operation, cyclotomic (N/2 slots), conjugate-invariant (N slots)");
    for (name, error) in &real {
        println!("{name}: {:.1} {:.1}", bits(&complex[name]), bits(error));
        for error in [error, &complex[name]] {
            let slack = (error.bound / error.largest).log2();
            assert!(
                (0.0..6.5).contains(&slack),
                "{name}: bound 2^{slack:.1} of the largest noise"
            );
        }
    }
    // Slots of a polynomial with coefficients of variance v have variance (2N - 1) v, of a product of two (2N)^2 v w.
    let (sigma, spread) = (3.19f64, 2.0 * n as f64);
    let derived = [
        ("encrypt, secret key", sigma * spread.sqrt()),
        (
            "encrypt, public key",
            (spread * spread * 2.0 * sigma * sigma * 2.0 / 3.0 + spread * sigma * sigma).sqrt(),
        ),
        (
            "rescale",
            (spread / 12.0 + spread * spread / 12.0 * 2.0 / 3.0).sqrt(),
        ),
        // Digits below 2^50 and 2^38, one special prime of 50 bits: the digit of the base prime counts, and one rounding.
        (
            "rotate",
            (spread * spread * sigma * sigma / 12.0 + spread / 12.0 + spread * spread / 12.0 * 2.0 / 3.0)
                .sqrt(),
        ),
    ];
    for (name, expected) in derived {
        let error = &real[name];
        let ratio = (error.square_sum / error.count).sqrt() / expected;
        println!("{name}: deviation is {ratio:.3} of the derived one");
        assert!((0.93..1.07).contains(&ratio), "{name}: {ratio}");
    }
}
