//! The same work on other engines, in the same run as this log and its store: durable appends to logs; durable puts, gets, loads, scans and opens of
//! stores. See the README of this package.

mod child;
mod logs;
mod stores;
mod syncs;
mod verdict;
mod work;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use clap::Parser;
use clap::builder::PossibleValuesParser;
use serde_json::{Value, json};
use wal_benches::bench::Bench;
use wal_benches::disk;
use wal_benches::measure::Outcome;

/// What an append or a put waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack {
    /// That it is synced.
    Synced,
    /// That the operating system has it, so that no end of the process can lose it.
    Written,
}

/// Measures other engines beside this log and its store.
#[derive(Debug, Parser)]
#[command(name = "wal-peers", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<child::Internal>,
    /// Runs this section only; may be given several times.
    #[arg(long, value_name = "NAME", value_parser = PossibleValuesParser::new(work::ALL.map(|(name, _)| name)))]
    only: Vec<String>,
    /// Measures these peers only, beside ours.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    peers: Vec<String>,
    /// Numbers of threads, in place of those of each section.
    #[arg(long, value_name = "N", value_delimiter = ',')]
    threads: Vec<usize>,
    /// The length of one run in seconds.
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    secs: f64,
    /// Runs of each engine; the tables show medians over them.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
    /// Where the files are written; it must be on the disk that is to be measured.
    #[arg(long, value_name = "DIR", default_value = "target/wal-peers")]
    dir: PathBuf,
    /// Writes all figures of all rounds to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// What the sections share.
pub struct Run {
    bench: Bench,
    peers: Vec<String>,
    threads: Vec<usize>,
    /// Engines of which it was seen that an append may return before a sync.
    unsynced: OnceLock<Vec<String>>,
}

impl Run {
    /// Whether an engine takes part. Ours always do, as all others are compared with them.
    fn wants(&self, name: &str) -> bool {
        let is_ours = name == "wal" || name == "checkpoint";
        is_ours || self.peers.is_empty() || self.peers.iter().any(|peer| peer == name)
    }

    /// Whether an engine may be ranked: it was not seen to return before a sync, now or, where nobody looked, when this was last checked.
    fn is_ranked(&self, name: &str) -> bool {
        match self.unsynced.get() {
            Some(unsynced) => unsynced.iter().all(|each| each != name),
            None => !syncs::UNSYNCED.contains(&name),
        }
    }

    fn threads(&self, default: &[usize]) -> Vec<usize> {
        if self.threads.is_empty() { default.to_vec() } else { self.threads.clone() }
    }
}

fn main() -> ExitCode {
    let args = Args::parse();
    let result = match &args.command {
        Some(command) => child::run(command).map(|()| ExitCode::SUCCESS),
        None if std::env::var_os(logs::WALRUS_DIR).is_none() => run_with_walrus_dir(&args.dir),
        None => run(&args).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("wal-peers: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Outcome<()> {
    if !(0.05..=60.0).contains(&args.secs) || !(1..=100).contains(&args.rounds) {
        return Err("--secs must be from 0.05 to 60, --rounds from 1 to 100".into());
    }
    if let Some(unknown) = args.peers.iter().find(|name| !is_known(name)) {
        return Err(format!("there is no peer {unknown} in this build").into());
    }
    let start = Instant::now();
    std::fs::create_dir_all(&args.dir)?;
    let bench = Bench::new(&args.dir, Duration::from_secs_f64(args.secs), args.rounds)?;
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let way = bench.best_way.name();
    println!("{cpus} cores, {} rounds of {} s, durable floor: {way}; medians over rounds\n", args.rounds, args.secs);
    if disk::is_in_memory(&args.dir) {
        eprintln!("wal-peers: {} is in memory, where a sync costs nothing; use --dir", args.dir.display());
    }
    let run = Run { bench, peers: args.peers.clone(), threads: args.threads.clone(), unsynced: OnceLock::new() };
    let mut all: Vec<Value> = Vec::new();
    for (name, section) in work::ALL {
        if !args.only.is_empty() && !args.only.iter().any(|only| only == name) {
            continue;
        }
        eprintln!("[{:>3} s] {name} ...", start.elapsed().as_secs());
        let result = section(&run).map_err(|error| format!("section {name}: {error}"))?;
        println!("{}", result.text);
        all.extend(result.json);
    }
    eprintln!("[{:>3} s] done", start.elapsed().as_secs());
    if let Some(path) = &args.json {
        let settings = json!({ "cores": cpus, "seconds": args.secs, "rounds": args.rounds, "durable_floor": way });
        let all = json!({ "settings": settings, "tables": all });
        std::fs::write(path, serde_json::to_string_pretty(&all)? + "\n")?;
    }
    Ok(())
}

fn is_known(name: &str) -> bool {
    logs::all().iter().any(|peer| peer.name == name) || stores::find(name).is_ok()
}

/// Starts this program again with the environment from which the crate walrus-rust takes where its files go, and removes them afterwards. The
/// environment of a running process cannot be changed safely.
fn run_with_walrus_dir(dir: &Path) -> Outcome<ExitCode> {
    std::fs::create_dir_all(dir)?;
    let walrus = tempfile::Builder::new().prefix("walrus-").tempdir_in(dir)?;
    let mut again = Command::new(std::env::current_exe()?);
    let status = again.args(std::env::args_os().skip(1)).envs(logs::walrus_environment(walrus.path())).status()?;
    // What failed has been said by the program itself.
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
