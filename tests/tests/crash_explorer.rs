//! The explorer itself: a log that is broken on purpose is caught, what is printed is small and can be repeated, and nothing is counted
//! that was not looked at.

use std::collections::HashSet;

use wal::fs::sim::{CrashPlan, Effect, Fault, Operation, SimFs, errno};
use wal::fs::{FileSystem, OpenMode};
use wal::museum::{Bug, Bugs};
use wal_tests::careless::careless;
use wal_tests::crash::Choices;
use wal_tests::explore::{Limits, explore};
use wal_tests::recovery::{DIR, Memory, key};
use wal_tests::run::{Op, Run};
use wal_tests::settings::{MODES, Opening, Setup};
use wal_tests::shrink::shrink;
use wal_tests::violation::Violation;

const LONG: [Op; 12] = [
    Op::Append(100),
    Op::Batch(7, 300, 16),
    Op::SubmitBatch(40),
    Op::Rotate,
    Op::Append(500),
    Op::Flush,
    Op::Checkpoint(20),
    Op::Before(20),
    Op::Append(33),
    Op::After(90),
    Op::AppendDurable(61),
    Op::Reopen,
];

/// Explores a log that is broken, and makes what is found small.
fn caught(mode: usize, variant: u64, opening: Opening) -> Violation {
    let setup = Setup::new(MODES[mode], variant).opened(opening);
    let limits = Limits::exhaustive(256);
    let violation = explore(&setup, &LONG, LONG.len(), limits, 42).expect_err("the log is broken");
    assert!(violation.repeat().is_some(), "cannot be repeated: {violation}");
    let small = shrink(&setup, limits, *violation);
    println!("{small}");
    assert!(small.repeat().is_some(), "cannot be repeated: {small}");
    let text = small.to_string();
    assert!(text.contains("seed 42") && text.contains(&format!("{:?}", small.ops)), "{text}");
    small
}

fn survivors(violation: &Violation) -> usize {
    let crash = violation.crash.as_ref().expect("it breaks in a crash");
    crash.survivors.as_ref().map_or(0, |versions| versions.iter().filter(|version| **version != 0).count())
}

#[test]
fn a_log_that_never_syncs_its_directory_is_caught_and_made_small() {
    for mode in 0..3 {
        let small =
            caught(mode, 0, careless("without directory syncs", |operation, _| operation == Operation::SyncDir));
        assert!(small.ops.len() <= 2 && survivors(&small) <= 4, "{small}");
    }
}

#[test]
fn a_log_that_never_syncs_its_segments_is_caught_and_made_small() {
    let opening =
        || careless("without syncs of segments", |_, name| name.ends_with(".wal") || name.ends_with(".prepare"));
    let small = caught(0, 8, opening());
    assert!(small.ops.len() <= 2 && survivors(&small) <= 1, "{small}");
    let small = caught(2, 0, opening());
    assert!(small.ops.len() <= 3 && survivors(&small) <= 1, "{small}");
}

#[test]
fn a_log_that_shows_what_it_did_not_make_durable_is_caught() {
    // What is renamed over a segment was not synced before.
    let small = caught(
        0,
        0,
        careless("without syncs of new files", |operation, name| {
            matches!(operation, Operation::SyncData | Operation::SyncAll) && !name.ends_with(".wal")
        }),
    );
    assert!(small.ops.len() <= 2, "{small}");
}

#[test]
fn a_log_that_panics_is_caught_with_its_message() {
    let opening = Opening::new("panics at the third open", |fs, setup, clock| {
        assert!(fs.names("/").is_ok_and(|names| names.is_empty()), "the log was opened before");
        Opening::default().open(fs, setup, clock)
    });
    let small = caught(0, 0, opening);
    assert!(small.why.contains("the log was opened before") && small.ops.len() <= 1, "{small}");
}

/// What these operations break in a log with this bug, made small.
fn caught_bug(bug: Bug, mode: usize, variant: u64, ops: &[Op]) -> Violation {
    let setup = Setup { bugs: Bugs::one(bug), ..Setup::new(MODES[mode], variant) };
    let limits = Limits::exhaustive(256);
    let violation = explore(&setup, ops, ops.len(), limits, 7).expect_err("the log is broken");
    let small = shrink(&setup, limits, *violation);
    println!("{bug:?}: {small}");
    assert!(small.repeat().is_some(), "{bug:?} cannot be repeated: {small}");
    small
}

#[test]
fn a_bug_that_takes_a_rotation_is_made_small_to_the_rotation() {
    let small = caught_bug(Bug::OldSegmentNotSynced, 2, 8, &LONG);
    assert!((2..=3).contains(&small.ops.len()), "{small}");
}

#[test]
fn a_bug_that_takes_a_truncation_is_made_small_to_the_truncation() {
    let small = caught_bug(Bug::RewriteInPlace, 0, 0, &LONG);
    assert!(small.ops.len() <= 3, "{small}");
}

