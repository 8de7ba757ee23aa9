//! One directory with everything that a daemon keeps.

use crate::blobs::BlobStore;
use crate::crypter::Crypter;
use crate::database::Database;
use crate::erasable::Erasable;
use crate::error::StoreError;
use crate::files::{Files, Medium};
use crate::memory::MemoryDisk;
use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::Arc;

/// Name of the file with the master key.
const KEY: &str = "storage.key";

/// A daemon's directory: `storage.key`, `db/` (sled), `blobs/` and `partial/` (files), `erasable/` (keys). Clones share it.
///
/// The directory is locked while any clone lives.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    blobs: BlobStore,
    erasable: Erasable,
    files: Files,
    _lock: Arc<Option<File>>,
}

impl Store {
    /// Opens the directory, creating it and its master key the first time.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open; [`StoreError::KeyMissing`] if there is state but no master key.
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let files = Files::folder();
        files.create_dir(dir)?;
        let lock = lock(dir)?;
        let db = dir.join("db");
        if db.exists() && !dir.join(KEY).exists() {
            return Err(StoreError::KeyMissing { path: dir.join(KEY) });
        }
        let crypter = key(&files, dir)?;
        let database = Database::open(&db, crypter)?;
        Self::assemble(files, dir, database, Some(lock))
    }

    /// Opens what lies on a simulated disk, from which every store opened earlier is cut off. For tests and simulations.
    ///
    /// # Errors
    /// If the disk has no power.
    pub fn in_memory(disk: &MemoryDisk) -> Result<Self, StoreError> {
        let dir = Path::new("memory");
        let mount = disk.mount();
        let files = Files(Medium::Memory(mount.clone()));
        let crypter = key(&files, dir)?;
        let database = Database::over(Box::new(mount), dir, crypter);
        Self::assemble(files, dir, database, None)
    }

    fn assemble(
        files: Files,
        dir: &Path,
        database: Database,
        lock: Option<File>,
    ) -> Result<Self, StoreError> {
        let blobs = BlobStore::open(&files, dir, &database)?;
        let erasable = Erasable::open(&files, &dir.join("erasable"), database.crypter().clone())?;
        Ok(Self {
            database,
            blobs,
            erasable,
            files,
            _lock: Arc::new(lock),
        })
    }

    /// The files among which those of this store lie.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// The master key.
    pub fn crypter(&self) -> &Crypter {
        self.database.crypter()
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

/// The master key of a directory, drawn the first time.
fn key(files: &Files, dir: &Path) -> Result<Crypter, StoreError> {
    let path = dir.join(KEY);
    if files.exists(&path) {
        Crypter::load_from(files, &path)
    } else {
        Crypter::create_in(files, &path)
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
