//! The first step of recovery: look at everything and change nothing. `specs/recovery.md` names the steps.

use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::{LogDir, LogFile};
use crate::lsn::Lsn;
use crate::record::{FRAME_ALIGN, FRAME_HEADER_BYTES, Identity, decode_header};
use crate::scan::Stop;
use crate::segment::header::{BlockError, HEADER_BYTES, HeaderState, SegmentHeader};
use crate::segment::name::{self, FileName};
use crate::segment::reader::{SegmentFile, SegmentReader};

/// How much of a log a survey reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The segments that are not proven durable, and at least `verify_bytes` from the end; up to `threads` at the same time, if there is so
    /// much to read that starting them is worth it.
    Tail { verify_bytes: u64, threads: usize },
    /// Every segment, up to `threads` at the same time.
    Full { threads: usize },
}

impl Reach {
    /// What is not proven durable and no more, in the thread of the caller.
    pub(crate) const UNPROVEN: Reach = Reach::Tail { verify_bytes: 0, threads: 1 };

    /// How many threads are to scan so many bytes.
    fn threads(self, bytes: u64) -> usize {
        /// A thread takes as long to start as it takes to scan a fraction of this.
        const BYTES_PER_THREAD: u64 = 4 << 20;
        match self {
            Reach::Tail { threads, .. } => threads.min((bytes / BYTES_PER_THREAD) as usize),
            Reach::Full { threads } => threads,
        }
    }
}

/// The control file as it was found.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ControlState {
    Missing,
    Valid(Control),
    Newer(String),
    Damaged(String),
}

/// Where a segment is. It is opened when it is read, because a log may have more segments than a process may have open files.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    dir: LogDir,
    name: String,
}

impl Place {
    fn new(dir: &LogDir, number: u64) -> Place {
        Place { dir: dir.clone(), name: name::segment(number) }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path_of(&self.name)
    }

    pub(crate) fn open(&self) -> Result<LogFile> {
        self.dir.open_file(&self.name, OpenMode::Read)
    }
}

/// A segment file as it was found.
#[derive(Debug)]
pub(crate) struct Surveyed {
    pub(crate) number: u64,
    pub(crate) place: Place,
    pub(crate) file_bytes: u64,
    pub(crate) header: HeaderState,
    /// Its epoch is lower than that of a segment before it: a cut removed it.
    pub(crate) is_void: bool,
    /// There is no frame at its start. Only known for segments without a control file.
    pub(crate) is_unused: bool,
}

/// A segment of the chain.
#[derive(Debug)]
pub(crate) struct ChainSegment {
    pub(crate) header: SegmentHeader,
    pub(crate) place: Place,
    pub(crate) file_bytes: u64,
    /// Where it must end: its own sealed end, or what its successor says.
    pub(crate) known_end: Option<Lsn>,
    pub(crate) scan: Option<Scan>,
}

/// What the scan of a segment found.
#[derive(Clone, Debug)]
pub(crate) struct Scan {
    /// The first position without a valid frame.
    pub(crate) stop_lsn: Lsn,
    pub(crate) stop: Stop,
    /// The end of the last complete batch.
    pub(crate) batch_end: Lsn,
    /// The header checksum of the last frame before `batch_end`, 0 if there is none.
    pub(crate) last_checksum: u32,
    /// Records of the user before `batch_end`.
    pub(crate) records: u64,
    /// The highest witness of any valid frame, also of those behind the stop.
    pub(crate) witness: Lsn,
    /// Valid frames behind the stop.
    pub(crate) valid_after: u64,
}

/// What the chain walk found.
#[derive(Debug, Default)]
pub(crate) struct Walk {
    pub(crate) chain: Vec<ChainSegment>,
    /// Segments behind the chain: blank, damaged or void, and those behind a segment whose header did not reach the disk.
    pub(crate) trailing: Vec<Surveyed>,
    /// Why the chain is no chain.
    pub(crate) broken: Option<Error>,
}

