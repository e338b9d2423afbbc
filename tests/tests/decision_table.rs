//! The decision table of `specs/recovery.md`, for all combinations of its inputs. What is expected is worked out from
//! the table and from the bytes that `specs/format.md` draws, by nothing that the log itself uses.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use wal::fs::sim::SimFs;
use wal::inspect::{Depth, Outcome, survey};
use wal::{
    AppendOptions, Background, Batch, Config, CutReason, ErrorKind, FoundState, Lsn, ManualClock, Record, SyncMode,
    Ticket, Wal,
};

const DIR: &str = "/log";
const CONTROL: &str = "/log/control";
const SEGMENTS: [&str; 3] = ["/log/0000000000000001.wal", "/log/0000000000000002.wal", "/log/0000000000000003.wal"];
const HEADER: usize = 4096;
const FRAME: u64 = 24;
/// Records of 300 bytes that fill a segment.
const FULL: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ControlFile {
    Missing,
    /// Missing, as is the middle segment, and the first one is as a creation leaves it.
    Unborn,
    Open,
    /// Open, and nothing in the last segment was ever synced.
    OpenUnsynced,
    Closed,
    /// Of an earlier clean close: the log went on in its last segment.
    Stale,
    Damaged,
    Newer,
    OtherLog,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Valid,
    Blank,
    Damaged,
    Missing,
    OtherLog,
    Newer,
}

/// What became of the frames of the last segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tail {
    /// As it was written: zeros follow if the log was not closed, nothing if it was.
    Whole,
    /// More zeros at the end of the file.
    ZerosBehind,
    TornRecord,
    TornBatch,
    Hole,
    DamageBelowWitness,
    ShortInRecord,
    ShortBetweenRecords,
}

const CONTROLS: [ControlFile; 9] = [
    ControlFile::Missing,
    ControlFile::Unborn,
    ControlFile::Open,
    ControlFile::OpenUnsynced,
    ControlFile::Closed,
    ControlFile::Stale,
    ControlFile::Damaged,
    ControlFile::Newer,
    ControlFile::OtherLog,
];
const FIRSTS: [Header; 5] = [Header::Valid, Header::Blank, Header::Damaged, Header::Missing, Header::OtherLog];
const LASTS: [Header; 6] =
    [Header::Valid, Header::Blank, Header::Damaged, Header::Missing, Header::OtherLog, Header::Newer];
const TAILS: [Tail; 8] = [
    Tail::Whole,
    Tail::ZerosBehind,
    Tail::TornRecord,
    Tail::TornBatch,
    Tail::Hole,
    Tail::DamageBelowWitness,
    Tail::ShortInRecord,
    Tail::ShortBetweenRecords,
];

// The records of the last segment: two, a sync, two more, a batch of three, one more.
const RECORD_SYNCED: usize = 0;
const RECORD_HOLE: usize = 3;
const BATCH_FIRST: usize = 4;
const BATCH_LAST: usize = 6;
const RECORD_LAST: usize = 7;

#[derive(Clone, Copy, Debug)]
struct Case {
    control: ControlFile,
    first: Header,
    last: Header,
    tail: Tail,
}

/// What an open must come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    NoLog,
    Clean,
    Kept,
    Cut(CutReason, Lsn),
    Fail(ErrorKind),
}

/// Where a frame is and what it says.
#[derive(Clone, Copy, Debug)]
struct Frame {
    lsn: Lsn,
    end: Lsn,
    /// In its file.
    offset: usize,
    witness: Lsn,
}

/// A log before anything happens to it.
struct Log {
    fs: SimFs,
    records: Vec<Record>,
    /// For each record.
    frames: Vec<Frame>,
    /// The highest witness of the control file, of the headers of the first two segments and of their frames.
    witness: Lsn,
    /// Of the last segment's header.
    witness_of_last: Lsn,
    /// The recorded end, if the control file says that the log was closed.
    closed_at: Option<Lsn>,
    /// The segment that the control file says was used.
    required: u64,
    /// The first block of another log's first and last segment, and that log's control file.
    others: [Vec<u8>; 3],
}

fn config() -> Config {
    Config {
        segment_bytes_max: 8 << 10,
        reserve_bytes: 0,
        direct_io: false,
        background: Background::Inline,
        sync_mode: SyncMode::None,
        verify_bytes_on_open: 64 << 20,
        ..Config::default()
    }
}

