//! The latency of appends in each mode.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::Serialize;
use wal::{Config, Wal};

use super::{MODES, THREADS};
use crate::failure::{Exit, Failure, Result};
use crate::output::{Align, Out, Table};
use crate::size::show_nanos;

/// Bytes of a record.
pub(super) const PAYLOAD_BYTES: usize = 256;

const DURATION: Duration = Duration::from_millis(1200);
/// Bounds what a fast mode leaves on the disk: a thread that has appended so many records is done.
const RECORDS_MAX: u64 = (96 << 20) / (PAYLOAD_BYTES * THREADS) as u64;

/// The latency of appends in one mode.
#[derive(Serialize)]
pub(super) struct LatencyView {
    mode: &'static str,
    p50_nanos: u64,
    p99_nanos: u64,
    p999_nanos: u64,
    max_nanos: u64,
    appends_per_second: f64,
}

/// Measures each mode in a log of its own and prints one table.
pub(super) fn run(out: &mut Out, dir: &Path) -> Result<Vec<LatencyView>> {
    let mut views = Vec::new();
    let mut table = Table::new(&[
        ("MODE", Align::Left),
        ("P50", Align::Right),
        ("P99", Align::Right),
        ("P99.9", Align::Right),
        ("MAX", Align::Right),
        ("APPENDS/S", Align::Right),
    ]);
    for (name, mode) in MODES {
        let wal = Wal::open(dir.join(format!("latency-{name}")), Config::with_mode(mode))?;
        let started = Instant::now();
        let nanos = measure(&wal)?;
        let seconds = started.elapsed().as_secs_f64();
        wal.close()?;
        let view = LatencyView {
            mode: name,
            p50_nanos: nanos.value_at_quantile(0.5),
            p99_nanos: nanos.value_at_quantile(0.99),
            p999_nanos: nanos.value_at_quantile(0.999),
            max_nanos: nanos.max(),
            appends_per_second: nanos.len() as f64 / seconds,
        };
        table.row(vec![
            name.to_owned(),
            show_nanos(view.p50_nanos),
            show_nanos(view.p99_nanos),
            show_nanos(view.p999_nanos),
            show_nanos(view.max_nanos),
            format!("{:.0}", view.appends_per_second),
        ]);
        views.push(view);
    }
    out.table(&table)?;
    Ok(views)
}

fn measure(wal: &Wal) -> Result<Histogram<u64>> {
    let mut total = histogram()?;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(|| append(wal))).collect();
        for thread in threads {
            let nanos =
                thread.join().map_err(|_| Failure::Words(Exit::Io, "an appending thread panicked".to_owned()))??;
            total.add(nanos).map_err(|error| Failure::Words(Exit::Io, format!("cannot add latencies: {error}")))?;
        }
        Ok(total)
    })
}

fn append(wal: &Wal) -> Result<Histogram<u64>> {
    let mut nanos = histogram()?;
    let payload = [b'x'; PAYLOAD_BYTES];
    let started = Instant::now();
    while nanos.len() < RECORDS_MAX {
        let before = Instant::now();
        if before.duration_since(started) >= DURATION {
            break;
        }
        wal.append(&payload)?;
        nanos.saturating_record(u64::try_from(before.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
    Ok(nanos)
}

/// From a nanosecond to a minute, with three digits.
fn histogram() -> Result<Histogram<u64>> {
    Histogram::new_with_bounds(1, 60_000_000_000, 3)
        .map_err(|error| Failure::Words(Exit::Io, format!("cannot make a histogram: {error}")))
}
