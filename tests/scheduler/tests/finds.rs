//! The scheduler finds what is wrong, and says nothing about what is right.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wal_scheduler::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use wal_scheduler::{Condvar, Died, Explorer, Mutex, OnceLock, RwLock, die, futex, now, thread};

const ORDER: Ordering = Ordering::SeqCst;

fn lost_update(is_atomic: bool) {
    let count = Arc::new(AtomicU64::new(0));
    let tasks: Vec<_> = (0..2)
        .map(|_| {
            let count = Arc::clone(&count);
            thread::spawn(move || {
                if is_atomic {
                    count.fetch_add(1, ORDER);
                } else {
                    let seen = count.load(ORDER);
                    count.store(seen + 1, ORDER);
                }
            })
        })
        .collect();
    tasks.into_iter().for_each(|task| task.join().expect("no task panics"));
    assert!(count.load(ORDER) == 2, "an update is lost");
}

#[test]
fn a_lost_update_is_found_by_every_strategy() {
    for explorer in [Explorer::new("seeds").seeds(200), Explorer::new("systematic").preemptions(1, 1000)] {
        let failure = explorer.find(|| lost_update(false)).expect_err("an update is lost");
        assert!(failure.to_string().contains("an update is lost"), "{failure}");
    }
}

#[test]
fn what_is_right_is_tried_in_every_order() {
    let report = Explorer::new("right").seeds(100).preemptions(8, 1_000_000).check(|| lost_update(true));
    assert!(report.is_exhaustive && report.executions > 110, "{report:?}");
}

#[test]
fn a_deadlock_is_found_and_names_who_waits() {
    let test = || {
        let locks = Arc::new((Mutex::new(0), Mutex::new(0)));
        let other = Arc::clone(&locks);
        let task = thread::Builder::new().name("backwards".to_owned()).spawn(move || {
            let _second = other.1.lock();
            let _first = other.0.lock();
        });
        let first = locks.0.lock();
        let second = locks.1.lock();
        drop((first, second));
        task.expect("a task is started").join().expect("it does not panic");
    };
    for explorer in [Explorer::new("seeds").seeds(200), Explorer::new("systematic").preemptions(2, 1000)] {
        let failure = explorer.find(test).expect_err("they block each other").to_string();
        assert!(failure.contains("nobody can go on") && failure.contains("backwards"), "{failure}");
    }
}

/// Waits for a flag: with the count read before the flag, or after it.
fn wait_for_flag(reads_count_first: bool) {
    let shared = Arc::new((AtomicU32::new(0), AtomicBool::new(false)));
    let setter = Arc::clone(&shared);
    let task = thread::spawn(move || {
        setter.1.store(true, ORDER);
        setter.0.fetch_add(1, ORDER);
        futex::wake(&setter.0, u32::MAX);
    });
    let (count, flag) = &*shared;
    loop {
        let early = count.load(ORDER);
        if flag.load(ORDER) {
            break;
        }
        let seen = if reads_count_first { early } else { count.load(ORDER) };
        futex::wait(count, seen, None);
    }
    task.join().expect("it does not panic");
}

#[test]
fn a_lost_wake_up_is_found() {
    let explorer = Explorer::new("flag").seeds(100).preemptions(2, 10_000);
    assert!(explorer.check(|| wait_for_flag(true)).is_exhaustive);
    let failure = explorer.find(|| wait_for_flag(false)).expect_err("the wake-up comes before the wait");
    assert!(failure.to_string().contains("nobody can go on"), "{failure}");
}

#[test]
fn a_condition_variable_gives_its_lock_up_while_it_waits() {
    let report = Explorer::new("condition").seeds(100).preemptions(2, 20_000).check(|| {
        let shared = Arc::new((Mutex::new(0), Condvar::new(), RwLock::new(0)));
        let tasks: Vec<_> = (0..2)
            .map(|_| {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    *shared.0.lock() += 1;
                    *shared.2.write() += 1;
                    shared.1.notify_one();
                })
            })
            .collect();
        let mut count = shared.0.lock();
        while *count < 2 {
            shared.1.wait(&mut count);
        }
        drop(count);
        tasks.into_iter().for_each(|task| task.join().expect("no task panics"));
        assert_eq!(*shared.2.read(), 2);
    });
    assert!(report.is_exhaustive);
}

