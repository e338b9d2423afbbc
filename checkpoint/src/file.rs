//! The page file: pages in, pages out, whole. Nothing is written without proof that the log is ahead.

use wal::fs::OpenMode;
use wal::fs::durable::{LogDir, LogFile};
use wal::{Error, ErrorKind, LogId, Result};

use parking_lot::Mutex;

use crate::museum::{Bug, Bugs};
use crate::page::{self, Damage, PageId, PageKind};
use crate::proof::LogDurable;

/// Its name.
pub(crate) const PAGES: &str = "pages";
/// The smallest step in which the file grows, in bytes.
const GROW_BYTES_MIN: u64 = 1 << 20;
/// The largest step.
const GROW_BYTES_MAX: u64 = 64 << 20;

/// The open page file. One descriptor writes, reads and syncs for the whole life of the store, so an error that the operating system
/// reports once for each descriptor cannot get lost in a reopen.
#[derive(Debug)]
pub(crate) struct PageFile {
    file: LogFile,
    page_bytes: usize,
    store: LogId,
    pub(crate) bugs: Bugs,
    /// The first sync that failed. Held while syncing: the operating system tells an error to one of several concurrent syncs only.
    failed_sync: Mutex<Option<Error>>,
}

/// Why a page could not be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The read failed.
    Failed(Error),
    /// What was read is not the page.
    Damaged(Damage),
}

impl PageFile {
    /// Creates a page file from its first pages, with room for some more.
    pub(crate) fn create(dir: &LogDir, store: LogId, pages: &mut [Vec<u8>]) -> Result<()> {
        let temp = dir.write_temp(PAGES, |file| {
            let mut at = 0;
            for page in pages.iter_mut() {
                page::seal(page, store);
                file.write_at(page, at)?;
                at += page.len() as u64;
            }
            file.write_zeros(at, at.next_multiple_of(GROW_BYTES_MIN))
        })?;
        Ok(dir.commit(temp)?)
    }

    /// Opens the page file; `None` if it is missing.
    pub(crate) fn open(dir: &LogDir, store: LogId, page_bytes: usize, bugs: Bugs) -> Result<Option<PageFile>> {
        let file = dir.find_file(PAGES, OpenMode::Write)?;
        Ok(file.map(|file| PageFile { file, page_bytes, store, bugs, failed_sync: Mutex::default() }))
    }

    /// Opens the page file for looking only; `None` if it is missing.
    pub(crate) fn open_to_read(dir: &LogDir, store: LogId, page_bytes: usize) -> Result<Option<PageFile>> {
        let file = dir.find_file(PAGES, OpenMode::Read)?;
        let bugs = Bugs::default();
        Ok(file.map(|file| PageFile { file, page_bytes, store, bugs, failed_sync: Mutex::default() }))
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.page_bytes
    }

    fn offset(&self, id: PageId) -> u64 {
        id.get().saturating_mul(self.page_bytes as u64)
    }

    /// Its size in bytes.
    pub(crate) fn bytes(&self) -> Result<u64> {
        self.file.len()
    }

    /// How many whole pages the file has room for.
    pub(crate) fn pages(&self) -> Result<u64> {
        Ok(self.file.len()? / self.page_bytes as u64)
    }

    /// Makes room for at least `pages` pages. The new space is written, not merely declared, so that a later page write needs no space
    /// that the disk might not have. Returns for how many there is room now.
    pub(crate) fn grow(&self, pages: u64) -> Result<u64> {
        let len = self.file.len()?;
        let step = (len / 8).clamp(GROW_BYTES_MIN, GROW_BYTES_MAX);
        let wanted = (pages * self.page_bytes as u64).max(len + step).next_multiple_of(GROW_BYTES_MIN);
        self.file.write_zeros(len, wanted)?;
        self.pages()
    }

