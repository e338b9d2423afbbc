//! The checkpoint: faults 43 to 50 of the catalogue.
//!
//! Two pages are changed, flushed and checkpointed; each change is a record of the log. A page goes to the file with an image in the log first, if
//! there is none since the newest redo point. A power loss leaves of each page that was not synced the old version, the new one, or a torn
//! one; of the log a prefix with all that was synced. The process may die once, and the sync of the pages may fail once: then the page cache
//! shows what the disk will never have. What recovery makes of it must be what the log says.

use crate::checker::Model;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Pages are written without an image.
    ImageLeftOut,
    /// A page is written before its log is durable.
    PageBeforeLog,
    /// The control file names a checkpoint whose pages are not synced.
    CommittedBeforeSync,
    /// The log is truncated before the control file names the checkpoint.
    TruncatedBeforeCommit,
    /// A failed sync of the pages is tried again, and its success believed.
    SyncTriedAgain,
    /// Redo believes the LSN of a torn page.
    TornPageBelieved,
    /// A page that was changed while it was written counts as clean.
    CleanAlthoughChanged,
    /// A page that redo finds new already is not written again.
    NotWrittenAgain,
    /// The redo point is taken after the list of dirty pages.
    RedoPointTakenLate,
    /// A torn page is restored from an image of before the redo point that the checkpoint took.
    ImageBeforeRedoPoint,
    /// A page is written when its changes are durable, although its image, which was logged ahead, is not.
    ImageAheadNotDurable,
    /// The redo point is taken anew after the images were logged ahead and the pages written, and the dirty pages are not listed anew.
    ListedOnlyAhead,
    /// An image that was logged ahead serves a page that is written after the second redo point.
    ImageAheadOutlivesRedoPoint,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Checkpoint {
    /// How many changes there are.
    pub changes: u8,
    /// How many checkpoints there are at most.
    pub checkpoints: u8,
    /// Whether they may spare nobody, as those at the end of a recovery and at a close do.
    pub is_alone: bool,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

const PAGES: usize = 2;

/// The number of a change; 0 is the page as it was created. It stands for the page's content, and for its LSN.
type Version = u8;

/// A record of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Record {
    /// A change of a page.
    Change {
        /// Which one.
        page: usize,
        /// What it becomes.
        version: Version,
    },
    /// A page as it was about to be written.
    Image {
        /// Which one.
        page: usize,
        /// What it was.
        version: Version,
    },
    /// A finished checkpoint.
    Checkpoint,
}

/// A page in memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Frame {
    version: Version,
    is_dirty: bool,
    /// The record of its newest image, counted from 1.
    image: usize,
}

/// A page in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stored {
    durable: Version,
    /// What the page cache has, and whether the disk never gets it because a sync failed.
    cached: Option<(Version, bool)>,
}

/// A page on its way to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flight {
    page: usize,
    version: Version,
    /// The log has to be durable up to here.
    needs: usize,
}

/// How far a checkpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// There is none.
    Idle,
    /// The list of dirty pages was taken too early, the redo point is still to be taken.
    Listed {
        /// The pages that are still to be written.
        left: [bool; PAGES],
    },
    /// Nobody is spared: images of the dirty pages go into the log ahead, and nobody waits for them one by one.
    ImagesAhead {
        /// The pages whose images are still to be logged.
        left: [bool; PAGES],
        /// The pages that are to be written then.
        listed: [bool; PAGES],
    },
    /// The pages are written ahead of the redo point that counts.
    WritingAhead {
        /// The pages that are still to be written.
        left: [bool; PAGES],
    },
    /// Pages are being written.
    Writing {
        /// The redo point.
        redo: usize,
        /// The pages that are still to be written.
        left: [bool; PAGES],
    },
    /// The pages are durable.
    Synced {
        /// The redo point.
        redo: usize,
    },
    /// The record is in the log.
    Logged {
        /// The redo point.
        redo: usize,
        /// The log has to be durable up to here.
        needs: usize,
    },
    /// The control file names it.
    Committed {
        /// The redo point.
        redo: usize,
    },
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    log: Vec<Record>,
    log_durable: usize,
    log_start: usize,
    control_redo: usize,
    /// The newest redo point taken.
    newest_redo: usize,
    frames: [Frame; PAGES],
    stored: [Stored; PAGES],
    flight: Option<Flight>,
    phase: Phase,
    changes: u8,
    checkpoints: u8,
    is_poisoned: bool,
    has_failed: bool,
    has_died: bool,
    /// What recovery made of a power loss.
    ended: Option<Result<(), String>>,
}

