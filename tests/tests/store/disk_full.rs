//! A full disk: reads go on, writes are refused with a typed error, a checkpoint works by way of the spare pages and makes room, and a crash
//! anywhere in all that loses nothing.

use std::sync::Arc;

use checkpoint::Store;
use checkpoint::museum::Bugs;
use wal::fs::sim::{CrashPlan, Operation, SimConfig, SimFs};
use wal::{ErrorKind, SyncMode};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::world::{DIR, Model, config, content, key, open, open_broken, verified};

pub const PAGE: u64 = 4 << 10;
pub const SPARE_PAGES: u64 = 16;
/// Room for the log. A checkpoint frees whole segments only, so there have to be some.
pub const LOG_ROOM: u64 = 256 << 10;
pub const KEYS: u64 = 4000;

/// A store with more pages than the pool holds, on a disk that has room for a few more segments of the log.
pub fn store_on_full_disk(seed: u64, copy_on_write: bool) -> (SimFs, Store, Model) {
    store_on_full_disk_with(seed, copy_on_write, Bugs::NONE)
}

/// The same with bugs of the museum.
pub fn store_on_full_disk_with(seed: u64, copy_on_write: bool, bugs: Bugs) -> (SimFs, Store, Model) {
    let mut sim = SimConfig::default();
    (sim.seed, sim.copy_on_write) = (seed, copy_on_write);
    let fs = SimFs::with_config(sim);
    let store = open_broken(Arc::new(fs.clone()), &config(SyncMode::Sync), bugs).expect("a new store opens");
    let model: Model = (0..KEYS).map(|number| (key(number), vec![number as u8; 100])).collect();
    store.bulk_load(model.iter()).expect("the load works");
    store.checkpoint().expect("a checkpoint works");
    assert!(store.stats().page_count > 2 * store.stats().pool_pages, "{:?}", store.stats());
    let used = fs.space_used();
    fs.configure(|config| config.capacity = Some(used + LOG_ROOM));
    (fs, store, model)
}

/// Changes random keys until the disk is full. Returns how many were changed.
pub fn fill(store: &Store, model: &mut Model, rng: &mut Rng) -> u64 {
    for count in 0.. {
        let (key, value) = (key(rng.below(KEYS)), vec![rng.number() as u8; 100]);
        match store.put(&key, &value) {
            Ok(()) => drop(model.insert(key, value)),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
                return count;
            }
        }
    }
    unreachable!("the disk has an end")
}

/// How many of the writes that were traced went into the spare pages.
pub fn spare_writes(fs: &SimFs) -> usize {
    let len = fs.read_file(format!("{DIR}/pages")).expect("the page file is there").len() as u64;
    let first = len - SPARE_PAGES * PAGE;
    let is_spare = |event: &wal::fs::sim::Event| {
        event.operation == Operation::Write && event.path.ends_with("/pages") && event.offset >= first
    };
    fs.take_trace().iter().filter(|event| is_spare(event)).count()
}

#[test]
fn the_spare_pages_are_there_before_the_disk_is_full_and_never_become_others() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    let has_spares = |place: &str| {
        let bytes = fs.read_file(format!("{DIR}/pages")).expect("the page file is there").len() as u64;
        let stats = store.stats();
        assert!(bytes >= (stats.page_count + SPARE_PAGES) * PAGE, "{place}: {bytes} bytes, {stats:?}");
    };
    fs.record_trace(true);
    let entries: Vec<_> = (0..20_000).map(|number| (key(number), [7; 100])).collect();
    store.bulk_load(entries).expect("the load works");
    has_spares("a load");
    // Past the end of what there is room for, a page or a few at a time.
    for number in 20_000..45_000 {
        store.put(key(number), [7; 100]).expect("a put works");
        if number % 100 == 0 {
            has_spares("puts");
        }
    }
    store.put("long", vec![7; 30_000]).expect("a put works");
    has_spares("a long value");
    let is_declared =
        |event: &wal::fs::sim::Event| event.operation == Operation::SetLen && event.path.ends_with("/pages");
    assert!(!fs.take_trace().iter().any(is_declared), "room that is not written is not there on a full disk");
}

