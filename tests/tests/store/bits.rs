//! Flipped bits: each is found, or changes nothing that anybody can see. `WAL_TEST_DEEP=1` flips every bit of every page.

use checkpoint::{Config, Store};
use wal::SyncMode;
use wal::fs::sim::SimFs;
use wal_tests::watchdog::Watchdog;

use crate::world::{DIR, Model, config, content, key, open};

const PAGE: u64 = 4 << 10;

fn is_deep() -> bool {
    std::env::var_os("WAL_TEST_DEEP").is_some_and(|value| value == "1")
}

/// A small closed store with pages of all kinds.
fn closed_store() -> (SimFs, Config, Model) {
    let (fs, config) = (SimFs::new(1), config(SyncMode::Sync));
    let store = open(&fs, &config).expect("a new store opens");
    for number in 0..60 {
        store.put(key(number), vec![number as u8; 100]).expect("a put works");
    }
    store.put("long", vec![7; 5000]).expect("a put works");
    store.put("long too", vec![8; 5000]).expect("a put works");
    store.delete("long too").expect("a delete works");
    let model = content(&store).expect("the store can be read");
    store.close().expect("the store closes");
    (fs, config, model)
}

/// Flips a bit and reads everything. Says whether the flip was found.
fn flip(fs: &SimFs, config: &Config, model: &Model, path: &str, offset: u64, bit: u8) -> bool {
    let flipped = fs.kill();
    flipped.flip_bit(path, offset, bit).expect("the file has this byte");
    let place = || format!("{path}, byte {offset}, bit {bit}");
    let found: wal::Result<(Store, Model)> =
        open(&flipped, config).and_then(|store| content(&store).map(|found| (store, found)));
    match found {
        Err(error) => {
            assert!(
                error.is_corruption() || error.kind() == wal::ErrorKind::UnsupportedVersion,
                "{}: {error}",
                place()
            );
            true
        }
        Ok((store, found)) => {
            assert!(found == *model, "{}: nobody noticed that entries changed", place());
            // It goes on working, or notices the damage when it gets there.
            for number in 0..3 {
                match store.put(key(1000 + number), vec![1; 3000]) {
                    Ok(()) => {}
                    Err(error) => {
                        assert!(error.is_corruption(), "{}: {error}", place());
                        return true;
                    }
                }
            }
            false
        }
    }
}

#[test]
fn every_flipped_bit_of_a_page_is_found_or_harmless() {
    let watchdog = Watchdog::start();
    let (fs, config, model) = closed_store();
    let file = fs.read_file(format!("{DIR}/pages")).expect("the page file is there");
    let (mut found, mut harmless, mut in_use) = (0, 0, 0);
    for (page, bytes) in file.chunks(PAGE as usize).enumerate() {
        // Space that no page uses is all zeros; a few bits of it stand for the others.
        let is_used = bytes.iter().any(|byte| *byte != 0);
        in_use += u64::from(is_used);
        let step = match (is_deep(), is_used) {
            (true, true) => 1,
            (false, true) => 61,
            (_, false) => 30_011,
        };
        watchdog.beat(|| format!("page {page}"));
        let header = if is_used { 48 * 8 } else { 0 };
        for bit in (0..header).chain((header..PAGE * 8).step_by(step)) {
            let offset = page as u64 * PAGE + bit / 8;
            match flip(&fs, &config, &model, &format!("{DIR}/pages"), offset, (bit % 8) as u8) {
                true => found += 1,
                false => harmless += 1,
            }
        }
    }
    println!("{in_use} pages in use: {found} flipped bits found, {harmless} harmless");
    assert!(found > harmless);
}

#[test]
fn every_flipped_bit_of_the_control_file_is_found() {
    let (fs, config, model) = closed_store();
    for bit in (0..PAGE * 8).step_by(if is_deep() { 1 } else { 7 }) {
        let is_found = flip(&fs, &config, &model, &format!("{DIR}/checkpoint"), bit / 8, (bit % 8) as u8);
        assert!(is_found, "bit {bit}");
    }
}

#[test]
fn a_file_that_is_missing_or_cut_is_found_or_harmless() {
    let (fs, config, model) = closed_store();
    for name in ["pages", "checkpoint"] {
        let path = format!("{DIR}/{name}");
        let bytes = fs.read_file(&path).expect("the file is there");
        let missing = fs.kill();
        missing.remove_file(&path).expect("the file can be removed");
        assert!(open(&missing, &config).expect_err("a file is missing").is_corruption());
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        for len in (0..used).step_by(509) {
            let cut = fs.kill();
            cut.write_file(&path, &bytes[..len]).expect("the file can be cut");
            match open(&cut, &config).and_then(|store| content(&store)) {
                Err(error) => assert!(error.is_corruption(), "{name} cut to {len}: {error}"),
                Ok(found) => assert!(found == model, "{name} cut to {len}: nobody noticed"),
            }
        }
    }
}
