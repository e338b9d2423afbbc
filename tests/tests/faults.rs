//! Every call of a reference workload fails once.
//!
//! Rows 7 to 10, 13, 15, 20, 27, 41, 45, 53 and 54 of the fault catalogue.

use wal::fs::sim::{CrashPlan, Effect, Event, Fault, Operation, SimFs, SyncFailure, errno};
use wal_tests::explore::crash_inside_recovery;
use wal_tests::oracle::{Allowed, Death, check_recovery};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup};
use wal_tests::watchdog::Watchdog;

/// The number of the process, the number of its call, and what that does.
type FaultyCall = (u64, u64, Operation);

/// A call after which a workload certainly hangs.
const CALLS_MAX: u64 = 5000;

const WORKLOADS: [&[Op]; 3] = [
    &[
        Op::Append(100),
        Op::Batch(7, 300, 16),
        Op::Submit(50),
        Op::AppendDurable(30),
        Op::Rotate,
        Op::Append(500),
        Op::Flush,
        Op::Before(30),
        Op::Append(9),
        Op::Flush,
        Op::Checkpoint(60),
        Op::After(80),
        Op::Append(33),
        Op::Reopen,
        Op::Append(44),
        Op::BeforeWhole(60),
        Op::Rotate,
        Op::Append(1),
        Op::Close,
    ],
    &[
        Op::SubmitBatch(700),
        Op::Submit(3000),
        Op::Wait,
        Op::Rotate,
        Op::Submit(40),
        Op::Poll,
        Op::BeforeWhole(70),
        Op::Rotate,
        Op::Rotate,
        Op::Flush,
        Op::After(50),
        Op::Submit(60),
        Op::Close,
        Op::Append(8),
    ],
    &[
        Op::Append(700),
        Op::Rotate,
        Op::Append(60),
        Op::Die,
        Op::Append(20),
        Op::Flush,
        Op::After(60),
        Op::Die,
        Op::Append(5),
        Op::Before(100),
        Op::Crash(7),
        Op::Append(6),
        Op::Reopen,
    ],
];

/// The parent's sync is not among them: once it failed, nothing that a program does makes the log's directory durable.
/// The operation of each call of the workload. A call is known by the file system it is made on (the process, counted) and its number.
fn calls_of(setup: &Setup, ops: &[Op]) -> Vec<FaultyCall> {
    let is_in_log = |event: &Event| event.path != "/" || event.operation != Operation::SyncDir;
    let mut run = Run::new(setup);
    let (mut calls, mut process) = (Vec::new(), 0);
    run.traces = true;
    run.fs.record_trace(true);
    for op in ops {
        let old = run.fs.clone();
        if matches!(op, Op::Die | Op::Crash(_)) {
            calls.extend(
                old.take_trace()
                    .iter()
                    .filter(|event| is_in_log(event))
                    .map(|event| (process, event.call, event.operation)),
            );
            process += 1;
        }
        run.apply(*op).expect("the workload is right");
    }
    calls.extend(
        run.fs.take_trace().iter().filter(|event| is_in_log(event)).map(|event| (process, event.call, event.operation)),
    );
    calls
}

