//! The handle: wiring only.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::append::{AppendOptions, Batch, BatchLsns, batch_inputs, input};
use crate::commit::Demand;
use crate::config::{Background, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::follow::Follower;
use crate::hold::{Hold, HoldInfo};
use crate::lsn::Lsn;
use crate::metrics::Stats;
use crate::opener::{Handle, Opener};
use crate::record::LogId;
use crate::report::RecoveryReport;
use crate::shared::Shared;
use crate::tail::{Reader, Record, read_live};
use crate::ticket::{DurableSubscription, Ticket};
use crate::truncate::{TruncatePolicy, Truncation, truncate_after, truncate_before};
use crate::watermark::{Durability, Target};

/// A write-ahead log, open for writing.
///
/// Cloning is cheap and all clones are one log; any method may be called from any thread. [`Wal::close`] closes it for all of them.
/// Dropping the last clone closes it too, but has nobody to tell if that fails; the next open recovers then.
#[derive(Clone, Debug)]
pub struct Wal {
    handle: Arc<Handle>,
}

impl Opener {
    /// Opens the log in `dir`, creating the directory and the log if they are missing and the settings allow it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] if it is open for writing already, [`ErrorKind::Corruption`], [`ErrorKind::UnsupportedVersion`],
    /// [`ErrorKind::NotFound`] if there is none and `create` is off, [`ErrorKind::Invalid`] for a setting out of range,
    /// [`ErrorKind::Full`], [`ErrorKind::Io`]. Whenever it fails, what was in the log still is.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Wal> {
        self.open_handle(dir.as_ref()).map(|handle| Wal { handle: Arc::new(handle) })
    }
}

impl Wal {
    /// Opens the log in `dir`, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Opener::open`].
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<Wal> {
        Wal::opener(config).open(dir)
    }

