//! Waiting for a number to change, as the system call of Linux does it.

use std::panic::Location;
use std::time::{Duration, Instant};

use crate::atomic::AtomicU32;
use crate::execution::{Status, current, point};

fn address(number: &AtomicU32) -> usize {
    std::ptr::from_ref(number) as usize
}

/// Waits until somebody wakes those who wait on `number`, unless it is not `expected`, or until `deadline`.
#[track_caller]
pub fn wait(number: &AtomicU32, expected: u32, deadline: Option<Instant>) {
    let Some(context) = current() else {
        // Without a scheduler nobody counts the waiters, so it looks again and again.
        while number.now() == expected && deadline.is_none_or(|deadline| Instant::now() < deadline) {
            std::thread::yield_now();
        }
        return;
    };
    point("futex wait");
    if number.now() != expected {
        return;
    }
    let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    // Rounded up to what tests count in, so that the microseconds that the caller took decide nothing.
    let timeout = timeout.map(|timeout| Duration::from_millis(timeout.as_millis() as u64 + 1));
    let until = timeout.map(|timeout| crate::execution::now() + timeout);
    let status = Status::Waiting { on: address(number), until };
    context.execution.pass(context.task, status, "futex wait", Location::caller());
}

/// Wakes at most `count` of those who wait on `number`.
#[track_caller]
pub fn wake(number: &AtomicU32, count: u32) {
    point("futex wake");
    if let Some(context) = current() {
        context.execution.lock().wake(address(number), count as usize);
    }
}
