//! Faults 24 to 33: rotation, preparation, recycling.

use wal::fs::sim::{Fault, LostSectors, errno};
use wal_tests::oracle::{DIR, Death, check_recovery, open};
use wal_tests::run::Op;

use crate::*;

/// Removes two segments, whose files are then used again.
const RECYCLE: [Op; 8] = [
    Op::Append(4000),
    Op::Append(3000),
    Op::Append(3500),
    Op::Flush,
    Op::BeforeWhole(100),
    Op::Append(2000),
    Op::Append(3000),
    Op::Append(40),
];

#[test]
fn fault_24_a_crash_at_any_call_of_a_rotation_recovers() {
    crash_in_every_mode(&[Op::Append(100), Op::Rotate, Op::Append(20), Op::Rotate, Op::Append(1)], 4);
}

#[test]
fn fault_25_no_record_is_acknowledged_in_a_segment_whose_name_may_be_lost() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, 0), &[Op::Append(100), Op::Rotate, Op::Append(20), Op::AppendDurable(9)]);
        assert_eq!(
            shown(&after_a_crash(&run, 0)),
            payloads(&run),
            "mode {mode}: the names went, and the records with them"
        );
    }
}

#[test]
fn fault_26_nothing_is_replayed_past_a_tail_that_the_old_segment_lost() {
    // The last record of the first segment and the first one of the second are unsynced, and any of them may persist alone.
    let ops = [Op::AppendDurable(100), Op::AppendWritten(3000), Op::AppendWritten(3000), Op::Append(20)];
    for mode in [SYNC, BATCH, NONE] {
        crash(&setup(mode, BUFFERED), &ops, 3);
    }
}

#[test]
fn fault_27_a_preparation_that_fails_leaves_the_old_segment_usable_and_is_tried_again() {
    for errno in [errno::ENOSPC, errno::EIO] {
        for mode in [SYNC, BATCH, NONE] {
            let mut failures = 0;
            for number in 0..20 {
                let mut run = Run::through(&setup(mode, 0), &[Op::Append(3000)]);
                run.fs.plan(Fault::error(errno).name("0000000000000002.prepare").skip(number));
                let Err(error) = run.log().append(&[1; 3000]) else { continue };
                if error.is_poisoned() || run.log().poll().is_err() {
                    // The rename's outcome is not known: a failed one of those is a failure of the structure.
                    continue;
                }
                failures += 1;
                assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno), "{error}");
                run.apply(Op::Append(40)).expect("the old segment has room for this");
                run.fs.forget_faults();
                run.apply(Op::Append(3000)).expect("the next segment is prepared now");
                run.apply(Op::Flush).expect("a flush");
                assert_eq!(shown(&after_a_crash(&run, number)), payloads(&run));
            }
            // An append tries once more by itself, so most single failures are not even seen.
            assert!(errno == errno::EIO || failures < 20, "{failures} failures");
        }
    }
}

#[test]
fn fault_27_an_append_is_told_why_no_segment_can_be_prepared() {
    for errno in [errno::ENOSPC, errno::EIO] {
        let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(3000)]);
        run.fs.plan(Fault::error(errno).name("0000000000000002.prepare").always());
        let error = run.log().append(&[1; 3000]).expect_err("there is no next segment");
        assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno), "{error}");
        run.apply(Op::Append(40)).expect("the old segment has room for this");
        run.fs.forget_faults();
        run.apply(Op::Append(3000)).expect("the next segment is prepared now");
        assert_eq!(shown(&after_a_crash(&run, 0)), payloads(&run));
    }
}

