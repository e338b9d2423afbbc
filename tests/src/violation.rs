//! A broken promise, with everything that is needed to see it again.

use std::fmt;

use crate::crash::{Crash, Place};
use crate::oracle::{Allowed, Death};
use crate::recovery::{check_recovery, without_panic};
use crate::run::{Op, Run};
use crate::settings::Setup;

/// What broke a promise of the contract.
#[derive(Debug)]
pub struct Violation {
    /// The settings.
    pub setup: Setup,
    /// What was done.
    pub ops: Vec<Op>,
    /// The seed of the random choices.
    pub seed: u64,
    /// The crash, counted in the steps of the operations that were explored; `None` if it broke without one.
    pub crash: Option<Crash>,
    /// The promise.
    pub why: String,
}

impl Violation {
    /// A broken promise; a crash is known by its step among the last steps of the run.
    pub fn new(setup: &Setup, ops: &[Op], seed: u64, crash: Option<Crash>, why: String) -> Violation {
        Violation { setup: setup.clone(), ops: ops.to_vec(), seed, crash, why }
    }

    /// Runs the operations again, all of them with their crash points, and crashes in the same place. Returns what is broken then.
    /// `steps_before` says how many steps of the run are not counted in the crash.
    pub fn repeat(&self) -> Option<String> {
        let mut run = Run::new(&self.setup);
        run.keeps_points = true;
        for op in &self.ops {
            if let Err(why) = without_panic(|| run.apply(*op)) {
                return Some(why);
            }
        }
        let crash = self.crash.as_ref()?;
        let step = run.steps.get(crash.step)?;
        let image = crash.image(&crash.at(&run.steps)?);
        let death = if crash.survivors.is_some() { Death::Machine } else { Death::Process };
        let before = if crash.place == Place::After { &step.after } else { &step.before };
        check_recovery(&image, &self.setup, &Allowed::between(before, &step.after, death), 0).err()
    }

    /// The step in which it crashed, and what survived.
    fn describe_crash(&self, crash: &Crash) -> Option<String> {
        let mut run = Run::new(&self.setup);
        run.keeps_points = true;
        self.ops.iter().try_for_each(|op| run.apply(*op)).ok()?;
        let items = crash.at(&run.steps)?.undecided();
        Some(format!("in {}, {:?}: {}", run.steps.get(crash.step)?.label, crash.place, crash.describe(&items)))
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}: {:?} breaks a promise", self.seed, self.setup.config.sync_mode, self.ops)?;
        writeln!(f, "  promise: {}", self.why)?;
        match &self.crash {
            Some(crash) => {
                let text = self.describe_crash(crash).unwrap_or_else(|| format!("{crash:?}"));
                writeln!(f, "  crash: {text}")?;
                writeln!(f, "  as a value: {crash:?}")?;
            }
            None => writeln!(f, "  without a crash")?,
        }
        write!(f, "  settings: {:?}", self.setup)
    }
}
