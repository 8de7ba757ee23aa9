//! What each operator is among our layers.

use super::OnnxError;
use super::coefficient::Coefficient;
use super::constant::Constant;
use super::import::Names;
use super::proto::{Operator, kind};
use super::value::{Step, Value};
use crate::model::ModelError;
use crate::spec::{Extent, Layer, MAX_DEGREE, Shape, output_shape};
use crate::tree::Node;
use std::rc::Rc;

const KNOWN: [&str; 23] = [
    "Add",
    "AveragePool",
    "BatchNormalization",
    "Constant",
    "Conv",
    "Div",
    "Dropout",
    "Flatten",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "MatMul",
    "MaxPool",
    "Mul",
    "Neg",
    "Pow",
    "ReduceMean",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Sign",
    "Sub",
    "Tanh",
];

/// Whether an operator can have a layer that corresponds to it.
pub(super) fn is_known(node: &Operator) -> bool {
    matches!(node.domain.as_str(), "" | "ai.onnx") && KNOWN.contains(&node.op_type.as_str())
}

/// Reads one operator.
pub(super) fn apply(names: &mut Names, node: &Operator) -> Result<(), OnnxError> {
    let value = match node.op_type.as_str() {
        "Constant" => {
            let constant = constant(node)?;
            names.define_constant(node, constant);
            return Ok(());
        }
        "Identity" | "Dropout" => {
            if names.rename_constant(node) {
                return Ok(());
            }
            names.settled(node, 0)?
        }
        "Add" | "Sub" | "Mul" | "Div" => arithmetic(names, node)?,
        "Neg" => names
            .value(node, 0)?
            .with(&Coefficient::all(-1.0), |a, b| a * b, true),
        "Pow" => power(names, node)?,
        "Gemm" | "MatMul" => dense(names, node)?,
        "Conv" => convolution(names, node)?,
        "BatchNormalization" => normalisation(names, node)?,
        "AveragePool" | "MaxPool" | "GlobalAveragePool" | "ReduceMean" => pool(names, node)?,
        "Flatten" | "Reshape" => flatten(names, node)?,
        "Relu" => layer(names, node, Layer::Relu)?,
        "Sigmoid" => layer(names, node, Layer::Sigmoid)?,
        "Tanh" => layer(names, node, Layer::Tanh)?,
        "Sign" => layer(names, node, Layer::Sign)?,
        other => return Err(node.refuse(format!("{other} is not supported"))),
    };
    names.define(node, value)
}

fn constant(node: &Operator) -> Result<Constant, OnnxError> {
    let attribute = node
        .attribute
        .first()
        .ok_or_else(|| node.refuse("it has no value"))?;
    match (attribute.name.as_str(), &attribute.t) {
        ("value", Some(tensor)) => Constant::read(tensor),
        ("value_float", _) => Ok(Constant::scalar(f64::from(attribute.f))),
        ("value_int", _) => Ok(Constant::scalar(attribute.i as f64)),
        ("value_floats", _) => Ok(Constant::list(
            attribute.floats.iter().map(|&v| f64::from(v)).collect(),
        )),
        ("value_ints", _) => Ok(Constant::list(attribute.ints.iter().map(|&v| v as f64).collect())),
        (other, _) => Err(node.refuse(format!("a constant given as {other}"))),
    }
}

/// A value behind a layer; errors if the layer cannot stand there.
fn behind(node: &Operator, value: Value, layer: Layer, blocks: Vec<Vec<f64>>) -> Result<Value, OnnxError> {
    let shape = output_shape(
        &layer,
        value.shape,
        &format!("{} at node {}", node.op_type, node.label()),
    )
    .map_err(ModelError::Spec)?;
    Ok(value.then(Node::new(layer, blocks), shape))
}

fn layer(names: &mut Names, node: &Operator, layer: Layer) -> Result<Value, OnnxError> {
    let value = names.settled(node, 0)?;
    behind(node, value, layer, Vec::new())
}

