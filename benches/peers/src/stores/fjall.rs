//! fjall.

use std::path::Path;
use std::time::Duration;

use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

struct Fjall {
    database: Database,
    items: Keyspace,
    ack: Ack,
}

/// An insert hands its entry to the operating system; `persist` with `fdatasync` behind it makes it durable, as the documentation says. There is no
/// group commit.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    let database = Database::builder(dir).cache_size(CACHE_BYTES as u64).open()?;
    let items = database.keyspace("items", KeyspaceCreateOptions::default)?;
    Ok(Box::new(Fjall { database, items, ack }))
}

impl Fjall {
    fn acknowledge(&self) -> Outcome<()> {
        match self.ack {
            Ack::Synced => Ok(self.database.persist(PersistMode::SyncData)?),
            Ack::Written => Ok(()),
        }
    }
}

impl Store for Fjall {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        self.items.insert(key, value)?;
        self.acknowledge()
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut batch = self.database.batch();
        keys.iter().for_each(|key| batch.insert(&self.items, key, value));
        batch.commit()?;
        self.acknowledge()
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let value = self.items.get(key)?;
        if let Some(value) = &value {
            take(value);
        }
        Ok(value.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut ingestion = self.items.start_ingestion()?;
        for key in keys {
            ingestion.write(key, value)?;
        }
        ingestion.finish()?;
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }

    fn scan(&self) -> Outcome<u64> {
        let mut count = 0;
        for entry in self.items.iter() {
            std::hint::black_box(entry.into_inner()?);
            count += 1;
        }
        Ok(count)
    }

    fn settle(&self) -> Outcome<()> {
        while self.database.outstanding_flushes() > 0 || self.database.active_compactions() > 0 {
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }
}
