//! The commands that change a log, killed at any moment: they leave the old state, the new one or, for a repair, one on the way, and a rerun finishes.
//!
//! `WAL_TEST_KILLS` is how often each case is killed, `WAL_TEST_SEED` chooses the moments. A moment is a share of the time that the undisturbed
//! command took, so the same seed aims at the same places, as far as the machine's speed is the same. The tests that are ignored need `strace` and
//! kill at each system call that opens, writes, syncs, renames or removes: `cargo test -p walctl --test kills -- --ignored`.
#![cfg(unix)]

#[path = "snapshots/fixture.rs"]
mod fixture;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// A command that changes a log, and the log.
struct Case {
    fixture: &'static str,
    args: &'static [&'static str],
    /// A segment whose records must be in a quarantine in the end.
    removes: Option<&'static str>,
    /// Whether a state between the old and the new one is allowed.
    is_in_steps: bool,
}

const CASES: [Case; 11] = [
    truncation("sound", &["truncate", "--before", "8368", "--apply", "--yes"], None),
    truncation("live", &["truncate", "--checkpoint", "--apply", "--yes"], None),
    truncation("sound", &["truncate", "--before", "8368", "--policy", "whole-segments", "--apply", "--yes"], None),
    truncation("sound", &["truncate", "--after", "16000", "--apply", "--yes"], Some("0000000000000004.wal")),
    truncation("live", &["truncate", "--after", "16336", "--apply", "--yes"], Some("0000000000000004.wal")),
    repair("corrupt payload", Some("0000000000000002.wal")),
    repair("corrupt header", Some("0000000000000003.wal")),
    repair("no middle", None),
    repair("no control", None),
    repair("stranded", None),
    repair("torn", Some("0000000000000004.wal")),
];

const fn truncation(fixture: &'static str, args: &'static [&'static str], removes: Option<&'static str>) -> Case {
    Case { fixture, args, removes, is_in_steps: false }
}

const fn repair(fixture: &'static str, removes: Option<&'static str>) -> Case {
    Case { fixture, args: &["repair", "--apply", "--yes"], removes, is_in_steps: true }
}

/// What a log holds: the lines of a dump, and whether it ended well.
#[derive(Debug, PartialEq)]
struct Content {
    records: Vec<String>,
    is_readable: bool,
}

/// A case, and what stands before and behind an undisturbed run.
struct Prepared {
    home: TempDir,
    case: &'static Case,
    old: Content,
    new: Content,
    took: Duration,
}

impl Prepared {
    fn new(case: &'static Case) -> Prepared {
        let home = tempfile::tempdir().expect("a temporary directory");
        fixture::make(case.fixture, &home.path().join("original"));
        let mut prepared = Prepared {
            old: content(&home.path().join("original")),
            new: Content { records: Vec::new(), is_readable: false },
            took: Duration::ZERO,
            home,
            case,
        };
        let dir = prepared.copy();
        let began = Instant::now();
        must_work(&walctl(case.args, &dir));
        prepared.took = began.elapsed();
        prepared.new = content(&dir);
        assert!(prepared.new.is_readable, "{}: {:?}", case.fixture, prepared.new);
        prepared
    }

    fn name(&self) -> String {
        format!("{} on {:?}", self.case.args.join(" "), self.case.fixture)
    }

    /// A fresh copy of the log.
    fn copy(&self) -> PathBuf {
        let (from, to) = (self.home.path().join("original"), self.home.path().join("log"));
        if to.exists() {
            fs::remove_dir_all(&to).expect("it can be removed");
        }
        fs::create_dir(&to).expect("it is absent");
        for entry in fs::read_dir(from).expect("it is there") {
            let entry = entry.expect("the entry can be read");
            fs::copy(entry.path(), to.join(entry.file_name())).expect("it can be copied");
        }
        to
    }

    /// Looks at what a kill left, runs the command again, and looks once more.
    fn check(&self, dir: &Path, when: &str) {
        let name = self.name();
        let left = content(dir);
        let is_one_of_both = left == self.old || left == self.new;
        assert!(is_one_of_both || self.case.is_in_steps, "{name}, {when}: neither the old state nor the new: {left:?}");
        must_work(&walctl(self.case.args, dir));
        assert_eq!(content(dir), self.new, "{name}, {when}: the rerun leads elsewhere");
        must_work(&walctl(&["verify"], dir));
        if let Some(file) = self.case.removes {
            let removed = fs::read(self.home.path().join("original").join(file)).expect("it is there");
            assert!(is_kept(dir, file, &removed), "{name}, {when}: {file} is in no quarantine");
        }
    }
}

fn command(args: &[&str], dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walctl"));
    command.args(args).env("WAL_DIR", dir).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn walctl(args: &[&str], dir: &Path) -> Output {
    command(args, dir).output().expect("walctl starts")
}

fn must_work(output: &Output) {
    assert!(output.status.success(), "{output:?}");
}

fn content(dir: &Path) -> Content {
    let output = walctl(&["dump", "--format", "jsonl", "--payload", "hex"], dir);
    let text = String::from_utf8(output.stdout).expect("it is text");
    // Where a record lies is not what it is: a cut may move it to a new segment.
    let records = text.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).expect("it is JSON");
        format!("{} {} {}", record["lsn"], record["type"], record["payload"])
    });
    Content { records: records.collect(), is_readable: output.status.success() }
}

