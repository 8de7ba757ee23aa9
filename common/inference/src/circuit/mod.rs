//! A lowered model laid out over levels and scales, and its evaluation, written once for everything that can be computed with.

mod blocks;
mod layout;
mod schedule;
mod spill;

pub(crate) use self::blocks::Blocks;
use self::layout::Layout;
pub(crate) use self::schedule::Place;
use self::schedule::{Part, Task, elements, peak, schedule};
pub(crate) use self::spill::{Shelf, Spill, Stored, TooLow};
use crate::network::{Limit, Network, Node, NodeId, Term};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use galen_ckks::linear::LinearMap;
use galen_models::Range;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;

/// Sums that are computed, divided and reported together.
const BLOCK: usize = 64;
/// What a circuit computes with: ciphertexts ([`Evaluator`](galen_ckks::evaluate::Evaluator) with a key) or only their bounds.
pub(crate) trait Arithmetic: Sync {
    /// A vector with one entry per patient.
    type Value: Clone + Send + Sync;
    /// Weighted sums.
    fn apply(
        &self,
        map: &LinearMap,
        inputs: &[&Self::Value],
        target: Target,
    ) -> Result<Vec<Self::Value>, CkksError>;
    /// The square, of degree 2.
    fn square(&self, a: &Self::Value) -> Result<Self::Value, CkksError>;
    /// The square, back to degree 1, then divided by the prime of its level this many times.
    fn square_divided(&self, a: &Self::Value, divisions: usize) -> Result<Self::Value, CkksError>;
    /// Plus a constant, back to degree 1, then divided by the prime of its level this many times.
    fn finish(&self, a: Self::Value, constant: f64, divisions: usize) -> Result<Self::Value, CkksError>;
    /// The same at a lower level.
    fn at_level(&self, a: Self::Value, level: usize) -> Result<Self::Value, CkksError>;
    /// The same with better bounds on its entries.
    fn within(&self, a: Self::Value, size: Size) -> Result<Self::Value, CkksError>;
}

/// How large an element is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Size {
    /// At most.
    pub(crate) largest: f64,
    /// For most patients.
    pub(crate) typical: f64,
}

impl Size {
    pub(crate) fn times(self, factor: f64) -> Self {
        Self {
            largest: self.largest * factor,
            typical: self.typical * factor,
        }
    }
}

/// How scales are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Scales {
    /// Every value has the nominal scale of its level; a linear layer takes one level and a square another.
    Nominal,
    /// Values have a scale of at least 2^`least`; weights are taken to `weights` bits; what a prime can be divided by without going
    /// below `least` is divided. Fewer and wider primes do for more layers, at less precision.
    Waterline {
        /// Bits of the inputs' scale, and of the smallest one.
        least: u32,
        /// Bits that weights add to it.
        weights: u32,
    },
}

impl Scales {
    /// The layouts that are tried for networks whose values were recorded.
    pub(crate) fn choices() -> impl Iterator<Item = Self> {
        let waterlines = [22, 25, 28, 31, 34, 38]
            .into_iter()
            .flat_map(|least| [10, 14, 18].map(|weights| Self::Waterline { least, weights }));
        waterlines.chain([Self::Nominal])
    }
}

/// Level and scale of the elements of a node.
#[derive(Clone, Copy, Debug, PartialEq)]
struct State {
    level: usize,
    scale: f64,
}

/// How a node is computed.
#[derive(Clone, Debug)]
enum Step {
    Input {
        len: usize,
    },
    Sum {
        sources: Vec<Source>,
        /// The matrix.
        blocks: Arc<Blocks>,
        constants: Vec<f64>,
        /// Of the elements.
        sizes: Vec<Size>,
        target: Target,
        divisions: usize,
    },
    Square {
        of: NodeId,
        /// How often squares are divided for those who read them relinearised; nobody does if there is no number.
        divisions: Option<usize>,
        /// Whether somebody reads them as they are.
        raw: bool,
    },
}

/// What a sum reads.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Source {
    node: NodeId,
    /// Squares as they are, of degree 2.
    raw: bool,
}

