//! `walctl truncate`: shows its plan, and carries it out when told to.

use std::path::Path;
use std::sync::Arc;

use wal::fs::{FileSystem, RealFileSystem};
use wal::inspect::{Depth, Outcome, SegmentInfo, survey};
use wal::repair::quarantine;
use wal::{Boundary, Config, LogReader, Lsn, TruncatePolicy, Truncation, Wal};

use crate::args::{PolicyArg, TruncateArgs};
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
    plan.iter().try_for_each(|line| out.line(format_args!("{line}")))?;
    out.finish()?;
    if surveyed.view.state == "in use" {
        return in_use(consent, ui);
    }
    if !consent.is_given("Remove these records for good?", ui)? {
        return Ok(Exit::Fine);
    }
    let truncation = apply(&args.dir, cut, &surveyed, ui)?;
    report(&mut out, &truncation)?;
    out.finish()?;
    Ok(Exit::Fine)
}

/// Nobody is asked about, or told to ask for, what would be refused.
fn in_use(consent: Consent, ui: Ui) -> Result<Exit> {
    let words = "the log is in use; only its writer can truncate it now. Close it first";
    if consent.is_applying() {
        return Err(Failure::Words(Exit::InUse, words.to_owned()));
    }
    if !ui.is_quiet {
        say(format_args!("walctl: nothing was changed; {words}"));
    }
    Ok(Exit::Fine)
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
fn preface(surveyed: &Surveyed) -> Vec<String> {
    let view = &surveyed.view;
    let mut plan = vec![format!("log {}: LSN {} to {}, {}", view.path, view.start_lsn, view.end_lsn, view.state)];
    if view.state == "in use" {
        plan.push("the log is in use; this is what could be done once its writer has closed it".to_owned());
    } else if !matches!(surveyed.survey.outcome, Outcome::Clean) {
        plan.push(format!("opening the log for this recovers it first: {}", view.explanation));
    }
    plan
}

fn plan_before(dir: &Path, surveyed: &Surveyed, lsn: Lsn, policy: TruncatePolicy) -> Result<Vec<String>> {
    let survey = &surveyed.survey;
    if lsn > survey.end_lsn {
        return Err(refused(format!("LSN {lsn} is past the end of the log, {}", survey.end_lsn)));
    }
    if let Some(checkpoint) = checkpoint(surveyed).filter(|&checkpoint| lsn > checkpoint) {
        return Err(refused(format!("LSN {lsn} is past the last checkpoint, {checkpoint}")));
    }
    let mut plan = preface(surveyed);
    if lsn <= survey.start_lsn {
        plan.push(format!("nothing to do: no record of the log is before LSN {lsn}"));
        return Ok(plan);
    }
    // The LSN may lie within a record, and the log begins with a whole one.
    let lsn = LogReader::open(dir)?.reader(lsn)?.next_record()?.map_or(lsn, |record| record.lsn);
    plan.push(format!("remove the records before LSN {lsn}"));
    let mut freed = 0;
    for segment in survey.segments.iter().filter(|segment| is_of_the_log(segment)) {
        let Some(base) = segment.base_lsn.filter(|&base| base < lsn) else { continue };
        let name = &segment.file_name;
        if segment.end_lsn.is_some_and(|end| end <= lsn) {
            plan.push(format!("  remove   {name} ({})", show_bytes(segment.file_bytes)));
            freed += segment.file_bytes;
        } else if policy == TruncatePolicy::WholeSegments {
            plan.push(format!("  keep     {name} as a whole; the log then starts at its base, LSN {base}"));
        } else {
            let dead = lsn.distance_from(base);
            plan.push(format!("  rewrite  {name} without its first {}", show_bytes(dead)));
            freed += dead;
        }
    }
    plan.push(format!("about {} are freed", show_bytes(freed)));
    Ok(plan)
}

fn plan_after(dir: &Path, surveyed: &Surveyed, lsn: Lsn) -> Result<Vec<String>> {
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
    let mut plan = preface(surveyed);
    let Some(first) = first else {
        plan.push(format!("nothing to do: the record at LSN {lsn} is the last one"));
        return Ok(plan);
    };
    plan.push(format!("keep the record at LSN {lsn} and everything before it"));
    plan.push(format!("remove {} ({} of payload) from LSN {first} on", count(records, "record"), show_bytes(bytes)));
    for segment in survey.segments.iter().filter(|segment| is_of_the_log(segment)) {
        let name = &segment.file_name;
        match (segment.base_lsn, segment.end_lsn) {
            (Some(base), _) if base > lsn => plan.push(format!("  remove   {name}")),
            (Some(base), Some(end)) if base <= lsn && end > lsn => {
                plan.push(format!("  rewrite  {name} up to its new end"))
            }
            _ => {}
        }
    }
    plan.push("the segments concerned are copied to a quarantine first".to_owned());
    plan.push("the LSNs of what is removed are not used again".to_owned());
    Ok(plan)
}

fn apply(dir: &Path, cut: Cut, surveyed: &Surveyed, ui: Ui) -> Result<Truncation> {
    // New segments are as large as those that are there: truncation is often asked for when space is short.
    let largest = surveyed.survey.segments.iter().map(|segment| segment.file_bytes).max().unwrap_or(0);
    let config = Config { create: false, segment_bytes_max: largest.clamp(8 << 10, 1 << 30), ..Config::default() };
    let wal = Wal::open(dir, config)?;
    if !ui.is_quiet && is_unclean(wal.recovery_report()) {
        say(format_args!("walctl: {}", recovery_words(wal.recovery_report())));
    }
    let truncation = match cut {
        Cut::Before(lsn, policy) => wal.truncate_before_with(lsn, policy),
        Cut::After(lsn) => keep(dir, lsn, ui).and_then(|()| wal.truncate_after(lsn)),
    };
    // The log is closed in either case; a refusal is worth more to the caller than a failed close.
    let closed = wal.close();
    let truncation = truncation?;
    closed?;
    Ok(truncation)
}

/// Copies the segments that a cut behind `lsn` changes or removes into a quarantine, while the lock is held.
fn keep(dir: &Path, lsn: Lsn, ui: Ui) -> wal::Result<()> {
    let mut behind = LogReader::open(dir)?.reader(lsn)?;
    if behind.next_record()?.is_none() || behind.next_record()?.is_none() {
        return Ok(());
    }
    let survey = survey(&RealFileSystem, dir, Depth::Tail, |_| {})?;
    let is_cut = |segment: &&SegmentInfo| is_of_the_log(segment) && segment.end_lsn.is_none_or(|end| end > lsn);
    let files: Vec<String> = survey.segments.iter().filter(is_cut).map(|segment| segment.file_name.clone()).collect();
    let fs: Arc<dyn FileSystem> = Arc::new(RealFileSystem);
    let report = format!("cut     the records behind the one at LSN {lsn}\n");
    let name = quarantine(&fs, dir, &files, &report)?;
    if let Some(name) = name.filter(|_| !ui.is_quiet) {
        say(format_args!("walctl: what is removed is kept in {}", dir.join(name).display()));
    }
    Ok(())
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
