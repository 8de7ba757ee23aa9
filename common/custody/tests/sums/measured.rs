//! What the written argument takes from the code, measured: the law of keys and noise, what a missing piece hides, and how often
//! noise passes its bound. The samples of [`chi`] are the same in every run.

use crate::federation::*;
use crate::insight::{self, chi_square};
use galen_core::Digest;
use galen_custody::seeds::chi;
use galen_sums::plan::{KEY_AND_NOISE, tail_bound};

const SIGMA: f64 = 4.6;
/// Categories are -14 and below, every value between, and 14 and above.
const LAST: i64 = 14;

/// Expected shares of the categories by the sampler's table.
fn shares() -> Vec<f64> {
    let whole = 2f64.powi(63);
    let up_to = |k: i64| KEY_AND_NOISE.cumulative()[k as usize] as f64 / whole;
    let of = |k: i64| match k.abs() {
        0 => up_to(0),
        LAST => (1.0 - up_to(LAST - 1)) / 2.0,
        k => (up_to(k) - up_to(k - 1)) / 2.0,
    };
    (-LAST..=LAST).map(of).collect()
}

/// The same for an uncut discrete Gaussian of this sigma and centre.
fn gaussian_shares(sigma: f64, centre: f64) -> Vec<f64> {
    let weight = |x: i64| (-(x as f64 - centre).powi(2) / (2.0 * sigma * sigma)).exp();
    let total: f64 = (-200..=200).map(weight).sum();
    let tail = |range: std::ops::RangeInclusive<i64>| range.map(weight).sum::<f64>() / total;
    let mut shares: Vec<f64> = (-LAST..=LAST).map(|x| weight(x) / total).collect();
    shares[0] = tail(-200..=-LAST);
    shares[2 * LAST as usize] = tail(LAST..=200);
    shares
}

fn counts(samples: impl IntoIterator<Item = i64>) -> Vec<u64> {
    let mut counts = vec![0; 2 * LAST as usize + 1];
    for sample in samples {
        counts[(sample.clamp(-LAST, LAST) + LAST) as usize] += 1;
    }
    counts
}

/// Pearson's statistic with 28 degrees of freedom: above 120 with probability below `10^-12`.
fn against(shares: &[f64], counts: &[u64]) -> f64 {
    let total = counts.iter().sum::<u64>() as f64;
    let expected: Vec<f64> = shares.iter().map(|share| share * total).collect();
    chi_square(counts, &expected)
}

/// A polynomial of a seed that counts up.
fn polynomial(seed: u32, contributor: usize, piece: u32) -> Vec<i64> {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&seed.to_le_bytes());
    let mut out = vec![0; 4096];
    chi(
        &bytes,
        &Digest::of(b"measured"),
        &name(contributor),
        piece,
        &mut out,
    );
    out
}

/// The correlation of two samples, in standard deviations of that of independent ones.
fn correlation(left: &[i64], right: &[i64]) -> f64 {
    let products: i64 = left.iter().zip(right).map(|(x, y)| x * y).sum();
    products as f64 / (SIGMA * SIGMA * (left.len() as f64).sqrt())
}

#[test]
fn key_pieces_follow_the_gaussian_of_sigma_4_6() {
    let samples: Vec<i64> = (0..200).flat_map(|seed| polynomial(seed, 0, 0)).collect();
    let counts = counts(samples.iter().copied());
    assert!(against(&shares(), &counts) < 120.0);
    assert!(against(&gaussian_shares(SIGMA, 0.0), &counts) < 120.0);
    // It would notice a sigma that is off by 2%.
    for sigma in [4.5, 4.7] {
        assert!(against(&gaussian_shares(sigma, 0.0), &counts) > 300.0, "{sigma}");
    }
    assert!(samples.iter().all(|x| x.abs() <= KEY_AND_NOISE.bound()));
    // Moments, to six standard deviations of each: variance sigma^2, fourth moment 3 sigma^4.
    let total = samples.len() as f64;
    let moment = |power: i32| samples.iter().map(|&x| (x as f64).powi(power)).sum::<f64>() / total;
    assert!(moment(1).abs() < 6.0 * SIGMA / total.sqrt());
    assert!((moment(2) / SIGMA.powi(2) - 1.0).abs() < 6.0 * (2.0 / total).sqrt());
    assert!((moment(4) / (3.0 * SIGMA.powi(4)) - 1.0).abs() < 6.0 * (96.0 / 9.0 / total).sqrt());
}

