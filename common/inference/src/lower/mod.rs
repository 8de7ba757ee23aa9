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

mod activation;
mod value;

use self::activation::hermite;
use self::value::Value;
use crate::network::{Limit, Network, Node, NodeId, Term};
use crate::sparse::{Sparse, Window};
use galen_models::{ActivationRange, Layer, Model, ParameterKind, Range, Shape, Site};

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

/// What entered an activation, by the place of its layer, if that was recorded.
pub(crate) type Seen<'a> = dyn Fn(&str) -> Option<&'a ActivationRange> + 'a;

/// Lowers a model by what was seen of it.
pub(crate) fn lower<'a>(model: &'a Model, seen: &'a Seen<'a>) -> Result<Network, Unsupported> {
    let spec = model.spec();
    let sites = spec.resolve().map_err(|_| Unsupported {
        layer: "the network".into(),
        why: "is not possible",
    })?;
    let inputs = spec.inputs();
    let mut lowering = Lowering {
        model,
        seen,
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
    seen: &'a Seen<'a>,
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

    /// The value as a node of its own.
    fn computed(&mut self, value: Value, limits: Option<Vec<Limit>>) -> Value {
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
                    limit.range = Range::new(limit.range.min * f, limit.range.max * f);
                    limit.typical = limit.typical.map(|typical| typical * f);
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

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::random::Stream;
    use galen_models::{ModelFile, ModelSpec};

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
            let two = ActivationRange {
                path: String::new(),
                channels: vec![Range::new(-2.0, 2.0)],
                moments: Vec::new(),
            };
            for recorded in [None, Some(&two)] {
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

    /// The evaluator, the folded model and the lowered network compute the same, whatever was recorded.
    #[test]
    fn networks_on_images_are_what_the_evaluator_computes() {
        let networks = [
            r#"
            input = [1, 7, 8]
            layers = [
                { conv2d = { channels = 3, kernel = [3, 2], stride = 2, padding = 1 } },
                "square",
                "flatten",
                { dense = { outputs = 4 } },
                "square",
                { dense = { outputs = 3 } },
            ]"#,
            r#"
            input = [2, 8, 8]
            layers = [
                { conv2d = { channels = 4, kernel = 3, padding = 1, groups = 2 } },
                { batch_norm = {} },
                { polynomial = { degree = 2, per = "channel" } },
                { average_pool = { kernel = 3, stride = 2, padding = 1 } },
                { add = { body = [
                    { conv2d = { channels = 4, kernel = 3, padding = 1 } },
                    { hermite = {} },
                ] } },
                { sum_pool = { kernel = 2 } },
                { polynomial = { degree = 4, per = "element" } },
                { batch_norm = {} },
                "flatten",
                { dropout = { rate = 0.5 } },
                { residual = { outputs = 3, scale = 0.1, power = 2 } },
                { dense = { outputs = 1 } },
            ]"#,
        ];
        for (n, text) in networks.iter().enumerate() {
            let spec: ModelSpec = toml::from_str(text).unwrap();
            let mut stream = Stream::new("lowering test", n as u64, &[]);
            let mut params = Model::initial(spec.clone(), 3).unwrap().params().to_vec();
            for block in spec.parameters() {
                for p in &mut params[block.offset..block.offset + block.len()] {
                    *p = match block.kind {
                        ParameterKind::Variance => 0.5 + stream.unit(),
                        _ => *p + 0.2 * stream.symmetric(),
                    };
                }
            }
            let mut file = ModelFile::from(Model::new(spec.clone(), params).unwrap());
            let rows: Vec<Vec<f64>> = (0..9)
                .map(|_| (0..spec.inputs()).map(|_| stream.symmetric()).collect())
                .collect();
            let expected = file.record(&rows).unwrap();
            let scale = expected.rows().flatten().fold(1.0, |m: f64, v| m.max(v.abs()));
            let recorded = crate::Recorded::of(&file.annotations.activations).activations;
            assert_eq!(recorded.len(), file.annotations.activations.len());
            let folded = file.model.folded().unwrap();
            let none = |_: &str| None;
            for (what, network) in [
                ("unrecorded", lower(&file.model, &none)),
                ("recorded", lower(&file.model, &|place| recorded.get(place))),
                ("folded", lower(&folded, &none)),
            ] {
                let network = network.unwrap();
                for (row, outputs) in rows.iter().zip(expected.rows()) {
                    for (y, expected) in network.evaluate(row).iter().zip(outputs) {
                        let error = (y - expected).abs() / scale;
                        assert!(error < 1e-11, "network {n}, {what}: {y}, not {expected}");
                    }
                }
            }
        }
    }
}
