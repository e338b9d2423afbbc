//! redb.

use std::path::Path;

use redb::{Builder, Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

const TABLE: TableDefinition<'_, Key, &[u8]> = TableDefinition::new("items");

struct Redb(Database);

/// Its default, `Durability::Immediate`: a commit is durable when it returns, and one writer follows the other.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    if ack != Ack::Synced {
        return Err("without a sync redb keeps commits in memory, where a kill loses them".into());
    }
    let database = Builder::new().set_cache_size(CACHE_BYTES).create(dir.join("store.redb"))?;
    let store = Redb(database);
    store.put_all(&[], &[])?;
    Ok(Box::new(store))
}

impl Store for Redb {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        self.put_all(std::slice::from_ref(key), value)
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut write = self.0.begin_write()?;
        write.set_durability(Durability::Immediate)?;
        {
            let mut table = write.open_table(TABLE)?;
            for key in keys {
                table.insert(key, value)?;
            }
        }
        Ok(write.commit()?)
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let read = self.0.begin_read()?;
        let value = read.open_table(TABLE)?.get(key)?;
        if let Some(value) = &value {
            take(value.value());
        }
        Ok(value.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        self.put_all(keys, value)
    }

    fn scan(&self) -> Outcome<u64> {
        let read = self.0.begin_read()?;
        let mut count = 0;
        for entry in read.open_table(TABLE)?.iter()? {
            let (key, value) = entry?;
            std::hint::black_box((key.value(), value.value()));
            count += 1;
        }
        Ok(count)
    }
}
