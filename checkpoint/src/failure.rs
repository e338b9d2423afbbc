//! The latch of the first failure.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use wal::{Error, ErrorKind, Result};

/// Remembers the first failure after which nothing in memory can be trusted to reach the disk.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    first: OnceLock<Error>,
    is_closed: AtomicBool,
}

impl Failure {
    /// Fails if the store is poisoned or closed.
    pub(crate) fn check(&self) -> Result<()> {
        match self.first.get() {
            None if self.is_closed.load(Ordering::Acquire) => {
                Err(Error::new(ErrorKind::Closed, "use store", "the store was closed"))
            }
            None => Ok(()),
            Some(first) => Err(Error::poisoned(first)),
        }
    }

    /// Decides whether an error of a write, a sync or the log poisons the store, and returns what the caller gets: the error.
    pub(crate) fn judge(&self, error: Error) -> Error {
        match error.kind() {
            // Nothing was changed, and trying again later may work.
            ErrorKind::Full
            | ErrorKind::TooLarge
            | ErrorKind::Invalid
            | ErrorKind::Closed
            | ErrorKind::TimedOut
            | ErrorKind::Exhausted
            | ErrorKind::Refused => error,
            _ => {
                self.poison(&error);
                error
            }
        }
    }

    /// Refuses everything from now on: the files belong to whoever opens the store next.
    pub(crate) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Poisons the store, unless it is already.
    pub(crate) fn poison(&self, error: &Error) {
        self.first.get_or_init(|| error.clone());
    }
}
