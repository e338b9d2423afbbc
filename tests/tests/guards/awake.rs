//! Who waits without sleeping, and what is done before anybody has to wait.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use wal::fs::sim::SimFs;
use wal::{Background, Config, Lsn, ManualClock, SyncMode, Wal};
use wal_tests::watchdog::Watchdog;

use super::hooked::{Call, Hooked};
use super::{DIR, NO_RECYCLING, NONE, SYNC, setup};

/// Where calls wait until it is opened.
#[derive(Default)]
struct Gate {
    /// Whether it is shut, and whether a call has come.
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let mut state = self.state.lock().expect("nobody panics with it");
        if state.0 {
            state.1 = true;
            self.changed.notify_all();
            drop(self.changed.wait_while(state, |(is_shut, _)| *is_shut).expect("nobody panics with it"));
        }
    }

    fn set_shut(&self, is_shut: bool) {
        self.state.lock().expect("nobody panics with it").0 = is_shut;
        self.changed.notify_all();
    }

    fn await_call(&self) {
        let state = self.state.lock().expect("nobody panics with it");
        drop(self.changed.wait_while(state, |(_, has_come)| !*has_come).expect("nobody panics with it"));
    }
}

/// A log with a clock that is turned by hand, whose calls of this kind wait at the gate.
fn gated(config: Config, is_kind: fn(Call) -> bool) -> (Wal, Arc<ManualClock>, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let at = Arc::clone(&gate);
    let log = Hooked::new(&SimFs::new(1), move |call, _| {
        if is_kind(call) {
            at.pass();
        }
        Ok(())
    });
    let clock = Arc::new(ManualClock::default());
    let opener = Wal::opener(Config { background: Background::Threads, ..config }).file_system(Arc::new(log));
    let log = opener.clock(Arc::<ManualClock>::clone(&clock)).open(DIR).expect("a new log");
    gate.set_shut(true);
    (log, clock, gate)
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
        let config = Config { busy_wait_max: Duration::from_secs(1), ..setup(mode, NO_RECYCLING).config };
        let (log, _clock, gate) = gated(config, |call| matches!(call, Call::Write(_)));
        let leader = append(&log);
        let others: Vec<_> = (0..3).map(|_| append(&log)).collect();
        gate.set_shut(false);
        let first = leader.join().expect("it does not panic").expect("an append");
        let last = others.into_iter().map(|other| other.join().expect("it does not panic").expect("an append")).max();
        assert!(last > Some(first));
        assert_eq!(log.stats().groups, 2, "mode {mode}: who waits meets in one group");
        log.close().expect("a clean close");
    }
}

#[test]
fn half_of_the_bytes_of_batch_mode_are_synced_although_a_sync_that_does_not_cover_them_is_under_way() {
    let watchdog = Watchdog::start();
    watchdog.beat(|| "half of the bytes".to_owned());
    let delay = Duration::from_millis(20);
    let sync_mode = SyncMode::Batch { delay, bytes: 1 << 20 };
    let config = Config { sync_mode, segment_bytes_max: 2 << 20, ..setup(NONE, NO_RECYCLING).config };
    let (log, clock, gate) = gated(config, |call| call == Call::SyncData);
    log.append(b"a few bytes").expect("an append");
    clock.advance(delay);
    gate.await_call();
    // The delay of this one never passes, as the clock stands still.
    let lsn = log.append(&vec![7; 520 << 10]).expect("an append");
    assert_eq!(log.durable_lsn(), Lsn::FIRST, "the sync of what was there before waits at the gate");
    gate.set_shut(false);
    while log.durable_lsn() <= lsn {
        std::thread::yield_now();
    }
    log.close().expect("a clean close");
}
