//! RocksDB.

use std::path::Path;

use rocksdb::{BlockBasedOptions, Cache, DB, Options, WaitForCompactOptions, WriteBatch, WriteOptions};
use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

/// Entries of a batch when many are loaded.
const LOAD_BATCH: usize = 10_000;

struct Rocks {
    db: DB,
    write: WriteOptions,
}

/// Block cache and Bloom filter as its tuning guide says, log files recycled so that a sync need not sync metadata, and each write synced. Writers
/// share syncs by default; pipelined writes make no difference here.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.set_recycle_log_file_num(4);
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(&Cache::new_lru_cache(CACHE_BYTES));
    table.set_bloom_filter(10.0, false);
    options.set_block_based_table_factory(&table);
    let mut write = WriteOptions::default();
    write.set_sync(ack == Ack::Synced);
    Ok(Box::new(Rocks { db: DB::open(&options, dir)?, write }))
}

impl Store for Rocks {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        Ok(self.db.put_opt(key, value, &self.write)?)
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut batch = WriteBatch::default();
        keys.iter().for_each(|key| batch.put(key, value));
        Ok(self.db.write_opt(batch, &self.write)?)
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.db.get_pinned(key)?;
        if let Some(value) = &value {
            take(value);
        }
        Ok(value.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        for part in keys.chunks(LOAD_BATCH) {
            let mut batch = WriteBatch::default();
            part.iter().for_each(|key| batch.put(key, value));
            self.db.write(batch)?;
        }
        Ok(self.db.flush_wal(true)?)
    }

    fn scan(&self) -> Outcome<u64> {
        let (mut entries, mut count) = (self.db.raw_iterator(), 0);
        entries.seek_to_first();
        while let Some(entry) = entries.item() {
            std::hint::black_box(entry);
            count += 1;
            entries.next();
        }
        entries.status()?;
        Ok(count)
    }

    fn settle(&self) -> Outcome<()> {
        Ok(self.db.wait_for_compact(&WaitForCompactOptions::default())?)
    }
}
