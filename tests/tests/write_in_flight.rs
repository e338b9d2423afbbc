//! The machine crashes while a write is under way: of that write any sectors, or parts of sectors, are on the disk, also of a direct write.
//!
//! Rows 2, 4 and 6 of the fault catalogue.

use wal::fs::sim::{CrashPlan, Effect, Fault};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::check_recovery;
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds, states_per_point};
use wal_tests::watchdog::Watchdog;

fn operation(rng: &mut Rng) -> Op {
    match rng.below(12) {
        0..5 => Op::Append(rng.below(601) as u16),
        5 => Op::Batch(rng.below(300) as u16, 0, rng.below(900) as u16),
        6 => Op::SubmitBatch(rng.below(500) as u16),
        7 => Op::Rotate,
        8 => Op::AppendDurable(rng.below(100) as u16),
        9 => Op::After(rng.below(101) as u8),
        10 => Op::Before(rng.below(101) as u8),
        _ => Op::Reopen,
    }
}

fn tear_every_write(setup: &Setup, ops: &[Op], seed: u64) -> Result<u64, String> {
    let mut reference = Run::new(setup);
    reference.keeps_points = true;
    for op in ops {
        reference.apply(*op)?;
    }
    let mut states = 0;
    for step in &reference.steps {
        for call in step.calls.clone() {
            let mut run = Run::new(setup);
            run.fs.plan(Fault::new(Effect::Lie).at_call(call));
            run.fs.crash_at(call + 1);
            // The operation that crashes fails, and all after it.
            let done = ops.iter().take_while(|op| run.apply(**op).is_ok()).count();
            if done == ops.len() || !run.fs.planned().is_empty() {
                // The call was no write and no sync, or the last one.
                continue;
            }
            let allowed = Allowed::between(&step.before, &step.after, Death::Machine);
            for number in 0..states_per_point(6) {
                let plan = CrashPlan::random(seed ^ (call << 8) ^ number);
                let plan = if number % 2 == 0 { plan } else { plan.with_torn_sectors() };
                states += 1;
                check_recovery(&run.fs.crash(&plan), setup, &allowed, seed ^ number)
                    .map_err(|why| format!("in {:?}, call {call} under way, {plan:?}: {why}", step.label))?;
            }
        }
    }
    Ok(states)
}

#[test]
fn a_write_that_is_torn_by_the_crash_is_cut_and_takes_nothing_acknowledged_along() {
    let watchdog = Watchdog::start();
    let mut states = 0;
    for seed in seeds(60) {
        let mut rng = Rng::new(seed);
        let setup = Setup::new(MODES[if rng.percent(60) { 0 } else { 1 + rng.below(2) as usize }], rng.below(8));
        let ops: Vec<Op> = (0..3 + rng.below(8)).map(|_| operation(&mut rng)).collect();
        watchdog.beat(|| format!("seed {seed}"));
        states +=
            tear_every_write(&setup, &ops, seed).unwrap_or_else(|why| panic!("seed {seed}, {ops:?}, {setup:?}: {why}"));
    }
    println!("{states} crash states");
}