    /// An [`Opener`], to set more than the settings.
    pub fn opener(config: Config) -> Opener {
        Opener::new(config)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    fn demand(&self, options: AppendOptions) -> Demand {
        Demand {
            durability: options.durability.unwrap_or_else(|| self.shared().commit.default_durability()),
            use_reserve: options.use_reserve,
        }
    }

    /// Appends a record and returns its LSN when it is as safe as the mode says. An empty payload is a record too.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`], [`ErrorKind::Full`], [`ErrorKind::Poisoned`], [`ErrorKind::Closed`], [`ErrorKind::Exhausted`]; and what
    /// kept the next segment from being prepared.
    pub fn append(&self, payload: &[u8]) -> Result<Lsn> {
        self.append_with(payload, AppendOptions::new())
    }

    /// As [`Wal::append`], with options.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`].
    pub fn append_with(&self, payload: &[u8], options: AppendOptions) -> Result<Lsn> {
        let input = input(options.record_type, payload);
        let place = self.shared().commit.append(std::iter::once(input), self.demand(options))?;
        Ok(place.first)
    }

    /// Appends records of type 0 as one atomic batch, which must fit a segment.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`]; [`ErrorKind::Invalid`] if there is no record.
    pub fn append_batch<P: AsRef<[u8]>>(&self, payloads: &[P]) -> Result<BatchLsns> {
        let mut batch = Batch::new();
        for payload in payloads {
            batch.push(payload.as_ref());
        }
        self.append_all(&batch, AppendOptions::new())
    }

    /// Appends a batch.
    ///
    /// # Errors
    ///
    /// As [`Wal::append_batch`].
    pub fn append_all(&self, batch: &Batch<'_>, options: AppendOptions) -> Result<BatchLsns> {
        let inputs = batch_inputs(batch)?;
        let place = self.shared().commit.append(inputs.iter().copied(), self.demand(options))?;
        Ok(BatchLsns { first: place.first, last: place.last, end: place.end })
    }

    /// Appends a record and returns at once, with a ticket for its acknowledgement. Many may be in flight from one thread; when the
    /// queue is full, this waits.
    ///
    /// # Errors
    ///
    /// As [`Wal::append`], for what is known before the record is written.
    pub fn submit(&self, payload: &[u8]) -> Result<Ticket> {
        self.submit_with(payload, AppendOptions::new())
    }

    /// As [`Wal::submit`], with options.
    ///
    /// # Errors
    ///
    /// As [`Wal::submit`].
    pub fn submit_with(&self, payload: &[u8], options: AppendOptions) -> Result<Ticket> {
        let demand = self.demand(options);
        let place = self.shared().commit.submit(std::iter::once(input(options.record_type, payload)), demand)?;
        let target = Target { end: place.end, durability: demand.durability };
        Ok(Ticket::new(Arc::clone(self.shared()), place.last, target, place.group))
    }

    /// As [`Wal::submit`], for a batch. The ticket's LSN is that of the last record.
    ///
    /// # Errors
    ///
    /// As [`Wal::append_batch`], for what is known before the batch is written.
    pub fn submit_all(&self, batch: &Batch<'_>, options: AppendOptions) -> Result<Ticket> {
        let inputs = batch_inputs(batch)?;
        let demand = self.demand(options);
        let place = self.shared().commit.submit(inputs.iter().copied(), demand)?;
        let target = Target { end: place.end, durability: demand.durability };
        Ok(Ticket::new(Arc::clone(self.shared()), place.last, target, place.group))
    }

    /// Makes everything that was appended before durable, in any mode, and returns the durable LSN.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`].
    pub fn flush(&self) -> Result<Lsn> {
        self.shared().commit.flush()
    }

    /// Waits until the record at `lsn` is durable, asking for a sync if nobody has. Returns the durable LSN.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Invalid`] if the LSN was not handed out yet, [`ErrorKind::Poisoned`], [`ErrorKind::Full`].
    pub fn wait_durable(&self, lsn: Lsn) -> Result<Lsn> {
        let target = self.durable_target(lsn)?;
        self.shared().commit.flush_to(target)?;
        Ok(self.durable_lsn())
    }

    /// As [`Wal::wait_durable`], for at most `timeout`.
    ///
    /// # Errors
    ///
    /// As [`Wal::wait_durable`]; [`ErrorKind::TimedOut`].
    pub fn wait_durable_timeout(&self, lsn: Lsn, timeout: Duration) -> Result<Lsn> {
        let target = self.durable_target(lsn)?;
        self.shared().commit.wait_passively(target, Instant::now().checked_add(timeout))?;
        Ok(self.durable_lsn())
    }

    /// The record at `lsn` is durable once the mark is past its first byte, because marks only stand between records.
    fn durable_target(&self, lsn: Lsn) -> Result<Target> {
        let next = self.next_lsn();
        if lsn >= next {
            let detail = format!("the next record gets LSN {next}, so this one was not handed out yet");
            return Err(Error::new(ErrorKind::Invalid, "wait for record", detail).at_lsn(lsn));
        }
        Ok(Target { end: lsn.advance(1), durability: Durability::Durable })
    }

    /// Tells how far the log is durable, each time that changes.
    pub fn subscribe(&self) -> DurableSubscription {
        DurableSubscription::new(Arc::clone(self.shared()))
    }

    /// The end of what was handed to the operating system: every record below it outlives the process.
    pub fn written_lsn(&self) -> Lsn {
        self.shared().commit.marks.written()
    }

    /// The end of what is durable: every record below it outlives a power loss.
    pub fn durable_lsn(&self) -> Lsn {
        self.shared().commit.marks.durable()
    }

    /// The start of the log: no record is below it.
    pub fn start_lsn(&self) -> Lsn {
        self.shared().chain.start()
    }

    /// The LSN that the next record gets, unless it has to go to the next segment behind a gap.
    pub fn next_lsn(&self) -> Lsn {
        self.shared().commit.next_lsn()
    }

    /// Does the work that is due, and runs callbacks: for [`Background::Inline`](crate::Background::Inline). With threads there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`].
    pub fn poll(&self) -> Result<()> {
        let result = self.shared().commit.poll();
        self.shared().run_callbacks();
        if self.config().background == Background::Inline {
            self.shared().publish_if_due();
        }
        result
    }

    /// A reader of the durable records from `from` on, which need not be the LSN of a record. [`Lsn::ZERO`] stands for the oldest.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`] if `from` lies before the start of the log.
    pub fn reader(&self, from: Lsn) -> Result<Reader> {
        Reader::live(Arc::clone(self.shared()), from)
    }

    /// The durable record at `lsn`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NotFound`] if no durable record starts there, [`ErrorKind::Truncated`], [`ErrorKind::Corruption`], [`ErrorKind::Io`].
    pub fn read(&self, lsn: Lsn) -> Result<Record> {
        read_live(self.shared(), lsn)
    }

    /// Reads from `from` on and waits for more as records become durable. It holds nothing: take a [`Wal::hold`] for what it must not
    /// miss.
    ///
    /// # Errors
    ///
    /// As [`Wal::reader`].
    pub fn follow(&self, from: Lsn) -> Result<Follower> {
        Follower::new(Arc::clone(self.shared()), from)
    }

    /// Removes the records before `lsn`, and every byte of them: as [`Wal::truncate_before_with`] with
    /// [`TruncatePolicy::RewriteBoundary`].
    ///
    /// # Errors
    ///
    /// As [`Wal::truncate_before_with`].
    pub fn truncate_before(&self, lsn: Lsn) -> Result<Truncation> {
        self.truncate_before_with(lsn, TruncatePolicy::RewriteBoundary)
    }

    /// Removes the records before `lsn`. A crash at any moment leaves the old log or the new one. Appends and readers go on
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] past the durable LSN, a declared checkpoint or a hold; [`ErrorKind::Corruption`] if what is to be copied
    /// is damaged, which leaves the log as it was; [`ErrorKind::Io`].
    pub fn truncate_before_with(&self, lsn: Lsn, policy: TruncatePolicy) -> Result<Truncation> {
        truncate_before(self.shared(), lsn, policy)
    }

