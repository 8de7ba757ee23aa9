//! The vocabulary that every Galen crate shares.
//!
//! Start with [`study`]: a study says who takes part, what the data look like, which model is trained and how.
//! Once frozen it has a [`StudyDigest`], which every party signs and which is bound into every message after.
//! Its network is written in the layers of [`network`], its training program in the words of [`recipe`], its images in those of [`samples`].
//! Around it stand the small things that must mean the same everywhere: [`id`] (names and digests), [`hash`]
//! (length-prefixed hashing), [`sign`] (Ed25519 keys and signed envelopes), [`code`] (stable error codes),
//! [`clock`] (injected time), [`config`] (TOML files whose errors name the line), [`envelope`] (what `--format json`
//! prints), [`faults`] (named points where a test may kill a daemon) and [`telemetry`].
//!
//! This crate is a leaf: it depends on no other Galen crate and does no network or database I/O.

pub mod clock;
pub mod code;
pub mod config;
pub mod envelope;
pub mod faults;
pub mod hash;
pub mod id;
pub mod network;
pub mod random;
pub mod recipe;
pub mod samples;
pub mod sign;
pub mod study;
pub mod telemetry;

pub use clock::{Clock, ManualClock, SystemClock};
pub use code::{Code, Refusal};
pub use hash::Transcript;
pub use id::{Digest, InvalidName, PartyId, StudyDigest};
pub use sign::{PublicKey, SignError, Signed, SigningKey};
