//! Faults 8 to 13, 15 and 17: calls that fail, and threads that die.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, SyncFailure, errno};
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal::{Background, ErrorKind, Wal};
use wal_tests::oracle::{DIR, Death, check_recovery};
use wal_tests::run::Op;
use wal_tests::watchdog::Watchdog;

use crate::*;

#[test]
fn fault_08_an_interrupted_write_is_tried_again_and_an_interrupted_sync_poisons() {
    for mode in [SYNC, BATCH, NONE] {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::Append(100)]);
        run.fs.plan(fails(Operation::Write, errno::EINTR).times(3));
        run.apply(Op::Append(700)).expect("an interrupted write is no failure");
        run.apply(Op::Flush).expect("a flush");
        assert_eq!(shown(&after_a_crash(&run, 0)), payloads(&run));

        run.planned_errnos = vec![errno::EINTR];
        run.fs.plan(fails(Operation::SyncData, errno::EINTR));
        run.apply(Op::AppendDurable(5)).expect("it fails as planned");
        assert!(run.is_poisoned(), "{mode}: nobody knows what an interrupted sync has done");
        after_a_crash(&run, 1);
    }
}

#[test]
fn fault_09_a_failed_write_poisons() {
    for (mode, variant) in [(SYNC, 0), (SYNC, BUFFERED), (BATCH, 0), (NONE, 0)] {
        for effect in [Effect::Error(EIO), Effect::PartialError { bytes: 512, errno: EIO }, Effect::DoneButError(EIO)] {
            let mut run = Run::through(&setup(mode, variant), &[Op::AppendDurable(100)]);
            run.planned_errnos = vec![EIO];
            run.fs.plan(Fault::new(effect).on(Operation::Write));
            run.apply(Op::Append(900)).expect("it fails as planned");
            assert!(run.is_poisoned(), "mode {mode}, {effect:?}");
            run.apply(Op::Append(1)).expect("everybody is told the first cause");
            after_a_crash(&run, 0);
        }
    }
}

#[test]
fn fault_10_a_failed_sync_is_told_to_every_waiter_and_never_tried_again() {
    for mode in [SYNC, BATCH, NONE] {
        let run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        let log = run.log();
        let tickets: Vec<_> = (0..5).map(|_| log.submit(b"waits").expect("a ticket")).collect();
        run.fs.plan(fails(Operation::SyncData, EIO));
        let first = log.flush().expect_err("its sync fails");
        run.fs.record_trace(true);
        for error in
            [log.flush().map(drop), log.append(b"late").map(drop), log.poll(), log.close()].map(Result::unwrap_err)
        {
            assert!(error.is_poisoned() && error.to_string() == first.to_string(), "{error} instead of {first}");
        }
        for ticket in tickets {
            // In the other modes they were acknowledged as written, and were.
            assert_eq!(ticket.wait().is_err(), mode == SYNC);
        }
        let syncs = run.fs.take_trace().into_iter().filter(|event| event.operation.is_sync()).count();
        assert_eq!(syncs, 0, "mode {mode}: a sync was tried again");
    }
}

#[test]
fn fault_11_a_flush_error_that_only_one_caller_sees_reaches_all_who_wait() {
    let watchdog = Watchdog::start();
    for number in 0..30 {
        watchdog.beat(|| format!("sync {number}"));
        let mut setup = setup(SYNC, BUFFERED);
        setup.config.background = Background::Threads;
        let fs = SimFs::with_config(setup.sim.clone());
        let opener = Wal::opener(setup.config.clone()).file_system(Arc::new(fs.clone()));
        let log = opener.open(DIR).expect("a new log");
        fs.plan(Fault::new(Effect::FlushError(EIO)).on(Operation::SyncData).skip(number));
        let append = |thread: u8| {
            let log = log.clone();
            move || -> Vec<(wal::Lsn, Vec<u8>)> {
                let payloads = (0..u8::MAX).map(|count| vec![thread, count]);
                payloads.map_while(|payload| log.append(&payload).ok().map(|lsn| (lsn, payload))).collect()
            }
        };
        let threads: Vec<_> = (0..4).map(|thread| std::thread::spawn(append(thread))).collect();
        let acknowledged: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().expect("it ends")).collect();
        let error = log.append(b"late").expect_err("the log is poisoned");
        assert!(error.is_poisoned(), "{error}");
        let kept = seen(&fs.crash(&CrashPlan::keep_nothing()), &setup).records;
        for (lsn, payload) in acknowledged {
            assert!(
                kept.iter().any(|record| record.0 == lsn.get() && record.2 == payload),
                "LSN {lsn} was acknowledged"
            );
        }
    }
}

