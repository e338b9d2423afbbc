//! `walctl top`: a log that is being written, watched from outside.
//!
//! Everything here is read from the files, without a lock; the process that writes is not asked. So there are no latencies. What is durable is seen late: a
//! record is known to be durable once a later write says so.

use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Args;
use serde::Serialize;
use wal::fs::RealFileSystem;
use wal::inspect::{Depth, Outcome, Survey, survey};
use wal::{ErrorKind, LogReader, Lsn};

use crate::args::Format;
use crate::failure::{Exit, Failure, Result};
use crate::log::{is_in_use, is_of_the_log};
use crate::output::{Out, fields};
use crate::size::{parse_duration, show_bytes};
use crate::ui::{GOOD, Ui, WARNING, paint};

/// `walctl top`.
#[derive(Debug, Args)]
pub(crate) struct TopArgs {
    /// Directory of the log.
    #[arg(env = "WAL_DIR", hide_env_values = true)]
    dir: PathBuf,
    /// How often to look, such as 500ms or 2s.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration, default_value = "1s")]
    interval: Duration,
    /// Look this many times, then end [default: until it is interrupted].
    #[arg(short = 'n', long = "count", value_name = "N")]
    count: Option<u64>,
}

/// One look.
#[derive(Serialize)]
struct View {
    path: String,
    in_use: bool,
    start_lsn: String,
    end_lsn: String,
    witnessed_lsn: String,
    unwitnessed_bytes: u64,
    records_per_second: f64,
    bytes_per_second: f64,
    records_per_sync: Option<f64>,
    segments: u64,
    rotations: u64,
    file_bytes: u64,
    recovery_bytes: u64,
    recovery_millis: f64,
}

/// What was read since the last look.
#[derive(Default)]
struct Read {
    records: u64,
    /// Witnesses that differ from the one before: each stands for a sync that had ended when its group was written.
    syncs: u64,
    witness: Lsn,
}

/// Runs the command.
pub(crate) fn run(args: &TopArgs, ui: Ui) -> Result<Exit> {
    let (_, first) = look(args)?;
    let (mut position, mut last_segment) = (first.end_lsn, last_segment(&first));
    let mut rotations = 0;
    let mut looked = Instant::now();
    let mut out = Out::new();
    let is_screen = ui.format == Format::Table && io::stdout().is_terminal();
    let mut left = args.count.unwrap_or(u64::MAX);
    while left > 0 {
        thread::sleep(args.interval);
        let (duration, survey) = look(args)?;
        let from = position;
        let read = read(args, &mut position)?;
        let seconds = looked.elapsed().as_secs_f64().max(1e-9);
        looked = Instant::now();
        rotations += self::last_segment(&survey).saturating_sub(last_segment);
        last_segment = self::last_segment(&survey);
        let view = View {
            path: args.dir.display().to_string(),
            in_use: is_in_use(&args.dir),
            start_lsn: survey.start_lsn.to_string(),
            end_lsn: position.max(survey.end_lsn).to_string(),
            witnessed_lsn: survey.witness_lsn.max(read.witness).to_string(),
            unwitnessed_bytes: distance(position.max(survey.end_lsn), survey.witness_lsn.max(read.witness)),
            records_per_second: read.records as f64 / seconds,
            bytes_per_second: distance(position, from) as f64 / seconds,
            records_per_sync: (read.syncs > 0).then(|| read.records as f64 / read.syncs as f64),
            segments: survey.segments.iter().filter(|segment| is_of_the_log(segment)).count() as u64,
            rotations,
            file_bytes: survey.segments.iter().map(|segment| segment.file_bytes).sum(),
            recovery_bytes: survey.scanned_bytes,
            recovery_millis: duration.as_secs_f64() * 1e3,
        };
        match ui.format {
            Format::Table => show(&mut out, &view, is_screen)?,
            Format::Json | Format::Jsonl => out.json("top", &view)?,
        }
        out.finish()?;
        left -= 1;
    }
    Ok(Exit::Fine)
}

fn distance(to: Lsn, from: Lsn) -> u64 {
    to.get().saturating_sub(from.get())
}

fn last_segment(survey: &Survey) -> u64 {
    survey.segments.iter().filter(|segment| is_of_the_log(segment)).map(|segment| segment.number).max().unwrap_or(0)
}

/// What an open after a crash would read first, and how long that takes.
fn look(args: &TopArgs) -> Result<(Duration, Survey)> {
    let began = Instant::now();
    let survey = survey(&RealFileSystem, &args.dir, Depth::Tail, |_| {})?;
    let duration = began.elapsed();
    match &survey.outcome {
        Outcome::NoLog => Err(Failure::usage(format!("there is no log in {}", args.dir.display()))),
        Outcome::Fail(error) if survey.control.is_none() => Err(error.clone().into()),
        _ => Ok((duration, survey)),
    }
}

/// Reads what came since the last look.
fn read(args: &TopArgs, position: &mut Lsn) -> Result<Read> {
    let log = LogReader::open(&args.dir)?;
    let mut read = Read::default();
    // What was truncated meanwhile cannot be counted any more.
    *position = (*position).max(log.start_lsn());
    let mut reader = match log.reader(*position) {
        Ok(reader) => reader,
        Err(error) if error.kind() == ErrorKind::Truncated => return Ok(read),
        Err(error) => return Err(error.into()),
    };
    loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                read.records += 1;
                read.syncs += u64::from(record.witness > read.witness);
                read.witness = read.witness.max(record.witness);
                *position = record.end;
            }
            Err(error) if error.kind() != ErrorKind::Truncated => return Err(error.into()),
            Ok(None) | Err(_) => return Ok(read),
        }
    }
}

fn show(out: &mut Out, view: &View, is_screen: bool) -> Result<()> {
    if is_screen {
        // To the upper left corner, and nothing below.
        out.text("\x1b[H\x1b[J")?;
    }
    let state = if view.in_use { paint(GOOD, "in use") } else { paint(WARNING, "nobody writes it") };
    fields(
        out,
        &[
            ("log", format!("{}, {state}", view.path)),
            ("LSN", format!("{} to {}", view.start_lsn, view.end_lsn)),
            (
                "records",
                format!("{:.0}/s, {}/s of log", view.records_per_second, show_bytes(view.bytes_per_second as u64)),
            ),
            (
                "a sync",
                view.records_per_sync
                    .map_or("none was seen".to_owned(), |records| format!("for every {records:.1} records")),
            ),
            (
                "not witnessed",
                format!(
                    "{} behind LSN {}; durable or not, nothing on disk says so yet",
                    show_bytes(view.unwitnessed_bytes),
                    view.witnessed_lsn
                ),
            ),
            (
                "segments",
                format!("{}, {} in all, {} rotations seen", view.segments, show_bytes(view.file_bytes), view.rotations),
            ),
            (
                "recovery",
                format!(
                    "an open after a crash now reads {} first; here that took {:.1} ms",
                    show_bytes(view.recovery_bytes),
                    view.recovery_millis
                ),
            ),
            ("latencies", "not on disk: ask the process that writes for `Wal::stats`".to_owned()),
        ],
    )?;
    if is_screen { Ok(()) } else { out.line(format_args!("")) }
}
