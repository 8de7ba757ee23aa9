//! Application bytes by purpose.

use galen_net::Traffic;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bytes {
    /// Sent to parties.
    pub bytes_sent: u64,
    /// Received from parties.
    pub bytes_received: u64,
}

/// Adds up the traffic of all connections and books what is new under the purpose of the moment.
#[derive(Default)]
pub struct Ledger(Mutex<Books>);

#[derive(Default)]
struct Books {
    open: Vec<Arc<Traffic>>,
    closed: Bytes,
    booked: Bytes,
    by_purpose: BTreeMap<String, Bytes>,
}

impl Ledger {
    /// Starts counting a connection.
    pub fn add(&self, traffic: Arc<Traffic>) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .open
            .push(traffic);
    }

    /// Keeps a closed connection's bytes and forgets the connection.
    pub fn remove(&self, traffic: &Arc<Traffic>) {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(index) = books.open.iter().position(|known| Arc::ptr_eq(known, traffic)) {
            let traffic = books.open.swap_remove(index);
            books.closed.bytes_sent += traffic.sent();
            books.closed.bytes_received += traffic.received();
        }
    }

    /// Books all bytes since the last call under `purpose`, and returns the books.
    pub fn book(&self, purpose: &str) -> BTreeMap<String, Bytes> {
        let mut books = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sent = books.closed.bytes_sent + books.open.iter().map(|t| t.sent()).sum::<u64>();
        let received = books.closed.bytes_received + books.open.iter().map(|t| t.received()).sum::<u64>();
        let (new_sent, new_received) = (
            sent - books.booked.bytes_sent,
            received - books.booked.bytes_received,
        );
        books.booked = Bytes {
            bytes_sent: sent,
            bytes_received: received,
        };
        let entry = books.by_purpose.entry(purpose.to_owned()).or_default();
        entry.bytes_sent += new_sent;
        entry.bytes_received += new_received;
        books.by_purpose.clone()
    }
}
