//! Bulk load: a whole tree from sorted entries, written straight into the page file.
//!
//! The pages are new ones that nothing refers to, so they need neither log records nor images: they are written in order and synced, and then
//! one record makes them the tree. Before that record is in the log the tree is empty, after it all is there.

use std::collections::BTreeMap;

use wal::{Durability, Error, ErrorKind, Result, Ticket};

use super::edit::Edit;
use super::{Tree, separator};
use crate::page::node::{self, Value};
use crate::page::{self, PageId};

/// Bytes that are collected before they are written.
const WRITE_BYTES: usize = 1 << 20;

/// Pages on their way to the file, numbered one behind the other.
struct Writer<'t> {
    tree: &'t Tree,
    /// The number of the first page in `bytes`.
    first: PageId,
    bytes: Vec<u8>,
}

/// The node of a level that is being filled.
struct Level {
    bytes: Vec<u8>,
    /// A key that separates the node from its left neighbour; empty for the first.
    low: Vec<u8>,
    is_empty: bool,
}

struct Loader<'t> {
    writer: Writer<'t>,
    levels: Vec<Level>,
    last_key: Option<Vec<u8>>,
    entries: u64,
}

impl Writer<'_> {
    fn next_page(&self) -> PageId {
        PageId::new(self.first.get() + (self.bytes.len() / self.tree.page_bytes()) as u64)
    }

    /// Adds the next page.
    fn push(&mut self, fill: impl FnOnce(&mut [u8], PageId)) -> Result<PageId> {
        let id = self.next_page();
        let start = self.bytes.len();
        self.bytes.resize(start + self.tree.page_bytes(), 0);
        fill(&mut self.bytes[start..], id);
        if self.bytes.len() >= WRITE_BYTES {
            self.write()?;
        }
        Ok(id)
    }

    fn write(&mut self) -> Result<()> {
        let next = self.next_page();
        let room = self.tree.flusher.write_unreferenced(self.first, &mut self.bytes)?;
        self.tree.room.fetch_max(room, std::sync::atomic::Ordering::Relaxed);
        self.first = next;
        self.bytes.clear();
        Ok(())
    }
}

