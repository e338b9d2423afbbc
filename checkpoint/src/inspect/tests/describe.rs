//! Records of a store's log, told as data.

use wal::{Lsn, RecordType};

use super::*;
use crate::change::{self, CHANGES, CHECKPOINT, Change, CheckpointRecord, IMAGES, Image};
use crate::inspect::{ChangeKind, Description, describe};
use crate::page::node::{Value, branch_cell, format_node, insert, push_leaf_cell};

fn leaf_cell(key: &[u8], value: Value<'_>) -> Vec<u8> {
    let mut cell = Vec::new();
    push_leaf_cell(&mut cell, key, value);
    cell
}

fn leaf(page_bytes: usize) -> Vec<u8> {
    let mut bytes = vec![0; page_bytes];
    format_node(&mut bytes, PageId::new(9), 0, PageId::NONE);
    assert!(insert(&mut bytes, 0, &leaf_cell(b"k", Value::Inline(b"value"))));
    page::set_lsn(&mut bytes, Lsn::new(777));
    bytes
}

fn kinds(payload: &[u8]) -> Vec<ChangeKind<'_>> {
    match describe(CHANGES, payload).expect("it is a store's").expect("it is well formed") {
        Description::Changes(changes) => changes.into_iter().map(|change| change.kind).collect(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn changes_are_told_with_page_slot_key_and_lengths() {
    let entry = leaf_cell(b"alice", Value::Inline(b"100"));
    let long = leaf_cell(b"bob", Value::Overflow { len: 9000, first: PageId::new(40) });
    let separator = branch_cell(b"carol", PageId::new(12));
    let mut payload = Vec::new();
    let (page, previous) = (PageId::new(5), Lsn::new(4096));
    let mut add = |change: &Change<'_>| change::encode(&mut payload, page, previous, change);
    add(&Change::Insert { slot: 3, cell: &entry });
    add(&Change::Replace { slot: 4, cell: &long });
    add(&Change::Insert { slot: 0, cell: &separator });
    add(&Change::Remove { slot: 2 });
    add(&Change::RemoveRange { from: 1, to: 7 });
    add(&Change::InsertMany { cells: vec![&entry, &long] });
    add(&Change::Free { next: PageId::NONE });
    let meta = Meta { root: page, depth: 2, page_count: 9, free_head: PageId::new(8), free_count: 1 };
    add(&Change::SetMeta(meta));
    let Some(Ok(Description::Changes(changes))) = describe(CHANGES, &payload) else { panic!("it is well formed") };
    assert!(changes.iter().all(|change| (change.page, change.previous_lsn) == (page, previous)));
    let kinds = kinds(&payload);
    let ChangeKind::Insert { slot: 3, cell } = &kinds[0] else { panic!("{kinds:?}") };
    assert_eq!((cell.key, cell.value_bytes, cell.overflow, cell.child), (b"alice".as_slice(), Some(3), None, None));
    let ChangeKind::Replace { slot: 4, cell } = &kinds[1] else { panic!("{kinds:?}") };
    assert_eq!((cell.key, cell.value_bytes, cell.overflow), (b"bob".as_slice(), Some(9000), Some(PageId::new(40))));
    let ChangeKind::Insert { slot: 0, cell } = &kinds[2] else { panic!("{kinds:?}") };
    assert_eq!((cell.key, cell.value_bytes, cell.child), (b"carol".as_slice(), None, Some(PageId::new(12))));
    assert_eq!(kinds[3], ChangeKind::Remove { slot: 2 });
    assert_eq!(kinds[4], ChangeKind::RemoveRange { from: 1, to: 7 });
    assert!(matches!(&kinds[5], ChangeKind::InsertMany { cells } if cells.len() == 2));
    assert_eq!(kinds[6], ChangeKind::Free { next: None });
    let free_head = Some(PageId::new(8));
    assert_eq!(kinds[7], ChangeKind::SetMeta { root: page, depth: 2, page_count: 9, free_head, free_count: 1 });
}

#[test]
fn a_cell_that_may_be_either_is_told_as_both_unless_its_neighbours_are_clear() {
    // An entry with a value of four bytes and a key of zeros has the lengths of a separator with child 4.
    let unclear = leaf_cell(&[0; 8], Value::Inline(&[1; 4]));
    let mut payload = Vec::new();
    change::encode(&mut payload, PageId::new(5), Lsn::ZERO, &Change::Insert { slot: 0, cell: &unclear });
    let described = kinds(&payload);
    let ChangeKind::Insert { cell, .. } = &described[0] else { panic!("{described:?}") };
    assert_eq!((cell.key, cell.value_bytes, cell.child), ([0; 8].as_slice(), Some(4), Some(PageId::new(4))));
    for (neighbour, is_entry) in
        [(leaf_cell(b"a", Value::Inline(b"b")), true), (branch_cell(b"a", PageId::new(7)), false)]
    {
        let mut payload = Vec::new();
        let cells = vec![unclear.as_slice(), &neighbour];
        change::encode(&mut payload, PageId::new(5), Lsn::ZERO, &Change::InsertMany { cells });
        let described = kinds(&payload);
        let ChangeKind::InsertMany { cells } = &described[0] else { panic!("{described:?}") };
        assert!(cells.iter().all(|cell| cell.value_bytes.is_some() == is_entry && cell.child.is_none() == is_entry));
    }
}

#[test]
fn images_are_told_for_every_size_of_pages() {
    for page_bytes in [4096, 8192, 16384, 32768] {
        let mut free = vec![0; page_bytes];
        page::format_free(&mut free, PageId::new(3), PageId::NONE);
        let mut payload = Vec::new();
        change::encode_image(&mut payload, &leaf(page_bytes));
        change::encode_image(&mut payload, &free);
        let Some(Ok(Description::Images(images))) = describe(IMAGES, &payload) else { panic!("it is well formed") };
        assert_eq!((images[0].page, images[0].lsn, images[0].kind), (PageId::new(9), Lsn::new(777), PageKind::Leaf));
        assert_eq!((images[0].page_bytes, images[0].level, images[0].cells), (page_bytes, Some(0), Some(1)));
        assert_eq!((images[1].page, images[1].kind, images[1].level), (PageId::new(3), PageKind::Free, None));
        assert_eq!(images[1].page_bytes, page_bytes, "an empty page has no more than its hole to tell its size");
        let mut payload = Vec::new();
        let bytes = leaf(page_bytes);
        change::encode(&mut payload, PageId::new(9), Lsn::ZERO, &Change::Format(Image::of(&bytes)));
        assert!(matches!(kinds(&payload)[0], ChangeKind::Format(image) if image.page_bytes == page_bytes));
    }
}

#[test]
fn a_checkpoint_is_told_and_other_records_are_not() {
    let record = CheckpointRecord { redo: Lsn::new(4096), sequence: 3, pages_written: 17 };
    let payload = record.encode();
    let told = describe(CHECKPOINT, &payload).expect("it is a store's").expect("it is well formed");
    assert_eq!(told, Description::Checkpoint { redo_lsn: Lsn::new(4096), sequence: 3, pages_written: 17 });
    assert_eq!(describe(RecordType::DEFAULT, b"hello"), None);
    assert!(describe(CHECKPOINT, b"hello").expect("it claims to be a store's").is_err());
}

#[test]
fn hostile_payloads_are_malformed_and_nothing_worse() {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut sound = Vec::new();
    let entry = leaf_cell(b"alice", Value::Inline(b"100"));
    let bytes = leaf(4096);
    change::encode(&mut sound, PageId::new(9), Lsn::ZERO, &Change::InsertMany { cells: vec![&entry; 5] });
    change::encode(&mut sound, PageId::new(9), Lsn::ZERO, &Change::Format(Image::of(&bytes)));
    for round in 0..20_000 {
        let mut payload = sound.clone();
        for _ in 0..=random() % 3 {
            let at = random() as usize % payload.len();
            payload[at] = random() as u8;
        }
        payload.truncate(if round % 2 == 0 { payload.len() } else { random() as usize % payload.len() });
        for record_type in [CHANGES, IMAGES, CHECKPOINT] {
            let told = describe(record_type, &payload).expect("it claims to be a store's");
            let count = match told {
                Ok(Description::Changes(changes)) => changes.len(),
                Ok(Description::Images(images)) => images.len(),
                Ok(Description::Checkpoint { .. }) | Err(_) => 0,
            };
            assert!(count <= payload.len() / 17 + 1);
        }
    }
    // Counts that promise more than there is.
    let mut bomb = vec![5];
    bomb.extend([0; 16]);
    bomb.extend(u16::MAX.to_le_bytes());
    assert!(describe(CHANGES, &bomb).expect("it claims to be a store's").is_err());
}
