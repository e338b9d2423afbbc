//! What an open found and did.

use std::time::Duration;

use crate::lsn::Lsn;
pub use crate::recover::decide::CutReason;

/// In what state a log was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FoundState {
    /// There was none; it was created.
    Created,
    /// Closed cleanly.
    Clean,
    /// Not closed; everything that was found was kept.
    Kept,
    /// Not closed; an unfinished write at the end was cut.
    Cut,
}

/// What was cut off the end of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CutReport {
    /// Why.
    pub reason: CutReason,
    /// The first LSN that is not kept.
    pub at: Lsn,
    /// The segment it is in.
    pub segment: u64,
    /// Valid records behind it that were dropped, none of which was ever durable.
    pub valid_records_dropped: u64,
}

/// What an open found, kept, cut, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// In what state the log was found.
    pub state: FoundState,
    /// Start of the log.
    pub start_lsn: Lsn,
    /// End of what was kept; everything below is durable.
    pub end_lsn: Lsn,
    /// The LSN of the next record, at or past the end.
    pub next_lsn: Lsn,
    /// The highest LSN below which something on disk proved that everything was synced.
    pub witness_lsn: Lsn,
    /// What was cut.
    pub cut: Option<CutReport>,
    /// Segments of the log that were kept.
    pub segments: u64,
    /// Segments that were copied to make what they hold durable.
    pub segments_rewritten: u64,
    /// Segments removed: void, torn or below the start of the log.
    pub segments_removed: u64,
    /// Bytes of frames that were read and checked.
    pub scanned_bytes: u64,
    /// Records in the segments that were read.
    pub scanned_records: u64,
    /// Leftover files that were removed.
    pub swept: Vec<String>,
    /// Temp files whose final is missing. They are kept: they may be evidence of what happened.
    pub stranded: Vec<String>,
    /// Names in the directory that do not belong to a log. Left alone.
    pub foreign: Vec<String>,
    /// How long the open took.
    pub duration: Duration,
}

/// How far a long scan is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of segments read.
    pub bytes_done: u64,
    /// Bytes of segments to read.
    pub bytes_total: u64,
}
