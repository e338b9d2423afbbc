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
            path: absolute(join(call.dir, call.name)),
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
            Operation::Read | Operation::Write | Operation::Preallocate => {
                write!(formatter, " {}+{}", self.offset, self.length)?
            }
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

fn absolute(path: String) -> String {
    if path.starts_with('/') { path } else { format!("/{path}") }
}

pub(super) fn join(dir: &str, name: &str) -> String {
    match (dir, name) {
        ("/", "") => "/".to_owned(),
        ("/" | "", _) => format!("/{name}"),
        (_, "") => dir.to_owned(),
        _ => format!("{dir}/{name}"),
    }
}

const KEYS: [u64; 2] = [0x9E37_79B9_7F4A_7C15, 0xD1B5_4A32_D192_ED03];

/// A hash of bytes that goes on from another one: two chains of wide multiplications over words of eight bytes, so that neither
/// waits for the other, with the length mixed in.
pub(super) fn digest(hash: u64, bytes: &[u8]) -> u64 {
    let word = |bytes: &[u8]| u64::from_le_bytes(bytes.try_into().expect("eight bytes"));
    let (mut even, mut odd) = (hash, hash ^ KEYS[1]);
    let mut blocks = bytes.chunks_exact(32);
    for block in &mut blocks {
        even = fold(even ^ word(&block[..8]), KEYS[0] ^ word(&block[8..16]));
        odd = fold(odd ^ word(&block[16..24]), KEYS[1] ^ word(&block[24..]));
    }
    for rest in blocks.remainder().chunks(8) {
        let mut padded = [0; 8];
        padded[..rest.len()].copy_from_slice(rest);
        even = fold(even ^ u64::from_le_bytes(padded), KEYS[0]);
    }
    fold(even ^ bytes.len() as u64, KEYS[1]) ^ fold(odd, KEYS[0])
}

/// The hash that follows `hash` when it goes on with a number.
pub(super) fn mix(hash: u64, number: u64) -> u64 {
    fold(hash ^ number, KEYS[0]).wrapping_add(KEYS[1])
}

fn fold(left: u64, right: u64) -> u64 {
    let product = u128::from(left) * u128::from(right);
    product as u64 ^ (product >> 64) as u64
}

pub(super) const DIGEST_SEED: u64 = 0xCBF2_9CE4_8422_2325;
