//! Power cuts, failing devices and full disks under ext4, XFS and btrfs.
//!
//! ```text
//! workload -> log -> file system -> loop device -> FUSE file -> device process: records, builds images of power cuts, fails
//! image -> mount -> open -> compare with the history -> append, close, open
//! ```
//!
//! It needs root, `/dev/fuse`, loop devices and the programs that make the file systems. What is missing is named, and skipped.

#![cfg(target_os = "linux")]

mod check;
mod cuts;
mod device;
mod disk;
mod faults;
mod full;
mod fuse;
mod history;
mod kind;
mod mounts;
mod payload;
mod report;
mod rig;
mod store;
mod stream;
mod workload;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, Subcommand};
use wal_tests::watchdog::Watchdog;

use crate::cuts::{Campaign, Failure};
use crate::kind::FsKind;
use crate::report::Counts;
use crate::rig::Rig;
use crate::workload::Mode;

/// Cuts the power under a write-ahead log, at block level, on real file systems.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Power cuts at many moments of recorded workloads.
    Cuts(Amount),
    /// Power cuts under a device that had lied about its last flushes.
    Lies(Amount),
    /// Devices that answer writes or flushes with EIO, and power cuts after that.
    Faults(Amount),
    /// Full file systems, and power cuts on them.
    Full(Amount),
    /// All of these, one after the other.
    All(Amount),
    /// Shows a kept failure again.
    Again {
        /// The file that was named when it failed.
        failure: PathBuf,
    },
    /// The device itself: started by the other commands.
    #[command(hide = true)]
    Device {
        /// The directory of the run.
        dir: PathBuf,
        /// The size of the disk.
        bytes: u64,
    },
}

#[derive(Clone, Debug, clap::Args)]
struct Amount {
    /// The file systems.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ext4,xfs,btrfs")]
    fs: Vec<FsKind>,
    /// The modes.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sync,batch,none")]
    modes: Vec<Mode>,
    /// Workloads for each file system and mode; each has its own seed.
    #[arg(long, default_value_t = 2)]
    runs: u64,
    /// Power cuts of each workload.
    #[arg(long, default_value_t = 50)]
    cuts: u64,
    /// Start no further workload after so many seconds.
    #[arg(long)]
    seconds: Option<u64>,
    /// The first seed.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Where failures are kept [default: wal-power-cut-failures in the directory for temporary files].
    #[arg(long)]
    keep: Option<PathBuf>,
}

/// The command.
pub fn run() -> ExitCode {
    let arguments = Arguments::parse();
    if let What::Device { dir, bytes } = &arguments.command {
        return match device::serve(dir, *bytes) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("the device fails: {error}");
                ExitCode::FAILURE
            }
        };
    }
    if let Some(missing) = kind::missing_here() {
        println!("skipped: {missing}");
        return ExitCode::SUCCESS;
    }
    mounts::sweep();
    let result = match arguments.command {
        What::Cuts(amount) => campaigns(&amount, &[Scenario::Cuts]),
        What::Lies(amount) => campaigns(&amount, &[Scenario::Lies]),
        What::Faults(amount) => campaigns(&amount, &[Scenario::Faults]),
        What::Full(amount) => campaigns(&amount, &[Scenario::Full]),
        What::All(amount) => campaigns(&amount, &[Scenario::Cuts, Scenario::Faults, Scenario::Lies, Scenario::Full]),
        What::Again { failure } => again(&failure),
        What::Device { .. } => unreachable!("it was served above"),
    };
    match result {
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// What is done to a log.
#[derive(Clone, Copy, Debug)]
enum Scenario {
    /// Power cuts.
    Cuts,
    /// Power cuts under a lying device.
    Lies,
    /// A failing device.
    Faults,
    /// A full file system.
    Full,
}

/// All file systems, seeds, scenarios and modes. Returns the number of failures.
fn campaigns(amount: &Amount, scenarios: &[Scenario]) -> Result<u64, String> {
    let started = Instant::now();
    let is_over = || amount.seconds.is_some_and(|seconds| started.elapsed() > Duration::from_secs(seconds));
    let keep = amount.keep.clone().unwrap_or_else(cuts::usual_keep);
    let mut failures = 0;
    for &kind in &amount.fs {
        if let Some(missing) = kind.missing() {
            println!("{kind:?}: skipped: {missing}");
            continue;
        }
        let mut rig = Rig::start(kind).map_err(|error| format!("{kind:?}: {error}"))?;
        let watchdog = Watchdog::start();
        let mut counts = BTreeMap::new();
        for seed in (amount.seed..amount.seed + amount.runs).take_while(|_| !is_over()) {
            for (&scenario, &mode) in
                scenarios.iter().flat_map(|scenario| amount.modes.iter().map(move |mode| (scenario, mode)))
            {
                let counts = counts.entry((scenario as u8, mode)).or_insert_with(Counts::default);
                let mut campaign = Campaign::new(&mut rig, counts, &keep, &watchdog);
                let result = match scenario {
                    Scenario::Cuts | Scenario::Lies => campaign
                        .record(cuts::plan(mode, seed))
                        .map(|workload| campaign.cut(&workload, amount.cuts, matches!(scenario, Scenario::Lies))),
                    Scenario::Faults => campaign.fail(mode, seed, amount.cuts),
                    Scenario::Full => campaign.fill(mode, seed, amount.cuts),
                };
                failures += result.unwrap_or_else(|why| {
                    eprintln!("FAILED: {kind:?}, {scenario:?}: {why}");
                    counts.next_failure().min(1)
                });
                rig.reset().map_err(|error| format!("{kind:?}: {error}"))?;
            }
        }
        for ((scenario, mode), counts) in &counts {
            let scenario = scenarios.iter().find(|known| **known as u8 == *scenario).expect("it was one of these");
            println!(
                "{kind:?}, {scenario:?}, {mode:?}, seeds from {}, {:.0?}:\n{counts}",
                amount.seed,
                started.elapsed()
            );
        }
    }
    println!("{failures} failures in {:.0?}", started.elapsed());
    Ok(failures)
}

fn again(path: &std::path::Path) -> Result<u64, String> {
    let text = |error: std::io::Error| error.to_string();
    let file = std::fs::File::open(path).map_err(text)?;
    let failure: Failure = serde_json::from_reader(file).map_err(|error| error.to_string())?;
    println!("it was: {}", failure.message);
    let mut rig = Rig::start(failure.kind).map_err(text)?;
    let (mut counts, watchdog) = (Counts::default(), Watchdog::start());
    let keep = cuts::usual_keep();
    let mut campaign = Campaign::new(&mut rig, &mut counts, &keep, &watchdog);
    match campaign.again(failure, path).map_err(text)? {
        Some(message) => {
            println!("it is still so: {message}");
            Ok(1)
        }
        None => {
            println!("it passes now");
            Ok(0)
        }
    }
}
