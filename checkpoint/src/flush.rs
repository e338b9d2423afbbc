//! Writing dirty pages: image into the log, log durable, page into the file. The one way in which a page reaches the file.
//!
//! 1. Latch a few dirty pages for reading and copy them. A page without an image at or after the newest redo point goes into an image record. Where nobody
//!    is to be spared, images go ahead of the pages, in longer records.
//! 2. Submit the image record while the latches are held: what it says of a page is then all that is logged of the page before it.
//! 3. Mark the pages clean, give up the latches, wait until the log is durable through the image record and every copied page.
//! 4. Write the copies, neighbours in one write.
//!
//! A page that is changed meanwhile is dirty again and stays so. If the write fails for want of space the pages are as dirty as before; any other
//! failure poisons the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use wal::{AppendOptions, Durability, Lsn, Result, Wal};

use crate::change::{self, IMAGES};
use crate::failure::Failure;
use crate::file::PageFile;
use crate::museum::Bug;
use crate::page::{self, PageId};
use crate::pool::{PageRead, Pool};
use crate::proof::LogDurable;
use crate::spare::{self, SPARE_PAGES};

/// Pages that are written together. Their images stand in front of everybody else's commit, so they are kept short.
pub(crate) const BATCH_PAGES: usize = SPARE_PAGES as usize;

/// About how many bytes of images go into a record that is logged ahead.
const AHEAD_BYTES: usize = 1 << 20;

/// Writes dirty pages.
#[derive(Debug)]
pub(crate) struct Flusher {
    pub(crate) pool: Arc<Pool>,
    pub(crate) file: Arc<PageFile>,
    pub(crate) log: Wal,
    pub(crate) failure: Arc<Failure>,
    /// One batch at a time: when the redo point is taken under this lock, every write that relied on an earlier image is over.
    turn: Mutex<Buffers>,
    /// The most bytes of images in one record: a record has to fit a segment.
    image_bytes_max: usize,
    /// The newest redo point taken. An image below it may not be there when it is needed.
    redo: AtomicU64,
    pages_written: AtomicU64,
    images_written: AtomicU64,
    image_bytes: AtomicU64,
}

#[derive(Debug, Default)]
struct Buffers {
    copies: Vec<u8>,
    images: Vec<u8>,
    /// Pages whose images are in the spare pages and whose write failed for want of space: they may be torn, so they have to be
    /// durable in their places before the spare pages are used again.
    unfinished: Option<Unfinished>,
}

/// Copies of pages that have to be written.
#[derive(Debug)]
struct Unfinished {
    ids: Vec<PageId>,
    copies: Vec<u8>,
}

/// Where the images of a batch are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ImagesAt {
    /// None were needed.
    Nowhere,
    /// In the record at this LSN.
    Log(Lsn),
    /// In the spare pages of the page file.
    Spare,
}

/// What a flusher has done since the store was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FlushCounts {
    pub(crate) pages: u64,
    pub(crate) images: u64,
    pub(crate) image_bytes: u64,
}

