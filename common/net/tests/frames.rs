//! Streams that no well-behaved peer would send: each is refused with its code, and the others go on.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Coordinator, study};
use galen_core::{Code, Digest, Refusal};
use galen_net::frame::{FrameKind, HEADER_BYTES, Header, VERSION};
use galen_net::{FrameError, Message, NetError, Peer, Request, Response};

fn header(kind: FrameKind, len: u32) -> Vec<u8> {
    Header {
        kind,
        study: study(),
        len,
    }
    .encode()
    .to_vec()
}

fn poll() -> Vec<u8> {
    let payload = Request::Poll { seen: 0, from: 0 }.encode().unwrap();
    [header(FrameKind::Control, payload.len() as u32), payload].concat()
}

/// Sends bytes on a fresh stream, leaves it open or ends it, and reads the refusal.
async fn refused(peer: &Peer, bytes: &[u8], finish: bool) -> Refusal {
    let (mut send, mut recv) = peer.connection().open_bi().await.unwrap();
    // The answer may come before everything is sent.
    let _ = send.write_all(bytes).await;
    if finish {
        let _ = send.finish();
    }
    let answer = recv.read_to_end(1 << 20).await.unwrap();
    let (head, payload) = answer.split_first_chunk::<HEADER_BYTES>().unwrap();
    let head = Header::decode(head, &study()).unwrap();
    assert_eq!(payload.len() as u32, head.len);
    match Response::decode(head.kind, payload).unwrap() {
        Response::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_bad_frame_is_refused_with_its_code_and_other_streams_go_on() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    // A request that waits while all the others are refused.
    let waiting = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await }
    });
    let mut other_study = poll();
    other_study[4..36].copy_from_slice(&Digest::of(b"another study").0);
    let mut other_version = poll();
    other_version[..2].copy_from_slice(&(VERSION + 1).to_le_bytes());
    let mut other_kind = poll();
    other_kind[2] = 77;
    let mut stray = poll();
    stray[36] += 1;
    stray.push(0);
    let garbage = [header(FrameKind::Control, 300), vec![0xff; 300]].concat();
    let cases = [
        ("another study", other_study, Code::WrongStudy),
        ("another version", other_version, Code::WrongVersion),
        ("unknown kind", other_kind, Code::FrameMalformed),
        ("stray bytes", stray, Code::FrameMalformed),
        ("garbage", garbage, Code::FrameMalformed),
        (
            "a chunk instead of a request",
            [header(FrameKind::Chunk, 1), vec![0]].concat(),
            Code::FrameMalformed,
        ),
        (
            "a kind that only answers use, before its payload",
            header(FrameKind::Collection, FrameKind::Collection.limit()),
            Code::FrameMalformed,
        ),
        (
            "too large for a request",
            header(FrameKind::Control, FrameKind::Control.limit() + 1),
            Code::FrameTooLarge,
        ),
        (
            "as large as can be written",
            header(FrameKind::Statement, u32::MAX),
            Code::FrameTooLarge,
        ),
    ];
    for (name, bytes, code) in cases {
        // Refused without waiting for the end of the stream.
        let refusal = refused(&peer, &bytes, false).await;
        assert_eq!(refusal.code, code, "{name}: {refusal}");
    }
    for cut in [0, 1, 39, 40, poll().len() - 1] {
        let refusal = refused(&peer, &poll()[..cut], true).await;
        assert_eq!(refusal.code, Code::FrameMalformed, "cut after {cut}: {refusal}");
    }
    coordinator.desk.release.notify_one();
    let answer = waiting.await.unwrap().unwrap();
    assert!(matches!(answer, Response::View(view) if view.version == 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_reaches_its_caller_as_an_error() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let digest = Digest::of(b"nobody has this");
    let sink = coordinator.desk.memory.sink(digest);
    let error = peer.get(digest, sink, |_, _| {}).await.unwrap_err();
    assert!(
        matches!(&error, NetError::Refused(refusal) if refusal.code == Code::BlobUnknown),
        "{error:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_too_long_is_not_sent() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let sent = peer.traffic().sent();
    let key = galen_core::SigningKey::generate().unwrap();
    let long = key
        .sign("test", &study(), &vec![0u8; FrameKind::Control.limit() as usize])
        .unwrap();
    let error = peer.call(&Request::Hello { consent: long }).await.unwrap_err();
    assert!(matches!(error, NetError::Frame(FrameError::TooLarge { .. })));
    assert_eq!(peer.traffic().sent(), sent);
    peer.call(&Request::Poll { seen: 0, from: 0 }).await.unwrap();
}
