//! A file system that leaves out some calls: what a log does that forgets them.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

use wal::fs::sim::{Operation, SimFs};
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal::{Clock, Wal};

use crate::recovery::{DIR, LOG_ID};
use crate::settings::{Opening, Setup};

/// Which calls are left out: their operation, and the name of the file (empty for a directory).
type Forgets = fn(Operation, &str) -> bool;

/// A log that forgets some of its calls and goes on as if they had succeeded. Only calls that return nothing can be forgotten: the
/// syncs, and the removal of files.
pub fn careless(name: &'static str, forgets: Forgets) -> Opening {
    Opening::new(name, move |fs: &SimFs, setup: &Setup, clock: Arc<dyn Clock>| {
        let fs = Careless { inner: fs.clone(), forgets };
        Wal::opener(setup.config.clone())
            .file_system(Arc::new(fs))
            .clock(clock)
            .log_id(LOG_ID)
            .bugs(setup.bugs)
            .open(DIR)
    })
}

#[derive(Debug)]
struct Careless<T> {
    inner: T,
    forgets: Forgets,
}

impl FileSystem for Careless<SimFs> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Careless { inner: self.inner.open_dir(path)?, forgets: self.forgets }))
    }
}

impl Directory for Careless<Arc<dyn Directory>> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.inner.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let inner = NamedFile { file: self.inner.open(name, mode)?, name: name.to_owned() };
        Ok(Arc::new(Careless { inner, forgets: self.forgets }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if (self.forgets)(Operation::Remove, name) { Ok(()) } else { self.inner.remove(name) }
    }

    fn sync(&self) -> io::Result<()> {
        if (self.forgets)(Operation::SyncDir, "") { Ok(()) } else { self.inner.sync() }
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.inner.try_lock(name)
    }
}

#[derive(Debug)]
struct NamedFile {
    file: Arc<dyn File>,
    name: String,
}

impl File for Careless<NamedFile> {
    fn len(&self) -> io::Result<u64> {
        self.inner.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.inner.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.inner.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.inner.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if (self.forgets)(Operation::SyncData, &self.inner.name) { Ok(()) } else { self.inner.file.sync_data() }
    }

    fn sync_all(&self) -> io::Result<()> {
        if (self.forgets)(Operation::SyncAll, &self.inner.name) { Ok(()) } else { self.inner.file.sync_all() }
    }
}
