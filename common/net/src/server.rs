//! The listening side.

use crate::error::NetError;
use crate::frame::FrameKind;
use crate::gate::Gate;
use crate::identity::Identity;
use crate::peer::Peer;
use crate::pins;
use crate::seats::{Counts, Seats};
use crate::transport::{self, Tuning};
use crate::wire::Wire;
use galen_core::{Digest, StudyDigest};
use quinn::{Endpoint, Incoming, TokioRuntime, VarInt};
use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::timeout;

/// Handshakes under way at once. They cost a signature each, and anybody can start one; strangers take no more seats than that.
const HANDSHAKES: usize = 16;

/// Dials that wait for a handshake or a seat at once; each costs a packet of memory.
const LINE: usize = 1024;

/// How long a dial waits for a seat, as a part of the time that its handshake may take.
const PATIENCE: u32 = 2;

/// A listening endpoint. Dropped, it stops accepting; established connections live on with their [`Peer`]s.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    local: SocketAddr,
    gate: Gate,
    counts: Arc<Counts>,
    peers: mpsc::Receiver<Peer>,
}

/// Ends [`Server::accept`] from elsewhere.
#[derive(Clone, Debug)]
pub struct Stopper(Gate);

impl Stopper {
    /// From now on no connection and no request is accepted; requests under way go on.
    pub fn stop(&self) {
        self.0.close();
    }
}

impl Server {
    /// Listens on a UDP port for peers whose certificate fingerprints are in `pins`. Needs a tokio runtime.
    pub fn bind(
        address: SocketAddr,
        identity: &Identity,
        pins: BTreeSet<Digest>,
        study: StudyDigest,
        tuning: Tuning,
    ) -> Result<Self, NetError> {
        Self::bind_after(address, identity, pins, study, Vec::new(), tuning)
    }

    /// The same for a study that succeeded others: whoever still speaks of one of those is refused with
    /// [`Code::StudySucceeded`](galen_core::Code::StudySucceeded).
    pub fn bind_after(
        address: SocketAddr,
        identity: &Identity,
        pins: BTreeSet<Digest>,
        study: StudyDigest,
        former: Vec<StudyDigest>,
        tuning: Tuning,
    ) -> Result<Self, NetError> {
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(pins::server(identity, pins)?));
        config.transport_config(tuning.transport());
        let bind = |source| NetError::Bind { address, source };
        let socket = UdpSocket::bind(address).map_err(bind)?;
        let endpoint = Endpoint::new(
            transport::endpoint(identity)?,
            Some(config),
            socket,
            Arc::new(TokioRuntime),
        )
        .map_err(bind)?;
        let local = endpoint.local_addr().map_err(bind)?;
        let gate = Gate::new();
        let (sender, peers) = mpsc::channel(HANDSHAKES);
        let wire = Wire::new(study, Arc::default(), tuning).after(former.into());
        let seats = Seats::new(tuning.connections);
        let counts = Arc::clone(seats.counts());
        tokio::spawn(listen(endpoint.clone(), gate.clone(), wire, seats, sender));
        Ok(Self {
            endpoint,
            local,
            gate,
            counts,
            peers,
        })
    }

    /// The address that is listened on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many connections there are and how many found no room.
    pub fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }

    /// A handle that ends [`Server::accept`].
    pub fn stopper(&self) -> Stopper {
        Stopper(self.gate.clone())
    }

    /// The next peer whose handshake is complete; `None` once stopped. Strangers are refused in the handshake and do not appear.
    pub async fn accept(&mut self) -> Option<Peer> {
        tokio::select! {
            biased;
            () = self.gate.closed() => None,
            peer = self.peers.recv() => peer,
        }
    }

    /// Takes no more requests, waits up to `grace` until those under way are answered, and ends all connections.
    pub async fn shutdown(self, grace: Duration) {
        self.gate.close();
        if timeout(grace, self.gate.empty()).await.is_err() {
            tracing::warn!("shutting down with requests under way");
        }
        self.endpoint.close(VarInt::from_u32(0), b"shutting down");
        // Lets the peers have the news; they would find out by themselves.
        let _ = timeout(grace.min(Duration::from_secs(2)), self.endpoint.wait_idle()).await;
    }
}

async fn listen(endpoint: Endpoint, gate: Gate, wire: Wire, seats: Seats, peers: mpsc::Sender<Peer>) {
    let line = Arc::new(Semaphore::new(LINE));
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES));
    loop {
        let incoming = tokio::select! {
            incoming = endpoint.accept() => incoming,
            () = gate.closed() => None,
            () = peers.closed() => None,
        };
        let Some(incoming) = incoming else { break };
        let Ok(place) = Arc::clone(&line).try_acquire_owned() else {
            incoming.refuse();
            continue;
        };
        let wire = wire.of_one_connection();
        let (seats, handshakes) = (seats.clone(), Arc::clone(&handshakes));
        let (gate, peers) = (gate.clone(), peers.clone());
        tokio::spawn(async move {
            let remote = incoming.remote_address();
            // Nothing is kept of this dial but its first packet before there is a seat for it. The dialling side gives up at the same time.
            let patience = wire.tuning.dial / PATIENCE;
            let Ok(Ok(permit)) = timeout(patience, handshakes.acquire_owned()).await else {
                return incoming.refuse();
            };
            let Some(seat) = seats.take(patience).await else {
                return incoming.refuse();
            };
            drop(place);
            match timeout(wire.tuning.dial, greet(incoming, wire, gate)).await {
                Ok(Ok(peer)) => {
                    // Fails only when the server is gone.
                    let _ = peers.send(peer.seated(seats, seat)).await;
                }
                Ok(Err(error)) => tracing::warn!(%remote, %error, "a handshake failed"),
                Err(_) => tracing::warn!(%remote, "a handshake took too long"),
            }
            drop(permit);
        });
    }
    endpoint.set_server_config(None);
}

/// Completes the handshake and tells the peer so. In TLS 1.3 the dialling side is done before the listening side has looked at its
/// certificate; the greeting is how it learns that it was accepted.
async fn greet(incoming: Incoming, wire: Wire, gate: Gate) -> Result<Peer, NetError> {
    let connection = incoming.await?;
    let mut greeting = connection.open_uni().await?;
    wire.write_frame(&mut greeting, FrameKind::Greeting, &[]).await?;
    greeting.finish()?;
    Peer::new(connection, wire, gate)
}
