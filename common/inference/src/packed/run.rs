//! The evaluation of a packed circuit, written once for ciphertexts and for their bounds.

use super::circuit::{PackedCircuit, Step, Sum};
use super::diagonals::parent;
use super::plains::Known;
use crate::circuit::Size;
use galen_ckks::CkksError;
use rayon::prelude::*;
use std::collections::BTreeMap;

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
    /// The sum of products with numbers whose absolute values in any one slot add up to at most `row`.
    fn products(&self, pairs: &[(&Self::Value, &Self::Plain)], row: f64) -> Result<Self::Value, CkksError>;
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
    /// The same where noise is expected to be at most this.
    fn expected(&self, a: Self::Value, noise: f64) -> Result<Self::Value, CkksError>;
}

impl PackedCircuit {
    /// Evaluates. `progress` gets steps done and steps in all.
    pub(crate) fn run<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        known: &Known<'_, A::Plain>,
        input: &A::Value,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<A::Value, CkksError> {
        let mut values: Vec<A::Value> = Vec::with_capacity(self.steps.len());
        let total = self.steps.len().saturating_sub(1) as u32;
        for (id, step) in self.steps.iter().enumerate() {
            let value = match step {
                Step::Input => input.clone(),
                Step::Square { of, divisions } => {
                    let square = arithmetic.squared(&values[*of], *divisions)?;
                    arithmetic.bounded(square, self.sizes[id])?
                }
                Step::Sum(sum) => {
                    let sum = self.sum(arithmetic, (id, sum), known, &values)?;
                    arithmetic.bounded(sum, self.sizes[id])?
                }
            };
            values.push(match self.noises.as_ref().and_then(|noises| noises.get(id)) {
                Some(&noise) => arithmetic.expected(value, noise)?,
                None => value,
            });
            if id > 0 {
                progress(id as u32, total);
            }
        }
        values.pop().ok_or(CkksError::NoLevelLeft)
    }

    /// A step that is a sum.
    fn sum<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        (id, sum): (usize, &Sum),
        known: &Known<'_, A::Plain>,
        values: &[A::Value],
    ) -> Result<A::Value, CkksError> {
        let vectors = self.babies(arithmetic, sum, values)?;
        let parts = self.parts(arithmetic, (id, sum), known, &vectors)?;
        let mut result = self.added(arithmetic, sum, parts)?;
        for _ in 0..sum.divisions {
            result = arithmetic.divided(result)?;
        }
        // Constants after the divisions, where their rounding is more than that of the encoding.
        let encoded;
        let constants = match known {
            Known::Prepared(prepared) => prepared.0[id].as_ref().and_then(|p| p.constants.as_ref()),
            Known::Encoded(encode) => {
                encoded = self.constants(sum, self.states[id], *encode)?;
                encoded.as_ref()
            }
        };
        match constants {
            Some(constants) => arithmetic.add_plain(&result, constants),
            None => Ok(result),
        }
    }

    /// The vectors of a sum at its level, each rotated by its baby steps.
    fn babies<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        sum: &Sum,
        values: &[A::Value],
    ) -> Result<Vec<BTreeMap<usize, A::Value>>, CkksError> {
        let rotated = |(&node, babies): (&usize, &std::collections::BTreeSet<usize>)| {
            let input = arithmetic.lowered(&values[node], sum.target.level)?;
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
            Ok(rotated)
        };
        let nodes = sum.linear.nodes.iter().zip(&sum.linear.rotations.babies);
        nodes.map(rotated).collect()
    }

    /// The products of every giant step, from the largest down.
    fn parts<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        (id, sum): (usize, &Sum),
        known: &Known<'_, A::Plain>,
        vectors: &[BTreeMap<usize, A::Value>],
    ) -> Result<Vec<A::Value>, CkksError> {
        let length = sum.linear.rotations.giant;
        let part = |plains: &[BTreeMap<usize, A::Plain>], giant: usize, row: f64| {
            let pairs: Vec<(&A::Value, &A::Plain)> = vectors
                .iter()
                .zip(plains)
                .flat_map(|(vectors, plains)| {
                    let own = plains.range(giant..giant + length);
                    own.map(move |(steps, plain)| (&vectors[&(steps % length)], plain))
                })
                .collect();
            arithmetic.bounded(arithmetic.products(&pairs, row)?, sum.linear.part())
        };
        let giants: Vec<(usize, f64)> = sum.linear.rows.iter().rev().map(|(&g, &r)| (g, r)).collect();
        match known {
            Known::Prepared(prepared) => {
                let plains = prepared.0[id].as_ref().map_or(&[][..], |p| &p.diagonals);
                let parts = giants
                    .into_par_iter()
                    .map(|(giant, row)| part(plains, giant, row));
                parts.collect()
            }
            // One after the other, so that no more than one has its plaintexts.
            Known::Encoded(encode) => {
                let parts = giants.into_iter().map(|(giant, row)| {
                    let plains = self.diagonals(sum, giant..giant + length, *encode)?;
                    part(&plains, giant, row)
                });
                parts.collect()
            }
        }
    }

    /// The parts of a sum rotated by their giant steps and added up, and then over what the vector is longer than the result.
    fn added<A: SlotArithmetic>(
        &self,
        arithmetic: &A,
        sum: &Sum,
        parts: Vec<A::Value>,
    ) -> Result<A::Value, CkksError> {
        let rotations = &sum.linear.rotations;
        let by = |a: &A::Value, steps: usize| arithmetic.rotate(a, steps * self.lanes);
        let add = |a: &A::Value, b: &A::Value| arithmetic.bounded(arithmetic.add(a, b)?, sum.linear.part());
        let mut all: Option<A::Value> = None;
        for (part, hops) in parts.into_iter().zip(rotations.giant_hops()) {
            let mut own = match all {
                Some(all) => add(&all, &part)?,
                None => part,
            };
            for hop in hops {
                own = by(&own, hop)?;
            }
            all = Some(own);
        }
        let mut all = all.ok_or(CkksError::NoLevelLeft)?;
        for &fold in &rotations.folds {
            all = add(&all, &by(&all, fold)?)?;
        }
        Ok(all)
    }
}
