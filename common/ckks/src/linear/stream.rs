//! Linear layers over ciphertexts that come and go one after the other.

use super::map::LinearMap;
use super::weights::{add_term, empty_sum};
use crate::ciphertext::Ciphertext;
use crate::context::{Target, check_scale};
use crate::error::CkksError;
use crate::evaluate::Evaluator;
use galen_rns::kernel::{Kernels, WeightMatrix};
use galen_rns::poly::Poly;
use rayon::prelude::*;
use std::collections::VecDeque;

/// An output some of whose inputs have been read.
struct Partial {
    /// Inputs and weights that it has yet to read.
    rest: VecDeque<(usize, f64)>,
    /// Nothing before the first of its inputs.
    sum: Option<Ciphertext>,
}

impl Evaluator {
    /// [`Self::apply`] without holding inputs or outputs: takes the inputs from `source` in order, `block` of them at a
    /// time, hands each sum to `then` (which may rescale it, square it, or leave it as it is) when the last of its inputs
    /// has been read, and what comes of it to `sink`, in the order of the outputs.
    ///
    /// In memory are one block of inputs, and the outputs from the first whose inputs have not all been read to the last that has
    /// read any. A convolution whose outputs are ordered by place holds few at any time, a dense layer all. All inputs
    /// are of one degree.
    ///
    /// Sums and bounds are those of [`Self::apply`]; what would overflow or have too little precision is refused when its sum is complete.
    ///
    /// # Errors
    /// Those of `source` and `sink`; those of [`Self::apply`] and of `then`; [`CkksError::Count`] if there are not exactly as
    /// many inputs as the map reads; [`CkksError::CiphertextDegree`] for mixed degrees.
    pub fn stream<E: From<CkksError>>(
        &self,
        map: &LinearMap,
        target: Target,
        block: usize,
        source: impl IntoIterator<Item = Result<Ciphertext, E>>,
        then: impl Fn(usize, Ciphertext) -> Result<Ciphertext, CkksError> + Sync,
        mut sink: impl FnMut(Ciphertext) -> Result<(), E>,
    ) -> Result<(), E> {
        check_scale(target.scale)?;
        let mut source = source.into_iter();
        let mut layer = StreamedLayer {
            evaluator: self,
            map,
            target,
            first: None,
            read: 0,
            emitted: 0,
            started: VecDeque::new(),
            beginnings: beginnings(map),
            last: None,
        };
        loop {
            let inputs = source
                .by_ref()
                .take(block.max(1))
                .collect::<Result<Vec<_>, E>>()?;
            if inputs.is_empty() {
                break;
            }
            layer.read_block(&inputs)?;
            drop(inputs);
            let from = layer.emitted;
            let complete = layer.take_complete()?;
            let finished = complete
                .into_par_iter()
                .enumerate()
                .map(|(at, sum)| then(from + at, sum))
                .collect::<Result<Vec<_>, CkksError>>()?;
            finished.into_iter().try_for_each(&mut sink)?;
        }
        if layer.read != map.inputs() {
            return Err(layer.count_error(layer.read).into());
        }
        Ok(())
    }
}

struct StreamedLayer<'a> {
    evaluator: &'a Evaluator,
    map: &'a LinearMap,
    target: Target,
    /// A sum without terms, of the key and degree of the first input.
    first: Option<Ciphertext>,
    /// Inputs read.
    read: usize,
    /// Outputs given away.
    emitted: usize,
    /// Outputs from the next to give away to the last one that read an input.
    started: VecDeque<Partial>,
    /// First input and index of the outputs that have read none, the earliest at the end.
    beginnings: Vec<(usize, usize)>,
    /// The last output that read an input.
    last: Option<usize>,
}

/// The first input and index of each output that reads any, the earliest input at the end.
fn beginnings(map: &LinearMap) -> Vec<(usize, usize)> {
    let first = |output: usize| Some((map.row(output).next()?.0, output));
    let mut beginnings: Vec<(usize, usize)> = (0..map.outputs()).filter_map(first).collect();
    beginnings.sort_unstable_by(|a, b| b.cmp(a));
    beginnings
}

