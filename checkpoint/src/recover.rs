//! Redo: what the log has and the page file has not.
//!
//! Starting at the redo point, each record's changes are made on the pages that do not have them yet. A page has a change if its checksum
//! is right and its LSN is not below the record's; nothing is believed of a page whose checksum is wrong. Such a page was torn by the crash, and is
//! restored from an image. Every page that redo meets is written again, also if it has all changes already: it may have them in the
//! operating system's cache alone, after a sync that failed.
//!
//! A change concerns one page, so only the changes of a page have to be made in the order of their LSNs. The changes of many records are
//! gathered and made page by page: each page is read and latched once for all of them, and the page file is read from its start to its end.
//! Nobody sees the store before all are made.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use wal::fs::durable::LogDir;
use wal::{Error, ErrorKind, Lsn, Record, Result, Wal};

use crate::change::{self, CHANGES, CHECKPOINT, CheckpointRecord, IMAGES, Logged, Malformed};
use crate::control::{CONTROL, Control, ControlFile};
use crate::file::ReadError;
use crate::flush::Flusher;
use crate::museum::Bug;
use crate::page::{self, PageId};
use crate::pool::{EmptyFrame, PageWrite};
use crate::proof::LogDurable;
use crate::spare;

/// The most bytes of changes and of their index that are gathered before they are made, if the pool is large.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// What an open found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct RecoveryReport {
    /// Whether the store was created by this open.
    pub created: bool,
    /// Where redo started.
    pub redo_lsn: Lsn,
    /// Where the log ended.
    pub end_lsn: Lsn,
    /// Records of changes that were read.
    pub records: u64,
    /// Changes that were made on pages that did not have them.
    pub changes_applied: u64,
    /// Changes that pages had already.
    pub changes_skipped: u64,
    /// Torn pages that were restored from an image.
    pub pages_restored: u64,
    /// Pages written by the checkpoint at the end of recovery.
    pub pages_written: u64,
    /// How long recovery took, without the log's own.
    pub duration: Duration,
}

/// How far an open has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Where redo started.
    pub redo_lsn: Lsn,
    /// The record that it has come to.
    pub lsn: Lsn,
    /// Where the log ends.
    pub end_lsn: Lsn,
}

/// Checks that the control file and the log belong together: an old control file beside a newer log, or the other way round, is found here.
pub(crate) fn check_control(dir: &LogDir, log: &Wal, control: &Control) -> Result<()> {
    let path = dir.path_of(CONTROL);
    let corrupt = |detail: String, lsn: Lsn| {
        Error::new(ErrorKind::Corruption, "read control file", detail).at_path(&path).at_lsn(lsn)
    };
    if !ControlFile::belongs_to(control, log.log_id()) {
        let detail = format!("it belongs to another log than {}, whose id is {}", log.path().display(), log.log_id());
        return Err(Error::new(ErrorKind::Invalid, "read control file", detail).at_path(&path));
    }
    // A log that lost all its records, because none was synced yet, starts anew behind them. Nothing was truncated then.
    if control.redo < log.start_lsn() && log.checkpoint_lsn().is_some_and(|declared| declared > control.redo) {
        let detail =
            format!("redo starts there, and the log only at LSN {}: it is an older control file", log.start_lsn());
        return Err(corrupt(detail, control.redo));
    }
    if control.redo > log.next_lsn() {
        let detail = format!("redo starts there, and the log ends at LSN {}: it is an older log", log.next_lsn());
        return Err(corrupt(detail, control.redo));
    }
    if control.checkpoint_record == Lsn::ZERO {
        return Ok(());
    }
    let record = match log.read(control.checkpoint_record) {
        Ok(record) => record,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Truncated) => {
            return Err(corrupt("the log does not have the checkpoint's record".to_owned(), control.checkpoint_record));
        }
        Err(error) => return Err(error),
    };
    let found = (record.record_type == CHECKPOINT).then(|| CheckpointRecord::decode(&record.payload));
    match found {
        Some(Ok(found)) if found.redo == control.redo && found.sequence == control.sequence => Ok(()),
        _ => Err(corrupt("the record there is not that of the checkpoint".to_owned(), control.checkpoint_record)),
    }
}

