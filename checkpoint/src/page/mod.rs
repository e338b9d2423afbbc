//! A page: its header, its checksum, and what the kinds of pages that are no tree nodes hold. `specs/pages.md` draws the bytes.

pub(crate) mod node;

use std::fmt;

use byteorder::{ByteOrder, LittleEndian as Le};
use wal::{LogId, Lsn};

/// Bytes of the header that all pages have.
pub(crate) const HEADER_BYTES: usize = 24;
/// Where an overflow page's data starts.
pub(crate) const OVERFLOW_DATA_AT: usize = 40;
/// Where the fields of a free page end.
const FREE_END: usize = 32;
/// Where the fields of the meta page end.
const META_END: usize = 88;

/// The smallest page that is allowed, in bytes.
pub(crate) const PAGE_BYTES_MIN: usize = 4 << 10;
/// The largest page that is allowed, in bytes.
pub(crate) const PAGE_BYTES_MAX: usize = 32 << 10;

const MAGIC: u64 = u64::from_le_bytes(*b"\x89WPG\r\n\x1a\n");
/// The version of the page file's format.
pub(crate) const VERSION: u32 = 1;

/// The number of a page: it starts at this many page sizes into the page file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PageId(pub(crate) u64);

impl PageId {
    /// The page that describes the file.
    pub const META: PageId = PageId(0);
    /// No page. As a link it means that nothing follows.
    pub(crate) const NONE: PageId = PageId(u64::MAX);

    /// The page with this number.
    pub const fn new(number: u64) -> PageId {
        PageId(number)
    }

    /// The number.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for PageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PageId({})", self.0)
    }
}

/// What a page holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum PageKind {
    /// Describes the file: root, size, free list. Always page 0.
    Meta,
    /// Keys and values.
    Leaf,
    /// Keys and the pages below them.
    Branch,
    /// A part of a value that is too long for a leaf.
    Overflow,
    /// Nothing: a link of the free list.
    Free,
}

impl PageKind {
    fn code(self) -> u8 {
        match self {
            PageKind::Meta => 1,
            PageKind::Leaf => 2,
            PageKind::Branch => 3,
            PageKind::Overflow => 4,
            PageKind::Free => 5,
        }
    }

    fn from_code(code: u8) -> Option<PageKind> {
        [PageKind::Meta, PageKind::Leaf, PageKind::Branch, PageKind::Overflow, PageKind::Free]
            .into_iter()
            .find(|kind| kind.code() == code)
    }
}

impl fmt::Display for PageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PageKind::Meta => "meta",
            PageKind::Leaf => "leaf",
            PageKind::Branch => "branch",
            PageKind::Overflow => "overflow",
            PageKind::Free => "free",
        })
    }
}

/// What the meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    /// The root of the tree.
    pub(crate) root: PageId,
    /// How many levels the tree has; 1 if the root is a leaf.
    pub(crate) depth: u64,
    /// How many pages are in use or free: the number of the next page that was never used.
    pub(crate) page_count: u64,
    /// The first page of the free list, [`PageId::NONE`] if it is empty.
    pub(crate) free_head: PageId,
    /// How many pages are on the free list.
    pub(crate) free_count: u64,
}

/// Empties `bytes` and writes the header of a page.
pub(crate) fn format(bytes: &mut [u8], id: PageId, kind: PageKind) {
    bytes.fill(0);
    bytes[4] = kind.code();
    Le::write_u64(&mut bytes[8..], id.get());
}

/// The kind, if it is a known one.
pub(crate) fn kind(bytes: &[u8]) -> Option<PageKind> {
    PageKind::from_code(bytes[4])
}

/// The number that the page says it has.
pub(crate) fn id(bytes: &[u8]) -> PageId {
    PageId(Le::read_u64(&bytes[8..]))
}

/// Gives a page its number.
pub(crate) fn set_id(bytes: &mut [u8], id: PageId) {
    Le::write_u64(&mut bytes[8..], id.get());
}

/// The LSN of the last record that changed the page.
pub(crate) fn lsn(bytes: &[u8]) -> Lsn {
    Lsn::new(Le::read_u64(&bytes[16..]))
}

pub(crate) fn set_lsn(bytes: &mut [u8], lsn: Lsn) {
    Le::write_u64(&mut bytes[16..], lsn.get());
}

