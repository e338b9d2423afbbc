//! What a writing process offers about itself: a file that tells, and that nothing relies on.

use std::sync::Arc;
use std::time::Duration;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal::inspect::{Depth, Outcome, Statistics, StatisticsFile, statistics, survey};
use wal::{Config, ErrorKind, FoundState, Lsn, ManualClock, SyncMode, Wal};

use crate::world::{World, fill, kind, payload, records, small, still};

const FILE: &str = "wal-statistics";
const SECOND: Duration = Duration::from_secs(1);

on_both_file_systems! {
    nothing_is_written_unless_the_settings_ask_for_it,
    the_file_says_what_the_log_did_since_the_open_and_since_the_last_time,
    a_clean_close_leaves_no_file,
    a_file_that_a_dead_process_left_is_passed_over_and_removed_by_the_next_open,
    garbage_in_the_file_disturbs_nobody_and_is_no_number,
    a_thread_writes_the_file_where_the_log_has_threads,
    a_file_that_somebody_removed_comes_back,
}

fn offering() -> Config {
    Config { statistics_interval: Some(SECOND), ..still() }
}

fn open(world: &World, config: Config) -> (Wal, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    clock.advance(100 * SECOND);
    let given: Arc<dyn wal::Clock> = clock.clone();
    let log = Wal::opener(config).file_system(Arc::clone(&world.fs)).clock(given).open(&world.path);
    (log.expect("the log opens"), clock)
}

/// Lets so much time pass, and the log do what is due.
fn pass(log: &Wal, clock: &ManualClock, time: Duration) {
    clock.advance(time);
    log.poll().expect("the log is healthy");
}

#[track_caller]
fn look(world: &World) -> StatisticsFile {
    statistics(&*world.fs, &world.path).expect("the directory can be read")
}

#[track_caller]
fn said(world: &World) -> Statistics {
    match look(world) {
        StatisticsFile::Valid(statistics) => *statistics,
        other => panic!("there are no statistics: {other:?}"),
    }
}

fn nothing_is_written_unless_the_settings_ask_for_it(world: &World) {
    let (log, clock) = open(world, still());
    fill(&log, 5);
    pass(&log, &clock, 1000 * SECOND);
    assert_eq!(look(world), StatisticsFile::Absent);
    log.close().unwrap();
    for wrong in [Duration::ZERO, Duration::from_millis(9), Duration::from_secs(3601)] {
        let config = Config { statistics_interval: Some(wrong), ..still() };
        assert_eq!(kind(world.try_open(config)), ErrorKind::Invalid, "{wrong:?}");
    }
}

fn the_file_says_what_the_log_did_since_the_open_and_since_the_last_time(world: &World) {
    let (log, clock) = open(world, offering());
    fill(&log, 5);
    pass(&log, &clock, SECOND - Duration::from_nanos(1));
    assert_eq!(look(world), StatisticsFile::Absent, "the first time is one interval after the open");
    pass(&log, &clock, Duration::from_nanos(1));
    let first = said(world);
    assert_eq!((first.sequence, first.process, first.interval), (1, std::process::id().into(), SECOND));
    assert_eq!((first.opened_micros, first.written_micros), (100_000_000, 101_000_000));
    assert_eq!((first.log_id, first.sync_mode, first.oldest_hold), (log.log_id(), SyncMode::Sync, None));
    assert_eq!(first.total, log.stats(), "nothing has happened since");
    assert_eq!((first.recent.records, first.recent.append.count, first.recent.duration), (5, 5, SECOND));
    assert_eq!((first.next_lsn, first.failure), (log.next_lsn(), None));

    let hold = log.hold("a replica", Lsn::FIRST).unwrap();
    log.append_batch(&["three", "more", "records"]).unwrap();
    pass(&log, &clock, SECOND / 2);
    assert_eq!(said(world).sequence, 1, "it is not due yet");
    pass(&log, &clock, SECOND);
    let second = said(world);
    assert_eq!((second.sequence, second.oldest_hold), (2, Some(Lsn::FIRST)));
    assert_eq!((second.total.records, second.recent.records), (8, 3));
    assert_eq!((second.recent.append.count, second.recent.group_records.max), (1, 3));
    assert_eq!(second.recent.duration, 3 * SECOND / 2);
    assert!(second.recent.payload_bytes == 16 && second.recent.groups == 1);

    drop(hold);
    pass(&log, &clock, SECOND);
    let third = said(world);
    assert_eq!((third.recent.records, third.recent.sync.count, third.recent.sync.max), (0, 0, 0), "nothing happened");
    assert_eq!(third.total.append.count, 6, "the total still knows");
    log.close().unwrap();
}

