//! Other files in the directory: foreign ones, leftovers, temps.

use wal::fs::sim::SimFs;
use wal::inspect::{Depth, survey};

use crate::world::{World, fill, records, small};

on_both_file_systems! {
    foreign_files_are_reported_and_left_alone,
    a_stranded_temp_is_kept_and_reported,
    a_temp_beside_its_final_is_swept,
    prepared_and_recycled_files_are_swept,
    a_leftover_before_the_start_is_removed,
}

fn closed(world: &World) -> Vec<wal::Lsn> {
    let log = world.open(small());
    let all = fill(&log, 40);
    log.close().unwrap();
    all
}

fn foreign_files_are_reported_and_left_alone(world: &World) {
    closed(world);
    let names = ["README", "0000000000000001.wal.bak", "1.wal", "00000000000000AB.wal", "control~", "x.tmp"];
    for name in names {
        world.write(name, name.as_bytes());
    }
    let log = world.open(small());
    let mut foreign = log.recovery_report().foreign.clone();
    foreign.sort();
    let mut expected = names.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(foreign, expected);
    assert_eq!(records(&log).len(), 40);
    log.truncate_before(log.durable_lsn()).unwrap();
    log.close().unwrap();
    for name in names {
        assert_eq!(world.read(name), name.as_bytes());
    }
}

fn a_stranded_temp_is_kept_and_reported(world: &World) {
    closed(world);
    let temp = "00000000000000aa.wal.tmp";
    world.write(temp, b"evidence");
    for _ in 0..2 {
        let log = world.open(small());
        assert_eq!(log.recovery_report().stranded, [temp]);
        assert!(log.recovery_report().swept.is_empty());
        assert_eq!(records(&log).len(), 40);
        log.close().unwrap();
        assert_eq!(world.read(temp), b"evidence");
    }
    let found = survey(&*world.fs, &world.path, Depth::Tail, |_| {}).unwrap();
    assert_eq!(found.stranded, [temp]);
}

fn a_temp_beside_its_final_is_swept(world: &World) {
    closed(world);
    let temps = ["0000000000000001.wal.tmp", "0000000000000002.wal.tmp", "control.tmp"];
    for temp in temps {
        world.write(temp, b"an unfinished replacement");
    }
    let found = survey(&*world.fs, &world.path, Depth::Tail, |_| {}).unwrap();
    assert_eq!(found.sweepable.len(), 3, "a survey says so and removes nothing");
    let log = world.open(small());
    let mut swept = log.recovery_report().swept.clone();
    swept.sort();
    // The control file itself may have been replaced by way of its temp before.
    assert_eq!(swept[..2], temps[..2]);
    assert_eq!(records(&log).len(), 40);
    log.close().unwrap();
    assert!(!world.names().iter().any(|name| name.ends_with(".tmp")));
}

fn prepared_and_recycled_files_are_swept(world: &World) {
    closed(world);
    let names = ["0000000000000001.recycle", "0000000000000009.prepare"];
    for name in names {
        world.write(name, &[0; 8192]);
    }
    let log = world.open(small());
    let mut swept = log.recovery_report().swept.clone();
    swept.sort();
    assert_eq!(swept, names);
    log.close().unwrap();
    assert_eq!(records(&log).len(), 40);
    assert!(!world.names().iter().any(|name| names.contains(&name.as_str())));
}

fn a_leftover_before_the_start_is_removed(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    let old = world.read("0000000000000001.wal");
    log.truncate_before(all[30]).unwrap();
    log.close().unwrap();
    world.write("0000000000000001.wal", &old);
    assert_eq!(world.read_files().0.len(), 10, "a reader does not see it");
    let log = world.open(small());
    assert_eq!(records(&log).len(), 10);
    drop(log);
    let log = world.open(small());
    log.truncate_before(all[31]).unwrap();
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), 9);
}

#[test]
fn a_creation_that_did_not_finish_is_finished() {
    let calls = {
        let world = World::simulated();
        world.open(small());
        world.sim().calls()
    };
    for call in 0..calls {
        let world = World::simulated();
        world.sim().crash_at(call);
        drop(world.try_open(small()));
        let world = World::on(SimFs::kill(world.sim()));
        let log = world.open(small());
        log.append(b"works").unwrap();
        log.close().unwrap();
        assert_eq!(world.read_files().0.len(), 1, "creation ended before call {call}");
    }
}
