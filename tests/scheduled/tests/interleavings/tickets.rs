//! Tickets, callbacks, futures and subscriptions: each is told once, in time, and the truth.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use wal_scheduled::{Config, ErrorKind, Lsn, SyncMode};
use wal_scheduler::{Condvar, Mutex, now, pick};

use crate::disk::Disk;
use crate::world::{
    BATCH, DELAY, Told, check_crash, config, explorer, finish, inline, is_on_disk, open, payload, spawn, template,
    writer,
};

/// Longer than any execution.
const LONG: Duration = Duration::from_secs(3000);

#[derive(Default)]
struct Alarm {
    rings: Mutex<bool>,
    rang: Condvar,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        *self.rings.lock() = true;
        self.rang.notify_all();
    }
}

/// Runs a future that nobody but its waker wakes.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    loop {
        // A new waker each time: only the last one counts.
        let alarm = Arc::new(Alarm::default());
        let waker = Waker::from(Arc::clone(&alarm));
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let mut rings = alarm.rings.lock();
        while !*rings {
            alarm.rang.wait(&mut rings);
        }
    }
}

/// How a ticket is waited for.
#[derive(Clone, Copy)]
enum How {
    Wait,
    Timeout,
    Future,
    Dropped,
}

fn tickets_race(name: &str, config: Config, hows: [How; 3]) {
    let template = template(&config);
    explorer(name).check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let told = Told::default();
        let tasks: Vec<_> = (0..3u8)
            .map(|number| {
                let (log, disk, told) = (log.clone(), Arc::clone(&disk), told.clone());
                spawn("submitter", move || {
                    let payload = payload(number, 0, 100);
                    let ticket = log.submit(&payload).expect("it is taken");
                    let lsn = ticket.lsn();
                    let outcome = match hows[usize::from(number)] {
                        How::Wait => ticket.wait(),
                        How::Timeout => ticket.wait_timeout(LONG),
                        How::Future => block_on(ticket),
                        How::Dropped => {
                            drop(ticket);
                            log.wait_durable(lsn).map(|_| lsn)
                        }
                    };
                    assert_eq!(outcome.expect("nothing fails"), lsn);
                    if log.config().sync_mode == SyncMode::Sync {
                        assert!(is_on_disk(&disk.sim, lsn, &payload), "the ticket is done, and a crash would lose it");
                    }
                    told.acknowledge(lsn, payload);
                })
            })
            .collect();
        tasks.into_iter().for_each(finish);
        log.close().expect("it closes");
        assert_eq!(told.len(), 3);
        check_crash(&disk.sim, &config, &told);
    });
}

#[test]
fn every_ticket_is_done_however_it_is_waited_for() {
    tickets_race("tickets", config(SyncMode::Sync), [How::Wait, How::Future, How::Dropped]);
    tickets_race("tickets, timed", config(SyncMode::Sync), [How::Timeout, How::Wait, How::Future]);
    tickets_race("tickets, none", config(SyncMode::None), [How::Timeout, How::Future, How::Dropped]);
}

#[test]
fn without_background_threads_whoever_waits_does_the_work() {
    tickets_race("tickets, inline", inline(SyncMode::Sync), [How::Wait, How::Timeout, How::Dropped]);
}

#[test]
fn a_ticket_that_is_dropped_stays_appended_and_the_others_are_done() {
    tickets_race("dropped tickets", config(SyncMode::Sync), [How::Dropped, How::Dropped, How::Wait]);
}

#[test]
fn a_future_that_is_given_up_takes_nothing_with_it() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("future given up").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let other = log.clone();
        let quitter = spawn("quitter", move || {
            let mut ticket = other.submit(&payload(0, 0, 100)).expect("it is taken");
            let waker = Waker::from(Arc::new(Alarm::default()));
            let polled = pin!(&mut ticket).poll(&mut Context::from_waker(&waker));
            drop(polled);
            ticket.lsn()
        });
        let told = Told::default();
        let task = writer(&log, &disk, &told, 1, 2, 100);
        let lsn = finish(quitter);
        finish(task).expect("nothing fails");
        log.flush().expect("it works");
        assert!(is_on_disk(&disk.sim, lsn, &payload(0, 0, 100)), "the record stays although nobody waits for it");
        log.close().expect("it closes");
    });
}

#[test]
fn callbacks_run_once_each_and_after_their_record_is_durable() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("callbacks").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let called: Arc<Mutex<Vec<Lsn>>> = Arc::default();
        let tasks: Vec<_> = (0..2u8)
            .map(|number| {
                let (log, disk, called) = (log.clone(), Arc::clone(&disk), Arc::clone(&called));
                spawn("submitter", move || {
                    for record in 0..2 {
                        let payload = payload(number, record, 100);
                        let ticket = log.submit(&payload).expect("it is taken");
                        let (disk, called) = (Arc::clone(&disk), Arc::clone(&called));
                        ticket.on_complete(move |outcome| {
                            let lsn = outcome.expect("nothing fails");
                            assert!(is_on_disk(&disk.sim, lsn, &payload), "called before its record is durable");
                            called.lock().push(lsn);
                        });
                    }
                })
            })
            .collect();
        tasks.into_iter().for_each(finish);
        if pick(2) == 1 {
            log.flush().expect("it works");
        }
        log.close().expect("it closes");
        let called = called.lock();
        assert_eq!(called.len(), 4, "each callback runs once");
    });
}

