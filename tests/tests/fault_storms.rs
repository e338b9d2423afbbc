//! Any call may fail at any time, again and again, in one process after the other: what was acknowledged is there in the end.
//!
//! Rows 7 to 13, 15, 20, 27, 41, 45, 50, 53 and 54 of the fault catalogue, in any combination.

use std::sync::Mutex;

use wal::SyncMode;
use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, Profile, SimConfig, errno};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::check_recovery;
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds};
use wal_tests::workers;

/// So many processes of one run have faults.
const PROCESSES: u64 = 40;

fn operation(rng: &mut Rng) -> Op {
    let (size, percent) = (rng.below(900) as u16, rng.below(101) as u8);
    match rng.below(20) {
        0..6 => Op::Append(size),
        6 => Op::Batch(size, 3, size / 2),
        7 => Op::Submit(size),
        8 => Op::SubmitBatch(size),
        9 => Op::AppendDurable(size),
        10 => Op::Flush,
        11 => Op::Poll,
        12 => Op::Rotate,
        13 => Op::Before(percent),
        14 => Op::BeforeWhole(percent),
        15 => Op::After(percent),
        16 => Op::Checkpoint(percent / 2),
        17 => Op::Reopen,
        18 => Op::Close,
        _ => Op::Wait,
    }
}

/// Every kind of call fails now and then. The sync of the log's parent does not: once it failed, nothing that a program does makes the
/// log's directory durable.
fn faults(percent: u64) -> Vec<Fault> {
    use Operation::{Create, Len, List, Open, Read, Remove, Rename, SetLen, SyncAll, SyncData, SyncDir, Write};
    let now_and_then = |effect: Effect, operation| Fault::new(effect).on(operation).percent(percent).always();
    let mut faults: Vec<Fault> = [Create, Len, List, Open, Read, Remove, Rename, SetLen, SyncAll, SyncData, Write]
        .map(|operation| now_and_then(Effect::Error(errno::EIO), operation))
        .to_vec();
    faults.push(now_and_then(Effect::Error(errno::EIO), SyncDir).name("log"));
    for effect in [
        Effect::Error(errno::ENOSPC),
        Effect::PartialError { bytes: 700, errno: errno::EIO },
        Effect::WriteBackError(errno::EIO),
        Effect::FlushError(errno::EIO),
        Effect::DoneButError(errno::EIO),
        Effect::Short(512),
    ] {
        faults.push(now_and_then(effect, Write));
    }
    faults.extend([SyncAll, SyncData].map(|operation| now_and_then(Effect::FlushError(errno::EIO), operation)));
    faults.extend([Rename, Remove, Create].map(|operation| now_and_then(Effect::DoneButError(errno::EIO), operation)));
    faults
}

/// Returns how many calls failed.
fn storm(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::new(MODES[rng.below(3) as usize], rng.number());
    setup.sim = SimConfig::profile(rng.pick(&[Profile::Cruellest, Profile::Cruellest, Profile::Ext4Ordered]), seed);
    setup.sim.short_transfers = rng.percent(30);
    setup.sim.interrupts = rng.percent(30);
    let mut run = Run::new(&setup);
    run.planned_errnos = vec![errno::EIO, errno::ENOSPC];
    let percent = 1 + rng.below(2);
    run.faults =
        (0..PROCESSES).flat_map(|process| faults(percent).into_iter().map(move |fault| (process, fault))).collect();
    run.plan_faults();
    let mut deaths = 0;
    for _ in 0..10 + rng.below(40) {
        let op = operation(&mut rng);
        run.apply(op)?;
        if run.is_poisoned() {
            deaths += 1;
            run.apply(if rng.percent(60) { Op::Die } else { Op::Crash(rng.number()) })?;
        }
    }
    let allowed = |death| Allowed::between(&run.model, &run.model, death);
    let evicted = run.fs.kill();
    evicted.drop_caches();
    let states = [
        ("death", run.fs.kill(), Death::Process),
        ("death and eviction of the cache", evicted, Death::Machine),
        ("crash that keeps nothing", run.fs.crash(&CrashPlan::keep_nothing()), Death::Machine),
        ("crash", run.fs.crash(&CrashPlan::random(seed)), Death::Machine),
    ];
    for (what, fs, death) in states {
        check_recovery(&fs, &setup, &allowed(death), seed).map_err(|why| format!("{what}: {why}"))?;
    }
    Ok(deaths)
}

