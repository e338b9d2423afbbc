//! Pages on a write-ahead log.
//!
//! ```text
//! change      latch pages -> log record -> change in memory -> ticket
//! flush       copy dirty pages -> images into the log -> log durable -> pages into the file
//! checkpoint  redo point -> sync log -> write pages -> sync page file -> checkpoint record -> control file -> truncate log
//! open        control file -> redo from its redo point -> checkpoint
//! ```
//!
//! [`Store`] is an ordered map of byte strings: a B+tree in a page file, kept safe by the log of the crate [`wal`]. [`Checkpointer`] is the part
//! of it that a database with its own pages can use alone. The steps of a checkpoint hand each other tokens ([`LogDurable`],
//! [`PagesSynced`], [`CheckpointLogged`], [`CheckpointCommitted`]) that nothing else can make, so pages never reach the disk before their log, and
//! the log is never cut before the pages are on the disk.
//!
//! ```
//! # fn main() -> wal::Result<()> {
//! # let temp = tempfile::tempdir().expect("a temporary directory");
//! # let dir = temp.path();
//! use checkpoint::{Batch, Config, Store};
//!
//! let store = Store::open(dir, Config::default())?;
//! store.put("alice", "100")?; // durable when it returns
//! store.write(Batch::new().put(b"alice", b"95").put(b"bob", b"5"))?; // both or neither
//! assert_eq!(store.get("alice")?.as_deref(), Some(b"95".as_slice()));
//! for entry in store.range("a".."c").rev() {
//!     let (key, value) = entry?;
//!     println!("{}: {}", String::from_utf8_lossy(&key), String::from_utf8_lossy(&value));
//! }
//! store.checkpoint()?; // the log before it is gone, the next open is quick
//! store.close()?;
//!
//! let store = Store::open(dir, Config::default())?;
//! assert_eq!(store.get("bob")?.as_deref(), Some(b"5".as_slice()));
//! # store.close()?;
//! # Ok(())
//! # }
//! ```

mod batch;
mod change;
mod checkpointer;
mod config;
mod control;
mod failure;
mod file;
mod flush;
pub mod inspect;
#[cfg(feature = "museum")]
pub mod museum;
#[cfg(not(feature = "museum"))]
mod museum;
mod page;
mod pool;
mod proof;
mod recover;
mod schedule;
mod shared;
mod spare;
mod store;
mod tree;

pub use batch::{Batch, WriteOptions};
pub use change::{CHANGES, CHECKPOINT, IMAGES};
pub use checkpointer::{CheckpointReport, Checkpointer, DirtyTable, Pages};
pub use config::Config;
pub use page::{PageId, PageKind};
pub use proof::{CheckpointCommitted, CheckpointLogged, LogDurable, Pace, PagesSynced, RedoPoint};
pub use recover::{Progress, RecoveryReport};
pub use store::{Opener, Range, Stats, Store};
pub use tree::cursor::Entry;

/// The examples of the README and of the guides run as tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../README.md")]
    struct Readme;

    #[doc = include_str!("../../specs/guide/quickstart.md")]
    struct Quickstart;

    #[doc = include_str!("../../specs/guide/database-authors.md")]
    struct DatabaseAuthors;
}