/// A page as recovery finds it: torn pages have the LSN of the new half.
#[derive(Clone, Copy, Debug)]
struct Found {
    version: Version,
    is_torn: bool,
}

impl Checkpoint {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Redo over what is left. Returns the pages and which of them it met.
    fn redo(
        &self,
        state: &State,
        log: &[Record],
        mut pages: [Found; PAGES],
    ) -> Result<[(Version, bool); PAGES], String> {
        if state.control_redo < state.log_start {
            return Err("the log that redo needs was removed".to_owned());
        }
        let mut met = [false; PAGES];
        for record in &log[state.control_redo.min(log.len())..] {
            let Record::Change { page, version } = *record else { continue };
            met[page] = true;
            if pages[page].is_torn && !self.has(Bug::TornPageBelieved) {
                pages[page] = Found { version: self.image(state, log, page)?, is_torn: false };
            }
            if pages[page].version < version {
                if pages[page].version != before(log, page, version) {
                    return Err(format!("change {version} meets page {page} at version {}", pages[page].version));
                }
                pages[page].version = version;
            }
        }
        for (page, found) in pages.iter().enumerate() {
            if found.is_torn {
                return Err(format!("page {page} stays torn"));
            }
            let expected = before(log, page, Version::MAX);
            if found.version != expected {
                return Err(format!("page {page} has version {}, the log says {expected}", found.version));
            }
        }
        Ok(std::array::from_fn(|page| (pages[page].version, met[page])))
    }

    fn image(&self, state: &State, log: &[Record], page: usize) -> Result<Version, String> {
        let image = log[state.control_redo..].iter().filter_map(|record| match record {
            Record::Image { page: of, version } if *of == page => Some(*version),
            _ => None,
        });
        image.max().ok_or_else(|| format!("page {page} is torn, and the log has no image of it"))
    }

    fn change_and_sync(&self, state: &State, steps: &mut Vec<(String, State)>) {
        if state.changes < self.changes {
            for page in 0..PAGES {
                let mut next = state.clone();
                next.changes += 1;
                let version = next.changes;
                next.log.push(Record::Change { page, version });
                next.frames[page].version = version;
                next.frames[page].is_dirty = true;
                steps.push((format!("change {version} is made, of page {page}"), next));
            }
        }
        if state.log_durable < state.log.len() {
            let mut next = state.clone();
            next.log_durable = next.log.len();
            steps.push(("the log is synced".to_owned(), next));
        }
    }

    fn flush(&self, state: &State, steps: &mut Vec<(String, State)>) {
        if let Some(Flight { page, version, needs }) = state.flight {
            if state.log_durable >= needs || self.has(Bug::PageBeforeLog) {
                let mut next = state.clone();
                next.flight = None;
                next.stored[page].cached = Some((version, false));
                if self.has(Bug::CleanAlthoughChanged) {
                    next.frames[page].is_dirty = false;
                }
                if let Phase::Writing { left, .. } | Phase::Listed { left } | Phase::WritingAhead { left } =
                    &mut next.phase
                {
                    left[page] = false;
                }
                steps.push((format!("page {page} is written, at version {version}"), next));
            }
            return;
        }
        for page in 0..PAGES {
            let frame = state.frames[page];
            if !frame.is_dirty {
                continue;
            }
            let mut next = state.clone();
            let redo = if self.has(Bug::ImageBeforeRedoPoint) { state.control_redo } else { state.newest_redo };
            if frame.image <= redo && !self.has(Bug::ImageLeftOut) {
                next.log.push(Record::Image { page, version: frame.version });
                next.frames[page].image = next.log.len();
            }
            next.frames[page].is_dirty = false;
            // The log has to be durable through the page's last change and through its image.
            let image = if self.has(Bug::ImageAheadNotDurable) && next.log.len() == state.log.len() {
                0
            } else {
                next.frames[page].image
            };
            next.flight = Some(Flight { page, version: frame.version, needs: last_change(&next.log, page).max(image) });
            steps.push((format!("page {page} is copied, with an image where one is missing"), next));
        }
    }

