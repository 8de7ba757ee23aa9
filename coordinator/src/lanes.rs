//! How many large transfers go on at a time, so that memory does not grow with the number of parties.
//!
//! A transfer needs buffers: the segment at hand, the chunk at hand, and what QUIC holds of its stream. So a few go on and the others
//! wait in line, having sent nothing but their request; they are told that they wait. Whoever is in keeps its lane for a turn. When the turn
//! is over and somebody waits, the transfer is interrupted, whatever is missing, and its party asks again and goes on where it stopped: at the
//! end of the line. So a slow link holds nobody up for long, and the bound holds however slow links, disk and processor are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// Blobs that are transferred at a time.
const BLOBS: usize = 8;
/// Pages of statements that are read and sent at a time.
const PAGES: usize = 8;
/// A turn lasts this long at least, and until so much has moved: several segments of the store, since an upload goes on at the last whole one.
const TURN: Duration = Duration::from_secs(2);
/// Bytes of a turn.
const TURN_BYTES: u64 = 512 << 10;
/// A turn ends after this long, however little has moved.
const LONGEST_TURN: Duration = Duration::from_secs(30);
/// How often a transfer that is longer than that looks whether somebody waits.
const LOOK: Duration = Duration::from_secs(1);

/// The lanes. Clones share them.
#[derive(Clone, Debug)]
pub struct Lanes {
    blobs: Arc<Line>,
    pages: Arc<Line>,
}

#[derive(Debug)]
struct Line {
    free: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl Line {
    fn new(lanes: usize) -> Arc<Self> {
        Arc::new(Self {
            free: Arc::new(Semaphore::new(lanes)),
            waiting: AtomicUsize::new(0),
        })
    }

    async fn enter(self: Arc<Self>) -> Option<Lane> {
        let place = Place::take(Arc::clone(&self));
        // The semaphore is never closed.
        let permit = Arc::clone(&self.free).acquire_owned().await.ok()?;
        drop(place);
        Some(Lane {
            line: self,
            entered: Instant::now(),
            _permit: permit,
        })
    }
}

/// A place in the line; left when it is dropped.
struct Place(Arc<Line>);

impl Place {
    fn take(line: Arc<Line>) -> Self {
        line.waiting.fetch_add(1, Ordering::Relaxed);
        Self(line)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Lanes {
    fn default() -> Self {
        Self {
            blobs: Line::new(BLOBS),
            pages: Line::new(PAGES),
        }
    }
}

/// A lane that is taken. Dropping it leaves it to another transfer.
#[derive(Debug)]
pub struct Lane {
    line: Arc<Line>,
    entered: Instant,
    _permit: OwnedSemaphorePermit,
}

/// Tells a transfer when its turn is over.
#[derive(Clone, Debug)]
pub struct Turn {
    line: Arc<Line>,
    entered: Instant,
    began_at: Option<u64>,
}

impl Turn {
    /// Whether a transfer goes on that has done so many bytes.
    pub fn goes_on(&mut self, done: u64) -> bool {
        let moved = done.saturating_sub(*self.began_at.get_or_insert(done));
        let over = self.entered.elapsed() >= TURN && moved >= TURN_BYTES;
        !over || self.line.waiting.load(Ordering::Relaxed) == 0
    }
}

impl Lanes {
    /// Waits for a lane for a blob, in the order of asking. `None` if the process ends.
    pub async fn blob(&self) -> Option<Lane> {
        Arc::clone(&self.blobs).enter().await
    }

    /// Waits for a lane for a page of statements.
    pub async fn page(&self) -> Option<Lane> {
        Arc::clone(&self.pages).enter().await
    }
}

impl Lane {
    /// What tells the transfer on this lane when its turn is over.
    pub fn turn(&self) -> Turn {
        Turn {
            line: Arc::clone(&self.line),
            entered: self.entered,
            began_at: None,
        }
    }

    /// Carries a transfer out, unless it takes too long while others wait; then it is dropped and there is no result.
    pub async fn during<T>(self, transfer: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            result = transfer => Some(result),
            () = self.overstayed() => None,
        }
    }

    async fn overstayed(&self) {
        tokio::time::sleep_until(self.entered + LONGEST_TURN).await;
        while self.line.waiting.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(LOOK).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    /// Slow uploads of two hundred parties, each of which asks again when its turn is over.
    #[tokio::test(start_paused = true)]
    async fn however_slow_transfers_are_only_so_many_go_on_and_all_get_through() {
        const LEN: u64 = 5 << 20;
        const CHUNK: u64 = 64 << 10;
        let lanes = Lanes::default();
        let (inside, most) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let mut parties = Vec::new();
        for party in 0..200u64 {
            let (lanes, inside, most) = (lanes.clone(), Arc::clone(&inside), Arc::clone(&most));
            parties.push(tokio::spawn(async move {
                let (mut done, mut turns) = (0, 0);
                while done < LEN {
                    let lane = lanes.blob().await.unwrap();
                    most.fetch_max(inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                    turns += 1;
                    let mut turn = lane.turn();
                    while turn.goes_on(done) && done < LEN {
                        // Some links are a hundred times as slow as others.
                        tokio::time::sleep(Duration::from_millis(5 + party % 2 * 495)).await;
                        done += CHUNK;
                    }
                    inside.fetch_sub(1, Ordering::Relaxed);
                }
                turns
            }));
        }
        let mut turns = Vec::new();
        for party in parties {
            turns.push(party.await.unwrap());
        }
        assert_eq!(most.load(Ordering::Relaxed), BLOBS as u64);
        // A fast one is through in its first turn, which it gets although slow ones are ahead of it.
        assert!(turns.iter().step_by(2).all(|turns| *turns == 1));
        assert!(turns.iter().skip(1).step_by(2).any(|turns| *turns > 5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_transfer_that_stands_still_leaves_its_lane_to_who_waits() {
        let lanes = Lanes::default();
        let mut stuck = Vec::new();
        for _ in 0..BLOBS {
            let lane = lanes.blob().await.unwrap();
            stuck.push(tokio::spawn(lane.during(std::future::pending::<()>())));
        }
        tokio::time::sleep(LONGEST_TURN * 3).await;
        assert!(stuck.iter().all(|transfer| !transfer.is_finished()));
        let lane = lanes.blob().await.unwrap();
        assert_eq!(lane.during(async { 7 }).await, Some(7));
        assert!(stuck.iter().any(|transfer| transfer.is_finished()));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_is_interrupted_for_nobody() {
        let lanes = Lanes::default();
        let mut turn = lanes.blob().await.unwrap().turn();
        assert!(turn.goes_on(0));
        tokio::time::sleep(LONGEST_TURN).await;
        assert!(turn.goes_on(TURN_BYTES));
    }
}
