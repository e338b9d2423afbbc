//! Reading: iterate, fetch one, follow. In the writing process up to the durable LSN, in any other up to the last valid record.
//! Readers never change a byte and take no lock that a writer waits for.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::LogDir;
use crate::inspect::{LogEnd, judge_end};
use crate::last_written::Following;
use crate::lsn::Lsn;
use crate::record::{FrameHeader, LogId, RecordType};
use crate::recover::survey::{ControlState, read_control};
use crate::scan::Stop;
use crate::segment::chain::{Location, Pin};
use crate::segment::header::{HeaderState, SegmentHeader};
use crate::segment::name::{self, FileName};
use crate::segment::reader::{SegmentFile, SegmentReader};
use crate::shared::Shared;

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its type.
    pub record_type: RecordType,
    /// What was appended.
    pub payload: Vec<u8>,
    /// The number of the segment it is in.
    pub segment: u64,
}

/// A record that borrows the buffer of its reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordRef<'a> {
    /// Its LSN.
    pub lsn: Lsn,
    /// Its type.
    pub record_type: RecordType,
    /// What was appended.
    pub payload: &'a [u8],
    /// The number of the segment it is in.
    pub segment: u64,
    /// Where its frame ends: the LSN of the next record, unless that is in another segment.
    pub end: Lsn,
    /// The durable LSN when it was written.
    pub witness: Lsn,
    /// Whether the next record belongs to the same batch.
    pub continues: bool,
}

impl RecordRef<'_> {
    /// A copy that owns its payload.
    pub fn to_record(&self) -> Record {
        Record { lsn: self.lsn, record_type: self.record_type, payload: self.payload.to_vec(), segment: self.segment }
    }
}

/// Where a reader gets its segments from.
#[derive(Clone, Debug)]
enum Source {
    Live(Arc<Shared>),
    Files { dir: LogDir, log_id: LogId },
}

/// An open segment, pinned in a live log so that its blocks are not used again under the reader.
#[derive(Debug)]
struct Current {
    reader: SegmentReader,
    sealed_end: Option<Lsn>,
    _pin: Option<Pin>,
}

/// Iterates over the records of a log in LSN order.
///
/// As an iterator it yields owned records; [`Reader::next_record`] lends them from its buffer instead. On a live log it ends at
/// the durable LSN and goes on from there when it is asked again later. As an iterator it ends after an error;
/// [`Reader::next_record`] stays where it is and says it again.
#[derive(Debug)]
pub struct Reader {
    source: Source,
    position: Lsn,
    /// The position was given by the caller and may lie between two frames.
    is_unaligned: bool,
    has_read: bool,
    current: Option<Current>,
    cuts: u64,
    witness: Lsn,
    met: (Lsn, Vec<String>), // what looked like damage at this position
    /// The last frame that was read. What follows is compared with it, also when the segment was opened again meanwhile.
    last_frame: Option<LastFrame>,
    batch_checked_to: Lsn,
    /// The iterator gave an error; it ends then, so that a loop over it does too.
    pub(crate) has_failed: bool,
    end: Option<LogEnd>,
    /// Where to look before the files are read; for who follows a live log.
    pub(crate) last_written: Option<Arc<Following>>,
}

/// What a successor says of a segment's last frame.
#[derive(Clone, Copy, Debug)]
struct LastFrame {
    segment: u64,
    epoch: u64,
    end: Lsn,
    checksum: u32,
}

impl Reader {
    fn new(source: Source, from: Lsn, start: Lsn) -> Result<Reader> {
        // Zero stands for the oldest record, whatever its LSN.
        let position = if from == Lsn::ZERO { start } else { from };
        if position < start {
            return Err(truncated(position, start));
        }
        let cuts = if let Source::Live(shared) = &source { shared.chain.cuts() } else { 0 };
        Ok(Reader {
            source,
            position,
            is_unaligned: true,
            has_read: false,
            current: None,
            cuts,
            witness: Lsn::ZERO,
            met: (Lsn::ZERO, Vec::new()),
            last_frame: None,
            batch_checked_to: Lsn::ZERO,
            has_failed: false,
            end: None,
            last_written: None,
        })
    }

