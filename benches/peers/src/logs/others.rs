//! Logs that many threads append to.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use okaywal::{Configuration, LogVoid, WriteAheadLog};
use wal_benches::measure::Outcome;
use wal_db::{Lsn, SegmentedStore, Wal};
use walrus_rust::{FsyncSchedule, ReadConsistency, Walrus};
use writeahead::{SimpleFile, WriteAhead, WriteAheadOptions};

use super::{Log, Setting};
use crate::Ack;

/// The size of a segment where there is no default.
const SEGMENT_BYTES: u64 = 16 << 20;

fn only_synced(setting: Setting) -> Outcome<()> {
    if setting.ack == Ack::Synced { Ok(()) } else { Err("it has no append that does not wait for the sync".into()) }
}

struct OkayWal(WriteAheadLog);

/// Its default settings: it gives up a segment as soon as it is full, and uses its file again. Segments of a set size leave the same share of room as
/// those of the default size, as larger ones are no faster.
pub fn okaywal(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    only_synced(setting)?;
    let mut config = Configuration::default_for(dir.join("log"));
    if let Some(bytes) = setting.segment_bytes {
        config = config.preallocate_bytes(u32::try_from(bytes)?).checkpoint_after_bytes(bytes / 4 * 3);
    }
    Ok(Box::new(OkayWal(config.open(LogVoid)?)))
}

impl Log for OkayWal {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let mut entry = self.0.begin_entry()?;
        entry.write_chunk(payload)?;
        entry.commit()?;
        Ok(())
    }
}

struct WriteAheads {
    log: WriteAhead<SimpleFile>,
    writer: writeahead::WriteHandle,
    last_file: AtomicU64,
}

/// Its default settings: files are filled with zeros ahead, and one thread writes for all.
pub fn writeahead(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    only_synced(setting)?;
    let mut options = WriteAheadOptions { log_dir: dir.join("log"), ..Default::default() };
    options.max_file_size = setting.segment_bytes.unwrap_or(options.max_file_size);
    let mut log = WriteAhead::<SimpleFile>::with_options(options);
    log.start()?;
    let writer = log.writer()?;
    Ok(Box::new(WriteAheads { log, writer, last_file: AtomicU64::new(0) }))
}

impl Log for WriteAheads {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let id = futures::executor::block_on(self.writer.write(payload.to_vec()))?;
        self.last_file.fetch_max(id.file_id, Ordering::Relaxed);
        Ok(())
    }

    fn truncate(&self) -> Outcome<()> {
        futures::executor::block_on(self.log.trim_before(self.last_file.load(Ordering::Relaxed)))?;
        Ok(())
    }
}

struct WalDb {
    log: Wal<SegmentedStore>,
    ack: Ack,
    start: AtomicU64,
}

/// In segments, as a log that is to be truncated needs them.
pub fn wal_db(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    let bytes = setting.segment_bytes.unwrap_or(SEGMENT_BYTES);
    let log = Wal::open_segmented(dir.join("log"), bytes)?;
    Ok(Box::new(WalDb { log, ack: setting.ack, start: AtomicU64::new(0) }))
}

impl Log for WalDb {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let lsn = match self.ack {
            Ack::Synced => self.log.append_and_sync(payload),
            Ack::Written => self.log.append(payload),
        };
        Ok(lsn.map(drop)?)
    }

    fn truncate(&self) -> Outcome<()> {
        let start = self.start.load(Ordering::Relaxed);
        let start = start + (self.log.len().saturating_sub(start)) / 2;
        self.start.store(self.log.truncate_before(Lsn::new(start))?.get(), Ordering::Relaxed);
        Ok(())
    }
}

struct OneTopic {
    log: Walrus,
    dir: PathBuf,
}

/// Where the directories of this log go: it takes no other argument.
pub const WALRUS_DIR: &str = "WALRUS_DATA_DIR";

/// What a process that uses walrus is started with: where its files go, and that it prints nothing.
pub fn walrus_environment(dir: &Path) -> [(&'static str, &OsStr); 2] {
    [(WALRUS_DIR, dir.as_os_str()), ("WALRUS_QUIET", OsStr::new("1"))]
}

/// A sync for each append, and one topic: only within a topic records have an order.
pub fn walrus(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    only_synced(setting)?;
    let key = dir.file_name().ok_or("a directory has a name")?.to_string_lossy().replace('.', "");
    let log = Walrus::with_consistency_and_schedule_for_key(
        &key,
        ReadConsistency::AtLeastOnce { persist_every: 1 << 20 },
        FsyncSchedule::SyncEach,
    )?;
    let parent = std::env::var_os(WALRUS_DIR).ok_or("the program has set where walrus writes")?;
    Ok(Box::new(OneTopic { log, dir: Path::new(&parent).join(key) }))
}

impl Log for OneTopic {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        Ok(self.log.append_for_topic("log", payload)?)
    }
}

impl Drop for OneTopic {
    fn drop(&mut self) {
        // What is left over goes with the directory of all runs.
        drop(std::fs::remove_dir_all(&self.dir));
    }
}
