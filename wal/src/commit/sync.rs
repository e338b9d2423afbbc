//! Syncing: one in flight, its result shared by all who wait on it, never tried again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Commit;
use crate::config::{Background, SyncMode};
use crate::error::Result;
use crate::lsn::Lsn;
use crate::museum::Bug;
use crate::segment::writer::ActiveSegment;
use crate::sync::atomic::Ordering;

/// In `none` mode at most this many sealed segments wait for their sync before an append waits for it.
const UNSYNCED_SEGMENTS_MAX: usize = 4;

/// If `batch` mode may lose at least so much, half of it is enough for a sync in the background. With less the append that reaches all of it
/// would come before that sync is done.
const EARLY_BYTES_MIN: u64 = if cfg!(wal_scheduled) { 4 << 10 } else { 256 << 10 };

/// What is written and not yet known to be durable.
#[derive(Debug)]
pub(crate) struct SyncState {
    is_in_flight: bool,
    /// What the last sync that was started makes durable.
    covered: Lsn,
    /// In `batch` mode: half of the bytes that may be lost are written, and no sync covers them.
    is_half_reached: bool,
    /// The segments that may hold unsynced data, oldest first. The last one is the one being written. Their descriptors stay
    /// open until the sync, because a late write-back error is reported only to them.
    dirty: Vec<Arc<ActiveSegment>>,
    /// When the oldest record was written that no sync in flight covers.
    unsynced_since: Option<Duration>,
    /// What recent syncs took: a batch sync starts this much early.
    recent: Duration,
}

impl SyncState {
    pub(crate) fn new(segment: Arc<ActiveSegment>) -> SyncState {
        SyncState {
            is_in_flight: false,
            covered: Lsn::ZERO,
            is_half_reached: false,
            dirty: vec![segment],
            unsynced_since: None,
            recent: Duration::ZERO,
        }
    }
}

impl Commit {
    /// Makes everything that was written when the sync starts durable, at least up to `end`, which must be written (though the
    /// leader may have held the mark back). Shares a sync that is in flight if it covers `end`. A failure poisons the log.
    pub(super) fn sync_to(&self, end: Lsn) -> Result<()> {
        let mut state = self.sync.lock();
        loop {
            if self.marks.durable() >= end {
                if self.marks.durable() >= self.marks.written() {
                    state.is_half_reached = false;
                    state.unsynced_since = None;
                }
                return Ok(());
            }
            self.marks.check()?;
            if !state.is_in_flight {
                break;
            }
            self.sync_done.wait(&mut state);
        }
        state.is_in_flight = true;
        state.is_half_reached = false;
        state.unsynced_since = None;
        // The order matters: what is written now lies in segments that are in the list now.
        let covered = self.marks.written().max(end);
        state.covered = covered;
        let segments = state.dirty.clone();
        drop(state);

        let started = Instant::now();
        // Oldest first: nothing in a segment counts as durable before its predecessor is.
        let result =
            segments.iter().try_for_each(|segment| segment.file.sync_data().map_err(|e| e.at_segment(segment.number)));
        let took = started.elapsed();

        if let Err(error) = &result {
            self.poison(error.clone().at_lsn(self.marks.durable()));
        }
        if result.is_ok() || self.parts.bugs.has(Bug::WaitersToldOk) {
            // Wakers may look at the log at once, so no lock is held when they are woken.
            if covered > self.marks.written() {
                // Only the leader moves this mark, and it is the leader who held it back.
                self.marks.publish_written(covered);
            }
            self.marks.publish_durable(covered);
        }
        let mut state = self.sync.lock();
        state.is_in_flight = false;
        if result.is_ok() {
            state.recent = (state.recent * 3 + took) / 4;
        }
        drop(state);
        if result.is_ok() {
            self.forget_synced();
        }
        self.sync_done.notify_all();
        self.parts.metrics.syncs.add(segments.len() as u64);
        self.parts.metrics.sync.record_duration(took);
        // The one who led the failing sync is told what everybody is told.
        if result.is_err() { self.marks.check() } else { Ok(()) }
    }

    /// Everything written into `segment` from now on is to be synced.
    pub(super) fn begin_sync_of(&self, segment: &Arc<ActiveSegment>) {
        let mut state = self.sync.lock();
        if self.parts.bugs.has(Bug::OldSegmentNotSynced) {
            state.dirty.clear();
        }
        if !state.dirty.iter().any(|dirty| Arc::ptr_eq(dirty, segment)) {
            state.dirty.push(Arc::clone(segment));
        }
        self.count_unsynced(&state);
    }

