//! Logs made for Raft.

use std::path::Path;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use raft_engine::{Engine, LogBatch, ReadableSize};
use raft_log::RaftLog;
use raft_log::api::raft_log_writer::RaftLogWriter;
use wal_benches::measure::Outcome;

use super::{Log, Setting};
use crate::Ack;

/// For how long raft-log waits for more to sync.
const GATHER: Duration = Duration::from_micros(25);

struct RaftEngine {
    engine: Engine,
    is_synced: bool,
}

/// Without compression, which the other logs do not have. With segments of a set size it recycles what it has purged, which is its default.
pub fn engine(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    let mut config = raft_engine::Config {
        dir: dir.join("log").to_string_lossy().into_owned(),
        batch_compression_threshold: ReadableSize(0),
        ..raft_engine::Config::default()
    };
    if let Some(bytes) = setting.segment_bytes {
        config.target_file_size = ReadableSize(bytes);
        config.purge_threshold = ReadableSize(2 * bytes);
    }
    Ok(Box::new(RaftEngine { engine: Engine::open(config)?, is_synced: setting.ack == Ack::Synced }))
}

impl Log for RaftEngine {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        // Records under one key: entries of Raft would have to come in the order of their numbers, which only one thread can give.
        let mut batch = LogBatch::with_capacity(1);
        batch.put(1, b"key".to_vec(), payload.to_vec())?;
        self.engine.write(&mut batch, self.is_synced)?;
        Ok(())
    }

    fn truncate(&self) -> Outcome<()> {
        self.engine.purge_expired_files()?;
        Ok(())
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct RaftTypes;

impl raft_log::Types for RaftTypes {
    type LogId = (u64, u64);
    type LogPayload = Vec<u8>;
    type Vote = (u64, u64);
    type UserData = String;
    type Callback = SyncSender<std::io::Result<()>>;

    fn log_index(log_id: &(u64, u64)) -> u64 {
        log_id.1
    }

    fn payload_size(payload: &Vec<u8>) -> u64 {
        payload.len() as u64
    }
}

struct RaftLogs(Mutex<State>);

struct State {
    log: RaftLog<RaftTypes>,
    start: u64,
    next: u64,
}

/// It waits for more to sync for 25 microseconds instead of a millisecond, which would be the latency of each append; with none at all, it syncs
/// each append alone.
pub fn log(dir: &Path, setting: Setting) -> Outcome<Box<dyn Log>> {
    if setting.ack != Ack::Synced {
        return Err("until the flush records are in the memory of the process, where a kill loses them".into());
    }
    let mut config = raft_log::Config::new(dir.to_string_lossy());
    config.wal.flush_batch_wait = Some(GATHER);
    config.wal.chunk_max_size = setting.segment_bytes.map(|bytes| bytes as usize);
    Ok(Box::new(RaftLogs(Mutex::new(State { log: RaftLog::open(Arc::new(config))?, start: 0, next: 0 }))))
}

impl Log for RaftLogs {
    fn append(&self, payload: &[u8]) -> Outcome<()> {
        let record = payload.to_vec();
        let (done, wait) = sync_channel(1);
        {
            let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let index = state.next;
            state.next += 1;
            state.log.append([((1, index), record)])?;
            state.log.flush(true, Some(done))?;
        }
        Ok(wait.recv()??)
    }

    fn truncate(&self) -> Outcome<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.start += (state.next - state.start) / 2;
        let upto = (1, state.start);
        state.log.purge(upto)?;
        Ok(())
    }
}
