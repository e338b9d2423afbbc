//! Without crashes: the store does what a `BTreeMap` does.

use std::ops::Bound;

use checkpoint::inspect::{Replay, VerifyReport};
use checkpoint::{Range, Store};
use wal::fs::sim::SimFs;
use wal::{ErrorKind, SyncMode};
use wal_tests::rng::Rng;

use crate::world::{Mix, Model, apply, apply_to_model, config, content, open, verified};

fn check_ranges(store: &Store, model: &Model, mix: Mix, rng: &mut Rng) {
    let bound = |rng: &mut Rng| match rng.below(4) {
        0 => Bound::Unbounded,
        1 => Bound::Excluded(mix.key(rng)),
        _ => Bound::Included(mix.key(rng)),
    };
    let range = (bound(rng), bound(rng));
    let is_within = |key: &Vec<u8>| std::ops::RangeBounds::contains(&range, key);
    let expected: Vec<_> =
        model.iter().filter(|(key, _)| is_within(key)).map(|(key, value)| (key.clone(), value.clone())).collect();
    let forward: Vec<_> = store.range(range.clone()).collect::<Result<_, _>>().expect("the range can be read");
    assert!(forward == expected, "forward {range:?}: {} entries, not {}", forward.len(), expected.len());
    let mut backward: Vec<_> =
        store.range(range.clone()).rev().collect::<Result<_, _>>().expect("the range can be read");
    backward.reverse();
    assert!(backward == expected, "backward {range:?}: {} entries, not {}", backward.len(), expected.len());
    let mut both = store.range(range.clone());
    let (mut front, mut back) = (Vec::new(), Vec::new());
    loop {
        let next =
            if rng.percent(50) { both.next().map(|e| front.push(e)) } else { both.next_back().map(|e| back.push(e)) };
        if next.is_none() {
            break;
        }
    }
    back.reverse();
    front.extend(back);
    let met: Vec<_> = front.into_iter().collect::<Result<_, _>>().expect("the range can be read");
    assert!(met == expected, "from both ends {range:?}: {} entries, not {}", met.len(), expected.len());
    check_lent(store.range(range.clone()), &expected, rng);
}

/// Takes the entries of a range from both ends, lent and copied by turns.
fn check_lent(mut range: Range, expected: &[(Vec<u8>, Vec<u8>)], rng: &mut Rng) {
    let mut rest = expected.iter();
    while !rest.as_slice().is_empty() {
        let is_front = rng.percent(50);
        let wanted = if is_front { rest.next() } else { rest.next_back() };
        let wanted = wanted.map(|(key, value)| (key.as_slice(), value.as_slice()));
        if rng.percent(80) {
            let entry = if is_front { range.next_entry() } else { range.next_entry_back() };
            let entry = entry.expect("the range can be read");
            assert_eq!(entry.map(|entry| (entry.key(), entry.value())), wanted);
        } else {
            let entry = if is_front { range.next() } else { range.next_back() };
            let entry = entry.transpose().expect("the range can be read");
            assert_eq!(entry.as_ref().map(|(key, value)| (key.as_slice(), value.as_slice())), wanted);
        }
    }
    assert!(range.next_entry().expect("the range can be read").is_none());
    assert!(range.next_entry_back().expect("the range can be read").is_none());
}

fn behaves_like_a_map(seed: u64, phases: &[(Mix, u64)]) {
    println!("seed {seed}");
    let fs = SimFs::new(seed);
    let config = config(SyncMode::None);
    let mut rng = Rng::new(seed);
    let mut model = Model::new();
    let mut store = open(&fs, &config).expect("a new store opens");
    for (mix, steps) in phases {
        for step in 0..*steps {
            let op = mix.op(&mut rng);
            apply(&store, &op).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {op:?}: {error}"));
            apply_to_model(&mut model, &op);
            let key = mix.key(&mut rng);
            assert_eq!(store.get(&key).expect("the key can be looked up"), model.get(&key).cloned(), "step {step}");
            if step.is_multiple_of(200) {
                check_ranges(&store, &model, *mix, &mut rng);
            }
        }
        assert!(content(&store).expect("the store can be read") == model, "seed {seed}");
        verify_beside(&fs, &model);
        store.close().expect("the store closes");
        verify_closed(&fs, &model);
        store = open(&fs, &config).expect("the store opens again");
        assert_eq!(store.recovery_report().records, 0, "after a clean close nothing is replayed");
        assert!(content(&store).expect("the store can be read") == model, "seed {seed}, opened again");
    }
    store.close().expect("the store closes");
    verify_closed(&fs, &model);
}

/// The files of an open store, with the log replayed, hold what the store holds.
fn verify_beside(fs: &SimFs, model: &Model) {
    let report = verified(fs);
    assert!(!report.info.is_closed_cleanly());
    check_counts(&report, model);
}

/// The files of a closed store hold what the store held, and there is nothing to replay.
fn verify_closed(fs: &SimFs, model: &Model) {
    let report = verified(fs);
    assert!(report.info.is_closed_cleanly() && report.replay == Replay::Nothing, "{report:#?}");
    assert!(report.findings.is_empty(), "{report:#?}");
    check_counts(&report, model);
}

fn check_counts(report: &VerifyReport, model: &Model) {
    let tree = report.tree.expect("the tree was judged");
    assert_eq!(tree.entries, model.len() as u64);
    assert_eq!(tree.key_bytes, model.keys().map(|key| key.len() as u64).sum::<u64>());
    assert_eq!(tree.value_bytes, model.values().map(|value| value.len() as u64).sum::<u64>());
}

