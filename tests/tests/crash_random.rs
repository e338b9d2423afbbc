//! Long random runs on file systems of every kind, crashed now and then and at random calls.
//!
//! Rows 2 to 6, 13, 18, 28, 31, 34 to 38, 51 to 53 of the fault catalogue.

use std::sync::Mutex;

use wal::fs::sim::{LostSectors, Profile, SimConfig};
use wal_tests::explore::{Count, Limits, explore_or_panic};
use wal_tests::rng::Rng;
use wal_tests::run::{Op, PAYLOAD_MAX};
use wal_tests::settings::{MODES, Setup, seeds, states_per_point};
use wal_tests::workers;

fn size(rng: &mut Rng) -> u16 {
    match rng.below(10) {
        0 => 0,
        1 => PAYLOAD_MAX,
        2 => PAYLOAD_MAX - rng.below(300) as u16,
        3 => rng.below(16) as u16,
        _ => rng.below(601) as u16,
    }
}

fn operation(rng: &mut Rng) -> Op {
    let percent = rng.below(101) as u8;
    match rng.below(32) {
        0..8 => Op::Append(size(rng)),
        8 => Op::AppendDurable(size(rng)),
        9 => Op::AppendWritten(size(rng)),
        10 => Op::AppendReserve(size(rng)),
        11..14 => Op::Batch(rng.below(600) as u16, rng.below(600) as u16, rng.below(2500) as u16),
        14..16 => Op::Submit(size(rng)),
        16 => Op::SubmitBatch(rng.below(1200) as u16),
        17 => Op::Wait,
        18 => Op::DropTickets,
        19..21 => Op::Flush,
        21 => Op::WaitDurable(percent),
        22 => Op::Poll,
        23 => Op::Rotate,
        24 => Op::Before(percent),
        25 => Op::BeforeWhole(percent),
        26 => Op::After(percent),
        27 => Op::Checkpoint(percent / 4),
        28 => Op::Reopen,
        29 => Op::Close,
        30 => Op::Die,
        _ => Op::Crash(rng.number()),
    }
}

fn run_randomly(count_of_seeds: u64, mode: usize, change: impl Fn(&mut Setup, &mut Rng) + Sync) {
    let count = Mutex::new(Count::default());
    let limits = Limits { nested_percent: 2, nested_points: 1, depth: 2, ..Limits::sampled(states_per_point(6)) };
    let label = |seed: &u64| format!("seed {seed}, mode {mode}");
    workers::for_each(&seeds(count_of_seeds), label, |seed| {
        let mut rng = Rng::new(*seed);
        let mut setup = Setup::new(MODES[mode], rng.number());
        setup.torn_sectors = rng.percent(50);
        setup.sim.short_transfers = rng.percent(30);
        setup.sim.interrupts = rng.percent(15);
        change(&mut setup, &mut rng);
        let length = 5 + rng.below(40);
        let ops: Vec<Op> = (0..length).map(|_| operation(&mut rng)).collect();
        let own = explore_or_panic(&setup, &ops, 8, limits, *seed);
        count.lock().expect("no worker panics with it").add(own);
    });
    println!("{:?}: {}", MODES[mode], count.lock().expect("no worker panics with it"));
}

#[test]
fn a_long_run_in_sync_mode_is_a_prefix_after_every_crash() {
    run_randomly(300, 0, |_, _| {});
}

#[test]
fn a_long_run_in_batch_mode_is_a_prefix_after_every_crash() {
    run_randomly(300, 1, |_, _| {});
}

#[test]
fn a_long_run_in_none_mode_is_a_prefix_after_every_crash() {
    run_randomly(300, 2, |_, _| {});
}

#[test]
fn lost_sectors_that_read_as_garbage_or_foreign_bytes_are_dropped() {
    for mode in 0..3 {
        run_randomly(100, mode, |setup, rng| {
            setup.sim.lost_sectors = rng.pick(&[LostSectors::Garbage, LostSectors::Stale]);
        });
    }
}

#[test]
fn a_long_run_is_a_prefix_after_every_crash_of_ext4_xfs_and_btrfs() {
    for profile in Profile::ALL {
        println!("{profile:?}");
        for mode in 0..3 {
            run_randomly(20, mode, |setup, rng| setup.sim = SimConfig::profile(profile, rng.number()));
        }
    }
}

#[test]
fn a_rename_that_loses_its_file_loses_nothing_that_was_promised() {
    for mode in 0..3 {
        run_randomly(40, mode, |setup, _| setup.sim.rename_may_lose_file = true);
    }
}
