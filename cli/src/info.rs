//! `walctl info`: what a log consists of.

use wal::inspect::Depth;

use crate::args::InspectArgs;
use crate::failure::{Exit, Result};
use crate::log::{LeftoverView, LogView, SegmentView, look};
use crate::output::{Align, Cell, Out, Table, count, fields};
use crate::size::show_bytes;
use crate::ui::{BAD, Ui, WARNING};

/// Runs the command.
pub(crate) fn run(args: &InspectArgs, ui: Ui) -> Result<Exit> {
    let surveyed = look(&args.dir, Depth::Tail, ui, 1)?;
    let mut out = Out::new();
    if !out.document(ui.format, "info", &surveyed.view)? {
        show(&mut out, &surveyed.view)?;
    }
    out.finish()?;
    surveyed.failure().map_or(Ok(Exit::Fine), Err)
}

/// Shows a log: its fields, its segments, its leftovers.
pub(crate) fn show(out: &mut Out, view: &LogView) -> Result<()> {
    summary(out, view)?;
    out.line(format_args!(""))?;
    out.table(&segments(&view.segments))?;
    leftovers(out, &view.leftovers)
}

/// The fields of a log.
pub(crate) fn summary(out: &mut Out, view: &LogView) -> Result<()> {
    fields(
        out,
        &[
            ("path", view.path.clone()),
            ("log id", or_dash(view.log_id.as_deref())),
            ("state", view.state.to_owned()),
            ("start LSN", view.start_lsn.clone()),
            ("end LSN", view.end_lsn.clone()),
            ("durable witness", view.durable_witness.clone()),
            ("checkpoint", or_dash(view.checkpoint.as_deref())),
            ("records", view.records.map_or("not all read".to_owned(), |records| records.to_string())),
            ("size", format!("{} in {}", show_bytes(view.bytes), count(view.segments.len() as u64, "segment file"))),
            ("verdict", format!("{}: {}", view.verdict, view.explanation)),
        ],
    )
}

/// The segments of a log.
pub(crate) fn segments(segments: &[SegmentView]) -> Table {
    let mut table = Table::new(&[
        ("SEGMENT", Align::Right),
        ("BASE LSN", Align::Right),
        ("END LSN", Align::Right),
        ("RECORDS", Align::Right),
        ("BYTES", Align::Right),
        ("STATE", Align::Left),
    ]);
    for segment in segments {
        table.row(vec![
            Cell::from(segment.number.to_string()),
            Cell::from(or_dash(segment.base_lsn.as_deref())),
            Cell::from(or_dash(segment.end_lsn.as_deref())),
            Cell::from(segment.records.map_or("-".to_owned(), |records| records.to_string())),
            Cell::from(segment.bytes.to_string()),
            match &segment.damage {
                Some(damage) => Cell::styled(
                    format!("{}, {} at offset {}", segment.state, damage.kind, damage.offset),
                    if damage.is_harmless() { WARNING } else { BAD },
                ),
                None => Cell::from(segment.state),
            },
        ]);
    }
    table
}

/// The files that are no part of the log, if there are any.
pub(crate) fn leftovers(out: &mut Out, leftovers: &[LeftoverView]) -> Result<()> {
    if leftovers.is_empty() {
        return Ok(());
    }
    out.line(format_args!(""))?;
    let mut table = Table::new(&[("LEFTOVER", Align::Left), ("WHAT HAPPENS TO IT", Align::Left)]);
    for leftover in leftovers {
        table.row(vec![leftover.file.as_str(), leftover.fate]);
    }
    out.table(&table)
}

fn or_dash(text: Option<&str>) -> String {
    text.unwrap_or("-").to_owned()
}
