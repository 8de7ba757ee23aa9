//! Where records lie: the small trait between the typed tables and what keeps their bytes.

use crate::durable;
use crate::error::StoreError;
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Sled's page cache. Its own default of 1 GiB would be all the memory that a daemon may use, and what is in use at a time is little: large
/// objects are no records.
const CACHE_BYTES: u64 = 8 << 20;

/// A key and what is stored under it.
pub(crate) type Record = (Vec<u8>, Vec<u8>);

/// What [`Records::scan`] gives.
pub(crate) type Scan = Box<dyn Iterator<Item = Result<Record, StoreError>> + Send>;

/// For each table and key the bytes to store, or `None` to delete.
pub(crate) type Writes = BTreeMap<&'static str, BTreeMap<Vec<u8>, Option<Vec<u8>>>>;

/// Tables of byte strings, ordered by key.
pub(crate) trait Records: Send + Sync {
    /// Makes a table, unless it is there.
    fn make(&self, table: &'static str) -> Result<(), StoreError>;

    /// What is stored under a key.
    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// The records whose keys start with `prefix`, in order.
    fn scan(&self, table: &'static str, prefix: &[u8]) -> Scan;

    /// The record with the greatest key.
    fn last(&self, table: &'static str) -> Result<Option<Record>, StoreError>;

    /// Carries out all writes or none. They are durable when this returns.
    fn apply(&self, writes: Writes) -> Result<(), StoreError>;
}

/// Records in a folder, by sled.
pub(crate) struct SledRecords {
    db: sled::Db,
    log: File,
    dir: PathBuf,
    /// Batches that were written.
    written: AtomicU64,
    synced: Mutex<Synced>,
}

/// How long a database that this process has just closed may stay locked: sled's own threads let go of its file a moment after the last handle.
/// Whoever opens records holds the lock of the whole store already, so nobody else is waited for.
const LETTING_GO: Duration = Duration::from_secs(5);

/// What has been made durable.
#[derive(Default)]
struct Synced {
    /// Batches.
    batches: u64,
    /// Names of sled's side files.
    side_files: BTreeSet<PathBuf>,
}

impl SledRecords {
    pub(crate) fn open(dir: &Path) -> Result<Self, StoreError> {
        durable::create_dir(dir)?;
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(CACHE_BYTES)
            // Nothing is acknowledged before `flush`, so there is nothing for a background flush to do.
            .flush_every_ms(None);
        let began = Instant::now();
        let db = loop {
            match config.open() {
                Err(sled::Error::Io(error)) if error.to_string().contains("could not acquire lock") => {
                    if began.elapsed() > LETTING_GO {
                        return Err(StoreError::InUse { dir: dir.to_owned() });
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
                opened => break opened?,
            }
        };
        let path = dir.join("db");
        let log = File::open(&path).map_err(StoreError::io(&path, "cannot open"))?;
        Ok(Self {
            db,
            log,
            dir: dir.to_owned(),
            written: AtomicU64::new(0),
            synced: Mutex::default(),
        })
    }

    /// Makes every write so far durable.
    ///
    /// On Linux sled's flush ends in `sync_file_range`, which neither empties the disk's cache nor writes the metadata of a file
    /// that grew (see sync_file_range(2), "Warning"), and sled does not sync the side files into which it puts large pages. Both
    /// are synced here, so that an acknowledged write survives a power cut and not only a crash of the process.
    ///
    /// Writers that come while another one syncs wait for it, and the first of them then syncs for all: the disk's work does not grow with
    /// their number.
    fn flush(&self) -> Result<(), StoreError> {
        let mine = self.written.fetch_add(1, Ordering::AcqRel) + 1;
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if synced.batches >= mine {
            return Ok(());
        }
        let batches = self.written.load(Ordering::Acquire);
        self.db.flush()?;
        let dir = self.dir.join("blobs");
        let side_files: BTreeSet<PathBuf> = durable::list(&dir)?.into_iter().collect();
        let mut grown = false;
        for path in side_files.difference(&synced.side_files) {
            match File::open(path).and_then(|file| file.sync_all()) {
                // Sled removes side files that newer pages replaced, at any time.
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
                _ => Ok(()),
            }
            .map_err(StoreError::io(path, "cannot sync"))?;
            grown = true;
        }
        if grown {
            durable::sync_dir(&dir)?;
        }
        self.log
            .sync_data()
            .map_err(StoreError::io(&self.dir, "cannot sync"))?;
        *synced = Synced { batches, side_files };
        Ok(())
    }
}

impl Records for SledRecords {
    fn make(&self, table: &'static str) -> Result<(), StoreError> {
        self.db.open_tree(table)?;
        Ok(())
    }

    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.db.open_tree(table)?.get(key)?.map(|stored| stored.to_vec()))
    }

    fn scan(&self, table: &'static str, prefix: &[u8]) -> Scan {
        let records = match self.db.open_tree(table) {
            Ok(tree) => tree.scan_prefix(prefix),
            Err(error) => return Box::new(std::iter::once(Err(error.into()))),
        };
        Box::new(records.map(|record| {
            let (key, stored) = record?;
            Ok((key.to_vec(), stored.to_vec()))
        }))
    }

    fn last(&self, table: &'static str) -> Result<Option<Record>, StoreError> {
        let last = self.db.open_tree(table)?.last()?;
        Ok(last.map(|(key, stored)| (key.to_vec(), stored.to_vec())))
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        let mut trees = Vec::with_capacity(writes.len());
        for table in writes.keys() {
            trees.push(self.db.open_tree(table)?);
        }
        let records: Vec<_> = writes.into_values().collect();
        trees
            .as_slice()
            .transaction(|views| {
                for (view, records) in views.iter().zip(&records) {
                    for (key, stored) in records {
                        match stored {
                            Some(stored) => view.insert(key.as_slice(), stored.as_slice())?,
                            None => view.remove(key.as_slice())?,
                        };
                    }
                }
                Ok::<(), ConflictableTransactionError<std::convert::Infallible>>(())
            })
            .map_err(|error| match error {
                TransactionError::Storage(error) => StoreError::from(error),
                TransactionError::Abort(never) => match never {},
            })?;
        self.flush()
    }
}
