//! The noise that is expected of a packed circuit.

use super::circuit::{PackedCircuit, Step, Sum};
use super::diagonals::largest;
use crate::circuit::Size;
use crate::network::{Network, Node};
use galen_ckks::context::{Context, Target};

impl PackedCircuit {
    /// For an evaluation that is as precise as is to be expected, with [`Self::expected`] as the noise of every vector. Bounds that add up over the
    /// diagonals of some layers say of none that it fits a modulus.
    pub(crate) fn with_expected(self, noises: Vec<f64>) -> Self {
        Self {
            noises: Some(noises),
            ..self
        }
    }

    /// The noise that is expected in the least precise element of every vector, at its scale: that of different operations is taken as independent, and
    /// multiplied by what values mostly are. `switching` is the noise of a rotation at a level.
    pub(crate) fn expected(
        &self,
        context: &Context,
        network: &Network,
        sizes: &[Vec<Size>],
        switching: impl Fn(usize) -> (f64, f64),
    ) -> Vec<f64> {
        let noise = galen_ckks::noise::NoiseModel::of_kind(context.preset().spec().ring, context.degree());
        let prime = |level: usize| context.preset().primes().get(level).map_or(1.0, |&p| p as f64);
        let mut all: Vec<Vec<f64>> = Vec::with_capacity(self.steps.len());
        for (id, (step, node)) in self.steps.iter().zip(&network.nodes).enumerate() {
            let mut own: Vec<f64> = match (step, node) {
                (Step::Square { of, divisions }, _) => {
                    let Target { level, scale } = self.states[*of];
                    let square = |(e, size): (&f64, &Size)| (2.0 * scale * size.typical + e) * e;
                    let squares = all[*of].iter().zip(&sizes[*of]).map(square);
                    // With the rounding of the division, which follows for itself where it is one with another.
                    let (digits, switched) = switching(level);
                    let added = if *divisions > 0 { digits } else { switched };
                    squares.map(|e| e.hypot(added)).collect()
                }
                (
                    Step::Sum(Sum {
                        linear,
                        target,
                        weights,
                        ..
                    }),
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
                Step::Sum(Sum {
                    target, divisions, ..
                }) => (target.level, *divisions),
            };
            for division in 0..divisions {
                let prime = prime(first - division);
                own.iter_mut()
                    .for_each(|e| *e = (*e / prime).hypot(noise.rounding(1)));
            }
            if let Step::Sum(Sum { linear, .. }) = step {
                let constants = noise.encoding(self.states[id].scale * linear.constant);
                own.iter_mut().for_each(|e| *e = e.hypot(constants));
            }
            all.push(own);
        }
        let largest = |own: Vec<f64>| own.into_iter().fold(0.0, f64::max);
        all.into_iter().map(largest).collect()
    }
}
