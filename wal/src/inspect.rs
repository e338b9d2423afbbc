//! Looking at a log without opening it: what `walctl info` and `walctl verify` show. Nothing is changed and no lock is taken.
//!
//! [`survey`] runs the first two steps of recovery, the same code that [`Wal::open`](crate::Wal::open) runs, and says what an
//! open would find and do.

use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::LogDir;
use crate::fs::{FileSystem, OpenMode};
use crate::lsn::Lsn;
use crate::record::{FRAME_HEADER_BYTES, LogId, decode_header, header_checksums, payload_checksum};
use crate::recover::decide::{CutReason, Decision, damage, decide};
use crate::recover::survey::{
    ChainSegment, ControlState, Reach, Scan, Survey as Raw, read_control, survey as survey_dir,
};
use crate::report::Progress;
use crate::scan::{Flaw, Stop};
use crate::segment::header::HeaderState;
use crate::segment::name;
use crate::statistics::FILE_BYTES;
pub use crate::statistics::{Recent, Statistics};

/// How much a survey reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// What a quick open reads: the segments that are not proven durable, at least the last one.
    Tail,
    /// Every record of every segment.
    Full,
}

/// What the control file says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ControlInfo {
    /// What identifies the log.
    pub log_id: LogId,
    /// How often the file was replaced.
    pub sequence: u64,
    /// The first segment that belongs to the log.
    pub start_segment: u64,
    /// No record below it is part of the log.
    pub start_lsn: Lsn,
    /// The durable LSN when it was written.
    pub witness_lsn: Lsn,
    /// Truncation past it is refused.
    pub checkpoint_lsn: Option<Lsn>,
    /// Whether the log was closed cleanly.
    pub is_closed: bool,
    /// When it was written, microseconds since 1970-01-01 UTC.
    pub written_micros: u64,
}

/// What a segment file is to its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum SegmentState {
    /// The last one of the chain, which takes records or will be recovered.
    Active,
    /// Followed by another one, or written as a whole.
    Sealed,
    /// Made ready and not used yet.
    Prepared,
    /// A leftover of a truncation or a cut; the next open removes it.
    Void,
    /// Its header is right, and the chain does not lead to it.
    Unreached,
    /// Its header is damaged.
    Damaged,
}

/// Damage in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Damage {
    /// Where in the file, in bytes.
    pub offset: u64,
    /// The LSN of the first position without a valid record.
    pub lsn: Lsn,
    /// What is wrong.
    pub reason: String,
    /// Valid records that follow in the same segment.
    pub valid_records_after: u64,
    /// Whether a witness proves that what is damaged was once durable. If not, it is the torn end of an unfinished write.
    pub is_witnessed: bool,
    /// The checksum that does not match, if that is what is wrong.
    pub checksum: Option<ChecksumMismatch>,
}

/// A checksum that is not that of the bytes it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct ChecksumMismatch {
    /// What it is the checksum of.
    pub of: ChecksumOf,
    /// What is stored.
    pub expected: u32,
    /// What the bytes give.
    pub found: u32,
}

/// What a checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ChecksumOf {
    /// The header of a record, with its identity and LSN.
    RecordHeader,
    /// The payload of a record.
    Payload,
    /// The last record of the segment, as its successor names it.
    LastRecord,
}

/// What on disk proves that everything below the [witness LSN](Survey::witness_lsn) was synced.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct WitnessPlace {
    /// The file that says so.
    pub file_name: String,
    /// In which part of it.
    pub kind: WitnessKind,
}

/// Where in a file a witness stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum WitnessKind {
    /// The control file's own.
    Control,
    /// The end of a log that was closed cleanly, in the control file.
    CleanEnd,
    /// The header of a segment.
    SegmentHeader,
    /// The end of a segment that was written as a whole, in its header.
    SealedEnd,
    /// A record of a segment.
    Record,
}

