//! Truncation at both ends: faults 34 to 38 of the catalogue.
//!
//! A log of three segments is truncated, cut and appended to, in any order, and crashes at any step. Every append is durable at once: what
//! is looked at is the structure. After each crash the log must be the old one or the new one, no LSN may be given twice, and nothing that was
//! removed may return.

use std::collections::BTreeMap;

use crate::checker::Model;
use crate::names::Names;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Segments are removed before the control file says that they may go.
    RemovedBeforeCommit,
    /// A cut gives the segment that it rewrites no higher epoch, so what it cut off is not void.
    EpochNotRaised,
    /// The next LSN after a cut is the end of what is kept.
    LsnReused,
    /// A cut leaves the control file naming a segment that it removes.
    OpenedSegmentNotLowered,
    /// The segments that a cut removes go before its commit.
    CutRemovesBeforeCommit,
    /// The active segment is removed when nothing before the new start is kept.
    ActiveSegmentRemoved,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Truncation {
    /// How many operations.
    pub operations: u8,
    /// How many crashes.
    pub crashes: u8,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// LSN and what was appended there.
type Record = (u8, u8);

const CONTROL: u8 = 0;
const RECORDS_MAX: u8 = 2;

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum File {
    /// The control file: start segment, start, opened segment.
    Control(u8, u8, u8),
    /// A segment.
    Segment(Segment),
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    epoch: u8,
    base: u8,
    predecessor_end: u8,
    /// No LSN at or past it was handed out for this segment, nor for what a cut removed behind it.
    limit: u8,
    records: Vec<Record>,
}

impl Segment {
    fn end(&self) -> u8 {
        self.records.last().map_or(self.base, |record| record.0 + 1)
    }
}

/// What is under way: the operation and the number of its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Nothing.
    Nothing,
    /// The start moves to this LSN.
    Before(u8, u8),
    /// The end moves behind this LSN.
    After(u8, u8),
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    names: Names<u8, File>,
    doing: Doing,
    /// What the log shows, and what it will show when the operation under way is done.
    shows: Vec<Record>,
    becomes: Vec<Record>,
    next_lsn: u8,
    given: BTreeMap<u8, u8>,
    operations: u8,
    crashes: u8,
    broken: Option<String>,
}

impl State {
    fn control(&self) -> (u8, u8, u8) {
        match self.names.get(&CONTROL) {
            Some(File::Control(segment, start, opened)) => (*segment, *start, *opened),
            other => unreachable!("the control file is {other:?}"),
        }
    }

    fn segments(&self) -> Vec<(u8, Segment)> {
        let segment = |(number, file): (&u8, &File)| match file {
            File::Segment(segment) => Some((*number, segment.clone())),
            File::Control(..) => None,
        };
        self.names.present().filter_map(segment).collect()
    }
}

/// Numbered segments, oldest first.
type Chain = Vec<(u8, Segment)>;

/// What recovery makes of a directory: start, segments of the chain, and the next LSN.
fn recover(names: &Names<u8, File>) -> Result<(u8, Chain, u8), String> {
    let Some(File::Control(start_segment, start, opened)) = names.get(&CONTROL).cloned() else {
        return Err("the control file is missing".to_owned());
    };
    let mut chain = Chain::new();
    let (mut limit, mut is_over) = (0, false);
    for (number, file) in names.present().filter(|(number, _)| **number >= start_segment && **number != CONTROL) {
        let File::Segment(segment) = file else { continue };
        limit = limit.max(segment.limit);
        match chain.last() {
            _ if is_over => {}
            None if *number == start_segment => chain.push((*number, segment.clone())),
            None => return Err(format!("segment {start_segment} is missing")),
            Some((_, last)) if segment.epoch < last.epoch => is_over = true,
            Some((last, _)) if *number != last + 1 => return Err(format!("segment {} is missing", last + 1)),
            Some((_, last)) if segment.predecessor_end != last.end() => {
                return Err(format!("segment {number} does not follow the one before"));
            }
            Some(_) => chain.push((*number, segment.clone())),
        }
    }
    match chain.last() {
        None => Err(format!("segment {start_segment} is missing")),
        Some((last, _)) if *last < opened => Err(format!("segment {opened} is missing")),
        Some(_) => Ok((start, chain, limit)),
    }
}

fn shown(start: u8, chain: &[(u8, Segment)]) -> Vec<Record> {
    chain.iter().flat_map(|(_, segment)| &segment.records).filter(|record| record.0 >= start).copied().collect()
}

