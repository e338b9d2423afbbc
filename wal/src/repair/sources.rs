//! Which file holds which segment, whatever its name says.

use std::collections::BTreeMap;

use super::{Finding, FindingKind};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::LogDir;
use crate::lsn::Lsn;
use crate::record::{FRAME_ALIGN, Identity, LogId};
use crate::recover::survey::{ControlState, read_control};
use crate::segment::header::{HEADER_BYTES, HeaderState, SegmentHeader, decode};
use crate::segment::name::{self, FileName};

use super::salvage::find;

/// Epochs that are tried for a segment whose header is lost.
const EPOCHS_MAX: u64 = 64;

/// A file with a segment in it.
#[derive(Clone, Debug)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) header: SegmentHeader,
    pub(super) file_bytes: u64,
    /// The header on disk is damaged, and this one was inferred from the frames.
    pub(super) is_inferred: bool,
}

/// A file under a segment's name that has no usable header.
#[derive(Clone, Debug)]
pub(super) struct Unusable {
    pub(super) file_bytes: u64,
    pub(super) why: String,
    pub(super) is_blank: bool,
    /// Of another log or another number: its bytes are no part of this segment.
    pub(super) is_foreign: bool,
    /// Of an earlier epoch: a cut removed it.
    pub(super) is_void: bool,
}

/// Everything in the directory that may be a part of the log.
#[derive(Debug)]
pub(super) struct Sources {
    pub(super) control: Control,
    /// The control file as it is could be read.
    pub(super) has_control: bool,
    pub(super) segments: BTreeMap<u64, Source>,
    pub(super) unusable: BTreeMap<u64, Unusable>,
    /// Complete replacements under their temp names.
    pub(super) temps: BTreeMap<u64, Source>,
    /// Temps whose final is missing.
    pub(super) stranded: Vec<(String, u64)>,
    pub(super) findings: Vec<Finding>,
    pub(super) epoch_max: u64,
}

/// Looks at every file of the directory.
pub(super) fn sources(dir: &LogDir) -> Result<Sources> {
    let names: Vec<FileName> = dir.list()?.iter().map(|name| name::parse(name)).collect();
    let mut headers = Vec::new();
    let mut stranded = Vec::new();
    for file_name in &names {
        let (number, name, is_temp) = match file_name {
            FileName::Segment(number) => (*number, name::segment(*number), false),
            FileName::SegmentTemp(number) => (*number, name::temp(&name::segment(*number)), true),
            _ => continue,
        };
        let Some(file) = dir.find_file(&name, OpenMode::Read)? else { continue };
        let file_bytes = file.len()?;
        let mut block = [0; HEADER_BYTES as usize];
        let read = file.read_at(&mut block, 0)?;
        if is_temp && !names.contains(&FileName::Segment(number)) {
            stranded.push((name.clone(), file_bytes));
        }
        headers.push(Found { number, name, is_temp, file_bytes, header: decode(&block[..read]) });
    }
    headers.sort_by_key(|found| (found.is_temp, found.number));
    let (control, has_control, findings) = control(dir, &headers)?;
    let mut sources = Sources {
        control,
        has_control,
        segments: BTreeMap::new(),
        unusable: BTreeMap::new(),
        temps: BTreeMap::new(),
        stranded,
        findings,
        epoch_max: 0,
    };
    sources.sort_out(dir, headers)?;
    sources.drop_void();
    Ok(sources)
}

struct Found {
    number: u64,
    name: String,
    is_temp: bool,
    file_bytes: u64,
    header: HeaderState,
}

/// The control file, or what can be said without it.
fn control(dir: &LogDir, headers: &[Found]) -> Result<(Control, bool, Vec<Finding>)> {
    let why = match read_control(dir)? {
        ControlState::Valid(control) => return Ok((control, true, Vec::new())),
        ControlState::Newer(why) => {
            let error = Error::new(ErrorKind::UnsupportedVersion, "repair log", why);
            return Err(error.at_path(dir.path_of(name::CONTROL)));
        }
        ControlState::Missing => "it is missing".to_owned(),
        ControlState::Damaged(why) => why,
    };
    let own: Vec<&SegmentHeader> = headers
        .iter()
        .filter_map(|found| match &found.header {
            HeaderState::Valid(header) if !found.is_temp && header.segment == found.number => Some(header),
            _ => None,
        })
        .collect();
    let (Some(first), Some(last)) = (own.first(), own.last()) else {
        if headers.is_empty() {
            let error = Error::new(ErrorKind::NotFound, "repair log", "there is no log in the directory");
            return Err(error.at_path(dir.path()));
        }
        let detail = format!("the control file cannot be used ({why}), and no segment says which log this is");
        return Err(Error::new(ErrorKind::Corruption, "repair log", detail).at_path(dir.path()));
    };
    let sealed = own.iter().filter_map(|header| header.sealed_end).max().unwrap_or(Lsn::ZERO);
    let control = Control {
        log_id: most_common(&own),
        sequence: own.iter().map(|header| header.epoch).max().unwrap_or(1) + 1,
        start_segment: first.segment,
        start: first.base,
        opened_segment: last.segment,
        witness: own.iter().map(|header| header.witness).max().unwrap_or(Lsn::ZERO).max(sealed),
        checkpoint: None,
        clean: None,
        written_micros: last.created_micros,
    };
    let finding = Finding {
        kind: FindingKind::LostControl,
        file_name: name::CONTROL.to_owned(),
        offset: None,
        lsn: None,
        explanation: format!(
            "{why}. It is made again from the segments: the log then starts with its first segment, at LSN {}, and has no checkpoint. Records \
             that were truncated may come back, and the end of a clean close is not known",
            first.base
        ),
    };
    Ok((control, false, vec![finding]))
}

