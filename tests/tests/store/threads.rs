//! Many threads on the real file system, with a checkpointer in the background and a pool much smaller than the data.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use checkpoint::{Batch, Config, Store};
use wal::SyncMode;
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

const WRITERS: u64 = 4;
const READERS: u64 = 3;
const SHARED_KEYS: u64 = 40;
const STILL_KEYS: u64 = 6000;

/// What was done with one key: a write or a read of a value, from one moment to another.
#[derive(Clone, Copy, Debug)]
struct Event {
    start: u64,
    end: u64,
    value: u64,
    is_write: bool,
}

/// Whether there is an order of the events that respects their times and in which each read sees the last write. All values are different, so it is
/// enough to look at each value's zone: from the first end to the last start of what had to do with it. Zones in which the value must
/// have been there do not overlap, and no other zone lies within one.
fn check_order(events: &[Event]) -> Result<(), String> {
    let mut values: HashMap<u64, Vec<Event>> = HashMap::new();
    for event in events {
        values.entry(event.value).or_default().push(*event);
    }
    let (mut forward, mut backward) = (Vec::new(), Vec::new());
    for (value, events) in &values {
        let Some(write) = events.iter().find(|event| event.is_write) else {
            return Err(format!("{value} was read and never written"));
        };
        if let Some(early) = events.iter().find(|event| event.end < write.start) {
            return Err(format!("{value} was read before it was written: {early:?}, {write:?}"));
        }
        let first_end = events.iter().map(|event| event.end).min().unwrap_or(0);
        let last_start = events.iter().map(|event| event.start).max().unwrap_or(0);
        if first_end < last_start {
            forward.push((first_end, last_start, *value));
        } else {
            backward.push((last_start, first_end, *value));
        }
    }
    forward.sort_unstable();
    for pair in forward.windows(2) {
        if pair[1].0 < pair[0].1 {
            return Err(format!("{} and {} took turns: {pair:?}", pair[0].2, pair[1].2));
        }
    }
    for zone in backward {
        let around = forward.iter().find(|(start, end, _)| *start < zone.0 && zone.1 < *end);
        if let Some(around) = around {
            return Err(format!("{} was written while {} stayed: {zone:?}, {around:?}", zone.2, around.2));
        }
    }
    Ok(())
}

struct Shared {
    store: Store,
    clock: AtomicU64,
    values: AtomicU64,
    is_over: AtomicBool,
    history: Mutex<BTreeMap<u64, Vec<Event>>>,
}

impl Shared {
    fn now(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::SeqCst)
    }

    fn note(&self, key: u64, event: Event) {
        self.history.lock().expect("no thread panics with the lock").entry(key).or_default().push(event);
    }

    /// Every thirtieth of the keys is shared, the others stay as they are.
    fn shared_key(number: u64) -> Vec<u8> {
        format!("key-{:06}-shared", number * STILL_KEYS / SHARED_KEYS).into_bytes()
    }

    fn still_key(number: u64) -> Vec<u8> {
        format!("key-{number:06}").into_bytes()
    }

    /// Values of all lengths, some in overflow pages.
    fn value(number: u64) -> Vec<u8> {
        let mut value = number.to_le_bytes().to_vec();
        value.resize(8 + (number % 7) as usize * if number.is_multiple_of(13) { 1500 } else { 20 }, number as u8);
        value
    }

    fn put(&self, key: u64) {
        let value = self.values.fetch_add(1, Ordering::SeqCst);
        let start = self.now();
        self.store.put(Self::shared_key(key), Self::value(value)).expect("a put works");
        self.note(key, Event { start, end: self.now(), value, is_write: true });
    }

    fn get(&self, key: u64) {
        let start = self.now();
        let found = self.store.get(Self::shared_key(key)).expect("a get works").expect("the key is there");
        let value = u64::from_le_bytes(found[..8].try_into().expect("eight bytes"));
        assert!(found == Self::value(value), "half a value");
        self.note(key, Event { start, end: self.now(), value, is_write: false });
    }

    fn write(&self, writer: u64, steps: u64, rng: &mut Rng) {
        for step in 1..=steps {
            match rng.below(10) {
                // A pair of keys of its own, always changed together; the second is far from the first.
                0 => {
                    let (left, right) = (format!("a-{writer}"), format!("z-{writer}"));
                    let stamp = step.to_le_bytes();
                    let mut batch = Batch::new();
                    batch.put(left.as_bytes(), &stamp).put(right.as_bytes(), &stamp);
                    self.store.write(&batch).expect("a batch works");
                }
                // Keys of its own that come and go, so that pages split and merge.
                1..=4 => {
                    let key = format!("key-{:06}-own-{writer}", rng.below(STILL_KEYS));
                    self.store.put(&key, vec![writer as u8; rng.below(900) as usize]).expect("a put works");
                    if rng.percent(60) {
                        assert!(self.store.delete(&key).expect("a delete works"), "nobody else removes it");
                    }
                }
                _ => self.put(rng.below(SHARED_KEYS)),
            }
        }
    }

    fn read(&self, rng: &mut Rng) {
        while !self.is_over.load(Ordering::SeqCst) {
            for _ in 0..20 {
                self.get(rng.below(SHARED_KEYS));
            }
            let writer = rng.below(WRITERS);
            let stamp = |name: String| {
                let found = self.store.get(name).expect("a get works").expect("the key is there");
                u64::from_le_bytes(found.try_into().expect("eight bytes"))
            };
            let first = stamp(format!("a-{writer}"));
            let second = stamp(format!("z-{writer}"));
            assert!(second >= first, "the batch was seen in part: {first} and then {second}");
            self.scan(rng);
        }
    }

    /// Reads a range, and finds in it each key that nobody touches once.
    fn scan(&self, rng: &mut Rng) {
        let from = rng.below(STILL_KEYS);
        let to = (from + rng.below(800)).min(STILL_KEYS);
        let range = self.store.range(Self::still_key(from)..Self::still_key(to));
        let mut keys: Vec<Vec<u8>> = if rng.percent(50) {
            range.map(|entry| entry.expect("it can be read").0).collect()
        } else {
            let mut keys: Vec<_> = range.rev().map(|entry| entry.expect("it can be read").0).collect();
            keys.reverse();
            keys
        };
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "a key comes twice, or in the wrong order");
        keys.retain(|key| key.len() == Self::still_key(0).len());
        assert!(keys == (from..to).map(Self::still_key).collect::<Vec<_>>(), "a key that nobody touches is missing");
    }
}

