//! The answering side of one request.

use crate::blob::{self, BlobSink, Interrupted, Received};
use crate::error::NetError;
use crate::frame::FrameError;
use crate::gate::Pass;
use crate::message::Encoded;
use crate::protocol::{Request, Response};
use crate::seats::Seats;
use crate::transport::{MAKE_ROOM, STREAMS};
use crate::wire::Wire;
use galen_core::{Code, Digest, Refusal};
use quinn::{Connection, RecvStream, SendStream};
use std::io::{self, Read};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// A request that waits for its answer. Dropped without one, the peer sees its stream end.
#[derive(Debug)]
pub struct Exchange {
    request: Request,
    fingerprint: Digest,
    wire: Wire,
    send: SendStream,
    recv: RecvStream,
    crowd: Option<Crowd>,
    _pass: Pass,
}

/// What an exchange knows of the others, on its connection and on further ones.
#[derive(Debug)]
pub(crate) struct Crowd {
    pub(crate) seats: Seats,
    pub(crate) connection: Connection,
    /// Of which each exchange on the connection holds one permit, and whoever waits for the next one holds another.
    pub(crate) handlers: Arc<Semaphore>,
}

impl Crowd {
    fn is_alone(&self) -> bool {
        self.handlers.available_permits() + 2 >= STREAMS as usize
    }
}