impl Truncation {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn append(&self, state: &State) -> (String, State) {
        let mut next = state.clone();
        let (number, active) = state.segments().pop().expect("a log has its active segment");
        let lsn = state.next_lsn;
        let value = state.given.len() as u8;
        if state.given.contains_key(&lsn) {
            next.broken = Some(format!("LSN {lsn} is given to a second record"));
        }
        next.given.insert(lsn, value);
        if active.records.len() < usize::from(RECORDS_MAX) {
            next.names.change(&number, |file| {
                if let File::Segment(segment) = file {
                    segment.records.push((lsn, value));
                }
            });
        } else {
            let segment = Segment {
                epoch: active.epoch,
                base: lsn,
                predecessor_end: lsn,
                limit: lsn + RECORDS_MAX,
                records: vec![(lsn, value)],
            };
            next.names.set(number + 1, Some(File::Segment(segment)));
            next.names.sync();
        }
        next.next_lsn = lsn + 1;
        next.shows.push((lsn, value));
        next.becomes = next.shows.clone();
        next.operations += 1;
        (format!("record {value} is appended at LSN {lsn}"), next)
    }

    fn begin(&self, state: &State, doing: Doing) -> (String, State) {
        let keeps = |record: &&Record| match doing {
            Doing::Before(lsn, _) => record.0 >= lsn,
            Doing::After(lsn, _) => record.0 <= lsn,
            Doing::Nothing => true,
        };
        let becomes = state.shows.iter().filter(keeps).copied().collect();
        let operations = state.operations + 1;
        let label = match doing {
            Doing::Before(lsn, _) => format!("truncation before LSN {lsn} begins"),
            _ => format!("a cut begins: {doing:?}"),
        };
        (label, State { doing, becomes, operations, ..state.clone() })
    }

    fn done(next: &mut State) {
        next.doing = Doing::Nothing;
        next.shows = next.becomes.clone();
    }

    fn before(&self, state: &State, lsn: u8, step: u8) -> (String, State) {
        let mut next = state.clone();
        let (_, _, opened) = state.control();
        let segments = state.segments();
        let first = segments.iter().find(|(_, segment)| lsn < segment.end()).or(segments.last()).expect("one at least");
        let number = first.0;
        let old: Vec<u8> = segments.iter().map(|(number, _)| *number).filter(|other| *other < number).collect();
        let early = self.has(Bug::RemovedBeforeCommit);
        next.doing = Doing::Before(lsn, step + 1);
        let label = match (step, early) {
            (0, false) | (2, true) => {
                next.names.set(CONTROL, Some(File::Control(number, lsn, opened.max(number))));
                "the control file is replaced"
            }
            (1, _) | (3, _) => {
                next.names.sync();
                "the directory is synced"
            }
            (2, false) | (0, true) => {
                // In one step: a crash decides about each name by itself all the same.
                for other in old {
                    next.names.set(other, None);
                }
                if self.has(Bug::ActiveSegmentRemoved) && Some(number) == segments.last().map(|last| last.0) {
                    next.names.set(number, None);
                }
                "what lies before the start is removed"
            }
            _ => {
                Truncation::done(&mut next);
                "the truncation is done"
            }
        };
        (label.to_owned(), next)
    }

    fn after(&self, state: &State, lsn: u8, step: u8) -> (String, State) {
        let mut next = state.clone();
        let (start_segment, start, opened) = state.control();
        let segments = state.segments();
        let kept = segments.iter().rev().find(|(_, segment)| segment.base <= lsn).expect("the record is in the log");
        let number = kept.0;
        let epoch = segments.iter().map(|(_, segment)| segment.epoch).max().unwrap_or(0);
        let limit = if self.has(Bug::LsnReused) { lsn + 1 } else { state.next_lsn };
        let removes = |next: &mut State| {
            for (other, _) in segments.iter().filter(|(other, _)| *other > number) {
                next.names.set(*other, None);
            }
        };
        next.doing = Doing::After(lsn, step + 1);
        let label = match step {
            0 if opened > number && !self.has(Bug::OpenedSegmentNotLowered) => {
                next.names.set(CONTROL, Some(File::Control(start_segment, start, number)));
                "the control file names the segment that is kept"
            }
            0 => "the control file need not change",
            1 if self.has(Bug::CutRemovesBeforeCommit) => {
                removes(&mut next);
                next.names.sync();
                "what lies behind is removed"
            }
            1 | 3 | 6 | 8 => {
                next.names.sync();
                "the directory is synced"
            }
            2 => {
                let mut segment = kept.1.clone();
                segment.epoch = if self.has(Bug::EpochNotRaised) { segment.epoch } else { epoch + 1 };
                segment.records.retain(|record| record.0 <= lsn);
                segment.limit = limit;
                next.names.set(number, Some(File::Segment(segment)));
                "the segment that is kept is replaced"
            }
            4 => {
                removes(&mut next);
                "what lies behind is removed"
            }
            5 => {
                let active = Segment {
                    epoch: kept.1.epoch,
                    base: kept.1.limit,
                    predecessor_end: kept.1.end(),
                    limit: kept.1.limit + RECORDS_MAX,
                    records: Vec::new(),
                };
                next.next_lsn = active.base;
                next.names.set(number + 1, Some(File::Segment(active)));
                "the new active segment gets its name"
            }
            7 => {
                next.names.set(CONTROL, Some(File::Control(start_segment, start, number + 1)));
                "the control file names the new active segment"
            }
            _ => {
                Truncation::done(&mut next);
                "the cut is done"
            }
        };
        (label.to_owned(), next)
    }

