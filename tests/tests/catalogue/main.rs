//! The fault catalogue, fault by fault: a test for each that no other test has in its name. `specs/testing.md` lists all of them, and
//! the last module here keeps that list true.

mod append;
mod failing;
mod recovery;
mod rotation;
mod table;
mod truncation;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal_tests::explore::{Count, Limits, explore};
use wal_tests::oracle::{Allowed, Death, Observed, check_recovery, observe, open};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup};

const SYNC: usize = 0;
const BATCH: usize = 1;
const NONE: usize = 2;

/// In a [`Setup`]: groups go through the page cache and are synced by a call of their own.
const BUFFERED: u64 = 8;

/// The first segment of the log.
const FIRST: &str = "/log/0000000000000001.wal";
/// The second one.
const SECOND: &str = "/log/0000000000000002.wal";

fn setup(mode: usize, variant: u64) -> Setup {
    Setup::new(MODES[mode], variant)
}

/// Crashes the last `explored` operations at every call with up to 100 outcomes; no promise may break.
#[track_caller]
fn crash(setup: &Setup, ops: &[Op], explored: usize) -> Count {
    let limits = Limits { nested_percent: 5, nested_points: 2, depth: 2, ..Limits::sampled(100) };
    let count = explore(setup, ops, explored, limits, 1).unwrap_or_else(|why| panic!("{ops:?}: {why}"));
    assert!(count.states > 10, "only {count} were looked at");
    count
}

/// As [`crash`], in every mode, with direct and with buffered writes.
#[track_caller]
fn crash_in_every_mode(ops: &[Op], explored: usize) {
    for mode in [SYNC, BATCH, NONE] {
        for variant in [0, BUFFERED] {
            crash(&setup(mode, variant), ops, explored);
        }
    }
}

/// What a run may leave behind.
fn allowed(run: &Run, death: Death) -> Allowed {
    Allowed::between(&run.model, &run.model, death)
}

/// What the log holds after a crash that keeps nothing unsynced.
#[track_caller]
fn after_a_crash(run: &Run, number: u64) -> Observed {
    let allowed = allowed(run, Death::Machine);
    check_recovery(&run.fs.crash(&CrashPlan::keep_nothing()), &run.setup, &allowed, number)
        .unwrap_or_else(|why| panic!("{number}, crash: {why}"))
}

/// The log on these files, as it opens.
#[track_caller]
fn seen(fs: &SimFs, setup: &Setup) -> Observed {
    let log = open(fs, setup, &std::sync::Arc::default()).expect("the log opens");
    observe(&log).expect("the log can be read")
}

/// A fault on one call of this kind.
fn fails(operation: Operation, errno: i32) -> Fault {
    Fault::new(Effect::Error(errno)).on(operation)
}

/// The payloads of the records that were appended, in order.
fn payloads(run: &Run) -> Vec<Vec<u8>> {
    run.model.records.iter().map(|record| record.payload.to_vec()).collect()
}

/// The payloads of the records that the log shows.
fn shown(observed: &Observed) -> Vec<Vec<u8>> {
    observed.records.iter().map(|(_, _, payload)| payload.clone()).collect()
}

const EIO: i32 = errno::EIO;
