//! Tokens: each proves that a step was done, and the next step cannot be called without it. Their fields are private to this
//! module, so the order log, pages, sync, checkpoint record, control file, truncation is checked by the compiler.

use std::time::Duration;

use wal::{AppendOptions, Durability, Lsn, Result, TruncatePolicy, Truncation, Wal};

use crate::change::{CHECKPOINT, CheckpointRecord};
use crate::control::{Control, ControlFile};

/// Proves that every log record up to and including the one at an LSN is durable.
#[derive(Clone, Copy, Debug)]
pub struct LogDurable {
    through: Lsn,
}

impl LogDurable {
    /// Makes the log durable through the record at `lsn`, waiting for a sync if need be. [`Lsn::ZERO`], the page LSN of what was never
    /// logged, needs none.
    ///
    /// # Errors
    ///
    /// As [`Wal::wait_durable`].
    pub fn through(log: &Wal, lsn: Lsn) -> Result<LogDurable> {
        // The mark is an end: the record at `lsn` is durable once the mark is behind it.
        if lsn > Lsn::ZERO && log.durable_lsn() <= lsn {
            log.wait_durable(lsn)?;
        }
        Ok(LogDurable { through: lsn })
    }

    /// Makes everything durable that was appended so far.
    ///
    /// # Errors
    ///
    /// As [`Wal::flush`].
    pub fn everything(log: &Wal) -> Result<LogDurable> {
        // The mark is an end, so the last record that is covered begins before it.
        log.flush().map(|durable| LogDurable { through: Lsn::new(durable.get() - 1) })
    }

    /// Claims it without looking, for [`Bug::PageBeforeLog`](crate::museum::Bug::PageBeforeLog).
    #[cfg(feature = "museum")]
    pub(crate) fn unproven(lsn: Lsn) -> LogDurable {
        LogDurable { through: lsn }
    }

    /// Whether a page with this LSN may be written.
    pub fn covers(&self, page_lsn: Lsn) -> bool {
        page_lsn <= self.through
    }
}

/// Where redo would have to start, taken before the pages are written.
#[derive(Clone, Copy, Debug)]
pub struct RedoPoint {
    pub(crate) lsn: Lsn,
}

impl RedoPoint {
    /// A redo point at `lsn`. Whoever makes one claims that every change below `lsn` is in the page file or on a page in the list that is
    /// written before [`PagesSynced::after`].
    pub fn new(lsn: Lsn) -> RedoPoint {
        RedoPoint { lsn }
    }

    /// The LSN.
    pub fn lsn(&self) -> Lsn {
        self.lsn
    }
}

/// Proves that every change of a page below the redo point is durable in the page file.
#[derive(Debug)]
pub struct PagesSynced {
    redo: Lsn,
    pages_written: u64,
}

impl PagesSynced {
    /// Runs `sync` and, if it succeeds, says that all pages that were dirty at the redo point were written before and are durable now.
    ///
    /// # Errors
    ///
    /// What `sync` returns. There is no token then, so no checkpoint and no truncation.
    pub fn after(redo: RedoPoint, pages_written: u64, sync: impl FnOnce() -> Result<()>) -> Result<PagesSynced> {
        sync()?;
        Ok(PagesSynced { redo: redo.lsn, pages_written })
    }
}

/// Proves that the record of a checkpoint is durable in the log.
#[derive(Debug)]
pub struct CheckpointLogged {
    redo: Lsn,
    record: Lsn,
    sequence: u64,
}

impl CheckpointLogged {
    /// Appends the record of the checkpoint and waits until it is durable. It may use the log's reserve, so a full disk does not stop it.
    ///
    /// # Errors
    ///
    /// As [`Wal::append_with`].
    pub fn append(log: &Wal, synced: PagesSynced, sequence: u64) -> Result<CheckpointLogged> {
        let record = CheckpointRecord { redo: synced.redo, sequence, pages_written: synced.pages_written };
        let options = AppendOptions::new().record_type(CHECKPOINT).durability(Durability::Durable).use_reserve();
        let lsn = log.append_with(&record.encode(), options)?;
        Ok(CheckpointLogged { redo: synced.redo, record: lsn, sequence })
    }
}

/// Proves that the control file names the checkpoint, durably.
#[derive(Debug)]
pub struct CheckpointCommitted {
    redo: Lsn,
}

impl CheckpointCommitted {
    /// Replaces the control file: from here on, recovery starts at the new redo point.
    ///
    /// # Errors
    ///
    /// As the replacement of a file: [`wal::ErrorKind::Full`], [`wal::ErrorKind::Io`].
    pub(crate) fn replace(file: &ControlFile, logged: &CheckpointLogged) -> Result<CheckpointCommitted> {
        let (redo, checkpoint_record, sequence) = (logged.redo, logged.record, logged.sequence);
        file.replace(|old| Control { redo, checkpoint_record, sequence, ..old })?;
        Ok(CheckpointCommitted { redo })
    }

