//! The checkpointer: one straight line of steps, each of which needs the proof that the step before it left.
//!
//! It knows nothing of trees. A database with its own pages implements [`Pages`] and uses it with its own log.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};
use wal::fs::FileSystem;
use wal::fs::durable::{LogDir, create_dir_durable};
use wal::{Error, ErrorKind, Lsn, Result, TruncatePolicy, Truncation, Wal};

use crate::control::{Control, ControlFile};
use crate::museum::{Bug, Bugs};
use crate::page::PageId;
use crate::proof::{CheckpointCommitted, CheckpointLogged, LogDurable, Pace, PagesSynced, RedoPoint};

/// Pages that are handed to [`Pages::write`] at once. The store puts as many images into one record, so between two such records there is a pause.
const WRITE_PAGES: usize = 16;
/// After this many written pages the page file is synced, unless nobody is to be spared. The log cannot become durable while the device is busy with
/// the pages, so this bounds how long it waits, and the sync at the end finds little left to do. One sync for all pages takes a tenth of the time.
const SYNC_PAGES: u64 = 64;

/// What a checkpointer writes. Implemented by this crate's store, and by databases that keep pages of their own.
pub trait Pages: Send + Sync + 'static {
    /// Takes the end of the log as the redo point, and lists the pages with changes below it that the page file does not have. A change
    /// that is in the log and not yet in memory is waited for. At [`Pace::Alone`] it is called twice, and the second redo point counts: before
    /// that the pages of the first list are written.
    ///
    /// # Errors
    ///
    /// What keeps it from doing so.
    fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)>;

    /// Called at [`Pace::Alone`] with all pages that are about to be written: what they need in the log first, such as images, can go there in few long
    /// records that nobody waits for one by one. [`Pages::write`] has to see to it that they are durable; the proof that it gets is older. Does nothing unless
    /// it is implemented.
    ///
    /// # Errors
    ///
    /// What keeps it from doing so. The checkpoint ends then, and the log is kept.
    fn prepare(&self, pages: &[PageId]) -> Result<()> {
        let _ = pages;
        Ok(())
    }

    /// Writes these pages, as they are by now, if they still need to be. The proof covers all that was logged before the
    /// redo point; a page that was changed later needs a later proof, which [`LogDurable::through`] gives. Returns how many were written.
    ///
    /// # Errors
    ///
    /// What keeps it from doing so. The checkpoint ends then, and the log is kept.
    fn write(&self, pages: &[PageId], durable: &LogDurable) -> Result<u64>;

    /// Makes all that was written durable. Never called again after it failed: whoever implements this refuses all work from then on.
    ///
    /// # Errors
    ///
    /// What keeps it from doing so. The checkpoint ends then, and the log is kept.
    fn sync(&self) -> Result<()>;
}

/// Which pages are dirty, and since when.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DirtyTable {
    pages: Vec<(PageId, Lsn)>,
}

impl DirtyTable {
    /// Pages with the LSN of the first change that the page file lacks, in the order in which they are to be written.
    pub fn new(pages: Vec<(PageId, Lsn)>) -> DirtyTable {
        DirtyTable { pages }
    }

    /// The pages with their LSNs.
    pub fn pages(&self) -> &[(PageId, Lsn)] {
        &self.pages
    }
}

/// What a checkpoint did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CheckpointReport {
    /// Counts the checkpoints of the store.
    pub sequence: u64,
    /// Where redo starts from now on.
    pub redo_lsn: Lsn,
    /// Pages written.
    pub pages_written: u64,
    /// How long it took.
    pub duration: Duration,
    /// What became of the log; `None` if nothing of it could be removed.
    pub truncation: Option<Truncation>,
    /// The log was not truncated because of this. The checkpoint counts all the same, and the next one tries again.
    pub truncation_error: Option<Error>,
}

