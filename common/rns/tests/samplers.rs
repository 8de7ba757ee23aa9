//! Samplers against their definitions: tables recomputed, moments, chi-square, ranges.

#![allow(clippy::unwrap_used, reason = "a failure is the test result")]

use galen_rns::RnsError;
use galen_rns::modulus::Modulus;
use galen_rns::ntt::Ntt;
use galen_rns::primes::ntt_primes;
use galen_rns::ring::RingKind;
use galen_rns::sampling::{
    Gaussian, flooding, gaussian, gaussian_residues, ternary, ternary_residues, uniform,
};
use galen_rns::xof::Xof;
use num_bigint::BigInt;

const SAMPLES: usize = 1_000_000;

/// Fraction bits of the recomputation.
const PRECISION: u64 = 256;

/// `2^256 exp(-numerator / denominator)`, from the power series of `exp` at half a power of two of the argument
/// and repeated squaring of its inverse; off by less than 2^-200 relatively.
fn exp_neg(numerator: u64, denominator: u64) -> BigInt {
    const HALVINGS: u64 = 12;
    let one = BigInt::from(1) << PRECISION;
    let x = (&one * numerator) / (BigInt::from(denominator) << HALVINGS);
    let (mut term, mut sum) = (one.clone(), one.clone());
    for k in 1u32..80 {
        term = ((&term * &x) >> PRECISION) / k;
        sum += &term;
    }
    let mut result = (&one * &one) / sum;
    for _ in 0..HALVINGS {
        result = (&result * &result) >> PRECISION;
    }
    result
}

/// `Pr[|X| = k] * 2^256` for k in `0..=bound`.
fn probabilities(distribution: &Gaussian) -> Vec<BigInt> {
    let sigma = distribution.sigma_hundredths();
    let weights: Vec<BigInt> = (0..=distribution.bound() as u64)
        .map(|k| exp_neg(k * k * 10_000, 2 * sigma * sigma) * if k == 0 { 1 } else { 2 })
        .collect();
    let total: BigInt = weights.iter().sum();
    weights.into_iter().map(|w| (w << PRECISION) / &total).collect()
}

fn float(x: &BigInt) -> f64 {
    let shifted = i128::try_from(x >> (PRECISION - 100)).unwrap();
    shifted as f64 / (100f64).exp2()
}

fn draw(distribution: &Gaussian, count: usize) -> Vec<i64> {
    let mut out = vec![0; count];
    gaussian(distribution, &mut Xof::new(&[42; 32], &[b"gaussian"]), &mut out);
    out
}

#[test]
fn the_series_is_the_exponential() {
    for (a, b) in [(1u64, 1u64), (7, 2), (361 * 10_000, 2 * 319 * 319)] {
        let expected = (-(a as f64) / b as f64).exp();
        assert!((float(&exp_neg(a, b)) / expected - 1.0).abs() < 1e-13);
    }
}

#[test]
fn tables_are_correct_to_the_last_bit() {
    for (distribution, bound) in [(Gaussian::SIGMA_3_19, 19), (Gaussian::SIGMA_4_6, 27)] {
        assert_eq!(distribution.bound(), bound);
        assert_eq!(bound as u64, 6 * distribution.sigma_hundredths() / 100);
        let table = distribution.cumulative();
        let mut sum = BigInt::ZERO;
        for (k, p) in probabilities(&distribution).iter().enumerate() {
            sum += p;
            let Some(&entry) = table.get(k) else { break };
            // Entry over 2^63 against sum over 2^256: within 2^-62 is within 2^194.
            let error = (BigInt::from(entry) << (PRECISION - 63)) - &sum;
            let limit = BigInt::from(1) << (PRECISION - 62);
            assert!(error < limit && -error < limit, "entry {k}");
        }
        assert!(table.is_sorted());
    }
}