/// Whether a quarantine holds the orders of this segment. The frames around them may be others: a truncation recovers the log first, and that
/// writes its last segment again.
fn is_kept(dir: &Path, file: &str, segment: &[u8]) -> bool {
    let removed = orders(segment);
    assert!(removed.len() > 40, "{file} holds {} orders", removed.len());
    let mut entries = fs::read_dir(dir).expect("it is there").map(|entry| entry.expect("the entry can be read").path());
    entries.any(|path| {
        let is_quarantine = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("quarantine-"));
        is_quarantine && fs::read(path.join(file)).is_ok_and(|kept| orders(&kept) == removed)
    })
}

/// The payloads in a segment, found by how they begin.
fn orders(segment: &[u8]) -> Vec<&[u8]> {
    const PAYLOAD_BYTES: usize = b"order 001: 2 apples".len();
    segment.windows(PAYLOAD_BYTES).filter(|bytes| bytes.starts_with(b"order ")).collect()
}

/// Pseudo-random numbers (SplitMix64), the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |value| value.parse().expect("a number"))
}

#[test]
fn a_change_that_is_killed_at_any_moment_leaves_the_old_state_or_the_new_and_a_rerun_finishes() {
    let (seed, kills) = (setting("WAL_TEST_SEED", 1), setting("WAL_TEST_KILLS", 6));
    println!("WAL_TEST_SEED={seed} WAL_TEST_KILLS={kills}");
    let mut random = Random(seed);
    for case in &CASES {
        let prepared = Prepared::new(case);
        let mut killed = 0;
        for kill in 0..kills {
            // Spread over the run: one moment in each of as many equal parts, and a bit past its end.
            let permille = (kill * 1000 + random.next() % 1000) * 11 / kills / 10;
            let dir = prepared.copy();
            let mut child = command(case.args, &dir).spawn().expect("walctl starts");
            thread::sleep(prepared.took.mul_f64(permille as f64 / 1000.0));
            child.kill().expect("it was not waited for");
            let status = child.wait().expect("it ends");
            killed += u64::from(status.code().is_none());
            prepared.check(&dir, &format!("seed {seed}, kill {kill} at {permille} permille of {:?}", prepared.took));
        }
        println!("{}: {killed} of {kills} were killed before they ended", prepared.name());
    }
}

#[test]
#[ignore = "needs strace"]
fn a_truncation_that_is_killed_at_any_system_call_leaves_the_old_state_or_the_new_and_a_rerun_finishes() {
    CASES.iter().filter(|case| !case.is_in_steps).for_each(kill_at_each_call);
}

#[test]
#[ignore = "needs strace"]
fn a_repair_that_is_killed_at_any_system_call_is_finished_by_a_rerun() {
    CASES.iter().filter(|case| case.is_in_steps).for_each(kill_at_each_call);
}

fn kill_at_each_call(case: &'static Case) {
    const CALLS: &str = "openat mkdir write pwrite64 ftruncate fsync fdatasync renameat unlinkat close";
    let prepared = Prepared::new(case);
    let mut kills = 0;
    for call in CALLS.split(' ') {
        for number in 1.. {
            let dir = prepared.copy();
            let inject = format!("inject={call}:signal=SIGKILL:when={number}");
            let mut strace = Command::new("strace");
            strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, env!("CARGO_BIN_EXE_walctl")]);
            strace.args(case.args).env("WAL_DIR", &dir).stdin(Stdio::null());
            let output = strace.output().expect("strace starts");
            // strace ends as its tracee did.
            if output.status.success() {
                break;
            }
            assert_eq!(output.status.code(), None, "{}: {output:?}", prepared.name());
            kills += 1;
            prepared.check(&dir, &format!("killed at {call} number {number}"));
        }
    }
    println!("{}: killed {kills} times", prepared.name());
    assert!(kills > 20, "{}", prepared.name());
}
