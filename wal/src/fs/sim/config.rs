//! The settings of a simulated file system.

/// What a file system does after a sync has failed. A planned error on a sync of a file picks one of these; see
/// [`SimConfig::sync_failure`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncFailure {
    /// A data block could not be written (ext4, XFS and btrfs alike). The dirty sectors are dropped: reads go on showing
    /// them until the cache is dropped or the machine crashes, but the disk never gets them unless they are written
    /// again. Every descriptor that is open at that moment gets the error once; the next sync returns `Ok`.
    #[default]
    PagesDropped,
    /// The flush of the device failed. Only the caller gets the error, and a retry returns `Ok` without doing anything.
    /// Whether the data is on the disk shows after the next crash.
    Ext4Like,
    /// As [`SyncFailure::Ext4Like`], and the file system shuts down: every later call fails with `EIO`.
    XfsLike,
    /// As [`SyncFailure::Ext4Like`], and the file system becomes read-only: every later change fails with `EROFS`.
    BtrfsLike,
}

/// What a sector of newly allocated space reads as when the size of its file survived a crash and its data did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LostSectors {
    /// Zeros (ext4 `ordered`, XFS).
    #[default]
    Zeros,
    /// Random bytes (ext4 `writeback`).
    Garbage,
    /// The bytes of a removed file, if there is one; else random ones.
    Stale,
}

/// The settings of a [`SimFs`](super::SimFs). Start from [`SimConfig::default`] and change fields.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SimConfig {
    /// Decides everything random besides the outcome of a crash, whose seed is in the
    /// [`CrashPlan`](super::CrashPlan).
    pub seed: u64,
    /// How much space the files may take up, in bytes, counted in blocks of 4,096. A write that needs more is cut short
    /// at the last block that fits, or fails with `ENOSPC`. Removing the last name and the last open descriptor of a file
    /// frees its blocks; holes and names take up nothing.
    pub capacity: Option<u64>,
    /// Whether overwriting needs as much free space as writing does, as on btrfs.
    pub copy_on_write: bool,
    /// The largest size of a file; beyond it, writes fail with `EFBIG`. At most 2^40 bytes are sensible.
    pub file_size_max: u64,
    /// Whether [`OpenMode::WriteDirect`](crate::fs::OpenMode::WriteDirect) works. If not, opening fails with
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput).
    pub direct_writes: bool,
    /// Whether a random share of all reads and unaligned writes moves fewer bytes than it was asked to.
    pub short_transfers: bool,
    /// What follows a failed sync of a file.
    pub sync_failure: SyncFailure,
    /// Whether the device lies: every sync, also of a directory, returns `Ok` and persists nothing.
    pub lying_flush: bool,
    /// What lost sectors in newly allocated space read as.
    pub lost_sectors: LostSectors,
    /// Whether a crash may keep the removal of a rename's old name and lose the new name, so that a file that was durable
    /// under its old name is gone. No journaling file system does this.
    pub rename_may_lose_file: bool,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            seed: 0,
            capacity: None,
            copy_on_write: false,
            file_size_max: 1 << 34,
            direct_writes: true,
            short_transfers: false,
            sync_failure: SyncFailure::default(),
            lying_flush: false,
            lost_sectors: LostSectors::default(),
            rename_may_lose_file: false,
        }
    }
}
