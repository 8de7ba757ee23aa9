//! What must be unreadable when a round is over: one-round keys, seeds, contribution bytes, own values, and every statement
//! made from them.
//!
//! Each attempt has an erasable key of its own, and so have the own values of each round, which a later attempt of the
//! same round sends again. Erasing the key makes everything written under it unreadable for ever, whatever copies of
//! the database exist (`galen_store::Erasable`).

use galen_store::{Batch, Repository, Store, StoreError, Table};
use galen_sums::RoundId;
use zeroize::Zeroizing;

const SECRETS: Table<Vec<u8>> = Table::new("secrets", *b"SECR", 1);

/// Records are limited in size, so objects are cut.
const CHUNK: usize = 512 << 10;

/// Something kept for one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// Custodian: the secret half of the one-round key.
    OneRoundSecret,
    /// Custodian: the signed public half.
    KeyStatement,
    /// Custodian: what it said of the proposed set.
    Verdict,
    /// Custodian: its endorsement.
    Endorsement,
    /// Custodian: its word on every piece, beside the answers for these.
    KeyCheck(Vec<u32>),
    /// Custodian: the answer for these pieces.
    Answer(Vec<u32>),
    /// Contributor: the signed header with the sealed seeds.
    Header,
    /// Contributor: the ciphertext blob.
    Ciphertext,
}

impl Item {
    fn prefix(&self, id: RoundId) -> Vec<u8> {
        let tag = match self {
            Self::OneRoundSecret => 0,
            Self::KeyStatement => 1,
            Self::Verdict => 2,
            Self::Answer(_) => 3,
            Self::Header => 4,
            Self::Ciphertext => 5,
            Self::Endorsement => 6,
            Self::KeyCheck(_) => 7,
        };
        let mut key = attempt_prefix(id);
        key.push(tag);
        key
    }

    fn key(&self, id: RoundId) -> Vec<u8> {
        let mut key = self.prefix(id);
        if let Self::Answer(pieces) | Self::KeyCheck(pieces) = self {
            key.extend(pieces.iter().flat_map(|piece| piece.to_be_bytes()));
            // Ends the list, so that no list of pieces is the beginning of another's key.
            key.extend(u32::MAX.to_be_bytes());
        }
        key
    }
}

fn attempt_prefix(id: RoundId) -> Vec<u8> {
    let mut key = vec![b'a'];
    key.extend(id.round.to_be_bytes());
    key.extend(id.attempt.to_be_bytes());
    key
}

fn values_key(round: u32) -> Vec<u8> {
    let mut key = vec![b'v'];
    key.extend(round.to_be_bytes());
    key
}

fn attempt_name(id: RoundId) -> String {
    format!("attempt-{}-{}", id.round, id.attempt)
}

fn values_name(round: u32) -> String {
    format!("values-{round}")
}

/// What an erasable key protects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Named {
    Attempt(RoundId),
    Values(u32),
}

fn parse(name: &str) -> Option<Named> {
    if let Some(round) = name.strip_prefix("values-") {
        return Some(Named::Values(round.parse().ok()?));
    }
    let (round, attempt) = name.strip_prefix("attempt-")?.split_once('-')?;
    Some(Named::Attempt(RoundId {
        round: round.parse().ok()?,
        attempt: attempt.parse().ok()?,
    }))
}

/// Keeps and erases. Calls block.
#[derive(Clone, Debug)]
pub struct Vault {
    store: Store,
    secrets: Repository<Vec<u8>>,
}

impl Vault {
    /// Opens the vault of a store.
    pub fn open(store: &Store) -> Result<Self, StoreError> {
        Ok(Self {
            store: store.clone(),
            secrets: store.database().repository(&SECRETS)?,
        })
    }

    /// Adds an object of an attempt to a batch.
    pub fn put(&self, batch: &mut Batch, id: RoundId, item: &Item, bytes: &[u8]) -> Result<(), StoreError> {
        self.put_under(batch, &attempt_name(id), &item.key(id), bytes)
    }

