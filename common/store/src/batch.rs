//! Several writes that take effect all or none.

use crate::database::Database;
use crate::erasable::Erasable;
use crate::error::StoreError;
use crate::records::Writes;
use crate::repository::Repository;
use crate::table::Under;
use serde::{Serialize, de::DeserializeOwned};

/// Writes over any tables of one database, applied by [`Batch::commit`]. Dropped without it, nothing happens. The last write to a key counts.
#[must_use = "a batch does nothing until it is committed"]
pub struct Batch {
    database: Database,
    writes: Writes,
}

impl Batch {
    pub(crate) fn new(database: Database) -> Self {
        Self {
            database,
            writes: Writes::new(),
        }
    }

    fn write<T>(&mut self, repository: &Repository<T>, key: &[u8], stored: Option<Vec<u8>>) {
        self.writes
            .entry(repository.table().name())
            .or_default()
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
        self.database.records().apply(self.writes)
    }
}
