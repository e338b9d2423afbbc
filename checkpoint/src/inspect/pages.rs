//! Every page by itself: its checksum, its number, its kind, and whether it is consistent.

use wal::{Lsn, Result};

use super::finding::{Finding, FindingKind, Findings};
use super::look::{Look, Read, Source, damaged};
use super::replay::{Overlay, Touched, torn};
use super::{PageCounts, Progress};
use crate::page::{self, Meta, PageId, PageKind, node};

/// Pages between two calls for progress.
const PROGRESS_PAGES: u64 = 256;

/// What a page is, and whether anything refers to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct State(u8);

impl State {
    const UNUSABLE: State = State(0);
    const REFERENCED: u8 = 0x80;

    fn of(kind: PageKind) -> State {
        State(match kind {
            PageKind::Meta => 1,
            PageKind::Leaf => 2,
            PageKind::Branch => 3,
            PageKind::Overflow => 4,
            PageKind::Free => 5,
        })
    }

    /// The kind; `None` if the page cannot be used.
    pub(super) fn kind(self) -> Option<PageKind> {
        match self.0 & !State::REFERENCED {
            1 => Some(PageKind::Meta),
            2 => Some(PageKind::Leaf),
            3 => Some(PageKind::Branch),
            4 => Some(PageKind::Overflow),
            5 => Some(PageKind::Free),
            _ => None,
        }
    }

    pub(super) fn is_referenced(self) -> bool {
        self.0 & State::REFERENCED != 0
    }
}

/// The states of all pages that are in use or free.
pub(super) struct States {
    states: Vec<State>,
    page_bytes: usize,
}

impl States {
    /// Checks the pages.
    #[expect(clippy::too_many_arguments, reason = "all that is known of the store comes together here")]
    pub(super) fn check(
        look: &Look,
        file: &Source,
        meta: &Meta,
        touched: &Touched,
        overlay: &Overlay,
        end: Option<Lsn>,
        progress: &dyn Fn(Progress),
        findings: &mut Findings,
    ) -> Result<States> {
        let page_bytes = look.page_bytes();
        // A page that the log alone knows may lie behind the end of the file. No other may, whatever the meta page claims.
        let known = file.pages.max(touched.last_page().map_or(0, |id| id.get().saturating_add(1)));
        if meta.page_count > known {
            let finding = Finding::page(FindingKind::Meta, PageId::META, page_bytes);
            findings.push(
                finding
                    .expects(format!("at most {known} pages, as many as file and log have"))
                    .finds(format!("{} pages", meta.page_count)),
            );
        }
        let count = meta.page_count.min(known);
        let mut states = States { states: vec![State::UNUSABLE; count as usize], page_bytes };
        let mut bytes = vec![0; page_bytes];
        for number in 0..count {
            let id = PageId::new(number);
            states.states[number as usize] = page_state(look, file, id, touched, overlay, end, &mut bytes, findings)?;
            if number.is_multiple_of(PROGRESS_PAGES) {
                progress(states.progress(number));
            }
        }
        Ok(states)
    }

    /// How far it is when so many looks at a page are done.
    pub(super) fn progress(&self, looks: u64) -> Progress {
        let page_bytes = self.page_bytes as u64;
        Progress { bytes_done: looks * page_bytes, bytes_total: 2 * self.count() * page_bytes }
    }

    pub(super) fn count(&self) -> u64 {
        self.states.len() as u64
    }

    pub(super) fn get(&self, id: PageId) -> Option<State> {
        usize::try_from(id.get()).ok().and_then(|index| self.states.get(index)).copied()
    }

    /// Notes that something refers to the page, which exists.
    pub(super) fn refer(&mut self, id: PageId) {
        self.states[id.get() as usize].0 |= State::REFERENCED;
    }

    /// The pages that nothing refers to, with their kinds.
    pub(super) fn unreferenced(&self) -> impl Iterator<Item = (PageId, PageKind)> {
        let states = self.states.iter().enumerate();
        states
            .filter(|(_, state)| !state.is_referenced())
            .filter_map(|(number, state)| Some((PageId::new(number as u64), state.kind()?)))
    }

    pub(super) fn counts(&self) -> PageCounts {
        let mut counts = PageCounts { checked: self.count(), ..PageCounts::default() };
        for state in &self.states {
            match state.kind() {
                Some(PageKind::Meta) => {}
                Some(PageKind::Leaf) => counts.leaves += 1,
                Some(PageKind::Branch) => counts.branches += 1,
                Some(PageKind::Overflow) => counts.overflow += 1,
                Some(PageKind::Free) => counts.free += 1,
                None => counts.damaged += 1,
            }
        }
        counts
    }
}

#[expect(clippy::too_many_arguments, reason = "all that is known of the store comes together here")]
fn page_state(
    look: &Look,
    file: &Source,
    id: PageId,
    touched: &Touched,
    overlay: &Overlay,
    end: Option<Lsn>,
    bytes: &mut [u8],
    findings: &mut Findings,
) -> Result<State> {
    if overlay.is_unusable(id) {
        return Ok(State::UNUSABLE);
    }
    let kind = match overlay.get(id) {
        Some(replayed) => {
            bytes.copy_from_slice(replayed);
            page::validate(bytes, id).ok()
        }
        None => match file.read(id, bytes)? {
            Read::Page(kind) => Some(kind),
            Read::Spare(kind, damage) => {
                findings.push(torn(id, &damage, look.page_bytes()));
                Some(kind)
            }
            // What is restored, and was not replayed here, is no damage; of what kind it will be is not known.
            Read::Damaged(damage) if touched.is_changed(id) && touched.has_image(id) => {
                findings.push(torn(id, &damage, look.page_bytes()));
                None
            }
            // Nobody knows whether the log restores it. That it is not judged is said elsewhere.
            Read::Damaged(_) if touched.is_full() || look.log.is_none() => None,
            Read::Damaged(damage) => {
                findings.push(damaged(id, &damage, look.page_bytes()));
                None
            }
        },
    };
    let Some(kind) = kind else { return Ok(State::UNUSABLE) };
    if let Some(why) = inconsistency(bytes, kind) {
        let finding = Finding::page(FindingKind::DamagedPage, id, look.page_bytes());
        findings.push(finding.expects("a page that is consistent").finds(why));
        return Ok(State::UNUSABLE);
    }
    let lsn = page::lsn(bytes);
    if let Some(end) = end.filter(|end| lsn >= *end) {
        findings.push(
            Finding::page(FindingKind::NewerThanLog, id, look.page_bytes())
                .at_lsn(lsn)
                .expects(format!("a page LSN below {end}, where the log ends"))
                .finds(format!("page LSN {lsn}")),
        );
    }
    Ok(State::of(kind))
}

/// What is wrong with a page whose offsets and sums were checked. Reading it is safe all the same, so only a verification looks.
fn inconsistency(bytes: &[u8], kind: PageKind) -> Option<&'static str> {
    let (start, end) = page::hole(bytes);
    if bytes[start..end].iter().any(|byte| *byte != 0) {
        return Some("bytes that are not zero where nothing should be");
    }
    if matches!(kind, PageKind::Leaf | PageKind::Branch) && node::has_overlaps(bytes) {
        return Some("cells that overlap");
    }
    None
}
