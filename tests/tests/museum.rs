//! The bug museum: the suite notices each bug that another log shipped.
//!
//! Each test does the same to a log that is broken on purpose and to one that is not, and demands that the first breaks a promise and the
//! second keeps all. The bugs are switches of the feature `museum`; `specs/testing.md` has the table.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, errno};
use wal::museum::{Bug, Bugs};
use wal_tests::explore::{Limits, explore};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::{DIR, check_recovery, open};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup};
use wal_tests::watchdog::Watchdog;

const SYNC: usize = 0;
const BATCH: usize = 1;
const NONE: usize = 2;

/// In a [`Setup`]: groups go through the page cache and are synced by a call of their own.
const BUFFERED: u64 = 8;

/// What is done to a log, broken or not; an error says which promise was broken.
type Check<'a> = &'a dyn Fn(Bugs) -> Result<(), String>;

/// The bug must be noticed, and nothing else.
fn notices(bug: Bug, check: Check<'_>) {
    let watchdog = Watchdog::start();
    watchdog.beat(|| format!("{bug:?}"));
    if let Err(why) = check(Bugs::NONE) {
        panic!("without a bug: {why}");
    }
    match check(Bugs::one(bug)) {
        Err(why) => println!("{bug:?} is noticed: {why}"),
        Ok(()) => panic!("nothing notices {bug:?}"),
    }
}

/// Crashes the run at every call, with many outcomes.
fn crash_everywhere(bugs: Bugs, mode: usize, variant: u64, ops: &[Op]) -> Result<(), String> {
    let setup = Setup { bugs, ..Setup::new(MODES[mode], variant) };
    explore(&setup, ops, ops.len(), Limits::exhaustive(256), 1).map(drop).map_err(|violation| violation.to_string())
}

/// Fails each sync of a file once, and looks at what the log tells, what a death leaves, and what a crash leaves.
fn fail_each_sync(bugs: Bugs, mode: usize, ops: &[Op]) -> Result<(), String> {
    let setup = Setup { bugs, ..Setup::new(MODES[mode], BUFFERED) };
    for number in 0.. {
        let mut run = Run::new(&setup);
        run.planned_errnos = vec![errno::EIO];
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).skip(number));
        for op in ops {
            run.apply(*op)?;
        }
        if !run.fs.planned().is_empty() {
            return Ok(());
        }
        let allowed = |death| Allowed::between(&run.model, &run.model, death);
        let evicted = run.fs.kill();
        evicted.drop_caches();
        check_recovery(&evicted, &setup, &allowed(Death::Machine), number)
            .map_err(|why| format!("sync {number} fails, then the process dies: {why}"))?;
        check_recovery(&run.fs.crash(&CrashPlan::keep_nothing()), &setup, &allowed(Death::Machine), number)
            .map_err(|why| format!("sync {number} fails, then a crash: {why}"))?;
    }
    unreachable!("a run has an end")
}

#[test]
fn a_rotation_that_does_not_sync_the_old_segment_is_noticed() {
    let ops = [Op::Append(100), Op::Rotate, Op::Append(20), Op::Flush, Op::Append(1)];
    notices(Bug::OldSegmentNotSynced, &|bugs| crash_everywhere(bugs, NONE, BUFFERED, &ops));
    notices(Bug::OldSegmentNotSynced, &|bugs| crash_everywhere(bugs, BATCH, BUFFERED, &ops));
}

#[test]
fn a_directory_that_is_not_synced_is_noticed() {
    let ops = [Op::Append(100), Op::Rotate, Op::Append(20)];
    for mode in [SYNC, BATCH, NONE] {
        notices(Bug::DirectoryNotSynced, &|bugs| crash_everywhere(bugs, mode, 0, &ops));
    }
}

#[test]
fn a_sync_that_is_tried_again_is_noticed() {
    let ops = [Op::Append(100), Op::Batch(7, 300, 16), Op::Rotate, Op::Append(20), Op::Flush, Op::Append(9)];
    for mode in [SYNC, BATCH, NONE] {
        notices(Bug::SyncTriedAgain, &|bugs| fail_each_sync(bugs, mode, &ops));
    }
}

#[test]
fn waiters_who_are_told_ok_after_a_failed_sync_are_noticed() {
    let ops = [Op::Append(100), Op::Submit(40), Op::Submit(50), Op::SubmitBatch(60), Op::Wait, Op::Submit(1), Op::Wait];
    notices(Bug::WaitersToldOk, &|bugs| fail_each_sync(bugs, SYNC, &ops));
}

/// Notes that it was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn waiters_who_are_not_woken_after_a_failed_sync_are_noticed() {
    notices(Bug::WaitersNotWoken, &|bugs| {
        let setup = Setup { bugs, ..Setup::new(MODES[SYNC], BUFFERED) };
        let mut run = Run::new(&setup);
        run.apply(Op::Append(10))?;
        let mut ticket = Box::pin(run.log().submit(b"waits").map_err(|error| error.to_string())?);
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(Arc::clone(&woken));
        assert!(ticket.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
        assert!(run.log().poll().is_err(), "the group is written and its sync fails");
        if !woken.0.load(Ordering::SeqCst) {
            return Err("the sync failed, and a future that waits for it was not woken".to_owned());
        }
        match ticket.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(Err(error)) if error.is_poisoned() => Ok(()),
            other => Err(format!("the ticket says {other:?}")),
        }
    });
}

