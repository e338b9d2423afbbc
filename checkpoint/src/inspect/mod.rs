//! Looking at a store without opening it: what `walctl checkpoint` shows. Nothing is changed and no lock is taken.
//!
//! [`show`] tells what the store consists of and what an open would replay. [`verify`] reads every page and follows the whole tree, as
//! the store will be after the log was replayed: it replays the log into memory, by the rules of recovery. [`describe`] tells what a
//! record of a store's log says.
//!
//! A store that is in use changes while it is read. Page file and log up to some moment are looked at together, and what does not fit is looked
//! at again; what is still in its place then is really there. If the store goes on changing faster than that,
//! [`VerifyReport::is_settled`] says that the findings prove nothing.
//!
//! What cannot be told: whether the device lost a write of a page that the log does not mention any more and that the tree has no trace of.

mod describe;
mod finding;
mod look;
mod pages;
mod replay;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use wal::fs::FileSystem;
use wal::{CutReason, ErrorKind, LogId, Lsn, Result};

use crate::page::PageId;

pub use describe::{CellInfo, ChangeInfo, ChangeKind, Description, ImageInfo, Malformed, describe};
pub use finding::{Finding, FindingKind, StoreFile};

use finding::Findings;
use look::Look;
use pages::States;
use replay::{Overlay, Touched};
use tree::Walk;

/// How often a store that changes is looked at again.
const LOOKS_MAX: u32 = 5;

/// How [`verify`] does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyOptions {
    /// Memory for the pages that the log changes, in bytes. If that is not enough, the tree is not judged, only what can be told without
    /// replaying. Beside it, a byte is used for each page of the store. Default: 256 MiB.
    pub memory_bytes_max: u64,
    /// At most so many findings are kept; the others are counted. Default: 1000.
    pub findings_max: usize,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions { memory_bytes_max: 256 << 20, findings_max: 1000 }
    }
}

/// How far a verification is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes of pages that were looked at. Each page is looked at twice: by itself, and as a part of the tree.
    pub bytes_done: u64,
    /// Bytes to look at.
    pub bytes_total: u64,
}

/// The log of a store, as far as the store needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct LogInfo {
    /// The start of the log.
    pub start_lsn: Lsn,
    /// The end of what an open would keep.
    pub end_lsn: Lsn,
    /// Whether the log was closed cleanly.
    pub is_closed: bool,
    /// The unfinished write behind the end, if there is one. Beside a store that is in use, it may be on its way.
    pub cut: Option<CutReason>,
    /// Bytes of log since the redo LSN: what an open reads.
    pub bytes: u64,
    /// Records since the redo LSN.
    pub records: u64,
    /// Those that hold changes: what an open replays.
    pub change_records: u64,
    /// The changes of pages in them.
    pub changes: u64,
    /// Page images since the redo LSN.
    pub images: u64,
}

/// The record of the last checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CheckpointRecordState {
    /// There was no checkpoint yet.
    NoCheckpoint,
    /// It stands where the control file says.
    Present {
        /// Pages that the checkpoint wrote.
        pages_written: u64,
    },
    /// It does not, or it says something else.
    Missing,
    /// The log could not be read there.
    Unreadable,
}

/// The page file and the tree in it, as the meta page describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PagesInfo {
    /// Size of the page file in bytes.
    pub file_bytes: u64,
    /// Pages that the file has room for.
    pub file_pages: u64,
    /// Spare pages at its end, and how many of them hold an image.
    pub spare_pages: u64,
    /// Spare pages that hold an image of another page.
    pub spare_images: u64,
    /// What the meta page says after replaying; `None` if it cannot be read.
    pub meta: Option<MetaInfo>,
}

/// What the meta page says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct MetaInfo {
    /// The record that says so, if it is not in the page file yet.
    pub from_lsn: Option<Lsn>,
    /// The root of the tree.
    pub root: PageId,
    /// Levels of the tree.
    pub depth: u64,
    /// Pages in use and free, the meta page among them.
    pub page_count: u64,
    /// Pages on the free list.
    pub free_count: u64,
}

/// What [`show`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct StoreInfo {
    /// What identifies the store and its log.
    pub log_id: LogId,
    /// Size of a page in bytes.
    pub page_bytes: u32,
    /// Checkpoints since the store was created.
    pub sequence: u64,
    /// Redo starts here.
    pub redo_lsn: Lsn,
    /// Where the record of the last checkpoint should be.
    pub checkpoint_lsn: Option<Lsn>,
    /// Whether it is there.
    pub checkpoint_record: CheckpointRecordState,
    /// The log; `None` if it cannot be read.
    pub log: Option<LogInfo>,
    /// The page file; `None` if it is missing.
    pub pages: Option<PagesInfo>,
    /// What is wrong, as far as this can be told without reading the pages. Empty in a [`VerifyReport`], which has its own.
    pub findings: Vec<Finding>,
    /// Whether nothing changed while the store was looked at, or what changed made no difference.
    pub is_settled: bool,
}

