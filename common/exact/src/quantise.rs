//! Calibrated quantisation: from a trained network to integers, on rows that show how its values are distributed.

use crate::circuit::{Circuit, CircuitError, Interval, Sum};
use crate::features::{Code, Encoder, Feature, FeatureError};
use crate::fit::{Design, Fit, mean, ridge};
use crate::network::{Function, Linear, Network, NetworkError};
use crate::quantised::Quantised;
use galen_models::Model;

/// How fine a quantised network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision {
    /// Thresholds per feature, at quantiles of the calibration rows.
    pub thresholds: usize,
    /// Bootstraps read tables of 2^table_bits entries, or twice as many where a table changes its sign.
    pub table_bits: u32,
    /// Bits of a value between two layers of activations.
    pub value_bits: u32,
    /// Bits of a score.
    pub score_bits: u32,
}

impl Precision {
    /// From the fastest to the finest.
    pub const ALL: [Self; 2] = [Self::tables(5), Self::tables(6)];

    const fn tables(table_bits: u32) -> Self {
        Self {
            thresholds: 31,
            table_bits,
            value_bits: 3,
            score_bits: 11,
        }
    }
}

/// A network that cannot be quantised.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuantiseError {
    /// A range of an input that is none.
    #[error("the range of input {input} is empty or not finite")]
    Range {
        /// The input.
        input: usize,
    },
    /// Not one range per input.
    #[error("{found} input ranges, the network takes {expected} inputs")]
    Ranges {
        /// The network's inputs.
        expected: usize,
        /// Ranges given.
        found: usize,
    },
    /// Too few calibration rows.
    #[error("{rows} calibration rows are too few, give at least {MIN_ROWS}")]
    Rows {
        /// Rows given.
        rows: usize,
    },
    /// A row that does not fit or is not finite.
    #[error("calibration row {row}: {error}")]
    Row {
        /// Index of the row.
        row: usize,
        /// What is wrong with it.
        error: FeatureError,
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

const MIN_ROWS: usize = 8;
/// Values that a unit's sum is spread over, as shares of half its table; the best by the error behind the activation is taken.
const SPREADS: [f64; 7] = [0.35, 0.5, 0.7, 0.9, 1.2, 1.6, 2.2];
/// Output weights are fitted anew if there are at most this many.
const MAX_REFITTED: usize = 512;
/// Pull of output weights towards those of the network, as a share of their columns' variance.
const PULL: f64 = 0.01;
/// Bits of an output weight where several outputs share a unit.
const SHARED_BITS: u32 = 3;

/// Quantises a network. `rows` are typical patients, as the network takes them; their labels are not needed.
///
/// Inputs become thermometer codes at quantiles. Each unit then gets the integer weights that follow its sum best over the rows, by a greedy
/// search within the range that its table can read whatever the inputs are; its table is its activation at the table's integers. A ReLU
/// before the outputs is split into its linear half and a distance from zero. The outputs' weights are fitted to the network's
/// scores last, rows near a decision counting more, so that they make up for what the units lost.
pub fn quantise<R: AsRef<[f64]>>(
    model: &Model,
    rows: &[R],
    precision: Precision,
) -> Result<Quantised, QuantiseError> {
    if rows.len() < MIN_ROWS {
        return Err(QuantiseError::Rows { rows: rows.len() });
    }
    let network = Network::fold(model)?.with_distances();
    for (row, values) in rows.iter().enumerate() {
        let values = values.as_ref();
        if values.len() != network.inputs {
            let (expected, found) = (network.inputs, values.len());
            let error = FeatureError::Width { expected, found };
            return Err(QuantiseError::Row { row, error });
        }
        if let Some((feature, &value)) = values.iter().enumerate().find(|(_, v)| !v.is_finite()) {
            let error = FeatureError::NotFinite { feature, value };
            return Err(QuantiseError::Row { row, error });
        }
    }
    let evaluated: Vec<(Vec<f64>, Vec<f64>)> =
        rows.iter().map(|row| network.evaluate(row.as_ref())).collect();
    let features =
        (0..network.inputs).map(|i| thresholds(evaluated.iter().map(|(values, _)| values[i]), precision));
    let encoder = Encoder::new(features.collect())?;
    let coded: Result<Vec<Vec<i64>>, FeatureError> =
        rows.iter().map(|row| encoder.encode(row.as_ref())).collect();
    let coded = coded?;
    let circuit = Circuit::new(encoder.ranges())?;
    let columns = (0..circuit.inputs())
        .map(|wire| coded.iter().map(|row| row[wire] as f64).collect())
        .collect();
    let mut work = Work {
        network: &network,
        encoder: &encoder,
        precision,
        evaluated: &evaluated,
        importance: evaluated.iter().map(|(_, scores)| importance(scores)).collect(),
        offsets: encoder.offsets(),
        circuit,
        columns,
        units: Vec::new(),
        design: None,
    };
    let inner = network.inner();
    for (unit, &inner) in inner.iter().enumerate() {
        work.unit(unit, inner)?;
    }
    let (scores, scale) = work.outputs()?;
    let circuit = work.circuit;
    Ok(Quantised::new(encoder, circuit, scores, scale))
}

/// Thresholds between the values of a feature, at quantiles.
fn thresholds(values: impl Iterator<Item = f64>, precision: Precision) -> Feature {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let mut cuts = Vec::new();
    for k in 1..=precision.thresholds {
        let at = k * sorted.len() / (precision.thresholds + 1);
        // The middle of the gap below the first value of this size.
        let upper = sorted[at.min(sorted.len() - 1)];
        let below = sorted.partition_point(|&v| v < upper);
        if below == 0 {
            continue;
        }
        let cut = sorted[below - 1] / 2.0 + upper / 2.0;
        if cuts.last().is_none_or(|&last| cut > last) {
            cuts.push(cut);
        }
    }
    Feature::new(cuts, Code::Thermometer)
}

/// A unit, fitted.
#[derive(Debug)]
struct Fitted {
    sum: Sum,
    /// Table integers per unit of the network's sum.
    factor: f64,
    /// What the activation gives at the table's integers, for every row.
    values: Vec<f64>,
    /// Its wire and the integers per unit of its value, once it has a table.
    wire: Option<(usize, f64)>,
}

struct Work<'a> {
    network: &'a Network,
    encoder: &'a Encoder,
    precision: Precision,
    evaluated: &'a [(Vec<f64>, Vec<f64>)],
    /// How much every row counts.
    importance: Vec<f64>,
    offsets: Vec<usize>,
    circuit: Circuit,
    /// Values of the circuit's wires, for every row.
    columns: Vec<Vec<f64>>,
    units: Vec<Fitted>,
    /// The wires of the last unit and what was computed of them: units of one layer share it.
    design: Option<(Vec<usize>, Design)>,
}

