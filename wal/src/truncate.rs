//! Truncation: drops whole segments, rewrites the boundary, cuts the end. The order of the steps is the proof: see
//! `specs/contract.md`, "Truncation".

use crate::config::Background;
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::{LogFile, Temp};
use crate::gentle::{Haste, Rests};
use crate::lsn::Lsn;
use crate::museum::Bug;
use crate::recover::{Unnamed, name_active, write_active};
use crate::rewrite::{Replacement, replacement};
use crate::segment::chain::Link;
use crate::segment::header::{HeaderState, SegmentHeader};
use crate::segment::name;
use crate::segment::reader::{Found, SegmentFile, SegmentReader};
use crate::shared::{Shared, Structure};

/// The space of removed files is given back in steps of so many bytes.
const FREE_BYTES: u64 = 256 << 10;
/// So many files are freed in steps by one truncation: each needs a descriptor meanwhile.
const FREED_IN_STEPS_MAX: usize = 64;

/// How [`Wal::truncate_before_with`](crate::Wal::truncate_before_with) treats the segment in which the new start lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum TruncatePolicy {
    /// It is rewritten, so that not one byte before the new start stays.
    #[default]
    RewriteBoundary,
    /// It stays whole: the log then starts where that segment starts, and nothing is copied.
    WholeSegments,
}

/// What became of the boundary segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Boundary {
    /// The new start is where the segment starts.
    Untouched,
    /// It was rewritten and begins with the first kept record.
    Rewritten,
    /// The disk is too full to rewrite it. Its dead bytes stay until the next truncation; no reader sees them.
    Deferred,
}

/// What a truncation did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Truncation {
    /// The start of the log afterwards.
    pub start_lsn: Lsn,
    /// The end of the log afterwards.
    pub end_lsn: Lsn,
    /// The LSN of the next record.
    pub next_lsn: Lsn,
    /// Segments that were removed, including those kept aside to be used again.
    pub segments_removed: u64,
    /// Bytes given back to the file system.
    pub bytes_freed: u64,
    /// What became of the boundary segment.
    pub boundary: Boundary,
}

/// Removes the records before `lsn`. See [`Wal::truncate_before_with`](crate::Wal::truncate_before_with).
pub(crate) fn truncate_before(shared: &Shared, lsn: Lsn, policy: TruncatePolicy) -> Result<Truncation> {
    let mut structure = shared.structure.lock();
    shared.check_open(&structure, "truncate log")?;
    let guard = shared.commit.guard_change();
    check_rails(shared, &structure, lsn)?;
    let mut plan = plan_start(shared, lsn, policy)?;
    let is_done = plan.start <= shared.chain.start() && plan.link.number == structure.control.start_segment;
    if is_done && (plan.start <= plan.link.base || policy == TruncatePolicy::WholeSegments) {
        return Ok(untouched(shared));
    }
    let mut boundary = Boundary::Untouched;
    if plan.start > plan.link.base && plan.link.end.is_none() {
        match seal(shared) {
            Ok(()) => plan = plan_start(shared, lsn, policy)?,
            Err(error) if error.is_full() => boundary = Boundary::Deferred,
            Err(error) => return Err(error),
        }
    }
    // The copy is complete and synced before anything is committed, so damage found while copying leaves the old log.
    let mut copy = None;
    if plan.start > plan.link.base && boundary == Boundary::Untouched {
        match copy_boundary(shared, &plan) {
            Ok(replacement) => (copy, boundary) = (Some(replacement), Boundary::Rewritten),
            Err(error) if error.is_full() => boundary = Boundary::Deferred,
            Err(error) => return Err(error),
        }
    }
    if plan.link.base >= shared.commit.marks.durable() {
        // The control file is about to name this segment as required, so its header must be durable.
        shared.commit.flush()?;
    }
    let change = |control: &mut Control| {
        control.start_segment = plan.link.number;
        control.start = plan.start;
        control.witness = shared.commit.marks.durable();
    };
    if let Err(error) = shared.update_control(&mut structure, change) {
        let Some(Replacement { temp, .. }) = copy.take() else { return Err(error) };
        shared.dir.abandon(temp)?;
        if !error.is_full() {
            return Err(error);
        }
        // The copy took the last room. Without it the segments before the boundary can go at least.
        boundary = Boundary::Deferred;
        shared.update_control(&mut structure, change)?;
    }
    let dropped = shared.chain.drop_before(plan.link.number, plan.start);
    let Retired { mut files, mut bytes_freed } = retire(shared, &dropped)?;
    let segments_removed = dropped.len() as u64;
    if plan.link.end.is_none() && shared.dir.bugs.has(Bug::ActiveSegmentDeleted) {
        shared.dir.remove(&name::segment(plan.link.number))?;
    }
    if let Some(Replacement { temp, header, .. }) = copy {
        bytes_freed += header.base.distance_from(plan.link.base);
        // Held open, so that its space is not given back at once. If it cannot be opened, that is all that is lost.
        let replaced = shared.dir.find_file(&name::segment(header.segment), OpenMode::Write).ok().flatten();
        shared.commit_temp(temp)?;
        // Whoever has a hold may be copying what is kept of it by means that know nothing of locks.
        files.extend(replaced.filter(|_| shared.holds.lock().oldest().is_none()));
        shared.chain.rebase(header.segment, header.base);
    }
    if segments_removed > 0 {
        shared.sync_dir()?;
    }
    if boundary == Boundary::Deferred || shared.commit.has_failed_preparation() {
        // The disk is full, and others wait for the room: closed, the files give it back at once.
        files.clear();
    }
    shared.restore_reserve();
    shared.commit.prefetch_segment();
    crate::observe::truncated(plan.start, shared.commit.marks.durable(), segments_removed);
    let done = Truncation { segments_removed, bytes_freed, boundary, ..untouched(shared) };
    drop((guard, structure));
    free(shared, files);
    Ok(done)
}