#[test]
fn fault_28_of_two_files_that_claim_one_segment_the_identity_decides() {
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Rotate, Op::Append(20), Op::Reopen]);
    let good = run.fs.kill();
    for (from, to) in
        [(FIRST, SECOND), (SECOND, FIRST), (SECOND, "/log/0000000000000004.wal"), (FIRST, "/log/0000000000000003.wal")]
    {
        let claimed = good.kill();
        claimed.copy_file(from, to).expect("the file is there");
        let before = claimed.fingerprint();
        let error = open(&claimed, &run.setup, &run.clock).expect_err("it holds another segment");
        assert!(error.is_corruption(), "{from} under the name {to}: {error}");
        assert_eq!(claimed.fingerprint(), before, "what is refused is not changed");
    }
    // A name that is no segment's claims nothing, whatever the file holds.
    for name in ["0000000000000002.wal.bak", "2.wal", "000000000000000A.wal"] {
        let claimed = good.kill();
        claimed.copy_file(SECOND, format!("{DIR}/{name}")).expect("the file is there");
        assert_eq!(shown(&seen(&claimed, &run.setup)), payloads(&run), "{name}");
    }
}

#[test]
fn fault_30_a_tail_of_zeros_is_a_clean_end_and_nothing_is_cut() {
    for mode in [SYNC, BATCH, NONE] {
        for variant in [0, BUFFERED] {
            let run = Run::through(&setup(mode, variant), &[Op::AppendDurable(100), Op::AppendDurable(700)]);
            let log = open(&run.fs.crash(&wal::fs::sim::CrashPlan::keep_nothing()), &run.setup, &run.clock)
                .expect("it opens");
            assert_eq!(log.recovery_report().cut, None, "mode {mode}, variant {variant}");
            assert_eq!(log.recovery_report().state, wal::FoundState::Kept);
        }
    }
}

#[test]
fn fault_31_a_stale_record_behind_a_torn_one_in_recycled_space_is_rejected() {
    let one = Op::Append(488);
    let mut ops = vec![one; 17];
    ops.extend([Op::Flush, Op::BeforeWhole(100)]);
    ops.extend([one; 12]);
    for mode in [SYNC, BATCH, NONE] {
        let count = crash(&setup(mode, BUFFERED), &ops, 12);
        println!("mode {mode}: {count}");
    }
    // The zeros behind the last record keep what was there before from looking like a torn write.
    let run = Run::through(&setup(SYNC, BUFFERED), &ops[..28]);
    assert!(run.log().stats().segments_recycled > 0, "no file was used again");
    let log = open(&run.fs.kill(), &run.setup, &run.clock).expect("it opens");
    assert_eq!(log.recovery_report().cut, None, "stale bytes were taken for a torn tail");
}

#[test]
fn fault_32_a_recycled_file_is_not_accepted_under_its_new_name_before_its_header_is() {
    for lost in [LostSectors::Zeros, LostSectors::Stale] {
        for mode in [SYNC, BATCH, NONE] {
            for variant in [0, BUFFERED] {
                let mut setup = setup(mode, variant);
                setup.sim.lost_sectors = lost;
                crash(&setup, &RECYCLE, 4);
            }
        }
    }
}

#[test]
fn fault_33_a_payload_that_holds_frames_of_its_own_log_is_never_taken_for_them() {
    // The frames of one log, as they stand in its first segment, are the payload of a record of another one with the same id. The search
    // behind a torn record must not find them either.
    let donor = Run::through(&setup(NONE, BUFFERED), &[Op::Append(8), Op::Append(16), Op::Append(24)]);
    let bytes = donor.fs.read_file(FIRST).expect("a segment");
    let frames = &bytes[4096..4096 + 200];
    for shift in (0..64).step_by(8) {
        let run = Run::through(&setup(NONE, BUFFERED), &[Op::Append(8), Op::Flush]);
        let payload = [&vec![0; shift][..], frames].concat();
        run.log().append(&payload).expect("an append");
        let whole = shown(&seen(&run.fs.kill(), &run.setup));
        assert_eq!(whole, [payloads(&run)[0].clone(), payload.clone()], "shift {shift}");
        // Its header is torn, so all that it holds lies bare.
        let torn = run.fs.kill();
        torn.flip_bit(FIRST, 4096 + 32 + 3, 1).expect("it is in the file");
        check_recovery(&torn, &run.setup, &allowed(&run, Death::Machine), 0)
            .unwrap_or_else(|why| panic!("shift {shift}: {why}"));
    }
}
