//! What must hold of a log, whatever its files are: nobody panics, survey, readers and open agree, a failed open changes nothing, and a log
//! that opens goes on.

use std::sync::Arc;

use wal::fs::sim::{CrashPlan, SimFs};
use wal::inspect::{Depth, Outcome, survey};
use wal::{Background, Config, Error, ErrorKind, LogReader, Lsn, ManualClock, Result, SyncMode, Wal};

pub(crate) const DIR: &str = "/log";
pub(crate) const SEGMENT_BYTES: usize = 8 << 10;
/// A record: its LSN, its type as it stands in the frame, its payload.
pub(crate) type Held = (u64, u16, Vec<u8>);

/// Everything is read when the log is opened, by one thread.
pub(crate) fn config() -> Config {
    Config {
        sync_mode: SyncMode::Sync,
        segment_bytes_max: SEGMENT_BYTES as u64,
        reserve_bytes: 0,
        direct_io: false,
        verify_bytes_on_open: 1 << 40,
        background: Background::Inline,
        ..Config::default()
    }
}

pub(crate) fn open(fs: &SimFs, config: Config) -> Result<Wal> {
    let opener = Wal::opener(config).file_system(Arc::new(fs.clone())).clock(Arc::new(ManualClock::default()));
    opener.log_id(*b"wal-fuzzing's id").open(DIR)
}

/// A record as [`Held`].
pub(crate) fn held(record: wal::Record) -> Held {
    let ignorable = if record.record_type.is_ignorable() { 0x8000 } else { 0 };
    (record.lsn.get(), record.record_type.get() | ignorable, record.payload)
}

pub(crate) fn records(log: &Wal) -> Result<Vec<Held>> {
    log.reader(Lsn::ZERO)?.map(|record| record.map(held)).collect()
}

/// The names in the directory with their contents, but for the lock.
fn files(fs: &SimFs) -> Vec<(String, Vec<u8>)> {
    let names = fs.names(DIR).unwrap_or_default().into_iter().filter(|name| name != "lock");
    names.map(|name| (name.clone(), fs.read_file(format!("{DIR}/{name}")).unwrap_or_default())).collect()
}

/// Opens a copy of the log, after everything that reads has read it. What it holds, or how the open fails.
pub(crate) fn judge(fs: &SimFs) -> Result<Vec<Held>> {
    let untouched = files(fs);
    let surveyed = survey(fs, DIR, Depth::Full, |_| {});
    drop(survey(fs, DIR, Depth::Tail, |_| {}));
    let read = LogReader::open_with(fs, DIR).and_then(|reader| {
        reader.reader(Lsn::ZERO)?.map(|record| record.map(|record| record.lsn.get())).collect::<Result<Vec<u64>>>()
    });
    assert_eq!(files(fs), untouched, "a reader changed something");
    let fs = fs.kill();
    match open(&fs, config()) {
        Err(error) => {
            check_refusal(&surveyed, &error);
            assert_eq!(files(&fs), untouched, "an open that failed changed something: {error}");
            let again = open(&fs, config()).expect_err("it failed before");
            assert_eq!(again.kind(), error.kind(), "{again}");
            Err(error)
        }
        Ok(log) => {
            let surveyed = surveyed.expect("what opens can be surveyed");
            if let Outcome::Fail(error) = &surveyed.outcome {
                panic!("the log opens, and the survey says: {error}");
            }
            let held = records(&log).expect("a log that opened can be read");
            assert!(held.is_sorted_by(|one, next| one.0 < next.0), "LSNs only grow");
            if let Ok(read) = read {
                assert!(read.iter().eq(held.iter().map(|(lsn, ..)| lsn)), "a reader of the files sees another log");
            }
            // A witness past the end is a lie that no log writes: a clean close says more, but once the log is open again it counts.
            if surveyed.witness_lsn <= surveyed.end_lsn {
                goes_on(&fs, &log, &held);
            }
            Ok(held)
        }
    }
}

fn check_refusal(surveyed: &Result<wal::inspect::Survey>, error: &Error) {
    let expected = [ErrorKind::Corruption, ErrorKind::UnsupportedVersion, ErrorKind::Io, ErrorKind::Exhausted];
    assert!(expected.contains(&error.kind()), "files lead to no such error: {error}");
    match surveyed {
        Ok(survey) => match &survey.outcome {
            Outcome::Fail(foreseen) => assert_eq!(foreseen.kind(), error.kind(), "{foreseen}, but the open: {error}"),
            outcome => {
                assert_ne!(error.kind(), ErrorKind::Corruption, "surveyed as {outcome:?}, but the open: {error}")
            }
        },
        Err(surveyed) => assert_eq!(surveyed.kind(), error.kind(), "{surveyed}, but the open: {error}"),
    }
}

/// What recovered is durable, and what is appended now is there after a crash and after a close.
fn goes_on(fs: &SimFs, log: &Wal, held: &[Held]) {
    let mut expected = held.to_vec();
    match log.append(b"goes on") {
        Ok(lsn) => {
            assert!(held.last().is_none_or(|last| last.0 < lsn.get()), "an LSN that was given before");
            expected.push((lsn.get(), 0, b"goes on".to_vec()));
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Exhausted, "{error}"),
    }
    let crashed = fs.crash(&CrashPlan::keep_nothing());
    let again = open(&crashed, config()).expect("the log recovers");
    assert_eq!(records(&again).expect("it can be read"), expected, "after a crash");
    log.close().expect("it closes");
    let again = open(&fs.kill(), config()).expect("what was closed opens");
    assert_eq!(records(&again).expect("it can be read"), expected, "after a close");
}