/// Where the newest image of a page is, and the page's LSN in it.
#[derive(Clone, Copy, Debug)]
struct Place {
    record: Lsn,
    page_lsn: Lsn,
}

/// A change that was read and not made yet.
#[derive(Clone, Copy, Debug)]
struct Pending {
    page: PageId,
    /// The LSN of its record.
    lsn: Lsn,
    /// Where it stands among the gathered bytes. Later changes stand behind earlier ones.
    at: usize,
    end: usize,
    /// It needs nothing of what the page was before.
    is_whole: bool,
}

/// The changes of some records, one behind the other.
#[derive(Debug, Default)]
struct Gathered {
    bytes: Vec<u8>,
    changes: Vec<Pending>,
}

impl Gathered {
    fn push(&mut self, lsn: Lsn, payload: &[u8], page_bytes: usize) -> Result<(), Malformed> {
        let start = self.bytes.len();
        let mut rest = payload;
        while !rest.is_empty() {
            let at = payload.len() - rest.len();
            let logged = change::decode_next(&mut rest, page_bytes)?;
            let end = payload.len() - rest.len();
            let (page, is_whole) = (logged.page, logged.change.is_whole());
            self.changes.push(Pending { page, lsn, at: start + at, end: start + end, is_whole });
        }
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    fn change(&self, pending: &Pending, page_bytes: usize) -> Result<Logged<'_>, Malformed> {
        change::decode_next(&mut &self.bytes[pending.at..pending.end], page_bytes)
    }

    /// The memory that it takes, but for what its vectors have to spare.
    fn size(&self) -> usize {
        self.bytes.len() + self.changes.len() * size_of::<Pending>()
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.changes.clear();
    }
}

/// Replays the log.
pub(crate) struct Redo<'a> {
    flusher: &'a Flusher,
    from: Lsn,
    end: Lsn,
    /// Where images are. Made when the first torn page is met, because nearly always there is none.
    images: Option<HashMap<PageId, Place>>,
    report: RecoveryReport,
}

