//! Faults 51 to 60: recovery, rot.

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SyncFailure};
use wal::{CutReason, FoundState};
use wal_tests::explore::crash_inside_recovery;
use wal_tests::oracle::{DIR, Death, check_recovery, observe, open};
use wal_tests::run::Op;

use crate::*;

#[test]
fn fault_51_a_crash_at_any_call_of_a_recovery_converges() {
    let ops = [Op::Append(600), Op::Rotate, Op::AppendWritten(20), Op::AppendWritten(700), Op::Submit(3000)];
    for mode in [SYNC, BATCH, NONE] {
        for variant in [0, 7, BUFFERED] {
            let run = Run::through(&setup(mode, variant), &ops);
            for seed in 0..6 {
                let crashed = run.fs.crash(&CrashPlan::random(seed));
                let points = crash_inside_recovery(&run.setup, &crashed, &allowed(&run, Death::Machine), seed);
                assert!(points.unwrap_or_else(|why| panic!("mode {mode}, {variant}, crash {seed}: {why}")) > 10);
            }
        }
    }
}

#[test]
fn fault_52_nothing_that_was_cut_comes_back_after_new_appends() {
    // The tail is torn or not, the process dies at once or after appends that are shorter than what was cut.
    for tail in [Op::AppendWritten(900), Op::SubmitBatch(700), Op::AppendWritten(3500)] {
        for seed in 0..8 {
            let ops =
                [Op::AppendDurable(100), tail, Op::Crash(seed), Op::Append(16), Op::Die, Op::Append(8), Op::Flush];
            for mode in [SYNC, BATCH, NONE] {
                crash(&setup(mode, BUFFERED), &ops, 5);
            }
        }
    }
}

#[test]
fn fault_53_what_recovery_shows_is_durable_although_it_was_only_in_the_page_cache() {
    for mode in [BATCH, NONE] {
        let mut run =
            Run::through(&setup(mode, 0), &[Op::AppendDurable(100), Op::AppendWritten(300), Op::AppendWritten(7)]);
        let written = payloads(&run);
        let killed = run.fs.kill();
        let log = open(&killed, &run.setup, &run.clock).expect("it opens");
        assert_eq!(shown(&observe(&log).expect("it can be read")), written, "the process died, the machine did not");
        let after = seen(&killed.crash(&CrashPlan::keep_nothing()), &run.setup);
        assert_eq!(shown(&after), written, "mode {mode}: shown, and lost by the next crash");

        // After a failed sync the page cache is the only place, and a sync would say that all is well.
        run.planned_errnos = vec![EIO];
        run.fs.configure(|config| config.sync_failure = SyncFailure::PagesDropped);
        run.fs.plan(fails(Operation::SyncData, EIO));
        run.apply(Op::Flush).expect("it fails as planned");
        let killed = run.fs.kill();
        let shown_then = shown(&seen(&killed, &run.setup));
        assert_eq!(shown(&seen(&killed.crash(&CrashPlan::keep_nothing()), &run.setup)), shown_then, "mode {mode}");
    }
}

#[test]
fn fault_54_an_error_of_any_read_fails_the_open_and_truncates_nothing() {
    let run = Run::through(&setup(NONE, 0), &[Op::Append(100), Op::Rotate, Op::Append(20), Op::Flush, Op::Append(50)]);
    let mut reads = 0;
    loop {
        let fs = run.fs.kill();
        let before = fs.fingerprint();
        fs.plan(fails(Operation::Read, EIO).skip(reads));
        let opened = open(&fs, &run.setup, &run.clock);
        if !fs.planned().is_empty() {
            break;
        }
        let error = opened.expect_err("a read of it fails");
        assert!(error.kind() == wal::ErrorKind::Io && !error.is_corruption(), "read {reads}: {error}");
        if fs.fingerprint() == before {
            reads += 1;
            continue;
        }
        check_recovery(&fs.kill(), &run.setup, &allowed(&run, Death::Process), reads)
            .unwrap_or_else(|why| panic!("read {reads}: {why}"));
        reads += 1;
    }
    assert!(reads > 3, "an open makes more reads than {reads}");
}

