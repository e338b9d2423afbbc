//! What threads wait on until another has changed something: one broadcast wakes all of them.
//!
//! A waiter looks whether it has to wait, announces itself with [`Event::listen`], looks once more, and waits. Who changes something wakes
//! afterwards. Either the change is seen by the second look, or the announcement is seen by the one who wakes; so no wake-up is lost, and no
//! lock is held by anybody. While nobody listens a wake-up is one look at memory that nobody writes. On Linux the counter is a futex.

use std::time::Instant;

use crate::sync::atomic::{AtomicU32, Ordering, fence};

/// What threads wait on. Any method may be called by any thread at any time.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Event {
    /// Changed by each wake-up that finds a listener.
    count: AtomicU32,
    listeners: AtomicU32,
    #[cfg(not(any(target_os = "linux", wal_scheduled)))]
    portable: portable::Portable,
}

/// Somebody who is about to wait: no wake-up since passes it by.
#[derive(Debug)]
#[must_use = "a listener is to look once more, and then to wait"]
pub(crate) struct Listener<'a> {
    event: &'a Event,
    seen: u32,
}

impl Listener<'_> {
    /// Waits for a wake-up that came since it listens, or until `deadline`. May also return early.
    pub(crate) fn wait(self, deadline: Option<Instant>) {
        if self.event.count.load(Ordering::SeqCst) == self.seen {
            self.event.sleep(self.seen, deadline);
        }
    }
}

impl Drop for Listener<'_> {
    fn drop(&mut self) {
        self.event.listeners.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Event {
    /// Announces somebody who looks once more whether to wait.
    pub(crate) fn listen(&self) -> Listener<'_> {
        self.listeners.fetch_add(1, Ordering::SeqCst);
        // Pairs with the one in `wake`: what a waker that did not see this listener has changed is seen by what follows.
        fence(Ordering::SeqCst);
        Listener { event: self, seen: self.count.load(Ordering::SeqCst) }
    }

    /// Wakes everybody who listens.
    pub(crate) fn wake_all(&self) {
        fence(Ordering::SeqCst);
        self.wake(u32::MAX >> 1);
    }

    /// As [`Event::wake_all`], right after an exchange: a sequentially consistent change of an atomic, which is the fence as well.
    pub(crate) fn wake_all_after_exchange(&self) {
        self.wake(u32::MAX >> 1);
    }

    /// Wakes one of those who listen.
    pub(crate) fn wake_one(&self) {
        fence(Ordering::SeqCst);
        self.wake(1);
    }

    fn wake(&self, threads: u32) {
        if self.listeners.load(Ordering::SeqCst) > 0 {
            self.count.fetch_add(1, Ordering::SeqCst);
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
        self.portable.sleep(|| self.count.load(Ordering::SeqCst) == seen, deadline);
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
    fn a_wake_between_look_and_wait_is_not_lost() {
        let event = Event::default();
        let listener = event.listen();
        event.wake_all();
        listener.wait(None);
    }

    #[test]
    fn a_deadline_ends_the_wait() {
        let event = Event::default();
        let start = Instant::now();
        event.listen().wait(Some(start + Duration::from_millis(5)));
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
                        let listener = event.listen();
                        if flag.load(Ordering::SeqCst) {
                            return;
                        }
                        listener.wait(None);
                    }
                });
            }
            flag.store(true, Ordering::SeqCst);
            event.wake_all();
        });
    }
}
