//! Damage of every kind to every bit of a log of 64 KiB in several segments: it is found, named, and never a silent loss.
//!
//! `WAL_TEST_DEEP=1` flips every bit and tries every length. Otherwise every bit of every field of the control file, of segment headers and
//! of frame headers is flipped, and every length next to one is tried; of what lies between, every so many.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use wal::fs::sim::SimFs;
use wal::inspect::{Depth, Outcome, survey};
use wal::{Background, Config, Error, ErrorKind, LogReader, Lsn, ManualClock, Record, SyncMode, Wal};
use wal_tests::settings::{is_deep, share};
use wal_tests::workers;

const DIR: &str = "/log";

fn config(verify_bytes_on_open: u64) -> Config {
    Config {
        segment_bytes_max: 8 << 10,
        reserve_bytes: 0,
        direct_io: false,
        background: Background::Inline,
        sync_mode: SyncMode::None,
        verify_bytes_on_open,
        ..Config::default()
    }
}

fn open(fs: &SimFs, verify_bytes_on_open: u64) -> wal::Result<Wal> {
    let opener = Wal::opener(config(verify_bytes_on_open)).file_system(Arc::new(fs.clone()));
    opener.clock(Arc::new(ManualClock::default())).log_id([7; 16]).open(DIR)
}

/// Several segments: records of many sizes, batches, a cut and a truncation.
fn write(fs: &SimFs) -> Wal {
    let log = open(fs, 0).expect("a new log");
    let append = |from: usize, count: usize| -> Vec<Lsn> {
        (from..from + count)
            .map(|number| log.append(&vec![number as u8; number * 37 % 400]).expect("an append"))
            .collect()
    };
    let first = append(0, 90);
    log.append_batch(&["one", "", "three"]).expect("a batch");
    let cut = append(90, 20);
    log.truncate_before(first[3]).expect("a truncation");
    log.truncate_after(cut[10]).expect("a cut");
    append(110, 80);
    log.flush().expect("a flush");
    log
}

/// A log that was closed, and what is in it.
fn closed() -> (SimFs, Vec<Record>) {
    let fs = SimFs::new(1);
    let log = write(&fs);
    let records = read(&log).expect("a good log");
    log.close().expect("a clean close");
    (fs, records)
}

/// A log whose process died; the last records were never synced. And what was in it, and how many records of that were witnessed.
fn killed() -> (SimFs, Vec<Record>, usize) {
    let fs = SimFs::new(1);
    let log = write(&fs);
    let mut records = read(&log).expect("a good log");
    // This record carries the witness of all before it.
    log.append(b"witness").expect("an append");
    let witnessed = records.len();
    log.append(b"unsynced").expect("an append");
    let killed = fs.kill();
    log.flush().expect("a flush");
    records = read(&log).expect("a good log").into_iter().chain(records.drain(..0)).collect();
    (killed, records, witnessed)
}

fn read(log: &Wal) -> wal::Result<Vec<Record>> {
    log.reader(Lsn::ZERO)?.collect()
}

fn read_files(fs: &SimFs) -> wal::Result<Vec<Record>> {
    LogReader::open_with(fs, DIR)?.reader(Lsn::ZERO)?.collect()
}

/// Records as they were appended. The number of the segment changes when a log is recovered.
fn same(one: &[Record], two: &[Record]) -> bool {
    let equal = |(one, two): (&Record, &Record)| {
        (one.lsn, one.record_type, &one.payload) == (two.lsn, two.record_type, &two.payload)
    };
    one.len() == two.len() && one.iter().zip(two).all(equal)
}

fn path(name: &str) -> String {
    format!("{DIR}/{name}")
}

/// The files that mean something; `lock` and `reserve` hold nothing.
fn files(fs: &SimFs) -> Vec<String> {
    let names = fs.names(Path::new(DIR)).expect("the directory is there");
    names.into_iter().filter(|name| name == "control" || name.ends_with(".wal")).collect()
}

fn segment_of(name: &str) -> Option<u64> {
    u64::from_str_radix(name.strip_suffix(".wal")?, 16).ok()
}

/// So many bits are passed over where there is no field, and so many lengths. Neither divides eight, so that each bit of a byte has its turn.
const BIT_STRIDE: u64 = 7;
const LENGTH_STRIDE: u64 = 5;