/// Sums, differences, products and quotients.
fn arithmetic(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    names.close_shared(node)?;
    let (first, second) = (names.optional(node, 0), names.optional(node, 1));
    let (constant, place) = match (first, second) {
        (Some(_), Some(_)) => {
            return Err(node.refuse("both inputs are constants; fold constants when exporting"));
        }
        (Some(constant), None) => (constant, 0),
        (None, Some(constant)) => (constant, 1),
        (None, None) => return two_values(names, node),
    };
    let value = names.value(node, 1 - place)?;
    let sides = names.sides(value.shape);
    let constant = constant
        .spread(value.shape, &sides)
        .map_err(|why| node.refuse(why))?;
    Ok(match (node.op_type.as_str(), place) {
        ("Add", _) => plus_constant(value, &constant),
        ("Sub", 1) => plus_constant(
            value,
            &constant.zip(&Coefficient::all(-1.0), value.shape, |c, m| c * m),
        ),
        ("Sub", _) => {
            let minus = value.with(&Coefficient::all(-1.0), |a, b| a * b, true);
            plus_constant(&minus, &constant)
        }
        ("Mul", _) => {
            sum_of_mean(value, &constant).unwrap_or_else(|| value.with(&constant, |a, b| a * b, true))
        }
        ("Div", 1) if !constant.values.contains(&0.0) => value.with(&constant, |a, b| a / b, true),
        _ => return Err(node.refuse("division is possible by constants other than 0 only")),
    })
}

/// A constant after a dense layer or convolution is its bias; otherwise it belongs to the polynomial.
fn plus_constant(value: &Value, constant: &Coefficient) -> Value {
    if value.is_plain()
        && let Some(last) = value.steps.last()
        && matches!(last.node.layer, Layer::Dense { .. } | Layer::Conv2d { .. })
        && constant.per != crate::spec::Granularity::Element
    {
        let mut node = (*last.node).clone();
        let area = value.shape.area();
        for (channel, bias) in node.blocks[1].iter_mut().enumerate() {
            *bias += constant.at(channel * area, value.shape);
        }
        let mut steps = value.steps.clone();
        let input = last.input;
        steps.pop();
        steps.push(Step {
            node: Rc::new(node),
            input,
        });
        return Value::new(steps, value.shape);
    }
    value.with(constant, |a, b| a + b, false)
}

/// A mean times the size of its window is a sum.
fn sum_of_mean(value: &Value, factor: &Coefficient) -> Option<Value> {
    let last = value.steps.last().filter(|_| value.is_plain())?;
    let Layer::AveragePool {
        kernel,
        stride,
        padding,
    } = last.node.layer
    else {
        return None;
    };
    let [height, width] = kernel.pair();
    if factor.single() != Some((height * width) as f64) {
        return None;
    }
    let layer = Layer::SumPool {
        kernel,
        stride,
        padding,
    };
    let mut before = Value::new(value.steps.clone(), last.input);
    before.steps.pop();
    Some(before.then(Node::new(layer, Vec::new()), value.shape))
}

fn two_values(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    // The square of a polynomial is two activations, one after the other.
    let same_name = node.input.first() == node.input.get(1);
    if node.op_type == "Mul" && same_name && names.value(node, 0)?.polynomial.len() > 2 {
        names.settled(node, 0)?;
    }
    let (first, second) = (names.value(node, 0)?, names.value(node, 1)?);
    if first.shape != second.shape {
        let why = format!(
            "values of {} and of {}; both must have the same shape",
            first.shape, second.shape
        );
        return Err(node.refuse(why));
    }
    let minus = |value: &Value| value.with(&Coefficient::all(-1.0), |a, b| a * b, true);
    let same = first.same_base(second);
    match node.op_type.as_str() {
        "Add" if same => Ok(first.plus(second)),
        "Sub" if same => Ok(first.plus(&minus(second))),
        "Mul" if same => first
            .times(second)
            .ok_or_else(|| node.refuse(format!("a polynomial of a degree above {MAX_DEGREE}"))),
        "Add" => {
            let (first, second) = (names.settled(node, 0)?, names.settled(node, 1)?);
            first.joined(second).map_err(|why| node.refuse(why))
        }
        "Sub" => {
            let second = minus(&names.settled(node, 1)?);
            let first = names.settled(node, 0)?;
            first.joined(second).map_err(|why| node.refuse(why))
        }
        _ => Err(node.refuse(
            "of two values only sums, differences and products of polynomials of the same value are possible",
        )),
    }
}

