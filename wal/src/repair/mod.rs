//! Repair: making a damaged log openable again, at the price of what is lost.
//!
//! ```text
//! plan     read everything, change nothing -> findings, losses, steps
//! apply    lock -> plan again -> quarantine, synced -> replacements, synced -> renames -> control file -> recovery
//! ```
//!
//! The library never skips damage by itself: [`Wal::open`] fails on corruption and changes nothing. Repair is the explicit decision to go on
//! without what is lost. [`plan`] says what that is, and [`apply`] does exactly what the plan says or nothing.
//!
//! - What is provably good on both sides of damage is kept, with its LSNs. A record is provably good if its checksums are right and its batch is
//!   whole; where the batch of the first record behind damage cannot be known, that batch is given up.
//! - What is lost in the middle of a segment becomes padding; what is lost at its end becomes a gap. No LSN is used again.
//! - Every byte that is removed is copied to a synced quarantine directory inside the log's directory first.
//! - All that needs room is written before the first change, so a full disk leaves the log as it was. A crash at any point leaves the
//!   old log, or one that is repaired in part and that another repair finishes.
//!
//! See `specs/recovery.md`, "Repair", and decision 16.

mod apply;
mod examine;
mod quarantine;
mod salvage;
mod sources;

use std::fmt;
use std::path::Path;

use crate::error::Result;
use crate::fs::FileSystem;
use crate::fs::durable::LogDir;
use crate::lsn::Lsn;
use crate::report::{Progress, RecoveryReport};
use crate::segment::header::SegmentHeader;

pub use apply::{apply, apply_with_clock};
pub use quarantine::quarantine;

#[cfg(doc)]
use crate::wal::Wal;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FindingKind {
    /// An unfinished write at the end that nothing proves to have been durable.
    TornTail,
    /// Records in a segment are damaged.
    DamagedRecords,
    /// The header of a segment is damaged.
    DamagedHeader,
    /// A segment in the middle of the log is missing, or nothing of it can be used.
    MissingSegment,
    /// The beginning of the log is missing, or nothing of it can be used.
    LostStart,
    /// The end of the log is missing, or nothing of it can be used.
    LostEnd,
    /// A file has the name of a segment and the content of another one.
    Misplaced,
    /// A segment does not follow from the one before it.
    BrokenLink,
    /// The last segment is not as long as the clean close left it.
    WrongLength,
    /// The control file is missing or damaged.
    LostControl,
    /// A replacement of a missing file was left behind.
    StrandedTemp,
}

/// Something that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// What it is.
    pub kind: FindingKind,
    /// The file concerned, which may be missing.
    pub file_name: String,
    /// Where in the file, in bytes.
    pub offset: Option<u64>,
    /// Where in the log.
    pub lsn: Option<Lsn>,
    /// What is wrong and what follows from it, in whole sentences.
    pub explanation: String,
}

/// LSNs whose records are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Loss {
    /// The first LSN that is lost.
    pub from: Lsn,
    /// The LSN at which the log goes on, or could; `None` if nobody knows how far the log went.
    pub to: Option<Lsn>,
    /// Records in the range that are valid and are given up, because their batch is torn or may be.
    pub valid_records: u64,
    /// Whether a witness proves that what is lost was once durable. If not, it is an unfinished write, or the very last one that was synced:
    /// nothing tells these apart.
    pub is_witnessed: bool,
}

/// What a step does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StepKind {
    /// A file is copied to the quarantine.
    Quarantine,
    /// A segment is replaced by a copy of what is good in it.
    Rewrite,
    /// An empty segment takes the place of a missing one.
    Create,
    /// A complete replacement that was left behind gets its name.
    Adopt,
    /// A file is removed.
    Remove,
    /// The control file is replaced.
    ReplaceControl,
    /// The log is opened and closed, which cuts an unfinished write and removes leftovers.
    Recover,
}

/// A step of a repair. Steps are done in the order of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Step {
    /// What is done.
    pub kind: StepKind,
    /// To which file.
    pub file_name: String,
    /// In words.
    pub explanation: String,
}

