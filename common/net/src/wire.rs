//! Frames on QUIC streams, with patience and byte counts.

use crate::error::NetError;
use crate::frame::{FrameError, FrameKind, HEADER_BYTES, Header};
use crate::message::{Encoded, Message};
use crate::protocol::Response;
use crate::traffic::Traffic;
use crate::transport::Tuning;
use galen_core::{Code, Refusal, StudyDigest};
use quinn::{RecvStream, SendStream, VarInt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Most bytes taken from a stream at once. Buffers grow with what arrives, not with what a header announces.
const READ_BYTES: usize = 64 << 10;

/// Longest detail of a refusal that is sent.
const DETAIL_CHARS: usize = 1000;

/// How many frames longer than a chunk are read at once on a connection. Others wait, so that a peer that opens all its streams with the
/// longest frames fills 2 buffers and not 8.
const LONG_FRAMES: usize = 2;

/// What every stream of a connection shares.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) study: StudyDigest,
    pub(crate) traffic: Arc<Traffic>,
    pub(crate) tuning: Tuning,
    /// Studies that came before this one, whose members are told so.
    former: Arc<[StudyDigest]>,
    long_frames: Arc<Semaphore>,
}

impl Wire {
    pub(crate) fn new(study: StudyDigest, traffic: Arc<Traffic>, tuning: Tuning) -> Self {
        Self {
            study,
            traffic,
            tuning,
            former: Arc::default(),
            long_frames: Arc::new(Semaphore::new(LONG_FRAMES)),
        }
    }

    pub(crate) fn after(self, former: Arc<[StudyDigest]>) -> Self {
        Self { former, ..self }
    }

    /// The same for another connection, with counts and limits of its own.
    pub(crate) fn of_one_connection(&self) -> Self {
        Self::new(self.study, Arc::default(), self.tuning).after(Arc::clone(&self.former))
    }

    /// What a peer is told whose frame cannot be read.
    pub(crate) fn refusal(&self, error: &FrameError) -> Refusal {
        match error {
            FrameError::WrongStudy { found, expected } if self.former.contains(found) => Refusal::new(
                Code::StudySucceeded,
                format!("study {} was succeeded by {}", found.short(), expected.short()),
            ),
            error => Refusal::new(error.code(), error.to_string()),
        }
    }

    pub(crate) async fn write_frame(
        &self,
        send: &mut SendStream,
        kind: FrameKind,
        payload: &[u8],
    ) -> Result<(), NetError> {
        self.write_header(send, kind, payload.len()).await?;
        self.write(send, payload).await
    }

    async fn write_header(&self, send: &mut SendStream, kind: FrameKind, len: usize) -> Result<(), NetError> {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        if len > kind.limit() {
            return Err(FrameError::TooLarge {
                kind,
                len,
                limit: kind.limit(),
            }
            .into());
        }
        let header = Header {
            kind,
            study: self.study,
            len,
        };
        self.write(send, &header.encode()).await
    }

    /// Sends bytes that others are sent too, without a copy of them.
    pub(crate) async fn write_encoded(
        &self,
        send: &mut SendStream,
        message: &Encoded,
    ) -> Result<(), NetError> {
        self.write_header(send, message.kind, message.payload.len())
            .await?;
        let mut rest = [message.payload.clone()];
        while !rest[0].is_empty() {
            let written = self
                .in_time(self.tuning.stall, send.write_chunks(&mut rest))
                .await??;
            self.traffic.add_sent(written.bytes);
        }
        Ok(())
    }

