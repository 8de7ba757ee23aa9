//! What is computed, on integers: weighted sums and table look-ups, with the exact range of every value.

use galen_core::{Digest, Transcript};

/// Most entries of one table. The plaintext space that a bootstrap reads is of this order; see `encoding`.
pub const MAX_TABLE: usize = 256;
/// Largest binary places that a look-up drops from its sum.
pub const MAX_SHIFT: u32 = 24;
/// Most wires of a circuit.
pub const MAX_WIRES: usize = 1 << 20;
/// Most terms of all sums of a circuit: some hundreds of megabytes.
pub const MAX_TERMS: usize = 1 << 24;
/// No sum may reach this magnitude.
const MAX_SUM: i64 = 1 << 40;

/// The integers from `min` to `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interval {
    /// Smallest value.
    pub min: i64,
    /// Largest value.
    pub max: i64,
}

impl Interval {
    /// The integers from `min` to `max`.
    pub const fn new(min: i64, max: i64) -> Self {
        Self { min, max }
    }

    /// 0 and 1.
    pub const BIT: Self = Self::new(0, 1);

    /// How many integers.
    pub fn count(&self) -> u64 {
        (self.max - self.min).unsigned_abs() + 1
    }

    /// Whether `value` is one of them.
    pub fn contains(&self, value: i64) -> bool {
        (self.min..=self.max).contains(&value)
    }
}

/// `constant + sum of weight * wire`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    /// Wires with their weights.
    pub terms: Vec<(usize, i64)>,
    /// What is added.
    pub constant: i64,
}

impl Sum {
    /// One wire as it is.
    pub fn wire(wire: usize) -> Self {
        Self {
            terms: vec![(wire, 1)],
            constant: 0,
        }
    }

    /// This sum less another.
    pub fn minus(&self, other: &Self) -> Self {
        let negative = other
            .terms
            .iter()
            .map(|&(wire, weight)| (wire, weight.saturating_neg()));
        Self {
            terms: self.terms.iter().copied().chain(negative).collect(),
            constant: self.constant.saturating_sub(other.constant),
        }
    }

    /// Each wire once, in order, without zero weights.
    fn normalised(mut self) -> Self {
        self.terms.sort_unstable_by_key(|&(wire, _)| wire);
        let mut terms: Vec<(usize, i64)> = Vec::with_capacity(self.terms.len());
        for (wire, weight) in self.terms {
            match terms.last_mut() {
                Some((last, total)) if *last == wire => *total = total.saturating_add(weight),
                _ => terms.push((wire, weight)),
            }
        }
        terms.retain(|&(_, weight)| weight != 0);
        Self {
            terms,
            constant: self.constant,
        }
    }
}

/// `table[floor(sum / 2^shift) - first]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    pub(crate) sum: Sum,
    pub(crate) shift: u32,
    pub(crate) first: i64,
    pub(crate) table: Vec<i64>,
}

impl Lookup {
    /// What is looked up.
    pub fn sum(&self) -> &Sum {
        &self.sum
    }

    /// Binary places of the sum that are dropped, rounding down.
    pub fn shift(&self) -> u32 {
        self.shift
    }

    /// Number of entries.
    pub fn entries(&self) -> usize {
        self.table.len()
    }

    /// The same look-up with more places dropped, as long as it has more than `entries` and what it gives does not depend on the lowest
    /// place that it reads: a comparison with 0, say, depends on the sign alone.
    pub(crate) fn coarsened(&self, entries: usize) -> Self {
        let mut coarse = self.clone();
        while coarse.table.len() > entries.max(2) && coarse.shift < MAX_SHIFT {
            let odd = coarse.first.rem_euclid(2) as usize;
            // An odd first entry stands alone: the other of its pair is outside the range.
            let (alone, pairs) = coarse.table.split_at(odd);
            if pairs.chunks_exact(2).any(|pair| pair[0] != pair[1]) {
                break;
            }
            let table = alone.iter().chain(pairs.iter().step_by(2)).copied().collect();
            (coarse.table, coarse.first, coarse.shift) = (table, coarse.first >> 1, coarse.shift + 1);
        }
        coarse
    }
}

