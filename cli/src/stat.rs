//! `walctl stat`: what is in a log, counted.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;
use wal::inspect::Depth;
use wal::{LogReader, Lsn};

use crate::args::InspectArgs;
use crate::failure::{Exit, Failure, Result};
use crate::log::{look, seen_end};
use crate::output::{Align, Out, Table, count, fields};
use crate::size::show_bytes;
use crate::ui::Ui;

/// The counts.
#[derive(Default, Serialize)]
struct Counts {
    path: String,
    records: u64,
    batches: u64,
    payload_bytes: u64,
    frame_bytes: u64,
    file_bytes: u64,
    segments: u64,
    first_lsn: Option<String>,
    last_lsn: Option<String>,
    start_lsn: String,
    end_lsn: String,
    payload: Sizes,
    types: Vec<TypeCount>,
}

/// Sizes of payloads in bytes.
#[derive(Default, Serialize)]
struct Sizes {
    min: u64,
    p50: u64,
    p90: u64,
    p99: u64,
    max: u64,
}

/// Records of one type.
#[derive(Clone, Default, Serialize)]
struct TypeCount {
    #[serde(rename = "type")]
    number: u16,
    ignorable: bool,
    records: u64,
    payload_bytes: u64,
}

/// Runs the command. What was counted before damage is shown before the error is.
pub(crate) fn run(args: &InspectArgs, ui: Ui) -> Result<Exit> {
    let surveyed = look(&args.dir, Depth::Tail, ui, 1)?;
    let mut counts = Counts {
        path: surveyed.view.path.clone(),
        file_bytes: surveyed.view.bytes,
        segments: surveyed.view.segments.len() as u64,
        start_lsn: surveyed.view.start_lsn.clone(),
        end_lsn: surveyed.view.end_lsn.clone(),
        ..Counts::default()
    };
    let ended = count_records(args, ui, seen_end(&surveyed.survey), &mut counts);
    if counts.records == 0 {
        // There is nothing to show of a log that cannot be read at all.
        ended?;
        return finish(&counts, ui);
    }
    finish(&counts, ui)?;
    ended.map(|()| Exit::Fine)
}

fn finish(counts: &Counts, ui: Ui) -> Result<Exit> {
    let mut out = Out::new();
    if !out.document(ui.format, "stat", counts)? {
        show(&mut out, counts)?;
    }
    out.finish()?;
    Ok(Exit::Fine)
}

/// Counts the records below `end`.
fn count_records(args: &InspectArgs, ui: Ui, end: Lsn, counts: &mut Counts) -> Result<()> {
    let mut sizes: Histogram<u64> =
        Histogram::new(3).map_err(|error| Failure::Words(Exit::Io, format!("cannot make a histogram: {error}")))?;
    let mut types: BTreeMap<(u16, bool), TypeCount> = BTreeMap::new();
    let mut reader = LogReader::open(&args.dir)?.reader(Lsn::ZERO)?;
    let bar = ui.bar("reading");
    let mut is_in_batch = false;
    let ended = loop {
        let record = match reader.next_record() {
            Ok(Some(record)) if record.lsn < end => record,
            Ok(_) => break Ok(()),
            Err(error) => break Err(error.into()),
        };
        let bytes = record.payload.len() as u64;
        counts.records += 1;
        counts.payload_bytes += bytes;
        counts.frame_bytes += record.end.distance_from(record.lsn);
        counts.first_lsn.get_or_insert_with(|| record.lsn.to_string());
        counts.last_lsn = Some(record.lsn.to_string());
        // A batch is a run of frames that continue, and the one that ends it.
        counts.batches += u64::from(record.continues && !is_in_batch);
        is_in_batch = record.continues;
        sizes.saturating_record(bytes);
        let key = (record.record_type.get(), record.record_type.is_ignorable());
        let of_type = types.entry(key).or_insert(TypeCount { number: key.0, ignorable: key.1, ..Default::default() });
        of_type.records += 1;
        of_type.payload_bytes += bytes;
        if counts.records.is_multiple_of(1 << 14) {
            bar.show(counts.frame_bytes, counts.file_bytes);
        }
    };
    drop(bar);
    let quantile = |quantile| sizes.value_at_quantile(quantile).min(sizes.max());
    counts.payload =
        Sizes { min: sizes.min(), p50: quantile(0.5), p90: quantile(0.9), p99: quantile(0.99), max: sizes.max() };
    counts.types = types.into_values().collect();
    ended
}

fn show(out: &mut Out, counts: &Counts) -> Result<()> {
    let per_record = |bytes: u64| bytes.checked_div(counts.records).map_or("-".to_owned(), show_bytes);
    let of_files = 100.0 * counts.payload_bytes as f64 / counts.file_bytes.max(1) as f64;
    let Sizes { min, p50, p90, p99, max } = counts.payload;
    fields(
        out,
        &[
            ("path", counts.path.clone()),
            ("records", counts.records.to_string()),
            ("batches", format!("{} of more than one record", counts.batches)),
            ("first LSN", counts.first_lsn.clone().unwrap_or_else(|| "-".to_owned())),
            ("last LSN", counts.last_lsn.clone().unwrap_or_else(|| "-".to_owned())),
            ("payload", format!("{}, {} a record", show_bytes(counts.payload_bytes), per_record(counts.payload_bytes))),
            ("payload sizes", format!("min {min}, p50 {p50}, p90 {p90}, p99 {p99}, max {max} bytes")),
            ("frames", format!("{}, {} a record", show_bytes(counts.frame_bytes), per_record(counts.frame_bytes))),
            (
                "files",
                format!(
                    "{} in {}; {of_files:.0}% of it is payload",
                    show_bytes(counts.file_bytes),
                    count(counts.segments, "segment")
                ),
            ),
        ],
    )?;
    out.line(format_args!(""))?;
    let mut table = Table::new(&[("TYPE", Align::Right), ("RECORDS", Align::Right), ("PAYLOAD BYTES", Align::Right)]);
    for of_type in &counts.types {
        let mark = if of_type.ignorable { " (ignorable)" } else { "" };
        table.row(vec![
            format!("{}{mark}", of_type.number),
            of_type.records.to_string(),
            of_type.payload_bytes.to_string(),
        ]);
    }
    out.table(&table)
}