/// The checksum over identity and content. The identity holds the log's id, so a page of another store never passes.
fn checksum(bytes: &[u8], store: LogId, id: PageId) -> u32 {
    let mut identity = [0; 24];
    identity[..16].copy_from_slice(&store.bytes());
    Le::write_u64(&mut identity[16..], id.get());
    crc32c::crc32c_append(crc32c::crc32c(&identity), &bytes[4..])
}

/// Writes the checksum; done once, on the copy that goes to the file. In memory the field is zero.
pub(crate) fn seal(bytes: &mut [u8], store: LogId) {
    let sum = checksum(bytes, store, id(bytes));
    Le::write_u32(bytes, sum);
}

/// Why bytes are not the page they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Damage {
    /// They are all zero: the page was never written, or its write was lost.
    Blank,
    /// The checksum does not fit: torn, rotten, misdirected, or of another store.
    Checksum { expected: u32, found: u32 },
    /// The checksum is right, but the content makes no sense.
    Content(&'static str),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Blank => f.write_str("it is all zeros"),
            Damage::Checksum { expected, found } => {
                write!(f, "its checksum is {found:08x}, and {expected:08x} is expected for this page of this store")
            }
            Damage::Content(what) => f.write_str(what),
        }
    }
}

/// Checks bytes that were read from the file as page `id`, and zeroes the checksum field.
pub(crate) fn check(bytes: &mut [u8], store: LogId, id: PageId) -> Result<PageKind, Damage> {
    let found = Le::read_u32(bytes);
    let expected = checksum(bytes, store, id);
    if found != expected {
        let is_blank = bytes.iter().all(|byte| *byte == 0);
        return Err(if is_blank { Damage::Blank } else { Damage::Checksum { expected, found } });
    }
    Le::write_u32(bytes, 0);
    validate(bytes, id).map_err(Damage::Content)
}

/// Checks what a page says about itself, so that whoever reads it need not. Also for pages that came out of the log.
pub(crate) fn validate(bytes: &[u8], id: PageId) -> Result<PageKind, &'static str> {
    if self::id(bytes) != id {
        return Err("it has the number of another page");
    }
    if bytes[5..8].iter().any(|byte| *byte != 0) {
        return Err("reserved bytes are not zero");
    }
    let kind = kind(bytes).ok_or("its kind is unknown")?;
    match kind {
        PageKind::Meta => {
            if Le::read_u64(&bytes[24..]) != MAGIC || Le::read_u32(&bytes[32..]) != VERSION {
                return Err("the meta page has no magic, or another version");
            }
            if Le::read_u32(&bytes[36..]) as usize != bytes.len() {
                return Err("the meta page names another page size");
            }
        }
        PageKind::Leaf | PageKind::Branch => node::validate(bytes, kind)?,
        PageKind::Overflow => {
            if overflow_len(bytes) > bytes.len() - OVERFLOW_DATA_AT {
                return Err("an overflow page claims more data than it has room for");
            }
        }
        PageKind::Free => {}
    }
    Ok(kind)
}

/// Formats the meta page.
pub(crate) fn format_meta(bytes: &mut [u8], meta: &Meta) {
    format(bytes, PageId::META, PageKind::Meta);
    Le::write_u64(&mut bytes[24..], MAGIC);
    Le::write_u32(&mut bytes[32..], VERSION);
    let page_bytes = bytes.len() as u32;
    Le::write_u32(&mut bytes[36..], page_bytes);
    set_meta(bytes, meta);
}

/// Changes what the meta page says.
pub(crate) fn set_meta(bytes: &mut [u8], meta: &Meta) {
    let fields = [meta.root.get(), meta.depth, meta.page_count, meta.free_head.get(), meta.free_count];
    for (field, value) in fields.into_iter().enumerate() {
        Le::write_u64(&mut bytes[48 + 8 * field..], value);
    }
}

/// What the meta page says.
pub(crate) fn meta(bytes: &[u8]) -> Meta {
    let field = |index: usize| Le::read_u64(&bytes[48 + 8 * index..]);
    Meta {
        root: PageId(field(0)),
        depth: field(1),
        page_count: field(2),
        free_head: PageId(field(3)),
        free_count: field(4),
    }
}

