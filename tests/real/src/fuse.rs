//! A file system with two files, spoken to over `/dev/fuse`: `disk`, which is a block device once a loop device lies over it, and
//! `clock`, whose eight bytes say how many writes and flushes the disk has seen.
//!
//! The kernel sends one request at a time over the descriptor, each a header and its arguments, and takes one answer for each
//! (`include/uapi/linux/fuse.h`). All reads and writes are direct, so nothing lies in a page cache between the loop device and
//! this process, and a flush of the loop device arrives as `FSYNC`.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;

use rustix::io::Errno;

/// Name of the file that is the block device.
pub const DISK: &str = "disk";
/// Name of the file that tells how many events the device has seen.
pub const CLOCK: &str = "clock";

const ROOT_NODE: u64 = 1;
const DISK_NODE: u64 = 2;
const CLOCK_NODE: u64 = 3;

const WRITE_BYTES_MAX: usize = 1 << 20;
const IN_HEADER_BYTES: usize = 40;
const OUT_HEADER_BYTES: usize = 16;

/// What stands behind the two files.
pub trait Backend {
    /// The size of the disk in bytes.
    fn len(&self) -> u64;
    /// How many events the disk has seen.
    fn clock(&self) -> u64;
    /// Reads from the disk.
    fn read(&mut self, offset: u64, len: usize) -> Result<Vec<u8>, Errno>;
    /// Writes to the disk.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno>;
    /// Makes what was written durable.
    fn flush(&mut self) -> Result<(), Errno>;
}

/// The mounted file system; [`Server::serve`] answers its requests.
#[derive(Debug)]
pub struct Server {
    channel: File,
}

impl Server {
    /// Mounts the file system at `dir`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn mount(dir: &Path) -> io::Result<Server> {
        let channel = File::options().read(true).write(true).open("/dev/fuse")?;
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", channel.as_raw_fd());
        let options = CString::new(options).map_err(io::Error::other)?;
        let flags = rustix::mount::MountFlags::NOSUID | rustix::mount::MountFlags::NODEV;
        rustix::mount::mount("wal-power-cut", dir, "fuse", flags, Some(options.as_c_str()))?;
        Ok(Server { channel })
    }

    /// Answers requests until the file system is unmounted.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn serve(mut self, mut with_backend: impl FnMut(&mut dyn FnMut(&mut dyn Backend))) -> io::Result<()> {
        let mut buffer = vec![0; WRITE_BYTES_MAX + 4096];
        loop {
            let count = match self.channel.read(&mut buffer) {
                Ok(count) => count,
                Err(error) if error.raw_os_error() == Some(Errno::NODEV.raw_os_error()) => return Ok(()),
                Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => continue,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let Some(request) = Request::parse(&buffer[..count]) else { continue };
            let mut answer = None;
            with_backend(&mut |backend| answer = request.answer(backend));
            if let Some(answer) = answer {
                self.send(request.unique, answer)?;
            }
        }
    }

    fn send(&mut self, unique: u64, answer: Result<Vec<u8>, Errno>) -> io::Result<()> {
        let (error, body) = match answer {
            Ok(body) => (0, body),
            Err(errno) => (-errno.raw_os_error(), Vec::new()),
        };
        let mut message = Vec::with_capacity(OUT_HEADER_BYTES + body.len());
        message.extend_from_slice(&((OUT_HEADER_BYTES + body.len()) as u32).to_ne_bytes());
        message.extend_from_slice(&error.to_ne_bytes());
        message.extend_from_slice(&unique.to_ne_bytes());
        message.extend_from_slice(&body);
        match self.channel.write(&message) {
            // The request was interrupted, and nobody waits for the answer.
            Err(error) if error.raw_os_error() == Some(Errno::NOENT.raw_os_error()) => Ok(()),
            other => other.map(drop),
        }
    }
}

/// The requests that such a small file system gets. Everything else is answered with `ENOSYS`.
mod opcode {
    pub const LOOKUP: u32 = 1;
    pub const FORGET: u32 = 2;
    pub const GETATTR: u32 = 3;
    pub const SETATTR: u32 = 4;
    pub const OPEN: u32 = 14;
    pub const READ: u32 = 15;
    pub const WRITE: u32 = 16;
    pub const STATFS: u32 = 17;
    pub const RELEASE: u32 = 18;
    pub const FSYNC: u32 = 20;
    pub const FLUSH: u32 = 25;
    pub const INIT: u32 = 26;
    pub const OPENDIR: u32 = 27;
    pub const READDIR: u32 = 28;
    pub const RELEASEDIR: u32 = 29;
    pub const INTERRUPT: u32 = 36;
    pub const BATCH_FORGET: u32 = 42;
}

struct Request<'a> {
    opcode: u32,
    unique: u64,
    node: u64,
    body: &'a [u8],
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).map_or(0, |bytes| u32::from_ne_bytes(bytes.try_into().expect("four bytes")))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    bytes.get(at..at + 8).map_or(0, |bytes| u64::from_ne_bytes(bytes.try_into().expect("eight bytes")))
}

