//! The leader: takes groups off the queue and writes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::queue::{Awaited, Group, Next, Queue};
use super::{Commit, GATHER_RECORDS_MAX, TIMED_APPENDS};
use crate::buffer::BLOCK_BYTES;
use crate::config::Background;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::lsn::Lsn;
use crate::museum::Bug;
use crate::record::{FRAME_HEADER_BYTES, first_frame_bytes, padding_header, stamp};
use crate::segment::header::SegmentHeader;
use crate::segment::writer::{ActiveSegment, ReadySegment};
use crate::sync::MutexGuard;
use crate::sync::atomic::Ordering;
use crate::watermark::{Durability, Target};

/// A write into the page cache takes about so long: to wait longer for others is not worth it.
const GATHER_WRITTEN_MAX: Duration = Duration::from_micros(1);

/// A leader that keeps its core while it waits may keep it from those it waits for, so not for long.
const GATHER_CROWDED_MAX: Duration = Duration::from_micros(25);

/// What only the leader knows: the end of what is written.
#[derive(Debug)]
pub(crate) struct Tail {
    /// The header checksum of the last frame of the active segment; 0 if it has none.
    pub(crate) last_checksum: u32,
    /// Where a full disk refused groups: their LSNs are spent, so padding takes their place before the next group is written.
    /// Oldest first, at most one in a segment.
    holes: Vec<Hole>,
    /// With direct I/O: the bytes of the last, partly filled block. The next group writes them again.
    block: Vec<u8>,
}

#[derive(Debug)]
struct Hole {
    segment: Arc<ActiveSegment>,
    first: Lsn,
    /// The segment's header is still missing too.
    needs_header: bool,
}

impl Hole {
    fn in_place_of(group: &Group) -> Hole {
        Hole { segment: Arc::clone(&group.segment), first: group.first, needs_header: group.starts_segment }
    }
}

impl Tail {
    /// A tail behind a frame with this checksum, in a block that begins with `block`.
    pub(crate) fn new(last_checksum: u32, block: Vec<u8>) -> Tail {
        Tail { last_checksum, holes: Vec::new(), block }
    }

    /// The LSN from which on nothing is written, if a full disk left a hole.
    pub(crate) fn hole(&self) -> Option<Lsn> {
        self.holes.first().map(|hole| hole.first)
    }
}

/// Whoever has this is the leader.
#[derive(Debug, Default)]
#[must_use = "the leader has to lead, or the log stands still"]
pub(super) struct Lead {
    /// The group it took when it got the lead.
    pub(super) first: Option<Box<Group>>,
}

enum Work {
    Group(Box<Group>),
    SyncTo(Lsn),
}

/// The bytes of the block that holds `end`, up to `end`.
pub(crate) fn partial_block(segment: &ActiveSegment, end: Lsn) -> Result<Vec<u8>> {
    let mut block = vec![0; segment.block_prefix(end)];
    let offset = segment.offset_of(end) - block.len() as u64;
    let read = segment.file.read_at(&mut block, offset)?;
    if read < block.len() {
        let detail = "the file ends before the records that were written to it";
        return Err(Error::new(ErrorKind::Io, "read back the last block of", detail).at_path(segment.file.path()));
    }
    Ok(block)
}

/// Poisons the log if its leader dies, so that its followers neither hang nor are told what is not true.
struct LeaderGuard<'a> {
    commit: &'a Commit,
    /// The thread was panicking before it led: it appends from a destructor, and nothing is wrong here.
    was_panicking: bool,
}

impl<'a> LeaderGuard<'a> {
    fn new(commit: &'a Commit) -> LeaderGuard<'a> {
        LeaderGuard { commit, was_panicking: std::thread::panicking() }
    }
}

impl Drop for LeaderGuard<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.was_panicking {
            let detail = "the thread that was writing a group panicked";
            self.commit.poison(Error::new(ErrorKind::Io, "write group", detail));
            self.commit.vigil.set_led(&self.commit.queue.lock(), false);
            self.commit.room.notify_all();
        }
    }
}

/// A pause: nothing is admitted, and only who holds it writes. Dropping it ends it.
#[must_use = "a pause ends when it is dropped"]
pub(crate) struct Pause<'a> {
    commit: &'a Commit,
}

