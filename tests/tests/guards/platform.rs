//! What the operating system is asked for. No test can take the power away, so these look at the calls themselves.

use std::fs;
use std::path::Path;

use wal::fs::{FileSystem, OpenMode, RealFileSystem};
use wal::{Boundary, Config, Wal};

/// The flags with which this process has the file open, as `open(2)` takes them.
fn flags_of(path: &Path) -> u32 {
    let path = path.canonicalize().expect("the file is there");
    let entries = fs::read_dir("/proc/self/fd").expect("this process has files open");
    let descriptor = entries
        .filter_map(|entry| entry.ok())
        .find(|entry| fs::read_link(entry.path()).is_ok_and(|target| target == path))
        .expect("the file is open")
        .file_name();
    let info = fs::read_to_string(Path::new("/proc/self/fdinfo").join(descriptor)).expect("it is still open");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("its flags");
    u32::from_str_radix(flags.trim(), 8).expect("an octal number")
}

#[test]
fn a_direct_write_is_durable_when_it_returns_and_no_program_that_is_started_inherits_a_file() {
    const O_DSYNC: u32 = 0o10_000;
    const O_CLOEXEC: u32 = 0o2_000_000;
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("direct"), [0; 4096]).expect("a file");
    fs::write(dir.path().join("buffered"), [0; 4096]).expect("a file");
    let files = RealFileSystem.open_dir(dir.path()).expect("it is there");
    match files.open("direct", OpenMode::WriteDirect) {
        Ok(file) => {
            assert!(flags_of(&dir.path().join("direct")) & O_DSYNC != 0, "its writes may stay in the cache");
            drop(file);
        }
        Err(error) => println!("no direct writes here, so they are not looked at: {error}"),
    }
    let file = files.open("buffered", OpenMode::Write).expect("it is there");
    assert!(flags_of(&dir.path().join("buffered")) & O_CLOEXEC != 0, "a child would keep it open");
    drop(file);
}

#[test]
fn a_sync_reaches_the_operating_system_and_its_error_comes_back() {
    // Neither a device that is no disk nor a directory of processes can be synced, and both say so.
    let devices = RealFileSystem.open_dir(Path::new("/dev")).expect("it is there");
    let null = devices.open("null", OpenMode::Write).expect("it is there");
    null.sync_data().expect_err("nothing to sync the data of");
    null.sync_all().expect_err("nothing to sync");
    let processes = RealFileSystem.open_dir(Path::new("/proc")).expect("it is there");
    processes.sync().expect_err("nothing to sync");
}

#[test]
fn a_new_file_is_new() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("old"), b"kept").expect("a file");
    let files = RealFileSystem.open_dir(dir.path()).expect("it is there");
    let error = files.open("old", OpenMode::CreateNew).expect_err("there is one of this name");
    assert_eq!(error.kind(), std::io::ErrorKind::AlreadyExists);
}

#[test]
fn who_frees_a_file_is_told_that_another_handle_reads_it_and_whether_it_has_a_name() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("segment"), [7; 4096]).expect("a file");
    let files = RealFileSystem.open_dir(dir.path()).expect("it is there");
    let open = |mode| files.open("segment", mode).expect("it is there");
    let (reader, other) = (open(OpenMode::Read), open(OpenMode::Read));
    assert!(reader.try_lock_shared().expect("a lock") && other.try_lock_shared().expect("a lock"));
    let freeing = open(OpenMode::Write);
    drop(other);
    assert!(!freeing.try_lock_exclusive().expect("it can be asked for"), "somebody reads the file");
    let late = open(OpenMode::Read);
    assert!(freeing.has_name().expect("its names are counted"));
    files.remove("segment").expect("it is there");
    assert!(!freeing.has_name().expect("its names are counted"));
    drop(reader);
    assert!(freeing.try_lock_exclusive().expect("a lock"), "nobody has said that he reads the file");
    assert!(!late.try_lock_shared().expect("it can be asked for"), "it is being freed");
}

#[test]
fn a_segment_that_somebody_else_has_locked_keeps_its_bytes() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("log");
    let log = Wal::open(&path, Config { recycle_segments_max: 0, segment_bytes_max: 8 << 10, ..Config::default() });
    let log = log.expect("a new log");
    let lsns: Vec<_> = (0..12).map(|_| log.append(&[7; 1000]).expect("an append")).collect();
    // As a reader in another process has them.
    let open = |number: u32| fs::File::open(path.join(format!("{number:016x}.wal"))).expect("it is there");
    let files = [open(1), open(2)];
    files.iter().for_each(|file| file.lock_shared().expect("a lock"));
    let before: Vec<u64> = files.iter().map(|file| file.metadata().expect("it is open").len()).collect();
    let done = log.truncate_before(lsns[5]).expect("a truncation");
    assert_eq!((done.segments_removed, done.boundary), (1, Boundary::Rewritten));
    let after: Vec<u64> = files.iter().map(|file| file.metadata().expect("it is open").len()).collect();
    assert_eq!(before, after);
    log.close().expect("a clean close");
}