impl Work<'_> {
    /// The circuit's wires that stand for the wires of a sum.
    fn wires(&self, sum: &Linear) -> Vec<usize> {
        let features = self.encoder.features();
        let mut wires = Vec::new();
        for &(wire, _) in &sum.terms {
            match wire.checked_sub(self.network.inputs) {
                None => wires.extend(self.offsets[wire]..self.offsets[wire] + features[wire].wires()),
                Some(unit) => wires.extend(self.units[unit].wire.map(|(wire, _)| wire)),
            }
        }
        wires
    }

    fn unit(&mut self, index: usize, inner: bool) -> Result<(), QuantiseError> {
        let unit = &self.network.units[index];
        let target: Vec<f64> = self
            .evaluated
            .iter()
            .map(|(values, _)| unit.sum.apply(values))
            .collect();
        let wires = self.wires(&unit.sum);
        let columns: Vec<&[f64]> = wires.iter().map(|&wire| self.columns[wire].as_slice()).collect();
        let ranges = || {
            wires
                .iter()
                .filter_map(|&wire| self.circuit.range(wire))
                .collect()
        };
        let design = match self.design.take() {
            Some((known, design)) if known == wires => design,
            _ => Design::new(&columns, ranges(), &self.importance),
        };
        let projection = design.project(&columns, &target, &self.importance);
        let half = 1i64 << self.precision.table_bits;
        let folds = matches!(unit.function, Function::Sign | Function::Abs);
        let fits = |range: Interval| match folds {
            true => range.min >= -half && range.max < half,
            false => range.count() <= half as u64,
        };
        let centre = mean(&target, &self.importance);
        let middle = if folds { 0.0 } else { centre };
        let largest = target
            .iter()
            .fold(0.0f64, |m, t| m.max((t - middle).abs()))
            .max(1e-9);
        let reach = half as f64 * if folds { 1.0 } else { 0.5 };
        let exact: Vec<f64> = target.iter().map(|&t| unit.function.apply(t)).collect();
        let mut best: Option<(f64, Fit, f64, Vec<f64>)> = None;
        for spread in SPREADS {
            let factor = spread * reach / largest;
            let fit = design.fit(&projection, centre, factor, &fits);
            if !fits(fit.range) {
                continue;
            }
            let mut sums = vec![fit.constant as f64; target.len()];
            for (column, &weight) in columns.iter().zip(&fit.weights).filter(|(_, w)| **w != 0) {
                sums.iter_mut()
                    .zip(*column)
                    .for_each(|(sum, x)| *sum += weight as f64 * x);
            }
            let values: Vec<f64> = sums.iter().map(|sum| unit.function.apply(sum / factor)).collect();
            let error: f64 = values
                .iter()
                .zip(&exact)
                .zip(&self.importance)
                .map(|((a, b), w)| w * (a - b) * (a - b))
                .sum();
            if best.as_ref().is_none_or(|b| error < b.0) {
                best = Some((error, fit, factor, values));
            }
        }
        // A constant far outside its table: the table's middle is as good as any.
        let (fit, factor, values) = best.map_or_else(
            || {
                let fit = Fit {
                    weights: vec![0; wires.len()],
                    constant: 0,
                    range: Interval::new(0, 0),
                };
                (fit, 1.0, vec![unit.function.apply(centre); target.len()])
            },
            |(_, fit, factor, values)| (fit, factor, values),
        );
        let sum = Sum {
            terms: wires.iter().copied().zip(fit.weights).collect(),
            constant: fit.constant,
        };
        self.design = Some((wires, design));
        self.units.push(Fitted {
            sum,
            factor,
            values,
            wire: None,
        });
        if inner {
            let values = &self.units[index].values;
            let largest = values.iter().fold(0.0f64, |m, v| m.max(v.abs())).max(1e-9);
            let resolution = ((1u64 << self.precision.value_bits) - 1) as f64 / largest;
            self.table(index, resolution)?;
        }
        Ok(())
    }

    /// Gives a unit its table: its activation in steps of 1 / resolution.
    fn table(&mut self, index: usize, resolution: f64) -> Result<(), QuantiseError> {
        let (unit, fitted) = (&self.network.units[index], &mut self.units[index]);
        let (sum, factor, function) = (fitted.sum.clone(), fitted.factor, &unit.function);
        // Distances are rounded below zero as above, so that the table changes its sign exactly: t(v) + t(v + 2^b) is constant.
        let half = 1i64 << self.precision.table_bits;
        let rounded = |v: i64| (function.apply(v as f64 / factor) * resolution).round() as i64;
        let wire = match function {
            Function::Abs => self.circuit.lookup(sum, 0, |v| match v < 0 {
                true => rounded(half) - rounded(v + half),
                false => rounded(v),
            })?,
            _ => self.circuit.lookup(sum, 0, rounded)?,
        };
        fitted.wire = Some((wire, resolution));
        let column = fitted.values.iter().map(|v| (v * resolution).round()).collect();
        self.columns.push(column);
        Ok(())
    }

    /// Means of a feature's values between its thresholds: what its levels stand for.
    fn levels(&self, feature: usize) -> Vec<f64> {
        let cut = &self.encoder.features()[feature];
        let mut totals = vec![(0.0, 0.0); cut.thresholds().len() + 1];
        for (values, _) in self.evaluated {
            let (sum, count) = &mut totals[cut.level(values[feature])];
            *sum += values[feature];
            *count += 1.0;
        }
        let edge = |level: usize| {
            cut.thresholds()
                .get(level.saturating_sub(1))
                .copied()
                .unwrap_or(0.0)
        };
        let of =
            |(level, (sum, count)): (usize, (f64, f64))| if count > 0.0 { sum / count } else { edge(level) };
        totals.into_iter().enumerate().map(of).collect()
    }

    /// The scores' sums, and what one unit of them is worth.
    fn outputs(&mut self) -> Result<(Vec<Sum>, f64), QuantiseError> {
        let mut used: Vec<usize> = self
            .network
            .outputs
            .iter()
            .flat_map(|o| o.terms.iter().map(|t| t.0))
            .collect();
        used.sort_unstable();
        used.dedup();
        let inputs = self.network.inputs;
        let levels: Vec<Vec<f64>> = used
            .iter()
            .map(|&wire| {
                if wire < inputs {
                    self.levels(wire)
                } else {
                    Vec::new()
                }
            })
            .collect();
        let weights = self.refit(&used, &levels);
        let columns = weights.first().map_or(0, Vec::len);
        let largest = |k: usize| weights.iter().fold(0.0f64, |m, w| m.max(w[k].abs()));
        // How far scores can be apart, from all inputs and units at their extremes.
        let spans: Vec<f64> = weights
            .iter()
            .map(|w| {
                (0..used.len())
                    .map(|k| w[k].abs() * self.span(used[k], &levels[k]))
                    .sum()
            })
            .collect();
        let span = spans.iter().fold(0.0f64, |m: f64, s: &f64| m.max(*s)).max(1e-9);
        let steps = (1u64 << self.precision.score_bits) as f64 * 0.9;
        let per_unit = steps / span;
        let shared = if weights.len() > 1 {
            f64::from(1 << SHARED_BITS)
        } else {
            1.0
        };
        for (k, &wire) in used.iter().enumerate() {
            if let Some(unit) = wire.checked_sub(inputs)
                && self.units[unit].wire.is_none()
            {
                let resolution = (largest(k) * per_unit / shared).max(1e-9);
                self.table(unit, resolution)?;
            }
        }
        let mut scores = Vec::with_capacity(weights.len());
        for w in &weights {
            let mut sum = Sum::default();
            let mut constant = w[columns - 1] * per_unit;
            for (k, &wire) in used.iter().enumerate() {
                let weight = w[k] * per_unit;
                match wire.checked_sub(inputs) {
                    None => {
                        constant += weight * levels[k][0];
                        let mut reached = 0;
                        for (step, &level) in levels[k].iter().enumerate().skip(1) {
                            // Rounded as a whole, so that errors of steps do not add up.
                            let total = (weight * (level - levels[k][0])).round() as i64;
                            sum.terms.push((self.offsets[wire] + step - 1, total - reached));
                            reached = total;
                        }
                    }
                    Some(unit) => {
                        if let Some((wire, resolution)) = self.units[unit].wire {
                            sum.terms.push((wire, (weight / resolution).round() as i64));
                        }
                    }
                }
            }
            sum.constant = constant.round() as i64;
            scores.push(sum);
        }
        Ok((scores, 1.0 / per_unit))
    }

    /// How far apart the values of a wire of the network are at most.
    fn span(&self, wire: usize, levels: &[f64]) -> f64 {
        let Some(unit) = wire.checked_sub(self.network.inputs) else {
            return levels.last().unwrap_or(&0.0) - levels.first().unwrap_or(&0.0);
        };
        let fitted = &self.units[unit];
        let range = self.circuit.range_of(&fitted.sum).unwrap_or(Interval::new(0, 0));
        let at = |v: i64| self.network.units[unit].function.apply(v as f64 / fitted.factor);
        let values = (range.min..=range.max).map(at);
        let (min, max) = values.fold((f64::MAX, f64::MIN), |(min, max), v| (min.min(v), max.max(v)));
        max - min
    }

    /// For every output the weights of the used wires, and the constant.
    fn refit(&self, used: &[usize], levels: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let inputs = self.network.inputs;
        let column = |(&wire, levels): (&usize, &Vec<f64>)| -> Vec<f64> {
            match wire.checked_sub(inputs) {
                None => {
                    let feature = &self.encoder.features()[wire];
                    self.evaluated
                        .iter()
                        .map(|(values, _)| levels[feature.level(values[wire])])
                        .collect()
                }
                Some(unit) => self.units[unit].values.clone(),
            }
        };
        let mut columns: Vec<Vec<f64>> = used.iter().zip(levels).map(column).collect();
        let rows = self.evaluated.len();
        columns.push(vec![1.0; rows]);
        let pull: Vec<f64> = columns
            .iter()
            .map(|column| {
                let mean = column.iter().sum::<f64>() / rows as f64;
                PULL * column.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() + 1e-9
            })
            .collect();
        let start = |output: &Linear| -> Vec<f64> {
            let weight = |wire| output.terms.iter().find(|t| t.0 == wire).map_or(0.0, |t| t.1);
            used.iter()
                .map(|&wire| weight(wire))
                .chain([output.constant])
                .collect()
        };
        let outputs = self.network.outputs.iter().enumerate();
        outputs
            .map(|(index, output)| {
                let start = start(output);
                if columns.len() > MAX_REFITTED {
                    return start;
                }
                let target: Vec<f64> = self.evaluated.iter().map(|(_, scores)| scores[index]).collect();
                ridge(&columns, &self.importance, &target, &pull, &start)
            })
            .collect()
    }
}

/// How much a row counts: rows far from a decision matter less.
fn importance(scores: &[f64]) -> f64 {
    let mut sorted = scores.to_vec();
    sorted.sort_by(|a, b| b.total_cmp(a));
    let margin = match sorted.as_slice() {
        [first, second, ..] => first - second,
        [only] => only.abs(),
        [] => 0.0,
    };
    1.0 / (1.0 + margin * margin)
}
