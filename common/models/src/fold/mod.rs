//! Networks rewritten for inference: fewer layers, the same function.
//!
//! Exact in real arithmetic; results differ by rounding. In order:
//! 1. Dropout is removed.
//! 2. Hermite terms become a polynomial of degree 2 per channel: with the statistics of training the normalised terms are affine in x
//!    and x^2 (AESPA, arXiv 2201.06699).
//! 3. Batch normalisation is an affine function per channel. It goes into the dense layer or convolution before it, into the dense
//!    layer, residual block or convolution without margin after it, or into the polynomial of degree at most
//!    [`MAX_COMPOSED`] after it; where there is none it stays. Flattening may stand between.
//! 4. An average pool becomes a sum pool, the division going into a layer with weights or coefficients next to it (the scaled sum of
//!    CryptoDL); where there is none it stays.
//! 5. A convolution with a sum pool after it becomes one convolution with a larger filter, if that takes fewer products.

mod affine;
#[cfg(test)]
mod tests;

use crate::evaluate::HERMITE;
use crate::model::{Model, ModelError};
use crate::spec::{Extent, Granularity, Layer, Shape, output_shape};
use crate::tree::{self, Node};
use affine::PerChannel;

/// Largest degree of a polynomial that takes in an affine function: binomials make the coefficients of higher ones inaccurate.
const MAX_COMPOSED: usize = 4;

impl Model {
    /// The same function with fewer layers, for compilers; see the rules at the head of this module's source. Activations keep
    /// their number and order, but what enters them may be scaled otherwise only where it was an average pool.
    pub fn folded(&self) -> Result<Self, ModelError> {
        let input = self.spec().input;
        let nodes = sequence(tree::grow(self)?, input)?;
        // A network of nothing but dropout has to keep it.
        if nodes.is_empty() {
            Ok(self.clone())
        } else {
            tree::fell(input, nodes)
        }
    }
}

/// Folds a sequence of layers that `input` enters.
fn sequence(nodes: Vec<Node>, input: Shape) -> Result<Vec<Node>, ModelError> {
    let mut simple = Vec::new();
    let mut shape = input;
    for mut node in nodes {
        node.body = sequence(node.body, shape)?;
        node.shortcut = sequence(node.shortcut, shape)?;
        let next = leaving(&node, shape)?;
        if node.body.is_empty() {
            std::mem::swap(&mut node.body, &mut node.shortcut);
        }
        match &node.layer {
            Layer::Dropout { .. } => {}
            // Both ways do nothing: x + x.
            Layer::Add { .. } if node.body.is_empty() => {
                let coefficients = vec![0.0, 2.0];
                simple.push(Node::new(Layer::FixedPolynomial { coefficients }, Vec::new()));
            }
            Layer::Hermite { epsilon } => simple.push(hermite(&node.blocks, *epsilon)),
            _ => simple.push(node),
        }
        shape = next;
    }
    let simple = normalisations(simple, input)?;
    merged(pools(simple), input)
}

/// The shape that leaves a layer.
fn leaving(node: &Node, input: Shape) -> Result<Shape, ModelError> {
    if let Layer::Add { .. } = node.layer {
        return node
            .body
            .iter()
            .try_fold(input, |shape, inner| leaving(inner, shape));
    }
    Ok(output_shape(&node.layer, input, "layer")?)
}

/// The shapes that enter the layers of a sequence.
fn entering(nodes: &[Node], input: Shape) -> Result<Vec<Shape>, ModelError> {
    let mut shape = input;
    let mut all = Vec::with_capacity(nodes.len());
    for node in nodes {
        all.push(shape);
        shape = leaving(node, shape)?;
    }
    Ok(all)
}

/// `scale (f0 + f1 (x - m1)/s1 + f2 ((x^2 - 1)/sqrt 2 - m2)/s2) + shift`, sorted by powers of x: coefficient k of every channel. The
/// blocks are those of hermite terms, in order.
pub(crate) fn hermite_coefficients(blocks: &[Vec<f64>], epsilon: f64) -> Vec<Vec<f64>> {
    let [scale, shift, mean_1, variance_1, mean_2, variance_2] =
        [0, 1, 2, 3, 4, 5].map(|i| blocks.get(i).map_or(&[][..], Vec::as_slice));
    let root = std::f64::consts::FRAC_1_SQRT_2;
    let mut coefficients = vec![Vec::new(); 3];
    for c in 0..scale.len() {
        let linear = scale[c] * HERMITE[1] / (variance_1[c] + epsilon).sqrt();
        let square = scale[c] * HERMITE[2] / (variance_2[c] + epsilon).sqrt();
        let constant = shift[c] + scale[c] * HERMITE[0] - linear * mean_1[c] - square * (root + mean_2[c]);
        for (all, one) in coefficients.iter_mut().zip([constant, linear, square * root]) {
            all.push(one);
        }
    }
    coefficients
}

