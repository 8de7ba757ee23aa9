//! The querier's own keys: made once, kept encrypted, replaced when suspect.
//!
//! Raw decryptions, and even the news that one failed, tell something about the key that made them. So a key whose answer was
//! not usable is suspect and used no more; replacing it erases it.

use crate::error::PartyError;
use galen_core::Digest;
use galen_inference::{Interface, Querier};
use galen_store::{Repository, Store, Table};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use zeroize::Zeroizing;

const KEYS: Table<KeyEntry> = Table::new("query-keys", *b"QKEY", 1);
const SECRETS: Table<Vec<u8>> = Table::new("query-secrets", *b"QSEC", 1);
/// What names the public part of a key at the coordinator: to make it again takes a second or two.
const PUBLIC: Table<Digest> = Table::new("query-public-keys", *b"QPUB", 1);

/// What is known of the key of a preset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeyEntry {
    /// Number of the key; a replaced key's successor has the next one.
    number: u32,
    /// Whether an answer under it was not usable.
    suspect: bool,
}

/// The keys of a querier. Calls block.
#[derive(Debug)]
pub struct Keys {
    store: Store,
    keys: Repository<KeyEntry>,
    secrets: Repository<Vec<u8>>,
    public: Repository<Digest>,
}

impl Keys {
    /// Opens the keys of a store that holds nothing else erasable.
    pub fn open(store: &Store) -> Result<Self, PartyError> {
        let keys = Self {
            keys: store.database().repository(&KEYS)?,
            secrets: store.database().repository(&SECRETS)?,
            public: store.database().repository(&PUBLIC)?,
            store: store.clone(),
        };
        keys.erase_replaced()?;
        Ok(keys)
    }

    /// Erases every key but the present one of each preset, also those that were made or replaced when the process was killed.
    fn erase_replaced(&self) -> Result<(), PartyError> {
        let mut present = BTreeSet::new();
        for entry in self.keys.iter() {
            let (preset, entry) = entry?;
            present.insert(name(&String::from_utf8_lossy(&preset), entry.number));
        }
        let erasable = self.store.erasable();
        for name in erasable.names()? {
            if !present.contains(&name) {
                erasable.erase(&name)?;
            }
        }
        Ok(())
    }

    /// The querier of a model, under the key of its preset, or of a packing under that; see [`Keys::secret`].
    pub fn querier(&self, interface: &Interface, new: bool) -> Result<Querier, PartyError> {
        let make = || {
            let querier = Querier::generate(interface).map_err(PartyError::internal)?;
            Ok(querier.secret_bytes())
        };
        let secret = self.secret(&interface.key_set(), new, make)?;
        Querier::open(interface, &secret).map_err(PartyError::internal)
    }

    /// The secret key of a preset, or of a parameter set of TFHE; the first call, and a call that asks for a new key, makes it.
    ///
    /// # Errors
    /// [`PartyError::NotYet`] if the key is suspect and no new one is asked for; those of `make`.
    pub fn secret(
        &self,
        preset: &str,
        new: bool,
        make: impl FnOnce() -> Result<Zeroizing<Vec<u8>>, PartyError>,
    ) -> Result<Zeroizing<Vec<u8>>, PartyError> {
        match self.keys.get(preset)? {
            Some(entry) if entry.suspect && !new => Err(PartyError::NotYet(
                "an answer under the present key was not usable, so the key is not used again: make another with --new-key"
                    .into(),
            )),
            Some(entry) if !new => {
                let bytes = self.secrets.get_erasable(self.store.erasable(), name(preset, entry.number))?;
                let bytes = bytes.ok_or_else(|| PartyError::Internal("the querier's key is not stored".into()))?;
                Ok(Zeroizing::new(bytes))
            }
            known => self.keep(preset, known, make()?),
        }
    }

    fn keep(
        &self,
        preset: &str,
        known: Option<KeyEntry>,
        secret: Zeroizing<Vec<u8>>,
    ) -> Result<Zeroizing<Vec<u8>>, PartyError> {
        let number = known.map_or(0, |entry| entry.number.wrapping_add(1));
        let name_now = name(preset, number);
        self.store.erasable().create(&name_now)?;
        let mut batch = self.store.database().batch();
        batch.put_erasable(
            &self.secrets,
            self.store.erasable(),
            &name_now,
            &name_now,
            &secret,
        )?;
        batch.put(
            &self.keys,
            preset,
            &KeyEntry {
                number,
                suspect: false,
            },
        )?;
        batch.commit()?;
        self.erase_replaced()?;
        Ok(secret)
    }

