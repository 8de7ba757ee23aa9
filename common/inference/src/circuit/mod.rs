//! A lowered model laid out over levels and scales.

mod blocks;
mod layout;
mod run;
mod schedule;
mod size;
mod spill;

pub(crate) use self::blocks::Blocks;
use self::layout::Layout;
pub(crate) use self::run::{Arithmetic, Failure, StoredFailure};
pub(crate) use self::schedule::Place;
use self::schedule::{Part, Task, elements, peak, schedule};
pub(crate) use self::size::{Size, sizes};
pub(crate) use self::spill::{Shelf, Spill, Stored, TooLow};
use crate::network::{Network, Node, NodeId, Term};
use galen_ckks::CkksError;
use galen_ckks::context::{Context, Target};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Sums that are computed, divided and reported together.
const BLOCK: usize = 64;

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
    /// Of ciphertexts that are relinearised or rotated, many at a time.
    pub switched: u64,
    /// Of those that are rotated one after the other.
    pub alone: u64,
    /// Of ciphertexts that are divided by a prime.
    pub divided: u64,
    /// Of ciphertexts that are multiplied by a plaintext and added.
    pub products: u64,
    /// Of plaintexts that are encoded for it.
    pub encoded: u64,
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
        let start = Target {
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
            alone: 0,
            products: 0,
            encoded: 0,
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
}

/// Bytes of a ciphertext in memory.
fn bytes(parts: usize, level: usize, degree: usize) -> u64 {
    (parts * (level + 1) * degree * size_of::<u64>()) as u64
}
