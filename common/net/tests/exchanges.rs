//! Many requests at once, cancelled ones, and shutting down.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Coordinator, study};
use galen_net::{Client, Identity, NetError, Request, Response, Tuning};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::task::JoinSet;

#[tokio::test(flavor = "multi_thread")]
async fn fifty_calls_at_once_each_get_their_own_answer() {
    let coordinator = Coordinator::start();
    let peers = [
        coordinator.party().await,
        coordinator
            .client(&coordinator.parties[1])
            .connect()
            .await
            .unwrap(),
    ];
    let mut calls = JoinSet::new();
    for i in 0..50 {
        let peer = peers[i % 2].clone();
        calls.spawn(async move {
            let seen = 2 * i as u64;
            (seen, peer.call(&Request::Poll { seen, from: 0 }).await.unwrap())
        });
    }
    let mut answered = 0;
    while let Some(call) = calls.join_next().await {
        let (seen, response) = call.unwrap();
        assert!(matches!(response, Response::View(view) if view.version == seen + 1));
        answered += 1;
    }
    assert_eq!(answered, 50);
}

#[tokio::test(flavor = "multi_thread")]
async fn more_calls_than_streams_wait_their_turn() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let mut calls = JoinSet::new();
    for _ in 0..20 {
        let peer = peer.clone();
        calls.spawn(async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await });
    }
    // Nothing is released before as many wait as may.
    while coordinator.desk.polls_waiting.load(Ordering::SeqCst) < 8 {
        tokio::task::yield_now().await;
    }
    while !calls.is_empty() {
        coordinator.desk.release.notify_one();
        tokio::task::yield_now().await;
        while let Some(call) = calls.try_join_next() {
            call.unwrap().unwrap();
        }
    }
    assert_eq!(coordinator.desk.polls_waiting.load(Ordering::SeqCst), 20);
    assert_eq!(coordinator.desk.busiest.load(Ordering::SeqCst), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_learns_that_its_caller_has_gone() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let desk = &coordinator.desk;
    let call = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await }
    });
    while desk.polls_waiting.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    call.abort();
    while desk.polls_cancelled.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    // The connection is not affected; losing it cancels what waits on it.
    peer.call(&Request::Poll { seen: 0, from: 0 }).await.unwrap();
    let call = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await }
    });
    while desk.polls_waiting.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    peer.close();
    while desk.polls_cancelled.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    assert!(call.await.unwrap().is_err());
}

/// Whoever waits in line is told so, and does not give up although its answer takes longer than its patience.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_s_patience_does_not_end_in_a_queue() {
    let tuning = Tuning {
        answer: Duration::from_secs(2),
        ..Tuning::default()
    };
    let (identity, party) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    let address = (std::net::Ipv4Addr::LOCALHOST, 0).into();
    let coordinator = Coordinator::tuned(identity, vec![party], address, tuning);
    let client = Client::new(
        coordinator.address.to_string(),
        &coordinator.parties[0],
        coordinator.identity.fingerprint(),
        study(),
        tuning,
    )
    .unwrap();
    let peer = client.connect().await.unwrap();
    *coordinator.desk.queue.lock().unwrap() = tuning.answer * 2;
    let answer = peer.call(&Request::Serving).await.unwrap();
    assert_eq!(answer, Response::Serving(None));
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_answers_what_is_under_way() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let desk = coordinator.desk.clone();
    let call = tokio::spawn({
        let peer = peer.clone();
        async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await }
    });
    while desk.polls_waiting.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    coordinator.stop.send(Duration::from_secs(600)).unwrap();
    // Once nobody can connect any more, the server is shutting down.
    let hasty = Tuning {
        dial: Duration::from_millis(200),
        ..Tuning::default()
    };
    let client = Client::new(
        coordinator.address.to_string(),
        &coordinator.parties[1],
        coordinator.identity.fingerprint(),
        study(),
        hasty,
    )
    .unwrap();
    while client.connect().await.is_ok() {}
    desk.release.notify_one();
    let answer = call.await.unwrap().unwrap();
    assert!(matches!(answer, Response::View(view) if view.version == 2));
    coordinator.task.await.unwrap();
    let error = peer.closed().await;
    assert!(matches!(error, NetError::Connection(_)) && error.is_transient());
    assert!(error.to_string().contains("shutting down"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn shutting_down_does_not_wait_for_ever() {
    let coordinator = Coordinator::start();
    let peer = coordinator.party().await;
    let call = tokio::spawn(async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await });
    while coordinator.desk.polls_waiting.load(Ordering::SeqCst) < 1 {
        tokio::task::yield_now().await;
    }
    coordinator.stop.send(Duration::from_millis(50)).unwrap();
    coordinator.task.await.unwrap();
    assert!(call.await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_leaves_is_missed_at_once() {
    let identity = galen_net::Identity::generate().unwrap();
    let party = galen_net::Identity::generate().unwrap();
    let mut server = galen_net::Server::bind(
        "127.0.0.1:0".parse().unwrap(),
        &identity,
        [party.fingerprint()].into(),
        study(),
        Tuning::default(),
    )
    .unwrap();
    let address = server.local_addr().to_string();
    let client = Client::new(
        address,
        &party,
        identity.fingerprint(),
        study(),
        Tuning::default(),
    )
    .unwrap();
    let (peer, there) = tokio::join!(client.connect(), server.accept());
    assert_eq!(there.as_ref().unwrap().fingerprint(), party.fingerprint());
    peer.unwrap().leave().await;
    let error = there.unwrap().closed().await;
    assert!(
        matches!(
            &error,
            NetError::Connection(quinn::ConnectionError::ApplicationClosed(_))
        ),
        "{error:?}"
    );
    server.stopper().stop();
    assert!(server.accept().await.is_none());
}
