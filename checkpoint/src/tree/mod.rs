//! The B+tree: descent, lookups, and changes of one leaf. What changes the structure is in [`edit`].
//!
//! The tree has one lock, and each page has a latch. Who looks up a key or changes one leaf holds the lock shared: branches do not change then,
//! so a descent needs no more than the latch of one page at a time. Splits, merges, overflow pages and batches hold the lock exclusively; they take
//! place in memory, in private copies, and wait for no disk. A page that is not in the pool is read with the lock given up, and then the
//! operation starts again.
//!
//! A change is logged and made under the latch of its page. Nobody waits for the log there: a ticket is returned.

pub(crate) mod bulk;
pub(crate) mod cursor;
pub(crate) mod edit;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::RwLock;
use wal::{AppendOptions, Durability, Error, ErrorKind, Lsn, Result, Ticket, Wal};

use crate::change::{self, CHANGES, Change};
use crate::failure::Failure;
use crate::file::ReadError;
use crate::flush::Flusher;
use crate::page::node::{self, Value};
use crate::page::{self, Meta, PageId, PageKind};
use crate::pool::{EmptyFrame, PageRead, PageWrite, Pool};

/// How often an operation starts again because a page was missing before it reads pages without giving up the lock.
const RESTARTS_MAX: u32 = 16;

/// The tree of a store.
#[derive(Debug)]
pub(crate) struct Tree {
    pub(crate) pool: Arc<Pool>,
    pub(crate) flusher: Arc<Flusher>,
    pub(crate) log: Wal,
    pub(crate) failure: Arc<Failure>,
    /// What the meta page says. Shared: the structure stays. Exclusive: it changes.
    meta: RwLock<Meta>,
    /// How many pages the file has room for, without the spare ones.
    room: AtomicU64,
}

/// Why an operation could not go on where it was.
#[derive(Debug)]
pub(crate) enum Stop {
    /// A page is not in the pool.
    Miss(PageId),
    /// The page file has no room for this many pages.
    Grow(u64),
    /// It failed.
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Stop {
        Stop::Failed(error)
    }
}

/// Whether a put minds if the key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutMode {
    /// The key gets the value in any case.
    Upsert,
    /// Only if the key is not there.
    Insert,
    /// Only if the key is there.
    Update,
}

/// A change of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op<'a> {
    Put { key: &'a [u8], value: &'a [u8], mode: PutMode },
    Delete { key: &'a [u8] },
}

impl<'a> Op<'a> {
    pub(crate) fn key(&self) -> &'a [u8] {
        match self {
            Op::Put { key, .. } | Op::Delete { key } => key,
        }
    }
}

/// What became of a change.
#[derive(Debug)]
pub(crate) struct Changed {
    /// For the acknowledgement; `None` if nothing was changed.
    pub(crate) ticket: Option<Ticket>,
}

/// What can be done with the lock shared.
enum Simple {
    Done(Changed),
    NeedsStructure,
}

/// Below this many bytes in use, a node is merged with a neighbour if both fit one page.
fn used_min(page_bytes: usize) -> usize {
    node::room(page_bytes) / 4
}

impl Tree {
    pub(crate) fn new(
        pool: Arc<Pool>,
        flusher: Arc<Flusher>,
        log: Wal,
        failure: Arc<Failure>,
        meta: Meta,
    ) -> Result<Tree> {
        let room = flusher.grow(meta.page_count)?;
        Ok(Tree { pool, flusher, log, failure, meta: RwLock::new(meta), room: AtomicU64::new(room) })
    }

    pub(crate) fn meta(&self) -> Meta {
        *self.meta.read()
    }

    pub(crate) fn page_bytes(&self) -> usize {
        self.pool.page_bytes()
    }

    /// Runs `attempt` until nothing is missing. It gets whether it should rather read pages itself.
    pub(crate) fn retry<T>(&self, mut attempt: impl FnMut(bool) -> Result<T, Stop>) -> Result<T> {
        let mut restarts = 0;
        loop {
            match attempt(restarts >= RESTARTS_MAX) {
                Ok(done) => return Ok(done),
                Err(Stop::Miss(id)) => self.load(id)?,
                Err(Stop::Grow(pages)) => {
                    let room = self.flusher.grow(pages)?;
                    self.room.fetch_max(room, Ordering::Relaxed);
                }
                Err(Stop::Failed(error)) => return Err(error),
            }
            restarts += 1;
        }
    }

