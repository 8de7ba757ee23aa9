//! Polynomials of ciphertexts against their values in the clear.
#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

mod common;

use common::{preset, tiny, values};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::{Context, Target};
use galen_ckks::evaluate::Evaluator;
use galen_ckks::keys::{RelinKey, SecretKey};
use galen_ckks::polynomial::Polynomial;
use std::sync::Arc;

struct World {
    context: Arc<Context>,
    ev: Evaluator,
    key: SecretKey,
    relin: RelinKey,
}

impl World {
    fn new(context: Arc<Context>) -> Self {
        let key = SecretKey::from_seed(&context, &[5; 32]).unwrap();
        Self {
            ev: Evaluator::new(&context),
            relin: key.relin_key().unwrap(),
            key,
            context,
        }
    }

    fn encrypt(&self, x: &[f64], magnitude: f64) -> Ciphertext {
        let plain = self.context.encode(x, magnitude).unwrap();
        self.key.encrypt_with_seed(&plain, &[6; 32]).unwrap()
    }

    /// Evaluates, and returns the largest error and the bound on it after checking one against the other, and level and scale.
    fn check(&self, p: &Polynomial, x: &[f64], ct: &Ciphertext) -> (f64, f64) {
        let levels = self.ev.polynomial_levels(ct, p).unwrap();
        let y = self.ev.polynomial(ct, p, &self.relin).unwrap();
        assert_eq!(y.level(), ct.level() - levels);
        assert_eq!(y.scale(), self.context.scale(y.level()).unwrap());
        assert_eq!(y.degree(), 1);
        let decoded = self.context.decode(&self.key.decrypt(&y).unwrap()).unwrap();
        let bound = y.noise_bound() / y.scale();
        let mut largest = 0.0f64;
        for (x, got) in x.iter().zip(decoded) {
            let exact = p.evaluate(*x);
            assert!(exact.abs() <= y.magnitude_bound() * (1.0 + 1e-12));
            largest = largest.max((got - exact).abs());
        }
        assert!(largest <= bound, "degree {}: {largest} above {bound}", p.degree());
        (largest, bound)
    }
}

fn ceil_log2(x: usize) -> usize {
    x.next_power_of_two().trailing_zeros() as usize
}

/// Coefficients of one kind: all, odd or even ones, one and the last.
fn kinds(degree: usize) -> Vec<Vec<f64>> {
    let all: Vec<f64> = values(degree + 1, degree as u64)
        .iter()
        .map(|c| 0.5 * c + 0.6 * c.signum())
        .collect();
    let keep = |f: &dyn Fn(usize) -> bool| -> Vec<f64> {
        all.iter()
            .enumerate()
            .map(|(k, c)| if f(k) { *c } else { 0.0 })
            .collect()
    };
    vec![
        keep(&|_| true),
        keep(&|k| k % 2 == degree % 2),
        keep(&|k| k == 0 || k == degree),
        keep(&|k| k == 1 || k == degree),
    ]
}

#[test]
fn every_degree_in_the_chebyshev_basis() {
    let w = World::new(tiny(7, 2));
    let x: Vec<f64> = (0..w.context.slots()).map(|k| (k as f64 * 0.37).cos()).collect();
    let ct = w.encrypt(&x, 1.0);
    for degree in 0..=70 {
        for coefficients in kinds(degree) {
            let scale: f64 = coefficients.iter().map(|c| c.abs()).sum();
            let coefficients: Vec<f64> = coefficients.iter().map(|c| c / scale).collect();
            let p = Polynomial::chebyshev(&coefficients, -1.0, 1.0).unwrap();
            assert_eq!(p.degree(), degree);
            assert_eq!(p.levels_needed(), ceil_log2(degree + 1));
            assert_eq!(w.ev.polynomial_levels(&ct, &p), Ok(p.levels_needed()));
            let (error, bound) = w.check(&p, &x, &ct);
            assert!(error < 1e-6, "{degree}: {error}");
            // Noise is multiplied by the derivative, up to the square of the degree.
            assert!(
                bound < 2e-8 * ((degree * degree) as f64 + 20.0),
                "{degree}: {bound}"
            );
        }
    }
}

