//! A log on a simulated file system inside an execution, what was acknowledged of it, and the check of what is left.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal_scheduled::fs::sim::{CrashPlan, SimConfig, SimFs};
use wal_scheduled::museum::Bugs;
use wal_scheduled::{Background, Config, LogReader, Lsn, Opener, Result, SyncMode, Wal};
use wal_scheduler::thread::{self, JoinHandle};
use wal_scheduler::{Died, Explorer};

use crate::disk::{Disk, ExecutionClock};

/// Where the log is.
pub const DIR: &str = "/log";

/// The usual exploration: seeds, then all executions with one preemption, as far as they are not too many.
pub fn explorer(name: &str) -> Explorer {
    Explorer::new(name).seeds(500).preemptions(1, 500)
}

/// An exploration for threads that stay awake: the executions with few preemptions let such a thread run for ever.
pub fn seeds_only(name: &str) -> Explorer {
    Explorer::new(name).seeds(500)
}

/// Small segments, nothing that depends on real time, background threads.
pub fn config(sync_mode: SyncMode) -> Config {
    Config {
        sync_mode,
        segment_bytes_max: 8 << 10,
        queue_bytes_max: 64 << 10,
        group_bytes_max: 8 << 10,
        gather_max: Duration::ZERO,
        // Who is awake looks at the clock, which no seed rules.
        busy_wait_max: Duration::ZERO,
        direct_io: false,
        reserve_bytes: 0,
        ..Config::default()
    }
}

/// As [`config`], with the work done by the callers.
pub fn inline(sync_mode: SyncMode) -> Config {
    Config { background: Background::Inline, ..config(sync_mode) }
}

/// Batches are synced after this.
pub const DELAY: Duration = Duration::from_millis(500);
/// Batch mode with limits that a test reaches.
pub const BATCH: SyncMode = SyncMode::Batch { delay: DELAY, bytes: 6000 };

/// A file system with a log that was created and closed.
pub fn template(first: &Config) -> SimFs {
    template_on(first, SimConfig::default())
}

/// As [`template`], with other settings of the file system.
pub fn template_on(first: &Config, sim: SimConfig) -> SimFs {
    let sim = SimFs::with_config(sim);
    let config = Config { background: Background::Inline, ..first.clone() };
    let log = opener(Disk::new(sim.clone()), config).open(DIR).expect("the log is created");
    log.close().expect("it is closed");
    sim
}

pub fn opener(disk: Arc<Disk>, config: Config) -> Opener {
    Wal::opener(config).file_system(disk).clock(Arc::new(ExecutionClock)).log_id([7; 16])
}

/// A log that is open.
pub fn open(disk: &Arc<Disk>, config: &Config) -> Wal {
    opener(Arc::clone(disk), config.clone()).open(DIR).expect("the log opens")
}

/// A log that is open and broken.
pub fn open_with(disk: &Arc<Disk>, config: &Config, bugs: Bugs) -> Wal {
    opener(Arc::clone(disk), config.clone()).bugs(bugs).open(DIR).expect("the log opens")
}

/// What writers have been told of their records.
#[derive(Clone, Debug, Default)]
pub struct Told(Arc<Mutex<BTreeMap<Lsn, Vec<u8>>>>);

impl Told {
    /// The record is acknowledged.
    pub fn acknowledge(&self, lsn: Lsn, payload: Vec<u8>) {
        let before = self.0.lock().expect("nobody panics with it").insert(lsn, payload);
        assert!(before.is_none(), "LSN {lsn} was given to two records");
    }

    pub fn records(&self) -> BTreeMap<Lsn, Vec<u8>> {
        self.0.lock().expect("nobody panics with it").clone()
    }

    pub fn len(&self) -> usize {
        self.0.lock().expect("nobody panics with it").len()
    }
}

/// The payload of the record with this number, of this writer.
pub fn payload(writer: u8, number: u8, bytes: usize) -> Vec<u8> {
    let mut payload = vec![writer.wrapping_mul(16) ^ number; bytes.max(2)];
    payload[..2].copy_from_slice(&[writer, number]);
    payload
}

