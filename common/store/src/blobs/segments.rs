//! The encrypted file of a blob.
//!
//! A header (`magic (8) | file id (32)`) and then segments of 64 KiB plaintext, the last one shorter (empty for an empty blob):
//! `nonce (12) | ciphertext | tag (16)`, AES-256-GCM. Each file has its own key, derived from the master key and the random file id. Each
//! segment is authenticated with its index and a flag that marks the last one, so that segments cannot be exchanged, repeated, dropped, or
//! cut off at the end. This is the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption
//! and its Nonce-Reuse Misuse-Resistance", CRYPTO 2015), save that index and flag are in the associated data and nonces are
//! random: an upload that is resumed after a crash may encrypt other bytes under the same index, which a counter nonce would
//! not survive.

use crate::crypter::{Aead, Crypter, OVERHEAD};
use crate::error::StoreError;
use crate::files::Handle;
use galen_core::{Digest, Transcript};
use ring::aead::NONCE_LEN;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use zeroize::Zeroizing;

/// Plaintext bytes per segment: what is lost at most of an interrupted upload, and what a reader holds in memory.
pub const SEGMENT_BYTES: usize = 64 << 10;

/// A full segment in the file.
const STORED_SEGMENT: usize = SEGMENT_BYTES + OVERHEAD;

const MAGIC: &[u8; 8] = b"GALENBL2";
const HEADER: usize = MAGIC.len() + 32;

/// The random number that selects a file's key.
pub(super) type FileId = [u8; 32];

/// The plaintext of one segment, with room before and after it for what sealing adds: it is encrypted and decrypted where it is. It never
/// grows, and is overwritten on drop.
pub(super) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(super) fn new() -> Self {
        let mut bytes = Vec::with_capacity(STORED_SEGMENT);
        bytes.resize(NONCE_LEN, 0);
        Self(Zeroizing::new(bytes))
    }

    /// The plaintext.
    pub(super) fn bytes(&self) -> &[u8] {
        self.0.get(NONCE_LEN..).unwrap_or_default()
    }

    pub(super) fn len(&self) -> usize {
        self.bytes().len()
    }

    pub(super) fn clear(&mut self) {
        self.0.truncate(NONCE_LEN);
    }

    /// Appends what fits of some bytes; returns the rest.
    pub(super) fn fill<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let room = SEGMENT_BYTES.saturating_sub(self.len());
        let (now, later) = bytes.split_at(bytes.len().min(room));
        self.0.extend_from_slice(now);
        later
    }
}

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
            cipher: crypter.derive_bulk(b"galen blob segments v2", &id)?,
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

    /// Writes the segment in `buffer` at the current position, and empties the buffer.
    pub(super) fn write(&mut self, segment: u64, last: bool, buffer: &mut Buffer) -> Result<(), StoreError> {
        self.cipher.seal_in_place(&bound(segment, last), &mut buffer.0)?;
        self.file
            .write_all(&buffer.0)
            .map_err(StoreError::io(&self.path, "cannot write"))?;
        buffer.clear();
        Ok(())
    }

    /// Reads a segment of `len` plaintext bytes at the current position; false if it is not there entirely or does not decrypt.
    pub(super) fn read(
        &mut self,
        segment: u64,
        last: bool,
        len: usize,
        buffer: &mut Buffer,
    ) -> Result<bool, StoreError> {
        buffer.0.resize(len.min(SEGMENT_BYTES) + OVERHEAD, 0);
        match self.file.read_exact(&mut buffer.0) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
                buffer.clear();
                return Ok(false);
            }
            Err(error) => return Err(StoreError::io(&self.path, "cannot read")(error)),
        }
        match self.cipher.open_in_place(&bound(segment, last), &mut buffer.0) {
            Some(plaintext) => {
                buffer.0.truncate(NONCE_LEN + plaintext);
                Ok(true)
            }
            None => {
                buffer.clear();
                Ok(false)
            }
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
