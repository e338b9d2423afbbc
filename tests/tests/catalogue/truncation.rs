//! Faults 34 to 42: truncation at both ends.

use wal::ErrorKind;
use wal::fs::sim::{Fault, Operation, errno};
use wal_tests::oracle::{Death, check_recovery, open};
use wal_tests::run::Op;

use crate::*;

/// Three segments.
const FILL: [Op; 6] =
    [Op::Append(3000), Op::Append(900), Op::Append(3000), Op::Append(900), Op::Batch(1000, 500, 900), Op::Flush];

fn behind_fill(ops: &[Op]) -> Vec<Op> {
    [&FILL, ops].concat()
}

#[test]
fn fault_34_a_crash_at_any_step_of_a_truncation_leaves_the_old_set_or_the_new_one() {
    for truncation in
        [Op::Before(20), Op::Before(50), Op::Before(90), Op::Before(100), Op::BeforeWhole(60), Op::BeforeWhole(100)]
    {
        crash_in_every_mode(&behind_fill(&[truncation]), 1);
    }
    for cut in [Op::After(0), Op::After(20), Op::After(50), Op::After(80)] {
        crash_in_every_mode(&behind_fill(&[cut]), 1);
    }
}

#[test]
fn fault_35_no_name_ever_stands_for_a_file_whose_bytes_are_not_there() {
    // Also where a crash keeps every name and loses every byte that was not synced, and fills it with others.
    for lost in [wal::fs::sim::LostSectors::Zeros, wal::fs::sim::LostSectors::Any] {
        for mode in [SYNC, BATCH, NONE] {
            let mut setup = setup(mode, 0);
            setup.sim.lost_sectors = lost;
            crash(&setup, &behind_fill(&[Op::Before(30), Op::After(70)]), 2);
        }
    }
}

#[test]
fn fault_36_segments_that_go_in_any_order_leave_no_false_gap() {
    let ops = behind_fill(&[Op::Rotate, Op::Append(10), Op::Rotate, Op::Flush, Op::BeforeWhole(100), Op::Append(1)]);
    for mode in [SYNC, BATCH, NONE] {
        // Without recycling every removal is an unlink; with it, a rename.
        for variant in [0, 2] {
            crash(&setup(mode, variant), &ops, 2);
        }
    }
    crash_in_every_mode(
        &behind_fill(&[Op::Rotate, Op::Append(10), Op::Rotate, Op::Flush, Op::After(0), Op::Append(1)]),
        2,
    );
}

#[test]
fn fault_37_a_segment_whose_removal_was_lost_is_ignored_and_removed() {
    let mut run = Run::through(&setup(SYNC, 2), &FILL);
    let old = run.fs.read_file(FIRST).expect("a segment");
    run.apply(Op::BeforeWhole(100)).expect("a truncation");
    assert!(run.fs.read_file(FIRST).is_err(), "the first segment is gone");
    let lost = run.fs.kill();
    lost.write_file(FIRST, &old).expect("it comes back");
    check_recovery(&lost, &run.setup, &allowed(&run, Death::Machine), 0).expect("it is not part of the log");
    assert!(lost.read_file(FIRST).is_err(), "the leftover is removed");
}

#[test]
fn fault_38_after_a_cut_a_crash_and_new_appends_no_lsn_comes_twice_and_nothing_stale_returns() {
    for cut in [Op::After(0), Op::After(40), Op::After(80)] {
        crash_in_every_mode(
            &behind_fill(&[cut, Op::Append(3), Op::Die, Op::Append(900), Op::Rotate, Op::Append(5)]),
            6,
        );
    }
}

#[test]
fn fault_39_a_truncation_past_what_is_needed_is_refused_and_changes_nothing() {
    let run = Run::through(&setup(NONE, 0), &behind_fill(&[Op::Checkpoint(50), Op::Append(9)]));
    let (log, lsn) = (run.log(), |index: usize| wal::Lsn::new(run.model.records[index].lsn));
    let files = run.fs.fingerprint();
    let checkpoint = log.checkpoint_lsn().expect("it was declared");
    assert!(
        log.truncate_before(log.written_lsn()).is_err_and(|error| error.kind() == ErrorKind::Refused),
        "past the durable end"
    );
    assert!(log.truncate_before(lsn(5)).is_err_and(|error| error.kind() == ErrorKind::Refused), "past the checkpoint");
    assert!(
        log.truncate_after(lsn(1)).is_err_and(|error| error.kind() == ErrorKind::Refused),
        "a cut before the checkpoint"
    );
    let hold = log.hold("a reader", lsn(1)).expect("it is in the log");
    assert!(log.truncate_before(checkpoint).is_err_and(|error| error.kind() == ErrorKind::Refused), "past a hold");
    assert!(log.truncate_before(log.next_lsn()).is_err_and(|error| error.kind() == ErrorKind::Refused));
    assert_eq!(run.fs.fingerprint(), files, "what is refused changes nothing");
    drop(hold);
    log.truncate_before(checkpoint).expect("nothing holds it any more");
}

