//! The segment that takes records, and the one that is ready to be next.

use std::sync::Arc;

use crate::fs::durable::LogFile;
use crate::lsn::Lsn;
use crate::record::{Identity, LogId};
use crate::segment::header::{HEADER_BYTES, SegmentHeader};

/// A segment whose name is durable and whose blocks are written, waiting to take records. Its header is blank.
#[derive(Debug)]
pub(crate) struct ReadySegment {
    pub(crate) number: u64,
    pub(crate) file: LogFile,
    pub(crate) file_bytes: u64,
}

/// A segment that takes records. The descriptor that wrote them stays open until they are synced, because a write-back error
/// is reported to descriptors that were open when it happened.
#[derive(Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) number: u64,
    pub(crate) log_id: LogId,
    pub(crate) epoch: u64,
    pub(crate) base: Lsn,
    /// No frame reaches past it.
    pub(crate) limit: Lsn,
    pub(crate) identity: Identity,
    pub(crate) file: LogFile,
}

impl ActiveSegment {
    /// The segment behind `self`, starting at `base`.
    pub(crate) fn successor(&self, ready: ReadySegment, base: Lsn) -> Arc<ActiveSegment> {
        assert!(ready.number == self.number + 1, "segment {} does not follow {}", ready.number, self.number);
        Arc::new(ActiveSegment {
            number: ready.number,
            log_id: self.log_id,
            epoch: self.epoch,
            base,
            limit: base.advance(ready.file_bytes - HEADER_BYTES),
            identity: Identity::new(self.log_id, ready.number, self.epoch),
            file: ready.file,
        })
    }

    /// The segment whose header is on disk already.
    pub(crate) fn from_header(header: &SegmentHeader, limit: Lsn, file: LogFile) -> Arc<ActiveSegment> {
        Arc::new(ActiveSegment {
            number: header.segment,
            log_id: header.log_id,
            epoch: header.epoch,
            base: header.base,
            limit,
            identity: header.identity(),
            file,
        })
    }

    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        HEADER_BYTES + lsn.distance_from(self.base)
    }
}
