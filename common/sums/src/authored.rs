//! Signed statements that carry their author's name.

use crate::error::SumsError;
use crate::roster::Roster;
use galen_core::{Digest, PartyId, Signed, SigningKey, StudyDigest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Signature domain of a custodian's one-round key.
pub const ONE_ROUND_KEY: &str = "galen sums one-round key v1";
/// Signature domain of a round record.
pub const ROUND_RECORD: &str = "galen sums round record v1";
/// Signature domain of a contribution's header.
pub const CONTRIBUTION: &str = "galen sums contribution v1";
/// Signature domain of a custodian's endorsement of a set.
pub const ENDORSEMENT: &str = "galen sums endorsement v1";
/// Signature domain of a custodian's word that the seeds of a proposed set fit; it binds nobody.
pub const CHECKED: &str = "galen sums set checked v1";
/// Signature domain of a custodian's word that it gave an attempt up.
pub const ABANDONED: &str = "galen sums attempt abandoned v1";
/// Signature domain of a custodian's incarnation.
pub const INCARNATION: &str = "galen sums incarnation v1";
/// Signature domain of a custodian's confirmation of another one's incarnation.
pub const CONFIRMATION: &str = "galen sums incarnation confirmed v1";
/// Signature domain of a custodian's word that another one has come back from an old disk.
pub const STALE: &str = "galen sums incarnation stale v1";
/// Signature domain of a custodian's answer.
pub const ANSWER: &str = "galen sums answer v1";
/// Signature domain of a contributor's fingerprint.
pub const FINGERPRINT: &str = "galen sums fingerprint v1";
/// Signature domain of a custodian's check of single pieces.
pub const KEY_CHECK: &str = "galen sums key check v1";

/// A statement with the name of the member that signed it. The name is a claim until [`Authored::open`] has checked
/// the signature under the key that the study has for that name; statements repeat it inside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authored {
    /// Who signed.
    pub author: PartyId,
    /// What was signed.
    pub statement: Signed,
}

impl Authored {
    /// Signs a statement.
    ///
    /// # Errors
    /// [`SumsError::Signature`] if the statement cannot be encoded.
    pub fn sign<T: Serialize>(
        key: &SigningKey,
        author: &PartyId,
        domain: &str,
        study: &StudyDigest,
        statement: &T,
    ) -> Result<Self, SumsError> {
        let statement = key
            .sign(domain, study, statement)
            .map_err(|source| refused(author, source))?;
        Ok(Self {
            author: author.clone(),
            statement,
        })
    }

    /// Checks the signature under the study's key of the author, and decodes.
    ///
    /// # Errors
    /// [`SumsError::Role`] for an author outside of the study, [`SumsError::Signature`] otherwise.
    pub fn open<T: DeserializeOwned>(&self, roster: &Roster, domain: &str) -> Result<T, SumsError> {
        let key = roster.signing(&self.author).ok_or_else(|| SumsError::Role {
            party: self.author.clone(),
            role: "member",
        })?;
        self.statement
            .open(domain, roster.study(), key)
            .map_err(|source| refused(&self.author, source))
    }

    /// Digest of the signed bytes and the signature.
    pub fn digest(&self) -> Digest {
        self.statement.digest()
    }
}

fn refused(author: &PartyId, source: galen_core::SignError) -> SumsError {
    SumsError::Signature {
        author: author.to_string(),
        source,
    }
}
