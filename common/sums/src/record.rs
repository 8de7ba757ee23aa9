//! The round record: what a round is about, announced before anything is encrypted.

use crate::audit::AuditHead;
use crate::authored::{Authored, ONE_ROUND_KEY, ROUND_RECORD};
use crate::error::SumsError;
use crate::plan::SumPlan;
use galen_core::hash::digest_of;
use galen_core::study::Purpose;
use galen_core::{Digest, PartyId, Signed, SigningKey, StudyDigest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt;

/// A round and its attempt. Rounds are numbered through the whole study, whatever their purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RoundId {
    /// Number of the round in the study.
    pub round: u32,
    /// Number of the attempt in the round.
    pub attempt: u32,
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "round {} attempt {}", self.round, self.attempt)
    }
}

/// A custodian's HPKE key for one attempt of one round, signed by its long-term key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneRoundKey {
    /// For which round and attempt.
    pub round: RoundId,
    /// Whose key it is.
    pub custodian: PartyId,
    /// X25519 public key.
    pub key: [u8; 32],
    /// Nonce of the incarnation under which the custodian gives out the key ([`crate::incarnation`]). It signs nothing for
    /// a record that has another one.
    pub incarnation: Digest,
    /// Number of the custodian's ledger entry, which only grows: by it peers notice a ledger that is older than this key.
    pub seq: u64,
}

impl OneRoundKey {
    /// Signs the key.
    ///
    /// # Errors
    /// [`SumsError::Signature`] if it cannot be encoded.
    pub fn sign(&self, key: &SigningKey, study: &StudyDigest) -> Result<Authored, SumsError> {
        Authored::sign(key, &self.custodian, ONE_ROUND_KEY, study, self)
    }
}

/// What became of an earlier attempt of the round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Earlier {
    /// g custodians gave it up, so that it is never opened ([`crate::abandon`]).
    Abandoned(Vec<Authored>),
    /// It was not given up: the sum over these contributors may be open. Custodians endorse a further set only as far as all such
    /// sums together tell nothing about fewer than `min_contributors` members.
    Standing(BTreeSet<PartyId>),
}

/// The announcement of one attempt of a round, signed by the coordinator. Its digest is bound into every contribution,
/// endorsement and answer, and the common polynomials `a_j` are expanded from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoundRecord {
    /// Digest of the study.
    pub study: StudyDigest,
    /// What the sum is for.
    pub purpose: Purpose,
    /// Round and attempt.
    pub round: RoundId,
    /// Parameters of the sum.
    pub plan: SumPlan,
    /// Digest of the model that contributions start from.
    pub base: Digest,
    /// The custodians' signed [`OneRoundKey`]s.
    pub custodians: Vec<Authored>,
    /// Head of the audit log when the record was fixed. Nobody acts on a record unless the log up to here extends the copy that it has.
    pub audit: AuditHead,
    /// Confirmations of the incarnations in these keys, by at least g-1 other custodians each.
    pub confirmations: Vec<Authored>,
    /// What became of each earlier attempt of the round, from the first on.
    pub earlier: Vec<Earlier>,
}

impl RoundRecord {
    /// Digest of the whole record.
    ///
    /// # Errors
    /// [`SumsError::Encoding`], which no record causes.
    pub fn digest(&self) -> Result<Digest, SumsError> {
        Ok(digest_of(ROUND_RECORD, self)?)
    }

    /// Signs the record with the coordinator's key.
    ///
    /// # Errors
    /// [`SumsError::Signature`] if it cannot be encoded.
    pub fn sign(&self, coordinator: &SigningKey) -> Result<Signed, SumsError> {
        coordinator
            .sign(ROUND_RECORD, &self.study, self)
            .map_err(|source| SumsError::Signature {
                author: "coordinator".into(),
                source,
            })
    }
}