/// Everything that was found in the directory of a log.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) control: ControlState,
    pub(crate) walk: Walk,
    /// Segments below the start segment: leftovers of a truncation.
    pub(crate) below_start: Vec<u64>,
    /// Segments found without a control file.
    pub(crate) orphans: Vec<Surveyed>,
    /// Names to remove whatever was decided: prepared and recycled segments, temps beside a healthy final.
    pub(crate) sweepable: Vec<String>,
    /// Temps whose final is missing: evidence.
    pub(crate) stranded: Vec<String>,
    pub(crate) foreign: Vec<String>,
    /// The highest witness.
    pub(crate) witness: Lsn,
    /// Bytes of frames that were read.
    pub(crate) scanned_bytes: u64,
}

/// Told how far a long scan is: bytes done, bytes in all.
pub(crate) type ProgressFn<'a> = &'a (dyn Fn(u64, u64) + Send + Sync);

/// Reads the directory, the control file, the headers, and as many frames as `reach` says.
pub(crate) fn survey(dir: &LogDir, reach: Reach, progress: ProgressFn<'_>) -> Result<Survey> {
    let names: Vec<FileName> = dir.list()?.iter().map(|name| name::parse(name)).collect();
    let control = read_control(dir)?;
    let mut numbers: Vec<u64> = names
        .iter()
        .filter_map(|name| if let FileName::Segment(number) = name { Some(*number) } else { None })
        .collect();
    numbers.sort_unstable();
    let mut survey = Survey {
        control,
        walk: Walk::default(),
        below_start: Vec::new(),
        orphans: Vec::new(),
        sweepable: Vec::new(),
        stranded: Vec::new(),
        foreign: Vec::new(),
        witness: Lsn::ZERO,
        scanned_bytes: 0,
    };
    survey.classify_others(&names);
    let control = match survey.control {
        ControlState::Valid(control) => control,
        _ => {
            survey.orphans = open_segments(dir, &numbers)?;
            for orphan in &mut survey.orphans {
                orphan.is_unused = is_unused(orphan)?;
            }
            return Ok(survey);
        }
    };
    let (below, rest): (Vec<u64>, Vec<u64>) = numbers.into_iter().partition(|&number| number < control.start_segment);
    survey.below_start = below;
    survey.walk = walk(dir, &control, open_segments(dir, &with_missed(&rest))?);
    if survey.walk.broken.is_none() {
        survey.scan_chain(&control, reach, progress)?;
    }
    Ok(survey)
}

/// Reads and classifies the control file.
pub(crate) fn read_control(dir: &LogDir) -> Result<ControlState> {
    let Some(file) = dir.find_file(name::CONTROL, OpenMode::Read)? else { return Ok(ControlState::Missing) };
    // One byte more than the block, so that a longer file is seen to be longer.
    let mut bytes = [0; HEADER_BYTES as usize + 1];
    let read = file.read_at(&mut bytes, 0)?;
    Ok(match Control::decode(&bytes[..read]) {
        Ok(control) => ControlState::Valid(control),
        Err(BlockError::Newer(why)) => ControlState::Newer(why),
        Err(BlockError::Damaged(why)) => ControlState::Damaged(why),
    })
}

/// The numbers that were listed, and those of short gaps between them: while another process gives segments their names, a listing of a large
/// directory may miss one. Whether it is there is found out by opening it.
fn with_missed(listed: &[u64]) -> Vec<u64> {
    const GAP_MAX: u64 = 16;
    let mut numbers = Vec::with_capacity(listed.len());
    for &number in listed {
        let from = numbers.last().map_or(number, |last: &u64| last + 1);
        if number - from <= GAP_MAX {
            numbers.extend(from..number);
        }
        numbers.push(number);
    }
    numbers
}

fn open_segments(dir: &LogDir, numbers: &[u64]) -> Result<Vec<Surveyed>> {
    let mut segments = Vec::with_capacity(numbers.len());
    for &number in numbers {
        // A segment that was listed and is gone was truncated meanwhile by the writer; its successors tell the rest.
        if let Some(SegmentFile { file_bytes, header, .. }) = SegmentFile::open(dir, number)? {
            let place = Place::new(dir, number);
            segments.push(Surveyed { number, place, file_bytes, header, is_void: false, is_unused: false });
        }
    }
    Ok(segments)
}

