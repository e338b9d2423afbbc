//! Repair: what it must not take, must not leave, and must not do before something else is durable.

use std::path::Path;
use std::sync::Arc;

use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
use wal::fs::{FileSystem, OpenMode};
use wal::repair::{Repaired, apply, plan};
use wal::{Error, ErrorKind};
use wal_tests::recovery::{DIR, observe, open};
use wal_tests::run::{Op, Run};

use super::files::forge_header;
use super::{BUFFERED, FIRST, NO_RECYCLING, SECOND, SYNC, setup};

const THIRD: &str = "/log/0000000000000003.wal";
const CONTROL: &str = "/log/control";
const RESERVE: u64 = 4;

const THREE_SEGMENTS: [Op; 4] = [Op::Append(600), Op::Append(3000), Op::Append(3000), Op::Append(3000)];

fn repair(fs: &SimFs) -> Result<Repaired, Error> {
    let plan = plan(fs, DIR, |_| {})?;
    apply(Arc::new(fs.clone()), DIR, &plan, |_| {})
}

/// A closed log of three segments with a damaged record in the first one.
fn damaged(variant: u64) -> (Run, SimFs) {
    let run = Run::through(&setup(SYNC, BUFFERED | variant), &[&THREE_SEGMENTS[..], &[Op::Close]].concat());
    let fs = run.fs.kill();
    let offset = 4096 + run.model.records[1].lsn - run.model.records[0].lsn + 50;
    fs.flip_bit(FIRST, offset, 3).expect("it is in the segment");
    (run, fs)
}

fn names(fs: &SimFs) -> Vec<String> {
    fs.names(DIR).expect("the log is there")
}

#[test]
fn a_repair_of_a_lost_end_uses_no_lsn_again() {
    for lost in [&[THIRD][..], &[SECOND, THIRD]] {
        let run = Run::through(&setup(SYNC, BUFFERED), &[&THREE_SEGMENTS[..], &[Op::Reopen, Op::Append(50)]].concat());
        let fs = run.fs.kill();
        for path in lost {
            fs.remove_file(path).expect("a segment");
        }
        repair(&fs).expect("it can be repaired");
        let log = open(&fs, &run.setup, &run.clock).expect("it opens");
        assert!(log.next_lsn().get() >= run.model.handed, "{lost:?}: LSN {} comes twice", log.next_lsn());
    }
}

#[test]
fn nothing_of_a_newer_format_is_repaired() {
    for path in [CONTROL, SECOND] {
        let (_, fs) = damaged(0);
        let mut bytes = fs.read_file(path).expect("a file");
        forge_header(&mut bytes, |header| header[8] = 2);
        fs.write_file(path, &bytes).expect("a file");
        let error = plan(&fs, DIR, |_| {}).expect_err("it is not known what it means");
        assert_eq!(error.kind(), ErrorKind::UnsupportedVersion, "{path}: {error}");
    }
}

#[test]
fn a_repair_brings_nothing_back_that_was_cut() {
    let mut run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), &THREE_SEGMENTS);
    let void = run.fs.read_file(THIRD).expect("a segment");
    for op in [Op::After(30), Op::Append(100), Op::Append(200), Op::Close] {
        run.apply(op).expect("it works");
    }
    let fs = run.fs.kill();
    fs.write_file(THIRD, &void).expect("a segment");
    fs.flip_bit(FIRST, 4096 + 100, 3).expect("it is in the segment");
    repair(&fs).expect("it can be repaired");
    let log = open(&fs, &run.setup, &run.clock).expect("it opens");
    let shown = observe(&log).expect("it can be read").records;
    assert!(
        shown.iter().all(|shown| run.model.records.iter().any(|record| record.lsn == shown.0)),
        "{} records",
        shown.len()
    );
}

#[test]
fn a_repair_of_a_lost_start_says_where_the_log_starts_now() {
    let run = Run::through(&setup(SYNC, BUFFERED), &[&THREE_SEGMENTS[..], &[Op::Close]].concat());
    let fs = run.fs.kill();
    fs.remove_file(FIRST).expect("a segment");
    repair(&fs).expect("it can be repaired");
    let log = open(&fs, &run.setup, &run.clock).expect("it opens");
    let first = log.reader(wal::Lsn::ZERO).expect("a reader").next().expect("a record").expect("it reads");
    assert_eq!(log.start_lsn(), first.lsn);
}