    /// Removes all records behind the one at `lsn` (or, between two records, behind the one before). No LSN of what is removed is used
    /// again. Appends wait meanwhile.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] before the start of the log or a declared checkpoint; [`ErrorKind::Corruption`], [`ErrorKind::Full`]
    /// and [`ErrorKind::Io`] leave the log as it was, unless they say that it is poisoned.
    pub fn truncate_after(&self, lsn: Lsn) -> Result<Truncation> {
        truncate_after(self.shared(), lsn)
    }

    /// Declares, durably, that recovery starts at `lsn`: from then on the log is never truncated past it, nor cut before it. Moving back is
    /// ignored.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] past the durable LSN; [`ErrorKind::Full`], [`ErrorKind::Io`], [`ErrorKind::Poisoned`].
    pub fn declare_checkpoint(&self, lsn: Lsn) -> Result<()> {
        let shared = self.shared();
        let mut structure = shared.structure.lock();
        shared.check_open(&structure, "declare checkpoint")?;
        let _guard = shared.commit.guard_change();
        let durable = self.durable_lsn();
        if lsn > durable {
            let detail = format!("the log is durable only up to LSN {durable}; flush it first");
            return Err(Error::new(ErrorKind::Refused, "declare checkpoint", detail).at_lsn(lsn));
        }
        if structure.control.checkpoint.is_some_and(|declared| declared >= lsn) {
            return Ok(());
        }
        shared.update_control(&mut structure, |control| {
            control.checkpoint = Some(lsn);
            control.witness = durable;
        })
    }

    /// The last checkpoint that was declared.
    pub fn checkpoint_lsn(&self) -> Option<Lsn> {
        self.shared().structure.lock().control.checkpoint
    }

    /// Keeps the log from `lsn` on until the hold is dropped. Several holds may have one name.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Truncated`] if the log starts behind `lsn` already.
    pub fn hold(&self, name: &str, lsn: Lsn) -> Result<Hold> {
        Hold::take(Arc::clone(self.shared()), name, lsn)
    }

    /// All holds, oldest LSN first.
    pub fn holds(&self) -> Vec<HoldInfo> {
        Hold::list(self.shared())
    }

    /// Gives the blocks of removed segments that wait to be used again back to the file system, for when something beside the log needs the
    /// room, and returns how many bytes that were. The log does so by itself when it lacks room. The next segments are made anew, and later
    /// truncations keep segments again (see `recycle_segments_max` of [`Config`]).
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`], [`ErrorKind::Closed`], [`ErrorKind::Io`] if a file cannot be removed.
    pub fn release_recycled(&self) -> Result<u64> {
        let shared = self.shared();
        let structure = shared.structure.lock();
        shared.check_open(&structure, "release recycled segments")?;
        shared.preparer.drop_recycled()
    }

    /// What the open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.shared().report
    }

    /// What identifies the log.
    pub fn log_id(&self) -> LogId {
        self.shared().log_id
    }

    /// The directory of the log.
    pub fn path(&self) -> &Path {
        self.shared().dir.path()
    }

    /// The settings, as they were validated.
    pub fn config(&self) -> &Config {
        &self.shared().config
    }

    /// What the log has done since it was opened. Stops nothing.
    pub fn stats(&self) -> Stats {
        self.shared().stats()
    }

    /// Closes the log for all clones of this handle: everything is made durable, unused space is given back, and a mark is left so
    /// that the next open need not look for the end. Closing a closed log does nothing.
    ///
    /// # Errors
    ///
    /// What kept the log from being closed cleanly. It is closed all the same, and the next open recovers it.
    pub fn close(&self) -> Result<()> {
        self.handle.close()
    }
}
