//! The other end of a connection.

use crate::blob::{self, BlobSink, Interrupted, Received};
use crate::error::NetError;
use crate::exchange::{Crowd, Exchange};
use crate::frame::FrameError;
use crate::gate::Gate;
use crate::protocol::{BlobKind, Request, Response};
use crate::seats::{Seat, Seats};
use crate::traffic::Traffic;
use crate::transport::STREAMS;
use crate::wire::Wire;
use galen_core::{Code, Digest};
use quinn::{Connection, Endpoint, RecvStream, SendStream, VarInt};
use std::io::{self, Read};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// How long [`Peer::leave`] waits at most.
const LEAVING: Duration = Duration::from_secs(1);

/// A connected peer whose certificate is pinned. Clones share the connection, which ends when one of them is closed or the last
/// one is dropped.
#[derive(Clone, Debug)]
pub struct Peer {
    fingerprint: Digest,
    connection: Connection,
    wire: Wire,
    gate: Gate,
    /// The dialling side's own endpoint.
    endpoint: Option<Endpoint>,
    /// On the listening side.
    seat: Option<(Seats, Arc<Seat>)>,
}

impl Peer {
    pub(crate) fn new(connection: Connection, wire: Wire, gate: Gate) -> Result<Self, NetError> {
        Ok(Self {
            fingerprint: crate::pins::fingerprint(&connection)?,
            connection,
            wire,
            gate,
            endpoint: None,
            seat: None,
        })
    }

    pub(crate) fn dialled_from(self, endpoint: Endpoint) -> Self {
        Self {
            endpoint: Some(endpoint),
            ..self
        }
    }

    pub(crate) fn seated(self, seats: Seats, seat: Seat) -> Self {
        Self {
            seat: Some((seats, Arc::new(seat))),
            ..self
        }
    }

    /// SHA-256 of the peer's certificate, whose key the peer proved to hold.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Where the peer's packets come from.
    pub fn remote(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Bytes of frames on this connection; on the dialling side, on all connections of the same [`Client`](crate::Client).
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.wire.traffic
    }

    /// Bytes in UDP datagrams sent and received on this connection: frames, QUIC, TLS, acknowledgements and retransmissions.
    pub fn udp_bytes(&self) -> (u64, u64) {
        let stats = self.connection.stats();
        (stats.udp_tx.bytes, stats.udp_rx.bytes)
    }

    /// The QUIC connection underneath, for measurements and for tests that send what no well-behaved peer would.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Completes when the connection has ended, with the reason.
    pub async fn closed(&self) -> NetError {
        self.connection.closed().await.into()
    }

    /// Ends the connection. What is under way on it fails.
    pub fn close(&self) {
        self.connection.close(VarInt::from_u32(0), b"closed");
    }

    /// Ends the connection and gives the peer a moment to hear of it; without that, a process that exits leaves the peer waiting for its
    /// idle timeout.
    pub async fn leave(self) {
        self.close();
        if let Some(endpoint) = &self.endpoint {
            let _ = timeout(LEAVING, endpoint.wait_idle()).await;
        }
    }

    async fn open(&self, request: &Request) -> Result<(SendStream, RecvStream), NetError> {
        let (mut send, recv) = self.connection.open_bi().await?;
        match self.wire.write_message(&mut send, request).await {
            // A peer that refuses a request stops reading it; the reason stands on its half of the stream.
            Ok(()) | Err(NetError::Cancelled) => Ok((send, recv)),
            Err(error) => Err(error),
        }
    }

    /// Asks and waits for the answer. Dropping the future tells the peer that nobody waits any more.
    ///
    /// # Errors
    /// [`NetError::Refused`] if the peer refuses; a returned response is never [`Response::Refused`].
    pub async fn call(&self, request: &Request) -> Result<Response, NetError> {
        let (mut send, mut recv) = self.open(request).await?;
        // Fails only if the peer has stopped reading, which its answer explains.
        let _ = send.finish();
        self.wire.read_answer(&mut recv).await
    }