fn open(fs: &SimFs, id: u8) -> wal::Result<Wal> {
    let opener = Wal::opener(config()).file_system(Arc::new(fs.clone()));
    opener.clock(Arc::new(ManualClock::default())).log_id([id; 16]).open(DIR)
}

fn read(log: &Wal) -> wal::Result<Vec<Record>> {
    log.reader(Lsn::ZERO)?.collect()
}

/// Writes these records, a batch of three and one more as one group, so that none of them is a witness of another.
fn write_last(log: &Wal, first: &[u8]) {
    let submit = |value: u8| log.submit(&[value; 300]).expect("a record");
    let mut tickets: Vec<Ticket> = first.iter().map(|value| submit(*value)).collect();
    let payloads = [[104; 100], [105; 100], [106; 100]];
    let mut batch = Batch::new();
    for payload in &payloads {
        batch.push(payload);
    }
    tickets.push(log.submit_all(&batch, AppendOptions::new()).expect("a batch"));
    tickets.push(submit(107));
    for ticket in tickets {
        ticket.wait().expect("the group is written");
    }
}

/// Writes the three segments and returns the files in the state that `control` names, and all records.
fn write(control: ControlFile, id: u8) -> (SimFs, Vec<Record>) {
    let fs = SimFs::new(1);
    let mut log = open(&fs, id).expect("a new log");
    let unborn = fs.kill();
    for number in 0..2 * FULL {
        log.append(&[number as u8; 300]).expect("an append");
    }
    let mut stale = None;
    if control == ControlFile::OpenUnsynced {
        write_last(&log, &[100, 101, 102, 103]);
    } else {
        log.append(&[100; 300]).expect("an append");
        log.append(&[101; 300]).expect("an append");
        log.flush().expect("a flush");
        if control == ControlFile::Stale {
            log.close().expect("a clean close");
            stale = Some(fs.read_file(CONTROL).expect("a control file"));
            log = open(&fs, id).expect("a clean log");
        }
        write_last(&log, &[102, 103]);
    }
    let killed = fs.kill();
    log.flush().expect("a flush");
    let records = read(&log).expect("a good log");
    log.close().expect("a clean close");
    let files = if control == ControlFile::Closed { fs } else { killed };
    if let Some(stale) = stale {
        files.write_file(CONTROL, &stale).expect("a control file");
    }
    if control == ControlFile::Unborn {
        files.write_file(SEGMENTS[0], &unborn.read_file(SEGMENTS[0]).expect("a segment")).expect("a segment");
        files.remove_file(SEGMENTS[1]).expect("a segment");
    }
    (files, records)
}

fn number_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("8 bytes"))
}

fn lsn_at(bytes: &[u8], offset: usize) -> Lsn {
    Lsn::new(number_at(bytes, offset))
}

/// CRC32C of RFC 3720, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82F6_3B78 } else { 0 })
    })
}

/// Gives a block a version that nobody knows.
fn make_newer(bytes: &mut [u8]) {
    bytes[8] = 2;
    let checksum = crc32c(&bytes[..HEADER - 4]);
    bytes[HEADER - 4..HEADER].copy_from_slice(&checksum.to_le_bytes());
}

impl Log {
    fn new(control: ControlFile) -> Log {
        let (fs, records) = write(control, 7);
        let whole = if control == ControlFile::Unborn { write(ControlFile::Open, 7).0 } else { fs.kill() };
        let files = SEGMENTS.map(|path| whole.read_file(path).expect("a segment"));
        let frames: Vec<Frame> = records
            .iter()
            .map(|record| {
                let file = files.iter().rfind(|file| lsn_at(file, 48) <= record.lsn).expect("the record's segment");
                let offset = HEADER + record.lsn.distance_from(lsn_at(file, 48)) as usize;
                let end = Lsn::new(record.lsn.get() + (FRAME + record.payload.len() as u64).next_multiple_of(8));
                Frame { lsn: record.lsn, end, offset, witness: lsn_at(file, offset + 16) }
            })
            .collect();
        assert_eq!((frames.len(), frames[2 * FULL].lsn), (2 * FULL + 8, lsn_at(&files[2], 48)));
        let block = fs.read_file(CONTROL).expect("a control file");
        let is_closed = block[80] == 2;
        let is_unsynced = |frame: &Frame| frame.witness <= frames[2 * FULL].lsn;
        assert_eq!(frames.iter().all(is_unsynced), control == ControlFile::OpenUnsynced, "{control:?}: {frames:?}");
        let closed_at = is_closed.then(|| lsn_at(&block, 96));
        let headers = files[..2].iter().map(|file| lsn_at(file, 72));
        let witnesses = headers.chain(frames[..2 * FULL].iter().map(|frame| frame.witness)).chain(closed_at);
        let (other, _) = write(control, 8);
        let others = [SEGMENTS[0], SEGMENTS[2], CONTROL].map(|path| other.read_file(path).expect("a file"));
        Log {
            witness: witnesses.fold(lsn_at(&block, 64), Lsn::max),
            witness_of_last: lsn_at(&files[2], 72),
            closed_at,
            required: number_at(&block, if is_closed { 88 } else { 56 }),
            others: others.map(|bytes| bytes[..HEADER].to_vec()),
            fs,
            records,
            frames,
        }
    }

