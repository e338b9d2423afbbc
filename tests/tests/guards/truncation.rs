//! Truncation at both ends, where something fails or is damaged.

use wal::fs::sim::{Fault, Operation, errno};
use wal::{Boundary, Lsn};
use wal_tests::oracle::Death;
use wal_tests::recovery::check_recovery;
use wal_tests::run::{Op, Run};

use super::{BATCH, BUFFERED, FIRST, NONE, SECOND, SYNC, allowed, names, setup};

const MODES: [usize; 3] = [SYNC, BATCH, NONE];

fn lsn(run: &Run, index: usize) -> Lsn {
    Lsn::new(run.model.records[index].lsn)
}

#[test]
fn a_cut_that_fails_once_it_is_committed_poisons() {
    for mode in MODES {
        let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush];
        let run = Run::through(&setup(mode, BUFFERED), &ops);
        run.fs.plan(Fault::error(errno::EIO).on(Operation::Remove).name("0000000000000003.wal"));
        run.fs.plan(Fault::error(errno::EIO).on(Operation::Remove).name("0000000000000003.prepare"));
        let error = run.log().truncate_after(lsn(&run, 0)).expect_err("it could not be finished");
        assert!(error.is_poisoned(), "mode {mode}: {error}");
        assert!(run.log().append(b"late").expect_err("the log is poisoned").is_poisoned(), "mode {mode}");
    }
}

#[test]
fn a_cut_for_which_there_is_no_room_leaves_nothing_behind() {
    for mode in MODES {
        let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Flush];
        let run = Run::through(&setup(mode, BUFFERED), &ops);
        let before = names(&run);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("0000000000000002.prepare").always());
        let error = run.log().truncate_after(lsn(&run, 0)).expect_err("there is no room for the next segment");
        assert!(error.is_full() && !error.is_poisoned(), "mode {mode}: {error}");
        assert_eq!(names(&run), before, "mode {mode}");
        run.fs.forget_faults();
        check_recovery(&run.fs.kill(), &run.setup, &allowed(&run, Death::Machine), 0).expect("the log is as it was");
    }
}

#[test]
fn a_truncation_without_room_for_a_copy_or_a_next_segment_leaves_the_boundary_for_later() {
    for mode in MODES {
        let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Flush];
        let sealed = [&ops[..], &[Op::Append(3000), Op::Flush]].concat();
        for (ops, name) in [(&ops[..], "0000000000000002.prepare"), (&sealed[..], "0000000000000001.wal.tmp")] {
            let run = Run::through(&setup(mode, BUFFERED), ops);
            run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name(name).always());
            let truncation = run.log().truncate_before(lsn(&run, 1)).expect("a full disk does not stop it");
            assert_eq!(truncation.boundary, Boundary::Deferred, "mode {mode}, {name}");
            assert_eq!(truncation.start_lsn, lsn(&run, 1), "mode {mode}, {name}");
        }
    }
}

#[test]
fn damage_on_the_way_to_a_new_start_or_end_and_damage_that_is_to_be_copied_is_corruption() {
    for mode in MODES {
        for damaged in [0, 3] {
            let ops = [Op::Append(600), Op::Append(700), Op::Append(300), Op::Append(400), Op::Rotate, Op::Flush];
            let run = Run::through(&setup(mode, BUFFERED), &ops);
            let offset = 4096 + run.model.records[damaged].lsn - run.model.records[0].lsn + 100;
            run.fs.flip_bit(FIRST, offset, 3).expect("it is in the segment");
            let before = run.fs.read_file(FIRST).expect("a segment");
            let error = run.log().truncate_before(lsn(&run, 2)).expect_err("it reads the damaged record");
            assert!(error.is_corruption(), "mode {mode}, record {damaged}: {error}");
            if damaged == 0 {
                let error = run.log().truncate_after(lsn(&run, 2)).expect_err("it reads the damaged record");
                assert!(error.is_corruption(), "mode {mode}, record {damaged}: {error}");
            }
            assert!(run.fs.read_file(FIRST).expect("a segment") == before, "the original is kept");
        }
    }
}

#[test]
fn a_segment_that_took_the_place_of_another_is_not_copied() {
    let ops = [Op::Append(600), Op::Append(3000), Op::Append(500), Op::Append(3000), Op::Append(3000), Op::Flush];
    for truncates_end in [false, true] {
        let run = Run::through(&setup(SYNC, BUFFERED), &ops);
        // Both have the records of one log, and the second one's place is asked for.
        run.fs.copy_file(FIRST, SECOND).expect("a segment");
        let target = Lsn::new(run.model.records[2].lsn + 8);
        let result = if truncates_end { run.log().truncate_after(target) } else { run.log().truncate_before(target) };
        let error = result.expect_err("it is another segment");
        assert!(error.is_corruption(), "{error}");
        assert!(error.to_string().contains("header"), "{error}");
    }
}

#[test]
fn a_recycled_segment_that_cannot_be_used_again_does_not_stay() {
    let ops = [Op::Append(3000), Op::Append(3000), Op::Append(3000), Op::Flush, Op::BeforeWhole(100)];
    let mut run = Run::through(&setup(SYNC, BUFFERED), &ops);
    let kept: Vec<String> = names(&run).into_iter().filter(|name| name.ends_with(".recycle")).collect();
    assert_eq!(kept.len(), 2, "{kept:?}");
    // Its file is traced and failed under the name that it was born with.
    run.fs.plan(Fault::error(errno::EIO).on(Operation::Open).name(&kept[1]));
    run.planned_errnos = vec![errno::EIO];
    for _ in 0..3 {
        run.apply(Op::Append(3000)).expect("it works, or the one that finds it fails");
    }
    assert!(!names(&run).contains(&kept[1]), "{:?}", names(&run));
}