/// Whether a segment that was found without a control file never took a record: it is blank and so is what follows, or it is the first one and holds nothing but
/// its header, as a creation leaves it that dies before its control file has its name.
fn is_unused(segment: &Surveyed) -> Result<bool> {
    let may_be_unused = match &segment.header {
        HeaderState::Blank => true,
        HeaderState::Valid(header) => segment.number == 1 && header.sealed_end.is_none(),
        _ => false,
    };
    if !may_be_unused {
        return Ok(false);
    }
    let mut first = [0; 64];
    let read = segment.place.open()?.read_at(&mut first, HEADER_BYTES)?;
    Ok(first[..read].iter().all(|&byte| byte == 0))
}

/// Follows the chain from the start segment. The first contradiction ends it.
fn walk(dir: &LogDir, control: &Control, segments: Vec<Surveyed>) -> Walk {
    let mut walk = Walk::default();
    for segment in segments {
        if let Err(error) = walk.step(dir, control, segment) {
            walk.broken = Some(error);
            return walk;
        }
    }
    if let Err(error) = walk.check_required(dir, control) {
        walk.broken = Some(error);
    }
    walk
}

impl Walk {
    fn step(&mut self, dir: &LogDir, control: &Control, mut segment: Surveyed) -> Result<()> {
        let number = segment.number;
        let header = match &segment.header {
            HeaderState::Valid(header) => *header,
            HeaderState::Newer(why) => {
                let error = Error::new(ErrorKind::UnsupportedVersion, "open segment", why.clone());
                return Err(error.at_path(segment.place.path()).at_segment(number));
            }
            HeaderState::Blank | HeaderState::Damaged(_) => {
                self.trailing.push(segment);
                return Ok(());
            }
        };
        if header.log_id != control.log_id || header.segment != number {
            let detail = format!(
                "its header belongs to segment {} of log {}, not to segment {number} of log {}",
                header.segment, header.log_id, control.log_id
            );
            return Err(corrupt_header(&segment.place, number, detail));
        }
        let epoch = self.chain.last().map_or(0, |last| last.header.epoch);
        if header.epoch < epoch {
            segment.is_void = true;
            self.trailing.push(segment);
            return Ok(());
        }
        if self.trailing.iter().any(|other| !other.is_void) && !self.chain.is_empty() {
            // The header of the segment before did not reach the disk, or is damaged. The witnesses of this one tell which.
            self.trailing.push(segment);
            return Ok(());
        }
        if let Some(last) = self.chain.last_mut() {
            if header.predecessor_end < last.header.base
                || last.known_end.is_some_and(|end| end != header.predecessor_end)
            {
                let detail =
                    format!("it names LSN {} as its predecessor's end, which is not so", header.predecessor_end);
                return Err(corrupt_header(&segment.place, number, detail));
            }
            last.known_end = Some(header.predecessor_end);
        }
        let expected = self.chain.last().map_or(control.start_segment, |last| last.header.segment + 1);
        if let Some(unusable) = self.trailing.first() {
            return Err(unusable_header(unusable, "although segments of the log follow"));
        }
        if number != expected {
            return Err(missing_segment(dir, expected));
        }
        self.chain.push(ChainSegment {
            header,
            place: segment.place,
            file_bytes: segment.file_bytes,
            known_end: header.sealed_end,
            scan: None,
        });
        Ok(())
    }

    /// The segments that the control file names must be there.
    fn check_required(&self, dir: &LogDir, control: &Control) -> Result<()> {
        let last = self.chain.last().map(|segment| segment.header.segment);
        let required = control.clean.map_or(control.opened_segment, |end| end.segment).max(control.start_segment);
        if last.is_some_and(|last| last >= required) {
            return Ok(());
        }
        let missing = last.map_or(control.start_segment, |last| last + 1);
        match self.trailing.iter().find(|segment| segment.number == missing) {
            Some(unusable) => Err(unusable_header(unusable, "although the control file says that it was used")),
            None => Err(missing_segment(dir, missing)),
        }
    }

    /// The first unusable segment right behind the chain: a torn start of a segment, perhaps.
    pub(crate) fn torn_start(&self) -> Option<&Surveyed> {
        let next = self.chain.last()?.header.segment + 1;
        self.trailing.iter().find(|segment| segment.number == next && !segment.is_void)
    }
}

fn corrupt_header(place: &Place, number: u64, detail: String) -> Error {
    Error::new(ErrorKind::Corruption, "open segment", detail).at_path(place.path()).at_segment(number).at_offset(0)
}

