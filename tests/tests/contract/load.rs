//! Many threads, back-pressure, rotation, recycling.

use wal::{Background, Config, LogReader, Lsn, SyncMode, Ticket, Wal};

use crate::world::{World, lazy_batch, modes, payload, payloads, records, small, small_with};

on_both_file_systems! {
    threads_that_append_lose_nothing_and_keep_their_order,
    threads_that_append_batches_never_see_them_interleaved,
    threads_that_append_without_a_background_are_served,
    threads_with_tickets_appends_and_flushes_are_all_served,
    appends_wait_when_the_queue_is_full,
    a_record_larger_than_the_queue_is_appended_all_the_same,
    without_a_background_submits_wait_by_writing,
    the_log_rotates_when_a_segment_is_full,
    a_log_that_stays_small_has_one_segment,
    a_log_that_grows_finds_its_next_segment_prepared,
    a_record_is_never_split,
    files_of_removed_segments_are_used_again,
    nothing_is_recycled_if_that_is_off,
    a_reader_keeps_its_segment_from_being_recycled,
}

/// Bytes of a segment that direct I/O fills in sixteen steps.
const LARGE: u64 = 4 << 20;

fn text(thread: usize, number: usize) -> Vec<u8> {
    format!("{thread} {number} {}", "x".repeat(number % 97)).into_bytes()
}

/// Thread and number of a record that [`text`] made.
fn parse(payload: &[u8]) -> (usize, usize) {
    let text = std::str::from_utf8(payload).unwrap();
    let mut words = text.split(' ');
    let mut word = || words.next().unwrap().parse().unwrap();
    let parsed = (word(), word());
    assert_eq!(payload, self::text(parsed.0, parsed.1));
    parsed
}

#[track_caller]
fn check_complete(found: &[Vec<u8>], threads: usize, each: usize) {
    let mut next = vec![0; threads];
    for payload in found {
        let (thread, number) = parse(payload);
        assert_eq!(number, next[thread], "thread {thread} is out of order");
        next[thread] += 1;
    }
    assert_eq!(next, vec![each; threads]);
}

fn append_from_threads(log: &Wal, threads: usize, each: usize) {
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                let mut last = Lsn::ZERO;
                for number in 0..each {
                    let lsn = log.append(&text(thread, number)).unwrap();
                    assert!(lsn > last);
                    last = lsn;
                }
            });
        }
    });
}

fn threads_that_append_lose_nothing_and_keep_their_order(world: &World) {
    for (round, mode) in modes().into_iter().enumerate() {
        let log = world.open(small_with(mode));
        let start = log.next_lsn();
        append_from_threads(&log, 8, 100);
        log.flush().unwrap();
        let found: Vec<_> = log.reader(start).unwrap().map(|record| record.unwrap().payload).collect();
        check_complete(&found, 8, 100);
        log.close().unwrap();
        assert_eq!(world.read_files().0.len(), (round + 1) * 800);
    }
}

fn threads_that_append_batches_never_see_them_interleaved(world: &World) {
    let log = world.open(small());
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let log = &log;
            scope.spawn(move || {
                for number in 0..20 {
                    let parts: Vec<Vec<u8>> = (0..5).map(|part| text(thread, number * 5 + part)).collect();
                    log.append_batch(&parts).unwrap();
                }
            });
        }
    });
    let found = payloads(&log);
    for batch in found.chunks(5) {
        let (thread, first) = parse(&batch[0]);
        let parts: Vec<_> = batch.iter().map(|payload| parse(payload)).collect();
        assert_eq!(parts, (0..5).map(|part| (thread, first + part)).collect::<Vec<_>>());
    }
    check_complete(&found, 6, 100);
    log.close().unwrap();
}

fn threads_that_append_without_a_background_are_served(world: &World) {
    for mode in modes() {
        let log = world.open(Config { background: Background::Inline, ..small_with(mode) });
        let start = log.next_lsn();
        append_from_threads(&log, 6, 60);
        log.flush().unwrap();
        let found: Vec<_> = log.reader(start).unwrap().map(|record| record.unwrap().payload).collect();
        check_complete(&found, 6, 60);
        log.close().unwrap();
    }
}

fn threads_with_tickets_appends_and_flushes_are_all_served(world: &World) {
    let log = world.open(small_with(lazy_batch()));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let mut tickets = Vec::new();
                for number in 0..100 {
                    match (thread + number) % 4 {
                        0 => drop(log.append(&text(thread, number)).unwrap()),
                        1 => tickets.push(log.submit(&text(thread, number)).unwrap()),
                        2 => drop(log.submit(&text(thread, number)).unwrap()),
                        _ => {
                            let lsn = log.append(&text(thread, number)).unwrap();
                            assert!(log.wait_durable(lsn).unwrap() > lsn);
                        }
                    }
                }
                assert!(tickets.iter().all(|ticket| ticket.wait().is_ok()));
            });
        }
    });
    log.flush().unwrap();
    check_complete(&payloads(&log), 4, 100);
    log.close().unwrap();
}

fn tiny_queue() -> Config {
    Config { queue_bytes_max: 64 << 10, segment_bytes_max: 256 << 10, group_bytes_max: 4 << 10, ..Config::default() }
}

fn appends_wait_when_the_queue_is_full(world: &World) {
    let log = world.open(tiny_queue());
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let log = &log;
            scope.spawn(move || {
                let tickets: Vec<Ticket> =
                    (0..100).map(|number| log.submit(&payload(thread * 100 + number, 5000)).unwrap()).collect();
                assert!(tickets.iter().all(|ticket| ticket.wait().is_ok()));
            });
        }
    });
    assert_eq!(records(&log).len(), 400, "none of them failed");
    log.close().unwrap();
}

