//! Checkpoints that nobody asks for: after a time, after so many bytes of log, before the pool is full of dirty pages, and again after a full disk.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use checkpoint::museum::Bugs;
use checkpoint::{Config, Store};
use wal::fs::sim::{Fault, Operation, SimFs, errno};
use wal::{Background, ErrorKind, SyncMode};
use wal_tests::watchdog::Watchdog;

use crate::gate::GateFs;
use crate::world::{config, key, open, open_broken};

/// Settings with which nothing makes a checkpoint by itself, and a thread that would make one.
fn scheduled() -> Config {
    let mut config = config(SyncMode::None);
    config.log.background = Background::Threads;
    config.checkpoint_interval = Duration::from_secs(3600);
    config.checkpoint_log_bytes = 1 << 40;
    config
}

/// Changes one key until the store is as it should be.
fn put_until(store: &Store, what: &str, is_reached: impl Fn(&Store) -> bool) {
    let watchdog = Watchdog::start();
    watchdog.beat(|| what.to_owned());
    for number in 0_u64.. {
        if is_reached(store) {
            return;
        }
        store.put("key", number.to_le_bytes()).expect("a put works");
    }
}

#[test]
fn a_checkpoint_is_made_after_each_interval() {
    let config = Config { checkpoint_interval: Duration::from_millis(2), ..scheduled() };
    let store = open(&SimFs::new(1), &config).expect("a new store opens");
    put_until(&store, "three intervals", |store| store.stats().checkpoints >= 3);
    store.close().expect("the store closes");
}

#[test]
fn a_checkpoint_is_made_after_so_many_bytes_of_log_each_time() {
    let config = Config { checkpoint_log_bytes: 256 << 10, ..scheduled() };
    let store = open(&SimFs::new(1), &config).expect("a new store opens");
    put_until(&store, "three times so many bytes", |store| store.stats().checkpoints >= 3);
    let stats = store.stats();
    assert!(stats.next_lsn.distance_from(stats.redo_lsn) < stats.next_lsn.get(), "redo starts further on: {stats:?}");
    store.close().expect("the store closes");
}

#[test]
fn a_checkpoint_is_made_before_the_pool_is_full_of_dirty_pages() {
    let store = open(&SimFs::new(1), &scheduled()).expect("a new store opens");
    let entries: Vec<_> = (0..4000).map(|number| (key(number), [7; 100])).collect();
    store.bulk_load(entries).expect("the load works");
    let before = store.stats().checkpoints;
    let watchdog = Watchdog::start();
    watchdog.beat(|| "dirty pages".to_owned());
    // One key of each leaf after the other, so that every put makes a page dirty.
    for number in (0..4000).step_by(37).cycle() {
        if store.stats().checkpoints > before {
            break;
        }
        store.put(key(number), [8; 100]).expect("a put works");
    }
    store.close().expect("the store closes");
}

#[test]
fn a_checkpoint_that_the_disk_has_no_room_for_is_told_and_made_again_later() {
    let fs = SimFs::new(1);
    let config = Config { checkpoint_log_bytes: 64 << 10, ..scheduled() };
    let store = open(&fs, &config).expect("a new store opens");
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("checkpoint.tmp"));
    put_until(&store, "a full disk", |store| store.checkpoint_error().is_some());
    let error = store.checkpoint_error().expect("it is told");
    assert_eq!(error.kind(), ErrorKind::Full, "{error}");
    put_until(&store, "room again", |store| store.checkpoint_error().is_none());
    assert!(store.stats().checkpoints > 0);
    store.close().expect("the store closes");
}

#[test]
fn a_store_that_is_dropped_in_the_middle_of_a_checkpoint_is_free_when_the_drop_returns() {
    let fs = SimFs::new(1);
    let gate = GateFs::new(&fs);
    let config = Config { checkpoint_log_bytes: 1, ..scheduled() };
    let store = open_broken(Arc::new(gate.clone()), &config, Bugs::NONE).expect("a new store opens");
    let (tell, told) = channel();
    let (go, may_go) = channel::<()>();
    let may_go = Mutex::new(may_go);
    gate.watch(move |call| {
        if call.operation == Operation::SyncData && call.name == "pages" && !call.is_over {
            tell.send(()).unwrap_or_default();
            may_go.lock().expect("no panic").recv().unwrap_or_default();
        }
    });
    store.put("a", "1").expect("a put works");
    told.recv().expect("the checkpoint syncs the pages");
    let (end, ended) = channel();
    let again = std::thread::spawn(move || {
        drop(store);
        end.send(()).unwrap_or_default();
        open(&fs, &scheduled()).map(|store| store.stats().checkpoints)
    });
    let waits = ended.recv_timeout(Duration::from_millis(200));
    assert_eq!(waits, Err(RecvTimeoutError::Timeout), "the checkpoint is being made");
    drop(go);
    let checkpoints = again.join().expect("no panic").expect("the files are free");
    assert_eq!(checkpoints, 1, "it was made to its end");
}
