//! What can be wrong, as data.

use std::fmt;

use wal::{Error, Lsn};

use crate::page::PageId;

/// A file of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum StoreFile {
    /// The control file, `checkpoint`.
    Control,
    /// The page file, `pages`.
    Pages,
    /// The log, in `wal/`.
    Log,
}

impl fmt::Display for StoreFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StoreFile::Control => "checkpoint",
            StoreFile::Pages => "pages",
            StoreFile::Log => "wal",
        })
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum FindingKind {
    /// Control file and log do not belong together: one of them is older than the other, or of another store.
    ControlFile,
    /// The log is damaged, or holds a record that is none of a store's.
    Log,
    /// The page file is missing.
    PageFileMissing,
    /// The page file has no room for its spare pages. The next open makes room.
    PageFileShort,
    /// A page is not valid, and the log has all that is needed to restore it. The next open does.
    TornPage,
    /// A page is not valid, and nothing restores it.
    DamagedPage,
    /// A page lacks a change that the log says it has: a write of it was lost.
    LostWrite,
    /// A page has a change that the log does not have: the log lost its end, or is an older one.
    NewerThanLog,
    /// The meta page says what cannot be.
    Meta,
    /// A page is referred to as something that it is not: another kind, another level.
    WrongPage,
    /// A reference to a page that the store does not have.
    NoSuchPage,
    /// A page that two others refer to.
    ReferencedTwice,
    /// The keys of a node are not in ascending order.
    KeyOrder,
    /// A key is in a node that is not for it: the separators above send whoever looks for it elsewhere.
    KeyRange,
    /// A value in overflow pages has another length than its entry says.
    ValueLength,
    /// The free list has another length than the meta page says.
    FreeCount,
    /// A page that is in use by nobody and not on the free list.
    LostPage,
}

/// Something that was found.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// What kind of thing is wrong.
    pub kind: FindingKind,
    /// In which file.
    pub file: StoreFile,
    /// Which page.
    pub page: Option<PageId>,
    /// Where in the file, in bytes: of a page, where it starts.
    pub offset: Option<u64>,
    /// The LSN that it is about.
    pub lsn: Option<Lsn>,
    /// What should be there.
    pub expected: String,
    /// What is there.
    pub found: String,
}

impl Finding {
    pub(super) fn new(kind: FindingKind, file: StoreFile) -> Finding {
        Finding { kind, file, page: None, offset: None, lsn: None, expected: String::new(), found: String::new() }
    }

    /// About a page.
    pub(super) fn page(kind: FindingKind, page: PageId, page_bytes: usize) -> Finding {
        let offset = page.get().saturating_mul(page_bytes as u64);
        Finding { page: Some(page), offset: Some(offset), ..Finding::new(kind, StoreFile::Pages) }
    }

    /// About what the log said.
    pub(super) fn log(error: &Error) -> Finding {
        Finding { offset: error.offset(), lsn: error.lsn(), ..Finding::new(FindingKind::Log, StoreFile::Log) }
            .expects("a log that can be read")
            .finds(error.to_string())
    }

    pub(super) fn at_lsn(self, lsn: Lsn) -> Finding {
        Finding { lsn: Some(lsn), ..self }
    }

    pub(super) fn expects(self, expected: impl Into<String>) -> Finding {
        Finding { expected: expected.into(), ..self }
    }

    pub(super) fn finds(self, found: impl Into<String>) -> Finding {
        Finding { found: found.into(), ..self }
    }

    /// Whether it is damage. What is not, the next open deals with by itself.
    pub fn is_damage(&self) -> bool {
        !matches!(self.kind, FindingKind::TornPage | FindingKind::PageFileShort)
    }

    /// What to do about it.
    pub fn advice(&self) -> &'static str {
        match self.kind {
            FindingKind::ControlFile => {
                "copy the directory, then put back the files that belong together: control file, page file and log of the same moment"
            }
            FindingKind::Log => "copy the directory, then see what `walctl verify` says of the log in `wal/`",
            FindingKind::PageFileMissing => {
                "restore the whole directory from a backup; the log alone holds only what came since the redo LSN"
            }
            FindingKind::PageFileShort => "nothing: the next open makes room",
            FindingKind::TornPage => "nothing: the next open restores the page from the log",
            FindingKind::DamagedPage | FindingKind::LostWrite => {
                "distrust the device, copy the directory, and restore from a backup; what other pages hold can still be read"
            }
            FindingKind::NewerThanLog => "copy the directory, then put back the log that belongs to this page file",
            FindingKind::Meta
            | FindingKind::WrongPage
            | FindingKind::NoSuchPage
            | FindingKind::ReferencedTwice
            | FindingKind::KeyOrder
            | FindingKind::KeyRange
            | FindingKind::ValueLength => {
                "make no more changes, copy the directory, and restore from a backup; or read what can be read into a new store"
            }
            FindingKind::FreeCount | FindingKind::LostPage => {
                "no entry is concerned; read all entries into a new store to get the space back, and report it, because it should never happen"
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file)?;
        if let Some(page) = self.page {
            write!(f, ", page {page}")?;
        }
        if let Some(offset) = self.offset {
            write!(f, ", offset {offset}")?;
        }
        if let Some(lsn) = self.lsn {
            write!(f, ", LSN {lsn}")?;
        }
        write!(f, ": expected {}, found {}", self.expected, self.found)
    }
}

/// Collects findings, up to a bound.
#[derive(Debug)]
pub(super) struct Findings {
    kept: Vec<Finding>,
    left_off: u64,
    max: usize,
}

impl Findings {
    pub(super) fn new(max: usize) -> Findings {
        Findings { kept: Vec::new(), left_off: 0, max }
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if self.kept.len() < self.max {
            self.kept.push(finding);
        } else if finding.is_damage() {
            // Damage is never hidden behind what is harmless.
            match self.kept.iter().position(|kept| !kept.is_damage()) {
                Some(harmless) => self.kept[harmless] = finding,
                None => self.left_off += 1,
            }
        }
    }

    pub(super) fn into_parts(self) -> (Vec<Finding>, u64) {
        (self.kept, self.left_off)
    }
}
