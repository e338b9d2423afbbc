//! Planned faults: which call fails, and how.

use std::fmt;
use std::io;

use super::rng::Rng;

/// The error numbers of Linux that a disk and its file system give.
pub mod errno {
    /// The call was interrupted.
    pub const EINTR: i32 = 4;
    /// The device failed.
    pub const EIO: i32 = 5;
    /// The descriptor was not opened for this.
    pub const EBADF: i32 = 9;
    /// A directory where a file is expected.
    pub const EISDIR: i32 = 21;
    /// The file would be too large.
    pub const EFBIG: i32 = 27;
    /// The file system is full.
    pub const ENOSPC: i32 = 28;
    /// The file system is read-only.
    pub const EROFS: i32 = 30;
    /// The name is too long.
    pub const ENAMETOOLONG: i32 = 36;
    /// The quota is used up.
    pub const EDQUOT: i32 = 122;
}

pub(super) fn os(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// One method of the traits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Operation {
    /// [`FileSystem::create_dir`](crate::fs::FileSystem::create_dir)
    CreateDir,
    /// [`FileSystem::open_dir`](crate::fs::FileSystem::open_dir)
    OpenDir,
    /// [`Directory::list`](crate::fs::Directory::list)
    List,
    /// [`Directory::open`](crate::fs::Directory::open) of a file that must exist
    Open,
    /// [`Directory::open`](crate::fs::Directory::open) with [`CreateNew`](crate::fs::OpenMode::CreateNew)
    Create,
    /// [`Directory::rename`](crate::fs::Directory::rename)
    Rename,
    /// [`Directory::remove`](crate::fs::Directory::remove)
    Remove,
    /// [`Directory::sync`](crate::fs::Directory::sync)
    SyncDir,
    /// [`Directory::try_lock`](crate::fs::Directory::try_lock)
    TryLock,
    /// [`File::try_lock_shared`](crate::fs::File::try_lock_shared), [`File::try_lock_exclusive`](crate::fs::File::try_lock_exclusive)
    LockFile,
    /// [`File::len`](crate::fs::File::len), [`File::has_name`](crate::fs::File::has_name)
    Len,
    /// [`File::read_at`](crate::fs::File::read_at)
    Read,
    /// [`File::write_at`](crate::fs::File::write_at)
    Write,
    /// [`File::set_len`](crate::fs::File::set_len)
    SetLen,
    /// [`File::preallocate`](crate::fs::File::preallocate)
    Preallocate,
    /// [`File::sync_data`](crate::fs::File::sync_data)
    SyncData,
    /// [`File::sync_all`](crate::fs::File::sync_all)
    SyncAll,
}

impl Operation {
    /// Whether the call makes something durable.
    pub fn is_sync(self) -> bool {
        matches!(self, Operation::SyncDir | Operation::SyncData | Operation::SyncAll)
    }

    /// Whether a crash after the call can end differently from a crash before it.
    pub(super) fn has_effect(self) -> bool {
        !matches!(
            self,
            Operation::OpenDir
                | Operation::List
                | Operation::Open
                | Operation::LockFile
                | Operation::Len
                | Operation::Read
        )
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Operation::CreateDir => "create_dir",
            Operation::OpenDir => "open_dir",
            Operation::List => "list",
            Operation::Open => "open",
            Operation::Create => "create",
            Operation::Rename => "rename",
            Operation::Remove => "remove",
            Operation::SyncDir => "sync_dir",
            Operation::TryLock => "try_lock",
            Operation::LockFile => "lock_file",
            Operation::Len => "len",
            Operation::Read => "read",
            Operation::Write => "write",
            Operation::SetLen => "set_len",
            Operation::Preallocate => "preallocate",
            Operation::SyncData => "sync_data",
            Operation::SyncAll => "sync_all",
        })
    }
}

/// What a fault does to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Effect {
    /// The call fails with this error number and does nothing. A sync that fails could not write the data, and
    /// [`SimConfig::sync_failure`](super::SimConfig::sync_failure) says what follows.
    Error(i32),
    /// A sync, or a direct write, wrote the data and could not flush the device. It fails with this error number, and
    /// [`SimConfig::flush_failure`](super::SimConfig::flush_failure) says what follows.
    FlushError(i32),
    /// The call does its work and reports this error number all the same.
    DoneButError(i32),
    /// A write puts down this many bytes and then fails.
    PartialError {
        /// How many bytes are written.
        bytes: usize,
        /// The error number.
        errno: i32,
    },
    /// A write says `Ok` and is written back too late to tell: the disk never gets it, and every descriptor that is open for
    /// the file at that moment gets this error number from its next sync, once. Who opens the file later hears nothing.
    WriteBackError(i32),
    /// A write says `Ok` and the disk never gets it, and nobody hears of it. It is read back until the cache is dropped
    /// or the machine crashes; a direct write is not, for it has no cache.
    LostWrite,
    /// A read or write moves at most this many bytes and says so.
    Short(usize),
    /// The device works on this offset instead of the right one. A read returns what is there. A write damages what is there,
    /// as far as the file reaches, and is lost at its own place as with [`Effect::LostWrite`].
    Misdirect(u64),
    /// As [`Effect::Misdirect`], at the same offset of another file: the one that was created next, or else the first.
    /// If there is none, nothing happens.
    WrongFile,
    /// A bit of the data is flipped on its way: the one with this number, counted from the lowest of the first byte, modulo the bits
    /// that are moved.
    FlipBit(u64),
    /// A sync, or a direct write, says `Ok` and makes nothing durable.
    Lie,
}

