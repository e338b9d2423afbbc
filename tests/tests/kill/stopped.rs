//! A process that is stopped for a while (fault 21), as by a debugger, a full virtual machine or a suspended laptop.

use std::time::Duration;

use rustix::process::Signal;
use wal::{Config, ErrorKind, SyncMode, Wal};
use wal_tests::rng::Rng;
use wal_tests::watchdog::Watchdog;

use crate::life::in_files;
use crate::process::{Process, kills, say, seed, task};
use crate::record::Name;
use crate::writer;

/// The test function that is executed as a process.
const TASK: &str = "stopped::in_the_process_that_is_stopped";
const DELAY: Duration = Duration::from_millis(3);

fn config() -> Config {
    writer::config(SyncMode::Batch { delay: DELAY, bytes: 1 << 30 })
}

#[test]
fn in_the_process_that_is_stopped() {
    let Some((directory, arguments)) = task() else { return };
    let log = Wal::open(directory, config()).expect("the log opens");
    for sequence in 0..arguments[0] {
        let name = Name { life: 1, thread: 0, sequence, index: 0, count: 1 };
        let lsn = log.append(&name.payload()).expect("the append works");
        say(format_args!("written {lsn}"));
        // Nothing but the delay of batch mode makes it durable.
        let mut subscription = log.subscribe();
        while subscription.current() <= lsn {
            subscription.recv().expect("the log lives");
        }
        say(format_args!("durable {lsn}"));
    }
    std::process::exit(0);
}

fn wait_until_stopped(process: &Process) {
    let path = format!("/proc/{}/stat", process.pid().as_raw_nonzero());
    loop {
        let stat = std::fs::read_to_string(&path).expect("the process is there");
        // The state follows the name of the program, which stands in brackets.
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['T', 't', 'Z'])) {
            return;
        }
        std::thread::yield_now();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn fault_21_a_process_that_was_stopped_syncs_what_is_overdue_when_it_goes_on() {
    let seed = seed(21);
    let mut rng = Rng::new(seed);
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let watchdog = Watchdog::start();
    let stops = kills(30);
    let mut process = Process::start(TASK, &directory, &[stops + 1]);
    for stop in 0..stops {
        watchdog.beat(|| format!("seed {seed}, stop {stop}"));
        let said = process.next().expect("the process lives");
        assert!(said.starts_with("written"), "{said}");
        process.signal(Signal::STOP);
        wait_until_stopped(&process);
        // The lock stays with the stopped process.
        let refused = Wal::open(&directory, config()).expect_err("the log is in use");
        assert_eq!(refused.kind(), ErrorKind::InUse);
        // It is stopped for longer or shorter than the delay.
        std::thread::park_timeout(DELAY * rng.below(4) as u32);
        process.signal(Signal::CONT);
        let said = process.next().expect("the process lives");
        assert!(said.starts_with("durable"), "{said}");
    }
    // One that dies while it is stopped has lost nothing that it had acknowledged.
    assert!(process.next().is_some_and(|said| said.starts_with("written")));
    process.signal(Signal::STOP);
    wait_until_stopped(&process);
    process.kill();
    let (_, content) = in_files(&directory);
    assert_eq!(content.len() as u64, stops + 1);
    let log = Wal::open(&directory, config()).expect("the lock died with the process");
    log.close().expect("the log closes");
    println!("stopped {stops} times");
}
