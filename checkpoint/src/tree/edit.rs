//! Changes of the tree's structure: splits, merges, values in overflow pages, batches of several keys.
//!
//! An edit holds the tree's lock exclusively. It works on private copies of the pages it changes and collects the changes in one record. At its
//! end it latches all those pages, submits the record, and puts the copies in their place. Up to there nothing was changed, so whatever goes
//! wrong before costs nothing, and whatever reaches the log is whole.

use std::collections::BTreeMap;

use wal::{Durability, Error, ErrorKind, Lsn, Result};

use super::{Changed, Op, PutMode, Stop, Tree, separator, used_min};
use crate::change::{self, Change, Image};
use crate::page::node::{self, Value};
use crate::page::{self, Meta, PageId, PageKind};
use crate::pool::{EmptyFrame, PageRead, PageWrite};

/// A changed page, not yet in its place.
pub(super) struct Copy {
    bytes: Box<[u8]>,
    /// The page's LSN before this record.
    previous: Lsn,
    /// The record holds all of the page.
    is_whole: bool,
}

/// One edit.
pub(super) struct Edit<'t> {
    pub(super) tree: &'t Tree,
    pub(super) meta: Meta,
    pub(super) copies: BTreeMap<PageId, Copy>,
    pub(super) record: Vec<u8>,
    /// Missing pages are read although the lock is held.
    pub(super) inline: bool,
}

/// A page as the edit sees it.
enum View<'a> {
    Copy(&'a [u8]),
    Pool(PageRead<'a>),
}

impl View<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            View::Copy(bytes) => bytes,
            View::Pool(page) => page.bytes(),
        }
    }
}

/// The way from the root to a node: each branch, and which child was taken.
type Path = Vec<(PageId, usize)>;

impl Tree {
    /// Makes changes of keys as one: all are in one record. Conditions of single puts are looked at one after the other.
    pub(crate) fn change_structure(&self, ops: &[Op<'_>], durability: Option<Durability>) -> Result<Changed> {
        self.failure.check()?;
        // Whatever the edit will need in memory is brought there first, while everybody else goes on.
        for op in ops {
            self.get(op.key(), |_| ())?;
        }
        self.retry(|inline| {
            let mut meta = self.meta.write();
            let mut edit = Edit { tree: self, meta: *meta, copies: BTreeMap::new(), record: Vec::new(), inline };
            for op in ops {
                edit.change(*op)?;
            }
            if edit.copies.is_empty() {
                return Ok(Changed { ticket: None });
            }
            let (changed, new) = edit.commit(&meta, durability)?;
            *meta = new;
            Ok(changed)
        })
    }
}

impl<'t> Edit<'t> {
    fn page_bytes(&self) -> usize {
        self.tree.page_bytes()
    }

    fn view(&self, id: PageId) -> Result<View<'_>, Stop> {
        match self.copies.get(&id) {
            Some(copy) => Ok(View::Copy(&copy.bytes)),
            None => Ok(View::Pool(self.tree.read(id, self.inline)?)),
        }
    }

