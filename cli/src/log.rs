//! What the library says about a log, in the form in which it is printed. Everything that depends on the shape of the library's
//! reports is here.

use std::fs::{File, TryLockError};
use std::path::Path;

use serde::Serialize;
use wal::fs::RealFileSystem;
use wal::inspect::{ChecksumOf, Depth, Outcome, SegmentInfo, SegmentState, Survey, WitnessKind, survey_with_threads};
use wal::{CutReason, FoundState, Lsn, RecoveryReport};

use crate::failure::{Exit, Failure, Result, exit_of};
use crate::output::count;
use crate::size::show_bytes;
use crate::ui::Ui;

/// A log, as `info`, `verify` and `truncate` show it. LSNs are strings, because JSON numbers end at 2^53 for many readers.
#[derive(Debug, Serialize)]
pub(crate) struct LogView {
    pub(crate) path: String,
    pub(crate) log_id: Option<String>,
    pub(crate) state: &'static str,
    pub(crate) start_lsn: String,
    pub(crate) end_lsn: String,
    pub(crate) durable_witness: String,
    pub(crate) witness_file: Option<String>,
    pub(crate) witness_kind: Option<&'static str>,
    pub(crate) checkpoint: Option<String>,
    pub(crate) records: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) verdict: &'static str,
    pub(crate) explanation: String,
    pub(crate) segments: Vec<SegmentView>,
    pub(crate) leftovers: Vec<LeftoverView>,
}

/// A segment file.
#[derive(Debug, Serialize)]
pub(crate) struct SegmentView {
    pub(crate) number: u64,
    pub(crate) file: String,
    pub(crate) state: &'static str,
    pub(crate) epoch: Option<u64>,
    pub(crate) created_micros: Option<u64>,
    pub(crate) base_lsn: Option<String>,
    pub(crate) end_lsn: Option<String>,
    pub(crate) records: Option<u64>,
    pub(crate) bytes: u64,
    pub(crate) damage: Option<DamageView>,
}

/// Damage in a segment.
#[derive(Debug, Serialize)]
pub(crate) struct DamageView {
    pub(crate) kind: &'static str,
    pub(crate) offset: u64,
    pub(crate) lsn: String,
    pub(crate) reason: String,
    pub(crate) valid_records_after: u64,
    /// The LSN below which everything is proven to have been durable, if it lies above the damage.
    pub(crate) witness: Option<String>,
    pub(crate) checksum: Option<ChecksumView>,
}

/// A checksum that does not match: what is stored, and what the bytes give.
#[derive(Debug, Serialize)]
pub(crate) struct ChecksumView {
    pub(crate) of: &'static str,
    pub(crate) expected: String,
    pub(crate) found: String,
}

impl DamageView {
    /// Whether the next open deals with it by itself, or it is no damage at all.
    pub(crate) fn is_harmless(&self) -> bool {
        matches!(self.kind, "torn tail" | "write in flight")
    }
}

/// A file that is no part of the log.
#[derive(Debug, Serialize)]
pub(crate) struct LeftoverView {
    pub(crate) file: String,
    pub(crate) fate: &'static str,
}

/// A surveyed log: what to print, and what to decide by.
pub(crate) struct Surveyed {
    pub(crate) view: LogView,
    pub(crate) survey: Survey,
    is_in_use: bool,
}

impl Surveyed {
    /// The failure that an open would meet, if it would.
    pub(crate) fn failure(&self) -> Option<Failure> {
        match &self.survey.outcome {
            Outcome::Fail(error) => Some(Failure::Log(error.clone())),
            _ => None,
        }
    }

    /// Whether an unfinished write was left behind that the next open cuts.
    pub(crate) fn has_torn_tail(&self) -> bool {
        !self.is_in_use && matches!(self.survey.outcome, Outcome::Cut { .. })
    }

    /// The file in which the process that writes says what it does.
    pub(crate) fn live_statistics(&self) -> Option<&str> {
        self.survey.statistics.as_deref().filter(|_| self.is_in_use)
    }

    /// The exit code of a command that only looks.
    pub(crate) fn exit(&self) -> Exit {
        match &self.survey.outcome {
            Outcome::Fail(error) => exit_of(error),
            _ => Exit::Fine,
        }
    }
}

