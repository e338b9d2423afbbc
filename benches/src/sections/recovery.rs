//! Opening a log, after a clean close and after a kill, and surveying one.

use std::cell::Cell;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use wal::fs::RealFileSystem;
use wal::inspect::{Depth, Outcome as Found, survey_with_threads};
use wal::{Config, RecoveryReport, SyncMode, Wal};

use crate::bench::Bench;
use crate::logs::{Cache, copy, fill, read_with_checksum, repeated, segments, write_durably};
use crate::measure::{Outcome, Sample, Variant, interleaved};
use crate::report::{BYTES, Section, THROUGHPUT, TIME, Table};

const LOG_BYTES: u64 = 256 << 20;
/// An open after a kill reads what is not proven to be durable and the last 64 MiB, and each one needs a copy of the log.
const KILLED_BYTES: u64 = 128 << 20;
const SIZES: [(usize, &str); 3] = [(64, "64 B"), (256, "256 B"), (4 << 10, "4 KiB")];

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let logs = SIZES.iter().map(|&size| Closed::new(bench, size)).collect::<Outcome<Vec<Closed>>>()?;
    let mut victims = Vec::new();
    for size in SIZES {
        victims.push(Victim::new(bench, size, SyncMode::Sync)?);
    }
    victims.push(Victim::new(bench, (256, "256 B"), SyncMode::None)?);
    let mut tables = Vec::new();
    for &cache in Cache::ALL {
        let (name, title) = match cache {
            Cache::Warm => (
                "recovery",
                "opening and surveying logs of 256 MiB, 128 MiB where their writer was killed, files in the page cache",
            ),
            Cache::Cold => ("recovery, cold", "the same, none of the files in the page cache"),
        };
        let note = "floor: reading as many bytes of the same files, with CRC32C in pieces of 256 KiB, by one thread; MB is what was read; \
                    floor with writing: also writing and syncing as many segments of 16 MiB as the open does";
        let mut table = Table::new(name, title, note, &[TIME, BYTES, THROUGHPUT]);
        for log in &logs {
            log.opened(bench, cache, &mut table)?;
        }
        for victim in &victims {
            victim.opened(bench, cache, &mut table)?;
        }
        for log in &logs {
            log.surveyed(bench, cache, &mut table)?;
        }
        tables.push(table);
    }
    Ok(Section { tables, ..Section::default() })
}

/// Opens the log and closes it. Returns how long the open took and what it found.
fn open(dir: &Path, cache: Cache) -> Outcome<(Duration, RecoveryReport)> {
    cache.prepare(dir)?;
    let start = Instant::now();
    let log = Wal::open(dir, Config::default())?;
    let time = start.elapsed();
    let report = log.recovery_report().clone();
    log.close()?;
    Ok((time, report))
}

/// Reading the first `bytes` of the segments in `dir`, and then whatever `more` does.
fn floor<'a>(
    name: String,
    length: Duration,
    (dir, cache): (&'a Path, Cache),
    bytes: u64,
    more: impl Fn() -> Outcome<()> + 'a,
) -> Outcome<Variant<'a>> {
    let files = segments(dir)?;
    Ok(Variant::new(name, move || {
        repeated(length, || {
            cache.prepare(dir)?;
            let start = Instant::now();
            let read = read_with_checksum(&files, bytes)?;
            more()?;
            Ok((start.elapsed(), 1, read))
        })
    }))
}

/// Runs the variants in turn and adds them to the table, each against the first one.
fn against_first(bench: &Bench, variants: Vec<Variant<'_>>, table: &mut Table) -> Outcome<()> {
    let series = interleaved(bench.rounds, variants)?;
    for each in &series {
        table.row(each, &series[0], Sample::throughput);
    }
    Ok(())
}

/// A log that was closed.
struct Closed {
    dir: TempDir,
    name: &'static str,
}