impl<'a> Request<'a> {
    fn parse(message: &'a [u8]) -> Option<Request<'a>> {
        let body = message.get(IN_HEADER_BYTES..)?;
        Some(Request { opcode: u32_at(message, 4), unique: u64_at(message, 8), node: u64_at(message, 16), body })
    }

    /// `None` if the kernel expects no answer.
    fn answer(&self, backend: &mut dyn Backend) -> Option<Result<Vec<u8>, Errno>> {
        Some(match self.opcode {
            opcode::FORGET | opcode::BATCH_FORGET | opcode::INTERRUPT => return None,
            opcode::INIT => Ok(self.init()),
            opcode::LOOKUP => self.lookup(backend),
            opcode::GETATTR | opcode::SETATTR => Ok(attr_out(backend, self.node)),
            opcode::OPEN | opcode::OPENDIR => Ok(open_out(self.node)),
            opcode::READ => self.read(backend),
            opcode::WRITE => self.write(backend),
            opcode::FSYNC if self.node == DISK_NODE => backend.flush().map(|()| Vec::new()),
            opcode::STATFS => Ok(vec![0; 80]),
            opcode::FSYNC | opcode::FLUSH | opcode::RELEASE | opcode::RELEASEDIR | opcode::READDIR => Ok(Vec::new()),
            _ => Err(Errno::NOSYS),
        })
    }

    fn init(&self) -> Vec<u8> {
        const BIG_WRITES: u32 = 1 << 5;
        const MAX_PAGES: u32 = 1 << 22;
        let mut out = Vec::with_capacity(64);
        out.extend_from_slice(&7_u32.to_ne_bytes());
        out.extend_from_slice(&31_u32.to_ne_bytes());
        out.extend_from_slice(&u32_at(self.body, 8).to_ne_bytes());
        out.extend_from_slice(&(u32_at(self.body, 12) & (BIG_WRITES | MAX_PAGES)).to_ne_bytes());
        out.extend_from_slice(&64_u16.to_ne_bytes());
        out.extend_from_slice(&48_u16.to_ne_bytes());
        out.extend_from_slice(&(WRITE_BYTES_MAX as u32).to_ne_bytes());
        out.extend_from_slice(&1_u32.to_ne_bytes());
        out.extend_from_slice(&((WRITE_BYTES_MAX / 4096) as u16).to_ne_bytes());
        out.resize(64, 0);
        out
    }

    fn lookup(&self, backend: &dyn Backend) -> Result<Vec<u8>, Errno> {
        let name = self.body.split(|&byte| byte == 0).next().unwrap_or_default();
        let node = match std::str::from_utf8(name) {
            Ok(DISK) => DISK_NODE,
            Ok(CLOCK) => CLOCK_NODE,
            _ => return Err(Errno::NOENT),
        };
        let mut out = Vec::with_capacity(128);
        out.extend_from_slice(&node.to_ne_bytes());
        out.resize(16, 0);
        // Names and attributes never change, so the kernel need not ask twice within an hour.
        out.extend_from_slice(&3600_u64.to_ne_bytes());
        out.extend_from_slice(&3600_u64.to_ne_bytes());
        out.resize(40, 0);
        out.extend_from_slice(&attr(backend, node));
        Ok(out)
    }

    fn read(&self, backend: &mut dyn Backend) -> Result<Vec<u8>, Errno> {
        let (offset, len) = (u64_at(self.body, 8), u32_at(self.body, 16) as usize);
        match self.node {
            DISK_NODE => backend.read(offset, len),
            CLOCK_NODE => Ok(backend.clock().to_ne_bytes().into_iter().skip(offset as usize).take(len).collect()),
            _ => Err(Errno::ISDIR),
        }
    }

    fn write(&self, backend: &mut dyn Backend) -> Result<Vec<u8>, Errno> {
        let (offset, len) = (u64_at(self.body, 8), u32_at(self.body, 16) as usize);
        let bytes = self.body.get(40..40 + len).ok_or(Errno::INVAL)?;
        if self.node != DISK_NODE {
            return Err(Errno::ACCESS);
        }
        backend.write(offset, bytes)?;
        let mut out = (len as u32).to_ne_bytes().to_vec();
        out.resize(8, 0);
        Ok(out)
    }
}

fn attr(backend: &dyn Backend, node: u64) -> Vec<u8> {
    let (size, mode) = match node {
        ROOT_NODE => (0, 0o040_700_u32),
        DISK_NODE => (backend.len(), 0o100_600),
        _ => (8, 0o100_400),
    };
    let mut out = Vec::with_capacity(88);
    for number in [node, size, size / 512, 0, 0, 0] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    for number in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0] {
        out.extend_from_slice(&number.to_ne_bytes());
    }
    out
}

fn attr_out(backend: &dyn Backend, node: u64) -> Vec<u8> {
    let mut out = 3600_u64.to_ne_bytes().to_vec();
    out.resize(16, 0);
    out.extend_from_slice(&attr(backend, node));
    out
}

fn open_out(node: u64) -> Vec<u8> {
    const DIRECT_IO: u32 = 1;
    let mut out = node.to_ne_bytes().to_vec();
    out.extend_from_slice(&(if node == ROOT_NODE { 0 } else { DIRECT_IO }).to_ne_bytes());
    out.resize(16, 0);
    out
}
