//! Ranges, forward and backward. A range reads a leaf at a time: it sees each leaf as it is at one moment, in key order, and knows nothing of
//! pages between two leaves. Whatever splits or merges meanwhile, no key that stays is left out or seen twice.

use std::collections::VecDeque;
use std::ops::Bound;

use wal::Result;

use super::{Stop, Tree};
use crate::page::PageId;
use crate::page::node::{self, Value};
use crate::pool::PageRead;

/// Values of one leaf are read up to this many bytes at once.
const CHUNK_BYTES_MAX: usize = 1 << 20;

/// A key with its value.
pub(crate) type Entry = (Vec<u8>, Vec<u8>);

/// A range whose two ends move towards each other.
#[derive(Debug)]
pub(crate) struct Cursor {
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    /// Entries read from the low end, and from the high end. What is in them is outside of the bounds.
    front: VecDeque<Entry>,
    back: VecDeque<Entry>,
    is_done: bool,
}

/// Some entries next to a bound, and the bound behind them; `None` if there are no further ones.
struct Chunk {
    entries: VecDeque<Entry>,
    rest: Option<Bound<Vec<u8>>>,
}

fn is_above(low: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match low {
        Bound::Unbounded => true,
        Bound::Included(low) => key >= low.as_slice(),
        Bound::Excluded(low) => key > low.as_slice(),
    }
}

fn is_below(high: &Bound<Vec<u8>>, key: &[u8]) -> bool {
    match high {
        Bound::Unbounded => true,
        Bound::Included(high) => key <= high.as_slice(),
        Bound::Excluded(high) => key < high.as_slice(),
    }
}

/// The first slot whose key is within the bound.
fn first_slot(bytes: &[u8], low: &Bound<Vec<u8>>) -> usize {
    match low {
        Bound::Unbounded => 0,
        Bound::Included(key) => node::search(bytes, key).unwrap_or_else(|slot| slot),
        Bound::Excluded(key) => node::search(bytes, key).map_or_else(|slot| slot, |slot| slot + 1),
    }
}

/// The slot behind the last whose key is within the bound.
fn end_slot(bytes: &[u8], high: &Bound<Vec<u8>>) -> usize {
    match high {
        Bound::Unbounded => node::count(bytes),
        Bound::Included(key) => node::search(bytes, key).map_or_else(|slot| slot, |slot| slot + 1),
        Bound::Excluded(key) => node::search(bytes, key).unwrap_or_else(|slot| slot),
    }
}

impl Cursor {
    pub(crate) fn new(low: Bound<Vec<u8>>, high: Bound<Vec<u8>>) -> Cursor {
        Cursor { low, high, front: VecDeque::new(), back: VecDeque::new(), is_done: false }
    }

    /// The next entry from the low end.
    pub(crate) fn next(&mut self, tree: &Tree) -> Result<Option<Entry>> {
        while self.front.is_empty() && !self.is_done {
            let chunk = tree.chunk_up(&self.low, &self.high)?;
            self.front = chunk.entries;
            match chunk.rest {
                Some(low) => self.low = low,
                None => self.is_done = true,
            }
        }
        // When nothing is left between the ends, the entries that the other end holds are next.
        Ok(self.front.pop_front().or_else(|| self.back.pop_front()))
    }

    /// The next entry from the high end.
    pub(crate) fn next_back(&mut self, tree: &Tree) -> Result<Option<Entry>> {
        while self.back.is_empty() && !self.is_done {
            let chunk = tree.chunk_down(&self.low, &self.high)?;
            self.back = chunk.entries;
            match chunk.rest {
                Some(high) => self.high = high,
                None => self.is_done = true,
            }
        }
        Ok(self.back.pop_back().or_else(|| self.front.pop_back()))
    }
}

/// A leaf, latched or copied.
enum Leaf<'a> {
    Latched(PageRead<'a>),
    Copied(Vec<u8>),
}

impl Leaf<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Leaf::Latched(page) => page.bytes(),
            Leaf::Copied(bytes) => bytes,
        }
    }
}