    fn checkpoint(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let mut next = state.clone();
        match state.phase {
            Phase::Idle if state.checkpoints < self.checkpoints && state.flight.is_none() => {
                self.begin(state, steps);
            }
            Phase::ImagesAhead { .. } | Phase::WritingAhead { .. } => self.ahead(state, next, steps),
            Phase::Listed { left } => {
                next.newest_redo = state.log.len();
                next.phase = Phase::Writing { redo: state.log.len(), left };
                steps.push(("the redo point is taken".to_owned(), next));
            }
            Phase::Writing { redo, left } if left == [false; PAGES] && state.flight.is_none() => {
                self.sync_pages(state, redo, steps);
            }
            Phase::Synced { redo } => {
                next.log.push(Record::Checkpoint);
                next.phase = Phase::Logged { redo, needs: next.log.len() };
                steps.push(("the checkpoint is logged".to_owned(), next));
            }
            Phase::Logged { redo, needs } if state.log_durable >= needs => {
                if self.has(Bug::TruncatedBeforeCommit) && next.log_start < redo {
                    next.log_start = redo;
                    steps.push(("the log is truncated".to_owned(), next));
                } else {
                    next.control_redo = redo;
                    next.phase = Phase::Committed { redo };
                    steps.push(("the control file names the checkpoint".to_owned(), next));
                }
            }
            Phase::Committed { redo } => {
                next.log_start = redo;
                next.phase = Phase::Idle;
                steps.push(("the log is truncated".to_owned(), next));
            }
            Phase::Idle | Phase::Writing { .. } | Phase::Logged { .. } => {}
        }
    }

    fn begin(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let left = state.frames.map(|frame| frame.is_dirty);
        let begun = State { checkpoints: state.checkpoints + 1, ..state.clone() };
        if self.has(Bug::RedoPointTakenLate) {
            steps.push(("the dirty pages are listed".to_owned(), State { phase: Phase::Listed { left }, ..begun }));
            return;
        }
        let redo = state.log.len();
        let begun = State { newest_redo: redo, ..begun };
        if self.is_alone && left != [false; PAGES] {
            let phase = Phase::ImagesAhead { left, listed: left };
            let label = "a checkpoint begins that spares nobody, the dirty pages are listed";
            steps.push((label.to_owned(), State { phase, ..begun.clone() }));
        }
        let phase = Phase::Writing { redo, left };
        steps.push(("the redo point is taken, the dirty pages are listed".to_owned(), State { phase, ..begun }));
    }

    /// The part of a checkpoint that spares nobody in front of the redo point that counts.
    fn ahead(&self, state: &State, mut next: State, steps: &mut Vec<(String, State)>) {
        match state.phase {
            _ if state.flight.is_some() => {}
            Phase::ImagesAhead { mut left, listed } => match left.iter().position(|is_left| *is_left) {
                Some(page) => {
                    left[page] = false;
                    let frame = &mut next.frames[page];
                    if frame.is_dirty && frame.image <= state.newest_redo {
                        next.log.push(Record::Image { page, version: frame.version });
                        frame.image = next.log.len();
                    }
                    next.phase = Phase::ImagesAhead { left, listed };
                    steps.push((format!("the image of page {page} is logged ahead"), next));
                }
                None => {
                    let left = std::array::from_fn(|page| listed[page] && state.frames[page].is_dirty);
                    next.phase = Phase::WritingAhead { left };
                    steps.push(("all images are logged".to_owned(), next));
                }
            },
            Phase::WritingAhead { left } if left == [false; PAGES] => {
                if !self.has(Bug::ImageAheadOutlivesRedoPoint) {
                    next.newest_redo = state.log.len();
                }
                let is_listed = !self.has(Bug::ListedOnlyAhead);
                let left = state.frames.map(|frame| frame.is_dirty && is_listed);
                next.phase = Phase::Writing { redo: state.log.len(), left };
                steps.push(("the redo point is taken anew".to_owned(), next));
            }
            _ => {}
        }
    }

