//! Recovery of a recovery: faults 51 to 53 of the catalogue.
//!
//! A segment has records that are on the disk, that are in the page cache, and that are in the page cache only because a sync of them
//! failed. The process dies or the machine crashes, recovery runs, and dies or crashes itself, up to three times. Then records are
//! appended, and it happens again. What was shown must stay, and what was not shown must not return.

use crate::checker::Model;
use crate::names::Names;

/// A known bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What is kept is synced where it is, and not written again.
    OnlySynced,
    /// What is kept is shown as it was found.
    ShownAsFound,
    /// The copy gets its name before it is synced.
    RenamedBeforeSync,
    /// The directory is not synced after the copy got its name.
    DirectoryNotSynced,
    /// The log goes on behind what is kept, in the same segment, over what is cut.
    TailOverwritten,
}

/// The model.
#[derive(Clone, Copy, Debug)]
pub struct Recovery {
    /// How many deaths of the process or the machine.
    pub deaths: u8,
    /// What is wrong with it.
    pub bug: Option<Bug>,
}

/// Where the bytes of a record are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Page {
    /// On the disk.
    Durable,
    /// In the page cache; a crash may lose it, a sync makes it durable.
    Dirty,
    /// In the page cache only, and the system believes that it is on the disk: after a failed sync.
    Dropped,
}

/// A place in a segment: what is there, and where. `None`: a record was there and is lost, a hole.
type Place = Option<(u8, Page)>;

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    epoch: u8,
    places: Vec<Place>,
}

impl Segment {
    fn prefix(&self) -> Vec<u8> {
        self.places.iter().map_while(|place| place.map(|(value, _)| value)).collect()
    }

    fn sync(&mut self) {
        for (_, page) in self.places.iter_mut().flatten().filter(|(_, page)| *page == Page::Dirty) {
            *page = Page::Durable;
        }
    }

    /// All that a crash may leave of it.
    fn after_crash(&self) -> Vec<Segment> {
        let mut all = vec![Vec::new()];
        for place in &self.places {
            let choices: &[Place] = match place {
                Some((value, Page::Durable)) => &[Some((*value, Page::Durable))],
                Some((value, Page::Dirty)) => &[Some((*value, Page::Durable)), None],
                Some((_, Page::Dropped)) | None => &[None],
            };
            all = all
                .into_iter()
                .flat_map(|before: Vec<Place>| choices.iter().map(move |choice| [&before[..], &[*choice]].concat()))
                .collect();
        }
        all.into_iter().map(|places| Segment { epoch: self.epoch, places }).collect()
    }
}

const FIRST: u8 = 1;
const SECOND: u8 = 2;
const TEMP: u8 = 9;

/// What the process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doing {
    /// It recovers: the number of its next step.
    Recovers(u8),
    /// It shows the log.
    Runs,
}

/// A state.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    names: Names<u8, Segment>,
    doing: Doing,
    /// What this recovery found and will show.
    keeps: Vec<u8>,
    /// What was shown to somebody, in order: it must stay.
    shown: Vec<u8>,
    /// What a recovery that was finished did not show: it must not return.
    cut: Vec<u8>,
    appended: u8,
    deaths: u8,
    broken: Option<String>,
}

impl State {
    fn found(&self) -> Vec<u8> {
        let first = self.names.get(&FIRST).map(Segment::prefix).unwrap_or_default();
        let second = self.second().map(|segment| segment.prefix()).unwrap_or_default();
        [first, second].concat()
    }

    /// The second segment, unless a cut made it void.
    fn second(&self) -> Option<&Segment> {
        let epoch = self.names.get(&FIRST).map_or(0, |segment| segment.epoch);
        self.names.get(&SECOND).filter(|segment| segment.epoch >= epoch)
    }

    fn everything(&self) -> Vec<u8> {
        let places = |segment: &Segment| segment.places.iter().flatten().map(|(value, _)| *value).collect::<Vec<u8>>();
        self.names.present().filter(|(name, _)| **name != TEMP).flat_map(|(_, segment)| places(segment)).collect()
    }
}

