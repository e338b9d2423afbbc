//! The composed operations on files, each written once: whole reads and writes, create, replace, remove, sweep.
//!
//! The log uses nothing else above the seam, and a program that keeps files beside its log (pages, a control file) can use the same.
//!
//! Everything above this module works with [`LogDir`] and [`LogFile`], which add what a raw system call lacks: short and interrupted
//! calls are continued, and every error says which operation failed on which path. A failed sync is never retried.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Directory, File, FileSystem, LockGuard, OpenMode};
use crate::error::{Error, ErrorKind, Result};
use crate::museum::{Bug, Bugs};
use crate::segment::name::{self, FileName};

/// Bytes written at once where zeros fill a file through the page cache. Linux caches what one write brings in pieces as large as the write
/// (large folios), and every later small write into such a piece walks over all of its blocks: into pieces of 1 MiB a write
/// of 256 bytes was measured to take half as long again as into pieces of 64 KiB.
const ZERO_CHUNK: usize = 64 << 10;

/// A file that is found without a name is opened again at most so often: there may be file systems that count no names.
const OPENED_AGAIN_MAX: u32 = 8;

/// An open directory: of a log, or of what is built on one.
#[derive(Clone, Debug)]
pub struct LogDir {
    directory: Arc<dyn Directory>,
    path: Arc<PathBuf>,
    pub(crate) bugs: Bugs,
}

/// An open file in a [`LogDir`].
#[derive(Clone, Debug)]
pub struct LogFile {
    file: Arc<dyn File>,
    path: Arc<PathBuf>,
    bugs: Bugs,
}

/// A complete and synced replacement that does not have its final name yet.
#[derive(Debug)]
#[must_use = "a temp file replaces nothing before it is committed"]
pub struct Temp {
    temp: String,
    name: String,
}

/// Why a commit failed, and whether the new name may be there all the same.
#[derive(Debug)]
pub struct CommitError {
    /// What failed.
    pub error: Error,
    /// The rename or the directory sync failed: nobody knows what is there, nor what a crash would leave.
    pub is_unsure: bool,
}

impl From<CommitError> for Error {
    fn from(failure: CommitError) -> Error {
        failure.error
    }
}

/// Creates the directory `path` and what is missing above it, and makes the entry of each durable in its parent. The entry
/// of the last one is synced even if it was there: an earlier attempt may have died before its sync.
pub fn create_dir_durable(fs: &dyn FileSystem, path: &Path) -> Result<()> {
    let parent = parent_of(path);
    match fs.create_dir(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent.is_some_and(|parent| parent != path) => {
            create_dir_durable(fs, parent.expect("just seen"))?;
            fs.create_dir(path).map_err(|error| Error::io("create directory", path, error))?;
        }
        Err(error) => return Err(Error::io("create directory", path, error)),
    }
    let Some(parent) = parent else { return Ok(()) };
    let directory = fs.open_dir(parent).map_err(|error| Error::io("open directory", parent, error))?;
    directory.sync().map_err(|error| Error::io("sync directory", parent, error))
}

/// Whether a file that was just opened for reading under this name is one to be read. The space of a segment that left the log or was replaced is
/// given back in steps, once it has no name and by one who has the exclusive lock on it, so that nobody reads it.
fn stays_as_it_is(name: &str, file: &dyn File) -> bool {
    if !matches!(name::parse(name), FileName::Segment(_)) {
        return true;
    }
    // Before the name is looked at: from here on nobody gets the exclusive lock. Where locks are always refused, nobody gets that one
    // either. One that is refused for a moment only is not tried again: if the file is shortened meanwhile, its reader looks again.
    file.try_lock_shared().ok();
    file.has_name().unwrap_or(true)
}

fn parent_of(path: &Path) -> Option<&Path> {
    path.parent().map(|parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent })
}