    /// The redo point that the control file names.
    pub fn redo_lsn(&self) -> Lsn {
        self.redo
    }

    /// Removes what of the log recovery does not need any more: whole segments before the redo point.
    ///
    /// # Errors
    ///
    /// As [`Wal::declare_checkpoint`] and [`Wal::truncate_before_with`], but for a hold that keeps the log: then nothing is removed
    /// and `None` is returned.
    pub fn truncate(&self, log: &Wal) -> Result<Option<Truncation>> {
        log.declare_checkpoint(self.redo)?;
        let oldest_hold = log.holds().first().map(|hold| hold.lsn);
        let before = oldest_hold.map_or(self.redo, |hold| hold.min(self.redo));
        if before <= log.start_lsn() {
            return Ok(None);
        }
        log.truncate_before_with(before, TruncatePolicy::WholeSegments).map(Some)
    }
}

/// How fast a checkpoint writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// As fast as it can be while others read and write: on request.
    Fast,
    /// As fast as the disk is, because nobody is to be spared: at the end of recovery and at close. What the pages need in the log goes there in long
    /// records, and the page file is synced once.
    Alone,
    /// Evenly over this time, so that those who read and write in the foreground notice little of it.
    Spread(Duration),
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal::fs::sim::SimFs;
    use wal::{Background, SyncMode};

    use super::*;

    fn log() -> Wal {
        let mut config = wal::Config::default();
        (config.segment_bytes_max, config.background, config.sync_mode) =
            (64 << 10, Background::Inline, SyncMode::None);
        Wal::opener(config).file_system(Arc::new(SimFs::new(1))).open("/log").expect("a log")
    }

    #[test]
    fn a_proof_covers_the_records_that_are_durable_and_no_other() {
        let log = log();
        let lsns: Vec<Lsn> = (0..3).map(|_| log.append(b"change").expect("an append works")).collect();
        assert!(log.durable_lsn() <= lsns[0], "nothing is synced in this mode");
        let proof = LogDurable::through(&log, lsns[1]).expect("it can be synced");
        assert!(log.durable_lsn() > lsns[1]);
        assert_eq!(lsns.iter().map(|lsn| proof.covers(*lsn)).collect::<Vec<_>>(), [true, true, false]);
        let proof = LogDurable::everything(&log).expect("it can be synced");
        let next = log.append(b"change").expect("an append works");
        assert!(proof.covers(lsns[2]) && !proof.covers(next), "what was appended later is not covered");
        assert_eq!(log.durable_lsn(), next);
        let proof = LogDurable::through(&log, next).expect("it can be synced");
        assert!(proof.covers(next) && log.durable_lsn() > next, "the mark is an end");
    }

    fn committed(log: &Wal, redo: Lsn) -> CheckpointCommitted {
        while log.next_lsn().get() < redo.get() + (300 << 10) {
            log.append(&[0; 1000]).expect("an append works");
        }
        log.flush().expect("it can be synced");
        CheckpointCommitted { redo }
    }

    #[test]
    fn the_log_is_told_of_the_checkpoint_and_refuses_to_be_truncated_past_it() {
        let log = log();
        let redo = log.append(b"change").expect("an append works");
        let removed = committed(&log, redo).truncate(&log).expect("a truncation works");
        assert!(removed.is_none(), "there is no whole segment before the redo point");
        assert_eq!(log.checkpoint_lsn(), Some(redo));
        log.truncate_before(log.next_lsn()).expect_err("it is past the checkpoint");
    }

    #[test]
    fn what_nobody_holds_goes_and_what_somebody_holds_stays() {
        let log = log();
        committed(&log, log.start_lsn());
        let (start, redo) = (log.start_lsn(), log.next_lsn());
        let held = Lsn::new(start.get() + (150 << 10));
        let record = log.reader(held).and_then(|mut reader| reader.next_record().map(|record| record.map(|it| it.lsn)));
        let held = record.expect("it can be read").expect("there is a record");
        let hold = log.hold("backup", held).expect("a hold");
        CheckpointCommitted { redo }.truncate(&log).expect("a hold is no failure").expect("something could go");
        assert!(log.start_lsn() > start && log.start_lsn() <= held, "from {start} to {}", log.start_lsn());
        drop(hold);
        CheckpointCommitted { redo }.truncate(&log).expect("a truncation works").expect("the rest goes");
        assert!(log.start_lsn() > held);
    }
}
