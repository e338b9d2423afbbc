//! The targets of the fuzzer. Each takes bytes, makes of them something that a disk or a program may hold against the log, and panics if
//! the log breaks a promise.
//!
//! | target | what the bytes are |
//! |---|---|
//! | [`frames`] | frames of one open segment, most of them with right checksums: types, flags, lengths, witnesses, stale ones, nested ones |
//! | [`segments`] | changes of the headers, frames and control file of a log of several segments, with their checksums made right again |
//! | [`directory`] | a directory: names and contents of files, copied, cut, mixed up, foreign |
//! | [`operations`] | operations on a log, crashes among them, checked against a model |
//!
//! `fuzz/` gives them to libFuzzer. The tests of this package run them on the corpora that are kept there, and on variations of those by a
//! seed.

mod directory;
mod format;
mod frames;
mod input;
mod judge;
mod operations;
mod segments;
pub mod vary;

pub use directory::directory;
pub use frames::frames;
pub use operations::operations;
pub use segments::segments;

/// A target with its name, which is that of its corpus.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 4] =
    [("frames", frames), ("segments", segments), ("directory", directory), ("operations", operations)];