/// A model laid out over the levels of a context; its results are smaller than the outputs by 2^`shift`.
#[derive(Clone, Debug)]
pub(crate) struct Circuit {
    steps: Vec<Step>,
    /// Levels of the elements of every node, of squares as they are and of everything divided.
    levels: Vec<[usize; 2]>,
    /// Their scales.
    scales: Vec<[f64; 2]>,
    input_scale: f64,
    level: usize,
    /// Binary places by which results are smaller than outputs, so that they fit the modulus of level 0.
    pub(crate) shift: u32,
}

/// How much a circuit does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Work {
    pub(crate) squares: u64,
    pub(crate) relinearisations: u64,
    pub(crate) multiply_adds: u64,
    /// Products with plaintexts, and rotations.
    pub(crate) products: u64,
    pub(crate) rotations: u64,
    /// Residues read, multiplied and added, in units of a thousand coefficients: what time goes by.
    pub(crate) cost: u64,
    /// The same by kind.
    pub(crate) residues: Residues,
}

/// Residues that are worked on, by what is done to them, in units of 1024 coefficients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Residues {
    /// Multiplied by a scalar of up to 16 bits and added; larger ones count twice or four times.
    pub scalar: u64,
    /// Squared, of one polynomial in, three out.
    pub squared: u64,
    /// Of ciphertexts that are relinearised.
    pub switched: u64,
    /// Of ciphertexts that are divided by a prime.
    pub divided: u64,
    /// Of ciphertexts that are multiplied by a plaintext and added.
    pub products: u64,
}

impl Circuit {
    /// Lays a network out with inputs at `level`. `blocks` are those of [`Blocks::all`], `sizes` are those of the elements of every node. Errors with
    /// [`CkksError::NoLevelLeft`] if there are too few levels.
    pub(crate) fn new(
        context: &Context,
        network: &Network,
        (blocks, sizes): (&[Arc<Blocks>], &[Vec<Size>]),
        level: usize,
        scales: Scales,
        shift: u32,
    ) -> Result<Self, CkksError> {
        let input_scale = match scales {
            Scales::Nominal => context.scale(level)?,
            Scales::Waterline { least, .. } => f64::from(least).exp2(),
        };
        let start = State {
            level,
            scale: input_scale,
        };
        let mut layout = Layout {
            context,
            network,
            scales,
            raw: Vec::new(),
            finished: Vec::new(),
            steps: Vec::new(),
        };
        let factor = (-f64::from(shift)).exp2();
        for (id, node) in network.nodes.iter().enumerate() {
            let last = id + 1 == network.nodes.len();
            match node {
                Node::Input { len } => layout.push(Step::Input { len: *len }, start, start),
                Node::Square { of } => layout.square(*of)?,
                Node::Sum { terms, constants, .. } if last && shift > 0 => {
                    let factors = vec![factor; constants.len()];
                    let terms: Vec<Term> = terms
                        .iter()
                        .map(|t| Term {
                            node: t.node,
                            map: t.map.clone().scaled(&factors),
                        })
                        .collect();
                    let constants: Vec<f64> = constants.iter().map(|c| c * factor).collect();
                    let sizes: Vec<Size> = sizes[id].iter().map(|size| size.times(factor)).collect();
                    let wanted: Vec<usize> = (0..constants.len()).collect();
                    let blocks = Arc::new(Blocks::new(&terms, &wanted)?);
                    layout.sum(&terms, &blocks, &constants, &sizes)?;
                }
                Node::Sum { terms, constants, .. } => {
                    layout.sum(terms, &blocks[id], constants, &sizes[id])?;
                }
            }
        }
        let pairs = layout.raw.iter().zip(&layout.finished);
        Ok(Self {
            scales: pairs.map(|(raw, finished)| [raw.scale, finished.scale]).collect(),
            levels: layout
                .raw
                .iter()
                .zip(&layout.finished)
                .map(|(raw, finished)| [raw.level, finished.level])
                .collect(),
            steps: layout.steps,
            input_scale,
            level,
            shift,
        })
    }