#[test]
fn gaussian_moments_and_frequencies() {
    for distribution in [Gaussian::SIGMA_3_19, Gaussian::SIGMA_4_6] {
        let samples = draw(&distribution, SAMPLES);
        let bound = distribution.bound();
        assert!(samples.iter().all(|x| x.abs() <= bound));
        let n = SAMPLES as f64;
        let mean = samples.iter().sum::<i64>() as f64 / n;
        let variance = samples.iter().map(|x| x * x).sum::<i64>() as f64 / n - mean * mean;
        let sigma = distribution.sigma_hundredths() as f64 / 100.0;
        // Five standard errors: sigma / sqrt(n) for the mean, sigma^2 sqrt(2 / n) for the variance.
        assert!(mean.abs() < 5.0 * sigma / n.sqrt(), "mean {mean}");
        assert!(
            (variance - sigma * sigma).abs() < 5.0 * sigma * sigma * (2.0 / n).sqrt(),
            "variance {variance}"
        );

        // Chi-square over the signed values that are expected at least ten times; the rest in one class.
        let probabilities: Vec<f64> = probabilities(&distribution).iter().map(float).collect();
        let probability = |x: i64| {
            let p = probabilities[x.unsigned_abs() as usize];
            if x == 0 { p } else { p / 2.0 }
        };
        let (mut statistic, mut classes, mut rest, mut rest_seen) = (0.0, 0.0, 0.0, 0);
        for x in -bound..=bound {
            let expected = probability(x) * n;
            let seen = samples.iter().filter(|&&s| s == x).count();
            if expected >= 10.0 {
                statistic += (seen as f64 - expected).powi(2) / expected;
                classes += 1.0;
            } else {
                rest += expected;
                rest_seen += seen;
            }
        }
        if rest >= 1.0 {
            statistic += (f64::from(rest_seen as u32) - rest).powi(2) / rest;
            classes += 1.0;
        }
        // Mean classes - 1, variance twice that; six deviations.
        let freedom: f64 = classes - 1.0;
        assert!(
            statistic < freedom + 6.0 * (2.0 * freedom).sqrt(),
            "chi-square {statistic} of {freedom}"
        );
        assert!(
            statistic > freedom - 6.0 * (2.0 * freedom).sqrt(),
            "chi-square {statistic} of {freedom}"
        );
    }
}

#[test]
fn a_prefix_of_samples_is_the_same_whatever_the_length() {
    let long = draw(&Gaussian::SIGMA_3_19, 300);
    for count in [1, 63, 64, 65, 200] {
        assert_eq!(draw(&Gaussian::SIGMA_3_19, count), long[..count]);
    }
}

#[test]
fn ternary_is_uniform() {
    let mut samples = vec![9i8; SAMPLES];
    ternary(&mut Xof::new(&[43; 32], &[b"ternary"]), &mut samples);
    let mut pairs = [[0usize; 3]; 3];
    for pair in samples.chunks_exact(2) {
        assert!(pair.iter().all(|x| (-1..=1).contains(x)));
        pairs[(pair[0] + 1) as usize][(pair[1] + 1) as usize] += 1;
    }
    let expected = SAMPLES as f64 / 18.0;
    let statistic: f64 = pairs
        .iter()
        .flatten()
        .map(|&seen| (seen as f64 - expected).powi(2) / expected)
        .sum();
    // Eight degrees of freedom: beyond 40 has probability 3e-6.
    assert!(statistic < 40.0, "{statistic}");
}

