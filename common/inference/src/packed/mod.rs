//! Few patients at a time: one ciphertext holds all values of some patients, and matrices are products with rotations of it.
//!
//! A batch with one ciphertext for each input costs the same for one patient as for thousands. Here the slots are divided among the *lanes*, of
//! which each is a patient's: element e of a vector is in slot `place(e) * lanes + lane`, so that a rotation by a multiple of the lanes moves the
//! elements of all patients alike, and cyclically. A batch is one ciphertext, an answer another one.
//!
//! Keys for rotations by powers of two are enough, and tell nothing of the model but its width: baby steps are made from one another (those from the
//! same one share its digits), and giant steps one after the other (Horner's rule), which costs more time than keys for all of them would, and takes a quarter of their bytes.
//!
//! `balance` makes values of one size, `order` says where elements lie, `diagonals` what a matrix becomes, `structure` chooses, `circuit` lays out and evaluates, `arithmetic` on
//! ciphertexts and on bounds, and `choice` finds preset and scales.

mod arithmetic;
mod balance;
mod choice;
mod circuit;
mod diagonals;
mod order;
mod structure;

pub(crate) use arithmetic::Rotating;
pub(crate) use circuit::{Bits, PackedCircuit};
pub(crate) use diagonals::Places;
pub(crate) use order::Order;

use crate::circuit::Circuit;
use circuit::Prepared;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::Context;
use serde::{Deserialize, Serialize};
use std::sync::{Mutex, PoisonError};

/// How batches are packed, as an interface says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Packing {
    /// Slots of a patient, a power of two.
    pub(crate) width: usize,
    /// Where inputs lie.
    pub(crate) order: Order,
}

impl Packing {
    /// Where `inputs` values lie; nothing if the packing cannot be, with so many slots in a ciphertext.
    pub(crate) fn places(&self, inputs: usize, slots: usize) -> Option<Places> {
        let possible = self.width.is_power_of_two() && (2..=slots).contains(&self.width);
        let places = possible.then(|| self.order.places(inputs, self.width))?;
        places.map(Places::new)
    }
}

/// The rotations, in slots, that keys are needed for: the powers of two from the number of lanes on.
pub(crate) fn rotations(context: &Context, width: usize) -> Vec<i64> {
    let lanes = context.slots() / width.max(1);
    let powers = core::iter::successors(Some(lanes as i64), |steps| Some(2 * steps));
    powers
        .take_while(|&steps| steps < context.slots() as i64)
        .collect()
}

/// A packed circuit, with its plaintexts once they have been encoded.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) circuit: PackedCircuit,
    pub(crate) packing: Packing,
    prepared: Mutex<Option<std::sync::Arc<Prepared<Plaintext>>>>,
}

impl Packed {
    fn new(circuit: PackedCircuit, packing: Packing) -> Self {
        Self {
            circuit,
            packing,
            prepared: Mutex::default(),
        }
    }

    /// Evaluates. The first call encodes what is known.
    pub(crate) fn run(
        &self,
        arithmetic: &Rotating<'_>,
        input: &Ciphertext,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Ciphertext, CkksError> {
        let context = arithmetic.inner.evaluator.context();
        let prepared = {
            let mut kept = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            match &*kept {
                Some(prepared) => std::sync::Arc::clone(prepared),
                None => {
                    let made = self
                        .circuit
                        .prepare(|numbers| arithmetic::encode(context, numbers))?;
                    std::sync::Arc::clone(kept.insert(std::sync::Arc::new(made)))
                }
            }
        };
        self.circuit.run(arithmetic, &prepared, input, progress)
    }
}

/// How a program computes.
#[derive(Debug)]
pub(crate) enum Way {
    /// A ciphertext for every value, a patient in every slot.
    Slots(Circuit),
    /// All values of some patients in one ciphertext.
    Packed(Box<Packed>),
}

impl Way {
    /// Level of the inputs.
    pub(crate) fn level(&self) -> usize {
        match self {
            Self::Slots(circuit) => circuit.level(),
            Self::Packed(packed) => packed.circuit.level(),
        }
    }

    /// Scale of the inputs.
    pub(crate) fn input_scale(&self) -> f64 {
        match self {
            Self::Slots(circuit) => circuit.input_scale(),
            Self::Packed(packed) => packed.circuit.input_scale(),
        }
    }

    /// Outputs of the model.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Slots(circuit) => circuit.outputs(),
            Self::Packed(packed) => packed.circuit.outputs(),
        }
    }

    /// Binary places by which results are smaller than outputs.
    pub(crate) fn shift(&self) -> u32 {
        match self {
            Self::Slots(circuit) => circuit.shift,
            // Scales are chosen to fit.
            Self::Packed(_) => 0,
        }
    }

    /// How batches are packed, if they are.
    pub(crate) fn packing(&self) -> Option<Packing> {
        match self {
            Self::Slots(_) => None,
            Self::Packed(packed) => Some(packed.packing),
        }
    }
}
