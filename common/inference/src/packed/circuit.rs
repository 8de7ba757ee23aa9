//! A packed model over the levels and scales of a preset, and its evaluation, written once for ciphertexts and for their bounds.

use super::diagonals::{Diagonals, largest, parent};
use super::structure::{Linear, Structure};
use crate::circuit::{Residues, Size, Work};
use crate::network::{Network, Node, NodeId};
use galen_ckks::CkksError;
use galen_ckks::context::Context;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a packed circuit computes with: ciphertexts, or only their bounds.
pub(crate) trait SlotArithmetic: Sync {
    /// All slots of a vector.
    type Value: Clone + Send + Sync;
    /// Known numbers in all slots.
    type Plain: Send + Sync;
    /// Every slot holds what is in the one `steps` further.
    fn rotate(&self, a: &Self::Value, steps: usize) -> Result<Self::Value, CkksError>;
    /// [`Self::rotate`] by each of these numbers, which shares work.
    fn rotate_all(&self, a: &Self::Value, steps: &[usize]) -> Result<Vec<Self::Value>, CkksError>;
    /// The sum of products.
    fn products(&self, pairs: &[(&Self::Value, &Self::Plain)]) -> Result<Self::Value, CkksError>;
    /// The sum.
    fn add(&self, a: &Self::Value, b: &Self::Value) -> Result<Self::Value, CkksError>;
    /// Plus known numbers.
    fn add_plain(&self, a: &Self::Value, plain: &Self::Plain) -> Result<Self::Value, CkksError>;
    /// Divided by the prime of its level.
    fn divided(&self, a: Self::Value) -> Result<Self::Value, CkksError>;
    /// The square, back to degree 1, then divided this many times.
    fn squared(&self, a: &Self::Value, divisions: usize) -> Result<Self::Value, CkksError>;
    /// The same at a lower level.
    fn lowered(&self, a: &Self::Value, level: usize) -> Result<Self::Value, CkksError>;
    /// The same with better bounds on its entries.
    fn bounded(&self, a: Self::Value, size: Size) -> Result<Self::Value, CkksError>;
}

/// Scales: those of values are at least 2^`least`, weights are taken to `weights` bits, and what can be divided by a prime without going below
/// `least` is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bits {
    pub(crate) least: u32,
    pub(crate) weights: u32,
}

/// Level and scale of a vector.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    level: usize,
    scale: f64,
}

#[derive(Clone, Debug)]
enum Step {
    Input,
    Square {
        of: NodeId,
        divisions: usize,
    },
    Sum {
        linear: Arc<Linear>,
        /// Of products, before the divisions.
        target: State,
        /// Scale of the plaintexts of each matrix.
        weights: Vec<f64>,
        divisions: usize,
    },
}

/// A packed model laid out over the levels of a context.
#[derive(Clone, Debug)]
pub(crate) struct PackedCircuit {
    steps: Vec<Step>,
    states: Vec<State>,
    sizes: Vec<Size>,
    width: usize,
    lanes: usize,
    slots: usize,
}

/// The plaintexts of a sum.
#[derive(Debug)]
struct Plains<P> {
    /// Of each matrix by rotation.
    diagonals: Vec<BTreeMap<usize, P>>,
    constants: Option<P>,
}

/// The plaintexts of a circuit, by step.
#[derive(Debug)]
pub(crate) struct Prepared<P>(Vec<Option<Plains<P>>>);

/// Known numbers to be encoded.
pub(crate) struct Numbers<'a> {
    /// Elements with their slots of a patient.
    elements: &'a [(usize, f64)],
    /// What slots are moved by, and repeat with.
    moved: usize,
    period: usize,
    circuit: &'a PackedCircuit,
    /// Bound on absolute values.
    pub(crate) magnitude: f64,
    pub(crate) level: usize,
    pub(crate) scale: f64,
}

