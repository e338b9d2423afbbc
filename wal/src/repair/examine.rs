//! From what is there to a plan. Changes nothing.

use super::salvage::{Break, Salvage, salvage};
use super::sources::{Source, Sources, sources};
use super::{Actions, Content, Finding, FindingKind, Loss, Plan, Saved, Step, StepKind, Write};
use crate::control::Control;
use crate::error::{Error, ErrorKind, Result};
use crate::fs::OpenMode;
use crate::fs::durable::LogDir;
use crate::lsn::Lsn;
use crate::recover::survey::ProgressFn;
use crate::segment::header::{HEADER_BYTES, SegmentHeader};
use crate::segment::name;

/// How far LSNs jump when nobody knows how far the log went: more than any log that is lost as a whole behind its last known segment.
const UNKNOWN_END_JUMP: u64 = 1 << 40;

/// A segment of the log as it will be.
#[derive(Debug)]
struct Link {
    number: u64,
    /// `None`: it is missing, and an empty one takes its place.
    source: Option<Source>,
    salvage: Salvage,
    /// Where its successor or its own header says that it ends.
    known_end: Option<Lsn>,
    header: SegmentHeader,
    is_changed: bool,
}

impl Link {
    fn end(&self) -> Lsn {
        self.salvage.end(self.header.base)
    }
}

struct Exam<'a> {
    dir: &'a LogDir,
    sources: Sources,
    links: Vec<Link>,
    /// Segments behind an unwitnessed break, which the recovery removes.
    dropped: Vec<Source>,
    witness: Lsn,
    plan: Plan,
    control: Control,
    /// The control file names a segment behind the last one.
    is_end_lost: bool,
}

/// Makes the plan.
pub(super) fn examine(dir: &LogDir, progress: ProgressFn<'_>) -> Result<Plan> {
    let sources = sources(dir)?;
    let control = sources.control;
    let plan = Plan {
        findings: sources.findings.clone(),
        losses: Vec::new(),
        steps: Vec::new(),
        records_kept: 0,
        checkpoint_lsn: control.checkpoint,
        bytes_needed: 0,
        actions: Actions::default(),
    };
    let witness = control.witness.max(control.clean.map_or(Lsn::ZERO, |end| end.lsn));
    let mut exam =
        Exam { dir, sources, links: Vec::new(), dropped: Vec::new(), witness, plan, control, is_end_lost: false };
    if !exam.sources.has_control {
        exam.save(name::CONTROL, HEADER_BYTES)?;
    }
    exam.read(progress)?;
    exam.find_start();
    let torn_at = exam.judge_breaks();
    exam.judge_end(torn_at.is_some());
    exam.link()?;
    exam.judge_files()?;
    exam.finish(torn_at.is_some())
}

