//! Crashes everywhere: at every call of a run and after it, with every outcome or a sample of them, also inside recovery.

use std::collections::HashSet;
use std::fmt;

use wal::fs::sim::SimFs;

use crate::crash::{Choices, Crash, Place, in_flight};
use crate::oracle::{Allowed, Death};
use crate::recovery::{Memory, Verdict, check, key, open, without_panic};
use crate::rng::{Rng, mix};
use crate::run::{Op, Run, Step};
use crate::settings::Setup;
use crate::violation::Violation;

/// How much of the space of crashes is looked at.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// All outcomes of a crash point are looked at if at most so many items are undecided.
    pub items_whole: usize,
    /// The same if there are at most so many outcomes. Otherwise no more than this are looked at: `samples` at random, and
    /// subsets of each eight items that follow one another, with the others lost and with the others kept.
    pub outcomes_max: u64,
    /// Outcomes at random, of which the first two lose and keep everything.
    pub samples: u64,
    /// The share of the states, in percent, whose recovery is crashed too.
    pub nested_percent: u64,
    /// Crash points looked at inside a recovery that runs after a crash inside a recovery.
    pub nested_points: u64,
    /// How deep recoveries crash.
    pub depth: u32,
}

impl Limits {
    /// All outcomes of at most eight undecided items, at most so many outcomes of more, and no crash inside recovery.
    pub fn exhaustive(outcomes_max: u64) -> Limits {
        Limits { items_whole: 8, outcomes_max, samples: 32, nested_percent: 0, nested_points: 0, depth: 0 }
    }

    /// So many outcomes of each crash point, most of them at random, and no crash inside recovery.
    pub fn sampled(outcomes_max: u64) -> Limits {
        Limits { items_whole: 0, samples: outcomes_max, ..Limits::exhaustive(outcomes_max) }
    }
}

/// How many states were looked at.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count {
    /// Runs.
    pub runs: u64,
    /// Points at which a run could crash: before a call that changes or syncs something, in the middle of a direct write, and after
    /// the last call.
    pub points: u64,
    /// Deaths of the process, and crashes of the machine with their outcomes. Each was compared with what the contract allows there.
    pub states: u64,
    /// Crashes inside a recovery.
    pub nested: u64,
}

impl Count {
    /// Adds another count.
    pub fn add(&mut self, other: Count) {
        self.runs += other.runs;
        self.points += other.points;
        self.states += other.states;
        self.nested += other.nested;
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} runs, {} crash points, {} crash states", self.runs, self.points, self.states)?;
        if self.nested > 0 { write!(f, ", {} crash states inside recovery", self.nested) } else { Ok(()) }
    }
}

/// Explores runs with the same settings. What one run showed about an image serves the others; several threads may use one explorer.
#[derive(Debug)]
pub struct Explorer {
    /// The settings.
    pub setup: Setup,
    /// How much is looked at.
    pub limits: Limits,
    /// What was recovered so far.
    pub memory: Memory,
}

/// Runs the operations, and crashes in the last `explored` of them. Returns what was looked at, or the first broken promise.
///
/// How the log is opened is part of the settings ([`Setup::opened`]), so this also explores logs that are broken on purpose.
///
/// # Errors
///
/// The first violation, not yet made small; see [`shrink`](crate::shrink::shrink).
pub fn explore(setup: &Setup, ops: &[Op], explored: usize, limits: Limits, seed: u64) -> Result<Count, Box<Violation>> {
    Explorer::new(setup.clone(), limits).explore(ops, explored, seed)
}

/// As [`explore`]; panics with a violation that was made small.
pub fn explore_or_panic(setup: &Setup, ops: &[Op], explored: usize, limits: Limits, seed: u64) -> Count {
    Explorer::new(setup.clone(), limits).explore_or_panic(ops, explored, seed)
}

