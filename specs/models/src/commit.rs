//! Group commit with poisoning: faults 11, 13, 17 and 18 of the catalogue.
//!
//! Each of some threads appends one record; one of them asks for a flush as well. Whoever finds nobody leading leads: takes what is queued,
//! writes it, syncs it, moves the marks, wakes everybody. One sync or write may fail, one leader may die, and the machine may crash at any
//! moment. Then every record that was acknowledged must be part of the prefix that is left.

use crate::checker::Model;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// A failed sync is tried again, and the second one says that all is well.
    SyncTriedAgain,
    /// The durable mark moves although the sync failed.
    WaitersToldOk,
    /// After a failure nobody is woken.
    WaitersNotWoken,
    /// The leader acknowledges what is written and not synced yet.
    AcknowledgedBeforeSync,
    /// A record counts as acknowledged one before the mark reaches it.
    OffByOne,
    /// The death of a leader is not noticed.
    DeathUnnoticed,
    /// A leader that is done wakes nobody who could lead.
    NoHandOver,
    /// A flush starts a sync of its own while one is in flight, and only one of the two gets the error.
    TwoSyncs,
    /// What is written while a sync is in flight counts as covered by it.
    CoveredReadAfterSync,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Commit {
    /// The threads that append; the first one also flushes.
    pub threads: usize,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// Where a thread is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Thread {
    /// It has not appended yet.
    New,
    /// It waits for the record with this number; `true` if it was woken and has not looked yet.
    Waits(u8, bool),
    /// It leads.
    Leads(u8),
    /// Its record was acknowledged.
    Acknowledged(u8),
    /// It was told that its record failed.
    Failed,
    /// It panicked.
    Dead,
}

/// What the leader is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Nobody leads.
    Idle,
    /// It is about to take what is queued.
    Taking,
    /// It has taken everything up to this record.
    Writing(u8),
    /// What it took is written.
    Written,
    /// A sync of everything up to this record is in flight.
    Syncing(u8),
}

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// Nowhere.
    Missing,
    /// In the page cache; a crash may lose it.
    Dirty,
    /// In the page cache only, and the system believes that it is on the disk.
    Dropped,
    /// On the disk.
    Durable,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    threads: Vec<Thread>,
    phase: Phase,
    /// Records handed out, taken, written, durable: each a count.
    handed: u8,
    taken: u8,
    written: u8,
    durable: u8,
    pages: Vec<Page>,
    poisoned: bool,
    /// A second sync, of a flush, in flight: only in the bug.
    second: Option<u8>,
    failures: u8,
    deaths: u8,
    /// How many records are left after the crash.
    crashed: Option<u8>,
}

impl Commit {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn wake(&self, state: &mut State) {
        for thread in &mut state.threads {
            if let Thread::Waits(_, woken) = thread {
                *woken = true;
            }
        }
    }

    fn fail(&self, state: &mut State) {
        state.poisoned = true;
        state.phase = Phase::Idle;
        if !self.has(Bug::WaitersNotWoken) {
            self.wake(state);
        }
    }

    /// What a thread that waits for this record is told now.
    fn outcome(&self, state: &State, record: u8) -> Option<Thread> {
        let mark = if self.has(Bug::AcknowledgedBeforeSync) { state.written } else { state.durable };
        let mark = if self.has(Bug::OffByOne) && state.durable > 0 { state.durable + 1 } else { mark };
        if mark >= record {
            return Some(Thread::Acknowledged(record));
        }
        state.poisoned.then_some(Thread::Failed)
    }

    fn thread_steps(&self, state: &State, steps: &mut Vec<(String, State)>) {
        for (index, thread) in state.threads.iter().enumerate() {
            let mut next = state.clone();
            match *thread {
                Thread::New if state.poisoned => {
                    next.threads[index] = Thread::Failed;
                    steps.push((format!("thread {index} appends and is told of the poison"), next));
                }
                Thread::New => {
                    next.handed += 1;
                    let leads = state.phase == Phase::Idle;
                    next.threads[index] =
                        if leads { Thread::Leads(next.handed) } else { Thread::Waits(next.handed, false) };
                    if leads {
                        next.phase = Phase::Taking;
                    }
                    let role = if leads { "leads" } else { "waits" };
                    steps.push((format!("thread {index} appends record {} and {role}", next.handed), next));
                }
                Thread::Waits(record, true) => {
                    let label = match self.outcome(state, record) {
                        Some(outcome) => {
                            next.threads[index] = outcome;
                            format!("thread {index} wakes: {outcome:?}")
                        }
                        None if state.phase == Phase::Idle => {
                            next.threads[index] = Thread::Leads(record);
                            next.phase = Phase::Taking;
                            format!("thread {index} wakes and leads")
                        }
                        None => {
                            next.threads[index] = Thread::Waits(record, false);
                            format!("thread {index} wakes and waits on")
                        }
                    };
                    steps.push((label, next));
                }
                Thread::Leads(record) => self.leader_steps(state, index, record, steps),
                _ => {}
            }
        }
    }

