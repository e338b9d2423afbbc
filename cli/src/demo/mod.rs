//! `walctl demo`: writers are killed in mid-commit, what they acknowledged is looked up, and the modes are measured.

mod crash;
mod latency;

use std::fs;
use std::io;
use std::path::Path;

use serde::Serialize;
use wal::inspect::{Depth, Outcome};
use wal::{Config, Lsn, SyncMode, Wal};

use crate::args::{DemoArgs, Format};
use crate::failure::{Exit, Failure, Result};
use crate::info::show;
use crate::log::look;
use crate::output::{Out, say};
use crate::truncate::report;
use crate::ui::Ui;
use crash::Tally;
use latency::LatencyView;

/// The modes by the names that `append` knows them by.
const MODES: [(&str, SyncMode); 3] =
    [("sync", SyncMode::Sync), ("batch", SyncMode::BATCH_DEFAULT), ("none", SyncMode::None)];

/// Threads that append at the same time.
const THREADS: usize = 4;

/// Small segments, so that a second of appends fills several.
const SEGMENT_BYTES: u64 = 256 << 10;

/// Runs the command.
pub(crate) fn run(args: &DemoArgs, ui: Ui) -> Result<Exit> {
    match &args.dir {
        Some(dir) => {
            claim(dir)?;
            run_in(dir, ui)
        }
        None => {
            let dir = tempfile::Builder::new()
                .prefix("walctl-demo-")
                .tempdir()
                .map_err(|error| Failure::io("create a temporary directory", error))?;
            let outcome = run_in(dir.path(), ui);
            let exit = outcome.as_ref().map_or_else(Failure::exit, |exit| *exit);
            if exit == Exit::Corruption {
                // What was lost is evidence, so it is not removed.
                say(format_args!("walctl: the logs are kept in {}", dir.keep().display()));
                return outcome;
            }
            let removed = dir.close();
            let exit = outcome?;
            removed.map_err(|error| Failure::io("remove the temporary directory", error))?;
            Ok(exit)
        }
    }
}

/// Creates the directory, or makes sure that there is nothing in it: the demo writes to no place that holds anything.
fn claim(dir: &Path) -> Result<()> {
    let failed = |error| Failure::io(format!("use {}", dir.display()), error);
    match fs::create_dir_all(dir) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(Failure::usage(format!("{} is not a directory", dir.display())));
        }
        Err(error) => return Err(failed(error)),
    }
    if fs::read_dir(dir).map_err(failed)?.next().is_some() {
        return Err(Failure::usage(format!("{} is not empty; the demo needs an empty directory", dir.display())));
    }
    Ok(())
}

/// The demo as JSON.
#[derive(Serialize)]
struct Report {
    path: String,
    is_whole: bool,
    crashes: Vec<CrashView>,
    latencies: Vec<LatencyView>,
}

/// A writer that was killed, and what became of its records.
#[derive(Serialize)]
struct CrashView {
    mode: &'static str,
    acknowledged: u64,
    missing: u64,
    different: u64,
    misplaced: u64,
}

fn run_in(dir: &Path, ui: Ui) -> Result<Exit> {
    let is_for_people = ui.format == Format::Table;
    let mut out = if is_for_people { Out::new() } else { Out::nowhere() };
    let mut crashes = Vec::new();
    out.line(format_args!("1. Writers are killed in mid-commit, and the log is opened again"))?;
    let mut total = Tally::default();
    for (mode, _) in MODES {
        out.line(format_args!(""))?;
        out.finish()?;
        let tally = crash::run(&mut out, &dir.join(format!("crash-{mode}")), mode)?;
        total.add(&tally)?;
        let Tally { acknowledged, missing, different, misplaced } = tally;
        crashes.push(CrashView { mode, acknowledged, missing, different, misplaced });
        out.finish()?;
    }
    out.line(format_args!(""))?;
    out.line(format_args!("2. How long an append takes, {THREADS} threads, {} byte records", latency::PAYLOAD_BYTES))?;
    out.line(format_args!("   in {}; on a file system in memory a sync costs nothing", dir.display()))?;
    out.line(format_args!(""))?;
    out.finish()?;
    let latencies = latency::run(&mut out, dir)?;
    out.line(format_args!(""))?;
    out.line(format_args!("3. The first half of a log is truncated"))?;
    out.line(format_args!(""))?;
    truncate(&mut out, &dir.join("crash-sync"), ui)?;
    out.line(format_args!(""))?;
    let exit = verdict(&mut out, &total)?;
    out.finish()?;
    if !is_for_people {
        let mut out = Out::new();
        let report = Report { path: dir.display().to_string(), is_whole: total.is_whole(), crashes, latencies };
        out.document(ui.format, "demo", &report)?;
        out.finish()?;
    }
    Ok(exit)
}

/// Truncates a log to its second half and shows it before and after.
fn truncate(out: &mut Out, dir: &Path, ui: Ui) -> Result<()> {
    let before = look(dir, Depth::Full, ui, 1)?;
    show(out, &before.view)?;
    let wal = Wal::open(dir, Config { segment_bytes_max: SEGMENT_BYTES, create: false, ..Config::default() })?;
    let records = wal.reader(Lsn::ZERO)?.count();
    let middle = wal.reader(Lsn::ZERO)?.nth(records / 2).transpose()?.map_or(wal.start_lsn(), |record| record.lsn);
    out.line(format_args!(""))?;
    out.line(format_args!("truncating before LSN {middle}, the middle one of {records} records"))?;
    let truncation = wal.truncate_before(middle)?;
    wal.close()?;
    report(out, &truncation)?;
    out.line(format_args!(""))?;
    let after = look(dir, Depth::Full, ui, 1)?;
    show(out, &after.view)?;
    if !matches!(after.survey.outcome, Outcome::Clean) || truncation.start_lsn != middle {
        let words = format!("the truncated log is not as it should be: {}", after.view.explanation);
        return Err(Failure::Words(Exit::Corruption, words));
    }
    Ok(())
}

fn verdict(out: &mut Out, total: &Tally) -> Result<Exit> {
    let crashes = MODES.len();
    if total.is_whole() {
        out.line(format_args!(
            "VERDICT: ok. {crashes} writers were killed, {} records had been acknowledged, and every one of them is there, byte for byte.",
            total.acknowledged
        ))?;
        return Ok(Exit::Fine);
    }
    out.line(format_args!(
        "VERDICT: FAILED. Of {} acknowledged records {} are missing and {} differ; {} records are not where they belong.",
        total.acknowledged, total.missing, total.different, total.misplaced
    ))?;
    Ok(Exit::Corruption)
}
