//! What a recovery tells, and what it leaves.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use checkpoint::{Config, Progress, Store};
use wal::fs::sim::SimFs;
use wal::{Background, ManualClock, SyncMode};

use crate::world::{DIR, Model, config, content, key, open};

/// A store of which nothing but the log has the changes, and what it holds.
fn killed(config: &Config) -> (SimFs, Model) {
    let fs = SimFs::new(1);
    let store = open(&fs, config).expect("a new store opens");
    let mut model = Model::new();
    for number in 0..3000 {
        let (key, value) = (key(number * 7919 % 1000), vec![number as u8; 100]);
        store.put(&key, &value).expect("a put works");
        model.insert(key, value);
    }
    drop(store);
    (fs.kill(), model)
}

#[test]
fn the_progress_of_a_recovery_goes_on_to_the_end_of_the_log_and_its_report_counts_what_was_done() {
    let config = config(SyncMode::None);
    let (fs, model) = killed(&config);
    let seen: Rc<RefCell<Vec<Progress>>> = Rc::default();
    let note = Rc::clone(&seen);
    let opener = Store::opener(config).file_system(Arc::new(fs)).clock(Arc::new(ManualClock::default()));
    let store = opener.on_progress(move |progress| note.borrow_mut().push(progress)).open(DIR).expect("it opens");
    assert!(content(&store).expect("the store can be read") == model);
    let (seen, report) = (seen.borrow(), store.recovery_report());
    assert!(seen.len() > 2, "it was told {} times", seen.len());
    assert!(seen.windows(2).all(|pair| pair[0].lsn < pair[1].lsn), "{seen:?}");
    assert!(seen.iter().all(|each| (each.redo_lsn, each.end_lsn) == (report.redo_lsn, report.end_lsn)));
    assert_eq!(seen.last().map(|last| last.lsn), Some(report.end_lsn));
    assert!(!report.created);
    assert_eq!(report.records, 3000);
    assert!(report.changes_applied + report.changes_skipped >= 3000, "{report:?}");
    assert!(report.pages_written >= 25, "{report:?}");
}

#[test]
fn a_recovery_ends_with_a_checkpoint_so_a_kill_right_after_it_leaves_nothing_to_replay() {
    let config = config(SyncMode::Sync);
    let (fs, model) = killed(&config);
    let store = open(&fs, &config).expect("it opens");
    let stats = store.stats();
    assert_eq!(stats.dirty_pages, 0);
    assert!(stats.images_written > 0, "pages were overwritten");
    assert!(stats.redo_lsn > store.recovery_report().end_lsn, "{stats:?}");
    // Neither the log that was replayed nor the images are behind the redo point: no more than the checkpoint's own record.
    assert!(stats.next_lsn.distance_from(stats.redo_lsn) < 1024, "{stats:?}");
    drop(store);
    let store = open(&fs.kill(), &config).expect("it opens again");
    assert_eq!(store.recovery_report().records, 0);
    assert_eq!(store.recovery_report().pages_written, 0);
    assert!(content(&store).expect("the store can be read") == model);
}

#[test]
fn an_open_after_a_kill_reads_what_changed_since_the_checkpoint_however_large_the_store_is() {
    let config = config(SyncMode::Sync);
    let fs = SimFs::new(1);
    let store = open(&fs, &config).expect("a new store opens");
    let mut model: Model = (0..20_000).map(|number| (key(number), vec![1; 100])).collect();
    store.bulk_load(&model).expect("the load works");
    for number in 0..2000 {
        store.put(key(number * 10), [2; 100]).expect("a put works");
        model.insert(key(number * 10), vec![2; 100]);
    }
    store.checkpoint().expect("a checkpoint works");
    for number in [7, 9_000, 19_000] {
        store.put(key(number), [3; 100]).expect("a put works");
        model.insert(key(number), vec![3; 100]);
    }
    assert!(store.stats().page_count > 600);
    drop(store);
    let store = open(&fs.kill(), &config).expect("it opens");
    let (report, stats) = (store.recovery_report(), store.stats());
    assert_eq!((report.records, report.changes_applied), (3, 3));
    assert_eq!(report.pages_written, 3);
    // The three leaves, and the meta page.
    assert_eq!(stats.pages_read, 4, "{stats:?}");
    assert!(content(&store).expect("the store can be read") == model);
}

#[test]
fn a_recovery_whose_pages_do_not_fit_the_pool_does_the_same_with_and_without_threads_in_the_background() {
    let mut config = config(SyncMode::None);
    // Enough for some thousand short changes to be gathered, and less than half of the tree.
    config.pool_bytes = 512 * config.page_bytes;
    let fs = SimFs::new(1);
    let store = open(&fs, &config).expect("a new store opens");
    let mut model: Model = (0..60_000).map(|number| (key(number), vec![1; 100])).collect();
    store.bulk_load(&model).expect("the load works");
    for number in 0..20_000 {
        let (key, value) = (key(number * 7919 % 60_000), (number as u32).to_le_bytes().to_vec());
        store.put(&key, &value).expect("a put works");
        model.insert(key, value);
    }
    drop(store);
    let opened = [Background::Inline, Background::Threads].map(|background| {
        let fs = fs.kill();
        config.log.background = background;
        let store = open(&fs, &config).expect("it opens");
        let (report, stats) = (store.recovery_report().clone(), store.stats());
        assert!(stats.page_count > 1000 && stats.pages_evicted > 0, "{stats:?}");
        assert!(content(&store).expect("the store can be read") == model, "{background:?}");
        store.close().expect("it closes");
        let pages = fs.read_file(format!("{DIR}/pages")).expect("there is a page file");
        (
            report.records,
            report.changes_applied + report.changes_skipped,
            pages[..stats.page_count as usize * 4096].to_vec(),
        )
    });
    assert!(opened[0].0 > 10_000, "{} records were replayed", opened[0].0);
    assert_eq!((opened[0].0, opened[0].1), (opened[1].0, opened[1].1));
    assert!(opened[0].2 == opened[1].2, "the pages are the same to the byte");
}
