//! Holds: what keeps truncation away from records that somebody still needs.

use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::lsn::Lsn;
use crate::shared::Shared;

/// Keeps the log from `lsn` on from being truncated, until it is dropped.
#[derive(Debug)]
pub struct Hold {
    shared: Arc<Shared>,
    id: u64,
}

/// A hold, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldInfo {
    /// Who holds.
    pub name: String,
    /// From where on the log is kept.
    pub lsn: Lsn,
}

impl Hold {
    pub(crate) fn take(shared: Arc<Shared>, name: &str, lsn: Lsn) -> Result<Hold> {
        // The lock is taken before the start is looked at, so that no truncation slips in between.
        let structure = shared.structure.lock();
        if lsn < shared.chain.start() {
            let detail = format!("the log starts at LSN {} already", shared.chain.start());
            return Err(Error::new(ErrorKind::Truncated, "hold log", detail).at_lsn(lsn));
        }
        let id = shared.holds.lock().add(name, lsn);
        drop(structure);
        Ok(Hold { shared, id })
    }

    pub(crate) fn list(shared: &Shared) -> Vec<HoldInfo> {
        let holds = shared.holds.lock();
        let info = |(name, lsn): &(String, Lsn)| HoldInfo { name: name.clone(), lsn: *lsn };
        let mut list: Vec<HoldInfo> = holds.by_id.values().map(info).collect();
        list.sort_by_key(|hold| hold.lsn);
        list
    }

    /// The log before `lsn` is needed no more. Moving back is ignored.
    pub fn advance(&self, lsn: Lsn) {
        if let Some((_, held)) = self.shared.holds.lock().by_id.get_mut(&self.id) {
            *held = lsn.max(*held);
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shared.holds.lock().by_id.remove(&self.id);
    }
}
