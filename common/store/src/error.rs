//! What can go wrong with stored state.

use galen_core::{Code, Digest, Refusal};
use std::path::{Path, PathBuf};

/// A failure of the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has the directory open.
    #[error(
        "{} is in use by another process: stop the daemon that runs on this directory, or name another directory in the configuration",
        dir.display()
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// A file operation failed.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The key file does not hold a key.
    #[error("{}: is not a storage key; restore this file from where it was backed up", path.display())]
    KeyFile {
        /// The key file.
        path: PathBuf,
    },
    /// The key file is missing although there is encrypted state beside it.
    #[error(
        "{}: is missing, but the directory holds state encrypted under it; restore the file, or start with an empty directory",
        path.display()
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(#[from] sled::Error),
    /// A record does not decrypt: it was changed, moved from elsewhere, or written under another storage key.
    #[error(
        "record \"{key}\" of table {table} does not decrypt: it was damaged or belongs to another storage key"
    )]
    Undecryptable {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
    },
    /// A record of another type than its table holds.
    #[error("record \"{key}\" of table {table} has type tag {found}, expected {expected}")]
    WrongType {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// The tag found.
        found: String,
        /// The tag that the table has.
        expected: String,
    },
    /// A record of a version that is not read here.
    #[error("record \"{key}\" of table {table} has version {found}, this program reads {expected}")]
    WrongVersion {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// The version found.
        found: u16,
        /// The version that is read.
        expected: u16,
    },
    /// A record that is read with `get` was written with `put_erasable`, or the other way round.
    #[error("record \"{key}\" of table {table} was {}", if *.erasable { "written as erasable" } else { "not written as erasable" })]
    WrongForm {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// How the record was written.
        erasable: bool,
    },
    /// The bytes of a record decrypt but are not a value of the table's type.
    #[error("record \"{key}\" of table {table} cannot be decoded: {source}")]
    Decode {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// What the decoder said.
        source: postcard::Error,
    },
    /// A value cannot be encoded.
    #[error("a record of table {table} cannot be encoded: {source}")]
    Encode {
        /// The table.
        table: String,
        /// What the encoder said.
        source: postcard::Error,
    },
    /// A value too large for a record; large objects belong into the blob store.
    #[error("record \"{key}\" of table {table} has {bytes} bytes, at most {limit} are stored as a record")]
    RecordTooLarge {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// Encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The key that a record was written under has been erased.
    #[error("record \"{key}\" of table {table} cannot be read any more: its key \"{name}\" was erased")]
    Erased {
        /// The table.
        table: String,
        /// The record's key, escaped.
        key: String,
        /// The erasable key's name.
        name: String,
    },
    /// No erasable key of this name exists.
    #[error("there is no erasable key \"{name}\"")]
    NoErasableKey {
        /// The name.
        name: String,
    },
    /// A name that cannot name an erasable key.
    #[error("\"{name}\" cannot name an erasable key: use 1 to 100 characters of a-z, 0-9, '-' and '_'")]
    InvalidName {
        /// The name.
        name: String,
    },
    /// A blob that is not stored here.
    #[error("blob {digest} is not stored here")]
    BlobUnknown {
        /// The blob.
        digest: Digest,
    },
    /// A blob that ended before its announced length. The part that arrived is kept.
    #[error("blob {digest} ended after {held} of {expected} bytes")]
    BlobTruncated {
        /// The blob.
        digest: Digest,
        /// Bytes held.
        held: u64,
        /// Bytes announced.
        expected: u64,
    },
    /// More bytes than announced.
    #[error("blob {digest} is longer than the {expected} bytes announced")]
    BlobTooLong {
        /// The blob.
        digest: Digest,
        /// Bytes announced.
        expected: u64,
    },
    /// The bytes do not have the announced digest. They were removed.
    #[error("the bytes sent for blob {digest} have digest {found}")]
    BlobMismatch {
        /// The digest announced.
        digest: Digest,
        /// The digest of the bytes.
        found: Digest,
    },
    /// A newer writer of the same blob and owner took over, or this writer failed before.
    #[error("this upload of blob {digest} was taken over by a newer one or failed before")]
    BlobSuperseded {
        /// The blob.
        digest: Digest,
    },
    /// A blob file does not decrypt.
    #[error("{}: is damaged (segment {segment})", path.display())]
    BlobDamaged {
        /// The file.
        path: PathBuf,
        /// The segment that does not decrypt.
        segment: u64,
    },
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] galen_core::random::RandomError),
    /// The cipher refused to encrypt (it does so only for inputs beyond its length limit).
    #[error("the cipher refused the input")]
    Cipher,
}

impl StoreError {
    /// For `map_err` on a file operation.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
        let path = path.to_owned();
        move |source| StoreError::Io { path, action, source }
    }

    /// The refusal that tells a remote peer what it needs to know, without paths or table names.
    pub fn refusal(&self) -> Refusal {
        let code = match self {
            StoreError::BlobTruncated { .. } => Code::BlobTruncated,
            StoreError::BlobTooLong { .. } => Code::BlobTooLarge,
            StoreError::BlobMismatch { .. } => Code::BlobMismatch,
            StoreError::BlobUnknown { .. } => Code::BlobUnknown,
            StoreError::BlobSuperseded { .. } => Code::Busy,
            StoreError::RecordTooLarge { bytes, limit, .. } => {
                let text =
                    format!("a statement that takes {bytes} bytes in the store, at most {limit} are kept");
                return Refusal::new(Code::RecordTooLarge, text);
            }
            _ => return Refusal::new(Code::Internal, "the store failed; see the log of this side"),
        };
        Refusal::new(code, self.to_string())
    }
}

/// Keys in messages: readable where they are text, escaped where they are not.
pub(crate) fn shown(key: &[u8]) -> String {
    key.escape_ascii().to_string()
}
