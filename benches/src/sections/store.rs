//! The store of the crate `checkpoint`: durable puts and gets over a million keys, bulk load, scan, opening after a kill, and what a checkpoint
//! costs those who write meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use checkpoint::{Config, Store};
use wal::Wal;

use crate::bench::{Bench, payload};
use crate::logs::timed;
use crate::measure::{Outcome, Sample, Variant, closed_loop_on, interleaved};
use crate::report::{APPENDS, BYTES_EACH, MAX, OPERATIONS, P50, P99, P999, Section, TIME, Table, grouped};
use crate::svg::{Kind, Plot, Values};

/// How many keys there are.
pub const KEYS: u64 = 1_000_000;
/// Bytes of a value; a key has 16.
pub const VALUE_BYTES: usize = 100;
const THREADS: [usize; 4] = [1, 4, 16, 64];
/// Room for the whole tree, so that gets come from memory.
const POOL_BYTES: usize = 512 << 20;
/// Parts of the map that serves as a floor, each under a lock of its own.
const SHARDS: u64 = 64;

/// The key with a number. Neighbouring numbers are far apart in the order of the keys.
pub fn key(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&number.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// All keys, in their order.
pub fn sorted_keys() -> Vec<[u8; 16]> {
    let mut keys: Vec<[u8; 16]> = (0..KEYS).map(key).collect();
    keys.sort_unstable();
    keys
}

/// Numbers of keys at random, for many threads.
#[derive(Debug)]
pub struct Picker(AtomicU64);

impl Picker {
    /// A new one.
    pub fn new() -> Picker {
        Picker(AtomicU64::new(1))
    }

    /// The next key.
    pub fn key(&self) -> [u8; 16] {
        let mixed = self.0.fetch_add(1, Ordering::Relaxed).wrapping_mul(0xD6E8_FEB8_6659_FD93);
        key((mixed ^ (mixed >> 32)).wrapping_mul(0xD6E8_FEB8_6659_FD93) % KEYS)
    }
}

impl Default for Picker {
    fn default() -> Picker {
        Picker::new()
    }
}

/// A map in memory over the log, without pages: what puts cost at least.
struct MapFloor {
    log: Wal,
    shards: Vec<Mutex<HashMap<[u8; 16], Vec<u8>>>>,
}

impl MapFloor {
    fn put(&self, key: [u8; 16], value: &[u8]) -> Outcome<()> {
        let shard = u64::from_be_bytes(key[8..].try_into()?) % SHARDS;
        let record = [key.as_slice(), value].concat();
        let ticket = {
            let mut map = self.shards[shard as usize].lock().map_err(|_| "a thread panicked")?;
            let ticket = self.log.submit(&record)?;
            map.insert(key, value.to_vec());
            ticket
        };
        ticket.wait()?;
        Ok(())
    }
}

fn config() -> Config {
    Config { pool_bytes: POOL_BYTES, ..Config::default() }
}

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let keys = sorted_keys();
    let value = payload(VALUE_BYTES);
    let dir = bench.scratch()?;
    let store = Store::open(dir.path(), config())?;
    store.bulk_load(keys.iter().map(|key| (key, &value)))?;
    let mut section = puts(bench, &store, &value)?;
    section.tables.push(gets(bench, &store, &keys, &value)?);
    section.tables.push(checkpoints(bench, &store, &value)?);
    section.tables.push(volume(bench, &store, &value)?);
    store.close()?;
    section.tables.push(whole(bench, &keys, &value)?);
    Ok(section)
}

fn puts(bench: &Bench, store: &Store, value: &[u8]) -> Outcome<Section> {
    let mut table = Table::new(
        "store-puts",
        "durable puts, keys of 16 B, values of 100 B, at random over 1 M keys, closed loop",
        "floor: a hash map in memory over the same log",
        &[P50, P99, P999, APPENDS],
    );
    let dir = bench.scratch()?;
    let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
    let floor = MapFloor { log: Wal::open(dir.path(), wal::Config::default())?, shards };
    let picker = Picker::new();
    let mut rates = [Vec::new(), Vec::new()];
    for threads in THREADS {
        let variants = vec![
            Variant::new(format!("{threads:>2} floor"), || {
                closed_loop_on(threads, bench.length, VALUE_BYTES, || floor.put(picker.key(), value))
            }),
            Variant::new(format!("{threads:>2} store"), || {
                closed_loop_on(threads, bench.length, VALUE_BYTES, || Ok(store.put(picker.key(), value)?))
            }),
        ];
        let series = interleaved(bench.rounds, variants)?;
        for (each, rates) in series.iter().zip(&mut rates) {
            table.row(each, &series[0], Sample::rate);
            rates.push(each.median(Sample::rate));
        }
    }
    floor.log.close()?;
    let [floor, own] = rates;
    Ok(Section { tables: vec![table], plots: vec![plot(floor, own)] })
}

