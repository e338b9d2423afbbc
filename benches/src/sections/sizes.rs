//! Payloads of all sizes, one thread.

use wal::{Config, Wal};

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::disk::BLOCK;
use crate::logs::recycled_meanwhile;
use crate::measure::{Outcome, Sample, Variant, closed_loop, closed_loop_on, interleaved};
use crate::report::{APPENDS, P50, P99, P999, Section, THROUGHPUT, Table};

const SIZES: [(usize, &str); 6] = [
    (64, " 64 B  "),
    (256, "256 B  "),
    (1 << 10, "  1 KiB"),
    (4 << 10, "  4 KiB"),
    (16 << 10, " 16 KiB"),
    (64 << 10, " 64 KiB"),
];

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "sizes",
        "payload sizes, 1 thread, sync mode, closed loop",
        "floor: a durable write of payload and frame header in whole blocks of 4 KiB",
        &[P50, P99, P999, APPENDS, THROUGHPUT],
    );
    for (size, name) in SIZES {
        let blocks = (size + FRAME_HEADER_BYTES).next_multiple_of(BLOCK);
        let mut store = bench.store(bench.best_way, blocks)?;
        let payload = payload(size);
        let variants = vec![
            Variant::new(format!("{name} floor"), || closed_loop(bench.length, size, || Ok(store.write(blocks)?))),
            Variant::new(format!("{name} wal"), || {
                bench.with_log(Config::default(), |log| {
                    closed_loop(bench.length, size, || Ok(log.append(&payload).map(drop)?))
                })
            }),
        ];
        let series = interleaved(bench.rounds, variants)?;
        for each in &series {
            table.row(each, &series[0], Sample::rate);
        }
    }
    Ok(Section { tables: vec![table, bandwidth(bench)?], ..Section::default() })
}

/// Large payloads: what is left of the device's bandwidth.
fn bandwidth(bench: &Bench) -> Outcome<Table> {
    const LARGE: usize = 64 << 10;
    let mut table = Table::new(
        "bandwidth",
        "payloads of 64 KiB by 1 and 16 threads, sync mode, closed loop",
        "floor: one durable write of as many frames, ready in memory, over and over into the same blocks; recycling: all but the last 16 MiB are truncated every 5 ms, and the log uses the segments again",
        &[P50, P99, P999, APPENDS, THROUGHPUT],
    );
    let payload = payload(LARGE);
    for threads in [1, 16] {
        let bytes = threads * (LARGE + FRAME_HEADER_BYTES).next_multiple_of(BLOCK);
        let mut store = bench.store(bench.best_way, bytes)?;
        let appends =
            |log: &Wal| closed_loop_on(threads, bench.length, LARGE, || Ok(log.append(&payload).map(drop)?));
        let variants = vec![
            Variant::new(format!("{threads:>2} floor"), || {
                let mut sample = closed_loop(bench.length, threads * LARGE, || Ok(store.write(bytes)?))?;
                sample.count *= threads as u64;
                Ok(sample)
            }),
            Variant::new(format!("{threads:>2} wal"), || bench.with_log(Config::default(), appends)),
            Variant::new(format!("{threads:>2} wal, recycling"), || {
                let config = Config { recycle_segments_max: 32, ..Config::default() };
                bench.with_log(config, |log| recycled_meanwhile(log, || appends(log)))
            }),
        ];
        let series = interleaved(bench.rounds, variants)?;
        for each in &series {
            table.row(each, &series[0], Sample::rate);
        }
    }
    Ok(table)
}
