//! Few patients at a time: one ciphertext holds all values of some patients, and matrices are products with rotations of it.
//!
//! A batch with one ciphertext for each input costs the same for one patient as for thousands. Here the slots are divided among the *lanes*, of
//! which each is a patient's: element e of a vector is in slot `place(e) * lanes + lane`, so that a rotation by a multiple of the lanes moves the
//! elements of all patients alike, and cyclically. A batch is one ciphertext, an answer another one.
//!
//! Keys for rotations by powers of two are enough, and tell nothing of the model but its width: baby steps are made from one another (those from the
//! same one share its digits), and giant steps one after the other (Horner's rule), which costs more time than keys for all of them would, and takes a quarter of their bytes.
//!
//! `balance` makes values of one size, `order` says where elements lie, `diagonals` what a matrix becomes, and `structure` chooses. `circuit` lays out, `plains` encodes, `run` evaluates with the
//! operations of `arithmetic` on ciphertexts and on bounds; `expected` and `work` say how noisy and how costly that is. `choice` finds preset and scales.

mod arithmetic;
mod balance;
mod choice;
mod circuit;
mod diagonals;
mod expected;
mod order;
mod plains;
mod run;
mod structure;
mod work;

pub(crate) use arithmetic::Rotating;
pub(crate) use circuit::{Bits, PackedCircuit};
pub(crate) use diagonals::Places;
pub(crate) use order::Order;

use crate::circuit::Work;
use galen_ckks::CkksError;
use galen_ckks::ciphertext::{Ciphertext, Plaintext};
use galen_ckks::context::Context;
use plains::{Known, Prepared};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};
use work::Bytes;

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

/// A packed circuit with its plaintexts.
#[derive(Debug)]
pub(crate) struct Packed {
    pub(crate) circuit: PackedCircuit,
    pub(crate) packing: Packing,
    plains: Plains,
}

/// Whether plaintexts are kept from batch to batch.
#[derive(Debug)]
enum Plains {
    /// Once they have been encoded.
    Kept(Mutex<Option<Arc<Prepared<Plaintext>>>>),
    /// They are encoded where they are used.
    Encoded,
}

impl Packed {
    fn new(circuit: PackedCircuit, packing: Packing, kept: bool) -> Self {
        let plains = if kept {
            Plains::Kept(Mutex::default())
        } else {
            Plains::Encoded
        };
        Self {
            circuit,
            packing,
            plains,
        }
    }

    /// What there is to do for a batch under a preset of this degree.
    pub(crate) fn work(&self, degree: usize) -> Work {
        let kept = matches!(self.plains, Plains::Kept(_));
        self.circuit.work(degree, kept)
    }

    /// Bytes of encoded matrices that are kept, and of everything beside them that is held at one time, at most.
    pub(crate) fn bytes(&self, degree: usize) -> (u64, u64) {
        let Bytes {
            matrices,
            step,
            ciphertexts,
        } = self.circuit.bytes(degree);
        match self.plains {
            Plains::Kept(_) => (matrices, ciphertexts),
            Plains::Encoded => (0, ciphertexts + step),
        }
    }

    /// Evaluates. Where plaintexts are kept, the first call encodes them.
    pub(crate) fn run(
        &self,
        arithmetic: &Rotating<'_>,
        input: &Ciphertext,
        progress: &mut dyn FnMut(u32, u32),
    ) -> Result<Ciphertext, CkksError> {
        let context = arithmetic.inner.evaluator.context();
        let encode = |numbers: &plains::Numbers<'_>| arithmetic::encode(context, numbers);
        let Plains::Kept(kept) = &self.plains else {
            return self
                .circuit
                .run(arithmetic, &Known::Encoded(&encode), input, progress);
        };
        let locked = || kept.lock().unwrap_or_else(PoisonError::into_inner);
        let before = locked().as_ref().map(Arc::clone);
        let prepared = match before {
            Some(prepared) => prepared,
            // Not under the lock: a thread that waits for others takes up other work, and that may be of this program.
            None => {
                let made = Arc::new(self.circuit.prepare(&encode)?);
                Arc::clone(locked().get_or_insert(made))
            }
        };
        let known = Known::Prepared(&prepared);
        self.circuit.run(arithmetic, &known, input, progress)
    }
}
