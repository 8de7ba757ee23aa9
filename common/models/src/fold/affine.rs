//! Affine functions per channel, and the layers that can take one in.

use super::MAX_COMPOSED;
use crate::spec::{Extent, Granularity, Layer, Shape};
use crate::tree::Node;

/// `factor x + constant`, one pair per channel.
#[derive(Clone, Debug)]
pub(super) struct PerChannel {
    pub(super) factor: Vec<f64>,
    pub(super) constant: Vec<f64>,
}

impl PerChannel {
    /// A batch normalisation with the blocks scale, shift, mean and variance.
    pub(super) fn of_normalisation(blocks: &[Vec<f64>], epsilon: f64) -> Self {
        let [scale, shift, mean, variance] = [0, 1, 2, 3].map(|i| blocks[i].as_slice());
        let factor: Vec<f64> = scale
            .iter()
            .zip(variance)
            .map(|(s, v)| s / (v + epsilon).sqrt())
            .collect();
        let constant = shift
            .iter()
            .zip(mean)
            .zip(&factor)
            .map(|((s, m), f)| s - f * m)
            .collect();
        Self { factor, constant }
    }

    /// The same for channels of `area` values that were flattened.
    pub(super) fn spread(&self, area: usize) -> Self {
        let repeat = |all: &[f64]| all.iter().flat_map(|&v| std::iter::repeat_n(v, area)).collect();
        Self {
            factor: repeat(&self.factor),
            constant: repeat(&self.constant),
        }
    }

    /// Puts it into a layer that computes what enters it; whether that was possible.
    pub(super) fn join_previous(&self, node: &mut Node) -> bool {
        if !matches!(node.layer, Layer::Dense { .. } | Layer::Conv2d { .. }) {
            return false;
        }
        let outputs = self.factor.len();
        let row = node.blocks[0].len() / outputs;
        for (weights, factor) in node.blocks[0].chunks_mut(row).zip(&self.factor) {
            weights.iter_mut().for_each(|w| *w *= factor);
        }
        for (o, bias) in node.blocks[1].iter_mut().enumerate() {
            *bias = *bias * self.factor[o] + self.constant[o];
        }
        true
    }

    /// Puts it into the layer that it enters, whose input has the given shape; whether that was possible.
    pub(super) fn join_next(&self, node: &mut Node, shape: Shape) -> bool {
        match &node.layer {
            Layer::Dense { .. } => self.join_rows(&mut node.blocks, 0, self.factor.len(), 1),
            Layer::Residual { .. } => {
                self.join_rows(&mut node.blocks, 0, self.factor.len(), 1);
                self.join_rows(&mut node.blocks, 2, self.factor.len(), 1);
            }
            Layer::Conv2d {
                kernel,
                padding,
                groups,
                ..
            } if padding.pair() == [0, 0] => {
                let taps = area(kernel);
                self.join_rows(&mut node.blocks, 0, self.factor.len() / (*groups).max(1), taps);
            }
            layer => {
                let Some(polynomial) = Polynomial::of(layer, &node.blocks, shape) else {
                    return false;
                };
                *node = polynomial.after(self).into_node();
            }
        }
        true
    }

    /// Into rows of weights at block `i` and the biases behind it, where a row has `taps` weights for each of `inputs` channels of its
    /// group.
    fn join_rows(&self, blocks: &mut [Vec<f64>], i: usize, inputs: usize, taps: usize) {
        let outputs = blocks[i + 1].len();
        let per_group = outputs * inputs / self.factor.len().max(1);
        for o in 0..outputs {
            let group = o / per_group.max(1);
            let mut constant = 0.0;
            for channel in 0..inputs {
                let from = group * inputs + channel;
                let start = (o * inputs + channel) * taps;
                for w in &mut blocks[i][start..start + taps] {
                    constant += *w * self.constant[from];
                    *w *= self.factor[from];
                }
            }
            blocks[i + 1][o] += constant;
        }
    }
}

fn area(extent: &Extent) -> usize {
    let [height, width] = extent.pair();
    height * width
}

