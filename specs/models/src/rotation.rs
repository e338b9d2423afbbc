//! Rotation: faults 24 to 27 of the catalogue.
//!
//! Two records go into the old segment and two into the new one, which is prepared meanwhile: filled, synced, renamed, its directory synced.
//! Any step may be the last before a crash; a preparation may fail once. What is acknowledged must be left, and what is left must be a prefix.

use crate::checker::Model;
use crate::names::Names;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// The directory is not synced after the new segment was named.
    DirectoryNotSynced,
    /// A flush syncs the new segment only.
    OldSegmentNotSynced,
    /// Recovery reads the new segment although the old one ends early.
    ReplayPastGap,
    /// The new segment is used before it is prepared, because the failure of the preparation is not looked at.
    FailureIgnored,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Rotation {
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

const RECORDS: usize = 4;
const OLD: u8 = 1;
const NEW: u8 = 2;

/// Where the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Not written.
    Missing,
    /// In the page cache.
    Dirty,
    /// On the disk.
    Durable,
}

/// How far the preparation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prepared {
    /// Not begun, or failed and to be begun again.
    No,
    /// Its blocks are written.
    Filled,
    /// They are durable.
    Synced,
    /// It has its name.
    Named,
    /// The name is durable.
    Ready,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    names: Names<u8, ()>,
    prepared: Prepared,
    failures: u8,
    pages: [Page; RECORDS],
    written: usize,
    durable: usize,
    /// Which records are left after the crash.
    crashed: Option<Vec<usize>>,
}

impl Rotation {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn prepare(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let mut next = state.clone();
        let label = match state.prepared {
            Prepared::No => "the new segment is filled",
            Prepared::Filled => "the new segment is synced",
            Prepared::Synced => "the new segment gets its name",
            Prepared::Named => "the directory is synced",
            Prepared::Ready => return,
        };
        next.prepared = match state.prepared {
            Prepared::No => Prepared::Filled,
            Prepared::Filled => Prepared::Synced,
            Prepared::Synced => {
                next.names.set(NEW, Some(()));
                if self.has(Bug::DirectoryNotSynced) { Prepared::Ready } else { Prepared::Named }
            }
            Prepared::Named | Prepared::Ready => {
                next.names.sync();
                Prepared::Ready
            }
        };
        steps.push((label.to_owned(), next));
        if state.failures < 1 && state.prepared < Prepared::Synced {
            let mut failed = state.clone();
            failed.failures += 1;
            failed.prepared = if self.has(Bug::FailureIgnored) { Prepared::Ready } else { Prepared::No };
            steps.push(("the preparation fails".to_owned(), failed));
        }
    }

    /// What recovery finds.
    fn recovered(&self, names: &Names<u8, ()>, pages: &[Page; RECORDS]) -> Vec<usize> {
        let present = |record: &usize| pages[*record] == Page::Durable;
        let mut left: Vec<usize> = (0..2).take_while(present).collect();
        let goes_on = left.len() == 2 || self.has(Bug::ReplayPastGap);
        if goes_on && names.get(&NEW).is_some() {
            left.extend((2..RECORDS).take_while(present));
        }
        left
    }
}

impl Model for Rotation {
    type State = State;

    fn start(&self) -> State {
        State {
            names: Names::new([(OLD, ())]),
            prepared: Prepared::No,
            failures: 0,
            pages: [Page::Missing; RECORDS],
            written: 0,
            durable: 0,
            crashed: None,
        }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        let mut steps = Vec::new();
        if state.crashed.is_some() {
            return steps;
        }
        self.prepare(state, &mut steps);
        if state.written < RECORDS && (state.written < 2 || state.prepared == Prepared::Ready) {
            let mut next = state.clone();
            next.pages[next.written] = Page::Dirty;
            next.written += 1;
            steps.push((format!("record {} is written", next.written), next));
        }
        if state.durable < state.written {
            let mut next = state.clone();
            let skipped = if self.has(Bug::OldSegmentNotSynced) && next.written > 2 { 2 } else { 0 };
            for page in next.pages[skipped..].iter_mut().filter(|page| **page == Page::Dirty) {
                *page = Page::Durable;
            }
            next.durable = next.written;
            steps.push((format!("what is written is synced, {} records are acknowledged", next.durable), next));
        }
        let dirty: Vec<usize> = (0..RECORDS).filter(|record| state.pages[*record] == Page::Dirty).collect();
        for names in state.names.after_crash() {
            for kept in 0..1_u32 << dirty.len() {
                let mut pages = state.pages;
                for (bit, record) in dirty.iter().enumerate() {
                    pages[*record] = if kept >> bit & 1 == 1 { Page::Durable } else { Page::Missing };
                }
                let left = self.recovered(&names, &pages);
                steps
                    .push((format!("a crash leaves records {left:?}"), State { crashed: Some(left), ..state.clone() }));
            }
        }
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        let left = state.crashed.as_ref()?;
        if *left != (0..left.len()).collect::<Vec<_>>() {
            return Some(format!("records {left:?} are no prefix"));
        }
        (left.len() < state.durable).then(|| format!("{} were acknowledged, {} are left", state.durable, left.len()))
    }

    fn may_rest(&self, state: &State) -> bool {
        state.crashed.is_some()
    }
}
