//! Where a copy lies: files in a folder or of a store, or what a test puts in their place.

use crate::error::PartyError;
use crate::home;
use galen_store::Files;
use std::path::PathBuf;

/// Files by name. Every write is durable when it returns; one that is interrupted may leave any part of what it wrote.
pub trait Shelf: Send + Sync {
    /// A whole file; `None` if there is none.
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PartyError>;

    /// Keeps the first `keep` bytes of a file and writes these after them; makes the file if there is none.
    fn append(&self, name: &str, keep: u64, bytes: &[u8]) -> Result<(), PartyError>;

    /// Puts a file in the place of the former one, in one step.
    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), PartyError>;

    /// The error for a file that is not as it was written.
    fn damaged(&self, name: &str, what: &str) -> PartyError;
}

/// A folder among some files.
#[derive(Clone, Debug)]
pub struct Folder {
    files: Files,
    folder: PathBuf,
}

impl Folder {
    /// A folder of the file system, made if there is none.
    pub fn open(folder: PathBuf) -> Result<Self, PartyError> {
        home::make_private(&folder)?;
        Ok(Self::to_read(folder))
    }

    /// A folder of the file system to read from only; it need not exist.
    pub fn to_read(folder: PathBuf) -> Self {
        Self::among(Files::folder(), folder)
    }

    /// A folder among a store's own files.
    pub fn among(files: Files, folder: PathBuf) -> Self {
        Self { files, folder }
    }
}

impl Shelf for Folder {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PartyError> {
        let path = self.folder.join(name);
        if !self.files.exists(&path) {
            return Ok(None);
        }
        Ok(Some(self.files.read(&path)?))
    }

    fn append(&self, name: &str, keep: u64, bytes: &[u8]) -> Result<(), PartyError> {
        Ok(self.files.append(&self.folder.join(name), keep, bytes)?)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), PartyError> {
        Ok(self.files.write(&self.folder.join(name), bytes)?)
    }

    fn damaged(&self, name: &str, what: &str) -> PartyError {
        let advice = "move it away and keep it: the daemon then fetches the log again and checks that it leads to the head that was seen";
        PartyError::home(self.folder.join(name), format!("{what}; {advice}"))
    }
}
