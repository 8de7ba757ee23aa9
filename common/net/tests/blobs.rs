//! Blobs over loopback: whole, interrupted, corrupted, refused, and many at once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Coordinator, Memory, reader, sample, study};
use galen_core::{Code, Digest};
use galen_net::frame::{FrameKind, Header};
use galen_net::protocol::BlobKind;
use galen_net::{BlobSink, Message, NetError, Peer, Request, Tuning};
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;

const KIND: BlobKind = BlobKind::Contribution;

async fn put(peer: &Peer, bytes: &[u8]) -> Result<(), NetError> {
    let digest = Digest::of(bytes);
    peer.put(digest, bytes.len() as u64, KIND, reader(bytes), |_, _| {})
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_every_size_go_there_and_back() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let chunk = FrameKind::Chunk.limit() as usize;
    for len in [0, 1, chunk / 4, chunk - 1, chunk, chunk + 1, 3 * chunk + 12_345] {
        let bytes = sample(len, 1);
        let digest = Digest::of(&bytes);
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        peer.put(digest, len as u64, KIND, reader(&bytes), move |done, total| {
            seen.lock().unwrap().push((done, total));
        })
        .await
        .unwrap();
        assert_eq!(coordinator.desk.memory.get(&digest).unwrap(), bytes);
        let steps = std::mem::take(&mut *steps.lock().unwrap());
        assert!(steps.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert_eq!(*steps.last().unwrap(), (len as u64, len as u64));

        let here = Memory::default();
        peer.get(digest, here.sink(digest), |_, _| {}).await.unwrap();
        assert_eq!(here.get(&digest).unwrap(), bytes);
    }
}

/// Both ends go on by themselves, however often the coordinator makes room for others.
#[tokio::test(flavor = "multi_thread")]
async fn interrupted_transfers_go_on_where_they_stopped() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    coordinator.desk.hasty.store(2, Ordering::SeqCst);
    let bytes = sample(500_000, 3);
    let digest = Digest::of(&bytes);
    let steps = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&steps);
    let progress = move |done, _| seen.lock().unwrap().push(done);
    peer.put(digest, bytes.len() as u64, KIND, reader(&bytes), progress)
        .await
        .unwrap();
    assert_eq!(coordinator.desk.memory.get(&digest).unwrap(), bytes);
    let here = Memory::default();
    let before = peer.traffic().received();
    peer.get(digest, here.sink(digest), |_, _| {}).await.unwrap();
    assert_eq!(here.get(&digest).unwrap(), bytes);
    // Nothing was fetched twice.
    let received = peer.traffic().received() - before;
    assert!(received < bytes.len() as u64 * 11 / 10, "{received}");
}

/// Otherwise a coordinator could keep a party busy with asking for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_is_interrupted_and_does_not_move_ends() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(500_000, 3);
    let digest = Digest::of(&bytes);
    put(&peer, &bytes).await.unwrap();
    coordinator.desk.hasty.store(1, Ordering::SeqCst);
    let interrupted = |result: Result<(), NetError>| match result {
        Err(NetError::Refused(refusal)) => assert_eq!(refusal.code, Code::Interrupted),
        other => panic!("{other:?}"),
    };
    interrupted(peer.get(digest, Memory::default().sink(digest), |_, _| {}).await);
    interrupted(put(&peer, &sample(500_000, 4)).await);
}

