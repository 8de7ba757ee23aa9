//! Secrets that can be made unreadable for ever.
//!
//! Deleting a record from sled does not erase it: sled appends to a log, and old values stay in it until their
//! segment is written over. So secrets with an end of life are sealed under a random key that lives in a small file of its own, and
//! erasing means overwriting and unlinking that file. What remains in the log is ciphertext whose key is gone
//! (crypto-erasure; NIST SP 800-88 Rev. 1, section 2.6).
//!
//! The overwrite reaches the old bytes on file systems that write in place (ext4, xfs, NTFS on plain disks). Copy-on-write file systems
//! (btrfs, ZFS, APFS), data journals, snapshots, backups and the spare blocks of flash drives may keep them. There,
//! `storage.key` must be kept on a medium without snapshots, or the disk itself encrypted with a key that can be discarded.

use crate::crypter::{Aead, Crypter};
use crate::error::StoreError;
use crate::files::Files;
use galen_core::{Digest, Transcript};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use zeroize::Zeroizing;

/// The directory of erasable keys. Clones share it.
#[derive(Clone, Debug)]
pub struct Erasable(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    dir: PathBuf,
    crypter: Crypter,
    /// Held while key files change, so that two threads do not create the same name.
    changing: Mutex<()>,
}

impl Erasable {
    /// Opens or creates the directory of keys.
    pub(crate) fn open(files: &Files, dir: &Path, crypter: Crypter) -> Result<Self, StoreError> {
        files.create_dir(dir)?;
        // A `.new` file is a key that was never acknowledged.
        for path in files.list(dir)? {
            if path.extension().is_some_and(|e| e == "new") {
                wipe(files, &path)?;
            }
        }
        Ok(Self(Arc::new(Inner {
            files: files.clone(),
            dir: dir.to_owned(),
            crypter,
            changing: Mutex::new(()),
        })))
    }

    fn path(&self, name: &str) -> Result<PathBuf, StoreError> {
        let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 100 || !name.bytes().all(fits) {
            return Err(StoreError::InvalidName {
                name: name.to_owned(),
            });
        }
        Ok(self.0.dir.join(name).with_extension("key"))
    }

    /// Draws a key under a name, if there is none. It is durable when this returns.
    ///
    /// A name may be created again after its erasure; it then stands for a fresh key.
    pub fn create(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.0.files.exists(&path) {
            return Ok(());
        }
        let key = Zeroizing::new(galen_core::random::bytes::<32>()?);
        let mut sealed = Vec::new();
        self.wrapping()?.seal_into(&bound(name), &*key, &mut sealed)?;
        self.0.files.write(&path, &sealed)
    }

    /// Whether a key of this name exists.
    pub fn exists(&self, name: &str) -> Result<bool, StoreError> {
        Ok(self.0.files.exists(&self.path(name)?))
    }

    /// The names of all keys, sorted.
    pub fn names(&self) -> Result<Vec<String>, StoreError> {
        let names = self
            .0
            .files
            .list(&self.0.dir)?
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "key"))
            .filter_map(|path| path.file_stem()?.to_str().map(str::to_owned));
        Ok(names.collect())
    }

    /// Erases a key, if there is one: overwrites its file with zeros, syncs, unlinks, syncs the directory. Every record written
    /// under it is unreadable from then on.
    pub fn erase(&self, name: &str) -> Result<(), StoreError> {
        let path = self.path(name)?;
        let _changing = self.0.changing.lock().unwrap_or_else(PoisonError::into_inner);
        wipe(&self.0.files, &path)
    }

    fn wrapping(&self) -> Result<Aead, StoreError> {
        self.0.crypter.derive(b"galen erasable keys v1", &[])
    }

    pub(crate) fn cipher(&self, name: &str) -> Result<Aead, StoreError> {
        let path = self.path(name)?;
        let sealed = match self.0.files.read(&path) {
            Ok(sealed) => sealed,
            Err(StoreError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::NoErasableKey {
                    name: name.to_owned(),
                });
            }
            Err(error) => return Err(error),
        };
        // A crash between overwriting and unlinking leaves a file of zeros: that key is erased.
        if sealed.iter().all(|byte| *byte == 0) {
            return Err(StoreError::NoErasableKey {
                name: name.to_owned(),
            });
        }
        let key = self.wrapping()?.open(&bound(name), &sealed);
        let key = key
            .as_ref()
            .and_then(|key| <&[u8; 32]>::try_from(key.as_slice()).ok())
            .ok_or(StoreError::KeyFile { path })?;
        Aead::new(key)
    }
}

fn bound(name: &str) -> Digest {
    Transcript::new("galen erasable key v1")
        .field(name.as_bytes())
        .digest()
}

fn wipe(files: &Files, path: &Path) -> Result<(), StoreError> {
    match files.open_to_change(path) {
        Ok(mut file) => {
            let erase = "cannot erase";
            let length = file.len().map_err(StoreError::io(path, erase))?;
            let zeros = vec![0; usize::try_from(length).unwrap_or(0)];
            file.write_all(&zeros)
                .and_then(|()| file.sync())
                .map_err(StoreError::io(path, erase))?;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(StoreError::io(path, "cannot erase")(error)),
    }
    files.remove(path)?;
    files.sync_parent(path)
}
