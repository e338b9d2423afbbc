//! A log of format version 1, byte for byte. What was written once must be read for ever, and is written the same way.
//!
//! `WAL_GOLDEN_WRITE=1` writes the files anew: only when a new version of the format is meant.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::inspect::{Depth, Outcome, survey};
use wal::{AppendOptions, Background, Batch, Config, LogReader, Lsn, ManualClock, RecordType, SyncMode, Wal};

const DIR: &str = "/log";
const LISTING: &str = "listing.txt";

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden").join("v1")
}

fn config() -> Config {
    Config {
        segment_bytes_max: 8 << 10,
        reserve_bytes: 0,
        direct_io: false,
        sync_mode: SyncMode::Sync,
        background: Background::Inline,
        ..Config::default()
    }
}

/// Types, an empty record, a batch, a rotation, a gap that a cut left, a clean close.
fn write_log() -> SimFs {
    let fs = SimFs::new(1);
    let clock = Arc::new(ManualClock::default());
    clock.advance(Duration::from_secs(1_700_000_000));
    let opener = Wal::opener(config()).file_system(Arc::new(fs.clone())).log_id(*b"golden log, v. 1");
    let log = opener.clock(Arc::<ManualClock>::clone(&clock)).open(DIR).expect("a new log");
    log.append(b"the first record").expect("an append");
    log.append(b"").expect("an append");
    let typed = |number| RecordType::new(number).expect("a type of the user");
    log.append_with(b"of type 7", AppendOptions::new().record_type(typed(7))).expect("an append");
    let last = typed(RecordType::MAX).ignorable();
    log.append_with(b"of the last type, may be ignored", AppendOptions::new().record_type(last)).expect("an append");
    let mut batch = Batch::new();
    batch.push(b"first of three").push_typed(typed(2).ignorable(), b"").push_typed(typed(3), b"last of three");
    log.append_all(&batch, AppendOptions::new()).expect("a batch");
    clock.advance(Duration::from_secs(1));
    let kept = log.append(&[0xA5; 3000]).expect("an append");
    log.append(&[0x5A; 2000]).expect("an append to the next segment");
    log.append(b"cut off").expect("an append");
    log.truncate_after(kept).expect("a cut");
    log.append(b"behind the gap").expect("an append");
    log.declare_checkpoint(kept).expect("a checkpoint");
    clock.advance(Duration::from_secs(1));
    log.close().expect("a clean close");
    fs
}

/// The bytes of all files; `lock` is empty and needs none.
fn files_of(fs: &SimFs) -> BTreeMap<String, Vec<u8>> {
    let names = fs.names(DIR).expect("the directory is there");
    let names = names.into_iter().filter(|name| name != "lock");
    names.map(|name| (name.clone(), fs.read_file(format!("{DIR}/{name}")).expect("a file"))).collect()
}

/// The golden files, without the listing.
fn golden_files() -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(golden_dir()).expect("the golden files are there");
    let names = entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned());
    let names = names.filter(|name| name != LISTING);
    names.map(|name| (name.clone(), std::fs::read(golden_dir().join(name)).expect("a golden file"))).collect()
}

fn load(files: &BTreeMap<String, Vec<u8>>) -> SimFs {
    let fs = SimFs::new(2);
    wal::fs::FileSystem::create_dir(&fs, std::path::Path::new(DIR)).expect("a directory");
    for (name, bytes) in files {
        fs.write_file(format!("{DIR}/{name}"), bytes).expect("a file");
    }
    fs
}

/// What a reader sees, as text.
fn listing(fs: &SimFs) -> String {
    let mut text = String::new();
    let found = survey(fs, DIR, Depth::Full, |_| {}).expect("a survey");
    assert!(matches!(found.outcome, Outcome::Clean), "{:?}", found.outcome);
    let control = found.control.expect("a control file");
    let line =
        |text: &mut String, words: std::fmt::Arguments<'_>| writeln!(text, "{words}").expect("text can be written");
    line(&mut text, format_args!("log {} from {} to {}", control.log_id, found.start_lsn, found.end_lsn));
    line(
        &mut text,
        format_args!(
            "control sequence {} witness {} checkpoint {:?} written {}",
            control.sequence,
            control.witness_lsn,
            control.checkpoint_lsn.map(Lsn::get),
            control.written_micros
        ),
    );
    for segment in &found.segments {
        line(
            &mut text,
            format_args!(
                "{} bytes {} epoch {:?} base {:?} end {:?} witness {:?} created {:?}",
                segment.file_name,
                segment.file_bytes,
                segment.epoch,
                segment.base_lsn.map(Lsn::get),
                segment.end_lsn.map(Lsn::get),
                segment.witness_lsn.map(Lsn::get),
                segment.created_micros
            ),
        );
    }
    let reader = LogReader::open_with(fs, DIR).expect("the log opens for reading");
    let mut reader = reader.reader(Lsn::ZERO).expect("a reader");
    while let Some(record) = reader.next_record().expect("a record") {
        let shown = if record.payload.len() > 40 {
            format!("{} times {:#04x}", record.payload.len(), record.payload[0])
        } else {
            format!("{:?}", String::from_utf8_lossy(record.payload))
        };
        line(
            &mut text,
            format_args!(
                "{} in {} type {:#06x}{}{} witness {}: {shown}",
                record.lsn,
                record.segment,
                record.record_type.get(),
                if record.record_type.is_ignorable() { " ignorable" } else { "" },
                if record.continues { " continues" } else { "" },
                record.witness
            ),
        );
    }
    text
}

fn rewrite_if_asked() {
    if std::env::var_os("WAL_GOLDEN_WRITE").is_none_or(|value| value != "1") {
        return;
    }
    let fs = write_log();
    let dir = golden_dir();
    std::fs::create_dir_all(&dir).expect("the directory of the golden files");
    for entry in std::fs::read_dir(&dir).expect("the golden files") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("an old golden file");
    }
    for (name, bytes) in files_of(&fs) {
        std::fs::write(dir.join(name), bytes).expect("a golden file");
    }
    std::fs::write(dir.join(LISTING), listing(&fs)).expect("the listing");
}

/// One test, so that the files are not read while they are written anew.
#[test]
fn the_golden_files_are_read_and_written_as_ever() {
    rewrite_if_asked();
    let golden = golden_files();
    assert!(golden.len() >= 3, "{:?}", golden.keys());

    // (a) What was written by the version that made them is read by this one.
    let expected = std::fs::read_to_string(golden_dir().join(LISTING)).expect("the listing");
    let fs = load(&golden);
    assert_eq!(listing(&fs), expected);
    let log = Wal::opener(config()).file_system(Arc::new(fs.clone())).open(DIR).expect("the golden log opens");
    let found = log.reader(Lsn::ZERO).expect("a reader").map(|record| record.expect("a record"));
    let in_listing = expected.lines().filter(|line| line.contains(" type ")).count();
    assert_eq!(found.count(), in_listing);
    log.append(b"it goes on").expect("an append");
    log.close().expect("a clean close");

    // (b) The same operations write the same bytes.
    let written = files_of(&write_log());
    assert_eq!(written.keys().collect::<Vec<_>>(), golden.keys().collect::<Vec<_>>());
    for (name, bytes) in &written {
        let differs = bytes.iter().zip(&golden[name]).position(|(new, old)| new != old);
        assert_eq!((differs, bytes.len()), (None, golden[name].len()), "{name} differs at this offset, or in its size");
    }
}
