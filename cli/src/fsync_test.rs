//! `walctl fsync-test`: the ways to make a write durable on this device, compared.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;

use crate::device::{Space, Way, is_in_memory, measure};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Align, Out, Table, warn};
use crate::size::{parse_size, show_bytes, show_nanos};
use crate::ui::{HEADING, Ui, paint};

/// A flush to a device takes longer than this; a "durable" write below it has left nothing but memory behind.
const PLAUSIBLE_NANOS: u64 = 5_000;

/// `walctl fsync-test`.
#[derive(Debug, Args)]
pub(crate) struct FsyncTestArgs {
    /// A directory on the device. A file of 16 MiB is written there and removed.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    dir: PathBuf,
    /// Bytes of a write; may be given several times.
    #[arg(long = "size", value_name = "SIZE", value_parser = parse_size, default_values = ["256", "4KiB", "64KiB"])]
    sizes: Vec<u64>,
    /// Seconds for all of it.
    #[arg(long, value_name = "N", default_value_t = 12, value_parser = clap::value_parser!(u16).range(1..=3600))]
    secs: u16,
}

/// What was measured of one way.
#[derive(Serialize)]
struct Row {
    size: u64,
    space: &'static str,
    way: &'static str,
    writes: u64,
    p50_nanos: u64,
    p99_nanos: u64,
    p999_nanos: u64,
    max_nanos: u64,
    per_second: u64,
    #[serde(skip)]
    key: (Space, Way),
}

#[derive(Serialize)]
struct Report<'a> {
    path: String,
    in_memory: bool,
    rows: &'a [Row],
    advice: &'a [String],
}

/// Runs the command.
pub(crate) fn run(args: &FsyncTestArgs, ui: Ui) -> Result<Exit> {
    if !args.dir.is_dir() {
        return Err(Failure::usage(format!("{} is not a directory", args.dir.display())));
    }
    if let Some(size) = args.sizes.iter().find(|&&size| size == 0 || size > 16 << 20) {
        return Err(Failure::usage(format!("a write of {size} bytes is not measured; use 1 byte to 16MiB")));
    }
    let runs = args.sizes.len() * Space::ALL.len() * Way::DURABLE.len();
    let duration = Duration::from_secs(args.secs.into()) / u32::try_from(runs).unwrap_or(u32::MAX);
    let bar = ui.steps("measuring");
    let mut rows = Vec::new();
    let mut done = 0;
    for &size in &args.sizes {
        for space in Space::ALL {
            for way in Way::DURABLE {
                rows.extend(row(args, size, space, way, duration)?);
                done += 1;
                bar.show(done, runs as u64);
            }
        }
    }
    drop(bar);
    let advice = advice(&rows);
    let mut out = Out::new();
    let in_memory = is_in_memory(&args.dir);
    let path = args.dir.display().to_string();
    if !out.document(ui.format, "fsync-test", &Report { path, in_memory, rows: &rows, advice: &advice })? {
        show(&mut out, &rows, &advice)?;
    }
    out.finish()?;
    if in_memory {
        warn(format_args!(
            "{} is in memory: a sync costs nothing there, and nothing outlives a power cut",
            args.dir.display()
        ));
    }
    Ok(Exit::Fine)
}

fn row(args: &FsyncTestArgs, size: u64, space: Space, way: Way, duration: Duration) -> Result<Option<Row>> {
    let bytes = usize::try_from(size).map_err(|_| Failure::usage("the size is too large"))?;
    let Some(nanos) = measure(&args.dir, way, space, bytes, duration)? else { return Ok(None) };
    let quantile = |quantile| nanos.value_at_quantile(quantile);
    Ok(Some(Row {
        size,
        space: space.name(),
        way: way.name(),
        writes: nanos.len(),
        p50_nanos: quantile(0.5),
        p99_nanos: quantile(0.99),
        p999_nanos: quantile(0.999),
        max_nanos: nanos.max(),
        per_second: (1e9 / nanos.mean().max(1.0)) as u64,
        key: (space, way),
    }))
}

