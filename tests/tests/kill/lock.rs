//! One writer (fault 22): what another process may do, and what a copy of the lock's descriptor means, as a forked child has one.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, Signal};
use wal::{ErrorKind, FoundState, LogReader, Lsn, SyncMode, Wal};

use crate::process::{Process, say, task};
use crate::writer::config;

/// The test function that is executed as a process.
const TASK: &str = "lock::in_the_process_that_holds_the_log";

#[test]
fn in_the_process_that_holds_the_log() {
    let Some((directory, _)) = task() else { return };
    let log = Wal::open(directory, config(SyncMode::Sync)).expect("the log opens");
    log.append(b"of the process that holds the log").expect("the append works");
    say(format_args!("holds"));
    drop(std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    log.append(b"undisturbed").expect("the append works");
    log.close().expect("the log closes");
    std::process::exit(0);
}

fn is_refused(directory: &Path) -> bool {
    match Wal::open(directory, config(SyncMode::Sync)) {
        Ok(log) => {
            log.close().expect("the log closes");
            false
        }
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::InUse, "{error}");
            true
        }
    }
}

fn count(directory: &Path) -> usize {
    LogReader::open(directory).and_then(|log| log.reader(Lsn::ZERO)).expect("it reads").count()
}

#[test]
fn fault_22_while_a_process_holds_the_log_no_other_opens_it_and_readers_may_read() {
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let mut holder = Process::start(TASK, &directory, &[]);
    holder.expect("holds");
    for _ in 0..20 {
        assert!(is_refused(&directory));
        assert_eq!(count(&directory), 1);
    }
    holder.finish();
    assert_eq!(count(&directory), 2);
    assert!(!is_refused(&directory));
}

#[test]
fn fault_22_the_lock_dies_with_the_process() {
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    for round in 1..=5 {
        let mut holder = Process::start(TASK, &directory, &[]);
        holder.expect("holds");
        assert!(is_refused(&directory));
        holder.signal(Signal::KILL);
        holder.kill();
        let log = Wal::open(&directory, config(SyncMode::Sync)).expect("the lock is gone");
        assert_eq!(log.recovery_report().state, FoundState::Kept);
        assert_eq!(log.reader(Lsn::ZERO).expect("it reads").count(), round);
        log.close().expect("the log closes");
    }
}

/// A copy of the descriptor that carries the lock: the same open file, as a forked child inherits it. `None` if the operating system does
/// not hand it out.
#[cfg(target_os = "linux")]
fn copy_of_lock(process: Pid, directory: &Path) -> Option<OwnedFd> {
    let lock = fs::canonicalize(directory.join("lock")).expect("the lock file is there");
    let descriptors = fs::read_dir(format!("/proc/{}/fd", process.as_raw_nonzero())).expect("the process is there");
    let is_lock = |entry: &fs::DirEntry| fs::read_link(entry.path()).is_ok_and(|target| target == lock);
    let entry = descriptors.flatten().find(is_lock).expect("the process has the lock open");
    let number = entry.file_name().to_string_lossy().parse().expect("descriptors are numbers");
    let process = rustix::process::pidfd_open(process, PidfdFlags::empty()).expect("the process is there");
    match rustix::process::pidfd_getfd(process, number, PidfdGetfdFlags::empty()) {
        Ok(copy) => Some(copy),
        Err(error) => {
            println!("skipped: copying a descriptor is not allowed here: {error}");
            None
        }
    }
}

#[test]
#[cfg(target_os = "linux")]
fn fault_22_an_inherited_copy_of_the_lock_neither_opens_the_log_nor_keeps_it_closed() {
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let log = Wal::open(&directory, config(SyncMode::Sync)).expect("the log opens");
    let Some(copy) = copy_of_lock(rustix::process::getpid(), &directory) else { return };
    // Who has a copy may not open the log, and closing the copy releases nothing.
    assert!(is_refused(&directory));
    let second = copy.try_clone().expect("it can be copied");
    drop(second);
    assert!(is_refused(&directory));
    log.append(b"undisturbed").expect("the append works");
    // Closing the log releases it, although the copy lives on.
    log.close().expect("the log closes");
    assert!(!is_refused(&directory));
    drop(copy);
    assert_eq!(count(&directory), 1);
}

#[test]
#[cfg(target_os = "linux")]
fn fault_22_a_child_that_outlives_a_killed_writer_keeps_the_log_closed_until_it_ends() {
    let scratch = tempfile::tempdir().expect("a directory for temporary files");
    let directory = scratch.path().join("log");
    let mut holder = Process::start(TASK, &directory, &[]);
    holder.expect("holds");
    let Some(copy) = copy_of_lock(holder.pid(), &directory) else { return };
    holder.kill();
    // Nobody can tell what a child of the writer still does with its copy, so the log stays refused: the safe side.
    assert!(is_refused(&directory));
    assert_eq!(count(&directory), 1);
    drop(copy);
    assert!(!is_refused(&directory));
}
