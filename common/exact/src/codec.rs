//! Bytes of keys, queries and answers. Little-endian, of a length that parameters, program and number of patients fix.
//!
//! | object | after the kind (4 bytes) and the version (2 bytes) |
//! |---|---|
//! | serving key | parameter digest, key id, then three times a seed and the bodies: bootstrapping key, key-switching key, public key |
//! | query | program digest, key id, patients (4 bytes), then per patient twice a seed and the bodies: inputs in dimension n, inputs in dimension N |
//! | answer | program digest, key id, patients (4 bytes), then per patient and output a ciphertext in dimension N |
//!
//! Digests and key ids have 32 bytes, seeds 16; bodies of the bootstrapping key are the upper 48 bits of 64-bit words, everything else is whole
//! 64-bit words. Masks are expanded from seeds.

use crate::parameters::{KEY_BITS, ParameterSet};
use galen_core::Digest;

/// Version of all three objects.
pub const VERSION: u16 = 1;
/// Most patients of one query.
pub const MAX_PATIENTS: usize = 4096;

pub(crate) const SEED: usize = 16;
const FIXED: usize = 4 + 2 + 32 + 32;
pub(crate) const QUERY_HEADER: usize = FIXED + 4;
pub(crate) const ANSWER_HEADER: usize = FIXED + 4;

/// What an object of this crate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A serving key.
    ServingKey,
    /// A query.
    Query,
    /// An answer.
    Answer,
}

impl Kind {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::ServingKey => *b"GXsk",
            Self::Query => *b"GXqy",
            Self::Answer => *b"GXan",
        }
    }
}

/// Bytes that are not what they should be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The bytes begin as another object, or as none.
    #[error("the bytes are no {kind:?} of the exact engine")]
    Kind {
        /// What was expected.
        kind: Kind,
    },
    /// Another version of the format.
    #[error("the {kind:?} has format version {found}, this program reads {VERSION}; update the older side")]
    Version {
        /// What it is.
        kind: Kind,
        /// Its version.
        found: u16,
    },
    /// Made for another parameter set (a key) or another program (a query or an answer): an old model, say.
    #[error(
        "the {kind:?} belongs to {found}, expected was {expected}; both sides must use the same model version"
    )]
    Foreign {
        /// What it is.
        kind: Kind,
        /// What it names.
        found: Digest,
        /// What it should name.
        expected: Digest,
    },
    /// Too short or too long.
    #[error("the {kind:?} has {found} bytes, expected are {expected}")]
    Length {
        /// What it is.
        kind: Kind,
        /// Its bytes.
        found: usize,
        /// Bytes of every such object.
        expected: usize,
    },
    /// No patients, or too many.
    #[error("{found} patients, a query takes 1 to {MAX_PATIENTS}")]
    Patients {
        /// Patients stated.
        found: usize,
    },
}

/// Bytes of every serving key under a parameter set.
pub(crate) fn serving_key_bytes(set: &ParameterSet) -> usize {
    let whole = keyswitch_words(set) + set.polynomial_size();
    FIXED + 3 * SEED + UPPER * bootstrap_words(set) + 8 * whole
}

/// Bytes of a word of which only the upper bits are kept.
const UPPER: usize = KEY_BITS as usize / 8;

/// Words of the bodies of a bootstrapping key.
pub(crate) fn bootstrap_words(set: &ParameterSet) -> usize {
    2 * set.pbs_decomposition().1.0 * set.polynomial_size() * set.lwe_dimension()
}

/// Words of the bodies of a key-switching key.
pub(crate) fn keyswitch_words(set: &ParameterSet) -> usize {
    set.ks_decomposition().1.0 * set.polynomial_size()
}

