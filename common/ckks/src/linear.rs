//! Layers of a network on batches: one ciphertext per value, one patient per slot.
//!
//! A linear layer is a modular matrix product, outputs x inputs weights times inputs x coefficients residues, for each
//! prime and each component of the ciphertexts. [`LinearMap`] is the matrix (dense, or sparse as a convolution is),
//! [`Evaluator::apply`] the layer, [`Evaluator::apply_quadratic`] a linear layer, squares and another linear layer in one
//! pass, and [`Evaluator::stream`] a linear layer over more ciphertexts than fit in memory.
//!
//! All of them run in the current rayon pool (see [`galen_rns::threads`]), and their results do not depend on it.

mod map;
mod quadratic;
mod stream;
mod weights;

pub use map::{Convolution, LinearMap};
pub use quadratic::QuadraticMap;

use crate::ciphertext::Ciphertext;
use crate::context::{Target, check_scale};
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use crate::noise::Budget;
use galen_rns::kernel::Product;
use galen_rns::poly::Poly;
use galen_rns::ring::Ring;
use std::sync::Arc;
use weights::IntegerWeights;

impl Evaluator {
    /// `sum of weights[k] * cts[k]`, landing on exactly the level and scale of `target`.
    ///
    /// The ciphertexts may be of any level from that of the target up (a higher one is read as if dropped to it), of
    /// any scale, and of degree 1 or 2. Weight k becomes the integer nearest to `weights[k] * target.scale /
    /// cts[k].scale()`, so the ratio of scales (2^45, say, for [`product_target`](crate::context::Context::product_target)) is the precision of the
    /// weights; it may be up to 2^90 and more.
    ///
    /// # Errors
    /// [`CkksError::Count`] if there are none or not as many weights as ciphertexts, [`CkksError::LevelRange`],
    /// [`CkksError::KeyMismatch`], [`CkksError::InvalidNumber`], [`CkksError::InvalidScale`],
    /// [`CkksError::Overflow`], [`CkksError::Precision`].
    pub fn mac_scalars(
        &self,
        cts: &[&Ciphertext],
        weights: &[f64],
        target: Target,
    ) -> Result<Ciphertext, CkksError> {
        let mut sums = self.linear(cts, &[weights], target)?;
        sums.pop().ok_or(CkksError::Count {
            count: 0,
            min: 1,
            max: 1,
        })
    }

    /// A linear layer given by the rows of a dense matrix: [`Self::mac_scalars`] for each, reading the ciphertexts once.
    ///
    /// # Errors
    /// Those of [`Self::mac_scalars`].
    pub fn linear(
        &self,
        cts: &[&Ciphertext],
        rows: &[&[f64]],
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        if let Some(row) = rows.iter().find(|row| row.len() != cts.len()) {
            return Err(CkksError::Count {
                count: row.len(),
                min: cts.len(),
                max: cts.len(),
            });
        }
        if rows.is_empty() && !cts.is_empty() {
            return Ok(Vec::new());
        }
        self.apply(&LinearMap::dense(cts.len(), rows.concat())?, cts, target)
    }

    /// A linear layer, each of its sums as [`Self::mac_scalars`] makes it from the inputs that it reads.
    ///
    /// Ciphertexts of degree 2 stay so: it is cheaper to relinearise after a layer that has fewer outputs than inputs.
    ///
    /// # Errors
    /// Those of [`Self::mac_scalars`].
    pub fn apply(
        &self,
        map: &LinearMap,
        cts: &[&Ciphertext],
        target: Target,
    ) -> Result<Vec<Ciphertext>, CkksError> {
        let mut outputs = Vec::new();
        self.apply_into(map, cts, target, &mut outputs)?;
        Ok(outputs)
    }

    /// [`Self::apply`] into ciphertexts that are there already, whatever they are: their memory is used again, their number
    /// made to fit. After an error they are as they were.
    ///
    /// # Errors
    /// Those of [`Self::mac_scalars`].
    pub fn apply_into(
        &self,
        map: &LinearMap,
        cts: &[&Ciphertext],
        target: Target,
        outputs: &mut Vec<Ciphertext>,
    ) -> Result<(), CkksError> {
        let inputs = self.check_inputs(map, cts, target)?;
        let weights = IntegerWeights::new(map, cts.iter().map(|ct| &ct.budget), target.scale)?;
        for budget in weights.budgets() {
            self.check_budget(target.level, budget)?;
        }
        let ring = self.context().ring(target.level)?;
        let slots = map.widest(|k| cts[k].slots);
        self.prepare(outputs, &inputs, ring, weights.budgets(), &slots);
        if let Some(matrix) = weights.small()? {
            return Ok(matrix.apply(&mut products(ring, cts, inputs.degree, outputs))?);
        }
        for (prime, m) in ring.moduli().iter().enumerate() {
            for part in 0..=inputs.degree {
                let present = |k: usize| cts[k].parts.len() > part;
                let matrix = weights.residues(m, present)?;
                let sources: Vec<&[u64]> = (0..cts.len())
                    .filter(|&k| present(k))
                    .map(|k| cts[k].parts[part].residues(prime))
                    .collect();
                let mut sums: Vec<&mut [u64]> = outputs
                    .iter_mut()
                    .map(|sum| sum.parts[part].residues_mut(prime))
                    .collect();
                matrix.apply(&sources, &mut sums)?;
            }
        }
        Ok(())
    }