/// Hermite terms as a polynomial.
fn hermite(blocks: &[Vec<f64>], epsilon: f64) -> Node {
    let layer = Layer::Polynomial {
        degree: 2,
        per: Granularity::Channel,
    };
    Node::new(layer, vec![hermite_coefficients(blocks, epsilon).concat()])
}

/// Moves batch normalisations into their neighbours.
fn normalisations(mut nodes: Vec<Node>, input: Shape) -> Result<Vec<Node>, ModelError> {
    let mut i = 0;
    while i < nodes.len() {
        let Layer::BatchNorm { epsilon } = nodes[i].layer else {
            i += 1;
            continue;
        };
        let shapes = entering(&nodes, input)?;
        let affine = PerChannel::of_normalisation(&nodes[i].blocks, epsilon);
        let moved = (i > 0 && affine.join_previous(&mut nodes[i - 1])) || {
            // Behind a flattening each value is a channel of its own.
            let after = nodes[i + 1..].iter().position(|n| n.layer != Layer::Flatten);
            after.is_some_and(|skip| {
                let at = i + 1 + skip;
                let spread = shapes[i].len() / affine.factor.len().max(1);
                let spread = if skip > 0 { spread } else { 1 };
                let shape = shapes[at];
                affine.spread(spread).join_next(&mut nodes[at], shape)
            })
        };
        if moved {
            nodes.remove(i);
        } else {
            i += 1;
        }
    }
    Ok(nodes)
}

/// Turns average pools into sum pools.
fn pools(mut nodes: Vec<Node>) -> Vec<Node> {
    for i in 0..nodes.len() {
        let Layer::AveragePool {
            kernel,
            stride,
            padding,
        } = nodes[i].layer
        else {
            continue;
        };
        let [height, width] = kernel.pair();
        let factor = 1.0 / (height * width) as f64;
        let moved = (i > 0 && affine::scale_before(&mut nodes[i - 1], factor)) || {
            let after = nodes[i + 1..].iter().position(|n| n.layer != Layer::Flatten);
            after.is_some_and(|skip| {
                let at = i + 1 + skip;
                affine::scale_after(&mut nodes[at], factor)
            })
        };
        if moved {
            nodes[i].layer = Layer::SumPool {
                kernel,
                stride,
                padding,
            };
        }
    }
    nodes
}

/// Merges convolutions with the sum pools after them.
fn merged(nodes: Vec<Node>, input: Shape) -> Result<Vec<Node>, ModelError> {
    let mut all: Vec<Node> = Vec::new();
    let mut shape = input;
    // What enters the last node of `all`.
    let mut before = input;
    for node in nodes {
        let next = leaving(&node, shape)?;
        match all.last().and_then(|last| merge(last, &node, shape, next)) {
            // What enters it stays what it was.
            Some(one) => {
                all.pop();
                debug_assert_eq!(leaving(&one, before).ok(), Some(next));
                all.push(one);
            }
            None => {
                all.push(node);
                before = shape;
            }
        }
        shape = next;
    }
    Ok(all)
}

/// The convolution `first` with the sum pool `second` after it, where `middle` is between them and `end` leaves; `None` if they are
/// something else or one convolution would take more products.
fn merge(first: &Node, second: &Node, middle: Shape, end: Shape) -> Option<Node> {
    let Layer::Conv2d {
        channels,
        kernel,
        stride,
        padding,
        groups,
    } = first.layer
    else {
        return None;
    };
    let Layer::SumPool {
        kernel: window,
        stride: step,
        padding: margin,
    } = second.layer
    else {
        return None;
    };
    let (inner, stride) = (kernel.pair(), stride.pair());
    let (window, step) = (window.pair(), step.unwrap_or(window).pair());
    let outer = [0, 1].map(|i| inner[i] + (window[i] - 1) * stride[i]);
    let products = |area: usize, kernel: [usize; 2]| area * kernel[0] * kernel[1];
    if margin.pair() != [0, 0] || products(end.area(), outer) > products(middle.area(), inner) {
        return None;
    }
    let [weight, bias] = [&first.blocks[0], &first.blocks[1]];
    let planes = weight.len() / (inner[0] * inner[1]);
    let mut sums = vec![0.0; planes * outer[0] * outer[1]];
    for plane in 0..planes {
        for (tap, w) in weight[plane * inner[0] * inner[1]..][..inner[0] * inner[1]]
            .iter()
            .enumerate()
        {
            let (y, x) = (tap / inner[1], tap % inner[1]);
            for shift_y in 0..window[0] {
                for shift_x in 0..window[1] {
                    let at =
                        (plane * outer[0] + y + shift_y * stride[0]) * outer[1] + x + shift_x * stride[1];
                    sums[at] += w;
                }
            }
        }
    }
    let count = (window[0] * window[1]) as f64;
    let layer = Layer::Conv2d {
        channels,
        kernel: Extent::Pair(outer),
        stride: Extent::Pair([0, 1].map(|i| stride[i] * step[i])),
        padding,
        groups,
    };
    Some(Node::new(
        layer,
        vec![sums, bias.iter().map(|b| b * count).collect()],
    ))
}
