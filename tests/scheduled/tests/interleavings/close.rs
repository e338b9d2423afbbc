//! The close against everything that is under way.

use std::sync::Arc;

use wal_scheduled::fs::sim::CrashPlan;
use wal_scheduled::{Config, ErrorKind, FoundState, Lsn, SyncMode, Wal};
use wal_scheduler::Mutex;

use crate::disk::Disk;
use crate::tickets::block_on;
use crate::world::{
    BATCH, Told, config, explorer, finish, inline, open, opener, payload, recovered, spawn, template, writer,
};

/// The log was closed cleanly and holds exactly what was acknowledged.
fn check_clean(disk: &Arc<Disk>, config: &Config, told: &Told) {
    let sim = disk.sim.crash(&CrashPlan::keep_nothing());
    let again = opener(Disk::new(sim), Config { background: wal_scheduled::Background::Inline, ..config.clone() });
    let log = again.open(crate::world::DIR).expect("it opens");
    assert_eq!(log.recovery_report().state, FoundState::Clean);
    drop(log);
    assert_eq!(recovered(&disk.sim, &CrashPlan::keep_nothing(), config), told.records());
}

fn closes_while_appending(name: &str, config: Config, bytes: usize) {
    let template = template(&config);
    explorer(name).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let told = Told::default();
        let tasks: Vec<_> = (0..2).map(|number| writer(&log, &disk, &told, number, 3, bytes)).collect();
        log.close().expect("it closes");
        for task in tasks {
            if let Err(error) = finish(task) {
                assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
            }
        }
        drop(log);
        check_clean(&disk, &config, &told);
    });
}

#[test]
fn an_append_that_meets_the_close_is_in_the_log_or_refused() {
    closes_while_appending("close", config(SyncMode::Sync), 100);
    closes_while_appending("close, batch", config(BATCH), 100);
    closes_while_appending("close, none", config(SyncMode::None), 100);
    closes_while_appending("close, inline", inline(SyncMode::Sync), 100);
}

#[test]
fn an_append_that_waits_for_a_segment_meets_the_close() {
    closes_while_appending("close, rotating", config(SyncMode::Sync), 2500);
    closes_while_appending("close, rotating, inline", inline(SyncMode::Sync), 2500);
}

#[test]
fn everybody_who_waits_is_done_when_the_log_is_closed() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("close and wait").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let called: Arc<Mutex<u32>> = Arc::default();
        let submitter = |log: Wal, how: u8| {
            let called = Arc::clone(&called);
            move || {
                let ticket = match log.submit(&payload(how, 0, 50)) {
                    Ok(ticket) => ticket,
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                        return 0;
                    }
                };
                match how {
                    0 => drop(ticket.wait().expect("what was taken is written")),
                    1 => drop(block_on(ticket).expect("what was taken is written")),
                    _ => ticket.on_complete(move |outcome| {
                        outcome.expect("what was taken is written");
                        *called.lock() += 1;
                    }),
                }
                u32::from(how == 2)
            }
        };
        let tasks: Vec<_> = (0..3).map(|how| spawn("submitter", submitter(log.clone(), how))).collect();
        let mut subscription = log.subscribe();
        let subscriber = spawn("subscriber", move || {
            loop {
                match subscription.recv().and_then(|_| block_on(subscription.changed())) {
                    Ok(_) => {}
                    Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                }
            }
        });
        let mut follower = log.follow(Lsn::ZERO).expect("from the start");
        let follower = spawn("follower", move || {
            loop {
                match follower.next_record() {
                    Ok(_) => {}
                    Err(error) => return assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                }
            }
        });
        let clone = log.clone();
        let closer = spawn("closer", move || clone.close().expect("it closes"));
        log.close().expect("it closes, or is closed");
        let expected: u32 = tasks.into_iter().map(finish).sum();
        finish(subscriber);
        finish(follower);
        finish(closer);
        assert_eq!(*called.lock(), expected, "each callback that was taken runs once");
    });
}

#[test]
fn a_truncation_that_meets_the_close_is_done_or_refused() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("close and truncate").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let lsns: Vec<Lsn> = (0..3).map(|number| log.append(&payload(0, number, 2500)).expect("it works")).collect();
        let other = log.clone();
        let from = lsns[1];
        let truncater = spawn("truncater", move || other.truncate_before(from).map(drop));
        let other = log.clone();
        let cutter = spawn("cutter", move || other.truncate_after(from).map(drop));
        log.close().expect("it closes");
        let outcomes = [finish(truncater), finish(cutter)];
        for error in outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        }
        let found: Vec<Lsn> = recovered(&disk.sim, &CrashPlan::keep_nothing(), &config).into_keys().collect();
        let first = if outcomes[0].is_ok() { 1 } else { 0 };
        let last = if outcomes[1].is_ok() { 1 } else { 2 };
        assert_eq!(found, &lsns[first..=last]);
    });
}

#[test]
fn dropping_the_last_handle_waits_for_what_was_taken() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("drop").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let told = Told::default();
        for number in 0..2 {
            let ticket = log.submit(&payload(0, number, 100)).expect("it is taken");
            told.acknowledge(ticket.lsn(), payload(0, number, 100));
        }
        let other = log.clone();
        let task = spawn("other handle", move || drop(other));
        drop(log);
        finish(task);
        check_clean(&disk, &config, &told);
    });
}

#[test]
fn a_subscriber_that_comes_while_the_log_is_closed_is_told() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("close, subscribing").seeds(3000).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let mut subscription = log.subscribe();
        let subscriber = spawn("subscriber", move || block_on(subscription.changed()));
        log.close().expect("it closes");
        assert_eq!(finish(subscriber).expect_err("nothing was appended").kind(), ErrorKind::Closed);
    });
}
