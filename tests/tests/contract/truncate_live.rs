//! Truncation while other threads append, read and follow.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use wal::fs::sim::{Event, Operation};
use wal::{Boundary, Config, ErrorKind, Lsn, TruncatePolicy, Wal};

use crate::world::{LONG, World, fill, lsns, modes, payloads, records, small, small_with};

on_both_file_systems! {
    appends_go_on_while_the_log_is_truncated,
    readers_go_on_or_are_told_while_the_log_is_truncated,
    a_follower_with_a_hold_misses_nothing_while_the_log_is_truncated,
    a_follower_without_a_hold_is_told_when_it_is_overtaken,
    cuts_while_appending_never_reuse_an_lsn,
    a_files_reader_survives_truncation_or_is_told,
    a_files_reader_that_stood_anywhere_before_the_start_leaves_no_record_out_without_a_word,
    a_reader_that_stood_before_the_start_goes_on_if_it_has_its_segment_or_is_told,
    a_removed_segment_that_has_another_name_keeps_its_bytes,
}

fn number(payload: &[u8]) -> u64 {
    u64::from_le_bytes(payload[..8].try_into().unwrap())
}

/// A record with this number.
fn numbered(number: u64) -> Vec<u8> {
    let mut bytes = number.to_le_bytes().to_vec();
    bytes.resize(8 + (number % 300) as usize, number as u8);
    bytes
}

fn is_whole(payload: &[u8]) -> bool {
    payload == numbered(number(payload))
}

/// Says that it is over even when the test fails, so that no other thread waits for ever.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

const COUNT: u64 = 300;

/// Appends numbered records in this thread.
fn append_numbered(log: &Wal) {
    for number in 0..COUNT {
        log.append(&numbered(number)).unwrap();
    }
}

/// Truncates the log again and again until it is over.
fn truncate_until(log: &Wal, is_over: &AtomicBool) {
    let (mut round, mut start) = (0, log.start_lsn().get());
    while !is_over.load(Ordering::SeqCst) {
        let policy = if round % 3 == 0 { TruncatePolicy::WholeSegments } else { TruncatePolicy::RewriteBoundary };
        let back = log.durable_lsn().get().saturating_sub(1000 + round % 5 * 3000);
        match log.truncate_before_with(Lsn::new(back), policy) {
            Ok(done) => {
                assert!(done.start_lsn.get() <= start.max(back + 400), "it went further than it was asked to");
                start = done.start_lsn.get();
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::Refused, "{error}"),
        }
        round += 1;
    }
}

fn appends_go_on_while_the_log_is_truncated(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| truncate_until(&log, &is_over));
            let _over = Over(&is_over);
            append_numbered(&log);
        });
        log.flush().unwrap();
        let found = payloads(&log);
        assert!(found.iter().all(|payload| is_whole(payload)));
        let numbers: Vec<u64> = found.iter().map(|payload| number(payload)).collect();
        assert_eq!(numbers, (COUNT - numbers.len() as u64..COUNT).collect::<Vec<_>>(), "what is left is the end");
        log.truncate_before(log.durable_lsn()).unwrap();
        log.close().unwrap();
        assert!(world.read_files().0.is_empty());
    }
}

fn readers_go_on_or_are_told_while_the_log_is_truncated(world: &World) {
    let log = world.open(small());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| truncate_until(&log, &is_over));
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_over.load(Ordering::SeqCst) {
                    let mut last = None;
                    for record in log.reader(Lsn::ZERO).unwrap() {
                        match record {
                            Ok(record) => {
                                assert!(is_whole(&record.payload));
                                let number = number(&record.payload);
                                assert!(last.is_none_or(|last| number == last + 1), "{number} after {last:?}");
                                last = Some(number);
                            }
                            Err(error) => {
                                assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                                break;
                            }
                        }
                    }
                }
            });
        }
        let _over = Over(&is_over);
        append_numbered(&log);
    });
    log.close().unwrap();
}

fn a_follower_with_a_hold_misses_nothing_while_the_log_is_truncated(world: &World) {
    let log = world.open(small());
    let is_over = AtomicBool::new(false);
    let hold = log.hold("follower", Lsn::FIRST).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| truncate_until(&log, &is_over));
        let follower = scope.spawn(|| {
            let mut follower = log.follow(Lsn::ZERO).unwrap();
            for expected in 0..COUNT {
                let record = follower.next_timeout(LONG).unwrap().unwrap();
                assert_eq!(record.payload, numbered(expected));
                hold.advance(follower.position_lsn());
            }
        });
        let _over = Over(&is_over);
        append_numbered(&log);
        follower.join().unwrap();
    });
    log.close().unwrap();
}

