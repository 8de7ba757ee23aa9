//! A coordinator with blobs in memory, and parties that dial it over loopback.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]
#![allow(dead_code, reason = "not every test uses everything")]

use galen_core::{Code, Digest, Refusal};
use galen_net::protocol::{BlobKind, StudyPhase, View};
use galen_net::{BlobSink, Client, Encoded, Exchange, Identity, Peer, Request, Response, Server, Tuning};
use std::collections::{BTreeSet, HashMap};
use std::io::Cursor;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Notify;

pub(crate) fn study() -> Digest {
    Digest::of(b"study")
}

/// Bytes that differ from place to place.
pub(crate) fn sample(len: usize, seed: u64) -> Vec<u8> {
    (0..len as u64)
        .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
        .collect()
}

/// Blobs in memory, whole and partial.
#[derive(Clone, Default)]
pub(crate) struct Memory {
    pub(crate) whole: Arc<Mutex<HashMap<Digest, Vec<u8>>>>,
    pub(crate) partial: Arc<Mutex<HashMap<Digest, Vec<u8>>>>,
}

pub(crate) struct MemorySink {
    memory: Memory,
    digest: Digest,
    bytes: Option<Vec<u8>>,
    len: u64,
    pub(crate) limit: u64,
    /// Refuses to take more than this, as a full disk does.
    pub(crate) room: usize,
}

impl Memory {
    pub(crate) fn sink(&self, digest: Digest) -> MemorySink {
        let bytes = self.partial.lock().unwrap().remove(&digest);
        MemorySink {
            memory: self.clone(),
            digest,
            bytes: Some(bytes.unwrap_or_default()),
            len: 0,
            limit: 1 << 30,
            room: usize::MAX,
        }
    }

    pub(crate) fn get(&self, digest: &Digest) -> Option<Vec<u8>> {
        self.whole.lock().unwrap().get(digest).cloned()
    }

    pub(crate) fn add(&self, bytes: Vec<u8>) -> Digest {
        let digest = Digest::of(&bytes);
        self.whole.lock().unwrap().insert(digest, bytes);
        digest
    }
}

impl BlobSink for MemorySink {
    fn offset(&self) -> u64 {
        self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }

