//! Moving a blob over a stream: chunks one after the other, in order, from an offset to the end.
//!
//! There is no acknowledgement per chunk: QUIC's flow control holds the sender back to what the receiver has taken, and after an
//! interruption the receiver's own count says where to go on.

use crate::error::NetError;
use crate::frame::{FrameError, FrameKind};
use crate::message::Message;
use crate::protocol::Response;
use crate::wire::Wire;
use galen_core::{Code, Refusal};
use quinn::{RecvStream, SendStream};
use std::io::Read;
use tokio::task::spawn_blocking;

/// Bytes per chunk that is sent, save the last: two segments of the blob store. Longer ones are taken, up to the limit of a frame; a receiver
/// holds one in memory, and loses it when the transfer is cut.
const CHUNK_BYTES: usize = 128 << 10;

/// Where the bytes of a received blob go. Everything but `offset` is called on tokio's threads for blocking work, so that files may be
/// written directly.
///
/// A refusal ends the transfer; in an upload it is sent to the peer as it is. Dropping the sink before `finish` should keep what has
/// arrived, so that the transfer can be resumed.
pub trait BlobSink: Send + 'static {
    /// How many bytes are held already; the transfer begins there.
    fn offset(&self) -> u64;

    /// Tells the total length, before anything is written. The place to refuse what is too long.
    fn announce(&mut self, len: u64) -> Result<(), Refusal>;

    /// Takes the next bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal>;

    /// Verifies the whole and makes it durable.
    fn finish(self) -> Result<(), Refusal>;
}

/// Runs blocking work. An error stands for a panic in it or for a runtime that is shutting down.
pub(crate) async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> R + Send + 'static,
) -> Result<R, NetError> {
    spawn_blocking(work).await.map_err(|_| NetError::Task)
}

/// Sends the bytes from `offset` to `len`; the source stands at `offset`. `go_on` is told the bytes done and in all, and stops the transfer
/// with false: the peer is told to ask for the rest later.
pub(crate) async fn send_chunks<R: Read + Send + 'static>(
    wire: &Wire,
    send: &mut SendStream,
    mut source: R,
    offset: u64,
    len: u64,
    mut go_on: impl FnMut(u64, u64) -> bool,
) -> Result<(), NetError> {
    let mut done = offset;
    let mut buffer = Vec::new();
    while go_on(done, len) && done < len {
        let wanted = usize::try_from(len - done).map_or(CHUNK_BYTES, |rest| rest.min(CHUNK_BYTES));
        buffer.resize(wanted, 0);
        let read = blocking(move || {
            let result = source.read_exact(&mut buffer);
            (source, buffer, result)
        });
        let result;
        (source, buffer, result) = read.await?;
        result.map_err(NetError::Source)?;
        wire.write_frame(send, FrameKind::Chunk, &buffer).await?;
        done += wanted as u64;
    }
    if done < len {
        wire.write_message(send, &Response::Refused(interrupted()))
            .await?;
    }
    Ok(())
}

/// What a peer is told whose transfer makes room for others.
pub(crate) fn interrupted() -> Refusal {
    Refusal::new(Code::Interrupted, "others wait for their turn")
}

/// How receiving ended without the whole blob.
pub(crate) enum Interrupted {
    /// This side refuses; the peer should be told.
    Refused(Refusal),
    /// The stream or connection failed.
    Failed(NetError),
}

impl From<NetError> for Interrupted {
    fn from(error: NetError) -> Self {
        match error {
            // The sender stopped; what has arrived is kept.
            NetError::Frame(FrameError::Ended) | NetError::Cancelled => Self::Refused(Refusal::new(
                Code::BlobTruncated,
                "the stream ended before the blob",
            )),
            NetError::Frame(error) => Self::Refused(Refusal::new(error.code(), error.to_string())),
            error => Self::Failed(error),
        }
    }
}

/// How receiving ended.
pub(crate) enum Received<S> {
    /// The whole blob is there and finished.
    Whole,
    /// The sender wants to be asked for the rest.
    Interrupted(S),
}

/// Receives the bytes from the sink's offset to `len` and finishes the sink. `go_on` is told the bytes done and in all, and stops the
/// transfer with false: it is refused as interrupted.
pub(crate) async fn receive_chunks<S: BlobSink>(
    wire: &Wire,
    recv: &mut RecvStream,
    mut sink: S,
    len: u64,
    mut go_on: impl FnMut(u64, u64) -> bool,
) -> Result<Received<S>, Interrupted> {
    let mut done = sink.offset();
    while go_on(done, len) && done < len {
        let (kind, bytes) = wire
            .read_frame(recv, &[FrameKind::Chunk, FrameKind::Refusal], wire.tuning.stall)
            .await?
            .ok_or(NetError::Frame(FrameError::Ended))?;
        if kind == FrameKind::Refusal {
            return match Response::decode(kind, &bytes).map_err(NetError::Frame)? {
                Response::Refused(refusal) if refusal.code == Code::Interrupted => {
                    Ok(Received::Interrupted(sink))
                }
                _ => Err(NetError::Cancelled.into()),
            };
        }
        let taken = bytes.len() as u64;
        if taken == 0 || taken > len - done {
            return Err(NetError::Frame(FrameError::Unexpected {
                found: format!("a chunk of {taken} bytes"),
                expected: "a chunk that fits into the rest of the blob",
            })
            .into());
        }
        let result;
        (sink, result) = blocking(move || {
            let result = sink.write(&bytes);
            (sink, result)
        })
        .await?;
        result.map_err(Interrupted::Refused)?;
        done += taken;
    }
    if done < len {
        return Err(Interrupted::Refused(interrupted()));
    }
    blocking(move || sink.finish())
        .await?
        .map_err(Interrupted::Refused)?;
    Ok(Received::Whole)
}

/// Tells a sink the length and checks that the two agree.
pub(crate) async fn announce<S: BlobSink>(mut sink: S, len: u64) -> Result<S, Interrupted> {
    let (sink, result) = blocking(move || {
        let result = sink.announce(len);
        (sink, result)
    })
    .await?;
    result.map_err(Interrupted::Refused)?;
    if sink.offset() > len {
        let held = sink.offset();
        return Err(Interrupted::Refused(Refusal::new(
            Code::BlobMismatch,
            format!("{held} bytes are held of a blob announced with {len}"),
        )));
    }
    Ok(sink)
}
