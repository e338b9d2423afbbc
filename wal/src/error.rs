//! The one error type of the crate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::lsn::Lsn;

/// The result of an operation on a log.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure an [`Error`] is: what the caller does next depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system or the device failed an operation. Nothing was changed, or what was changed is described
    /// by the message. Look at [`Error::io_error`], mend the cause, try again.
    Io,
    /// The disk, the quota or the file size limit is exhausted. The log goes on working once there is room: free space
    /// (truncation works on a full disk) and append again.
    Full,
    /// Bytes on disk are not what was written and synced. Nothing was changed. Run `walctl verify`, restore from a
    /// replica or a backup, or let `walctl repair` save what is left.
    Corruption,
    /// Another handle, in this process or another, has the log open for writing. Close it first.
    InUse,
    /// An earlier write or sync failed; [`Error::source`](StdError::source) is that first failure. The handle is of no
    /// more use: drop it, mend the cause, and open the log again. What was in flight may or may not be there then.
    Poisoned,
    /// The record or batch does not fit a segment. Split it, or open the log with a larger `segment_bytes_max`.
    TooLarge,
    /// A safety rail: the request would remove what a checkpoint or a hold still needs. Nothing was changed. Advance the
    /// checkpoint or release the hold first.
    Refused,
    /// The records asked for were removed by a truncation. Start again at the log's start LSN.
    Truncated,
    /// There is no log in the directory, or no record at the LSN. Check the path or the LSN.
    NotFound,
    /// A newer version of this crate wrote the log. Nothing was changed. Open it with that version.
    UnsupportedVersion,
    /// The log was closed. Open it again.
    Closed,
    /// A setting or an argument is out of its range. Correct the call.
    Invalid,
    /// The LSNs of this log are used up. Start a new log.
    Exhausted,
    /// A deadline passed before the record was acknowledged. It stays appended, and may be waited for again.
    TimedOut,
}

/// A failed operation on a log.
///
/// Crates that build on the log use it for their own failures too, so that a caller handles one type.
///
/// It names the operation, the path, the segment, offset and LSN where they are known, and the cause. Cloning is cheap, so one
/// failure can be given to everybody who waited.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    operation: &'static str,
    detail: String,
    path: Option<PathBuf>,
    segment: Option<u64>,
    offset: Option<u64>,
    lsn: Option<Lsn>,
    valid_records_after: Option<u64>,
    source: Option<Source>,
}

#[derive(Clone)]
enum Source {
    Io(Arc<io::Error>),
    Log(Error),
}

impl Error {
    /// A failure of `operation` (an infinitive such as "sync segment") with one sentence of detail.
    pub fn new(kind: ErrorKind, operation: &'static str, detail: impl Into<String>) -> Error {
        Error(Arc::new(Inner {
            kind,
            operation,
            detail: detail.into(),
            path: None,
            segment: None,
            offset: None,
            lsn: None,
            valid_records_after: None,
            source: None,
        }))
    }

    /// An I/O failure. Running out of space, quota or file size becomes [`ErrorKind::Full`].
    pub fn io(operation: &'static str, path: impl AsRef<Path>, cause: io::Error) -> Error {
        let kind = if is_full(&cause) { ErrorKind::Full } else { ErrorKind::Io };
        let mut error = Error::new(kind, operation, "").at_path(path);
        error.inner_mut().source = Some(Source::Io(Arc::new(cause)));
        error
    }

    /// What everybody gets after `first` poisoned the handle.
    pub fn poisoned(first: &Error) -> Error {
        let detail = "an earlier write or sync failed, so the handle is poisoned";
        let mut error = Error::new(ErrorKind::Poisoned, "use log", detail);
        let inner = error.inner_mut();
        inner.path = first.0.path.clone();
        inner.segment = first.0.segment;
        inner.lsn = first.0.lsn;
        inner.source = Some(Source::Log(first.clone()));
        error
    }