/// Scales what a layer computes; whether that was possible.
pub(super) fn scale_before(node: &mut Node, factor: f64) -> bool {
    let possible = match &mut node.layer {
        Layer::Dense { .. } | Layer::Conv2d { .. } | Layer::Polynomial { .. } => true,
        Layer::FixedPolynomial { coefficients } => {
            coefficients.iter_mut().for_each(|c| *c *= factor);
            true
        }
        Layer::Power { scale, .. } => {
            *scale *= factor;
            true
        }
        _ => false,
    };
    if possible {
        node.blocks.iter_mut().flatten().for_each(|w| *w *= factor);
    }
    possible
}

/// Scales what enters a layer; whether that was possible.
pub(super) fn scale_after(node: &mut Node, factor: f64) -> bool {
    match &mut node.layer {
        // Zeros of a margin stay zeros.
        Layer::Dense { .. } | Layer::Conv2d { .. } => node.blocks[0].iter_mut().for_each(|w| *w *= factor),
        Layer::Residual { .. } => {
            for i in [0, 2] {
                node.blocks[i].iter_mut().for_each(|w| *w *= factor);
            }
        }
        Layer::Power { scale, power } => *scale *= (0..*power).fold(1.0, |product, _| product * factor),
        Layer::FixedPolynomial { coefficients } => {
            let mut power = 1.0;
            for c in coefficients {
                *c *= power;
                power *= factor;
            }
        }
        Layer::Polynomial { degree, .. } => {
            let sets = node.blocks[0].len() / (*degree + 1);
            let mut power = 1.0;
            for c in node.blocks[0].chunks_mut(sets.max(1)) {
                c.iter_mut().for_each(|c| *c *= power);
                power *= factor;
            }
        }
        _ => return false,
    }
    true
}

/// An activation as coefficients per channel or per value.
struct Polynomial {
    per: Granularity,
    /// Values per set of coefficients, for a value's channel.
    area: usize,
    /// Coefficient k of every set.
    coefficients: Vec<Vec<f64>>,
}

impl Polynomial {
    /// An activation of small degree on values of the given shape.
    fn of(layer: &Layer, blocks: &[Vec<f64>], shape: Shape) -> Option<Self> {
        let channels = shape.channels();
        let same = |all: &[f64]| -> Vec<Vec<f64>> { all.iter().map(|&c| vec![c; channels]).collect() };
        let (per, coefficients) = match layer {
            Layer::Square => (Granularity::Channel, same(&[0.0, 0.0, 1.0])),
            Layer::Power { scale, power } => {
                let mut all = vec![0.0; *power as usize + 1];
                all[*power as usize] = *scale;
                (Granularity::Channel, same(&all))
            }
            Layer::FixedPolynomial { coefficients } => (Granularity::Channel, same(coefficients)),
            Layer::Polynomial { degree, per } => {
                let sets = blocks[0].len() / (degree + 1);
                match per {
                    Granularity::Layer => (Granularity::Channel, same(&blocks[0])),
                    per => (*per, blocks[0].chunks(sets).map(<[f64]>::to_vec).collect()),
                }
            }
            _ => return None,
        };
        let area = if per == Granularity::Element {
            shape.area()
        } else {
            1
        };
        (coefficients.len() <= MAX_COMPOSED + 1).then_some(Self {
            per,
            area,
            coefficients,
        })
    }

    /// `p(factor x + constant)`, by Horner's rule on polynomials.
    fn after(&self, inner: &PerChannel) -> Self {
        let degree = self.coefficients.len() - 1;
        let sets = self.coefficients[0].len();
        let mut composed = vec![vec![0.0; sets]; degree + 1];
        for set in 0..sets {
            let (factor, constant) = (inner.factor[set / self.area], inner.constant[set / self.area]);
            let mut sum = vec![0.0; degree + 1];
            for k in (0..=degree).rev() {
                // sum = sum * (factor x + constant) + c_k.
                for j in (0..=degree).rev() {
                    let lower = if j > 0 { sum[j - 1] } else { 0.0 };
                    sum[j] = sum[j] * constant + lower * factor;
                }
                sum[0] += self.coefficients[k][set];
            }
            composed.iter_mut().zip(sum).for_each(|(all, c)| all[set] = c);
        }
        Self {
            per: self.per,
            area: self.area,
            coefficients: composed,
        }
    }

    fn into_node(self) -> Node {
        let layer = Layer::Polynomial {
            degree: self.coefficients.len() - 1,
            per: self.per,
        };
        Node::new(layer, vec![self.coefficients.concat()])
    }
}
