//! The seam to the operating system: one trait method for one system call.
//!
//! Everything the log does to a disk goes through [`FileSystem`], [`Directory`] and [`File`], so a simulator sees every
//! step and can fail, tear or lose each of them. There is no composed operation here: "write a temp file, sync it, rename
//! it, sync the directory" lives one level up, in [`durable`].
//!
//! [`RealFileSystem`] is the operating system. With the feature `sim`, the module `sim` holds a simulated one that
//! is crueller than POSIX.

pub mod durable;
mod real;
#[cfg(feature = "sim")]
pub mod sim;

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

pub use real::RealFileSystem;

/// A file system: where directories are made and opened.
pub trait FileSystem: Debug + Send + Sync + 'static {
    /// Creates the directory `path`; its parent must exist. Fails with [`io::ErrorKind::AlreadyExists`] if it is there.
    /// The new entry is not durable before the *parent* was synced.
    fn create_dir(&self, path: &Path) -> io::Result<()>;

    /// Opens the directory `path`.
    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>>;
}

/// How [`Directory::open`] opens a file. None of them truncates: nothing live is ever opened with `O_TRUNC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OpenMode {
    /// For reading; the file must exist.
    Read,
    /// For reading and writing; the file must exist.
    Write,
    /// For reading and writing; the file must not exist (`O_CREAT | O_EXCL`).
    CreateNew,
    /// For writing whole aligned blocks past the page cache, each write returning when its data is durable
    /// (`O_DIRECT | O_DSYNC`); the file must exist. [`io::ErrorKind::Unsupported`] or
    /// [`io::ErrorKind::InvalidInput`] where the file system refuses that.
    WriteDirect,
    /// As [`OpenMode::WriteDirect`], but durable only after a sync (`O_DIRECT`): for work in the background that leaves the page cache
    /// alone. A file system that does not offer it is asked for [`OpenMode::Write`] instead.
    WriteDirectUnsynced,
}

/// An open directory. Names are single components, never paths.
pub trait Directory: Debug + Send + Sync + 'static {
    /// The names in the directory, without `.` and `..`, in no particular order. A name that is not valid UTF-8 is given
    /// in its lossy form, which no name of the log's own ever equals.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Opens a file. A created file's name is not durable before [`Directory::sync`].
    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Renames a file, atomically replacing what has the name `to`. Durable after [`Directory::sync`].
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file's name. Durable after [`Directory::sync`].
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes all earlier changes of names in this directory durable.
    fn sync(&self) -> io::Result<()>;

    /// Takes the exclusive advisory lock on the file `name`, creating it if it is missing. `None` if another handle, in
    /// this process or another, holds it. The lock is released when the guard is dropped, and when the process dies.
    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>>;
}

/// Holds an advisory lock until it is dropped.
pub trait LockGuard: Debug + Send + Sync {}

/// An open file. All methods may be called from several threads at once.
pub trait File: Debug + Send + Sync + 'static {
    /// The size in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether the size is 0.
    fn is_empty(&self) -> io::Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// Reads at most `buf.len()` bytes at `offset`; fewer are possible, 0 means the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at most `buf.len()` bytes at `offset` and returns how many were written; fewer are possible.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// Sets the size; growing reads as zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Gives the file space for the `len` bytes at `offset` wherever it has none, without writing there, and makes the file as large as that:
    /// what was never written reads as zeros, and to write there takes no further space (`fallocate`). If there is not enough space, nothing
    /// that was there has changed. [`io::ErrorKind::Unsupported`] or [`io::ErrorKind::InvalidInput`] where the file system does not offer
    /// it; zeros are written there instead, which takes longer.
    fn preallocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    /// Takes a shared advisory lock on the file, until the handle is closed: who reads a segment says so. `false` if somebody has the exclusive
    /// one; nobody ever waits for either. A file system that offers no such locks says `true` here and `false` there.
    fn try_lock_shared(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Takes the exclusive advisory lock on the file, until the handle is closed. `false` if another handle has it or a shared one, or nobody
    /// knows. Only who has it may change a file that others may have opened; a file system that does not offer it loses only that the
    /// space of such files is given back in steps.
    fn try_lock_exclusive(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether a name leads to the file: one that it was given outside of the log counts too. True where nobody knows. The space of a file
    /// without a name is given back in steps; a file system that does not say loses only that.
    fn has_name(&self) -> io::Result<bool> {
        Ok(true)
    }

    /// Whether more than one name leads to the file, which has one in the log: then it is not used again for another segment. False where nobody
    /// knows.
    fn has_another_name(&self) -> io::Result<bool> {
        Ok(false)
    }

    /// Advises the operating system to read what is asked for and no further, through this handle. It need not follow.
    fn read_no_further(&self) -> io::Result<()> {
        Ok(())
    }

    /// Makes the data, and the size if it changed, durable (`fdatasync`; `F_FULLFSYNC` on Apple systems). Never the name:
    /// that takes [`Directory::sync`]. Not restarted when interrupted: a sync whose outcome is unknown has failed.
    fn sync_data(&self) -> io::Result<()>;

    /// As [`File::sync_data`], with all metadata of the file (`fsync`).
    fn sync_all(&self) -> io::Result<()>;
}
