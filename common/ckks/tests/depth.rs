//! Circuits as deep as the presets allow: no drift of scales, errors within the planned precision.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failure is the test result"
)]

mod common;

use common::{preset, values};
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::SecretKey;

/// Squares of 1 at every level stay 1. A scale that drifted by a prime's distance from the power of two, about 2^-20,
/// would show: squaring doubles a relative error, so the last of L squares would be off by some 2^(L - 20).
#[test]
fn ones_stay_ones_at_full_depth() {
    for (name, tolerance) in [
        ("n8192_q50_3x38_p1x50", 2f64.powi(-20)),
        ("n16384_q50_5x45_p3x50", 2f64.powi(-24)),
        ("n16384_q50_6x45_p2x50", 2f64.powi(-23)),
        ("n32768_q50_12x45_p4x50", 2f64.powi(-16)),
    ] {
        let context = preset(name);
        let ev = Evaluator::new(&context).with_min_precision(-1000.0);
        let key = SecretKey::from_seed(&context, &[1; 32]).unwrap();
        let relin = key.relin_key().unwrap();
        let mut ct = key
            .encrypt_with_seed(
                &context.encode(&vec![1.0; context.slots()], 1.0).unwrap(),
                &[2; 32],
            )
            .unwrap();
        for level in (0..context.max_level()).rev() {
            let square = ev.square(&ct).unwrap();
            ct = ev.rescale(&ev.relinearise(&square, &relin).unwrap()).unwrap();
            assert_eq!((ct.level(), ct.scale()), (level, context.scale(level).unwrap()));
        }
        let decoded = context.decode(&key.decrypt(&ct).unwrap()).unwrap();
        // The mean over slots is free of most noise: what is left there would be a drift.
        let mean = decoded.iter().sum::<f64>() / decoded.len() as f64;
        let largest = decoded.iter().map(|x| (x - 1.0).abs()).fold(0.0, f64::max);
        println!(
            "{name}: mean off by 2^{:.1}, largest 2^{:.1}, planned bits {:.1}",
            (mean - 1.0).abs().log2(),
            largest.log2(),
            ct.precision_bits()
        );
        assert!((mean - 1.0).abs() < tolerance / 256.0, "{name}: {mean}");
        assert!(largest < tolerance, "{name}: {largest}");
        assert!(largest <= ct.noise_bound() / ct.scale());
    }
}

/// A residual network of dense layers with quadratic activations in batch mode, five levels deep: the path of
/// encrypted inference.
#[test]
fn residual_network() {
    let context = preset("n16384_q50_6x45_p2x50");
    let ev = Evaluator::new(&context).with_min_precision(8.0);
    let key = SecretKey::from_seed(&context, &[3; 32]).unwrap();
    let relin = key.relin_key().unwrap();
    const FEATURES: usize = 6;
    let patients: Vec<Vec<f64>> = (0..FEATURES).map(|f| values(context.slots(), f as u64)).collect();
    let mut x: Vec<Ciphertext> = patients
        .iter()
        .map(|p| key.encrypt(&context.encode(p, 1.0).unwrap()).unwrap())
        .collect();
    let mut plain = patients;

    let mut level = context.max_level();
    for block in 0..3u64 {
        // Rows of absolute sum one half, so that values stay within 1.
        let row = |salt: u64| -> Vec<f64> {
            values(FEATURES, 100 * block + salt)
                .iter()
                .map(|w| w / (2.0 * FEATURES as f64))
                .collect()
        };
        let (a, b): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
            (0..FEATURES as u64).map(|j| (row(j), row(50 + j))).unzip();
        let bias = values(FEATURES, 1000 + block);

        let refs: Vec<&Ciphertext> = x.iter().collect();
        let b_rows: Vec<&[f64]> = b.iter().map(Vec::as_slice).collect();
        let a_rows: Vec<&[f64]> = a.iter().map(Vec::as_slice).collect();
        let u = ev
            .linear(&refs, &b_rows, context.product_target(level).unwrap())
            .unwrap();
        let v = ev
            .linear(&refs, &a_rows, context.product_target(level - 1).unwrap())
            .unwrap();
        x = u
            .iter()
            .zip(&v)
            .zip(&bias)
            .map(|((u, v), c)| {
                let u = ev.rescale(&ev.add_scalar(u, 0.5 * c).unwrap()).unwrap();
                let square = ev.square(&u).unwrap();
                // Unrelinearised until after the sum: one relinearisation either way, but it shows that it may be.
                let y = ev.relinearise(&ev.add(v, &square).unwrap(), &relin).unwrap();
                ev.rescale(&y)
                    .unwrap()
                    .with_magnitude_bound(&context, 1.5)
                    .unwrap()
            })
            .collect();
        plain = (0..FEATURES)
            .map(|j| {
                (0..context.slots())
                    .map(|p| {
                        let dot = |w: &[f64]| -> f64 { w.iter().zip(&plain).map(|(w, x)| w * x[p]).sum() };
                        dot(&a[j]) + (dot(&b[j]) + 0.5 * bias[j]).powi(2)
                    })
                    .collect()
            })
            .collect();
        level -= 2;
    }
    assert_eq!(x[0].level(), 0);
    for (ct, expected) in x.iter().zip(&plain) {
        let decoded = context.decode_rounded(&key.decrypt(ct).unwrap(), 8).unwrap();
        let raw = context.decode(&key.decrypt(ct).unwrap()).unwrap();
        let bound = ct.noise_bound() / ct.scale();
        for ((got, raw), want) in decoded.iter().zip(&raw).zip(expected) {
            assert!(want.abs() <= 1.5);
            assert!((raw - want).abs() <= bound);
            assert!((raw - want).abs() < 2f64.powi(-20));
            assert!((got - want).abs() <= bound + 2f64.powi(-9));
            assert_eq!((got * 256.0).fract(), 0.0);
        }
    }
}
