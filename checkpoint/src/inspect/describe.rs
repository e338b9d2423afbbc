//! What a record of a store's log says, as data.

use wal::{Lsn, RecordType};

use crate::change::{self, CHANGES, CHECKPOINT, Change, CheckpointRecord, IMAGES, Image, Logged};
use crate::page::{self, PAGE_BYTES_MAX, PAGE_BYTES_MIN, PageId, PageKind, node};

/// What a record of a store's log says. Keys are borrowed from the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Description<'a> {
    /// Changes of pages, made together.
    Changes(Vec<ChangeInfo<'a>>),
    /// Pages as they were when they were about to be written.
    Images(Vec<ImageInfo>),
    /// A checkpoint ended.
    Checkpoint {
        /// Redo starts here.
        redo_lsn: Lsn,
        /// Counts the checkpoints of the store.
        sequence: u64,
        /// Pages that the checkpoint wrote.
        pages_written: u64,
    },
}

/// The payload is none of a record of that type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Malformed {
    /// What is wrong with it.
    pub reason: &'static str,
}

/// A change of one page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChangeInfo<'a> {
    /// The page.
    pub page: PageId,
    /// Its page LSN before this record; [`Lsn::ZERO`] where that does not matter, because the whole page is given.
    pub previous_lsn: Lsn,
    /// What is done.
    pub kind: ChangeKind<'a>,
}

/// What a change does to its page.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChangeKind<'a> {
    /// A cell comes into a slot of a node.
    Insert {
        /// The slot.
        slot: usize,
        /// What comes there.
        cell: CellInfo<'a>,
    },
    /// The cell of a slot becomes another one.
    Replace {
        /// The slot.
        slot: usize,
        /// What comes there.
        cell: CellInfo<'a>,
    },
    /// A cell leaves.
    Remove {
        /// The slot.
        slot: usize,
    },
    /// Cells leave.
    RemoveRange {
        /// From this slot.
        from: usize,
        /// To before this one.
        to: usize,
    },
    /// Cells come behind all others.
    InsertMany {
        /// What comes there.
        cells: Vec<CellInfo<'a>>,
    },
    /// The page becomes another one, whatever it was.
    Format(ImageInfo),
    /// The page becomes a link of the free list.
    Free {
        /// The page that follows on the list, if one does.
        next: Option<PageId>,
    },
    /// The meta page says something else.
    SetMeta {
        /// The root of the tree.
        root: PageId,
        /// Levels of the tree.
        depth: u64,
        /// Pages in use and free.
        page_count: u64,
        /// The first page of the free list, if there is one.
        free_head: Option<PageId>,
        /// Pages on the free list.
        free_count: u64,
    },
}

/// A cell. The log does not say of which kind of node it is. Its lengths do, but for a few: then the cell is taken for an entry, and has
/// `child` too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CellInfo<'a> {
    /// The key: of an entry, or a separator.
    pub key: &'a [u8],
    /// Bytes of the value, if it is an entry.
    pub value_bytes: Option<u64>,
    /// The first page of the value, if it is an entry whose value is in overflow pages.
    pub overflow: Option<PageId>,
    /// The page with the keys from this one on, if it is a separator.
    pub child: Option<PageId>,
}

/// A whole page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImageInfo {
    /// The page.
    pub page: PageId,
    /// The page LSN in it.
    pub lsn: Lsn,
    /// What the page is.
    pub kind: PageKind,
    /// Size of a page in bytes.
    pub page_bytes: usize,
    /// The level, if it is a node of the tree.
    pub level: Option<u16>,
    /// The cells, if it is a node of the tree.
    pub cells: Option<usize>,
}

/// Tells what the record says; `None` if its type is none of a store's.
///
/// The payload may be anything: what it takes in memory is a small multiple of the payload's length, and no change is made anywhere. A
/// record does not say how large pages are; that is found out from the images in it.
///
/// # Errors
///
/// [`Malformed`] if no store writes such a payload.
pub fn describe(record_type: RecordType, payload: &[u8]) -> Option<Result<Description<'_>, Malformed>> {
    if record_type == CHECKPOINT {
        let record = CheckpointRecord::decode(payload).map_err(|why| Malformed { reason: why.0 });
        return Some(record.map(|CheckpointRecord { redo, sequence, pages_written }| Description::Checkpoint {
            redo_lsn: redo,
            sequence,
            pages_written,
        }));
    }
    let with_page_bytes: fn(&[u8], usize) -> Result<Description<'_>, Malformed> = match record_type {
        CHANGES => changes,
        IMAGES => images,
        _ => return None,
    };
    // Of the sizes that a page may have, no more than one gives images that are consistent.
    let mut sizes = std::iter::successors(Some(PAGE_BYTES_MIN), |size| Some(size * 2));
    let mut first_error = None;
    while let Some(size) = sizes.next().filter(|size| *size <= PAGE_BYTES_MAX) {
        match with_page_bytes(payload, size) {
            Ok(description) => return Some(Ok(description)),
            Err(error) => drop(first_error.get_or_insert(error)),
        }
    }
    first_error.map(Err)
}

