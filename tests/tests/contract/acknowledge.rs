//! Waiting for durability: `flush`, `wait_durable`, subscriptions.

use std::time::Duration;

use wal::{ErrorKind, Lsn, SyncMode};

use crate::world::{LONG, World, block_on, fill, kind, lazy_batch, modes, records, small_with};

on_both_file_systems! {
    flush_makes_all_that_was_appended_durable,
    flush_of_an_empty_log_returns_its_start,
    flush_covers_what_was_submitted,
    wait_durable_waits_for_one_record,
    wait_durable_asks_for_the_sync_if_nobody_else_has,
    wait_durable_with_a_timeout_asks_for_the_sync_too,
    wait_durable_of_a_durable_record_returns_at_once,
    an_lsn_that_was_not_handed_out_cannot_be_waited_for,
    a_durable_lsn_is_an_end,
    a_reader_ends_at_the_durable_lsn_and_goes_on_when_it_moved,
    a_subscription_tells_that_the_durable_lsn_moved,
    a_subscription_without_news_times_out,
    a_subscription_can_be_awaited_without_a_runtime,
    a_subscription_is_woken_from_another_thread,
    a_subscription_ends_when_the_log_is_closed,
    an_awaited_subscription_ends_when_the_log_is_closed,
    two_subscriptions_both_get_every_change,
}

fn flush_makes_all_that_was_appended_durable(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let last = *fill(&log, 30).last().unwrap();
        let durable = log.flush().unwrap();
        assert!(durable > last);
        assert_eq!((durable, durable), (log.durable_lsn(), log.written_lsn()));
        assert_eq!(log.flush().unwrap(), durable, "a second flush has nothing to do");
        log.close().unwrap();
    }
}

fn flush_of_an_empty_log_returns_its_start(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    assert_eq!(log.flush().unwrap(), Lsn::FIRST);
    log.close().unwrap();
}

fn flush_covers_what_was_submitted(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let tickets: Vec<_> = (0..50).map(|_| log.submit(&[7; 200]).unwrap()).collect();
        let durable = log.flush().unwrap();
        assert!(tickets.iter().all(|ticket| ticket.end() <= durable));
        assert!(tickets.iter().all(|ticket| ticket.outcome().unwrap().unwrap() == ticket.lsn()));
        log.close().unwrap();
    }
}

fn wait_durable_waits_for_one_record(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        for lsn in fill(&log, 5) {
            assert!(log.wait_durable(lsn).unwrap() > lsn);
            assert!(log.durable_lsn() > lsn);
        }
        log.close().unwrap();
    }
}

fn wait_durable_asks_for_the_sync_if_nobody_else_has(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let ticket = log.submit(b"in flight").unwrap();
    assert!(log.wait_durable(ticket.lsn()).unwrap() >= ticket.end());
    log.close().unwrap();
}

fn wait_durable_with_a_timeout_asks_for_the_sync_too(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let lsn = log.append(b"record").unwrap();
        assert!(log.wait_durable_timeout(lsn, LONG).unwrap() > lsn);
        log.close().unwrap();
    }
}

fn wait_durable_of_a_durable_record_returns_at_once(world: &World) {
    let log = world.open(small_with(SyncMode::Sync));
    let lsn = log.append(b"record").unwrap();
    assert_eq!(log.wait_durable_timeout(lsn, Duration::ZERO).unwrap(), log.durable_lsn());
    log.close().unwrap();
}

fn an_lsn_that_was_not_handed_out_cannot_be_waited_for(world: &World) {
    let log = world.open(small_with(lazy_batch()));
    assert_eq!(kind(log.wait_durable(Lsn::FIRST)), ErrorKind::Invalid);
    let lsn = log.append(b"record").unwrap();
    log.wait_durable(lsn).unwrap();
    for later in [log.next_lsn(), Lsn::new(1 << 50), Lsn::LIMIT, Lsn::new(u64::MAX)] {
        assert_eq!(kind(log.wait_durable(later)), ErrorKind::Invalid);
        assert_eq!(kind(log.wait_durable_timeout(later, LONG)), ErrorKind::Invalid);
    }
    log.close().unwrap();
}

