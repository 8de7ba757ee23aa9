//! How many large transfers go on at a time, so that memory does not grow with the number of parties.
//!
//! A transfer needs buffers: the segment at hand, the chunk at hand, and what QUIC holds of its stream. When two hundred hospitals on
//! fast links send at once, they wait for the disk and the processor anyhow, so a few go on and the others wait for a lane. A slow
//! one must not hold up the others: after a while it gives its lane up and goes on without.

use galen_net::{Exchange, NetError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Blobs that are transferred at a time.
const LANES: usize = 8;
/// Lanes that a collection of statements takes: it is in memory as a whole, more than once.
const COLLECTION: u32 = 4;
/// How long a transfer keeps its lane.
const FAST: Duration = Duration::from_secs(2);

/// The lanes. Clones share them.
#[derive(Clone, Debug)]
pub struct Lanes(Arc<Semaphore>);

impl Default for Lanes {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(LANES)))
    }
}

/// A lane that is taken. Dropping it leaves it to another transfer.
#[derive(Debug)]
pub struct Lane(OwnedSemaphorePermit);

impl Lanes {
    /// Waits for a lane for a blob, in the order of asking.
    ///
    /// # Errors
    /// [`NetError::Cancelled`] if the peer gives up meanwhile.
    pub async fn blob(&self, exchange: &Exchange) -> Result<Lane, NetError> {
        self.enter(exchange, 1).await
    }

    /// Waits for the lanes of a collection of statements.
    ///
    /// # Errors
    /// [`NetError::Cancelled`] if the peer gives up meanwhile.
    pub async fn collection(&self, exchange: &Exchange) -> Result<Lane, NetError> {
        self.enter(exchange, COLLECTION).await
    }

    async fn enter(&self, exchange: &Exchange, lanes: u32) -> Result<Lane, NetError> {
        tokio::select! {
            () = exchange.cancelled() => Err(NetError::Cancelled),
            lane = Arc::clone(&self.0).acquire_many_owned(lanes) => match lane {
                Ok(permit) => Ok(Lane(permit)),
                // The semaphore is never closed.
                Err(_) => Err(NetError::Cancelled),
            },
        }
    }
}

impl Lane {
    /// Carries a transfer out, the beginning of it on the lane.
    pub async fn during<T>(self, transfer: impl Future<Output = T>) -> T {
        tokio::pin!(transfer);
        tokio::select! {
            result = &mut transfer => return result,
            () = tokio::time::sleep(FAST) => {}
        }
        drop(self.0);
        transfer.await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn lane(lanes: &Lanes) -> Lane {
        Lane(Arc::clone(&lanes.0).acquire_owned().await.unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn fast_transfers_wait_for_a_lane_and_slow_ones_give_theirs_up() {
        let lanes = Lanes::default();
        let mut fast = Vec::new();
        for _ in 0..LANES {
            let lane = lane(&lanes).await;
            fast.push(tokio::spawn(lane.during(tokio::time::sleep(FAST / 2))));
        }
        tokio::task::yield_now().await;
        assert_eq!(lanes.0.available_permits(), 0);
        for transfer in fast {
            transfer.await.unwrap();
        }
        assert_eq!(lanes.0.available_permits(), LANES);
        let slow = tokio::spawn(lane(&lanes).await.during(tokio::time::sleep(FAST * 100)));
        tokio::time::sleep(FAST / 2).await;
        assert_eq!(lanes.0.available_permits(), LANES - 1);
        tokio::time::sleep(FAST).await;
        assert_eq!(lanes.0.available_permits(), LANES);
        assert!(!slow.is_finished());
        slow.await.unwrap();
    }
}
