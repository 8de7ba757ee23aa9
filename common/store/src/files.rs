//! Where files lie: in the file system, or in a test's memory.

use crate::durable;
use crate::error::StoreError;
use crate::memory::{MemoryFile, Mount};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// The files of a store. Clones share them.
#[derive(Clone, Debug)]
pub struct Files(pub(crate) Medium);

#[derive(Clone, Debug)]
pub(crate) enum Medium {
    /// The file system.
    Folder,
    /// A simulated disk.
    Memory(Mount),
}

impl Files {
    /// The file system.
    pub fn folder() -> Self {
        Self(Medium::Folder)
    }

    /// Creates a directory that only this user may enter, and makes its entry durable.
    pub fn create_dir(&self, path: &Path) -> Result<(), StoreError> {
        match &self.0 {
            Medium::Folder => durable::create_dir(path),
            Medium::Memory(_) => Ok(()),
        }
    }

    /// Whether there is a file, or a directory with files.
    pub fn exists(&self, path: &Path) -> bool {
        match &self.0 {
            Medium::Folder => path.exists(),
            Medium::Memory(mount) => mount.exists(path),
        }
    }

    /// A whole file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, StoreError> {
        let mut bytes = Vec::new();
        self.open(path)
            .and_then(|mut file| file.read_to_end(&mut bytes))
            .map_err(StoreError::io(path, "cannot read"))?;
        Ok(bytes)
    }

    /// A whole file, or nothing if there is none.
    pub fn find(&self, path: &Path) -> Result<Option<Vec<u8>>, StoreError> {
        match self.read(path) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(StoreError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes a small file that only this user may read, so that after a crash it is there entirely or as it was before.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        let temporary = path.with_extension("new");
        self.remove(&temporary)?;
        let mut file = self.create(&temporary)?;
        file.write_all(bytes)
            .and_then(|()| file.sync())
            .map_err(StoreError::io(&temporary, "cannot write"))?;
        drop(file);
        self.rename(&temporary, path)
    }

    /// Keeps the first `keep` bytes of a file and writes these after them; makes the file, which only this user may read, if there
    /// is none. Durable on return; interrupted, it may leave any part of the bytes.
    pub fn append(&self, path: &Path, keep: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let made = !self.exists(path);
        let open = || {
            self.open_to_change(path)
                .map_err(StoreError::io(path, "cannot open"))
        };
        let mut file = if made { self.create(path)? } else { open()? };
        file.set_len(keep)
            .and_then(|()| file.seek(SeekFrom::Start(keep)))
            .and_then(|_| file.write_all(bytes))
            .and_then(|()| file.sync())
            .map_err(StoreError::io(path, "cannot write"))?;
        if made { self.sync_parent(path) } else { Ok(()) }
    }

    /// Opens a file for writing that only this user may read. Fails if it exists.
    pub(crate) fn create(&self, path: &Path) -> Result<Handle, StoreError> {
        match &self.0 {
            Medium::Folder => durable::create_private(path).map(Handle::File),
            Medium::Memory(mount) => mount
                .create(path)
                .map(Handle::Memory)
                .map_err(StoreError::io(path, "cannot create file")),
        }
    }

    /// Opens a file for reading.
    pub(crate) fn open(&self, path: &Path) -> io::Result<Handle> {
        match &self.0 {
            Medium::Folder => File::open(path).map(Handle::File),
            Medium::Memory(mount) => mount.open(path).map(Handle::Memory),
        }
    }

    /// Opens a file for reading and writing.
    pub(crate) fn open_to_change(&self, path: &Path) -> io::Result<Handle> {
        match &self.0 {
            Medium::Folder => OpenOptions::new()
                .read(true)
                .write(true)
                .open(path)
                .map(Handle::File),
            Medium::Memory(mount) => mount.open(path).map(Handle::Memory),
        }
    }

    /// Renames and makes the new entry durable.
    pub(crate) fn rename(&self, from: &Path, to: &Path) -> Result<(), StoreError> {
        match &self.0 {
            Medium::Folder => durable::rename(from, to),
            Medium::Memory(mount) => mount
                .rename(from, to)
                .map_err(StoreError::io(to, "cannot rename to")),
        }
    }

    /// Removes a file; one that is not there counts as removed.
    pub(crate) fn remove(&self, path: &Path) -> Result<(), StoreError> {
        match &self.0 {
            Medium::Folder => durable::remove(path),
            Medium::Memory(mount) => mount.remove(path).map_err(StoreError::io(path, "cannot remove")),
        }
    }

    /// Makes the entry of a path durable.
    pub(crate) fn sync_parent(&self, path: &Path) -> Result<(), StoreError> {
        match &self.0 {
            Medium::Folder => durable::sync_parent(path),
            Medium::Memory(_) => Ok(()),
        }
    }

    /// The entries of a directory, sorted by name.
    pub(crate) fn list(&self, dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
        match &self.0 {
            Medium::Folder => durable::list(dir),
            Medium::Memory(mount) => mount.list(dir).map_err(StoreError::io(dir, "cannot list")),
        }
    }
}

/// An open file.
pub(crate) enum Handle {
    /// Of the file system.
    File(File),
    /// Of a simulated disk.
    Memory(MemoryFile),
}

impl Handle {
    /// Makes the bytes durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        match self {
            Self::File(file) => file.sync_all(),
            Self::Memory(file) => file.sync(),
        }
    }

    /// Cuts the file off, or fills it with zeros.
    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        match self {
            Self::File(file) => file.set_len(len),
            Self::Memory(file) => file.set_len(len),
        }
    }

    /// Bytes in the file.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(file) => Ok(file.metadata()?.len()),
            Self::Memory(file) => file.len(),
        }
    }
}

impl Read for Handle {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(out),
            Self::Memory(file) => file.read(out),
        }
    }
}

impl Write for Handle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.write(bytes),
            Self::Memory(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for Handle {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        match self {
            Self::File(file) => file.seek(to),
            Self::Memory(file) => file.seek(to),
        }
    }
}