/// Appends in a task of its own until all are acknowledged or one fails. Looks, at each acknowledgement, whether a crash at that moment
/// would keep the record.
pub fn writer(log: &Wal, disk: &Arc<Disk>, told: &Told, writer: u8, count: u8, bytes: usize) -> JoinHandle<Result<()>> {
    let (log, disk, told) = (log.clone(), Arc::clone(disk), told.clone());
    let run = move || {
        for number in 0..count {
            let payload = payload(writer, number, bytes);
            let lsn = log.append(&payload)?;
            if log.config().sync_mode == SyncMode::Sync {
                assert!(log.durable_lsn() > lsn, "acknowledged, and the durable mark is not past it");
                assert!(is_on_disk(&disk.sim, lsn, &payload), "acknowledged, and a crash would lose it");
            } else {
                assert!(log.written_lsn() > lsn, "acknowledged, and the written mark is not past it");
            }
            told.acknowledge(lsn, payload);
        }
        Ok(())
    };
    thread::Builder::new().name(format!("writer {writer}")).spawn(run).expect("a task is started")
}

/// Whether a crash at this moment, which keeps nothing that need not be kept, leaves the record.
pub fn is_on_disk(sim: &SimFs, lsn: Lsn, payload: &[u8]) -> bool {
    let after = sim.crash(&CrashPlan::keep_nothing());
    let reader = LogReader::open_with(&after, DIR).expect("what a crash leaves can be read");
    let mut reader = reader.reader(lsn).expect("the record is not truncated");
    reader.next().is_some_and(|found| found.is_ok_and(|found| found.lsn == lsn && found.payload == payload))
}

/// What the log holds after a crash that keeps no more than it must, or after one that keeps all.
pub fn recovered(sim: &SimFs, plan: &CrashPlan, config: &Config) -> BTreeMap<Lsn, Vec<u8>> {
    let config = Config { background: Background::Inline, create: false, ..config.clone() };
    let log = opener(Disk::new(sim.crash(plan)), config).open(DIR).expect("the log recovers");
    let reader = log.reader(Lsn::ZERO).expect("from its start");
    reader
        .map(|record| record.expect("what recovered can be read"))
        .map(|record| (record.lsn, record.payload))
        .collect()
}

/// Everything acknowledged is there after a crash, and of each writer a prefix of what it appended.
pub fn check_crash(sim: &SimFs, config: &Config, told: &Told) {
    let keeps_acknowledged = config.sync_mode == SyncMode::Sync;
    for plan in [CrashPlan::keep_nothing(), CrashPlan::keep_everything()] {
        let found = recovered(sim, &plan, config);
        if keeps_acknowledged {
            for (lsn, payload) in told.records() {
                assert!(found.get(&lsn) == Some(&payload), "the record at {lsn} was acknowledged and is lost");
            }
        }
        check_prefixes(&found);
    }
}

/// What a test appends to see whether it can.
pub const LATE: &[u8] = b"late";

/// The records of each writer are numbered without a gap.
pub fn check_prefixes(found: &BTreeMap<Lsn, Vec<u8>>) {
    let mut next: BTreeMap<u8, u8> = BTreeMap::new();
    for (lsn, payload) in found.iter().filter(|(_, payload)| payload.as_slice() != LATE) {
        let number = next.entry(payload[0]).or_default();
        assert!(payload[1] == *number, "at {lsn} stands record {} of writer {}, not {number}", payload[1], payload[0]);
        *number += 1;
    }
}

/// Waits for a task that must not die.
#[track_caller]
pub fn finish<T>(task: JoinHandle<T>) -> T {
    task.join().unwrap_or_else(|_| panic!("the task died"))
}

/// Waits for a task that may die: `None` if it did.
#[track_caller]
pub fn finish_or_die<T>(task: JoinHandle<T>) -> Option<T> {
    match task.join() {
        Ok(result) => Some(result),
        Err(panic) => {
            assert!(panic.is::<Died>(), "it panicked");
            None
        }
    }
}

/// Starts a task.
pub fn spawn<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    thread::Builder::new().name(name.to_owned()).spawn(run).expect("a task is started")
}
