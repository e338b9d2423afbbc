//! Every sequence of up to three operations, crashed at every system call, with every subset of up to eight unsynced sectors.
//!
//! `WAL_TEST_DEEP=1` goes through sequences of four operations, with every subset of up to sixteen sectors.
//!
//! Rows 1 to 5, 24 to 26, 30 to 32, 34 to 38 and 51 to 53 of the fault catalogue.

use std::sync::Mutex;

use wal_tests::explore::{Count, Explorer, Limits};
use wal_tests::run::Op;
use wal_tests::settings::{MODES, Setup, is_deep, share, states_per_point};
use wal_tests::workers;

/// Twelve kinds. Each truncation and cut chooses among what the operations before it have written.
const OPS: [Op; 12] = [
    Op::Append(20),
    Op::Batch(40, 0, 700),
    Op::Flush,
    Op::Rotate,
    Op::Before(50),
    Op::After(50),
    Op::Close,
    Op::Reopen,
    Op::Die,
    Op::SubmitBatch(100),
    Op::BeforeWhole(100),
    Op::Checkpoint(50),
];

/// What is there when the sequence begins: nothing, or records in two segments that are durable.
const PREAMBLES: [&[Op]; 2] = [&[], &[Op::Append(100), Op::Batch(7, 300, 16), Op::Rotate, Op::Append(500), Op::Flush]];

/// Two settings for each mode: direct writes, recycling, a quick open and no reserve; and the opposite of each.
const VARIANTS: [u64; 2] = [0, 15];

/// All outcomes of up to eight undecided items are looked at, and of more items this many.
const OUTCOMES_MAX: u64 = 512;

/// Of so many states in a hundred the recovery is crashed as well, at every call.
const NESTED_PERCENT: u64 = 1;

fn sequences(length: usize) -> Vec<Vec<Op>> {
    let mut all = vec![Vec::new()];
    for _ in 0..length {
        all = all.iter().flat_map(|ops| OPS.map(|op| [ops.as_slice(), &[op]].concat())).collect();
    }
    all
}

/// Explores the last operation of each sequence: what comes before is the end of a shorter one.
fn explore_all(mode: usize) {
    let length_max = if is_deep() { 4 } else { 3 };
    let all: Vec<(u64, Vec<Op>)> = (0..)
        .zip(
            (1..=length_max)
                .flat_map(sequences)
                .flat_map(|ops| PREAMBLES.map(|preamble| [preamble, ops.as_slice()].concat())),
        )
        .collect();
    let runs = share(all);
    for variant in VARIANTS {
        let nested = Limits { nested_percent: NESTED_PERCENT, depth: 1, ..Limits::exhaustive(OUTCOMES_MAX) };
        let limits = Limits { outcomes_max: states_per_point(OUTCOMES_MAX), ..nested };
        let explorer = Explorer::new(Setup::new(MODES[mode], variant), limits);
        let count = Mutex::new(Count::default());
        workers::for_each(
            &runs,
            |(_, ops)| format!("{ops:?}"),
            |(number, ops)| {
                let own = explorer.explore_or_panic(ops, 1, *number);
                count.lock().expect("no worker panics with it").add(own);
            },
        );
        let count = *count.lock().expect("no worker panics with it");
        println!("{:?}, variant {variant}: {count}, {}", MODES[mode], explorer.images());
    }
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