impl StoreInfo {
    /// Whether the store was closed cleanly: its log was closed, and there is nothing to replay.
    pub fn is_closed_cleanly(&self) -> bool {
        self.log.as_ref().is_some_and(|log| log.is_closed && log.change_records == 0)
    }

    /// Whether anything was found that an open does not mend.
    pub fn has_damage(&self) -> bool {
        self.findings.iter().any(Finding::is_damage)
    }
}

/// What became of the log since the redo LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Replay {
    /// There was nothing to replay: the pages were judged as they are.
    Nothing,
    /// It was replayed in memory, and the pages were judged as they will be.
    InMemory {
        /// Pages that the log changes.
        pages: u64,
        /// Changes that were made on pages that did not have them.
        changes_applied: u64,
        /// Changes that the pages had already.
        changes_skipped: u64,
        /// Torn pages that an image restored.
        pages_restored: u64,
    },
    /// The pages it changes do not fit the memory that is allowed. Pages were judged one by one, the tree was not.
    TooLarge {
        /// Pages that the log changes.
        pages: u64,
        /// Bytes of memory that they need.
        memory_bytes: u64,
    },
    /// The log cannot be read, so what the store will be is not known.
    Impossible,
}

/// How many pages are what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PageCounts {
    /// Pages that were looked at.
    pub checked: u64,
    /// Leaves.
    pub leaves: u64,
    /// Branches.
    pub branches: u64,
    /// Parts of long values.
    pub overflow: u64,
    /// Links of the free list.
    pub free: u64,
    /// Pages that cannot be used.
    pub damaged: u64,
}

/// What is in the tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct TreeCounts {
    /// Keys.
    pub entries: u64,
    /// Bytes of keys.
    pub key_bytes: u64,
    /// Bytes of values.
    pub value_bytes: u64,
    /// Values that are in overflow pages.
    pub overflow_values: u64,
    /// Pages that the tree refers to.
    pub pages: u64,
}

/// What [`verify`] found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct VerifyReport {
    /// What [`show`] tells.
    pub info: StoreInfo,
    /// What became of the log since the redo LSN.
    pub replay: Replay,
    /// The pages.
    pub pages: PageCounts,
    /// What is in the tree, as far as it could be followed; `None` if it was not judged.
    pub tree: Option<TreeCounts>,
    /// What was found, in the order in which it was met.
    pub findings: Vec<Finding>,
    /// Findings beyond those.
    pub findings_left_off: u64,
    /// What was not judged, and why: sentences.
    pub not_judged: Vec<String>,
    /// How often the store was looked at: more than once if it changed meanwhile.
    pub looks: u32,
    /// Whether the findings are of a store at rest, or were met twice in the same place. If not, the store was changed too quickly while it was
    /// read, and they prove nothing.
    pub is_settled: bool,
}

impl VerifyReport {
    /// Whether anything was found that an open does not mend.
    pub fn has_damage(&self) -> bool {
        self.findings_left_off > 0 || self.findings.iter().any(Finding::is_damage)
    }

    /// Whether everything was judged and nothing is wrong.
    pub fn is_sound(&self) -> bool {
        !self.has_damage() && self.not_judged.is_empty()
    }
}

/// Tells what the store in `dir` consists of and what an open would replay. It reads the log since the redo LSN and the meta page.
///
/// # Errors
///
/// [`ErrorKind::NotFound`] if there is no store, [`ErrorKind::Corruption`] or [`ErrorKind::UnsupportedVersion`] if its control file or
/// that of its log cannot be used, [`ErrorKind::Io`]. What else is wrong is a finding.
pub fn show(fs: &dyn FileSystem, dir: impl AsRef<Path>) -> Result<StoreInfo> {
    for look in 1.. {
        let (mut info, changed) = match show_once(fs, dir.as_ref()) {
            Ok(shown) => shown,
            Err(error) if error.kind() == ErrorKind::Truncated && look < LOOKS_MAX => continue,
            Err(error) => return Err(error),
        };
        if !info.has_damage() || !changed || look == LOOKS_MAX {
            info.is_settled = !info.has_damage() || !changed;
            return Ok(info);
        }
    }
    unreachable!("the loop returns")
}

