//! From a model to a graph.

use super::OnnxError;
use super::operators::{Setting, attribute};
use super::proto::{
    Dimension, Graph, Model as File, Operator, OperatorSet, Side, Tensor, TensorShape, TensorType, ValueInfo,
    ValueType, element,
};
use crate::fold::hermite_coefficients;
use crate::model::{Model, ModelError};
use crate::spec::{Extent, Granularity, Layer, Shape, Site};
use std::collections::HashSet;

/// IR version and operator set: old enough for every runtime in use, with all operators that are needed.
const IR_VERSION: i64 = 8;
const OPERATOR_SET: i64 = 13;

pub(super) fn export(model: &Model) -> Result<File, OnnxError> {
    let sites = model.spec().resolve().map_err(ModelError::Spec)?;
    let input = "input".to_owned();
    let mut writer = Writer {
        params: model.params(),
        graph: Graph {
            name: "galen".into(),
            input: vec![described(&input, model.spec().input)],
            ..Graph::default()
        },
        polynomials: HashSet::new(),
    };
    let last = writer.sequence(&sites, input);
    let shape = sites.last().map_or(model.spec().input, |site| site.output);
    // The output has a name of its own, whatever computes it.
    writer.operator("Identity", "output", vec![last], vec![]);
    writer.graph.output.push(described("output", shape));
    Ok(File {
        ir_version: IR_VERSION,
        producer_name: "galen".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(writer.graph),
        opset_import: vec![OperatorSet {
            domain: String::new(),
            version: OPERATOR_SET,
        }],
    })
}

/// Name and type of a batch of values.
fn described(name: &str, shape: Shape) -> ValueInfo {
    let sides = match shape {
        Shape::Features(n) => vec![n],
        Shape::Image(sides) => sides.to_vec(),
    };
    let batch = Dimension {
        side: Some(Side::Name("batch".into())),
    };
    let fixed = sides.into_iter().map(|side| Dimension {
        side: Some(Side::Value(side as i64)),
    });
    let tensor_type = TensorType {
        elem_type: element::FLOAT,
        shape: Some(TensorShape {
            dim: std::iter::once(batch).chain(fixed).collect(),
        }),
    };
    ValueInfo {
        name: name.to_owned(),
        value_type: Some(ValueType {
            tensor_type: Some(tensor_type),
        }),
    }
}

struct Writer<'a> {
    params: &'a [f64],
    graph: Graph,
    /// Names of what polynomials compute.
    polynomials: HashSet<String>,
}