fn untouched(shared: &Shared) -> Truncation {
    Truncation {
        start_lsn: shared.chain.start(),
        end_lsn: shared.commit.marks.written(),
        next_lsn: shared.commit.next_lsn(),
        segments_removed: 0,
        bytes_freed: 0,
        boundary: Boundary::Untouched,
    }
}

/// A truncation past what somebody still needs is refused.
fn check_rails(shared: &Shared, structure: &Structure, lsn: Lsn) -> Result<()> {
    let refused = |detail: String| Err(Error::new(ErrorKind::Refused, "truncate log", detail).at_lsn(lsn));
    let durable = shared.commit.marks.durable();
    if lsn > durable {
        return refused(format!("the log is durable only up to LSN {durable}; flush it first"));
    }
    if let Some(checkpoint) = structure.control.checkpoint.filter(|&checkpoint| lsn > checkpoint) {
        return refused(format!(
            "the last checkpoint is at LSN {checkpoint}, and recovery needs the log from there on"
        ));
    }
    if let Some((name, held)) = shared.holds.lock().oldest().filter(|(_, held)| lsn > *held) {
        return refused(format!("the hold {name:?} needs the log from LSN {held} on"));
    }
    Ok(())
}

/// Where the log is to start, and in which segment that is.
struct Plan {
    start: Lsn,
    link: Link,
}

fn plan_start(shared: &Shared, lsn: Lsn, policy: TruncatePolicy) -> Result<Plan> {
    let links = shared.chain.links();
    let start = shared.chain.start();
    let holds_lsn = |link: &&Link| link.end.is_none_or(|end| lsn < end);
    let link = *links.iter().find(holds_lsn).expect("the active segment has no end");
    if policy == TruncatePolicy::WholeSegments {
        return Ok(Plan { start: link.base.max(start), link });
    }
    let wanted = lsn.max(start).max(link.base);
    let end = link.end.unwrap_or_else(|| shared.commit.marks.durable());
    let first = first_record_at_or_after(shared, link, wanted, end)?;
    match links.iter().find(|next| next.number == link.number + 1) {
        // Nothing is kept of the segment, so the log starts with the next one.
        Some(next) if link.end == Some(first) => Ok(Plan { start: next.base, link: *next }),
        _ => Ok(Plan { start: first, link }),
    }
}

/// The first frame boundary at or after `lsn` in a segment that ends at `end`.
fn first_record_at_or_after(shared: &Shared, link: Link, lsn: Lsn, end: Lsn) -> Result<Lsn> {
    if lsn <= link.base || lsn >= end {
        return Ok(lsn.max(link.base).min(end));
    }
    let (segment, header) = open_segment(shared, link.number, shared.haste())?;
    let from = header.base;
    let mut reader = SegmentReader::new(segment.file, header, from, end).with_haste(shared.haste())?;
    let mut rests = Rests::new(shared.haste());
    loop {
        if reader.lsn() >= lsn {
            return Ok(reader.lsn());
        }
        match reader.next()? {
            Found::Frame(frame) => rests.done(frame.bytes.len()),
            Found::Stop(stop) => return Err(reader.corruption(stop)),
        }
    }
}

fn open_segment(shared: &Shared, number: u64, haste: Haste) -> Result<(SegmentFile, SegmentHeader)> {
    let path = shared.dir.path_of(&name::segment(number));
    let corrupt = |detail: &str| {
        Error::new(ErrorKind::Corruption, "open segment", detail).at_path(&path).at_segment(number).at_offset(0)
    };
    let segment = SegmentFile::open_for(&shared.dir, number, haste)?.ok_or_else(|| corrupt("the segment is gone"))?;
    match segment.header {
        HeaderState::Valid(header) if header.log_id == shared.log_id && header.segment == number => {
            Ok((segment, header))
        }
        _ => Err(corrupt("its header is damaged")),
    }
}