/// Drives checkpoints. Its methods may be called by any thread; checkpoints follow each other.
#[derive(Debug)]
pub struct Checkpointer {
    log: Wal,
    control: ControlFile,
    bugs: Bugs,
    /// The redo point that the control file names, for those who must not wait while it is replaced.
    redo: AtomicU64,
    /// One checkpoint at a time. Holds the last one.
    turn: Mutex<Option<Last>>,
    pacing: Mutex<()>,
    /// The running checkpoint was told not to take its time.
    hurries: AtomicBool,
    /// How many wait for the running checkpoint to end, because they want one at once.
    waiting: AtomicUsize,
    /// No checkpoint takes its time any more.
    never_paces: AtomicBool,
    hurry: Condvar,
}

/// The last checkpoint.
#[derive(Debug)]
struct Last {
    /// The end of the log after it. Changes that came while it was made are below, so that alone does not mean that nothing is to be done.
    end: Lsn,
    committed: CheckpointCommitted,
}

impl Checkpointer {
    /// The checkpointer of a log, with its control file in the directory `dir`, which is created if it is missing. `page_bytes` is kept in the
    /// control file for those who look at it from outside.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`] if the control file is damaged, or names a place that the log does not have; [`ErrorKind::Invalid`] if it is the
    /// control file of another log; [`ErrorKind::UnsupportedVersion`], [`ErrorKind::Full`], [`ErrorKind::Io`].
    pub fn open(fs: &dyn FileSystem, dir: &Path, log: Wal, page_bytes: u32) -> Result<Checkpointer> {
        create_dir_durable(fs, dir)?;
        let dir = LogDir::open(fs, dir)?;
        match ControlFile::read(&dir)? {
            Some(control) => Checkpointer::existing(dir, log, control),
            None => {
                let redo = log.start_lsn();
                Checkpointer::create(dir, log, page_bytes, redo)
            }
        }
    }

    /// Creates the control file of a new store whose pages hold everything below `redo`.
    pub(crate) fn create(dir: LogDir, log: Wal, page_bytes: u32, redo: Lsn) -> Result<Checkpointer> {
        let log_id = log.log_id().bytes();
        let control = Control { log_id, page_bytes, sequence: 0, redo, checkpoint_record: Lsn::ZERO };
        Ok(Checkpointer::with(log, ControlFile::create(dir, control)?))
    }

    /// Goes on from an existing control file, after checking that it and the log belong together.
    pub(crate) fn existing(dir: LogDir, log: Wal, control: Control) -> Result<Checkpointer> {
        crate::recover::check_control(&dir, &log, &control)?;
        Ok(Checkpointer::with(log, ControlFile::existing(dir, control)?))
    }

    fn with(log: Wal, control: ControlFile) -> Checkpointer {
        Checkpointer {
            // A log that lost all its records, because none was durable yet, starts anew behind them.
            redo: AtomicU64::new(control.current().redo.max(log.start_lsn()).get()),
            log,
            control,
            bugs: Bugs::default(),
            turn: Mutex::new(None),
            pacing: Mutex::new(()),
            hurries: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            never_paces: AtomicBool::new(false),
            hurry: Condvar::new(),
        }
    }

    /// The same checkpointer with the switches of the museum.
    pub(crate) fn with_bugs(self, bugs: Bugs) -> Checkpointer {
        Checkpointer { bugs, ..self }
    }

    /// Where redo starts if the program ends now: the log can be read from there on.
    pub fn redo_lsn(&self) -> Lsn {
        Lsn::new(self.redo.load(Ordering::Relaxed))
    }

    /// How many checkpoints the store has had.
    pub fn sequence(&self) -> u64 {
        self.control.current().sequence
    }

    /// Makes a checkpoint that is being made in its own time finish as fast as it can.
    pub fn hurry(&self) {
        let _pacing = self.pacing.lock();
        self.hurries.store(true, Ordering::Relaxed);
        self.hurry.notify_all();
    }

    /// From now on no checkpoint takes its time, neither the one that is being made nor one that follows.
    pub(crate) fn never_pace(&self) {
        let _pacing = self.pacing.lock();
        self.never_paces.store(true, Ordering::Relaxed);
        self.hurry.notify_all();
    }

