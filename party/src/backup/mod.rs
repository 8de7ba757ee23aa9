//! The encrypted backup of a party: what makes it this party, so that a new machine can take its place.
//!
//! In it are the four long-term keys with the card, the configuration, and the signed study with the consent, and which state had been
//! derived when it was made. Not in it, on purpose:
//!
//! - One-round keys, sealed seeds, own values, contribution bytes. They must be gone when their round is over, and a copy of them
//!   would outlive it.
//! - The storage key, under which those secrets lie on the disk: with it an old image of the disk would give them back. A restored
//!   party draws another one. What it opened it can fetch and open again, as long as the coordinator keeps it.
//! - The ledger of what the custodian signed. It is older than what was signed since, so it would be worse than none: a restored party
//!   is marked ([`crate::restored`]), and its custodian begins anew.

pub mod envelope;

use crate::config::Config;
use crate::consent;
use crate::error::PartyError;
use crate::home::{self, Home};
use crate::identity::{self, Identity};
use crate::restored::Restored;
use crate::sealed::Sealed;
use envelope::EnvelopeError;
use galen_core::study::{Card, FrozenStudy};
use galen_core::{Digest, PartyId};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use zeroize::{Zeroize, Zeroizing};

/// Why a backup cannot be made, read or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The file is not opened.
    #[error("{}: {source}", path.display())]
    Envelope {
        /// The file.
        path: PathBuf,
        /// Why.
        source: EnvelopeError,
    },
    /// The file was opened, but what is in it is no backup of a party.
    #[error("{}: the passphrase fits, but {what}", path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The backup belongs to another party, or to other keys of the same name.
    #[error("the backup is of \"{found}\" (certificate {}), not of \"{expected}\" (certificate {})", found_keys.short(), expected_keys.short())]
    OtherParty {
        /// Whose backup was expected.
        expected: PartyId,
        /// Its certificate.
        expected_keys: Digest,
        /// Whose it is.
        found: PartyId,
        /// Its certificate.
        found_keys: Digest,
    },
    /// Something is where a backup would be restored or written.
    #[error("{}: {what}; nothing was overwritten", path.display())]
    Occupied {
        /// The folder or file.
        path: PathBuf,
        /// What is there.
        what: &'static str,
    },
    /// No passphrase was given, or it cannot be read.
    #[error("no passphrase: {0}")]
    NoPassphrase(String),
}

impl BackupError {
    /// The number of the stable code.
    pub(crate) fn number(&self) -> u16 {
        match self {
            Self::Envelope { source, .. } => match source {
                EnvelopeError::Newer { .. } => 112,
                EnvelopeError::Passphrase => 113,
                _ => 111,
            },
            Self::Contents { .. } => 111,
            Self::NoPassphrase(_) => 113,
            Self::OtherParty { .. } => 114,
            Self::Occupied { .. } => 115,
        }
    }

    /// What the reader can do about it.
    pub(crate) fn hint(&self) -> &'static str {
        match self.number() {
            112 => "use the Galen version that made the backup, or a newer one",
            113 => "give the passphrase at the prompt, by --passphrase-file FILE, or in GALEN_PASSPHRASE",
            114 => "look for the backup of this party; `party keys verify FILE` tells whose one is",
            115 => "choose a folder that does not exist yet",
            _ => "try another copy of the backup",
        }
    }
}

/// Everything in a backup. Overwritten on drop; it has no Debug.
#[derive(Serialize, Deserialize)]
pub struct Backup {
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// The party's public card.
    pub card: Card,
    keys: Vec<(String, Vec<u8>)>,
    config: String,
    study: Option<SignedStudy>,
    /// What had been derived: how many rounds, and the digest of the state after them.
    pub state: Option<(u32, Digest)>,
}

#[derive(Serialize, Deserialize)]
struct SignedStudy {
    text: String,
    consent: Vec<u8>,
}

impl Drop for Backup {
    fn drop(&mut self) {
        for (_, bytes) in &mut self.keys {
            bytes.zeroize();
        }
    }
}

