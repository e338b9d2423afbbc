//! A node of the tree: a slotted page of cells in key order. All functions work on a whole page that was validated.
//!
//! Slots grow from the front, cells from the back; between them is the hole, which is always zero. The bytes of removed
//! cells are zeroed and counted as garbage until the page is compacted. What an operation leaves depends on nothing but the bytes it
//! finds and its arguments, because redo repeats it and must arrive at the same bytes.

use std::cmp::Ordering;

use byteorder::{ByteOrder, LittleEndian as Le};

use super::{PageId, PageKind, format};

/// Where the slots start.
const SLOTS_AT: usize = 40;
const SLOT_BYTES: usize = 2;
const LEVEL_AT: usize = 24;
const COUNT_AT: usize = 26;
const CELLS_AT: usize = 28;
const GARBAGE_AT: usize = 30;
const FIRST_CHILD_AT: usize = 32;

/// Bytes of a leaf cell before its key.
const LEAF_CELL_HEAD: usize = 6;
/// Bytes of a branch cell before its key.
const BRANCH_CELL_HEAD: usize = 10;
/// Set in a leaf cell's key length if the value is in overflow pages.
const OVERFLOW_BIT: u16 = 0x8000;

/// The value in a leaf cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// The value itself.
    Inline(&'a [u8]),
    /// Its length, and the first page of the chain it is in.
    Overflow { len: usize, first: PageId },
}

/// Bytes of slots and cells that a node has room for.
pub(crate) const fn room(page_bytes: usize) -> usize {
    page_bytes - SLOTS_AT
}

/// The largest cell: a node has room for four, so that a split always finds a place for a new one.
pub(crate) const fn cell_bytes_max(page_bytes: usize) -> usize {
    room(page_bytes) / 4 - SLOT_BYTES
}

/// The longest key, in bytes.
pub(crate) const fn key_bytes_max(page_bytes: usize) -> usize {
    cell_bytes_max(page_bytes) - LEAF_CELL_HEAD - 8
}

/// Formats an empty node.
pub(crate) fn format_node(bytes: &mut [u8], id: PageId, level: u16, first_child: PageId) {
    format(bytes, id, if level == 0 { PageKind::Leaf } else { PageKind::Branch });
    Le::write_u16(&mut bytes[LEVEL_AT..], level);
    let end = bytes.len() as u16;
    Le::write_u16(&mut bytes[CELLS_AT..], end);
    if level > 0 {
        Le::write_u64(&mut bytes[FIRST_CHILD_AT..], first_child.get());
    }
}

/// The level; 0 is a leaf.
pub(crate) fn level(bytes: &[u8]) -> u16 {
    Le::read_u16(&bytes[LEVEL_AT..])
}

/// How many cells there are.
pub(crate) fn count(bytes: &[u8]) -> usize {
    usize::from(Le::read_u16(&bytes[COUNT_AT..]))
}

fn cells_start(bytes: &[u8]) -> usize {
    usize::from(Le::read_u16(&bytes[CELLS_AT..]))
}

fn garbage(bytes: &[u8]) -> usize {
    usize::from(Le::read_u16(&bytes[GARBAGE_AT..]))
}

fn slots_end(bytes: &[u8]) -> usize {
    SLOTS_AT + SLOT_BYTES * count(bytes)
}

pub(super) fn hole(bytes: &[u8]) -> (usize, usize) {
    (slots_end(bytes), cells_start(bytes))
}

/// Bytes that live slots and cells take up.
pub(crate) fn used(bytes: &[u8]) -> usize {
    bytes.len() - cells_start(bytes) - garbage(bytes) + SLOT_BYTES * count(bytes)
}

/// Whether cells of together `cell_bytes` fit, `cells` of them, after compaction.
pub(crate) fn fits(bytes: &[u8], cells: usize, cell_bytes: usize) -> bool {
    used(bytes) + SLOT_BYTES * cells + cell_bytes <= room(bytes.len())
}

