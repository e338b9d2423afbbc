//! Readers and truncation: fault 40 of the catalogue, and what of fault 42 its steps decide.
//!
//! One process appends, syncs, prepares segments out of files that are used again, truncates at the start and cuts the end. One reader reads
//! meanwhile: of the live log, then it pins the segment that it has open and follows the durable mark; or of the files, from another process,
//! without a lock. Each call of the file system is a step of its own. Whatever the order of their steps, the reader must show what was
//! appended, one record after the other, or be told that it is truncated: no record of another segment, none twice, none left out, none that is
//! not durable yet or not there any more, no damage where there is none, and no end where there is more.
//!
//! Nothing crashes here: what a crash leaves of a truncation is the model of [`truncation`](crate::truncation).

mod disk;
mod files;
mod live;
mod survey;
mod writer;

use crate::checker::Model;
use disk::{Disk, Lsn};
use files::Files;
use live::Live;
use writer::{Doing, Log, Prepared};

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Of a file that is used again a reader takes what is in it for what was in it: the checksum does not say whose frame it is, nor is a file
    /// spared because somebody reads it.
    RecycledReadAsOld,
    /// A live reader shows what was written and is not durable.
    ReadsPastDurable,
    /// A live reader goes on in the segment that it has open, wherever the log starts by now.
    StartNotLookedAt,
    /// A live reader goes on in the segment that it has open, although the end was cut.
    CutNotLookedAt,
    /// What looks like damage is not looked at again.
    LookedOnce,
    /// A follower looks at the durable mark after it has read, and waits until it moves.
    DurableSeenLate,
    /// A hold looks at the start of the log without the lock that a truncation has.
    HoldWithoutLock,
    /// A reader of the files takes a name that is gone for the end of the log.
    MissingNameIsEnd,
    /// A replaced boundary is given back in steps although somebody reads it, and a reader of the files that does not find its position in it begins in
    /// front of that.
    MisledByShrinking,
    /// A reader of the files believes the first look at the end of the log.
    EndJudgedOnce,
    /// A reader of the files goes on behind a gap that a cut has left, although it has read what was cut.
    GapPassed,
    /// A reader of the files that stands at the end of a segment takes the truncated start of the next one for a gap that a cut has left.
    BoundaryTakenForGap,
    /// A reader of the files that has read what a cut is just removing takes that for the end of the log.
    CutTakenForEnd,
    /// Segments lose their names before the control file says that the log starts behind them.
    RemovedBeforeCommit,
}

/// Who reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    /// A follower in the writing process.
    Follower,
    /// A follower that takes a hold first.
    Holder,
    /// Another process, from the files.
    OtherProcess,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Readers {
    /// Who reads.
    pub who: Who,
    /// How many operations: appends, truncations, cuts.
    pub operations: u8,
    /// Whether one of them may be a cut of the end.
    pub has_cuts: bool,
    /// The LSN from which is read.
    pub from: u8,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// What a reader has read, and what held when its call began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    from: Lsn,
    position: Lsn,
    last_read: Option<Lsn>,
    /// The position at which it has looked a second time.
    looked_again: Option<Lsn>,
    /// When the call began: the start of the log, how many cuts were committed and how many over, what was durable.
    start: Lsn,
    committed: u8,
    cuts: u8,
    durable: Lsn,
}

/// How far a reader is that opens a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opened {
    /// It has opened the file.
    Found(u8),
    /// It has the shared lock, and the file had a name then.
    Locked(u8),
}

impl Opened {
    fn file(self) -> u8 {
        let (Opened::Found(file) | Opened::Locked(file)) = self;
        file
    }
}

/// A reader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reader {
    /// Of the live log.
    Live(Live),
    /// Of the files.
    Files(Files),
    /// It was told that it is truncated, or has met the end of the files.
    Done,
}

impl Reader {
    /// The segment that it has open in a live log.
    fn pinned(&self) -> Option<u8> {
        if let Reader::Live(live) = self { live.pinned() } else { None }
    }

    /// Whether it has the shared lock on this file.
    fn locks(&self, file: u8) -> bool {
        match self {
            Reader::Live(live) => live.locks(file),
            Reader::Files(files) => files.locks(file),
            Reader::Done => false,
        }
    }

    fn holds(&self, file: u8) -> bool {
        match self {
            Reader::Live(live) => live.holds(file),
            Reader::Files(files) => files.holds(file),
            Reader::Done => false,
        }
    }
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    disk: Disk,
    log: Log,
    /// Committed cuts: from where on records were removed, and where the log goes on.
    cuts: Vec<(Lsn, Lsn)>,
    reader: Reader,
    progress: Progress,
    broken: Option<String>,
}

impl State {
    /// Whether a record was written at this LSN and not cut since.
    fn is_record(&self, lsn: Lsn) -> bool {
        lsn < self.log.written && self.cut_of(lsn).is_none()
    }

    fn cut_of(&self, lsn: Lsn) -> Option<usize> {
        self.cuts.iter().position(|(end, next)| (*end..*next).contains(&lsn))
    }

    /// Whether a name leads to a file.
    fn has_name(&self, file: u8) -> bool {
        let is_used_again = self.disk.recycled == Some(file) || self.log.prepared == Prepared::Blanked(file);
        is_used_again || self.disk.names.contains(&Some(file))
    }