fn a_clean_close_leaves_no_file(world: &World) {
    let (log, clock) = open(world, offering());
    fill(&log, 5);
    pass(&log, &clock, SECOND);
    said(world);
    log.close().unwrap();
    assert!(!world.names().contains(&FILE.to_owned()));
    pass_closed(&log, &clock);
    assert!(!world.names().contains(&FILE.to_owned()), "a closed log writes none");
}

/// A closed log may refuse to be polled.
fn pass_closed(log: &Wal, clock: &ManualClock) {
    clock.advance(10 * SECOND);
    drop(log.poll());
}

fn a_file_that_a_dead_process_left_is_passed_over_and_removed_by_the_next_open(world: &World) {
    let (log, clock) = open(world, offering());
    fill(&log, 40);
    pass(&log, &clock, SECOND);
    let left = world.read(FILE);
    log.close().unwrap();
    world.write(FILE, &left);
    let found = survey(&*world.fs, &world.path, Depth::Full, |_| {}).unwrap();
    assert!(
        found.statistics.as_deref() == Some(FILE) && matches!(found.outcome, Outcome::Clean),
        "{:?}",
        found.outcome
    );
    assert!(found.foreign.is_empty() && found.sweepable.is_empty() && found.stranded.is_empty());
    assert_eq!(world.read_files().0.len(), 40);
    assert_eq!(world.read(FILE), left, "who only reads leaves it alone");
    let log = world.open(still());
    assert_eq!(log.recovery_report().state, FoundState::Clean);
    assert_eq!(log.recovery_report().swept, [FILE]);
    assert_eq!(look(world), StatisticsFile::Absent, "nobody takes the old numbers for those of this process");
    assert_eq!(records(&log).len(), 40);
    log.close().unwrap();
}

fn garbage_in_the_file_disturbs_nobody_and_is_no_number(world: &World) {
    let (log, clock) = open(world, offering());
    fill(&log, 40);
    pass(&log, &clock, SECOND);
    let right = world.read(FILE);
    let segment = world.read("0000000000000001.wal");
    let mut flipped = right.clone();
    flipped[200] ^= 1;
    for garbage in [&[][..], &[0; 4096], &[0xff; 5000], &right[..100], &right[..4095], &segment, &flipped] {
        world.write(FILE, garbage);
        assert!(matches!(look(world), StatisticsFile::Unreadable(_)));
        assert_eq!(world.read_files().0.len(), 40);
        assert_eq!(survey(&*world.fs, &world.path, Depth::Full, |_| {}).unwrap().records, 40);
        pass(&log, &clock, SECOND);
        assert_eq!(said(world).total.records, 40, "the next time it is right again");
    }
    log.close().unwrap();
}

fn a_thread_writes_the_file_where_the_log_has_threads(world: &World) {
    let interval = Some(Duration::from_millis(10));
    let log = world.open(Config { statistics_interval: interval, ..small() });
    fill(&log, 5);
    // The watchdog ends the test if it never comes.
    while !matches!(look(world), StatisticsFile::Valid(statistics) if statistics.total.records == 5) {
        std::thread::yield_now();
    }
    assert_eq!(log.stats().statistics_failures, 0);
    log.close().unwrap();
    assert_eq!(look(world), StatisticsFile::Absent);
}

