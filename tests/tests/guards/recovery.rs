//! Recovery on a full disk, of damaged and of leftover files.

use wal::fs::sim::{CrashPlan, Fault, Operation, errno};
use wal::inspect::{Depth, survey};
use wal_tests::recovery::{DIR, observe, open};
use wal_tests::run::{Op, Run};

use super::files::forge_header;
use super::{BATCH, BUFFERED, FIRST, NO_RECYCLING, NONE, SECOND, SYNC, names, setup, with_a_failed_sync};

const MODES: [usize; 3] = [SYNC, BATCH, NONE];
const RESERVE: u64 = 4;
/// An open reads the whole log.
const VERIFIED: u64 = 1;
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

#[test]
fn a_file_that_has_the_name_of_a_segment_and_holds_another_is_corruption() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendWritten(100), Op::AppendWritten(200)]);
        let fs = run.fs.kill();
        fs.copy_file(FIRST, SECOND).expect("a segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("the second file says that it is the first segment");
        assert!(error.is_corruption() && error.segment() == Some(2), "mode {mode}: {error}");
    }
}

/// A closed log of three segments of which the first was written anew by a truncation.
fn with_a_rewritten_start(mode: usize) -> Run {
    let ops =
        [Op::Append(600), Op::Append(700), Op::Append(3000), Op::Append(3000), Op::Flush, Op::Before(25), Op::Close];
    let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
    let first = run.fs.read_file(FIRST).expect("a segment");
    assert_ne!(first[88..96], [0; 8], "it has a sealed end");
    run
}

#[test]
fn a_segment_that_names_another_end_of_its_predecessor_is_corruption() {
    for mode in MODES {
        let run = with_a_rewritten_start(mode);
        let end = run.model.records[1].end();
        // Before the start of the segment, between two of its records, and behind its end.
        for named in [0, run.model.records[1].lsn, end + 8] {
            let fs = run.fs.kill();
            let mut bytes = fs.read_file(SECOND).expect("a segment");
            forge_header(&mut bytes, |header| header[56..64].copy_from_slice(&named.to_le_bytes()));
            fs.write_file(SECOND, &bytes).expect("a segment");
            let error = open(&fs, &run.setup, &run.clock).expect_err("one of the two is not of this log as it is");
            assert!(error.is_corruption() && error.segment() == Some(2), "mode {mode}, {named}: {error}");
        }
    }
}

#[test]
fn a_segment_cannot_follow_one_before_whose_start_it_says_that_it_ends() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(3000), Op::Append(3000), Op::Close]);
        let fs = run.fs.kill();
        let mut bytes = fs.read_file(SECOND).expect("a segment");
        forge_header(&mut bytes, |header| header[56..64].copy_from_slice(&8_u64.to_le_bytes()));
        fs.write_file(SECOND, &bytes).expect("a segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("no segment ends before it starts");
        assert!(error.is_corruption() && error.segment() == Some(2), "mode {mode}: {error}");
    }
}

#[test]
fn a_first_segment_whose_header_is_damaged_is_not_called_missing() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(3000), Op::Append(3000), Op::Close]);
        let fs = run.fs.kill();
        fs.flip_bit(FIRST, 50, 3).expect("it is in the segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("its header is damaged");
        assert_eq!((error.segment(), error.offset()), (Some(1), Some(0)), "mode {mode}: {error}");
        assert!(error.is_corruption() && !error.to_string().contains("missing"), "mode {mode}: {error}");
    }
}

#[test]
fn the_header_of_a_segment_proves_what_was_durable_when_it_was_begun() {
    // Its records did not arrive, and the last one before it is damaged.
    for mode in MODES {
        let ops = [Op::AppendDurable(100), Op::AppendDurable(200), Op::AppendDurable(300), Op::AppendWritten(4000)];
        let run = Run::through(&setup(mode, BUFFERED | VERIFIED), &ops);
        let fs = run.fs.kill();
        let mut bytes = fs.read_file(SECOND).expect("a segment");
        bytes[4096..].fill(0);
        fs.write_file(SECOND, &bytes).expect("a segment");
        let offset = 4096 + run.model.records[2].lsn - run.model.records[0].lsn + 50;
        fs.flip_bit(FIRST, offset, 3).expect("it is in the segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("it was durable");
        assert!(error.is_corruption() && error.segment() == Some(1), "mode {mode}: {error}");
    }
}

#[test]
fn a_segment_that_was_written_as_a_whole_proves_itself() {
    // A recovery wrote it anew, and died before anything else said so.
    for mode in [BATCH, NONE] {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::AppendWritten(100), Op::AppendWritten(200)]);
        let control = run.fs.read_file(CONTROL).expect("the control file");
        run.apply(Op::Die).expect("it recovers");
        let fs = run.fs.kill();
        fs.write_file(CONTROL, &control).expect("the control file");
        fs.remove_file(SECOND).expect("the new active segment");
        let offset = 4096 + run.model.records[1].lsn - run.model.records[0].lsn + 50;
        fs.flip_bit(FIRST, offset, 3).expect("it is in the segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("it was durable before it had its name");
        assert!(error.is_corruption() && error.segment() == Some(1), "mode {mode}: {error}");
    }
}

