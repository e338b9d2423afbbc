//! What the parts of an open log share.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::Clock;
use crate::commit::Commit;
use crate::config::{Background, Config};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fs::durable::{LogDir, Temp};
use crate::fs::{LockGuard, OpenMode};
use crate::gentle::Haste;
use crate::lsn::Lsn;
use crate::metrics::{Metrics, Stats};
use crate::prepare::Preparer;
use crate::publish::Publisher;
use crate::record::LogId;
use crate::recover::{create_reserve, write_control};
use crate::report::RecoveryReport;
use crate::segment::chain::Chain;
use crate::segment::header::HEADER_BYTES;
use crate::segment::name;
use crate::statistics::Statistics;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::watermark::Callback;

/// What changes only one at a time: the control file and the lock.
#[derive(Debug)]
pub(crate) struct Structure {
    pub(crate) control: Control,
    /// Held until the log is closed.
    pub(crate) lock: Option<Box<dyn LockGuard>>,
    pub(crate) is_closed: bool,
    /// Segments before this one were cut to their length by an earlier clean close.
    pub(crate) trim_from: u64,
}

/// An open log.
pub(crate) struct Shared {
    pub(crate) dir: LogDir,
    pub(crate) config: Config,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) chain: Arc<Chain>,
    pub(crate) preparer: Arc<Preparer>,
    pub(crate) commit: Commit,
    /// Groups are written with direct I/O.
    pub(crate) is_direct: bool,
    pub(crate) log_id: LogId,
    pub(crate) report: RecoveryReport,
    /// Taken first, before any lock of the commit path, and held over the system calls of a change of structure.
    pub(crate) structure: Mutex<Structure>,
    pub(crate) holds: Mutex<Holds>,
    pub(crate) background: Arc<Event>,
    pub(crate) preparation: Arc<Event>,
    pub(crate) publisher: Publisher,
    pub(crate) is_stopping: AtomicBool,
    pub(crate) callbacks: crossbeam_channel::Receiver<(Callback, Result<()>)>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log")
            .field("path", &self.dir.path())
            .field("log_id", &self.log_id)
            .field("marks", &self.commit.marks)
            .finish_non_exhaustive()
    }
}

/// Who still needs what of the log's start.
#[derive(Debug, Default)]
pub(crate) struct Holds {
    next_id: u64,
    pub(crate) by_id: BTreeMap<u64, (String, Lsn)>,
}

impl Holds {
    pub(crate) fn add(&mut self, name: &str, lsn: Lsn) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        self.by_id.insert(id, (name.to_owned(), lsn));
        id
    }

    /// The hold with the lowest LSN.
    pub(crate) fn oldest(&self) -> Option<(&str, Lsn)> {
        self.by_id.values().min_by_key(|(_, lsn)| *lsn).map(|(name, lsn)| (name.as_str(), *lsn))
    }
}

impl Shared {
    /// Replaces the control file by what `change` makes of it. If the directory sync fails after the rename, the log is poisoned. On a
    /// full disk the reserve and the segments that wait to be used again are given up for it.
    pub(crate) fn update_control(&self, structure: &mut Structure, change: impl FnOnce(&mut Control)) -> Result<()> {
        let pending = self.write_control(structure, change)?;
        self.commit_control(structure, pending)
    }

    /// The first half of [`Shared::update_control`], which needs room.
    pub(crate) fn write_control(
        &self,
        structure: &Structure,
        change: impl FnOnce(&mut Control),
    ) -> Result<(Temp, Control)> {
        let mut control = structure.control;
        change(&mut control);
        control.sequence += 1;
        control.written_micros = self.clock.unix_micros();
        let mut temp = write_control(&self.dir, &control);
        if temp.as_ref().is_err_and(Error::is_full) && self.give_up_reserve()? {
            temp = write_control(&self.dir, &control);
        }
        if temp.as_ref().is_err_and(Error::is_full) {
            self.give_up_prepared()?;
            temp = write_control(&self.dir, &control);
        }
        Ok((temp?, control))
    }

    /// Waits for a preparation that is under way, which takes all the room there is for a moment, and gives the prepared segment up.
    fn give_up_prepared(&self) -> Result<()> {
        match self.commit.take_prepared() {
            Some(number) => self.dir.remove(&name::segment(number)).map(drop),
            None => Ok(()),
        }
    }

    /// The second half of [`Shared::update_control`], which needs none.
    pub(crate) fn commit_control(&self, structure: &mut Structure, pending: (Temp, Control)) -> Result<()> {
        self.commit_temp(pending.0)?;
        structure.control = pending.1;
        Ok(())
    }

    /// Gives a replacement its name. If nobody knows whether that happened, the log is poisoned.
    pub(crate) fn commit_temp(&self, temp: Temp) -> Result<()> {
        self.dir.commit(temp).map_err(|failure| {
            if failure.is_unsure {
                self.commit.poison(failure.error.clone());
            }
            failure.error
        })
    }

    fn give_up_reserve(&self) -> Result<bool> {
        let reserve = self.dir.remove(name::RESERVE)?;
        let recycled = self.preparer.drop_recycled()?;
        Ok(reserve || recycled > 0)
    }

    /// Makes the reserve again after it was given up. A failure is no failure of the caller: the disk is still full, and the next
    /// truncation tries again.
    pub(crate) fn restore_reserve(&self) {
        if let Err(error) = create_reserve(&self.dir, self.config.reserve_bytes) {
            crate::observe::preparation_failed(&error);
        }
    }

    /// Syncs the directory; a failure poisons the log.
    pub(crate) fn sync_dir(&self) -> Result<()> {
        self.dir.sync().inspect_err(|error| self.commit.poison(error.clone()))
    }