fn show_once(fs: &dyn FileSystem, dir: &Path) -> Result<(StoreInfo, bool)> {
    let mut findings = Findings::new(VerifyOptions::default().findings_max);
    let look = Look::open(fs, dir, &mut findings)?;
    let (mut info, _) = look.info(None, &mut findings)?;
    info.findings = findings.into_parts().0;
    Ok((info, look.has_changed(fs)?))
}

/// Checks every page of the store in `dir`, the tree, the free list, and that no page is lost.
///
/// `progress` is called now and then.
///
/// # Errors
///
/// As [`show`]. What is wrong with the store itself is a finding.
pub fn verify(
    fs: &dyn FileSystem,
    dir: impl AsRef<Path>,
    options: VerifyOptions,
    progress: impl Fn(Progress),
) -> Result<VerifyReport> {
    let mut before: Vec<Finding> = Vec::new();
    for look in 1.. {
        let (mut report, changed) = match verify_once(fs, dir.as_ref(), options, &progress) {
            Ok(verified) => verified,
            // A checkpoint removed the log that was being read.
            Err(error) if error.kind() == ErrorKind::Truncated && look < LOOKS_MAX => continue,
            Err(error) => return Err(error),
        };
        report.looks = look;
        if !report.has_damage() || !changed {
            return Ok(report);
        }
        let is_again = |finding: &Finding| before.contains(finding);
        if report.findings.iter().any(|finding| finding.is_damage() && is_again(finding)) {
            report.findings.retain(|finding| !finding.is_damage() || is_again(finding));
            return Ok(report);
        }
        if look == LOOKS_MAX {
            report.is_settled = false;
            return Ok(report);
        }
        before = report.findings;
    }
    unreachable!("the loop returns")
}

fn verify_once(
    fs: &dyn FileSystem,
    dir: &Path,
    options: VerifyOptions,
    progress: &dyn Fn(Progress),
) -> Result<(VerifyReport, bool)> {
    let mut findings = Findings::new(options.findings_max);
    let look = Look::open(fs, dir, &mut findings)?;
    let mut touched = Touched::new(options.memory_bytes_max);
    let (info, meta) = look.info(Some(&mut touched), &mut findings)?;
    let mut report = VerifyReport {
        replay: Replay::Impossible,
        pages: PageCounts::default(),
        tree: None,
        findings: Vec::new(),
        findings_left_off: 0,
        not_judged: Vec::new(),
        looks: 1,
        is_settled: true,
        info,
    };
    let end = report.info.log.as_ref().map(|log| log.end_lsn);
    let overlay = match end {
        Some(end) if touched.is_complete(look.page_bytes()) => look.replay(&touched, end, &mut findings)?,
        _ => Overlay::default(),
    };
    report.replay = match &report.info.log {
        None => Replay::Impossible,
        Some(log) if log.change_records == 0 => Replay::Nothing,
        Some(_) if !touched.is_complete(look.page_bytes()) => touched.too_large(look.page_bytes()),
        Some(_) => overlay.outcome(),
    };
    say_what_is_not_judged(&mut report);
    match (&look.file, meta) {
        (Some(file), Some(meta)) => {
            let states = States::check(&look, file, &meta, &touched, &overlay, end, progress, &mut findings)?;
            report.pages = states.counts();
            if matches!(report.replay, Replay::Nothing | Replay::InMemory { .. }) {
                let walk = Walk { file, overlay: &overlay, meta, end, progress, states, findings: &mut findings };
                report.tree = Some(walk.run(&mut report.not_judged)?);
            }
        }
        (Some(_), None) => {
            report
                .not_judged
                .push("pages and tree: without the meta page nobody knows which pages are in use".to_owned());
        }
        (None, _) => report.not_judged.push("pages and tree: the page file is missing".to_owned()),
    }
    (report.findings, report.findings_left_off) = findings.into_parts();
    Ok((report, look.has_changed(fs)?))
}

fn say_what_is_not_judged(report: &mut VerifyReport) {
    match report.replay {
        Replay::TooLarge { pages, memory_bytes } => report.not_judged.push(format!(
            "the tree, the free list and lost pages: the log since the redo LSN changes {pages} pages, which need {memory_bytes} bytes \
             of memory, more than is allowed; allow more, or open the store, which replays the log, close it, and verify again"
        )),
        Replay::Impossible => report.not_judged.push(
            "the tree, the free list and lost pages: the log cannot be replayed; pages that look damaged may be ones that it restores"
                .to_owned(),
        ),
        Replay::Nothing | Replay::InMemory { .. } => {}
    }
}
