//! A device that loses, misplaces or spoils what it was given.

use super::*;

/// Three durable files of one page each: `a` of 1, `b` of 2, `c` of 3.
fn three_files() -> SimFs {
    let fs = SimFs::new(1);
    for (name, byte) in [("a", 1), ("b", 2), ("c", 3)] {
        fs.write_file(name, &[byte; 4096]).unwrap();
    }
    fs
}

#[test]
fn a_misdirected_write_is_lost_at_its_place_and_damages_another() {
    let (fs, file) = with_file(&[1; 4 * SECTOR]);
    fs.plan(Fault::new(Effect::Misdirect(2 * SECTOR as u64)).on(Operation::Write));
    assert_eq!(file.write_at(&[7; SECTOR], 0).unwrap(), SECTOR);
    assert_eq!(fs.read_file("a").unwrap()[..SECTOR], [7; SECTOR], "the page cache has it where it belongs");
    file.sync_all().unwrap();
    let after = lost(&fs).read_file("a").unwrap();
    assert_eq!(after[..2 * SECTOR], [1; 2 * SECTOR]);
    assert_eq!(after[2 * SECTOR..3 * SECTOR], [7; SECTOR]);
    assert_eq!(after[3 * SECTOR..], [1; SECTOR]);
}

#[test]
fn a_misdirected_write_makes_no_file_longer() {
    let (fs, file) = with_file(&[1; SECTOR]);
    fs.plan(Fault::new(Effect::Misdirect(SECTOR as u64 - 1)).on(Operation::Write));
    file.write_at(&[7; SECTOR], 0).unwrap();
    file.sync_all().unwrap();
    let after = lost(&fs).read_file("a").unwrap();
    assert_eq!((after.len(), after[SECTOR - 2], after[SECTOR - 1]), (SECTOR, 1, 7));
}

#[test]
fn a_misdirected_direct_write_is_not_even_in_the_cache() {
    let (fs, _file) = with_file(&[1; 2 * SECTOR]);
    let direct = root(&fs).open("a", OpenMode::WriteDirect).unwrap();
    fs.plan(Fault::new(Effect::Misdirect(SECTOR as u64)).on(Operation::Write));
    direct.write_at(&[7; SECTOR], 0).unwrap();
    let now = fs.read_file("a").unwrap();
    assert_eq!((now[0], now[SECTOR]), (1, 7));
    assert_eq!(lost(&fs).read_file("a").unwrap(), now);
}

#[test]
fn a_write_to_the_wrong_file_damages_that_and_a_read_returns_its_bytes() {
    let fs = three_files();
    fs.plan(Fault::new(Effect::WrongFile).on(Operation::Write).name("b"));
    open(&fs, "b").write_at(&[7; SECTOR], 512).unwrap();
    open(&fs, "b").sync_all().unwrap();
    let after = lost(&fs);
    assert_eq!(after.read_file("a").unwrap(), [1; 4096]);
    assert_eq!(after.read_file("b").unwrap(), [2; 4096]);
    assert_eq!(after.read_file("c").unwrap()[512..1024], [7; SECTOR]);
    fs.plan(Fault::new(Effect::WrongFile).on(Operation::Read));
    let mut buf = [0; 4];
    assert_eq!(open(&fs, "c").read_at(&mut buf, 0).unwrap(), 4);
    assert_eq!(buf, [1; 4], "behind the last file comes the first");
    fs.plan(Fault::new(Effect::Misdirect(512)).on(Operation::Read));
    open(&fs, "c").read_at(&mut buf, 0).unwrap();
    assert_eq!(buf, [7; 4]);
}

#[test]
fn a_lost_write_is_read_until_the_cache_is_dropped_and_no_sync_saves_it() {
    let (fs, file) = with_file(&[1; 2 * SECTOR]);
    fs.plan(Fault::new(Effect::LostWrite).on(Operation::Write));
    file.write_at(&[7; SECTOR], 0).unwrap();
    file.write_at(&[8; SECTOR], SECTOR as u64).unwrap();
    file.sync_all().unwrap();
    assert_eq!(fs.read_file("a").unwrap()[0], 7);
    let after = lost(&fs).read_file("a").unwrap();
    assert_eq!((after[0], after[SECTOR]), (1, 8));
    fs.drop_caches();
    assert_eq!(fs.read_file("a").unwrap(), after);
}

#[test]
fn a_lost_write_that_grew_the_file_leaves_a_hole_behind_which_later_writes_are_durable() {
    let (fs, file) = with_file(b"");
    fs.plan(Fault::new(Effect::LostWrite).on(Operation::Write));
    file.write_at(&[7; SECTOR], 0).unwrap();
    file.write_at(&[8; SECTOR], SECTOR as u64).unwrap();
    file.sync_data().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), [[0; SECTOR], [8; SECTOR]].concat());
}

#[test]
fn a_late_write_back_error_is_told_once_to_each_descriptor_that_was_open_and_to_no_other() {
    let (fs, file) = with_file(b"old");
    let other = open(&fs, "a");
    fs.plan(Fault::new(Effect::WriteBackError(errno::EIO)).on(Operation::Write));
    file.write_at(b"new", 0).unwrap();
    let late = open(&fs, "a");
    late.sync_all().unwrap();
    for descriptor in [&file, &other] {
        assert_eq!(errno_of(descriptor.sync_all()), Some(errno::EIO));
        descriptor.sync_all().unwrap();
    }
    assert_eq!(fs.read_file("a").unwrap(), b"new");
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"old");
}