#[test]
fn uniform_residues() {
    for bits in [20, 45, 50] {
        let modulus = Modulus::new(ntt_primes(16, bits, 1, &[]).unwrap()[0]).unwrap();
        let q = modulus.value();
        let mut samples = vec![0; SAMPLES / 4];
        uniform(&modulus, &mut Xof::new(&[44; 32], &[b"uniform"]), &mut samples);
        let mut buckets = [0usize; 64];
        for &x in &samples {
            assert!(x < q);
            buckets[(u128::from(x) * 64 / u128::from(q)) as usize] += 1;
        }
        let expected = samples.len() as f64 / 64.0;
        let statistic: f64 = buckets
            .iter()
            .map(|&seen| (seen as f64 - expected).powi(2) / expected)
            .sum();
        // 63 degrees of freedom, six deviations either side.
        assert!((statistic - 63.0).abs() < 6.0 * 126f64.sqrt(), "{statistic}");
    }
    // A modulus just above a power of two rejects almost half of the words.
    let modulus = Modulus::new(65_537).unwrap();
    let mut samples = vec![0; 100_000];
    uniform(&modulus, &mut Xof::new(&[45; 32], &[b"uniform"]), &mut samples);
    let mean = samples.iter().sum::<u64>() as f64 / 1e5;
    assert!(
        (mean - 32_768.0).abs() < 5.0 * 65_537.0 / (12f64 * 1e5).sqrt(),
        "{mean}"
    );
}

#[test]
fn flooding_has_its_deviation() {
    for bits in [1, 20, 58] {
        let mut samples = vec![0; SAMPLES / 4];
        flooding(bits, &mut Xof::new(&[46; 32], &[b"flooding"]), &mut samples).unwrap();
        let unit = f64::from(bits).exp2();
        assert!(samples.iter().all(|&x| (x as f64).abs() < 6.0 * unit));
        let n = samples.len() as f64;
        let mean = samples.iter().map(|&x| x as f64 / unit).sum::<f64>() / n;
        let variance = samples.iter().map(|&x| (x as f64 / unit).powi(2)).sum::<f64>() / n;
        let expected = 1.0 - 1.0 / (unit * unit);
        assert!(mean.abs() < 5.0 / n.sqrt(), "mean {mean}");
        assert!(
            (variance - expected).abs() < 5.0 * (2.0 / n).sqrt(),
            "variance {variance}"
        );
    }
    for bits in [0, 59, 64] {
        let refused = flooding(bits, &mut Xof::new(&[0; 32], &[]), &mut [0]);
        assert_eq!(
            refused,
            Err(RnsError::InvalidWidth {
                bits,
                min: 1,
                max: 58
            })
        );
    }
}