/// The bytes of a header, of the control file or a segment, that mean something, by `specs/format.md`, and then some.
const HEADER_FIELDS: u64 = 160;
/// The header of a frame and the first bytes of its payload.
const FRAME_FIELDS: u64 = 24 + 2;

/// Where the fields of each file are.
fn fields(fs: &SimFs) -> BTreeMap<String, BTreeSet<u64>> {
    let mut fields: BTreeMap<String, BTreeSet<u64>> =
        files(fs).into_iter().map(|name| (name, (0..HEADER_FIELDS).collect())).collect();
    let survey = survey(fs, DIR, Depth::Full, |_| {}).expect("a survey");
    for record in read_files(fs).expect("a good log") {
        let of_record = survey.segments.iter().find(|segment| segment_of(&segment.file_name) == Some(record.segment));
        let segment = of_record.expect("a segment of the log");
        let offset = 4096 + record.lsn.distance_from(segment.base_lsn.expect("a good segment"));
        fields.entry(segment.file_name.clone()).or_default().extend(offset..offset + FRAME_FIELDS);
    }
    fields
}

/// Every bit of every file, or those of the fields and every so many of the others.
fn bits(fs: &SimFs) -> Vec<(String, u64, u8)> {
    let fields = fields(fs);
    let mut chosen = Vec::new();
    for name in files(fs) {
        let bytes = fs.read_file(path(&name)).expect("a file").len() as u64;
        let is_chosen = |bit: &u64| is_deep() || fields[&name].contains(&(bit / 8)) || bit.is_multiple_of(BIT_STRIDE);
        chosen.extend((0..bytes * 8).filter(is_chosen).map(|bit| (name.clone(), bit / 8, (bit % 8) as u8)));
    }
    share(chosen)
}

/// Every length that is shorter than the file, or those inside of fields and every so many of the others, and one byte less in any case.
fn lengths(fs: &SimFs) -> Vec<(String, u64)> {
    let fields = fields(fs);
    let mut chosen = Vec::new();
    for name in files(fs) {
        let bytes = fs.read_file(path(&name)).expect("a file").len() as u64;
        let is_special = |length: u64| fields[&name].contains(&length) || length + 1 == bytes || length == 4096;
        let is_chosen = |length: &u64| is_deep() || is_special(*length) || length.is_multiple_of(LENGTH_STRIDE);
        chosen.extend((0..bytes).filter(is_chosen).map(|length| (name.clone(), length)));
    }
    share(chosen)
}

/// Does `check` with each item, on all cores, and tells what failed.
fn check_each<T: Sync>(what: &str, items: &[T], check: impl Fn(&mut Failures, &T) + Sync) {
    let failures = Mutex::new(Failures::default());
    let portions: Vec<&[T]> = items.chunks(256).collect();
    let label = |_: &&[T]| what.to_owned();
    workers::for_each(&portions, label, |portion| {
        let mut own = Failures::default();
        portion.iter().for_each(|item| check(&mut own, item));
        failures.lock().expect("no worker panics with it").found.append(&mut own.found);
    });
    println!("{what}: {} cases", items.len());
    failures.into_inner().expect("no worker panics with it").tell();
}

fn shorten(fs: &SimFs, name: &str, length: u64) {
    let bytes = fs.read_file(path(name)).expect("a file");
    fs.write_file(path(name), &bytes[..length as usize]).expect("a file");
}

fn is_damage(error: &Error) -> bool {
    // A damaged version field may look like a newer version only if the checksum is right, which it is not.
    error.kind() == ErrorKind::Corruption
}

/// What was not as it must be. All of it is told in the end.
#[derive(Default)]
struct Failures {
    found: Vec<String>,
}

impl Failures {
    fn check(&mut self, is_right: bool, what: impl FnOnce() -> String) {
        if !is_right {
            self.found.push(what());
        }
    }

    #[track_caller]
    fn tell(self) {
        let shown: Vec<&String> = self.found.iter().take(if is_deep() { 1000 } else { 12 }).collect();
        assert!(shown.is_empty(), "{} failures, of which the first are {shown:#?}", self.found.len());
    }
}

