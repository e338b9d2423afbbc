//! A segmented write-ahead log for databases.
//!
//! ```text
//! append     payload -> frame (its LSN given under the queue lock) -> group -> one write -> one sync -> marks -> acknowledgement
//! open       lock -> survey -> decide -> make what is kept durable -> report
//! read       durable mark -> segment -> scan -> record
//! truncate   copy the boundary -> replace the control file (the commit) -> remove segments -> rename the copy over the boundary
//! ```
//!
//! | mode | `append` returns when | after `kill -9` | after power loss |
//! |---|---|---|---|
//! | [`SyncMode::Sync`] | the record and all before it are synced | kept | kept |
//! | [`SyncMode::Batch`] | handed to the operating system; synced after a delay or bytes, whichever comes first | kept | a suffix younger than that may be lost |
//! | [`SyncMode::None`] | handed to the operating system; synced when asked, after rotation and at close | kept | a suffix may be lost |
//!
//! In every mode what survives is a prefix of what was appended, a batch is there whole or not at all, and no LSN ever names
//! two records. The whole contract is `specs/contract.md`, the bytes on disk are `specs/format.md`.
//!
//! ```
//! # fn main() -> wal::Result<()> {
//! # let dir = std::env::temp_dir().join(format!("wal-doctest-{}", std::process::id()));
//! # let dir = dir.as_path();
//! use wal::{Config, Lsn, Wal};
//!
//! let log = Wal::open(dir, Config::default())?;
//! let lsn = log.append(b"debit alice 5")?; // durable when it returns
//! log.append_batch(&["credit bob 5", "commit"])?; // both or neither
//! log.close()?;
//!
//! let log = Wal::open(dir, Config::default())?;
//! for record in log.reader(Lsn::ZERO)? {
//!     println!("{}", String::from_utf8_lossy(&record?.payload));
//! }
//! log.truncate_before(lsn)?; // once the pages are checkpointed
//! # log.close()?;
//! # std::fs::remove_dir_all(dir).expect("the directory of the test is there");
//! # Ok(())
//! # }
//! ```

mod append;
mod buffer;
mod clock;
mod commit;
mod config;
mod control;
mod error;
mod event;
mod follow;
pub mod fs;
mod gentle;
mod hold;
pub mod inspect;
mod last_written;
mod log_reader;
mod lsn;
mod metrics;
#[cfg(not(feature = "museum"))]
mod museum;
#[cfg(feature = "museum")]
#[doc(hidden)]
pub mod museum;
mod observe;
mod opener;
mod prepare;
mod publish;
mod record;
mod recover;
pub mod repair;
mod report;
mod rewrite;
mod scan;
mod segment;
mod shared;
mod statistics;
mod stream;
mod sync;
mod tail;
mod ticket;
mod truncate;
mod wal;
mod watermark;

pub use append::{AppendOptions, Batch, BatchLsns};
pub use clock::{Clock, ManualClock, SystemClock};
pub use config::{Background, Config, SyncMode};
pub use error::{Error, ErrorKind, Result};
pub use follow::Follower;
pub use hold::{Hold, HoldInfo};
pub use inspect::LogEnd;
pub use log_reader::LogReader;
pub use lsn::Lsn;
pub use metrics::{Stats, Summary};
pub use opener::Opener;
pub use record::{LogId, RecordType, ReservedRecordType};
pub use report::{CutReason, CutReport, FoundState, Progress, RecoveryReport};
pub use tail::{Reader, Record, RecordRef};
pub use ticket::{DurableSubscription, Ticket};
pub use truncate::{Boundary, TruncatePolicy, Truncation};
pub use wal::Wal;
pub use watermark::Durability;