    /// Checks the inputs of a layer against its matrix, its target and one another.
    fn check_inputs<'a>(
        &self,
        map: &LinearMap,
        cts: &[&'a Ciphertext],
        target: Target,
    ) -> Result<Inputs<'a>, CkksError> {
        let first = match cts.first() {
            Some(first) if cts.len() == map.inputs() => first,
            _ => {
                return Err(CkksError::Count {
                    count: cts.len(),
                    min: map.inputs(),
                    max: map.inputs(),
                });
            }
        };
        check_scale(target.scale)?;
        for ct in cts {
            self.check_input(ct, first, target)?;
        }
        Ok(Inputs {
            first,
            degree: cts.iter().map(|ct| ct.degree()).max().unwrap_or(1),
            level: target.level,
        })
    }

    /// Checks one input of a layer: it belongs to this preset, to the key of the `first`, and to a level that can be
    /// read at that of the target.
    fn check_input(&self, ct: &Ciphertext, first: &Ciphertext, target: Target) -> Result<(), CkksError> {
        self.check_preset(ct)?;
        if ct.key != first.key {
            return Err(CkksError::KeyMismatch);
        }
        if ct.level < target.level {
            return Err(CkksError::LevelRange {
                level: target.level,
                max: ct.level,
            });
        }
        Ok(())
    }

    /// Makes `outputs` one ciphertext per budget and number of slots, of the degree of the inputs, with stale residues.
    fn prepare(
        &self,
        outputs: &mut Vec<Ciphertext>,
        inputs: &Inputs<'_>,
        ring: &Arc<Ring>,
        budgets: &[Budget],
        slots: &[usize],
    ) {
        outputs.truncate(budgets.len());
        let (preset, key) = (inputs.first.preset, inputs.first.key);
        while outputs.len() < budgets.len() {
            outputs.push(Ciphertext {
                preset,
                key,
                level: inputs.level,
                slots: 1,
                budget: budgets[outputs.len()],
                parts: Vec::new(),
                seed: None,
            });
        }
        for ((sum, &budget), &slots) in outputs.iter_mut().zip(budgets).zip(slots) {
            sum.parts.truncate(inputs.degree + 1);
            sum.parts.iter_mut().for_each(|part| part.reshape(ring));
            while sum.parts.len() <= inputs.degree {
                sum.parts.push(Poly::zero(ring));
            }
            (sum.preset, sum.key) = (preset, key);
            (sum.level, sum.slots) = (inputs.level, slots);
            (sum.budget, sum.seed) = (budget, None);
        }
    }
}

/// The products of a layer, for each part and prime.
fn products<'a>(
    ring: &'a Ring,
    cts: &[&'a Ciphertext],
    degree: usize,
    outputs: &'a mut [Ciphertext],
) -> Vec<Product<'a>> {
    let primes = ring.moduli().len();
    let mut products: Vec<Product<'_>> = (0..=degree)
        .flat_map(|part| ring.moduli().iter().enumerate().map(move |at| (part, at)))
        .map(|(part, (prime, modulus))| Product {
            modulus,
            inputs: cts
                .iter()
                .map(|ct| ct.parts.get(part).map(|part| part.residues(prime)))
                .collect(),
            outputs: Vec::with_capacity(outputs.len()),
        })
        .collect();
    for sum in outputs {
        for (part, products) in sum.parts.iter_mut().zip(products.chunks_exact_mut(primes)) {
            let residues = part.data_mut().chunks_exact_mut(ring.degree());
            for (residues, product) in residues.zip(products) {
                product.outputs.push(residues);
            }
        }
    }
    products
}

/// What the inputs of a layer have in common.
struct Inputs<'a> {
    first: &'a Ciphertext,
    /// Largest degree.
    degree: usize,
    /// Level at which they are read.
    level: usize,
}