fn power(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let exponent = names.constant(node, 1)?.values.clone();
    let (&[exponent], value) = (exponent.as_slice(), names.value(node, 0)?) else {
        return Err(node.refuse("its exponent must be one number"));
    };
    if exponent.fract() != 0.0 || !(1.0..=MAX_DEGREE as f64).contains(&exponent) {
        return Err(node.refuse(format!(
            "its exponent is {exponent}, possible are whole numbers from 1 to {MAX_DEGREE}"
        )));
    }
    let value = if value.polynomial.len() > 2 {
        names.settled(node, 0)?
    } else {
        value.clone()
    };
    let mut product = value.clone();
    for _ in 1..exponent as u32 {
        product = product
            .times(&value)
            .ok_or_else(|| node.refuse(format!("a polynomial of a degree above {MAX_DEGREE}")))?;
    }
    Ok(product)
}

fn dense(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let value = names.settled(node, 0)?;
    let weight = names.constant(node, 1)?;
    let &[rows, columns] = weight.dims.as_slice() else {
        return Err(node.refuse(format!("weights of shape {:?}, a matrix is needed", weight.dims)));
    };
    let gemm = node.op_type == "Gemm";
    let factor = |name: &str| {
        if gemm {
            node.float(name).unwrap_or(1.0)
        } else {
            1.0
        }
    };
    if gemm && node.integer("transA").unwrap_or(0) != 0 {
        return Err(node.refuse("transA is not supported"));
    }
    let transposed = gemm && node.integer("transB").unwrap_or(0) != 0;
    let (outputs, inputs) = if transposed {
        (rows, columns)
    } else {
        (columns, rows)
    };
    if value.shape != Shape::Features(inputs) {
        return Err(node.refuse(format!("weights for {inputs} values, {} enter", value.shape)));
    }
    let alpha = factor("alpha");
    let mut matrix = Vec::with_capacity(weight.values.len());
    for o in 0..outputs {
        for i in 0..inputs {
            let at = if transposed {
                o * inputs + i
            } else {
                i * outputs + o
            };
            matrix.push(alpha * weight.values[at]);
        }
    }
    let bias = match (gemm, node.input.len() > 2) {
        (true, true) => {
            let bias = names.constant(node, 2)?;
            let spread = bias.spread(Shape::Features(outputs), &[outputs]);
            let beta = factor("beta");
            let spread = spread.map_err(|why| node.refuse(why))?;
            let of = |o| beta * spread.at(o, Shape::Features(outputs));
            (0..outputs).map(of).collect()
        }
        _ => vec![0.0; outputs],
    };
    behind(node, value, Layer::Dense { outputs }, vec![matrix, bias])
}

/// Window, step and margin of an operator.
struct Geometry {
    kernel: Extent,
    stride: Extent,
    padding: Extent,
}

