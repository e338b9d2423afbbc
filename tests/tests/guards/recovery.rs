//! Recovery on a full disk, of damaged and of leftover files.

use wal::fs::sim::{CrashPlan, Fault, Operation, errno};
use wal::inspect::{Depth, survey};
use wal_tests::recovery::{DIR, observe, open};
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, FIRST, NO_RECYCLING, NONE, SYNC, names, setup, with_a_failed_sync};

const MODES: [usize; 3] = [SYNC, BATCH, NONE];
const RESERVE: u64 = 4;
const CONTROL: &str = "/log/control";

fn records(log: &wal::Wal) -> usize {
    observe(log).expect("it can be read").records.len()
}

#[test]
fn a_closed_log_opens_on_a_full_disk_and_takes_no_room_there() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Close]);
        let fs = run.fs.kill();
        let before = fs.read_file(FIRST).expect("a segment").len();
        // Part of the room that the segment had is there, and the rest is not.
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("0000000000000001.wal").skip(1).always());
        fs.plan(Fault::new(wal::fs::sim::Effect::Short(512)).on(Operation::Write).name("0000000000000001.wal"));
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert_eq!(records(&log), 2);
        assert_eq!(fs.read_file(FIRST).expect("a segment").len(), before, "mode {mode}: half the room is taken");
        fs.forget_faults();
        log.append(&[1; 50]).expect("there is room now");
    }
}

#[test]
fn an_open_gives_the_reserve_up_where_there_is_no_room_for_the_control_file() {
    for last in [Op::Flush, Op::Close] {
        let run = Run::through(&setup(SYNC, BUFFERED | RESERVE), &[Op::Append(100), last]);
        let fs = run.fs.kill();
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp"));
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("{last:?}: {error}"));
        assert_eq!(records(&log), 1);
    }
}

#[test]
fn what_an_open_on_a_full_disk_shows_is_durable_although_an_earlier_one_failed() {
    for mode in [BATCH, NONE] {
        let run = with_a_failed_sync(mode);
        for failing in 0..12 {
            let fs = run.fs.kill();
            fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir).skip(failing));
            drop(open(&fs, &run.setup, &run.clock));
            let fs = fs.kill();
            for number in 1..4 {
                let name = format!("{number:016x}.wal.tmp");
                fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name(&name).always());
            }
            // Where the only safe way needs room, it says so instead.
            let log = match open(&fs, &run.setup, &run.clock) {
                Ok(log) => log,
                Err(error) if error.is_full() => continue,
                Err(error) => panic!("mode {mode}, directory sync {failing}: {error}"),
            };
            let shown = observe(&log).expect("it can be read").records;
            let after = open(&fs.crash(&CrashPlan::keep_nothing()), &run.setup, &run.clock)
                .unwrap_or_else(|error| panic!("mode {mode}, directory sync {failing}: {error}"));
            assert_eq!(observe(&after).expect("it can be read").records, shown, "mode {mode}, sync {failing}");
        }
    }
}

#[test]
fn an_open_reports_what_it_swept_and_leaves_none_of_it() {
    for last in [Op::Flush, Op::Close] {
        let run = Run::through(&setup(SYNC, BUFFERED), &[Op::Append(100), last]);
        let fs = run.fs.kill();
        let left = ["control.tmp", "0000000000000001.wal.tmp", "0000000000000007.prepare", "0000000000000001.recycle"];
        for name in left {
            fs.write_file(format!("{DIR}/{name}"), b"left over").expect("a file");
        }
        fs.write_file(format!("{DIR}/0000000000000002.wal"), &[0; 8192]).expect("a prepared segment");
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("{last:?}: {error}"));
        let mut swept = log.recovery_report().swept.clone();
        swept.sort();
        let mut expected = left.map(str::to_owned);
        expected.sort();
        assert_eq!(swept, expected, "{last:?}");
        let names = fs.names(DIR).expect("the log is there");
        assert!(left.iter().all(|left| !names.iter().any(|name| name == left)), "{last:?}: {names:?}");
        let is_prepared_there = names.iter().any(|name| name == "0000000000000002.wal");
        // After an unclean open that is the new active segment.
        assert_eq!(is_prepared_there, last == Op::Flush, "{last:?}: {names:?}");
    }
}

#[test]
fn a_creation_that_died_before_its_control_file_had_its_name_is_done_again_and_leaves_no_evidence() {
    let run = Run::through(&setup(SYNC, NO_RECYCLING), &[Op::Append(10)]);
    let fs = run.fs.kill();
    for name in names(&run).iter().filter(|name| *name != "lock") {
        fs.remove_file(format!("{DIR}/{name}")).expect("a file");
    }
    fs.write_file(format!("{DIR}/control.tmp"), b"torn").expect("a file");
    let found = survey(&fs, DIR, Depth::Full, |_| {}).expect("it can be looked at");
    assert_eq!(found.stranded, ["control.tmp"], "nothing says what it belongs to");
    let log = open(&fs, &run.setup, &run.clock).expect("a new log");
    assert_eq!(log.recovery_report().swept, ["control.tmp"]);
    assert!(log.recovery_report().stranded.is_empty());
}

#[test]
fn a_log_with_a_damaged_control_file_is_never_taken_for_a_new_one() {
    let run = Run::through(&setup(SYNC, 0), &[Op::Flush]);
    let fs = run.fs.kill();
    fs.flip_bit(CONTROL, 20, 1).expect("it is in the file");
    let error = open(&fs, &run.setup, &run.clock).expect_err("its control file is damaged");
    assert!(error.is_corruption(), "{error}");
}

#[test]
fn a_log_that_went_on_behind_the_mark_of_its_close_is_kept_and_stays_open() {
    // The device gives an old control file back.
    for mode in MODES {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Close]);
        let closed = run.fs.read_file(CONTROL).expect("the control file");
        for op in [Op::Reopen, Op::AppendDurable(200), Op::AppendDurable(300)] {
            run.apply(op).expect("it works");
        }
        let fs = run.fs.kill();
        fs.write_file(CONTROL, &closed).expect("the control file");
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert_eq!(records(&log), 3, "mode {mode}");
        let found = survey(&fs, DIR, Depth::Full, |_| {}).expect("it can be looked at");
        assert!(!found.control.expect("a control file").is_closed, "mode {mode}: it is open");
    }
}

#[test]
fn only_records_that_are_whole_count_as_valid_behind_damage() {
    let ops = [Op::Append(100), Op::Append(200), Op::Append(300), Op::Append(400), Op::Close];
    let run = Run::through(&setup(SYNC, BUFFERED), &ops);
    let fs = run.fs.kill();
    for damaged in [1, 2] {
        let offset = 4096 + run.model.records[damaged].lsn - run.model.records[0].lsn + 50;
        fs.flip_bit(FIRST, offset, 3).expect("it is in the segment");
    }
    let error = open(&fs, &run.setup, &run.clock).expect_err("two records are damaged");
    assert_eq!(error.valid_records_after(), Some(1), "{error}");
}
