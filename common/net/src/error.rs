//! What can go wrong between two daemons.

use crate::frame::FrameError;
use crate::transport::MAKE_ROOM;
use galen_core::{Code, Refusal};
use quinn::{ConnectionError, ReadError, WriteError};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A failure of the network or of the peer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetError {
    /// The peer refused the request.
    #[error(transparent)]
    Refused(Refusal),
    /// This side refused the blob that the peer sent.
    #[error("the blob received was refused here: {0}")]
    Sink(Refusal),
    /// The peer's bytes are not what was expected.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// One side does not know the other's certificate.
    #[error("{}: {}", if *.here { "the peer's certificate is not the one pinned here" } else { "the peer does not know our certificate" }, Code::UnknownCertificate.hint())]
    UnknownCertificate {
        /// Whether this side refused; else the peer did.
        here: bool,
    },
    /// The peer does not speak this version of the protocol.
    #[error("the peer speaks another protocol version: {}", Code::WrongVersion.hint())]
    WrongVersion,
    /// The peer has no room for this connection now.
    #[error("the peer has as many connections as it takes; it has room again in a moment")]
    Crowded,
    /// The connection could not be made or was lost.
    #[error("connection: {0}")]
    Connection(ConnectionError),
    /// The peer did not answer the dial.
    #[error("no answer from {address} within {} s", within.as_secs_f32())]
    Unreachable {
        /// What was dialled.
        address: String,
        /// For how long.
        within: Duration,
    },
    /// The address cannot be dialled.
    #[error("{address}: {source}")]
    Address {
        /// The address as configured.
        address: String,
        /// What the system said.
        source: io::Error,
    },
    /// The peer gave up this stream.
    #[error("the peer cancelled the exchange")]
    Cancelled,
    /// No byte moved for too long.
    #[error("no progress for {} s", after.as_secs_f32())]
    Stalled {
        /// How long it was waited.
        after: Duration,
    },
    /// A blob that should be sent could not be read here.
    #[error("the blob to send cannot be read: {0}")]
    Source(io::Error),
    /// The socket could not be opened.
    #[error("cannot listen on or dial from {address}: {source}")]
    Bind {
        /// The local address.
        address: std::net::SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// An identity file cannot be read or written.
    #[error("{}: {source}", path.display())]
    IdentityFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Certificate and key cannot be made, parsed or used together.
    #[error("the TLS identity cannot be used: {0}")]
    Identity(String),
    /// A task of this process ended before its time.
    #[error("a task of this process failed")]
    Task,
}

/// TLS alerts with which an implementation refuses a certificate: bad_certificate, unknown_ca, access_denied, decrypt_error and
/// certificate_required (RFC 8446, section 6).
const CERTIFICATE_ALERTS: [u64; 5] = [42, 48, 49, 51, 116];
/// no_application_protocol (RFC 7301): no common ALPN.
const NO_ALPN: u64 = 120;
/// QUIC carries a TLS alert as error code 0x100 + alert (RFC 9001, section 4.8).
const ALERTS: u64 = 0x100;

/// With this code a listener refuses a connection before the handshake (RFC 9000, section 20.1).
const CONNECTION_REFUSED: u64 = 0x02;

impl From<ConnectionError> for NetError {
    fn from(error: ConnectionError) -> Self {
        let (code, here) = match &error {
            ConnectionError::TransportError(error) => (u64::from(error.code), true),
            ConnectionError::ConnectionClosed(close) => (u64::from(close.error_code), false),
            ConnectionError::ApplicationClosed(close) if close.error_code == MAKE_ROOM => {
                return NetError::Crowded;
            }
            _ => return NetError::Connection(error),
        };
        if code == CONNECTION_REFUSED && !here {
            return NetError::Crowded;
        }
        match code.checked_sub(ALERTS) {
            Some(alert) if CERTIFICATE_ALERTS.contains(&alert) => NetError::UnknownCertificate { here },
            Some(NO_ALPN) => NetError::WrongVersion,
            _ => NetError::Connection(error),
        }
    }
}

impl From<ReadError> for NetError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::ConnectionLost(error) => error.into(),
            _ => NetError::Cancelled,
        }
    }
}

impl From<WriteError> for NetError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::ConnectionLost(error) => error.into(),
            _ => NetError::Cancelled,
        }
    }
}

impl From<quinn::ClosedStream> for NetError {
    fn from(_: quinn::ClosedStream) -> Self {
        NetError::Cancelled
    }
}

impl NetError {
    /// The stable code, where there is one. Lost connections and local failures have none.
    pub fn code(&self) -> Option<Code> {
        match self {
            NetError::Refused(refusal) | NetError::Sink(refusal) => Some(refusal.code),
            NetError::Frame(error) => Some(error.code()),
            NetError::UnknownCertificate { .. } => Some(Code::UnknownCertificate),
            NetError::WrongVersion => Some(Code::WrongVersion),
            NetError::Crowded => Some(Code::Busy),
            _ => None,
        }
    }

    /// Whether the same attempt may succeed later without anybody changing a configuration, study or program.
    pub fn is_transient(&self) -> bool {
        match self {
            NetError::Refused(refusal) | NetError::Sink(refusal) => {
                matches!(
                    refusal.code,
                    Code::Busy | Code::Interrupted | Code::BlobTruncated | Code::Internal
                )
            }
            NetError::Frame(error) => matches!(error, FrameError::Ended),
            NetError::Crowded
            | NetError::Connection(_)
            | NetError::Unreachable { .. }
            | NetError::Address { .. }
            | NetError::Cancelled
            | NetError::Stalled { .. }
            | NetError::Task => true,
            NetError::UnknownCertificate { .. }
            | NetError::WrongVersion
            | NetError::Source(_)
            | NetError::Bind { .. }
            | NetError::IdentityFile { .. }
            | NetError::Identity(_) => false,
        }
    }
}
