//! Repair: what it must not take, must not leave, and must not do before something else is durable.

use std::path::Path;
use std::sync::Arc;

use wal::fs::FileSystem;
use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
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
