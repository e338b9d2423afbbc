//! Calls that fail while several tasks are in the log: everybody is told, nobody hangs, and nothing untrue is acknowledged.

use std::error::Error as _;
use std::path::Path;
use std::sync::Arc;

use wal_scheduled::fs::sim::{Fault, Operation, SimConfig, SimFs, SyncFailure, errno};
use wal_scheduled::museum::{Bug, Bugs};
use wal_scheduled::{Config, Error, ErrorKind, SyncMode, Wal};
use wal_scheduler::{Explorer, pick};

use crate::disk::Disk;
use crate::world::{
    BATCH, LATE, Told, check_crash, config, explorer, finish, inline, open, open_with, payload, recovered, spawn,
    template, template_on, writer,
};

/// The first cause that a poisoned log names.
#[track_caller]
fn cause(error: &Error) -> String {
    assert!(error.is_poisoned(), "{error}");
    error.source().expect("poison has a cause").to_string()
}

/// Everybody who was refused was told the same cause, and whoever comes now is too.
fn check_poison(log: &Wal, refused: &[Error]) {
    let Err(now) = log.append(LATE) else {
        assert!(refused.is_empty(), "one was refused, and the log goes on: {}", refused[0]);
        return;
    };
    let first = cause(&now);
    refused.iter().for_each(|error| assert_eq!(cause(error), first));
    for error in [log.flush().map(drop), log.submit(LATE).map(drop), log.close()].into_iter().filter_map(Result::err) {
        assert_eq!(cause(&error), first);
    }
}

/// Writers race while the device fails one call.
fn fails(config: &Config, template: &SimFs, operation: Operation, bugs: Bugs) {
    let disk = Disk::new(template.kill());
    let log = open_with(&disk, config, bugs);
    disk.sim.plan(Fault::error(errno::EIO).on(operation).skip(pick(5) as u64));
    let told = Told::default();
    let tasks: Vec<_> = (0..3).map(|number| writer(&log, &disk, &told, number, 2, 1200)).collect();
    let results: Vec<_> = tasks.into_iter().map(finish).collect();
    disk.sim.forget_faults();
    let mut refused: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
    // A segment that could not be prepared is tried again by the next append that needs it.
    refused.retain(|error| error.path().and_then(Path::extension).is_none_or(|extension| extension != "prepare"));
    check_poison(&log, &refused);
    assert!(!disk.script.has_synced_again(), "a failed sync was tried again");
    drop(log);
    check_crash(&disk.sim, config, &told);
}

fn explore_failure(name: &str, config: Config, operation: Operation) {
    let template = template(&config);
    explorer(name).check(move || fails(&config, &template, operation, Bugs::NONE));
}

#[test]
fn when_a_sync_fails_every_waiter_is_told_the_first_cause() {
    explore_failure("sync fails", config(SyncMode::Sync), Operation::SyncData);
    explore_failure("sync fails, inline", inline(SyncMode::Sync), Operation::SyncData);
    explore_failure("sync fails, batch", config(BATCH), Operation::SyncData);
}

#[test]
fn when_a_write_fails_every_waiter_is_told_the_first_cause() {
    explore_failure("write fails", config(SyncMode::Sync), Operation::Write);
    explore_failure("direct write fails", Config { direct_io: true, ..config(SyncMode::Sync) }, Operation::Write);
}

#[test]
fn when_the_flush_of_the_device_fails_only_once_nobody_is_told_otherwise_later() {
    let mut sim = SimConfig::default();
    sim.sync_failure = SyncFailure::Ext4Like;
    let config = config(SyncMode::Sync);
    let template = template_on(&config, sim);
    explorer("flush error").check(move || fails(&config, &template, Operation::SyncData, Bugs::NONE));
}

/// Two who need a sync share one that is in flight, and its failure.
#[test]
fn the_failure_of_a_shared_sync_reaches_all_who_wait_for_it() {
    let config = config(SyncMode::None);
    let template = template(&config);
    explorer("shared sync").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        disk.sim.plan(Fault::error(errno::EIO).on(Operation::SyncData).skip(pick(3) as u64));
        let tasks: Vec<_> = (0..3)
            .map(|number| {
                let log = log.clone();
                spawn("flusher", move || {
                    let lsn = log.append(&payload(number, 0, 50))?;
                    let durable = log.flush()?;
                    assert!(durable > lsn, "flush returned and what was appended before is not durable");
                    Ok::<_, Error>(lsn)
                })
            })
            .collect();
        let results: Vec<_> = tasks.into_iter().map(finish).collect();
        disk.sim.forget_faults();
        let told: Vec<_> = results.iter().filter_map(|result| result.as_ref().ok().copied()).collect();
        let refused: Vec<Error> = results.into_iter().filter_map(Result::err).collect();
        check_poison(&log, &refused);
        assert!(!disk.script.has_synced_again(), "a failed sync was tried again");
        assert!(disk.script.syncs_at_once() <= 1, "one sync at a time");
        drop(log);
        let found = recovered(&disk.sim, &wal_scheduled::fs::sim::CrashPlan::keep_nothing(), &config);
        told.iter().for_each(|lsn| assert!(found.contains_key(lsn), "a flush covered {lsn}, which is lost"));
    });
}

#[test]
fn a_full_disk_refuses_some_and_the_others_go_on() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("full disk").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let fault = Fault::error(errno::ENOSPC).on(Operation::Write).name_prefix("0").skip(pick(4) as u64);
        disk.sim.plan(fault.times(1 + pick(2) as u64));
        let told = Told::default();
        let tasks: Vec<_> = (0..3).map(|number| writer(&log, &disk, &told, number, 2, 100)).collect();
        for task in tasks {
            if let Err(error) = finish(task) {
                assert_eq!(error.kind(), ErrorKind::Full, "{error}");
            }
        }
        disk.sim.forget_faults();
        let lsn = log.append(&payload(9, 0, 10)).expect("there is room again");
        told.acknowledge(lsn, payload(9, 0, 10));
        log.close().expect("it closes");
        let found = recovered(&disk.sim, &wal_scheduled::fs::sim::CrashPlan::keep_nothing(), &config);
        assert_eq!(found, told.records(), "what was refused is not there, what was acknowledged is");
    });
}

/// The explorer finds the bug, and says `message`.
fn finds(bug: Bug, mode: SyncMode, message: &str) {
    let config = config(mode);
    let template = Arc::new(template(&config));
    let explorer = Explorer::new("museum").seeds(2000);
    let found = explorer.find(move || fails(&config, &template, Operation::SyncData, Bugs::one(bug)));
    let failure = found.expect_err("the bug is found").to_string();
    assert!(failure.contains(message), "{failure}");
    println!("{bug:?}: {}", failure.lines().take(2).collect::<Vec<_>>().join(": "));
}

#[test]
fn museum_waiters_that_are_told_ok_after_a_failed_sync_are_noticed() {
    finds(Bug::WaitersToldOk, SyncMode::Sync, "a crash would lose it");
}

#[test]
fn museum_waiters_that_nobody_wakes_after_a_failed_sync_are_noticed() {
    finds(Bug::WaitersNotWoken, SyncMode::Sync, "nobody can go on");
}

#[test]
fn museum_a_sync_that_is_tried_again_is_noticed() {
    finds(Bug::SyncTriedAgain, SyncMode::Sync, "a crash would lose it");
}
