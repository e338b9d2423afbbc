//! A task that dies inside the log, before or after any of its calls: whoever waits is told, and nothing untrue is acknowledged.

use wal_scheduled::{Config, ErrorKind, SyncMode, Wal};
use wal_scheduler::{Explorer, pick};

use crate::disk::Disk;
use crate::world::{
    BATCH, LATE, Told, check_crash, config, explorer, finish_or_die, inline, open, payload, seeds_only, spawn,
    template, writer,
};

/// After a death in the log nobody is told that all is well, and nobody waits. A thread of the log may still be unwinding when the last
/// append is made; the close waits for it.
fn check_dead(log: &Wal, has_died: bool) {
    if let Err(error) = log.append(LATE) {
        assert!(has_died && error.is_poisoned(), "{error}");
    }
    match log.close() {
        Ok(()) => assert!(!has_died, "a task died with a part of its work, and the log was closed as if nothing was"),
        Err(error) => assert!(has_died && error.is_poisoned(), "{error}"),
    }
}

fn writers_die(name: &str, config: Config, bytes: usize) {
    writers_die_in(explorer(name), config, bytes);
}

fn writers_die_in(explorer: Explorer, config: Config, bytes: usize) {
    let template = template(&config);
    explorer.check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        disk.script.kill(pick(16), pick(2) == 1);
        let told = Told::default();
        let tasks: Vec<_> = (0..3).map(|number| writer(&log, &disk, &told, number, 2, bytes)).collect();
        for task in tasks {
            if let Some(Err(error)) = finish_or_die(task) {
                assert!(error.is_poisoned(), "{error}");
            }
        }
        let has_died = disk.script.died_at().is_some();
        check_dead(&log, has_died);
        drop(log);
        check_crash(&disk.sim, &config, &told);
    });
}

#[test]
fn followers_of_a_leader_that_dies_neither_hang_nor_are_acknowledged() {
    writers_die("leader dies", config(SyncMode::Sync), 100);
    writers_die("leader dies, inline", inline(SyncMode::Sync), 100);
    writers_die("leader dies, batch", config(BATCH), 100);
    let busy_wait_max = std::time::Duration::from_secs(1);
    writers_die_in(seeds_only("leader dies, awake"), Config { busy_wait_max, ..config(SyncMode::Sync) }, 100);
}

#[test]
fn appends_that_wait_for_a_segment_whose_preparation_dies_do_not_hang() {
    writers_die("preparation dies", config(SyncMode::Sync), 2500);
    writers_die("preparation dies, inline", inline(SyncMode::Sync), 2500);
    writers_die("preparation dies, direct", Config { direct_io: true, ..config(SyncMode::Sync) }, 2500);
}

#[test]
fn tickets_and_subscribers_of_a_log_whose_thread_dies_are_told() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("tickets of the dead").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        disk.script.kill(pick(4), pick(2) == 1);
        // From before the appends, so that there is something to tell also if nobody dies.
        let mut subscription = log.subscribe();
        let submitter = log.clone();
        let waiter = spawn("waiter", move || submitter.submit(&payload(0, 0, 50))?.wait().map(drop));
        let submitter = log.clone();
        let timed = spawn("passive waiter", move || {
            let ticket = submitter.submit(&payload(1, 0, 50))?;
            ticket.wait_timeout(std::time::Duration::from_secs(3000)).map(drop)
        });
        let subscriber = spawn("subscriber", move || subscription.recv().map(drop));
        for task in [waiter, timed, subscriber] {
            if let Some(Err(error)) = finish_or_die(task) {
                assert!(error.is_poisoned(), "{error}");
            }
        }
        let has_died = disk.script.died_at().is_some();
        check_dead(&log, has_died);
    });
}

#[test]
fn a_truncation_that_dies_leaves_nobody_waiting() {
    let config = Config { recycle_segments_max: 1, ..config(SyncMode::Sync) };
    let template = template(&config);
    explorer("truncation dies").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns: Vec<_> = (0..3).map(|number| log.append(&payload(7, number, 2500)).expect("it works")).collect();
        let cuts = pick(2) == 1;
        disk.script.kill(pick(14), pick(2) == 1);
        let truncated = log.clone();
        let truncater = spawn("truncater", move || {
            let done = if cuts { truncated.truncate_after(lsns[1]) } else { truncated.truncate_before(lsns[1]) };
            done.map(drop)
        });
        let appended = log.clone();
        // What it appends may be cut off at once.
        let task =
            spawn("writer", move || (0..2).try_for_each(|number| appended.append(&payload(0, number, 600)).map(drop)));
        for task in [truncater, task] {
            if let Some(Err(error)) = finish_or_die(task) {
                assert!(matches!(error.kind(), ErrorKind::Poisoned), "{error}");
            }
        }
        let has_died = disk.script.died_at().is_some();
        check_dead(&log, has_died);
    });
}