    /// Waits until no other checkpoint is being made.
    fn turn(&self, pace: Pace) -> MutexGuard<'_, Option<Last>> {
        let is_in_a_hurry = !matches!(pace, Pace::Spread(_));
        if is_in_a_hurry {
            let pacing = self.pacing.lock();
            self.waiting.fetch_add(1, Ordering::Relaxed);
            self.hurry.notify_all();
            drop(pacing);
        }
        let turn = self.turn.lock();
        if is_in_a_hurry {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
        }
        turn
    }

    /// Makes a checkpoint. Whoever reads and writes goes on meanwhile. If nothing was logged since the last one and no page is dirty, no checkpoint is made
    /// and `None` is returned; what of the log a hold or a full disk kept then is removed if that is possible by now.
    ///
    /// # Errors
    ///
    /// What a step returns. The steps before the control file is replaced leave the last checkpoint in force; the log is kept in any case.
    pub fn run(&self, pages: &dyn Pages, pace: Pace) -> Result<Option<CheckpointReport>> {
        let mut last = self.turn(pace);
        self.hurries.store(false, Ordering::Relaxed);
        let started = Instant::now();
        // 1. Where redo would have to start, and what has to be written for that.
        let (mut redo, mut dirty) = pages.take_redo_point()?;
        if let Some(last) = last.as_ref().filter(|last| last.end == redo.lsn() && dirty.pages.is_empty()) {
            return truncate(&last.committed, &self.log).map(|_| None);
        }
        let mut pages_written = 0;
        if pace == Pace::Alone && !dirty.pages.is_empty() {
            // What the pages need in the log comes in front of the redo point then: no recovery reads it, and it is truncated.
            pages_written += self.write_ahead(pages, &dirty)?;
            (redo, dirty) = pages.take_redo_point()?;
        }
        // 2. The log first.
        let durable = LogDurable::everything(&self.log)?;
        // 3. The pages, in their order.
        pages_written += self.write(pages, &dirty, &durable, pace)?;
        let redo = if self.bugs.has(Bug::MarkTakenLate) { RedoPoint::new(self.log.next_lsn()) } else { redo };
        // 4. The page file is synced, once for all that is left.
        let syncs_late = self.bugs.has(Bug::TruncatedBeforeSync);
        let synced = PagesSynced::after(redo, pages_written, || if syncs_late { Ok(()) } else { pages.sync() })?;
        // 5. The record of the checkpoint is durable.
        let sequence = self.sequence() + 1;
        let logged = CheckpointLogged::append(&self.log, synced, sequence)?;
        if self.bugs.has(Bug::TruncatedBeforeCommit) {
            self.log.declare_checkpoint(redo.lsn())?;
            self.log.truncate_before_with(redo.lsn(), TruncatePolicy::WholeSegments)?;
        }
        // 6. The control file names it: this commits the checkpoint.
        let committed = CheckpointCommitted::replace(&self.control, &logged)?;
        self.redo.store(redo.lsn().get(), Ordering::Relaxed);
        let committed = &last.insert(Last { end: self.log.next_lsn(), committed }).committed;
        // 7. The log before the redo point is not needed any more.
        let (truncation, truncation_error) = truncate(committed, &self.log)?;
        if syncs_late {
            pages.sync()?;
        }
        Ok(Some(CheckpointReport {
            sequence,
            redo_lsn: redo.lsn(),
            pages_written,
            duration: started.elapsed(),
            truncation,
            truncation_error,
        }))
    }

    /// Writes the pages while the last checkpoint is in force. They count as written by the one that is being made, whose step 4 syncs them.
    fn write_ahead(&self, pages: &dyn Pages, dirty: &DirtyTable) -> Result<u64> {
        let ids: Vec<PageId> = dirty.pages().iter().map(|(id, _)| *id).collect();
        let durable = LogDurable::everything(&self.log)?;
        pages.prepare(&ids)?;
        self.write(pages, dirty, &durable, Pace::Alone)
    }

    fn write(&self, pages: &dyn Pages, dirty: &DirtyTable, durable: &LogDurable, pace: Pace) -> Result<u64> {
        let ids: Vec<PageId> = dirty.pages().iter().map(|(id, _)| *id).collect();
        let started = Instant::now();
        let (mut written, mut synced) = (0, 0);
        for (index, chunk) in ids.chunks(WRITE_PAGES).enumerate() {
            written += pages.write(chunk, durable)?;
            if written - synced >= SYNC_PAGES && pace != Pace::Alone {
                // Halfway to the next pages: whoever waited for their images in the log is not made to wait for this too.
                self.keep_pace(pace, started, (index * WRITE_PAGES + chunk.len() / 2) as f64 / ids.len() as f64);
                pages.sync()?;
                synced = written;
            }
            self.keep_pace(pace, started, (index * WRITE_PAGES + chunk.len()) as f64 / ids.len() as f64);
        }
        Ok(written)
    }

    /// Waits until this share of the pages is due.
    fn keep_pace(&self, pace: Pace, started: Instant, share: f64) {
        if let Pace::Spread(time) = pace {
            self.wait_until(started + time.mul_f64(share));
        }
    }

    /// Waits until `due`, or until somebody is in a hurry.
    fn wait_until(&self, due: Instant) {
        let mut pacing = self.pacing.lock();
        let hurries = || {
            self.hurries.load(Ordering::Relaxed)
                || self.never_paces.load(Ordering::Relaxed)
                || self.waiting.load(Ordering::Relaxed) > 0
        };
        while !hurries() {
            if self.hurry.wait_until(&mut pacing, due).timed_out() {
                return;
            }
        }
    }
}

