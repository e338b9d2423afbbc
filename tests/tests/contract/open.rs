//! Opening: settings, creating, what the report says.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use wal::fs::sim::{CrashPlan, SimFs};
use wal::{Background, Config, ErrorKind, FoundState, Lsn, Result, SyncMode, Wal};

use crate::world::{ROOM, World, fill, kind, lazy_batch, lsns, modes, payload, payloads, records, small, small_with};

on_both_file_systems! {
    a_new_log_is_reported_as_created,
    a_setting_out_of_range_is_refused_and_creates_nothing,
    settings_are_rounded_once,
    settings_may_change_from_one_open_to_the_next,
    without_create_a_missing_directory_stays_missing,
    without_create_an_empty_directory_stays_empty,
    without_create_a_log_that_is_there_is_opened,
    a_directory_is_created_with_its_parents,
    a_clean_reopen_reads_the_last_segment_only,
    a_clean_reopen_reads_as_much_as_it_is_told,
    a_clean_reopen_reports_what_it_found,
    the_log_id_stays_the_same,
    the_progress_of_an_open_is_told,
    segments_that_are_read_by_several_threads_are_found_as_by_one,
    damage_elsewhere_does_not_stop_a_quick_open_but_is_found_when_read,
}

fn a_new_log_is_reported_as_created(world: &World) {
    let log = world.open(small());
    let report = log.recovery_report();
    assert_eq!(report.state, FoundState::Created);
    assert_eq!((report.start_lsn, report.end_lsn, report.next_lsn), (Lsn::FIRST, Lsn::FIRST, Lsn::FIRST));
    assert_eq!((report.scanned_records, report.segments_removed, report.cut), (0, 0, None));
    assert_eq!(log.path(), world.path);
    log.close().unwrap();
}

fn a_setting_out_of_range_is_refused_and_creates_nothing(world: &World) {
    let batch = |delay, bytes| SyncMode::Batch { delay, bytes };
    let wrong = [
        ("segment_bytes_max", Config { segment_bytes_max: 8191, ..small() }),
        ("segment_bytes_max", Config { segment_bytes_max: (1 << 30) + 1, ..small() }),
        ("queue_bytes_max", Config { queue_bytes_max: 65_535, ..small() }),
        ("group_bytes_max", Config { group_bytes_max: 4095, ..small() }),
        ("gather_max", Config { gather_max: Duration::from_secs(2), ..small() }),
        ("busy_wait_max", Config { busy_wait_max: Duration::from_secs(2), ..small() }),
        ("reserve_bytes", Config { reserve_bytes: (1 << 30) + 1, ..small() }),
        ("first_lsn", Config { first_lsn: Lsn::new(4100), ..small() }),
        ("first_lsn", Config { first_lsn: Lsn::ZERO, ..small() }),
        ("first_lsn", Config { first_lsn: Lsn::LIMIT, ..small() }),
        ("batch", small_with(batch(Duration::ZERO, 1))),
        ("batch", small_with(batch(Duration::from_secs(3601), 1))),
        ("batch", small_with(batch(Duration::from_secs(1), 0))),
    ];
    for (name, config) in wrong {
        let error = world.try_open(config).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.to_string().contains(name), "{error}");
        assert!(!world.has_dir());
    }
}

fn settings_are_rounded_once(world: &World) {
    let log = world.open(Config { segment_bytes_max: 12_287, ..small() });
    assert_eq!(log.config().segment_bytes_max, 8192);
    log.close().unwrap();
}

fn settings_may_change_from_one_open_to_the_next(world: &World) {
    let mut expected = Vec::new();
    for (round, segment_bytes_max) in [8 << 10, 64 << 10, 16 << 10, 1 << 20, 8 << 10].into_iter().enumerate() {
        let mode = modes()[round % 3];
        let log = world.open(Config { segment_bytes_max, direct_io: round % 2 == 0, ..Config::with_mode(mode) });
        assert_eq!(payloads(&log), expected);
        for number in 0..30 {
            log.append(&payload(number, 1000)).unwrap();
            expected.push(payload(number, 1000));
        }
        let largest = vec![round as u8; segment_bytes_max as usize - 4096 - 24];
        log.append(&largest).unwrap();
        expected.push(largest);
        log.close().unwrap();
    }
    assert_eq!(world.read_files().0.len(), expected.len());
}