    /// Brings a page into the pool.
    pub(crate) fn load(&self, id: PageId) -> Result<()> {
        let empty = self.take_frame()?;
        self.pool.load(id, empty, &self.flusher.file).map_err(|error| match error {
            ReadError::Failed(error) => error,
            ReadError::Damaged(damage) => self.flusher.file.damaged(id, damage),
        })
    }

    /// An empty frame, after making pages clean if none is.
    fn take_frame(&self) -> Result<EmptyFrame<'_>> {
        loop {
            self.failure.check()?;
            if let Some(empty) = self.pool.take_frame() {
                return Ok(empty);
            }
            if self.flusher.clean_some()? == 0 {
                // All pages are latched for a moment.
                std::thread::yield_now();
            }
        }
    }

    /// Latches a page for reading. If it is missing, reads it when `inline`, else stops.
    fn read(&self, id: PageId, inline: bool) -> Result<PageRead<'_>, Stop> {
        loop {
            match self.pool.read(id) {
                Some(page) => return Ok(page),
                None if inline => self.load(id)?,
                None => return Err(Stop::Miss(id)),
            }
        }
    }

    fn write(&self, id: PageId, inline: bool) -> Result<PageWrite<'_>, Stop> {
        loop {
            match self.pool.write(id) {
                Some(page) => return Ok(page),
                None if inline => self.load(id)?,
                None => return Err(Stop::Miss(id)),
            }
        }
    }

    /// A page that does not belong where the tree leads to: its checksum is right, so a lost or misplaced write is behind it.
    pub(crate) fn misplaced(&self, id: PageId, expected: &str) -> Error {
        let found = self.pool.read(id).and_then(|page| page::kind(page.bytes()));
        let found = found.map_or_else(|| "something else".to_owned(), |kind| format!("a {kind} page"));
        Error::new(ErrorKind::Corruption, "read tree", format!("page {id} should be {expected} and is {found}"))
    }

    /// The leaf that `index` leads to: it is asked in each branch for the child to go to.
    fn descend(&self, meta: &Meta, inline: bool, mut index: impl FnMut(&[u8]) -> usize) -> Result<PageId, Stop> {
        let mut id = meta.root;
        for level in (1..meta.depth).rev() {
            let page = self.read(id, inline)?;
            let bytes = page.bytes();
            if page::kind(bytes) != Some(PageKind::Branch) || u64::from(node::level(bytes)) != level {
                drop(page);
                return Err(self.misplaced(id, "a branch of the tree").into());
            }
            id = node::child(bytes, index(bytes));
        }
        Ok(id)
    }

    fn check_leaf(&self, id: PageId, bytes: &[u8]) -> Result<(), Error> {
        if page::kind(bytes) == Some(PageKind::Leaf) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Corruption,
            "read tree",
            format!("page {id} should be a leaf of the tree and is not"),
        ))
    }

    /// The value of a key, handed to `take`.
    pub(crate) fn get<T>(&self, key: &[u8], mut take: impl FnMut(&[u8]) -> T) -> Result<Option<T>> {
        self.retry(|inline| {
            let meta = self.meta.read();
            let id = self.descend(&meta, inline, |bytes| node::child_index(bytes, key))?;
            let leaf = self.read(id, inline)?;
            self.check_leaf(id, leaf.bytes())?;
            let Ok(slot) = node::search(leaf.bytes(), key) else { return Ok(None) };
            match node::value(leaf.bytes(), slot) {
                Value::Inline(value) => Ok(Some(take(value))),
                Value::Overflow { len, first } => {
                    drop(leaf);
                    self.read_overflow(first, len, inline).map(|value| Some(take(&value)))
                }
            }
        })
    }

    /// Reads a value from its chain of pages. The caller holds the tree's lock, so the chain stays.
    fn read_overflow(&self, first: PageId, len: usize, inline: bool) -> Result<Vec<u8>, Stop> {
        let mut value = Vec::with_capacity(len);
        let mut id = first;
        while value.len() < len && id != PageId::NONE {
            let page = self.read(id, inline)?;
            let is_part = page::kind(page.bytes()) == Some(PageKind::Overflow);
            if !is_part || page::overflow_data(page.bytes()).is_empty() {
                drop(page);
                return Err(self.misplaced(id, "a part of a value").into());
            }
            value.extend_from_slice(page::overflow_data(page.bytes()));
            id = page::next(page.bytes());
        }
        if value.len() != len || id != PageId::NONE {
            return Err(self.misplaced(first, "the start of a value of another length").into());
        }
        Ok(value)
    }

    /// Changes one key. Returns when the change is in memory and submitted to the log.
    pub(crate) fn change(&self, op: Op<'_>, durability: Option<Durability>) -> Result<Changed> {
        self.failure.check()?;
        let simple = self.retry(|inline| {
            let meta = self.meta.read();
            let id = self.descend(&meta, inline, |bytes| node::child_index(bytes, op.key()))?;
            let leaf = self.write(id, inline)?;
            self.check_leaf(id, leaf.bytes())?;
            self.change_leaf(id, leaf, op, meta.depth == 1, durability).map_err(Stop::Failed)
        })?;
        match simple {
            Simple::Done(changed) => Ok(changed),
            Simple::NeedsStructure => self.change_structure(&[op], durability),
        }
    }

    /// Changes a key in its leaf, if that is all there is to do.
    fn change_leaf(
        &self,
        id: PageId,
        mut leaf: PageWrite<'_>,
        op: Op<'_>,
        is_root: bool,
        durability: Option<Durability>,
    ) -> Result<Simple> {
        let bytes = leaf.bytes();
        let found = node::search(bytes, op.key());
        let unchanged = Ok(Simple::Done(Changed { ticket: None }));
        let mut cell = Vec::new();
        let change = match (op, found) {
            (Op::Put { mode: PutMode::Insert, .. }, Ok(_))
            | (Op::Put { mode: PutMode::Update, .. } | Op::Delete { .. }, Err(_)) => return unchanged,
            (_, Ok(slot)) if matches!(node::value(bytes, slot), Value::Overflow { .. }) => {
                return Ok(Simple::NeedsStructure);
            }
            (Op::Delete { .. }, Ok(slot)) => {
                let left = node::used(bytes) - node::cell(bytes, slot).len();
                if !is_root && left < used_min(bytes.len()) {
                    return Ok(Simple::NeedsStructure);
                }
                Change::Remove { slot }
            }
            (Op::Put { key, value, .. }, found) => {
                if !node::is_inline(bytes.len(), key.len(), value.len()) {
                    return Ok(Simple::NeedsStructure);
                }
                cell.reserve(key.len() + value.len() + 8);
                node::push_leaf_cell(&mut cell, key, Value::Inline(value));
                let (fits, change) = match found {
                    Ok(slot) => (
                        node::fits_instead(bytes, node::cell(bytes, slot).len(), cell.len()),
                        Change::Replace { slot, cell: &cell },
                    ),
                    Err(slot) => (node::fits(bytes, 1, cell.len()), Change::Insert { slot, cell: &cell }),
                };
                if !fits {
                    return Ok(Simple::NeedsStructure);
                }
                change
            }
        };
        let mut record = Vec::with_capacity(cell.len() + 24);
        change::encode(&mut record, id, page::lsn(bytes), &change);
        let ticket = self.submit(&record, durability)?;
        change::apply(leaf.bytes_mut(), id, &change).expect("it was checked that the change fits");
        leaf.changed(ticket.lsn(), false);
        Ok(Simple::Done(Changed { ticket: Some(ticket) }))
    }

    /// Hands a change record to the log. The pages it changes are latched for writing, so records of a page stand in the log in the order in
    /// which they changed it.
    fn submit(&self, record: &[u8], durability: Option<Durability>) -> Result<Ticket> {
        let mut options = AppendOptions::new().record_type(CHANGES);
        if let Some(durability) = durability {
            options = options.durability(durability);
        }
        self.log.submit_with(record, options).map_err(|error| self.failure.judge(error))
    }
}

/// The shortest key that is above `left` and not above `right`, where `left` is below `right`.
pub(crate) fn separator(left: &[u8], right: &[u8]) -> Vec<u8> {
    debug_assert!(left < right, "keys of neighbours are in order");
    let common = left.iter().zip(right).take_while(|(left, right)| left == right).count();
    right[..(common + 1).min(right.len())].to_vec()
}

/// The LSN that a page has before the first record that changes it.
pub(crate) const NEVER_LOGGED: Lsn = Lsn::ZERO;