    fn node(&self, id: PageId, level: u64) -> Result<View<'_>, Stop> {
        let view = self.view(id)?;
        let kind = page::kind(view.bytes());
        let is_node = matches!(kind, Some(PageKind::Leaf | PageKind::Branch));
        if !is_node || u64::from(node::level(view.bytes())) != level {
            drop(view);
            return Err(self.tree.misplaced(id, "a node of the tree").into());
        }
        Ok(view)
    }

    /// Makes a change in the copy of its page, and adds it to the record.
    fn apply(&mut self, id: PageId, change: &Change<'_>) -> Result<(), Stop> {
        if !self.copies.contains_key(&id) {
            let copy = if change.is_whole() {
                Copy { bytes: vec![0; self.page_bytes()].into(), previous: super::NEVER_LOGGED, is_whole: true }
            } else {
                let page = self.tree.read(id, self.inline)?;
                Copy { bytes: page.bytes().into(), previous: page::lsn(page.bytes()), is_whole: false }
            };
            self.copies.insert(id, copy);
        }
        let copy = self.copies.get_mut(&id).expect("just put there");
        copy.is_whole |= change.is_whole();
        change::encode(&mut self.record, id, copy.previous, change);
        change::apply(&mut copy.bytes, id, change).expect("it was checked that the change fits");
        Ok(())
    }

    /// Adds a page that is new, or used anew, and fills it.
    fn format(&mut self, id: PageId, fill: impl FnOnce(&mut [u8])) -> Result<(), Stop> {
        let mut bytes = vec![0; self.page_bytes()];
        fill(&mut bytes);
        self.apply(id, &Change::Format(Image::of(&bytes)))
    }

    fn allocate(&mut self) -> Result<PageId, Stop> {
        if self.meta.free_head != PageId::NONE {
            let id = self.meta.free_head;
            let page = self.view(id)?;
            if page::kind(page.bytes()) != Some(PageKind::Free) {
                drop(page);
                return Err(self.tree.misplaced(id, "a page of the free list").into());
            }
            let next = page::next(page.bytes());
            drop(page);
            self.meta.free_head = next;
            self.meta.free_count = self.meta.free_count.saturating_sub(1);
            return Ok(id);
        }
        let id = PageId::new(self.meta.page_count);
        self.meta.page_count += 1;
        if self.meta.page_count > self.tree.room.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(Stop::Grow(self.meta.page_count));
        }
        Ok(id)
    }

    pub(super) fn free(&mut self, id: PageId) -> Result<(), Stop> {
        let next = self.meta.free_head;
        self.apply(id, &Change::Free { next })?;
        self.meta.free_head = id;
        self.meta.free_count += 1;
        Ok(())
    }

    fn change(&mut self, op: Op<'_>) -> Result<(), Stop> {
        let mut path = Path::new();
        let mut id = self.meta.root;
        for level in (1..self.meta.depth).rev() {
            let view = self.node(id, level)?;
            let index = node::child_index(view.bytes(), op.key());
            let child = node::child(view.bytes(), index);
            drop(view);
            path.push((id, index));
            id = child;
        }
        let view = self.node(id, 0)?;
        let found = node::search(view.bytes(), op.key());
        let old = found.ok().map(|slot| match node::value(view.bytes(), slot) {
            Value::Overflow { first, .. } => Some(first),
            Value::Inline(_) => None,
        });
        drop(view);
        match (op, found) {
            (Op::Put { mode: PutMode::Insert, .. }, Ok(_))
            | (Op::Put { mode: PutMode::Update, .. } | Op::Delete { .. }, Err(_)) => Ok(()),
            (Op::Delete { .. }, Ok(slot)) => {
                self.free_overflow(old.flatten())?;
                self.apply(id, &Change::Remove { slot })?;
                self.merge_if_small(id, path, 0)
            }
            (Op::Put { key, value, .. }, found) => {
                self.free_overflow(old.flatten())?;
                let mut cell = Vec::new();
                if node::is_inline(self.page_bytes(), key.len(), value.len()) {
                    node::push_leaf_cell(&mut cell, key, Value::Inline(value));
                } else {
                    let first = self.write_overflow(value)?;
                    node::push_leaf_cell(&mut cell, key, Value::Overflow { len: value.len(), first });
                }
                self.put_cell(id, path, 0, found, &cell)
            }
        }
    }

    fn write_overflow(&mut self, value: &[u8]) -> Result<PageId, Stop> {
        let room = self.page_bytes() - page::OVERFLOW_DATA_AT;
        let mut next = PageId::NONE;
        // From the last part to the first, so that each knows the page that follows.
        for part in value.chunks(room).rev() {
            let id = self.allocate()?;
            self.format(id, |bytes| page::format_overflow(bytes, id, next, part))?;
            next = id;
        }
        Ok(next)
    }

    fn free_overflow(&mut self, first: Option<PageId>) -> Result<(), Stop> {
        let mut id = first.unwrap_or(PageId::NONE);
        while id != PageId::NONE {
            let page = self.view(id)?;
            if page::kind(page.bytes()) != Some(PageKind::Overflow) {
                drop(page);
                return Err(self.tree.misplaced(id, "a part of a value").into());
            }
            let next = page::next(page.bytes());
            drop(page);
            self.free(id)?;
            id = next;
        }
        Ok(())
    }

    /// Puts a cell into a node, in place of the cell of a slot or between two slots. Splits the node if it has no room.
    fn put_cell(
        &mut self,
        id: PageId,
        path: Path,
        level: u16,
        place: Result<usize, usize>,
        cell: &[u8],
    ) -> Result<(), Stop> {
        let view = self.node(id, u64::from(level))?;
        let fits = match place {
            Ok(slot) => node::fits_instead(view.bytes(), node::cell(view.bytes(), slot).len(), cell.len()),
            Err(_) => node::fits(view.bytes(), 1, cell.len()),
        };
        drop(view);
        if fits {
            return match place {
                Ok(slot) => self.apply(id, &Change::Replace { slot, cell }),
                Err(slot) => self.apply(id, &Change::Insert { slot, cell }),
            };
        }
        self.split(id, path, level, place, cell)
    }

    /// Splits a node that has no room for a cell into itself and a new page to its right.
    fn split(
        &mut self,
        id: PageId,
        path: Path,
        level: u16,
        place: Result<usize, usize>,
        cell: &[u8],
    ) -> Result<(), Stop> {
        let view = self.node(id, u64::from(level))?;
        let old = view.bytes().to_vec();
        drop(view);
        let count = node::count(&old);
        let mut cells: Vec<&[u8]> = (0..count).map(|slot| node::cell(&old, slot)).collect();
        match place {
            Ok(slot) => cells[slot] = cell,
            Err(slot) => cells.insert(slot, cell),
        }
        let at = split_at(&cells, place == Err(count), level);
        // A branch gives the key in the middle to its parent, a leaf keeps all and the parent gets a separator.
        let (key, first_child, right_cells) = if level == 0 {
            (separator(node::leaf_key(cells[at - 1]), node::leaf_key(cells[at])), PageId::NONE, &cells[at..])
        } else {
            let (key, child) = node::branch_parts(cells[at]);
            (key.to_vec(), child, &cells[at + 1..])
        };
        let right = self.allocate()?;
        self.format(right, |bytes| {
            node::format_node(bytes, right, level, first_child);
            for (slot, cell) in right_cells.iter().enumerate() {
                assert!(node::insert(bytes, slot, cell), "half of a node's cells fit a node");
            }
        })?;
        self.keep_left(id, count, at, place, cell)?;
        self.add_child(path, level + 1, &key, right, id)
    }

    /// Leaves in a node that is split the first `at` of its cells, with the new one if it is among them.
    fn keep_left(
        &mut self,
        id: PageId,
        count: usize,
        at: usize,
        place: Result<usize, usize>,
        cell: &[u8],
    ) -> Result<(), Stop> {
        match place {
            Ok(slot) => {
                self.apply(id, &Change::RemoveRange { from: at, to: count })?;
                if slot < at { self.apply(id, &Change::Replace { slot, cell }) } else { Ok(()) }
            }
            Err(slot) if slot < at => {
                self.apply(id, &Change::RemoveRange { from: at - 1, to: count })?;
                self.apply(id, &Change::Insert { slot, cell })
            }
            Err(_) if at == count => Ok(()),
            Err(_) => self.apply(id, &Change::RemoveRange { from: at, to: count }),
        }
    }

    /// Makes a new page the right neighbour of a child, in the branch above or in a new root.
    fn add_child(&mut self, mut path: Path, level: u16, key: &[u8], right: PageId, left: PageId) -> Result<(), Stop> {
        let cell = node::branch_cell(key, right);
        match path.pop() {
            Some((parent, index)) => self.put_cell(parent, path, level, Err(index), &cell),
            None => {
                let root = self.allocate()?;
                self.format(root, |bytes| {
                    node::format_node(bytes, root, level, left);
                    assert!(node::insert(bytes, 0, &cell), "one cell fits a node");
                })?;
                self.meta.root = root;
                self.meta.depth += 1;
                Ok(())
            }
        }
    }

    /// Merges a node that has become small with a neighbour, if one page has room for both, and so on upwards.
    fn merge_if_small(&mut self, id: PageId, mut path: Path, level: u16) -> Result<(), Stop> {
        let used = node::used(self.node(id, u64::from(level))?.bytes());
        let Some((parent, index)) = path.pop() else { return self.shrink_root(id, level) };
        if used >= used_min(self.page_bytes()) {
            return Ok(());
        }
        let above = u64::from(level) + 1;
        let children = node::count(self.node(parent, above)?.bytes()) + 1;
        let pairs = [(index, index + 1), (index.wrapping_sub(1), index)];
        for (left, right) in pairs.into_iter().filter(|(left, right)| *left < *right && *right < children) {
            let view = self.node(parent, above)?;
            let (left_id, right_id) = (node::child(view.bytes(), left), node::child(view.bytes(), right));
            let key = node::key(view.bytes(), right - 1).to_vec();
            drop(view);
            if self.merge(left_id, right_id, level, &key)? {
                self.apply(parent, &Change::Remove { slot: right - 1 })?;
                self.free(right_id)?;
                return self.merge_if_small(parent, path, level + 1);
            }
        }
        Ok(())
    }

    /// Moves everything of a node to the end of its left neighbour. `false` if it has no room.
    fn merge(&mut self, left: PageId, right: PageId, level: u16, key: &[u8]) -> Result<bool, Stop> {
        let view = self.node(right, u64::from(level))?;
        let old = view.bytes().to_vec();
        drop(view);
        // In a branch the key between the two comes down, with the right one's first child.
        let between = (level > 0).then(|| node::branch_cell(key, node::first_child(&old)));
        let mut cells: Vec<&[u8]> = between.iter().map(Vec::as_slice).collect();
        cells.extend((0..node::count(&old)).map(|slot| node::cell(&old, slot)));
        let bytes = cells.iter().map(|cell| cell.len()).sum();
        if !node::fits(self.node(left, u64::from(level))?.bytes(), cells.len(), bytes) {
            return Ok(false);
        }
        self.apply(left, &Change::InsertMany { cells })?;
        Ok(true)
    }

    /// Makes the only child of a root the root.
    fn shrink_root(&mut self, id: PageId, level: u16) -> Result<(), Stop> {
        let view = self.node(id, u64::from(level))?;
        if level == 0 || node::count(view.bytes()) > 0 {
            return Ok(());
        }
        let child = node::first_child(view.bytes());
        drop(view);
        self.meta.root = child;
        self.meta.depth -= 1;
        self.free(id)
    }

    /// Latches what is changed, submits the record, and puts the copies in their place.
    pub(super) fn commit(mut self, before: &Meta, durability: Option<Durability>) -> Result<(Changed, Meta), Stop> {
        if self.meta != *before {
            let meta = self.meta;
            self.apply(PageId::META, &Change::SetMeta(meta))?;
        }
        if self.copies.len() > self.tree.pool.frames() / 2 {
            let detail = format!(
                "it changes {} pages, more than half of what the pool has room for; split it, or make the pool larger",
                self.copies.len()
            );
            return Err(Error::new(ErrorKind::TooLarge, "change tree", detail).into());
        }
        let mut latched = self.latch_all()?;
        let ticket = match self.tree.submit(&self.record, durability) {
            Ok(ticket) => ticket,
            Err(error) => {
                forget_new(latched);
                return Err(error.into());
            }
        };
        let lsn = ticket.lsn();
        for ((page, _), copy) in latched.iter_mut().zip(self.copies.values_mut()) {
            page.swap_bytes(&mut copy.bytes);
            page.changed(lsn, copy.is_whole);
        }
        Ok((Changed { ticket: Some(ticket) }, self.meta))
    }

    /// Latches all changed pages for writing, and says of each whether it was not in the pool.
    fn latch_all(&self) -> Result<Vec<(PageWrite<'t>, bool)>> {
        let pool = &self.tree.pool;
        let mut empty = Vec::new();
        loop {
            let missing = self.copies.keys().filter(|id| pool.read(**id).is_none()).count();
            // Frames are taken before anything is latched, because taking one may mean to flush others.
            while empty.len() < missing {
                match self.tree.take_frame() {
                    Ok(frame) => empty.push(frame),
                    Err(error) => {
                        empty.into_iter().for_each(|frame| pool.give_back(frame));
                        return Err(error);
                    }
                }
            }
            // If a page was evicted since they were counted there is one frame too few.
            if let Some(latched) = self.try_latch(&mut empty) {
                empty.into_iter().for_each(|frame| pool.give_back(frame));
                return Ok(latched);
            }
        }
    }

    fn try_latch(&self, empty: &mut Vec<EmptyFrame<'t>>) -> Option<Vec<(PageWrite<'t>, bool)>> {
        let mut latched = Vec::with_capacity(self.copies.len());
        for id in self.copies.keys() {
            let page = match self.tree.pool.write(*id) {
                Some(page) => Some((page, false)),
                None => empty.pop().map(|frame| self.tree.pool.place(*id, frame)),
            };
            let Some(page) = page else {
                forget_new(latched);
                return None;
            };
            latched.push(page);
        }
        Some(latched)
    }
}