fn images(payload: &[u8], page_bytes: usize) -> Result<Description<'_>, Malformed> {
    let images = change::decode_images(payload, page_bytes).map_err(|why| Malformed { reason: why.0 })?;
    images.iter().map(|image| image_info(image, page_bytes)).collect::<Result<_, _>>().map(Description::Images)
}

fn image_info(image: &Image<'_>, page_bytes: usize) -> Result<ImageInfo, Malformed> {
    let mut bytes = vec![0; page_bytes];
    image.restore(&mut bytes).map_err(|why| Malformed { reason: why.0 })?;
    let kind = page::kind(&bytes).ok_or(Malformed { reason: "its kind is unknown" })?;
    if page::hole(&bytes).1 != image.hole_end() {
        return Err(Malformed { reason: "an image leaves out another part than its hole" });
    }
    let is_node = matches!(kind, PageKind::Leaf | PageKind::Branch);
    Ok(ImageInfo {
        page: image.page(),
        lsn: image.lsn(),
        kind,
        page_bytes,
        level: is_node.then(|| node::level(&bytes)),
        cells: is_node.then(|| node::count(&bytes)),
    })
}

fn changes(payload: &[u8], page_bytes: usize) -> Result<Description<'_>, Malformed> {
    let logged = change::decode(payload, page_bytes).map_err(|why| Malformed { reason: why.0 })?;
    logged.iter().map(|logged| change_info(logged, page_bytes)).collect::<Result<_, _>>().map(Description::Changes)
}

fn change_info<'a>(logged: &Logged<'a>, page_bytes: usize) -> Result<ChangeInfo<'a>, Malformed> {
    let some = |id: PageId| Some(id).filter(|id| *id != PageId::NONE);
    let kind = match &logged.change {
        Change::Insert { slot, cell } => ChangeKind::Insert { slot: *slot, cell: cell_info(cell)? },
        Change::Replace { slot, cell } => ChangeKind::Replace { slot: *slot, cell: cell_info(cell)? },
        Change::Remove { slot } => ChangeKind::Remove { slot: *slot },
        Change::RemoveRange { from, to } => ChangeKind::RemoveRange { from: *from, to: *to },
        Change::InsertMany { cells } => ChangeKind::InsertMany { cells: cell_infos(cells)? },
        Change::Format(image) if image.page() != logged.page => {
            return Err(Malformed { reason: "a page is made another one" });
        }
        Change::Format(image) => ChangeKind::Format(image_info(image, page_bytes)?),
        Change::Free { next } => ChangeKind::Free { next: some(*next) },
        Change::SetMeta(meta) => ChangeKind::SetMeta {
            root: meta.root,
            depth: meta.depth,
            page_count: meta.page_count,
            free_head: some(meta.free_head),
            free_count: meta.free_count,
        },
    };
    Ok(ChangeInfo { page: logged.page, previous_lsn: logged.previous, kind })
}

/// The cells of one change. They go into one node, so what is clear of one of them is clear of all.
fn cell_infos<'a>(cells: &[&'a [u8]]) -> Result<Vec<CellInfo<'a>>, Malformed> {
    let readings: Vec<Readings<'a>> = cells.iter().map(|cell| Readings::of(cell)).collect();
    let has_no_separators = readings.iter().any(|readings| readings.separator.is_none());
    let has_no_entries = readings.iter().any(|readings| readings.entry.is_none());
    readings
        .into_iter()
        .map(|Readings { entry, separator }| match (entry, separator) {
            (Some(entry), Some(separator)) if !has_no_entries && !has_no_separators => {
                Ok(CellInfo { child: separator.child, ..entry })
            }
            (Some(entry), _) if !has_no_entries => Ok(entry),
            (_, Some(separator)) if !has_no_separators => Ok(separator),
            _ => Err(Malformed { reason: "a cell whose lengths do not add up" }),
        })
        .collect()
}

fn cell_info(cell: &[u8]) -> Result<CellInfo<'_>, Malformed> {
    cell_infos(&[cell]).map(|cells| cells[0])
}

/// The two ways to read a cell, as far as its length allows them.
struct Readings<'a> {
    entry: Option<CellInfo<'a>>,
    separator: Option<CellInfo<'a>>,
}

impl<'a> Readings<'a> {
    fn of(cell: &'a [u8]) -> Readings<'a> {
        let entry = node::leaf_cell_parts(cell).map(|(key, value_bytes, overflow)| CellInfo {
            key,
            value_bytes: Some(value_bytes),
            overflow,
            child: None,
        });
        let separator = node::branch_cell_parts(cell).map(|(key, child)| CellInfo {
            key,
            value_bytes: None,
            overflow: None,
            child: Some(child),
        });
        Readings { entry, separator }
    }
}
