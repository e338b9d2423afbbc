//! Following a live log: reading that waits for more.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::shared::Shared;
use crate::tail::{Reader, Record};

/// Reads a live log and waits for more as records become durable, across rotation. As long as it is there, the log keeps a copy in memory
/// of up to 64 KiB of what was written last.
#[derive(Debug)]
pub struct Follower {
    reader: Reader,
    shared: Arc<Shared>,
}

impl Follower {
    pub(crate) fn new(shared: Arc<Shared>, from: Lsn) -> Result<Follower> {
        let mut reader = Reader::live(Arc::clone(&shared), from)?;
        reader.last_written = Some(Arc::new(shared.commit.last_written.follow()));
        Ok(Follower { reader, shared })
    }

    /// The LSN from which it reads on.
    pub fn position_lsn(&self) -> Lsn {
        self.reader.position_lsn()
    }

    /// The next record, waiting until there is one.
    ///
    /// # Errors
    ///
    /// As [`Reader::next_record`]; [`ErrorKind::Closed`] once the log was closed and everything was read;
    /// [`ErrorKind::Poisoned`] if no further record can become durable.
    pub fn next_record(&mut self) -> Result<Record> {
        loop {
            if let Some(record) = self.step(None)? {
                return Ok(record);
            }
        }
    }

    /// The next record, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Follower::next_record`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Record>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(record) = self.step(deadline)? {
                return Ok(Some(record));
            }
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Ok(None);
            }
        }
    }

    fn step(&mut self, deadline: Option<Instant>) -> Result<Option<Record>> {
        let marks = &self.shared.commit.marks;
        let durable = marks.durable();
        if let Some(record) = self.reader.owned()? {
            return Ok(Some(record));
        }
        let listener = marks.changed.listen();
        if marks.durable_past(durable)? {
            return Ok(None);
        }
        if self.shared.commit.is_closed() {
            let error = Error::new(ErrorKind::Closed, "follow log", "the log was closed and everything was read");
            return Err(error.at_lsn(self.position_lsn()));
        }
        listener.wait(deadline);
        Ok(None)
    }
}

impl Iterator for Follower {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Result<Record>> {
        if self.reader.has_failed {
            return None;
        }
        let next = self.next_record();
        self.reader.has_failed = next.is_err();
        Some(next)
    }
}