fn unusable_header(segment: &Surveyed, circumstance: &str) -> Error {
    let what = match &segment.header {
        HeaderState::Damaged(why) => why.clone(),
        HeaderState::Valid(_) => "it is a leftover of a cut".to_owned(),
        _ => "its header is blank".to_owned(),
    };
    corrupt_header(&segment.place, segment.number, format!("{what}, {circumstance}"))
}

fn missing_segment(dir: &LogDir, number: u64) -> Error {
    Error::new(ErrorKind::Corruption, "open log", "a segment of the log is missing")
        .at_path(dir.path_of(&name::segment(number)))
        .at_segment(number)
}

impl Survey {
    fn classify_others(&mut self, names: &[FileName]) {
        for file_name in names {
            match file_name {
                FileName::Prepare(number) => self.sweepable.push(name::prepare(*number)),
                // Of a process that has ended, if whoever asks holds the lock.
                FileName::Statistics => self.sweepable.push(name::STATISTICS.to_owned()),
                FileName::Recycle(number) => self.sweepable.push(name::recycle(*number)),
                FileName::SegmentTemp(number) => {
                    let temp = name::temp(&name::segment(*number));
                    let has_final = names.contains(&FileName::Segment(*number));
                    if has_final { self.sweepable.push(temp) } else { self.stranded.push(temp) }
                }
                FileName::ControlTemp => {
                    let temp = name::temp(name::CONTROL);
                    let has_final = names.contains(&FileName::Control);
                    if has_final { self.sweepable.push(temp) } else { self.stranded.push(temp) }
                }
                FileName::Foreign(name) => self.foreign.push(name.clone()),
                FileName::Lock | FileName::Control | FileName::Reserve | FileName::Segment(_) => {}
            }
        }
    }

    fn scan_chain(&mut self, control: &Control, reach: Reach, progress: ProgressFn<'_>) -> Result<()> {
        self.witness = control.witness.max(control.clean.map_or(Lsn::ZERO, |end| end.lsn));
        for segment in &self.walk.chain {
            self.witness = self.witness.max(segment.header.witness).max(segment.header.sealed_end.unwrap_or(Lsn::ZERO));
        }
        let first = self.first_to_scan(reach);
        let total: u64 = self.walk.chain[first..].iter().map(|segment| segment.file_bytes).sum();
        let scans = scan_segments(&self.walk.chain[first..], reach.threads(total), &|done| progress(done, total))?;
        for (segment, scan) in self.walk.chain[first..].iter_mut().zip(scans) {
            self.witness = self.witness.max(scan.witness);
            self.scanned_bytes += scan.stop_lsn.distance_from(segment.header.base);
            segment.scan = Some(scan);
        }
        if let Some(witness) = self.witness_in_torn_start()? {
            self.witness = self.witness.max(witness);
        }
        self.witness = self.witness.max(self.witness_behind_torn_start()?);
        Ok(())
    }

    fn first_to_scan(&self, reach: Reach) -> usize {
        let Reach::Tail { verify_bytes, .. } = reach else { return 0 };
        let chain = &self.walk.chain;
        // From the segment that holds the highest witness on, everything may be torn. The last one is always read.
        let proven =
            chain.iter().take_while(|segment| segment.known_end.is_some_and(|end| end <= self.witness)).count();
        let mut first = proven.min(chain.len() - 1);
        let mut bytes: u64 = chain[first..].iter().map(|segment| segment.file_bytes).sum();
        while first > 0 && bytes + chain[first - 1].file_bytes <= verify_bytes {
            first -= 1;
            bytes += chain[first].file_bytes;
        }
        first
    }

    /// A segment whose header is unreadable may still hold frames that prove that it was synced.
    fn witness_in_torn_start(&self) -> Result<Option<Lsn>> {
        let (Some(torn), Some(last)) = (self.walk.torn_start(), self.walk.chain.last()) else { return Ok(None) };
        let Some(scan) = &last.scan else { return Ok(None) };
        let identity = Identity::new(last.header.log_id, torn.number, last.header.epoch);
        let beyond = search(&torn.place.open()?, identity, scan.stop_lsn, HEADER_BYTES, torn.file_bytes)?;
        Ok((beyond.valid > 0).then_some(beyond.witness))
    }