/// Appends to bytes.
#[derive(Debug)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn new(kind: Kind, owner: &Digest, key: &Digest, capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.extend(kind.magic());
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend(owner.0);
        bytes.extend(key.0);
        Self(bytes)
    }

    pub(crate) fn patients(&mut self, patients: usize) {
        self.0.extend((patients as u32).to_le_bytes());
    }

    pub(crate) fn seed(&mut self, seed: u128) {
        self.0.extend(seed.to_le_bytes());
    }

    pub(crate) fn words(&mut self, words: &[u64]) {
        words.iter().for_each(|word| self.0.extend(word.to_le_bytes()));
    }

    /// The upper bytes of words whose others are 0.
    pub(crate) fn upper(&mut self, words: &[u64]) {
        let upper = |word: &u64| word.to_le_bytes().into_iter().skip(8 - UPPER);
        words.iter().for_each(|word| self.0.extend(upper(word)));
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }
}

/// Reads bytes whose length was checked.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    kind: Kind,
    total: usize,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Checks kind, version and owner; gives the key id.
    pub(crate) fn new(kind: Kind, owner: &Digest, bytes: &'a [u8]) -> Result<(Self, Digest), CodecError> {
        let (reader, found, key) = Self::head(kind, bytes)?;
        if found != *owner {
            let expected = *owner;
            return Err(CodecError::Foreign {
                kind,
                found,
                expected,
            });
        }
        Ok((reader, key))
    }

    /// Checks kind and version; gives the owner and the key id.
    fn head(kind: Kind, bytes: &'a [u8]) -> Result<(Self, Digest, Digest), CodecError> {
        let mut reader = Self {
            kind,
            total: bytes.len(),
            rest: bytes,
        };
        let magic: [u8; 4] = reader.take().map_err(|_| CodecError::Kind { kind })?;
        if magic != kind.magic() {
            return Err(CodecError::Kind { kind });
        }
        let found = u16::from_le_bytes(reader.take()?);
        if found != VERSION {
            return Err(CodecError::Version { kind, found });
        }
        let (owner, key) = (Digest(reader.take()?), Digest(reader.take()?));
        Ok((reader, owner, key))
    }

    fn take<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let short = CodecError::Length {
            kind: self.kind,
            found: self.total,
            expected: FIXED,
        };
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or(short)?;
        self.rest = rest;
        Ok(*head)
    }

    /// Refuses bytes of another length than `expected`.
    pub(crate) fn length(&self, expected: usize) -> Result<(), CodecError> {
        if self.total == expected {
            return Ok(());
        }
        Err(CodecError::Length {
            kind: self.kind,
            found: self.total,
            expected,
        })
    }

    pub(crate) fn patients(&mut self) -> Result<usize, CodecError> {
        let found = u32::from_le_bytes(self.take()?) as usize;
        if (1..=MAX_PATIENTS).contains(&found) {
            Ok(found)
        } else {
            Err(CodecError::Patients { found })
        }
    }

    pub(crate) fn seed(&mut self) -> Result<u128, CodecError> {
        Ok(u128::from_le_bytes(self.take()?))
    }

    pub(crate) fn words(&mut self, count: usize) -> Result<Vec<u64>, CodecError> {
        (0..count).map(|_| Ok(u64::from_le_bytes(self.take()?))).collect()
    }

    /// Words of which only the upper bytes are written.
    pub(crate) fn upper(&mut self, count: usize) -> Result<Vec<u64>, CodecError> {
        let word = |bytes: [u8; UPPER]| {
            let mut word = [0; 8];
            word[8 - UPPER..].copy_from_slice(&bytes);
            u64::from_le_bytes(word)
        };
        (0..count).map(|_| Ok(word(self.take()?))).collect()
    }
}

/// The part of an object that names what it was made for: of a query or an answer the program, of a serving key the parameter set, and
/// the id of its key. For a service that must find the program and the key first; nothing else about the bytes is checked.
pub fn peek(kind: Kind, bytes: &[u8]) -> Result<(Digest, Digest), CodecError> {
    let (_, owner, key) = Reader::head(kind, bytes)?;
    Ok((owner, key))
}
