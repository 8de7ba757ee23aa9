//! QUIC settings, chosen rather than left to defaults.

use crate::error::NetError;
use crate::identity::Identity;
use quinn::{ConnectionId, ConnectionIdGenerator, EndpointConfig, IdleTimeout, TransportConfig, VarInt};
use ring::hmac;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Name and version of the protocol in the TLS handshake (ALPN).
pub(crate) const ALPN: &[u8] = b"galen/1";

/// Most bytes in flight towards one stream's reader; 1 MiB at 50 ms round trip carries 20 MiB/s per stream. quinn closes the whole
/// connection when a stream buffers more than 1024 fragments with gaps between them (quinn-rs/quinn#2809; before quinn-proto 0.11.18 also
/// without gaps). 1 MiB is 874 fragments of the smallest QUIC packet (1200 bytes), so that limit cannot be reached however lossy the
/// path; whoever needs more throughput opens several streams.
const STREAM_WINDOW: u32 = 1 << 20;
/// Most bytes in flight towards one connection. The default is unbounded, and memory would be 64 streams' worth per peer.
const CONNECTION_WINDOW: u32 = 8 << 20;
/// Most bytes buffered here until the peer acknowledges them, on one connection: what a slow reader of a large blob costs its sender. 10 MiB/s at
/// 50 ms round trip.
const SEND_WINDOW: u64 = 512 << 10;
/// Application code of a connection that its listener ended for another peer's sake.
pub(crate) const MAKE_ROOM: VarInt = VarInt::from_u32(1);
/// Requests under way per connection. More wait at the dialling side. quinn keeps the state of as many streams for the next ones
/// as were ever open, 360 bytes each, scattered among what is freed: with 64 streams, 200 connections held 10 MiB more.
pub(crate) const STREAMS: u32 = 8;
/// First guess of the round trip. The default of 333 ms makes the first retransmission wait a second; parties that dial before the
/// coordinator is up should find it sooner.
const INITIAL_RTT: Duration = Duration::from_millis(100);

/// How patient a connection is. Failure is decided by lack of progress; nothing here limits how long a transfer takes in all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuning {
    /// Give up an exchange when no byte has moved for this long.
    pub stall: Duration,
    /// Give up a request when its answer has not begun after this long. A long poll must be answered sooner.
    pub answer: Duration,
    /// Give up one attempt to dial after this long. Short, so that the next attempt soon finds a coordinator that has come back.
    pub dial: Duration,
    /// A connection on which nothing arrives for this long is dead.
    pub idle: Duration,
    /// On the listening side: connections at a time. Further peers wait for a seat, and those that only wait for news make room.
    pub connections: usize,
    /// Send a sign of life after this long without traffic; keeps firewalls' UDP mappings open, too.
    pub keep_alive: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(60),
            answer: Duration::from_secs(120),
            dial: Duration::from_secs(5),
            idle: Duration::from_secs(30),
            connections: 256,
            keep_alive: Duration::from_secs(5),
        }
    }
}

impl Tuning {
    pub(crate) fn transport(&self) -> Arc<TransportConfig> {
        let idle = u32::try_from(self.idle.as_millis()).unwrap_or(u32::MAX);
        let mut config = TransportConfig::default();
        config
            .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
            .receive_window(VarInt::from_u32(CONNECTION_WINDOW))
            .send_window(SEND_WINDOW)
            .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS))
            // The greeting is the only unidirectional stream.
            .max_concurrent_uni_streams(VarInt::from_u32(1))
            .datagram_receive_buffer_size(None)
            .initial_rtt(INITIAL_RTT)
            .keep_alive_interval(Some(self.keep_alive))
            .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))));
        Arc::new(config)
    }
}

/// Endpoint settings under which a restarted daemon can tell its former peers that their connections are gone.
///
/// A QUIC peer believes such a "stateless reset" (RFC 9000, section 10.3) only with a token that the endpoint computes from a secret. Here the secret
/// is derived from the TLS key, so it outlives the process: parties notice a restarted coordinator with their next packet instead of
/// after the idle timeout.
pub(crate) fn endpoint(identity: &Identity) -> Result<EndpointConfig, NetError> {
    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, &*identity.derive(b"galen stateless reset v1")?);
    let id_key = galen_core::random::bytes::<32>().map_err(|error| NetError::Identity(error.to_string()))?;
    let next = Arc::new(AtomicU64::new(0));
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    config.cid_generator(move || {
        Box::new(ConnectionIds {
            key: hmac::Key::new(hmac::HMAC_SHA256, &id_key),
            next: Arc::clone(&next),
        })
    });
    Ok(config)
}

/// Unpredictable connection ids. Quinn's own generator marks its ids, and drops packets whose id bears no mark of this process: the very
/// packets that a restarted process must answer.
struct ConnectionIds {
    key: hmac::Key,
    next: Arc<AtomicU64>,
}

const ID_BYTES: usize = 8;

impl ConnectionIdGenerator for ConnectionIds {
    fn generate_cid(&mut self) -> ConnectionId {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tag = hmac::sign(&self.key, &number.to_le_bytes());
        ConnectionId::new(tag.as_ref().get(..ID_BYTES).unwrap_or_default())
    }

    fn cid_len(&self) -> usize {
        ID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}