    /// The frames of the last segment.
    fn last(&self) -> &[Frame] {
        &self.frames[2 * FULL..]
    }

    /// The files of a case.
    fn build(&self, case: Case) -> SimFs {
        let fs = self.fs.kill();
        self.set_control(&fs, case.control);
        let mut last = fs.read_file(SEGMENTS[2]).expect("a segment");
        self.set_tail(&mut last, case.tail);
        fs.write_file(SEGMENTS[2], &last).expect("a segment");
        set_header(&fs, SEGMENTS[0], case.first, &self.others[0]);
        set_header(&fs, SEGMENTS[2], case.last, &self.others[1]);
        fs
    }

    fn set_control(&self, fs: &SimFs, control: ControlFile) {
        let mut block = fs.read_file(CONTROL).expect("a control file");
        match control {
            ControlFile::Missing | ControlFile::Unborn => return fs.remove_file(CONTROL).expect("a control file"),
            ControlFile::Open | ControlFile::OpenUnsynced | ControlFile::Closed | ControlFile::Stale => {}
            ControlFile::Damaged => block[40] ^= 0x10,
            ControlFile::Newer => make_newer(&mut block),
            ControlFile::OtherLog => block.clone_from(&self.others[2]),
        }
        fs.write_file(CONTROL, &block).expect("a control file");
    }

    fn set_tail(&self, bytes: &mut Vec<u8>, tail: Tail) {
        let frames = self.last();
        let start = |index: usize| frames[index].offset;
        let payload = FRAME as usize + 50;
        match tail {
            Tail::Whole => {}
            Tail::ZerosBehind => bytes.resize(bytes.len() + HEADER, 0),
            Tail::TornRecord => bytes[start(RECORD_LAST) + payload] ^= 0x10,
            Tail::TornBatch => bytes[start(BATCH_LAST)..].fill(0),
            Tail::Hole => bytes[start(RECORD_HOLE)..start(BATCH_FIRST)].fill(0),
            Tail::DamageBelowWitness => bytes[start(RECORD_SYNCED) + payload] ^= 0x10,
            Tail::ShortInRecord => bytes.truncate(start(RECORD_LAST) + payload),
            Tail::ShortBetweenRecords => bytes.truncate(start(RECORD_LAST)),
        }
    }

    /// The table: the first row that matches. And how many records are kept.
    fn expected(&self, case: Case) -> (Expected, usize) {
        let corruption = (Expected::Fail(ErrorKind::Corruption), 0);
        let unsupported = (Expected::Fail(ErrorKind::UnsupportedVersion), 0);
        match case.control {
            ControlFile::Missing => return corruption, // D2: the middle segment was used.
            ControlFile::Unborn => return unborn(case),
            ControlFile::Newer => return unsupported,  // D3
            ControlFile::Damaged => return corruption, // D4
            // D6: the middle segment, at the latest, is of another log.
            ControlFile::OtherLog => return corruption,
            ControlFile::Open | ControlFile::OpenUnsynced | ControlFile::Closed | ControlFile::Stale => {}
        }
        match (case.first, case.last) {
            (Header::Valid, Header::Newer) => return unsupported,   // D3
            (Header::Valid, Header::OtherLog) => return corruption, // D6
            (Header::Valid, Header::Valid) => {}
            (Header::Valid, _) if self.required == 3 => return corruption, // D5
            (Header::Valid, _) => {}
            // D5, D6: the way along the chain ends at the first segment, whatever is behind.
            _ => return corruption,
        }
        if let Some(end) = self.closed_at {
            let survives = |frame: &Frame, index| frame.lsn >= end && is_valid(case.tail, index);
            let goes_on = self.last().iter().enumerate().any(|(index, frame)| survives(frame, index));
            match case.tail {
                Tail::Whole if !goes_on => return (Expected::Clean, self.records.len()), // D8
                _ if !goes_on => return corruption,                                      // D9
                _ => {}
            }
        }
        self.not_closed(case)
    }

