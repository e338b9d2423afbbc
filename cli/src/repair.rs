//! `walctl repair`: shows what is wrong, what is lost and what would be done, and does it when told to.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use wal::fs::{FileSystem, RealFileSystem};
use wal::repair::{Finding, FindingKind, Loss, Plan, Repaired, StepKind, apply, plan};

use crate::args::{Format, RepairArgs};
use crate::failure::{Exit, Failure, Result};
use crate::log::is_in_use;
use crate::output::{Out, count, say};
use crate::size::show_bytes;
use crate::ui::{BAD, Consent, GOOD, HEADING, Ui, WARNING, paint};

/// The plan as JSON, and what became of it.
#[derive(Serialize)]
struct Report {
    path: String,
    findings: Vec<FindingView>,
    losses: Vec<LossView>,
    steps: Vec<StepView>,
    records_kept: u64,
    checkpoint: Option<String>,
    bytes_needed: u64,
    applied: bool,
    quarantine: Option<String>,
    next_lsn: Option<String>,
}

/// What is wrong, as it is printed.
#[derive(Serialize)]
pub(crate) struct FindingView {
    #[serde(rename = "is")]
    what: FindingKind,
    file: String,
    offset: Option<u64>,
    lsn: Option<String>,
    explanation: String,
}

impl FindingView {
    /// A finding of the library.
    pub(crate) fn of(finding: &Finding) -> FindingView {
        FindingView {
            what: finding.kind,
            file: finding.file_name.clone(),
            offset: finding.offset,
            lsn: finding.lsn.map(|lsn| lsn.to_string()),
            explanation: finding.explanation.clone(),
        }
    }

    /// Prints it for people.
    pub(crate) fn show(&self, out: &mut Out) -> Result<()> {
        let style = if self.what == FindingKind::TornTail { WARNING } else { BAD };
        let offset = self.offset.map_or(String::new(), |offset| format!(", offset {offset}"));
        let lsn = self.lsn.as_ref().map_or(String::new(), |lsn| format!(", LSN {lsn}"));
        out.line(format_args!("  {}{offset}{lsn}", paint(style, &self.file)))?;
        out.line(format_args!("      {}.", self.explanation))
    }
}

#[derive(Serialize)]
struct LossView {
    from: String,
    to: Option<String>,
    valid_records: u64,
    was_durable: bool,
    behind_checkpoint: Option<bool>,
}

#[derive(Serialize)]
struct StepView {
    #[serde(rename = "is")]
    what: StepKind,
    file: String,
    explanation: String,
}

/// Runs the command. A plan that is not carried out has the exit code of what it found.
pub(crate) fn run(args: &RepairArgs, ui: Ui) -> Result<Exit> {
    let consent = Consent::new(args.apply, args.yes)?;
    if is_in_use(&args.dir) {
        let words = "the log is in use; a repair looks only at a log that nobody writes. Close it first";
        return Err(Failure::Words(Exit::InUse, words.to_owned()));
    }
    let bar = ui.bar("reading");
    let plan = plan(&RealFileSystem, &args.dir, |progress| bar.show(progress.bytes_done, progress.bytes_total))?;
    drop(bar);
    let mut out = Out::new();
    if ui.format == Format::Table {
        show(&mut out, &args.dir, &plan)?;
        out.finish()?;
    }
    let is_done = !plan.is_empty() && consent.is_given("Carry this out?", ui)?;
    let repaired = if is_done { Some(carry_out(&args.dir, &plan, ui)?) } else { None };
    if ui.format == Format::Table {
        if let Some(repaired) = &repaired {
            show_done(&mut out, &args.dir, &plan, repaired)?;
        }
    } else {
        out.document(ui.format, "repair", &report(&args.dir, &plan, repaired.as_ref()))?;
    }
    out.finish()?;
    let is_corrupt = plan.findings.iter().any(|finding| finding.kind != FindingKind::TornTail);
    Ok(if is_corrupt && repaired.is_none() { Exit::Corruption } else { Exit::Fine })
}

fn carry_out(dir: &Path, plan: &Plan, ui: Ui) -> Result<Repaired> {
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    let repaired = apply(fs, dir, plan, |step| {
        if !ui.is_quiet {
            say(format_args!("walctl: {}: {}", step.file_name, step.explanation));
        }
    });
    Ok(repaired?)
}

