//! The structural events of a log, as `tracing` events if the feature is on and as nothing if it is not.

use crate::error::Error;
use crate::lsn::Lsn;

#[cfg(feature = "tracing")]
macro_rules! event {
    ($level:ident, $($rest:tt)*) => { tracing::$level!(target: "wal", $($rest)*) };
}

#[cfg(not(feature = "tracing"))]
macro_rules! event {
    ($level:ident, $($name:ident = $value:expr,)* $message:literal) => {{ $(let _ = &$value;)* }};
}

/// A write or sync failed and the handle is of no more use.
pub(crate) fn poisoned(error: &Error) {
    event!(error, error = error.to_string(), "log poisoned");
}

/// The active segment changed.
pub(crate) fn rotated(segment: u64, base: Lsn) {
    event!(debug, segment = segment, base = base.get(), "segment rotated");
}

/// The next segment could not be prepared.
pub(crate) fn preparation_failed(error: &Error) {
    event!(warn, error = error.to_string(), "segment preparation failed");
}

/// The space of a removed file could not be given back in steps. Closing it gives it back at once.
pub(crate) fn freeing_failed(error: &Error) {
    event!(warn, error = error.to_string(), "space not freed in steps");
}

/// The statistics file could not be written.
pub(crate) fn statistics_failed(error: &Error) {
    event!(warn, error = error.to_string(), "statistics not written");
}

/// A log was opened.
pub(crate) fn opened(start: Lsn, end: Lsn, decision: &'static str) {
    event!(info, start = start.get(), end = end.get(), decision = decision, "log opened");
}

/// Records were removed at one end.
pub(crate) fn truncated(start: Lsn, end: Lsn, segments: u64) {
    event!(info, start = start.get(), end = end.get(), segments = segments, "log truncated");
}

/// The log could not be closed cleanly while its last handle was dropped; the next open recovers it.
pub(crate) fn close_failed(error: &Error) {
    event!(warn, error = error.to_string(), "log not closed cleanly");
}
