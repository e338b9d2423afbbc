//! Carrying a plan out. The order of the steps is the proof: everything that needs room is written before the first change.

use std::path::Path;
use std::sync::Arc;

use super::{Content, Plan, Repaired, Step, Write, examine, quarantine};
use crate::clock::{Clock, SystemClock};
use crate::config::{Background, Config};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::durable::{LogDir, Temp};
use crate::fs::{FileSystem, OpenMode};
use crate::gentle::Haste;
use crate::opener::lock;
use crate::recover::write_control;
use crate::rewrite::{replacement_of_runs, write_again};
use crate::segment::name;
use crate::wal::Wal;

/// Carries out a plan of [`plan`](super::plan), and nothing else.
///
/// The writer's lock is held from the first look to the last change. `on_step` is told of each step when it begins. Ends by opening and closing the
/// log, so that what the plan promises was seen by a recovery. Repairing a log that is sound does nothing but that.
///
/// # Errors
///
/// [`ErrorKind::InUse`] if somebody has the log open for writing. [`ErrorKind::Refused`] if the log is not any more what it was when
/// the plan was made. [`ErrorKind::Full`] if there is no room; nothing but the quarantine was changed then, unless it is the recovery
/// at the end that found none. [`ErrorKind::Io`] if the operating system failed. After any of them another repair begins where this one ended.
pub fn apply(
    fs: Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    plan: &Plan,
    on_step: impl FnMut(&Step),
) -> Result<Repaired> {
    apply_with_clock(fs, dir, plan, Arc::new(SystemClock::default()), on_step)
}

/// As [`apply`], with the time from another clock.
///
/// # Errors
///
/// As [`apply`].
pub fn apply_with_clock(
    fs: Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    plan: &Plan,
    clock: Arc<dyn Clock>,
    mut on_step: impl FnMut(&Step),
) -> Result<Repaired> {
    let path = dir.as_ref();
    let dir = LogDir::open(&*fs, path)?;
    let kept = {
        let Some(_lock) = lock(&dir)? else {
            let detail = "another handle, in this process or another, has it open for writing";
            return Err(Error::new(ErrorKind::InUse, "repair log", detail).at_path(path));
        };
        if examine::examine(&dir, &|_, _| {})? != *plan {
            let detail = "the log is not what it was when the plan was made; make a new plan";
            return Err(Error::new(ErrorKind::Refused, "repair log", detail).at_path(path));
        }
        change(&fs, &dir, plan, &*clock, &mut on_step)?
    };
    if let Some(step) = plan.steps.last() {
        on_step(step);
    }
    let config = Config {
        create: false,
        segment_bytes_max: plan.actions.segment_bytes.clamp(8 << 10, 1 << 30),
        background: Background::Inline,
        direct_io: false,
        ..Config::default()
    };
    let log = Wal::opener(config).file_system(fs).clock(clock).open(path)?;
    let recovery = log.recovery_report().clone();
    log.close()?;
    Ok(Repaired { quarantine: kept, recovery })
}

fn change(
    fs: &Arc<dyn FileSystem>,
    dir: &LogDir,
    plan: &Plan,
    clock: &dyn Clock,
    on_step: &mut dyn FnMut(&Step),
) -> Result<Option<String>> {
    let actions = &plan.actions;
    let kept =
        quarantine::keep(fs, dir, &actions.quarantine, &plan.to_string(), &mut |index| on_step(&plan.steps[index]))?;
    let mut steps = plan.steps[actions.quarantine.len().min(plan.steps.len())..].iter();
    let mut next = || steps.next().map_or((), &mut *on_step);
    let mut temps: Vec<Temp> = Vec::with_capacity(actions.writes.len());
    for write in &actions.writes {
        next();
        match prepare(dir, write) {
            Ok(temp) => temps.push(temp),
            Err(error) => return Err(give_up(dir, plan, temps, error)),
        }
    }
    if !temps.is_empty() {
        // A repair that dies from here on leaves complete replacements, which the next one may need.
        dir.sync()?;
    }
    if let Some(control) = actions.first_control
        && let Err(error) = replace_control(dir, control, clock)
    {
        return Err(give_up(dir, plan, temps, error));
    }
    for temp in temps {
        dir.commit(temp)?;
    }
    for name in &actions.removals {
        next();
        dir.remove(name)?;
    }
    if !actions.removals.is_empty() {
        dir.sync()?;
    }
    if let Some(control) = actions.last_control {
        next();
        replace_control(dir, control, clock)?;
    }
    Ok(kept)
}

/// Writes a segment under its temp name, and syncs it.
fn prepare(dir: &LogDir, write: &Write) -> Result<Temp> {
    let name = name::segment(write.header.segment);
    match &write.content {
        Content::Empty => dir.write_temp(&name, |file| file.write_at(&write.header.encode(), 0)),
        Content::Adopted => {
            let end = write.header.sealed_end.expect("a replacement has an end");
            dir.adopt_temp(&name, |file| write_again(file, &write.header, end))
        }
        Content::Runs { source, old, runs } => {
            let source = dir.open_file(source, OpenMode::Read)?;
            replacement_of_runs(dir, &source, old, write.header, runs, Haste::Full).map(|replacement| replacement.temp)
        }
    }
}

/// Nothing has its final name yet, so everything can be taken back, but for what was there before.
fn give_up(dir: &LogDir, plan: &Plan, temps: Vec<Temp>, error: Error) -> Error {
    let own = temps.into_iter().zip(&plan.actions.writes).filter(|(_, write)| write.content != Content::Adopted);
    own.fold(error, |error, (temp, _)| match dir.abandon(temp) {
        Ok(()) => error,
        Err(second) => error.with_detail(format!("and an unfinished file stays behind: {second}")),
    })
}

/// Replaces the control file; on a full disk the file that is kept for that is given up.
fn replace_control(dir: &LogDir, control: Control, clock: &dyn Clock) -> Result<()> {
    let control = Control { written_micros: clock.unix_micros(), ..control };
    let temp = match write_control(dir, &control) {
        Err(error) if error.is_full() && dir.remove(name::RESERVE)? => write_control(dir, &control)?,
        other => other?,
    };
    Ok(dir.commit(temp)?)
}
