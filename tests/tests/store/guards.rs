//! What breaks if one check, sync or order of the store is taken out, where nothing else noticed. `tests/mutants` lists them.

use std::sync::Arc;
use std::sync::mpsc::channel;

use checkpoint::{Batch, Config};
use wal::fs::sim::{CrashPlan, Fault, Operation, SimFs, errno};
use wal::{ErrorKind, SyncMode};

use crate::disk_full::{KEYS, PAGE, fill, store_on_full_disk};
use crate::gate::GateFs;
use crate::world::{DIR, Model, config, content, key, open, open_broken};

fn is_eio(error: &wal::Error) -> bool {
    error.io_error().and_then(std::io::Error::raw_os_error) == Some(errno::EIO)
}

fn file(fs: &SimFs, name: &str) -> Vec<u8> {
    fs.read_file(format!("{DIR}/{name}")).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
fn what_an_operation_could_not_finish_poisons_the_store() {
    type Act = fn(&checkpoint::Store) -> wal::Result<()>;
    let acts: [(&str, Operation, &str, Act); 5] = [
        ("a put", Operation::Write, ".wal", |store| store.put("a", "2")),
        ("a flush", Operation::SyncData, ".wal", |store| store.flush()),
        ("the commit of a checkpoint", Operation::Rename, "checkpoint", |store| store.checkpoint().map(drop)),
        ("the sync of a load", Operation::SyncData, "pages", |store| store.bulk_load([("b", "1")]).map(drop)),
        ("the write of a load", Operation::Write, "pages", |store| store.bulk_load([("b", "1")]).map(drop)),
    ];
    for (what, operation, name, act) in acts {
        let fs = SimFs::new(1);
        let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
        store.put("a", "1").expect("a put works");
        if what.ends_with("load") {
            store.delete("a").expect("a delete works");
        }
        let fault = Fault::error(errno::EIO).on(operation);
        fs.plan(if name == ".wal" { fault } else { fault.name(name) });
        let error = act(&store).expect_err(what);
        assert!(is_eio(&error), "{what}: {error}");
        let error = store.get("a").expect_err(what);
        assert!(error.is_poisoned() && is_eio(&error), "{what}: {error}");
    }
}

#[test]
fn a_store_whose_close_fails_gives_up_its_files_all_the_same() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
    let error = store.close().expect_err("its checkpoint fails");
    assert!(is_eio(&error), "{error}");
    let next = open(&fs, &config(SyncMode::Sync)).expect("the files are free");
    assert_eq!(next.get("a").expect("it can be read").as_deref(), Some(b"1".as_slice()));
}

#[test]
fn nothing_is_written_to_the_page_file_once_the_log_has_given_up_its_lock() {
    // Closing the log removes or renames nothing of the store, so the last call on the page file comes before the log's last one.
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    fs.record_trace(true);
    store.close().expect("the store closes");
    let trace = fs.take_trace();
    let changes = |event: &wal::fs::sim::Event| event.operation == Operation::Write || event.operation.is_sync();
    let last_page = trace.iter().rposition(|event| event.path.ends_with("/pages") && changes(event));
    let last_log = trace.iter().rposition(|event| event.path.contains("/wal/") && changes(event));
    assert!(last_page.is_some() && last_page < last_log);
}

#[test]
fn an_open_that_replayed_makes_a_checkpoint_so_that_the_next_one_does_not() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    let killed = fs.kill();
    drop(store);
    let store = open(&killed, &config(SyncMode::Sync)).expect("it opens");
    assert_eq!((store.recovery_report().records, store.recovery_report().pages_written), (1, 1));
    let again = open(&killed.kill(), &config(SyncMode::Sync)).expect("it opens");
    assert_eq!(again.recovery_report().records, 0);
}

#[test]
fn entries_of_a_batch_and_of_a_load_have_the_same_limits_as_those_of_a_put() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    let long = vec![7; store.key_bytes_max() + 1];
    let too_long = |error: wal::Error| assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    too_long(store.write(Batch::new().put(b"a", b"1").put(&long, b"1")).expect_err("the key is too long"));
    too_long(store.write(Batch::new().put(&long, b"1")).expect_err("the key is too long"));
    too_long(store.bulk_load([(long, "1")]).expect_err("the key is too long"));
    assert!(content(&store).expect("it can be read").is_empty());
}

#[test]
fn a_load_is_durable_when_it_returns_whatever_the_mode() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    store.bulk_load((0..500).map(|number| (key(number), [7; 100]))).expect("the load works");
    let crashed = fs.crash(&CrashPlan::keep_nothing());
    let store = open(&crashed, &config(SyncMode::None)).expect("it opens");
    assert_eq!(content(&store).expect("it can be read").len(), 500);
}