/// A circuit that cannot be, or inputs that it does not take.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CircuitError {
    /// A sum names a wire that does not exist (yet).
    #[error("a sum names wire {wire}, there are {wires}")]
    Wire {
        /// The wire.
        wire: usize,
        /// Wires so far.
        wires: usize,
    },
    /// A sum can become too large.
    #[error("a sum can reach a magnitude of 2^40 or more")]
    Magnitude,
    /// A look-up would need too large a table.
    #[error("a look-up of {entries} entries, at most {MAX_TABLE} are possible; drop more binary places")]
    Table {
        /// Entries it would need.
        entries: u64,
    },
    /// A table of another length than the sum's range.
    #[error("a table has {found} entries, the range of its sum has {expected}")]
    Entries {
        /// Entries that the range asks for.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// More binary places than can be dropped.
    #[error("a look-up drops {shift} binary places, at most {MAX_SHIFT} are possible")]
    Shift {
        /// Places.
        shift: u32,
    },
    /// More wires than a circuit may have.
    #[error("a circuit has at most {MAX_WIRES} wires")]
    Wires,
    /// Sums of more terms than a circuit may have.
    #[error("the sums of a circuit have at most {MAX_TERMS} terms in all")]
    Terms,
    /// An empty input range.
    #[error("input {input} has the empty range {min} to {max}")]
    Empty {
        /// The input.
        input: usize,
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// Not one value per input.
    #[error("{found} inputs, the circuit takes {expected}")]
    Inputs {
        /// Inputs of the circuit.
        expected: usize,
        /// Values given.
        found: usize,
    },
    /// An input outside its range.
    #[error("input {input} is {value}, possible are {min} to {max}")]
    OutOfRange {
        /// The input.
        input: usize,
        /// Its value.
        value: i64,
        /// Smallest possible.
        min: i64,
        /// Largest possible.
        max: i64,
    },
}

/// Inputs with ranges, look-ups in order of evaluation, and outputs. Wires are numbered: inputs first, then look-ups.
///
/// Ranges follow by interval arithmetic from the inputs' ranges, whatever the inputs are, so that a table always has an entry for
/// what is looked up: the plain evaluation cannot leave a table, and the compiler gives every sum a plaintext space that holds
/// its range.
///
/// ```
/// use galen_exact::{Circuit, Interval, Sum};
/// let mut circuit = Circuit::new(vec![Interval::new(-3, 3); 2])?;
/// let sum = Sum { terms: vec![(0, 2), (1, -1)], constant: 1 };
/// let relu = circuit.lookup(sum, 0, |v| v.max(0))?;
/// circuit.output(Sum::wire(relu))?;
/// assert_eq!(circuit.evaluate(&[3, 1])?, [6]);
/// assert_eq!(circuit.evaluate(&[-3, 1])?, [0]);
/// assert_eq!(circuit.range(relu), Some(Interval::new(0, 10)));
/// # Ok::<(), galen_exact::CircuitError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circuit {
    inputs: usize,
    lookups: Vec<Lookup>,
    outputs: Vec<Sum>,
    /// Of every wire.
    ranges: Vec<Interval>,
    output_ranges: Vec<Interval>,
    /// Of all sums.
    terms: usize,
}

impl Circuit {
    /// A circuit that only has inputs.
    pub fn new(inputs: Vec<Interval>) -> Result<Self, CircuitError> {
        if inputs.len() > MAX_WIRES {
            return Err(CircuitError::Wires);
        }
        for (input, range) in inputs.iter().enumerate() {
            if range.min > range.max {
                return Err(CircuitError::Empty {
                    input,
                    min: range.min,
                    max: range.max,
                });
            }
            if range.min <= -MAX_SUM || range.max >= MAX_SUM {
                return Err(CircuitError::Magnitude);
            }
        }
        Ok(Self {
            inputs: inputs.len(),
            lookups: Vec::new(),
            outputs: Vec::new(),
            ranges: inputs,
            output_ranges: Vec::new(),
            terms: 0,
        })
    }

