//! Recovery: survey, decide, apply. Nothing is shown before it is durable. See `specs/recovery.md`.

pub(crate) mod decide;
pub(crate) mod survey;

use std::hash::{BuildHasher, Hasher};
use std::sync::Arc;
use std::time::Instant;

use crate::clock::Clock;
use crate::config::{Background, Config};
use crate::control::{CleanEnd, Control};
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::{CommitError, LogDir, LogFile, Temp};
use crate::gentle::Haste;
use crate::lsn::Lsn;
use crate::record::LogId;
use crate::report::{CutReport, FoundState, RecoveryReport};
use crate::rewrite::{replacement, write_again};
use crate::segment::chain::Link;
use crate::segment::header::{HEADER_BYTES, HeaderState, SegmentHeader};
use crate::segment::name;
use crate::segment::writer::ActiveSegment;
use decide::{Decision, Keep, decide};
use survey::{ChainSegment, ProgressFn, Reach, Survey, survey};

/// A log that is ready to be shown: everything in it is durable.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) control: Control,
    pub(crate) links: Vec<Link>,
    pub(crate) active: Arc<ActiveSegment>,
    pub(crate) next_lsn: Lsn,
    pub(crate) last_checksum: u32,
    pub(crate) report: RecoveryReport,
}

/// Opens the log in a directory whose lock is held.
pub(crate) fn recover(
    dir: &LogDir,
    config: &Config,
    clock: &dyn Clock,
    log_id: Option<LogId>,
    progress: ProgressFn<'_>,
) -> Result<Recovered> {
    let started = Instant::now();
    let reach = Reach::Tail { verify_bytes: config.verify_bytes_on_open, threads: scan_threads(config) };
    let survey = survey(dir, reach, progress)?;
    let decision = decide(&survey);
    let mut apply = Apply { dir, config, clock, survey, swept: Vec::new(), removed: 0, rewritten: 0 };
    let mut recovered = match decision {
        Decision::Fail(error) => return Err(error.at_path(dir.path())),
        Decision::Create if !config.create => {
            let detail = "there is no log in the directory";
            return Err(Error::new(ErrorKind::NotFound, "open log", detail).at_path(dir.path()));
        }
        Decision::Create => apply.create(log_id.unwrap_or_else(|| new_log_id(clock)))?,
        Decision::Clean(control, end) => apply.reopen(control, end)?,
        Decision::Keep(keep) => apply.keep(keep)?,
    };
    recovered.report.duration = started.elapsed();
    let word = match recovered.report.state {
        FoundState::Created => "created",
        FoundState::Clean => "clean",
        FoundState::Kept => "kept",
        FoundState::Cut => "cut",
    };
    crate::observe::opened(recovered.report.start_lsn, recovered.report.end_lsn, word);
    Ok(recovered)
}

/// How many threads may scan segments at the same time. A log without threads of its own has none for this either.
fn scan_threads(config: &Config) -> usize {
    /// By then the memory or the device is the limit.
    const THREADS_MAX: usize = 4;
    match config.background {
        Background::Threads => std::thread::available_parallelism().map_or(1, |cores| cores.get().min(THREADS_MAX)),
        Background::Inline => 1,
    }
}

/// Writes the replacement of the control file, to be committed.
pub(crate) fn write_control(dir: &LogDir, control: &Control) -> Result<Temp> {
    let block = control.encode();
    dir.write_temp(name::CONTROL, |file| file.write_at(&block, 0))
}

/// Replaces the control file: the one commit of most changes of structure.
fn replace_control(dir: &LogDir, control: &Control) -> Result<(), CommitError> {
    let temp = write_control(dir, control).map_err(|error| CommitError { error, is_unsure: false })?;
    dir.commit(temp)
}

/// Creates the file that is given up when the disk is full, unless it is there.
pub(crate) fn create_reserve(dir: &LogDir, bytes: u64) -> Result<()> {
    if bytes == 0 || dir.find_file(name::RESERVE, OpenMode::Read)?.is_some() {
        return Ok(());
    }
    dir.create_filled(name::RESERVE, |file| file.write_zeros(0, bytes)).map(drop)
}

/// Creates the segment with this header, whose LSN limit is still to be set, under its final name. On a full disk it has room
/// for nothing but its header: the log opens, can be read and truncated, and goes on when there is room.
fn create_active(dir: &LogDir, header: SegmentHeader, room: u64) -> Result<Arc<ActiveSegment>> {
    name_active(dir, write_active(dir, header, room)?)
}

