//! The process that writes: appends, syncs, prepares, truncates at both ends, in the order of its calls.

use super::disk::{Control, Disk, File, Header, Lsn, NUMBERS, ROOM};
use super::{Bug, Readers, State, Who};

/// A segment of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Link {
    /// Its number.
    pub number: u8,
    /// The LSN of its first record.
    pub base: Lsn,
    /// Where it ends, once it is sealed.
    pub end: Option<Lsn>,
}

/// Where an LSN lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Location {
    /// In this segment.
    In(Link),
    /// Behind the end of a segment whose successor starts further on.
    Gap {
        /// Where that segment ends.
        end: Lsn,
        /// Where its successor starts.
        next: Lsn,
    },
    /// Before the start of the log.
    Truncated,
}

/// The segment behind the active one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Prepared {
    /// There is none.
    Missing,
    /// This file is to be used again, and has lost its header.
    Blanked(u8),
    /// It has its name.
    Ready,
}

/// A step of the truncation before an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Before {
    /// The active segment is sealed, so that it can be rewritten.
    Seal,
    /// The boundary segment is copied.
    Copy,
    /// The control file is replaced: the commit.
    Commit,
    /// The start moves, the segments leave the chain.
    Drop,
    /// They lose their names, one after the other.
    Retire,
    /// The copy gets its name.
    Rename,
    /// Readers are told where it begins.
    Rebase,
}

/// A step of the truncation after an LSN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum After {
    /// The prepared segment is given up.
    Unprepare,
    /// The control file requires nothing any more that is about to go.
    Lower,
    /// The kept segment is replaced by one that ends earlier: the commit.
    Commit,
    /// What lies behind is removed, newest first.
    Retire,
    /// The new active segment gets its name.
    Name,
    /// The control file names it.
    Control,
    /// Readers are told.
    Chain,
    /// Appends go on in it.
    Adopt,
}

/// What the holder of the lock on the structure is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// Nobody holds it.
    Nothing,
    /// The start moves to an LSN.
    Before {
        /// Where to.
        lsn: Lsn,
        /// The next step.
        step: Before,
        /// The copy of the boundary segment.
        copy: Option<u8>,
    },
    /// The end moves behind an LSN.
    After {
        /// Behind which one.
        lsn: Lsn,
        /// The next step.
        step: After,
    },
}

/// What the process has in memory.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Log {
    /// The chain.
    pub links: Vec<Link>,
    /// Segments that have left it and still have their names.
    pub dropped: Vec<u8>,
    /// The start of the log.
    pub start: Lsn,
    /// How often the end was cut.
    pub cuts: u8,
    /// What was written ends here.
    pub written: Lsn,
    /// What is durable ends here.
    pub durable: Lsn,
    /// The segment behind the active one.
    pub prepared: Prepared,
    /// What is done to the structure.
    pub doing: Doing,
    /// Files without a name whose space is to be given back.
    pub freeing: Vec<u8>,
    /// The one of them that is locked and becomes shorter.
    pub shrinking: Option<u8>,
    /// Truncations before this are all that is allowed.
    pub hold: Option<Lsn>,
    /// How many operations there were.
    pub operations: u8,
}

impl Log {
    /// The segment that takes records.
    pub fn active(&self) -> Link {
        *self.links.last().expect("a log has its active segment")
    }

    /// Where an LSN lies, as readers are told.
    pub fn locate(&self, lsn: Lsn) -> Location {
        if lsn < self.start {
            return Location::Truncated;
        }
        let Some(index) = self.links.iter().rposition(|link| link.base <= lsn) else {
            return Location::Gap { end: lsn, next: self.links[0].base };
        };
        match (self.links[index].end, self.links.get(index + 1)) {
            (Some(end), Some(next)) if lsn >= end => Location::Gap { end, next: next.base },
            _ => Location::In(self.links[index]),
        }
    }

    /// The segment in which a log that starts at `lsn` begins.
    fn boundary(&self, lsn: Lsn) -> Link {
        *self.links.iter().find(|link| link.end.is_none_or(|end| lsn < end)).expect("the active one has no end")
    }
}

/// The log and its files at the start: two full segments, and one record in the third.
pub fn start() -> (Disk, Log) {
    let control = Control { start_segment: 1, start: 0, opened: 3, witness: 0, sequence: 0 };
    let mut disk = Disk { files: Vec::new(), names: [None; NUMBERS], recycled: None, control };
    let mut links = Vec::new();
    for number in 1..=3_u8 {
        let base = (number - 1) * ROOM;
        let mut file = File::with(header(number, 1, base, base, 1));
        let end = if number < 3 { base + ROOM } else { base + 1 };
        (base..end).for_each(|lsn| file.write(lsn));
        let id = disk.create(file);
        disk.name(number, Some(id));
        links.push(Link { number, base, end: (number < 3).then_some(end) });
    }
    let log = Log {
        links,
        dropped: Vec::new(),
        start: 0,
        cuts: 0,
        written: 5,
        durable: 5,
        prepared: Prepared::Missing,
        doing: Doing::Nothing,
        freeing: Vec::new(),
        shrinking: None,
        hold: None,
        operations: 0,
    };
    (disk, log)
}

