//! Giving an attempt up.

use crate::record::RoundId;
use serde::{Deserialize, Serialize};

/// Signature domain of [`Abandoned`].
pub const ABANDONED: &str = "galen sums abandoned v1";

/// A custodian's word that it endorses no set in this attempt any more. It excludes an endorsement for the same attempt; g of them
/// are the certificate without which no other attempt of the round is taken part in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Abandoned {
    /// The attempt.
    pub round: RoundId,
}
