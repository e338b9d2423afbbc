//! The bug museum of checkpoints: the suite notices each bug that another checkpointer shipped, and nothing when there is none.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use checkpoint::museum::{Bug, Bugs};
use checkpoint::{Config, Store};
use wal::SyncMode;
use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::catalogue::no_page_before_its_log;
use crate::disk_full::{fill, store_on_full_disk_with};
use crate::gate::GateFs;
use crate::world::{Mix, Model, Op, apply, apply_to_model, config, content, open_broken};

/// What is done to a store, broken or not; an error says which promise was broken.
type Check<'a> = &'a dyn Fn(Bugs) -> Result<(), String>;

/// The bug must be noticed, and nothing else.
fn notices(bug: Bug, check: Check<'_>) {
    let watchdog = Watchdog::start();
    watchdog.beat(|| format!("{bug:?}"));
    if let Err(why) = check(Bugs::NONE) {
        panic!("without a bug: {why}");
    }
    match check(Bugs::one(bug)) {
        Err(why) => println!("{bug:?} is noticed: {why}"),
        Ok(()) => panic!("nothing notices {bug:?}"),
    }
}

fn small_config() -> Config {
    config(SyncMode::Sync)
}

fn new_store(fs: &SimFs, bugs: Bugs) -> Store {
    open_broken(Arc::new(fs.clone()), &small_config(), bugs).expect("a new store opens")
}

/// The store opens and holds exactly this.
fn holds(fs: &SimFs, bugs: Bugs, model: &Model, place: &str) -> Result<(), String> {
    let store = open_broken(Arc::new(fs.clone()), &small_config(), bugs).map_err(|why| format!("{place}: {why}"))?;
    let found = content(&store).map_err(|why| format!("{place}: {why}"))?;
    if found == *model {
        return Ok(());
    }
    Err(format!("{place}: {} entries are not what was put", found.len()))
}

fn change(store: &Store, model: &mut Model, rng: &mut Rng, count: u64) {
    for _ in 0..count {
        let op = match Mix::GROWING.op(rng) {
            Op::Checkpoint => Op::Flush,
            op => op,
        };
        apply(store, &op).expect("an operation works");
        apply_to_model(model, &op);
    }
}

/// A store with a checkpoint behind it and more than one segment of changes since.
fn changed_store(bugs: Bugs, seed: u64) -> (SimFs, Store, Model, Rng) {
    let fs = SimFs::new(seed);
    let store = new_store(&fs, bugs);
    let (mut rng, mut model) = (Rng::new(seed), Model::new());
    change(&store, &mut model, &mut rng, 300);
    store.checkpoint().expect("a checkpoint works");
    change(&store, &mut model, &mut rng, 900);
    (fs, store, model, rng)
}

/// A checkpoint is crashed before each of its calls.
fn crash_a_checkpoint(bugs: Bugs, seed: u64, plans: u64) -> Result<(), String> {
    let (fs, store, model, _) = changed_store(bugs, seed);
    fs.keep_crash_points(true);
    store.checkpoint().expect("a checkpoint works");
    for (call, point) in fs.take_crash_points() {
        for plan in 0..plans {
            let crashed = point.crash(&CrashPlan::random(call ^ (plan << 30)).with_torn_sectors());
            holds(&crashed, bugs, &model, &format!("seed {seed}, crashed before call {call}, outcome {plan}"))?;
        }
        holds(&point.crash(&CrashPlan::keep_nothing()), bugs, &model, &format!("call {call}, nothing kept"))?;
    }
    Ok(())
}

/// Each sync of the page file in a checkpoint fails once. What the disk lost is not missed.
fn fail_a_page_sync(bugs: Bugs) -> Result<(), String> {
    let (fs, store, model, _) = changed_store(bugs, 3);
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
    // Without a bug it fails; with one it may say that all is well. What counts is what is there afterwards.
    drop(store.checkpoint());
    let evicted = fs.kill();
    evicted.drop_caches();
    holds(&evicted, bugs, &model, "a failed page sync, then the process dies and the cache is dropped")?;
    holds(&fs.crash(&CrashPlan::keep_nothing()), bugs, &model, "a failed page sync, then a crash")
}

#[test]
fn a_log_that_is_truncated_before_the_page_file_is_synced_is_noticed() {
    notices(Bug::TruncatedBeforeSync, &|bugs| crash_a_checkpoint(bugs, 1, 4));
}

#[test]
fn a_log_that_is_deleted_after_a_failed_page_sync_is_noticed() {
    notices(Bug::FailedSyncIgnored, &fail_a_page_sync);
}

#[test]
fn a_page_sync_that_is_tried_again_is_noticed() {
    notices(Bug::SyncTriedAgain, &fail_a_page_sync);
}

#[test]
fn a_log_that_is_truncated_before_the_control_file_names_the_checkpoint_is_noticed() {
    notices(Bug::TruncatedBeforeCommit, &|bugs| crash_a_checkpoint(bugs, 2, 4));
}

