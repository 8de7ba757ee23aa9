//! The dialling side.

use crate::error::NetError;
use crate::frame::{FrameError, FrameKind};
use crate::gate::Gate;
use crate::identity::{Identity, NAME};
use crate::peer::Peer;
use crate::pins;
use crate::protocol::Request;
use crate::traffic::Traffic;
use crate::transport::{self, Tuning};
use crate::wire::Wire;
use backon::{ExponentialBuilder, Retryable};
use galen_core::{Code, Digest, StudyDigest};
use quinn::{Endpoint, TokioRuntime};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// First and longest wait between attempts to dial.
const WAITS: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(10));

/// How long a party that made room for others stays away, at least and at most. Long enough that those who wait in vain do not keep a
/// coordinator busy with handshakes, short against the minutes of a round.
const AWAY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(4));

/// Dials one coordinator.
#[derive(Clone, Debug)]
pub struct Client {
    address: String,
    identity: Identity,
    config: quinn::ClientConfig,
    study: StudyDigest,
    tuning: Tuning,
    traffic: Arc<Traffic>,
}

impl Client {
    /// Prepares to dial `address` (`host:port`; looked up at every attempt) and to accept nobody but the holder of the certificate `pin`.
    pub fn new(
        address: impl Into<String>,
        identity: &Identity,
        pin: Digest,
        study: StudyDigest,
        tuning: Tuning,
    ) -> Result<Self, NetError> {
        let mut config = quinn::ClientConfig::new(Arc::new(pins::client(identity, pin)?));
        config.transport_config(tuning.transport());
        Ok(Self {
            address: address.into(),
            identity: identity.clone(),
            config,
            study,
            tuning,
            traffic: Arc::default(),
        })
    }

    /// Bytes of frames on all connections of this client.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Dials once. Succeeds only after the coordinator has accepted this side's certificate and named the same study.
    ///
    /// # Errors
    /// [`NetError::UnknownCertificate`] if either side does not know the other.
    pub async fn connect(&self) -> Result<Peer, NetError> {
        timeout(self.tuning.dial, self.dial()).await.unwrap_or_else(|_| {
            Err(NetError::Unreachable {
                address: self.address.clone(),
                within: self.tuning.dial,
            })
        })
    }

    async fn dial(&self) -> Result<Peer, NetError> {
        let unusable = |source| NetError::Address {
            address: self.address.clone(),
            source,
        };
        let remotes: Vec<SocketAddr> = tokio::net::lookup_host(&self.address)
            .await
            .map_err(unusable)?
            .collect();
        // A name such as `localhost` may stand for several addresses of which one is listened on, and nobody says which: each gets its
        // share of the time.
        let share = self.tuning.dial / u32::try_from(remotes.len().max(1)).unwrap_or(u32::MAX);
        let mut result = Err(unusable(io::ErrorKind::NotFound.into()));
        for remote in remotes {
            result = timeout(share, self.dial_one(remote))
                .await
                .unwrap_or_else(|_| Err(self.unreachable()));
            if result
                .as_ref()
                .map_or_else(|error| !error.is_transient(), |_| true)
            {
                break;
            }
        }
        result
    }

    fn unreachable(&self) -> NetError {
        NetError::Unreachable {
            address: self.address.clone(),
            within: self.tuning.dial,
        }
    }

    async fn dial_one(&self, remote: SocketAddr) -> Result<Peer, NetError> {
        let local: SocketAddr = match remote {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let bind = |source| NetError::Bind {
            address: local,
            source,
        };
        // A socket per connection: after a change of network a new one is needed anyway.
        let socket = UdpSocket::bind(local).map_err(bind)?;
        let endpoint = Endpoint::new(
            transport::endpoint(&self.identity)?,
            None,
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(bind)?;
        let connection = endpoint
            .connect_with(self.config.clone(), remote, NAME)
            .map_err(|error| NetError::Address {
                address: self.address.clone(),
                source: io::Error::other(error),
            })?
            .await?;
        let wire = Wire::new(self.study, Arc::clone(&self.traffic), self.tuning);
        let mut greeting = connection.accept_uni().await?;
        match wire
            .read_frame(&mut greeting, &[FrameKind::Greeting], self.tuning.stall)
            .await
        {
            Ok(greeting) => greeting.ok_or(FrameError::Ended)?,
            Err(error @ NetError::Frame(FrameError::WrongStudy { .. })) => {
                return Err(why_another(&connection, &wire).await.unwrap_or(error));
            }
            Err(error) => return Err(error),
        };
        Ok(Peer::new(connection, wire, Gate::new())?.dialled_from(endpoint))
    }

    /// Waits before the next dial, after this side made room for another one ([`NetError::Crowded`]), for an uncertain time, so that
    /// parties take turns.
    pub async fn stay_away(&self) {
        // Without randomness the wait is the shortest one, which costs nothing but others' turn.
        let [dice] = galen_core::random::bytes().unwrap_or_default();
        tokio::time::sleep(AWAY.0 + (AWAY.1 - AWAY.0) * u32::from(dice) / u32::from(u8::MAX)).await;
    }

    /// Dials until it succeeds or fails for a reason that waiting does not change ([`NetError::is_transient`]). Waits between attempts grow to
    /// 10 seconds, with jitter, so that parties do not all return at once. `failed` is told each failure and the wait that follows.
    pub async fn connect_patiently(&self, failed: impl FnMut(&NetError, Duration)) -> Result<Peer, NetError> {
        let waits = ExponentialBuilder::new()
            .with_min_delay(WAITS.0)
            .with_max_delay(WAITS.1)
            .with_jitter()
            .without_max_times();
        (|| self.connect())
            .retry(waits)
            .when(NetError::is_transient)
            .notify(failed)
            .await
    }
}

/// Asks a coordinator that serves another study whether that is a successor of this one; `None` if it does not say so.
async fn why_another(connection: &quinn::Connection, wire: &Wire) -> Option<NetError> {
    let (mut send, mut recv) = connection.open_bi().await.ok()?;
    wire.write_message(&mut send, &Request::Poll { seen: 0, from: 0 })
        .await
        .ok()?;
    let _ = send.finish();
    match wire.read_answer(&mut recv).await {
        Err(NetError::Refused(refusal)) if refusal.code == Code::StudySucceeded => {
            Some(NetError::Refused(refusal))
        }
        _ => None,
    }
}
