//! A full disk is no poison: appends are refused, truncation works, the log goes on.
//!
//! Rows 15, 16 and 27 of the fault catalogue.

use wal::fs::sim::{CrashPlan, errno};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::check_recovery;
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds};
use wal_tests::shrink::shrink_ops;
use wal_tests::watchdog::Watchdog;

const BLOCK: u64 = 4096;

fn full_setup(mode: usize, blocks: u64, copy_on_write: bool) -> Setup {
    let mut setup = Setup::new(MODES[mode], 4);
    setup.sim.capacity = Some(blocks * BLOCK);
    setup.sim.copy_on_write = copy_on_write;
    setup
}

/// Appends until the disk is full.
fn fill(run: &mut Run, size: u16) -> Result<(), String> {
    run.planned_errnos = vec![errno::ENOSPC];
    for _ in 0..400 {
        run.apply(Op::Append(size))?;
        if run.full_refusals > 0 {
            break;
        }
    }
    if run.full_refusals == 0 {
        return Err("the disk is never full".to_owned());
    }
    for size in [0, 600, 4072] {
        run.apply(Op::Append(size))?;
    }
    Ok(())
}

fn must_work(run: &mut Run, op: Op) -> Result<(), String> {
    let refusals = run.full_refusals;
    run.apply(op)?;
    if run.full_refusals > refusals { Err(format!("{op:?} is refused")) } else { Ok(()) }
}

fn truncate_a_full_log(setup: &Setup, size: u16, truncation: Op) -> Result<(), String> {
    let mut run = Run::new(setup);
    run.apply(Op::Append(1))?;
    fill(&mut run, size)?;
    must_work(&mut run, Op::Flush)?;
    must_work(&mut run, Op::Checkpoint(100))?;
    must_work(&mut run, truncation)?;
    // With the whole log gone there is room again.
    must_work(&mut run, Op::BeforeWhole(100))?;
    for _ in 0..6 {
        must_work(&mut run, Op::Append(500))?;
    }
    must_work(&mut run, Op::Flush)?;
    must_work(&mut run, Op::Reopen)?;
    must_work(&mut run, Op::Append(500))
}

#[test]
fn on_a_full_disk_appends_are_refused_truncation_works_and_the_log_goes_on() {
    truncate_full_logs(false);
}

#[test]
fn on_a_full_disk_that_copies_on_write_truncation_works_too() {
    truncate_full_logs(true);
}

fn truncate_full_logs(copy_on_write: bool) {
    let watchdog = Watchdog::start();
    let (mut cases, mut broken) = (0, Vec::new());
    for mode in 0..3 {
        for blocks in 12..24 {
            for size in [100, 900, 4072] {
                for truncation in [Op::Before(50), Op::BeforeWhole(100), Op::Before(100)] {
                    let label = format!("mode {mode}, {blocks} blocks, records of {size}, {truncation:?}");
                    watchdog.beat(|| label.clone());
                    cases += 1;
                    if let Err(why) = truncate_a_full_log(&full_setup(mode, blocks, copy_on_write), size, truncation) {
                        broken.push(format!("{label}: {why}"));
                    }
                }
            }
        }
    }
    println!("{cases} full disks");
    assert!(broken.is_empty(), "{} of {cases}: {:#?}", broken.len(), &broken[..broken.len().min(8)]);
}

fn operation(rng: &mut Rng) -> Op {
    let percent = rng.below(101) as u8;
    match rng.below(24) {
        0..9 => Op::Append(rng.pick(&[0, 40, 300, 600, 2000, 4072])),
        9 => Op::AppendReserve(rng.below(200) as u16),
        10 => Op::Batch(100, 200, 300),
        11 => Op::Submit(rng.below(600) as u16),
        12 => Op::Wait,
        13 => Op::Flush,
        14 => Op::Poll,
        15 => Op::Before(percent),
        16 => Op::BeforeWhole(percent),
        17 => Op::After(percent),
        18 => Op::Checkpoint(percent / 4),
        19 => Op::Reopen,
        20 => Op::Die,
        21 => Op::Crash(rng.number()),
        _ => Op::Rotate,
    }
}

fn run_full(setup: &Setup, ops: &[Op], seed: u64) -> Result<u64, String> {
    let mut run = Run::new(setup);
    run.planned_errnos = vec![errno::ENOSPC];
    for op in ops {
        run.apply(*op)?;
        if run.is_poisoned() {
            return Err(format!("a full disk poisons: {:?}", run.poison));
        }
    }
    let allowed = |run: &Run, death| Allowed::between(&run.model, &run.model, death);
    let roomy = |fs: wal::fs::sim::SimFs| {
        fs.configure(|config| config.capacity = None);
        fs
    };
    let killed = roomy(run.fs.kill());
    check_recovery(&killed, setup, &allowed(&run, Death::Process), seed)
        .map_err(|why| format!("at the end, kill: {why}"))?;
    let crashed = roomy(run.fs.crash(&CrashPlan::random(seed)));
    check_recovery(&crashed, setup, &allowed(&run, Death::Machine), seed)
        .map_err(|why| format!("at the end, crash: {why}"))?;
    // There is room again.
    run.fs.configure(|config| config.capacity = None);
    run.planned_errnos.clear();
    let ops = [Op::Wait, Op::Append(40), Op::Rotate, Op::Flush, Op::Reopen, Op::Append(7), Op::Die];
    if let Some(refused) = ops.iter().find_map(|op| {
        if *op == Op::Wait {
            run.planned_errnos.push(errno::ENOSPC)
        } else {
            run.planned_errnos.clear()
        }
        run.apply(*op).err()
    }) {
        return Err(format!("there is room again: {refused}"));
    }
    Ok(run.full_refusals)
}

fn run_randomly(copy_on_write: bool) {
    let watchdog = Watchdog::start();
    let (mut refusals, mut runs) = (0, 0);
    for seed in seeds(600) {
        let mut rng = Rng::new(seed);
        let setup = full_setup(rng.below(3) as usize, 8 + rng.below(14), copy_on_write);
        let ops: Vec<Op> = (0..10 + rng.below(40)).map(|_| operation(&mut rng)).collect();
        watchdog.beat(|| format!("seed {seed}"));
        runs += 1;
        match run_full(&setup, &ops, seed) {
            Ok(count) => refusals += count,
            Err(why) => {
                let fails = |fewer: &[Op]| run_full(&setup, fewer, seed).err().map(|why| (fewer.to_vec(), why));
                let (small, why) = shrink_ops((ops.clone(), why), |(ops, _)| ops.clone(), fails);
                panic!("seed {seed}, {:?}, {:?}: {small:?}: {why}", setup.config.sync_mode, setup.sim.capacity);
            }
        }
    }
    println!("copy on write {copy_on_write}: {runs} runs, {refusals} refusals");
}

#[test]
fn whatever_is_done_on_a_full_disk_nothing_acknowledged_is_lost_and_nothing_refused_appears() {
    run_randomly(false);
}

#[test]
fn the_same_on_a_full_disk_that_copies_on_write() {
    run_randomly(true);
}
