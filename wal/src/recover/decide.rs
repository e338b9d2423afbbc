//! The second step of recovery: a pure function of what was surveyed. The labels are those of the table in `specs/recovery.md`.

use super::survey::{ChainSegment, ControlState, Scan, Survey};
use crate::control::{CleanEnd, Control};
use crate::error::{Error, ErrorKind};
use crate::lsn::Lsn;
use crate::scan::Stop;
use crate::segment::header::HeaderState;
use crate::segment::reader::stop_error;

/// What to do with a log.
#[derive(Debug)]
pub(crate) enum Decision {
    /// D1: there is no log, or an earlier creation did not finish.
    Create,
    /// D8: closed cleanly; goes on where it ended.
    Clean(Control, CleanEnd),
    /// D11 and D12: keep what lies before `end`, which is in the segment of the chain with index `segment`.
    Keep(Keep),
    /// D2 to D7, D9, D10: nothing is changed.
    Fail(Error),
}

/// What is kept of a log that was not closed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) control: Control,
    pub(crate) segment: usize,
    pub(crate) end: Lsn,
    /// The header checksum of the last frame that is kept of that segment.
    pub(crate) last_checksum: u32,
    /// Something behind `end` is cut, and why.
    pub(crate) cut: Option<CutReason>,
}

/// Why the end of a log is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CutReason {
    /// The last write did not reach the disk as a whole.
    TornRecord,
    /// The last frames of a batch are missing, so none of it is kept.
    TornBatch,
    /// There is a hole, with valid records behind it that were never acknowledged as durable.
    Hole,
    /// A segment was begun and its header did not reach the disk.
    TornSegment,
}

/// Decides.
pub(crate) fn decide(survey: &Survey) -> Decision {
    let control = match &survey.control {
        ControlState::Missing => return without_control(survey),
        ControlState::Newer(why) => {
            return Decision::Fail(Error::new(ErrorKind::UnsupportedVersion, "open control file", why.clone()));
        }
        ControlState::Damaged(why) => {
            return Decision::Fail(Error::new(ErrorKind::Corruption, "open control file", why.clone()));
        }
        ControlState::Valid(control) => *control,
    };
    // D3, D5, D6, D7.
    if let Some(error) = &survey.walk.broken {
        return Decision::Fail(error.clone());
    }
    match control.clean {
        Some(end) => closed(survey, control, end),
        None => open(survey, control),
    }
}

/// D1 and D2.
fn without_control(survey: &Survey) -> Decision {
    for segment in &survey.orphans {
        if let HeaderState::Newer(why) = &segment.header {
            let error = Error::new(ErrorKind::UnsupportedVersion, "open segment", why.clone());
            return Decision::Fail(error.at_path(segment.place.path()));
        }
        if !segment.is_unused {
            let detail = "the control file is missing although a segment was used";
            let error = Error::new(ErrorKind::Corruption, "open log", detail);
            return Decision::Fail(error.at_path(segment.place.path()).at_segment(segment.number));
        }
    }
    Decision::Create
}

/// D8 and D9.
fn closed(survey: &Survey, control: Control, end: CleanEnd) -> Decision {
    let chain = &survey.walk.chain;
    let last = chain.last().expect("a chain that is not broken has its start segment");
    let scan = last.scan.as_ref().expect("the last segment is always scanned");
    if let Some(error) = first_damage(survey, chain.len() - 1) {
        return Decision::Fail(error);
    }
    let ends_there =
        last.header.segment == end.segment && scan.batch_end == end.lsn && scan.last_checksum == end.checksum;
    if ends_there && last.file_bytes == last.header.offset_of(end.lsn) {
        return Decision::Clean(control, end);
    }
    let goes_on = last.header.segment > end.segment || scan.stop_lsn > end.lsn || scan.valid_after > 0;
    if goes_on && scan.stop_lsn >= end.lsn {
        return open(survey, control);
    }
    if ends_there {
        let detail = format!(
            "it has {} bytes, although the log was closed cleanly with {}",
            last.file_bytes,
            last.header.offset_of(end.lsn)
        );
        return Decision::Fail(at(last, end.lsn, Error::new(ErrorKind::Corruption, "open segment", detail)));
    }
    Decision::Fail(damage(last, scan))
}

