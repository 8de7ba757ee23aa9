//! A linear layer, its squares and another linear layer, in one pass over the coefficients.

use super::map::LinearMap;
use super::weights::IntegerWeights;
use crate::ciphertext::Ciphertext;
use crate::context::{Target, check_scale};
use crate::encoding::scaled_integer;
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use galen_rns::kernel::{Kernels, WeightMatrix};
use galen_rns::modulus::Modulus;
use rayon::prelude::*;

/// Coefficients that one task computes.
const CHUNK: usize = 256;
/// Coefficients at a time: the hidden values of some hundreds of units for these fit in the second-level cache.
const TILE: usize = 64;

/// `outer (inner x + constants)^2`: two layers with squares between them.
#[derive(Debug, Clone, PartialEq)]
pub struct QuadraticMap {
    inner: LinearMap,
    constants: Vec<f64>,
    outer: LinearMap,
}

impl QuadraticMap {
    /// From a layer, a constant for each of its outputs, and the layer that reads their squares.
    ///
    /// # Errors
    /// [`CkksError::Count`] if these numbers do not fit one another.
    pub fn new(inner: LinearMap, constants: Vec<f64>, outer: LinearMap) -> Result<Self, CkksError> {
        let hidden = inner.outputs();
        for count in [constants.len(), outer.inputs()] {
            if count != hidden {
                return Err(CkksError::Count {
                    count,
                    min: hidden,
                    max: hidden,
                });
            }
        }
        Ok(Self {
            inner,
            constants,
            outer,
        })
    }

    /// The layer whose sums are squared.
    #[must_use]
    pub fn inner(&self) -> &LinearMap {
        &self.inner
    }

    /// The constants that are added to its sums.
    #[must_use]
    pub fn constants(&self) -> &[f64] {
        &self.constants
    }

    /// The layer that reads the squares.
    #[must_use]
    pub fn outer(&self) -> &LinearMap {
        &self.outer
    }
}

/// What a map is modulo one prime.
struct Residues {
    modulus: Modulus,
    inner: WeightMatrix,
    constants: Vec<u64>,
    outer: WeightMatrix,
}

/// One task: some coefficients of one prime, and where its results go, for each of the three components.
struct Task<'a> {
    prime: usize,
    start: usize,
    outputs: [Vec<&'a mut [u64]>; 3],
}

/// Memory of one thread.
struct Scratch {
    /// A tile of every input.
    panel: Vec<u64>,
    /// A tile of both components of every hidden value.
    hidden: [Vec<u64>; 2],
    /// A tile of one component of every square.
    squares: Vec<u64>,
}

impl Evaluator {
    /// `outer (inner x + constants)^2`, of degree 2, for ciphertexts of degree 1.
    ///
    /// The result is, bit for bit and bound for bound, that of [`Self::apply`] for the inner layer at the level of the target and
    /// `inner_scale`, [`Self::add_scalar`], [`Self::square`], and [`Self::apply`] for the outer layer. But nothing is divided by a prime in
    /// between, so all of it is the same for every coefficient, and hidden values never leave the cache: this saves the
    /// transforms of rescalings, and the memory of the hidden layer. The price is that scales multiply: `target.scale` is
    /// `inner_scale^2` times the precision of the outer weights, and the modulus of the target's level has to hold it.
    ///
    /// # Errors
    /// Those of the operations named.
    pub fn apply_quadratic(
        &self,
        map: &QuadraticMap,
        cts: &[&Ciphertext],
        inner_scale: f64,
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let mut outputs = Vec::new();
        self.apply_quadratic_into(map, cts, inner_scale, target, &mut outputs)?;
        Ok(outputs)
    }