    fn sync_pages(&self, state: &State, redo: usize, steps: &mut Vec<(String, State)>) {
        let mut next = state.clone();
        next.phase = Phase::Synced { redo };
        if !self.has(Bug::CommittedBeforeSync) {
            for stored in &mut next.stored {
                if let Some((version, false)) = stored.cached {
                    *stored = Stored { durable: version, cached: None };
                }
            }
        }
        steps.push(("the pages are synced".to_owned(), next));
        if !state.has_failed && state.stored.iter().any(|stored| stored.cached.is_some()) {
            let mut failed = state.clone();
            failed.has_failed = true;
            for stored in &mut failed.stored {
                stored.cached = stored.cached.map(|(version, _)| (version, true));
            }
            if self.has(Bug::SyncTriedAgain) {
                failed.phase = Phase::Synced { redo };
            } else {
                failed.is_poisoned = true;
            }
            steps.push(("the sync of the pages fails".to_owned(), failed));
        }
    }

    /// The process dies and opens again: the page cache stays.
    fn die(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let mut next = state.clone();
        next.has_died = true;
        // The log makes durable what it keeps before it shows it.
        next.log_durable = next.log.len();
        let pages = state.stored.map(|stored| Found {
            version: stored.cached.map_or(stored.durable, |(version, _)| version),
            is_torn: false,
        });
        let log = next.log.clone();
        match self.redo(&next, &log, pages) {
            Err(why) => next.ended = Some(Err(why)),
            Ok(found) => {
                for (page, (version, was_met)) in found.into_iter().enumerate() {
                    let has_all = pages[page].version == version;
                    let is_dirty = was_met && !(has_all && self.has(Bug::NotWrittenAgain));
                    next.frames[page] = Frame { version, is_dirty, image: 0 };
                }
                next.newest_redo = next.control_redo;
                next.flight = None;
                next.phase = Phase::Idle;
                next.is_poisoned = false;
            }
        }
        steps.push(("the process dies, and the store is opened again".to_owned(), next));
    }

    /// A power loss, with everything that may be left of pages and log.
    fn lose_power(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let choices = state.stored.map(|stored| {
            let mut choices = vec![Found { version: stored.durable, is_torn: false }];
            if let Some((version, false)) = stored.cached {
                choices.push(Found { version, is_torn: false });
                choices.push(Found { version, is_torn: true });
            }
            choices
        });
        for end in state.log_durable..=state.log.len() {
            for first in &choices[0] {
                for second in &choices[1] {
                    let result = self.redo(state, &state.log[..end], [*first, *second]);
                    // All states in which nothing is lost are one.
                    let mut next = if result.is_ok() { self.start() } else { state.clone() };
                    next.ended = Some(result.map(|_| ()));
                    steps.push((format!("the power fails: pages {first:?} and {second:?}, {end} records"), next));
                }
            }
        }
    }
}

/// How long the log is with the last change of a page.
fn last_change(log: &[Record], page: usize) -> usize {
    let is_change = |record: &Record| matches!(record, Record::Change { page: of, .. } if *of == page);
    log.iter().rposition(is_change).map_or(0, |index| index + 1)
}

/// The version that a page has after all changes of it that are older than `version`.
fn before(log: &[Record], page: usize, version: Version) -> Version {
    let versions = log.iter().filter_map(|record| match record {
        Record::Change { page: of, version } if *of == page => Some(*version),
        _ => None,
    });
    versions.filter(|found| *found < version).max().unwrap_or(0)
}

impl Model for Checkpoint {
    type State = State;

    fn start(&self) -> State {
        State {
            log: Vec::new(),
            log_durable: 0,
            log_start: 0,
            control_redo: 0,
            newest_redo: 0,
            frames: [Frame::default(); PAGES],
            stored: [Stored::default(); PAGES],
            flight: None,
            phase: Phase::Idle,
            changes: 0,
            checkpoints: 0,
            is_poisoned: false,
            has_failed: false,
            has_died: false,
            ended: None,
        }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        let mut steps = Vec::new();
        if state.ended.is_some() {
            return steps;
        }
        if !state.is_poisoned {
            self.change_and_sync(state, &mut steps);
            self.flush(state, &mut steps);
            self.checkpoint(state, &mut steps);
        }
        if !state.has_died {
            self.die(state, &mut steps);
        }
        self.lose_power(state, &mut steps);
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        state.ended.as_ref().and_then(|ended| ended.clone().err())
    }

    fn may_rest(&self, state: &State) -> bool {
        state.ended.is_some()
    }
}