/// Surveys the log in `dir`; a directory without a log is a wrong path.
pub(crate) fn look(dir: &Path, depth: Depth, ui: Ui, threads: usize) -> Result<Surveyed> {
    let is_full = depth == Depth::Full;
    let was_in_use = is_in_use(dir);
    let bar = ui.bar("reading");
    let survey = survey_with_threads(&RealFileSystem, dir, depth, threads, |progress| {
        bar.show(progress.bytes_done, progress.bytes_total)
    })?;
    drop(bar);
    if matches!(survey.outcome, Outcome::NoLog) {
        return Err(Failure::usage(format!("there is no log in {}", dir.display())));
    }
    let is_in_use = was_in_use || is_in_use(dir);
    Ok(Surveyed { view: view(dir, &survey, is_full, is_in_use), survey, is_in_use })
}

/// Whether somebody has the log open for writing. An advisory lock cannot be looked at, so this takes it in shared mode and gives
/// it back at once; a log without a readable lock file counts as not in use.
pub(crate) fn is_in_use(dir: &Path) -> bool {
    let Ok(lock) = File::open(dir.join("lock")) else { return false };
    matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock))
}

fn view(dir: &Path, survey: &Survey, is_full: bool, is_in_use: bool) -> LogView {
    let control = survey.control.as_ref();
    let (verdict, explanation) = explain(&survey.outcome, is_in_use);
    let is_all_read = is_full || survey.segments.iter().filter(|it| is_of_the_log(it)).all(|it| it.records.is_some());
    LogView {
        path: dir.display().to_string(),
        log_id: control.map(|control| control.log_id.to_string()),
        state: match control {
            _ if is_in_use => "in use",
            Some(control) if control.is_closed => "closed cleanly",
            Some(_) => "not closed",
            None => "unknown",
        },
        start_lsn: survey.start_lsn.to_string(),
        end_lsn: survey.end_lsn.to_string(),
        durable_witness: survey.witness_lsn.to_string(),
        witness_file: survey.witness.as_ref().map(|place| place.file_name.clone()),
        witness_kind: survey.witness.as_ref().map(|place| witness_words(place.kind)),
        checkpoint: control.and_then(|control| control.checkpoint_lsn).map(text),
        records: is_all_read.then_some(survey.records),
        bytes: survey.segments.iter().map(|segment| segment.file_bytes).sum(),
        verdict,
        explanation,
        segments: survey.segments.iter().map(|segment| segment_view(segment, survey.witness_lsn, is_in_use)).collect(),
        leftovers: leftovers(survey, is_in_use),
    }
}

fn text(lsn: Lsn) -> String {
    lsn.to_string()
}

/// Where the log ended when it was surveyed. Whoever reads up to there comes to an end also on a log that is written faster than it is read. No
/// end is known of a log that cannot be opened: it is read up to the damage.
pub(crate) fn seen_end(survey: &Survey) -> Lsn {
    match survey.outcome {
        Outcome::Clean | Outcome::Kept | Outcome::Cut { .. } => survey.end_lsn,
        _ => Lsn::LIMIT,
    }
}

/// Whether records of the log may lie in the segment.
pub(crate) fn is_of_the_log(segment: &SegmentInfo) -> bool {
    matches!(segment.state, SegmentState::Active | SegmentState::Sealed | SegmentState::Damaged)
}

fn explain(outcome: &Outcome, is_in_use: bool) -> (&'static str, String) {
    match outcome {
        Outcome::Clean => ("clean", "closed cleanly, and the end is where the control file says".to_owned()),
        Outcome::Kept if is_in_use => ("sound", "in use; everything that was found is valid".to_owned()),
        Outcome::Kept => ("sound", "not closed cleanly; the next open keeps everything that was found".to_owned()),
        // A writer goes on between two reads, so what looks torn or like a hole at the end of a live log is a write in flight.
        Outcome::Cut { at, .. } if is_in_use => {
            ("sound", format!("in use; records were being written from LSN {at} on while it was read"))
        }
        Outcome::Cut { reason, at } => {
            ("torn tail", format!("not closed cleanly; {} at LSN {at}, which the next open cuts", cut_words(*reason)))
        }
        Outcome::Fail(error) => match exit_of(error) {
            Exit::Version => ("newer format", error.to_string()),
            Exit::Corruption => ("corrupt", error.to_string()),
            _ => ("unreadable", error.to_string()),
        },
        _ => ("unknown", "the state of the log has no name in this version of walctl".to_owned()),
    }
}

/// The end of a log that was cut, or would be, in words.
pub(crate) fn cut_words(reason: CutReason) -> &'static str {
    match reason {
        CutReason::TornRecord => "the last write is torn",
        CutReason::TornBatch => "the last batch is not complete",
        CutReason::Hole => "there is a hole, with records behind it that were never durable",
        CutReason::TornSegment => "the last segment was begun and its header is torn",
        _ => "an unfinished write",
    }
}