/// The damage of one file of a closed log is found by a full survey and by an open, with its place, and a quick open loses nothing
/// silently.
fn check_closed(failures: &mut Failures, fs: &SimFs, records: &[Record], name: &str, what: &str) {
    let before = fs.fingerprint();
    let found = survey(fs, DIR, Depth::Full, |_| {}).unwrap_or_else(|error| panic!("{what}: survey: {error}"));
    if let Outcome::Fail(error) = &found.outcome {
        let has_place = match segment_of(name) {
            Some(_) => error.segment().is_some() || error.path().is_some(),
            None => error.to_string().contains("control"),
        };
        failures.check(is_damage(error) && has_place, || format!("{what}: survey: {error}"));
    } else {
        failures.check(false, || format!("{what}: the survey says {:?}", found.outcome));
    }
    match open(fs, 64 << 20) {
        Ok(_) => return failures.check(false, || format!("{what}: opened")),
        Err(error) => failures.check(is_damage(&error), || format!("{what}: open: {error}")),
    }
    match read_files(fs) {
        Ok(found) => {
            failures.check(false, || format!("{what}: {} of {} records, no error", found.len(), records.len()))
        }
        Err(error) => failures.check(is_damage(&error), || format!("{what}: read: {error}")),
    }
    failures.check(fs.fingerprint() == before, || format!("{what}: something was changed"));
    match open(fs, 0).and_then(|log| read(&log)) {
        Ok(found) => failures.check(same(&found, records), || format!("{what}: quick open, {} records", found.len())),
        Err(error) => failures.check(is_damage(&error), || format!("{what}: quick open: {error}")),
    }
}

/// Damage of a log that was not closed: all witnessed records are there, or an error says what is wrong. What is there is a prefix.
/// Returns whether the log opens.
fn check_killed(failures: &mut Failures, fs: &SimFs, records: &[Record], witnessed: usize, what: &str) -> bool {
    let mut is_prefix = |how: &str, found: &[Record]| {
        let is_whole = found.len() >= witnessed && found.len() <= records.len();
        let count = found.len();
        failures.check(is_whole && same(found, &records[..count.min(records.len())]), || {
            format!("{what}: {how}: {count} records, {witnessed} were witnessed, and no error")
        });
    };
    let shown = survey(fs, DIR, Depth::Full, |_| {}).unwrap_or_else(|error| panic!("{what}: survey: {error}")).outcome;
    let (files, opened) = (read_files(fs), open(fs, 64 << 20).and_then(|log| read(&log)));
    for (how, found) in [("files", &files), ("open", &opened)] {
        if let Ok(found) = found {
            is_prefix(how, found);
        }
    }
    for error in [&files, &opened].into_iter().filter_map(|result| result.as_ref().err()) {
        failures.check(is_damage(error), || format!("{what}: {error}"));
    }
    let agrees = opened.is_err() == matches!(shown, Outcome::Fail(_));
    failures.check(agrees, || format!("{what}: the survey says {shown:?}, the open {:?}", opened.as_ref().err()));
    opened.is_ok()
}

/// Where the frames of a segment end. What is behind, in a segment that was full, means nothing.
fn used_bytes(fs: &SimFs, name: &str) -> u64 {
    let survey = survey(fs, DIR, Depth::Full, |_| {}).expect("a survey");
    let segment = survey.segments.iter().find(|segment| segment.file_name == name);
    let used = segment.and_then(|segment| Some(4096 + segment.end_lsn?.distance_from(segment.base_lsn?)));
    used.unwrap_or(u64::MAX)
}

fn used_of_all(fs: &SimFs) -> BTreeMap<String, u64> {
    files(fs).into_iter().map(|name| (name.clone(), used_bytes(fs, &name))).collect()
}

/// A change of what means nothing changes nothing.
fn check_harmless(failures: &mut Failures, fs: &SimFs, records: &[Record], what: &str) {
    let files = read_files(fs);
    failures.check(files.as_ref().is_ok_and(|found| same(found, records)), || format!("{what}: {:?}", files.err()));
    let opened = open(fs, 64 << 20).and_then(|log| read(&log));
    failures.check(opened.as_ref().is_ok_and(|found| same(found, records)), || format!("{what}: {:?}", opened.err()));
}

