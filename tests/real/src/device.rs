//! The process that is the block device: it records, builds images of power cuts, and fails on request.
//!
//! It is a process of its own, so that one that hangs in the file system above never keeps the device from answering. It takes one
//! command a line on its standard input and answers each with a line. When the input ends, whoever gave the commands is gone:
//! then it takes down what was mounted and ends.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::disk::Disk;
use crate::fuse::{Backend, Server};
use crate::mounts;
use crate::payload;
use crate::store;
use crate::stream::{Cut, Event, ImageSummary, Stream};

/// The first line that it prints, once its files are there.
pub const READY: &str = "ready";

/// What requests a fault is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// Writes of blocks that hold records of the log.
    LogWrites,
    /// All writes.
    Writes,
    /// Flushes.
    Flushes,
}

/// Requests that fail with `EIO`.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Fault {
    /// Which requests.
    pub target: Target,
    /// So many of them are carried out first.
    pub passed: u64,
    /// So many fail then.
    pub failed: u64,
    /// A write that fails is carried out in its first half.
    pub is_half_done: bool,
}

/// What the device is told.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Command {
    /// The disk is zeros again.
    Clear,
    /// Start to record; what was recorded under this number is forgotten.
    Record(u32),
    /// Record no more.
    Stop,
    /// Put in the disk that a power cut of a recording leaves.
    CutPower(u32, Cut),
    /// Fail from now on.
    Fail(Fault),
    /// Fail no more.
    Mend,
    /// Write a recording to a file.
    Store(u32, PathBuf),
    /// Read a recording from a file.
    Restore(u32, PathBuf),
}

/// What was recorded.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Recorded {
    /// How many writes.
    pub writes: u64,
    /// How many flushes.
    pub flushes: u64,
    /// How many bytes were written.
    pub bytes: u64,
    /// The moments just before a flush that had something to make durable.
    pub before_flushes: Vec<u64>,
}

/// What it answers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Answer {
    /// It is done.
    Done,
    /// A recording ended.
    Recorded(Recorded),
    /// The power was cut.
    Image(ImageSummary),
    /// How many requests failed.
    Failed(u64),
    /// It cannot be done.
    Refused(String),
}

#[derive(Debug)]
struct Device {
    disk: Disk,
    recording: Option<u32>,
    streams: BTreeMap<u32, Stream>,
    fault: Option<Fault>,
    failures: u64,
}

impl Device {
    fn note(&mut self, event: Event) {
        if let Some(stream) = self.recording.and_then(|number| self.streams.get_mut(&number)) {
            stream.events.push(event);
        }
    }

    /// Whether this request fails, and if so, whether half of it is done all the same.
    fn failure(&mut self, is_about: impl Fn(Target) -> bool) -> Option<bool> {
        let fault = self.fault.as_mut().filter(|fault| is_about(fault.target))?;
        if fault.passed > 0 {
            fault.passed -= 1;
            return None;
        }
        if fault.failed == 0 {
            return None;
        }
        fault.failed -= 1;
        self.failures += 1;
        Some(fault.is_half_done)
    }

    fn carry_out(&mut self, command: Command) -> Result<Answer, String> {
        match command {
            Command::Clear => self.disk = Disk::new(self.disk.len()),
            Command::Record(number) => {
                self.streams.insert(number, Stream::new(self.disk.clone()));
                self.recording = Some(number);
            }
            Command::Stop => return self.stop(),
            Command::CutPower(number, cut) => {
                if self.recording.is_some() {
                    return Err("the power is cut while the device records".to_owned());
                }
                let (disk, summary) = self.stream(number)?.image(&cut);
                self.disk = disk;
                return Ok(Answer::Image(summary));
            }
            Command::Fail(fault) => (self.fault, self.failures) = (Some(fault), 0),
            Command::Mend => {
                self.fault = None;
                return Ok(Answer::Failed(self.failures));
            }
            Command::Store(number, path) => {
                store::write(&path, self.stream(number)?).map_err(|error| error.to_string())?;
            }
            Command::Restore(number, path) => {
                let stream = store::read(&path).map_err(|error| error.to_string())?;
                self.streams.insert(number, stream);
            }
        }
        Ok(Answer::Done)
    }

