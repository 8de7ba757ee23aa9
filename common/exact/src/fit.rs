//! Integer weights for one unit: the sum of few integers that follows a real target best, within a range.

use crate::circuit::Interval;

/// Columns of integers, and their second moments over the calibration rows: shared by all units that see the same wires.
#[derive(Debug)]
pub(crate) struct Design {
    ranges: Vec<Interval>,
    means: Vec<f64>,
    /// Sums of products of the centred columns.
    gram: Vec<f64>,
}

/// Integer weights, constant, and the range of their sum.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Fit {
    pub weights: Vec<i64>,
    pub constant: i64,
    pub range: Interval,
}

impl Design {
    /// One slice per column, all as long as `rows`, the weights of the rows; with the columns' possible ranges.
    pub(crate) fn new(columns: &[&[f64]], ranges: Vec<Interval>, rows: &[f64]) -> Self {
        let means: Vec<f64> = columns.iter().map(|column| mean(column, rows)).collect();
        let centred: Vec<Vec<f64>> = columns
            .iter()
            .zip(&means)
            .map(|(column, mean)| column.iter().map(|x| x - mean).collect())
            .collect();
        let size = columns.len();
        let mut gram = vec![0.0; size * size];
        for (i, a) in centred.iter().enumerate() {
            for (j, b) in centred.iter().enumerate().take(i + 1) {
                let product: f64 = a.iter().zip(b).zip(rows).map(|((a, b), w)| w * a * b).sum();
                gram[i * size + j] = product;
                gram[j * size + i] = product;
            }
        }
        Self { ranges, means, gram }
    }

    /// Sums of products of the centred columns with a target.
    pub(crate) fn project(&self, columns: &[&[f64]], target: &[f64], rows: &[f64]) -> Vec<f64> {
        let centre = mean(target, rows);
        let with = |(column, mean): (&&[f64], &f64)| {
            let pairs = column.iter().zip(target).zip(rows);
            pairs
                .map(|((x, t), w)| w * (x - mean) * (t - centre))
                .sum::<f64>()
        };
        columns.iter().zip(&self.means).map(with).collect()
    }

    /// Weights that make the squared distance from `factor` times the target small, while `fits` holds for the range of the sum.
    ///
    /// Greedy: the weight whose change by one gains most is changed, as long as one does; then one step back and one step elsewhere are
    /// taken together while that gains. `projection` is that of the target, `centre` its mean.
    pub(crate) fn fit(
        &self,
        projection: &[f64],
        centre: f64,
        factor: f64,
        fits: &dyn Fn(Interval) -> bool,
    ) -> Fit {
        let mut search = Search {
            design: self,
            slope: projection.iter().map(|p| p * factor).collect(),
            fit: Fit {
                weights: vec![0; self.means.len()],
                constant: 0,
                range: Interval::new(0, 0),
            },
            centre: centre * factor,
            fits,
        };
        search.place();
        // Every step lowers the squared distance, and ranges are bounded; the limit only cuts off the slowest tail.
        for _ in 0..MAX_STEPS {
            if !search.step() && !search.exchange() {
                break;
            }
        }
        search.fit
    }
}

const MAX_STEPS: usize = 4096;
/// Of all steps that would gain, so many of the best are tried for whether they fit.
const TRIED: usize = 16;

struct Search<'a> {
    design: &'a Design,
    /// What the columns have in common with what is left of the target.
    slope: Vec<f64>,
    fit: Fit,
    centre: f64,
    fits: &'a dyn Fn(Interval) -> bool,
}

impl Search<'_> {
    /// How much the squared distance falls when a weight changes by `sign`.
    fn gain(&self, column: usize, sign: f64) -> f64 {
        let size = self.slope.len();
        2.0 * sign * self.slope[column] - self.design.gram[column * size + column]
    }

    fn better(&self, column: usize) -> (f64, i64) {
        let (up, down) = (self.gain(column, 1.0), self.gain(column, -1.0));
        if up >= down { (up, 1) } else { (down, -1) }
    }

    fn change(&mut self, column: usize, sign: i64) {
        let size = self.slope.len();
        self.fit.weights[column] += sign;
        let row = &self.design.gram[column * size..][..size];
        for (slope, product) in self.slope.iter_mut().zip(row) {
            *slope -= sign as f64 * product;
        }
        self.place();
    }

    /// The constant that takes out the mean, and the range that follows.
    fn place(&mut self) {
        let weighted = self.fit.weights.iter().zip(&self.design.means);
        let mean: f64 = weighted.map(|(&w, m)| w as f64 * m).sum();
        self.fit.constant = (self.centre - mean).round() as i64;
        let (mut min, mut max) = (self.fit.constant, self.fit.constant);
        for (&weight, range) in self.fit.weights.iter().zip(&self.design.ranges) {
            let ends = [weight * range.min, weight * range.max];
            min += ends[0].min(ends[1]);
            max += ends[0].max(ends[1]);
        }
        self.fit.range = Interval::new(min, max);
    }

    /// The best single change that fits.
    fn step(&mut self) -> bool {
        let mut best: Vec<(f64, usize, i64)> = (0..self.slope.len())
            .map(|column| {
                let (gain, sign) = self.better(column);
                (gain, column, sign)
            })
            .filter(|&(gain, ..)| gain > GAIN)
            .collect();
        best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (_, column, sign) in best.into_iter().take(TRIED) {
            self.change(column, sign);
            if (self.fits)(self.fit.range) {
                return true;
            }
            self.change(column, -sign);
        }
        false
    }

    /// One weight a step towards zero, another a step anywhere, if both together gain and fit.
    fn exchange(&mut self) -> bool {
        let mut best: Option<(f64, usize, usize, i64)> = None;
        for column in 0..self.slope.len() {
            let weight = self.fit.weights[column];
            if weight == 0 {
                continue;
            }
            let back = -weight.signum();
            let lost = self.gain(column, back as f64);
            self.change(column, back);
            for other in (0..self.slope.len()).filter(|&other| other != column) {
                let (gain, sign) = self.better(other);
                if lost + gain > best.map_or(GAIN, |b| b.0) {
                    best = Some((lost + gain, column, other, sign));
                }
            }
            self.change(column, -back);
        }
        let Some((_, column, other, sign)) = best else {
            return false;
        };
        let back = -self.fit.weights[column].signum();
        self.change(column, back);
        self.change(other, sign);
        if (self.fits)(self.fit.range) {
            return true;
        }
        self.change(other, -sign);
        self.change(column, -back);
        false
    }
}

