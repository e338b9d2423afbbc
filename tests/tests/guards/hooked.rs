//! A file system that does something before it makes a call, and tests of what may happen at such a moment.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use wal::fs::sim::{CrashPlan, SimFs, errno};
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal::inspect::{Depth, Outcome, survey};
use wal::{Background, Config, ErrorKind, Lsn, Wal};
use wal_tests::recovery::DIR;
use wal_tests::watchdog::Watchdog;

use super::{BUFFERED, NO_RECYCLING, SYNC, setup};

/// What a file system says that refuses direct writes.
const EINVAL: i32 = 22;

/// A call that is about to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    List,
    Open(OpenMode),
    /// Into a file that was opened so.
    Write(OpenMode),
    Preallocate,
    SyncData,
    SyncFile,
    SyncDir,
}

/// Something to be done once.
type Act = Box<dyn FnOnce() + Send>;
type Before = dyn Fn(Call, &str) -> io::Result<()> + Send + Sync;

/// What happens before each call, and a name that listings miss.
pub(super) struct Hook {
    before: Box<Before>,
    missed: &'static str,
}

impl std::fmt::Debug for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hook")
    }
}

#[derive(Debug)]
pub(super) struct Hooked<T>(T, Arc<Hook>);

impl Hooked<SimFs> {
    pub(super) fn new(
        fs: &SimFs,
        before: impl Fn(Call, &str) -> io::Result<()> + Send + Sync + 'static,
    ) -> Hooked<SimFs> {
        Hooked(fs.clone(), Arc::new(Hook { before: Box::new(before), missed: "" }))
    }

    pub(super) fn open(self, config: Config) -> wal::Result<Wal> {
        Wal::opener(config).file_system(Arc::new(self)).open(DIR)
    }
}

impl FileSystem for Hooked<SimFs> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Hooked(self.0.open_dir(path)?, Arc::clone(&self.1))))
    }
}

impl Directory for Hooked<Arc<dyn Directory>> {
    fn list(&self) -> io::Result<Vec<String>> {
        (self.1.before)(Call::List, "")?;
        let mut names = self.0.list()?;
        names.retain(|name| name != self.1.missed);
        Ok(names)
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        (self.1.before)(Call::Open(mode), name)?;
        let file = self.0.open(name, mode)?;
        Ok(Arc::new(HookedFile { file, name: name.to_owned(), mode, hook: Arc::clone(&self.1) }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        (self.1.before)(Call::SyncDir, "")?;
        self.0.sync()
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        self.0.try_lock(name)
    }
}

#[derive(Debug)]
struct HookedFile {
    file: Arc<dyn File>,
    name: String,
    mode: OpenMode,
    hook: Arc<Hook>,
}

impl File for HookedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        (self.hook.before)(Call::Write(self.mode), &self.name)?;
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn preallocate(&self, offset: u64, len: u64) -> io::Result<()> {
        (self.hook.before)(Call::Preallocate, &self.name)?;
        self.file.preallocate(offset, len)
    }

    fn sync_data(&self) -> io::Result<()> {
        (self.hook.before)(Call::SyncData, &self.name)?;
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        (self.hook.before)(Call::SyncFile, &self.name)?;
        self.file.sync_all()
    }
}

/// A log of three segments, and the LSNs of its records.
pub(super) fn three_segments(config: Config, records_in_each: usize) -> (SimFs, Vec<Lsn>) {
    let fs = SimFs::new(1);
    let log = Wal::opener(config).file_system(Arc::new(fs.clone())).open(DIR).expect("a new log");
    let bytes = 3000 / records_in_each;
    let lsns = (0..3 * records_in_each).map(|_| log.append(&vec![7; bytes]).expect("an append")).collect();
    log.close().expect("a clean close");
    (fs, lsns)
}

#[test]
fn where_direct_writes_are_refused_only_when_they_are_made_the_log_does_without_them() {
    let fs = SimFs::new(1);
    let refuses = |call, _: &str| match call {
        Call::Write(OpenMode::WriteDirect | OpenMode::WriteDirectUnsynced) => Err(io::Error::from_raw_os_error(EINVAL)),
        _ => Ok(()),
    };
    let log = Hooked::new(&fs, refuses).open(setup(SYNC, 0).config).expect("it opens without direct writes");
    let lsns: Vec<Lsn> = (0..3).map(|_| log.append(&[7; 3000]).expect("an append")).collect();
    let after = fs.crash(&CrashPlan::keep_nothing());
    let log = Wal::opener(setup(SYNC, 0).config).file_system(Arc::new(after)).open(DIR).expect("it opens");
    lsns.iter().for_each(|lsn| assert_eq!(log.read(*lsn).expect("it is durable").payload, [7; 3000]));
}

#[test]
fn a_record_that_is_truncated_while_it_is_fetched_is_truncated_and_not_damaged() {
    // Its segment is gone, or another one with the rest of the records has its name.
    for (reads_on, records_in_each) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let (fs, lsns) = three_segments(setup(SYNC, BUFFERED | NO_RECYCLING).config, records_in_each);
        let truncate: Arc<Mutex<Option<Act>>> = Arc::default();
        let armed = Arc::clone(&truncate);
        let log = Hooked::new(&fs, move |call, name| {
            if call == Call::Open(OpenMode::Read) && name == "0000000000000001.wal" {
                let act = armed.lock().expect("nobody panics with it").take();
                act.into_iter().for_each(|act| act());
            }
            Ok(())
        });
        let log = log.open(setup(SYNC, BUFFERED | NO_RECYCLING).config).expect("it opens");
        let (other, to) = (log.clone(), lsns[1]);
        let act = Box::new(move || {
            other.truncate_before(to).expect("a truncation");
        });
        let mut reader = log.reader(Lsn::ZERO).expect("a reader");
        *truncate.lock().expect("nobody panics with it") = Some(act);
        let error = if reads_on {
            reader.next_record().map(drop).expect_err("it is truncated")
        } else {
            log.read(lsns[0]).map(drop).expect_err("it is truncated")
        };
        assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
        *truncate.lock().expect("nobody panics with it") = None;
    }
}

