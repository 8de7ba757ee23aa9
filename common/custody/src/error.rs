//! What the secret half refuses, and under which stable code. No message holds a secret.

use crate::ledger::LedgerError;
use galen_core::{Code, PartyId};
use galen_rns::RnsError;
use galen_sums::record::RoundId;
use galen_sums::{BlobError, SetFault, SumsError};

/// What the secret half of the sums refuses.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// A refusal of the public half.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// A step that the custodian's ledger does not allow.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The operating system gave no random bytes.
    #[error("the operating system gave no random bytes")]
    Random,
    /// A public key that nothing can be sealed to.
    #[error("nothing can be sealed to the key of \"{0}\"")]
    Seal(PartyId),
    /// Stored key bytes are not what was stored.
    #[error("the stored {0} cannot be read")]
    Key(&'static str),
    /// The one-round secret belongs to another round, or is not the one whose public half the record names.
    #[error("the one-round secret at hand is not that of {0}")]
    OtherSecret(RoundId),
    /// The wrong number of values.
    #[error("{given} values were given, the plan has {planned}")]
    ValueCount {
        /// Number given.
        given: usize,
        /// Number in the plan.
        planned: u64,
    },
    /// A value beyond the plan's bound.
    #[error("value {index} is beyond the plan's bound of {bound}")]
    ValueRange {
        /// Which value.
        index: usize,
        /// Largest absolute value.
        bound: u64,
    },
    /// Sealed seeds that do not open, or do not fit their hashes.
    #[error("the seeds of contributor \"{contributor}\" {what}")]
    Seeds {
        /// Whose seeds they are.
        contributor: PartyId,
        /// What is wrong.
        what: &'static str,
    },
    /// An answer that does not open or is not what its custodian signed.
    #[error("the answer of custodian \"{custodian}\" {what}")]
    Answer {
        /// Whose answer it is.
        custodian: PartyId,
        /// What is wrong.
        what: &'static str,
    },
    /// What was sealed to this party arrived otherwise than its custodian signed it. Who is at fault is whoever carried it.
    #[error("what custodian \"{custodian}\" sealed to this party is not at hand as it was signed")]
    Carried {
        /// Whose statement it belongs to.
        custodian: PartyId,
    },
    /// Answers that do not cover every piece exactly once.
    #[error("the answers cover piece {piece} {times} times, each must be covered once")]
    Pieces {
        /// Which piece.
        piece: u32,
        /// How often.
        times: usize,
    },
    /// A remainder that is not small, a sum beyond the bounds of the values, or filling that is not zero: some
    /// contribution was no encryption of values in range, or some answer was wrong.
    #[error("{bad} coefficients of the sum are out of bounds, the first in block {block}")]
    Remainder {
        /// How many.
        bad: u64,
        /// Block of the first.
        block: u32,
    },
    /// A fault of the ring arithmetic, which checked data cannot cause.
    #[error(transparent)]
    Rns(#[from] RnsError),
}

impl CustodyError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::Sums(error) => error.code(),
            Self::Ledger(error) => error.code(),
            Self::Seeds { .. } => Code::BadSeeds,
            Self::Answer { .. } | Self::Pieces { .. } | Self::ValueCount { .. } | Self::ValueRange { .. } => {
                Code::NotConforming
            }
            Self::Carried { .. } => Code::BlobMismatch,
            Self::OtherSecret(_) => Code::WrongRound,
            Self::Remainder { .. } => Code::BadRemainder,
            Self::Random | Self::Seal(_) | Self::Key(_) | Self::Rns(_) => Code::Internal,
        }
    }

    pub(crate) fn blob(whose: &str, source: BlobError) -> Self {
        SumsError::Blob {
            whose: whose.to_owned(),
            source,
        }
        .into()
    }
}

impl From<SetFault> for CustodyError {
    fn from(fault: SetFault) -> Self {
        SumsError::Set(fault).into()
    }
}
