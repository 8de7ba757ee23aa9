//! What a network needs when it is evaluated encrypted, estimated from its layers alone.
//!
//! **Levels** (multiplicative depth under CKKS), on the way that needs most:
//! - a dense layer, a convolution and the linear maps of a residual block: 1;
//! - a square: 1; a power, a polynomial of degree d and hermite terms (d = 2): ceil(log2 d). One more where there is a factor on
//!   the highest power that can go nowhere: into a dense layer or convolution before or after it, with only pooling,
//!   normalisation, flattening and dropout between;
//! - average pooling and batch normalisation: 0 next to a dense layer, a convolution or a polynomial, whose weights take
//!   their factors; 1 otherwise;
//! - sum pooling, flattening, dropout, addition: 0.
//!
//! **Operations** are counted with one ciphertext per value, a batch of patients in its slots: products with weights (margins of zeros
//! left out), products of two ciphertexts, and relinearisations. The last products of an activation are relinearised after the next
//! linear layer where that has fewer outputs.
//!
//! A compiler may need less: it merges linear layers, and sums over squares before it relinearises. The compiled program's plan has
//! the exact figures.

mod picture;
#[cfg(test)]
mod tests;

use crate::evaluate::Window;
use crate::spec::{Extent, Layer, ModelSpec, Shape, Site, SpecError};
use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Encrypted operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Products of a ciphertext and a weight.
    pub weight_products: u64,
    /// Products of two ciphertexts, squares included.
    pub products: u64,
    /// Relinearisations.
    pub relinearisations: u64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.weight_products += other.weight_products;
        self.products += other.products;
        self.relinearisations += other.relinearisations;
    }
}

/// One layer of a [`Summary`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerSummary {
    /// Its place.
    pub path: String,
    /// Its kind and settings in a few words.
    pub layer: String,
    /// Shape of what enters.
    pub input: Shape,
    /// Shape of what leaves.
    pub output: Shape,
    /// Its own parameters; those of nested layers stand with these.
    pub parameters: usize,
    /// Levels that it needs; of an addition, those of its longer way. `None` where no polynomial computes it.
    pub levels: Option<u32>,
    /// Its own operations.
    pub cost: Cost,
}

/// A network's shapes, parameters, depth and encrypted cost. See the module's text for the rules.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Shape of the input.
    pub input: Shape,
    /// Shape of the output.
    pub output: Shape,
    /// Every layer, nested ones after the addition that holds them, body first.
    pub layers: Vec<LayerSummary>,
    /// All parameters.
    pub parameters: usize,
    /// Levels in all. `None` if there is a layer that no polynomial computes.
    pub levels: Option<u32>,
    /// All operations.
    pub cost: Cost,
}

impl ModelSpec {
    /// Summarises the network; errors as [`ModelSpec::check`].
    pub fn summary(&self) -> Result<Summary, SpecError> {
        let sites = self.resolve()?;
        let mut layers = Vec::new();
        let levels = sequence(&sites, &mut layers);
        let mut cost = Cost::default();
        layers.iter().for_each(|layer| cost += layer.cost);
        Ok(Summary {
            input: self.input,
            output: sites.last().map_or(self.input, |last| last.output),
            parameters: layers.iter().map(|layer| layer.parameters).sum(),
            layers,
            levels,
            cost,
        })
    }
}