#[test]
fn fault_41_damage_or_an_error_while_copying_keeps_the_original() {
    for (operation, percent) in [(Op::Before(20), 25), (Op::After(20), 10)] {
        // A flipped bit in what would be kept.
        let damaged = Run::through(&setup(SYNC, 0), &FILL);
        let lsn = damaged.model.records[1].lsn;
        damaged.fs.flip_bit(FIRST, if percent > 20 { lsn + 100 } else { 4096 + 100 }, 3).expect("it is in the segment");
        let before = damaged.fs.read_file(FIRST).expect("a segment");
        let log = damaged.log();
        let records: Vec<u64> = damaged.model.records.iter().map(|record| record.lsn).collect();
        let result = match operation {
            Op::Before(_) => log.truncate_before(wal::Lsn::new(records[1])),
            _ => log.truncate_after(wal::Lsn::new(records[1])),
        };
        let error = result.expect_err("what is to be kept is damaged");
        assert!(error.is_corruption() && !error.is_poisoned(), "{operation:?}: {error}");
        assert!(damaged.fs.read_file(FIRST).expect("a segment") == before, "{operation:?} changed the original");
        log.append(b"goes on").expect("the log goes on");

        // An error of each read while copying.
        for number in 0..4 {
            let mut failing = Run::through(&setup(SYNC, 0), &FILL);
            failing.planned_errnos = vec![EIO];
            failing.fs.plan(fails(Operation::Read, EIO).skip(number));
            failing.apply(operation).unwrap_or_else(|why| panic!("{operation:?}, read {number}: {why}"));
            failing.fs.forget_faults();
            assert!(!failing.is_poisoned(), "{operation:?}, read {number}");
            after_a_crash(&failing, number);
        }
    }
}

#[test]
fn fault_16_a_full_disk_lets_checkpoint_and_truncation_pass() {
    for mode in [SYNC, BATCH, NONE] {
        let mut setup = setup(mode, 4);
        setup.sim.capacity = Some(14 * 4096);
        let mut run = Run::new(&setup);
        run.planned_errnos = vec![errno::ENOSPC];
        while run.full_refusals == 0 {
            run.apply(Op::Append(900)).expect("it works or is refused");
        }
        let log = run.log();
        log.flush().expect("a flush");
        let checkpoint = log.durable_lsn();
        log.append_with(b"checkpoint", wal::AppendOptions::new().use_reserve()).expect("the reserve is for this");
        log.declare_checkpoint(checkpoint).expect("a checkpoint can be declared");
        log.truncate_before(checkpoint).expect("a truncation passes");
        for _ in 0..4 {
            log.append(&[1; 900]).expect("there is room again");
        }
    }
}

#[test]
fn fault_42_a_reader_that_is_open_while_the_log_is_truncated_sees_its_records_or_is_told() {
    for truncation in [Op::Before(40), Op::Before(100), Op::BeforeWhole(100)] {
        for read in 0..5 {
            let mut run = Run::through(&setup(SYNC, 0), &FILL);
            let mut reader = run.log().reader(wal::Lsn::ZERO).expect("a reader");
            for wanted in &run.model.records[..read] {
                assert_eq!(reader.next_record().expect("it reads").expect("a record").lsn.get(), wanted.lsn);
            }
            let all = run.model.records.clone();
            run.apply(truncation).expect("a truncation");
            for wanted in &all[read..] {
                match reader.next_record() {
                    Ok(Some(record)) => {
                        assert!(record.lsn.get() == wanted.lsn && record.payload == &wanted.payload[..], "a mixture");
                        assert!(wanted.lsn >= run.model.start, "a record before the new start");
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                        assert!(wanted.lsn < run.model.start, "LSN {} is still there", wanted.lsn);
                        break;
                    }
                    Ok(None) => {
                        panic!("{truncation:?} after {read} records: the reader ends before LSN {}", wanted.lsn)
                    }
                }
            }
        }
    }
}

#[test]
fn fault_40_truncation_never_shows_a_state_that_no_order_of_the_calls_explains() {
    // Of one thread, so that every order is looked at: the races are in `truncate_live` of the contract and in the models.
    let truncations = [Op::Append(50), Op::Before(50), Op::After(60), Op::Checkpoint(30), Op::BeforeWhole(100)];
    for first in truncations {
        for second in truncations {
            for third in truncations {
                let mut run = Run::through(&setup(SYNC, 0), &FILL);
                for op in [first, second, third] {
                    run.apply(op).unwrap_or_else(|why| panic!("{first:?}, {second:?}, {third:?}: {op:?}: {why}"));
                    let log = run.log();
                    let start = run.model.start;
                    let expected: Vec<u64> =
                        run.model.records.iter().map(|r| r.lsn).filter(|lsn| *lsn >= start).collect();
                    let found: Vec<u64> = log
                        .reader(wal::Lsn::ZERO)
                        .expect("a reader")
                        .map(|record| record.expect("a record").lsn.get())
                        .collect();
                    assert_eq!(found, expected, "{first:?}, {second:?}, {third:?}: after {op:?}");
                }
                drop(open(&run.fs.kill(), &run.setup, &run.clock).expect("it opens"));
            }
        }
    }
}

#[test]
fn fault_36_a_failed_unlink_is_told_and_the_rest_is_removed_by_the_next_open() {
    let mut run = Run::through(&setup(SYNC, 2), &FILL);
    run.planned_errnos = vec![EIO];
    run.fs.plan(Fault::error(EIO).on(Operation::Remove).name_prefix("0000000000000001.wal"));
    run.apply(Op::BeforeWhole(100)).expect("it fails as planned or not at all");
    run.fs.forget_faults();
    let again = run.fs.kill();
    check_recovery(&again, &run.setup, &allowed(&run, Death::Machine), 0).expect("old or new");
    assert!(again.read_file(FIRST).is_err() || run.model.start == 4096, "the leftover is removed");
}
