//! What all sections share: where and how long to measure, and logs to measure.

use std::path::Path;
use std::time::Duration;

use tempfile::TempDir;
use wal::{Config, Wal};

use crate::disk::{Store, Way};
use crate::measure::{Outcome, Sample, closed_loop};

/// Bytes that a frame has besides its payload; the floors carry them too.
pub const FRAME_HEADER_BYTES: usize = 24;

/// The size of a floor's file: large enough that a device cannot keep one block open, small enough to be created in no time.
pub const FLOOR_FILE_BYTES: u64 = 64 << 20;

/// What is written to find out which way is faster, how often, and for how long. The best of several short probes counts, so that one
/// moment in which the machine does something else does not choose the floor.
const PROBE_BYTES: usize = FRAME_HEADER_BYTES + 256;
const PROBES: usize = 5;
const PROBE_LENGTH: Duration = Duration::from_millis(100);

/// Where and how long to measure.
#[derive(Debug)]
pub struct Bench {
    dir: TempDir,
    /// The length of one run.
    pub length: Duration,
    /// Runs of each variant.
    pub rounds: usize,
    /// Whether direct I/O is possible.
    pub has_direct: bool,
    /// The faster way to a durable write here, which the floors of group commit use.
    pub best_way: Way,
}

impl Bench {
    /// Finds out which way to a durable write is the faster one in `parent`.
    pub fn new(parent: &Path, length: Duration, rounds: usize) -> Outcome<Bench> {
        std::fs::create_dir_all(parent)?;
        let dir = tempfile::Builder::new().prefix("wal-bench-").tempdir_in(parent)?;
        let mut bench = Bench { dir, length, rounds, has_direct: false, best_way: Way::Synced };
        let mut synced = bench.store(Way::Synced, PROBE_BYTES)?;
        // A file system that refuses direct I/O is no error: there the log does without it as well.
        let Ok(mut direct) = bench.store(Way::Direct, PROBE_BYTES) else { return Ok(bench) };
        let probe = |store: &mut Store| Ok(closed_loop(PROBE_LENGTH, 0, || Ok(store.write(PROBE_BYTES)?))?.rate());
        let (mut synced_best, mut direct_best) = (0.0_f64, 0.0_f64);
        for _ in 0..PROBES {
            let (synced, direct): (Outcome<f64>, Outcome<f64>) = (probe(&mut synced), probe(&mut direct));
            synced_best = synced_best.max(synced?);
            let Ok(direct) = direct else { return Ok(bench) };
            direct_best = direct_best.max(direct);
        }
        bench.has_direct = true;
        if direct_best > synced_best {
            bench.best_way = Way::Direct;
        }
        Ok(bench)
    }

    /// A new zero-filled file for a floor.
    pub fn store(&self, way: Way, write_max: usize) -> Outcome<Store> {
        let dir = self.scratch()?;
        // The file outlives its name, so nothing is left to clean up.
        Ok(Store::create(&dir.path().join("floor"), way, FLOOR_FILE_BYTES, write_max)?)
    }

    /// An empty directory that is removed when it is dropped.
    pub fn scratch(&self) -> Outcome<TempDir> {
        Ok(tempfile::tempdir_in(self.dir.path())?)
    }

    /// Measures a new log, and removes it.
    pub fn with_log(&self, config: Config, run: impl FnOnce(&Wal) -> Outcome<Sample>) -> Outcome<Sample> {
        let dir = self.scratch()?;
        let log = Wal::open(dir.path(), config)?;
        let before = log.stats().rotations;
        let mut sample = run(&log)?;
        sample.rotations = log.stats().rotations - before;
        log.close()?;
        Ok(sample)
    }
}

/// A payload that does not compress to nothing, should anything below try.
pub fn payload(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_u32;
    let mut byte = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| byte()).collect()
}