    /// What names the public part of the present key of a preset; made by `public` when it is first asked for.
    pub fn public_digest(
        &self,
        preset: &str,
        public: impl FnOnce() -> Result<Vec<u8>, PartyError>,
    ) -> Result<Digest, PartyError> {
        let name = name(preset, self.keys.get(preset)?.map_or(0, |entry| entry.number));
        if let Some(known) = self.public.get(&name)? {
            return Ok(known);
        }
        let digest = Digest::of(&public()?);
        self.public.put(&name, &digest)?;
        Ok(digest)
    }

    /// Whether there is a key for a preset that may be used.
    pub fn is_usable(&self, preset: &str) -> Result<bool, PartyError> {
        Ok(self.keys.get(preset)?.is_some_and(|entry| !entry.suspect))
    }

    /// Whether a key for a preset was ever made.
    pub fn is_known(&self, preset: &str) -> Result<bool, PartyError> {
        Ok(self.keys.contains(preset)?)
    }

    /// Marks the key of a preset as suspect. Durable when this returns.
    pub fn suspect(&self, preset: &str) -> Result<(), PartyError> {
        let Some(entry) = self.keys.get(preset)? else {
            return Ok(());
        };
        Ok(self.keys.put(
            preset,
            &KeyEntry {
                suspect: true,
                ..entry
            },
        )?)
    }
}

fn name(preset: &str, number: u32) -> String {
    format!("{}-{number}", preset.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;
    use galen_inference::Program;
    use galen_models::{Model, ModelSpec, Range};

    #[test]
    fn a_key_is_made_once_and_a_suspect_one_is_replaced_and_erased() {
        let temp = tempfile::tempdir().unwrap();
        let model = Model::initial(ModelSpec::residual_mlp(2, &[2], 0.1, 2).unwrap(), 1).unwrap();
        let program = Program::compile(&model, &[Range::new(-1.0, 1.0); 2], 8).unwrap();
        let open = || {
            let store = Store::open(temp.path()).unwrap();
            (Keys::open(&store).unwrap(), store)
        };
        let name = |querier: Querier| querier.serving_key().unwrap().digest();
        let first = {
            let (keys, _) = open();
            name(keys.querier(program.interface(), false).unwrap())
        };
        let (keys, store) = open();
        assert_eq!(name(keys.querier(program.interface(), false).unwrap()), first);
        let preset = &program.plan().preset;
        let public = |bytes: &'static [u8]| keys.public_digest(preset, || Ok(bytes.to_vec())).unwrap();
        // It is asked for once.
        assert_eq!(
            (public(b"first"), public(b"second")),
            (Digest::of(b"first"), Digest::of(b"first"))
        );
        keys.suspect(preset).unwrap();
        assert!(matches!(
            keys.querier(program.interface(), false),
            Err(PartyError::NotYet(_))
        ));
        let second = name(keys.querier(program.interface(), true).unwrap());
        assert_ne!(second, first);
        assert_eq!(public(b"second"), Digest::of(b"second"));
        assert_eq!(name(keys.querier(program.interface(), false).unwrap()), second);
        assert_eq!(
            store.erasable().names().unwrap().len(),
            1,
            "the old key is erased"
        );
    }

    /// As if the process had been killed after it stored a new key and before it erased the old one, or before it stored the new one.
    #[test]
    fn what_a_kill_left_of_other_keys_is_erased_and_the_present_one_is_kept() {
        let temp = tempfile::tempdir().unwrap();
        let model = Model::initial(ModelSpec::residual_mlp(2, &[2], 0.1, 2).unwrap(), 1).unwrap();
        let program = Program::compile(&model, &[Range::new(-1.0, 1.0); 2], 8).unwrap();
        let preset = program.plan().preset.clone();
        let querier = {
            let store = Store::open(temp.path()).unwrap();
            let keys = Keys::open(&store).unwrap();
            keys.querier(program.interface(), false).unwrap();
            let querier = keys.querier(program.interface(), true).unwrap();
            for number in [0, 2] {
                store.erasable().create(&name(&preset, number)).unwrap();
            }
            querier.serving_key().unwrap().digest()
        };
        let store = Store::open(temp.path()).unwrap();
        let keys = Keys::open(&store).unwrap();
        assert_eq!(store.erasable().names().unwrap(), [name(&preset, 1)]);
        let kept = keys.querier(program.interface(), false).unwrap();
        assert_eq!(kept.serving_key().unwrap().digest(), querier);
        store.erasable().create(&name(&preset, 0)).unwrap();
        keys.querier(program.interface(), true).unwrap();
        assert_eq!(store.erasable().names().unwrap(), [name(&preset, 2)]);
    }
}
