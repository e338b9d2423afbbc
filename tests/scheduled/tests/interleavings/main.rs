//! The log under schedules that a seed chooses: no interleaving of appenders, readers, truncation, close and failures breaks a promise.
//!
//! A failure names the seed or the schedule: `WAL_TEST_SEED=17 cargo test -p wal-scheduled NAME` repeats it. `WAL_TEST_DEEP=1` explores
//! twenty times as much.

mod append;
mod close;
mod death;
mod disk;
mod failure;
mod linear;
mod races;
mod tickets;
mod truncation;
mod world;
