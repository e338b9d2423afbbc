//! Faults 1 to 7, 14 and 19 to 21: appending and group commit.

use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::{CrashPlan, Effect, Fault, LostSectors, Operation};
use wal::{Clock, CutReason, ManualClock, Wal};
use wal_tests::oracle::{DIR, Death, check_recovery, open};
use wal_tests::run::Op;

use crate::*;

#[test]
fn fault_01_a_crash_before_anything_persists_leaves_the_prior_state() {
    for (mode, variant) in [(SYNC, BUFFERED), (BATCH, 0), (NONE, 0)] {
        let before = Run::through(&setup(mode, variant), &[Op::Append(100), Op::Batch(7, 300, 16), Op::Flush]);
        let mut during = Run::through(&setup(mode, variant), &[Op::Append(100), Op::Batch(7, 300, 16), Op::Flush]);
        for op in [Op::AppendWritten(50), Op::AppendWritten(900)] {
            during.apply(op).expect("it works");
        }
        assert_eq!(shown(&after_a_crash(&during, 0)), payloads(&before));
    }
}

#[test]
fn fault_02_of_a_batch_all_or_nothing_survives_whatever_sectors_do() {
    let ops = [Op::Append(100), Op::Flush, Op::SubmitBatch(700), Op::Wait, Op::Flush];
    let count = crash(&setup(NONE, BUFFERED), &ops, 2);
    assert!(count.states >= 16, "a batch of more than three sectors has more outcomes than {count}");
    crash(&setup(BATCH, BUFFERED), &ops, 2);
    crash(&setup(SYNC, BUFFERED), &ops, 2);
}

#[test]
fn fault_03_lost_sectors_that_read_as_something_else_are_dropped() {
    let ops = [Op::Append(100), Op::Rotate, Op::Batch(40, 0, 700), Op::AppendWritten(900), Op::Flush];
    for lost in [LostSectors::Zeros, LostSectors::Garbage, LostSectors::Stale, LostSectors::Foreign, LostSectors::Any] {
        for mode in [SYNC, BATCH, NONE] {
            let mut setup = setup(mode, BUFFERED);
            setup.sim.lost_sectors = lost;
            crash(&setup, &ops, 5);
        }
    }
}

#[test]
fn fault_04_a_sector_torn_at_a_byte_is_detected() {
    for (mode, variant) in [(SYNC, 0), (SYNC, BUFFERED), (BATCH, 0), (NONE, 0)] {
        let mut setup = setup(mode, variant);
        setup.torn_sectors = true;
        crash(&setup, &[Op::Append(100), Op::Batch(40, 0, 700), Op::AppendWritten(3), Op::Append(500)], 4);
    }
}

#[test]
fn fault_05_a_size_that_persists_before_its_data_is_a_tail() {
    // Only files that are being prepared change their size; here a crash keeps each of their sizes with none of their data.
    for lost in [LostSectors::Zeros, LostSectors::Garbage, LostSectors::Foreign] {
        for mode in [SYNC, BATCH, NONE] {
            let mut setup = setup(mode, BUFFERED);
            setup.sim.lost_sectors = lost;
            crash(&setup, &[Op::Append(4000), Op::Append(100), Op::Rotate, Op::Append(1)], 4);
        }
    }
}

#[test]
fn fault_06_a_later_append_that_persists_without_the_one_before_ends_the_log_at_the_gap() {
    // Frames of one sector each, so that a crash can keep one and lose the other.
    let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(488), Op::Flush, Op::Append(488), Op::Append(488)]);
    let allowed = allowed(&run, Death::Machine);
    let mut gaps = 0;
    for plan in run.fs.outcomes(8).expect("few sectors are unsynced") {
        let after = run.fs.crash(&plan);
        let log = open(&after.kill(), &run.setup, &run.clock).expect("the log opens");
        let cut = log.recovery_report().cut;
        let seen = check_recovery(&after, &run.setup, &allowed, 0).unwrap_or_else(|why| panic!("{plan:?}: {why}"));
        if let Some(cut) = cut.filter(|cut| cut.reason == CutReason::Hole) {
            gaps += 1;
            assert_eq!((cut.valid_records_dropped, seen.records.len()), (1, 1), "{plan:?}");
        }
    }
    assert!(gaps > 0, "no outcome had the second record without the first");
}

#[test]
fn fault_07_a_short_write_is_continued() {
    for bytes in [1, 512, 1025] {
        for mode in [SYNC, BATCH, NONE] {
            let mut run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100)]);
            run.fs.plan(Fault::new(Effect::Short(bytes)).on(Operation::Write).times(3));
            run.apply(Op::Append(2000)).expect("a short write is no failure");
            run.apply(Op::Flush).expect("a flush");
            assert_eq!(shown(&after_a_crash(&run, 0)), payloads(&run));
        }
    }
}

