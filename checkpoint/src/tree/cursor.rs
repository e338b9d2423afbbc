//! Ranges, forward and backward. A range reads a leaf at a time: it sees each leaf as it is at one moment, in key order, and knows nothing of
//! pages between two leaves. Whatever splits or merges meanwhile, no key that stays is left out or seen twice.

use std::ops::{Bound, Range};

use wal::Result;

use super::{Stop, Tree};
use crate::page::PageId;
use crate::page::node::{self, Value};

/// Values in overflow pages are read up to this many bytes at once.
const LONG_BYTES_MAX: usize = 1 << 20;

/// A key with its value, lent by the range that it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    key: &'a [u8],
    value: &'a [u8],
}

impl<'a> Entry<'a> {
    /// The key.
    pub fn key(&self) -> &'a [u8] {
        self.key
    }

    /// The value.
    pub fn value(&self) -> &'a [u8] {
        self.value
    }
}

/// A range whose two ends move towards each other.
#[derive(Debug)]
pub(crate) struct Cursor {
    low: Bound<Vec<u8>>,
    high: Bound<Vec<u8>>,
    /// Entries read from the low end, and from the high end. What is in them is outside of the bounds.
    front: Part,
    back: Part,
    is_done: bool,
}

/// Entries of one leaf: a copy of it, and which of its slots are left.
#[derive(Debug, Default)]
struct Part {
    leaf: Vec<u8>,
    slots: Range<usize>,
    /// Values that are in overflow pages, with their slots in ascending order. They are read with the leaf, because they stay where they are
    /// only while the tree is locked.
    long: Vec<(usize, Vec<u8>)>,
}

impl Part {
    fn entry(&self, slot: usize) -> Entry<'_> {
        let value = match node::value(&self.leaf, slot) {
            Value::Inline(value) => value,
            Value::Overflow { .. } => {
                let place = self.long.binary_search_by_key(&slot, |(slot, _)| *slot);
                &self.long[place.expect("long values are read with their leaf")].1
            }
        };
        Entry { key: node::key(&self.leaf, slot), value }
    }
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
        Cursor { low, high, front: Part::default(), back: Part::default(), is_done: false }
    }

    /// The next entry from the low end.
    pub(crate) fn next(&mut self, tree: &Tree) -> Result<Option<Entry<'_>>> {
        while self.front.slots.is_empty() && !self.is_done {
            match tree.read_up(&self.low, &self.high, &mut self.front)? {
                Some(low) => self.low = low,
                None => self.is_done = true,
            }
        }
        // When nothing is left between the ends, the entries that the other end holds are next.
        let part = if self.front.slots.is_empty() { &mut self.back } else { &mut self.front };
        Ok(part.slots.next().map(|slot| part.entry(slot)))
    }

    /// The next entry from the high end.
    pub(crate) fn next_back(&mut self, tree: &Tree) -> Result<Option<Entry<'_>>> {
        while self.back.slots.is_empty() && !self.is_done {
            match tree.read_down(&self.low, &self.high, &mut self.back)? {
                Some(high) => self.high = high,
                None => self.is_done = true,
            }
        }
        let part = if self.back.slots.is_empty() { &mut self.front } else { &mut self.back };
        Ok(part.slots.next_back().map(|slot| part.entry(slot)))
    }
}

impl Tree {
    /// Reads entries from the low end of a range. Returns the bound behind them; `None` if there are no further ones.
    fn read_up(&self, low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>, part: &mut Part) -> Result<Option<Bound<Vec<u8>>>> {
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
            self.copy_leaf(id, inline, part)?;
            let slots = first_slot(&part.leaf, low)..end_slot(&part.leaf, high);
            let end = self.read_long(part, slots.clone(), inline)?.map_or(slots.end, |last| last + 1);
            part.slots = slots.start..end;
            Ok(match fence {
                _ if end < slots.end => Some(Bound::Excluded(node::key(&part.leaf, end - 1).to_vec())),
                Some(fence) if is_below(high, &fence) => Some(Bound::Included(fence)),
                _ => None,
            })
        })
    }

    /// Reads entries from the high end of a range. Returns the bound in front of them; `None` if there are no further ones.
    fn read_down(
        &self,
        low: &Bound<Vec<u8>>,
        high: &Bound<Vec<u8>>,
        part: &mut Part,
    ) -> Result<Option<Bound<Vec<u8>>>> {
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
            self.copy_leaf(id, inline, part)?;
            let slots = first_slot(&part.leaf, low)..end_slot(&part.leaf, high);
            let start = self.read_long(part, slots.clone().rev(), inline)?.unwrap_or(slots.start);
            part.long.reverse();
            part.slots = start..slots.end;
            Ok(match fence {
                _ if start > slots.start => Some(Bound::Excluded(node::key(&part.leaf, start).to_vec())),
                // A separator is a lower bound of what is right of it, so it may itself be no key, or one that was just read.
                Some(fence) if is_above(low, &fence) => Some(Bound::Excluded(fence)),
                _ => None,
            })
        })
    }

    /// Copies a leaf, so that its entries can be lent without its latch.
    fn copy_leaf(&self, id: PageId, inline: bool, part: &mut Part) -> Result<(), Stop> {
        let leaf = self.read(id, inline)?;
        self.check_leaf(id, leaf.bytes())?;
        part.slots = 0..0;
        part.leaf.clear();
        part.leaf.extend_from_slice(leaf.bytes());
        Ok(())
    }

    /// Reads the long values of these slots. The caller holds the tree's lock, so they stay where they are. If they come to more than is read at
    /// once, returns the slot that was read last.
    fn read_long(
        &self,
        part: &mut Part,
        slots: impl Iterator<Item = usize>,
        inline: bool,
    ) -> Result<Option<usize>, Stop> {
        part.long.clear();
        let mut taken = 0;
        for slot in slots {
            if let Value::Overflow { len, first } = node::value(&part.leaf, slot) {
                part.long.push((slot, self.read_overflow(first, len, inline)?));
                taken += len;
            }
            if taken >= LONG_BYTES_MAX {
                return Ok(Some(slot));
            }
        }
        Ok(None)
    }
}
