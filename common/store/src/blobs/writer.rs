//! Writing a blob, in one go or over several connections.

use super::segments::{Buffer, SEGMENT_BYTES, Segments};
use super::{BlobInfo, BlobStore, Lease, Stored, locked};
use crate::error::StoreError;
use galen_core::{Digest, PartyId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// File name extension of blobs whose digest is known only at their end; they cannot be resumed. Capitals, because in its place stands the
/// owner of other partial files, and no party name has any.
pub(super) const IMPORT: &str = "IMPORT";

/// Appends to a partial blob. Dropping it keeps what has arrived in whole segments ([`SEGMENT_BYTES`]); the rest of the last one is
/// lost, so a resumed upload starts at a multiple of the segment size.
pub struct BlobWriter(State);

enum State {
    Open(Box<Growing>),
    /// The owner delivered this blob before.
    Complete {
        digest: Digest,
        info: BlobInfo,
    },
}

struct Growing {
    store: BlobStore,
    target: Option<Target>,
    kind: u16,
    owner: PartyId,
    segments: Segments,
    /// Segments in the file.
    written: u64,
    /// Plaintext that follows them. A full buffer is written only when more follows, because the last segment is marked as such.
    buffer: Buffer,
    hash: ring::digest::Context,
    expected: Option<u64>,
    failed: bool,
}

struct Target {
    digest: Digest,
    lease: Lease,
    number: u64,
}

impl BlobWriter {
    pub(super) fn begin(
        store: &BlobStore,
        digest: &Digest,
        kind: u16,
        owner: &PartyId,
    ) -> Result<Self, StoreError> {
        let lease = store.lease(digest, owner);
        let mut current = locked(&lease);
        *current += 1;
        let number = *current;
        if let Some(info) = store.info(digest)?
            && info.has_owner(owner)
        {
            return Ok(Self(State::Complete {
                digest: *digest,
                info,
            }));
        }
        let path = store.partial_path(digest, kind, owner);
        let files = &store.0.files;
        if !files.exists(&path) {
            drop(files.create(&path)?);
        }
        let open = || {
            files
                .open_to_change(&path)
                .map_err(StoreError::io(&path, "cannot open"))
        };
        let crypter = &store.0.crypter;
        let mut segments = match Segments::open(crypter, open()?, &path)? {
            Some(segments) => segments,
            None => {
                let file = open()?;
                file.set_len(0)
                    .map_err(StoreError::io(&path, "cannot truncate"))?;
                Segments::create(crypter, file, &path)?
            }
        };
        // The hash of what has arrived is not stored but computed again. This also finds where a crash tore the file: everything
        // from the first segment that does not decrypt is discarded.
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        let mut written = 0;
        let mut buffer = Buffer::new();
        while segments.read(written, false, SEGMENT_BYTES, &mut buffer)? {
            hash.update(buffer.bytes());
            written += 1;
        }
        segments.truncate(written)?;
        drop(current);
        let target = Some(Target {
            digest: *digest,
            lease,
            number,
        });
        Ok(Self::growing(store, target, kind, owner, segments, written, hash))
    }

    pub(super) fn import(store: &BlobStore, kind: u16, owner: &PartyId) -> Result<Self, StoreError> {
        let name = Digest(galen_core::random::bytes()?);
        let path = store.0.partial.join(name.to_hex()).with_extension(IMPORT);
        let segments = Segments::create(&store.0.crypter, store.0.files.create(&path)?, &path)?;
        let hash = ring::digest::Context::new(&ring::digest::SHA256);
        Ok(Self::growing(store, None, kind, owner, segments, 0, hash))
    }

    fn growing(
        store: &BlobStore,
        target: Option<Target>,
        kind: u16,
        owner: &PartyId,
        segments: Segments,
        written: u64,
        hash: ring::digest::Context,
    ) -> Self {
        Self(State::Open(Box::new(Growing {
            store: store.clone(),
            target,
            kind,
            owner: owner.clone(),
            segments,
            written,
            buffer: Buffer::new(),
            hash,
            expected: None,
            failed: false,
        })))
    }

    /// Plaintext bytes held so far.
    pub fn offset(&self) -> u64 {
        match &self.0 {
            State::Open(growing) => growing.held(),
            State::Complete { info, .. } => info.len,
        }
    }

    /// States the total length, once it is known. From then on `append` refuses more bytes than that, and `finish` fewer.
    ///
    /// # Errors
    /// [`StoreError::BlobTooLong`] if more bytes than that are held already: the earlier ones belonged to something else. They are
    /// discarded, so that the next upload starts anew.
    pub fn expect_len(&mut self, len: u64) -> Result<(), StoreError> {
        match &mut self.0 {
            State::Open(growing) => growing.expect_len(len),
            State::Complete { digest, info } if info.len != len => Err(StoreError::BlobTooLong {
                digest: *digest,
                expected: len,
            }),
            State::Complete { .. } => Ok(()),
        }
    }

    /// Appends bytes.
    pub fn append(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match &mut self.0 {
            _ if bytes.is_empty() => Ok(()),
            State::Open(growing) => growing.append(bytes),
            State::Complete { digest, info } => Err(StoreError::BlobTooLong {
                digest: *digest,
                expected: info.len,
            }),
        }
    }

    /// Verifies length and digest and makes the blob durable.
    ///
    /// # Errors
    /// [`StoreError::BlobTruncated`] if bytes are missing (what has arrived is kept); [`StoreError::BlobMismatch`] if the digest does
    /// not fit (what has arrived is removed).
    pub fn finish(self) -> Result<BlobInfo, StoreError> {
        self.finish_as_is().map(|(_, info)| info)
    }

    pub(super) fn finish_as_is(self) -> Result<(Digest, BlobInfo), StoreError> {
        match self.0 {
            State::Open(growing) => growing.finish(),
            State::Complete { digest, info } => Ok((digest, info)),
        }
    }
}

impl Growing {
    fn held(&self) -> u64 {
        self.written * SEGMENT_BYTES as u64 + self.buffer.len() as u64
    }

    /// The digest announced; zero for an import, which has none yet.
    fn announced(&self) -> Digest {
        self.target
            .as_ref()
            .map_or_else(Digest::default, |target| target.digest)
    }

    /// Runs a change of the file, unless a newer writer holds the lease or an earlier change failed midway.
    fn change<R>(
        &mut self,
        change: impl FnOnce(&mut Self) -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let lease = self
            .target
            .as_ref()
            .map(|target| (Arc::clone(&target.lease), target.number));
        let current = lease.as_ref().map(|(lease, number)| (locked(lease), *number));
        let superseded = current
            .as_ref()
            .is_some_and(|(current, number)| **current != *number);
        if superseded || self.failed {
            return Err(StoreError::BlobSuperseded {
                digest: self.announced(),
            });
        }
        let result = change(self);
        self.failed = result.is_err();
        result
    }

    fn expect_len(&mut self, len: u64) -> Result<(), StoreError> {
        self.change(|this| {
            if this.held() > len {
                this.store.0.files.remove(this.segments.path())?;
                return Err(StoreError::BlobTooLong {
                    digest: this.announced(),
                    expected: len,
                });
            }
            this.expected = Some(len);
            Ok(())
        })
    }

    fn append(&mut self, mut bytes: &[u8]) -> Result<(), StoreError> {
        if let Some(expected) = self.expected
            && self.held().saturating_add(bytes.len() as u64) > expected
        {
            return Err(StoreError::BlobTooLong {
                digest: self.announced(),
                expected,
            });
        }
        self.change(|this| {
            this.hash.update(bytes);
            while !bytes.is_empty() {
                if this.buffer.len() == SEGMENT_BYTES {
                    this.segments.write(this.written, false, &mut this.buffer)?;
                    this.written += 1;
                }
                bytes = this.buffer.fill(bytes);
            }
            Ok(())
        })
    }

    fn finish(mut self: Box<Self>) -> Result<(Digest, BlobInfo), StoreError> {
        let len = self.held();
        if let Some(expected) = self.expected
            && len < expected
        {
            return Err(StoreError::BlobTruncated {
                digest: self.announced(),
                held: len,
                expected,
            });
        }
        self.change(|this| this.complete(len))
    }

    fn complete(&mut self, len: u64) -> Result<(Digest, BlobInfo), StoreError> {
        let mut digest = Digest::default();
        digest.0.copy_from_slice(self.hash.clone().finish().as_ref());
        let partial = self.segments.path().to_owned();
        if let Some(target) = &self.target
            && target.digest != digest
        {
            self.store.0.files.remove(&partial)?;
            return Err(StoreError::BlobMismatch {
                digest: target.digest,
                found: digest,
            });
        }
        self.segments.write(self.written, true, &mut self.buffer)?;
        self.segments.sync()?;

        let store = self.store.clone();
        let _completing = locked(store.completing(&digest));
        let stored = match store.0.records.get(digest.0)? {
            // Another owner delivered the same bytes: its file stays, this one goes.
            Some(mut stored) => {
                stored.info.owners.insert(self.owner.clone());
                store.0.records.put(digest.0, &stored)?;
                store.0.files.remove(&partial)?;
                stored
            }
            None => {
                let path = store.path(&digest);
                if let Some(shelf) = path.parent() {
                    store.0.files.create_dir(shelf)?;
                }
                store.0.files.rename(&partial, &path)?;
                let info = BlobInfo {
                    len,
                    kind: self.kind,
                    owners: BTreeSet::from([self.owner.clone()]),
                };
                let stored = Stored {
                    info,
                    file: self.segments.id(),
                };
                store.0.records.put(digest.0, &stored)?;
                stored
            }
        };
        Ok((digest, stored.info))
    }
}

impl Drop for Growing {
    fn drop(&mut self) {
        // An import cannot be resumed. After `complete` its file has moved, and there is nothing to remove.
        let files = &self.store.0.files;
        if self.target.is_none() && files.exists(self.segments.path()) {
            let _ = files.remove(self.segments.path());
        }
    }
}