    /// A reader of the log whose files are in `dir`.
    pub(crate) fn files(dir: LogDir, log_id: LogId, from: Lsn, start: Lsn) -> Result<Reader> {
        Reader::new(Source::Files { dir, log_id }, from, start)
    }

    /// A reader of a live log.
    pub(crate) fn live(shared: Arc<Shared>, from: Lsn) -> Result<Reader> {
        let start = shared.chain.start();
        Reader::new(Source::Live(shared), from, start)
    }

    /// The LSN from which it reads on.
    pub fn position_lsn(&self) -> Lsn {
        self.position
    }

    /// Up to where what was read so far proves that the log is durable. On a live log everything that is read is.
    pub fn witnessed_lsn(&self) -> Lsn {
        self.witness
    }

    /// Why there is no further record; known once [`Reader::next_record`] gave `None` on a log read from its files.
    pub fn end(&self) -> Option<&LogEnd> {
        self.end.as_ref()
    }

    /// The next record; `None` at the end of what can be read now.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`] at damage, [`ErrorKind::Truncated`] if a truncation removed the position, [`ErrorKind::Io`].
    pub fn next_record(&mut self) -> Result<Option<RecordRef<'_>>> {
        let Some((lsn, header)) = self.advance()? else { return Ok(None) };
        let current = self.current.as_ref().expect("a frame was just found in it");
        let frame = current.reader.frame(lsn, header);
        Ok(Some(RecordRef {
            lsn,
            record_type: header.record_type,
            payload: frame.payload(),
            segment: current.reader.header().segment,
            end: frame.end(),
            witness: header.witness,
            continues: header.continues,
        }))
    }

    #[inline]
    fn advance(&mut self) -> Result<Option<(Lsn, FrameHeader)>> {
        loop {
            if !self.open_current()? {
                return Ok(None);
            }
            let current = self.current.as_mut().expect("just opened");
            match current.reader.advance()? {
                Ok((lsn, header)) => {
                    if header.continues && lsn >= self.batch_checked_to && matches!(self.source, Source::Files { .. }) {
                        // A batch is shown whole or not at all, and this one may still be on its way to the disk.
                        match current.reader.batch_end(lsn)? {
                            Ok(batch_end) => self.batch_checked_to = batch_end,
                            Err(error) => {
                                if self.end_files_or(error)? {
                                    continue;
                                }
                                return Ok(None);
                            }
                        }
                    }
                    self.position = current.reader.lsn();
                    self.has_read = true;
                    self.witness = self.witness.max(header.witness);
                    let SegmentHeader { segment, epoch, .. } = *current.reader.header();
                    self.last_frame = Some(LastFrame { segment, epoch, end: self.position, checksum: header.checksum });
                    if !header.record_type.is_system() {
                        return Ok(Some((lsn, header)));
                    }
                }
                Err(stop) => {
                    if !self.pass_stop(stop)? {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Has a segment open that may hold the position. `false`: nothing can be read now.
    #[inline]
    fn open_current(&mut self) -> Result<bool> {
        let is_open = self.current.is_some();
        match &self.source {
            Source::Live(shared) if is_open && shared.chain.cuts() == self.cuts => {
                let start = shared.chain.start();
                if self.position < start { Err(truncated(self.position, start)) } else { Ok(true) }
            }
            Source::Live(shared) => {
                let shared = Arc::clone(shared);
                self.open_live(&shared)
            }
            Source::Files { .. } if self.end.is_some() => Ok(false),
            Source::Files { .. } if is_open => Ok(true),
            Source::Files { dir, log_id } => {
                let (dir, log_id) = (dir.clone(), *log_id);
                self.open_files(&dir, log_id)
            }
        }
    }

    /// Opens the segment of the position. A segment that was there a moment ago may have been removed or replaced meanwhile, by a process that
    /// truncates or recovers: then it is looked for again.
    fn open_files(&mut self, dir: &LogDir, log_id: LogId) -> Result<bool> {
        loop {
            match self.open_file(dir, log_id) {
                Ok(()) => return Ok(self.current.is_some()),
                Err(error) if error.is_corruption() => {
                    if !self.end_files_or(error)? {
                        return Ok(false);
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn open_live(&mut self, shared: &Arc<Shared>) -> Result<bool> {
        let durable = shared.commit.marks.durable();
        self.current = None;
        if self.position >= durable {
            // Caught up, or waiting for a record that was handed out and is not durable yet. A cut moves the durable mark past everything that
            // was handed out, so whoever stood where something was cut is told then.
            return Ok(false);
        }
        loop {
            let (location, cuts) = shared.chain.pin(self.position);
            self.cuts = cuts;
            match location {
                Location::Truncated => return Err(truncated(self.position, shared.chain.start())),
                Location::Gap { end, next } if self.position == end => self.position = next,
                Location::Gap { end, .. } => return Err(cut(self.position, end)),
                Location::In(link) => {
                    let pin = Pin::of(&shared.chain, link.number);
                    let end = link.end.unwrap_or(durable).min(durable);
                    let opened = self.open_segment(&shared.dir, shared.log_id, link.number, Some(end), Some(pin));
                    if let Err(error) = opened {
                        self.look_again_or(shared, error)?;
                        continue;
                    }
                    let current = self.current.as_mut().expect("just opened");
                    current.sealed_end = link.end;
                    return Ok(true);
                }
            }
        }
    }

    /// Opens segment `number` at the position; `end` is where it ends, as far as that is known.
    fn open_segment(
        &mut self,
        dir: &LogDir,
        log_id: LogId,
        number: u64,
        end: Option<Lsn>,
        pin: Option<Pin>,
    ) -> Result<()> {
        let (segment, header) = open_valid(dir, log_id, number)?;
        if header.base > self.position {
            return Err(truncated(self.position, header.base));
        }
        self.witness = self.witness.max(header.witness);
        let room = segment.file_bytes.saturating_sub(crate::segment::header::HEADER_BYTES);
        let known_end = match end.or(header.sealed_end) {
            // That the successor cannot be read is said where it is needed: when all before it has been read.
            None => successor_of(dir, log_id, &header).ok().flatten().map(|next| next.predecessor_end),
            known => known,
        };
        let end = known_end.unwrap_or_else(|| header.limit.min(header.base.advance(room)));
        if self.is_unaligned {
            // What is not proven to be part of the log, as in a live log below its durable mark, is found only by following the frames.
            let may_probe = matches!(self.source, Source::Live(_));
            self.position = align(&segment, &header, self.position, end, may_probe)?;
            self.is_unaligned = false;
        }
        let reader = SegmentReader::new(segment.file, header, self.position, end.max(self.position))
            .following(self.last_written.clone());
        self.current = Some(Current { reader, sealed_end: header.sealed_end, _pin: pin });
        Ok(())
    }

    /// There is no further frame in the current segment. `true`: look again, elsewhere.
    fn pass_stop(&mut self, stop: Stop) -> Result<bool> {
        match self.source.clone() {
            Source::Live(shared) => self.pass_live_stop(&shared, stop),
            Source::Files { dir, log_id } => self.pass_file_stop(&dir, log_id, stop),
        }
    }

    fn pass_live_stop(&mut self, shared: &Shared, stop: Stop) -> Result<bool> {
        if shared.chain.cuts() != self.cuts {
            return Ok(true);
        }
        let current = self.current.as_mut().expect("it has just stopped");
        if stop != Stop::AtEnd {
            let error = current.reader.corruption(stop);
            return self.look_again_or(shared, error);
        }
        let durable = shared.commit.marks.durable();
        if current.sealed_end.is_none() {
            let Some(link) = shared.chain.find(current.reader.header().segment) else {
                // The segment was truncated away under a reader that had read all of it.
                self.current = None;
                return Ok(self.position < durable);
            };
            current.sealed_end = link.end;
        }
        if current.sealed_end == Some(self.position) {
            self.current = None;
            return Ok(self.position < durable);
        }
        let end = current.sealed_end.unwrap_or(durable).min(durable);
        if end > current.reader.end() {
            current.reader.extend_to(end);
            return Ok(true);
        }
        Ok(false)
    }

    /// What looks like damage may be a change of structure that is under way: waits for it to end and looks once more.
    fn look_again_or(&mut self, shared: &Shared, error: Error) -> Result<bool> {
        drop(shared.structure.lock());
        let start = shared.chain.start();
        if self.position < start {
            return Err(truncated(self.position, start));
        }
        self.meet(error)?;
        self.current = None;
        Ok(true)
    }

    /// What is damaged looks the same the second time; what somebody else is changing may look damaged more than once, but not alike.
    fn meet(&mut self, error: Error) -> Result<()> {
        if self.met.0 != self.position {
            self.met = (self.position, Vec::new());
        }
        let text = error.to_string();
        if self.met.1.contains(&text) {
            return Err(error);
        }
        self.met.1.push(text);
        Ok(())
    }

    /// The position lies in the last segment whose base is not behind it.
    fn open_file(&mut self, dir: &LogDir, log_id: LogId) -> Result<()> {
        let ControlState::Valid(control) = read_control(dir)? else { return self.finish(dir) };
        let mut numbers: Vec<u64> = dir
            .list()?
            .iter()
            .filter_map(|name| if let FileName::Segment(number) = name::parse(name) { Some(number) } else { None })
            .filter(|&number| number >= control.start_segment)
            .collect();
        numbers.sort_unstable();
        let mut found: Option<(u64, u64)> = None;
        for number in numbers {
            let header = SegmentFile::open(dir, number)?.map(|segment| segment.header);
            if let Some(HeaderState::Valid(header)) = header
                && header.log_id == log_id
                && header.segment == number
            {
                // Void segments have a lower epoch than the segment before them.
                if header.base > self.position || found.is_some_and(|(_, epoch)| header.epoch < epoch) {
                    break;
                }
                found = Some((number, header.epoch));
            }
        }
        let Some((number, _)) = found else { return self.finish_before_first(dir, log_id) };
        self.open_segment(dir, log_id, number, None, None)
    }

    /// No segment reaches back to the position: the log starts behind it, or it is empty.
    fn finish_before_first(&mut self, dir: &LogDir, log_id: LogId) -> Result<()> {
        let ControlState::Valid(control) = read_control(dir)? else { return self.finish(dir) };
        if self.position < control.start {
            return Err(truncated(self.position, control.start));
        }
        match SegmentFile::open(dir, control.start_segment)?.map(|segment| segment.header) {
            Some(HeaderState::Valid(header)) if header.log_id == log_id && header.base > self.position => {
                // The log was empty when it was cut: it goes on behind the gap.
                self.position = header.base;
                self.open_segment(dir, log_id, control.start_segment, None, None)
            }
            _ => self.finish(dir),
        }
    }

    fn pass_file_stop(&mut self, dir: &LogDir, log_id: LogId, stop: Stop) -> Result<bool> {
        let current = self.current.as_ref().expect("it has just stopped");
        let SegmentHeader { segment: number, epoch, .. } = *current.reader.header();
        let last_frame =
            self.last_frame.filter(|last| (last.segment, last.epoch, last.end) == (number, epoch, self.position));
        if let Some(next) = successor_of(dir, log_id, current.reader.header())?
            && (next.predecessor_end == self.position || self.is_in_gap_before(&next)?)
            && last_frame.is_none_or(|last| last.checksum == next.predecessor_checksum)
        {
            if next.base > self.position {
                // A cut has left the gap, or a truncation has replaced the segment by one that begins later.
                self.check_start(dir)?;
            }
            self.position = next.base;
            return match self.open_segment(dir, log_id, number + 1, None, None) {
                Err(error) if error.is_corruption() => self.end_files_or(error),
                other => other.map(|()| true),
            };
        }
        let error = current.reader.corruption(stop);
        self.end_files_or(error)
    }

    /// There is no further record in the current segment nor a segment that follows: the end of the log, or else `error`. `true`: look
    /// again.
    fn end_files_or(&mut self, error: Error) -> Result<bool> {
        let Source::Files { dir, .. } = self.source.clone() else { unreachable!("a live log has no torn end") };
        let dir = &dir;
        let end = judge_end(dir)?;
        if end.lsn <= self.position {
            // It has shown records that are not there any more.
            if self.has_read && end.lsn < self.position {
                return Err(cut(self.position, end.lsn));
            }
            self.witness = self.witness.max(end.witness_lsn);
            self.end = Some(end);
            return Ok(false);
        }
        // Records follow, so what is at the position has been complete: it was written after it was read, or it is truncated by
        // now, or it is damaged.
        self.check_start(dir)?;
        self.meet(error)?;
        self.current = None;
        Ok(true)
    }

    /// The position must not lie before the start of the log.
    fn check_start(&self, dir: &LogDir) -> Result<()> {
        match read_control(dir)? {
            ControlState::Valid(control) if self.position < control.start => {
                Err(truncated(self.position, control.start))
            }
            _ => Ok(()),
        }
    }

    /// A reader that was told to start inside a gap goes on behind it. One that read its way there has seen records that were cut.
    fn is_in_gap_before(&self, next: &SegmentHeader) -> Result<bool> {
        let is_in_gap = next.predecessor_end < self.position && self.position < next.base;
        if is_in_gap && self.has_read { Err(cut(self.position, next.predecessor_end)) } else { Ok(is_in_gap) }
    }

    /// There is nothing behind the position: says why.
    fn finish(&mut self, dir: &LogDir) -> Result<()> {
        let end = judge_end(dir)?;
        self.witness = self.witness.max(end.witness_lsn);
        self.end = Some(end);
        Ok(())
    }

    /// The next record, owning its payload.
    pub(crate) fn owned(&mut self) -> Result<Option<Record>> {
        Ok(self.next_record()?.map(|record| record.to_record()))
    }
}

impl Iterator for Reader {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.has_failed {
            return None;
        }
        let next = self.owned();
        self.has_failed = next.is_err();
        next.transpose()
    }
}

fn truncated(position: Lsn, start: Lsn) -> Error {
    let detail = format!("the log starts at LSN {start}; what was before has been truncated");
    Error::new(ErrorKind::Truncated, "read log", detail).at_lsn(position)
}

fn cut(position: Lsn, end: Lsn) -> Error {
    let detail = format!("the end of the log was cut at LSN {end}");
    Error::new(ErrorKind::Truncated, "read log", detail).at_lsn(position)
}

fn open_valid(dir: &LogDir, log_id: LogId, number: u64) -> Result<(SegmentFile, SegmentHeader)> {
    let path = dir.path_of(&name::segment(number));
    let corrupt = |detail: String| {
        Error::new(ErrorKind::Corruption, "read segment", detail).at_path(&path).at_segment(number).at_offset(0)
    };
    let segment = SegmentFile::open(dir, number)?.ok_or_else(|| corrupt("the segment is missing".to_owned()))?;
    let detail = match &segment.header {
        HeaderState::Valid(header) if header.log_id == log_id && header.segment == number => {
            let header = *header;
            return Ok((segment, header));
        }
        HeaderState::Valid(_) => "its header belongs to another segment or log".to_owned(),
        HeaderState::Blank => "its header is blank".to_owned(),
        HeaderState::Damaged(why) => why.clone(),
        HeaderState::Newer(why) => {
            let error = Error::new(ErrorKind::UnsupportedVersion, "read segment", why.clone());
            return Err(error.at_path(&path).at_segment(number));
        }
    };
    Err(corrupt(detail))
}

/// The LSN of the first frame at or after `lsn`.
fn align(segment: &SegmentFile, header: &SegmentHeader, lsn: Lsn, end: Lsn, may_probe: bool) -> Result<Lsn> {
    if lsn == header.base || lsn >= end {
        return Ok(lsn);
    }
    if may_probe && lsn.get().is_multiple_of(8) {
        let mut probe = SegmentReader::for_one_frame(segment.file.clone(), *header, lsn, end);
        if probe.advance()?.is_ok() {
            return Ok(lsn);
        }
    }
    let mut reader = SegmentReader::new(segment.file.clone(), *header, header.base, end);
    while reader.lsn() < lsn {
        if let Err(stop) = reader.advance()? {
            // The frames cannot be followed so far. To read on from here would show what was not asked for.
            return Err(reader.corruption(stop));
        }
    }
    Ok(reader.lsn())
}

/// The header of the segment that follows, if there is one. It says where the segment before it ends: what stands behind that end was
/// refused or cut, whole frames among it.
fn successor_of(dir: &LogDir, log_id: LogId, header: &SegmentHeader) -> Result<Option<SegmentHeader>> {
    let number = header.segment + 1;
    let Some(SegmentFile { header: HeaderState::Valid(next), .. }) = SegmentFile::open(dir, number)? else {
        return Ok(None);
    };
    let follows = next.log_id == log_id && next.segment == number && next.epoch >= header.epoch;
    Ok(follows.then_some(next))
}

/// Fetches the record at `lsn`, which ends before `end`.
pub(crate) fn fetch(dir: &LogDir, log_id: LogId, number: u64, lsn: Lsn, end: Option<Lsn>) -> Result<Record> {
    let (segment, header) = open_valid(dir, log_id, number)?;
    if header.base > lsn {
        return Err(truncated(lsn, header.base));
    }
    let room = segment.file_bytes.saturating_sub(crate::segment::header::HEADER_BYTES);
    let end = end.unwrap_or_else(|| header.limit.min(header.base.advance(room)));
    if lsn >= end {
        return Err(not_found(lsn));
    }
    let mut reader = SegmentReader::for_one_frame(segment.file.clone(), header, lsn, end);
    match reader.advance()? {
        Ok((lsn, frame)) if !frame.record_type.is_system() => Ok(Record {
            lsn,
            record_type: frame.record_type,
            payload: reader.frame(lsn, frame).payload().to_vec(),
            segment: number,
        }),
        Ok(_) => Err(not_found(lsn)),
        Err(stop) => {
            // Damage, or an LSN between two records? Following the frames from the start of the segment tells.
            if align(&segment, &header, lsn, end, false)? == lsn {
                Err(reader.corruption(stop))
            } else {
                Err(not_found(lsn))
            }
        }
    }
}

pub(crate) fn not_found(lsn: Lsn) -> Error {
    Error::new(ErrorKind::NotFound, "read record", "no record starts at this LSN").at_lsn(lsn)
}

/// Fetches one durable record of a live log.
pub(crate) fn read_live(shared: &Shared, lsn: Lsn) -> Result<Record> {
    let durable = shared.commit.marks.durable();
    if lsn >= durable {
        let detail = format!("the log is durable up to LSN {durable}");
        return Err(Error::new(ErrorKind::NotFound, "read record", detail).at_lsn(lsn));
    }
    match shared.chain.pin(lsn).0 {
        Location::Truncated => Err(truncated(lsn, shared.chain.start())),
        Location::Gap { .. } => Err(not_found(lsn)),
        Location::In(link) => {
            let _pin = Pin::of(&shared.chain, link.number);
            let fetch = || fetch(&shared.dir, shared.log_id, link.number, lsn, Some(link.end.unwrap_or(durable)));
            fetch().or_else(|error| {
                // A change of structure that is under way may look like damage.
                drop(shared.structure.lock());
                match shared.chain.locate(lsn) {
                    Location::Truncated => Err(truncated(lsn, shared.chain.start())),
                    Location::Gap { .. } => Err(not_found(lsn)),
                    Location::In(now) if now.number == link.number && error.is_corruption() => fetch(),
                    _ => Err(error),
                }
            })
        }
    }
}
