//! The bytes of one file: sparse, copy-on-write pages.
//!
//! Invariant: every byte at or behind the length is zero, so growing needs no work.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::trace::{DIGEST_SEED, digest, mix};

/// The unit that a disk writes as a whole, unless it tears.
pub(super) const SECTOR: usize = 512;
/// The unit of sharing and of the allocation of space.
pub(super) const PAGE: usize = 4096;
const SECTORS_PER_PAGE: usize = PAGE / SECTOR;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// The bytes of a page, shared by all files and crash states that hold the same.
#[derive(Clone, Debug)]
pub(super) struct Page {
    bytes: [u8; PAGE],
    /// Made when it is first asked for; 0 if the page is zeros.
    digest: OnceLock<u64>,
}

impl Page {
    fn digest(&self) -> u64 {
        *self.digest.get_or_init(|| if is_zero(&self.bytes) { 0 } else { digest(DIGEST_SEED, &self.bytes) })
    }

    fn bytes_mut(&mut self) -> &mut [u8; PAGE] {
        self.digest = OnceLock::new();
        &mut self.bytes
    }

    pub(super) fn sector(&self, within: usize) -> &[u8] {
        &self.bytes[within * SECTOR..][..SECTOR]
    }
}

/// One page. It can be written and still hold no bytes: zeros take no memory.
#[derive(Clone, Debug, Default)]
struct Slot {
    bytes: Option<Arc<Page>>,
    /// One bit for each sector that was ever written; the others are holes.
    written: u8,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Content {
    len: u64,
    blocks: u64,
    /// May be shorter than the length asks for; what is missing is a hole.
    pages: Vec<Slot>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The number of pages that take up space.
    pub(super) fn blocks(&self) -> u64 {
        self.blocks
    }

    /// The number of sectors up to the last page that was ever written.
    pub(super) fn sectors(&self) -> u64 {
        (self.pages.len() * SECTORS_PER_PAGE) as u64
    }

    pub(super) fn is_hole(&self, sector: u64) -> bool {
        let (page, within) = split_sector(sector);
        self.pages.get(page).is_none_or(|slot| slot.written & (1 << within) == 0)
    }

    pub(super) fn is_unallocated(&self, page: usize) -> bool {
        self.pages.get(page).is_none_or(|slot| slot.written == 0)
    }

    pub(super) fn sector(&self, sector: u64) -> &[u8] {
        let (page, within) = split_sector(sector);
        let start = within * SECTOR;
        &self.page(page)[start..start + SECTOR]
    }

    pub(super) fn read_at(&self, buf: &mut [u8], offset: u64) -> usize {
        let available = self.len.saturating_sub(offset).min(buf.len() as u64) as usize;
        self.copy_out(&mut buf[..available], offset);
        available
    }

    pub(super) fn to_vec(&self) -> Vec<u8> {
        self.copy(0, self.len as usize)
    }

    /// Whether these bytes are zeros, regardless of the length.
    pub(super) fn is_zero(&self, offset: u64, length: usize) -> bool {
        pages_of(offset, length).all(|(page, range)| {
            self.pages.get(page).and_then(|slot| slot.bytes.as_ref()).is_none_or(|page| is_zero(&page.bytes[range]))
        })
    }

    /// A copy of these bytes, regardless of the length.
    pub(super) fn copy(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(length);
        for (page, range) in pages_of(offset, length) {
            bytes.extend_from_slice(&self.page(page)[range]);
        }
        bytes
    }

    /// Reads regardless of the length.
    fn copy_out(&self, buf: &mut [u8], offset: u64) {
        let mut done = 0;
        for (page, range) in pages_of(offset, buf.len()) {
            let next = done + range.len();
            buf[done..next].copy_from_slice(&self.page(page)[range]);
            done = next;
        }
    }

    pub(super) fn write_at(&mut self, bytes: &[u8], offset: u64) {
        self.store(bytes, offset);
        self.len = self.len.max(offset + bytes.len() as u64);
    }

    /// Writes without a change of the length. The caller restores the invariant with [`Content::set_len`].
    pub(super) fn store(&mut self, bytes: &[u8], offset: u64) {
        let mut done = 0;
        for (page, range) in pages_of(offset, bytes.len()) {
            let next = done + range.len();
            self.store_in_page(page, range, &bytes[done..next]);
            done = next;
        }
    }

    pub(super) fn store_zeros(&mut self, mut offset: u64, mut length: u64) {
        while length > 0 {
            let chunk = length.min(PAGE as u64 - offset % PAGE as u64);
            self.store(&ZEROS[..chunk as usize], offset);
            offset += chunk;
            length -= chunk;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        let pages = len.div_ceil(PAGE as u64) as usize;
        if pages < self.pages.len() {
            self.pages.truncate(pages);
            self.blocks = self.pages.iter().filter(|slot| slot.written != 0).count() as u64;
        }
        let kept = (len % PAGE as u64) as usize;
        if kept != 0 && self.pages.len() == pages {
            let slot = &mut self.pages[pages - 1];
            if slot.bytes.as_ref().is_some_and(|page| !is_zero(&page.bytes[kept..]))
                && let Some(page) = &mut slot.bytes
            {
                Arc::make_mut(page).bytes_mut()[kept..].fill(0);
            }
        }
        self.len = len;
    }

    /// Shares the pages that hold these sectors with `source`.
    pub(super) fn share_pages(&mut self, source: &Content, sectors: Range<u64>) {
        let last = sectors.end.div_ceil(SECTORS_PER_PAGE as u64) as usize;
        for page in split_sector(sectors.start).0..last.min(source.pages.len().max(self.pages.len())) {
            self.grow_to(page);
            let old = self.pages[page].written != 0;
            self.pages[page] = source.pages.get(page).cloned().unwrap_or_default();
            self.blocks += u64::from(self.pages[page].written != 0);
            self.blocks -= u64::from(old);
        }
    }

    pub(super) fn copy_sector(&mut self, source: &Content, sector: u64) {
        if !source.is_hole(sector) || !self.is_hole(sector) {
            self.store(source.sector(sector), sector * SECTOR as u64);
        }
    }

    pub(super) fn flip_bit(&mut self, offset: u64, bit: u8) {
        let mut byte = [0];
        self.copy_out(&mut byte, offset);
        self.store(&[byte[0] ^ (1 << bit)], offset);
    }

    /// The pages that hold anything but zeros.
    pub(super) fn pages(&self) -> impl Iterator<Item = Arc<Page>> {
        self.pages.iter().filter_map(|slot| slot.bytes.clone())
    }

    /// A hash of the length and the bytes, whatever of them is a hole.
    pub(super) fn fingerprint(&self) -> u64 {
        let mut hash = mix(DIGEST_SEED, self.len);
        for (index, slot) in self.pages.iter().enumerate() {
            let digest = slot.bytes.as_ref().map_or(0, |page| page.digest());
            if digest != 0 {
                hash = mix(mix(hash, index as u64), digest);
            }
        }
        hash
    }

    fn page(&self, page: usize) -> &[u8; PAGE] {
        self.pages.get(page).and_then(|slot| slot.bytes.as_deref()).map_or(&ZEROS, |page| &page.bytes)
    }

    fn grow_to(&mut self, page: usize) {
        if page >= self.pages.len() {
            self.pages.resize_with(page + 1, Slot::default);
        }
    }

    fn store_in_page(&mut self, page: usize, range: Range<usize>, bytes: &[u8]) {
        self.grow_to(page);
        let slot = &mut self.pages[page];
        self.blocks += u64::from(slot.written == 0);
        for sector in range.start / SECTOR..range.end.div_ceil(SECTOR) {
            slot.written |= 1 << sector;
        }
        if slot.bytes.is_none() && is_zero(bytes) {
            return;
        }
        if range.len() == PAGE {
            let bytes = bytes.try_into().expect("a page");
            slot.bytes = Some(Arc::new(Page { bytes, digest: OnceLock::new() }));
            return;
        }
        let page = slot.bytes.get_or_insert_with(|| Arc::new(Page { bytes: ZEROS, digest: OnceLock::new() }));
        Arc::make_mut(page).bytes_mut()[range].copy_from_slice(bytes);
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(PAGE).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// A sector of zeros, for versions that take no memory.
pub(super) fn zero_sector() -> &'static [u8] {
    &ZEROS[..SECTOR]
}

fn split_sector(sector: u64) -> (usize, usize) {
    ((sector / SECTORS_PER_PAGE as u64) as usize, (sector % SECTORS_PER_PAGE as u64) as usize)
}

/// Cuts a range of bytes at the page boundaries.
pub(super) fn pages_of(offset: u64, length: usize) -> impl Iterator<Item = (usize, Range<usize>)> {
    let end = offset + length as u64;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let (page, start) = ((at / PAGE as u64) as usize, (at % PAGE as u64) as usize);
        let stop = PAGE.min(start + (end - at) as usize);
        at += (stop - start) as u64;
        Some((page, start..stop))
    })
}
