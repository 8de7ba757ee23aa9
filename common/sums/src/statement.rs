//! The short statements around a round: what went wrong with a set, what a receiver derived, what is released.

use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};

/// Signature domain of [`SeedsRefused`].
pub const SEEDS_REFUSED: &str = "galen seeds refused v1";
/// Signature domain of [`FingerprintRefused`].
pub const FINGERPRINT_REFUSED: &str = "galen fingerprint refused v1";
/// Signature domain of [`Opened`].
pub const OPENED: &str = "galen sum opened v1";
/// Signature domain of [`OpeningFailed`].
pub const OPENING_FAILED: &str = "galen opening failed v1";
/// Signature domain of [`Judged`].
pub const JUDGED: &str = "galen key checks judged v1";
/// Signature domain of [`Release`].
pub const RELEASE: &str = "galen model release v1";

/// A custodian names a contributor whose sealed seeds do not open or do not fit their hashes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedsRefused {
    /// Digest of the round record.
    pub record: Digest,
    /// The contributor.
    pub contributor: PartyId,
}

/// A receiver names a contributor that signed another fingerprint than that of its ciphertexts. Whoever has the ciphertexts can see for
/// itself: the contributor's header names them, and its fingerprint is signed too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintRefused {
    /// Digest of the round record.
    pub record: Digest,
    /// The contributor.
    pub contributor: PartyId,
}

/// A receiver opened the sum of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Digest of the round record.
    pub record: Digest,
    /// Digest of the state that the receiver derived from the sum.
    pub result: Digest,
    /// Largest remainder that it met, in units of the ciphertext modulus; at most the plan's noise bound.
    pub max_noise: u64,
}

/// A receiver could not open the sum of a round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpeningFailed {
    /// Digest of the round record.
    pub record: Digest,
    /// Why, without values.
    pub detail: String,
    /// What does not fit.
    pub fault: OpeningFault,
}

/// What keeps a sum from opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpeningFault {
    /// A remainder is not small or a sum is out of range: some answer or some contribution is wrong.
    Remainder,
    /// The contributions do not add up to the sum.
    Sum,
    /// Something else.
    Other,
    /// It opens, and no study could have it: values in range that do not fit each other.
    Meaning,
}

/// A receiver compared the custodians' key checks with their answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Judged {
    /// Digest of the round record.
    pub record: Digest,
    /// Custodians whose answers were wrong, ascending; none if the fault is elsewhere.
    pub liars: Vec<PartyId>,
    /// Custodians whose answers may be wrong, ascending: other holders of one of their pieces disagree with them, with no majority.
    pub doubted: Vec<PartyId>,
    /// In words.
    pub detail: String,
}

/// A contributor agrees that the model goes where the study says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// SHA-256 of the model blob.
    pub model: Digest,
}
