//! From layers to shapes and parameters: the one traversal of a network that everything else reads.

use super::parameter::{Parameter, ParameterKind};
use super::{MAX_DEGREE, MAX_DEPTH, MAX_LAYERS, MAX_PARAMETERS, MAX_VALUES, ModelSpec, SpecError};
use galen_core::network::{Extent, Granularity, Layer, Shape};

/// A layer in its place: what enters it, what leaves it, and where its parameters are.
#[derive(Clone, Debug, PartialEq)]
pub struct Site<'a> {
    /// Its name, such as `layer3` or `layer3.body0`: the beginning of its parameters' names.
    pub path: String,
    /// The layer.
    pub layer: &'a Layer,
    /// Shape of what enters.
    pub input: Shape,
    /// Shape of what leaves.
    pub output: Shape,
    /// Its own parameters, in flat order; those of nested layers are with these.
    pub parameters: Vec<Parameter>,
    /// The resolved body of an [`Layer::Add`]; empty otherwise.
    pub body: Vec<Site<'a>>,
    /// The resolved shortcut of an [`Layer::Add`]; empty otherwise, and for the identity.
    pub shortcut: Vec<Site<'a>>,
}

impl Site<'_> {
    /// Appends its parameters and those of nested layers, in flat order.
    pub(super) fn collect(self, all: &mut Vec<Parameter>) {
        all.extend(self.parameters);
        for site in self.body.into_iter().chain(self.shortcut) {
            site.collect(all);
        }
    }
}

/// Resolves all layers of a network; errors name the layer.
pub(super) fn resolve(spec: &ModelSpec) -> Result<Vec<Site<'_>>, SpecError> {
    let inputs = spec.input.len();
    if inputs == 0 || inputs > MAX_VALUES {
        return Err(SpecError::Inputs { inputs });
    }
    if spec.layers.is_empty() {
        return Err(SpecError::Layers { layers: 0 });
    }
    let mut walk = Walk {
        layers: 0,
        parameters: 0,
    };
    walk.sequence(&spec.layers, spec.input, "layer", 0)
}

struct Walk {
    layers: usize,
    parameters: usize,
}

impl Walk {
    fn sequence<'a>(
        &mut self,
        layers: &'a [Layer],
        mut shape: Shape,
        prefix: &str,
        depth: usize,
    ) -> Result<Vec<Site<'a>>, SpecError> {
        let mut sites = Vec::new();
        for (i, layer) in layers.iter().enumerate() {
            self.layers += 1;
            if self.layers > MAX_LAYERS {
                return Err(SpecError::Layers { layers: self.layers });
            }
            let site = self.site(layer, shape, format!("{prefix}{i}"), depth)?;
            shape = site.output;
            sites.push(site);
        }
        Ok(sites)
    }

    fn site<'a>(
        &mut self,
        layer: &'a Layer,
        input: Shape,
        path: String,
        depth: usize,
    ) -> Result<Site<'a>, SpecError> {
        let output = output(layer, input, &path)?;
        let mut parameters = Vec::new();
        for (name, kind, shape) in blocks(layer, input) {
            let size = shape.iter().fold(1usize, |n, &d| n.saturating_mul(d));
            let end = self.parameters.saturating_add(size);
            if end > MAX_PARAMETERS {
                return Err(SpecError::Parameters { layer: path });
            }
            parameters.push(Parameter {
                name: format!("{path}.{name}"),
                kind,
                shape,
                offset: self.parameters,
            });
            self.parameters = end;
        }
        let mut site = Site {
            path,
            layer,
            input,
            output,
            parameters,
            body: Vec::new(),
            shortcut: Vec::new(),
        };
        if let Layer::Add { body, shortcut } = layer {
            if depth == MAX_DEPTH {
                return Err(SpecError::Nesting { layer: site.path });
            }
            if body.is_empty() {
                return Err(SpecError::EmptyBody { layer: site.path });
            }
            site.body = self.sequence(body, input, &format!("{}.body", site.path), depth + 1)?;
            site.shortcut = self.sequence(shortcut, input, &format!("{}.shortcut", site.path), depth + 1)?;
            let ends = |sites: &[Site<'_>]| sites.last().map_or(input, |last| last.output);
            let (long, short) = (ends(&site.body), ends(&site.shortcut));
            if long != short {
                return Err(SpecError::Branches {
                    layer: site.path,
                    body: long,
                    shortcut: short,
                });
            }
            site.output = long;
        }
        Ok(site)
    }
}

