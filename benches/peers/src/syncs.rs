//! Whether engines really sync: the system calls of appends by one thread, seen from outside with strace.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use wal_benches::measure::Outcome;

use crate::work::Report;
use crate::{Run, child, logs, stores};

const APPENDS: u64 = 100;
/// Engines whose appends were seen to return before a sync when this was last checked: what is taken for true where
/// there is no strace, or where this section does not run.
pub const UNSYNCED: [&str; 1] = ["sled"];
const CALLS: &str =
    "openat,dup,fcntl,fsync,fdatasync,sync_file_range,msync,write,pwrite64,writev,pwritev,pwritev2,io_uring_enter";

/// What the appends of one engine did.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    appends: u64,
    /// Appends between whose start and end a sync was completed.
    synced_appends: u64,
    /// `fsync`, `fdatasync` and `msync` with `MS_SYNC`.
    syncs: u64,
    /// Writes into files opened with `O_SYNC` or `O_DSYNC`.
    synced_writes: u64,
    writes: u64,
    /// `sync_file_range`, which syncs neither metadata nor the device and promises nothing.
    ranges: u64,
    rings: u64,
}

/// Runs the section.
pub fn section(run: &Run) -> Outcome<Report> {
    if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        run.unsynced.get_or_init(|| UNSYNCED.map(str::to_owned).to_vec());
        let text =
            format!("syncs: not checked, as strace is missing here; taken for unsynced: {}\n", UNSYNCED.join(", "));
        return Ok(Report { text, json: Vec::new() });
    }
    let mut text = format!(
        "syncs: system calls for each of {APPENDS} appends or puts by one thread, and appends with a sync completed in them\n"
    );
    writeln!(text, "  {:<12}  synced  f(data)sync  O_DSYNC write  write  sync_file_range", "")?;
    let mut rows = Vec::new();
    let names: Vec<&str> =
        logs::all().iter().map(|peer| peer.name).chain(stores::all().iter().map(|(name, _)| *name)).collect();
    let mut unsynced = Vec::new();
    let mut seen = HashSet::new();
    for name in names.into_iter().filter(|name| run.wants(name) && seen.insert(*name)) {
        let counts = match traced(run, name) {
            Ok(counts) => counts,
            Err(error) => {
                writeln!(text, "  {name:<12}  not checked: {error}")?;
                continue;
            }
        };
        let each = |count: u64| count as f64 / counts.appends.max(1) as f64;
        let is_synced = counts.appends > 0 && counts.synced_appends == counts.appends;
        let verdict = if is_synced { "" } else { "  does not sync: listed, not ranked" };
        writeln!(
            text,
            "  {name:<12}  {:>3}/{:<3}  {:>10.2}  {:>13.2}  {:>5.2}  {:>15.2}{verdict}",
            counts.synced_appends,
            counts.appends,
            each(counts.syncs),
            each(counts.synced_writes),
            each(counts.writes),
            each(counts.ranges),
        )?;
        rows.push(json!({
            "name": name, "appends": counts.appends, "synced_appends": counts.synced_appends, "syncs": counts.syncs,
            "synced_writes": counts.synced_writes, "writes": counts.writes, "sync_file_range": counts.ranges,
            "io_uring_enter": counts.rings,
        }));
        if !is_synced {
            unsynced.push(name.to_owned());
        }
    }
    run.unsynced.get_or_init(|| unsynced);
    Ok(Report { text, json: vec![json!({ "name": "syncs", "rows": rows })] })
}

fn traced(run: &Run, name: &str) -> Outcome<Counts> {
    let dir = run.bench.scratch()?;
    let trace = dir.path().join("trace");
    let data = std::path::absolute(dir.path().join(child::DATA))?;
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-s", "0", "-e", &format!("trace={CALLS}"), "-o"])
        .arg(&trace)
        .arg(std::env::current_exe()?)
        .args(["child-append", name])
        .arg(std::path::absolute(dir.path())?)
        .args(["--count", &APPENDS.to_string()])
        .envs(logs::walrus_environment(&data))
        .status()?;
    if !status.success() {
        return Err(format!("strace or the appends failed: {status}").into());
    }
    parse(&trace)
}

fn parse(trace: &Path) -> Outcome<Counts> {
    let mut parser = Parser::default();
    for line in BufReader::new(File::open(trace)?).lines() {
        parser.line(&line?);
    }
    Ok(parser.counts)
}

/// Reads a trace line by line.
#[derive(Default)]
struct Parser {
    counts: Counts,
    /// Descriptors whose writes are synced when they return, as strace shows them: number and path.
    synced_files: HashSet<String>,
    /// Calls of threads that were interrupted by a line of another thread, as they began.
    unfinished: HashMap<String, String>,
    marks: u64,
    has_synced: bool,
}