#[test]
fn a_segment_behind_one_that_is_lost_proves_that_there_was_one() {
    for mode in MODES {
        let ops = [3000, 3001, 3002].map(Op::AppendDurable);
        let run = Run::through(&setup(mode, BUFFERED), &ops);
        let fs = run.fs.kill();
        fs.write_file(SECOND, &[0; 8192]).expect("a segment");
        let error = open(&fs, &run.setup, &run.clock).expect_err("its record was durable");
        assert!(error.is_corruption() && error.segment() == Some(2), "mode {mode}: {error}");
    }
}

#[test]
fn a_log_that_holds_nothing_starts_where_it_goes_on_once_it_was_recovered() {
    for mode in MODES {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::Flush, Op::Die]);
        assert_eq!(run.log().start_lsn(), run.log().next_lsn(), "mode {mode}");
        run.apply(Op::Die).expect("it recovers again");
        assert_eq!(run.log().start_lsn(), run.log().next_lsn(), "mode {mode}");
    }
}

#[test]
fn an_open_that_finds_no_room_for_a_whole_segment_shows_the_log_and_goes_on_later() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        let fs = run.fs.kill();
        // There is room for its header.
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("0000000000000002.prepare").skip(1));
        let log = open(&fs, &run.setup, &run.clock).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert_eq!(records(&log), 2, "mode {mode}");
        log.append(&[1; 100]).expect("there is room now");
    }
}

#[test]
fn no_lsn_comes_twice_although_a_recovery_died_when_it_had_removed_some_of_what_was_behind_the_end() {
    // Further segments were begun, and their headers did not reach the disk. Something is kept before them, or nothing.
    let ops = [Op::AppendDurable(100), Op::AppendWritten(4000), Op::AppendWritten(4000), Op::AppendWritten(4000)];
    for (first, calls) in [0, 1].into_iter().flat_map(|first| (0..80).map(move |calls| (first, calls))) {
        let run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), &ops[first..]);
        for kept in 0..64 {
            let fs = run.fs.crash(&CrashPlan::keep_nothing());
            fs.crash_at(fs.calls() + calls);
            drop(open(&fs, &run.setup, &run.clock));
            let log = open(&fs.crash(&CrashPlan::mask(kept)), &run.setup, &run.clock)
                .unwrap_or_else(|error| panic!("call {calls}, kept {kept:b}: {error}"));
            assert_eq!(records(&log), 1 - first, "call {calls}, kept {kept:b}");
            let next = log.next_lsn().get();
            assert!(next >= run.model.handed, "call {calls}, kept {kept:b}: LSN {next} comes twice");
        }
    }
}

#[test]
fn nothing_is_removed_on_the_word_of_a_control_file_whose_name_may_not_last() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush];
        let mut run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
        // The new control file has its name, the sync of the directory fails, and the process dies.
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir));
        run.planned_errnos = vec![errno::EIO];
        run.apply(Op::BeforeWhole(90)).expect("it fails as planned");
        run.log = None;
        for calls in 0..40 {
            let fs = run.fs.kill();
            fs.crash_at(fs.calls() + calls);
            drop(open(&fs, &run.setup, &run.clock));
            for seed in 0..20 {
                let after = fs.crash(&CrashPlan::random(seed));
                open(&after, &run.setup, &run.clock)
                    .unwrap_or_else(|error| panic!("mode {mode}, call {calls}, seed {seed}: {error}"));
            }
        }
    }
}

#[test]
fn a_segment_is_never_longer_than_the_settings_say() {
    // What is left of its last block is too little to try a direct write in.
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(3000), Op::Append(900), Op::Close]);
    let fs = run.fs.kill();
    let log = open(&fs, &run.setup, &run.clock).expect("it opens");
    let length = fs.read_file(FIRST).expect("a segment").len() as u64;
    assert!(length <= run.setup.config.segment_bytes_max, "{length} bytes");
    log.append(&[1; 20]).expect("an append");
}
