//! Opening a log, after a clean close and after a kill, and surveying one.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wal::fs::RealFileSystem;
use wal::inspect::{Depth, Outcome as Found, survey};
use wal::{Config, SyncMode, Wal};

use crate::bench::Bench;
use crate::logs::{copy, fill, read_with_checksum, repeated, segments, timed};
use crate::measure::{Outcome, Sample, Variant, interleaved};
use crate::report::{BYTES, Section, THROUGHPUT, TIME, Table};

const LOG_BYTES: u64 = 256 << 20;

/// Runs the section.
pub fn run(bench: &Bench) -> Outcome<Section> {
    let mut table = Table::new(
        "recovery",
        "opening and surveying a log of 256 MiB, files in the page cache",
        "floor: reading as many bytes of the same files, with CRC32C in pieces of 256 KiB; MB is what was read",
        &[TIME, BYTES, THROUGHPUT],
    );
    let dir = bench.scratch()?;
    let log = Wal::open(dir.path(), Config::default())?;
    fill(&log, 256, LOG_BYTES)?;
    log.close()?;
    clean(bench, dir.path(), &mut table)?;
    for (mode, name) in [(SyncMode::Sync, "sync"), (SyncMode::None, "none")] {
        killed(bench, mode, name, &mut table)?;
    }
    surveyed(bench, dir.path(), "256 B", &mut table)?;
    let dir = bench.scratch()?;
    let log = Wal::open(dir.path(), Config::default())?;
    fill(&log, 4 << 10, LOG_BYTES)?;
    log.close()?;
    surveyed(bench, dir.path(), "4 KiB", &mut table)?;
    Ok(Section { tables: vec![table], ..Section::default() })
}

/// Measures `own` against reading what it read.
fn against_reading<'a>(
    bench: &'a Bench,
    dir: &Path,
    bytes: u64,
    name: &str,
    own: impl FnMut() -> Outcome<Sample> + 'a,
    table: &mut Table,
) -> Outcome<()> {
    let files = segments(dir)?;
    // What was written with direct I/O is not in the page cache yet.
    read_with_checksum(&files, bytes)?;
    let read = || timed(bench.length / 4, || Ok((1, read_with_checksum(&files, bytes)?)));
    let series = interleaved(
        bench.rounds,
        vec![Variant::new(format!("{name}: floor"), read), Variant::new(format!("{name}: wal"), own)],
    )?;
    for each in &series {
        table.row(each, &series[0], Sample::throughput);
    }
    Ok(())
}

/// Opens the log, and returns how long that took and what was read.
fn open(dir: &Path) -> Outcome<(Duration, u64, u64)> {
    let start = Instant::now();
    let log = Wal::open(dir, Config::default())?;
    let time = start.elapsed();
    let bytes = log.recovery_report().scanned_bytes;
    log.close()?;
    Ok((time, 1, bytes))
}

fn clean(bench: &Bench, dir: &Path, table: &mut Table) -> Outcome<()> {
    let (_, _, bytes) = open(dir)?;
    let own = || repeated(bench.length / 4, || open(dir));
    against_reading(bench, dir, bytes, "open after close", own, table)
}

fn killed(bench: &Bench, mode: SyncMode, name: &str, table: &mut Table) -> Outcome<()> {
    let victim = bench.scratch()?;
    kill_a_writer(victim.path(), mode)?;
    let open_copy = || {
        let dir = bench.scratch()?;
        copy(victim.path(), dir.path())?;
        open(dir.path())
    };
    let (_, _, bytes) = open_copy()?;
    // One open a round, as each needs a copy.
    let own = || repeated(Duration::ZERO, open_copy);
    against_reading(bench, victim.path(), bytes, &format!("open after kill, {name}"), own, table)
}

fn surveyed(bench: &Bench, dir: &Path, name: &str, table: &mut Table) -> Outcome<()> {
    let look = || -> Outcome<(u64, u64)> {
        let found = survey(&RealFileSystem, dir, Depth::Full, |_| {})?;
        match found.outcome {
            Found::Clean => Ok((found.records, found.scanned_bytes)),
            other => Err(format!("a log that was closed cleanly was found to be {other:?}").into()),
        }
    };
    let (_, bytes) = look()?;
    against_reading(bench, dir, bytes, &format!("full survey, {name}"), || timed(bench.length / 4, look), table)
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
fn kill_a_writer(dir: &Path, mode: SyncMode) -> Outcome<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("child-append").arg(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
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
pub fn child_append(dir: &Path, mode: SyncMode) -> Outcome<()> {
    // If the parent is gone, so is its end of the pipe, and nobody would kill this process any more.
    std::thread::spawn(|| {
        drop(std::io::stdin().read(&mut [0]));
        std::process::exit(1);
    });
    let log = Wal::open(dir, Config::with_mode(mode))?;
    fill(&log, 256, LOG_BYTES)?;
    println!("ready");
    std::io::stdout().flush()?;
    // As many again, should the parent be slow, and then no more, so that the disk does not fill up.
    fill(&log, 256, LOG_BYTES)?;
    loop {
        std::thread::park();
    }
}