    /// Reads an object of an attempt; `None` if there is none or it was erased.
    pub fn get(&self, id: RoundId, item: &Item) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        self.read(&item.key(id))
    }

    /// The lists of pieces for which answers are kept in an attempt.
    pub fn answers(&self, id: RoundId) -> Result<Vec<Vec<u32>>, StoreError> {
        let prefix = Item::Answer(Vec::new()).prefix(id);
        let mut found = Vec::new();
        for key in self.secrets.keys(&prefix) {
            let key = key?;
            let numbers = key.get(prefix.len()..).unwrap_or_default().chunks_exact(4);
            let numbers =
                numbers.map(|bytes| <[u8; 4]>::try_from(bytes).map_or(u32::MAX, u32::from_be_bytes));
            // The list ends with a mark; the number of the chunk follows.
            found.push(numbers.take_while(|number| *number != u32::MAX).collect());
        }
        Ok(found)
    }

    /// Keeps the own values of a round. Durable when this returns.
    pub fn keep_values(&self, round: u32, values: &[i64]) -> Result<(), StoreError> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(size_of_val(values)));
        for value in values {
            bytes.extend_from_slice(&value.to_le_bytes());
        }
        let mut batch = self.store.database().batch();
        self.put_under(&mut batch, &values_name(round), &values_key(round), &bytes)?;
        batch.commit()
    }

    /// The own values of a round; `None` if there are none or they were erased.
    pub fn values(&self, round: u32) -> Result<Option<Zeroizing<Vec<i64>>>, StoreError> {
        let Some(bytes) = self.read(&values_key(round))? else {
            return Ok(None);
        };
        let value = |bytes: &[u8]| <[u8; 8]>::try_from(bytes).map_or(0, i64::from_le_bytes);
        Ok(Some(Zeroizing::new(bytes.chunks_exact(8).map(value).collect())))
    }

    fn put_under(&self, batch: &mut Batch, name: &str, key: &[u8], bytes: &[u8]) -> Result<(), StoreError> {
        self.store.erasable().create(name)?;
        let chunks = bytes.chunks(CHUNK);
        // A last chunk shorter than the others marks the end.
        let end: &[u8] = &[];
        let chunks = chunks.chain(bytes.len().is_multiple_of(CHUNK).then_some(end));
        for (index, chunk) in chunks.enumerate() {
            let chunk = Zeroizing::new(chunk.to_vec());
            batch.put_erasable(
                &self.secrets,
                self.store.erasable(),
                name,
                chunk_key(key, index),
                &chunk,
            )?;
        }
        Ok(())
    }

    fn read(&self, key: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let mut chunks = Vec::new();
        for index in 0.. {
            let chunk = match self
                .secrets
                .get_erasable(self.store.erasable(), chunk_key(key, index))
            {
                Ok(Some(chunk)) => Zeroizing::new(chunk),
                Ok(None) | Err(StoreError::Erased { .. }) => return Ok(None),
                Err(error) => return Err(error),
            };
            let last = chunk.len() < CHUNK;
            chunks.push(chunk);
            if last {
                break;
            }
        }
        // A vector that grows leaves copies of its content behind, which nobody overwrites.
        let mut bytes = Zeroizing::new(Vec::with_capacity(chunks.iter().map(|chunk| chunk.len()).sum()));
        for chunk in &chunks {
            bytes.extend_from_slice(chunk);
        }
        Ok(Some(bytes))
    }

    /// The oldest attempt, and the oldest round of own values, that can still be read.
    pub fn oldest(&self) -> Result<(Option<RoundId>, Option<u32>), StoreError> {
        let (mut attempt, mut values) = (None::<RoundId>, None::<u32>);
        for name in self.store.erasable().names()? {
            match parse(&name) {
                Some(Named::Attempt(id)) => attempt = Some(attempt.map_or(id, |a| a.min(id))),
                Some(Named::Values(round)) => values = Some(values.map_or(round, |v| v.min(round))),
                None => {}
            }
        }
        Ok((attempt, values))
    }

    /// Erases everything of attempts before this one, and own values of rounds before its round. Returns the attempts.
    pub fn erase_before(&self, before: RoundId) -> Result<Vec<RoundId>, StoreError> {
        let mut erased = Vec::new();
        for name in self.store.erasable().names()? {
            let prefix = match parse(&name) {
                Some(Named::Attempt(id)) if id < before => {
                    erased.push(id);
                    attempt_prefix(id)
                }
                Some(Named::Values(round)) if round < before.round => values_key(round),
                _ => continue,
            };
            // The key last: a crash in between leaves its name, and with it the work to be done again.
            self.forget(&prefix)?;
            self.store.erasable().erase(&name)?;
        }
        erased.sort_unstable();
        Ok(erased)
    }

    fn forget(&self, prefix: &[u8]) -> Result<(), StoreError> {
        let mut batch = self.store.database().batch();
        for key in self.secrets.keys(prefix) {
            batch.delete(&self.secrets, key?);
        }
        batch.commit()
    }
}

