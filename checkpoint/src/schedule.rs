//! When checkpoints are made in the background: after a time, after so many bytes of log, and before the pool is full of dirty pages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use wal::{Error, ErrorKind, Result};

use crate::proof::Pace;
use crate::shared::Core;

/// How long to wait after a checkpoint that the disk had no room for.
const RETRY: Duration = Duration::from_secs(1);

/// The thread that makes checkpoints.
#[derive(Debug)]
pub(crate) struct Schedule {
    signal: Arc<Signal>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug, Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
    /// A checkpoint is due and the thread knows; spares others the lock.
    is_due: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    is_due: bool,
    is_stopped: bool,
    last_error: Option<Error>,
}

impl Schedule {
    /// No thread: checkpoints are made on request and at close.
    pub(crate) fn none() -> Schedule {
        Schedule { signal: Arc::default(), thread: Mutex::new(None) }
    }

    /// Starts the thread.
    pub(crate) fn start(core: &Arc<Core>) -> Result<Schedule> {
        let signal: Arc<Signal> = Arc::default();
        let (of_thread, core) = (Arc::clone(&signal), Arc::clone(core));
        let thread = std::thread::Builder::new()
            .name("checkpointer".to_owned())
            .spawn(move || of_thread.run(&core))
            .map_err(|error| Error::io("start thread for", "checkpoints", error))?;
        Ok(Schedule { signal, thread: Mutex::new(Some(thread)) })
    }

    /// Starts a checkpoint if the log has grown that much, or the pool is full of dirty pages.
    pub(crate) fn note_log(&self, core: &Core) {
        let pool = &core.tree.pool;
        let is_due = core.log_bytes() >= core.config.checkpoint_log_bytes || pool.dirty() > pool.frames() / 4 * 3;
        if is_due && !self.signal.is_due.swap(true, Ordering::Relaxed) {
            self.signal.state.lock().is_due = true;
            self.signal.changed.notify_all();
        }
    }

    pub(crate) fn last_error(&self) -> Option<Error> {
        self.signal.state.lock().last_error.clone()
    }

    /// Ends the thread. A checkpoint that is being made is finished, fast, by whoever closes the store.
    pub(crate) fn stop(&self) {
        self.signal.state.lock().is_stopped = true;
        self.signal.changed.notify_all();
        if let Some(thread) = self.thread.lock().take() {
            // It panics only if this crate is wrong, and then the store is as it is after a crash.
            drop(thread.join());
        }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Signal {
    fn run(&self, core: &Core) {
        let mut last = Instant::now();
        let mut due = last + core.config.checkpoint_interval;
        loop {
            if !self.wait(due) {
                return;
            }
            let since = last.elapsed().min(core.config.checkpoint_interval);
            last = Instant::now();
            due = last + core.config.checkpoint_interval;
            let result = core.checkpoint(Pace::Spread(since / 2));
            self.is_due.store(false, Ordering::Relaxed);
            match result {
                Ok(_) => self.state.lock().last_error = None,
                Err(error) if error.kind() == ErrorKind::Full => {
                    self.state.lock().last_error = Some(error);
                    due = Instant::now() + RETRY;
                }
                // The store is poisoned or closed; whoever uses it learns that there.
                Err(_) => return,
            }
        }
    }

    /// Waits until a checkpoint is due. `false` if there are to be no more.
    fn wait(&self, due: Instant) -> bool {
        let mut state = self.state.lock();
        loop {
            if state.is_stopped {
                return false;
            }
            if state.is_due || Instant::now() >= due {
                state.is_due = false;
                return true;
            }
            self.changed.wait_until(&mut state, due);
        }
    }
}
