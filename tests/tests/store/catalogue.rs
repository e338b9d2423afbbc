//! The faults 43 to 50 of the catalogue, by their numbers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use checkpoint::Store;
use checkpoint::museum::Bugs;
use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal::{ErrorKind, SyncMode};
use wal_tests::rng::Rng;

use crate::gate::GateFs;
use crate::world::{DIR, Mix, Model, Op, apply, apply_to_model, config, content, key, open, open_broken, verified};

const PAGE: usize = 4 << 10;
const SECTOR: usize = 512;

fn pages_of(fs: &SimFs) -> Vec<u8> {
    fs.read_file(format!("{DIR}/pages")).expect("the page file is there")
}

fn control_of(fs: &SimFs) -> Vec<u8> {
    fs.read_file(format!("{DIR}/checkpoint")).expect("the control file is there")
}

/// A store with a checkpoint behind it and changes since, in every mode's safest state: all of it is acknowledged.
fn store_with_changes(seed: u64) -> (SimFs, Store, Model) {
    let fs = SimFs::new(seed);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let (mut rng, mut model) = (Rng::new(seed), Model::new());
    for round in 0..2 {
        for _ in 0..150 {
            let op = match Mix::GROWING.op(&mut rng) {
                Op::Checkpoint => Op::Flush,
                op => op,
            };
            apply(&store, &op).expect("an operation works");
            apply_to_model(&mut model, &op);
        }
        if round == 0 {
            store.checkpoint().expect("a checkpoint works");
        }
    }
    (fs, store, model)
}

fn holds(fs: &SimFs, model: &Model, what: &str) -> Store {
    let report = verified(fs);
    assert_eq!(report.tree.map(|tree| tree.entries), Some(model.len() as u64), "{what}");
    let store = open(fs, &config(SyncMode::Sync)).unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = content(&store).unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(found == *model, "{what}: {} entries, not {}", found.len(), model.len());
    store
}

/// Writes much in a mode that syncs nothing by itself, and looks at every page that goes to the file. `Err` tells of one that went too early.
pub fn no_page_before_its_log(bugs: Bugs) -> Result<(), String> {
    // Without checkpoints pages are soon written without images, whose durability would be that of all before them.
    [true, false].into_iter().try_for_each(|checkpoints| no_page_before_its_log_with(bugs, checkpoints))
}

