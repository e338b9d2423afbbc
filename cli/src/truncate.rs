//! `walctl truncate`: shows its plan, and carries it out when told to.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use wal::fs::{FileSystem, RealFileSystem};
use wal::inspect::{Depth, Outcome, SegmentInfo, survey};
use wal::repair::quarantine;
use wal::{Boundary, Config, LogReader, Lsn, TruncatePolicy, Truncation, Wal};

use crate::args::{Format, PolicyArg, TruncateArgs};
use crate::failure::{Exit, Failure, Result};
use crate::log::{Surveyed, is_of_the_log, is_unclean, look, recovery_words, seen_end};
use crate::output::{Out, count, say};
use crate::size::show_bytes;
use crate::ui::{Consent, Ui};

/// What is asked for.
#[derive(Clone, Copy)]
enum Cut {
    Before(Lsn, TruncatePolicy),
    After(Lsn),
}

/// What would be done, in words and as data.
struct Plan {
    /// The first LSN that stays, or the last one.
    lsn: Lsn,
    words: Vec<String>,
    steps: Vec<StepView>,
    /// Only a cut of the end counts them: it reads them anyway.
    records: Option<u64>,
    bytes_freed: Option<u64>,
}

impl Plan {
    fn say(&mut self, words: impl Into<String>) {
        self.words.push(words.into());
    }

    fn step(&mut self, what: &'static str, file: &str, bytes: Option<u64>, words: &str) {
        self.words.push(format!("  {what:<7}  {file}{words}"));
        self.steps.push(StepView { what, file: file.to_owned(), bytes });
    }
}

/// The plan as JSON, and what became of it.
#[derive(Serialize)]
struct Report<'a> {
    path: &'a str,
    state: &'a str,
    start_lsn: &'a str,
    end_lsn: &'a str,
    remove: &'static str,
    lsn: String,
    steps: &'a [StepView],
    records: Option<u64>,
    bytes_freed: Option<u64>,
    applied: bool,
    quarantine: Option<String>,
    result: Option<ResultView>,
}

#[derive(Serialize)]
struct StepView {
    #[serde(rename = "is")]
    what: &'static str,
    file: String,
    bytes: Option<u64>,
}

#[derive(Serialize)]
struct ResultView {
    start_lsn: String,
    end_lsn: String,
    next_lsn: String,
    segments_removed: u64,
    bytes_freed: u64,
    boundary: &'static str,
}

/// What was done.
struct Done {
    truncation: Truncation,
    quarantine: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &TruncateArgs, ui: Ui) -> Result<Exit> {
    let consent = Consent::new(args.apply, args.yes)?;
    let surveyed = look(&args.dir, Depth::Tail, ui, 1)?;
    if let Some(failure) = surveyed.failure() {
        return Err(failure);
    }
    let cut = cut(args, &surveyed)?;
    let plan = match cut {
        Cut::Before(lsn, policy) => plan_before(&args.dir, &surveyed, lsn, policy)?,
        Cut::After(lsn) => plan_after(&args.dir, &surveyed, lsn)?,
    };
    let mut out = Out::new();
    if ui.format == Format::Table {
        plan.words.iter().try_for_each(|line| out.line(format_args!("{line}")))?;
        out.finish()?;
    }
    let outcome = carry_out(&args.dir, cut, &surveyed, consent, ui);
    let done = outcome.as_ref().ok().and_then(Option::as_ref);
    if ui.format != Format::Table {
        out.document(ui.format, "truncate", &document(cut, &surveyed, &plan, done))?;
    } else if let Some(done) = done {
        report(&mut out, &done.truncation)?;
    }
    out.finish()?;
    outcome.map(|_| Exit::Fine)
}

fn document<'a>(cut: Cut, surveyed: &'a Surveyed, plan: &'a Plan, done: Option<&Done>) -> Report<'a> {
    let view = &surveyed.view;
    let result = done.map(|Done { truncation, .. }| ResultView {
        start_lsn: truncation.start_lsn.to_string(),
        end_lsn: truncation.end_lsn.to_string(),
        next_lsn: truncation.next_lsn.to_string(),
        segments_removed: truncation.segments_removed,
        bytes_freed: truncation.bytes_freed,
        boundary: match truncation.boundary {
            Boundary::Untouched => "untouched",
            Boundary::Rewritten => "rewritten",
            Boundary::Deferred => "deferred",
        },
    });
    Report {
        path: &view.path,
        state: view.state,
        start_lsn: &view.start_lsn,
        end_lsn: &view.end_lsn,
        remove: if matches!(cut, Cut::Before(..)) { "before" } else { "after" },
        lsn: plan.lsn.to_string(),
        steps: &plan.steps,
        records: plan.records,
        bytes_freed: plan.bytes_freed,
        applied: done.is_some(),
        quarantine: done.and_then(|done| done.quarantine.clone()),
        result,
    }
}