    /// A reader that has opened a file under the name of a segment takes the shared lock, and looks whether the file still has a name. `None` if
    /// it has none: the name leads elsewhere by now. Who frees a file has the exclusive lock only if it has no name.
    fn locked(&self, file: u8) -> Option<Opened> {
        self.has_name(file).then_some(Opened::Locked(file))
    }

    fn breaks(&mut self, why: String) {
        self.broken.get_or_insert(why);
    }

    fn call_begins(&mut self) {
        let Log { start, cuts, durable, .. } = self.log;
        let committed = self.cuts.len() as u8;
        self.progress = Progress { start, committed, cuts, durable, ..self.progress };
    }

    /// The reader shows the record at its position, and has found `found` there.
    fn shows(&mut self, found: disk::Frame) {
        let Progress { position, last_read, start, cuts, .. } = self.progress;
        if found.lsn != position {
            self.breaks(format!("the record of LSN {} is shown at LSN {position}", found.lsn));
        }
        if position < self.progress.from {
            self.breaks(format!("the record at LSN {position} is shown, which nobody has asked for"));
        }
        if let Some(cut) = last_read.and_then(|last| self.cut_of(last))
            && self.cut_of(position) != Some(cut)
        {
            self.breaks(format!("a record that was cut was shown, and then the one at LSN {position}"));
        }
        if last_read.is_some_and(|last| last >= position) {
            self.breaks(format!("the record at LSN {position} is shown after that at LSN {last_read:?}"));
        }
        if let Reader::Live(_) = self.reader {
            if position >= self.log.durable {
                self.breaks(format!("the record at LSN {position} is shown and not durable"));
            }
            if position < start {
                self.breaks(format!("the record at LSN {position} is shown after its truncation"));
            }
            if self.cut_of(position).is_some_and(|cut| cut < usize::from(cuts)) {
                self.breaks(format!("the record at LSN {position} is shown after it was cut"));
            }
        }
        self.progress.last_read = Some(position);
        self.progress.position = position + 1;
    }

    /// The reader goes on at `next`, as if there were no record in between.
    fn skips_to(&mut self, next: Lsn) {
        let left_out = (self.progress.position..next).find(|lsn| self.is_record(*lsn));
        if let Some(lsn) = left_out {
            self.breaks(format!("the record at LSN {lsn} is left out"));
        }
        self.progress.position = next;
    }

    /// The reader says that there is no further record now.
    fn ends(&mut self) {
        let Progress { position, last_read, committed, durable, .. } = self.progress;
        let cut = last_read.and_then(|last| self.cut_of(last));
        let is_cut = cut.is_some_and(|cut| cut < usize::from(committed));
        if is_cut && !matches!(self.reader, Reader::Live(_)) {
            self.breaks("it ends, and does not say that what it has shown was cut".to_owned());
        }
        if position < durable && self.cut_of(position).is_none() {
            self.breaks(format!("it ends at LSN {position}; the log was durable to LSN {durable} when it was asked"));
        }
    }

    /// The reader is told that what it wants to read was truncated, at either end.
    fn is_told(&mut self) {
        let position = self.progress.position.max(self.progress.from);
        if self.log.hold.is_some() && self.cut_of(position).is_none() {
            self.breaks(format!("LSN {position} is truncated although it is held"));
        }
        if position >= self.disk.control.start && self.cut_of(position).is_none() {
            self.breaks(format!("it is told that LSN {position} is truncated, which is not so"));
        }
        self.reader = Reader::Done;
    }

    /// The reader says that the log is damaged.
    fn reports_damage(&mut self) {
        self.breaks(format!("it reports damage at LSN {}", self.progress.position));
    }

    /// Forgets what nobody can see any more, so that fewer states differ.
    fn tidy(&mut self) {
        let copy = if let Doing::Before { copy, .. } = self.log.doing { copy } else { None };
        let blanked = if let Prepared::Blanked(file) = self.log.prepared { Some(file) } else { None };
        let State { disk, log, reader, .. } = self;
        disk.forget_unless(|file| {
            let is_freed = log.freeing.contains(&file) || log.shrinking == Some(file);
            copy == Some(file) || blanked == Some(file) || is_freed || reader.holds(file)
        });
    }
}

impl Readers {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }
}

impl Model for Readers {
    type State = State;

    fn start(&self) -> State {
        let (disk, log) = writer::start();
        let reader = match self.who {
            Who::Follower => Reader::Live(Live::new(false)),
            Who::Holder => Reader::Live(Live::new(true)),
            Who::OtherProcess => Reader::Files(Files::new()),
        };
        let progress = Progress {
            from: self.from,
            position: self.from,
            last_read: None,
            looked_again: None,
            start: 0,
            committed: 0,
            cuts: 0,
            durable: 0,
        };
        State { disk, log, cuts: Vec::new(), reader, progress, broken: None }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        let mut steps = Vec::new();
        if state.broken.is_some() || state.reader == Reader::Done {
            return steps;
        }
        self.write(state, &mut steps);
        match &state.reader {
            Reader::Live(live) => steps.extend(self.read_live(state, live)),
            Reader::Files(files) => steps.push(self.read_files(state, files)),
            Reader::Done => {}
        }
        steps.iter_mut().for_each(|(_, next)| next.tidy());
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        state.broken.clone()
    }

    fn may_rest(&self, state: &State) -> bool {
        match &state.reader {
            Reader::Live(live) => live.waits() && state.progress.position >= state.log.durable,
            Reader::Files(_) => false,
            Reader::Done => true,
        }
    }
}