impl Exam<'_> {
    /// Salvages every segment from the first to the last usable one, and those behind it whose lost header the frames prove.
    fn read(&mut self, progress: ProgressFn<'_>) -> Result<()> {
        let total: u64 = self.sources.segments.values().map(|source| source.file_bytes).sum();
        let mut done = 0;
        for source in self.sources.segments.values() {
            self.witness = self.witness.max(source.header.witness).max(source.header.sealed_end.unwrap_or(Lsn::ZERO));
        }
        let mut number = self.control.start_segment;
        loop {
            let last = self.sources.last().unwrap_or(0);
            let before = self.links.last().map(|link| (&link.header, link.end(), link.salvage.last_checksum()));
            let source = match self.sources.segments.get(&number) {
                Some(source) => Some(source.clone()),
                None => match self.adoptable(number, before)? {
                    Some(temp) => Some(temp),
                    None => self.sources.infer(self.dir, number, before)?,
                },
            };
            match source {
                Some(source) => {
                    let link = self.read_one(number, source)?;
                    let is_proven = number <= last || self.witness.max(link.salvage.witness) > link.header.base;
                    if !is_proven {
                        return Ok(());
                    }
                    self.witness = self.witness.max(link.salvage.witness);
                    done += link.source.as_ref().map_or(0, |source| source.file_bytes);
                    progress(done.min(total), total);
                    self.links.push(link);
                }
                None if number > last => return Ok(()),
                None if self.links.is_empty() => {}
                None => self.add_missing(number),
            }
            number += 1;
            if self.links.is_empty() {
                // What is missing before the first segment is no part of the log any more.
                number = self.sources.segments.range(number..).next().map_or(number, |(&number, _)| number);
            }
        }
    }

    fn read_one(&self, number: u64, source: Source) -> Result<Link> {
        let header = source.header;
        let next = self.sources.segments.get(&(number + 1)).map(|next| next.header.predecessor_end);
        let known_end = header.sealed_end.or(next.filter(|&end| end >= header.base));
        let room = source.file_bytes.saturating_sub(HEADER_BYTES);
        let end = known_end.unwrap_or_else(|| header.limit.min(header.base.advance(room)));
        let file = self.dir.open_file(&source.name, OpenMode::Read)?;
        let salvage = salvage(&file, &header, end)?;
        let is_changed = source.is_inferred || source.name != name::segment(number);
        Ok(Link { number, source: Some(source), salvage, known_end, header, is_changed })
    }

    /// A replacement that was left behind, if it is complete and fits where its segment is missing.
    fn adoptable(&self, number: u64, before: Option<(&SegmentHeader, Lsn, u32)>) -> Result<Option<Source>> {
        let Some(temp) = self.sources.temps.get(&number) else { return Ok(None) };
        let header = &temp.header;
        let Some(end) = header.sealed_end else { return Ok(None) };
        let fits_before = before
            .is_none_or(|(_, end, checksum)| (header.predecessor_end, header.predecessor_checksum) == (end, checksum));
        let found = salvage(&self.dir.open_file(&temp.name, OpenMode::Read)?, header, end)?;
        let is_whole = found.breaks.is_empty() && found.end(header.base) == end;
        let fits_behind = self.sources.segments.get(&(number + 1)).is_none_or(|next| {
            (next.header.predecessor_end, next.header.predecessor_checksum) == (end, found.last_checksum())
        });
        Ok((fits_before && is_whole && fits_behind).then(|| temp.clone()))
    }

    /// An empty segment for a number that is missing in the middle.
    fn add_missing(&mut self, number: u64) {
        let before = self.links.last().expect("what is missing before the first segment is no part of the log");
        let next = self.sources.segments.range(number..).next().expect("a usable segment follows").1.header;
        let (end, base) = (before.end(), next.predecessor_end.max(before.end()));
        let header = SegmentHeader {
            segment: number,
            base,
            predecessor_end: end,
            predecessor_checksum: before.salvage.last_checksum(),
            limit: base,
            sealed_end: Some(base),
            ..before.header
        };
        let why = self.sources.unusable.get(&number).map(|unusable| unusable.why.clone());
        let explanation = format!(
            "segment {number} {}. Its records, LSN {end} up to LSN {}, are lost; an empty segment takes its place",
            why.map_or("is missing".to_owned(), |why| format!("cannot be used: {why}")),
            next.base
        );
        self.find(FindingKind::MissingSegment, &name::segment(number), None, Some(end), explanation);
        if self.plan.losses.last().is_none_or(|loss| loss.to != Some(next.base)) {
            self.lose(end, Some(next.base), 0, true);
        }
        self.links.push(Link {
            number,
            source: None,
            salvage: Salvage::default(),
            known_end: Some(base),
            header,
            is_changed: true,
        });
    }

    fn find(&mut self, kind: FindingKind, file: &str, offset: Option<u64>, lsn: Option<Lsn>, explanation: String) {
        self.plan.findings.push(Finding { kind, file_name: file.to_owned(), offset, lsn, explanation });
    }

    fn lose(&mut self, from: Lsn, to: Option<Lsn>, valid_records: u64, is_witnessed: bool) {
        self.plan.losses.push(Loss { from, to, valid_records, is_witnessed });
    }

    fn save(&mut self, file: &str, bytes: u64) -> Result<()> {
        let saved = &mut self.plan.actions.quarantine;
        if saved.iter().any(|saved| saved.name == file) {
            return Ok(());
        }
        if let Some(file) = self.dir.find_file(file, OpenMode::Read)? {
            let bytes = file.len()?.min(bytes);
            saved.push(Saved { name: file_name(&file), bytes });
        }
        Ok(())
    }

    /// Whether the log begins where the control file says.
    fn find_start(&mut self) {
        let start = self.control.start_segment;
        let Some(first) = self.links.first() else { return };
        if first.number == start {
            return;
        }
        let (number, base, from) = (first.number, first.header.base, self.control.start);
        let why = self.sources.unusable.get(&start).map_or("is missing", |_| "cannot be used");
        let explanation = format!(
            "segment {start}, with which the log begins, {why}. The log then begins with segment {number}, at LSN {base}"
        );
        self.find(FindingKind::LostStart, &name::segment(start), None, Some(from), explanation);
        self.lose(from, Some(base), 0, true);
        self.control.start_segment = number;
        self.control.start = self.control.start.max(base);
    }

    /// Tells corruption from a torn tail. Returns the LSN at which the log is torn, if it is; what is behind it is taken out.
    fn judge_breaks(&mut self) -> Option<Lsn> {
        let required = self.control.clean.map_or(self.control.opened_segment, |end| end.segment);
        let links = self.links.len();
        let next: Vec<Option<(Lsn, bool)>> = (1..=links)
            .map(|next| self.links.get(next).map(|next| (next.header.base, next.source.is_none())))
            .collect();
        let (mut findings, mut torn) = (Vec::new(), None);
        'links: for (index, link) in self.links.iter_mut().enumerate() {
            let is_last = index + 1 == links;
            let known_end = link.known_end;
            // Where the end of a segment is not known, unused space is no damage; what is missing behind it is a finding of its own.
            let has_open_end = |at: Lsn| match next[index] {
                None => known_end.is_none() && link.number < required,
                Some((base, is_missing)) => known_end.is_none() && (is_missing || base == at),
            };
            for place in std::mem::take(&mut link.salvage.breaks) {
                let is_end = place.to.is_none() && place.given_up == 0;
                let is_clean_end = self.control.clean.is_some_and(|end| end.lsn == place.from && is_last && is_end);
                let is_unused =
                    place.is_blank && is_end && (has_open_end(place.from) || (is_last && place.from >= self.witness));
                if is_clean_end || is_unused {
                    continue;
                }
                let is_witnessed = place.from < self.witness;
                if is_witnessed {
                    link.is_changed = true;
                    link.salvage.breaks.push(place.clone());
                } else {
                    link.salvage.cut(place.from);
                    torn = Some((index, place.from));
                }
                findings.push((index, place, is_witnessed));
                if !is_witnessed {
                    break 'links;
                }
            }
        }
        if let Some((_, at)) = torn {
            // What is missing behind the end is no loss.
            self.plan.findings.retain(|finding| finding.lsn.is_none_or(|lsn| lsn < at));
            self.plan.losses.retain(|loss| loss.from < at);
        }
        for (index, place, is_witnessed) in findings {
            self.report_break(index, &place, is_witnessed);
        }
        let (index, at) = torn?;
        self.dropped = self.links.drain(index + 1..).filter_map(|link| link.source).collect();
        Some(at)
    }

    fn report_break(&mut self, index: usize, place: &Break, is_witnessed: bool) {
        let link = &self.links[index];
        let (file, header) = (name::segment(link.number), link.header);
        let next_base = self.links.get(index + 1).map(|next| next.header.base);
        let to = place.to.or(next_base).or(link.known_end).or(self.control.clean.map(|end| end.lsn));
        let to = to.filter(|&to| is_witnessed && to > place.from);
        let what = match (is_witnessed, place.to, next_base) {
            (false, ..) => {
                "Nothing proves that it was ever durable, so it is an unfinished write; it and what is behind it is cut"
                    .to_owned()
            }
            (true, Some(to), _) => format!("Records are good again from LSN {to} on; what is between is lost"),
            (true, None, Some(base)) => format!("The rest of the segment is lost; the log goes on at LSN {base}"),
            (true, None, None) => "It was durable, and nothing good follows: the end of the log is lost".to_owned(),
        };
        let explanation = format!("{}. {}{what}", place.why, given_up(place.given_up));
        let kind = if is_witnessed { FindingKind::DamagedRecords } else { FindingKind::TornTail };
        let lsn = place.at.max(header.base);
        self.find(kind, &file, Some(header.offset_of(lsn)), Some(lsn), explanation);
        self.lose(place.from, to, place.given_up, is_witnessed);
    }

    /// Whether the log reaches as far as the control file says.
    fn judge_end(&mut self, is_torn: bool) {
        // A file that took the place of a segment says as well that the log went so far.
        let foreign =
            self.sources.unusable.iter().rfind(|(_, unusable)| unusable.is_foreign).map_or(0, |(&number, _)| number);
        let required = self.control.clean.map_or(self.control.opened_segment, |end| end.segment).max(foreign);
        let limit_behind = self.limit_behind();
        let witness = self.witness;
        self.is_end_lost = self.links.last().is_some_and(|last| last.number < required);
        let Some(last) = self.links.last_mut() else { return };
        let (number, end) = (last.number, last.salvage.end(last.header.base));
        if number < required {
            let limit = limit_behind.advance(UNKNOWN_END_JUMP).min(Lsn::LIMIT);
            let is_done = last.header.sealed_end == Some(end)
                && last.header.limit.distance_from(end.min(last.header.limit)) >= UNKNOWN_END_JUMP;
            if !is_done {
                last.header.limit = limit;
                last.is_changed = true;
            }
            let next = last.header.limit;
            let explanation = format!(
                "the log reached at least into segment {required}, and nothing usable is left behind segment {number}. The log then ends at \
                 LSN {end}, and goes on at LSN {next}, past every LSN that may have been handed out"
            );
            self.find(FindingKind::LostEnd, &name::segment(required), None, Some(end), explanation);
            self.lose(end, None, 0, true);
            return;
        }
        let is_reported = is_torn || last.salvage.breaks.last().is_some_and(|place| place.to.is_none());
        let is_short = end < witness && !is_reported;
        if is_short {
            last.is_changed = true;
        }
        if last.is_changed {
            last.header.limit = last.header.limit.max(witness).max(limit_behind);
        }
        if is_short {
            let explanation = format!(
                "its records end at LSN {end}, and everything below LSN {witness} was durable: the end of the log is lost"
            );
            self.find(FindingKind::LostEnd, &name::segment(number), None, Some(end), explanation);
            self.lose(end, self.control.clean.map(|clean| clean.lsn).filter(|&to| to > end), 0, true);
            return;
        }
        let Some(clean) = self.control.clean.filter(|_| !is_torn && !last.is_changed) else { return };
        let right = last.header.offset_of(clean.lsn);
        let file_bytes = last.source.as_ref().map_or(0, |source| source.file_bytes);
        if end == clean.lsn && file_bytes != right {
            last.is_changed = true;
            last.header.limit = last.header.limit.max(end);
            let explanation = format!(
                "it has {file_bytes} bytes, although the log was closed cleanly with {right}. What is behind the end is removed"
            );
            self.find(FindingKind::WrongLength, &name::segment(number), Some(right), Some(end), explanation);
        }
    }

    /// The LSN past everything that anything here says may have been handed out.
    fn limit_behind(&self) -> Lsn {
        let kept = self.links.iter().map(|link| link.header.limit);
        let dropped = self.dropped.iter().map(|source| source.header.limit);
        let mut limit = kept.chain(dropped).max().unwrap_or(Lsn::ZERO).max(self.witness);
        let last = self.links.last().map_or(0, |link| link.number);
        for (_, unusable) in self.sources.unusable.range(last + 1..) {
            limit = limit.advance(unusable.file_bytes & !7).min(Lsn::LIMIT);
        }
        limit
    }
}

fn given_up(records: u64) -> String {
    match records {
        0 => String::new(),
        1 => "A valid record beside it is given up, because its batch is torn or may be. ".to_owned(),
        records => format!("{records} valid records beside it are given up, because their batch is torn or may be. "),
    }
}

fn file_name(file: &crate::fs::durable::LogFile) -> String {
    file.path().file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

mod link;