/// An active segment that does not have its name yet.
#[derive(Debug)]
#[must_use = "the segment has no name yet"]
pub(crate) struct Unnamed {
    header: SegmentHeader,
    file: LogFile,
}

/// The first half of [`create_active`], which needs room.
pub(crate) fn write_active(dir: &LogDir, header: SegmentHeader, room: u64) -> Result<Unnamed> {
    match write_active_with(dir, header, room) {
        Err(error) if error.is_full() => write_active_with(dir, header, 0),
        other => other,
    }
}

fn write_active_with(dir: &LogDir, header: SegmentHeader, room: u64) -> Result<Unnamed> {
    let header = SegmentHeader { limit: header.base.advance(room).min(Lsn::LIMIT), ..header };
    let prepared = name::prepare(header.segment);
    let file = dir.create_filled(&prepared, |file| {
        file.write_at(&header.encode(), 0)?;
        file.write_zeros(HEADER_BYTES, HEADER_BYTES + room)
    })?;
    Ok(Unnamed { header, file })
}

/// The second half of [`create_active`], which needs none.
pub(crate) fn name_active(dir: &LogDir, unnamed: Unnamed) -> Result<Arc<ActiveSegment>> {
    let Unnamed { header, file } = unnamed;
    let name = name::segment(header.segment);
    dir.rename_durably(&name::prepare(header.segment), &name)?;
    let file = file.renamed(dir.path_of(&name));
    Ok(ActiveSegment::from_header(&header, header.limit, file, None))
}

struct Apply<'a> {
    dir: &'a LogDir,
    config: &'a Config,
    clock: &'a dyn Clock,
    survey: Survey,
    swept: Vec<String>,
    removed: u64,
    rewritten: u64,
}

