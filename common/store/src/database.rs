//! The database under the repositories.

use crate::batch::Batch;
use crate::crypter::Crypter;
use crate::error::StoreError;
use crate::records::{Records, SledRecords};
use crate::repository::Repository;
use crate::table::Table;
use serde::{Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An open database. Clones share it; the directory stays locked until the last one is dropped.
#[derive(Clone)]
pub struct Database(Arc<Inner>);

struct Inner {
    records: Box<dyn Records>,
    crypter: Crypter,
    dir: PathBuf,
}

impl Database {
    /// Opens or creates the database in `dir`.
    ///
    /// # Errors
    /// [`StoreError::InUse`] if another process has it open.
    pub fn open(dir: &Path, crypter: Crypter) -> Result<Self, StoreError> {
        let records = SledRecords::open(dir)?;
        Ok(Self::over(Box::new(records), dir, crypter))
    }

    pub(crate) fn over(records: Box<dyn Records>, dir: &Path, crypter: Crypter) -> Self {
        Self(Arc::new(Inner {
            records,
            crypter,
            dir: dir.to_owned(),
        }))
    }

    /// The repository of a table.
    pub fn repository<T: Serialize + DeserializeOwned>(
        &self,
        table: &Table<T>,
    ) -> Result<Repository<T>, StoreError> {
        self.records().make(table.name())?;
        Ok(Repository::new(self.clone(), *table))
    }

    /// Starts a batch of writes over any tables, which take effect all or none.
    pub fn batch(&self) -> Batch {
        Batch::new(self.clone())
    }

    pub(crate) fn crypter(&self) -> &Crypter {
        &self.0.crypter
    }

    pub(crate) fn records(&self) -> &dyn Records {
        &*self.0.records
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Database({})", self.0.dir.display())
    }
}