#[test]
fn callbacks_of_one_submitter_run_in_lsn_order() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("callback order").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let called: Arc<Mutex<Vec<Lsn>>> = Arc::default();
        let told = Told::default();
        let other = writer(&log, &disk, &told, 1, 2, 100);
        for record in 0..3 {
            let ticket = log.submit(&payload(0, record, 100)).expect("it is taken");
            let called = Arc::clone(&called);
            ticket.on_complete(move |outcome| called.lock().push(outcome.expect("nothing fails")));
        }
        finish(other).expect("nothing fails");
        log.close().expect("it closes");
        let called = called.lock();
        assert!(called.len() == 3 && called.is_sorted(), "{called:?}");
    });
}

#[test]
fn a_subscriber_sees_the_last_durable_lsn_without_asking_again() {
    for is_async in [false, true] {
        let config = config(SyncMode::Sync);
        let template = template(&config);
        explorer(if is_async { "subscription, async" } else { "subscription" }).check(move || {
            let disk = Disk::new(template.kill());
            let log = open(&disk, &config);
            let end = Lsn::new(log.next_lsn().get() + 4 * (24 + 104));
            let mut last = log.durable_lsn();
            let mut subscription = log.subscribe();
            let subscriber = spawn("subscriber", move || {
                while last < end {
                    let next = if is_async { block_on(subscription.changed()) } else { subscription.recv() };
                    let next = next.expect("the log is open");
                    assert!(next > last, "the durable LSN only grows");
                    last = next;
                }
            });
            let told = Told::default();
            let tasks: Vec<_> = (0..2).map(|number| writer(&log, &disk, &told, number, 2, 104)).collect();
            tasks.into_iter().for_each(|task| finish(task).expect("nothing fails"));
            finish(subscriber);
            log.close().expect("it closes");
        });
    }
}

#[test]
fn a_follower_sees_the_last_record_although_none_comes_after_it() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("follower").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let mut follower = log.follow(log.next_lsn()).expect("from the end");
        let follower = spawn("follower", move || {
            (0..3).for_each(|_| drop(follower.next_record().expect("the log is open")));
        });
        let told = Told::default();
        finish(writer(&log, &disk, &told, 0, 3, 104)).expect("nothing fails");
        finish(follower);
        log.close().expect("it closes");
    });
}

#[test]
fn a_batch_is_synced_in_time_although_nobody_asks() {
    let config = config(BATCH);
    let template = template(&config);
    explorer("batch delay").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let mut subscription = log.subscribe();
        let lsn = log.append(&payload(0, 0, 100)).expect("nothing fails");
        let written = now();
        let durable = subscription.recv().expect("the log is open");
        assert!(durable > lsn && is_on_disk(&disk.sim, lsn, &payload(0, 0, 100)));
        assert!(now() - written <= DELAY + Duration::from_millis(5), "{:?}", now() - written);
        log.close().expect("it closes");
    });
}

/// The rule of a page file: a page goes to the disk once the log is durable through its LSN.
#[test]
fn who_waits_for_the_lsn_of_a_page_never_writes_a_page_ahead_of_the_log() {
    for mode in [SyncMode::None, BATCH, SyncMode::Sync] {
        let config = config(mode);
        let template = template(&config);
        explorer("page LSN").check(move || {
            let disk = Disk::new(template.kill());
            let log = open(&disk, &config);
            let tasks: Vec<_> = (0..3u8)
                .map(|number| {
                    let (log, disk) = (log.clone(), Arc::clone(&disk));
                    spawn("page writer", move || {
                        let payload = payload(number, 0, 200);
                        let lsn = log.append(&payload).expect("nothing fails");
                        let durable = match pick(3) {
                            0 => log.wait_durable(lsn),
                            1 => log.flush(),
                            _ => log.wait_durable_timeout(lsn, LONG),
                        };
                        assert!(durable.expect("nothing fails") > lsn);
                        assert!(is_on_disk(&disk.sim, lsn, &payload), "the page would be ahead of the log");
                    })
                })
                .collect();
            tasks.into_iter().for_each(finish);
            log.close().expect("it closes");
        });
    }
}

#[test]
fn a_ticket_whose_time_passes_may_be_waited_for_again() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("timeout").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let ticket = log.submit(&payload(0, 0, 100)).expect("it is taken");
        match ticket.wait_timeout(Duration::ZERO) {
            Ok(_) => assert!(is_on_disk(&disk.sim, ticket.lsn(), &payload(0, 0, 100))),
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut),
        }
        ticket.wait().expect("nothing fails");
        log.close().expect("it closes");
    });
}

#[test]
fn a_subscription_that_is_polled_by_one_and_then_by_another_wakes_the_other() {
    let config = config(SyncMode::Sync);
    let template = template(&config);
    explorer("subscription, handed on").check(move || {
        let disk = Disk::new(template.kill());
        let log = open(&disk, &config);
        let mut subscription = log.subscribe();
        let subscriber = spawn("subscriber", move || {
            let mut changed = pin!(subscription.changed());
            let first = changed.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            let durable = match first {
                Poll::Ready(durable) => durable,
                Poll::Pending => block_on(changed),
            };
            durable.expect("the log is open")
        });
        let lsn = log.append(&payload(0, 0, 100)).expect("nothing fails");
        assert!(finish(subscriber) > lsn);
        log.close().expect("it closes");
    });
}
