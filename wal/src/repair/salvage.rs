//! What is provably good in one segment.

use crate::error::Result;
use crate::fs::durable::LogFile;
use crate::lsn::Lsn;
use crate::record::{FRAME_ALIGN, FRAME_HEADER_BYTES, Identity, decode_header};
use crate::scan::{Flaw, Stop};
use crate::segment::header::SegmentHeader;
use crate::segment::reader::{SegmentReader, stop_error};

/// Whole batches, one behind the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) from: Lsn,
    pub(super) end: Lsn,
    pub(super) last_checksum: u32,
    pub(super) records: u64,
}

/// A place where the frames cannot be followed.
#[derive(Clone, Debug)]
pub(super) struct Break {
    /// The end of what is good before it.
    pub(super) from: Lsn,
    /// Where the bytes are wrong.
    pub(super) at: Lsn,
    pub(super) why: String,
    pub(super) is_blank: bool,
    /// Where what is good goes on; `None` if nothing good follows in this segment.
    pub(super) to: Option<Lsn>,
    /// Valid records that are given up, because their batch is torn or may be.
    pub(super) given_up: u64,
}

/// What a segment holds.
#[derive(Clone, Debug, Default)]
pub(super) struct Salvage {
    pub(super) runs: Vec<Run>,
    pub(super) breaks: Vec<Break>,
    /// The highest witness of any valid frame.
    pub(super) witness: Lsn,
}

impl Salvage {
    /// The end of what is good.
    pub(super) fn end(&self, base: Lsn) -> Lsn {
        self.runs.last().map_or(base, |run| run.end)
    }

    pub(super) fn last_checksum(&self) -> u32 {
        self.runs.last().map_or(0, |run| run.last_checksum)
    }

    pub(super) fn records(&self) -> u64 {
        self.runs.iter().map(|run| run.records).sum()
    }

    /// Keeps what ends at or before `end`.
    pub(super) fn cut(&mut self, end: Lsn) {
        self.runs.retain(|run| run.end <= end);
        self.breaks.retain(|place| place.from < end);
    }
}

/// Reads a segment up to `end` and finds everything that is good in it.
pub(super) fn salvage(file: &LogFile, header: &SegmentHeader, end: Lsn) -> Result<Salvage> {
    let mut found = Salvage::default();
    let mut from = header.base;
    loop {
        let Some(stopped) = follow(file, header, from, end, &mut found)? else { return Ok(found) };
        let mut place = Break {
            from: found.end(header.base),
            at: stopped.at,
            why: stopped.why.clone(),
            is_blank: stopped.stop == Stop::Zeros,
            to: None,
            given_up: stopped.pending,
        };
        let mut next = resync(file, header, &stopped, end)?;
        // The batch to which the first frame behind the damage belongs may have begun in what is lost.
        while let Some((at, is_start)) = next {
            if is_start {
                break;
            }
            next = pass_batch(file, header, at, end, &mut place, &mut found.witness)?;
        }
        match next {
            Some((at, _)) if at < end => {
                place.to = Some(at);
                found.breaks.push(place);
                from = at;
            }
            _ => {
                found.breaks.push(place);
                return Ok(found);
            }
        }
    }
}

/// Where the frames cannot be followed any further.
struct Stopped {
    at: Lsn,
    stop: Stop,
    why: String,
    /// Records of a batch whose end was not reached.
    pending: u64,
}

/// Follows the frames and adds a run. `None`: they lead to the end.
fn follow(file: &LogFile, header: &SegmentHeader, from: Lsn, end: Lsn, found: &mut Salvage) -> Result<Option<Stopped>> {
    let mut reader = SegmentReader::new(file.clone(), *header, from, end);
    let mut run = Run { from, end: from, last_checksum: 0, records: 0 };
    let mut pending = 0;
    let stop = loop {
        match reader.advance()? {
            Ok((_, frame)) => {
                found.witness = found.witness.max(frame.witness);
                pending += u64::from(!frame.record_type.is_system());
                if !frame.continues {
                    run =
                        Run { end: reader.lsn(), last_checksum: frame.checksum, records: run.records + pending, ..run };
                    pending = 0;
                }
            }
            Err(stop) => break stop,
        }
    };
    let at = reader.lsn();
    if run.end > run.from {
        found.runs.push(run);
    }
    match stop {
        Stop::AtEnd if run.end == at => Ok(None),
        Stop::AtEnd => {
            Ok(Some(Stopped { at, stop, why: "the last records of a batch are missing".to_owned(), pending }))
        }
        Stop::Newer(_) => Err(reader.corruption(stop)),
        _ => {
            let why = stop_error(file.path(), header, at, stop).detail().to_owned();
            Ok(Some(Stopped { at, stop, why, pending }))
        }
    }
}

