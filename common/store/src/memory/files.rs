//! Files on a simulated disk.

use super::Mount;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a file holds.
#[derive(Debug, Default)]
pub(super) struct Content {
    /// As the processes of the machine see it.
    bytes: Vec<u8>,
    /// As it will be after a power cut; `None` if it will not be there.
    pub(super) durable: Option<Vec<u8>>,
}

pub(super) fn lock(content: &Mutex<Content>) -> MutexGuard<'_, Content> {
    content.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Content {
    pub(super) fn durable(bytes: Vec<u8>) -> Arc<Mutex<Self>> {
        Arc::new(Mutex::new(Self {
            bytes: bytes.clone(),
            durable: Some(bytes),
        }))
    }

    /// Goes back to what is durable; tells whether anything is.
    pub(super) fn revert(&mut self) -> bool {
        self.bytes = self.durable.clone().unwrap_or_default();
        self.durable.is_some()
    }
}

impl Mount {
    pub(crate) fn exists(&self, path: &Path) -> bool {
        // A machine without power has no files; what is done next fails.
        self.machine().is_ok_and(|machine| {
            machine.files.contains_key(path) || machine.files.keys().any(|file| file.starts_with(path))
        })
    }

    pub(crate) fn create(&self, path: &Path) -> io::Result<MemoryFile> {
        let mut machine = self.machine()?;
        if machine.files.contains_key(path) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        let content = Arc::<Mutex<Content>>::default();
        machine.files.insert(path.to_owned(), Arc::clone(&content));
        Ok(self.handle(content))
    }

    pub(crate) fn open(&self, path: &Path) -> io::Result<MemoryFile> {
        let content = self.machine()?.files.get(path).cloned();
        content
            .map(|content| self.handle(content))
            .ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn handle(&self, content: Arc<Mutex<Content>>) -> MemoryFile {
        MemoryFile {
            mount: self.clone(),
            content,
            at: 0,
        }
    }

    pub(crate) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.write(|machine| {
            let content = machine.files.remove(from).ok_or(ErrorKind::NotFound)?;
            machine.files.insert(to.to_owned(), content);
            Ok(())
        })
    }

    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        if !self.machine()?.files.contains_key(path) {
            return Ok(());
        }
        self.write(|machine| {
            machine.files.remove(path);
            Ok(())
        })
    }

    pub(crate) fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let machine = self.machine()?;
        let entry = |file: &PathBuf| {
            let name = file.strip_prefix(dir).ok()?.components().next()?;
            Some(dir.join(name))
        };
        let entries: BTreeSet<PathBuf> = machine.files.keys().filter_map(entry).collect();
        Ok(entries.into_iter().collect())
    }
}

/// An open file of a simulated disk. It stays readable when its entry is renamed or removed.
pub(crate) struct MemoryFile {
    mount: Mount,
    content: Arc<Mutex<Content>>,
    at: usize,
}

impl MemoryFile {
    fn content(&self) -> io::Result<MutexGuard<'_, Content>> {
        drop(self.mount.machine()?);
        Ok(lock(&self.content))
    }

    pub(crate) fn sync(&self) -> io::Result<()> {
        self.mount.write(|_| {
            let mut content = lock(&self.content);
            content.durable = Some(content.bytes.clone());
            Ok(())
        })
    }

    pub(crate) fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(io::Error::other)?;
        self.content()?.bytes.resize(len, 0);
        Ok(())
    }

    pub(crate) fn len(&self) -> io::Result<u64> {
        Ok(self.content()?.bytes.len() as u64)
    }
}

impl Read for MemoryFile {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let content = self.content()?;
        let mut rest = content.bytes.get(self.at..).unwrap_or_default();
        let n = rest.read(out)?;
        drop(content);
        self.at += n;
        Ok(n)
    }
}

impl Write for MemoryFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut content = self.content()?;
        let end = self.at.saturating_add(bytes.len());
        if content.bytes.len() < end {
            content.bytes.resize(end, 0);
        }
        if let Some(place) = content.bytes.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        drop(content);
        self.at = end;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for MemoryFile {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else {
            return Err(ErrorKind::Unsupported.into());
        };
        self.at = usize::try_from(at).map_err(io::Error::other)?;
        Ok(at)
    }
}
