//! Where a copy lies: a folder, or what a test puts in its place.

use crate::error::PartyError;
use crate::home;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
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

/// A folder.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Opens a folder, making it if there is none.
    pub fn open(folder: PathBuf) -> Result<Self, PartyError> {
        home::make_private(&folder)?;
        Ok(Self(folder))
    }

    /// A folder to read from only; it need not exist.
    pub fn to_read(folder: PathBuf) -> Self {
        Self(folder)
    }
}

impl Shelf for Folder {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PartyError> {
        let path = self.0.join(name);
        match std::fs::read(&path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(PartyError::file(path)(error)),
        }
    }

    fn append(&self, name: &str, keep: u64, bytes: &[u8]) -> Result<(), PartyError> {
        let path = self.0.join(name);
        let write = || -> std::io::Result<()> {
            let made = !path.exists();
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false);
            #[cfg(unix)]
            {
                use std::os::unix::fs::OpenOptionsExt;
                options.mode(0o600);
            }
            let mut file = options.open(&path)?;
            file.set_len(keep)?;
            file.seek(SeekFrom::Start(keep))?;
            file.write_all(bytes)?;
            file.sync_all()?;
            if made {
                File::open(&self.0)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(PartyError::file(&path))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), PartyError> {
        home::write_durably(&self.0.join(name), bytes)
    }

    fn damaged(&self, name: &str, what: &str) -> PartyError {
        let advice = "move it away and keep it: the daemon then fetches the log again and checks that it leads to the head that was seen";
        PartyError::home(self.0.join(name), format!("{what}; {advice}"))
    }
}
