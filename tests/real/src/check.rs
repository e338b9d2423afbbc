//! Opens the log on an image, compares it with what the contract says, and goes on working with it.

use std::path::Path;

use wal::{Config, FoundState, LogReader, Lsn, SyncMode, Wal};

use crate::history::{Append, Entry, Found, History, frame_bytes};
use crate::payload::payload;
use crate::rig::Clock;

/// What an open found, and when it returned.
#[derive(Debug)]
pub struct Opened {
    /// The open log.
    pub log: Wal,
    /// What is in it.
    pub found: Found,
    /// What recovery did.
    pub state: FoundState,
    /// When the open had returned.
    pub moment: u64,
}

/// Everything in an open log.
///
/// # Errors
///
/// As [`Wal::reader`].
pub fn content(log: &Wal) -> wal::Result<Found> {
    let mut records = Vec::new();
    for record in log.reader(Lsn::ZERO)? {
        let record = record?;
        records.push((record.lsn.get(), record.payload));
    }
    Ok(Found { records, start: log.start_lsn().get(), next: log.next_lsn().get() })
}

/// Opens the log and reads it.
///
/// # Errors
///
/// As [`Wal::open`] and [`Wal::reader`].
pub fn open(dir: &Path, config: Config, clock: &Clock) -> wal::Result<Opened> {
    let log = Wal::open(dir, config)?;
    let moment = clock.now();
    Ok(Opened { found: content(&log)?, state: log.recovery_report().state, log, moment })
}

/// Appends to a log that was just opened, closes it, opens it again, and looks whether everything is there. Returns the history of
/// this second life, which begins with what was found. On a disk that `may_be_full` an append may be refused.
///
/// # Errors
///
/// How it breaks the contract.
pub fn go_on(opened: Opened, clock: &Clock, first_number: u64, may_be_full: bool) -> Result<History, String> {
    let Opened { log, found, moment, .. } = opened;
    let explain = |what: &'static str| move |error: wal::Error| format!("{what} after recovery: {error}");
    let mut life = History::default();
    let mut expected = found.clone();
    for number in first_number..first_number + 4 {
        let len = 40 + (number % 7) as usize * 700;
        let lsn = match log.append(&payload(number, len)) {
            Err(error) if error.is_full() && may_be_full => break,
            other => other.map_err(explain("append"))?.get(),
        };
        if lsn < expected.next {
            return Err(format!(
                "after recovery LSN {lsn} is given out, although the next was said to be {}",
                expected.next
            ));
        }
        let entry = Entry { lsn, number, len };
        expected.next = entry.end();
        expected.records.push((lsn, payload(number, len)));
        let marked = log.durable_lsn().get();
        let now = clock.now();
        let is_durable = log.config().sync_mode == SyncMode::Sync;
        life.durable.push((now, if is_durable { lsn + frame_bytes(len) } else { marked }));
        life.appends.push(Append { entries: vec![entry], placed: now, returned: now });
    }
    let (dir, config) = (log.path().to_path_buf(), log.config().clone());
    let is_closed = match log.close() {
        Err(error) if error.is_full() && may_be_full => false,
        other => other.map(|()| true).map_err(explain("close"))?,
    };
    drop(log);
    if is_closed {
        life.durable.push((clock.now(), expected.next));
    }
    // What the open returned is durable from then on.
    life.durable.push((moment, found.records.last().map_or(0, |(lsn, _)| lsn + 1)));

    let from_files = LogReader::open(&dir).map_err(explain("read"))?;
    let count = from_files.reader(Lsn::ZERO).map_err(explain("read"))?.filter(Result::is_ok).count();
    if count != expected.records.len() {
        return Err(format!("the files show {count} records, there are {}", expected.records.len()));
    }
    let again = match open(&dir, config, clock) {
        // As the first open, it may need room, where a file system copies on write.
        Err(error) if error.is_full() && may_be_full => return Ok(life),
        other => other.map_err(explain("open"))?,
    };
    if is_closed && again.state != FoundState::Clean {
        return Err(format!("the log was closed, and yet its next open finds it {:?}", again.state));
    }
    if again.found.records != expected.records || again.found.next < expected.next {
        let (found, expected) = (again.found.records.len(), expected.records.len());
        return Err(format!("after recovery, append and close the log holds {found} records, not {expected}"));
    }
    match again.log.close() {
        Err(error) if !(error.is_full() && may_be_full) => Err(explain("second close")(error)),
        _ => Ok(life),
    }
}
