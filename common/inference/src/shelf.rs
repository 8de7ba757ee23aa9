//! Ciphertexts of a running evaluation that wait in files.
//!
//! They are in a folder of their own that only this user may read, and that is removed when the evaluation ends, well or not. What a process
//! that was killed leaves behind, its successor removes. The files hold what memory would hold: values encrypted under the querier's key, not
//! re-randomised, so they are for nobody but the coordinator.

use crate::circuit::{Place, Shelf};
use galen_ckks::CkksError;
use galen_ckks::ciphertext::Ciphertext;
use galen_ckks::context::Context;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::{Builder, TempDir};

/// Files, one for each ciphertext.
pub(crate) struct Files {
    context: Arc<Context>,
    folder: TempDir,
}

/// A ciphertext that cannot be put into a file or taken back.
#[derive(Debug)]
pub(crate) enum ShelfError {
    Io { path: PathBuf, source: std::io::Error },
    Ckks(CkksError),
}

impl ShelfError {
    fn at(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { path, source }
    }
}

impl Files {
    /// In a new folder within `parent`, which is made if it is not there.
    pub(crate) fn new(context: &Arc<Context>, parent: &Path) -> Result<Self, ShelfError> {
        fs::create_dir_all(parent).map_err(ShelfError::at(parent))?;
        let mut builder = Builder::new();
        builder.prefix("batch-");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            builder.permissions(fs::Permissions::from_mode(0o700));
        }
        let folder = builder.tempdir_in(parent).map_err(ShelfError::at(parent))?;
        Ok(Self {
            context: Arc::clone(context),
            folder,
        })
    }

    fn path(&self, place: Place) -> PathBuf {
        let Place { node, raw, index } = place;
        let kind = if raw { "square" } else { "value" };
        self.folder.path().join(format!("{kind}-{node}-{index}"))
    }
}

impl Shelf<Ciphertext> for Files {
    type Error = ShelfError;

    fn put(&self, place: Place, value: &Ciphertext) -> Result<(), ShelfError> {
        let path = self.path(place);
        let bytes = value.to_bytes().map_err(ShelfError::Ckks)?;
        fs::write(&path, bytes).map_err(ShelfError::at(&path))
    }

    fn get(&self, place: Place) -> Result<Ciphertext, ShelfError> {
        let path = self.path(place);
        let bytes = fs::read(&path).map_err(ShelfError::at(&path))?;
        Ciphertext::from_bytes(&self.context, &bytes).map_err(ShelfError::Ckks)
    }

    fn remove(&self, place: Place) -> Result<(), ShelfError> {
        let path = self.path(place);
        fs::remove_file(&path).map_err(ShelfError::at(&path))
    }
}