impl Loader<'_> {
    fn page_bytes(&self) -> usize {
        self.writer.tree.page_bytes()
    }

    fn new_level(&self, level: u16, low: Vec<u8>) -> Level {
        let mut bytes = vec![0; self.page_bytes()];
        node::format_node(&mut bytes, PageId::NONE, level, PageId::NONE);
        Level { bytes, low, is_empty: true }
    }

    fn push_entry(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        if let Some(last) = &self.last_key
            && last.as_slice() >= key
        {
            let detail = format!("the keys are not in strictly ascending order at entry {}", self.entries);
            return Err(Error::new(ErrorKind::Invalid, "load in bulk", detail));
        }
        let mut cell = Vec::new();
        if node::is_inline(self.page_bytes(), key.len(), value.len()) {
            node::push_leaf_cell(&mut cell, key, Value::Inline(value));
        } else {
            let first = self.push_overflow(value)?;
            node::push_leaf_cell(&mut cell, key, Value::Overflow { len: value.len(), first });
        }
        // A tenth of a leaf stays free, so that the first changes do not split every leaf.
        let bytes = &self.levels[0].bytes;
        let is_full = node::used(bytes) + cell.len() > node::room(bytes.len()) / 10 * 9;
        if node::count(bytes) > 0 && is_full {
            let low = separator(self.last_key.as_deref().expect("the leaf has an entry"), key);
            self.close(0, low)?;
        }
        let leaf = &mut self.levels[0];
        let slot = node::count(&leaf.bytes);
        assert!(node::insert(&mut leaf.bytes, slot, &cell), "a leaf has room for at least four cells");
        leaf.is_empty = false;
        self.last_key = Some(key.to_vec());
        self.entries += 1;
        Ok(())
    }

    fn push_overflow(&mut self, value: &[u8]) -> Result<PageId> {
        let room = self.page_bytes() - page::OVERFLOW_DATA_AT;
        let first = self.writer.next_page();
        let mut parts = value.chunks(room).peekable();
        while let Some(part) = parts.next() {
            let is_last = parts.peek().is_none();
            self.writer.push(|bytes, id| {
                let next = if is_last { PageId::NONE } else { PageId::new(id.get() + 1) };
                page::format_overflow(bytes, id, next, part);
            })?;
        }
        Ok(first)
    }

    /// Ends the node of a level, hands it to the level above, and starts the next one, which is separated from it by `low`.
    fn close(&mut self, level: usize, low: Vec<u8>) -> Result<PageId> {
        let next = self.new_level(level as u16, low);
        let done = std::mem::replace(&mut self.levels[level], next);
        let id = self.writer.push(|bytes, id| {
            bytes.copy_from_slice(&done.bytes);
            page::set_id(bytes, id);
        })?;
        self.push_child(level + 1, &done.low, id)?;
        Ok(id)
    }

    fn push_child(&mut self, level: usize, low: &[u8], child: PageId) -> Result<()> {
        if level == self.levels.len() {
            let above = self.new_level(level as u16, low.to_vec());
            self.levels.push(above);
        }
        let cell = node::branch_cell(low, child);
        if !self.levels[level].is_empty && !node::fits(&self.levels[level].bytes, 1, cell.len()) {
            self.close(level, low.to_vec())?;
        }
        let node = &mut self.levels[level];
        if node.is_empty {
            node::set_first_child(&mut node.bytes, child);
            node.is_empty = false;
        } else {
            let slot = node::count(&node.bytes);
            assert!(node::insert(&mut node.bytes, slot, &cell), "it was checked that the cell fits");
        }
        Ok(())
    }

    /// Ends all nodes. Returns the root and the number of levels.
    fn finish(&mut self) -> Result<(PageId, u64)> {
        let mut level = 0;
        loop {
            let done = self.close(level, Vec::new())?;
            // The level above has nothing but this node: it is the root.
            let above = &self.levels[level + 1];
            if level + 2 == self.levels.len() && node::count(&above.bytes) == 0 {
                self.writer.write()?;
                return Ok((done, level as u64 + 1));
            }
            level += 1;
        }
    }
}

impl Tree {
    /// Fills the empty tree. Returns how many entries there were and a ticket for their acknowledgement.
    pub(crate) fn bulk_load<K: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        entries: impl IntoIterator<Item = (K, V)>,
        check: impl Fn(&[u8], &[u8]) -> Result<()>,
    ) -> Result<(u64, Option<Ticket>)> {
        self.failure.check()?;
        let mut meta = self.meta.write();
        let old_root = meta.root;
        self.retry(|_| {
            let root = self.read(old_root, true)?;
            if meta.depth > 1 || node::count(root.bytes()) > 0 {
                let detail = "the tree is not empty; put the entries one by one, or in batches";
                return Err(Error::new(ErrorKind::Refused, "load in bulk", detail).into());
            }
            Ok(())
        })?;
        let writer = Writer { tree: self, first: PageId::new(meta.page_count), bytes: Vec::new() };
        let mut loader = Loader { writer, levels: Vec::new(), last_key: None, entries: 0 };
        let leaf = loader.new_level(0, Vec::new());
        loader.levels.push(leaf);
        for (key, value) in entries {
            check(key.as_ref(), value.as_ref())?;
            loader.push_entry(key.as_ref(), value.as_ref())?;
        }
        if loader.entries == 0 {
            return Ok((0, None));
        }
        let (root, depth) = loader.finish().map_err(|error| self.failure.judge(error))?;
        self.flusher.file.sync().map_err(|error| self.failure.judge(error))?;
        let page_count = loader.writer.next_page().get();
        let (changed, new) = self.retry(|_| {
            let mut edit = Edit { tree: self, meta: *meta, copies: BTreeMap::new(), record: Vec::new(), inline: true };
            edit.meta.root = root;
            edit.meta.depth = depth;
            edit.meta.page_count = page_count;
            edit.free(old_root)?;
            edit.commit(&meta, Some(Durability::Durable))
        })?;
        *meta = new;
        Ok((loader.entries, changed.ticket))
    }
}