fn a_follower_without_a_hold_is_told_when_it_is_overtaken(world: &World) {
    let log = world.open(small());
    let mut follower = log.follow(Lsn::ZERO).unwrap();
    fill(&log, 40);
    follower.next_record().unwrap();
    log.truncate_before(log.durable_lsn()).unwrap();
    let next = log.append(b"after the truncation").unwrap();
    let error = loop {
        // What it has read ahead of its own segment it may still return.
        match follower.next_record() {
            Ok(record) => assert!(record.lsn < next, "a gap that nobody was told of"),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::Truncated);
    let mut follower = log.follow(log.start_lsn()).unwrap();
    assert_eq!(follower.next_record().unwrap().lsn, next);
    log.close().unwrap();
}

fn cuts_while_appending_never_reuse_an_lsn(world: &World) {
    let log = world.open(Config { segment_bytes_max: 16 << 10, ..Config::default() });
    let is_over = AtomicBool::new(false);
    let mut all: Vec<Lsn> = std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| (0..80).map(|number| log.append(&numbered(number)).unwrap()).collect::<Vec<_>>()))
            .collect();
        scope.spawn(|| {
            let mut seen = Lsn::ZERO;
            while !is_over.load(Ordering::SeqCst) {
                if log.durable_lsn() <= seen {
                    std::thread::yield_now();
                    continue;
                }
                seen = log.durable_lsn();
                let back = Lsn::new(seen.get().saturating_sub(5000).max(4096));
                let done = log.truncate_after(back).unwrap();
                assert!(done.next_lsn >= done.end_lsn);
            }
        });
        let _over = Over(&is_over);
        appenders.into_iter().flat_map(|appender| appender.join().unwrap()).collect()
    });
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count, "an LSN was given twice");
    let left = records(&log);
    assert!(left.iter().all(|record| is_whole(&record.payload) && all.binary_search(&record.lsn).is_ok()));
    let expected = lsns(&log);
    log.close().unwrap();
    let log = world.open(small());
    assert_eq!(lsns(&log), expected);
    log.close().unwrap();
}

fn a_files_reader_survives_truncation_or_is_told(world: &World) {
    let log = world.open(Config { recycle_segments_max: 0, ..small() });
    let lsns_before = fill(&log, 60);
    let mut reader = world.log_reader().reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().lsn, lsns_before[0]);
    log.truncate_before(lsns_before[50]).unwrap();
    let mut last = lsns_before[0];
    let ended = loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                let at = lsns_before.iter().position(|lsn| *lsn == record.lsn).unwrap();
                assert_eq!(lsns_before[at - 1], last, "it skipped records without a word");
                last = record.lsn;
            }
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    match ended {
        None => assert_eq!(Some(&last), lsns_before.last(), "a silent end"),
        Some(error) => assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
    }
    log.close().unwrap();
}

fn a_files_reader_that_stood_anywhere_before_the_start_leaves_no_record_out_without_a_word(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 120);
    let mut truncated = 0;
    // At the end of a segment too, of which the next one then begins behind what the reader wants.
    for start in (0..110).step_by(5) {
        let mut reader = world.log_reader().reader(all[start]).unwrap();
        assert_eq!(reader.next_record().unwrap().unwrap().lsn, all[start]);
        log.truncate_before(all[start + 5]).unwrap();
        for expected in &all[start + 1..] {
            match reader.next_record() {
                Ok(Some(record)) => assert_eq!(record.lsn, *expected, "after LSN {}", all[start]),
                Ok(None) => panic!("a silent end"),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Truncated, "{error}");
                    assert_eq!(error.lsn(), Some(*expected));
                    truncated += 1;
                    break;
                }
            }
        }
    }
    assert!(truncated > 0);
    log.close().unwrap();
}

fn a_reader_that_stood_before_the_start_goes_on_if_it_has_its_segment_or_is_told(world: &World) {
    let log = world.open(small());
    let lsns_before = fill(&log, 60);
    for from in [0, 5, 12, 30, 49] {
        let start = lsns_before.iter().position(|lsn| *lsn == log.start_lsn()).unwrap();
        let mut reader = log.reader(lsns_before[start.max(from)]).unwrap();
        let mut next = start.max(from);
        assert_eq!(reader.next_record().unwrap().unwrap().lsn, lsns_before[next]);
        log.truncate_before(lsns_before[from + 6]).unwrap();
        loop {
            next += 1;
            match reader.next_record() {
                Ok(Some(record)) => assert_eq!(record.lsn, lsns_before[next]),
                Ok(None) => break assert_eq!(next, 60),
                Err(error) => break assert_eq!(error.kind(), ErrorKind::Truncated, "{error}"),
            }
        }
    }
    log.close().unwrap();
}

/// Gives each segment another name outside of the log, as a backup by hard links does. Returns what they hold.
fn link_segments(world: &World, backup: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    std::fs::create_dir(backup).unwrap();
    let names = world.files().into_keys().filter(|name| name.ends_with(".wal"));
    let link = |name: String| {
        std::fs::hard_link(world.path.join(&name), backup.join(&name)).unwrap();
        (backup.join(&name), std::fs::read(backup.join(name)).unwrap())
    };
    names.map(link).collect()
}

