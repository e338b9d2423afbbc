//! What the parts of an open store share: the tree, the checkpointer and the latch of the first failure.

use std::path::PathBuf;
use std::sync::Arc;

use wal::{Result, Wal};

use crate::checkpointer::{CheckpointReport, Checkpointer, DirtyTable, Pages};
use crate::config::Config;
use crate::failure::Failure;
use crate::museum::Bug;
use crate::page::PageId;
use crate::proof::{LogDurable, Pace, RedoPoint};
use crate::tree::Tree;

/// What the store's own thread and its callers share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) tree: Tree,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) failure: Arc<Failure>,
    pub(crate) config: Config,
    pub(crate) path: PathBuf,
}

impl Pages for Core {
    fn take_redo_point(&self) -> Result<(RedoPoint, DirtyTable)> {
        let redo = self.tree.flusher.take_redo_point();
        Ok((RedoPoint::new(redo), DirtyTable::new(self.tree.pool.dirty_table(redo))))
    }

    fn prepare(&self, pages: &[PageId]) -> Result<()> {
        self.tree.flusher.log_images(pages)
    }

    fn write(&self, pages: &[PageId], _durable: &LogDurable) -> Result<u64> {
        // The flusher proves the log durable for what it copies, which may be newer than the redo point.
        self.tree.flusher.flush(pages, true)
    }

    fn sync(&self) -> Result<()> {
        self.failure.check()?;
        let file = &self.tree.flusher.file;
        match file.sync() {
            Err(_) if file.bugs.has(Bug::FailedSyncIgnored) => Ok(()),
            result => result.map_err(|error| self.failure.judge(error)),
        }
    }
}

impl Core {
    pub(crate) fn checkpoint(&self, pace: Pace) -> Result<Option<CheckpointReport>> {
        self.failure.check()?;
        self.checkpointer.run(self, pace).map_err(|error| self.failure.judge(error))
    }

    pub(crate) fn log(&self) -> &Wal {
        &self.tree.log
    }

    /// Bytes of log since the redo point.
    pub(crate) fn log_bytes(&self) -> u64 {
        self.log().next_lsn().distance_from(self.checkpointer.redo_lsn())
    }
}