impl Drop for Pause<'_> {
    fn drop(&mut self) {
        self.commit.resume();
    }
}

impl Commit {
    /// Takes the lead if nobody has it and there is something to do.
    pub(super) fn try_lead(&self) -> Option<Lead> {
        let queue = self.queue.lock();
        let leads = !self.vigil.is_led() && self.has_work(&queue);
        if leads {
            self.vigil.set_led(&queue, true);
        }
        leads.then(Lead::default)
    }

    fn has_work(&self, queue: &Queue) -> bool {
        !queue.groups.is_empty() || (queue.sync_to > self.marks.durable() && self.marks.poison().is_none())
    }

    /// Works as the leader until `own` is decided, or until there is nothing left to do. The lead is given up on return.
    pub(super) fn lead(&self, lead: Lead, own: Option<Target>) {
        let _guard = LeaderGuard::new(self);
        let mut work = lead.first.map(Work::Group);
        let mut used = None;
        while let Some(next) = work.or_else(|| self.take_work(&mut used)) {
            used = self.run(next);
            if own.is_some_and(|target| self.marks.outcome(target).is_some()) {
                return self.hand_over(used);
            }
            work = None;
        }
    }

    /// Does one piece of work. The lead is given up on return.
    pub(super) fn lead_once(&self, lead: Lead) {
        let _guard = LeaderGuard::new(self);
        let mut used = None;
        if let Some(work) = lead.first.map(Work::Group).or_else(|| self.take_work(&mut used)) {
            let used = self.run(work);
            self.hand_over(used);
        }
    }

    /// The next piece of work; `None` gives up the lead. The group before serves as a later one.
    fn take_work(&self, used: &mut Option<Box<Group>>) -> Option<Work> {
        self.gather();
        let mut queue = self.queue.lock();
        queue.give_back(used.take());
        if let Some(group) = self.take_group(&mut queue) {
            return Some(Work::Group(group));
        }
        if self.has_work(&queue) {
            return Some(Work::SyncTo(queue.sync_to));
        }
        self.vigil.set_led(&queue, false);
        self.room.notify_all();
        None
    }

    /// The oldest group, for the leader.
    pub(super) fn take_group(&self, queue: &mut Queue) -> Option<Box<Group>> {
        let group = queue.pop()?;
        self.arrived.store(0, Ordering::Relaxed);
        self.room.notify_all();
        Some(group)
    }

    /// Whether the leader waits for others before it takes a group.
    pub(super) fn expects_more(&self) -> bool {
        let expected = self.expected.load(Ordering::Relaxed);
        expected > 1 && self.arrived.load(Ordering::Relaxed) < expected
    }

    /// Waits a moment for as many records as the last group acknowledged: whoever appended those is about to come back, and one sync
    /// for all is worth more than the wait. A lone appender expects nobody and waits for nothing.
    fn gather(&self) {
        if !self.expects_more() {
            return;
        }
        let is_synced = self.default_durability() == Durability::Durable;
        let gather_max = self.parts.config.gather_max;
        let gather_max = if is_synced { gather_max } else { gather_max.min(GATHER_WRITTEN_MAX) };
        let mut now = Instant::now();
        let start = now;
        while self.expects_more() && now < start + gather_max {
            // To let others run takes longer than a write into the page cache does, and where cores are scarce much longer.
            let is_crowded = self.vigil.is_crowded(now);
            if is_crowded && now >= start + GATHER_CROWDED_MAX {
                return;
            }
            now = if is_synced && !is_crowded {
                self.vigil.let_others_run(now)
            } else {
                std::hint::spin_loop();
                Instant::now()
            };
        }
    }

