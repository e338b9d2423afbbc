//! Group commit: threads that each wait for their record to be durable.

use std::time::Duration;

use wal::Config;

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::group::GroupFloor;
use crate::measure::{Outcome, Sample, Variant, closed_loop_on, interleaved};
use crate::report::{APPENDS, P50, P99, P999, Section, Table, grouped};
use crate::svg::{Kind, Plot, Values};

const PAYLOAD_BYTES: usize = 256;
const THREADS: [usize; 6] = [1, 2, 4, 8, 16, 64];
/// With so many threads it is also measured what it brings that they stay awake.
const ASLEEP: [usize; 5] = [2, 4, 8, 16, 64];

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "group-commit",
        "blocking threads, 256 B, sync mode, closed loop",
        "floor: leader and followers with gathering, no checksums, no log, who sleep while they wait; asleep: with a busy_wait_max of zero",
        &[P50, P99, P999, APPENDS],
    );
    let payload = payload(PAYLOAD_BYTES);
    let frame = vec![0x5A; PAYLOAD_BYTES + FRAME_HEADER_BYTES];
    let mut rates = [Vec::new(), Vec::new()];
    for threads in THREADS {
        let group = GroupFloor::new(bench.store(bench.best_way, threads * frame.len())?);
        let wal = |name: &str, config: fn() -> Config| {
            let payload = &payload;
            Variant::new(format!("{threads:>2} {name}"), move || {
                bench.with_log(config(), |log| {
                    closed_loop_on(threads, bench.length, PAYLOAD_BYTES, || Ok(log.append(payload).map(drop)?))
                })
            })
        };
        let mut variants = vec![
            Variant::new(format!("{threads:>2} floor"), || {
                closed_loop_on(threads, bench.length, PAYLOAD_BYTES, || group.append(&frame))
            }),
            wal("wal", Config::default),
        ];
        if ASLEEP.contains(&threads) {
            variants.push(wal("wal, asleep", || Config { busy_wait_max: Duration::ZERO, ..Config::default() }));
        }
        let series = interleaved(bench.rounds, variants)?;
        for each in &series {
            table.row(each, &series[0], Sample::rate);
        }
        for (each, rates) in series.iter().zip(&mut rates) {
            rates.push(each.median(Sample::rate));
        }
    }
    let [floor, wal] = rates;
    Ok(Section { tables: vec![table], plots: vec![plot(floor, wal)] })
}

fn plot(floor: Vec<f64>, wal: Vec<f64>) -> Plot {
    Plot {
        title: "Group commit: durable appends of 256 B (higher is better)".to_owned(),
        kind: Kind::Lines,
        positions: THREADS.iter().map(usize::to_string).collect(),
        axis: "blocking threads".to_owned(),
        measure: "appends per second".to_owned(),
        series: vec![Values::floor("floor", floor), Values::measured("wal", wal)],
        shown: grouped,
    }
}