fn geometry(names: &Names, node: &Operator, shape: Shape, kernel: &[usize]) -> Result<Geometry, OnnxError> {
    let sides = if names.is_signal() { 1 } else { 2 };
    let Shape::Image([_, height, width]) = shape else {
        return Err(node.refuse(format!("needs an image, {shape} values enter")));
    };
    let pair = |values: &[usize], fill: usize| match *values {
        [horizontal] if sides == 1 => Some([fill, horizontal]),
        [vertical, horizontal] if sides == 2 => Some([vertical, horizontal]),
        _ => None,
    };
    let wrong = |what: &str| node.refuse(format!("its {what} are not those of {sides} sides"));
    let kernel = pair(kernel, 1).ok_or_else(|| wrong("kernel sizes"))?;
    let stride = match node.sizes("strides")? {
        Some(strides) => pair(&strides, 1).ok_or_else(|| wrong("strides"))?,
        None => [1, 1],
    };
    if node
        .sizes("dilations")?
        .is_some_and(|d| d.iter().any(|&d| d != 1))
    {
        return Err(node.refuse("dilations other than 1"));
    }
    if node.integer("ceil_mode").unwrap_or(0) != 0 {
        return Err(node.refuse("ceil_mode; sizes are rounded down"));
    }
    let uneven = || node.refuse("margins that differ between opposite sides; use the same on both");
    let padding = match node.text("auto_pad").as_deref().unwrap_or("NOTSET") {
        "VALID" => [0, 0],
        "NOTSET" => match node.sizes("pads")? {
            None => [0, 0],
            Some(pads) => {
                if pads.len() != 2 * sides || pads[..sides] != pads[sides..] {
                    return Err(uneven());
                }
                pair(&pads[..sides], 0).ok_or_else(uneven)?
            }
        },
        _ => {
            // As many outputs as inputs divided by the step, rounded up.
            let mut padding = [0, 0];
            for (i, size) in [height, width].into_iter().enumerate() {
                let step = stride[i].max(1);
                let covered = (size.div_ceil(step).max(1) - 1) * step + kernel[i];
                let margin = covered.saturating_sub(size);
                if margin % 2 != 0 {
                    return Err(uneven());
                }
                padding[i] = margin / 2;
            }
            padding
        }
    };
    let extent = |pair: [usize; 2]| {
        if pair[0] == pair[1] {
            Extent::Square(pair[0])
        } else {
            Extent::Pair(pair)
        }
    };
    Ok(Geometry {
        kernel: extent(kernel),
        stride: extent(stride),
        padding: extent(padding),
    })
}

fn convolution(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let value = names.settled(node, 0)?;
    let weight = names.constant(node, 1)?;
    let [channels, inputs, kernel @ ..] = weight.dims.as_slice() else {
        return Err(node.refuse(format!("weights of shape {:?}", weight.dims)));
    };
    let geometry = geometry(names, node, value.shape, kernel)?;
    let groups = node.integer("group").unwrap_or(1);
    let groups = usize::try_from(groups).map_err(|_| node.refuse("a negative number of groups"))?;
    if inputs.saturating_mul(groups) != value.shape.channels() {
        let why = format!(
            "weights for {inputs} channels in {groups} groups, {} enter",
            value.shape
        );
        return Err(node.refuse(why));
    }
    let bias = if node.input.len() > 2 {
        names.constant(node, 2)?.values.clone()
    } else {
        vec![0.0; *channels]
    };
    if bias.len() != *channels {
        return Err(node.refuse(format!("{} biases for {channels} channels", bias.len())));
    }
    let layer = Layer::Conv2d {
        channels: *channels,
        kernel: geometry.kernel,
        stride: geometry.stride,
        padding: geometry.padding,
        groups,
    };
    behind(node, value, layer, vec![weight.values.clone(), bias])
}

fn normalisation(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let value = names.settled(node, 0)?;
    if node.integer("training_mode").unwrap_or(0) != 0 {
        return Err(node.refuse("training mode; export the model for inference"));
    }
    let mut blocks = Vec::new();
    for i in 1..5 {
        let block = names.constant(node, i)?.values.clone();
        if block.len() != value.shape.channels() {
            let why = format!("{} values at input {i}, {} enter", block.len(), value.shape);
            return Err(node.refuse(why));
        }
        blocks.push(block);
    }
    let epsilon = node.float("epsilon").unwrap_or(1e-5);
    behind(node, value, Layer::BatchNorm { epsilon }, blocks)
}