    /// Scale of the inputs.
    pub(crate) fn input_scale(&self) -> f64 {
        self.input_scale
    }

    /// Level of the inputs.
    pub(crate) fn level(&self) -> usize {
        self.level
    }

    /// Number of results.
    pub(crate) fn outputs(&self) -> usize {
        match self.steps.last() {
            Some(Step::Sum { constants, .. }) => constants.len(),
            _ => 0,
        }
    }

    /// What there is to do under a preset of this degree.
    pub(crate) fn work(&self, degree: usize) -> Work {
        let mut work = Work::default();
        // A residue of a ciphertext that is relinearised goes through some twenty transforms as a digit, forth and back; of one that
        // is divided, through two. They cost this many products with a weight, which are many at a time; squares are mostly
        // written to memory.
        const SWITCH: u64 = 600;
        const DIVIDE: u64 = 120;
        const SQUARE: u64 = 30;
        let mut residues = Residues::default();
        for step in &self.steps {
            match step {
                Step::Input { .. } => {}
                Step::Sum {
                    sources,
                    blocks,
                    constants,
                    target,
                    divisions,
                    ..
                } => {
                    let degree_two = sources.iter().any(|s| s.raw);
                    let parts = if degree_two { 3 } else { 2 };
                    let primes = target.level + 1;
                    if !blocks.is_free() {
                        work.multiply_adds += blocks.terms() as u64;
                        let scale = |s: &Source| self.scales[s.node][usize::from(!s.raw)];
                        let least = sources.iter().map(scale).fold(f64::INFINITY, f64::min);
                        let products = blocks.products(target.scale / least);
                        residues.scalar += (products * parts * primes) as u64;
                    }
                    if degree_two {
                        work.relinearisations += constants.len() as u64;
                        residues.switched += (constants.len() * primes) as u64;
                    }
                    // The first division is one with that of relinearisation.
                    let apart = divisions.saturating_sub(usize::from(degree_two));
                    residues.divided += (constants.len() * apart * primes) as u64;
                }
                Step::Square { of, divisions, .. } => {
                    let (count, primes) = (elements(&self.steps, *of), self.levels[*of][1] + 1);
                    work.squares += count as u64;
                    residues.squared += (count * primes) as u64;
                    if let Some(divisions) = divisions {
                        work.relinearisations += count as u64;
                        residues.switched += (count * primes) as u64;
                        residues.divided += (count * divisions.saturating_sub(1) * primes) as u64;
                    }
                }
            }
        }
        let coefficients = (degree / 1024) as u64;
        let Residues {
            scalar,
            squared,
            switched,
            divided,
            ..
        } = residues;
        work.cost = (scalar + squared * SQUARE + switched * SWITCH + divided * DIVIDE) * coefficients;
        work.residues = Residues {
            scalar: scalar * coefficients,
            squared: squared * coefficients,
            switched: switched * coefficients,
            divided: divided * coefficients,
            products: 0,
        };
        work
    }

    /// Bytes of all ciphertexts that are held at one time, at most, those of the inputs included.
    pub(crate) fn peak_bytes(&self, degree: usize) -> u64 {
        let size = |place: &Place| self.bytes(place, degree);
        let beside = |task: &Task| self.bytes_beside(task, degree);
        peak(&self.steps, &schedule(&self.steps), size, beside)
    }

    /// How to hold no more than `limit` bytes of ciphertexts.
    pub(crate) fn spill(&self, degree: usize, limit: u64) -> Result<Spill, TooLow> {
        let size = |place: &Place| self.bytes(place, degree);
        let beside = |task: &Task| self.bytes_beside(task, degree);
        Spill::plan(&self.steps, &schedule(&self.steps), size, beside, limit)
    }

    /// Bytes of a value.
    fn bytes(&self, place: &Place, degree: usize) -> u64 {
        let [raw, finished] = self.levels[place.node];
        match place.raw {
            true => bytes(3, raw, degree),
            false if place.node + 1 == self.steps.len() => bytes(2, 0, degree),
            false => bytes(2, finished, degree),
        }
    }