fn chunk_key(key: &[u8], index: usize) -> Vec<u8> {
    let mut chunk = key.to_vec();
    chunk.extend((index as u32).to_be_bytes());
    chunk
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(round: u32, attempt: u32) -> RoundId {
        RoundId { round, attempt }
    }

    fn put(vault: &Vault, id: RoundId, item: &Item, bytes: &[u8]) {
        let mut batch = vault.store.database().batch();
        vault.put(&mut batch, id, item, bytes).unwrap();
        batch.commit().unwrap();
    }

    #[test]
    fn objects_of_any_length_come_back() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let vault = Vault::open(&store).unwrap();
        for len in [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            put(&vault, id(1, 0), &Item::Ciphertext, &bytes);
            let read = vault.get(id(1, 0), &Item::Ciphertext).unwrap().unwrap();
            assert_eq!(*read, bytes, "{len}");
            assert_eq!(read.capacity(), len, "grown, so that copies were left behind");
        }
        vault.keep_values(3, &[i64::MIN, -1, 0, 7, i64::MAX]).unwrap();
        assert_eq!(*vault.values(3).unwrap().unwrap(), [i64::MIN, -1, 0, 7, i64::MAX]);
        assert!(vault.values(4).unwrap().is_none());
    }

    #[test]
    fn answers_for_different_pieces_are_different_objects() {
        let temp = tempfile::tempdir().unwrap();
        let vault = Vault::open(&Store::open(temp.path()).unwrap()).unwrap();
        put(&vault, id(0, 0), &Item::Answer(vec![1]), b"one");
        put(&vault, id(0, 0), &Item::Answer(vec![1, 0]), b"two");
        assert_eq!(
            **vault.get(id(0, 0), &Item::Answer(vec![1])).unwrap().unwrap(),
            *b"one"
        );
        assert!(vault.get(id(0, 0), &Item::Answer(vec![])).unwrap().is_none());
    }

    #[test]
    fn erasure_reaches_exactly_what_is_older() {
        let temp = tempfile::tempdir().unwrap();
        let store = Store::open(temp.path()).unwrap();
        let vault = Vault::open(&store).unwrap();
        let attempts = [id(0, 0), id(1, 0), id(1, 1), id(2, 0)];
        for at in attempts {
            put(&vault, at, &Item::OneRoundSecret, b"secret");
        }
        for round in 0..3 {
            vault.keep_values(round, &[1, 2, 3]).unwrap();
        }
        assert_eq!(vault.oldest().unwrap(), (Some(id(0, 0)), Some(0)));
        assert_eq!(vault.erase_before(id(1, 1)).unwrap(), [id(0, 0), id(1, 0)]);
        assert_eq!(vault.oldest().unwrap(), (Some(id(1, 1)), Some(1)));
        for at in attempts {
            let kept = vault.get(at, &Item::OneRoundSecret).unwrap().is_some();
            assert_eq!(kept, at >= id(1, 1), "{at}");
        }
        assert!(vault.values(0).unwrap().is_none());
        assert_eq!(*vault.values(1).unwrap().unwrap(), [1, 2, 3]);
        assert_eq!(vault.erase_before(id(1, 1)).unwrap(), []);
    }

    /// Puts every file of the database back as it was before the erasure, as from a backup that lacks the erasable keys.
    #[test]
    fn a_copy_of_the_database_does_not_bring_erased_objects_back() {
        let temp = tempfile::tempdir().unwrap();
        let (dir, copy) = (temp.path().join("store"), temp.path().join("copy"));
        {
            let vault = Vault::open(&Store::open(&dir).unwrap()).unwrap();
            put(&vault, id(0, 0), &Item::OneRoundSecret, b"secret");
            put(&vault, id(0, 1), &Item::OneRoundSecret, b"later");
        }
        copy_folder(&dir.join("db"), &copy);
        {
            let vault = Vault::open(&Store::open(&dir).unwrap()).unwrap();
            assert!(vault.get(id(0, 0), &Item::OneRoundSecret).unwrap().is_some());
            vault.erase_before(id(0, 1)).unwrap();
        }
        std::fs::remove_dir_all(dir.join("db")).unwrap();
        copy_folder(&copy, &dir.join("db"));
        let vault = Vault::open(&Store::open(&dir).unwrap()).unwrap();
        assert!(
            vault
                .secrets
                .contains(chunk_key(&Item::OneRoundSecret.key(id(0, 0)), 0))
                .unwrap()
        );
        assert!(vault.get(id(0, 0), &Item::OneRoundSecret).unwrap().is_none());
        assert!(vault.get(id(0, 1), &Item::OneRoundSecret).unwrap().is_some());
    }

    fn copy_folder(from: &std::path::Path, to: &std::path::Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry = entry.unwrap();
            let target = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_folder(&entry.path(), &target);
            } else {
                std::fs::copy(entry.path(), target).unwrap();
            }
        }
    }
}
