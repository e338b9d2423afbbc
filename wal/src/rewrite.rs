//! The crash-safe replacement of a segment: verified frames into a temp file, the temp synced, renamed over the segment, the
//! directory synced. Truncation at both ends, recovery and repair all go through it.

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::{LogDir, LogFile, Temp};
use crate::lsn::Lsn;
use crate::record::{clear_continues, padding_header, restamp};
use crate::segment::header::SegmentHeader;
use crate::segment::name;
use crate::segment::reader::SegmentReader;

/// Bytes written at once.
const WRITE_BYTES: usize = 1 << 20;

/// A synced replacement, waiting for [`LogDir::commit`], and the checksum of its last frame.
#[derive(Debug)]
pub(crate) struct Replacement {
    pub(crate) temp: Temp,
    pub(crate) header: SegmentHeader,
    pub(crate) last_checksum: u32,
}

/// Writes the frames from `new.base` to `new.sealed_end` of the segment `source` into a temp file with the header `new`, verifying each
/// frame as it is read and again as it was written. The original is not touched.
pub(crate) fn replacement(
    dir: &LogDir,
    source: &LogFile,
    old: &SegmentHeader,
    new: SegmentHeader,
) -> Result<Replacement> {
    let end = new.sealed_end.expect("a rewritten segment has an end");
    assert!(new.base >= old.base, "{new:?} does not replace {old:?}");
    replacement_of_runs(dir, source, old, new, &[(new.base, end)])
}

/// As [`replacement`], of some runs of frames in LSN order, none of which overlaps another. Between them and in front of them
/// there is padding.
pub(crate) fn replacement_of_runs(
    dir: &LogDir,
    source: &LogFile,
    old: &SegmentHeader,
    new: SegmentHeader,
    runs: &[(Lsn, Lsn)],
) -> Result<Replacement> {
    let end = new.sealed_end.expect("a rewritten segment has an end");
    assert!(new.segment == old.segment, "{new:?} does not replace {old:?}");
    let mut last_checksum = 0;
    let temp = dir.write_temp(&name::segment(new.segment), |file| {
        file.write_at(&new.encode(), 0)?;
        let mut at = new.base;
        for &run in runs {
            if run.0 > at {
                let padding = padding_header(new.identity(), at, Lsn::ZERO, run.0.distance_from(at));
                file.write_at(&padding, new.offset_of(at))?;
            }
            copy_frames(source, old, file, &new, run)?;
            at = run.1;
        }
        last_checksum = verify(file, &new, end)?;
        Ok(())
    })?;
    Ok(Replacement { temp, header: new, last_checksum })
}

fn copy_frames(
    source: &LogFile,
    old: &SegmentHeader,
    target: &LogFile,
    new: &SegmentHeader,
    (from, end): (Lsn, Lsn),
) -> Result<()> {
    let identity = new.identity();
    let is_restamped = identity != old.identity();
    let mut reader = SegmentReader::new(source.clone(), *old, from, end);
    let mut pending = Vec::with_capacity(WRITE_BYTES);
    let mut offset = new.offset_of(from);
    loop {
        match reader.advance()? {
            Ok((lsn, header)) => {
                let frame = reader.frame(lsn, header);
                let at = pending.len();
                pending.extend_from_slice(frame.bytes);
                if is_restamped {
                    if frame.end() == end {
                        // What is kept of a batch that is cut in two is complete now.
                        clear_continues(&mut pending[at..]);
                    }
                    restamp(&mut pending[at..], identity, frame.lsn);
                }
            }
            Err(_) if reader.lsn() == end => break,
            Err(stop) => return Err(reader.corruption(stop)),
        }
        if pending.len() >= WRITE_BYTES {
            target.write_at(&pending, offset)?;
            offset += pending.len() as u64;
            pending.clear();
        }
    }
    target.write_at(&pending, offset)
}

/// Writes the header and the frames up to `end` again, over themselves, and syncs them: for when there is no room for a
/// replacement. A crash meanwhile finds the same bytes, or those that were there before.
pub(crate) fn write_again(file: &LogFile, header: &SegmentHeader, end: Lsn) -> Result<()> {
    file.write_at(&header.encode(), 0)?;
    let mut reader = SegmentReader::new(file.clone(), *header, header.base, end);
    loop {
        match reader.advance()? {
            Ok((lsn, frame)) => file.write_at(reader.frame(lsn, frame).bytes, header.offset_of(lsn))?,
            Err(_) if reader.lsn() == end => return file.sync_all(),
            Err(stop) => return Err(reader.corruption(stop)),
        }
    }
}

/// Reads back what was written. Returns the checksum of the last frame.
fn verify(file: &LogFile, header: &SegmentHeader, end: Lsn) -> Result<u32> {
    let mut reader = SegmentReader::new(file.clone(), *header, header.base, end);
    let mut last_checksum = 0;
    loop {
        match reader.advance()? {
            Ok((_, header)) => last_checksum = header.checksum,
            Err(_) if reader.lsn() == end => return Ok(last_checksum),
            Err(stop) => {
                let cause = reader.corruption(stop);
                return Err(
                    Error::new(ErrorKind::Io, "verify rewritten segment", cause.to_string()).at_path(file.path())
                );
            }
        }
    }
}
