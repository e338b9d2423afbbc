//! What a verification would miss, or claim, if one of its checks were taken out, where nothing else noticed.

use wal::{LogReader, Lsn, Wal};

use super::replay::killed;
use super::*;
use crate::inspect::StoreInfo;
use crate::inspect::finding::Findings;
use crate::inspect::look::Look;
use crate::inspect::replay::Touched;

fn shown(files: &Files) -> StoreInfo {
    show(&RealFileSystem, files.dir()).expect("the store can be looked at")
}

/// What is found with so little memory that the log is not replayed and the tree not followed.
fn found_page_by_page(files: &Files, memory_bytes_max: u64) -> Vec<(FindingKind, Option<u64>)> {
    let report = files.verify_with(VerifyOptions { memory_bytes_max, ..VerifyOptions::default() });
    assert!(matches!(report.replay, Replay::TooLarge { .. }), "{report:#?}");
    brief(&report.findings)
}

#[test]
fn a_control_file_that_does_not_fit_its_log_is_told_with_what_does_not_fit() {
    let files = killed();
    let path = files.dir().join("checkpoint");
    let sound = fs::read(&path).expect("there is a control file");
    let info = shown(&files);
    let record = info.checkpoint_lsn.expect("there was a checkpoint").get();
    let end = info.log.as_ref().expect("there is a log").end_lsn.get();
    let (of_another, far) = (format!("that of checkpoint {} ", info.sequence), end + (1 << 20));
    let wrong = [
        ("the id of another log", 16, 7, "07000000"),
        ("a later sequence", 40, info.sequence + 1, of_another.as_str()),
        ("a later redo point", 48, record, of_another.as_str()),
        ("a redo point behind the log", 48, far, "one behind it"),
        ("a record that is not there", 56, end, "none"),
        ("a record of another type", 56, info.redo_lsn.get(), "a record of type"),
    ];
    for (what, at, value, found) in wrong {
        let mut block = sound.clone();
        block[at..at + 8].copy_from_slice(&value.to_le_bytes());
        let checksum = crc32c::crc32c(&block[..4092]);
        block[4092..].copy_from_slice(&checksum.to_le_bytes());
        fs::write(&path, block).expect("the control file can be written");
        let findings = shown(&files).findings;
        let is_told = |finding: &Finding| finding.kind == FindingKind::ControlFile && finding.found.starts_with(found);
        assert!(findings.iter().any(is_told), "{what}: {findings:#?}");
    }
}

#[test]
fn that_the_log_grew_is_a_change() {
    let files = killed();
    let mut findings = Findings::new(9);
    let look = Look::open(&RealFileSystem, &files.dir(), &mut findings).expect("it can be looked at");
    look.info(None, &mut findings).expect("it can be looked at");
    assert!(!look.has_changed(&RealFileSystem).expect("it can be looked at"));
    let log = Wal::open(files.dir().join("wal"), wal::Config::default()).expect("the log opens");
    log.append(b"more").expect("an append works");
    assert!(look.has_changed(&RealFileSystem).expect("it can be looked at"));
}

#[test]
fn what_comes_to_the_log_later_is_not_replayed() {
    let files = killed();
    let mut findings = Findings::new(9);
    let look = Look::open(&RealFileSystem, &files.dir(), &mut findings).expect("it can be looked at");
    let mut touched = Touched::new(1 << 20);
    look.info(Some(&mut touched), &mut findings).expect("it can be looked at");
    let log = LogReader::open(files.dir().join("wal")).expect("there is a log");
    let mut reader = log.reader(look.control.redo).expect("it can be read");
    let mut last = Lsn::ZERO;
    while let Some(record) = reader.next_record().expect("it can be read") {
        last = record.lsn;
    }
    let mut applied = |end: Lsn| match look.replay(&touched, end, &mut findings).expect("it can be read").outcome() {
        Replay::InMemory { changes_applied, .. } => changes_applied,
        other => panic!("{other:?}"),
    };
    let (all, without_last) = (applied(Lsn::new(last.get() + 1)), applied(last));
    assert!(without_last > 0 && without_last < all, "{without_last} of {all}");
}