/// The shape that leaves a layer (of an [`Layer::Add`]: that enters it), after all its settings were found possible.
pub(crate) fn output(layer: &Layer, input: Shape, path: &str) -> Result<Shape, SpecError> {
    let named = || path.to_owned();
    let setting = |what: &'static str, value: f64, possible: &'static str| SpecError::Setting {
        layer: named(),
        what,
        value,
        possible,
    };
    let image = || match input {
        Shape::Image(shape) => Ok(shape),
        Shape::Features(_) => Err(SpecError::NeedsImage {
            layer: named(),
            kind: layer.name(),
            input,
        }),
    };
    let vector = |outputs: usize| match input {
        Shape::Features(_) => Ok(Shape::Features(outputs)),
        Shape::Image(_) => Err(SpecError::NeedsVector {
            layer: named(),
            kind: layer.name(),
            input,
        }),
    };
    let positive = |what, value: f64| {
        if value.is_finite() && value > 0.0 {
            Ok(())
        } else {
            Err(setting(what, value, "positive and finite"))
        }
    };
    let power_of = |scale: f64, power: u32| {
        positive("scale", scale)?;
        if (2..=MAX_DEGREE as u32).contains(&power) {
            Ok(())
        } else {
            Err(setting("power", f64::from(power), "2 to 32"))
        }
    };
    let window = |channels: usize, kernel: &Extent, stride: &Extent, padding: &Extent| {
        let [_, height, width] = image()?;
        let (kernel, stride, padding) = (kernel.pair(), stride.pair(), padding.pair());
        let mut sides = [0; 2];
        for (side, (size, i)) in sides.iter_mut().zip([(height, 0), (width, 1)]) {
            let padded = size.saturating_add(padding[i].saturating_mul(2));
            if kernel[i] == 0 || stride[i] == 0 || kernel[i] > padded || padding[i] >= kernel[i] {
                return Err(SpecError::Window {
                    layer: named(),
                    kernel: kernel[i],
                    stride: stride[i],
                    padding: padding[i],
                    size,
                });
            }
            *side = (padded - kernel[i]) / stride[i] + 1;
        }
        Ok(Shape::Image([channels, sides[0], sides[1]]))
    };
    let output = match layer {
        Layer::Dense { outputs } => vector(*outputs)?,
        Layer::Residual {
            outputs,
            scale,
            power,
        } => {
            power_of(*scale, *power)?;
            vector(*outputs)?
        }
        Layer::Conv2d {
            channels,
            kernel,
            stride,
            padding,
            groups,
        } => {
            let [inputs, _, _] = image()?;
            if *groups == 0 || inputs % groups != 0 || channels % groups != 0 {
                return Err(setting(
                    "groups",
                    *groups as f64,
                    "a divisor of the input and of the output channels",
                ));
            }
            window(*channels, kernel, stride, padding)?
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
        } => window(input.channels(), kernel, &stride.unwrap_or(*kernel), padding)?,
        Layer::MaxPool { kernel, stride } => window(
            input.channels(),
            kernel,
            &stride.unwrap_or(*kernel),
            &Extent::ZERO,
        )?,
        Layer::Flatten => Shape::Features(input.len()),
        Layer::Power { scale, power } => {
            power_of(*scale, *power)?;
            input
        }
        Layer::Polynomial { degree, .. } => {
            if !(1..=MAX_DEGREE).contains(degree) {
                return Err(setting("degree", *degree as f64, "1 to 32"));
            }
            input
        }
        Layer::FixedPolynomial { coefficients } => {
            if !(2..=MAX_DEGREE + 1).contains(&coefficients.len()) {
                return Err(setting(
                    "number of coefficients",
                    coefficients.len() as f64,
                    "2 to 33",
                ));
            }
            if let Some(&value) = coefficients.iter().find(|c| !c.is_finite()) {
                return Err(setting("coefficient", value, "finite"));
            }
            input
        }
        Layer::BatchNorm { epsilon } | Layer::Hermite { epsilon } => {
            positive("epsilon", *epsilon)?;
            input
        }
        Layer::Dropout { rate } => {
            if !(0.0..1.0).contains(rate) {
                return Err(setting("rate", *rate, "0 to below 1"));
            }
            input
        }
        Layer::Add { .. } | Layer::Square | Layer::Relu | Layer::Sigmoid | Layer::Tanh | Layer::Sign => input,
    };
    if output.is_empty() || output.len() > MAX_VALUES {
        return Err(SpecError::Width {
            layer: named(),
            outputs: output.len(),
        });
    }
    Ok(output)
}

type Block = (&'static str, ParameterKind, Vec<usize>);

/// The layer's own parameters.
fn blocks(layer: &Layer, input: Shape) -> Vec<Block> {
    use ParameterKind::*;
    let normalisation = |names: [&'static str; 2]| {
        let c = vec![input.channels()];
        [(names[0], Mean, c.clone()), (names[1], Variance, c)]
    };
    let affine = || {
        let c = vec![input.channels()];
        [("scale", Scale, c.clone()), ("shift", Shift, c)]
    };
    match layer {
        Layer::Dense { outputs } => vec![
            ("weight", Weight, vec![*outputs, input.len()]),
            ("bias", Bias, vec![*outputs, 1]),
        ],
        Layer::Residual { outputs, .. } => vec![
            ("linear.weight", Weight, vec![*outputs, input.len()]),
            ("linear.bias", Bias, vec![*outputs, 1]),
            ("power.weight", Weight, vec![*outputs, input.len()]),
            ("power.bias", Bias, vec![*outputs, 1]),
        ],
        Layer::Conv2d {
            channels,
            kernel,
            groups,
            ..
        } => {
            let [h, w] = kernel.pair();
            vec![
                (
                    "weight",
                    Weight,
                    vec![*channels, input.channels() / (*groups).max(1), h, w],
                ),
                ("bias", Bias, vec![*channels]),
            ]
        }
        Layer::BatchNorm { .. } => {
            let mut all = affine().to_vec();
            all.extend(normalisation(["mean", "variance"]));
            all
        }
        Layer::Hermite { .. } => {
            let mut all = affine().to_vec();
            all.extend(normalisation(["first.mean", "first.variance"]));
            all.extend(normalisation(["second.mean", "second.variance"]));
            all
        }
        Layer::Polynomial { degree, per } => {
            let sets = match per {
                Granularity::Layer => 1,
                Granularity::Channel => input.channels(),
                Granularity::Element => input.len(),
            };
            vec![("coefficients", Coefficient, vec![degree + 1, sets])]
        }
        _ => Vec::new(),
    }
}