    /// The log after a crash and an open that nothing interrupts; the model of recovery interrupts it.
    fn reopened(&self, state: &State, names: Names<u8, File>) -> (String, State) {
        let mut next = State { crashes: state.crashes + 1, doing: Doing::Nothing, ..state.clone() };
        let (start, mut chain, limit) = match recover(&names) {
            Ok(recovered) => recovered,
            Err(why) => {
                next.broken = Some(format!("the log does not open: {why}"));
                return ("a crash".to_owned(), next);
            }
        };
        let found = shown(start, &chain);
        if found != state.shows && found != state.becomes {
            next.broken = Some(format!("the log holds {found:?}; it held {:?} or {:?}", state.shows, state.becomes));
        }
        let epoch = chain.iter().map(|(_, segment)| segment.epoch).max().unwrap_or(0) + 1;
        let (number, mut last) = chain.pop().expect("one at least");
        let limit = if self.has(Bug::LsnReused) { last.end() } else { limit };
        let mut files: Vec<(u8, File)> =
            chain.into_iter().map(|(number, file)| (number, File::Segment(file))).collect();
        let opened = if last.records.is_empty() { number } else { number + 1 };
        let active = Segment {
            epoch,
            base: limit,
            predecessor_end: if opened == number { last.predecessor_end } else { last.end() },
            limit: limit + RECORDS_MAX,
            records: Vec::new(),
        };
        if opened > number {
            (last.epoch, last.limit) = (epoch, limit);
            files.push((number, File::Segment(last)));
        }
        files.push((opened, File::Segment(active)));
        let start_segment = files[0].0;
        files.push((CONTROL, File::Control(start_segment, start, opened)));
        next.names = Names::new(files);
        next.next_lsn = limit;
        next.shows = found;
        next.becomes = next.shows.clone();
        (format!("a crash and an open, which finds {:?}", next.shows), next)
    }
}

impl Model for Truncation {
    type State = State;

    fn start(&self) -> State {
        let segment = |base: u8, records: &[Record]| {
            File::Segment(Segment {
                epoch: 1,
                base,
                predecessor_end: base,
                limit: base + RECORDS_MAX,
                records: records.to_vec(),
            })
        };
        let records = [(1, 0), (2, 1), (3, 2), (4, 3), (5, 4)];
        State {
            names: Names::new([
                (CONTROL, File::Control(1, 1, 3)),
                (1, segment(1, &records[..2])),
                (2, segment(3, &records[2..4])),
                (3, segment(5, &records[4..])),
            ]),
            doing: Doing::Nothing,
            shows: records.to_vec(),
            becomes: records.to_vec(),
            next_lsn: 6,
            given: records.into_iter().collect(),
            operations: 0,
            crashes: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        if state.broken.is_some() {
            return Vec::new();
        }
        let mut steps = Vec::new();
        match state.doing {
            _ if state.segments().is_empty() => {}
            Doing::Nothing if state.operations < self.operations => {
                steps.push(self.append(state));
                let lsns: Vec<u8> = state.shows.iter().map(|record| record.0).collect();
                steps.extend(lsns.iter().skip(1).map(|lsn| self.begin(state, Doing::Before(*lsn, 0))));
                if lsns.last().is_some_and(|last| last + 1 == state.next_lsn) {
                    steps.push(self.begin(state, Doing::Before(state.next_lsn, 0)));
                }
                steps.extend(lsns.iter().rev().skip(1).map(|lsn| self.begin(state, Doing::After(*lsn, 0))));
            }
            Doing::Nothing => {}
            Doing::Before(lsn, step) => steps.push(self.before(state, lsn, step)),
            Doing::After(lsn, step) => steps.push(self.after(state, lsn, step)),
        }
        if state.crashes < self.crashes {
            steps.extend(state.names.after_crash().into_iter().map(|names| self.reopened(state, names)));
        }
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        state.broken.clone()
    }

    fn may_rest(&self, state: &State) -> bool {
        state.doing == Doing::Nothing || state.broken.is_some()
    }
}
