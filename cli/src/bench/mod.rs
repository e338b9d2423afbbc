//! `walctl bench`: how long an append takes, and how that compares with what the device allows.
//!
//! Each combination of mode and threads is measured twice. First every thread appends as fast as it can, which gives the rate. Then the
//! appends come at a fixed share of that rate, each at a moment that was set before, and its latency counts from that moment, also if
//! the thread was still busy with the one before. So a stall is seen by every append that it delayed, and not by one alone. A thread
//! that was waiting for its moment and is woken late by the operating system counts from when it woke: that is not the log's doing.

mod report;
mod svg;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use wal::{Config, SyncMode, Wal};

use crate::args::ModeArg;
use crate::device::{Space, Way, histogram, is_in_memory, measure, nanos_since};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Out, warn};
use crate::size::parse_size;
use crate::ui::Ui;

/// The share of the highest rate at which latencies are measured, in percent.
const LOAD_PERCENT: u64 = 70;

/// `walctl bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Where the logs go: they are removed at the end [default: a temporary directory].
    dir: Option<PathBuf>,
    /// The modes, separated by commas.
    #[arg(long = "mode", value_enum, value_name = "MODES", value_delimiter = ',', default_value = "sync,batch,none")]
    modes: Vec<ModeArg>,
    /// How many threads append, separated by commas.
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "1,4,16", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Vec<u16>,
    /// Bytes of a record.
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "256")]
    size: u64,
    /// Seconds for each mode and number of threads.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=3600))]
    secs: u16,
    /// Write the latencies in the format of HdrHistogram: into this file, or one named after it for each combination.
    #[arg(long, value_name = "FILE")]
    hgrm: Option<PathBuf>,
    /// Draw the latencies into this file.
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

/// What was measured of one mode with one number of threads.
struct Measured {
    mode: &'static str,
    threads: u16,
    /// Appends a second, as fast as they go.
    rate: f64,
    /// Appends a second at which the latencies were measured.
    load: f64,
    nanos: Histogram<u64>,
    /// What the device needs for the same in one thread, just before.
    floor: Histogram<u64>,
    floor_way: Way,
}

/// Runs the command.
pub(crate) fn run(args: &BenchArgs, ui: Ui) -> Result<Exit> {
    if args.size == 0 {
        return Err(Failure::usage(
            "a record of 0 bytes is not measured: its floor would be a write of nothing; use 1 byte or more",
        ));
    }
    let failed = |error| Failure::io("create a directory for the benchmark", error);
    let home = match &args.dir {
        Some(dir) if dir.exists() && !dir.is_dir() => {
            return Err(Failure::usage(format!("{} is not a directory", dir.display())));
        }
        Some(dir) => {
            std::fs::create_dir_all(dir).map_err(failed)?;
            tempfile::Builder::new().prefix("walctl-bench-").tempdir_in(dir)
        }
        None => tempfile::Builder::new().prefix("walctl-bench-").tempdir(),
    }
    .map_err(failed)?;
    let runs: Vec<(ModeArg, u16)> =
        args.modes.iter().flat_map(|&mode| args.threads.iter().map(move |&threads| (mode, threads))).collect();
    let bar = ui.steps("measuring");
    let mut rows = Vec::new();
    for (index, &(mode, threads)) in runs.iter().enumerate() {
        bar.show(index as u64, runs.len() as u64);
        rows.push(measure_one(args, home.path(), mode, threads)?);
    }
    drop(bar);
    let mut out = Out::new();
    report::show(&mut out, args.size, &rows, ui)?;
    out.finish()?;
    if let Some(file) = &args.hgrm {
        report::write_histograms(file, &rows)?;
    }
    if let Some(file) = &args.svg {
        let drawn = svg::draw(args.size, &rows)?;
        std::fs::write(file, drawn).map_err(|error| Failure::io(format!("write {}", file.display()), error))?;
    }
    if is_in_memory(home.path()) {
        warn(format_args!(
            "{} is in memory: a sync costs nothing there, so these figures say little",
            home.path().display()
        ));
    }
    home.close().map_err(|error| Failure::io("remove the directory of the benchmark", error))?;
    Ok(Exit::Fine)
}

