//! The frames that were written last, for those who follow the log.
//!
//! A direct write leaves nothing in the page cache, so a follower that is told of a durable record would read it back from the device, which
//! takes as long as the write did, while the next write waits for the same block. So while somebody follows, the leader keeps a copy of the
//! last groups here. It is a cache of the files and nothing else: what is read from it is found below the durable mark and verified like
//! all that is read.

use std::sync::Arc;

use crate::lsn::Lsn;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicUsize, Ordering};

/// What is kept at most. A group that is larger is not kept: its follower has much to read at once, and a device is good at that.
const BYTES_MAX: usize = 64 << 10;

/// The copy. The lock is held over a copy of at most [`BYTES_MAX`] and no system call, and no other lock is taken under it.
#[derive(Debug, Default)]
pub(crate) struct LastWritten {
    followers: AtomicUsize,
    window: Mutex<Window>,
}

/// The bytes of one segment from `first` on.
#[derive(Debug, Default)]
struct Window {
    segment: u64,
    epoch: u64,
    first: Lsn,
    bytes: Vec<u8>,
}

/// Somebody who follows. Dropping it says that they do no more.
#[derive(Debug)]
pub(crate) struct Following(Arc<LastWritten>);

impl Drop for Following {
    fn drop(&mut self) {
        self.0.followers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Following {
    /// Fills `room` with the bytes of the segment from `lsn` on; `false` if they are not all here.
    pub(crate) fn copy_to(&self, room: &mut [u8], segment: u64, epoch: u64, lsn: Lsn) -> bool {
        let window = self.0.window.lock();
        if (window.segment, window.epoch) != (segment, epoch) || lsn < window.first {
            return false;
        }
        let at = lsn.distance_from(window.first) as usize;
        let Some(bytes) = window.bytes.get(at..at + room.len()) else { return false };
        room.copy_from_slice(bytes);
        true
    }
}

impl LastWritten {
    pub(crate) fn follow(self: &Arc<LastWritten>) -> Following {
        self.followers.fetch_add(1, Ordering::Relaxed);
        Following(Arc::clone(self))
    }

    /// `frames` were written to the segment at `first`. Whoever writes calls it in LSN order.
    pub(crate) fn push(&self, segment: u64, epoch: u64, first: Lsn, frames: &[u8]) {
        if self.followers.load(Ordering::Relaxed) == 0 || frames.len() > BYTES_MAX {
            return;
        }
        let mut window = self.window.lock();
        let end = window.first.advance(window.bytes.len() as u64);
        if (window.segment, window.epoch, end) != (segment, epoch, first) {
            let mut bytes = std::mem::take(&mut window.bytes);
            bytes.clear();
            *window = Window { segment, epoch, first, bytes };
        } else if window.bytes.len() + frames.len() > BYTES_MAX {
            // At least half of it, so that the rest is not moved for each group.
            let dropped = (window.bytes.len() + frames.len() - BYTES_MAX).max(window.bytes.len() / 2);
            window.bytes.drain(..dropped);
            window.first = window.first.advance(dropped as u64);
        }
        window.bytes.extend_from_slice(frames);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(following: &Following, (segment, epoch): (u64, u64), lsn: u64, bytes: usize) -> Option<Vec<u8>> {
        let mut room = vec![0; bytes];
        following.copy_to(&mut room, segment, epoch, Lsn::new(lsn)).then_some(room)
    }

    #[test]
    fn what_was_written_last_is_there_while_somebody_follows() {
        let last = Arc::new(LastWritten::default());
        last.push(1, 1, Lsn::new(4096), &[1; 8]);
        let following = last.follow();
        assert_eq!(read(&following, (1, 1), 4096, 8), None, "nobody followed then");
        last.push(1, 1, Lsn::new(4104), &[2; 8]);
        last.push(1, 1, Lsn::new(4112), &[3; 8]);
        assert_eq!(read(&following, (1, 1), 4104, 16), Some([[2; 8], [3; 8]].concat()));
        assert_eq!(read(&following, (1, 1), 4112, 8), Some(vec![3; 8]));
        assert_eq!(read(&following, (1, 1), 4112, 16), None, "more than was written");
        assert_eq!(read(&following, (1, 1), 4096, 16), None, "the first of it is not there");
        drop(following);
        last.push(1, 1, Lsn::new(4120), &[4; 8]);
        assert_eq!(read(&last.follow(), (1, 1), 4120, 8), None);
    }

    #[test]
    fn bytes_of_another_segment_epoch_or_behind_a_hole_are_not_mixed() {
        let last = Arc::new(LastWritten::default());
        let following = last.follow();
        last.push(1, 1, Lsn::new(4096), &[1; 8]);
        assert_eq!(read(&following, (2, 1), 4096, 8), None);
        assert_eq!(read(&following, (1, 2), 4096, 8), None);
        last.push(1, 1, Lsn::new(4112), &[2; 8]);
        assert_eq!(read(&following, (1, 1), 4096, 8), None, "between them is what nobody told of");
        assert_eq!(read(&following, (1, 1), 4112, 8), Some(vec![2; 8]));
        last.push(2, 1, Lsn::new(4120), &[3; 8]);
        assert_eq!(read(&following, (1, 1), 4112, 8), None);
        assert_eq!(read(&following, (2, 1), 4120, 8), Some(vec![3; 8]));
    }

    #[test]
    fn it_takes_no_more_memory_than_it_may_and_keeps_the_newest() {
        let last = Arc::new(LastWritten::default());
        let following = last.follow();
        let mut end = 4096;
        for round in 0..1000_u64 {
            let frames = vec![round as u8; 8 * (1 + round as usize % 700)];
            last.push(1, 1, Lsn::new(end), &frames);
            assert_eq!(read(&following, (1, 1), end, frames.len()), Some(frames.clone()));
            end += frames.len() as u64;
            assert!(last.window.lock().bytes.len() <= BYTES_MAX);
        }
        last.push(1, 1, Lsn::new(end), &vec![1; BYTES_MAX + 8]);
        assert_eq!(read(&following, (1, 1), end, 8), None);
    }
}
