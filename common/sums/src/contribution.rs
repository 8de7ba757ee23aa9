//! A contribution: one signed header, and one blob of ciphertexts that the header names by digest.

use crate::authored::{Authored, CONTRIBUTION};
use crate::blob::{BlobReader, Subject};
use crate::error::SumsError;
use crate::round::Round;
use galen_core::{Digest, PartyId};
use galen_rns::poly::Poly;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Read;

/// Length of a seed.
pub const SEED_LEN: usize = 32;
/// What HPKE adds to a plaintext: the encapsulated X25519 key (32 bytes) and the Poly1305 tag (16 bytes).
pub const SEAL_OVERHEAD: usize = 48;

/// Everything that a contributor says of its contribution; signed as one statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContributionHeader {
    /// Digest of the round record.
    pub record: Digest,
    /// Whose contribution it is.
    pub contributor: PartyId,
    /// Digest of the model that it starts from.
    pub base: Digest,
    /// SHA-256 of the ciphertext blob.
    pub ciphertext: Digest,
    /// Length of the ciphertext blob.
    pub ciphertext_len: u64,
    /// Hash of each piece's seed, in the order of the pieces.
    pub seed_hashes: Vec<Digest>,
    /// For each custodian of the round: the seeds of the pieces that it holds, sealed to its one-round key.
    pub sealed: BTreeMap<PartyId, Vec<u8>>,
}

/// Checks what is public of a contribution's header: signature, role, round, base and form.
///
/// # Errors
/// What does not hold, naming the contributor.
pub fn check_header(round: &Round, authored: &Authored) -> Result<ContributionHeader, SumsError> {
    let author = &authored.author;
    if !round.roster().is_contributor(author) {
        return Err(SumsError::Role {
            party: author.clone(),
            role: "contributor",
        });
    }
    let header: ContributionHeader = authored.open(round.roster(), CONTRIBUTION)?;
    let refuse = |what| {
        Err(SumsError::Header {
            kind: "contribution",
            author: author.clone(),
            what,
        })
    };
    if header.contributor != *author {
        return refuse("it names another contributor than its signer");
    }
    if header.record != *round.digest() {
        return Err(SumsError::Record {
            author: author.clone(),
        });
    }
    let expected = round.record().base;
    if header.base != expected {
        return Err(SumsError::Base {
            contributor: author.clone(),
            found: header.base,
            expected,
        });
    }
    if header.ciphertext_len != round.plan().blob_len() {
        return refuse("its blob does not have the plan's length");
    }
    if header.seed_hashes.len() != round.roster().pieces().len() {
        return refuse("it does not have one seed hash per piece");
    }
    if !header.sealed.keys().eq(round.custodians().keys()) {
        return refuse("its seeds are not sealed to exactly the custodians of the round");
    }
    let fits = |(custodian, sealed): (&PartyId, &Vec<u8>)| {
        sealed.len() == round.held_by(custodian).len() * SEED_LEN + SEAL_OVERHEAD
    };
    if !header.sealed.iter().all(fits) {
        return refuse("its sealed seeds do not have the length that the pieces ask for");
    }
    Ok(header)
}

/// Reads a ciphertext blob to its end, checks that it conforms to the plan, and returns its digest.
///
/// # Errors
/// [`SumsError::Blob`].
pub fn check_blob(round: &Round, contributor: &PartyId, from: impl Read) -> Result<Digest, SumsError> {
    let check = || {
        let mut reader = BlobReader::new(round, &Subject::Contribution(contributor.clone()), from)?;
        let mut block = Poly::zero(round.ring());
        for _ in 0..round.plan().blocks() {
            reader.read_block(&mut block)?;
        }
        // It was hashed, so there is a digest; no digest would be that of no blob.
        Ok(reader.finish()?.unwrap_or_default())
    };
    check().map_err(|source| SumsError::blob(contributor, source))
}
