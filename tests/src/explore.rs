//! Crashes everywhere: at every call of a run, with every outcome or a sample of them, also inside recovery.

use std::collections::HashSet;
use std::fmt;
use std::time::{Duration, Instant};

use wal::fs::sim::{CrashPlan, SimFs};

use crate::oracle::{Allowed, Death, check_recovery, open};
use crate::rng::Rng;
use crate::run::{Op, Run, Step};
use crate::settings::Setup;

/// How many items may be undecided so that all outcomes are looked at.
const ITEMS_MAX: usize = 8;

/// How much of the space of crashes is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Outcomes of one crash point.
    pub states_per_point: u64,
    /// The share of the states, in percent, whose recovery is crashed too.
    pub nested_percent: u64,
    /// Crash points looked at inside one recovery.
    pub nested_points: u64,
    /// How deep recoveries crash.
    pub depth: u32,
}

/// How many states were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Crashes of a run, with different outcomes.
    pub states: u64,
    /// Crashes inside a recovery.
    pub nested: u64,
    /// Points at which a run could crash.
    pub points: u64,
    /// Runs.
    pub runs: u64,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.states += other.states;
        self.nested += other.nested;
        self.points += other.points;
        self.runs += other.runs;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} runs, {} crash points, {} crash states, {} crash states inside recovery",
            self.runs, self.points, self.states, self.nested
        )
    }
}

/// Runs the operations, and crashes in the last `explored` of them. `Err` describes what broke, and where.
pub fn explore(setup: &Setup, ops: &[Op], explored: usize, budget: &Budget, seed: u64) -> Result<Count, String> {
    let mut run = Run::new(setup);
    let mut count = Count { runs: 1, ..Count::default() };
    for (index, op) in ops.iter().enumerate() {
        run.keeps_points = index + explored >= ops.len();
        run.apply(*op).map_err(|why| format!("without a crash, {why}"))?;
    }
    let mut explorer = Explorer { setup, budget, rng: Rng::new(seed), count: Count::default() };
    for step in &run.steps {
        explorer.step(step)?;
    }
    count.add(explorer.count);
    Ok(count)
}

/// As [`explore`]; a failure is first made small by leaving operations out while it still fails.
pub fn explore_or_shrink(setup: &Setup, ops: &[Op], explored: usize, budget: &Budget, seed: u64) -> Count {
    let first = match explore(setup, ops, explored, budget, seed) {
        Ok(count) => return count,
        Err(why) => why,
    };
    let (small, why) = shrink(ops, first, |fewer| explore(setup, fewer, fewer.len(), budget, seed).err());
    panic!(
        "seed {seed}, {:?}: {small:?} fails: {why}\nthe whole sequence was {ops:?}\nsettings {setup:?}",
        setup.config.sync_mode
    );
}

/// Leaves out operations one at a time while it still fails, for at most half a minute.
pub fn shrink(ops: &[Op], why: String, fails: impl Fn(&[Op]) -> Option<String>) -> (Vec<Op>, String) {
    eprintln!("{ops:?} fails, and is being made small: {why}");
    let (mut small, mut why) = (ops.to_vec(), why);
    let (mut index, started) = (0, Instant::now());
    while index < small.len() && small.len() > 1 && started.elapsed() < Duration::from_secs(30) {
        let mut fewer = small.clone();
        fewer.remove(index);
        match fails(&fewer) {
            Some(next) => (small, why, index) = (fewer, next, 0),
            None => index += 1,
        }
    }
    (small, why)
}

/// Recovers a state, crashes that at every call with a few outcomes, and recovers again. Returns how many crashes that were.
pub fn crash_inside_recovery(setup: &Setup, fs: &SimFs, allowed: &Allowed, seed: u64) -> Result<u64, String> {
    let running = fs.kill();
    running.keep_crash_points(true);
    let log = open(&running, setup, &std::sync::Arc::default()).map_err(|error| format!("recovery: {error:?}"))?;
    let points = running.take_crash_points();
    running.keep_crash_points(false);
    drop(log);
    for (call, point) in &points {
        for (number, plan) in [CrashPlan::keep_nothing(), CrashPlan::random(seed ^ call)].iter().enumerate() {
            check_recovery(&point.crash(plan), setup, allowed, seed ^ call)
                .map_err(|why| format!("recovery crashes before its call {call}, outcome {number}: {why}"))?;
        }
    }
    Ok(2 * points.len() as u64)
}