    /// D7 and D10 to D12.
    fn not_closed(&self, case: Case) -> (Expected, usize) {
        let is_valid = |index: usize| is_valid(case.tail, index);
        let count = self.last().len();
        // D7: frames behind a header that is lost raise the witness too.
        let witnesses = (0..count).filter(|&index| case.last != Header::Missing && is_valid(index));
        let mut witness = witnesses.map(|index| self.last()[index].witness).fold(self.witness, Lsn::max);
        if case.last == Header::Valid {
            witness = witness.max(self.witness_of_last);
        }
        let in_chain = if case.last == Header::Valid { count } else { 0 };
        let stop = (0..in_chain).find(|&index| !is_valid(index)).unwrap_or(in_chain);
        let is_in_batch = (BATCH_FIRST + 1..=BATCH_LAST).contains(&stop);
        let kept = if is_in_batch { BATCH_FIRST } else { stop } + 2 * FULL;
        let end = self.frames[kept - 1].end;
        if end < witness {
            return (Expected::Fail(ErrorKind::Corruption), 0); // D10
        }
        let cut = if (stop..in_chain).any(is_valid) {
            Some(CutReason::Hole)
        } else if is_in_batch {
            Some(CutReason::TornBatch)
        } else if case.last == Header::Damaged {
            Some(CutReason::TornSegment)
        } else if case.last == Header::Valid && matches!(case.tail, Tail::TornRecord | Tail::ShortInRecord) {
            Some(CutReason::TornRecord)
        } else {
            None
        };
        (cut.map_or(Expected::Kept, |reason| Expected::Cut(reason, end)), kept) // D12, D11
    }
}

/// Whether a frame of the last segment is there and whole.
fn is_valid(tail: Tail, index: usize) -> bool {
    match tail {
        Tail::Whole | Tail::ZerosBehind => true,
        Tail::TornRecord | Tail::ShortInRecord | Tail::ShortBetweenRecords => index < RECORD_LAST,
        Tail::TornBatch => index < BATCH_LAST,
        Tail::Hole => index != RECORD_HOLE,
        Tail::DamageBelowWitness => index != RECORD_SYNCED,
    }
}

/// D1 to D3 without a control file: a last segment that is not missing was used, because frames stand in it whatever its header is, and
/// a first one that is valid was not.
fn unborn(case: Case) -> (Expected, usize) {
    let is_used = case.first == Header::Damaged;
    match case.last {
        Header::Newer if !is_used => (Expected::Fail(ErrorKind::UnsupportedVersion), 0),
        Header::Missing if !is_used => (Expected::NoLog, 0),
        _ => (Expected::Fail(ErrorKind::Corruption), 0),
    }
}

fn set_header(fs: &SimFs, path: &str, header: Header, other: &[u8]) {
    let mut bytes = fs.read_file(path).expect("a segment");
    match header {
        Header::Valid => return,
        Header::Missing => return fs.remove_file(path).expect("a segment"),
        Header::Blank => bytes[..HEADER].fill(0),
        Header::Damaged => bytes[40] ^= 0x10,
        Header::OtherLog => bytes[..HEADER].copy_from_slice(other),
        Header::Newer => make_newer(&mut bytes),
    }
    fs.write_file(path, &bytes).expect("a segment");
}

/// All files but `lock`.
fn files(fs: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let names = fs.names(Path::new(DIR)).expect("the directory is there");
    let kept = names.into_iter().filter(|name| name != "lock");
    kept.map(|name| (name.clone(), fs.read_file(format!("{DIR}/{name}")).expect("a file"))).collect()
}

fn surveyed(fs: &SimFs) -> Result<Expected, String> {
    match survey(fs, DIR, Depth::Full, |_| {}).map_err(|error| format!("survey: {error}"))?.outcome {
        Outcome::NoLog => Ok(Expected::NoLog),
        Outcome::Clean => Ok(Expected::Clean),
        Outcome::Kept => Ok(Expected::Kept),
        Outcome::Cut { reason, at } => Ok(Expected::Cut(reason, at)),
        Outcome::Fail(error) => Ok(Expected::Fail(error.kind())),
        other => Err(format!("survey: {other:?}")),
    }
}

