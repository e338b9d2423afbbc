//! A process that is killed while it opens a log, and the next one, and the next.

use std::time::{Duration, Instant};

use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::ledger::Ledger;
use crate::life::{in_files, spin};
use crate::process::{Process, kills, say, seed, task};
use crate::writer;

/// The test function that is executed as a process.
const TASK: &str = "opening::in_the_process_that_opens";

#[test]
fn in_the_process_that_opens() {
    let Some((directory, arguments)) = task() else { return };
    say(format_args!("begin"));
    let log = wal::Wal::open(directory, writer::config(writer::mode(arguments[0]))).expect("the log opens");
    say(format_args!("opened {:?}", log.recovery_report().state));
    // It never closes the log, so the next process has to recover it again.
    std::process::exit(0);
}

#[test]
fn a_recovery_that_is_killed_again_and_again_loses_nothing() {
    let seed = seed(7);
    let mut rng = Rng::new(seed);
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let watchdog = Watchdog::start();
    let mut ledger = Ledger::default();
    let mut killed_early = 0;
    let rounds = kills(8);
    for round in 1..=rounds {
        watchdog.beat(|| format!("seed {seed}, round {round}"));
        // Something to recover: several segments that were never synced.
        let mut writing = Process::start(writer::TASK, &directory, &[2, round, rng.number(), 400]);
        for _ in 0..200 {
            let Some(line) = writing.next() else { break };
            ledger.hear(&line);
        }
        writing.kill().iter().for_each(|line| ledger.hear(line));
        let (start, before) = in_files(&directory);
        ledger.compare(start, &before).unwrap_or_else(|why| panic!("seed {seed}, round {round}: {why}"));

        let mut usual = Duration::from_millis(3);
        for attempt in 0..8 {
            watchdog.beat(|| format!("seed {seed}, round {round}, attempt {attempt}"));
            let mut opening = Process::start(TASK, &directory, &[rng.below(3)]);
            opening.expect("begin");
            let started = Instant::now();
            if attempt == 4 {
                // One that is left alone tells how long it takes.
                assert!(opening.next().is_some_and(|said| said.starts_with("opened")));
                usual = started.elapsed();
            }
            spin(usual * rng.below(100) as u32 / 100);
            killed_early += u64::from(opening.kill().is_empty() && attempt != 4);
            let (start, after) = in_files(&directory);
            ledger
                .compare(start, &after)
                .unwrap_or_else(|why| panic!("seed {seed}, round {round}, attempt {attempt}: {why}"));
            assert!(after == before, "seed {seed}, round {round}, attempt {attempt}: the content changed");
        }
    }
    println!("{rounds} logs, 8 opens each, {killed_early} killed before they were done");
}
