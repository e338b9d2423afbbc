//! The log on file systems that behave like ext4, XFS and btrfs, and on the cruellest: crashes, failed flushes, and write-back that
//! fails when nobody is looking.
//!
//! Rows 3, 10, 12, 13, 46, 50 and 53 of the fault catalogue.

use std::sync::Mutex;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, Profile, SimConfig, errno};
use wal_tests::explore::{Count, Limits, explore_or_panic};
use wal_tests::faulty::{Planned, run_with_faults, sites_of};
use wal_tests::oracle::{Allowed, Death};
use wal_tests::recovery::{Memory, check_recovery};
use wal_tests::rng::Rng;
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Setup, seeds, states_per_point};
use wal_tests::workers;

/// Each kind of operation, with process deaths in between, so that descriptors are closed and opened again.
const WORKLOADS: [&[Op]; 2] = [
    &[
        Op::Append(100),
        Op::Batch(7, 300, 16),
        Op::Submit(50),
        Op::AppendDurable(30),
        Op::Rotate,
        Op::Append(500),
        Op::Before(30),
        Op::Flush,
        Op::Checkpoint(60),
        Op::After(80),
        Op::Append(33),
        Op::Reopen,
        Op::Append(44),
        Op::Flush,
    ],
    &[
        Op::Append(700),
        Op::Rotate,
        Op::Append(60),
        Op::Die,
        Op::Append(20),
        Op::Flush,
        Op::After(60),
        Op::Die,
        Op::Append(5),
        Op::Before(100),
        Op::Append(6),
        Op::Poll,
        Op::Close,
    ],
];

fn setup(profile: Profile, mode: usize, variant: u64) -> Setup {
    let mut setup = Setup::new(MODES[mode], variant);
    setup.sim = SimConfig::profile(profile, variant);
    setup
}

fn operation(rng: &mut Rng) -> Op {
    let (size, percent) = (rng.below(900) as u16, rng.below(101) as u8);
    match rng.below(16) {
        0..5 => Op::Append(size),
        5 => Op::Batch(size, 3, size / 2),
        6 => Op::Submit(size),
        7 => Op::Flush,
        8 => Op::Poll,
        9 => Op::Rotate,
        10 => Op::Before(percent),
        11 => Op::BeforeWhole(percent),
        12 => Op::After(percent),
        13 => Op::Reopen,
        14 => Op::Die,
        _ => Op::Crash(rng.number()),
    }
}

#[test]
fn a_long_run_is_a_prefix_after_every_crash_on_every_file_system() {
    let limits = Limits { nested_percent: 3, nested_points: 1, depth: 3, ..Limits::sampled(states_per_point(6)) };
    for profile in Profile::ALL {
        let count = Mutex::new(Count::default());
        workers::for_each(
            &seeds(60),
            |seed| format!("{profile:?}, seed {seed}"),
            |seed| {
                let mut rng = Rng::new(*seed);
                let mut setup = setup(profile, rng.below(3) as usize, rng.number());
                setup.torn_sectors = rng.percent(50);
                setup.sim.short_transfers = rng.percent(20);
                setup.sim.interrupts = rng.percent(20);
                let ops: Vec<Op> = (0..5 + rng.below(30)).map(|_| operation(&mut rng)).collect();
                let own = explore_or_panic(&setup, &ops, 8, limits, *seed);
                count.lock().expect("no worker panics with it").add(own);
            },
        );
        println!("{profile:?}: {}", count.lock().expect("no worker panics with it"));
    }
}

/// What only the device and the kernel do: nothing of it is a plain failing call.
fn hidden_failures(operation: Operation) -> &'static [Effect] {
    match operation {
        Operation::Write => &[Effect::WriteBackError(errno::EIO), Effect::FlushError(errno::EIO)],
        Operation::SyncData | Operation::SyncAll | Operation::SyncDir => {
            &[Effect::Error(errno::EIO), Effect::FlushError(errno::EIO)]
        }
        _ => &[],
    }
}

fn planned(setup: &Setup, ops: &[Op]) -> Vec<Planned> {
    let sites = sites_of(setup, ops, &[]).unwrap_or_else(|why| panic!("{ops:?}: {why}"));
    let each = |site| hidden_failures(site).iter();
    sites.iter().flat_map(|site| each(site.operation).map(|effect| Planned { site: *site, effect: *effect })).collect()
}

