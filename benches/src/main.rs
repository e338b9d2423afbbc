//! The benchmark of the log, against what the disk and the memory of this machine allow. See `benches/README.md`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use serde_json::json;
use wal::SyncMode;

use wal_benches::bench::Bench;
use wal_benches::measure::Outcome;
use wal_benches::{disk, sections, svg};

/// Measures the log against floors that are taken in the same run.
#[derive(Debug, Parser)]
#[command(name = "wal-bench", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Internal>,
    /// Runs this section only; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(sections::ALL.map(|(name, _)| name)))]
    only: Vec<String>,
    /// The length of one run in seconds.
    #[arg(long, value_name = "N", default_value_t = 1.0)]
    secs: f64,
    /// Runs of each variant; the tables show medians over them.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Where the files are written; it must be on the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value = "target/wal-bench")]
    dir: PathBuf,
    /// Writes all figures of all rounds to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes plots to this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Internal {
    /// Writes a log until it is killed: what the section "recovery" starts.
    #[command(hide = true)]
    ChildAppend {
        /// The directory of the log.
        dir: PathBuf,
        /// The size of its payloads.
        payload_bytes: usize,
        /// In mode none instead of sync.
        #[arg(long)]
        no_sync: bool,
    },
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(Internal::ChildAppend { dir, payload_bytes, no_sync }) => {
            let mode = if *no_sync { SyncMode::None } else { SyncMode::Sync };
            sections::recovery::child_append(dir, *payload_bytes, mode)
        }
        None => run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("wal-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    if !(0.05..=60.0).contains(&args.secs) || !(1..=100).contains(&args.rounds) {
        return Err("--secs must be from 0.05 to 60, --rounds from 1 to 100".into());
    }
    let start = Instant::now();
    let bench = Bench::new(&args.dir, Duration::from_secs_f64(args.secs), args.rounds)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let way = bench.best_way.name();
    println!("{cpus} cores, {} rounds of {} s, durable floor: {way}", args.rounds, args.secs);
    println!("medians over rounds; last column: speed in parts of the floor, 1.00 is as fast\n");
    if disk::is_in_memory(&args.dir) {
        eprintln!("wal-bench: {} is in memory, where a sync costs nothing; use --dir", args.dir.display());
    }
    if !bench.has_direct {
        eprintln!("wal-bench: direct I/O is not possible here");
    }
    let (mut tables, mut plots) = (Vec::new(), Vec::new());
    for (name, section) in sections::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("[{:>3} s] {name} ...", start.elapsed().as_secs());
        let section = section(&bench).map_err(|error| format!("section {name}: {error}"))?;
        for table in section.tables {
            println!("{}", table.text());
            tables.push(table.json());
        }
        plots.extend(section.plots);
    }
    eprintln!("[{:>3} s] done", start.elapsed().as_secs());
    if let Some(path) = &args.json {
        let settings = json!({ "cores": cpus, "seconds": args.secs, "rounds": args.rounds, "durable_floor": way });
        let all = json!({ "settings": settings, "tables": tables });
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    if let Some(path) = &args.svg {
        std::fs::write(path, svg::document(&plots)?)?;
    }
    Ok(())
}
