//! The coordinator's folder.

use crate::config::{Config, SAMPLE};
use galen_core::study::{Card, FrozenStudy};
use galen_core::{Digest, PartyId, SigningKey};
use galen_net::Identity;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Name under which the coordinator stands in a study.
pub const NAME: &str = "coordinator";

/// A folder with identity, configuration, frozen study and state.
#[derive(Clone, Debug)]
pub struct Home(PathBuf);

/// A folder that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// `init` would overwrite.
    #[error("{} already holds a coordinator; choose another folder, or keep using this one", .0.display())]
    Exists(PathBuf),
    /// An `init` that was interrupted.
    #[error("{} is there but no config.toml: an init did not finish; delete the folder and try again", .0.display())]
    Unfinished(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The TLS identity cannot be made or read.
    #[error("the TLS identity cannot be used: {0}")]
    Identity(String),
    /// The signing key cannot be made or read.
    #[error(transparent)]
    Sign(#[from] galen_core::SignError),
    /// The name is not allowed.
    #[error(transparent)]
    Name(#[from] galen_core::InvalidName),
    /// The configuration cannot be read.
    #[error(transparent)]
    Config(#[from] galen_core::config::ConfigError),
    /// The study cannot be read.
    #[error(transparent)]
    Study(#[from] galen_core::study::StudyError),
    /// The study names another coordinator.
    #[error("the frozen study names another coordinator (certificate {study}); this folder's is {own}")]
    Stranger {
        /// Certificate in the study.
        study: Digest,
        /// Certificate of this folder.
        own: Digest,
    },
}

impl Home {
    /// A folder that `init` made.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// Makes identity and configuration in a new folder; returns the public card.
    pub fn init(dir: &Path) -> Result<(Self, Card), HomeError> {
        let home = Self(dir.to_owned());
        // The configuration is written last.
        if home.config_path().exists() {
            return Err(HomeError::Exists(dir.to_owned()));
        }
        if home.keys().exists() {
            return Err(HomeError::Unfinished(home.keys()));
        }
        let keys = home.keys();
        fs::create_dir_all(&keys).map_err(io(&keys))?;
        restrict(&keys, 0o700)?;
        let identity = Identity::generate().map_err(|e| HomeError::Identity(e.to_string()))?;
        identity
            .save(&keys)
            .map_err(|e| HomeError::Identity(e.to_string()))?;
        let signing = SigningKey::generate()?;
        write_secret(&keys.join("signing.pkcs8"), signing.to_pkcs8())?;
        let card = Card {
            name: PartyId::new(NAME)?,
            certificate: identity.fingerprint(),
            signing: signing.public(),
            sealing: Digest::default(),
        };
        let text = toml_of(&card, &home.card_path())?;
        write_durably(&home.card_path(), text.as_bytes())?;
        write_durably(&home.config_path(), SAMPLE.as_bytes())?;
        Ok((home, card))
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.0.join("config.toml")
    }

    /// `card.toml`.
    pub fn card_path(&self) -> PathBuf {
        self.0.join("card.toml")
    }

    /// `status.json`.
    pub fn status_path(&self) -> PathBuf {
        self.0.join("status.json")
    }

    /// Where `coordinator model` puts models for the daemon.
    pub fn models_path(&self) -> PathBuf {
        self.0.join("models")
    }

    /// Where ciphertexts wait while a batch is evaluated that does not fit in memory. Nothing in it outlives the daemon.
    pub fn scratch_path(&self) -> PathBuf {
        self.0.join("scratch")
    }

    /// An earlier version of the study.
    pub fn former_path(&self, version: u32) -> PathBuf {
        self.0.join("former").join(format!("v{version}.toml"))
    }

    /// Where the store lives.
    pub fn store_path(&self) -> PathBuf {
        self.0.join("data")
    }

    fn keys(&self) -> PathBuf {
        self.0.join("keys")
    }

    /// Reads the configuration.
    pub fn config(&self) -> Result<Config, HomeError> {
        Ok(galen_core::config::load(&self.config_path())?)
    }

    /// Where the frozen study is.
    pub fn study_path(&self, config: &Config) -> PathBuf {
        self.0.join(&config.study)
    }

    /// Reads the frozen study and checks that it names this coordinator.
    pub fn study(&self, config: &Config) -> Result<FrozenStudy, HomeError> {
        let study = FrozenStudy::load(&self.study_path(config))?;
        let own = self.card()?.certificate;
        if study.coordinator().certificate == own {
            return Ok(study);
        }
        Err(HomeError::Stranger {
            study: study.coordinator().certificate,
            own,
        })
    }

    /// Reads the coordinator's public card.
    pub fn card(&self) -> Result<Card, HomeError> {
        Ok(galen_core::config::load(&self.card_path())?)
    }

    /// Reads the TLS identity.
    pub fn identity(&self) -> Result<Identity, HomeError> {
        Identity::load(&self.keys()).map_err(|e| HomeError::Identity(e.to_string()))
    }

    /// Reads the signing key.
    pub fn signing(&self) -> Result<SigningKey, HomeError> {
        let path = self.keys().join("signing.pkcs8");
        Ok(SigningKey::from_pkcs8(&fs::read(&path).map_err(io(&path))?)?)
    }
}

/// Writes a public file through a temporary one, so that a reader never sees half of it; it may be gone after a power cut.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, bytes).map_err(io(&temporary))?;
    fs::rename(&temporary, path).map_err(io(path))
}

/// The same, durable on return.
pub fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let temporary = path.with_extension("tmp");
    let mut file = fs::File::create(&temporary).map_err(io(&temporary))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io(&temporary))?;
    fs::rename(&temporary, path).map_err(io(path))?;
    sync_folder(path)
}

/// Makes the folder of a file.
pub fn make_folder(path: &Path) -> Result<(), HomeError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(io(folder))
}

/// Removes a folder with all that is in it, if there is one.
pub fn remove_folder(path: &Path) -> Result<(), HomeError> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(io(path)(error)),
        _ => Ok(()),
    }
}

/// Removes a file; durable on return.
pub fn remove_durably(path: &Path) -> Result<(), HomeError> {
    fs::remove_file(path).map_err(io(path))?;
    sync_folder(path)
}

fn sync_folder(path: &Path) -> Result<(), HomeError> {
    let folder = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(io(folder))
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), HomeError> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(io(path))?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(io(path))
}

fn restrict(path: &Path, mode: u32) -> Result<(), HomeError> {
    #[cfg(unix)]
    fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(mode)).map_err(io(path))?;
    #[cfg(not(unix))]
    let _ = (path, mode);
    Ok(())
}

fn toml_of(card: &Card, path: &Path) -> Result<String, HomeError> {
    toml::to_string_pretty(card).map_err(|e| io(path)(std::io::Error::other(e)))
}

fn io(path: &Path) -> impl FnOnce(std::io::Error) -> HomeError + use<> {
    let path = path.to_owned();
    move |source| HomeError::Io { path, source }
}
