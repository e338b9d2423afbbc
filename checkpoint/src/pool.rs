//! The buffer pool: a bounded number of frames, each with a latch, and a table that says which page is in which.
//!
//! A latch guard is the pin: a frame is evicted only by who gets its latch for writing without waiting. Victims are chosen by the clock
//! sweep with usage counts that PostgreSQL uses. Only clean pages are evicted here; making dirty ones clean is the flusher's work.
//!
//! Lock order: a latch before the shard of the table that its page is in; never two shards. Who holds several latches for writing holds the
//! tree exclusively.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard, RwLockWriteGuard};
use wal::{Lsn, Result};

use crate::file::{PageFile, ReadError};
use crate::page::PageId;

const SHARDS: usize = 64;
/// The most that a page's usage counts, so that a page once popular leaves after a few sweeps.
const USAGE_MAX: u8 = 5;
/// How often the hand goes around before it gives up.
const SWEEPS: usize = USAGE_MAX as usize + 2;

/// A place for one page.
#[derive(Debug)]
pub(crate) struct Frame {
    page: RwLock<Page>,
    usage: AtomicU8,
    /// The LSN of the first change that the page file does not have; 0 if it has all. Changed only under the latch: by changes, which hold
    /// it for writing, and by the flusher.
    rec_lsn: AtomicU64,
    /// The LSN of the latest image of the page in the log, 0 if none is known.
    image_lsn: AtomicU64,
    /// The flusher has a copy of the page that is not in the file yet.
    is_in_flight: AtomicBool,
}

/// A page in memory.
#[derive(Debug)]
pub(crate) struct Page {
    id: PageId,
    bytes: Box<[u8]>,
}

/// A page, latched for reading.
pub(crate) struct PageRead<'a> {
    frame: &'a Frame,
    page: RwLockReadGuard<'a, Page>,
}

/// A page, latched for writing.
pub(crate) struct PageWrite<'a> {
    pool: &'a Pool,
    frame: &'a Frame,
    page: RwLockWriteGuard<'a, Page>,
}

/// A frame that holds no page and is in nobody else's hands.
pub(crate) struct EmptyFrame<'a> {
    index: u32,
    page: RwLockWriteGuard<'a, Page>,
}

/// Page numbers are dense, so a multiplication spreads them well enough.
#[derive(Debug, Default)]
struct PageHasher(u64);

impl Hasher for PageHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only page numbers are hashed")
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_right(20);
    }
}

type Table = HashMap<u64, u32, BuildHasherDefault<PageHasher>>;

/// The frames and the table.
#[derive(Debug)]
pub(crate) struct Pool {
    frames: Vec<Frame>,
    table: Vec<Mutex<Table>>,
    /// Where a page was last found, by the low bits of its number. A hint is checked under the frame's latch, so it may be wrong; page numbers
    /// are dense, so it seldom is. It spares lookups the table.
    hints: Vec<AtomicU32>,
    /// Frames that hold no page.
    free: Mutex<Vec<u32>>,
    hand: AtomicUsize,
    dirty: AtomicUsize,
    misses: AtomicU64,
    evictions: AtomicU64,
    page_bytes: usize,
}

impl Pool {
    /// A pool of this many frames. Their memory is taken when they are first used.
    pub(crate) fn new(frames: usize, page_bytes: usize) -> Pool {
        let frame = || Frame {
            page: RwLock::new(Page { id: PageId::NONE, bytes: Box::default() }),
            usage: AtomicU8::new(0),
            rec_lsn: AtomicU64::new(0),
            image_lsn: AtomicU64::new(0),
            is_in_flight: AtomicBool::new(false),
        };
        Pool {
            frames: (0..frames).map(|_| frame()).collect(),
            table: (0..SHARDS).map(|_| Mutex::default()).collect(),
            hints: (0..frames.next_power_of_two() * 2).map(|_| AtomicU32::new(0)).collect(),
            free: Mutex::new((0..frames as u32).rev().collect()),
            hand: AtomicUsize::new(0),
            dirty: AtomicUsize::new(0),
            misses: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            page_bytes,
        }
    }

