//! The sled database under the repositories.

use crate::batch::Batch;
use crate::crypter::Crypter;
use crate::durable;
use crate::error::StoreError;
use crate::repository::Repository;
use crate::table::Table;
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Sled's page cache. Its own default of 1 GiB would be all the memory that a daemon may use.
const CACHE_BYTES: u64 = 64 << 20;

/// An open database. Clones share it; the directory stays locked until the last one is dropped.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    db: sled::Db,
    crypter: Crypter,
    log: File,
    dir: PathBuf,
    /// Names of sled's side files that have been synced.
    synced: Mutex<BTreeSet<PathBuf>>,
}

impl Database {
    /// Opens or creates the database in `dir`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open.
    pub fn open(dir: &Path, crypter: Crypter) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let db = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // Nothing is acknowledged before `flush`, so there is nothing for a background flush to do.
            .flush_every_ms(None)
            .open()
            .map_err(|error| match error {
                sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
                    StoreError::InUse { dir: dir.to_owned() }
                }
                error => error.into(),
            })?;
        let path = dir.join("db");
        let log = File::open(&path).map_err(StoreError::io(&path, "cannot open"))?;
        Ok(Self(Arc::new(Inner {
            db,
            crypter,
            log,
            dir: dir.to_owned(),
            synced: Mutex::default(),
        })))
    }

    /// The repository of a table.
    pub fn repository<T: Serialize + DeserializeOwned>(
        &self,
        table: &Table<T>,
    ) -> Result<Repository<T>, StoreError> {
        let tree = self.0.db.open_tree(table.name())?;
        Ok(Repository::new(self.clone(), tree, *table))
    }

    /// Starts a batch of writes over any tables, which take effect all or none.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    pub(crate) fn crypter(&self) -> &Crypter {
        &self.0.crypter
    }

    /// Makes every write so far durable.
    ///
    /// On Linux sled's flush ends in `sync_file_range`, which neither empties the disk's cache nor writes the metadata of a file
    /// that grew (see sync_file_range(2), "Warning"), and sled does not sync the side files into which it puts large pages. Both
    /// are synced here, so that an acknowledged write survives a power cut and not only a crash of the process.
    pub(crate) fn flush(&self) -> Result<(), StoreError> {
        self.0.db.flush()?;
        let side_files = self.0.dir.join("blobs");
        let files: BTreeSet<PathBuf> = durable::list(&side_files)?.into_iter().collect();
        let mut synced = self.0.synced.lock().unwrap_or_else(PoisonError::into_inner);
        let mut grown = false;
        for path in files.difference(&synced) {
            match File::open(path).and_then(|file| file.sync_all()) {
                // Sled removes side files that newer pages replaced, at any time.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
            .map_err(StoreError::io(path, "cannot sync"))?;
            grown = true;
        }
        if grown {
            durable::sync_dir(&side_files)?;
        }
        *synced = files;
        drop(synced);
        self.0
            .log
            .sync_data()
            .map_err(StoreError::io(&self.0.dir, "cannot sync"))
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.0.dir.display())
    }
}