    /// What the segments say that follow one whose header is unreadable.
    fn witness_behind_torn_start(&self) -> Result<Lsn> {
        let mut witness = Lsn::ZERO;
        for segment in self.walk.trailing.iter().filter(|segment| !segment.is_void) {
            let HeaderState::Valid(header) = segment.header else { continue };
            let known_end = header.sealed_end;
            let place = segment.place.clone();
            let scan =
                scan_segment(&ChainSegment { header, place, file_bytes: segment.file_bytes, known_end, scan: None })?;
            witness = witness.max(header.witness).max(scan.witness);
        }
        Ok(witness)
    }
}

/// Scans segments, up to `threads` of them at the same time, one of which is the caller's. `progress` is told how many bytes are done, never
/// fewer than before.
fn scan_segments(
    segments: &[ChainSegment],
    threads: usize,
    progress: &(dyn Fn(u64) + Send + Sync),
) -> Result<Vec<Scan>> {
    let done = Mutex::new(0);
    let scan = |segment: &ChainSegment| {
        let scan = scan_segment(segment)?;
        let mut done = done.lock();
        *done += segment.file_bytes;
        progress(*done);
        Ok(scan)
    };
    let threads = threads.min(segments.len());
    if threads <= 1 {
        return segments.iter().map(scan).collect();
    }
    let next = AtomicUsize::new(0);
    let scans: Vec<OnceLock<Result<Scan>>> = segments.iter().map(|_| OnceLock::new()).collect();
    let scan_some = || {
        while let Some((segment, place)) = {
            let index = next.fetch_add(1, Ordering::Relaxed);
            segments.get(index).zip(scans.get(index))
        } {
            place.get_or_init(|| scan(segment));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // A thread that the system refuses is one fewer: the caller scans whatever nobody else does.
            drop(std::thread::Builder::new().spawn_scoped(scope, scan_some));
        }
        scan_some();
    });
    scans.into_iter().map(|scan| scan.into_inner().expect("every segment was scanned")).collect()
}

fn scan_segment(segment: &ChainSegment) -> Result<Scan> {
    let header = segment.header;
    let room = segment.file_bytes.saturating_sub(HEADER_BYTES);
    let end = segment.known_end.unwrap_or_else(|| header.limit.min(header.base.advance(room)));
    let mut scan = Scan {
        stop_lsn: header.base,
        stop: Stop::AtEnd,
        batch_end: header.base,
        last_checksum: 0,
        records: 0,
        witness: Lsn::ZERO,
        valid_after: 0,
    };
    let file = segment.place.open()?;
    let mut records = 0;
    let mut suspect = None;
    loop {
        let mut reader = SegmentReader::new(file.clone(), header, scan.stop_lsn, end);
        follow(&mut reader, &mut scan, &mut records)?;
        if suspect == Some(scan.stop_lsn) {
            return Ok(scan);
        }
        scan.valid_after = 0;
        if scan.stop == Stop::AtEnd {
            return Ok(scan);
        }
        let from = header.offset_of(scan.stop_lsn) + FRAME_ALIGN as u64;
        let lsn = scan.stop_lsn.advance(FRAME_ALIGN as u64);
        let beyond = search(&file, header.identity(), lsn, from, segment.file_bytes)?;
        scan.valid_after = beyond.valid;
        scan.witness = scan.witness.max(beyond.witness);
        if beyond.witness == Lsn::ZERO {
            return Ok(scan);
        }
        // A writer may have gone on between the two reads. Damage is still there when it is looked at after what is behind it.
        suspect = Some(scan.stop_lsn);
    }
}

/// Follows the frames from where the scan stands to where they stop.
fn follow(reader: &mut SegmentReader, scan: &mut Scan, records: &mut u64) -> Result<()> {
    scan.stop = loop {
        match reader.advance()? {
            Ok((_, header)) => {
                scan.witness = scan.witness.max(header.witness);
                *records += u64::from(!header.record_type.is_system());
                if !header.continues {
                    scan.batch_end = reader.lsn();
                    scan.last_checksum = header.checksum;
                    scan.records = *records;
                }
            }
            Err(stop) => break stop,
        }
    };
    scan.stop_lsn = reader.lsn();
    Ok(())
}

