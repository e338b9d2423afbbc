//! Linearizability: what appends, reads, followers and truncations return while they race is what they could have returned one after the
//! other, in an order that keeps who was done before whom.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wal_scheduled::{ErrorKind, Lsn, Record, Result};

/// What a call returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    Record(Lsn, Vec<u8>),
    Nothing,
    Truncated,
}

/// A call and what it returned.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Call {
    /// A record was appended and got this LSN.
    Append(Vec<u8>, Lsn),
    /// The record at an LSN.
    Read(Lsn, Found),
    /// The next record of a reader that has read up to here.
    Next(Lsn, Found),
    /// The start was truncated to an LSN.
    TruncateBefore(Lsn),
    /// The end was cut behind the record at an LSN.
    TruncateAfter(Lsn),
    /// Where the log starts.
    Start(Lsn),
    /// How far it is durable.
    Durable(Lsn),
}

/// The log, as a list.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct List {
    start: Lsn,
    records: Vec<(Lsn, Vec<u8>)>,
    /// No LSN below it is given out again.
    limit: Lsn,
    /// Behind the first and up to the second, records were cut.
    cuts: Vec<(Lsn, Lsn)>,
}

/// Where a frame ends.
pub fn end_of(lsn: Lsn, payload: &[u8]) -> Lsn {
    Lsn::new((lsn.get() + 24 + payload.len() as u64).next_multiple_of(8))
}

impl List {
    /// The state after the call, if it could have returned that.
    fn after(&self, call: &Call) -> Option<List> {
        let mut next = self.clone();
        let is_possible = match call {
            Call::Append(payload, lsn) => {
                next.records.push((*lsn, payload.clone()));
                next.limit = end_of(*lsn, payload);
                *lsn >= self.limit
            }
            Call::Read(lsn, found) => self.read(*lsn, found),
            Call::Next(position, found) => self.next(*position, found),
            Call::TruncateBefore(lsn) => {
                next.start = self.start.max(*lsn);
                next.records.retain(|(at, _)| *at >= next.start);
                true
            }
            Call::TruncateAfter(lsn) => {
                next.records.retain(|(at, _)| at <= lsn);
                let end = next.records.last().map_or(self.start, |(at, payload)| end_of(*at, payload));
                if next.records.len() < self.records.len() {
                    next.cuts.push((end, self.limit));
                }
                true
            }
            Call::Start(lsn) => *lsn == self.start,
            Call::Durable(lsn) => *lsn == self.limit,
        };
        is_possible.then_some(next)
    }

    fn is_cut(&self, position: Lsn) -> bool {
        self.cuts.iter().any(|(end, limit)| *end < position && position <= *limit)
    }

    fn read(&self, lsn: Lsn, found: &Found) -> bool {
        match found {
            Found::Record(at, payload) => {
                *at == lsn && self.records.iter().any(|(other, kept)| other == at && kept == payload)
            }
            Found::Truncated => lsn < self.start,
            Found::Nothing => lsn >= self.start && !self.records.iter().any(|(at, _)| *at == lsn),
        }
    }

    fn next(&self, position: Lsn, found: &Found) -> bool {
        let expected = if position < self.start || self.is_cut(position) {
            Found::Truncated
        } else {
            let next = self.records.iter().find(|(at, _)| *at >= position);
            next.map_or(Found::Nothing, |(at, payload)| Found::Record(*at, payload.clone()))
        };
        *found == expected
    }
}

#[derive(Clone, Debug)]
struct Entry {
    call: Call,
    called: u64,
    returned: u64,
}

/// What all tasks called, with when they called and when it returned.
#[derive(Clone, Debug)]
pub struct History {
    entries: Arc<Mutex<Vec<Entry>>>,
    time: Arc<AtomicU64>,
    initial: List,
}

impl History {
    /// A log that holds these records.
    pub fn new(start: Lsn, end: Lsn, records: Vec<(Lsn, Vec<u8>)>) -> History {
        let initial = List { start, records, limit: end, cuts: Vec::new() };
        History { entries: Arc::default(), time: Arc::default(), initial }
    }