#[test]
fn coefficients_pieces_contributors_and_seeds_are_uncorrelated() {
    let samples: Vec<i64> = (0..100).flat_map(|seed| polynomial(seed, 0, 0)).collect();
    for lag in [1, 2, 32, 512, 4096] {
        assert!(correlation(&samples, &samples[lag..]).abs() < 6.0, "{lag}");
    }
    for (contributor, piece) in [(1, 0), (0, 1)] {
        let others: Vec<i64> = (0..100)
            .flat_map(|seed| polynomial(seed, contributor, piece))
            .collect();
        assert!(correlation(&samples, &others).abs() < 6.0);
    }
    // A sample with itself is 640 standard deviations away.
    assert!(correlation(&samples, &samples) > 600.0);
}

/// Lemma 1 of docs/sums-proof.md: given the sum, a key is a Gaussian of sigma / sqrt 2 around half of it.
#[test]
fn given_the_sum_of_two_keys_one_is_the_narrower_gaussian_around_half_of_it() {
    let pairs: Vec<(i64, i64)> = (0..200)
        .flat_map(|seed| polynomial(seed, 0, 0).into_iter().zip(polynomial(seed, 1, 0)))
        .collect();
    for sum in [0, 1, -2, 5] {
        let given = counts(pairs.iter().filter(|(x, y)| x + y == sum).map(|(x, _)| *x));
        assert!(given.iter().sum::<u64>() > 30_000);
        let distance = |sigma| {
            let (given, expected) = merged(&given, &gaussian_shares(sigma, sum as f64 / 2.0));
            against(&expected, &given)
        };
        assert!(distance(SIGMA / 2f64.sqrt()) < 120.0, "{sum}");
        assert!(distance(3.0) > 300.0, "{sum}");
    }
}

/// Categories that expect less than ten are put together with their neighbours, from both ends.
fn merged(counts: &[u64], shares: &[f64]) -> (Vec<u64>, Vec<f64>) {
    let enough = 10.0 / counts.iter().sum::<u64>() as f64;
    let large: Vec<usize> = (0..shares.len()).filter(|&i| shares[i] >= enough).collect();
    let (first, last) = (large[0], large[large.len() - 1]);
    let merge = |i: usize| i.clamp(first, last) - first;
    let mut out = (vec![0; last - first + 1], vec![0.0; last - first + 1]);
    for i in 0..shares.len() {
        out.0[merge(i)] += counts[i];
        out.1[merge(i)] += shares[i];
    }
    out
}

const BLOCKS: usize = 8;

/// Contributions of eight blocks of values at their bound.
fn contributions(attempt: &Attempt<'_>, count: usize) -> (Vec<Contribution>, Vec<i64>) {
    let values: Vec<i64> = (0..4096 * BLOCKS as i64)
        .map(|at| if at % 2 == 0 { 1 << 20 } else { -(1 << 20) })
        .collect();
    let all = (0..count).map(|i| attempt.contribute(i, &values)).collect();
    (all, values)
}

fn federation(sharing: Sharing) -> Federation {
    Federation::new(sharing, 3, vec![range(4096 * BLOCKS as u32, 1 << 20)])
}

/// The noise of a contribution, from all of its key.
fn noise_of(attempt: &Attempt<'_>, contribution: &Contribution, values: &[i64]) -> Vec<i64> {
    let custodians = attempt.federation.roster.custodians().len();
    let key = insight::sum(insight::pieces(attempt, contribution, 0..custodians).values());
    let blocks = insight::ciphertext(attempt, contribution);
    let (read, noise) = insight::split(&attempt.round, &insight::decrypt(&attempt.round, &blocks, &key));
    assert_eq!(read, values);
    noise
}

#[test]
fn the_noise_of_contributions_follows_the_gaussian_of_sigma_4_6() {
    let federation = federation(Sharing(5, 3, 3));
    let attempt = federation.announce_all(1, 0);
    let (all, values) = contributions(&attempt, 3);
    let noise: Vec<Vec<i64>> = all
        .iter()
        .map(|contribution| noise_of(&attempt, contribution, &values))
        .collect();
    assert!(against(&shares(), &counts(noise.concat())) < 120.0);
    // Neither blocks nor contributors share noise: seven standard deviations.
    for i in 0..3 {
        assert!(correlation(&noise[i], &noise[(i + 1) % 3]).abs() < 7.0);
        for block in 1..BLOCKS {
            assert!(correlation(&noise[i][..4096], &noise[i][block * 4096..]).abs() < 7.0);
        }
    }
}

