//! Whether those who wait stay awake.
//!
//! To put a thread to sleep and wake it takes as much time as a fast device takes for a tenth of a durable write, or more, and the one who
//! wakes spends it too. Whoever stays awake instead looks, lets other threads run, and looks again. That is faster as long as the wait is
//! short and nobody else wants the cores; so it is done only then. `RocksDB` (`enable_write_thread_adaptive_yield`) and `InnoDB`
//! (`innodb_log_wait_for_flush_spin_hwm`) decide alike.

use std::time::{Duration, Instant};

use super::queue::Queue;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread;

/// A thread that let others run and got its core back only after this had to wait for one that does not stop to let others run.
const CROWDED: Duration = Duration::from_millis(1);
/// Nobody stays awake for so many times what the discovery took. So of the time of a thread at most one part in as many is lost to it.
const CROWDED_FOR: u32 = 64;
/// A turn that took longer counts as this: it was no thread that kept the core for so long, but the process was stopped, or the machine.
const TURN_MAX: Duration = Duration::from_millis(100);
/// The weight of the last sync in their mean is one in so many.
const MEAN_OF: u64 = 8;

/// What a waiting thread looks at, beside the marks. In cache lines of its own: it changes with each leader, and is read all the time.
#[derive(Debug)]
#[repr(align(128))]
pub(super) struct Vigil {
    /// Somebody is writing a group. Changed only under the lock of the queue.
    is_led: AtomicBool,
    /// A moving mean of what a group that is synced took.
    sync_nanos: AtomicU64,
    /// Until then, in nanoseconds since `start`, somebody else wants the cores.
    crowded_until: AtomicU64,
    start: Instant,
}

impl Vigil {
    pub(super) fn new() -> Vigil {
        Vigil {
            is_led: AtomicBool::new(false),
            sync_nanos: AtomicU64::new(0),
            crowded_until: AtomicU64::new(0),
            start: Instant::now(),
        }
    }

    /// Whether somebody leads. Exact if the queue is locked; otherwise it may have changed by now.
    pub(super) fn is_led(&self) -> bool {
        self.is_led.load(Ordering::Relaxed)
    }

    /// Somebody leads from now on, or nobody does. The queue is locked.
    pub(super) fn set_led(&self, _queue: &Queue, is_led: bool) {
        self.is_led.store(is_led, Ordering::Relaxed);
    }

    /// A group was written and synced in this time. Called by the leader.
    pub(super) fn note_sync(&self, took: Duration) {
        let mean = self.sync_nanos.load(Ordering::Relaxed);
        let took = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX / MEAN_OF);
        self.sync_nanos.store(mean - mean / MEAN_OF + took / MEAN_OF, Ordering::Relaxed);
    }

    /// Whether syncs take no longer, lately, than a thread may stay awake.
    pub(super) fn is_sync_within(&self, awake_max: Duration) -> bool {
        u128::from(self.sync_nanos.load(Ordering::Relaxed)) <= awake_max.as_nanos()
    }

    /// Whether somebody else wanted the cores, not long before `now`.
    pub(super) fn is_crowded(&self, now: Instant) -> bool {
        self.nanos_at(now) < self.crowded_until.load(Ordering::Relaxed)
    }

    /// Lets other threads run. Returns the time, so that whoever calls it again and again reads the clock once each time; `before` is the
    /// last that it returned.
    pub(super) fn let_others_run(&self, before: Instant) -> Instant {
        thread::yield_now();
        let now = Instant::now();
        self.note_turn(before, now);
        now
    }

    /// A thread that let others run at `before` got its core back at `now`.
    fn note_turn(&self, before: Instant, now: Instant) {
        let took = now.saturating_duration_since(before).min(TURN_MAX);
        if took > CROWDED {
            self.crowded_until.fetch_max(self.nanos_at(now + took * CROWDED_FOR), Ordering::Relaxed);
        }
    }

    fn nanos_at(&self, time: Instant) -> u64 {
        // Five centuries fit.
        time.saturating_duration_since(self.start).as_nanos() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_stays_awake_while_syncs_take_longer_than_he_may() {
        let vigil = Vigil::new();
        let max = Duration::from_micros(250);
        assert!(vigil.is_sync_within(max), "nothing is known yet");
        (0..100).for_each(|_| vigil.note_sync(Duration::from_millis(2)));
        assert!(!vigil.is_sync_within(max));
        (0..100).for_each(|_| vigil.note_sync(Duration::from_micros(90)));
        assert!(vigil.is_sync_within(max), "the device is fast again");
        vigil.note_sync(Duration::from_millis(1));
        assert!(vigil.is_sync_within(max), "one slow sync is not many");
        assert!(!vigil.is_sync_within(Duration::ZERO));
    }

    #[test]
    fn whoever_got_his_core_back_late_keeps_all_from_staying_awake_for_a_while() {
        let vigil = Vigil::new();
        let now = vigil.start + Duration::from_secs(10);
        vigil.note_turn(now - Duration::from_micros(900), now);
        assert!(!vigil.is_crowded(now), "others had something to do, and were done soon");
        vigil.note_turn(now - Duration::from_millis(4), now);
        assert!(vigil.is_crowded(now) && vigil.is_crowded(now + Duration::from_millis(255)));
        assert!(!vigil.is_crowded(now + Duration::from_millis(256)));
        // Another thread that was late a little does not shorten it.
        vigil.note_turn(now - Duration::from_millis(2), now);
        assert!(vigil.is_crowded(now + Duration::from_millis(255)));
    }

    #[test]
    fn a_process_that_was_stopped_met_no_crowd_of_hours() {
        let vigil = Vigil::new();
        let now = vigil.start + Duration::from_secs(10_000);
        vigil.note_turn(now - Duration::from_secs(3600), now);
        assert!(vigil.is_crowded(now), "nobody knows what happened meanwhile");
        assert!(!vigil.is_crowded(now + Duration::from_secs(10)));
    }

    #[test]
    fn a_sync_of_any_length_has_its_place_in_the_mean() {
        let vigil = Vigil::new();
        (0..1000).for_each(|_| vigil.note_sync(Duration::MAX));
        assert!(!vigil.is_sync_within(Duration::from_secs(1)));
    }
}
