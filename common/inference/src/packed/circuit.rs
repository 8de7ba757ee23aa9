//! A packed model over the levels and scales of a preset.

use super::structure::{Linear, Structure};
use crate::circuit::Size;
use crate::network::{Network, Node, NodeId};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use std::sync::Arc;

/// Scales: those of values are at least 2^`least`, weights are taken to `weights` bits, and what can be divided by a prime without going below
/// `least` is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) least: u32,
    pub(crate) weights: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Step {
    Input,
    Square { of: NodeId, divisions: usize },
    Sum(Sum),
}

/// A sum of matrices times vectors at its level.
#[derive(Clone, Debug)]
pub(super) struct Sum {
    pub(super) linear: Arc<Linear>,
    /// Of products, before the divisions.
    pub(super) target: Target,
    /// Scale of the plaintexts of each matrix.
    pub(super) weights: Vec<f64>,
    pub(super) divisions: usize,
}

/// A packed model laid out over the levels of a context.
#[derive(Clone, Debug)]
pub(crate) struct PackedCircuit {
    pub(super) steps: Vec<Step>,
    /// Level and scale of every vector.
    pub(super) states: Vec<Target>,
    pub(super) sizes: Vec<Size>,
    /// The noise that is expected in every vector, where that is what counts.
    pub(super) noises: Option<Vec<f64>>,
    /// Slots of a patient.
    pub(super) width: usize,
    /// Patients.
    pub(super) lanes: usize,
    pub(super) slots: usize,
}

impl PackedCircuit {
    /// Lays a structure out with inputs at `level`.
    ///
    /// # Errors
    /// [`CkksError::NoLevelLeft`] for what does not come out at level 0 with that precision of weights, [`CkksError::ScaleMismatch`].
    pub(crate) fn new(
        context: &Context,
        network: &Network,
        structure: &Structure,
        level: usize,
        bits: Bits,
    ) -> Result<Self, CkksError> {
        let least = f64::from(bits.least).exp2();
        let prime = |level: usize| context.preset().primes().get(level).map_or(1.0, |&p| p as f64);
        let divided = |mut state: Target| {
            let mut divisions = 0;
            while state.level > 0 && state.scale / prime(state.level) >= least {
                state.scale /= prime(state.level);
                state.level -= 1;
                divisions += 1;
            }
            (divisions, state)
        };
        let (mut steps, mut states) = (Vec::new(), Vec::<Target>::new());
        let last = network.nodes.len().saturating_sub(1);
        for (id, (node, linear)) in network.nodes.iter().zip(&structure.sums).enumerate() {
            let (step, state) = match (node, linear) {
                (Node::Square { of }, _) => {
                    let Target { level, scale } = states[*of];
                    let (divisions, state) = divided(Target {
                        level,
                        scale: scale * scale,
                    });
                    (Step::Square { of: *of, divisions }, state)
                }
                (Node::Sum { .. }, Some(linear)) => {
                    let sources = || linear.nodes.iter().map(|&node| states[node]);
                    let lowest = sources().map(|s| s.level).min().unwrap_or(0);
                    let scale = sources().map(|s| s.scale).fold(0.0, f64::max);
                    let precise = f64::from(bits.weights).exp2();
                    let target = if id == last {
                        final_target(context, linear, lowest, scale, precise)?
                    } else {
                        Target {
                            level: lowest,
                            scale: scale * precise,
                        }
                    };
                    let scales: Vec<f64> = sources().map(|s| s.scale).collect();
                    let (scale, weights) = factors(&scales, target.scale)?;
                    let target = Target { scale, ..target };
                    let (divisions, state) = if id == last {
                        let left = (1..=target.level).rev().fold(target.scale, |s, l| s / prime(l));
                        (
                            target.level,
                            Target {
                                level: 0,
                                scale: left,
                            },
                        )
                    } else {
                        divided(target)
                    };
                    let sum = Sum {
                        linear: Arc::clone(linear),
                        target,
                        weights,
                        divisions,
                    };
                    (Step::Sum(sum), state)
                }
                _ => (Step::Input, Target { level, scale: least }),
            };
            steps.push(step);
            states.push(state);
        }
        Ok(Self {
            steps,
            states,
            sizes: structure.sizes.clone(),
            noises: None,
            width: structure.width,
            lanes: context.slots() / structure.width,
            slots: context.slots(),
        })
    }

    /// Level of the input.
    pub(crate) fn level(&self) -> usize {
        self.states.first().map_or(0, |s| s.level)
    }

    /// Scale of the input.
    pub(crate) fn input_scale(&self) -> f64 {
        self.states.first().map_or(1.0, |s| s.scale)
    }

    /// Elements of the result.
    pub(crate) fn outputs(&self) -> usize {
        match self.steps.last() {
            Some(Step::Sum(sum)) => sum.linear.constants.len(),
            _ => 0,
        }
    }
}

/// The last sum comes out at level 0 with a power of two as its scale: the largest that leaves room for what it may be, by the fewest divisions that
/// leave weights their precision.
fn final_target(
    context: &Context,
    linear: &Linear,
    lowest: usize,
    scale: f64,
    precise: f64,
) -> Result<Target, CkksError> {
    let primes = context.preset().primes();
    // Bounds add up twice the largest part when parts are folded; and noise has to fit beside.
    let largest = linear.reach.max(2.0 * linear.parts).max(f64::MIN_POSITIVE) + linear.constant;
    let room = primes.first().map_or(1.0, |&p| p as f64) / (2.125 * largest);
    let fitting = room.log2().floor().exp2();
    let mut divisor = 1.0;
    for level in 0..=lowest {
        if level > 0 {
            divisor *= primes.get(level).map_or(1.0, |&p| p as f64);
        }
        let most = fitting * divisor / scale;
        if most >= precise {
            // More than weights have by themselves costs nothing but is of no use.
            return Ok(Target {
                level,
                scale: fitting * divisor,
            });
        }
    }
    Err(CkksError::NoLevelLeft)
}

/// A scale near `target`, and factors that take every one of `scales` to exactly that.
fn factors(scales: &[f64], target: f64) -> Result<(f64, Vec<f64>), CkksError> {
    const TRIED: u64 = 256;
    let near = |x: f64| [x, x.next_up(), x.next_down()];
    for step in 0..TRIED {
        let target = f64::from_bits(target.to_bits() + step);
        let factor = |&scale: &f64| near(target / scale).into_iter().find(|f| f * scale == target);
        if let Some(factors) = scales.iter().map(factor).collect() {
            return Ok((target, factors));
        }
    }
    Err(CkksError::ScaleMismatch {
        left: scales.iter().copied().fold(0.0, f64::max).log2(),
        right: target.log2(),
    })
}
