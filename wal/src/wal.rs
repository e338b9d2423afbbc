//! The handle: wiring only.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::clock::{Clock, SystemClock};
use crate::commit::{Commit, Demand, Input, Parts};
use crate::config::{Background, Config, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fs::durable::{LogDir, create_dir_durable};
use crate::fs::{FileSystem, RealFileSystem};
use crate::lsn::Lsn;
use crate::metrics::{Metrics, Stats};
use crate::prepare::Preparer;
use crate::record::{LogId, RecordType, payload_checksum};
use crate::recover::recover;
use crate::report::{Progress, RecoveryReport};
use crate::segment::chain::Chain;
use crate::segment::writer::ActiveSegment;
use crate::shared::{Holds, Shared, Structure};
use crate::tail::{Follower, Reader, Record, read_live};
use crate::ticket::{DurableSubscription, Ticket};
use crate::truncate::{TruncatePolicy, Truncation, truncate_after, truncate_before};
use crate::watermark::{Durability, Target, Watermark};

/// A write-ahead log, open for writing.
///
/// Cloning is cheap and all clones are one log; any method may be called from any thread. [`Wal::close`] closes it for all of them.
/// Dropping the last clone closes it too, but has nobody to tell if that fails; the next open recovers then.
#[derive(Clone, Debug)]
pub struct Wal {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    background: Mutex<Option<JoinHandle<()>>>,
    preparation: Mutex<Option<JoinHandle<()>>>,
}

/// Opens a log with more than its settings: another file system or clock, a progress callback.
pub struct Opener {
    config: Config,
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    log_id: Option<LogId>,
    progress: Box<dyn Fn(Progress) + Send + Sync>,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("config", &self.config).field("fs", &self.fs).finish_non_exhaustive()
    }
}

impl Opener {
    /// Uses `fs` instead of the operating system's file system.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Opener {
        self.fs = fs;
        self
    }

    /// Uses `clock` instead of the operating system's clock.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Opener {
        self.clock = clock;
        self
    }

    /// Gives a log that is created this id instead of a random one, so that two runs write the same bytes.
    #[must_use]
    pub fn log_id(mut self, id: [u8; 16]) -> Opener {
        self.log_id = Some(LogId(id));
        self
    }

    /// Calls `progress` now and then while the segments are read.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Opener {
        self.progress = Box::new(progress);
        self
    }

    /// Opens the log in `dir`, creating the directory and the log if they are missing and the settings allow it.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::InUse`] if it is open for writing already, [`ErrorKind::Corruption`], [`ErrorKind::UnsupportedVersion`],
    /// [`ErrorKind::NotFound`] if there is none and `create` is off, [`ErrorKind::Invalid`] for a setting out of range,
    /// [`ErrorKind::Full`], [`ErrorKind::Io`]. Whenever it fails, what was in the log still is.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Wal> {
        let config = self.config.validated()?;
        let path = dir.as_ref();
        let dir = match LogDir::open(&*self.fs, path) {
            Err(error) if error.kind() == ErrorKind::NotFound && config.create => {
                create_dir_durable(&*self.fs, path)?;
                LogDir::open(&*self.fs, path)?
            }
            other => other?,
        };
        if !config.create && !dir.list()?.iter().any(|name| name == crate::segment::name::CONTROL) {
            // Not even the lock file is created where there is no log.
            let survey = crate::recover::survey::survey(&dir, crate::recover::survey::Reach::Tail(0), &|_, _| {})?;
            return Err(match crate::recover::decide::decide(&survey) {
                crate::recover::decide::Decision::Fail(error) => error.at_path(path),
                _ => Error::new(ErrorKind::NotFound, "open log", "there is no log in the directory").at_path(path),
            });
        }
        let Some(lock) = dir.lock()? else {
            let detail = "another handle, in this process or another, has it open for writing";
            return Err(Error::new(ErrorKind::InUse, "open log", detail).at_path(path));
        };
        if !dir.list()?.iter().any(|name| name == crate::segment::name::CONTROL) {
            // The log is created, or its creation is finished: the directory's own entry must be durable as well.
            create_dir_durable(&*self.fs, path)?;
        }
        let progress = |bytes_done, bytes_total| (self.progress)(Progress { bytes_done, bytes_total });
        let recovered = recover(&dir, &config, &*self.clock, self.log_id, &progress)?;

        let metrics = Arc::new(Metrics::default());
        metrics.recovery.record_duration(recovered.report.duration);
        let chain = Arc::new(Chain::new(recovered.control.start, recovered.links));
        let (active, is_direct) = choose_write_path(&dir, &config, recovered.active, recovered.next_lsn)?;
        let preparer = Arc::new(Preparer::new(dir.clone(), Arc::clone(&metrics), &config, is_direct));
        let background = Arc::new(Event::default());
        let preparation = Arc::new(Event::default());
        let (sender, callbacks) = crossbeam_channel::unbounded();
        let marks = Arc::new(Watermark::new(recovered.next_lsn, sender, Arc::clone(&background)));
        let parts = Parts {
            config: config.clone(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&metrics),
            chain: Arc::clone(&chain),
            preparer: Arc::clone(&preparer),
            background: Arc::clone(&background),
            preparation: Arc::clone(&preparation),
        };
        let commit = Commit::new(parts, marks, active, recovered.next_lsn, recovered.last_checksum)?;
        let shared = Arc::new(Shared {
            dir,
            config,
            clock: self.clock,
            metrics,
            chain,
            preparer,
            commit,
            is_direct,
            log_id: recovered.control.log_id,
            report: recovered.report,
            structure: Mutex::new(Structure { control: recovered.control, lock: Some(lock), is_closed: false }),
            holds: Mutex::new(Holds::default()),
            background,
            preparation,
            is_stopping: AtomicBool::new(false),
            callbacks,
        });
        let handle = Handle { shared, background: Mutex::default(), preparation: Mutex::default() };
        if handle.shared.config.background == Background::Threads {
            handle.start_threads()?;
        }
        handle.shared.commit.prefetch_segment();
        Ok(Wal { handle: Arc::new(handle) })
    }
}

