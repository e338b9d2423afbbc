//! Changes of pages: how they stand in a log record, and the one function that makes them, for the running store and for redo.
//!
//! A change record is one log record and holds the changes of one operation, so an operation survives whole or not at all.
//! `specs/pages.md` draws the bytes.

use byteorder::{ByteOrder, LittleEndian as Le};
use wal::{Lsn, RecordType};

use crate::page::{self, Meta, PageId, node};

/// The record of changes of pages.
pub const CHANGES: RecordType = record_type(0x2001);
/// The record of page images, written before pages are overwritten in place.
pub const IMAGES: RecordType = record_type(0x2002);
/// The record of a finished checkpoint.
pub const CHECKPOINT: RecordType = record_type(0x2003);

const fn record_type(number: u16) -> RecordType {
    match RecordType::new(number) {
        Some(record_type) => record_type,
        None => panic!("the number is one that users may choose"),
    }
}

/// Bytes of a change before its body: operation, page, previous LSN.
const HEAD_BYTES: usize = 17;
/// Bytes of an image before its bytes: where the hole starts and ends.
const IMAGE_HEAD_BYTES: usize = 4;
/// An image leaves out the checksum, which is zero in memory.
const IMAGE_AT: usize = 4;

const INSERT: u8 = 1;
const REPLACE: u8 = 2;
const REMOVE: u8 = 3;
const REMOVE_RANGE: u8 = 4;
const INSERT_MANY: u8 = 5;
const FORMAT: u8 = 6;
const FREE: u8 = 7;
const SET_META: u8 = 8;

/// A change of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change<'a> {
    /// A cell comes into a slot of a node; those behind it move on.
    Insert { slot: usize, cell: &'a [u8] },
    /// The cell of a slot becomes another one.
    Replace { slot: usize, cell: &'a [u8] },
    /// A cell leaves.
    Remove { slot: usize },
    /// The cells from one slot to before another leave.
    RemoveRange { from: usize, to: usize },
    /// Cells come behind all others.
    InsertMany { cells: Vec<&'a [u8]> },
    /// The page becomes this one, whatever it was.
    Format(Image<'a>),
    /// The page becomes a link of the free list, whatever it was.
    Free { next: PageId },
    /// The meta page says something else.
    SetMeta(Meta),
}

impl Change<'_> {
    /// Whether it needs nothing of what the page was before: then no earlier image of the page is needed either.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(self, Change::Format(_) | Change::Free { .. })
    }
}

/// A whole page without its hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Image<'a> {
    hole: (usize, usize),
    /// The bytes behind the checksum up to the hole.
    head: &'a [u8],
    /// The bytes behind the hole.
    tail: &'a [u8],
}

/// Bytes of the log that are no record of this crate, although their checksums are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

impl<'a> Image<'a> {
    /// The image of a page.
    pub(crate) fn of(bytes: &'a [u8]) -> Image<'a> {
        let hole = page::hole(bytes);
        Image { hole, head: &bytes[IMAGE_AT..hole.0], tail: &bytes[hole.1..] }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.hole.0 as u16).to_le_bytes());
        out.extend_from_slice(&(self.hole.1 as u16).to_le_bytes());
        out.extend_from_slice(self.head);
        out.extend_from_slice(self.tail);
    }

    fn decode(rest: &mut &'a [u8], page_bytes: usize) -> Result<Image<'a>, Malformed> {
        let head = take(rest, IMAGE_HEAD_BYTES)?;
        let hole = (usize::from(Le::read_u16(head)), usize::from(Le::read_u16(&head[2..])));
        if hole.0 < page::HEADER_BYTES || hole.0 > hole.1 || hole.1 > page_bytes {
            return Err(Malformed("an image's hole is not inside the page"));
        }
        Ok(Image { hole, head: take(rest, hole.0 - IMAGE_AT)?, tail: take(rest, page_bytes - hole.1)? })
    }

    /// The page LSN in it.
    pub(crate) fn lsn(&self) -> Lsn {
        Lsn::new(Le::read_u64(&self.head[16 - IMAGE_AT..]))
    }

    /// Where the part ends that it leaves out.
    pub(crate) fn hole_end(&self) -> usize {
        self.hole.1
    }

    /// The page number in it.
    pub(crate) fn page(&self) -> PageId {
        PageId::new(Le::read_u64(&self.head[8 - IMAGE_AT..]))
    }

    /// Makes `bytes` this page.
    pub(crate) fn restore(&self, bytes: &mut [u8]) -> Result<(), Malformed> {
        bytes[..IMAGE_AT].fill(0);
        bytes[IMAGE_AT..self.hole.0].copy_from_slice(self.head);
        bytes[self.hole.0..self.hole.1].fill(0);
        bytes[self.hole.1..].copy_from_slice(self.tail);
        page::validate(bytes, self.page()).map(|_| ()).map_err(Malformed)
    }
}

