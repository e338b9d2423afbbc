//! The locks, atomics and threads that the log is built on.
//!
//! They are those of `parking_lot` and `std`, under one name each. Only the package `tests/scheduled`, which compiles this source a second
//! time, sets the configuration `wal_scheduled` and gets types whose interleaving a test chooses.

#[cfg(not(wal_scheduled))]
pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};
#[cfg(not(wal_scheduled))]
pub(crate) use std::sync::{OnceLock, atomic};
#[cfg(not(wal_scheduled))]
pub(crate) use std::thread;

#[cfg(wal_scheduled)]
pub(crate) use wal_scheduler::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, atomic, thread};
