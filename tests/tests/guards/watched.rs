//! A file system that looks at who has which file open, that refuses the lock for a moment, and whose syncs wait.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::fs::{Directory, File, FileSystem, LockGuard, OpenMode};
use wal::{AppendOptions, Background, Boundary, Clock, Config, Durability, ErrorKind, Lsn, SystemClock, Wal};
use wal_tests::recovery::DIR;
use wal_tests::watchdog::Watchdog;

use super::{BATCH, BUFFERED, NONE, SYNC, setup};

/// What was seen.
#[derive(Debug, Default)]
struct Watch {
    /// No file ever has a name, as far as the file system knows.
    counts_no_names: AtomicBool,
    /// How many times the lock is still refused.
    refusals: AtomicU32,
    /// Whether syncs of data wait, and how many do.
    gate: Mutex<(bool, u32)>,
    gate_moved: Condvar,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    /// Open files by the name under which they were opened.
    open: BTreeMap<String, u32>,
    /// Names whose file was replaced since the directory was synced last.
    replaced: Vec<String>,
    /// Names of files of which something was read before the advice to read no further.
    read_ahead: Vec<String>,
    /// All names that were replaced durably while their old file was open, and all where it was not.
    held: Vec<String>,
    let_go: Vec<String>,
}

impl Watch {
    fn pass_gate(&self) {
        let mut gate = self.gate.lock().expect("nobody panics with it");
        gate.1 += 1;
        self.gate_moved.notify_all();
        while gate.0 {
            gate = self.gate_moved.wait(gate).expect("nobody panics with it");
        }
        gate.1 -= 1;
    }

    fn set_gate(&self, is_closed: bool) {
        self.gate.lock().expect("nobody panics with it").0 = is_closed;
        self.gate_moved.notify_all();
    }

    /// Returns when a sync stands at the gate.
    fn wait_for_sync(&self) {
        let gate = self.gate.lock().expect("nobody panics with it");
        drop(self.gate_moved.wait_while(gate, |gate| gate.1 == 0).expect("nobody panics with it"));
    }
}

#[derive(Debug)]
struct Watched<T>(T, Arc<Watch>);

#[derive(Debug)]
struct WatchedFile {
    file: Arc<dyn File>,
    name: String,
    is_advised: AtomicBool,
    watch: Arc<Watch>,
}

impl FileSystem for Watched<SimFs> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn open_dir(&self, path: &Path) -> io::Result<Arc<dyn Directory>> {
        Ok(Arc::new(Watched(self.0.open_dir(path)?, Arc::clone(&self.1))))
    }
}

impl Directory for Watched<Arc<dyn Directory>> {
    fn list(&self) -> io::Result<Vec<String>> {
        self.0.list()
    }

