//! Where public data sets lie.

use std::path::{Path, PathBuf};

/// A file of the folder that `GALEN_DATA` names, or of `shared/data` beside the repository. Says so if it is not there.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("GALEN_DATA").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data"));
    let path = folder.join(name);
    if path.exists() {
        return Some(path);
    }
    eprintln!(
        "skipped: {} is not there (set GALEN_DATA to the folder of data sets)",
        path.display()
    );
    None
}