#[test]
fn of_a_page_that_has_its_changes_nothing_is_claimed() {
    let files = Files::new();
    let store = files.open();
    fill(&store);
    store.checkpoint().expect("a checkpoint works");
    for number in 0..40 {
        store.put(key(number), b"changed").expect("a put works");
    }
    while store.core().tree.flusher.clean_some().expect("pages are written") > 0 {}
    drop(store);
    let report = files.verify();
    assert!(matches!(report.replay, Replay::InMemory { changes_skipped: 40.., .. }), "{report:#?}");
    assert!(report.is_sound() && report.findings.is_empty(), "{report:#?}");
}

#[test]
fn without_the_memory_to_know_what_the_log_restores_no_damage_is_claimed() {
    let files = killed();
    let mut findings = Findings::new(9);
    let look = Look::open(&RealFileSystem, &files.dir(), &mut findings).expect("it can be looked at");
    let mut touched = Touched::new(64);
    look.info(Some(&mut touched), &mut findings).expect("it can be looked at");
    assert!(touched.is_full(), "there is room for one page");
    let leaf = files.pages_of(PageKind::Leaf)[0];
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES + 2048] ^= 1);
    assert_eq!(found_page_by_page(&files, 64), []);
}

#[test]
fn a_page_that_the_log_does_not_change_is_not_restored_from_an_image_of_it() {
    let files = killed();
    let leaf = *files.pages_of(PageKind::Leaf).last().expect("there are leaves");
    files.damage(|bytes| bytes[leaf as usize * PAGE_BYTES + 2048] ^= 1);
    assert_eq!(files.found(), [(FindingKind::DamagedPage, Some(leaf))]);
}

#[test]
fn a_page_that_is_as_new_as_the_end_of_the_log_is_found_also_without_its_tree() {
    let files = killed();
    let leaf = *files.pages_of(PageKind::Leaf).last().expect("there are leaves");
    let end = shown(&files).log.expect("there is a log").end_lsn;
    for lsn in [end, Lsn::new(end.get() + 1)] {
        files.edit(leaf, |bytes| page::set_lsn(bytes, lsn));
        assert_eq!(found_page_by_page(&files, 3000), [(FindingKind::NewerThanLog, Some(leaf))]);
    }
}

#[test]
fn an_image_in_a_spare_page_that_is_older_than_the_redo_point_restores_nothing() {
    let files = Files::filled();
    let leaf = files.pages_of(PageKind::Leaf)[0];
    files.damage(|bytes| {
        let (image, last) = (leaf as usize * PAGE_BYTES, bytes.len() - PAGE_BYTES);
        bytes.copy_within(image..image + PAGE_BYTES, last);
        bytes[image + 2048] ^= 1;
    });
    assert_eq!(shown(&files).pages.expect("there are pages").spare_images, 0);
    assert_eq!(files.found()[0], (FindingKind::DamagedPage, Some(leaf)));
}