impl LogDir {
    /// Opens the directory; [`ErrorKind::NotFound`] if it is missing.
    pub fn open(fs: &dyn FileSystem, path: &Path) -> Result<LogDir> {
        match fs.open_dir(path) {
            Ok(directory) => Ok(LogDir { directory, path: Arc::new(path.to_owned()), bugs: Bugs::default() }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(Error::new(ErrorKind::NotFound, "open log", "the directory does not exist").at_path(path))
            }
            Err(error) => Err(Error::io("open directory", path, error)),
        }
    }

    /// The same directory with the switches of the museum.
    pub(crate) fn with_bugs(self, bugs: Bugs) -> LogDir {
        LogDir { bugs, ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of `name` in it.
    pub fn path_of(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The names in it, in no particular order.
    pub fn list(&self) -> Result<Vec<String>> {
        self.directory.list().map_err(|error| Error::io("list directory", self.path(), error))
    }

    /// Opens the file `name`.
    pub fn open_file(&self, name: &str, mode: OpenMode) -> Result<LogFile> {
        self.try_open_file(name, mode).map_err(|error| Error::io("open", self.path_of(name), error))
    }

    /// As [`LogDir::open_file`], `None` if there is no such file.
    pub fn find_file(&self, name: &str, mode: OpenMode) -> Result<Option<LogFile>> {
        match self.try_open_file(name, mode) {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("open", self.path_of(name), error)),
        }
    }

    /// Opens a file for direct writes that are durable when they return; `None` where the file system refuses that.
    pub(crate) fn open_direct(&self, name: &str) -> Result<Option<LogFile>> {
        self.open_direct_as(name, OpenMode::WriteDirect)
    }

    /// Opens a file for direct writes that a sync makes durable; `None` where the file system refuses that.
    pub(crate) fn open_direct_unsynced(&self, name: &str) -> Result<Option<LogFile>> {
        self.open_direct_as(name, OpenMode::WriteDirectUnsynced)
    }

    fn open_direct_as(&self, name: &str, mode: OpenMode) -> Result<Option<LogFile>> {
        match self.try_open_file(name, mode) {
            Ok(file) => Ok(Some(file)),
            Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => Ok(None),
            Err(error) => Err(Error::io("open", self.path_of(name), error)),
        }
    }

    pub(crate) fn try_open_file(&self, name: &str, mode: OpenMode) -> io::Result<LogFile> {
        let mut file = self.directory.open(name, mode)?;
        for _ in 0..OPENED_AGAIN_MAX {
            if mode != OpenMode::Read || stays_as_it_is(name, &*file) {
                break;
            }
            // It lost its name between the two calls, and the name leads elsewhere by now or nowhere.
            file = self.directory.open(name, mode)?;
        }
        Ok(LogFile { file, path: Arc::new(self.path_of(name)), bugs: self.bugs })
    }

    pub(crate) fn lock(&self) -> Result<Option<Box<dyn LockGuard>>> {
        self.directory.try_lock(name::LOCK).map_err(|error| Error::io("lock", self.path_of(name::LOCK), error))
    }

    /// Makes changes of names durable. That this ran out of space cannot be mended by making room: the change is there and nobody knows
    /// whether it stays.
    pub fn sync(&self) -> Result<()> {
        self.directory.sync().map_err(|error| Error::io("sync directory", self.path(), error).into_io())
    }

    /// Removes a name; that it is already gone is no error. Not durable before [`LogDir::sync`]. Returns whether it was there.
    pub fn remove(&self, name: &str) -> Result<bool> {
        match self.directory.remove(name) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::io("remove", self.path_of(name), error)),
        }
    }

