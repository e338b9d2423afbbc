//! One crash: where a run was, and what survived. It can be repeated and made smaller.

use std::path::Path;

use wal::fs::sim::{CrashPlan, SimFs, Undecided, UndecidedKind};
use wal::fs::{FileSystem, OpenMode};

use crate::explore::Limits;
use crate::recovery::DIR;
use crate::rng::Rng;
use crate::run::Step;

const SECTOR: usize = 512;
/// So many items that follow one another are combined in all ways, if all combinations of all items are too many.
const WINDOW: usize = 8;

/// Where a run was when it crashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Before this call.
    Before(u64),
    /// In the middle of this call, a direct write.
    During(u64),
    /// After the last call of the step.
    After,
}

/// One death.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    /// Which step of the run, counted among those that are explored.
    pub step: usize,
    /// Where in it.
    pub place: Place,
    /// What survived of each undecided item, by [`CrashPlan::versions`]; without it the process died, and the machine did not crash.
    pub survivors: Option<Vec<u32>>,
    /// Sectors are torn, with this seed.
    pub tear: Option<u64>,
}

impl Crash {
    /// The death of the process.
    pub fn kill(place: Place) -> Crash {
        Crash { step: 0, place, survivors: None, tear: None }
    }

    /// A crash of the machine.
    pub fn machine(place: Place, survivors: Vec<u32>, tear: Option<u64>) -> Crash {
        Crash { step: 0, place, survivors: Some(survivors), tear }
    }

    /// The plan for the simulated file system.
    pub fn plan(&self) -> CrashPlan {
        let plan = CrashPlan::versions(self.survivors.clone().unwrap_or_default());
        match self.tear {
            Some(seed) => plan.with_torn_sectors().with_seed(seed),
            None => plan,
        }
    }

    /// The file system right before the crash, if the run comes to that place.
    pub fn at(&self, steps: &[Step]) -> Option<SimFs> {
        let step = steps.get(self.step)?;
        let index = |call: u64| step.points.iter().position(|(number, _)| *number == call);
        match self.place {
            Place::Before(call) => Some(step.points[index(call)?].1.clone()),
            Place::During(call) => {
                let index = index(call)?;
                let next = step.points.get(index + 1).map_or(&step.end, |(_, fs)| fs);
                in_flight(&step.points[index].1, next)
            }
            Place::After => Some(step.end.clone()),
        }
    }

    /// The file system after it.
    pub fn image(&self, before: &SimFs) -> SimFs {
        if self.survivors.is_some() { before.crash(&self.plan()) } else { before.kill() }
    }

    /// What of the undecided items survived, and what was lost, for people to read.
    pub fn describe(&self, items: &[Undecided]) -> String {
        let Some(survivors) = &self.survivors else { return "the process dies".to_owned() };
        let version = |index: usize| survivors.get(index).copied().unwrap_or(0);
        let one = |(index, item): (usize, &Undecided)| format!("{item}, number {}", version(index));
        let of = |kept: bool| -> Vec<String> {
            let items = items.iter().enumerate().filter(|(index, _)| (version(*index) != 0) == kept);
            items.map(one).collect()
        };
        let tear = self.tear.map_or(String::new(), |seed| format!(", torn with seed {seed}"));
        format!("the machine crashes{tear}; survives: {:?}; is lost: {:?}", of(true), of(false))
    }
}

/// The outcomes of a crash that are looked at: one version for each undecided item.
#[derive(Debug)]
pub struct Choices {
    versions: Vec<u32>,
    newest: Vec<u32>,
    windows: Vec<Window>,
    sampled: u64,
    samples: u64,
    left: u64,
    rng: Rng,
}

/// The items of `range` take all combinations, the others stay as they are.
#[derive(Clone, Debug)]
struct Window {
    range: std::ops::Range<usize>,
    choice: Vec<u32>,
}

