//! `kill -9` of a real process, whatever it is doing.
//!
//! The writing process is this test binary, executed again: it opens the log, appends from several threads, follows and truncates, and
//! says what was acknowledged over a pipe. It is killed at a moment that follows from a seed. What it wrote to the pipe before stays
//! there, so the test knows what was acknowledged. Then the log is read and compared, and the next process goes on with it. Another
//! process reads the log all the time.
//!
//! `WAL_TEST_KILLS` sets how often each test kills; `WAL_TEST_SEED` repeats a seed.

#![cfg(target_os = "linux")]

mod ledger;
mod life;
mod lock;
mod opening;
mod process;
mod reader;
mod record;
mod stopped;
mod writer;