fn measure_one(args: &BenchArgs, home: &Path, mode: ModeArg, threads: u16) -> Result<Measured> {
    let (name, sync_mode) = match mode {
        ModeArg::Sync => ("sync", SyncMode::Sync),
        ModeArg::Batch => ("batch", SyncMode::BATCH_DEFAULT),
        ModeArg::None => ("none", SyncMode::None),
    };
    let bytes = usize::try_from(args.size).map_err(|_| Failure::usage("the size is too large"))?;
    let all = Duration::from_secs(args.secs.into());
    let (floor, floor_way) = floor(home, sync_mode, bytes, all / 6)?;
    let dir = home.join(format!("{name}-{threads}"));
    let wal = Wal::open(&dir, Config::with_mode(sync_mode))?;
    let payload = vec![b'x'; bytes];
    let fast = appenders(threads, |_| as_fast_as_possible(&wal, &payload, all / 3))?;
    let rate = fast.len() as f64 / (all / 3).as_secs_f64();
    let load = (rate * LOAD_PERCENT as f64 / 100.0).max(1.0);
    let began = Instant::now();
    let nanos = appenders(threads, |index| {
        let interval = Duration::from_secs_f64(f64::from(threads) / load);
        // The threads take turns, so that their moments do not coincide.
        let first = began + interval * index / u32::from(threads);
        on_schedule(&wal, &payload, first, interval, began + all / 2)
    })?;
    wal.close()?;
    std::fs::remove_dir_all(&dir).map_err(|error| Failure::io(format!("remove {}", dir.display()), error))?;
    Ok(Measured { mode: name, threads, rate, load, nanos, floor, floor_way })
}

/// The fastest way to do the same without a log: of those that are durable, if the mode is.
fn floor(dir: &Path, mode: SyncMode, bytes: usize, duration: Duration) -> Result<(Histogram<u64>, Way)> {
    let ways: &[Way] = if mode == SyncMode::Sync { &[Way::Fdatasync, Way::Direct] } else { &[Way::Cached] };
    let mut best: Option<(Histogram<u64>, Way)> = None;
    for &way in ways {
        let part = duration / u32::try_from(ways.len()).unwrap_or(1);
        let Some(nanos) = measure(dir, way, Space::Written, bytes, part)? else { continue };
        if best.as_ref().is_none_or(|(best, _)| nanos.value_at_quantile(0.5) < best.value_at_quantile(0.5)) {
            best = Some((nanos, way));
        }
    }
    best.ok_or_else(|| Failure::Words(Exit::Io, "nothing can be written to measure the device".to_owned()))
}

fn appenders(threads: u16, run: impl Fn(u32) -> Result<Histogram<u64>> + Sync) -> Result<Histogram<u64>> {
    let mut total = histogram()?;
    let run = &run;
    thread::scope(|scope| {
        let running: Vec<_> = (0..u32::from(threads)).map(|index| scope.spawn(move || run(index))).collect();
        for thread in running {
            let nanos =
                thread.join().map_err(|_| Failure::Words(Exit::Io, "an appending thread panicked".to_owned()))??;
            total.add(nanos).map_err(|error| Failure::Words(Exit::Io, format!("cannot add latencies: {error}")))?;
        }
        Ok(total)
    })
}

fn as_fast_as_possible(wal: &Wal, payload: &[u8], duration: Duration) -> Result<Histogram<u64>> {
    let mut nanos = histogram()?;
    let began = Instant::now();
    while began.elapsed() < duration {
        let before = Instant::now();
        wal.append(payload)?;
        nanos.saturating_record(nanos_since(before));
    }
    Ok(nanos)
}

/// Waits until then, and returns when that was. A sleep lasts some 50 microseconds longer than it is asked to, which would count as the
/// log's in all appends that fell due meanwhile, so only long waits sleep, and not to their end.
fn wait_until(due: Instant) -> Instant {
    const OVERSLEPT: Duration = Duration::from_micros(200);
    loop {
        let now = Instant::now();
        match due.saturating_duration_since(now) {
            Duration::ZERO => return now,
            left if left > OVERSLEPT => thread::sleep(left - OVERSLEPT),
            // There may be more threads than cores.
            _ => thread::yield_now(),
        }
    }
}

fn on_schedule(wal: &Wal, payload: &[u8], first: Instant, interval: Duration, end: Instant) -> Result<Histogram<u64>> {
    let mut nanos = histogram()?;
    let mut due = first;
    while due < end {
        let now = Instant::now();
        let counted_from = if now < due { wait_until(due) } else { due };
        wal.append(payload)?;
        nanos.saturating_record(nanos_since(counted_from));
        due += interval;
    }
    Ok(nanos)
}