    fn leader_steps(&self, state: &State, index: usize, record: u8, steps: &mut Vec<(String, State)>) {
        let mut step = |label: &str, change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            steps.push((format!("leader {index} {label}"), next));
        };
        if state.deaths < 1 {
            step("panics", &|next| {
                next.deaths += 1;
                next.threads[index] = Thread::Dead;
                if !self.has(Bug::DeathUnnoticed) {
                    self.fail(next);
                }
            });
        }
        let may_fail = state.failures < 1;
        match state.phase {
            Phase::Taking => step("takes what is queued", &|next| {
                next.taken = next.handed;
                next.phase = Phase::Writing(next.taken);
            }),
            Phase::Writing(end) => {
                step("writes its group", &|next| {
                    next.pages[usize::from(next.written)..usize::from(end)].fill(Page::Dirty);
                    next.written = end;
                    next.phase = Phase::Written;
                    if self.has(Bug::AcknowledgedBeforeSync) {
                        self.wake(next);
                    }
                });
                if may_fail {
                    step("fails to write", &|next| {
                        next.failures += 1;
                        next.threads[index] = Thread::Failed;
                        self.fail(next);
                    });
                }
            }
            Phase::Written => step("starts the sync", &|next| next.phase = Phase::Syncing(next.written)),
            Phase::Syncing(covered) => {
                step("has synced", &|next| self.synced(next, index, record, covered));
                if may_fail {
                    step("gets an error from the sync", &|next| self.sync_fails(next, index, record, covered));
                }
                if self.has(Bug::TwoSyncs) && state.second.is_none() {
                    step("is joined by the sync of a flush", &|next| next.second = Some(next.written));
                }
            }
            Phase::Idle => {}
        }
    }

    fn synced(&self, next: &mut State, index: usize, record: u8, covered: u8) {
        for page in next.pages[..usize::from(covered)].iter_mut().filter(|page| **page == Page::Dirty) {
            *page = Page::Durable;
        }
        next.durable = if self.has(Bug::CoveredReadAfterSync) { next.handed } else { covered };
        next.phase = Phase::Idle;
        next.threads[index] = self.outcome(next, record).unwrap_or(Thread::Waits(record, true));
        if next.durable < next.handed && self.has(Bug::NoHandOver) {
            // Only those are woken whose record is decided.
            for thread in &mut next.threads {
                if let Thread::Waits(record, woken) = thread {
                    *woken |= *record <= next.durable;
                }
            }
        } else {
            self.wake(next);
        }
    }

    fn sync_fails(&self, next: &mut State, index: usize, record: u8, covered: u8) {
        next.failures += 1;
        // The kernel marks the pages clean; their data is gone.
        for page in next.pages[..usize::from(covered)].iter_mut().filter(|page| **page == Page::Dirty) {
            *page = Page::Dropped;
        }
        if self.has(Bug::SyncTriedAgain) {
            // The second sync has nothing to do.
            return self.synced(next, index, record, covered);
        }
        if self.has(Bug::WaitersToldOk) {
            next.durable = covered;
        }
        next.threads[index] = Thread::Failed;
        self.fail(next);
    }
}

impl Model for Commit {
    type State = State;

    fn start(&self) -> State {
        State {
            threads: vec![Thread::New; self.threads],
            phase: Phase::Idle,
            handed: 0,
            taken: 0,
            written: 0,
            durable: 0,
            pages: vec![Page::Missing; self.threads],
            poisoned: false,
            second: None,
            failures: 0,
            deaths: 0,
            crashed: None,
        }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        let mut steps = Vec::new();
        if state.crashed.is_some() {
            return steps;
        }
        self.thread_steps(state, &mut steps);
        if let Some(covered) = state.second {
            let mut next = state.clone();
            next.second = None;
            // Nothing is dirty for it, or the first one has cleaned it: it says that all is well.
            if next.failures > 0 {
                next.durable = next.durable.max(covered);
                self.wake(&mut next);
            }
            steps.push(("the sync of the flush says that all is well".to_owned(), next));
        }
        // A crash keeps what is durable, and of the dirty pages any; what follows a page that is lost is cut.
        let dirty: Vec<usize> = (0..state.pages.len()).filter(|page| state.pages[*page] == Page::Dirty).collect();
        for kept in 0..1_u32 << dirty.len() {
            let is_left = |page: usize| match state.pages[page] {
                Page::Durable => true,
                Page::Dirty => dirty.iter().position(|dirty| *dirty == page).is_some_and(|bit| kept >> bit & 1 == 1),
                Page::Missing | Page::Dropped => false,
            };
            let left = (0..state.pages.len()).take_while(|page| is_left(*page)).count();
            steps
                .push((format!("a crash leaves {left} records"), State { crashed: Some(left as u8), ..state.clone() }));
        }
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        if state.durable > state.written && !self.has(Bug::CoveredReadAfterSync) {
            return Some(format!("durable is {}, written is {}", state.durable, state.written));
        }
        let waits = |thread: &Thread| matches!(thread, Thread::Waits(..));
        let can_go_on = |thread: &Thread| matches!(thread, Thread::Leads(_) | Thread::Waits(_, true) | Thread::New);
        if state.crashed.is_none() && state.threads.iter().any(waits) && !state.threads.iter().any(can_go_on) {
            return Some("a thread waits, and nobody will wake it".to_owned());
        }
        let left = state.crashed?;
        state.threads.iter().enumerate().find_map(|(index, thread)| match thread {
            Thread::Acknowledged(record) if *record > left => {
                Some(format!("record {record} of thread {index} was acknowledged, and {left} records are left"))
            }
            _ => None,
        })
    }

    fn may_rest(&self, _: &State) -> bool {
        true
    }
}