    /// How background work that appends go on beside is done.
    pub(crate) fn haste(&self) -> Haste {
        if self.is_direct && self.config.background == Background::Threads { Haste::Gentle } else { Haste::Full }
    }

    pub(crate) fn check_open(&self, structure: &Structure, operation: &'static str) -> Result<()> {
        self.commit.marks.check()?;
        if structure.is_closed {
            return Err(Error::new(ErrorKind::Closed, operation, "the log was closed").at_path(self.dir.path()));
        }
        Ok(())
    }

    pub(crate) fn check_not_closed(&self, operation: &'static str) -> Result<()> {
        if self.commit.is_closed() {
            return Err(Error::new(ErrorKind::Closed, operation, "the log was closed").at_path(self.dir.path()));
        }
        Ok(())
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.is_stopping.load(Ordering::SeqCst)
    }

    /// Runs the callbacks of reached targets. One that panics does not stop the others: its panic has been reported by the hook.
    pub(crate) fn run_callbacks(&self) {
        while let Ok((callback, outcome)) = self.callbacks.try_recv() {
            let call = std::panic::AssertUnwindSafe(|| callback(outcome));
            drop(std::panic::catch_unwind(call));
        }
    }

    /// What the log has done since it was opened.
    pub(crate) fn stats(&self) -> Stats {
        Stats {
            start_lsn: self.chain.start(),
            written_lsn: self.commit.marks.written(),
            durable_lsn: self.commit.marks.durable(),
            segments: self.chain.len(),
            ..self.metrics.stats()
        }
    }

    /// Writes the statistics file if the settings ask for that and it is due.
    pub(crate) fn publish_if_due(&self) {
        if let Some(interval) = self.config.statistics_interval
            && self.publisher.is_due(&*self.clock, interval)
        {
            self.publish(interval, self.commit.marks.poison());
        }
    }

    /// Writes the statistics file. A failure is counted, and is no failure of the log.
    fn publish(&self, interval: Duration, failure: Option<Error>) {
        let gather = || Statistics {
            interval,
            sync_mode: self.config.sync_mode,
            is_direct: self.is_direct,
            next_lsn: self.commit.next_lsn(),
            oldest_hold: self.holds.lock().oldest().map(|(_, lsn)| lsn),
            failure: failure.map(|error| error.to_string()),
            total: self.stats(),
            ..Statistics::new(self.log_id)
        };
        self.count_failure(self.publisher.publish(&self.dir, &*self.clock, &self.metrics, gather));
    }

    /// Ends the statistics file with the log. After a failure it stays, because it says what failed.
    fn end_statistics(&self, result: &Result<()>) {
        let Some(interval) = self.config.statistics_interval else { return };
        if let Err(error) = result {
            self.publish(interval, Some(error.clone()));
        }
        self.count_failure(self.publisher.end(&self.dir, result.is_err()));
    }

    fn count_failure(&self, result: Result<()>) {
        if let Err(error) = result {
            crate::observe::statistics_failed(&error);
            self.metrics.statistics_failures.add(1);
        }
    }

    /// Ends the log: drains the queue, syncs, cuts the unused space off, leaves the mark of a clean close, releases the lock.
    /// The two closures join the background thread and the one that prepares segments. Whatever fails, the log is closed
    /// afterwards; without the mark the next open recovers.
    pub(crate) fn close(&self, join_background: impl FnOnce(), join_preparation: impl FnOnce()) -> Result<()> {
        self.is_stopping.store(true, Ordering::SeqCst);
        self.background.wake_all();
        self.publisher.event.wake_all();
        // Before any lock is taken, and while segments are still prepared: a callback may be using the log.
        join_background();
        let mut structure = self.structure.lock();
        if structure.is_closed {
            return Ok(());
        }
        let _guard = self.commit.guard_change();
        let paused = self.commit.pause();
        let settled = paused.as_ref().map_or_else(|error| Err(error.clone()), |_pause| self.commit.settle_holes());
        self.commit.shut();
        self.preparation.wake_all();
        join_preparation();
        // Without threads of the log's own an append may be preparing one.
        self.commit.await_end_of_preparation();
        structure.is_closed = true;
        let result = settled.and_then(|()| self.leave_clean(&mut structure));
        if result.is_err() {
            self.end_statistics(&result);
        }
        structure.lock = None;
        drop(structure);
        drop(paused);
        self.commit.release_all();
        self.run_callbacks();
        result
    }

    /// Cuts the unused space off the sealed segments, so that every byte of a closed log means something.
    fn trim_sealed(&self, trim_from: u64) -> Result<()> {
        for link in self.chain.links().iter().filter(|link| link.number >= trim_from) {
            let Some(end) = link.end else { continue };
            let file = self.dir.open_file(&name::segment(link.number), OpenMode::Write)?;
            let bytes = HEADER_BYTES + end.distance_from(link.base);
            if file.len()? > bytes {
                file.set_len(bytes)?;
            }
            // Synced in any case: an earlier close may have died between the two.
            file.sync_all()?;
        }
        Ok(())
    }

    fn leave_clean(&self, structure: &mut Structure) -> Result<()> {
        self.commit.marks.check()?;
        let (active, end, checksum) = self.commit.end_of_log();
        self.trim_sealed(structure.trim_from)?;
        active.file.set_len(active.offset_of(end))?;
        active.file.sync_all()?;
        if let Some(number) = self.commit.take_prepared() {
            self.dir.remove(&name::segment(number))?;
        }
        self.preparer.drop_recycled()?;
        self.end_statistics(&Ok(()));
        // The removals are durable before the mark is: a closed log has nothing beside its segments.
        self.dir.sync()?;
        let clean = crate::control::CleanEnd { segment: active.number, lsn: end, checksum };
        self.update_control(structure, |control| {
            control.clean = Some(clean);
            control.witness = end;
        })
    }
}