#[test]
fn a_load_goes_into_an_empty_tree_only() {
    for keys in [1, 500] {
        let store = open(&SimFs::new(1), &config(SyncMode::None)).expect("a new store opens");
        for number in 0..keys {
            store.put(key(number), [7; 100]).expect("a put works");
        }
        let error = store.bulk_load([("a", "1")]).expect_err("the tree is not empty");
        assert_eq!(error.kind(), ErrorKind::Refused);
        assert_eq!(content(&store).expect("it can be read").len() as u64, keys);
    }
}

#[test]
fn a_truncation_that_fails_fails_its_checkpoint() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    for number in 0..3000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    fs.record_trace(true);
    let calls = {
        let other = SimFs::new(1);
        let twin = open(&other, &config(SyncMode::None)).expect("a new store opens");
        for number in 0..3000 {
            twin.put(key(number), [1; 100]).expect("a put works");
        }
        other.record_trace(true);
        twin.checkpoint().expect("a checkpoint works");
        other.take_trace()
    };
    // The first call on a file of the log behind the commit is one of the truncation.
    let is_commit = |event: &wal::fs::sim::Event| {
        event.operation == Operation::Rename && event.path.starts_with(&format!("{DIR}/checkpoint"))
    };
    let commit = calls.iter().position(is_commit).expect("the checkpoint is committed");
    let is_of_log = |event: &&wal::fs::sim::Event| {
        event.path.contains("/wal/") && event.operation == Operation::SyncAll
            || event.path.contains("/wal/") && event.operation == Operation::SyncData
    };
    let call = calls[commit..].iter().find(is_of_log).expect("the truncation syncs something").call;
    fs.plan(Fault::error(errno::EIO).at_call(call));
    let error = store.checkpoint().expect_err("the truncation fails");
    assert!(is_eio(&error), "{error}");
    assert!(store.get(key(1)).expect_err("poisoned").is_poisoned());
}

#[test]
fn an_image_is_not_written_to_a_spare_page_before_its_log_is_durable() {
    let mut late = config(SyncMode::None);
    late.log.reserve_bytes = 8 << 10;
    let gate = GateFs::new(&{
        let (fs, store, mut model) = store_on_full_disk(7, false);
        fill(&store, &mut model, &mut wal_tests::rng::Rng::new(7));
        store.close().expect("the store closes");
        // Room for segments of changes, and in the end for none of images.
        fs.configure(|config| config.capacity = config.capacity.map(|bytes| bytes + (192 << 10)));
        fs
    });
    let store = open_broken(Arc::new(gate.clone()), &late, checkpoint::museum::Bugs::NONE).expect("it opens");
    let (log, first_spare) = (store.log().clone(), {
        let pages = store.stats().page_count;
        move |bytes: &[u8]| u64::from_le_bytes(bytes[8..16].try_into().expect("eight bytes")) < pages
    });
    let (tell, told) = channel();
    gate.watch(move |call| {
        if call.operation != Operation::Write || call.name != "pages" || call.is_over {
            return;
        }
        for page in call.bytes.chunks_exact(PAGE as usize).filter(|page| first_spare(page)) {
            let page_lsn = u64::from_le_bytes(page[16..24].try_into().expect("eight bytes"));
            tell.send(page_lsn > 0 && page_lsn >= log.durable_lsn().get()).unwrap_or_default();
        }
    });
    for number in (0..KEYS).cycle().step_by(17).take(6000) {
        if store.put(key(number), [9; 100]).is_err() {
            break;
        }
    }
    gate.forget();
    drop(store);
    let early: Vec<bool> = told.try_iter().collect();
    assert!(
        early.len() > 16 && !early.contains(&true),
        "{} of {}",
        early.iter().filter(|it| **it).count(),
        early.len()
    );
}

