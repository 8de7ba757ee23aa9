//! One directory with everything that a daemon keeps.

use crate::blobs::BlobStore;
use crate::crypter::Crypter;
use crate::database::Database;
use crate::durable;
use crate::erasable::Erasable;
use crate::error::StoreError;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// A daemon's directory: `storage.key`, `db/` (sled), `blobs/` and `partial/` (files), `erasable/` (keys). Clones share it.
///
/// The directory is locked while any clone lives.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    blobs: BlobStore,
    erasable: Erasable,
    _lock: Arc<File>,
}

impl Store {
    /// Opens the directory, creating it and its master key the first time.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::KeyMissing`] if there is state but no master key.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let lock = lock(dir)?;
        let key = dir.join("storage.key");
        let crypter = if key.exists() {
            Crypter::load(&key)?
        } else if dir.join("db").exists() {
            return Err(StoreError::KeyMissing { path: key });
        } else {
            Crypter::create(&key)?
        };
        let database = Database::open(&dir.join("db"), crypter.clone())?;
        let blobs = BlobStore::open(dir, &database, crypter.clone())?;
        let erasable = Erasable::open(&dir.join("erasable"), crypter)?;
        Ok(Self {
            database,
            blobs,
            erasable,
            _lock: Arc::new(lock),
        })
    }

    /// The records.
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// The large objects.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The keys that can be erased.
    pub fn erasable(&self) -> &Erasable {
        &self.erasable
    }
}

/// Sled locks its own file; this lock also covers the files beside it, and is taken before anything is read.
fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(StoreError::io(&path, "cannot open"))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StoreError::io(&path, "cannot lock")(error)),
    }
}
