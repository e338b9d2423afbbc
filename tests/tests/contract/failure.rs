//! A failed write or sync poisons the handle for good.

use std::sync::mpsc;

use wal::fs::sim::{CrashPlan, Fault, Operation, SimConfig, SimFs, SyncFailure, errno};
use wal::{AppendOptions, Background, Config, Error, ErrorKind, Lsn, SyncMode, Wal};

use crate::world::{LONG, World, block_on, fill, lazy_batch, payload, payloads, records, small, small_with};

fn buffered(sync_mode: SyncMode) -> Config {
    Config { direct_io: false, ..small_with(sync_mode) }
}

fn fail_syncs() -> Fault {
    Fault::error(errno::EIO).on(Operation::SyncData).name_prefix("0000").always()
}

#[track_caller]
fn is_first_cause(error: &Error) {
    assert_eq!(error.kind(), ErrorKind::Poisoned, "{error}");
    assert!(error.is_poisoned() && error.path().is_some());
    assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{error}");
    let first = std::error::Error::source(error).expect("the first failure").to_string();
    assert!(first.contains("sync") || first.contains("write"), "{first}");
    assert!(first.contains(".wal"), "it names the file: {first}");
}

#[track_caller]
fn says_so_for_ever(log: &Wal) {
    for _ in 0..2 {
        is_first_cause(&log.append(b"late").unwrap_err());
        is_first_cause(&log.append_batch(&["late"]).unwrap_err());
        is_first_cause(&log.submit(b"late").unwrap_err());
        is_first_cause(&log.flush().unwrap_err());
        is_first_cause(&log.poll().unwrap_err());
        is_first_cause(&log.truncate_before(Lsn::FIRST).unwrap_err());
        is_first_cause(&log.truncate_after(Lsn::FIRST).unwrap_err());
        is_first_cause(&log.declare_checkpoint(Lsn::FIRST).unwrap_err());
        is_first_cause(&log.subscribe().recv().unwrap_err());
        is_first_cause(&block_on(log.subscribe().changed()).unwrap_err());
    }
}

#[test]
fn a_failed_sync_poisons_every_waiter_and_every_later_call() {
    let world = World::simulated();
    let log = world.open(buffered(SyncMode::Sync));
    fill(&log, 5);
    let durable = log.durable_lsn();
    let mut subscription = log.subscribe();
    let mut follower = log.follow(durable).unwrap();
    world.sim().plan(fail_syncs());
    let (sender, receiver) = mpsc::channel();
    std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..4).map(|_| scope.spawn(|| log.append(b"lost").unwrap_err())).collect();
        let subscriber = scope.spawn(|| subscription.recv().unwrap_err());
        let following = scope.spawn(|| follower.next_record().unwrap_err());
        for error in appenders.into_iter().map(|appender| appender.join().unwrap()) {
            is_first_cause(&error);
        }
        is_first_cause(&subscriber.join().unwrap());
        is_first_cause(&following.join().unwrap());
    });
    world.sim().forget_faults();
    if let Ok(ticket) = log.submit(b"late") {
        ticket.on_complete(move |outcome| sender.send(outcome.unwrap_err()).unwrap());
        is_first_cause(&receiver.recv().unwrap());
    }
    says_so_for_ever(&log);
    assert_eq!(log.durable_lsn(), durable, "nothing more became durable");
    assert_eq!(records(&log).len(), 5, "what was durable can be read");
    log.close().unwrap_err();
}

#[test]
fn tickets_in_flight_get_the_first_cause() {
    for mode in [SyncMode::Sync, lazy_batch(), SyncMode::None] {
        let world = World::simulated();
        let log = world.open(Config { background: Background::Inline, ..buffered(mode) });
        let options = wal::AppendOptions::new().durability(wal::Durability::Durable);
        let mut tickets: Vec<_> = (0..10).map(|_| log.submit_with(b"in flight", options).unwrap()).collect();
        let (sender, receiver) = mpsc::channel();
        world.sim().plan(fail_syncs());
        tickets.remove(0).on_complete(move |outcome| sender.send(outcome).unwrap());
        is_first_cause(&log.poll().unwrap_err());
        is_first_cause(&receiver.recv().unwrap().unwrap_err());
        for ticket in tickets {
            is_first_cause(&ticket.outcome().unwrap().unwrap_err());
            is_first_cause(&ticket.wait().unwrap_err());
            is_first_cause(&ticket.wait_timeout(LONG).unwrap_err());
            is_first_cause(&block_on(ticket).unwrap_err());
        }
        says_so_for_ever(&log);
    }
}

