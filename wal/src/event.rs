//! A counter that threads wait on: one broadcast wakes everybody who saw the old count.
//!
//! The waiter reads the count, checks its condition, and waits for the count to differ; so no wake-up between check and wait is
//! lost, and no lock is held by anybody. On Linux this is a futex: one system call wakes all, and none is made when nobody waits.

use std::time::Instant;

use crate::sync::atomic::{AtomicU32, Ordering};

/// A counter with waiters. Any method may be called by any thread at any time.
#[derive(Debug, Default)]
pub(crate) struct Event {
    count: AtomicU32,
    waiters: AtomicU32,
    #[cfg(not(any(target_os = "linux", wal_scheduled)))]
    portable: portable::Portable,
}

impl Event {
    /// The count to give to [`Event::wait`]. Read it before checking the condition.
    pub(crate) fn count(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    /// Waits until the count is not `seen`, or until `deadline`. May also return early.
    pub(crate) fn wait(&self, seen: u32, deadline: Option<Instant>) {
        // Sequentially consistent with `wake`: either this increment is seen there, or the new count is seen here.
        self.waiters.fetch_add(1, Ordering::SeqCst);
        if self.count() == seen {
            self.sleep(seen, deadline);
        }
        self.waiters.fetch_sub(1, Ordering::SeqCst);
    }

    /// Wakes everybody who waits.
    pub(crate) fn wake_all(&self) {
        self.wake(u32::MAX >> 1);
    }

    /// Wakes one of those who wait.
    pub(crate) fn wake_one(&self) {
        self.wake(1);
    }

    fn wake(&self, threads: u32) {
        self.count.fetch_add(1, Ordering::SeqCst);
        if self.waiters.load(Ordering::SeqCst) > 0 {
            self.rouse(threads);
        }
    }

    #[cfg(all(target_os = "linux", not(wal_scheduled)))]
    fn sleep(&self, seen: u32, deadline: Option<Instant>) {
        use rustix::thread::futex;
        let timeout = deadline.map(|deadline| {
            let left = deadline.saturating_duration_since(Instant::now());
            futex::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() }
        });
        match futex::wait(&self.count, futex::Flags::PRIVATE, seen, timeout.as_ref()) {
            // A changed count, a signal and a passed deadline are all reasons to look again.
            Ok(()) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR | rustix::io::Errno::TIMEDOUT) => {}
            Err(error) => panic!("waiting on a futex in our own memory failed: {error}"),
        }
    }

    #[cfg(all(target_os = "linux", not(wal_scheduled)))]
    fn rouse(&self, threads: u32) {
        use rustix::thread::futex;
        if let Err(error) = futex::wake(&self.count, futex::Flags::PRIVATE, threads) {
            panic!("waking a futex in our own memory failed: {error}");
        }
    }

    #[cfg(wal_scheduled)]
    fn sleep(&self, seen: u32, deadline: Option<Instant>) {
        wal_scheduler::futex::wait(&self.count, seen, deadline);
    }

    #[cfg(wal_scheduled)]
    fn rouse(&self, threads: u32) {
        wal_scheduler::futex::wake(&self.count, threads);
    }

    #[cfg(not(any(target_os = "linux", wal_scheduled)))]
    fn sleep(&self, seen: u32, deadline: Option<Instant>) {
        self.portable.sleep(|| self.count() == seen, deadline);
    }

    #[cfg(not(any(target_os = "linux", wal_scheduled)))]
    fn rouse(&self, threads: u32) {
        self.portable.rouse(threads);
    }
}

#[cfg(not(any(target_os = "linux", wal_scheduled)))]
mod portable {
    use std::time::Instant;

    use crate::sync::{Condvar, Mutex};

    #[derive(Debug, Default)]
    pub(super) struct Portable {
        lock: Mutex<()>,
        changed: Condvar,
    }

    impl Portable {
        pub(super) fn sleep(&self, is_unchanged: impl Fn() -> bool, deadline: Option<Instant>) {
            let mut guard = self.lock.lock();
            while is_unchanged() {
                match deadline {
                    None => self.changed.wait(&mut guard),
                    Some(deadline) => {
                        if self.changed.wait_until(&mut guard, deadline).timed_out() {
                            return;
                        }
                    }
                }
            }
        }

        pub(super) fn rouse(&self, threads: u32) {
            // The lock orders this wake-up behind the check of a waiter that is about to sleep.
            drop(self.lock.lock());
            if threads == 1 { drop(self.changed.notify_one()) } else { drop(self.changed.notify_all()) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_wake_between_check_and_wait_is_not_lost() {
        let event = Event::default();
        let seen = event.count();
        event.wake_all();
        event.wait(seen, None);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let event = Event::default();
        let start = Instant::now();
        event.wait(event.count(), Some(start + Duration::from_millis(5)));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    fn one_broadcast_wakes_all() {
        let event = Event::default();
        let flag = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    loop {
                        let seen = event.count();
                        if flag.load(Ordering::SeqCst) {
                            return;
                        }
                        event.wait(seen, None);
                    }
                });
            }
            flag.store(true, Ordering::SeqCst);
            event.wake_all();
        });
    }
}
