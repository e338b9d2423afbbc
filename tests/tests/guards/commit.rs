//! Groups, holes, syncs.

use std::sync::mpsc;
use std::time::Duration;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, errno};
use wal::{AppendOptions, Durability, Lsn, Wal};
use wal_tests::oracle::Death;
use wal_tests::recovery::{check_recovery, observe, open};
use wal_tests::run::{Op, Run};
use wal_tests::watchdog::Watchdog;

use super::{BATCH, BUFFERED, NONE, SYNC, allowed, setup};

/// What a file system says that refuses direct writes.
const EINVAL: i32 = 22;

#[test]
fn a_segment_whose_header_a_full_disk_held_back_is_synced_like_any_other() {
    for mode in [SYNC, BATCH, NONE] {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        let log = run.log().clone();
        // The one waits in the first segment, the other one in the second, which is prepared for it.
        let first = log.submit(&[1; 2000]).expect("a ticket");
        let second = log.submit(&[2; 3000]).expect("a ticket");
        run.planned_errnos = vec![errno::ENOSPC];
        // Refused is the first group, then the padding in its place, and with that the second group.
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).skip(2));
        for ticket in [first, second] {
            assert!(ticket.wait().expect_err("there is no room").is_full(), "mode {mode}");
        }
        run.model.handed = log.next_lsn().get();
        run.apply(Op::AppendDurable(50)).expect("there is room now");
        assert_eq!(run.model.records.len(), 2);
        let after = run.fs.crash(&CrashPlan::keep_nothing());
        check_recovery(&after, &run.setup, &allowed(&run, Death::Machine), 0)
            .unwrap_or_else(|why| panic!("mode {mode}: {why}"));
    }
}

#[test]
fn padding_that_cannot_be_written_poisons() {
    let watchdog = Watchdog::start();
    for mode in [SYNC, BATCH, NONE] {
        watchdog.beat(|| format!("mode {mode}"));
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        let options = AppendOptions::new().durability(Durability::Durable);
        let ticket = run.log().submit_with(&[1; 200], options).expect("a ticket");
        let (sender, receiver) = mpsc::channel();
        ticket.on_complete(move |outcome| sender.send(outcome).expect("the test listens"));
        // The group is refused, what it left is blanked, and then the disk fails the padding that the sync needs.
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
        run.fs.plan(Fault::error(errno::EIO).on(Operation::Write).skip(2));
        let error = run.log().poll().expect_err("the padding could not be written");
        assert!(error.is_poisoned(), "mode {mode}: {error}");
        assert!(receiver.recv().expect("an outcome").expect_err("it was refused").is_full(), "mode {mode}");
    }
}

#[test]
fn a_direct_write_makes_nothing_durable_that_stands_before_it_in_a_segment_without_direct_writes() {
    let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(100)]);
    run.fs.plan(Fault::error(EINVAL).on(Operation::Open).name("0000000000000002.wal").times(2));
    for op in [Op::AppendWritten(4000), Op::AppendWritten(4000)] {
        run.apply(op).expect("it works");
    }
    let written = run.log().written_lsn();
    assert!(run.log().durable_lsn() < written, "the second segment is in the page cache alone");
    run.apply(Op::Flush).expect("it works");
    let after = run.fs.crash(&CrashPlan::keep_nothing());
    check_recovery(&after, &run.setup, &allowed(&run, Death::Machine), 0).unwrap_or_else(|why| panic!("{why}"));
}

#[test]
fn a_sync_that_runs_out_of_space_poisons_also_where_nothing_was_appended() {
    // That of the header of the segment that a truncation begins.
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::SyncData));
        let error = run.log().truncate_before(Lsn::new(run.model.records[1].lsn)).expect_err("its sync fails");
        assert!(!error.is_full(), "mode {mode}: {error}");
        assert!(run.log().append(b"late").expect_err("the log is poisoned").is_poisoned(), "mode {mode}");
    }
    // That of padding between direct writes.
    let run = Run::through(&setup(SYNC, 0), &[Op::Append(100)]);
    run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
    assert!(run.log().append(&[1; 100]).expect_err("there is no room").is_full());
    run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::SyncData));
    let error = run.log().append(b"behind the padding").expect_err("its sync fails");
    assert!(error.is_poisoned(), "{error}");
}

/// What a transaction does that is dropped: it appends, begins a segment, and declares a checkpoint.
struct Transaction(Wal);

