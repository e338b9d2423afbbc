//! Errors that must come back, and those that must not.

use wal::ErrorKind;
use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, errno};
use wal_tests::oracle::Death;
use wal_tests::recovery::{DIR, check_recovery, open};
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, NONE, SYNC, allowed, setup};

const MODES: [usize; 3] = [SYNC, BATCH, NONE];

#[test]
fn a_directory_whose_sync_runs_out_of_space_poisons() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::SyncDir));
        let error = run.log().declare_checkpoint(run.log().durable_lsn()).expect_err("nobody knows which name stays");
        assert!(!error.is_full(), "mode {mode}: room does not mend it: {error}");
        assert!(run.log().append(b"late").expect_err("the log is poisoned").is_poisoned(), "mode {mode}");
    }
}

#[test]
fn a_write_that_takes_no_byte_is_a_failed_write() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        run.fs.plan(Fault::new(Effect::Short(0)).on(Operation::Write).times(1000));
        let error = run.log().append(b"not taken").expect_err("nothing was written");
        assert!(error.is_poisoned(), "mode {mode}: {error}");
    }
}

#[test]
fn where_direct_writes_are_refused_the_page_cache_serves() {
    let mut setup = setup(SYNC, 0);
    setup.sim.direct_writes = false;
    let run = Run::through(&setup, &[Op::Append(100), Op::Append(4000), Op::Append(3000), Op::Reopen, Op::Append(9)]);
    let after = run.fs.crash(&CrashPlan::keep_nothing());
    check_recovery(&after, &setup, &allowed(&run, Death::Machine), 0).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_close_that_cannot_cut_or_sync_a_file_says_so_and_leaves_no_mark() {
    for mode in MODES {
        for operation in [Operation::SetLen, Operation::SyncAll, Operation::SyncDir] {
            let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(4000), Op::Flush]);
            run.fs.plan(Fault::error(errno::EIO).on(operation));
            run.log().close().expect_err("it could not be closed cleanly");
            let seen = check_recovery(&run.fs.kill(), &run.setup, &allowed(&run, Death::Machine), 0);
            assert_eq!(seen.unwrap_or_else(|why| panic!("mode {mode}, {operation:?}: {why}")).records.len(), 2);
        }
    }
}

#[test]
fn a_closed_log_changes_no_structure() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        let (log, lsn) = (run.log().clone(), wal::Lsn::new(run.model.records[1].lsn));
        log.close().expect("a clean close");
        run.fs.record_trace(true);
        for error in
            [log.truncate_before(lsn).map(drop), log.truncate_after(lsn).map(drop), log.declare_checkpoint(lsn)]
        {
            assert_eq!(error.expect_err("it is closed").kind(), ErrorKind::Closed, "mode {mode}");
        }
        log.close().expect("a closed log stays closed");
        let trace = run.fs.take_trace();
        assert!(trace.is_empty(), "mode {mode}: {trace:?}");
    }
}

#[test]
fn a_reserve_larger_than_a_segment_may_be_is_refused_and_creates_nothing() {
    let mut setup = setup(SYNC, 0);
    setup.config.reserve_bytes = (1 << 30) + 1;
    let fs = wal::fs::sim::SimFs::with_config(setup.sim.clone());
    let error = open(&fs, &setup, &Default::default()).expect_err("it is out of range");
    assert_eq!(error.kind(), ErrorKind::Invalid, "{error}");
    fs.names(DIR).expect_err("there is no directory");
}