#[test]
fn fault_12_a_late_write_back_error_finds_the_descriptor_still_open() {
    for mode in [BATCH, NONE] {
        let mut run = Run::through(&setup(mode, BUFFERED), &[Op::AppendDurable(100)]);
        run.fs.record_trace(true);
        run.apply(Op::AppendWritten(200)).expect("it is written");
        run.fs.fail_write_back(FIRST, EIO).expect("the segment is there");
        run.planned_errnos = vec![EIO];
        run.apply(Op::Flush).expect("it fails as planned");
        assert!(run.is_poisoned(), "mode {mode}: the sync must get the error of the write-back");
        let opened =
            run.fs.take_trace().into_iter().any(|event| event.operation == Operation::Open && event.path == FIRST);
        assert!(!opened, "who opens a file anew does not hear of earlier errors");
        after_a_crash(&run, 0);
    }
}

#[test]
fn fault_13_data_that_survives_a_failed_sync_is_a_prefix_too() {
    for failure in [SyncFailure::PagesDropped, SyncFailure::PagesKept, SyncFailure::Ext4Like, SyncFailure::Any] {
        for mode in [SYNC, BATCH, NONE] {
            for number in 0..6 {
                let mut setup = setup(mode, BUFFERED);
                (setup.sim.sync_failure, setup.sim.flush_failure) = (failure, failure);
                let mut run = Run::new(&setup);
                run.planned_errnos = vec![EIO];
                run.fs.plan(fails(Operation::SyncData, EIO).skip(number));
                for op in [
                    Op::Append(100),
                    Op::SubmitBatch(700),
                    Op::Wait,
                    Op::Rotate,
                    Op::Append(50),
                    Op::Flush,
                    Op::Append(60),
                ] {
                    run.apply(op).unwrap_or_else(|why| panic!("{failure:?}, sync {number}, {op:?}: {why}"));
                }
                let allowed = allowed(&run, Death::Machine);
                for seed in 0..20 {
                    check_recovery(&run.fs.crash(&CrashPlan::random(seed)), &setup, &allowed, seed)
                        .unwrap_or_else(|why| panic!("{failure:?}, mode {mode}, sync {number}, crash {seed}: {why}"));
                }
            }
        }
    }
}

#[test]
fn fault_15_no_space_no_quota_and_a_file_too_large_are_typed_and_leave_nothing_partial() {
    for errno in [errno::ENOSPC, errno::EDQUOT, errno::EFBIG] {
        for (mode, variant) in [(SYNC, 0), (SYNC, BUFFERED), (BATCH, 0), (NONE, 0)] {
            for effect in [Effect::Error(errno), Effect::PartialError { bytes: 1024, errno }] {
                let mut run = Run::through(&setup(mode, variant), &[Op::Append(100)]);
                run.fs.plan(Fault::new(effect).on(Operation::Write));
                let error = run.log().append(&[1; 3000]).expect_err("there is no room");
                assert!(error.kind() == ErrorKind::Full && error.is_full() && !error.is_poisoned(), "{error}");
                run.apply(Op::Append(5)).expect("the log goes on");
                run.apply(Op::Flush).expect("a flush");
                assert_eq!(shown(&after_a_crash(&run, 0)), payloads(&run), "mode {mode}, {effect:?}");
            }
        }
        let mut run = Run::through(&setup(NONE, BUFFERED), &[Op::AppendDurable(100), Op::Append(40)]);
        run.fs.plan(fails(Operation::SyncData, errno));
        let error = run.log().flush().expect_err("the sync lost what it was to write");
        assert!(error.is_poisoned() && !error.is_full(), "{error}");
        run.poison = std::error::Error::source(&error).map(ToString::to_string);
        after_a_crash(&run, 0);
    }
}

/// Files, of which those whose name begins like this panic in their next write, once, if they are told to.
#[derive(Debug)]
struct Panicking<T>(T, &'static str, Arc<AtomicBool>);

impl FileSystem for Panicking<SimFs> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Panicking(self.0.open_dir(path)?, self.1, Arc::clone(&self.2))))
    }
}

impl Directory for Panicking<Arc<dyn Directory>> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let panics = if name.starts_with(self.1) { Arc::clone(&self.2) } else { Arc::default() };
        Ok(Arc::new(Panicking(self.0.open(name, mode)?, self.1, panics)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.0.try_lock(name)
    }
}

