//! The event count and the watermark by themselves, small enough that every interleaving with a few preemptions is tried.
//!
//! They are private to the log, so this compiles their files once more. Much of what they offer is not used here.
#![allow(dead_code, reason = "only a part of the modules is tested here")]

#[path = "../../../wal/src/error.rs"]
mod error;
#[path = "../../../wal/src/event.rs"]
mod event;
#[path = "../../../wal/src/lsn.rs"]
mod lsn;
#[path = "../../../wal/src/observe.rs"]
mod observe;
mod sync {
    pub(crate) use wal_scheduler::{Mutex, OnceLock, RwLock, atomic, thread};
}
#[path = "../../../wal/src/watermark.rs"]
mod watermark;

use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use error::{Error, ErrorKind, Result};
use event::Event;
use lsn::Lsn;
use sync::atomic::{AtomicBool, AtomicU32, Ordering};
use sync::thread;
use wal_scheduler::{Explorer, Report};
use watermark::{Action, Callback, Durability, Target, WakeSlot, Watermark};

const ORDER: Ordering = Ordering::SeqCst;
const START: Lsn = Lsn::new(4096);

fn explore(name: &str, preemptions: u32, test: impl Fn() + Send + Sync + 'static) -> Report {
    let report = Explorer::new(name).seeds(500).preemptions(preemptions, 100_000).check(test);
    assert!(report.is_exhaustive, "raise the limit: {report:?}");
    report
}

type Callbacks = crossbeam_channel::Receiver<(Callback, Result<()>)>;

fn watermark() -> (Arc<Watermark>, Arc<Event>, Callbacks) {
    let (sender, callbacks) = crossbeam_channel::unbounded();
    let background = Arc::new(Event::default());
    (Arc::new(Watermark::new(START, sender, Arc::clone(&background))), background, callbacks)
}

fn target(records: u64, durability: Durability) -> Target {
    Target { end: Lsn::new(START.get() + 8 * records), durability }
}

fn end(records: u64) -> Lsn {
    Lsn::new(START.get() + 8 * records)
}

/// Waits as a thread without the lead does.
fn wait(marks: &Watermark, target: Target) -> Result<()> {
    loop {
        let listener = marks.changed.listen();
        if let Some(outcome) = marks.outcome(target) {
            return outcome;
        }
        listener.wait(None);
    }
}

#[test]
fn no_wake_up_is_lost_between_the_look_and_the_sleep() {
    explore("event, all", 3, || {
        let shared = Arc::new((Event::default(), AtomicBool::new(false)));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    loop {
                        let listener = shared.0.listen();
                        if shared.1.load(ORDER) {
                            return;
                        }
                        listener.wait(None);
                    }
                })
            })
            .collect();
        shared.1.store(true, ORDER);
        shared.0.wake_all();
        waiters.into_iter().for_each(|waiter| waiter.join().expect("it does not panic"));
    });
}

#[test]
fn one_wake_up_for_each_of_two_waiters_wakes_both() {
    explore("event, one", 2, || {
        let shared = Arc::new((Event::default(), AtomicU32::new(0)));
        let waiters: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                // Each takes one of two things that are given, one wake-up each.
                thread::spawn(move || {
                    loop {
                        let listener = shared.0.listen();
                        let there = shared.1.load(ORDER);
                        if there > 0 && shared.1.compare_exchange(there, there - 1, ORDER, ORDER).is_ok() {
                            return;
                        }
                        if there == 0 {
                            listener.wait(None);
                        }
                    }
                })
            })
            .collect();
        for _ in 0..2 {
            shared.1.fetch_add(1, ORDER);
            shared.0.wake_one();
        }
        waiters.into_iter().for_each(|waiter| waiter.join().expect("it does not panic"));
    });
}

#[test]
fn a_wait_with_a_deadline_ends_without_a_wake_up() {
    explore("event, deadline", 2, || {
        let event = Event::default();
        event.listen().wait(Some(Instant::now() + Duration::from_secs(1)));
    });
}

#[test]
fn who_waits_for_a_mark_is_woken_and_durable_never_passes_written() {
    explore("marks", 2, || {
        let (marks, _, _) = watermark();
        let waiter = {
            let marks = Arc::clone(&marks);
            thread::spawn(move || {
                wait(&marks, target(2, Durability::Durable)).expect("it is reached");
                // Read in this order, because both only grow.
                let durable = marks.durable();
                assert!(durable <= marks.written() && durable >= end(2));
            })
        };
        marks.publish_written(end(2));
        marks.publish_durable(end(2));
        waiter.join().expect("it does not panic");
    });
}

/// A waker that counts.
#[derive(Default)]
struct Bell(AtomicU32, Event);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, ORDER);
        self.1.wake_all();
    }
}

#[test]
fn a_future_that_registers_while_the_mark_moves_is_woken() {
    explore("registration", 3, || {
        let (marks, _, _) = watermark();
        let future = {
            let marks = Arc::clone(&marks);
            thread::spawn(move || {
                let bell = Arc::new(Bell::default());
                let slot = Arc::new(WakeSlot::default());
                slot.set(&Waker::from(Arc::clone(&bell)));
                let target = target(1, Durability::Durable);
                marks.register(target, Action::Wake(slot));
                loop {
                    let listener = bell.1.listen();
                    if marks.outcome(target).is_some() {
                        return;
                    }
                    listener.wait(None);
                }
            })
        };
        marks.publish_written(end(1));
        marks.publish_durable(end(1));
        future.join().expect("it does not panic");
    });
}

