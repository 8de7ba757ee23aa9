//! Typed tables.

use crate::database::Database;
use crate::erasable::Erasable;
use crate::error::StoreError;
use crate::records::{Records, Scan, Writes};
use crate::table::{Table, Under};
use serde::{Serialize, de::DeserializeOwned};
use std::collections::BTreeMap;

/// The records of one table. Clones share it.
///
/// Record keys are stored in clear (they order the records); no secret belongs in a key.
pub struct Repository<T> {
    database: Database,
    table: Table<T>,
}

impl<T> Clone for Repository<T> {
    fn clone(&self) -> Self {
        Self {
            database: self.database.clone(),
            table: self.table,
        }
    }
}

impl<T> std::fmt::Debug for Repository<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Repository({})", self.table.name())
    }
}

impl<T> Repository<T> {
    pub(crate) fn new(database: Database, table: Table<T>) -> Self {
        Self { database, table }
    }

    pub(crate) fn table(&self) -> &Table<T> {
        &self.table
    }

    fn records(&self) -> &dyn Records {
        self.database.records()
    }

    fn write(&self, key: &[u8], stored: Option<Vec<u8>>) -> Result<(), StoreError> {
        let records = BTreeMap::from([(key.to_vec(), stored)]);
        self.records().apply(Writes::from([(self.table.name(), records)]))
    }

    /// Whether a record exists.
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool, StoreError> {
        Ok(self.records().get(self.table.name(), key.as_ref())?.is_some())
    }

    /// The keys that start with `prefix`, in order; also those of records whose erasable key is gone.
    pub fn keys(&self, prefix: &[u8]) -> impl Iterator<Item = Result<Vec<u8>, StoreError>> + use<T> {
        self.records()
            .scan(self.table.name(), prefix)
            .map(|record| Ok(record?.0))
    }

    /// Deletes a record, if there is one. Durable when this returns.
    ///
    /// This is not erasure: sled's log keeps old values until it writes over them. Secrets that must become unreadable are
    /// written with [`Repository::put_erasable`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<(), StoreError> {
        self.write(key.as_ref(), None)
    }
}

impl<T: Serialize + DeserializeOwned> Repository<T> {
    pub(crate) fn encode(&self, under: &Under<'_>, key: &[u8], value: &T) -> Result<Vec<u8>, StoreError> {
        self.table.encode(self.database.crypter(), under, key, value)
    }

    fn decode(&self, erasable: Option<&Erasable>, key: &[u8], stored: &[u8]) -> Result<T, StoreError> {
        self.table.decode(self.database.crypter(), erasable, key, stored)
    }

    /// Writes a record. It is durable when this returns.
    pub fn put(&self, key: impl AsRef<[u8]>, value: &T) -> Result<(), StoreError> {
        let stored = self.encode(&Under::Master, key.as_ref(), value)?;
        self.write(key.as_ref(), Some(stored))
    }

    /// A record in its stored form, not written: what [`Repository::from_stored`] reads, for tools and fuzz targets that look at stored
    /// bytes without a database between.
    pub fn to_stored(&self, key: impl AsRef<[u8]>, value: &T) -> Result<Vec<u8>, StoreError> {
        self.encode(&Under::Master, key.as_ref(), value)
    }

    /// Reads a record from its stored form, as [`Repository::get`] does.
    pub fn from_stored(&self, key: impl AsRef<[u8]>, stored: &[u8]) -> Result<T, StoreError> {
        self.decode(None, key.as_ref(), stored)
    }

    /// Writes several records, all or none. They are durable when this returns.
    pub fn put_all<'a, K: AsRef<[u8]>>(
        &self,
        records: impl IntoIterator<Item = (K, &'a T)>,
    ) -> Result<(), StoreError>
    where
        T: 'a,
    {
        let mut batch = self.database.batch();
        for (key, value) in records {
            batch.put(self, key, value)?;
        }
        batch.commit()
    }

    /// Reads a record.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<T>, StoreError> {
        let key = key.as_ref();
        match self.records().get(self.table.name(), key)? {
            Some(stored) => self.decode(None, key, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// Writes a record under the erasable key `name`, which must exist ([`Erasable::create`]). Durable when this returns.
    pub fn put_erasable(
        &self,
        erasable: &Erasable,
        name: &str,
        key: impl AsRef<[u8]>,
        value: &T,
    ) -> Result<(), StoreError> {
        let stored = self.encode(&Under::Erasable(erasable, name), key.as_ref(), value)?;
        self.write(key.as_ref(), Some(stored))
    }

    /// Reads a record written with [`Repository::put_erasable`].
    ///
    /// # Errors
    /// [`StoreError::Erased`] once its key has been erased.
    pub fn get_erasable(&self, erasable: &Erasable, key: impl AsRef<[u8]>) -> Result<Option<T>, StoreError> {
        let key = key.as_ref();
        match self.records().get(self.table.name(), key)? {
            Some(stored) => self.decode(Some(erasable), key, &stored).map(Some),
            None => Ok(None),
        }
    }

    /// All records in the order of their keys' bytes. Write numbers big-endian to have them in order.
    pub fn iter(&self) -> impl Iterator<Item = Result<(Vec<u8>, T), StoreError>> + use<T> {
        self.read_all(self.records().scan(self.table.name(), &[]))
    }

    /// The records whose keys start with `prefix`, in order.
    pub fn prefix(&self, prefix: &[u8]) -> impl Iterator<Item = Result<(Vec<u8>, T), StoreError>> + use<T> {
        self.read_all(self.records().scan(self.table.name(), prefix))
    }

    fn read_all(&self, records: Scan) -> impl Iterator<Item = Result<(Vec<u8>, T), StoreError>> + use<T> {
        let this = self.clone();
        records.map(move |record| {
            let (key, stored) = record?;
            let value = this.decode(None, &key, &stored)?;
            Ok((key, value))
        })
    }

    /// The record with the greatest key.
    pub fn last(&self) -> Result<Option<(Vec<u8>, T)>, StoreError> {
        match self.records().last(self.table.name())? {
            Some((key, stored)) => {
                let value = self.decode(None, &key, &stored)?;
                Ok(Some((key, value)))
            }
            None => Ok(None),
        }
    }
}
