//! Two who use the pool at the same time, one put into the middle of what the other does.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread::{scope, yield_now};
use std::time::{Duration, Instant};

use wal::LogId;
use wal::fs::FileSystem;
use wal::fs::durable::LogDir;
use wal::fs::sim::SimFs;

use super::*;
use crate::museum::Bugs;

/// Long enough for a thread that does not wait to be done.
const MOMENT: Duration = Duration::from_millis(200);

/// Waits for what another thread is about to do.
fn wait_for(what: impl Fn() -> bool) {
    let started = Instant::now();
    while !what() {
        assert!(started.elapsed() < Duration::from_secs(20), "it does not come");
        yield_now();
    }
}

/// While `look` looks for a page, which it has found and waits for, another page comes into the frame. Returns what it got.
fn while_the_page_leaves(look: impl Fn(&Pool, PageId) -> Option<PageId> + Sync) -> Option<PageId> {
    let ((pool, id), other) = (pool_with_dirty_page(100), PageId::new(9));
    pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
    pool.end_flush(id, None);
    scope(|scope| {
        let PageWrite { frame, mut page, .. } = pool.write(id).expect("it is in the pool");
        let (found, elsewhere) = (pool.hint(id).load(Ordering::Relaxed), 2);
        assert!(std::ptr::eq(frame, &pool.frames[found as usize]) && found != elsewhere);
        // Whoever finds a page in the table notes where, so the note tells that it has looked there.
        pool.hint(id).store(elsewhere, Ordering::Relaxed);
        let looks = scope.spawn(|| look(&pool, id));
        wait_for(|| pool.hint(id).load(Ordering::Relaxed) == found);
        pool.shard(id).lock().remove(&id.get());
        page.id = PageId::NONE;
        let (page, is_new) = pool.place(other, EmptyFrame { index: found, page });
        assert!(is_new);
        drop(page);
        looks.join().expect("no panic")
    })
}

#[test]
fn whoever_waits_for_a_page_that_leaves_its_frame_does_not_get_the_one_that_comes_there() {
    let read = while_the_page_leaves(|pool, id| pool.read(id).map(|latched| latched.page.id));
    assert_eq!(read, None, "to read");
    let flushed = while_the_page_leaves(|pool, id| {
        let latched = pool.read_to_flush(id, true).expect("it waits");
        latched.map(|latched| latched.page.id)
    });
    assert_eq!(flushed, None, "to flush");
    let written = while_the_page_leaves(|pool, id| pool.write(id).map(|latched| latched.page.id));
    assert_eq!(written, None, "to write");
}

#[test]
fn a_page_that_was_changed_since_it_was_chosen_is_not_evicted() {
    let (pool, id) = pool_with_dirty_page(100);
    let index = pool.hint(id).load(Ordering::Relaxed) as usize;
    pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
    pool.end_flush(id, None);
    // Chosen here, because it is clean.
    pool.write(id).expect("it is in the pool").changed(Lsn::new(200), false);
    assert!(pool.evict(index).is_none());
    assert_eq!(pool.dirty_table(Lsn::new(300)), [(id, Lsn::new(200))]);
}

#[test]
fn a_frame_without_a_page_is_not_taken_from_who_has_it() {
    let (pool, id) = pool_with_dirty_page(100);
    scope(|scope| {
        let latch = pool.write(id).expect("it is in the pool");
        let others: Vec<EmptyFrame<'_>> = (0..2).map(|_| pool.take_frame().expect("a free frame")).collect();
        // The page is in the pool, so the frame is not needed; until the page can be latched it is neither latched nor free.
        let places = scope.spawn(|| {
            let empty = pool.take_frame().expect("a free frame");
            pool.place(id, empty).1
        });
        let has_no_page = |frame: &Frame| frame.page.try_read().is_some_and(|page| page.id == PageId::NONE);
        wait_for(|| pool.free.lock().is_empty() && pool.frames.iter().any(has_no_page));
        assert!(pool.take_frame().is_none(), "it is in the hands of who gives it back");
        drop(latch);
        assert!(!places.join().expect("no panic"), "the page was there");
        drop(others);
        assert!(pool.take_frame().is_some(), "it was given back");
    });
}

