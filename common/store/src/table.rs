//! Tables and the stored form of their records.
//!
//! A stored record is `tag (4) | version (2, little-endian) | name length (1) | name | nonce | ciphertext | tag`. The name is that of the
//! erasable key that the record is sealed under; it is empty for records under the master key. Everything before the
//! ciphertext, the table and the record's key are authenticated with it, so a record cannot be moved, renamed or relabelled.

use crate::crypter::{Crypter, OVERHEAD};
use crate::erasable::Erasable;
use crate::error::{StoreError, shown};
use galen_core::{Digest, Transcript};
use serde::{Serialize, de::DeserializeOwned};
use std::marker::PhantomData;
use zeroize::Zeroizing;

/// The largest encoded record. Larger objects belong into the blob store: sled copies a record several times and keeps
/// old values in its log.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// A table: its name, the type and version of its records.
pub struct Table<T> {
    name: &'static str,
    tag: [u8; 4],
    version: u16,
    record: PhantomData<fn() -> T>,
}

impl<T> Table<T> {
    /// Names a table. `tag` and `version` stand in every record: raise `version` whenever `T` changes, so that records of an
    /// older program are refused by name instead of being misread.
    pub const fn new(name: &'static str, tag: [u8; 4], version: u16) -> Self {
        Self {
            name,
            tag,
            version,
            record: PhantomData,
        }
    }

    /// The table's name.
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Table<T> {}

impl<T> std::fmt::Debug for Table<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Table({} v{})", self.name, self.version)
    }
}

/// What a stored record is sealed under.
pub(crate) enum Under<'a> {
    /// The master key.
    Master,
    /// The erasable key of this name.
    Erasable(&'a Erasable, &'a str),
}

impl<T: Serialize + DeserializeOwned> Table<T> {
    fn header(&self, name: &str) -> Result<Vec<u8>, StoreError> {
        let length = u8::try_from(name.len()).map_err(|_| StoreError::InvalidName {
            name: name.to_owned(),
        })?;
        let mut header = Vec::with_capacity(7 + name.len());
        header.extend_from_slice(&self.tag);
        header.extend_from_slice(&self.version.to_le_bytes());
        header.push(length);
        header.extend_from_slice(name.as_bytes());
        Ok(header)
    }

    fn bound(&self, key: &[u8], header: &[u8]) -> Digest {
        Transcript::new("galen stored record v1")
            .field(self.name.as_bytes())
            .field(key)
            .field(header)
            .digest()
    }

    pub(crate) fn encode(
        &self,
        crypter: &Crypter,
        under: &Under<'_>,
        key: &[u8],
        value: &T,
    ) -> Result<Vec<u8>, StoreError> {
        let plain = postcard::to_stdvec(value).map_err(|source| StoreError::Encode {
            table: self.name.to_owned(),
            source,
        })?;
        let plain = Zeroizing::new(plain);
        if plain.len() > MAX_RECORD_BYTES {
            return Err(StoreError::RecordTooLarge {
                table: self.name.to_owned(),
                key: shown(key),
                bytes: plain.len(),
                limit: MAX_RECORD_BYTES,
            });
        }
        let name = match under {
            Under::Master => "",
            Under::Erasable(_, name) => name,
        };
        let mut stored = self.header(name)?;
        let bound = self.bound(key, &stored);
        stored.reserve_exact(plain.len() + OVERHEAD);
        match under {
            Under::Master => crypter.records().seal_into(&bound, &plain, &mut stored)?,
            Under::Erasable(erasable, name) => {
                erasable.cipher(name)?.seal_into(&bound, &plain, &mut stored)?
            }
        }
        Ok(stored)
    }

    pub(crate) fn decode(
        &self,
        crypter: &Crypter,
        erasable: Option<&Erasable>,
        key: &[u8],
        stored: &[u8],
    ) -> Result<T, StoreError> {
        let undecryptable = || StoreError::Undecryptable {
            table: self.name.to_owned(),
            key: shown(key),
        };
        let (tag, rest) = stored.split_first_chunk::<4>().ok_or_else(undecryptable)?;
        if tag != &self.tag {
            return Err(StoreError::WrongType {
                table: self.name.to_owned(),
                key: shown(key),
                found: shown(tag),
                expected: shown(&self.tag),
            });
        }
        let (version, rest) = rest.split_first_chunk::<2>().ok_or_else(undecryptable)?;
        if u16::from_le_bytes(*version) != self.version {
            return Err(StoreError::WrongVersion {
                table: self.name.to_owned(),
                key: shown(key),
                found: u16::from_le_bytes(*version),
                expected: self.version,
            });
        }
        let (length, rest) = rest.split_first().ok_or_else(undecryptable)?;
        let (name, sealed) = rest
            .split_at_checked(usize::from(*length))
            .ok_or_else(undecryptable)?;
        let name = std::str::from_utf8(name).map_err(|_| undecryptable())?;
        let bound = self.bound(key, &self.header(name)?);
        let plain = match (name, erasable) {
            ("", None) => crypter.records().open(&bound, sealed),
            (name, Some(erasable)) if !name.is_empty() => match erasable.cipher(name) {
                Ok(cipher) => cipher.open(&bound, sealed),
                Err(StoreError::NoErasableKey { name }) => {
                    return Err(StoreError::Erased {
                        table: self.name.to_owned(),
                        key: shown(key),
                        name,
                    });
                }
                Err(error) => return Err(error),
            },
            _ => {
                return Err(StoreError::WrongForm {
                    table: self.name.to_owned(),
                    key: shown(key),
                    erasable: !name.is_empty(),
                });
            }
        }
        .ok_or_else(undecryptable)?;
        let decode = |source| StoreError::Decode {
            table: self.name.to_owned(),
            key: shown(key),
            source,
        };
        let (value, rest) = postcard::take_from_bytes(&plain).map_err(decode)?;
        if rest.is_empty() {
            Ok(value)
        } else {
            Err(decode(postcard::Error::DeserializeBadEncoding))
        }
    }
}
