//! Every guard of the log and of the store (a sync, a check, an order of steps) in a list, each with the change that takes it out and the test that notices.
//!
//! ```text
//! guards/*.txt -> Guard list -> a copy of the workspace in which each guard has a switch -> test binaries, built once
//!              -> for each guard: its switch on, the test that is named for it must fail
//! ```
//!
//! The switches exist in the copy alone: an environment variable of a test process names the guard that is gone in it. The source
//! knows nothing of them. A fast test sees to it that every entry of the list still fits the source, and that it names a test that exists.

pub mod list;
pub mod suite;
pub mod switch;
