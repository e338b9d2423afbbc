//! Closing: what is left behind, and what a closed log answers.

use std::sync::mpsc;

use wal::{AppendOptions, Background, Config, ErrorKind, FoundState, Lsn, SyncMode, Wal};

use crate::world::{World, fill, kind, modes, payloads, records, small, small_with};

on_both_file_systems! {
    a_clean_close_leaves_exact_sizes_and_nothing_but_the_log,
    a_closed_empty_log_has_a_segment_of_a_header,
    closing_twice_is_closing_once,
    a_closed_log_says_so,
    dropping_the_last_clone_closes,
    dropping_one_of_two_clones_does_not_close,
    closing_from_a_callback_does_not_hang,
    dropping_the_last_clone_in_a_callback_does_not_hang,
    closing_from_many_threads_while_appending,
    closing_makes_everything_durable,
    a_ticket_keeps_the_answer_after_the_handle_is_gone,
}

fn a_clean_close_leaves_exact_sizes_and_nothing_but_the_log(world: &World) {
    let mut start = None;
    for mode in modes() {
        let log = world.open(Config { reserve_bytes: 16 << 10, ..small_with(mode) });
        let lsns = fill(&log, 40);
        log.flush().unwrap();
        log.truncate_before(lsns[10]).unwrap();
        let last = log.append(b"the last one").unwrap();
        log.close().unwrap();
        start = start.or(Some(lsns[10]));
        let names = world.names();
        let segments = world.segments();
        let others: Vec<&String> = names.iter().filter(|name| !segments.contains(name)).collect();
        assert_eq!(others, ["control", "lock", "reserve"]);
        assert_eq!((world.read("control").len(), world.read("lock").len()), (4096, 0));
        assert_eq!(world.read("reserve").len(), 16 << 10);
        let found = records(&log);
        let in_last = found.iter().filter(|record| record.segment == found.last().unwrap().segment);
        let base = in_last.map(|record| record.lsn).min().unwrap();
        let expected = 4096 + last.distance_from(base) + 24 + 16;
        assert_eq!(world.read(segments.last().unwrap()).len() as u64, expected);
    }
}

fn a_closed_empty_log_has_a_segment_of_a_header(world: &World) {
    world.open(small()).close().unwrap();
    assert_eq!(world.names(), ["0000000000000001.wal", "control", "lock", "reserve"]);
    assert_eq!(world.read("0000000000000001.wal").len(), 4096);
    let log = world.open(small());
    assert_eq!(log.recovery_report().state, FoundState::Clean);
    assert_eq!(log.append(b"first").unwrap(), Lsn::FIRST);
    log.close().unwrap();
}

fn closing_twice_is_closing_once(world: &World) {
    let log = world.open(small());
    let clone = log.clone();
    fill(&log, 5);
    log.close().unwrap();
    let before = world.files();
    log.close().unwrap();
    clone.close().unwrap();
    drop((log, clone));
    assert!(before == world.files());
}

fn a_closed_log_says_so(world: &World) {
    for background in [Background::Threads, Background::Inline] {
        let log = world.open(Config { background, ..small() });
        let lsns = fill(&log, 5);
        log.close().unwrap();
        assert_eq!(kind(log.append(b"late")), ErrorKind::Closed);
        assert_eq!(kind(log.append_batch(&[b"late"])), ErrorKind::Closed);
        assert_eq!(kind(log.append_with(b"late", AppendOptions::new().use_reserve())), ErrorKind::Closed);
        assert_eq!(kind(log.submit(b"late")), ErrorKind::Closed);
        assert_eq!(kind(log.truncate_before(lsns[2])), ErrorKind::Closed);
        assert_eq!(kind(log.truncate_after(lsns[2])), ErrorKind::Closed);
        assert_eq!(kind(log.declare_checkpoint(lsns[2])), ErrorKind::Closed);
        assert_eq!(kind(log.subscribe().recv()), ErrorKind::Closed);
        assert!(log.wait_durable(lsns[4]).is_ok(), "it is durable");
        assert_eq!(log.flush().unwrap(), log.durable_lsn(), "there is nothing to flush");
        assert_eq!(log.stats().durable_lsn, log.durable_lsn());
        log.poll().unwrap();
    }
}