#[test]
fn a_page_that_was_damaged_later_is_not_restored_from_a_spare_image_of_an_earlier_time() {
    let (fs, store, mut model) = store_on_full_disk(8, false);
    fill(&store, &mut model, &mut wal_tests::rng::Rng::new(8));
    store.checkpoint().expect("a checkpoint works");
    fs.configure(|config| config.capacity = None);
    for number in 0..KEYS {
        store.put(key(number), [9; 100]).expect("there is room");
        model.insert(key(number), vec![9; 100]);
    }
    store.close().expect("the store closes");
    let bytes = file(&fs, "pages");
    let pages = bytes.chunks_exact(PAGE as usize);
    let first = pages.len() - 16;
    let imaged: Vec<usize> = pages
        .skip(first)
        .map(|page| u64::from_le_bytes(page[8..16].try_into().expect("eight bytes")) as usize)
        .filter(|id| *id > 0 && *id < first)
        .collect();
    assert!(!imaged.is_empty(), "the spare pages have images");
    for id in imaged {
        let damaged = fs.kill();
        let mut bytes = bytes.clone();
        bytes[id * PAGE as usize + 3000] ^= 1;
        damaged.write_file(format!("{DIR}/pages"), &bytes).expect("the file can be replaced");
        let found = open(&damaged, &config(SyncMode::Sync)).and_then(|store| content(&store));
        match found {
            Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "page {id}: {error}"),
            Ok(found) => assert!(found == model, "page {id}: what is there is of an earlier time"),
        }
    }
}

#[test]
fn the_room_for_the_next_control_file_is_kept_and_a_full_disk_for_it_is_no_failure() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let room = |place: &str| assert_eq!(file(&fs, "checkpoint.tmp").len(), 4096, "{place}");
    room("a new store");
    store.put("a", "1").expect("a put works");
    store.checkpoint().expect("a checkpoint works");
    room("a checkpoint");
    store.close().expect("the store closes");
    fs.remove_file(format!("{DIR}/checkpoint.tmp")).expect("it is there");
    let store = open(&fs, &config(SyncMode::Sync)).expect("it opens");
    room("an open");
    store.close().expect("the store closes");
    fs.remove_file(format!("{DIR}/checkpoint.tmp")).expect("it is there");
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("checkpoint.tmp"));
    let store = open(&fs, &config(SyncMode::Sync)).expect("a full disk does not keep a store from opening");
    store.close().expect("the store closes");
    fs.remove_file(format!("{DIR}/checkpoint.tmp")).expect("it is there");
    fs.plan(Fault::error(errno::EIO).on(Operation::Write).name("checkpoint.tmp"));
    let error = open(&fs, &config(SyncMode::Sync)).expect_err("a broken disk does");
    assert!(is_eio(&error), "{error}");
}

#[test]
fn a_store_that_was_only_just_created_is_there_whole_or_not_at_all() {
    let fs = SimFs::new(1);
    fs.keep_crash_points(true);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    drop(store);
    for (call, point) in fs.take_crash_points() {
        for plan in 0..4 {
            let crashed = point.crash(&CrashPlan::random(call ^ (plan << 20)));
            let store = open(&crashed, &config(SyncMode::Sync)).unwrap_or_else(|error| panic!("call {call}: {error}"));
            store.put("b", "2").expect("a put works");
        }
        drop(open(&point.kill(), &config(SyncMode::Sync)).unwrap_or_else(|error| panic!("killed at {call}: {error}")));
    }
}

#[test]
fn an_older_control_file_beside_a_truncated_log_is_found_even_if_it_names_no_checkpoint() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let first = file(&fs, "checkpoint");
    for number in 0..2000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    store.checkpoint().expect("a checkpoint works");
    store.close().expect("the store closes");
    fs.write_file(format!("{DIR}/checkpoint"), &first).expect("the file can be replaced");
    let error = open(&fs, &config(SyncMode::Sync)).expect_err("what it would replay is gone");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[test]
fn a_read_that_fails_while_replaying_fails_the_open_with_its_cause() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let mut model = Model::new();
    for number in 0..200 {
        store.put(key(number), [1; 100]).expect("a put works");
        model.insert(key(number), vec![1; 100]);
    }
    store.checkpoint().expect("a checkpoint works");
    store.put(key(7), "new").expect("a put works");
    model.insert(key(7), b"new".to_vec());
    let killed = fs.kill();
    drop(store);
    killed.record_trace(true);
    drop(open(&killed.kill(), &config(SyncMode::Sync)).expect("it opens"));
    for skip in 0.. {
        let broken = killed.kill();
        broken.plan(Fault::error(errno::EIO).on(Operation::Read).name("pages").skip(skip));
        match open(&broken, &config(SyncMode::Sync)) {
            Err(error) => assert!(is_eio(&error), "read {skip}: {error}"),
            Ok(store) => {
                assert!(skip > 16, "only {skip} reads");
                drop(store);
                break;
            }
        }
    }
    let store = open(&killed, &config(SyncMode::Sync)).expect("it opens");
    assert!(content(&store).expect("it can be read") == model);
}