fn witness_words(kind: WitnessKind) -> &'static str {
    match kind {
        WitnessKind::Control => "what was durable when it was written",
        WitnessKind::CleanEnd => "the end of a clean close",
        WitnessKind::SegmentHeader => "the header of the segment",
        WitnessKind::SealedEnd => "the sealed end in the header of the segment",
        WitnessKind::Record => "a record in it",
        _ => "a witness",
    }
}

fn segment_view(segment: &SegmentInfo, witness: Lsn, is_in_use: bool) -> SegmentView {
    SegmentView {
        number: segment.number,
        file: segment.file_name.clone(),
        state: match segment.state {
            SegmentState::Active => "active",
            SegmentState::Sealed => "sealed",
            SegmentState::Prepared => "prepared",
            SegmentState::Void => "void",
            SegmentState::Unreached => "unreached",
            SegmentState::Damaged => "damaged",
            _ => "unknown",
        },
        epoch: segment.epoch,
        created_micros: segment.created_micros,
        base_lsn: segment.base_lsn.map(text),
        end_lsn: segment.end_lsn.map(text),
        records: segment.records,
        bytes: segment.file_bytes,
        damage: segment.damage.as_ref().map(|damage| DamageView {
            kind: match (damage.is_witnessed, segment.state) {
                (true, _) => "corruption",
                (false, SegmentState::Damaged) => "damaged header",
                (false, _) if is_in_use => "write in flight",
                (false, _) => "torn tail",
            },
            offset: damage.offset,
            lsn: damage.lsn.to_string(),
            reason: damage.reason.clone(),
            valid_records_after: damage.valid_records_after,
            witness: damage.is_witnessed.then(|| witness.to_string()),
            checksum: damage.checksum.map(|checksum| ChecksumView {
                of: match checksum.of {
                    ChecksumOf::RecordHeader => "record header",
                    ChecksumOf::Payload => "payload",
                    ChecksumOf::LastRecord => "last record",
                    _ => "unknown",
                },
                expected: format!("{:08x}", checksum.expected),
                found: format!("{:08x}", checksum.found),
            }),
        }),
    }
}

fn leftovers(survey: &Survey, is_in_use: bool) -> Vec<LeftoverView> {
    let with = |files: &[String], fate| -> Vec<LeftoverView> {
        files.iter().map(|file| LeftoverView { file: file.clone(), fate }).collect()
    };
    let mut leftovers = with(&survey.sweepable, "removed by the next open");
    let statistics = survey.statistics.as_slice();
    if !is_in_use {
        leftovers.extend(with(statistics, "removed by the next open: what a process said of itself that has ended"));
    }
    leftovers.extend(with(&survey.stranded, "kept: the file it was to replace is missing"));
    leftovers.extend(with(&survey.quarantines, "kept: what a repair or a cut removed"));
    leftovers.extend(with(&survey.foreign, "foreign: left alone"));
    leftovers
}

/// What an open found and did, in one sentence.
pub(crate) fn recovery_words(report: &RecoveryReport) -> String {
    let state = match report.state {
        FoundState::Created => "created a new log",
        FoundState::Clean => "the log was closed cleanly",
        FoundState::Kept => "the log was not closed cleanly, and everything found was kept",
        FoundState::Cut => "the log was not closed cleanly, and an unfinished write was cut",
        _ => "the log was opened",
    };
    let cut = report.cut.map_or(String::new(), |cut| {
        let dropped = cut.valid_records_dropped;
        let behind = if dropped > 0 { format!(", {dropped} undurable records behind it") } else { String::new() };
        format!("; cut at LSN {} in segment {}: {}{behind}", cut.at, cut.segment, cut_words(cut.reason))
    });
    format!(
        "{state}{cut}; LSN {} to {}; read {} ({}), kept {}, rewrote {}, removed {}, in {:.1} ms",
        report.start_lsn,
        report.end_lsn,
        count(report.scanned_records, "record"),
        show_bytes(report.scanned_bytes),
        count(report.segments, "segment"),
        report.segments_rewritten,
        report.segments_removed,
        report.duration.as_secs_f64() * 1e3,
    )
}

/// Whether an open found anything that its caller should hear of.
pub(crate) fn is_unclean(report: &RecoveryReport) -> bool {
    !matches!(report.state, FoundState::Created | FoundState::Clean)
}
