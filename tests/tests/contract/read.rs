//! Reading: iterate, fetch one, follow, read the files from outside.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use wal::{Config, ErrorKind, LogReader, Lsn, Record, SyncMode};

use crate::world::{LONG, World, fill, kind, lsns, payload, read_on, records, small, small_with, still};

on_both_file_systems! {
    a_reader_starts_at_any_lsn,
    a_reader_of_the_files_starts_at_any_lsn,
    zero_stands_for_the_oldest_record,
    a_reader_at_the_end_has_nothing_to_read,
    a_reader_before_the_start_is_told,
    one_record_can_be_fetched,
    no_record_starts_between_two_records,
    an_lsn_past_the_durable_lsn_names_no_record,
    lent_records_and_owned_records_are_the_same,
    a_record_ends_where_the_next_one_starts,
    a_follower_reads_on_across_rotation,
    a_follower_gets_what_is_appended_meanwhile,
    a_follower_waits_no_longer_than_it_is_told,
    a_follower_ends_when_the_log_is_closed,
    a_follower_is_an_iterator_until_the_log_is_closed,
    a_reader_of_the_files_sees_a_log_that_is_being_written,
    a_reader_of_the_files_goes_on_while_the_log_is_written,
    a_reader_of_the_files_says_why_it_ended,
    a_reader_of_the_files_of_no_log_says_so,
    a_reader_of_the_files_never_changes_a_byte,
    a_live_reader_outlives_the_close,
}

fn check_all_starts(records: &[Record], end: Lsn, read_from: impl Fn(Lsn) -> Vec<Lsn>) {
    let all: Vec<Lsn> = records.iter().map(|record| record.lsn).collect();
    for from in (all[0].get()..end.get()).step_by(5) {
        let first = all.partition_point(|lsn| lsn.get() < from);
        assert_eq!(read_from(Lsn::new(from)), all[first..], "from LSN {from}");
    }
}

fn a_reader_starts_at_any_lsn(world: &World) {
    let log = world.open(small());
    for number in 0..30 {
        log.append(&payload(number, number * 37 % 500)).unwrap();
    }
    let read_from = |from| {
        let reader = log.reader(from).unwrap();
        reader.map(|record| record.unwrap().lsn).collect()
    };
    check_all_starts(&records(&log), log.durable_lsn(), read_from);
    log.close().unwrap();
}

fn a_reader_of_the_files_starts_at_any_lsn(world: &World) {
    let log = world.open(small());
    for number in 0..20 {
        log.append(&payload(number, number * 37 % 500)).unwrap();
    }
    let (all, end) = (records(&log), log.durable_lsn());
    log.close().unwrap();
    let reader = world.log_reader();
    check_all_starts(&all, end, |from| reader.reader(from).unwrap().map(|record| record.unwrap().lsn).collect());
}

fn zero_stands_for_the_oldest_record(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    log.truncate_before(all[20]).unwrap();
    assert_eq!(log.reader(Lsn::ZERO).unwrap().position_lsn(), all[20]);
    assert_eq!(lsns(&log), all[20..]);
    assert_eq!(log.follow(Lsn::ZERO).unwrap().next_record().unwrap().lsn, all[20]);
    log.close().unwrap();
}

fn a_reader_at_the_end_has_nothing_to_read(world: &World) {
    let log = world.open(small());
    fill(&log, 5);
    for past in [log.durable_lsn(), Lsn::new(log.durable_lsn().get() + 800)] {
        assert_eq!(log.reader(past).unwrap().count(), 0);
    }
    let mut reader = log.reader(log.durable_lsn()).unwrap();
    assert!(reader.next_record().unwrap().is_none());
    let lsn = log.append(b"next").unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().lsn, lsn);
    log.close().unwrap();
}

fn a_reader_before_the_start_is_told(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    log.truncate_before(all[20]).unwrap();
    for before in [Lsn::new(1), Lsn::new(8), all[0], all[19]] {
        let error = log.reader(before).unwrap_err();
        assert_eq!((error.kind(), error.lsn()), (ErrorKind::Truncated, Some(before)));
        assert_eq!(kind(log.read(before)), ErrorKind::Truncated);
    }
    log.close().unwrap();
}

