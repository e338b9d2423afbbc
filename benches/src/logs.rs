//! Logs to recover and to read, and the floor of both: reading the same files with a checksum.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wal::{Lsn, Ticket, TruncatePolicy, Wal};

use crate::bench::payload;
use crate::measure::{Outcome, Sample, median};

/// What is read at once.
const READ_BYTES: usize = 256 << 10;
/// Records on their way to the disk while a log is built.
const WINDOW: usize = 1024;

/// Appends records of `payload_bytes` until there are `bytes` of them, and returns how many there are.
pub fn fill(log: &Wal, payload_bytes: usize, bytes: u64) -> Outcome<u64> {
    let payload = payload(payload_bytes);
    let records = bytes / payload_bytes as u64;
    let mut flying: VecDeque<Ticket> = VecDeque::with_capacity(WINDOW);
    for _ in 0..records {
        if flying.len() == WINDOW
            && let Some(ticket) = flying.pop_front()
        {
            ticket.wait()?;
        }
        flying.push_back(log.submit(&payload)?);
    }
    flying.iter().try_for_each(|ticket| ticket.wait().map(drop))?;
    Ok(records)
}

/// Runs while another thread gives the log its segments back, as a database does that makes checkpoints.
pub fn recycled_meanwhile(log: &Wal, run: impl FnOnce() -> Outcome<Sample>) -> Outcome<Sample> {
    const EVERY: Duration = Duration::from_millis(5);
    const KEPT_BYTES: u64 = 16 << 20;
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let truncating = scope.spawn(|| -> Outcome<()> {
            while !is_done.load(Ordering::Relaxed) {
                sleep(EVERY);
                let start = log.durable_lsn().get().saturating_sub(KEPT_BYTES) & !7;
                if start > log.start_lsn().get() {
                    log.truncate_before_with(Lsn::new(start), TruncatePolicy::WholeSegments)?;
                }
            }
            Ok(())
        });
        let sample = run();
        is_done.store(true, Ordering::Relaxed);
        truncating.join().map_err(|_| "the truncating thread panicked")??;
        sample
    })
}

/// The segments in `dir`, the last one first: what an open reads begins at the end.
pub fn segments(dir: &Path) -> Outcome<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        // The other files of a log are a few blocks long.
        if std::fs::metadata(&path)?.len() > 1 << 20 {
            files.push(path);
        }
    }
    files.sort_unstable_by(|a, b| b.cmp(a));
    Ok(files)
}

/// Reads `files` in turn, at most `limit` bytes, computes the CRC32C of them, and returns how many bytes these were.
pub fn read_with_checksum(files: &[PathBuf], limit: u64) -> Outcome<u64> {
    let mut buffer = vec![0; READ_BYTES];
    let mut total = 0;
    for path in files {
        let mut file = File::open(path)?;
        while total < limit {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            std::hint::black_box(crc32c::crc32c(&buffer[..count]));
            total += count as u64;
        }
    }
    Ok(total)
}

/// Where the files of a log are when they are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cache {
    /// In the page cache, from reading or writing them before.
    Warm,
    /// On the disk alone.
    Cold,
}

impl Cache {
    /// What can be measured here.
    #[cfg(target_os = "linux")]
    pub const ALL: &[Cache] = &[Cache::Warm, Cache::Cold];
    /// What can be measured here.
    #[cfg(not(target_os = "linux"))]
    pub const ALL: &[Cache] = &[Cache::Warm];

    /// Has the files of `dir` where they are to be, as long as it was they who were read last.
    pub fn prepare(self, dir: &Path) -> Outcome<()> {
        match self {
            Cache::Warm => Ok(()),
            Cache::Cold => drop_from_cache(dir),
        }
    }
}

/// Takes the files of `dir` out of the page cache. What was not written yet stays there, so they are synced first.
#[cfg(target_os = "linux")]
fn drop_from_cache(dir: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let file = File::open(entry.path())?;
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
    }
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn drop_from_cache(_: &Path) -> Outcome<()> {
    Err("files can be taken out of the page cache on Linux only".into())
}

/// Creates the file with so many bytes, and syncs it.
pub fn write_durably(path: &Path, bytes: u64) -> std::io::Result<()> {
    let piece = vec![0xA5; 1 << 20];
    let mut file = File::create_new(path)?;
    for _ in 0..bytes / piece.len() as u64 {
        file.write_all(&piece)?;
    }
    file.sync_all()
}

/// Copies the files of a log. The copies are durable, so that nobody who syncs something later pays for them.
pub fn copy(from: &Path, to: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            let copy = to.join(entry.file_name());
            std::fs::copy(entry.path(), &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    Ok(())
}

/// Runs `step` again and again for `length`, at least once, and returns its median time. `step` times itself, and tells how many things
/// it did and how many bytes it moved.
pub fn repeated(length: Duration, mut step: impl FnMut() -> Outcome<(Duration, u64, u64)>) -> Outcome<Sample> {
    let end = Instant::now() + length;
    let mut times = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    while times.is_empty() || Instant::now() < end {
        let (time, done, moved) = step()?;
        times.push(time.as_secs_f64());
        (count, bytes) = (done, moved);
    }
    Ok(Sample::once(Duration::from_secs_f64(median(times)), count, bytes))
}

/// As [`repeated`], for a step that is timed as a whole.
pub fn timed(length: Duration, mut step: impl FnMut() -> Outcome<(u64, u64)>) -> Outcome<Sample> {
    repeated(length, || {
        let start = Instant::now();
        let (count, bytes) = step()?;
        Ok((start.elapsed(), count, bytes))
    })
}
