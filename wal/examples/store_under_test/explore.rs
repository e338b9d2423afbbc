//! The search: runs a workload, crashes it everywhere, fails each of its calls, and compares what is left with what was
//! acknowledged. None of it knows how the store works inside.

use std::fmt;
use std::ops::Range;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, Profile, SimConfig, SimFs, errno};

use crate::store::{Bug, Store, View};

/// How many plans of one crash point are tried when there are too many to try all.
const PLANS_MAX: usize = 12;

/// A promise that was broken, and how to see it again.
#[derive(Debug)]
pub struct Finding {
    /// The seed of the workload and the file system.
    pub seed: u64,
    /// What happened.
    pub what: String,
    /// The calls up to there.
    pub trace: Vec<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(formatter, "seed {}: {}", self.seed, self.what)?;
        let skipped = self.trace.len().saturating_sub(8);
        self.trace[skipped..].iter().try_for_each(|line| writeln!(formatter, "    {line}"))
    }
}

/// Looks for a promise that a crash breaks, with these seeds. `Ok` has the number of states that were looked at.
pub fn crash_everywhere(profile: Profile, bug: Option<Bug>, seeds: Range<u64>) -> Result<u64, Finding> {
    seeds.map(|seed| Search { profile, bug, seed }.crash_everywhere()).sum()
}

/// Looks for a promise that a failing call breaks.
pub fn fail_every_call(profile: Profile, bug: Option<Bug>, seeds: Range<u64>) -> Result<u64, Finding> {
    seeds.map(|seed| Search { profile, bug, seed }.fail_every_call()).sum()
}

/// One operation of a workload: the number of its first call, and what was acknowledged before and after it.
#[derive(Debug)]
struct Step {
    first_call: u64,
    before: View,
    after: View,
}

struct Search {
    profile: Profile,
    bug: Option<Bug>,
    seed: u64,
}

impl Search {
    fn file_system(&self) -> SimFs {
        let mut config = SimConfig::profile(self.profile, self.seed);
        config.short_transfers = true;
        let fs = SimFs::with_config(config);
        fs.record_trace(true);
        fs
    }

