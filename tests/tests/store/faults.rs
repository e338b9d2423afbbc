//! Every call of a reference workload fails once, with each error that it can give: no false acknowledgement, no hang, the first cause is told to
//! everybody, and what was acknowledged is there afterwards.

use std::io;

use checkpoint::Store;
use wal::fs::sim::{CrashPlan, Effect, Event, Fault, Operation, SimConfig, SimFs, SyncFailure, errno};
use wal::{ErrorKind, SyncMode};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::world::{Mix, Model, Op, apply, apply_to_model, config, content, open};

/// Calls after which the workload certainly hangs.
const CALLS_MAX: u64 = 20_000;

/// Puts of all kinds, checkpoints, a close and an open in between.
fn workload(seed: u64) -> Vec<Op> {
    let mut rng = Rng::new(seed);
    let mut ops = Vec::new();
    for round in 0..3 {
        for _ in 0..25 {
            ops.push(match (Mix { keys: 400, long_percent: 8, ..Mix::SMALL }).op(&mut rng) {
                Op::Checkpoint => Op::Flush,
                op => op,
            });
        }
        ops.push(if round == 1 { Op::Close } else { Op::Checkpoint });
    }
    ops
}

fn effects(operation: Operation) -> Vec<Effect> {
    let eio = errno::EIO;
    let mut effects = vec![Effect::Error(eio)];
    match operation {
        Operation::Write => {
            effects.extend([errno::ENOSPC, errno::EDQUOT, errno::EINTR].map(Effect::Error));
            effects.extend([Effect::DoneButError(eio), Effect::PartialError { bytes: 600, errno: errno::ENOSPC }]);
        }
        operation if operation.is_sync() => {
            effects.extend([errno::ENOSPC, errno::EINTR].map(Effect::Error));
            effects.push(Effect::DoneButError(eio));
        }
        Operation::Create | Operation::Rename | Operation::CreateDir | Operation::SetLen => {
            effects.extend([Effect::Error(errno::ENOSPC), Effect::DoneButError(eio)]);
        }
        Operation::Remove => effects.push(Effect::DoneButError(eio)),
        Operation::Read => effects.extend([Effect::Short(100), Effect::Error(errno::EINTR)]),
        _ => {}
    }
    effects
}

fn errno_of(effect: Effect) -> Option<i32> {
    match effect {
        Effect::Error(errno) | Effect::DoneButError(errno) | Effect::PartialError { errno, .. } => Some(errno),
        _ => None,
    }
}

fn file_system(failure: SyncFailure) -> SimFs {
    let mut sim = SimConfig::default();
    sim.sync_failure = failure;
    SimFs::with_config(sim)
}

/// The state that must be there, and that may be there.
struct Run {
    model: Model,
    /// The operation that failed: it may have been done all the same.
    unsure: Option<Op>,
    /// Operations that failed, so far as they poisoned nothing.
    refused: u64,
}

impl Run {
    fn check(&self, fs: &SimFs, what: &str) -> Result<(), String> {
        let store = open(fs, &config(SyncMode::Sync)).map_err(|error| format!("{what}: {error}"))?;
        let found = content(&store).map_err(|error| format!("{what}: {error}"))?;
        let mut other = self.model.clone();
        self.unsure.iter().for_each(|op| apply_to_model(&mut other, op));
        if found != self.model && found != other {
            return Err(format!("{what}: {} entries, of {} that were acknowledged", found.len(), self.model.len()));
        }
        store.put("it goes", "on").map_err(|error| format!("{what}: {error}"))?;
        store.close().map_err(|error| format!("{what}: {error}"))
    }

    /// Makes an operation. `Err` tells of a broken promise; `Ok(false)` says that the store is of no more use.
    fn step(&mut self, store: &Store, op: &Op, planned: Option<i32>) -> Result<bool, String> {
        let error = match apply(store, op) {
            Ok(()) => {
                apply_to_model(&mut self.model, op);
                return Ok(true);
            }
            Err(error) => error,
        };
        if error.io_error().and_then(io::Error::raw_os_error) != planned {
            return Err(format!("{op:?} failed, but not with the cause that was planned: {error}"));
        }
        // A get tells whether the store goes on.
        match store.get("any") {
            Ok(_) => {
                self.refused += 1;
                let again = apply(store, op).map_err(|error| format!("tried again: {error}"));
                again.map(|()| {
                    apply_to_model(&mut self.model, op);
                    true
                })
            }
            Err(second) => {
                self.unsure = Some(op.clone());
                let is_told = second.io_error().and_then(io::Error::raw_os_error) == planned;
                match second.kind() {
                    ErrorKind::Poisoned if is_told => Ok(false),
                    // A close that fails closes all the same.
                    ErrorKind::Closed if *op == Op::Close => Ok(false),
                    _ => Err(format!("{op:?} failed, and then a get says: {second}")),
                }
            }
        }
    }
}

