//! The sections of the benchmark, in the order in which they run.

mod group_commit;
mod growth;
mod modes;
mod reading;
pub mod recovery;
mod rotation;
mod sizes;
pub mod store;
mod tickets;

use crate::bench::Bench;
use crate::measure::Outcome;
use crate::report::Section;

/// Runs a section.
pub type Run = fn(&Bench) -> Outcome<Section>;

/// All sections, by name.
pub const ALL: [(&str, Run); 9] = [
    // First, because it looks at the memory of the process, which later is what the largest section has left.
    ("growth", growth::run),
    ("modes", modes::run),
    ("group-commit", group_commit::run),
    ("tickets", tickets::run),
    ("sizes", sizes::run),
    ("rotation", rotation::run),
    ("recovery", recovery::run),
    ("reading", reading::run),
    ("store", store::run),
];