    pub(crate) fn frames(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    /// How many pages have changes that the page file does not have.
    pub(crate) fn dirty(&self) -> usize {
        self.dirty.load(Ordering::Relaxed)
    }

    /// Pages that had to be read from the file, and pages that were evicted.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.misses.load(Ordering::Relaxed), self.evictions.load(Ordering::Relaxed))
    }

    fn shard(&self, id: PageId) -> &Mutex<Table> {
        &self.table[(id.get() % SHARDS as u64) as usize]
    }

    fn find(&self, id: PageId) -> Option<&Frame> {
        let index = self.shard(id).lock().get(&id.get()).copied()?;
        self.hint(id).store(index, Ordering::Relaxed);
        Some(&self.frames[index as usize])
    }

    /// The frame that a page is probably in.
    fn hinted(&self, id: PageId) -> &Frame {
        let hint = self.hint(id).load(Ordering::Relaxed);
        &self.frames[hint as usize]
    }

    fn hint(&self, id: PageId) -> &AtomicU32 {
        &self.hints[id.get() as usize & (self.hints.len() - 1)]
    }

    /// Latches a page for reading; `None` if it is not in the pool.
    pub(crate) fn read(&self, id: PageId) -> Option<PageRead<'_>> {
        let frame = self.hinted(id);
        // Somebody else's page may be latched for long, so a wrong hint waits for nobody.
        if let Some(page) = frame.page.try_read()
            && page.id == id
        {
            frame.touch();
            return Some(PageRead { frame, page });
        }
        loop {
            let frame = self.find(id)?;
            let page = frame.page.read();
            // Between the look into the table and the latch the frame may have got another page.
            if page.id == id {
                frame.touch();
                return Some(PageRead { frame, page });
            }
        }
    }

    /// As [`Pool::read`], for a flusher: does not count as use, and waits for the latch only if told to. `Err` if it would have to wait.
    pub(crate) fn read_to_flush(&self, id: PageId, waits: bool) -> Result<Option<PageRead<'_>>, ()> {
        loop {
            let Some(frame) = self.find(id) else { return Ok(None) };
            let page = if waits { frame.page.read() } else { frame.page.try_read().ok_or(())? };
            if page.id == id {
                return Ok(Some(PageRead { frame, page }));
            }
        }
    }

    /// Latches a page for writing; `None` if it is not in the pool.
    pub(crate) fn write(&self, id: PageId) -> Option<PageWrite<'_>> {
        let frame = self.hinted(id);
        if let Some(page) = frame.page.try_write()
            && page.id == id
        {
            frame.touch();
            return Some(PageWrite { pool: self, frame, page });
        }
        loop {
            let frame = self.find(id)?;
            let page = frame.page.write();
            if page.id == id {
                frame.touch();
                return Some(PageWrite { pool: self, frame, page });
            }
        }
    }

    /// An empty frame: a free one, or one whose clean page is evicted. `None` if no page is clean.
    pub(crate) fn take_frame(&self) -> Option<EmptyFrame<'_>> {
        if let Some(index) = self.free.lock().pop() {
            let mut page = self.frames[index as usize].page.write();
            if page.bytes.is_empty() {
                page.bytes = vec![0; self.page_bytes].into_boxed_slice();
            }
            return Some(EmptyFrame { index, page });
        }
        for _ in 0..SWEEPS * self.frames.len() {
            let index = self.hand.fetch_add(1, Ordering::Relaxed) % self.frames.len();
            let frame = &self.frames[index];
            let usage = frame.usage.load(Ordering::Relaxed);
            if usage > 0 {
                frame.usage.store(usage - 1, Ordering::Relaxed);
                continue;
            }
            if frame.is_dirty() {
                continue;
            }
            if let Some(empty) = self.evict(index) {
                return Some(empty);
            }
        }
        None
    }

    /// Empties a frame, unless it is latched, or not to be emptied any more by the time that it could be.
    fn evict(&self, index: usize) -> Option<EmptyFrame<'_>> {
        let frame = &self.frames[index];
        let mut page = frame.page.try_write()?;
        // A frame without a page is free, or in the hands of somebody who just emptied it.
        if page.id == PageId::NONE || frame.is_dirty() {
            return None;
        }
        self.shard(page.id).lock().remove(&page.id.get());
        page.id = PageId::NONE;
        self.evictions.fetch_add(1, Ordering::Relaxed);
        Some(EmptyFrame { index: index as u32, page })
    }

    /// Gives back a frame that was not needed.
    pub(crate) fn give_back(&self, frame: EmptyFrame<'_>) {
        let index = frame.index;
        drop(frame);
        self.free.lock().push(index);
    }

    /// Puts a page into an empty frame, latched for writing, unless the page is in the pool: then it latches that and gives the
    /// frame back. The bytes are the caller's to fill.
    pub(crate) fn place<'a>(&'a self, id: PageId, empty: EmptyFrame<'a>) -> (PageWrite<'a>, bool) {
        let EmptyFrame { index, mut page } = empty;
        let frame = &self.frames[index as usize];
        {
            let mut table = self.shard(id).lock();
            if let std::collections::hash_map::Entry::Vacant(entry) = table.entry(id.get()) {
                entry.insert(index);
                page.id = id;
                frame.usage.store(1, Ordering::Relaxed);
                frame.image_lsn.store(0, Ordering::Relaxed);
                return (PageWrite { pool: self, frame, page }, true);
            }
        }
        drop(page);
        match self.write(id) {
            Some(found) => {
                self.free.lock().push(index);
                (found, false)
            }
            // It was evicted in this moment; the frame is still ours, since nobody finds it.
            None => self.place(id, EmptyFrame { index, page: frame.page.write() }),
        }
    }

    /// Reads a page from the file into a frame. If the page came into the pool meanwhile, nothing is read.
    pub(crate) fn load(&self, id: PageId, empty: EmptyFrame<'_>, file: &PageFile) -> Result<(), ReadError> {
        let (mut page, is_new) = self.place(id, empty);
        if !is_new {
            return Ok(());
        }
        self.misses.fetch_add(1, Ordering::Relaxed);
        match file.read(id, page.bytes_mut()) {
            Ok(_) => Ok(()),
            Err(error) => {
                page.forget();
                Err(error)
            }
        }
    }

    /// The pages that have changes below `before` which the page file does not have, or may not have: a page whose write is under way is among
    /// them, because the write may still fail. Waits for each page that is latched, so whatever was logged below `before` is seen.
    pub(crate) fn dirty_table(&self, before: Lsn) -> Vec<(PageId, Lsn)> {
        let mut table = Vec::new();
        for frame in &self.frames {
            // Latched for writing: the flusher too has a latch whenever it changes one of the two fields, so they fit each other.
            let page = frame.page.write();
            if page.id == PageId::NONE {
                continue;
            }
            let rec_lsn = frame.rec_lsn();
            if rec_lsn > Lsn::ZERO && rec_lsn < before {
                table.push((page.id, rec_lsn));
            } else if frame.is_in_flight.load(Ordering::Acquire) {
                table.push((page.id, before));
            }
        }
        table.sort_unstable();
        table
    }

    /// Some dirty pages that are least in use, from the hand of the clock on: the next victims.
    pub(crate) fn coldest_dirty(&self, wanted: usize) -> Vec<PageId> {
        let start = self.hand.load(Ordering::Relaxed);
        let mut pages = Vec::with_capacity(wanted);
        for usage_max in [0, USAGE_MAX] {
            for step in 0..self.frames.len() {
                let frame = &self.frames[(start + step) % self.frames.len()];
                if frame.rec_lsn() == Lsn::ZERO || frame.usage.load(Ordering::Relaxed) > usage_max {
                    continue;
                }
                if let Some(page) = frame.page.try_read()
                    && page.id != PageId::NONE
                {
                    pages.push(page.id);
                }
                if pages.len() == wanted {
                    break;
                }
            }
            if !pages.is_empty() {
                break;
            }
        }
        pages.sort_unstable();
        pages.dedup();
        pages
    }
}