fn without_create_a_missing_directory_stays_missing(world: &World) {
    assert_eq!(kind(world.try_open(Config { create: false, ..small() })), ErrorKind::NotFound);
    assert!(!world.has_dir());
}

fn without_create_an_empty_directory_stays_empty(world: &World) {
    world.make_dir();
    assert_eq!(kind(world.try_open(Config { create: false, ..small() })), ErrorKind::NotFound);
    assert!(world.names().is_empty());
}

fn without_create_a_log_that_is_there_is_opened(world: &World) {
    world.open(small()).close().unwrap();
    world.open(Config { create: false, ..small() }).close().unwrap();
}

fn a_directory_is_created_with_its_parents(world: &World) {
    let path = world.path.join("missing").join("log");
    let opened = Wal::opener(small()).file_system(Arc::clone(&world.fs)).open(&path);
    let log = opened.unwrap();
    assert_eq!((world.names(), log.path()), (expected_dir(world), path.as_path()));
    log.close().unwrap();
}

/// How the name of the directory `missing` is listed.
fn expected_dir(world: &World) -> Vec<String> {
    vec![if world.is_simulated() { "missing/".to_owned() } else { "missing".to_owned() }]
}

fn a_clean_reopen_reads_the_last_segment_only(world: &World) {
    let log = world.open(small());
    fill(&log, 200);
    let in_last = records(&log).iter().filter(|record| record.segment == log.stats().segments).count();
    log.close().unwrap();
    let log = world.open(Config { verify_bytes_on_open: 0, ..small() });
    let report = log.recovery_report();
    assert!(report.segments > 10);
    assert_eq!(report.scanned_bytes, in_last as u64 * 328);
    assert_eq!(report.scanned_records, in_last as u64);
    assert_eq!(records(&log).len(), 200);
    log.close().unwrap();
}

fn a_clean_reopen_reads_as_much_as_it_is_told(world: &World) {
    let log = world.open(small());
    fill(&log, 200);
    log.close().unwrap();
    let mut before = 0;
    for verify_bytes_on_open in [0, 20_000, 40_000, 1 << 30] {
        let log = world.open(Config { verify_bytes_on_open, ..small() });
        let scanned = log.recovery_report().scanned_bytes;
        assert!(scanned > before && scanned <= verify_bytes_on_open.max(ROOM), "{scanned}");
        before = scanned;
        log.close().unwrap();
    }
    assert_eq!(before, 200 * 328);
}

fn a_clean_reopen_reports_what_it_found(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    log.truncate_before(all[10]).unwrap();
    let (end, segments) = (log.durable_lsn(), log.stats().segments);
    log.close().unwrap();
    let log = world.open(small());
    let report = log.recovery_report();
    assert_eq!(report.state, FoundState::Clean);
    assert_eq!((report.start_lsn, report.end_lsn, report.next_lsn), (all[10], end, end));
    assert_eq!((report.witness_lsn, report.segments, report.cut), (end, segments, None));
    assert_eq!((report.segments_rewritten, report.segments_removed), (0, 0));
    assert!(report.swept.is_empty() && report.stranded.is_empty() && report.foreign.is_empty());
    log.close().unwrap();
}

fn the_log_id_stays_the_same(world: &World) {
    let log = world.open(small());
    let id = log.log_id();
    log.close().unwrap();
    assert_eq!(world.log_reader().log_id(), id);
    let opener = Wal::opener(small()).file_system(Arc::clone(&world.fs)).log_id([9; 16]);
    let log = opener.open(&world.path).unwrap();
    assert_eq!(log.log_id(), id, "an id is given to a log that is created");
    log.close().unwrap();
    assert_ne!(World::real().open(small()).log_id(), id, "two logs have two ids");
}