impl Explorer {
    /// An explorer that has seen nothing.
    pub fn new(setup: Setup, limits: Limits) -> Explorer {
        Explorer { setup, limits, memory: Memory::default() }
    }

    /// As the function [`explore`].
    pub fn explore(&self, ops: &[Op], explored: usize, seed: u64) -> Result<Count, Box<Violation>> {
        let broken = |crash, why| Box::new(Violation::new(&self.setup, ops, seed, crash, why));
        let mut run = Run::new(&self.setup);
        for (index, op) in ops.iter().enumerate() {
            run.keeps_points = index + explored >= ops.len();
            without_panic(|| run.apply(*op)).map_err(|why| broken(None, why))?;
        }
        let count = Count { runs: 1, ..Count::default() };
        let mut pass = Pass { explorer: self, rng: Rng::new(seed), count, seen: HashSet::new() };
        for step in &run.steps {
            pass.step(step).map_err(|(crash, why)| broken(Some(Crash { step: step.number, ..crash }), why))?;
        }
        Ok(pass.count)
    }

    /// As the function [`explore_or_panic`].
    pub fn explore_or_panic(&self, ops: &[Op], explored: usize, seed: u64) -> Count {
        self.explore(ops, explored, seed)
            .unwrap_or_else(|violation| panic!("{}", crate::shrink::shrink(&self.setup, self.limits, *violation)))
    }

    /// What was recovered so far, for people to read.
    pub fn images(&self) -> String {
        format!("{} distinct images, {} distinct logs after recovery", self.memory.images(), self.memory.recovered())
    }
}

/// What a crash of one run broke, and how. The number of the step is filled in by the caller.
type Broken = (Crash, String);

/// The exploration of one run.
struct Pass<'a> {
    explorer: &'a Explorer,
    rng: Rng,
    count: Count,
    /// The keys of the deaths of the process that this run showed already, in this step.
    seen: HashSet<u64>,
}

