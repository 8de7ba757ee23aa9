//! Bytes and seconds by purpose, for reports.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Bytes and seconds by purpose: `statistics`, `training`, `evaluation`, `release`, `query`.
pub type Books = BTreeMap<String, Entry>;

/// Bytes and seconds of one purpose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Sent to the coordinator.
    pub bytes_sent: u64,
    /// Received from it.
    pub bytes_received: u64,
    /// How long it was under way.
    pub seconds: f64,
}

/// Books what is new on the connection under the purpose of the moment.
#[derive(Debug)]
pub struct Meter {
    books: Books,
    booked: (u64, u64),
    since_ms: u64,
}

impl Meter {
    /// Goes on with books that were kept.
    pub fn new(books: Books, now_ms: u64) -> Self {
        Self {
            books,
            booked: (0, 0),
            since_ms: now_ms,
        }
    }

    /// Starts on a new connection, whose counters begin at zero.
    pub fn connected(&mut self, now_ms: u64) {
        self.booked = (0, 0);
        self.since_ms = now_ms;
    }

    /// Books bytes and time since the last call under a purpose; without one they are not booked. `counted` are the bytes sent and received
    /// on this connection so far.
    pub fn book(&mut self, counted: (u64, u64), purpose: Option<&str>, now_ms: u64) {
        if let Some(purpose) = purpose {
            let entry = self.books.entry(purpose.to_owned()).or_default();
            entry.bytes_sent += counted.0.saturating_sub(self.booked.0);
            entry.bytes_received += counted.1.saturating_sub(self.booked.1);
            entry.seconds += now_ms.saturating_sub(self.since_ms) as f64 / 1000.0;
        }
        self.booked = counted;
        self.since_ms = now_ms;
    }

    /// The books.
    pub fn books(&self) -> &Books {
        &self.books
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_and_second_is_booked_once_under_its_purpose() {
        let mut meter = Meter::new(Books::default(), 1000);
        meter.book((10, 1), None, 2000);
        meter.book((15, 3), Some("statistics"), 2500);
        meter.book((115, 3), Some("training"), 4000);
        meter.connected(9000);
        meter.book((7, 8), Some("training"), 9500);
        let entry = |sent, received, seconds| Entry {
            bytes_sent: sent,
            bytes_received: received,
            seconds,
        };
        assert_eq!(meter.books()["statistics"], entry(5, 2, 0.5));
        assert_eq!(meter.books()["training"], entry(107, 8, 2.0));
        assert_eq!(meter.books().len(), 2);
    }
}