fn one_record_can_be_fetched(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 40);
    for record in records(&log) {
        assert_eq!(log.read(record.lsn).unwrap(), record);
        assert_eq!(world.log_reader().read(record.lsn).unwrap(), record);
    }
    assert_eq!(log.read(all[33]).unwrap().payload, payload(33, 300));
    log.close().unwrap();
    for (number, lsn) in all.iter().enumerate() {
        assert_eq!(world.log_reader().read(*lsn).unwrap().payload, payload(number, 300));
    }
}

fn no_record_starts_between_two_records(world: &World) {
    let log = world.open(small());
    let all = fill(&log, 30);
    for lsn in [all[0], all[15], all[29]] {
        for at in [1, 7, 8, 24, 320] {
            let between = Lsn::new(lsn.get() + at);
            assert_eq!(kind(log.read(between)), ErrorKind::NotFound, "{between}");
            assert_eq!(kind(world.log_reader().read(between)), ErrorKind::NotFound, "{between}");
        }
    }
    log.close().unwrap();
}

fn an_lsn_past_the_durable_lsn_names_no_record(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let lsn = log.append(b"written").unwrap();
    for past in [lsn, log.next_lsn(), Lsn::new(1 << 50), Lsn::LIMIT] {
        assert_eq!(kind(log.read(past)), ErrorKind::NotFound);
    }
    log.flush().unwrap();
    assert_eq!(log.read(lsn).unwrap().payload, b"written");
    log.close().unwrap();
}

fn lent_records_and_owned_records_are_the_same(world: &World) {
    let log = world.open(small());
    fill(&log, 30);
    let (lent, end) = read_on(log.reader(Lsn::ZERO).unwrap());
    assert!(end.is_none());
    assert_eq!(lent, records(&log));
    log.close().unwrap();
}

fn a_record_ends_where_the_next_one_starts(world: &World) {
    let log = world.open(small());
    fill(&log, 30);
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    let mut end = log.start_lsn();
    while let Some(record) = reader.next_record().unwrap() {
        assert_eq!(record.lsn, end);
        assert!(record.witness <= record.lsn, "what was durable before it was written");
        end = record.end;
    }
    assert_eq!(end, log.durable_lsn());
    assert_eq!(reader.position_lsn(), end);
    log.close().unwrap();
}

fn a_follower_reads_on_across_rotation(world: &World) {
    let log = world.open(small());
    let mut follower = log.follow(Lsn::ZERO).unwrap();
    for number in 0..60 {
        let lsn = log.append(&payload(number, 700)).unwrap();
        let record = follower.next_record().unwrap();
        assert_eq!((record.lsn, record.payload), (lsn, payload(number, 700)));
        assert_eq!(follower.position_lsn(), log.durable_lsn());
    }
    assert!(log.stats().rotations > 8);
    log.close().unwrap();
}

fn a_follower_gets_what_is_appended_meanwhile(world: &World) {
    for mode in [SyncMode::Sync, SyncMode::BATCH_DEFAULT] {
        let log = world.open(small_with(mode));
        let from = log.next_lsn();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut follower = log.follow(from).unwrap();
                    for number in 0..200 {
                        assert_eq!(follower.next_record().unwrap().payload, payload(number, 150));
                    }
                });
            }
            for number in 0..200 {
                log.append(&payload(number, 150)).unwrap();
            }
        });
        log.close().unwrap();
    }
}

fn a_follower_waits_no_longer_than_it_is_told(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut follower = log.follow(Lsn::ZERO).unwrap();
    assert!(follower.next_timeout(Duration::from_millis(1)).unwrap().is_none());
    log.append(b"written").unwrap();
    assert!(follower.next_timeout(Duration::ZERO).unwrap().is_none(), "what is not durable is not shown");
    log.flush().unwrap();
    assert_eq!(follower.next_timeout(LONG).unwrap().unwrap().payload, b"written");
    log.close().unwrap();
}

fn a_follower_ends_when_the_log_is_closed(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut follower = log.follow(Lsn::ZERO).unwrap();
    log.append(b"last").unwrap();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| (follower.next_record().unwrap().payload, kind(follower.next_record())));
        log.close().unwrap();
        assert_eq!(end.join().unwrap(), (b"last".to_vec(), ErrorKind::Closed));
    });
    assert_eq!(kind(follower.next_timeout(LONG)), ErrorKind::Closed);
}