fn header(segment: u8, epoch: u8, base: Lsn, predecessor_end: Lsn, predecessor_epoch: u8) -> Header {
    let limit = base + ROOM;
    Header { segment, epoch, base, predecessor_end, predecessor_epoch, limit, sealed_end: None, witness: base }
}

impl Readers {
    /// Everything that the writing process may do next.
    pub(super) fn write(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let is_cutting = matches!(state.log.doing, Doing::After { .. });
        if !is_cutting {
            self.append(state, steps);
        }
        // A cut waits for a preparation that is under way, and lets none begin.
        if !is_cutting || matches!(state.log.prepared, Prepared::Blanked(_)) {
            self.prepare(state, steps);
        }
        if state.log.durable < state.log.written {
            let mut next = state.clone();
            next.log.durable = next.log.written;
            steps.push(("the log is synced".to_owned(), next));
        }
        self.free(state, steps);
        match state.log.doing {
            Doing::Nothing => self.begin(state, steps),
            Doing::Before { lsn, step, copy } => steps.extend(self.before(state, lsn, step, copy)),
            Doing::After { lsn, step } => steps.extend(Readers::after(state, lsn, step)),
        }
    }

    /// Gives back the space of a file without a name, in steps, if it gets the exclusive lock on it.
    fn free(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let mut next = state.clone();
        let label = match (state.log.shrinking, state.log.freeing.first()) {
            (Some(file), _) => {
                let freed = next.disk.file_mut(file);
                freed.room -= 1;
                if freed.room == 0 {
                    *freed = File { is_used: true, ..File::default() };
                    next.log.shrinking = None;
                }
                "a file without a name becomes shorter"
            }
            (None, Some(file)) => {
                next.log.freeing.remove(0);
                if state.reader.locks(*file) && !self.has(Bug::MisledByShrinking) {
                    "a file without a name is read, and left alone"
                } else {
                    next.log.shrinking = Some(*file);
                    "a file without a name is locked"
                }
            }
            (None, None) => return,
        };
        steps.push((label.to_owned(), next));
    }

    fn append(&self, state: &State, steps: &mut Vec<(String, State)>) {
        if state.log.operations == self.operations {
            return;
        }
        let mut next = state.clone();
        let lsn = next.log.written;
        let active = next.log.active();
        let file = next.disk.named(active.number).expect("the active segment has its name");
        if lsn < next.disk.file(file).header.expect("and its header").limit {
            next.disk.file_mut(file).write(lsn);
        } else if next.log.prepared == Prepared::Ready {
            // One write for the header and the first record.
            rotate(&mut next, state.log.durable);
            let number = next.log.active().number;
            let file = next.disk.named(number).expect("the prepared segment has its name");
            next.disk.file_mut(file).write(lsn);
        } else {
            return;
        }
        next.log.written = lsn + 1;
        if self.who == Who::OtherProcess {
            // It sees what is written, durable or not.
            next.log.durable = lsn + 1;
        }
        next.log.operations += 1;
        steps.push((format!("record {lsn} is written"), next));
    }

    fn prepare(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let active = state.log.active();
        let number = active.number + 1;
        // Another process sees a name with nothing in it. That it may come earlier is left out there, so that fewer states differ.
        let is_needed = state.log.written == active.base + ROOM
            || matches!(state.log.doing, Doing::Before { step: Before::Seal, .. });
        if self.who == Who::OtherProcess
            && !is_needed
            && state.disk.recycled.is_none()
            && state.log.prepared == Prepared::Missing
        {
            return;
        }
        let mut next = state.clone();
        let label = match state.log.prepared {
            Prepared::Ready => return,
            Prepared::Missing => match next.disk.recycled.take() {
                Some(file) => {
                    next.disk.file_mut(file).header = None;
                    next.log.prepared = Prepared::Blanked(file);
                    "the header of a file that is to be used again is blanked".to_owned()
                }
                None => {
                    let file = next.disk.create(File::blank());
                    next.disk.name(number, Some(file));
                    next.log.prepared = Prepared::Ready;
                    format!("segment {number} is prepared")
                }
            },
            Prepared::Blanked(file) => {
                next.disk.name(number, Some(file));
                next.log.prepared = Prepared::Ready;
                format!("the file gets the name of segment {number}")
            }
        };
        steps.push((label, next));
    }