/// A segment file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct SegmentInfo {
    /// Its number.
    pub number: u64,
    /// Its file name.
    pub file_name: String,
    /// Its size in bytes.
    pub file_bytes: u64,
    /// What it is to the log.
    pub state: SegmentState,
    /// How many cuts of the log's end came before it.
    pub epoch: Option<u64>,
    /// The LSN of its first frame.
    pub base_lsn: Option<Lsn>,
    /// Where its records end, if that is known without reading it or it was read.
    pub end_lsn: Option<Lsn>,
    /// The durable LSN when its header was written.
    pub witness_lsn: Option<Lsn>,
    /// Records in it, if it was read.
    pub records: Option<u64>,
    /// The first damage in it, if it was read or its header is damaged.
    pub damage: Option<Damage>,
    /// When it was created, microseconds since 1970-01-01 UTC.
    pub created_micros: Option<u64>,
}

/// What an open would find.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Outcome {
    /// There is no log, only what a creation left that did not finish, or nothing.
    NoLog,
    /// Closed cleanly.
    Clean,
    /// Not closed (or open now); everything would be kept.
    Kept,
    /// Not closed (or open now); an unfinished write at the end would be cut.
    Cut {
        /// Why.
        reason: CutReason,
        /// The first LSN that would not be kept.
        at: Lsn,
    },
    /// The open would fail with this error and change nothing.
    Fail(Error),
}

/// Everything that was found in the directory of a log.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Survey {
    /// What the control file says, if it can be read.
    pub control: Option<ControlInfo>,
    /// The segment files, by number.
    pub segments: Vec<SegmentInfo>,
    /// Start of the log.
    pub start_lsn: Lsn,
    /// End of what an open would keep.
    pub end_lsn: Lsn,
    /// The highest LSN below which something on disk proves that everything was synced.
    pub witness_lsn: Lsn,
    /// What proves that; `None` if nothing does, or if it is a record behind damage, of a segment whose header cannot be read.
    pub witness: Option<WitnessPlace>,
    /// Records in the segments that were read.
    pub records: u64,
    /// Bytes of frames that were read.
    pub scanned_bytes: u64,
    /// Files that the next open removes.
    pub sweepable: Vec<String>,
    /// Temp files whose final is missing; they are kept as evidence.
    pub stranded: Vec<String>,
    /// Directories in which a repair or a cut kept what it removed.
    pub quarantines: Vec<String>,
    /// The name of the [statistics file](statistics), if there is one. It is no part of the log, and the next open removes it.
    pub statistics: Option<String>,
    /// Names that do not belong to a log.
    pub foreign: Vec<String>,
    /// What an open would find.
    pub outcome: Outcome,
}

