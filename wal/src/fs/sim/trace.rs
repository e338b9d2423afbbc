//! The record of every call.

use std::fmt;
use std::io;

use super::fault::{Call, Effect, Operation};

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// It succeeded: with a number of bytes, a size, a number of names, or 0 where there is nothing to count. A lock that
    /// somebody else holds counts 0, one that was taken 1.
    Done(u64),
    /// It failed.
    Failed {
        /// The error number, if it has one.
        errno: Option<i32>,
        /// The kind of the error.
        kind: io::ErrorKind,
    },
}

impl Outcome {
    pub(super) fn of<T>(result: &io::Result<(T, u64)>) -> Outcome {
        match result {
            Ok((_, count)) => Outcome::Done(*count),
            Err(error) => Outcome::Failed { errno: error.raw_os_error(), kind: error.kind() },
        }
    }
}

/// One call of the traits.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Event {
    /// The number of the call, counted from 0.
    pub call: u64,
    /// What was called.
    pub operation: Operation,
    /// The path, as it was when the file was opened.
    pub path: String,
    /// The new name in a rename.
    pub target: Option<String>,
    /// Where a read or write starts.
    pub offset: u64,
    /// How many bytes were asked for, or the new size.
    pub length: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// A hash of the bytes that were read or written; 0 for other calls.
    pub digest: u64,
    /// The planned fault that struck.
    pub fault: Option<Effect>,
}

impl Event {
    pub(super) fn new(number: u64, call: &Call<'_>, outcome: Outcome, digest: u64, fault: Option<Effect>) -> Event {
        Event {
            call: number,
            operation: call.operation,
            path: join(call.dir, call.name),
            target: call.target.map(str::to_owned),
            offset: call.offset,
            length: call.length,
            outcome,
            digest,
            fault,
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} {}", self.call, self.operation, self.path)?;
        if let Some(target) = &self.target {
            write!(formatter, " to {target}")?;
        }
        match self.operation {
            Operation::Read | Operation::Write => write!(formatter, " {}+{}", self.offset, self.length)?,
            Operation::SetLen => write!(formatter, " {}", self.length)?,
            _ => {}
        }
        match self.outcome {
            Outcome::Done(count) => write!(formatter, " = {count}")?,
            Outcome::Failed { errno: Some(errno), .. } => write!(formatter, " = error {errno}")?,
            Outcome::Failed { errno: None, kind } => write!(formatter, " = {kind:?}")?,
        }
        if self.digest != 0 {
            write!(formatter, " #{:016x}", self.digest)?;
        }
        self.fault.map_or(Ok(()), |fault| write!(formatter, " by {fault:?}"))
    }
}

pub(super) fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("/", "") => "/".to_owned(),
        ("/" | "", _) => format!("/{name}"),
        (_, "") => dir.to_owned(),
        _ => format!("{dir}/{name}"),
    }
}

/// FNV-1a over words of eight bytes, with the length mixed in.
pub(super) fn digest(mut hash: u64, bytes: &[u8]) -> u64 {
    const PRIME: u64 = 0x0100_0000_01B3;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(PRIME);
        hash ^= hash >> 29;
    }
    (hash ^ bytes.len() as u64).wrapping_mul(PRIME)
}

pub(super) const DIGEST_SEED: u64 = 0xCBF2_9CE4_8422_2325;
