//! `truncate_before`: what is gone, what stays, what is refused.

use wal::{Boundary, ErrorKind, LogReader, Lsn, Record, SyncMode, TruncatePolicy, Wal};

use crate::world::{World, fill, kind, lsns, modes, payload, payloads, records, small, small_with, still};

on_both_file_systems! {
    no_record_before_the_lsn_is_returned,
    the_boundary_segment_is_rewritten_so_that_not_one_byte_stays,
    whole_segments_are_dropped_without_copying,
    a_truncation_at_the_base_of_a_segment_copies_nothing,
    a_truncation_at_the_durable_end_removes_all_records,
    an_empty_log_can_be_truncated_at_its_end,
    a_truncation_inside_the_last_record_removes_it,
    a_truncation_between_two_records_keeps_the_second,
    a_truncation_before_the_start_changes_nothing,
    a_truncation_can_be_repeated,
    truncations_at_every_record_one_after_the_other,
    a_truncation_past_the_durable_lsn_is_refused,
    a_truncation_past_the_declared_checkpoint_is_refused,
    the_declared_checkpoint_survives_a_reopen_and_never_moves_back,
    a_checkpoint_past_the_durable_lsn_is_refused,
    a_truncation_past_the_oldest_hold_is_refused,
    a_hold_that_advances_or_is_dropped_lets_the_truncation_pass,
    a_hold_before_the_start_is_refused,
    holds_are_listed_oldest_first_and_may_share_a_name,
    a_truncated_log_is_read_from_its_files_too,
    a_truncation_that_changed_nothing_in_its_policy_says_so,
    a_truncation_in_the_active_segment_lets_appends_go_on,
    truncation_works_in_every_mode,
    a_boundary_that_is_copied_in_many_steps_keeps_every_record,
}

#[track_caller]
fn expect_from(world: &World, log: &Wal, expected: &[Record]) {
    assert_eq!(records(log), moved(log, expected));
    log.close().unwrap();
    let (found, end) = world.read_files();
    assert!(end.is_none(), "{end:?}");
    assert_eq!(found.iter().map(|record| record.lsn).collect::<Vec<_>>(), expected_lsns(expected));
    let log = world.open(small());
    assert_eq!(records(&log), moved(&log, expected));
    log.close().unwrap();
}

fn expected_lsns(expected: &[Record]) -> Vec<Lsn> {
    expected.iter().map(|record| record.lsn).collect()
}

/// A record keeps its LSN, type and payload; the number of its segment is where it is now.
fn moved(log: &Wal, expected: &[Record]) -> Vec<Record> {
    let mut expected = expected.to_vec();
    for record in &mut expected {
        record.segment = log.read(record.lsn).unwrap().segment;
    }
    expected
}

fn no_record_before_the_lsn_is_returned(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 50);
    let all = records(&log);
    let done = log.truncate_before(lsns[30]).unwrap();
    assert_eq!((done.start_lsn, log.start_lsn()), (lsns[30], lsns[30]));
    assert_eq!(done.end_lsn, log.durable_lsn());
    assert!(done.segments_removed >= 2);
    for lsn in &lsns[..30] {
        assert_eq!(kind(log.read(*lsn)), ErrorKind::Truncated);
        assert_eq!(kind(log.reader(*lsn)), ErrorKind::Truncated);
        assert_eq!(kind(log.follow(*lsn)), ErrorKind::Truncated);
    }
    expect_from(world, &log, &all[30..]);
}

fn the_boundary_segment_is_rewritten_so_that_not_one_byte_stays(world: &World) {
    let log = world.open(wal::Config { recycle_segments_max: 0, ..still() });
    let secret = b"a secret that must be gone".repeat(4);
    log.append(&secret).unwrap();
    let keep = log.append(&payload(1, 300)).unwrap();
    fill(&log, 30);
    let done = log.truncate_before(keep).unwrap();
    assert_eq!(done.boundary, Boundary::Rewritten);
    assert!(done.bytes_freed > 0);
    let shows = |bytes: &[u8]| bytes.windows(secret.len()).any(|window| window == secret);
    assert!(!world.files().values().any(|bytes| shows(bytes)));
    assert_eq!(lsns(&log)[0], keep);
    log.close().unwrap();
}

