//! What the operating system is asked for. No test can take the power away, so these look at the calls themselves.

use std::fs;
use std::path::Path;

use wal::fs::{FileSystem, OpenMode, RealFileSystem};

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
