//! Opening a log, and the threads of an open one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::commit::{Commit, Parts};
use crate::config::{Background, Config, SyncMode};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::fs::durable::{LogDir, create_dir_durable};
use crate::fs::{FileSystem, LockGuard, RealFileSystem};
use crate::lsn::Lsn;
use crate::metrics::Metrics;
use crate::museum::Bugs;
use crate::prepare::Preparer;
use crate::publish::Publisher;
use crate::record::LogId;
use crate::recover::recover;
use crate::report::{FoundState, Progress};
use crate::segment::chain::Chain;
use crate::segment::writer::ActiveSegment;
use crate::shared::{Holds, Shared, Structure};
use crate::sync::Mutex;
use crate::sync::atomic::AtomicBool;
use crate::sync::thread::{self, JoinHandle};
use crate::watermark::Watermark;

const LOCK_RETRIES: u32 = 5;

/// An open log with its threads. Dropping it closes the log.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
    background: Mutex<Option<JoinHandle<()>>>,
    preparation: Mutex<Option<JoinHandle<()>>>,
    statistics: Mutex<Option<JoinHandle<()>>>,
}

/// Opens a log with more than its settings: another file system or clock, a progress callback.
pub struct Opener {
    config: Config,
    fs: Arc<dyn FileSystem>,
    clock: Arc<dyn Clock>,
    log_id: Option<LogId>,
    progress: Box<dyn Fn(Progress) + Send + Sync>,
    bugs: Bugs,
}

impl std::fmt::Debug for Opener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opener").field("config", &self.config).field("fs", &self.fs).finish_non_exhaustive()
    }
}

impl Opener {
    pub(crate) fn new(config: Config) -> Opener {
        Opener {
            config,
            fs: Arc::new(RealFileSystem),
            clock: Arc::new(SystemClock::default()),
            log_id: None,
            progress: Box::new(|_| {}),
            bugs: Bugs::default(),
        }
    }

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

    /// Calls `progress` now and then while the segments are read, from the thread that opens the log or from one that reads for it.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + Send + Sync + 'static) -> Opener {
        self.progress = Box::new(progress);
        self
    }

    /// Breaks the log on purpose, for this project's own tests.
    #[cfg(feature = "museum")]
    #[doc(hidden)]
    #[must_use]
    pub fn bugs(mut self, bugs: Bugs) -> Opener {
        self.bugs = bugs;
        self.log_id = bugs.log_id().map(LogId).or(self.log_id);
        self
    }

    /// Opens the log in `path` and starts its threads.
    pub(crate) fn open_handle(self, path: &Path) -> Result<Handle> {
        let config = self.config.validated()?;
        let dir = match LogDir::open(&*self.fs, path) {
            Err(error) if error.kind() == ErrorKind::NotFound && config.create => {
                create_dir_durable(&*self.fs, path)?;
                LogDir::open(&*self.fs, path)?
            }
            other => other?,
        }
        .with_bugs(self.bugs);
        if !config.create && !dir.list()?.iter().any(|name| name == crate::segment::name::CONTROL) {
            // Not even the lock file is created where there is no log.
            let survey = crate::recover::survey::survey(&dir, crate::recover::survey::Reach::UNPROVEN, &|_, _| {})?;
            return Err(match crate::recover::decide::decide(&survey) {
                crate::recover::decide::Decision::Fail(error) => error.at_path(path),
                _ => Error::new(ErrorKind::NotFound, "open log", "there is no log in the directory").at_path(path),
            });
        }
        let Some(lock) = lock(&dir)? else {
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
        let trim_from = match recovered.report.state {
            FoundState::Clean => recovered.control.opened_segment,
            _ => recovered.control.start_segment,
        };
        let chain = Arc::new(Chain::new(recovered.control.start, recovered.links));
        let (active, is_direct) = choose_write_path(&dir, &config, recovered.active, recovered.next_lsn)?;
        let clock = Arc::clone(&self.clock);
        let preparer = Arc::new(Preparer::new(dir.clone(), Arc::clone(&metrics), clock, &config, is_direct));
        let background = Arc::new(Event::default());
        let preparation = Arc::new(Event::default());
        let (sender, callbacks) = crossbeam_channel::unbounded();
        let marks = Arc::new(Watermark::new(recovered.next_lsn, sender, Arc::clone(&background)));
        let parts = Parts {
            config: config.clone(),
            bugs: self.bugs,
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&metrics),
            chain: Arc::clone(&chain),
            preparer: Arc::clone(&preparer),
            background: Arc::clone(&background),
            preparation: Arc::clone(&preparation),
        };
        let commit = Commit::new(parts, marks, active, recovered.next_lsn, recovered.last_checksum)?;
        let publisher = Publisher::new(&*self.clock);
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
            structure: Mutex::new(Structure {
                control: recovered.control,
                lock: Some(lock),
                is_closed: false,
                trim_from,
            }),
            holds: Mutex::new(Holds::default()),
            background,
            preparation,
            publisher,
            is_stopping: AtomicBool::new(false),
            callbacks,
        });
        let handle = Handle {
            shared,
            background: Mutex::default(),
            preparation: Mutex::default(),
            statistics: Mutex::default(),
        };
        if handle.shared.config.background == Background::Threads {
            handle.start_threads()?;
        }
        handle.shared.commit.prefetch_segment();
        Ok(handle)
    }
}