impl Parser {
    fn line(&mut self, line: &str) {
        let Some((thread, rest)) = line.split_once(' ') else { return };
        let rest = rest.trim_start();
        if let Some((begun, _)) = rest.split_once(" <unfinished ...>") {
            self.unfinished.insert(thread.to_owned(), begun.to_owned());
        } else if rest.starts_with("<... ") {
            let (Some(begun), Some((_, end))) = (self.unfinished.remove(thread), rest.split_once(" resumed>")) else {
                return;
            };
            self.call(&(begun + end));
        } else {
            self.call(rest);
        }
    }

    /// A completed call.
    fn call(&mut self, call: &str) {
        let Some((name, arguments)) = call.split_once('(') else { return };
        let Some((arguments, result)) = arguments.rsplit_once(" = ") else { return };
        if result.starts_with('-') {
            return;
        }
        let file = arguments.split_inclusive('>').next().unwrap_or_default();
        match name {
            "openat" => self.opened(result, arguments.contains("O_DSYNC") || arguments.contains("O_SYNC")),
            "dup" | "fcntl" if name == "dup" || arguments.contains("F_DUPFD") => {
                self.opened(result, self.synced_files.contains(file))
            }
            "write" if file.ends_with(&format!("/{}>", child::MARKS)) => self.mark(),
            _ if self.marks == 0 => {}
            "fsync" | "fdatasync" => self.synced(|counts| &mut counts.syncs),
            "msync" if arguments.contains("MS_SYNC") => self.synced(|counts| &mut counts.syncs),
            "sync_file_range" => self.counts.ranges += 1,
            "io_uring_enter" => self.counts.rings += 1,
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" if self.synced_files.contains(file) => {
                self.synced(|counts| &mut counts.synced_writes);
            }
            "write" | "pwrite64" | "writev" | "pwritev" | "pwritev2" => self.counts.writes += 1,
            _ => {}
        }
    }

    fn opened(&mut self, file: &str, is_synced: bool) {
        let file = file.trim_end().to_owned();
        if is_synced {
            self.synced_files.insert(file);
        } else {
            self.synced_files.remove(&file);
        }
    }

    fn synced(&mut self, count: impl FnOnce(&mut Counts) -> &mut u64) {
        *count(&mut self.counts) += 1;
        self.has_synced = true;
    }

    fn mark(&mut self) {
        if self.marks > 0 {
            self.counts.appends += 1;
            self.counts.synced_appends += u64::from(self.has_synced);
        }
        self.marks += 1;
        self.has_synced = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(trace: &str) -> Counts {
        let mut parser = Parser::default();
        trace.lines().for_each(|line| parser.line(line));
        parser.counts
    }

    #[test]
    fn a_sync_counts_for_the_append_in_which_it_ends() {
        let trace = r#"7  fdatasync(4</d/log>) = 0
7  write(3</d/peers-marks>, ""..., 1) = 1
7  write(4</d/log>, ""..., 256) = 256
8  fdatasync(4</d/log> <unfinished ...>
7  write(3</d/peers-marks>, ""..., 1) = 1
8  <... fdatasync resumed>) = 0
7  write(3</d/peers-marks>, ""..., 1) = 1
7  fsync(4</d/log>) = -1 EIO (Input/output error)
7  write(3</d/peers-marks>, ""..., 1) = 1"#;
        assert_eq!(counts(trace), Counts { appends: 3, synced_appends: 1, syncs: 1, writes: 1, ..Counts::default() });
    }

    #[test]
    fn a_write_into_a_file_opened_to_sync_is_a_sync() {
        let trace = r#"7  openat(AT_FDCWD, ""..., O_WRONLY|O_DSYNC|O_CLOEXEC) = 4</d/log>
7  fcntl(4</d/log>, F_DUPFD_CLOEXEC, 0) = 5</d/log>
7  write(3</d/peers-marks>, ""..., 1) = 1
7  pwrite64(5</d/log>, ""..., 4096, 0) = 4096
7  write(3</d/peers-marks>, ""..., 1) = 1
7  sync_file_range(6</d/other>, 0, 4096, SYNC_FILE_RANGE_WRITE) = 0
7  write(3</d/peers-marks>, ""..., 1) = 1"#;
        let expected = Counts { appends: 2, synced_appends: 1, synced_writes: 1, ranges: 1, ..Counts::default() };
        assert_eq!(counts(trace), expected);
    }
}