impl Tree {
    /// A leaf to read entries from. If missing pages are read `inline` it is a copy: reading a page may mean to wait for the flusher, which in turn
    /// waits for latches. The caller holds the tree's lock, so values in overflow pages stay where they are.
    fn leaf(&self, id: PageId, inline: bool) -> Result<Leaf<'_>, Stop> {
        let leaf = self.read(id, inline)?;
        self.check_leaf(id, leaf.bytes())?;
        Ok(if inline { Leaf::Copied(leaf.bytes().to_vec()) } else { Leaf::Latched(leaf) })
    }

    /// Entries from the low end of a range.
    fn chunk_up(&self, low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> Result<Chunk> {
        self.retry(|inline| {
            let meta = self.meta.read();
            // The smallest key that is right of the way taken: everything from there on is in other leaves.
            let mut fence: Option<Vec<u8>> = None;
            let id = self.descend(&meta, inline, |bytes| {
                let index = match low {
                    Bound::Unbounded => 0,
                    Bound::Included(key) | Bound::Excluded(key) => node::child_index(bytes, key),
                };
                if index < node::count(bytes) {
                    fence = Some(node::key(bytes, index).to_vec());
                }
                index
            })?;
            let leaf = self.leaf(id, inline)?;
            let bytes = leaf.bytes();
            let slots = first_slot(bytes, low)..end_slot(bytes, high);
            let (entries, is_whole) = self.entries(bytes, slots, inline)?;
            let rest = match (is_whole, fence) {
                (false, _) => entries.back().map(|(key, _)| Bound::Excluded(key.clone())),
                (true, Some(fence)) if is_below(high, &fence) => Some(Bound::Included(fence)),
                (true, _) => None,
            };
            Ok(Chunk { entries, rest })
        })
    }

    /// Entries from the high end of a range.
    fn chunk_down(&self, low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> Result<Chunk> {
        self.retry(|inline| {
            let meta = self.meta.read();
            // The largest key that is left of the way taken, or its start: everything below is in other leaves.
            let mut fence: Option<Vec<u8>> = None;
            let id = self.descend(&meta, inline, |bytes| {
                let index = match high {
                    Bound::Unbounded => node::count(bytes),
                    Bound::Included(key) => node::child_index(bytes, key),
                    // The keys below a separator are all to the left of it.
                    Bound::Excluded(key) => node::search(bytes, key).unwrap_or_else(|slot| slot),
                };
                if index > 0 {
                    fence = Some(node::key(bytes, index - 1).to_vec());
                }
                index
            })?;
            let leaf = self.leaf(id, inline)?;
            let bytes = leaf.bytes();
            let slots = (first_slot(bytes, low)..end_slot(bytes, high)).rev();
            let (mut entries, is_whole) = self.entries(bytes, slots, inline)?;
            entries.make_contiguous().reverse();
            let rest = match (is_whole, fence) {
                (false, _) => entries.front().map(|(key, _)| Bound::Excluded(key.clone())),
                // A separator is a lower bound of what is right of it, so it may itself be no key, or one that was just read.
                (true, Some(fence)) if is_above(low, &fence) => Some(Bound::Excluded(fence)),
                (true, _) => None,
            };
            Ok(Chunk { entries, rest })
        })
    }

    /// The entries of these slots, as many as come to about [`CHUNK_BYTES_MAX`], and whether that is all of them.
    fn entries(
        &self,
        bytes: &[u8],
        slots: impl Iterator<Item = usize>,
        inline: bool,
    ) -> Result<(VecDeque<Entry>, bool), Stop> {
        let mut entries = VecDeque::new();
        let mut taken = 0;
        for slot in slots {
            if taken >= CHUNK_BYTES_MAX {
                return Ok((entries, false));
            }
            let value = match node::value(bytes, slot) {
                Value::Inline(value) => value.to_vec(),
                Value::Overflow { len, first } => self.read_overflow(first, len, inline)?,
            };
            taken += value.len();
            entries.push_back((node::key(bytes, slot).to_vec(), value));
        }
        Ok((entries, true))
    }
}
