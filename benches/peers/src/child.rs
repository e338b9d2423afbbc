//! What the program starts itself for: appends to be traced, and a store to be killed.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use clap::Subcommand;
use wal_benches::bench::payload;
use wal_benches::measure::Outcome;
use wal_benches::sections::store::{Picker, VALUE_BYTES, sorted_keys};

use crate::Ack;
use crate::logs::{self, Setting};
use crate::stores::{self, Key};

#[derive(Debug, Subcommand)]
pub enum Internal {
    /// Appends or puts one after the other, and marks each end: what the section "syncs" traces.
    #[command(hide = true)]
    ChildAppend {
        /// The engine, a log or a store.
        name: String,
        dir: PathBuf,
        #[arg(long, default_value_t = 100)]
        count: u64,
    },
    /// Fills a store, says "ready" and waits to be killed: what the section "open" starts.
    #[command(hide = true)]
    ChildStore { name: String, dir: PathBuf },
}

/// The directory of the engine whose appends are traced.
pub const DATA: &str = "data";
/// The file into which one byte is written before the first append and behind each one.
pub const MARKS: &str = "peers-marks";
/// Entries of a batch, and batches written before the kill.
pub const BATCH: usize = 1000;
pub const BATCHES: usize = 200;
/// The byte that the values of the last batch consist of: a batch's values are its number.
pub const LAST: u8 = (BATCHES - 1) as u8;

pub fn run(command: &Internal) -> Outcome<()> {
    match command {
        Internal::ChildAppend { name, dir, count } => append(name, dir, *count),
        Internal::ChildStore { name, dir } => fill(name, dir),
    }
}

fn append(name: &str, dir: &Path, count: u64) -> Outcome<()> {
    let (data, marks) = (dir.join(DATA), dir.join(MARKS));
    std::fs::create_dir(&data)?;
    let payload = payload(256);
    let mut marks = OpenOptions::new().append(true).create_new(true).open(marks)?;
    if let Some(peer) = logs::all().into_iter().find(|peer| peer.name == name) {
        let log = (peer.open)(&data, Setting { ack: Ack::Synced, segment_bytes: None })?;
        marks.write_all(b".")?;
        for _ in 0..count {
            log.append(&payload)?;
            marks.write_all(b".")?;
        }
    } else {
        let store = stores::find(name)?(&data, Ack::Synced)?;
        let picker = Picker::new();
        marks.write_all(b".")?;
        for _ in 0..count {
            store.put(&picker.key(), &payload)?;
            marks.write_all(b".")?;
        }
    }
    Ok(())
}

/// The keys of the batches that are written before the kill, the last one too.
pub fn batches() -> impl Iterator<Item = Vec<Key>> {
    let picker = Picker::new();
    (0..BATCHES).map(move |_| (0..BATCH).map(|_| picker.key()).collect())
}

fn fill(name: &str, dir: &Path) -> Outcome<()> {
    let store = stores::find(name)?(dir, Ack::Synced)?;
    store.load(&sorted_keys(), &payload(VALUE_BYTES))?;
    for (number, keys) in batches().enumerate() {
        store.put_all(&keys, &[number as u8; VALUE_BYTES])?;
    }
    println!("ready");
    // The end of the input never comes, as the parent keeps it open until it has killed this process.
    std::io::stdin().read_exact(&mut [0])?;
    Ok(())
}
