//! Group commit: append, queue, leader, sync, failure latch.
//!
//! An appender encodes its record into the open group under the queue lock, which also gives it its LSN. Whoever finds nobody
//! leading becomes the leader: takes the oldest group, stamps and writes it with one call, syncs if anybody in it needs
//! that, moves the marks and wakes everybody with one broadcast. Appends that arrive meanwhile form the next group.
//! A leader hands over when its own record is acknowledged, so no appender works for others for long. Tickets that nobody
//! waits for are driven by the background thread.
//!
//! Lock order: `structure` (in `Shared`), then `queue`, then `tail`, then `sync`, then the chain, `last_written` and the watermark's own
//! locks. Of these only `structure` and `tail` are held over a system call, and only `structure` while somebody is woken.

mod lead;
mod queue;
mod sync;
mod vigil;

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::clock::Clock;
use crate::config::{Background, Config, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::last_written::LastWritten;
use crate::lsn::Lsn;
use crate::metrics::Metrics;
use crate::museum::{Bug, Bugs};
use crate::prepare::{Preparer, Step};
use crate::record::frame_bytes;
use crate::segment::chain::Chain;
use crate::segment::writer::ActiveSegment;
use crate::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Condvar, Mutex, MutexGuard};
use crate::watermark::{Durability, Target, Watermark};
use lead::Lead;
use queue::{Admission, Awaited, Next, Queue};
pub(crate) use queue::{Input, Place};
use vigil::Vigil;

/// After a group of more records than this the leader does not wait for as many to come back: they would not within that time.
const GATHER_RECORDS_MAX: u64 = 256;
/// At most this much of a segment's end is kept for appends that may use the reserve.
const RESERVE_MAX: u64 = 64 << 10;
/// How long an append that waits for a write into the page cache stays awake. Such a write takes about a microsecond; to sleep and be woken
/// takes several, and who is woken may take the core of a leader.
const WRITTEN_AWAKE_MAX: Duration = if cfg!(wal_scheduled) { Duration::ZERO } else { Duration::from_micros(100) };
/// How often whoever waits awake for such a write looks before he lets another thread run.
const WRITTEN_LOOKS: u32 = if cfg!(wal_scheduled) { 1 } else { 100 };
/// How often whoever waits awake for a sync does. It takes longer, and the leader may come back to this core.
const SYNC_LOOKS: u32 = if cfg!(wal_scheduled) { 1 } else { 3 };
/// In `batch` and `none` mode one append of this many is timed: reading the clock twice would cost a tenth of such an append.
const TIMED_APPENDS: u64 = 64;

/// What the commit path shares with the rest of the log.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) config: Config,
    pub(crate) bugs: Bugs,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) preparer: Arc<Preparer>,
    /// Wakes the background thread.
    pub(crate) background: Arc<Event>,
    /// Wakes the thread that prepares segments.
    pub(crate) preparation: Arc<Event>,
}

/// How one append wants to be treated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Demand {
    pub(crate) durability: Durability,
    pub(crate) use_reserve: bool,
}

/// Poisons the log if the thread dies that prepares a segment, because appends wait for it.
struct PreparationGuard<'a> {
    commit: &'a Commit,
    was_panicking: bool,
}

impl Drop for PreparationGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            let detail = "the thread that was preparing a segment panicked";
            let error = Error::new(ErrorKind::Io, "prepare segment", detail);
            self.commit.poison(error.clone());
            self.commit.queue.lock().next_segment = Next::Failed(error);
            self.commit.room.notify_all();
        }
    }
}

/// Poisons the log if the thread dies that changes its structure, because nobody knows which steps were made.
pub(crate) struct ChangeGuard<'a> {
    commit: &'a Commit,
    was_panicking: bool,
}

impl Drop for ChangeGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            let detail = "the thread that was changing the structure of the log panicked";
            self.commit.poison(Error::new(ErrorKind::Io, "change structure", detail));
        }
    }
}

