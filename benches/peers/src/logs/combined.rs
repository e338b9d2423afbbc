//! Logs with one writer, and what puts the records of many threads before one commit, as their documentation leaves to the program.

use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nodedb_wal::double_write::DwbMode;
use nodedb_wal::record::RecordType;
use nodedb_wal::segmented::{SegmentedWal, SegmentedWalConfig};
use open_wal::WalConfig;
use wal_benches::measure::Outcome;

use super::{Log, Setting};
use crate::Ack;

/// A log that one thread at a time writes.
trait Writer: Send {
    /// Adds a record to what the next commit makes durable.
    fn append(&mut self, payload: &[u8]) -> Outcome<()>;
    /// Makes durable what was appended.
    fn commit(&mut self) -> Outcome<()>;
    /// Gives up about the older half.
    fn truncate(&mut self) -> Outcome<()>;
}

/// Leader and followers. Who finds nobody writing commits the records of all who wait. Alone, a thread pays for a lock that nobody else wants.
struct Combined<W> {
    writer: Mutex<W>,
    queue: Mutex<Queue>,
    is_done: Condvar,
}

#[derive(Default)]
struct Queue {
    records: Vec<Vec<u8>>,
    /// The number of the group that the records will be in.
    group: u64,
    /// Groups before this one are durable.
    durable: u64,
    is_writing: bool,
    has_failed: bool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<W: Writer> Combined<W> {
    fn new(writer: W) -> Combined<W> {
        Combined { writer: Mutex::new(writer), queue: Mutex::default(), is_done: Condvar::new() }
    }

    fn write(&self, records: &[Vec<u8>]) -> Outcome<()> {
        let mut writer = lock(&self.writer);
        records.iter().try_for_each(|record| writer.append(record))?;
        writer.commit()
    }
}

impl<W: Writer> Log for Combined<W> {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let record = payload.to_vec();
        let mut queue = lock(&self.queue);
        queue.records.push(record);
        let group = queue.group;
        while queue.durable <= group {
            if queue.has_failed {
                return Err("an earlier commit failed".into());
            }
            if queue.is_writing {
                queue = self.is_done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            queue.is_writing = true;
            queue.group += 1;
            let records = std::mem::take(&mut queue.records);
            drop(queue);
            let written = self.write(&records);
            queue = lock(&self.queue);
            queue.is_writing = false;
            queue.has_failed = written.is_err();
            queue.durable = queue.group;
            self.is_done.notify_all();
            written?;
        }
        Ok(())
    }

    fn truncate(&self) -> Outcome<()> {
        lock(&self.writer).truncate()
    }
}

fn only_synced(setting: Setting) -> Outcome<()> {
    match setting.ack {
        Ack::Synced => Ok(()),
        Ack::Written => Err("until the sync records are in the memory of the process, where a kill loses them".into()),
    }
}

struct OpenWal {
    log: open_wal::Wal,
    start: u64,
}

/// Its default settings.
pub fn open_wal(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    only_synced(setting)?;
    let default = WalConfig::default();
    let config = WalConfig { segment_size: setting.segment_bytes.unwrap_or(default.segment_size), ..default };
    Ok(Box::new(Combined::new(OpenWal { log: open_wal::Wal::open(dir, config)?.0, start: 0 })))
}

impl Writer for OpenWal {
    fn append(&mut self, payload: &[u8]) -> Outcome<()> {
        self.log.append(payload)?;
        Ok(())
    }

    fn commit(&mut self) -> Outcome<()> {
        self.log.commit()?;
        Ok(())
    }

    fn truncate(&mut self) -> Outcome<()> {
        self.start += (self.log.durable_lsn().0 - self.start) / 2;
        Ok(self.log.checkpoint(open_wal::Lsn(self.start))?)
    }
}

struct NodeDb {
    log: SegmentedWal,
    start: u64,
}

/// Direct I/O, its default, without the buffer for double writes, which costs a second sync a commit and which logs that never write a block twice
/// do without.
pub fn nodedb(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    only_synced(setting)?;
    let mut config = SegmentedWalConfig::new(dir.to_path_buf());
    config.segment_target_size = setting.segment_bytes.unwrap_or(config.segment_target_size);
    config.writer_config.dwb_mode = Some(DwbMode::Off);
    Ok(Box::new(Combined::new(NodeDb { log: SegmentedWal::open(config)?, start: 1 })))
}

impl Writer for NodeDb {
    fn append(&mut self, payload: &[u8]) -> Outcome<()> {
        self.log.append(RecordType::Put as u32, 1, 1, 1, payload)?;
        Ok(())
    }

    fn commit(&mut self) -> Outcome<()> {
        Ok(self.log.sync()?)
    }

    fn truncate(&mut self) -> Outcome<()> {
        self.start += (self.log.next_lsn() - self.start) / 2;
        self.log.truncate_before(self.start)?;
        Ok(())
    }
}
