//! What an open store says of pages whose checksums are right and that are not what the tree leads to: a write was lost, or went astray.

use super::*;
use crate::Batch;

/// Each way to come to the key fails with corruption.
fn nobody_gets_to(files: &Files, key: &[u8], what: &str) {
    let store = files.open();
    let calls: [(&str, wal::Result<()>); 6] = [
        ("get", store.get(key).map(drop)),
        ("put", store.put(key, b"new")),
        ("delete", store.delete(key).map(drop)),
        ("batch", store.write(Batch::new().put(key, b"new").put(b"other", b"new"))),
        ("range", store.range(key..).next().expect("an error comes").map(drop)),
        ("range from behind", store.range(..=key).next_back().expect("an error comes").map(drop)),
    ];
    for (call, result) in calls {
        assert!(result.as_ref().is_err_and(wal::Error::is_corruption), "{what}, {call}: {result:?}");
    }
}

/// Does something with a copy of the files.
fn on_a_copy(files: &Files, run: impl FnOnce(&Files)) {
    let copy = Files::new();
    fs::create_dir_all(copy.dir().join("wal")).expect("a directory can be made");
    for dir in ["", "wal"] {
        for entry in fs::read_dir(files.dir().join(dir)).expect("the directory can be read") {
            let entry = entry.expect("the directory can be read");
            if entry.path().is_file() {
                fs::copy(entry.path(), copy.dir().join(dir).join(entry.file_name())).expect("the file can be copied");
            }
        }
    }
    run(&copy);
}

#[test]
fn a_page_in_the_way_that_is_of_another_kind_or_level_is_corruption() {
    let files = Files::filled();
    let root = files.meta().root;
    let leaf = node::child(&files.page(root.get()), 0).get();
    let first = node::key(&files.page(leaf), 0).to_vec();
    on_a_copy(&files, |files| {
        files.edit_meta(|meta| meta.depth += 1);
        nobody_gets_to(files, &first, "the tree is said to be deeper");
    });
    on_a_copy(&files, |files| {
        // The number of the next free page stands where a node has its level.
        files.edit(root.get(), |bytes| page::format_free(bytes, root, PageId::new(1)));
        nobody_gets_to(files, &first, "the root is a free page");
    });
    on_a_copy(&files, |files| {
        files.edit(leaf, |bytes| page::format_free(bytes, PageId::new(leaf), PageId::new(0)));
        nobody_gets_to(files, &first, "the leaf is a free page");
    });
}

#[test]
fn a_value_whose_pages_are_not_all_there_is_corruption() {
    let files = Files::filled();
    let chain = files.pages_of(PageKind::Overflow);
    let next = |id: u64| page::next(&files.page(id));
    let middle = chain.iter().find(|id| next(**id) != PageId::NONE && next(next(**id).get()) == PageId::NONE);
    let middle = *middle.expect("a value has three pages");
    let (first, last) =
        (chain.iter().find(|id| next(**id).get() == middle).expect("it is not the first"), next(middle).get());
    type Edit<'a> = (&'a str, u64, &'a dyn Fn(&mut [u8]));
    let edits: [Edit<'_>; 5] = [
        ("a part is a free page", middle, &|bytes| page::format_free(bytes, PageId::new(middle), PageId::new(last))),
        ("a part is empty", middle, &|bytes| bytes[32..36].fill(0)),
        ("the last part is shorter", last, &|bytes| bytes[32] -= 1),
        ("the last part is longer", last, &|bytes| bytes[32] += 1),
        ("the last part has another behind it", last, &|bytes| bytes[24..32].copy_from_slice(&first.to_le_bytes())),
    ];
    for (what, id, edit) in edits {
        on_a_copy(&files, |files| {
            files.edit(id, edit);
            let store = files.open();
            let read: Vec<_> = (0..600).map(|number| store.get(key(number))).filter(wal::Result::is_err).collect();
            assert_eq!(read.len(), 1, "{what}: one value is damaged");
            assert!(read[0].as_ref().is_err_and(wal::Error::is_corruption), "{what}: {read:?}");
            let all: wal::Result<Vec<_>> = store.iter().collect();
            assert!(all.as_ref().is_err_and(wal::Error::is_corruption), "{what}: {:?}", all.map(|all| all.len()));
        });
    }
}

#[test]
fn a_page_in_use_is_not_taken_from_the_free_list() {
    let files = Files::filled();
    let leaf = files.pages_of(PageKind::Leaf)[2];
    files.edit_meta(|meta| meta.free_head = PageId::new(leaf));
    let store = files.open();
    let error = store.put(b"long", [1; 9000]).expect_err("it needs pages, and the free list leads to a leaf");
    assert!(error.is_corruption(), "{error}");
    let found: Vec<_> = store.iter().collect::<wal::Result<_>>().expect("nothing was changed");
    assert_eq!(found.len(), 500);
}

#[test]
fn without_a_meta_page_no_store_opens() {
    let files = Files::filled();
    files.edit(0, |bytes| page::format_free(bytes, PageId::META, PageId::NONE));
    let error = Store::open(files.dir(), Config::default()).expect_err("the meta page is a free page");
    assert!(error.is_corruption(), "{error}");
}