#[test]
fn fault_14_a_device_that_lies_leaves_a_hole_that_a_later_witness_shows() {
    let mut setup = setup(SYNC, 0);
    setup.config.segment_bytes_max = 64 << 10;
    let mut run = Run::through(&setup, &[Op::Append(4072)]);
    // Each record fills a block of its own, so nothing writes the lost one again.
    run.fs.plan(Fault::new(Effect::Lie).on(Operation::Write));
    for _ in 0..3 {
        run.apply(Op::Append(4072)).expect("the device says that all is well");
    }
    let error = open(&run.fs.crash(&CrashPlan::keep_nothing()), &setup, &run.clock).expect_err("a record is lost");
    assert!(error.is_corruption(), "{error}");
    assert_eq!(error.lsn().map(wal::Lsn::get), Some(run.model.records[1].lsn), "{error}");
    assert!(error.valid_records_after() >= Some(1), "{error}");
}

#[test]
fn fault_18_no_acknowledgement_is_ahead_of_the_durable_lsn() {
    for (mode, variant) in [(SYNC, 0), (SYNC, BUFFERED), (BATCH, 0), (NONE, 0)] {
        let mut run = Run::through(&setup(mode, variant), &[]);
        for op in [Op::AppendDurable(0), Op::AppendDurable(7), Op::AppendDurable(488), Op::AppendDurable(4072)] {
            run.apply(op).expect("it works");
            let kept = after_a_crash(&run, 1).records.len();
            assert_eq!(kept, run.model.records.len(), "{op:?}: a crash right after the acknowledgement loses it");
        }
    }
}

#[test]
fn fault_19_only_the_contiguous_prefix_is_acknowledged() {
    let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(1)]);
    let log = run.log();
    let tickets: Vec<_> = (0..20).map(|size| log.submit(&vec![7; size * 40]).expect("a ticket")).collect();
    let mut done = 0;
    while done < tickets.len() {
        // The last one is waited for; whatever is acknowledged, all before it is too.
        tickets[done].wait().expect("it is written");
        let acknowledged: Vec<bool> = tickets.iter().map(|ticket| ticket.outcome().is_some()).collect();
        let prefix = acknowledged.iter().take_while(|is_done| **is_done).count();
        assert!(prefix > done && acknowledged[prefix..].iter().all(|is_done| !is_done), "{acknowledged:?}");
        assert_eq!(log.written_lsn(), tickets[prefix - 1].end());
        done = prefix;
    }
}

#[test]
fn fault_20_blocks_that_cannot_be_allocated_corrupt_nothing() {
    for errno in [wal::fs::sim::errno::ENOSPC, wal::fs::sim::errno::EDQUOT, EIO] {
        for mode in [SYNC, BATCH, NONE] {
            for number in 0..12 {
                let mut run = Run::through(&setup(mode, 0), &[Op::Append(3000)]);
                run.planned_errnos = vec![errno];
                run.fs.plan(Fault::error(errno).name_prefix("0000000000000002.prepare").skip(number));
                for op in [Op::Append(3000), Op::Append(40), Op::Append(3000)] {
                    run.apply(op).unwrap_or_else(|why| panic!("{errno}, call {number}, {op:?}: {why}"));
                }
                after_a_crash(&run, number);
            }
        }
    }
}

/// Its wall clock jumps to and fro; its monotonic one is that of a [`ManualClock`].
#[derive(Debug, Default)]
struct JumpingClock {
    monotonic: ManualClock,
    wall: std::sync::atomic::AtomicU64,
}

impl Clock for JumpingClock {
    fn monotonic(&self) -> Duration {
        self.monotonic.monotonic()
    }

    fn unix_micros(&self) -> u64 {
        self.wall.fetch_xor(u64::MAX >> 1, std::sync::atomic::Ordering::SeqCst)
    }
}

#[test]
fn fault_21_a_clock_that_jumps_or_a_process_that_stood_still_delays_no_sync_past_the_next_look() {
    let setup = setup(BATCH, BUFFERED);
    let fs = wal::fs::sim::SimFs::with_config(setup.sim.clone());
    let clock = Arc::new(JumpingClock::default());
    let opener = Wal::opener(setup.config.clone()).file_system(Arc::new(fs.clone()));
    let log = opener.clock(Arc::clone(&clock) as Arc<dyn Clock>).open(DIR).expect("a new log");
    for step in [Duration::from_millis(25), Duration::from_secs(3600), Duration::from_secs(1 << 30)] {
        log.append(b"waits for the delay").expect("an append");
        clock.monotonic.advance(Duration::from_millis(1));
        log.poll().expect("nothing is due yet");
        assert!(log.durable_lsn() < log.written_lsn(), "the delay has not passed, whatever the wall clock says");
        clock.monotonic.advance(step);
        log.poll().expect("a sync");
        assert_eq!(log.durable_lsn(), log.written_lsn(), "after {step:?}");
    }
}