/// What a backup is of, in a form that may be shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contents {
    /// The party.
    pub party: PartyId,
    /// Fingerprint of its certificate.
    pub certificate: Digest,
    /// When it was made, in milliseconds since the epoch.
    pub made_ms: u64,
    /// The signed study; `None` if the party had signed none.
    pub study: Option<StudyContents>,
    /// Rounds that had been taken in.
    pub applied: Option<u32>,
    /// Digest of the state after them.
    pub state: Option<Digest>,
    /// Names of the secret keys.
    pub keys: Vec<String>,
}

/// The signed study in a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StudyContents {
    /// Its name.
    pub name: PartyId,
    /// Its digest.
    pub digest: Digest,
}

impl Backup {
    /// Collects what belongs into a party's backup. The daemon may run.
    ///
    /// # Errors
    /// If keys, card, study or consent do not belong together: such a backup would be worth nothing.
    pub fn collect(home: &Home, made_ms: u64) -> Result<Self, PartyError> {
        let config = Config::load(home)?;
        let identity = Identity::load(home)?;
        let mut keys = Vec::new();
        for name in identity::FILES {
            keys.push((name.to_owned(), home::read(&home.keys().join(name))?));
        }
        let mut backup = Self {
            made_ms,
            card: identity.card(),
            keys,
            config: read_text(&home.config())?,
            study: None,
            state: None,
        };
        if home.consent().exists() {
            let study = consent::signed_study(&config)?;
            identity.check_member(&study)?;
            consent::load(home, &study, &identity)?;
            backup.study = Some(SignedStudy {
                text: read_text(&config.study)?,
                consent: home::read(&home.consent())?,
            });
            // Before the daemon's first start there is nothing sealed, and nothing derived.
            let state = match Sealed::open(home) {
                Ok(sealed) => sealed.state(&study.digest())?,
                Err(PartyError::NotYet(_)) => None,
                Err(error) => return Err(error),
            };
            backup.state = state.map(|state| (state.derived.applied(), state.derived.digest()));
        }
        Ok(backup)
    }

    /// Encrypts the backup under a passphrase.
    ///
    /// # Errors
    /// [`EnvelopeError::Short`].
    pub fn seal(&self, passphrase: &[u8]) -> Result<Vec<u8>, PartyError> {
        let content = Zeroizing::new(postcard::to_stdvec(self).map_err(PartyError::internal)?);
        envelope::seal(passphrase, &content).map_err(|error| match error {
            EnvelopeError::Short => BackupError::NoPassphrase(error.to_string()).into(),
            error => PartyError::internal(error),
        })
    }

    /// Opens a file and checks that keys, card, study and consent in it belong together. Nothing is written.
    ///
    /// # Errors
    /// [`BackupError`], as precise as it can be.
    pub fn open(path: &Path, passphrase: &[u8]) -> Result<Self, PartyError> {
        let len = std::fs::metadata(path).map_err(PartyError::file(path))?.len();
        let envelope = |source| BackupError::Envelope {
            path: path.to_owned(),
            source,
        };
        if len > envelope::MAX_FILE {
            return Err(envelope(EnvelopeError::NotABackup).into());
        }
        let content = envelope::open(passphrase, &home::read(path)?).map_err(envelope)?;
        let contents = |what: String| BackupError::Contents {
            path: path.to_owned(),
            what,
        };
        let (backup, rest): (Self, _) = postcard::take_from_bytes(&content)
            .map_err(|_| contents("its content cannot be decoded".into()))?;
        if !rest.is_empty() {
            return Err(contents("its content has bytes left over".into()).into());
        }
        let identity = backup
            .identity()
            .map_err(|error| contents(format!("its keys are not those of its card: {error}")))?;
        if let Some(study) = backup.frozen(path)? {
            identity
                .check_member(&study)
                .map_err(|error| contents(error.to_string()))?;
            let consent = backup
                .study
                .as_ref()
                .map(|signed| signed.consent.as_slice())
                .unwrap_or_default();
            consent::open(consent, &study, &identity)
                .ok_or_else(|| contents("the consent in it is not this party's to the study in it".into()))?;
        }
        Ok(backup)
    }