/// Appends a change of `page`, whose last change had the LSN `previous`, to a record.
pub(crate) fn encode(out: &mut Vec<u8>, page: PageId, previous: Lsn, change: &Change<'_>) {
    let code = match change {
        Change::Insert { .. } => INSERT,
        Change::Replace { .. } => REPLACE,
        Change::Remove { .. } => REMOVE,
        Change::RemoveRange { .. } => REMOVE_RANGE,
        Change::InsertMany { .. } => INSERT_MANY,
        Change::Format(_) => FORMAT,
        Change::Free { .. } => FREE,
        Change::SetMeta(_) => SET_META,
    };
    out.push(code);
    out.extend_from_slice(&page.get().to_le_bytes());
    out.extend_from_slice(&previous.get().to_le_bytes());
    match change {
        Change::Insert { slot, cell } | Change::Replace { slot, cell } => {
            push_u16(out, *slot);
            push_u16(out, cell.len());
            out.extend_from_slice(cell);
        }
        Change::Remove { slot } => push_u16(out, *slot),
        Change::RemoveRange { from, to } => {
            push_u16(out, *from);
            push_u16(out, *to);
        }
        Change::InsertMany { cells } => {
            push_u16(out, cells.len());
            for cell in cells {
                push_u16(out, cell.len());
                out.extend_from_slice(cell);
            }
        }
        Change::Format(image) => image.encode(out),
        Change::Free { next } => out.extend_from_slice(&next.get().to_le_bytes()),
        Change::SetMeta(meta) => {
            for field in [meta.root.get(), meta.depth, meta.page_count, meta.free_head.get(), meta.free_count] {
                out.extend_from_slice(&field.to_le_bytes());
            }
        }
    }
}

fn push_u16(out: &mut Vec<u8>, value: usize) {
    out.extend_from_slice(&(value as u16).to_le_bytes());
}

/// A change as it stands in a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Logged<'a> {
    pub(crate) page: PageId,
    /// The LSN of the page before this record.
    pub(crate) previous: Lsn,
    pub(crate) change: Change<'a>,
}

/// The changes in a record of type [`CHANGES`].
pub(crate) fn decode(payload: &[u8], page_bytes: usize) -> Result<Vec<Logged<'_>>, Malformed> {
    let mut rest = payload;
    let mut changes = Vec::new();
    while !rest.is_empty() {
        changes.push(decode_next(&mut rest, page_bytes)?);
    }
    Ok(changes)
}

/// The change at the start of `rest`, which is what follows it then.
pub(crate) fn decode_next<'a>(rest: &mut &'a [u8], page_bytes: usize) -> Result<Logged<'a>, Malformed> {
    let head = take(rest, HEAD_BYTES)?;
    let page = PageId::new(Le::read_u64(&head[1..]));
    let previous = Lsn::new(Le::read_u64(&head[9..]));
    let change = decode_body(head[0], rest, page_bytes)?;
    Ok(Logged { page, previous, change })
}