/// The commit path. All methods may be called by any thread.
#[derive(Debug)]
pub(crate) struct Commit {
    parts: Parts,
    queue: Mutex<Queue>,
    /// Signalled when the queue has room, the next segment is ready or has failed, a leader is done, or a pause ends.
    room: Condvar,
    tail: Mutex<lead::Tail>,
    sync: Mutex<sync::SyncState>,
    sync_done: Condvar,
    /// How many segments may hold unsynced data: each append looks, and takes no lock for it.
    unsynced_segments: AtomicUsize,
    pub(crate) marks: Arc<Watermark>,
    pub(crate) last_written: Arc<LastWritten>,
    /// Waiters that may lead sleep on the event of their group's lowest sequence bit, so a broadcast wakes one group and not the next.
    groups_done: [Event; 2],
    /// How many records the last group acknowledged: as many are about to come back.
    expected: AtomicU32,
    /// How many records joined since the last group was taken.
    arrived: AtomicU32,
    appends: AtomicU64,
    vigil: Vigil,
    reserve: u64,
}

impl Commit {
    /// The commit path of a log whose active segment is `segment`, with everything below `end` durable and the last frame's
    /// checksum `last_checksum`.
    pub(crate) fn new(
        parts: Parts,
        marks: Arc<Watermark>,
        segment: Arc<ActiveSegment>,
        end: Lsn,
        last_checksum: u32,
    ) -> Result<Commit> {
        let reserve = (parts.config.segment_room() / 16).min(RESERVE_MAX) & !7;
        let block = lead::partial_block(&segment, end)?;
        Ok(Commit {
            queue: Mutex::new(Queue::new(Arc::clone(&segment), end, parts.config.pad_groups)),
            room: Condvar::new(),
            tail: Mutex::new(lead::Tail::new(last_checksum, block)),
            sync: Mutex::new(sync::SyncState::new(segment)),
            sync_done: Condvar::new(),
            unsynced_segments: AtomicUsize::new(1),
            marks,
            last_written: Arc::default(),
            groups_done: Default::default(),
            expected: AtomicU32::new(0),
            arrived: AtomicU32::new(0),
            appends: AtomicU64::new(0),
            vigil: Vigil::new(),
            reserve,
            parts,
        })
    }

