//! The weights of a layer for given ciphertexts: integers, their residues, and the bounds of the sums.

use super::map::LinearMap;
use crate::encoding::scaled_integer;
use crate::error::CkksError;
use crate::noise::Budget;
use galen_rns::kernel::{IntegerMatrix, WeightMatrix};
use galen_rns::modulus::Modulus;

/// The weights of a map as integers for inputs of given scales.
pub(super) struct IntegerWeights<'a> {
    map: &'a LinearMap,
    /// One per weight of the map, in its order.
    integers: Vec<i128>,
    /// One per output.
    budgets: Vec<Budget>,
}

impl<'a> IntegerWeights<'a> {
    /// Weight w of an input of scale s becomes the integer nearest to `w * scale / s`.
    pub(super) fn new<'b>(
        map: &'a LinearMap,
        inputs: impl IntoIterator<Item = &'b Budget>,
        scale: f64,
    ) -> Result<Self, CkksError> {
        let inputs: Vec<&Budget> = inputs.into_iter().collect();
        let mut integers = Vec::with_capacity(map.terms());
        let mut budgets = Vec::with_capacity(map.outputs());
        for output in 0..map.outputs() {
            let mut budget = empty_sum(scale);
            for (input, weight) in map.row(output) {
                let (integer, sum) = add_term(&budget, inputs[input], input, weight, scale)?;
                budget = sum;
                integers.push(integer);
            }
            budgets.push(budget);
        }
        Ok(Self {
            map,
            integers,
            budgets,
        })
    }

    /// The bounds of the sums.
    pub(super) fn budgets(&self) -> &[Budget] {
        &self.budgets
    }

    /// The matrix for all primes, if its integers are small enough for one.
    pub(super) fn small(&self) -> Result<Option<IntegerMatrix>, CkksError> {
        let small = |&w: &i128| {
            i32::try_from(w)
                .ok()
                .filter(|w| w.unsigned_abs() <= IntegerMatrix::MAX_WEIGHT)
        };
        let inputs = self.map.inputs();
        if inputs > IntegerMatrix::MAX_COLS {
            return Ok(None);
        }
        let Some(integers) = self.integers.iter().map(small).collect::<Option<Vec<i32>>>() else {
            return Ok(None);
        };
        if self.map.is_dense() {
            return Ok(Some(IntegerMatrix::dense(inputs, &integers)?));
        }
        let rows: Vec<Vec<(usize, i32)>> = (0..self.map.outputs())
            .map(|output| {
                let terms = self.map.row(output).zip(&integers[self.map.range(output)]);
                terms.map(|((input, _), &w)| (input, w)).collect()
            })
            .collect();
        Ok(Some(IntegerMatrix::sparse(inputs, &rows)?))
    }

    /// The matrix modulo one prime, with columns only for the inputs that are `present`.
    pub(super) fn residues(
        &self,
        m: &Modulus,
        present: impl Fn(usize) -> bool,
    ) -> Result<WeightMatrix, CkksError> {
        let inputs = self.map.inputs();
        let mut column = 0;
        let columns: Vec<Option<usize>> = (0..inputs)
            .map(|input| {
                present(input).then(|| {
                    column += 1;
                    column - 1
                })
            })
            .collect();
        if self.map.is_dense() {
            let integers = self.integers.iter().zip(columns.iter().cycle());
            let residues: Vec<u64> = integers
                .filter(|(_, column)| column.is_some())
                .map(|(&w, _)| m.reduce_i128(w))
                .collect();
            return Ok(WeightMatrix::dense(m, column, &residues)?);
        }
        let rows: Vec<Vec<(usize, u64)>> = (0..self.map.outputs())
            .map(|output| {
                let terms = self.map.row(output).zip(&self.integers[self.map.range(output)]);
                terms
                    .filter_map(|((input, _), &w)| Some((columns[input]?, m.reduce_i128(w))))
                    .collect()
            })
            .collect();
        Ok(WeightMatrix::sparse(m, column, &rows)?)
    }
}

/// The bounds of a sum without terms. It is an exact zero; one unit of noise keeps its precision a number.
pub(super) fn empty_sum(scale: f64) -> Budget {
    Budget {
        scale,
        magnitude: 0.0,
        noise: 1.0,
    }
}

/// The integer of one weight, and the bounds of a sum with that term.
pub(super) fn add_term(
    sum: &Budget,
    input: &Budget,
    index: usize,
    weight: f64,
    scale: f64,
) -> Result<(i128, Budget), CkksError> {
    let (integer, exact) = scaled_integer(index, weight, scale / input.scale)?;
    // A double at the start and rounded to an integer, so it is exactly a double again.
    let term = input.weighted(weight, integer as f64, exact, scale);
    Ok((integer, sum.sum(&term)))
}