fn threads_agree(mode: SyncMode, seed: u64, steps: u64) {
    println!("{mode:?}, seed {seed}");
    let temp = tempfile::tempdir().expect("a directory");
    let mut config = Config::default();
    config.log.sync_mode = mode;
    config.log.segment_bytes_max = 1 << 20;
    config.page_bytes = 4 << 10;
    config.pool_bytes = 64 * config.page_bytes;
    config.checkpoint_log_bytes = 512 << 10;
    let store = Store::open(temp.path().join("store"), config.clone()).expect("a new store opens");
    let mut entries: BTreeMap<Vec<u8>, Vec<u8>> =
        (0..STILL_KEYS).map(|number| (Shared::still_key(number), vec![number as u8; 150])).collect();
    let names = (0..WRITERS).flat_map(|writer| [format!("a-{writer}"), format!("z-{writer}")]);
    entries.extend(names.map(|name| (name.into_bytes(), 0_u64.to_le_bytes().to_vec())));
    store.bulk_load(&entries).expect("the load works");
    let shared = Shared {
        store,
        clock: AtomicU64::new(0),
        values: AtomicU64::new(0),
        is_over: AtomicBool::new(false),
        history: Mutex::default(),
    };
    (0..SHARED_KEYS).for_each(|key| shared.put(key));
    let watchdog = Watchdog::start();
    watchdog.beat(|| format!("{mode:?}, seed {seed}"));
    std::thread::scope(|scope| {
        let shared = &shared;
        let readers = (0..READERS).map(|reader| scope.spawn(move || shared.read(&mut Rng::new(seed ^ (reader << 8)))));
        let readers: Vec<_> = readers.collect();
        let writers = (0..WRITERS)
            .map(|writer| scope.spawn(move || shared.write(writer, steps, &mut Rng::new(seed ^ (writer << 16)))));
        let results: Vec<_> = writers.collect::<Vec<_>>().into_iter().map(|writer| writer.join()).collect();
        shared.is_over.store(true, Ordering::SeqCst);
        assert!(results.iter().all(Result::is_ok), "a writer failed");
        readers.into_iter().for_each(|reader| reader.join().expect("a reader failed"));
    });
    (0..SHARED_KEYS).for_each(|key| shared.get(key));
    let stats = shared.store.stats();
    assert!(stats.page_count > 4 * stats.pool_pages && stats.pages_evicted > 500, "{stats:?}");
    assert!(stats.checkpoints > 1, "no checkpoint was made meanwhile: {stats:?}");
    let history = std::mem::take(&mut *shared.history.lock().expect("no thread panicked"));
    for (key, events) in &history {
        check_order(events).unwrap_or_else(|why| panic!("{mode:?}, seed {seed}, key {key}: {why}"));
    }
    let expected: BTreeMap<Vec<u8>, Vec<u8>> = shared.store.iter().collect::<Result<_, _>>().expect("it can be read");
    shared.store.close().expect("the store closes");
    let store = Store::open(temp.path().join("store"), config).expect("it opens again");
    assert!(store.iter().collect::<Result<BTreeMap<_, _>, _>>().expect("it can be read") == expected);
    println!("{} events of {} keys; {stats:?}", history.values().map(Vec::len).sum::<usize>(), history.len());
}

#[test]
fn readers_and_writers_agree_on_one_order_while_checkpoints_are_made() {
    threads_agree(SyncMode::None, 1, 1500);
    threads_agree(SyncMode::BATCH_DEFAULT, 2, 1500);
    threads_agree(SyncMode::Sync, 3, 400);
}

#[test]
fn the_check_of_the_order_sees_what_is_wrong() {
    let event = |start, end, value, is_write| Event { start, end, value, is_write };
    let right = [event(0, 1, 1, true), event(2, 6, 2, true), event(3, 4, 1, false), event(5, 7, 2, false)];
    check_order(&right).expect("the second write took effect between the reads");
    let stale = [event(0, 1, 1, true), event(2, 3, 2, true), event(4, 5, 1, false)];
    check_order(&stale).expect_err("a value that was overwritten was read");
    let back = [event(0, 1, 1, true), event(2, 9, 2, true), event(3, 4, 2, false), event(5, 6, 1, false)];
    check_order(&back).expect_err("the new value was read, and then the old one");
    check_order(&[event(0, 1, 1, false), event(2, 3, 1, true)]).expect_err("a read before the write");
}