impl Choices {
    /// All outcomes if they are few enough, otherwise as [`Limits`] says.
    pub fn new(items: &[Undecided], limits: &Limits, seed: u64) -> Choices {
        let versions: Vec<u32> = items.iter().map(|item| item.versions).collect();
        let newest: Vec<u32> = items.iter().map(|item| item.newest).collect();
        let outcomes = versions.iter().fold(1_u64, |product, count| product.saturating_mul(u64::from(*count)));
        let rng = Rng::new(seed);
        let lost = vec![0; items.len()];
        if items.len() <= limits.items_whole || outcomes <= limits.outcomes_max {
            let windows = vec![Window { range: 0..items.len(), choice: lost }];
            return Choices { versions, newest, windows, sampled: 0, samples: 0, left: u64::MAX, rng };
        }
        let mut windows = Vec::new();
        for start in (0..items.len()).step_by(WINDOW) {
            let range = start..(start + WINDOW).min(items.len());
            for others in [&lost, &newest] {
                let mut choice = others.clone();
                choice[range.clone()].fill(0);
                windows.push(Window { range: range.clone(), choice });
            }
        }
        let samples = limits.samples.min(limits.outcomes_max);
        Choices { versions, newest, windows, sampled: 0, samples, left: limits.outcomes_max, rng }
    }

    /// Nothing, everything, and then at random. Extremes are as likely as mixtures: many bugs need all of one and nothing of another.
    fn sample(&mut self) -> Vec<u32> {
        self.sampled += 1;
        let keep = match self.sampled {
            1 => 0,
            2 => 100,
            _ => self.rng.pick(&[20, 50, 50, 90]),
        };
        let rng = &mut self.rng;
        let one = |(versions, newest): (&u32, &u32)| match keep {
            0 => 0,
            _ if rng.percent(keep) => *newest,
            _ => rng.below(u64::from(*versions)) as u32,
        };
        self.versions.iter().zip(&self.newest).map(one).collect()
    }

    /// The current combination of a window; the window goes on to its next one, or is over.
    fn combine(&mut self, at: usize) -> Vec<u32> {
        let window = &mut self.windows[at];
        let current = window.choice.clone();
        for index in window.range.clone() {
            window.choice[index] += 1;
            if window.choice[index] < self.versions[index] {
                return current;
            }
            window.choice[index] = 0;
        }
        self.windows.swap_remove(at);
        current
    }
}

impl Iterator for Choices {
    type Item = Vec<u32>;

    fn next(&mut self) -> Option<Vec<u32>> {
        self.left = self.left.checked_sub(1)?;
        if self.sampled < self.samples {
            return Some(self.sample());
        }
        // Windows take turns at random, so that a small limit leaves something of each.
        let at = match self.windows.len() {
            0 => return None,
            1 => 0,
            count => self.rng.below(count as u64) as usize,
        };
        Some(self.combine(at))
    }
}

/// The file system in the middle of the direct write that leads from one point to the next: the sectors that it changes are undecided
/// like those of any other write. `None` if the call was anything else.
pub fn in_flight(before: &SimFs, after: &SimFs) -> Option<SimFs> {
    let names = before.names(DIR).ok()?;
    if after.names(DIR).ok()? != names {
        return None;
    }
    let changed = |name: String| {
        let path = format!("{DIR}/{name}");
        let (old, new) = (before.read_file(&path).ok()?, after.read_file(&path).ok()?);
        if old.len() != new.len() || old == new {
            return None;
        }
        let differs = |index: &usize| old[*index] != new[*index];
        let first = (0..new.len()).find(differs)? / SECTOR * SECTOR;
        let last = (0..new.len()).rfind(differs)?;
        let end = (last / SECTOR + 1).saturating_mul(SECTOR).min(new.len());
        Some((name, path, first, new[first..end].to_vec()))
    };
    let (name, path, offset, bytes) = names.into_iter().find_map(changed)?;
    let sectors = (offset / SECTOR) as u64..((offset + bytes.len()).div_ceil(SECTOR)) as u64;
    let is_buffered =
        |item: &Undecided| item.path == path && matches!(item.kind, UndecidedKind::Sector(at) if sectors.contains(&at));
    if after.undecided().iter().any(is_buffered) {
        return None;
    }
    let torn = before.kill();
    let file = torn.open_dir(Path::new(DIR)).ok()?.open(&name, OpenMode::Write).ok()?;
    let written = file.write_at(&bytes, offset as u64);
    drop(file);
    written.is_ok_and(|count| count == bytes.len()).then_some(torn)
}
