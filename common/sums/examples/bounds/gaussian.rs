//! Measures of the distribution of keys and noise, in double precision. Entries of the table are rounded to multiples of
//! `2^-63` (a test of galen-rns recomputes each from exact series), which is all that is used of them here.

use galen_sums::plan::KEY_AND_NOISE;
use std::f64::consts::{PI, SQRT_2};

/// sigma of keys and noise.
pub(crate) fn sigma() -> f64 {
    KEY_AND_NOISE.sigma_hundredths() as f64 / 100.0
}

/// The largest absolute value that the sampler returns.
pub(crate) fn cut() -> i64 {
    KEY_AND_NOISE.bound()
}

/// `exp(-x^2 / (2 sigma^2))`.
fn rho(x: f64, sigma: f64) -> f64 {
    (-x * x / (2.0 * sigma * sigma)).exp()
}

/// The sum of [`rho`] over all integers, each less `centre`.
fn mass(sigma: f64, centre: f64) -> f64 {
    let reach = (40.0 * sigma) as i64;
    (-reach..=reach).map(|x| rho(x as f64 - centre, sigma)).sum()
}

/// The share of the uncut discrete Gaussian beyond `cut`.
pub(crate) fn beyond(cut: i64) -> f64 {
    let tail: f64 = (cut + 1..cut + 400).map(|x| rho(x as f64, sigma())).sum();
    2.0 * tail / mass(sigma(), 0.0)
}

/// Probability of each absolute value under the cut distribution, from the formula.
pub(crate) fn cut_probabilities() -> Vec<f64> {
    let weight = |k: i64| if k == 0 { 1.0 } else { 2.0 * rho(k as f64, sigma()) };
    let total: f64 = (0..=cut()).map(weight).sum();
    (0..=cut()).map(|k| weight(k) / total).collect()
}

/// Probability of each absolute value under the table, from its entries.
pub(crate) fn table_probabilities() -> Vec<f64> {
    let whole = 1u64 << 63;
    let edges: Vec<u64> = [&[0], KEY_AND_NOISE.cumulative(), &[whole]].concat();
    edges
        .windows(2)
        .map(|pair| (pair[1] - pair[0]) as f64 / whole as f64)
        .collect()
}

/// Bound on the statistical distance of table and cut distribution: each of the probabilities is off by at most `2^-63`.
pub(crate) fn table_distance() -> f64 {
    0.5 * (cut() + 1) as f64 * 2f64.powi(-63)
}

/// Bound on the chi-square divergence of the table from the cut distribution, hence on the Kullback-Leibler one.
pub(crate) fn table_chi_square() -> f64 {
    let probabilities = cut_probabilities();
    probabilities.iter().map(|p| 2f64.powi(-126) / p).sum()
}

/// The smallest `1 - 2 ln E exp(l X) / (l^2 sigma^2)` of the table on a grid of l: above zero where the table is sub-Gaussian with its
/// own sigma. From `l = 2 cut / sigma^2` on that is certain, since `cosh(l cut)` is
/// below `exp(l^2 sigma^2 / 2)`.
pub(crate) fn sub_gaussian_slack() -> f64 {
    let probabilities = table_probabilities();
    let end = 2.0 * cut() as f64 / sigma().powi(2);
    let slack = |l: f64| {
        // Terms of cosh - 1, so that nothing cancels for small l.
        let generated: f64 = probabilities
            .iter()
            .zip(0i32..)
            .map(|(p, k)| 2.0 * p * (l * f64::from(k) / 2.0).sinh().powi(2))
            .sum();
        let allowed = l * l * sigma() * sigma() / 2.0;
        1.0 - generated.ln_1p() / allowed
    };
    (1..=20_000)
        .map(|step| slack(end * f64::from(step) / 20_000.0))
        .fold(f64::INFINITY, f64::min)
}

/// The largest ratio of a value's probability under the table and under the uncut Gaussian, less 1.
pub(crate) fn largest_ratio_excess() -> f64 {
    let probabilities = cut_probabilities();
    let rarest = probabilities.iter().copied().fold(1.0, f64::min);
    (2f64.powi(-63) / rarest).ln_1p().exp() / (1.0 - beyond(cut())) - 1.0
}

/// sigma of one of two keys when their sum is known.
pub(crate) fn hinted_sigma() -> f64 {
    sigma() / SQRT_2
}

