//! The log since the redo LSN: which pages it changes, and what they become. The rules are those of recovery, in `recover`, but what recovery
//! does to the store is done to pages in memory here, and what stops recovery is a finding.

use std::collections::{HashMap, HashSet};

use wal::{Error, ErrorKind, LogEnd, LogReader, Lsn, Result};

use super::Replay;
use super::finding::{Finding, FindingKind, Findings};
use super::look::{Look, Read, Source, damaged};
use crate::change::{self, CHANGES, CHECKPOINT, IMAGES, Image, Logged, Malformed};
use crate::page::{self, Damage, PageId};
use crate::recover::restore_whole;

/// What the note of a page takes, in bytes, with its place in a hash map.
const NOTE_BYTES: u64 = 64;

/// What a record of a store's log holds.
pub(super) enum Entry<'a> {
    Changes(&'a [Logged<'a>]),
    Images(&'a [Image<'a>]),
    Checkpoint,
}

/// Gives the records from `from` on to `take`, up to the end of the log or to before `until`. Returns the end of the log, if it came there.
pub(super) fn each_record(
    log: &LogReader,
    from: Lsn,
    until: Option<Lsn>,
    page_bytes: usize,
    take: &mut dyn FnMut(Lsn, Entry<'_>) -> Result<()>,
) -> Result<Option<LogEnd>> {
    let mut reader = log.reader(from)?;
    while let Some(record) = reader.next_record()? {
        let lsn = record.lsn;
        if until.is_some_and(|until| lsn >= until) {
            return Ok(None);
        }
        let corrupt = |why: &str| Error::new(ErrorKind::Corruption, "replay log", why).at_lsn(lsn);
        if record.record_type == CHANGES {
            let changes = change::decode(record.payload, page_bytes).map_err(|why| corrupt(why.0))?;
            take(lsn, Entry::Changes(&changes))?;
        } else if record.record_type == IMAGES {
            let images = change::decode_images(record.payload, page_bytes).map_err(|why| corrupt(why.0))?;
            take(lsn, Entry::Images(&images))?;
        } else if record.record_type == CHECKPOINT {
            take(lsn, Entry::Checkpoint)?;
        } else {
            return Err(corrupt(&format!("a record of type {:#06x} is none of a store's", record.record_type.get())));
        }
    }
    Ok(reader.end().copied())
}

/// Where the newest image of a page is, and the page's LSN in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    record: Lsn,
    page_lsn: Lsn,
}

/// What the log has of a page.
#[derive(Clone, Copy, Debug, Default)]
struct Note {
    is_changed: bool,
    image: Option<Place>,
}

/// The pages that the log since the redo LSN mentions.
#[derive(Debug)]
pub(super) struct Touched {
    notes: HashMap<PageId, Note>,
    changed: u64,
    memory_bytes_max: u64,
    is_full: bool,
}

impl Touched {
    pub(super) fn new(memory_bytes_max: u64) -> Touched {
        Touched { notes: HashMap::new(), changed: 0, memory_bytes_max, is_full: false }
    }

    /// Takes note of a record.
    pub(super) fn note(&mut self, lsn: Lsn, entry: &Entry<'_>) {
        match entry {
            Entry::Changes(changes) => {
                for logged in *changes {
                    let image = logged.change.is_whole().then_some(Place { record: lsn, page_lsn: lsn });
                    self.note_page(logged.page, true, image);
                }
            }
            Entry::Images(images) => {
                for image in *images {
                    self.note_page(image.page(), false, Some(Place { record: lsn, page_lsn: image.lsn() }));
                }
            }
            Entry::Checkpoint => {}
        }
    }

    fn note_page(&mut self, id: PageId, is_changed: bool, image: Option<Place>) {
        if !self.notes.contains_key(&id) && (self.notes.len() as u64 + 1) * NOTE_BYTES > self.memory_bytes_max {
            self.is_full = true;
            return;
        }
        let note = self.notes.entry(id).or_default();
        self.changed += u64::from(is_changed && !note.is_changed);
        note.is_changed |= is_changed;
        if let Some(place) = image
            && note.image.is_none_or(|old| old.page_lsn <= place.page_lsn)
        {
            note.image = Some(place);
        }
    }