#[test]
fn a_failed_write_poisons_too() {
    for direct_io in [false, true] {
        let world = World::simulated();
        let log = world.open(Config { direct_io, ..small() });
        fill(&log, 5);
        // Also the preparation of the next segment may be under way, and is not to take the only failure.
        world.sim().plan(Fault::error(errno::EIO).on(Operation::Write).name_prefix("0000").always());
        is_first_cause(&log.append(b"lost").unwrap_err());
        says_so_for_ever(&log);
        assert_eq!(records(&log).len(), 5);
    }
}

#[test]
fn a_failed_change_of_structure_poisons_a_log_that_has_nothing_unsynced() {
    let world = World::simulated();
    let log = world.open(small());
    let lsns = fill(&log, 5);
    let durable = log.flush().unwrap();
    world.sim().plan(Fault::error(errno::EIO).on(Operation::SyncDir));
    assert!(log.truncate_before(lsns[3]).is_err());
    for _ in 0..2 {
        assert_eq!(log.flush().unwrap_err().kind(), ErrorKind::Poisoned);
        assert_eq!(log.append(b"late").unwrap_err().kind(), ErrorKind::Poisoned);
    }
    assert_eq!(log.durable_lsn(), durable);
}

#[test]
fn a_failed_sync_in_the_background_reaches_the_next_append() {
    let world = World::simulated();
    let mode = SyncMode::Batch { delay: std::time::Duration::from_millis(1), bytes: 1 << 30 };
    let log = world.open(buffered(mode));
    let mut subscription = log.subscribe();
    world.sim().plan(fail_syncs());
    log.append(b"accepted").unwrap();
    is_first_cause(&subscription.recv().unwrap_err());
    says_so_for_ever(&log);
}

#[test]
fn a_sync_is_never_tried_again() {
    let world = World::simulated();
    let log = world.open(buffered(SyncMode::Sync));
    fill(&log, 3);
    world.sim().plan(Fault::error(errno::EIO).on(Operation::SyncData).name_prefix("0000"));
    is_first_cause(&log.append(b"lost").unwrap_err());
    world.sim().record_trace(true);
    says_so_for_ever(&log);
    drop(log.close());
    drop(log);
    let syncs = world
        .sim()
        .take_trace()
        .into_iter()
        .filter(|event| format!("{event:?}").contains("Sync") && format!("{event:?}").contains(".wal"));
    assert_eq!(syncs.count(), 0);
}

#[test]
fn a_poisoned_log_can_be_reopened_with_a_prefix() {
    let kinds = [SyncFailure::PagesDropped, SyncFailure::Ext4Like, SyncFailure::XfsLike, SyncFailure::BtrfsLike];
    for sync_failure in kinds {
        let mut config = SimConfig::default();
        config.sync_failure = sync_failure;
        let world = World::on(SimFs::with_config(config));
        let log = world.open(buffered(SyncMode::Sync));
        fill(&log, 15);
        world.sim().plan(Fault::error(errno::EIO).on(Operation::SyncData).name_prefix("0000"));
        is_first_cause(&log.append(&payload(15, 300)).unwrap_err());
        log.close().unwrap_err();
        drop(log);
        let needs_boot = matches!(sync_failure, SyncFailure::XfsLike | SyncFailure::BtrfsLike);
        let sim = if needs_boot { world.sim().crash(&CrashPlan::keep_nothing()) } else { world.sim().kill() };
        let world = World::on(sim);
        let log = world.open(small());
        let found = payloads(&log);
        assert!((15..=16).contains(&found.len()), "{}", found.len());
        assert!(found.iter().enumerate().all(|(number, found)| *found == payload(number, 300)));
        // What the open shows is on the disk, whatever the page cache had.
        world.sim().drop_caches();
        assert_eq!(payloads(&log), found);
        log.append(b"it works again").unwrap();
        log.close().unwrap();
        assert_eq!(world.read_files().0.len(), found.len() + 1);
    }
}

#[test]
fn a_poisoned_log_releases_its_lock_when_it_is_closed() {
    let world = World::simulated();
    let log = world.open(buffered(SyncMode::Sync));
    world.sim().plan(Fault::error(errno::EIO).on(Operation::SyncData).name_prefix("0000"));
    is_first_cause(&log.append(b"lost").unwrap_err());
    is_first_cause(&log.close().unwrap_err());
    let next = world.open(small());
    next.append(b"works").unwrap();
    is_first_cause(&log.append(b"of the old handle").unwrap_err());
    next.close().unwrap();
}