impl<'a> Redo<'a> {
    pub(crate) fn new(flusher: &'a Flusher, from: Lsn) -> Redo<'a> {
        // What recovery itself logs comes behind this and says nothing new.
        let end = flusher.log.next_lsn();
        let report = RecoveryReport { redo_lsn: from, end_lsn: end, ..RecoveryReport::default() };
        Redo { flusher, from, end, images: None, report }
    }

    /// Puts the images in the spare pages into their places, durably, where those are torn. From then on the spare pages may be used again, and if
    /// the disk is still full recovery itself has to.
    fn restore_from_spares(&mut self) -> Result<()> {
        let file = &self.flusher.file;
        let mut restored = 0;
        for (id, mut image) in spare::images(file)? {
            // What is older than the redo point was durable in its place when the redo point was committed.
            let restores_all = file.bugs.has(Bug::StaleCopyRestored);
            if page::lsn(&image) < self.from && !restores_all {
                continue;
            }
            match file.read(id, &mut vec![0; file.page_bytes()]) {
                Ok(_) if restores_all => {}
                Ok(_) => continue,
                Err(ReadError::Failed(error)) => return Err(error),
                Err(ReadError::Damaged(_)) => {}
            }
            let proof = LogDurable::through(&self.flusher.log, page::lsn(&image))?;
            file.seal(&mut image);
            file.write(id, &image, &proof)?;
            restored += 1;
        }
        self.report.pages_restored += restored;
        if restored > 0 { file.sync() } else { Ok(()) }
    }

    /// Brings all pages up to the end of the log, in memory.
    pub(crate) fn run(mut self, progress: &dyn Fn(Progress)) -> Result<RecoveryReport> {
        let started = Instant::now();
        self.restore_from_spares()?;
        let log = self.flusher.log.clone();
        let mut reader = log.reader(self.from)?;
        let pool = &self.flusher.pool;
        let gathered_bytes_max = (pool.frames() * pool.page_bytes() / 8).min(GATHERED_BYTES_MAX);
        let mut gathered = Gathered::default();
        while let Some(record) = reader.next_record()? {
            if record.lsn >= self.end {
                break;
            }
            if record.record_type == CHANGES {
                self.report.records += 1;
                let pushed = gathered.push(record.lsn, record.payload, self.flusher.pool.page_bytes());
                pushed.map_err(|why| self.malformed(record.lsn, why))?;
                if gathered.size() >= gathered_bytes_max {
                    self.make(&mut gathered)?;
                    progress(Progress { redo_lsn: self.from, lsn: record.lsn, end_lsn: self.end });
                }
            } else if record.record_type != IMAGES && record.record_type != CHECKPOINT {
                let detail = format!("a record of type {:#06x} is none of a store's", record.record_type.get());
                return Err(Error::new(ErrorKind::Corruption, "replay log", detail).at_lsn(record.lsn));
            }
        }
        self.make(&mut gathered)?;
        progress(Progress { redo_lsn: self.from, lsn: self.end, end_lsn: self.end });
        self.report.duration = started.elapsed();
        Ok(self.report)
    }

    fn malformed(&self, lsn: Lsn, malformed: Malformed) -> Error {
        let path = self.flusher.log.path().to_owned();
        Error::new(ErrorKind::Corruption, "replay log", malformed.0).at_path(path).at_lsn(lsn)
    }

    /// Makes what was gathered, page by page.
    fn make(&mut self, gathered: &mut Gathered) -> Result<()> {
        gathered.changes.sort_unstable_by_key(|pending| (pending.page, pending.at));
        for of_page in gathered.changes.chunk_by(|left, right| left.page == right.page) {
            self.page(gathered, of_page)?;
        }
        gathered.clear();
        Ok(())
    }

    fn page(&mut self, gathered: &Gathered, changes: &[Pending]) -> Result<()> {
        let mut page = self.bring(changes[0].page, changes[0].is_whole)?;
        // All changes of a record are made at once, so between two records the page is as it was at some moment.
        for of_record in changes.chunk_by(|left, right| left.lsn == right.lsn) {
            self.record(&mut page, gathered, of_record)?;
        }
        let Pending { page: id, lsn, .. } = changes[changes.len() - 1];
        page::validate(page.bytes(), id).map(drop).map_err(|why| self.malformed(lsn, Malformed(why)))
    }

    /// Makes the changes of a page that are in one record, unless the page has them.
    fn record(&mut self, page: &mut PageWrite<'_>, gathered: &Gathered, changes: &[Pending]) -> Result<()> {
        let Pending { page: id, lsn, is_whole: starts_whole, .. } = changes[0];
        let page_bytes = page.bytes().len();
        let found = page::lsn(page.bytes());
        if found >= lsn {
            page.mark_dirty(lsn);
            self.report.changes_skipped += changes.len() as u64;
            return Ok(());
        }
        for (index, pending) in changes.iter().enumerate() {
            let logged = gathered.change(pending, page_bytes).map_err(|why| self.malformed(lsn, why))?;
            if index == 0 && !starts_whole && found != logged.previous {
                let detail = format!(
                    "page {id} has LSN {found}, and this record changes it from LSN {}: a write of the page was lost",
                    logged.previous
                );
                return Err(Error::new(ErrorKind::Corruption, "replay log", detail).at_lsn(lsn));
            }
            change::apply(page.bytes_mut(), id, &logged.change).map_err(|why| self.malformed(lsn, why))?;
        }
        // A page is checked when it comes into the pool and after all of its changes, and none of them leaves a valid page invalid.
        debug_assert_eq!(page::validate(page.bytes(), id).err(), None, "page {id} after the record at {lsn}");
        page.changed(lsn, changes.iter().any(|pending| pending.is_whole));
        self.report.changes_applied += changes.len() as u64;
        Ok(())
    }

    /// The page as the file has it, or as an image has it, or blank if nothing of what it was is needed.
    fn bring(&mut self, id: PageId, may_be_blank: bool) -> Result<PageWrite<'a>> {
        loop {
            if let Some(page) = self.flusher.pool.write(id) {
                return Ok(page);
            }
            let empty = self.take_frame()?;
            let damage = match self.flusher.pool.load(id, empty, &self.flusher.file) {
                Ok(()) => continue,
                Err(ReadError::Failed(error)) => return Err(error),
                Err(ReadError::Damaged(damage)) => damage,
            };
            let image = match self.image(id)? {
                Some(image) => image,
                None if may_be_blank => vec![0; self.flusher.pool.page_bytes()],
                None => {
                    let error = self.flusher.file.damaged(id, damage);
                    return Err(error.with_detail("there is no image of it in the log"));
                }
            };
            let empty = self.take_frame()?;
            let (mut page, _) = self.flusher.pool.place(id, empty);
            page.bytes_mut().copy_from_slice(&image);
            self.report.pages_restored += u64::from(!may_be_blank);
            return Ok(page);
        }
    }

