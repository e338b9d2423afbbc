//! sled.

use std::path::Path;

use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

struct Sled {
    db: sled::Db,
    ack: Ack,
}

/// `flush` behind each write, as the documentation asks for to make it durable.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    Ok(Box::new(Sled { db: sled::Config::new().path(dir).cache_capacity(CACHE_BYTES as u64).open()?, ack }))
}

impl Sled {
    fn acknowledge(&self) -> Outcome<()> {
        if self.ack == Ack::Synced {
            self.db.flush()?;
        }
        Ok(())
    }
}

impl Store for Sled {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        self.db.insert(key, value)?;
        self.acknowledge()
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut batch = sled::Batch::default();
        keys.iter().for_each(|key| batch.insert(key, value));
        self.db.apply_batch(batch)?;
        self.acknowledge()
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.db.get(key)?;
        if let Some(value) = &value {
            take(value);
        }
        Ok(value.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        for key in keys {
            self.db.insert(key, value)?;
        }
        self.db.flush()?;
        Ok(())
    }

    fn scan(&self) -> Outcome<u64> {
        let mut count = 0;
        for entry in self.db.iter() {
            std::hint::black_box(entry?);
            count += 1;
        }
        Ok(count)
    }
}
