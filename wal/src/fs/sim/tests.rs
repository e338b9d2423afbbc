//! Each promise and each cruelty of the simulated file system, by name.

mod device;
mod faults;
mod names;
mod profiles;
mod table;
mod traces;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::fs::{File, OpenMode};

const SECTOR: usize = 512;

fn root(fs: &SimFs) -> Arc<dyn Directory> {
    fs.open_dir(Path::new("/")).unwrap()
}

fn open(fs: &SimFs, name: &str) -> Arc<dyn File> {
    root(fs).open(name, OpenMode::Write).unwrap()
}

/// A file system with the durable file `a` of these bytes.
fn with_file(bytes: &[u8]) -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::new(1);
    fs.write_file("a", bytes).unwrap();
    let file = open(&fs, "a");
    (fs, file)
}

fn errno_of<T: std::fmt::Debug>(result: io::Result<T>) -> Option<i32> {
    result.unwrap_err().raw_os_error()
}

fn lost(fs: &SimFs) -> SimFs {
    fs.crash(&CrashPlan::keep_nothing())
}

/// What a file may hold after a crash.
fn contents(fs: &SimFs, name: &str) -> BTreeSet<Option<Vec<u8>>> {
    fs.outcomes(16).unwrap().map(|plan| fs.crash(&plan).read_file(name).ok()).collect()
}

#[test]
fn preallocated_space_reads_as_zeros_keeps_what_was_written_and_is_durable_once_it_is_synced() {
    let (fs, file) = with_file(&[7; 600]);
    file.write_at(&[8; SECTOR], 8192).unwrap();
    file.sync_data().unwrap();
    file.preallocate(0, 16384).unwrap();
    assert_eq!((file.len().unwrap(), fs.space_used()), (16384, 16384));
    let expected = |len| {
        let mut bytes = vec![0; len];
        bytes[..600].fill(7);
        bytes[8192..8192 + SECTOR].fill(8);
        bytes
    };
    assert_eq!(fs.read_file("a").unwrap(), expected(16384));
    assert_eq!(lost(&fs).read_file("a").unwrap(), expected(8192 + SECTOR));
    file.sync_all().unwrap();
    assert!(fs.undecided().is_empty());
    assert_eq!(lost(&fs).read_file("a").unwrap(), expected(16384));
    assert_eq!(lost(&fs).space_used(), 16384);
}

#[test]
fn preallocation_is_refused_as_a_whole_where_there_is_no_room_and_needs_none_where_there_is_space() {
    let (fs, file) = with_file(&[7; 4096]);
    fs.configure(|config| config.capacity = Some(4 * 4096));
    assert_eq!(errno_of(file.preallocate(0, 5 * 4096)), Some(errno::ENOSPC));
    assert_eq!((file.len().unwrap(), fs.space_used()), (4096, 4096));
    file.preallocate(0, 4 * 4096).unwrap();
    fs.configure(|config| config.capacity = Some(0));
    file.preallocate(4096, 4096).unwrap();
    file.write_at(&[9; 2 * 4096], 2 * 4096).unwrap();
    file.sync_data().unwrap();
    fs.configure(|config| (config.capacity, config.file_size_max) = (None, 1 << 20));
    assert_eq!(errno_of(file.preallocate(4096, 1 << 20)), Some(errno::EFBIG));
    fs.configure(|config| config.preallocation = false);
    assert_eq!(file.preallocate(0, 4096).unwrap_err().kind(), io::ErrorKind::Unsupported);
    let reader = root(&fs).open("a", OpenMode::Read).unwrap();
    fs.configure(|config| config.preallocation = true);
    assert_eq!(errno_of(reader.preallocate(0, 4096)), Some(errno::EBADF));
}

#[test]
fn what_was_synced_survives_and_nothing_else_has_to() {
    let (fs, file) = with_file(b"old");
    file.write_at(b"new!", 0).unwrap();
    assert_eq!(fs.read_file("a").unwrap(), b"new!");
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"old");
    assert_eq!(fs.crash(&CrashPlan::keep_everything()).read_file("a").unwrap(), b"new!");
    file.sync_data().unwrap();
    assert!(fs.undecided().is_empty());
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new!");
    file.write_at(b"x", 10).unwrap();
    file.sync_all().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new!\0\0\0\0\0\0x");
}