#[test]
fn fault_57_rot_in_the_last_synced_group_is_cut_and_reported_and_after_a_clean_close_it_is_corruption() {
    let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Append(200), Op::Append(300)]);
    let last = run.model.records[2].lsn;
    let killed = run.fs.kill();
    killed.flip_bit(FIRST, last + 24 + 150, 5).expect("it is in the segment");
    let log = open(&killed, &run.setup, &run.clock).expect("nothing behind it says that it was synced");
    let report = log.recovery_report();
    let cut = report.cut.expect("it is reported");
    assert_eq!((report.state, cut.reason, cut.at.get()), (FoundState::Cut, CutReason::TornRecord, last));
    assert_eq!(observe(&log).expect("it can be read").records.len(), 2);

    run.apply(Op::Close).expect("a clean close");
    let closed = run.fs.kill();
    closed.flip_bit(FIRST, last + 24 + 150, 5).expect("it is in the segment");
    let error = open(&closed, &run.setup, &run.clock).expect_err("the mark of the close says that it was there");
    assert!(error.is_corruption() && error.lsn().map(wal::Lsn::get) == Some(last), "{error}");
}

#[test]
fn fault_58_what_a_device_puts_or_fetches_at_the_wrong_place_is_rejected() {
    let ops = [Op::Append(488), Op::Append(488), Op::Rotate, Op::Append(488), Op::Append(20), Op::Append(700)];
    let effects = [
        Effect::Misdirect(4096),
        Effect::Misdirect(4096 + 512),
        Effect::Misdirect(0),
        Effect::WrongFile,
        Effect::LostWrite,
    ];
    let mut found = 0;
    for effect in effects {
        for operation in [Operation::Write, Operation::Read] {
            for number in 0..14 {
                let setup = setup(SYNC, BUFFERED);
                let mut run = Run::new(&setup);
                run.fs.plan(Fault::new(effect).on(operation).skip(number));
                // Whoever reads back what was misplaced may fail, and then the log is looked at as it is.
                drop(ops.iter().try_for_each(|op| run.apply(*op)));
                run.fs.forget_faults();
                let wanted = payloads(&run);
                let after = run.fs.crash(&CrashPlan::keep_nothing());
                let log = match open(&after, &setup, &run.clock) {
                    Ok(log) => log,
                    Err(error) => {
                        assert!(error.is_corruption(), "{effect:?} on {operation} {number}: {error}");
                        found += 1;
                        continue;
                    }
                };
                match observe(&log) {
                    Ok(observed) => {
                        let prefix = shown(&observed);
                        assert!(
                            wanted.starts_with(&prefix) || prefix.starts_with(&wanted),
                            "{effect:?} on {operation} {number}: wrong records"
                        );
                    }
                    Err(error) => {
                        assert!(error.is_corruption(), "{effect:?} on {operation} {number}: {error}");
                        found += 1;
                    }
                }
            }
        }
    }
    println!("{found} misplaced calls were found as corruption");
    assert!(found > 10, "only {found} were found");
}

#[test]
fn fault_59_an_empty_an_all_zero_and_a_header_only_segment_have_a_meaning() {
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(100), Op::Rotate, Op::Append(20), Op::Flush]);
    let header = run.fs.read_file(SECOND).expect("a segment")[..4096].to_vec();
    let third = format!("{DIR}/0000000000000003.wal");
    let next = format!("{DIR}/0000000000000004.wal");
    let last = if run.fs.read_file(&third).is_ok() { next } else { third };
    // Behind the chain, an empty or all-zero file is a prepared segment, and holds nothing.
    for bytes in [vec![], vec![0; 100], vec![0; 4096], vec![0; 8192]] {
        let fs = run.fs.kill();
        fs.write_file(&last, &bytes).expect("a file");
        check_recovery(&fs, &run.setup, &allowed(&run, Death::Machine), bytes.len() as u64)
            .unwrap_or_else(|why| panic!("{} zeros behind the chain: {why}", bytes.len()));
    }
    // In the chain, where records are known to have been, it is corruption.
    for bytes in [vec![], vec![0; 4096], vec![0; 8192], header] {
        let fs = run.fs.kill();
        fs.write_file(FIRST, &bytes).expect("a file");
        let error = open(&fs, &run.setup, &run.clock).expect_err("records are gone");
        assert!(error.is_corruption(), "{} bytes: {error}", bytes.len());
    }
}
