//! `truncate_after`: the end of the log is cut.

use wal::{Boundary, Config, ErrorKind, FoundState, Lsn, Wal};

use crate::world::{
    LONG, World, fill, kind, lazy_batch, lsns, modes, payload, payloads, records, small, small_with, still,
};

on_both_file_systems! {
    a_cut_removes_all_records_behind_the_lsn,
    a_cut_between_two_records_keeps_the_one_before,
    a_cut_behind_the_last_record_changes_nothing,
    no_lsn_of_what_was_cut_is_used_again,
    appends_after_a_cut_are_kept_by_a_reopen,
    several_cuts_one_after_the_other,
    a_cut_in_the_first_segment_of_many,
    a_cut_inside_a_batch_keeps_the_records_before,
    a_cut_before_the_start_is_refused,
    a_cut_before_the_checkpoint_is_refused,
    a_cut_after_a_truncation_and_a_truncation_after_a_cut,
    a_reader_behind_a_cut_is_told,
    a_reader_before_a_cut_reads_on_behind_it,
    a_follower_behind_a_cut_is_told_and_one_before_it_goes_on,
    an_lsn_in_the_gap_of_a_cut_is_no_record,
    a_cut_log_is_read_from_its_files_too,
    a_cut_works_in_every_mode,
}

#[track_caller]
fn reopened(world: &World, log: &Wal) -> Wal {
    let before = records(log);
    let next = log.next_lsn();
    log.close().unwrap();
    let (files, end) = world.read_files();
    assert!(end.is_none(), "{end:?}");
    assert_eq!(files, before);
    let log = world.open(small());
    assert_eq!(records(&log), before);
    assert!(log.next_lsn() >= next);
    log
}

fn a_cut_removes_all_records_behind_the_lsn(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 50);
    let next = log.next_lsn();
    let done = log.truncate_after(all[20]).unwrap();
    assert_eq!((done.end_lsn, done.boundary), (all[21], Boundary::Rewritten));
    assert!(done.segments_removed >= 2 && done.next_lsn >= next);
    assert_eq!(lsns(&log), all[..21]);
    for lsn in &all[21..] {
        assert_eq!(kind(log.read(*lsn)), ErrorKind::NotFound);
    }
    reopened(world, &log).close().unwrap();
}

fn a_cut_between_two_records_keeps_the_one_before(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    log.truncate_after(Lsn::new(all[20].get() + 17)).unwrap();
    assert_eq!(lsns(&log), all[..21]);
    log.truncate_after(Lsn::new(all[3].get() + 8)).unwrap();
    assert_eq!(lsns(&log), all[..4]);
    reopened(world, &log).close().unwrap();
}

fn a_cut_behind_the_last_record_changes_nothing(world: &World) {
    let log = world.open(still());
    let all = fill(&log, 30);
    let before = world.files();
    for lsn in [all[29], log.next_lsn(), Lsn::new(1 << 40)] {
        let done = log.truncate_after(lsn).unwrap();
        assert_eq!((done.segments_removed, done.boundary), (0, Boundary::Untouched));
    }
    assert!(before == world.files());
    assert_eq!(log.append(b"next").unwrap().distance_from(all[29]), 328);
    log.close().unwrap();
}

fn no_lsn_of_what_was_cut_is_used_again(world: &World) {
    let mut log = world.open(small());
    let mut highest = Lsn::ZERO;
    for round in 0..8 {
        let all = fill(&log, 15);
        assert!(all[0] > highest, "round {round}");
        highest = *all.last().unwrap();
        log.truncate_after(all[round]).unwrap();
        if round % 2 == 1 {
            log = reopened(world, &log);
        }
    }
    log.close().unwrap();
}

fn appends_after_a_cut_are_kept_by_a_reopen(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    log.truncate_after(all[9]).unwrap();
    let more = fill(&log, 30);
    let expected = [&all[..10], &more].concat();
    assert_eq!(lsns(&log), expected);
    let log = reopened(world, &log);
    assert_eq!(lsns(&log), expected);
    log.close().unwrap();
}