fn pool(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let value = names.settled(node, 0)?;
    let Shape::Image([_, height, width]) = value.shape else {
        return Err(node.refuse(format!("needs an image, {} values enter", value.shape)));
    };
    let whole = Layer::AveragePool {
        kernel: if height == width {
            Extent::Square(height)
        } else {
            Extent::Pair([height, width])
        },
        stride: None,
        padding: Extent::ZERO,
    };
    match node.op_type.as_str() {
        "GlobalAveragePool" => return behind(node, value, whole, Vec::new()),
        "ReduceMean" => {
            let rank = names.sides(value.shape).len() as i64 + 1;
            let given = names.optional(node, 1);
            let given: Option<Vec<i64>> = given.map(|c| c.values.iter().map(|&v| v as i64).collect());
            let axes = given
                .or_else(|| node.integers("axes").map(<[i64]>::to_vec))
                .unwrap_or_default();
            let mut axes: Vec<i64> = axes.iter().map(|&a| if a < 0 { a + rank } else { a }).collect();
            axes.sort_unstable();
            if !axes.iter().copied().eq(2..rank) {
                return Err(node.refuse("only the mean over all pixels of a channel is possible"));
            }
            let pooled = behind(node, value, whole, Vec::new())?;
            return if node.integer("keepdims").unwrap_or(1) != 0 {
                Ok(pooled)
            } else {
                behind(node, pooled, Layer::Flatten, Vec::new())
            };
        }
        _ => {}
    }
    let kernel = node.sizes("kernel_shape")?.unwrap_or_default();
    let Geometry {
        kernel,
        stride,
        padding,
    } = geometry(names, node, value.shape, &kernel)?;
    let stride = (stride != kernel).then_some(stride);
    if node.op_type == "MaxPool" {
        if padding.pair() != [0, 0] || node.output.len() > 1 {
            return Err(node.refuse("margins or indices of a maximum"));
        }
        return behind(node, value, Layer::MaxPool { kernel, stride }, Vec::new());
    }
    if padding.pair() != [0, 0] && node.integer("count_include_pad").unwrap_or(0) == 0 {
        return Err(node.refuse("margins that do not count in the mean; set count_include_pad"));
    }
    let layer = Layer::AveragePool {
        kernel,
        stride,
        padding,
    };
    behind(node, value, layer, Vec::new())
}

/// Flattening, and reshaping where it flattens or does nothing.
fn flatten(names: &mut Names, node: &Operator) -> Result<Value, OnnxError> {
    let value = names.value(node, 0)?;
    let count = value.shape.len();
    let stays = matches!(value.shape, Shape::Features(_));
    if node.op_type == "Flatten" {
        if node.integer("axis").unwrap_or(1) != 1 {
            return Err(node.refuse("an axis other than 1"));
        }
    } else {
        let target = &names.constant(node, 1)?.values;
        let sides = names.sides(value.shape);
        // The batch keeps its size: 1 as exported, 0 (as it is) or -1 (what is left); -1 can stand once.
        let rest = target.get(1..).unwrap_or_default();
        let unchanged = rest.len() == sides.len() && rest.iter().zip(&sides).all(|(&t, &s)| t == s as f64);
        if unchanged {
            return Ok(value.clone());
        }
        let flat = matches!(rest, &[one] if one == count as f64 || (one == -1.0 && target[0] != -1.0));
        if !flat {
            return Err(node.refuse("reshaping to anything but one vector per patient"));
        }
    }
    if stays {
        return Ok(value.clone());
    }
    let value = names.settled(node, 0)?;
    behind(node, value, Layer::Flatten, Vec::new())
}

/// Attributes of the kind that an exporter writes.
pub(super) fn attribute(name: &str, setting: Setting) -> super::proto::Attribute {
    let mut attribute = super::proto::Attribute {
        name: name.to_owned(),
        ..Default::default()
    };
    match setting {
        Setting::Float(f) => (attribute.f, attribute.kind) = (f as f32, kind::FLOAT),
        Setting::Integer(i) => (attribute.i, attribute.kind) = (i as i64, kind::INT),
        Setting::Integers(all) => {
            attribute.ints = all.into_iter().map(|i| i as i64).collect();
            attribute.kind = kind::INTS;
        }
    }
    attribute
}

/// The value of an attribute.
pub(super) enum Setting {
    Float(f64),
    Integer(usize),
    Integers(Vec<usize>),
}
