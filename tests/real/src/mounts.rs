//! Directories, mounts and loop devices of a run, and how they are taken down.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::UnmountFlags;

const PREFIX: &str = "wal-power-cut.";

/// Where the two files of the device are.
pub fn device_dir(dir: &Path) -> PathBuf {
    dir.join("device")
}

/// Where the file system on the device is mounted.
pub fn mount_dir(dir: &Path) -> PathBuf {
    dir.join("mounted")
}

/// Makes the directory of a run, which carries the number of this process.
///
/// # Errors
///
/// What the operating system says.
pub fn set_up() -> io::Result<PathBuf> {
    let dir = std::env::temp_dir().join(format!("{PREFIX}{}", std::process::id()));
    for part in [dir.clone(), device_dir(&dir), mount_dir(&dir)] {
        fs::create_dir(part)?;
    }
    Ok(dir)
}

/// Takes down everything that belongs to the run in `dir`, in whatever state it is. What is not there is not missed.
pub fn take_down(dir: &Path) {
    let unmount = |path: PathBuf| rustix::mount::unmount(path, UnmountFlags::DETACH).is_ok();
    unmount(mount_dir(dir));
    for device in loop_devices_over(&device_dir(dir)) {
        let detached = Command::new("losetup").arg("--detach").arg(device).stderr(Stdio::null()).status();
        drop(detached);
    }
    unmount(device_dir(dir));
    // Only what is empty is removed: nothing below a mount that may have stayed is ever touched.
    for part in [mount_dir(dir), device_dir(dir), dir.to_path_buf()] {
        drop(fs::remove_dir(part));
    }
}

fn loop_devices_over(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir("/sys/block") else { return Vec::new() };
    let is_over = |entry: &fs::DirEntry| {
        let file = fs::read_to_string(entry.path().join("loop/backing_file"));
        file.is_ok_and(|file| Path::new(file.trim_end()).starts_with(dir))
    };
    entries.flatten().filter(is_over).map(|entry| Path::new("/dev").join(entry.file_name())).collect()
}

/// Takes down what runs left that were killed together with their device.
pub fn sweep() {
    let Ok(entries) = fs::read_dir(std::env::temp_dir()) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let process =
            name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|rest| rest.parse::<u32>().ok());
        if process.is_some_and(|process| !Path::new("/proc").join(process.to_string()).exists()) {
            take_down(&entry.path());
        }
    }
}
