//! Calls that fail, lie, or do less than they were asked to.

use super::*;

#[test]
fn a_fault_fails_the_call_with_its_number_and_only_that() {
    let (fs, file) = with_file(b"old");
    fs.plan(Fault::error(errno::EINTR).at_call(fs.calls() + 1));
    fs.plan(Fault::error(errno::EIO).on(Operation::Write).name("a").skip(2));
    assert_eq!(file.len().unwrap(), 3);
    assert_eq!(errno_of(file.write_at(b"x", 0)), Some(errno::EINTR));
    file.write_at(b"y", 0).unwrap();
    assert_eq!(errno_of(file.write_at(b"z", 0)), Some(errno::EIO));
    assert!(fs.planned().is_empty());
    assert_eq!(fs.read_file("a").unwrap(), b"yld");
}

#[test]
fn writes_can_be_short_or_partial() {
    let (fs, file) = with_file(b"0000");
    fs.plan(Fault::new(Effect::Short(1)).on(Operation::Write));
    assert_eq!(file.write_at(b"12", 0).unwrap(), 1);
    fs.plan(Fault::new(Effect::PartialError { bytes: 1, errno: errno::EIO }));
    assert_eq!(errno_of(file.write_at(b"34", 1)), Some(errno::EIO));
    assert_eq!(fs.read_file("a").unwrap(), b"1300");
}

#[test]
fn a_failed_sync_drops_dirty_pages_that_are_still_read_and_the_next_sync_succeeds() {
    let (fs, file) = with_file(b"old");
    let (other, third) = (open(&fs, "a"), open(&fs, "a"));
    file.write_at(b"new", 0).unwrap();
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
    assert_eq!(errno_of(file.sync_data()), Some(errno::EIO));
    file.sync_data().unwrap();
    assert_eq!(errno_of(other.sync_data()), Some(errno::EIO), "each descriptor hears of it once");
    assert_eq!(errno_of(third.sync_data()), Some(errno::EIO));
    other.sync_data().unwrap();
    assert_eq!(fs.read_file("a").unwrap(), b"new");
    assert_eq!(contents(&fs, "a"), BTreeSet::from([Some(b"old".to_vec())]));
    let evicted = fs.kill();
    evicted.drop_caches();
    assert_eq!(evicted.read_file("a").unwrap(), b"old");
    file.write_at(b"n", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new", "a rewritten sector becomes durable");
}

#[test]
fn a_failed_flush_leaves_no_trace_and_the_data_undecided() {
    let (fs, file) = with_file(b"old");
    fs.configure(|config| config.sync_failure = SyncFailure::Ext4Like);
    let other = open(&fs, "a");
    file.write_at(b"new", 0).unwrap();
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
    assert_eq!(errno_of(file.sync_data()), Some(errno::EIO));
    other.sync_data().unwrap();
    file.sync_data().unwrap();
    assert_eq!(contents(&fs, "a").len(), 2);
    file.write_at(b"few", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(contents(&fs, "a"), BTreeSet::from([Some(b"few".to_vec())]));
}

#[test]
fn what_was_written_again_and_synced_after_a_failed_flush_outlives_the_cache() {
    let (fs, file) = with_file(&[1; 2 * SECTOR]);
    fs.configure(|config| config.sync_failure = SyncFailure::Ext4Like);
    file.write_at(&[2; 2 * SECTOR], 0).unwrap();
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
    assert!(file.sync_data().is_err());
    file.write_at(&[3; SECTOR], 0).unwrap();
    file.sync_data().unwrap();
    fs.drop_caches();
    let now = fs.read_file("a").unwrap();
    assert_eq!((now[0], now[SECTOR]), (3, 2));
    assert_eq!(lost(&fs).read_file("a").unwrap()[..SECTOR], [3; SECTOR]);
}

#[test]
fn a_failed_flush_shuts_xfs_down_and_makes_btrfs_read_only() {
    for (failure, error, readable) in
        [(SyncFailure::XfsLike, errno::EIO, false), (SyncFailure::BtrfsLike, errno::EROFS, true)]
    {
        let (fs, file) = with_file(b"old");
        fs.configure(|config| config.sync_failure = failure);
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
        assert_eq!(errno_of(file.sync_data()), Some(errno::EIO));
        assert_eq!(errno_of(file.write_at(b"x", 0)), Some(error));
        assert_eq!(errno_of(fs.open_dir(Path::new("/")).and_then(|dir| dir.remove("a"))), Some(error));
        assert_eq!(file.read_at(&mut [0], 0).is_ok(), readable);
        open(&lost(&fs), "a").write_at(b"x", 0).unwrap();
    }
}

#[test]
fn a_failed_directory_sync_is_not_made_good_by_the_next_one() {
    let fs = SimFs::new(1);
    let dir = root(&fs);
    dir.open("a", OpenMode::CreateNew).unwrap();
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncDir));
    assert_eq!(errno_of(dir.sync()), Some(errno::EIO));
    dir.sync().unwrap();
    assert_eq!(contents(&fs, "a").len(), 2);
}

#[test]
fn a_lying_flush_says_ok_and_persists_nothing() {
    let (fs, file) = with_file(b"old");
    file.write_at(b"new", 0).unwrap();
    fs.plan(Fault::new(Effect::Lie).on(Operation::SyncData));
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"old");
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new", "the device was honest the second time");
}

#[test]
fn a_call_may_do_its_work_and_fail_all_the_same() {
    let (fs, file) = with_file(b"old");
    file.write_at(b"new", 0).unwrap();
    fs.plan(Fault::new(Effect::DoneButError(errno::EIO)).on(Operation::SyncData));
    assert_eq!(errno_of(file.sync_data()), Some(errno::EIO));
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new");
}

#[test]
fn a_full_file_system_takes_what_fits_and_removal_makes_room() {
    let fs = SimFs::with_config(SimConfig { capacity: Some(8192), ..SimConfig::default() });
    let dir = root(&fs);
    let file = dir.open("a", OpenMode::CreateNew).unwrap();
    file.set_len(1 << 20).unwrap();
    assert_eq!(file.write_at(&[1; 10_000], 0).unwrap(), 8192);
    assert_eq!(errno_of(file.write_at(&[1], 8192)), Some(errno::ENOSPC));
    file.write_at(&[2], 0).unwrap();
    fs.configure(|config| config.copy_on_write = true);
    assert_eq!(errno_of(file.write_at(&[2], 0)), Some(errno::ENOSPC));
    dir.remove("a").unwrap();
    assert_eq!(fs.space_used(), 8192, "an open file keeps its space");
    drop(file);
    assert_eq!(fs.space_used(), 0);
    assert_eq!(dir.open("b", OpenMode::CreateNew).unwrap().write_at(&[1; 4096], 0).unwrap(), 4096);
}

#[test]
fn a_file_cannot_grow_past_the_limit() {
    let (fs, file) = with_file(b"");
    fs.configure(|config| config.file_size_max = 10);
    assert_eq!(file.write_at(&[1; 20], 0).unwrap(), 10);
    assert_eq!(errno_of(file.write_at(&[1], u64::MAX)), Some(errno::EFBIG));
    assert_eq!(errno_of(file.set_len(11)), Some(errno::EFBIG));
    assert_eq!(file.read_at(&mut [0], u64::MAX).unwrap(), 0);
}
