//! The tree from its root on, the free list, and what neither of them has.

use wal::{Lsn, Result};

use super::finding::{Finding, FindingKind, Findings};
use super::look::{Read, Source, damaged};
use super::pages::States;
use super::replay::Overlay;
use super::{Progress, TreeCounts};
use crate::page::node::{self, Value};
use crate::page::{self, Meta, PageId, PageKind};

/// More levels than a tree can have: each split of a root doubles the pages at least.
const DEPTH_MAX: u64 = 64;
/// Pages between two calls for progress.
const PROGRESS_PAGES: u64 = 256;

/// What follows the tree.
pub(super) struct Walk<'a> {
    pub(super) file: &'a Source,
    pub(super) overlay: &'a Overlay,
    pub(super) meta: Meta,
    pub(super) end: Option<Lsn>,
    pub(super) progress: &'a dyn Fn(Progress),
    pub(super) states: States,
    pub(super) findings: &'a mut Findings,
}

/// A walk that is under way.
struct Walker<'a> {
    walk: Walk<'a>,
    counts: TreeCounts,
    /// Pages that were looked at.
    looks: u64,
    /// A reference could not be followed, so what it led to looks lost.
    is_broken: bool,
}

/// The keys that a node is for: from one, to before another.
#[derive(Clone, Copy)]
struct Range<'k> {
    low: Option<&'k [u8]>,
    high: Option<&'k [u8]>,
}

impl Walk<'_> {
    /// Follows everything. Adds to `not_judged` what could not be.
    pub(super) fn run(self, not_judged: &mut Vec<String>) -> Result<TreeCounts> {
        let mut walker = Walker { walk: self, counts: TreeCounts::default(), looks: 0, is_broken: false };
        walker.meta_page();
        walker.tree()?;
        let pages_of_the_tree = walker.looks;
        walker.free_list()?;
        walker.counts.pages = pages_of_the_tree;
        if walker.is_broken {
            not_judged
                .push("lost pages: what lies behind a damaged page or a wrong reference looks lost too".to_owned());
        } else {
            walker.lost_pages();
        }
        Ok(walker.counts)
    }
}