/// Valid frames that are not reached by following the frames before them.
struct Beyond {
    valid: u64,
    witness: Lsn,
}

/// Looks for valid frames at every possible position from `offset` (where `lsn` would be) to `file_bytes`.
fn search(file: &LogFile, identity: Identity, mut lsn: Lsn, mut offset: u64, file_bytes: u64) -> Result<Beyond> {
    const CHUNK: usize = 1 << 20;
    /// Unused space is zeros, and passed over in steps of this.
    const BLOCK: usize = 512;
    let mut beyond = Beyond { valid: 0, witness: Lsn::ZERO };
    let rest = file_bytes.saturating_sub(offset).min((CHUNK + FRAME_HEADER_BYTES) as u64);
    let mut chunk = vec![0; rest as usize];
    let mut body = Vec::new();
    while offset + FRAME_HEADER_BYTES as u64 <= file_bytes {
        let read = file.read_at(&mut chunk, offset)?;
        if read < FRAME_HEADER_BYTES {
            break;
        }
        let mut at = 0;
        while at + FRAME_HEADER_BYTES <= read && at < CHUNK {
            if at.is_multiple_of(BLOCK) && are_zeros(&chunk[at..read.min(at + BLOCK + FRAME_HEADER_BYTES)]) {
                // No header begins in the first block of them, as no header is without its marker.
                at += BLOCK;
                continue;
            }
            let here = lsn.advance(at as u64);
            let step = match decode_header(&chunk[at..], identity, here) {
                Some(header) if offset + at as u64 + header.frame_bytes() <= file_bytes => {
                    let body_bytes = (header.frame_bytes() as usize) - FRAME_HEADER_BYTES;
                    body.resize(body_bytes, 0);
                    let got = file.read_at(&mut body, offset + (at + FRAME_HEADER_BYTES) as u64)?;
                    // The header alone is proof of its witness: its checksum is its own.
                    beyond.witness = beyond.witness.max(header.witness);
                    if got == body_bytes && header.body_is_valid(&body) {
                        beyond.valid += u64::from(!header.record_type.is_system());
                        header.frame_bytes() as usize
                    } else {
                        FRAME_ALIGN
                    }
                }
                _ => FRAME_ALIGN,
            };
            at += step;
        }
        lsn = lsn.advance(at as u64);
        offset += at as u64;
    }
    Ok(beyond)
}

/// Without an early end, so that the widest instructions there are can be used.
fn are_zeros(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |all, byte| all | byte) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(feature = "sim")]
    #[test]
    fn a_frame_behind_zeros_is_found_wherever_it_begins() {
        use crate::record::padding_header;

        let fs = crate::fs::sim::SimFs::new(7);
        crate::fs::durable::create_dir_durable(&fs, std::path::Path::new("/log")).unwrap();
        let dir = LogDir::open(&fs, std::path::Path::new("/log")).unwrap();
        let identity = Identity::new(crate::record::LogId([1; 16]), 1, 1);
        let at = |offset: u64| Lsn::FIRST.advance(offset);
        for offset in (0..1600).step_by(FRAME_ALIGN) {
            let frame = padding_header(identity, at(offset), at(8), FRAME_HEADER_BYTES as u64);
            // With nothing behind it, and with more zeros.
            for bytes in [offset + FRAME_HEADER_BYTES as u64, 4096] {
                let fill = |file: &LogFile| file.write_zeros(0, bytes).and_then(|()| file.write_at(&frame, offset));
                let file = dir.create_filled("a", fill).unwrap();
                let beyond = search(&file, identity, Lsn::FIRST, 0, bytes).unwrap();
                assert_eq!(beyond.witness, at(8), "at {offset} of {bytes}");
            }
        }
    }

    #[test]
    fn a_number_that_a_listing_missed_is_looked_for_and_a_wide_gap_is_not_filled() {
        assert_eq!(with_missed(&[3, 4, 6, 9]), [3, 4, 5, 6, 7, 8, 9]);
        assert_eq!(with_missed(&[1, 1000, 1001]), [1, 1000, 1001]);
        assert_eq!(with_missed(&[]), Vec::<u64>::new());
    }
}