impl StreamedLayer<'_> {
    fn count_error(&self, count: usize) -> CkksError {
        let inputs = self.map.inputs();
        CkksError::Count {
            count,
            min: inputs,
            max: inputs,
        }
    }

    /// Adds the part of every sum that reads these inputs.
    fn read_block(&mut self, inputs: &[Ciphertext]) -> Result<(), CkksError> {
        let end = self.read + inputs.len();
        if end > self.map.inputs() {
            return Err(self.count_error(end));
        }
        self.check(inputs)?;
        while let Some((_, output)) = self.beginnings.pop_if(|(input, _)| *input < end) {
            self.last = self.last.max(Some(output));
        }
        while self
            .last
            .is_some_and(|last| self.emitted + self.started.len() <= last)
        {
            let output = self.emitted + self.started.len();
            self.started.push_back(Partial {
                rest: self.map.row(output).collect(),
                sum: None,
            });
        }
        let mut rows = Vec::new();
        let mut readers = Vec::new();
        for partial in &mut self.started {
            let taken = partial.rest.partition_point(|&(input, _)| input < end);
            if taken == 0 {
                continue;
            }
            let terms: Vec<(usize, f64)> = partial.rest.drain(..taken).collect();
            let sum = match partial.sum.take() {
                Some(sum) => sum,
                None => self.evaluator.empty_output(&inputs[0], self.target)?,
            };
            let sum = partial.sum.insert(sum);
            let mut row = Vec::with_capacity(taken);
            for (input, weight) in terms {
                let ct = &inputs[input - self.read];
                let (integer, budget) = add_term(&sum.budget, &ct.budget, input, weight, self.target.scale)?;
                (sum.budget, sum.slots) = (budget, sum.slots.max(ct.slots));
                row.push((input - self.read, integer));
            }
            rows.push(row);
            readers.push(sum);
        }
        self.read = end;
        let kernels = Kernels::active();
        let ring = self.evaluator.context().ring(self.target.level)?;
        let mut block_sums = vec![0u64; readers.len() * ring.degree()];
        for (prime, m) in ring.moduli().iter().enumerate() {
            let residues: Vec<Vec<(usize, u64)>> = rows
                .iter()
                .map(|row| row.iter().map(|&(k, w)| (k, m.reduce_i128(w))).collect())
                .collect();
            let matrix = if self.map.is_dense() {
                let weights: Vec<u64> = residues.iter().flatten().map(|&(_, w)| w).collect();
                WeightMatrix::dense(m, inputs.len(), &weights)?
            } else {
                WeightMatrix::sparse(m, inputs.len(), &residues)?
            };
            for part in 0..inputs[0].parts.len() {
                let sources: Vec<&[u64]> = inputs.iter().map(|ct| ct.parts[part].residues(prime)).collect();
                let mut terms: Vec<&mut [u64]> = block_sums.chunks_exact_mut(ring.degree()).collect();
                matrix.apply(&sources, &mut terms)?;
                readers.par_iter_mut().zip(&terms).for_each(|(sum, terms)| {
                    kernels.add_assign(m, sum.parts[part].residues_mut(prime), terms)
                });
            }
        }
        Ok(())
    }

    /// Checks a block of inputs, and keeps what later ones have to agree with.
    fn check(&mut self, inputs: &[Ciphertext]) -> Result<(), CkksError> {
        let first = match self.first.take() {
            Some(first) => first,
            None => self.evaluator.empty_output(&inputs[0], self.target)?,
        };
        let first = self.first.insert(first);
        for ct in inputs {
            self.evaluator.check_input(ct, first, self.target)?;
            if ct.parts.len() != first.parts.len() {
                return Err(CkksError::CiphertextDegree {
                    degree: ct.degree(),
                    needed: first.degree(),
                });
            }
        }
        Ok(())
    }

    /// The outputs that are complete, from the next to give away on.
    fn take_complete(&mut self) -> Result<Vec<Ciphertext>, CkksError> {
        let mut complete = Vec::new();
        while self.emitted < self.map.outputs() {
            let sum = match self.started.front_mut() {
                Some(partial) if partial.rest.is_empty() => {
                    let sum = partial.sum.take();
                    self.started.pop_front();
                    sum
                }
                // Not started: complete only if it reads nothing.
                None if self.map.row(self.emitted).next().is_none() => None,
                _ => break,
            };
            let sum = match (sum, &self.first) {
                (Some(sum), _) => sum,
                (None, Some(first)) => first.clone(),
                (None, None) => break,
            };
            self.evaluator.check_budget(self.target.level, &sum.budget)?;
            complete.push(sum);
            self.emitted += 1;
        }
        Ok(complete)
    }
}

impl Evaluator {
    /// A sum without terms, of the key and degree of `like`.
    fn empty_output(&self, like: &Ciphertext, target: Target) -> Result<Ciphertext, CkksError> {
        let ring = self.context().ring(target.level)?;
        Ok(Ciphertext {
            preset: like.preset,
            key: like.key,
            level: target.level,
            slots: 1,
            budget: empty_sum(target.scale),
            parts: like.parts.iter().map(|_| Poly::zero(ring)).collect(),
            seed: None,
        })
    }
}