    /// Gives up the lead, with the last group, and finds somebody to take it, if there is work.
    fn hand_over(&self, used: Option<Box<Group>>) {
        let mut queue = self.queue.lock();
        queue.give_back(used);
        self.vigil.set_led(&queue, false);
        self.room.notify_all();
        if !self.has_work(&queue) {
            return;
        }
        let candidate = queue.groups.front().filter(|group| group.candidates > 0).map(|group| group.sequence);
        drop(queue);
        match candidate {
            // Everybody who sleeps on this event waits for this group or a later one, so whoever wakes can lead.
            Some(sequence) => self.groups_done[(sequence & 1) as usize].wake_one(),
            None => {
                self.parts.background.wake_all();
                if self.parts.config.background == Background::Inline {
                    // Without a background thread whoever waits takes his turn.
                    self.marks.changed.wake_all();
                    self.groups_done.iter().for_each(Event::wake_all);
                }
            }
        }
    }

    /// Does one piece of work, and tells those who wait for it. Returns the group that it wrote.
    fn run(&self, work: Work) -> Option<Box<Group>> {
        let mut group = match work {
            Work::Group(group) => group,
            Work::SyncTo(end) => {
                // A failure is latched and reaches everybody through the marks.
                if self.fill_hole_for_sync(end).is_ok() && self.sync_to(end.min(self.marks.written())).is_ok() {
                    self.forget_unreachable_sync(end);
                }
                return None;
            }
        };
        let started = group.wants_sync.then(Instant::now);
        self.write_and_sync(&mut group);
        if let Some(started) = started {
            self.vigil.note_sync(started.elapsed());
        }
        let expected = if group.records <= GATHER_RECORDS_MAX { group.records as u32 } else { 0 };
        self.expected.store(expected, Ordering::Relaxed);
        // With a fence: the sync that covers the group, and moved the mark, may have been made by another thread.
        self.groups_done[(group.sequence & 1) as usize].wake_all();
        Some(group)
    }

    /// A sync that was asked for past everything that exists (its records were refused by a full disk) is over.
    fn forget_unreachable_sync(&self, end: Lsn) {
        let mut queue = self.queue.lock();
        if queue.sync_to == end && self.marks.durable() < end {
            queue.sync_to = self.marks.durable();
        }
    }

    fn write_and_sync(&self, group: &mut Group) {
        let is_held_back = match self.write(group) {
            Ok(is_held_back) => is_held_back,
            Err(error) if error.is_full() && !self.parts.config.poison_if_write_is_full => {
                return self.marks.fail_range(group.first, group.end, error);
            }
            Err(error) => return self.poison(error.at_lsn(group.first)),
        };
        let is_due = self.note_unsynced(group.end);
        if group.wants_sync || is_held_back || is_due {
            if self.default_durability() == Durability::Written && !is_held_back {
                // Those who are content with what is written need not wait for the sync.
                self.groups_done[(group.sequence & 1) as usize].wake_all();
            }
            // A failure is latched and reaches everybody through the marks.
            drop(self.sync_to(group.end));
        }
    }