impl Numbers<'_> {
    /// In all slots.
    pub(crate) fn slots(&self) -> Vec<f64> {
        let PackedCircuit {
            width, lanes, slots, ..
        } = *self.circuit;
        let mut all = vec![0.0; slots];
        for &(slot, value) in self.elements {
            let first = (slot + self.moved) & (self.period - 1);
            for place in (first..width).step_by(self.period) {
                all[place * lanes..(place + 1) * lanes].fill(value);
            }
        }
        all
    }
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
        let divided = |mut state: State| {
            let mut divisions = 0;
            while state.level > 0 && state.scale / prime(state.level) >= least {
                state.scale /= prime(state.level);
                state.level -= 1;
                divisions += 1;
            }
            (divisions, state)
        };
        let (mut steps, mut states) = (Vec::new(), Vec::<State>::new());
        let last = network.nodes.len().saturating_sub(1);
        for (id, (node, linear)) in network.nodes.iter().zip(&structure.sums).enumerate() {
            let (step, state) = match (node, linear) {
                (Node::Square { of }, _) => {
                    let State { level, scale } = states[*of];
                    let (divisions, state) = divided(State {
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
                        State {
                            level: lowest,
                            scale: scale * precise,
                        }
                    };
                    let scales: Vec<f64> = sources().map(|s| s.scale).collect();
                    let (scale, weights) = factors(&scales, target.scale)?;
                    let target = State { scale, ..target };
                    let (divisions, state) = if id == last {
                        let left = (1..=target.level).rev().fold(target.scale, |s, l| s / prime(l));
                        (
                            target.level,
                            State {
                                level: 0,
                                scale: left,
                            },
                        )
                    } else {
                        divided(target)
                    };
                    let linear = Arc::clone(linear);
                    (
                        Step::Sum {
                            linear,
                            target,
                            weights,
                            divisions,
                        },
                        state,
                    )
                }
                _ => (Step::Input, State { level, scale: least }),
            };
            steps.push(step);
            states.push(state);
        }
        Ok(Self {
            steps,
            states,
            sizes: structure.sizes.clone(),
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
            Some(Step::Sum { linear, .. }) => linear.constants.len(),
            _ => 0,
        }
    }

    /// Encodes all that is known, sums in turn and their diagonals in parallel.
    pub(crate) fn prepare<P: Send>(
        &self,
        encode: impl Fn(&Numbers<'_>) -> Result<P, CkksError> + Sync,
    ) -> Result<Prepared<P>, CkksError> {
        let plains = |(step, state): (&Step, &State)| {
            let Step::Sum {
                linear,
                target,
                weights,
                ..
            } = step
            else {
                return Ok(None);
            };
            let rotations = &linear.rotations;
            let matrix = |(diagonals, &scale): (&Diagonals, &f64)| {
                let plain = |(&steps, elements): (&usize, &Vec<(usize, f64)>)| {
                    let numbers = Numbers {
                        elements,
                        // Back by the giant step, which comes after the product.
                        moved: steps - steps % rotations.giant,
                        period: linear.span,
                        circuit: self,
                        magnitude: largest(elements),
                        level: target.level,
                        scale,
                    };
                    Ok((steps, encode(&numbers)?))
                };
                let diagonals: Vec<_> = diagonals.by_steps.iter().collect();
                diagonals
                    .into_par_iter()
                    .map(plain)
                    .collect::<Result<BTreeMap<_, _>, CkksError>>()
            };
            let diagonals = linear.diagonals.iter().zip(weights).map(matrix);
            let constants: Vec<(usize, f64)> = linear
                .places
                .slots
                .iter()
                .copied()
                .zip(linear.constants.iter().copied())
                .collect();
            let numbers = Numbers {
                elements: &constants,
                moved: 0,
                period: linear.places.period,
                circuit: self,
                magnitude: linear.constant,
                level: state.level,
                scale: state.scale,
            };
            Ok(Some(Plains {
                diagonals: diagonals.collect::<Result<_, CkksError>>()?,
                constants: if linear.constant > 0.0 {
                    Some(encode(&numbers)?)
                } else {
                    None
                },
            }))
        };
        let steps = self.steps.iter().zip(&self.states);
        Ok(Prepared(steps.map(plains).collect::<Result<_, CkksError>>()?))
    }

    /// Evaluates. `progress` gets steps done and steps in all.
    pub(crate) fn run<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        prepared: &Prepared<A::Plain>,
        input: &A::Value,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<A::Value, CkksError> {
        let mut values: Vec<A::Value> = Vec::with_capacity(self.steps.len());
        let total = self.steps.len().saturating_sub(1) as u32;
        for (done, (step, plains)) in (0u32..).zip(self.steps.iter().zip(&prepared.0)) {
            let size = self.sizes[values.len()];
            let value = match (step, plains) {
                (Step::Square { of, divisions }, _) => {
                    arithmetic.bounded(arithmetic.squared(&values[*of], *divisions)?, size)?
                }
                (
                    Step::Sum {
                        linear,
                        target,
                        divisions,
                        ..
                    },
                    Some(plains),
                ) => {
                    let lowered = |&node: &NodeId| arithmetic.lowered(&values[node], target.level);
                    let inputs = linear
                        .nodes
                        .iter()
                        .map(lowered)
                        .collect::<Result<Vec<_>, CkksError>>()?;
                    let mut sum = self.sum(arithmetic, linear, plains, inputs)?;
                    for _ in 0..*divisions {
                        sum = arithmetic.divided(sum)?;
                    }
                    // After the divisions, where their rounding is more than that of the encoding.
                    if let Some(constants) = &plains.constants {
                        sum = arithmetic.add_plain(&sum, constants)?;
                    }
                    arithmetic.bounded(sum, size)?
                }
                _ => input.clone(),
            };
            values.push(value);
            if done > 0 {
                progress(done, total);
            }
        }
        values.pop().ok_or(CkksError::NoLevelLeft)
    }

    /// A sum without its constants.
    fn sum<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        linear: &Linear,
        plains: &Plains<A::Plain>,
        inputs: Vec<A::Value>,
    ) -> Result<A::Value, CkksError> {
        let rotations = &linear.rotations;
        let by = |a: &A::Value, steps: usize| arithmetic.rotate(a, steps * self.lanes);
        let parts = Size {
            largest: linear.parts,
            typical: linear.parts,
        };
        let mut vectors: Vec<BTreeMap<usize, A::Value>> = Vec::with_capacity(inputs.len());
        for (input, babies) in inputs.into_iter().zip(&rotations.babies) {
            let mut rotated = BTreeMap::from([(0, input)]);
            for hops in 1..=usize::BITS {
                let mut children: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
                for &baby in babies.iter().filter(|b| b.count_ones() == hops) {
                    children.entry(parent(baby)).or_default().push(baby);
                }
                let children: Vec<(usize, Vec<usize>)> = children.into_iter().collect();
                let made = children.par_iter().map(|(from, babies)| {
                    let steps: Vec<usize> = babies.iter().map(|baby| (baby - from) * self.lanes).collect();
                    let made = arithmetic.rotate_all(&rotated[from], &steps)?;
                    Ok(babies.iter().copied().zip(made).collect())
                });
                let made = made.collect::<Result<Vec<Vec<_>>, CkksError>>()?;
                rotated.extend(made.into_iter().flatten());
            }
            vectors.push(rotated);
        }
        let giants: Vec<usize> = rotations.giants.iter().rev().copied().collect();
        let inner = |&giant: &usize| {
            let pairs: Vec<(&A::Value, &A::Plain)> = vectors
                .iter()
                .zip(&plains.diagonals)
                .flat_map(|(vectors, plains)| {
                    let own = plains.range(giant..giant + rotations.giant);
                    own.map(move |(steps, plain)| (&vectors[&(steps % rotations.giant)], plain))
                })
                .collect();
            arithmetic.bounded(arithmetic.products(&pairs)?, parts)
        };
        let inner = giants
            .par_iter()
            .map(inner)
            .collect::<Result<Vec<_>, CkksError>>()?;
        let mut sum: Option<A::Value> = None;
        for (part, hops) in inner.into_iter().zip(rotations.giant_hops()) {
            let mut own = match sum {
                Some(sum) => arithmetic.bounded(arithmetic.add(&sum, &part)?, parts)?,
                None => part,
            };
            for hop in hops {
                own = by(&own, hop)?;
            }
            sum = Some(own);
        }
        let mut sum = sum.ok_or(CkksError::NoLevelLeft)?;
        for &fold in &rotations.folds {
            let rotated = by(&sum, fold)?;
            sum = arithmetic.bounded(arithmetic.add(&sum, &rotated)?, parts)?;
        }
        Ok(sum)
    }

    /// What there is to do under a preset of this degree.
    pub(crate) fn work(&self, degree: usize) -> Work {
        let (mut work, mut residues) = (Work::default(), Residues::default());
        let coefficients = (degree / 1024).max(1) as u64;
        for (step, state) in self.steps.iter().zip(&self.states) {
            match step {
                Step::Input => {}
                Step::Square { divisions, .. } => {
                    let primes = (state.level + divisions + 1) as u64 * coefficients;
                    work.squares += 1;
                    work.relinearisations += 1;
                    residues.squared += primes;
                    residues.switched += primes;
                    residues.divided += primes * divisions.saturating_sub(1) as u64;
                }
                Step::Sum {
                    linear,
                    target,
                    divisions,
                    ..
                } => {
                    let primes = (target.level + 1) as u64 * coefficients;
                    let products: usize = linear.diagonals.iter().map(|d| d.by_steps.len()).sum();
                    let rotations = linear.rotations.count() as u64;
                    work.products += products as u64;
                    work.rotations += rotations;
                    residues.products += primes * products as u64;
                    residues.switched += primes * rotations;
                    residues.divided += primes * *divisions as u64;
                }
            }
        }
        // As in `circuit`; a product with a plaintext is one of two whole residues, and reads three.
        work.cost =
            residues.products * 16 + residues.squared * 30 + residues.switched * 600 + residues.divided * 120;
        work.residues = residues;
        work
    }

    /// Bytes of encoded diagonals, and of all ciphertexts beside them that are held at one time, at most.
    pub(crate) fn bytes(&self, degree: usize) -> (u64, u64) {
        let (mut kept, mut peak) = (0, 0);
        let poly = |level: usize| ((level + 1) * degree * size_of::<u64>()) as u64;
        for step in &self.steps {
            if let Step::Sum { linear, target, .. } = step {
                let products: usize = linear.diagonals.iter().map(|d| d.by_steps.len()).sum();
                kept += (products + 1) as u64 * poly(target.level);
                let rotations = &linear.rotations;
                let vectors: usize = rotations.babies.iter().map(|b| b.len() + 1).sum();
                peak = peak.max(2 * (vectors + rotations.giants.len()) as u64 * poly(target.level));
            }
        }
        let results: u64 = self.states.iter().map(|state| 2 * poly(state.level)).sum();
        (kept, peak + results)
    }

    /// The noise that is expected in the least precise output, at its scale: that of different operations is taken as independent, and
    /// multiplied by what values mostly are. `switching` is the noise of a rotation at a level.
    pub(crate) fn expected(
        &self,
        context: &Context,
        network: &Network,
        sizes: &[Vec<Size>],
        switching: impl Fn(usize) -> (f64, f64),
    ) -> f64 {
        let noise = galen_ckks::noise::NoiseModel::of_kind(context.preset().spec().ring, context.degree());
        let prime = |level: usize| context.preset().primes().get(level).map_or(1.0, |&p| p as f64);
        let mut all: Vec<Vec<f64>> = Vec::with_capacity(self.steps.len());
        for (id, (step, node)) in self.steps.iter().zip(&network.nodes).enumerate() {
            let mut own: Vec<f64> = match (step, node) {
                (Step::Square { of, divisions }, _) => {
                    let State { level, scale } = self.states[*of];
                    let square = |(e, size): (&f64, &Size)| (2.0 * scale * size.typical + e) * e;
                    let squares = all[*of].iter().zip(&sizes[*of]).map(square);
                    // With the rounding of the division, which follows for itself where it is one with another.
                    let (digits, switched) = switching(level);
                    let added = if *divisions > 0 { digits } else { switched };
                    squares.map(|e| e.hypot(added)).collect()
                }
                (
                    Step::Sum {
                        linear,
                        target,
                        weights,
                        ..
                    },
                    Node::Sum { terms, .. },
                ) => {
                    let rotations = &linear.rotations;
                    let (_, switched) = switching(target.level);
                    let copies = (linear.span / linear.places.period) as f64;
                    let hops = rotations.giant_hops().iter().map(Vec::len).sum::<usize>() as f64;
                    let after = switched * switched * (copies * hops + copies - 1.0);
                    let mut squares = vec![after; linear.constants.len()];
                    for ((term, &scale), diagonals) in terms.iter().zip(weights).zip(&linear.diagonals) {
                        let hops = diagonals
                            .by_steps
                            .keys()
                            .map(|&s| rotations.hops(s))
                            .max()
                            .unwrap_or(0);
                        let moved = f64::from(hops) * switched * switched;
                        let values: f64 = sizes[term.node].iter().map(|s| s.typical * s.typical).sum();
                        let unit = self.states[term.node].scale;
                        let weight = diagonals
                            .by_steps
                            .values()
                            .map(|d| largest(d))
                            .fold(0.0, f64::max);
                        let rounding = noise.encoding(scale * weight) * unit;
                        for (sum, row) in squares.iter_mut().zip(term.map.rows()) {
                            *sum += rounding * rounding * values;
                            for &(j, w) in row {
                                let e = all[term.node][j];
                                *sum += (w * scale) * (w * scale) * (e * e + moved);
                            }
                        }
                    }
                    squares.into_iter().map(f64::sqrt).collect()
                }
                _ => {
                    let message = self.input_scale() * self.sizes[id].largest;
                    vec![noise.encoding(message) + noise.fresh_secret(); network.len(id)]
                }
            };
            let (first, divisions) = match step {
                Step::Input => (0, 0),
                Step::Square { of, divisions } => (self.states[*of].level, *divisions),
                Step::Sum {
                    target, divisions, ..
                } => (target.level, *divisions),
            };
            for division in 0..divisions {
                let prime = prime(first - division);
                own.iter_mut()
                    .for_each(|e| *e = (*e / prime).hypot(noise.rounding(1)));
            }
            if let Step::Sum { linear, .. } = step {
                let constants = noise.encoding(self.states[id].scale * linear.constant);
                own.iter_mut().for_each(|e| *e = e.hypot(constants));
            }
            all.push(own);
        }
        all.pop().unwrap_or_default().into_iter().fold(0.0, f64::max)
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
) -> Result<State, CkksError> {
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
            return Ok(State {
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
