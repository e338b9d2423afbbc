//! `walctl checkpoint`: a store of the crate `checkpoint`, looked at from its files.

mod view;

use std::path::{Path, PathBuf};

use checkpoint::inspect::{Finding, Progress, VerifyOptions, show, verify};
use clap::{Args, Subcommand};
use wal::fs::RealFileSystem;

use crate::failure::{Exit, Failure, Result};
use crate::log::is_in_use;
use crate::output::{Out, count, fields, warn};
use crate::size::parse_size;
use crate::ui::{BAD, Ui, WARNING, paint};
use view::{FindingView, StoreView, VerifyView};

const EXITS: &str = "\
Exit codes: 0 fine (a torn page that the log restores is none of the store's damage), 1 damage was found, 2 there is no store, 5 I/O \
error, 6 unknown format version.";

/// `walctl checkpoint`.
#[derive(Debug, Subcommand)]
pub(crate) enum CheckpointCommand {
    /// Show what a store consists of, and what an open would replay.
    ///
    /// Reads the log since the redo LSN, and the meta page.
    #[command(after_help = format!("\
Examples:
  walctl checkpoint show accounts
  walctl checkpoint show accounts --format json

{EXITS}"))]
    Show(ShowArgs),
    /// Check every page of a store, its tree and its free list, and say what to do.
    ///
    /// The store is judged as it will be when the log was replayed, which is done in memory. A page that was torn by a crash and that the
    /// log restores is no damage.
    #[command(after_help = format!("\
Examples:
  walctl checkpoint verify accounts
  walctl checkpoint verify accounts --memory 1GiB
  walctl checkpoint verify accounts --format jsonl && echo sound

{EXITS}"))]
    Verify(VerifyArgs),
}

/// `walctl checkpoint show`.
#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Directory of the store: the one with `checkpoint`, `pages` and `wal` in it.
    dir: PathBuf,
}

/// `walctl checkpoint verify`.
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Directory of the store: the one with `checkpoint`, `pages` and `wal` in it.
    dir: PathBuf,
    /// Memory for the pages that the log changes. If it is not enough the tree is not judged [default: 256MiB].
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory: Option<u64>,
    /// Show at most so many findings; the others are counted.
    #[arg(long, value_name = "N", default_value_t = 1000)]
    findings: usize,
}

/// Runs the command.
pub(crate) fn run(command: &CheckpointCommand, ui: Ui) -> Result<Exit> {
    match command {
        CheckpointCommand::Show(args) => run_show(args, ui),
        CheckpointCommand::Verify(args) => run_verify(args, ui),
    }
}

/// A path to nothing is told in words about stores; the library would speak of the directory of a log.
fn check_is_there(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let why = if dir.exists() { "it is not a directory" } else { "the directory does not exist" };
    Err(Failure::usage(format!("there is no store in {}: {why}", dir.display())))
}

fn run_show(args: &ShowArgs, ui: Ui) -> Result<Exit> {
    check_is_there(&args.dir)?;
    let was_in_use = is_in_use(&args.dir.join("wal"));
    let info = show(&RealFileSystem, &args.dir)?;
    let view = StoreView::new(&args.dir, &info, was_in_use || is_in_use(&args.dir.join("wal")));
    let mut out = Out::new();
    if !out.document(ui.format, "checkpoint", &view)? {
        fields(&mut out, &view.fields())?;
        print_findings(&mut out, &view.findings)?;
    }
    out.finish()?;
    judge(info.has_damage(), info.is_settled, &info.findings, 0)
}

fn run_verify(args: &VerifyArgs, ui: Ui) -> Result<Exit> {
    check_is_there(&args.dir)?;
    let was_in_use = is_in_use(&args.dir.join("wal"));
    let mut options = VerifyOptions::default();
    options.memory_bytes_max = args.memory.unwrap_or(options.memory_bytes_max);
    options.findings_max = args.findings;
    let bar = ui.bar("checking");
    let report = verify(&RealFileSystem, &args.dir, options, |progress: Progress| {
        bar.show(progress.bytes_done, progress.bytes_total);
    })?;
    drop(bar);
    let is_in_use = was_in_use || is_in_use(&args.dir.join("wal"));
    let view = VerifyView::new(&args.dir, &report, is_in_use);
    let mut out = Out::new();
    if !out.document(ui.format, "checkpoint-verify", &view)? {
        fields(&mut out, &view.fields())?;
        print_findings(&mut out, &view.store.findings)?;
        for words in &view.not_judged {
            out.line(format_args!("{}: {words}", paint(WARNING, "not judged")))?;
        }
    }
    out.finish()?;
    for words in report.not_judged.iter().filter(|_| !report.has_damage()) {
        warn(format_args!("not judged: {words}"));
    }
    judge(report.has_damage(), report.is_settled, &report.findings, report.findings_left_off)
}

fn print_findings(out: &mut Out, findings: &[FindingView]) -> Result<()> {
    for finding in findings {
        let style = if finding.is_damage { BAD } else { WARNING };
        out.line(format_args!("{}: {}", paint(style, finding.kind), finding.place))?;
        out.line(format_args!("  expected: {}", finding.expected))?;
        out.line(format_args!("  found:    {}", finding.found))?;
        out.line(format_args!("  to do:    {}", finding.advice))?;
    }
    Ok(())
}

/// What the command ends with.
fn judge(has_damage: bool, is_settled: bool, findings: &[Finding], left_off: u64) -> Result<Exit> {
    if !has_damage {
        return Ok(Exit::Fine);
    }
    if !is_settled {
        warn(format_args!(
            "the store was changed too quickly while it was read: what was found proves nothing; try again later"
        ));
        return Ok(Exit::Fine);
    }
    let damage = findings.iter().filter(|finding| finding.is_damage()).count() as u64 + left_off;
    let first =
        findings.iter().find(|finding| finding.is_damage()).map_or(String::new(), |first| format!("; first: {first}"));
    let words = count(damage, "finding");
    Err(Failure::Words(Exit::Corruption, format!("the store is damaged: {words}{first}")))
}