fn errnos(operation: Operation, direct_io: bool) -> Vec<Effect> {
    let (mut effects, eio) = (vec![Effect::Error(errno::EIO)], errno::EIO);
    match operation {
        Operation::Write => {
            effects.extend([Effect::Error(errno::ENOSPC), Effect::Error(errno::EDQUOT), Effect::Error(errno::EINTR)]);
            // A direct write moves whole sectors.
            effects.extend([
                Effect::Short(if direct_io { 512 } else { 1 }),
                Effect::Short(1025),
                Effect::DoneButError(eio),
            ]);
            effects.extend([600, 5000].map(|bytes| Effect::PartialError { bytes, errno: eio }));
            effects.push(Effect::PartialError { bytes: 600, errno: errno::ENOSPC });
        }
        Operation::SyncData | Operation::SyncAll | Operation::SyncDir => {
            effects.extend([Effect::Error(errno::ENOSPC), Effect::Error(errno::EINTR), Effect::DoneButError(eio)]);
        }
        Operation::Create | Operation::Rename | Operation::SetLen | Operation::CreateDir => {
            effects.extend([Effect::Error(errno::ENOSPC), Effect::Error(errno::EDQUOT), Effect::DoneButError(eio)]);
        }
        Operation::Remove => effects.push(Effect::DoneButError(eio)),
        Operation::Read => effects.extend([Effect::Short(1), Effect::Short(100), Effect::Error(errno::EINTR)]),
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

/// Runs the workload with one fault; then looks at what a death leaves.
fn run_with_fault(
    setup: &Setup,
    ops: &[Op],
    (process, call, operation): FaultyCall,
    effect: Effect,
) -> Result<(), String> {
    let is_sync = operation.is_sync() && matches!(effect, Effect::Error(_));
    let mut run = Run::new(setup);
    let plan = |fs: &SimFs| {
        fs.plan(Fault::new(effect).at_call(call));
        fs.crash_at(CALLS_MAX);
    };
    let mut current = 0;
    if process == 0 {
        plan(&run.fs);
    }
    run.planned_errnos = errno_of(effect).into_iter().collect();
    for op in ops {
        if matches!(op, Op::Die | Op::Crash(_)) {
            current += 1;
            if current == process {
                // The fault strikes inside the open, so the file system is prepared before it.
                run.plan_for_next = Some((Fault::new(effect).at_call(call), CALLS_MAX));
            }
        }
        run.apply(*op)?;
        if run.fs.is_crashed() {
            return Err(format!("{op:?} makes calls without end"));
        }
        if run.is_poisoned() {
            break;
        }
    }
    if run.is_poisoned() {
        run.apply(Op::Append(10))?;
    } else {
        // The fault is over, and the log goes on: in the same handle, if it still is open.
        run.planned_errnos.clear();
        run.fs.forget_faults();
        run.apply(Op::Append(77)).map_err(|why| format!("the fault is over: {why}"))?;
        run.apply(Op::Rotate).map_err(|why| format!("the fault is over: {why}"))?;
        run.apply(Op::Flush).map_err(|why| format!("the fault is over: {why}"))?;
    }
    let allowed = |death| Allowed::between(&run.model, &run.model, death);
    let variant = call ^ (process << 3);
    let after = |what: &'static str| move |why| format!("{what}: {why}");
    check_recovery(&run.fs.kill(), setup, &allowed(Death::Process), variant).map_err(after("death of the process"))?;
    if is_sync {
        crash_inside_recovery(setup, &run.fs.kill(), &allowed(Death::Machine), variant)
            .map_err(after("death of the process after a failed sync"))?;
    }
    let evicted = run.fs.kill();
    evicted.drop_caches();
    check_recovery(&evicted, setup, &allowed(Death::Machine), variant)
        .map_err(after("death and eviction of the cache"))?;
    for seed in 0..3 {
        let crashed = run.fs.crash(&CrashPlan::random(variant * 3 + seed));
        check_recovery(&crashed, setup, &allowed(Death::Machine), variant + seed).map_err(after("crash"))?;
    }
    let crashed = run.fs.crash(&CrashPlan::keep_nothing());
    check_recovery(&crashed, setup, &allowed(Death::Machine), variant)
        .map(drop)
        .map_err(after("crash that keeps nothing"))
}

fn fail_every_call(mode: usize, failure: SyncFailure, variant: u64) {
    let watchdog = Watchdog::start();
    let mut cases = 0;
    let mut broken = Vec::new();
    for (index, ops) in WORKLOADS.iter().enumerate() {
        let mut setup = Setup::new(MODES[mode], variant | (4 * (index as u64 & 1)));
        setup.sim.sync_failure = failure;
        for (process, call, operation) in calls_of(&setup, ops) {
            for effect in errnos(operation, setup.config.direct_io) {
                let label = format!("workload {index}, process {process}, call {call} ({operation}), {effect:?}");
                watchdog.beat(|| label.clone());
                cases += 1;
                if let Err(why) = run_with_fault(&setup, ops, (process, call, operation), effect) {
                    broken.push(format!("{label}: {why}"));
                }
            }
        }
    }
    println!("{:?}, {failure:?}: {cases} faults", MODES[mode]);
    let few: Vec<&String> = broken.iter().take(12).collect();
    assert!(broken.is_empty(), "{} of {cases} faults break a promise:\n{few:#?}", broken.len());
}

#[test]
fn a_failed_call_in_sync_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(0, SyncFailure::PagesDropped, 0);
    fail_every_call(0, SyncFailure::PagesDropped, 8);
}

#[test]
fn a_failed_call_in_batch_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(1, SyncFailure::PagesDropped, 0);
}

#[test]
fn a_failed_call_in_none_mode_is_told_to_everybody_and_breaks_no_promise() {
    fail_every_call(2, SyncFailure::PagesDropped, 0);
}

#[test]
fn a_failed_flush_of_the_device_breaks_no_promise() {
    fail_every_call(0, SyncFailure::Ext4Like, 8);
    fail_every_call(2, SyncFailure::Ext4Like, 0);
}

/// A file system that shuts down or becomes read-only when a sync fails: everything fails until the machine is booted again.
fn fail_every_sync_for_good(failure: SyncFailure) {
    let mut cases = 0;
    for (index, mode) in MODES.into_iter().enumerate() {
        let mut setup = Setup::new(mode, 8 * (index as u64 & 1));
        setup.sim.sync_failure = failure;
        for (which, ops) in WORKLOADS.iter().take(2).enumerate() {
            for (_, call, operation) in calls_of(&setup, ops) {
                if !operation.is_sync() {
                    continue;
                }
                cases += 1;
                let mut run = Run::new(&setup);
                run.planned_errnos = vec![errno::EIO, errno::EROFS];
                run.fs.plan(Fault::error(errno::EIO).at_call(call));
                let label = format!("{mode:?}, workload {which}, call {call} ({operation})");
                for op in *ops {
                    run.apply(*op).unwrap_or_else(|why| panic!("{label}: {why}"));
                }
                for seed in 0..3 {
                    let allowed = Allowed::between(&run.model, &run.model, Death::Machine);
                    check_recovery(&run.fs.crash(&CrashPlan::random(seed)), &setup, &allowed, call)
                        .unwrap_or_else(|why| panic!("{label}, crash {seed}: {why}"));
                }
            }
        }
    }
    println!("{failure:?}: {cases} faults");
}

#[test]
fn a_file_system_that_shuts_down_breaks_no_promise() {
    fail_every_sync_for_good(SyncFailure::XfsLike);
}

#[test]
fn a_file_system_that_becomes_read_only_breaks_no_promise() {
    fail_every_sync_for_good(SyncFailure::BtrfsLike);
}
