//! Harness shared by the tests: workloads, the oracle of the contract, the explorer of crashes, seeds.
//!
//! ```text
//! Op list -> Run (one log over a simulated file system) -> Steps, each with the model before and after it and its crash points
//! crash point -> outcomes of a crash -> recovery -> oracle
//! ```
//!
//! Everything is deterministic: one thread, a manual clock, a fixed log id, seeds. A failure names the operations, the step, the call
//! and the plan of the crash. `WAL_TEST_SEED` repeats the run with one seed, `WAL_TEST_DEEP=1` explores more, `WAL_TEST_STATES` sets
//! how many outcomes are looked at for each crash point.

pub mod explore;
pub mod oracle;
pub mod rng;
pub mod run;
pub mod settings;
pub mod watchdog;