    /// Writes one group with one call. Returns whether the written mark is held back until the group is synced, because it reaches the
    /// bytes that may be lost in `batch` mode.
    fn write(&self, group: &mut Group) -> Result<bool> {
        let mut tail = self.tail.lock();
        let witness = self.marks.durable();
        let written_witness = if self.parts.bugs.has(Bug::WitnessStuckAtZero) { Lsn::ZERO } else { witness };
        self.fill_holes(&mut tail, group, witness)?;
        let segment = &group.segment;
        let bytes = group.bytes.as_mut_slice();
        let offset = if group.starts_segment {
            let header = self.header_for(segment, tail.last_checksum, written_witness);
            bytes[..group.frames_at].copy_from_slice(&header.encode());
            self.begin_sync_of(segment);
            0
        } else {
            bytes[..group.frames_at].copy_from_slice(&tail.block[..group.frames_at]);
            segment.offset_of(group.first) - group.frames_at as u64
        };
        let last = stamp(&mut bytes[group.frames_at..], segment.identity, group.first, written_witness);
        let is_timed = group.wants_sync || group.sequence.is_multiple_of(TIMED_APPENDS);
        let started = is_timed.then(Instant::now);
        let content = group.bytes.len();
        if segment.is_recycled {
            // Zeros behind the last frame, so that what was here before is not taken for a torn write. The next group goes over them.
            let room = segment.limit.distance_from(group.end) as usize;
            group.bytes.extend_zeros(FRAME_HEADER_BYTES.min(room));
        }
        let result = match &segment.direct {
            Some(direct) => {
                let unpadded = group.bytes.len();
                group.bytes.extend_zeros(unpadded.next_multiple_of(BLOCK_BYTES) - unpadded);
                direct.write_at(group.bytes.as_slice(), offset)
            }
            None => segment.file.write_at(group.bytes.as_slice(), offset),
        };
        if let Err(error) = result {
            if error.is_full() && !self.parts.bugs.has(Bug::HalfRecordOnFullDisk) {
                // Frames that got through are not to be found by a recovery before padding takes their place. If this fails too, nobody
                // knows what is found, unless not even the first of them got through whole.
                let first_at = segment.offset_of(group.first);
                let first_end = first_at + first_frame_bytes(&group.bytes.as_slice()[group.frames_at..]);
                let blank = segment.file.write_at(&[0; FRAME_HEADER_BYTES], first_at);
                if let Err(second) = blank
                    && !(second.is_full() && error.offset().is_some_and(|at| at < first_end))
                {
                    return Err(second.into_io().at_lsn(group.first));
                }
                tail.holes.push(Hole::in_place_of(group));
            }
            return Err(error.at_lsn(group.first));
        }
        let metrics = &self.parts.metrics;
        metrics.groups.add_under_lock(1);
        metrics.written_bytes.add_under_lock(group.bytes.len() as u64);
        if let Some(started) = started {
            metrics.write.record_duration(started.elapsed());
            metrics.group_records.record(group.records);
            metrics.group_bytes.record(group.bytes.len() as u64);
        }
        if group.starts_segment {
            self.note_rotation(segment);
        }
        // Whatever a direct write leaves behind it is durable only if all before it is.
        let is_durable = segment.direct.is_some() && witness >= group.first;
        tail.last_checksum = last.unwrap_or(tail.last_checksum);
        tail.block.clear();
        if segment.direct.is_some() {
            tail.block.extend_from_slice(&group.bytes.as_slice()[content - content % BLOCK_BYTES..content]);
            let frames = &group.bytes.as_slice()[group.frames_at..content];
            self.last_written.push(segment.number, segment.epoch, group.first, frames);
        }
        // Wakers may look at the log at once, so no lock is held when they are woken.
        drop(tail);
        let is_held_back = self.reaches_bytes_at_risk(group.end);
        if !is_held_back {
            self.marks.publish_written(group.end);
        }
        if is_durable {
            self.marks.publish_durable(group.end);
            metrics.syncs.add(1);
            if group.starts_segment {
                self.forget_synced();
            }
            if let Some(started) = started {
                metrics.sync.record_duration(started.elapsed());
            }
        }
        Ok(is_held_back)
    }

    /// The header of a segment that starts right where its predecessor ends.
    fn header_for(&self, segment: &ActiveSegment, predecessor_checksum: u32, witness: Lsn) -> SegmentHeader {
        SegmentHeader {
            log_id: segment.log_id,
            segment: segment.number,
            epoch: segment.epoch,
            base: segment.base,
            predecessor_end: segment.base,
            predecessor_checksum,
            witness,
            limit: segment.limit,
            sealed_end: None,
            created_micros: self.parts.clock.unix_micros(),
        }
    }

    fn note_rotation(&self, segment: &ActiveSegment) {
        self.parts.chain.push(segment.number, segment.base, segment.base);
        self.parts.metrics.rotations.add(1);
        crate::observe::rotated(segment.number, segment.base);
    }

    /// Writes padding where a full disk refused groups, up to the start of `group`.
    fn fill_holes(&self, tail: &mut Tail, group: &Group, witness: Lsn) -> Result<()> {
        let result = self.fill_holes_to(tail, group.first, witness);
        if result.is_err() && tail.holes.last().is_some_and(|hole| !Arc::ptr_eq(&hole.segment, &group.segment)) {
            // This group is refused too. It is the first of its segment, whose header is then missing as well.
            tail.holes.push(Hole::in_place_of(group));
        }
        result
    }