    /// Renames a file within the directory. The only caller of the rename system call. Not durable before [`LogDir::sync`].
    pub(crate) fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.directory.rename(from, to).map_err(|error| {
            Error::io("rename", self.path_of(from), error).with_detail(format!("to {}", self.path_of(to).display()))
        })
    }

    /// Creates the file `name`, which may be left over from an earlier attempt, lets `fill` write it, and syncs it. If anything
    /// fails the file is removed again.
    pub fn create_filled(&self, name: &str, fill: impl FnOnce(&LogFile) -> Result<()>) -> Result<LogFile> {
        self.remove(name)?;
        let file = self.open_file(name, OpenMode::CreateNew)?;
        let is_unsynced = self.bugs.has(Bug::OutputNotSynced) && matches!(name::parse(name), FileName::SegmentTemp(_));
        let sync = || if is_unsynced { Ok(()) } else { file.sync_all() };
        match fill(&file).and_then(|()| sync()) {
            Ok(()) => Ok(file),
            Err(error) => Err(self.discard(name, error)),
        }
    }

    /// Removes an unfinished file after `error`. If that fails too the message says so; the next open sweeps it.
    pub(crate) fn discard(&self, name: &str, error: Error) -> Error {
        match self.remove(name) {
            Ok(_) => error,
            Err(second) => error.with_detail(format!("and the unfinished file stays behind: {second}")),
        }
    }

    /// Writes and syncs the replacement of `name` under its temp name. Nothing changes before [`LogDir::commit`].
    pub fn write_temp(&self, name: &str, fill: impl FnOnce(&LogFile) -> Result<()>) -> Result<Temp> {
        let temp = name::temp(name);
        self.create_filled(&temp, fill)?;
        Ok(Temp { temp, name: name.to_owned() })
    }

    /// The complete replacement of `name` that an earlier process left behind. `renew` writes its bytes again and syncs them, because that
    /// process may have died before its own sync, or after one that failed.
    pub(crate) fn adopt_temp(&self, name: &str, renew: impl FnOnce(&LogFile) -> Result<()>) -> Result<Temp> {
        let temp = name::temp(name);
        renew(&self.open_file(&temp, OpenMode::Write)?)?;
        Ok(Temp { temp, name: name.to_owned() })
    }

    /// Renames a synced temp file over its final name and syncs the directory: the one way in which anything is replaced.
    pub fn commit(&self, temp: Temp) -> Result<(), CommitError> {
        #[cfg(feature = "museum")]
        if self.bugs.has(Bug::RewriteInPlace) && matches!(name::parse(&temp.name), FileName::Segment(_)) {
            return self.overwrite(&temp).map_err(|error| CommitError { error, is_unsure: true });
        }
        self.rename_durably(&temp.temp, &temp.name)
    }

    /// Renames a file and syncs the directory. Only a rename that was refused for want of space is known not to have happened, and then the
    /// old name is removed.
    ///
    /// The file that is replaced is held open meanwhile, so that its blocks are not free before the rename is durable. ext4 with
    /// `data=writeback` gives them to another file at once, and a power cut would then leave the old name with that file's bytes.
    pub(crate) fn rename_durably(&self, from: &str, to: &str) -> Result<(), CommitError> {
        // If it cannot be opened there is nothing to hold, or the rename tells why.
        let _replaced = self.try_open_file(to, OpenMode::Read).ok();
        match self.rename(from, to) {
            Err(error) if error.is_full() => Err(CommitError { error: self.discard(from, error), is_unsure: false }),
            Ok(()) if self.bugs.has(Bug::DirectoryNotSynced) => Ok(()),
            result => result.and_then(|()| self.sync()).map_err(|error| CommitError { error, is_unsure: true }),
        }
    }

    /// Replaces a file as [`Bug::RewriteInPlace`] does.
    #[cfg(feature = "museum")]
    fn overwrite(&self, temp: &Temp) -> Result<()> {
        let source = self.open_file(&temp.temp, OpenMode::Read)?;
        let mut bytes = vec![0; source.len()? as usize];
        source.read_at(&mut bytes, 0)?;
        let target = match self.find_file(&temp.name, OpenMode::Write)? {
            Some(target) => target,
            None => self.open_file(&temp.name, OpenMode::CreateNew)?,
        };
        target.set_len(0)?;
        target.write_at(&bytes, 0)?;
        target.sync_all()?;
        self.remove(&temp.temp)?;
        self.sync()
    }

    /// Abandons a temp file.
    pub fn abandon(&self, temp: Temp) -> Result<()> {
        self.remove(&temp.temp).map(|_| ())
    }
}