/// What of a node would be in use if a cell of `old` bytes became one of `new` bytes.
pub(crate) fn fits_instead(bytes: &[u8], old: usize, new: usize) -> bool {
    used(bytes) - old + new <= room(bytes.len())
}

/// The child to the left of all keys.
pub(crate) fn first_child(bytes: &[u8]) -> PageId {
    PageId(Le::read_u64(&bytes[FIRST_CHILD_AT..]))
}

/// Sets the child to the left of all keys.
pub(crate) fn set_first_child(bytes: &mut [u8], child: PageId) {
    Le::write_u64(&mut bytes[FIRST_CHILD_AT..], child.get());
}

fn offset(bytes: &[u8], slot: usize) -> usize {
    usize::from(Le::read_u16(&bytes[SLOTS_AT + SLOT_BYTES * slot..]))
}

fn is_leaf(bytes: &[u8]) -> bool {
    level(bytes) == 0
}

fn key_len(bytes: &[u8], at: usize) -> usize {
    usize::from(Le::read_u16(&bytes[at..]) & !OVERFLOW_BIT)
}

/// The length of the cell at `at`.
fn cell_len(bytes: &[u8], at: usize) -> usize {
    let key_len = key_len(bytes, at);
    if !is_leaf(bytes) {
        BRANCH_CELL_HEAD + key_len
    } else if Le::read_u16(&bytes[at..]) & OVERFLOW_BIT != 0 {
        LEAF_CELL_HEAD + key_len + 8
    } else {
        LEAF_CELL_HEAD + key_len + Le::read_u32(&bytes[at + 2..]) as usize
    }
}

/// The bytes of a cell.
pub(crate) fn cell(bytes: &[u8], slot: usize) -> &[u8] {
    let at = offset(bytes, slot);
    &bytes[at..at + cell_len(bytes, at)]
}

/// The key of a cell.
pub(crate) fn key(bytes: &[u8], slot: usize) -> &[u8] {
    let head = if is_leaf(bytes) { LEAF_CELL_HEAD } else { BRANCH_CELL_HEAD };
    let at = offset(bytes, slot);
    &bytes[at + head..][..key_len(bytes, at)]
}

/// The child behind `index` keys: 0 is the first child, `i` the child of cell `i - 1`.
pub(crate) fn child(bytes: &[u8], index: usize) -> PageId {
    match index.checked_sub(1) {
        None => first_child(bytes),
        Some(slot) => PageId(Le::read_u64(&bytes[offset(bytes, slot) + 2..])),
    }
}

/// The value of a leaf cell.
pub(crate) fn value(bytes: &[u8], slot: usize) -> Value<'_> {
    cell_value(cell(bytes, slot))
}

fn cell_value(cell: &[u8]) -> Value<'_> {
    let key_len = usize::from(Le::read_u16(cell) & !OVERFLOW_BIT);
    let rest = &cell[LEAF_CELL_HEAD + key_len..];
    if Le::read_u16(cell) & OVERFLOW_BIT == 0 {
        Value::Inline(rest)
    } else {
        Value::Overflow { len: Le::read_u32(&cell[2..]) as usize, first: PageId(Le::read_u64(rest)) }
    }
}

/// The slot of a key, or the slot where it belongs.
///
/// Most comparisons are decided by the first eight bytes of the keys, read as one number, without a call.
pub(crate) fn search(bytes: &[u8], wanted: &[u8]) -> Result<usize, usize> {
    let head = if is_leaf(bytes) { LEAF_CELL_HEAD } else { BRANCH_CELL_HEAD };
    let slots = &bytes[SLOTS_AT..slots_end(bytes)];
    let mut first = [0; 8];
    let short = wanted.len().min(8);
    first[..short].copy_from_slice(&wanted[..short]);
    let prefix = u64::from_be_bytes(first);
    let (mut low, mut high) = (0, slots.len() / SLOT_BYTES);
    while low < high {
        let middle = low + (high - low) / 2;
        let at = usize::from(Le::read_u16(&slots[SLOT_BYTES * middle..]));
        let ordering = match key_prefix(bytes, at, head) {
            Some(found) if found != prefix => found.cmp(&prefix),
            // The same so far, or the last cell of the page and shorter than eight bytes.
            _ => bytes[at + head..at + head + key_len(bytes, at)].cmp(wanted),
        };
        match ordering {
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
            Ordering::Equal => return Ok(middle),
        }
    }
    Err(low)
}

