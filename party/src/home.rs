//! A party's folder: where everything lies, and writing files so that a crash leaves the old one or the new one.

use crate::error::PartyError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// The folder of one party. Everything that the party owns is below it, except the table that `config.toml` names.
#[derive(Clone, Debug)]
pub struct Home {
    root: PathBuf,
}

impl Home {
    /// Makes a new folder, or takes an empty one.
    ///
    /// # Errors
    /// If a party lives there already, or something else does.
    pub fn create(root: &Path) -> Result<Self, PartyError> {
        let home = Self {
            root: root.to_owned(),
        };
        if home.card().exists() {
            return Err(PartyError::home(
                root,
                "a party lives here already; nothing was changed",
            ));
        }
        if home.keys().exists() {
            let unfinished = "holds keys but no card: an earlier `party init` did not finish; remove the folder to start again";
            return Err(PartyError::home(root, unfinished));
        }
        make_private(root)?;
        make_private(&home.keys())?;
        Ok(home)
    }

    /// Opens the folder of an existing party.
    pub fn open(root: &Path) -> Result<Self, PartyError> {
        let home = Self {
            root: root.to_owned(),
        };
        if !home.card().is_file() {
            return Err(PartyError::home(
                root,
                "no party lives here (card.toml is missing)",
            ));
        }
        Ok(home)
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The configuration.
    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// The public identity card, which goes to the operator.
    pub fn card(&self) -> PathBuf {
        self.root.join("card.toml")
    }

    /// The secret keys.
    pub fn keys(&self) -> PathBuf {
        self.root.join("keys")
    }

    /// The signed consent to the study.
    pub fn consent(&self) -> PathBuf {
        self.root.join("consent.bin")
    }

    /// The mark of a party that was restored from a backup.
    pub fn restored(&self) -> PathBuf {
        self.root.join("restored.toml")
    }

    /// Earlier versions of the study, each as `v1.toml`.
    pub fn former(&self) -> PathBuf {
        self.root.join("former")
    }

    /// The journal of a change to a successor study that is not finished.
    pub fn succession(&self) -> PathBuf {
        self.root.join("succession.bin")
    }

    /// State of the daemon.
    pub fn store(&self) -> PathBuf {
        self.root.join("store")
    }

    /// State of `party query`, a process of its own.
    pub fn query(&self) -> PathBuf {
        self.root.join("query")
    }

    /// Sealed results that other commands read while the daemon runs.
    pub fn shared(&self) -> PathBuf {
        self.root.join("shared")
    }

    /// The copy of the audit log.
    pub fn audit(&self) -> PathBuf {
        self.root.join("audit")
    }

    /// What the daemon says of itself.
    pub fn status(&self) -> PathBuf {
        self.root.join("status.json")
    }

    /// A path of the configuration: relative paths are relative to the folder.
    pub fn resolve(&self, path: &Path) -> PathBuf {
        self.root.join(path)
    }
}

/// Makes a folder that only this user may enter.
pub fn make_private(path: &Path) -> Result<(), PartyError> {
    fs::create_dir_all(path).map_err(PartyError::file(path))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o700)).map_err(PartyError::file(path))?;
    }
    Ok(())
}

/// Writes a file that only this user may read, through a temporary one beside it.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), PartyError> {
    write_beside(path, bytes, true)
}

/// As [`write_durably`], without waiting for the disk: for files that are written again and again and may be lost.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), PartyError> {
    write_beside(path, bytes, false)
}

fn write_beside(path: &Path, bytes: &[u8], durable: bool) -> Result<(), PartyError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".tmp");
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt;
            options.mode(0o600);
        }
        let mut file = options.open(&temporary)?;
        file.write_all(bytes)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        if durable && let Some(parent) = path.parent() {
            sync_folder(parent)?;
        }
        Ok(())
    };
    write().map_err(PartyError::file(path))
}

/// Gives a file or folder another name beside others of the party. Durable when this returns.
pub fn rename_durably(from: &Path, to: &Path) -> Result<(), PartyError> {
    fs::rename(from, to)
        .and_then(|()| from.parent().map_or(Ok(()), sync_folder))
        .and_then(|()| to.parent().map_or(Ok(()), sync_folder))
        .map_err(PartyError::file(to))
}

/// Removes a file; one that is not there counts as removed. Durable when this returns.
pub fn remove_durably(path: &Path) -> Result<(), PartyError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(()) => path.parent().map_or(Ok(()), sync_folder),
    }
    .map_err(PartyError::file(path))
}

/// Makes renames in a folder durable.
fn sync_folder(path: &Path) -> std::io::Result<()> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    File::open(path)?.sync_all()
}

/// Reads a file whole.
pub fn read(path: &Path) -> Result<Vec<u8>, PartyError> {
    fs::read(path).map_err(PartyError::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_is_private_and_not_taken_twice() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("a");
        let home = Home::create(&root).unwrap();
        assert!(Home::open(&root).is_err(), "a folder without a card is no party");
        let error = Home::create(&root).unwrap_err().to_string();
        assert!(error.contains("did not finish"), "{error}");
        write_durably(&home.card(), b"card").unwrap();
        Home::open(&root).unwrap();
        let error = Home::create(&root).unwrap_err().to_string();
        assert!(error.contains("already"), "{error}");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
            assert_eq!(mode(&home.keys()), 0o700);
            assert_eq!(mode(&home.card()), 0o600);
        }
    }

    #[test]
    fn a_write_replaces_the_whole_file() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("x");
        write_durably(&path, b"a long first text").unwrap();
        write_whole(&path, b"short").unwrap();
        assert_eq!(read(&path).unwrap(), b"short");
        assert_eq!(
            fs::read_dir(temp.path()).unwrap().count(),
            1,
            "no temporary file stays"
        );
        let error = read(&temp.path().join("none")).unwrap_err().to_string();
        assert!(error.contains("none"), "{error}");
    }

    #[test]
    fn relative_paths_are_below_the_folder_and_absolute_ones_stay() {
        let home = Home {
            root: "/srv/party".into(),
        };
        assert_eq!(
            home.resolve(Path::new("data.csv")),
            Path::new("/srv/party/data.csv")
        );
        assert_eq!(home.resolve(Path::new("/data/x.csv")), Path::new("/data/x.csv"));
    }
}
