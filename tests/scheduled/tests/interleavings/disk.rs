//! The simulated file system, whose calls are points of the scheduler, and in which a task can die.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wal_scheduled::fs::sim::{Operation, SimFs};
use wal_scheduled::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal_scheduler::{die, is_scheduled, now, point};

/// No call is this far away.
const NEVER: u64 = u64::MAX;

/// Watches the changing calls, and kills the task that makes the one that was chosen.
#[derive(Debug)]
pub struct Script {
    calls_left: AtomicU64,
    after_the_call: AtomicBool,
    died_at: Mutex<Option<Operation>>,
    syncs_at_once: AtomicU64,
    syncs_running: AtomicU64,
    /// Files of which a sync failed, and whether one of them was synced again.
    failed: Mutex<(BTreeSet<String>, bool)>,
}

impl Script {
    /// Whoever makes the changing call behind the next `calls` dies, before it takes effect or right after.
    pub fn kill(&self, calls: usize, after_the_call: bool) {
        self.calls_left.store(calls as u64, Ordering::Relaxed);
        self.after_the_call.store(after_the_call, Ordering::Relaxed);
    }

    /// Nobody dies any more. Returns the call in which somebody has.
    pub fn died_at(&self) -> Option<Operation> {
        self.calls_left.store(NEVER, Ordering::Relaxed);
        *self.died_at.lock().expect("nobody panics with it")
    }

    /// A call that changes something.
    fn call<T>(&self, operation: Operation, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        point("call");
        // Only one task runs at a time, so this is no race. A task that is dying already may not panic again.
        let left = self.calls_left.load(Ordering::Relaxed);
        let dies = left == 0 && is_scheduled() && !std::thread::panicking();
        if left != NEVER {
            self.calls_left.store(left.checked_sub(1).unwrap_or(NEVER), Ordering::Relaxed);
        }
        if dies {
            *self.died_at.lock().expect("nobody panics with it") = Some(operation);
            if !self.after_the_call.load(Ordering::Relaxed) {
                die()
            }
        }
        let result = call();
        if dies {
            die()
        }
        point("call returns");
        result
    }

    fn sync(&self, name: &str, operation: Operation, call: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        // A segment that is being prepared or copied has another name, and is synced by who makes it.
        let counted = u64::from(name.ends_with(".wal"));
        let running = self.syncs_running.fetch_add(counted, Ordering::Relaxed) + counted;
        self.syncs_at_once.fetch_max(running, Ordering::Relaxed);
        let guard = Running(&self.syncs_running, counted);
        let mut failed = self.failed.lock().expect("nobody panics with it");
        failed.1 |= failed.0.contains(name);
        drop(failed);
        let result = self.call(operation, call);
        if result.is_err() {
            self.failed.lock().expect("nobody panics with it").0.insert(name.to_owned());
        }
        drop(guard);
        result
    }

    fn forget(&self, name: &str) {
        self.failed.lock().expect("nobody panics with it").0.remove(name);
    }

    /// How many syncs of segments ran at the same time, at most.
    pub fn syncs_at_once(&self) -> u64 {
        self.syncs_at_once.load(Ordering::Relaxed)
    }

    /// Whether a file was synced again after a failed sync.
    pub fn has_synced_again(&self) -> bool {
        self.failed.lock().expect("nobody panics with it").1
    }
}

struct Running<'a>(&'a AtomicU64, u64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(self.1, Ordering::Relaxed);
    }
}

/// The file system.
#[derive(Debug)]
pub struct Disk {
    pub sim: SimFs,
    pub script: Arc<Script>,
}

impl Disk {
    pub fn new(sim: SimFs) -> Arc<Disk> {
        let script = Script {
            calls_left: AtomicU64::new(NEVER),
            after_the_call: AtomicBool::new(false),
            died_at: Mutex::default(),
            syncs_at_once: AtomicU64::new(0),
            syncs_running: AtomicU64::new(0),
            failed: Mutex::default(),
        };
        Arc::new(Disk { sim, script: Arc::new(script) })
    }
}

impl FileSystem for Disk {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.sim.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(DiskDirectory { inner: self.sim.open_dir(path)?, script: Arc::clone(&self.script) }))
    }
}

#[derive(Debug)]
struct DiskDirectory {
    inner: Arc<dyn Directory>,
    script: Arc<Script>,
}

impl Directory for DiskDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let open = || self.inner.open(name, mode);
        let inner =
            if mode == OpenMode::CreateNew { self.script.call(Operation::Create, open)? } else { self.look(open)? };
        Ok(Arc::new(DiskFile { inner, name: name.to_owned(), script: Arc::clone(&self.script) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.script.call(Operation::Rename, || self.inner.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.script.forget(name);
        self.script.call(Operation::Remove, || self.inner.remove(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.script.call(Operation::SyncDir, || self.inner.sync())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.try_lock(name)
    }
}

impl DiskDirectory {
    fn look<T>(&self, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        point("look");
        call()
    }
}

#[derive(Debug)]
struct DiskFile {
    inner: Arc<dyn File>,
    /// It was opened under this one.
    name: String,
    script: Arc<Script>,
}

impl File for DiskFile {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        point("read");
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.script.call(Operation::Write, || self.inner.write_at(buf, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.script.call(Operation::SetLen, || self.inner.set_len(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.script.sync(&self.name, Operation::SyncData, || self.inner.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.script.sync(&self.name, Operation::SyncAll, || self.inner.sync_all())
    }
}

/// A clock on the time of the execution.
#[derive(Debug)]
pub struct ExecutionClock;

impl wal_scheduled::Clock for ExecutionClock {
    fn monotonic(&self) -> std::time::Duration {
        now()
    }

    fn unix_micros(&self) -> u64 {
        now().as_micros() as u64
    }
}
