//! Several writes that take effect all or none.

use crate::database::Database;
use crate::erasable::Erasable;
use crate::error::StoreError;
use crate::repository::Repository;
use crate::table::Under;
use serde::{Serialize, de::DeserializeOwned};
use sled::Transactional;
use sled::transaction::{ConflictableTransactionError, TransactionError};
use std::collections::BTreeMap;

/// Writes over any tables of one database, applied by [`Batch::commit`]. Dropped without it, nothing happens.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    database: Database,
    writes: BTreeMap<&'static str, TreeWrites>,
}

/// The writes to one table: for each key the bytes to store, or `None` to delete. The last write to a key counts.
struct TreeWrites {
    tree: sled::Tree,
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Batch {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database,
            writes: BTreeMap::new(),
        }
    }

    fn write<T>(&mut self, repository: &Repository<T>, key: &[u8], stored: Option<Vec<u8>>) {
        self.writes
            .entry(repository.table().name())
            .or_insert_with(|| TreeWrites {
                tree: repository.tree().clone(),
                records: BTreeMap::new(),
            })
            .records
            .insert(key.to_vec(), stored);
    }

    /// Adds a write of a record.
    pub fn put<T: Serialize + DeserializeOwned>(
        &mut self,
        repository: &Repository<T>,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<(), StoreError> {
        let stored = repository.encode(&Under::Master, key.as_ref(), value)?;
        self.write(repository, key.as_ref(), Some(stored));
        Ok(())
    }

    /// Adds a write of a record under an erasable key, which must exist.
    pub fn put_erasable<T: Serialize + DeserializeOwned>(
        &mut self,
        repository: &Repository<T>,
        erasable: &Erasable,
        name: &str,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<(), StoreError> {
        let stored = repository.encode(&Under::Erasable(erasable, name), key.as_ref(), value)?;
        self.write(repository, key.as_ref(), Some(stored));
        Ok(())
    }

    /// Adds a deletion.
    pub fn delete<T>(&mut self, repository: &Repository<T>, key: impl AsRef<[u8]>) {
        self.write(repository, key.as_ref(), None);
    }

    /// Applies all writes as one transaction. They are durable when this returns.
    pub fn commit(self) -> Result<(), StoreError> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let (trees, records): (Vec<_>, Vec<_>) = self
            .writes
            .into_values()
            .map(|writes| (writes.tree, writes.records))
            .unzip();
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
        self.database.flush()
    }
}