impl Exchange {
    /// Reads the request from a fresh stream. What cannot be read is refused with its code.
    pub(crate) async fn read(
        wire: Wire,
        fingerprint: Digest,
        mut send: SendStream,
        mut recv: RecvStream,
        pass: Pass,
    ) -> Result<Self, NetError> {
        match wire.read_message::<Request>(&mut recv, wire.tuning.stall).await {
            Ok(request) => Ok(Self {
                request,
                fingerprint,
                wire,
                send,
                recv,
                crowd: None,
                _pass: pass,
            }),
            Err(NetError::Frame(error)) => {
                let refusal = wire.refusal(&error);
                wire.refuse(&mut send, &mut recv, refusal).await?;
                Err(error.into())
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn amid(self, crowd: Option<Crowd>) -> Self {
        Self { crowd, ..self }
    }

    /// What is asked.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// The fingerprint of the asking side's certificate.
    pub fn fingerprint(&self) -> Digest {
        self.fingerprint
    }

    /// Completes when the asking side has given up waiting or its connection is lost. For handlers that wait for something to happen.
    pub async fn cancelled(&self) {
        // Either result means that nobody reads the answer: the peer stopped the stream, or the connection is gone.
        let _ = self.send.stopped().await;
    }

    /// Completes when a peer found no seat, and this one, on whose connection nothing else goes on, has waited longest. For handlers that
    /// wait for something to happen; they then [make room](Exchange::make_room).
    pub async fn room_is_wanted(&self) {
        match &self.crowd {
            Some(crowd) => loop {
                crowd.seats.wanted().await;
                // Else whoever was turned away dials again and somebody else is asked.
                if crowd.is_alone() {
                    return;
                }
            },
            None => std::future::pending().await,
        }
    }

    /// Ends the connection, on which nothing else goes on, and asks the peer to come again later.
    pub fn make_room(self) {
        if let Some(crowd) = &self.crowd {
            crowd.connection.close(MAKE_ROOM, b"others wait for a connection");
        }
    }

    /// Waits for a turn before answering. The asking side is told that it waits, so that its patience does not end.
    ///
    /// # Errors
    /// [`NetError::Cancelled`] if it gives up meanwhile.
    pub async fn queue<T>(&mut self, turn: impl Future<Output = T>) -> Result<T, NetError> {
        tokio::pin!(turn);
        loop {
            tokio::select! {
                result = &mut turn => return Ok(result),
                () = self.cancelled() => return Err(NetError::Cancelled),
                () = tokio::time::sleep(self.wire.tuning.answer / 4) => {}
            }
            self.wire.write_message(&mut self.send, &Response::Wait).await?;
        }
    }

    /// Answers. Returns when the peer has the answer.
    pub async fn reply(mut self, response: Response) -> Result<(), NetError> {
        match response {
            Response::Refused(refusal) => self.refuse(refusal).await,
            response => match self.wire.finish_with(&mut self.send, &response).await {
                // An answer longer than a frame may be: the asking side is told, for it would wait in vain.
                Err(NetError::Frame(error)) => {
                    let refusal = Refusal::new(Code::Internal, error.to_string());
                    self.refuse(refusal).await?;
                    Err(error.into())
                }
                result => result,
            },
        }
    }

    /// Answers with what others are answered too. Returns when the peer has the answer.
    pub async fn reply_encoded(mut self, response: &Encoded) -> Result<(), NetError> {
        self.wire.write_encoded(&mut self.send, response).await?;
        self.wire.finish(&mut self.send).await
    }

    /// Refuses. Returns when the peer has the refusal.
    pub async fn refuse(mut self, refusal: Refusal) -> Result<(), NetError> {
        self.wire.refuse(&mut self.send, &mut self.recv, refusal).await
    }

    async fn interrupted(self, interrupted: Interrupted) -> Result<(), NetError> {
        match interrupted {
            Interrupted::Refused(refusal) => {
                self.refuse(refusal.clone()).await?;
                Err(NetError::Sink(refusal))
            }
            Interrupted::Failed(error) => Err(error),
        }
    }

    /// Answers [`Request::Put`]: tells the offset to go on from, takes the chunks, finishes the sink and accepts or refuses the blob.
    ///
    /// `go_on` is told the bytes done and in all; when it says no, the peer is refused as [`Code::Interrupted`] and may ask again.
    ///
    /// # Errors
    /// [`NetError::Sink`] with the refusal that the peer was sent.
    pub async fn receive_blob<S: BlobSink>(
        mut self,
        sink: S,
        go_on: impl FnMut(u64, u64) -> bool,
    ) -> Result<(), NetError> {
        let Request::Put { len, .. } = self.request else {
            return self.misused("a blob").await;
        };
        let sink = match blob::announce(sink, len).await {
            Ok(sink) => sink,
            Err(interrupted) => return self.interrupted(interrupted).await,
        };
        let offset = Response::Offset(sink.offset());
        self.wire.write_message(&mut self.send, &offset).await?;
        match blob::receive_chunks(&self.wire, &mut self.recv, sink, len, go_on).await {
            Ok(Received::Whole) => self.reply(Response::Ok).await,
            Ok(Received::Interrupted(_)) => {
                let refusal = Refusal::new(Code::BlobTruncated, "the upload was cut short by its sender");
                self.interrupted(Interrupted::Refused(refusal)).await
            }
            Err(interrupted) => self.interrupted(interrupted).await,
        }
    }

    /// Answers [`Request::Get`] with a blob of `len` bytes. `open` gives the bytes from an offset on; it may block. `go_on` is told the
    /// bytes done and in all; when it says no, the peer is told to ask for the rest.
    pub async fn send_blob<R: Read + Send + 'static>(
        mut self,
        len: u64,
        open: impl FnOnce(u64) -> io::Result<R> + Send + 'static,
        go_on: impl FnMut(u64, u64) -> bool,
    ) -> Result<(), NetError> {
        let Request::Get { offset, .. } = self.request else {
            return self.misused("a request for a blob").await;
        };
        if offset > len {
            let refusal = Refusal::new(
                Code::BlobMismatch,
                format!("asked from byte {offset} of a blob of {len}"),
            );
            return self.refuse(refusal).await;
        }
        let source = match blob::blocking(move || open(offset)).await? {
            Ok(source) => source,
            Err(error) => {
                self.refuse(Refusal::new(
                    Code::Internal,
                    "the blob cannot be read; see the log of this side",
                ))
                .await?;
                return Err(NetError::Source(error));
            }
        };
        let Self { wire, send, .. } = &mut self;
        wire.write_message(send, &Response::Blob { len }).await?;
        let sent = blob::send_chunks(wire, send, source, offset, len, go_on).await;
        if sent.is_err() {
            // A reset, unlike the end of the stream, cannot be taken for the end of the blob.
            let _ = send.reset(quinn::VarInt::from_u32(0));
        }
        sent?;
        wire.finish(send).await
    }

    /// The handler took one kind of request for another: a fault of this side.
    async fn misused(self, expected: &'static str) -> Result<(), NetError> {
        let found = "another request".to_owned();
        self.refuse(Refusal::new(Code::Internal, "the request was mishandled"))
            .await?;
        Err(FrameError::Unexpected { found, expected }.into())
    }
}