    /// Held, beside the lock on the structure, while that is changed.
    pub(crate) fn guard_change(&self) -> ChangeGuard<'_> {
        ChangeGuard { commit: self, was_panicking: std::thread::panicking() }
    }

    pub(crate) fn next_lsn(&self) -> Lsn {
        self.queue.lock().next_lsn
    }

    /// What an append asks for if it says nothing.
    pub(crate) fn default_durability(&self) -> Durability {
        match self.parts.config.sync_mode {
            SyncMode::Sync => Durability::Durable,
            SyncMode::Batch { .. } | SyncMode::None => Durability::Written,
        }
    }

    /// Appends the records as one atomic batch and returns when they are as safe as `demand` asks.
    #[inline]
    pub(crate) fn append<'a>(&self, inputs: impl Iterator<Item = Input<'a>> + Clone, demand: Demand) -> Result<Place> {
        let started = self.start_timing();
        let (place, lead) = self.enqueue(inputs, demand, true)?;
        let target = Target { end: place.end, durability: demand.durability };
        if let Some(lead) = lead {
            self.lead(lead, Some(target));
        }
        self.wait_as_candidate(target, place.group, self.awake_max(target))?;
        if let Some(started) = started {
            self.parts.metrics.append.record_duration(started.elapsed());
        }
        Ok(place)
    }

    /// Appends the records as one atomic batch and returns at once.
    #[inline]
    pub(crate) fn submit<'a>(&self, inputs: impl Iterator<Item = Input<'a>> + Clone, demand: Demand) -> Result<Place> {
        let (place, _) = self.enqueue(inputs, demand, false)?;
        Ok(place)
    }

    fn start_timing(&self) -> Option<Instant> {
        if self.parts.config.sync_mode == SyncMode::Sync {
            return Some(Instant::now());
        }
        // A lost count does not matter: this only spreads the samples.
        let count = self.appends.load(Ordering::Relaxed);
        self.appends.store(count.wrapping_add(1), Ordering::Relaxed);
        count.is_multiple_of(TIMED_APPENDS).then(Instant::now)
    }

    /// Puts the records into the queue. If `may_lead` and nobody leads, the caller is the leader from then on and must call
    /// [`Commit::lead`].
    #[inline]
    fn enqueue<'a>(
        &self,
        inputs: impl Iterator<Item = Input<'a>> + Clone,
        demand: Demand,
        may_lead: bool,
    ) -> Result<(Place, Option<Lead>)> {
        let mut bytes = 0;
        let mut payload_bytes = 0;
        let mut records = 0;
        for input in inputs.clone() {
            bytes += frame_bytes(input.payload.len()) as u64;
            payload_bytes += input.payload.len() as u64;
            records += 1;
        }
        let mut queue = self.admit(bytes, demand)?;
        let wants_sync = demand.durability == Durability::Durable;
        let place = queue.push(inputs, bytes, self.parts.config.group_bytes_max, wants_sync);
        self.prepare_if_due(&mut queue);
        let is_led = self.vigil.is_led();
        let leads = may_lead && !is_led;
        if leads {
            self.vigil.set_led(&queue, true);
        }
        let group = queue.groups.back_mut().expect("just pushed");
        group.candidates += u32::from(may_lead && !leads);
        self.parts.metrics.records.add_under_lock(records);
        self.parts.metrics.payload_bytes.add_under_lock(payload_bytes);
        // Changed only under the queue's lock, so no locked instruction is needed.
        self.arrived.store(self.arrived.load(Ordering::Relaxed).saturating_add(records as u32), Ordering::Relaxed);
        // A lone appender takes its group at once, under the same lock.
        let lead = leads.then(|| Lead { first: if self.expects_more() { None } else { self.take_group(&mut queue) } });
        drop(queue);
        if !may_lead && !is_led {
            self.parts.background.wake_all();
        }
        Ok((place, lead))
    }

    /// Waits until frames of `bytes` may be pushed, and returns with the queue locked.
    #[inline]
    fn admit(&self, bytes: u64, demand: Demand) -> Result<MutexGuard<'_, Queue>> {
        let room = self.parts.config.segment_room();
        if bytes > room {
            return Err(Error::new(
                ErrorKind::TooLarge,
                "append",
                format!(
                    "{bytes} bytes with frame headers exceed the {room} that a segment has room for; the limit is segment_bytes_max"
                ),
            ));
        }
        let reserve = if demand.use_reserve { 0 } else { self.reserve };
        let mut has_tried = false;
        let mut queue = self.queue.lock();
        loop {
            self.marks.check()?;
            if queue.is_closed {
                return Err(Error::new(ErrorKind::Closed, "append", "the log was closed"));
            }
            if queue.is_paused {
                self.room.wait(&mut queue);
                continue;
            }
            match queue.admit(bytes, self.parts.config.queue_bytes_max, reserve)? {
                Admission::Admitted => return Ok(queue),
                Admission::QueueFull => queue = self.wait_for_room(queue),
                Admission::NeedsSegment => queue = self.wait_for_segment(queue, Awaited::ByAppends, &mut has_tried)?,
            }
        }
    }

    /// Back-pressure: helps to write if nobody does, and waits otherwise.
    fn wait_for_room<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        if self.vigil.is_led() {
            self.room.wait(&mut queue);
            return queue;
        }
        self.vigil.set_led(&queue, true);
        drop(queue);
        self.lead_once(Lead::default());
        self.queue.lock()
    }

    /// Gets the next segment prepared. An append that finds that this failed tries it once more itself, so the log goes on as soon
    /// as there is room.
    fn wait_for_segment<'a>(
        &'a self,
        mut queue: MutexGuard<'a, Queue>,
        awaited: Awaited,
        has_tried: &mut bool,
    ) -> Result<MutexGuard<'a, Queue>> {
        match &queue.next_segment {
            Next::Ready(_) => Ok(queue),
            Next::Failed(error) if *has_tried => {
                if error.is_full() {
                    self.parts.metrics.full_refusals.add(1);
                }
                Err(error.clone())
            }
            Next::Missing | Next::Failed(_) => {
                *has_tried = true;
                queue.next_segment = Next::Requested;
                if self.parts.config.background == Background::Threads {
                    self.parts.preparation.wake_all();
                    return Ok(self.wait_for_preparation(queue, awaited));
                }
                drop(queue);
                self.prepare_requested();
                Ok(self.queue.lock())
            }
            Next::Requested | Next::Preparing => {
                *has_tried = true;
                Ok(self.wait_for_preparation(queue, awaited))
            }
        }
    }

    fn wait_for_preparation<'a>(&'a self, mut queue: MutexGuard<'a, Queue>, awaited: Awaited) -> MutexGuard<'a, Queue> {
        let started = Instant::now();
        let active = queue.segment.number;
        // Over if another append has taken the segment: the one after it is made at leisure, and may not be needed here.
        while queue.segment.number == active
            && queue.next_segment.is_coming()
            && !queue.is_closed
            && self.marks.poison().is_none()
        {
            self.hurry(&mut queue, awaited);
            self.room.wait(&mut queue);
        }
        self.parts.metrics.prepare_wait.record_duration(started.elapsed());
        queue
    }

    /// Whoever waits for a preparation has it make its steps without rests.
    pub(super) fn hurry(&self, queue: &mut Queue, awaited: Awaited) {
        if queue.next_segment.is_coming() && queue.awaited < awaited {
            queue.awaited = awaited;
            self.parts.preparation.wake_all();
        }
    }

    /// Has the background prepare the segment after the active one, if there is a background and enough of the active one is used.
    fn prepare_if_due(&self, queue: &mut Queue) {
        if queue.next_lsn < queue.prepare_at || self.parts.config.background == Background::Inline {
            return;
        }
        queue.prepare_at = Lsn::LIMIT;
        if matches!(queue.next_segment, Next::Missing | Next::Failed(_)) {
            queue.next_segment = Next::Requested;
        }
        // A preparation that is under way rests until its next step is due.
        self.parts.preparation.wake_all();
    }

    /// Called when the log was opened or space was freed: a preparation that failed for want of it may succeed now.
    pub(crate) fn prefetch_segment(&self) {
        let mut queue = self.queue.lock();
        // A segment that was due and is not coming: it failed, or was given up.
        if queue.prepare_at == Lsn::LIMIT && matches!(queue.next_segment, Next::Missing | Next::Failed(_)) {
            queue.prepare_at = Lsn::ZERO;
        }
        self.prepare_if_due(&mut queue);
    }

    /// Whether the next segment could not be prepared, so that appends may soon wait for room.
    pub(crate) fn has_failed_preparation(&self) -> bool {
        matches!(self.queue.lock().next_segment, Next::Failed(_))
    }

    /// Prepares the next segment if that was requested.
    pub(crate) fn prepare_requested(&self) {
        let mut queue = self.queue.lock();
        if !matches!(queue.next_segment, Next::Requested) || queue.is_closed {
            return;
        }
        queue.next_segment = Next::Preparing;
        let number = queue.segment.number + 1;
        drop(queue);
        let _guard = PreparationGuard { commit: self, was_panicking: std::thread::panicking() };
        let pace = |done, total| self.pace_fill(done, total);
        let next = match self.parts.preparer.prepare(number, &pace) {
            Ok(ready) => Next::Ready(ready),
            // A close or a poison ends a preparation that is under way.
            Err(failure) if failure.error.kind() == ErrorKind::Closed => Next::Failed(failure.error),
            Err(failure) => {
                crate::observe::preparation_failed(&failure.error);
                self.parts.metrics.preparation_failures.add(1);
                if failure.is_unsure {
                    self.poison(failure.error.clone());
                }
                Next::Failed(failure.error)
            }
        };
        let mut queue = self.queue.lock();
        queue.next_segment = next;
        queue.awaited = Awaited::ByNobody;
        drop(queue);
        self.room.notify_all();
    }

    /// Decides on the next step of filling a segment, and rests before it until it is due, because appends write to the same device. There is
    /// no rest while somebody waits for the segment.
    fn pace_fill(&self, done: u64, total: u64) -> Step {
        loop {
            let listener = self.parts.preparation.listen();
            let mut queue = self.queue.lock();
            if queue.is_closed || self.marks.poison().is_some() {
                return Step::GiveUp;
            }
            if self.parts.config.background == Background::Inline {
                return Step::Small;
            }
            if queue.awaited == Awaited::ByAppends {
                return Step::Large { group_bytes: queue.group_bytes_mean() };
            }
            if queue.next_lsn >= queue.fill_due_at(done + total / 4, total) {
                return Step::Late { group_bytes: queue.group_bytes_mean() };
            }
            let due_at = queue.fill_due_at(done, total);
            if queue.awaited != Awaited::ByNobody || queue.next_lsn >= due_at {
                return Step::Small;
            }
            queue.prepare_at = due_at;
            drop(queue);
            listener.wait(None);
        }
    }

    /// Waits for the target; leads whenever nobody else does.
    fn wait_as_candidate(&self, target: Target, group: u64, awake_max: Duration) -> Result<()> {
        loop {
            if let Some(outcome) = self.wait_awake(target, awake_max) {
                return outcome;
            }
            let listener = self.groups_done[(group & 1) as usize].listen();
            if self.marks.outcome(target).is_some() {
                continue;
            }
            match self.try_lead() {
                Some(lead) => {
                    drop(listener);
                    self.lead(lead, Some(target));
                }
                None => listener.wait(None),
            }
        }
    }

    /// How long an append that waits for this stays awake.
    fn awake_max(&self, target: Target) -> Duration {
        match target.durability {
            Durability::Written => WRITTEN_AWAKE_MAX,
            Durability::Durable => self.parts.config.busy_wait_max,
        }
    }

    /// Looks for a while whether the target is reached, and leads if nobody does: `None` if it is time to sleep.
    fn wait_awake(&self, target: Target, awake_max: Duration) -> Option<Result<()>> {
        let outcome = self.marks.outcome(target);
        let is_synced = target.durability == Durability::Durable;
        let looks = if is_synced { SYNC_LOOKS } else { WRITTEN_LOOKS };
        if outcome.is_some() || awake_max.is_zero() {
            return outcome;
        }
        if is_synced && !self.vigil.is_sync_within(awake_max) {
            return None;
        }
        let mut now = Instant::now();
        let end = now + awake_max;
        while now < end && !(is_synced && self.vigil.is_crowded(now)) {
            for _ in 0..looks {
                std::hint::spin_loop();
                if let Some(outcome) = self.marks.outcome(target) {
                    return Some(outcome);
                }
            }
            // Looked at before the lock is taken, because those who append need it.
            if !self.vigil.is_led()
                && let Some(lead) = self.try_lead()
            {
                self.lead(lead, Some(target));
                now = Instant::now();
            } else {
                // The leader may be waiting for this core.
                now = self.vigil.let_others_run(now);
            }
        }
        None
    }

    /// Waits for a record that was submitted: joins the candidates of its group if that is still queued.
    pub(crate) fn wait_for(&self, target: Target, group: u64) -> Result<()> {
        if let Some(outcome) = self.marks.outcome(target) {
            return outcome;
        }
        let mut queue = self.queue.lock();
        match queue.groups.iter_mut().find(|queued| queued.sequence == group) {
            Some(queued) => {
                queued.candidates += 1;
                drop(queue);
                // Where a sync is needed, the one who waits for a ticket has others in flight, and leaves the core to those who work on them.
                let awake_max =
                    if target.durability == Durability::Durable { Duration::ZERO } else { WRITTEN_AWAKE_MAX };
                self.wait_as_candidate(target, group, awake_max)
            }
            None => {
                drop(queue);
                self.wait_passively(target, None)
            }
        }
    }

    /// Waits without leading, as long as `deadline` allows. The work is done by leaders and the background thread; without one, by
    /// the caller after all.
    pub(crate) fn wait_passively(&self, target: Target, deadline: Option<Instant>) -> Result<()> {
        self.request(target);
        loop {
            let listener = self.marks.changed.listen();
            if let Some(outcome) = self.marks.outcome(target) {
                return outcome;
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let detail = "the deadline passed before the record was acknowledged";
                return Err(Error::new(ErrorKind::TimedOut, "wait for record", detail).at_lsn(target.end));
            }
            if self.parts.config.background == Background::Inline
                && let Some(lead) = self.try_lead()
            {
                self.lead(lead, Some(target));
                continue;
            }
            listener.wait(deadline);
        }
    }

    /// Sees to it that somebody works towards the target.
    pub(crate) fn request(&self, target: Target) {
        let mut queue = self.queue.lock();
        if target.durability == Durability::Durable {
            queue.sync_to = queue.sync_to.max(target.end);
        }
        let is_led = self.vigil.is_led();
        drop(queue);
        if !is_led {
            self.parts.background.wake_all();
        }
    }

    /// Makes everything that was appended before durable, and returns the durable LSN.
    pub(crate) fn flush(&self) -> Result<Lsn> {
        // A poisoned log says so, even if all that it holds is durable.
        self.marks.check()?;
        // What a full disk refused at the end is not part of the log: it has failed already, and its place is not written yet.
        let end = self.marks.end_without_refused(self.next_lsn());
        let target = Target { end, durability: Durability::Durable };
        self.flush_to(target)?;
        Ok(self.marks.durable())
    }

    /// Makes everything below the target's end durable; leads if nobody does.
    pub(crate) fn flush_to(&self, target: Target) -> Result<()> {
        if let Some(outcome) = self.marks.outcome(target) {
            return outcome;
        }
        let mut queue = self.queue.lock();
        queue.sync_to = queue.sync_to.max(target.end);
        let lead = (!self.vigil.is_led()).then(Lead::default);
        self.vigil.set_led(&queue, true);
        drop(queue);
        if let Some(lead) = lead {
            self.lead(lead, Some(target));
        }
        self.wait_passively(target, None)
    }

    /// Latches the first failure and tells everybody.
    pub(crate) fn poison(&self, first: Error) {
        if self.parts.bugs.has(Bug::WaitersNotWoken) {
            return self.marks.set_poison_silently(first);
        }
        self.marks.set_poison(first);
        self.queue.lock().clear();
        self.wake_everybody();
    }

    fn wake_everybody(&self) {
        self.room.notify_all();
        self.sync_done.notify_all();
        for event in &self.groups_done {
            event.wake_all();
        }
        self.parts.background.wake_all();
        self.parts.preparation.wake_all();
    }

    /// Does all the work that is due: for [`Background::Inline`].
    pub(crate) fn poll(&self) -> Result<()> {
        if self.parts.config.background == Background::Threads {
            return self.marks.check();
        }
        if let Some(lead) = self.try_lead() {
            self.lead(lead, None);
        }
        self.sync_if_due();
        self.marks.check()
    }

    /// When the background thread has to look again at the latest.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = self.sync_due().filter(|_| self.marks.poison().is_none())?;
        let now = self.parts.clock.monotonic();
        Some(Instant::now() + due.saturating_sub(now).min(Duration::from_secs(3600)))
    }
}
