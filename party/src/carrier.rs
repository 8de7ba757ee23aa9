//! What carries a party's requests and blobs to the coordinator and back: a connection, or in tests something that plays one.

use galen_core::{Digest, Refusal};
use galen_net::protocol::{BlobKind, Request, Response};
use galen_net::{BlobSink, NetError, Peer};
use std::io::Cursor;
use std::pin::Pin;
use std::sync::Arc;

/// Completes when the coordinator has answered, or cannot be reached any more.
pub type Carried<'a, T> = Pin<Box<dyn Future<Output = Result<T, NetError>> + Send + 'a>>;

/// Who is told the bytes done and in all.
pub type Progress<'a> = &'a mut (dyn FnMut(u64, u64) + Send);

/// The three ways in which a party talks to the coordinator. All may be repeated; when one fails, it may have taken effect.
pub trait Carrier: Send + Sync {
    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`NetError::Refused`] if the coordinator refuses; an answer is never [`Response::Refused`].
    fn call(&self, request: Request) -> Carried<'_, Response>;

    /// Uploads a blob. It is durable at the coordinator when this succeeds.
    fn put<'a>(
        &'a self,
        digest: Digest,
        bytes: Arc<[u8]>,
        kind: BlobKind,
        progress: Progress<'a>,
    ) -> Carried<'a, ()>;

    /// Fetches a blob into a sink, from where the sink is.
    ///
    /// # Errors
    /// [`NetError::Sink`] if the sink refuses the blob, also when it ended too early.
    fn get<'a>(&'a self, digest: Digest, sink: AnySink, progress: Progress<'a>) -> Carried<'a, ()>;

    /// Bytes sent and received so far.
    fn traffic(&self) -> (u64, u64);
}

impl Carrier for Peer {
    fn call(&self, request: Request) -> Carried<'_, Response> {
        Box::pin(async move { Peer::call(self, &request).await })
    }

    fn put<'a>(
        &'a self,
        digest: Digest,
        bytes: Arc<[u8]>,
        kind: BlobKind,
        progress: Progress<'a>,
    ) -> Carried<'a, ()> {
        let len = bytes.len() as u64;
        let open = move |offset: u64| {
            let mut cursor = Cursor::new(Arc::clone(&bytes));
            cursor.set_position(offset);
            Ok(cursor)
        };
        Box::pin(Peer::put(self, digest, len, kind, open, progress))
    }

    fn get<'a>(&'a self, digest: Digest, sink: AnySink, progress: Progress<'a>) -> Carried<'a, ()> {
        Box::pin(Peer::get(self, digest, sink, progress))
    }

    fn traffic(&self) -> (u64, u64) {
        let traffic = Peer::traffic(self);
        (traffic.sent(), traffic.received())
    }
}

/// A [`BlobSink`] of any type.
pub struct AnySink(Box<dyn Sink>);

impl AnySink {
    /// Takes a sink.
    pub fn new(sink: impl BlobSink) -> Self {
        Self(Box::new(sink))
    }
}

impl std::fmt::Debug for AnySink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("AnySink(..)")
    }
}

/// As [`BlobSink`], callable without knowing the type.
trait Sink: Send {
    fn offset(&self) -> u64;
    fn announce(&mut self, len: u64) -> Result<(), Refusal>;
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal>;
    fn finish(self: Box<Self>) -> Result<(), Refusal>;
}

impl<S: BlobSink> Sink for S {
    fn offset(&self) -> u64 {
        BlobSink::offset(self)
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        BlobSink::announce(self, len)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        BlobSink::write(self, bytes)
    }

    fn finish(self: Box<Self>) -> Result<(), Refusal> {
        BlobSink::finish(*self)
    }
}

impl BlobSink for AnySink {
    fn offset(&self) -> u64 {
        self.0.offset()
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        self.0.announce(len)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        self.0.write(bytes)
    }

    fn finish(self) -> Result<(), Refusal> {
        self.0.finish()
    }
}