fn a_follower_is_an_iterator_until_the_log_is_closed(world: &World) {
    let log = world.open(small());
    fill(&log, 20);
    let follower = log.follow(Lsn::ZERO).unwrap();
    log.close().unwrap();
    let found: Vec<_> = follower.take(21).collect();
    assert_eq!(found.iter().filter(|record| record.is_ok()).count(), 20);
    assert_eq!(found[20].as_ref().unwrap_err().kind(), ErrorKind::Closed);
}

fn a_reader_of_the_files_sees_a_log_that_is_being_written(world: &World) {
    let log = world.open(small());
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reading = scope.spawn(|| {
            let mut most = 0;
            while !is_over.load(Ordering::SeqCst) {
                let durable = log.durable_lsn();
                let (found, end) = world.read_files();
                assert!(end.is_none(), "{end:?}");
                assert!(found.len() >= most, "{} after {most}", found.len());
                assert!(found.iter().enumerate().all(|(at, record)| record.payload == payload(at, 200)));
                assert!(found.last().map_or(Lsn::FIRST, |last| Lsn::new(last.lsn.get() + 224)) >= durable);
                most = found.len();
            }
        });
        for number in 0..300 {
            log.append(&payload(number, 200)).unwrap();
        }
        is_over.store(true, Ordering::SeqCst);
        reading.join().unwrap();
    });
    assert_eq!(world.read_files().0.len(), 300);
    log.close().unwrap();
}

fn a_reader_of_the_files_goes_on_while_the_log_is_written(world: &World) {
    let log = world.open(small());
    let mut lsn = Lsn::ZERO;
    for number in 0..40 {
        log.append(&payload(number, 500)).unwrap();
        let reader = world.log_reader().reader(lsn).unwrap();
        let found: Vec<Record> = reader.map(Result::unwrap).collect();
        assert_eq!(found.last().unwrap().payload, payload(number, 500));
        assert_eq!(found.len(), if number == 0 { 1 } else { 2 });
        lsn = found.last().unwrap().lsn;
    }
    log.close().unwrap();
}

fn a_reader_of_the_files_says_why_it_ended(world: &World) {
    let log = world.open(small());
    fill(&log, 20);
    let end = log.durable_lsn();
    for is_closed in [false, true] {
        if is_closed {
            log.close().unwrap();
        }
        let mut reader = world.log_reader().reader(Lsn::ZERO).unwrap();
        assert!(reader.end().is_none());
        while reader.next_record().unwrap().is_some() {}
        let found = reader.end().unwrap();
        assert_eq!((found.lsn, found.is_closed, found.cut), (end, is_closed, None));
        assert!(!is_closed || (found.witness_lsn == end && reader.witnessed_lsn() == end));
        assert!(reader.witnessed_lsn() <= end);
    }
}

fn a_reader_of_the_files_of_no_log_says_so(world: &World) {
    assert_eq!(kind(world.try_log_reader()), ErrorKind::NotFound);
    world.make_dir();
    assert_eq!(kind(world.try_log_reader()), ErrorKind::NotFound);
    assert!(world.names().is_empty());
}

fn a_reader_of_the_files_never_changes_a_byte(world: &World) {
    let log = world.open(still());
    fill(&log, 30);
    let before = world.files();
    assert_eq!(world.read_files().0.len(), 30);
    assert!(before == world.files());
    log.close().unwrap();
    let before = world.files();
    let reader: LogReader = world.log_reader();
    assert_eq!(reader.reader(Lsn::ZERO).unwrap().count(), 30);
    assert!(before == world.files());
}

fn a_live_reader_outlives_the_close(world: &World) {
    let log = world.open(Config { sync_mode: SyncMode::None, ..small() });
    fill(&log, 30);
    let reader = log.reader(Lsn::ZERO).unwrap();
    log.close().unwrap();
    assert_eq!(reader.map(Result::unwrap).count(), 30);
    assert_eq!(records(&log).len(), 30, "a closed log may still be read");
}
