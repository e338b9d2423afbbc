//! The floor of group commit: the least that threads which wait for their records to be durable have to do, without checksums, LSNs,
//! segments or anything else of a log.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::disk::Store;
use crate::measure::Outcome;

/// How long the leader of a group waits at most for those who were just acknowledged to come back.
const GATHER_MAX: Duration = Duration::from_micros(25);

/// What waits to be written.
#[derive(Default)]
struct Queue {
    bytes: Vec<u8>,
    records: u64,
    group: u64,
}

/// Which groups are durable, those with an even number or those with an odd one.
#[derive(Default)]
struct Done {
    group: u64,
    has_failed: bool,
}

/// Leader and followers. The first to come after a group was taken leads the next one: it waits until the one before is durable,
/// gathers, and writes all that is queued at once. Even and odd groups wait apart, so that only those are woken who are done, and the
/// next leader.
pub struct GroupFloor {
    queue: Mutex<Queue>,
    done: [(Mutex<Done>, Condvar); 2],
    /// The store, a spare buffer, and how many records the next group may be waited for.
    device: Mutex<(Store, Vec<u8>, u64)>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl GroupFloor {
    /// Group commit into `store`.
    pub fn new(store: Store) -> GroupFloor {
        let queue = Mutex::new(Queue { group: 1, ..Queue::default() });
        GroupFloor { queue, done: Default::default(), device: Mutex::new((store, Vec::new(), 0)) }
    }

    /// Returns when `frame` is durable.
    pub fn append(&self, frame: &[u8]) -> Outcome<()> {
        let (group, leads) = {
            let mut queue = lock(&self.queue);
            let leads = queue.records == 0;
            queue.bytes.extend_from_slice(frame);
            queue.records += 1;
            (queue.group, leads)
        };
        if !leads {
            return self.wait(group);
        }
        self.wait(group - 1)?;
        let result = self.lead();
        let (done, wake) = &self.done[(group % 2) as usize];
        *lock(done) = Done { group, has_failed: result.is_err() };
        wake.notify_all();
        result
    }

    fn wait(&self, group: u64) -> Outcome<()> {
        let (done, wake) = &self.done[(group % 2) as usize];
        let mut done = lock(done);
        while done.group < group && !done.has_failed {
            done = wake.wait(done).unwrap_or_else(PoisonError::into_inner);
        }
        if done.has_failed { Err("the group was not written".into()) } else { Ok(()) }
    }

    fn lead(&self) -> Outcome<()> {
        let mut device = lock(&self.device);
        let (store, spare, expected) = &mut *device;
        let deadline = Instant::now() + GATHER_MAX;
        while lock(&self.queue).records < *expected && Instant::now() < deadline {
            std::thread::yield_now();
        }
        let records = {
            let mut queue = lock(&self.queue);
            std::mem::swap(&mut queue.bytes, spare);
            queue.group += 1;
            std::mem::take(&mut queue.records)
        };
        store.append(spare)?;
        spare.clear();
        // Who is acknowledged now comes back for the next group, next to those who are queued for it already.
        *expected = records + lock(&self.queue).records;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::Way;

    #[test]
    fn every_append_is_acknowledged() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store =
            Store::create(&dir.path().join("store"), Way::Cached, 1 << 20, 1 << 16).expect("the file is created");
        let floor = GroupFloor::new(store);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..500).for_each(|_| floor.append(&[1; 280]).expect("the file is written")));
            }
        });
    }
}
