//! What a compiled model needs, costs and promises.

use crate::bounds::Bound;
use crate::circuit::{Residues, Spill};
use crate::serving::ServingKey;
use crate::way::Way;
use galen_ckks::context::Context;
use serde::{Deserialize, Serialize};

/// What precision is promised by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// A bound on the noise that holds for every input within its range, with overwhelming probability.
    Guaranteed,
    /// An estimate for inputs like those that were recorded in training: noises are taken to be independent of one another, with the
    /// same margin in deviations as the bound has, and to be multiplied by values of at most twice the root mean square that was recorded
    /// (where none was, by the largest one). A patient with larger values gets an answer with more noise.
    Expected,
}

/// What a program needs, costs and promises.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// Name of the standard CKKS preset.
    pub preset: String,
    /// Ring degree N.
    pub degree: usize,
    /// Bits of the modulus of the keys, QP.
    pub log2_qp: u32,
    /// Largest log2 QP with 128-bit security at this degree.
    pub security_bound: u32,
    /// Outputs of the model: ciphertexts of an answer.
    pub outputs: usize,
    /// Multiplicative levels from inputs to answer.
    pub levels: usize,
    /// Ciphertexts in a batch: one per model input, or one in all where batches are packed.
    pub inputs: usize,
    /// Slots of a patient where all values of some patients are packed into one ciphertext; `None`: a patient in every slot.
    pub packed_width: Option<usize>,
    /// Patients in a batch, at most: one per slot, or as many as have the width.
    pub max_patients: usize,
    /// No logit of a patient within the input ranges is larger than this; an answer beyond is refused.
    pub logit_bound: f64,
    /// What the precision is promised by.
    pub precision: Precision,
    /// Bits after the binary point of the outputs that are right, after re-randomisation.
    pub precision_bits: f64,
    /// Bits after the binary point to which logits are rounded, as asked for.
    pub rounded_bits: u32,
    /// Bits of flooding that the answer has room for beside that precision; see
    /// [`rerandomise`](galen_ckks::keys::PublicKey::rerandomise) for what they hide. `None`: the noise of the answer is not flooded.
    pub flooding_bits: Option<u32>,
    /// Bytes of a batch, whatever the number of patients.
    pub batch_bytes: usize,
    /// Bytes of a serving key, sent once.
    pub serving_key_bytes: usize,
    /// Bytes of an answer.
    pub answer_bytes: usize,
    /// Encrypted squares.
    pub squares: u64,
    /// Relinearisations.
    pub relinearisations: u64,
    /// Multiplications of a ciphertext by a scalar.
    pub multiply_adds: u64,
    /// Multiplications of a ciphertext by a plaintext.
    pub products: u64,
    /// Rotations.
    pub rotations: u64,
    /// Residues read, multiplied and added for a batch, in thousands: what evaluation time goes by.
    pub cost: u64,
    /// The same by kind.
    pub residues: Residues,
    /// Bytes of encoded matrices that are kept from batch to batch; 0 if there are none, or they are encoded for each.
    pub kept_bytes: u64,
    /// Bytes of all ciphertexts that the coordinator holds in memory at one time, at most, the batch and what is kept included.
    pub peak_bytes: u64,
    /// What goes through the coordinator's disk where [`Memory`](crate::Memory) says that ciphertexts may wait there.
    pub spilled: Option<Spilled>,
}

/// Ciphertexts of a batch that wait on disk, in bytes as they are in memory; packed, as files are, they are smaller by a tenth to a half.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Spilled {
    /// On disk at one time, at most.
    pub disk_bytes: u64,
    /// Written in all.
    pub written_bytes: u64,
    /// Read in all.
    pub read_bytes: u64,
}

/// Bytes that cross the network. All follow from the preset and the numbers of ciphertexts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Sizes {
    /// Of a batch, whatever the number of patients.
    pub batch: usize,
    /// Of a serving key, sent once.
    pub key: usize,
    /// Of an answer.
    pub answer: usize,
}

impl Sizes {
    /// Of batches and answers of so many ciphertexts, and of keys for a packing of this width, if there is one.
    pub(crate) fn new(
        context: &Context,
        level: usize,
        (inputs, outputs): (usize, usize),
        width: Option<usize>,
    ) -> Self {
        // Header and stated bounds, see the table in `galen_ckks::codec`.
        const HEADER: usize = 39;
        const FIELDS: usize = 63;
        const SEED: usize = 32;
        let preset = context.preset();
        let poly = |level: usize| -> usize {
            let primes = preset.primes().iter().take(level + 1);
            primes
                .map(|&p| (prime_bits(p) * preset.degree()).div_ceil(8))
                .sum()
        };
        Self {
            batch: HEADER + 4 + inputs * (FIELDS + SEED + poly(level)),
            key: ServingKey::bytes_of(context, width),
            answer: HEADER + 4 + outputs * (FIELDS + 2 * poly(0)),
        }
    }
}

impl Plan {
    pub(crate) fn new(
        context: &Context,
        way: &Way,
        inputs: usize,
        answers: &[Bound],
        (precision, precision_bits, rounded_bits): (Precision, f64, u32),
        flooding_bits: Option<u32>,
    ) -> Self {
        let preset = context.preset();
        let degree = preset.degree();
        let width = way.packing().map(|packing| packing.width);
        let ciphertexts = match way {
            Way::Slots(..) => (inputs, way.outputs()),
            Way::Packed(_) => (1, 1),
        };
        let sizes = Sizes::new(context, way.level(), ciphertexts, width);
        let (work, (kept_bytes, peak_bytes)) = match way {
            Way::Slots(circuit, _) => (circuit.work(degree), (0, circuit.peak_bytes(degree))),
            Way::Packed(packed) => (packed.work(degree), packed.bytes(degree)),
        };
        let unit = f64::from(way.shift()).exp2();
        let level = way.level();
        let largest = answers.iter().map(|a| a.budget.magnitude).fold(0.0, f64::max);
        Self {
            preset: preset.name().to_owned(),
            degree,
            log2_qp: preset.log2_qp(),
            security_bound: preset.security_bound().unwrap_or(0),
            outputs: way.outputs(),
            levels: level,
            inputs: ciphertexts.0,
            packed_width: width,
            max_patients: context.slots() / width.unwrap_or(1),
            logit_bound: largest * unit,
            precision,
            precision_bits,
            rounded_bits,
            flooding_bits,
            batch_bytes: sizes.batch,
            serving_key_bytes: sizes.key,
            answer_bytes: sizes.answer,
            squares: work.squares,
            relinearisations: work.relinearisations,
            multiply_adds: work.multiply_adds,
            products: work.products,
            rotations: work.rotations,
            cost: work.cost,
            residues: work.residues,
            kept_bytes,
            peak_bytes: kept_bytes + peak_bytes,
            spilled: None,
        }
    }

    /// The same with values that wait on disk.
    pub(crate) fn spilling(self, spill: &Spill) -> Self {
        Self {
            peak_bytes: spill.held_bytes,
            spilled: Some(Spilled {
                disk_bytes: spill.disk_bytes,
                written_bytes: spill.written_bytes,
                read_bytes: spill.read_bytes,
            }),
            ..self
        }
    }
}

/// Bits of a prime, rounded up.
fn prime_bits(prime: u64) -> usize {
    (u64::BITS - (prime - 1).leading_zeros()) as usize
}