fn show(out: &mut Out, rows: &[Row], advice: &[String]) -> Result<()> {
    let mut table = Table::new(&[
        ("SIZE", Align::Right),
        ("BLOCKS", Align::Left),
        ("WAY", Align::Left),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("P99.9", Align::Right),
        ("MAX", Align::Right),
        ("WRITES/S", Align::Right),
    ]);
    for row in rows {
        table.row(vec![
            show_bytes(row.size),
            row.space.to_owned(),
            row.way.to_owned(),
            show_nanos(row.p50_nanos),
            show_nanos(row.p99_nanos),
            show_nanos(row.p999_nanos),
            show_nanos(row.max_nanos),
            row.per_second.to_string(),
        ]);
    }
    out.table(&table)?;
    out.line(format_args!(""))?;
    out.line(format_args!("{}", paint(HEADING, "What that means for a log here")))?;
    advice.iter().try_for_each(|line| out.line(format_args!("  {line}")))
}

/// What the medians say about settings. Differences below a tenth are noise.
fn advice(rows: &[Row]) -> Vec<String> {
    let mut advice = Vec::new();
    let Some(size) = rows.iter().map(|row| row.size).min() else { return advice };
    let p50 = |size: u64, space, way| {
        rows.iter().find(|row| row.size == size && row.key == (space, way)).map(|row| row.p50_nanos)
    };
    match (p50(size, Space::Written, Way::Fdatasync), p50(size, Space::Written, Way::Direct)) {
        (Some(synced), Some(direct)) if direct * 10 > synced * 11 => advice.push(format!(
            "set `direct_io: false`: a small write takes {} with O_DIRECT|O_DSYNC and {} with fdatasync",
            show_nanos(direct),
            show_nanos(synced)
        )),
        (Some(synced), Some(direct)) => advice.push(format!(
            "keep `direct_io: true` (the default): a small write takes {} with O_DIRECT|O_DSYNC and {} with fdatasync",
            show_nanos(direct),
            show_nanos(synced)
        )),
        _ => advice.push("direct I/O is refused here; the log falls back to fdatasync by itself".to_owned()),
    }
    if let (Some(growing), Some(written)) =
        (p50(size, Space::Growing, Way::Fdatasync), p50(size, Space::Written, Way::Fdatasync))
    {
        let ratio = growing as f64 / written.max(1) as f64;
        let gain =
            if ratio > 1.1 { "that is why the log prepares its segments" } else { "preparing gains little here" };
        advice
            .push(format!("writing into a growing file takes {ratio:.1} times as long as into written blocks; {gain}"));
    }
    if rows.iter().any(|row| row.writes < 1000) {
        advice.push(
            "of some ways fewer than 1000 writes were measured, so their P99.9 is their maximum; give more --secs"
                .to_owned(),
        );
    }
    // What the log does: into written blocks, in the better of its two ways.
    let used = [Way::Fdatasync, Way::Direct].into_iter().filter_map(|way| p50(size, Space::Written, way)).min();
    if let Some(used) = used {
        let rate = 1_000_000_000 / used.max(1);
        advice.push(format!(
            "one thread that waits for each record can do about {rate} appends a second in `sync` mode; more threads share a sync"
        ));
        if used > 2_000_000 {
            advice.push(
                "a sync is slow here: if losing the last milliseconds at a power cut is acceptable, `batch` mode hides it".to_owned(),
            );
        }
    }
    let fastest = rows.iter().filter(|row| row.size == size).map(|row| row.p50_nanos).min();
    if let Some(fastest) = fastest.filter(|&fastest| fastest < PLAUSIBLE_NANOS) {
        advice.push(format!(
            "a durable write in {} is faster than a flush of most devices: make sure that this device does not lie about it",
            show_nanos(fastest)
        ));
    }
    advice
}