fn copy_boundary(shared: &Shared, plan: &Plan) -> Result<Replacement> {
    let (segment, header) = open_segment(shared, plan.link.number, shared.haste())?;
    let new = SegmentHeader {
        base: plan.start,
        witness: shared.commit.marks.durable(),
        sealed_end: plan.link.end,
        created_micros: shared.clock.unix_micros(),
        ..header
    };
    replacement(&shared.dir, &segment.file, &header, new, shared.haste())
}

/// What becomes of removed segments whose files are not kept to be used again.
#[derive(Default)]
struct Retired {
    bytes_freed: u64,
    /// Held open until the removal is durable.
    files: Vec<LogFile>,
}

/// Removes dropped segments, oldest first.
fn retire(shared: &Shared, dropped: &[Link]) -> Result<Retired> {
    let mut retired = Retired::default();
    for link in dropped {
        let is_pinned = shared.chain.is_pinned(link.number);
        if let Some((file, bytes)) = shared.preparer.retire(link.number, !is_pinned)? {
            retired.bytes_freed += bytes;
            if retired.files.len() < FREED_IN_STEPS_MAX {
                retired.files.push(file);
            }
        }
        shared.metrics.segments_removed.add(1);
    }
    Ok(retired)
}

/// Gives back the space of files that durably lost their names, in steps with rests while appends go on.
///
/// Where freed blocks are discarded at once, as by ext4 mounted with `discard`, the device lets all writes wait meanwhile: for 16 MiB that were
/// 2.6 to 3.1 ms, in steps of 1 MiB 0.4 ms at most, of 256 KiB 0.2 ms.
fn free(shared: &Shared, files: Vec<LogFile>) {
    if shared.haste() == Haste::Full {
        return;
    }
    for file in files {
        if let Err(error) = free_in_steps(shared, &file) {
            crate::observe::freeing_failed(&error);
        }
    }
}

fn free_in_steps(shared: &Shared, file: &LogFile) -> Result<()> {
    if file.has_name()? {
        // Somebody gave it another name, to keep what is in it.
        return Ok(());
    }
    if !file.try_lock_exclusive()? {
        // Somebody reads it, in this process or another. Its space is given back when the last of them closes it.
        return Ok(());
    }
    let mut rests = Rests::new(Haste::Gentle);
    let mut len = file.len()?;
    // Nobody appends any more once the log is closed or poisoned.
    while len > 0 && !shared.is_stopping() && shared.commit.marks.poison().is_none() {
        len = len.saturating_sub(FREE_BYTES);
        file.set_len(len)?;
        rests.done(FREE_BYTES as usize);
    }
    Ok(())
}

/// Seals the active segment where it ends, if it holds anything.
fn seal(shared: &Shared) -> Result<()> {
    if shared.config.background == Background::Threads {
        // Appends go on meanwhile, which they do not in the pause.
        shared.commit.await_next_segment()?;
    }
    let _pause = shared.commit.pause()?;
    shared.commit.seal_active()
}

/// Removes the records behind the one at `lsn`. See [`Wal::truncate_after`](crate::Wal::truncate_after).
pub(crate) fn truncate_after(shared: &Shared, lsn: Lsn) -> Result<Truncation> {
    let mut structure = shared.structure.lock();
    shared.check_open(&structure, "cut log")?;
    let _guard = shared.commit.guard_change();
    if lsn < shared.chain.start() {
        let detail = format!("the log starts at LSN {}; a cut keeps at least one record", shared.chain.start());
        return Err(Error::new(ErrorKind::Refused, "cut log", detail).at_lsn(lsn));
    }
    if let Some(checkpoint) = structure.control.checkpoint.filter(|&checkpoint| lsn < checkpoint) {
        let detail =
            format!("the last checkpoint is at LSN {checkpoint}, and the pages may hold what was logged before it");
        return Err(Error::new(ErrorKind::Refused, "cut log", detail).at_lsn(lsn));
    }
    let _pause = shared.commit.pause()?;
    shared.commit.settle_holes()?;
    cut(shared, &mut structure, lsn)
}