/// What a party that is cut off leaves behind: a request and chunks of the first `part` bytes.
async fn put_part(peer: &Peer, bytes: &[u8], part: usize, reset: bool) -> Vec<u8> {
    let request = Request::Put {
        digest: Digest::of(bytes),
        len: bytes.len() as u64,
        kind: KIND,
    };
    let (mut send, mut recv) = peer.connection().open_bi().await.unwrap();
    let frame = |kind, payload: &[u8]| {
        let len = payload.len() as u32;
        let header = Header {
            kind,
            study: study(),
            len,
        };
        [&header.encode()[..], payload].concat()
    };
    let request = frame(FrameKind::Control, &request.encode().unwrap());
    send.write_all(&request).await.unwrap();
    for chunk in bytes[..part].chunks(100_000) {
        send.write_all(&frame(FrameKind::Chunk, chunk)).await.unwrap();
    }
    if reset {
        // Only bytes that were read before a reset count, so the peer must have had its chance.
        let mut offset = [0; 41];
        recv.read_exact(&mut offset).await.unwrap();
        send.reset(quinn::VarInt::from_u32(1)).unwrap();
        Vec::new()
    } else {
        send.finish().unwrap();
        recv.read_to_end(1 << 20).await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_upload_is_refused_and_goes_on_where_it_ended() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(1_000_000, 2);
    let answer = put_part(&peer, &bytes, 300_000, false).await;
    let text = String::from_utf8_lossy(&answer);
    assert!(text.contains("the stream ended before the blob"), "{text}");

    let opened_at = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&opened_at);
    let open = reader(&bytes);
    let before = peer.traffic().sent();
    peer.put(
        Digest::of(&bytes),
        bytes.len() as u64,
        KIND,
        move |offset| {
            *seen.lock().unwrap() = Some(offset);
            open(offset)
        },
        |_, _| {},
    )
    .await
    .unwrap();
    assert_eq!(*opened_at.lock().unwrap(), Some(300_000));
    assert!(peer.traffic().sent() - before < 701_000, "only the rest is sent");
    assert_eq!(coordinator.desk.memory.get(&Digest::of(&bytes)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_upload_disturbs_nothing_and_can_be_repeated() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(600_000, 3);
    put_part(&peer, &bytes, 200_000, true).await;
    put(&peer, &bytes).await.unwrap();
    assert_eq!(coordinator.desk.memory.get(&Digest::of(&bytes)).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_corrupted_blob_is_refused_and_not_kept() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(500_000, 4);
    let digest = Digest::of(&bytes);
    let mut wrong = bytes.clone();
    wrong[499_999] ^= 1;
    let error = peer
        .put(digest, wrong.len() as u64, KIND, reader(&wrong), |_, _| {})
        .await
        .unwrap_err();
    assert!(
        matches!(&error, NetError::Refused(refusal) if refusal.code == Code::BlobMismatch),
        "{error:?}"
    );
    assert!(coordinator.desk.memory.get(&digest).is_none());
    put(&peer, &bytes).await.unwrap();
    assert_eq!(coordinator.desk.memory.get(&digest).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_above_its_limit_is_refused_before_it_is_sent() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(1001, 5);
    let error = peer
        .put(
            Digest::of(&bytes),
            1001,
            BlobKind::Model,
            |_| -> io::Result<io::Empty> { Err(io::Error::other("must not be opened")) },
            |_, _| {},
        )
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::BlobTooLarge), "{error:?}");
}

/// The receiver gives up while the sender is held back by flow control, with more than a window left to send.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_the_middle_reaches_the_sender() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(8 << 20, 9);
    let error = peer
        .put(
            Digest::of(&bytes),
            bytes.len() as u64,
            BlobKind::Sum,
            reader(&bytes),
            |_, _| {},
        )
        .await
        .unwrap_err();
    assert!(
        matches!(&error, NetError::Refused(refusal) if refusal.code == Code::Busy && refusal.detail == "no room"),
        "{error:?}"
    );
    put(&peer, &bytes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_ends_early_is_this_sides_failure_and_can_be_repeated() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(800_000, 6);
    let error = peer
        .put(
            Digest::of(&bytes),
            800_000,
            KIND,
            reader(&bytes[..600_000]),
            |_, _| {},
        )
        .await
        .unwrap_err();
    assert!(matches!(&error, NetError::Source(_)), "{error:?}");
    put(&peer, &bytes).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_download_goes_on_where_it_ended_and_is_verified() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let bytes = sample(900_000, 7);
    let digest = coordinator.desk.memory.add(bytes.clone());
    let here = Memory::default();
    here.partial
        .lock()
        .unwrap()
        .insert(digest, bytes[..400_000].to_vec());
    let before = peer.traffic().received();
    peer.get(digest, here.sink(digest), |_, _| {}).await.unwrap();
    assert!(peer.traffic().received() - before < 501_000);
    assert_eq!(here.get(&digest).unwrap(), bytes);

    // What was held is not what the blob begins with.
    let here = Memory::default();
    here.partial.lock().unwrap().insert(digest, vec![1; 400_000]);
    let error = peer.get(digest, here.sink(digest), |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, NetError::Sink(refusal) if refusal.code == Code::BlobMismatch));

    // More is held than the blob has.
    let here = Memory::default();
    here.partial.lock().unwrap().insert(digest, vec![1; 900_001]);
    let error = peer.get(digest, here.sink(digest), |_, _| {}).await.unwrap_err();
    assert_eq!(error.code(), Some(Code::BlobMismatch));

    // A limit of this side.
    let here = Memory::default();
    let mut sink = here.sink(digest);
    sink.limit = 10;
    let error = peer.get(digest, sink, |_, _| {}).await.unwrap_err();
    assert!(matches!(&error, NetError::Sink(refusal) if refusal.code == Code::BlobTooLarge));
}

/// A peer that announces an upload and then keeps silent, with its connection alive.
#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_without_progress_is_given_up_and_what_arrived_is_kept() {
    use galen_net::{Client, Identity, Server};
    let (identity, party) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let tuning = Tuning {
        stall: Duration::from_millis(200),
        ..Tuning::default()
    };
    let pins = [party.fingerprint()].into();
    let mut server = Server::bind("127.0.0.1:0".parse().unwrap(), &identity, pins, study(), tuning).unwrap();
    let client = Client::new(
        server.local_addr().to_string(),
        &party,
        identity.fingerprint(),
        study(),
        Tuning::default(),
    )
    .unwrap();
    let (peer, there) = tokio::join!(client.connect(), server.accept());
    let (peer, there) = (peer.unwrap(), there.unwrap());
    let memory = Memory::default();
    let bytes = sample(500_000, 8);
    let digest = Digest::of(&bytes);
    let (outcome, mut outcomes) = tokio::sync::mpsc::unbounded_channel();
    let sink = memory.clone();
    tokio::spawn(async move {
        there
            .serve(move |exchange| {
                let (sink, outcome) = (sink.sink(digest), outcome.clone());
                async move {
                    let result = exchange.receive_blob(sink, |_, _| true).await;
                    outcome.send(result).unwrap();
                }
            })
            .await
    });
    // Kept open, neither finished nor reset.
    let (mut send, _recv) = peer.connection().open_bi().await.unwrap();
    let request = Request::Put {
        digest,
        len: bytes.len() as u64,
        kind: KIND,
    }
    .encode()
    .unwrap();
    let frame = |kind, len: usize| {
        Header {
            kind,
            study: study(),
            len: len as u32,
        }
        .encode()
    };
    let head = frame(FrameKind::Control, request.len());
    let chunk = frame(FrameKind::Chunk, 1000);
    for part in [&head[..], &request, &chunk, &bytes[..1000]] {
        send.write_all(part).await.unwrap();
    }
    let outcome = outcomes.recv().await.unwrap();
    assert!(matches!(outcome, Err(NetError::Stalled { .. })), "{outcome:?}");
    assert_eq!(memory.sink(digest).offset(), 1000);
}

/// quinn has closed connections under large windows (quinn-rs/quinn#2809); this is the shape of traffic that did it.
#[tokio::test(flavor = "multi_thread")]
async fn eight_streams_move_64_mib_both_ways() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let each = 8 << 20;
    let mut transfers = JoinSet::new();
    for seed in 0..8 {
        let peer = peer.clone();
        let memory = coordinator.desk.memory.clone();
        transfers.spawn(async move {
            let up = sample(each, seed);
            let down = memory.add(sample(each, seed + 100));
            let here = Memory::default();
            let (sent, fetched) = tokio::join!(put(&peer, &up), peer.get(down, here.sink(down), |_, _| {}));
            sent.unwrap();
            fetched.unwrap();
            assert!(memory.get(&Digest::of(&up)).is_some() && here.get(&down).is_some());
        });
    }
    while let Some(transfer) = transfers.join_next().await {
        transfer.unwrap();
    }
    let moved = 8 * each as u64;
    for bytes in [peer.traffic().sent(), peer.traffic().received()] {
        assert!(
            (moved..moved + moved / 100).contains(&bytes),
            "{bytes} bytes of frames for {moved} of blobs"
        );
    }
}
