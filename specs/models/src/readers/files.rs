//! A reader in another process, which has the files and nothing else.

use super::disk::{Control, Header, Lsn};
use super::survey::{End, Survey};
use super::{Bug, Opened, Reader, Readers, State};

/// The segment that a reader has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Current {
    file: u8,
    header: Header,
    /// It reads to here.
    end: Lsn,
}

/// The last frame that was read, with what its checksum covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct LastFrame {
    segment: u8,
    epoch: u8,
    end: Lsn,
}

/// Why it cannot go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Obstacle {
    /// This segment is missing.
    Missing(u8),
    /// The header of this segment is blank or that of another one.
    Header(u8, Option<u8>),
    /// There is no frame of this segment at this LSN, although it does not end there.
    Frame(u8, Lsn),
    /// This segment ends at this LSN, and none follows.
    End(u8, Lsn),
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    /// The first step of a call.
    Call,
    /// Reads the control file, to look for its segment.
    Control,
    /// Lists the names of segments, knowing where the log starts.
    List(u8),
    /// Reads the headers of these segments, having found its own, perhaps, with this epoch.
    Search(Vec<u8>, Option<(u8, u8)>),
    /// Has found none, and reads the control file once more.
    SearchedAll,
    /// Opens the file with this segment's name.
    Open(u8),
    /// Locks the file, looks at its name, and reads its header.
    Header(u8, Opened),
    /// Reads the header of the segment behind, which says where this one ends.
    End(u8, Header),
    /// Follows the frames up to its position.
    Align(Current),
    /// Reads at its position.
    Read,
    /// There is no further frame in the segment: looks at the one behind it.
    Behind,
    /// That one has this header and begins further on: looks at the control file, to see why.
    Begins(Header),
    /// Tells the end of the log from damage.
    Judge(Survey, Obstacle),
    /// Records follow: looks at the control file, to see whether its position is still part of the log.
    NotTheEnd(Obstacle),
}

/// A reader of the files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Files {
    at: At,
    current: Option<Current>,
    last_frame: Option<LastFrame>,
    is_unaligned: bool,
    /// What it has looked at again at this position.
    met: (Lsn, Vec<Obstacle>),
}

impl Files {
    /// A reader that has read nothing.
    pub fn new() -> Files {
        Files { at: At::Call, current: None, last_frame: None, is_unaligned: true, met: (0, Vec::new()) }
    }

    /// Whether it has this file open.
    pub fn holds(&self, file: u8) -> bool {
        self.current.is_some_and(|current| current.file == file)
            || matches!(&self.at, At::Header(_, opened) if opened.file() == file)
            || matches!(&self.at, At::End(opened, _) if *opened == file)
            || matches!(&self.at, At::Align(current) if current.file == file)
            || matches!(&self.at, At::Judge(survey, _) if survey.holds(file))
    }

    /// Whether it has the shared lock on this file. What it opens, locks and looks at in one step it has locked in any case.
    pub fn locks(&self, file: u8) -> bool {
        match &self.at {
            At::Header(_, Opened::Found(opened)) if *opened == file => false,
            _ => self.holds(file),
        }
    }
}

