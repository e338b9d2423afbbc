//! The files of the log as readers meet them: names that lead to files, files that outlive their names, files that get another name.

/// A position in the log. A record takes one.
pub type Lsn = u8;

/// How many records a segment takes.
pub const ROOM: u8 = 2;
/// Segments have numbers below this.
pub const NUMBERS: usize = 10;

/// The header of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The segment's number.
    pub segment: u8,
    /// Its epoch.
    pub epoch: u8,
    /// The LSN of its first record.
    pub base: Lsn,
    /// Where the segment before it ends.
    pub predecessor_end: Lsn,
    /// The epoch in the checksum of that segment's last frame: what of the checksum a cut changes.
    pub predecessor_epoch: u8,
    /// No LSN of it reaches this.
    pub limit: Lsn,
    /// Where it ends, if it is known to.
    pub sealed_end: Option<Lsn>,
    /// The log is durable below this.
    pub witness: Lsn,
}

/// A frame. Its checksum covers all of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Frame {
    /// The number of the segment that it was written for.
    pub segment: u8,
    /// The epoch of that segment.
    pub epoch: u8,
    /// Its LSN.
    pub lsn: Lsn,
}

/// A file, whatever its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct File {
    /// Blank in a file that waits for its first record.
    pub header: Option<Header>,
    /// What stands behind the header.
    pub frames: [Option<Frame>; ROOM as usize],
    /// How many frames there is room for: fewer once its space is given back.
    pub room: u8,
    /// Something leads to it.
    pub is_used: bool,
}

impl File {
    /// A prepared file.
    pub fn blank() -> File {
        File { header: None, frames: [None; ROOM as usize], room: ROOM, is_used: true }
    }

    /// A segment with its header and no record.
    pub fn with(header: Header) -> File {
        File { header: Some(header), ..File::blank() }
    }

    /// Writes the frame of `lsn`.
    pub fn write(&mut self, lsn: Lsn) {
        let Header { segment, epoch, base, .. } = self.header.expect("a segment that is written has a header");
        self.frames[usize::from(lsn - base)] = Some(Frame { segment, epoch, lsn });
    }

    /// The frame where a reader with this header expects that of `lsn`; `None` behind the end of the file.
    pub fn at(&self, header: &Header, lsn: Lsn) -> Option<Frame> {
        let place = lsn.checked_sub(header.base)?;
        if place < self.room { self.frames[usize::from(place)] } else { None }
    }
}

/// The control file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Control {
    /// The segment in which the log starts.
    pub start_segment: u8,
    /// The start of the log.
    pub start: Lsn,
    /// A segment that has to be there.
    pub opened: u8,
    /// The log is durable below this.
    pub witness: Lsn,
    /// Counts its replacements.
    pub sequence: u8,
}

/// The directory. A file is known by its place in the list; files that nobody holds are blank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Disk {
    /// All files but the control file.
    pub files: Vec<File>,
    /// Which file a segment's name leads to.
    pub names: [Option<u8>; NUMBERS],
    /// A removed segment whose file waits to be used again.
    pub recycled: Option<u8>,
    /// The control file, which is replaced as a whole.
    pub control: Control,
}

impl Disk {
    /// The file that is known by `id`.
    pub fn file(&self, id: u8) -> &File {
        &self.files[usize::from(id)]
    }

    /// The same, to be changed.
    pub fn file_mut(&mut self, id: u8) -> &mut File {
        &mut self.files[usize::from(id)]
    }

    /// The file that the name of a segment leads to.
    pub fn named(&self, number: u8) -> Option<u8> {
        self.names.get(usize::from(number)).copied().flatten()
    }

    /// Replaces the control file.
    pub fn replace_control(&mut self, change: impl FnOnce(&mut Control)) {
        change(&mut self.control);
        self.control.sequence += 1;
    }

    /// Gives a file the name of a segment, or takes the name away.
    pub fn name(&mut self, number: u8, file: Option<u8>) {
        self.names[usize::from(number)] = file;
    }

    /// The numbers that have a file, from `first` on, oldest first.
    pub fn list(&self, first: u8) -> Vec<u8> {
        (first..NUMBERS as u8).filter(|number| self.named(*number).is_some()).collect()
    }

    /// A new file.
    pub fn create(&mut self, file: File) -> u8 {
        let free = self.files.iter().position(|old| !old.is_used);
        let id = free.unwrap_or_else(|| {
            self.files.push(File::default());
            self.files.len() - 1
        });
        self.files[id] = file;
        id as u8
    }

    /// Forgets what is in files that neither a name nor one of `held` leads to.
    pub fn forget_unless(&mut self, held: impl Fn(u8) -> bool) {
        for id in 0..self.files.len() as u8 {
            let is_named = self.names.contains(&Some(id)) || self.recycled == Some(id);
            if !is_named && !held(id) {
                self.files[usize::from(id)] = File::default();
            }
        }
        while self.files.last().is_some_and(|file| !file.is_used) {
            self.files.pop();
        }
    }
}
