//! The bug museum: bugs that other logs shipped, each behind a switch that only a test can set.
//!
//! A test that cannot fail proves nothing. So the suite is run against a log that is broken on purpose, one bug at a time, and has to
//! notice. `specs/testing.md` says which test notices which. Without the feature `museum` no switch can be set, [`Bugs`] takes no
//! space and looking at one is a constant, so nothing of this is left in a program.

/// A bug that a log really had. The names say what the broken log does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Bug {
    /// At a rotation the segment before is taken off the list of those to sync (yugabyte 3490).
    OldSegmentNotSynced,
    /// The directory is not synced after a rename (ClickHouse 116316, etcd 6368).
    DirectoryNotSynced,
    /// A sync that failed is tried again, and the second answer counts (PostgreSQL, 2018).
    SyncTriedAgain,
    /// After a failed sync whoever waits is told that all is well (RocksDB 3096).
    WaitersToldOk,
    /// After a failed sync nobody is woken (okaywal).
    WaitersNotWoken,
    /// What is written carries the witness zero (Pebble 6031).
    WitnessStuckAtZero,
    /// The checksums cover neither segment, nor epoch, nor LSN, so stale frames of a recycled file are valid (Pebble 567, RocksDB 12403).
    StaleRecordsAccepted,
    /// A read that fails counts as the end of the file (RocksDB 6288).
    ReadErrorTakenForEnd,
    /// A segment is replaced by cutting it to nothing and writing it again (the `O_TRUNC` bug).
    #[cfg(feature = "museum")]
    RewriteInPlace,
    /// A truncation that keeps no record removes the segment that is being written (arc 594).
    ActiveSegmentDeleted,
    /// What got through of a refused group stays, and the next one is written behind it (prometheus 13027).
    HalfRecordOnFullDisk,
    /// The checksum of the last frame outlives the cut of that frame (qdrant/wal 38).
    StaleChecksumAfterCut,
    /// The replacement of a segment takes its name, and what it replaces goes, before it is synced (the compaction bug of Bitcask).
    OutputNotSynced,
}

/// The switches of one log.
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

    pub(crate) const fn of_log(_: [u8; 16]) -> Bugs {
        Bugs {}
    }
}

#[cfg(feature = "museum")]
impl Bug {
    /// All of them.
    pub const ALL: [Bug; 13] = [
        Bug::OldSegmentNotSynced,
        Bug::DirectoryNotSynced,
        Bug::SyncTriedAgain,
        Bug::WaitersToldOk,
        Bug::WaitersNotWoken,
        Bug::WitnessStuckAtZero,
        Bug::StaleRecordsAccepted,
        Bug::ReadErrorTakenForEnd,
        Bug::RewriteInPlace,
        Bug::ActiveSegmentDeleted,
        Bug::HalfRecordOnFullDisk,
        Bug::StaleChecksumAfterCut,
        Bug::OutputNotSynced,
    ];
}

/// A log with this id has [`Bug::StaleRecordsAccepted`]: who reads a file knows nothing of its log but the id.
#[cfg(feature = "museum")]
const PLACELESS_LOG_ID: [u8; 16] = *b"museum-placeless";

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

    /// The bugs that a log has by its id.
    pub(crate) fn of_log(id: [u8; 16]) -> Bugs {
        if id == PLACELESS_LOG_ID { Bugs::one(Bug::StaleRecordsAccepted) } else { Bugs::NONE }
    }

    /// The id that a new log must have for these bugs.
    pub(crate) fn log_id(self) -> Option<[u8; 16]> {
        self.has(Bug::StaleRecordsAccepted).then_some(PLACELESS_LOG_ID)
    }
}
