//! Locks, atomics and threads whose interleaving a test chooses.
//!
//! The types have the interface of `parking_lot` and `std`, as far as the log uses it. Inside an execution that an [`Explorer`] started,
//! one task runs at a time, and before each operation that another task could see the scheduler decides who goes on. So an
//! interleaving is a function of a seed, a hang is a task list in which nobody can go on, and a run can be repeated. Outside of an
//! execution the types work as those that they stand for.
//!
//! Tasks are threads of the operating system that pass the turn on. That costs microseconds a switch, and it is what makes a panic of one
//! task what it is in production: it unwinds one thread, `std::thread::panicking` is true there and nowhere else, and destructors
//! that take locks may be interleaved with everybody else.
//!
//! What is explored is sequentially consistent: each operation takes effect at once for all tasks, whatever its ordering says.
//!
//! ```
//! use std::sync::Arc;
//!
//! use wal_scheduler::atomic::{AtomicU64, Ordering};
//! use wal_scheduler::{Explorer, thread};
//!
//! let lost_update = || {
//!     let count = Arc::new(AtomicU64::new(0));
//!     let other = Arc::clone(&count);
//!     let task = thread::spawn(move || other.store(other.load(Ordering::SeqCst) + 1, Ordering::SeqCst));
//!     count.store(count.load(Ordering::SeqCst) + 1, Ordering::SeqCst);
//!     task.join().unwrap();
//!     assert_eq!(count.load(Ordering::SeqCst), 2);
//! };
//! let failure = Explorer::new("lost update").preemptions(1, 1000).find(lost_update).expect_err("one update is lost");
//! assert!(failure.to_string().contains("WAL_TEST_SCHEDULE"));
//! ```

pub mod atomic;
mod execution;
mod explore;
pub mod futex;
mod pool;
mod random;
mod strategy;
mod sync;
pub mod thread;

pub use execution::{Died, die, is_scheduled, now, pick, point};
pub use explore::{Explorer, Failure, Report};
pub use random::Random;
pub use sync::{Condvar, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard};