impl Frame {
    fn touch(&self) {
        let usage = self.usage.load(Ordering::Relaxed);
        if usage < USAGE_MAX {
            self.usage.store(usage + 1, Ordering::Relaxed);
        }
    }

    fn rec_lsn(&self) -> Lsn {
        Lsn::new(self.rec_lsn.load(Ordering::Acquire))
    }

    /// Whether the page may not be evicted.
    fn is_dirty(&self) -> bool {
        self.rec_lsn() > Lsn::ZERO || self.is_in_flight.load(Ordering::Acquire)
    }
}

impl PageRead<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.page.bytes
    }

    /// The LSN of the first change that the page file lacks; [`Lsn::ZERO`] if it has all.
    pub(crate) fn rec_lsn(&self) -> Lsn {
        self.frame.rec_lsn()
    }

    pub(crate) fn image_lsn(&self) -> Lsn {
        Lsn::new(self.frame.image_lsn.load(Ordering::Relaxed))
    }

    /// Says that the record at `image` holds an image of the page as it is.
    pub(crate) fn note_image(&self, image: Lsn) {
        self.frame.image_lsn.store(image.get(), Ordering::Relaxed);
    }

    /// The flusher has copied the page: from now on changes count from zero, and the page cannot be evicted before
    /// [`Pool::end_flush`]. Returns what [`PageRead::rec_lsn`] was.
    pub(crate) fn begin_flush(&self, pool: &Pool, image: Option<Lsn>) -> Lsn {
        self.frame.is_in_flight.store(true, Ordering::Release);
        let rec_lsn = self.frame.rec_lsn.swap(0, Ordering::AcqRel);
        pool.dirty.fetch_sub(1, Ordering::Relaxed);
        if let Some(image) = image {
            self.frame.image_lsn.store(image.get(), Ordering::Relaxed);
        }
        Lsn::new(rec_lsn)
    }
}