impl Closed {
    fn new(bench: &Bench, (payload_bytes, name): (usize, &'static str)) -> Outcome<Closed> {
        let dir = bench.scratch()?;
        let log = Wal::open(dir.path(), Config::default())?;
        fill(&log, payload_bytes, LOG_BYTES)?;
        log.close()?;
        Ok(Closed { dir, name })
    }

    fn opened(&self, bench: &Bench, cache: Cache, table: &mut Table) -> Outcome<()> {
        let (dir, length) = (self.dir.path(), bench.length / 4);
        let name = |what: &str| format!("open after close, {}: {what}", self.name);
        let (_, report) = open(dir, cache)?;
        let bytes = report.scanned_bytes;
        let own = Variant::new(name("wal"), || {
            repeated(length, || {
                let (time, report) = open(dir, cache)?;
                Ok((time, 1, report.scanned_bytes))
            })
        });
        against_first(bench, vec![floor(name("floor"), length, (dir, cache), bytes, || Ok(()))?, own], table)
    }

    fn surveyed(&self, bench: &Bench, cache: Cache, table: &mut Table) -> Outcome<()> {
        let (dir, length) = (self.dir.path(), bench.length / 4);
        let name = |what: &str| format!("full survey, {}: {what}", self.name);
        let look = |threads| -> Outcome<(Duration, u64, u64)> {
            cache.prepare(dir)?;
            let start = Instant::now();
            let found = survey_with_threads(&RealFileSystem, dir, Depth::Full, threads, |_| {})?;
            match found.outcome {
                Found::Clean => Ok((start.elapsed(), found.records, found.scanned_bytes)),
                other => Err(format!("a log that was closed cleanly was found to be {other:?}").into()),
            }
        };
        let (_, _, bytes) = look(1)?;
        let variants = vec![
            floor(name("floor"), length, (dir, cache), bytes, || Ok(()))?,
            Variant::new(name("wal"), || repeated(length, || look(1))),
            Variant::new(name("wal, 2 threads"), || repeated(length, || look(2))),
        ];
        against_first(bench, variants, table)
    }
}

/// A log whose process was killed while it was writing.
struct Victim {
    dir: TempDir,
    name: String,
}

impl Victim {
    fn new(bench: &Bench, (payload_bytes, name): (usize, &str), mode: SyncMode) -> Outcome<Victim> {
        let dir = bench.scratch()?;
        kill_a_writer(dir.path(), payload_bytes, mode)?;
        let mode = if mode == SyncMode::None { "none" } else { "sync" };
        Ok(Victim { dir, name: format!("{mode}, {name}") })
    }

    fn opened(&self, bench: &Bench, cache: Cache, table: &mut Table) -> Outcome<()> {
        const SEGMENT_BYTES: u64 = 16 << 20;
        let dir = self.dir.path();
        let name = |what: &str| format!("open after kill, {}: {what}", self.name);
        let open_copy = || -> Outcome<(Duration, RecoveryReport)> {
            let scratch = bench.scratch()?;
            copy(dir, scratch.path())?;
            open(scratch.path(), cache)
        };
        let (_, report) = open_copy()?;
        let (bytes, written) = (report.scanned_bytes, (report.segments_rewritten + 1) * SEGMENT_BYTES);
        if cache == Cache::Warm {
            // What was written with direct I/O is not in the page cache yet.
            read_with_checksum(&segments(dir)?, bytes)?;
        }
        // Removed when all is measured, as that takes its time.
        let (scratch, files) = (bench.scratch()?, Cell::new(0));
        let write = || -> Outcome<()> {
            for _ in 0..written / SEGMENT_BYTES {
                files.set(files.get() + 1);
                write_durably(&scratch.path().join(files.get().to_string()), SEGMENT_BYTES)?;
            }
            Ok(())
        };
        let once = Duration::ZERO;
        let variants = vec![
            floor(name("floor"), bench.length / 4, (dir, cache), bytes, || Ok(()))?,
            floor(name("floor with writing"), once, (dir, cache), bytes, write)?,
            // One open a round, as each needs a copy.
            Variant::new(name("wal"), || {
                let (time, report) = open_copy()?;
                Ok(Sample::once(time, 1, report.scanned_bytes))
            }),
        ];
        against_first(bench, variants, table)
    }
}

/// A child process that does not outlive its handle.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // Whether it is still alive or not, it is gone after this.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Has another process write a log, and kills it while it does.
fn kill_a_writer(dir: &Path, payload_bytes: usize, mode: SyncMode) -> Outcome<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child-append").arg(dir).arg(payload_bytes.to_string()).stdin(Stdio::piped()).stdout(Stdio::piped());
    if mode == SyncMode::None {
        command.arg("--no-sync");
    }
    let mut child = Killed(command.spawn()?);
    let output = child.0.stdout.take().ok_or("the output of the child is not there")?;
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line)?;
    if line.trim() != "ready" {
        return Err(format!("the child that writes a log said {line:?} instead of \"ready\"").into());
    }
    drop(child);
    Ok(())
}

/// The child process: writes a log, says that it is ready, and goes on until it is killed.
pub fn child_append(dir: &Path, payload_bytes: usize, mode: SyncMode) -> Outcome<()> {
    // If the parent is gone, so is its end of the pipe, and nobody would kill this process any more.
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(1);
    });
    let log = Wal::open(dir, Config::with_mode(mode))?;
    fill(&log, payload_bytes, KILLED_BYTES)?;
    println!("ready");
    std::io::stdout().flush()?;
    // As many again, should the parent be slow, and then no more, so that the disk does not fill up.
    fill(&log, payload_bytes, KILLED_BYTES)?;
    loop {
        std::thread::park();
    }
}
