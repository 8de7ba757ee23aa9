//! The encrypted file of a blob.
//!
//! A header (`magic (8) | file id (32)`) and then segments of 64 KiB plaintext, the last one shorter (empty for an empty blob):
//! `nonce (12) | ciphertext | tag (16)`. Each file has its own key, derived from the master key and the random file id. Each segment
//! is authenticated with its index and a flag that marks the last one, so that segments cannot be exchanged, repeated, dropped, or
//! cut off at the end. This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption
//! and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015), save that index and flag are in the associated data and nonces are
//! random: an upload that is resumed after a crash may encrypt other bytes under the same index, which a counter nonce would
//! not survive.

use crate::crypter::{Aead, Crypter, OVERHEAD};
use crate::error::StoreError;
use crate::files::Handle;
use galen_core::{Digest, Transcript};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Plaintext bytes per segment: what is lost at most of an interrupted upload, and what a reader holds in memory.
pub const SEGMENT_BYTES: usize = 64 << 10;

/// A full segment in the file.
const STORED_SEGMENT: usize = SEGMENT_BYTES + OVERHEAD;

const MAGIC: &[u8; 8] = b"GALENBL1";
const HEADER: usize = MAGIC.len() + 32;

/// The random number that selects a file's key.
pub(super) type FileId = [u8; 32];

/// An open blob file with its cipher.
pub(super) struct Segments {
    file: Handle,
    path: PathBuf,
    id: FileId,
    cipher: Aead,
}

impl Segments {
    /// Starts a file, which must be empty.
    pub(super) fn create(crypter: &Crypter, mut file: Handle, path: &Path) -> Result<Self, StoreError> {
        let id = galen_core::random::bytes()?;
        file.write_all(&[MAGIC.as_slice(), &id].concat())
            .map_err(StoreError::io(path, "cannot write"))?;
        Self::with(crypter, file, path, id)
    }

    /// Opens a file; `None` if it has no complete header.
    pub(super) fn open(crypter: &Crypter, mut file: Handle, path: &Path) -> Result<Option<Self>, StoreError> {
        let mut header = [0; HEADER];
        match file.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(StoreError::io(path, "cannot read")(error)),
        }
        match header.strip_prefix(MAGIC).map(FileId::try_from) {
            Some(Ok(id)) => Self::with(crypter, file, path, id).map(Some),
            _ => Ok(None),
        }
    }

    fn with(crypter: &Crypter, file: Handle, path: &Path, id: FileId) -> Result<Self, StoreError> {
        Ok(Self {
            file,
            path: path.to_owned(),
            id,
            cipher: crypter.derive(b"galen blob segments v1", &id)?,
        })
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves to the start of a segment.
    pub(super) fn seek(&mut self, segment: u64) -> Result<(), StoreError> {
        self.file
            .seek(SeekFrom::Start(stored_at(segment)))
            .map_err(StoreError::io(&self.path, "cannot seek in"))?;
        Ok(())
    }

    /// Cuts the file off before a segment and moves there.
    pub(super) fn truncate(&mut self, segment: u64) -> Result<(), StoreError> {
        self.file
            .set_len(stored_at(segment))
            .map_err(StoreError::io(&self.path, "cannot truncate"))?;
        self.seek(segment)
    }

    /// Writes a segment at the current position.
    pub(super) fn write(&mut self, segment: u64, last: bool, plaintext: &[u8]) -> Result<(), StoreError> {
        let mut stored = Vec::with_capacity(plaintext.len() + OVERHEAD);
        self.cipher
            .seal_into(&bound(segment, last), plaintext, &mut stored)?;
        self.file
            .write_all(&stored)
            .map_err(StoreError::io(&self.path, "cannot write"))
    }

    /// Reads a segment of `len` plaintext bytes at the current position; `None` if it is not there entirely or does not decrypt.
    pub(super) fn read(
        &mut self,
        segment: u64,
        last: bool,
        len: usize,
    ) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let mut stored = vec![0; len.min(SEGMENT_BYTES) + OVERHEAD];
        match self.file.read_exact(&mut stored) {
            Ok(()) => Ok(self.cipher.open(&bound(segment, last), &stored)),
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(StoreError::io(&self.path, "cannot read")(error)),
        }
    }

    /// Makes the file's bytes durable.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.file
            .sync()
            .map_err(StoreError::io(&self.path, "cannot sync"))
    }
}

fn stored_at(segment: u64) -> u64 {
    HEADER as u64 + segment * STORED_SEGMENT as u64
}

fn bound(segment: u64, last: bool) -> Digest {
    Transcript::new("galen blob segment v1")
        .number(segment)
        .number(u64::from(last))
        .digest()
}
