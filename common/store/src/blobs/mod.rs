//! Large immutable objects: one encrypted file each, named by the SHA-256 of its plaintext.
//!
//! A blob grows in `partial/` and moves to `blobs/<first digit>/<digest>` when it is complete and its digest fits. Only then
//! is it recorded in the database, so a record without a file cannot come from a crash, and a file without a record is swept at
//! the next start.

mod reader;
mod segments;
mod writer;

pub use reader::BlobReader;
pub use segments::SEGMENT_BYTES;
pub use writer::BlobWriter;

use crate::crypter::Crypter;
use crate::database::Database;
use crate::error::StoreError;
use crate::files::Files;
use crate::repository::Repository;
use crate::table::Table;
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const BLOBS: Table<Stored> = Table::new("blobs", *b"BLOB", 1);

/// Directories over which complete blobs are spread, by the first digit of their digests.
const SHELVES: usize = 16;

/// What is known of a complete blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobInfo {
    /// Length of the plaintext.
    pub len: u64,
    /// What the blob is; the daemons assign the numbers.
    pub kind: u16,
    /// Who sent or made it. Knowing a digest makes nobody an owner; only delivering all the bytes does.
    pub owners: BTreeSet<PartyId>,
}

impl BlobInfo {
    /// Whether a party sent or made this blob.
    pub fn has_owner(&self, party: &PartyId) -> bool {
        self.owners.contains(party)
    }
}

/// The database record of a complete blob.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Stored {
    info: BlobInfo,
    /// Ties the record to its file: a file put in place of another one does not decrypt.
    file: segments::FileId,
}

/// The blobs of a directory. Clones share it.
#[derive(Clone)]
pub struct BlobStore(Arc<Inner>);

/// An upload that has begun and not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partial {
    /// What is to become of it.
    pub digest: Digest,
    /// Its kind, as its writer was opened.
    pub kind: u16,
    /// Who sends it.
    pub owner: PartyId,
}

struct Inner {
    files: Files,
    blobs: PathBuf,
    partial: PathBuf,
    crypter: Crypter,
    records: Repository<Stored>,
    /// One for each shelf, held while a blob on it is completed or deleted, so that file and record change together.
    completing: [Mutex<()>; SHELVES],
    leases: Mutex<HashMap<(Digest, PartyId), Lease>>,
}