fn whole_segments_are_dropped_without_copying(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 50);
    let all = records(&log);
    let target = all[30].segment;
    let first = all.iter().position(|record| record.segment == target).unwrap();
    let boundary = world.read(&format!("{target:016x}.wal"));
    let done = log.truncate_before_with(lsns[30], TruncatePolicy::WholeSegments).unwrap();
    assert_eq!((done.start_lsn, done.boundary), (lsns[first], Boundary::Untouched));
    assert_eq!(done.segments_removed, target - 1);
    assert!(first < 30 && boundary == world.read(&format!("{target:016x}.wal")));
    expect_from(world, &log, &all[first..]);
}

fn a_truncation_at_the_base_of_a_segment_copies_nothing(world: &World) {
    for policy in [TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments] {
        let log = world.open(small());
        fill(&log, 40);
        let all = records(&log);
        let last = all.last().unwrap().segment;
        let first = all.iter().position(|record| record.segment == last).unwrap();
        let done = log.truncate_before_with(all[first].lsn, policy).unwrap();
        assert_eq!((done.start_lsn, done.boundary), (all[first].lsn, Boundary::Untouched));
        expect_from(world, &log, &all[first..]);
    }
}

fn a_truncation_at_the_durable_end_removes_all_records(world: &World) {
    for policy in [TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments] {
        let log = world.open(small());
        fill(&log, 40);
        let end = log.durable_lsn();
        let done = log.truncate_before_with(end, policy).unwrap();
        if policy == TruncatePolicy::RewriteBoundary {
            assert_eq!(done.start_lsn, end);
            assert!(records(&log).is_empty());
        }
        let lsn = log.append(b"next").unwrap();
        assert!(lsn >= end);
        assert_eq!(lsns(&log).last(), Some(&lsn));
        let rest = records(&log);
        expect_from(world, &log, &rest);
    }
}

fn an_empty_log_can_be_truncated_at_its_end(world: &World) {
    let log = world.open(small());
    assert_eq!(log.truncate_before(Lsn::FIRST).unwrap().start_lsn, Lsn::FIRST);
    assert_eq!(kind(log.truncate_before(Lsn::new(4104))), ErrorKind::Refused);
    assert_eq!(log.append(b"first").unwrap(), Lsn::FIRST);
    log.close().unwrap();
}

fn a_truncation_inside_the_last_record_removes_it(world: &World) {
    let log = world.open(small());
    let lsns_before = fill(&log, 3);
    let inside = Lsn::new(lsns_before[2].get() + 16);
    let done = log.truncate_before(inside).unwrap();
    assert_eq!(done.start_lsn, log.durable_lsn());
    assert!(records(&log).is_empty());
    let lsn = log.append(b"next").unwrap();
    assert!(lsn > inside);
    let all = records(&log);
    assert_eq!(all.len(), 1);
    expect_from(world, &log, &all);
}

fn a_truncation_between_two_records_keeps_the_second(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 30);
    let all = records(&log);
    for (step, at) in [(3, 1), (9, 8), (20, 300)] {
        let between = Lsn::new(lsns[step].get() + at);
        assert_eq!(log.truncate_before(between).unwrap().start_lsn, lsns[step + 1]);
    }
    expect_from(world, &log, &all[21..]);
}

fn a_truncation_before_the_start_changes_nothing(world: &World) {
    let log = world.open(still());
    let lsns = fill(&log, 30);
    log.truncate_before(lsns[20]).unwrap();
    let before = world.files();
    for lsn in [Lsn::ZERO, Lsn::new(1), lsns[0], lsns[19], lsns[20]] {
        for policy in [TruncatePolicy::RewriteBoundary, TruncatePolicy::WholeSegments] {
            let done = log.truncate_before_with(lsn, policy).unwrap();
            assert_eq!((done.start_lsn, done.segments_removed, done.bytes_freed), (lsns[20], 0, 0));
        }
    }
    assert!(before == world.files());
    log.close().unwrap();
}