#[test]
fn on_a_full_disk_reads_go_on_and_a_checkpoint_makes_room() {
    let watchdog = Watchdog::start();
    for seed in 0..4 {
        watchdog.beat(|| format!("seed {seed}"));
        let (fs, store, mut model) = store_on_full_disk(seed, false);
        let mut rng = Rng::new(seed);
        for round in 0..4 {
            let changed = fill(&store, &mut model, &mut rng);
            assert!(changed > 0, "seed {seed}, round {round}: there is no room after a checkpoint");
            let refused = store.put(key(1), [0; 900]).expect_err("there is no room for a longer record either");
            assert_eq!(refused.kind(), ErrorKind::Full);
            fs.record_trace(true);
            // More pages than the pool holds are read, so dirty ones have to leave it.
            assert!(content(&store).expect("reads go on") == model, "seed {seed}, round {round}");
            let report = store.checkpoint().expect("a checkpoint works").expect("there is something to do");
            assert!(report.truncation_error.is_none(), "{report:?}");
            assert!(spare_writes(&fs) > 0, "seed {seed}, round {round}: the spare pages were not needed");
            fs.record_trace(false);
            assert!(content(&store).expect("reads go on") == model, "seed {seed}, round {round}");
        }
        store.close().expect("a full disk does not keep a store from closing");
        let store = open(&fs, &config(SyncMode::Sync)).expect("it opens on a full disk");
        assert!(content(&store).expect("reads go on") == model, "seed {seed}, opened again");
    }
}

/// Opens a store, giving the disk as little room as the open needs: the log wants a new segment.
fn open_with_little_room(fs: &SimFs) -> wal::Result<Store> {
    loop {
        match open(fs, &config(SyncMode::Sync)) {
            Err(error) if error.is_full() => {
                fs.configure(|config| config.capacity = config.capacity.map(|bytes| bytes + PAGE));
            }
            result => return result,
        }
    }
}

