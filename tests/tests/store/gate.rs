//! A file system that says what is called before and after it is, so that a test can put one thing into the middle of another.

use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

use wal::fs::sim::{Operation, SimFs};
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};

/// A call that is about to be made, or was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'a> {
    pub operation: Operation,
    /// The file's name without its directory.
    pub name: &'a str,
    /// What is written.
    pub bytes: &'a [u8],
    pub is_over: bool,
}

type Hook = Arc<dyn Fn(Seen<'_>) + Send + Sync>;

#[derive(Clone, Default)]
struct Hooks(Arc<Mutex<Option<Hook>>>);

impl std::fmt::Debug for Hooks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hooks")
    }
}

impl Hooks {
    fn around<T>(&self, operation: Operation, name: &str, bytes: &[u8], call: impl FnOnce() -> T) -> T {
        // The hook may make calls itself, so the lock is not held meanwhile.
        let hook = self.0.lock().expect("no test panics with the lock").clone();
        let tell = |is_over| {
            if let Some(hook) = &hook {
                hook(Seen { operation, name, bytes, is_over });
            }
        };
        tell(false);
        let result = call();
        tell(true);
        result
    }
}

/// A simulated file system with a hook around the calls on files.
#[derive(Clone, Debug)]
pub struct GateFs {
    fs: SimFs,
    hooks: Hooks,
}

impl GateFs {
    pub fn new(fs: &SimFs) -> GateFs {
        GateFs { fs: fs.clone(), hooks: Hooks::default() }
    }

    /// From now on this runs before and after each call.
    pub fn watch(&self, hook: impl Fn(Seen<'_>) + Send + Sync + 'static) {
        *self.hooks.0.lock().expect("no test panics with the lock") = Some(Arc::new(hook));
    }

    pub fn forget(&self) {
        *self.hooks.0.lock().expect("no test panics with the lock") = None;
    }
}

impl FileSystem for GateFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.fs.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(GateDirectory { directory: self.fs.open_dir(path)?, hooks: self.hooks.clone() }))
    }
}

#[derive(Debug)]
struct GateDirectory {
    directory: Arc<dyn Directory>,
    hooks: Hooks,
}

impl Directory for GateDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.directory.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.directory.open(name, mode)?;
        Ok(Arc::new(GateFile { file, name: name.to_owned(), hooks: self.hooks.clone() }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.hooks.around(Operation::Rename, to, &[], || self.directory.rename(from, to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.hooks.around(Operation::Remove, name, &[], || self.directory.remove(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.directory.sync()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        let guard = self.directory.try_lock(name)?;
        let gate = |guard| -> Box<dyn LockGuard> {
            Box::new(GateLock { guard: Some(guard), name: name.to_owned(), hooks: self.hooks.clone() })
        };
        Ok(guard.map(gate))
    }
}

#[derive(Debug)]
struct GateLock {
    guard: Option<Box<dyn LockGuard>>,
    name: String,
    hooks: Hooks,
}

impl LockGuard for GateLock {}

impl Drop for GateLock {
    /// That a lock is given up is told in the name of the call that took it.
    fn drop(&mut self) {
        let guard = self.guard.take();
        self.hooks.around(Operation::TryLock, &self.name, &[], || drop(guard));
    }
}

#[derive(Debug)]
struct GateFile {
    file: Arc<dyn File>,
    name: String,
    hooks: Hooks,
}

impl File for GateFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.hooks.around(Operation::Write, &self.name, buf, || self.file.write_at(buf, offset))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.hooks.around(Operation::SyncData, &self.name, &[], || self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.hooks.around(Operation::SyncAll, &self.name, &[], || self.file.sync_all())
    }
}
