//! `walctl dump`: the records of a log, read without a lock.

use serde::Serialize;
use wal::{LogReader, Lsn, Reader, RecordRef};

use crate::args::{DumpArgs, DumpFormat, PayloadForm};
use crate::failure::{Exit, Result};
use crate::log::{cut_words, is_in_use};
use crate::output::{Out, columns, say};
use crate::payload;

/// A record as a line of JSON.
#[derive(Serialize)]
struct Line {
    lsn: String,
    segment: u64,
    #[serde(rename = "type")]
    record_type: u16,
    #[serde(skip_serializing_if = "is_false")]
    ignorable: bool,
    len: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(skip_serializing_if = "is_false")]
    lossy: bool,
}

// The signature is what `skip_serializing_if` calls.
fn is_false(value: &bool) -> bool {
    !*value
}

/// Runs the command.
pub(crate) fn run(args: &DumpArgs) -> Result<Exit> {
    let was_in_use = is_in_use(&args.dir);
    let log = LogReader::open(&args.dir)?;
    let mut reader = log.reader(args.from.unwrap_or(Lsn::ZERO))?;
    let mut out = Out::new();
    let result = records(args, &mut reader, &mut out);
    // The records before an error are shown before the error is.
    out.finish()?;
    // At the end of a live log a write in flight looks like a torn one.
    if result? && !was_in_use && !is_in_use(&args.dir) {
        warn_of_torn_tail(&reader);
    }
    Ok(Exit::Fine)
}

/// Prints the records. `true` if the end of the log was reached.
fn records(args: &DumpArgs, reader: &mut Reader, out: &mut Out) -> Result<bool> {
    let width = columns();
    if args.format == DumpFormat::Table {
        let heading = if args.payload == Some(PayloadForm::None) { "" } else { "  PAYLOAD" };
        out.line(format_args!("{:>LSN_WIDTH$}  {:>7}  {:>5}  {:>8}{heading}", "LSN", "SEGMENT", "TYPE", "LEN"))?;
    }
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        let Some(record) = reader.next_record()? else { return Ok(true) };
        if args.to.is_some_and(|to| record.lsn >= to) {
            return Ok(false);
        }
        match args.format {
            DumpFormat::Table => row(out, &record, args.payload, width)?,
            DumpFormat::Jsonl => out.json(&line(&record, args.payload))?,
        }
        left -= 1;
    }
    Ok(false)
}

const LSN_WIDTH: usize = 12;
const FIXED_WIDTH: usize = LSN_WIDTH + 2 + 7 + 2 + 5 + 2 + 8 + 2;

fn row(out: &mut Out, record: &RecordRef<'_>, form: Option<PayloadForm>, width: usize) -> Result<()> {
    let payload = match form {
        None => payload::escaped(record.payload, width.saturating_sub(FIXED_WIDTH)),
        Some(PayloadForm::None) => String::new(),
        Some(PayloadForm::Utf8) => payload::escaped(record.payload, usize::MAX),
        Some(PayloadForm::Hex) => payload::hex(record.payload),
        Some(PayloadForm::Base64) => payload::base64(record.payload),
    };
    let gap = if payload.is_empty() { "" } else { "  " };
    out.line(format_args!(
        "{:>LSN_WIDTH$}  {:>7}  {:>5}  {:>8}{gap}{payload}",
        record.lsn.get(),
        record.segment,
        record.record_type.get(),
        record.payload.len(),
    ))
}

fn line(record: &RecordRef<'_>, form: Option<PayloadForm>) -> Line {
    let (payload, lossy) = match form {
        None | Some(PayloadForm::None) => (None, false),
        Some(PayloadForm::Hex) => (Some(payload::hex(record.payload)), false),
        Some(PayloadForm::Base64) => (Some(payload::base64(record.payload)), false),
        Some(PayloadForm::Utf8) => {
            let is_lossy = std::str::from_utf8(record.payload).is_err();
            (Some(String::from_utf8_lossy(record.payload).into_owned()), is_lossy)
        }
    };
    Line {
        lsn: record.lsn.to_string(),
        segment: record.segment,
        record_type: record.record_type.get(),
        ignorable: record.record_type.is_ignorable(),
        len: record.payload.len(),
        payload,
        lossy,
    }
}

fn warn_of_torn_tail(reader: &Reader) {
    let Some(end) = reader.end() else { return };
    let Some(reason) = end.cut else { return };
    say(format_args!("walctl: warning: torn tail at LSN {}: {}. The next open cuts it.", end.lsn, cut_words(reason)));
}
