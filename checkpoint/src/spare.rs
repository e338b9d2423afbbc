//! Page images on a full disk. When the log has no room for images, they go into the spare pages at the end of the page file: space
//! that is written already, so it is there. With them a checkpoint works on a full disk, and then the log can be truncated.
//!
//! A spare page holds the image of another page, under that page's number, so as a page of its own it never passes for what it is not. A
//! batch of images is synced before its pages are overwritten in place, and those are synced before anything else is written to the file.

use std::collections::BTreeMap;

use wal::{Error, ErrorKind, Lsn, Result, Wal};

use crate::file::PageFile;
use crate::page::{self, PageId};
use crate::proof::LogDurable;

/// Spare pages at the end of the file.
pub(crate) const SPARE_PAGES: u64 = 16;

/// Writes images of the copied pages into the spare pages, durably.
pub(crate) fn write(file: &PageFile, log: &Wal, copies: &[u8]) -> Result<()> {
    let page_bytes = file.page_bytes();
    let newest = copies.chunks_exact(page_bytes).map(page::lsn).max().unwrap_or(Lsn::ZERO);
    let proof = LogDurable::through(log, newest)?;
    let first = file.pages()?.checked_sub(SPARE_PAGES).ok_or_else(|| {
        Error::new(ErrorKind::Full, "write page images", "the log is full and the page file has no spare pages")
    })?;
    let mut images = copies.to_vec();
    images.chunks_exact_mut(page_bytes).for_each(|page| file.seal(page));
    file.write_images(PageId::new(first), &images, &proof)?;
    file.sync()
}

/// The newest image of each page of which there is one among the spare pages.
pub(crate) fn images(file: &PageFile) -> Result<BTreeMap<PageId, Vec<u8>>> {
    let pages = file.pages()?;
    let first = pages.saturating_sub(SPARE_PAGES);
    let mut images: BTreeMap<PageId, Vec<u8>> = BTreeMap::new();
    for spare in first..pages {
        let mut bytes = vec![0; file.page_bytes()];
        let Some(id) = file.read_image(PageId::new(spare), &mut bytes)? else { continue };
        let is_newer = images.get(&id).is_none_or(|other| page::lsn(other) < page::lsn(&bytes));
        if id.get() < first && is_newer {
            images.insert(id, bytes);
        }
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use wal::Wal;
    use wal::fs::RealFileSystem;
    use wal::fs::durable::LogDir;

    use super::*;
    use crate::museum::Bugs;

    const PAGE: usize = 4096;

    #[test]
    fn of_several_images_of_a_page_the_newest_counts_wherever_it_stands_and_none_of_a_spare_page() {
        let dir = tempfile::tempdir().expect("a directory");
        let log = Wal::open(dir.path().join("log"), wal::Config::default()).expect("a log");
        let lsns: Vec<Lsn> = (0..2).map(|_| log.append(b"change").expect("an append works")).collect();
        let proof = LogDurable::everything(&log).expect("the log can be flushed");
        let files = LogDir::open(&RealFileSystem, dir.path()).expect("the directory is there");
        PageFile::create(&files, log.log_id(), &mut [vec![0; PAGE]]).expect("a page file");
        let file = PageFile::open(&files, log.log_id(), PAGE, Bugs::default()).expect("it opens").expect("it is there");
        let pages = file.pages().expect("its length is known");
        let first = pages - SPARE_PAGES;
        let image = |number: u64, lsn: Lsn| {
            let mut bytes = vec![0; PAGE];
            page::format_free(&mut bytes, PageId::new(number), PageId::NONE);
            page::set_lsn(&mut bytes, lsn);
            file.seal(&mut bytes);
            bytes
        };
        let mut torn = image(7, lsns[1]);
        torn[3000] = 1;
        let spares = [
            image(3, lsns[0]),
            image(3, lsns[1]),
            image(5, lsns[1]),
            image(5, lsns[0]),
            image(pages - 1, lsns[0]),
            torn,
        ];
        file.write_images(PageId::new(first), &spares.concat(), &proof).expect("they can be written");
        let found = images(&file).expect("they can be read");
        let found: Vec<(u64, Lsn)> = found.iter().map(|(id, bytes)| (id.get(), page::lsn(bytes))).collect();
        assert_eq!(found, [(3, lsns[1]), (5, lsns[1])]);
    }
}
