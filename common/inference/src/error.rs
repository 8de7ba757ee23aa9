//! Why a model cannot be compiled, and why a batch cannot be evaluated.

use crate::shelf::ShelfError;
use galen_ckks::CkksError;
use std::path::PathBuf;

/// A model that cannot be compiled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompileError {
    /// A layer that cannot be evaluated.
    #[error("{layer} cannot be evaluated encrypted: {why}")]
    Unsupported {
        /// Its place and kind.
        layer: String,
        /// Why, and what to do.
        why: &'static str,
    },
    /// Not one range per input.
    #[error("{found} input ranges, the model has {expected} inputs")]
    Ranges {
        /// Inputs of the model.
        expected: usize,
        /// Ranges given.
        found: usize,
    },
    /// A model file without ranges of its inputs.
    #[error(
        "the model file does not say where its inputs lie: record its training data, or declare their ranges"
    )]
    NotRecorded,
    /// A range that is empty, infinite or not a number.
    #[error("the range of input {input} is {min} to {max}")]
    Range {
        /// Index of the input.
        input: usize,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
    },
    /// An earlier choice that does not fit the model any more.
    #[error(
        "the choice of {preset} that was kept does not fit the model ({reason}): compile the model again"
    )]
    Stale {
        /// The preset that was chosen.
        preset: String,
        /// What does not fit.
        reason: String,
    },
    /// No standard preset is large enough.
    #[error(
        "no preset has {levels} levels and {precision_bits} bits of precision for this model ({reason}); \
         ask for fewer bits, or train with a stronger penalty or decay, so that values stay smaller"
    )]
    NoPreset {
        /// Levels needed.
        levels: usize,
        /// Precision asked for.
        precision_bits: u32,
        /// Why the largest one that was tried did not do.
        reason: String,
    },
    /// Every way that is precise enough holds more ciphertexts than memory is allowed.
    #[error(
        "evaluating a batch takes {needed_mib} MiB for ciphertexts at least, {allowed_mib} MiB are allowed: {advice}, ask for fewer bits, \
         or train a smaller network (fewer channels, larger strides)"
    )]
    Memory {
        /// MiB for the way that takes the least.
        needed_mib: u64,
        /// MiB that are allowed.
        allowed_mib: u64,
        /// What can be done about memory.
        advice: &'static str,
    },
    /// The encryption library failed.
    #[error(transparent)]
    Ckks(#[from] CkksError),
}

/// A batch that cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Not one ciphertext per input.
    #[error("the batch has {found} ciphertexts, the program takes {expected}")]
    Inputs {
        /// Inputs of the program.
        expected: usize,
        /// Ciphertexts of the batch.
        found: usize,
    },
    /// More bytes than a batch has.
    #[error("the batch has {bytes} bytes, the program takes {max}")]
    TooLong {
        /// Bytes given.
        bytes: usize,
        /// Bytes of every batch.
        max: usize,
    },
    /// A ciphertext of another level, scale or degree than the program takes, or with larger stated bounds.
    #[error("ciphertext {input} is not an input of this program: {what}")]
    NotAnInput {
        /// Its index.
        input: usize,
        /// What does not fit.
        what: &'static str,
    },
    /// A ciphertext under another key than the serving key's.
    #[error("ciphertext {input} is encrypted under another key than the serving key belongs to")]
    ForeignKey {
        /// Its index.
        input: usize,
    },
    /// Ciphertexts that are to wait on disk cannot.
    #[error("{path}: {source}")]
    Disk {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A key for another way to pack patients than the program's: its rotations are missing, or not those of the program.
    #[error("the serving key is of the set {found}, the program takes {needed}")]
    KeySet {
        /// Keys that the program takes.
        needed: String,
        /// Keys that were given.
        found: String,
    },
    /// The encryption library refused: malformed bytes, another preset.
    #[error(transparent)]
    Ckks(#[from] CkksError),
}

impl From<ShelfError> for RunError {
    fn from(error: ShelfError) -> Self {
        match error {
            ShelfError::Io { path, source } => Self::Disk { path, source },
            ShelfError::Ckks(error) => Self::Ckks(error),
        }
    }
}