    fn fill_holes_to(&self, tail: &mut Tail, end: Lsn, witness: Lsn) -> Result<()> {
        while let Some(hole) = tail.holes.first() {
            let hole_end = tail.holes.get(1).map_or(end, |next| next.first);
            let frame_bytes = hole_end.distance_from(hole.first);
            let padding = padding_header(hole.segment.identity, hole.first, witness, frame_bytes);
            let segment = Arc::clone(&hole.segment);
            if hole.needs_header {
                let header = self.header_for(&segment, tail.last_checksum, witness).encode();
                self.begin_sync_of(&segment);
                segment.file.write_at(&[&header[..], &padding[..]].concat(), 0)?;
                self.note_rotation(&segment);
            } else {
                segment.file.write_at(&padding, segment.offset_of(hole.first))?;
            }
            tail.last_checksum = u32::from_le_bytes(padding[..4].try_into().expect("four bytes"));
            if segment.direct.is_some() {
                // A sync that ran out of space has lost data, so it is not the refusal of a write.
                segment.file.sync_data().map_err(Error::into_io)?;
                tail.block = partial_block(&segment, hole_end)?;
            }
            tail.holes.remove(0);
        }
        Ok(())
    }

    /// If a sync is asked for beyond a hole and nothing follows it, the padding is written now.
    fn fill_hole_for_sync(&self, end: Lsn) -> Result<()> {
        // The hole reaches to the next group. Only the leader takes groups, so its start does not change meanwhile.
        let hole_end = {
            let queue = self.queue.lock();
            queue.groups.front().map_or(queue.next_lsn, |group| group.first)
        };
        let mut tail = self.tail.lock();
        if tail.holes.is_empty() || end <= self.marks.written() {
            return Ok(());
        }
        let witness = self.marks.durable();
        match self.fill_holes_to(&mut tail, hole_end, witness) {
            Ok(()) => {
                drop(tail);
                self.marks.publish_written(hole_end);
                Ok(())
            }
            // Still no room: what is asked for was refused before, and whoever waits has been told.
            Err(error) if error.is_full() => Ok(()),
            Err(error) => {
                drop(tail);
                self.poison(error.clone());
                Err(error)
            }
        }
    }

