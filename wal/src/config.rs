//! Settings of a log: data, validated once.

use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::segment::header::HEADER_BYTES;

/// When an append is acknowledged, and when what it wrote is synced. See `specs/contract.md`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum SyncMode {
    /// An append returns when its record and all before it are durable. Appends that arrive together share one sync.
    #[default]
    Sync,
    /// An append returns when its record was handed to the operating system. A sync starts when `delay` has passed since the
    /// first unsynced record (earlier by twice the time a sync takes), or when half of `bytes` are unsynced (all of them, if they are less than 256 KiB,
    /// or with [`Background::Inline`]).
    Batch {
        /// The age that an unsynced record may reach, on a monotonic clock.
        delay: Duration,
        /// The unsynced bytes that may be lost; the append that reaches them waits for the sync.
        bytes: u64,
    },
    /// An append returns when its record was handed to the operating system. Synced when asked, after rotation and at close.
    None,
}

impl SyncMode {
    /// `Batch` with 10 milliseconds and 1 MiB.
    pub const BATCH_DEFAULT: SyncMode = SyncMode::Batch { delay: Duration::from_millis(10), bytes: 1 << 20 };
}

/// Who runs the background work: preparing segments, the syncs of `batch`, driving tickets that nobody waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
pub enum Background {
    /// Two threads that belong to the log.
    #[default]
    Threads,
    /// The callers: a segment is prepared by the append that needs it, and [`Wal::poll`](crate::Wal::poll) does what is
    /// due. Nothing runs at the same time as a call, so a test over a simulated file system is deterministic.
    Inline,
}

/// The settings of a log. All of them may change from one open to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default))]
pub struct Config {
    /// When appends are acknowledged. Default: [`SyncMode::Sync`].
    pub sync_mode: SyncMode,
    /// Size of a segment file in bytes, 8 KiB to 1 GiB, rounded down to a multiple of 4096. It bounds a record and a batch. Default:
    /// 16 MiB.
    pub segment_bytes_max: u64,
    /// Bytes of records that may wait in memory for the device; appends beyond wait. At least 64 KiB. Default: 16 MiB.
    pub queue_bytes_max: usize,
    /// Bytes of one group: what is written and synced together. At least 4 KiB. Default: 4 MiB.
    pub group_bytes_max: usize,
    /// How long the leader of a group waits at most for appenders that were just acknowledged to come back. It costs a lone
    /// appender nothing. In `batch` and `none` mode at most one microsecond. Default: 25 microseconds.
    pub gather_max: Duration,
    /// How long an append that waits for the sync of another thread stays awake before it sleeps: it looks again and again, and lets other
    /// threads run between two looks. (Who waits for a ticket sleeps.) That spares the wake-up, and keeps a core busy that nobody else wants. It is
    /// not done while syncs take longer than this, nor for a while after other threads have kept such a waiter from a core for a millisecond.
    /// A lone appender waits for nobody. Zero: waiting threads sleep. At most one second. Default: 250 microseconds.
    pub busy_wait_max: Duration,
    /// In `sync` mode, write groups with direct I/O, each write durable when it returns, where the file system allows that; it is
    /// tried at open. Otherwise, and in the other modes, a group is one write and one sync. Default: true.
    pub direct_io: bool,
    /// Fill the last block of 4096 bytes of each group with padding, so that no block that holds acknowledged records is ever written again.
    /// For devices that damage neighbours of the sectors they are writing when power fails. Each group then takes whole blocks. Default: false.
    pub pad_groups: bool,
    /// How many bytes, from the end, are read and checked when a cleanly closed log is opened; at least the last segment
    /// is. Default: 64 MiB.
    pub verify_bytes_on_open: u64,
    /// How many segments removed by truncation are kept to be used again, if no other name leads to them (a hard link). Default: 2.
    pub recycle_segments_max: usize,
    /// Size of the file that is given up when truncation finds the disk full. Default: 128 KiB.
    pub reserve_bytes: u64,
    /// Whether a full disk that refuses a *write* poisons the handle, as any other failed write does. By default the refused records are left
    /// out and the log goes on. That is wrong for a caller whose records build on one another: what was submitted behind a refused record
    /// could not be replayed without it. An append that is refused before it got an LSN, which is the usual case, never poisons.
    /// Default: false.
    pub poison_if_write_is_full: bool,
    /// Create the log if the directory holds none. Default: true.
    pub create: bool,
    /// The LSN of the first record of a log that is created, a multiple of 8. Default: [`Lsn::FIRST`].
    pub first_lsn: Lsn,
    /// Who runs the background work. Default: [`Background::Threads`].
    pub background: Background,
    /// How often the log writes what [`Wal::stats`](crate::Wal::stats) says, and what happened since the last time, to the file `wal-statistics`
    /// in its directory, for `walctl top` and [`inspect::statistics`](crate::inspect::statistics); from 10 milliseconds to an hour. With
    /// [`Background::Threads`] a thread of its own does. The file is never synced, and a failure to write it is counted and harms nothing.
    /// Default: never.
    pub statistics_interval: Option<Duration>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            sync_mode: SyncMode::Sync,
            segment_bytes_max: 16 << 20,
            queue_bytes_max: 16 << 20,
            group_bytes_max: 4 << 20,
            gather_max: Duration::from_micros(25),
            busy_wait_max: Duration::from_micros(250),
            direct_io: true,
            pad_groups: false,
            verify_bytes_on_open: 64 << 20,
            recycle_segments_max: 2,
            reserve_bytes: 128 << 10,
            poison_if_write_is_full: false,
            create: true,
            first_lsn: Lsn::FIRST,
            background: Background::Threads,
            statistics_interval: None,
        }
    }
}

