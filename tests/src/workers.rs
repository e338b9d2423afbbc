//! Work spread over all cores.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::watchdog::Watchdog;

/// Does `work` with each item, on as many threads as there are cores. A panic of one stops the others after their item.
///
/// Each worker is watched: an item that takes minutes ends the process with the item's label.
pub fn for_each<T: Sync>(items: &[T], label: impl Fn(&T) -> String + Sync, work: impl Fn(&T) + Sync) {
    let next = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    let worker = || {
        let watchdog = Watchdog::start();
        let stop = StopOthers { is_over: &is_over };
        while !is_over.load(Ordering::Relaxed) {
            let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            watchdog.beat(|| label(item));
            work(item);
        }
        std::mem::forget(stop);
    };
    let count = std::thread::available_parallelism().map_or(1, usize::from).min(items.len().max(1));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(worker)).collect();
        for worker in workers {
            if let Err(panic) = worker.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
}

/// Dropped only when its worker panics.
struct StopOthers<'a> {
    is_over: &'a AtomicBool,
}

impl Drop for StopOthers<'_> {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}