#[test]
fn time_passes_for_who_waits_with_a_timeout_and_for_nobody_else() {
    Explorer::new("time").seeds(50).preemptions(1, 1000).check(|| {
        let number = AtomicU32::new(0);
        assert_eq!(now(), Duration::ZERO);
        futex::wait(&number, 0, Some(Instant::now() + Duration::from_secs(1000)));
        assert!(now() > Duration::from_secs(999));
    });
}

struct UnlocksAtTheEnd(Arc<Mutex<Vec<&'static str>>>);

impl Drop for UnlocksAtTheEnd {
    fn drop(&mut self) {
        assert!(std::thread::panicking());
        self.0.lock().push("destructor");
    }
}

#[test]
fn the_destructors_of_a_task_that_dies_are_interleaved_with_others() {
    let orders = Arc::new(std::sync::Mutex::new(std::collections::BTreeSet::new()));
    let seen = Arc::clone(&orders);
    Explorer::new("dies").preemptions(2, 10_000).check(move || {
        let log = Arc::new(Mutex::new(Vec::new()));
        let guard = UnlocksAtTheEnd(Arc::clone(&log));
        let task = thread::spawn(move || {
            let _guard = guard;
            die()
        });
        assert!(!std::thread::panicking());
        log.lock().push("other");
        assert!(!std::thread::panicking());
        let died: Box<dyn std::any::Any + Send> = task.join().expect_err("it died");
        assert!(died.is::<Died>());
        seen.lock().unwrap().insert(log.lock().clone());
    });
    assert_eq!(orders.lock().unwrap().len(), 2, "either may be first");
}

#[test]
fn a_seed_repeats_its_execution() {
    let run = || {
        let orders = Arc::new(std::sync::Mutex::new(Vec::new()));
        let kept = Arc::clone(&orders);
        Explorer::new("repeats").seeds(40).check(move || {
            let order = Arc::new(Mutex::new(Vec::new()));
            let once = Arc::new(OnceLock::new());
            let tasks: Vec<_> = (0..3)
                .map(|task| {
                    let (order, once) = (Arc::clone(&order), Arc::clone(&once));
                    thread::spawn(move || {
                        let _lost = once.set(task);
                        order.lock().push((task, *once.get().expect("somebody has set it")));
                    })
                })
                .collect();
            tasks.into_iter().for_each(|task| task.join().expect("no task panics"));
            kept.lock().unwrap().push(order.lock().clone());
        });
        Arc::into_inner(orders).map(|orders| orders.into_inner().unwrap())
    };
    let (first, second) = (run(), run());
    assert_eq!(first, second);
    let different: std::collections::BTreeSet<_> = first.unwrap_or_default().into_iter().collect();
    assert!(different.len() > 5, "seeds differ: {different:?}");
}

#[test]
fn what_never_ends_is_found() {
    let failure = Explorer::new("endless").seeds(1).find(|| {
        let flag = AtomicBool::new(false);
        while !flag.load(ORDER) {}
    });
    assert!(failure.expect_err("it never ends").to_string().contains("no end"));
}

#[test]
fn outside_of_an_execution_the_types_work_with_threads() {
    let shared = Arc::new((Mutex::new(0), Condvar::new(), AtomicU32::new(0)));
    let task = {
        let shared = Arc::clone(&shared);
        thread::spawn(move || {
            *shared.0.lock() = 1;
            shared.1.notify_all();
            shared.2.fetch_add(1, ORDER);
            futex::wake(&shared.2, 1);
        })
    };
    let mut value = shared.0.lock();
    while *value == 0 {
        shared.1.wait(&mut value);
    }
    drop(value);
    futex::wait(&shared.2, 0, None);
    task.join().expect("it does not panic");
}
