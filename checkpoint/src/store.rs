//! The store: opening, closing, and the operations. Wiring only.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use wal::fs::durable::{LogDir, create_dir_durable};
use wal::fs::{FileSystem, RealFileSystem};
use wal::{Background, Clock, Error, ErrorKind, Lsn, Result, Ticket, Wal};

use crate::batch::{Batch, WriteOptions};
use crate::checkpointer::{CheckpointReport, Checkpointer};
use crate::config::Config;
use crate::control::ControlFile;
use crate::failure::Failure;
use crate::file::{PAGES, PageFile};
use crate::flush::Flusher;
use crate::museum::Bugs;
use crate::page::node::{self, format_node};
use crate::page::{self, Meta, PageId};
use crate::pool::Pool;
use crate::proof::Pace;
use crate::recover::{Progress, RecoveryReport, Redo};
use crate::schedule::Schedule;
use crate::shared::Core;
use crate::tree::cursor::{Cursor, Entry};
use crate::tree::{Op, PutMode, Tree};

/// The directory of the log inside the directory of the store.
pub(crate) const LOG: &str = "wal";

/// Opens a store with more than its settings.
pub struct Opener {
    config: Config,
    fs: Arc<dyn FileSystem>,
    clock: Option<Arc<dyn Clock>>,
    log_id: Option<[u8; 16]>,
    bugs: Bugs,
    progress: Box<dyn Fn(Progress)>,
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("config", &self.config).field("fs", &self.fs).finish_non_exhaustive()
    }
}

/// An ordered map of byte strings on disk: a B+tree, a write-ahead log, and a checkpointer that keeps the two in order.
///
/// Cloning is cheap and all clones are one store; any method may be called from any thread. [`Store::close`] closes it for all of them.
/// Dropping the last clone closes it too, without a checkpoint; the next open replays the log then.
///
/// # What is visible, and when
///
/// A change is visible to everybody as soon as it is in memory, which may be before it is acknowledged. If it then fails, the store is
/// poisoned. A batch becomes visible as a whole.
#[derive(Clone, Debug)]
pub struct Store {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    // Stopped first: its thread uses all else.
    schedule: Schedule,
    core: Arc<Core>,
    report: RecoveryReport,
}

impl Drop for Handle {
    fn drop(&mut self) {
        // The schedule is dropped next and waits for its thread.
        self.core.checkpointer.never_pace();
    }
}

/// What a store has done since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Bytes of a page.
    pub page_bytes: usize,
    /// Pages that the pool has room for.
    pub pool_pages: u64,
    /// Pages with changes that the page file does not have.
    pub dirty_pages: u64,
    /// Pages in use and free.
    pub page_count: u64,
    /// Pages on the free list.
    pub free_pages: u64,
    /// Levels of the tree.
    pub tree_depth: u64,
    /// Pages read from the page file.
    pub pages_read: u64,
    /// Pages that left the pool to make room.
    pub pages_evicted: u64,
    /// Pages written to the page file.
    pub pages_written: u64,
    /// Page images written to the log or, on a full disk, to spare pages.
    pub images_written: u64,
    /// Bytes of those images.
    pub image_bytes: u64,
    /// Checkpoints since the store was created.
    pub checkpoints: u64,
    /// Where redo would start.
    pub redo_lsn: Lsn,
    /// The log's end.
    pub next_lsn: Lsn,
}

impl Opener {
    /// The file system. Default: the operating system's.
    #[must_use]
    pub fn file_system(mut self, fs: Arc<dyn FileSystem>) -> Opener {
        self.fs = fs;
        self
    }

    /// The clock of the log.
    #[must_use]
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Opener {
        self.clock = Some(clock);
        self
    }

    /// The id of a log that is created; random by default. For tests that compare bytes.
    #[must_use]
    pub fn log_id(mut self, id: [u8; 16]) -> Opener {
        self.log_id = Some(id);
        self
    }

    /// Switches on bugs of the museum. For tests of the tests.
    #[cfg(feature = "museum")]
    #[must_use]
    pub fn bugs(mut self, bugs: Bugs) -> Opener {
        self.bugs = bugs;
        self
    }

    /// Called now and then while the log is replayed.
    #[must_use]
    pub fn on_progress(mut self, progress: impl Fn(Progress) + 'static) -> Opener {
        self.progress = Box::new(progress);
        self
    }