/// The store holds exactly this, and goes on.
pub fn check(fs: &SimFs, model: &Model, nested: u32, place: &str) -> u64 {
    // The spare pages may hold what the crash tore, and that is no damage.
    assert_eq!(verified(fs).tree.map(|tree| tree.entries), Some(model.len() as u64), "{place}");
    let recovering = fs.kill();
    let store = open_with_little_room(fs).unwrap_or_else(|error| panic!("{place}: {error}"));
    let found = content(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
    assert!(found == *model, "{place}: {} entries, not {}", found.len(), model.len());
    drop(store);
    if nested == 0 {
        return 1;
    }
    recovering.keep_crash_points(true);
    drop(open_with_little_room(&recovering));
    let points = recovering.take_crash_points();
    let mut states = 1;
    for (call, point) in points.iter().step_by(1 + points.len() / 8) {
        let plan = CrashPlan::random(*call).with_torn_sectors();
        states += check(&point.crash(&plan), model, nested - 1, &format!("{place}, recovery crashed before {call}"));
    }
    states
}

#[test]
fn segments_that_wait_to_be_used_again_are_room_for_pages_on_a_full_disk() {
    let fs = SimFs::new(5);
    let mut config = config(SyncMode::Sync);
    config.log.recycle_segments_max = 64;
    let store = open(&fs, &config).expect("a new store opens");
    let recycled = || {
        let names = fs.names(format!("{DIR}/wal")).expect("the log is there");
        names.iter().filter(|name| name.ends_with(".recycle")).count()
    };
    let mut rng = Rng::new(5);
    // Near the end of the page file's room, and with so many segments set aside that the log alone does not use them before the file grows.
    let pages = || fs.read_file(format!("{DIR}/pages")).expect("the page file is there").len();
    let mut number = 1000;
    while pages() as u64 / PAGE - SPARE_PAGES > store.stats().page_count + 20 {
        store.put(key(number), vec![7; 100]).expect("there is room");
        number += 1;
    }
    for _ in 0..12_000 {
        store.put(key(rng.below(200)), vec![rng.number() as u8; 100]).expect("there is room");
    }
    store.checkpoint().expect("a checkpoint works");
    assert!(recycled() > 24, "{} segments wait", recycled());
    let (used, before) = (fs.space_used(), pages());
    fs.configure(|config| config.capacity = Some(used));
    while pages() == before {
        store.put(key(number), vec![7; 100]).expect("segments that wait to be used again are room");
        number += 1;
    }
    assert_eq!(recycled(), 0, "what was left of them was given up for the pages");
    store.close().expect("it closes");
}

#[test]
fn a_crash_at_any_call_of_a_checkpoint_on_a_full_disk_loses_nothing() {
    let watchdog = Watchdog::start();
    let mut states = 0;
    for seed in 0..2 {
        let (fs, store, mut model) = store_on_full_disk(seed, false);
        fill(&store, &mut model, &mut Rng::new(seed));
        fs.record_trace(true);
        fs.keep_crash_points(true);
        store.checkpoint().expect("a checkpoint works");
        assert!(spare_writes(&fs) > 0, "seed {seed}: the spare pages were not needed");
        let points = fs.take_crash_points();
        println!("seed {seed}: {} calls", points.len());
        for (call, point) in points {
            watchdog.beat(|| format!("seed {seed}, call {call}"));
            for plan in 0..3 {
                let nested = u32::from((call + plan).is_multiple_of(7));
                let place = format!("seed {seed}, crashed before call {call}, outcome {plan}");
                let plan = CrashPlan::random(call ^ (plan << 20) ^ seed).with_torn_sectors();
                states += check(&point.crash(&plan), &model, nested, &place);
            }
            states += check(&point.crash(&CrashPlan::keep_nothing()), &model, 0, &format!("call {call}, nothing kept"));
        }
    }
    println!("{states} crash states");
}

#[test]
fn on_a_full_disk_that_copies_on_write_nothing_acknowledged_is_lost() {
    let watchdog = Watchdog::start();
    for seed in 0..6 {
        watchdog.beat(|| format!("seed {seed}"));
        let (fs, store, mut model) = store_on_full_disk(seed, true);
        let used = fs.space_used();
        let mut rng = Rng::new(seed);
        for extra in [64 << 10, 8 << 10, 0] {
            fs.configure(|config| config.capacity = Some(used + extra));
            for _ in 0..200 {
                let (key, value) = (key(rng.below(KEYS)), vec![rng.number() as u8; 100]);
                match store.put(&key, &value) {
                    Ok(()) => drop(model.insert(key, value)),
                    Err(error) if error.is_full() => break,
                    Err(error) => {
                        assert!(error.is_poisoned() || error.io_error().is_some(), "seed {seed}: {error}");
                        break;
                    }
                }
            }
            drop(store.checkpoint());
            for number in (0..KEYS).step_by(50) {
                match store.get(key(number)) {
                    Ok(found) => assert!(found.is_some(), "seed {seed}: key {number}"),
                    Err(error) => assert!(error.is_full() || error.is_poisoned(), "seed {seed}: {error}"),
                }
            }
        }
        for plan in 0..4 {
            let crashed = fs.crash(&CrashPlan::random(seed ^ (plan << 9)).with_torn_sectors());
            // Somebody makes room, as this file system cannot change anything without.
            crashed.configure(|config| config.capacity = None);
            verified(&crashed);
            let store = open(&crashed, &config(SyncMode::Sync)).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            let mut found = content(&store).expect("it can be read");
            // What was refused or failed last may be there.
            let unsure: Vec<_> = found.iter().filter(|(key, value)| model.get(*key) != Some(value)).collect();
            assert!(unsure.len() <= 1, "seed {seed}, outcome {plan}: {} entries differ", unsure.len());
            found.retain(|key, value| model.get(key) == Some(value));
            assert!(found.len() + 1 >= model.len(), "seed {seed}, outcome {plan}");
        }
    }
}