#[test]
fn a_repair_for_which_there_is_no_room_leaves_nothing_behind() {
    let (_, fs) = damaged(0);
    let before = names(&fs);
    for failing in ["control.tmp", "0000000000000001.wal.tmp", "report"] {
        let fs = fs.kill();
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name_prefix(failing).always());
        let Err(error) = repair(&fs) else { continue };
        assert!(error.is_full(), "{failing}: {error}");
        let left: Vec<String> = names(&fs).into_iter().filter(|name| !before.contains(name)).collect();
        assert!(left.iter().all(|name| name.starts_with("quarantine")), "{failing}: {left:?}");
    }
    // What is to be kept does not fit: nothing half done takes the room that is left.
    let fs = fs.kill();
    fs.remove_file(CONTROL).expect("the control file");
    fs.write_file(CONTROL, &[1; 4096]).expect("a damaged one");
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("0000000000000001.wal").always());
    assert!(repair(&fs).expect_err("there is no room").is_full());
    for quarantine in names(&fs).into_iter().filter(|name| name.starts_with("quarantine")) {
        let kept = fs.names(Path::new(DIR).join(&quarantine)).expect("it is there");
        assert_eq!(kept, Vec::<String>::new(), "{quarantine}");
    }
}

#[test]
fn a_repair_gives_the_reserve_up_where_there_is_no_room_for_the_control_file() {
    let (_, fs) = damaged(RESERVE);
    let controls = |fs: &SimFs| fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp"));
    controls(&fs);
    repair(&fs).expect("there is a reserve to give up");
}

#[test]
fn what_a_repair_removes_is_kept_durably_also_if_an_earlier_repair_died() {
    let (_, original) = damaged(0);
    for calls in 0..400 {
        let fs = original.kill();
        let died_at = fs.calls() + calls;
        fs.crash_at(died_at);
        if repair(&fs).is_ok() {
            assert!(calls > 20, "a repair makes more than {calls} calls");
            return;
        }
        // The process died and the machine did not.
        let fs = fs.kill();
        let Ok(repaired) = repair(&fs) else { continue };
        let Some(quarantine) = repaired.quarantine else { continue };
        let after = fs.crash(&CrashPlan::keep_nothing());
        let kept = after.names(Path::new(DIR).join(&quarantine)).unwrap_or_default();
        assert!(kept.iter().any(|name| name == "report.txt"), "died at call {calls}: {quarantine} has {kept:?}");
        assert!(after.open_dir(Path::new(DIR)).is_ok());
    }
    panic!("a repair makes more calls than that");
}

/// A closed log whose last record is damaged, so that its end and with it the mark of the close change.
fn damaged_at_its_end(variant: u64) -> (Run, SimFs) {
    let (run, fs) = damaged(variant);
    fs.flip_bit(THIRD, 4096 + 50, 3).expect("it is in the segment");
    (run, fs)
}

#[test]
fn a_repair_that_has_to_replace_the_control_file_gives_the_reserve_up_for_it() {
    for skip in 0..2 {
        let (_, fs) = damaged_at_its_end(RESERVE);
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp").skip(skip));
        repair(&fs).unwrap_or_else(|error| panic!("replacement {skip}: {error}"));
    }
}

#[test]
fn a_repair_that_gives_up_takes_its_own_replacements_back() {
    for failing in ["0000000000000003.wal.tmp", "control.tmp"] {
        let (_, fs) = damaged_at_its_end(0);
        fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name(failing).always());
        assert!(repair(&fs).expect_err("there is no room").is_full(), "{failing}");
        assert!(!names(&fs).iter().any(|name| name.ends_with(".tmp")), "{failing}: {:?}", names(&fs));
    }
}