    /// Opens the store in `dir`, creating it if it is missing and the settings allow it.
    ///
    /// # Errors
    ///
    /// As [`wal::Opener::open`]; [`ErrorKind::Corruption`] if pages, control file and log do not fit each other, or a page is damaged and there is
    /// no image of it.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<Store> {
        let config = self.config.validated()?;
        let path = dir.as_ref();
        let fs = &*self.fs;
        if config.log.create {
            create_dir_durable(fs, path)?;
        }
        let dir = LogDir::open(fs, path)?;
        let mut opener = Wal::opener(config.log.clone()).file_system(Arc::clone(&self.fs));
        if let Some(clock) = &self.clock {
            opener = opener.clock(Arc::clone(clock));
        }
        if let Some(id) = self.log_id {
            opener = opener.log_id(id);
        }
        // Its lock keeps everybody else out of the whole store.
        let log = opener.open(path.join(LOG))?;
        let (created, checkpointer, page_bytes) = match ControlFile::read(&dir)? {
            Some(control) => {
                let page_bytes = control.page_bytes_of_store(&dir)?;
                (false, Checkpointer::existing(dir.clone(), log.clone(), control)?, page_bytes)
            }
            None => (true, create(&dir, &log, &config)?, config.page_bytes),
        };
        let file = PageFile::open(&dir, log.log_id(), page_bytes, self.bugs)?.ok_or_else(|| {
            Error::new(ErrorKind::Corruption, "open store", "the page file is missing").at_path(dir.path_of(PAGES))
        })?;
        let pool = Arc::new(Pool::new(config.pool_pages(page_bytes)?, page_bytes));
        let failure = Arc::new(Failure::default());
        let redo = checkpointer.redo_lsn();
        let image_bytes_max = config.image_bytes_max(page_bytes)?;
        let flusher =
            Flusher::new(Arc::clone(&pool), Arc::new(file), log.clone(), Arc::clone(&failure), redo, image_bytes_max);
        let flusher = Arc::new(flusher);
        let mut report = Redo::new(&flusher, redo).run(&*self.progress)?;
        report.created = created;
        let meta = read_meta(&pool, &flusher)?;
        let tree = Tree::new(pool, flusher, log, Arc::clone(&failure), meta)?;
        let checkpointer = checkpointer.with_bugs(self.bugs);
        let core = Core { tree, checkpointer, failure, config, path: path.to_owned() };
        if report.records > 0 {
            let checkpoint = core.checkpoint(Pace::Alone)?;
            report.pages_written = checkpoint.map_or(0, |checkpoint| checkpoint.pages_written);
        }
        let core = Arc::new(core);
        let schedule = match core.config.log.background {
            Background::Threads => Schedule::start(&core)?,
            Background::Inline => Schedule::none(),
        };
        Ok(Store { handle: Arc::new(Handle { schedule, core, report }) })
    }
}

/// Creates page file and control file. The control file is last: from then on there is a store.
fn create(dir: &LogDir, log: &Wal, config: &Config) -> Result<Checkpointer> {
    if log.start_lsn() < log.next_lsn() && log.reader(Lsn::ZERO)?.next_record()?.is_some() {
        let detail = "the log has records, and the control file is missing; without it nobody knows where redo starts";
        return Err(Error::new(ErrorKind::Corruption, "open store", detail).at_path(dir.path()));
    }
    let root = PageId::new(1);
    let mut pages = vec![vec![0; config.page_bytes]; 2];
    let meta = Meta { root, depth: 1, page_count: 2, free_head: PageId::NONE, free_count: 0 };
    page::format_meta(&mut pages[0], &meta);
    format_node(&mut pages[1], root, 0, PageId::NONE);
    PageFile::create(dir, log.log_id(), &mut pages)?;
    Checkpointer::create(dir.clone(), log.clone(), config.page_bytes as u32, log.next_lsn())
}

fn read_meta(pool: &Pool, flusher: &Flusher) -> Result<Meta> {
    if pool.read(PageId::META).is_none() {
        let empty = loop {
            match pool.take_frame() {
                Some(empty) => break empty,
                None => flusher.clean_some()?,
            };
        };
        pool.load(PageId::META, empty, &flusher.file).map_err(|error| match error {
            crate::file::ReadError::Failed(error) => error,
            crate::file::ReadError::Damaged(damage) => flusher.file.damaged(PageId::META, damage),
        })?;
    }
    let page = pool.read(PageId::META).expect("just read, and nobody else uses the pool yet");
    if page::kind(page.bytes()) != Some(page::PageKind::Meta) {
        return Err(flusher.file.damaged(PageId::META, page::Damage::Content("it is not a meta page")));
    }
    Ok(page::meta(page.bytes()))
}

