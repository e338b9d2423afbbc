//! SQLite.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rusqlite::Connection;
use wal_benches::measure::Outcome;

use super::{CACHE_BYTES, Key, Store};
use crate::Ack;

/// One connection writes, and one for each thread reads. Several writers would only wait for each other, by sleeping.
struct Sqlite {
    path: PathBuf,
    ack: Ack,
    writer: Mutex<Connection>,
}

thread_local! {
    static READER: RefCell<Option<(PathBuf, Connection)>> = const { RefCell::new(None) };
}

/// Write-ahead logging, with `synchronous=FULL` so that each commit is durable; `NORMAL` leaves the sync to the checkpoint.
fn connect(path: &Path, ack: Ack) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.busy_timeout(Duration::from_secs(10))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if ack == Ack::Synced { "FULL" } else { "NORMAL" })?;
    connection.pragma_update(None, "cache_size", -((CACHE_BYTES / 1024) as i64))?;
    Ok(connection)
}

pub fn open(dir: &Path, ack: Ack) -> Outcome<Box<dyn Store>> {
    let path = dir.join("store.sqlite");
    let writer = connect(&path, ack)?;
    writer.execute("CREATE TABLE IF NOT EXISTS items (key BLOB PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID", ())?;
    Ok(Box::new(Sqlite { path, ack, writer: Mutex::new(writer) }))
}

impl Store for Sqlite {
    fn put(&self, key: &Key, value: &[u8]) -> Outcome<()> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = writer.prepare_cached("INSERT OR REPLACE INTO items VALUES (?1, ?2)")?;
        statement.execute((key.as_slice(), value))?;
        Ok(())
    }

    fn put_all(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let transaction = writer.transaction()?;
        {
            let mut statement = transaction.prepare_cached("INSERT OR REPLACE INTO items VALUES (?1, ?2)")?;
            for key in keys {
                statement.execute((key.as_slice(), value))?;
            }
        }
        Ok(transaction.commit()?)
    }

    fn get(&self, key: &Key, take: &mut dyn FnMut(&[u8])) -> Outcome<bool> {
        READER.with_borrow_mut(|reader| {
            if reader.as_ref().is_none_or(|(path, _)| *path != self.path) {
                *reader = Some((self.path.clone(), connect(&self.path, self.ack)?));
            }
            let (_, connection) = reader.as_ref().ok_or("the connection was just opened")?;
            let mut statement = connection.prepare_cached("SELECT value FROM items WHERE key = ?1")?;
            let mut rows = statement.query((key.as_slice(),))?;
            let row = rows.next()?;
            if let Some(row) = row {
                take(row.get_ref(0)?.as_blob()?);
            }
            Ok(row.is_some())
        })
    }

    fn load(&self, keys: &[Key], value: &[u8]) -> Outcome<()> {
        self.put_all(keys, value)
    }

    fn scan(&self) -> Outcome<u64> {
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut statement = writer.prepare_cached("SELECT key, value FROM items ORDER BY key")?;
        let mut rows = statement.query(())?;
        let mut count = 0;
        while let Some(row) = rows.next()? {
            std::hint::black_box((row.get_ref(0)?.as_blob()?, row.get_ref(1)?.as_blob()?));
            count += 1;
        }
        Ok(count)
    }
}