    fn announce(&mut self, len: u64) -> Result<(), Refusal> {
        self.len = len;
        if len > self.limit {
            return Err(Refusal::new(Code::BlobTooLarge, format!("{len} bytes")));
        }
        Ok(())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Refusal> {
        let held = self.bytes.as_mut().unwrap();
        if held.len() + bytes.len() > self.room {
            return Err(Refusal::new(Code::Busy, "no room"));
        }
        held.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(mut self) -> Result<(), Refusal> {
        let bytes = self.bytes.take().unwrap();
        if Digest::of(&bytes) != self.digest {
            return Err(Refusal::new(Code::BlobMismatch, "other bytes"));
        }
        self.memory.add(bytes);
        Ok(())
    }
}

impl Drop for MemorySink {
    fn drop(&mut self) {
        if let Some(bytes) = self.bytes.take() {
            self.memory.partial.lock().unwrap().insert(self.digest, bytes);
        }
    }
}

/// What the test coordinator does with requests.
#[derive(Clone, Default)]
pub(crate) struct Desk {
    pub(crate) memory: Memory,
    pub(crate) release: Arc<Notify>,
    pub(crate) polls_waiting: Arc<AtomicUsize>,
    pub(crate) polls_cancelled: Arc<AtomicUsize>,
    /// Handlers at work now, and the most there ever were.
    pub(crate) busy: Arc<AtomicUsize>,
    pub(crate) busiest: Arc<AtomicUsize>,
    /// Every transfer is interrupted when it was asked this often whether it goes on: first before the first chunk. Never, if 0.
    pub(crate) hasty: Arc<AtomicUsize>,
    /// How long requests about serving wait for their turn.
    pub(crate) queue: Arc<Mutex<Duration>>,
}

pub(crate) fn view(version: u64) -> View {
    View {
        version,
        study: StudyPhase::Active,
        rounds: 0,
        first: 0,
        published: Vec::new(),
        attempt: None,
        serving: None,
        incarnations: Vec::new(),
    }
}

impl Desk {
    /// `Poll` with an odd number waits until released; an even one is answered with the next number.
    async fn handle(self, mut exchange: Exchange) {
        let (hasty, mut calls) = (self.hasty.load(Ordering::SeqCst), 0);
        let go_on = move |_, _| {
            calls += 1;
            hasty == 0 || calls < hasty
        };
        let result = match exchange.request().clone() {
            Request::Poll { seen, .. } if seen % 2 == 1 => {
                let busy = self.busy.fetch_add(1, Ordering::SeqCst) + 1;
                self.busiest.fetch_max(busy, Ordering::SeqCst);
                self.polls_waiting.fetch_add(1, Ordering::SeqCst);
                let cancelled = tokio::select! {
                    () = self.release.notified() => false,
                    () = exchange.cancelled() => true,
                    () = exchange.room_is_wanted() => {
                        self.busy.fetch_sub(1, Ordering::SeqCst);
                        return exchange.make_room();
                    }
                };
                self.busy.fetch_sub(1, Ordering::SeqCst);
                if cancelled {
                    self.polls_cancelled.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                exchange.reply(Response::View(view(seen + 1))).await
            }
            Request::Poll { seen, .. } => {
                let answer = Encoded::new(&Response::View(view(seen + 1))).unwrap();
                exchange.reply_encoded(&answer).await
            }
            Request::Put { digest, kind, .. } => {
                let mut sink = self.memory.sink(digest);
                if kind == BlobKind::Model {
                    sink.limit = 1000;
                }
                if kind == BlobKind::Sum {
                    sink.room = 600_000;
                }
                exchange.receive_blob(sink, go_on).await
            }
            Request::Get { digest, .. } => match self.memory.get(&digest) {
                Some(bytes) => {
                    let len = bytes.len() as u64;
                    let open = move |offset| {
                        let mut cursor = Cursor::new(bytes);
                        cursor.set_position(offset);
                        Ok(cursor)
                    };
                    exchange.send_blob(len, open, go_on).await
                }
                None => {
                    exchange
                        .refuse(Refusal::new(Code::BlobUnknown, "never seen"))
                        .await
                }
            },
            Request::Serving => {
                let wait = *self.queue.lock().unwrap();
                match exchange.queue(tokio::time::sleep(wait)).await {
                    Ok(()) => exchange.reply(Response::Serving(None)).await,
                    Err(error) => Err(error),
                }
            }
            _ => exchange.reply(Response::Ok).await,
        };
        // A peer that is gone is no failure of the desk; what the peer sees is what tests look at.
        drop(result);
    }
}

pub(crate) struct Coordinator {
    pub(crate) identity: Identity,
    pub(crate) address: SocketAddr,
    pub(crate) desk: Desk,
    pub(crate) parties: Vec<Identity>,
    pub(crate) stop: tokio::sync::oneshot::Sender<Duration>,
    pub(crate) task: tokio::task::JoinHandle<()>,
}

impl Coordinator {
    pub(crate) fn start() -> Self {
        Self::with(
            Identity::generate().unwrap(),
            vec![Identity::generate().unwrap(), Identity::generate().unwrap()],
            (Ipv4Addr::LOCALHOST, 0).into(),
        )
    }

    pub(crate) fn with(identity: Identity, parties: Vec<Identity>, address: SocketAddr) -> Self {
        Self::tuned(identity, parties, address, Tuning::default())
    }

    pub(crate) fn tuned(
        identity: Identity,
        parties: Vec<Identity>,
        address: SocketAddr,
        tuning: Tuning,
    ) -> Self {
        let pins: BTreeSet<Digest> = parties.iter().map(Identity::fingerprint).collect();
        let mut server = Server::bind(address, &identity, pins, study(), tuning).unwrap();
        let address = server.local_addr();
        let desk = Desk::default();
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let for_peers = desk.clone();
        let task = tokio::spawn(async move {
            let mut stopped = stopped;
            let grace = loop {
                tokio::select! {
                    peer = server.accept() => {
                        let (peer, desk) = (peer.unwrap(), for_peers.clone());
                        tokio::spawn(async move {
                            peer.serve(move |exchange| desk.clone().handle(exchange)).await
                        });
                    }
                    grace = &mut stopped => break grace,
                }
            };
            // A dropped sender means that the test is over.
            if let Ok(grace) = grace {
                server.shutdown(grace).await;
            }
        });
        Self {
            identity,
            address,
            desk,
            parties,
            stop,
            task,
        }
    }

    pub(crate) fn client(&self, identity: &Identity) -> Client {
        Client::new(
            self.address.to_string(),
            identity,
            self.identity.fingerprint(),
            study(),
            Tuning::default(),
        )
        .unwrap()
    }

    pub(crate) async fn party(&self) -> Peer {
        self.client(&self.parties[0]).connect().await.unwrap()
    }
}

/// Opens `bytes` at an offset, as `Peer::put` wants it.
pub(crate) fn reader(
    bytes: &[u8],
) -> impl Fn(u64) -> std::io::Result<Cursor<Vec<u8>>> + Send + Sync + 'static {
    let bytes = bytes.to_vec();
    move |offset| {
        let mut cursor = Cursor::new(bytes.clone());
        cursor.set_position(offset);
        Ok(cursor)
    }
}
