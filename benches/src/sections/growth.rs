//! What becomes dearer when a log grows: nothing should.

use std::fs::read_to_string;
use std::time::{Duration, Instant};

use wal::{Config, Wal};

use crate::bench::{Bench, payload};
use crate::logs::fill;
use crate::measure::{Outcome, Sample, Series, closed_loop};
use crate::report::{APPENDS, P50, P99, RESIDENT, Section, TIME, Table};

const PAYLOAD_BYTES: usize = 256;
/// The sizes, in payload bytes, at which the log is looked at, smallest first.
const SIZES: [(u64, &str); 4] = [(1 << 20, "1 MiB"), (64 << 20, "64 MiB"), (512 << 20, "512 MiB"), (2 << 30, "2 GiB")];

/// What was measured at one size.
#[derive(Default)]
struct At {
    appends: Vec<Sample>,
    opens: Vec<Sample>,
    memory: Vec<Sample>,
}

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut all: [At; SIZES.len()] = Default::default();
    for _ in 0..bench.rounds {
        one_round(bench, &mut all)?;
    }
    let mut appends = Table::new(
        "growth",
        "an append of 256 B to a log of that size, 1 thread, sync mode, closed loop",
        "nothing is truncated; the floor of each row is the first row",
        &[P50, P99, APPENDS],
    );
    let mut opens = Table::new(
        "growth, open",
        "opening a log of that size after a clean close",
        "files past the page cache; an open verifies the last 64 MiB (verify_bytes_on_open)",
        &[TIME],
    );
    let mut memory = Table::new(
        "growth, memory",
        "memory that the process has come to occupy since before the log was opened, all of its records appended in one session with 1,024 in flight",
        "resident set, so what the allocator keeps counts too; 0 where the system does not tell",
        &[RESIDENT],
    );
    for (index, (_, name)) in SIZES.iter().enumerate() {
        let series = |of: fn(&At) -> &Vec<Sample>, index: usize, name: &str| Series {
            name: name.to_owned(),
            samples: of(&all[index]).clone(),
        };
        appends.row(&series(|at| &at.appends, index, name), &series(|at| &at.appends, 0, name), Sample::rate);
        opens.row(&series(|at| &at.opens, index, name), &series(|at| &at.opens, 0, name), Sample::rate);
        memory.row(&series(|at| &at.memory, index, name), &series(|at| &at.memory, 0, name), thrift);
    }
    Ok(Section { tables: vec![appends, opens, memory], ..Section::default() })
}

/// How little memory, for the ratio.
fn thrift(sample: &Sample) -> f64 {
    1.0 / sample.bytes.max(1) as f64
}

/// Grows a log through all sizes, and looks at it at each.
fn one_round(bench: &Bench, all: &mut [At]) -> Outcome<()> {
    let dir = bench.scratch()?;
    let payload = payload(PAYLOAD_BYTES);
    let before = resident();
    let mut log = Wal::open(dir.path(), Config::default())?;
    let mut filled = 0;
    for ((bytes, _), at) in SIZES.iter().zip(all) {
        fill(&log, PAYLOAD_BYTES, bytes - filled)?;
        filled = *bytes;
        at.memory.push(Sample::once(Duration::ZERO, 1, resident().saturating_sub(before)));
        at.appends.push(closed_loop(bench.length / 2, PAYLOAD_BYTES, || Ok(log.append(&payload).map(drop)?))?);
        log.close()?;
        let start = Instant::now();
        log = Wal::open(dir.path(), Config::default())?;
        at.opens.push(Sample::once(start.elapsed(), 1, 0));
    }
    Ok(log.close()?)
}

/// The bytes of memory that the process occupies; 0 where the system does not say.
fn resident() -> u64 {
    let status = read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}
