//! A log that goes through the hands of hundreds of processes, each of which is killed.

use std::path::Path;
use std::time::{Duration, Instant};

use wal::{LogReader, Lsn, Wal};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::ledger::{Content, Ledger, content};
use crate::process::{Process, kills, seed};
use crate::{reader, writer};

/// When a process is killed.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// So long after it has begun to open the log.
    Opening(Duration),
    /// So long after it has said so many things.
    Working(u64, Duration),
    /// When it has closed the log.
    Closed,
}

fn choose(rng: &mut Rng) -> Moment {
    match rng.below(10) {
        0..3 => Moment::Opening(Duration::from_micros(rng.below(4000))),
        3 => Moment::Closed,
        _ => Moment::Working(rng.below(250), Duration::from_micros(rng.below(500))),
    }
}

/// Waits busily, because what is waited for is shorter than a sleep is exact.
pub fn spin(time: Duration) {
    let started = Instant::now();
    while started.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// One process from its start to its death. The ledger hears all that it said.
fn live(directory: &Path, ledger: &mut Ledger, arguments: &[u64], moment: Moment) {
    let mut process = Process::start(writer::TASK, directory, arguments);
    let mut said = 0;
    let mut is_open = false;
    while let Some(line) = process.next() {
        ledger.hear(&line);
        is_open |= line.starts_with("opened");
        said += u64::from(is_open);
        match moment {
            Moment::Opening(delay) if line == "begin" => {
                spin(delay);
                break;
            }
            Moment::Working(lines, delay) if said > lines => {
                spin(delay);
                break;
            }
            Moment::Closed if line == "closed" || said > 400 => break,
            _ => {}
        }
    }
    for line in process.kill() {
        ledger.hear(&line);
    }
}

/// What the files hold, without opening the log for writing.
pub fn in_files(directory: &Path) -> (u64, Content) {
    match LogReader::open(directory) {
        Ok(log) => (log.start_lsn().get(), log.reader(Lsn::ZERO).and_then(content).expect("the files can be read")),
        Err(error) if error.kind() == wal::ErrorKind::NotFound => (0, Content::new()),
        Err(error) => panic!("the files cannot be read: {error}"),
    }
}

fn kill_again_and_again(mode: u64) {
    let seed = seed(mode + 1);
    let mut rng = Rng::new(seed);
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let watchdog = Watchdog::start();
    let mut ledger = Ledger::default();
    let reading = Process::start(reader::TASK, &directory, &[]);
    let count = kills(80);
    for life in 1..=count {
        let moment = choose(&mut rng);
        watchdog.beat(|| format!("mode {mode}, seed {seed}, life {life}, killed at {moment:?}"));
        // A log may have another mode at each open; what was acknowledged outlives the process in all of them.
        let mode = if rng.percent(10) { rng.below(3) } else { mode };
        live(&directory, &mut ledger, &[mode, life, rng.number(), 400], moment);
        let (start, found) = in_files(&directory);
        if let Err(why) = ledger.compare(start, &found) {
            panic!("mode {mode}, seed {seed}, life {life}, killed at {moment:?}: {why}");
        }
        if life % 7 == 0 {
            let log = Wal::open(&directory, writer::config(writer::mode(mode))).expect("the log opens");
            let found = log.reader(Lsn::ZERO).and_then(content).expect("the log can be read");
            if let Err(why) = ledger.compare(log.start_lsn().get(), &found) {
                panic!("mode {mode}, seed {seed}, life {life}, opened: {why}");
            }
            log.close().expect("the log closes");
        }
    }
    reading.finish();
    let Ledger { compared, acknowledgements, .. } = ledger;
    println!(
        "mode {mode}: {count} processes killed, {acknowledgements} appends acknowledged, {compared} records compared"
    );
    assert!(acknowledgements > 0, "nothing was acknowledged, so nothing was shown");
}

#[test]
fn in_sync_mode_what_was_acknowledged_outlives_the_process() {
    kill_again_and_again(0);
}

#[test]
fn in_batch_mode_what_was_acknowledged_outlives_the_process() {
    kill_again_and_again(1);
}

#[test]
fn in_none_mode_what_was_acknowledged_outlives_the_process() {
    kill_again_and_again(2);
}
