//! What is counted, and how it is shown.

use std::collections::BTreeMap;
use std::fmt;

use wal::FoundState;

use crate::cuts::word;
use crate::device::Recorded;
use crate::history::{Found, History};
use crate::stream::{ImageSummary, Kept};

/// What was done, and what came of it.
#[derive(Debug, Default)]
pub struct Counts {
    numbers: BTreeMap<String, u64>,
    refusals: BTreeMap<String, u64>,
    failures: u64,
}

impl Counts {
    fn add(&mut self, what: &str, count: u64) {
        *self.numbers.entry(what.to_owned()).or_default() += count;
    }

    /// Something happened once.
    pub fn count(&mut self, what: &str) {
        self.add(what, 1);
    }

    /// A workload was recorded.
    pub fn recorded(&mut self, recorded: &Recorded, history: &History) {
        self.add("workloads", 1);
        self.add("recorded writes", recorded.writes);
        self.add("recorded flushes", recorded.flushes);
        self.add("recorded KiB", recorded.bytes >> 10);
        self.add("acknowledged appends", history.appends.len() as u64);
        self.add("truncations of the start", history.starts.len() as u64);
        self.add("cuts of the end", history.ends.len() as u64);
    }

    /// An image was built.
    pub fn image(&mut self, kept: Kept, summary: &ImageSummary) {
        self.add("power cuts", 1);
        if summary.unflushed == 0 {
            self.add("power cuts with nothing unflushed", 1);
        } else {
            self.add(&format!("power cuts, unflushed writes kept: {kept:?}"), 1);
        }
        self.add("unflushed writes", summary.unflushed);
    }

    /// A log was opened after a power cut.
    pub fn opened(&mut self, state: FoundState, found: &Found) {
        self.add(&format!("opens: {}", word(state)), 1);
        self.add("records compared", found.records.len() as u64);
    }

    /// A log was opened after a power cut in recovery.
    pub fn opened_again(&mut self) {
        self.add("power cuts in recovery", 1);
    }

    /// A log was opened on a device that lied.
    pub fn lie(&mut self, lost: u64, is_corruption: bool) {
        let what = match (lost, is_corruption) {
            (0, _) => "lies without loss",
            (_, true) => "lies reported as corruption",
            (_, false) => "lies that lost at most a suffix",
        };
        self.add(what, 1);
    }

    /// The kernel refused to mount an image.
    pub fn refused(&mut self, why: &str) {
        self.add("images that the kernel does not mount", 1);
        *self.refusals.entry(why.to_owned()).or_default() += 1;
    }

    /// The number of the next failure.
    pub fn next_failure(&mut self) -> u64 {
        self.failures += 1;
        self.failures
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (what, count) in &self.numbers {
            writeln!(f, "  {count:>9}  {what}")?;
        }
        for (why, count) in &self.refusals {
            writeln!(f, "  {count:>9}  refused by the kernel: {why}")?;
        }
        writeln!(f, "  {:>9}  FAILURES", self.failures)
    }
}
