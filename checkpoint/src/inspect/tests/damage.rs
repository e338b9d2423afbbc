//! Damage of a closed store: what is in the page file is all there is.

use std::fs;

use super::*;

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let files = Files::filled();
    let sound = files.bytes();
    let pages = files.meta().page_count;
    for (step, at) in (0..pages as usize * PAGE_BYTES).step_by(419).enumerate() {
        files.damage(|bytes| bytes[at] ^= 1 << (step % 8));
        let (report, id) = (files.verify(), (at / PAGE_BYTES) as u64);
        let first = &report.findings[0];
        assert_eq!((first.kind, first.page), (FindingKind::DamagedPage, Some(PageId::new(id))), "{report:#?}");
        assert_eq!(first.offset, Some(id * PAGE_BYTES as u64));
        assert!(first.expected.starts_with("checksum ") && first.found.starts_with("checksum "), "{first}");
        assert!(report.has_damage() && report.is_settled);
        fs::write(files.dir().join("pages"), &sound).expect("the page file can be written");
    }
    assert!(files.verify().is_sound());
}

#[test]
fn pages_that_changed_places_are_found() {
    let files = Files::filled();
    let leaves = files.pages_of(PageKind::Leaf);
    let (one, other) = (leaves[1], leaves[5]);
    let (first, second) = (files.page(one), files.page(other));
    files.damage(|bytes| {
        bytes[one as usize * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(&second);
        bytes[other as usize * PAGE_BYTES..][..PAGE_BYTES].copy_from_slice(&first);
    });
    let damaged = |id| (FindingKind::DamagedPage, Some(id));
    assert_eq!(files.found(), [damaged(one), damaged(other)]);
    // With their numbers and checksums mended, they still do not fit the separators above them.
    for id in [one, other] {
        files.edit(id, |bytes| page::set_id(bytes, PageId::new(id)));
    }
    assert_eq!(sorted(files.found()), [(FindingKind::KeyRange, Some(one)), (FindingKind::KeyRange, Some(other))]);
}

fn sorted(mut found: Vec<(FindingKind, Option<u64>)>) -> Vec<(FindingKind, Option<u64>)> {
    found.sort_by_key(|(_, page)| *page);
    found
}

#[test]
fn a_page_of_another_store_is_found() {
    let (files, other) = (Files::filled(), Files::filled());
    let foreign = other.page(1);
    files.damage(|bytes| bytes[PAGE_BYTES..2 * PAGE_BYTES].copy_from_slice(&foreign));
    assert_eq!(files.found()[0], (FindingKind::DamagedPage, Some(1)));
}

#[test]
fn a_page_file_that_was_cut_lacks_its_last_pages() {
    let files = Files::filled();
    let count = files.meta().page_count;
    // Without the spare pages nothing is lost.
    files.damage(|bytes| bytes.truncate(count as usize * PAGE_BYTES));
    let report = files.verify();
    assert_eq!(brief(&report.findings), [(FindingKind::PageFileShort, None)]);
    assert!(report.is_sound());
    files.damage(|bytes| bytes.truncate((count as usize - 2) * PAGE_BYTES - 100));
    let report = files.verify();
    // After a close the log mentions no page, so the meta page names pages of which nobody knows.
    let found = brief(&report.findings);
    assert_eq!(found[..2], [(FindingKind::PageFileShort, None), (FindingKind::Meta, Some(0))]);
    assert!(found[2..].iter().all(|(kind, _)| *kind == FindingKind::NoSuchPage), "{found:?}");
    assert!(found.len() > 2 && !report.is_sound());
    files.damage(Vec::clear);
    assert_eq!(files.found(), [(FindingKind::DamagedPage, Some(0))]);
    fs::remove_file(files.dir().join("pages")).expect("the page file can be removed");
    assert_eq!(files.found(), [(FindingKind::PageFileMissing, None)]);
}

#[test]
fn a_circle_in_the_tree_is_found_and_ends() {
    let files = Files::filled();
    let root = files.meta().root;
    let children: Vec<PageId> = (0..3).map(|index| node::child(&files.page(root.get()), index)).collect();
    files.edit(root.get(), |bytes| node::set_first_child(bytes, root));
    assert_eq!(files.found(), [(FindingKind::ReferencedTwice, Some(root.get()))]);
    files.edit(root.get(), |bytes| node::set_first_child(bytes, children[1]));
    let found = files.found();
    assert!(found.contains(&(FindingKind::ReferencedTwice, Some(children[1].get()))), "{found:?}");
    files.edit(root.get(), |bytes| node::set_first_child(bytes, PageId::META));
    assert_eq!(files.found(), [(FindingKind::ReferencedTwice, Some(0))]);
    files.edit(root.get(), |bytes| node::set_first_child(bytes, PageId::new(1 << 40)));
    assert_eq!(files.found(), [(FindingKind::NoSuchPage, Some(root.get()))]);
    files.edit(root.get(), |bytes| node::set_first_child(bytes, children[0]));
    assert!(files.verify().is_sound());
}

/// Changes the link in an overflow or free page.
fn set_next(files: &Files, id: u64, next: u64) {
    files.edit(id, |bytes| bytes[24..32].copy_from_slice(&next.to_le_bytes()));
}

#[test]
fn circles_and_ends_in_the_chain_of_a_value_are_found() {
    let files = Files::filled();
    let chain = files.pages_of(PageKind::Overflow);
    let next = |id: u64| page::next(&files.page(id));
    let middle = chain.iter().find(|id| next(**id) != PageId::NONE && next(next(**id).get()) == PageId::NONE);
    let middle = *middle.expect("a value has three pages");
    let last = next(middle).get();
    set_next(&files, last, middle);
    assert_eq!(files.found(), [(FindingKind::ReferencedTwice, Some(middle))]);
    set_next(&files, last, PageId::NONE.get());
    assert!(files.verify().is_sound());
    set_next(&files, middle, PageId::NONE.get());
    let report = files.verify();
    assert_eq!(report.findings.len(), 2, "{report:#?}");
    assert_eq!(report.findings[0].kind, FindingKind::ValueLength);
    assert!(report.findings[0].expected.starts_with("9000 bytes"), "{}", report.findings[0]);
    assert_eq!((report.findings[1].kind, report.findings[1].page), (FindingKind::LostPage, Some(PageId::new(last))));
    set_next(&files, middle, files.pages_of(PageKind::Leaf)[0]);
    assert_eq!(files.found()[0].0, FindingKind::ReferencedTwice);
}

#[test]
fn a_free_list_that_is_too_short_loses_pages() {
    let files = Files::filled();
    let meta = files.meta();
    assert!(meta.free_count > 2);
    files.edit_meta(|meta| meta.free_count += 1);
    assert_eq!(files.found(), [(FindingKind::FreeCount, Some(0))]);
    files.edit_meta(|meta| (meta.free_head, meta.free_count) = (PageId::NONE, 0));
    let lost: Vec<_> = files.pages_of(PageKind::Free).into_iter().map(|id| (FindingKind::LostPage, Some(id))).collect();
    assert_eq!(files.found(), lost);
    files.edit_meta(|changed| *changed = meta);
    set_next(&files, meta.free_head.get(), meta.free_head.get());
    assert_eq!(files.found(), [(FindingKind::ReferencedTwice, Some(meta.free_head.get()))]);
    set_next(&files, meta.free_head.get(), meta.root.get());
    assert_eq!(files.found(), [(FindingKind::ReferencedTwice, Some(meta.root.get()))]);
}

#[test]
fn a_meta_page_that_claims_what_cannot_be_is_found() {
    let files = Files::filled();
    let meta = files.meta();
    let kinds = |change: &dyn Fn(&mut Meta)| -> Vec<FindingKind> {
        files.edit_meta(|now| {
            *now = meta;
            change(now);
        });
        let mut kinds: Vec<FindingKind> = files.verify().findings.iter().map(|finding| finding.kind).collect();
        kinds.dedup();
        kinds
    };
    assert_eq!(kinds(&|meta| meta.depth = 0), [FindingKind::Meta]);
    assert_eq!(kinds(&|meta| meta.depth = 1 << 50), [FindingKind::Meta]);
    assert_eq!(kinds(&|meta| meta.depth += 1), [FindingKind::WrongPage]);
    assert_eq!(kinds(&|meta| meta.root = PageId::new(u64::MAX - 1)), [FindingKind::NoSuchPage]);
    assert_eq!(kinds(&|meta| meta.page_count += 3), [FindingKind::DamagedPage], "three pages that were never written");
    let claims_too_much = kinds(&|meta| meta.page_count = u64::MAX);
    assert_eq!(claims_too_much[..2], [FindingKind::PageFileShort, FindingKind::Meta]);
    assert!(kinds(&|meta| meta.page_count -= 4).contains(&FindingKind::NoSuchPage));
    assert_eq!(kinds(&|_| ()), []);
}

#[test]
fn keys_out_of_order_and_in_the_wrong_leaf_are_found() {
    let files = Files::filled();
    let leaf = files.pages_of(PageKind::Leaf)[3];
    let sound = files.page(leaf);
    files.edit(leaf, |bytes| {
        let slots: [u8; 4] = bytes[44..48].try_into().expect("four bytes");
        bytes[44..46].copy_from_slice(&slots[2..]);
        bytes[46..48].copy_from_slice(&slots[..2]);
    });
    let report = files.verify();
    assert_eq!(brief(&report.findings), [(FindingKind::KeyOrder, Some(leaf))]);
    assert!(report.findings[0].expected.contains("slot 3"), "{}", report.findings[0]);
    files.edit(leaf, |bytes| {
        bytes.copy_from_slice(&sound);
        bytes[..4].fill(0);
        let cell = node::cell(bytes, 0).to_vec();
        let at = bytes.windows(cell.len()).position(|window| window == cell).expect("the cell is in the page");
        // The first letter of the first key.
        bytes[at + 6] = b'a';
    });
    assert_eq!(files.found(), [(FindingKind::KeyRange, Some(leaf))]);
}

#[test]
fn a_separator_that_is_not_between_its_children_is_found() {
    let files = Files::filled();
    let root = files.meta().root.get();
    files.edit(root, |bytes| {
        let cell = node::cell(bytes, 2).to_vec();
        let at = bytes.windows(cell.len()).position(|window| window == cell).expect("the cell is in the page");
        bytes[at + 10] = b'a';
    });
    let found = files.found();
    assert_eq!(found[0], (FindingKind::KeyOrder, Some(root)), "{found:?}");
    assert!(found[1..].iter().all(|(kind, _)| *kind == FindingKind::KeyRange) && found.len() > 1, "{found:?}");
}

#[test]
fn bytes_where_nothing_should_be_are_found() {
    let files = Files::filled();
    for id in [0, files.meta().root.get(), files.pages_of(PageKind::Free)[0]] {
        let sound = files.bytes();
        files.edit(id, |bytes| {
            let (start, end) = page::hole(bytes);
            bytes[(start + end) / 2] = 1;
        });
        assert_eq!(files.found()[0], (FindingKind::DamagedPage, Some(id)));
        fs::write(files.dir().join("pages"), sound).expect("the page file can be written");
    }
}

#[test]
fn a_page_from_the_future_of_the_log_is_found() {
    let files = Files::filled();
    files.edit(1, |bytes| page::set_lsn(bytes, wal::Lsn::new(1 << 40)));
    assert!(files.found().contains(&(FindingKind::NewerThanLog, Some(1))));
}

#[test]
fn findings_are_counted_beyond_the_most_that_are_kept() {
    let files = Files::filled();
    let count = files.meta().page_count;
    files.damage(|bytes| (1..count as usize).for_each(|id| bytes[id * PAGE_BYTES + 100] ^= 1));
    let report = files.verify_with(VerifyOptions { findings_max: 5, ..VerifyOptions::default() });
    assert_eq!((report.findings.len() as u64, report.findings_left_off), (5, count - 1 - 5));
    let report = files.verify_with(VerifyOptions { findings_max: 0, ..VerifyOptions::default() });
    assert!(report.has_damage() && report.findings.is_empty());
}