/// What a repair would do. Made by [`plan`]; carried out by [`apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Plan {
    /// What is wrong, in the order of the log.
    pub findings: Vec<Finding>,
    /// What is lost, in the order of the log.
    pub losses: Vec<Loss>,
    /// What is done, in this order. Empty if nothing is wrong.
    pub steps: Vec<Step>,
    /// The records that are there afterwards.
    pub records_kept: u64,
    /// The checkpoint that the user declared last, if the control file is readable. A loss behind it concerns the recovery of the database.
    pub checkpoint_lsn: Option<Lsn>,
    /// Bytes of new files that are written before anything is changed, about.
    pub bytes_needed: u64,
    pub(crate) actions: Actions,
}

impl Plan {
    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }
}

impl fmt::Display for Plan {
    /// The report that goes into the quarantine: findings, losses and steps, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { file_name, offset, lsn, explanation, .. } in &self.findings {
            write!(f, "found   {file_name}")?;
            offset.map_or(Ok(()), |offset| write!(f, ", offset {offset}"))?;
            lsn.map_or(Ok(()), |lsn| write!(f, ", LSN {lsn}"))?;
            writeln!(f, ": {explanation}")?;
        }
        for Loss { from, to, valid_records, is_witnessed } in &self.losses {
            match to {
                Some(to) => write!(f, "lost    LSN {from} up to LSN {to}")?,
                None => write!(f, "lost    LSN {from} and what followed, as far as the log went")?,
            }
            let proof = if *is_witnessed { "it was durable" } else { "nothing proves that it was ever durable" };
            writeln!(f, "; {proof}; valid records among it that are given up: {valid_records}")?;
        }
        for Step { file_name, explanation, .. } in &self.steps {
            writeln!(f, "step    {file_name}: {explanation}")?;
        }
        Ok(())
    }
}

/// What a repair did.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Repaired {
    /// The directory, inside that of the log, that holds what was removed; `None` if nothing was.
    pub quarantine: Option<String>,
    /// What the recovery that ended the repair found and did.
    pub recovery: RecoveryReport,
}

/// Reads everything and says what is wrong and what [`apply`] would do. Changes nothing and takes no lock.
///
/// # Errors
///
/// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) if there is no log. [`ErrorKind::UnsupportedVersion`](crate::ErrorKind::UnsupportedVersion) if
/// a newer version wrote a part of it. [`ErrorKind::Corruption`](crate::ErrorKind::Corruption) if it cannot be repaired, because nothing says which log it
/// is or because its segments contradict each other. [`ErrorKind::Io`](crate::ErrorKind::Io) if it cannot be read: copy the
/// device first.
pub fn plan(fs: &dyn FileSystem, dir: impl AsRef<Path>, progress: impl Fn(Progress) + Send + Sync) -> Result<Plan> {
    let dir = LogDir::open(fs, dir.as_ref())?;
    let report = |bytes_done, bytes_total| progress(Progress { bytes_done, bytes_total });
    examine::examine(&dir, &report)
}

/// The steps as they are carried out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actions {
    /// Files to copy, whole or only their first bytes.
    pub(crate) quarantine: Vec<Saved>,
    pub(crate) writes: Vec<Write>,
    /// Names to remove once the writes have their names, and removals behind the last segment that is kept.
    pub(crate) removals: Vec<String>,
    /// Replaced before the first rename, so that the log counts as not closed from there on.
    pub(crate) first_control: Option<crate::control::Control>,
    pub(crate) last_control: Option<crate::control::Control>,
    /// How large new segments are: as those that are there.
    pub(crate) segment_bytes: u64,
}

/// A file that goes to the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Saved {
    pub(crate) name: String,
    pub(crate) bytes: u64,
}

/// A segment file that gets its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Write {
    pub(crate) header: SegmentHeader,
    pub(crate) content: Content,
}

/// What a written segment holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// Nothing.
    Empty,
    /// These runs of frames of a file, with padding between them.
    Runs { source: String, old: SegmentHeader, runs: Vec<(Lsn, Lsn)> },
    /// It is in its temp file already.
    Adopted,
}