fn the_progress_of_an_open_is_told(world: &World) {
    let log = world.open(small());
    fill(&log, 100);
    log.close().unwrap();
    let done = Arc::new(AtomicU64::new(0));
    let told = Arc::clone(&done);
    let opener = Wal::opener(small()).file_system(Arc::clone(&world.fs)).on_progress(move |progress| {
        assert!(progress.bytes_done <= progress.bytes_total);
        assert!(told.swap(progress.bytes_done, Ordering::SeqCst) <= progress.bytes_done);
    });
    opener.open(&world.path).unwrap().close().unwrap();
    assert!(done.load(Ordering::SeqCst) > 0);
}

fn segments_that_are_read_by_several_threads_are_found_as_by_one(world: &World) {
    // So much that several threads are worth it.
    let config = |background| Config {
        segment_bytes_max: 1 << 20,
        verify_bytes_on_open: u64::MAX,
        direct_io: false,
        background,
        ..Config::default()
    };
    let log = world.open(config(Background::Threads));
    for number in 0..40 {
        log.append(&payload(number, 300_000)).unwrap();
    }
    log.close().unwrap();
    let open = |background| {
        let told = Arc::new(AtomicU64::new(0));
        let note = Arc::clone(&told);
        let opener = Wal::opener(config(background)).file_system(Arc::clone(&world.fs)).on_progress(move |progress| {
            assert!(note.swap(progress.bytes_done, Ordering::SeqCst) < progress.bytes_done, "never fewer than before");
        });
        let log = opener.open(&world.path)?;
        let report = log.recovery_report().clone();
        log.close().unwrap();
        let done = told.load(Ordering::SeqCst);
        Ok((done, report.segments, report.scanned_bytes, report.scanned_records, report.end_lsn, report.witness_lsn))
    };
    let found: Result<_> = open(Background::Inline);
    let found = found.unwrap();
    assert_eq!((found.1, found.3), (14, 40));
    assert_eq!(open(Background::Threads).unwrap(), found);
    // Of two damaged segments both name the first.
    world.damage("0000000000000009.wal", 5000);
    world.damage("0000000000000003.wal", 5000);
    let error = open(Background::Inline).unwrap_err();
    assert_eq!((error.kind(), error.segment()), (ErrorKind::Corruption, Some(3)));
    assert_eq!(open(Background::Threads).unwrap_err().to_string(), error.to_string());
}

fn damage_elsewhere_does_not_stop_a_quick_open_but_is_found_when_read(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 100);
    log.close().unwrap();
    world.damage("0000000000000002.wal", 4096 + 100);
    assert_eq!(kind(world.try_open(small())), ErrorKind::Corruption);
    let log = world.open(Config { verify_bytes_on_open: 0, ..small() });
    let (found, error) = crate::world::read_on(log.reader(Lsn::ZERO).unwrap());
    let error = error.expect("never skipped");
    assert_eq!((error.kind(), error.segment(), error.offset()), (ErrorKind::Corruption, Some(2), Some(4096)));
    assert_eq!(error.lsn(), Some(all[found.len()]));
    assert_eq!(kind(log.read(all[found.len()])), ErrorKind::Corruption);
    assert_eq!(log.read(all[99]).unwrap().payload, payload(99, 300));
    log.close().unwrap();
}

fn killed(mode: SyncMode, write: impl Fn(&Wal)) -> World {
    let world = World::simulated();
    let log = world.open(Config { direct_io: false, ..small_with(mode) });
    write(&log);
    World::on(world.sim().kill())
}

#[test]
fn a_log_that_was_killed_keeps_all_that_was_appended_in_every_mode() {
    for mode in modes() {
        let world = killed(mode, |log| drop(fill(log, 50)));
        let log = world.open(small());
        let report = log.recovery_report().clone();
        assert_eq!((report.state, report.cut), (FoundState::Kept, None));
        assert_eq!(payloads(&log), (0..50).map(|number| payload(number, 300)).collect::<Vec<_>>());
        assert!(report.segments_rewritten > 0 && report.scanned_records > 0);
        assert!(report.next_lsn >= report.end_lsn && report.end_lsn.distance_from(Lsn::FIRST) == 50 * 328);
        assert_eq!((log.durable_lsn(), log.next_lsn()), (report.next_lsn, report.next_lsn));
        // What is shown is durable: a power loss now takes nothing.
        let after = World::on(world.sim().crash(&CrashPlan::keep_nothing()));
        let log = after.open(small());
        assert_eq!(records(&log).len(), 50);
        log.close().unwrap();
    }
}

