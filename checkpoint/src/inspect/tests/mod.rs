//! Stores that are sound are judged sound, and each kind of damage is found where it is.

mod damage;
mod describe;
mod guards;
mod live;
mod replay;
mod running;

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use wal::fs::RealFileSystem;
use wal::{Background, LogId};

use super::{Finding, FindingKind, Replay, VerifyOptions, VerifyReport, show, verify};
use crate::page::node;
use crate::page::{self, Meta, PageId, PageKind};
use crate::{Config, Store};

const PAGE_BYTES: usize = 4096;

/// The files of a store.
struct Files {
    root: TempDir,
}

impl Files {
    fn new() -> Files {
        Files { root: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A store with branches, leaves, long values and free pages, closed.
    fn filled() -> Files {
        let files = Files::new();
        let store = files.open();
        fill(&store);
        store.close().expect("the store closes");
        files
    }

    fn dir(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn open(&self) -> Store {
        let mut config = Config { page_bytes: PAGE_BYTES, pool_bytes: 64 * PAGE_BYTES, ..Config::default() };
        config.log.background = Background::Inline;
        config.log.sync_mode = wal::SyncMode::None;
        config.log.segment_bytes_max = 256 << 10;
        Store::open(self.dir(), config).expect("the store opens")
    }

    fn log_id(&self) -> LogId {
        wal::LogReader::open(self.dir().join("wal")).expect("there is a log").log_id()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.dir().join("pages")).expect("there is a page file")
    }

    /// Changes the page file as it stands on the disk.
    fn damage(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes();
        change(&mut bytes);
        fs::write(self.dir().join("pages"), bytes).expect("the page file can be written");
    }

    fn page(&self, id: u64) -> Vec<u8> {
        self.bytes()[id as usize * PAGE_BYTES..][..PAGE_BYTES].to_vec()
    }

    /// Changes a page, so that its checksum is right.
    fn edit(&self, id: u64, change: impl FnOnce(&mut [u8])) {
        let log_id = self.log_id();
        self.damage(|bytes| {
            let page = &mut bytes[id as usize * PAGE_BYTES..][..PAGE_BYTES];
            page[..4].fill(0);
            change(page);
            page::seal(page, log_id);
        });
    }

    fn meta(&self) -> Meta {
        page::meta(&self.page(0))
    }

    fn edit_meta(&self, change: impl FnOnce(&mut Meta)) {
        let mut meta = self.meta();
        change(&mut meta);
        self.edit(0, |bytes| page::set_meta(bytes, &meta));
    }

    /// The pages of this kind.
    fn pages_of(&self, kind: PageKind) -> Vec<u64> {
        (0..self.meta().page_count).filter(|id| page::kind(&self.page(*id)) == Some(kind)).collect()
    }

    fn verify(&self) -> VerifyReport {
        self.verify_with(VerifyOptions::default())
    }

    fn verify_with(&self, options: VerifyOptions) -> VerifyReport {
        verify(&RealFileSystem, self.dir(), options, |_| ()).expect("the store can be looked at")
    }

    /// The findings, each by its kind and page.
    fn found(&self) -> Vec<(FindingKind, Option<u64>)> {
        brief(&self.verify().findings)
    }
}

fn brief(findings: &[Finding]) -> Vec<(FindingKind, Option<u64>)> {
    findings.iter().map(|finding| (finding.kind, finding.page.map(PageId::get))).collect()
}

fn key(number: u32) -> Vec<u8> {
    format!("key-{number:05}").into_bytes()
}

fn fill(store: &Store) {
    for number in 0..600 {
        let bytes = if number % 100 == 50 { 9000 } else { 60 };
        store.put(key(number), vec![number as u8; bytes]).expect("a put works");
    }
    for number in 200..300 {
        store.delete(key(number)).expect("a delete works");
    }
}

#[test]
fn a_closed_store_is_shown_and_judged_sound() {
    let files = Files::filled();
    let before = files.bytes();
    let info = show(&RealFileSystem, files.dir()).expect("the store can be looked at");
    assert!(info.is_closed_cleanly() && info.findings.is_empty() && info.is_settled, "{info:#?}");
    assert_eq!((info.page_bytes, info.sequence), (PAGE_BYTES as u32, 1));
    let log = info.log.as_ref().expect("there is a log");
    assert_eq!((log.change_records, log.changes), (0, 0));
    assert_eq!(log.end_lsn.distance_from(info.redo_lsn), log.bytes);
    let meta = info.pages.as_ref().and_then(|pages| pages.meta).expect("there is a meta page");
    assert_eq!((meta.from_lsn, meta.depth, meta.page_count), (None, 2, files.meta().page_count));

    let report = files.verify();
    assert!(report.is_sound() && report.findings.is_empty(), "{report:#?}");
    assert_eq!(report.replay, Replay::Nothing);
    let (tree, pages) = (report.tree.expect("the tree was judged"), report.pages);
    assert_eq!((tree.entries, tree.overflow_values), (500, 5));
    assert_eq!(pages.overflow, 5 * 3, "a value of 9000 bytes needs three pages");
    assert!(pages.free > 0 && pages.branches == 1 && pages.leaves > 10, "{pages:?}");
    assert_eq!(tree.pages + pages.free + 1, pages.checked);
    assert_eq!(files.bytes(), before, "looking changes nothing");
}

#[test]
fn progress_goes_to_its_end_without_going_back() {
    let files = Files::filled();
    let seen = std::cell::RefCell::new(Vec::new());
    let note = |progress: super::Progress| seen.borrow_mut().push((progress.bytes_done, progress.bytes_total));
    verify(&RealFileSystem, files.dir(), VerifyOptions::default(), note).expect("the store can be looked at");
    let seen = seen.into_inner();
    assert!(!seen.is_empty() && seen.is_sorted() && seen.iter().all(|(done, total)| done <= total), "{seen:?}");
}