    fn identity(&self) -> Result<Identity, PartyError> {
        let file = |name: &str| {
            let found = self.keys.iter().find(|(key, _)| key == name);
            let bytes = found.map(|(_, bytes)| Zeroizing::new(bytes.clone()));
            bytes.ok_or_else(|| PartyError::keys(name, "is missing"))
        };
        Identity::from_files(&self.card, file)
    }

    fn frozen(&self, path: &Path) -> Result<Option<FrozenStudy>, PartyError> {
        let parse = |signed: &SignedStudy| FrozenStudy::parse(path, &signed.text).map_err(PartyError::from);
        self.study.as_ref().map(parse).transpose()
    }

    /// What it is of.
    pub fn contents(&self) -> Result<Contents, PartyError> {
        let study = self.frozen(Path::new("the study in the backup"))?;
        Ok(Contents {
            party: self.card.name.clone(),
            certificate: self.card.certificate,
            made_ms: self.made_ms,
            study: study.map(|study| StudyContents {
                name: study.study().name.clone(),
                digest: study.digest(),
            }),
            applied: self.state.map(|(applied, _)| applied),
            state: self.state.map(|(_, digest)| digest),
            keys: self.keys.iter().map(|(name, _)| name.clone()).collect(),
        })
    }

    /// Checks that the backup is of the party that this card names.
    ///
    /// # Errors
    /// [`BackupError::OtherParty`].
    pub fn check_is(&self, card: &Card) -> Result<(), PartyError> {
        if self.card == *card {
            return Ok(());
        }
        Err(BackupError::OtherParty {
            expected: card.name.clone(),
            expected_keys: card.certificate,
            found: self.card.name.clone(),
            found_keys: self.card.certificate,
        }
        .into())
    }

    /// Checks that a study knows the party under the keys in the backup.
    ///
    /// # Errors
    /// [`BackupError::OtherParty`] if it has other keys; [`PartyError::Consent`] if it does not know the party.
    pub fn check_member(&self, study: &FrozenStudy) -> Result<(), PartyError> {
        let unknown = || PartyError::Consent(format!("\"{}\" is not in the study", self.card.name));
        self.check_is(study.card(&self.card.name).ok_or_else(unknown)?)
    }

    /// Puts the party into a new or empty folder, marked as restored. The card is written last, and makes the folder a party's: after a
    /// crash before that, the folder is no party's and can be removed.
    ///
    /// # Errors
    /// [`BackupError::Occupied`] if anything is in the folder, or the configuration puts the study where another file is.
    pub fn restore(&self, dir: &Path, now_ms: u64) -> Result<Home, PartyError> {
        let occupied = |path: &Path, what| BackupError::Occupied {
            path: path.to_owned(),
            what,
        };
        if std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) || dir.is_file() {
            return Err(occupied(dir, "is not an empty folder").into());
        }
        let home = Home::create(dir)?;
        home::write_durably(&home.config(), self.config.as_bytes())?;
        let config = Config::load(&home)?;
        if let Some(signed) = &self.study {
            let there = config.study.exists();
            if there && home::read(&config.study)? != signed.text.as_bytes() {
                return Err(occupied(&config.study, "another study lies there").into());
            }
        }
        for (name, bytes) in &self.keys {
            // Only names that this version knows: a name is a path.
            if !identity::FILES.contains(&name.as_str()) {
                return Err(PartyError::keys(name, "is no key of a party"));
            }
            home::write_durably(&home.keys().join(name), bytes)?;
        }
        if let Some(signed) = &self.study {
            consent::write(&home, &config, signed.text.as_bytes(), &signed.consent)?;
        }
        Restored {
            format: 1,
            backup_ms: self.made_ms,
            restored_ms: now_ms,
        }
        .write(&home)?;
        let card = toml::to_string_pretty(&self.card).map_err(PartyError::internal)?;
        home::write_durably(&home.card(), card.as_bytes())?;
        Ok(home)
    }
}

fn read_text(path: &Path) -> Result<String, PartyError> {
    std::fs::read_to_string(path).map_err(PartyError::file(path))
}

#[cfg(test)]
mod tests;
