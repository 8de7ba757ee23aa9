//! From a graph to a model.

use super::OnnxError;
use super::constant::Constant;
use super::operators;
use super::proto::{self, Operator, Side, ValueInfo};
use super::value::Value;
use crate::model::Model;
use crate::spec::{MAX_LAYERS, MAX_PARAMETERS, MAX_VALUES, Shape};
use crate::tree;
use std::collections::HashMap;
use std::rc::Rc;

/// Largest number of operators: several for each layer that a network can have.
const MAX_OPERATORS: usize = 128 * MAX_LAYERS;
/// Weights and coefficients that are made out of the constants of a file of `bytes`, at most: operators can repeat what they read, so
/// that a small file could ask for any amount. A polynomial of the largest degree, summed up term by term from weights of 4 bytes, needs 8
/// per byte.
fn most_held(bytes: usize) -> usize {
    (bytes.saturating_mul(16) + (1 << 20)).min(2 * MAX_PARAMETERS)
}

/// What is known of a graph's names.
pub(super) struct Names {
    values: HashMap<String, Value>,
    constants: HashMap<String, Rc<Constant>>,
    /// How many operators' inputs have a name.
    uses: HashMap<String, usize>,
    /// Whether tensors are signals (channels and time) and not images.
    signal: bool,
    /// Weights and coefficients of all values.
    held: usize,
    /// How many there can be.
    most_held: usize,
}

/// Reads what was decoded from a file of `bytes`.
pub(super) fn import(model: &proto::Model, bytes: usize) -> Result<Model, OnnxError> {
    let malformed = |detail: String| OnnxError::Malformed { detail };
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| malformed("it has no graph".into()))?;
    if graph.node.len() > MAX_OPERATORS {
        return Err(malformed(format!(
            "{} operators, at most {MAX_OPERATORS} are read",
            graph.node.len()
        )));
    }
    let unknown: Vec<String> = graph
        .node
        .iter()
        .filter(|node| !operators::is_known(node))
        .map(|node| format!("{} at node {}", node.op_type, node.label()))
        .collect();
    if !unknown.is_empty() {
        return Err(OnnxError::Operators { nodes: unknown });
    }
    let mut constants = HashMap::new();
    for tensor in &graph.initializer {
        constants.insert(tensor.name.clone(), Rc::new(Constant::read(tensor)?));
    }
    let inputs: Vec<&ValueInfo> = graph
        .input
        .iter()
        .filter(|i| !constants.contains_key(&i.name))
        .collect();
    let [input] = inputs.as_slice() else {
        return Err(malformed(format!(
            "{} inputs, exactly one is needed",
            inputs.len()
        )));
    };
    let (shape, signal) = input_shape(input)?;
    let mut names = Names {
        values: HashMap::from([(input.name.clone(), Value::new(Vec::new(), shape))]),
        constants,
        uses: HashMap::new(),
        signal,
        held: 0,
        most_held: most_held(bytes),
    };
    for name in graph.node.iter().flat_map(|node| &node.input) {
        *names.uses.entry(name.clone()).or_default() += 1;
    }
    for node in &graph.node {
        operators::apply(&mut names, node)?;
    }
    let [output] = graph.output.as_slice() else {
        return Err(malformed(format!(
            "{} outputs, exactly one is needed",
            graph.output.len()
        )));
    };
    let value = names.values.remove(&output.name);
    let value = value.ok_or_else(|| malformed(format!("nothing computes the output {}", output.name)))?;
    let steps = value.settled().steps;
    let nodes = steps.into_iter().map(|step| (*step.node).clone()).collect();
    Ok(tree::fell(shape, nodes)?)
}

/// The shape of one patient's input, and whether it is a signal.
fn input_shape(input: &ValueInfo) -> Result<(Shape, bool), OnnxError> {
    let sides = input
        .value_type
        .as_ref()
        .and_then(|t| t.tensor_type.as_ref())
        .and_then(|t| t.shape.as_ref());
    let sides = sides.map(|shape| shape.dim.as_slice()).unwrap_or_default();
    let fixed = sides.iter().skip(1).map(|dimension| match dimension.side {
        Some(Side::Value(n)) => usize::try_from(n).ok().filter(|&n| n > 0),
        _ => None,
    });
    let fixed: Option<Vec<usize>> = fixed.collect();
    let size = fixed
        .iter()
        .flatten()
        .fold(1usize, |n, &side| n.saturating_mul(side));
    if size > MAX_VALUES {
        return Err(OnnxError::Malformed {
            detail: format!("input {} has more than {MAX_VALUES} values", input.name),
        });
    }
    match fixed.as_deref() {
        Some(&[features]) => Ok((Shape::Features(features), false)),
        Some(&[channels, length]) => Ok((Shape::Image([channels, 1, length]), true)),
        Some(&[channels, height, width]) => Ok((Shape::Image([channels, height, width]), false)),
        _ => Err(OnnxError::Malformed {
            detail: format!(
                "input {} needs a batch and fixed sizes after it (features, or channels and one or two sides); export the model with \
                 only the batch dynamic",
                input.name
            ),
        }),
    }
}