/// Does it, if that is asked for and allowed.
fn carry_out(dir: &Path, cut: Cut, surveyed: &Surveyed, consent: Consent, ui: Ui) -> Result<Option<Done>> {
    if surveyed.view.state == "in use" {
        return in_use(consent, ui).map(|()| None);
    }
    if !consent.is_given("Remove these records for good?", ui)? {
        return Ok(None);
    }
    apply(dir, cut, surveyed, ui).map(Some)
}

/// Nobody is asked about, or told to ask for, what would be refused.
fn in_use(consent: Consent, ui: Ui) -> Result<()> {
    let words = "the log is in use, so only its writer can truncate it. Close it first";
    if consent.is_applying() {
        return Err(Failure::Words(Exit::InUse, words.to_owned()));
    }
    if !ui.is_quiet {
        say(format_args!("walctl: nothing was changed; {words}"));
    }
    Ok(())
}

fn cut(args: &TruncateArgs, surveyed: &Surveyed) -> Result<Cut> {
    let policy = match args.policy {
        Some(PolicyArg::WholeSegments) => TruncatePolicy::WholeSegments,
        Some(PolicyArg::Rewrite) | None => TruncatePolicy::RewriteBoundary,
    };
    if args.checkpoint {
        let lsn = checkpoint(surveyed).ok_or_else(|| refused("no checkpoint was ever declared".to_owned()))?;
        return Ok(Cut::Before(lsn, policy));
    }
    match (args.before, args.after) {
        (Some(lsn), None) => Ok(Cut::Before(lsn, policy)),
        (None, Some(lsn)) => Ok(Cut::After(lsn)),
        _ => Err(Failure::usage("give one of --before, --checkpoint and --after")),
    }
}

fn refused(words: String) -> Failure {
    Failure::Words(Exit::Refused, format!("refused: {words}; nothing was changed"))
}

fn checkpoint(surveyed: &Surveyed) -> Option<Lsn> {
    surveyed.survey.control.as_ref().and_then(|control| control.checkpoint_lsn)
}

/// What is true of either plan.
fn preface(surveyed: &Surveyed, lsn: Lsn) -> Plan {
    let view = &surveyed.view;
    let mut plan = Plan { lsn, words: Vec::new(), steps: Vec::new(), records: None, bytes_freed: None };
    plan.say(format!("log {}: LSN {} to {}, {}", view.path, view.start_lsn, view.end_lsn, view.state));
    if view.state == "in use" {
        plan.say("the log is in use; this is what could be done once its writer has closed it");
    } else if !matches!(surveyed.survey.outcome, Outcome::Clean) {
        plan.say(format!("opening the log for this recovers it first: {}", view.explanation));
    }
    plan
}

fn plan_before(dir: &Path, surveyed: &Surveyed, lsn: Lsn, policy: TruncatePolicy) -> Result<Plan> {
    let survey = &surveyed.survey;
    if lsn > survey.end_lsn {
        return Err(refused(format!("LSN {lsn} is past the end of the log, {}", survey.end_lsn)));
    }
    if let Some(checkpoint) = checkpoint(surveyed).filter(|&checkpoint| lsn > checkpoint) {
        return Err(refused(format!("LSN {lsn} is past the last checkpoint, {checkpoint}")));
    }
    let mut plan = preface(surveyed, lsn);
    if lsn <= survey.start_lsn {
        plan.say(format!("nothing to do: no record of the log is before LSN {lsn}"));
        return Ok(plan);
    }
    // The LSN may lie within a record, and the log begins with a whole one.
    let lsn = LogReader::open(dir)?.reader(lsn)?.next_record()?.map_or(lsn, |record| record.lsn);
    plan.lsn = lsn;
    plan.say(format!("remove the records before LSN {lsn}"));
    let mut freed = 0;
    for segment in survey.segments.iter().filter(|segment| is_of_the_log(segment)) {
        let Some(base) = segment.base_lsn.filter(|&base| base < lsn) else { continue };
        let name = &segment.file_name;
        if segment.end_lsn.is_some_and(|end| end <= lsn) {
            let words = format!(" ({})", show_bytes(segment.file_bytes));
            plan.step("remove", name, Some(segment.file_bytes), &words);
            freed += segment.file_bytes;
        } else if policy == TruncatePolicy::WholeSegments {
            let words = format!(" as a whole; the log then starts at its base, LSN {base}");
            plan.step("keep", name, None, &words);
        } else {
            let dead = lsn.distance_from(base);
            plan.step("rewrite", name, Some(dead), &format!(" without its first {}", show_bytes(dead)));
            freed += dead;
        }
    }
    plan.say(format!("about {} are freed", show_bytes(freed)));
    plan.bytes_freed = Some(freed);
    Ok(plan)
}