#[test]
fn a_power_loss_keeps_a_prefix_with_all_that_was_durable() {
    for mode in modes() {
        for seed in 0..30 {
            let world = World::simulated();
            let log = world.open(small_with(mode));
            let all = fill(&log, 30);
            log.flush().unwrap();
            fill(&log, 20);
            let durable = log.durable_lsn();
            let world = World::on(world.sim().crash(&CrashPlan::random(seed)));
            let log = world.open(small());
            let found = payloads(&log);
            let kept = all.iter().filter(|lsn| **lsn < durable).count();
            assert!(found.len() >= kept, "seed {seed}: {} of {kept} durable records", found.len());
            let expected: Vec<_> = (0..30).chain(0..20).map(|number| payload(number, 300)).collect();
            assert!(found[..] == expected[..found.len()], "seed {seed}: not a prefix");
            log.close().unwrap();
        }
    }
}

#[test]
fn a_torn_tail_is_cut_and_reported() {
    let world = killed(lazy_batch(), |log| drop(fill(log, 5)));
    let mut bytes = world.read("0000000000000001.wal");
    bytes[4096 + 4 * 328 + 100..].fill(0);
    world.write("0000000000000001.wal", &bytes);
    let log = world.open(small());
    let report = log.recovery_report();
    assert_eq!(report.state, FoundState::Cut);
    let cut = report.cut.unwrap();
    assert_eq!((cut.at.get(), cut.segment, cut.valid_records_dropped), (4096 + 4 * 328, 1, 0));
    assert_eq!(payloads(&log).len(), 4);
    assert!(log.append(b"next").unwrap().get() >= 4096 + 5 * 328, "no LSN is used again");
    log.close().unwrap();
}

#[test]
fn a_torn_batch_is_not_there_at_all() {
    let world = killed(lazy_batch(), |log| {
        log.append(b"before").unwrap();
        log.append_batch(&[payload(1, 300), payload(2, 300), payload(3, 300)]).unwrap();
    });
    let mut bytes = world.read("0000000000000001.wal");
    bytes[4096 + 32 + 2 * 328 + 100..].fill(0);
    world.write("0000000000000001.wal", &bytes);
    assert_eq!(world.read_files().0.len(), 1, "a reader of the files does not see it either");
    let log = world.open(small());
    assert_eq!(log.recovery_report().cut.unwrap().at.get(), 4096 + 32);
    assert_eq!(payloads(&log), [b"before"]);
    log.close().unwrap();
}

#[test]
fn opening_again_and_again_without_closing_changes_nothing() {
    for mode in modes() {
        let mut world = killed(mode, |log| drop(fill(log, 20)));
        for round in 0..6 {
            let log = world.open(small());
            assert_eq!(records(&log).len(), 20, "round {round}");
            assert_eq!(world.read_files().0.len(), 20);
            world = World::on(world.sim().kill());
        }
        assert!(world.segments().len() <= 4, "{:?}", world.names());
    }
}

#[test]
fn an_unclean_open_near_the_last_lsn_loses_nothing() {
    let world = World::simulated();
    let log = world.open(Config { first_lsn: Lsn::new((1 << 63) - 4096), ..small() });
    fill(&log, 5);
    let world = World::on(world.sim().kill());
    let log = world.open(small());
    assert_eq!(lsns(&log).len(), 5);
    if let Err(error) = log.append(b"next") {
        assert_eq!(error.kind(), ErrorKind::Exhausted);
    }
    log.close().unwrap();
    let log = world.open(small());
    assert!(lsns(&log).len() >= 5);
    log.close().unwrap();
}

#[test]
fn a_cut_near_the_last_lsn_loses_nothing() {
    let world = World::simulated();
    let log = world.open(Config { first_lsn: Lsn::new((1 << 63) - 8192), ..small() });
    let all = fill(&log, 20);
    log.truncate_after(all[2]).unwrap();
    assert_eq!(lsns(&log), all[..3]);
    let world = World::on(SimFs::kill(world.sim()));
    let log = world.open(small());
    assert_eq!(lsns(&log), all[..3]);
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), 3);
}
