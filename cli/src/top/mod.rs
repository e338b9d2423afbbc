//! `walctl top`: a log that is being written, watched from outside.
//!
//! The files are read, without a lock. From them alone, what is durable is seen late: a record is known to be durable once a later write says so.
//! A process that writes may offer its statistics, and then they tell latencies, groups, and what is not durable yet.

mod offered;
mod show;

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
use crate::log::{is_in_use, is_of_the_log, seen_end};
use crate::output::Out;
use crate::size::parse_duration;
use crate::ui::Ui;

use offered::OfferedView;

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
    checkpoint_lsn: Option<String>,
    replay_bytes: u64,
    statistics: OfferedView,
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
    if args.interval.is_zero() {
        return Err(Failure::usage("--interval must be above 0"));
    }
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
        let read = read(args, &mut position, seen_end(&survey))?;
        let seconds = looked.elapsed().as_secs_f64().max(1e-9);
        looked = Instant::now();
        rotations += self::last_segment(&survey).saturating_sub(last_segment);
        last_segment = self::last_segment(&survey);
        let end = position.max(survey.end_lsn);
        let witnessed = survey.witness_lsn.max(read.witness);
        let checkpoint = survey.control.as_ref().and_then(|control| control.checkpoint_lsn);
        let offered = offered::look(&args.dir, &survey)?;
        let view = View {
            path: args.dir.display().to_string(),
            in_use: is_in_use(&args.dir),
            start_lsn: survey.start_lsn.to_string(),
            end_lsn: end.to_string(),
            witnessed_lsn: witnessed.to_string(),
            unwitnessed_bytes: end.distance_from(witnessed),
            records_per_second: read.records as f64 / seconds,
            bytes_per_second: position.distance_from(from) as f64 / seconds,
            records_per_sync: (read.syncs > 0).then(|| read.records as f64 / read.syncs as f64),
            segments: survey.segments.iter().filter(|segment| is_of_the_log(segment)).count() as u64,
            rotations,
            file_bytes: survey.segments.iter().map(|segment| segment.file_bytes).sum(),
            recovery_bytes: survey.scanned_bytes,
            recovery_millis: duration.as_secs_f64() * 1e3,
            checkpoint_lsn: checkpoint.map(|lsn| lsn.to_string()),
            replay_bytes: end.distance_from(checkpoint.unwrap_or_default().max(survey.start_lsn)),
            statistics: offered.view(),
        };
        match ui.format {
            Format::Table => show::show(&mut out, &view, &offered, is_screen)?,
            Format::Json | Format::Jsonl => out.json("top", &view)?,
        }
        out.finish()?;
        left -= 1;
    }
    Ok(Exit::Fine)
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

/// Reads what came since the last look, up to the end that this look saw.
fn read(args: &TopArgs, position: &mut Lsn, end: Lsn) -> Result<Read> {
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
            Ok(Some(record)) if record.lsn < end => {
                read.records += 1;
                read.syncs += u64::from(record.witness > read.witness);
                read.witness = read.witness.max(record.witness);
                *position = record.end;
            }
            Err(error) if error.kind() != ErrorKind::Truncated => return Err(error.into()),
            Ok(_) | Err(_) => return Ok(read),
        }
    }
}
