//! One writer: a second open for writing is refused.

use std::process::{Command, Stdio};
use std::sync::PoisonError;

use wal::{ErrorKind, FoundState, Wal};

use crate::world::{SPAWNING, World, fill, kind, records, small, still};

on_both_file_systems! {
    a_second_open_in_the_same_process_is_refused,
    a_refused_open_changes_nothing,
    the_lock_is_released_by_close_even_if_clones_live_on,
    readers_need_no_lock,
}

/// Names the directory that the other process is to open.
const DIRECTORY: &str = "WAL_CONTRACT_OPEN";

fn a_second_open_in_the_same_process_is_refused(world: &World) {
    let log = world.open(small());
    let error = world.try_open(small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InUse);
    assert_eq!(error.path(), Some(world.path.as_path()));
    log.append(b"the first one goes on").unwrap();
    log.close().unwrap();
    world.open(small()).close().unwrap();
}

fn a_refused_open_changes_nothing(world: &World) {
    let log = world.open(still());
    fill(&log, 20);
    let before = world.files();
    assert_eq!(kind(world.try_open(small())), ErrorKind::InUse);
    assert!(before == world.files());
    log.close().unwrap();
}

fn the_lock_is_released_by_close_even_if_clones_live_on(world: &World) {
    let log = world.open(small());
    let clone = log.clone();
    log.close().unwrap();
    let next = world.open(small());
    assert_eq!(kind(clone.append(b"of the closed one")), ErrorKind::Closed);
    next.append(b"of the open one").unwrap();
    drop((log, clone));
    next.append(b"dropping the closed one does not close this one").unwrap();
    assert_eq!(records(&next).len(), 2);
    next.close().unwrap();
}

fn readers_need_no_lock(world: &World) {
    let log = world.open(small());
    fill(&log, 10);
    let readers: Vec<_> = (0..5).map(|_| world.log_reader()).collect();
    assert!(readers.iter().all(|reader| reader.reader(wal::Lsn::ZERO).unwrap().count() == 10));
    log.close().unwrap();
    world.open(small()).close().unwrap();
}

/// What the other process does; nothing if this is not the other process. It ends without closing the log.
#[test]
fn in_another_process() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let code = match Wal::open(directory, small()) {
        Ok(log) => {
            log.append(b"of the other process").unwrap();
            std::process::exit(0)
        }
        Err(error) if error.kind() == ErrorKind::InUse => 10,
        Err(_) => 11,
    };
    std::process::exit(code);
}

fn open_in_another_process(world: &World) -> Option<i32> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "lock::in_another_process"]).env(DIRECTORY, &world.path);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let spawning = SPAWNING.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = command.spawn().unwrap();
    drop(spawning);
    child.wait().unwrap().code()
}

#[test]
fn a_second_open_from_another_process_is_refused() {
    let world = World::real();
    let log = world.open(small());
    fill(&log, 3);
    assert_eq!(open_in_another_process(&world), Some(10));
    log.append(b"the first one goes on").unwrap();
    log.close().unwrap();
    assert_eq!(open_in_another_process(&world), Some(0));
}

#[test]
fn the_lock_of_a_process_that_died_is_gone_and_what_it_wrote_is_kept() {
    let world = World::real();
    for round in 1..4 {
        assert_eq!(open_in_another_process(&world), Some(0));
        let log = world.open(small());
        assert_eq!(log.recovery_report().state, FoundState::Kept);
        assert_eq!(records(&log).len(), round);
        log.close().unwrap();
    }
}