impl Readers {
    /// What the reader does next.
    pub(super) fn read_files(&self, state: &State, files: &Files) -> (String, State) {
        let mut next = state.clone();
        let mut then = files.clone();
        let position = state.progress.position;
        let label = match &files.at {
            At::Call => {
                next.call_begins();
                then.at = if files.current.is_some() { At::Read } else { At::Control };
                "the reader is asked for a record".to_owned()
            }
            At::Control => {
                then.at = At::List(state.disk.control.start_segment);
                "the reader reads the control file".to_owned()
            }
            At::List(first) => {
                then.at = At::Search(state.disk.list(*first), None);
                "the reader lists the segments".to_owned()
            }
            At::Search(numbers, found) => search(state, &mut then, numbers, *found),
            At::SearchedAll => {
                searched_all(&mut next, &mut then);
                "the reader reads the control file again".to_owned()
            }
            At::Open(number) => {
                then.at = match state.disk.named(*number) {
                    Some(file) => At::Header(*number, Opened::Found(file)),
                    None if self.has(Bug::MissingNameIsEnd) => return ended(next),
                    None => judge(Obstacle::Missing(*number)),
                };
                format!("the reader opens segment {number}")
            }
            At::Header(number, Opened::Found(file)) => {
                then.at = state.locked(*file).map_or(At::Open(*number), |locked| At::Header(*number, locked));
                "the reader locks the file and looks at its name".to_owned()
            }
            At::Header(number, Opened::Locked(file)) => {
                let found = header(&mut next, &mut then, *number, *file);
                format!("the reader reads the header: {found:?}")
            }
            At::End(file, header) => {
                let known = header.sealed_end.or_else(|| behind(state, header).map(|next| next.predecessor_end));
                let end = known.unwrap_or_else(|| header.limit.min(header.base + state.disk.file(*file).room));
                then.at = At::Align(Current { file: *file, header: *header, end });
                format!("the reader sees that the segment ends at LSN {end}")
            }
            At::Align(current) => {
                self.align(&mut next, &mut then, *current);
                format!("the reader follows the frames to LSN {position}")
            }
            At::Read => {
                self.read_frame(&mut next, &mut then);
                format!("the reader reads at LSN {position}")
            }
            At::Behind => {
                self.go_behind(&mut next, &mut then);
                "the reader looks at the segment behind".to_owned()
            }
            At::Begins(following) => {
                self.begins(&mut next, &mut then, following);
                "the reader looks at the control file".to_owned()
            }
            At::Judge(survey, obstacle) => return self.judge(next, then, survey.clone(), *obstacle),
            At::NotTheEnd(obstacle) => {
                not_the_end(&mut next, &mut then, *obstacle);
                "the reader sees that records follow, and reads the control file".to_owned()
            }
        };
        if next.reader != Reader::Done {
            next.reader = Reader::Files(then);
        }
        (label, next)
    }

    fn begins(&self, next: &mut State, then: &mut Files, following: &Header) {
        if next.progress.position < next.disk.control.start && !self.has(Bug::BoundaryTakenForGap) {
            return next.is_told();
        }
        next.skips_to(following.base);
        then.at = At::Open(following.segment);
    }

    fn align(&self, next: &mut State, then: &mut Files, current: Current) {
        let Current { file, header, end } = current;
        let position = next.progress.position;
        let is_there = |lsn: &Lsn| {
            let found = next.disk.file(file).at(&header, *lsn);
            found.is_some_and(|found| self.is_own(&header, &found, *lsn))
        };
        let followed = (header.base..position).take_while(is_there).count() as Lsn + header.base;
        if then.is_unaligned && position < end && followed < position {
            if !self.has(Bug::MisledByShrinking) {
                then.at = judge(Obstacle::Frame(header.segment, followed));
                return;
            }
            next.progress.position = followed;
        }
        then.is_unaligned = false;
        then.current = Some(Current { end: end.max(position), ..current });
        then.at = At::Read;
    }

    fn is_own(&self, header: &Header, found: &super::disk::Frame, lsn: Lsn) -> bool {
        let is_own = (found.segment, found.epoch, found.lsn) == (header.segment, header.epoch, lsn);
        is_own || self.has(Bug::RecycledReadAsOld)
    }

    fn read_frame(&self, next: &mut State, then: &mut Files) {
        let Some(Current { file, header, end }) = then.current else { unreachable!("it has a segment open") };
        let position = next.progress.position;
        let found = next.disk.file(file).at(&header, position).filter(|_| position < end);
        match found.filter(|found| self.is_own(&header, found, position)) {
            Some(frame) => {
                next.shows(frame);
                let Header { segment, epoch, .. } = header;
                then.last_frame = Some(LastFrame { segment, epoch, end: position + 1 });
                then.at = At::Call;
            }
            None => then.at = At::Behind,
        }
    }

    /// The segment that follows, if it does.
    fn go_behind(&self, next: &mut State, then: &mut Files) {
        let Some(Current { header, end, .. }) = then.current else { unreachable!("it has a segment open") };
        let position = next.progress.position;
        let last = then
            .last_frame
            .filter(|last| (last.segment, last.epoch, last.end) == (header.segment, header.epoch, position));
        if next.disk.named(header.segment + 1).is_none() && self.has(Bug::MissingNameIsEnd) {
            next.ends();
            next.reader = Reader::Done;
            return;
        }
        let obstacle = if position < end { Obstacle::Frame } else { Obstacle::End };
        then.at = judge(obstacle(header.segment, position));
        let Some(following) = behind(next, &header) else { return };
        let is_in_gap = following.predecessor_end < position && position < following.base;
        if is_in_gap && next.progress.last_read.is_some() && !self.has(Bug::GapPassed) {
            return next.is_told();
        }
        let has_last = last.is_none_or(|last| last.epoch == following.predecessor_epoch);
        if (following.predecessor_end == position || is_in_gap) && has_last {
            then.at = if following.base > position { At::Begins(following) } else { At::Open(following.segment) };
        }
    }