#[test]
fn a_callback_that_is_registered_while_marks_move_is_handed_over_once_and_wakes_the_background() {
    explore("callbacks", 2, || {
        let (marks, background, callbacks) = watermark();
        let listener = background.listen();
        let registrars: Vec<_> = (1..=2)
            .map(|record| {
                let marks = Arc::clone(&marks);
                thread::spawn(move || {
                    let target = target(record, Durability::Written);
                    marks.register(target, Action::Call(Box::new(|outcome| outcome.expect("it is reached"))));
                })
            })
            .collect();
        marks.publish_written(end(1));
        marks.publish_written(end(2));
        registrars.into_iter().for_each(|registrar| registrar.join().expect("it does not panic"));
        // It was woken. If it was not, nobody comes to run them, and this waits for ever.
        listener.wait(None);
        let handed_over: Vec<_> = callbacks.try_iter().collect();
        assert_eq!(handed_over.len(), 2);
        handed_over.into_iter().for_each(|(callback, outcome)| callback(outcome));
    });
}

#[test]
fn poison_reaches_who_waits_and_never_takes_back_what_was_acknowledged() {
    explore("poison", 2, || {
        let (marks, _, callbacks) = watermark();
        let waiters: Vec<_> = (1..=2)
            .map(|record| {
                let marks = Arc::clone(&marks);
                thread::spawn(move || {
                    let target = target(record, Durability::Written);
                    let first = wait(&marks, target);
                    let second = marks.outcome(target).expect("it is decided");
                    assert_eq!(first.is_ok(), second.is_ok(), "an outcome is final");
                    first
                })
            })
            .collect();
        marks.register(target(2, Durability::Written), Action::Call(Box::new(|outcome| assert!(outcome.is_err()))));
        marks.publish_written(end(1));
        marks.set_poison(Error::new(ErrorKind::Io, "test", "the first"));
        marks.set_poison(Error::new(ErrorKind::Io, "test", "the second"));
        let outcomes: Vec<_> = waiters.into_iter().map(|waiter| waiter.join().expect("it does not panic")).collect();
        assert!(outcomes[0].is_ok(), "it was written");
        assert!(outcomes[1].as_ref().is_err_and(Error::is_poisoned));
        let (callback, outcome) = callbacks.try_recv().expect("it is handed over");
        callback(outcome);
    });
}

#[test]
fn a_mark_that_passes_a_refused_record_is_not_its_acknowledgement() {
    explore("refused", 3, || {
        let (marks, _, _) = watermark();
        let waiter = {
            let marks = Arc::clone(&marks);
            thread::spawn(move || wait(&marks, target(1, Durability::Written)))
        };
        // The disk is full for the first record; padding takes its place, and the second is written behind it.
        marks.fail_range(START, end(1), Error::new(ErrorKind::Full, "test", "full"));
        marks.publish_written(end(2));
        let outcome = waiter.join().expect("it does not panic");
        assert!(outcome.is_err_and(|error| error.is_full()), "it was refused, whatever the mark says");
        assert!(marks.outcome(Target { end: end(2), durability: Durability::Written }).is_some_and(|it| it.is_ok()));
    });
}

#[test]
fn a_close_wakes_every_future_however_late_it_registered() {
    explore("wake futures", 3, || {
        let (marks, _, _) = watermark();
        let is_closed = Arc::new(AtomicBool::new(false));
        let future = {
            let (marks, is_closed) = (Arc::clone(&marks), Arc::clone(&is_closed));
            thread::spawn(move || {
                let bell = Arc::new(Bell::default());
                let slot = Arc::new(WakeSlot::default());
                slot.set(&Waker::from(Arc::clone(&bell)));
                marks.register(target(1, Durability::Durable), Action::Wake(slot));
                // It looks whether the log is closed after it has registered: the close wakes who came before.
                loop {
                    let listener = bell.1.listen();
                    if is_closed.load(ORDER) {
                        return;
                    }
                    listener.wait(None);
                }
            })
        };
        is_closed.store(true, ORDER);
        marks.wake_futures();
        future.join().expect("it does not panic");
    });
}

#[test]
fn a_subscriber_is_told_what_became_durable_before_the_poison() {
    explore("durable past", 3, || {
        let (marks, _, _) = watermark();
        let subscriber = {
            let marks = Arc::clone(&marks);
            thread::spawn(move || {
                loop {
                    let listener = marks.changed.listen();
                    if marks.durable_past(START).expect("it was durable before the poison") {
                        return;
                    }
                    listener.wait(None);
                }
            })
        };
        marks.publish_written(end(1));
        marks.publish_durable(end(1));
        marks.set_poison(Error::new(ErrorKind::Io, "test", "later"));
        subscriber.join().expect("it does not panic");
    });
}
