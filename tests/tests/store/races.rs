//! Two things at the same time, one put into the middle of the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use checkpoint::museum::Bugs;
use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
use wal::{ErrorKind, SyncMode};
use wal_tests::watchdog::Watchdog;

use crate::gate::GateFs;
use crate::world::{config, content, key, open, open_broken};

#[test]
fn when_two_need_a_sync_of_the_page_file_and_it_fails_neither_takes_it_for_done() {
    let watchdog = Watchdog::start();
    watchdog.beat(|| "two syncs".to_owned());
    let fs = SimFs::new(1);
    let gate = GateFs::new(&fs);
    let store = open_broken(Arc::new(gate.clone()), &config(SyncMode::Sync), Bugs::NONE).expect("a new store opens");
    store.put("gone", "again").expect("a put works");
    store.delete("gone").expect("a delete works");
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
    // When the checkpoint is about to sync, a bulk load wants a sync too. The operating system tells only one of them.
    let (tell, told) = mpsc::channel();
    let (other, has_come) = (store.clone(), AtomicBool::new(false));
    gate.watch(move |call| {
        if call.operation != Operation::SyncData || call.name != "pages" || call.is_over {
            return;
        }
        if !has_come.swap(true, Ordering::SeqCst) {
            let (other, tell) = (other.clone(), tell.clone());
            let (end, ended) = mpsc::channel();
            std::thread::spawn(move || {
                let result = other.bulk_load([("a", "1"), ("b", "2")]);
                end.send(()).unwrap_or_default();
                tell.send(result).unwrap_or_default();
            });
            // It may end now, or have to wait for this sync.
            ended.recv_timeout(Duration::from_millis(300)).unwrap_or_default();
        }
    });
    let checkpoint = store.checkpoint();
    let load = told.recv().expect("the load ends");
    gate.forget();
    let (checkpoint, load) = (checkpoint.expect_err("not synced"), load.expect_err("not synced"));
    for error in [checkpoint, load] {
        assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{error}");
    }
    let store = open(&fs.crash(&CrashPlan::keep_nothing()), &config(SyncMode::Sync)).expect("the store opens");
    assert!(content(&store).expect("it can be read").is_empty());
}

#[test]
fn what_a_hold_kept_of_the_log_is_removed_when_the_hold_is_gone() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    let hold = store.log().hold("backup", store.log().start_lsn()).expect("a hold");
    for number in 0..2000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    let start = store.log().start_lsn();
    store.checkpoint().expect("a checkpoint works").expect("there is something to do");
    assert_eq!(store.log().start_lsn(), start, "the hold keeps the log");
    drop(hold);
    assert!(store.checkpoint().expect("a checkpoint works").is_none(), "nothing was logged since");
    assert!(store.log().start_lsn() > start, "the log that nobody needs is gone");
}

#[test]
fn a_closed_store_refuses_everything_and_touches_no_file() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    for number in 0..3000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    let mut range = store.iter();
    range.next().expect("an entry").expect("it can be read");
    store.close().expect("the store closes");
    fs.record_trace(true);
    let refused = [
        store.put("a", "b").map(drop),
        store.get(key(7)).map(drop),
        store.delete("a").map(drop),
        store.checkpoint().map(drop),
        store.bulk_load([("a", "b")]).map(drop),
        range.last().expect("an error comes").map(drop),
    ];
    for result in refused {
        assert_eq!(result.expect_err("the store is closed").kind(), ErrorKind::Closed);
    }
    store.close().expect("closing twice is no error");
    let changes = fs.take_trace();
    let changes = changes.iter().filter(|event| !matches!(event.operation, Operation::Read | Operation::Len));
    assert_eq!(changes.count(), 0);
    assert_eq!(content(&open(&fs, &config(SyncMode::None)).expect("it opens again")).expect("it reads").len(), 3000);
}

