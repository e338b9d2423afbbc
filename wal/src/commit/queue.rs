//! What waits to be written: groups of frames, in LSN order, each in one segment.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::record::{FRAME_HEADER_BYTES, RecordType, encode, encode_padding};
use crate::segment::header::HEADER_BYTES;
use crate::segment::writer::{ActiveSegment, ReadySegment};

/// Buffers that grew beyond this are given back to the allocator when their group is written.
const SPARE_BYTES_MAX: usize = 8 << 20;
const SPARES_MAX: usize = 3;

/// A record on its way into the queue.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Input<'a> {
    pub(crate) record_type: RecordType,
    pub(crate) payload: &'a [u8],
    pub(crate) checksum: u32,
}

/// Frames that are written with one call.
#[derive(Debug)]
pub(crate) struct Group {
    /// Counts the groups; its lowest bit chooses the event its waiters sleep on.
    pub(crate) sequence: u64,
    pub(crate) segment: Arc<ActiveSegment>,
    /// The first group of its segment: its bytes begin with room for the segment header.
    pub(crate) starts_segment: bool,
    pub(crate) first: Lsn,
    pub(crate) end: Lsn,
    pub(crate) bytes: AlignedBuffer,
    /// Where the frames begin in `bytes`: behind the room for the segment header, or for the part of their block that is written already.
    pub(crate) frames_at: usize,
    pub(crate) records: u64,
    pub(crate) wants_sync: bool,
    /// Blocked appenders, and waiters for tickets, that may be asked to lead.
    pub(crate) candidates: u32,
}

impl Group {
    /// A group without records.
    fn new(segment: Arc<ActiveSegment>) -> Group {
        Group {
            sequence: 0,
            segment,
            starts_segment: false,
            first: Lsn::ZERO,
            end: Lsn::ZERO,
            bytes: AlignedBuffer::default(),
            frames_at: 0,
            records: 0,
            wants_sync: false,
            candidates: 0,
        }
    }

    /// Takes its records out; the buffer keeps its memory.
    fn clear(&mut self) {
        self.bytes.clear();
        self.records = 0;
        self.wants_sync = false;
        self.candidates = 0;
    }
}

/// Where the records of one append went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) first: Lsn,
    pub(crate) last: Lsn,
    pub(crate) end: Lsn,
    pub(crate) group: u64,
}

/// The next segment.
#[derive(Debug)]
pub(crate) enum Next {
    /// Nobody asked for it.
    Missing,
    /// It was asked for.
    Requested,
    /// Somebody is preparing it, and nobody else may.
    Preparing,
    Ready(ReadySegment),
    Failed(Error),
}

impl Next {
    /// Waiting for it makes sense.
    pub(crate) fn is_coming(&self) -> bool {
        matches!(self, Next::Requested | Next::Preparing)
    }
}

/// Who waits for the next segment, and so how it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awaited {
    /// Nobody: it is made in step with the log.
    ByNobody,
    /// Somebody else than an append: it is made without rests, in small steps, because appends go on meanwhile.
    BesideAppends,
    /// Appends: it is made without rests, in large steps.
    ByAppends,
}

/// What an append has to do before it can be admitted.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    Admitted,
    /// Too many bytes wait already.
    QueueFull,
    /// The active segment has no room and the next one is not ready.
    NeedsSegment,
}

/// The state under the queue lock.
#[derive(Debug)]
pub(crate) struct Queue {
    pub(crate) groups: VecDeque<Box<Group>>,
    /// Written groups, empty again: each keeps its buffer and its hold on the active segment.
    #[expect(
        clippy::vec_box,
        reason = "a group goes back and forth between here, the queue and the leader, and is large"
    )]
    spare: Vec<Box<Group>>,
    queued_bytes: usize,
    next_sequence: u64,
    /// Where the log went on in the active segment: the LSN, and the sequence of the next group.
    entered_at: (Lsn, u64),
    /// The LSN the next record gets.
    pub(crate) next_lsn: Lsn,
    /// The segment the next record goes to, unless it has no room.
    pub(crate) segment: Arc<ActiveSegment>,
    pub(crate) next_segment: Next,
    /// Once the log ends here or later, the preparation of the next segment is due, or its next step is.
    pub(crate) prepare_at: Lsn,
    /// Who waits until the next segment is prepared.
    pub(crate) awaited: Awaited,
    /// Groups end where blocks do.
    pads_groups: bool,
    /// Somebody asked for everything below this to be durable.
    pub(crate) sync_to: Lsn,
    /// Closed, or in the middle of a change of structure: nothing is admitted.
    pub(crate) is_paused: bool,
    pub(crate) is_closed: bool,
}