#[test]
fn a_record_that_is_none_of_a_stores_stops_the_replay() {
    let fs = SimFs::new(1);
    let store = open(&fs, &Config { ..config(SyncMode::Sync) }).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    store.log().append(b"something else").expect("an append works");
    let killed = fs.kill();
    drop(store);
    let error = open(&killed, &config(SyncMode::Sync)).expect_err("nobody knows what it means");
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
}

#[test]
fn a_poisoned_store_takes_no_batch_and_no_load_either() {
    for is_empty in [true, false] {
        let fs = SimFs::new(1);
        let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
        store.put("a", "1").expect("a put works");
        if is_empty {
            store.delete("a").expect("a delete works");
        }
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
        store.checkpoint().expect_err("the sync fails");
        let end = store.log().next_lsn();
        let refused = [
            store.write(Batch::new().put(b"b", b"1").put(b"c", b"1")),
            store.write(Batch::new().put(b"b", b"1")),
            store.delete("a").map(drop),
            store.bulk_load([("b", "1")]).map(drop),
            store.get("a").map(drop),
        ];
        for (index, result) in refused.into_iter().enumerate() {
            assert!(result.expect_err("refused").is_poisoned(), "{index}");
        }
        assert_eq!(store.log().next_lsn(), end, "nothing was logged");
    }
}

#[test]
fn a_damaged_page_is_refused_as_often_as_it_is_asked_for() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    for number in 0..2000 {
        store.put(key(number), [1; 100]).expect("a put works");
    }
    store.close().expect("the store closes");
    let mut bytes = file(&fs, "pages");
    let leaf = bytes.windows(10).position(|at| at == key(1000)).expect("the key is there");
    bytes[leaf] ^= 1;
    fs.write_file(format!("{DIR}/pages"), &bytes).expect("the file can be replaced");
    let store = open(&fs, &config(SyncMode::None)).expect("it opens: nothing was to be replayed");
    for _ in 0..3 {
        let error = store.get(key(1000)).expect_err("the page is damaged");
        assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    }
    assert!(store.get(key(1)).expect("other pages are not").is_some());
}

#[test]
fn a_checkpoint_that_found_no_room_does_not_count() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    let before = store.stats().redo_lsn;
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write).name("checkpoint.tmp"));
    store.checkpoint().expect_err("there is no room");
    assert_eq!((store.stats().checkpoints, store.stats().redo_lsn), (0, before));
    let report = store.checkpoint().expect("there is room by now").expect("there is something to do");
    assert_eq!((report.sequence, store.stats().checkpoints, store.stats().redo_lsn), (1, 1, report.redo_lsn));
}

#[test]
fn a_load_has_each_key_once() {
    let store = open(&SimFs::new(1), &config(SyncMode::Sync)).expect("a new store opens");
    let error = store.bulk_load([("a", "1"), ("b", "1"), ("b", "2")]).expect_err("a key comes twice");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(content(&store).expect("it can be read").len(), 0);
}

#[test]
fn a_truncation_that_the_disk_has_no_room_for_leaves_its_checkpoint_in_force() {
    let fill = |fs: &SimFs| {
        let store = open(fs, &config(SyncMode::None)).expect("a new store opens");
        for number in 0..3000 {
            store.put(key(number), [1; 100]).expect("a put works");
        }
        fs.record_trace(true);
        store
    };
    let twin = SimFs::new(1);
    fill(&twin).checkpoint().expect("a checkpoint works");
    let calls = twin.take_trace();
    let is_commit = |event: &wal::fs::sim::Event| {
        event.operation == Operation::Rename && event.path.starts_with(&format!("{DIR}/checkpoint"))
    };
    let commit = calls.iter().position(is_commit).expect("the checkpoint is committed");
    let is_of_log = |event: &&wal::fs::sim::Event| event.path.contains("/wal/");
    let calls: Vec<u64> = calls[commit..].iter().filter(is_of_log).map(|event| event.call).collect();
    let is_kept = |call: &u64| {
        let fs = SimFs::new(1);
        let store = fill(&fs);
        fs.plan(Fault::error(errno::ENOSPC).at_call(*call));
        // A sync that finds no room is a failure all the same.
        let Ok(report) = store.checkpoint() else { return false };
        let report = report.expect("there is something to do");
        assert_eq!(store.stats().redo_lsn, report.redo_lsn);
        store.put("one", "more").expect("the store goes on");
        report.truncation_error.is_some_and(|error| error.is_full()) && report.truncation.is_none()
    };
    assert!(calls.iter().any(is_kept), "the log is kept when one of {} calls finds no room", calls.len());
}