/// A log of which a segment was written anew, and that segment as the only one under its temp name: in the page cache alone, as somebody
/// leaves it who died.
fn stranded(ops: &[Op], number: u64, forge: impl FnOnce(&mut [u8])) -> (Run, SimFs) {
    let run = Run::through(&setup(SYNC, BUFFERED | NO_RECYCLING), ops);
    let fs = run.fs.kill();
    let name = format!("{number:016x}.wal");
    let mut bytes = fs.read_file(format!("{DIR}/{name}")).expect("a segment");
    assert_ne!(bytes[88..96], [0; 8], "it was written as a whole");
    fs.remove_file(format!("{DIR}/{name}")).expect("a segment");
    forge_header(&mut bytes, forge);
    let dir = fs.open_dir(Path::new(DIR)).expect("the log is there");
    let file = dir.open(&format!("{name}.tmp"), OpenMode::CreateNew).expect("a new file");
    assert_eq!(file.write_at(&bytes, 0).expect("it is written"), bytes.len());
    (run, fs)
}

/// The first of three segments was written anew by a truncation.
const REWRITTEN_START: [Op; 7] =
    [Op::Append(600), Op::Append(700), Op::Append(3000), Op::Append(3000), Op::Flush, Op::Before(25), Op::Close];
/// The second of four segments was written anew by a cut.
const REWRITTEN_MIDDLE: [Op; 9] = [
    Op::Append(3000),
    Op::Append(1000),
    Op::Append(700),
    Op::Append(600),
    Op::Flush,
    Op::After(50),
    Op::Append(3000),
    Op::Append(3000),
    Op::Close,
];

#[test]
fn a_replacement_that_a_repair_adopts_is_durable_then() {
    let (run, fs) = stranded(&REWRITTEN_START, 1, |_| {});
    let plan = plan(&fs, DIR, |_| {}).expect("it can be repaired");
    assert!(plan.losses.is_empty(), "{plan}");
    repair(&fs).expect("it can be repaired");
    let log = open(&fs.crash(&CrashPlan::keep_nothing()), &run.setup, &run.clock).expect("it opens");
    assert_eq!(observe(&log).expect("it can be read").records.len(), 3);
}

#[test]
fn a_replacement_that_was_left_behind_is_not_thrown_away_by_a_repair_that_gives_up() {
    let (_, fs) = stranded(&REWRITTEN_START, 1, |_| {});
    fs.flip_bit(THIRD, 4096 + 50, 3).expect("it is in the segment");
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("0000000000000003.wal.tmp").always());
    assert!(repair(&fs).expect_err("there is no room").is_full());
    assert!(names(&fs).contains(&"0000000000000001.wal.tmp".to_owned()), "{:?}", names(&fs));
}

#[test]
fn a_replacement_that_does_not_fit_between_its_neighbours_is_evidence_and_no_part_of_the_log() {
    let plan_of = |fs: &SimFs| plan(fs, DIR, |_| {}).expect("it can be repaired");
    let (_, fs) = stranded(&REWRITTEN_MIDDLE, 2, |_| {});
    assert!(plan_of(&fs).losses.is_empty(), "this one fits: {}", plan_of(&fs));
    // It names another end of the segment before it, or the segment behind it names another end of it.
    let (_, other_before) = stranded(&REWRITTEN_MIDDLE, 2, |header| header[64] ^= 1);
    let (_, other_behind) = stranded(&REWRITTEN_MIDDLE, 2, |_| {});
    let mut bytes = other_behind.read_file(THIRD).expect("a segment");
    forge_header(&mut bytes, |header| header[64] ^= 1);
    other_behind.write_file(THIRD, &bytes).expect("a segment");
    for fs in [other_before, other_behind] {
        let plan = plan_of(&fs);
        assert!(!plan.losses.is_empty(), "its records are not those that are lost: {plan}");
        let quarantine = repair(&fs).expect("it can be repaired").quarantine.expect("something is kept");
        let kept = fs.names(Path::new(DIR).join(&quarantine)).expect("it is there");
        assert!(kept.contains(&"0000000000000002.wal.tmp".to_owned()), "{kept:?}");
    }
}

/// Puts the files of a log back as they were.
fn put_back(fs: &SimFs, original: &SimFs) {
    for name in names(original).iter().filter(|name| *name != "lock") {
        let path = format!("{DIR}/{name}");
        fs.write_file(&path, &original.read_file(&path).expect("a file")).expect("a file");
    }
}