/// What counts as a gain: more than rounding.
const GAIN: f64 = 1e-6;

/// The mean of values with weights.
pub(crate) fn mean(values: &[f64], rows: &[f64]) -> f64 {
    let sum: f64 = values.iter().zip(rows).map(|(v, w)| v * w).sum();
    sum / rows.iter().sum::<f64>().max(f64::MIN_POSITIVE)
}

/// Minimises `sum of weight (columns x - target)^2 + sum of pull (x - start)^2` by conjugate gradients.
pub(crate) fn ridge(
    columns: &[Vec<f64>],
    weights: &[f64],
    target: &[f64],
    pull: &[f64],
    start: &[f64],
) -> Vec<f64> {
    let predict = |x: &[f64]| {
        let mut sums = vec![0.0; target.len()];
        for (column, &x) in columns.iter().zip(x) {
            sums.iter_mut().zip(column).for_each(|(sum, c)| *sum += x * c);
        }
        sums
    };
    let gradient = |residual: &[f64], deviation: &[f64]| -> Vec<f64> {
        let of = |((column, pull), deviation): ((&Vec<f64>, &f64), &f64)| {
            let fit = column.iter().zip(residual).zip(weights);
            fit.map(|((c, r), w)| c * r * w).sum::<f64>() + pull * deviation
        };
        columns.iter().zip(pull).zip(deviation).map(of).collect()
    };
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut x = start.to_vec();
    let missing: Vec<f64> = target.iter().zip(predict(&x)).map(|(t, p)| t - p).collect();
    let mut rest = gradient(&missing, &vec![0.0; x.len()]);
    let mut direction = rest.clone();
    let mut size = dot(&rest, &rest);
    let enough = size * 1e-18;
    for _ in 0..4 * columns.len() + 16 {
        if size <= enough {
            break;
        }
        let curved = gradient(&predict(&direction), &direction);
        let step = size / dot(&direction, &curved);
        x.iter_mut().zip(&direction).for_each(|(x, d)| *x += step * d);
        rest.iter_mut().zip(&curved).for_each(|(r, c)| *r -= step * c);
        let next = dot(&rest, &rest);
        let share = next / size;
        direction
            .iter_mut()
            .zip(&rest)
            .for_each(|(d, r)| *d = r + share * *d);
        size = next;
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_of_integers_is_found() {
        let rows = 200;
        let column = |k: usize| -> Vec<f64> {
            (0..rows)
                .map(|r| ((r * (2 * k + 3) + r / 7) % 5) as f64)
                .collect()
        };
        let columns: Vec<Vec<f64>> = (0..4).map(column).collect();
        let views: Vec<&[f64]> = columns.iter().map(Vec::as_slice).collect();
        let even = vec![1.0; rows];
        let design = Design::new(&views, vec![Interval::new(0, 4); 4], &even);
        let weights = [3.0, -2.0, 0.0, 1.0];
        let target: Vec<f64> = (0..rows)
            .map(|r| 5.0 + weights.iter().zip(&columns).map(|(w, c)| w * c[r]).sum::<f64>())
            .collect();
        let projection = design.project(&views, &target, &even);
        let centre = mean(&target, &even);
        let free = design.fit(&projection, centre, 1.0, &|_| true);
        assert_eq!((free.weights, free.constant), (vec![3, -2, 0, 1], 5));
        assert_eq!(free.range, Interval::new(-3, 21));
        // Half the range: a smaller sum, still correlated.
        let bound = |range: Interval| range.count() <= 13;
        let tight = design.fit(&projection, centre, 0.5, &bound);
        assert!(bound(tight.range));
        assert!(tight.weights[0] > 0 && tight.weights[1] < 0, "{tight:?}");
    }

    #[test]
    fn ridge_solves_and_pulls() {
        let columns = vec![vec![1.0, 2.0, 3.0, 4.0], vec![1.0; 4]];
        let target = [3.0, 5.0, 7.0, 9.0];
        let exact = ridge(&columns, &[1.0; 4], &target, &[0.0; 2], &[0.0; 2]);
        assert!(
            (exact[0] - 2.0).abs() < 1e-9 && (exact[1] - 1.0).abs() < 1e-9,
            "{exact:?}"
        );
        let pulled = ridge(&columns, &[1.0; 4], &target, &[1e9, 1e9], &[0.5, 0.25]);
        assert!((pulled[0] - 0.5).abs() < 1e-6 && (pulled[1] - 0.25).abs() < 1e-6);
    }
}