    /// Stops admission, lets everything queued be written, and returns as the only one who may write.
    pub(crate) fn pause(&self) -> Result<Pause<'_>> {
        let mut queue = self.queue.lock();
        queue.is_paused = true;
        while self.vigil.is_led() {
            self.room.wait(&mut queue);
        }
        self.vigil.set_led(&queue, true);
        drop(queue);
        let pause = Pause { commit: self };
        let _guard = LeaderGuard::new(self);
        loop {
            let group = self.queue.lock().pop();
            let Some(group) = group else { break };
            let used = self.run(Work::Group(group));
            self.queue.lock().give_back(used);
        }
        // A group that could not be written has poisoned the log: nothing may be built on records that are not there.
        self.marks.check()?;
        self.sync_to(self.marks.written()).map(|()| pause)
    }

    /// Admits appends again after a pause.
    fn resume(&self) {
        let mut queue = self.queue.lock();
        queue.is_paused = false;
        self.vigil.set_led(&queue, false);
        drop(queue);
        self.wake_everybody();
        self.marks.changed.wake_all();
    }

    /// Has the next segment prepared, so that a pause that needs it is likely to be short. Appends may take it before; it is not waited for again.
    pub(crate) fn await_next_segment(&self) -> Result<()> {
        self.wait_for_segment(self.queue.lock(), Awaited::BesideAppends, &mut false).map(drop)
    }

    /// While paused: takes the prepared segment, preparing it if need be.
    fn take_next_segment(&self) -> Result<ReadySegment> {
        let mut queue = self.queue.lock();
        let mut has_tried = false;
        while !matches!(queue.next_segment, Next::Ready(_)) {
            self.marks.check()?;
            queue = self.wait_for_segment(queue, Awaited::ByAppends, &mut has_tried)?;
        }
        match std::mem::replace(&mut queue.next_segment, Next::Missing) {
            Next::Ready(ready) => Ok(ready),
            _ => unreachable!("it is ready, and the queue is locked"),
        }
    }

    /// While paused: seals the active segment where it ends and goes on in the next one, whose header is made durable.
    pub(crate) fn seal_active(&self) -> Result<()> {
        self.settle_holes()?;
        let ready = self.take_next_segment()?;
        let (active, end, last_checksum) = self.end_of_log();
        let next = active.successor(ready, end);
        let header = self.header_for(&next, last_checksum, self.marks.durable());
        let written = next.file.write_at(&header.encode(), 0);
        // If there is no room for the header, the prepared segment stays behind, unused, and is prepared anew when it is needed.
        let synced = written.and_then(|()| next.file.sync_data().map_err(Error::into_io));
        if let Err(error) = synced {
            if !error.is_full() {
                self.poison(error.clone());
            }
            return Err(error);
        }
        self.note_rotation(&next);
        self.adopt(next);
        Ok(())
    }

    /// While paused: goes on in `segment`, which has no frame yet, with everything below its base durable.
    pub(crate) fn adopt(&self, segment: Arc<ActiveSegment>) {
        let next = segment.base;
        let mut tail = self.tail.lock();
        let checksum = if self.parts.bugs.has(Bug::StaleChecksumAfterCut) { tail.last_checksum } else { 0 };
        *tail = Tail::new(checksum, Vec::new());
        drop(tail);
        self.restart_sync_with(Arc::clone(&segment));
        let mut queue = self.queue.lock();
        queue.go_on_in(segment);
        drop(queue);
        self.marks.publish_written(next);
        self.marks.publish_durable(next);
    }

    /// While paused: the active segment, the end of the log and the checksum of its last frame.
    pub(crate) fn end_of_log(&self) -> (Arc<ActiveSegment>, Lsn, u32) {
        let queue: MutexGuard<'_, Queue> = self.queue.lock();
        (Arc::clone(&queue.segment), queue.next_lsn, self.tail.lock().last_checksum)
    }

    /// While paused: writes padding into what a full disk refused, so that the log can end behind it.
    pub(crate) fn settle_holes(&self) -> Result<()> {
        let end = self.next_lsn();
        let mut tail = self.tail.lock();
        if tail.hole().is_none() {
            return Ok(());
        }
        let filled = self.fill_holes_to(&mut tail, end, self.marks.durable());
        drop(tail);
        if let Err(error) = &filled
            && !error.is_full()
        {
            self.poison(error.clone());
        }
        filled?;
        self.marks.publish_written(end);
        self.sync_to(end)
    }

    /// While paused: admits nothing any more.
    pub(crate) fn shut(&self) {
        self.queue.lock().is_closed = true;
        self.room.notify_all();
    }

    /// After [`Commit::shut`]: waits for a preparation that is under way, so that nothing is prepared in a directory that is let go.
    pub(crate) fn await_end_of_preparation(&self) {
        let mut queue = self.queue.lock();
        while matches!(queue.next_segment, Next::Preparing) {
            self.room.wait(&mut queue);
        }
    }

    /// While paused: gives up the prepared segment, which the caller removes. A preparation that is under way is waited for.
    pub(crate) fn take_prepared(&self) -> Option<u64> {
        let mut queue = self.queue.lock();
        while queue.next_segment.is_coming() && !queue.is_closed && self.marks.poison().is_none() {
            self.hurry(&mut queue, Awaited::ByAppends);
            self.room.wait(&mut queue);
        }
        match std::mem::replace(&mut queue.next_segment, Next::Missing) {
            Next::Ready(ready) => Some(ready.number),
            _ => None,
        }
    }

    /// After the close: lets everybody who still waits see it.
    pub(crate) fn release_all(&self) {
        self.resume();
        self.marks.wake_futures();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.queue.lock().is_closed
    }

    /// The loop of the background thread: drives what nobody waits for and the syncs that are due.
    /// Returns whether it wrote a group, so that there may be another.
    pub(crate) fn run_background(&self) -> bool {
        debug_assert!(self.parts.config.background == Background::Threads);
        // One group at a time, so that callbacks run and syncs are not late however much is submitted.
        let lead = self.try_lead();
        let leads = lead.is_some();
        if let Some(lead) = lead {
            self.lead_once(lead);
        }
        self.sync_if_due();
        leads
    }
}