/// Direct I/O in `sync` mode where it works, the page cache otherwise.
fn choose_write_path(
    dir: &LogDir,
    config: &Config,
    active: Arc<ActiveSegment>,
    end: Lsn,
) -> Result<(Arc<ActiveSegment>, bool)> {
    if config.sync_mode != SyncMode::Sync || !config.direct_io {
        return Ok((active, false));
    }
    let direct = active.with_direct(dir)?;
    if direct.probe_direct(end)? { Ok((direct, true)) } else { Ok((active, false)) }
}

impl Handle {
    fn start_threads(&self) -> Result<()> {
        let background = self.spawn("wal-background", |shared| {
            loop {
                let seen = shared.background.count();
                shared.run_callbacks();
                shared.commit.run_background();
                if shared.is_stopping() {
                    return;
                }
                shared.background.wait(seen, shared.commit.next_deadline());
            }
        })?;
        *self.background.lock() = Some(background);
        let preparation = self.spawn("wal-prepare", |shared| {
            loop {
                let seen = shared.preparation.count();
                if shared.commit.is_closed() {
                    return;
                }
                shared.commit.prepare_requested();
                shared.preparation.wait(seen, None);
            }
        })?;
        *self.preparation.lock() = Some(preparation);
        Ok(())
    }

    fn spawn(&self, name: &str, run: fn(&Shared)) -> Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&shared))
            .map_err(|error| Error::io("start background thread of", self.shared.dir.path(), error))
    }

    fn join(&self, thread: &Mutex<Option<JoinHandle<()>>>) {
        let thread = thread.lock().take();
        // A callback may close the log; the thread that runs it ends by itself afterwards.
        if let Some(thread) = thread.filter(|thread| thread.thread().id() != std::thread::current().id())
            && thread.join().is_err()
        {
            let detail = "a background thread of the log panicked";
            self.shared.commit.poison(Error::new(ErrorKind::Io, "run background of log", detail));
        }
    }

    fn close(&self) -> Result<()> {
        self.shared.close(|| self.join(&self.background), || self.join(&self.preparation))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            crate::observe::close_failed(&error);
        }
    }
}

/// How one append differs from the others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    record_type: RecordType,
    durability: Option<Durability>,
    use_reserve: bool,
}

impl AppendOptions {
    /// Nothing differs.
    pub fn new() -> AppendOptions {
        AppendOptions::default()
    }

    /// The record has this type. Records of a [`Batch`] have their own.
    #[must_use]
    pub fn record_type(mut self, record_type: RecordType) -> AppendOptions {
        self.record_type = record_type;
        self
    }

