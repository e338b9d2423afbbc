//! Tickets: promises to acknowledge a submitted record.

use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wal::{AppendOptions, Background, Batch, Config, Durability, Lsn, Result, SyncMode, Ticket};

use crate::world::{LONG, World, block_on, lazy_batch, lsns, modes, payload, payloads, small, small_with};

on_both_file_systems! {
    a_ticket_can_be_waited_for,
    a_ticket_can_be_waited_for_with_a_timeout,
    a_ticket_can_be_awaited_without_a_runtime,
    many_tickets_can_be_awaited_in_any_order,
    a_ticket_can_be_looked_at,
    a_ticket_says_how_safe_its_record_will_be,
    a_ticket_that_asks_for_more_is_done_when_its_record_is_durable,
    the_ticket_of_a_batch_has_the_lsn_of_the_last_record,
    callbacks_run_in_lsn_order,
    a_callback_that_is_given_late_runs_too,
    a_callback_may_use_the_log,
    a_callback_that_panics_does_not_stop_the_others,
    a_dropped_ticket_does_not_unappend_its_record,
    a_cancelled_await_does_not_unappend_its_record,
    ten_thousand_tickets_may_be_in_flight,
    tickets_nobody_waits_for_are_driven_by_the_background,
    without_a_background_poll_drives_tickets_and_callbacks,
    without_a_background_a_ticket_can_be_waited_for,
    closing_acknowledges_what_is_in_flight,
}

fn submit(log: &wal::Wal, count: usize) -> Vec<Ticket> {
    (0..count).map(|number| log.submit(&payload(number, 100)).unwrap()).collect()
}

fn a_ticket_can_be_waited_for(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let tickets = submit(&log, 60);
        for ticket in &tickets {
            assert_eq!(ticket.wait().unwrap(), ticket.lsn());
            let mark = if mode == SyncMode::Sync { log.durable_lsn() } else { log.written_lsn() };
            assert!(mark >= ticket.end());
            assert_eq!(ticket.wait().unwrap(), ticket.lsn(), "a second wait says the same");
        }
        log.close().unwrap();
    }
}

fn a_ticket_can_be_waited_for_with_a_timeout(world: &World) {
    let log = world.open(small());
    for ticket in submit(&log, 10) {
        assert_eq!(ticket.wait_timeout(LONG).unwrap(), ticket.lsn());
        assert_eq!(ticket.wait_timeout(Duration::ZERO).unwrap(), ticket.lsn());
    }
    log.close().unwrap();
}

fn a_ticket_can_be_awaited_without_a_runtime(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        for number in 0..20 {
            let ticket = log.submit(&payload(number, 300)).unwrap();
            let lsn = ticket.lsn();
            assert_eq!(block_on(ticket).unwrap(), lsn);
        }
        log.close().unwrap();
    }
}

fn many_tickets_can_be_awaited_in_any_order(world: &World) {
    let log = world.open(small());
    let mut tickets = submit(&log, 40);
    tickets.reverse();
    block_on(async {
        for ticket in tickets {
            let lsn = ticket.lsn();
            assert_eq!(ticket.await.unwrap(), lsn);
        }
    });
    log.close().unwrap();
}

fn a_ticket_can_be_looked_at(world: &World) {
    let log = world.open(Config { background: Background::Inline, ..small() });
    let ticket = log.submit(b"record").unwrap();
    assert!(ticket.outcome().is_none(), "nobody has written it yet");
    log.poll().unwrap();
    assert_eq!(ticket.outcome().unwrap().unwrap(), Lsn::FIRST);
    log.close().unwrap();
}

fn a_ticket_says_how_safe_its_record_will_be(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let own = if mode == SyncMode::Sync { Durability::Durable } else { Durability::Written };
        assert_eq!(log.submit(b"one").unwrap().durability(), own);
        for durability in [Durability::Written, Durability::Durable] {
            let ticket = log.submit_with(b"two", AppendOptions::new().durability(durability)).unwrap();
            assert_eq!(ticket.durability(), durability);
        }
        log.close().unwrap();
    }
}

fn a_ticket_that_asks_for_more_is_done_when_its_record_is_durable(world: &World) {
    for mode in [lazy_batch(), SyncMode::None] {
        let log = world.open(small_with(mode));
        let ticket = log.submit_with(b"record", AppendOptions::new().durability(Durability::Durable)).unwrap();
        ticket.wait().unwrap();
        assert!(log.durable_lsn() >= ticket.end());
        let ticket = log.submit_with(b"record", AppendOptions::new().durability(Durability::Durable)).unwrap();
        let end = ticket.end();
        block_on(ticket).unwrap();
        assert!(log.durable_lsn() >= end);
        log.close().unwrap();
    }
}

fn the_ticket_of_a_batch_has_the_lsn_of_the_last_record(world: &World) {
    let log = world.open(small());
    let mut batch = Batch::new();
    batch.push(b"one").push(b"two").push(b"three");
    let ticket = log.submit_all(&batch, AppendOptions::new()).unwrap();
    ticket.wait().unwrap();
    assert_eq!(lsns(&log).last(), Some(&ticket.lsn()));
    assert_eq!(log.durable_lsn(), ticket.end());
    log.close().unwrap();
}

/// Where callbacks leave what they were told.
type Told = Arc<Mutex<Vec<Result<Lsn>>>>;

fn call_back(told: &Told, ticket: Ticket) {
    let told = Arc::clone(told);
    ticket.on_complete(move |outcome| told.lock().unwrap().push(outcome));
}

fn callbacks_run_in_lsn_order(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        let told = Told::default();
        let tickets = submit(&log, 100);
        let expected: Vec<Lsn> = tickets.iter().map(Ticket::lsn).collect();
        for ticket in tickets {
            call_back(&told, ticket);
        }
        log.close().unwrap();
        let told: Vec<Lsn> = told.lock().unwrap().drain(..).map(Result::unwrap).collect();
        assert_eq!(told, expected, "all have run before the close returns");
    }
}

