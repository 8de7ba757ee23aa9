//! Chebyshev series in the clear: interpolation, evaluation, division, and a bound on their values.
//!
//! `T_k(cos a) = cos(k a)`, so on `-1..1` every `T_k` is within 1. That is what makes this basis the one to evaluate in
//! under encryption: coefficients stay small at any degree, and so do all values between.

use core::f64::consts::PI;

/// Cosines of `2 pi k / count` for `k` in `0..count`, `count` a power of two from 4.
///
/// By bisection of arcs with square roots only, which round the same on every platform.
fn cosines(count: usize) -> Vec<f64> {
    let mut points = vec![(1.0f64, 0.0f64), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0)];
    while points.len() < count {
        let mut finer = Vec::with_capacity(2 * points.len());
        for (k, &(x, y)) in points.iter().enumerate() {
            let next = points[(k + 1) % points.len()];
            let sum = (x + next.0, y + next.1);
            let norm = (sum.0 * sum.0 + sum.1 * sum.1).sqrt();
            finer.push((x, y));
            finer.push((sum.0 / norm, sum.1 / norm));
        }
        points = finer;
    }
    points.into_iter().map(|(x, _)| x).collect()
}

/// The zeros of `T_count`, `cos(pi (j + 1/2) / count)`, `count` a power of two.
pub(crate) fn nodes(count: usize) -> Vec<f64> {
    let table = cosines(4 * count);
    (0..count).map(|j| table[2 * j + 1]).collect()
}

/// The coefficients `c_0..=c_degree` of the Chebyshev interpolant of `f` on `-1..1` in `count` nodes (a power of two
/// above the degree), by the discrete cosine formula `c_k = (2 - [k = 0]) / count * sum of f(x_j) cos(pi k (j + 1/2) / count)`.
///
/// Coefficients that are nothing but rounding errors are exactly zero, so that even and odd functions show as such.
pub(crate) fn coefficients(f: impl Fn(f64) -> f64, degree: usize, count: usize) -> Vec<f64> {
    let table = cosines(4 * count);
    let values: Vec<f64> = (0..count).map(|j| f(table[2 * j + 1])).collect();
    let mut series: Vec<f64> = (0..=degree)
        .map(|k| {
            let sum: f64 = values
                .iter()
                .enumerate()
                .map(|(j, value)| value * table[k * (2 * j + 1) % (4 * count)])
                .sum();
            let twice = if k == 0 { 1.0 } else { 2.0 };
            twice * sum / count as f64
        })
        .collect();
    let largest = values.iter().map(|x| x.abs()).fold(0.0, f64::max);
    for c in &mut series {
        if c.abs() < largest * ROUNDING {
            *c = 0.0;
        }
    }
    series
}

/// Below this share of the largest value a coefficient is a sum of rounding errors.
const ROUNDING: f64 = 1.0 / (1u64 << 50) as f64;

/// `sum of c_k T_k(t)` by Clenshaw's recurrence.
pub(crate) fn clenshaw(series: &[f64], t: f64) -> f64 {
    let (mut next, mut after) = (0.0, 0.0);
    for &c in series.iter().skip(1).rev() {
        (next, after) = (c + 2.0 * t * next - after, next);
    }
    series.first().copied().unwrap_or_default() + t * next - after
}

/// Quotient and remainder with `p = q T_m + r`, both of lower degree than p, r of lower degree than `T_m`, by
/// `T_i = 2 T_m T_(i-m) - T_|2m-i|`; m at least 1.
pub(crate) fn divide(series: &[f64], m: usize) -> (Vec<f64>, Vec<f64>) {
    let mut remainder = series.to_vec();
    let mut quotient = vec![0.0; series.len().saturating_sub(m)];
    for i in (m..series.len()).rev() {
        let c = core::mem::take(&mut remainder[i]);
        if i == m {
            quotient[0] += c;
        } else {
            quotient[i - m] += 2.0 * c;
            remainder[i.abs_diff(2 * m)] -= c;
        }
    }
    remainder.truncate(m);
    (quotient, remainder)
}

/// A bound on the absolute values of a series on `-1..1`: the sum of its coefficients, or what its values in the
/// zeros of `T_count` allow, whichever is lower.
///
/// A polynomial of degree d is nowhere above its largest value in these zeros, divided by `cos(pi d / (2 count))`
/// (Ehlich and Zeller, Math. Z. 86, 1964, theorem 1).
pub(crate) fn bound(series: &[f64]) -> f64 {
    let sum: f64 = series.iter().map(|c| c.abs()).sum();
    let degree = series.len().saturating_sub(1);
    let count = (8 * degree.max(1)).next_power_of_two();
    // At most pi / 16, where cos x >= 1 - x^2 / 2 costs next to nothing and needs no library's cosine.
    let angle = PI * degree as f64 / (2 * count) as f64;
    let between = 1.0 - angle * angle / 2.0;
    let largest = nodes(count)
        .into_iter()
        .map(|t| clenshaw(series, t).abs())
        .fold(0.0, f64::max);
    // Clenshaw's rounding errors are within units of 2^-53 of d times the sum.
    let rounding = sum * (degree + 1) as f64 * ROUNDING;
    sum.min((largest + rounding) / between)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn direct(series: &[f64], t: f64) -> f64 {
        let angle = t.acos();
        series
            .iter()
            .enumerate()
            .map(|(k, c)| c * (k as f64 * angle).cos())
            .sum()
    }

    fn series(degree: usize, salt: usize) -> Vec<f64> {
        (0..=degree)
            .map(|k| ((k * k * 31 + 17 * salt + k) % 101) as f64 / 50.0 - 1.0)
            .collect()
    }

    #[test]
    fn clenshaw_is_the_sum() {
        for degree in [0, 1, 2, 5, 40] {
            let p = series(degree, 3);
            for t in [-1.0, -0.7, 0.0, 0.31, 1.0] {
                assert!((clenshaw(&p, t) - direct(&p, t)).abs() < 1e-11);
            }
        }
        assert_eq!(clenshaw(&[], 0.5), 0.0);
    }

    #[test]
    fn division_adds_up() {
        for degree in 0..40 {
            for m in [1, 2, 3, 4, 8, 16, 32] {
                let p = series(degree, m);
                let (q, r) = divide(&p, m);
                assert!(r.len() <= m);
                assert_eq!(q.len(), p.len().saturating_sub(m));
                for t in [-0.9, -0.2, 0.4, 0.99] {
                    let back = direct(&q, t) * (m as f64 * t.acos()).cos() + direct(&r, t);
                    assert!((back - direct(&p, t)).abs() < 1e-10, "{degree} {m}");
                }
            }
        }
    }

    #[test]
    fn interpolation_finds_a_series_again() {
        for degree in [0, 1, 7, 30] {
            let p = series(degree, 1);
            let found = coefficients(|t| clenshaw(&p, t), degree, 64);
            for (a, b) in p.iter().zip(&found) {
                assert!((a - b).abs() < 1e-13);
            }
        }
        let odd = coefficients(f64::sin, 15, 64);
        assert!(odd.iter().step_by(2).all(|&c| c == 0.0));
    }

    #[test]
    fn bounds_hold_and_are_near() {
        for degree in [0, 1, 2, 9, 33, 100] {
            let p = series(degree, 5);
            let largest = (0..=20_000)
                .map(|i| clenshaw(&p, f64::from(i) / 10_000.0 - 1.0).abs())
                .fold(0.0, f64::max);
            let bound = bound(&p);
            assert!(
                (largest..=1.03 * largest + 1e-9).contains(&bound),
                "{degree}: {largest} {bound}"
            );
        }
    }
}