    /// Number of inputs.
    pub fn inputs(&self) -> usize {
        self.inputs
    }

    /// The look-ups, in order.
    pub fn lookups(&self) -> &[Lookup] {
        &self.lookups
    }

    /// The outputs, in order.
    pub fn outputs(&self) -> &[Sum] {
        &self.outputs
    }

    /// The range of a wire.
    pub fn range(&self, wire: usize) -> Option<Interval> {
        self.ranges.get(wire).copied()
    }

    /// The range of every output.
    pub fn output_ranges(&self) -> &[Interval] {
        &self.output_ranges
    }

    /// All values that a sum can take lie in this interval, and its ends are taken if its wires are independent.
    pub fn range_of(&self, sum: &Sum) -> Result<Interval, CircuitError> {
        let bound = i128::from(MAX_SUM);
        let (mut min, mut max) = (i128::from(sum.constant), i128::from(sum.constant));
        if min.abs() >= bound {
            return Err(CircuitError::Magnitude);
        }
        for &(wire, weight) in &sum.terms {
            let range = self.ranges.get(wire).ok_or(CircuitError::Wire {
                wire,
                wires: self.ranges.len(),
            })?;
            let ends = [range.min, range.max].map(|end| i128::from(end) * i128::from(weight));
            // Bounds on each summand keep the plain evaluation within 64 bits, in whatever order it adds.
            if weight.unsigned_abs() >= MAX_SUM as u64 || ends.iter().any(|end| end.abs() >= bound) {
                return Err(CircuitError::Magnitude);
            }
            min += ends[0].min(ends[1]);
            max += ends[0].max(ends[1]);
        }
        if min <= -bound || max >= bound {
            return Err(CircuitError::Magnitude);
        }
        Ok(Interval::new(min as i64, max as i64))
    }

    /// Appends a look-up of `floor(sum / 2^shift)`, whose table `function` fills for the whole range of the sum. Returns its wire.
    pub fn lookup(
        &mut self,
        sum: Sum,
        shift: u32,
        function: impl Fn(i64) -> i64,
    ) -> Result<usize, CircuitError> {
        let (sum, read) = self.reads(sum, shift)?;
        let table = (read.min..=read.max).map(function).collect();
        self.append(sum, shift, read.min, table)
    }

    /// The same with the table's entries given, from that of the sum's smallest value on.
    pub fn lookup_table(&mut self, sum: Sum, shift: u32, table: Vec<i64>) -> Result<usize, CircuitError> {
        let (sum, read) = self.reads(sum, shift)?;
        let (expected, found) = (read.count() as usize, table.len());
        if found != expected {
            return Err(CircuitError::Entries { expected, found });
        }
        self.append(sum, shift, read.min, table)
    }

    /// A sum in its normal form, and what a look-up of it reads.
    fn reads(&self, sum: Sum, shift: u32) -> Result<(Sum, Interval), CircuitError> {
        if shift > MAX_SHIFT {
            return Err(CircuitError::Shift { shift });
        }
        if self.ranges.len() >= MAX_WIRES {
            return Err(CircuitError::Wires);
        }
        let sum = self.admitted(sum)?;
        let range = self.range_of(&sum)?;
        let read = Interval::new(range.min >> shift, range.max >> shift);
        let entries = read.count();
        if entries > MAX_TABLE as u64 {
            return Err(CircuitError::Table { entries });
        }
        Ok((sum, read))
    }

    /// A sum in its normal form, if there is room for its terms.
    fn admitted(&self, sum: Sum) -> Result<Sum, CircuitError> {
        let sum = sum.normalised();
        if sum.terms.len() > MAX_TERMS.saturating_sub(self.terms) {
            return Err(CircuitError::Terms);
        }
        Ok(sum)
    }

    fn append(&mut self, sum: Sum, shift: u32, first: i64, table: Vec<i64>) -> Result<usize, CircuitError> {
        let min = table.iter().copied().fold(i64::MAX, i64::min);
        let max = table.iter().copied().fold(i64::MIN, i64::max);
        if min <= -MAX_SUM || max >= MAX_SUM {
            return Err(CircuitError::Magnitude);
        }
        self.terms += sum.terms.len();
        self.ranges.push(Interval::new(min, max));
        self.lookups.push(Lookup {
            sum,
            shift,
            first,
            table,
        });
        Ok(self.ranges.len() - 1)
    }