fn several_cuts_one_after_the_other(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 60);
    for keep in [59, 58, 40, 39, 11, 5, 0] {
        log.truncate_after(all[keep]).unwrap();
        assert_eq!(lsns(&log), all[..=keep], "after the cut at record {keep}");
    }
    let lsn = log.append(b"after all of them").unwrap();
    assert!(lsn > all[59]);
    assert_eq!(lsns(&log), [all[0], lsn]);
    reopened(world, &log).close().unwrap();
}

fn a_cut_in_the_first_segment_of_many(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 100);
    assert!(log.stats().segments >= 8);
    let done = log.truncate_after(all[0]).unwrap();
    assert!(done.segments_removed >= 7);
    assert_eq!(lsns(&log), all[..1]);
    reopened(world, &log).close().unwrap();
    assert_eq!(world.segments().len(), 2);
}

fn a_cut_inside_a_batch_keeps_the_records_before(world: &World) {
    let log = world.open(small());
    let batch = log.append_batch(&["one", "two", "three"]).unwrap();
    // The caller asked for the end of the log to be here, so a part of the batch may stay or all of it may go.
    log.truncate_after(batch.first).unwrap();
    let found = payloads(&log);
    assert!(found.is_empty() || found == [b"one"], "{found:?}");
    log.append(b"after").unwrap();
    let before = payloads(&log);
    log.close().unwrap();
    let log = world.open(small());
    assert_eq!(payloads(&log), before, "a reopen changes nothing");
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), before.len());
}

fn a_cut_before_the_start_is_refused(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 20);
    log.truncate_before(all[5]).unwrap();
    for lsn in [Lsn::ZERO, all[0], all[4]] {
        assert_eq!(kind(log.truncate_after(lsn)), ErrorKind::Refused);
    }
    assert_eq!(records(&log).len(), 15);
    log.truncate_after(all[5]).unwrap();
    assert_eq!(lsns(&log), all[5..6]);
    log.close().unwrap();
}

fn a_cut_before_the_checkpoint_is_refused(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 20);
    log.declare_checkpoint(all[10]).unwrap();
    assert_eq!(kind(log.truncate_after(all[9])), ErrorKind::Refused);
    log.truncate_after(all[10]).unwrap();
    assert_eq!(lsns(&log), all[..11]);
    log.close().unwrap();
}

fn a_cut_after_a_truncation_and_a_truncation_after_a_cut(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 60);
    log.truncate_before(all[10]).unwrap();
    log.truncate_after(all[40]).unwrap();
    log.truncate_before(all[20]).unwrap();
    let more = fill(&log, 20);
    log.truncate_after(more[10]).unwrap();
    let expected = [&all[20..41], &more[..11]].concat();
    assert_eq!(lsns(&log), expected);
    let log = reopened(world, &log);
    log.truncate_before(more[3]).unwrap();
    assert_eq!(lsns(&log), more[3..11]);
    log.truncate_before(log.durable_lsn()).unwrap();
    assert!(records(&log).is_empty());
    reopened(world, &log).close().unwrap();
}

fn a_reader_behind_a_cut_is_told(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    let mut at_end = log.reader(all[39]).unwrap();
    assert_eq!(at_end.next_record().unwrap().unwrap().lsn, all[39]);
    let mut behind = log.reader(all[30]).unwrap();
    assert_eq!(behind.next_record().unwrap().unwrap().lsn, all[30]);
    log.truncate_after(all[20]).unwrap();
    assert_eq!(kind(behind.next_record()), ErrorKind::Truncated);
    assert_eq!(kind(at_end.next_record()), ErrorKind::Truncated);
    let lsn = log.append(b"new").unwrap();
    assert_eq!(kind(behind.next_record()), ErrorKind::Truncated, "it stays where it is");
    assert_eq!(log.reader(lsn).unwrap().count(), 1);
    log.close().unwrap();
}

fn a_reader_before_a_cut_reads_on_behind_it(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().lsn, all[0]);
    log.truncate_after(all[20]).unwrap();
    let lsn = log.append(b"new").unwrap();
    for expected in all[1..=20].iter().chain([&lsn]) {
        assert_eq!(reader.next_record().unwrap().unwrap().lsn, *expected, "never a mixture");
    }
    assert!(reader.next_record().unwrap().is_none());
    log.close().unwrap();
}

