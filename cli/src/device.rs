//! What the device takes for a write that is durable: the floor below every log, and the ways to get there.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use crate::failure::{Exit, Failure, Result};

/// What direct I/O is aligned to.
pub(crate) const BLOCK: usize = 4096;

/// A way to write something and have it durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// Into the page cache, and no more: not durable.
    Cached,
    /// `write` and `fdatasync`.
    Fdatasync,
    /// `write` and `fsync`.
    Fsync,
    /// `O_DSYNC`: the write returns when it is durable.
    Dsync,
    /// `O_DIRECT` with `O_DSYNC`: past the page cache, in whole blocks.
    Direct,
}

impl Way {
    /// The durable ones.
    pub(crate) const DURABLE: [Way; 4] = [Way::Fdatasync, Way::Fsync, Way::Dsync, Way::Direct];

    /// The name for tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Way::Cached => "write",
            Way::Fdatasync => "write+fdatasync",
            Way::Fsync => "write+fsync",
            Way::Dsync => "O_DSYNC",
            Way::Direct => "O_DIRECT|O_DSYNC",
        }
    }
}

/// What is in the file before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// Nothing: each write makes it longer.
    Growing,
    /// Blocks that are reserved and were never written.
    Allocated,
    /// Blocks that were written before, as in a prepared segment.
    Written,
}

impl Space {
    /// All of them.
    pub(crate) const ALL: [Space; 3] = [Space::Growing, Space::Allocated, Space::Written];

    /// The name for tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Space::Growing => "growing",
            Space::Allocated => "allocated",
            Space::Written => "written",
        }
    }
}

/// Latencies in nanoseconds, up to a minute, with three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .map_err(|error| Failure::Words(Exit::Io, format!("cannot make a histogram: {error}")))
}

/// Nanoseconds since `began`.
pub(crate) fn nanos_since(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
}

/// Writes `bytes` at a time, one behind the other, for `duration`. `None` where the operating system or the file system refuses this way.
pub(crate) fn measure(
    dir: &Path,
    way: Way,
    space: Space,
    bytes: usize,
    duration: Duration,
) -> Result<Option<Histogram<u64>>> {
    let path = dir.join("walctl-measured.tmp");
    let failed = |error| Failure::io(format!("measure in {}", dir.display()), error);
    let measured = measure_file(&path, way, space, bytes, duration);
    let removed = std::fs::remove_file(&path);
    match measured {
        Ok(nanos) => {
            removed.map_err(failed)?;
            Ok(Some(nanos))
        }
        Err(Failure::Io(_, error))
            if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::InvalidInput) =>
        {
            Ok(None)
        }
        Err(failure) => Err(failure),
    }
}

fn measure_file(path: &Path, way: Way, space: Space, bytes: usize, duration: Duration) -> Result<Histogram<u64>> {
    const FILE_BYTES: u64 = 16 << 20;
    let failed = |error| Failure::io(format!("measure with {}", path.display()), error);
    // Direct writes are whole blocks, whatever they carry.
    let step = if way == Way::Direct { bytes.next_multiple_of(BLOCK) } else { bytes };
    make(path, space, FILE_BYTES).map_err(failed)?;
    let file = open(path, way).map_err(failed)?;
    let buffer = vec![0xA5; step + BLOCK];
    let start = buffer.as_ptr().align_offset(BLOCK);
    let data = &buffer[start..start + step];
    let mut nanos = histogram()?;
    let (began, mut at) = (Instant::now(), 0);
    while began.elapsed() < duration {
        if at + step as u64 > FILE_BYTES {
            if space != Space::Written {
                // From here on the blocks would be written ones.
                break;
            }
            at = 0;
        }
        let before = Instant::now();
        write_at(&file, data, at).map_err(failed)?;
        match way {
            Way::Fdatasync => file.sync_data().map_err(failed)?,
            Way::Fsync => file.sync_all().map_err(failed)?,
            Way::Cached | Way::Dsync | Way::Direct => {}
        }
        nanos.saturating_record(nanos_since(before));
        at += step as u64;
    }
    Ok(nanos)
}

fn make(path: &Path, space: Space, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    match space {
        Space::Growing => {}
        Space::Allocated => allocate(&file, bytes)?,
        Space::Written => {
            let zeros = vec![0; 1 << 20];
            for _ in 0..bytes.div_ceil(zeros.len() as u64) {
                file.write_all(&zeros)?;
            }
        }
    }
    file.sync_all()
}

#[cfg(target_os = "linux")]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, bytes)?)
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

#[cfg(target_os = "linux")]
fn open(path: &Path, way: Way) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    use rustix::fs::OFlags;

    let flags = match way {
        Way::Dsync => OFlags::DSYNC,
        Way::Direct => OFlags::DIRECT | OFlags::DSYNC,
        Way::Cached | Way::Fdatasync | Way::Fsync => OFlags::empty(),
    };
    OpenOptions::new().write(true).custom_flags(flags.bits() as i32).open(path)
}

#[cfg(not(target_os = "linux"))]
fn open(path: &Path, way: Way) -> io::Result<File> {
    match way {
        Way::Dsync | Way::Direct => Err(io::ErrorKind::Unsupported.into()),
        Way::Cached | Way::Fdatasync | Way::Fsync => OpenOptions::new().write(true).open(path),
    }
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

/// Whether `dir` is on a file system in memory, where a sync costs nothing.
pub(crate) fn is_in_memory(dir: &Path) -> bool {
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
