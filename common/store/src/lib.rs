//! Durable state of a daemon: encrypted records, encrypted files, and secrets that can be erased.
//!
//! Start with [`Store`], which opens one directory for one process. It hands out
//!
//! * [`Database`]: typed tables of small records ([`Table`], [`Repository`], [`Batch`]) over sled. A record is on the
//!   disk when `put` returns.
//! * [`BlobStore`]: large immutable objects named by their SHA-256, one file each, whose upload can be resumed.
//! * [`Erasable`]: named keys, each in a file of its own, that make records unreadable for ever once erased.
//!
//! Records lie in sled and files in the file system, or both on a [`MemoryDisk`], on which tests cut the power at any write and put back
//! earlier states.
//!
//! Everything is encrypted under the master key in `storage.key` ([`Crypter`]). This protects copies of the other files
//! (a backup of the database, a discarded disk without the key file). It does not protect against someone who reads
//! the key file too, and it does not detect that the whole directory was put back to an earlier state.
//!
//! Calls block (they wait for the disk); in async code they belong on a blocking thread.
//!
//! ```
//! use galen_store::{Store, Table};
//!
//! const VISITS: Table<u32> = Table::new("visits", *b"VISI", 1);
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path();
//! let store = Store::open(path)?;
//! let visits = store.database().repository(&VISITS)?;
//! visits.put("ward-3", &17)?;
//! assert_eq!(visits.get("ward-3")?, Some(17));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod blobs;
mod crypter;
mod database;
mod durable;
mod erasable;
mod error;
mod files;
mod memory;
mod records;
mod repository;
mod store;
mod table;

pub use batch::Batch;
pub use blobs::{BlobInfo, BlobReader, BlobStore, BlobWriter, Partial, SEGMENT_BYTES};
pub use crypter::Crypter;
pub use database::Database;
pub use erasable::Erasable;
pub use error::StoreError;
pub use files::Files;
pub use memory::{Cut, Image, MemoryDisk};
pub use repository::Repository;
pub use store::Store;
pub use table::{MAX_RECORD_BYTES, Table};
