//! Names: what the sync of a directory promises, and what a crash does without it.

use super::*;

#[test]
fn syncing_a_file_does_not_make_its_name_durable() {
    let fs = SimFs::new(1);
    let dir = root(&fs);
    let file = dir.open("a", OpenMode::CreateNew).unwrap();
    file.write_at(b"x", 0).unwrap();
    file.sync_all().unwrap();
    assert!(lost(&fs).names("/").unwrap().is_empty());
    dir.sync().unwrap();
    assert_eq!(lost(&fs).read_file("a").unwrap(), b"x");
}

#[test]
fn a_removed_name_may_come_back_until_the_directory_is_synced() {
    let (fs, file) = with_file(b"x");
    drop(file);
    let dir = root(&fs);
    dir.remove("a").unwrap();
    assert_eq!(contents(&fs, "a"), BTreeSet::from([None, Some(b"x".to_vec())]));
    dir.sync().unwrap();
    assert_eq!(contents(&fs, "a"), BTreeSet::from([None]));
}

#[test]
fn a_rename_is_atomic_for_its_new_name_and_may_leave_the_old_one() {
    let (fs, _file) = with_file(b"old");
    fs.write_file("b", b"new").unwrap();
    root(&fs).rename("b", "a").unwrap();
    let read = |after: &SimFs, name: &str| after.read_file(name).ok().map(|bytes| String::from_utf8(bytes).unwrap());
    let outcomes: BTreeSet<_> = fs
        .outcomes(4)
        .unwrap()
        .map(|plan| fs.crash(&plan))
        .map(|after| (read(&after, "a").unwrap(), read(&after, "b")))
        .collect();
    let new = || "new".to_owned();
    assert_eq!(outcomes, BTreeSet::from([("old".to_owned(), Some(new())), (new(), None), (new(), Some(new()))]));
    fs.configure(|config| config.rename_may_lose_file = true);
    let lost = fs
        .outcomes(4)
        .unwrap()
        .map(|plan| fs.crash(&plan))
        .any(|after| read(&after, "a").as_deref() == Some("old") && read(&after, "b").is_none());
    assert!(lost);
}

#[test]
fn a_new_directory_needs_the_sync_of_its_parent() {
    let fs = SimFs::new(1);
    fs.create_dir(Path::new("/d")).unwrap();
    assert_eq!(fs.create_dir(Path::new("d")).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
    let inner = fs.open_dir(Path::new("/d")).unwrap();
    inner.open("a", OpenMode::CreateNew).unwrap();
    inner.sync().unwrap();
    assert!(lost(&fs).names("/").unwrap().is_empty());
    root(&fs).sync().unwrap();
    assert_eq!(lost(&fs).names("/").unwrap(), ["d/"]);
    assert_eq!(lost(&fs).names("/d").unwrap(), ["a"]);
}

#[test]
fn a_chain_of_renames_never_loses_a_durable_file() {
    let (fs, _file) = with_file(b"x");
    let dir = root(&fs);
    for (from, to) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "d")] {
        dir.rename(from, to).unwrap();
    }
    for plan in fs.outcomes(8).unwrap() {
        let after = fs.crash(&plan);
        let names = after.names("/").unwrap();
        assert!(!names.is_empty());
        assert!(names.iter().all(|name| after.read_file(name).unwrap() == b"x"));
    }
    dir.sync().unwrap();
    assert_eq!(lost(&fs).names("/").unwrap(), ["d"]);
}

#[test]
fn renaming_one_name_of_a_file_to_its_other_name_does_nothing() {
    let (fs, _file) = with_file(b"x");
    root(&fs).rename("a", "b").unwrap();
    let both = fs.outcomes(2).unwrap().map(|plan| fs.crash(&plan)).find(|after| after.names("/").unwrap().len() == 2);
    let after = both.unwrap();
    root(&after).rename("a", "b").unwrap();
    assert_eq!(after.names("/").unwrap(), ["a", "b"]);
    open(&after, "a").write_at(b"y", 0).unwrap();
    assert_eq!(after.read_file("b").unwrap(), b"y");
    root(&after).remove("a").unwrap();
    root(&after).sync().unwrap();
    assert_eq!(after.read_file("b").unwrap(), b"y");
}

#[test]
fn files_that_never_had_a_durable_name_take_up_nothing_after_their_removal_is_synced() {
    let fs = SimFs::with_config(SimConfig { capacity: Some(4096), ..SimConfig::default() });
    let dir = root(&fs);
    for _ in 0..10 {
        dir.open("tmp", OpenMode::CreateNew).unwrap().write_at(&[1; 4096], 0).unwrap();
        dir.remove("tmp").unwrap();
    }
    dir.sync().unwrap();
    assert!(fs.undecided().is_empty());
    assert_eq!(fs.space_used(), 0);
}
