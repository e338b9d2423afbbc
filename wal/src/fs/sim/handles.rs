//! The open directories, files and locks of a simulated file system.

use std::io;
use std::sync::Arc;

use super::fault::{Call, Operation, errno, os};
use super::names::{DirId, InodeId};
use super::state::{FileLock, Shared};
use crate::fs::{Directory, File, LockGuard, OpenMode};

#[derive(Debug)]
pub(super) struct SimDirectory {
    pub(super) shared: Arc<Shared>,
    pub(super) id: DirId,
    pub(super) path: Arc<str>,
}

impl SimDirectory {
    fn call<'a>(&'a self, operation: Operation, name: &'a str) -> Call<'a> {
        let changes = operation.has_effect();
        Call { operation, dir: &self.path, name, target: None, offset: 0, length: 0, changes, direct: false }
    }

    /// A call on the directory itself, which faults know by its own name.
    fn call_on_itself(&self, operation: Operation) -> Call<'_> {
        let (dir, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let changes = operation.has_effect();
        Call { operation, dir, name, target: None, offset: 0, length: 0, changes, direct: false }
    }
}

impl Directory for SimDirectory {
    fn list(&self) -> io::Result<Vec<String>> {
        self.shared.call(&self.call_on_itself(Operation::List), |state, _| {
            let names: Vec<String> =
                state.volume.dir(self.id)?.live().iter().map(|(name, _)| name.to_string()).collect();
            let count = names.len() as u64;
            Ok((names, count))
        })
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let operation = if mode == OpenMode::CreateNew { Operation::Create } else { Operation::Open };
        let mut call = self.call(operation, name);
        call.changes = mode != OpenMode::Read;
        let (inode, descriptor) = self.shared.call(&call, |state, _| Ok((state.open(self.id, name, mode)?, 0)))?;
        let (shared, dir, name) = (Arc::clone(&self.shared), Arc::clone(&self.path), Arc::from(name));
        Ok(Arc::new(SimFile { shared, inode, descriptor, dir, name, mode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut call = self.call(Operation::Rename, from);
        call.target = Some(to);
        self.shared.call(&call, |state, _| {
            let replaced = state.volume.file_in(self.id, to).ok();
            state.volume.rename(self.id, from, to)?;
            replaced.into_iter().for_each(|inode| state.collect(inode));
            Ok(((), 0))
        })
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.shared.call(&self.call(Operation::Remove, name), |state, _| Ok((state.volume.remove(self.id, name)?, 0)))
    }

    fn sync(&self) -> io::Result<()> {
        self.shared
            .call(&self.call_on_itself(Operation::SyncDir), |state, effect| Ok((state.sync_dir(self.id, effect)?, 0)))
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        let inode = self.shared.call(&self.call(Operation::TryLock, name), |state, _| {
            let inode = state.lock(self.id, name)?;
            Ok((inode, u64::from(inode.is_some())))
        })?;
        let guard = |inode| -> Box<dyn LockGuard> { Box::new(SimLock { shared: Arc::clone(&self.shared), inode }) };
        Ok(inode.map(guard))
    }
}

#[derive(Debug)]
struct SimLock {
    shared: Arc<Shared>,
    inode: InodeId,
}

impl LockGuard for SimLock {}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.shared.state.lock().unlock(self.inode);
    }
}

#[derive(Debug)]
struct SimFile {
    shared: Arc<Shared>,
    inode: InodeId,
    descriptor: u64,
    dir: Arc<str>,
    name: Arc<str>,
    mode: OpenMode,
}

impl SimFile {
    fn call(&self, operation: Operation, offset: u64, length: u64) -> Call<'_> {
        let (changes, direct) = (operation.has_effect(), self.mode == OpenMode::WriteDirect);
        Call { operation, dir: &self.dir, name: &self.name, target: None, offset, length, changes, direct }
    }

    fn lock(&self, lock: FileLock) -> io::Result<bool> {
        self.shared.call(&self.call(Operation::LockFile, 0, 0), |state, _| {
            let is_locked = state.lock_file(self.inode, self.descriptor, lock);
            Ok((is_locked, u64::from(is_locked)))
        })
    }

    fn sync(&self, operation: Operation) -> io::Result<()> {
        self.shared.call(&self.call(operation, 0, 0), |state, effect| {
            Ok((state.sync_file(self.inode, self.descriptor, effect)?, 0))
        })
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        self.shared.call(&self.call(Operation::Len, 0, 0), |state, _| {
            let len = state.volume.inode(self.inode)?.cache().len();
            Ok((len, len))
        })
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.shared.call(&self.call(Operation::Read, offset, buf.len() as u64), |state, effect| {
            if matches!(self.mode, OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced) {
                return Err(os(errno::EBADF));
            }
            let count = state.read(self.inode, buf, offset, effect)?;
            Ok((count, count as u64))
        })
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.shared.call(&self.call(Operation::Write, offset, buf.len() as u64), |state, effect| {
            if self.mode == OpenMode::Read {
                return Err(os(errno::EBADF));
            }
            let count = state.write(self.inode, buf, offset, self.mode, effect)?;
            Ok((count, count as u64))
        })
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        self.lock(FileLock::Shared)
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        self.lock(FileLock::Exclusive)
    }

    fn has_name(&self) -> io::Result<bool> {
        self.shared.call(&self.call(Operation::Len, 0, 0), |state, _| {
            let has_name = state.volume.inode(self.inode)?.links > 0;
            Ok((has_name, u64::from(has_name)))
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.shared.call(&self.call(Operation::SetLen, 0, len), |state, _| {
            if self.mode == OpenMode::Read {
                return Err(io::ErrorKind::InvalidInput.into());
            }
            Ok((state.set_len(self.inode, len)?, 0))
        })
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.shared.call(&self.call(Operation::Preallocate, offset, len), |state, _| {
            if self.mode == OpenMode::Read {
                return Err(os(errno::EBADF));
            }
            Ok((state.preallocate(self.inode, offset, len)?, 0))
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Operation::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Operation::SyncAll)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        self.shared.state.lock().close(self.inode, self.descriptor);
    }
}
