//! A coordinator that is killed and started again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

mod common;

use common::{Coordinator, study};
use galen_net::{Client, Identity, NetError, Request, Tuning};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const CHILD_DIR: &str = "GALEN_NET_TEST_CHILD_DIR";
const CHILD_ADDRESS: &str = "GALEN_NET_TEST_CHILD_ADDRESS";

/// Not a test of its own: the coordinator that [`parties_notice_a_restart_at_once`] kills.
#[tokio::test(flavor = "multi_thread")]
async fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else {
        return;
    };
    let load = |name: &str| Identity::load(&Path::new(&dir).join(name)).unwrap();
    let address = std::env::var(CHILD_ADDRESS).unwrap().parse().unwrap();
    let coordinator = Coordinator::with(load("coordinator"), vec![load("party")], address);
    println!("\nlistening {}", coordinator.address);
    coordinator.task.await.unwrap();
}

fn start(dir: &Path, address: &str) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["child", "--exact", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_ADDRESS, address)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = lines
        .map(Result::unwrap)
        .find_map(|line| line.strip_prefix("listening ").map(str::to_owned))
        .unwrap();
    (child, address)
}

#[tokio::test(flavor = "multi_thread")]
async fn parties_notice_a_restart_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let (coordinator, party) = (Identity::generate().unwrap(), Identity::generate().unwrap());
    for (identity, name) in [(&coordinator, "coordinator"), (&party, "party")] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
        identity.save(&dir.path().join(name)).unwrap();
    }
    let (mut first, address) = start(dir.path(), "127.0.0.1:0");
    let tuning = Tuning {
        keep_alive: Duration::from_millis(200),
        ..Tuning::default()
    };
    let pin = coordinator.fingerprint();
    let client = Client::new(&*address, &party, pin, study(), tuning).unwrap();
    let peer = client.connect().await.unwrap();
    peer.call(&Request::Poll { seen: 0, from: 0 }).await.unwrap();

    first.kill().unwrap();
    first.wait().unwrap();
    let (mut second, again) = start(dir.path(), &address);
    assert_eq!(again, address);
    // A connection that is only given up after its idle timeout ends with `TimedOut`.
    let error = peer.closed().await;
    assert!(
        matches!(&error, NetError::Connection(quinn::ConnectionError::Reset)),
        "{error:?}"
    );
    assert!(error.is_transient());
    let peer = client.connect_patiently(|_, _| {}).await.unwrap();
    peer.call(&Request::Poll { seen: 0, from: 0 }).await.unwrap();
    second.kill().unwrap();
    second.wait().unwrap();
}
