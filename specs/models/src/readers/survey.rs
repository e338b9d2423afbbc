//! How a reader of the files tells the end of the log from damage: the survey of a recovery, repeated while it shows something else each time.

use super::disk::{Control, Disk, Header, Lsn};

/// What a survey comes to, as far as another look might show something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Found {
    /// The header of this segment does not belong there.
    WrongHeader(u8),
    /// This segment is missing.
    Missing(u8),
    /// This segment is blank although it was used.
    Blank(u8),
    /// A segment is damaged at this LSN.
    Damage(u8, Lsn),
    /// The log ends at this LSN, with something behind it.
    CutAt(Lsn),
}

/// Where the log ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// Here.
    At(Lsn),
    /// Nobody knows.
    Damaged(Found),
}

/// What it does next.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum At {
    List,
    Control(Vec<u8>),
    /// Opens the first of these.
    Open(Vec<u8>),
    /// Reads the header of the file that it has opened of the first of these.
    Header(Vec<u8>, u8),
    /// Reads the frames of the chain from this segment on.
    Scan(usize),
}

/// A segment of the chain that the survey follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Link {
    header: Header,
    known_end: Option<Lsn>,
}

/// A survey.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Survey {
    at: At,
    control: Option<Control>,
    chain: Vec<Link>,
    /// Blank segments behind the chain.
    blank: Vec<u8>,
    /// What the last look came to, and which control file was there then.
    last: Option<(Found, u8)>,
}

impl Survey {
    /// A survey that has looked at nothing.
    pub fn new() -> Survey {
        Survey { at: At::List, control: None, chain: Vec::new(), blank: Vec::new(), last: None }
    }

    /// Whether it has this file open.
    pub fn holds(&self, file: u8) -> bool {
        matches!(self.at, At::Header(_, opened) if opened == file)
    }

    /// Takes the next step; a word for it, and the result if there is one. With `believes` the first look counts.
    pub fn step(&mut self, disk: &Disk, believes: bool) -> (String, Option<End>) {
        let (label, found) = self.look(disk);
        let Some(found) = found else { return (label, None) };
        let end = match found {
            Ok(end) => Some(End::At(end)),
            Err(found) if believes => Some(believed(found)),
            // What a writer has changed between two reads can look like this. What is really there stays in its place.
            Err(found) => {
                let found = (found, disk.control.sequence);
                if self.last == Some(found) {
                    return (label, Some(believed(found.0)));
                }
                *self = Survey { last: Some(found), ..Survey::new() };
                None
            }
        };
        (label, end)
    }

    fn look(&mut self, disk: &Disk) -> (String, Option<Result<Lsn, Found>>) {
        match self.at.clone() {
            At::List => {
                self.at = At::Control(disk.list(0));
                ("the survey lists the segments".to_owned(), None)
            }
            At::Control(numbers) => {
                let control = disk.control;
                self.control = Some(control);
                let first = control.start_segment;
                let last = numbers.last().map_or(first, |last| last + 1);
                // Those that the listing may have missed are looked for too.
                let first = numbers.iter().find(|number| **number >= first).map_or(last, |number| *number);
                self.at = At::Open((first..last).collect());
                ("the survey reads the control file".to_owned(), None)
            }
            At::Open(mut numbers) => {
                let Some(number) = numbers.first().copied() else {
                    return ("the survey has read all headers".to_owned(), self.check_required().map(Err));
                };
                self.at = match disk.named(number) {
                    Some(file) => At::Header(numbers, file),
                    None => At::Open(numbers.split_off(1)),
                };
                (format!("the survey opens segment {number}"), None)
            }
            At::Header(mut numbers, file) => {
                let number = numbers.remove(0);
                self.at = At::Open(numbers);
                let broken = self.walk(number, disk.file(file).header).err();
                (format!("the survey reads the header of segment {number}"), broken.map(Err))
            }
            At::Scan(index) => {
                let number = self.chain[index].header.segment;
                let end = self.scan(disk, index);
                (format!("the survey reads segment {number}"), end)
            }
        }
    }

