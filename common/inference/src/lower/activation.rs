//! Activations as squares.

use super::Lowering;
use super::value::Value;
use crate::network::{Limit, Node, Term};
use crate::sparse::Sparse;
use galen_models::{Moments, Range, Site};

/// A completed square whose shift is larger than this multiple of what is shifted loses precision, and is not used.
const MAX_SHIFT: f64 = 64.0;

/// The largest magnitude within recorded ranges; not 0.
fn reach(recorded: &[Limit]) -> f64 {
    let magnitudes = recorded.iter().map(|limit| limit.range.magnitude());
    magnitudes.fold(1e-9, f64::max)
}

impl Lowering<'_> {
    /// What was recorded of each element that enters an activation, times its factor and plus its shift.
    fn recorded(&self, site: &Site<'_>, factors: &[f64], shifts: &[f64]) -> Option<Vec<Limit>> {
        let seen = (self.seen)(&site.path)?;
        let area = (factors.len() / seen.channels.len().max(1)).max(1);
        let limit = |(index, (&factor, &shift)): (usize, (&f64, &f64))| {
            let channel = index / area;
            let range = seen.channels.get(channel)?;
            let typical = |m: &Moments| m.root_mean_square(factor, shift);
            Some(Limit {
                range: Range::new(factor * range.min + shift, factor * range.max + shift),
                typical: seen.moments.get(channel).and_then(typical),
            })
        };
        let pairs = factors.iter().zip(shifts);
        pairs.enumerate().map(limit).collect()
    }

    /// `c0 + c1 u + c2 u^2` with the coefficients of each element.
    pub(super) fn quadratic(
        &mut self,
        site: &Site<'_>,
        value: Value,
        coefficients: impl Fn(usize) -> [f64; 3],
    ) -> Value {
        let size = value.constants.len();
        let all: Vec<[f64; 3]> = (0..size).map(coefficients).collect();
        let (ones, zeros) = (vec![1.0; size], vec![0.0; size]);
        // The size of what is squared, to judge shifts by.
        let reach = self.recorded(site, &ones, &zeros).as_deref().map_or(1.0, reach);
        let completes =
            |&[_, b, a]: &[f64; 3]| b == 0.0 || (a != 0.0 && (b / (2.0 * a)).abs() <= MAX_SHIFT * reach);
        let complete = all.iter().all(completes);
        let factors: Vec<f64> = all.iter().map(|&[_, _, a]| a.abs().sqrt()).collect();
        let shifts: Vec<f64> = all
            .iter()
            .zip(&factors)
            .map(|(&[_, b, a], &root)| {
                if complete && a != 0.0 {
                    b * a.signum() / (2.0 * root)
                } else {
                    0.0
                }
            })
            .collect();
        let constants: Vec<f64> = all
            .iter()
            .map(|&[c, b, a]| {
                if complete && a != 0.0 {
                    c - b * b / (4.0 * a)
                } else {
                    c
                }
            })
            .collect();
        let limits = self.recorded(site, &factors, &shifts);
        let inner = value.clone().scaled(&factors, &shifts);
        let inner = self.push(Node::Sum {
            terms: inner.terms,
            constants: inner.constants,
            limits,
        });
        let square = self.push(Node::Square { of: inner });
        let squares = Value {
            terms: vec![Term {
                node: square,
                map: Sparse::diagonal(
                    all.iter()
                        .map(|&[_, _, a]| if a == 0.0 { 0.0 } else { a.signum() }),
                ),
            }],
            constants,
        };
        let linear: Vec<f64> = all
            .iter()
            .map(|&[_, b, a]| if complete && a != 0.0 { 0.0 } else { b })
            .collect();
        if linear.iter().all(|&b| b == 0.0) {
            return squares;
        }
        squares.plus(value.scaled(&linear, &zeros))
    }

    /// `sum of c(i, k) u_i^k` for k up to `degree`, element by element.
    pub(super) fn polynomial(
        &mut self,
        site: &Site<'_>,
        value: Value,
        degree: usize,
        c: impl Fn(usize, usize) -> f64,
    ) -> Value {
        let size = value.constants.len();
        let used = |&k: &usize| (0..size).any(|i| c(i, k) != 0.0);
        let degree = (1..=degree).rev().find(used).unwrap_or(1);
        if degree <= 2 {
            let at = |i: usize, k: usize| if k <= degree { c(i, k) } else { 0.0 };
            return self.quadratic(site, value, |i| [at(i, 0), at(i, 1), at(i, 2)]);
        }
        // The value is read several times.
        let limits = self.recorded(site, &vec![1.0; size], &vec![0.0; size]);
        let reach = limits.as_deref().map_or(1.0, reach);
        let u = match value.terms.as_slice() {
            [term] if term.map.is_diagonal() && !matches!(self.nodes[term.node], Node::Square { .. }) => {
                value
            }
            _ => self.computed(value, limits),
        };
        let bare = Site {
            path: String::new(),
            ..site.clone()
        };
        let mut powers = vec![u];
        while 1 << powers.len() <= degree {
            let last = powers[powers.len() - 1].clone();
            powers.push(self.quadratic(&bare, last, |_| [0.0, 0.0, 1.0]));
        }
        self.split(&bare, &powers, 0, degree, reach, &c)
    }

    /// The part of a polynomial from degree `from` to `to`, divided by `u^from`: `u^k` times the upper part plus the lower one, for the
    /// largest power of two k that is not above its degree. `powers` are u, u^2, u^4 and so on.
    fn split(
        &mut self,
        site: &Site<'_>,
        powers: &[Value],
        from: usize,
        to: usize,
        reach: f64,
        c: &impl Fn(usize, usize) -> f64,
    ) -> Value {
        let size = powers[0].constants.len();
        let column = |k: usize| -> Vec<f64> { (0..size).map(|i| c(i, from + k)).collect() };
        let degree = to - from;
        if degree <= 1 {
            let slope = if degree == 1 { column(1) } else { vec![0.0; size] };
            return powers[0].clone().scaled(&slope, &column(0));
        }
        let order = degree.ilog2();
        let middle = from + (1 << order);
        let lower = self.split(site, powers, from, middle - 1, reach, c);
        let power = &powers[order as usize];
        if middle == to {
            return power
                .clone()
                .scaled(&column(to - from), &vec![0.0; size])
                .plus(lower);
        }
        let upper = self.split(site, powers, middle, to, reach, c);
        // Factors of one size, so that neither drowns in the noise of the other.
        let high = |i: usize| {
            (middle..=to)
                .map(|k| c(i, k).abs() * reach.powi((k - middle) as i32))
                .sum::<f64>()
        };
        let balance: Vec<f64> = (0..size)
            .map(|i| (high(i).max(1e-9) / reach.powi(1 << order)).sqrt())
            .collect();
        self.product(site, power.clone(), upper, &balance).plus(lower)
    }

    /// `x y`, element by element, as `((t x + y / t)^2 - (t x - y / t)^2) / 4`.
    fn product(&mut self, site: &Site<'_>, x: Value, y: Value, t: &[f64]) -> Value {
        let zeros = vec![0.0; t.len()];
        let inverses: Vec<f64> = t.iter().map(|t| 1.0 / t).collect();
        let (x, y) = (x.scaled(t, &zeros), y.scaled(&inverses, &zeros));
        let minus = vec![-1.0; t.len()];
        let sum = x.clone().plus(y.clone());
        let difference = x.plus(y.scaled(&minus, &zeros));
        let plus = self.quadratic(site, sum, |_| [0.0, 0.0, 0.25]);
        plus.plus(self.quadratic(site, difference, |_| [0.0, 0.0, -0.25]))
    }

    /// `scale * u^power`; `None` unless the power is a power of two, and at least 2.
    pub(super) fn power(&mut self, site: &Site<'_>, value: Value, scale: f64, power: u32) -> Option<Value> {
        if !power.is_power_of_two() || power < 2 {
            return None;
        }
        if power == 2 {
            return Some(self.quadratic(site, value, |_| [0.0, 0.0, scale]));
        }
        let mut powers = self.quadratic(site, value, |_| [0.0, 0.0, 1.0]);
        let unrecorded = Site {
            path: String::new(),
            ..site.clone()
        };
        let mut done = 4;
        while done < power {
            powers = self.quadratic(&unrecorded, powers, |_| [0.0, 0.0, 1.0]);
            done *= 2;
        }
        Some(self.quadratic(&unrecorded, powers, |_| [0.0, 0.0, scale]))
    }
}

/// The coefficients of a normalised Hermite activation (see [`Layer::Hermite`]) from scale, shift, and mean and deviation of both terms.
pub(super) fn hermite(scale: f64, shift: f64, (m1, s1): (f64, f64), (m2, s2): (f64, f64)) -> [f64; 3] {
    use std::f64::consts::{PI, SQRT_2};
    let (f0, f1, f2) = ((2.0 * PI).sqrt().recip(), 0.5, (4.0 * PI).sqrt().recip());
    let constant = f0 - f1 * m1 / s1 - f2 * (1.0 / SQRT_2 + m2) / s2;
    [
        scale * constant + shift,
        scale * f1 / s1,
        scale * f2 / (SQRT_2 * s2),
    ]
}