    /// Makes a call and notes what `describe` makes of its result.
    pub fn call<T>(&self, call: impl FnOnce() -> T, describe: impl FnOnce(&T) -> Call) -> T {
        let called = self.time.fetch_add(1, Ordering::SeqCst);
        let result = call();
        let returned = self.time.fetch_add(1, Ordering::SeqCst);
        let entry = Entry { call: describe(&result), called, returned };
        self.entries.lock().expect("nobody panics with it").push(entry);
        result
    }

    /// Fails unless there is an order in which all calls could have returned what they did.
    pub fn check(&self) {
        let entries = self.entries.lock().expect("nobody panics with it").clone();
        assert!(entries.len() <= 64, "the set of calls that are done is a number of 64 bits");
        let mut seen = HashSet::new();
        let mut open = vec![(0u64, self.initial.clone())];
        while let Some((done, state)) = open.pop() {
            if done.count_ones() as usize == entries.len() {
                return;
            }
            let left = |index: &usize| done & (1 << index) == 0;
            let first_return = (0..entries.len()).filter(left).map(|index| entries[index].returned).min();
            // Whoever was called before any of the others returned may have been next.
            let may_be_next =
                (0..entries.len()).filter(left).filter(|&index| Some(entries[index].called) < first_return);
            for index in may_be_next {
                let Some(next) = state.after(&entries[index].call) else { continue };
                let next = (done | 1 << index, next);
                if seen.insert(next.clone()) {
                    open.push(next);
                }
            }
        }
        panic!("no order explains what was returned:\n{}", self.describe(&entries));
    }

    fn describe(&self, entries: &[Entry]) -> String {
        let mut entries: Vec<&Entry> = entries.iter().collect();
        entries.sort_by_key(|entry| entry.called);
        let shown = |entry: &&Entry| {
            let mut call = format!("{:?}", entry.call);
            call.truncate(120);
            format!("  {:>3} to {:>3}: {call}", entry.called, entry.returned)
        };
        let calls: Vec<String> = entries.iter().map(shown).collect();
        format!("  from {} to {}\n{}", self.initial.start, self.initial.limit, calls.join("\n"))
    }
}

/// What a read returned.
pub fn found(result: &Result<Option<Record>>) -> Found {
    match result {
        Ok(Some(record)) => Found::Record(record.lsn, record.payload.clone()),
        Ok(None) => Found::Nothing,
        Err(error) if error.kind() == ErrorKind::NotFound => Found::Nothing,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
            Found::Truncated
        }
    }
}

#[test]
fn the_checker_accepts_what_could_have_been_and_nothing_else() {
    let (first, second) = (Lsn::new(4096), Lsn::new(4096 + 32));
    let record = |lsn| Found::Record(lsn, vec![1; 8]);
    let append = |lsn| Call::Append(vec![1; 8], lsn);
    // Each call with when it was called and when it returned.
    let is_linearizable = |calls: &[(Call, u64, u64)]| {
        let history = History::new(first, first, Vec::new());
        let entries = calls.iter().map(|(call, called, returned)| Entry {
            call: call.clone(),
            called: *called,
            returned: *returned,
        });
        *history.entries.lock().expect("nobody panics with it") = entries.collect();
        std::panic::catch_unwind(|| history.check()).is_ok()
    };
    assert!(is_linearizable(&[(append(first), 0, 3), (Call::Read(first, record(first)), 1, 2)]));
    assert!(is_linearizable(&[(append(first), 0, 3), (Call::Read(first, Found::Nothing), 1, 2)]));
    assert!(!is_linearizable(&[(append(first), 0, 1), (Call::Read(first, Found::Nothing), 2, 3)]));
    assert!(!is_linearizable(&[(append(second), 0, 1), (append(first), 2, 3)]), "the LSNs do not follow the order");
    assert!(is_linearizable(&[(append(second), 0, 2), (append(first), 1, 3)]));
    let truncated = Call::TruncateBefore(second);
    assert!(!is_linearizable(&[
        (append(first), 0, 1),
        (append(second), 2, 3),
        (truncated.clone(), 4, 5),
        (Call::Next(first, record(first)), 6, 7),
    ]));
    assert!(is_linearizable(&[
        (append(first), 0, 1),
        (append(second), 2, 3),
        (truncated, 4, 7),
        (Call::Next(first, record(first)), 5, 6),
    ]));
}
