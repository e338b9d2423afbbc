//! Harness shared by the tests: workloads, the oracle of the contract, the explorer of crashes, seeds.
//!
//! ```text
//! Op list -> Run (one log over a simulated file system) -> Steps, each with the model before and after it and its crash points
//! crash point -> outcomes of a crash -> image -> recovery (once for equal images) -> oracle -> Count, or a Violation -> shrink
//! ```
//!
//! [`explore::explore`] takes how to open a log, operations and limits, and returns what it looked at or the first broken promise.
//! [`faulty`] lets calls fail, [`threads`] has several threads append, truncate and read while images of crashes are taken.
//!
//! All but [`threads`] is deterministic: one thread for each log, a manual clock, a fixed log id, seeds. A failure names the operations, the step, the call, and what survived the crash. `WAL_TEST_SEED` repeats the run with one seed, `WAL_TEST_DEEP=1`
//! explores without a limit of time, `WAL_TEST_STATES` sets how many outcomes are looked at for each crash point.

pub mod careless;
pub mod crash;
pub mod explore;
pub mod faulty;
pub mod ops;
pub mod oracle;
pub mod recovery;
pub mod rng;
pub mod run;
pub mod settings;
pub mod shrink;
pub mod threads;
pub mod violation;
pub mod watchdog;
pub mod workers;
