//! A disk that a test can do everything to: cut its power before or after any write is durable, copy it, and put the copy back.
//!
//! It stands under the same [`Store`](crate::Store) as a folder does; nothing above it knows the difference. What is written counts as
//! durable where a folder's would be: a batch of records when it is applied, a file when it is synced, an entry when it is renamed or
//! removed. Each such moment is one write, and [`MemoryDisk::cut_at`] names the one at which the power fails. From then on everything fails
//! until [`MemoryDisk::start`].

mod files;
mod records;

pub(crate) use files::MemoryFile;

use files::Content;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// When the power fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Cut {
    /// Before the write is durable: it is lost.
    Before,
    /// After the write is durable, before anybody is told.
    After,
}

/// A simulated disk. Clones are the same disk; it outlives the stores on it.
#[derive(Clone, Default)]
pub struct MemoryDisk(Arc<Mutex<Machine>>);

/// A copy of what was durable on a disk.
#[derive(Clone, Default)]
pub struct Image {
    files: BTreeMap<PathBuf, Vec<u8>>,
    tables: Tables,
}

type Tables = BTreeMap<&'static str, BTreeMap<Vec<u8>, Vec<u8>>>;

#[derive(Default)]
struct Machine {
    files: BTreeMap<PathBuf, Arc<Mutex<Content>>>,
    tables: Tables,
    /// Durable writes so far.
    writes: u64,
    /// At which of them the power fails.
    cut: Option<(u64, Cut)>,
    off: bool,
    /// Raised whenever a store is opened: handles of earlier ones are dead.
    mounts: u64,
}

/// A disk as one store sees it, until the power fails or another store is opened.
#[derive(Clone)]
pub(crate) struct Mount {
    disk: MemoryDisk,
    number: u64,
}

impl MemoryDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    fn machine(&self) -> MutexGuard<'_, Machine> {
        // Each change is made in one go, so a panic in another thread leaves nothing half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn mount(&self) -> Mount {
        let mut machine = self.machine();
        machine.mounts += 1;
        Mount {
            disk: self.clone(),
            number: machine.mounts,
        }
    }

    /// Durable writes so far.
    pub fn writes(&self) -> u64 {
        self.machine().writes
    }

    /// Has the power fail at the `nth` durable write from now, counted from 1.
    pub fn cut_at(&self, nth: u64, cut: Cut) {
        let mut machine = self.machine();
        machine.cut = Some((machine.writes.saturating_add(nth), cut));
    }

    /// Cuts the power now.
    pub fn cut_now(&self) {
        self.machine().off = true;
    }

    /// Whether the power is off.
    pub fn is_off(&self) -> bool {
        self.machine().off
    }

    /// Turns the power on again. What was written and not synced is gone; a planned cut is forgotten. Stores that were open before stay dead.
    pub fn start(&self) {
        let mut machine = self.machine();
        machine.forget_unsynced();
        machine.off = false;
        machine.cut = None;
        machine.mounts += 1;
    }

    /// What is durable now.
    pub fn image(&self) -> Image {
        let machine = self.machine();
        let durable = |(path, content): (&PathBuf, &Arc<Mutex<Content>>)| {
            Some((path.clone(), files::lock(content).durable.clone()?))
        };
        Image {
            files: machine.files.iter().filter_map(durable).collect(),
            tables: machine.tables.clone(),
        }
    }

    /// Puts an earlier image in the place of everything, as somebody does who restores a backup or exchanges a disk.
    pub fn put_back(&self, image: &Image) {
        let mut machine = self.machine();
        machine.tables = image.tables.clone();
        machine.files = image
            .files
            .iter()
            .map(|(path, bytes)| (path.clone(), Content::durable(bytes.clone())))
            .collect();
        machine.mounts += 1;
    }
}

impl std::fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryDisk(..)")
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Image(..)")
    }
}

impl std::fmt::Debug for Mount {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("memory")
    }
}

impl Machine {
    fn forget_unsynced(&mut self) {
        self.files.retain(|_, content| files::lock(content).revert());
    }
}

impl Mount {
    /// The machine, if it is on and this is the store that uses it.
    fn machine(&self) -> io::Result<MutexGuard<'_, Machine>> {
        let machine = self.disk.machine();
        if machine.off || machine.mounts != self.number {
            return Err(io::Error::other("the power failed"));
        }
        Ok(machine)
    }

    /// Makes a durable change, or fails before or after it.
    fn write<R>(&self, change: impl FnOnce(&mut Machine) -> io::Result<R>) -> io::Result<R> {
        let mut machine = self.machine()?;
        machine.writes += 1;
        let cut = machine.cut.filter(|(at, _)| *at == machine.writes);
        let Some((_, cut)) = cut else {
            return change(&mut machine);
        };
        machine.off = true;
        if cut == Cut::After {
            change(&mut machine)?;
        }
        Err(io::Error::other("the power failed"))
    }
}