impl Store {
    /// Opens the store in `dir`, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Opener::open`].
    pub fn open(dir: impl AsRef<Path>, config: Config) -> Result<Store> {
        Store::opener(config).open(dir)
    }

    /// An [`Opener`], to set more than the settings.
    pub fn opener(config: Config) -> Opener {
        Opener {
            config,
            fs: Arc::new(RealFileSystem),
            clock: None,
            log_id: None,
            bugs: Bugs::default(),
            progress: Box::new(|_| ()),
        }
    }

    pub(crate) fn core(&self) -> &Core {
        &self.handle.core
    }

    fn tree(&self) -> &Tree {
        &self.core().tree
    }

    /// The longest key, in bytes. It depends on the size of a page.
    pub fn key_bytes_max(&self) -> usize {
        node::key_bytes_max(self.tree().page_bytes())
    }

    fn check_entry(&self, key: &[u8], value: &[u8]) -> Result<()> {
        let key_max = self.key_bytes_max();
        // A value is logged as a whole, so it has to fit a record with some room for the pages that refer to it.
        let value_max = self.core().config.log.segment_bytes_max as usize / 2;
        if key.len() > key_max {
            let detail = format!("the key has {} bytes, and {key_max} is the most for this size of pages", key.len());
            return Err(Error::new(ErrorKind::TooLarge, "put", detail));
        }
        if value.len() > value_max {
            let detail = format!(
                "the value has {} bytes, and {value_max} is the most for this size of log segments",
                value.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, "put", detail));
        }
        Ok(())
    }

    /// The value of a key.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Corruption`] if a page is damaged; [`ErrorKind::Poisoned`], [`ErrorKind::Io`].
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Vec<u8>>> {
        self.get_with(key, <[u8]>::to_vec)
    }

    /// Hands the value of a key to `take`, which should be quick and must not use the store: it runs under the latch of the page.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get_with<T>(&self, key: impl AsRef<[u8]>, take: impl FnMut(&[u8]) -> T) -> Result<Option<T>> {
        self.core().failure.check()?;
        self.tree().get(key.as_ref(), take)
    }

    /// Whether a key is there.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn contains(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.get_with(key, |_| ()).map(|found| found.is_some())
    }

    /// Gives a key a value, whether it is there or not, and returns when that is as safe as the mode of the log says.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::TooLarge`] if key or value are longer than they may be, or the value takes more pages than half the pool; [`ErrorKind::Full`], and nothing was changed;
    /// [`ErrorKind::Poisoned`], [`ErrorKind::Closed`], and what [`Store::get`] returns.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<()> {
        self.put_with(key, value, WriteOptions::new())
    }

    /// As [`Store::put`], with options.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    pub fn put_with(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>, options: WriteOptions) -> Result<()> {
        self.put_as(key.as_ref(), value.as_ref(), PutMode::Upsert, options).map(|_| ())
    }

    /// Gives a key a value if it is not there. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    pub fn insert(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.put_as(key.as_ref(), value.as_ref(), PutMode::Insert, WriteOptions::new())
    }

    /// Gives a key another value if it is there. Returns whether it did.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    pub fn update(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<bool> {
        self.put_as(key.as_ref(), value.as_ref(), PutMode::Update, WriteOptions::new())
    }

    fn put_as(&self, key: &[u8], value: &[u8], mode: PutMode, options: WriteOptions) -> Result<bool> {
        self.check_entry(key, value)?;
        self.settle(self.tree().change(Op::Put { key, value, mode }, options.durability)?.ticket)
    }

    /// Removes a key. Returns whether it was there.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<bool> {
        self.delete_with(key, WriteOptions::new())
    }

    /// As [`Store::delete`], with options.
    ///
    /// # Errors
    ///
    /// As [`Store::put`].
    pub fn delete_with(&self, key: impl AsRef<[u8]>, options: WriteOptions) -> Result<bool> {
        self.settle(self.tree().change(Op::Delete { key: key.as_ref() }, options.durability)?.ticket)
    }

    /// Makes all changes of a batch, or none: after a crash all are there or none, and whoever reads sees all or none.
    ///
    /// # Errors
    ///
    /// As [`Store::put`]; [`ErrorKind::TooLarge`] if the batch does not fit a log segment, or changes more pages than half the pool holds.
    pub fn write(&self, batch: &Batch<'_>) -> Result<()> {
        self.write_with(batch, WriteOptions::new())
    }

    /// As [`Store::write`], with options.
    ///
    /// # Errors
    ///
    /// As [`Store::write`].
    pub fn write_with(&self, batch: &Batch<'_>, options: WriteOptions) -> Result<()> {
        self.settle(self.submit_ticket(batch, options)?).map(|_| ())
    }

    /// As [`Store::write`], and returns as soon as the changes are visible, with a ticket for their acknowledgement; `None` if there was
    /// nothing to change.
    ///
    /// # Errors
    ///
    /// As [`Store::write`], for what is known before the batch is written.
    pub fn submit(&self, batch: &Batch<'_>) -> Result<Option<Ticket>> {
        self.submit_ticket(batch, WriteOptions::new())
    }

    fn submit_ticket(&self, batch: &Batch<'_>, options: WriteOptions) -> Result<Option<Ticket>> {
        for op in &batch.ops {
            if let Op::Put { key, value, .. } = op {
                self.check_entry(key, value)?;
            }
        }
        let changed = match batch.ops.as_slice() {
            [] => return Ok(None),
            [op] => self.tree().change(*op, options.durability)?,
            ops => self.tree().change_structure(ops, options.durability)?,
        };
        self.handle.schedule.note_log(self.core());
        Ok(changed.ticket)
    }

    /// Waits for the acknowledgement of a change. Returns whether there was one.
    fn settle(&self, ticket: Option<Ticket>) -> Result<bool> {
        let Some(ticket) = ticket else { return Ok(false) };
        self.handle.schedule.note_log(self.core());
        // The change is in memory already: if it does not reach the disk, memory is wrong.
        ticket.wait().inspect_err(|error| self.core().failure.poison(error))?;
        Ok(true)
    }

    /// Fills the empty store with entries in strictly ascending order of their keys, at the speed of the disk: the pages are written once, and not
    /// logged. Others wait meanwhile, so the entries must not come out of this store. Returns how many entries there were. After a crash all are there or none.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Refused`] if the store is not empty, [`ErrorKind::Invalid`] if a key is not above the one before it; and what
    /// [`Store::put`] returns. Nothing was changed then.
    pub fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(&self, entries: impl IntoIterator<Item = (K, V)>) -> Result<u64> {
        let (count, ticket) = self.tree().bulk_load(entries, |key, value| self.check_entry(key, value))?;
        self.settle(ticket)?;
        Ok(count)
    }

    /// The entries whose keys are in a range, in their order, from either end. It reads a leaf at a time and sees each as it is at that moment:
    /// what is changed meanwhile may be seen or not, what is not changed is seen once. All entries are `range::<&[u8]>(..)`: without a bound
    /// nothing else says what a key is.
    pub fn range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Range {
        let owned = |bound: Bound<&K>| bound.map(|key| key.as_ref().to_vec());
        let cursor = Cursor::new(owned(range.start_bound()), owned(range.end_bound()));
        Range { store: self.clone(), cursor, has_failed: false }
    }

    /// All entries, as [`Store::range`] gives them.
    pub fn iter(&self) -> Range {
        self.range::<&[u8]>(..)
    }

    /// Makes a checkpoint now, as fast as it can. `None` if nothing was logged since the last one.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Full`], and the store goes on; anything else poisons it: [`ErrorKind::Io`], [`ErrorKind::Poisoned`].
    pub fn checkpoint(&self) -> Result<Option<CheckpointReport>> {
        self.core().checkpoint(Pace::Fast)
    }

    /// As [`Store::checkpoint`], evenly over about this time, so that others notice little of it.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`].
    pub fn checkpoint_in(&self, time: Duration) -> Result<Option<CheckpointReport>> {
        self.core().checkpoint(Pace::Spread(time))
    }

    /// Makes everything that was changed before durable, in any mode of the log.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Poisoned`].
    pub fn flush(&self) -> Result<()> {
        self.core().log().flush().map_err(|error| self.core().failure.judge(error))?;
        Ok(())
    }

    /// What the open found and did.
    pub fn recovery_report(&self) -> &RecoveryReport {
        &self.handle.report
    }

    /// What the last checkpoint in the background failed with, if it did and the store goes on: the disk was full.
    pub fn checkpoint_error(&self) -> Option<Error> {
        self.handle.schedule.last_error()
    }

    /// The log below: for its positions, statistics, readers and holds. Nothing but the store may append to it; a record of another kind in it stops
    /// the next recovery.
    pub fn log(&self) -> &Wal {
        self.core().log()
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.core().path
    }

    /// What the store has done since it was opened, and how large it is.
    pub fn stats(&self) -> Stats {
        let tree = self.tree();
        let (meta, flushed) = (tree.meta(), tree.flusher.counts());
        let (pages_read, pages_evicted) = tree.pool.counts();
        Stats {
            page_bytes: tree.page_bytes(),
            pool_pages: tree.pool.frames() as u64,
            dirty_pages: tree.pool.dirty() as u64,
            page_count: meta.page_count,
            free_pages: meta.free_count,
            tree_depth: meta.depth,
            pages_read,
            pages_evicted,
            pages_written: flushed.pages,
            images_written: flushed.images,
            image_bytes: flushed.image_bytes,
            checkpoints: self.core().checkpointer.sequence(),
            redo_lsn: self.core().checkpointer.redo_lsn(),
            next_lsn: self.log().next_lsn(),
        }
    }

    /// Makes a checkpoint and closes the store and its log. Whoever uses another clone gets [`ErrorKind::Closed`] from then on.
    ///
    /// # Errors
    ///
    /// As [`Store::checkpoint`] and [`Wal::close`]. The log is closed in any case, and nothing that was acknowledged is lost.
    pub fn close(&self) -> Result<()> {
        let core = self.core();
        if core.failure.is_closed() {
            return core.log().close();
        }
        core.checkpointer.never_pace();
        self.handle.schedule.stop();
        let checkpoint = core.checkpoint(Pace::Alone);
        // Nothing is written to the page file once the log gives up its lock.
        core.tree.flusher.close();
        let closed = core.log().close();
        checkpoint?;
        closed
    }
}

