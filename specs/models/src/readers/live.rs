//! A reader in the writing process, which follows the durable mark.

use super::disk::{Header, Lsn};
use super::writer::{Doing, Link, Location};
use super::{Bug, Opened, Reader, Readers, State};

/// The segment that a reader has open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Current {
    file: u8,
    header: Header,
    /// It reads to here.
    end: Lsn,
    sealed_end: Option<Lsn>,
}

/// What it does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum At {
    /// Takes a hold, if it wants one.
    Hold,
    /// Takes the hold for which it has looked at the start of the log, which [`Bug::HoldWithoutLock`] lets it do in two steps.
    Held,
    /// Looks at what it has open: the first step of a call.
    Call,
    /// The same, later in a call.
    Look,
    /// Looks for the segment of its position, knowing what was durable.
    Pin(Lsn),
    /// Opens the file with that segment's name.
    Open(Link, Lsn),
    /// Locks the file, looks at its name, and reads its header.
    Header(Link, Lsn, Opened),
    /// Reads at its position.
    Read,
    /// There is nothing more to be read of the segment.
    Stopped,
    /// The same, knowing what is durable.
    Ended(Lsn),
    /// Waits for whoever changes the structure, because something looks like damage.
    Locked,
    /// Has found nothing and does not wait yet, which [`Bug::DurableSeenLate`] lets it do.
    Falls,
    /// Waits until more is durable than this.
    Waits(Lsn),
}

/// A reader of the live log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Live {
    at: At,
    current: Option<Current>,
    /// How often the end had been cut when it opened its segment.
    cuts: u8,
}

impl Live {
    /// A reader that has read nothing.
    pub fn new(wants_hold: bool) -> Live {
        Live { at: if wants_hold { At::Hold } else { At::Call }, current: None, cuts: 0 }
    }

    /// The segment whose file must not be used again.
    pub fn pinned(&self) -> Option<u8> {
        match self.at {
            At::Open(link, _) | At::Header(link, ..) => Some(link.number),
            _ => self.current.map(|current| current.header.segment),
        }
    }

    /// Whether it has this file open.
    pub fn holds(&self, file: u8) -> bool {
        self.current.is_some_and(|current| current.file == file)
            || matches!(self.at, At::Header(_, _, opened) if opened.file() == file)
    }

    /// Whether it has the shared lock on this file.
    pub fn locks(&self, file: u8) -> bool {
        self.current.is_some_and(|current| current.file == file)
            || matches!(self.at, At::Header(_, _, Opened::Locked(locked)) if locked == file)
    }

    /// Whether it waits for more.
    pub fn waits(&self) -> bool {
        matches!(self.at, At::Waits(_))
    }
}

impl Readers {
    /// What the reader does next; `None` if it waits.
    pub(super) fn read_live(&self, state: &State, live: &Live) -> Option<(String, State)> {
        let mut next = state.clone();
        let mut then = *live;
        let position = state.progress.position;
        let label = match live.at {
            At::Hold | At::Held => return self.hold(state, live),
            At::Call | At::Look => {
                if live.at == At::Call {
                    next.call_begins();
                }
                self.look(&mut next, &mut then);
                "the reader looks at where it stands".to_owned()
            }
            At::Pin(durable) => {
                pin(&mut next, &mut then, durable);
                format!("the reader looks for the segment of LSN {position}")
            }
            At::Open(link, end) => {
                let found = state.disk.named(link.number);
                then.at = found.map_or(At::Locked, |file| At::Header(link, end, Opened::Found(file)));
                format!("the reader opens segment {}", link.number)
            }
            At::Header(link, end, Opened::Found(file)) => {
                then.at = state.locked(file).map_or(At::Open(link, end), |locked| At::Header(link, end, locked));
                "the reader locks the file and looks at its name".to_owned()
            }
            At::Header(link, end, Opened::Locked(file)) => {
                let header = state.disk.file(file).header.filter(|header| header.segment == link.number);
                then.at = At::Locked;
                if let Some(header) = header.filter(|header| header.base <= position) {
                    then.current = Some(Current { file, header, end: end.max(position), sealed_end: link.end });
                    then.at = At::Read;
                }
                format!("the reader reads the header: {:?}", header.map(|header| (header.segment, header.base)))
            }
            At::Read => {
                self.read(&mut next, &mut then);
                format!("the reader reads at LSN {position}")
            }
            At::Stopped => {
                then.at = if state.log.cuts == live.cuts { At::Ended(state.log.durable) } else { At::Look };
                "the reader sees what is durable".to_owned()
            }
            At::Ended(durable) => {
                self.ended(&mut next, &mut then, durable);
                "the reader sees where its segment ends".to_owned()
            }
            At::Locked => {
                if state.log.doing != Doing::Nothing {
                    return None;
                }
                self.look_again(&mut next, &mut then);
                "the reader has waited for the lock".to_owned()
            }
            At::Falls => {
                then.at = At::Waits(state.log.durable);
                "the reader begins to wait".to_owned()
            }
            At::Waits(durable) if state.log.durable > durable => {
                then.at = At::Call;
                "the reader is woken".to_owned()
            }
            At::Waits(_) => return None,
        };
        if next.reader != Reader::Done {
            next.reader = Reader::Live(then);
        }
        Some((label, next))
    }