#[test]
fn what_was_acknowledged_outlives_any_number_of_failing_calls() {
    let (deaths, broken) = (Mutex::new(0), Mutex::new(Vec::new()));
    let seeds = seeds(3000);
    workers::for_each(
        &seeds,
        |seed| format!("seed {seed}"),
        |seed| match storm(*seed) {
            Ok(own) => *deaths.lock().expect("no worker panics with it") += own,
            Err(why) => broken.lock().expect("no worker panics with it").push(format!("seed {seed}: {why}")),
        },
    );
    let broken = broken.into_inner().expect("no worker panics with it");
    println!("{} runs, {} poisoned logs", seeds.len(), deaths.into_inner().expect("no worker panics with it"));
    assert!(broken.is_empty(), "{} runs break a promise:\n{:#?}", broken.len(), &broken[..broken.len().min(8)]);
}

/// A log with one durable record and one that waits to be written, whose next write fails.
fn about_to_fail(mode: SyncMode) -> Run {
    // Buffered, so that the write of the group is the only call of its kind.
    let mut run = Run::new(&Setup::new(mode, 8));
    for op in [Op::AppendDurable(100), Op::Submit(200)] {
        run.apply(op).expect("nothing fails yet");
    }
    run.planned_errnos = vec![errno::EIO];
    run.fs.plan(Fault::error(errno::EIO).on(Operation::Write));
    run
}

#[test]
fn a_change_of_structure_that_has_to_write_waiting_records_and_cannot_fails_with_the_first_cause() {
    for mode in MODES {
        for op in [Op::After(100), Op::After(0), Op::Before(100)] {
            let mut run = about_to_fail(mode);
            let log = run.log().clone();
            let target = run.model.records[if op == Op::After(0) { 0 } else { 1 }].lsn;
            let result = match op {
                Op::Before(_) => log.truncate_before(wal::Lsn::new(target)),
                _ => log.truncate_after(wal::Lsn::new(target)),
            };
            let error = result.expect_err("the record that waited could not be written");
            assert!(error.is_poisoned(), "{op:?}, {mode:?}: {error:?}");
            assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{error:?}");
            let before = run.model.clone();
            run.apply(Op::Die).expect("the log opens again");
            assert_eq!(run.model.records.first(), before.records.first(), "what was durable is there");
        }
    }
}

#[test]
fn frames_of_a_refused_group_that_cannot_be_taken_back_poison_the_log() {
    for mode in MODES {
        let mut run = Run::new(&Setup::new(mode, 8));
        run.apply(Op::AppendDurable(100)).expect("nothing fails yet");
        run.apply(Op::Submit(61)).expect("nothing fails yet");
        // The waiting record gets through, the rest of its group does not, and neither does what is to hide it.
        let first = run.fs.calls();
        run.fs.plan(Fault::new(Effect::Short(248)).on(Operation::Write));
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).skip(1).times(2));
        let log = run.log().clone();
        let error = log.append(&[7; 594]).expect_err("there is no room");
        assert!(error.is_poisoned(), "{mode:?}, {} calls: {error:?}", run.fs.calls() - first);
    }
}

#[test]
fn a_part_of_a_refused_frame_that_cannot_be_taken_back_is_no_poison() {
    for mode in MODES {
        let mut run = Run::new(&Setup::new(mode, 8));
        run.apply(Op::AppendDurable(100)).expect("nothing fails yet");
        // Less than the frame gets through, and what is to hide it does not.
        run.fs.plan(Fault::new(Effect::Short(248)).on(Operation::Write));
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).skip(1).times(2));
        let log = run.log().clone();
        let error = log.append(&[7; 594]).expect_err("there is no room");
        assert_eq!(error.kind(), wal::ErrorKind::Full, "{mode:?}: {error:?}");
        drop(log);
        for op in [Op::AppendDurable(300), Op::Die, Op::AppendDurable(20), Op::Reopen] {
            run.apply(op).unwrap_or_else(|why| panic!("{mode:?}, {op:?}: {why}"));
        }
    }
}

/// Frames of a refused batch stood whole behind the end of a segment that has a successor, and a reader of the files took the frame behind them for
/// damage.
#[test]
fn what_stands_behind_the_end_of_a_segment_that_has_a_successor_is_not_read() {
    storm(50084).unwrap_or_else(|why| panic!("seed 50084: {why}"));
}
