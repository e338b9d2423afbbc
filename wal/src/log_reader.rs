//! Reading a log from its files, without the writer's lock.

use std::path::Path;

use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::LogDir;
use crate::fs::{FileSystem, RealFileSystem};
use crate::inspect::{judge_end, witness};
use crate::lsn::Lsn;
use crate::record::LogId;
use crate::recover::survey::{ControlState, read_control};
use crate::segment::name;
use crate::tail::{Reader, Record, fetch, not_found};

/// A log opened for reading only, from any process, without a lock; it never changes a byte.
///
/// It sees what is valid on disk, also while another process writes. What lies above the witnessed LSN may not be durable
/// yet: [`Reader::witnessed_lsn`] and [`LogEnd::witness_lsn`](crate::LogEnd::witness_lsn) tell from where on.
#[derive(Clone, Debug)]
pub struct LogReader {
    dir: LogDir,
    control: Control,
}

impl LogReader {
    /// Opens the log in `dir`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if there is none, [`ErrorKind::Corruption`] or [`ErrorKind::UnsupportedVersion`] if its control
    /// file cannot be read.
    pub fn open(dir: impl AsRef<Path>) -> Result<LogReader> {
        LogReader::open_with(&RealFileSystem, dir)
    }

    /// Opens the log in `dir` of another file system.
    ///
    /// # Errors
    ///
    /// As [`LogReader::open`].
    pub fn open_with(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Result<LogReader> {
        let dir = LogDir::open(fs, dir.as_ref())?;
        let fail =
            |kind, why: String| Err(Error::new(kind, "open control file", why).at_path(dir.path_of(name::CONTROL)));
        let mut control = read_control(&dir)?;
        if matches!(control, ControlState::Missing) {
            // There is no log, or it is just being created, or its control file is lost: the recovery of the log can tell.
            judge_end(&dir)?;
            control = read_control(&dir)?;
        }
        match control {
            ControlState::Valid(control) => Ok(LogReader { dir, control }),
            ControlState::Newer(why) => fail(ErrorKind::UnsupportedVersion, why),
            ControlState::Damaged(why) => fail(ErrorKind::Corruption, why),
            ControlState::Missing => fail(ErrorKind::NotFound, "it is missing".to_owned()),
        }
    }

    /// What identifies the log.
    pub fn log_id(&self) -> LogId {
        self.control.log_id
    }

    /// The start of the log when it was opened.
    pub fn start_lsn(&self) -> Lsn {
        self.control.start
    }

    /// A reader of the records from `from` on; [`Lsn::ZERO`] stands for the oldest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`] if `from` lies before the start of the log.
    pub fn reader(&self, from: Lsn) -> Result<Reader> {
        Reader::files(self.dir.clone(), self.control.log_id, from, self.control.start)
    }

    /// The record at `lsn`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no record starts there, [`ErrorKind::Truncated`], [`ErrorKind::Corruption`], [`ErrorKind::Io`].
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        let mut reader = self.reader(lsn)?;
        match reader.owned() {
            Ok(Some(record)) if record.lsn == lsn => Ok(record),
            Ok(_) => Err(not_found(lsn)),
            Err(error) if error.is_corruption() => self.read_behind_damage(lsn, error),
            Err(error) => Err(error),
        }
    }

    /// The frames cannot be followed to `lsn`. What stands there is a record of the log all the same if it is valid and a witness
    /// proves that it was durable.
    fn read_behind_damage(&self, lsn: Lsn, error: Error) -> Result<Record> {
        let Some(segment) = error.segment().filter(|_| error.lsn() != Some(lsn)) else { return Err(error) };
        match fetch(&self.dir, self.control.log_id, segment, lsn, None) {
            Ok(record) if lsn < witness(&self.dir)? => Ok(record),
            _ => Err(error),
        }
    }
}