/// Once an eighth of a segment is used the next one is prepared: a log that stays small never has a second one.
fn fill_begins_at(segment: &ActiveSegment) -> Lsn {
    segment.base.advance(segment.limit.distance_from(segment.base) / 8)
}

impl Queue {
    pub(crate) fn new(segment: Arc<ActiveSegment>, next_lsn: Lsn, pads_groups: bool) -> Queue {
        Queue {
            groups: VecDeque::new(),
            spare: Vec::new(),
            queued_bytes: 0,
            next_sequence: 0,
            entered_at: (next_lsn, 0),
            next_lsn,
            prepare_at: fill_begins_at(&segment),
            segment,
            next_segment: Next::Missing,
            awaited: Awaited::ByNobody,
            pads_groups,
            sync_to: Lsn::ZERO,
            is_paused: false,
            is_closed: false,
        }
    }

    /// Whether frames of `bytes` can be pushed now. The last `reserve` bytes of a segment are for appends that ask for the reserve,
    /// unless the next segment is ready: so a checkpoint record finds room on a full disk.
    #[inline]
    pub(crate) fn admit(&self, bytes: u64, queue_bytes_max: usize, reserve: u64) -> Result<Admission> {
        if self.next_lsn.distance_from(Lsn::ZERO) + bytes > Lsn::LIMIT.get() {
            let detail = "the log sequence numbers end at 2^63";
            return Err(Error::new(ErrorKind::Exhausted, "append", detail).at_lsn(self.next_lsn));
        }
        if self.queued_bytes > 0 && self.queued_bytes as u64 + bytes > queue_bytes_max as u64 {
            return Ok(Admission::QueueFull);
        }
        let room = self.segment.limit.distance_from(self.next_lsn);
        let is_ready = matches!(self.next_segment, Next::Ready(_));
        // The open group may have to be padded before the append gets a group of its own.
        if is_ready || bytes + reserve + self.padding_bytes() <= room {
            Ok(Admission::Admitted)
        } else {
            Ok(Admission::NeedsSegment)
        }
    }

