//! Logs behind one interface: ours, those of others, and stores used as a log.

mod combined;
mod others;
mod raft;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use wal::{Config, Lsn, SyncMode, Wal};
use wal_benches::measure::Outcome;

pub use others::{WALRUS_DIR, walrus_environment};

use crate::Ack;
use crate::stores::{self, Key, Store};

/// An ordered log on disk that many threads append to.
pub trait Log: Sync {
    /// Appends a record, and returns when that is acknowledged as the log was opened to.
    fn append(&self, payload: &[u8]) -> Outcome<()>;
    /// Gives up about the older half of the log, or as much of it as the log can give up now. A log that does so by itself does nothing.
    fn truncate(&self) -> Outcome<()> {
        Ok(())
    }
}

/// How a log is to be opened.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// What an append waits for.
    pub ack: Ack,
    /// The size of a segment, where it is not to be the log's default.
    pub segment_bytes: Option<u64>,
}

/// Creates a log in an empty directory.
pub type Open = fn(&Path, Setting) -> Outcome<Box<dyn Log>>;

/// A log that can be measured.
#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    pub open: Open,
    /// Whether it has segments of a size that can be set and gives up old ones.
    pub has_truncation: bool,
    /// Whether it can acknowledge what a kill of the process does not lose without waiting for the sync.
    pub has_written: bool,
}

const fn peer(name: &'static str, open: Open, has_truncation: bool, has_written: bool) -> Peer {
    Peer { name, open, has_truncation, has_written }
}

/// All logs, ours first, then stores.
pub fn all() -> Vec<Peer> {
    vec![
        peer("wal", open_ours, true, true),
        peer("nodedb-wal", combined::nodedb, true, false),
        peer("okaywal", others::okaywal, true, false),
        peer("open-wal", combined::open_wal, true, false),
        peer("raft-engine", raft::engine, true, true),
        peer("raft-log", raft::log, true, false),
        peer("wal-db", others::wal_db, true, true),
        peer("walrus", others::walrus, false, false),
        peer("writeahead", others::writeahead, true, false),
        peer("fjall", |dir, setting| store(dir, setting, "fjall"), false, true),
        #[cfg(feature = "lmdb")]
        peer("lmdb", |dir, setting| store(dir, setting, "lmdb"), false, false),
        peer("redb", |dir, setting| store(dir, setting, "redb"), false, false),
        #[cfg(feature = "rocksdb")]
        peer("rocksdb", |dir, setting| store(dir, setting, "rocksdb"), false, true),
        #[cfg(feature = "sqlite")]
        peer("sqlite", |dir, setting| store(dir, setting, "sqlite"), false, true),
    ]
}

struct Ours(Wal);

fn open_ours(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    let mut config = Config::with_mode(match setting.ack {
        Ack::Synced => SyncMode::Sync,
        Ack::Written => SyncMode::None,
    });
    config.segment_bytes_max = setting.segment_bytes.unwrap_or(config.segment_bytes_max);
    Ok(Box::new(Ours(Wal::open(dir, config)?)))
}

impl Log for Ours {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        self.0.append(payload)?;
        Ok(())
    }

    fn truncate(&self) -> Outcome<()> {
        let (start, end) = (self.0.start_lsn().get(), self.0.durable_lsn().get());
        self.0.truncate_before(Lsn::new(start + (end - start) / 2))?;
        Ok(())
    }
}

/// A store used as a log: each record has a key of its own, one higher than the last.
struct AsLog {
    store: Box<dyn Store>,
    next: AtomicU64,
}

fn store(dir: &Path, setting: Setting, name: &str) -> Outcome<Box<dyn Log>> {
    Ok(Box::new(AsLog { store: stores::find(name)?(dir, setting.ack)?, next: AtomicU64::new(0) }))
}

impl Log for AsLog {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let mut key: Key = [0; 16];
        key[8..].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_be_bytes());
        self.store.put(&key, payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_log_takes_records_from_many_threads_and_gives_up_old_ones() {
        // walrus wants to be told by a variable of the environment where to write, which a process with threads cannot set.
        for peer in all().into_iter().filter(|peer| peer.name != "walrus") {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let segment_bytes = peer.has_truncation.then_some(4 << 20);
            let log = (peer.open)(dir.path(), Setting { ack: Ack::Synced, segment_bytes }).expect(peer.name);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| (0..10).for_each(|_| log.append(&[0xA5; 256]).expect(peer.name)));
                }
            });
            log.truncate().expect(peer.name);
            log.append(&[0xA5; 256]).expect(peer.name);
        }
    }

    #[test]
    fn a_log_is_opened_without_waiting_for_syncs_only_if_it_can_keep_its_records_over_a_kill() {
        for peer in all().into_iter().filter(|peer| peer.name != "walrus") {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let opened = (peer.open)(dir.path(), Setting { ack: Ack::Written, segment_bytes: None });
            assert_eq!(opened.is_ok(), peer.has_written, "{}", peer.name);
        }
    }
}
