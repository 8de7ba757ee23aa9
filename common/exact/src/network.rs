//! A model as weighted sums and activations, everything linear folded.

use crate::circuit::MAX_TERMS;
use galen_models::{Granularity, Layer, Model, Shape, Site};

/// `constant + sum of weight * wire`, each wire once, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Linear {
    pub terms: Vec<(usize, f64)>,
    pub constant: f64,
}

/// What acts on one value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Function {
    Relu,
    Sigmoid,
    Tanh,
    Sign,
    /// From the constant up.
    Polynomial(Vec<f64>),
    /// Only made by [`Network::with_distances`].
    Abs,
}

/// One activation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Unit {
    pub sum: Linear,
    pub function: Function,
}

/// A model: wires are its inputs, then its units, in order of evaluation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Network {
    pub inputs: usize,
    pub units: Vec<Unit>,
    pub outputs: Vec<Linear>,
}

/// A model that the exact engine does not evaluate.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// A layer that is no sum and no activation.
    #[error("{layer} ({kind}) cannot be evaluated exactly; use sums, means and activations of single values")]
    Unsupported {
        /// The layer.
        layer: String,
        /// Its kind.
        kind: &'static str,
    },
    /// Too many terms.
    #[error("with {layer} the model's folded sums have more than {MAX_TERMS} terms")]
    Terms {
        /// The layer.
        layer: String,
    },
    /// The specification is impossible.
    #[error(transparent)]
    Spec(#[from] galen_models::SpecError),
}

impl Function {
    pub(crate) fn apply(&self, x: f64) -> f64 {
        match self {
            Self::Relu => x.max(0.0),
            Self::Sigmoid => galen_models::metrics::sigmoid(x),
            Self::Tanh => x.tanh(),
            Self::Sign => {
                if x >= 0.0 {
                    1.0
                } else {
                    -1.0
                }
            }
            Self::Abs => x.abs(),
            Self::Polynomial(coefficients) => coefficients.iter().rev().fold(0.0, |sum, c| sum * x + c),
        }
    }
}

impl Linear {
    fn wire(wire: usize) -> Self {
        Self {
            terms: vec![(wire, 1.0)],
            constant: 0.0,
        }
    }

    pub(crate) fn apply(&self, values: &[f64]) -> f64 {
        let products = self.terms.iter().map(|&(wire, weight)| weight * values[wire]);
        self.constant + products.sum::<f64>()
    }

    /// The weighted sum of others.
    fn combine<'a>(parts: impl Iterator<Item = (f64, &'a Self)>, constant: f64) -> Self {
        let mut sum = Self {
            terms: Vec::new(),
            constant,
        };
        for (weight, part) in parts {
            if weight == 0.0 {
                continue;
            }
            sum.constant += weight * part.constant;
            sum.terms
                .extend(part.terms.iter().map(|&(wire, w)| (wire, weight * w)));
        }
        sum.terms.sort_by_key(|&(wire, _)| wire);
        let mut terms: Vec<(usize, f64)> = Vec::with_capacity(sum.terms.len());
        for (wire, weight) in sum.terms {
            match terms.last_mut() {
                Some((last, total)) if *last == wire => *total += weight,
                _ => terms.push((wire, weight)),
            }
        }
        sum.terms = terms;
        sum
    }
}

impl Network {
    /// Folds a model.
    pub(crate) fn fold(model: &Model) -> Result<Self, NetworkError> {
        let sites = model.spec().resolve()?;
        let inputs = model.spec().inputs();
        let mut walk = Walk {
            params: model.params(),
            inputs,
            units: Vec::new(),
        };
        let outputs = walk.sequence(&sites, (0..inputs).map(Linear::wire).collect())?;
        Ok(Self {
            inputs,
            units: walk.units,
            outputs,
        })
    }

    /// Writes every ReLU that only outputs use as `(x + |x|) / 2`. The first part is linear, so that outputs take it without a bootstrap
    /// and without loss; the second needs half the table of a ReLU, because it changes its sign (see `encoding`).
    pub(crate) fn with_distances(mut self) -> Self {
        let inner = self.inner();
        let inputs = self.inputs;
        let linear: Vec<Option<Linear>> = self
            .units
            .iter()
            .enumerate()
            .map(|(unit, Unit { sum, function })| {
                (*function == Function::Relu && !inner[unit]).then(|| sum.clone())
            })
            .collect();
        for output in &mut self.outputs {
            let skipped = output.terms.iter().filter_map(|&(wire, weight)| {
                let unit = wire.checked_sub(inputs)?;
                Some((weight / 2.0, linear[unit].as_ref()?))
            });
            let skip = Linear::combine(skipped, 0.0);
            for (wire, weight) in &mut output.terms {
                if wire
                    .checked_sub(inputs)
                    .is_some_and(|unit| linear[unit].is_some())
                {
                    *weight /= 2.0;
                }
            }
            *output = Linear::combine([(1.0, &*output), (1.0, &skip)].into_iter(), 0.0);
        }
        for (unit, linear) in self.units.iter_mut().zip(linear) {
            if linear.is_some() {
                unit.function = Function::Abs;
            }
        }
        self
    }

