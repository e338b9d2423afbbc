//! Several threads append, one truncates and one reads, in every mode, and the machine crashes again and again.
//!
//! Rows 2, 6, 18, 40 and 42 of the fault catalogue.

use std::sync::Mutex;

use wal::fs::sim::Operation;
use wal_tests::careless::careless;
use wal_tests::rng::Rng;
use wal_tests::settings::{MODES, Setup, is_deep, seeds};
use wal_tests::threads::{Count, Length, run};
use wal_tests::workers;

fn setup(seed: u64, mode: usize) -> Setup {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::new(MODES[mode], rng.number());
    setup.torn_sectors = rng.percent(50);
    setup.sim.short_transfers = rng.percent(20);
    setup
}

fn crash_threads(mode: usize) {
    let count = Mutex::new(Count::default());
    let lives = if is_deep() { 40 } else { 4 };
    workers::for_each(
        &seeds(80),
        |seed| format!("seed {seed}, mode {mode}"),
        |seed| {
            let length = Length { appenders: 2 + seed % 4, operations: 60, images: 24, lives };
            let own = run(&setup(*seed, mode), *seed, &length).unwrap_or_else(|why| panic!("{why}"));
            count.lock().expect("no worker panics with it").add(own);
        },
    );
    println!("{:?}: {}", MODES[mode], count.lock().expect("no worker panics with it"));
}

#[test]
fn threads_in_sync_mode_lose_nothing_acknowledged_in_any_crash() {
    crash_threads(0);
}

#[test]
fn threads_in_batch_mode_leave_a_prefix_in_every_crash() {
    crash_threads(1);
}

#[test]
fn threads_in_none_mode_leave_a_prefix_in_every_crash() {
    crash_threads(2);
}

#[test]
fn a_log_that_syncs_nothing_is_caught_by_its_threads_with_its_image() {
    let opening = careless("without syncs of segments", |operation, name| {
        operation != Operation::Remove && (name.ends_with(".wal") || name.ends_with(".prepare"))
    });
    let length = Length { appenders: 3, operations: 30, images: 24, lives: 4 };
    let broken = run(&Setup::new(MODES[0], 8).opened(opening), 1, &length).expect_err("the log is broken");
    let shown = broken.split_once(" calls of its life are in ").expect("the image is kept").1;
    let kept = std::path::Path::new(shown.lines().next().expect("a path"));
    assert!(kept.join("calls").is_file() && kept.join("control").is_file(), "{broken}");
    std::fs::remove_dir_all(kept).expect("the image is removed");
}
