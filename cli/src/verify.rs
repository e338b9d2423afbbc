//! `walctl verify`: every byte of a log, judged.

use serde::Serialize;
use wal::inspect::Depth;

use crate::args::{InspectArgs, ReportFormat};
use crate::failure::{Exit, Failure, Result};
use crate::info::{leftovers, summary};
use crate::log::{LogView, SegmentView, Surveyed, look};
use crate::output::{Out, count, say};

/// The report as JSON: that of `info`, and what follows from it.
#[derive(Serialize)]
struct Report<'a> {
    exit_code: u8,
    next_step: &'a str,
    #[serde(flatten)]
    log: &'a LogView,
}

/// Runs the command.
pub(crate) fn run(args: &InspectArgs) -> Result<Exit> {
    let surveyed = look(&args.dir, Depth::Full)?;
    let exit = surveyed.exit();
    let next_step = next_step(&surveyed);
    let mut out = Out::new();
    match args.format {
        ReportFormat::Json => {
            out.json_pretty(&Report { exit_code: exit as u8, next_step, log: &surveyed.view })?;
        }
        ReportFormat::Table => show(&mut out, &surveyed.view, next_step)?,
    }
    out.finish()?;
    if let Some(failure) = surveyed.failure() {
        return Err(failure);
    }
    if surveyed.has_torn_tail() {
        say(format_args!("walctl: warning: {}", surveyed.view.explanation));
    }
    Ok(Exit::Fine)
}

fn show(out: &mut Out, view: &LogView, next_step: &str) -> Result<()> {
    for segment in &view.segments {
        show_segment(out, segment)?;
    }
    leftovers(out, &view.leftovers)?;
    out.line(format_args!(""))?;
    summary(out, view)?;
    out.line(format_args!("next step        {next_step}"))
}

fn show_segment(out: &mut Out, segment: &SegmentView) -> Result<()> {
    let verdict = segment.damage.as_ref().map_or("ok", |damage| damage.kind);
    let range = match (&segment.base_lsn, &segment.end_lsn) {
        (Some(base), Some(end)) => format!("LSN {base} to {end}"),
        (Some(base), None) => format!("from LSN {base}"),
        _ => "no LSNs".to_owned(),
    };
    let records = segment.records.map_or("not read".to_owned(), |records| count(records, "valid record"));
    out.line(format_args!(
        "segment {} ({}): {verdict}; {}, {range}, {records}, {} bytes",
        segment.number, segment.file, segment.state, segment.bytes
    ))?;
    let Some(damage) = &segment.damage else { return Ok(()) };
    out.line(format_args!("  at offset {}, LSN {}: {}", damage.offset, damage.lsn, damage.reason))?;
    out.line(format_args!("  behind it in this segment: {}", count(damage.valid_records_after, "valid record")))?;
    match &damage.witness {
        Some(witness) => out.line(format_args!(
            "  the log itself witnesses that everything below LSN {witness} was durable, so this is no torn write"
        )),
        None => out.line(format_args!("  nothing witnesses that it was ever durable")),
    }
}

fn next_step(surveyed: &Surveyed) -> &'static str {
    match surveyed.failure().as_ref().map(Failure::exit) {
        Some(Exit::Version) => {
            "open the log with the version that wrote it, or a newer one; nothing is known to be wrong"
        }
        Some(Exit::Corruption) => "copy the directory before anything else, then restore from a replica or a backup",
        Some(_) => "mend the cause and verify again",
        None if surveyed.has_torn_tail() => "nothing: the next open cuts the tail, of which nothing was ever durable",
        None => "nothing: the log is sound",
    }
}
