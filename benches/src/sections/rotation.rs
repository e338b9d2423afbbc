//! Rotation and truncation while records are appended.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use wal::{Config, Wal};

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::group::GroupFloor;
use crate::measure::{Outcome, Sample, Variant, closed_loop_on, interleaved};
use crate::report::{APPENDS, MAX, P50, P99, P999, ROTATIONS, Section, TRUNCATIONS, Table};

const PAYLOAD_BYTES: usize = 4 << 10;
const THREADS: usize = 4;
const TRUNCATE_EVERY: Duration = Duration::from_millis(200);

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "rotation",
        "4 KiB records, 4 threads, sync mode, closed loop; half of the log is truncated every 200 ms",
        "floor: group commit into one file that never ends",
        &[P50, P99, P999, MAX, APPENDS, ROTATIONS, TRUNCATIONS],
    );
    let payload = payload(PAYLOAD_BYTES);
    // Truncations are far apart, so these runs are longer than the others.
    let length = bench.length * 2;
    let append_to =
        |log: &Wal| closed_loop_on(THREADS, length, PAYLOAD_BYTES, || Ok(log.append(&payload).map(drop)?));

    let frame = vec![0x5A; PAYLOAD_BYTES + FRAME_HEADER_BYTES];
    let group = GroupFloor::new(bench.store(bench.best_way, THREADS * frame.len())?);
    let variants = vec![
        Variant::new("floor", || closed_loop_on(THREADS, length, PAYLOAD_BYTES, || group.append(&frame))),
        // Such a segment does not end here, and the next one is prepared late and slowly.
        Variant::new("wal, 1 GiB segments", || {
            bench.with_log(Config { segment_bytes_max: 1 << 30, ..Config::default() }, append_to)
        }),
        Variant::new("wal, 16 MiB segments", || bench.with_log(Config::default(), append_to)),
        Variant::new("wal, 16 MiB segments, truncated", || {
            bench.with_log(Config::default(), |log| truncated_meanwhile(log, append_to))
        }),
    ];
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::rate);
    }
    Ok(Section { tables: vec![table], ..Section::default() })
}

fn truncated_meanwhile(log: &Wal, run: impl FnOnce(&Wal) -> Outcome<Sample>) -> Outcome<Sample> {
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let truncating = scope.spawn(|| -> Outcome<u64> {
            let mut count = 0;
            sleep(TRUNCATE_EVERY);
            while !is_done.load(Ordering::Relaxed) {
                let (start, end) = (log.start_lsn().get(), log.durable_lsn().get());
                log.truncate_before(wal::Lsn::new(start + (end - start) / 2))?;
                count += 1;
                sleep(TRUNCATE_EVERY);
            }
            Ok(count)
        });
        let sample = run(log);
        is_done.store(true, Ordering::Relaxed);
        let truncations = truncating.join().map_err(|_| "the truncating thread panicked")??;
        Ok(Sample { truncations, ..sample? })
    })
}