    /// Puts, compactions and reopens, in an order that the seed decides. Ends at the first error.
    fn workload(&self, fs: &SimFs) -> Vec<Step> {
        let mut steps = vec![Step { first_call: 0, before: View::new(), after: View::new() }];
        let Ok(mut store) = Store::open(fs, self.bug) else { return steps };
        for number in 0..9_u64 {
            let choice = ((self.seed + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (6 * number)) as usize % 64;
            let before = store.view().clone();
            let (key, value) = (["a", "b", "c"][choice % 3], vec![number as u8 + 1; 30 + 37 * choice]);
            let mut after = before.clone();
            let is_put = choice < 48;
            if is_put {
                after.insert(key.to_owned(), value.clone());
            }
            steps.push(Step { first_call: fs.calls(), before, after });
            let result = match choice {
                0..48 => store.put(key, &value),
                48..58 => store.compact(),
                _ => Store::open(fs, self.bug).map(|reopened| store = reopened),
            };
            if result.is_err() {
                return steps;
            }
        }
        // Whatever crashes behind the last operation leaves all of it.
        let view = store.view().clone();
        steps.push(Step { first_call: fs.calls(), before: view.clone(), after: view });
        steps
    }

    /// The machine crashes before every call, with every outcome if there are few, and once more while the store recovers from that, and
    /// once more.
    fn crash_everywhere(&self) -> Result<u64, Finding> {
        let fs = self.file_system();
        fs.keep_crash_points(true);
        let steps = self.workload(&fs);
        let mut points = fs.take_crash_points();
        points.push((fs.calls(), fs.kill()));
        let mut states = 0;
        for (call, point) in points {
            let step = steps.iter().rev().find(|step| step.first_call <= call).expect("the first begins at call 0");
            let outcomes = point.outcomes(PLANS_MAX.ilog2() as usize);
            let plans: Vec<CrashPlan> = outcomes.map_or_else(|| self.some_plans(call), Iterator::collect);
            for plan in plans {
                states += self.judge(&point.crash(&plan), step, 2, call).map_err(|what| {
                    self.finding(&fs, format!("a crash before call {call} with {plan:?}: {what}"), call)
                })?;
            }
        }
        Ok(states)
    }

    fn some_plans(&self, call: u64) -> Vec<CrashPlan> {
        let mut plans = vec![CrashPlan::keep_nothing(), CrashPlan::keep_everything()];
        plans.extend((0..PLANS_MAX as u64).map(|number| CrashPlan::random(self.seed ^ call << 8 ^ number << 32)));
        plans
    }

    /// Every call fails once, in every way that it can. What was acknowledged then is there after the death of the process, after the page
    /// cache was dropped, and after a crash.
    fn fail_every_call(&self) -> Result<u64, Finding> {
        let reference = self.file_system();
        self.workload(&reference);
        let mut states = 0;
        for event in reference.take_trace() {
            for effect in effects(event.operation) {
                let fs = self.file_system();
                fs.plan(Fault::new(effect).at_call(event.call));
                let steps = self.workload(&fs);
                let step = steps.last().expect("there is one at least");
                let evicted = fs.kill();
                evicted.drop_caches();
                let mut left = vec![fs.kill(), evicted];
                left.extend(self.some_plans(event.call).iter().take(4).map(|plan| fs.crash(plan)));
                for state in left {
                    // A file system that shut down works again after the next boot.
                    let state = if self.opens(&state) { state } else { state.crash(&CrashPlan::keep_everything()) };
                    states += self.judge(&state, step, 0, event.call).map_err(|what| {
                        self.finding(&fs, format!("{effect:?} instead of {event}: {what}"), fs.calls())
                    })?;
                }
            }
        }
        Ok(states)
    }

    fn opens(&self, fs: &SimFs) -> bool {
        Store::open(&fs.kill(), self.bug).is_ok()
    }

    /// Opens the store and compares. What it shows must survive a crash, and a crash of its recovery, so many times deep.
    fn judge(&self, fs: &SimFs, step: &Step, depth: u32, seed: u64) -> Result<u64, String> {
        let running = fs.kill();
        running.keep_crash_points(depth > 0);
        let view = look(&running, self.bug)?;
        if view != step.before && view != step.after {
            return Err(format!("holds {}, not {} or {}", list(&view), list(&step.before), list(&step.after)));
        }
        let again = look(&running.crash(&CrashPlan::keep_nothing()), self.bug)
            .map_err(|why| format!("held {} and after a crash {why}", list(&view)))?;
        if again != view {
            return Err(format!("held {} and after a crash holds {}", list(&view), list(&again)));
        }
        let mut states = 1;
        for (call, point) in running.take_crash_points() {
            let seed = seed ^ call << 16;
            states += self
                .judge(&point.crash(&CrashPlan::random(seed)), step, depth - 1, seed)
                .map_err(|what| format!("recovery crashes before its call {call}: {what}"))?;
            if depth > 1 && call % 3 != 0 {
                // The deepest level looks at a third of its points.
                break;
            }
        }
        Ok(states)
    }

    fn finding(&self, fs: &SimFs, what: String, call: u64) -> Finding {
        let trace = fs.take_trace();
        let until = trace.iter().take_while(|event| event.call < call);
        Finding { seed: self.seed, what, trace: until.map(ToString::to_string).collect() }
    }
}

/// What a call can do other than work. A device that lies is not among them: no store on one disk survives that.
fn effects(operation: Operation) -> Vec<Effect> {
    let mut effects = vec![Effect::Error(errno::EIO), Effect::DoneButError(errno::EIO)];
    match operation {
        Operation::Write => effects.extend([
            Effect::Error(errno::ENOSPC),
            Effect::Error(errno::EINTR),
            Effect::Short(1),
            Effect::PartialError { bytes: 5, errno: errno::EIO },
            Effect::WriteBackError(errno::EIO),
        ]),
        Operation::SyncAll | Operation::SyncData | Operation::SyncDir => effects.push(Effect::FlushError(errno::EIO)),
        Operation::Read => effects.push(Effect::Short(3)),
        _ => {}
    }
    effects
}

fn look(fs: &SimFs, bug: Option<Bug>) -> Result<View, String> {
    let store = Store::open(fs, bug).map_err(|error| format!("the store does not open: {error}"))?;
    Ok(store.view().clone())
}

fn list(view: &View) -> String {
    let entry = |(key, value): (&String, &Vec<u8>)| {
        let first = value.first().copied().unwrap_or_default();
        let is_whole = value.iter().all(|byte| *byte == first);
        format!("{key}={first}{}", if is_whole { "" } else { " (mixed)" })
    };
    format!("{{{}}}", view.iter().map(entry).collect::<Vec<_>>().join(", "))
}