#[test]
fn a_page_is_not_said_to_be_in_the_file_or_not_while_it_is_being_changed() {
    let (pool, id) = pool_with_dirty_page(100);
    let rec_lsn = pool.read(id).expect("it is in the pool").begin_flush(&pool, None);
    scope(|scope| {
        let mut latch = pool.write(id).expect("it is in the pool");
        let (tell, told) = channel();
        let pool = &pool;
        scope.spawn(move || {
            pool.end_flush(id, Some(rec_lsn));
            tell.send(()).unwrap_or_default();
        });
        assert_eq!(told.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
        latch.changed(Lsn::new(300), false);
        drop(latch);
        told.recv().expect("it is done afterwards");
    });
    assert_eq!((pool.dirty_table(Lsn::new(200)), pool.dirty()), (vec![(id, Lsn::new(100))], 1));
}

#[test]
fn the_dirty_table_waits_for_a_page_with_which_the_flusher_is_halfway() {
    let (pool, id) = pool_with_dirty_page(100);
    scope(|scope| {
        let page = pool.read(id).expect("it is in the pool");
        let (tell, told) = channel();
        let pool = &pool;
        scope.spawn(move || tell.send(pool.dirty_table(Lsn::new(200))).unwrap_or_default());
        assert_eq!(told.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
        page.begin_flush(pool, None);
        drop(page);
        assert_eq!(told.recv().expect("it comes"), [(id, Lsn::new(200))], "its write may fail");
    });
}

#[test]
fn a_page_is_found_under_its_own_number_whatever_was_found_in_the_same_way_before() {
    let (pool, id) = pool_with_dirty_page(100);
    let other = PageId::new(id.get() + pool.hints.len() as u64);
    assert!(std::ptr::eq(pool.hint(id), pool.hint(other)));
    let (mut page, is_new) = pool.place(other, pool.take_frame().expect("a free frame"));
    assert!(is_new);
    crate::page::node::format_node(page.bytes_mut(), other, 0, PageId::NONE);
    drop(page);
    for wanted in [id, other, id] {
        let found = pool.read(wanted).map(|page| crate::page::id(page.bytes()));
        assert_eq!(found, Some(wanted), "to read");
    }
    for wanted in [other, id, other] {
        let found = pool.write(wanted).map(|page| crate::page::id(page.bytes()));
        assert_eq!(found, Some(wanted), "to write");
    }
}

#[test]
fn a_page_that_came_into_the_pool_meanwhile_is_not_read_again_over_its_changes() {
    let (pool, id) = pool_with_dirty_page(100);
    let (fs, store) = (SimFs::new(1), LogId::new([7; 16]));
    fs.create_dir("/store".as_ref()).expect("a directory");
    let dir = LogDir::open(&fs, "/store".as_ref()).expect("the directory is there");
    let mut older: Vec<Vec<u8>> = (0..=id.get()).map(|_| vec![0; pool.page_bytes()]).collect();
    crate::page::node::format_node(&mut older[id.get() as usize], id, 0, PageId::NONE);
    PageFile::create(&dir, store, &mut older).expect("a page file");
    let file = PageFile::open(&dir, store, pool.page_bytes(), Bugs::default()).expect("it opens").expect("it is there");
    // Whoever missed the page took a frame for it. Meanwhile somebody else read it, and changed it.
    let empty = pool.take_frame().expect("a free frame");
    pool.load(id, empty, &file).expect("it is in the pool");
    let page = pool.read(id).expect("it is in the pool");
    assert_eq!((crate::page::lsn(page.bytes()), pool.counts().0), (Lsn::new(100), 0));
    assert_eq!(pool.free.lock().len(), 3, "the frame was given back");
}