fn a_truncation_can_be_repeated(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 60);
    let all = records(&log);
    for step in [5, 6, 6, 25, 40, 41, 59] {
        log.truncate_before(lsns[step]).unwrap();
        assert_eq!(expected_lsns(&records(&log)), lsns[step..]);
    }
    expect_from(world, &log, &all[59..]);
}

fn truncations_at_every_record_one_after_the_other(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 40);
    for step in 0..40 {
        log.truncate_before(lsns[step]).unwrap();
        assert_eq!(expected_lsns(&records(&log)), lsns[step..], "after the truncation at record {step}");
    }
    log.close().unwrap();
}

fn a_truncation_past_the_durable_lsn_is_refused(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let lsns = fill(&log, 5);
    assert_eq!(kind(log.truncate_before(lsns[3])), ErrorKind::Refused);
    let durable = log.flush().unwrap();
    assert_eq!(kind(log.truncate_before(Lsn::new(durable.get() + 8))), ErrorKind::Refused);
    assert_eq!(records(&log).len(), 5, "nothing was changed");
    assert_eq!(log.truncate_before(lsns[3]).unwrap().start_lsn, lsns[3]);
    log.close().unwrap();
}

fn a_truncation_past_the_declared_checkpoint_is_refused(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 30);
    log.declare_checkpoint(lsns[15]).unwrap();
    let error = log.truncate_before(lsns[16]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("checkpoint"), "{error}");
    assert_eq!(records(&log).len(), 30);
    assert_eq!(log.truncate_before(lsns[15]).unwrap().start_lsn, lsns[15]);
    log.close().unwrap();
}

fn the_declared_checkpoint_survives_a_reopen_and_never_moves_back(world: &World) {
    let log = world.open(small());
    assert_eq!(log.checkpoint_lsn(), None);
    let lsns = fill(&log, 10);
    log.declare_checkpoint(lsns[5]).unwrap();
    log.declare_checkpoint(lsns[3]).unwrap();
    assert_eq!(log.checkpoint_lsn(), Some(lsns[5]));
    log.close().unwrap();
    let log = world.open(small());
    assert_eq!(log.checkpoint_lsn(), Some(lsns[5]));
    assert_eq!(kind(log.truncate_before(lsns[6])), ErrorKind::Refused);
    log.declare_checkpoint(lsns[6]).unwrap();
    log.truncate_before(lsns[6]).unwrap();
    log.close().unwrap();
}

fn a_checkpoint_past_the_durable_lsn_is_refused(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let lsns = fill(&log, 3);
    assert_eq!(kind(log.declare_checkpoint(lsns[1])), ErrorKind::Refused);
    log.flush().unwrap();
    log.declare_checkpoint(lsns[1]).unwrap();
    log.close().unwrap();
}

fn a_truncation_past_the_oldest_hold_is_refused(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 30);
    let _late = log.hold("backup", lsns[20]).unwrap();
    let _early = log.hold("replica of Anna", lsns[10]).unwrap();
    let error = log.truncate_before(lsns[11]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert!(error.to_string().contains("replica of Anna"), "{error}");
    assert_eq!(log.truncate_before(lsns[10]).unwrap().start_lsn, lsns[10]);
    log.close().unwrap();
}

fn a_hold_that_advances_or_is_dropped_lets_the_truncation_pass(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 30);
    let hold = log.hold("replica", lsns[5]).unwrap();
    hold.advance(lsns[10]);
    hold.advance(lsns[7]);
    assert_eq!(log.holds()[0].lsn, lsns[10], "it does not move back");
    log.truncate_before(lsns[10]).unwrap();
    assert_eq!(kind(log.truncate_before(lsns[20])), ErrorKind::Refused);
    drop(hold);
    log.truncate_before(lsns[20]).unwrap();
    assert!(log.holds().is_empty());
    log.close().unwrap();
}