    async fn write(&self, send: &mut SendStream, mut bytes: &[u8]) -> Result<(), NetError> {
        while !bytes.is_empty() {
            let written = self.in_time(self.tuning.stall, send.write(bytes)).await??;
            self.traffic.add_sent(written);
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads a frame of one of the kinds that may stand here; `None` if the stream ended before its first byte, which may take
    /// `patience` to come.
    pub(crate) async fn read_frame(
        &self,
        recv: &mut RecvStream,
        kinds: &[FrameKind],
        patience: Duration,
    ) -> Result<Option<(FrameKind, Vec<u8>)>, NetError> {
        let mut header = [0; HEADER_BYTES];
        let mut filled = 0;
        while let Some(free) = header.get_mut(filled..).filter(|free| !free.is_empty()) {
            let patience = if filled == 0 { patience } else { self.tuning.stall };
            match self.in_time(patience, recv.read(free)).await?? {
                Some(n) => filled += n,
                None if filled == 0 => return Ok(None),
                None => return Err(FrameError::Ended.into()),
            }
        }
        self.traffic.add_received(filled);
        let header = Header::decode(&header, &self.study)?;
        if !kinds.contains(&header.kind) {
            return Err(FrameError::Unexpected {
                found: format!("a frame of kind {:?}", header.kind),
                expected: "a frame of another kind",
            }
            .into());
        }
        let _long = if header.len > FrameKind::Chunk.limit() {
            // An error would mean that the semaphore is closed, which nobody does.
            self.long_frames.acquire().await.ok()
        } else {
            None
        };
        let len = usize::try_from(header.len).unwrap_or(usize::MAX);
        let (mut payload, mut filled) = (Vec::new(), 0);
        while filled < len {
            if filled == payload.len() {
                payload.resize(len.min(filled + READ_BYTES), 0);
            }
            let free = payload.get_mut(filled..).unwrap_or_default();
            let n = self
                .in_time(self.tuning.stall, recv.read(free))
                .await??
                .ok_or(FrameError::Ended)?;
            self.traffic.add_received(n);
            filled += n;
        }
        Ok(Some((header.kind, payload)))
    }

    pub(crate) async fn write_message<M: Message>(
        &self,
        send: &mut SendStream,
        message: &M,
    ) -> Result<(), NetError> {
        self.write_frame(send, message.frame_kind(), &message.encode()?)
            .await
    }

    pub(crate) async fn read_message<M: Message>(
        &self,
        recv: &mut RecvStream,
        patience: Duration,
    ) -> Result<M, NetError> {
        let (kind, payload) = self
            .read_frame(recv, M::KINDS, patience)
            .await?
            .ok_or(FrameError::Ended)?;
        Ok(M::decode(kind, &payload)?)
    }

    /// Reads the answer to a request, however long the answering side says that it must wait. A refusal is an error.
    pub(crate) async fn read_answer(&self, recv: &mut RecvStream) -> Result<Response, NetError> {
        loop {
            match self.read_message(recv, self.tuning.answer).await? {
                Response::Wait => {}
                Response::Refused(refusal) => return Err(NetError::Refused(refusal)),
                response => return Ok(response),
            }
        }
    }

    /// Refuses what the peer sends on a stream: tells why, and stops listening to it.
    pub(crate) async fn refuse(
        &self,
        send: &mut SendStream,
        recv: &mut RecvStream,
        mut refusal: Refusal,
    ) -> Result<(), NetError> {
        refusal.detail = refusal.detail.chars().take(DETAIL_CHARS).collect();
        let told = self.finish_with(send, &Response::Refused(refusal)).await;
        // The peer may have finished already, in which case there is nothing to stop.
        let _ = recv.stop(VarInt::from_u32(0));
        told
    }

    /// Sends the last message of this side and waits until the peer has it.
    pub(crate) async fn finish_with<M: Message>(
        &self,
        send: &mut SendStream,
        message: &M,
    ) -> Result<(), NetError> {
        self.write_message(send, message).await?;
        self.finish(send).await
    }

    /// Ends this side's half of the stream and waits until the peer has all of it.
    pub(crate) async fn finish(&self, send: &mut SendStream) -> Result<(), NetError> {
        send.finish()?;
        match self.in_time(self.tuning.stall, send.stopped()).await? {
            Ok(None) => Ok(()),
            Ok(Some(_)) => Err(NetError::Cancelled),
            Err(quinn::StoppedError::ConnectionLost(error)) => Err(error.into()),
            Err(quinn::StoppedError::ZeroRttRejected) => Err(NetError::Cancelled),
        }
    }

    async fn in_time<F: Future>(&self, after: Duration, future: F) -> Result<F::Output, NetError> {
        timeout(after, future)
            .await
            .map_err(|_| NetError::Stalled { after })
    }
}
