//! LMDB, through heed.

use std::path::Path;

use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvOpenOptions, PutFlags};
use wal_benches::measure::Outcome;

use super::{Key, Store};
use crate::Ack;

/// Room in the address space; no more is used of it than there is data.
const MAP_BYTES: usize = 8 << 30;

struct Lmdb {
    env: Env,
    items: Database<'static, Bytes, Bytes>,
}

/// Its default: one writer at a time, and a commit is durable when it returns.
pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    if ack != Ack::Synced {
        return Err("without a sync LMDB may be corrupt after a loss of power".into());
    }
    // The only way in which heed opens an environment, as it maps a file into memory that others might change.
    // SAFETY: the directory was made for this run, and nobody else opens or changes what is in it while it is mapped.
    #[expect(unsafe_code, reason = "heed has no safe way to open an environment")]
    let env = unsafe { EnvOpenOptions::new().map_size(MAP_BYTES).open(dir)? };
    let write = env.write_txn()?;
    let created = env.create_databases_and_commit(write, |opener, write| {
        opener.create_database(write, None).map(CommitOrAbort::<_, ()>::Commit)
    })?;
    let CommitOrAbort::Commit(items) = created else { return Err("the database was not created".into()) };
    Ok(Box::new(Lmdb { env, items }))
}

impl Store for Lmdb {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        let mut write = self.env.write_txn()?;
        self.items.put(&mut write, key, value)?;
        Ok(write.commit()?)
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut write = self.env.write_txn()?;
        for key in keys {
            self.items.put(&mut write, key, value)?;
        }
        Ok(write.commit()?)
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        let read = self.env.read_txn()?;
        let value = self.items.get(&read, key)?;
        if let Some(value) = value {
            take(value);
        }
        Ok(value.is_some())
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut write = self.env.write_txn()?;
        for key in keys {
            self.items.put_with_flags(&mut write, PutFlags::APPEND, key, value)?;
        }
        Ok(write.commit()?)
    }

    fn scan(&self) -> Outcome<u64> {
        let read = self.env.read_txn()?;
        let mut count = 0;
        for entry in self.items.iter(&read)? {
            std::hint::black_box(entry?);
            count += 1;
        }
        Ok(count)
    }
}
