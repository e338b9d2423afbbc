//! A batch of pages whose images are in the spare pages, and whose write the disk then had no room for, as one that copies on write: until
//! it is finished its pages may be torn, and the spare pages have their only images.

use checkpoint::Store;
use wal::SyncMode;
use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::disk_full::{KEYS, LOG_ROOM, PAGE, SPARE_PAGES, check, fill, spare_writes, store_on_full_disk};
use crate::world::{DIR, Model, config, content, key, open};

/// The size of a segment of the log.
const SEGMENT: u64 = 64 << 10;

/// A checkpoint on a full disk tears a page and ends.
fn tear_a_page(fs: &SimFs, store: &Store) {
    fs.record_trace(true);
    // The first write is that of the images.
    let no_room = Effect::PartialError { bytes: 700, errno: errno::ENOSPC };
    fs.plan(Fault::new(no_room).on(Operation::Write).name("pages").skip(1));
    let error = store.checkpoint().expect_err("a page does not fit");
    assert!(error.is_full(), "{error}");
    assert_eq!(spare_writes(fs), 1, "the images are in the spare pages");
    fs.record_trace(false);
}

fn store_with_torn_page(seed: u64) -> (SimFs, Store, Model) {
    let (fs, store, mut model) = store_on_full_disk(seed, false);
    fill(&store, &mut model, &mut Rng::new(seed));
    tear_a_page(&fs, &store);
    (fs, store, model)
}

#[test]
fn images_stay_in_the_spare_pages_until_the_pages_that_they_protect_are_whole() {
    let watchdog = Watchdog::start();
    let mut states = 0;
    for seed in 0..2 {
        let (fs, store, mut model) = store_with_torn_page(seed);
        // Room for a segment of changes, and for few images.
        fs.configure(|config| config.capacity = config.capacity.map(|bytes| bytes + SEGMENT));
        let mut looked = 0;
        for number in (0..KEYS).step_by(37) {
            let before = model.clone();
            fs.record_trace(true);
            fs.keep_crash_points(true);
            let result = store.put(key(number), [seed as u8 + 1; 100]);
            let points = fs.take_crash_points();
            let writes_pages = fs.take_trace().iter().any(|event| event.path.ends_with("/pages"));
            if result.is_ok() {
                model.insert(key(number), vec![seed as u8 + 1; 100]);
            }
            if !writes_pages {
                continue;
            }
            looked += 1;
            for (call, point) in points {
                watchdog.beat(|| format!("seed {seed}, call {call}"));
                for plan in 0..8 {
                    let crashed = point.crash(&CrashPlan::random(call ^ (plan << 20) ^ seed).with_torn_sectors());
                    let place = format!("seed {seed}, crashed before call {call}, outcome {plan}");
                    crashed.configure(|config| config.capacity = None);
                    let store =
                        open(&crashed, &config(SyncMode::Sync)).unwrap_or_else(|error| panic!("{place}: {error}"));
                    let found = content(&store).unwrap_or_else(|error| panic!("{place}: {error}"));
                    assert!(found == before || found == model, "{place}: {} entries", found.len());
                    states += 1;
                }
            }
            if looked == 2 || result.is_err() {
                break;
            }
        }
        assert!(looked > 0, "seed {seed}: no page left the pool");
    }
    println!("{states} states");
}

#[test]
fn a_batch_that_was_finished_is_not_written_again() {
    let (fs, store, mut model) = store_with_torn_page(2);
    fs.configure(|config| config.capacity = None);
    for round in 0..3 {
        // All pages change, go to the file, and are read from it again.
        for number in (0..KEYS).step_by(7) {
            store.put(key(number), vec![round; 100]).expect("there is room");
            model.insert(key(number), vec![round; 100]);
        }
        store.checkpoint().expect("a checkpoint works");
        assert!(content(&store).expect("it can be read") == model, "round {round}");
    }
    check(&fs.kill(), &model, 0, "killed");
}

#[test]
fn a_batch_that_cannot_be_finished_poisons_the_store() {
    let (fs, store, _) = store_with_torn_page(3);
    fs.configure(|config| config.capacity = None);
    fs.plan(Fault::error(errno::EIO).on(Operation::Write).name("pages"));
    // Dirty pages have to leave the pool for others.
    let error = (0..KEYS).step_by(10).find_map(|number| store.put(key(number), [1; 100]).err()).expect("they cannot");
    assert_eq!(error.io_error().and_then(std::io::Error::raw_os_error), Some(errno::EIO), "{error}");
    let error = store.get(key(0)).expect_err("nothing is known of the pages in the file");
    assert!(error.is_poisoned(), "{error}");
}

#[test]
fn spare_pages_that_are_needed_do_not_become_others_when_the_file_grows() {
    let fs = SimFs::new(4);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let pages = || fs.read_file(format!("{DIR}/pages")).expect("the page file is there").len() as u64 / PAGE;
    let mut model = Model::new();
    // Almost all of the file's pages are in use.
    for number in 0.. {
        if store.stats().page_count + SPARE_PAGES + 3 > pages() {
            break;
        }
        store.put(key(number), [7; 100]).expect("there is room");
        model.insert(key(number), vec![7; 100]);
    }
    store.checkpoint().expect("a checkpoint works");
    let used = fs.space_used();
    fs.configure(|config| config.capacity = Some(used + LOG_ROOM));
    fill(&store, &mut model, &mut Rng::new(4));
    tear_a_page(&fs, &store);
    fs.configure(|config| config.capacity = None);
    let (value, before) = (vec![9; 30_000], pages());
    store.put("long", &value).expect("there is room");
    assert!(pages() > before, "the file has grown");
    model.insert(b"long".to_vec(), value);
    check(&fs.kill(), &model, 0, "killed when the file had grown");
}

#[test]
fn a_page_that_was_restored_from_a_spare_page_is_durable_before_another_is_written() {
    let (fs, _store, model) = store_with_torn_page(5);
    let killed = fs.kill();
    killed.configure(|config| config.capacity = None);
    killed.record_trace(true);
    let store = open(&killed, &config(SyncMode::Sync)).expect("it opens");
    let calls = killed.take_trace().into_iter().filter(|event| event.path.ends_with("/pages"));
    let calls: Vec<Operation> =
        calls.map(|event| event.operation).filter(|call| *call == Operation::Write || call.is_sync()).collect();
    let restored = store.recovery_report().pages_restored as usize;
    assert!(restored > 0 && calls.len() > restored + 1, "{restored} of {calls:?}");
    assert!(calls[..restored].iter().all(|call| *call == Operation::Write) && calls[restored].is_sync(), "{calls:?}");
    assert!(content(&store).expect("it can be read") == model);
}
