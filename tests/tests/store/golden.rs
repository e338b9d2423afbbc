//! A store of format version 1, byte for byte. What was written once must be read for ever, and is written the same way.
//!
//! `WAL_GOLDEN_WRITE=1` writes the files anew: only when a new version of the format is meant. Zeros at the end of a file are left out
//! there; the listing has the files' lengths.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use checkpoint::{Batch, Config, Store};
use wal::fs::sim::SimFs;
use wal::{Background, ManualClock, SyncMode};

use crate::world::{DIR, Model, content};

const LISTING: &str = "listing.txt";

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join("store-v1")
}

fn config() -> Config {
    let mut config = Config::default();
    config.log.segment_bytes_max = 64 << 10;
    config.log.reserve_bytes = 0;
    config.log.direct_io = false;
    config.log.sync_mode = SyncMode::Sync;
    config.log.background = Background::Inline;
    config.page_bytes = 4 << 10;
    config.pool_bytes = 64 * config.page_bytes;
    config
}

fn open(fs: &SimFs) -> Store {
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1_700_000_000));
    let opener = Store::opener(config()).file_system(Arc::new(fs.clone())).clock(clock);
    opener.log_id(*b"golden store, v1").open(DIR).expect("the store opens")
}

/// Leaves, branches, overflow and free pages; changes of every kind, images and a checkpoint in the log; not closed.
fn write_store() -> SimFs {
    let fs = SimFs::new(1);
    let store = open(&fs);
    for number in 0..120u32 {
        store.put(format!("key {number:03}"), vec![number as u8; 60]).expect("a put works");
    }
    store.put("long", vec![0xA5; 9000]).expect("a put works");
    store.put("long too", vec![0x5A; 5000]).expect("a put works");
    store.delete("long too").expect("a delete works");
    store.checkpoint().expect("a checkpoint works");
    store.checkpoint().expect("a checkpoint works");
    // Page images come into the log when pages are overwritten that the checkpoint wrote.
    store.put("key 000", "another value").expect("a put works");
    store.put("key 119", vec![1; 61]).expect("a put works");
    store.checkpoint().expect("a checkpoint works");
    store.insert("key 0005", "inserted").expect("an insert works");
    store.update("key 007", "updated").expect("an update works");
    store.delete("key 008").expect("a delete works");
    store.write(Batch::new().put(b"batch", b"one").delete(b"key 009").put(b"key 010", b"")).expect("a batch works");
    for number in 30..60u32 {
        store.delete(format!("key {number:03}")).expect("a delete works");
    }
    store.put("long", vec![0xA6; 4100]).expect("a put works");
    for number in 0..12u32 {
        store.put(format!("key 000 and {number}"), vec![3; 400]).expect("a put works");
    }
    fs.kill()
}

/// The bytes of all files below the directory of the store. Locks are empty.
fn files_of(fs: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for dir in ["", "wal/"] {
        for name in fs.names(format!("{DIR}/{dir}")).expect("the directory is there") {
            if name != "lock" && !name.ends_with('/') {
                let path = format!("{dir}{name}");
                let bytes = fs.read_file(format!("{DIR}/{path}")).expect("the file is there");
                files.insert(path, bytes);
            }
        }
    }
    files
}

fn without_end(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)]
}

/// How a file of the store is called among the golden files.
fn golden_name(path: &str) -> String {
    path.replace('/', "-")
}

fn listing(files: &BTreeMap<String, Vec<u8>>, content: &Model) -> String {
    let mut text = String::new();
    for (path, bytes) in files {
        writeln!(text, "{path} {}", bytes.len()).expect("text can be written");
    }
    for (key, value) in content {
        let shown = if value.len() > 40 {
            format!("{} times {:#04x}", value.len(), value[0])
        } else {
            format!("{:?}", String::from_utf8_lossy(value))
        };
        writeln!(text, "{:?}: {shown}", String::from_utf8_lossy(key)).expect("text can be written");
    }
    text
}

fn rewrite_if_asked() {
    if std::env::var_os("WAL_GOLDEN_WRITE").is_none_or(|value| value != "1") {
        return;
    }
    let (fs, dir) = (write_store(), golden_dir());
    std::fs::create_dir_all(&dir).expect("the directory of the golden files");
    for entry in std::fs::read_dir(&dir).expect("the golden files") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("an old golden file");
    }
    let files = files_of(&fs);
    for (path, bytes) in &files {
        std::fs::write(dir.join(golden_name(path)), without_end(bytes)).expect("a golden file");
    }
    let content = content(&open(&fs)).expect("the store can be read");
    std::fs::write(dir.join(LISTING), listing(&files, &content)).expect("the listing");
}

/// One test, so that the files are not read while they are written anew.
#[test]
fn the_golden_store_is_read_and_written_as_ever() {
    rewrite_if_asked();
    let expected = std::fs::read_to_string(golden_dir().join(LISTING)).expect("the listing");

    // (a) What was written by the version that made it is opened by this one: redo, images and all.
    let old = SimFs::new(2);
    let mut golden = BTreeMap::new();
    for dir in [DIR.to_owned(), format!("{DIR}/wal")] {
        wal::fs::FileSystem::create_dir(&old, std::path::Path::new(&dir)).expect("a directory");
    }
    for line in expected.lines().take_while(|line| !line.starts_with('"')) {
        let (path, len) = line.rsplit_once(' ').expect("a path and a length");
        let mut bytes = std::fs::read(golden_dir().join(golden_name(path))).expect("a golden file");
        bytes.resize(len.parse().expect("a length"), 0);
        old.write_file(format!("{DIR}/{path}"), &bytes).expect("a file");
        golden.insert(path.to_owned(), bytes);
    }
    let store = open(&old);
    assert!(store.recovery_report().changes_applied > 40, "{:?}", store.recovery_report());
    assert_eq!(listing(&golden, &content(&store).expect("the store can be read")), expected);
    store.put("it goes", "on").expect("a put works");
    store.close().expect("a clean close");

    // (b) The same operations write the same bytes.
    let written = files_of(&write_store());
    assert_eq!(written.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (path, bytes) in &written {
        let differs = bytes.iter().zip(&golden[path]).position(|(new, old)| new != old);
        assert_eq!((differs, bytes.len()), (None, golden[path].len()), "{path} differs at this offset, or in its size");
    }
}