    fn stop(&mut self) -> Result<Answer, String> {
        let number = self.recording.take().ok_or("nothing is being recorded")?;
        let events = &self.stream(number)?.events;
        let bytes = |event: &Event| match event {
            Event::Write { bytes, .. } => bytes.len() as u64,
            Event::Flush => 0,
        };
        let flushes = events.iter().filter(|event| matches!(event, Event::Flush)).count() as u64;
        let is_flush = |index: usize| matches!(events[index], Event::Flush);
        let before_flushes = (1..events.len()).filter(|&index| is_flush(index) && !is_flush(index - 1));
        Ok(Answer::Recorded(Recorded {
            before_flushes: before_flushes.map(|index| index as u64).collect(),
            writes: events.len() as u64 - flushes,
            flushes,
            bytes: events.iter().map(bytes).sum(),
        }))
    }

    fn stream(&mut self, number: u32) -> Result<&mut Stream, String> {
        self.streams.get_mut(&number).ok_or_else(|| format!("there is no recording {number}"))
    }
}

impl Backend for Device {
    fn len(&self) -> u64 {
        self.disk.len()
    }

    fn clock(&self) -> u64 {
        let stream = self.recording.and_then(|number| self.streams.get(&number));
        stream.map_or(0, |stream| stream.events.len() as u64)
    }

    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        Ok(self.disk.read(offset, len))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let is_about = |target| target == Target::Writes || (target == Target::LogWrites && payload::is_in(bytes));
        let failure = self.failure(is_about);
        let done = match failure {
            None => bytes,
            Some(true) => &bytes[..bytes.len() / 2],
            Some(false) => &[],
        };
        if !done.is_empty() {
            self.disk.write(offset, done);
            self.note(Event::Write { offset, bytes: done.to_vec() });
        }
        failure.map_or(Ok(()), |_| Err(Errno::IO))
    }

    fn flush(&mut self) -> Result<(), Errno> {
        if self.failure(|target| target == Target::Flushes).is_some() {
            return Err(Errno::IO);
        }
        self.note(Event::Flush);
        Ok(())
    }
}

/// Is the device, until the standard input ends.
///
/// # Errors
///
/// What the operating system says.
pub fn serve(dir: &Path, bytes: u64) -> io::Result<()> {
    let server = Server::mount(&mounts::device_dir(dir))?;
    let device = Device { disk: Disk::new(bytes), recording: None, streams: BTreeMap::new(), fault: None, failures: 0 };
    let device = Arc::new(Mutex::new(device));
    let served = Arc::clone(&device);
    std::thread::spawn(move || {
        let result = server.serve(|request| request(&mut *lock(&served)));
        if let Err(error) = result {
            eprintln!("the device fails: {error}");
            std::process::exit(1);
        }
    });
    let result = take_commands(&device);
    mounts::take_down(dir);
    result
}

fn lock(device: &Mutex<Device>) -> MutexGuard<'_, Device> {
    device.lock().expect("a thread that holds the device does not panic")
}

fn take_commands(device: &Mutex<Device>) -> io::Result<()> {
    let mut output = io::stdout().lock();
    writeln!(output, "{READY}")?;
    output.flush()?;
    for line in io::stdin().lock().lines() {
        let command = serde_json::from_str(&line?).map_err(io::Error::other)?;
        let answer = lock(device).carry_out(command).unwrap_or_else(Answer::Refused);
        serde_json::to_writer(&mut output, &answer)?;
        output.write_all(b"\n")?;
        output.flush()?;
    }
    Ok(())
}
