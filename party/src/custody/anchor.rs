//! The anchor: what a custodian remembers of its ledger outside of its disk.
//!
//! A process that died and starts again must know whether its disk is as it left it. It keeps the ledger's incarnation and number in a
//! file in volatile memory, which no backup and no snapshot of a disk holds, and which is gone when the machine starts anew. If that
//! file is there and the ledger is not behind it, the incarnation goes on; otherwise a new one begins.
//! Memory that is restored together with the disk, as by a snapshot of a running virtual machine, is beyond this.
//! The file is written after the ledger is durable and before anything that follows from it is sent.

use crate::error::PartyError;
use galen_core::{Digest, StudyDigest, Transcript};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// A ledger as it was last known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Anchored {
    /// Its incarnation.
    pub nonce: Digest,
    /// Its number.
    pub seq: u64,
}

/// Where an anchor is kept.
pub trait Anchor: Send + Sync {
    /// What was written last, if it is still there.
    fn read(&self) -> Option<Anchored>;

    /// Keeps this.
    ///
    /// # Errors
    /// If it cannot be written.
    fn write(&self, known: &Anchored) -> Result<(), PartyError>;

    /// Keeps nothing any more. Always safe: without an anchor the next start begins a new incarnation.
    ///
    /// # Errors
    /// If what is kept cannot be removed.
    fn remove(&self) -> Result<(), PartyError>;
}

/// A file in a file system that lives in memory.
#[derive(Clone, Debug)]
pub struct VolatileFile {
    /// Nothing on machines that have no such file system: then every start begins a new incarnation.
    path: Option<PathBuf>,
}

impl VolatileFile {
    /// The file of a party's folder and study.
    pub fn of(home: &Path, study: &StudyDigest) -> Self {
        let home = home.canonicalize().unwrap_or_else(|_| home.to_owned());
        let name = Transcript::new("galen custody anchor v1")
            .field(home.as_os_str().as_encoded_bytes())
            .field(&study.0)
            .digest();
        // One place only, the same for a session and for a service: an anchor that is left behind in another one would be old.
        let folder = PathBuf::from("/dev/shm");
        let path = is_volatile(&folder).then(|| folder.join(format!("galen-custody-{name}")));
        if path.is_none() {
            tracing::warn!(
                "no file system in memory was found: whenever this daemon starts anew, its custodian sits out the round under way"
            );
        }
        Self { path }
    }
}

impl VolatileFile {
    /// Where it lies, if this machine has such a file system.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }
}

#[cfg(target_os = "linux")]
fn is_volatile(folder: &Path) -> bool {
    // TMPFS_MAGIC of linux/magic.h; the field's type differs between architectures.
    rustix::fs::statfs(folder).is_ok_and(|status| status.f_type == 0x0102_1994)
}

/// Whether the file is this user's: everybody may write to that folder.
#[cfg(target_os = "linux")]
fn is_own(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let own = rustix::process::geteuid().as_raw();
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.uid() == own)
}

#[cfg(not(target_os = "linux"))]
fn is_own(_: &Path) -> bool {
    false
}

#[cfg(not(target_os = "linux"))]
fn is_volatile(_: &Path) -> bool {
    false
}

impl Anchor for VolatileFile {
    fn read(&self) -> Option<Anchored> {
        let path = self.path.as_ref()?;
        if !is_own(path) {
            return None;
        }
        let bytes = std::fs::read(path).ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    fn write(&self, known: &Anchored) -> Result<(), PartyError> {
        let Some(path) = &self.path else {
            return Ok(());
        };
        let text = serde_json::to_vec(known).map_err(PartyError::internal)?;
        crate::home::write_whole(path, &text)
    }

    fn remove(&self) -> Result<(), PartyError> {
        let Some(path) = self.path.as_ref().filter(|path| is_own(path)) else {
            return Ok(());
        };
        std::fs::remove_file(path).or_else(|error| match error.kind() {
            std::io::ErrorKind::NotFound => Ok(()),
            _ => Err(PartyError::home(path, format!("cannot be removed: {error}"))),
        })
    }
}

/// The memory of a machine that exists in this process only, as in a simulation. Clones are the same memory.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Option<Anchored>>>);

impl Memory {
    /// Forgets everything, as when the machine is started anew.
    pub fn lose(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Anchor for Memory {
    fn read(&self) -> Option<Anchored> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, known: &Anchored) -> Result<(), PartyError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(*known);
        Ok(())
    }

    fn remove(&self) -> Result<(), PartyError> {
        self.lose();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_where_memory_is_a_folder() {
        let home = tempfile::tempdir().unwrap();
        let study = Digest::of(b"study");
        let anchor = VolatileFile::of(home.path(), &study);
        let known = Anchored {
            nonce: Digest::of(b"nonce"),
            seq: 7,
        };
        anchor.write(&known).unwrap();
        let there = anchor.path.is_some();
        assert_eq!(
            VolatileFile::of(home.path(), &study).read(),
            there.then_some(known)
        );
        // Another study or another folder has a file of its own.
        assert_eq!(VolatileFile::of(home.path(), &Digest::of(b"other")).read(), None);
        let elsewhere = tempfile::tempdir().unwrap();
        assert_eq!(VolatileFile::of(elsewhere.path(), &study).read(), None);
        // A damaged file is as good as none.
        if let Some(path) = &anchor.path {
            std::fs::write(path, b"{").unwrap();
            assert_eq!(anchor.read(), None);
        }
        // When the study is over nothing stays, also if nothing was there.
        for _ in 0..2 {
            anchor.remove().unwrap();
            assert_eq!(anchor.read(), None);
            assert!(!anchor.path().is_some_and(Path::exists));
        }
    }
}
