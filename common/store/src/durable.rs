//! File operations that hold after a power cut, on the file system.
//!
//! A new file is durable only when its bytes *and* the directory entry that names it have been synced.

use crate::error::StoreError;
use std::fs::{self, File, OpenOptions};
use std::path::Path;

/// Creates a directory that only this user may enter, and makes its entry durable.
pub(crate) fn create_dir(path: &Path) -> Result<(), StoreError> {
    if path.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder
        .create(path)
        .map_err(StoreError::io(path, "cannot create directory"))?;
    sync_parent(path)
}

/// Opens a file for writing that only this user may read. Fails if it exists.
pub(crate) fn create_private(path: &Path) -> Result<File, StoreError> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options
        .open(path)
        .map_err(StoreError::io(path, "cannot create file"))
}

/// Renames and makes the new entry durable.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), StoreError> {
    fs::rename(from, to).map_err(StoreError::io(to, "cannot rename to"))?;
    sync_parent(to)
}

/// Removes a file; one that is not there counts as removed.
pub(crate) fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
    .map_err(StoreError::io(path, "cannot remove"))
}

/// Makes the entries of a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), StoreError> {
    // Windows offers no sync of directories; NTFS journals their entries.
    #[cfg(unix)]
    File::open(path)
        .and_then(|dir| dir.sync_all())
        .map_err(StoreError::io(path, "cannot sync directory"))?;
    Ok(())
}

pub(crate) fn sync_parent(path: &Path) -> Result<(), StoreError> {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_dir(parent),
        _ => sync_dir(Path::new(".")),
    }
}

/// The entries of a directory, sorted by name.
pub(crate) fn list(dir: &Path) -> Result<Vec<std::path::PathBuf>, StoreError> {
    let mut paths = fs::read_dir(dir)
        .and_then(|entries| {
            entries
                .map(|entry| entry.map(|e| e.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(StoreError::io(dir, "cannot list"))?;
    paths.sort();
    Ok(paths)
}