fn decode_body<'a>(code: u8, rest: &mut &'a [u8], page_bytes: usize) -> Result<Change<'a>, Malformed> {
    Ok(match code {
        INSERT => Change::Insert { slot: take_u16(rest)?, cell: take_cell(rest)? },
        REPLACE => Change::Replace { slot: take_u16(rest)?, cell: take_cell(rest)? },
        REMOVE => Change::Remove { slot: take_u16(rest)? },
        REMOVE_RANGE => Change::RemoveRange { from: take_u16(rest)?, to: take_u16(rest)? },
        INSERT_MANY => {
            let count = take_u16(rest)?;
            Change::InsertMany { cells: (0..count).map(|_| take_cell(rest)).collect::<Result<_, _>>()? }
        }
        FORMAT => Change::Format(Image::decode(rest, page_bytes)?),
        FREE => Change::Free { next: PageId::new(take_u64(rest)?) },
        SET_META => Change::SetMeta(Meta {
            root: PageId::new(take_u64(rest)?),
            depth: take_u64(rest)?,
            page_count: take_u64(rest)?,
            free_head: PageId::new(take_u64(rest)?),
            free_count: take_u64(rest)?,
        }),
        _ => return Err(Malformed("a change of an unknown kind")),
    })
}

fn take<'a>(rest: &mut &'a [u8], len: usize) -> Result<&'a [u8], Malformed> {
    let (taken, after) = rest.split_at_checked(len).ok_or(Malformed("the record is too short"))?;
    *rest = after;
    Ok(taken)
}

fn take_u16(rest: &mut &[u8]) -> Result<usize, Malformed> {
    take(rest, 2).map(|bytes| usize::from(Le::read_u16(bytes)))
}

fn take_u64(rest: &mut &[u8]) -> Result<u64, Malformed> {
    take(rest, 8).map(Le::read_u64)
}

/// A cell with its length in front; its inner lengths are checked when the page is, not here.
fn take_cell<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let len = take_u16(rest)?;
    take(rest, len)
}

/// Makes a change. The running store has checked before that it fits; for redo, what does not is a damaged log.
pub(crate) fn apply(bytes: &mut [u8], page: PageId, change: &Change<'_>) -> Result<(), Malformed> {
    let is_node = matches!(page::kind(bytes), Some(page::PageKind::Leaf | page::PageKind::Branch));
    let done = match change {
        Change::Insert { slot, cell } => is_node && node::insert(bytes, *slot, cell),
        Change::Replace { slot, cell } => is_node && node::replace(bytes, *slot, cell),
        Change::Remove { slot } => is_node && node::remove(bytes, *slot),
        Change::RemoveRange { from, to } => is_node && node::remove_range(bytes, *from, *to),
        Change::InsertMany { cells } => {
            is_node
                && cells.iter().all(|cell| {
                    let slot = node::count(bytes);
                    node::insert(bytes, slot, cell)
                })
        }
        Change::Format(image) => {
            image.restore(bytes)?;
            image.page() == page
        }
        Change::Free { next } => {
            page::format_free(bytes, page, *next);
            true
        }
        Change::SetMeta(meta) => {
            let is_meta = page::kind(bytes) == Some(page::PageKind::Meta);
            if is_meta {
                page::set_meta(bytes, meta);
            }
            is_meta
        }
    };
    if done { Ok(()) } else { Err(Malformed("a change does not fit its page")) }
}

/// Appends an image to a record of type [`IMAGES`].
pub(crate) fn encode_image(out: &mut Vec<u8>, bytes: &[u8]) {
    Image::of(bytes).encode(out);
}

/// The images in a record of type [`IMAGES`].
pub(crate) fn decode_images(payload: &[u8], page_bytes: usize) -> Result<Vec<Image<'_>>, Malformed> {
    let mut rest = payload;
    let mut images = Vec::new();
    while !rest.is_empty() {
        images.push(Image::decode(&mut rest, page_bytes)?);
    }
    Ok(images)
}