    fn hold(&self, state: &State, live: &Live) -> Option<(String, State)> {
        let is_locked = state.log.doing != Doing::Nothing;
        let in_two_steps = self.has(Bug::HoldWithoutLock);
        if is_locked && !in_two_steps {
            return None;
        }
        let mut next = state.clone();
        if live.at == At::Hold && state.progress.position < state.log.start {
            next.is_told();
            return Some(("the hold comes too late".to_owned(), next));
        }
        let at = if live.at == At::Hold && in_two_steps { At::Held } else { At::Call };
        next.reader = Reader::Live(Live { at, ..*live });
        if at == At::Call {
            next.log.hold = Some(state.progress.position);
            return Some(("the reader holds the log from its position on".to_owned(), next));
        }
        Some(("the reader looks at the start of the log".to_owned(), next))
    }

    fn look(&self, next: &mut State, then: &mut Live) {
        let is_cut = next.log.cuts != then.cuts && !self.has(Bug::CutNotLookedAt);
        if then.current.is_some() && !is_cut {
            if next.progress.position < next.log.start && !self.has(Bug::StartNotLookedAt) {
                return next.is_told();
            }
            then.at = At::Read;
            return;
        }
        then.current = None;
        let durable = next.log.durable;
        if next.progress.position >= durable { self.nothing(next, then) } else { then.at = At::Pin(durable) }
    }

    fn nothing(&self, next: &mut State, then: &mut Live) {
        next.ends();
        then.at = if self.has(Bug::DurableSeenLate) { At::Falls } else { At::Waits(next.progress.durable) };
    }

    fn read(&self, next: &mut State, then: &mut Live) {
        let Some(Current { file, header, end, .. }) = then.current else { unreachable!("it has a segment open") };
        let position = next.progress.position;
        let found = next.disk.file(file).at(&header, position);
        let is_own = |found: &super::disk::Frame| {
            (found.segment, found.epoch, found.lsn) == (header.segment, header.epoch, position)
        };
        let frame = found.filter(|found| is_own(found) || self.has(Bug::RecycledReadAsOld));
        if position >= end && !(self.has(Bug::ReadsPastDurable) && frame.is_some()) {
            then.at = At::Stopped;
            return;
        }
        match frame {
            Some(frame) => {
                next.shows(frame);
                then.at = At::Call;
            }
            None => then.at = if next.log.cuts == then.cuts { At::Locked } else { At::Look },
        }
    }

    fn ended(&self, next: &mut State, then: &mut Live, durable: Lsn) {
        let Some(current) = &mut then.current else { unreachable!("it has a segment open") };
        let position = next.progress.position;
        if current.sealed_end.is_none() {
            match next.log.links.iter().find(|link| link.number == current.header.segment) {
                Some(link) => current.sealed_end = link.end,
                // The segment was truncated away under a reader that had read all of it.
                None => current.sealed_end = Some(position),
            }
        }
        if current.sealed_end == Some(position) {
            then.current = None;
            return if position < durable { then.at = At::Look } else { self.nothing(next, then) };
        }
        let end = current.sealed_end.unwrap_or(durable).min(durable);
        if end > current.end {
            current.end = end;
            then.at = At::Look;
        } else {
            self.nothing(next, then);
        }
    }

    fn look_again(&self, next: &mut State, then: &mut Live) {
        let position = next.progress.position;
        if position < next.log.start {
            return next.is_told();
        }
        if next.progress.looked_again == Some(position) || self.has(Bug::LookedOnce) {
            return next.reports_damage();
        }
        next.progress.looked_again = Some(position);
        then.current = None;
        then.at = At::Look;
    }
}

fn pin(next: &mut State, then: &mut Live, durable: Lsn) {
    then.cuts = next.log.cuts;
    let position = next.progress.position;
    match next.log.locate(position) {
        Location::Gap { end, next: base } if end == position => next.skips_to(base),
        Location::Truncated | Location::Gap { .. } => next.is_told(),
        Location::In(link) => then.at = At::Open(link, link.end.unwrap_or(durable).min(durable)),
    }
}
