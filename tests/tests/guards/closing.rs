//! What a close leaves behind, and what the control file says and when.

use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
use wal::inspect::{Depth, SegmentState, StatisticsFile, statistics, survey};
use wal::{Boundary, ErrorKind, Lsn, TruncatePolicy};
use wal_tests::recovery::{DIR, open};
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, NO_RECYCLING, NONE, SYNC, names, setup};

const MODES: [usize; 3] = [SYNC, BATCH, NONE];
const RESERVE: u64 = 4;

fn lsn(run: &Run, index: usize) -> Lsn {
    Lsn::new(run.model.records[index].lsn)
}

fn lengths(fs: &SimFs) -> Vec<(String, usize)> {
    let mut names = fs.names(DIR).expect("the log is there");
    names.sort();
    let length = |name: &String| fs.read_file(format!("{DIR}/{name}")).expect("a file").len();
    names.iter().map(|name| (name.clone(), length(name))).collect()
}

#[test]
fn the_lengths_that_a_close_gives_the_segments_are_durable() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(100), Op::Close];
        let run = Run::through(&setup(mode, BUFFERED), &ops);
        assert_eq!(lengths(&run.fs.crash(&CrashPlan::keep_nothing())), lengths(&run.fs), "mode {mode}");
    }
}

#[test]
fn a_close_makes_durable_what_an_earlier_one_did_that_died() {
    for mode in MODES {
        for calls in 0.. {
            let mut run =
                Run::through(&setup(mode, BUFFERED), &[Op::Append(3000), Op::Append(3000), Op::Append(100), Op::Flush]);
            run.fs.crash_at(run.fs.calls() + calls);
            let is_done = run.log().close().is_ok();
            run.log = None;
            // The process died and the machine did not.
            let fs = run.fs.kill();
            let log = open(&fs, &run.setup, &run.clock).expect("it opens");
            log.close().expect("a clean close");
            let after = fs.crash(&CrashPlan::keep_nothing());
            assert_eq!(lengths(&after), lengths(&fs), "mode {mode}, died at call {calls}");
            if is_done {
                assert!(calls > 3, "a close makes more than {calls} calls");
                break;
            }
        }
    }
}

#[test]
fn a_log_that_says_that_it_was_closed_has_nothing_beside_its_segments() {
    // One segment waits to be used again and one is prepared when the log is closed.
    let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush, Op::BeforeWhole(100), Op::Append(900)];
    for mode in MODES {
        for calls in 0.. {
            let mut run = Run::through(&setup(mode, BUFFERED), &ops);
            run.fs.crash_at(run.fs.calls() + calls);
            let is_done = run.log().close().is_ok();
            run.log = None;
            // The first undecided items are the names.
            for kept in 0..16 {
                let after = run.fs.crash(&CrashPlan::mask(kept));
                let found = survey(&after, DIR, Depth::Tail, |_| {}).expect("it can be looked at");
                if !found.control.is_some_and(|control| control.is_closed) {
                    continue;
                }
                let names = after.names(DIR).expect("the log is there");
                let is_beside = |name: &String| name.ends_with(".recycle") || name.ends_with(".prepare");
                assert!(!names.iter().any(is_beside), "mode {mode}, call {calls}, kept {kept}: {names:?}");
                let is_used = found.segments.iter().all(|segment| segment.state != SegmentState::Prepared);
                assert!(is_used, "mode {mode}, call {calls}, kept {kept}: {:?}", found.segments);
            }
            if is_done {
                assert!(calls > 5, "a close makes more than {calls} calls");
                break;
            }
        }
    }
}

#[test]
fn the_witness_of_a_closed_log_is_its_end() {
    for mode in MODES {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200)]);
        let end = run.log().next_lsn();
        run.apply(Op::Close).expect("a clean close");
        let found = survey(&run.fs, DIR, Depth::Tail, |_| {}).expect("it can be looked at");
        assert_eq!(found.control.expect("a control file").witness_lsn, end, "mode {mode}");
    }
}

#[test]
fn the_reserve_that_was_given_up_is_there_again_after_a_truncation() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(100), Op::Flush];
        let run = Run::through(&setup(mode, BUFFERED | RESERVE | NO_RECYCLING), &ops);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp"));
        run.log().declare_checkpoint(lsn(&run, 2)).expect("there is a reserve");
        assert!(!names(&run).contains(&"reserve".to_owned()), "mode {mode}: {:?}", names(&run));
        run.log().truncate_before_with(lsn(&run, 2), TruncatePolicy::WholeSegments).expect("there is room now");
        assert!(names(&run).contains(&"reserve".to_owned()), "mode {mode}: {:?}", names(&run));
    }
}

