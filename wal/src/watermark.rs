//! How far the log is written and durable, and everybody who waits for that.
//!
//! Blocking waiters, futures and callbacks share one primitive: a target (an end LSN and how safe it must be) whose
//! [`outcome`](Watermark::outcome) is a function of the two marks, the ranges that failed for want of space, and the poison.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::lsn::Lsn;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};
use crate::sync::{Mutex, OnceLock, RwLock};

/// How safe a record must be before its append is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Durability {
    /// Handed to the operating system: outlives the process.
    Written,
    /// Synced: outlives a power loss.
    Durable,
}

/// What somebody waits for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) end: Lsn,
    pub(crate) durability: Durability,
}

pub(crate) type Callback = Box<dyn FnOnce(Result<()>) + Send>;

/// What happens when a target that nobody blocks on is reached.
pub(crate) enum Action {
    Wake(Arc<WakeSlot>),
    Call(Callback),
}

/// Where a future leaves its latest waker.
#[derive(Debug, Default)]
pub(crate) struct WakeSlot(Mutex<Option<Waker>>);

impl WakeSlot {
    pub(crate) fn set(&self, waker: &Waker) {
        let mut slot = self.0.lock();
        match &mut *slot {
            Some(old) => old.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
    }

    fn wake(&self) {
        // Woken outside the lock: a waker may poll its future at once.
        let waker = self.0.lock().take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

struct Registered {
    target: Target,
    action: Action,
}

/// The marks and the waiters. `written` and `durable` only grow, and `durable` never passes `written`.
///
/// All methods may be called by any thread; only the leader publishes `written`, and only who syncs publishes `durable`.
pub(crate) struct Watermark {
    written: AtomicU64,
    durable: AtomicU64,
    poison: OnceLock<Error>,
    has_failed_ranges: AtomicBool,
    failed_ranges: RwLock<Vec<(Lsn, Lsn, Error)>>,
    /// Woken whenever anything above changes; for waiters that cannot lead a group.
    pub(crate) changed: Event,
    registered: [Mutex<VecDeque<Registered>>; 2],
    registered_count: AtomicUsize,
    callbacks: crossbeam_channel::Sender<(Callback, Result<()>)>,
    /// Wakes the thread that runs the callbacks.
    background: Arc<Event>,
}

impl Watermark {
    /// Marks that stand at `end`. Reached callbacks are sent to `callbacks`, for a thread that may be held up by them.
    pub(crate) fn new(
        end: Lsn,
        callbacks: crossbeam_channel::Sender<(Callback, Result<()>)>,
        background: Arc<Event>,
    ) -> Watermark {
        Watermark {
            written: AtomicU64::new(end.get()),
            durable: AtomicU64::new(end.get()),
            poison: OnceLock::new(),
            has_failed_ranges: AtomicBool::new(false),
            failed_ranges: RwLock::default(),
            changed: Event::default(),
            registered: Default::default(),
            registered_count: AtomicUsize::new(0),
            callbacks,
            background,
        }
    }

    pub(crate) fn written(&self) -> Lsn {
        Lsn::new(self.written.load(Ordering::Acquire))
    }

    pub(crate) fn durable(&self) -> Lsn {
        Lsn::new(self.durable.load(Ordering::Acquire))
    }

    fn mark(&self, durability: Durability) -> Lsn {
        match durability {
            Durability::Written => self.written(),
            Durability::Durable => self.durable(),
        }
    }

    /// What became of the target: `None` while it is open.
    pub(crate) fn outcome(&self, target: Target) -> Option<Result<()>> {
        if let Some(outcome) = self.outcome_by_marks(target) {
            return Some(outcome);
        }
        let poison = self.poison()?;
        // The mark may have moved between the two looks, and what it reached before the poison is acknowledged.
        Some(self.outcome_by_marks(target).unwrap_or(Err(poison)))
    }

    fn outcome_by_marks(&self, target: Target) -> Option<Result<()>> {
        // The mark is read before the failed ranges are: a range is entered there before any mark passes over it, so a mark that
        // has passed a refused record is never taken for its acknowledgement.
        let is_reached = self.mark(target.durability) >= target.end;
        if self.has_failed_ranges.load(Ordering::Acquire)
            && let Some(error) = self.failed(target.end)
        {
            return Some(Err(error));
        }
        is_reached.then_some(Ok(()))
    }

    /// Whether the durable mark is past `lsn`; fails if it can move no more.
    pub(crate) fn durable_past(&self, lsn: Lsn) -> Result<bool> {
        if self.durable() > lsn {
            return Ok(true);
        }
        let Some(poison) = self.poison() else { return Ok(false) };
        // As in `outcome`: what became durable before the poison is there.
        if self.durable() > lsn { Ok(true) } else { Err(poison) }
    }

    fn failed(&self, end: Lsn) -> Option<Error> {
        let ranges = self.failed_ranges.read();
        let range = ranges.iter().find(|(first, last_end, _)| *first < end && end <= *last_end);
        range.map(|(_, _, error)| error.clone())
    }

    /// What everybody gets once an operation poisoned the log.
    pub(crate) fn poison(&self) -> Option<Error> {
        self.poison.get().map(Error::poisoned)
    }

    /// Fails with the poison, if there is any.
    pub(crate) fn check(&self) -> Result<()> {
        self.poison().map_or(Ok(()), Err)
    }

    /// Everything below `end` is written.
    pub(crate) fn publish_written(&self, end: Lsn) {
        let before = self.written.fetch_max(end.get(), Ordering::SeqCst);
        debug_assert!(before <= end.get(), "the written mark never moves back");
        self.notify(Durability::Written);
    }

    /// Everything below `end` is durable.
    pub(crate) fn publish_durable(&self, end: Lsn) {
        debug_assert!(end <= self.written(), "nothing is durable that was not written");
        self.durable.fetch_max(end.get(), Ordering::SeqCst);
        self.notify(Durability::Durable);
    }

    /// Latches the first failure. Later ones are consequences, and the first is what everybody is told.
    pub(crate) fn set_poison(&self, first: Error) {
        crate::observe::poisoned(&first);
        if self.poison.set(first).is_ok() {
            self.notify_failed();
        }
    }

    /// As [`Watermark::set_poison`], telling nobody: for the museum.
    pub(crate) fn set_poison_silently(&self, first: Error) {
        drop(self.poison.set(first));
    }

    /// The records in `first..end` were refused by a full disk.
    pub(crate) fn fail_range(&self, first: Lsn, end: Lsn, error: Error) {
        debug_assert!(error.kind() == ErrorKind::Full, "only a full disk leaves the log usable: {error}");
        let mut ranges = self.failed_ranges.write();
        match ranges.last_mut() {
            // Neighbours are merged, so memory grows with the number of times the disk filled up, not with the appends.
            Some((_, last_end, _)) if *last_end == first => *last_end = end,
            _ => ranges.push((first, end, error)),
        }
        drop(ranges);
        self.has_failed_ranges.store(true, Ordering::SeqCst);
        self.notify_failed();
    }

    /// The end of what was accepted: `end`, or where the range starts that was refused right before it.
    pub(crate) fn end_without_refused(&self, end: Lsn) -> Lsn {
        self.failed_ranges.read().last().filter(|(_, last_end, _)| *last_end == end).map_or(end, |(first, _, _)| *first)
    }

    fn notify_failed(&self) {
        fence(Ordering::SeqCst);
        self.notify(Durability::Written);
        self.notify(Durability::Durable);
    }

    fn notify(&self, durability: Durability) {
        self.changed.wake_all_after_exchange();
        if self.registered_count.load(Ordering::SeqCst) > 0 {
            self.run_registered(durability);
        }
    }

    /// Runs `action` when the target is reached or has failed; at once if it has already.
    pub(crate) fn register(&self, target: Target, action: Action) {
        let mut queue = self.registered[target.durability as usize].lock();
        let place = queue.partition_point(|other| other.target.end <= target.end);
        queue.insert(place, Registered { target, action });
        drop(queue);
        self.registered_count.fetch_add(1, Ordering::SeqCst);
        // A publisher that did not see the new count has moved its mark before this fence, so the mark is seen here.
        fence(Ordering::SeqCst);
        if self.outcome(target).is_some() {
            self.run_registered(target.durability);
        }
    }

    /// Wakes all futures, because the log was closed and their targets may never be reached. They look and see.
    pub(crate) fn wake_futures(&self) {
        for queue in &self.registered {
            let mut queue = queue.lock();
            let (futures, others): (VecDeque<_>, VecDeque<_>) =
                queue.drain(..).partition(|entry| matches!(entry.action, Action::Wake(_)));
            *queue = others;
            drop(queue);
            self.registered_count.fetch_sub(futures.len(), Ordering::SeqCst);
            for entry in futures {
                if let Action::Wake(slot) = entry.action {
                    slot.wake();
                }
            }
        }
    }

    fn run_registered(&self, durability: Durability) {
        let mut slots = Vec::new();
        let mut has_callbacks = false;
        let mut queue = self.registered[durability as usize].lock();
        let before = queue.len();
        let is_failing = self.poison.get().is_some() || self.has_failed_ranges.load(Ordering::SeqCst);
        loop {
            let place = if is_failing {
                queue.iter().position(|entry| self.outcome(entry.target).is_some())
            } else {
                queue.front().filter(|entry| self.mark(durability) >= entry.target.end).map(|_| 0)
            };
            let Some(entry) = place.and_then(|place| queue.remove(place)) else { break };
            match entry.action {
                Action::Wake(slot) => slots.push(slot),
                // Handed over under the lock, so that callbacks run in LSN order whoever finds them reached.
                Action::Call(callback) => {
                    let outcome = self.outcome(entry.target).expect("the target was seen to be reached");
                    let sent = self.callbacks.send((callback, outcome));
                    assert!(sent.is_ok(), "the receiver lives as long as the log");
                    has_callbacks = true;
                }
            }
        }
        let removed = before - queue.len();
        drop(queue);
        self.registered_count.fetch_sub(removed, Ordering::SeqCst);
        slots.iter().for_each(|slot| slot.wake());
        if has_callbacks {
            self.background.wake_all();
        }
    }
}

impl std::fmt::Debug for Watermark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watermark")
            .field("written", &self.written())
            .field("durable", &self.durable())
            .field("poison", &self.poison.get())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watermark() -> (Watermark, crossbeam_channel::Receiver<(Callback, Result<()>)>) {
        let (sender, receiver) = crossbeam_channel::unbounded();
        (Watermark::new(Lsn::FIRST, sender, Arc::default()), receiver)
    }

    fn target(bytes: u64, durability: Durability) -> Target {
        Target { end: Lsn::FIRST.advance(bytes), durability }
    }

    #[test]
    fn a_record_is_not_acknowledged_one_byte_early() {
        let (marks, _receiver) = watermark();
        let end = Lsn::FIRST.advance(64);
        marks.publish_written(end);
        marks.publish_durable(Lsn::FIRST.advance(56));
        assert!(marks.outcome(Target { end, durability: Durability::Durable }).is_none());
        marks.publish_durable(end);
        assert!(matches!(marks.outcome(Target { end, durability: Durability::Durable }), Some(Ok(()))));
    }

    #[test]
    fn the_first_failure_is_what_everybody_is_told() {
        let (marks, _receiver) = watermark();
        marks.set_poison(Error::new(ErrorKind::Io, "first", ""));
        marks.set_poison(Error::new(ErrorKind::Io, "second", ""));
        let error = marks.check().expect_err("poisoned");
        assert!(error.is_poisoned() && error.to_string().contains("cannot first"), "{error}");
    }

    #[test]
    fn what_was_durable_before_the_poison_stays_acknowledged() {
        let (marks, _receiver) = watermark();
        marks.publish_written(Lsn::FIRST.advance(64));
        marks.publish_durable(Lsn::FIRST.advance(64));
        marks.set_poison(Error::new(ErrorKind::Io, "sync", ""));
        assert!(matches!(marks.outcome(target(64, Durability::Durable)), Some(Ok(()))));
        assert!(matches!(marks.outcome(target(72, Durability::Durable)), Some(Err(_))));
    }

    #[test]
    fn a_range_refused_by_a_full_disk_stays_refused_when_the_marks_pass_it() {
        let (marks, _receiver) = watermark();
        let full = Error::new(ErrorKind::Full, "write", "");
        marks.fail_range(Lsn::FIRST, Lsn::FIRST.advance(64), full);
        marks.publish_written(Lsn::FIRST.advance(128));
        assert!(matches!(marks.outcome(target(64, Durability::Written)), Some(Err(_))));
        assert!(matches!(marks.outcome(target(128, Durability::Written)), Some(Ok(()))));
    }

    #[test]
    fn callbacks_run_in_lsn_order_once_their_mark_is_reached() {
        let (marks, receiver) = watermark();
        let (sender, order) = crossbeam_channel::unbounded();
        for bytes in [128, 64, 192] {
            let sender = sender.clone();
            let callback: Callback = Box::new(move |_| sender.send(bytes).expect("the test listens"));
            marks.register(target(bytes, Durability::Written), Action::Call(callback));
        }
        marks.publish_written(Lsn::FIRST.advance(128));
        for (callback, outcome) in receiver.try_iter() {
            callback(outcome);
        }
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [64, 128]);
    }
    #[test]
    fn the_durable_mark_never_moves_back() {
        let (marks, _receiver) = watermark();
        marks.publish_written(Lsn::FIRST.advance(128));
        marks.publish_durable(Lsn::FIRST.advance(128));
        // A sync that began earlier may end later than one that covers more.
        marks.publish_durable(Lsn::FIRST.advance(64));
        assert_eq!(marks.durable(), Lsn::FIRST.advance(128));
    }

    #[test]
    fn a_waker_may_poll_its_future_at_once() {
        struct Polls(Arc<WakeSlot>);
        impl std::task::Wake for Polls {
            fn wake(self: Arc<Self>) {
                self.0.set(Waker::noop());
            }
        }
        let (marks, _receiver) = watermark();
        let slot = Arc::new(WakeSlot::default());
        slot.set(&Waker::from(Arc::new(Polls(Arc::clone(&slot)))));
        marks.register(target(64, Durability::Written), Action::Wake(Arc::clone(&slot)));
        marks.publish_written(Lsn::FIRST.advance(64));
        assert!(slot.0.lock().is_some(), "the future left a waker again");
    }
}
