//! The latch of the first failure.

use std::sync::OnceLock;

use wal::{Error, ErrorKind, Result};

/// Remembers the first failure after which nothing in memory can be trusted to reach the disk.
#[derive(Debug, Default)]
pub(crate) struct Failure {
    first: OnceLock<Error>,
}

impl Failure {
    /// Fails if the store is poisoned.
    pub(crate) fn check(&self) -> Result<()> {
        match self.first.get() {
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

    /// Poisons the store, unless it is already.
    pub(crate) fn poison(&self, error: &Error) {
        self.first.get_or_init(|| error.clone());
    }
}
