//! Row 14 of the fault catalogue: a device that lies about its flush.

use wal::fs::sim::{CrashPlan, Effect, Fault};
use wal_tests::oracle::Rec;
use wal_tests::recovery::{observe, open};
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds};

fn operation(rng: &mut Rng) -> Op {
    let percent = rng.below(101) as u8;
    match rng.below(14) {
        0..6 => Op::Append(rng.below(700) as u16),
        6 => Op::Batch(30, 0, 400),
        7..9 => Op::Flush,
        9..11 => Op::Rotate,
        11 => Op::Before(percent / 2),
        12 => Op::BeforeWhole(percent / 2),
        _ => Op::Reopen,
    }
}

/// `true` if the loss was noticed.
fn lie_and_crash(seed: u64, always: bool) -> Result<bool, String> {
    let mut rng = Rng::new(seed);
    let setup = Setup::new(MODES[rng.below(3) as usize], rng.number());
    let mut run = Run::new(&setup);
    for op in [Op::Append(40), Op::Batch(1, 2, 3), Op::Flush] {
        run.apply(op)?;
    }
    if !always {
        run.fs.plan(Fault::new(Effect::Lie).skip(rng.below(20)).times(1 + rng.below(3)));
    }
    run.fs.configure(|config| config.lying_flush = always);
    let mut all: Vec<Rec> = run.model.records.clone();
    for _ in 0..3 + rng.below(12) {
        run.apply(operation(&mut rng))?;
        let last = all.last().map_or(0, |record| record.lsn);
        all.extend(run.model.records.iter().filter(|record| record.lsn > last).cloned());
    }
    let after = run.fs.crash(&CrashPlan::random(rng.number()));
    after.configure(|config| config.lying_flush = false);
    let log = match open(&after, &setup, &run.clock) {
        Ok(log) => log,
        Err(error) if error.is_corruption() => return Ok(true),
        Err(error) => return Err(format!("{error:?}")),
    };
    let observed = match observe(&log) {
        Ok(observed) => observed,
        // Damage in a segment that the open need not read is found by the reader.
        Err(error) if error.is_corruption() => return Ok(true),
        Err(error) => return Err(format!("cannot be read: {error:?}")),
    };
    let Some((first, _, _)) = observed.records.first() else { return Ok(false) };
    let from = all.iter().position(|record| record.lsn == *first).ok_or("a record that was never appended")?;
    for (found, wanted) in observed.records.iter().zip(&all[from..]) {
        if found.0 != wanted.lsn || found.2[..] != wanted.payload[..] {
            return Err(format!("LSN {} stands where LSN {} was appended", found.0, wanted.lsn));
        }
    }
    let count = observed.records.len();
    match all[from..].get(count - 1) {
        Some(last) if last.ends_batch => Ok(false),
        _ => Err("ends inside a batch".to_owned()),
    }
}

#[test]
fn a_device_that_lies_leads_to_corruption_or_to_a_lost_suffix_and_to_nothing_else() {
    for always in [true, false] {
        let (mut noticed, mut all) = (0, 0);
        for seed in seeds(3000) {
            all += 1;
            noticed +=
                u64::from(lie_and_crash(seed, always).unwrap_or_else(|why| panic!("seed {seed}, {always}: {why}")));
        }
        println!("always {always}: {noticed} of {all} noticed as corruption");
    }
}