fn most_common(headers: &[&SegmentHeader]) -> LogId {
    let count = |id: LogId| headers.iter().filter(|header| header.log_id == id).count();
    headers.iter().map(|header| header.log_id).max_by_key(|&id| (count(id), id)).expect("there is a header")
}

impl Sources {
    fn sort_out(&mut self, dir: &LogDir, headers: Vec<Found>) -> Result<()> {
        let mut misplaced = Vec::new();
        for Found { number, name, is_temp, file_bytes, header } in headers {
            if number < self.control.start_segment {
                continue;
            }
            let (why, is_blank, is_foreign) = match header {
                HeaderState::Valid(header) => {
                    let source = Source { name, header, file_bytes, is_inferred: false };
                    let is_own = header.log_id == self.control.log_id;
                    match (is_temp, is_own && header.segment == number) {
                        (false, true) => drop(self.segments.insert(number, source)),
                        (true, true) => drop(self.temps.insert(number, source)),
                        (true, false) => {}
                        (false, false) => {
                            if is_own {
                                misplaced.push(source);
                            }
                        }
                    }
                    if is_temp || (is_own && header.segment == number) {
                        continue;
                    }
                    let what = if is_own { "another segment" } else { "another log" };
                    (format!("its header belongs to {what}"), false, true)
                }
                HeaderState::Newer(why) if !is_temp => {
                    let error = Error::new(ErrorKind::UnsupportedVersion, "repair log", why);
                    return Err(error.at_path(dir.path_of(&name)).at_segment(number));
                }
                _ if is_temp => continue,
                HeaderState::Damaged(why) | HeaderState::Newer(why) => (why, false, false),
                HeaderState::Blank => ("its header is blank".to_owned(), true, false),
            };
            self.unusable.insert(number, Unusable { file_bytes, why, is_blank, is_foreign, is_void: false });
        }
        for source in misplaced {
            let number = source.header.segment;
            if number >= self.control.start_segment {
                self.segments.entry(number).or_insert(source);
            }
        }
        Ok(())
    }

    /// Takes out what a cut removed: segments with a lower epoch than one before them.
    fn drop_void(&mut self) {
        let mut void = Vec::new();
        for (&number, source) in &self.segments {
            if source.header.epoch < self.epoch_max {
                void.push(number);
            }
            self.epoch_max = self.epoch_max.max(source.header.epoch);
        }
        for number in void {
            let source = self.segments.remove(&number).expect("it was just seen");
            let why = "it is a leftover of a cut".to_owned();
            let file_bytes = source.file_bytes;
            self.unusable
                .insert(number, Unusable { file_bytes, why, is_blank: false, is_foreign: false, is_void: true });
        }
    }

    /// The last segment that has a usable header.
    pub(super) fn last(&self) -> Option<u64> {
        self.segments.keys().next_back().copied()
    }

    /// Infers the lost header of segment `number` from a frame in it. `before` is the header of its predecessor and where that ends.
    pub(super) fn infer(
        &self,
        dir: &LogDir,
        number: u64,
        before: Option<(&SegmentHeader, Lsn, u32)>,
    ) -> Result<Option<Source>> {
        let Some(unusable) = self.unusable.get(&number).filter(|unusable| !unusable.is_foreign && !unusable.is_void)
        else {
            return Ok(None);
        };
        if unusable.file_bytes <= HEADER_BYTES {
            return Ok(None);
        }
        let name = name::segment(number);
        let file = dir.open_file(&name, OpenMode::Read)?;
        let room = (unusable.file_bytes - HEADER_BYTES) & !(FRAME_ALIGN as u64 - 1);
        let mut bases = match before {
            Some((header, end, _)) => vec![end, header.limit, header.sealed_end.unwrap_or(end)],
            None => vec![self.control.start],
        };
        bases.dedup();
        let oldest = before.map_or(1, |(header, ..)| header.epoch);
        let newest = self.segments.range(number..).next().map_or(self.epoch_max, |(_, next)| next.header.epoch);
        for epoch in (oldest..=newest.max(oldest)).take(EPOCHS_MAX as usize) {
            for &base in &bases {
                let (end, checksum) = before.map_or((base, 0), |(_, end, checksum)| (end, checksum));
                let header = SegmentHeader {
                    log_id: self.control.log_id,
                    segment: number,
                    epoch,
                    base,
                    predecessor_end: end.min(base),
                    predecessor_checksum: checksum,
                    witness: before.map_or(Lsn::ZERO, |(header, ..)| header.witness),
                    limit: base.advance(room).min(Lsn::LIMIT),
                    sealed_end: None,
                    created_micros: 0,
                };
                let identity = Identity::new(header.log_id, number, epoch);
                if find(&file, &header, identity, base, header.limit, header.limit)?.is_some() {
                    return Ok(Some(Source { name, header, file_bytes: unusable.file_bytes, is_inferred: true }));
                }
            }
        }
        Ok(None)
    }
}