#[test]
fn a_page_of_another_kind_is_found_where_the_tree_or_the_free_list_has_it() {
    let files = Files::filled();
    let sound = files.bytes();
    let meta = files.meta();
    let next = |id: u64| page::next(&files.page(id));
    let chain = files.pages_of(PageKind::Overflow);
    let middle = chain.iter().find(|id| next(**id) != PageId::NONE && next(next(**id).get()) == PageId::NONE);
    let middle = *middle.expect("a value has three pages");
    let (behind_part, behind_free) = (next(middle), next(meta.free_head.get()));
    let leaf = files.pages_of(PageKind::Leaf)[2];
    let first_of = |id: u64, change: &dyn Fn(&mut [u8])| {
        files.edit(id, change);
        let found = files.verify();
        fs::write(files.dir().join("pages"), &sound).expect("the page file can be written");
        let first = found.findings.first().unwrap_or_else(|| panic!("nothing is found at page {id}"));
        (first.kind, first.page.map(PageId::get), found.not_judged.join(", "))
    };
    // The number of the next free page stands where a node has its level.
    let wrong = first_of(leaf, &|bytes| page::format_free(bytes, PageId::new(leaf), PageId::META));
    assert_eq!((wrong.0, wrong.1), (FindingKind::WrongPage, Some(leaf)));
    let wrong = first_of(middle, &|bytes| page::format_free(bytes, PageId::new(middle), behind_part));
    assert_eq!((wrong.0, wrong.1), (FindingKind::WrongPage, Some(middle)));
    let empty = first_of(middle, &|bytes| page::format_overflow(bytes, PageId::new(middle), behind_part, b""));
    assert_eq!((empty.0, empty.1), (FindingKind::ValueLength, Some(middle)));
    let wrong =
        first_of(meta.free_head.get(), &|bytes| page::format_overflow(bytes, meta.free_head, behind_free, b"x"));
    assert_eq!((wrong.0, wrong.1), (FindingKind::WrongPage, Some(meta.free_head.get())));
    let wrong = first_of(0, &|bytes| page::format_free(bytes, PageId::META, PageId::NONE));
    assert_eq!((wrong.0, wrong.1), (FindingKind::WrongPage, Some(0)));
    assert!(wrong.2.contains("without the meta page"), "{}", wrong.2);
}

#[test]
fn two_slots_of_one_cell_and_two_cells_of_one_key_are_found() {
    let files = Files::filled();
    let leaf = files.pages_of(PageKind::Leaf)[3];
    let sound = files.bytes();
    files.edit(leaf, |bytes| bytes.copy_within(44..46, 46));
    assert_eq!(files.found()[0], (FindingKind::DamagedPage, Some(leaf)));
    fs::write(files.dir().join("pages"), sound).expect("the page file can be written");
    files.edit(leaf, |bytes| {
        let (cell, next) = (node::cell(bytes, 2).to_vec(), node::cell(bytes, 3).to_vec());
        assert_eq!(cell.len(), next.len());
        let at = bytes.windows(next.len()).position(|window| window == next).expect("the cell is in the page");
        bytes[at..at + cell.len()].copy_from_slice(&cell);
    });
    assert_eq!(files.found(), [(FindingKind::KeyOrder, Some(leaf))]);
}

#[test]
fn a_key_that_belongs_to_the_next_leaf_is_found() {
    let files = Files::filled();
    let root = files.page(files.meta().root.get());
    let (leaf, high) = (node::child(&root, 0).get(), node::key(&root, 0).to_vec());
    files.edit(leaf, |bytes| {
        let slot = node::count(bytes) - 1;
        let mut cell = Vec::new();
        node::push_leaf_cell(&mut cell, &high, node::value(bytes, slot));
        assert!(node::replace(bytes, slot, &cell), "it fits");
        let (start, end) = page::hole(bytes);
        bytes[start..end].fill(0);
    });
    assert_eq!(files.found(), [(FindingKind::KeyRange, Some(leaf))]);
}

#[test]
fn a_separator_that_is_that_of_the_branch_above_is_found() {
    let files = Files::new();
    let store = files.open();
    for number in 0..100 {
        // Separators of neighbours are as long as the keys, so the tree is of three levels soon.
        let long = [vec![b'x'; 700], key(number)].concat();
        store.put(long, b"value").expect("a put works");
    }
    store.close().expect("the store closes");
    let meta = files.meta();
    assert_eq!(meta.depth, 3);
    let root = files.page(meta.root.get());
    let (branch, low) = (node::child(&root, 1).get(), node::key(&root, 0));
    files.edit(branch, |bytes| {
        let cell = node::branch_cell(low, node::child(bytes, 1));
        assert!(node::replace(bytes, 0, &cell), "it fits");
        let (start, end) = page::hole(bytes);
        bytes[start..end].fill(0);
    });
    let leaf = node::child(&files.page(branch), 0).get();
    assert_eq!(files.found(), [(FindingKind::KeyRange, Some(branch)), (FindingKind::KeyRange, Some(leaf))]);
}
