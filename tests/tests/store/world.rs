//! A store on a simulated file system, a model of it, and operations that are made on both.

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoint::inspect::{VerifyOptions, VerifyReport, verify};
use checkpoint::museum::Bugs;
use checkpoint::{Batch, Config, Store};
use wal::fs::FileSystem;
use wal::fs::sim::SimFs;
use wal::{Background, ManualClock, Result, SyncMode};
use wal_tests::rng::Rng;

/// Where the store is.
pub const DIR: &str = "/store";

/// What the store should hold.
pub type Model = BTreeMap<Vec<u8>, Vec<u8>>;

/// An operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Put(Vec<u8>, Vec<u8>),
    Insert(Vec<u8>, Vec<u8>),
    Update(Vec<u8>, Vec<u8>),
    Delete(Vec<u8>),
    /// Puts, and deletes where there is no value.
    Batch(Vec<(Vec<u8>, Option<Vec<u8>>)>),
    Flush,
    Checkpoint,
    Close,
}

/// How the operations are chosen.
#[derive(Clone, Copy, Debug)]
pub struct Mix {
    /// How many different keys there are.
    pub keys: u64,
    /// The longest value that is usual, in bytes.
    pub value_max: u64,
    /// How many of a hundred values are longer than a page.
    pub long_percent: u64,
    /// How many of a hundred operations remove something.
    pub delete_percent: u64,
}

impl Mix {
    pub const SMALL: Mix = Mix { keys: 60, value_max: 300, long_percent: 5, delete_percent: 25 };
    pub const GROWING: Mix = Mix { keys: 5000, value_max: 200, long_percent: 1, delete_percent: 10 };
    pub const SHRINKING: Mix = Mix { keys: 5000, value_max: 200, long_percent: 1, delete_percent: 70 };

    pub fn key(&self, rng: &mut Rng) -> Vec<u8> {
        let number = rng.below(self.keys);
        // Some keys are long, and many share a prefix.
        let mut key = format!("key-{:06}", number.wrapping_mul(7919) % 1_000_000).into_bytes();
        if number.is_multiple_of(17) {
            key.extend(std::iter::repeat_n(b'x', 200));
        }
        key
    }

    fn value(&self, rng: &mut Rng) -> Vec<u8> {
        let len = if rng.percent(self.long_percent) { 4000 + rng.below(9000) } else { rng.below(self.value_max + 1) };
        let start = rng.number();
        (0..len).map(|at| (start.wrapping_add(at * 31) >> 3) as u8).collect()
    }

    /// The next operation.
    pub fn op(&self, rng: &mut Rng) -> Op {
        match rng.below(100) {
            0 => Op::Checkpoint,
            1 => Op::Flush,
            2..=6 => Op::Insert(self.key(rng), self.value(rng)),
            7..=11 => Op::Update(self.key(rng), self.value(rng)),
            12..=19 => {
                let changes = 2 + rng.below(8);
                // One value of a batch may be long: all of it has to fit a segment.
                let short = Mix { long_percent: 0, ..*self };
                let mut is_first = true;
                let mut change = |rng: &mut Rng| {
                    let key = self.key(rng);
                    let mix = if std::mem::take(&mut is_first) { self } else { &short };
                    let value = (!rng.percent(self.delete_percent)).then(|| mix.value(rng));
                    (key, value)
                };
                Op::Batch((0..changes).map(|_| change(rng)).collect())
            }
            _ if rng.percent(self.delete_percent) => Op::Delete(self.key(rng)),
            _ => Op::Put(self.key(rng), self.value(rng)),
        }
    }
}

/// Settings for tests: small pages, a small pool, small segments, nothing in the background.
pub fn config(mode: SyncMode) -> Config {
    let mut config = Config::default();
    config.log.sync_mode = mode;
    config.log.segment_bytes_max = 64 << 10;
    config.log.background = Background::Inline;
    config.log.reserve_bytes = 8 << 10;
    config.page_bytes = 4 << 10;
    config.pool_bytes = 64 * config.page_bytes;
    config
}

/// Opens the store.
pub fn open(fs: &SimFs, config: &Config) -> Result<Store> {
    open_broken(Arc::new(fs.clone()), config, Bugs::NONE)
}

/// Opens the store with bugs of the museum.
pub fn open_broken(fs: Arc<dyn FileSystem>, config: &Config, bugs: Bugs) -> Result<Store> {
    let opener = Store::opener(config.clone()).file_system(fs).bugs(bugs);
    opener.clock(Arc::new(ManualClock::default())).log_id([7; 16]).open(DIR)
}

/// The name of a numbered key.
pub fn key(number: u64) -> Vec<u8> {
    format!("key-{number:06}").into_bytes()
}

/// Makes an operation on the store.
pub fn apply(store: &Store, op: &Op) -> Result<()> {
    match op {
        Op::Put(key, value) => store.put(key, value),
        Op::Insert(key, value) => store.insert(key, value).map(|_| ()),
        Op::Update(key, value) => store.update(key, value).map(|_| ()),
        Op::Delete(key) => store.delete(key).map(|_| ()),
        Op::Batch(changes) => {
            let mut batch = Batch::new();
            for (key, value) in changes {
                match value {
                    Some(value) => batch.put(key, value),
                    None => batch.delete(key),
                };
            }
            store.write(&batch)
        }
        Op::Flush => store.flush(),
        Op::Checkpoint => store.checkpoint().map(|_| ()),
        Op::Close => store.close(),
    }
}

/// Makes an operation on the model.
pub fn apply_to_model(model: &mut Model, op: &Op) {
    match op {
        Op::Put(key, value) => {
            model.insert(key.clone(), value.clone());
        }
        Op::Insert(key, value) => {
            model.entry(key.clone()).or_insert_with(|| value.clone());
        }
        Op::Update(key, value) => {
            if let Some(old) = model.get_mut(key) {
                old.clone_from(value);
            }
        }
        Op::Delete(key) => {
            model.remove(key);
        }
        Op::Batch(changes) => {
            for (key, value) in changes {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
        }
        Op::Flush | Op::Checkpoint | Op::Close => {}
    }
}

/// Everything in the store.
pub fn content(store: &Store) -> Result<Model> {
    store.iter().collect()
}

/// Verifies the store from its files alone, as they are.
pub fn verified(fs: &SimFs) -> VerifyReport {
    let report = verify(fs, DIR, VerifyOptions::default(), |_| ()).expect("the store can be looked at");
    assert!(report.is_sound(), "{report:#?}");
    report
}