/// The first eight bytes of the key of the cell at `at`, as a number that is ordered as the keys are; a shorter key is filled up with zeros.
/// `None` if the page ends within eight bytes of where the key starts.
#[inline]
fn key_prefix(bytes: &[u8], at: usize, head: usize) -> Option<u64> {
    let cell = bytes.get(at..at + head + 8)?;
    let len = usize::from(Le::read_u16(cell) & !OVERFLOW_BIT).min(8) as u32;
    let first: [u8; 8] = cell[head..].try_into().ok()?;
    let beyond = u64::MAX.checked_shr(8 * len).unwrap_or(0);
    Some(u64::from_be_bytes(first) & !beyond)
}

/// The index of the child in which a key belongs.
pub(crate) fn child_index(bytes: &[u8], wanted: &[u8]) -> usize {
    match search(bytes, wanted) {
        Ok(slot) => slot + 1,
        Err(slot) => slot,
    }
}

/// Appends a leaf cell to `out`.
pub(crate) fn push_leaf_cell(out: &mut Vec<u8>, key: &[u8], value: Value<'_>) {
    let bit = if matches!(value, Value::Overflow { .. }) { OVERFLOW_BIT } else { 0 };
    out.extend_from_slice(&(key.len() as u16 | bit).to_le_bytes());
    match value {
        Value::Inline(value) => {
            out.extend_from_slice(&(value.len() as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(value);
        }
        Value::Overflow { len, first } => {
            out.extend_from_slice(&(len as u32).to_le_bytes());
            out.extend_from_slice(key);
            out.extend_from_slice(&first.get().to_le_bytes());
        }
    }
}

/// Whether a value of `value_len` bytes with a key of `key_len` bytes is kept in the leaf.
pub(crate) fn is_inline(page_bytes: usize, key_len: usize, value_len: usize) -> bool {
    LEAF_CELL_HEAD + key_len + value_len <= cell_bytes_max(page_bytes)
}

/// A branch cell.
pub(crate) fn branch_cell(key: &[u8], child: PageId) -> Vec<u8> {
    let mut cell = Vec::with_capacity(BRANCH_CELL_HEAD + key.len());
    cell.extend_from_slice(&(key.len() as u16).to_le_bytes());
    cell.extend_from_slice(&child.get().to_le_bytes());
    cell.extend_from_slice(key);
    cell
}

/// The key and the child of a branch cell.
pub(crate) fn branch_parts(cell: &[u8]) -> (&[u8], PageId) {
    (&cell[BRANCH_CELL_HEAD..], PageId(Le::read_u64(&cell[2..])))
}

/// The key of a leaf cell.
pub(crate) fn leaf_key(cell: &[u8]) -> &[u8] {
    &cell[LEAF_CELL_HEAD..][..usize::from(Le::read_u16(cell) & !OVERFLOW_BIT)]
}

/// Key, length of the value, and first overflow page of bytes that may be a leaf cell; `None` if their lengths do not add up.
pub(crate) fn leaf_cell_parts(cell: &[u8]) -> Option<(&[u8], u64, Option<PageId>)> {
    let head = cell.get(..LEAF_CELL_HEAD)?;
    let key_len = usize::from(Le::read_u16(head) & !OVERFLOW_BIT);
    let value_len = Le::read_u32(&head[2..]);
    let (key, rest) = cell[LEAF_CELL_HEAD..].split_at_checked(key_len)?;
    if Le::read_u16(head) & OVERFLOW_BIT == 0 {
        return (rest.len() as u64 == u64::from(value_len)).then_some((key, value_len.into(), None));
    }
    (rest.len() == 8).then(|| (key, value_len.into(), Some(PageId(Le::read_u64(rest)))))
}

/// Key and child of bytes that may be a branch cell; `None` if their lengths do not add up.
pub(crate) fn branch_cell_parts(cell: &[u8]) -> Option<(&[u8], PageId)> {
    let head = cell.get(..BRANCH_CELL_HEAD)?;
    let key = &cell[BRANCH_CELL_HEAD..];
    (usize::from(Le::read_u16(head)) == key.len()).then(|| (key, PageId(Le::read_u64(&head[2..]))))
}

/// Whether this is one whole cell for a node of this kind. The running store makes no others; a record in the log might.
fn is_cell(bytes: &[u8], cell: &[u8]) -> bool {
    let head = if is_leaf(bytes) { LEAF_CELL_HEAD } else { BRANCH_CELL_HEAD };
    if cell.len() < head || cell.len() > cell_bytes_max(bytes.len()) {
        return false;
    }
    let key_len = usize::from(Le::read_u16(cell) & !OVERFLOW_BIT);
    let rest = match Le::read_u16(cell) & OVERFLOW_BIT {
        _ if !is_leaf(bytes) => 0,
        0 => Le::read_u32(&cell[2..]) as usize,
        _ => 8,
    };
    cell.len() == head + key_len + rest
}

/// Inserts a cell at a slot. `false` if it does not fit or the slot is past the end: then nothing is changed.
#[must_use]
pub(crate) fn insert(bytes: &mut [u8], slot: usize, cell: &[u8]) -> bool {
    let count = count(bytes);
    if slot > count || !is_cell(bytes, cell) || !fits(bytes, 1, cell.len()) {
        return false;
    }
    let (hole_start, hole_end) = hole(bytes);
    if hole_end - hole_start < SLOT_BYTES + cell.len() {
        compact(bytes);
    }
    let start = cells_start(bytes) - cell.len();
    bytes[start..start + cell.len()].copy_from_slice(cell);
    let slot_at = SLOTS_AT + SLOT_BYTES * slot;
    bytes.copy_within(slot_at..SLOTS_AT + SLOT_BYTES * count, slot_at + SLOT_BYTES);
    Le::write_u16(&mut bytes[slot_at..], start as u16);
    Le::write_u16(&mut bytes[CELLS_AT..], start as u16);
    Le::write_u16(&mut bytes[COUNT_AT..], count as u16 + 1);
    true
}

/// Removes a cell. `false` if there is none.
#[must_use]
pub(crate) fn remove(bytes: &mut [u8], slot: usize) -> bool {
    let count = count(bytes);
    if slot >= count {
        return false;
    }
    let at = offset(bytes, slot);
    let len = cell_len(bytes, at);
    bytes[at..at + len].fill(0);
    let slot_at = SLOTS_AT + SLOT_BYTES * slot;
    let end = SLOTS_AT + SLOT_BYTES * count;
    bytes.copy_within(slot_at + SLOT_BYTES..end, slot_at);
    bytes[end - SLOT_BYTES..end].fill(0);
    Le::write_u16(&mut bytes[COUNT_AT..], count as u16 - 1);
    if count == 1 {
        let end = bytes.len() as u16;
        Le::write_u16(&mut bytes[CELLS_AT..], end);
        Le::write_u16(&mut bytes[GARBAGE_AT..], 0);
    } else if at == cells_start(bytes) {
        Le::write_u16(&mut bytes[CELLS_AT..], (at + len) as u16);
    } else {
        let garbage = garbage(bytes) + len;
        Le::write_u16(&mut bytes[GARBAGE_AT..], garbage as u16);
    }
    true
}

/// Puts another cell into a slot. `false` if it does not fit or there is no such slot: then nothing is changed.
#[must_use]
pub(crate) fn replace(bytes: &mut [u8], slot: usize, cell: &[u8]) -> bool {
    if slot >= count(bytes) || !is_cell(bytes, cell) {
        return false;
    }
    let at = offset(bytes, slot);
    let old = cell_len(bytes, at);
    if old == cell.len() {
        bytes[at..at + old].copy_from_slice(cell);
        return true;
    }
    fits_instead(bytes, old, cell.len()) && remove(bytes, slot) && insert(bytes, slot, cell)
}

/// Removes the cells from slot `from` to before slot `to`. `false` if there are not that many.
#[must_use]
pub(crate) fn remove_range(bytes: &mut [u8], from: usize, to: usize) -> bool {
    if from > to || to > count(bytes) {
        return false;
    }
    rebuild(bytes, (0..from).chain(to..count(bytes)));
    true
}

/// Lays all cells out anew, without garbage.
fn compact(bytes: &mut [u8]) {
    rebuild(bytes, 0..count(bytes));
}

/// Lays the cells of these slots out anew and drops the others.
fn rebuild(bytes: &mut [u8], slots: impl Iterator<Item = usize>) {
    let old = bytes.to_vec();
    bytes[SLOTS_AT..].fill(0);
    let (mut start, mut kept) = (bytes.len(), 0);
    for slot in slots {
        let cell = cell(&old, slot);
        start -= cell.len();
        bytes[start..start + cell.len()].copy_from_slice(cell);
        Le::write_u16(&mut bytes[SLOTS_AT + SLOT_BYTES * kept..], start as u16);
        kept += 1;
    }
    Le::write_u16(&mut bytes[COUNT_AT..], kept as u16);
    Le::write_u16(&mut bytes[CELLS_AT..], start as u16);
    Le::write_u16(&mut bytes[GARBAGE_AT..], 0);
}

/// Whether cells of a validated node share bytes.
pub(crate) fn has_overlaps(bytes: &[u8]) -> bool {
    let mut places: Vec<(usize, usize)> =
        (0..count(bytes)).map(|slot| (offset(bytes, slot), cell_len(bytes, offset(bytes, slot)))).collect();
    places.sort_unstable();
    places.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0)
}

/// Checks that every slot and cell lies where it may and that the sums are right. Keys are not compared: that is for verification.
pub(super) fn validate(bytes: &[u8], kind: PageKind) -> Result<(), &'static str> {
    if is_leaf(bytes) != (kind == PageKind::Leaf) {
        return Err("its level does not fit its kind");
    }
    let (start, end) = (slots_end(bytes), cells_start(bytes));
    if start > end || end > bytes.len() {
        return Err("its slots and cells overlap");
    }
    let head = if kind == PageKind::Leaf { LEAF_CELL_HEAD } else { BRANCH_CELL_HEAD };
    let mut cells = 0;
    for slot in 0..count(bytes) {
        let at = offset(bytes, slot);
        if at < end || at + head > bytes.len() {
            return Err("a slot points outside of the cells");
        }
        let key_at = at + head;
        if key_at + key_len(bytes, at) > bytes.len() || at + cell_len(bytes, at) > bytes.len() {
            return Err("a cell is longer than the page");
        }
        if cell_len(bytes, at) > cell_bytes_max(bytes.len()) {
            return Err("a cell is longer than a cell may be");
        }
        cells += cell_len(bytes, at);
    }
    if end + cells + garbage(bytes) != bytes.len() {
        return Err("its cells and its garbage do not add up");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_whatever_their_lengths_and_prefixes() {
        let alphabet = [0u8, 1, 7, 255];
        let mut keys: Vec<Vec<u8>> = vec![Vec::new()];
        for len in 1..=10usize {
            for pick in 0..24usize {
                keys.push((0..len).map(|at| alphabet[(pick >> (at % 5)) % 4 * usize::from(at % 3 != 1)]).collect());
            }
        }
        keys.sort_unstable();
        keys.dedup();
        for level in [0, 1] {
            let mut bytes = vec![0; 4096];
            format_node(&mut bytes, PageId::new(1), level, PageId::new(2));
            let present: Vec<&Vec<u8>> = keys.iter().step_by(2).collect();
            for (slot, key) in present.iter().enumerate() {
                let mut cell = Vec::new();
                match level {
                    0 => push_leaf_cell(&mut cell, key, Value::Inline(b"")),
                    _ => cell = branch_cell(key, PageId::new(3)),
                }
                assert!(insert(&mut bytes, slot, &cell), "all keys fit");
            }
            for key in &keys {
                assert_eq!(search(&bytes, key), present.binary_search(&key), "level {level}, {key:?}");
            }
        }
    }

    fn leaf_cell(key: &[u8], value: &[u8]) -> Vec<u8> {
        let mut cell = Vec::new();
        push_leaf_cell(&mut cell, key, Value::Inline(value));
        cell
    }

    /// A leaf with five cells of about five hundred bytes.
    fn leaf() -> Vec<u8> {
        let mut bytes = vec![0; 4096];
        format_node(&mut bytes, PageId::new(1), 0, PageId::NONE);
        for slot in 0..5 {
            assert!(insert(&mut bytes, slot, &leaf_cell(&[b'a' + slot as u8], &[7; 500])), "five cells fit");
        }
        bytes
    }

    #[test]
    fn a_node_that_contradicts_itself_is_not_valid() {
        let sound = leaf();
        assert_eq!(validate(&sound, PageKind::Leaf), Ok(()));
        let last = offset(&sound, 4);
        assert_eq!(last, cells_start(&sound));
        let cases: [(&str, usize, usize, &str); 9] = [
            ("a branch's level", LEVEL_AT, 1, "its level does not fit its kind"),
            ("cells that start among the slots", CELLS_AT, SLOTS_AT + 1, "its slots and cells overlap"),
            ("cells that start behind the page", CELLS_AT, 4097, "its slots and cells overlap"),
            ("a slot that points before the cells", SLOTS_AT, last - 1, "a slot points outside of the cells"),
            ("a slot that points to the end", SLOTS_AT, 4092, "a slot points outside of the cells"),
            ("a key that ends behind the page", last, 4000, "a cell is longer than the page"),
            ("a value that ends behind the page", last + 2, 4000, "a cell is longer than the page"),
            ("a cell that takes more than a quarter", last + 2, 1100, "a cell is longer than a cell may be"),
            ("garbage that is not there", GARBAGE_AT, 1, "its cells and its garbage do not add up"),
        ];
        for (what, at, value, expected) in cases {
            let mut bytes = sound.clone();
            Le::write_u16(&mut bytes[at..], value as u16);
            assert_eq!(validate(&bytes, PageKind::Leaf), Err(expected), "{what}");
        }
    }

    #[test]
    fn what_does_not_fit_a_node_is_refused_and_changes_nothing() {
        let sound = leaf();
        let short = leaf_cell(b"f", b"short");
        let mut cut = short.clone();
        cut.pop();
        let too_long = leaf_cell(b"f", &[7; 1100]);
        let fills = leaf_cell(b"f", &[7; 1004]);
        let mut full = sound.clone();
        assert!(insert(&mut full, 5, &fills), "it fits once");
        type Step<'a> = (&'a str, &'a [u8], &'a dyn Fn(&mut [u8]) -> bool);
        let steps: [Step<'_>; 11] = [
            ("insert past the end", &sound, &|bytes| insert(bytes, 6, &short)),
            ("insert half a cell", &sound, &|bytes| insert(bytes, 0, &cut)),
            ("insert nothing", &sound, &|bytes| insert(bytes, 0, &[])),
            ("insert too long a cell", &sound, &|bytes| insert(bytes, 0, &too_long)),
            ("insert into a full node", &full, &|bytes| insert(bytes, 0, &fills)),
            ("remove past the end", &sound, &|bytes| remove(bytes, 5)),
            ("replace past the end", &sound, &|bytes| replace(bytes, 5, &short)),
            ("replace by half a cell", &sound, &|bytes| replace(bytes, 0, &cut)),
            ("replace by what does not fit", &full, &|bytes| replace(bytes, 0, &fills)),
            ("remove a range past the end", &sound, &|bytes| remove_range(bytes, 3, 6)),
            ("remove a range backwards", &sound, &|bytes| remove_range(bytes, 3, 2)),
        ];
        for (what, before, step) in steps {
            let mut bytes = before.to_vec();
            assert!(!step(&mut bytes), "{what}");
            assert!(bytes == before, "{what}");
        }
    }
}