fn a_record_larger_than_the_queue_is_appended_all_the_same(world: &World) {
    let log = world.open(tiny_queue());
    let large: Vec<Ticket> = (0..4).map(|number| log.submit(&payload(number, 100_000)).unwrap()).collect();
    assert!(large.iter().all(|ticket| ticket.wait().is_ok()));
    assert_eq!(payloads(&log), (0..4).map(|number| payload(number, 100_000)).collect::<Vec<_>>());
    log.close().unwrap();
}

fn without_a_background_submits_wait_by_writing(world: &World) {
    let log = world.open(Config { background: Background::Inline, ..tiny_queue() });
    for number in 0..100 {
        drop(log.submit(&payload(number, 5000)).unwrap());
        let waiting = log.next_lsn().distance_from(log.written_lsn());
        assert!(waiting <= 64 << 10, "{waiting} bytes wait");
    }
    log.close().unwrap();
    assert_eq!(world.read_files().0.len(), 100);
}

fn the_log_rotates_when_a_segment_is_full(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let before = log.stats();
        for number in 0..20 {
            log.append(&payload(number, 2000)).unwrap();
        }
        log.flush().unwrap();
        let after = log.stats();
        assert!(after.rotations >= 9 && after.segments >= before.segments + 9, "{after:?}");
        log.close().unwrap();
    }
    assert!(world.segments().len() >= 28);
    let (found, end) = world.read_files();
    assert!(end.is_none());
    assert!(found.windows(2).all(|pair| pair[0].segment <= pair[1].segment && pair[0].lsn < pair[1].lsn));
    assert_eq!(found.len(), 60);
}

/// A log with threads of its own, in segments that are filled in several steps.
fn with_large_segments(world: &World) -> Wal {
    world.open(Config { background: Background::Threads, segment_bytes_max: LARGE, ..Config::default() })
}

/// Appends until so many bytes of a large segment are used.
fn use_up(log: &Wal, bytes: u64) {
    let start = log.next_lsn().get();
    while log.next_lsn().get() - start < bytes {
        log.append(&[7; 32 << 10]).unwrap();
    }
}

fn a_log_that_stays_small_has_one_segment(world: &World) {
    let log = with_large_segments(world);
    use_up(&log, LARGE / 16);
    let segments = world.files().into_keys().filter(|name| name.ends_with(".wal")).count();
    assert_eq!((segments, log.stats().segments_prepared), (1, 0));
    log.close().unwrap();
}

fn a_log_that_grows_finds_its_next_segment_prepared(world: &World) {
    let log = with_large_segments(world);
    use_up(&log, LARGE * 3 / 4);
    // All of the preparation is due, so it goes on without another append. The watchdog ends a wait for one that does not.
    while log.stats().segments_prepared == 0 {
        std::thread::yield_now();
    }
    assert_eq!(log.stats().rotations, 0);
    log.close().unwrap();
}

fn a_record_is_never_split(world: &World) {
    let log = world.open(small());
    for number in 0..12 {
        log.append(&payload(number, 2100)).unwrap();
    }
    let segments: Vec<u64> = records(&log).iter().map(|record| record.segment).collect();
    assert_eq!(segments, (1..=12).collect::<Vec<u64>>(), "two of these do not fit one segment");
    log.close().unwrap();
}

fn files_of_removed_segments_are_used_again(world: &World) {
    let log = world.open(Config { background: Background::Inline, recycle_segments_max: 3, ..small() });
    for round in 0..10 {
        let lsns: Vec<Lsn> = (0..10).map(|number| log.append(&payload(round * 10 + number, 2000)).unwrap()).collect();
        log.truncate_before(lsns[9]).unwrap();
        assert!(world.names().iter().filter(|name| name.ends_with(".recycle")).count() <= 3);
        assert_eq!(payloads(&log), [payload(round * 10 + 9, 2000)], "nothing stale is shown");
    }
    assert!(log.stats().segments_recycled >= 9, "{:?}", log.stats());
    log.close().unwrap();
    assert!(!world.names().iter().any(|name| name.ends_with(".recycle")));
    assert_eq!(world.read_files().0.len(), 1);
}

fn nothing_is_recycled_if_that_is_off(world: &World) {
    let log = world.open(Config { recycle_segments_max: 0, sync_mode: SyncMode::None, ..small() });
    let last = (0..20).map(|number| log.append(&payload(number, 2000)).unwrap()).next_back().unwrap();
    log.flush().unwrap();
    log.truncate_before(last).unwrap();
    assert!(!world.names().iter().any(|name| name.ends_with(".recycle")));
    log.append(&payload(1, 4000)).unwrap();
    log.append(&payload(1, 4000)).unwrap();
    assert_eq!(log.stats().segments_recycled, 0);
    log.close().unwrap();
}

fn a_reader_keeps_its_segment_from_being_recycled(world: &World) {
    let log = world.open(Config { background: Background::Inline, recycle_segments_max: 8, ..small() });
    for number in 0..8 {
        log.append(&payload(number, 900)).unwrap();
    }
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    assert_eq!(reader.next_record().unwrap().unwrap().payload, payload(0, 900));
    log.truncate_before(log.durable_lsn()).unwrap();
    for number in 100..140 {
        log.append(&payload(number, 900)).unwrap();
    }
    loop {
        match reader.next_record() {
            Ok(Some(record)) => assert!((1..8).any(|number| record.payload == payload(number, 900)), "a stale reader"),
            Ok(None) => panic!("a reader that lost its records must say so"),
            Err(error) => break assert_eq!(error.kind(), wal::ErrorKind::Truncated, "{error}"),
        }
    }
    log.close().unwrap();
    let reader: LogReader = world.log_reader();
    assert_eq!(reader.reader(Lsn::ZERO).unwrap().count(), 40);
}