#[test]
fn pages_that_are_overwritten_without_an_image_are_noticed() {
    notices(Bug::ImageLeftOut, &|bugs| crash_a_checkpoint(bugs, 3, 8));
}

#[test]
fn a_torn_page_that_its_lsn_hides_is_noticed() {
    notices(Bug::TornPageBelieved, &|bugs| (4..10).try_for_each(|seed| crash_a_checkpoint(bugs, seed, 12)));
}

#[test]
fn a_mark_that_says_more_than_what_was_written_is_noticed() {
    notices(Bug::MarkTakenLate, &|bugs| {
        let fs = SimFs::new(1);
        let gate = GateFs::new(&fs);
        let store = open_broken(Arc::new(gate.clone()), &small_config(), bugs).expect("a new store opens");
        store.put("key", "first").expect("a put works");
        // Somebody puts while the checkpoint writes its pages.
        let (other, is_done) = (store.clone(), AtomicBool::new(false));
        gate.watch(move |call| {
            let is_page_write = call.operation == Operation::Write && call.name == "pages" && call.is_over;
            if is_page_write && !is_done.swap(true, Ordering::SeqCst) {
                let other = other.clone();
                std::thread::spawn(move || other.put("key", "second")).join().expect("no panic").expect("a put works");
            }
        });
        store.checkpoint().expect("a checkpoint works");
        gate.forget();
        let model = Model::from([(b"key".to_vec(), b"second".to_vec())]);
        holds(&fs.crash(&CrashPlan::keep_nothing()), bugs, &model, "a crash behind the checkpoint")
    });
}

#[test]
fn a_stale_copy_that_is_put_in_the_place_of_a_newer_page_is_noticed() {
    notices(Bug::StaleCopyRestored, &|bugs| {
        // A checkpoint on a full disk leaves images in the spare pages. Afterwards there is room, and the pages go on changing.
        let (fs, store, mut model) = store_on_full_disk_with(1, false, bugs);
        let mut rng = Rng::new(1);
        fill(&store, &mut model, &mut rng);
        store.checkpoint().expect("a checkpoint works");
        fs.configure(|config| config.capacity = None);
        for round in 0..3 {
            for number in 0..400 {
                let (key, value) = (crate::world::key(number * 10), vec![round; 100]);
                store.put(&key, &value).expect("a put works");
                model.insert(key, value);
            }
            store.checkpoint().expect("a checkpoint works");
            holds(&fs.crash(&CrashPlan::keep_nothing()), bugs, &model, "a crash behind the checkpoint")?;
        }
        Ok(())
    });
}

#[test]
fn a_page_that_is_written_before_its_log_is_noticed() {
    notices(Bug::PageBeforeLog, &no_page_before_its_log);
    // And it does harm: the pages have changes that the log has lost.
    notices(Bug::PageBeforeLog, &|bugs| {
        let fs = SimFs::new(1);
        let store = open_broken(Arc::new(fs.clone()), &config(SyncMode::None), bugs).expect("a new store opens");
        let mut rng = Rng::new(1);
        let mut states = vec![Model::new()];
        fs.keep_crash_points(true);
        for _ in 0..1500 {
            let op = Mix::GROWING.op(&mut rng);
            apply(&store, &op).expect("an operation works");
            let mut model = states.last().expect("the first is there").clone();
            apply_to_model(&mut model, &op);
            states.push(model);
            for (call, point) in fs.take_crash_points() {
                if !call.is_multiple_of(11) {
                    continue;
                }
                let crashed = point.crash(&CrashPlan::random(call));
                let store = open_broken(Arc::new(crashed), &config(SyncMode::None), bugs)
                    .map_err(|why| format!("call {call}: {why}"))?;
                let found = content(&store).map_err(|why| format!("call {call}: {why}"))?;
                if !states.contains(&found) {
                    return Err(format!("crashed before call {call}: what is there was never there"));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_page_that_counts_as_clean_although_its_write_failed_is_noticed() {
    notices(Bug::CleanAfterFailedWrite, &|bugs| {
        let (fs, store, model, _) = changed_store(bugs, 5);
        let no_room = Effect::PartialError { bytes: 700, errno: errno::ENOSPC };
        fs.plan(Fault::new(no_room).on(Operation::Write).name("pages"));
        let error = store.checkpoint().expect_err("a write of pages fails");
        assert!(error.is_full(), "{error}");
        store.checkpoint().expect("there is room by now");
        holds(&fs.crash(&CrashPlan::keep_nothing()), bugs, &model, "a crash behind the next checkpoint")
    });
}

#[test]
fn every_bug_of_the_museum_has_a_test() {
    let source = include_str!("museum.rs");
    let forgotten: Vec<Bug> =
        Bug::ALL.into_iter().filter(|bug| !source.contains(&format!("notices(Bug::{bug:?}, "))).collect();
    assert!(forgotten.is_empty(), "nothing demands that these are noticed: {forgotten:?}");
}