fn a_file_that_somebody_removed_comes_back(world: &World) {
    let (log, clock) = open(world, offering());
    pass(&log, &clock, SECOND);
    world.remove(FILE);
    assert_eq!(look(world), StatisticsFile::Absent);
    pass(&log, &clock, SECOND);
    assert_eq!(said(world).sequence, 2);
    log.close().unwrap();
}

#[test]
fn a_failure_to_write_the_file_is_counted_and_harms_nothing() {
    for effect in [
        Effect::Error(errno::EIO),
        Effect::Error(errno::ENOSPC),
        Effect::PartialError { bytes: 100, errno: errno::EIO },
    ] {
        let world = World::simulated();
        let (log, clock) = open(&world, offering());
        world.sim().plan(Fault::new(effect).on(Operation::Write).name(FILE).always());
        fill(&log, 5);
        pass(&log, &clock, SECOND);
        pass(&log, &clock, SECOND);
        assert_eq!(log.stats().statistics_failures, 2, "{effect:?}");
        assert!(matches!(look(&world), StatisticsFile::Unreadable(_)), "{effect:?}");
        log.append(b"the log goes on").unwrap();
        world.sim().forget_faults();
        pass(&log, &clock, SECOND);
        let after = said(&world);
        assert_eq!((after.total.statistics_failures, after.total.records), (2, 6));
        world.sim().plan(Fault::error(errno::EIO).on(Operation::Remove).name(FILE));
        log.close().expect("a closed log does not need the file to be gone");
        assert_eq!(log.stats().statistics_failures, 3);
        assert_eq!(world.open(still()).recovery_report().state, FoundState::Clean);
    }
}

#[test]
fn a_poisoned_log_leaves_the_file_with_the_reason() {
    let world = World::simulated();
    let (log, clock) = open(&world, Config { direct_io: false, ..offering() });
    fill(&log, 5);
    pass(&log, &clock, SECOND);
    world.sim().plan(Fault::error(errno::EIO).on(Operation::SyncData).name_prefix("0000").always());
    log.append(b"lost").unwrap_err();
    clock.advance(SECOND);
    log.poll().unwrap_err();
    let failure = said(&world).failure.expect("the log is poisoned");
    assert!(failure.contains("0000000000000001.wal"), "{failure}");
    world.sim().forget_faults();
    log.close().unwrap_err();
    let last = said(&world);
    assert_eq!((last.sequence, last.failure), (3, Some(failure)), "its last words are there for whoever looks");
    drop(log);
    let log = world.open(still());
    assert_eq!(look(&world), StatisticsFile::Absent);
    assert!(records(&log).len() >= 5);
    log.close().unwrap();
}

#[test]
fn a_crash_at_any_call_of_a_log_that_offers_statistics_keeps_what_was_acknowledged() {
    let work = |world: &World, acknowledged: &mut usize| -> wal::Result<()> {
        let clock = Arc::new(ManualClock::default());
        let given: Arc<dyn wal::Clock> = clock.clone();
        let log = Wal::opener(offering()).file_system(Arc::clone(&world.fs)).clock(given).open(&world.path)?;
        for number in 0..20 {
            log.append(&payload(number, 300))?;
            *acknowledged += 1;
            clock.advance(SECOND);
            log.poll()?;
        }
        log.close()
    };
    let calls = {
        let world = World::simulated();
        work(&world, &mut 0).expect("nothing fails");
        world.sim().calls()
    };
    for call in 0..calls {
        let world = World::simulated();
        world.sim().crash_at(call);
        let mut acknowledged = 0;
        drop(work(&world, &mut acknowledged));
        let crashes = (0..3).map(|seed| CrashPlan::random(call * 3 + seed)).map(|plan| world.sim().crash(&plan));
        for after in crashes.chain([SimFs::kill(world.sim())]) {
            let world = World::on(after);
            let log = world.open(offering());
            let found = records(&log).len();
            assert!((acknowledged..=20).contains(&found), "before call {call}: {found} of {acknowledged}");
            assert_eq!(look(&world), StatisticsFile::Absent);
            log.close().unwrap();
        }
    }
}