    fn begin(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let log = &state.log;
        if log.operations == self.operations {
            return;
        }
        let mut doing = |label: String, doing: Doing| {
            let mut next = state.clone();
            next.log.operations += 1;
            next.log.doing = doing;
            steps.push((label, next));
        };
        for lsn in (log.start + 1..=log.durable).filter(|lsn| state.is_record(*lsn) || *lsn == log.durable) {
            if log.hold.is_none_or(|hold| lsn <= hold) {
                let step = if log.boundary(lsn) == log.active() { Before::Seal } else { Before::Copy };
                let label = format!("a truncation before LSN {lsn} begins");
                doing(label, Doing::Before { lsn, step, copy: None });
            }
        }
        if self.has_cuts && log.cuts == 0 {
            let last = (log.start..log.written).rfind(|lsn| state.is_record(*lsn));
            for lsn in (log.start..last.unwrap_or(0)).filter(|lsn| state.is_record(*lsn)) {
                doing(format!("a cut after LSN {lsn} begins"), Doing::After { lsn, step: After::Unprepare });
            }
        }
    }

    /// The next step of a truncation before `lsn`; `None` if it waits for the next segment.
    fn before(&self, state: &State, lsn: Lsn, step: Before, mut copy: Option<u8>) -> Option<(String, State)> {
        let mut next = state.clone();
        let link = state.log.boundary(lsn);
        let early = self.has(Bug::RemovedBeforeCommit);
        let (then, label) = match step {
            Before::Seal => {
                // Whatever was written is synced, and nobody appends meanwhile.
                if lsn > link.base && state.log.prepared != Prepared::Ready {
                    return None;
                }
                next.log.durable = next.log.written;
                if lsn > link.base {
                    let durable = next.log.durable;
                    rotate(&mut next, durable);
                }
                (Some(Before::Copy), "what was written is sealed")
            }
            Before::Copy => {
                if lsn > link.base {
                    copy = Some(copied(&mut next, link, lsn));
                }
                (Some(if early { Before::Retire } else { Before::Commit }), "the boundary is copied, if need be")
            }
            Before::Commit => {
                let witness = next.log.durable;
                next.disk.replace_control(|control| {
                    (control.start_segment, control.start, control.witness) = (link.number, lsn, witness);
                });
                (Some(Before::Drop), "the control file is replaced")
            }
            Before::Drop => {
                next.log.dropped = if early { Vec::new() } else { older(&state.log, next.disk.control.start_segment) };
                next.log.links.retain(|link| link.number >= next.disk.control.start_segment);
                next.log.start = next.disk.control.start;
                (Some(if early { Before::Rename } else { Before::Retire }), "the segments leave the chain")
            }
            Before::Retire => {
                let mut dropped = next.log.dropped.clone();
                if early {
                    dropped = older(&state.log, link.number);
                    dropped.retain(|number| state.disk.named(*number).is_some());
                }
                if !dropped.is_empty() {
                    self.retire(&mut next, dropped.remove(0));
                }
                let then = if early { Before::Commit } else { Before::Rename };
                let then = if dropped.is_empty() { then } else { Before::Retire };
                next.log.dropped = if early { Vec::new() } else { dropped };
                (Some(then), "what left the chain loses its name")
            }
            Before::Rename => {
                if let Some(copy) = copy {
                    let replaced = next.disk.named(link.number);
                    next.disk.name(link.number, Some(copy));
                    next.log.freeing.extend(replaced);
                }
                (Some(Before::Rebase), "the copy of the boundary gets its name")
            }
            Before::Rebase => {
                let first = &mut next.log.links[0];
                first.base = first.base.max(next.log.start);
                (None, "the truncation is done")
            }
        };
        next.log.doing = then.map_or(Doing::Nothing, |step| Doing::Before { lsn, step, copy });
        Some((label.to_owned(), next))
    }

    fn retire(&self, next: &mut State, number: u8) {
        let file = next.disk.named(number).expect("it had its name until now");
        let is_pinned = next.reader.pinned() == Some(number) && !self.has(Bug::RecycledReadAsOld);
        next.disk.name(number, None);
        if !is_pinned && next.disk.recycled.is_none() && next.disk.file(file).room == ROOM {
            next.disk.recycled = Some(file);
        } else {
            next.log.freeing.push(file);
        }
    }