    /// Follows the chain by one segment.
    fn walk(&mut self, number: u8, header: Option<Header>) -> Result<(), Found> {
        let Some(header) = header else {
            self.blank.push(number);
            return Ok(());
        };
        if header.segment != number {
            return Err(Found::WrongHeader(number));
        }
        let is_void = self.chain.last().is_some_and(|last| header.epoch < last.header.epoch);
        if is_void || !self.blank.is_empty() && !self.chain.is_empty() {
            return Ok(());
        }
        if let Some(last) = self.chain.last_mut() {
            if header.predecessor_end < last.header.base
                || last.known_end.is_some_and(|end| end != header.predecessor_end)
            {
                return Err(Found::WrongHeader(number));
            }
            last.known_end = Some(header.predecessor_end);
        }
        let start = self.control.expect("it has been read").start_segment;
        let expected = self.chain.last().map_or(start, |last| last.header.segment + 1);
        if let Some(blank) = self.blank.first() {
            return Err(Found::Blank(*blank));
        }
        if number != expected {
            return Err(Found::Missing(expected));
        }
        self.chain.push(Link { header, known_end: header.sealed_end });
        Ok(())
    }

    /// The segments that the control file names must be there. If they are, their frames are read next.
    fn check_required(&mut self) -> Option<Found> {
        let control = self.control.expect("it has been read");
        let last = self.chain.last().map(|link| link.header.segment);
        if last.is_some_and(|last| last >= control.opened.max(control.start_segment)) {
            let witness = self.witness();
            let is_proven = |link: &&Link| link.known_end.is_some_and(|end| end <= witness);
            let proven = self.chain.iter().take_while(is_proven).count();
            self.at = At::Scan(proven.min(self.chain.len() - 1));
            return None;
        }
        let missing = last.map_or(control.start_segment, |last| last + 1);
        Some(if self.blank.contains(&missing) { Found::Blank(missing) } else { Found::Missing(missing) })
    }

    fn witness(&self) -> Lsn {
        let headers = self.chain.iter().map(|link| link.header.witness.max(link.header.sealed_end.unwrap_or(0)));
        headers.max().unwrap_or(0).max(self.control.expect("it has been read").witness)
    }

    /// Reads the frames of a segment of the chain, and decides if nothing is to be read behind it.
    fn scan(&mut self, disk: &Disk, index: usize) -> Option<Result<Lsn, Found>> {
        let Link { header, known_end } = self.chain[index];
        let Some(file) = disk.named(header.segment) else {
            // It was listed and removed since: nothing that was seen counts.
            *self = Survey::new();
            return None;
        };
        let file = disk.file(file);
        let end = known_end.unwrap_or_else(|| header.limit.min(header.base + file.room));
        let is_own = |lsn: &Lsn| {
            let found = file.at(&header, *lsn);
            found.is_some_and(|found| (found.segment, found.epoch, found.lsn) == (header.segment, header.epoch, *lsn))
        };
        let stop = (header.base..end).find(|lsn| !is_own(lsn)).unwrap_or(end);
        let is_complete = known_end == Some(stop);
        let is_last = index + 1 == self.chain.len();
        if is_complete && !is_last {
            self.at = At::Scan(index + 1);
            return None;
        }
        let proven_to = if is_complete { header.limit } else { stop };
        if proven_to < self.witness() {
            return Some(Err(Found::Damage(header.segment, stop)));
        }
        let is_hole = !is_last || (stop..end).any(|lsn| is_own(&lsn));
        let is_torn = stop < end && file.at(&header, stop).is_some();
        Some(if is_hole || is_torn { Err(Found::CutAt(stop)) } else { Ok(stop) })
    }
}

fn believed(found: Found) -> End {
    if let Found::CutAt(end) = found { End::At(end) } else { End::Damaged(found) }
}