#[test]
fn a_store_behaves_like_an_ordered_map_while_it_grows_and_shrinks() {
    for seed in 0..3 {
        behaves_like_a_map(seed, &[(Mix::GROWING, 4000), (Mix::SHRINKING, 6000), (Mix::GROWING, 1000)]);
    }
}

#[test]
fn a_small_store_with_long_values_behaves_like_an_ordered_map() {
    for seed in 10..14 {
        behaves_like_a_map(seed, &[(Mix { long_percent: 40, ..Mix::SMALL }, 1500)]);
    }
}

#[test]
fn pages_that_are_freed_are_used_again() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    let mut sizes = Vec::new();
    for _ in 0..4 {
        for key in 0..3000u32 {
            store.put(key.to_be_bytes(), [1; 100]).expect("a put works");
        }
        for key in 0..3000u32 {
            assert!(store.delete(key.to_be_bytes()).expect("a delete works"));
        }
        assert_eq!(store.iter().count(), 0);
        assert_eq!(store.stats().tree_depth, 1, "an empty tree is one leaf");
        sizes.push(store.stats().page_count);
    }
    assert!(sizes.windows(2).all(|pair| pair[0] == pair[1]), "{sizes:?}");
    store.close().expect("the store closes");
    verify_closed(&fs, &Model::new());
}

#[test]
fn a_bulk_load_gives_what_single_puts_give() {
    for count in [0, 1, 3, 50, 20_000_u32] {
        let fs = SimFs::new(1);
        let config = config(SyncMode::Sync);
        let store = open(&fs, &config).expect("a new store opens");
        let entries = || {
            (0..count).map(|key| {
                let value = vec![key as u8; if key % 1000 == 7 { 10_000 } else { 50 }];
                (key.to_be_bytes().to_vec(), value)
            })
        };
        assert_eq!(store.bulk_load(entries()).expect("the load works"), u64::from(count));
        assert!(content(&store).expect("the store can be read") == entries().collect());
        if count > 0 {
            let error = store.bulk_load(entries()).expect_err("the store is not empty any more");
            assert_eq!(error.kind(), ErrorKind::Refused);
        }
        store.put(b"zzz", b"later").expect("a put works");
        drop(store);
        let mut expected: Model = entries().collect();
        expected.insert(b"zzz".to_vec(), b"later".to_vec());
        let fs = fs.kill();
        verify_beside(&fs, &expected);
        let store = open(&fs, &config).expect("the store opens after a kill");
        assert!(content(&store).expect("the store can be read") == expected);
    }
}

#[test]
fn a_bulk_load_of_unsorted_entries_changes_nothing() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::Sync)).expect("a new store opens");
    let error = store.bulk_load([("b", "1"), ("a", "2")]).expect_err("the keys are not in order");
    assert_eq!(error.kind(), ErrorKind::Invalid);
    assert_eq!(store.iter().count(), 0);
    store.put("a", "3").expect("a put works");
    assert_eq!(store.iter().count(), 1);
    verify_beside(&fs, &content(&store).expect("the store can be read"));
}

#[test]
fn long_values_of_one_leaf_are_lent_some_at_a_time_from_either_end() {
    let fs = SimFs::new(1);
    let mut config = config(SyncMode::None);
    config.log.segment_bytes_max = 1 << 20;
    config.pool_bytes = 256 * config.page_bytes;
    let store = open(&fs, &config).expect("a new store opens");
    // Ten values of 300 KiB in one leaf: more than is read at once.
    let model: Model = (0..10u8).map(|key| (vec![key], vec![key; 300 << 10])).collect();
    for (key, value) in &model {
        store.put(key, value).expect("a put works");
    }
    let expected: Vec<_> = model.into_iter().collect();
    for seed in 0..20 {
        check_lent(store.iter(), &expected, &mut Rng::new(seed));
    }
    let part = store.range([3]..[7]);
    check_lent(part, &expected[3..7], &mut Rng::new(1));
}

#[test]
fn a_range_lends_nothing_of_a_store_that_was_closed() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    for key in 0..3u8 {
        store.put([key], b"value").expect("a put works");
    }
    let mut range = store.iter();
    assert!(range.next_entry().expect("the range can be read").is_some());
    store.close().expect("the store closes");
    assert_eq!(range.next_entry().expect_err("the store is closed").kind(), ErrorKind::Closed);
    assert!(range.next_entry().expect("it ended with the error").is_none());
}

#[test]
fn keys_and_values_have_largest_lengths_that_work_and_are_refused_beyond() {
    let fs = SimFs::new(1);
    let store = open(&fs, &config(SyncMode::None)).expect("a new store opens");
    let max = store.key_bytes_max();
    for fill in 0..40u8 {
        store.put(vec![fill; max], vec![fill; 3000]).expect("the longest key works");
    }
    store.put(b"", b"").expect("the empty key works");
    assert_eq!(store.get(b"").expect("it can be looked up"), Some(Vec::new()));
    assert_eq!(store.put(vec![0; max + 1], b"").expect_err("it is too long").kind(), ErrorKind::TooLarge);
    let value = vec![5; 32 << 10];
    store.put(b"large", &value).expect("the longest value works");
    assert_eq!(store.get(b"large").expect("it can be looked up"), Some(value));
    let error = store.put(b"large", vec![5; (32 << 10) + 1]).expect_err("it is too long");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(store.iter().count(), 42);
    let model = content(&store).expect("the store can be read");
    verify_beside(&fs, &model);
    store.close().expect("the store closes");
    verify_closed(&fs, &model);
}