fn plot(floor: Vec<f64>, own: Vec<f64>) -> Plot {
    Plot {
        title: "Store: durable puts of 116 B over 1 M keys (higher is better)".to_owned(),
        kind: Kind::Lines,
        positions: THREADS.iter().map(usize::to_string).collect(),
        axis: "blocking threads".to_owned(),
        measure: "puts per second".to_owned(),
        series: vec![Values::floor("floor: map over the log", floor), Values::measured("store", own)],
        shown: grouped,
    }
}

fn gets(bench: &Bench, store: &Store, keys: &[[u8; 16]], value: &[u8]) -> Outcome<Table> {
    let mut table = Table::new(
        "store-gets",
        "point gets from memory, at random over 1 M keys, closed loop",
        "floor: an ordered map of the standard library",
        &[P50, P99, OPERATIONS],
    );
    let map: BTreeMap<[u8; 16], Vec<u8>> = keys.iter().map(|key| (*key, value.to_vec())).collect();
    let picker = Picker::new();
    for threads in [1, 2] {
        let variants = vec![
            Variant::new(format!("{threads} floor"), || {
                closed_loop_on(threads, bench.length, VALUE_BYTES, || {
                    std::hint::black_box(map.get(&picker.key()).cloned());
                    Ok(())
                })
            }),
            Variant::new(format!("{threads} store"), || {
                closed_loop_on(threads, bench.length, VALUE_BYTES, || {
                    std::hint::black_box(store.get(picker.key())?);
                    Ok(())
                })
            }),
        ];
        let series = interleaved(bench.rounds, variants)?;
        for each in &series {
            table.row(each, &series[0], Sample::rate);
        }
    }
    Ok(table)
}

/// Puts on four threads, while no checkpoint is made, and while one follows the other in the background.
fn checkpoints(bench: &Bench, store: &Store, value: &[u8]) -> Outcome<Table> {
    let mut table = Table::new(
        "store-checkpoint",
        "durable puts by 4 threads while checkpoints are made, closed loop",
        "floor: the same without checkpoints; the ratio compares p99",
        &[P50, P99, P999, MAX, APPENDS],
    );
    let picker = Picker::new();
    let length = bench.length * 2;
    let put = || closed_loop_on(4, length, VALUE_BYTES, || Ok(store.put(picker.key(), value)?));
    let variants = vec![
        Variant::new("no checkpoint", put),
        Variant::new("in its own time", || meanwhile(put, || spread(store, length))),
        Variant::new("as fast as it can", || meanwhile(put, || Ok(store.checkpoint().map(drop)?))),
    ];
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], |sample| 1e9 / sample.quantile(0.99));
    }
    Ok(table)
}

fn spread(store: &Store, length: Duration) -> Outcome<()> {
    Ok(store.checkpoint_in(length).map(drop)?)
}

/// Runs `step` again and again on another thread while `run` measures.
fn meanwhile(run: impl FnOnce() -> Outcome<Sample>, step: impl Fn() -> Outcome<()> + Sync) -> Outcome<Sample> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| -> Outcome<()> {
            while !is_done.load(Ordering::Relaxed) {
                step()?;
            }
            Ok(())
        });
        let sample = run();
        is_done.store(true, Ordering::Relaxed);
        other.join().map_err(|_| "the thread that makes checkpoints panicked")??;
        sample
    })
}

/// How much is written for a put, with a checkpoint at the end.
fn volume(bench: &Bench, store: &Store, value: &[u8]) -> Outcome<Table> {
    let mut table = Table::new(
        "store-volume",
        "bytes written for a put of 116 B by 16 threads, with the checkpoint at the end",
        "floor: the bytes of key and value; the last column is 1 over the amplification",
        &[BYTES_EACH, APPENDS],
    );
    let picker = Picker::new();
    let entry = 16 + VALUE_BYTES as u64;
    let measure = |whole: bool| {
        store.checkpoint()?;
        let (before, log_before) = (store.stats(), store.log().stats());
        let mut sample = closed_loop_on(16, bench.length, VALUE_BYTES, || Ok(store.put(picker.key(), value)?))?;
        store.checkpoint()?;
        let (after, log_after) = (store.stats(), store.log().stats());
        let pages = (after.pages_written - before.pages_written) * after.page_bytes as u64;
        let log = log_after.written_bytes - log_before.written_bytes;
        sample.bytes = if whole { pages + log } else { log };
        Ok(sample)
    };
    let variants = vec![
        Variant::new("key and value", || Ok(Sample::once(Duration::from_secs(1), 1, entry))),
        Variant::new("log", || measure(false)),
        Variant::new("log and pages", || measure(true)),
    ];
    let series = interleaved(bench.rounds, variants)?;
    let smallness = |sample: &Sample| sample.count as f64 / sample.bytes.max(1) as f64;
    for each in &series {
        table.row(each, &series[0], smallness);
    }
    Ok(table)
}