fn forget_new(latched: Vec<(PageWrite<'_>, bool)>) {
    for (page, is_new) in latched {
        if is_new {
            page.forget();
        }
    }
}

/// Before which cell a node's cells are split. Whoever appends at the end fills pages; anybody else halves them.
fn split_at(cells: &[&[u8]], appends: bool, level: u16) -> usize {
    // A branch needs a cell on either side of the one that goes up.
    let last = if level == 0 { cells.len() - 1 } else { cells.len() - 2 };
    if appends {
        return last;
    }
    let total: usize = cells.iter().map(|cell| cell.len()).sum();
    let mut left = 0;
    for (index, cell) in cells.iter().enumerate() {
        left += cell.len();
        if 2 * left >= total {
            return (index + 1).min(last);
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use wal::Background;
    use wal::fs::sim::SimFs;

    use super::*;
    use crate::{Config, Store};

    #[test]
    fn pages_that_cannot_be_latched_together_leave_no_trace() {
        let mut config = Config { page_bytes: 4096, pool_bytes: 64 * 4096, ..Config::default() };
        (config.log.segment_bytes_max, config.log.background) = (64 << 10, Background::Inline);
        let store =
            Store::opener(config).file_system(Arc::new(SimFs::new(1))).open("/store").expect("a new store opens");
        let tree = &store.core().tree;
        let mut edit = Edit { tree, meta: tree.meta(), copies: BTreeMap::new(), record: Vec::new(), inline: false };
        let new = [PageId::new(8), PageId::new(9)];
        for id in new {
            edit.free(id).expect("it needs nothing of what the page was");
        }
        // Since they were counted one more has left the pool.
        let mut empty = vec![tree.take_frame().expect("a free frame")];
        assert!(edit.try_latch(&mut empty).is_none(), "there are two pages and one frame");
        assert!(new.iter().all(|id| tree.pool.read(*id).is_none()), "nobody may find a page that has no content yet");
        let latched = edit.latch_all().expect("there are frames");
        assert_eq!(latched.len(), 2);
        forget_new(latched);
    }
}