    /// The append is acknowledged when its record is this safe, whatever the mode.
    #[must_use]
    pub fn durability(mut self, durability: Durability) -> AppendOptions {
        self.durability = Some(durability);
        self
    }

    /// The record may use the end of the segment that is kept free for a full disk: for a checkpoint record, with which space can be
    /// freed.
    #[must_use]
    pub fn use_reserve(mut self) -> AppendOptions {
        self.use_reserve = true;
        self
    }
}

/// Records that are appended as one: after a crash all of them are there or none.
#[derive(Clone, Debug, Default)]
pub struct Batch<'a> {
    records: Vec<(RecordType, &'a [u8])>,
}

impl<'a> Batch<'a> {
    /// A batch without records.
    pub fn new() -> Batch<'a> {
        Batch::default()
    }

    /// Adds a record of type 0.
    pub fn push(&mut self, payload: &'a [u8]) -> &mut Batch<'a> {
        self.push_typed(RecordType::DEFAULT, payload)
    }

    /// Adds a record.
    pub fn push_typed(&mut self, record_type: RecordType, payload: &'a [u8]) -> &mut Batch<'a> {
        self.records.push((record_type, payload));
        self
    }

    /// How many records it has.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }
}

/// Where the records of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLsns {
    /// The LSN of the first record.
    pub first: Lsn,
    /// The LSN of the last record.
    pub last: Lsn,
    /// Where the last record ends: the batch is durable once the durable LSN reaches this.
    pub end: Lsn,
}

/// Keeps the log from `lsn` on from being truncated, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    id: u64,
}

/// A hold, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldInfo {
    /// Who holds.
    pub name: String,
    /// From where on the log is kept.
    pub lsn: Lsn,
}

impl Hold {
    /// The log before `lsn` is needed no more. Moving back is ignored.
    pub fn advance(&self, lsn: Lsn) {
        if let Some((_, held)) = self.shared.holds.lock().by_id.get_mut(&self.id) {
            *held = lsn.max(*held);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.holds.lock().by_id.remove(&self.id);
    }
}

fn input(record_type: RecordType, payload: &[u8]) -> Input<'_> {
    Input { record_type, payload, checksum: payload_checksum(payload) }
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
        Opener {
            config,
            fs: Arc::new(RealFileSystem),
            clock: Arc::new(SystemClock::default()),
            log_id: None,
            progress: Box::new(|_| {}),
        }
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
        self.shared().commit.wait_passively(target, Some(Instant::now() + timeout))?;
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

    /// Does the work that is due, and runs callbacks: for [`Background::Inline`]. With threads there is nothing to do.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`].
    pub fn poll(&self) -> Result<()> {
        let result = self.shared().commit.poll();
        self.shared().run_callbacks();
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
        // Taken before the start is looked at, so that no truncation slips in between.
        let shared = Arc::clone(self.shared());
        let structure = shared.structure.lock();
        if lsn < shared.chain.start() {
            let detail = format!("the log starts at LSN {} already", shared.chain.start());
            return Err(Error::new(ErrorKind::Truncated, "hold log", detail).at_lsn(lsn));
        }
        let mut holds = shared.holds.lock();
        let id = holds.next_id;
        holds.next_id += 1;
        holds.by_id.insert(id, (name.to_owned(), lsn));
        drop(holds);
        drop(structure);
        Ok(Hold { shared, id })
    }

    /// All holds, oldest LSN first.
    pub fn holds(&self) -> Vec<HoldInfo> {
        let holds = self.shared().holds.lock();
        let mut list: Vec<HoldInfo> =
            holds.by_id.values().map(|(name, lsn)| HoldInfo { name: name.clone(), lsn: *lsn }).collect();
        list.sort_by_key(|hold| hold.lsn);
        list
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
        let shared = self.shared();
        Stats {
            start_lsn: self.start_lsn(),
            written_lsn: self.written_lsn(),
            durable_lsn: self.durable_lsn(),
            segments: shared.chain.len(),
            ..shared.metrics.stats()
        }
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

fn batch_inputs<'a>(batch: &Batch<'a>) -> Result<Vec<Input<'a>>> {
    if batch.is_empty() {
        return Err(Error::new(ErrorKind::Invalid, "append batch", "it has no records"));
    }
    Ok(batch.records.iter().map(|(record_type, payload)| input(*record_type, payload)).collect())
}