#[test]
fn a_segment_that_is_truncated_while_a_survey_looks_is_no_error_of_the_survey() {
    // It is removed when its header was read and its records are about to be.
    let (fs, lsns) = three_segments(setup(SYNC, BUFFERED | NO_RECYCLING).config, 1);
    let log = Wal::opener(setup(SYNC, BUFFERED | NO_RECYCLING).config).file_system(Arc::new(fs.clone()));
    let log = log.open(DIR).expect("it opens");
    let opened = Mutex::new(0);
    let to = lsns[1];
    let hooked = Hooked::new(&fs, move |call, name| {
        if call == Call::Open(OpenMode::Read) && name == "0000000000000001.wal" {
            let mut opened = opened.lock().expect("nobody panics with it");
            *opened += 1;
            if *opened == 2 {
                log.truncate_before(to).expect("a truncation");
            }
        }
        Ok(())
    });
    let found = survey(&hooked, DIR, Depth::Full, |_| {}).expect("it can be looked at");
    assert!(matches!(found.outcome, Outcome::Kept), "{:?}", found.outcome);
    assert_eq!(found.start_lsn, to);
}

#[test]
fn a_segment_that_a_listing_misses_is_found_all_the_same() {
    let (fs, _) = three_segments(setup(SYNC, BUFFERED).config, 1);
    let hook = Hook { before: Box::new(|_, _| Ok(())), missed: "0000000000000002.wal" };
    let found = survey(&Hooked(fs, Arc::new(hook)), DIR, Depth::Full, |_| {}).expect("it can be looked at");
    assert!(matches!(found.outcome, Outcome::Clean), "{:?}", found.outcome);
    assert_eq!(found.records, 3);
}

