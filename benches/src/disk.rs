//! Files for the floors: filled with zeros before anything is measured, so that no write into them changes metadata.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// What the device is asked to write in one piece, and what direct I/O has to be aligned to.
pub const BLOCK: usize = 4096;

/// How a write into a [`Store`] is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Into the page cache, and no more.
    Cached,
    /// Into the page cache, then `fdatasync`.
    Synced,
    /// Past the page cache, durable when it returns (`O_DIRECT` with `O_DSYNC`), in whole blocks.
    Direct,
}

impl Way {
    /// The name for tables.
    pub fn name(self) -> &'static str {
        match self {
            Way::Cached => "pwrite",
            Way::Synced => "pwrite + fdatasync",
            Way::Direct => "O_DIRECT|O_DSYNC",
        }
    }
}

/// A buffer that starts at a block boundary, which direct I/O asks for.
struct Aligned {
    bytes: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// More is allocated than needed and the aligned part of it used; filled with something other than zeros, as records are.
    fn new(len: usize) -> Aligned {
        let bytes = vec![0xA5; len + BLOCK];
        let start = bytes.as_ptr().align_offset(BLOCK);
        Aligned { bytes, start, len }
    }

    fn slice(&self, from: usize, len: usize) -> &[u8] {
        debug_assert!(from + len <= self.len, "a store is asked for no more than it was created for");
        &self.bytes[self.start + from..self.start + from + len]
    }

    fn fill(&mut self, from: usize, with: &[u8]) {
        self.bytes[self.start + from..self.start + from + with.len()].copy_from_slice(with);
    }
}

/// A zero-filled file that is written from front to back, and again from the front when it is full.
pub struct Store {
    file: File,
    way: Way,
    size: u64,
    position: u64,
    buffer: Aligned,
}

impl Store {
    /// Creates the file with `size` bytes of zeros, durable, for writes of at most `write_max` bytes.
    pub fn create(path: &Path, way: Way, size: u64, write_max: usize) -> io::Result<Store> {
        let mut file = File::create(path)?;
        // In the pieces that the log fills its segments in: they decide how large the pieces are that the page cache holds.
        let zeros = vec![0; 64 << 10];
        for _ in 0..size.div_ceil(zeros.len() as u64) {
            file.write_all(&zeros)?;
        }
        file.sync_all()?;
        let size = size.next_multiple_of(zeros.len() as u64);
        let file = if way == Way::Direct { open_direct(path)? } else { OpenOptions::new().write(true).open(path)? };
        // A write may begin and end within a block, and direct I/O writes both of these blocks as a whole.
        Ok(Store { file, way, size, position: 0, buffer: Aligned::new(write_max + 2 * BLOCK) })
    }

    /// Writes `bytes` behind what was written before.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.wrap(bytes.len());
        let at = if self.way == Way::Direct { self.position as usize % BLOCK } else { 0 };
        self.buffer.fill(at, bytes);
        self.write(bytes.len())
    }

    /// As [`Store::append`], with `len` bytes that are in the buffer already: what the device takes, without a copy in memory.
    pub fn write(&mut self, len: usize) -> io::Result<()> {
        self.wrap(len);
        let end = self.position + len as u64;
        if self.way == Way::Direct {
            let from = self.position - self.position % BLOCK as u64;
            let blocks = end.next_multiple_of(BLOCK as u64) - from;
            write_at(&self.file, self.buffer.slice(0, blocks as usize), from)?;
        } else {
            write_at(&self.file, self.buffer.slice(0, len), self.position)?;
        }
        if self.way == Way::Synced {
            self.file.sync_data()?;
        }
        self.position = end;
        Ok(())
    }

    fn wrap(&mut self, len: usize) {
        if self.position + len as u64 > self.size {
            self.position = 0;
        }
    }
}

#[cfg(target_os = "linux")]
fn open_direct(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::DIRECT | rustix::fs::OFlags::DSYNC;
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open_direct(_: &Path) -> io::Result<File> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "direct I/O is measured on Linux only"))
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(not(unix))]
fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    io::Seek::seek(&mut file, io::SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// Whether `dir` is on a file system in memory, where a sync costs nothing and no figure of one means anything.
pub fn is_in_memory(dir: &Path) -> bool {
    #[cfg(target_os = "linux")]
    {
        const TMPFS_MAGIC: i128 = 0x0102_1994;
        rustix::fs::statfs(dir).is_ok_and(|stat| i128::from(stat.f_type) == TMPFS_MAGIC)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = dir;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_wraps_and_keeps_its_size() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = dir.path().join("store");
        let mut store = Store::create(&path, Way::Cached, 1 << 20, 1 << 19).expect("the file is created");
        for _ in 0..5 {
            store.append(&vec![1; 300_000]).expect("the file is written");
        }
        assert_eq!(std::fs::metadata(&path).expect("the file is there").len(), 1 << 20);
    }
}