impl Recovery {
    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// The next step of a recovery. The segment that is rewritten is the last one that keeps anything.
    fn step(&self, state: &State, step: u8) -> (String, State) {
        let mut next = State { doing: Doing::Recovers(step + 1), ..state.clone() };
        let last = if state.second().is_some_and(|segment| !segment.prefix().is_empty()) { SECOND } else { FIRST };
        let kept = state.names.get(&last).map(Segment::prefix).unwrap_or_default();
        let epoch = state.names.present().map(|(_, segment)| segment.epoch).max().unwrap_or(0) + 1;
        let in_place = self.has(Bug::OnlySynced) || self.has(Bug::ShownAsFound) || self.has(Bug::TailOverwritten);
        let label = match step {
            0 => {
                next.keeps = state.found();
                next.names.set(TEMP, None);
                "recovery looks at everything"
            }
            1 if in_place => "nothing is copied",
            1 => {
                let places = kept.into_iter().map(|value| Some((value, Page::Dirty))).collect();
                next.names.set(TEMP, Some(Segment { epoch, places }));
                "what is kept is copied"
            }
            2 if self.has(Bug::ShownAsFound) => "nothing is synced",
            2 if self.has(Bug::TailOverwritten) => {
                next.names.change(&last, |segment| {
                    for (_, page) in segment.places.iter_mut().map_while(Option::as_mut) {
                        *page = Page::Durable;
                    }
                });
                "what is kept is written again where it is"
            }
            2 if in_place => {
                next.names.change(&last, Segment::sync);
                "the segment is synced"
            }
            2 if self.has(Bug::RenamedBeforeSync) => "the copy is not synced",
            2 => {
                next.names.change(&TEMP, Segment::sync);
                "the copy is synced"
            }
            3 if !in_place => {
                let copy = state.names.get(&TEMP).cloned();
                next.names.set(last, copy);
                next.names.set(TEMP, None);
                "the copy is renamed over the segment"
            }
            4 if !in_place && !self.has(Bug::DirectoryNotSynced) => {
                next.names.sync();
                "the directory is synced"
            }
            3 | 4 => "nothing happens",
            _ => {
                next.doing = Doing::Runs;
                // All that is left and was not kept is cut.
                let before: Vec<u8> = (0..10).collect();
                next.cut = before.into_iter().filter(|value| !state.keeps.contains(value)).collect();
                next.shown.clone_from(&state.keeps);
                if last == FIRST && !in_place {
                    next.names.set(SECOND, None);
                }
                "the log is shown"
            }
        };
        (label.to_owned(), next)
    }

    /// Appends a record behind what is kept: in a new segment, or, in the bug, over what was cut.
    fn append(&self, state: &State) -> (String, State) {
        let mut next = state.clone();
        let value = 10 + state.appended;
        next.appended += 1;
        let place = Some((value, Page::Durable));
        if self.has(Bug::TailOverwritten) {
            let at = state.names.get(&FIRST).map_or(0, |segment| segment.prefix().len());
            next.names.change(&FIRST, |segment| {
                segment.places.resize(segment.places.len().max(at + 1), None);
                segment.places[at] = place;
            });
        } else {
            let epoch = state.names.get(&FIRST).map_or(1, |segment| segment.epoch);
            let mut places = state.second().map_or_else(Vec::new, |segment| segment.places.clone());
            places.push(place);
            next.names.set(SECOND, Some(Segment { epoch, places }));
            next.names.set(TEMP, None);
            if !self.has(Bug::DirectoryNotSynced) {
                next.names.sync();
            }
        }
        next.shown.push(value);
        (format!("record {value} is appended and synced"), next)
    }

    fn deaths(&self, state: &State, steps: &mut Vec<(String, State)>) {
        let dead = State { doing: Doing::Recovers(0), deaths: state.deaths + 1, ..state.clone() };
        steps.push(("the process dies".to_owned(), dead.clone()));
        for names in state.names.after_crash() {
            let mut all = vec![names.clone()];
            for (name, segment) in names.present() {
                let outcomes = segment.after_crash();
                all = all
                    .iter()
                    .flat_map(|before| {
                        outcomes.iter().map(|outcome| {
                            let mut after = before.clone();
                            after.change(name, |segment| *segment = outcome.clone());
                            after
                        })
                    })
                    .collect();
            }
            steps.extend(
                all.into_iter().map(|names| ("the machine crashes".to_owned(), State { names, ..dead.clone() })),
            );
        }
    }
}

impl Model for Recovery {
    type State = State;

    fn start(&self) -> State {
        // One record is durable, one was dropped by a failed sync, two are unsynced.
        let places = [(0, Page::Durable), (1, Page::Dropped), (2, Page::Dirty), (3, Page::Dirty)];
        State {
            names: Names::new([(FIRST, Segment { epoch: 1, places: places.map(Some).to_vec() })]),
            doing: Doing::Runs,
            keeps: Vec::new(),
            shown: vec![0],
            cut: Vec::new(),
            appended: 0,
            deaths: 0,
            broken: None,
        }
    }

    fn steps(&self, state: &State) -> Vec<(String, State)> {
        let mut steps = Vec::new();
        match state.doing {
            Doing::Recovers(step) => steps.push(self.step(state, step)),
            Doing::Runs if state.deaths > 0 && state.appended < 2 => steps.push(self.append(state)),
            Doing::Runs => {}
        }
        if state.deaths < self.deaths {
            self.deaths(state, &mut steps);
        }
        steps
    }

    fn broken(&self, state: &State) -> Option<String> {
        if state.doing != Doing::Recovers(1) {
            return None;
        }
        let kept = &state.keeps;
        if !kept.starts_with(&state.shown) {
            return Some(format!("{:?} was shown, and {kept:?} is found", state.shown));
        }
        let back: Vec<&u8> = kept.iter().filter(|value| state.cut.contains(value)).collect();
        (!back.is_empty())
            .then(|| format!("{back:?} was cut, and is found again; on the disk is {:?}", state.everything()))
    }

    fn may_rest(&self, state: &State) -> bool {
        state.doing == Doing::Runs
    }
}
