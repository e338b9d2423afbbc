//! A file system of a chosen kind on a device of our own: made, mounted, cut off, failed.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::sync::Arc;

use rustix::mount::{MountFlags, UnmountFlags};

use crate::device::{Answer, Command, Fault, Recorded};
use crate::fuse;
use crate::kind::{FsKind, run};
use crate::mounts;
use crate::stream::{Cut, ImageSummary};

/// Tells how many events the device has seen. A clone may be used from any thread.
#[derive(Clone, Debug)]
pub struct Clock(Arc<File>);

impl Clock {
    /// How many events the device completed. What had happened before the call is part of what a power cut there leaves.
    ///
    /// # Panics
    ///
    /// If the device is gone.
    pub fn now(&self) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, 0).expect("the device answers");
        u64::from_ne_bytes(bytes)
    }
}

/// The device with its loop device. Dropping it takes everything down.
#[derive(Debug)]
pub struct Rig {
    kind: FsKind,
    dir: PathBuf,
    device: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
    clock: Clock,
    block_device: PathBuf,
    is_mounted: bool,
}

impl Rig {
    /// Starts a device that is large enough for the kind of file system.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn start(kind: FsKind) -> io::Result<Rig> {
        let dir = mounts::set_up()?;
        Rig::start_in(kind, &dir).inspect_err(|_| mounts::take_down(&dir))
    }

    fn start_in(kind: FsKind, dir: &Path) -> io::Result<Rig> {
        let mut device = std::process::Command::new(std::env::current_exe()?)
            .arg("device")
            .arg(dir)
            .arg(kind.disk_bytes().to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // An interrupt from the keyboard must not reach it: it is what cleans up.
            .process_group(0)
            .spawn()?;
        let commands = device.stdin.take();
        let mut answers = BufReader::new(device.stdout.take().expect("it is a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        if line.trim() != crate::device::READY {
            return Err(io::Error::other("the device did not start"));
        }
        let clock = Clock(Arc::new(File::open(mounts::device_dir(dir).join(fuse::CLOCK))?));
        let disk = mounts::device_dir(dir).join(fuse::DISK);
        let block_device = run(std::process::Command::new("losetup").args(["--find", "--show"]).arg(disk))?;
        let block_device = PathBuf::from(block_device);
        Ok(Rig { kind, dir: dir.to_path_buf(), device, commands, answers, clock, block_device, is_mounted: false })
    }

    /// The kind of file system.
    pub fn kind(&self) -> FsKind {
        self.kind
    }

    /// The clock of the device.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }

    /// The directory for the log, which is not there at first.
    pub fn log_dir(&self) -> PathBuf {
        self.files_dir().join("log")
    }

    /// The directory where the file system is mounted.
    pub fn files_dir(&self) -> PathBuf {
        mounts::mount_dir(&self.dir)
    }

    fn tell(&mut self, command: &Command) -> io::Result<Answer> {
        let commands = self.commands.as_mut().expect("the device runs until the rig is dropped");
        serde_json::to_writer(&mut *commands, command)?;
        commands.write_all(b"\n")?;
        commands.flush()?;
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        match serde_json::from_str(&line)? {
            Answer::Refused(why) => Err(io::Error::other(why)),
            answer => Ok(answer),
        }
    }

    /// Makes a new file system.
    ///
    /// # Errors
    ///
    /// What its program or the operating system says.
    pub fn make(&mut self) -> io::Result<()> {
        self.tell(&Command::Clear)?;
        self.kind.make(&self.block_device)
    }

    /// Mounts the file system.
    ///
    /// # Errors
    ///
    /// That the kernel refuses it.
    pub fn mount(&mut self) -> io::Result<()> {
        let options = CString::new(self.kind.mount_options()).map_err(io::Error::other)?;
        let dir = mounts::mount_dir(&self.dir);
        rustix::mount::mount(
            &self.block_device,
            &dir,
            self.kind.mount_type(),
            MountFlags::NOATIME,
            Some(options.as_c_str()),
        )?;
        self.is_mounted = true;
        Ok(())
    }

    /// Unmounts it.
    ///
    /// # Errors
    ///
    /// That somebody has a file open.
    pub fn unmount(&mut self) -> io::Result<()> {
        rustix::mount::unmount(mounts::mount_dir(&self.dir), UnmountFlags::empty())?;
        self.is_mounted = false;
        Ok(())
    }

    /// Ends whatever is under way: a fault, a mount, a recording.
    ///
    /// # Errors
    ///
    /// That somebody has a file open, or that the device is gone.
    pub fn reset(&mut self) -> io::Result<()> {
        self.mend()?;
        if self.is_mounted {
            self.unmount()?;
        }
        self.tell(&Command::Record(u32::MAX))?;
        self.stop().map(drop)
    }

    /// Writes everything that the file system holds in memory.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn sync(&self) -> io::Result<()> {
        Ok(rustix::fs::syncfs(File::open(self.files_dir())?)?)
    }

    /// Starts to record.
    ///
    /// # Errors
    ///
    /// That the device is gone.
    pub fn record(&mut self, number: u32) -> io::Result<()> {
        self.tell(&Command::Record(number)).map(drop)
    }

    /// Records no more. Returns what was recorded.
    ///
    /// # Errors
    ///
    /// That nothing was being recorded.
    pub fn stop(&mut self) -> io::Result<Recorded> {
        match self.tell(&Command::Stop)? {
            Answer::Recorded(recorded) => Ok(recorded),
            other => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Puts in the disk that a power cut of a recording leaves. The file system must not be mounted.
    ///
    /// # Errors
    ///
    /// That there is no such recording.
    pub fn cut_power(&mut self, number: u32, cut: Cut) -> io::Result<ImageSummary> {
        debug_assert!(!self.is_mounted, "the disk is changed under a mounted file system");
        match self.tell(&Command::CutPower(number, cut))? {
            Answer::Image(summary) => Ok(summary),
            other => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Fails requests from now on.
    ///
    /// # Errors
    ///
    /// That the device is gone.
    pub fn fail(&mut self, fault: Fault) -> io::Result<()> {
        self.tell(&Command::Fail(fault)).map(drop)
    }

    /// Fails no more. Returns how many requests failed.
    ///
    /// # Errors
    ///
    /// That the device is gone.
    pub fn mend(&mut self) -> io::Result<u64> {
        match self.tell(&Command::Mend)? {
            Answer::Failed(count) => Ok(count),
            other => Err(io::Error::other(format!("unexpected answer: {other:?}"))),
        }
    }

    /// Writes a recording to a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn store(&mut self, number: u32, path: &Path) -> io::Result<()> {
        self.tell(&Command::Store(number, path.to_path_buf())).map(drop)
    }

    /// Reads a recording from a file.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn restore(&mut self, number: u32, path: &Path) -> io::Result<()> {
        self.tell(&Command::Restore(number, fs::canonicalize(path)?)).map(drop)
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if self.is_mounted {
            drop(self.unmount());
        }
        // The end of its input tells the device to take everything down, and to end.
        self.commands = None;
        drop(self.device.wait());
        mounts::take_down(&self.dir);
    }
}
