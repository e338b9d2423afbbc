//! The store of the crate `checkpoint`.

use std::path::Path;

use checkpoint::{Batch, Config};
use wal::SyncMode;
use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

struct Ours(checkpoint::Store);

/// With the settings that a store has by default, but the memory that all have here.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    let log = match ack {
        Ack::Synced => wal::Config::default(),
        Ack::Written => wal::Config::with_mode(SyncMode::None),
    };
    Ok(Box::new(Ours(checkpoint::Store::open(dir, Config { log, pool_bytes: CACHE_BYTES, ..Config::default() })?)))
}

impl Store for Ours {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        Ok(self.0.put(key, value)?)
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut batch = Batch::new();
        for key in keys {
            batch.put(key, value);
        }
        Ok(self.0.write(&batch)?)
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        Ok(self.0.get_with(key, take)?.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        self.0.bulk_load(keys.iter().map(|key| (key, value)))?;
        Ok(())
    }

    fn scan(&self) -> Outcome<u64> {
        let (mut entries, mut count) = (self.0.iter(), 0);
        while let Some(entry) = entries.next_entry()? {
            std::hint::black_box((entry.key(), entry.value()));
            count += 1;
        }
        Ok(count)
    }
}