#[test]
fn a_preparation_that_fails_while_the_log_is_closed_leaves_no_mark_of_a_clean_close() {
    let _watchdog = Watchdog::start();
    let config = Config { background: Background::Threads, ..setup(SYNC, BUFFERED).config };
    let (fs, _) = three_segments(config.clone(), 1);
    // Whether somebody stands at it, and whether it is open.
    let gate = Arc::new((Mutex::new((false, false)), Condvar::new()));
    let guard = Arc::clone(&gate);
    let log = Hooked::new(&fs, move |call, _| {
        if call != Call::SyncDir || std::thread::current().name() != Some("wal-prepare") {
            return Ok(());
        }
        let mut state = guard.0.lock().expect("nobody panics with it");
        state.0 = true;
        guard.1.notify_all();
        drop(guard.1.wait_while(state, |state| !state.1).expect("nobody panics with it"));
        Err(io::Error::from_raw_os_error(errno::EIO))
    });
    let log = log.open(config).expect("it opens, and the next segment is prepared");
    let state = gate.0.lock().expect("nobody panics with it");
    drop(gate.1.wait_while(state, |state| !state.0).expect("nobody panics with it"));
    let full = log.next_lsn().get() + 528;
    let (appending, closing) = (log.clone(), log.clone());
    // The second one needs the segment that is being prepared.
    let appender = std::thread::spawn(move || (0..2).find_map(|_| appending.append(&[1; 500]).err()));
    while log.next_lsn().get() < full {
        std::thread::yield_now();
    }
    let closer = std::thread::spawn(move || closing.close());
    // The close has come to where it waits for the preparation, and keeps nobody else waiting for that.
    let refused = appender.join().expect("it does not panic").expect("no segment comes any more");
    assert_eq!(refused.kind(), ErrorKind::Closed, "{refused}");
    gate.0.lock().expect("nobody panics with it").1 = true;
    gate.1.notify_all();
    closer.join().expect("it does not panic").expect_err("the name of a segment may not be durable");
    let found = survey(&fs, DIR, Depth::Tail, |_| {}).expect("it can be looked at");
    assert!(!found.control.expect("a control file").is_closed);
}

/// Settings with which a segment is filled past the page cache in eight steps.
pub(super) fn filled_in_steps() -> Config {
    Config { background: Background::Threads, segment_bytes_max: 1 << 20, ..setup(SYNC, NO_RECYCLING).config }
}

#[test]
fn a_close_gives_a_preparation_up_that_is_under_way() {
    let _watchdog = Watchdog::start();
    let fs = SimFs::new(1);
    // How many steps were begun, and whether the gate is open.
    let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
    let guard = Arc::clone(&gate);
    let log = Hooked::new(&fs, move |call, _| {
        if call == Call::Write(OpenMode::WriteDirectUnsynced) {
            let mut state = guard.0.lock().expect("nobody panics with it");
            state.0 += 1;
            guard.1.notify_all();
            drop(guard.1.wait_while(state, |state| !state.1).expect("nobody panics with it"));
        }
        Ok(())
    });
    let log = log.open(filled_in_steps()).expect("a new log");
    // So much of the first segment is used that the second one is to be ready.
    log.append(&vec![1; 700 << 10]).expect("an append");
    let state = gate.0.lock().expect("nobody panics with it");
    drop(gate.1.wait_while(state, |state| state.0 == 0).expect("nobody panics with it"));
    let closing = log.clone();
    let closer = std::thread::spawn(move || closing.close());
    // The close has come to where it waits for the preparation.
    while log.append(b"meanwhile").is_ok() {}
    gate.0.lock().expect("nobody panics with it").1 = true;
    gate.1.notify_all();
    closer.join().expect("it does not panic").expect("a clean close");
    let steps = gate.0.lock().expect("nobody panics with it").0;
    assert_eq!(steps, 1, "nobody needs the further steps");
    assert_eq!(log.stats().preparation_failures, 0, "that is no failure");
    let names = fs.names(DIR).expect("the log is there");
    assert!(!names.iter().any(|name| name.ends_with(".prepare")), "{names:?}");
}

#[test]
fn a_segment_that_is_filled_in_steps_has_its_blocks_written_to_the_end() {
    let fs = SimFs::new(1);
    let written = Arc::new(Mutex::new(0));
    let count = Arc::clone(&written);
    let log = Hooked::new(&fs, move |call, _| {
        *count.lock().expect("nobody panics with it") += u32::from(call == Call::Write(OpenMode::WriteDirectUnsynced));
        Ok(())
    });
    let config = Config { background: Background::Inline, ..filled_in_steps() };
    let log = log.open(config).expect("a new log");
    for _ in 0..3 {
        log.append(&vec![1; 500 << 10]).expect("an append");
    }
    let written = *written.lock().expect("nobody panics with it");
    assert_eq!(written, 8, "each step writes an eighth");
}