/// Bulk load, scan, and opening after a crash.
fn whole(bench: &Bench, keys: &[[u8; 16]], value: &[u8]) -> Outcome<Table> {
    let mut table = Table::new(
        "store-whole",
        "1 M keys: loading, reading all in order, opening",
        "floor: an ordered map of the standard library, for opening the open after a close; killed: 200,000 puts since the last checkpoint",
        &[TIME, OPERATIONS],
    );
    let entries = || keys.iter().map(|key| (key, value));
    let map: BTreeMap<[u8; 16], Vec<u8>> = entries().map(|(key, value)| (*key, value.to_vec())).collect();
    let load = || {
        let dir = bench.scratch()?;
        let store = Store::open(dir.path(), config())?;
        let start = Instant::now();
        store.bulk_load(entries())?;
        let elapsed = start.elapsed();
        store.close()?;
        Ok(Sample::once(elapsed, KEYS, 0))
    };
    let load_map = || {
        let start = Instant::now();
        let map: BTreeMap<[u8; 16], Vec<u8>> = entries().map(|(key, value)| (*key, value.to_vec())).collect();
        std::hint::black_box(&map);
        Ok(Sample::once(start.elapsed(), KEYS, 0))
    };
    rows(bench, &mut table, vec![Variant::new("load floor", load_map), Variant::new("bulk load", load)])?;
    let dir = bench.scratch()?;
    let store = Store::open(dir.path(), config())?;
    store.bulk_load(entries())?;
    let scan = || {
        timed(Duration::ZERO, || {
            let (mut entries, mut count) = (store.iter(), 0);
            while let Some(entry) = entries.next_entry()? {
                std::hint::black_box((entry.key(), entry.value()));
                count += 1;
            }
            Ok((count, 0))
        })
    };
    let scan_copies = || {
        timed(Duration::ZERO, || {
            let count = store.iter().try_fold(0, |count, entry| entry.map(|_| count + 1))?;
            Ok((count, 0))
        })
    };
    let scan_map = || {
        timed(Duration::ZERO, || {
            let bytes = map.iter().map(|entry| std::hint::black_box(entry).1.len() as u64).sum();
            Ok((KEYS, bytes))
        })
    };
    let variants = vec![
        Variant::new("scan floor", scan_map),
        Variant::new("scan", scan),
        Variant::new("scan with copies", scan_copies),
    ];
    rows(bench, &mut table, variants)?;
    store.close()?;
    let open = || -> Outcome<(Store, Duration)> {
        let start = Instant::now();
        let store = Store::open(dir.path(), config())?;
        let elapsed = start.elapsed();
        let picker = Picker::new();
        for number in 0..200_000 {
            let batch_end = number % 256 == 255;
            let key = picker.key();
            if batch_end {
                store.put(key, value)?;
            } else {
                drop(store.submit(checkpoint::Batch::new().put(&key, value))?);
            }
        }
        Ok((store, elapsed))
    };
    let clean = || {
        let (store, elapsed) = open()?;
        store.close()?;
        Ok(Sample::once(elapsed, 1, 0))
    };
    let killed = || {
        let (store, _) = open()?;
        // Dropped without a checkpoint, which is to the pages what a kill is.
        drop(store);
        let start = Instant::now();
        let store = Store::open(dir.path(), config())?;
        let elapsed = start.elapsed();
        store.close()?;
        Ok(Sample::once(elapsed, 1, 0))
    };
    let variants = vec![Variant::new("open after a close", clean), Variant::new("open after a kill", killed)];
    rows(bench, &mut table, variants)?;
    Ok(table)
}

fn rows(bench: &Bench, table: &mut Table, variants: Vec<Variant<'_>>) -> Outcome<()> {
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::rate);
    }
    Ok(())
}
