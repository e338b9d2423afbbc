//! Row 4 of the fault catalogue: a disk without powersafe overwrite damages sectors next to those that it was writing.

use wal::fs::sim::CrashPlan;
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::{observe, open};
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds};

fn operation(rng: &mut Rng) -> Op {
    match rng.below(8) {
        0..4 => Op::Append(rng.below(700) as u16),
        4 => Op::Batch(30, 0, 400),
        5 => Op::Flush,
        6 => Op::Rotate,
        _ => Op::Reopen,
    }
}

/// `true` if the damage was found.
fn crash_with_damage(seed: u64) -> Result<bool, String> {
    let mut rng = Rng::new(seed);
    let setup = Setup::new(MODES[1 + rng.below(2) as usize], 8 | rng.below(8));
    let mut run = Run::new(&setup);
    for _ in 0..2 + rng.below(14) {
        run.apply(operation(&mut rng))?;
    }
    let after = run.fs.crash(&CrashPlan::random(rng.number()).with_damaged_neighbours());
    let is_corruption = |error: wal::Error| if error.is_corruption() { Ok(true) } else { Err(format!("{error:?}")) };
    let log = match open(&after, &setup, &run.clock) {
        Ok(log) => log,
        Err(error) => return is_corruption(error),
    };
    match observe(&log) {
        Ok(observed) => {
            let allowed = Allowed::between(&run.model, &run.model, Death::Machine).without_durability();
            allowed.check(&observed).map(|()| false)
        }
        Err(error) => is_corruption(error),
    }
}

#[test]
fn damage_to_synced_neighbours_is_found_or_cuts_the_last_group_and_never_gives_wrong_records() {
    let mut found = 0;
    let seeds = seeds(3000);
    for seed in &seeds {
        found += u64::from(crash_with_damage(*seed).unwrap_or_else(|why| panic!("seed {seed}: {why}")));
    }
    println!("{found} of {} found as corruption", seeds.len());
}

/// Crashes a log that pads its groups, with damage to neighbours of what was being written; it must keep all its promises.
fn crash_padded(seed: u64) -> Result<(), String> {
    let mut rng = Rng::new(seed);
    let mut setup = Setup::new(rng.pick(&MODES), rng.below(16));
    setup.config.pad_groups = true;
    let mut run = Run::new(&setup);
    for _ in 0..2 + rng.below(14) {
        run.apply(operation(&mut rng))?;
    }
    let after = run.fs.crash(&CrashPlan::random(rng.number()).with_damaged_neighbours());
    let log = open(&after, &setup, &run.clock).map_err(|error| format!("{error:?}"))?;
    let observed = observe(&log).map_err(|error| format!("{error:?}"))?;
    Allowed::between(&run.model, &run.model, Death::Machine).check(&observed)
}

#[test]
fn a_log_that_pads_its_groups_survives_damage_to_neighbours() {
    for seed in &seeds(3000) {
        crash_padded(*seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}
