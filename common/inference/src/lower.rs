//! From a model to the fewest encrypted operations that compute its outputs.
//!
//! Whatever is linear is folded, exactly in real arithmetic:
//! - A value on its way through the layers is an affine function of what was computed last. Linear layers, normalisations and pooling
//!   only change that function; it is computed where something is squared.
//! - A quadratic `a u^2 + b u + c` becomes a bare square (completing the square): with `v = sqrt|a| u + sign(a) b / (2 sqrt|a|)` it is
//!   `sign(a) v^2 + c - b^2 / (4a)`. The inner part goes into the weights before, sign and constant into those behind. Where `a` is so
//!   small that this would square large numbers, `sign(a) (sqrt|a| u)^2 + b u + c` is used: the linear part goes past the square.
//! - Polynomials of higher degree are split at powers of two; products are differences of two squares.
//! - Sums over windows of squares are taken before anything is relinearised, with weights 1, and cost no level.
//! - The weights of a single output go into what is squared last, `w v^2 = sign(w) (sqrt|w| v)^2`: it costs no level, and all squares
//!   are added up before one relinearisation.

use crate::network::{Network, Node, NodeId, Term};
use crate::sparse::{Sparse, Window};
use galen_models::{Layer, Model, ParameterKind, Range, Shape, Site};

/// A completed square whose shift is larger than this multiple of what is shifted loses precision, and is not used.
const MAX_SHIFT: f64 = 64.0;
/// Two linear maps in a row become one unless that has more terms than both by this factor: a level saved is worth more work.
const COMPOSE: usize = 2;

/// Largest number of elements of a layer: ciphertexts.
const MAX_ELEMENTS: usize = 1 << 17;
/// Largest number of weights of a layer, each place of a convolution counted by itself.
const MAX_TERMS: usize = 1 << 27;

/// A layer that this compiler cannot evaluate, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Unsupported {
    /// The layer's place.
    pub(crate) layer: String,
    /// Why, and what to do.
    pub(crate) why: &'static str,
}

/// A vector as an affine function of nodes: `sum of maps[k] * nodes[k] + constants`.
#[derive(Clone, Debug)]
struct Value {
    terms: Vec<Term>,
    constants: Vec<f64>,
}

/// Lowers a model. `ranges` are those of the inputs of the activations as they were recorded, by the place of the activation's
/// layer, if there are any.
pub(crate) fn lower(model: &Model, ranges: &dyn Fn(&str) -> Option<Range>) -> Result<Network, Unsupported> {
    let spec = model.spec();
    let sites = spec.resolve().map_err(|_| Unsupported {
        layer: "the network".into(),
        why: "is not possible",
    })?;
    let inputs = spec.inputs();
    let mut lowering = Lowering {
        model,
        ranges,
        nodes: vec![Node::Input { len: inputs }],
    };
    let start = Value {
        terms: vec![Term {
            node: 0,
            map: Sparse::identity(inputs),
        }],
        constants: vec![0.0; inputs],
    };
    let end = lowering.sequence(&sites, start)?;
    let end = lowering.sink(end);
    let mut network = Network {
        nodes: lowering.nodes,
    };
    network.nodes.push(Node::Sum {
        terms: end.terms,
        constants: end.constants,
        limits: None,
    });
    Ok(network)
}

struct Lowering<'a> {
    model: &'a Model,
    ranges: &'a dyn Fn(&str) -> Option<Range>,
    nodes: Vec<Node>,
}