/// Says of a page that it is a free one, and leaves everything else in it as it was.
fn call_free(bytes: &mut [u8]) {
    let mut free = vec![0; PAGE_BYTES];
    page::format_free(&mut free, PageId::META, PageId::NONE);
    bytes[4] = free[4];
}

#[test]
fn a_branch_that_is_called_something_else_is_not_followed() {
    let files = Files::filled();
    let root = files.meta().root.get();
    let first = node::key(&files.page(node::child(&files.page(root), 0).get()), 0).to_vec();
    on_a_copy(&files, |files| {
        files.edit(root, call_free);
        nobody_gets_to(files, &first, "the root is called a free page");
    });
    on_a_copy(&files, |files| {
        let level = node::level(&files.page(root));
        let mut node = vec![0; PAGE_BYTES];
        node::format_node(&mut node, PageId::new(root), 0x7fff, PageId::META);
        let at = node.windows(2).position(|bytes| bytes == [0xff, 0x7f]).expect("it says its level");
        files.edit(root, |bytes| bytes[at..at + 2].copy_from_slice(&(level + 1).to_le_bytes()));
        nobody_gets_to(files, &first, "the root has another level");
    });
}

#[test]
fn a_part_of_a_value_that_is_called_something_else_is_neither_read_nor_freed_nor_used_for_another() {
    let files = Files::filled();
    let chain = files.pages_of(PageKind::Overflow);
    let next = |id: u64| page::next(&files.page(id));
    let middle = chain.iter().find(|id| next(**id) != PageId::NONE && next(next(**id).get()) == PageId::NONE);
    let middle = *middle.expect("a value has three pages");
    let first = *chain.iter().find(|id| next(**id).get() == middle).expect("it is not the first");
    let free = files.meta().free_head;
    on_a_copy(&files, |files| {
        files.edit(middle, call_free);
        let store = files.open();
        let damaged: Vec<u32> = (0..600).filter(|number| store.get(key(*number)).is_err()).collect();
        assert_eq!(damaged.len(), 1, "one value is damaged");
        let error = store.delete(key(damaged[0])).expect_err("its pages cannot be freed");
        assert!(error.is_corruption(), "{error}");
    });
    on_a_copy(&files, |files| {
        // An empty part stands between the first and the second.
        files.edit(first, |bytes| bytes[24..32].copy_from_slice(&free.get().to_le_bytes()));
        files.edit(free.get(), |bytes| page::format_overflow(bytes, free, PageId::new(middle), b""));
        let store = files.open();
        let read: Vec<_> = (0..600).map(|number| store.get(key(number))).filter(wal::Result::is_err).collect();
        assert!(read.len() == 1 && read[0].as_ref().is_err_and(wal::Error::is_corruption), "{read:?}");
    });
    on_a_copy(&files, |files| {
        files.edit_meta(|meta| meta.free_head = PageId::new(first));
        let store = files.open();
        let error = store.put(b"long", [1; 9000]).expect_err("the free list leads to a value");
        assert!(error.is_corruption(), "{error}");
    });
}

/// Removes the keys of the first leaf, one after the other, until it would be merged with its neighbour.
fn nobody_merges_with_the_neighbour(files: &Files, what: &str) {
    let leaf = files.page(node::child(&files.page(files.meta().root.get()), 0).get());
    let store = files.open();
    let mut results = (0..node::count(&leaf)).map(|slot| store.delete(node::key(&leaf, slot)));
    let error = results.find_map(wal::Result::err).unwrap_or_else(|| panic!("{what}: it is merged"));
    assert!(error.is_corruption(), "{what}: {error}");
}

#[test]
fn a_leaf_is_merged_with_no_page_of_another_kind_or_level() {
    let files = Files::filled();
    let root = files.meta().root;
    let neighbour = node::child(&files.page(root.get()), 1).get();
    on_a_copy(&files, |files| {
        files.edit(neighbour, call_free);
        nobody_merges_with_the_neighbour(files, "the neighbour is called a free page");
    });
    on_a_copy(&files, |files| {
        files.edit(root.get(), |bytes| {
            let cell = node::branch_cell(node::key(bytes, 0), root);
            assert!(node::replace(bytes, 0, &cell), "it fits");
        });
        nobody_merges_with_the_neighbour(files, "the neighbour is a branch");
    });
}

#[test]
fn a_tree_that_has_branches_is_not_empty_whatever_keys_they_have() {
    let files = Files::filled();
    files.edit(files.meta().root.get(), |bytes| assert!(node::remove_range(bytes, 0, node::count(bytes))));
    let store = files.open();
    let before = store.iter().count();
    assert!(before > 0, "one leaf is left");
    let error = store.bulk_load([("a", "1")]).expect_err("there are keys");
    assert_eq!(error.kind(), wal::ErrorKind::Refused, "{error}");
    assert_eq!(store.iter().count(), before);
}