#[test]
fn a_torn_page_is_made_from_the_last_change_that_holds_all_of_it() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let mut model: Model = (0..600).map(|number| (key(number), vec![1; 100])).collect();
    store.bulk_load(model.iter()).expect("the load works");
    store.checkpoint().expect("a checkpoint works");
    // Whole leaves become empty, entry by entry: their pages are changed first, and then they are free.
    for number in 100..500 {
        store.delete(key(number)).expect("a delete works");
        model.remove(&key(number));
    }
    let (pages, free) = (store.stats().page_count, store.stats().free_pages);
    let killed = fs.kill();
    let bytes = file(&killed, "pages");
    let restores = |id: u64| {
        let (torn, mut bytes) = (killed.kill(), bytes.clone());
        bytes[(id * PAGE) as usize + 3000] ^= 1;
        torn.write_file(format!("{DIR}/pages"), &bytes).expect("the file can be replaced");
        match open(&torn, &config(SyncMode::Sync)).and_then(|store| content(&store)) {
            Ok(found) => {
                assert!(found == model, "page {id}");
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corruption, "page {id}: {error}");
                false
            }
        }
    };
    let restored = (0..pages).filter(|id| restores(*id)).count() as u64;
    assert!(free > 3 && restored >= free, "{restored} of {pages} pages are restored, and {free} are free");
}

#[test]
fn a_page_that_recovery_writes_to_make_room_has_an_image_in_the_log() {
    let fs = SimFs::new(1);
    let (config, model) = (config(SyncMode::None), (0..KEYS).map(|number| (key(number), vec![1; 100])));
    let store = open(&fs, &config).expect("a new store opens");
    let mut model: Model = model.collect();
    store.bulk_load(model.iter()).expect("the load works");
    store.checkpoint().expect("a checkpoint works");
    for number in (0..KEYS).step_by(10) {
        store.put(key(number), [2; 100]).expect("a put works");
        model.insert(key(number), vec![2; 100]);
    }
    store.flush().expect("the log can be synced");
    let (killed, pages, pool) = (fs.kill(), store.stats().page_count, store.stats().pool_pages);
    let store = open(&killed, &config).expect("it opens");
    let stats = store.stats();
    assert!(pages > 2 * pool && stats.pages_written > 2 * pool, "{stats:?}");
    assert_eq!(stats.images_written, stats.pages_written, "each page is written once, and its image before it");
    assert!(content(&store).expect("it can be read") == model);
}

#[test]
fn a_page_that_the_log_has_as_a_whole_gets_no_image_when_recovery_writes_it_to_make_room() {
    let fs = SimFs::new(1);
    let mut large = config(SyncMode::None);
    large.pool_bytes = 1024 * large.page_bytes;
    let store = open(&fs, &large).expect("a new store opens");
    let (old, model) = ([1; 9000], (0..100).map(|number| (key(number), vec![2; 9000])).collect::<Model>());
    for key in model.keys() {
        store.put(key, old).expect("a put works");
    }
    store.checkpoint().expect("a checkpoint works");
    // The pages of each old value are freed, and used for the next.
    let before = store.stats().pages_written;
    for (key, value) in &model {
        store.put(key, value).expect("a put works");
    }
    store.flush().expect("the log can be synced");
    assert_eq!(store.stats().pages_written, before, "the log alone has the new values");
    let store = open(&fs.kill(), &config(SyncMode::None)).expect("it opens");
    let stats = store.stats();
    assert!(stats.page_count > 4 * stats.pool_pages && stats.pages_written > 4 * stats.pool_pages, "{stats:?}");
    // What the pool holds at the end is written by a checkpoint, behind a redo point of its own.
    assert!(stats.images_written < 2 * stats.pool_pages, "{stats:?}");
    assert!(content(&store).expect("it can be read") == model);
}

#[test]
fn a_store_is_locked_before_anything_is_read_that_another_process_may_be_changing() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    store.put("a", "1").expect("a put works");
    store.close().expect("the store closes");
    fs.record_trace(true);
    open(&fs, &config(SyncMode::Sync)).expect("it opens");
    let trace = fs.take_trace();
    let lock = trace.iter().position(|event| event.operation == Operation::TryLock).expect("the log is locked");
    for name in ["checkpoint", "pages"] {
        let path = format!("{DIR}/{name}");
        let first = trace.iter().position(|event| event.path == path).expect("it is read");
        assert!(lock < first, "{name} at call {first}, the lock at {lock}");
    }
}