impl Walker<'_> {
    fn find(&mut self, kind: FindingKind, page: PageId, expected: String, found: String) {
        let finding = Finding::page(kind, page, self.walk.file.page_bytes());
        self.walk.findings.push(finding.expects(expected).finds(found));
    }

    fn meta_page(&mut self) {
        match self.walk.states.get(PageId::META).map(|state| state.kind()) {
            Some(Some(PageKind::Meta)) => self.walk.states.refer(PageId::META),
            Some(Some(kind)) => {
                let found = format!("a {kind} page");
                self.find(FindingKind::WrongPage, PageId::META, "the meta page".to_owned(), found);
            }
            // It has a finding already.
            Some(None) | None => {}
        }
    }

    fn tree(&mut self) -> Result<()> {
        let Meta { root, depth, .. } = self.walk.meta;
        if depth == 0 || depth > DEPTH_MAX {
            let expected = format!("a tree of 1 to {DEPTH_MAX} levels");
            self.find(FindingKind::Meta, PageId::META, expected, format!("{depth} levels"));
            self.is_broken = true;
            return Ok(());
        }
        self.node(root, depth - 1, PageId::META, Range { low: None, high: None })
    }

    /// Takes a reference from page `from`. `None` if it cannot be followed.
    fn page(&mut self, id: PageId, from: PageId, what: &str) -> Result<Option<(PageKind, Vec<u8>)>> {
        let Some(state) = self.walk.states.get(id) else {
            let expected = format!("a reference to {what}, in a store of {} pages", self.walk.states.count());
            let found = if id == PageId::NONE { "none".to_owned() } else { format!("page {id}") };
            self.find(FindingKind::NoSuchPage, from, expected, found);
            self.is_broken = true;
            return Ok(None);
        };
        if state.is_referenced() {
            let expected = format!("a page that nothing else refers to, because page {from} has it as {what}");
            self.find(FindingKind::ReferencedTwice, id, expected, "a second reference to it".to_owned());
            self.is_broken = true;
            return Ok(None);
        }
        self.walk.states.refer(id);
        let mut bytes = vec![0; self.walk.file.page_bytes()];
        let kind = match (state.kind(), self.walk.overlay.get(id)) {
            (Some(kind), Some(replayed)) => {
                bytes.copy_from_slice(replayed);
                Some(kind)
            }
            (Some(_), None) => match self.walk.file.read(id, &mut bytes)? {
                Read::Page(kind) | Read::Spare(kind, _) => Some(kind),
                // It was valid a moment ago, so it is being written.
                Read::Damaged(damage) => {
                    self.walk.findings.push(damaged(id, &damage, bytes.len()));
                    None
                }
            },
            (None, _) => None,
        };
        let looks = self.walk.states.count() + self.looks;
        self.looks += 1;
        if looks.is_multiple_of(PROGRESS_PAGES) {
            (self.walk.progress)(self.walk.states.progress(looks));
        }
        let Some(kind) = kind else {
            self.is_broken = true;
            return Ok(None);
        };
        let lsn = page::lsn(&bytes);
        if self.walk.overlay.get(id).is_none()
            && let Some(end) = self.walk.end.filter(|end| lsn >= *end)
        {
            let expected = format!("a page LSN below {end}, where the log ends");
            self.find(FindingKind::NewerThanLog, id, expected, format!("page LSN {lsn}"));
        }
        Ok(Some((kind, bytes)))
    }

    fn node(&mut self, id: PageId, level: u64, parent: PageId, range: Range<'_>) -> Result<()> {
        let what = if level == 0 { "a leaf" } else { "a branch" };
        let Some((kind, bytes)) = self.page(id, parent, what)? else { return Ok(()) };
        let is_node = matches!(kind, PageKind::Leaf | PageKind::Branch);
        if !is_node || u64::from(node::level(&bytes)) != level {
            let found =
                if is_node { format!("a {kind} of level {}", node::level(&bytes)) } else { format!("a {kind} page") };
            let expected = format!("{what} of level {level}, as which page {parent} has it");
            self.find(FindingKind::WrongPage, id, expected, found);
            self.is_broken = true;
            return Ok(());
        }
        self.keys(id, &bytes, range);
        if level == 0 {
            return self.leaf(id, &bytes);
        }
        let count = node::count(&bytes);
        for index in 0..=count {
            let low = if index == 0 { range.low } else { Some(node::key(&bytes, index - 1)) };
            let high = if index == count { range.high } else { Some(node::key(&bytes, index)) };
            self.node(node::child(&bytes, index), level - 1, id, Range { low, high })?;
        }
        Ok(())
    }

    /// Checks the order of a node's keys, and that they are the node's to have. The first that is wrong is told.
    fn keys(&mut self, id: PageId, bytes: &[u8], range: Range<'_>) {
        let count = node::count(bytes);
        let out_of_order = (1..count).find(|slot| node::key(bytes, slot - 1) >= node::key(bytes, *slot));
        if let Some(slot) = out_of_order {
            let expected = format!("in slot {slot} a key above {}", show(node::key(bytes, slot - 1)));
            self.find(FindingKind::KeyOrder, id, expected, show(node::key(bytes, slot)));
        }
        // A separator equal to the one above would leave its left child without any key.
        let is_leaf = node::level(bytes) == 0;
        let is_low = |key: &[u8]| range.low.is_some_and(|low| if is_leaf { key < low } else { key <= low });
        let is_high = |key: &[u8]| range.high.is_some_and(|high| key >= high);
        let stray = (0..count).find(|slot| is_low(node::key(bytes, *slot)) || is_high(node::key(bytes, *slot)));
        if let Some(slot) = stray {
            let bound = |bound: Option<&[u8]>, open: &str| bound.map_or(open.to_owned(), show);
            let expected = format!(
                "in slot {slot} a key from {} to before {}",
                bound(range.low, "the first"),
                bound(range.high, "the end")
            );
            self.find(FindingKind::KeyRange, id, expected, show(node::key(bytes, slot)));
        }
    }

    fn leaf(&mut self, id: PageId, bytes: &[u8]) -> Result<()> {
        for slot in 0..node::count(bytes) {
            let key = node::key(bytes, slot);
            self.counts.entries += 1;
            self.counts.key_bytes += key.len() as u64;
            match node::value(bytes, slot) {
                Value::Inline(value) => self.counts.value_bytes += value.len() as u64,
                Value::Overflow { len, first } => {
                    self.counts.overflow_values += 1;
                    self.counts.value_bytes += len as u64;
                    self.value(id, key, len as u64, first)?;
                }
            }
        }
        Ok(())
    }

    /// Follows a value through its pages. A page is followed once, so a circle ends.
    fn value(&mut self, leaf: PageId, key: &[u8], len: u64, first: PageId) -> Result<()> {
        let (mut id, mut from, mut sum) = (first, leaf, 0);
        while id != PageId::NONE || from == leaf {
            let Some((kind, bytes)) = self.page(id, from, "a part of a value")? else { return Ok(()) };
            if kind != PageKind::Overflow {
                let expected = format!("a part of a value, as which page {from} has it");
                self.find(FindingKind::WrongPage, id, expected, format!("a {kind} page"));
                self.is_broken = true;
                return Ok(());
            }
            let part = page::overflow_data(&bytes).len() as u64;
            if part == 0 {
                let expected = format!("a part of the value of key {}", show(key));
                self.find(FindingKind::ValueLength, id, expected, "none of its bytes".to_owned());
            }
            sum += part;
            (id, from) = (page::next(&bytes), id);
        }
        if sum != len {
            let expected = format!("{len} bytes in the overflow pages of the value of key {}", show(key));
            self.find(FindingKind::ValueLength, leaf, expected, format!("{sum} bytes from page {first} on"));
        }
        Ok(())
    }

    fn free_list(&mut self) -> Result<()> {
        let Meta { free_head, free_count, .. } = self.walk.meta;
        let (mut id, mut from, mut count) = (free_head, PageId::META, 0);
        while id != PageId::NONE {
            let Some((kind, bytes)) = self.page(id, from, "a link of the free list")? else { return Ok(()) };
            if kind != PageKind::Free {
                let expected = format!("a free page, as which page {from} has it");
                self.find(FindingKind::WrongPage, id, expected, format!("a {kind} page"));
                self.is_broken = true;
                return Ok(());
            }
            count += 1;
            (id, from) = (page::next(&bytes), id);
        }
        if count != free_count {
            let expected = format!("{free_count} pages on the free list");
            self.find(FindingKind::FreeCount, PageId::META, expected, format!("{count}"));
        }
        Ok(())
    }

    fn lost_pages(&mut self) {
        let lost: Vec<(PageId, PageKind)> = self.walk.states.unreferenced().collect();
        for (id, kind) in lost {
            let expected = "a reference to it in the tree or on the free list".to_owned();
            self.find(FindingKind::LostPage, id, expected, format!("none; it is a {kind} page"));
        }
    }
}

/// A key for people, shortened.
fn show(key: &[u8]) -> String {
    const SHOWN: usize = 40;
    let dots = if key.len() > SHOWN { "..." } else { "" };
    format!("\"{}{dots}\"", key[..key.len().min(SHOWN)].escape_ascii())
}