    fn take_frame(&self) -> Result<EmptyFrame<'a>> {
        let flusher = self.flusher;
        loop {
            flusher.failure.check()?;
            match flusher.pool.take_frame() {
                Some(empty) => return Ok(empty),
                None => flusher.clean_some()?,
            };
        }
    }

    /// The newest image of a page in the log since the redo point.
    fn image(&mut self, id: PageId) -> Result<Option<Vec<u8>>> {
        if self.images.is_none() {
            self.images = Some(self.index_images()?);
        }
        let place = self.images.as_ref().and_then(|images| images.get(&id)).copied();
        place.map(|place| self.read_image(id, place)).transpose()
    }

    fn index_images(&self) -> Result<HashMap<PageId, Place>> {
        let page_bytes = self.flusher.pool.page_bytes();
        let mut images: HashMap<PageId, Place> = HashMap::new();
        let mut note = |id: PageId, record: Lsn, page_lsn: Lsn| {
            let place = images.entry(id).or_insert(Place { record, page_lsn });
            if place.page_lsn <= page_lsn {
                *place = Place { record, page_lsn };
            }
        };
        let mut reader = self.flusher.log.reader(self.from)?;
        while let Some(record) = reader.next_record()? {
            if record.record_type == IMAGES {
                let found = change::decode_images(record.payload, page_bytes);
                for image in found.map_err(|why| self.malformed(record.lsn, why))? {
                    note(image.page(), record.lsn, image.lsn());
                }
            } else if record.record_type == CHANGES {
                let found = change::decode(record.payload, page_bytes);
                for logged in found.map_err(|why| self.malformed(record.lsn, why))? {
                    if logged.change.is_whole() {
                        note(logged.page, record.lsn, record.lsn);
                    }
                }
            }
        }
        Ok(images)
    }

    fn read_image(&self, id: PageId, place: Place) -> Result<Vec<u8>> {
        let Record { record_type, payload, .. } = self.flusher.log.read(place.record)?;
        let page_bytes = self.flusher.pool.page_bytes();
        let mut bytes = vec![0; page_bytes];
        let restored = if record_type == IMAGES {
            change::decode_images(&payload, page_bytes).and_then(|images| {
                images.iter().filter(|image| image.page() == id).try_for_each(|image| image.restore(&mut bytes))
            })
        } else {
            change::decode(&payload, page_bytes).and_then(|changes| restore_whole(&mut bytes, id, &changes))
        };
        restored.map_err(|why| self.malformed(place.record, why))?;
        page::set_lsn(&mut bytes, place.page_lsn);
        Ok(bytes)
    }
}

/// Makes the page what a record makes it that holds all of it.
pub(crate) fn restore_whole(bytes: &mut [u8], id: PageId, changes: &[Logged<'_>]) -> Result<(), Malformed> {
    let of_page = changes.iter().filter(|logged| logged.page == id);
    of_page
        .skip_while(|logged| !logged.change.is_whole())
        .try_for_each(|logged| change::apply(bytes, id, &logged.change))
}