impl Drop for Transaction {
    fn drop(&mut self) {
        for size in [100, 3000, 3000] {
            self.0.append(&vec![1; size]).expect("nothing is wrong with the log");
        }
        self.0.declare_checkpoint(self.0.durable_lsn()).expect("nothing is wrong with the log");
    }
}

#[test]
fn who_uses_the_log_from_a_destructor_while_a_panic_unwinds_does_not_poison_it() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100)]);
        let log = run.log().clone();
        let panicked = std::thread::spawn(move || {
            let _transaction = Transaction(log);
            panic!("the test wants it");
        });
        assert!(panicked.join().is_err());
        run.log().append(b"afterwards").unwrap_or_else(|error| panic!("mode {mode}: {error}"));
    }
}

#[test]
fn padded_groups_end_where_blocks_do_whatever_their_size_and_fill_no_more_than_their_segment() {
    for mode in [SYNC, BATCH, NONE] {
        let mut setup = setup(mode, 48);
        setup.config.segment_bytes_max = 16 << 10;
        // A frame leaves from 8 to 48 bytes of its block, with room for the header of padding or not; some fill a segment to its end.
        for left in (0..=48).step_by(8) {
            for blocks in [1, 2, 3] {
                let payload = (blocks * 4096 - left - 24) as u16;
                let mut run = Run::new(&setup);
                for op in [Op::Append(payload), Op::Append(payload), Op::Append(0), Op::Append(payload), Op::Flush] {
                    run.apply(op).unwrap_or_else(|why| panic!("mode {mode}, {payload} bytes: {op:?}: {why}"));
                }
                // Two that wait in one group, and a third that opens another.
                for op in [Op::Submit(9), Op::Submit(8000), Op::Submit(payload), Op::Wait, Op::Flush, Op::Reopen] {
                    run.apply(op).unwrap_or_else(|why| panic!("mode {mode}, {payload} bytes: {op:?}: {why}"));
                }
                let after = run.fs.crash(&CrashPlan::keep_nothing());
                check_recovery(&after, &run.setup, &allowed(&run, Death::Machine), 0)
                    .unwrap_or_else(|why| panic!("mode {mode}, {payload} bytes: {why}"));
            }
        }
    }
}

#[test]
fn padding_that_a_change_of_structure_cannot_write_poisons() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100), Op::AppendDurable(200)]);
        let ticket = run.log().submit(&[1; 200]).expect("a ticket");
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
        assert!(ticket.wait().expect_err("there is no room").is_full(), "mode {mode}");
        run.fs.plan(Fault::error(errno::EIO).on(Operation::Write));
        run.log().truncate_after(Lsn::new(run.model.records[0].lsn)).expect_err("its padding cannot be written");
        assert!(run.log().append(b"late").expect_err("the log is poisoned").is_poisoned(), "mode {mode}");
    }
}

#[test]
fn a_block_that_cannot_be_read_back_is_not_written_again() {
    // The padding in the place of a refused record is written past the direct writes, so the block behind it is read back.
    let mut run = Run::through(&setup(SYNC, 0), &[Op::Append(100)]);
    run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
    assert!(run.log().append(&[1; 100]).expect_err("there is no room").is_full());
    run.fs.plan(Fault::new(Effect::Short(0)).on(Operation::Read));
    run.log().append(b"behind the padding").expect_err("the file seems to end before its records");
    run.log = None;
    let fs = run.fs.kill();
    let log = open(&fs, &run.setup, &run.clock).expect("it opens");
    assert_eq!(observe(&log).expect("it can be read").records.len(), 1, "the first record is there");
}

#[test]
fn without_a_background_who_waits_with_a_deadline_does_the_work() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, 0), &[Op::Append(100)]);
        let ticket = run.log().submit(b"waits").expect("a ticket");
        // Long enough for any machine, because nobody has to come by.
        let lsn = ticket.wait_timeout(Duration::from_secs(10)).unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        run.log()
            .wait_durable_timeout(lsn, Duration::from_secs(10))
            .unwrap_or_else(|error| panic!("mode {mode}: {error}"));
    }
}