#[test]
fn a_preparation_that_has_time_makes_haste_when_an_append_needs_the_segment() {
    let watchdog = Watchdog::start();
    // Of the first segment either hardly anything is used, or so much that a part of the second one is to be ready.
    for (segment_bytes_max, used) in [(8 << 10, 10), (1 << 20, 10), (1 << 20, 200 << 10)] {
        for round in 0..20 {
            watchdog.beat(|| format!("{segment_bytes_max} bytes, {used} of them used, round {round}"));
            let steps = Arc::new(AtomicU32::new(0));
            let count = Arc::clone(&steps);
            let log = Hooked::new(&SimFs::new(1), move |call, _| {
                let is_step = call == Call::Write(OpenMode::WriteDirectUnsynced);
                count.fetch_add(u32::from(is_step), Ordering::SeqCst);
                Ok(())
            });
            let log = log.open(Config { segment_bytes_max, ..filled_in_steps() }).expect("a new log");
            log.append(&vec![1; used]).expect("an append");
            // The preparation makes its first step and then has time. Not always at once, so there are rounds.
            while used > 10 && steps.load(Ordering::SeqCst) == 0 {
                std::thread::yield_now();
            }
            for _ in 0..50 {
                log.append(&[2; 10]).expect("an append");
            }
            log.append(&vec![3; segment_bytes_max as usize - 4096 - 24]).expect("it gets the next segment");
            log.close().expect("a clean close");
        }
    }
}

#[test]
fn a_log_that_stays_small_prepares_no_segment() {
    let created = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&created);
    let log = Hooked::new(&SimFs::new(1), move |call, _| {
        let is_prepared = std::thread::current().name() == Some("wal-prepare");
        count.fetch_add(u32::from(is_prepared && call == Call::Open(OpenMode::CreateNew)), Ordering::SeqCst);
        Ok(())
    });
    let log = log.open(filled_in_steps()).expect("a new log");
    let lsns: Vec<Lsn> = (0..3).map(|_| log.append(b"small").expect("an append")).collect();
    // A cut waits for a preparation that is under way.
    log.truncate_after(lsns[1]).expect("a cut");
    assert_eq!(created.load(Ordering::SeqCst), 0);
    log.close().expect("a clean close");
}

#[test]
fn a_log_without_threads_prepares_nothing_any_more_once_it_is_closed() {
    let _watchdog = Watchdog::start();
    let fs = SimFs::new(1);
    // Set once the log is open. While the next segment is filled, the log is closed by another thread.
    let log: Arc<Mutex<Option<Wal>>> = Arc::default();
    let armed = Arc::clone(&log);
    let closer: Arc<Mutex<Option<std::thread::JoinHandle<wal::Result<()>>>>> = Arc::default();
    let started = Arc::clone(&closer);
    let hooked = Hooked::new(&fs, move |call, name| {
        if matches!(call, Call::Write(_))
            && name == "0000000000000002.prepare"
            && let Some(log) = armed.lock().expect("nobody panics with it").take()
        {
            let closing = log.clone();
            *started.lock().expect("nobody panics with it") = Some(std::thread::spawn(move || closing.close()));
            // Until the close has come so far that it waits for nobody but this preparation.
            while log.submit(b"").map_or_else(|error| error.kind() != ErrorKind::Closed, |_| true) {
                std::thread::yield_now();
            }
        }
        Ok(())
    });
    let config = Config { background: Background::Inline, ..setup(SYNC, BUFFERED | NO_RECYCLING).config };
    let opened = hooked.open(config).expect("it opens");
    *log.lock().expect("nobody panics with it") = Some(opened.clone());
    let error = (0..9).find_map(|_| opened.append(&[7; 1000]).err()).expect("the log is closed under it");
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    let closer = closer.lock().expect("nobody panics with it").take().expect("the next segment was prepared");
    closer.join().expect("no panic").expect("it closes");
    let names = fs.open_dir(Path::new(DIR)).and_then(|dir| dir.list()).expect("it can be listed");
    let left: Vec<_> = names.iter().filter(|name| name.starts_with("0000000000000002")).collect();
    assert!(left.is_empty(), "{left:?} stayed behind");
}