impl Apply<'_> {
    /// D1.
    fn create(&mut self, log_id: LogId) -> Result<Recovered> {
        // Nothing here was ever used: an earlier creation died before its control file got its name.
        let unused: Vec<String> = self.survey.orphans.iter().map(|segment| name::segment(segment.number)).collect();
        for name in unused {
            self.sweep(&name)?;
        }
        // A control temp beside nothing is how far that creation came; a segment's temp is evidence of something else.
        let control_temp = name::temp(name::CONTROL);
        if self.survey.stranded.contains(&control_temp) {
            self.survey.stranded.retain(|name| *name != control_temp);
            self.sweep(&control_temp)?;
        }
        self.sweep_leftovers()?;
        let first = self.config.first_lsn;
        let header = SegmentHeader {
            log_id,
            segment: 1,
            epoch: 1,
            base: first,
            predecessor_end: first,
            predecessor_checksum: 0,
            witness: first,
            limit: first,
            sealed_end: None,
            created_micros: self.clock.unix_micros(),
        };
        let active = create_active(self.dir, header, self.config.segment_room())?;
        // The segment's name is durable before the control file's: a log that has a control file has its start segment.
        let control = Control {
            log_id: header.log_id,
            sequence: 1,
            start_segment: 1,
            start: first,
            opened_segment: 1,
            witness: first,
            checkpoint: None,
            clean: None,
            written_micros: self.clock.unix_micros(),
        };
        self.make_reserve();
        replace_control(self.dir, &control)?;
        let report = self.report(FoundState::Created, &control, first, first);
        let links = vec![Link { number: 1, base: first, end: None }];
        Ok(Recovered { control, links, active, next_lsn: first, last_checksum: 0, report })
    }

    /// D8: the log goes on where it was closed.
    fn reopen(&mut self, control: Control, end: CleanEnd) -> Result<Recovered> {
        self.sweep_control_temp()?;
        let control = Control { clean: None, opened_segment: end.segment, witness: end.lsn, ..control };
        let control = self.replaced(control)?;
        self.sweep_leftovers()?;
        self.remove_trailing(0)?;
        let last = self.survey.walk.chain.last().expect("a clean log has a last segment");
        let header = last.header;
        let file = self.dir.open_file(&name::segment(header.segment), OpenMode::Write)?;
        let limit = extend(&file, &header, end.lsn)?;
        let active = ActiveSegment::from_header(&header, limit, file, None);
        self.make_reserve();
        let report = self.report(FoundState::Clean, &control, end.lsn, end.lsn);
        let links = self.links(self.survey.walk.chain.len() - 1, None);
        Ok(Recovered { control, links, active, next_lsn: end.lsn, last_checksum: end.checksum, report })
    }

    /// D11 and D12.
    fn keep(&mut self, keep: Keep) -> Result<Recovered> {
        self.sweep_control_temp()?;
        // The names that were found may not be durable: the process may have died between a rename and the sync of the directory, or after a
        // sync that failed. So before anything is removed on their word, the control file gets its name anew.
        let control = self.replaced(Control { clean: None, ..keep.control })?;
        let keep = Keep { control, ..keep };
        self.sweep_leftovers()?;
        self.remove_below_start()?;
        for index in 0..keep.segment {
            self.make_durable(index, control.opened_segment)?;
        }
        let limit = self.limit_behind(keep.segment);
        let last = &self.survey.walk.chain[keep.segment];
        let header = last.header;
        let is_empty = keep.end == header.base;
        let is_sealed_whole = header.sealed_end == Some(keep.end) && header.segment < control.opened_segment;
        let mut checksum = keep.last_checksum;
        let mut is_limit_committed = false;
        let next_epoch = self.epoch_max() + 1;
        let next_header = if is_empty {
            // Nothing is kept of it, so the new active segment takes its place: one rename again.
            SegmentHeader { epoch: next_epoch, ..header }
        } else {
            let epoch = next_epoch;
            if !is_sealed_whole {
                let new = SegmentHeader { epoch, limit, sealed_end: Some(keep.end), ..header };
                if let Some(rewritten) = self.rewrite_or_write_again(keep.segment, new)? {
                    checksum = rewritten;
                    is_limit_committed = true;
                }
            }
            SegmentHeader {
                segment: header.segment + 1,
                epoch,
                predecessor_end: keep.end,
                predecessor_checksum: checksum,
                ..header
            }
        };
        let base = if is_sealed_whole { header.limit.max(limit) } else { limit };
        let next_header = SegmentHeader { base, witness: base, limit: base, sealed_end: None, ..next_header };
        // What is behind the end goes once a header names the limit, that of the rewritten segment or that of the new one: until then it is
        // what says which LSNs were handed out.
        if is_limit_committed {
            self.remove_behind(next_header.segment, keep.segment)?;
        }
        let active = create_active(self.dir, next_header, self.config.segment_room())?;
        if !is_limit_committed {
            self.remove_behind(next_header.segment, keep.segment)?;
        }
        let mut control = Control { opened_segment: next_header.segment, witness: base, ..keep.control };
        if is_empty && keep.segment == 0 {
            // The log holds nothing, and its first segment starts behind the gap.
            control.start = control.start.max(base);
        }
        let control = self.replaced(control)?;
        self.make_reserve();
        let state = if keep.cut.is_some() { FoundState::Cut } else { FoundState::Kept };
        let mut report = self.report(state, &control, keep.end, base);
        report.cut = keep.cut.map(|reason| CutReport {
            reason,
            at: keep.end,
            segment: header.segment,
            valid_records_dropped: self.dropped_behind(keep.segment),
        });
        let kept = if is_empty { keep.segment.checked_sub(1) } else { Some(keep.segment) };
        let kept_end =
            if is_empty { kept.and_then(|kept| self.survey.walk.chain[kept].known_end) } else { Some(keep.end) };
        let mut links = kept.map_or_else(Vec::new, |kept| self.links(kept, kept_end));
        links.push(Link { number: next_header.segment, base, end: None });
        Ok(Recovered { control, links, active, next_lsn: base, last_checksum: 0, report })
    }

    /// The LSN past everything that may have been handed out in the chain's segment `index` and behind it.
    fn limit_behind(&self, index: usize) -> Lsn {
        let chain = &self.survey.walk.chain;
        let mut limit = chain[index..].iter().map(|segment| segment.header.limit).max().expect("at least one");
        let last = chain.last().expect("at least one").header;
        let room = last.limit.distance_from(last.base);
        for torn in &self.survey.walk.trailing {
            // A prepared segment may have been given LSNs that never reached it.
            let own = if let HeaderState::Valid(header) = &torn.header { header.limit } else { Lsn::ZERO };
            limit = limit.advance(room.max(torn.file_bytes.saturating_sub(HEADER_BYTES)) & !7).max(own);
        }
        limit.min(Lsn::LIMIT)
    }

    fn epoch_max(&self) -> u64 {
        let walk = &self.survey.walk;
        let trailing = walk.trailing.iter().filter_map(|segment| match &segment.header {
            HeaderState::Valid(header) => Some(header.epoch),
            _ => None,
        });
        walk.chain.iter().map(|segment| segment.header.epoch).chain(trailing).max().unwrap_or(0)
    }

    /// Copies a segment that is kept whole into a new file, unless it is known to be durable. That a segment was written as a whole
    /// proves it only once a control file was written after it got its name: the control file names a later segment then. Until then
    /// its own sealed end is a witness of bytes that nothing may lead to after a crash, so no witness proves such a segment.
    fn make_durable(&mut self, index: usize, opened_segment: u64) -> Result<()> {
        let segment = &self.survey.walk.chain[index];
        let Some(end) = segment.known_end else { unreachable!("only the last segment has no known end") };
        let is_durable = match segment.header.sealed_end {
            Some(_) => segment.header.segment < opened_segment,
            None => end <= self.survey.witness,
        };
        if is_durable {
            return Ok(());
        }
        let new = SegmentHeader { sealed_end: Some(end), ..segment.header };
        self.rewrite_or_write_again(index, new).map(drop)
    }

    /// Rewrites a segment. On a full disk its bytes are written again where they are, which needs no room: that too makes durable what
    /// may live in the page cache alone. Its header stays as it is then, and its successor says where it ends. Returns the
    /// checksum of its last frame if the segment was rewritten.
    ///
    /// A segment that was written as a whole got its name by a rename that may never become durable, and then these are not the bytes
    /// that the next crash leaves. Nothing but another rename mends that, so the open fails until there is room.
    fn rewrite_or_write_again(&mut self, index: usize, new: SegmentHeader) -> Result<Option<u32>> {
        match self.rewrite(index, new) {
            Ok(checksum) => Ok(Some(checksum)),
            Err(error) if error.is_full() && self.survey.walk.chain[index].header.sealed_end.is_none() => {
                let ChainSegment { header, .. } = &self.survey.walk.chain[index];
                let file = self.dir.open_file(&name::segment(header.segment), OpenMode::Write)?;
                write_again(&file, header, new.sealed_end.expect("a segment that is kept has an end"))?;
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn rewrite(&mut self, index: usize, new: SegmentHeader) -> Result<u32> {
        let ChainSegment { header, place, .. } = &self.survey.walk.chain[index];
        let file = place.open()?;
        let replacement = match replacement(self.dir, &file, header, new, Haste::Full) {
            Err(error) if error.is_full() && self.free_trailing()? => {
                replacement(self.dir, &file, header, new, Haste::Full)?
            }
            other => other?,
        };
        self.dir.commit(replacement.temp)?;
        self.rewritten += 1;
        Ok(replacement.last_checksum)
    }

    /// On a full disk: gives up the blocks of prepared segments. Their names stay until the cut is committed, because they
    /// say which LSNs may have been handed out.
    fn free_trailing(&self) -> Result<bool> {
        let mut freed = self.dir.remove(name::RESERVE)?;
        for segment in &self.survey.walk.trailing {
            let file = self.dir.open_file(&name::segment(segment.number), OpenMode::Write)?;
            file.set_len(0)?;
            freed = true;
        }
        Ok(freed)
    }

    fn replaced(&self, control: Control) -> Result<Control> {
        let control = Control { sequence: control.sequence + 1, written_micros: self.clock.unix_micros(), ..control };
        match replace_control(self.dir, &control) {
            Err(failure) if failure.error.is_full() && !failure.is_unsure && self.dir.remove(name::RESERVE)? => {
                replace_control(self.dir, &control)?;
            }
            other => other?,
        }
        Ok(control)
    }

    /// A log without its reserve works; only truncation on a full disk is harder. So a failure is not one of the open.
    fn make_reserve(&self) {
        if let Err(error) = create_reserve(self.dir, self.config.reserve_bytes) {
            crate::observe::preparation_failed(&error);
        }
    }

    fn sweep(&mut self, name: &str) -> Result<()> {
        if self.dir.remove(name)? {
            self.swept.push(name.to_owned());
        }
        Ok(())
    }

    /// The control file is about to be replaced, and its temp name is needed for that.
    fn sweep_control_temp(&mut self) -> Result<()> {
        let temp = name::temp(name::CONTROL);
        if self.survey.sweepable.contains(&temp) {
            self.survey.sweepable.retain(|name| *name != temp);
            self.sweep(&temp)?;
        }
        Ok(())
    }

    fn sweep_leftovers(&mut self) -> Result<()> {
        for name in std::mem::take(&mut self.survey.sweepable) {
            self.sweep(&name)?;
        }
        Ok(())
    }

    fn remove_below_start(&mut self) -> Result<()> {
        for number in self.survey.below_start.clone() {
            self.removed += u64::from(self.dir.remove(&name::segment(number))?);
        }
        Ok(())
    }

    /// Removes the segments behind the chain, newest first, but for those with a number below `from`.
    fn remove_trailing(&mut self, from: u64) -> Result<()> {
        self.remove_below_start()?;
        let numbers: Vec<u64> = self.survey.walk.trailing.iter().map(|segment| segment.number).collect();
        self.remove_numbers(numbers, from)
    }

    /// Removes everything behind the chain's segment `kept`. The one with number `next` will be replaced by the new active segment.
    fn remove_behind(&mut self, next: u64, kept: usize) -> Result<()> {
        let cut = self.survey.walk.chain[kept + 1..].iter().map(|segment| segment.header.segment);
        let trailing = self.survey.walk.trailing.iter().map(|segment| segment.number);
        let numbers: Vec<u64> = cut.chain(trailing).collect();
        self.remove_numbers(numbers, next + 1)
    }

    fn remove_numbers(&mut self, mut numbers: Vec<u64>, from: u64) -> Result<()> {
        numbers.sort_unstable();
        let before = self.removed;
        for number in numbers.into_iter().rev().filter(|&number| number >= from) {
            self.removed += u64::from(self.dir.remove(&name::segment(number))?);
        }
        // Durably, before their blocks are written as those of another segment: see `LogDir::rename_durably`.
        if self.removed > before { self.dir.sync() } else { Ok(()) }
    }

    /// The chain up to index `last`. If `end` is given that segment is sealed there.
    fn links(&self, last: usize, end: Option<Lsn>) -> Vec<Link> {
        let chain = &self.survey.walk.chain[..=last];
        let link = |(index, segment): (usize, &ChainSegment)| Link {
            number: segment.header.segment,
            base: segment.header.base,
            end: if index == last { end } else { segment.known_end },
        };
        chain.iter().enumerate().map(link).collect()
    }

    fn dropped_behind(&self, kept: usize) -> u64 {
        let chain = &self.survey.walk.chain;
        let beyond = chain[kept].scan.as_ref().map_or(0, |scan| scan.valid_after);
        let later: u64 =
            chain[kept + 1..].iter().filter_map(|segment| segment.scan.as_ref()).map(|scan| scan.records).sum();
        beyond + later
    }

    fn report(&self, state: FoundState, control: &Control, end: Lsn, next: Lsn) -> RecoveryReport {
        let scans = || self.survey.walk.chain.iter().filter_map(|segment| segment.scan.as_ref());
        RecoveryReport {
            state,
            start_lsn: control.start,
            end_lsn: end,
            next_lsn: next,
            witness_lsn: self.survey.witness,
            cut: None,
            segments: self.survey.walk.chain.len().max(1) as u64,
            segments_rewritten: self.rewritten,
            segments_removed: self.removed,
            scanned_bytes: self.survey.scanned_bytes,
            scanned_records: scans().map(|scan| scan.records).sum(),
            swept: self.swept.clone(),
            stranded: self.survey.stranded.clone(),
            foreign: self.survey.foreign.clone(),
            duration: std::time::Duration::ZERO,
        }
    }
}

/// Gives a cleanly closed segment its unused space back. Returns up to where it may be written; on a full disk that is its end.
fn extend(file: &LogFile, header: &SegmentHeader, end: Lsn) -> Result<Lsn> {
    let from = header.offset_of(end);
    let extended = file.write_zeros(from, header.offset_of(header.limit)).and_then(|()| file.sync_all());
    match extended {
        Ok(()) => Ok(header.limit),
        Err(error) if error.is_full() => {
            file.set_len(from)?;
            file.sync_all()?;
            Ok(end)
        }
        Err(error) => Err(error),
    }
}

/// Sixteen bytes that no other log has: the standard library's random hash keys, stirred with the time.
fn new_log_id(clock: &dyn Clock) -> LogId {
    let mut bytes = [0; 16];
    for half in bytes.chunks_exact_mut(8) {
        let mut hasher = std::hash::RandomState::new().build_hasher();
        hasher.write_u64(clock.unix_micros());
        half.copy_from_slice(&hasher.finish().to_le_bytes());
    }
    LogId(bytes)
}