#[test]
fn a_prepared_segment_is_given_up_where_there_is_no_room_for_the_control_file() {
    for mode in MODES {
        // The second record reaches into the reserve of the segment, so the next one is prepared for it, and not used.
        let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &[Op::Append(3000), Op::Append(900), Op::Flush]);
        let prepared = "0000000000000002.wal".to_owned();
        assert!(names(&run).contains(&prepared), "{:?}", names(&run));
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp"));
        run.log().declare_checkpoint(lsn(&run, 1)).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert!(!names(&run).contains(&prepared), "mode {mode}: {:?}", names(&run));
        run.log().append(&[1; 3000]).expect("it is prepared anew");
    }
}

#[test]
fn a_truncation_whose_copy_takes_the_last_room_still_frees_what_is_before_the_boundary() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(600), Op::Append(3000), Op::Append(600), Op::Append(3000), Op::Flush];
        let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
        // There is room for the copy and then none for the control file.
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp").times(2));
        let truncation = run.log().truncate_before(lsn(&run, 3)).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        assert_eq!((truncation.boundary, truncation.start_lsn), (Boundary::Deferred, lsn(&run, 3)), "mode {mode}");
        let left = names(&run);
        assert!(!left.contains(&"0000000000000001.wal".to_owned()), "mode {mode}: {left:?}");
        assert!(!left.iter().any(|name| name.ends_with(".tmp")), "mode {mode}: {left:?}");
    }
}

#[test]
fn a_checkpoint_counts_only_once_the_control_file_names_it() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Rename).name("control.tmp"));
        run.log().declare_checkpoint(lsn(&run, 1)).expect_err("there is no room for the name");
        assert_eq!(run.log().checkpoint_lsn(), None, "mode {mode}");
        run.log().declare_checkpoint(lsn(&run, 1)).expect("there is room now");
        let after = open(&run.fs.crash(&CrashPlan::keep_nothing()), &run.setup, &run.clock).expect("it opens");
        assert_eq!(after.checkpoint_lsn(), Some(lsn(&run, 1)), "mode {mode}: it was declared durably");
    }
}

#[test]
fn a_directory_sync_that_fails_poisons() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(100), Op::Flush];
        let run = Run::through(&setup(mode, BUFFERED | NO_RECYCLING), &ops);
        // The first one is that of the control file, the second one that of the removed segments.
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir).skip(1));
        let error = run
            .log()
            .truncate_before_with(lsn(&run, 2), TruncatePolicy::WholeSegments)
            .expect_err("nobody knows what a crash would leave");
        assert_eq!(error.kind(), ErrorKind::Io, "mode {mode}: {error}");
        assert!(run.log().append(b"late").expect_err("the log is poisoned").is_poisoned(), "mode {mode}");
    }
}

/// Two segments wait to be used again.
const RECYCLED: [Op; 5] = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush, Op::BeforeWhole(100)];

fn waiting(run: &Run) -> usize {
    names(run).iter().filter(|name| name.ends_with(".recycle")).count()
}

#[test]
fn what_waits_to_be_used_again_is_given_back_when_somebody_asks() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &RECYCLED);
        assert_eq!(waiting(&run), 2, "mode {mode}");
        assert_eq!(run.log().release_recycled().expect("they are removed"), 2 * (8 << 10), "mode {mode}");
        assert_eq!((waiting(&run), run.log().release_recycled().expect("there are none")), (0, 0), "mode {mode}");
        run.log().append(&[1; 3000]).expect("the next segment is made anew");
        run.log().close().expect("a clean close");
        assert_eq!(run.log().release_recycled().expect_err("it is closed").kind(), ErrorKind::Closed, "mode {mode}");
    }
}

#[test]
fn what_waits_to_be_used_again_is_given_up_where_there_is_no_room_for_the_control_file() {
    for mode in MODES {
        let run = Run::through(&setup(mode, BUFFERED), &RECYCLED);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("control.tmp"));
        run.log().declare_checkpoint(run.log().durable_lsn()).expect("there is room then");
        assert_eq!(waiting(&run), 0, "mode {mode}");
    }
}

#[test]
fn the_statistics_file_says_what_kept_a_log_from_being_closed() {
    for mode in MODES {
        let mut setup = setup(mode, BUFFERED);
        setup.config.statistics_interval = Some(std::time::Duration::from_secs(1));
        let run = Run::through(&setup, &[Op::Append(100), Op::Flush]);
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SetLen));
        let error = run.log().close().expect_err("the length is not set");
        match statistics(&run.fs, DIR).expect("it can be looked at") {
            StatisticsFile::Valid(found) => assert_eq!(found.failure, Some(error.to_string()), "mode {mode}"),
            other => panic!("mode {mode}: {other:?}"),
        }
    }
}