impl Pass<'_> {
    fn step(&mut self, step: &Step) -> Result<(), Broken> {
        self.seen.clear();
        let allowed = |death| Allowed::between(&step.before, &step.after, death);
        let during = (allowed(Death::Process), allowed(Death::Machine));
        let allowed = |death| Allowed::between(&step.after, &step.after, death);
        let after = (allowed(Death::Process), allowed(Death::Machine));
        let ends = step.points.iter().skip(1).map(|(_, fs)| fs).chain([&step.end]);
        for ((call, fs), next) in step.points.iter().zip(ends) {
            self.point(fs, Place::Before(*call), &during)?;
            if self.explorer.setup.config.direct_io
                && let Some(torn) = in_flight(fs, next)
            {
                self.point(&torn, Place::During(*call), &during)?;
            }
        }
        self.point(&step.end, Place::After, &after)
    }

    /// The death of the process and all crashes of the machine at one point. A write under way is not torn by the death of a process.
    fn point(&mut self, fs: &SimFs, place: Place, allowed: &(Allowed, Allowed)) -> Result<(), Broken> {
        self.count.points += 1;
        let (process, machine) = allowed;
        if !matches!(place, Place::During(_)) {
            let killed = fs.kill();
            let key = mix(key(&killed), u64::from(place == Place::After));
            if self.seen.insert(key) {
                self.state(killed, process, machine).map_err(|why| (Crash::kill(place), why))?;
            }
        }
        let items = fs.undecided();
        let is_torn = self.explorer.setup.torn_sectors;
        for choice in Choices::new(&items, &self.explorer.limits, self.rng.number()) {
            let tear = is_torn.then(|| self.rng.number());
            let crash = Crash::machine(place, choice, tear);
            self.state(fs.crash(&crash.plan()), machine, machine).map_err(|why| (crash, why))?;
        }
        Ok(())
    }

    fn recover(&self, fs: &SimFs) -> Verdict {
        self.explorer.memory.recover(&self.explorer.setup, fs)
    }

    /// Looks at one state after a death; `machine` is what a crash of the machine may leave of it.
    fn state(&mut self, fs: SimFs, allowed: &Allowed, machine: &Allowed) -> Result<(), String> {
        self.count.states += 1;
        let limits = &self.explorer.limits;
        let nested = (limits.nested_percent > 0 && self.rng.percent(limits.nested_percent)).then(|| fs.kill());
        let observed = self.recover(&fs).map_err(|why| why.to_string())?;
        check(allowed, &observed)?;
        let Some(fs) = nested else { return Ok(()) };
        // A killed process leaves data that only a crash takes away, so any allowed prefix may be left then.
        let converges = fs.undecided().is_empty();
        let allowed = if converges { allowed.exactly(&observed) } else { machine.clone() };
        self.nested(&fs, &allowed, limits.depth)
    }

    /// Crashes the recovery of `fs`, and the recovery of that, `depth` deep.
    fn nested(&mut self, fs: &SimFs, allowed: &Allowed, depth: u32) -> Result<(), String> {
        let limits = self.explorer.limits;
        if depth == 0 {
            return Ok(());
        }
        let points = points_of_recovery(&self.explorer.setup, fs)?;
        let is_first = depth == limits.depth;
        for (call, point) in &points {
            // The first level goes through all points, the others through a sample.
            if !is_first && !self.rng.percent(100 * limits.nested_points / points.len().max(1) as u64) {
                continue;
            }
            let seed = self.rng.number();
            let after = match self.rng.below(10) {
                0 => point.kill(),
                1..3 => point.crash(&wal::fs::sim::CrashPlan::keep_nothing()),
                _ => point.crash(&wal::fs::sim::CrashPlan::random(seed)),
            };
            self.count.nested += 1;
            let place = |why: String| format!("recovery crashes before its call {call} (seed {seed}): {why}");
            let observed = self.recover(&after.kill()).map_err(|why| place(why.to_string()))?;
            check(allowed, &observed).map_err(place)?;
            if depth > 1 && self.rng.percent(if is_first { 30 } else { 100 }) {
                self.nested(&after, allowed, depth - 1).map_err(place)?;
            }
        }
        Ok(())
    }
}

/// The file system before each call of the recovery of `fs`, which stays as it is.
pub fn points_of_recovery(setup: &Setup, fs: &SimFs) -> Result<Vec<(u64, SimFs)>, String> {
    let running = fs.kill();
    running.keep_crash_points(true);
    let log = open(&running, setup, &std::sync::Arc::default())
        .map_err(|error| format!("a second recovery of the same state: {error:?}"))?;
    let points = running.take_crash_points();
    running.keep_crash_points(false);
    drop(log);
    Ok(points)
}

/// Recovers a state, crashes that at every call with a few outcomes, and recovers again. Returns how many crashes that were.
pub fn crash_inside_recovery(setup: &Setup, fs: &SimFs, allowed: &Allowed, seed: u64) -> Result<u64, String> {
    crash_inside_recovery_with(&Memory::default(), setup, fs, allowed, seed)
}

/// As [`crash_inside_recovery`], with what was recovered before.
pub fn crash_inside_recovery_with(
    memory: &Memory,
    setup: &Setup,
    fs: &SimFs,
    allowed: &Allowed,
    seed: u64,
) -> Result<u64, String> {
    use wal::fs::sim::CrashPlan;
    let points = points_of_recovery(setup, fs)?;
    for (call, point) in &points {
        for (number, plan) in [CrashPlan::keep_nothing(), CrashPlan::random(seed ^ call)].iter().enumerate() {
            memory
                .recover(setup, &point.crash(plan))
                .map_err(|why| why.to_string())
                .and_then(|observed| check(allowed, &observed))
                .map_err(|why| format!("recovery crashes before its call {call}, outcome {number}: {why}"))?;
        }
    }
    Ok(2 * points.len() as u64)
}