#[test]
fn a_full_disk_is_no_poison() {
    let world = World::simulated();
    let log = world.open(small_with(SyncMode::Sync));
    let all = fill(&log, 30);
    world.sim().plan(Fault::error(errno::ENOSPC).on(Operation::Create).always());
    let error = (0..100).find_map(|number| log.append(&payload(number, 300)).err()).expect("the disk is full");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    let written = records(&log).len();
    assert_eq!(log.append(&payload(0, 300)).unwrap_err().kind(), ErrorKind::Full);
    assert_eq!(records(&log).len(), written, "a refused record is not visible");
    assert_eq!(log.read(all[29]).unwrap().payload, payload(29, 300));
    world.sim().forget_faults();
    log.append(b"there is room again").unwrap();
    assert_eq!(records(&log).len(), written + 1);
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), written + 1);
}

/// A log that holds thirty records and more, on a disk without a free block, and the checkpoint record that still found room.
fn full(background: Background) -> (World, Wal, Lsn) {
    let world = World::simulated();
    let log = world.open(Config { background, reserve_bytes: 16 << 10, ..small() });
    fill(&log, 30);
    // Nobody takes another block while it is counted how many are taken.
    world.sim().configure(|config| config.capacity = Some(0));
    let used = world.sim().space_used();
    world.sim().configure(|config| config.capacity = Some(used));
    let refused = (0..1000).find_map(|number| log.append(&payload(number, 300)).err()).expect("the disk is full");
    assert_eq!(refused.kind(), ErrorKind::Full, "{refused}");
    while log.append(b"").is_ok() {}
    let before = records(&log).len();
    let checkpoint = log.append_with(b"checkpoint", AppendOptions::new().use_reserve()).unwrap();
    assert_eq!(records(&log).len(), before + 1);
    (world, log, checkpoint)
}

fn truncates_and_goes_on(world: &World, log: &Wal, checkpoint: Lsn) {
    let done = log.truncate_before(checkpoint).unwrap();
    assert!(done.segments_removed > 0 && done.start_lsn <= checkpoint);
    assert_eq!(records(log).last().unwrap().lsn, checkpoint);
    log.append(&payload(1, 300)).unwrap();
    log.close().unwrap();
    assert!(world.read_files().1.is_none());
}

#[test]
fn on_a_full_disk_a_checkpoint_record_fits_and_truncation_makes_room() {
    for background in [Background::Inline, Background::Threads] {
        let (world, log, checkpoint) = full(background);
        truncates_and_goes_on(&world, &log, checkpoint);
    }
}

#[test]
fn on_a_full_disk_a_checkpoint_can_be_declared_before_the_truncation() {
    for background in [Background::Inline, Background::Threads] {
        let (world, log, checkpoint) = full(background);
        log.declare_checkpoint(checkpoint).unwrap();
        truncates_and_goes_on(&world, &log, checkpoint);
    }
}

#[test]
fn an_error_while_reading_fails_the_open_and_changes_nothing() {
    let world = World::simulated();
    let log = world.open(small());
    fill(&log, 30);
    log.close().unwrap();
    let before = world.files();
    for skip in 0..4 {
        world.sim().plan(Fault::error(errno::EIO).on(Operation::Read).skip(skip));
        let error = world.try_open(small()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(before == world.files());
    }
    world.sim().forget_faults();
    let log = world.open(small());
    assert_eq!(records(&log).len(), 30);
    log.close().unwrap();
}

#[test]
fn what_reaches_the_bytes_of_batch_mode_is_acknowledged_only_with_its_sync() {
    let world = World::simulated();
    let bytes = 4096;
    let sync_mode = SyncMode::Batch { delay: std::time::Duration::from_secs(3600), bytes };
    let config = Config { background: Background::Inline, segment_bytes_max: 1 << 20, ..buffered(sync_mode) };
    let log = world.open(config);
    let tickets: Vec<_> = (0..8).map(|number| log.submit(&payload(number, 1000)).unwrap()).collect();
    world.sim().plan(fail_syncs());
    // All of them are one group. Its sync fails, so none of those that are more bytes than may be lost is told that all is well.
    drop(tickets[0].wait());
    for ticket in &tickets {
        if ticket.end().distance_from(log.durable_lsn()) >= bytes {
            is_first_cause(&ticket.outcome().expect("the group was written").unwrap_err());
        }
    }
    world.sim().forget_faults();
}
