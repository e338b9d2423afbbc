//! Records as rows and as lines of JSON.

use serde::Serialize;
use wal::{Lsn, RecordRef};

use super::{DumpArgs, Finish, PayloadForm, tree};
use crate::args::Format;
use crate::failure::Result;
use crate::output::{Out, SCHEMA, columns};
use crate::payload;
use crate::ui::{HEADING, paint};

const LSN_WIDTH: usize = 12;
const FIXED_WIDTH: usize = LSN_WIDTH + 2 + 7 + 2 + 5 + 2 + 8 + 2;

/// A record without its payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Head {
    lsn: Lsn,
    segment: u64,
    pub(super) record_type: u16,
    is_ignorable: bool,
    bytes: usize,
}

impl Head {
    pub(super) fn of(record: &RecordRef<'_>) -> Head {
        Head {
            lsn: record.lsn,
            segment: record.segment,
            record_type: record.record_type.get(),
            is_ignorable: record.record_type.is_ignorable(),
            bytes: record.payload.len(),
        }
    }

    pub(super) fn is_ignorable(&self) -> bool {
        self.is_ignorable
    }

    /// What a decoder reads in front of the payload.
    pub(super) fn request(&self) -> String {
        format!("{} {} {}\n", self.lsn, self.record_type, self.bytes)
    }
}

/// A record as a line of JSON.
#[derive(Serialize)]
struct Line {
    schema: u32,
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
    #[serde(skip_serializing_if = "is_false")]
    cut: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    decoded: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tree: Option<serde_json::Value>,
}

// The signature is what `skip_serializing_if` calls.
fn is_false(value: &bool) -> bool {
    !*value
}

/// Prints records.
pub(super) struct Printer<'a> {
    out: &'a mut Out,
    format: Format,
    form: Option<PayloadForm>,
    bytes_max: usize,
    width: usize,
    rows: u64,
}

impl<'a> Printer<'a> {
    /// Prints what stands above the records.
    pub(super) fn new(args: &DumpArgs, format: Format, out: &'a mut Out) -> Result<Printer<'a>> {
        match format {
            Format::Table => {
                let what = match (&args.decoder, args.payload) {
                    (Some(_), _) => "  DECODED",
                    (None, Some(PayloadForm::None)) => "",
                    _ => "  PAYLOAD",
                };
                let line = format!("{:>LSN_WIDTH$}  {:>7}  {:>5}  {:>8}{what}", "LSN", "SEGMENT", "TYPE", "LEN");
                out.line(format_args!("{}", paint(HEADING, &line)))?;
            }
            Format::Json => out.text(&format!("{{\"schema\":{SCHEMA},\"kind\":\"records\",\"records\":["))?,
            Format::Jsonl => {}
        }
        let bytes_max = args.max_bytes.map_or(usize::MAX, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(Printer { out, format, form: args.payload, bytes_max, width: columns(), rows: 0 })
    }

    /// Prints a record with its payload.
    pub(super) fn record(&mut self, head: &Head, payload: &[u8]) -> Result<()> {
        if self.form == Some(PayloadForm::Tree)
            && let Some((words, value)) = tree::told(head, payload)
        {
            return match self.format {
                Format::Table => self.row(head, &words),
                _ => self.line(&Line { tree: Some(value), ..line(head) }),
            };
        }
        let payload = &payload[..payload.len().min(self.bytes_max)];
        let is_cut = payload.len() < head.bytes;
        if self.format == Format::Table {
            let mut text = match self.form {
                None | Some(PayloadForm::Tree) => payload::escaped(payload, self.width.saturating_sub(FIXED_WIDTH)),
                Some(PayloadForm::None) => String::new(),
                Some(PayloadForm::Utf8) => payload::escaped(payload, usize::MAX),
                Some(PayloadForm::Hex) => payload::hex(payload),
                Some(PayloadForm::Base64) => payload::base64(payload),
            };
            if is_cut && self.form != Some(PayloadForm::None) && !text.ends_with("...") {
                text.push_str("...");
            }
            return self.row(head, &text);
        }
        let (payload, lossy) = match self.form {
            None | Some(PayloadForm::None | PayloadForm::Tree) => (None, false),
            Some(PayloadForm::Hex) => (Some(payload::hex(payload)), false),
            Some(PayloadForm::Base64) => (Some(payload::base64(payload)), false),
            Some(PayloadForm::Utf8) => {
                let is_lossy = std::str::from_utf8(payload).is_err();
                (Some(String::from_utf8_lossy(payload).into_owned()), is_lossy)
            }
        };
        let cut = is_cut && payload.is_some();
        self.line(&Line { payload, lossy, cut, ..line(head) })
    }

    /// Prints a record with what the user's decoder said about it.
    pub(super) fn decoded(&mut self, head: &Head, text: &str) -> Result<()> {
        match self.format {
            Format::Table => self.row(head, &payload::escaped(text.as_bytes(), usize::MAX)),
            _ => self.line(&Line { decoded: Some(text.to_owned()), ..line(head) }),
        }
    }

    fn row(&mut self, head: &Head, text: &str) -> Result<()> {
        let gap = if text.is_empty() { "" } else { "  " };
        self.out.line(format_args!(
            "{:>LSN_WIDTH$}  {:>7}  {:>5}  {:>8}{gap}{text}",
            head.lsn.get(),
            head.segment,
            head.record_type,
            head.bytes,
        ))
    }

    fn line(&mut self, line: &Line) -> Result<()> {
        if self.format == Format::Json {
            self.out.text(if self.rows == 0 { "\n" } else { "," })?;
        }
        self.rows += 1;
        self.out.json_line(line)
    }

    /// Prints what stands below the records, and writes out what is buffered.
    pub(super) fn finish(&mut self) -> Result<()> {
        if self.format == Format::Json {
            self.out.text("]}\n")?;
        }
        self.out.finish()
    }
}

impl Finish for Printer<'_> {
    fn pause(&mut self) -> Result<()> {
        self.out.finish()
    }
}

fn line(head: &Head) -> Line {
    Line {
        schema: SCHEMA,
        lsn: head.lsn.to_string(),
        segment: head.segment,
        record_type: head.record_type,
        ignorable: head.is_ignorable,
        len: head.bytes,
        payload: None,
        lossy: false,
        cut: false,
        decoded: None,
        tree: None,
    }
}