/// Fails each write-back and each flush once.
fn fail_behind_the_back(profile: Profile, mode: usize, variant: u64) {
    let (mut cases, broken) = (0, Mutex::new(Vec::new()));
    for (index, ops) in WORKLOADS.iter().enumerate() {
        for seed in 0..if profile == Profile::Cruellest { 3 } else { 1 } {
            let setup = setup(profile, mode, variant | seed << 8);
            let memory = Memory::default();
            let faults = planned(&setup, ops);
            cases += faults.len();
            workers::for_each(&faults, Planned::to_string, |fault| {
                if let Err(why) = run_with_faults(&setup, ops, &[*fault], &memory) {
                    broken
                        .lock()
                        .expect("nobody panics with it")
                        .push(format!("{profile:?}, workload {index}, seed {seed}, {fault}: {why}"));
                }
            });
        }
    }
    let broken = broken.into_inner().expect("nobody panics with it");
    println!("{profile:?}, {:?}, variant {variant}: {cases} failures behind the back", MODES[mode]);
    assert!(broken.is_empty(), "{} of {cases} break a promise:\n{:#?}", broken.len(), &broken[..broken.len().min(8)]);
}

#[test]
fn write_back_and_flushes_that_fail_break_no_promise_on_ext4() {
    for mode in 0..3 {
        for variant in [0, 8] {
            fail_behind_the_back(Profile::Ext4Ordered, mode, variant);
        }
    }
}

#[test]
fn write_back_and_flushes_that_fail_break_no_promise_on_the_cruellest_file_system() {
    for mode in 0..3 {
        for variant in [0, 8] {
            fail_behind_the_back(Profile::Cruellest, mode, variant);
        }
    }
}

#[test]
fn a_failed_flush_that_ends_the_file_system_breaks_no_promise_on_xfs_and_btrfs() {
    let mut cases = 0;
    for profile in [Profile::Xfs, Profile::Btrfs] {
        for (mode, variant) in [(0, 0), (0, 8), (1, 0), (2, 8)] {
            let setup = setup(profile, mode, variant);
            // The first workload has one process; a death would have to be a boot here.
            for fault in planned(&setup, WORKLOADS[0]) {
                cases += 1;
                let label = format!("{profile:?}, {:?}, {fault}", MODES[mode]);
                let mut run = Run::new(&setup);
                run.planned_errnos = vec![errno::EIO, errno::EROFS];
                run.fs.plan(Fault::new(fault.effect).at_call(fault.site.call));
                for op in WORKLOADS[0] {
                    run.apply(*op).unwrap_or_else(|why| panic!("{label}: {why}"));
                }
                let allowed = Allowed::between(&run.model, &run.model, Death::Machine);
                for seed in 0..3 {
                    check_recovery(&run.fs.crash(&CrashPlan::random(seed)), &setup, &allowed, seed)
                        .unwrap_or_else(|why| panic!("{label}, crash {seed}: {why}"));
                }
            }
        }
    }
    println!("{cases} failures");
}

/// Returns how many operations were refused, because the sync of a new segment found the disk full.
fn run_into_a_late_refusal(seed: u64) -> Result<u64, String> {
    let mut rng = Rng::new(seed);
    let mut setup = setup(Profile::Ext4Ordered, rng.below(3) as usize, rng.number() | 8);
    setup.sim.capacity = Some(24_000 + 4096 * rng.below(20));
    setup.sim.delayed_allocation = true;
    let mut run = Run::new(&setup);
    run.planned_errnos = vec![errno::ENOSPC];
    for _ in 0..10 + rng.below(30) {
        let op = operation(&mut rng);
        if !matches!(op, Op::Crash(_) | Op::Die | Op::Reopen) {
            run.apply(op)?;
        }
    }
    // Appends only go where blocks are, so a late refusal never meets one that was acknowledged.
    if run.is_poisoned() {
        return Err("the log is poisoned".to_owned());
    }
    setup.sim.capacity = None;
    let evicted = run.fs.kill();
    evicted.drop_caches();
    let crashed = run.fs.crash(&CrashPlan::random(seed));
    for (what, fs, death) in [
        ("death", run.fs.kill(), Death::Process),
        ("eviction", evicted, Death::Machine),
        ("crash", crashed, Death::Machine),
    ] {
        fs.configure(|config| config.capacity = None);
        check_recovery(&fs, &setup, &Allowed::between(&run.model, &run.model, death), seed)
            .map_err(|why| format!("{what}: {why}"))?;
    }
    Ok(run.full_refusals)
}

#[test]
fn a_disk_that_only_the_sync_finds_full_refuses_new_segments_and_poisons_nothing() {
    let refused = Mutex::new(0);
    workers::for_each(
        &seeds(400),
        |seed| format!("seed {seed}"),
        |seed| {
            let own = run_into_a_late_refusal(*seed).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
            *refused.lock().expect("no worker panics with it") += own;
        },
    );
    let refused = refused.into_inner().expect("no worker panics with it");
    println!("{refused} operations were refused");
    assert!(refused > 0, "no disk was full");
}
