//! Computes and stores the sum over a closed set of contributions.

use galen_core::{Digest, PartyId};
use galen_net::protocol::BlobKind;
use galen_store::{BlobReader, BlobStore, StoreError};
use galen_sums::SumsError;
use galen_sums::adder::{self, Bytes, Source};
use galen_sums::round::Round;
use galen_sums::set::ContributionSet;
use std::io::{self, Read, Write};
use std::sync::mpsc;

/// A sum that could not be computed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddingError {
    /// The contributions do not add up to a sum of this round.
    #[error(transparent)]
    Sums(#[from] SumsError),
    /// A blob cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The writing half ended early.
    #[error("the sum could not be stored")]
    Interrupted,
}

/// Adds the contributions of a set block by block and stores the sum as a blob; returns its digest.
///
/// Memory and open files do not grow with the number of contributors: the adder opens the blobs when it needs them, and
/// writes into a bounded channel from which the blob store reads.
pub fn add(
    round: &Round,
    set: &ContributionSet,
    ciphertexts: Vec<(PartyId, Digest)>,
    blobs: &BlobStore,
    owner: &PartyId,
) -> Result<Digest, AddingError> {
    let mut sources = Vec::with_capacity(ciphertexts.len());
    for (contributor, digest) in ciphertexts {
        if blobs.info(&digest)?.is_none() {
            return Err(StoreError::BlobUnknown { digest }.into());
        }
        sources.push(Source {
            contributor,
            digest,
            blob: Spooled { blobs, digest },
        });
    }
    let (sender, receiver) = mpsc::sync_channel(4);
    std::thread::scope(|scope| {
        let storing = scope.spawn(move || {
            blobs.import(
                Receiving {
                    receiver,
                    rest: Vec::new(),
                    at: 0,
                },
                BlobKind::Sum as u16,
                owner,
            )
        });
        let mut out = Sending(sender);
        let computed = adder::add(round, set, &sources, &mut out);
        if computed.is_ok() {
            // Without this mark the reader takes the end for a failure, so half a sum is never stored.
            let _ = out.0.send(Vec::new());
        }
        drop(out);
        let stored = storing.join().map_err(|_| AddingError::Interrupted)?;
        let (stored, digest) = match (stored, computed) {
            (Ok((stored, _)), Ok(digest)) => (stored, digest),
            // The adder failed, and the store found the end missing.
            (Err(StoreError::Io { source, .. }), Err(error))
                if source.kind() == io::ErrorKind::UnexpectedEof =>
            {
                return Err(error.into());
            }
            // The store failed, and the adder found its output closed.
            (Err(error), _) => return Err(error.into()),
            (Ok(_), Err(error)) => return Err(error.into()),
        };
        if stored == digest {
            Ok(digest)
        } else {
            Err(AddingError::Interrupted)
        }
    })
}

/// A contribution in the blob store.
struct Spooled<'s> {
    blobs: &'s BlobStore,
    digest: Digest,
}

impl Bytes for Spooled<'_> {
    // The store compares digests when blobs arrive, and its files are encrypted with authentication.
    const AUTHENTIC: bool = true;
    type Reader = BlobReader;

    fn open_at(&self, offset: u64) -> io::Result<BlobReader> {
        self.blobs
            .open_read_at(&self.digest, offset)
            .map_err(io::Error::other)
    }
}

struct Sending(mpsc::SyncSender<Vec<u8>>);

impl Write for Sending {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        self.0
            .send(bytes.to_vec())
            .map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Receiving {
    receiver: mpsc::Receiver<Vec<u8>>,
    rest: Vec<u8>,
    at: usize,
}

impl Read for Receiving {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            match self.receiver.recv() {
                Ok(next) => (self.rest, self.at) = (next, 0),
                Err(_) => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        let n = self.rest[self.at..].len().min(out.len());
        out[..n].copy_from_slice(&self.rest[self.at..self.at + n]);
        self.at += n;
        Ok(n)
    }
}
