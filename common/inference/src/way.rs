//! The two ways in which a program computes.

use crate::circuit::{Circuit, Spill};
use crate::packed::{Packed, Packing};

/// How a program computes.
#[derive(Debug)]
pub(crate) enum Way {
    /// A ciphertext for every value, a patient in every slot. Some may wait on disk.
    Slots(Circuit, Option<Spill>),
    /// All values of some patients in one ciphertext.
    Packed(Box<Packed>),
}

impl Way {
    /// Level of the inputs.
    pub(crate) fn level(&self) -> usize {
        match self {
            Self::Slots(circuit, _) => circuit.level(),
            Self::Packed(packed) => packed.circuit.level(),
        }
    }

    /// Scale of the inputs.
    pub(crate) fn input_scale(&self) -> f64 {
        match self {
            Self::Slots(circuit, _) => circuit.input_scale(),
            Self::Packed(packed) => packed.circuit.input_scale(),
        }
    }

    /// Outputs of the model.
    pub(crate) fn outputs(&self) -> usize {
        match self {
            Self::Slots(circuit, _) => circuit.outputs(),
            Self::Packed(packed) => packed.circuit.outputs(),
        }
    }

    /// Binary places by which results are smaller than outputs.
    pub(crate) fn shift(&self) -> u32 {
        match self {
            Self::Slots(circuit, _) => circuit.shift,
            // Scales are chosen to fit.
            Self::Packed(_) => 0,
        }
    }

    /// How batches are packed, if they are.
    pub(crate) fn packing(&self) -> Option<Packing> {
        match self {
            Self::Slots(..) => None,
            Self::Packed(packed) => Some(packed.packing),
        }
    }
}