    /// The next step of a cut after `lsn`; `None` if it waits for the preparation.
    fn after(state: &State, lsn: Lsn, step: After) -> Option<(String, State)> {
        let mut next = state.clone();
        let index = state.log.links.iter().rposition(|link| link.base <= lsn).expect("the record is in the log");
        let kept = state.log.links[index];
        let label = match step {
            After::Unprepare => {
                if matches!(state.log.prepared, Prepared::Blanked(_)) {
                    return None;
                }
                // The pause before syncs what was written.
                next.log.durable = next.log.written;
                if next.log.prepared == Prepared::Ready {
                    next.disk.name(state.log.active().number + 1, None);
                    next.log.prepared = Prepared::Missing;
                }
                "the prepared segment is given up"
            }
            After::Lower => {
                if next.disk.control.opened > kept.number {
                    next.disk.replace_control(|control| control.opened = kept.number);
                }
                "the control file requires nothing that is about to go"
            }
            After::Commit => {
                let file = shortened(&mut next, kept, lsn);
                next.disk.name(kept.number, Some(file));
                next.cuts.push((lsn + 1, state.log.written + 1));
                "the segment that is kept is replaced"
            }
            After::Retire => {
                let newest = next.disk.list(kept.number + 1).pop();
                if let Some(number) = newest {
                    next.disk.name(number, None);
                }
                "a segment behind it is removed"
            }
            After::Name => {
                let file = next.disk.named(kept.number).expect("the kept segment has its name");
                let Header { epoch, limit, .. } = next.disk.file(file).header.expect("and its header");
                let active = File::with(header(kept.number + 1, epoch, limit, lsn + 1, epoch));
                let file = next.disk.create(active);
                next.disk.name(kept.number + 1, Some(file));
                "the new active segment gets its name"
            }
            After::Control => {
                let base = state.log.written + 1;
                next.disk.replace_control(|control| (control.opened, control.witness) = (kept.number + 1, base));
                "the control file names the new active segment"
            }
            After::Chain => {
                next.log.links.truncate(index + 1);
                next.log.links[index].end = Some(lsn + 1);
                next.log.links.push(Link { number: kept.number + 1, base: state.log.written + 1, end: None });
                next.log.cuts += 1;
                "readers are told of the cut"
            }
            After::Adopt => {
                (next.log.written, next.log.durable) = (state.log.active().base, state.log.active().base);
                "the cut is done"
            }
        };
        let then = following(step, next.disk.list(kept.number + 1).is_empty());
        next.log.doing = then.map_or(Doing::Nothing, |step| Doing::After { lsn, step });
        Some((label.to_owned(), next))
    }
}

/// The segments of the chain before this one.
fn older(log: &Log, number: u8) -> Vec<u8> {
    log.links.iter().map(|link| link.number).filter(|older| *older < number).collect()
}

/// The step of a cut behind this one.
fn following(step: After, nothing_is_behind: bool) -> Option<After> {
    match step {
        After::Unprepare => Some(After::Lower),
        After::Lower => Some(After::Commit),
        After::Commit | After::Retire if nothing_is_behind => Some(After::Name),
        After::Commit | After::Retire => Some(After::Retire),
        After::Name => Some(After::Control),
        After::Control => Some(After::Chain),
        After::Chain => Some(After::Adopt),
        After::Adopt => None,
    }
}

/// The prepared segment becomes the active one.
fn rotate(next: &mut State, witness: Lsn) {
    let old = next.log.active();
    let (number, base) = (old.number + 1, next.log.written);
    let file = next.disk.named(old.number).expect("the active segment has its name");
    let epoch = next.disk.file(file).header.expect("and its header").epoch;
    let file = next.disk.named(number).expect("the prepared segment has its name");
    next.disk.file_mut(file).header = Some(Header { witness, ..header(number, epoch, base, base, epoch) });
    next.log.links.last_mut().expect("it has an active segment").end = Some(base);
    next.log.links.push(Link { number, base, end: None });
    next.log.prepared = Prepared::Missing;
}

/// A copy of what the boundary segment has from `lsn` on.
fn copied(next: &mut State, link: Link, lsn: Lsn) -> u8 {
    let end = link.end.expect("the boundary is sealed");
    let source = next.disk.named(link.number).expect("the boundary has its name");
    let old = next.disk.file(source).header.expect("and its header");
    let mut file = File::with(Header { base: lsn, sealed_end: Some(end), witness: next.log.durable, ..old });
    (lsn..end).for_each(|lsn| file.write(lsn));
    next.disk.create(file)
}

/// A copy of what the segment that a cut keeps has up to `lsn`.
fn shortened(next: &mut State, kept: Link, lsn: Lsn) -> u8 {
    let active = next.disk.named(next.log.active().number).expect("the active segment has its name");
    let epoch = next.disk.file(active).header.expect("and its header").epoch + 1;
    let source = next.disk.named(kept.number).expect("the kept segment has its name");
    let old = next.disk.file(source).header.expect("and its header");
    let written = next.log.written;
    // The limit lies past the end, so that a reader that has read everything stands in the gap and is told.
    let new = Header { epoch, limit: written + 1, sealed_end: Some(lsn + 1), witness: written, ..old };
    let mut file = File::with(new);
    (old.base..=lsn).for_each(|lsn| file.write(lsn));
    next.disk.create(file)
}
