//! `walctl ls`: the files of a log.

use std::fs;
use std::path::Path;

use serde::Serialize;
use wal::inspect::Depth;

use crate::args::{Format, InspectArgs};
use crate::failure::{Exit, Result};
use crate::log::{LogView, look};
use crate::output::{Align, Cell, Out, Table};
use crate::size::show_time;
use crate::ui::{BAD, Ui, WARNING};

/// A file of a log's directory.
#[derive(Serialize)]
struct FileView<'a> {
    file: &'a str,
    #[serde(rename = "is")]
    what: &'a str,
    bytes: Option<u64>,
    segment: Option<u64>,
    epoch: Option<u64>,
    base_lsn: Option<&'a str>,
    end_lsn: Option<&'a str>,
    created_micros: Option<u64>,
    damage: Option<&'a str>,
}

#[derive(Serialize)]
struct Files<'a> {
    files: &'a [FileView<'a>],
}

/// Runs the command.
pub(crate) fn run(args: &InspectArgs, ui: Ui) -> Result<Exit> {
    let surveyed = look(&args.dir, Depth::Tail, ui, 1)?;
    let files = files(&args.dir, &surveyed.view, surveyed.live_statistics());
    let mut out = Out::new();
    if ui.format == Format::Jsonl {
        files.iter().try_for_each(|file| out.json("file", file))?;
    } else if !out.document(ui.format, "files", &Files { files: &files })? {
        out.table(&table(&files))?;
    }
    out.finish()?;
    surveyed.failure().map_or(Ok(Exit::Fine), Err)
}

/// What every log has beside its segments, as `specs/format.md` names it.
const OWN: [(&str, &str); 3] = [
    ("control", "control file: where the log starts, its checkpoint, how it was closed"),
    ("lock", "lock file: held by the process that writes"),
    ("reserve", "reserve: given up when a truncation finds the disk full"),
];

/// Segments first, then the log's own files, then what does not belong to it.
fn files<'a>(dir: &Path, view: &'a LogView, statistics: Option<&'a str>) -> Vec<FileView<'a>> {
    let segments = view.segments.iter().map(|segment| FileView {
        file: &segment.file,
        what: segment.state,
        bytes: Some(segment.bytes),
        segment: Some(segment.number),
        epoch: segment.epoch,
        base_lsn: segment.base_lsn.as_deref(),
        end_lsn: segment.end_lsn.as_deref(),
        created_micros: segment.created_micros,
        damage: segment.damage.as_ref().map(|damage| damage.kind),
    });
    let own = OWN.into_iter().filter(|(file, _)| dir.join(file).exists());
    let leftovers = view.leftovers.iter().map(|leftover| (leftover.file.as_str(), leftover.fate));
    let others = leftovers.chain(statistics.map(|file| (file, "what the process that writes says of itself")));
    let others = own.chain(others).map(|(file, what)| FileView {
        file,
        what,
        bytes: bytes_of(&dir.join(file)),
        segment: None,
        epoch: None,
        base_lsn: None,
        end_lsn: None,
        created_micros: None,
        damage: None,
    });
    segments.chain(others).collect()
}

/// How large a file is. A directory has no size that says anything, and a file may be gone since it was listed.
fn bytes_of(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().filter(fs::Metadata::is_file).map(|metadata| metadata.len())
}

fn table(files: &[FileView<'_>]) -> Table {
    let mut table = Table::new(&[
        ("FILE", Align::Left),
        ("BYTES", Align::Right),
        ("EPOCH", Align::Right),
        ("BASE LSN", Align::Right),
        ("END LSN", Align::Right),
        ("CREATED (UTC)", Align::Left),
        ("IS", Align::Left),
    ]);
    for file in files {
        let number = |number: Option<u64>| Cell::from(number.map_or("-".to_owned(), |number| number.to_string()));
        let lsn = |lsn: Option<&str>| Cell::from(lsn.unwrap_or("-"));
        table.row(vec![
            Cell::from(file.file),
            number(file.bytes),
            number(file.epoch),
            lsn(file.base_lsn),
            lsn(file.end_lsn),
            Cell::from(file.created_micros.map_or("-".to_owned(), show_time)),
            match file.damage {
                Some("torn tail" | "write in flight") => {
                    Cell::styled(format!("{}, {}", file.what, file.damage.unwrap_or_default()), WARNING)
                }
                Some(damage) => Cell::styled(format!("{}, {damage}", file.what), BAD),
                None => Cell::from(file.what),
            },
        ]);
    }
    table
}