    /// Bytes that a task needs beside what it reads and writes.
    fn bytes_beside(&self, task: &Task, degree: usize) -> u64 {
        match (&task.part, &self.steps[task.node]) {
            (
                Part::Block(number),
                Step::Sum {
                    blocks,
                    sources,
                    target,
                    ..
                },
            ) if !blocks.is_copy() => {
                let rows = blocks.get(*number).map_or(0, |block| block.rows.len()) as u64;
                let parts = if sources.iter().any(|s| s.raw) { 3 } else { 2 };
                rows * bytes(parts, target.level, degree)
            }
            _ => 0,
        }
    }

    /// Runs the circuit on one value per model input. Results have level 0 and degree 1. `progress` gets steps done and steps in
    /// all.
    pub(crate) fn run<A: Arithmetic>(
        &self,
        arithmetic: &A,
        inputs: &[A::Value],
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<A::Value>, Failure> {
        let tasks = schedule(&self.steps);
        let total = tasks.len() as u32;
        let mut held: HashMap<Place, A::Value> = HashMap::new();
        for (task, done) in tasks.iter().zip(1..) {
            let read: Vec<&A::Value> = task
                .reads
                .iter()
                .map(|place| match place.node {
                    0 => &inputs[place.index],
                    _ => &held[place],
                })
                .collect();
            let computed = self.compute(arithmetic, task, &read).map_err(|error| Failure {
                error,
                in_results: task.node + 1 == self.steps.len(),
            })?;
            held.extend(task.writes(&self.steps).into_iter().zip(computed));
            for place in &task.over {
                held.remove(place);
            }
            progress(done, total);
        }
        let mut results: Vec<(Place, A::Value)> = held.into_iter().collect();
        results.sort_by_key(|(place, _)| place.index);
        Ok(results.into_iter().map(|(_, value)| value).collect())
    }

    /// The same with values that wait on a shelf. The inputs are [`Stored::input`].
    pub(crate) fn run_stored<A: Arithmetic, S: Shelf<A::Value>>(
        &self,
        arithmetic: &A,
        spill: &Spill,
        mut stored: Stored<A::Value, S>,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Vec<A::Value>, StoredFailure<S::Error>> {
        let tasks = schedule(&self.steps);
        let total = tasks.len() as u32;
        for ((task, moves), done) in tasks.iter().zip(&spill.moves).zip(1..) {
            stored.prepare(moves).map_err(StoredFailure::Shelf)?;
            let read: Vec<&A::Value> = task.reads.iter().map(|place| stored.get(place)).collect();
            let computed = self
                .compute(arithmetic, task, &read)
                .map_err(StoredFailure::Ckks)?;
            stored.enter(task.writes(&self.steps).into_iter().zip(computed));
            stored.give_up(moves).map_err(StoredFailure::Shelf)?;
            progress(done, total);
        }
        if let Some(last) = spill.moves.last() {
            stored.prepare(last).map_err(StoredFailure::Shelf)?;
        }
        Ok(stored.into_values())
    }

    /// What a task writes, in the order of [`Task::writes`].
    fn compute<A: Arithmetic>(
        &self,
        arithmetic: &A,
        task: &Task,
        read: &[&A::Value],
    ) -> Result<Vec<A::Value>, CkksError> {
        match (&task.part, &self.steps[task.node]) {
            (
                Part::Block(number),
                Step::Sum {
                    blocks,
                    constants,
                    sizes,
                    target,
                    divisions,
                    ..
                },
            ) => {
                let Some(block) = blocks.get(*number) else {
                    return Ok(Vec::new());
                };
                let last = task.node + 1 == self.steps.len();
                let finish = |index: usize, sum: A::Value| {
                    let value = arithmetic.finish(sum, constants[index], *divisions)?;
                    let value = arithmetic.within(value, sizes[index])?;
                    if last {
                        arithmetic.at_level(value, 0)
                    } else {
                        Ok(value)
                    }
                };
                let rows = block.rows.par_iter();
                if blocks.is_copy() {
                    return rows
                        .zip(read)
                        .map(|(&i, &value)| finish(i, value.clone()))
                        .collect();
                }
                let sums = arithmetic.apply(&block.map, read, *target)?;
                rows.zip(sums).map(|(&i, sum)| finish(i, sum)).collect()
            }
            (
                Part::Squares(_),
                Step::Square {
                    divisions, raw: kept, ..
                },
            ) => {
                let mut written = Vec::with_capacity(2 * read.len());
                if let Some(divisions) = divisions {
                    let divided = read.par_iter().map(|x| arithmetic.square_divided(x, *divisions));
                    written = divided.collect::<Result<_, _>>()?;
                }
                if *kept {
                    let squares = read.par_iter().map(|x| arithmetic.square(x));
                    written.extend(squares.collect::<Result<Vec<A::Value>, _>>()?);
                }
                Ok(written)
            }
            _ => Ok(Vec::new()),
        }
    }
}

/// A circuit that cannot be evaluated.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) error: CkksError,
    /// Whether it is the results that cannot be computed, and not something on the way.
    pub(crate) in_results: bool,
}

/// The same where values wait on a shelf.
#[derive(Debug)]
pub(crate) enum StoredFailure<E> {
    Ckks(CkksError),
    Shelf(E),
}

/// Bytes of a ciphertext in memory.
fn bytes(parts: usize, level: usize, degree: usize) -> u64 {
    (parts * (level + 1) * degree * size_of::<u64>()) as u64
}

/// Of the channels of a layer, none is taken to vary less than this part of the one that varies most: what hardly varied among those who
/// were recorded may vary more among others.
const LEAST_WIDTH: f64 = 0.1;

fn half_width(range: &Range) -> f64 {
    (range.max - range.min) / 2.0
}

/// Most values are no further from 0 than this times their root mean square: of any distribution three quarters (Chebyshev), of a normal one 95
/// of a hundred.
const TYPICAL: f64 = 2.0;

/// The sizes of a node's elements: by interval arithmetic from the inputs, and where ranges were recorded, those widened about their middle to
/// `margin` times their width if they are smaller. What is typical is recorded too, or as large as can be.
pub(crate) fn sizes(network: &Network, ranges: &[Range], margin: Option<f64>) -> Vec<Vec<Size>> {
    let limited = margin.map(|margin| {
        let mut limited = network.clone();
        for node in &mut limited.nodes {
            if let Node::Sum {
                limits: Some(limits), ..
            } = node
            {
                let widest = limits.iter().map(|l| half_width(&l.range)).fold(0.0, f64::max);
                for limit in limits {
                    let range = &mut limit.range;
                    let half = half_width(range).max(LEAST_WIDTH * widest);
                    let middle = (range.min + range.max) / 2.0;
                    *range = Range::new(middle - margin * half, middle + margin * half);
                }
            }
        }
        limited
    });
    let all = limited
        .as_ref()
        .unwrap_or(network)
        .intervals(ranges, margin.is_some());
    let size = |(range, limit): (&Range, Option<&Limit>)| {
        let largest = range.magnitude();
        let typical = limit.and_then(|limit| limit.typical).map(|rms| TYPICAL * rms);
        Size {
            largest,
            typical: typical
                .filter(|_| margin.is_some())
                .unwrap_or(largest)
                .min(largest),
        }
    };
    let of_node = |(node, ranges): (&Node, &Vec<Range>)| {
        let limits = match node {
            Node::Sum {
                limits: Some(limits), ..
            } => limits.as_slice(),
            _ => &[],
        };
        let pairs = ranges.iter().enumerate().map(|(i, range)| (range, limits.get(i)));
        pairs.map(size).collect()
    };
    network.nodes.iter().zip(&all).map(of_node).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::lower;
    use galen_ckks::preset::Preset;
    use galen_models::{Model, ModelSpec};
    use std::sync::Mutex;

    /// One patient in plain numbers.
    struct Plain;

    impl Arithmetic for Plain {
        type Value = f64;

        fn apply(&self, map: &LinearMap, inputs: &[&f64], _: Target) -> Result<Vec<f64>, CkksError> {
            let sum = |output| map.row(output).map(|(j, w)| w * inputs[j]).sum();
            Ok((0..map.outputs()).map(sum).collect())
        }

        fn square(&self, a: &f64) -> Result<f64, CkksError> {
            Ok(a * a)
        }

        fn square_divided(&self, a: &f64, _: usize) -> Result<f64, CkksError> {
            Ok(a * a)
        }

        fn finish(&self, a: f64, constant: f64, _: usize) -> Result<f64, CkksError> {
            Ok(a + constant)
        }

        fn at_level(&self, a: f64, _: usize) -> Result<f64, CkksError> {
            Ok(a)
        }

        fn within(&self, a: f64, size: Size) -> Result<f64, CkksError> {
            assert!(a.abs() <= size.largest * (1.0 + 1e-12), "{a} {size:?}");
            Ok(a)
        }
    }

    /// Values in a table.
    #[derive(Default)]
    struct Table(Mutex<HashMap<Place, f64>>);

    impl Shelf<f64> for Table {
        type Error = ();

        fn put(&self, place: Place, value: &f64) -> Result<(), ()> {
            let before = self.0.lock().unwrap().insert(place, *value);
            before.map_or(Ok(()), |_| Err(()))
        }

        fn get(&self, place: Place) -> Result<f64, ()> {
            self.0.lock().unwrap().get(&place).copied().ok_or(())
        }

        fn remove(&self, place: Place) -> Result<(), ()> {
            self.0.lock().unwrap().remove(&place).map(drop).ok_or(())
        }
    }

    /// What comes out where memory holds as little as it can.
    fn stored(circuit: &Circuit, row: &[f64]) -> Vec<f64> {
        let TooLow { needed } = circuit.spill(8, 0).unwrap_err();
        let spill = circuit.spill(8, needed).unwrap();
        assert!(spill.written_bytes > 0);
        let mut stored = Stored::new(Table::default());
        for (index, value) in row.iter().enumerate() {
            stored.input(&spill, index, *value).unwrap();
        }
        circuit
            .run_stored(&Plain, &spill, stored, &mut |_, _| {})
            .unwrap()
    }

    /// However scales are laid out, a circuit computes what the network says, and its bounds hold.
    #[test]
    fn circuits_compute_their_networks() {
        let spec: ModelSpec = toml::from_str(
            r#"
            input = [1, 5, 5]
            layers = [
                { conv2d = { channels = 2, kernel = 2 } },
                { fixed_polynomial = { coefficients = [0.1, 0.5, 0.15, 0.2] } },
                { average_pool = { kernel = 2 } },
                { add = { body = [{ conv2d = { channels = 2, kernel = 1 } }, "square"] } },
                "flatten",
                { dense = { outputs = 3 } },
            ]"#,
        )
        .unwrap();
        let model = Model::initial(spec, 3).unwrap();
        let network = lower(&model, &|_| None).unwrap();
        let ranges = vec![Range::new(-1.0, 1.0); 25];
        let sizes = sizes(&network, &ranges, None);
        let blocks = Blocks::all(&network).unwrap();
        let row: Vec<f64> = (0..25).map(|i| f64::from(i * 7 % 11) / 5.0 - 1.0).collect();
        let expected = network.evaluate(&row);
        let context = Context::new(&Preset::by_name("n32768_q50_12x40_p7x44").unwrap()).unwrap();
        for scales in Scales::choices() {
            for shift in [0, 2] {
                let given = (blocks.as_slice(), sizes.as_slice());
                let circuit = Circuit::new(&context, &network, given, 12, scales, shift).unwrap();
                let found = circuit.run(&Plain, &row, &mut |_, _| {}).unwrap();
                assert_eq!(stored(&circuit, &row), found);
                for (a, b) in found.iter().zip(&expected) {
                    let a = a * f64::from(shift).exp2();
                    assert!((a - b).abs() < 1e-9, "{scales:?} {shift}: {a} {b}");
                }
            }
        }
    }
}
