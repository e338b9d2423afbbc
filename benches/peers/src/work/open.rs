//! Opening stores after their process was killed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use tempfile::TempDir;
use wal_benches::measure::{Outcome, Sample};
use wal_benches::report::{TIME, Table};
use wal_benches::sections::store::VALUE_BYTES;

use super::{Contest, Entrant, Report};
use crate::child::{self, LAST};
use crate::stores::{self, Open};
use crate::{Ack, Run};

/// Runs the section.
pub fn section(run: &Run) -> Outcome<Report> {
    let table = Table::new(
        "open",
        "opening after kill -9, until the first get: 1 M keys, then 200 durable batches of 1,000 puts",
        "files in the page cache; every key of the last acknowledged batch is looked up; last column: in parts of ours",
        &[TIME],
    );
    let mut entrants = Vec::new();
    for (name, open) in stores::all().into_iter().filter(|(name, _)| run.wants(name)) {
        let killed = run.bench.scratch()?;
        let is_left = leave(name, killed.path()).map_err(|error| error.to_string());
        entrants.push(Entrant::new(name, move || {
            is_left.clone()?;
            measure(run, &killed, open)
        }));
    }
    let ours = entrants.remove(0);
    let mut contest = Contest::new(run, "open", table.with_ratio_title("of ours"));
    contest.group("", Vec::new(), ours, entrants)?;
    Ok(contest.report())
}

/// Has another process fill a store, and kills it.
fn leave(name: &str, dir: &Path) -> Outcome<()> {
    let mut child = Command::new(std::env::current_exe()?)
        .arg("child-store")
        .arg(name)
        .arg(dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut line = String::new();
    let output = child.stdout.take().ok_or("the output is piped")?;
    let read = BufReader::new(output).read_line(&mut line);
    // SIGKILL, which no process can handle.
    child.kill()?;
    child.wait()?;
    read?;
    if line.trim() == "ready" { Ok(()) } else { Err("the process ended before its store was full".into()) }
}

/// Opens a copy, so that what was left can be opened again in the next round.
fn measure(run: &Run, killed: &TempDir, open: Open) -> Outcome<Sample> {
    let copy = run.bench.scratch()?;
    copy_all(killed.path(), copy.path())?;
    let keys = child::batches().last().ok_or("there are batches")?;
    let start = Instant::now();
    let store = open(copy.path(), Ack::Synced)?;
    store.get(&keys[0], &mut |_| ())?;
    let elapsed = start.elapsed();
    for key in &keys {
        let mut is_last = false;
        store.get(key, &mut |value| is_last = *value == [LAST; VALUE_BYTES])?;
        if !is_last {
            return Err("an acknowledged put is lost".into());
        }
    }
    store.settle()?;
    Ok(Sample::once(elapsed, 1, 0))
}

/// The copies are durable, so that nobody who syncs something later pays for them.
fn copy_all(from: &Path, to: &Path) -> Outcome<()> {
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let copy = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            std::fs::create_dir(&copy)?;
            copy_all(&entry.path(), &copy)?;
        } else {
            std::fs::copy(entry.path(), &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    Ok(())
}
