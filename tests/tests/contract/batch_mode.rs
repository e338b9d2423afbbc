//! `batch` mode: when the sync comes. The clock is turned by hand.

use std::sync::Arc;
use std::time::Duration;

use wal::{AppendOptions, Lsn};
use wal::{Background, Config, Durability, ManualClock, SyncMode, Wal};

use crate::world::{LONG, World, payload, small};

on_both_file_systems! {
    a_record_is_synced_at_the_latest_after_the_delay,
    the_delay_counts_from_the_first_unsynced_record,
    a_sync_that_was_asked_for_starts_the_delay_anew,
    the_append_that_reaches_the_bytes_waits_for_the_sync,
    without_a_background_half_of_the_bytes_are_no_reason_to_wait,
    an_append_after_the_delay_syncs_what_is_overdue,
    nothing_is_synced_when_there_is_nothing_to_sync,
    the_background_thread_syncs_after_the_delay,
    the_background_thread_syncs_when_half_of_the_bytes_are_unsynced,
    none_mode_is_synced_in_the_background_after_rotation,
}

const DELAY: Duration = Duration::from_secs(3600);

fn open(world: &World, bytes: u64) -> (Wal, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock::default());
    let config = Config {
        sync_mode: SyncMode::Batch { delay: DELAY, bytes },
        background: Background::Inline,
        segment_bytes_max: 1 << 20,
        ..Config::default()
    };
    let opener = Wal::opener(config).file_system(Arc::clone(&world.fs)).clock(Arc::<ManualClock>::clone(&clock));
    (opener.open(&world.path).unwrap(), clock)
}

fn a_record_is_synced_at_the_latest_after_the_delay(world: &World) {
    let (log, clock) = open(world, 1 << 30);
    let lsn = log.append(b"record").unwrap();
    // The sync may start early, by at most half the delay.
    clock.advance(DELAY / 2 - Duration::from_nanos(1));
    log.poll().unwrap();
    assert_eq!(log.durable_lsn(), Lsn::FIRST);
    clock.advance(DELAY / 2 + Duration::from_nanos(1));
    log.poll().unwrap();
    assert!(log.durable_lsn() > lsn);
    log.close().unwrap();
}

fn the_delay_counts_from_the_first_unsynced_record(world: &World) {
    let (log, clock) = open(world, 1 << 30);
    let mut last = Lsn::ZERO;
    for number in 0..4 {
        last = log.append(&payload(number, 100)).unwrap();
        clock.advance(DELAY / 4);
    }
    log.poll().unwrap();
    assert!(log.durable_lsn() > last, "one sync covers all that was written");
    log.close().unwrap();
}

fn a_sync_that_was_asked_for_starts_the_delay_anew(world: &World) {
    let (log, clock) = open(world, 1 << 30);
    log.append(b"first").unwrap();
    clock.advance(DELAY / 2 - Duration::from_nanos(1));
    let durable = log.flush().unwrap();
    clock.advance(DELAY);
    log.append(b"second").unwrap();
    clock.advance(DELAY / 2 - Duration::from_nanos(1));
    log.poll().unwrap();
    assert_eq!(log.durable_lsn(), durable);
    clock.advance(DELAY / 2 + Duration::from_nanos(1));
    log.poll().unwrap();
    assert_eq!(log.durable_lsn(), log.written_lsn());
    log.close().unwrap();
}

fn the_append_that_reaches_the_bytes_waits_for_the_sync(world: &World) {
    let (log, _clock) = open(world, 10 * 1024);
    for number in 0..200 {
        log.append(&payload(number, 1000)).unwrap();
        let at_risk = log.written_lsn().distance_from(log.durable_lsn());
        assert_eq!(at_risk, (number as u64 + 1) % 10 * 1024, "after {number} appends");
    }
    log.close().unwrap();
}

fn without_a_background_half_of_the_bytes_are_no_reason_to_wait(world: &World) {
    let (log, _clock) = open(world, 1 << 20);
    log.append(&payload(0, 700 << 10)).unwrap();
    log.poll().unwrap();
    assert_eq!(log.durable_lsn(), Lsn::FIRST, "the sync would come in the append");
    let lsn = log.append(&payload(1, 700 << 10)).unwrap();
    assert!(log.durable_lsn() > lsn, "this one reaches all of them");
    log.close().unwrap();
}

fn an_append_after_the_delay_syncs_what_is_overdue(world: &World) {
    let (log, clock) = open(world, 1 << 30);
    log.append(b"first").unwrap();
    clock.advance(DELAY);
    let lsn = log.append(b"second").unwrap();
    assert!(log.durable_lsn() > lsn);
    log.close().unwrap();
}

fn nothing_is_synced_when_there_is_nothing_to_sync(world: &World) {
    let (log, clock) = open(world, 1 << 30);
    let before = log.stats().syncs;
    for _ in 0..10 {
        clock.advance(DELAY);
        log.poll().unwrap();
    }
    assert_eq!(log.stats().syncs, before);
    log.append_with(b"synced", AppendOptions::new().durability(Durability::Durable)).unwrap();
    let before = log.stats().syncs;
    for _ in 0..10 {
        clock.advance(DELAY);
        log.poll().unwrap();
    }
    assert_eq!(log.stats().syncs, before);
    log.close().unwrap();
}

fn the_background_thread_syncs_after_the_delay(world: &World) {
    let sync_mode = SyncMode::Batch { delay: Duration::from_millis(2), bytes: 1 << 30 };
    let log = world.open(Config { sync_mode, ..small() });
    let mut subscription = log.subscribe();
    // Again and again, as it may happen to be awake once.
    for _ in 0..20 {
        let lsn = log.append(b"record").unwrap();
        while subscription.recv_timeout(LONG).unwrap().expect("the sync comes by itself") <= lsn {}
    }
    log.close().unwrap();
}

fn the_background_thread_syncs_when_half_of_the_bytes_are_unsynced(world: &World) {
    let sync_mode = SyncMode::Batch { delay: DELAY, bytes: 1 << 20 };
    let log = world.open(Config { sync_mode, segment_bytes_max: 1 << 20, ..small() });
    let mut subscription = log.subscribe();
    // The first of each pair wakes the thread because of the delay, so that it is likely to sleep again when the second comes.
    for _ in 0..20 {
        log.append(b"a few bytes").unwrap();
        let lsn = log.append(&vec![7; 520 << 10]).unwrap();
        while subscription.recv_timeout(LONG).unwrap().expect("the sync comes by itself") <= lsn {}
    }
    log.close().unwrap();
}

fn none_mode_is_synced_in_the_background_after_rotation(world: &World) {
    let log = world.open(Config { sync_mode: SyncMode::None, ..small() });
    let mut subscription = log.subscribe();
    let lsn = log.append(b"in the first segment").unwrap();
    log.append(&payload(1, 4072)).unwrap();
    while subscription.recv_timeout(LONG).unwrap().expect("the sync comes by itself") <= lsn {}
    log.close().unwrap();
}