struct Explorer<'a> {
    setup: &'a Setup,
    budget: &'a Budget,
    rng: Rng,
    count: Count,
}

impl Explorer<'_> {
    fn step(&mut self, step: &Step) -> Result<(), String> {
        let machine = Allowed::between(&step.before, &step.after, Death::Machine);
        let process = Allowed::between(&step.before, &step.after, Death::Process);
        let mut seen = HashSet::new();
        for (call, fs) in &step.points {
            self.count.points += 1;
            let place = |what: String, why: String| format!("in {:?} before call {call}, {what}: {why}", step.label);
            let killed = fs.kill();
            if seen.insert((killed.fingerprint(), 1)) || self.rng.percent(10) {
                self.state(&killed, &process, &machine).map_err(|why| place("death of the process".to_owned(), why))?;
            }
            for plan in self.plans(fs) {
                let after = fs.crash(&plan);
                if seen.insert((after.fingerprint(), 0)) {
                    self.state(&after, &machine, &machine).map_err(|why| place(format!("crash with {plan:?}"), why))?;
                }
            }
        }
        Ok(())
    }

    /// All outcomes of a crash, or as many as the budget allows.
    fn plans(&mut self, fs: &SimFs) -> Vec<CrashPlan> {
        let tear = |plan: CrashPlan, seed: u64| {
            let plan = if self.setup.torn_sectors { plan.with_torn_sectors() } else { plan };
            plan.with_seed(seed)
        };
        let states = self.budget.states_per_point;
        let items = fs.undecided();
        let outcomes: u64 = items.iter().fold(1, |product, item| product.saturating_mul(u64::from(item.versions)));
        if items.len() <= ITEMS_MAX && outcomes <= states {
            let all = fs.outcomes(ITEMS_MAX).expect("few items");
            return all.map(|plan| tear(plan, self.rng.number())).collect();
        }
        let mut plans = vec![CrashPlan::keep_nothing(), CrashPlan::keep_everything()];
        while (plans.len() as u64) < states {
            let seed = self.rng.number();
            plans.push(tear(CrashPlan::random(seed), seed));
        }
        plans
    }

    /// Looks at one state after a death; `machine` is what a crash of the machine may leave of it.
    fn state(&mut self, fs: &SimFs, allowed: &Allowed, machine: &Allowed) -> Result<(), String> {
        self.count.states += 1;
        let variant = self.rng.number();
        let nested = self.rng.percent(self.budget.nested_percent).then(|| fs.kill());
        let observed = check_recovery(fs, self.setup, allowed, variant)?;
        let Some(fs) = nested else { return Ok(()) };
        // A killed process leaves data that only a crash takes away, so any allowed prefix may be left then.
        let converges = fs.undecided().is_empty();
        let allowed = if converges { allowed.exactly(&observed) } else { machine.clone() };
        self.nested(&fs, &allowed, self.budget.depth)
    }

    /// Crashes the recovery of `fs`, and the recovery of that, `depth` deep.
    fn nested(&mut self, fs: &SimFs, allowed: &Allowed, depth: u32) -> Result<(), String> {
        if depth == 0 {
            return Ok(());
        }
        let running = fs.kill();
        running.keep_crash_points(true);
        let log = open(&running, self.setup, &std::sync::Arc::default())
            .map_err(|error| format!("a second recovery of the same state: {error:?}"))?;
        let points = running.take_crash_points();
        running.keep_crash_points(false);
        drop(log);
        let is_first = depth == self.budget.depth;
        for (call, point) in &points {
            // The first level goes through all points, the others through a sample.
            if !is_first && !self.rng.percent(100 * self.budget.nested_points / points.len().max(1) as u64) {
                continue;
            }
            let seed = self.rng.number();
            let mut after = if self.rng.percent(15) { point.kill() } else { point.crash(&CrashPlan::random(seed)) };
            if self.rng.percent(20) {
                after = point.crash(&CrashPlan::keep_nothing());
            }
            self.count.nested += 1;
            let place = |why: String| format!("recovery crashes before its call {call} (seed {seed}): {why}");
            check_recovery(&after.kill(), self.setup, allowed, seed).map_err(place)?;
            if depth > 1 && self.rng.percent(if is_first { 30 } else { 100 }) {
                self.nested(&after, allowed, depth - 1).map_err(place)?;
            }
        }
        Ok(())
    }
}