impl LogFile {
    /// The same open file under the name it has by now.
    pub(crate) fn renamed(self, path: PathBuf) -> LogFile {
        LogFile { path: Arc::new(path), ..self }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the size is 0.
    pub fn is_empty(&self) -> Result<bool> {
        self.len().map(|len| len == 0)
    }

    /// The size in bytes.
    pub fn len(&self) -> Result<u64> {
        self.file.len().map_err(|error| Error::io("get size of", self.path(), error))
    }

    /// Reads at `offset` until `buf` is full or the file ends, and returns how many bytes were read.
    pub fn read_at(&self, buf: &mut [u8], offset: u64) -> Result<usize> {
        let mut done = 0;
        while done < buf.len() {
            match self.file.read_at(&mut buf[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(read) => done += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.bugs.has(Bug::ReadErrorTakenForEnd) => break,
                Err(error) => {
                    return Err(Error::io("read", self.path(), error).at_offset(offset + done as u64));
                }
            }
        }
        Ok(done)
    }

    /// Writes all of `bytes` at `offset`.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            match self.file.write_at(&bytes[done..], at) {
                Ok(0) => {
                    let error = io::ErrorKind::WriteZero.into();
                    return Err(Error::io("write", self.path(), error).at_offset(at));
                }
                Ok(written) => done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::io("write", self.path(), error).at_offset(at)),
            }
        }
        Ok(())
    }

    /// Writes zeros from `from` to `to`, so that later writes there change no metadata.
    pub fn write_zeros(&self, from: u64, to: u64) -> Result<()> {
        static ZEROS: [u8; ZERO_CHUNK] = [0; ZERO_CHUNK];
        let mut at = from;
        while at < to {
            let bytes = (to - at).min(ZERO_CHUNK as u64);
            self.write_at(&ZEROS[..bytes as usize], at)?;
            at += bytes;
        }
        Ok(())
    }

    /// Sets the size; growing reads as zeros.
    pub fn set_len(&self, len: u64) -> Result<()> {
        self.file.set_len(len).map_err(|error| Error::io("set size of", self.path(), error))
    }

    /// Gives the file space from `from` to `to`, so that later writes there need none. `false` where the file system does not offer that.
    pub(crate) fn preallocate(&self, from: u64, to: u64) -> Result<bool> {
        loop {
            match self.file.preallocate(from, to - from) {
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) => {
                    return Ok(false);
                }
                Err(error) => return Err(Error::io("preallocate", self.path(), error).at_offset(from)),
            }
        }
    }

    /// Takes the exclusive advisory lock on the file, until the last handle from this opening is closed. `false` if somebody reads the file, or
    /// nobody knows.
    pub(crate) fn try_lock_exclusive(&self) -> Result<bool> {
        self.file.try_lock_exclusive().map_err(|error| Error::io("lock", self.path(), error))
    }

    /// Whether a name leads to the file.
    pub fn has_name(&self) -> Result<bool> {
        self.file.has_name().map_err(|error| Error::io("read metadata of", self.path(), error))
    }

    /// Whether more than one name leads to the file.
    pub(crate) fn has_another_name(&self) -> Result<bool> {
        self.file.has_another_name().map_err(|error| Error::io("read metadata of", self.path(), error))
    }

    /// Has the operating system read no further than it is asked to.
    pub fn read_no_further(&self) -> Result<()> {
        self.file.read_no_further().map_err(|error| Error::io("give advice on", self.path(), error))
    }

    /// Makes the data, and the size if it changed, durable. Never tried again after a failure.
    pub fn sync_data(&self) -> Result<()> {
        let mut result = self.file.sync_data();
        if result.is_err() && self.bugs.has(Bug::SyncTriedAgain) {
            result = self.file.sync_data();
        }
        result.map_err(|error| Error::io("sync", self.path(), error))
    }

    /// As [`LogFile::sync_data`], with all metadata of the file.
    pub fn sync_all(&self) -> Result<()> {
        self.file.sync_all().map_err(|error| Error::io("sync", self.path(), error))
    }
}