#[test]
fn the_logs_are_what_the_tests_take_them_for() {
    let (fs, records) = closed();
    let bytes: usize = files(&fs).iter().map(|name| fs.read_file(path(name)).expect("a file").len()).sum();
    assert!(files(&fs).len() >= 9 && bytes >= 64 << 10, "{bytes} bytes in {:?}", files(&fs));
    let found = survey(&fs, DIR, Depth::Full, |_| {}).expect("a survey");
    assert!(matches!(found.outcome, Outcome::Clean), "{:?}", found.outcome);
    assert!(same(&read_files(&fs).expect("a good log"), &records));
    assert!(same(&open(&fs, 0).and_then(|log| read(&log)).expect("a good log"), &records));

    let (fs, records, witnessed) = killed();
    assert!(witnessed + 2 == records.len() && records.len() > 50);
    let mut failures = Failures::default();
    assert!(check_killed(&mut failures, &fs, &records, records.len(), "undamaged"));
    failures.tell();
}

#[test]
fn every_flipped_bit_of_a_closed_log_is_found() {
    let (fs, records) = closed();
    let used = used_of_all(&fs);
    check_each("flipped bits of a closed log", &bits(&fs), |failures, (name, offset, bit)| {
        let damaged = fs.kill();
        damaged.flip_bit(path(name), *offset, *bit).expect("a bit of the file");
        let what = format!("{name}, byte {offset}, bit {bit}");
        if *offset < used[name] {
            check_closed(failures, &damaged, &records, name, &what);
        } else {
            check_harmless(failures, &damaged, &records, &what);
        }
    });
}

#[test]
fn every_shorter_file_of_a_closed_log_is_found() {
    let (fs, records) = closed();
    let used = used_of_all(&fs);
    check_each("lengths of a closed log", &lengths(&fs), |failures, (name, length)| {
        let damaged = fs.kill();
        shorten(&damaged, name, *length);
        let what = format!("{name} of {length} bytes");
        if *length < used[name] {
            check_closed(failures, &damaged, &records, name, &what);
        } else {
            check_harmless(failures, &damaged, &records, &what);
        }
    });
}

#[test]
fn every_removed_file_of_a_closed_log_is_found() {
    let (fs, records) = closed();
    let mut failures = Failures::default();
    for name in files(&fs) {
        let damaged = fs.kill();
        damaged.remove_file(path(&name)).expect("a file");
        check_closed(&mut failures, &damaged, &records, &name, &format!("{name} removed"));
    }
    failures.tell();
}

#[test]
fn no_flipped_bit_of_a_killed_log_loses_a_witnessed_record_silently() {
    let (fs, records, witnessed) = killed();
    let opened = AtomicU64::new(0);
    check_each("flipped bits of a killed log", &bits(&fs), |failures, (name, offset, bit)| {
        let damaged = fs.kill();
        damaged.flip_bit(path(name), *offset, *bit).expect("a bit of the file");
        let what = format!("{name}, byte {offset}, bit {bit}");
        let opens = check_killed(failures, &damaged, &records, witnessed, &what);
        opened.fetch_add(u64::from(opens), Ordering::Relaxed);
    });
    println!("{} of them in what no witness covers", opened.into_inner());
}

#[test]
fn no_shorter_file_of_a_killed_log_loses_a_witnessed_record_silently() {
    let (fs, records, witnessed) = killed();
    check_each("lengths of a killed log", &lengths(&fs), |failures, (name, length)| {
        let damaged = fs.kill();
        shorten(&damaged, name, *length);
        // The end of the last segment may be gone as a whole, and then nothing behind tells that there was a witness.
        let is_last = files(&fs).iter().rfind(|name| name.ends_with(".wal")) == Some(name);
        let reached = if is_last { witnessed_below(&fs, name, *length) } else { witnessed };
        check_killed(failures, &damaged, &records, reached.min(witnessed), &format!("{name} of {length} bytes"));
    });
}

/// How many records something outside the bytes at and behind `length` of the last segment proves to be durable.
fn witnessed_below(fs: &SimFs, name: &str, length: u64) -> usize {
    let kept = fs.kill();
    shorten(&kept, name, length);
    let witness = survey(&kept, DIR, Depth::Full, |_| {}).expect("a survey").witness_lsn;
    read_files(fs).expect("a good log").iter().filter(|record| record.lsn < witness).count()
}