    fn memory_bytes(&self, page_bytes: usize) -> u64 {
        self.changed * page_bytes as u64 + self.notes.len() as u64 * NOTE_BYTES
    }

    /// Whether all pages that the log changes are known, and fit the memory that is allowed.
    pub(super) fn is_complete(&self, page_bytes: usize) -> bool {
        !self.is_full && self.memory_bytes(page_bytes) <= self.memory_bytes_max
    }

    pub(super) fn too_large(&self, page_bytes: usize) -> Replay {
        Replay::TooLarge { pages: self.changed, memory_bytes: self.memory_bytes(page_bytes) }
    }

    /// Whether it ran out of memory even for the names of the pages, so that nothing can be said of a page that is missing here.
    pub(super) fn is_full(&self) -> bool {
        self.is_full
    }

    /// Whether the log changes the page.
    pub(super) fn is_changed(&self, id: PageId) -> bool {
        self.notes.get(&id).is_some_and(|note| note.is_changed)
    }

    /// Whether the log has an image of the page.
    pub(super) fn has_image(&self, id: PageId) -> bool {
        self.image(id).is_some()
    }

    fn image(&self, id: PageId) -> Option<Place> {
        self.notes.get(&id).and_then(|note| note.image)
    }

    /// The page with the largest number that the log changes.
    pub(super) fn last_page(&self) -> Option<PageId> {
        self.notes.keys().copied().max()
    }
}

/// The pages that the log changes, as they will be.
#[derive(Debug, Default)]
pub(super) struct Overlay {
    pages: HashMap<PageId, Box<[u8]>>,
    /// Pages that cannot be restored; there is a finding for each.
    unusable: HashSet<PageId>,
    changes_applied: u64,
    changes_skipped: u64,
    pages_restored: u64,
}

impl Overlay {
    /// The page, if the log changes it.
    pub(super) fn get(&self, id: PageId) -> Option<&[u8]> {
        self.pages.get(&id).map(|bytes| &**bytes)
    }

    /// Whether there is a finding already that says that the page cannot be restored.
    pub(super) fn is_unusable(&self, id: PageId) -> bool {
        self.unusable.contains(&id)
    }

    pub(super) fn outcome(&self) -> Replay {
        Replay::InMemory {
            pages: (self.pages.len() + self.unusable.len()) as u64,
            changes_applied: self.changes_applied,
            changes_skipped: self.changes_skipped,
            pages_restored: self.pages_restored,
        }
    }
}

impl Look {
    /// Replays the log since the redo LSN up to `end`, in memory.
    pub(super) fn replay(&self, touched: &Touched, end: Lsn, findings: &mut Findings) -> Result<Overlay> {
        let mut overlay = Overlay::default();
        let (Some(log), Some(file)) = (&self.log, &self.file) else { return Ok(overlay) };
        let mut redo = Redo { look: self, log, file, touched, overlay: &mut overlay, findings };
        each_record(log, self.control.redo, Some(end), self.page_bytes(), &mut |lsn, entry| {
            let Entry::Changes(changes) = entry else { return Ok(()) };
            let mut order: Vec<&Logged<'_>> = changes.iter().collect();
            order.sort_by_key(|logged| logged.page);
            order.chunk_by(|left, right| left.page == right.page).try_for_each(|of_page| redo.page(lsn, of_page))
        })?;
        Ok(overlay)
    }
}

struct Redo<'a> {
    look: &'a Look,
    log: &'a LogReader,
    file: &'a Source,
    touched: &'a Touched,
    overlay: &'a mut Overlay,
    findings: &'a mut Findings,
}

