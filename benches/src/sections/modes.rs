//! Latency of an append in each sync mode, one thread.

use wal::{Config, SyncMode};

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::disk::Way;
use crate::measure::{Outcome, Sample, Series, Variant, closed_loop, closed_loop_on, interleaved, open_loop};
use crate::report::{APPENDS, MAX, P50, P99, P999, Section, Table, nanos};
use crate::svg::{Kind, Plot, Values};

const PAYLOAD_BYTES: usize = 256;
const FRAME_BYTES: usize = PAYLOAD_BYTES + FRAME_HEADER_BYTES;
/// Appends a second on a schedule: about half of what a device with a write-back cache takes, and of what two calls a microsecond allow.
const DURABLE_RATE: f64 = 5_000.0;
const CACHED_RATE: f64 = 200_000.0;
const WRITTEN_THREADS: [usize; 4] = [1, 2, 4, 16];
const MODES: [(&str, SyncMode); 3] =
    [("wal sync", SyncMode::Sync), ("wal batch", SyncMode::BATCH_DEFAULT), ("wal none", SyncMode::None)];

fn floor_name(way: Way) -> String {
    format!("floor {}", way.name())
}

/// A floor for a schedule (`rate`), or for a closed loop.
fn floor(bench: &Bench, way: Way, rate: Option<f64>) -> Outcome<Variant<'_>> {
    let mut store = bench.store(way, FRAME_BYTES)?;
    let length = bench.length;
    Ok(Variant::new(floor_name(way), move || match rate {
        None => closed_loop(length, PAYLOAD_BYTES, || Ok(store.write(FRAME_BYTES)?)),
        Some(rate) => open_loop(length, rate, |_| Ok(store.write(FRAME_BYTES)?)),
    }))
}

fn wal<'a>(bench: &'a Bench, (name, mode): (&str, SyncMode), payload: &'a [u8], rate: Option<f64>) -> Variant<'a> {
    Variant::new(name, move || {
        bench.with_log(Config::with_mode(mode), |log| {
            let append = || log.append(payload).map(drop);
            match rate {
                None => closed_loop(bench.length, payload.len(), || Ok(append()?)),
                Some(rate) => open_loop(bench.length, rate, |_| Ok(append()?)),
            }
        })
    })
}

/// The floor that an append in each mode is compared with.
fn floor_of<'a>(series: &'a [Series], durable: &'a Series, name: &str) -> &'a Series {
    let cached = floor_name(Way::Cached);
    match series.iter().find(|series| series.name == cached) {
        Some(cached) if name == cached.name || name == MODES[1].0 || name == MODES[2].0 => cached,
        _ => durable,
    }
}

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let payload = payload(PAYLOAD_BYTES);
    let mut closed = Table::new(
        "modes",
        "latency of an append of 256 B, 1 thread, closed loop",
        "closed loop: an append starts when the one before is done. The floor of sync is the faster of the two durable writes.",
        &[P50, P99, P999, MAX, APPENDS],
    );
    let mut variants = vec![floor(bench, Way::Synced, None)?];
    if bench.has_direct {
        variants.push(floor(bench, Way::Direct, None)?);
    }
    variants.push(wal(bench, MODES[0], &payload, None));
    variants.push(floor(bench, Way::Cached, None)?);
    variants.extend(MODES[1..].iter().map(|&mode| wal(bench, mode, &payload, None)));
    let series = interleaved(bench.rounds, variants)?;
    let durable = [Way::Synced, Way::Direct]
        .iter()
        .filter_map(|way| series.iter().find(|series| series.name == floor_name(*way)))
        .max_by(|a, b| a.median(Sample::rate).total_cmp(&b.median(Sample::rate)))
        .ok_or("no durable floor was measured")?;
    for each in &series {
        closed.row(each, floor_of(&series, durable, &each.name), Sample::rate);
    }
    let (open, open_series) = scheduled(bench, &payload)?;
    let plots = vec![plot("Append latency, 256 B, 1 thread, closed loop (lower is better)", &series, durable), {
        let durable = &open_series[0];
        plot("Append latency, 256 B, 1 thread, on a schedule (lower is better)", &open_series, durable)
    }];
    Ok(Section { tables: vec![closed, open, written(bench, &payload)?], plots })
}

/// Appends of several threads that wait for no sync.
fn written(bench: &Bench, payload: &[u8]) -> Outcome<Table> {
    let mut table = Table::new(
        "modes, threads",
        "blocking threads, 256 B, none mode, closed loop",
        "floor: one pwrite of the same bytes by one thread",
        &[P50, P99, P999, APPENDS],
    );
    let mut variants = vec![floor(bench, Way::Cached, None)?];
    variants.extend(WRITTEN_THREADS.map(|threads| {
        Variant::new(format!("{threads:>2} wal none"), move || {
            bench.with_log(Config::with_mode(SyncMode::None), |log| {
                closed_loop_on(threads, bench.length, payload.len(), || Ok(log.append(payload).map(drop)?))
            })
        })
    }));
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::rate);
    }
    Ok(table)
}

fn scheduled(bench: &Bench, payload: &[u8]) -> Outcome<(Table, Vec<Series>)> {
    let mut table = Table::new(
        "modes, open loop",
        "the same on a schedule: 5,000/s for durable appends, 200,000/s for the others",
        "a latency counts from the time at which the append was to start (no coordinated omission). Of floor: by p50.",
        &[P50, P99, P999, MAX, APPENDS],
    );
    let mut variants = vec![floor(bench, bench.best_way, Some(DURABLE_RATE))?];
    variants.push(wal(bench, MODES[0], payload, Some(DURABLE_RATE)));
    variants.push(floor(bench, Way::Cached, Some(CACHED_RATE))?);
    variants.extend(MODES[1..].iter().map(|&mode| wal(bench, mode, payload, Some(CACHED_RATE))));
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, floor_of(&series, &series[0], &each.name), Sample::promptness);
    }
    Ok((table, series))
}

fn plot(title: &str, series: &[Series], durable: &Series) -> Plot {
    let quantiles = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
    let cached = floor_name(Way::Cached);
    let of_mode = |name: &str| series.iter().find(|series| series.name == name);
    let bars = |series: &Series| quantiles.map(|(_, at)| series.median(|sample| sample.quantile(at))).to_vec();
    let named = [
        Some(Values::floor("floor of sync: durable write", bars(durable))),
        of_mode(MODES[0].0).map(|series| Values::measured("sync", bars(series))),
        of_mode(&cached).map(|series| Values::floor("floor of batch and none: pwrite", bars(series))),
        of_mode(MODES[1].0).map(|series| Values::measured("batch", bars(series))),
        of_mode(MODES[2].0).map(|series| Values::measured("none", bars(series))),
    ];
    Plot {
        title: title.to_owned(),
        kind: Kind::Bars,
        positions: quantiles.iter().map(|(name, _)| (*name).to_owned()).collect(),
        axis: "medians over rounds".to_owned(),
        measure: "latency of an append".to_owned(),
        series: named.into_iter().flatten().collect(),
        shown: nanos,
    }
}