fn a_hold_before_the_start_is_refused(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 10);
    log.truncate_before(lsns[5]).unwrap();
    assert_eq!(kind(log.hold("late", lsns[4])), ErrorKind::Truncated);
    assert!(log.holds().is_empty());
    drop(log.hold("in time", lsns[5]).unwrap());
    log.close().unwrap();
}

fn holds_are_listed_oldest_first_and_may_share_a_name(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 5);
    let holds: Vec<_> = [3, 1, 4].iter().map(|&at| log.hold("same", lsns[at]).unwrap()).collect();
    let listed: Vec<Lsn> = log.holds().iter().map(|hold| hold.lsn).collect();
    assert_eq!(listed, [lsns[1], lsns[3], lsns[4]]);
    assert!(log.holds().iter().all(|hold| hold.name == "same"));
    drop(holds);
    assert!(log.holds().is_empty());
    log.close().unwrap();
}

fn a_truncated_log_is_read_from_its_files_too(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 30);
    log.truncate_before(lsns[20]).unwrap();
    let reader: LogReader = world.log_reader();
    assert_eq!(reader.start_lsn(), lsns[20]);
    assert_eq!(kind(reader.reader(lsns[19])), ErrorKind::Truncated);
    assert_eq!(kind(reader.read(lsns[19])), ErrorKind::Truncated);
    assert_eq!(reader.read(lsns[20]).unwrap().payload, payload(20, 300));
    log.close().unwrap();
}

fn a_truncation_that_changed_nothing_in_its_policy_says_so(world: &World) {
    let log = world.open(small());
    let lsns = fill(&log, 5);
    let done = log.truncate_before_with(lsns[3], TruncatePolicy::WholeSegments).unwrap();
    assert_eq!((done.start_lsn, done.segments_removed, done.boundary), (lsns[0], 0, Boundary::Untouched));
    assert_eq!(done.next_lsn, log.next_lsn());
    assert_eq!(records(&log).len(), 5);
    log.close().unwrap();
}

fn a_truncation_in_the_active_segment_lets_appends_go_on(world: &World) {
    let log = world.open(small());
    let mut expected = Vec::new();
    for round in 0..10 {
        let lsns = fill(&log, 4);
        log.truncate_before(lsns[2]).unwrap();
        expected = vec![payload(2, 300), payload(3, 300)];
        assert_eq!(payloads(&log), expected, "round {round}");
    }
    log.close().unwrap();
    let log = world.open(small());
    assert_eq!(payloads(&log), expected);
    log.close().unwrap();
}

fn truncation_works_in_every_mode(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let lsns = fill(&log, 40);
        log.flush().unwrap();
        fill(&log, 3);
        assert_eq!(log.truncate_before(lsns[35]).unwrap().start_lsn, lsns[35]);
        log.flush().unwrap();
        assert_eq!(records(&log).len(), 8);
        log.truncate_before(log.durable_lsn()).unwrap();
        log.close().unwrap();
        assert!(world.read_files().0.is_empty());
    }
}

fn a_boundary_that_is_copied_in_many_steps_keeps_every_record(world: &World) {
    for direct_io in [true, false] {
        let config = wal::Config { segment_bytes_max: 512 << 10, direct_io, ..wal::Config::default() };
        let log = world.open(config.clone());
        for number in 0..1600 {
            log.append(&payload(number, 1 + number % 1500)).unwrap();
        }
        let all = records(&log);
        // Near the front of a segment, so that nearly all of it is copied.
        let boundary = all[0].segment + 1;
        let first = all.iter().position(|record| record.segment == boundary).unwrap() + 3;
        let done = log.truncate_before(all[first].lsn).unwrap();
        assert_eq!((done.start_lsn, done.boundary), (all[first].lsn, Boundary::Rewritten));
        log.append(b"appended afterwards").unwrap();
        let after = records(&log);
        assert_eq!(after.len(), all.len() - first + 1);
        assert_eq!(after[..after.len() - 1], all[first..]);
        log.close().unwrap();
        let log = world.open(config);
        assert_eq!(records(&log), after);
        log.truncate_before(log.durable_lsn()).unwrap();
        log.close().unwrap();
    }
}