impl Effect {
    fn suits(self, call: &Call<'_>) -> bool {
        let operation = call.operation;
        match self {
            Effect::Error(_) | Effect::DoneButError(_) => true,
            Effect::PartialError { .. } | Effect::LostWrite => operation == Operation::Write,
            Effect::WriteBackError(_) => operation == Operation::Write && !call.direct,
            Effect::Short(_) | Effect::Misdirect(_) | Effect::WrongFile | Effect::FlipBit(_) => {
                matches!(operation, Operation::Write | Operation::Read)
            }
            Effect::FlushError(_) => operation.is_sync() || operation == Operation::Write && call.direct,
            Effect::Lie => operation.is_sync() || operation == Operation::Write,
        }
    }
}

/// A planned fault. It applies to the calls that match all its conditions; by default to the first of them only.
///
/// A fault whose effect makes no sense for an operation (a short rename) never matches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    effect: Effect,
    call: Option<u64>,
    operation: Option<Operation>,
    name: Option<String>,
    name_prefix: Option<String>,
    percent: u64,
    skip: u64,
    times: u64,
}

impl Fault {
    /// A fault on the next call.
    pub fn new(effect: Effect) -> Fault {
        Fault { effect, call: None, operation: None, name: None, name_prefix: None, percent: 100, skip: 0, times: 1 }
    }

    /// Fails with an error number: short for `Fault::new(Effect::Error(errno))`.
    pub fn error(errno: i32) -> Fault {
        Fault::new(Effect::Error(errno))
    }

    /// Only the call with this number; see [`SimFs::calls`](super::SimFs::calls).
    pub fn at_call(mut self, call: u64) -> Fault {
        self.call = Some(call);
        self
    }

    /// Only this operation.
    pub fn on(mut self, operation: Operation) -> Fault {
        self.operation = Some(operation);
        self
    }

    /// Only files (or directories) with this name, without the path. For an open file that is the name under which it was
    /// opened; for a rename, one of the two.
    pub fn name(mut self, name: &str) -> Fault {
        self.name = Some(name.to_owned());
        self
    }

    /// Only files (or directories) whose name starts like this.
    pub fn name_prefix(mut self, prefix: &str) -> Fault {
        self.name_prefix = Some(prefix.to_owned());
        self
    }

    /// Only this share of the matching calls, picked by [`SimConfig::seed`](super::SimConfig::seed). The others do not count for
    /// [`Fault::skip`] and [`Fault::times`].
    pub fn percent(mut self, percent: u64) -> Fault {
        self.percent = percent;
        self
    }

    /// Leaves the first `count` matching calls alone.
    pub fn skip(mut self, count: u64) -> Fault {
        self.skip = count;
        self
    }

    /// Applies to this many matching calls.
    pub fn times(mut self, count: u64) -> Fault {
        self.times = count;
        self
    }

    /// Applies to all further matching calls.
    pub fn always(self) -> Fault {
        self.times(u64::MAX)
    }

    fn matches(&self, number: u64, call: &Call<'_>) -> bool {
        let names = || std::iter::once(call.name).chain(call.target);
        self.effect.suits(call)
            && self.call.is_none_or(|planned| planned == number)
            && self.operation.is_none_or(|operation| operation == call.operation)
            && self.name.as_ref().is_none_or(|name| names().any(|given| given == name))
            && self.name_prefix.as_ref().is_none_or(|prefix| names().any(|given| given.starts_with(prefix.as_str())))
    }

    /// Counts the call, and says what to do to it.
    fn take(&mut self, number: u64, call: &Call<'_>, rng: &mut Rng) -> Option<Effect> {
        if self.times == 0 || !self.matches(number, call) || self.percent < 100 && !rng.percent(self.percent) {
            return None;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.effect)
    }
}

/// The effect of the first fault that applies. All faults count the call, also those behind it.
pub(super) fn take_effect(faults: &mut Vec<Fault>, number: u64, call: &Call<'_>, rng: &mut Rng) -> Option<Effect> {
    let mut effect = None;
    for fault in faults.iter_mut() {
        let own = fault.take(number, call, rng);
        effect = effect.or(own);
    }
    faults.retain(|fault| fault.times > 0);
    effect
}

/// One call as faults and the trace see it.
pub(super) struct Call<'a> {
    pub(super) operation: Operation,
    /// The path of the directory.
    pub(super) dir: &'a str,
    pub(super) name: &'a str,
    /// The new name in a rename.
    pub(super) target: Option<&'a str>,
    pub(super) offset: u64,
    pub(super) length: u64,
    /// Whether a read-only file system refuses it.
    pub(super) changes: bool,
    /// Whether it goes past the page cache.
    pub(super) direct: bool,
}
