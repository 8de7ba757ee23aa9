//! Adding ciphertexts: all that the coordinator does with them, and all that it can do.
//!
//! The blobs are read in lockstep, one block of each at a time, so that memory holds a few blocks whatever the length and the
//! number of the contributions, plus what the caller's readers keep. All of them are open at once: where that is more than the
//! system's limit of open files, hand in readers that open their file for each read. The order of the contributions
//! does not change the sum.

use crate::blob::{BlobReader, BlobWriter, Subject};
use crate::error::{SetFault, SumsError};
use crate::round::Round;
use crate::set::ContributionSet;
use galen_core::{Digest, PartyId};
use galen_rns::poly::{Coeff, Poly};
use std::collections::BTreeSet;
use std::io::{Read, Write};

/// One contribution to add.
pub struct Source<R> {
    /// Whose it is.
    pub contributor: PartyId,
    /// Digest of its blob, from its checked header.
    pub digest: Digest,
    /// Its blob.
    pub reader: R,
}

/// Adds the contributions of a set, writes the sum blob and returns its digest. What was written is to be thrown away on an
/// error: digests are known only at the end.
///
/// # Errors
/// [`SumsError::Set`] if the sources are not exactly the set, [`SumsError::Blob`] for a blob that does not conform or
/// is not the announced one.
pub fn add<R: Read>(
    round: &Round,
    set: &ContributionSet,
    sources: Vec<Source<R>>,
    out: impl Write,
) -> Result<Digest, SumsError> {
    set.check(round)?;
    let mut seen = BTreeSet::new();
    for source in &sources {
        if !set.members.contains_key(&source.contributor) {
            return Err(SetFault::Stranger(source.contributor.clone()).into());
        }
        if !seen.insert(&source.contributor) {
            return Err(SetFault::Repeated(source.contributor.clone()).into());
        }
    }
    if let Some(missing) = set.members.keys().find(|name| !seen.contains(name)) {
        return Err(SetFault::Contribution(missing.clone()).into());
    }

    let mut inputs = Vec::with_capacity(sources.len());
    for source in sources {
        let subject = Subject::Contribution(source.contributor.clone());
        let reader = BlobReader::new(round, &subject, source.reader)
            .map_err(|error| SumsError::blob(&source.contributor, error))?;
        inputs.push((source.contributor, source.digest, reader));
    }
    let of_sum = |error| SumsError::blob("the sum", error);
    let mut writer = BlobWriter::new(round, &Subject::Sum(set.digest()), out).map_err(of_sum)?;
    let mut block = Poly::<Coeff>::zero(round.ring());
    for _ in 0..round.plan().blocks() {
        let mut sum = Poly::<Coeff>::zero(round.ring());
        for (contributor, _, reader) in &mut inputs {
            reader
                .read_block(&mut block)
                .map_err(|error| SumsError::blob(&*contributor, error))?;
            sum.add_assign(&block)?;
        }
        writer.write_block(&sum).map_err(of_sum)?;
    }
    for (contributor, digest, reader) in inputs {
        reader
            .finish_with(&digest)
            .map_err(|error| SumsError::blob(&contributor, error))?;
    }
    writer.finish().map_err(of_sum)
}