impl Config {
    /// The default settings with another sync mode.
    pub fn with_mode(sync_mode: SyncMode) -> Config {
        Config { sync_mode, ..Config::default() }
    }

    /// Bytes of frames that a segment has room for.
    pub(crate) fn segment_room(&self) -> u64 {
        self.segment_bytes_max - HEADER_BYTES
    }

    /// Checks every setting and rounds the segment size, once, at open.
    pub(crate) fn validated(mut self) -> Result<Config> {
        let invalid = |detail: String| Err(Error::new(ErrorKind::Invalid, "use settings", detail));
        if !(8 << 10..=1 << 30).contains(&self.segment_bytes_max) {
            return invalid(format!("segment_bytes_max is {}, it must be from 8 KiB to 1 GiB", self.segment_bytes_max));
        }
        self.segment_bytes_max -= self.segment_bytes_max % HEADER_BYTES;
        if self.queue_bytes_max < 64 << 10 {
            return invalid(format!("queue_bytes_max is {}, it must be at least 64 KiB", self.queue_bytes_max));
        }
        if self.group_bytes_max < 4 << 10 {
            return invalid(format!("group_bytes_max is {}, it must be at least 4 KiB", self.group_bytes_max));
        }
        if self.gather_max > Duration::from_secs(1) {
            return invalid(format!("gather_max is {:?}, it must be at most one second", self.gather_max));
        }
        if self.busy_wait_max > Duration::from_secs(1) {
            return invalid(format!("busy_wait_max is {:?}, it must be at most one second", self.busy_wait_max));
        }
        if self.reserve_bytes > 1 << 30 {
            return invalid(format!("reserve_bytes is {}, it must be at most 1 GiB", self.reserve_bytes));
        }
        if !self.first_lsn.get().is_multiple_of(8) || self.first_lsn < Lsn::FIRST || self.first_lsn >= Lsn::LIMIT {
            return invalid(format!(
                "first_lsn is {}, it must be a multiple of 8, at least {} and below 2^63",
                self.first_lsn,
                Lsn::FIRST
            ));
        }
        if let Some(interval) = self.statistics_interval
            && !(Duration::from_millis(10)..=Duration::from_secs(3600)).contains(&interval)
        {
            return invalid(format!(
                "statistics_interval is {interval:?}, it must be from 10 milliseconds to one hour"
            ));
        }
        if let SyncMode::Batch { delay, bytes } = self.sync_mode
            && (delay.is_zero() || delay > Duration::from_secs(3600) || bytes == 0)
        {
            return invalid(format!(
                "batch mode with a delay of {delay:?} and {bytes} bytes: the delay must be from above 0 to one hour, the bytes above 0"
            ));
        }
        Ok(self)
    }
}