#[test]
fn the_noise_of_a_sum_is_that_of_its_contributions_whatever_the_number_of_pieces() {
    for (sharing, pieces) in [(Sharing(5, 3, 3), 10), (Sharing(9, 5, 7), 126)] {
        let federation = federation(sharing);
        assert_eq!(federation.roster.pieces().len(), pieces);
        let mut attempt = federation.announce_all(1, 0);
        let (all, values) = contributions(&attempt, 3);
        let noise: Vec<Vec<i64>> = all
            .iter()
            .map(|contribution| noise_of(&attempt, contribution, &values))
            .collect();
        let total: Vec<i64> = (0..values.len())
            .map(|at| noise.iter().map(|n| n[at]).sum())
            .collect();
        let opened = attempt.finish(&attempt.custodians(), &all).unwrap();
        // Keys cancel to the last bit.
        let squares: u128 = total.iter().map(|n| u128::from(n.unsigned_abs()).pow(2)).sum();
        assert_eq!(opened.noise_squares, squares);
        assert_eq!(
            Some(opened.max_noise),
            total.iter().map(|n| n.unsigned_abs()).max()
        );
        // Seven standard deviations of the root mean square of 32768 coefficients: 7 / sqrt(2 * 32768) = 2.7%.
        let ratio = opened.noise_rms(attempt.round.plan()) / (SIGMA * 3f64.sqrt());
        assert!((0.97..1.03).contains(&ratio), "{pieces}: {ratio}");
    }
}

/// The one piece that a coalition of t-1 lacks is all that hides a contribution from it, and hides it well.
#[test]
fn without_one_piece_remainders_and_values_are_uniform_and_with_it_they_are_not() {
    for (sharing, coalition_size) in [(Sharing(5, 3, 3), 2), (Sharing(4, 4, 4), 3)] {
        let Sharing(n, _, _) = sharing;
        let federation = federation(sharing);
        let attempt = federation.announce_all(1, 0);
        let (all, values) = contributions(&attempt, 1);
        let blocks = insight::ciphertext(&attempt, &all[0]);
        let everything = insight::pieces(&attempt, &all[0], 0..n as usize);
        for coalition in subsets(n as usize, coalition_size) {
            let mut known = insight::pieces(&attempt, &all[0], coalition.iter().copied());
            assert_eq!(known.len() + 1, everything.len());
            let left = insight::decrypt(&attempt.round, &blocks, &insight::sum(known.values()));
            let (_, remainders) = insight::split(&attempt.round, &left);
            assert!(
                insight::evenness(&attempt.round, &remainders) < 100.0,
                "{coalition:?}"
            );
            // So is the whole number, over the range of Q.
            let modulus: i128 = attempt
                .round
                .plan()
                .primes
                .iter()
                .map(|&q| i128::from(q))
                .product();
            let mut counts = [0; 16];
            left.iter().for_each(|x| {
                counts[((x + modulus / 2) * 16 / modulus).clamp(0, 15) as usize] += 1;
            });
            assert!(chi_square(&counts, &[left.len() as f64 / 16.0; 16]) < 100.0);

            // The coalition with the missing piece: the values, and noise alone.
            for (piece, polynomial) in &everything {
                known.entry(*piece).or_insert_with(|| polynomial.clone());
            }
            let left = insight::decrypt(&attempt.round, &blocks, &insight::sum(known.values()));
            let (read, remainders) = insight::split(&attempt.round, &left);
            assert_eq!(read, values);
            assert!(insight::evenness(&attempt.round, &remainders) > 10_000.0);
        }
    }
}

/// The bound that the planner takes at `2^-40` and less, measured where it can be: it holds, and it is not far too wide.
#[test]
fn sums_pass_the_tail_bound_about_as_rarely_as_it_says() {
    let samples: Vec<i64> = (0..400).flat_map(|seed| polynomial(seed, 0, 0)).collect();
    for terms in [4usize, 16] {
        let sums: Vec<u64> = samples
            .chunks_exact(terms)
            .map(|terms| terms.iter().sum::<i64>().unsigned_abs())
            .collect();
        for exponent in [2, 4, 6, 8] {
            let bound = tail_bound(terms as u64, exponent);
            let share = sums.iter().filter(|sum| **sum > bound).count() as f64 / sums.len() as f64;
            let promised = 2f64.powi(-(exponent as i32));
            assert!(share <= promised, "{terms} {exponent}: {share}");
            assert!(share >= promised / 64.0, "{terms} {exponent}: {share}");
        }
    }
}