fn a_removed_segment_that_has_another_name_keeps_its_bytes(world: &World) {
    if world.is_simulated() {
        // There files have one name.
        return;
    }
    for recycle_segments_max in [0, 2] {
        let log = world.open(Config { recycle_segments_max, ..small() });
        let lsns_before = fill(&log, 60);
        log.truncate_after(*lsns_before.last().unwrap()).unwrap();
        let backup = world.path.with_extension(format!("backup-{recycle_segments_max}"));
        let linked = link_segments(world, &backup);
        let done = log.truncate_before(lsns_before[50]).unwrap();
        assert!(done.segments_removed > 0 && done.boundary == Boundary::Rewritten, "{done:?}");
        // Into the segments that are used again, if there are any.
        fill(&log, 60);
        log.close().unwrap();
        for (path, bytes) in linked.iter().take(done.segments_removed as usize + 1) {
            assert!(std::fs::read(path).unwrap() == *bytes, "{}", path.display());
        }
    }
}

/// The paths of the files that a truncation shrank to nothing, and all that it did.
fn freed_by(world: &World, truncate: impl FnOnce()) -> (Vec<Event>, Vec<Event>) {
    world.sim().record_trace(true);
    truncate();
    let trace = world.sim().take_trace();
    world.sim().record_trace(false);
    let is_freed = |event: &&Event| event.operation == Operation::SetLen && event.length == 0;
    (trace.iter().filter(is_freed).cloned().collect(), trace)
}

#[test]
fn the_space_of_removed_and_replaced_segments_is_given_back_once_that_is_durable() {
    let world = World::simulated();
    let log = world.open(Config { recycle_segments_max: 0, ..small() });
    let lsns_before = fill(&log, 60);
    let mut removed = 0;
    let (freed, trace) = freed_by(&world, || {
        let done = log.truncate_before(lsns_before[50]).unwrap();
        assert_eq!(done.boundary, Boundary::Rewritten);
        removed = done.segments_removed as usize;
    });
    assert_eq!(freed.len(), removed + 1, "all of them");
    let loses_names = |event: &&Event| matches!(event.operation, Operation::Remove | Operation::Rename);
    for event in freed {
        let gone = trace.iter().filter(loses_names).rfind(|other| {
            other.call < event.call
                && (other.path == event.path
                    || other.target.as_ref().is_some_and(|target| event.path.ends_with(target.as_str())))
        });
        let gone = gone.expect("its name went first").call;
        let synced =
            trace.iter().any(|other| other.operation == Operation::SyncDir && (gone..event.call).contains(&other.call));
        assert!(synced, "{} lost its bytes before it lost its name durably", event.path);
    }
    log.close().unwrap();
}

#[test]
fn a_segment_that_somebody_reads_keeps_its_bytes_until_he_is_done() {
    let world = World::simulated();
    let log = world.open(Config { recycle_segments_max: 0, ..small() });
    let lsns_before = fill(&log, 60);
    let mut last = log.reader(lsns_before[50]).unwrap();
    last.next_record().unwrap().unwrap();
    let mut kept = world.log_reader().reader(lsns_before[50]).unwrap();
    let mut truncated = world.log_reader().reader(Lsn::ZERO).unwrap();
    let boundary = kept.next_record().unwrap().unwrap().segment;
    let first = truncated.next_record().unwrap().unwrap().segment;
    assert!(first + 1 < boundary);
    let name_of = |segment: u64| format!("{segment:016x}.wal");
    let (freed, _) = freed_by(&world, || {
        assert_eq!(log.truncate_before(lsns_before[50]).unwrap().boundary, Boundary::Rewritten);
    });
    let is_freed = |freed: &[Event], segment| freed.iter().any(|event| event.path.ends_with(&name_of(segment)));
    assert!(is_freed(&freed, first + 1), "nobody reads it: {freed:?}");
    assert!(!is_freed(&freed, first) && !is_freed(&freed, boundary), "somebody does: {freed:?}");
    let rest: Vec<Lsn> = kept.map(|record| record.unwrap().lsn).collect();
    assert_eq!(rest, lsns_before[51..]);
    drop(last);
    // Both readers of the files are done by now with what they had open, or are told.
    assert_eq!(truncated.find_map(Result::err).map(|error| error.kind()), Some(ErrorKind::Truncated));
    log.close().unwrap();
}

#[test]
fn a_replaced_boundary_keeps_its_bytes_under_a_hold_for_who_copies_it_without_a_lock() {
    let world = World::simulated();
    let log = world.open(Config { recycle_segments_max: 0, ..small() });
    let lsns_before = fill(&log, 60);
    let boundary = log.reader(lsns_before[50]).unwrap().next_record().unwrap().unwrap().segment;
    let hold = log.hold("backup", lsns_before[50]).unwrap();
    let (freed, _) = freed_by(&world, || {
        let done = log.truncate_before(lsns_before[50]).unwrap();
        assert!(done.segments_removed > 0 && done.boundary == Boundary::Rewritten, "{done:?}");
    });
    assert!(!freed.is_empty(), "nobody holds what is before the hold");
    let name = format!("{boundary:016x}.wal");
    assert!(!freed.iter().any(|event| event.path.ends_with(&name)), "it holds records that are held: {freed:?}");
    drop(hold);
    log.close().unwrap();
}