/// The entries of a range. See [`Store::range`].
///
/// As an iterator it gives copies, from either end. [`Range::next_entry`] and [`Range::next_entry_back`] lend the entries instead, each until the next call;
/// all four move the same two ends. After an error it ends.
#[derive(Debug)]
pub struct Range {
    store: Store,
    cursor: Cursor,
    has_failed: bool,
}

impl Range {
    /// The next entry from the low end, lent: nothing is copied for a single entry, and a scan is several times as fast as with copies. It is in memory of
    /// the range's own, so nobody waits for whoever holds it.
    ///
    /// ```
    /// # fn main() -> wal::Result<()> {
    /// # let temp = tempfile::tempdir().expect("a temporary directory");
    /// # let store = checkpoint::Store::open(temp.path(), checkpoint::Config::default())?;
    /// # store.put("alice", "100")?;
    /// let mut range = store.range("a".."c");
    /// let mut bytes = 0;
    /// while let Some(entry) = range.next_entry()? {
    ///     bytes += entry.key().len() + entry.value().len();
    /// }
    /// # assert_eq!(bytes, 8);
    /// # store.close()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn next_entry(&mut self) -> Result<Option<Entry<'_>>> {
        self.step(Cursor::next)
    }

    /// As [`Range::next_entry`], from the high end.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn next_entry_back(&mut self) -> Result<Option<Entry<'_>>> {
        self.step(Cursor::next_back)
    }

    fn step<'r>(
        &'r mut self,
        step: impl FnOnce(&'r mut Cursor, &Tree) -> Result<Option<Entry<'r>>>,
    ) -> Result<Option<Entry<'r>>> {
        if self.has_failed {
            return Ok(None);
        }
        let core = &self.store.handle.core;
        let result = core.failure.check().and_then(|()| step(&mut self.cursor, &core.tree));
        self.has_failed = result.is_err();
        result
    }
}

fn copied(entry: Result<Option<Entry<'_>>>) -> Option<Result<(Vec<u8>, Vec<u8>)>> {
    entry.map(|entry| entry.map(|entry| (entry.key().to_vec(), entry.value().to_vec()))).transpose()
}

impl Iterator for Range {
    type Item = Result<(Vec<u8>, Vec<u8>)>;

    fn next(&mut self) -> Option<Self::Item> {
        copied(self.next_entry())
    }
}

impl DoubleEndedIterator for Range {
    fn next_back(&mut self) -> Option<Self::Item> {
        copied(self.next_entry_back())
    }
}