/// Surveys the log in `dir`.
///
/// If another process is writing the log, the end of what is seen is the end at some moment during the survey, and the
/// outcome is what a crash at that moment would have led to.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no directory, [`ErrorKind::Io`]. What is wrong with the log itself is not an error here but
/// part of the result.
pub fn survey(
    fs: &dyn FileSystem,
    dir: impl AsRef<Path>,
    depth: Depth,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Survey> {
    survey_with_threads(fs, dir, depth, 1, progress)
}

/// As [`survey`], and reads up to `threads` segments at the same time. What is found does not depend on how many.
///
/// # Errors
///
/// As [`survey`].
pub fn survey_with_threads(
    fs: &dyn FileSystem,
    dir: impl AsRef<Path>,
    depth: Depth,
    threads: usize,
    progress: impl Fn(Progress) + Send + Sync,
) -> Result<Survey> {
    let dir = LogDir::open(fs, dir.as_ref())?;
    let reach = match depth {
        Depth::Tail => Reach::UNPROVEN,
        Depth::Full => Reach::Full { threads },
    };
    let report = |bytes_done, bytes_total| progress(Progress { bytes_done, bytes_total });
    let (raw, decision) = settled(&dir, reach, &report)?;
    Ok(describe(&raw, decision))
}

/// Surveys and decides. A writer in another process may have gone on between two reads, which can look like damage or like a hole; what is
/// really there is still in the same place when looked at again.
fn settled(dir: &LogDir, reach: Reach, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<(Raw, Decision)> {
    // What differs each time is no damage, so it is looked at more often than damage would need.
    const LOOKS_MAX: usize = 20;
    let mut last: Option<(ControlState, String)> = None;
    for look in 1.. {
        let raw = match survey_dir(dir, reach, progress) {
            // A segment that was listed was removed before it could be read.
            Err(error) if is_gone(&error) && look < LOOKS_MAX => {
                last = None;
                continue;
            }
            other => other?,
        };
        let decision = decide(&raw);
        let found = match &decision {
            Decision::Fail(error) => error.to_string(),
            Decision::Keep(keep) if keep.cut.is_some() => format!("cut at {}", keep.end),
            _ => return Ok((raw, decision)),
        };
        // The control file says whether the structure was changed meanwhile: two changes may look alike.
        let found = (read_control(dir)?, found);
        if last.as_ref() == Some(&found) || look >= LOOKS_MAX {
            return Ok((raw, decision));
        }
        last = Some(found);
    }
    unreachable!("the loop returns")
}

fn is_gone(error: &Error) -> bool {
    error.io_error().is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn describe(raw: &Raw, decision: Decision) -> Survey {
    let control = match &raw.control {
        ControlState::Valid(control) => Some(ControlInfo {
            log_id: control.log_id,
            sequence: control.sequence,
            start_segment: control.start_segment,
            start_lsn: control.start,
            witness_lsn: control.witness,
            checkpoint_lsn: control.checkpoint,
            is_closed: control.clean.is_some(),
            written_micros: control.written_micros,
        }),
        _ => None,
    };
    let last_end =
        raw.walk.chain.last().and_then(|segment| segment.scan.as_ref()).map_or(Lsn::ZERO, |scan| scan.batch_end);
    let (end_lsn, outcome) = match decision {
        Decision::Create => (Lsn::ZERO, Outcome::NoLog),
        Decision::Clean(_, end) => (end.lsn, Outcome::Clean),
        Decision::Keep(keep) => {
            (keep.end, keep.cut.map_or(Outcome::Kept, |reason| Outcome::Cut { reason, at: keep.end }))
        }
        Decision::Fail(error) => (last_end, Outcome::Fail(error)),
    };
    let mut segments: Vec<SegmentInfo> = raw.walk.chain.iter().enumerate().map(|it| chain_segment(raw, it)).collect();
    let others = raw.walk.trailing.iter().chain(&raw.orphans);
    segments.extend(others.map(|other| other_segment(other.number, other.file_bytes, &other.header, other.is_void)));
    segments
        .extend(raw.below_start.iter().map(|&number| SegmentInfo { state: SegmentState::Void, ..blank(number, 0) }));
    segments.sort_by_key(|segment| segment.number);
    let (statistics, sweepable): (Vec<String>, Vec<String>) =
        raw.sweepable.iter().cloned().partition(|name| name == name::STATISTICS);
    let (quarantines, foreign) = raw.foreign.iter().cloned().partition(|name| name::is_quarantine(name));
    Survey {
        start_lsn: control.as_ref().map_or(Lsn::ZERO, |control| control.start_lsn),
        control,
        records: segments.iter().filter_map(|segment| segment.records).sum(),
        segments,
        end_lsn,
        witness_lsn: raw.witness,
        witness: witness_place(raw),
        scanned_bytes: raw.scanned_bytes,
        sweepable,
        statistics: statistics.into_iter().next(),
        stranded: raw.stranded.clone(),
        quarantines,
        foreign,
        outcome,
    }
}

fn chain_segment(raw: &Raw, (index, segment): (usize, &ChainSegment)) -> SegmentInfo {
    let header = &segment.header;
    let is_last = index + 1 == raw.walk.chain.len();
    let scan = segment.scan.as_ref();
    let is_whole = scan.is_none_or(|scan| segment.known_end.is_some_and(|end| scan.batch_end == end));
    let is_clean_end = scan.is_some_and(|scan| {
        is_last
            && scan.valid_after == 0
            && scan.batch_end == scan.stop_lsn
            && matches!(scan.stop, Stop::AtEnd | Stop::Zeros)
            && scan.batch_end >= raw.witness.min(header.limit)
    });
    let damage = scan.filter(|_| !is_whole && !is_clean_end).map(|scan| Damage {
        offset: header.offset_of(scan.stop_lsn),
        lsn: scan.batch_end,
        reason: damage(segment, scan).detail().to_owned(),
        valid_records_after: scan.valid_after,
        is_witnessed: scan.batch_end < raw.witness,
        checksum: mismatch(segment, scan),
    });
    let damage = damage.or_else(|| wrong_last_record(segment, scan?, raw.walk.chain.get(index + 1)?));
    SegmentInfo {
        file_bytes: segment.file_bytes,
        state: if is_last && header.sealed_end.is_none() && raw.walk.broken.is_none() {
            SegmentState::Active
        } else {
            SegmentState::Sealed
        },
        epoch: Some(header.epoch),
        base_lsn: Some(header.base),
        end_lsn: scan.map(|scan| scan.batch_end).or(segment.known_end),
        witness_lsn: Some(header.witness),
        records: scan.map(|scan| scan.records),
        damage,
        created_micros: Some(header.created_micros),
        ..blank(header.segment, segment.file_bytes)
    }
}

/// The checksum at which a scan stopped, looked at once more. That it cannot be read is no concern here: the damage is reported without.
fn mismatch(segment: &ChainSegment, scan: &Scan) -> Option<ChecksumMismatch> {
    let Stop::Damaged(flaw) = scan.stop else { return None };
    let file = segment.place.open().ok()?;
    let at = segment.header.offset_of(scan.stop_lsn);
    let mut header = [0; FRAME_HEADER_BYTES];
    if file.read_at(&mut header, at).ok()? < FRAME_HEADER_BYTES {
        return None;
    }
    let identity = segment.header.identity();
    match (flaw, decode_header(&header, identity, scan.stop_lsn)) {
        (Flaw::Payload, Some(frame)) => {
            let mut payload = vec![0; frame.payload_bytes as usize];
            let read = file.read_at(&mut payload, at + FRAME_HEADER_BYTES as u64).ok()?;
            let (expected, found) = (frame.payload_checksum, payload_checksum(&payload[..read]));
            (expected != found).then_some(ChecksumMismatch { of: ChecksumOf::Payload, expected, found })
        }
        (Flaw::Header, None) => {
            let (expected, found) = header_checksums(&header, identity, scan.stop_lsn);
            (expected != found).then_some(ChecksumMismatch { of: ChecksumOf::RecordHeader, expected, found })
        }
        _ => None,
    }
}

/// Damage of a segment that is whole by itself: its successor names another last record.
fn wrong_last_record(segment: &ChainSegment, scan: &Scan, next: &ChainSegment) -> Option<Damage> {
    let (expected, found) = (next.header.predecessor_checksum, scan.last_checksum);
    let is_whole = segment.known_end == Some(scan.batch_end);
    (is_whole && expected != found).then(|| Damage {
        offset: segment.header.offset_of(scan.batch_end),
        lsn: scan.batch_end,
        reason: format!("its successor, segment {}, names another last record", next.header.segment),
        valid_records_after: 0,
        is_witnessed: true,
        checksum: Some(ChecksumMismatch { of: ChecksumOf::LastRecord, expected, found }),
    })
}

/// Finds out who says the highest witness.
fn witness_place(raw: &Raw) -> Option<WitnessPlace> {
    let ControlState::Valid(control) = &raw.control else { return None };
    let place = |file_name: &str, kind| Some(WitnessPlace { file_name: file_name.to_owned(), kind });
    if control.clean.is_some_and(|end| end.lsn == raw.witness) {
        return place(name::CONTROL, WitnessKind::CleanEnd);
    }
    if control.witness == raw.witness {
        return place(name::CONTROL, WitnessKind::Control);
    }
    let trailing = raw.walk.trailing.iter().filter_map(|segment| match &segment.header {
        HeaderState::Valid(header) => Some((header, None)),
        _ => None,
    });
    let chain = raw.walk.chain.iter().map(|segment| (&segment.header, segment.scan.as_ref()));
    chain.chain(trailing).find_map(|(header, scan)| {
        let kind = if header.witness == raw.witness {
            WitnessKind::SegmentHeader
        } else if header.sealed_end == Some(raw.witness) {
            WitnessKind::SealedEnd
        } else if scan.is_some_and(|scan| scan.witness == raw.witness) {
            WitnessKind::Record
        } else {
            return None;
        };
        place(&name::segment(header.segment), kind)
    })
}

fn other_segment(number: u64, file_bytes: u64, header: &HeaderState, is_void: bool) -> SegmentInfo {
    let base = blank(number, file_bytes);
    match header {
        HeaderState::Blank => base,
        HeaderState::Valid(header) => {
            let state = if is_void { SegmentState::Void } else { SegmentState::Unreached };
            SegmentInfo { state, epoch: Some(header.epoch), base_lsn: Some(header.base), ..base }
        }
        HeaderState::Damaged(why) | HeaderState::Newer(why) => {
            let reason = why.clone();
            let damage = Damage {
                offset: 0,
                lsn: Lsn::ZERO,
                reason,
                valid_records_after: 0,
                is_witnessed: false,
                checksum: None,
            };
            SegmentInfo { state: SegmentState::Damaged, damage: Some(damage), ..base }
        }
    }
}

fn blank(number: u64, file_bytes: u64) -> SegmentInfo {
    SegmentInfo {
        number,
        file_name: name::segment(number),
        file_bytes,
        state: SegmentState::Prepared,
        epoch: None,
        base_lsn: None,
        end_lsn: None,
        witness_lsn: None,
        records: None,
        damage: None,
        created_micros: None,
    }
}

/// Why a log that is read from its files has no further record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LogEnd {
    /// Where the records end.
    pub lsn: Lsn,
    /// The unfinished write behind it, if there is one.
    pub cut: Option<CutReason>,
    /// The highest LSN below which something on disk proves that everything was synced.
    pub witness_lsn: Lsn,
    /// Whether the log was closed cleanly.
    pub is_closed: bool,
}

/// The statistics file of a log, as it was found.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum StatisticsFile {
    /// There is none: the process that writes the log does not offer its statistics, or nobody writes it.
    Absent,
    /// It is damaged, of another version, or was being written whenever it was read. The words say which.
    Unreadable(String),
    /// What a process said. Whether it still runs, and still writes this log, is not known from the file alone: the log must be in use, and
    /// [`Statistics::written_micros`] not much longer ago than [`Statistics::interval`].
    Valid(Box<Statistics>),
}

/// Reads the statistics file of the log in `dir`, which a writing process offers if it was told to
/// ([`Config::statistics_interval`](crate::Config::statistics_interval)).
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no directory, [`ErrorKind::Io`]. What is wrong with the file itself is part of the result.
pub fn statistics(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Result<StatisticsFile> {
    /// The writer may be in the middle of writing it, which takes a moment.
    const LOOKS_MAX: usize = 5;
    let dir = LogDir::open(fs, dir.as_ref())?;
    let mut found = StatisticsFile::Absent;
    for _ in 0..LOOKS_MAX {
        let Some(file) = dir.find_file(name::STATISTICS, OpenMode::Read)? else { return Ok(StatisticsFile::Absent) };
        // One byte more, so that a longer file is seen to be longer.
        let mut bytes = [0; FILE_BYTES + 1];
        let read = file.read_at(&mut bytes, 0)?;
        match Statistics::decode(&bytes[..read]) {
            Ok(statistics) => return Ok(StatisticsFile::Valid(Box::new(statistics))),
            Err(why) => found = StatisticsFile::Unreadable(why),
        }
    }
    Ok(found)
}

/// The highest LSN below which something on disk proves that everything was synced.
pub(crate) fn witness(dir: &LogDir) -> Result<Lsn> {
    Ok(survey_dir(dir, Reach::UNPROVEN, &|_, _| {})?.witness)
}

/// Tells the end of a log from damage.
pub(crate) fn judge_end(dir: &LogDir) -> Result<LogEnd> {
    let (raw, decision) = settled(dir, Reach::UNPROVEN, &|_, _| {})?;
    match decision {
        Decision::Create => {
            Err(Error::new(ErrorKind::NotFound, "read log", "there is no log in the directory").at_path(dir.path()))
        }
        Decision::Clean(_, end) => Ok(LogEnd { lsn: end.lsn, cut: None, witness_lsn: raw.witness, is_closed: true }),
        Decision::Keep(keep) => Ok(LogEnd { lsn: keep.end, cut: keep.cut, witness_lsn: raw.witness, is_closed: false }),
        Decision::Fail(error) => Err(error),
    }
}
