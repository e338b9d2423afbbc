//! Puts, gets, scans and loads of stores.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tempfile::TempDir;
use wal_benches::bench::payload;
use wal_benches::measure::{Outcome, Sample, closed_loop_on};
use wal_benches::report::{APPENDS, OPERATIONS, P50, P99, P999, TIME, Table};
use wal_benches::sections::store::{KEYS, Picker, VALUE_BYTES, sorted_keys};

use super::{Contest, Entrant, Report};
use crate::stores::{self, Store};
use crate::{Ack, Run};

const PUT_THREADS: [usize; 4] = [1, 4, 16, 64];
const GET_THREADS: [usize; 2] = [1, 2];
const WARMING_GETS: usize = 300_000;

/// Values of which no two are the same: SQLite and sled write nothing where a value is replaced by itself.
struct Values {
    rest: Vec<u8>,
    next: AtomicU64,
}

impl Values {
    fn new() -> Values {
        Values { rest: payload(VALUE_BYTES), next: AtomicU64::new(0) }
    }

    fn next(&self) -> [u8; VALUE_BYTES] {
        let mut value = [0; VALUE_BYTES];
        value.copy_from_slice(&self.rest);
        value[..8].copy_from_slice(&self.next.fetch_add(1, Ordering::Relaxed).to_le_bytes());
        value
    }
}

/// A store with a million keys in it.
struct Loaded {
    name: &'static str,
    store: Box<dyn Store>,
    /// Removed behind the store.
    _dir: TempDir,
}

/// Opens and fills every store that takes part, ours first.
fn loaded(run: &Run) -> Outcome<Vec<Loaded>> {
    let (keys, value) = (sorted_keys(), payload(VALUE_BYTES));
    let mut all = Vec::new();
    for (name, open) in stores::all().into_iter().filter(|(name, _)| run.wants(name)) {
        let dir = run.bench.scratch()?;
        let store = open(dir.path(), Ack::Synced).map_err(|error| format!("{name}: {error}"))?;
        store.load(&keys, &value).map_err(|error| format!("{name}: {error}"))?;
        warm(store.as_ref()).map_err(|error| format!("{name}: {error}"))?;
        all.push(Loaded { name, store, _dir: dir });
    }
    Ok(all)
}

/// Gets so many keys that nearly every page or block is in memory, and nothing of the load is left to do.
fn warm(store: &dyn Store) -> Outcome<()> {
    let picker = Picker::new();
    for _ in 0..WARMING_GETS {
        store.get(&picker.key(), &mut |_| ())?;
    }
    store.settle()
}

/// Ours apart from the others, each measured by `measure`, and then left alone until it is done with what it does in the background.
fn entrants<'a>(
    all: &'a [Loaded],
    measure: impl Fn(&dyn Store) -> Outcome<Sample> + Clone + 'a,
) -> Outcome<(Entrant<'a>, Vec<Entrant<'a>>)> {
    let mut entrants = all.iter().map(|each| {
        let measure = measure.clone();
        Entrant::new(each.name, move || {
            let sample = measure(each.store.as_ref())?;
            each.store.settle()?;
            Ok(sample)
        })
    });
    let ours = entrants.next().ok_or("our store is the first")?;
    Ok((ours, entrants.collect()))
}

/// Everything for which a store is open and full.
pub fn opened(run: &Run) -> Outcome<Report> {
    let all = loaded(run)?;
    let mut report = Report::default();
    for part in [gets(run, &all)?, scans(run, &all)?, puts(run, &all)?] {
        report.text += &part.text;
        report.text.push('\n');
        report.json.extend(part.json);
    }
    Ok(report)
}

fn puts(run: &Run, all: &[Loaded]) -> Outcome<Report> {
    let table = Table::new(
        "puts",
        "blocking puts of 16 B keys and 100 B values at random over 1 M keys, each durable when it returns, closed loop, by number of threads",
        "one store for all runs; last column: in parts of ours",
        &[P50, P99, P999, APPENDS],
    );
    let (values, picker) = (&Values::new(), &Picker::new());
    let mut contest = Contest::new(run, "puts", table.with_ratio_title("of ours"));
    for threads in run.threads(&PUT_THREADS) {
        let (ours, peers) = entrants(all, move |store| {
            closed_loop_on(threads, run.bench.length, VALUE_BYTES, || store.put(&picker.key(), &values.next()))
        })?;
        contest.group(&format!("{threads:>2}"), Vec::new(), ours, peers)?;
    }
    Ok(contest.report())
}

fn gets(run: &Run, all: &[Loaded]) -> Outcome<Report> {
    let table = Table::new(
        "gets",
        "gets at random over 1 M keys that fit into memory, closed loop, by number of threads",
        "a value is lent where the engine can lend it; last column: in parts of ours",
        &[P50, P99, P999, OPERATIONS],
    );
    let picker = &Picker::new();
    let mut contest = Contest::new(run, "gets", table.with_ratio_title("of ours"));
    for threads in run.threads(&GET_THREADS) {
        let (ours, peers) = entrants(all, move |store| {
            closed_loop_on(threads, run.bench.length, VALUE_BYTES, || {
                let take = &mut |value: &[u8]| {
                    std::hint::black_box(value);
                };
                if store.get(&picker.key(), take)? { Ok(()) } else { Err("a key is missing".into()) }
            })
        })?;
        contest.group(&format!("{threads:>2}"), Vec::new(), ours, peers)?;
    }
    Ok(contest.report())
}

fn scans(run: &Run, all: &[Loaded]) -> Outcome<Report> {
    let table = Table::new(
        "scan",
        "reading 1 M entries in order, from memory, one thread",
        "last column: in parts of ours",
        &[TIME, OPERATIONS],
    );
    let (ours, peers) = entrants(all, |store| {
        let start = Instant::now();
        let count = store.scan()?;
        if count == KEYS { Ok(Sample::once(start.elapsed(), KEYS, 0)) } else { Err(format!("{count} entries").into()) }
    })?;
    let mut contest = Contest::new(run, "scan", table.with_ratio_title("of ours"));
    contest.group("", Vec::new(), ours, peers)?;
    Ok(contest.report())
}

/// Filling empty stores.
pub fn load(run: &Run) -> Outcome<Report> {
    let table = Table::new(
        "load",
        "1 M sorted entries into an empty store, durable at the end, one thread",
        "each engine in the way that its documentation calls the fast one; last column: in parts of ours",
        &[TIME, OPERATIONS],
    );
    let (keys, value) = (&sorted_keys(), &payload(VALUE_BYTES));
    let mut entrants = stores::all().into_iter().filter(|(name, _)| run.wants(name)).map(|(name, open)| {
        Entrant::new(name, move || {
            let dir = run.bench.scratch()?;
            let store = open(dir.path(), Ack::Synced)?;
            let start = Instant::now();
            store.load(keys, value)?;
            let elapsed = start.elapsed();
            store.settle()?;
            Ok(Sample::once(elapsed, KEYS, 0))
        })
    });
    let ours = entrants.next().ok_or("our store is the first")?;
    let mut contest = Contest::new(run, "load", table.with_ratio_title("of ours"));
    contest.group("", Vec::new(), ours, entrants.collect())?;
    Ok(contest.report())
}
