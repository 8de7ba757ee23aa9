//! Time, injected.

use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where a component takes the time from. Production uses [`SystemClock`], tests [`ManualClock`].
pub trait Clock: Send + Sync + 'static {
    /// Milliseconds since the Unix epoch: for records and people. It jumps when the machine's clock is set.
    fn now_ms(&self) -> u64;

    /// Milliseconds since some fixed moment of this process: for measuring how long something takes. It never jumps, and means
    /// nothing after a restart.
    fn steady_ms(&self) -> u64;
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |d| d.as_millis() as u64)
    }

    fn steady_ms(&self) -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        START.get_or_init(Instant::now).elapsed().as_millis() as u64
    }
}

/// A clock that a test moves by hand.
#[derive(Debug, Default)]
pub struct ManualClock(Mutex<u64>);

impl ManualClock {
    /// A clock that stands at `now_ms` milliseconds since the epoch.
    pub fn at(now_ms: u64) -> Self {
        Self(Mutex::new(now_ms))
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) += by.as_millis() as u64;
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn steady_ms(&self) -> u64 {
        self.now_ms()
    }
}
