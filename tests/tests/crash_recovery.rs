//! Row 51 of the fault catalogue: a crash at every call of recovery, three deep, converges to the same content.

use wal_tests::explore::{Budget, Count, explore_or_shrink};
use wal_tests::run::Op;
use wal_tests::settings::{MODES, Setup, is_deep, states_per_point};
use wal_tests::watchdog::Watchdog;

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
    let watchdog = Watchdog::start();
    let mut count = Count::default();
    let budget = Budget {
        states_per_point: states_per_point(6),
        nested_percent: if is_deep() { 100 } else { 25 },
        nested_points: if is_deep() { 6 } else { 2 },
        depth: 3,
    };
    for (index, ops) in SEQUENCES.iter().enumerate() {
        for variant in [0, 7] {
            for length in 1..=ops.len().max(1) {
                let ops = [&ops[..length.min(ops.len())], &[Op::Poll]].concat();
                watchdog.beat(|| format!("{ops:?}"));
                let seed = (index * 100 + length) as u64;
                count.add(explore_or_shrink(&Setup::new(MODES[mode], variant), &ops, 2, &budget, seed));
            }
        }
    }
    println!("{:?}: {count}", MODES[mode]);
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
