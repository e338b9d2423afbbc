//! The logs and stores with which sessions begin: the same bytes each time, but for the ids of stores.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use checkpoint::Store;
use wal::{AppendOptions, Background, Config, ManualClock, RecordType, Wal};

/// Makes the log or store with this name in `dir`. What is returned is open for writing until it is dropped.
pub fn make(name: &str, dir: &Path) -> Option<Wal> {
    match name {
        "in use" => {
            log(dir, true);
            return Some(Wal::open(dir, settings()).expect("it opens"));
        }
        "store" => store(dir, true),
        "store with changes to replay" => store(dir, false),
        "store with a damaged page" => {
            store(dir, true);
            let path = dir.join("pages");
            let mut bytes = fs::read(&path).expect("it is there");
            bytes[3 * 4096 + 3000] ^= 1;
            fs::write(path, bytes).expect("it can be written");
        }
        "none" => {}
        "empty" => fs::create_dir(dir).expect("it is absent"),
        "foreign" => {
            fs::create_dir(dir).expect("it is absent");
            fs::write(dir.join("notes.txt"), "no log at all\n").expect("it can be written");
        }
        "sound" => log(dir, true),
        "live" => log(dir, false),
        "corrupt payload" => damage(dir, "0000000000000002.wal", |bytes| bytes[4096 + 24 + 40 * 48] ^= 4),
        "corrupt header" => damage(dir, "0000000000000003.wal", |bytes| bytes[50] ^= 4),
        "torn" => {
            log(dir, false);
            let path = dir.join("0000000000000004.wal");
            let mut bytes = fs::read(&path).expect("it is there");
            let end = bytes.iter().rposition(|&byte| byte != 0).expect("it holds records");
            bytes[end] ^= 1;
            fs::write(path, bytes).expect("it can be written");
        }
        "newer" => damage(dir, "control", |bytes| {
            bytes[8] = 2;
            let checksum = crc32c::crc32c(&bytes[..4092]);
            bytes[4092..].copy_from_slice(&checksum.to_le_bytes());
        }),
        "no control" => remove(dir, "control"),
        "no middle" => remove(dir, "0000000000000002.wal"),
        "stranded" => {
            log(dir, true);
            let path = dir.join("0000000000000002.wal");
            fs::rename(&path, dir.join("0000000000000002.wal.tmp")).expect("it is there");
        }
        "unreadable" => {
            remove(dir, "0000000000000004.wal");
            fs::create_dir(dir.join("0000000000000004.wal")).expect("it was removed");
        }
        other => panic!("there is no fixture {other:?}"),
    }
    None
}

fn settings() -> Config {
    Config {
        segment_bytes_max: 8 << 10,
        background: Background::Inline,
        direct_io: false,
        reserve_bytes: 0,
        ..Config::default()
    }
}

/// Three hundred entries, one of them long, and two changes since the checkpoint.
fn store(dir: &Path, is_closed: bool) {
    let mut config = checkpoint::Config { page_bytes: 4096, ..checkpoint::Config::default() };
    config.log = Config { segment_bytes_max: 256 << 10, ..settings() };
    let store = Store::open(dir, config).expect("it opens");
    for number in 0..300 {
        store.put(format!("key-{number:03}"), vec![7; if number == 9 { 9000 } else { 40 }]).expect("there is room");
    }
    store.checkpoint().expect("there is room");
    store.put("alice", "100").expect("there is room");
    store.delete("key-100").expect("there is room");
    if is_closed {
        store.close().expect("it closes");
    }
}

/// Three hundred orders in segments of 8 KiB, with a checkpoint; closed, or as a process that died left it.
fn log(dir: &Path, is_closed: bool) {
    let place = if is_closed { dir.to_owned() } else { dir.with_extension("open") };
    let log =
        Wal::opener(settings()).log_id([7; 16]).clock(Arc::new(ManualClock::default())).open(&place).expect("it opens");
    for number in 1..=300 {
        let payload = format!("order {number:03}: {} apples", number % 7 + 1);
        let record_type = RecordType::new(if number % 10 == 0 { 7 } else { 1 }).expect("it is small");
        let options = AppendOptions::new().record_type(record_type);
        let lsn = log.append_with(payload.as_bytes(), options).expect("there is room");
        if number == 90 {
            log.declare_checkpoint(lsn).expect("it is durable");
        }
    }
    if is_closed {
        log.close().expect("it closes");
        return;
    }
    fs::create_dir(dir).expect("it is absent");
    for entry in fs::read_dir(&place).expect("it is there") {
        let entry = entry.expect("the entry can be read");
        fs::copy(entry.path(), dir.join(entry.file_name())).expect("it can be copied");
    }
    log.close().expect("it closes");
    fs::remove_dir_all(place).expect("it is there");
}

fn damage(dir: &Path, file: &str, change: impl FnOnce(&mut Vec<u8>)) {
    log(dir, true);
    let path = dir.join(file);
    let mut bytes = fs::read(&path).expect("the file is there");
    change(&mut bytes);
    fs::write(path, bytes).expect("the file can be written");
}

fn remove(dir: &Path, file: &str) {
    log(dir, true);
    fs::remove_file(dir.join(file)).expect("the file is there");
}