fn found(log: &Wal) -> Result<Expected, String> {
    let report = log.recovery_report();
    match (report.state, report.cut) {
        (FoundState::Created, None) => Ok(Expected::NoLog),
        (FoundState::Clean, None) => Ok(Expected::Clean),
        (FoundState::Kept, None) => Ok(Expected::Kept),
        (FoundState::Cut, Some(cut)) => Ok(Expected::Cut(cut.reason, cut.at)),
        other => Err(format!("open: {other:?}")),
    }
}

fn check(is_right: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if is_right { Ok(()) } else { Err(what()) }
}

/// The records as they were appended. The number of a record's segment may change when a log is recovered.
fn check_records(how: &str, found: &[Record], expected: &[Record]) -> Result<(), String> {
    let same = |(one, two): (&Record, &Record)| {
        (one.lsn, one.record_type, &one.payload) == (two.lsn, two.record_type, &two.payload)
    };
    let is_right = found.len() == expected.len() && found.iter().zip(expected).all(same);
    check(is_right, || format!("{how}: {} records, expected are {}", found.len(), expected.len()))
}

fn check_case(log: &Log, case: Case, expected: Expected, kept: usize) -> Result<(), String> {
    let fs = log.build(case);
    let before = fs.fingerprint();
    let shown = surveyed(&fs)?;
    check(shown == expected, || format!("survey: {shown:?}"))?;
    check(fs.fingerprint() == before, || "the survey has changed something".to_owned())?;
    let before = files(&fs);
    let opened = match open(&fs, 7) {
        Ok(opened) => opened,
        Err(error) => {
            check(Expected::Fail(error.kind()) == expected, || format!("open: {error}"))?;
            return check(files(&fs) == before, || format!("an open that failed has changed something: {error}"));
        }
    };
    let state = found(&opened)?;
    check(state == expected, || format!("open: {state:?}"))?;
    let records = read(&opened).map_err(|error| format!("read: {error}"))?;
    check_records("open", &records, &log.records[..kept])?;
    let next = opened.append(b"next").map_err(|error| format!("append: {error}"))?;
    check(records.last().is_none_or(|last| next > last.lsn), || format!("LSN {next} is not new"))?;
    opened.close().map_err(|error| format!("close: {error}"))?;
    let shown = surveyed(&fs)?;
    check(shown == Expected::Clean, || format!("survey after the close: {shown:?}"))?;
    let again = open(&fs, 7).map_err(|error| format!("second open: {error}"))?;
    let mut records = read(&again).map_err(|error| format!("second read: {error}"))?;
    let last = records.pop().map(|record| (record.lsn, record.payload));
    check(last == Some((next, b"next".to_vec())), || format!("the new record is {last:?}"))?;
    check_records("second open", &records, &log.records[..kept])
}

/// How often each kind of outcome is expected.
fn kind(expected: Expected) -> String {
    match expected {
        Expected::Cut(reason, _) => format!("Cut({reason:?})"),
        other => format!("{other:?}"),
    }
}

#[test]
fn every_combination_comes_to_what_the_table_says() {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let mut failures = Vec::new();
    for control in CONTROLS {
        let log = Log::new(control);
        let cases = FIRSTS.into_iter().flat_map(|first| LASTS.into_iter().map(move |last| (first, last)));
        let cases = cases.flat_map(|(first, last)| TAILS.into_iter().map(move |tail| (first, last, tail)));
        for (first, last, tail) in cases {
            let case = Case { control, first, last, tail };
            let (expected, kept) = log.expected(case);
            *kinds.entry(kind(expected)).or_default() += 1;
            let result = catch_unwind(AssertUnwindSafe(|| check_case(&log, case, expected, kept)));
            if let Err(why) = result.unwrap_or_else(|_| Err("it panicked".to_owned())) {
                failures.push(format!("{case:?}: expected {expected:?}; {why}"));
            }
        }
    }
    println!("{} combinations: {kinds:?}", kinds.values().sum::<usize>());
    let shown: Vec<&String> = failures.iter().take(40).collect();
    assert!(shown.is_empty(), "{} failures, of which the first are {shown:#?}", failures.len());
    assert_eq!(kinds.len(), 9, "every kind of outcome is among them: {kinds:?}");
}