    fn inner_mut(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    /// Adds the path, unless one is known.
    #[must_use]
    pub fn at_path(mut self, path: impl AsRef<Path>) -> Error {
        self.inner_mut().path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Adds a sentence to the detail.
    #[must_use]
    pub fn with_detail(mut self, detail: impl AsRef<str>) -> Error {
        let inner = self.inner_mut();
        if !inner.detail.is_empty() {
            inner.detail.push_str("; ");
        }
        inner.detail.push_str(detail.as_ref());
        self
    }

    /// The same failure where it cannot be mended by making room.
    #[must_use]
    pub fn into_io(mut self) -> Error {
        self.inner_mut().kind = ErrorKind::Io;
        self
    }

    pub(crate) fn at_segment(mut self, segment: u64) -> Error {
        self.inner_mut().segment.get_or_insert(segment);
        self
    }

    /// Adds the offset in the file, unless one is known.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Error {
        self.inner_mut().offset.get_or_insert(offset);
        self
    }

    /// Adds the LSN, unless one is known.
    #[must_use]
    pub fn at_lsn(mut self, lsn: Lsn) -> Error {
        self.inner_mut().lsn.get_or_insert(lsn);
        self
    }

    pub(crate) fn with_valid_records_after(mut self, count: u64) -> Error {
        self.inner_mut().valid_records_after = Some(count);
        self
    }

    /// What kind of failure this is, and so what to do next.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The operation that failed, as an infinitive.
    pub fn operation(&self) -> &'static str {
        self.0.operation
    }

    /// What is wrong, in one sentence, without the places and the cause; empty if the cause says it all.
    pub fn detail(&self) -> &str {
        &self.0.detail
    }

    /// The file or directory concerned.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The segment number concerned.
    pub fn segment(&self) -> Option<u64> {
        self.0.segment
    }

    /// The offset in the file concerned, in bytes.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// The LSN concerned.
    pub fn lsn(&self) -> Option<Lsn> {
        self.0.lsn
    }

    /// For corruption: how many valid records follow the damage, as far as they were looked for.
    pub fn valid_records_after(&self) -> Option<u64> {
        self.0.valid_records_after
    }

    /// The failure of the operating system at the bottom of this error.
    pub fn io_error(&self) -> Option<&io::Error> {
        match &self.0.source {
            Some(Source::Io(error)) => Some(error),
            Some(Source::Log(error)) => error.io_error(),
            None => None,
        }
    }

    /// Whether an earlier failure poisoned the handle.
    pub fn is_poisoned(&self) -> bool {
        self.0.kind == ErrorKind::Poisoned
    }

    /// Whether bytes on disk are damaged.
    pub fn is_corruption(&self) -> bool {
        self.0.kind == ErrorKind::Corruption
    }

    /// Whether the disk, a quota or a file size limit is exhausted.
    pub fn is_full(&self) -> bool {
        self.0.kind == ErrorKind::Full
    }

    fn advice(&self) -> Option<&'static str> {
        match self.0.kind {
            ErrorKind::Full => Some("free space, for instance by truncating the log, and try again"),
            ErrorKind::Corruption => Some(
                "run `walctl verify`, and restore from a replica or a backup, or see what `walctl repair` would save",
            ),
            ErrorKind::InUse => Some("close the other handle first"),
            ErrorKind::Poisoned => Some("drop the handle, mend the cause, and open the log again"),
            ErrorKind::UnsupportedVersion => Some("open it with the version that wrote it, or a newer one"),
            _ => None,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        write!(f, "cannot {}", inner.operation)?;
        if let Some(path) = &inner.path {
            write!(f, " {}", path.display())?;
        }
        let places = [
            inner.segment.map(|segment| format!("segment {segment}")),
            inner.offset.map(|offset| format!("offset {offset}")),
            inner.lsn.map(|lsn| format!("LSN {lsn}")),
        ];
        let places: Vec<String> = places.into_iter().flatten().collect();
        if !places.is_empty() {
            write!(f, " ({})", places.join(", "))?;
        }
        if !inner.detail.is_empty() {
            write!(f, ": {}", inner.detail)?;
        }
        if let Some(count) = inner.valid_records_after {
            write!(f, "; {count} valid records follow the damage")?;
        }
        match &inner.source {
            Some(Source::Io(error)) => write!(f, ": {error}")?,
            Some(Source::Log(error)) => write!(f, "; the first failure was: {error}")?,
            None => {}
        }
        match self.advice() {
            Some(advice) => write!(f, " ({advice})"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(Source::Io(error)) => Some(&**error),
            Some(Source::Log(error)) => Some(error),
            None => None,
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> io::Error {
        let kind = error.io_error().map_or(io::ErrorKind::Other, io::Error::kind);
        io::Error::new(kind, error)
    }
}
