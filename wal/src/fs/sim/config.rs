//! The settings of a simulated file system.

/// What a file system does after a sync has failed. [`SimConfig::sync_failure`] says which of these follows
/// [`Effect::Error`](super::Effect::Error) on the sync of a file, [`SimConfig::flush_failure`] which follows
/// [`Effect::FlushError`](super::Effect::FlushError).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SyncFailure {
    /// A data block could not be written (ext4, XFS and btrfs alike). The dirty sectors are dropped: reads go on showing
    /// them until the cache is dropped or the machine crashes, but the disk never gets them unless they are written
    /// again. Every descriptor that is open at that moment gets the error once; the next sync returns `Ok`.
    #[default]
    PagesDropped,
    /// As [`SyncFailure::PagesDropped`], but the sectors stay dirty: the next sync writes them, and what it says is true
    /// (FreeBSD and illumos, from documentation). A program that only works because of this is wrong elsewhere.
    PagesKept,
    /// The flush of the device failed. Only the caller gets the error, and a retry returns `Ok` without doing anything.
    /// Whether the data is on the disk shows after the next crash.
    Ext4Like,
    /// As [`SyncFailure::Ext4Like`], and the file system shuts down: every later call fails with `EIO`.
    XfsLike,
    /// As [`SyncFailure::Ext4Like`], and the file system becomes read-only: every later change fails with `EROFS`.
    BtrfsLike,
    /// Anything that leaves the file system running, picked anew by the seed: each unsynced write is dropped, kept, durable
    /// after all, or undecided until the crash; and either the caller alone or every open descriptor gets the error.
    Any,
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
    /// The bytes of some sector of a file that is there, which may be the same file; random ones if there is none.
    Foreign,
    /// Each sector is one of the others, picked by the seed.
    Any,
}

/// Which syncs make names durable, and which names a crash keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NamePersistence {
    /// Only the sync of a directory makes its names durable, and of what was not synced a crash keeps any, each by itself.
    /// This is all that POSIX promises.
    #[default]
    Independent,
    /// As [`NamePersistence::Independent`], but the sync of a new or renamed file makes its own name durable too, and the names of
    /// the new directories on its path (btrfs).
    WithFile,
    /// There is one journal: the sync of any directory, and that of a file that is new, was renamed or changed its size, makes
    /// all earlier changes of names durable, and of later ones a crash keeps a prefix (ext4, XFS).
    Journal,
}

/// A file system to be like. Each profile is the measured behaviour where there is one, and cruel where nothing was
/// measured. Tests of a program should pass on all of them; only [`Profile::Cruellest`] sees the sync of a directory that
/// is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// Everything that POSIX allows, and lost sectors and failed syncs of all kinds.
    #[default]
    Cruellest,
    /// ext4 with `data=ordered`. A failed flush of the device leaves no trace; renaming over a file writes the new one's data
    /// first (`auto_da_alloc`).
    Ext4Ordered,
    /// ext4 with `data=writeback`: as [`Profile::Ext4Ordered`], and lost sectors of new space show garbage.
    Ext4Writeback,
    /// XFS. A failed flush of the device shuts it down.
    Xfs,
    /// btrfs. Overwriting needs space; a failed flush of the device makes it read-only.
    Btrfs,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 5] =
        [Profile::Cruellest, Profile::Ext4Ordered, Profile::Ext4Writeback, Profile::Xfs, Profile::Btrfs];
}

/// The settings of a [`SimFs`](super::SimFs). Start from [`SimConfig::default`] or [`SimConfig::profile`] and change fields.
///
/// The default loses in a crash what [`Profile::Cruellest`] loses, but lost sectors read as zeros and failed syncs drop what
/// was dirty, so that a test can say exactly what comes out.
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
    /// As `capacity`, but the error is `EDQUOT`.
    pub quota: Option<u64>,
    /// How many files and directories there may be. One more fails with `ENOSPC`.
    pub files_max: Option<u64>,
    /// Whether overwriting needs as much free space as writing does, as on btrfs.
    pub copy_on_write: bool,
    /// Whether room is only looked for when a file is synced: writes are always taken, and the sync of what does not fit fails with
    /// `ENOSPC` or `EDQUOT` as [`SimConfig::sync_failure`] says. Direct writes find out at once.
    pub delayed_allocation: bool,
    /// The largest size of a file; beyond it, writes fail with `EFBIG`. At most 2^40 bytes are sensible.
    pub file_size_max: u64,
    /// Whether [`OpenMode::WriteDirect`](crate::fs::OpenMode::WriteDirect) works. If not, opening fails with
    /// [`InvalidInput`](std::io::ErrorKind::InvalidInput).
    pub direct_writes: bool,
    /// Whether [`File::preallocate`](crate::fs::File::preallocate) works. If not, it fails with
    /// [`Unsupported`](std::io::ErrorKind::Unsupported).
    pub preallocation: bool,
    /// Whether a random share of all reads and unaligned writes moves fewer bytes than it was asked to.
    pub short_transfers: bool,
    /// Whether a random share of all reads and writes fails with `EINTR` and does nothing.
    pub interrupts: bool,
    /// What follows a sync of a file that could not write the data.
    pub sync_failure: SyncFailure,
    /// What follows a sync that could not flush the device.
    pub flush_failure: SyncFailure,
    /// Whether the device lies: every sync, also of a directory, returns `Ok` and persists nothing.
    pub lying_flush: bool,
    /// What lost sectors in newly allocated space read as.
    pub lost_sectors: LostSectors,
    /// Which syncs make names durable.
    pub names: NamePersistence,
    /// Whether renaming a file over another one makes its data durable, as `auto_da_alloc` of ext4 all but does.
    pub rename_syncs_data: bool,
    /// Whether a crash may keep the removal of a rename's old name and lose the new name, so that a file that was durable
    /// under its old name is gone. No journaling file system does this.
    pub rename_may_lose_file: bool,
}

impl SimConfig {
    /// The settings that are like this file system.
    pub fn profile(profile: Profile, seed: u64) -> SimConfig {
        let base = SimConfig { seed, ..SimConfig::default() };
        let ext4 = SimConfig { names: NamePersistence::Journal, rename_syncs_data: true, ..base.clone() };
        match profile {
            Profile::Cruellest => SimConfig {
                sync_failure: SyncFailure::Any,
                flush_failure: SyncFailure::Any,
                lost_sectors: LostSectors::Any,
                ..base
            },
            Profile::Ext4Ordered => ext4,
            Profile::Ext4Writeback => SimConfig { lost_sectors: LostSectors::Garbage, ..ext4 },
            Profile::Xfs => SimConfig { names: NamePersistence::Journal, flush_failure: SyncFailure::XfsLike, ..base },
            Profile::Btrfs => SimConfig {
                names: NamePersistence::WithFile,
                flush_failure: SyncFailure::BtrfsLike,
                copy_on_write: true,
                ..base
            },
        }
    }
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            seed: 0,
            capacity: None,
            quota: None,
            files_max: None,
            copy_on_write: false,
            delayed_allocation: false,
            file_size_max: 1 << 34,
            direct_writes: true,
            preallocation: true,
            short_transfers: false,
            interrupts: false,
            sync_failure: SyncFailure::default(),
            flush_failure: SyncFailure::Ext4Like,
            lying_flush: false,
            lost_sectors: LostSectors::default(),
            names: NamePersistence::default(),
            rename_syncs_data: false,
            rename_may_lose_file: false,
        }
    }
}
