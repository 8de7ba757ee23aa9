//! Discretised spiking networks: a ReLU network run as integrate-and-fire neurons over a few time steps.

use crate::circuit::{Circuit, CircuitError, Sum};
use crate::features::{Code, Encoder, Feature, FeatureError};
use crate::network::{Function, Linear, Network, NetworkError};
use crate::quantised::Quantised;
use crate::reveal::at_least_zero;
use galen_models::Model;

/// How a network is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Time steps, 1 to [`MAX_STEPS`].
    pub steps: usize,
    /// A neuron fires at a potential of 2^threshold_bits; weights are integers on this scale. At most 12.
    pub threshold_bits: u32,
    /// Bits of a score.
    pub score_bits: u32,
}

/// Most time steps.
pub const MAX_STEPS: usize = 64;

/// A network that cannot be run with spikes.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpikingError {
    /// Settings out of their range.
    #[error(
        "{steps} time steps and thresholds of {threshold_bits} bits; possible are 1 to {MAX_STEPS} steps and at most 12 bits"
    )]
    Timing {
        /// Steps.
        steps: usize,
        /// Bits of a threshold.
        threshold_bits: u32,
    },
    /// Another activation than ReLU.
    #[error("unit {unit} is not a ReLU; a spiking network is made from a network whose activations all are")]
    Activation {
        /// The unit, counted from the input.
        unit: usize,
    },
    /// No calibration rows, or some of another width or not finite.
    #[error("calibration rows must be given, of the network's width and finite: row {row}")]
    Rows {
        /// The first that is wrong.
        row: usize,
    },
    /// The network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The thresholds.
    #[error(transparent)]
    Feature(#[from] FeatureError),
    /// The circuit.
    #[error(transparent)]
    Circuit(#[from] CircuitError),
}

/// Of 1,000 calibration values, this many are below what a wire at full rate stands for: the "robust" normalisation of Rueckauer et
/// al. (Frontiers in Neuroscience 11, 2017).
const ROBUST: usize = 998;

/// A neuron that hardly fires gets at least this part of the potential that it reaches, of either sign, as the value of its full rate: else its
/// integers would have to carry a potential far larger than what they tell apart.
const WEAKEST: f64 = 16.0;

/// What a wire of the network is as spikes: its value is about `low + gain * spikes / steps`.
struct Rated {
    low: f64,
    gain: f64,
    /// The circuit's wire of each time step.
    spikes: Vec<usize>,
}

/// Turns a ReLU network into a discretised spiking network, in the manner of FHE-DiSNN (arXiv 2308.12529): potentials and weights are
/// integers, firing is a bootstrap, and so spikes are exact and free of noise at every step.
///
/// A neuron adds its inputs' spikes, weighted, to its potential; where that reaches the threshold, the neuron fires and loses the threshold
/// (reset by subtraction, leak 1), which is linear in its own earlier spikes and needs no bootstrap. Its rate over the steps
/// approximates its ReLU (Rueckauer et al.); potentials start at half the threshold. A feature fires as often as it reaches thresholds
/// spread evenly over its range, in an order that spreads its spikes over time. Scores are weighted counts of spikes.
///
/// `rows` are typical patients as the network takes them; they fix ranges and rates.
pub fn spiking<R: AsRef<[f64]>>(
    model: &Model,
    rows: &[R],
    timing: Timing,
) -> Result<Quantised, SpikingError> {
    let Timing {
        steps,
        threshold_bits,
        score_bits,
    } = timing;
    if !(1..=MAX_STEPS).contains(&steps) || threshold_bits > 12 {
        return Err(SpikingError::Timing {
            steps,
            threshold_bits,
        });
    }
    let network = Network::fold(model)?;
    if let Some(unit) = network
        .units
        .iter()
        .position(|unit| unit.function != Function::Relu)
    {
        return Err(SpikingError::Activation { unit });
    }
    let fits = |row: &[f64]| row.len() == network.inputs && row.iter().all(|v| v.is_finite());
    if let Some(row) = rows
        .iter()
        .position(|row| !fits(row.as_ref()))
        .or(rows.is_empty().then_some(0))
    {
        return Err(SpikingError::Rows { row });
    }
    let evaluated: Vec<Vec<f64>> = rows.iter().map(|row| network.evaluate(row.as_ref()).0).collect();
    let sorted = |wire: usize| {
        let mut values: Vec<f64> = evaluated.iter().map(|row| row[wire]).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let high = |values: &[f64]| values[(values.len() - 1) * ROBUST / 1000];
    let low = |values: &[f64]| values[values.len() - 1 - (values.len() - 1) * ROBUST / 1000];

    let order = spread(steps);
    let (mut features, mut rated) = (Vec::new(), Vec::new());
    let mut next = 0;
    for input in 0..network.inputs {
        let values = sorted(input);
        let (low, gain) = (low(&values), high(&values) - low(&values));
        // A feature that is always the same never fires.
        let cuts = if gain > 0.0 { steps } else { 0 };
        let threshold = |k: usize| low + gain * (k as f64 + 0.5) / steps as f64;
        features.push(Feature::new(
            (0..cuts).map(threshold).collect(),
            Code::Thermometer,
        ));
        let spikes = if cuts > 0 {
            order.iter().map(|&k| next + k).collect()
        } else {
            Vec::new()
        };
        rated.push(Rated { low, gain, spikes });
        next += cuts;
    }
    let encoder = Encoder::new(features)?;
    let mut circuit = Circuit::new(encoder.ranges())?;
    let threshold = 1i64 << threshold_bits;
    for (index, unit) in network.units.iter().enumerate() {
        let full = high(&sorted(network.inputs + index));
        if full <= 0.0 {
            // A neuron that no row excites stays silent.
            rated.push(Rated {
                low: 0.0,
                gain: 0.0,
                spikes: Vec::new(),
            });
            continue;
        }
        let furthest = evaluated.iter().map(|row| unit.sum.apply(row).abs());
        let full = full.max(furthest.fold(0.0, f64::max) / WEAKEST);
        let scale = threshold as f64 / full;
        let weights: Vec<(usize, i64)> = unit
            .sum
            .terms
            .iter()
            .map(|&(wire, weight)| (wire, (weight * rated[wire].gain * scale).round() as i64))
            .collect();
        let current = (constant(&unit.sum, &rated) * scale).round() as i64;
        let mut potential = Sum {
            terms: Vec::new(),
            constant: threshold / 2,
        };
        let mut spikes = Vec::with_capacity(steps);
        for step in 0..steps {
            potential.constant += current;
            let arriving = weights.iter().filter_map(|&(wire, weight)| {
                let spike = *rated[wire].spikes.get(step)?;
                Some((spike, weight))
            });
            potential.terms.extend(arriving);
            let mut above = potential.clone();
            above.constant -= threshold;
            let spike = at_least_zero(&mut circuit, above)?;
            potential.terms.push((spike, -threshold));
            spikes.push(spike);
        }
        rated.push(Rated {
            low: 0.0,
            gain: full,
            spikes,
        });
    }
    let (scores, scale) = scores(&network, &rated, steps, score_bits);
    Ok(Quantised::new(encoder, circuit, scores, scale))
}

/// What a sum is when nothing fires.
fn constant(sum: &Linear, rated: &[Rated]) -> f64 {
    let lows = sum.terms.iter().map(|&(wire, weight)| weight * rated[wire].low);
    sum.constant + lows.sum::<f64>()
}

fn scores(network: &Network, rated: &[Rated], steps: usize, score_bits: u32) -> (Vec<Sum>, f64) {
    let span = |sum: &Linear| -> f64 {
        let gains = sum
            .terms
            .iter()
            .map(|&(wire, weight)| (weight * rated[wire].gain).abs());
        gains.sum()
    };
    let widest = network.outputs.iter().map(span).fold(1e-9, f64::max);
    let per_unit = (1u64 << score_bits.min(32)) as f64 * 0.9 / widest;
    let score = |output: &Linear| {
        let mut sum = Sum {
            terms: Vec::new(),
            constant: (constant(output, rated) * per_unit).round() as i64,
        };
        for &(wire, weight) in &output.terms {
            let value = weight * rated[wire].gain * per_unit / steps as f64;
            sum.terms.extend(
                rated[wire]
                    .spikes
                    .iter()
                    .map(|&spike| (spike, value.round() as i64)),
            );
        }
        sum
    };
    (network.outputs.iter().map(score).collect(), 1.0 / per_unit)
}

/// The numbers below `steps` in an order in which any first few are spread evenly: by their bits reversed.
fn spread(steps: usize) -> Vec<usize> {
    let bits = steps.next_power_of_two().ilog2();
    let reversed = (0..1usize << bits).map(|k| {
        if bits == 0 {
            0
        } else {
            k.reverse_bits() >> (usize::BITS - bits)
        }
    });
    // At step k comes the feature's threshold of that rank: small values fire once, near the middle.
    reversed.filter(|&k| k < steps).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantised::Outcome;
    use crate::reveal::Reveal;
    use galen_models::random::Stream;
    use galen_models::{Layer, ModelSpec, Shape};

    fn network(sizes: &[usize]) -> Model {
        let mut layers = Vec::new();
        for &outputs in &sizes[1..] {
            layers.extend([Layer::Dense { outputs }, Layer::Relu]);
        }
        layers.pop();
        let spec = ModelSpec {
            input: Shape::Features(sizes[0]),
            layers,
        };
        Model::initial(spec, 11).unwrap()
    }

    fn rows(width: usize, count: usize) -> Vec<Vec<f64>> {
        let mut stream = Stream::new("spiking test", 7, &[]);
        (0..count)
            .map(|_| (0..width).map(|_| stream.symmetric()).collect())
            .collect()
    }

    #[test]
    fn spikes_are_spread() {
        assert_eq!(spread(1), [0]);
        assert_eq!(spread(4), [0, 2, 1, 3]);
        assert_eq!(spread(5), [0, 4, 2, 1, 3]);
    }

    /// More steps come closer to the network that the spikes stand for.
    #[test]
    fn rates_approach_the_network() {
        let model = network(&[4, 6, 5, 2]);
        let (rows, folded) = (rows(4, 150), Network::fold(&model).unwrap());
        let error = |steps: usize| -> f64 {
            let timing = Timing {
                steps,
                threshold_bits: 10,
                score_bits: 14,
            };
            let spiking = spiking(&model, &rows, timing).unwrap();
            let of = |row: &Vec<f64>| -> f64 {
                let Outcome::Scores(found) = spiking.evaluate(Reveal::Scores, row).unwrap() else {
                    panic!("scores were asked for");
                };
                folded
                    .evaluate(row)
                    .1
                    .iter()
                    .zip(found)
                    .map(|(a, b)| (a - b).abs())
                    .sum()
            };
            rows.iter().map(of).sum::<f64>() / rows.len() as f64
        };
        let (few, many) = (error(4), error(32));
        assert!(many < few / 3.0 && many < 0.1, "{few} {many}");
    }

    #[test]
    fn other_activations_and_settings_are_refused() {
        let model = network(&[3, 2]);
        let timing = Timing {
            steps: 4,
            threshold_bits: 5,
            score_bits: 8,
        };
        assert!(spiking(&model, &rows(3, 10), timing).is_ok());
        let refused = spiking(&model, &rows(2, 10), timing);
        assert!(matches!(refused, Err(SpikingError::Rows { row: 0 })));
        let none: [[f64; 3]; 0] = [];
        assert!(matches!(
            spiking(&model, &none, timing),
            Err(SpikingError::Rows { row: 0 })
        ));
        let refused = spiking(&model, &rows(3, 10), Timing { steps: 65, ..timing });
        assert!(matches!(refused, Err(SpikingError::Timing { steps: 65, .. })));
        let mut spec = network(&[3, 2, 1]).spec().clone();
        spec.layers[1] = Layer::Tanh;
        let refused = spiking(&Model::initial(spec, 1).unwrap(), &rows(3, 10), timing);
        assert!(matches!(refused, Err(SpikingError::Activation { unit: 0 })));
    }
}
