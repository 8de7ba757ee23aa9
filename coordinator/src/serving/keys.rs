//! Evaluation keys: which one of a party is the present one of a set: of a preset, and of a packing under it.

use super::exact;
use galen_ckks::CkksError;
use galen_ckks::context::Context;
use galen_core::{Code, Digest, PartyId, Refusal};
use galen_inference::ServingKey;
use galen_net::protocol::{BlobKind, KeyState};
use galen_store::{BlobStore, Repository, Store, StoreError, Table};
use serde::{Deserialize, Serialize};

const KEYS: Table<KeyRecord> = Table::new("evaluation-keys", *b"EVKY", 1);
/// Replaced keys that are remembered, so that they can be told to be stale.
const REMEMBERED: usize = 16;

/// The keys of a party under a preset.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct KeyRecord {
    present: Digest,
    former: Vec<Digest>,
}

/// All keys.
pub(super) struct Keys {
    records: Repository<KeyRecord>,
    blobs: BlobStore,
}

impl Keys {
    pub(super) fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            records: store.database().repository(&KEYS)?,
            blobs: store.blobs().clone(),
        })
    }

    /// How a party's key is doing. One that has arrived since is read, checked, and takes the place of the party's earlier one.
    ///
    /// # Errors
    /// [`Code::BadQuery`] if what arrived is no key under a standard preset; it is deleted.
    pub(super) fn status(
        &self,
        party: &PartyId,
        key: &Digest,
        needed: impl Fn(&Digest) -> bool,
    ) -> Result<KeyState, Refusal> {
        let found = self.find(party, key).map_err(|e| e.refusal())?;
        if let Some((_, record)) = found {
            return Ok(if record.present == *key {
                KeyState::Present
            } else {
                KeyState::Stale
            });
        }
        let info = self.blobs.info(key).map_err(|e| e.refusal())?;
        let arrived =
            info.is_some_and(|info| info.kind == BlobKind::EvaluationKey as u16 && info.has_owner(party));
        if !arrived {
            return Ok(KeyState::Missing);
        }
        self.register(party, key, needed)?;
        Ok(KeyState::Present)
    }

    /// The set of which a key is its party's present one.
    pub(super) fn set(&self, party: &PartyId, key: &Digest) -> Result<Option<String>, StoreError> {
        let found = self.find(party, key)?;
        Ok(found.and_then(|(preset, record)| (record.present == *key).then_some(preset)))
    }

    /// Whether a key was registered, even if another one has taken its place.
    pub(super) fn knows(&self, party: &PartyId, key: &Digest) -> Result<bool, StoreError> {
        Ok(self.find(party, key)?.is_some())
    }

    /// Whether another key has taken the place of this one.
    pub(super) fn is_former(&self, party: &PartyId, key: &Digest) -> Result<bool, StoreError> {
        Ok(self
            .find(party, key)?
            .is_some_and(|(_, record)| record.present != *key))
    }

    fn find(&self, party: &PartyId, key: &Digest) -> Result<Option<(String, KeyRecord)>, StoreError> {
        let prefix = format!("{party}/");
        for entry in self.records.prefix(prefix.as_bytes()) {
            let (name, record) = entry?;
            if record.present == *key || record.former.contains(key) {
                let preset = String::from_utf8_lossy(name.get(prefix.len()..).unwrap_or_default());
                return Ok(Some((preset.into_owned(), record)));
            }
        }
        Ok(None)
    }

    fn register(
        &self,
        party: &PartyId,
        key: &Digest,
        needed: impl Fn(&Digest) -> bool,
    ) -> Result<(), Refusal> {
        let bytes = self.blobs.read(key).map_err(|e| e.refusal())?;
        let preset = match check(&bytes) {
            Ok(preset) => preset,
            Err(refusal) => {
                self.blobs.delete(key).map_err(|e| e.refusal())?;
                return Err(refusal);
            }
        };
        let name = format!("{party}/{preset}");
        let mut record = KeyRecord {
            present: *key,
            former: Vec::new(),
        };
        let before = self.records.get(&name).map_err(|e| e.refusal())?;
        if let Some(before) = before {
            record.former = before.former;
            record.former.insert(0, before.present);
            record.former.truncate(REMEMBERED);
        }
        self.records.put(&name, &record).map_err(|e| e.refusal())?;
        tracing::info!(%party, %preset, "evaluation key registered");
        // What was accepted under an earlier key is still evaluated under it.
        for old in record.former.iter().filter(|old| !needed(old)) {
            self.blobs.delete(old).map_err(|e| e.refusal())?;
        }
        Ok(())
    }
}

/// Reads a serving key; returns the name of its set: its CKKS preset, with the width of packed batches if it is for those, or its parameter set under
/// TFHE.
pub fn check(bytes: &[u8]) -> Result<String, Refusal> {
    let bad = |detail: String| Refusal::new(Code::BadQuery, detail);
    let unread = |error: String| bad(format!("the evaluation key cannot be read: {error}"));
    if let Some(exact) = exact::check_key(bytes) {
        return exact.map_err(unread);
    }
    let preset = ServingKey::preset_of(bytes)
        .ok_or_else(|| bad("the evaluation key is of no standard preset".into()))?;
    let read = || -> Result<String, CkksError> {
        let context = Context::new(&preset)?;
        ServingKey::from_bytes(&context, bytes).map(|key| key.key_set(&context))
    };
    read().map_err(|error| unread(error.to_string()))
}