/// Removes what of the log is not needed. That there is no room for it, or that somebody still needs the log, is no failure.
fn truncate(committed: &CheckpointCommitted, log: &Wal) -> Result<(Option<Truncation>, Option<Error>)> {
    match committed.truncate(log) {
        Ok(truncation) => Ok((truncation, None)),
        Err(error) if matches!(error.kind(), ErrorKind::Full | ErrorKind::Refused) => Ok((None, Some(error))),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::{Sender, channel};

    use wal::fs::RealFileSystem;

    use super::*;

    /// Pages that are always dirty; says when one is written.
    struct Dirty(Sender<()>);

    impl Pages for Dirty {
        fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)> {
            let pages = (0..1000).map(|number| (PageId::new(number), Lsn::new(1)));
            Ok((RedoPoint::new(Lsn::new(4096)), DirtyTable::new(pages.collect())))
        }

        fn write(&self, pages: &[PageId], _: &LogDurable) -> Result<u64> {
            self.0.send(()).unwrap_or_default();
            Ok(pages.len() as u64)
        }

        fn sync(&self) -> Result<()> {
            Ok(())
        }
    }

    /// Notes how many pages are written with one call, and how many between two syncs.
    #[derive(Default)]
    struct Counted {
        written: AtomicU64,
        at_once_max: AtomicU64,
        unsynced: AtomicU64,
        unsynced_max: AtomicU64,
    }

    impl Pages for Counted {
        fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)> {
            let pages = (0..1000).map(|number| (PageId::new(number), Lsn::new(1)));
            Ok((RedoPoint::new(Lsn::new(4096)), DirtyTable::new(pages.collect())))
        }

        fn write(&self, pages: &[PageId], _: &LogDurable) -> Result<u64> {
            let count = pages.len() as u64;
            self.written.fetch_add(count, Ordering::Relaxed);
            self.at_once_max.fetch_max(count, Ordering::Relaxed);
            let unsynced = self.unsynced.fetch_add(count, Ordering::Relaxed) + count;
            self.unsynced_max.fetch_max(unsynced, Ordering::Relaxed);
            Ok(count)
        }

        fn sync(&self) -> Result<()> {
            self.unsynced.store(0, Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn pages_are_written_and_synced_a_few_at_a_time_so_that_the_log_never_waits_for_many() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log"), wal::Config::default()).expect("a log");
        let checkpointer = Checkpointer::open(&RealFileSystem, dir.path(), log, 4096).expect("a checkpointer");
        for pace in [Pace::Fast, Pace::Spread(Duration::from_millis(1))] {
            let pages = Counted::default();
            checkpointer.run(&pages, pace).expect("a checkpoint").expect("there is something to do");
            assert_eq!(pages.written.load(Ordering::Relaxed), 1000, "{pace:?}");
            assert_eq!(pages.at_once_max.load(Ordering::Relaxed), WRITE_PAGES as u64, "{pace:?}");
            assert_eq!(pages.unsynced_max.load(Ordering::Relaxed), SYNC_PAGES, "{pace:?}");
            assert_eq!(pages.unsynced.load(Ordering::Relaxed), 0, "{pace:?}: the last ones are synced too");
        }
    }

    /// Three pages that stay dirty until they are written. Notes what is done, in order.
    struct Noted {
        log: Wal,
        is_dirty: AtomicBool,
        steps: Mutex<Vec<&'static str>>,
    }

    impl Noted {
        fn note(&self, step: &'static str) {
            self.steps.lock().push(step);
        }
    }

    impl Pages for Noted {
        fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)> {
            self.note("redo point");
            let count = if self.is_dirty.load(Ordering::Relaxed) { 3 } else { 0 };
            let pages = (0..count).map(|number| (PageId::new(number), Lsn::new(1))).collect();
            Ok((RedoPoint::new(self.log.next_lsn()), DirtyTable::new(pages)))
        }

        fn prepare(&self, pages: &[PageId]) -> Result<()> {
            assert_eq!(pages.len(), 3);
            self.note("images");
            self.log.submit(b"images").map(drop)
        }

        fn write(&self, pages: &[PageId], _: &LogDurable) -> Result<u64> {
            self.note("pages");
            self.is_dirty.store(false, Ordering::Relaxed);
            Ok(pages.len() as u64)
        }

        fn sync(&self) -> Result<()> {
            self.note("sync");
            Ok(())
        }
    }

    #[test]
    fn a_checkpoint_that_spares_nobody_has_its_images_in_front_of_its_redo_point_and_syncs_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log"), wal::Config::default()).expect("a log");
        let checkpointer = Checkpointer::open(&RealFileSystem, dir.path(), log.clone(), 4096).expect("a checkpointer");
        let before = log.append(b"change").expect("an append works");
        let pages = Noted { log, is_dirty: AtomicBool::new(true), steps: Mutex::default() };
        let report = checkpointer.run(&pages, Pace::Alone).expect("a checkpoint").expect("there is something to do");
        assert_eq!(*pages.steps.lock(), ["redo point", "images", "pages", "redo point", "sync"]);
        assert_eq!(report.pages_written, 3);
        let images = pages.log.reader(before).expect("a reader").nth(1).expect("a record").expect("it can be read");
        assert_eq!(images.payload, b"images");
        assert!(report.redo_lsn > images.lsn, "{} is behind the images at {}", report.redo_lsn, images.lsn);
        assert!(checkpointer.run(&pages, Pace::Alone).expect("nothing fails").is_none(), "nothing is left to do");
    }

    #[test]
    fn a_checkpoint_is_hurried_for_those_who_wait_for_it_and_the_next_one_is_not() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log"), wal::Config::default()).expect("a log");
        let checkpointer = Checkpointer::open(&RealFileSystem, dir.path(), log, 4096).expect("a checkpointer");
        checkpointer.hurry();
        for pace in [Pace::Fast, Pace::Spread(Duration::from_millis(1))] {
            let report =
                checkpointer.run(&Counted::default(), pace).expect("a checkpoint").expect("there is something to do");
            let left = (checkpointer.hurries.load(Ordering::Relaxed), checkpointer.waiting.load(Ordering::Relaxed));
            assert_eq!(left, (false, 0), "{pace:?}");
            assert_eq!(report.sequence, checkpointer.sequence());
            assert_eq!(report.redo_lsn, checkpointer.redo_lsn());
        }
        assert_eq!(checkpointer.sequence(), 2);
    }

    fn ends_early(hurry: impl FnOnce(&Checkpointer)) {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log"), wal::Config::default()).expect("a log");
        let checkpointer = Checkpointer::open(&RealFileSystem, dir.path(), log, 4096).expect("a checkpointer");
        let checkpointer = Arc::new(checkpointer);
        let (tell, told) = channel();
        let paced = Arc::clone(&checkpointer);
        let hour = Pace::Spread(Duration::from_secs(3600));
        let thread = std::thread::spawn(move || paced.run(&Dirty(tell), hour));
        told.recv().expect("the checkpoint writes");
        hurry(&checkpointer);
        let report = thread.join().expect("no panic").expect("a checkpoint").expect("there is something to do");
        assert_eq!(report.pages_written, 1000);
    }

    #[test]
    fn a_checkpoint_that_takes_an_hour_ends_at_once_when_it_is_told_to() {
        ends_early(Checkpointer::hurry);
    }

    #[test]
    fn a_checkpoint_that_takes_an_hour_ends_at_once_when_the_store_is_closed() {
        ends_early(Checkpointer::never_pace);
    }

    #[test]
    fn a_checkpoint_that_takes_an_hour_ends_at_once_when_somebody_wants_one_now() {
        ends_early(|checkpointer| {
            let (tell, _told) = channel();
            checkpointer.run(&Dirty(tell), Pace::Fast).expect("a checkpoint").expect("there is something to do");
        });
    }

    /// Pages whose every step is checked against the log.
    struct Checked {
        log: Wal,
        fails_at: u64,
        syncs: AtomicU64,
    }

    impl Pages for Checked {
        fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)> {
            let redo = self.log.append(b"change").map(|_| self.log.next_lsn())?;
            let pages = (0..200).map(|number| (PageId::new(number), Lsn::new(1)));
            Ok((RedoPoint::new(redo), DirtyTable::new(pages.collect())))
        }

        fn write(&self, pages: &[PageId], durable: &LogDurable) -> Result<u64> {
            assert!(self.log.durable_lsn() >= self.log.next_lsn(), "the log goes first");
            assert!(!durable.covers(self.log.next_lsn()));
            Ok(pages.len() as u64)
        }

        fn sync(&self) -> Result<()> {
            if self.syncs.fetch_add(1, Ordering::Relaxed) + 1 == self.fails_at {
                return Err(Error::new(ErrorKind::Io, "test", "a failure"));
            }
            Ok(())
        }
    }

    #[test]
    fn a_checkpoint_needs_the_log_before_the_pages_and_each_of_their_syncs() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = wal::Config { sync_mode: wal::SyncMode::None, ..wal::Config::default() };
        let log = Wal::open(dir.path().join("log"), config).expect("a log");
        let checkpointer = Checkpointer::open(&RealFileSystem, dir.path(), log.clone(), 4096).expect("a checkpointer");
        for fails_at in 1..=4 {
            let first = checkpointer.redo_lsn();
            let pages = Checked { log: log.clone(), fails_at, syncs: AtomicU64::new(0) };
            checkpointer.run(&pages, Pace::Fast).expect_err("a sync fails");
            assert_eq!(pages.syncs.load(Ordering::Relaxed), fails_at, "it is not called again");
            assert_eq!((checkpointer.redo_lsn(), checkpointer.sequence(), log.checkpoint_lsn()), (first, 0, None));
        }
        let before = checkpointer.redo_lsn();
        let pages = Checked { log: log.clone(), fails_at: 0, syncs: AtomicU64::new(0) };
        let report = checkpointer.run(&pages, Pace::Fast).expect("a checkpoint").expect("there is something to do");
        assert!(report.redo_lsn > before && checkpointer.redo_lsn() == report.redo_lsn);
        assert_eq!((checkpointer.sequence(), log.checkpoint_lsn()), (1, Some(report.redo_lsn)));
        let report = checkpointer.run(&pages, Pace::Alone).expect("a checkpoint").expect("there is something to do");
        assert_eq!((checkpointer.sequence(), report.pages_written), (2, 400), "the pages are written ahead too");
    }
}