/// Formats a page of the free list.
pub(crate) fn format_free(bytes: &mut [u8], id: PageId, next: PageId) {
    format(bytes, id, PageKind::Free);
    Le::write_u64(&mut bytes[24..], next.get());
}

/// Formats an overflow page. The data fits it.
pub(crate) fn format_overflow(bytes: &mut [u8], id: PageId, next: PageId, data: &[u8]) {
    format(bytes, id, PageKind::Overflow);
    Le::write_u64(&mut bytes[24..], next.get());
    Le::write_u32(&mut bytes[32..], data.len() as u32);
    bytes[OVERFLOW_DATA_AT..][..data.len()].copy_from_slice(data);
}

/// The page that follows in the free list or in a chain of overflow pages.
pub(crate) fn next(bytes: &[u8]) -> PageId {
    PageId(Le::read_u64(&bytes[24..]))
}

/// An overflow page's part of the value.
pub(crate) fn overflow_data(bytes: &[u8]) -> &[u8] {
    &bytes[OVERFLOW_DATA_AT..][..overflow_len(bytes)]
}

fn overflow_len(bytes: &[u8]) -> usize {
    Le::read_u32(&bytes[32..]) as usize
}

/// The part of a page in the middle that is zero: from where to where.
pub(crate) fn hole(bytes: &[u8]) -> (usize, usize) {
    match kind(bytes) {
        Some(PageKind::Leaf | PageKind::Branch) => node::hole(bytes),
        Some(PageKind::Overflow) => (OVERFLOW_DATA_AT + overflow_len(bytes), bytes.len()),
        Some(PageKind::Free) => (FREE_END, bytes.len()),
        Some(PageKind::Meta) => (META_END, bytes.len()),
        None => (bytes.len(), bytes.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_not_what_it_should_be_is_not_valid() {
        let (id, meta) =
            (PageId::new(3), Meta { root: PageId(1), depth: 1, page_count: 2, free_head: PageId::NONE, free_count: 0 });
        let mut overflow = vec![0; 4096];
        format_overflow(&mut overflow, id, PageId::NONE, &[7; 100]);
        let mut about = vec![0; 4096];
        format_meta(&mut about, &meta);
        assert_eq!(validate(&overflow, id), Ok(PageKind::Overflow));
        assert_eq!(validate(&about, PageId::META), Ok(PageKind::Meta));
        let of_meta = "the meta page has no magic, or another version";
        let cases: [(&[u8], usize, u8, &str); 9] = [
            (&overflow, 8, 4, "it has the number of another page"),
            (&overflow, 5, 1, "reserved bytes are not zero"),
            (&overflow, 7, 1, "reserved bytes are not zero"),
            (&overflow, 4, 0, "its kind is unknown"),
            (&overflow, 4, 6, "its kind is unknown"),
            (&overflow, 33, 0x10, "an overflow page claims more data than it has room for"),
            (&about, 24, 0, of_meta),
            (&about, 32, 2, of_meta),
            (&about, 37, 0x20, "the meta page names another page size"),
        ];
        for (sound, at, value, expected) in cases {
            let mut bytes = sound.to_vec();
            bytes[at] = value;
            let id = if kind(sound) == Some(PageKind::Meta) { PageId::META } else { id };
            assert_eq!(validate(&bytes, id), Err(expected), "byte {at}");
        }
    }

    #[test]
    fn a_checksum_is_good_for_one_page_of_one_store() {
        let (id, store) = (PageId::new(3), LogId::new([7; 16]));
        let mut sealed = vec![0; 4096];
        format_overflow(&mut sealed, id, PageId::NONE, &[7; 100]);
        seal(&mut sealed, store);
        let mut bytes = sealed.clone();
        assert_eq!(check(&mut bytes, store, id), Ok(PageKind::Overflow));
        assert_eq!(bytes[..4], [0; 4], "in memory the checksum is zero");
        let other_store = check(&mut sealed.clone(), LogId::new([8; 16]), id);
        assert!(matches!(other_store, Err(Damage::Checksum { .. })), "{other_store:?}");
        let other_page = check(&mut sealed.clone(), store, PageId::new(4));
        assert!(matches!(other_page, Err(Damage::Checksum { .. })), "{other_page:?}");
        let nothing = check(&mut vec![0; 4096], store, id);
        assert_eq!(nothing, Err(Damage::Blank));
    }
}