fn plan_after(dir: &Path, surveyed: &Surveyed, lsn: Lsn) -> Result<Plan> {
    let survey = &surveyed.survey;
    if lsn < survey.start_lsn {
        return Err(refused(format!("LSN {lsn} is before the start of the log, {}", survey.start_lsn)));
    }
    if let Some(checkpoint) = checkpoint(surveyed).filter(|&checkpoint| lsn < checkpoint) {
        return Err(refused(format!("LSN {lsn} is before the last checkpoint, {checkpoint}")));
    }
    let mut reader = LogReader::open(dir)?.reader(lsn)?;
    match reader.next_record()? {
        Some(record) if record.lsn == lsn => {}
        _ => return Err(Failure::usage(format!("there is no record at LSN {lsn}"))),
    }
    let (mut records, mut bytes, mut first) = (0_u64, 0, None);
    // What is appended while the plan is made is no part of it.
    let end = seen_end(survey);
    while let Some(record) = reader.next_record()?.filter(|record| record.lsn < end) {
        records += 1;
        bytes += record.payload.len() as u64;
        first.get_or_insert(record.lsn);
    }
    let mut plan = preface(surveyed, lsn);
    plan.records = Some(records);
    let Some(first) = first else {
        plan.say(format!("nothing to do: the record at LSN {lsn} is the last one"));
        return Ok(plan);
    };
    plan.say(format!("keep the record at LSN {lsn} and everything before it"));
    plan.say(format!("remove {} ({} of payload) from LSN {first} on", count(records, "record"), show_bytes(bytes)));
    for segment in survey.segments.iter().filter(|segment| is_of_the_log(segment)) {
        let name = &segment.file_name;
        match (segment.base_lsn, segment.end_lsn) {
            (Some(base), _) if base > lsn => plan.step("remove", name, None, ""),
            (Some(base), Some(end)) if base <= lsn && end > lsn => {
                plan.step("rewrite", name, None, " up to its new end");
            }
            _ => {}
        }
    }
    plan.say("the segments concerned are copied to a quarantine first");
    plan.say("the LSNs of what is removed are not used again");
    Ok(plan)
}

fn apply(dir: &Path, cut: Cut, surveyed: &Surveyed, ui: Ui) -> Result<Done> {
    // New segments are as large as those that are there: truncation is often asked for when space is short.
    let largest = surveyed.survey.segments.iter().map(|segment| segment.file_bytes).max().unwrap_or(0);
    let config = Config {
        create: false,
        segment_bytes_max: largest.clamp(8 << 10, 1 << 30),
        // Nobody appends here, so nothing is kept to be used again: the room is free at once, and counted.
        recycle_segments_max: 0,
        ..Config::default()
    };
    let wal = Wal::open(dir, config)?;
    if !ui.is_quiet && is_unclean(wal.recovery_report()) {
        say(format_args!("walctl: {}", recovery_words(wal.recovery_report())));
    }
    let done = match cut {
        Cut::Before(lsn, policy) => {
            wal.truncate_before_with(lsn, policy).map(|truncation| Done { truncation, quarantine: None })
        }
        Cut::After(lsn) => keep(dir, lsn, ui)
            .and_then(|quarantine| wal.truncate_after(lsn).map(|truncation| Done { truncation, quarantine })),
    };
    // The log is closed in either case; a refusal is worth more to the caller than a failed close.
    let closed = wal.close();
    let done = done?;
    closed?;
    Ok(done)
}

/// Copies the segments that a cut behind `lsn` changes or removes into a quarantine, while the lock is held.
fn keep(dir: &Path, lsn: Lsn, ui: Ui) -> wal::Result<Option<String>> {
    let mut behind = LogReader::open(dir)?.reader(lsn)?;
    if behind.next_record()?.is_none() || behind.next_record()?.is_none() {
        return Ok(None);
    }
    let survey = survey(&RealFileSystem, dir, Depth::Tail, |_| {})?;
    let is_cut = |segment: &&SegmentInfo| is_of_the_log(segment) && segment.end_lsn.is_none_or(|end| end > lsn);
    let files: Vec<String> = survey.segments.iter().filter(is_cut).map(|segment| segment.file_name.clone()).collect();
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    let report = format!("cut     the records behind the one at LSN {lsn}\n");
    let name = quarantine(&fs, dir, &files, &report)?;
    if let Some(name) = name.as_ref().filter(|_| !ui.is_quiet) {
        say(format_args!("walctl: what is removed is kept in {}", dir.join(name).display()));
    }
    Ok(name)
}

/// Shows what a truncation did.
pub(crate) fn report(out: &mut Out, truncation: &Truncation) -> Result<()> {
    let boundary = match truncation.boundary {
        Boundary::Untouched => "the boundary segment was not touched",
        Boundary::Rewritten => "the boundary segment was rewritten",
        Boundary::Deferred => {
            "the disk is too full to rewrite the boundary segment; its dead bytes stay until the next truncation"
        }
    };
    out.line(format_args!(
        "done: LSN {} to {}, {} removed, {} freed, {boundary}; the next LSN is {}",
        truncation.start_lsn,
        truncation.end_lsn,
        count(truncation.segments_removed, "segment"),
        show_bytes(truncation.bytes_freed),
        truncation.next_lsn,
    ))
}