/// D10, D11 and D12.
fn open(survey: &Survey, control: Control) -> Decision {
    let chain = &survey.walk.chain;
    let first_scanned = chain.iter().position(|segment| segment.scan.is_some()).expect("the last one is scanned");
    for (index, segment) in chain.iter().enumerate().skip(first_scanned) {
        let scan = segment.scan.as_ref().expect("all from the first on are scanned");
        let is_last = index + 1 == chain.len();
        if let Stop::Newer(_) = scan.stop {
            return Decision::Fail(damage(segment, scan));
        }
        if is_complete(segment, scan) {
            if let Some(error) = wrong_checksum(segment, scan, chain.get(index + 1)) {
                return Decision::Fail(error);
            }
            if !is_last {
                continue;
            }
        }
        // What is kept ends in this segment. If the segment is sealed and whole, the log is known to go on only at its limit.
        let is_sealed_whole = is_complete(segment, scan);
        let proven_to = if is_sealed_whole { segment.header.limit } else { scan.batch_end };
        if proven_to < survey.witness {
            return Decision::Fail(match survey.walk.torn_start() {
                Some(torn) if is_last && scan.valid_after == 0 && (is_sealed_whole || scan.stop == Stop::Zeros) => {
                    let error = Error::new(
                        ErrorKind::Corruption,
                        "open segment",
                        "synced records stood here, and its header is lost",
                    );
                    error.at_path(torn.place.path()).at_segment(torn.number).at_offset(0).at_lsn(scan.batch_end)
                }
                _ => damage(segment, scan),
            });
        }
        let cut = cut_reason(survey, scan, is_last);
        return Decision::Keep(Keep {
            control,
            segment: index,
            end: scan.batch_end,
            last_checksum: scan.last_checksum,
            cut,
        });
    }
    unreachable!("the loop ends at the last segment")
}

fn is_complete(segment: &ChainSegment, scan: &Scan) -> bool {
    segment.known_end.is_some_and(|end| scan.batch_end == end && scan.stop == Stop::AtEnd)
}

fn wrong_checksum(segment: &ChainSegment, scan: &Scan, next: Option<&ChainSegment>) -> Option<Error> {
    let next = next.filter(|next| next.header.predecessor_checksum != scan.last_checksum)?;
    let detail = format!(
        "its last record has checksum {:08x}, segment {} says {:08x}",
        scan.last_checksum, next.header.segment, next.header.predecessor_checksum
    );
    Some(at(segment, scan.stop_lsn, Error::new(ErrorKind::Corruption, "open segment", detail)))
}

fn cut_reason(survey: &Survey, scan: &Scan, is_last: bool) -> Option<CutReason> {
    if !is_last || scan.valid_after > 0 {
        return Some(CutReason::Hole);
    }
    if scan.batch_end < scan.stop_lsn {
        return Some(CutReason::TornBatch);
    }
    match scan.stop {
        Stop::Damaged(_) => Some(CutReason::TornRecord),
        Stop::AtEnd | Stop::Zeros | Stop::Newer(_) => {
            let is_torn = survey.walk.trailing.iter().any(|segment| matches!(segment.header, HeaderState::Damaged(_)));
            is_torn.then_some(CutReason::TornSegment)
        }
    }
}

/// The first damage in the scanned segments before index `before`, all of which must be whole.
pub(crate) fn first_damage(survey: &Survey, before: usize) -> Option<Error> {
    let chain = &survey.walk.chain;
    chain[..before].iter().enumerate().find_map(|(index, segment)| {
        let scan = segment.scan.as_ref()?;
        if is_complete(segment, scan) {
            wrong_checksum(segment, scan, chain.get(index + 1))
        } else {
            Some(damage(segment, scan))
        }
    })
}

/// The error for a scan that stopped where it should not have.
pub(crate) fn damage(segment: &ChainSegment, scan: &Scan) -> Error {
    if scan.stop == Stop::AtEnd && scan.batch_end < scan.stop_lsn {
        let error = Error::new(ErrorKind::Corruption, "read", "the last frames of a batch are missing");
        return at(segment, scan.batch_end, error);
    }
    stop_error(&segment.place.path(), &segment.header, scan.stop_lsn, scan.stop)
        .with_valid_records_after(scan.valid_after)
}

fn at(segment: &ChainSegment, lsn: Lsn, error: Error) -> Error {
    error
        .at_path(segment.place.path())
        .at_segment(segment.header.segment)
        .at_offset(segment.header.offset_of(lsn))
        .at_lsn(lsn)
}
