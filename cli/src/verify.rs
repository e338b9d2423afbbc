//! `walctl verify`: every byte of a log, judged.

use std::path::Path;

use anstyle::Style;
use serde::Serialize;
use wal::fs::RealFileSystem;
use wal::inspect::Depth;
use wal::repair::plan;

use crate::args::VerifyArgs;
use crate::failure::{Exit, Failure, Result};
use crate::info::{leftovers, summary};
use crate::log::{ChecksumView, LogView, SegmentView, Surveyed, look};
use crate::output::{Out, count, warn};
use crate::repair::FindingView;
use crate::ui::{BAD, GOOD, HEADING, Ui, WARNING, paint};

/// The report as JSON: that of `info`, and what follows from it.
#[derive(Serialize)]
struct Report<'a> {
    exit_code: u8,
    next_step: String,
    findings: Vec<FindingView>,
    #[serde(flatten)]
    log: &'a LogView,
}

/// Runs the command.
pub(crate) fn run(args: &VerifyArgs, ui: Ui) -> Result<Exit> {
    let depth = if args.quick { Depth::Tail } else { Depth::Full };
    let surveyed = look(&args.dir, depth, ui, args.parallel.into())?;
    let exit = surveyed.exit();
    let next_step = next_step(&surveyed, &args.dir, args.quick);
    let mut out = Out::new();
    let findings = findings(&args.dir, exit);
    let report = Report { exit_code: exit as u8, next_step, findings, log: &surveyed.view };
    if !out.document(ui.format, "verify", &report)? {
        show(&mut out, &report)?;
    }
    out.finish()?;
    if let Some(failure) = surveyed.failure() {
        return Err(failure);
    }
    if surveyed.has_torn_tail() {
        warn(format_args!("{}", surveyed.view.explanation));
    }
    Ok(Exit::Fine)
}

/// A survey ends at the first contradiction in the chain of segments. What a repair would find is everything. Why that cannot be told is told by the
/// repair itself.
fn findings(dir: &Path, exit: Exit) -> Vec<FindingView> {
    if exit != Exit::Corruption {
        return Vec::new();
    }
    plan(&RealFileSystem, dir, |_| {})
        .map_or_else(|_| Vec::new(), |plan| plan.findings.iter().map(FindingView::of).collect())
}

fn show(out: &mut Out, report: &Report<'_>) -> Result<()> {
    let view = report.log;
    for segment in &view.segments {
        show_segment(out, segment, view)?;
    }
    leftovers(out, &view.leftovers)?;
    out.line(format_args!(""))?;
    summary(out, view)?;
    out.line(format_args!("next step        {}", report.next_step))?;
    if report.findings.is_empty() {
        return Ok(());
    }
    out.line(format_args!(""))?;
    out.line(format_args!("{}", paint(HEADING, "What is wrong")))?;
    report.findings.iter().try_for_each(|finding| finding.show(out))
}

fn show_segment(out: &mut Out, segment: &SegmentView, view: &LogView) -> Result<()> {
    let verdict = match &segment.damage {
        None if segment.records.is_none() && is_read_by_a_full_verify(segment) => paint(Style::new(), "not read"),
        None => paint(GOOD, "ok"),
        Some(damage) if damage.is_harmless() => paint(WARNING, damage.kind),
        Some(damage) => paint(BAD, damage.kind),
    };
    let range = match (&segment.base_lsn, &segment.end_lsn) {
        (Some(base), Some(end)) => format!("LSN {base} to {end}"),
        (Some(base), None) => format!("from LSN {base}"),
        _ => "no LSNs".to_owned(),
    };
    let records = segment.records.map_or("records not counted".to_owned(), |records| count(records, "valid record"));
    out.line(format_args!(
        "segment {} ({}): {verdict}; {}, {range}, {records}, {} bytes",
        segment.number, segment.file, segment.state, segment.bytes
    ))?;
    let Some(damage) = &segment.damage else { return Ok(()) };
    out.line(format_args!("  at offset {}, LSN {}: {}", damage.offset, damage.lsn, damage.reason))?;
    if let Some(checksum) = &damage.checksum {
        let ChecksumView { of, expected, found } = checksum;
        out.line(format_args!("  checksum of the {of}: expected {expected}, found {found}"))?;
    }
    out.line(format_args!("  behind it in this segment: {}", count(damage.valid_records_after, "valid record")))?;
    let Some(witness) = &damage.witness else {
        return out.line(format_args!("  nothing witnesses that it was ever durable"));
    };
    let place = match (&view.witness_file, view.witness_kind) {
        (Some(file), Some(kind)) => format!(" ({file}: {kind})"),
        _ => String::new(),
    };
    out.line(format_args!("  everything below LSN {witness} is witnessed{place}, so this is no torn write"))
}

fn is_read_by_a_full_verify(segment: &SegmentView) -> bool {
    matches!(segment.state, "active" | "sealed" | "unreached")
}

fn next_step(surveyed: &Surveyed, dir: &Path, is_quick: bool) -> String {
    let dir = dir.display();
    match surveyed.failure().as_ref().map(Failure::exit) {
        Some(Exit::Version) => {
            "open the log with the version that wrote it, or a newer one; nothing is known to be wrong".to_owned()
        }
        Some(Exit::Corruption) => format!(
            "copy the directory before anything else; then restore from a replica or a backup, or see what `walctl repair {dir}` would save"
        ),
        Some(_) => "mend the cause and verify again".to_owned(),
        None if surveyed.has_torn_tail() => {
            "nothing: the next open cuts the tail, of which nothing was ever durable".to_owned()
        }
        None if is_quick => "nothing: what an open reads is sound; the rest was not read".to_owned(),
        None => "nothing: the log is sound".to_owned(),
    }
}
