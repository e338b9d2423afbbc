//! Stores that were not closed: the log since the redo LSN is a part of them.

use std::fs;
use std::path::Path;

use wal::{AppendOptions, ErrorKind, Lsn, RecordType, Wal};

use super::*;
use crate::inspect::CheckpointRecordState;

/// A store that was killed after a checkpoint and some changes.
pub(super) fn killed() -> Files {
    let files = Files::new();
    let store = files.open();
    fill(&store);
    store.checkpoint().expect("a checkpoint works");
    for number in 0..40 {
        store.put(key(number), b"changed").expect("a put works");
    }
    // Dropping closes the log, and makes no checkpoint.
    drop(store);
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory can be made");
    for entry in fs::read_dir(from).expect("the directory can be read") {
        let entry = entry.expect("the directory can be read");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("the file can be copied");
        }
    }
}

fn replace(from: &Path, to: &Path) {
    fs::remove_dir_all(to).expect("the directory can be removed");
    copy(from, to);
}

#[test]
fn what_an_open_will_replay_is_told_before() {
    let files = killed();
    let before = files.bytes();
    let info = show(&RealFileSystem, files.dir()).expect("the store can be looked at");
    assert!(!info.is_closed_cleanly() && info.findings.is_empty(), "{info:#?}");
    assert!(matches!(info.checkpoint_record, CheckpointRecordState::Present { pages_written } if pages_written > 0));
    let report = files.verify();
    assert!(report.is_sound() && report.findings.is_empty(), "{report:#?}");
    assert_eq!(report.tree.expect("the tree was judged").entries, 500);
    assert_eq!(files.bytes(), before, "looking changes nothing");
    let store = files.open();
    let recovered = store.recovery_report();
    let log = info.log.expect("there is a log");
    assert_eq!((log.change_records, info.redo_lsn), (recovered.records, recovered.redo_lsn));
    let Replay::InMemory { changes_applied, changes_skipped, pages_restored, .. } = report.replay else {
        panic!("{:?}", report.replay)
    };
    assert_eq!(
        (changes_applied, changes_skipped, pages_restored),
        (recovered.changes_applied, recovered.changes_skipped, recovered.pages_restored)
    );
}

#[test]
fn a_torn_page_with_an_image_in_the_log_is_no_damage() {
    let files = killed();
    // The last checkpoint logged an image of each page that it wrote, behind its redo LSN.
    let leaf = files.pages_of(PageKind::Leaf)[0];
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES + 2048..][..2048].fill(0xee));
    let report = files.verify();
    assert_eq!(brief(&report.findings), [(FindingKind::TornPage, Some(leaf))]);
    assert!(report.is_sound() && matches!(report.replay, Replay::InMemory { pages_restored: 1, .. }), "{report:#?}");
    let store = files.open();
    assert_eq!(store.recovery_report().pages_restored, 1);
    store.close().expect("the store closes");
    assert!(files.verify().findings.is_empty());
}

#[test]
fn a_damaged_page_that_no_image_restores_is_damage() {
    let files = killed();
    {
        // After two checkpoints only the pages that the second one wrote have images.
        let store = files.open();
        store.put(key(599), b"changed").expect("a put works");
        store.checkpoint().expect("a checkpoint works");
        store.put(key(0), b"changed again").expect("a put works");
    }
    let leaf = files.pages_of(PageKind::Leaf)[0];
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES + 2048] ^= 1);
    assert_eq!(files.found(), [(FindingKind::DamagedPage, Some(leaf))]);
    let no_memory = VerifyOptions { memory_bytes_max: 1000, ..VerifyOptions::default() };
    assert_eq!(brief(&files.verify_with(no_memory).findings), [(FindingKind::DamagedPage, Some(leaf))]);
}

#[test]
fn a_lost_write_is_found_by_the_log_that_follows_it() {
    let files = killed();
    let leaf = files.pages_of(PageKind::Leaf)[0];
    let old = files.page(leaf);
    {
        let store = files.open();
        store.put(key(0), b"newer").expect("a put works");
        store.checkpoint().expect("a checkpoint works");
        store.put(key(0), b"newest").expect("a put works");
        store.put(key(0), b"newest of all").expect("a put works");
    }
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(&old));
    let report = files.verify();
    assert_eq!(brief(&report.findings), [(FindingKind::LostWrite, Some(leaf))]);
    assert!(report.findings[0].lsn.is_some() && report.has_damage());
    assert_eq!(report.pages.damaged, 1, "the page is of no use");
}

