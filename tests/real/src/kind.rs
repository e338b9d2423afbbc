//! The file systems, and what making one takes.

use std::io;
use std::path::Path;
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// A file system, and how its data is journaled where that can be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
pub enum FsKind {
    /// ext4, `data=ordered`.
    Ext4,
    /// ext4, `data=writeback`.
    Ext4Writeback,
    /// ext4, `data=journal`.
    Ext4Journal,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl FsKind {
    /// The name under which the kernel mounts it.
    pub fn mount_type(self) -> &'static str {
        match self {
            FsKind::Ext4 | FsKind::Ext4Writeback | FsKind::Ext4Journal => "ext4",
            FsKind::Xfs => "xfs",
            FsKind::Btrfs => "btrfs",
        }
    }

    /// The options with which it is mounted.
    pub fn mount_options(self) -> &'static str {
        match self {
            FsKind::Ext4 => "data=ordered",
            FsKind::Ext4Writeback => "data=writeback",
            FsKind::Ext4Journal => "data=journal",
            FsKind::Xfs | FsKind::Btrfs => "",
        }
    }

    /// The program that makes one, its arguments without the device, and the package that it is in.
    fn maker(self) -> (&'static str, &'static [&'static str], &'static str) {
        match self {
            FsKind::Ext4 | FsKind::Ext4Writeback | FsKind::Ext4Journal => {
                // Nothing is initialized later, while a workload is recorded.
                const OPTIONS: &str = "nodiscard,lazy_itable_init=0,lazy_journal_init=0";
                ("mkfs.ext4", &["-q", "-F", "-J", "size=4", "-E", OPTIONS], "e2fsprogs")
            }
            FsKind::Xfs => ("mkfs.xfs", &["-q", "-f", "-K"], "xfsprogs"),
            FsKind::Btrfs => ("mkfs.btrfs", &["-q", "-f", "-K"], "btrfs-progs"),
        }
    }

    /// A size that its program makes.
    pub fn disk_bytes(self) -> u64 {
        match self {
            FsKind::Ext4 | FsKind::Ext4Writeback | FsKind::Ext4Journal => 64 << 20,
            FsKind::Xfs => 320 << 20,
            FsKind::Btrfs => 160 << 20,
        }
    }

    /// What is missing for this file system, and what to install.
    pub fn missing(self) -> Option<String> {
        let (program, _, package) = self.maker();
        let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
        if !known.lines().any(|line| line.split_whitespace().last() == Some(self.mount_type())) {
            return Some(format!("the kernel does not know {} (load its module)", self.mount_type()));
        }
        missing_program(program, package)
    }

    /// Makes one on the device.
    ///
    /// # Errors
    ///
    /// That the program failed, with what it said.
    pub fn make(self, device: &Path) -> io::Result<()> {
        let (program, arguments, _) = self.maker();
        run(Command::new(program).args(arguments).arg(device)).map(drop)
    }
}

/// What is missing for any of this, and what to install.
pub fn missing_here() -> Option<String> {
    if !rustix::process::geteuid().is_root() {
        return Some("mounting needs root: run it as root, for example with sudo".to_owned());
    }
    if !Path::new("/dev/fuse").exists() {
        return Some("there is no /dev/fuse: load the kernel module fuse".to_owned());
    }
    if !Path::new("/dev/loop-control").exists() {
        return Some("there is no /dev/loop-control: load the kernel module loop".to_owned());
    }
    missing_program("losetup", "util-linux")
}

fn missing_program(program: &str, package: &str) -> Option<String> {
    match Command::new(program).arg("-V").output() {
        Ok(_) => None,
        Err(_) => Some(format!("there is no {program}: install {package}")),
    }
}

/// Runs a program and returns what it printed.
///
/// # Errors
///
/// That it failed, with what it said.
pub fn run(command: &mut Command) -> io::Result<String> {
    let output = command.output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(io::Error::other(format!("{:?} failed: {said}", command.get_program())))
}