#[test]
fn an_error_of_write_back_is_lost_when_the_file_is_closed_before_it_is_asked_for() {
    let (fs, file) = with_file(b"old");
    file.write_at(b"new", 0).unwrap();
    fs.fail_write_back("a", errno::EIO).unwrap();
    drop(file);
    open(&fs, "a").sync_all().unwrap();
    assert_eq!(contents(&fs, "a"), BTreeSet::from([Some(b"old".to_vec())]));
}

#[test]
fn an_unreadable_sector_stops_reads_survives_a_crash_and_is_mended_by_a_write() {
    let (fs, _file) = with_file(&[1; 4 * SECTOR]);
    fs.make_unreadable("a", SECTOR as u64 + 5, 10).unwrap();
    let fs = lost(&fs);
    let file = open(&fs, "a");
    let mut buf = [0; 4 * SECTOR];
    assert_eq!(file.read_at(&mut buf, 100).unwrap(), SECTOR - 100);
    assert_eq!(errno_of(file.read_at(&mut buf, SECTOR as u64)), Some(errno::EIO));
    assert_eq!(errno_of(file.read_at(&mut buf, 2 * SECTOR as u64 - 1)), Some(errno::EIO));
    assert_eq!(file.read_at(&mut buf, 2 * SECTOR as u64).unwrap(), 2 * SECTOR);
    assert_eq!(file.read_at(&mut buf, 4 * SECTOR as u64).unwrap(), 0, "the end of the file is not in it");
    file.write_at(&[2; SECTOR], SECTOR as u64).unwrap();
    assert_eq!(file.read_at(&mut buf, 0).unwrap(), 4 * SECTOR);
}

#[test]
fn unreadable_sectors_go_with_the_end_of_the_file() {
    let (fs, file) = with_file(&[1; 4 * SECTOR]);
    fs.make_unreadable("a", 0, 4 * SECTOR as u64).unwrap();
    file.set_len(SECTOR as u64).unwrap();
    file.set_len(4 * SECTOR as u64).unwrap();
    assert_eq!(errno_of(file.read_at(&mut [0], 0)), Some(errno::EIO));
    assert_eq!(file.read_at(&mut [0; 9], SECTOR as u64).unwrap(), 9);
}

#[test]
fn a_bit_flips_on_the_way_to_the_disk_or_back() {
    let (fs, file) = with_file(&[0; 4]);
    fs.plan(Fault::new(Effect::FlipBit(9)).on(Operation::Write));
    file.write_at(&[0, 0], 0).unwrap();
    file.sync_all().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), [0, 2, 0, 0]);
    fs.plan(Fault::new(Effect::FlipBit(32)).on(Operation::Read));
    let mut buf = [0; 4];
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf, [1, 2, 0, 0]);
    file.read_at(&mut buf, 0).unwrap();
    assert_eq!(buf, [0, 2, 0, 0], "the disk is as it was");
}

#[test]
fn rot_flips_one_bit_that_the_seed_picks_and_says_where() {
    let fs = three_files();
    let before: Vec<_> = ["a", "b", "c"].map(|name| fs.read_file(name).unwrap()).to_vec();
    let (path, offset, bit) = fs.rot(5).unwrap();
    let after: Vec<_> = ["a", "b", "c"].map(|name| fs.read_file(name).unwrap()).to_vec();
    let changed: Vec<_> = (0..3).filter(|file| before[*file] != after[*file]).collect();
    let [file] = changed[..] else { panic!("one file changes") };
    assert_eq!(path, ["/a", "/b", "/c"][file]);
    assert_eq!(after[file][offset as usize], before[file][offset as usize] ^ 1 << bit);
    assert_eq!(three_files().rot(5), Some((path, offset, bit)));
    assert_eq!(SimFs::new(1).rot(5), None);
}

#[test]
fn lost_sectors_may_hold_bytes_of_other_files_that_are_still_there() {
    let fs = three_files();
    fs.configure(|config| config.lost_sectors = LostSectors::Foreign);
    let file = root(&fs).open("new", OpenMode::CreateNew).unwrap();
    root(&fs).sync().unwrap();
    file.write_at(&[7; 8 * SECTOR], 0).unwrap();
    let foreign = fs.crash(&CrashPlan::mask(1).with_seed(4)).read_file("new").unwrap();
    assert!(foreign.chunks(SECTOR).all(|sector| [1, 2, 3].iter().any(|byte| sector == [*byte; SECTOR])));
}

#[test]
fn lost_sectors_of_any_kind_are_zeros_garbage_stale_and_foreign() {
    let fs = three_files();
    fs.write_file("removed", &[9; 4096]).unwrap();
    fs.remove_file("removed").unwrap();
    fs.configure(|config| config.lost_sectors = LostSectors::Any);
    let file = root(&fs).open("new", OpenMode::CreateNew).unwrap();
    root(&fs).sync().unwrap();
    file.write_at(&[7; 64 * SECTOR], 0).unwrap();
    let after = fs.crash(&CrashPlan::mask(1).with_seed(4)).read_file("new").unwrap();
    let kinds = |byte: u8| after.chunks(SECTOR).filter(|sector| sector.iter().all(|other| *other == byte)).count();
    let known = kinds(0) + kinds(9) + kinds(1) + kinds(2) + kinds(3);
    assert!(kinds(0) > 5 && kinds(9) > 5 && kinds(1) + kinds(2) + kinds(3) > 5 && 64 - known > 5);
}