/// Makes the workload with one fault, and looks at what a death leaves.
fn run_with_fault(ops: &[Op], failure: SyncFailure, call: u64, effect: Effect) -> Result<u64, String> {
    let fs = file_system(failure);
    fs.plan(Fault::new(effect).at_call(call));
    fs.crash_at(CALLS_MAX);
    let planned = errno_of(effect);
    let mut run = Run { model: Model::new(), unsure: None, refused: 0 };
    let reopen = |run: &mut Run| match open(&fs, &config(SyncMode::Sync)) {
        Ok(store) => Ok(Some(store)),
        Err(error) if error.io_error().and_then(io::Error::raw_os_error) == planned => {
            run.refused += 1;
            Ok(None)
        }
        Err(error) => Err(format!("open failed, but not with the cause that was planned: {error}")),
    };
    let mut store = reopen(&mut run)?;
    if let Some(mut current) = store.take() {
        for op in ops {
            let goes_on = run.step(&current, op, planned)?;
            if fs.is_crashed() {
                return Err(format!("{op:?} makes calls without end"));
            }
            if !goes_on {
                break;
            }
            if *op == Op::Close {
                match reopen(&mut run)? {
                    Some(next) => current = next,
                    None => break,
                }
            }
        }
        store = Some(current);
    }
    run.check(&fs.kill(), "killed")?;
    let evicted = fs.kill();
    evicted.drop_caches();
    run.check(&evicted, "killed, and the cache dropped")?;
    for seed in 0..2 {
        run.check(&fs.crash(&CrashPlan::random(call * 2 + seed).with_torn_sectors()), "crashed")?;
    }
    run.check(&fs.crash(&CrashPlan::keep_nothing()), "crashed, nothing kept")?;
    drop(store);
    Ok(run.refused)
}

fn calls_of(ops: &[Op]) -> Vec<(u64, Operation, String)> {
    let fs = file_system(SyncFailure::PagesDropped);
    fs.record_trace(true);
    let mut store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    for op in ops {
        apply(&store, op).expect("the workload is right");
        if *op == Op::Close {
            store = open(&fs, &config(SyncMode::Sync)).expect("it opens again");
        }
    }
    store.close().expect("the store closes");
    // The parents' syncs are not among them: once such a one failed, nothing that a program does makes the directory durable.
    let is_within = |event: &Event| event.operation != Operation::SyncDir || event.path.matches('/').count() > 1;
    let events = fs.take_trace().into_iter().filter(is_within);
    events.map(|event| (event.call, event.operation, event.path)).collect()
}

fn fail_every_call(failure: SyncFailure) {
    let watchdog = Watchdog::start();
    let (mut cases, mut refused, mut broken) = (0, 0, Vec::new());
    let ops = workload(1);
    for (call, operation, path) in calls_of(&ops) {
        for effect in effects(operation) {
            let label = format!("call {call} ({operation} {path}), {effect:?}");
            watchdog.beat(|| label.clone());
            cases += 1;
            match run_with_fault(&ops, failure, call, effect) {
                Ok(count) => refused += count,
                Err(why) => broken.push(format!("{label}: {why}")),
            }
        }
    }
    println!("{failure:?}: {cases} faults, {refused} times the store went on");
    let few: Vec<&String> = broken.iter().take(12).collect();
    assert!(broken.is_empty(), "{} of {cases} faults break a promise:\n{few:#?}", broken.len());
}

#[test]
fn a_failed_call_breaks_no_promise_when_a_failed_sync_drops_the_pages() {
    fail_every_call(SyncFailure::PagesDropped);
}

#[test]
fn a_failed_call_breaks_no_promise_when_a_failed_flush_leaves_no_trace() {
    fail_every_call(SyncFailure::Ext4Like);
}
