//! The operating system's file system.
//!
//! On Unix every operation on a name goes through one open directory handle, so renaming or replacing a directory above the
//! log cannot redirect it. Windows has no such handle in the standard library; there the path is used, and syncing
//! a directory does nothing because NTFS journals names by itself. macOS and Windows are written from their documentation
//! and have not been tested.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{Directory, File, FileSystem, LockGuard, OpenMode};

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealFileSystem;

impl FileSystem for RealFileSystem {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(platform::RealDirectory::open(path)?))
    }
}

#[derive(Debug)]
struct RealFile(fs::File);

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.0.metadata().map(|metadata| metadata.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        platform::read_at(&self.0, buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        platform::write_at(&self.0, buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        platform::preallocate(&self.0, offset, len)
    }

    fn try_lock_shared(&self) -> io::Result<bool> {
        platform::try_lock_shared(&self.0)
    }

    fn try_lock_exclusive(&self) -> io::Result<bool> {
        platform::try_lock_exclusive(&self.0)
    }

    fn has_name(&self) -> io::Result<bool> {
        platform::has_name(&self.0)
    }

    fn has_another_name(&self) -> io::Result<bool> {
        platform::has_another_name(&self.0)
    }

    fn read_no_further(&self) -> io::Result<()> {
        platform::read_no_further(&self.0)
    }

    fn sync_data(&self) -> io::Result<()> {
        platform::sync_data(&self.0)
    }

    fn sync_all(&self) -> io::Result<()> {
        platform::sync_all(&self.0)
    }
}

/// The file whose open description carries the lock.
#[derive(Debug)]
struct RealLock {
    file: fs::File,
    process: u32,
}

impl LockGuard for RealLock {}

impl Drop for RealLock {
    /// Releases the lock at once. Closing the file would do so only when no child process holds a copy of the descriptor, and a child that
    /// another thread is just starting does, until it executes its program. A forked copy of this guard releases nothing.
    fn drop(&mut self) {
        if self.process == std::process::id()
            && let Err(error) = self.file.unlock()
        {
            // The file is closed next, which releases the lock as well.
            debug_assert!(false, "unlocking an open file failed: {error}");
        }
    }
}

fn lock(file: fs::File) -> io::Result<Option<Box<dyn LockGuard>>> {
    match file.try_lock() {
        Ok(()) => Ok(Some(Box::new(RealLock { file, process: std::process::id() }))),
        Err(fs::TryLockError::WouldBlock) => Ok(None),
        Err(fs::TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(unix)]
mod platform {
    use std::os::unix::fs::{FileExt, MetadataExt};

    use rustix::fs::{AtFlags, Mode, OFlags};

    use super::*;

    #[derive(Debug)]
    pub(super) struct RealDirectory(fs::File);

    impl RealDirectory {
        pub(super) fn open(path: &Path) -> io::Result<RealDirectory> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let handle = rustix::fs::open(path, flags, Mode::empty())?;
            Ok(RealDirectory(fs::File::from(handle)))
        }

        fn open_file(&self, name: &str, flags: OFlags) -> io::Result<fs::File> {
            let mode = Mode::from_raw_mode(0o644);
            let handle = rustix::fs::openat(&self.0, name, flags | OFlags::CLOEXEC, mode)?;
            Ok(fs::File::from(handle))
        }
    }

    impl Directory for RealDirectory {
        fn list(&self) -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in rustix::fs::Dir::read_from(&self.0)? {
                let entry = entry?;
                let name = entry.file_name().to_string_lossy();
                if name != "." && name != ".." {
                    names.push(name.into_owned());
                }
            }
            Ok(names)
        }

        fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
            let flags = match mode {
                OpenMode::Read => OFlags::RDONLY,
                OpenMode::Write => OFlags::RDWR,
                OpenMode::CreateNew => OFlags::RDWR | OFlags::CREATE | OFlags::EXCL,
                OpenMode::WriteDirect => direct_flags()? | OFlags::DSYNC,
                OpenMode::WriteDirectUnsynced => direct_flags()?,
            };
            Ok(Arc::new(RealFile(self.open_file(name, flags)?)))
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            Ok(rustix::fs::renameat(&self.0, from, &self.0, to)?)
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            Ok(rustix::fs::unlinkat(&self.0, name, AtFlags::empty())?)
        }

        fn sync(&self) -> io::Result<()> {
            sync_all(&self.0)
        }

        fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
            super::lock(self.open_file(name, OFlags::RDWR | OFlags::CREATE)?)
        }
    }

    #[cfg(target_os = "linux")]
    fn direct_flags() -> io::Result<OFlags> {
        Ok(OFlags::WRONLY | OFlags::DIRECT)
    }

    #[cfg(not(target_os = "linux"))]
    fn direct_flags() -> io::Result<OFlags> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read_at(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.read_at(buf, offset)
    }

    pub(super) fn write_at(file: &fs::File, buf: &[u8], offset: u64) -> io::Result<usize> {
        // Without the detour through a cancellation point of the C library, which a write into the page cache feels.
        Ok(rustix::io::pwrite(file, buf, offset)?)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn preallocate(file: &fs::File, offset: u64, len: u64) -> io::Result<()> {
        // The system call itself: the C library would write to each block where the file system does not offer it.
        Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), offset, len)?)
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn preallocate(_file: &fs::File, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn try_lock_shared(file: &fs::File) -> io::Result<bool> {
        is_locked(file.try_lock_shared())
    }

    pub(super) fn try_lock_exclusive(file: &fs::File) -> io::Result<bool> {
        is_locked(file.try_lock())
    }

    fn is_locked(tried: Result<(), fs::TryLockError>) -> io::Result<bool> {
        match tried {
            Ok(()) => Ok(true),
            Err(fs::TryLockError::WouldBlock) => Ok(false),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    pub(super) fn has_name(file: &fs::File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 0)
    }

    pub(super) fn has_another_name(file: &fs::File) -> io::Result<bool> {
        Ok(file.metadata()?.nlink() > 1)
    }

    #[cfg(target_os = "linux")]
    pub(super) fn read_no_further(file: &fs::File) -> io::Result<()> {
        // It is advice: who refuses it reads as before, and what is read is no other.
        rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::Random).or(Ok(()))
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn read_no_further(_file: &fs::File) -> io::Result<()> {
        Ok(())
    }

    // The standard library starts an interrupted sync again. Whether the first one had consumed an error is unknown then, so
    // the calls are made directly and an interruption is an error like any other.

    #[cfg(target_vendor = "apple")]
    pub(super) fn sync_data(file: &fs::File) -> io::Result<()> {
        Ok(rustix::fs::fcntl_fullfsync(file)?)
    }

    #[cfg(target_vendor = "apple")]
    pub(super) fn sync_all(file: &fs::File) -> io::Result<()> {
        Ok(rustix::fs::fcntl_fullfsync(file)?)
    }

    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn sync_data(file: &fs::File) -> io::Result<()> {
        Ok(rustix::fs::fdatasync(file)?)
    }

    #[cfg(not(target_vendor = "apple"))]
    pub(super) fn sync_all(file: &fs::File) -> io::Result<()> {
        Ok(rustix::fs::fsync(file)?)
    }
}

#[cfg(windows)]
mod platform {
    use std::os::windows::fs::FileExt;
    use std::path::PathBuf;

    use super::*;

    #[derive(Debug)]
    pub(super) struct RealDirectory(PathBuf);

    impl RealDirectory {
        pub(super) fn open(path: &Path) -> io::Result<RealDirectory> {
            if !fs::metadata(path)?.is_dir() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            Ok(RealDirectory(path.canonicalize()?))
        }
    }

    impl Directory for RealDirectory {
        fn list(&self) -> io::Result<Vec<String>> {
            fs::read_dir(&self.0)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
        }

        fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
            let mut options = fs::OpenOptions::new();
            options.read(true);
            match mode {
                OpenMode::Read => {}
                OpenMode::Write => {
                    options.write(true);
                }
                OpenMode::CreateNew => {
                    options.write(true).create_new(true);
                }
                OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced => {
                    return Err(io::ErrorKind::Unsupported.into());
                }
            }
            Ok(Arc::new(RealFile(options.open(self.0.join(name))?)))
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            fs::rename(self.0.join(from), self.0.join(to))
        }

        fn remove(&self, name: &str) -> io::Result<()> {
            fs::remove_file(self.0.join(name))
        }

        fn sync(&self) -> io::Result<()> {
            Ok(())
        }

        fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
            let file =
                fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(self.0.join(name))?;
            super::lock(file)
        }
    }

    pub(super) fn read_at(file: &fs::File, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        file.seek_read(buf, offset)
    }

    pub(super) fn preallocate(_file: &fs::File, _offset: u64, _len: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    // Locks on files keep others from reading and writing there.
    pub(super) fn try_lock_shared(_file: &fs::File) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn try_lock_exclusive(_file: &fs::File) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn has_name(_file: &fs::File) -> io::Result<bool> {
        Ok(true)
    }

    pub(super) fn has_another_name(_file: &fs::File) -> io::Result<bool> {
        Ok(false)
    }

    pub(super) fn read_no_further(_file: &fs::File) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn write_at(file: &fs::File, buf: &[u8], offset: u64) -> io::Result<usize> {
        file.seek_write(buf, offset)
    }

    pub(super) fn sync_data(file: &fs::File) -> io::Result<()> {
        file.sync_data()
    }

    pub(super) fn sync_all(file: &fs::File) -> io::Result<()> {
        file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(unix)]
    #[test]
    fn preallocated_space_is_there_and_reads_as_zeros() {
        use std::os::unix::fs::MetadataExt;

        let path = std::env::temp_dir().join(format!("wal-preallocated-{}", std::process::id()));
        let mut options = fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true);
        let file = RealFile(options.open(&path).unwrap());
        file.write_at(&[7; 4096], 0).unwrap();
        match file.preallocate(0, 1 << 20) {
            Err(error) => assert!(matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput)),
            Ok(()) => {
                let mut bytes = vec![1; 1 << 20];
                assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 1 << 20);
                assert!(bytes[..4096] == [7; 4096] && bytes[4096..].iter().all(|byte| *byte == 0));
                assert!(file.0.metadata().unwrap().blocks() * 512 >= 1 << 20);
            }
        }
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_forked_copy_of_the_lock_releases_nothing() {
        let path = std::env::temp_dir().join(format!("wal-lock-{}", std::process::id()));
        let open = || fs::OpenOptions::new().write(true).create(true).truncate(false).open(&path).unwrap();
        let file = open();
        // What a child has after a fork: the same open file, and the guard of its parent.
        let copy = RealLock { file: file.try_clone().unwrap(), process: std::process::id().wrapping_add(1) };
        let held = lock(file).unwrap().expect("nobody has it");
        drop(copy);
        assert!(lock(open()).unwrap().is_none(), "its owner has it still");
        drop(held);
        assert!(lock(open()).unwrap().is_some(), "its owner has released it");
        fs::remove_file(path).unwrap();
    }
}