    /// Reads a page into `bytes` and checks it.
    pub(crate) fn read(&self, id: PageId, bytes: &mut [u8]) -> Result<PageKind, ReadError> {
        let read = self.file.read_at(bytes, self.offset(id)).map_err(ReadError::Failed)?;
        bytes[read..].fill(0);
        if self.bugs.has(Bug::TornPageBelieved) && page::id(bytes) == id {
            // The same page with the right checksum.
            page::seal(bytes, self.store);
        }
        page::check(bytes, self.store, id).map_err(ReadError::Damaged)
    }

    /// The error for a damaged page.
    pub(crate) fn damaged(&self, id: PageId, damage: Damage) -> Error {
        Error::new(ErrorKind::Corruption, "read page", format!("page {id}: {damage}"))
            .at_path(self.file.path())
            .at_offset(self.offset(id))
    }

    /// Writes pages that follow each other, of which `first` is the first. Each was sealed.
    ///
    /// # Panics
    ///
    /// If the proof does not cover the LSN of one of the pages: that would break the rule for which the log exists.
    pub(crate) fn write(&self, first: PageId, pages: &[u8], proof: &LogDurable) -> Result<()> {
        for (index, page) in pages.chunks_exact(self.page_bytes).enumerate() {
            assert!(page::id(page).get() == first.get() + index as u64, "a page goes to its own place");
            assert!(proof.covers(page::lsn(page)), "a page goes to the file only when its log is durable");
        }
        self.file.write_at(pages, self.offset(first))
    }

    /// Writes pages that no checkpointed page refers to yet, so that neither log nor image is needed to undo a torn write: for a bulk load.
    pub(crate) fn write_unreferenced(&self, first: PageId, pages: &mut [u8]) -> Result<()> {
        for page in pages.chunks_exact_mut(self.page_bytes) {
            page::seal(page, self.store);
        }
        self.file.write_at(pages, self.offset(first))
    }

    /// Writes images of other pages into spare pages. Each was sealed under its own number.
    pub(crate) fn write_images(&self, first: PageId, images: &[u8], proof: &LogDurable) -> Result<()> {
        let newest = images.chunks_exact(self.page_bytes).map(page::lsn).max();
        assert!(newest.is_none_or(|lsn| proof.covers(lsn)), "an image goes to the file only when its log is durable");
        self.file.write_at(images, self.offset(first))
    }

    /// Reads a spare page, and says of which page it is an image.
    pub(crate) fn read_image(&self, spare: PageId, bytes: &mut [u8]) -> Result<Option<PageId>> {
        let read = self.file.read_at(bytes, self.offset(spare))?;
        bytes[read..].fill(0);
        let id = page::id(bytes);
        Ok(page::check(bytes, self.store, id).is_ok().then_some(id))
    }

    /// Seals a page for this store.
    pub(crate) fn seal(&self, page: &mut [u8]) {
        page::seal(page, self.store);
    }

    /// Makes everything that was written durable. Never tried again after a failure: whoever comes later, or waited meanwhile, gets that failure.
    pub(crate) fn sync(&self) -> Result<()> {
        let mut failed = self.failed_sync.lock();
        if let Some(first) = &*failed {
            return Err(Error::poisoned(first));
        }
        // That a sync ran out of space cannot be mended by making room: what the operating system had accepted is lost.
        let mut result = self.file.sync_data();
        if result.is_err() && self.bugs.has(Bug::SyncTriedAgain) {
            result = self.file.sync_data();
        }
        result.map_err(|error| failed.insert(error.into_io()).clone())
    }
}

#[cfg(test)]
mod tests {
    use wal::fs::FileSystem;
    use wal::fs::sim::{Fault, Operation, SimFs, errno};
    use wal::{Background, Lsn, Wal};

    use super::*;

    const PAGE: usize = 4096;