impl File for Panicking<Arc<dyn File>> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        assert!(!self.2.swap(false, Ordering::SeqCst), "this write panics, as the test wants it");
        self.0.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }
}

#[test]
fn fault_17_a_leader_that_panics_leaves_its_followers_neither_waiting_nor_falsely_acknowledged() {
    let watchdog = Watchdog::start();
    for (mode, background) in [(SYNC, Background::Inline), (NONE, Background::Inline), (SYNC, Background::Threads)] {
        watchdog.beat(|| format!("mode {mode}, {background:?}"));
        let mut setup = setup(mode, BUFFERED);
        setup.config.background = background;
        let (fs, panics) = (SimFs::with_config(setup.sim.clone()), Arc::new(AtomicBool::new(false)));
        // The thread that prepares the second segment writes whenever it likes, and its death is another fault.
        let files = Arc::new(Panicking(fs.clone(), "0000000000000001.", Arc::clone(&panics)));
        let log = Wal::opener(setup.config.clone()).file_system(files).open(DIR).expect("a new log");
        log.append(b"kept").expect("an append");
        log.flush().expect("a flush");
        let tickets: Vec<_> = match background {
            Background::Inline => (0..3).map(|_| log.submit(b"follows").expect("a ticket")).collect(),
            // A background thread would lead at once.
            Background::Threads => Vec::new(),
        };
        panics.store(true, Ordering::SeqCst);
        let leader = log.clone();
        let died = std::thread::spawn(move || leader.append(b"leads").map(drop)).join();
        assert!(died.is_err() || died.is_ok_and(|result| result.is_err()), "nobody is told that all is well");
        for ticket in tickets {
            let error = ticket.wait().expect_err("its group was never written");
            assert!(error.is_poisoned(), "{error}");
        }
        assert!(log.append(b"late").expect_err("the log is poisoned").is_poisoned());
        assert!(log.close().is_err(), "a poisoned log is not closed cleanly");
        assert_eq!(shown(&seen(&fs.kill(), &setup)), [b"kept"], "mode {mode}, {background:?}");
    }
}

#[test]
fn fault_17_the_death_of_who_prepares_a_segment_is_told_to_those_who_need_one() {
    let watchdog = Watchdog::start();
    for background in [Background::Inline, Background::Threads] {
        watchdog.beat(|| format!("{background:?}"));
        let mut setup = setup(SYNC, BUFFERED);
        setup.config.background = background;
        let fs = SimFs::with_config(setup.sim.clone());
        let files = Arc::new(Panicking(fs.clone(), "0000000000000002.", Arc::new(AtomicBool::new(true))));
        let log = Wal::opener(setup.config.clone()).file_system(files).open(DIR).expect("a new log");
        let appender = log.clone();
        let died = std::thread::spawn(move || (0..3).try_for_each(|_| appender.append(&[1; 3000]).map(drop))).join();
        if let Ok(result) = died {
            assert!(result.expect_err("there is no second segment").is_poisoned(), "{background:?}");
        }
        assert!(log.append(&[2; 3000]).expect_err("the log is poisoned").is_poisoned(), "{background:?}");
    }
}

#[test]
fn fault_17_the_death_of_who_changes_the_structure_poisons_because_nobody_knows_which_steps_were_made() {
    type Change = fn(&Wal, wal::Lsn);
    let changes: [(&str, Change); 4] = [
        ("truncation", |log, lsn| drop(log.truncate_before(lsn))),
        ("cut", |log, lsn| drop(log.truncate_after(lsn))),
        ("checkpoint", |log, lsn| drop(log.declare_checkpoint(lsn))),
        ("close", |log, _| drop(log.close())),
    ];
    for (what, change) in changes {
        let setup = setup(SYNC, BUFFERED);
        let (fs, panics) = (SimFs::with_config(setup.sim.clone()), Arc::new(AtomicBool::new(false)));
        let files = Arc::new(Panicking(fs, "control.", Arc::clone(&panics)));
        let log = Wal::opener(setup.config.clone()).file_system(files).open(DIR).expect("a new log");
        let lsns: Vec<_> = (0..3).map(|_| log.append(&[1; 500]).expect("an append")).collect();
        panics.store(true, Ordering::SeqCst);
        let changing = log.clone();
        assert!(std::thread::spawn(move || change(&changing, lsns[1])).join().is_err(), "the {what} dies");
        assert!(log.append(b"late").expect_err("the log is poisoned").is_poisoned(), "{what}");
    }
}
