//! The crash-safe replacement of a segment: verified frames into a temp file, the temp synced, renamed over the segment, the
//! directory synced. Truncation at both ends, recovery and repair all go through it.

use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::{LogDir, LogFile, Temp};
use crate::gentle::{Haste, Rests, STEP_BYTES};
use crate::lsn::Lsn;
use crate::record::{FRAME_HEADER_BYTES, clear_continues, padding_header, restamp};
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::segment::name;
use crate::segment::reader::SegmentReader;
use crate::stream::StreamWriter;

/// Bytes written at once where nobody appends.
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
    haste: Haste,
) -> Result<Replacement> {
    let end = new.sealed_end.expect("a rewritten segment has an end");
    assert!(new.base >= old.base, "{new:?} does not replace {old:?}");
    replacement_of_runs(dir, source, old, new, &[(new.base, end)], haste)
}

/// As [`replacement`], of some runs of frames in LSN order, none of which overlaps another. Between them and in front of them
/// there is padding.
pub(crate) fn replacement_of_runs(
    dir: &LogDir,
    source: &LogFile,
    old: &SegmentHeader,
    new: SegmentHeader,
    runs: &[(Lsn, Lsn)],
    haste: Haste,
) -> Result<Replacement> {
    let end = new.sealed_end.expect("a rewritten segment has an end");
    assert!(new.segment == old.segment, "{new:?} does not replace {old:?}");
    let name = name::segment(new.segment);
    let mut last_checksum = 0;
    let temp = dir.write_temp(&name, |file| {
        let (direct, step_bytes) = match haste {
            Haste::Full => (None, WRITE_BYTES),
            Haste::Gentle => (dir.open_direct_unsynced(&name::temp(&name))?, STEP_BYTES),
        };
        let mut output = StreamWriter::new(file, direct, step_bytes);
        output.push(&new.encode())?;
        let mut at = new.base;
        for &run in runs {
            if run.0 > at {
                let gap = run.0.distance_from(at);
                output.push(&padding_header(new.identity(), at, Lsn::ZERO, gap))?;
                output.push_zeros(gap - FRAME_HEADER_BYTES as u64)?;
            }
            copy_frames(source, old, &mut output, &new, run, haste)?;
            at = run.1;
        }
        output.finish()?;
        last_checksum = verify(file, &new, end, haste)?;
        Ok(())
    })?;
    Ok(Replacement { temp, header: new, last_checksum })
}

fn copy_frames(
    source: &LogFile,
    old: &SegmentHeader,
    output: &mut StreamWriter<'_>,
    new: &SegmentHeader,
    (from, end): (Lsn, Lsn),
    haste: Haste,
) -> Result<()> {
    let identity = new.identity();
    let is_restamped = identity != old.identity();
    let mut reader = SegmentReader::new(source.clone(), *old, from, end).with_haste(haste)?;
    let mut rests = Rests::new(haste);
    let mut restamped = Vec::new();
    loop {
        match reader.advance()? {
            Ok((lsn, header)) => {
                let frame = reader.frame(lsn, header);
                let mut bytes = frame.bytes;
                if is_restamped {
                    restamped.clear();
                    restamped.extend_from_slice(bytes);
                    if frame.end() == end {
                        // What is kept of a batch that is cut in two is complete now.
                        clear_continues(&mut restamped);
                    }
                    restamp(&mut restamped, identity, frame.lsn);
                    bytes = &restamped;
                }
                output.push(bytes)?;
                rests.done(bytes.len());
            }
            Err(_) if reader.lsn() == end => return Ok(()),
            Err(stop) => return Err(reader.corruption(stop)),
        }
    }
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

/// Reads back what was written, header and frames. Returns the checksum of the last frame.
fn verify(file: &LogFile, header: &SegmentHeader, end: Lsn, haste: Haste) -> Result<u32> {
    let mut reader = SegmentReader::new(file.clone(), *header, header.base, end).with_haste(haste)?;
    let mut rests = Rests::new(haste);
    let mut last_checksum = 0;
    let differs = |detail: String| Error::new(ErrorKind::Io, "verify rewritten segment", detail).at_path(file.path());
    let mut block = [0; HEADER_BYTES as usize];
    let read = file.read_at(&mut block, 0)?;
    if block[..read] != header.encode() {
        return Err(differs("its header does not read as it was written".to_owned()));
    }
    loop {
        match reader.advance()? {
            Ok((_, header)) => {
                last_checksum = header.checksum;
                rests.done(header.frame_bytes() as usize);
            }
            Err(_) if reader.lsn() == end => return Ok(last_checksum),
            Err(stop) => {
                return Err(differs(reader.corruption(stop).to_string()));
            }
        }
    }
}