fn no_page_before_its_log_with(bugs: Bugs, checkpoints: bool) -> Result<(), String> {
    let gate = GateFs::new(&SimFs::new(43));
    let store = open_broken(Arc::new(gate.clone()), &config(SyncMode::None), bugs).expect("a new store opens");
    let (log, seen, early) = (store.log().clone(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (seen_there, early_there) = (Arc::clone(&seen), Arc::clone(&early));
    gate.watch(move |call| {
        if call.operation != Operation::Write || call.name != "pages" || call.is_over {
            return;
        }
        for page in call.bytes.chunks_exact(PAGE) {
            let page_lsn = u64::from_le_bytes(page[16..24].try_into().expect("eight bytes"));
            let is_early = page_lsn > 0 && page_lsn >= log.durable_lsn().get();
            seen_there.fetch_add(u64::from(page_lsn > 0), Ordering::SeqCst);
            early_there.fetch_add(u64::from(is_early), Ordering::SeqCst);
        }
    });
    let mut rng = Rng::new(43);
    for _ in 0..2000 {
        let op = Mix::GROWING.op(&mut rng);
        if checkpoints || !matches!(op, Op::Checkpoint | Op::Flush) {
            apply(&store, &op).expect("an operation works");
        }
    }
    gate.forget();
    let (seen, early) = (seen.load(Ordering::SeqCst), early.load(Ordering::SeqCst));
    assert!(seen > 200, "only {seen} pages were written");
    if early == 0 { Ok(()) } else { Err(format!("{early} of {seen} pages were written before their log was durable")) }
}

#[test]
fn fault_43_a_page_is_not_written_before_its_log_is_durable() {
    no_page_before_its_log(Bugs::NONE).expect("the log is ahead");
}

#[test]
fn fault_44_a_torn_page_with_a_new_lsn_and_an_old_body_is_restored_from_its_image() {
    let (fs, store, model) = store_with_changes(44);
    let before = pages_of(&fs);
    fs.keep_crash_points(true);
    store.checkpoint().expect("a checkpoint works");
    let (mut torn, mut restored) = (0, 0);
    for (call, point) in fs.take_crash_points() {
        if control_of(&point) != control_of(&fs) {
            let after = pages_of(&point);
            for (number, (old, new)) in before.chunks(PAGE).zip(after.chunks(PAGE)).enumerate() {
                // Each page that was written since: the new first sector, which has the LSN, and the old rest; and the other way round.
                for new_sectors in [0..SECTOR, SECTOR..PAGE] {
                    let mut mixed = old.to_vec();
                    mixed[new_sectors.clone()].copy_from_slice(&new[new_sectors]);
                    if mixed == old || mixed == new || !call.is_multiple_of(3) {
                        continue;
                    }
                    let killed = point.kill();
                    let mut file = after.clone();
                    file[number * PAGE..][..PAGE].copy_from_slice(&mixed);
                    killed.write_file(format!("{DIR}/pages"), &file).expect("the file can be replaced");
                    let store = holds(&killed, &model, &format!("call {call}, page {number} torn"));
                    // A page whose first change since the redo point gives all of it needs no image.
                    restored += store.recovery_report().pages_restored;
                    torn += 1;
                }
            }
        }
    }
    println!("{torn} torn pages, {restored} restored");
    assert!(torn > 20 && restored > 10);
}

#[test]
fn fault_45_when_the_page_sync_fails_the_checkpoint_does_not_count_and_the_log_stays() {
    for seed in 45..48 {
        let (fs, store, model) = store_with_changes(seed);
        let (control, start, sequence) = (control_of(&fs), store.log().start_lsn(), store.stats().checkpoints);
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
        let error = store.checkpoint().expect_err("the sync fails");
        assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{error}");
        assert!(control_of(&fs) == control, "the control file is the old one");
        assert_eq!((store.log().start_lsn(), store.stats().checkpoints), (start, sequence));
        fs.record_trace(true);
        let calls: [(&str, wal::Result<()>); 5] = [
            ("put", store.put("a", "b")),
            ("get", store.get("a").map(drop)),
            ("range", store.iter().next().expect("an error comes").map(drop)),
            ("checkpoint", store.checkpoint().map(drop)),
            ("close", store.close()),
        ];
        for (call, result) in calls {
            let error = result.expect_err("the store is poisoned");
            assert!(error.is_poisoned(), "{call}: {error}");
            assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{call}: {error}");
        }
        let retried = fs.take_trace().iter().any(|event| event.path.ends_with("/pages") && event.operation.is_sync());
        assert!(!retried, "the sync is not tried again");
        let evicted = fs.kill();
        evicted.drop_caches();
        holds(&evicted, &model, "killed, and the cache dropped");
        for seed in 0..8 {
            holds(&fs.crash(&CrashPlan::random(seed)), &model, &format!("crash {seed}"));
        }
        holds(&fs.crash(&CrashPlan::keep_nothing()), &model, "a crash that keeps nothing");
    }
}

#[test]
fn fault_46_an_error_of_the_write_back_is_heard_because_the_page_file_stays_open() {
    let fs = SimFs::new(46);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    fs.record_trace(true);
    let mut rng = Rng::new(46);
    let mut model = Model::new();
    for _ in 0..400 {
        let op = Mix::GROWING.op(&mut rng);
        apply(&store, &op).expect("an operation works");
        apply_to_model(&mut model, &op);
    }
    let is_open = |event: &&wal::fs::sim::Event| event.operation == Operation::Open && event.path.ends_with("/pages");
    assert_eq!(fs.take_trace().iter().filter(is_open).count(), 0, "it is not opened again");
    let start = store.log().start_lsn();
    fs.plan(Fault::new(Effect::WriteBackError(errno::EIO)).on(Operation::Write).name("pages"));
    store.put("one", "more").expect("a put works");
    model.insert(b"one".to_vec(), b"more".to_vec());
    store.checkpoint().expect_err("the write said that all was well, and the sync tells the truth");
    assert_eq!(store.log().start_lsn(), start);
    let evicted = fs.kill();
    evicted.drop_caches();
    holds(&evicted, &model, "killed, and the cache dropped");
}

#[test]
fn fault_47_a_page_that_is_changed_while_it_is_written_stays_dirty() {
    let fs = SimFs::new(47);
    let gate = GateFs::new(&fs);
    let store = open_broken(Arc::new(gate.clone()), &config(SyncMode::Sync), Bugs::NONE).expect("a new store opens");
    store.put("key", "first").expect("a put works");
    let (other, is_done) = (store.clone(), Arc::new(AtomicBool::new(false)));
    let done = Arc::clone(&is_done);
    gate.watch(move |call| {
        let is_page_write = call.operation == Operation::Write && call.name == "pages" && !call.is_over;
        if is_page_write && !done.swap(true, Ordering::SeqCst) {
            let other = other.clone();
            let put = std::thread::spawn(move || other.put("key", "second"));
            put.join().expect("no panic").expect("a put works while the page is written");
        }
    });
    store.checkpoint().expect("a checkpoint works").expect("there is something to do");
    gate.forget();
    assert!(is_done.load(Ordering::SeqCst), "the page was changed on its way");
    let file = pages_of(&fs);
    assert!(file.windows(5).any(|bytes| bytes == b"first") && !file.windows(6).any(|bytes| bytes == b"second"));
    assert_eq!(store.stats().dirty_pages, 1, "the page is dirty again");
    let crashed = fs.crash(&CrashPlan::keep_nothing());
    let expected = Model::from([(b"key".to_vec(), b"second".to_vec())]);
    holds(&crashed, &expected, "a crash behind the checkpoint");
    store.checkpoint().expect("a checkpoint works").expect("the page is still to be written");
    assert!(pages_of(&fs).windows(6).any(|bytes| bytes == b"second"));
    assert_eq!(store.stats().dirty_pages, 0);
    assert!(store.checkpoint().expect("a checkpoint works").is_none(), "now there is nothing to do");
}

#[test]
fn fault_48_redo_that_is_done_twice_or_three_times_gives_the_same_bytes() {
    let (fs, store, model) = store_with_changes(48);
    let killed = fs.kill();
    drop(store);
    let once = killed.kill();
    holds(&once, &model, "once").close().expect("the store closes");
    let expected = pages_of(&once);
    let first = killed.kill();
    first.keep_crash_points(true);
    drop(holds(&first, &model, "interrupted"));
    let mut runs = 0;
    for (call, point) in first.take_crash_points() {
        if control_of(&point) != control_of(&killed) {
            break;
        }
        // The process dies inside the first recovery, and again inside the second.
        let second = point.kill();
        second.keep_crash_points(true);
        holds(&second, &model, "twice").close().expect("the store closes");
        assert!(pages_of(&second) == expected, "twice, the first time up to call {call}");
        for (inner, point) in second.take_crash_points().into_iter().step_by(5) {
            if control_of(&point) != control_of(&killed) {
                break;
            }
            let third = point.kill();
            holds(&third, &model, "three times").close().expect("the store closes");
            assert!(pages_of(&third) == expected, "three times, up to call {call} and call {inner}");
            runs += 1;
        }
    }
    println!("{runs} recoveries");
    assert!(runs > 10);
}

#[test]
fn fault_49_a_stale_page_is_rejected() {
    let (fs, store, model) = store_with_changes(49);
    let stale = pages_of(&fs);
    store.checkpoint().expect("a checkpoint works");
    let fresh = pages_of(&fs);
    // Changes of pages that the last checkpoint wrote.
    let mut changed = model.clone();
    for key in model.keys().step_by(5) {
        store.put(key, "new").expect("a put works");
        changed.insert(key.clone(), b"new".to_vec());
    }
    let killed = fs.kill();
    drop(store);
    drop(holds(&killed.kill(), &changed, "untouched"));
    let (mut rejected, mut unread) = (0, 0);
    for number in 0..stale.len() / PAGE {
        let place = number * PAGE..(number + 1) * PAGE;
        if stale[place.clone()] == fresh[place.clone()] || stale[place.clone()].iter().all(|byte| *byte == 0) {
            continue;
        }
        // The write of this page at the last checkpoint was lost, and what was there before is a valid page.
        let lost = killed.kill();
        let mut file = pages_of(&lost);
        file[place.clone()].copy_from_slice(&stale[place]);
        lost.write_file(format!("{DIR}/pages"), &file).expect("the file can be replaced");
        match open(&lost, &config(SyncMode::Sync)) {
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                rejected += 1;
            }
            // Nothing changed the page since, so redo did not meet it: a limit that specs/pages.md names.
            Ok(store) => {
                unread += 1;
                drop(store);
            }
        }
    }
    println!("{rejected} stale pages rejected, {unread} not met by redo");
    assert!(rejected > 5);
}

#[test]
fn fault_49_a_page_of_another_store_or_of_another_place_is_rejected() {
    let (fs, store, model) = store_with_changes(490);
    store.close().expect("the store closes");
    let file = pages_of(&fs);
    let used: Vec<usize> =
        (0..file.len() / PAGE).filter(|page| file[page * PAGE..][..PAGE].iter().any(|byte| *byte != 0)).collect();
    for (at, from) in used.iter().zip(used.iter().skip(1)) {
        let moved = fs.kill();
        let mut file = file.clone();
        file.copy_within(from * PAGE..(from + 1) * PAGE, at * PAGE);
        moved.write_file(format!("{DIR}/pages"), &file).expect("the file can be replaced");
        let found = open(&moved, &config(SyncMode::Sync)).and_then(|store| content(&store));
        match found {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{error}"),
            Ok(found) => assert!(found == model, "page {at} is a free one, so nobody reads it"),
        }
    }
    let other = SimFs::new(2);
    let opener = Store::opener(config(SyncMode::Sync)).file_system(Arc::new(other.clone())).log_id([8; 16]);
    let store = opener.open(DIR).expect("a new store opens");
    store.close().expect("the store closes");
    let foreign = fs.kill();
    foreign.write_file(format!("{DIR}/pages"), &pages_of(&other)).expect("the file can be replaced");
    let error = open(&foreign, &config(SyncMode::Sync)).expect_err("these are the pages of another store");
    assert_eq!(error.kind(), ErrorKind::Corruption);
    let foreign = fs.kill();
    foreign.write_file(format!("{DIR}/checkpoint"), &control_of(&other)).expect("the file can be replaced");
    let error = open(&foreign, &config(SyncMode::Sync)).expect_err("this is the control file of another store");
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn fault_50_a_page_that_is_new_in_the_page_cache_only_is_written_again() {
    for seed in 50..54 {
        let (fs, store, model) = store_with_changes(seed);
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
        store.checkpoint().expect_err("the sync fails, and the disk never gets the pages");
        // The process dies, the machine does not: reads show the pages as they should be.
        let killed = fs.kill();
        drop(store);
        let store = holds(&killed, &model, "killed");
        assert!(store.recovery_report().changes_skipped > 0, "redo finds pages that are new already");
        store.put(key(1), "later").expect("a put works");
        let mut changed = model.clone();
        changed.insert(key(1), b"later".to_vec());
        let evicted = killed.kill();
        evicted.drop_caches();
        holds(&evicted, &changed, "then the cache is dropped");
        holds(&killed.crash(&CrashPlan::keep_nothing()), &changed, "then the machine crashes");
    }
}