/// Every sampler word by word, as it is documented: the same values, and the same place in the stream afterwards.
#[test]
fn batches_are_as_words_one_by_one() {
    for count in [0usize, 1, 31, 32, 33, 511, 512, 513, 1000, 5000] {
        let stream = |name: &str| Xof::new(&[8; 32], &[name.as_bytes(), &count.to_le_bytes()]);

        for q in [3, 97, 257, ntt_primes(16, 50, 1, &[]).unwrap()[0]] {
            let m = Modulus::new(q).unwrap();
            let (mut a, mut b) = (stream("uniform"), stream("uniform"));
            let mut out = vec![0; count];
            uniform(&m, &mut a, &mut out);
            for x in out {
                let accepted =
                    core::iter::repeat_with(|| b.next_u64() & ((1 << m.bits()) - 1)).find(|&x| x < q);
                assert_eq!(Some(x), accepted);
            }
            assert_eq!(a.next_u64(), b.next_u64());
        }

        let (mut a, mut b) = (stream("ternary"), stream("ternary"));
        let mut signs = vec![0; count];
        ternary(&mut a, &mut signs);
        let mut expected = Vec::new();
        while expected.len() < count {
            let word = b.next_u64();
            let pairs = (0..32).map(|i| (word >> (2 * i)) & 3);
            expected.extend(pairs.filter(|&pair| pair != 3).map(|pair| pair as i8 - 1));
        }
        expected.truncate(count);
        assert_eq!(signs, expected);
        assert_eq!(a.next_u64(), b.next_u64());

        let (mut a, mut b) = (stream("gaussian"), stream("gaussian"));
        let mut errors = vec![0; count];
        gaussian(&Gaussian::SIGMA_3_19, &mut a, &mut errors);
        for error in &errors {
            let word = b.next_u64();
            let table = Gaussian::SIGMA_3_19.cumulative();
            let magnitude = table.iter().filter(|&&t| word & (u64::MAX >> 1) >= t).count() as i64;
            assert_eq!(*error, if word >> 63 == 1 { -magnitude } else { magnitude });
        }
        assert_eq!(a.next_u64(), b.next_u64());

        let (mut a, mut b) = (stream("flooding"), stream("flooding"));
        let mut noise = vec![0; count];
        flooding(40, &mut a, &mut noise).unwrap();
        for x in noise {
            let sum: i64 = (0..12).map(|_| (b.next_u64() & ((1 << 40) - 1)) as i64).sum();
            assert_eq!(x, sum - 6 * ((1 << 40) - 1));
        }
        assert_eq!(a.next_u64(), b.next_u64());

        // 17 is below the bound of the Gaussian, 97 above.
        let moduli = [17, 97, ntt_primes(16, 50, 1, &[]).unwrap()[0]].map(|q| Modulus::new(q).unwrap());
        let mut out = vec![0; 3 * count];
        if count == 0 {
            assert!(ternary_residues(&mut stream("ternary"), &moduli, &mut out).is_err());
            continue;
        }
        ternary_residues(&mut stream("ternary"), &moduli, &mut out).unwrap();
        for (row, m) in out.chunks(count).zip(&moduli) {
            assert!(row.iter().zip(&signs).all(|(&x, &s)| x == m.reduce_i64(s.into())));
        }
        gaussian_residues(&Gaussian::SIGMA_3_19, &mut stream("gaussian"), &moduli, &mut out).unwrap();
        for (row, m) in out.chunks(count).zip(&moduli) {
            assert!(row.iter().zip(&errors).all(|(&x, &e)| x == m.reduce_i64(e)));
        }
    }
    for (count, length) in [(0, 4), (3, 4), (2, 0)] {
        let moduli = vec![Modulus::new(97).unwrap(); count];
        let mut out = vec![0; length];
        assert!(matches!(
            ternary_residues(&mut Xof::new(&[1; 32], &[]), &moduli, &mut out),
            Err(RnsError::Length { .. })
        ));
    }
}

/// What attacks on weak instances of RLWE need is an error that is far from uniform modulo one of the prime ideals above q
/// (Peikert, ePrint 2016/351). Those are the values of the transform: chi-square over 256 bins.
#[test]
fn errors_are_uniform_modulo_a_prime_ideal() {
    let (degree, count, bins) = (1024usize, 4096usize, 256usize);
    let modulus = Modulus::new(ntt_primes(2 * degree, 20, 1, &[]).unwrap()[0]).unwrap();
    for kind in [RingKind::Cyclotomic, RingKind::ConjugateInvariant] {
        let ntt = Ntt::of_kind(kind, degree, modulus).unwrap();
        let mut xof = Xof::new(&[4; 32], &[b"prime ideals"]);
        let mut values = vec![vec![0usize; bins]; 3];
        for _ in 0..count {
            let mut error = vec![0; degree];
            gaussian_residues(&Gaussian::SIGMA_3_19, &mut xof, &[modulus], &mut error).unwrap();
            ntt.forward(&mut error);
            for (histogram, at) in values.iter_mut().zip([0, 1, degree - 1]) {
                histogram[(error[at] * bins as u64 / modulus.value()) as usize] += 1;
            }
        }
        for histogram in values {
            let mean = count as f64 / bins as f64;
            let chi: f64 = histogram.iter().map(|&c| (c as f64 - mean).powi(2) / mean).sum();
            // 255 degrees of freedom: mean 255, deviation 22.6; six deviations.
            assert!((chi - 255.0).abs() < 136.0, "{kind:?}: {chi}");
        }
    }
}
