//! The bug museum: bugs of other checkpointers, each behind a switch that only a test can set.
//!
//! A test that cannot fail proves nothing. So the suite is run against a store that is broken on purpose, one bug at a time, and has to
//! notice. `specs/testing.md` says which test notices which. Without the feature `museum` no switch can be set, [`Bugs`] takes no
//! space and looking at one is a constant, so nothing of this is left in a program.

/// A bug of a checkpointer. The names say what the broken store does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// The checkpoint is committed and the log truncated before the page file is synced (turso 4467).
    TruncatedBeforeSync,
    /// A sync of the page file that failed is taken for one that did not (arcadedb 4934).
    FailedSyncIgnored,
    /// A sync of the page file that failed is tried again, and the second answer counts (PostgreSQL, 2018).
    SyncTriedAgain,
    /// The redo point is where the log ends after the pages are written, not before (SQLite's WAL-reset bug, bookkeeper 3329).
    MarkTakenLate,
    /// Redo believes the LSN of a page whose checksum is wrong (arcadedb 5052).
    TornPageBelieved,
    /// Whatever is in the spare pages is put in its place, however old it is (MDEV-11799).
    StaleCopyRestored,
    /// The log is truncated before the control file names the checkpoint (the compaction bug of Bitcask).
    TruncatedBeforeCommit,
    /// Pages are overwritten without an image in the log.
    ImageLeftOut,
    /// Pages are written before the log of their changes is durable.
    #[cfg(feature = "museum")]
    PageBeforeLog,
    /// A page whose write failed counts as clean.
    CleanAfterFailedWrite,
}

/// The switches of one store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bugs {
    #[cfg(feature = "museum")]
    bits: u32,
}

#[cfg(not(feature = "museum"))]
impl Bugs {
    pub(crate) const fn has(self, _: Bug) -> bool {
        false
    }
}

#[cfg(feature = "museum")]
impl Bug {
    /// All of them.
    pub const ALL: [Bug; 10] = [
        Bug::TruncatedBeforeSync,
        Bug::FailedSyncIgnored,
        Bug::SyncTriedAgain,
        Bug::MarkTakenLate,
        Bug::TornPageBelieved,
        Bug::StaleCopyRestored,
        Bug::TruncatedBeforeCommit,
        Bug::ImageLeftOut,
        Bug::PageBeforeLog,
        Bug::CleanAfterFailedWrite,
    ];
}

#[cfg(feature = "museum")]
impl Bugs {
    /// No bug.
    pub const NONE: Bugs = Bugs { bits: 0 };

    /// One bug.
    pub const fn one(bug: Bug) -> Bugs {
        Bugs { bits: 1 << bug as u32 }
    }

    pub(crate) const fn has(self, bug: Bug) -> bool {
        self.bits & (1 << bug as u32) != 0
    }
}