/// Which writer may append to a partial file: the one that holds the current number. A party that reconnects need not wait until
/// its dead connection has timed out.
type Lease = Arc<Mutex<u64>>;

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The guarded values stay consistent when a thread panics: each is changed in one assignment.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl BlobStore {
    /// Opens the blobs in `dir` and removes what a crash left half done. Partial uploads stay.
    pub(crate) fn open(files: &Files, dir: &Path, database: &Database) -> Result<Self, StoreError> {
        let store = Self(Arc::new(Inner {
            files: files.clone(),
            blobs: dir.join("blobs"),
            partial: dir.join("partial"),
            crypter: database.crypter().clone(),
            records: database.repository(&BLOBS)?,
            completing: std::array::from_fn(|_| Mutex::new(())),
            leases: Mutex::default(),
        }));
        files.create_dir(&store.0.blobs)?;
        files.create_dir(&store.0.partial)?;
        store.sweep()?;
        Ok(store)
    }

    fn sweep(&self) -> Result<(), StoreError> {
        let files = &self.0.files;
        for shelf in files.list(&self.0.blobs)? {
            for path in files.list(&shelf)? {
                let digest: Option<Digest> = path.file_name().and_then(|name| name.to_str()?.parse().ok());
                if let Some(digest) = digest
                    && !self.0.records.contains(digest.0)?
                {
                    tracing::info!(%digest, "removing a blob file that was never acknowledged");
                    files.remove(&path)?;
                }
            }
        }
        for path in files.list(&self.0.partial)? {
            // What is no upload is the rest of an import.
            if upload_of(&path).is_none() || self.is_delivered(&path)? {
                files.remove(&path)?;
            }
        }
        for record in self.0.records.iter() {
            let (key, _) = record?;
            let Ok(digest) = key.as_slice().try_into().map(Digest) else {
                continue;
            };
            if !files.exists(&self.path(&digest)) {
                tracing::warn!(%digest, "the file of a stored blob is gone; forgetting the blob so that it can be sent again");
                self.0.records.delete(key)?;
            }
        }
        Ok(())
    }

    /// Whether a partial file is of a blob that its owner has delivered completely.
    fn is_delivered(&self, partial: &Path) -> Result<bool, StoreError> {
        let Some(Partial { digest, owner, .. }) = upload_of(partial) else {
            return Ok(false);
        };
        let info = self.info(&digest)?;
        Ok(info.is_some_and(|info| info.has_owner(&owner)))
    }

    fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let shelf = hex.get(..1).unwrap_or_default();
        self.0.blobs.join(shelf).join(&hex)
    }

    fn completing(&self, digest: &Digest) -> &Mutex<()> {
        let [first, others @ ..] = &self.0.completing;
        let [byte, ..] = digest.0;
        others
            .get(usize::from(byte >> 4).wrapping_sub(1))
            .unwrap_or(first)
    }

    fn partial_path(&self, digest: &Digest, kind: u16, owner: &PartyId) -> PathBuf {
        self.0.partial.join(format!("{digest}.{kind}.{owner}"))
    }

    /// Opens a partial blob of this owner to append to it, or starts one.
    ///
    /// If the owner has delivered this blob before, the writer's offset is the blob's length and `finish` returns at once. If another owner
    /// has, this one still delivers all the bytes: a digest alone proves nothing.
    ///
    /// An earlier writer of the same blob and owner fails from then on with [`StoreError::BlobSuperseded`].
    pub fn begin(&self, digest: &Digest, kind: u16, owner: &PartyId) -> Result<BlobWriter, StoreError> {
        BlobWriter::begin(self, digest, kind, owner)
    }

    /// Stores bytes as a blob.
    pub fn put_bytes(&self, bytes: &[u8], kind: u16, owner: &PartyId) -> Result<Digest, StoreError> {
        let digest = Digest::of(bytes);
        let mut writer = self.begin(&digest, kind, owner)?;
        let held = usize::try_from(writer.offset()).unwrap_or(usize::MAX);
        writer.append(bytes.get(held..).unwrap_or_default())?;
        writer.finish()?;
        Ok(digest)
    }

    /// Stores everything that a reader gives as a blob; returns its digest and length.
    pub fn import(
        &self,
        mut reader: impl Read,
        kind: u16,
        owner: &PartyId,
    ) -> Result<(Digest, u64), StoreError> {
        let mut writer = BlobWriter::import(self, kind, owner)?;
        let mut buffer = vec![0; SEGMENT_BYTES];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => writer.append(buffer.get(..n).unwrap_or_default())?,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(StoreError::Io {
                        path: self.0.partial.clone(),
                        action: "cannot read what is to be stored",
                        source,
                    });
                }
            }
        }
        let len = writer.offset();
        let (digest, _) = writer.finish_as_is()?;
        Ok((digest, len))
    }

    /// What is known of a complete blob.
    pub fn info(&self, digest: &Digest) -> Result<Option<BlobInfo>, StoreError> {
        Ok(self.0.records.get(digest.0)?.map(|stored| stored.info))
    }

    /// Every complete blob, by digest.
    pub fn list(&self) -> Result<Vec<(Digest, BlobInfo)>, StoreError> {
        self.0
            .records
            .iter()
            .filter_map(|record| match record {
                Ok((key, stored)) => Some(Ok((Digest(key.as_slice().try_into().ok()?), stored.info))),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    /// Opens a complete blob.
    ///
    /// # Errors
    /// [`StoreError::BlobUnknown`] if it is not stored here.
    pub fn open_read(&self, digest: &Digest) -> Result<BlobReader, StoreError> {
        self.open_read_at(digest, 0)
    }

    /// Opens a complete blob for reading from an offset of the plaintext; at or past the end there is nothing to read.
    pub fn open_read_at(&self, digest: &Digest, offset: u64) -> Result<BlobReader, StoreError> {
        let stored = self
            .0
            .records
            .get(digest.0)?
            .ok_or(StoreError::BlobUnknown { digest: *digest })?;
        BlobReader::open(
            &self.0.files,
            &self.0.crypter,
            &self.path(digest),
            &stored.file,
            stored.info.len,
            offset,
        )
    }

    /// A whole blob in memory; for small ones.
    pub fn read(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let mut reader = self.open_read(digest)?;
        let mut bytes = Vec::with_capacity(usize::try_from(reader.len()).unwrap_or(0));
        while let Some(segment) = reader.next_segment()? {
            bytes.extend_from_slice(segment);
        }
        Ok(bytes)
    }

    /// Deletes a complete blob, if it is there. Readers that have it open can read on.
    pub fn delete(&self, digest: &Digest) -> Result<(), StoreError> {
        let _completing = locked(self.completing(digest));
        // The record goes first: a file without a record is swept at the next start, whereas a record without a file would
        // promise something that is not there.
        self.0.records.delete(digest.0)?;
        let path = self.path(digest);
        let files = &self.0.files;
        if files.exists(&path) {
            files.remove(&path)?;
            files.sync_parent(&path)?;
        }
        Ok(())
    }

    /// The uploads that have begun and not ended.
    pub fn partials(&self) -> Result<Vec<Partial>, StoreError> {
        let files = self.0.files.list(&self.0.partial)?;
        Ok(files.iter().filter_map(|path| upload_of(path)).collect())
    }

    /// Discards the part of a blob that has arrived from this owner.
    pub fn discard_partial(&self, partial: &Partial) -> Result<(), StoreError> {
        let Partial { digest, kind, owner } = partial;
        let lease = self.lease(digest, owner);
        let mut current = locked(&lease);
        *current += 1;
        self.0.files.remove(&self.partial_path(digest, *kind, owner))
    }

    fn lease(&self, digest: &Digest, owner: &PartyId) -> Lease {
        let mut leases = locked(&self.0.leases);
        if leases.len() >= 1024 {
            leases.retain(|_, lease| Arc::strong_count(lease) > 1);
        }
        Arc::clone(leases.entry((*digest, owner.clone())).or_default())
    }
}

/// What the name of a partial file says.
fn upload_of(partial: &Path) -> Option<Partial> {
    let (digest, rest) = partial.file_name()?.to_str()?.split_once('.')?;
    let (kind, owner) = rest.split_once('.')?;
    Some(Partial {
        digest: digest.parse().ok()?,
        kind: kind.parse().ok()?,
        owner: owner.parse().ok()?,
    })
}

impl std::fmt::Debug for BlobStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BlobStore({})", self.0.blobs.display())
    }
}