    fn judge(&self, mut next: State, mut then: Files, mut survey: Survey, obstacle: Obstacle) -> (String, State) {
        let (label, end) = survey.step(&next.disk, self.has(Bug::EndJudgedOnce));
        then.at = At::Judge(survey, obstacle);
        match end {
            None => {}
            Some(End::Damaged(_)) => next.reports_damage(),
            Some(End::At(end)) if end <= next.progress.position => {
                let Some(_) = next.progress.last_read.filter(|_| end < next.progress.position) else {
                    return ended(next);
                };
                // What it has shown is not there any more.
                if self.has(Bug::CutTakenForEnd) {
                    return ended(next);
                }
                next.is_told();
            }
            Some(End::At(_)) if self.has(Bug::LookedOnce) => next.reports_damage(),
            Some(End::At(_)) => then.at = At::NotTheEnd(obstacle),
        }
        if next.reader != Reader::Done {
            next.reader = Reader::Files(then);
        }
        (label, next)
    }
}

/// Records follow: looks for the segment again, unless it has met the same before.
fn not_the_end(next: &mut State, then: &mut Files, obstacle: Obstacle) {
    let position = next.progress.position;
    if position < next.disk.control.start {
        return next.is_told();
    }
    if then.met.0 != position {
        then.met = (position, Vec::new());
    }
    if then.met.1.contains(&obstacle) {
        return next.reports_damage();
    }
    then.met.1.push(obstacle);
    then.current = None;
    then.at = At::Control;
}

fn judge(obstacle: Obstacle) -> At {
    At::Judge(Survey::new(), obstacle)
}

/// Reads the header of the file that it has opened; returns what it says of its number and base.
fn header(next: &mut State, then: &mut Files, number: u8, file: u8) -> Option<(u8, Lsn)> {
    let found = next.disk.file(file).header;
    match found.filter(|header| header.segment == number) {
        Some(header) if header.base > next.progress.position => next.is_told(),
        Some(header) => then.at = At::End(file, header),
        None => then.at = judge(Obstacle::Header(number, found.map(|header| header.segment))),
    }
    found.map(|header| (header.segment, header.base))
}

fn ended(mut next: State) -> (String, State) {
    next.ends();
    next.reader = Reader::Done;
    ("the reader is at the end".to_owned(), next)
}

/// Reads the next one of `numbers`: the position lies in the last segment whose base is not behind it.
fn search(state: &State, then: &mut Files, numbers: &[u8], mut found: Option<(u8, u8)>) -> String {
    let mut is_over = true;
    if let Some((number, rest)) = numbers.split_first() {
        let file = state.disk.named(*number);
        let header = file.and_then(|file| state.disk.file(file).header).filter(|header| header.segment == *number);
        // Void segments have a lower epoch than the segment before them.
        is_over = header.is_some_and(|header| {
            header.base > state.progress.position || found.is_some_and(|(_, epoch)| header.epoch < epoch)
        });
        if !is_over {
            found = header.map(|header| (*number, header.epoch)).or(found);
            then.at = At::Search(rest.to_vec(), found);
        }
    }
    if is_over {
        then.at = found.map_or(At::SearchedAll, |(number, _)| At::Open(number));
    }
    format!("the reader looks for its segment, and has found {found:?}")
}

/// No segment reaches back to the position: the log starts behind it, or it is empty.
fn searched_all(next: &mut State, then: &mut Files) {
    let Control { start, start_segment, .. } = next.disk.control;
    let position = next.progress.position;
    if position < start {
        return next.is_told();
    }
    let file = next.disk.named(start_segment);
    let header = file.and_then(|file| next.disk.file(file).header);
    match header.filter(|header| header.segment == start_segment && header.base > position) {
        Some(header) => {
            next.skips_to(header.base);
            then.at = At::Open(start_segment);
        }
        None => then.at = judge(Obstacle::Missing(start_segment)),
    }
}

/// The header of the segment behind the one with this header, if it follows that.
fn behind(state: &State, header: &Header) -> Option<Header> {
    let file = state.disk.named(header.segment + 1)?;
    state.disk.file(file).header.filter(|next| next.segment == header.segment + 1 && next.epoch >= header.epoch)
}
