//! Row 51 of the fault catalogue: a crash at every call of recovery, three deep, converges to the same content.

use std::sync::Mutex;

use wal_tests::explore::{Count, Explorer, Limits};
use wal_tests::run::Op;
use wal_tests::settings::{MODES, Setup, is_deep, states_per_point};
use wal_tests::workers;

const SEQUENCES: [&[Op]; 8] = [
    &[],
    &[Op::Append(100), Op::Batch(40, 0, 700), Op::Append(9)],
    &[Op::Append(600), Op::Rotate, Op::Append(20), Op::Rotate, Op::Batch(500, 500, 500)],
    &[Op::Append(600), Op::Rotate, Op::Append(20), Op::Flush, Op::Before(60)],
    &[
        Op::Append(600),
        Op::Rotate,
        Op::Append(20),
        Op::Flush,
        Op::BeforeWhole(100),
        Op::SubmitBatch(300),
        Op::Append(1),
    ],
    &[Op::Append(600), Op::Rotate, Op::Append(20), Op::Append(40), Op::After(30)],
    &[Op::Append(600), Op::Die, Op::Rotate, Op::Die, Op::Batch(10, 20, 30), Op::After(70)],
    &[Op::Append(600), Op::Rotate, Op::Flush, Op::Checkpoint(50), Op::Append(77), Op::Reopen, Op::Append(3)],
];

fn crash_recoveries(mode: usize) {
    let limits = Limits {
        nested_percent: if is_deep() { 100 } else { 25 },
        nested_points: if is_deep() { 6 } else { 2 },
        depth: 3,
        ..Limits::sampled(states_per_point(6))
    };
    for variant in [0, 7] {
        let explorer = Explorer::new(Setup::new(MODES[mode], variant), limits);
        let count = Mutex::new(Count::default());
        let prefixes = |ops: &'static [Op]| (1..=ops.len().max(1)).map(move |length| &ops[..length.min(ops.len())]);
        let runs: Vec<(usize, &[Op])> = SEQUENCES.iter().flat_map(|ops| prefixes(ops)).enumerate().collect();
        workers::for_each(
            &runs,
            |(_, ops)| format!("{ops:?}"),
            |(index, ops)| {
                let own = explorer.explore_or_panic(&[ops, [Op::Poll].as_slice()].concat(), 2, *index as u64);
                count.lock().expect("no worker panics with it").add(own);
            },
        );
        let count = *count.lock().expect("no worker panics with it");
        println!("{:?}, variant {variant}: {count}, {}", MODES[mode], explorer.images());
    }
}

#[test]
fn a_crash_anywhere_in_recovery_three_deep_converges_in_sync_mode() {
    crash_recoveries(0);
}

#[test]
fn a_crash_anywhere_in_recovery_three_deep_converges_in_batch_mode() {
    crash_recoveries(1);
}

#[test]
fn a_crash_anywhere_in_recovery_three_deep_converges_in_none_mode() {
    crash_recoveries(2);
}
