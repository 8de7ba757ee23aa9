//! Records on a simulated disk.

use super::Mount;
use crate::error::StoreError;
use crate::records::{Record, Records, Scan, Writes};
use std::io;
use std::ops::Bound;
use std::path::Path;

impl Mount {
    fn table<R>(
        &self,
        table: &'static str,
        read: impl FnOnce(&std::collections::BTreeMap<Vec<u8>, Vec<u8>>) -> R,
    ) -> Result<R, StoreError> {
        let machine = self.machine().map_err(failed)?;
        match machine.tables.get(table) {
            Some(records) => Ok(read(records)),
            None => Ok(read(&std::collections::BTreeMap::new())),
        }
    }
}

fn failed(error: io::Error) -> StoreError {
    StoreError::io(Path::new("memory"), "cannot use records")(error)
}

impl Records for Mount {
    fn make(&self, _: &'static str) -> Result<(), StoreError> {
        self.machine().map(drop).map_err(failed)
    }

    fn get(&self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.table(table, |records| records.get(key).cloned())
    }

    fn scan(&self, table: &'static str, prefix: &[u8]) -> Scan {
        let found: Result<Vec<Record>, StoreError> = self.table(table, |records| {
            let from = (Bound::Included(prefix), Bound::Unbounded);
            records
                .range::<[u8], _>(from)
                .take_while(|(key, _)| key.starts_with(prefix))
                .map(|(key, stored)| (key.clone(), stored.clone()))
                .collect()
        });
        match found {
            Ok(records) => Box::new(records.into_iter().map(Ok)),
            Err(error) => Box::new(std::iter::once(Err(error))),
        }
    }

    fn last(&self, table: &'static str) -> Result<Option<Record>, StoreError> {
        self.table(table, |records| {
            let last = records.last_key_value();
            last.map(|(key, stored)| (key.clone(), stored.clone()))
        })
    }

    fn apply(&self, writes: Writes) -> Result<(), StoreError> {
        let change = |machine: &mut super::Machine| {
            for (table, records) in writes {
                let table = machine.tables.entry(table).or_default();
                for (key, stored) in records {
                    match stored {
                        Some(stored) => table.insert(key, stored),
                        None => table.remove(&key),
                    };
                }
            }
            Ok(())
        };
        self.write(change).map_err(failed)
    }
}