/// What a record of type [`CHECKPOINT`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CheckpointRecord {
    /// Redo starts here.
    pub(crate) redo: Lsn,
    /// Counts the checkpoints of the store.
    pub(crate) sequence: u64,
    /// Pages that the checkpoint wrote.
    pub(crate) pages_written: u64,
}

impl CheckpointRecord {
    pub(crate) fn encode(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        Le::write_u64(&mut bytes[0..], self.redo.get());
        Le::write_u64(&mut bytes[8..], self.sequence);
        Le::write_u64(&mut bytes[16..], self.pages_written);
        bytes
    }

    pub(crate) fn decode(mut payload: &[u8]) -> Result<CheckpointRecord, Malformed> {
        let rest = &mut payload;
        let record = CheckpointRecord {
            redo: Lsn::new(take_u64(rest)?),
            sequence: take_u64(rest)?,
            pages_written: take_u64(rest)?,
        };
        if rest.is_empty() { Ok(record) } else { Err(Malformed("the record is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    fn leaf(id: u64) -> Vec<u8> {
        let mut bytes = vec![0; PAGE];
        node::format_node(&mut bytes, PageId::new(id), 0, PageId::NONE);
        bytes
    }

    /// An image whose hole is said to be elsewhere, with as many bytes as follow from that.
    fn image(start: u16, end: u16) -> Vec<u8> {
        let mut bytes = [start.to_le_bytes(), end.to_le_bytes()].concat();
        let around = usize::from(start) - IMAGE_AT + PAGE.saturating_sub(usize::from(end));
        bytes.resize(bytes.len() + around, 0);
        bytes
    }

    #[test]
    fn an_image_whose_hole_is_not_inside_the_page_is_malformed() {
        for (start, end) in [(8, 4096), (23, 4096), (100, 99), (100, 4097), (4097, 4097)] {
            let payload = image(start, end);
            let found = decode_images(&payload, PAGE);
            assert_eq!(found, Err(Malformed("an image's hole is not inside the page")), "{start} to {end}");
        }
        let mut whole = Vec::new();
        encode_image(&mut whole, &leaf(3));
        assert_eq!(decode_images(&whole, PAGE).expect("it is an image").len(), 1);
        whole.pop();
        assert_eq!(decode_images(&whole, PAGE), Err(Malformed("the record is too short")));
    }

    #[test]
    fn an_image_of_what_is_no_page_is_malformed() {
        let mut bytes = leaf(3);
        // Garbage that is not there.
        bytes[30] = 1;
        let found = Image::of(&bytes).restore(&mut vec![0; PAGE]);
        assert_eq!(found, Err(Malformed("its cells and its garbage do not add up")));
    }

    #[test]
    fn a_change_that_does_not_fit_its_page_is_malformed() {
        let misfit = Err(Malformed("a change does not fit its page"));
        let (id, other) = (PageId::new(3), leaf(4));
        assert_eq!(apply(&mut leaf(3), id, &Change::Format(Image::of(&other))), misfit, "an image of another page");
        let mut cell = Vec::new();
        node::push_leaf_cell(&mut cell, b"key", node::Value::Inline(b"value"));
        let mut free = vec![0; PAGE];
        page::format_free(&mut free, id, PageId::new(0));
        assert_eq!(apply(&mut free, id, &Change::Insert { slot: 0, cell: &cell }), misfit, "a cell in a free page");
        let meta = Meta { root: id, depth: 1, page_count: 4, free_head: PageId::NONE, free_count: 0 };
        assert_eq!(apply(&mut leaf(3), id, &Change::SetMeta(meta)), misfit, "the meta page is another one");
        assert_eq!(apply(&mut leaf(3), id, &Change::Insert { slot: 0, cell: &cell }), Ok(()));
    }

    #[test]
    fn a_change_of_a_node_does_not_fit_what_only_looks_like_one() {
        let (id, mut cell) = (PageId::new(3), Vec::new());
        node::push_leaf_cell(&mut cell, b"key", node::Value::Inline(b"value"));
        let mut node = leaf(3);
        assert!(node::insert(&mut node, 0, &cell));
        let (mut called_free, mut free) = (node.clone(), vec![0; PAGE]);
        page::format_free(&mut free, id, PageId::NONE);
        called_free[4] = free[4];
        let changes = [
            Change::Insert { slot: 1, cell: &cell },
            Change::Replace { slot: 0, cell: &cell },
            Change::Remove { slot: 0 },
            Change::RemoveRange { from: 0, to: 1 },
            Change::InsertMany { cells: vec![&cell] },
        ];
        for change in changes {
            assert_eq!(apply(&mut node.clone(), id, &change), Ok(()), "{change:?}");
            let found = apply(&mut called_free.clone(), id, &change);
            assert_eq!(found, Err(Malformed("a change does not fit its page")), "{change:?}");
        }
    }

    /// A change that may fit its page or not. Cells and slots are sometimes wrong.
    fn any_change<'a>(next: &mut impl FnMut(usize) -> usize, cells: &'a [Vec<u8>], whole: &'a [u8]) -> Change<'a> {
        let slot = next(14);
        let cell = cells[next(cells.len())].as_slice();
        match next(12) {
            0..=4 => Change::Insert { slot, cell },
            5..=7 => Change::Replace { slot, cell },
            8 => Change::Remove { slot },
            9 => Change::RemoveRange { from: slot, to: next(14) },
            10 => Change::InsertMany { cells: vec![cell; 1 + next(3)] },
            _ if next(20) == 0 => Change::Format(Image::of(whole)),
            _ => Change::Remove { slot: 0 },
        }
    }

    #[test]
    fn no_change_that_is_made_leaves_a_valid_page_invalid() {
        let mut state = 1u64;
        let mut next = |below: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let mut cells: Vec<Vec<u8>> = vec![Vec::new(), vec![0; 5], vec![0xFF; 40], vec![7; 1100]];
        for len in [0, 1, 30, 200, 500, 900, 1004] {
            let (mut cell, mut long) = (Vec::new(), Vec::new());
            node::push_leaf_cell(&mut cell, b"key", node::Value::Inline(&vec![9; len]));
            node::push_leaf_cell(&mut long, &vec![8; len], node::Value::Overflow { len, first: PageId::new(9) });
            cells.extend([
                cell[..cell.len() - 1].to_vec(),
                cell,
                long,
                node::branch_cell(&vec![8; len], PageId::new(9)),
            ]);
        }
        for level in [0, 1] {
            let mut bytes = vec![0; PAGE];
            node::format_node(&mut bytes, PageId::new(3), level, PageId::new(5));
            let (whole, mut made) = (bytes.clone(), 0);
            for step in 0..20_000 {
                let change = any_change(&mut next, &cells, &whole);
                made += usize::from(apply(&mut bytes, PageId::new(3), &change).is_ok());
                let found = page::validate(&bytes, PageId::new(3));
                assert!(found.is_ok(), "level {level}, step {step}: {found:?} after {change:?}");
            }
            assert!(made > 500, "level {level}: {made} changes were made");
        }
    }

    #[test]
    fn a_checkpoint_record_has_one_length() {
        let record = CheckpointRecord { redo: Lsn::new(4096), sequence: 7, pages_written: 3 };
        let bytes = record.encode();
        assert_eq!(CheckpointRecord::decode(&bytes), Ok(record));
        assert!(CheckpointRecord::decode(&bytes[..23]).is_err());
        assert!(CheckpointRecord::decode(&[&bytes[..], &[0]].concat()).is_err());
    }
}