#[test]
fn a_bug_that_takes_a_cut_is_made_small_to_the_cut() {
    let cut = [Op::Append(100), Op::Append(50), Op::Append(20), Op::After(0), Op::Reopen, Op::Append(1)];
    let noise = [Op::Batch(7, 300, 16), Op::Rotate, Op::SubmitBatch(40), Op::Flush, Op::BeforeWhole(100)];
    let small = caught_bug(Bug::StaleChecksumAfterCut, 0, 0, &[noise.as_slice(), &cut].concat());
    assert!(small.ops.len() <= 5 && small.ops.iter().any(|op| matches!(op, Op::After(_))), "{small}");
}

#[test]
fn what_is_remembered_of_an_image_is_what_a_new_recovery_shows() {
    let (mut images, mut kinds) = (0, HashSet::new());
    for mode in MODES {
        let setup = Setup::new(mode, 3);
        let memory = Memory::default();
        let mut run = Run::new(&setup);
        run.keeps_points = true;
        LONG.iter().for_each(|op| run.apply(*op).expect("the log is right"));
        for (_, point) in run.steps.iter().flat_map(|step| &step.points) {
            for plan in [0, 1, 2].map(CrashPlan::random).into_iter().chain([CrashPlan::keep_nothing()]) {
                for image in [point.crash(&plan), point.kill()] {
                    let fresh = Memory::default().recover(&setup, &image.kill());
                    assert_eq!(memory.recover(&setup, &image), fresh, "{mode:?}");
                    images += 1;
                }
            }
        }
        kinds.insert(memory.images());
        assert!(memory.images() > 50 && memory.images() < images, "{} of {images}", memory.images());
    }
    println!("{images} images, distinct ones {kinds:?}");
}

#[test]
fn data_that_a_failed_sync_gave_up_is_another_image_than_data_that_waits_for_its_sync() {
    let keys = [None, Some(Fault::new(Effect::FlushError(errno::EIO)).on(Operation::SyncData))].map(|fault| {
        let fs = SimFs::new(1);
        fs.create_dir(DIR.as_ref()).expect("a directory");
        fs.open_dir("/".as_ref()).and_then(|root| root.sync()).expect("a sync");
        let dir = fs.open_dir(DIR.as_ref()).expect("the directory");
        let file = dir.open("file", OpenMode::CreateNew).expect("a file");
        dir.sync().expect("a sync");
        file.write_at(&[7; 512], 0).expect("a write");
        if let Some(fault) = fault {
            fs.plan(fault);
            file.sync_data().expect_err("a planned error");
        }
        let killed = fs.kill();
        (key(&killed), killed.undecided())
    });
    assert_eq!(keys[0].1, keys[1].1);
    assert_ne!(keys[0].0, keys[1].0);
}

#[test]
fn a_log_that_keeps_its_promises_is_not_accused() {
    for mode in MODES {
        for variant in [0, 15] {
            let setup = Setup::new(mode, variant);
            let count =
                explore(&setup, &LONG, LONG.len(), Limits::exhaustive(256), 42).unwrap_or_else(|why| panic!("{why}"));
            assert!(count.states > 500, "{count}");
        }
    }
}

#[test]
fn one_seed_gives_one_exploration() {
    let setup = Setup::new(MODES[1], 3);
    let limits = Limits { nested_percent: 10, nested_points: 2, depth: 2, ..Limits::exhaustive(64) };
    let counts = [0, 1].map(|_| explore(&setup, &LONG, 6, limits, 7).expect("the log is right").to_string());
    assert_eq!(counts[0], counts[1]);
}

/// A file with this many unsynced sectors, whose name is durable.
fn dirty(sectors: u64) -> SimFs {
    let fs = SimFs::new(1);
    let dir = fs.open_dir("/".as_ref()).expect("the root");
    let file = dir.open("file", OpenMode::CreateNew).expect("a file");
    file.set_len(sectors * 512).expect("a size");
    file.sync_data().expect("a sync");
    dir.sync().expect("a sync");
    for sector in 0..sectors {
        assert_eq!(file.write_at(&[7; 512], sector * 512).expect("a write"), 512);
    }
    fs
}

#[test]
fn every_subset_of_eight_sectors_is_looked_at_and_of_more_a_bounded_number() {
    let items = dirty(8).undecided();
    let all: HashSet<Vec<u32>> = Choices::new(&items, &Limits::exhaustive(1), 1).collect();
    assert_eq!(all.len(), 256);

    let items = dirty(20).undecided();
    let some: Vec<Vec<u32>> = Choices::new(&items, &Limits::exhaustive(512), 1).collect();
    assert_eq!(some.len(), 512);
    assert!(some.contains(&vec![0; 20]) && some.contains(&vec![1; 20]));

    // Enough room: each eight neighbours in all combinations, the others lost or kept, besides the random ones.
    let some: HashSet<Vec<u32>> = Choices::new(&items, &Limits::exhaustive(10_000), 1).collect();
    for bits in 0..256_u32 {
        for others in 0..2 {
            let choice: Vec<u32> = (0..20).map(|at| if at < 8 { bits >> at & 1 } else { others }).collect();
            assert!(some.contains(&choice), "{choice:?}");
        }
    }
}