#[test]
fn the_quarantine_of_a_repair_holds_its_own_report() {
    // Both damage the first segment alike, and one of them the third as well.
    let (_, more) = damaged_at_its_end(0);
    let (_, less) = damaged(0);
    let fs = more.kill();
    repair(&fs).expect("it can be repaired");
    put_back(&fs, &less);
    let report = plan(&fs, DIR, |_| {}).expect("it can be repaired").to_string();
    let quarantine = repair(&fs).expect("it can be repaired").quarantine.expect("something is kept");
    let kept = fs.read_file(format!("{DIR}/{quarantine}/report.txt")).expect("a report");
    assert_eq!(String::from_utf8_lossy(&kept), report);
}

#[test]
fn a_quarantine_of_other_bytes_is_not_taken_for_that_of_this_repair() {
    let (_, one) = damaged(0);
    let other = one.kill();
    let at = 4096 + 624 + 50;
    other.flip_bit(FIRST, at + 1, 3).expect("it is in the segment");
    let report = |fs: &SimFs| plan(fs, DIR, |_| {}).expect("it can be repaired").to_string();
    assert_eq!(report(&one), report(&other), "the damage reads the same");
    let fs = one.kill();
    repair(&fs).expect("it can be repaired");
    put_back(&fs, &other);
    let quarantine = repair(&fs).expect("it can be repaired").quarantine.expect("something is kept");
    let kept = fs.read_file(format!("{DIR}/{quarantine}/0000000000000001.wal")).expect("a copy");
    assert!(kept == other.read_file(FIRST).expect("a segment"), "what is removed is kept");
}

#[test]
fn a_repair_that_dies_while_it_puts_segments_where_they_belong_loses_none() {
    // Each has the other's name, so the replacement of the one is the only copy of it once the other has its own name.
    let run = Run::through(&setup(SYNC, BUFFERED), &[&THREE_SEGMENTS[..], &[Op::Close]].concat());
    let swapped = run.fs.kill();
    let [first, second] = [FIRST, SECOND].map(|path| swapped.read_file(path).expect("a segment"));
    swapped.write_file(FIRST, &second).expect("a segment");
    swapped.write_file(SECOND, &first).expect("a segment");
    for calls in 0.. {
        let fs = swapped.kill();
        fs.crash_at(fs.calls() + calls);
        let is_done = repair(&fs).is_ok();
        for kept in 0..64 {
            let after = fs.crash(&CrashPlan::mask(kept));
            repair(&after).unwrap_or_else(|error| panic!("call {calls}, kept {kept:b}: {error}"));
            let log = open(&after, &run.setup, &run.clock).expect("it opens");
            let records = observe(&log).expect("it can be read").records.len();
            assert_eq!(records, run.model.records.len(), "call {calls}, kept {kept:b}");
        }
        if is_done {
            assert!(calls > 20, "a repair makes more than {calls} calls");
            break;
        }
    }
}

#[test]
fn a_log_whose_repair_died_once_its_last_segment_was_replaced_opens() {
    // It counts as not closed from then on, so the mark of the close does not contradict its new end.
    let run = Run::through(&setup(SYNC, BUFFERED), &[&THREE_SEGMENTS[..], &[Op::Close]].concat());
    let damaged = run.fs.kill();
    damaged.flip_bit(THIRD, 4096 + 50, 3).expect("it is in the segment");
    let before = damaged.read_file(THIRD).expect("a segment");
    let mut has_opened = false;
    for calls in 0.. {
        let fs = damaged.kill();
        fs.crash_at(fs.calls() + calls);
        let is_done = repair(&fs).is_ok();
        let after = fs.crash(&CrashPlan::keep_everything());
        if after.read_file(THIRD).expect("a segment") != before {
            let log = open(&after, &run.setup, &run.clock).unwrap_or_else(|error| panic!("call {calls}: {error}"));
            has_opened |= observe(&log).is_ok_and(|seen| seen.records.len() == 3);
        }
        if is_done {
            break;
        }
    }
    assert!(has_opened);
}