    fn open(&self, name: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(name, mode)?;
        *self.1.seen.lock().expect("nobody panics with it").open.entry(name.to_owned()).or_default() += 1;
        Ok(Arc::new(WatchedFile {
            file,
            name: name.to_owned(),
            is_advised: AtomicBool::new(false),
            watch: Arc::clone(&self.1),
        }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let replaces = self.0.list()?.iter().any(|name| name == to);
        self.0.rename(from, to)?;
        if replaces {
            self.1.seen.lock().expect("nobody panics with it").replaced.push(to.to_owned());
        }
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.0.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()?;
        let mut seen = self.1.seen.lock().expect("nobody panics with it");
        for name in std::mem::take(&mut seen.replaced) {
            let is_open = seen.open.get(&name).is_some_and(|count| *count > 0);
            if is_open { seen.held.push(name) } else { seen.let_go.push(name) }
        }
        Ok(())
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<Box<dyn LockGuard>>> {
        let refusals = self.1.refusals.load(Ordering::SeqCst);
        if refusals > 0 {
            self.1.refusals.store(refusals - 1, Ordering::SeqCst);
            return Ok(None);
        }
        self.0.try_lock(name)
    }
}

impl File for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        if !self.is_advised.load(Ordering::SeqCst) {
            self.watch.seen.lock().expect("nobody panics with it").read_ahead.push(self.name.clone());
        }
        self.file.read_at(buf, offset)
    }

    fn has_name(&self) -> io::Result<bool> {
        Ok(!self.watch.counts_no_names.load(Ordering::SeqCst))
    }

    fn read_no_further(&self) -> io::Result<()> {
        self.is_advised.store(true, Ordering::SeqCst);
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.watch.pass_gate();
        self.file.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
}

impl Drop for WatchedFile {
    fn drop(&mut self) {
        *self.watch.seen.lock().expect("nobody panics with it").open.get_mut(&self.name).expect("it was opened") -= 1;
    }
}

fn open_with(fs: &SimFs, watch: &Arc<Watch>, config: Config) -> wal::Result<Wal> {
    Wal::opener(config).file_system(Arc::new(Watched(fs.clone(), Arc::clone(watch)))).open(DIR)
}

fn open(fs: &SimFs, watch: &Arc<Watch>) -> wal::Result<Wal> {
    open_with(fs, watch, setup(SYNC, BUFFERED).config)
}

#[test]
fn a_file_that_is_replaced_is_held_open_until_that_is_durable() {
    // Its blocks are not free before, so no file system gives them to another file that a crash would show under the old name.
    let (fs, watch) = (SimFs::new(1), Arc::default());
    let log = open(&fs, &watch).expect("a new log");
    let lsns: Vec<Lsn> = (0..4).map(|_| log.append(&[1; 1500]).expect("an append")).collect();
    log.declare_checkpoint(lsns[1]).expect("a checkpoint");
    log.truncate_before(lsns[1]).expect("a truncation");
    log.truncate_after(lsns[2]).expect("a cut");
    log.close().expect("a clean close");
    let seen = watch.seen.lock().expect("nobody panics with it");
    assert_eq!(seen.let_go, Vec::<String>::new(), "replaced while nobody had them open");
    for name in ["control", "0000000000000001.wal"] {
        assert!(seen.held.iter().any(|held| held == name), "{name} was not replaced: {:?}", seen.held);
    }
}

#[test]
fn a_truncation_beside_appends_has_nothing_read_ahead() {
    // Where the first read of a file is read ahead of, Linux goes on reading ahead, whatever advice follows.
    let (fs, watch) = (SimFs::new(1), Arc::<Watch>::default());
    let config = Config { background: Background::Threads, ..setup(SYNC, 0).config };
    let log = open_with(&fs, &watch, config).expect("a new log");
    let lsns: Vec<Lsn> = (0..4).map(|_| log.append(&[1; 1500]).expect("an append")).collect();
    watch.seen.lock().expect("nobody panics with it").read_ahead.clear();
    let done = log.truncate_before(lsns[1]).expect("a truncation");
    assert_eq!(done.boundary, Boundary::Rewritten);
    let read_ahead = watch.seen.lock().expect("nobody panics with it").read_ahead.clone();
    assert_eq!(read_ahead, Vec::<String>::new());
    log.close().expect("a clean close");
}

#[test]
fn a_file_system_that_counts_no_names_is_read_all_the_same() {
    let _watchdog = Watchdog::start();
    let (fs, watch) = (SimFs::new(1), Arc::<Watch>::default());
    watch.counts_no_names.store(true, Ordering::SeqCst);
    let log = open(&fs, &watch).expect("a new log");
    let lsns: Vec<Lsn> = (0..4).map(|_| log.append(&[1; 1500]).expect("an append")).collect();
    log.truncate_before(lsns[1]).expect("a truncation");
    let read: Vec<Lsn> = log.reader(Lsn::ZERO).expect("a reader").map(|record| record.expect("a record").lsn).collect();
    assert_eq!(read, lsns[1..]);
    log.close().expect("a clean close");
    open(&fs, &watch).expect("it opens").close().expect("a clean close");
}

#[test]
fn who_has_the_lock_for_a_moment_only_keeps_nobody_from_opening_the_log() {
    let (fs, watch) = (SimFs::new(1), Arc::<Watch>::default());
    watch.refusals.store(2, Ordering::SeqCst);
    open(&fs, &watch).expect("the third time nobody has it").close().expect("a clean close");
    watch.refusals.store(1000, Ordering::SeqCst);
    assert_eq!(open(&fs, &watch).expect_err("somebody has it").kind(), ErrorKind::InUse);
}

#[test]
fn who_waits_with_a_deadline_is_told_when_it_has_passed() {
    let watchdog = Watchdog::start();
    for mode in [SYNC, BATCH, NONE] {
        watchdog.beat(|| format!("mode {mode}"));
        let (fs, watch) = (SimFs::new(1), Arc::default());
        let config = Config { background: Background::Threads, ..setup(mode, BUFFERED).config };
        let log = open_with(&fs, &watch, config).expect("a new log");
        watch.set_gate(true);
        let ticket = log.submit_with(b"waits", AppendOptions::new().durability(Durability::Durable)).expect("a ticket");
        watch.wait_for_sync();
        let late =
            [ticket.wait_timeout(Duration::from_millis(1)), log.wait_durable_timeout(ticket.lsn(), Duration::ZERO)];
        for error in late.map(|outcome| outcome.expect_err("its sync has not ended")) {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "mode {mode}");
        }
        watch.set_gate(false);
        assert_eq!(ticket.wait().expect("it is durable now"), ticket.lsn(), "mode {mode}");
        log.close().expect("a clean close");
    }
}

#[test]
fn who_asks_for_a_sync_is_heard_by_a_background_that_has_nothing_to_do() {
    let watchdog = Watchdog::start();
    let (fs, watch) = (SimFs::new(1), Arc::default());
    let config = Config { background: Background::Threads, ..setup(NONE, BUFFERED).config };
    let log = open_with(&fs, &watch, config).expect("a new log");
    // Not only once, because the background may be on its way to sleep.
    for round in 0..100 {
        watchdog.beat(|| format!("round {round}"));
        let lsn = log.append(b"record").expect("an append");
        assert!(log.wait_durable_timeout(lsn, Duration::from_secs(3000)).expect("it is synced") > lsn);
    }
}

#[test]
fn a_record_is_made_durable_although_its_ticket_was_dropped_and_nobody_waits_for_it() {
    let watchdog = Watchdog::start();
    let (fs, watch) = (SimFs::new(1), Arc::default());
    let config = Config { background: Background::Threads, ..setup(SYNC, BUFFERED).config };
    let log = open_with(&fs, &watch, config).expect("a new log");
    let mut subscription = log.subscribe();
    // Not only once, because the background may be on its way to sleep.
    for round in 0..100 {
        watchdog.beat(|| format!("round {round}"));
        let lsn = log.submit(b"record").expect("a ticket").lsn();
        assert!(subscription.recv().expect("the log is open") > lsn, "round {round}");
    }
}

#[test]
fn what_is_written_while_a_batch_is_synced_is_synced_in_time_too() {
    let _watchdog = Watchdog::start();
    let (fs, watch) = (SimFs::new(1), Arc::<Watch>::default());
    let config = Config { background: Background::Threads, ..setup(BATCH, BUFFERED).config };
    let log = open_with(&fs, &watch, config).expect("a new log");
    let mut subscription = log.subscribe();
    watch.set_gate(true);
    log.append(b"first").expect("an append");
    watch.wait_for_sync();
    let lsn = log.append(b"second").expect("an append");
    watch.set_gate(false);
    while subscription.recv().expect("the log is open") <= lsn {}
    log.close().expect("a clean close");
}

/// A clock that knows how often the thread asked it that writes the statistics.
#[derive(Debug, Default)]
struct Asked(SystemClock, AtomicU32);

impl Clock for Asked {
    fn monotonic(&self) -> Duration {
        let is_statistics = std::thread::current().name() == Some("wal-statistics");
        self.1.fetch_add(u32::from(is_statistics), Ordering::SeqCst);
        self.0.monotonic()
    }

    fn unix_micros(&self) -> u64 {
        self.0.unix_micros()
    }
}

#[test]
fn a_close_does_not_wait_until_statistics_are_due() {
    let _watchdog = Watchdog::start();
    let clock = Arc::<Asked>::default();
    let statistics_interval = Some(Duration::from_secs(3600));
    let config = Config { background: Background::Threads, statistics_interval, ..setup(SYNC, BUFFERED).config };
    let opener = Wal::opener(config).file_system(Arc::new(SimFs::new(1))).clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let log = opener.open(DIR).expect("a new log");
    // It looks whether they are due, and then how long it may sleep.
    while clock.1.load(Ordering::SeqCst) < 2 {
        std::thread::yield_now();
    }
    log.close().expect("a clean close");
}