#[test]
fn a_load_that_is_under_way_writes_no_page_once_the_log_has_given_up_its_lock() {
    let gate = GateFs::new(&SimFs::new(1));
    let store = open_broken(Arc::new(gate.clone()), &config(SyncMode::None), Bugs::NONE).expect("a new store opens");
    let ((begin, begun), (go, may_go), (tell, told)) = (mpsc::channel(), mpsc::channel(), mpsc::channel());
    let loading = store.clone();
    let load = std::thread::spawn(move || {
        // More than is collected before it is written. When it is asked for the last, some was written.
        let entries = (0..4000_u64).inspect(|number| match number {
            0 => {
                begin.send(()).expect("somebody waits");
                may_go.recv().expect("the lock is given up");
            }
            3999 => tell.send(()).expect("somebody waits"),
            _ => (),
        });
        loading.bulk_load(entries.map(|number| (key(number), [7; 900])))
    });
    begun.recv().expect("the load begins");
    let (is_free, is_late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (free, late, told) = (Arc::clone(&is_free), Arc::clone(&is_late), std::sync::Mutex::new(told));
    gate.watch(move |call| match call.operation {
        Operation::TryLock if call.is_over => {
            free.store(true, Ordering::SeqCst);
            go.send(()).expect("the load waits");
            // Until it has written, or was refused.
            told.lock().expect("no panic").recv().unwrap_or_default();
        }
        Operation::Write if call.name == "pages" && free.load(Ordering::SeqCst) => late.store(true, Ordering::SeqCst),
        _ => (),
    });
    store.close().expect("the store closes");
    assert!(is_free.load(Ordering::SeqCst), "the log has given up its lock");
    let error = load.join().expect("no panic").expect_err("the store was closed");
    assert_eq!((error.kind(), is_late.load(Ordering::SeqCst)), (ErrorKind::Closed, false), "{error}");
    gate.forget();
}

#[test]
fn a_store_is_not_ended_by_a_checkpoint_that_finds_the_disk_full_for_its_control_file() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("checkpoint.tmp"));
    let error = store.checkpoint().expect_err("there is no room");
    assert_eq!(error.kind(), ErrorKind::Full);
    store.put("b", "2").expect("the store goes on");
    store.checkpoint().expect("there is room by now").expect("there is something to do");
}

#[test]
fn pages_that_are_full_to_the_last_byte_fit_the_log_as_images() {
    // Sixteen images of full pages are longer than the smallest segment.
    let store = open(&SimFs::new(1), &config(SyncMode::None)).expect("a new store opens");
    for number in 0..2000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    store.checkpoint().expect("a checkpoint works");
    // Values that fill their pages, more of them than go into one batch.
    let room = store.stats().page_bytes - 40;
    for number in 0..4 {
        store.put(key(number), vec![2; 8 * room]).expect("a put works");
    }
    let written = store.checkpoint().expect("a checkpoint works").expect("there is something to do").pages_written;
    assert!(written > 4 * 8, "{written}");
    let mut small = config(SyncMode::None);
    small.log.segment_bytes_max = 60 << 10;
    let error = open(&SimFs::new(1), &small).expect_err("a segment has to hold sixteen pages");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn a_store_that_dies_before_anything_is_durable_opens_again_empty() {
    for mode in [SyncMode::Sync, SyncMode::BATCH_DEFAULT, SyncMode::None] {
        for puts in [0, 1, 600] {
            let mut fs = SimFs::new(1);
            for round in 0..4 {
                let store = open(&fs, &config(mode)).unwrap_or_else(|error| panic!("{mode:?}, round {round}: {error}"));
                for number in 0..puts {
                    store.put(key(number), [round; 100]).expect("a put works");
                }
                let crashed = if round % 2 == 0 { fs.crash(&CrashPlan::keep_nothing()) } else { fs.kill() };
                drop(store);
                fs = crashed;
            }
            let store = open(&fs, &config(mode)).unwrap_or_else(|error| panic!("{mode:?}, {puts} puts: {error}"));
            let found = content(&store).expect("it can be read").len() as u64;
            assert!(found <= puts && (mode != SyncMode::Sync || found == puts), "{mode:?}: {found} of {puts}");
        }
    }
}
