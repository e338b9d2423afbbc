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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use wal::fs::sim::{Fault, Operation, SimFs, errno};
    use wal::{Background, Error, ErrorKind, SyncMode};

    use super::*;
    use crate::Store;

    const KEYS: u64 = 2000;

    fn store(fs: &SimFs) -> Store {
        let mut config = Config { page_bytes: 4096, pool_bytes: 256 * 4096, ..Config::default() };
        (config.log.segment_bytes_max, config.log.background, config.log.sync_mode) =
            (64 << 10, Background::Inline, SyncMode::None);
        let store = Store::opener(config).file_system(Arc::new(fs.clone())).open("/store").expect("a new store opens");
        for number in 0..KEYS {
            store.put(number.to_be_bytes(), [7; 100]).expect("a put works");
        }
        store
    }

    #[test]
    fn the_redo_point_is_above_no_change_of_a_page_that_is_not_in_the_table() {
        let store = store(&SimFs::new(1));
        let (core, goes, ends) = (store.core(), AtomicBool::new(false), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in (0..KEYS).cycle().step_by(37) {
                    while !goes.load(Ordering::SeqCst) && !ends.load(Ordering::SeqCst) {
                        std::hint::spin_loop();
                    }
                    if ends.load(Ordering::SeqCst) {
                        break;
                    }
                    store.put(number.to_be_bytes(), [8; 100]).expect("a put works");
                }
            });
            let round = |round: u32| {
                goes.store(true, Ordering::SeqCst);
                let taken = core.take_redo_point();
                goes.store(false, Ordering::SeqCst);
                let (redo, table) = taken.expect("it can be taken");
                // Nobody wrote pages, so what is dirty now and was changed below the redo point was so when it was taken.
                let missing = core
                    .tree
                    .pool
                    .dirty_table(redo.lsn())
                    .into_iter()
                    .find(|(id, _)| table.pages().iter().all(|(listed, _)| listed != id));
                while core.tree.flusher.clean_some().expect("pages are written") > 0 {}
                missing.map(|(id, lsn)| format!("round {round}: page {id}, changed at {lsn}, below {}", redo.lsn()))
            };
            let missing = (0..400).find_map(round);
            ends.store(true, Ordering::SeqCst);
            assert_eq!(missing, None);
        });
    }

    #[test]
    fn what_is_logged_while_the_dirty_pages_are_listed_is_above_the_redo_point() {
        let store = store(&SimFs::new(1));
        let core = store.core();
        let pages = core.tree.pool.dirty_table(core.log().next_lsn());
        let (last, _) = *pages.last().expect("there are dirty pages");
        store.checkpoint().expect("a checkpoint works");
        // The list waits for the last page, when it has come by those before it.
        let latch = core.tree.pool.write(last).expect("it is in the pool");
        let (redo, table) = std::thread::scope(|scope| {
            let (tell, told) = channel();
            let lists = scope.spawn(move || {
                let taken = core.take_redo_point();
                tell.send(()).unwrap_or_default();
                taken
            });
            told.recv_timeout(Duration::from_millis(200)).expect_err("it waits");
            store.put(0u64.to_be_bytes(), [8; 100]).expect("a put works");
            drop(latch);
            lists.join().expect("no panic").expect("it can be taken")
        });
        let changed = core.tree.pool.dirty_table(redo.lsn());
        assert_eq!(changed, table.pages(), "what was changed below the redo point is listed");
        assert_eq!(core.tree.pool.dirty(), 1);
    }

    #[test]
    fn a_checkpoint_waits_for_a_page_that_is_being_changed() {
        let store = store(&SimFs::new(1));
        let core = store.core();
        let durable = LogDurable::everything(core.log()).expect("the log can be synced");
        let (id, _) = core.tree.pool.dirty_table(core.log().next_lsn())[1];
        std::thread::scope(|scope| {
            let (tell, told) = channel();
            let (end, ended) = channel::<()>();
            scope.spawn(move || {
                let latch = core.tree.pool.write(id).expect("it is in the pool");
                tell.send(()).expect("somebody listens");
                // Until the write is over, or has had time to show that it waits.
                ended.recv_timeout(Duration::from_millis(200)).unwrap_or_default();
                drop(latch);
            });
            told.recv().expect("it is latched");
            assert_eq!(Pages::write(core, &[id], &durable).expect("it is written"), 1);
            drop(end);
        });
    }

    #[test]
    fn a_checkpoint_of_a_log_without_dirty_pages_moves_the_redo_point() {
        let store = store(&SimFs::new(1));
        let core = store.core();
        store.checkpoint().expect("a checkpoint works");
        store.put("one", "more").expect("a put works");
        while core.tree.flusher.clean_some().expect("pages are written") > 0 {}
        assert_eq!(core.tree.pool.dirty(), 0);
        let end = core.log().next_lsn();
        let report = store.checkpoint().expect("a checkpoint works").expect("there is a log to be done with");
        assert!(report.redo_lsn >= end && report.pages_written == 0);
        assert_eq!(store.stats().redo_lsn, report.redo_lsn);
    }

    #[test]
    fn a_store_that_failed_syncs_nothing_and_makes_no_checkpoint() {
        let fs = SimFs::new(1);
        let store = store(&fs);
        let core = store.core();
        core.failure.poison(&Error::new(ErrorKind::Io, "test", "a failure"));
        fs.record_trace(true);
        assert!(Pages::sync(core).expect_err("refused").is_poisoned());
        assert!(core.checkpoint(Pace::Fast).expect_err("refused").is_poisoned());
        assert!(fs.take_trace().is_empty());
    }

    #[test]
    fn a_failed_sync_of_the_pages_poisons_the_store_at_once() {
        let fs = SimFs::new(1);
        let store = store(&fs);
        fs.plan(Fault::error(errno::EIO).on(Operation::SyncData).name("pages"));
        Pages::sync(store.core()).expect_err("the sync fails");
        assert!(store.core().failure.check().expect_err("poisoned").is_poisoned());
    }
}