/// Appends the layers of a sequence; the levels of all of them.
fn sequence(sites: &[Site<'_>], all: &mut Vec<LayerSummary>) -> Option<u32> {
    let mut total = Some(0);
    for (i, site) in sites.iter().enumerate() {
        let place = all.len();
        all.push(LayerSummary {
            path: site.path.clone(),
            layer: site.layer.to_string(),
            input: site.input,
            output: site.output,
            parameters: site.parameters.iter().map(|block| block.len()).sum(),
            levels: levels(sites, i),
            cost: cost(site, next_linear(&sites[i + 1..])),
        });
        if let Layer::Add { .. } = site.layer {
            let ways = [sequence(&site.body, all), sequence(&site.shortcut, all)];
            all[place].levels = ways[0].zip(ways[1]).map(|(body, shortcut)| body.max(shortcut));
        }
        total = total.zip(all[place].levels).map(|(sum, own)| sum + own);
    }
    total
}

/// Whether its weights can take a factor per channel.
fn has_weights(layer: &Layer) -> bool {
    matches!(layer, Layer::Dense { .. } | Layer::Conv2d { .. })
}

/// Whether a factor per channel goes past it.
fn lets_pass(layer: &Layer) -> bool {
    matches!(
        layer,
        Layer::AveragePool { .. }
            | Layer::SumPool { .. }
            | Layer::BatchNorm { .. }
            | Layer::Flatten
            | Layer::Dropout { .. }
    )
}

fn degree(layer: &Layer) -> Option<u32> {
    match layer {
        Layer::Square | Layer::Hermite { .. } => Some(2),
        Layer::Power { power, .. } => Some(*power),
        Layer::Polynomial { degree, .. } => Some(*degree as u32),
        Layer::FixedPolynomial { coefficients } => Some(coefficients.len() as u32 - 1),
        _ => None,
    }
}

/// ceil(log2 d) for d of at least 1.
fn log2(d: u32) -> u32 {
    d.next_power_of_two().trailing_zeros()
}

/// The levels that the layer at `i` needs where it stands; `None` for what no polynomial computes.
fn levels(sites: &[Site<'_>], i: usize) -> Option<u32> {
    let layer = sites[i].layer;
    if !layer.is_polynomial() {
        return None;
    }
    // The neighbours, with nothing between that a factor does not pass.
    let before = sites[..i].iter().rev().map(|s| s.layer).find(|l| !lets_pass(l));
    let after = sites[i + 1..].iter().map(|s| s.layer).find(|l| !lets_pass(l));
    let beside_weights = [before, after].into_iter().flatten().any(has_weights);
    Some(match layer {
        Layer::Dense { .. } | Layer::Conv2d { .. } => 1,
        Layer::Residual { power, .. } => 1 + log2(*power),
        Layer::AveragePool { .. } | Layer::BatchNorm { .. } => {
            let coefficients = after.is_some_and(|l| {
                matches!(
                    l,
                    Layer::Polynomial { .. } | Layer::FixedPolynomial { .. } | Layer::Hermite { .. }
                )
            });
            u32::from(!beside_weights && !coefficients && !matches!(after, Some(Layer::Residual { .. })))
        }
        Layer::Square => 1,
        _ => match degree(layer) {
            Some(d) => log2(d) + u32::from(!beside_weights),
            None => 0,
        },
    })
}

/// Outputs of the linear layer that comes next, if nothing but pooling and the like is between.
fn next_linear(rest: &[Site<'_>]) -> Option<u64> {
    let next = rest.iter().find(|site| !lets_pass(site.layer))?;
    has_weights(next.layer).then_some(next.output.len() as u64)
}

/// Products of two ciphertexts for one value of an activation of degree `d`: all powers up to d one by one where d is small; otherwise
/// powers up to k, powers of x^k by squaring, and one product for each further block of k coefficients (Paterson and Stockmeyer 1973),
/// for the best k.
fn products(d: u32) -> u64 {
    let split = |k: u32| {
        let blocks = (d + 1).div_ceil(k);
        u64::from(k - 1 + blocks - 1 + log2(blocks).saturating_sub(1))
    };
    (1..=d + 1)
        .map(split)
        .min()
        .map_or(0, |best| best.min(u64::from(d.saturating_sub(1))))
}

/// The same for `x^d` alone, by squaring and multiplying.
fn power_products(d: u32) -> u64 {
    u64::from(d.ilog2() + d.count_ones() - 1)
}

fn cost(site: &Site<'_>, next: Option<u64>) -> Cost {
    let (inputs, outputs) = (site.input.len() as u64, site.output.len() as u64);
    // All but the last product of each value are relinearised at once.
    let activation = |values: u64, each: u64, weights: u64| Cost {
        weight_products: values * weights,
        products: values * each,
        relinearisations: if each == 0 {
            0
        } else {
            values * (each - 1) + values.min(next.unwrap_or(values))
        },
    };
    let weights = |weight_products: u64| Cost {
        weight_products,
        ..Cost::default()
    };
    match site.layer {
        Layer::Dense { .. } => weights(inputs * outputs),
        Layer::Residual { power, .. } => {
            let mut all = activation(outputs, power_products(*power), 0);
            all += weights(2 * inputs * outputs);
            all
        }
        Layer::Conv2d {
            kernel,
            stride,
            padding,
            groups,
            channels,
        } => {
            let taps = window(site, kernel, stride, padding).taps() as u64;
            weights(taps * *channels as u64 * (site.input.channels() / (*groups).max(1)) as u64)
        }
        Layer::Square => activation(inputs, 1, 0),
        Layer::Power { power, .. } => activation(inputs, power_products(*power), 0),
        Layer::Polynomial { .. } | Layer::FixedPolynomial { .. } | Layer::Hermite { .. } => {
            let d = degree(site.layer).unwrap_or(1);
            activation(inputs, products(d), u64::from(d))
        }
        _ => Cost::default(),
    }
}

fn window(site: &Site<'_>, kernel: &Extent, stride: &Extent, padding: &Extent) -> Window {
    Window::of(site, kernel, stride, padding)
}