fn dropping_the_last_clone_closes(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        fill(&log, 20);
        drop(log);
        let log = world.open(small());
        assert_eq!(log.recovery_report().state, FoundState::Clean);
        log.close().unwrap();
    }
    assert_eq!(world.read_files().0.len(), 60);
}

fn dropping_one_of_two_clones_does_not_close(world: &World) {
    let log = world.open(small());
    drop(log.clone());
    log.append(b"still open").unwrap();
    log.close().unwrap();
}

fn closing_from_a_callback_does_not_hang(world: &World) {
    for background in [Background::Threads, Background::Inline] {
        let log = world.open(Config { background, ..small() });
        let (sender, receiver) = mpsc::channel();
        let in_callback = log.clone();
        log.submit(b"record").unwrap().on_complete(move |outcome| {
            outcome.unwrap();
            sender.send(in_callback.close().map_err(|error| error.to_string())).unwrap();
        });
        log.poll().unwrap();
        receiver.recv().unwrap().unwrap();
        assert_eq!(kind(log.append(b"late")), ErrorKind::Closed);
        drop(log);
        let log = world.open(small());
        assert_eq!(log.recovery_report().state, FoundState::Clean);
        log.close().unwrap();
    }
}

fn dropping_the_last_clone_in_a_callback_does_not_hang(world: &World) {
    let log = world.open(small());
    let (sender, receiver) = mpsc::channel();
    let (ready, wait) = mpsc::channel::<()>();
    let in_callback = log.clone();
    log.submit(b"record").unwrap().on_complete(move |outcome| {
        outcome.unwrap();
        wait.recv().unwrap();
        drop(in_callback);
        sender.send(()).unwrap();
    });
    drop(log);
    ready.send(()).unwrap();
    receiver.recv().unwrap();
    let log: Wal = loop {
        // The thread that ran the callback may hold the log for a moment longer.
        match world.try_open(small()) {
            Ok(log) => break log,
            Err(error) => assert_eq!(error.kind(), ErrorKind::InUse),
        }
        std::thread::yield_now();
    };
    assert_eq!(payloads(&log), [b"record"]);
    log.close().unwrap();
}

fn closing_from_many_threads_while_appending(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let before = records(&log).len();
        let acknowledged: usize = std::thread::scope(|scope| {
            let appenders: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        let mut count = 0;
                        loop {
                            match log.append(&[1; 100]) {
                                Ok(_) => count += 1,
                                Err(error) => break assert_eq!(error.kind(), ErrorKind::Closed, "{error}"),
                            }
                        }
                        count
                    })
                })
                .collect();
            while log.next_lsn().distance_from(Lsn::FIRST) < 1000 * (before as u64 / 100 + 1) {
                std::thread::yield_now();
            }
            for _ in 0..2 {
                scope.spawn(|| log.close().unwrap());
            }
            appenders.into_iter().map(|appender| appender.join().unwrap()).sum()
        });
        log.close().unwrap();
        drop(log);
        assert_eq!(world.read_files().0.len(), before + acknowledged);
    }
}

fn closing_makes_everything_durable(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    fill(&log, 5);
    let end = log.next_lsn();
    log.close().unwrap();
    assert_eq!(log.durable_lsn(), end);
    assert_eq!(records(&log).len(), 5);
}

fn a_ticket_keeps_the_answer_after_the_handle_is_gone(world: &World) {
    let log = world.open(small());
    let ticket = log.submit(b"record").unwrap();
    log.close().unwrap();
    drop(log);
    assert_eq!(ticket.wait().unwrap(), Lsn::FIRST);
}