impl Lowering<'_> {
    fn sequence(&mut self, sites: &[Site<'_>], mut value: Value) -> Result<Value, Unsupported> {
        for site in sites {
            value = self.layer(site, value)?;
        }
        Ok(value)
    }

    fn parameter(&self, site: &Site<'_>, kind: ParameterKind, which: usize) -> &[f64] {
        let mut of_kind = site.parameters.iter().filter(|p| p.kind == kind);
        of_kind.nth(which).map_or(&[], |p| p.of(self.model.params()))
    }

    fn layer(&mut self, site: &Site<'_>, value: Value) -> Result<Value, Unsupported> {
        let refuse = |why| {
            Err(Unsupported {
                layer: format!("{} ({})", site.path, site.layer.name()),
                why,
            })
        };
        if site.input.len().max(site.output.len()) > MAX_ELEMENTS {
            return refuse(
                "it has more than 131,072 elements, each of which would be a ciphertext: use a smaller image",
            );
        }
        let fan_in: usize = match site.layer {
            Layer::Dense { .. } | Layer::Residual { .. } => site.input.len(),
            Layer::Conv2d { kernel, .. }
            | Layer::AveragePool { kernel, .. }
            | Layer::SumPool { kernel, .. } => kernel
                .pair()
                .iter()
                .product::<usize>()
                .saturating_mul(site.input.channels()),
            _ => 1,
        };
        if fan_in.saturating_mul(site.output.len()) > MAX_TERMS {
            return refuse(
                "it has more than 134,217,728 weights, each place of a convolution counted by itself",
            );
        }
        let window = |kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]| Window {
            image: match site.input {
                Shape::Image(image) => image,
                Shape::Features(n) => [n, 1, 1],
            },
            kernel,
            stride,
            padding,
        };
        match site.layer {
            Layer::Flatten | Layer::Dropout { .. } => Ok(value),
            Layer::Dense { .. } => {
                let map = Sparse::dense(site.input.len(), self.parameter(site, ParameterKind::Weight, 0));
                let bias = self.parameter(site, ParameterKind::Bias, 0).to_vec();
                Ok(self.linear(&map, &bias, value))
            }
            Layer::Conv2d {
                channels,
                kernel,
                stride,
                padding,
                groups,
            } => {
                let window = window(kernel.pair(), stride.pair(), padding.pair());
                let weights = self.parameter(site, ParameterKind::Weight, 0);
                let map = Sparse::convolution(&window, *channels, *groups, weights);
                let bias = spread(self.parameter(site, ParameterKind::Bias, 0), site.output);
                Ok(self.linear(&map, &bias, value))
            }
            Layer::SumPool {
                kernel,
                stride,
                padding,
            }
            | Layer::AveragePool {
                kernel,
                stride,
                padding,
            } => {
                let stride = stride.unwrap_or(*kernel).pair();
                let map = Sparse::sum_pool(&window(kernel.pair(), stride, padding.pair()));
                let mean = matches!(site.layer, Layer::AveragePool { .. });
                let [height, width] = kernel.pair();
                let factor = if mean { 1.0 / (height * width) as f64 } else { 1.0 };
                Ok(self.pool(&map, factor, value))
            }
            Layer::BatchNorm { epsilon } => {
                let part = |kind| self.parameter(site, kind, 0);
                let variances = part(ParameterKind::Variance).iter();
                let scales: Vec<f64> = part(ParameterKind::Scale)
                    .iter()
                    .zip(variances)
                    .map(|(scale, variance)| scale / (variance + epsilon).sqrt())
                    .collect();
                let centres = scales.iter().zip(part(ParameterKind::Mean));
                let shifts: Vec<f64> = part(ParameterKind::Shift)
                    .iter()
                    .zip(centres)
                    .map(|(shift, (scale, mean))| shift - scale * mean)
                    .collect();
                Ok(value.scaled(&spread(&scales, site.output), &spread(&shifts, site.output)))
            }
            Layer::Add { .. } => {
                let long = self.sequence(&site.body, value.clone())?;
                let short = self.sequence(&site.shortcut, value)?;
                Ok(long.plus(short))
            }
            Layer::Residual { scale, power, .. } => {
                let inputs = site.input.len();
                let map = |which| Sparse::dense(inputs, self.parameter(site, ParameterKind::Weight, which));
                let bias = |which| self.parameter(site, ParameterKind::Bias, which).to_vec();
                let [(a, a0), (b, b0)] = [0, 1].map(|which| (map(which), bias(which)));
                let value = self.settled(value, &[&a, &b]);
                let linear = value.clone().mapped(&a, &a0);
                let inner = value.mapped(&b, &b0);
                Ok(match self.power(site, inner, *scale, *power) {
                    Some(powers) => powers.plus(linear),
                    None => return refuse("only powers of two are evaluated: set `power` to 2, 4 or 8"),
                })
            }
            Layer::Square => Ok(self.quadratic(site, value, |_| [0.0, 0.0, 1.0])),
            Layer::Power { scale, power } => match self.power(site, value, *scale, *power) {
                Some(value) => Ok(value),
                None => refuse("only powers of two are evaluated: set `power` to 2, 4 or 8"),
            },
            Layer::FixedPolynomial { coefficients } => {
                Ok(self.polynomial(site, value, coefficients.len() - 1, |_, k| coefficients[k]))
            }
            Layer::Polynomial { degree, .. } => {
                let coefficients = self.parameter(site, ParameterKind::Coefficient, 0).to_vec();
                let sets = coefficients.len() / (degree + 1);
                let area = if sets == site.input.channels() {
                    site.input.area()
                } else {
                    1
                };
                let of = |i: usize| if sets == 1 { 0 } else { i / area };
                Ok(self.polynomial(site, value, *degree, |i, k| coefficients[k * sets + of(i)]))
            }
            Layer::Hermite { epsilon } => {
                let part = |kind, which| self.parameter(site, kind, which);
                let all: Vec<[f64; 3]> = (0..site.input.channels())
                    .map(|c| {
                        let norm = |which| {
                            let (mean, variance) = (
                                part(ParameterKind::Mean, which)[c],
                                part(ParameterKind::Variance, which)[c],
                            );
                            (mean, (variance + epsilon).sqrt())
                        };
                        hermite(
                            part(ParameterKind::Scale, 0)[c],
                            part(ParameterKind::Shift, 0)[c],
                            norm(0),
                            norm(1),
                        )
                    })
                    .collect();
                let area = site.input.area();
                Ok(self.quadratic(site, value, |i| all[i / area]))
            }
            Layer::MaxPool { .. } => refuse("no polynomial computes a maximum: train with average_pool"),
            Layer::Relu | Layer::Sigmoid | Layer::Tanh | Layer::Sign => refuse(
                "it is not a polynomial: replace it by a quadratic with one of the training recipes, or use the exact engine",
            ),
            _ => refuse("this compiler does not know the layer"),
        }
    }

    /// `map * value + bias`.
    fn linear(&mut self, map: &Sparse, bias: &[f64], value: Value) -> Value {
        self.settled(value, &[map]).mapped(map, bias)
    }

    /// The value as it is, or computed, whichever makes the maps that follow cheaper. Computing a value costs a level, except that
    /// of squares with something added, which have to be divided anyway.
    fn settled(&mut self, value: Value, maps: &[&Sparse]) -> Value {
        let sum = |of: &dyn Fn(&Sparse) -> usize| maps.iter().map(|map| of(map)).sum::<usize>();
        let apart = value.terms.iter().map(|t| t.map.terms()).sum::<usize>() + sum(&|map| map.terms());
        let joined: usize = sum(&|map| value.terms.iter().map(|t| map.terms_after(&t.map)).sum());
        let worth = match value.terms.as_slice() {
            [term] if term.map.is_diagonal() => return value,
            [_] => COMPOSE * apart,
            _ => apart,
        };
        if joined <= worth {
            value
        } else {
            self.computed(value, None)
        }
    }

    /// `factor * map * value` where the map has only ones.
    fn pool(&mut self, map: &Sparse, factor: f64, value: Value) -> Value {
        let factors = vec![factor; map.rows().len()];
        let zeros = vec![0.0; map.rows().len()];
        // Squares with nothing but signs are summed before they are relinearised.
        if let [term] = value.terms.as_slice()
            && matches!(self.nodes[term.node], Node::Square { .. })
            && term.map.is_diagonal()
            && term.map.is_unit()
        {
            let constants = map.times(&value.constants);
            let node = self.push(Node::Sum {
                terms: vec![Term {
                    node: term.node,
                    map: map.after(&term.map),
                }],
                constants: zeros,
                limits: None,
            });
            let pooled = Value {
                terms: vec![Term {
                    node,
                    map: Sparse::identity(map.rows().len()),
                }],
                constants,
            };
            return pooled.scaled(&factors, &vec![0.0; factors.len()]);
        }
        self.linear(&map.clone().scaled(&factors), &zeros, value)
    }

    /// `c0 + c1 u + c2 u^2` with the coefficients of each element.
    fn quadratic(
        &mut self,
        site: &Site<'_>,
        value: Value,
        coefficients: impl Fn(usize) -> [f64; 3],
    ) -> Value {
        let size = value.constants.len();
        let all: Vec<[f64; 3]> = (0..size).map(coefficients).collect();
        let recorded = (self.ranges)(&site.path);
        // The size of what is squared, to judge shifts by.
        let reach = recorded.map_or(1.0, |r| r.magnitude().max(1e-9));
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
        let limits = recorded.map(|r| {
            let ends =
                |(&factor, &shift): (&f64, &f64)| Range::new(factor * r.min + shift, factor * r.max + shift);
            factors.iter().zip(&shifts).map(ends).collect()
        });
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
        squares.plus(value.scaled(&linear, &vec![0.0; size]))
    }

    /// `sum of c(i, k) u_i^k` for k up to `degree`, element by element.
    fn polynomial(
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
        let limits = (self.ranges)(&site.path).map(|r| vec![r; size]);
        let u = match value.terms.as_slice() {
            [term] if term.map.is_diagonal() && !matches!(self.nodes[term.node], Node::Square { .. }) => {
                value
            }
            _ => self.computed(value, limits),
        };
        let reach = (self.ranges)(&site.path).map_or(1.0, |r| r.magnitude().max(1e-9));
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
    fn power(&mut self, site: &Site<'_>, value: Value, scale: f64, power: u32) -> Option<Value> {
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

    /// The value as a node of its own.
    fn computed(&mut self, value: Value, limits: Option<Vec<Range>>) -> Value {
        let size = value.constants.len();
        let node = self.push(Node::Sum {
            terms: value.terms,
            constants: value.constants,
            limits,
        });
        Value {
            terms: vec![Term {
                node,
                map: Sparse::identity(size),
            }],
            constants: vec![0.0; size],
        }
    }

    /// For a single output: its weights go into the squares that it alone reads.
    fn sink(&mut self, mut value: Value) -> Value {
        if value.constants.len() != 1 {
            return value;
        }
        for term in &mut value.terms {
            let Node::Square { of } = self.nodes[term.node] else {
                continue;
            };
            let read_by = |node: &Node| match node {
                Node::Sum { terms, .. } => terms.iter().any(|t| t.node == term.node || t.node == of),
                Node::Square { of: inner } => *inner == term.node,
                Node::Input { .. } => false,
            };
            if self.nodes.iter().any(read_by) {
                continue;
            }
            let mut factors = vec![0.0; term.map.inputs()];
            let mut row = term.map.rows()[0].clone();
            row.iter().for_each(|&(j, w)| factors[j] = w.abs().sqrt());
            if let Node::Sum {
                terms,
                constants,
                limits,
            } = &mut self.nodes[of]
            {
                for inner in terms {
                    inner.map = inner.map.clone().scaled(&factors);
                }
                constants.iter_mut().zip(&factors).for_each(|(c, f)| *c *= f);
                for (limit, f) in limits.iter_mut().flatten().zip(&factors) {
                    *limit = Range::new(limit.min * f, limit.max * f);
                }
                row.retain(|&(_, w)| w != 0.0);
                row.iter_mut().for_each(|(_, w)| *w = w.signum());
                term.map = Sparse::row(term.map.inputs(), row);
            }
        }
        value
    }

    fn push(&mut self, node: Node) -> NodeId {
        self.nodes.push(node);
        self.nodes.len() - 1
    }
}

/// One value per channel as one per element.
fn spread(per_channel: &[f64], shape: Shape) -> Vec<f64> {
    let area = shape.area();
    per_channel
        .iter()
        .flat_map(|&x| std::iter::repeat_n(x, area))
        .collect()
}

/// The coefficients of a normalised Hermite activation (see [`Layer::Hermite`]) from scale, shift, and mean and deviation of both terms.
fn hermite(scale: f64, shift: f64, (m1, s1): (f64, f64), (m2, s2): (f64, f64)) -> [f64; 3] {
    use std::f64::consts::{PI, SQRT_2};
    let (f0, f1, f2) = ((2.0 * PI).sqrt().recip(), 0.5, (4.0 * PI).sqrt().recip());
    let constant = f0 - f1 * m1 / s1 - f2 * (1.0 / SQRT_2 + m2) / s2;
    [
        scale * constant + shift,
        scale * f1 / s1,
        scale * f2 / (SQRT_2 * s2),
    ]
}

impl Value {
    /// `map * self + bias`.
    fn mapped(self, map: &Sparse, bias: &[f64]) -> Self {
        let constants = map.times(&self.constants);
        Self {
            terms: self
                .terms
                .iter()
                .map(|t| Term {
                    node: t.node,
                    map: map.after(&t.map),
                })
                .collect(),
            constants: constants.iter().zip(bias).map(|(c, b)| c + b).collect(),
        }
    }

    /// `factors * self + shifts`, element by element.
    fn scaled(self, factors: &[f64], shifts: &[f64]) -> Self {
        let constants = self.constants.iter().zip(factors).zip(shifts);
        Self {
            constants: constants.map(|((c, f), s)| c * f + s).collect(),
            terms: self
                .terms
                .into_iter()
                .map(|t| Term {
                    node: t.node,
                    map: t.map.scaled(factors),
                })
                .collect(),
        }
    }

    fn plus(mut self, other: Self) -> Self {
        for (c, d) in self.constants.iter_mut().zip(&other.constants) {
            *c += d;
        }
        for term in other.terms {
            match self.terms.iter_mut().find(|t| t.node == term.node) {
                Some(own) => own.map = own.map.plus(&term.map),
                None => self.terms.push(term),
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::ModelSpec;

    /// Polynomials of every degree, split at powers of two.
    #[test]
    fn polynomials_are_what_their_coefficients_say() {
        for degree in 1..=16 {
            let coefficients: Vec<f64> = (0..=degree).map(|k| 0.7 - 0.1 * k as f64).collect();
            let spec = ModelSpec {
                input: Shape::Features(2),
                layers: vec![
                    Layer::Dense { outputs: 3 },
                    Layer::FixedPolynomial {
                        coefficients: coefficients.clone(),
                    },
                    Layer::Dense { outputs: 2 },
                ],
            };
            let model = Model::initial(spec, degree as u64).unwrap();
            for recorded in [None, Some(Range::new(-2.0, 2.0))] {
                let network = lower(&model, &|_| recorded).unwrap();
                let row = [0.7, -0.4];
                let weights = model.params();
                let activated: Vec<f64> = (0..3)
                    .map(|i| {
                        let u = weights[2 * i] * row[0] + weights[2 * i + 1] * row[1];
                        coefficients.iter().rev().fold(0.0, |sum, c| sum * u + c)
                    })
                    .collect();
                for (i, y) in network.evaluate(&row).iter().enumerate() {
                    // Six weights and three biases come before.
                    let expected: f64 = (0..3).map(|j| weights[9 + 3 * i + j] * activated[j]).sum();
                    assert!(
                        (y - expected).abs() < 1e-9,
                        "degree {degree}: {y}, not {expected}"
                    );
                }
            }
        }
    }
}
