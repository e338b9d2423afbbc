//! The segment that takes records, and the one that is ready to be next.

use std::sync::Arc;

use crate::buffer::{AlignedBuffer, BLOCK_BYTES};
use crate::error::Result;
use crate::fs::durable::{LogDir, LogFile};
use crate::lsn::Lsn;
use crate::record::{Identity, LogId};
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::segment::name;

/// A segment whose name is durable and whose blocks are written, waiting to take records. Its header is blank.
#[derive(Debug)]
pub(crate) struct ReadySegment {
    pub(crate) number: u64,
    pub(crate) file: LogFile,
    pub(crate) direct: Option<LogFile>,
    pub(crate) file_bytes: u64,
    /// It was used before, and what it held then is still in it.
    pub(crate) is_recycled: bool,
}

/// A segment that takes records. The descriptor that wrote them stays open until they are synced, because a write-back error
/// is reported to descriptors that were open when it happened.
#[derive(Clone, Debug)]
pub(crate) struct ActiveSegment {
    pub(crate) number: u64,
    pub(crate) log_id: LogId,
    pub(crate) epoch: u64,
    pub(crate) base: Lsn,
    /// No frame reaches past it.
    pub(crate) limit: Lsn,
    pub(crate) identity: Identity,
    pub(crate) file: LogFile,
    /// The same file, opened for whole-block writes that are durable when they return. If it is there, all groups go through it.
    pub(crate) direct: Option<LogFile>,
    /// Behind what is written stand stale bytes, not zeros.
    pub(crate) is_recycled: bool,
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
            limit: base.advance(ready.file_bytes - HEADER_BYTES).min(Lsn::LIMIT),
            identity: Identity::new(self.log_id, ready.number, self.epoch),
            file: ready.file,
            direct: ready.direct,
            is_recycled: ready.is_recycled,
        })
    }

    /// The segment whose header is on disk already.
    pub(crate) fn from_header(
        header: &SegmentHeader,
        limit: Lsn,
        file: LogFile,
        direct: Option<LogFile>,
    ) -> Arc<ActiveSegment> {
        Arc::new(ActiveSegment {
            number: header.segment,
            log_id: header.log_id,
            epoch: header.epoch,
            base: header.base,
            limit,
            identity: header.identity(),
            file,
            direct,
            is_recycled: false,
        })
    }

    /// The same segment, written with direct I/O if the file system allows it.
    pub(crate) fn with_direct(self: &Arc<ActiveSegment>, dir: &LogDir) -> Result<Arc<ActiveSegment>> {
        let direct = dir.open_direct(&name::segment(self.number))?;
        Ok(Arc::new(ActiveSegment { direct, ..ActiveSegment::clone(self) }))
    }

    /// Whether direct writes into this segment, which ends at `end`, really work: writes a block of zeros where zeros are. Some file
    /// systems refuse them only when they are made.
    pub(crate) fn probe_direct(&self, end: Lsn) -> Result<bool> {
        let Some(direct) = &self.direct else { return Ok(false) };
        let offset = self.offset_of(end).next_multiple_of(BLOCK_BYTES as u64);
        if offset + BLOCK_BYTES as u64 > self.offset_of(self.limit) {
            return Ok(false);
        }
        let mut zeros = AlignedBuffer::default();
        zeros.extend_zeros(BLOCK_BYTES);
        match direct.write_at(zeros.as_slice(), offset) {
            Ok(()) => Ok(true),
            Err(error) => match error.io_error().map(std::io::Error::kind) {
                Some(std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Unsupported) => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// How many bytes before `lsn` a direct write that starts there has to write again, because it writes whole blocks.
    pub(crate) fn block_prefix(&self, lsn: Lsn) -> usize {
        if self.direct.is_some() { (self.offset_of(lsn) % BLOCK_BYTES as u64) as usize } else { 0 }
    }

    pub(crate) fn offset_of(&self, lsn: Lsn) -> u64 {
        HEADER_BYTES + lsn.distance_from(self.base)
    }
}