/// sigma of the ring-LWE problem that lemma 3 reduces from: the two parts of the convolution are equally wide.
pub(crate) fn base_sigma() -> f64 {
    sigma() / 2.0
}

/// How far `sum over integers of rho_w(x - c)` is from its mean over c, as a share of it, where `1/w^2` is the sum of the
/// two parts' `1/sigma^2`: Poisson summation.
pub(crate) fn smoothing(first: f64, second: f64) -> f64 {
    let square = (first * second).powi(2) / (first * first + second * second);
    (1..10)
        .map(|k: i32| 2.0 * (-2.0 * PI * PI * square * f64::from(k * k)).exp())
        .sum()
}

/// Lemma 3 with Pinsker's inequality: the statistical distance that `coefficients` convolutions cost.
pub(crate) fn convolution_loss(smoothing: f64, coefficients: f64) -> f64 {
    let ratio = 2.0 * smoothing / (1.0 - smoothing);
    (coefficients / 2.0).sqrt() * ratio
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_cut_distribution() {
        let (table, formula) = (table_probabilities(), cut_probabilities());
        assert_eq!(table.len(), formula.len());
        for (k, (table, formula)) in table.iter().zip(&formula).enumerate() {
            // Double precision leaves 2^-50 or so of the larger ones.
            assert!((table - formula).abs() < 2f64.powi(-48), "{k}");
        }
        assert!((table.iter().sum::<f64>() - 1.0).abs() < 1e-12);
    }

    #[test]
    fn smoothing_agrees_with_the_sums_themselves() {
        // For a width at which the deviation is visible in double precision.
        for width in [0.5f64, 0.6, 0.8] {
            let sums: Vec<f64> = (0..100).map(|i| mass(width, f64::from(i) / 100.0)).collect();
            let mean = sums.iter().sum::<f64>() / 100.0;
            let worst = sums
                .iter()
                .map(|sum| (sum / mean - 1.0).abs())
                .fold(0.0, f64::max);
            let part = width * SQRT_2;
            assert!(
                (worst / smoothing(part, part) - 1.0).abs() < 0.05,
                "{width}: {worst}"
            );
        }
    }

    /// Lemma 3 in full for narrow Gaussians: the convolution's distance from the Gaussian is within the bound; it is not zero around
    /// an integer, and zero around the middle between two.
    #[test]
    fn the_convolution_is_as_close_as_lemma_3_says() {
        for (part, centre) in [(0.8f64, 0.0), (1.0, 0.0), (0.8, 0.5), (0.8, -1.5), (0.8, 0.3)] {
            let law = |sigma: f64, centre: f64| {
                let total = mass(sigma, centre);
                move |x: i64| rho(x as f64 - centre, sigma) / total
            };
            let (first, second, whole) = (law(part, 0.0), law(part, centre), law(part * SQRT_2, centre));
            let epsilon = smoothing(part, part);
            let mut worst = 0f64;
            for x in -4..=4 {
                let sum: f64 = (-40..=40).map(|s| first(s) * second(x - s)).sum();
                worst = worst.max((sum / whole(x) - 1.0).abs());
            }
            assert!(worst <= 2.0 * epsilon / (1.0 - epsilon), "{worst} {epsilon}");
            if (centre - 0.5).fract() == 0.0 {
                assert!(worst < 1e-12, "{worst}");
            } else {
                assert!(worst > epsilon / 10.0, "{worst} {epsilon}");
            }
        }
    }

    #[test]
    fn the_conditional_law_is_the_narrower_gaussian_around_half_the_sum() {
        // Lemma 1, from the joint law of the uncut distribution itself.
        let sigma = sigma();
        for sum in [0i64, 1, -7, 20] {
            let joint: Vec<f64> = (-60..=60)
                .map(|x| rho(x as f64, sigma) * rho((sum - x) as f64, sigma))
                .collect();
            let total: f64 = joint.iter().sum();
            let centre = sum as f64 / 2.0;
            let narrow = mass(hinted_sigma(), centre);
            for (x, joint) in (-60i64..=60).zip(joint) {
                let expected = rho(x as f64 - centre, hinted_sigma()) / narrow;
                assert!((joint / total - expected).abs() < 1e-12);
            }
        }
    }
}
