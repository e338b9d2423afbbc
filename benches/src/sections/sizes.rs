//! Payloads of all sizes, one thread.

use wal::Config;

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::disk::BLOCK;
use crate::measure::{Outcome, Sample, Variant, closed_loop, interleaved};
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
    Ok(Section { tables: vec![table], ..Section::default() })
}
