//! More peers than a listener has seats.

// Helpers outside of test functions may fail the test too.
#![allow(clippy::unwrap_used)]

mod common;

use common::{Coordinator, Desk};
use galen_core::Code;
use galen_net::protocol::{Request, Response};
use galen_net::{Identity, NetError, Peer, Tuning};
use std::net::Ipv4Addr;
use std::sync::atomic::Ordering;
use tokio::task::JoinHandle;

fn coordinator(seats: usize, parties: usize) -> Coordinator {
    let tuning = Tuning {
        connections: seats,
        ..Tuning::default()
    };
    let parties = (0..parties).map(|_| Identity::generate().unwrap()).collect();
    let identity = Identity::generate().unwrap();
    Coordinator::tuned(identity, parties, (Ipv4Addr::LOCALHOST, 0).into(), tuning)
}

/// Sends a poll that waits, and returns once it does.
async fn wait_for_news(peer: &Peer, desk: &Desk) -> JoinHandle<Result<Response, NetError>> {
    let before = desk.polls_waiting.load(Ordering::SeqCst);
    let peer = peer.clone();
    let call = tokio::spawn(async move { peer.call(&Request::Poll { seen: 1, from: 0 }).await });
    while desk.polls_waiting.load(Ordering::SeqCst) == before {
        tokio::task::yield_now().await;
    }
    call
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_longest_makes_room() {
    let coordinator = coordinator(2, 3);
    let dial = |index: usize| coordinator.client(&coordinator.parties[index]);
    let first = dial(0).connect().await.unwrap();
    let first = wait_for_news(&first, &coordinator.desk).await;
    let second = dial(1).connect().await.unwrap();
    let second_call = wait_for_news(&second, &coordinator.desk).await;
    let third = dial(2).connect().await.unwrap();
    let asked = first.await.unwrap().unwrap_err();
    assert!(matches!(asked, NetError::Crowded), "{asked}");
    assert!(asked.is_transient() && asked.code() == Some(Code::Busy));
    // Whoever was not asked still waits and gets its news.
    assert!(third.call(&Request::Poll { seen: 0, from: 0 }).await.is_ok());
    assert!(!second_call.is_finished());
    coordinator.desk.release.notify_one();
    assert!(matches!(second_call.await.unwrap().unwrap(), Response::View(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_something_else_meanwhile_keeps_its_seat() {
    let coordinator = coordinator(1, 2);
    let dial = |index: usize| coordinator.client(&coordinator.parties[index]);
    let busy = dial(0).connect().await.unwrap();
    let calls = [
        wait_for_news(&busy, &coordinator.desk).await,
        wait_for_news(&busy, &coordinator.desk).await,
    ];
    let refused = dial(1).connect().await.unwrap_err();
    assert!(matches!(refused, NetError::Crowded), "{refused}");
    assert!(busy.call(&Request::Poll { seen: 0, from: 0 }).await.is_ok());
    assert!(calls.iter().all(|call| !call.is_finished()));
    // With one of the two answered, the other is all that the connection is for.
    coordinator.desk.release.notify_one();
    dial(1).connect_patiently(|_, _| {}).await.unwrap();
    let mut ends = Vec::new();
    for call in calls {
        ends.push(call.await.unwrap().is_ok());
    }
    ends.sort_unstable();
    assert_eq!(ends, [false, true]);
}
