//! Reading a log, and following one.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use wal::{Config, LogReader, Lsn, Reader, Wal};

use crate::bench::{Bench, payload};
use crate::logs::{fill, read_with_checksum, segments, timed};
use crate::measure::{Outcome, Sample, Series, Variant, interleaved, open_loop};
use crate::report::{MAX, P50, P99, P999, RECORDS, Section, THROUGHPUT, Table};

const LOG_BYTES: u64 = 256 << 20;
const FOLLOW_RATE: f64 = 5_000.0;

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "reading",
        "all records of a log of 256 MiB, files in the page cache; bytes of payloads",
        "floor: reading the same files, with CRC32C in pieces of 256 KiB",
        &[RECORDS, THROUGHPUT],
    );
    for (bytes, name) in [(256, "256 B"), (4 << 10, "4 KiB")] {
        read(bench, bytes, name, &mut table)?;
    }
    Ok(Section { tables: vec![table, follow(bench)?], ..Section::default() })
}

/// Counts the records that the reader lends.
fn lent(mut reader: Reader) -> Outcome<u64> {
    let mut records = 0;
    while let Some(record) = reader.next_record()? {
        std::hint::black_box(record.payload);
        records += 1;
    }
    Ok(records)
}

/// Counts the records of which the reader makes copies.
fn owned(reader: Reader) -> Outcome<u64> {
    let mut records = 0;
    for record in reader {
        std::hint::black_box(record?.payload);
        records += 1;
    }
    Ok(records)
}

fn read(bench: &Bench, payload_bytes: usize, name: &str, table: &mut Table) -> Outcome<()> {
    let dir = bench.scratch()?;
    let dir: &Path = dir.path();
    let log = Wal::open(dir, Config::default())?;
    let records = fill(&log, payload_bytes, LOG_BYTES)?;
    log.close()?;
    let files = segments(dir)?;
    // What was written with direct I/O is not in the page cache yet.
    read_with_checksum(&files, u64::MAX)?;
    let log = Wal::open(dir, Config::default())?;
    let length = bench.length / 2;
    let checked = |count: u64| {
        let complete = count == records;
        let error = || format!("{count} records were read of a log that has {records}").into();
        complete.then_some((count, count * payload_bytes as u64)).ok_or_else(error)
    };
    let variants = vec![
        Variant::new(format!("{name}: floor"), || {
            timed(length, || {
                read_with_checksum(&files, u64::MAX)?;
                Ok((records, records * payload_bytes as u64))
            })
        }),
        Variant::new(format!("{name}: Reader, lent"), || timed(length, || checked(lent(log.reader(Lsn::ZERO)?)?))),
        Variant::new(format!("{name}: Reader, owned"), || timed(length, || checked(owned(log.reader(Lsn::ZERO)?)?))),
        Variant::new(format!("{name}: LogReader, lent"), || {
            timed(length, || checked(lent(LogReader::open(dir)?.reader(Lsn::ZERO)?)?))
        }),
    ];
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::rate);
    }
    log.close()?;
    Ok(())
}

/// How long after the time at which a record was to be appended a follower has it, next to when the append returned.
fn follow(bench: &Bench) -> Outcome<Table> {
    let mut table = Table::new(
        "following",
        "256 B, sync mode, 5,000 appends/s on a schedule: from the scheduled time until the record is there",
        "floor: the append's own return, in the same run. Of floor: by p50.",
        &[P50, P99, P999, MAX, RECORDS],
    );
    let series = |name: &str| Series { name: name.to_owned(), samples: Vec::new() };
    let (mut acknowledged, mut followed) = (series("append returns"), series("Follower has it"));
    for _ in 0..bench.rounds {
        let mut seen = None;
        let sample = bench.with_log(Config::default(), |log| {
            let (sample, by_follower) = followed_run(log, bench.length)?;
            seen = Some(by_follower);
            Ok(sample)
        })?;
        acknowledged.samples.push(sample);
        followed.samples.extend(seen);
    }
    for each in [&acknowledged, &followed] {
        table.row(each, &acknowledged, Sample::promptness);
    }
    Ok(table)
}

fn followed_run(log: &Wal, length: Duration) -> Outcome<(Sample, Sample)> {
    let epoch = Instant::now();
    let is_done = AtomicBool::new(false);
    let mut follower = log.follow(log.next_lsn())?;
    std::thread::scope(|scope| {
        let following = scope.spawn(|| -> Outcome<Sample> {
            let mut sample = Sample::new();
            loop {
                match follower.next_timeout(Duration::from_millis(100))? {
                    Some(record) => {
                        let stamp = record.payload.first_chunk().ok_or("a record has no time in it")?;
                        let intended = epoch + Duration::from_nanos(u64::from_le_bytes(*stamp));
                        sample.record(intended.elapsed());
                        sample.count += 1;
                    }
                    None if is_done.load(Ordering::Relaxed) => return Ok(sample),
                    None => {}
                }
            }
        });
        let mut payload = payload(256);
        let appended = open_loop(length, FOLLOW_RATE, |intended| {
            let stamp = (intended - epoch).as_nanos() as u64;
            payload[..8].copy_from_slice(&stamp.to_le_bytes());
            Ok(log.append(&payload).map(drop)?)
        });
        is_done.store(true, Ordering::Relaxed);
        let mut seen = following.join().map_err(|_| "the following thread panicked")??;
        let appended = appended?;
        seen.elapsed = appended.elapsed;
        Ok((appended, seen))
    })
}