fn a_callback_that_is_given_late_runs_too(world: &World) {
    let log = world.open(small());
    let early = log.submit(b"acknowledged before").unwrap();
    let late = log.submit(b"acknowledged before too").unwrap();
    late.wait().unwrap();
    let (sender, receiver) = mpsc::channel();
    let lsn = early.lsn();
    early.on_complete(move |outcome| sender.send(outcome).unwrap());
    assert_eq!(receiver.recv().unwrap().unwrap(), lsn);
    log.close().unwrap();
    let told = Told::default();
    call_back(&told, late);
    assert_eq!(told.lock().unwrap().len(), 1, "even when the log is closed");
}

fn a_callback_may_use_the_log(world: &World) {
    let log = world.open(small());
    let (sender, receiver) = mpsc::channel();
    let in_callback = log.clone();
    log.submit(b"first").unwrap().on_complete(move |outcome| {
        let lsn = outcome.unwrap();
        let payload = in_callback.read(lsn).unwrap().payload;
        let next = in_callback.append(b"second").unwrap();
        sender.send((payload, next, in_callback.durable_lsn())).unwrap();
    });
    let (payload, next, durable) = receiver.recv().unwrap();
    assert_eq!(payload, b"first");
    assert!(durable > next);
    assert_eq!(payloads(&log), [&b"first"[..], b"second"]);
    log.close().unwrap();
}

fn a_callback_that_panics_does_not_stop_the_others(world: &World) {
    let log = world.open(small());
    let (sender, receiver) = mpsc::channel();
    log.submit(b"first").unwrap().on_complete(|_| std::panic::resume_unwind(Box::new("a bug of the user")));
    log.submit(b"second").unwrap().on_complete(move |outcome| sender.send(outcome).unwrap());
    receiver.recv().unwrap().unwrap();
    log.append(b"third").unwrap();
    log.close().unwrap();
}

fn a_dropped_ticket_does_not_unappend_its_record(world: &World) {
    for mode in modes() {
        let log = world.open(small_with(mode));
        drop(log.submit(b"dropped").unwrap());
        log.append(b"kept").unwrap();
        log.flush().unwrap();
        let found = payloads(&log);
        assert_eq!(found[found.len() - 2..], [&b"dropped"[..], b"kept"]);
        log.close().unwrap();
    }
}

fn a_cancelled_await_does_not_unappend_its_record(world: &World) {
    let log = world.open(Config { background: Background::Inline, ..small() });
    let mut ticket = log.submit(b"cancelled").unwrap();
    let polled = block_on(std::future::poll_fn(|context| {
        std::task::Poll::Ready(std::pin::Pin::new(&mut ticket).poll(context).is_pending())
    }));
    assert!(polled);
    drop(ticket);
    log.poll().unwrap();
    assert_eq!(payloads(&log), [b"cancelled"]);
    log.close().unwrap();
}

fn ten_thousand_tickets_may_be_in_flight(world: &World) {
    let log = world.open(Config { segment_bytes_max: 1 << 20, ..Config::default() });
    let tickets: Vec<Ticket> = (0..10_000).map(|number| log.submit(&payload(number, 40)).unwrap()).collect();
    assert!(tickets.windows(2).all(|pair| pair[0].lsn() < pair[1].lsn()));
    assert_eq!(tickets[9_999].wait().unwrap(), tickets[9_999].lsn());
    for (number, ticket) in tickets.iter().enumerate() {
        assert_eq!(ticket.outcome().expect("all before it are done").unwrap(), ticket.lsn(), "record {number}");
    }
    let found = payloads(&log);
    assert_eq!(found.len(), 10_000);
    assert!(found.iter().enumerate().all(|(number, found)| *found == payload(number, 40)));
    log.close().unwrap();
}

fn tickets_nobody_waits_for_are_driven_by_the_background(world: &World) {
    let log = world.open(small());
    let mut subscription = log.subscribe();
    let end = submit(&log, 100).last().unwrap().end();
    while subscription.recv().unwrap() < end {}
    assert_eq!(payloads(&log).len(), 100);
    log.close().unwrap();
}

fn without_a_background_poll_drives_tickets_and_callbacks(world: &World) {
    let log = world.open(Config { background: Background::Inline, ..small() });
    let told = Told::default();
    for ticket in submit(&log, 20) {
        call_back(&told, ticket);
    }
    assert!(told.lock().unwrap().is_empty());
    assert!(payloads(&log).is_empty());
    log.poll().unwrap();
    assert_eq!(told.lock().unwrap().len(), 20);
    assert_eq!(payloads(&log).len(), 20);
    log.close().unwrap();
}

fn without_a_background_a_ticket_can_be_waited_for(world: &World) {
    let log = world.open(Config { background: Background::Inline, ..small() });
    let tickets = submit(&log, 20);
    tickets[5].wait().unwrap();
    tickets[19].wait_timeout(LONG).unwrap();
    assert_eq!(payloads(&log).len(), 20);
    log.close().unwrap();
}

fn closing_acknowledges_what_is_in_flight(world: &World) {
    for background in [Background::Threads, Background::Inline] {
        let log = world.open(Config { background, ..small() });
        let tickets = submit(&log, 50);
        log.close().unwrap();
        assert!(tickets.iter().all(|ticket| ticket.outcome().unwrap().unwrap() == ticket.lsn()));
        assert!(tickets.iter().all(|ticket| ticket.wait().unwrap() == ticket.lsn()));
        assert!(tickets.into_iter().all(|ticket| block_on(ticket).is_ok()));
    }
}