impl Redo<'_> {
    /// Makes the changes of a record on one page.
    fn page(&mut self, lsn: Lsn, changes: &[&Logged<'_>]) -> Result<()> {
        let id = changes[0].page;
        let starts_whole = changes[0].change.is_whole();
        if self.overlay.is_unusable(id) {
            return Ok(());
        }
        let brought = match self.overlay.pages.remove(&id) {
            Some(bytes) => Some(bytes),
            None => self.bring(id, starts_whole)?,
        };
        let Some(mut bytes) = brought else {
            self.overlay.unusable.insert(id);
            return Ok(());
        };
        let found = page::lsn(&bytes);
        if found >= lsn {
            self.overlay.changes_skipped += changes.len() as u64;
            self.overlay.pages.insert(id, bytes);
            return Ok(());
        }
        let finding = |kind| Finding::page(kind, id, self.look.page_bytes()).at_lsn(lsn);
        if !starts_whole && found != changes[0].previous {
            let finding = finding(FindingKind::LostWrite);
            self.findings.push(
                finding
                    .expects(format!("page LSN {}, from which the record there changes it", changes[0].previous))
                    .finds(format!("page LSN {found}: a write of the page was lost")),
            );
            self.overlay.unusable.insert(id);
            return Ok(());
        }
        let applied = changes
            .iter()
            .try_for_each(|logged| change::apply(&mut bytes, id, &logged.change))
            .and_then(|()| page::validate(&bytes, id).map_err(Malformed));
        if let Err(why) = applied {
            let finding = finding(FindingKind::Log);
            self.findings.push(finding.expects("a record whose changes fit the page").finds(why.0));
            self.overlay.unusable.insert(id);
            return Ok(());
        }
        page::set_lsn(&mut bytes, lsn);
        self.overlay.changes_applied += changes.len() as u64;
        self.overlay.pages.insert(id, bytes);
        Ok(())
    }

    /// The page as the file has it, or as an image has it, or blank if nothing of what it was is needed. `None` if nothing helps, and there is
    /// a finding.
    fn bring(&mut self, id: PageId, may_be_blank: bool) -> Result<Option<Box<[u8]>>> {
        let mut bytes = vec![0; self.look.page_bytes()].into_boxed_slice();
        let damage = match self.file.read(id, &mut bytes)? {
            Read::Page(_) => return Ok(Some(bytes)),
            Read::Spare(_, damage) => {
                self.overlay.pages_restored += 1;
                self.findings.push(torn(id, &damage, self.look.page_bytes()));
                return Ok(Some(bytes));
            }
            Read::Damaged(damage) => damage,
        };
        match self.image(id)? {
            Some(image) => {
                if !may_be_blank {
                    self.overlay.pages_restored += 1;
                    self.findings.push(torn(id, &damage, self.look.page_bytes()));
                }
                Ok(Some(image.into()))
            }
            None if may_be_blank => {
                bytes.fill(0);
                Ok(Some(bytes))
            }
            None => {
                self.findings.push(damaged(id, &damage, self.look.page_bytes()));
                Ok(None)
            }
        }
    }

    /// The newest image of a page in the log since the redo LSN.
    fn image(&mut self, id: PageId) -> Result<Option<Vec<u8>>> {
        match self.touched.image(id) {
            Some(place) => self.read_image(id, place),
            None => Ok(None),
        }
    }

    fn read_image(&mut self, id: PageId, place: Place) -> Result<Option<Vec<u8>>> {
        let record = self.log.read(place.record)?;
        let page_bytes = self.look.page_bytes();
        let mut bytes = vec![0; page_bytes];
        let restored = if record.record_type == IMAGES {
            change::decode_images(&record.payload, page_bytes).and_then(|images| {
                images.iter().filter(|image| image.page() == id).try_for_each(|image| image.restore(&mut bytes))
            })
        } else {
            change::decode(&record.payload, page_bytes).and_then(|changes| restore_whole(&mut bytes, id, &changes))
        };
        if let Err(why) = restored {
            let finding = Finding::page(FindingKind::Log, id, page_bytes).at_lsn(place.record);
            self.findings.push(finding.expects("an image of the page that is consistent").finds(why.0));
            return Ok(None);
        }
        page::set_lsn(&mut bytes, place.page_lsn);
        Ok(Some(bytes))
    }
}

/// The finding for a page that is not valid, and that the log restores.
pub(super) fn torn(id: PageId, damage: &Damage, page_bytes: usize) -> Finding {
    Finding { kind: FindingKind::TornPage, ..damaged(id, damage, page_bytes) }
}