#[test]
fn without_the_memory_to_replay_what_can_be_told_is_told() {
    let files = killed();
    for memory_bytes_max in [0, 64, 3000] {
        let report = files.verify_with(VerifyOptions { memory_bytes_max, ..VerifyOptions::default() });
        assert!(matches!(report.replay, Replay::TooLarge { .. }), "{report:#?}");
        assert!(!report.has_damage() && !report.is_sound() && report.tree.is_none(), "{report:#?}");
        assert_eq!(report.not_judged.len(), 1);
    }
    let leaf = files.pages_of(PageKind::Leaf)[0];
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES + 2048] ^= 1);
    let report = files.verify_with(VerifyOptions { memory_bytes_max: 5000, ..VerifyOptions::default() });
    assert!(matches!(report.replay, Replay::TooLarge { .. }), "{report:#?}");
    assert_eq!(brief(&report.findings), [(FindingKind::TornPage, Some(leaf))]);
}

#[test]
fn files_of_different_moments_do_not_fit() {
    let files = Files::filled();
    let old = files.root.path().join("old");
    copy(&files.dir(), &old);
    {
        let store = files.open();
        for _ in 0..3 {
            fill(&store);
            store.checkpoint().expect("a checkpoint works");
        }
        store.close().expect("the store closes");
    }
    let new = files.root.path().join("new");
    copy(&files.dir(), &new);
    let is_found = |what: &str| {
        let info = show(&RealFileSystem, files.dir()).expect("the store can be looked at");
        let first = info.findings.first().unwrap_or_else(|| panic!("{what}: {info:#?}"));
        assert_eq!(first.kind, FindingKind::ControlFile, "{what}: {first}");
        let report = files.verify();
        assert!(report.has_damage() && report.findings.contains(first), "{what}: {report:#?}");
    };
    fs::copy(old.join("checkpoint"), files.dir().join("checkpoint")).expect("the file can be copied");
    is_found("an old control file");
    replace(&new, &files.dir());
    replace(&old.join("wal"), &files.dir().join("wal"));
    is_found("an old log");
    replace(&new, &files.dir());
    replace(&Files::filled().dir().join("wal"), &files.dir().join("wal"));
    is_found("another store's log");
    replace(&new, &files.dir());
    fs::copy(new.join("pages"), files.dir().join("pages")).expect("the file can be copied");
    assert!(files.verify().is_sound());
}

#[test]
fn a_log_that_cannot_be_read_is_a_finding_and_the_pages_are_judged_all_the_same() {
    let files = Files::filled();
    fs::remove_dir_all(files.dir().join("wal")).expect("the log can be removed");
    let report = files.verify();
    assert_eq!(report.findings[0].kind, FindingKind::Log);
    assert!(report.replay == Replay::Impossible && report.pages.leaves > 10 && report.tree.is_none(), "{report:#?}");
    assert!(!report.not_judged.is_empty());
}

#[test]
fn a_record_that_is_none_of_a_stores_is_a_finding() {
    for (record_type, payload) in [(7, b"hello".as_slice()), (0x2001, b"\x01 is too short")] {
        let files = killed();
        let log = Wal::open(files.dir().join("wal"), wal::Config::default()).expect("the log opens");
        let record_type = RecordType::new(record_type).expect("users may choose it");
        let lsn = log.append_with(payload, AppendOptions::new().record_type(record_type)).expect("an append works");
        log.close().expect("the log closes");
        let report = files.verify();
        let first = &report.findings[0];
        assert_eq!((first.kind, first.lsn), (FindingKind::Log, Some(lsn)), "{report:#?}");
        assert_eq!(report.replay, Replay::Impossible);
        let error = Store::open(files.dir(), Config::default()).expect_err("an open refuses it too");
        assert_eq!(error.kind(), ErrorKind::Corruption);
    }
}

#[test]
fn where_there_is_no_store_that_is_an_error() {
    let kind = |files: &Files| show(&RealFileSystem, files.dir()).expect_err("there is no store").kind();
    assert_eq!(kind(&Files::new()), ErrorKind::NotFound);
    let files = Files::new();
    fs::create_dir(files.dir()).expect("a directory can be made");
    assert_eq!(kind(&files), ErrorKind::NotFound);
    let files = killed();
    let control = files.dir().join("checkpoint");
    let mut block = fs::read(&control).expect("there is a control file");
    block[40] ^= 1;
    fs::write(&control, block).expect("the file can be written");
    assert_eq!(kind(&files), ErrorKind::Corruption);
    fs::remove_file(&control).expect("the file can be removed");
    assert_eq!(kind(&files), ErrorKind::Corruption, "there are pages and a log with records");
}

#[test]
fn a_store_that_never_made_a_checkpoint_is_shown() {
    let files = Files::new();
    let store = files.open();
    store.put("a", "b").expect("a put works");
    let info = show(&RealFileSystem, files.dir()).expect("the store can be looked at");
    assert_eq!(info.checkpoint_record, CheckpointRecordState::NoCheckpoint);
    assert_eq!((info.sequence, info.checkpoint_lsn), (0, None));
    let log = info.log.expect("there is a log");
    assert_eq!((log.records, log.changes), (1, 1));
    assert!(log.end_lsn > Lsn::FIRST);
    assert!(files.verify().is_sound());
}
