//! Crashes at every call of a run, also inside checkpoints and inside recovery: what was acknowledged is there, and what is there is a prefix.

use checkpoint::Config;
use wal::SyncMode;
use wal::fs::sim::{CrashPlan, SimFs};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::world::{Mix, Model, Op, apply, apply_to_model, config, content, open, verified};

/// A run: what is surely there after a crash, and what may have come since.
struct Run {
    config: Config,
    seed: u64,
    /// Everything up to the last durable operation.
    durable: Model,
    /// The operations since.
    since: Vec<Op>,
    states: u64,
}

impl Run {
    /// The store after a crash holds `durable`, and of the operations since a prefix.
    fn check(&mut self, fs: &SimFs, nested: u32, place: &str) {
        self.states += 1;
        // What a crash leaves is no damage, and verification says what the open will find.
        let report = verified(fs);
        let recovering = fs.kill();
        let store = open(fs, &self.config).unwrap_or_else(|error| panic!("seed {}, {place}: {error}", self.seed));
        let found = content(&store).unwrap_or_else(|error| panic!("seed {}, {place}: {error}", self.seed));
        assert_eq!(report.tree.map(|tree| tree.entries), Some(found.len() as u64), "seed {}, {place}", self.seed);
        let mut model = self.durable.clone();
        let mut is_there = model == found;
        for op in &self.since {
            if is_there {
                break;
            }
            apply_to_model(&mut model, op);
            is_there = model == found;
        }
        assert!(
            is_there,
            "seed {}, {place}: {} entries are there, which is the state after none of the last {} operations {:?}",
            self.seed,
            found.len(),
            self.since.len(),
            self.since.last(),
        );
        // It goes on working.
        store.put(b"after", b"crash").unwrap_or_else(|error| panic!("seed {}, {place}: {error}", self.seed));
        drop(store);
        if nested == 0 {
            return;
        }
        recovering.keep_crash_points(true);
        drop(open(&recovering, &self.config));
        let points = recovering.take_crash_points();
        for (call, point) in points.iter().step_by(1 + points.len() / 12) {
            for plan in [CrashPlan::keep_nothing(), CrashPlan::random(self.seed ^ call)] {
                self.check(&point.crash(&plan), nested - 1, &format!("{place}, recovery crashed before call {call}"));
            }
        }
    }
}

fn survives_crashes(mode: SyncMode, seed: u64, steps: u64, plans: u64) -> u64 {
    let fs = SimFs::new(seed);
    let config = config(mode);
    let mut rng = Rng::new(seed);
    let mut run = Run { config: config.clone(), seed, durable: Model::new(), since: Vec::new(), states: 0 };
    let mut store = open(&fs, &config).expect("a new store opens");
    // A tree of some pages, more than one segment, and more pages than the pool holds.
    for _ in 0..300 {
        let op = Mix::GROWING.op(&mut rng);
        apply(&store, &op).unwrap_or_else(|error| panic!("seed {seed}: {op:?}: {error}"));
        apply_to_model(&mut run.durable, &op);
    }
    store.flush().expect("the store can be flushed");
    fs.keep_crash_points(true);
    for step in 0..steps {
        let op = match rng.below(20) {
            0 => Op::Checkpoint,
            1 => Op::Close,
            _ => Mix::GROWING.op(&mut rng),
        };
        run.since.push(op.clone());
        apply(&store, &op).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {op:?}: {error}"));
        if op == Op::Close {
            store = open(&fs, &config).unwrap_or_else(|error| panic!("seed {seed}, step {step}: {error}"));
        }
        for (call, point) in fs.take_crash_points() {
            let mut outcomes = vec![CrashPlan::keep_nothing(), CrashPlan::keep_everything()];
            outcomes.extend((0..plans).map(|plan| CrashPlan::random(seed ^ (call << 8) ^ plan).with_torn_sectors()));
            for (number, plan) in outcomes.iter().enumerate() {
                let nested = u32::from(rng.percent(2)) * 2;
                let place = format!(
                    "step {step} {op:.60?}, crashed before call {call}, outcome {number}",
                    op = format!("{op:?}")
                );
                run.check(&point.crash(plan), nested, &place);
            }
        }
        let is_durable = mode == SyncMode::Sync || matches!(op, Op::Flush | Op::Checkpoint | Op::Close);
        if is_durable {
            for op in std::mem::take(&mut run.since) {
                apply_to_model(&mut run.durable, &op);
            }
        }
    }
    run.states
}

fn survives(mode: SyncMode) {
    let watchdog = Watchdog::start();
    let mut states = 0;
    for seed in 0..4 {
        watchdog.beat(|| format!("{mode:?}, seed {seed}"));
        states += survives_crashes(mode, seed, 60, 2);
    }
    println!("{mode:?}: {states} crash states");
}

#[test]
fn in_sync_mode_a_crash_at_any_call_keeps_what_was_acknowledged() {
    survives(SyncMode::Sync);
}

#[test]
fn in_batch_mode_a_crash_at_any_call_keeps_a_prefix() {
    survives(SyncMode::BATCH_DEFAULT);
}

#[test]
fn in_none_mode_a_crash_at_any_call_keeps_a_prefix() {
    survives(SyncMode::None);
}