    /// Which units other units use.
    pub(crate) fn inner(&self) -> Vec<bool> {
        let mut inner = vec![false; self.units.len()];
        for &(wire, _) in self.units.iter().flat_map(|unit| &unit.sum.terms) {
            if let Some(unit) = wire.checked_sub(self.inputs) {
                inner[unit] = true;
            }
        }
        inner
    }

    /// All wires' values for one row, and the outputs.
    pub(crate) fn evaluate(&self, row: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let mut values = row.to_vec();
        for unit in &self.units {
            values.push(unit.function.apply(unit.sum.apply(&values)));
        }
        let outputs = self.outputs.iter().map(|sum| sum.apply(&values)).collect();
        (values, outputs)
    }
}

struct Walk<'a> {
    params: &'a [f64],
    inputs: usize,
    units: Vec<Unit>,
}

impl Walk<'_> {
    fn sequence(&mut self, sites: &[Site<'_>], mut values: Vec<Linear>) -> Result<Vec<Linear>, NetworkError> {
        for site in sites {
            values = self.site(site, values)?;
            if values.iter().map(|v| v.terms.len()).sum::<usize>() > MAX_TERMS {
                return Err(NetworkError::Terms {
                    layer: site.path.clone(),
                });
            }
        }
        Ok(values)
    }

    fn site(&mut self, site: &Site<'_>, x: Vec<Linear>) -> Result<Vec<Linear>, NetworkError> {
        let params = self.params;
        let parameter = |index: usize| site.parameters[index].of(params);
        let area = site.input.area();
        match site.layer {
            Layer::Dense { .. } => Ok(dense(parameter(0), parameter(1), &x)),
            Layer::Residual { scale, power, .. } => {
                let linear = dense(parameter(0), parameter(1), &x);
                let inner = dense(parameter(2), parameter(3), &x);
                let mut coefficients = vec![0.0; *power as usize];
                coefficients.push(*scale);
                let powers = self.activate(inner, |_| Function::Polynomial(coefficients.clone()));
                Ok(add(&linear, &powers))
            }
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                groups,
                ..
            } => {
                let (weight, bias) = (parameter(0), parameter(1));
                let window = Window::new(site, kernel.pair(), stride.pair(), padding.pair());
                let (Shape::Image([channels, ..]), Shape::Image([outputs, ..])) = (site.input, site.output)
                else {
                    return Err(unsupported(site));
                };
                let (per_group, out_group) = (channels / groups, outputs / groups);
                let mut y = Vec::with_capacity(site.output.len());
                for (output, &bias) in bias.iter().enumerate() {
                    let first = output / out_group * per_group;
                    for place in window.places() {
                        let taps = (0..per_group).flat_map(|channel| {
                            window.taps(place).map(move |(tap, pixel)| (channel, tap, pixel))
                        });
                        let size = window.size();
                        let parts = taps.map(|(channel, tap, pixel)| {
                            let w = weight[(output * per_group + channel) * size + tap];
                            (w, &x[(first + channel) * area + pixel])
                        });
                        y.push(Linear::combine(parts, bias));
                    }
                }
                Ok(y)
            }
            Layer::AveragePool {
                kernel,
                stride,
                padding,
            }
            | Layer::SumPool {
                kernel,
                stride,
                padding,
            } => {
                let window = Window::new(
                    site,
                    kernel.pair(),
                    stride.unwrap_or(*kernel).pair(),
                    padding.pair(),
                );
                let factor = match site.layer {
                    Layer::SumPool { .. } => 1.0,
                    _ => 1.0 / window.size() as f64,
                };
                let mut y = Vec::with_capacity(site.output.len());
                for channel in x.chunks_exact(area) {
                    for place in window.places() {
                        let parts = window.taps(place).map(|(_, pixel)| (factor, &channel[pixel]));
                        y.push(Linear::combine(parts, 0.0));
                    }
                }
                Ok(y)
            }
            Layer::BatchNorm { epsilon } => {
                let (scale, shift) = (parameter(0), parameter(1));
                let (mean, variance) = (parameter(2), parameter(3));
                let of = |(index, value): (usize, &Linear)| {
                    let channel = index / area;
                    let gain = scale[channel] / (variance[channel] + epsilon).sqrt();
                    Linear::combine(
                        std::iter::once((gain, value)),
                        shift[channel] - gain * mean[channel],
                    )
                };
                Ok(x.iter().enumerate().map(of).collect())
            }
            Layer::Flatten | Layer::Dropout { .. } => Ok(x),
            Layer::Add { .. } => {
                let long = self.sequence(&site.body, x.clone())?;
                let short = self.sequence(&site.shortcut, x)?;
                Ok(add(&long, &short))
            }
            Layer::Square => Ok(self.activate(x, |_| Function::Polynomial(vec![0.0, 0.0, 1.0]))),
            Layer::Power { scale, power } => {
                let mut coefficients = vec![0.0; *power as usize];
                coefficients.push(*scale);
                Ok(self.activate(x, |_| Function::Polynomial(coefficients.clone())))
            }
            Layer::FixedPolynomial { coefficients } => {
                Ok(self.activate(x, |_| Function::Polynomial(coefficients.clone())))
            }
            Layer::Polynomial { per, .. } => {
                let all = parameter(0).to_vec();
                let sets = site.parameters[0].shape.last().copied().unwrap_or(1);
                let set = |index: usize| match per {
                    Granularity::Layer => 0,
                    Granularity::Channel => index / area,
                    Granularity::Element => index,
                };
                let of = |index: usize| all.chunks_exact(sets).map(|row| row[set(index)]).collect();
                Ok(self.activate(x, |index| Function::Polynomial(of(index))))
            }
            Layer::Relu => Ok(self.activate(x, |_| Function::Relu)),
            Layer::Sigmoid => Ok(self.activate(x, |_| Function::Sigmoid)),
            Layer::Tanh => Ok(self.activate(x, |_| Function::Tanh)),
            Layer::Sign => Ok(self.activate(x, |_| Function::Sign)),
            _ => Err(unsupported(site)),
        }
    }

    /// A unit for every value.
    fn activate(&mut self, x: Vec<Linear>, function: impl Fn(usize) -> Function) -> Vec<Linear> {
        let mut y = Vec::with_capacity(x.len());
        for (index, sum) in x.into_iter().enumerate() {
            y.push(Linear::wire(self.inputs + self.units.len()));
            self.units.push(Unit {
                sum,
                function: function(index),
            });
        }
        y
    }
}

