//! The segments of an open log: which one holds an LSN, and who is reading it.

use std::collections::HashMap;
use std::sync::Arc;

use crate::lsn::Lsn;
use crate::sync::RwLock;
use crate::sync::atomic::{AtomicU64, Ordering};

/// A segment of the chain. Its end is the end of its last frame, known once it is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) number: u64,
    pub(crate) base: Lsn,
    pub(crate) end: Option<Lsn>,
}

/// Where an LSN lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Location {
    /// In this segment, or at the end of the active one.
    In(Link),
    /// At or behind the end of a segment whose successor starts further on, because a cut left a gap between them.
    Gap { end: Lsn, next: Lsn },
    /// Before the start of the log.
    Truncated,
}

#[derive(Debug)]
struct Inner {
    links: Vec<Link>,
    pins: HashMap<u64, usize>,
}

/// The chain of segments of an open log, oldest first; never empty. Shared by the leader (which adds), truncation (which removes)
/// and readers.
#[derive(Debug)]
pub(crate) struct Chain {
    inner: RwLock<Inner>,
    /// How often the end was cut; beside the lock, because readers look at it for every record.
    cuts: AtomicU64,
    /// The start of the log; beside the lock for the same reason, and changed only under it.
    start: AtomicU64,
}

/// What [`Chain::pin`] did for a segment. Dropping it unpins the segment.
#[derive(Debug)]
pub(crate) struct Pin {
    chain: Arc<Chain>,
    number: u64,
}

impl Pin {
    /// The pin of segment `number`, which has just been pinned.
    pub(crate) fn of(chain: &Arc<Chain>, number: u64) -> Pin {
        Pin { chain: Arc::clone(chain), number }
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        self.chain.unpin(self.number);
    }
}

impl Chain {
    pub(crate) fn new(start: Lsn, links: Vec<Link>) -> Chain {
        assert!(!links.is_empty(), "a log has at least its active segment");
        Chain {
            inner: RwLock::new(Inner { links, pins: HashMap::new() }),
            cuts: AtomicU64::new(0),
            start: AtomicU64::new(start.get()),
        }
    }

    /// The active segment was sealed at `end` and this one follows, from `base` on.
    pub(crate) fn push(&self, number: u64, end: Lsn, base: Lsn) {
        let mut inner = self.inner.write();
        let last = inner.links.last_mut().expect("never empty");
        assert!(last.number + 1 == number && end <= base, "segment {number} does not follow {last:?}");
        last.end = Some(end);
        inner.links.push(Link { number, base, end: None });
    }

    pub(crate) fn start(&self) -> Lsn {
        Lsn::new(self.start.load(Ordering::Acquire))
    }

    pub(crate) fn links(&self) -> Vec<Link> {
        self.inner.read().links.clone()
    }

    pub(crate) fn len(&self) -> u64 {
        self.inner.read().links.len() as u64
    }

    /// How often the end of the log was cut. A reader that sees the number change must look again where it stands.
    pub(crate) fn cuts(&self) -> u64 {
        self.cuts.load(Ordering::Acquire)
    }

    pub(crate) fn locate(&self, lsn: Lsn) -> Location {
        self.inner.read().locate(lsn, self.start())
    }

    /// Segment `number`, if it is still part of the chain.
    pub(crate) fn find(&self, number: u64) -> Option<Link> {
        let inner = self.inner.read();
        let index = inner.links.binary_search_by_key(&number, |link| link.number).ok()?;
        Some(inner.links[index])
    }

    /// As [`Chain::locate`]; a segment that is found is pinned, so that its blocks are not used again before its [`Pin`] is
    /// dropped.
    pub(crate) fn pin(&self, lsn: Lsn) -> (Location, u64) {
        let mut inner = self.inner.write();
        let location = inner.locate(lsn, self.start());
        if let Location::In(link) = location {
            *inner.pins.entry(link.number).or_default() += 1;
        }
        (location, self.cuts())
    }

    fn unpin(&self, number: u64) {
        let mut inner = self.inner.write();
        let count = inner.pins.get_mut(&number).expect("only pinned segments are unpinned");
        *count -= 1;
        if *count == 0 {
            inner.pins.remove(&number);
        }
    }

    pub(crate) fn is_pinned(&self, number: u64) -> bool {
        self.inner.read().pins.contains_key(&number)
    }

    /// Moves the start of the log and drops the segments before `segment`. Returns the dropped ones, oldest first.
    pub(crate) fn drop_before(&self, segment: u64, start: Lsn) -> Vec<Link> {
        let mut inner = self.inner.write();
        let kept = inner.links.iter().position(|link| link.number >= segment).expect("the active segment stays");
        self.start.fetch_max(start.get(), Ordering::Release);
        inner.links.drain(..kept).collect()
    }

    /// The boundary segment was rewritten and starts at `base` now.
    pub(crate) fn rebase(&self, number: u64, base: Lsn) {
        let mut inner = self.inner.write();
        let link = inner.links.iter_mut().find(|link| link.number == number).expect("it was just rewritten");
        link.base = base;
    }

    /// Everything at or behind `end` was cut: `kept` is the last segment that stays, `next` the new active one.
    pub(crate) fn cut(&self, kept: u64, end: Lsn, next: Link) {
        let mut inner = self.inner.write();
        inner.links.retain(|link| link.number <= kept);
        inner.links.last_mut().expect("the kept one").end = Some(end);
        inner.links.push(next);
        self.cuts.fetch_add(1, Ordering::Release);
    }
}

impl Inner {
    fn locate(&self, lsn: Lsn, start: Lsn) -> Location {
        if lsn < start {
            return Location::Truncated;
        }
        let after = self.links.partition_point(|link| link.base <= lsn);
        let Some(index) = after.checked_sub(1) else {
            // The log was empty when it was cut: it goes on behind the gap.
            return Location::Gap { end: lsn, next: self.links[0].base };
        };
        let link = self.links[index];
        match (link.end, self.links.get(index + 1)) {
            (Some(end), Some(next)) if lsn >= end => Location::Gap { end, next: next.base },
            _ => Location::In(link),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        let chain = Chain::new(Lsn::new(100), vec![Link { number: 1, base: Lsn::new(96), end: None }]);
        chain.push(2, Lsn::new(200), Lsn::new(200));
        chain.push(3, Lsn::new(300), Lsn::new(400));
        chain
    }

    #[test]
    fn an_lsn_is_in_the_segment_whose_range_holds_it() {
        let number = |lsn| match chain().locate(Lsn::new(lsn)) {
            Location::In(link) => link.number,
            other => panic!("{other:?}"),
        };
        assert_eq!([number(100), number(199), number(200), number(299), number(400), number(5000)], [1, 1, 2, 2, 3, 3]);
    }

    #[test]
    fn gaps_and_truncated_lsns_are_told_apart() {
        assert_eq!(chain().locate(Lsn::new(300)), Location::Gap { end: Lsn::new(300), next: Lsn::new(400) });
        assert_eq!(chain().locate(Lsn::new(99)), Location::Truncated);
    }

    #[test]
    fn a_cut_removes_what_is_behind_it() {
        let chain = chain();
        chain.cut(2, Lsn::new(250), Link { number: 3, base: Lsn::new(900), end: None });
        assert_eq!(chain.locate(Lsn::new(260)), Location::Gap { end: Lsn::new(250), next: Lsn::new(900) });
        assert_eq!(chain.cuts(), 1);
    }
}