#[test]
fn every_degree_in_the_power_basis() {
    let w = World::new(tiny(7, 2));
    let x = values(w.context.slots(), 1);
    let ct = w.encrypt(&x, 1.0);
    for degree in 0..=70 {
        for coefficients in kinds(degree) {
            let p = Polynomial::power(&coefficients).unwrap();
            let scale: f64 = coefficients.iter().map(|c| c.abs()).sum();
            let p = if scale > 20.0 {
                let smaller: Vec<f64> = coefficients.iter().map(|c| 20.0 * c / scale).collect();
                Polynomial::power(&smaller).unwrap()
            } else {
                p
            };
            assert_eq!(w.ev.polynomial_levels(&ct, &p), Ok(ceil_log2(degree + 1)));
            let (error, bound) = w.check(&p, &x, &ct);
            assert!(error < 1e-6, "{degree}: {error}");
            assert!(bound < 1e-4, "{degree}: {bound}");
        }
    }
}

/// Middle and half-width cost a level unless the half-width is 1 or there is nothing but a weight to take it in.
#[test]
fn intervals() {
    let w = World::new(tiny(6, 2));
    let n = w.context.slots();
    for (low, high) in [
        (-8.0, 8.0),
        (0.0, 6.0),
        (1.0, 10.0),
        (3.0, 5.0),
        (-0.01, 0.02),
        (-9.0, -7.0),
    ] {
        let x: Vec<f64> = (0..n)
            .map(|k| low + (high - low) * k as f64 / (n - 1) as f64)
            .collect();
        let ct = w.encrypt(&x, f64::max(high, -low));
        for degree in [0usize, 1, 2, 9, 31] {
            let series: Vec<f64> = values(degree + 1, 3)
                .iter()
                .map(|c| c / (degree + 1) as f64)
                .collect();
            let p = Polynomial::chebyshev(&series, low, high).unwrap();
            let free = degree <= 1 || high - low == 2.0;
            assert_eq!(p.levels_needed(), ceil_log2(degree + 1) + usize::from(!free));
            let (error, _) = w.check(&p, &x, &ct);
            assert!(error < 2e-6, "{low}..{high}, {degree}: {error}");
        }
    }
}

/// A layer can land on a scale that makes the change of variable free, and need not rescale or relinearise first.
#[test]
fn scales_that_absorb_and_products_that_were_left() {
    let w = World::new(tiny(6, 2));
    let x: Vec<f64> = values(w.context.slots(), 4).iter().map(|x| 8.0 * x).collect();
    let ct = w.encrypt(&x, 8.0);
    let p = Polynomial::interpolate(f64::tanh, -8.0, 8.0, 15).unwrap();
    assert_eq!(w.ev.polynomial_levels(&ct, &p), Ok(5));
    assert_eq!(p.levels_needed(), 5);

    let level = w.context.max_level();
    let target = Target {
        level,
        scale: w.context.product_scale(level).unwrap() / 8.0,
    };
    let weighted = w.ev.mac_scalars(&[&ct], &[1.0], target).unwrap();
    // One for the rescaling that was left out, four for the degree.
    assert_eq!(w.ev.polynomial_levels(&weighted, &p), Ok(5));
    let rescaled = w.ev.rescale(&weighted).unwrap();
    assert_eq!(w.ev.polynomial_levels(&rescaled, &p), Ok(4));
    for input in [&weighted, &rescaled] {
        let (error, _) = w.check(&p, &x, input);
        assert!(error < 1e-6, "{error}");
    }

    let y: Vec<f64> = x.iter().map(|x| x * x).collect();
    let square = w.ev.square(&ct).unwrap();
    let p = Polynomial::chebyshev(&[0.1, 0.2, 0.3, -0.4], 0.0, 64.0).unwrap();
    assert_eq!(w.ev.polynomial_levels(&square, &p), Ok(4));
    let (error, _) = w.check(&p, &y, &square);
    assert!(error < 1e-6, "{error}");
}