fn a_follower_behind_a_cut_is_told_and_one_before_it_goes_on(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 10);
    let (mut before, mut behind) = (log.follow(all[5]).unwrap(), log.follow(all[8]).unwrap());
    let mut caught_up = log.follow(all[9]).unwrap();
    for follower in [&mut before, &mut behind, &mut caught_up] {
        follower.next_record().unwrap();
    }
    log.truncate_after(all[5]).unwrap();
    let lsn = log.append(b"new").unwrap();
    assert_eq!(before.next_timeout(LONG).unwrap().unwrap().lsn, lsn);
    assert_eq!(kind(behind.next_timeout(LONG)), ErrorKind::Truncated);
    assert_eq!(kind(caught_up.next_timeout(LONG)), ErrorKind::Truncated);
    log.close().unwrap();
}

fn an_lsn_in_the_gap_of_a_cut_is_no_record(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    log.truncate_after(all[5]).unwrap();
    let lsn = log.append(b"new").unwrap();
    for gone in [all[6], all[39]] {
        assert_eq!(kind(log.read(gone)), ErrorKind::NotFound);
    }
    log.close().unwrap();
    let reader = world.log_reader();
    assert_eq!(kind(reader.read(all[39])), ErrorKind::NotFound);
    assert_eq!(reader.read(lsn).unwrap().payload, b"new");
}

fn a_cut_log_is_read_from_its_files_too(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    log.truncate_after(all[25]).unwrap();
    let (found, end) = world.read_files();
    assert!(end.is_none(), "{end:?}");
    assert_eq!(found.iter().map(|record| record.lsn).collect::<Vec<_>>(), all[..26]);
    let lsn = log.append(b"new").unwrap();
    let (found, end) = world.read_files();
    assert!(end.is_none(), "{end:?}");
    assert_eq!(found.last().unwrap().lsn, lsn);
    log.close().unwrap();
}

fn a_cut_works_in_every_mode(world: &World) {
    let mut log = world.open(small());
    for mode in modes() {
        log.close().unwrap();
        log = world.open(small_with(mode));
        let all = fill(&log, 30);
        let before: Vec<Lsn> = lsns(&log).into_iter().filter(|lsn| *lsn < all[0]).collect();
        log.truncate_after(all[10]).unwrap();
        log.append(b"new").unwrap();
        log.flush().unwrap();
        assert_eq!(lsns(&log)[before.len()..before.len() + 11], all[..11]);
        assert_eq!(payloads(&log).last().unwrap(), b"new");
    }
    log.close().unwrap();
}

#[test]
fn a_cut_after_an_unclean_reopen_is_kept() {
    for mode in modes() {
        let mut world = World::simulated();
        let mut expected: Vec<Lsn> = Vec::new();
        for round in 0..5 {
            let log = world.open(Config { direct_io: round % 2 == 0, ..small_with(mode) });
            assert_eq!(lsns(&log), expected, "round {round}");
            let all = fill(&log, 25);
            assert!(expected.iter().all(|lsn| *lsn < all[0]));
            log.flush().unwrap();
            log.truncate_after(all[12]).unwrap();
            expected.extend(&all[..13]);
            if round > 0 {
                log.append(&payload(1, 2000)).unwrap();
                log.flush().unwrap();
                expected = lsns(&log);
            }
            world = World::on(world.sim().kill());
            let log_again = world.open(small_with(lazy_batch()));
            assert!(matches!(log_again.recovery_report().state, FoundState::Kept), "round {round}");
            assert_eq!(lsns(&log_again), expected);
            log_again.close().unwrap();
        }
    }
}

#[test]
fn several_cuts_after_unclean_reopens_without_appends_are_kept() {
    let mut world = World::simulated();
    let log = world.open(small());
    let all = fill(&log, 60);
    drop(log);
    for keep in [50, 49, 30, 14, 3, 0] {
        let log = world.open(small());
        log.truncate_after(all[keep]).unwrap();
        assert_eq!(lsns(&log), all[..=keep]);
        world = World::on(world.sim().kill());
    }
    let log = world.open(small());
    assert_eq!(lsns(&log), all[..1]);
    assert!(log.append(b"new").unwrap() > all[59]);
    log.close().unwrap();
}