/// The first valid frame behind damage, and whether a batch is known to begin there.
fn resync(file: &LogFile, header: &SegmentHeader, stopped: &Stopped, end: Lsn) -> Result<Option<(Lsn, bool)>> {
    if stopped.stop == Stop::AtEnd {
        return Ok(None);
    }
    let identity = header.identity();
    if stopped.stop == Stop::Damaged(Flaw::Payload) {
        // The header of the damaged frame is right: it says where the next one begins and whether that is of the same batch.
        let mut bytes = [0; FRAME_HEADER_BYTES];
        if file.read_at(&mut bytes, header.offset_of(stopped.at))? == FRAME_HEADER_BYTES
            && let Some(frame) = decode_header(&bytes, identity, stopped.at)
        {
            let next = stopped.at.advance(frame.frame_bytes());
            let is_there =
                find(file, header, identity, next, next.advance(FRAME_ALIGN as u64).min(end), end)?.is_some();
            if is_there || next >= end {
                return Ok((next < end).then_some((next, !frame.continues)));
            }
            return Ok(find(file, header, identity, next, end, end)?.map(|at| (at, false)));
        }
    }
    let from = stopped.at.advance(FRAME_HEADER_BYTES as u64);
    Ok(find(file, header, identity, from, end, end)?.map(|at| (at, false)))
}

/// Passes over the rest of a batch that may have begun in what is lost. Returns where the next batch begins, or the next valid frame behind
/// further damage.
fn pass_batch(
    file: &LogFile,
    header: &SegmentHeader,
    from: Lsn,
    end: Lsn,
    place: &mut Break,
    witness: &mut Lsn,
) -> Result<Option<(Lsn, bool)>> {
    let mut reader = SegmentReader::new(file.clone(), *header, from, end);
    loop {
        match reader.advance()? {
            Ok((_, frame)) => {
                *witness = (*witness).max(frame.witness);
                place.given_up += u64::from(!frame.record_type.is_system());
                if !frame.continues {
                    return Ok(Some((reader.lsn(), true)));
                }
            }
            Err(stop @ Stop::Newer(_)) => return Err(reader.corruption(stop)),
            Err(stop) => {
                let stopped = Stopped { at: reader.lsn(), stop, why: String::new(), pending: 0 };
                return resync(file, header, &stopped, end);
            }
        }
    }
}

/// The first LSN at or behind `from` and before `to` at which a wholly valid frame of this identity stands that ends at or before `end`.
pub(super) fn find(
    file: &LogFile,
    header: &SegmentHeader,
    identity: Identity,
    from: Lsn,
    to: Lsn,
    end: Lsn,
) -> Result<Option<Lsn>> {
    const CHUNK: u64 = 1 << 20;
    let mut bytes = vec![0; CHUNK as usize + FRAME_HEADER_BYTES];
    let mut chunk = from;
    while chunk < to {
        let read = file.read_at(&mut bytes, header.offset_of(chunk))?;
        let mut at = 0;
        while at + FRAME_HEADER_BYTES <= read && (at as u64) < CHUNK && chunk.advance(at as u64) < to {
            let lsn = chunk.advance(at as u64);
            if let Some(frame) = decode_header(&bytes[at..], identity, lsn)
                && lsn.advance(frame.frame_bytes()) <= end
            {
                let mut body = vec![0; frame.frame_bytes() as usize - FRAME_HEADER_BYTES];
                let offset = header.offset_of(lsn) + FRAME_HEADER_BYTES as u64;
                if file.read_at(&mut body, offset)? == body.len() && frame.body_is_valid(&body) {
                    return Ok(Some(lsn));
                }
            }
            at += FRAME_ALIGN;
        }
        if read < bytes.len() {
            return Ok(None);
        }
        chunk = chunk.advance(CHUNK);
    }
    Ok(None)
}
