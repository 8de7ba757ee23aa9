//! What is known of a packed circuit, encoded: the diagonals of its matrices, and constants.

use super::circuit::{PackedCircuit, Step, Sum};
use super::diagonals::largest;
use galen_ckks::CkksError;
use galen_ckks::context::Target;
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::ops::Range;

/// Known numbers to be encoded.
pub(crate) struct Numbers<'a> {
    /// Elements with their slots of a patient.
    elements: &'a [(usize, f64)],
    /// What slots are moved by, and repeat with.
    moved: usize,
    period: usize,
    circuit: &'a PackedCircuit,
    /// Bound on absolute values.
    pub(crate) magnitude: f64,
    pub(crate) level: usize,
    pub(crate) scale: f64,
}

impl Numbers<'_> {
    /// In all slots.
    pub(crate) fn slots(&self) -> Vec<f64> {
        let PackedCircuit {
            width, lanes, slots, ..
        } = *self.circuit;
        let mut all = vec![0.0; slots];
        for &(slot, value) in self.elements {
            let first = (slot + self.moved) & (self.period - 1);
            for place in (first..width).step_by(self.period) {
                all[place * lanes..(place + 1) * lanes].fill(value);
            }
        }
        all
    }
}

/// Makes a plaintext of known numbers.
pub(crate) type Encode<'a, P> = dyn Fn(&Numbers<'_>) -> Result<P, CkksError> + Sync + 'a;

/// The plaintexts of a sum.
#[derive(Debug)]
pub(super) struct Plains<P> {
    /// Of each matrix by rotation.
    pub(super) diagonals: Vec<BTreeMap<usize, P>>,
    pub(super) constants: Option<P>,
}

/// The plaintexts of a circuit, by step.
#[derive(Debug)]
pub(crate) struct Prepared<P>(pub(super) Vec<Option<Plains<P>>>);

/// Where an evaluation has plaintexts from.
pub(crate) enum Known<'a, P> {
    /// All of them were encoded before.
    Prepared(&'a Prepared<P>),
    /// They are encoded where they are used, those of one giant step at a time.
    Encoded(&'a Encode<'a, P>),
}

impl PackedCircuit {
    /// Encodes all that is known.
    pub(crate) fn prepare<P: Send>(&self, encode: &Encode<'_, P>) -> Result<Prepared<P>, CkksError> {
        let plains = |(step, &state): (&Step, &Target)| {
            let Step::Sum(sum) = step else { return Ok(None) };
            Ok(Some(Plains {
                diagonals: self.diagonals(sum, 0..usize::MAX, encode)?,
                constants: self.constants(sum, state, encode)?,
            }))
        };
        let steps = self.steps.iter().zip(&self.states);
        Ok(Prepared(steps.map(plains).collect::<Result<_, CkksError>>()?))
    }

    /// The diagonals of each matrix of a sum for rotations by `steps`.
    pub(super) fn diagonals<P: Send>(
        &self,
        sum: &Sum,
        steps: Range<usize>,
        encode: &Encode<'_, P>,
    ) -> Result<Vec<BTreeMap<usize, P>>, CkksError> {
        let matrices = sum.linear.diagonals.iter().zip(&sum.weights);
        let matrices = matrices.map(|(diagonals, &scale)| {
            let plain = |(&steps, elements): (&usize, &Vec<(usize, f64)>)| {
                let numbers = Numbers {
                    elements,
                    // Back by the giant step, which comes after the product.
                    moved: steps - steps % sum.linear.rotations.giant,
                    period: sum.linear.span,
                    circuit: self,
                    magnitude: largest(elements),
                    level: sum.target.level,
                    scale,
                };
                Ok((steps, encode(&numbers)?))
            };
            let diagonals: Vec<_> = diagonals.by_steps.range(steps.clone()).collect();
            diagonals.into_par_iter().map(plain).collect()
        });
        matrices.collect()
    }

    /// The constants of a sum at its level and scale, if it has any.
    pub(super) fn constants<P>(
        &self,
        sum: &Sum,
        state: Target,
        encode: &Encode<'_, P>,
    ) -> Result<Option<P>, CkksError> {
        let linear = &sum.linear;
        if linear.constant <= 0.0 {
            return Ok(None);
        }
        let constants = linear.places.slots.iter().zip(&linear.constants);
        let constants: Vec<(usize, f64)> = constants.map(|(&slot, &c)| (slot, c)).collect();
        let numbers = Numbers {
            elements: &constants,
            moved: 0,
            period: linear.places.period,
            circuit: self,
            magnitude: linear.constant,
            level: state.level,
            scale: state.scale,
        };
        encode(&numbers).map(Some)
    }
}
