//! Where what a repair removes goes first.

use std::path::Path;
use std::sync::Arc;

use super::Saved;
use crate::error::Result;
use crate::fs::durable::{LogDir, LogFile, create_dir_durable};
use crate::fs::{FileSystem, OpenMode};
use crate::segment::name;

/// Bytes copied at once.
const COPY_BYTES: usize = 1 << 20;

/// Copies files of a log into a new quarantine and syncs all of it, with `report` as its `report.txt`. For whoever is about to remove something from a log
/// that it holds the lock of. Returns the name of the quarantine, a directory inside `dir`.
///
/// # Errors
///
/// [`ErrorKind::Io`](crate::ErrorKind::Io), [`ErrorKind::Full`](crate::ErrorKind::Full): nothing of the log was changed.
pub fn quarantine(
    fs: &Arc<dyn FileSystem>,
    dir: impl AsRef<Path>,
    files: &[String],
    report: &str,
) -> Result<Option<String>> {
    let dir = LogDir::open(&**fs, dir.as_ref())?;
    let saved = |name: &String| -> Result<Saved> {
        Ok(Saved { name: name.clone(), bytes: dir.open_file(name, OpenMode::Read)?.len()? })
    };
    keep(fs, &dir, &files.iter().map(saved).collect::<Result<Vec<_>>>()?, report, &mut |_| {})
}

/// Copies what is about to be removed into a directory of its own, and syncs all of it. Its report gets its name last, so a quarantine with a report is
/// complete. One that an earlier attempt at the same repair completed serves again. Returns its name; `None` if there is nothing to keep.
pub(super) fn keep(
    fs: &Arc<dyn FileSystem>,
    dir: &LogDir,
    files: &[Saved],
    report: &str,
    on_file: &mut dyn FnMut(usize),
) -> Result<Option<String>> {
    if files.is_empty() {
        return Ok(None);
    }
    let names = dir.list()?;
    for number in 1.. {
        let name = name::quarantine(number);
        if names.contains(&name) {
            let kept = LogDir::open(&**fs, &dir.path_of(&name))?;
            match is_complete(&kept, dir, files, report)? {
                Some(true) => return Ok(Some(name)),
                Some(false) => continue,
                None => {}
            }
        }
        create_dir_durable(&**fs, &dir.path_of(&name))?;
        let kept = LogDir::open(&**fs, &dir.path_of(&name))?;
        fill(&kept, dir, files, report, on_file)?;
        return Ok(Some(name));
    }
    unreachable!("some number is free")
}

/// Whether a quarantine is complete and holds what this plan would put there; `None` if it is not complete.
fn is_complete(kept: &LogDir, dir: &LogDir, files: &[Saved], report: &str) -> Result<Option<bool>> {
    let Some(file) = kept.find_file(name::REPORT, OpenMode::Read)? else { return Ok(None) };
    let mut text = vec![0; report.len() + 1];
    let read = file.read_at(&mut text, 0)?;
    if text[..read] != *report.as_bytes() {
        return Ok(Some(false));
    }
    for Saved { name, bytes } in files {
        let Some(copy) = kept.find_file(name, OpenMode::Read)? else { return Ok(Some(false)) };
        let original = dir.open_file(name, OpenMode::Read)?;
        if copy.len()? != *bytes || !is_equal(&copy, &original, *bytes)? {
            return Ok(Some(false));
        }
    }
    // The process may have died before its names were durable.
    kept.sync()?;
    dir.sync()?;
    Ok(Some(true))
}

fn is_equal(left: &LogFile, right: &LogFile, bytes: u64) -> Result<bool> {
    let (mut one, mut other) = (vec![0; COPY_BYTES], vec![0; COPY_BYTES]);
    let mut at = 0;
    while at < bytes {
        let wanted = (bytes - at).min(COPY_BYTES as u64) as usize;
        let read = left.read_at(&mut one[..wanted], at)?;
        if read != wanted || right.read_at(&mut other[..wanted], at)? != wanted || one[..wanted] != other[..wanted] {
            return Ok(false);
        }
        at += wanted as u64;
    }
    Ok(true)
}

fn fill(kept: &LogDir, dir: &LogDir, files: &[Saved], report: &str, on_file: &mut dyn FnMut(usize)) -> Result<()> {
    for (index, Saved { name, bytes }) in files.iter().enumerate() {
        on_file(index);
        let original = dir.open_file(name, OpenMode::Read)?;
        let copied = kept.create_filled(name, |copy| {
            let mut buffer = vec![0; COPY_BYTES];
            let mut at = 0;
            while at < *bytes {
                let wanted = (bytes - at).min(COPY_BYTES as u64) as usize;
                let read = original.read_at(&mut buffer[..wanted], at)?;
                copy.write_at(&buffer[..read], at)?;
                if read < wanted {
                    break;
                }
                at += read as u64;
            }
            Ok(())
        });
        if let Err(error) = copied {
            // A disk that is full should not stay full because of what is half done.
            return Err(files[..index].iter().fold(error, |error, saved| kept.discard(&saved.name, error)));
        }
    }
    let temp = kept.write_temp(name::REPORT, |file| file.write_at(report.as_bytes(), 0))?;
    Ok(kept.commit(temp)?)
}
