//! A party's identity: its TLS certificate, its signing key and the key to which opened sums are sealed.

use crate::error::PartyError;
use crate::home::{self, Home};
use galen_core::study::{Card, FrozenStudy};
use galen_core::{Digest, PartyId, SigningKey};
use galen_custody::ReceiverKey;
use galen_net::Identity as TlsIdentity;
use std::path::PathBuf;
use zeroize::Zeroizing;

/// All long-term keys of a party. Debug prints the name only.
pub struct Identity {
    /// Its name.
    pub name: PartyId,
    /// Certificate and key for TLS.
    pub tls: TlsIdentity,
    /// Signs statements.
    pub signing: SigningKey,
    /// Opens what is sealed to this party as a receiver.
    pub sealing: ReceiverKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.name)
    }
}

const SIGNING_FILE: &str = "signing.pkcs8";
const SEALING_FILE: &str = "sealing.key";

/// The files in `keys/` that make a party this party.
pub const FILES: [&str; 4] = [
    galen_net::CERTIFICATE_FILE,
    galen_net::KEY_FILE,
    SIGNING_FILE,
    SEALING_FILE,
];

fn signing_path(home: &Home) -> PathBuf {
    home.keys().join(SIGNING_FILE)
}

fn sealing_path(home: &Home) -> PathBuf {
    home.keys().join(SEALING_FILE)
}

impl Identity {
    /// Draws all keys and stores them in a new folder; the card is written last, and makes the folder a party's.
    pub fn create(home: &Home, name: PartyId) -> Result<Self, PartyError> {
        let keys = home.keys();
        let tls = TlsIdentity::generate().map_err(|e| PartyError::keys(&keys, e))?;
        tls.save(&keys).map_err(|e| PartyError::keys(&keys, e))?;
        let signing = SigningKey::generate().map_err(|e| PartyError::keys(&keys, e))?;
        home::write_durably(&signing_path(home), signing.to_pkcs8())?;
        let sealing = ReceiverKey::generate().map_err(|e| PartyError::keys(&keys, e))?;
        home::write_durably(&sealing_path(home), &sealing.to_bytes())?;
        let identity = Self {
            name,
            tls,
            signing,
            sealing,
        };
        let card = toml::to_string_pretty(&identity.card()).map_err(PartyError::internal)?;
        home::write_durably(&home.card(), card.as_bytes())?;
        Ok(identity)
    }

    /// Reads the keys and checks that they are those of the card.
    pub fn load(home: &Home) -> Result<Self, PartyError> {
        let card: Card = galen_core::config::load(&home.card())?;
        Self::from_files(&card, |name| {
            Ok(Zeroizing::new(home::read(&home.keys().join(name))?))
        })
    }

    /// Reads the keys from the contents of [`FILES`], which `file` gives by name, and checks that they are those of the card.
    ///
    /// # Errors
    /// [`PartyError::Keys`], which names the file.
    pub fn from_files(
        card: &Card,
        file: impl Fn(&str) -> Result<Zeroizing<Vec<u8>>, PartyError>,
    ) -> Result<Self, PartyError> {
        let (certificate, key) = (file(galen_net::CERTIFICATE_FILE)?, file(galen_net::KEY_FILE)?);
        let tls = TlsIdentity::from_pem(&certificate, &key)
            .map_err(|error| PartyError::keys(galen_net::KEY_FILE, error))?;
        let signing = SigningKey::from_pkcs8(&file(SIGNING_FILE)?)
            .map_err(|error| PartyError::keys(SIGNING_FILE, error))?;
        let sealing = ReceiverKey::from_bytes(&file(SEALING_FILE)?)
            .map_err(|error| PartyError::keys(SEALING_FILE, error))?;
        let identity = Self {
            name: card.name.clone(),
            tls,
            signing,
            sealing,
        };
        if identity.card() != *card {
            return Err(PartyError::keys(
                "keys/",
                "the keys are not those of the card of this party",
            ));
        }
        Ok(identity)
    }

    /// The public card.
    pub fn card(&self) -> Card {
        Card {
            name: self.name.clone(),
            certificate: self.tls.fingerprint(),
            signing: self.signing.public(),
            sealing: Digest(*self.sealing.public()),
        }
    }

    /// Checks that the study knows this party under exactly these keys.
    pub fn check_member(&self, study: &FrozenStudy) -> Result<(), PartyError> {
        match study.card(&self.name) {
            Some(card) if *card == self.card() => Ok(()),
            Some(_) => Err(PartyError::Consent(format!(
                "the study has other keys for \"{}\" than this party: the operator was given another card, or this folder is \
                 not the one that made it",
                self.name
            ))),
            None => Err(PartyError::Consent(format!(
                "\"{}\" is not in the study",
                self.name
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_survive_storage_and_must_fit_the_card() {
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        let made = Identity::create(&home, PartyId::new("a").unwrap()).unwrap();
        let read = Identity::load(&home).unwrap();
        assert_eq!(made.card(), read.card());
        assert!(!format!("{made:?}").contains(&hex::encode(made.signing.to_pkcs8())));
        home::write_durably(&signing_path(&home), SigningKey::generate().unwrap().to_pkcs8()).unwrap();
        assert!(matches!(Identity::load(&home), Err(PartyError::Keys { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn secret_keys_are_readable_by_this_user_only() {
        use std::os::unix::fs::PermissionsExt;
        let temp = tempfile::tempdir().unwrap();
        let home = Home::create(temp.path()).unwrap();
        Identity::create(&home, PartyId::new("a").unwrap()).unwrap();
        for entry in std::fs::read_dir(home.keys()).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name().into_string().unwrap();
            if !name.contains("cert") {
                assert_eq!(
                    entry.metadata().unwrap().permissions().mode() & 0o077,
                    0,
                    "{name}"
                );
            }
        }
    }
}