/// Takes the writer's lock. A tool that looks whether a log is in use holds it for an instant, so one refusal is not the last word.
pub(crate) fn lock(dir: &LogDir) -> Result<Option<Box<dyn LockGuard>>> {
    for _ in 0..LOCK_RETRIES {
        if let Some(lock) = dir.lock()? {
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    dir.lock()
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

fn publish_until_stopped(shared: &Shared) {
    let Some(interval) = shared.config.statistics_interval else { return };
    loop {
        let listener = shared.publisher.event.listen();
        if shared.is_stopping() {
            return;
        }
        shared.publish_if_due();
        listener.wait(Some(shared.publisher.deadline(&*shared.clock, interval)));
    }
}

impl Handle {
    fn start_threads(&self) -> Result<()> {
        let background = self.spawn("wal-background", |shared| {
            let work = || {
                shared.run_callbacks();
                shared.commit.run_background()
            };
            loop {
                // It listens only when it has nothing to do: to wake somebody who listens takes a system call.
                while work() && !shared.is_stopping() {}
                let listener = shared.background.listen();
                let goes_on = work();
                if shared.is_stopping() {
                    return;
                }
                if !goes_on {
                    listener.wait(shared.commit.next_deadline());
                }
            }
        })?;
        *self.background.lock() = Some(background);
        let preparation = self.spawn("wal-prepare", |shared| {
            loop {
                let listener = shared.preparation.listen();
                if shared.commit.is_closed() {
                    return;
                }
                shared.commit.prepare_requested();
                listener.wait(None);
            }
        })?;
        *self.preparation.lock() = Some(preparation);
        if self.shared.config.statistics_interval.is_some() {
            *self.statistics.lock() = Some(self.spawn("wal-statistics", publish_until_stopped)?);
        }
        Ok(())
    }

    fn spawn(&self, name: &str, run: fn(&Shared)) -> Result<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || run(&shared))
            .map_err(|error| Error::io("start background thread of", self.shared.dir.path(), error))
    }

    fn join(&self, handle: &Mutex<Option<JoinHandle<()>>>) {
        let handle = handle.lock().take();
        // A callback may close the log; the thread that runs it ends by itself afterwards.
        if let Some(handle) = handle.filter(|handle| handle.thread().id() != thread::current().id())
            && handle.join().is_err()
        {
            let detail = "a background thread of the log panicked";
            self.shared.commit.poison(Error::new(ErrorKind::Io, "run background of log", detail));
        }
    }

    /// That this thread panicked harms nobody but those who look at the file.
    fn join_statistics(&self) {
        if self.statistics.lock().take().is_some_and(|handle| handle.join().is_err()) {
            self.shared.metrics.statistics_failures.add(1);
        }
    }

    pub(crate) fn close(&self) -> Result<()> {
        let join_background = || {
            self.join_statistics();
            self.join(&self.background);
        };
        self.shared.close(join_background, || self.join(&self.preparation))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Err(error) = self.close() {
            crate::observe::close_failed(&error);
        }
    }
}