    /// Called under the lock whenever the list has changed.
    fn count_unsynced(&self, state: &SyncState) {
        self.unsynced_segments.store(state.dirty.len(), Ordering::Relaxed);
    }

    /// Lets go of segments that are durable through their end.
    pub(super) fn forget_synced(&self) {
        let durable = self.marks.durable();
        let mut state = self.sync.lock();
        while state.dirty.len() > 1 && state.dirty[1].base <= durable {
            state.dirty.remove(0);
        }
        self.count_unsynced(&state);
    }

    /// Everything so far is durable and `segment` is the one being written.
    pub(super) fn restart_sync_with(&self, segment: Arc<ActiveSegment>) {
        let mut state = self.sync.lock();
        state.dirty = vec![segment];
        state.is_half_reached = false;
        state.unsynced_since = None;
        self.count_unsynced(&state);
    }

    /// Whether a group that ends at `end` reaches the bytes that may be lost in `batch` mode. Nothing of it is acknowledged before
    /// it is synced then, so that never more than these bytes are acknowledged and may be lost.
    pub(super) fn reaches_bytes_at_risk(&self, end: Lsn) -> bool {
        match self.parts.config.sync_mode {
            SyncMode::Batch { bytes, .. } => end.distance_from(self.marks.durable()) >= bytes,
            SyncMode::Sync | SyncMode::None => false,
        }
    }

    /// Notes that something was written, up to `end`. Returns whether the leader has to sync it itself, because a sync is overdue and nobody else
    /// does it, or because too many sealed segments wait.
    pub(super) fn note_unsynced(&self, end: Lsn) -> bool {
        match self.parts.config.sync_mode {
            // Only appends that ask for less than the mode leave anything unsynced here.
            SyncMode::Sync => self.unsynced_segments.load(Ordering::Relaxed) > 1 + UNSYNCED_SEGMENTS_MAX,
            SyncMode::Batch { bytes, .. } => {
                let mut state = self.sync.lock();
                let is_first = state.unsynced_since.is_none();
                if is_first {
                    state.unsynced_since = Some(self.parts.clock.monotonic());
                }
                // So that seldom an append reaches all of them, and waits for a sync. Without a background it would wait for this one.
                let has_background = self.parts.config.background == Background::Threads;
                let covered = state.covered.max(self.marks.durable());
                let reaches_half = bytes >= EARLY_BYTES_MIN && end.distance_from(covered) >= bytes / 2;
                let is_early = has_background && reaches_half && !state.is_half_reached;
                state.is_half_reached |= is_early;
                drop(state);
                if is_first || is_early {
                    self.parts.background.wake_all();
                }
                self.parts.config.background == Background::Inline
                    && self.sync_due().is_some_and(|due| due <= self.parts.clock.monotonic())
            }
            SyncMode::None => {
                let sealed = self.unsynced_segments.load(Ordering::Relaxed) - 1;
                if sealed > 0 {
                    self.parts.background.wake_all();
                }
                sealed > UNSYNCED_SEGMENTS_MAX || (sealed > 0 && self.parts.config.background == Background::Inline)
            }
        }
    }

    /// When the next sync of the background is due, on the log's clock.
    pub(super) fn sync_due(&self) -> Option<Duration> {
        let SyncMode::Batch { delay, .. } = self.parts.config.sync_mode else { return None };
        let state = self.sync.lock();
        let early = (state.recent * 2).min(delay / 2);
        let delay = if state.is_half_reached { Duration::ZERO } else { delay - early };
        state.unsynced_since.map(|since| since + delay)
    }

    /// Syncs if the delay of `batch` has passed, or if a sealed segment of `none` waits for it. A failure is latched and reaches
    /// everybody through the marks.
    pub(super) fn sync_if_due(&self) {
        let is_due = match self.parts.config.sync_mode {
            SyncMode::Sync => false,
            SyncMode::Batch { .. } => self.sync_due().is_some_and(|due| due <= self.parts.clock.monotonic()),
            SyncMode::None => self.sync.lock().dirty.len() > 1,
        };
        if is_due {
            drop(self.sync_to(self.marks.written()));
        }
    }
}