#[test]
fn a_witness_that_stays_at_zero_is_noticed() {
    notices(Bug::WitnessStuckAtZero, &|bugs| {
        for mode in [SYNC, NONE] {
            let setup = Setup { bugs, ..Setup::new(MODES[mode], BUFFERED) };
            let mut run = Run::new(&setup);
            for _ in 0..4 {
                run.apply(Op::AppendDurable(100))?;
            }
            let damaged = run.fs.kill();
            let segment = format!("{DIR}/0000000000000001.wal");
            damaged.flip_bit(segment, run.model.records[1].lsn + 30, 0).map_err(|error| error.to_string())?;
            match open(&damaged, &setup, &run.clock) {
                Err(error) if error.is_corruption() => {}
                other => return Err(format!("a synced record with synced ones behind it rots: {other:?}")),
            }
        }
        Ok(())
    });
}

#[test]
fn stale_records_of_a_recycled_segment_are_noticed() {
    // Frames of one sector each: eight fill a segment, and a crash may keep one and lose the zeros behind it.
    let one = Op::Append(488);
    let mut ops = vec![one; 17];
    ops.extend([Op::Flush, Op::BeforeWhole(100)]);
    ops.extend([one; 10]);
    notices(Bug::StaleRecordsAccepted, &|bugs| crash_everywhere(bugs, NONE, BUFFERED, &ops));
}

#[test]
fn a_read_error_that_is_taken_for_the_end_is_noticed() {
    notices(Bug::ReadErrorTakenForEnd, &|bugs| {
        let setup = Setup { bugs, ..Setup::new(MODES[NONE], BUFFERED) };
        let mut run = Run::new(&setup);
        for op in [Op::Append(100), Op::Append(50), Op::Rotate, Op::Append(20), Op::Append(30)] {
            run.apply(op)?;
        }
        let allowed = Allowed::between(&run.model, &run.model, Death::Process);
        for number in 0.. {
            let fs = run.fs.kill();
            fs.plan(Fault::error(errno::EIO).on(Operation::Read).skip(number));
            let opened = open(&fs, &setup, &run.clock);
            if !fs.planned().is_empty() {
                return Ok(());
            }
            if opened.is_ok() {
                return Err(format!("read {number} of the open fails, and it opens"));
            }
            check_recovery(&fs.kill(), &setup, &allowed, number)
                .map_err(|why| format!("read {number} of an open fails, then the log is opened again: {why}"))?;
        }
        unreachable!("an open has an end")
    });
}

#[test]
fn a_file_that_is_rewritten_in_place_is_noticed() {
    let ops = [Op::Append(600), Op::Append(20), Op::Rotate, Op::Append(9), Op::Before(30)];
    notices(Bug::RewriteInPlace, &|bugs| crash_everywhere(bugs, SYNC, 0, &ops));
}

#[test]
fn a_truncation_that_removes_the_active_segment_is_noticed() {
    let ops = [Op::Append(100), Op::Rotate, Op::Append(20), Op::Flush, Op::BeforeWhole(100), Op::Append(9)];
    for mode in [SYNC, BATCH, NONE] {
        notices(Bug::ActiveSegmentDeleted, &|bugs| crash_everywhere(bugs, mode, 0, &ops));
    }
}

#[test]
fn half_a_record_that_a_full_disk_leaves_is_noticed() {
    notices(Bug::HalfRecordOnFullDisk, &|bugs| {
        for mode in [SYNC, BATCH, NONE] {
            let setup = Setup { bugs, ..Setup::new(MODES[mode], BUFFERED) };
            for bytes in [0, 40, 100, 600] {
                let mut run = Run::new(&setup);
                run.apply(Op::Append(100))?;
                run.planned_errnos = vec![errno::ENOSPC];
                let full = Effect::PartialError { bytes, errno: errno::ENOSPC };
                run.fs.plan(Fault::new(full).on(Operation::Write));
                run.apply(Op::Append(700))?;
                if run.full_refusals != 1 {
                    return Err("the append is not refused".to_owned());
                }
                run.apply(Op::Append(50))?;
                run.apply(Op::Flush)?;
                let allowed = Allowed::between(&run.model, &run.model, Death::Machine);
                check_recovery(&run.fs.crash(&CrashPlan::keep_nothing()), &setup, &allowed, bytes as u64)
                    .map_err(|why| format!("{bytes} bytes of a refused record, then an append, then a crash: {why}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn a_checksum_that_outlives_the_cut_of_its_record_is_noticed() {
    let ops = [Op::Append(100), Op::Append(50), Op::Append(20), Op::After(0), Op::Reopen, Op::Append(1)];
    for mode in [SYNC, BATCH, NONE] {
        notices(Bug::StaleChecksumAfterCut, &|bugs| crash_everywhere(bugs, mode, 0, &ops));
    }
}

#[test]
fn inputs_that_go_before_their_replacement_is_synced_are_noticed() {
    let ops = [Op::Append(600), Op::Append(20), Op::Rotate, Op::Append(9), Op::Before(30)];
    for mode in [SYNC, BATCH, NONE] {
        notices(Bug::OutputNotSynced, &|bugs| crash_everywhere(bugs, mode, 0, &ops));
    }
}

#[test]
fn every_bug_of_the_museum_has_a_test() {
    let source = include_str!("museum.rs");
    let forgotten: Vec<Bug> =
        Bug::ALL.into_iter().filter(|bug| !source.contains(&format!("notices(Bug::{bug:?}, "))).collect();
    assert!(forgotten.is_empty(), "nothing demands that these are noticed: {forgotten:?}");
}
