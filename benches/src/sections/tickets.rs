//! Many records in flight from few threads.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use wal::{Config, SyncMode, Ticket, Wal};

use crate::bench::{Bench, FRAME_HEADER_BYTES, payload};
use crate::disk::Way;
use crate::logs::recycled_meanwhile;
use crate::measure::{Outcome, Sample, Variant, closed_loop, closed_loop_on, interleaved, on_threads};
use crate::report::{P50, P99, P999, RECORDS, Section, THROUGHPUT, Table};

const PAYLOAD_BYTES: usize = 256;
const SHAPES: [(usize, usize); 4] = [(1, 64), (1, 1024), (1, 4096), (2, 4096)];
/// Records of an atomic batch.
const BATCH: usize = 128;
/// One of so many tickets is timed, as reading the clock costs half as much as submitting.
const TIMED_EVERY: u64 = 16;

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "tickets",
        "threads x tickets in flight, 256 B, sync mode, closed loop",
        "floor: as many frames of 280 B a write, ready in memory, over and over into the same blocks; its latency is that of the write; recycling: all but the last 16 MiB are truncated every 5 ms, whole segments, which the log uses again",
        &[P50, P99, P999, RECORDS, THROUGHPUT],
    );
    let payload = payload(PAYLOAD_BYTES);
    for (threads, window) in SHAPES {
        let records = threads * window;
        let bytes = records * (PAYLOAD_BYTES + FRAME_HEADER_BYTES);
        let mut store = bench.store(bench.best_way, bytes)?;
        let variants = vec![
            Variant::new(format!("{threads} x {window:>4} floor"), || {
                let mut sample = closed_loop(bench.length, records * PAYLOAD_BYTES, || Ok(store.write(bytes)?))?;
                sample.count *= records as u64;
                Ok(sample)
            }),
            Variant::new(format!("{threads} x {window:>4} wal"), || {
                bench.with_log(Config::default(), |log| {
                    on_threads(threads, |_| in_flight(log, &payload, window, bench.length))
                })
            }),
            Variant::new(format!("{threads} x {window:>4} wal, recycling"), || {
                let config = Config { recycle_segments_max: 32, ..Config::default() };
                bench.with_log(config, |log| {
                    recycled_meanwhile(log, || on_threads(threads, |_| in_flight(log, &payload, window, bench.length)))
                })
            }),
        ];
        let series = interleaved(bench.rounds, variants)?;
        for each in &series {
            table.row(each, &series[0], Sample::rate);
        }
    }
    Ok(Section { tables: vec![table, written(bench)?], ..Section::default() })
}

/// The same in `none` mode, where nobody waits for a sync.
fn written(bench: &Bench) -> Outcome<Table> {
    let mut table = Table::new(
        "tickets, none",
        "threads x records at once, 256 B, none mode, closed loop; atomic batches, and tickets in flight",
        "floor: one pwrite of as many frames into a zero-filled file, by one thread; the log is recycled as above, and bound by how fast the device takes what the page cache holds",
        &[P50, P99, P999, RECORDS, THROUGHPUT],
    );
    let payload = payload(PAYLOAD_BYTES);
    let bytes = BATCH * (PAYLOAD_BYTES + FRAME_HEADER_BYTES);
    let mut store = bench.store(Way::Cached, bytes)?;
    let batches = |threads: usize| {
        let payloads = vec![&payload[..]; BATCH];
        move |log: &Wal| {
            let append = || Ok(log.append_batch(&payloads).map(drop)?);
            of_batches(closed_loop_on(threads, bench.length, BATCH * PAYLOAD_BYTES, append)?)
        }
    };
    let (one, two) = (batches(1), batches(2));
    let none = || Config { recycle_segments_max: 32, ..Config::with_mode(SyncMode::None) };
    let variants = vec![
        Variant::new(format!("1 x {BATCH:>4} floor"), || {
            of_batches(closed_loop(bench.length, BATCH * PAYLOAD_BYTES, || Ok(store.write(bytes)?))?)
        }),
        Variant::new(format!("1 x {BATCH:>4} wal, batches"), || {
            bench.with_log(none(), |log| recycled_meanwhile(log, || one(log)))
        }),
        Variant::new(format!("2 x {BATCH:>4} wal, batches"), || {
            bench.with_log(none(), |log| recycled_meanwhile(log, || two(log)))
        }),
        Variant::new("1 x 4096 wal, tickets".to_owned(), || {
            bench.with_log(none(), |log| recycled_meanwhile(log, || in_flight(log, &payload, 4096, bench.length)))
        }),
    ];
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::rate);
    }
    Ok(table)
}

/// Counts records where batches were counted.
fn of_batches(mut sample: Sample) -> Outcome<Sample> {
    sample.count *= BATCH as u64;
    Ok(sample)
}

/// Submits and keeps `window` tickets in flight; when there are as many, waits for the oldest.
fn in_flight(log: &Wal, payload: &[u8], window: usize, length: Duration) -> Outcome<Sample> {
    let mut flying: VecDeque<(Ticket, Option<Instant>)> = VecDeque::with_capacity(window);
    let mut sample = Sample::new();
    let begin = Instant::now() + length / 10;
    let mut first = None;
    for index in 0_u64.. {
        let timed = index.is_multiple_of(TIMED_EVERY).then(Instant::now);
        if let Some(now) = timed {
            if first.is_none() && now >= begin {
                first = Some(now);
            }
            if first.is_some_and(|first| now - first >= length) {
                break;
            }
        }
        flying.push_back((log.submit(payload)?, timed));
        if flying.len() < window {
            continue;
        }
        if let Some((ticket, submitted)) = flying.pop_front() {
            ticket.wait()?;
            sample.count += u64::from(first.is_some());
            if let (Some(submitted), Some(_)) = (submitted, first) {
                sample.record(submitted.elapsed());
            }
        }
    }
    sample.elapsed = first.unwrap_or(begin).elapsed();
    sample.bytes = sample.count * payload.len() as u64;
    for (ticket, _) in flying {
        ticket.wait()?;
    }
    Ok(sample)
}
