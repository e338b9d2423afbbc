//! Every short sequence of operations, crashed at every call, with every outcome of few undecided items.
//!
//! Rows 1 to 5, 24 to 26, 30 to 32, 34 to 38 and 51 to 53 of the fault catalogue.

use wal_tests::explore::{Budget, Count, explore_or_shrink};
use wal_tests::run::Op;
use wal_tests::settings::{MODES, Setup, states_per_point};
use wal_tests::watchdog::Watchdog;

const OPS: [Op; 11] = [
    Op::Append(20),
    Op::Batch(40, 0, 700),
    Op::SubmitBatch(100),
    Op::Flush,
    Op::Rotate,
    Op::Before(50),
    Op::BeforeWhole(100),
    Op::After(50),
    Op::Checkpoint(50),
    Op::Reopen,
    Op::Die,
];

/// What is there when the sequence begins: nothing, or records in two segments that are durable.
const PREAMBLES: [&[Op]; 2] = [&[], &[Op::Append(100), Op::Batch(7, 300, 16), Op::Rotate, Op::Append(500), Op::Flush]];

fn sequences(length: usize) -> Vec<Vec<Op>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        all = all.iter().flat_map(|ops| OPS.map(|op| [ops.as_slice(), &[op]].concat())).collect();
    }
    all
}

/// Explores the last operation of each sequence: what comes before is the end of a shorter one.
fn explore_all(mode: usize) {
    let watchdog = Watchdog::start();
    let mut count = Count::default();
    for length in 1..=3 {
        let states = states_per_point([0, 256, 256, 32][length]);
        let budget = Budget { states_per_point: states, nested_percent: 0, nested_points: 0, depth: 0 };
        for (index, ops) in sequences(length).into_iter().enumerate() {
            for preamble in PREAMBLES {
                let all = [preamble, ops.as_slice()].concat();
                watchdog.beat(|| format!("{all:?}"));
                let setup = Setup::new(MODES[mode], index as u64);
                count.add(explore_or_shrink(&setup, &all, 1, &budget, index as u64));
            }
        }
    }
    println!("{:?}: {count}", MODES[mode]);
}

#[test]
fn sync_mode_keeps_its_promises_whatever_short_sequence_is_crashed_at_any_call() {
    explore_all(0);
}

#[test]
fn batch_mode_keeps_its_promises_whatever_short_sequence_is_crashed_at_any_call() {
    explore_all(1);
}

#[test]
fn none_mode_keeps_its_promises_whatever_short_sequence_is_crashed_at_any_call() {
    explore_all(2);
}
