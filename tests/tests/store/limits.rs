//! Every size of pages, and batches that are too large.

use checkpoint::{Batch, Config, Store};
use wal::fs::sim::SimFs;
use wal::{ErrorKind, SyncMode};
use wal_tests::rng::Rng;

use crate::world::{Mix, Model, apply, apply_to_model, config, content, key, open, verified};

fn of_page_size(page_bytes: usize) -> Config {
    let mut config = config(SyncMode::None);
    config.page_bytes = page_bytes;
    config.pool_bytes = 64 * page_bytes;
    config.log.segment_bytes_max = (64 << 10).max(16 * page_bytes as u64);
    config
}

#[test]
fn a_store_of_every_page_size_behaves_like_an_ordered_map_and_outlives_kills() {
    for page_bytes in [4 << 10, 8 << 10, 16 << 10, 32 << 10] {
        let mut fs = SimFs::new(page_bytes as u64);
        let config = of_page_size(page_bytes);
        let (mut rng, mut model) = (Rng::new(page_bytes as u64), Model::new());
        let mix = Mix { long_percent: 4, value_max: page_bytes as u64 / 8, ..Mix::GROWING };
        let mut store = open(&fs, &config).expect("a new store opens");
        let max = store.key_bytes_max();
        for cycle in 0..3 {
            for _ in 0..1500 {
                let op = mix.op(&mut rng);
                apply(&store, &op).unwrap_or_else(|error| panic!("pages of {page_bytes}: {op:?}: {error}"));
                apply_to_model(&mut model, &op);
            }
            let (key, value) = (vec![cycle; max], vec![cycle; 3 * page_bytes]);
            store.put(&key, &value).expect("the longest key works");
            model.insert(key, value);
            assert_eq!(store.stats().page_bytes, page_bytes);
            drop(store);
            fs = fs.kill();
            let report = verified(&fs);
            assert_eq!(report.tree.map(|tree| tree.entries), Some(model.len() as u64), "pages of {page_bytes}");
            // What the settings say counts for a new store only.
            let other = Config { page_bytes: 8 << 10, ..config.clone() };
            store = open(&fs, &other).expect("the store opens after a kill");
            assert!(store.recovery_report().records > 0);
            assert!(content(&store).expect("the store can be read") == model, "pages of {page_bytes}");
        }
        assert!(store.stats().tree_depth > 1, "the tree has grown");
        store.close().expect("the store closes");
    }
}

/// A store with as many leaves as its pool has pages, more or less.
fn grown() -> (SimFs, Store, Model) {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let model: Model = (0..2000).map(|number| (key(number), vec![1; 100])).collect();
    store.bulk_load(&model).expect("the load works");
    (fs, store, model)
}

/// The batch is refused, and nothing of it is there, now and after a kill.
fn is_refused(batch: &Batch<'_>, why: &str) {
    let (fs, store, mut model) = grown();
    let error = store.write(batch).expect_err("the batch is too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(error.to_string().contains(why), "{error}");
    let error = store.submit(batch).expect_err("the batch is too large");
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    assert!(content(&store).expect("the store can be read") == model);
    store.put("later", "value").expect("the store goes on");
    model.insert(b"later".to_vec(), b"value".to_vec());
    drop(store);
    let store = open(&fs.kill(), &config(SyncMode::Sync)).expect("the store opens after a kill");
    assert!(content(&store).expect("the store can be read") == model);
}

#[test]
fn a_batch_that_does_not_fit_a_segment_of_the_log_is_refused_and_changes_nothing() {
    let (keys, value): (Vec<_>, _) = ((0..75).map(|number| key(5000 + number)).collect(), vec![7; 950]);
    let mut batch = Batch::new();
    for key in &keys {
        batch.put(key, &value);
    }
    is_refused(&batch, "segment");
}

#[test]
fn a_batch_that_changes_more_pages_than_half_the_pool_is_refused_and_changes_nothing() {
    // One short value in each of fifty leaves.
    let keys: Vec<_> = (0..50).map(|number| key(number * 40)).collect();
    let mut batch = Batch::new();
    for key in &keys {
        batch.put(key, b"short");
    }
    is_refused(&batch, "pages");
}
