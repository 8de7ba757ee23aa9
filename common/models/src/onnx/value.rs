//! What flows between the operators of a graph, as layers of ours.

use super::coefficient::{Coefficient, finer};
use crate::spec::{Granularity, Layer, MAX_DEGREE, MAX_DEPTH, MAX_LAYERS, Shape};
use crate::tree::Node;
use std::rc::Rc;

/// A layer on the way from the input; two ways that share their beginning share these.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) node: Rc<Node>,
    /// Shape of what enters.
    pub(super) input: Shape,
}

/// A value: a polynomial, element by element, of what some layers make of the input.
#[derive(Clone, Debug)]
pub(super) struct Value {
    /// The layers from the input on.
    pub(super) steps: Vec<Step>,
    pub(super) shape: Shape,
    /// The polynomial's coefficients from the constant up; at least two.
    pub(super) polynomial: Vec<Coefficient>,
}

impl Value {
    /// What leaves the given layers.
    pub(super) fn new(steps: Vec<Step>, shape: Shape) -> Self {
        Self {
            steps,
            shape,
            polynomial: vec![Coefficient::all(0.0), Coefficient::all(1.0)],
        }
    }

    /// Whether nothing was done to what leaves the layers.
    pub(super) fn is_plain(&self) -> bool {
        self.polynomial.len() == 2 && self.polynomial[0].is(0.0) && self.polynomial[1].is(1.0)
    }

    /// Whether both are polynomials of the same values.
    pub(super) fn same_base(&self, other: &Self) -> bool {
        self.steps.len() == other.steps.len() && shared(&self.steps, &other.steps) == self.steps.len()
    }

    /// The value behind a further layer.
    pub(super) fn then(mut self, node: Node, shape: Shape) -> Self {
        self.steps.push(Step {
            node: Rc::new(node),
            input: self.shape,
        });
        Self::new(self.steps, shape)
    }

    /// The sum of two polynomials of the same values.
    pub(super) fn plus(&self, other: &Self) -> Self {
        let zero = Coefficient::all(0.0);
        let degree = self.polynomial.len().max(other.polynomial.len());
        let at = |of: &Self, k: usize| of.polynomial.get(k).unwrap_or(&zero).clone();
        let sum = |k| at(self, k).zip(&at(other, k), self.shape, |a, b| a + b);
        Self {
            polynomial: (0..degree).map(sum).collect(),
            ..self.clone()
        }
        .trimmed()
    }

    /// The product of two polynomials of the same values; `None` above the largest degree.
    pub(super) fn times(&self, other: &Self) -> Option<Self> {
        let degree = self.polynomial.len() + other.polynomial.len() - 2;
        if degree > MAX_DEGREE {
            return None;
        }
        let mut product = vec![Coefficient::all(0.0); degree + 1];
        for (i, a) in self.polynomial.iter().enumerate() {
            for (j, b) in other.polynomial.iter().enumerate() {
                if !a.is(0.0) && !b.is(0.0) {
                    let term = a.zip(b, self.shape, |a, b| a * b);
                    product[i + j] = product[i + j].zip(&term, self.shape, |a, b| a + b);
                }
            }
        }
        Some(
            Self {
                polynomial: product,
                ..self.clone()
            }
            .trimmed(),
        )
    }

    /// The same function with a constant applied to every coefficient, or added to the constant one.
    pub(super) fn with(&self, constant: &Coefficient, f: fn(f64, f64) -> f64, all: bool) -> Self {
        let count = if all { self.polynomial.len() } else { 1 };
        let mut changed = self.clone();
        for c in &mut changed.polynomial[..count] {
            *c = c.zip(constant, self.shape, f);
        }
        changed.trimmed()
    }

    /// Without highest coefficients that are 0.
    fn trimmed(mut self) -> Self {
        while self.polynomial.len() > 2 && self.polynomial.last().is_some_and(|c| c.is(0.0)) {
            self.polynomial.pop();
        }
        self
    }

    /// The same value as layers alone.
    pub(super) fn settled(self) -> Self {
        if self.is_plain() {
            return self;
        }
        let node = self.activation();
        let shape = self.shape;
        self.then(node, shape)
    }