#[test]
fn any_subset_of_unsynced_sectors_survives() {
    let (fs, file) = with_file(&[1; 4 * SECTOR]);
    file.write_at(&[2; 3 * SECTOR], 0).unwrap();
    let outcomes = contents(&fs, "a");
    assert_eq!(outcomes.len(), 8);
    for bytes in outcomes.into_iter().flatten() {
        assert!(bytes.chunks(SECTOR).all(|sector| sector == [1; SECTOR] || sector == [2; SECTOR]));
        assert_eq!(bytes[3 * SECTOR..], [1; SECTOR]);
    }
}

#[test]
fn an_older_unsynced_version_of_a_sector_may_be_what_survives() {
    let (fs, file) = with_file(b"0");
    for version in [b"1", b"2", b"0"] {
        file.write_at(version, 0).unwrap();
    }
    let [item] = &fs.undecided()[..] else { panic!("one sector is undecided") };
    assert_eq!((item.kind, item.versions, item.newest), (UndecidedKind::Sector(0), 3, 0));
    let survivors: Vec<_> = contents(&fs, "a").into_iter().flatten().collect();
    assert_eq!(survivors, [b"0", b"1", b"2"]);
    assert_eq!(fs.crash(&CrashPlan::keep_everything()).read_file("a").unwrap(), b"0");
}

#[test]
fn a_mask_chooses_between_the_newest_and_the_durable_version() {
    let (fs, file) = with_file(&[1; 2 * SECTOR]);
    file.write_at(&[2; 2 * SECTOR], 0).unwrap();
    let after = fs.crash(&CrashPlan::mask(0b10)).read_file("a").unwrap();
    assert_eq!((after[0], after[SECTOR]), (1, 2));
}

#[test]
fn a_torn_sector_holds_bytes_of_two_versions() {
    let (fs, file) = with_file(&[1; SECTOR]);
    file.write_at(&[2; SECTOR], 0).unwrap();
    let is_torn = |seed| {
        let after = fs.crash(&CrashPlan::random(seed).with_torn_sectors()).read_file("a").unwrap();
        assert!(after.iter().all(|byte| [1, 2].contains(byte)));
        after.contains(&1) && after.contains(&2)
    };
    assert!((0..50).any(is_torn));
}

#[test]
fn damage_reaches_synced_neighbours_in_the_same_page_only() {
    let (fs, file) = with_file(&[1; 16 * SECTOR]);
    file.write_at(&[2; SECTOR], 0).unwrap();
    let damaged = |seed| {
        let after = fs.crash(&CrashPlan::random(seed).with_damaged_neighbours()).read_file("a").unwrap();
        assert_eq!(after[8 * SECTOR..], [1; 8 * SECTOR]);
        after[SECTOR..8 * SECTOR] != [1; 7 * SECTOR]
    };
    assert!((0..20).any(damaged));
    assert!(!(0..20).all(damaged));
}

#[test]
fn a_size_survives_independently_of_its_data() {
    let (fs, file) = with_file(b"");
    file.write_at(&[7; SECTOR], 0).unwrap();
    let expected = BTreeSet::from([Some(Vec::new()), Some(vec![0; SECTOR]), Some(vec![7; SECTOR])]);
    assert_eq!(contents(&fs, "a"), expected);
}

#[test]
fn lost_sectors_of_new_space_read_as_garbage_or_stale_bytes_if_configured() {
    let (fs, file) = with_file(b"");
    fs.write_file("removed", &[9; 4096]).unwrap();
    fs.remove_file("removed").unwrap();
    file.write_at(&[7; SECTOR], 0).unwrap();
    let size_only = CrashPlan::mask(0b01).with_seed(3);
    fs.configure(|config| config.lost_sectors = LostSectors::Stale);
    assert_eq!(fs.crash(&size_only).read_file("a").unwrap(), [9; SECTOR]);
    fs.configure(|config| config.lost_sectors = LostSectors::Garbage);
    let garbage = fs.crash(&size_only).read_file("a").unwrap();
    assert!(garbage != [9; SECTOR] && garbage != [0; SECTOR] && garbage != [7; SECTOR]);
    assert_eq!(garbage, fs.crash(&size_only).read_file("a").unwrap());
}