#[test]
fn known_functions_at_128_bits() {
    let sigmoid = |x: f64| 1.0 / (1.0 + (-x).exp());
    for (name, cases) in [
        ("n16384_q50_6x45_p2x50", &[(15usize, 4e-3), (31, 3e-5)][..]),
        ("n32768_q50_12x45_p4x50", &[(63, 2e-9)]),
    ] {
        let w = World::new(preset(name));
        let x: Vec<f64> = values(w.context.slots(), 8).iter().map(|x| 8.0 * x).collect();
        let ct = w.encrypt(&x, 8.0);
        for &(degree, tolerance) in cases {
            let p = Polynomial::interpolate(sigmoid, -8.0, 8.0, degree).unwrap();
            assert!(p.max_error(sigmoid) < tolerance);
            assert_eq!(p.levels_needed(), ceil_log2(degree + 1) + 1);
            let (error, bound) = w.check(&p, &x, &ct);
            assert!(error < 1e-7, "{name}, {degree}: {error}");
            assert!(bound < 2f64.powi(-12), "{name}, {degree}: {bound}");
            let y = w.ev.polynomial(&ct, &p, &w.relin).unwrap();
            assert!((0.99..1.1).contains(&y.magnitude_bound()));
        }
    }
}

/// The requested precision is that of the result; powers whose coefficients are tiny may have less.
#[test]
fn precision_is_asked_of_the_result() {
    let w = World::new(tiny(7, 2));
    let x = values(w.context.slots(), 9);
    let ct = w.encrypt(&x, 1.0);
    let mut series = vec![0.0; 65];
    (series[1], series[64]) = (0.5, 1e-6);
    let p = Polynomial::chebyshev(&series, -1.0, 1.0).unwrap();
    let last = Polynomial::chebyshev(&[&[0.0; 64][..], &[1.0]].concat(), -1.0, 1.0).unwrap();
    let bits = w.ev.polynomial(&ct, &p, &w.relin).unwrap().precision_bits();
    let fewer = w.ev.polynomial(&ct, &last, &w.relin).unwrap().precision_bits();
    assert!(fewer < bits - 8.0, "{fewer} {bits}");
    let strict = w.ev.clone().with_min_precision(bits - 1.0);
    assert!(strict.polynomial(&ct, &p, &w.relin).is_ok());
    assert!(matches!(
        strict.polynomial(&ct, &last, &w.relin),
        Err(CkksError::Precision { .. })
    ));
}

#[test]
fn refusals() {
    let w = World::new(tiny(2, 2));
    let n = w.context.slots();
    let x = values(n, 1);
    let ct = w.encrypt(&x, 1.0);
    let degree = |d: usize| Polynomial::chebyshev(&vec![0.1; d + 1], -1.0, 1.0).unwrap();
    assert!(w.ev.polynomial(&ct, &degree(3), &w.relin).is_ok());
    assert_eq!(
        w.ev.polynomial(&ct, &degree(4), &w.relin).unwrap_err(),
        CkksError::Levels {
            needed: 3,
            available: 2
        }
    );
    let lower = w.ev.drop_level(&ct, 1).unwrap();
    assert_eq!(
        w.ev.polynomial(&lower, &degree(3), &w.relin).unwrap_err(),
        CkksError::Levels {
            needed: 2,
            available: 1
        }
    );
    let wide = w.encrypt(&x, 1.5);
    assert_eq!(
        w.ev.polynomial(&wide, &degree(3), &w.relin).unwrap_err(),
        CkksError::OutsideInterval {
            magnitude: 1.5,
            low: -1.0,
            high: 1.0
        }
    );
    // Empty slots hold zero.
    let few = w.encrypt(&[1.5, 1.2], 2.0);
    let p = Polynomial::chebyshev(&[0.1, 0.2, 0.3], 0.5, 2.5).unwrap();
    assert!(matches!(
        w.ev.polynomial(&few, &p, &w.relin),
        Err(CkksError::OutsideInterval { magnitude: 0.0, .. })
    ));
    assert!(
        w.ev.polynomial(&w.encrypt(&vec![1.5; n], 2.0), &p, &w.relin)
            .is_ok()
    );
    let other = SecretKey::from_seed(&w.context, &[1; 32])
        .unwrap()
        .relin_key()
        .unwrap();
    assert_eq!(
        w.ev.polynomial(&ct, &degree(3), &other).unwrap_err(),
        CkksError::KeyMismatch
    );
    // Powers that do not fit are refused before they wrap around.
    let large = w.encrypt(&x, 1e6);
    assert!(matches!(
        w.ev.polynomial(&large, &Polynomial::power(&[0.0, 0.0, 1.0]).unwrap(), &w.relin),
        Err(CkksError::Overflow { .. })
    ));
}
