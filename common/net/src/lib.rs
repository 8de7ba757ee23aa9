//! How parties and coordinator talk: QUIC with both certificates pinned.
//!
//! Parties dial out ([`Client`]) and ask; the coordinator listens on one UDP port ([`Server`]) and answers. Either end of a
//! connection is a [`Peer`]. Each request travels on a stream of its own, so that a slow upload holds up nothing else:
//!
//! * [`Peer::call`] sends a [`Request`] and takes the [`Response`]; [`Peer::serve`] hands each incoming request to a handler as an
//!   [`Exchange`], which is answered once.
//! * [`Peer::put`] and [`Peer::get`] move blobs of any size in chunks. After an interruption they continue where the receiver has
//!   got to. Bytes come from a [`std::io::Read`] and go to a [`BlobSink`].
//!
//! ```no_run
//! # async fn party(identity: galen_net::Identity, pin: galen_core::Digest, study: galen_core::Digest) -> Result<(), galen_net::NetError> {
//! use galen_net::{Client, Request, Tuning};
//!
//! let client = Client::new("coordinator.example:4433", &identity, pin, study, Tuning::default())?;
//! let peer = client.connect_patiently(|error, wait| eprintln!("{error}; next attempt in {wait:?}")).await?;
//! let view = peer.call(&Request::Poll { seen: 0, from: 0 }).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Read [`protocol`] for what is said, [`frame`] for how it is cut into bytes, [`Tuning`] for windows and patience, and [`NetError`]
//! for what can go wrong and which of it is worth trying again.

mod blob;
mod client;
mod error;
mod exchange;
pub mod frame;
mod gate;
mod identity;
mod message;
mod peer;
mod pins;
pub mod protocol;
mod seats;
mod server;
mod traffic;
mod transport;
mod wire;

pub use blob::BlobSink;
pub use client::Client;
pub use error::NetError;
pub use exchange::Exchange;
pub use frame::FrameError;
pub use identity::{CERTIFICATE_FILE, Identity, KEY_FILE};
pub use message::{Encoded, Message};
pub use peer::Peer;
pub use protocol::{Request, Response};
pub use seats::Counts;
pub use server::{Server, Stopper};
pub use traffic::Traffic;
pub use transport::Tuning;