#[test]
fn cutting_and_growing_reads_zeros_now_and_may_bring_old_bytes_back_after_a_crash() {
    let (fs, file) = with_file(&[1; 2 * SECTOR]);
    file.set_len(100).unwrap();
    file.set_len(2 * SECTOR as u64).unwrap();
    assert_eq!(fs.read_file("a").unwrap()[100..], [0; 2 * SECTOR - 100]);
    let outcomes = contents(&fs, "a");
    assert!(outcomes.contains(&Some(vec![1; 2 * SECTOR])));
    assert!(outcomes.contains(&Some(vec![1; 100])));
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), fs.read_file("a").unwrap());
}

#[test]
fn cutting_many_pages_and_growing_again_is_zero_after_a_sync() {
    let (fs, file) = with_file(&[1; 40_000]);
    file.set_len(0).unwrap();
    file.set_len(40_000).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), [0; 40_000]);
}

#[test]
fn direct_writes_are_aligned_and_durable_when_they_return() {
    let (fs, file) = with_file(&[1; 2 * SECTOR]);
    file.write_at(&[2; SECTOR], SECTOR as u64).unwrap();
    let direct = root(&fs).open("a", OpenMode::WriteDirect).unwrap();
    assert_eq!(direct.write_at(&[3; SECTOR], 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(direct.write_at(&[3; 10], 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    direct.write_at(&[3; SECTOR], 0).unwrap();
    let after = lost(&fs).read_file("a").unwrap();
    assert_eq!((after[0], after[SECTOR]), (3, 1), "only the direct write is durable");
    fs.configure(|config| config.direct_writes = false);
    let refused = root(&fs).open("a", OpenMode::WriteDirect).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn unsynced_direct_writes_are_aligned_and_durable_after_a_sync() {
    let (fs, _file) = with_file(&[1; SECTOR]);
    let direct = root(&fs).open("a", OpenMode::WriteDirectUnsynced).unwrap();
    assert_eq!(direct.write_at(&[3; SECTOR], 1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    direct.write_at(&[3; SECTOR], 0).unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap()[0], 1, "nothing was synced");
    direct.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap()[0], 3);
    fs.configure(|config| config.direct_writes = false);
    assert!(root(&fs).open("a", OpenMode::WriteDirectUnsynced).is_err());
}

#[test]
fn a_flipped_bit_is_on_the_disk() {
    let (fs, file) = with_file(&[0, 0]);
    file.write_at(&[8], 0).unwrap();
    fs.flip_bit("a", 0, 0).unwrap();
    assert_eq!(fs.read_file("a").unwrap(), [9, 0]);
    assert_eq!(contents(&fs, "a"), BTreeSet::from([Some(vec![1, 0]), Some(vec![9, 0])]));
    assert_eq!(fs.flip_bit("a", 2, 0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn files_can_be_read_written_copied_and_removed_from_outside() {
    let (fs, _file) = with_file(b"x");
    fs.copy_file("a", "b").unwrap();
    fs.remove_file("a").unwrap();
    let calls = fs.calls();
    assert_eq!(
        (lost(&fs).names("/").unwrap(), lost(&fs).read_file("b").unwrap()),
        (vec!["b".to_owned()], b"x".to_vec())
    );
    assert_eq!(fs.calls(), calls);
}

#[test]
fn all_calls_fail_from_the_planned_crash_on() {
    let (fs, file) = with_file(b"old");
    fs.crash_at(fs.calls() + 1);
    file.write_at(b"new", 0).unwrap();
    assert!(!fs.is_crashed());
    for result in [file.sync_data(), file.set_len(0), fs.open_dir(Path::new("/")).map(drop)] {
        let error = result.unwrap_err();
        assert!(SimFs::is_simulated_crash(&error));
        assert_eq!((error.kind(), error.to_string().as_str()), (io::ErrorKind::Other, "simulated crash"));
    }
    assert!(fs.is_crashed());
    assert_eq!(fs.crash(&CrashPlan::keep_everything()).read_file("a").unwrap(), b"new");
}

#[test]
fn one_run_keeps_every_point_at_which_it_can_crash() {
    let (fs, file) = with_file(b"old");
    fs.keep_crash_points(true);
    file.write_at(b"new", 0).unwrap();
    file.len().unwrap();
    file.sync_data().unwrap();
    let points = fs.take_crash_points();
    let undecided: Vec<_> = points.iter().map(|(call, fs)| (*call, fs.undecided().len())).collect();
    assert_eq!(undecided, [(2, 0), (4, 1)]);
}

#[test]
fn death_of_the_process_keeps_what_was_written_but_makes_nothing_durable() {
    let (fs, file) = with_file(b"old");
    let _lock = root(&fs).try_lock("a").unwrap().unwrap();
    file.write_at(b"new", 0).unwrap();
    let after = fs.kill();
    assert_eq!(after.read_file("a").unwrap(), b"new");
    assert!(root(&after).try_lock("a").unwrap().is_some());
    assert_eq!(lost(&after).read_file("a").unwrap(), b"old");
    open(&after, "a").sync_data().unwrap();
    assert_eq!(lost(&after).read_file("a").unwrap(), b"new");
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"old", "the two are independent");
}

#[test]
fn a_lock_is_exclusive_until_its_guard_is_dropped_or_the_machine_crashes() {
    let fs = SimFs::new(1);
    let guard = root(&fs).try_lock("lock").unwrap();
    assert!(guard.is_some());
    assert!(root(&fs).try_lock("lock").unwrap().is_none());
    assert!(root(&lost(&fs)).try_lock("lock").unwrap().is_some());
    drop(guard);
    assert!(root(&fs).try_lock("lock").unwrap().is_some());
}

#[test]
fn bad_input_is_an_error() {
    let (fs, _file) = with_file(b"x");
    let dir = root(&fs);
    for name in ["", ".", "..", "a/b", "nul\0"] {
        assert_eq!(dir.open(name, OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    }
    assert_eq!(errno_of(dir.open(&"x".repeat(256), OpenMode::CreateNew)), Some(errno::ENAMETOOLONG));
    assert_eq!(dir.open("none", OpenMode::Write).unwrap_err().kind(), io::ErrorKind::NotFound);
    assert_eq!(dir.open("a", OpenMode::CreateNew).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(errno_of(dir.open("a", OpenMode::Read).unwrap().write_at(b"x", 0)), Some(errno::EBADF));
    assert_eq!(fs.open_dir(Path::new("/a/..")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(fs.open_dir(Path::new("/a")).unwrap_err().kind(), io::ErrorKind::NotADirectory);
    assert_eq!(fs.create_dir(Path::new("/none/b")).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn random_crashes_agree_with_a_naive_model_of_synced_bytes() {
    for seed in 0..300 {
        let mut rng = rng::Rng::new(seed);
        let (fs, file) = with_file(b"");
        let mut model = Vec::new();
        for _ in 0..rng.below(12) + 1 {
            let (offset, length) = (rng.below(9000), rng.below(3000));
            if rng.percent(25) {
                file.set_len(offset as u64).unwrap();
                model.resize(offset, 0);
            } else if length > 0 {
                let bytes = vec![rng.next() as u8; length];
                assert_eq!(file.write_at(&bytes, offset as u64).unwrap(), length);
                model.resize(model.len().max(offset + length), 0);
                model[offset..offset + length].copy_from_slice(&bytes);
            }
            assert_eq!(fs.read_file("a").unwrap(), model);
            assert_eq!(fs.crash(&CrashPlan::keep_everything()).read_file("a").unwrap(), model);
            if rng.percent(30) {
                file.sync_data().unwrap();
                assert_eq!(fs.crash(&CrashPlan::random(seed)).read_file("a").unwrap(), model);
            }
        }
    }
}