fn unsupported(site: &Site<'_>) -> NetworkError {
    NetworkError::Unsupported {
        layer: site.path.clone(),
        kind: site.layer.name(),
    }
}

fn dense(weight: &[f64], bias: &[f64], x: &[Linear]) -> Vec<Linear> {
    let rows = weight.chunks_exact(x.len()).zip(bias);
    rows.map(|(row, &bias)| Linear::combine(row.iter().copied().zip(x), bias))
        .collect()
}

fn add(a: &[Linear], b: &[Linear]) -> Vec<Linear> {
    let pairs = a.iter().zip(b);
    pairs
        .map(|(a, b)| Linear::combine([(1.0, a), (1.0, b)].into_iter(), 0.0))
        .collect()
}

/// A window that moves over an image.
struct Window {
    input: [usize; 2],
    output: [usize; 2],
    kernel: [usize; 2],
    stride: [usize; 2],
    padding: [usize; 2],
}

impl Window {
    fn new(site: &Site<'_>, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Self {
        let sides = |shape: Shape| match shape {
            Shape::Image([_, height, width]) => [height, width],
            Shape::Features(features) => [1, features],
        };
        Self {
            input: sides(site.input),
            output: sides(site.output),
            kernel,
            stride,
            padding,
        }
    }

    fn size(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn places(&self) -> impl Iterator<Item = [usize; 2]> + use<> {
        let [rows, columns] = self.output;
        (0..rows).flat_map(move |row| (0..columns).map(move |column| [row, column]))
    }

    /// Index within the kernel and within the image of every pixel under the window at a place; the margin's zeros are left out.
    fn taps(&self, place: [usize; 2]) -> impl Iterator<Item = (usize, usize)> + use<'_> {
        (0..self.size()).filter_map(move |tap| {
            let offset = [tap / self.kernel[1], tap % self.kernel[1]];
            let at = |i: usize| {
                let position = (place[i] * self.stride[i] + offset[i]).checked_sub(self.padding[i])?;
                (position < self.input[i]).then_some(position)
            };
            Some((tap, at(0)? * self.input[1] + at(1)?))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_models::ModelSpec;
    use galen_models::random::Stream;

    fn random(spec: &str) -> Model {
        let spec: ModelSpec = toml::from_str(spec).unwrap();
        let mut stream = Stream::new("exact network test", 1, &[]);
        let params = spec
            .parameters()
            .iter()
            .flat_map(|block| vec![block.name.contains("variance"); block.len()])
            .map(|positive| if positive { 1.5 } else { stream.symmetric() })
            .collect();
        Model::new(spec, params).unwrap()
    }

    /// Against the evaluator of galen-models, on the networks that it knows.
    #[test]
    fn residual_blocks_are_what_the_reference_says() {
        let model = Model::initial(ModelSpec::residual_mlp(3, &[4, 2], 0.3, 2).unwrap(), 5).unwrap();
        let network = Network::fold(&model).unwrap();
        assert_eq!(network.units.len(), 6);
        for row in [[0.5, -1.0, 2.0], [0.0, 0.0, 0.0], [3.0, 1.0, -2.0]] {
            let expected = model.logits(&[row]).unwrap()[0];
            let found = network.evaluate(&row).1[0];
            assert!((found - expected).abs() < 1e-12);
        }
    }

    /// A convolution with margin and step, normalisation and pooling, against sums written out.
    #[test]
    fn images_fold_to_the_sums_of_their_layers() {
        let model = random(
            r#"
            input = [2, 5, 4]
            layers = [
                { conv2d = { channels = 4, kernel = [3, 2], stride = [2, 1], padding = 1, groups = 2 } },
                { batch_norm = {} },
                "relu",
                { average_pool = { kernel = 2, stride = 1 } },
                "flatten",
                { dense = { outputs = 2 } },
            ]"#,
        );
        let network = Network::fold(&model).unwrap();
        let mut stream = Stream::new("exact network rows", 2, &[]);
        let row: Vec<f64> = (0..40).map(|_| stream.symmetric()).collect();
        let blocks = model.spec().parameters();
        let p = |i: usize| blocks[i].of(model.params());
        // Rows: (5 + 2 - 3) / 2 + 1 = 3; columns: (4 + 2 - 2) / 1 + 1 = 5.
        let mut relu = vec![0.0; 4 * 3 * 5];
        for output in 0..4 {
            for r in 0..3usize {
                for c in 0..5usize {
                    let mut sum = p(1)[output];
                    for i in 0..3usize {
                        for j in 0..2usize {
                            let (y, x) = (2 * r + i, c + j);
                            if (1..6).contains(&y) && (1..5).contains(&x) {
                                let pixel = row[(output / 2) * 20 + (y - 1) * 4 + x - 1];
                                sum += p(0)[output * 6 + i * 2 + j] * pixel;
                            }
                        }
                    }
                    let gain = p(2)[output] / (p(5)[output] + 1e-5).sqrt();
                    relu[output * 15 + r * 5 + c] = (gain * (sum - p(4)[output]) + p(3)[output]).max(0.0);
                }
            }
        }
        let mut pooled = Vec::new();
        for channel in relu.chunks_exact(15) {
            for r in 0..2 {
                for c in 0..4 {
                    let four = [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(i, j)| channel[(r + i) * 5 + c + j]);
                    pooled.push(four.iter().sum::<f64>() / 4.0);
                }
            }
        }
        let found = network.evaluate(&row).1;
        for (output, found) in found.iter().enumerate() {
            let weights = &p(6)[output * 32..][..32];
            let expected = p(7)[output] + weights.iter().zip(&pooled).map(|(w, x)| w * x).sum::<f64>();
            assert!((found - expected).abs() < 1e-9, "{found} {expected}");
        }
    }

    #[test]
    fn distances_change_nothing_but_the_last_layer() {
        let layers = "[{ dense = { outputs = 4 } }, \"relu\", { dense = { outputs = 3 } }, \"relu\", { dense = { outputs = 2 } }]";
        let network = Network::fold(&random(&format!("input = 3\nlayers = {layers}"))).unwrap();
        let distances = network.clone().with_distances();
        let functions: Vec<&Function> = distances.units.iter().map(|unit| &unit.function).collect();
        assert_eq!(functions[..4], [&Function::Relu; 4]);
        assert_eq!(functions[4..], [&Function::Abs; 3]);
        for row in [[0.5, -1.0, 2.0], [-2.0, 0.1, 0.0], [3.0, 1.0, -2.0]] {
            let (a, b) = (network.evaluate(&row).1, distances.evaluate(&row).1);
            assert!(
                a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-12),
                "{a:?} {b:?}"
            );
        }
    }

    #[test]
    fn a_maximum_is_refused_by_name() {
        let model = random("input = [1, 2, 2]\nlayers = [{ max_pool = { kernel = 2 } }, \"flatten\"]");
        let refused = Network::fold(&model).unwrap_err();
        assert_eq!(
            refused,
            NetworkError::Unsupported {
                layer: "layer0".into(),
                kind: "max_pool"
            }
        );
    }
}