impl Writer<'_> {
    /// Adds an operator; the name of its output, which is also its own.
    fn operator(
        &mut self,
        kind: &str,
        name: &str,
        input: Vec<String>,
        settings: Vec<(&str, Setting)>,
    ) -> String {
        let attribute = settings
            .into_iter()
            .map(|(name, setting)| attribute(name, setting))
            .collect();
        self.graph.node.push(Operator {
            input,
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: kind.to_owned(),
            attribute,
            domain: String::new(),
        });
        name.to_owned()
    }

    /// Adds a constant; its name.
    fn constant(&mut self, name: String, dims: &[usize], values: &[f64]) -> String {
        self.graph.initializer.push(Tensor {
            dims: dims.iter().map(|&d| d as i64).collect(),
            data_type: element::FLOAT,
            raw_data: values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            name: name.clone(),
            ..Tensor::default()
        });
        name
    }

    /// The values of a site's parameter block.
    fn block(&self, site: &Site<'_>, i: usize) -> Vec<f64> {
        site.parameters
            .get(i)
            .map_or_else(Vec::new, |block| block.of(self.params).to_vec())
    }

    /// Adds a parameter block as a constant of the given shape.
    fn parameter(&mut self, site: &Site<'_>, i: usize, dims: &[usize]) -> String {
        let values = self.block(site, i);
        let name = site
            .parameters
            .get(i)
            .map_or_else(String::new, |block| block.name.clone());
        self.constant(name, dims, &values)
    }

    fn sequence(&mut self, sites: &[Site<'_>], input: String) -> String {
        sites.iter().fold(input, |mut x, site| {
            let polynomial = site.layer.is_activation() && site.layer.is_polynomial();
            // A polynomial of a polynomial would be read as one of a higher degree.
            if polynomial && self.polynomials.contains(&x) {
                x = self.operator("Identity", &format!("{}.input", site.path), vec![x], vec![]);
            }
            let y = self.layer(site, x);
            if polynomial {
                self.polynomials.insert(y.clone());
            }
            y
        })
    }

    /// `W x + w` with the blocks `i` and `i + 1`.
    fn dense(&mut self, site: &Site<'_>, i: usize, name: &str, x: &str) -> String {
        let (outputs, inputs) = (site.output.len(), site.input.len());
        let weight = self.parameter(site, i, &[outputs, inputs]);
        let bias = self.parameter(site, i + 1, &[outputs]);
        self.operator(
            "Gemm",
            name,
            vec![x.into(), weight, bias],
            vec![("transB", Setting::Integer(1))],
        )
    }

    /// `scale * x^power`.
    fn power(&mut self, path: &str, x: String, scale: f64, power: u32) -> String {
        let raised = if power == 2 {
            self.operator("Mul", &format!("{path}.square"), vec![x.clone(), x], vec![])
        } else {
            let exponent = self.constant(format!("{path}.exponent"), &[], &[f64::from(power)]);
            self.operator("Pow", &format!("{path}.raised"), vec![x, exponent], vec![])
        };
        if scale == 1.0 {
            return raised;
        }
        let scale = self.constant(format!("{path}.scale"), &[], &[scale]);
        self.operator("Mul", &format!("{path}.scaled"), vec![raised, scale], vec![])
    }

    /// `c_0 + c_1 x + ...` by Horner's rule; `dims` is the shape of a set of coefficients.
    fn polynomial(&mut self, path: &str, x: &str, dims: &[usize], coefficients: &[Vec<f64>]) -> String {
        let mut terms = coefficients
            .iter()
            .enumerate()
            .rev()
            .map(|(k, c)| (format!("{path}.c{k}"), c));
        let Some((name, highest)) = terms.next() else {
            return x.to_owned();
        };
        let mut sum = self.constant(name, dims, highest);
        for (name, c) in terms {
            let product = self.operator("Mul", &format!("{name}.product"), vec![sum, x.into()], vec![]);
            let constant = self.constant(name.clone(), dims, c);
            sum = self.operator("Add", &format!("{name}.sum"), vec![product, constant], vec![]);
        }
        sum
    }

    fn layer(&mut self, site: &Site<'_>, x: String) -> String {
        let path = site.path.as_str();
        let channels = site.input.channels();
        let window = |kernel: &Extent, stride: &Extent, padding: &Extent| {
            let both = [padding.pair(), padding.pair()].concat();
            vec![
                ("kernel_shape", Setting::Integers(kernel.pair().to_vec())),
                ("strides", Setting::Integers(stride.pair().to_vec())),
                ("pads", Setting::Integers(both)),
            ]
        };
        // The shape of one coefficient per channel.
        let per_channel = match site.input {
            Shape::Features(n) => vec![n],
            Shape::Image([c, _, _]) => vec![c, 1, 1],
        };
        match site.layer {
            Layer::Dense { .. } => self.dense(site, 0, path, &x),
            Layer::Residual { scale, power, .. } => {
                let linear = self.dense(site, 0, &format!("{path}.linear"), &x);
                let inner = self.dense(site, 2, &format!("{path}.inner"), &x);
                let power = self.power(path, inner, *scale, *power);
                self.operator("Add", path, vec![linear, power], vec![])
            }
            Layer::Conv2d {
                kernel,
                stride,
                padding,
                groups,
                ..
            } => {
                let shape = site
                    .parameters
                    .first()
                    .map_or_else(Vec::new, |block| block.shape.clone());
                let weight = self.parameter(site, 0, &shape);
                let bias = self.parameter(site, 1, &[site.output.channels()]);
                let mut settings = window(kernel, stride, padding);
                settings.push(("group", Setting::Integer(*groups)));
                self.operator("Conv", path, vec![x, weight, bias], settings)
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
                let mut settings = window(kernel, &stride.unwrap_or(*kernel), padding);
                settings.push(("count_include_pad", Setting::Integer(1)));
                let mean = self.operator("AveragePool", path, vec![x], settings);
                if let Layer::AveragePool { .. } = site.layer {
                    return mean;
                }
                let [height, width] = kernel.pair();
                let count = self.constant(format!("{path}.count"), &[], &[(height * width) as f64]);
                self.operator("Mul", &format!("{path}.sum"), vec![mean, count], vec![])
            }
            Layer::MaxPool { kernel, stride } => {
                let settings = window(kernel, &stride.unwrap_or(*kernel), &Extent::ZERO);
                self.operator("MaxPool", path, vec![x], settings)
            }
            Layer::BatchNorm { epsilon } => {
                let mut input = vec![x];
                input.extend((0..4).map(|i| self.parameter(site, i, &[channels])));
                let settings = vec![("epsilon", Setting::Float(*epsilon))];
                self.operator("BatchNormalization", path, input, settings)
            }
            Layer::Flatten => self.operator("Flatten", path, vec![x], vec![("axis", Setting::Integer(1))]),
            Layer::Add { .. } => {
                let body = self.sequence(&site.body, x.clone());
                let shortcut = self.sequence(&site.shortcut, x);
                self.operator("Add", path, vec![body, shortcut], vec![])
            }
            Layer::Dropout { .. } => x,
            Layer::Square => self.power(path, x, 1.0, 2),
            Layer::Power { scale, power } => self.power(path, x, *scale, *power),
            Layer::Polynomial { per, .. } => {
                let dims = match (per, site.input) {
                    (Granularity::Layer, _) => vec![],
                    (Granularity::Channel, _) => per_channel,
                    (Granularity::Element, Shape::Features(n)) => vec![n],
                    (Granularity::Element, Shape::Image(sides)) => sides.to_vec(),
                };
                let sets = dims.iter().product::<usize>().max(1);
                let all = self.block(site, 0);
                let coefficients: Vec<Vec<f64>> = all.chunks(sets).map(<[f64]>::to_vec).collect();
                self.polynomial(path, &x, &dims, &coefficients)
            }
            Layer::FixedPolynomial { coefficients } => {
                let coefficients: Vec<Vec<f64>> = coefficients.iter().map(|&c| vec![c]).collect();
                self.polynomial(path, &x, &[], &coefficients)
            }
            Layer::Hermite { epsilon } => {
                let blocks: Vec<Vec<f64>> = (0..6).map(|i| self.block(site, i)).collect();
                let coefficients = hermite_coefficients(&blocks, *epsilon);
                self.polynomial(path, &x, &per_channel, &coefficients)
            }
            Layer::Relu => self.operator("Relu", path, vec![x], vec![]),
            Layer::Sigmoid => self.operator("Sigmoid", path, vec![x], vec![]),
            Layer::Tanh => self.operator("Tanh", path, vec![x], vec![]),
            Layer::Sign => self.operator("Sign", path, vec![x], vec![]),
        }
    }
}
