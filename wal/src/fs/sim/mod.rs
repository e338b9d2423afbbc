//! A simulated file system that is crueller than POSIX, to find out what a program loses in a crash.
//!
//! A [`SimFs`] lives in memory and implements [`FileSystem`]. It counts every call of the traits, fails the calls that a
//! [`Fault`] plans to fail, and gives the file system as it is after a crash: of everything that was not synced, any part
//! may have survived. Equal calls under equal seeds have equal results, to the byte.
//!
//! The [guide] shows how to test an engine of your own with it.
//!
//! # What a crash keeps
//!
//! - Of a file's unsynced data, any subset of the 512-byte sectors; of a sector that was written several times, any of its
//!   versions; with [`CrashPlan::with_torn_sectors`], parts of two versions.
//! - Of a file's unsynced sizes, any one, whatever became of the data. Sectors that the size covers and that were lost read
//!   as zeros, or as [`LostSectors`] says. Cutting a file is a write of zeros and a change of the size.
//! - Of the changes of each name since the last [`Directory::sync`], any prefix, whatever became of
//!   other names and of files. Syncing a file never makes its name durable. A rename changes its new name atomically; the
//!   old name may outlive that, and then both lead to the same file. The new entry of a directory needs the sync of its
//!   parent.
//!
//! Locks, open files, planned faults and the number of calls belong to the process and end with it.
//!
//! # Whose behaviour
//!
//! [`SimConfig::default`] is all that plus failures that are easy to predict. [`SimConfig::profile`] is like one of
//! several file systems, as far as their behaviour was measured: what a failed sync does to the data and who hears of it, whether
//! the file system goes on after a failed flush, and which syncs happen to make a name durable. [`Profile::Cruellest`]
//! does the worst of everything that POSIX allows.
//!
//! # Examples
//!
//! A commit protocol writes `data`, then a `commit` mark that promises that `data` is there. It syncs only once,
//! and enumerating what may survive shows that the promise can be broken:
//!
//! ```
//! use std::io;
//! use std::path::Path;
//!
//! use wal::fs::sim::SimFs;
//! use wal::fs::{FileSystem, OpenMode};
//!
//! fn commit(fs: &dyn FileSystem, sync_data_first: bool) -> io::Result<()> {
//!     let dir = fs.open_dir(Path::new("/"))?;
//!     let data = dir.open("data", OpenMode::CreateNew)?;
//!     data.write_at(b"a promise", 0)?;
//!     if sync_data_first {
//!         data.sync_data()?;
//!         dir.sync()?;
//!     }
//!     let mark = dir.open("commit", OpenMode::CreateNew)?;
//!     mark.write_at(b"done", 0)?;
//!     mark.sync_data()
//!     // The names are not synced: that is the caller's next step, and the moment of the crash.
//! }
//!
//! fn broken_promises(sync_data_first: bool) -> io::Result<usize> {
//!     let fs = SimFs::new(1);
//!     commit(&fs, sync_data_first)?;
//!     let outcomes = fs.outcomes(8).expect("a few undecided items");
//!     Ok(outcomes
//!         .map(|plan| fs.crash(&plan))
//!         .filter(|after| after.read_file("commit").is_ok_and(|mark| mark == b"done"))
//!         .filter(|after| after.read_file("data").unwrap_or_default() != b"a promise")
//!         .count())
//! }
//!
//! assert_eq!(broken_promises(true)?, 0);
//! assert!(broken_promises(false)? > 0);
//! # Ok::<(), io::Error>(())
//! ```
//!
//! A crash in the middle of a protocol is planned with [`SimFs::crash_at`], and a failing call with [`SimFs::plan`]:
//!
//! ```
//! use std::path::Path;
//!
//! use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
//! use wal::fs::{FileSystem, OpenMode};
//!
//! let fs = SimFs::new(1);
//! fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("data"));
//! fs.crash_at(3);
//! let dir = fs.open_dir(Path::new("/"))?; // Call 0.
//! let data = dir.open("data", OpenMode::CreateNew)?; // Call 1.
//! assert_eq!(data.write_at(b"lost", 0).unwrap_err().raw_os_error(), Some(errno::ENOSPC)); // Call 2.
//! assert!(SimFs::is_simulated_crash(&dir.sync().unwrap_err())); // Call 3.
//! let after = fs.crash(&CrashPlan::keep_nothing());
//! assert!(after.open_dir(Path::new("/"))?.list()?.is_empty());
//! # Ok::<(), std::io::Error>(())
//! ```

mod config;
mod content;
mod control;
mod crash;
mod fault;
pub mod guide;
mod handles;
mod inode;
mod names;
mod rng;
mod state;
mod table;
#[cfg(test)]
mod tests;
mod trace;
mod volume;

use std::io;
use std::path::Path;
use std::sync::Arc;

pub use config::{LostSectors, NamePersistence, Profile, SimConfig, SyncFailure};
pub use crash::{CrashPlan, Outcomes, Undecided, UndecidedKind};
pub use fault::{Effect, Fault, Operation, errno};
pub use trace::{Event, Outcome};

use super::{Directory, FileSystem};
use fault::Call;
use handles::SimDirectory;
use state::Shared;
use volume::Volume;

/// A file system in memory that crashes, fails and lies on request. See the [module](self) for what it does.
///
/// Clones are handles to the same file system. [`SimFs::crash`] and [`SimFs::kill`] make a new, independent one and leave
/// this one as it is.
///
/// There is one root directory, `/`; whether a path starts with it makes no difference. Directories have no `..`.
///
/// All methods may be called from several threads at once; one mutex makes the calls one after the other. Results
/// are only reproducible if the order of the calls is.
#[derive(Clone, Debug)]
pub struct SimFs {
    shared: Arc<Shared>,
}

impl SimFs {
    /// An empty file system with default settings and this seed.
    pub fn new(seed: u64) -> SimFs {
        SimFs::with_config(SimConfig { seed, ..SimConfig::default() })
    }

    /// An empty file system with these settings.
    pub fn with_config(config: SimConfig) -> SimFs {
        SimFs::from_volume(Volume::new(config))
    }

    fn from_volume(volume: Volume) -> SimFs {
        SimFs { shared: Shared::new(volume) }
    }
}

impl FileSystem for SimFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let (dir, name) = split(path);
        let operation = Operation::CreateDir;
        let call = Call { operation, dir, name, target: None, offset: 0, length: 0, changes: true, direct: false };
        self.shared.call(&call, |state, _| Ok((state.volume.create_dir(path)?, 0)))
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        let (dir, name) = split(path);
        let operation = Operation::OpenDir;
        let call = Call { operation, dir, name, target: None, offset: 0, length: 0, changes: false, direct: false };
        let (id, path) = self.shared.call(&call, |state, _| {
            let id = state.volume.find_dir(path)?;
            Ok(((id, Arc::clone(&state.volume.dir(id)?.path)), 0))
        })?;
        Ok(Arc::new(SimDirectory { shared: Arc::clone(&self.shared), id, path }))
    }
}

/// The path as faults and the trace show it; whether it is a good one is decided later.
fn split(path: &Path) -> (&str, &str) {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let dir = path.parent().and_then(Path::to_str).unwrap_or_default();
    (dir, name)
}