    /// Sends a blob of `len` bytes. `open` gives its bytes from the offset that the peer already has; it may block, and is called again
    /// whenever the peer has interrupted the transfer for others' sake. `progress` is told the bytes done and in all.
    pub async fn put<R: Read + Send + 'static>(
        &self,
        digest: Digest,
        len: u64,
        kind: BlobKind,
        open: impl Fn(u64) -> io::Result<R> + Send + Sync + 'static,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), NetError> {
        let open = Arc::new(open);
        // Where the turn before began. A peer that interrupts and keeps nothing is not asked again and again.
        let mut before = None;
        loop {
            let opening = Arc::clone(&open);
            let mut began = None;
            let told = |done, len| {
                began.get_or_insert(done);
                progress(done, len);
            };
            let sent = self
                .put_once(digest, len, kind, move |offset| opening(offset), told)
                .await;
            match sent {
                Err(NetError::Refused(refusal)) if refusal.code == Code::Interrupted && began > before => {
                    before = began;
                }
                sent => return sent,
            }
        }
    }

    async fn put_once<R: Read + Send + 'static>(
        &self,
        digest: Digest,
        len: u64,
        kind: BlobKind,
        open: impl FnOnce(u64) -> io::Result<R> + Send + 'static,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), NetError> {
        let (mut send, mut recv) = self.open(&Request::Put { digest, len, kind }).await?;
        let offset = match self.wire.read_answer(&mut recv).await? {
            Response::Offset(offset) if offset <= len => offset,
            other => return Err(unexpected(&other, "an offset within the blob")),
        };
        let source = blob::blocking(move || open(offset))
            .await?
            .map_err(NetError::Source)?;
        let go_on = |done, len| {
            progress(done, len);
            true
        };
        match blob::send_chunks(&self.wire, &mut send, source, offset, len, go_on).await {
            Ok(()) => {
                let _ = send.finish();
            }
            // The peer stopped reading; its answer says why.
            Err(NetError::Cancelled) => {}
            Err(error) => {
                let _ = send.reset(VarInt::from_u32(0));
                return Err(error);
            }
        }
        match self.wire.read_answer(&mut recv).await? {
            Response::Ok => Ok(()),
            other => Err(unexpected(&other, "an acknowledgement of the blob")),
        }
    }

    /// Fetches a blob from the sink's offset on, and goes on whenever the peer has interrupted the transfer for others' sake. `progress` is
    /// told the bytes done and in all.
    ///
    /// # Errors
    /// [`NetError::Sink`] if the sink refuses the blob, also when it ended too early.
    pub async fn get<S: BlobSink>(
        &self,
        digest: Digest,
        mut sink: S,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<(), NetError> {
        let mut go_on = |done, len| {
            progress(done, len);
            true
        };
        loop {
            let offset = sink.offset();
            let (mut send, mut recv) = self.open(&Request::Get { digest, offset }).await?;
            let _ = send.finish();
            let len = match self.wire.read_answer(&mut recv).await? {
                Response::Blob { len } => len,
                other => return Err(unexpected(&other, "the length of a blob")),
            };
            let received = match blob::announce(sink, len).await {
                Ok(sink) if sink.offset() == offset => {
                    blob::receive_chunks(&self.wire, &mut recv, sink, len, &mut go_on).await
                }
                // The sink let go of what it held; only a new request can start from there.
                Ok(_) => Err(Interrupted::Failed(NetError::Cancelled)),
                Err(interrupted) => Err(interrupted),
            };
            match received {
                Ok(Received::Whole) => return Ok(()),
                Ok(Received::Interrupted(rest)) if rest.offset() > offset => sink = rest,
                Ok(Received::Interrupted(_)) => return Err(NetError::Refused(blob::interrupted())),
                Err(Interrupted::Refused(refusal)) => return Err(NetError::Sink(refusal)),
                Err(Interrupted::Failed(error)) => return Err(error),
            }
        }
    }

    /// Hands every request of this peer to the handler, each in a task of its own, until the connection ends; returns why it did.
    ///
    /// Requests that cannot be read are refused with their code and do not reach the handler; other streams are not affected.
    pub async fn serve<H, F>(&self, handler: H) -> NetError
    where
        H: Fn(Exchange) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        // Counts handlers, not streams: a peer that cancels its requests may open new ones before their handlers have noticed.
        let handlers = Arc::new(Semaphore::new(STREAMS as usize));
        loop {
            let Ok(permit) = Arc::clone(&handlers).acquire_owned().await else {
                return NetError::Task;
            };
            let (send, recv) = tokio::select! {
                stream = self.connection.accept_bi() => match stream {
                    Ok(stream) => stream,
                    Err(error) => return error.into(),
                },
                () = self.gate.closed() => return self.closed().await,
            };
            let Some(pass) = self.gate.enter() else {
                return self.closed().await;
            };
            let handler = handler.clone();
            let fingerprint = self.fingerprint;
            let reading = Exchange::read(self.wire.clone(), fingerprint, send, recv, pass);
            let crowd = self.seat.as_ref().map(|(seats, _)| Crowd {
                seats: seats.clone(),
                connection: self.connection.clone(),
                handlers: Arc::clone(&handlers),
            });
            tokio::spawn(async move {
                let _permit = permit;
                match reading.await {
                    Ok(exchange) => handler(exchange.amid(crowd)).await,
                    Err(error) => {
                        tracing::warn!(peer = %fingerprint.short(), %error, "a request was not read");
                    }
                }
            });
        }
    }
}

fn unexpected(found: &Response, expected: &'static str) -> NetError {
    // Only the variant's name: an answer may be long.
    let text = format!("{found:?}");
    let name = text
        .split(|c: char| !c.is_alphanumeric())
        .next()
        .unwrap_or_default();
    FrameError::Unexpected {
        found: name.to_owned(),
        expected,
    }
    .into()
}
