//! What is measured of real file systems, and what is crueller than all of them.

use super::*;

fn like(profile: Profile) -> (SimFs, Arc<dyn File>) {
    let fs = SimFs::with_config(SimConfig::profile(profile, 1));
    fs.write_file("a", b"old").unwrap();
    let file = open(&fs, "a");
    (fs, file)
}

fn can_write(fs: &SimFs) -> bool {
    fs.open_dir(Path::new("/")).and_then(|dir| dir.open("probe", OpenMode::CreateNew)).is_ok()
}

const MEASURED: [Profile; 4] = [Profile::Ext4Ordered, Profile::Ext4Writeback, Profile::Xfs, Profile::Btrfs];

#[test]
fn after_a_data_block_failed_each_descriptor_hears_once_reads_lie_until_eviction_and_a_hole_stays() {
    for profile in MEASURED {
        let (fs, file) = like(profile);
        let other = open(&fs, "a");
        file.write_at(b"new", 0).unwrap();
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
        assert_eq!(errno_of(file.sync_data()), Some(errno::EIO), "{profile:?}");
        file.sync_data().unwrap();
        assert_eq!(errno_of(other.sync_data()), Some(errno::EIO), "{profile:?}");
        other.sync_data().unwrap();
        assert_eq!(fs.read_file("a").unwrap(), b"new");
        file.write_at(&[1; SECTOR], SECTOR as u64).unwrap();
        file.sync_data().unwrap();
        fs.drop_caches();
        let now = fs.read_file("a").unwrap();
        assert_eq!((&now[..3], now[SECTOR]), (&b"old"[..], 1), "{profile:?}");
    }
}

#[test]
fn after_a_failed_flush_ext4_goes_on_without_a_trace_xfs_shuts_down_and_btrfs_is_read_only() {
    for profile in MEASURED {
        let (fs, file) = like(profile);
        let other = open(&fs, "a");
        file.write_at(b"new", 0).unwrap();
        fs.plan(Fault::new(Effect::FlushError(errno::EIO)).on(Operation::SyncData));
        assert_eq!(errno_of(file.sync_data()), Some(errno::EIO), "{profile:?}");
        let (retry, others) = (file.sync_data().is_ok(), other.sync_data().is_ok());
        let mut buf = [0; 3];
        let reads = file.read_at(&mut buf, 0).is_ok();
        let state = (retry && others, reads, can_write(&fs));
        let expected = match profile {
            Profile::Xfs => (false, false, false),
            Profile::Btrfs => (false, true, false),
            _ => (true, true, true),
        };
        assert_eq!(state, expected, "{profile:?}");
        assert!(can_write(&lost(&fs)), "{profile:?} is mounted again after a boot");
    }
}

#[test]
fn pages_that_a_failed_sync_keeps_are_durable_after_the_next() {
    let (fs, file) = with_file(b"old");
    let other = open(&fs, "a");
    fs.configure(|config| config.sync_failure = SyncFailure::PagesKept);
    file.write_at(b"new", 0).unwrap();
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncAll));
    assert_eq!(errno_of(file.sync_all()), Some(errno::EIO));
    assert_eq!(contents(&fs, "a").len(), 2);
    assert_eq!(errno_of(other.sync_all()), Some(errno::EIO), "each descriptor hears of it");
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"new");
}

#[test]
fn the_cruellest_failed_sync_drops_keeps_persists_or_leaves_open_each_write() {
    let outcomes: BTreeSet<Vec<u8>> = (0..40)
        .map(|seed| {
            let fs = SimFs::with_config(SimConfig::profile(Profile::Cruellest, seed));
            fs.write_file("a", &[0; 4 * SECTOR]).unwrap();
            let file = open(&fs, "a");
            for sector in 0..4 {
                file.write_at(&[1; SECTOR], sector * SECTOR as u64).unwrap();
            }
            fs.plan(Fault::error(errno::EIO).on(Operation::SyncData));
            assert!(file.sync_data().is_err());
            let retried = fs.kill();
            open(&retried, "a").sync_data().unwrap();
            let firsts =
                |fs: &SimFs| fs.read_file("a").unwrap().chunks(SECTOR).map(|sector| sector[0]).collect::<Vec<_>>();
            [firsts(&lost(&fs)), firsts(&lost(&retried))].concat()
        })
        .collect();
    let has = |at: usize, byte: u8| outcomes.iter().any(|outcome| outcome[at] == byte);
    assert!((0..8).all(|at| has(at, 0) && has(at, 1)), "{outcomes:?}");
    assert!(
        outcomes.iter().any(|outcome| (0..4).any(|at| outcome[at] == 0 && outcome[at + 4] == 1)),
        "a retry helps some"
    );
}