impl Flusher {
    pub(crate) fn new(
        pool: Arc<Pool>,
        file: Arc<PageFile>,
        log: Wal,
        failure: Arc<Failure>,
        redo: Lsn,
        image_bytes_max: usize,
    ) -> Flusher {
        Flusher {
            image_bytes_max,
            pool,
            file,
            log,
            failure,
            turn: Mutex::default(),
            redo: AtomicU64::new(redo.get()),
            pages_written: AtomicU64::new(0),
            images_written: AtomicU64::new(0),
            image_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn counts(&self) -> FlushCounts {
        FlushCounts {
            pages: self.pages_written.load(Ordering::Relaxed),
            images: self.images_written.load(Ordering::Relaxed),
            image_bytes: self.image_bytes.load(Ordering::Relaxed),
        }
    }

    /// Takes the end of the log as the redo point, when no page is on its way to the file.
    pub(crate) fn take_redo_point(&self) -> Lsn {
        let _turn = self.turn.lock();
        let redo = self.log.next_lsn();
        self.redo.store(redo.get(), Ordering::Relaxed);
        redo
    }

    /// Lets nothing be written any more, when no page is on its way to the file.
    pub(crate) fn close(&self) {
        let _turn = self.turn.lock();
        self.failure.close();
    }

    /// Makes room in the page file for `pages` pages and the spare ones behind them, when no page is on its way to the file. Returns for how
    /// many there is room now.
    pub(crate) fn grow(&self, pages: u64) -> Result<u64> {
        let mut turn = self.turn()?;
        self.grow_file(&mut turn, pages)
    }

    /// Writes pages to which nothing refers yet, as [`PageFile::write_unreferenced`], after making room for them as [`Flusher::grow`] does.
    pub(crate) fn write_unreferenced(&self, first: PageId, pages: &mut [u8]) -> Result<u64> {
        let mut turn = self.turn()?;
        let end = first.get() + (pages.len() / self.pool.page_bytes()) as u64;
        let room = self.grow_file(&mut turn, end)?;
        self.file.write_unreferenced(first, pages)?;
        Ok(room)
    }

    /// The right to write to the page file. Whoever waited for it while somebody else failed, or closed the store, does not get it.
    fn turn(&self) -> Result<MutexGuard<'_, Buffers>> {
        let turn = self.turn.lock();
        self.failure.check()?;
        Ok(turn)
    }

    /// Ends a batch that the disk had no room for, although its pages have their space: it copies on write.
    fn finish(&self, turn: &mut Buffers) -> Result<()> {
        let Some(Unfinished { ids, copies }) = &mut turn.unfinished else { return Ok(()) };
        self.write(ids, copies, Lsn::ZERO)
            .and_then(|()| self.file.sync())
            .map_err(|error| self.failure.judge(error))?;
        turn.unfinished = None;
        Ok(())
    }

    fn grow_file(&self, turn: &mut Buffers, pages: u64) -> Result<u64> {
        // The spare pages are the last ones, so those that are needed must not become others.
        self.finish(turn)?;
        let room = match self.file.pages()? {
            room if room >= pages + SPARE_PAGES => room,
            _ => match self.file.grow(pages + SPARE_PAGES) {
                // Segments of the log that wait to be used again are room that the pages need more.
                Err(error) if error.is_full() && self.log.release_recycled()? > 0 => {
                    self.file.grow(pages + SPARE_PAGES)?
                }
                result => result?,
            },
        };
        Ok(room - SPARE_PAGES)
    }

    /// Writes those of the pages that are dirty. Returns how many were written. If it `waits` for pages that are being changed, the caller
    /// holds no latch; else it leaves them out.
    pub(crate) fn flush(&self, pages: &[PageId], waits: bool) -> Result<u64> {
        let (mut at, mut written) = (0, 0);
        while at < pages.len() {
            let end = pages.len().min(at + BATCH_PAGES);
            let (seen, count) = self.flush_batch(&pages[at..end], waits)?;
            at += seen;
            written += count;
        }
        Ok(written)
    }

    /// Logs the images that these pages need before they are written, in long records, and waits for none of them: the writes do. If the log has no
    /// room, what is left out finds its way when the pages are written.
    pub(crate) fn log_images(&self, pages: &[PageId]) -> Result<()> {
        let record_bytes = self.image_bytes_max.min(AHEAD_BYTES);
        let mut rest = pages;
        while !rest.is_empty() {
            let mut turn = self.turn()?;
            let images = &mut turn.images;
            images.clear();
            let redo = Lsn::new(self.redo.load(Ordering::Relaxed));
            let mut latched: Vec<PageRead<'_>> = Vec::new();
            while let Some((id, behind)) = rest.split_first()
                && (latched.is_empty() || images.len() + self.pool.page_bytes() <= record_bytes)
            {
                // As in a batch that is written: who holds a latch waits for no other.
                let Ok(page) = self.pool.read_to_flush(*id, latched.is_empty()) else { break };
                rest = behind;
                if let Some(page) = page.filter(|page| page.rec_lsn() > Lsn::ZERO && self.needs_image(page, redo)) {
                    change::encode_image(images, page.bytes());
                    latched.push(page);
                }
            }
            if latched.is_empty() {
                continue;
            }
            let options = AppendOptions::new().record_type(IMAGES).durability(Durability::Durable);
            let ticket = match self.log.submit_with(images, options) {
                Ok(ticket) => ticket,
                Err(error) if error.is_full() => return Ok(()),
                Err(error) => return Err(self.failure.judge(error)),
            };
            latched.iter().for_each(|page| page.note_image(ticket.lsn()));
            self.images_written.fetch_add(latched.len() as u64, Ordering::Relaxed);
            self.image_bytes.fetch_add(images.len() as u64, Ordering::Relaxed);
        }
        Ok(())
    }

    fn needs_image(&self, page: &PageRead<'_>, redo: Lsn) -> bool {
        page.image_lsn() < redo && !self.file.bugs.has(Bug::ImageLeftOut)
    }

    /// Writes a few of the least used dirty pages, so that their frames can be taken.
    pub(crate) fn clean_some(&self) -> Result<u64> {
        let pages = self.pool.coldest_dirty(2 * BATCH_PAGES);
        self.flush(&pages, false)
    }

    /// Writes the dirty ones among the first of these pages, up to one that somebody else has latched. Returns how many it looked at, which
    /// is at least one, and how many it wrote.
    fn flush_batch(&self, pages: &[PageId], waits: bool) -> Result<(usize, u64)> {
        let mut turn = self.turn()?;
        self.finish(&mut turn)?;
        let Buffers { copies, images, unfinished } = &mut *turn;
        copies.clear();
        images.clear();
        let redo = Lsn::new(self.redo.load(Ordering::Relaxed));
        let mut latched: Vec<(PageId, PageRead<'_>, bool)> = Vec::with_capacity(pages.len());
        let mut seen = 0;
        // Of the images that were logged before, the newest. It may not be durable yet.
        let mut logged_image = Lsn::ZERO;
        for id in pages {
            if !latched.is_empty() && images.len() + self.pool.page_bytes() > self.image_bytes_max {
                break;
            }
            // Whoever changes several pages at once latches them in an order of its own, so this waits only while it holds no latch.
            let page = match self.pool.read_to_flush(*id, waits && latched.is_empty()) {
                Ok(page) => page,
                Err(()) if latched.is_empty() => None,
                Err(()) => break,
            };
            seen += 1;
            let Some(page) = page.filter(|page| page.rec_lsn() > Lsn::ZERO) else { continue };
            copies.extend_from_slice(page.bytes());
            let needs_image = self.needs_image(&page, redo);
            if needs_image {
                change::encode_image(images, page.bytes());
            } else {
                logged_image = logged_image.max(page.image_lsn());
            }
            latched.push((*id, page, needs_image));
        }
        if latched.is_empty() {
            return Ok((seen, 0));
        }
        let image_count = latched.iter().filter(|(_, _, needs_image)| *needs_image).count() as u64;
        let images_at = self.submit_images(images, copies)?;
        let image = if let ImagesAt::Log(lsn) = images_at { Some(lsn) } else { None };
        let (ids, rec_lsns): (Vec<PageId>, Vec<Lsn>) = latched
            .into_iter()
            .map(|(id, page, needs_image)| (id, page.begin_flush(&self.pool, image.filter(|_| needs_image))))
            .unzip();
        let result =
            self.write(&ids, copies, image.unwrap_or(Lsn::ZERO).max(logged_image)).and_then(|()| match images_at {
                // The spare pages protect one batch: it is durable in its place before anything else may be written there.
                ImagesAt::Spare => self.file.sync(),
                ImagesAt::Nowhere | ImagesAt::Log(_) => Ok(()),
            });
        let result = result.map_err(|error| self.failure.judge(error));
        for (id, rec_lsn) in ids.iter().zip(rec_lsns) {
            let stays_dirty = result.is_err() && !self.file.bugs.has(Bug::CleanAfterFailedWrite);
            self.pool.end_flush(*id, stays_dirty.then_some(rec_lsn));
        }
        let written = ids.len() as u64;
        if result.is_err() && images_at == ImagesAt::Spare {
            *unfinished = Some(Unfinished { ids, copies: std::mem::take(copies) });
        }
        result?;
        self.pages_written.fetch_add(written, Ordering::Relaxed);
        self.images_written.fetch_add(image_count, Ordering::Relaxed);
        self.image_bytes.fetch_add(images.len() as u64, Ordering::Relaxed);
        Ok((seen, written))
    }

    /// Logs the images, if there are any. On a full disk they go into the spare pages at the end of the page file instead.
    fn submit_images(&self, images: &[u8], copies: &[u8]) -> Result<ImagesAt> {
        if images.is_empty() {
            return Ok(ImagesAt::Nowhere);
        }
        let options = AppendOptions::new().record_type(IMAGES).durability(Durability::Durable);
        match self.log.submit_with(images, options) {
            Ok(ticket) => Ok(ImagesAt::Log(ticket.lsn())),
            Err(error) if error.is_full() => {
                spare::write(&self.file, &self.log, copies)
                    .map_err(|second| if second.is_full() { error } else { self.failure.judge(second) })?;
                Ok(ImagesAt::Spare)
            }
            Err(error) => Err(self.failure.judge(error)),
        }
    }

    fn prove(&self, newest: Lsn) -> Result<LogDurable> {
        #[cfg(feature = "museum")]
        if self.file.bugs.has(Bug::PageBeforeLog) {
            return Ok(LogDurable::unproven(newest));
        }
        LogDurable::through(&self.log, newest)
    }

    /// Writes copies of pages of which the newest image in the log is that at `image`, when the log is durable through that and through the pages.
    fn write(&self, ids: &[PageId], copies: &mut [u8], image: Lsn) -> Result<()> {
        let page_bytes = self.pool.page_bytes();
        let newest = copies.chunks_exact(page_bytes).map(page::lsn).fold(image, Lsn::max);
        let proof = self.prove(newest)?;
        copies.chunks_exact_mut(page_bytes).for_each(|page| self.file.seal(page));
        let mut at = 0;
        while at < ids.len() {
            let run = (at + 1..ids.len()).take_while(|next| ids[*next].get() == ids[at].get() + (next - at) as u64);
            let end = at + 1 + run.count();
            self.file.write(ids[at], &copies[at * page_bytes..end * page_bytes], &proof)?;
            at = end;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use wal::fs::durable::{LogDir, create_dir_durable};
    use wal::fs::sim::{Effect, Fault, Operation, SimFs, errno};
    use wal::{Background, Error, ErrorKind};

    use super::*;
    use crate::museum::Bugs;
    use crate::page::node;

    const PAGE: usize = 4096;
    const A: PageId = PageId::META;

    fn flusher(fs: &SimFs) -> Flusher {
        let dir = std::path::Path::new("/store");
        create_dir_durable(fs, dir).expect("a directory");
        let mut config = wal::Config::default();
        (config.segment_bytes_max, config.background) = (64 << 10, Background::Inline);
        let log = Wal::opener(config).file_system(Arc::new(fs.clone())).open(dir.join("log")).expect("a log");
        let files = LogDir::open(fs, dir).expect("the directory is there");
        PageFile::create(&files, log.log_id(), &mut [vec![0; PAGE]]).expect("a page file");
        let file = PageFile::open(&files, log.log_id(), PAGE, Bugs::default()).expect("it opens").expect("it is there");
        let (pool, redo) = (Arc::new(Pool::new(8, PAGE)), log.next_lsn());
        Flusher::new(pool, Arc::new(file), log, Arc::default(), redo, 60 << 10)
    }

    /// Logs a change of a page and makes it.
    fn change(flusher: &Flusher, id: PageId) {
        let lsn = flusher.log.append(b"change").expect("an append works");
        let mut page = flusher.pool.write(id).unwrap_or_else(|| {
            let empty = flusher.pool.take_frame().expect("a free frame");
            let (mut page, _) = flusher.pool.place(id, empty);
            node::format_node(page.bytes_mut(), id, 0, PageId::NONE);
            page
        });
        page.changed(lsn, false);
    }

    fn image_lsn(flusher: &Flusher, id: PageId) -> Lsn {
        flusher.pool.read(id).expect("it is in the pool").image_lsn()
    }

    /// Waits for what another thread is about to do.
    fn wait_for(what: impl Fn() -> bool) {
        let started = Instant::now();
        while !what() {
            assert!(started.elapsed() < Duration::from_secs(20), "it does not come");
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_page_has_one_image_for_each_redo_point_and_none_that_it_is_not_in() {
        let flusher = flusher(&SimFs::new(1));
        let b = PageId::new(1);
        change(&flusher, A);
        assert_eq!(flusher.flush(&[A], true).expect("it is written"), 1);
        let first = image_lsn(&flusher, A);
        assert!(first > Lsn::ZERO && flusher.counts().images == 1);
        change(&flusher, A);
        change(&flusher, b);
        assert_eq!(flusher.flush(&[A, b], true).expect("they are written"), 2);
        assert_eq!(
            (flusher.counts().images, image_lsn(&flusher, A)),
            (2, first),
            "that record is about the other page"
        );
        assert!(image_lsn(&flusher, b) > first);
        let redo = flusher.take_redo_point();
        change(&flusher, A);
        assert_eq!(flusher.flush(&[A, b], true).expect("it is written"), 1, "the other page is clean");
        assert_eq!((flusher.counts().images, flusher.counts().pages, flusher.pool.dirty()), (3, 4, 0));
        assert!(image_lsn(&flusher, A) >= redo, "the earlier image may go with the log");
    }

    #[test]
    fn a_page_that_is_being_changed_is_waited_for_while_no_other_is_latched() {
        let flusher = flusher(&SimFs::new(1));
        let b = PageId::new(1);
        change(&flusher, A);
        change(&flusher, b);
        let latch = flusher.pool.write(b).expect("it is in the pool");
        std::thread::scope(|scope| {
            let flush = scope.spawn(|| flusher.flush(&[A, b], true));
            wait_for(|| flusher.counts().pages == 1);
            drop(latch);
            assert_eq!(flush.join().expect("no panic").expect("they are written"), 2, "no page is left out");
        });
    }

    #[test]
    fn neither_a_redo_point_is_taken_nor_the_file_closed_while_pages_are_on_their_way() {
        let acts: [fn(&Flusher); 2] = [|flusher| assert!(flusher.take_redo_point() > Lsn::ZERO), Flusher::close];
        for act in acts {
            let flusher = flusher(&SimFs::new(1));
            change(&flusher, A);
            let latch = flusher.pool.write(A).expect("it is in the pool");
            std::thread::scope(|scope| {
                scope.spawn(|| flusher.flush(&[A], true).expect("it is written"));
                wait_for(|| flusher.turn.is_locked());
                let (tell, told) = channel();
                let other = &flusher;
                scope.spawn(move || {
                    act(other);
                    tell.send(()).unwrap_or_default();
                });
                assert_eq!(told.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
                drop(latch);
                told.recv().expect("it is done afterwards");
            });
        }
    }

    #[test]
    fn nothing_is_written_once_the_store_failed_or_was_closed() {
        for fails in [true, false] {
            let fs = SimFs::new(1);
            let flusher = flusher(&fs);
            change(&flusher, A);
            if fails {
                flusher.failure.poison(&Error::new(ErrorKind::Io, "test", "a failure"));
            } else {
                flusher.close();
            }
            fs.record_trace(true);
            let errors = [
                flusher.flush(&[A], true).map(drop).expect_err("refused"),
                flusher.clean_some().map(drop).expect_err("refused"),
                flusher.grow(10_000).map(drop).expect_err("refused"),
                flusher.write_unreferenced(PageId::new(9), &mut vec![0; PAGE]).map(drop).expect_err("refused"),
            ];
            let expected = if fails { ErrorKind::Poisoned } else { ErrorKind::Closed };
            assert!(errors.iter().all(|error| error.kind() == expected), "{errors:?}");
            assert!(fs.take_trace().is_empty());
        }
    }

    #[test]
    fn what_fails_on_the_way_to_the_file_poisons_the_store() {
        // A write of a page, and an image that a broken log does not take.
        for name in ["pages", ".wal"] {
            let fs = SimFs::new(1);
            let flusher = flusher(&fs);
            change(&flusher, A);
            if name == "pages" {
                fs.plan(Fault::error(errno::EIO).on(Operation::Write).name(name));
            } else {
                fs.plan(Fault::error(errno::EIO));
                flusher.log.append(b"more").expect_err("the log fails");
            }
            flusher.clean_some().expect_err("the page cannot be written");
            assert_eq!(flusher.pool.dirty(), 1);
            assert!(flusher.failure.check().expect_err("poisoned").is_poisoned(), "{name}");
        }
    }

    #[test]
    fn an_image_that_was_logged_ahead_is_durable_before_its_page_is_written() {
        let flusher = flusher(&SimFs::new(1));
        change(&flusher, A);
        flusher.log_images(&[A]).expect("it is logged");
        let image = image_lsn(&flusher, A);
        assert!(image > Lsn::ZERO && flusher.log.durable_lsn() <= image, "nobody waited for it");
        assert_eq!(flusher.flush(&[A], true).expect("it is written"), 1);
        assert!(flusher.log.durable_lsn() > image);
    }

    #[test]
    fn images_ahead_wait_for_a_page_that_is_being_changed_while_no_other_is_latched() {
        let flusher = flusher(&SimFs::new(1));
        let b = PageId::new(1);
        change(&flusher, A);
        change(&flusher, b);
        let latch = flusher.pool.write(b).expect("it is in the pool");
        std::thread::scope(|scope| {
            let images = scope.spawn(|| flusher.log_images(&[A, b]));
            wait_for(|| flusher.counts().images == 1);
            drop(latch);
            images.join().expect("no panic").expect("they are logged");
        });
        assert_eq!(flusher.counts().images, 2, "no page is left out");
    }

    #[test]
    fn an_image_ahead_that_a_broken_log_does_not_take_poisons_the_store() {
        let fs = SimFs::new(1);
        let flusher = flusher(&fs);
        change(&flusher, A);
        fs.plan(Fault::error(errno::EIO));
        flusher.log.append(b"more").expect_err("the log fails");
        flusher.log_images(&[A]).expect_err("the log takes nothing");
        assert!(flusher.failure.check().expect_err("poisoned").is_poisoned());
    }

    /// A flusher with a dirty page on a disk on which the log has no room for an image.
    fn flusher_on_full_disk(fs: &SimFs) -> Flusher {
        let flusher = flusher(fs);
        change(&flusher, A);
        let used = fs.space_used();
        fs.configure(|config| config.capacity = Some(used));
        for len in [1000, 1] {
            while flusher.log.append(&[0; 1000][..len]).is_ok() {}
        }
        fs.record_trace(true);
        flusher
    }

    #[test]
    fn images_in_spare_pages_are_durable_before_the_pages_and_those_before_the_next_images() {
        let fs = SimFs::new(1);
        let flusher = flusher_on_full_disk(&fs);
        assert_eq!(flusher.flush(&[A], true).expect("it is written"), 1);
        assert_eq!(writes_and_syncs(&fs), [spares(&flusher), SYNC, PLACE_OF_A, SYNC]);
    }

    const PLACE_OF_A: (Operation, u64) = (Operation::Write, 0);
    const SYNC: (Operation, u64) = (Operation::SyncData, 0);

    /// The call that writes the first image into the spare pages.
    fn spares(flusher: &Flusher) -> (Operation, u64) {
        let first = flusher.file.pages().expect("it has a length") - SPARE_PAGES;
        (Operation::Write, first * PAGE as u64)
    }

    /// The calls on the page file that were traced and that change it or make it durable, with where they write.
    fn writes_and_syncs(fs: &SimFs) -> Vec<(Operation, u64)> {
        let calls = fs.take_trace().into_iter().filter(|event| event.path.ends_with("/pages"));
        let calls = calls.filter(|event| event.operation == Operation::Write || event.operation.is_sync());
        calls.map(|event| (event.operation, event.offset)).collect()
    }

    #[test]
    fn a_batch_that_found_no_room_is_durable_before_another_is_written() {
        let fs = SimFs::new(1);
        let flusher = flusher_on_full_disk(&fs);
        let no_room = Effect::PartialError { bytes: 700, errno: errno::ENOSPC };
        fs.plan(Fault::new(no_room).on(Operation::Write).name("pages").skip(1));
        assert!(flusher.flush(&[A], true).expect_err("the page does not fit").is_full());
        fs.take_trace();
        assert_eq!(flusher.flush(&[A], true).expect("it is written"), 1);
        let calls = writes_and_syncs(&fs);
        assert_eq!(calls[..3], [PLACE_OF_A, SYNC, spares(&flusher)], "the spare pages have the only image: {calls:?}");
    }

    #[test]
    fn an_image_is_in_a_spare_page_when_the_log_of_its_page_is_durable_and_not_before() {
        let flusher = flusher(&SimFs::new(1));
        change(&flusher, A);
        let lsn = flusher.log.submit_with(b"later", AppendOptions::new()).expect("it is taken").lsn();
        flusher.pool.write(A).expect("it is in the pool").changed(lsn, false);
        assert!(flusher.log.durable_lsn() <= lsn, "nobody waited for it");
        let copies = flusher.pool.read(A).expect("it is in the pool").bytes().to_vec();
        spare::write(&flusher.file, &flusher.log, &copies).expect("there are spare pages");
        assert!(flusher.log.durable_lsn() > lsn);
    }

    #[test]
    fn what_fails_on_the_way_to_the_spare_pages_poisons_the_store() {
        for operation in [Operation::Write, Operation::SyncData] {
            let fs = SimFs::new(1);
            let flusher = flusher_on_full_disk(&fs);
            fs.plan(Fault::error(errno::EIO).on(operation).name("pages"));
            flusher.flush(&[A], true).expect_err("the image cannot be written");
            assert!(flusher.failure.check().expect_err("poisoned").is_poisoned(), "{operation:?}");
        }
    }
}