fn a_durable_lsn_is_an_end(world: &World) {
    let log = world.open(small_with(SyncMode::Sync));
    assert_eq!(log.durable_lsn(), Lsn::FIRST, "no record is below it");
    let first = log.append(b"12345678").unwrap();
    assert_eq!(log.durable_lsn().distance_from(first), 32);
    assert_eq!(log.next_lsn(), log.durable_lsn());
    log.close().unwrap();
}

fn a_reader_ends_at_the_durable_lsn_and_goes_on_when_it_moved(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut reader = log.reader(Lsn::ZERO).unwrap();
    let lsns = fill(&log, 3);
    assert!(reader.next_record().unwrap().is_none());
    assert!(records(&log).is_empty(), "what is not durable is not shown");
    assert_eq!(kind(log.read(lsns[0])), ErrorKind::NotFound);
    log.flush().unwrap();
    for lsn in lsns {
        assert_eq!(reader.next_record().unwrap().unwrap().lsn, lsn);
    }
    assert!(reader.next_record().unwrap().is_none());
    log.close().unwrap();
}

fn a_subscription_tells_that_the_durable_lsn_moved(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut subscription = log.subscribe();
    fill(&log, 3);
    let durable = log.flush().unwrap();
    assert_eq!(subscription.recv().unwrap(), durable);
    assert_eq!(subscription.current(), durable);
    log.close().unwrap();
}

fn a_subscription_without_news_times_out(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    fill(&log, 1);
    log.flush().unwrap();
    let mut subscription = log.subscribe();
    assert_eq!(subscription.recv_timeout(Duration::from_millis(1)).unwrap(), None);
    fill(&log, 1);
    assert_eq!(subscription.recv_timeout(Duration::ZERO).unwrap(), None, "written is not durable");
    let durable = log.flush().unwrap();
    assert_eq!(subscription.recv_timeout(LONG).unwrap(), Some(durable));
    assert_eq!(subscription.recv_timeout(Duration::ZERO).unwrap(), None, "each change is told once");
    log.close().unwrap();
}

fn a_subscription_can_be_awaited_without_a_runtime(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut subscription = log.subscribe();
    for _ in 0..3 {
        fill(&log, 1);
        let durable = log.flush().unwrap();
        assert_eq!(block_on(subscription.changed()).unwrap(), durable);
    }
    log.close().unwrap();
}

fn a_subscription_is_woken_from_another_thread(world: &World) {
    let log = world.open(small_with(SyncMode::Sync));
    std::thread::scope(|scope| {
        let (mut blocking, mut awaiting) = (log.subscribe(), log.subscribe());
        let end = Lsn::FIRST.get() + 20 * 32;
        scope.spawn(move || while blocking.recv().unwrap().get() < end {});
        scope.spawn(move || while block_on(awaiting.changed()).unwrap().get() < end {});
        for _ in 0..20 {
            log.append(b"12345678").unwrap();
        }
    });
    log.close().unwrap();
}

fn a_subscription_ends_when_the_log_is_closed(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    fill(&log, 1);
    let mut subscription = log.subscribe();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| {
            let news = subscription.recv().unwrap();
            (news, kind(subscription.recv()), kind(subscription.recv_timeout(LONG)))
        });
        log.close().unwrap();
        assert_eq!(end.join().unwrap(), (log.durable_lsn(), ErrorKind::Closed, ErrorKind::Closed));
    });
}

fn an_awaited_subscription_ends_when_the_log_is_closed(world: &World) {
    let log = world.open(small_with(SyncMode::None));
    let mut subscription = log.subscribe();
    std::thread::scope(|scope| {
        let end = scope.spawn(|| kind(block_on(subscription.changed())));
        log.close().unwrap();
        assert_eq!(end.join().unwrap(), ErrorKind::Closed);
    });
}

fn two_subscriptions_both_get_every_change(world: &World) {
    let log = world.open(small_with(SyncMode::Sync));
    let (mut one, mut two) = (log.subscribe(), log.subscribe());
    for _ in 0..5 {
        log.append(b"record").unwrap();
        assert_eq!(one.recv().unwrap(), log.durable_lsn());
        assert_eq!(two.recv().unwrap(), log.durable_lsn());
    }
    log.close().unwrap();
}