impl Pool {
    /// The flusher is done with a page: it is in the file, or, if `failed`, it is as dirty as it was.
    pub(crate) fn end_flush(&self, id: PageId, failed: Option<Lsn>) {
        let frame = self.find(id).expect("a page in flight is not evicted");
        // Under the latch no change is halfway, so the two fields fit each other.
        let _page = frame.page.read();
        if let Some(rec_lsn) = failed
            && frame.rec_lsn.swap(rec_lsn.get(), Ordering::AcqRel) == 0
        {
            self.dirty.fetch_add(1, Ordering::Relaxed);
        }
        frame.is_in_flight.store(false, Ordering::Release);
    }
}

impl PageWrite<'_> {
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.page.bytes
    }

    /// The bytes, for a change that is in the log.
    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.page.bytes
    }

    /// Takes the bytes of a page that was changed elsewhere.
    pub(crate) fn swap_bytes(&mut self, bytes: &mut Box<[u8]>) {
        std::mem::swap(&mut self.page.bytes, bytes);
    }

    /// Says that the record at `lsn` changed the page. `is_whole` if the record holds all of the page, so that it serves as an image.
    pub(crate) fn changed(&mut self, lsn: Lsn, is_whole: bool) {
        crate::page::set_lsn(&mut self.page.bytes, lsn);
        self.mark_dirty(lsn);
        if is_whole {
            self.frame.image_lsn.store(lsn.get(), Ordering::Relaxed);
        }
    }

    /// Says that the page file may lack what the record at `lsn` and later ones did.
    pub(crate) fn mark_dirty(&mut self, lsn: Lsn) {
        if self.frame.rec_lsn() == Lsn::ZERO {
            self.frame.rec_lsn.store(lsn.get(), Ordering::Release);
            self.pool.dirty.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Takes a page that turned out to be unusable out of the pool.
    pub(crate) fn forget(mut self) {
        let id = self.page.id;
        let index = {
            let mut table = self.pool.shard(id).lock();
            table.remove(&id.get()).expect("a latched page is in the table")
        };
        self.page.id = PageId::NONE;
        let pool = self.pool;
        drop(self);
        pool.free.lock().push(index);
    }
}

#[cfg(test)]
mod tests {
    mod races;

    use super::*;

    /// A pool with one dirty page.
    fn pool_with_dirty_page(lsn: u64) -> (Pool, PageId) {
        let (pool, id) = (Pool::new(4, 4096), PageId::new(3));
        let empty = pool.take_frame().expect("all frames are free");
        let (mut page, is_new) = pool.place(id, empty);
        assert!(is_new);
        crate::page::node::format_node(page.bytes_mut(), id, 0, PageId::NONE);
        page.changed(Lsn::new(lsn), false);
        drop(page);
        (pool, id)
    }

    #[test]
    fn a_page_on_its_way_to_the_file_is_in_the_dirty_table_because_the_write_may_fail() {
        let (pool, id) = pool_with_dirty_page(100);
        let before = Lsn::new(200);
        assert_eq!(pool.dirty_table(before), [(id, Lsn::new(100))]);
        let rec_lsn = pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
        assert_eq!(pool.dirty_table(before), [(id, before)], "it is not in the file yet");
        pool.end_flush(id, Some(rec_lsn));
        assert_eq!(pool.dirty_table(before), [(id, Lsn::new(100))], "its write failed");
        pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
        pool.end_flush(id, None);
        assert_eq!(pool.dirty_table(before), []);
        assert_eq!(pool.dirty(), 0);
    }

    #[test]
    fn a_page_that_is_dirty_or_on_its_way_to_the_file_is_not_evicted() {
        let (pool, id) = pool_with_dirty_page(100);
        let others: Vec<EmptyFrame<'_>> = (0..3).map(|_| pool.take_frame().expect("a free frame")).collect();
        assert!(pool.take_frame().is_none(), "the page is dirty");
        pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
        assert!(pool.take_frame().is_none(), "the page is in flight");
        pool.end_flush(id, None);
        let taken = pool.take_frame().expect("the page is clean");
        assert!(pool.read(id).is_none());
        pool.give_back(taken);
        others.into_iter().for_each(|frame| pool.give_back(frame));
    }

    #[test]
    fn a_page_is_dirty_since_the_first_change_that_the_file_lacks_also_if_its_write_fails() {
        let (pool, id) = pool_with_dirty_page(100);
        let change = |lsn: u64, is_whole| pool.write(id).expect("it is there").changed(Lsn::new(lsn), is_whole);
        change(150, false);
        assert_eq!(pool.dirty_table(Lsn::new(120)), [(id, Lsn::new(100))]);
        let page = pool.read(id).expect("it is there");
        let rec_lsn = page.begin_flush(&pool, None);
        drop(page);
        change(300, false);
        pool.end_flush(id, Some(rec_lsn));
        assert_eq!(pool.dirty_table(Lsn::new(200)), [(id, Lsn::new(100))], "the file lacks the first change still");
        assert_eq!(pool.dirty(), 1);
        assert_eq!(pool.dirty_table(Lsn::new(100)), [], "what was changed later is not asked for");
        change(400, true);
        assert_eq!(pool.read(id).expect("it is there").image_lsn(), Lsn::new(400), "that record has all of the page");
        change(500, false);
        assert_eq!(pool.read(id).expect("it is there").image_lsn(), Lsn::new(400), "and that one has not");
    }

    #[test]
    fn a_page_that_is_being_changed_is_waited_for_by_the_dirty_table() {
        let (pool, id) = pool_with_dirty_page(100);
        let latch = pool.write(id).expect("it is there");
        std::thread::scope(|scope| {
            let (tell, told) = std::sync::mpsc::channel();
            let pool = &pool;
            scope.spawn(move || tell.send(pool.dirty_table(Lsn::new(200))).unwrap_or_default());
            let waits = told.recv_timeout(std::time::Duration::from_millis(200));
            assert!(waits.is_err(), "{waits:?}");
            drop(latch);
            assert_eq!(told.recv().expect("it comes"), [(id, Lsn::new(100))]);
        });
    }

    #[test]
    fn a_page_that_comes_into_a_frame_has_no_image_of_the_one_before() {
        let (pool, id) = pool_with_dirty_page(100);
        let others: Vec<EmptyFrame<'_>> = (0..3).map(|_| pool.take_frame().expect("a free frame")).collect();
        pool.read(id).expect("it is there").begin_flush(&pool, Some(Lsn::new(150)));
        pool.end_flush(id, None);
        let (page, is_new) = pool.place(PageId::new(9), pool.take_frame().expect("the page is clean"));
        assert!(is_new);
        drop(page);
        assert_eq!(pool.read(PageId::new(9)).expect("it is there").image_lsn(), Lsn::ZERO);
        drop(others);
    }
}
