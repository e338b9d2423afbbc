//! Work in the background that appends are to feel as little as possible: it goes to the same device, so it is done in small steps
//! past the page cache, with rests between them. An append meets one step at most, never the write-back of a whole segment.

use std::time::{Duration, Instant};

/// What is read or written in one step. On a fast device that takes as long as a small durable write does.
pub(crate) const STEP_BYTES: usize = 64 << 10;
/// A rest is so many times as long as the step before it: slow devices are given more time.
const REST: u32 = 2;

/// Whether somebody appends meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Haste {
    /// Nobody does, or everybody waits for this work.
    Full,
    /// Appends go on.
    Gentle,
}

/// Rests after each step.
#[derive(Debug)]
pub(crate) struct Rests {
    haste: Haste,
    bytes: usize,
    since: Instant,
}

impl Rests {
    pub(crate) fn new(haste: Haste) -> Rests {
        Rests { haste, bytes: 0, since: Instant::now() }
    }

    /// Called when `bytes` more are done.
    pub(crate) fn done(&mut self, bytes: usize) {
        self.bytes += bytes;
        if self.haste == Haste::Full || self.bytes < STEP_BYTES {
            return;
        }
        // A step is short; that it seems long says that this thread did not run.
        let took = self.since.elapsed().min(Duration::from_millis(10));
        std::thread::sleep(took * REST);
        self.bytes = 0;
        self.since = Instant::now();
    }
}