    /// The layer that computes the polynomial.
    fn activation(&self) -> Node {
        let degree = self.polynomial.len() - 1;
        let only_highest = self.polynomial[..degree].iter().all(|c| c.is(0.0));
        if let Some(factor) = self.polynomial[degree].single()
            && only_highest
            && degree >= 2
            && factor > 0.0
        {
            return Node::new(
                if degree == 2 && factor == 1.0 {
                    Layer::Square
                } else {
                    Layer::Power {
                        scale: factor,
                        power: degree as u32,
                    }
                },
                Vec::new(),
            );
        }
        let per = self
            .polynomial
            .iter()
            .fold(Granularity::Layer, |per, c| finer(per, c.per));
        let expanded = self
            .polynomial
            .iter()
            .flat_map(|c| c.expanded(per, self.shape))
            .collect();
        if per == Granularity::Layer {
            return Node::new(
                Layer::FixedPolynomial {
                    coefficients: expanded,
                },
                Vec::new(),
            );
        }
        Node::new(Layer::Polynomial { degree, per }, vec![expanded])
    }

    /// Layers from the input on, nested ones counted.
    pub(super) fn layers(&self) -> usize {
        self.steps.iter().map(|step| step.node.layers()).sum()
    }

    /// Coefficients, and the weights of the last layer if no other value has it.
    pub(super) fn own_size(&self) -> usize {
        let last = self.steps.last().filter(|step| Rc::strong_count(&step.node) == 1);
        let coefficients: usize = self.polynomial.iter().map(|c| c.values.len()).sum();
        coefficients + last.map_or(0, |step| step.node.weights())
    }

    /// The sum of two values on different ways: what they share, then an addition of what they do not. Refuses what would be nested too
    /// deep or have too many layers: every addition copies its ways.
    pub(super) fn joined(self, other: Self) -> Result<Self, String> {
        let (first, second) = (self.settled(), other.settled());
        let common = shared(&first.steps, &second.steps);
        let own = || first.steps[common..].iter().chain(&second.steps[common..]);
        let layers: usize = own().map(|step| step.node.layers()).sum();
        if layers >= MAX_LAYERS || own().any(|step| step.node.depth() >= MAX_DEPTH) {
            return Err(format!(
                "an addition of ways that have {layers} layers, at most {} are possible, with additions nested {MAX_DEPTH} deep",
                MAX_LAYERS - 1
            ));
        }
        let shape = first.shape;
        let before = first
            .steps
            .get(common)
            .or(second.steps.get(common))
            .map_or(shape, |step| step.input);
        let way = |steps: &[Step]| steps[common..].iter().map(|step| (*step.node).clone()).collect();
        let (mut body, mut shortcut): (Vec<Node>, Vec<Node>) = (way(&first.steps), way(&second.steps));
        if body.is_empty() {
            std::mem::swap(&mut body, &mut shortcut);
        }
        let mut steps = first.steps;
        steps.truncate(common);
        let base = Self::new(steps, before);
        Ok(base.then(block(body, shortcut), shape))
    }
}

/// How many steps two ways share from their beginning.
fn shared(a: &[Step], b: &[Step]) -> usize {
    a.iter()
        .zip(b)
        .take_while(|(a, b)| Rc::ptr_eq(&a.node, &b.node))
        .count()
}

/// An addition, or the residual block that it is: a dense layer beside a dense layer and a power.
fn block(body: Vec<Node>, shortcut: Vec<Node>) -> Node {
    for (linear, power) in [(&body, &shortcut), (&shortcut, &body)] {
        if let ([linear], [inner, power]) = (linear.as_slice(), power.as_slice())
            && let (Layer::Dense { outputs }, Layer::Dense { .. }) = (&linear.layer, &inner.layer)
        {
            let (scale, power) = match power.layer {
                Layer::Square => (1.0, 2),
                Layer::Power { scale, power } => (scale, power),
                _ => continue,
            };
            let layer = Layer::Residual {
                outputs: *outputs,
                scale,
                power,
            };
            return Node::new(
                layer,
                [linear.blocks.as_slice(), inner.blocks.as_slice()].concat(),
            );
        }
    }
    Node::add(body, shortcut)
}
