//! Room for a bounded number of connections, which peers share by turns.
//!
//! A connection costs its listener memory for as long as it lasts, and most peers do nothing with theirs but wait for news. So a listener has a
//! fixed number of seats. Whoever finds none free waits in line, and one peer that only waits for news is asked to make room, the one that has waited
//! longest. A peer that sends or receives something keeps its seat. Whoever still has no seat after a while is turned away and dials again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

/// The seats of a listener. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Seats {
    free: Arc<Semaphore>,
    wanted: Arc<Notify>,
    counts: Arc<Counts>,
}

/// How full a listener is and was. Readable while it serves.
#[derive(Debug)]
pub struct Counts {
    seats: usize,
    free: Arc<Semaphore>,
    waited: AtomicU64,
}

/// A seat that is taken. Dropping it leaves it to another connection.
#[derive(Debug)]
pub(crate) struct Seat {
    _permit: OwnedSemaphorePermit,
}

impl Seats {
    /// At least one.
    pub(crate) fn new(seats: usize) -> Self {
        let seats = seats.clamp(1, Semaphore::MAX_PERMITS);
        let free = Arc::new(Semaphore::new(seats));
        Self {
            counts: Arc::new(Counts {
                seats,
                free: Arc::clone(&free),
                waited: AtomicU64::new(0),
            }),
            free,
            wanted: Arc::default(),
        }
    }

    /// A seat, in the order of asking. If none is free, somebody who only waits for news is asked for one, now or as soon as there is such
    /// a peer. `None` when that took longer than `patience`.
    pub(crate) async fn take(&self, patience: Duration) -> Option<Seat> {
        let free = Arc::clone(&self.free);
        let permit = match Arc::clone(&free).try_acquire_owned() {
            Ok(permit) => Some(permit),
            Err(_) => {
                self.counts.waited.fetch_add(1, Ordering::Relaxed);
                self.wanted.notify_one();
                // The semaphore is never closed.
                timeout(patience, free.acquire_owned())
                    .await
                    .ok()
                    .and_then(Result::ok)
            }
        };
        permit.map(|permit| Seat { _permit: permit })
    }

    /// Completes for one of those who call it, the first, when somebody waits for a seat.
    pub(crate) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    pub(crate) fn counts(&self) -> &Arc<Counts> {
        &self.counts
    }
}

impl Counts {
    /// Connections that there is room for.
    pub fn seats(&self) -> usize {
        self.seats
    }

    /// Connections that there are, with those whose handshake is under way.
    pub fn taken(&self) -> usize {
        self.seats.saturating_sub(self.free.available_permits())
    }

    /// Dials that found no seat free, since the start.
    pub fn waited(&self) -> u64 {
        self.waited.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn whoever_waits_longest_is_asked_first_and_only_when_a_seat_is_wanted() {
        let seats = Seats::new(1);
        let seat = seats.take(SOON).await.unwrap();
        let mut first = Box::pin(seats.wanted());
        assert!(timeout(SOON, &mut first).await.is_err());
        let mut second = Box::pin(seats.wanted());
        assert!(timeout(SOON, &mut second).await.is_err());
        assert!(seats.take(SOON).await.is_none());
        assert!(timeout(SOON, &mut second).await.is_err());
        first.await;
        // Nobody waits for news: the next one who does is asked at once.
        drop(second);
        assert!(seats.take(SOON).await.is_none());
        seats.wanted().await;
        assert_eq!((seats.counts().taken(), seats.counts().waited()), (1, 2));
        drop(seat);
        assert_eq!(seats.counts().taken(), 0);
    }

    #[tokio::test]
    async fn a_seat_that_is_left_goes_to_whoever_has_waited_longest() {
        let seats = Seats::new(1);
        let seat = seats.take(SOON).await.unwrap();
        let patience = Duration::from_secs(60);
        let mut first = Box::pin(seats.take(patience));
        assert!(timeout(SOON, &mut first).await.is_err());
        let mut second = Box::pin(seats.take(patience));
        assert!(timeout(SOON, &mut second).await.is_err());
        drop(seat);
        let seat = first.await.unwrap();
        assert!(timeout(SOON, &mut second).await.is_err());
        drop(seat);
        assert!(second.await.is_some());
    }
}