    /// [`Self::apply_quadratic`] into ciphertexts that are there already; see [`Self::apply_into`].
    ///
    /// # Errors
    /// Those of [`Self::apply_quadratic`].
    pub fn apply_quadratic_into(
        &self,
        map: &QuadraticMap,
        cts: &[&Ciphertext],
        inner_scale: f64,
        target: Target,
        outputs: &mut Vec<Ciphertext>,
    ) -> Result<(), CkksError> {
        let mut inputs = self.check_inputs(&map.inner, cts, target)?;
        if inputs.degree != 1 {
            return Err(CkksError::CiphertextDegree {
                degree: inputs.degree,
                needed: 1,
            });
        }
        inputs.degree = 2;
        check_scale(inner_scale)?;
        let inner = IntegerWeights::new(&map.inner, cts.iter().map(|ct| &ct.budget), inner_scale)?;
        let mut constants = Vec::with_capacity(map.constants.len());
        let mut squares = Vec::with_capacity(map.constants.len());
        for (index, (sum, &constant)) in inner.budgets().iter().zip(&map.constants).enumerate() {
            self.check_budget(target.level, sum)?;
            constants.push(scaled_integer(index, constant, inner_scale)?.0);
            let sum = sum.plus_constant(constant);
            self.check_budget(target.level, &sum)?;
            let square = sum.product(&sum);
            check_scale(square.scale)?;
            self.check_budget(target.level, &square)?;
            squares.push(square);
        }
        let outer = IntegerWeights::new(&map.outer, &squares, target.scale)?;
        for budget in outer.budgets() {
            self.check_budget(target.level, budget)?;
        }

        let ring = self.context().ring(target.level)?;
        let residues = ring
            .moduli()
            .iter()
            .map(|m| {
                Ok(Residues {
                    modulus: *m,
                    inner: inner.residues(m, |_| true)?,
                    constants: constants.iter().map(|&c| m.reduce_i128(c)).collect(),
                    outer: outer.residues(m, |_| true)?,
                })
            })
            .collect::<Result<Vec<_>, CkksError>>()?;
        let hidden_slots = map.inner.widest(|k| cts[k].slots);
        let slots = map.outer.widest(|k| hidden_slots[k]);
        self.prepare(outputs, &inputs, ring, outer.budgets(), &slots);
        tasks(outputs, ring.degree()).into_par_iter().try_for_each_init(
            || Scratch::new(map),
            |scratch, task| task.run(&residues, cts, scratch),
        )
    }
}

/// Splits the outputs' residues, of three components each, into tasks.
fn tasks(outputs: &mut [Ciphertext], degree: usize) -> Vec<Task<'_>> {
    // Degrees are powers of two.
    let chunk = CHUNK.min(degree);
    let mut tasks: Vec<Task<'_>> = Vec::new();
    let count = outputs.len();
    for output in outputs {
        for (part, poly) in output.parts.iter_mut().enumerate() {
            for (index, residues) in poly.data_mut().chunks_exact_mut(chunk).enumerate() {
                if index == tasks.len() {
                    tasks.push(Task {
                        prime: index * chunk / degree,
                        start: index * chunk % degree,
                        outputs: [(); 3].map(|()| Vec::with_capacity(count)),
                    });
                }
                tasks[index].outputs[part].push(residues);
            }
        }
    }
    tasks
}

impl Scratch {
    fn new(map: &QuadraticMap) -> Self {
        let hidden = map.inner.outputs() * TILE;
        Self {
            panel: vec![0; map.inner.inputs() * TILE],
            hidden: [vec![0; hidden], vec![0; hidden]],
            squares: vec![0; hidden],
        }
    }
}

impl Task<'_> {
    fn run(self, residues: &[Residues], cts: &[&Ciphertext], scratch: &mut Scratch) -> Result<(), CkksError> {
        let kernels = Kernels::active();
        let Residues {
            modulus,
            inner,
            constants,
            outer,
        } = &residues[self.prime];
        let Scratch {
            panel,
            hidden: [first, second],
            squares,
        } = scratch;
        let mut outputs = self.outputs;
        let length = outputs[0].first().map_or(0, |residues| residues.len());
        let width = TILE.min(length);
        for at in (0..length).step_by(TILE) {
            let from = self.start + at;
            for (part, sums) in [&mut *first, &mut *second].into_iter().enumerate() {
                // Packed: rows of different ciphertexts lie a power of two apart, where they would displace one
                // another in the cache.
                for (row, ct) in panel.chunks_exact_mut(TILE).zip(cts) {
                    row[..width].copy_from_slice(&ct.parts[part].residues(self.prime)[from..from + width]);
                }
                let rows: Vec<&[u64]> = panel.chunks_exact(TILE).map(|row| &row[..width]).collect();
                let mut sums: Vec<&mut [u64]> =
                    sums.chunks_exact_mut(TILE).map(|row| &mut row[..width]).collect();
                inner.apply(&rows, &mut sums)?;
            }
            // The transform of a constant is that constant everywhere.
            for (row, &constant) in first.chunks_exact_mut(TILE).zip(constants) {
                kernels.add_scalar_assign(modulus, row, constant);
            }
            let factors = [(&*first, &*first), (&*first, &*second), (&*second, &*second)];
            for (part, (a, b)) in factors.into_iter().enumerate() {
                kernels.mul_into(modulus, a, b, squares);
                let rows: Vec<&[u64]> = squares.chunks_exact(TILE).map(|row| &row[..width]).collect();
                let mut sums: Vec<&mut [u64]> = outputs[part]
                    .iter_mut()
                    .map(|residues| &mut residues[at..at + width])
                    .collect();
                outer.apply(&rows, &mut sums)?;
                if part == 1 {
                    // (c0 + c1 s)^2 has 2 c0 c1: doubled here, where there are fewer.
                    for sum in sums {
                        kernels.mul_scalar_assign(modulus, sum, 2);
                    }
                }
            }
        }
        Ok(())
    }
}