/// The cut, while nobody writes. The rename of the rewritten segment is the commit.
fn cut(shared: &Shared, structure: &mut Structure, lsn: Lsn) -> Result<Truncation> {
    let (active, next_lsn, _) = shared.commit.end_of_log();
    let links = shared.chain.links();
    let index = links.iter().rposition(|link| link.base <= lsn).unwrap_or(0);
    let link = links[index];
    let segment_end = link.end.unwrap_or(next_lsn);
    let end = end_of_last_record(shared, link, lsn, segment_end)?;
    if end == segment_end && index + 1 == links.len() {
        return Ok(untouched(shared));
    }
    let (segment, header) = open_segment(shared, link.number, Haste::Full)?;
    let new = SegmentHeader {
        // Above the epoch of every segment that is cut off, so that all of them are void. The active one's is the highest.
        epoch: active.epoch + 1,
        witness: next_lsn,
        // Past the end, so that a reader that has read everything stands in the gap and is told.
        limit: next_lsn.advance(8).min(Lsn::LIMIT),
        sealed_end: Some(end),
        created_micros: shared.clock.unix_micros(),
        ..header
    };
    let Replacement { temp, header, last_checksum } =
        replacement(&shared.dir, &segment.file, &header, new, Haste::Full)?;
    // Everything that needs room is written before the commit, so a full disk leaves the log as it was.
    let pending = match write_successor(shared, structure, &header, last_checksum) {
        Ok(pending) => pending,
        Err(error) => {
            shared.dir.abandon(temp)?;
            return Err(error);
        }
    };
    shared.commit_temp(temp)?;
    // The cut is committed. What fails now poisons the log, because its active segment is gone; a reopen finishes the cut.
    if let Err(error) = finish_cut(shared, structure, &links[index + 1..], &header, pending) {
        shared.commit.poison(error);
        shared.commit.marks.check()?;
    }
    let removed = (links.len() - index - 1) as u64;
    crate::observe::truncated(shared.chain.start(), end, removed);
    Ok(Truncation { end_lsn: end, segments_removed: removed, boundary: Boundary::Rewritten, ..untouched(shared) })
}

/// What a cut needs once it is committed: the new active segment and the control file that names it, neither with its name yet.
struct Successor {
    active: Unnamed,
    base: Lsn,
    control: (Temp, Control),
}

fn write_successor(
    shared: &Shared,
    structure: &mut Structure,
    kept: &SegmentHeader,
    last_checksum: u32,
) -> Result<Successor> {
    // The prepared segment follows a segment that is cut, or has the number that the new active segment gets.
    if let Some(number) = shared.commit.take_prepared() {
        shared.dir.remove(&name::segment(number))?;
        // Durably, before its blocks are written as those of another segment: see `LogDir::rename_durably`.
        shared.sync_dir()?;
    }
    if structure.control.opened_segment > kept.segment {
        // From the commit on, segments behind the kept one may be gone, so the control file must not name them any more.
        shared.update_control(structure, |control| control.opened_segment = kept.segment)?;
    }
    let header = SegmentHeader {
        segment: kept.segment + 1,
        base: kept.limit,
        predecessor_end: kept.sealed_end.expect("a rewritten segment has an end"),
        predecessor_checksum: last_checksum,
        witness: kept.limit,
        limit: kept.limit,
        sealed_end: None,
        ..*kept
    };
    let active = write_active(&shared.dir, header, shared.config.segment_room())?;
    let control = shared.write_control(structure, |control| {
        control.opened_segment = header.segment;
        control.witness = header.base;
    });
    match control {
        Ok(control) => Ok(Successor { active, base: header.base, control }),
        Err(error) => Err(shared.dir.discard(&name::prepare(header.segment), error)),
    }
}

fn finish_cut(
    shared: &Shared,
    structure: &mut Structure,
    removed: &[Link],
    kept: &SegmentHeader,
    successor: Successor,
) -> Result<()> {
    for link in removed.iter().rev() {
        shared.preparer.retire(link.number, false)?;
        shared.metrics.segments_removed.add(1);
    }
    structure.trim_from = structure.trim_from.min(kept.segment);
    let active = name_active(&shared.dir, successor.active)?;
    let active = if shared.is_direct { active.with_direct(&shared.dir)? } else { active };
    shared.commit_control(structure, successor.control)?;
    let end = kept.sealed_end.expect("a rewritten segment has an end");
    shared.chain.cut(kept.segment, end, Link { number: active.number, base: successor.base, end: None });
    shared.commit.adopt(active);
    Ok(())
}

/// The end of the last record with an LSN of at most `lsn` in a segment that ends at `end`.
fn end_of_last_record(shared: &Shared, link: Link, lsn: Lsn, end: Lsn) -> Result<Lsn> {
    let (segment, header) = open_segment(shared, link.number, Haste::Full)?;
    let mut reader = SegmentReader::new(segment.file, header, header.base, end);
    loop {
        if reader.lsn() > lsn || reader.lsn() == end {
            return Ok(reader.lsn());
        }
        if let Found::Stop(stop) = reader.next()? {
            return Err(reader.corruption(stop));
        }
    }
}