    /// Appends the frames of one append, which was admitted, and rotates first if the segment has no room for them.
    #[inline]
    pub(crate) fn push<'a>(
        &mut self,
        inputs: impl Iterator<Item = Input<'a>>,
        bytes: u64,
        group_bytes_max: usize,
        wants_sync: bool,
    ) -> Place {
        self.open_group(bytes as usize, group_bytes_max);
        let group = self.groups.back_mut().expect("a group was just opened");
        let first = self.next_lsn;
        let start = group.bytes.len();
        let mut last_at = start;
        let mut inputs = inputs.peekable();
        while let Some(input) = inputs.next() {
            last_at = group.bytes.len();
            encode(&mut group.bytes, input.record_type, inputs.peek().is_some(), input.payload, input.checksum);
            group.records += 1;
        }
        assert!(group.bytes.len() - start == bytes as usize, "an append takes the bytes it was admitted with");
        let end = first.advance(bytes);
        group.end = end;
        group.wants_sync |= wants_sync;
        self.queued_bytes += bytes as usize;
        self.next_lsn = end;
        let last = first.advance((last_at - start) as u64);
        Place { first, last, end, group: group.sequence }
    }

    fn rotate(&mut self) {
        let Next::Ready(ready) = std::mem::replace(&mut self.next_segment, Next::Missing) else {
            unreachable!("an append that does not fit is admitted only when the next segment is ready")
        };
        self.go_on_in(self.segment.successor(ready, self.next_lsn));
        self.new_group(true);
    }

    /// The next record goes to the start of `segment`.
    pub(crate) fn go_on_in(&mut self, segment: Arc<ActiveSegment>) {
        self.next_lsn = segment.base;
        self.entered_at = (segment.base, self.next_sequence);
        self.prepare_at = fill_begins_at(&segment);
        // What is spare holds on to no segment but the active one.
        self.spare.iter_mut().for_each(|group| group.segment = Arc::clone(&segment));
        self.segment = segment;
    }

    /// Where the log ends when so many of the next segment's bytes are to be filled: they all are when five eighths of this one are used.
    pub(crate) fn fill_due_at(&self, done: u64, total: u64) -> Lsn {
        let room = self.segment.limit.distance_from(self.segment.base);
        // The product does not overflow: a segment has at most 2^30 bytes.
        fill_begins_at(&self.segment).advance(done * (room / 2) / total)
    }

    /// How large the groups were on average that the active segment has got, in bytes.
    pub(crate) fn group_bytes_mean(&self) -> u64 {
        let (lsn, sequence) = self.entered_at;
        self.next_lsn.distance_from(lsn) / (self.next_sequence - sequence).max(1)
    }

    /// Makes the last group one that an append of `bytes` joins.
    #[inline]
    fn open_group(&mut self, bytes: usize, group_bytes_max: usize) {
        let has_room = |queue: &Queue| bytes as u64 <= queue.segment.limit.distance_from(queue.next_lsn);
        let joins = self.groups.back().is_some_and(|group| {
            Arc::ptr_eq(&group.segment, &self.segment)
                && (group.records == 0 || group.bytes.len() + bytes <= group_bytes_max)
        });
        if joins && has_room(self) {
            return;
        }
        self.pad_last_group();
        if has_room(self) {
            self.new_group(false);
        } else {
            self.rotate();
        }
    }

    /// How many bytes the last group needs to end where a block does; 0 if it does, or need not, or was taken already.
    fn padding_bytes(&self) -> u64 {
        let used = self.segment.offset_of(self.next_lsn) % BLOCK_BYTES as u64;
        if !self.pads_groups || used == 0 || self.groups.is_empty() {
            return 0;
        }
        let left = BLOCK_BYTES as u64 - used;
        // Padding is a frame. If not even its header fits it goes on through the next block, and if there is none the segment is full.
        let bytes = if left < FRAME_HEADER_BYTES as u64 { left + BLOCK_BYTES as u64 } else { left };
        if bytes <= self.segment.limit.distance_from(self.next_lsn) { bytes } else { 0 }
    }

    fn pad_last_group(&mut self) {
        let bytes = self.padding_bytes();
        if bytes == 0 {
            return;
        }
        let group = self.groups.back_mut().expect("only a group that waits is padded");
        encode_padding(&mut group.bytes, bytes as usize);
        self.next_lsn = self.next_lsn.advance(bytes);
        group.end = self.next_lsn;
        self.queued_bytes += bytes as usize;
    }

    fn new_group(&mut self, starts_segment: bool) {
        let mut group = self.spare.pop().unwrap_or_else(|| Box::new(Group::new(Arc::clone(&self.segment))));
        group.sequence = self.next_sequence;
        group.starts_segment = starts_segment;
        group.first = self.next_lsn;
        group.end = self.next_lsn;
        group.frames_at = if starts_segment { HEADER_BYTES as usize } else { self.segment.block_prefix(self.next_lsn) };
        group.bytes.extend_zeros(group.frames_at);
        self.groups.push_back(group);
        self.next_sequence += 1;
    }

    pub(crate) fn pop(&mut self) -> Option<Box<Group>> {
        if self.groups.len() == 1 {
            self.pad_last_group();
        }
        let group = self.groups.pop_front()?;
        self.queued_bytes -= group.end.distance_from(group.first) as usize;
        Some(group)
    }

    pub(crate) fn clear(&mut self) {
        self.groups.clear();
        self.queued_bytes = 0;
    }

    /// Keeps a written group, with its buffer, to be a later one.
    pub(crate) fn give_back(&mut self, group: Option<Box<Group>>) {
        if let Some(mut group) = group
            && group.bytes.capacity() <= SPARE_BYTES_MAX
            && self.spare.len() < SPARES_MAX
        {
            group.clear();
            if !Arc::ptr_eq(&group.segment, &self.segment) {
                group.segment = Arc::clone(&self.segment);
            }
            self.spare.push(group);
        }
    }
}
