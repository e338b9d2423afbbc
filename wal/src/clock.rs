//! Time, passed in, so that a test can turn the clock.

use std::fmt::Debug;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;

/// Where the log takes its time from.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since an arbitrary moment; never goes back.
    fn monotonic(&self) -> Duration;

    /// Microseconds since 1970-01-01 UTC. Written into files for people; nothing depends on it.
    fn unix_micros(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> SystemClock {
        SystemClock { start: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn unix_micros(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
    }
}

/// A clock that stands still until it is told to go on, for tests with
/// [`Background::Inline`](crate::Background::Inline).
#[derive(Debug, Default)]
pub struct ManualClock {
    now: Mutex<Duration>,
}

impl ManualClock {
    /// Moves the clock on.
    pub fn advance(&self, by: Duration) {
        *self.now.lock() += by;
    }
}

impl Clock for ManualClock {
    fn monotonic(&self) -> Duration {
        *self.now.lock()
    }

    fn unix_micros(&self) -> u64 {
        self.now.lock().as_micros() as u64
    }
}