    /// Appends an output.
    pub fn output(&mut self, sum: Sum) -> Result<(), CircuitError> {
        let sum = self.admitted(sum)?;
        self.output_ranges.push(self.range_of(&sum)?);
        self.terms += sum.terms.len();
        self.outputs.push(sum);
        Ok(())
    }

    /// The outputs for given inputs, in plain: what the encrypted evaluation must equal.
    pub fn evaluate(&self, inputs: &[i64]) -> Result<Vec<i64>, CircuitError> {
        if inputs.len() != self.inputs {
            return Err(CircuitError::Inputs {
                expected: self.inputs,
                found: inputs.len(),
            });
        }
        for (input, (&value, range)) in inputs.iter().zip(&self.ranges).enumerate() {
            if !range.contains(value) {
                return Err(CircuitError::OutOfRange {
                    input,
                    value,
                    min: range.min,
                    max: range.max,
                });
            }
        }
        let mut values = inputs.to_vec();
        let total = |values: &[i64], sum: &Sum| -> i64 {
            let products = sum.terms.iter().map(|&(wire, weight)| weight * values[wire]);
            sum.constant + products.sum::<i64>()
        };
        for lookup in &self.lookups {
            let index = (total(&values, &lookup.sum) >> lookup.shift) - lookup.first;
            values.push(lookup.table[index as usize]);
        }
        Ok(self.outputs.iter().map(|sum| total(&values, sum)).collect())
    }

    /// The look-ups by depth: those of one group need only inputs and earlier groups.
    pub(crate) fn groups(&self) -> Vec<Vec<usize>> {
        let mut depth = vec![0usize; self.inputs];
        let mut groups: Vec<Vec<usize>> = Vec::new();
        for (index, lookup) in self.lookups.iter().enumerate() {
            let own = lookup
                .sum
                .terms
                .iter()
                .map(|&(wire, _)| depth[wire])
                .max()
                .unwrap_or(0);
            depth.push(own + 1);
            if groups.len() <= own {
                groups.resize(own + 1, Vec::new());
            }
            groups[own].push(index);
        }
        groups
    }

