//! The files of a store, opened for reading: what they say of each other, and what the log says since the redo LSN.

use std::collections::BTreeMap;
use std::path::Path;

use wal::fs::durable::LogDir;
use wal::fs::{FileSystem, OpenMode};
use wal::{Error, ErrorKind, LogId, LogReader, Lsn, Result};

use super::finding::{Finding, FindingKind, Findings, StoreFile};
use super::replay::{Entry, Touched, each_record};
use super::{CheckpointRecordState, LogInfo, MetaInfo, PagesInfo, StoreInfo};
use crate::change::{CHECKPOINT, Change, CheckpointRecord};
use crate::control::{CONTROL, Control, ControlFile};
use crate::file::{PAGES, PageFile, ReadError};
use crate::page::{self, Damage, Meta, PageId, PageKind};
use crate::spare::{self, SPARE_PAGES};
use crate::store::LOG;

/// One look at a store.
pub(super) struct Look {
    path: std::path::PathBuf,
    dir: LogDir,
    pub(super) control: Control,
    /// `None` if the log cannot be opened.
    pub(super) log: Option<LogReader>,
    pub(super) file: Option<Source>,
    /// How far the log was read.
    seen_end: std::cell::Cell<Option<Lsn>>,
}

impl Look {
    /// Opens what is there.
    pub(super) fn open(fs: &dyn FileSystem, path: &Path, findings: &mut Findings) -> Result<Look> {
        let dir = LogDir::open(fs, path)?;
        let Some(control) = ControlFile::read(&dir)? else { return Err(no_store(fs, path, &dir)) };
        control.page_bytes_of_store(&dir)?;
        let log = match LogReader::open_with(fs, path.join(LOG)) {
            Ok(log) => Some(log),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Corruption) => {
                findings.push(Finding::log(&error));
                None
            }
            Err(error) => return Err(error),
        };
        let log = log.filter(|log| {
            let belongs = ControlFile::belongs_to(&control, log.log_id());
            if !belongs {
                let finding = Finding::new(FindingKind::ControlFile, StoreFile::Control);
                findings.push(
                    finding
                        .expects(format!("the id of the log, {}", log.log_id()))
                        .finds(LogId::new(control.log_id).to_string()),
                );
            }
            belongs
        });
        let file = Source::open(&dir, &control)?;
        if file.is_none() {
            let finding = Finding::new(FindingKind::PageFileMissing, StoreFile::Pages);
            findings.push(finding.expects(format!("a file named {PAGES}")).finds("none"));
        }
        Ok(Look { path: path.to_owned(), dir, control, log, file, seen_end: std::cell::Cell::new(None) })
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.control.page_bytes as usize
    }

    /// Whether anything came to the log, or a checkpoint ended, since this look began.
    pub(super) fn has_changed(&self, fs: &dyn FileSystem) -> Result<bool> {
        if ControlFile::read(&self.dir)? != Some(self.control) {
            return Ok(true);
        }
        let Some(end) = self.seen_end.get() else { return Ok(false) };
        let next = LogReader::open_with(fs, self.path.join(LOG))
            .and_then(|log| log.reader(end))
            .and_then(|mut reader| reader.next_record().map(|record| record.is_some()));
        // That the log cannot be read any more where it just could is a change too.
        Ok(next.unwrap_or(true))
    }

    /// What `show` tells, and the meta page as it will be after replaying. Fills `touched`, if it is wanted, with the pages that the log changes.
    pub(super) fn info(
        &self,
        mut touched: Option<&mut Touched>,
        findings: &mut Findings,
    ) -> Result<(StoreInfo, Option<Meta>)> {
        let mut logged_meta = None;
        let log = match &self.log {
            Some(log) => self.log_info(log, &mut touched, &mut logged_meta, findings)?,
            None => None,
        };
        let (pages, meta) = match &self.file {
            Some(file) => self.pages_info(file, logged_meta, findings)?,
            None => (None, None),
        };
        let checkpoint_lsn = Some(self.control.checkpoint_record).filter(|lsn| *lsn > Lsn::ZERO);
        let checkpoint_record = self.checkpoint_record(findings)?;
        let info = StoreInfo {
            log_id: LogId::new(self.control.log_id),
            page_bytes: self.control.page_bytes,
            sequence: self.control.sequence,
            redo_lsn: self.control.redo,
            checkpoint_lsn,
            checkpoint_record,
            log,
            pages,
            findings: Vec::new(),
            is_settled: true,
        };
        Ok((info, meta))
    }

    /// Looks for the record of the last checkpoint, as an open does.
    fn checkpoint_record(&self, findings: &mut Findings) -> Result<CheckpointRecordState> {
        let at = self.control.checkpoint_record;
        let Some(log) = &self.log else { return Ok(CheckpointRecordState::Unreadable) };
        if at == Lsn::ZERO {
            return Ok(CheckpointRecordState::NoCheckpoint);
        }
        let finding = Finding::new(FindingKind::ControlFile, StoreFile::Control).at_lsn(at).expects(format!(
            "the record of checkpoint {} with redo LSN {} in the log",
            self.control.sequence, self.control.redo
        ));
        let found = match log.read(at) {
            Ok(record) if record.record_type == CHECKPOINT => match CheckpointRecord::decode(&record.payload) {
                Ok(found) if found.redo == self.control.redo && found.sequence == self.control.sequence => {
                    return Ok(CheckpointRecordState::Present { pages_written: found.pages_written });
                }
                Ok(found) => format!("that of checkpoint {} with redo LSN {}", found.sequence, found.redo),
                Err(why) => why.0.to_owned(),
            },
            Ok(record) => format!("a record of type {:#06x}", record.record_type.get()),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::Truncated) => "none".to_owned(),
            Err(error) if error.is_corruption() => {
                findings.push(Finding::log(&error));
                return Ok(CheckpointRecordState::Unreadable);
            }
            Err(error) => return Err(error),
        };
        findings.push(finding.finds(found));
        Ok(CheckpointRecordState::Missing)
    }

    /// Reads the log since the redo LSN.
    fn log_info(
        &self,
        log: &LogReader,
        touched: &mut Option<&mut Touched>,
        meta: &mut Option<(Lsn, Meta)>,
        findings: &mut Findings,
    ) -> Result<Option<LogInfo>> {
        let mut info = LogInfo { start_lsn: log.start_lsn(), ..LogInfo::default() };
        let redo = self.control.redo;
        if redo < info.start_lsn {
            findings.push(
                Finding::new(FindingKind::ControlFile, StoreFile::Control)
                    .at_lsn(redo)
                    .expects(format!("a redo LSN in the log, which starts at LSN {}", info.start_lsn))
                    .finds("one before it: the control file is older than the log"),
            );
            return Ok(None);
        }
        let read = each_record(log, redo, None, self.page_bytes(), &mut |lsn, entry| {
            info.records += 1;
            match entry {
                Entry::Changes(changes) => {
                    info.change_records += 1;
                    info.changes += changes.len() as u64;
                    let mut metas = changes.iter().filter_map(|logged| match &logged.change {
                        Change::SetMeta(meta) if logged.page == PageId::META => Some(*meta),
                        _ => None,
                    });
                    if let Some(last) = metas.next_back() {
                        *meta = Some((lsn, last));
                    }
                }
                Entry::Images(images) => info.images += images.len() as u64,
                Entry::Checkpoint => {}
            }
            if let Some(touched) = touched {
                touched.note(lsn, &entry);
            }
            Ok(())
        });
        let end = match read {
            Ok(Some(end)) => end,
            Ok(None) => return Ok(None),
            Err(error) if error.is_corruption() => {
                findings.push(Finding::log(&error));
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        self.seen_end.set(Some(end.lsn));
        if end.lsn < redo {
            findings.push(
                Finding::new(FindingKind::ControlFile, StoreFile::Control)
                    .at_lsn(redo)
                    .expects(format!("a redo LSN in the log, which ends at LSN {}", end.lsn))
                    .finds("one behind it: the log is older than the control file"),
            );
            return Ok(None);
        }
        (info.end_lsn, info.is_closed, info.cut) = (end.lsn, end.is_closed, end.cut);
        info.bytes = end.lsn.distance_from(redo);
        Ok(Some(info))
    }

    /// Looks at the page file from outside, and at its meta page.
    fn pages_info(
        &self,
        file: &Source,
        logged_meta: Option<(Lsn, Meta)>,
        findings: &mut Findings,
    ) -> Result<(Option<PagesInfo>, Option<Meta>)> {
        let mut bytes = vec![0; self.page_bytes()];
        let file_pages = file.pages;
        let meta = match (logged_meta, file.read(PageId::META, &mut bytes)?) {
            // A record says all of the meta page, so what the file says does not matter then.
            (Some((lsn, meta)), Read::Page(_) | Read::Spare(..)) if page::lsn(&bytes) < lsn => Some((Some(lsn), meta)),
            (Some((lsn, meta)), Read::Damaged(_)) => Some((Some(lsn), meta)),
            (_, Read::Page(PageKind::Meta) | Read::Spare(PageKind::Meta, _)) => Some((None, page::meta(&bytes))),
            (_, Read::Page(kind) | Read::Spare(kind, _)) => {
                let finding = Finding::page(FindingKind::WrongPage, PageId::META, self.page_bytes());
                findings.push(finding.expects("the meta page").finds(format!("a {kind} page")));
                None
            }
            (None, Read::Damaged(damage)) => {
                findings.push(damaged(PageId::META, &damage, self.page_bytes()));
                None
            }
        };
        let info = PagesInfo {
            file_bytes: file.file.bytes()?,
            file_pages,
            spare_pages: SPARE_PAGES.min(file_pages),
            spare_images: file.spares.len() as u64,
            meta: meta.map(|(from_lsn, meta)| MetaInfo {
                from_lsn,
                root: meta.root,
                depth: meta.depth,
                page_count: meta.page_count,
                free_count: meta.free_count,
            }),
        };
        let wanted = meta.map_or(0, |(_, meta)| meta.page_count.saturating_add(SPARE_PAGES));
        if file_pages < wanted {
            let finding = Finding::new(FindingKind::PageFileShort, StoreFile::Pages);
            findings.push(
                finding
                    .expects(format!("room for {wanted} pages, {SPARE_PAGES} of them spare"))
                    .finds(format!("room for {file_pages}")),
            );
        }
        Ok((Some(info), meta.map(|(_, meta)| meta)))
    }
}

/// The page file as recovery finds it: its first step puts images from the spare pages into the places of pages that are torn.
pub(super) struct Source {
    file: PageFile,
    /// How many pages it had room for.
    pub(super) pages: u64,
    /// The images in the spare pages that recovery would use.
    spares: BTreeMap<PageId, Vec<u8>>,
}

/// What was read as a page.
pub(super) enum Read {
    /// The page.
    Page(PageKind),
    /// Its image in a spare page, because in its place it is damaged.
    Spare(PageKind, Damage),
    /// No page.
    Damaged(Damage),
}

impl Source {
    fn open(dir: &LogDir, control: &Control) -> Result<Option<Source>> {
        let file = PageFile::open_to_read(dir, LogId::new(control.log_id), control.page_bytes as usize)?;
        let Some(file) = file else { return Ok(None) };
        let mut spares = spare::images(&file)?;
        spares.retain(|_, image| page::lsn(image) >= control.redo);
        Ok(Some(Source { pages: file.pages()?, file, spares }))
    }

    pub(super) fn page_bytes(&self) -> usize {
        self.file.page_bytes()
    }

    /// Reads a page into `bytes`.
    pub(super) fn read(&self, id: PageId, bytes: &mut [u8]) -> Result<Read> {
        let damage = match self.file.read(id, bytes) {
            Ok(kind) => return Ok(Read::Page(kind)),
            Err(ReadError::Failed(error)) => return Err(error),
            Err(ReadError::Damaged(damage)) => damage,
        };
        let image = self.spares.get(&id);
        Ok(match image.and_then(|image| Some((image, page::validate(image, id).ok()?))) {
            Some((image, kind)) => {
                bytes.copy_from_slice(image);
                Read::Spare(kind, damage)
            }
            None => Read::Damaged(damage),
        })
    }
}

/// The finding for a page that is not valid, and that nothing restores.
pub(super) fn damaged(id: PageId, damage: &Damage, page_bytes: usize) -> Finding {
    let finding = Finding::page(FindingKind::DamagedPage, id, page_bytes);
    match damage {
        Damage::Blank => finding.expects("a page").finds("zeros"),
        Damage::Checksum { expected, found } => finding
            .expects(format!("checksum {expected:08x}, which these bytes give as this page of this store"))
            .finds(format!("checksum {found:08x}")),
        Damage::Content(what) => finding.expects("a page that is consistent").finds(*what),
    }
}

/// Why there is no store, or none that can be opened.
fn no_store(fs: &dyn FileSystem, path: &Path, dir: &LogDir) -> Error {
    let has_records = LogReader::open_with(fs, path.join(LOG))
        .and_then(|log| log.reader(Lsn::ZERO))
        .and_then(|mut reader| reader.next_record().map(|record| record.is_some()));
    if has_records.unwrap_or(false) && dir.find_file(PAGES, OpenMode::Read).is_ok_and(|file| file.is_some()) {
        let detail = "it is missing, although there are pages and a log with records; nobody knows where redo starts";
        return Error::new(ErrorKind::Corruption, "read control file", detail).at_path(dir.path_of(CONTROL));
    }
    Error::new(ErrorKind::NotFound, "look at store", "there is no store in the directory").at_path(path)
}