#[test]
fn a_missing_sync_of_the_directory_shows_on_the_cruellest_profile_only() {
    for profile in Profile::ALL {
        let fs = SimFs::with_config(SimConfig::profile(profile, 1));
        let file = root(&fs).open("new", OpenMode::CreateNew).unwrap();
        file.write_at(b"x", 0).unwrap();
        file.sync_all().unwrap();
        let is_there = lost(&fs).read_file("new").is_ok_and(|bytes| bytes == b"x");
        assert_eq!(is_there, profile != Profile::Cruellest, "{profile:?}");
    }
}

#[test]
fn a_journal_keeps_the_changes_of_names_in_their_order() {
    let fs = SimFs::with_config(SimConfig::profile(Profile::Xfs, 1));
    fs.create_dir(Path::new("/d")).unwrap();
    root(&fs).sync().unwrap();
    let dirs = [root(&fs), fs.open_dir(Path::new("/d")).unwrap()];
    dirs[0].open("1", OpenMode::CreateNew).unwrap();
    dirs[1].open("2", OpenMode::CreateNew).unwrap();
    dirs[0].rename("1", "3").unwrap();
    dirs[1].remove("2").unwrap();
    let [item] = &fs.undecided()[..] else { panic!("only the journal is undecided: {:?}", fs.undecided()) };
    assert_eq!((item.kind, item.versions, item.newest), (UndecidedKind::Journal, 5, 4));
    let names = |after: SimFs| (after.names("/").unwrap().join(" "), after.names("/d").unwrap().join(" "));
    let outcomes: Vec<_> = fs.outcomes(1).unwrap().map(|plan| names(fs.crash(&plan))).collect();
    let expected = [("d/", ""), ("1 d/", ""), ("1 d/", "2"), ("3 d/", "2"), ("3 d/", "")];
    assert_eq!(outcomes, expected.map(|(root, inner)| (root.to_owned(), inner.to_owned())));
    dirs[1].sync().unwrap();
    assert!(fs.undecided().is_empty(), "one journal for all directories");
}

#[test]
fn an_overwrite_without_new_metadata_does_not_write_the_journal() {
    let (fs, file) = like(Profile::Ext4Ordered);
    root(&fs).open("new", OpenMode::CreateNew).unwrap();
    file.write_at(b"new", 0).unwrap();
    file.sync_data().unwrap();
    assert!(lost(&fs).read_file("new").is_err());
    file.write_at(b"longer", 0).unwrap();
    file.sync_data().unwrap();
    assert!(lost(&fs).read_file("new").is_ok());
}

#[test]
fn btrfs_makes_the_own_name_of_a_synced_file_durable_and_no_other() {
    let fs = SimFs::with_config(SimConfig::profile(Profile::Btrfs, 1));
    let dir = root(&fs);
    dir.open("1", OpenMode::CreateNew).unwrap();
    dir.open("2", OpenMode::CreateNew).unwrap().sync_all().unwrap();
    assert_eq!(lost(&fs).names("/").unwrap(), ["2"]);
    fs.create_dir(Path::new("/d")).unwrap();
    fs.create_dir(Path::new("/d/e")).unwrap();
    let inner = fs.open_dir(Path::new("/d/e")).unwrap();
    inner.open("3", OpenMode::CreateNew).unwrap().sync_all().unwrap();
    inner.open("4", OpenMode::CreateNew).unwrap();
    assert_eq!(lost(&fs).names("/").unwrap(), ["2", "d/"]);
    assert_eq!(lost(&fs).names("/d/e").unwrap(), ["3"], "the path to it is durable too");
}

#[test]
fn renaming_over_a_file_hides_a_missing_sync_on_ext4_only() {
    for profile in Profile::ALL {
        let (fs, _file) = like(profile);
        let dir = root(&fs);
        dir.open("tmp", OpenMode::CreateNew).unwrap().write_at(b"new", 0).unwrap();
        dir.rename("tmp", "a").unwrap();
        dir.sync().unwrap();
        let is_hidden = lost(&fs).read_file("a").unwrap() == b"new";
        assert_eq!(is_hidden, matches!(profile, Profile::Ext4Ordered | Profile::Ext4Writeback), "{profile:?}");
    }
}

#[test]
fn a_quota_is_used_up_before_the_disk_and_has_its_own_error() {
    let fs = SimFs::with_config(SimConfig { capacity: Some(8192), quota: Some(4096), ..SimConfig::default() });
    let file = root(&fs).open("a", OpenMode::CreateNew).unwrap();
    assert_eq!(file.write_at(&[1; 8192], 0).unwrap(), 4096);
    assert_eq!(errno_of(file.write_at(&[1], 4096)), Some(errno::EDQUOT));
    fs.configure(|config| config.quota = Some(16384));
    assert_eq!(file.write_at(&[1; 4096], 4096).unwrap(), 4096);
    assert_eq!(errno_of(file.write_at(&[1], 8192)), Some(errno::ENOSPC));
}

