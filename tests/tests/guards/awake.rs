//! Appends that wait without sleeping.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::{Background, Config, Lsn, Wal};
use wal_tests::watchdog::Watchdog;

use super::hooked::{Call, Hooked};
use super::{NO_RECYCLING, NONE, SYNC, setup};

/// A log that writes nothing until the gate is opened.
fn gated(mode: usize, busy_wait_max: Duration) -> (Wal, impl Fn()) {
    let gate = Arc::new((Mutex::new(true), Condvar::new()));
    let guard = Arc::clone(&gate);
    let is_open = Arc::new(Mutex::new(false));
    let was_opened = Arc::clone(&is_open);
    let log = Hooked::new(&SimFs::new(1), move |call, _| {
        if matches!(call, Call::Write(_)) && *was_opened.lock().expect("nobody panics with it") {
            let state = guard.0.lock().expect("nobody panics with it");
            drop(guard.1.wait_while(state, |is_shut| *is_shut).expect("nobody panics with it"));
        }
        Ok(())
    });
    let config = Config { background: Background::Threads, busy_wait_max, ..setup(mode, NO_RECYCLING).config };
    let log = log.open(config).expect("a new log");
    *is_open.lock().expect("nobody panics with it") = true;
    let open_gate = move || {
        *gate.0.lock().expect("nobody panics with it") = false;
        gate.1.notify_all();
    };
    (log, open_gate)
}

/// Appends in a thread of its own, and returns when the record has its place in the log.
fn append(log: &Wal) -> std::thread::JoinHandle<wal::Result<Lsn>> {
    let before = log.next_lsn();
    let other = log.clone();
    let thread = std::thread::spawn(move || other.append(b"a record"));
    while log.next_lsn() == before {
        std::thread::yield_now();
    }
    thread
}

#[test]
fn an_append_that_is_awake_writes_the_next_group_when_the_leader_is_done() {
    let watchdog = Watchdog::start();
    for mode in [SYNC, NONE] {
        watchdog.beat(|| format!("mode {mode}"));
        let (log, open_gate) = gated(mode, Duration::from_secs(1));
        let leader = append(&log);
        let others: Vec<_> = (0..3).map(|_| append(&log)).collect();
        open_gate();
        let first = leader.join().expect("it does not panic").expect("an append");
        let last = others.into_iter().map(|other| other.join().expect("it does not panic").expect("an append")).max();
        assert!(last > Some(first));
        assert_eq!(log.stats().groups, 2, "mode {mode}: who waits meets in one group");
        log.close().expect("a clean close");
    }
}
