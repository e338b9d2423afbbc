//! The log sequence number.

use std::fmt;

/// A log sequence number: the logical byte offset of a record's frame in the log.
///
/// LSNs order records, address them, and measure distance in bytes. Every LSN is a multiple of 8, the first record of a
/// new log has [`Lsn::FIRST`], and an LSN that was handed out is never handed out again. Where an LSN marks an *end*
/// (the durable LSN, the end of a segment), it is exclusive: the records *below* it are meant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Lsn(u64);

impl Lsn {
    /// No record has this LSN. As a page LSN it means "never logged".
    pub const ZERO: Lsn = Lsn(0);
    /// The LSN of the first record of a new log.
    pub const FIRST: Lsn = Lsn(4096);
    /// LSNs end here, at 2^63.
    pub const LIMIT: Lsn = Lsn(1 << 63);

    /// The LSN with this value.
    pub const fn new(value: u64) -> Lsn {
        Lsn(value)
    }

    /// The value as an integer.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The LSN `bytes` further on. The caller has checked that it stays below [`Lsn::LIMIT`].
    #[must_use]
    pub(crate) const fn advance(self, bytes: u64) -> Lsn {
        Lsn(self.0 + bytes)
    }

    /// The distance in bytes from `earlier` to this LSN, 0 if `earlier` is not earlier.
    #[must_use]
    pub const fn distance_from(self, earlier: Lsn) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl From<Lsn> for u64 {
    fn from(lsn: Lsn) -> u64 {
        lsn.0
    }
}

impl std::str::FromStr for Lsn {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Lsn, Self::Err> {
        text.parse().map(Lsn)
    }
}
