//! The mark of a party that was restored from a backup.
//!
//! A restored custodian does not know what it signed since the backup was made. So it begins a new incarnation, and takes part in no
//! attempt that might have been answered before: it goes by what its peers know of it. The mark stands in the folder until a new
//! incarnation is confirmed by them; custody reads it when the daemon starts, and removes it then.

use crate::error::PartyError;
use crate::home::{self, Home};
use serde::{Deserialize, Serialize};

/// The mark: `restored.toml` in the party's folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restored {
    /// Version of the file: 1.
    pub format: u32,
    /// When the backup was made, in milliseconds since the epoch.
    pub backup_ms: u64,
    /// When it was restored.
    pub restored_ms: u64,
}

impl Restored {
    /// Marks a folder. Durable when this returns.
    pub fn write(&self, home: &Home) -> Result<(), PartyError> {
        let text = toml::to_string_pretty(self).map_err(PartyError::internal)?;
        home::write_durably(&home.restored(), text.as_bytes())
    }

    /// The mark of a folder, if it has one. A mark that cannot be read is an error, never no mark.
    pub fn read(home: &Home) -> Result<Option<Self>, PartyError> {
        if !home.restored().exists() {
            return Ok(None);
        }
        Ok(Some(galen_core::config::load(&home.restored())?))
    }

    /// Removes the mark: peers have confirmed a new incarnation. Durable when this returns; a folder without a mark stays as it is.
    pub fn confirmed(home: &Home) -> Result<(), PartyError> {
        home::remove_durably(&home.restored())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mark_stays_until_it_is_confirmed() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        assert_eq!(Restored::read(&home).unwrap(), None);
        Restored::confirmed(&home).unwrap();
        let mark = Restored {
            format: 1,
            backup_ms: 5,
            restored_ms: 7,
        };
        mark.write(&home).unwrap();
        for _ in 0..2 {
            assert_eq!(Restored::read(&home).unwrap().as_ref(), Some(&mark));
        }
        std::fs::write(home.restored(), "format = ").unwrap();
        assert!(Restored::read(&home).is_err(), "a spoilt mark is still a mark");
        Restored::confirmed(&home).unwrap();
        assert_eq!(Restored::read(&home).unwrap(), None);
    }
}