impl Names {
    /// Whether tensors are signals (channels and time) and not images.
    pub(super) fn is_signal(&self) -> bool {
        self.signal
    }

    /// The sides of a value's tensor, without the batch.
    pub(super) fn sides(&self, shape: Shape) -> Vec<usize> {
        match shape {
            Shape::Features(n) => vec![n],
            Shape::Image([channels, _, length]) if self.signal => vec![channels, length],
            Shape::Image(sides) => sides.to_vec(),
        }
    }

    /// The value that an operator reads.
    pub(super) fn value(&self, node: &Operator, i: usize) -> Result<&Value, OnnxError> {
        let name = node.input.get(i).map_or("", String::as_str);
        let missing = || {
            node.refuse(format!(
                "its input {i} ({name}) is not computed from the model's input"
            ))
        };
        self.values.get(name).ok_or_else(missing)
    }

    /// The value that an operator reads, as layers alone. Whoever reads it later shares these layers.
    pub(super) fn settled(&mut self, node: &Operator, i: usize) -> Result<Value, OnnxError> {
        let value = self.value(node, i)?;
        if value.is_plain() {
            return Ok(value.clone());
        }
        let value = value.clone().settled();
        self.hold(node, &value)?;
        self.values.insert(node.input[i].clone(), value.clone());
        Ok(value)
    }

    /// Counts what a value holds that no other one does; an error where all hold too much.
    fn hold(&mut self, node: &Operator, value: &Value) -> Result<(), OnnxError> {
        self.held = self.held.saturating_add(value.own_size());
        if self.held > self.most_held {
            return Err(node.refuse(format!(
                "up to here the graph makes {} weights and coefficients out of its constants, at most {} are made for a file of its size",
                self.held, self.most_held
            )));
        }
        Ok(())
    }

    /// Ends polynomials that several operators read, so that these compute with what leaves a layer. Those of degree up to 2 stay
    /// open: they are the powers that longer ones are made of.
    pub(super) fn close_shared(&mut self, node: &Operator) -> Result<(), OnnxError> {
        for (i, name) in node.input.iter().enumerate() {
            let shared = self.uses.get(name).is_some_and(|&uses| uses > 1);
            if shared
                && self
                    .values
                    .get(name)
                    .is_some_and(|value| value.polynomial.len() > 3)
            {
                self.settled(node, i)?;
            }
        }
        Ok(())
    }

    /// The constant that an operator reads, if the input is there.
    pub(super) fn optional(&self, node: &Operator, i: usize) -> Option<&Constant> {
        self.constants.get(node.input.get(i)?).map(Rc::as_ref)
    }

    /// The constant that an operator reads.
    pub(super) fn constant(&self, node: &Operator, i: usize) -> Result<&Constant, OnnxError> {
        let name = node.input.get(i).map_or("", String::as_str);
        self.optional(node, i)
            .ok_or_else(|| node.refuse(format!("its input {i} ({name}) must be a constant")))
    }

    /// Gives a name to what an operator computes.
    pub(super) fn define(&mut self, node: &Operator, value: Value) -> Result<(), OnnxError> {
        let layers = value.layers();
        if layers > MAX_LAYERS {
            return Err(node.refuse(format!(
                "{layers} layers lead to it, a network has at most {MAX_LAYERS}"
            )));
        }
        self.hold(node, &value)?;
        if let Some(name) = node.output.first() {
            self.values.insert(name.clone(), value);
        }
        Ok(())
    }

    /// Gives a name to a constant.
    pub(super) fn define_constant(&mut self, node: &Operator, constant: Constant) {
        if let Some(name) = node.output.first() {
            self.constants.insert(name.clone(), Rc::new(constant));
        }
    }

    /// Gives another name to the constant that an operator reads first; whether there is one.
    pub(super) fn rename_constant(&mut self, node: &Operator) -> bool {
        let constant = node.input.first().and_then(|name| self.constants.get(name));
        let Some(constant) = constant.map(Rc::clone) else {
            return false;
        };
        if let Some(name) = node.output.first() {
            self.constants.insert(name.clone(), constant);
        }
        true
    }
}