#[test]
fn no_write_of_records_is_larger_than_a_group_may_be() {
    for mode in [SYNC, BATCH, NONE] {
        let mut setup = setup(mode, BUFFERED);
        (setup.config.segment_bytes_max, setup.config.group_bytes_max) = (64 << 10, 4 << 10);
        let run = Run::through(&setup, &[Op::Append(100)]);
        run.fs.record_trace(true);
        let tickets: Vec<_> = (0..20).map(|_| run.log().submit(&[1; 1000]).expect("a ticket")).collect();
        for ticket in &tickets {
            ticket.wait().expect("it is written");
        }
        let writes = run.fs.take_trace().into_iter().filter(|event| event.operation == Operation::Write);
        let largest = writes.map(|event| event.length).max().expect("they were written");
        assert!(largest <= 4 << 10, "mode {mode}: a write of {largest} bytes");
    }
}

#[test]
fn sealed_segments_do_not_wait_for_a_sync_without_bound() {
    for (mode, op) in [(NONE, Op::Append(3000)), (SYNC, Op::AppendWritten(3000))] {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        for _ in 0..12 {
            run.apply(op).expect("it works");
            let unsynced = run.log().written_lsn().distance_from(run.log().durable_lsn());
            assert!(unsynced <= 6 * 3024, "mode {mode}: {unsynced} bytes wait for a sync that nobody makes");
        }
        assert!(mode == SYNC || run.log().written_lsn().distance_from(run.log().durable_lsn()) <= 3024);
    }
}

#[test]
fn an_append_is_admitted_with_room_for_the_padding_in_front_of_it() {
    for mode in [SYNC, BATCH, NONE] {
        let mut setup = setup(mode, 48);
        setup.config.segment_bytes_max = 16 << 10;
        // The second record does not fit the first one's group, nor what the padding of that leaves of the segment.
        let mut run = Run::through(&setup, &[Op::Submit(4080), Op::Submit(4976), Op::Wait]);
        run.apply(Op::Flush).unwrap_or_else(|why| panic!("mode {mode}: {why}"));
        assert_eq!(run.model.records.len(), 2);
    }
}

#[test]
fn no_two_padded_groups_share_a_block() {
    for (mode, variant) in [(SYNC, 48), (SYNC, 48 | BUFFERED), (BATCH, 48), (NONE, 48)] {
        let mut setup = setup(mode, variant);
        (setup.config.segment_bytes_max, setup.config.group_bytes_max) = (128 << 10, 4 << 10);
        let run = Run::through(&setup, &[Op::Append(100)]);
        run.fs.record_trace(true);
        let tickets: Vec<_> = (0..20).map(|_| run.log().submit(&[1; 1100]).expect("a ticket")).collect();
        for ticket in &tickets {
            ticket.wait().expect("it is written");
        }
        let mut end = 0;
        for event in run.fs.take_trace().iter().filter(|event| event.operation == Operation::Write) {
            assert!(event.offset / 4096 >= end, "mode {mode}: block {} is written again", event.offset / 4096);
            end = (event.offset + event.length).div_ceil(4096);
        }
        assert!(end > 5, "mode {mode}: the groups were written");
    }
}

#[test]
fn a_failure_while_a_change_of_structure_prepares_a_segment_is_told_as_what_it_is_to_the_log() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100), Op::Append(200), Op::Flush]);
        // The truncation begins a segment, whose name may not be durable then.
        run.fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir));
        let error = run.log().truncate_before(Lsn::new(run.model.records[1].lsn)).expect_err("its name is not synced");
        assert!(error.is_poisoned(), "mode {mode}: {error}");
    }
}

#[test]
fn the_callback_of_a_record_that_a_full_disk_refuses_is_called_without_another_record() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100)]);
        let (sender, receiver) = mpsc::channel();
        let ticket = run.log().submit(&[1; 200]).expect("a ticket");
        ticket.on_complete(move |outcome| sender.send(outcome).expect("the test listens"));
        run.fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
        run.log().poll().expect("a full disk poisons nothing");
        assert!(receiver.try_recv().expect("an outcome").expect_err("it was refused").is_full(), "mode {mode}");
    }
}

#[test]
fn a_callback_that_panics_keeps_no_other_from_being_called() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100)]);
        let (sender, receiver) = mpsc::channel();
        run.log().submit(b"first").expect("a ticket").on_complete(|_| panic!("the test wants it"));
        let second = run.log().submit(b"second").expect("a ticket");
        second.on_complete(move |outcome| sender.send(outcome).expect("the test listens"));
        run.log().poll().expect("nothing is wrong with the log");
        receiver.try_recv().expect("an outcome").unwrap_or_else(|error| panic!("mode {mode}: {error}"));
        run.log().close().expect("a clean close");
    }
}
