//! Stores behind one interface: ours, and those of others.

mod fjall;
#[cfg(feature = "lmdb")]
mod lmdb;
mod ours;
mod redb;
#[cfg(feature = "rocksdb")]
mod rocks;
mod sled;
#[cfg(feature = "sqlite")]
mod sqlite;

use std::path::Path;

use wal_benches::measure::Outcome;

use crate::Ack;

/// Memory for pages or blocks, the same for every store that has a setting for it, and enough for all that is measured.
const CACHE_BYTES: usize = 512 << 20;

/// A key.
pub type Key = [u8; 16];

/// An ordered map on disk.
pub trait Store: Send + Sync {
    /// Gives a key a value, and returns when that is acknowledged as the store was opened to.
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()>;
    /// As [`Store::put`] for all keys at once, as one atomic batch.
    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()>;
    /// Lends the value of a key to `take` without a copy where the store can do so, and says whether there is one.
    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool>;
    /// Fills the empty store with sorted keys, durable at the end, in the way that its documentation calls the fast one.
    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()>;
    /// Reads everything in order, each entry lent where the store can do so, and counts it.
    fn scan(&self) -> Outcome<u64>;
    /// Waits until nothing is done in the background for what was written before, so that nobody who is measured next pays for it.
    fn settle(&self) -> Outcome<()> {
        Ok(())
    }
}

/// Opens or creates a store in a directory.
pub type Open = fn(&Path, Ack) -> Outcome<Box<dyn Store>>;

/// All stores, ours first.
pub fn all() -> Vec<(&'static str, Open)> {
    vec![
        ("checkpoint", ours::open as Open),
        ("fjall", fjall::open),
        #[cfg(feature = "lmdb")]
        ("lmdb", lmdb::open),
        ("redb", redb::open),
        #[cfg(feature = "rocksdb")]
        ("rocksdb", rocks::open),
        ("sled", sled::open),
        #[cfg(feature = "sqlite")]
        ("sqlite", sqlite::open),
    ]
}

/// The store with this name.
pub fn find(name: &str) -> Outcome<Open> {
    let found = all().into_iter().find(|(each, _)| *each == name);
    Ok(found.ok_or_else(|| format!("there is no store {name} in this build"))?.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(store: &dyn Store, key: &Key) -> Option<Vec<u8>> {
        let mut value = None;
        let is_there = store.get(key, &mut |bytes| value = Some(bytes.to_vec())).expect("the get works");
        assert_eq!(is_there, value.is_some());
        value
    }

    #[test]
    fn every_store_holds_what_was_loaded_and_put_also_when_it_is_opened_again() {
        let keys: Vec<Key> = (0..100).map(|number| [number; 16]).collect();
        for (name, open) in all() {
            let dir = tempfile::tempdir().expect("a temporary directory");
            let store = open(dir.path(), Ack::Synced).expect(name);
            store.load(&keys[..50], &[1; 100]).expect(name);
            store.put_all(&keys[40..60], &[2; 100]).expect(name);
            store.put(&keys[60], &[3; 100]).expect(name);
            store.settle().expect(name);
            drop(store);
            let store = open(dir.path(), Ack::Synced).expect(name);
            let values = [0, 45, 60, 61].map(|number| value(store.as_ref(), &keys[number]));
            assert_eq!(values, [Some(vec![1; 100]), Some(vec![2; 100]), Some(vec![3; 100]), None], "{name}");
            assert_eq!(store.scan().expect(name), 61, "{name}");
        }
    }
}