fn show(out: &mut Out, dir: &Path, plan: &Plan) -> Result<()> {
    if plan.is_empty() {
        out.line(format_args!(
            "{}: {} in {}, nothing to repair",
            paint(GOOD, "sound"),
            count(plan.records_kept, "record"),
            dir.display()
        ))?;
        return Ok(());
    }
    out.line(format_args!("{}", paint(HEADING, "What is wrong")))?;
    for finding in &plan.findings {
        FindingView::of(finding).show(out)?;
    }
    out.line(format_args!(""))?;
    out.line(format_args!("{}", paint(HEADING, "What is lost")))?;
    if plan.losses.is_empty() {
        out.line(format_args!("  nothing"))?;
    }
    for loss in &plan.losses {
        out.line(format_args!("  {}", loss_words(loss, plan)))?;
    }
    out.line(format_args!("  {} are kept", count(plan.records_kept, "record")))?;
    out.line(format_args!(""))?;
    out.line(format_args!("{}", paint(HEADING, "What would be done")))?;
    for step in &plan.steps {
        out.line(format_args!("  {}: {}", step.file_name, step.explanation))?;
    }
    out.line(format_args!("  about {} of room are needed", show_bytes(plan.bytes_needed)))
}

/// Whether the recovery of the database misses something; `None` if nobody ever said where it begins.
fn is_behind_checkpoint(loss: &Loss, plan: &Plan) -> Option<bool> {
    plan.checkpoint_lsn.map(|checkpoint| loss.to.is_none_or(|to| to > checkpoint))
}

fn loss_words(loss: &Loss, plan: &Plan) -> String {
    let range = match loss.to {
        Some(to) => format!("LSN {} up to LSN {to}, {} of log", loss.from, show_bytes(to.distance_from(loss.from))),
        None => format!("LSN {} and whatever followed", loss.from),
    };
    let proof = if loss.is_witnessed { "it was durable" } else { "nothing proves that it was ever durable" };
    let given_up = match loss.valid_records {
        0 => String::new(),
        records => {
            format!(
                "; the quarantine holds {} of it, given up because of a batch that is or may be torn",
                count(records, "valid record")
            )
        }
    };
    let checkpoint = match is_behind_checkpoint(loss, plan) {
        Some(true) => "; it lies behind the last checkpoint, so the recovery of the database misses it",
        Some(false) => "; it lies in front of the last checkpoint, so the recovery of the database does not need it",
        None => "",
    };
    format!("{range}; {proof}{given_up}{checkpoint}")
}

fn show_done(out: &mut Out, dir: &Path, plan: &Plan, repaired: &Repaired) -> Result<()> {
    out.line(format_args!(""))?;
    let kept = repaired
        .quarantine
        .as_ref()
        .map_or(String::new(), |name| format!("; what was removed is in {}", dir.join(name).display()));
    out.line(format_args!(
        "{}: {}, the next LSN is {}{kept}",
        paint(GOOD, "repaired"),
        count(plan.records_kept, "record"),
        repaired.recovery.next_lsn
    ))
}

fn report(dir: &Path, plan: &Plan, repaired: Option<&Repaired>) -> Report {
    let loss = |loss: &Loss| LossView {
        from: loss.from.to_string(),
        to: loss.to.map(|lsn| lsn.to_string()),
        valid_records: loss.valid_records,
        was_durable: loss.is_witnessed,
        behind_checkpoint: is_behind_checkpoint(loss, plan),
    };
    let steps = plan.steps.iter().map(|step| StepView {
        what: step.kind,
        file: step.file_name.clone(),
        explanation: step.explanation.clone(),
    });
    Report {
        path: dir.display().to_string(),
        findings: plan.findings.iter().map(FindingView::of).collect(),
        losses: plan.losses.iter().map(loss).collect(),
        steps: steps.collect(),
        records_kept: plan.records_kept,
        checkpoint: plan.checkpoint_lsn.map(|lsn| lsn.to_string()),
        bytes_needed: plan.bytes_needed,
        applied: repaired.is_some(),
        quarantine: repaired.and_then(|repaired| repaired.quarantine.clone()),
        next_lsn: repaired.map(|repaired| repaired.recovery.next_lsn.to_string()),
    }
}