#[test]
fn with_delayed_allocation_the_sync_finds_that_there_is_no_room() {
    let fs = SimFs::with_config(SimConfig { capacity: Some(4096), delayed_allocation: true, ..SimConfig::default() });
    let dir = root(&fs);
    let file = dir.open("a", OpenMode::CreateNew).unwrap();
    dir.sync().unwrap();
    assert_eq!(file.write_at(&[1; 4096], 0).unwrap(), 4096);
    file.sync_data().unwrap();
    assert_eq!(file.write_at(&[2; 4096], 4096).unwrap(), 4096);
    assert_eq!(errno_of(file.sync_data()), Some(errno::ENOSPC));
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), [[1; 4096], [0; 4096]].concat(), "the retry told nothing of a hole");
    let direct = dir.open("a", OpenMode::WriteDirect).unwrap();
    assert_eq!(errno_of(direct.write_at(&[3; 4096], 8192)), Some(errno::ENOSPC));
}

#[test]
fn there_may_be_no_room_for_another_file() {
    let fs = SimFs::with_config(SimConfig { files_max: Some(2), ..SimConfig::default() });
    let dir = root(&fs);
    fs.create_dir(Path::new("/d")).unwrap();
    dir.open("a", OpenMode::CreateNew).unwrap();
    assert_eq!(errno_of(dir.open("b", OpenMode::CreateNew)), Some(errno::ENOSPC));
    assert_eq!(errno_of(fs.create_dir(Path::new("/e"))), Some(errno::ENOSPC));
    dir.remove("a").unwrap();
    dir.sync().unwrap();
    dir.open("b", OpenMode::CreateNew).unwrap();
}

#[test]
fn reads_and_writes_may_be_interrupted() {
    let (fs, file) = with_file(b"old");
    fs.configure(|config| config.interrupts = true);
    let results: Vec<_> = (0..100).map(|_| file.write_at(b"x", 0)).collect();
    let interrupted = results.iter().filter(|result| result.is_err()).count();
    assert!((1..50).contains(&interrupted), "{interrupted} of 100");
    for error in results.into_iter().filter_map(Result::err) {
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
    }
    assert!((0..100).any(|_| file.read_at(&mut [0], 0).is_err()));
}

#[test]
fn two_faults_in_one_run_strike_one_after_the_other() {
    let (fs, file) = with_file(b"old");
    fs.record_trace(true);
    fs.plan(Fault::error(errno::ENOSPC).on(Operation::Write));
    fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).skip(1));
    assert_eq!(errno_of(file.write_at(b"1", 0)), Some(errno::ENOSPC));
    file.write_at(b"2", 0).unwrap();
    file.sync_data().unwrap();
    assert_eq!(errno_of(file.sync_data()), Some(errno::EIO));
    let struck: Vec<_> = fs.take_trace().iter().filter_map(|event| event.fault).collect();
    assert_eq!(struck, [Effect::Error(errno::ENOSPC), Effect::Error(errno::EIO)]);
    assert!(fs.planned().is_empty());
}

#[test]
fn a_fault_may_strike_a_share_of_the_calls() {
    let (fs, file) = with_file(b"old");
    fs.plan(Fault::error(errno::EIO).on(Operation::Len).percent(30).always());
    let failed = (0..200).filter(|_| file.len().is_err()).count();
    assert!((30..90).contains(&failed), "{failed} of 200");
}

#[test]
fn a_direct_write_whose_flush_failed_is_undecided_and_no_sync_settles_it() {
    let (fs, file) = with_file(&[1; SECTOR]);
    let direct = root(&fs).open("a", OpenMode::WriteDirect).unwrap();
    fs.plan(Fault::new(Effect::FlushError(errno::EIO)));
    assert_eq!(file.len().unwrap(), SECTOR as u64, "a flush error strikes what flushes");
    assert_eq!(errno_of(direct.write_at(&[2; SECTOR], 0)), Some(errno::EIO));
    file.sync_all().unwrap();
    assert_eq!(contents(&fs, "a").len(), 2);
}

#[test]
fn unlinks_persist_in_any_order_and_any_of_them_may_be_lost() {
    let fs = SimFs::new(1);
    for name in ["1", "2", "3"] {
        fs.write_file(name, b"x").unwrap();
    }
    for name in ["1", "2", "3"] {
        root(&fs).remove(name).unwrap();
    }
    let outcomes: BTreeSet<_> = fs.outcomes(3).unwrap().map(|plan| fs.crash(&plan).names("/").unwrap()).collect();
    assert_eq!(outcomes.len(), 8);
}