    /// A page file, a log with two records, and their LSNs; the first one is durable, with its proof.
    fn file() -> (SimFs, PageFile, LogDurable, [Lsn; 2]) {
        let fs = SimFs::new(1);
        let mut config = wal::Config::default();
        (config.segment_bytes_max, config.background, config.sync_mode) =
            (64 << 10, Background::Inline, wal::SyncMode::None);
        let log = Wal::opener(config).file_system(std::sync::Arc::new(fs.clone())).open("/log").expect("a log");
        let lsns = [0, 1].map(|_| log.append(b"change").expect("an append works"));
        let proof = LogDurable::through(&log, lsns[0]).expect("it can be synced");
        fs.create_dir("/store".as_ref()).expect("a directory");
        let files = LogDir::open(&fs, "/store".as_ref()).expect("the directory is there");
        PageFile::create(&files, log.log_id(), &mut [vec![0; PAGE]]).expect("a page file");
        let file = PageFile::open(&files, log.log_id(), PAGE, Bugs::default()).expect("it opens").expect("it is there");
        (fs, file, proof, lsns)
    }

    fn page(file: &PageFile, id: u64, lsn: Lsn) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        page::node::format_node(&mut bytes, PageId::new(id), 0, PageId::NONE);
        page::set_lsn(&mut bytes, lsn);
        file.seal(&mut bytes);
        bytes
    }

    #[test]
    #[should_panic(expected = "a page goes to the file only when its log is durable")]
    fn a_page_without_proof_is_not_written() {
        let (_fs, file, proof, lsns) = file();
        let written = file.write(PageId::new(3), &page(&file, 3, lsns[0]), &proof);
        written.expect("this one has a proof");
        drop(file.write(PageId::new(3), &page(&file, 3, lsns[1]), &proof));
    }

    #[test]
    #[should_panic(expected = "an image goes to the file only when its log is durable")]
    fn an_image_without_proof_is_not_written() {
        let (_fs, file, proof, lsns) = file();
        let written = file.write_images(PageId::new(9), &page(&file, 3, lsns[0]), &proof);
        written.expect("this one has a proof");
        let two = [page(&file, 3, lsns[0]), page(&file, 4, lsns[1])].concat();
        drop(file.write_images(PageId::new(9), &two, &proof));
    }

    #[test]
    #[should_panic(expected = "a page goes to its own place")]
    fn a_page_is_not_written_to_the_place_of_another() {
        let (_fs, file, proof, lsns) = file();
        drop(file.write(PageId::new(4), &page(&file, 3, lsns[0]), &proof));
    }

    #[test]
    fn what_the_file_does_not_have_is_not_taken_from_what_the_buffer_had() {
        let (fs, file, proof, lsns) = file();
        let (id, mut bytes) = (PageId::new(200), page(&file, 200, lsns[0]));
        bytes[PAGE - 1] = 7;
        file.seal(&mut bytes);
        file.write(id, &bytes, &proof).expect("it can be written");
        let whole = fs.read_file("/store/pages").expect("it is there");
        // The file ends inside the page, and the buffer has the page from an earlier read.
        fs.write_file("/store/pages", &whole[..200 * PAGE + 2000]).expect("it can be replaced");
        let files = LogDir::open(&fs, "/store".as_ref()).expect("the directory is there");
        let file = PageFile::open(&files, file.store, PAGE, Bugs::default()).expect("it opens").expect("it is there");
        assert!(matches!(file.read(id, &mut bytes.clone()), Err(ReadError::Damaged(_))));
        assert_eq!(file.read_image(id, &mut bytes.clone()).expect("it can be read"), None);
    }

    #[test]
    fn a_failed_sync_is_everybodys_and_never_tried_again_also_if_the_disk_was_full() {
        for errno in [errno::EIO, errno::ENOSPC] {
            let (fs, file, _, _) = file();
            fs.plan(Fault::error(errno).on(Operation::SyncData).name("pages"));
            let first = file.sync().expect_err("the sync fails");
            assert_eq!(first.kind(), ErrorKind::Io, "{first}");
            fs.record_trace(true);
            let second = file.sync().expect_err("nobody knows what the disk has");
            assert!(second.is_poisoned(), "{second}");
            assert!(fs.take_trace().is_empty());
        }
    }
}
