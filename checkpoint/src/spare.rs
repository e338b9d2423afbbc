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