    /// What names the circuit: every number in it.
    pub fn digest(&self) -> Digest {
        let signed = |t: Transcript, value: i64| t.field(&value.to_le_bytes());
        let sum = |t: Transcript, sum: &Sum| {
            let start = signed(t.number(sum.terms.len() as u64), sum.constant);
            sum.terms
                .iter()
                .fold(start, |t, &(wire, weight)| signed(t.number(wire as u64), weight))
        };
        let mut transcript = Transcript::new("galen exact circuit v1").number(self.inputs as u64);
        for range in &self.ranges[..self.inputs] {
            transcript = signed(signed(transcript, range.min), range.max);
        }
        transcript = transcript.number(self.lookups.len() as u64);
        for lookup in &self.lookups {
            transcript = sum(transcript, &lookup.sum).number(u64::from(lookup.shift));
            transcript = transcript.number(lookup.table.len() as u64);
            transcript = lookup.table.iter().fold(transcript, |t, &entry| signed(t, entry));
        }
        transcript = transcript.number(self.outputs.len() as u64);
        self.outputs.iter().fold(transcript, sum).digest()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_all_inputs() {
        let mut circuit =
            Circuit::new(vec![Interval::new(-2, 1), Interval::BIT, Interval::new(3, 5)]).unwrap();
        let sum = Sum {
            terms: vec![(0, -3), (1, 4), (2, 1), (1, -2)],
            constant: 7,
        };
        let wire = circuit.lookup(sum, 1, |v| v * v).unwrap();
        circuit.output(Sum::wire(wire)).unwrap();
        let (mut min, mut max) = (i64::MAX, i64::MIN);
        for a in -2..=1 {
            for b in 0..=1 {
                for c in 3..=5 {
                    let plain = (-3 * a + 2 * b + c + 7i64).div_euclid(2);
                    let out = circuit.evaluate(&[a, b, c]).unwrap();
                    assert_eq!(out, [plain * plain]);
                    (min, max) = (min.min(plain), max.max(plain));
                }
            }
        }
        assert_eq!(circuit.lookups()[0].first, min);
        assert_eq!(circuit.lookups()[0].entries() as i64, max - min + 1);
    }

    #[test]
    fn coarser_look_ups_give_the_same() {
        for (min, max) in [(-37, 91), (-1, 0), (-64, 63), (5, 70), (-90, -3)] {
            let mut circuit = Circuit::new(vec![Interval::new(min, max)]).unwrap();
            circuit.lookup(Sum::wire(0), 0, |v| i64::from(v >= 0)).unwrap();
            circuit.lookup(Sum::wire(0), 1, |v| v.div_euclid(4)).unwrap();
            for lookup in circuit.lookups() {
                for entries in [2, 4, 8, 16] {
                    let coarse = lookup.coarsened(entries);
                    for v in min..=max {
                        let read = |l: &Lookup| l.table[((v >> l.shift) - l.first) as usize];
                        assert_eq!(read(&coarse), read(lookup), "{min} {max} {entries} {v}");
                    }
                    assert_eq!(coarse.shift == lookup.shift, coarse.entries() == lookup.entries());
                }
            }
            assert!(circuit.lookups()[0].coarsened(2).entries() <= 2);
            assert!(circuit.lookups()[1].coarsened(2).shift <= 3);
        }
    }

    #[test]
    fn terms_are_counted_over_all_sums() {
        let mut circuit = Circuit::new(vec![Interval::new(0, 1); 4]).unwrap();
        let sum = |terms: usize| Sum {
            terms: (0..terms).map(|wire| (wire, 1)).collect(),
            constant: 0,
        };
        circuit.output(sum(2)).unwrap();
        circuit.lookup(sum(3), 0, |v| v).unwrap();
        assert_eq!(circuit.terms, 5);
        circuit.terms = MAX_TERMS - 3;
        assert_eq!(circuit.lookup(sum(4), 0, |v| v), Err(CircuitError::Terms));
        assert_eq!(circuit.output(sum(4)), Err(CircuitError::Terms));
        circuit.output(sum(3)).unwrap();
        assert_eq!(circuit.output(sum(1)), Err(CircuitError::Terms));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let mut circuit = Circuit::new(vec![Interval::new(0, 1000)]).unwrap();
        let refused = circuit.lookup(Sum::wire(0), 0, |v| v);
        assert_eq!(refused, Err(CircuitError::Table { entries: 1001 }));
        assert!(circuit.lookup(Sum::wire(0), 3, |v| v).is_ok());
        let refused = circuit.output(Sum::wire(2));
        assert_eq!(refused, Err(CircuitError::Wire { wire: 2, wires: 2 }));
        assert!(circuit.evaluate(&[1001]).is_err());
        assert!(circuit.evaluate(&[]).is_err());
        let huge = Sum {
            terms: vec![(0, i64::MAX)],
            constant: 0,
        };
        assert_eq!(circuit.output(huge), Err(CircuitError::Magnitude));
        assert!(Circuit::new(vec![Interval::new(1, 0)]).is_err());
    }

    #[test]
    fn the_digest_sees_every_number() {
        let build = |weight, shift, entry: i64| {
            let mut circuit = Circuit::new(vec![Interval::new(0, 7)]).unwrap();
            let sum = Sum {
                terms: vec![(0, weight)],
                constant: 0,
            };
            let wire = circuit.lookup(sum, shift, |v| v + entry).unwrap();
            circuit.output(Sum::wire(wire)).unwrap();
            circuit.digest()
        };
        let all = [build(1, 0, 0), build(2, 0, 0), build(1, 1, 0), build(1, 0, 1)];
        for (i, a) in all.iter().enumerate() {
            assert!(all[i + 1..].iter().all(|b| a != b));
        }
    }
}
